/*
 * playbook_notice: notices to a list of people, from a template: written as a mailbox
 * file (notice), or sent through a server that takes mail for them (notice-send).
 *
 * Nobody gets one twice: <step>.sent in the run's directory has a line for each
 * recipient before the message goes out ("sending") and after the answer ("sent" or
 * "refused"), each on disk before the next thing happens. After a kill, those that are
 * only "sending" may have got it: they are named (<step>.unsure.csv), and not sent to
 * again. Refused ones are tried again. The journal begins with the run it is of.
 *
 * All messages are made before the first is sent, so that a mistake in the template or
 * in a row stops the step before anybody has mail.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "output.h"
#include "playbook_mail.h"
#include "playbook_merge.h"
#include "table.h"

#define SEND_S      60
#define IN_A_ROW    10 /* failures: then the server is at fault */
#define NAME_LEN    240
#define JOURNAL_MAX (64 * 1024 * 1024)

struct notices {
    struct action_context *context;
    struct merge_template *template;
    const char *from;
    const char *list;
    const struct person *person; /* the one at work */
    char *text;                  /* MERGE_MESSAGE_MAX */
    FILE *mbox;
    char error[MERGE_ERROR_MAX];
    size_t count;
    /* sending */
    struct mail_place place;
    struct table *journal; /* address -> "sending", "sent" or "refused" */
    int file;
    size_t sent, before, refused, unsure, in_a_row;
    bool broken; /* the journal cannot be written */
    struct pace pace;
};

/* ---- templates ----------------------------------------------------------- */

static char *read_template(const char *path, size_t *len)
{
    FILE *file = fopen(path, "re");
    struct stat info;
    char *text = NULL;
    if (!file || fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode)) {
        message("%s: %s", path, file ? "is not a file" : strerror(errno));
    } else if (info.st_size > MERGE_TEMPLATE_MAX) {
        message("%s: longer than %d bytes", path, MERGE_TEMPLATE_MAX);
    } else if (!(text = malloc(MERGE_TEMPLATE_MAX + 1))) {
        message("out of memory");
    } else {
        *len = fread(text, 1, MERGE_TEMPLATE_MAX, file);
        text[*len] = '\0';
    }
    if (file)
        fclose(file);
    return text;
}

/* "users.txt" is in <playbooks>/notices; one with a '/' is where it says. */
static struct merge_template *template_of_file(const struct conf *conf, const char *name)
{
    char path[PAPER_PATH_MAX], error[MERGE_ERROR_MAX];
    size_t len = 0;
    bool here = strchr(name, '/') != NULL;
    int n = snprintf(path, sizeof(path), "%s%s%s", here ? "" : conf->playbooks,
                     here ? "" : "/notices/", name);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        message("%s: the path is too long", name);
        return NULL;
    }
    char *text = read_template(path, &len);
    if (!text)
        return NULL;
    struct merge_template *template = merge_parse(text, len, error);
    if (!template)
        message("%s: %s", path, error);
    free(text);
    return template;
}

/* SUBJECT [LINE...], where %a is the address and any other % is itself. */
static struct merge_template *template_of_words(int argc, char **argv)
{
    char *text = NULL, error[MERGE_ERROR_MAX];
    size_t len = 0;
    FILE *file = open_memstream(&text, &len);
    for (int i = 0; file && i < argc; i++) {
        fputs(i == 0 ? "Subject: " : "", file);
        for (const char *c = argv[i]; *c; c++)
            if (c[0] == '%' && c[1] == 'a')
                fputs("%{address}", file), c++;
            else
                fprintf(file, "%s%c", *c == '%' ? "%" : "", *c == '\n' ? ' ' : *c);
        fputs(i == 0 ? "\n\n" : "\n", file);
    }
    if (argc == 1 && file)
        fputs("%{address}\n", file);
    if (!file || fclose(file) != 0) {
        message("out of memory");
        free(text);
        return NULL;
    }
    struct merge_template *template = merge_parse(text, len, error);
    if (!template)
        message("the notice: %s", error);
    free(text);
    return template;
}

static struct merge_template *find_template(struct action_context *context, int argc,
                                            char **argv, int from)
{
    size_t len = strlen(argv[from]);
    if (argc == from + 1 && len > 4 && strcmp(argv[from] + len - 4, ".txt") == 0)
        return template_of_file(context->command->conf, argv[from]);
    return template_of_words(argc - from, argv + from);
}

/* ---- one message --------------------------------------------------------- */

/* A column of the row, or a setting. */
static const char *value_of(void *context, const char *name)
{
    const struct notices *it = context;
    const char *cell = people_cell(it->person, name);
    if (!cell && strcasecmp(name, "address") == 0)
        cell = it->person->address;
    if (cell)
        return cell;
    return it->context->value ? it->context->value(it->context->values, name) : NULL;
}

static bool make(struct notices *it, const struct person *person, size_t *len)
{
    char when[64], id[80], name[MAIL_RANDOM_LEN + 1];
    time_t now = time(NULL);
    struct tm tm;
    it->person = person;
    if (!mail_random(name) || !gmtime_r(&now, &tm) ||
        strftime(when, sizeof(when), "%a, %d %b %Y %H:%M:%S +0000", &tm) == 0)
        return false;
    (void)snprintf(id, sizeof(id), "<%s@sluice.invalid>", name);
    struct merge_letter letter = { it->from, person->address, when, id };
    if (merge_write(it->template, &letter, value_of, it, it->text, len, it->error))
        return true;
    message("%s:%lu: %s", it->list, person->line, it->error);
    return false;
}

/* mboxrd: lines that begin with ">*From " get one ">" more. */
static void write_mbox(FILE *mbox, const char *text)
{
    fputs("From sluice@localhost Thu Jan  1 00:00:00 1970\n", mbox);
    while (*text) {
        size_t len = strcspn(text, "\r\n");
        if (strncmp(text + strspn(text, ">"), "From ", 5) == 0)
            fputc('>', mbox);
        fprintf(mbox, "%.*s\n", (int)len, text);
        text += len;
        text += *text == '\r';
        text += *text == '\n';
    }
    fputc('\n', mbox);
}

static bool preview(void *context, const struct person *person)
{
    struct notices *it = context;
    size_t len;
    if (!make(it, person, &len)) {
        it->error[0] = it->error[0] ? it->error[0] : '?';
        return false;
    }
    write_mbox(it->mbox, it->text);
    it->count++;
    return true;
}

static int preview_all(struct notices *it)
{
    char name[NAME_LEN];
    (void)snprintf(name, sizeof(name), "%.150s.mbox", it->context->step);
    it->mbox = paper_open(it->context, name);
    if (!it->mbox)
        return EXIT_SERVICE;
    int code = people_each(it->list, false, preview, it);
    if (code == EXIT_DONE && it->error[0])
        code = EXIT_DATA;
    int closed = paper_close(it->context, it->mbox, name, code == EXIT_DONE);
    return code != EXIT_DONE ? code : closed;
}

/* ---- the journal --------------------------------------------------------- */

/* ADDRESS TAB STATE; a last line without its end was being written. */
static bool take_line(struct table *journal, char *line)
{
    char *tab = strrchr(line, '\t');
    if (!tab)
        return true;
    *tab = '\0';
    return table_put(journal, line, strlen(line), tab + 1, strlen(tab + 1));
}

static bool read_journal(struct notices *it, FILE *file, bool *ours)
{
    char line[ADDR_TEXT_MAX + 64], run[48];
    bool good = true;
    (void)snprintf(run, sizeof(run), "run %" PRId64 "\n", it->context->run);
    *ours = fgets(line, sizeof(line), file) && strcmp(line, run) == 0;
    while (*ours && good && fgets(line, sizeof(line), file)) {
        size_t len = strlen(line);
        if (len == 0 || line[len - 1] != '\n')
            break;
        line[len - 1] = '\0';
        good = take_line(it->journal, line);
    }
    return good;
}

/* Of this run; one of an earlier run is begun anew. */
static bool open_journal(struct notices *it)
{
    char name[NAME_LEN], path[PAPER_PATH_MAX], run[48];
    struct stat info;
    bool ours = false;
    (void)snprintf(name, sizeof(name), "%.150s.sent", it->context->step);
    if (!paper_path(it->context, name, path))
        return false;
    it->file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_APPEND, 0600);
    int copy = it->file >= 0 ? dup(it->file) : -1;
    FILE *file = copy >= 0 ? fdopen(copy, "r") : NULL;
    bool good = file && fstat(it->file, &info) == 0 && info.st_size < JOURNAL_MAX &&
                read_journal(it, file, &ours);
    if (file)
        fclose(file);
    else if (copy >= 0)
        close(copy);
    int n = snprintf(run, sizeof(run), "%srun %" PRId64 "\n", "", it->context->run);
    if (good && !ours)
        good = ftruncate(it->file, 0) == 0 && write(it->file, run, (size_t)n) == n;
    else if (good) /* ends a line that was being written */
        good = write(it->file, "\n", 1) == 1;
    if (!good || fsync(it->file) != 0)
        message("%s: %s", path, errno ? strerror(errno) : "cannot be read");
    return good;
}

static bool note(struct notices *it, const char *address, const char *state)
{
    char line[ADDR_TEXT_MAX + 32];
    int n = snprintf(line, sizeof(line), "%s\t%s\n", address, state);
    bool good = n > 0 && (size_t)n < sizeof(line) &&
                write(it->file, line, (size_t)n) == n && fdatasync(it->file) == 0 &&
                table_put(it->journal, address, strlen(address), state, strlen(state));
    if (!good)
        message("the journal of the notices cannot be written (%s): nothing more is sent",
                strerror(errno));
    it->broken = !good;
    return good;
}

/* ---- sending ------------------------------------------------------------- */

/* Whether the server may have taken it although it did not say so. */
static bool may_have_it(enum mail_result result, const struct mail_sent *sent)
{
    return result != MAIL_REFUSED && result != MAIL_LATER && sent->connected > 0 &&
           (sent->code == 354 || sent->code == 0);
}

static void send_one(struct notices *it, const struct person *person, const char *address,
                     size_t len)
{
    struct mail_call call = { .until = clock_ms() + SEND_S * 1000L,
                              .stop = command_stopped };
    struct mail_sent sent = { 0 };
    struct mail_letter letter = { it->context->command->conf->hostname, it->from,
                                  person->address, it->text, len };
    if (!note(it, address, "sending"))
        return;
    enum mail_result result = mail_send(&it->place.server, &letter, &call, &sent);
    if (result == MAIL_DONE) {
        it->sent += note(it, address, "sent");
        it->in_a_row = 0;
        return;
    }
    message("%s: %s", person->address, call.error);
    it->in_a_row++;
    if (may_have_it(result, &sent)) /* stays "sending" */
        it->unsure++;
    else
        it->refused += note(it, address, "refused");
}

static bool send_next(void *context, const struct person *person)
{
    struct notices *it = context;
    char address[ADDR_TEXT_MAX + 1];
    size_t len;
    people_canonical(person->address, address);
    const char *state = table_get(it->journal, address, strlen(address), NULL);
    if (state && strcmp(state, "sent") == 0) {
        it->before++;
    } else if (state && strcmp(state, "sending") == 0) {
        it->unsure++;
    } else if (!make(it, person, &len)) {
        it->broken = true;
    } else {
        send_one(it, person, address, len);
        if (pace_due(&it->pace))
            notice("%zu of %zu notices sent", it->sent + it->before, it->count);
    }
    return !it->broken && it->in_a_row < IN_A_ROW && !command_stopped();
}

static int write_unsure(struct notices *it, const char *name)
{
    static const char *const header[] = { "address" };
    const char *address, *state;
    size_t cursor = 0, len, state_len;
    FILE *paper = paper_open(it->context, name);
    if (!paper)
        return EXIT_SERVICE;
    paper_row(paper, header, 1);
    while (table_next(it->journal, &cursor, &address, &len, &state, &state_len))
        if (strcmp(state, "sending") == 0)
            paper_row(paper, &address, 1);
    return paper_close(it->context, paper, name, true);
}

static int judge_sent(struct notices *it)
{
    char name[NAME_LEN], unsure[NAME_LEN + 80] = "";
    (void)snprintf(name, sizeof(name), "%.150s.unsure.csv", it->context->step);
    if (it->unsure > 0 && write_unsure(it, name) == EXIT_DONE)
        (void)snprintf(unsure, sizeof(unsure),
                       "; %zu may or may not have it and get none again: %s", it->unsure,
                       name);
    if (it->broken)
        return EXIT_SERVICE;
    if (command_stopped()) {
        message("stopped: %zu of %zu notices are sent%s", it->sent + it->before,
                it->count, unsure);
        return EXIT_AGAIN;
    }
    if (it->in_a_row >= IN_A_ROW)
        message("%d failures one after the other: the rest was not tried", IN_A_ROW);
    if (it->refused > 0) {
        message(
            "%zu notices sent, %zu refused (the step's log names each)%s: mend it and "
            "run again, nobody gets one twice",
            it->sent + it->before, it->refused, unsure);
        return EXIT_CHECK;
    }
    print("%zu notices sent (%zu of them earlier)%s", it->sent + it->before, it->before,
          unsure);
    return EXIT_DONE;
}

static int send_all(struct notices *it)
{
    it->journal = table_new();
    it->file = -1;
    int code = EXIT_SERVICE;
    if (!it->journal || !mail_begin())
        message("out of memory");
    else if (open_journal(it))
        code = people_each(it->list, false, send_next, it);
    if (code == EXIT_DONE)
        code = judge_sent(it);
    if (it->file >= 0)
        close(it->file);
    if (it->journal)
        table_free(it->journal);
    return code;
}

static int with_template(struct notices *it, bool send)
{
    it->text = malloc(MERGE_MESSAGE_MAX);
    int code = EXIT_DATA;
    if (it->template && it->text)
        code = preview_all(it);
    if (code == EXIT_DONE && send)
        code = send_all(it);
    else if (code == EXIT_DONE)
        print("%zu notices written, none sent: %.150s.mbox", it->count,
              it->context->step);
    free(it->text);
    merge_free(it->template);
    return code;
}

int action_notice(struct action_context *context, int argc, char **argv)
{
    struct notices it = { .context = context, .list = argv[1], .from = "postmaster" };
    it.template = find_template(context, argc, argv, 2);
    return with_template(&it, false);
}

int action_notice_send(struct action_context *context, int argc, char **argv)
{
    struct notices it = { .context = context, .list = argv[1], .from = argv[3] };
    const struct mail_words none = { 0 };
    struct addr parsed;
    if (addr_parse(argv[3], strlen(argv[3]), &parsed) != ADDR_OK) {
        message("notice-send: \"%s\" is not a mail address: whom is it from?", argv[3]);
        return EXIT_USE;
    }
    if (!mail_place(argv[2], &none, false, &it.place))
        return EXIT_USE;
    command_catch_signals();
    it.template = find_template(context, argc, argv, 4);
    return with_template(&it, true);
}
