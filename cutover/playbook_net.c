/*
 * playbook_net: actions that ask servers: ports, TLS, logins, mailboxes, flow.
 *
 * Accounts come from a CSV file with the columns address (or email) and password;
 * passwords are used and neither kept nor printed. Each server has SERVER_MS for a
 * conversation, a message FLOW_S to arrive.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "addr.h"
#include "clock.h"
#include "dialog.h"
#include "output.h"
#include "playbook_action.h"
#include "playbook_people.h"

#define SERVER_MS  30000
#define FLOW_S     90
#define DAYS_LEAST 14

/* A name that nobody has. */
static bool random_name(char out[33])
{
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        message("the kernel gives no random numbers: try again");
        return false;
    }
    for (size_t i = 0; i < sizeof(bytes); i++)
        (void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

/* ---- ports ------------------------------------------------------------------- */

int action_port(struct action_context *context, int argc, char **argv)
{
    struct dialog *dialog;
    char error[512];
    (void)context;
    (void)argc;
    bool open = strcmp(argv[2], "open") == 0;
    if (!open && strcmp(argv[2], "refused") != 0) {
        message("port: \"%s\" is not open or refused", argv[2]);
        return EXIT_USE;
    }
    enum dialog_open_result result =
        dialog_open(argv[1], SERVER_MS, &dialog, error, sizeof(error));
    dialog_close(dialog);
    if (result == DIALOG_FAILED || (open && result == DIALOG_REFUSED)) {
        message("%s", error);
        return EXIT_CHECK;
    }
    if (!open && result == DIALOG_OPEN) {
        message("%s still accepts connections: switch the service off", argv[1]);
        return EXIT_CHECK;
    }
    print("%s: %s", argv[1], open ? "open" : "refused");
    return EXIT_DONE;
}

static bool start_tls(struct dialog *dialog, const char *protocol,
                      char text[DIALOG_LINE_MAX])
{
    if (strcmp(protocol, "smtp") == 0)
        return dialog_smtp(dialog, NULL, text) == 220 &&
               dialog_smtp(dialog, "EHLO sluice.invalid", text) == 250 &&
               dialog_smtp(dialog, "STARTTLS", text) == 220;
    return dialog_line(dialog, text) && dialog_imap(dialog, "STARTTLS", NULL, NULL, text);
}

int action_tls(struct action_context *context, int argc, char **argv)
{
    struct dialog *dialog;
    char text[DIALOG_LINE_MAX] = "";
    (void)context;
    if (dialog_open(argv[1], SERVER_MS, &dialog, text, sizeof(text)) != DIALOG_OPEN) {
        message("%s", text);
        return EXIT_CHECK;
    }
    bool good = (argc < 3 || start_tls(dialog, argv[2], text)) && dialog_tls(dialog);
    int days = good ? dialog_days(dialog) : -1;
    if (!good)
        message("%s: no TLS: %s%s", argv[1], dialog_error(dialog), text);
    else if (days < DAYS_LEAST)
        message("%s: its certificate ends in %d days: renew it before the move", argv[1],
                days);
    else
        print("%s: TLS, the certificate is good for %d days", argv[1], days);
    dialog_close(dialog);
    return good && days >= DAYS_LEAST ? EXIT_DONE : EXIT_CHECK;
}

/* ---- accounts ------------------------------------------------------------------- */

/* "LOGIN "user" "password"", as quoted strings. */
static bool login_command(const struct person *person, char out[DIALOG_LINE_MAX])
{
    const char *const parts[] = { person->address, person->password };
    size_t used = (size_t)snprintf(out, DIALOG_LINE_MAX, "LOGIN");
    for (size_t i = 0; i < 2; i++) {
        out[used++] = ' ';
        out[used++] = '"';
        for (const char *c = parts[i]; *c; c++) {
            if (*c == '"' || *c == '\\')
                out[used++] = '\\';
            out[used++] = *c;
            if (used > DIALOG_LINE_MAX - 8)
                return false;
        }
        out[used++] = '"';
    }
    out[used] = '\0';
    return true;
}

/* Logged in, or NULL after a message. */
static struct dialog *log_in(const char *endpoint, const struct person *person, bool tls)
{
    struct dialog *dialog;
    char text[DIALOG_LINE_MAX] = "", command[DIALOG_LINE_MAX];
    if (dialog_open(endpoint, SERVER_MS, &dialog, text, sizeof(text)) != DIALOG_OPEN) {
        message("%s", text);
        return NULL;
    }
    bool good = (!tls || dialog_tls(dialog)) && dialog_line(dialog, text);
    if (good)
        good = login_command(person, command) &&
               dialog_imap(dialog, command, NULL, NULL, text);
    explicit_bzero(command, sizeof(command));
    if (good)
        return dialog;
    message("%s: %s cannot log in: %s", endpoint, person->address,
            text[0] ? text : dialog_error(dialog));
    dialog_close(dialog);
    return NULL;
}

struct accounts {
    const char *endpoint;
    bool tls;
    size_t good, bad;
    FILE *out;
    uint64_t messages, bytes;
};

static bool log_in_one(void *context, const struct person *person)
{
    struct accounts *accounts = context;
    char text[DIALOG_LINE_MAX];
    struct dialog *dialog = log_in(accounts->endpoint, person, accounts->tls);
    accounts->good += dialog != NULL;
    accounts->bad += dialog == NULL;
    if (dialog)
        (void)dialog_imap(dialog, "LOGOUT", NULL, NULL, text);
    dialog_close(dialog);
    return accounts->bad < 20;
}

int action_imap_login(struct action_context *context, int argc, char **argv)
{
    struct accounts accounts = { .endpoint = argv[1],
                                 .tls = argc > 3 && strcmp(argv[3], "tls") == 0 };
    (void)context;
    int code = people_each(argv[2], true, log_in_one, &accounts);
    if (code != EXIT_DONE)
        return code;
    if (accounts.bad > 0) {
        message("%s: %zu of the accounts of %s cannot log in", argv[1], accounts.bad,
                argv[2]);
        return EXIT_CHECK;
    }
    print("%s: %zu accounts log in", argv[1], accounts.good);
    return EXIT_DONE;
}

/* ---- sizes ------------------------------------------------------------------------ */

#define FOLDERS_MAX 2000
struct folders {
    char *names[FOLDERS_MAX]; /* as the server writes them */
    size_t count;
    uint64_t messages, bytes;
};

/* * LIST (\HasNoChildren) "/" "Sent" */
static void take_folder(void *context, const char *line)
{
    struct folders *folders = context;
    const char *close = strncmp(line, "* LIST (", 8) == 0 ? strchr(line, ')') : NULL;
    const char *at = close && close[1] == ' ' ? close + 2 : NULL;
    if (!at || strcasestr(line, "\\NoSelect") || folders->count == FOLDERS_MAX)
        return;
    at += *at == '"' ? strcspn(at + 1, "\"") + 2 : strcspn(at, " ");
    if (*at == ' ' && at[1] != '{')
        folders->names[folders->count++] = strdup(at + 1);
}

static uint64_t figure_after(const char *line, const char *word)
{
    const char *at = strstr(line, word);
    return at ? strtoull(at + strlen(word), NULL, 10) : 0;
}

static void take_status(void *context, const char *line)
{
    struct folders *folders = context;
    const char *figures = strncmp(line, "* STATUS ", 9) == 0 ? strrchr(line, '(') : NULL;
    if (!figures)
        return;
    folders->messages += figure_after(figures, "MESSAGES ");
    folders->bytes += figure_after(figures, "SIZE ");
}

static bool size_folders(struct dialog *dialog, struct folders *folders)
{
    char text[DIALOG_LINE_MAX], command[DIALOG_LINE_MAX];
    bool good = dialog_imap(dialog, "LIST \"\" \"*\"", take_folder, folders, text);
    for (size_t i = 0; good && i < folders->count; i++) {
        if (!folders->names[i])
            continue;
        (void)snprintf(command, sizeof(command), "STATUS %.4000s (MESSAGES SIZE)",
                       folders->names[i]);
        if (dialog_imap(dialog, command, take_status, folders, text))
            continue;
        /* A server without STATUS=SIZE (RFC 8438). */
        (void)snprintf(command, sizeof(command), "STATUS %.4000s (MESSAGES)",
                       folders->names[i]);
        good = dialog_imap(dialog, command, take_status, folders, text);
    }
    if (!good)
        message("%s", text);
    return good;
}

static bool size_one(void *context, const struct person *person)
{
    struct accounts *accounts = context;
    struct folders *folders = calloc(1, sizeof(*folders));
    struct dialog *dialog =
        folders ? log_in(accounts->endpoint, person, accounts->tls) : NULL;
    bool good = dialog && size_folders(dialog, folders);
    accounts->good += good;
    accounts->bad += !good;
    if (good) {
        fprintf(accounts->out, "%s,%zu,%llu,%llu\r\n", person->address, folders->count,
                (unsigned long long)folders->messages,
                (unsigned long long)folders->bytes);
        accounts->messages += folders->messages;
        accounts->bytes += folders->bytes;
    }
    for (size_t i = 0; folders && i < folders->count; i++)
        free(folders->names[i]);
    free(folders);
    dialog_close(dialog);
    return accounts->bad < 20;
}

int action_imap_sizes(struct action_context *context, int argc, char **argv)
{
    struct accounts accounts = { .endpoint = argv[1],
                                 .tls = argc > 3 && strcmp(argv[3], "tls") == 0 };
    accounts.out = people_paper(context, "sizes.csv");
    if (!accounts.out)
        return EXIT_SERVICE;
    fputs("address,folders,messages,bytes\r\n", accounts.out);
    int code = people_each(argv[2], true, size_one, &accounts);
    bool written = fclose(accounts.out) == 0;
    if (code != EXIT_DONE)
        return code;
    if (accounts.bad > 0 || !written) {
        message("%zu mailboxes could not be measured", accounts.bad);
        return EXIT_CHECK;
    }
    print("%zu mailboxes, %llu messages, %llu MB: sizes.csv", accounts.good,
          (unsigned long long)accounts.messages,
          (unsigned long long)accounts.bytes / 1000000);
    return EXIT_DONE;
}

/* ---- SMTP ----------------------------------------------------------------------------
 */

/* Up to and including RCPT; its code, 0 when it did not come so far. */
static int offer(struct dialog *dialog, const char *from, const char *to,
                 char text[DIALOG_LINE_MAX])
{
    char command[DIALOG_LINE_MAX];
    if (dialog_smtp(dialog, NULL, text) != 220 ||
        dialog_smtp(dialog, "EHLO localhost", text) != 250)
        return 0;
    (void)snprintf(command, sizeof(command), "MAIL FROM:<%.300s>", from);
    if (dialog_smtp(dialog, command, text) != 250)
        return 0;
    (void)snprintf(command, sizeof(command), "RCPT TO:<%.600s>", to);
    return dialog_smtp(dialog, command, text);
}

int action_catchall(struct action_context *context, int argc, char **argv)
{
    struct dialog *dialog;
    char text[DIALOG_LINE_MAX], name[33], address[ADDR_TEXT_MAX + 64];
    (void)argc;
    if (!random_name(name))
        return EXIT_SERVICE;
    (void)snprintf(address, sizeof(address), "%s@%s", name, context->domain);
    if (dialog_open(argv[1], SERVER_MS, &dialog, text, sizeof(text)) != DIALOG_OPEN) {
        message("%s", text);
        return EXIT_CHECK;
    }
    int code = offer(dialog, "", address, text);
    if (code >= 200 && code < 300)
        message("%s accepts mail for %s, which nobody has: the catch-all is still on",
                argv[1], address);
    else if (code < 500)
        message("%s does not say whether the catch-all is off: %s%s", argv[1], text,
                dialog_error(dialog));
    else
        print("%s refuses an address that nobody has", argv[1]);
    dialog_close(dialog);
    return code >= 500 ? EXIT_DONE : EXIT_CHECK;
}

bool people_send(const char *endpoint, const char *from, const char *to,
                 const char *const lines[], size_t count)
{
    struct dialog *dialog;
    char text[DIALOG_LINE_MAX] = "", dotted[DIALOG_LINE_MAX];
    if (dialog_open(endpoint, SERVER_MS, &dialog, text, sizeof(text)) != DIALOG_OPEN) {
        message("%s", text);
        return false;
    }
    bool good =
        offer(dialog, from, to, text) == 250 && dialog_smtp(dialog, "DATA", text) == 354;
    for (size_t i = 0; good && i < count; i++) {
        (void)snprintf(dotted, sizeof(dotted), "%s%.8000s", lines[i][0] == '.' ? "." : "",
                       lines[i]);
        good = dialog_send(dialog, dotted);
    }
    good = good && dialog_smtp(dialog, ".", text) == 250;
    if (!good)
        message("%s: mail for %s is not accepted: %s%s", endpoint, to, text,
                dialog_error(dialog));
    else
        (void)dialog_smtp(dialog, "QUIT", dotted);
    dialog_close(dialog);
    return good;
}

/* ---- flow
 * ------------------------------------------------------------------------------ */

struct found {
    bool any;
};

static void take_search(void *context, const char *line)
{
    struct found *found = context;
    if (strncmp(line, "* SEARCH ", 9) == 0 && line[9] >= '0' && line[9] <= '9')
        found->any = true;
}

static bool arrived(const char *endpoint, const struct person *person, const char *id)
{
    char text[DIALOG_LINE_MAX], command[200];
    struct found found = { false };
    struct dialog *dialog = log_in(endpoint, person, false);
    if (!dialog)
        return false;
    (void)snprintf(command, sizeof(command), "SEARCH HEADER Message-ID \"%s\"", id);
    if (dialog_imap(dialog, "SELECT INBOX", NULL, NULL, text))
        (void)dialog_imap(dialog, command, take_search, &found, text);
    dialog_close(dialog);
    return found.any;
}

struct flow {
    struct action_context *context;
    char **argv;
    int code;
};

static bool flow_one(void *context, const struct person *person)
{
    struct flow *flow = context;
    char name[33], id[160], line[3][400];
    flow->code = EXIT_SERVICE;
    if (!random_name(name))
        return false;
    (void)snprintf(id, sizeof(id), "<%s@sluice.invalid>", name);
    (void)snprintf(line[0], sizeof(line[0]), "Message-ID: %s", id);
    (void)snprintf(line[1], sizeof(line[1]), "To: <%.300s>", person->address);
    (void)snprintf(line[2], sizeof(line[2]), "From: <%.300s>", person->address);
    const char *const lines[] = {
        line[0], line[1],
        line[2], "Subject: sluice: flow test",
        "",      "A test of the mail flow. It may be deleted."
    };
    int64_t began = clock_ms();
    flow->code = EXIT_CHECK;
    if (!people_send(flow->argv[1], "", person->address, lines, 6))
        return false;
    while (clock_ms() - began < FLOW_S * 1000L) {
        if (arrived(flow->argv[2], person, id)) {
            print("%s: arrived after %.1f s", person->address,
                  (double)(clock_ms() - began) / 1000);
            flow->code = EXIT_DONE;
            return false;
        }
        if (!command_sleep(500))
            return false;
    }
    message("%s accepted a message for %s, and it is not in its INBOX on %s after %d s",
            flow->argv[1], person->address, flow->argv[2], FLOW_S);
    return false;
}

int action_flow(struct action_context *context, int argc, char **argv)
{
    struct flow flow = { context, argv, EXIT_DATA };
    (void)argc;
    int code = people_each(argv[3], true, flow_one, &flow);
    return code == EXIT_DONE ? flow.code : code;
}
