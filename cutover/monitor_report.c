/*
 * monitor_report: what the monitor's figures mean (see monitor_report.h). Pure but for
 * memory; the clock is the view's.
 */
#include "monitor_report.h"

#include <inttypes.h>
#include <stdlib.h>

#define SECOND_US INT64_C(1000000)

const char *monitor_state_name(enum monitor_state state)
{
    static const char *const names[] = {
        [MONITOR_QUIET] = "OK",
        [MONITOR_FLOATS] = "WARNING",
        [MONITOR_FAILS] = "CRITICAL",
        [MONITOR_UNKNOWN] = "UNKNOWN",
    };
    return names[state];
}

uint64_t monitor_count(const struct monitor_view *view, const struct monitor_tally *tally)
{
    return tally->count[MONITOR_ALL] -
           (view->without_failures ? tally->count[MONITOR_FAILED] : 0);
}

int64_t monitor_last(const struct monitor_view *view, const struct monitor_tally *tally)
{
    return view->without_failures ? tally->last_clean : tally->last;
}

void monitor_client(const struct monitor_sender *row, char *out, size_t size)
{
    bool named = row->name[0] && strcmp(row->name, "unknown") != 0;
    if (row->client[0])
        (void)snprintf(out, size, "%.400s%s[%.100s]", named ? row->name : "",
                       named ? " " : "", row->client);
    else
        (void)snprintf(out, size, "%.400s", row->origin);
}

/* ---- order ----------------------------------------------------------------- */

static int order(int64_t left, int64_t right, const char *left_name,
                 const char *right_name)
{
    if (left != right)
        return left > right ? -1 : 1;
    return strcmp(left_name, right_name);
}

static int sender_order(const void *left, const void *right)
{
    const struct monitor_sender *a = *(const struct monitor_sender *const *)left;
    const struct monitor_sender *b = *(const struct monitor_sender *const *)right;
    int by = order(a->tally.last, b->tally.last, a->client, b->client);
    return by                         ? by
           : strcmp(a->user, b->user) ? strcmp(a->user, b->user)
                                      : strcmp(a->origin, b->origin);
}

static int mailbox_order(const void *left, const void *right)
{
    const struct monitor_mailbox *a = *(const struct monitor_mailbox *const *)left;
    const struct monitor_mailbox *b = *(const struct monitor_mailbox *const *)right;
    if ((a->waiting > 0) != (b->waiting > 0))
        return a->waiting > 0 ? -1 : 1;
    return order(a->tally.last, b->tally.last, a->address, b->address);
}

const struct monitor_sender **monitor_senders(const struct monitor_view *view,
                                              size_t *count)
{
    const struct monitor *m = view->monitor;
    const struct monitor_sender **rows = calloc(m->sender_count + 1, sizeof(*rows));
    *count = 0;
    for (size_t i = 0; rows && i < m->sender_count; i++)
        if (monitor_count(view, &m->senders[i].tally) > 0)
            rows[(*count)++] = &m->senders[i];
    if (*count > 0)
        qsort(rows, *count, sizeof(*rows), sender_order);
    return rows;
}

const struct monitor_mailbox **monitor_mailboxes(const struct monitor_view *view,
                                                 size_t *count)
{
    const struct monitor *m = view->monitor;
    const struct monitor_mailbox **rows = calloc(m->mailbox_count + 1, sizeof(*rows));
    *count = 0;
    for (size_t i = 0; rows && i < m->mailbox_count; i++)
        if (monitor_count(view, &m->mailboxes[i].tally) > 0)
            rows[(*count)++] = &m->mailboxes[i];
    if (*count > 0)
        qsort(rows, *count, sizeof(*rows), mailbox_order);
    return rows;
}

/* ---- judgement -------------------------------------------------------------- */

static int64_t in_seconds(int64_t us)
{
    return us == LOG_NO_TIME ? LOG_NO_TIME : us / SECOND_US;
}

static void say_failing(struct monitor_view *v)
{
    const struct monitor_waiting *w = &v->waiting;
    char since[DURATION_TEXT_MAX] = "";
    if (w->oldest != LOG_NO_TIME)
        duration_text(v->now - in_seconds(w->oldest), since);
    if (w->refused > 0 || w->stuck > 0)
        (void)snprintf(v->text, sizeof(v->text),
                       "%" PRIu64
                       " forward%s to the new server wait%s, the oldest for %s, "
                       "%" PRIu64 " refused: %.120s: %.200s",
                       w->waiting, w->waiting == 1 ? "" : "s", w->waiting == 1 ? "s" : "",
                       since, w->refused, w->mailbox, w->text);
    else
        (void)snprintf(
            v->text, sizeof(v->text),
            "%" PRIu64 " forwards came to nothing (expired or returned to the "
            "sender), the last %s ago: sluice audit names them",
            v->monitor->totals.lost,
            duration_text(v->now - in_seconds(v->monitor->totals.last_lost), since));
}

/* The last mailbox that got one. */
static void say_floating(struct monitor_view *v)
{
    char ago[DURATION_TEXT_MAX], limit[DURATION_TEXT_MAX];
    size_t count;
    const struct monitor_sender **rows = monitor_senders(v, &count);
    char client[600] = "?";
    if (count > 0)
        monitor_client(rows[0], client, sizeof(client));
    (void)snprintf(
        v->text, sizeof(v->text),
        "the old server still forwards: the last %s ago, from %.200s to %.120s "
        "(quiet is %s)",
        duration_text(v->quiet, ago), client, count > 0 ? rows[0]->mailbox : "?",
        duration_text(v->quiet_for, limit));
    free(rows);
}

static void say_quiet(struct monitor_view *v)
{
    char quiet[DURATION_TEXT_MAX], limit[DURATION_TEXT_MAX];
    duration_text(v->quiet, quiet);
    duration_text(v->quiet_for, limit);
    if (v->state == MONITOR_QUIET)
        (void)snprintf(v->text, sizeof(v->text), "nothing forwarded for %s (wanted: %s)",
                       quiet, limit);
    else if (v->waiting.waiting > 0)
        (void)snprintf(v->text, sizeof(v->text),
                       "%" PRIu64 " forwarded before are not yet delivered",
                       v->waiting.waiting);
    else
        (void)snprintf(v->text, sizeof(v->text),
                       "nothing forwarded, but the log is known for %s only (wanted: %s)",
                       quiet, limit);
}

static bool is_unknown(struct monitor_view *v)
{
    const struct monitor_totals *t = &v->monitor->totals;
    char ago[DURATION_TEXT_MAX];
    int64_t silent = t->ends == LOG_NO_TIME ? 0 : v->now - in_seconds(t->ends);
    if (v->monitor->no_memory)
        (void)snprintf(v->text, sizeof(v->text),
                       "out of memory: the figures are not whole");
    else if (v->not_taken > 0)
        (void)snprintf(v->text, sizeof(v->text),
                       "%" PRIu64
                       " messages were too many to follow at once: the figures "
                       "are not whole",
                       v->not_taken);
    else if (t->begins == LOG_NO_TIME && v->counts && v->counts->lines > 0 &&
             v->counts->foreign == v->counts->lines)
        (void)snprintf(v->text, sizeof(v->text),
                       "no line of these files is a mail log's");
    else if (t->begins == LOG_NO_TIME)
        (void)snprintf(v->text, sizeof(v->text),
                       "no mail in the log: is it the one that the MTA writes?");
    else if (silent > MONITOR_SILENT_S)
        (void)snprintf(
            v->text, sizeof(v->text),
            "the log's last mail is %s old: is it the one that the MTA writes?",
            duration_text(silent, ago));
    else
        return false;
    return true;
}

void monitor_judge(struct monitor_view *v)
{
    const struct monitor_totals *t = &v->monitor->totals;
    int64_t last = monitor_last(v, &t->tally), lost = in_seconds(t->last_lost);
    monitor_look(v->monitor, (v->now - v->failing_after) * SECOND_US, &v->waiting);
    v->last = in_seconds(last);
    v->floaters = monitor_count(v, &t->tally);
    int64_t from = (v->now - v->quiet_for) * SECOND_US;
    v->recent =
        monitor_since(v->monitor, MONITOR_ALL, from) -
        (v->without_failures ? monitor_since(v->monitor, MONITOR_FAILED, from) : 0);
    int64_t begins = in_seconds(t->begins), since = v->last;
    if (since == LOG_NO_TIME || since < begins)
        since = begins;
    v->quiet = since == LOG_NO_TIME ? -1 : v->now > since ? v->now - since : 0;
    bool failing = v->waiting.refused > 0 || v->waiting.stuck > 0 ||
                   (lost != LOG_NO_TIME && v->now - lost < v->quiet_for);
    if (is_unknown(v)) {
        v->state = MONITOR_UNKNOWN;
    } else if (failing) {
        v->state = MONITOR_FAILS;
        say_failing(v);
    } else if (v->last != LOG_NO_TIME && v->now - v->last < v->quiet_for) {
        v->state = MONITOR_FLOATS;
        v->quiet = v->now > v->last ? v->now - v->last : 0;
        say_floating(v);
    } else {
        v->state = v->quiet >= v->quiet_for && v->waiting.waiting == 0 ? MONITOR_QUIET
                                                                       : MONITOR_FLOATS;
        say_quiet(v);
    }
    out_harmless(v->text);
}

/* ---- the first line ---------------------------------------------------------- */

void monitor_status(const struct monitor_view *v, char *out, size_t size)
{
    char text[sizeof(v->text)];
    (void)snprintf(text, sizeof(text), "%s", v->text);
    for (char *c = text; *c; c++) /* what follows '|' is performance data */
        if (*c == '|')
            *c = '/';
    int used = snprintf(out, size, "SLUICE MONITOR %s - %s | ",
                        monitor_state_name(v->state), text);
    if (used < 0 || (size_t)used >= size)
        return;
    char quiet[48] = "U";
    if (v->quiet >= 0)
        (void)snprintf(quiet, sizeof(quiet), "%" PRId64 "s", v->quiet);
    (void)snprintf(out + used, size - (size_t)used,
                   "quiet=%s;%d:;;0 floaters=%" PRIu64 "c;;;0 recent=%" PRIu64
                   ";0;;0 waiting=%" PRIu64 ";;;0 refused=%" PRIu64 ";;0;0 stuck=%" PRIu64
                   ";;0;0 lost=%" PRIu64 "c;;;0 senders=%zu;;;0 mailboxes=%zu;;;0",
                   quiet, v->quiet_for, v->floaters, v->recent, v->waiting.waiting,
                   v->waiting.refused, v->waiting.stuck, v->monitor->totals.lost,
                   v->monitor->sender_count, v->monitor->mailbox_count);
}
