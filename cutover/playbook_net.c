/*
 * playbook_net: actions that look at servers and change nothing: ports, TLS, access
 * names, the catch-all. Each server has SERVER_MS for a conversation; no mail is sent
 * but for catchall with a mailbox to look into.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "addr.h"
#include "clock.h"
#include "conf_value.h"
#include "dialog.h"
#include "output.h"
#include "playbook_action.h"
#include "playbook_mail.h"
#include "playbook_net.h"
#include "playbook_people.h"

#define SERVER_MS  20000
#define DAYS_LEAST 14
#define CNAMES_MAX 8 /* one after the other */

/* ---- ports --------------------------------------------------------------- */

static bool greets(struct dialog *dialog, const char *protocol,
                   char text[DIALOG_LINE_MAX])
{
    if (strcmp(protocol, "smtp") == 0)
        return dialog_smtp(dialog, NULL, text) == 220;
    return dialog_line(dialog, text) && strncmp(text, "* OK", 4) == 0;
}

static int judge_port(const char *endpoint, const char *wanted,
                      enum dialog_open_result result, struct dialog *dialog,
                      const char *error)
{
    char text[DIALOG_LINE_MAX] = "";
    if (strcmp(wanted, "refused") == 0) {
        if (result == DIALOG_OPEN)
            message("%s still accepts connections: switch the service off", endpoint);
        else if (result == DIALOG_FAILED)
            message("%s: that is no refusal: is the name right, does a firewall swallow "
                    "it?",
                    error);
        return result == DIALOG_REFUSED ? EXIT_DONE : EXIT_CHECK;
    }
    if (result != DIALOG_OPEN) {
        message("%s: start the service, or open the firewall", error);
        return EXIT_CHECK;
    }
    if (strcmp(wanted, "open") == 0 || greets(dialog, wanted, text))
        return EXIT_DONE;
    message("%s: connected, and nothing there speaks %s: %s%s", endpoint, wanted, text,
            dialog_error(dialog));
    return EXIT_CHECK;
}

int action_port(struct action_context *context, int argc, char **argv)
{
    static const char *const all[] = { "open", "refused", "smtp", "imap" };
    struct dialog *dialog = NULL;
    char error[512];
    bool known = false;
    (void)context;
    (void)argc;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        known = known || strcmp(argv[2], all[i]) == 0;
    if (!known) {
        message("port: \"%s\" is not open, refused, smtp or imap", argv[2]);
        return EXIT_USE;
    }
    enum dialog_open_result result =
        dialog_open(argv[1], NULL, SERVER_MS, &dialog, error, sizeof(error));
    int code = judge_port(argv[1], argv[2], result, dialog, error);
    dialog_close(dialog);
    if (code == EXIT_DONE)
        print("%s: %s", argv[1],
              strcmp(argv[2], "refused") == 0 ? "refused"
              : strcmp(argv[2], "open") == 0  ? "open"
                                              : "open, and it greets");
    return code;
}

/* ---- TLS ----------------------------------------------------------------- */

static bool start_tls(struct dialog *dialog, const char *protocol,
                      char text[DIALOG_LINE_MAX])
{
    if (strcmp(protocol, "smtp") == 0)
        return dialog_smtp(dialog, NULL, text) == 220 &&
               dialog_smtp(dialog, "EHLO sluice.invalid", text) == 250 &&
               dialog_smtp(dialog, "STARTTLS", text) == 220;
    return dialog_line(dialog, text) && dialog_imap(dialog, "STARTTLS", NULL, NULL, text);
}

struct certificate {
    const char *endpoint, *at, *protocol, *ca; /* the last three may be NULL */
    int days;
};

static bool certificate_good(struct certificate *it)
{
    struct dialog *dialog;
    char text[DIALOG_LINE_MAX] = "";
    if (dialog_open(it->endpoint, it->at, SERVER_MS, &dialog, text, sizeof(text)) !=
        DIALOG_OPEN) {
        message("%s", text);
        return false;
    }
    bool started = !it->protocol || start_tls(dialog, it->protocol, text);
    bool good = started && dialog_tls(dialog, it->ca);
    it->days = good ? dialog_days(dialog) : -1;
    if (!started)
        message("%s offers no STARTTLS: %s%s", it->endpoint, text, dialog_error(dialog));
    else if (!good)
        message("%s: install a certificate for this name (a CA of your own: ca=FILE)",
                dialog_error(dialog));
    else if (it->days < DAYS_LEAST)
        message("%s: its certificate ends in %d days: renew it before the move",
                it->endpoint, it->days);
    dialog_close(dialog);
    return good && it->days >= DAYS_LEAST;
}

int action_tls(struct action_context *context, int argc, char **argv)
{
    struct certificate it = { .endpoint = argv[1] };
    const char *smtp = NULL, *imap = NULL;
    const struct word_spec words[] = {
        { "smtp", &smtp }, { "imap", &imap }, { "ca=", &it.ca }, { "at=", &it.at }
    };
    (void)context;
    if (!words_take(argc, argv, 2, words, 4))
        return EXIT_USE;
    it.protocol = smtp ? "smtp" : imap ? "imap" : NULL;
    if (!certificate_good(&it))
        return EXIT_CHECK;
    print("%s%s%s: TLS, the certificate is good for %d days", argv[1],
          it.at ? " at " : "", it.at ? it.at : "", it.days);
    return EXIT_DONE;
}

/* ---- access names -------------------------------------------------------- */

void net_resolve(const struct conf *conf, const char *name, enum dns_type type,
                 struct dns_reply *reply)
{
    *reply = (struct dns_reply){ .outcome = DNS_FAILED };
    for (size_t i = 0; i < conf->dns.resolver_count; i++) {
        struct dns_server server = { .address = conf->dns.resolvers[i].address,
                                     .port = conf->dns.resolvers[i].port,
                                     .recursive = true };
        dns_reply_free(reply);
        dns_ask(&server, name, type, conf->dns.timeout, reply);
        if (reply->outcome != DNS_FAILED)
            return;
    }
}

enum lookup_step { STEP_ADDRESS, STEP_ALIAS, STEP_NOTHING, STEP_FAILED };

/* One name: its address, or the name that it is another one for. */
static enum lookup_step look_up(const struct conf *conf, const char *name,
                                char out[DNSRECORD_NAME_MAX + 1])
{
    static const enum dns_type types[] = { DNS_A, DNS_AAAA };
    enum lookup_step step = STEP_FAILED;
    for (size_t i = 0; i < 2 && step != STEP_ADDRESS; i++) {
        struct dns_reply reply;
        net_resolve(conf, name, types[i], &reply);
        const struct dns_set *address = dns_sets_find(&reply.answer, name, types[i]);
        const struct dns_set *alias = dns_sets_find(&reply.answer, name, DNS_CNAME);
        const struct dns_set *found = address && address->count > 0 ? address : alias;
        if (found && found->count > 0) {
            (void)snprintf(out, DNSRECORD_NAME_MAX + 1, "%s", found->values[0]);
            out[strcspn(out, " ")] = '\0';
            step = found == alias ? STEP_ALIAS : STEP_ADDRESS;
        } else if (reply.outcome != DNS_FAILED && step == STEP_FAILED) {
            step = STEP_NOTHING;
        }
        dns_reply_free(&reply);
        if (step == STEP_ALIAS)
            return step;
    }
    return step;
}

bool net_address(const struct conf *conf, const char *host,
                 char address[DNSRECORD_NAME_MAX + 1],
                 char target[DNSRECORD_NAME_MAX + 1], char why[NET_WHY_MAX])
{
    char name[DNSRECORD_NAME_MAX + 1];
    (void)snprintf(name, sizeof(name), "%s", host);
    for (int i = 0; i < CNAMES_MAX; i++) {
        enum lookup_step step = look_up(conf, name, address);
        memcpy(target, name, sizeof(name));
        if (step == STEP_ADDRESS)
            return true;
        if (step == STEP_FAILED || step == STEP_NOTHING) {
            (void)snprintf(why, NET_WHY_MAX,
                           step == STEP_FAILED
                               ? "%s: no resolver answers for %s: see dns { resolvers }"
                               : "%s: %s has no address: add the CNAME or A record",
                           host, name);
            return false;
        }
        memcpy(name, address, sizeof(name));
        size_t len = strlen(name);
        if (len > 0 && name[len - 1] == '.')
            name[len - 1] = '\0';
    }
    (void)snprintf(why, NET_WHY_MAX, "%s: more than %d CNAMEs one after the other", host,
                   CNAMES_MAX);
    return false;
}

static bool access_good(const struct conf *conf, const char *endpoint, const char *ca)
{
    char address[DNSRECORD_NAME_MAX + 1], target[DNSRECORD_NAME_MAX + 1],
        why[NET_WHY_MAX];
    struct conf_host_port at;
    struct certificate it = { .endpoint = endpoint, .ca = ca };
    const char *wrong = conf_host_port(endpoint, &at);
    if (wrong || at.port == 0 || conf_is_address(at.host)) {
        message("%s: write it as NAME:PORT", endpoint);
        return false;
    }
    if (conf->dns.resolver_count > 0) {
        if (!net_address(conf, at.host, address, target, why)) {
            message("%s", why);
            return false;
        }
        it.at = address;
    }
    if (!certificate_good(&it))
        return false;
    print("%s: %s%s%s, certificate good for %d days", endpoint,
          it.at ? target : "resolves", it.at ? " " : "", it.at ? address : "", it.days);
    return true;
}

int action_access(struct action_context *context, int argc, char **argv)
{
    const char *ca = NULL;
    int bad = 0, names = 0;
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "ca=", 3) == 0)
            ca = argv[i] + 3;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "ca=", 3) == 0)
            continue;
        names++;
        bad += !access_good(context->command->conf, argv[i], ca);
    }
    if (bad > 1)
        message("%d of %d access names do not work; the step's log has each", bad, names);
    if (bad > 0 || names == 0)
        return EXIT_CHECK;
    print("%d access names resolve and have a good certificate", names);
    return EXIT_DONE;
}

/* ---- catch-all ----------------------------------------------------------- */

bool mail_random(char out[MAIL_RANDOM_LEN + 1])
{
    unsigned char bytes[MAIL_RANDOM_LEN / 2];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        message("the kernel gives no random numbers: try again");
        return false;
    }
    for (size_t i = 0; i < sizeof(bytes); i++)
        (void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

/* The reply to RCPT; 0: it did not come so far. */
static int offer(const char *endpoint, const char *to, char text[DIALOG_LINE_MAX])
{
    struct dialog *dialog;
    char command[DIALOG_LINE_MAX], bye[DIALOG_LINE_MAX];
    int code = 0;
    if (dialog_open(endpoint, NULL, SERVER_MS, &dialog, text, DIALOG_LINE_MAX) !=
        DIALOG_OPEN)
        return 0;
    (void)snprintf(command, sizeof(command), "RCPT TO:<%.600s>", to);
    if (dialog_smtp(dialog, NULL, text) == 220 &&
        dialog_smtp(dialog, "EHLO sluice.invalid", text) == 250 &&
        dialog_smtp(dialog, "MAIL FROM:<>", text) == 250)
        code = dialog_smtp(dialog, command, text);
    if (code == 0 && text[0] == '\0')
        (void)snprintf(text, DIALOG_LINE_MAX, "%s", dialog_error(dialog));
    if (code > 0)
        (void)dialog_smtp(dialog, "QUIT", bye);
    dialog_close(dialog);
    return code;
}

int action_catchall(struct action_context *context, int argc, char **argv)
{
    char text[DIALOG_LINE_MAX] = "", name[MAIL_RANDOM_LEN + 1],
         address[ADDR_TEXT_MAX + 64];
    const char *within = NULL;
    struct mail_words words = { 0 };
    const struct word_spec specs[] = { { "tls", &words.tls },
                                       { "starttls", &words.starttls },
                                       { "plain", &words.plain },
                                       { "ca=", &words.ca },
                                       { "within=", &within } };
    int within_s;
    if (!words_take(argc, argv, 4, specs, 5) || !mail_within(argv[0], within, &within_s))
        return EXIT_USE;
    if (argc == 3) {
        message("write it as %s", action_find("catchall")->usage);
        return EXIT_USE;
    }
    if (!mail_random(name))
        return EXIT_SERVICE;
    (void)snprintf(address, sizeof(address), "%s@%s", name, context->domain);
    int code = offer(argv[1], address, text);
    if (code >= 500) {
        print("%s refuses an address that nobody has: %.300s", argv[1], text);
        return EXIT_DONE;
    }
    if (code < 200 || code >= 300) {
        message("%s does not say whether the catch-all is off: %.300s: try again",
                argv[1], text);
        return EXIT_CHECK;
    }
    if (argc > 3)
        return mail_bounces(context, argv, address, &words, within_s);
    message(
        "%s accepts mail for %s, which nobody has: switch the catch-all off (a server "
        "that judges later: give a mailbox for its bounce)",
        argv[1], address);
    return EXIT_CHECK;
}
