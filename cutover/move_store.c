/*
 * move_store: what a cutover changes in the store. See move.h.
 *
 * Every change may end uncertain (Redis went away before it answered): it is
 * made again, which is safe, until --give-up is over. Nothing is taken for done
 * that was not confirmed. A flip carries the epoch of its lock, so a mailbox
 * that somebody unlocked meanwhile is not flipped, but listed.
 *
 * Messages: batch locked, fence confirmed, hosts that are silent, the store gone
 * and back.
 */
#include "config.h"

#include "clock.h"
#include "move.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "transition.h"

#define LOOK_MS           200  /* between two looks at the fence */
#define RETRY_MS          1000 /* between two tries when the store is gone */
#define REFENCE_MAX       3
#define DYING_MS          2000 /* a process that was killed has gone */
#define RETRY_DYING_MS    100
#define ABORT_PATIENCE_MS 3000 /* for the store, when the syncs are stopped too */

static int64_t store_clock(const struct move *move)
{
    return clock_ms() + move->offset_ms;
}

/* ---- outages --------------------------------------------------------------------- */

static void store_gone(struct move *move, int64_t now)
{
    const char *why = store_error(move->context->store);
    move->retry_at = clock_ms() + RETRY_MS;
    if (move->outage_since == 0) {
        move->outage_since = now;
        message("%s; running syncs go on, trying again for %d s", why,
                move->options.give_up);
    } else if (now - move->outage_since > (int64_t)move->options.give_up * 1000 &&
               move->stop != MOVE_ABORTS) {
        message("%s; given up after %d s", why, move->options.give_up);
        move_stop(move, MOVE_ABORTS, EXIT_SERVICE, now);
    }
}

static void store_back(struct move *move)
{
    if (move->outage_since != 0)
        notice("the store answers again");
    move->outage_since = 0;
}

/* Whether a change was made; notes an outage. */
static bool committed(struct move *move, enum commit commit, int64_t now)
{
    if (commit == COMMIT_DONE)
        store_back(move);
    else
        store_gone(move, now);
    return commit == COMMIT_DONE;
}

/* Given up: what could not be written stays as it is, and is said. */
static void leave_unwritten(struct move *move)
{
    size_t box;
    while ((box = plan_first(&move->plan, STEP_SYNCED)) != PLAN_NONE) {
        move->plan.boxes[box].stays_locked = true;
        move_set(move, box, STEP_LEFT, "copied but not flipped; it stays locked");
    }
    while ((box = plan_first(&move->plan, STEP_UNLOCKING)) != PLAN_NONE) {
        move->plan.boxes[box].stays_locked = true;
        move_set(move, box, move->plan.boxes[box].after, "%s; it may still be locked",
                 move->plan.boxes[box].reason ? move->plan.boxes[box].reason : "");
    }
}

/* ---- lease ------------------------------------------------------------------------- */

int move_take_lease(struct move *move)
{
    struct lease *lease = &move->lease;
    struct store *store = move->context->store;
    enum commit commit = lease_take(lease, store);
    /* One that was just killed may need a moment to go. */
    for (int i = 0; i < DYING_MS / RETRY_DYING_MS && commit == COMMIT_REFUSED &&
                    lease_is_here(lease) && command_sleep(RETRY_DYING_MS);
         i++)
        commit = lease_take(lease, store);
    if (commit == COMMIT_DONE)
        return EXIT_DONE;
    if (commit == COMMIT_REFUSED) {
        message("another cutover of %s is running: %s (if it is dead, try again in %d s)",
                move->domain->name, lease->other, MOVE_LEASE_S);
        return EXIT_AGAIN;
    }
    message("%s", store_error(move->context->store));
    return EXIT_SERVICE;
}

void move_drop_lease(struct move *move)
{
    lease_drop(&move->lease, move->context->store);
}

static void renew_lease(struct move *move, int64_t now)
{
    enum commit commit = lease_take(&move->lease, move->context->store);
    if (commit == COMMIT_REFUSED) {
        message("another cutover of %s took over: %s; stopping", move->domain->name,
                move->lease.other);
        move_stop(move, MOVE_ABORTS, EXIT_AGAIN, now);
        leave_unwritten(move);
    } else {
        committed(move, commit, now);
    }
}

/* ---- changes -------------------------------------------------------------------------
 */

/* The first mailboxes of a step as one change. Returns their number. */
struct chunk {
    size_t boxes[EVENT_ITEMS_MAX];
    struct change_item items[EVENT_ITEMS_MAX];
    struct change_result result;
    size_t n;
};

static void gather(const struct move *move, enum step step, size_t most, bool with_epoch,
                   struct chunk *chunk)
{
    chunk->n = 0;
    size_t box = plan_first(&move->plan, step);
    for (; box != PLAN_NONE && chunk->n < most && chunk->n < EVENT_ITEMS_MAX;
         box = move->plan.boxes[box].next) {
        const struct mailbox *m = &move->plan.boxes[box];
        chunk->boxes[chunk->n] = box;
        chunk->items[chunk->n++] = (struct change_item){
            .local = m->local,
            .expect_epoch = with_epoch ? m->epoch : 0,
        };
    }
}

static enum commit make_change(struct move *move, enum event_op op, struct chunk *chunk)
{
    struct change change = {
        .op = op,
        .domain = move->domain->name,
        .items = chunk->items,
        .count = chunk->n,
        .without = move->options.without.items,
    };
    return store_change(move->context->store, &change, &chunk->result);
}

/* ---- lock
 * ------------------------------------------------------------------------------ */

static void lock_item(struct move *move, struct chunk *chunk, size_t i)
{
    size_t box = chunk->boxes[i];
    struct mailbox *m = &move->plan.boxes[box];
    const struct home *before = &chunk->result.before[i];
    switch (chunk->result.status[i]) {
    case CHANGE_MADE:
        m->epoch = chunk->result.epoch;
        m->locked_ms = store_clock(move);
        m->found_locked = false;
        break;
    case CHANGE_ALREADY:
        /* After an uncertain lock it is ours. */
        m->found_locked = !m->unsure;
        m->epoch = before->epoch;
        m->locked_ms = before->since * 1000;
        break;
    case CHANGE_UNLISTED:
        move_set(move, box, STEP_FAILED, "it is not listed any more");
        return;
    default:
        if (before->state == HOME_NEW)
            move_set(move, box, STEP_ALREADY, "flipped by somebody else meanwhile");
        else
            move_set(move, box, STEP_FAILED, "%s",
                     transition_refusal(EVENT_LOCK, before->state, before->rollback));
        return;
    }
    m->unsure = false;
    if (m->epoch > move->fence_epoch)
        move->fence_epoch = m->epoch;
    move_set(move, box, STEP_LOCKED, NULL);
}

/* One chunk of at most `most` mailboxes. Returns the number taken; 0: failed. */
static size_t lock_chunk(struct move *move, size_t most, struct chunk *chunk, int64_t now)
{
    gather(move, STEP_READY, most, false, chunk);
    enum commit commit = make_change(move, EVENT_LOCK, chunk);
    move->relock = false;
    if (!committed(move, commit, now)) {
        if (commit == COMMIT_UNCERTAIN) {
            move->relock = true;
            for (size_t i = 0; i < chunk->n; i++)
                move->plan.boxes[chunk->boxes[i]].unsure = true;
        }
        return 0;
    }
    for (size_t i = 0; i < chunk->n; i++)
        lock_item(move, chunk, i);
    return chunk->n;
}

/* Mailboxes at the head of the list that are locked already: their mail waits,
 * so they come at once and all together. */
static size_t found_locked(const struct move *move)
{
    size_t n = 0, box = plan_first(&move->plan, STEP_READY);
    for (; box != PLAN_NONE && move->plan.boxes[box].found_locked;
         box = move->plan.boxes[box].next)
        n++;
    return n;
}

double move_rate(const struct move *move, int64_t now)
{
    const struct conf_sync *sync = &move->context->conf->sync;
    size_t jobs = (size_t)(move->options.jobs ? move->options.jobs : sync->jobs);
    if (move->first_sync_ms == 0)
        return 0;
    /* The shortest syncs end first: not to be trusted before a whole round. */
    double elapsed = (double)(now - move->first_sync_ms) / 1000;
    if (move->synced < jobs && elapsed < move->last_fence_s && run_count(move->jobs) > 0)
        return 0;
    double each = move->synced > 0 ? move->sync_s : elapsed;
    return (double)jobs / (each > 0.001 ? each : 0.001);
}

static size_t batch_size(const struct move *move, int64_t now)
{
    const struct conf_sync *sync = &move->context->conf->sync;
    return plan_batch_size(move->options.jobs ? move->options.jobs : sync->jobs,
                           move_rate(move, now), move->last_fence_s,
                           (size_t)move->options.batch);
}

static bool time_to_lock(const struct move *move, int64_t now)
{
    const struct plan *plan = &move->plan;
    if (move->stop != MOVE_GOES_ON || plan_count(plan, STEP_READY) == 0)
        return false;
    if (move->relock)
        return true;
    if (plan_count(plan, STEP_LOCKED) > 0)
        return false;
    /* A batch is worth a fence: while answers come in, wait for enough. */
    size_t want = batch_size(move, now);
    if (plan_count(plan, STEP_UNPROBED) > 0 && plan_count(plan, STEP_READY) < want)
        return false;
    size_t remaining = plan_count(plan, STEP_QUEUED) + plan_count(plan, STEP_SYNCING);
    return plan_lock_now(remaining, move_rate(move, now), move->last_fence_s);
}

static bool own_in(const struct move *move, enum step step)
{
    return move->own != PLAN_NONE && move->plan.boxes[move->own].step == step;
}

/* In the batch ahead, without the domain's own record. */
static size_t locked_mailboxes(const struct move *move)
{
    return plan_count(&move->plan, STEP_LOCKED) - own_in(move, STEP_LOCKED);
}

static void lock_next(struct move *move, struct chunk *chunk, int64_t now)
{
    if (!time_to_lock(move, now))
        return;
    size_t before = found_locked(move);
    size_t want = batch_size(move, now);
    if (before > want)
        want = before;
    bool own_too = own_in(move, STEP_READY);
    if (own_too) /* it comes with all of the rest */
        want = plan_count(&move->plan, STEP_READY);
    if (plan_count(&move->plan, STEP_LOCKED) == 0) {
        move->fence_epoch = 0;
        move->batches++;
        move->fence_began_ms = now;
    }
    move->fenced = false;
    move->look_at = now;
    snprintf(move->waits_for, sizeof(move->waits_for), "begins");
    for (size_t done = 0; done < want && plan_count(&move->plan, STEP_READY) > 0;) {
        size_t taken = lock_chunk(move, want - done, chunk, now);
        if (taken == 0)
            break;
        done += taken;
    }
    if (own_too && own_in(move, STEP_LOCKED))
        notice("all other addresses of %s are locked too; they follow the last mailbox",
               move->domain->name);
    size_t locked = locked_mailboxes(move);
    if (locked > 0)
        notice("batch %zu: %zu locked, waiting until every MTA host has confirmed it "
               "(about %.0f s)",
               move->batches, locked, move->last_fence_s);
}

/* ---- fence
 * ------------------------------------------------------------------------------- */

static void fence_over(struct move *move, int64_t now)
{
    double seconds = (double)(now - move->fence_began_ms) / 1000;
    move->fenced = true;
    move->fences++;
    move->all_fences_s += seconds;
    /* One that was over before we came says nothing about the next. */
    if (seconds > 1)
        move->last_fence_s = seconds;
    if (locked_mailboxes(move) > 0)
        notice("batch %zu: fence confirmed after %.1f s", move->batches, seconds);
}

static void look_at_fence(struct move *move, int64_t now)
{
    if (move->fenced || plan_count(&move->plan, STEP_LOCKED) == 0 || now < move->look_at)
        return;
    struct fence_view view;
    fence_look(move->context->store, move->fence_epoch, move->options.without.items,
               &view);
    move->look_at = clock_ms() + LOOK_MS;
    if (view.answer == FENCE_UNKNOWN) {
        store_gone(move, now);
        return;
    }
    store_back(move);
    if (view.answer == FENCE_CONFIRMED) {
        fence_over(move, now);
        return;
    }
    snprintf(move->waits_for, sizeof(move->waits_for), "waits for %.900s",
             view.answer == FENCE_NOBODY ? "a registered host" : view.waiting);
    if (strcmp(move->silent, view.silent) != 0) {
        memcpy(move->silent, view.silent, sizeof(move->silent));
        if (view.silent[0] != '\0')
            message(
                "the fence waits for %s: no sign of life; start sluice-policyd there, or "
                "stop (Ctrl-C) and repeat with --without-host",
                view.silent);
    }
    if (now - move->fence_began_ms > (int64_t)move->options.give_up * 1000) {
        message("the fence is not confirmed after %d s, it %s; stopping",
                move->options.give_up, move->waits_for);
        move_stop(move, MOVE_DRAINS, EXIT_AGAIN, now);
    }
}

void move_promote(struct move *move)
{
    struct plan *plan = &move->plan;
    if (!move->fenced || plan_count(plan, STEP_QUEUED) > 0)
        return;
    size_t box;
    while ((box = plan_first(plan, STEP_LOCKED)) != PLAN_NONE)
        move_set(move, box, box == move->own ? STEP_PARKED : STEP_QUEUED, NULL);
}

/* ---- flip and unlock
 * ------------------------------------------------------------------------ */

/* A host that was registered after the fence: what it delivered in between is
 * not copied. Once more, from the fence on. */
static void fence_again(struct move *move, size_t box, int64_t now)
{
    struct mailbox *m = &move->plan.boxes[box];
    if (++m->tries > REFENCE_MAX || move->stop != MOVE_GOES_ON) {
        move_give_up(move, box, STEP_FAILED, !m->found_locked && !move->lease.lost,
                     "a host has not confirmed its fence: %s", move->waits_for);
        return;
    }
    notice(
        "%s: a host came that has not confirmed the fence; waiting for it, then syncing "
        "again",
        box == move->own ? move->domain->name : m->address);
    if (plan_count(&move->plan, STEP_LOCKED) == 0) {
        move->fence_epoch = 0;
        move->fence_began_ms = now;
    }
    if (m->epoch > move->fence_epoch)
        move->fence_epoch = m->epoch;
    move->fenced = false;
    move->look_at = now;
    move_set(move, box, STEP_LOCKED, NULL);
}

static void flip_item(struct move *move, struct chunk *chunk, size_t i, int64_t now)
{
    size_t box = chunk->boxes[i];
    struct mailbox *m = &move->plan.boxes[box];
    enum change_status status = chunk->result.status[i];
    const struct home *before = &chunk->result.before[i];
    if (status == CHANGE_MADE || status == CHANGE_ALREADY) {
        uint64_t epoch = status == CHANGE_MADE ? chunk->result.epoch : before->epoch;
        if (epoch > move->last_flip)
            move->last_flip = epoch;
        m->flipped_ms = store_clock(move);
        move_set(move, box, STEP_MOVED, NULL);
    } else if (status == CHANGE_FENCE) {
        fence_again(move, box, now);
    } else if (status == CHANGE_UNLISTED) {
        move_set(move, box, STEP_FAILED, "copied, but it is not listed any more");
    } else {
        move_set(move, box, STEP_FAILED,
                 "copied, but somebody else changed it meanwhile (now %s): not flipped",
                 home_state_name(before->state));
    }
}

static void flip_synced(struct move *move, struct chunk *chunk, int64_t now)
{
    gather(move, STEP_SYNCED, EVENT_ITEMS_MAX, true, chunk);
    if (chunk->n == 0 || !committed(move, make_change(move, EVENT_FLIP, chunk), now))
        return;
    for (size_t i = 0; i < chunk->n; i++)
        flip_item(move, chunk, i, now);
}

static void unlock_some(struct move *move, struct chunk *chunk, int64_t now)
{
    gather(move, STEP_UNLOCKING, EVENT_ITEMS_MAX, true, chunk);
    if (chunk->n == 0 || !committed(move, make_change(move, EVENT_UNLOCK, chunk), now))
        return;
    for (size_t i = 0; i < chunk->n; i++) {
        size_t box = chunk->boxes[i];
        const struct mailbox *m = &move->plan.boxes[box];
        enum change_status status = chunk->result.status[i];
        if (status == CHANGE_MADE || status == CHANGE_ALREADY)
            move_set(move, box, m->after, NULL);
        else
            move_set(move, box, m->after,
                     "%s; not unlocked, somebody else changed it meanwhile (now %s)",
                     m->reason ? m->reason : "",
                     home_state_name(chunk->result.before[i].state));
    }
}

/* ---- the domain's own record
 * ------------------------------------------------------------------ */

/* Not all mailboxes will be new, so the unlisted addresses stay. */
static void give_up_own(struct move *move, const char *why)
{
    const struct mailbox *own = &move->plan.boxes[move->own];
    bool locked = own->epoch != 0 || own->unsure;
    bool unlock =
        locked && !move->lease.lost &&
        (!own->found_locked || move->context->conf->sync.on_failure == ON_FAILURE_UNLOCK);
    move_give_up(move, move->own, STEP_LEFT, unlock, "%s%s", why,
                 locked && !unlock ? "; they stay locked" : "");
}

/* Whether its fence can run beside something: that of the last batch, if this
 * is synced soon, or the last syncs. Unlisted addresses, too, wait no longer for
 * it than the mailboxes do. */
static bool time_for_own(const struct move *move, int64_t now)
{
    size_t ready = plan_count(&move->plan, STEP_READY);
    return plan_count(&move->plan, STEP_UNPROBED) == 0 &&
           plan_lock_now(ready, move_rate(move, now), move->last_fence_s) &&
           ready <= batch_size(move, now);
}

/* Every mailbox is new: so is the domain, unless there are new ones. */
static void flip_own(struct move *move, int64_t now)
{
    struct store_totals totals;
    if (store_totals(move->context->store, move->domain->name, &totals) != LOOKUP_FOUND)
        store_gone(move, now);
    else if (totals.old + totals.locked + totals.rolling_back > 0)
        give_up_own(move, "mailboxes were imported meanwhile");
    else
        move_set(move, move->own, STEP_SYNCED, NULL);
}

/* The unlisted addresses follow when every mailbox is new. Their lock comes
 * before that, so that it costs no fence of its own; it is given up as soon as
 * one mailbox is not moved. */
static void own_record_next(struct move *move, int64_t now)
{
    const struct plan *plan = &move->plan;
    bool waits = own_in(move, STEP_PARKED);
    if (!waits && !own_in(move, STEP_READY))
        return;
    size_t moved = plan_count(plan, STEP_MOVED) + plan_count(plan, STEP_ALREADY);
    if (plan_ended(plan) + plan_count(plan, STEP_UNLOCKING) > moved) {
        give_up_own(move, "not all mailboxes are new");
    } else if (waits && plan->boxes[move->own].locked_ms == 0) {
        if (time_for_own(move, now))
            move_set(move, move->own, STEP_READY, NULL);
    } else if (waits && moved == move->mailboxes) {
        flip_own(move, now);
    }
}

void move_store_turn(struct move *move, int64_t now)
{
    /* Large, and one cutover per process. */
    static struct chunk chunk;
    if (move->lease.lost || (move->stop == MOVE_ABORTS && move->outage_since != 0 &&
                             now - move->outage_since > ABORT_PATIENCE_MS))
        leave_unwritten(move);
    if (move->outage_since != 0 && now < move->retry_at)
        return;
    if (now >= move->lease.renew_at && !move->lease.lost)
        renew_lease(move, now);
    if (move->outage_since == 0 || now >= move->retry_at) {
        flip_synced(move, &chunk, now);
        unlock_some(move, &chunk, now);
    }
    if (move->outage_since == 0) {
        look_at_fence(move, now);
        own_record_next(move, now);
        lock_next(move, &chunk, now);
    }
}
