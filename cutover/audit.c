/*
 * sluice audit LOG...: the ledger: every message that was accepted for the managed
 * mailboxes, and its one fate.
 *
 * Reads the logs of all hosts at once, in the order of time (log_reader.h), gives each
 * line to the ledger (audit_ledger.h), and adds up what comes out (audit_report.h).
 * Homes and lock times come from a journal: this host's own, or --journal. Redis is
 * only asked, at the end, whether it knows what is still queued; without it the logs
 * alone decide, and the report says so.
 *
 * There is no checkpoint: an audit is a statement about a span that anybody can repeat
 * from the same logs, and a gigabyte takes seconds.
 *
 * Exit: 0 every recipient has one known fate; 1 some have none, or a mailbox got mail
 * in the wrong place; 65 a log cannot be read, or has no line that is one.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "audit_address.h"
#include "audit_homes.h"
#include "audit_report.h"
#include "command.h"
#include "log_reader.h"
#include "options.h"
#include "output.h"
#include "table.h"
#include "targets.h"

#define HOSTS_SHOWN_MAX 64
#define PROGRESS_LINES  262144

struct audit {
    struct command_context *context;
    struct audit_homes *homes;
    struct ledger *ledger;
    struct audit_report report;
    struct audit_address *address;
    struct targets targets;
    uint64_t locking; /* deliveries while a lock was being completed */
};

/* ---- what the ledger asks ----------------------------------------------- */

static bool mailbox_of(void *context, struct log_slice text, char out[ADDR_TEXT_MAX + 1])
{
    struct audit *audit = context;
    return audit_address_mailbox(audit->address, text, out);
}

static bool redirects_to(void *context, struct log_slice text)
{
    struct audit *audit = context;
    return audit_address_redirects_to(audit->address, text);
}

static enum ledger_side side_of(void *context, const char *host)
{
    struct audit *audit = context;
    return audit_homes_side(audit->homes, host);
}

static enum ledger_judged judge(void *context, const char *mailbox, const char *host,
                                enum ledger_side side, int64_t from_us, int64_t to_us)
{
    struct audit *audit = context;
    return audit_homes_judge(audit->homes, mailbox, host, side, from_us, to_us);
}

static void take_fence(void *context, struct log_slice host, uint64_t change, int64_t us)
{
    struct audit *audit = context;
    audit_homes_fence(audit->homes, host, change, us);
}

static void take_row(void *context, const struct ledger_row *row)
{
    struct audit *audit = context;
    audit->locking += row->fate == FATE_LOCKING;
    audit_report_row(&audit->report, row);
}

/* ---- options ------------------------------------------------------------ */

struct options {
    const char *since, *until, *format, *journal, *domain;
    struct option_list mailboxes, sides;
    bool all;
};

/* "2026-11-22", "2026-11-22 09:00", "2026-11-22T09:00:30", local time; or a duration:
 * so long ago. */
static bool parse_time(const char *name, const char *text, int64_t *us)
{
    static const char *const formats[] = { "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M",
                                           "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M",
                                           "%Y-%m-%d" };
    int seconds;
    if (!text)
        return true;
    if (duration_parse(text, &seconds)) {
        *us = ((int64_t)time(NULL) - seconds) * LEDGER_SECOND;
        return true;
    }
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        struct tm tm = { .tm_isdst = -1 };
        const char *end = strptime(text, formats[i], &tm);
        if (end && *end == '\0') {
            *us = (int64_t)mktime(&tm) * LEDGER_SECOND;
            return true;
        }
    }
    message(
        "--%s %s: not a time: give 2026-11-22, \"2026-11-22 09:00\", or 3d (so long ago)",
        name, text);
    return false;
}

static bool parse_format(struct audit *audit, const char *text)
{
    static const char *const names[] = { "text", "json", "csv", "html" };
    audit->report.format = audit->context->json ? AUDIT_JSON : AUDIT_TEXT;
    if (!text)
        return true;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        if (audit->context->json && i != AUDIT_JSON) {
            message("--json and --format %s: give one of them", text);
            return false;
        }
        audit->report.format = (enum audit_format)i;
        if (i == AUDIT_JSON)
            out_open(audit->context->command, true);
        return true;
    }
    message("--format %s: text, json, csv or html", text);
    return false;
}

/* HOST=old */
static bool take_sides(struct audit *audit, const struct option_list *sides)
{
    for (size_t i = 0; i < sides->count; i++) {
        const char *equal = strchr(sides->items[i], '=');
        bool old = equal && strcmp(equal, "=old") == 0;
        char name[256];
        if (!equal || equal == sides->items[i] ||
            (size_t)(equal - sides->items[i]) >= sizeof(name) ||
            (!old && strcmp(equal, "=new") != 0)) {
            message("--side %s: give HOST=old or HOST=new", sides->items[i]);
            return false;
        }
        memcpy(name, sides->items[i], (size_t)(equal - sides->items[i]));
        name[equal - sides->items[i]] = '\0';
        if (!audit_homes_name(audit->homes, name,
                              old ? LEDGER_SIDE_OLD : LEDGER_SIDE_NEW))
            return false;
    }
    return true;
}

static int take_targets(struct audit *audit, const struct options *options)
{
    char *words[OPTION_LIST_MAX + 1];
    int n = 0, code;
    for (size_t i = 0; i < options->mailboxes.count; i++)
        words[n++] = (char *)(uintptr_t)options->mailboxes.items[i];
    if (options->domain && n < OPTION_LIST_MAX)
        words[n++] = (char *)(uintptr_t)options->domain;
    if (n == 0)
        return EXIT_DONE;
    code = targets_resolve(audit->context->conf, n, words, &audit->targets);
    if (code == EXIT_DONE)
        audit->report.targets = &audit->targets;
    return code;
}

static bool load_journal(struct audit *audit, const char *path)
{
    char own[4096], error[400];
    conf_journal_path(audit->context->conf, own, sizeof(own));
    if (!audit_homes_load(audit->homes, path ? path : own, error, sizeof(error))) {
        message("%s", error);
        return false;
    }
    if (audit_homes_changes(audit->homes) > 0)
        return true;
    if (path) {
        message("%s: no journal, or an empty one (state-dir/journal of any MTA host)",
                path);
        return false;
    }
    audit_note(
        &audit->report,
        "no journal in %s: whether a mailbox was locked when it got its mail is not "
        "known; give one of an MTA host: --journal FILE",
        own);
    return true;
}

static int set_up(struct audit *audit, int *argc, char **argv)
{
    struct options options = { 0 };
    const struct option_spec specs[] = {
        { "since", OPTION_TEXT, &options.since },
        { "until", OPTION_TEXT, &options.until },
        { "format", OPTION_TEXT, &options.format },
        { "journal", OPTION_TEXT, &options.journal },
        { "mailbox", OPTION_LIST, &options.mailboxes },
        { "domain", OPTION_TEXT, &options.domain },
        { "side", OPTION_LIST, &options.sides },
        { "all", OPTION_FLAG, &options.all },
    };
    struct audit_report *report = &audit->report;
    if (!options_parse(specs, sizeof(specs) / sizeof(specs[0]), argc, argv))
        return EXIT_USE;
    if (!parse_format(audit, options.format) ||
        !parse_time("since", options.since, &report->since_us) ||
        !parse_time("until", options.until, &report->until_us) ||
        !take_sides(audit, &options.sides))
        return EXIT_USE;
    if (*argc < 2) {
        message("which logs? give those of every mail server, old and new: sluice audit "
                "old/mail.log new/mail.log");
        return EXIT_USE;
    }
    report->all = options.all;
    if (!load_journal(audit, options.journal))
        return EXIT_DATA;
    return take_targets(audit, &options);
}

/* ---- reading ------------------------------------------------------------ */

static struct log_reader *open_logs(struct audit *audit, int argc, char **argv)
{
    char error[4096 + 200];
    struct log_reader *reader = log_reader_new(LOG_EVENTS_ALL);
    if (!reader) {
        message("out of memory");
        return NULL;
    }
    if (audit->report.since_us != AUDIT_NO_TIME)
        log_reader_since(reader, audit->report.since_us / LEDGER_SECOND);
    for (int i = 1; i < argc; i++)
        if (!log_reader_add(reader, argv[i], error, sizeof(error))) {
            message("%s", error);
            log_reader_free(reader);
            return NULL;
        }
    return reader;
}

static int read_logs(struct audit *audit, struct log_reader *reader)
{
    const struct log_record *record;
    enum log_read result;
    uint64_t events = 0;
    bool fine = true;
    progress_begin("reads", 0);
    while ((result = log_reader_next(reader, &record)) == LOG_READ_EVENT) {
        fine = ledger_take(audit->ledger, &record->line, &record->event, record->time.us);
        if (!fine || command_stopped())
            break;
        if (++events % PROGRESS_LINES == 0)
            progress_set(0, "%" PRIu64 " MB", log_reader_counts(reader)->bytes / 1000000);
    }
    progress_end();
    if (command_stopped()) {
        message("interrupted");
        return EXIT_AGAIN;
    }
    if (result == LOG_READ_FAILED) {
        message("%s", log_reader_error(reader));
        return EXIT_DATA;
    }
    if (!fine || !ledger_end(audit->ledger) || audit->report.failed) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    return EXIT_DONE;
}

static int check_counts(struct audit *audit, const struct log_reader *reader)
{
    const struct log_counts *counts = log_reader_counts(reader);
    const struct ledger_counts *ledger = ledger_counts(audit->ledger);
    struct audit_report *report = &audit->report;
    char a[32];
    report->lines = counts->lines;
    if (counts->lines > 0 && counts->foreign == counts->lines) {
        message(
            "none of the %s lines is of a mail log that is known (syslog, maillog_file, "
            "journalctl -o json)",
            audit_number(counts->lines, a));
        return EXIT_DATA;
    }
    if (counts->foreign > 0)
        audit_note(report, "%s lines are of no known format",
                   audit_number(counts->foreign, a));
    if (counts->cut > 0)
        audit_note(report, "%s lines are too long and were cut",
                   audit_number(counts->cut, a));
    if (counts->untimed > 0)
        audit_note(report, "%s lines have an impossible time and were skipped",
                   audit_number(counts->untimed, a));
    if (counts->future > 0)
        audit_note(report, "%s lines are of the future: a clock was wrong",
                   audit_number(counts->future, a));
    if (ledger->unbelieved > 0)
        audit_note(report,
                   "%s replies of other servers named a queue id of another message: not "
                   "believed",
                   audit_number(ledger->unbelieved, a));
    if (ledger->hosts_left_out > 0)
        audit_note(report,
                   "more than %d hosts are in these logs: the others' names are "
                   "not kept",
                   LEDGER_HOSTS_MAX);
    return EXIT_DONE;
}

/* ---- the hosts, and what Redis says ------------------------------------- */

static size_t list_hosts(struct audit *audit, struct audit_host hosts[HOSTS_SHOWN_MAX])
{
    size_t n = 0;
    int64_t first, last;
    const char *name;
    for (size_t i = 0; n < HOSTS_SHOWN_MAX &&
                       (name = ledger_host(audit->ledger, i, &first, &last)) != NULL;
         i++) {
        enum ledger_side side = audit_homes_side(audit->homes, name);
        hosts[n++] = (struct audit_host){ name, side, first, last };
        if (side == LEDGER_SIDE_UNKNOWN)
            audit_note(&audit->report, "%s: its side is not known: --side %s=old or new",
                       name, name);
        else if (audit->locking > 0 && side == LEDGER_SIDE_OLD &&
                 !audit_homes_has_fence(audit->homes, name))
            audit_note(
                &audit->report,
                "%s: no line of sluice-policyd says when a lock was complete there, so "
                "mail delivered after a lock and before its flip is not judged: give "
                "its log too",
                name);
    }
    return n;
}

struct queued {
    struct table *held; /* "host queue id" -> since */
};

static bool take_held(void *context, const struct held *held)
{
    struct queued *queued = context;
    char since[32];
    int n = snprintf(since, sizeof(since), "%" PRId64, held->since);
    return n < 0 || table_put(queued->held, held->queue_id, strlen(held->queue_id), since,
                              (size_t)n);
}

static void see_queued(void *context, const char *host, const char *id, char *seen,
                       size_t seen_size)
{
    struct queued *queued = context;
    const char *since = table_get(queued->held, id, strlen(id), NULL);
    char text[TIME_TEXT_MAX];
    (void)host;
    if (since)
        (void)snprintf(seen, seen_size, " (sluice holds it since %s)",
                       time_text(strtoll(since, NULL, 10), text));
}

/* Held records of every host: what the logs call queued is confirmed by them. */
static void ask_store(struct audit *audit)
{
    struct store *store = audit->context->store;
    struct queued queued = { table_new() };
    struct host *hosts = NULL;
    size_t n = 0;
    uint64_t waiting = audit->report.listed[FATE_QUEUED];
    if (waiting > 0 && queued.held) {
        bool fine = store_hosts(store, &hosts, &n) != LOOKUP_FAILED;
        for (size_t i = 0; fine && i < n; i++)
            fine = store_each_held(store, hosts[i].name, take_held, &queued);
        if (fine)
            audit_each_queued(&audit->report, see_queued, &queued);
        else
            audit_note(&audit->report,
                       "what is still queued is known from the logs alone: %s",
                       store_error(store));
        free(hosts);
    }
    table_free(queued.held);
}

/* ---- the command -------------------------------------------------------- */

static int audit_logs(struct audit *audit, int argc, char **argv)
{
    struct audit_host hosts[HOSTS_SHOWN_MAX];
    struct log_reader *reader = open_logs(audit, argc, argv);
    if (!reader)
        return EXIT_DATA;
    audit_report_begin(&audit->report);
    int code = read_logs(audit, reader);
    if (code == EXIT_DONE)
        code = check_counts(audit, reader);
    if (code == EXIT_DONE) {
        ask_store(audit);
        size_t n = list_hosts(audit, hosts);
        if (!audit_report_show(&audit->report, hosts, n))
            code = EXIT_SERVICE;
        else if (!audit_is_clean(&audit->report))
            code = EXIT_CHECK;
    }
    log_reader_free(reader);
    return code;
}

int command_audit(struct command_context *context, int argc, char **argv)
{
    struct audit audit = {
        .context = context,
        .report = { .since_us = AUDIT_NO_TIME,
                    .until_us = AUDIT_NO_TIME,
                    .conf = context->conf },
        .address = audit_address_new(context->conf),
        .homes = audit_homes_new(context->conf),
    };
    struct ledger_ports ports = {
        .context = &audit,
        .mailbox = mailbox_of,
        .redirects_to = redirects_to,
        .side = side_of,
        .judge = judge,
        .fence = take_fence,
        .row = take_row,
    };
    int code = EXIT_SERVICE;
    if (audit.address && audit.homes) {
        code = set_up(&audit, &argc, argv);
        ports.full = audit.report.format == AUDIT_CSV || audit.report.all;
        audit.ledger = code == EXIT_DONE ? ledger_new(&ports) : NULL;
        if (audit.ledger) {
            command_catch_signals();
            code = audit_logs(&audit, argc, argv);
        } else if (code == EXIT_DONE) {
            code = EXIT_SERVICE;
        }
    }
    if (code == EXIT_SERVICE && !audit.ledger)
        message("out of memory");
    ledger_free(audit.ledger);
    audit_homes_free(audit.homes);
    audit_report_free(&audit.report);
    targets_free(&audit.targets);
    audit_address_free(audit.address);
    return code;
}
