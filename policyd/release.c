/*
 * release: what is on hold or deferred for managed mailboxes, and what becomes
 * of it. release_decide.c has the decision, release_look.c and release_act.c the
 * two halves of a sweep; this file says when one is due and what is told of it.
 *
 * Pace. Looking (records, queue, lookups) is what costs a machine for nothing, so it
 * is followed by LOOK_REST times as long a rest. What is known to be ready does not
 * wait for that: after an event that frees mail, and after a sweep that released some,
 * whose records are to be settled, the rest is as long as the look was. The time that
 * postsuper takes is work done, and asks for no rest at all. All that an event frees
 * goes in one sweep, so the number of looks depends on events, never on messages.
 */
#include "release.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "release_sweep.h"

#define IDLE_MOST_MS   10000
#define AGAIN_FIRST_MS 300
#define AGAIN_MOST_MS  5000 /* qmgr's stale cache lasts 30 s at the most */
#define LOOK_REST      5
#define SPILL_FIRST_MS 1000
#define LEFT_ALARM_MS  600000

struct release *release_new(void)
{
    struct release *release = calloc(1, sizeof(*release));
    if (release)
        release->again_ms = AGAIN_FIRST_MS;
    return release;
}

void release_free(struct release *release)
{
    if (!release)
        return;
    free(release->moved.ids);
    free(release);
}

void release_figures(const struct release *release, struct release_figures *out)
{
    *out = release->figures;
}

void release_event(struct release *release, const struct event *event, int64_t now_ms)
{
    (void)now_ms;
    switch (event->op) {
    case EVENT_FLIP:
    case EVENT_UNLOCK:
    case EVENT_ROLLBACK:
    case EVENT_IMPORT:
    case EVENT_RECOVER:
    case EVENT_BASE:
        release->pressing = true;
        release->again_ms = AGAIN_FIRST_MS;
        break;
    default:
        break;
    }
}

bool release_due(const struct release *release, int64_t now_ms)
{
    bool ready = release->pressing || release->settling;
    if (now_ms < release->ended_ms + release->looked_ms * (ready ? 1 : LOOK_REST))
        return false;
    return release->pressing || now_ms >= release->due_ms;
}

/* ---- figures ---------------------------------------------------------------- */

void sweep_failed(struct sweep *sweep, const char *why)
{
    struct release_figures *figures = &sweep->release->figures;
    sweep->failed = true;
    if (!figures->error[0])
        snprintf(figures->error, sizeof(figures->error), "%.150s", why);
}

/* Messages that the other side has not taken yet. */
static void count_deferred(const struct sweep *sweep, struct release_figures *figures)
{
    figures->deferred = 0;
    figures->deferred_oldest = 0;
    for (size_t i = 0; i < sweep->message_count; i++) {
        const struct release_facts *facts = &sweep->messages[i].facts;
        if (facts->queue != QUEUE_DEFERRED ||
            facts->forward + facts->redirect <= facts->ours)
            continue;
        figures->deferred++;
        if (figures->deferred_oldest == 0 || facts->arrival < figures->deferred_oldest)
            figures->deferred_oldest = facts->arrival;
    }
}

static void count(struct sweep *sweep)
{
    struct release_figures *figures = &sweep->release->figures;
    figures->held = figures->loops = 0;
    figures->oldest = 0;
    for (size_t i = 0; i < sweep->record_count; i++) {
        const struct record *record = sweep->records[i];
        if (!record->on_hold || record->released)
            continue;
        figures->held++;
        figures->loops += record->held.kind == HELD_LOOP;
        /* What DMARC holds waits for a person, however long: it is not late. */
        if (record->held.kind != HELD_DMARC &&
            (figures->oldest == 0 || record->held.since < figures->oldest))
            figures->oldest = record->held.since;
    }
    for (size_t i = 0; i < sweep->message_count; i++)
        figures->held +=
            sweep->messages[i].action == RELEASE_HOLD &&
            !(sweep->messages[i].record && sweep->messages[i].record->on_hold);
    count_deferred(sweep, figures);
    figures->left = sweep->left;
    if (!sweep->failed)
        figures->error[0] = '\0';
    if (!sweep->failed && sweep->left == 0)
        figures->swept = sweep->env->epoch;
}

/* ---- the whole --------------------------------------------------------------- */

static void sweep_free(struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->record_count; i++) {
        free(sweep->records[i]->sender);
        free(sweep->records[i]->recipients);
        free(sweep->records[i]);
    }
    for (size_t i = 0; i < sweep->message_count; i++) {
        free(sweep->messages[i].sender);
        free(sweep->messages[i].recipients);
    }
    free(sweep->records);
    free(sweep->messages);
    free(sweep->routes);
}

/* Steps of one sweep. The records are read before the queue: one that comes
 * later belongs to the next sweep. */
static void sweep_once(struct sweep *sweep)
{
    sweep->release->figures.error[0] = '\0';
    sweep->routes = calloc(SWEEP_BATCH, sizeof(*sweep->routes));
    if (!sweep->routes) {
        sweep_failed(sweep, "out of memory");
        return;
    }
    if (!sweep_read_records(sweep) || !sweep_read_queue(sweep))
        return;
    sweep_decide(sweep);
    int64_t begun = sweep->now_ms();
    sweep_act(sweep);
    sweep->acted_ms = sweep->now_ms() - begun;
    sweep_look_for_missing(sweep);
    begun = sweep->now_ms();
    sweep_settle_records(sweep);
    sweep->acted_ms += sweep->now_ms() - begun;
    count(sweep);
}

/* Often enough that nothing expires between two sweeps. */
static int64_t idle_ms(const struct queue_settings *settings)
{
    int64_t least = settings->lifetime;
    if (settings->bounce_lifetime > 0 && settings->bounce_lifetime < least)
        least = settings->bounce_lifetime;
    int64_t idle = least * 1000 / 4;
    if (idle > IDLE_MOST_MS)
        idle = IDLE_MOST_MS;
    return idle < 1000 ? 1000 : idle;
}

static void schedule(struct release *release, const struct sweep *sweep, int64_t begun_ms,
                     int64_t ended_ms)
{
    int64_t wait = idle_ms(sweep->env->settings);
    if (sweep->failed || sweep->left > 0) {
        if (release->again_ms < wait)
            wait = release->again_ms;
        release->again_ms *= 2;
        if (release->again_ms > AGAIN_MOST_MS)
            release->again_ms = AGAIN_MOST_MS;
    } else {
        release->again_ms = AGAIN_FIRST_MS;
    }
    release->looked_ms = ended_ms - begun_ms - sweep->acted_ms;
    release->settling = sweep->released > 0;
    release->ended_ms = ended_ms;
    release->due_ms = ended_ms + wait;
}

/* When what keeps coming back may be requeued again. */
static void schedule_spill(struct release *release, const struct sweep *sweep,
                           int64_t ended_ms)
{
    if (sweep->spilled) {
        release->spill_wait_ms =
            release->spill_wait_ms ? release->spill_wait_ms * 2 : SPILL_FIRST_MS;
        if (release->spill_wait_ms > RELEASE_REQUEUE_MOST_S * 1000)
            release->spill_wait_ms = RELEASE_REQUEUE_MOST_S * 1000;
        release->spill_due_ms = ended_ms + release->spill_wait_ms;
    } else if (!sweep->failed && sweep->left == 0) {
        release->spill_wait_ms = release->spill_due_ms = 0;
    }
}

static void watch_left(struct release *release, int64_t now_ms)
{
    if (release->figures.left == 0) {
        release->left_since_ms = 0;
    } else if (release->left_since_ms == 0) {
        release->left_since_ms = now_ms;
    } else if (now_ms - release->left_since_ms > LEFT_ALARM_MS) {
        release->left_since_ms = now_ms;
        log_alarm("%llu messages of mailboxes that are not locked could not be released "
                  "for ten minutes: sluice held; sluice doctor",
                  (unsigned long long)release->figures.left);
    }
}

/* Once in a while as long as it lasts; nothing is bounced meanwhile. */
static void watch_refusals(struct release *release, const struct sweep *sweep,
                           int64_t now_ms)
{
    if (sweep->refused == 0 || now_ms < release->refused_due_ms)
        return;
    release->refused_due_ms = now_ms + LEFT_ALARM_MS;
    log_alarm("the other server refuses mail that was sent on to it, which is kept and "
              "tried again (%zu recipients): %s",
              sweep->refused, sweep->refusal);
}

void release_step(struct release *release, const struct release_env *env,
                  int64_t (*now_ms)(void))
{
    if (!release_due(release, env->now_ms))
        return;
    struct sweep sweep = { .release = release, .env = env, .now_ms = now_ms };
    int64_t begun = now_ms();
    char before[sizeof(release->figures.error)];
    memcpy(before, release->figures.error, sizeof(before));
    release->pressing = false;
    sweep_once(&sweep);
    schedule(release, &sweep, begun, now_ms());
    schedule_spill(release, &sweep, now_ms());
    log_debug("release: %zu records, %zu messages: looked for %lld ms, worked for %lld "
              "ms; %zu left",
              sweep.record_count, sweep.message_count, (long long)release->looked_ms,
              (long long)sweep.acted_ms, (size_t)sweep.left);
    watch_left(release, now_ms());
    watch_refusals(release, &sweep, now_ms());
    if (release->figures.error[0] && strcmp(before, release->figures.error) != 0)
        log_warnx("release: %s", release->figures.error);
    sweep_free(&sweep);
}
