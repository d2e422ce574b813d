/*
 * fence: when a lock is complete on this host.
 *
 * Events that lock mailboxes are gathered into generations; each generation
 * goes through its stages, and the host's fenced epoch is the highest one such
 * that nothing at or below it is still under way:
 *
 *     SELFTEST   the host's own gate answers "held" for the locked addresses
 *     CACHES     what resolved an address before the lock has forgotten it
 *     DRAIN      what was resolved before that has been delivered or deferred
 *
 * All I/O and the clock come in through struct fence_ports; the keeper thread
 * is the only caller.
 */
#ifndef SLUICE_POLICYD_FENCE_H
#define SLUICE_POLICYD_FENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "home.h"

struct fence;

enum fence_answer { FENCE_YES, FENCE_NOT_YET, FENCE_FAILED };

/* One message of the queue. settled: it was seen in deferred or hold. */
struct fence_message {
    const char *id;
    bool in_flight; /* in incoming or active */
    bool settled;   /* in deferred or hold */
    bool relevant;  /* may be on its way into a locked mailbox; set only when
                       judging, and only for one in flight */
};
typedef void fence_message_fn(void *context, const struct fence_message *message);

struct fence_ports {
    void *context;
    int64_t (*now_ms)(void *context); /* monotonic */
    /* lookup.h: number of the last lookup begun, and of the last before which
     * all are answered */
    uint64_t (*lookups_started)(void *context);
    uint64_t (*lookups_answered)(void *context);
    /* Milliseconds that the MTA may go on with an answer of ours before its
     * cache's time begins, besides those in FENCE_CACHE_MS. */
    int64_t (*cache_slack)(void *context);
    /* Whether the gate holds those of the addresses that are locked now.
     * NOT_YET and FAILED: why says what is wrong; asked again later. */
    enum fence_answer (*selftest)(void *context, const char *domain,
                                  const char *const *locals, size_t n, char *why,
                                  size_t why_size);
    /* fence = reload: begins it; then settled() is asked until YES, when no
     * process that may remember an address is left from before. */
    enum fence_answer (*reload)(void *context, char *why, size_t why_size);
    enum fence_answer (*settled)(void *context, char *why, size_t why_size);
    /* fence = reload: YES when no process that delivers is left from before: then
     * nothing in the queue matters. */
    enum fence_answer (*quiet)(void *context);
    /* Calls each() for every message in the queue. */
    bool (*list)(void *context, bool judge, fence_message_fn *each, void *each_context,
                 char *why, size_t why_size);
};

/* Everything up to the epoch `confirmed` is fenced already. NULL: memory. */
struct fence *fence_new(const struct fence_ports *ports, enum conf_fence mode,
                        uint64_t confirmed);
void fence_free(struct fence *fence);
void fence_set_mode(struct fence *fence, enum conf_fence mode);

/* The next event of the history (after it was journaled); what is confirmed
 * already is skipped. false: memory; the event must be given again. */
bool fence_event(struct fence *fence, const struct event *event);
/* The journal stands at this epoch: after a base (EVENT_BASE records share a
 * position), or at the start. */
void fence_reached(struct fence *fence, uint64_t epoch);
/* Does what is due. Blocks for as long as the ports do. */
void fence_step(struct fence *fence);
/* Failed self-tests are tried again at the next step (configuration reloaded). */
void fence_retry(struct fence *fence);

/* Every lock up to this epoch is complete. */
uint64_t fence_epoch(const struct fence *fence);
/* Generations under way. */
size_t fence_pending(const struct fence *fence);
/* What the fence waits for, "" when nothing. */
void fence_state(const struct fence *fence, char *out, size_t size);

/* Milliseconds; for the tests. */
#define FENCE_JOIN_MS        250
#define FENCE_JOIN_RELOAD_MS 500
#define FENCE_JOIN_MOST_MS   5000
/* Postfix resolve_clnt.c, RES_CLNT cache: 30 s from the reply; 2 s for the
 * reply's way from our socket through trivial-rewrite. */
#define FENCE_CACHE_MS       32000
#define FENCE_LIST_FIRST_MS  100
#define FENCE_LIST_MOST_MS   1000
#define FENCE_RETRY_FIRST_MS 250
#define FENCE_RETRY_MOST_MS  2000

#endif
