/*
 * sluice monitor [LOG...]: who still sends to the old server, from the MTA's log.
 *
 * A plugin for Nagios and its kin: the first line is a status with performance data,
 * the exit code 0 quiet long enough, 1 still forwarding, 2 forwards fail, 3 not known.
 * It needs no Redis: logs may be read where no MTA runs. With a checkpoint the verdict
 * is put there too, for the status page, when Redis can be reached.
 *
 * What was read is kept in a checkpoint, one for each list of logs, with the figures
 * and the messages in flight, so that the next run reads only what is new. Standard
 * input has no place to go on from: journalctl's own --cursor-file keeps it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "command.h"
#include "monitor_publish.h"
#include "monitor_report.h"
#include "options.h"
#include "output.h"

#define QUIET_S      (72 * 3600)
#define FAILING_S    (30 * 60)
#define SINCE_S      (INT64_C(45) * 86400)
#define SAVE_MS      60000
#define WAIT_MS      500
#define STOP_MASK    0xfff /* events between two looks for a signal */
#define SECOND_US    INT64_C(1000000)
#define STATUS_BYTES 1400

enum format { FORMAT_TEXT, FORMAT_JSON, FORMAT_HTML };

struct settings {
    int quiet_for, failing_after;
    const char *checkpoint, *format_name;
    bool no_checkpoint, no_publish, follow, without_failures, without_rotated;
    struct option_list probe_to;
    enum format format;
    char path[4300]; /* of the checkpoint; "" none */
};

struct run {
    struct command_context *context;
    struct settings *settings;
    const char *const *logs;
    size_t log_count;
    struct log_reader *reader;
    struct monitor *monitor;
    uint64_t lost_seen;
    bool live;        /* --follow: what is old has been read */
    bool unpublished; /* Redis could not be reached, and that was said */
};

/* ---- what cannot be known ---------------------------------------------------- */

static int unknown(const struct settings *settings, const char *text)
{
    if (settings->format == FORMAT_JSON) {
        doc *top = doc_object();
        doc_text(top, "state", "UNKNOWN");
        doc_number(top, "exit", MONITOR_UNKNOWN);
        doc_text(top, "text", text);
        doc_print(top);
    } else {
        char safe[1024];
        (void)snprintf(safe, sizeof(safe), "%s", text);
        for (char *c = safe; *c; c++)
            if (*c == '|')
                *c = '/';
        print("SLUICE MONITOR UNKNOWN - %s", safe);
    }
    return MONITOR_UNKNOWN;
}

/* ---- logs and checkpoint ------------------------------------------------------ */

static const char *default_log(void)
{
    static const char *const paths[] = { "/var/log/mail.log", "/var/log/maillog" };
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        if (access(paths[i], F_OK) == 0)
            return paths[i];
    return NULL;
}

/* One for each list of logs. */
static void choose_checkpoint(struct run *run)
{
    struct settings *s = run->settings;
    uint64_t digest = s->without_rotated ? 1 : 0;
    if (s->no_checkpoint)
        return;
    if (s->checkpoint) {
        (void)snprintf(s->path, sizeof(s->path), "%s", s->checkpoint);
        return;
    }
    for (size_t i = 0; i < run->log_count; i++) {
        for (const char *c = run->logs[i]; *c; c++)
            digest = (digest ^ (unsigned char)*c) * UINT64_C(0x100000001b3) + 1;
        digest = (digest + 7) * UINT64_C(0x100000001b3);
        if (strcmp(run->logs[i], "-") == 0)
            return; /* the same input may come again */
    }
    (void)snprintf(s->path, sizeof(s->path), "%s/monitor-%016" PRIx64 ".checkpoint",
                   run->context->conf->state_dir, digest);
}

static bool load_line(void *arg, const char *line)
{
    struct run *run = arg;
    if (strncmp(line, "source ", 7) == 0)
        return log_reader_load(run->reader, line);
    return monitor_load(run->monitor, line);
}

static bool save_lines(void *arg, FILE *out)
{
    struct run *run = arg;
    log_reader_save(run->reader, out);
    monitor_save(run->monitor, out);
    return true;
}

static void close_run(struct run *run)
{
    log_reader_free(run->reader);
    monitor_free(run->monitor);
    run->reader = NULL;
    run->monitor = NULL;
}

static bool open_run(struct run *run, char *error, size_t error_size)
{
    run->reader = log_reader_new(LOG_EVENTS_ALL);
    run->monitor = monitor_new(run->context->conf);
    if (!run->reader || !run->monitor) {
        (void)snprintf(error, error_size, "out of memory");
        return false;
    }
    run->monitor->probe_to = run->settings->probe_to.items;
    log_reader_pick(run->reader, monitor_pick);
    log_reader_since(run->reader, (int64_t)time(NULL) - SINCE_S);
    if (run->settings->without_rotated)
        log_reader_without_rotated(run->reader);
    if (run->settings->follow)
        log_reader_follow(run->reader);
    for (size_t i = 0; i < run->log_count; i++)
        if (!log_reader_add(run->reader, run->logs[i], error, error_size))
            return false;
    return true;
}

/* A checkpoint that cannot be used is no reason not to look: all is read anew. */
static bool open_at_checkpoint(struct run *run, char *error, size_t error_size)
{
    if (!open_run(run, error, error_size))
        return false;
    if (!run->settings->path[0])
        return true;
    switch (log_checkpoint_read(run->settings->path, load_line, run, error, error_size)) {
    case LOG_CHECKPOINT_READ:
    case LOG_CHECKPOINT_NONE:
        return true;
    case LOG_CHECKPOINT_DAMAGED:
        break;
    }
    notice("%s; the logs are read from their beginning", error);
    close_run(run);
    return open_run(run, error, error_size);
}

static void save(struct run *run)
{
    char error[512];
    if (run->settings->path[0] &&
        !log_checkpoint_write(run->settings->path, save_lines, run, error, sizeof(error)))
        notice("%s; the next run reads the same again (--checkpoint FILE, "
               "--no-checkpoint)",
               error);
}

/* ---- reading ------------------------------------------------------------------ */

enum reading { READ_ALL, READ_STOPPED, READ_BAD };

static enum reading read_lines(struct run *run)
{
    const struct log_record *record;
    for (uint64_t n = 1;; n++) {
        enum log_read result = log_reader_next(run->reader, &record);
        uint64_t lost = log_reader_counts(run->reader)->lost;
        if (lost != run->lost_seen) {
            run->lost_seen = lost;
            monitor_gap(run->monitor);
            notice("a part of the log is gone since the last run (truncated, or rotated "
                   "away)");
        }
        if (result == LOG_READ_END)
            return READ_ALL;
        if (result == LOG_READ_FAILED)
            return READ_BAD;
        monitor_take(run->monitor, &record->line, record->time.us);
        if ((n & STOP_MASK) == 0 && command_stopped())
            return READ_STOPPED;
    }
}

static void judge(struct run *run, struct monitor_view *view)
{
    const struct log_flow_counts *flow = log_flow_counts(run->monitor->flow);
    *view = (struct monitor_view){
        .monitor = run->monitor,
        .now = (int64_t)time(NULL),
        .quiet_for = run->settings->quiet_for,
        .failing_after = run->settings->failing_after,
        .without_failures = run->settings->without_failures,
        .not_taken = flow->limit + flow->recipients + flow->no_memory,
        .counts = log_reader_counts(run->reader),
    };
    monitor_judge(view);
}

/* What the next run begins with, and what the status page shows. */
static void keep(struct run *run)
{
    struct monitor_view view;
    save(run);
    if (!run->settings->path[0] || run->settings->no_publish)
        return;
    judge(run, &view);
    monitor_publish(run->context, &view, &run->unpublished);
}

static int report(struct run *run)
{
    struct monitor_view view;
    char *text;
    size_t len;
    judge(run, &view);
    switch (run->settings->format) {
    case FORMAT_TEXT:
        monitor_text(&view);
        break;
    case FORMAT_JSON:
        doc_print(monitor_document(&view));
        break;
    case FORMAT_HTML:
        if (!monitor_html(&view, &text, &len))
            return unknown(run->settings, "out of memory");
        (void)fwrite(text, 1, len,
                     stdout); /* out_finish() looks whether it was written */
        free(text);
        break;
    }
    return (int)view.state;
}

/* ---- --follow ------------------------------------------------------------------ */

static void show_news(void *context, const struct log_message *m,
                      const struct log_recipient *r, const char *mailbox, int64_t us)
{
    struct run *run = context;
    char when[TIME_TEXT_MAX];
    const char *user = log_flow_text(m, LOG_FLOW_USER);
    const char *client = log_flow_text(m, LOG_FLOW_CLIENT);
    if (!run->live)
        return;
    print("%s  %s  %s  from=<%s> client=%s[%s] helo=%s%s%s  %s",
          time_text(us / SECOND_US, when), mailbox, log_status_name(r->status),
          log_flow_text(m, LOG_FLOW_FROM), log_flow_text(m, LOG_FLOW_CLIENT_NAME), client,
          log_flow_text(m, LOG_FLOW_HELO), *user ? " login=" : "", user,
          r->text ? r->text : "");
    fflush(stdout);
}

static void show_state(struct run *run, enum monitor_state *shown, bool always)
{
    struct monitor_view view;
    char status[STATUS_BYTES];
    judge(run, &view);
    if (!always && view.state == *shown)
        return;
    *shown = view.state;
    monitor_status(&view, status, sizeof(status));
    print("%s", status);
    fflush(stdout);
}

static int follow(struct run *run)
{
    enum monitor_state shown = MONITOR_UNKNOWN;
    int64_t saved = clock_ms();
    run->monitor->news = show_news;
    run->monitor->context = run;
    while (!command_stopped()) {
        switch (read_lines(run)) {
        case READ_BAD:
            return unknown(run->settings, log_reader_error(run->reader));
        case READ_STOPPED:
            continue;
        case READ_ALL:
            break;
        }
        show_state(run, &shown, !run->live);
        run->live = true;
        if (clock_ms() - saved >= SAVE_MS) {
            keep(run);
            saved = clock_ms();
        }
        if (log_reader_ended(run->reader))
            break;
        log_reader_wait(run->reader, WAIT_MS);
    }
    /* Stopped between two lines the marks would be too early: to the end first. */
    if (!command_stopped() || read_lines(run) == READ_ALL)
        keep(run);
    show_state(run, &shown, true);
    return (int)shown;
}

/* ---- the command ---------------------------------------------------------------- */

static bool take_options(struct settings *s, int *argc, char **argv, bool json)
{
    const struct option_spec specs[] = {
        { "quiet-for", OPTION_DURATION, &s->quiet_for },
        { "failing-after", OPTION_DURATION, &s->failing_after },
        { "checkpoint", OPTION_TEXT, &s->checkpoint },
        { "no-checkpoint", OPTION_FLAG, &s->no_checkpoint },
        { "no-publish", OPTION_FLAG, &s->no_publish },
        { "follow", OPTION_FLAG, &s->follow },
        { "format", OPTION_TEXT, &s->format_name },
        { "without-dmarc-failures", OPTION_FLAG, &s->without_failures },
        { "without-rotated", OPTION_FLAG, &s->without_rotated },
        { "probe-to", OPTION_LIST, &s->probe_to },
    };
    if (!options_parse(specs, sizeof(specs) / sizeof(specs[0]), argc, argv))
        return false;
    if (!s->format_name)
        s->format_name = json ? "json" : "text";
    if (strcmp(s->format_name, "json") == 0)
        s->format = FORMAT_JSON;
    else if (strcmp(s->format_name, "html") == 0)
        s->format = FORMAT_HTML;
    else if (strcmp(s->format_name, "text") != 0) {
        message("--format %s: it is text, json or html", s->format_name);
        return false;
    }
    if (json && s->format != FORMAT_JSON)
        message("--json and --format %s: one of them", s->format_name);
    else if (s->follow && s->format != FORMAT_TEXT)
        message("--follow prints text: without --json and --format");
    else if (s->checkpoint && s->no_checkpoint)
        message("--checkpoint and --no-checkpoint: one of them");
    else
        return true;
    return false;
}

static int run_monitor(struct run *run)
{
    char error[1024];
    int code;
    if (!open_at_checkpoint(run, error, sizeof(error)))
        return unknown(run->settings, error);
    if (run->settings->follow)
        return follow(run);
    switch (read_lines(run)) {
    case READ_BAD:
        return unknown(run->settings, log_reader_error(run->reader));
    case READ_STOPPED:
        message("interrupted: nothing is kept, run it again");
        return EXIT_AGAIN;
    case READ_ALL:
        break;
    }
    if (log_reader_unread(run->reader)[0])
        notice("%s is not read, only gzip is: unpack it to have it counted",
               log_reader_unread(run->reader));
    code = report(run);
    keep(run);
    return code;
}

int command_monitor(struct command_context *context, int argc, char **argv)
{
    struct settings settings = { .quiet_for = QUIET_S, .failing_after = FAILING_S };
    const char *fallback[1];
    if (!take_options(&settings, &argc, argv, context->json))
        return EXIT_USE;
    if (settings.format == FORMAT_JSON)
        out_open(context->command, true);
    struct run run = { .context = context,
                       .settings = &settings,
                       .logs = (const char *const *)(argv + 1),
                       .log_count = (size_t)(argc - 1) };
    if (run.log_count == 0) {
        fallback[0] = default_log();
        if (!fallback[0])
            return unknown(&settings,
                           "no /var/log/mail.log and no /var/log/maillog: name "
                           "the MTA's log, or pipe the journal into \"-\"");
        run.logs = fallback;
        run.log_count = 1;
    }
    choose_checkpoint(&run);
    command_catch_signals();
    int code = run_monitor(&run);
    close_run(&run);
    return code;
}
