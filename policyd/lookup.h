/*
 * lookup: asynchronous lookups of homes on the libevent loop. All lookups of
 * one loop turn go to Redis as one pipelined batch behind one check of the
 * history (lib/store.h); each is answered within conf->lookup_timeout, failed
 * at the latest then. After a failure the circuit is open: lookups fail at
 * once until a background probe has connected again.
 *
 * Everything but lookups_started(), lookups_answered() and lookups_figures() belongs
 * to the thread of the loop.
 */
#ifndef SLUICE_LOOKUP_H
#define SLUICE_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "conf.h"
#include "journal.h"
#include "route.h"

struct event_base;
struct lookups;
struct query;

/* route.lookup and route.home are set (route_finish() is the caller's). Never
 * called from inside lookup_start(). */
typedef void lookup_done(struct query *query);

/* Part of the caller's request; from lookup_start() until lookup_handed() it
 * must stay where it is. */
struct query {
    struct route route; /* prepared */
    struct conf *conf;  /* the configuration it was prepared with; caller's */
    lookup_done *done;
    /* private */
    uint64_t number;
    bool waiting;                 /* done() is still to come */
    TAILQ_ENTRY(query) open;      /* begun, not handed over */
    STAILQ_ENTRY(query) in_batch; /* waiting for Redis */
};

/* Does not wait for a connection. head may be NULL: no history to compare
 * with; it must outlive the lookups. NULL: no memory. */
struct lookups *lookups_new(struct event_base *base, struct conf *conf,
                            struct journal_reader *head);
/* Every waiting lookup is answered FAILED first. NULL is fine. */
void lookups_free(struct lookups *lookups);
/* Takes the new time limit; connects again when the Redis address or its
 * credentials are others. */
void lookups_reload(struct lookups *lookups, struct conf *conf);

/* true: done() will be called, and the caller must call lookup_handed() when
 * the answer has been handed to the kernel or its connection is closed.
 * false: FAILED at once (circuit open, or too many in flight): route.lookup is
 * set, neither of the two follows. */
bool lookup_start(struct lookups *lookups, struct query *query);
/* May come before done() (the client went away): then done() still comes, and
 * the query must stay until it does. */
void lookup_handed(struct lookups *lookups, struct query *query);

/* For the fence, from any thread. Number of the last lookup begun; a lookup
 * with a higher number is sent to Redis after this call. */
uint64_t lookups_started(const struct lookups *lookups);
/* Every lookup up to this number has been answered and its answer handed to
 * the kernel, or its connection closed. */
uint64_t lookups_answered(const struct lookups *lookups);

/* What became of all lookups since the start, from any thread. */
#define LOOKUP_BUCKETS 12
extern const uint32_t lookup_bucket_us[LOOKUP_BUCKETS];
struct lookup_figures {
    uint64_t found, absent, failed;
    uint64_t outages;   /* how often Redis was lost */
    uint64_t refusals;  /* batches whose history was not this host's */
    /* Of those that Redis answered: how many within lookup_bucket_us[i] (and not
     * within the one before), the last one: later. */
    uint64_t bucket[LOOKUP_BUCKETS + 1];
    uint64_t sum_us;
};
void lookups_figures(const struct lookups *lookups, struct lookup_figures *out);

/* Whether lookups go to Redis at present (not: circuit open). */
bool lookups_up(const struct lookups *lookups);
/* Whether the first attempt to connect has ended, well or not. */
bool lookups_tried(const struct lookups *lookups);

#endif
