/*
 * The decision about each message in the queue, a table in if-form:
 *
 *   hold, no record      somebody else's: nothing, ever
 *   hold, loop or DMARC  nothing: released by a person
 *   hold, lock record    any recipient not locked: release. The transport map
 *                        goes on holding the others
 *   deferred             all recipients locked: on hold again (it must not
 *                        expire), the record first
 *                        a redirected recipient: requeue, so that virtual
 *                        aliasing runs again
 *                        deferred by sluice-hold and not locked: try now
 *                        older than half its lifetime and managed: alarm, and
 *                        requeue, which makes it new
 *
 * A requeue costs a Received: header, and hopcount_limit (50) bounces.  A
 * message that comes back with its old address although it was requeued (the
 * virtual alias map is not wired) is requeued again only when as much time has
 * gone by as before the last time: RELEASE_REQUEUE_MOST_S at the most.
 */
#include "release.h"

const char *release_action_name(enum release_action action)
{
    static const char *const names[] = {
        [RELEASE_NOTHING] = "nothing", [RELEASE_RELEASE] = "release",
        [RELEASE_HOLD] = "hold",       [RELEASE_FLUSH] = "flush",
        [RELEASE_REQUEUE] = "requeue",
    };
    return names[action];
}

static void decide_on_hold(const struct release_facts *facts,
                           struct release_decision *out)
{
    size_t free_ones =
        facts->unmanaged + facts->deliver + facts->forward + facts->redirect;
    if (facts->record != RECORD_LOCK)
        return;
    if (free_ones > 0 || facts->hold + facts->later == 0) {
        out->action = RELEASE_RELEASE;
        out->left = true;
    }
}

/* Whether as much time has passed since the last requeue as before it. */
static bool requeue_again(const struct release_facts *facts)
{
    int64_t wait = facts->created - facts->arrival;
    if (wait > RELEASE_REQUEUE_MOST_S)
        wait = RELEASE_REQUEUE_MOST_S;
    return facts->now - facts->created >= wait;
}

static void decide_on_deferred(const struct release_facts *facts,
                               struct release_decision *out)
{
    size_t managed = facts->hold + facts->forward + facts->redirect;
    size_t others = facts->unmanaged + facts->deliver + facts->forward + facts->redirect +
                    facts->later;
    if (facts->record == RECORD_LOOP)
        return;
    if (facts->hold > 0 && others == 0) {
        out->action = RELEASE_HOLD;
        return;
    }
    out->stale = facts->record == RECORD_LOCK;
    /* With bounce_queue_lifetime = 0 the first failure is the last one. */
    out->alarm = managed > 0 && facts->lifetime > 0 &&
                 facts->now - facts->created >= (facts->lifetime + 1) / 2;
    out->left = facts->redirect > 0 || facts->ours > 0;
    if (out->alarm || (facts->redirect > 0 && requeue_again(facts)))
        out->action = RELEASE_REQUEUE;
    else if (facts->redirect == 0 && facts->ours > 0)
        out->action = RELEASE_FLUSH;
}

struct release_decision release_decide(const struct release_facts *facts)
{
    struct release_decision out = { .undecided = facts->later > 0 };
    if (facts->queue == QUEUE_HOLD)
        decide_on_hold(facts, &out);
    else if (facts->queue == QUEUE_DEFERRED)
        decide_on_deferred(facts, &out);
    return out;
}

enum record_fate release_fate(int64_t gone_since, int64_t now)
{
    if (gone_since == 0)
        return FATE_MARK;
    return now - gone_since >= RELEASE_GONE_S ? FATE_DROP : FATE_KEEP;
}
