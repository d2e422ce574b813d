/*
 * monitor_text: the monitor's report as text and as JSON (see monitor_report.h).
 */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "monitor_report.h"

#define SHOWN      20 /* rows; JSON and HTML have more */
#define SECOND_US  INT64_C(1000000)
#define STATUS_MAX 1400

/* A monitoring server takes what follows '|' for performance data, in any line. */
static const char *without_bars(char *text)
{
    for (char *c = text; *c; c++)
        if (*c == '|')
            *c = '/';
    return text;
}

static const char *or_dash(const char *text, char *out, size_t size)
{
    (void)snprintf(out, size, "%s", *text ? text : "-");
    return without_bars(out);
}

static const char *at_time(int64_t us, char out[TIME_TEXT_MAX])
{
    return us == LOG_NO_TIME ? "-" : time_text(us / SECOND_US, out);
}

static void more(size_t shown, size_t count, const char *what)
{
    if (count > shown)
        print("  and %zu more %s: --format html, --json", count - shown, what);
}

static void show_senders(const struct monitor_view *v)
{
    static const char *const heads[] = { "sending host", "HELO",      "login",
                                         "sender",       ">floaters", "last one" };
    size_t count;
    const struct monitor_sender **rows = monitor_senders(v, &count);
    struct sheet *sheet = count > 0 ? sheet_new(heads, 6) : NULL;
    if (sheet) {
        print("%s", "");
        print("who still sends to the old server, the latest first:");
    }
    for (size_t i = 0; sheet && i < count && i < SHOWN; i++) {
        char client[600], helo[300], user[300], from[300], number[24],
            last[TIME_TEXT_MAX];
        monitor_client(rows[i], client, sizeof(client));
        (void)snprintf(number, sizeof(number), "%" PRIu64,
                       monitor_count(v, &rows[i]->tally));
        sheet_row(sheet, (const char *const[]){
                             without_bars(client), or_dash(rows[i]->helo, helo, 80),
                             or_dash(rows[i]->user, user, sizeof(user)),
                             or_dash(rows[i]->from, from, 120), number,
                             at_time(monitor_last(v, &rows[i]->tally), last) });
    }
    if (sheet)
        sheet_print(sheet);
    more(SHOWN, count, "senders");
    free(rows);
}

static void show_mailboxes(const struct monitor_view *v)
{
    static const char *const heads[] = { "mailbox", ">floaters", "last one", "status",
                                         ">waiting" };
    size_t count;
    const struct monitor_mailbox **rows = monitor_mailboxes(v, &count);
    struct sheet *sheet = count > 0 ? sheet_new(heads, 5) : NULL;
    if (sheet) {
        print("%s", "");
        print("mailboxes:");
    }
    for (size_t i = 0; sheet && i < count && i < SHOWN; i++) {
        char address[400], number[24], last[TIME_TEXT_MAX], waiting[24];
        (void)snprintf(number, sizeof(number), "%" PRIu64,
                       monitor_count(v, &rows[i]->tally));
        (void)snprintf(waiting, sizeof(waiting), "%" PRIu64, rows[i]->waiting);
        sheet_row(sheet, (const char *const[]){
                             or_dash(rows[i]->address, address, sizeof(address)), number,
                             at_time(monitor_last(v, &rows[i]->tally), last),
                             log_status_name(rows[i]->status), waiting });
    }
    if (sheet)
        sheet_print(sheet);
    more(SHOWN, count, "mailboxes");
    free(rows);
}

static void show_left_out(const struct monitor_view *v)
{
    const struct monitor_totals *t = &v->monitor->totals;
    if (t->probes > 0)
        print("not counted: %" PRIu64 " probes of sluice ping", t->probes);
    if (v->without_failures && t->tally.count[MONITOR_FAILED] > 0)
        print("not counted: %" PRIu64 " that DMARC fails",
              t->tally.count[MONITOR_FAILED]);
    else if (t->tally.count[MONITOR_FAILED] > 0)
        print("of these %" PRIu64 " fail DMARC (--without-dmarc-failures)",
              t->tally.count[MONITOR_FAILED]);
    if (t->false_probes > 0)
        print("counted: %" PRIu64 " with the mark of a probe, to mailboxes that no ping "
              "section has (--probe-to)",
              t->false_probes);
    if (t->rows_left > 0)
        print("%" PRIu64 " floaters have no row here: over %d mailboxes or senders",
              t->rows_left, MONITOR_ROWS_MAX);
}

void monitor_text(const struct monitor_view *v)
{
    const struct monitor_totals *t = &v->monitor->totals;
    char status[STATUS_MAX], begins[TIME_TEXT_MAX], ends[TIME_TEXT_MAX];
    monitor_status(v, status, sizeof(status));
    print("%s", status);
    if (t->begins != LOG_NO_TIME)
        print("log from %s to %s: %" PRIu64 " floaters, %" PRIu64 " delivered, %" PRIu64
              " waiting, %" PRIu64 " lost",
              at_time(t->begins, begins), at_time(t->ends, ends), v->floaters,
              t->delivered, v->waiting.waiting, t->lost);
    show_left_out(v);
    show_senders(v);
    show_mailboxes(v);
}

/* ---- JSON ------------------------------------------------------------------- */

static void doc_time(doc *object, const char *key, int64_t us)
{
    if (us == LOG_NO_TIME)
        doc_text(object, key, NULL);
    else
        doc_number(object, key, us / SECOND_US);
}

static void doc_tally(const struct monitor_view *v, doc *object,
                      const struct monitor_tally *tally)
{
    doc_number(object, "floaters", (int64_t)monitor_count(v, tally));
    doc_number(object, "dmarc_failures", (int64_t)tally->count[MONITOR_FAILED]);
    doc_time(object, "first", tally->first);
    doc_time(object, "last", monitor_last(v, tally));
}

static void doc_senders(const struct monitor_view *v, doc *array)
{
    size_t count;
    const struct monitor_sender **rows = monitor_senders(v, &count);
    for (size_t i = 0; i < count; i++) {
        doc *row = doc_add(array, doc_object());
        doc_text(row, "client", rows[i]->client);
        doc_text(row, "name", rows[i]->name);
        doc_text(row, "helo", rows[i]->helo);
        doc_text(row, "user", rows[i]->user);
        doc_text(row, "origin", rows[i]->origin);
        doc_text(row, "from", rows[i]->from);
        doc_text(row, "mailbox", rows[i]->mailbox);
        doc_tally(v, row, &rows[i]->tally);
    }
    free(rows);
}

static void doc_mailboxes(const struct monitor_view *v, doc *array)
{
    size_t count;
    const struct monitor_mailbox **rows = monitor_mailboxes(v, &count);
    for (size_t i = 0; i < count; i++) {
        doc *row = doc_add(array, doc_object());
        doc_text(row, "address", rows[i]->address);
        doc_text(row, "status", log_status_name(rows[i]->status));
        doc_number(row, "waiting", (int64_t)rows[i]->waiting);
        doc_text(row, "from", rows[i]->from);
        doc_tally(v, row, &rows[i]->tally);
    }
    free(rows);
}

static void doc_hours(const struct monitor_view *v, doc *array)
{
    for (size_t i = 0; i < v->monitor->hour_count; i++) {
        const struct monitor_hour *hour = &v->monitor->hours[i];
        doc *row = doc_add(array, doc_object());
        doc_number(row, "hour", hour->hour * 3600);
        doc_number(row, "floaters",
                   (int64_t)(hour->count[MONITOR_ALL] -
                             (v->without_failures ? hour->count[MONITOR_FAILED] : 0)));
        doc_number(row, "dmarc_failures", (int64_t)hour->count[MONITOR_FAILED]);
    }
}

doc *monitor_document(const struct monitor_view *v)
{
    const struct monitor_totals *t = &v->monitor->totals;
    doc *top = doc_object();
    doc_text(top, "state", monitor_state_name(v->state));
    doc_number(top, "exit", v->state);
    doc_text(top, "text", v->text);
    doc_number(top, "now", v->now);
    doc_number(top, "quiet_for", v->quiet_for);
    if (v->quiet < 0)
        doc_text(top, "quiet", NULL);
    else
        doc_number(top, "quiet", v->quiet);
    doc_tally(v, top, &t->tally);
    doc_number(top, "recent", (int64_t)v->recent);
    doc_number(top, "delivered", (int64_t)t->delivered);
    doc_number(top, "waiting", (int64_t)v->waiting.waiting);
    doc_number(top, "refused", (int64_t)v->waiting.refused);
    doc_number(top, "stuck", (int64_t)v->waiting.stuck);
    doc_time(top, "oldest_waiting", v->waiting.oldest);
    doc_number(top, "lost", (int64_t)t->lost);
    doc_time(top, "last_lost", t->last_lost);
    doc_number(top, "probes", (int64_t)t->probes);
    doc_number(top, "false_probes", (int64_t)t->false_probes);
    doc_number(top, "copies", (int64_t)t->copies);
    doc_time(top, "log_begins", t->begins);
    doc_time(top, "log_ends", t->ends);
    doc_number(top, "without_rows", (int64_t)t->rows_left);
    doc_senders(v, doc_put(top, "senders", doc_array()));
    doc_mailboxes(v, doc_put(top, "mailboxes", doc_array()));
    doc_hours(v, doc_put(top, "hours", doc_array()));
    return top;
}
