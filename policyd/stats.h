/*
 * stats: policyd's third thread, which asks the store how the move stands (status.h),
 * writes that down as the documents that http.h serves, and watches for alarms
 * (alarm.h), the dead-man switch among them. The loop only hands out bytes that are
 * ready, so a page costs it the same with ten mailboxes as with millions.
 *
 * Asked every second while somebody looks, every STATS_IDLE_MS otherwise; and, up to
 * a pause of half a minute, never more than a twentieth of the time, however large the
 * store.
 */
#ifndef SLUICE_POLICYD_STATS_H
#define SLUICE_POLICYD_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "journal.h"
#include "lookup.h"

#define STATS_EVERY_MS  1000
#define STATS_IDLE_MS   10000
#define STATS_WANTED_MS 60000 /* so long after a request somebody looks */
#define STATS_STALE_MS  60000 /* older documents are a fault of the thread */

struct stats;

/* Starts the thread; conf is referenced; lookups must outlive it. NULL: logged. */
struct stats *stats_start(struct conf *conf, struct lookups *lookups);
void stats_reload(struct stats *stats, struct conf *conf);
/* Ends the thread (within some seconds, when Redis does not answer) and frees. NULL is
 * fine. */
void stats_stop(struct stats *stats);

/* What was made last. Immutable and counted. */
struct stats_page {
    char *json, *metrics;
    size_t json_len, metrics_len;
    int64_t made_ms; /* monotonic */
    bool up;
    char health[512]; /* one line: "ok", or what is wrong */
    unsigned refs;
};
/* NULL: nothing yet. Also says that somebody looks. Thread-safe. */
struct stats_page *stats_take(struct stats *stats);
struct stats_page *stats_page_ref(struct stats_page *page);
void stats_page_unref(struct stats_page *page); /* NULL is fine */

#endif
