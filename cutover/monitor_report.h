/*
 * monitor_report: what the monitor's figures mean, as a Nagios status, as text, JSON
 * and HTML. Text from the log (senders, HELO, replies) is made harmless for each.
 */
#ifndef SLUICE_MONITOR_REPORT_H
#define SLUICE_MONITOR_REPORT_H

#include "monitor_count.h"
#include "output.h"

/* Exit codes of a monitoring plugin. */
enum monitor_state { MONITOR_QUIET, MONITOR_FLOATS, MONITOR_FAILS, MONITOR_UNKNOWN };

#define MONITOR_SILENT_S 86400 /* a log without mail for so long tells nothing */

struct monitor_view {
    struct monitor *monitor;
    int64_t now;           /* unix s */
    int quiet_for;         /* seconds */
    int failing_after;     /* seconds that a forward may be put off */
    bool without_failures; /* leave out what DMARC fails */
    uint64_t not_taken;    /* messages past log_flow's limits */
    const struct log_counts *counts;
    /* monitor_judge() */
    enum monitor_state state;
    struct monitor_waiting waiting;
    int64_t last;      /* unix s of the last floater; LOG_NO_TIME */
    int64_t quiet;     /* seconds without one, as far as the log goes; -1 */
    uint64_t floaters; /* in all */
    uint64_t recent;   /* within quiet_for, by whole hours */
    char text[640];    /* one line: what it is, and what to do */
};

void monitor_judge(struct monitor_view *view);

/* "SLUICE MONITOR WARNING - text | floaters=3 ...", the first line. */
void monitor_status(const struct monitor_view *view, char *out, size_t size);
void monitor_text(const struct monitor_view *view);
doc *monitor_document(const struct monitor_view *view);
/* false: no memory. To be freed. */
bool monitor_html(const struct monitor_view *view, char **text, size_t *len);

const char *monitor_state_name(enum monitor_state state); /* "OK", "WARNING", ... */

/* Rows in the order in which they are shown: the latest first. NULL: no memory, or
 * none; *count is 0 then. Freed by the caller. */
const struct monitor_sender **monitor_senders(const struct monitor_view *view,
                                              size_t *count);
const struct monitor_mailbox **monitor_mailboxes(const struct monitor_view *view,
                                                 size_t *count);
uint64_t monitor_count(const struct monitor_view *view,
                       const struct monitor_tally *tally);
int64_t monitor_last(const struct monitor_view *view, const struct monitor_tally *tally);
/* "mx.example.org [192.0.2.1]", "local submission on mx1". */
void monitor_client(const struct monitor_sender *row, char *out, size_t size);

#endif
