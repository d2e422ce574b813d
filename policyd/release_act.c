/*
 * What a sweep does: moves messages between the queues, and settles their records.
 *
 * A record precedes its message's move to hold, so a record without message is marked
 * and kept for RELEASE_GONE_S. One whose message this program itself moved from hold,
 * or to hold in an earlier sweep (it may have been in delivery by then), goes as soon
 * as the message is not on hold.
 */
#include "release_sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper.h"
#include "log.h"

#define SLICE 500 /* messages between two wakes of pickup(8) */

/* ---- acting --------------------------------------------------------------------- */

static void remember(struct id_list *list, const char *id)
{
    if (list->n == list->size) {
        size_t size = list->size ? list->size * 2 : 64;
        void *ids = realloc(list->ids, size * sizeof(*list->ids));
        if (!ids) {
            log_warnx("out of memory: the record of %s goes in ten minutes", id);
            return;
        }
        list->ids = ids;
        list->size = size;
    }
    memset(list->ids[list->n], 0, QUEUE_ID_MAX);
    memcpy(list->ids[list->n++], id, strnlen(id, QUEUE_ID_MAX - 1));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Sorted, each once. */
static void sort_ids(struct id_list *list)
{
    size_t n = 0;
    if (list->n == 0)
        return;
    qsort(list->ids, list->n, sizeof(*list->ids), by_text);
    for (size_t i = 1; i < list->n; i++)
        if (strcmp(list->ids[i], list->ids[n]) != 0)
            memmove(list->ids[++n], list->ids[i], QUEUE_ID_MAX);
    list->n = n + 1;
}

/* A flush is one process each: what is more than a few is requeued, which costs a
 * Received: header (see above). So not at every turn: when they keep coming back, each
 * time as much later again. */
static enum release_action decide_flush(struct sweep *sweep, size_t flushes)
{
    struct release *release = sweep->release;
    if (flushes <= HELPER_FLUSH_MAX)
        return RELEASE_FLUSH;
    if (sweep->env->now_ms < release->spill_due_ms)
        return RELEASE_NOTHING;
    sweep->spilled = true;
    return RELEASE_REQUEUE;
}

void sweep_decide(struct sweep *sweep)
{
    size_t flushes = 0;
    for (size_t i = 0; i < sweep->message_count; i++) {
        struct message *message = &sweep->messages[i];
        struct release_decision decision = release_decide(&message->facts);
        char id[80];
        message->action = decision.action;
        sweep->left += decision.left;
        if (decision.stale)
            message->record->drop = true;
        if (decision.action == RELEASE_FLUSH)
            message->action = decide_flush(sweep, ++flushes);
        if (decision.alarm)
            log_alarm("%s: half of its queue lifetime is over and it is still here "
                      "(%zu held, %zu to be forwarded, %zu to be redirected): requeued; "
                      "does the other server take mail?",
                      log_value(message->id, id, sizeof(id)), message->facts.hold,
                      message->facts.forward, message->facts.redirect);
    }
}

/* On this host's disk and in Redis. */
static bool put_record(struct sweep *sweep, const struct held *held)
{
    char error[160];
    if (!held_spool_put(sweep->env->conf, held, error, sizeof(error))) {
        sweep_failed(sweep, error);
        return false;
    }
    if (store_held_put(sweep->env->store, sweep->env->conf->hostname, held) ==
        COMMIT_DONE)
        return true;
    sweep_failed(sweep, store_error(sweep->env->store));
    return false;
}

/* The record first: without one the message would be nobody's. */
static void put_records(struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->message_count; i++) {
        struct message *message = &sweep->messages[i];
        if (message->action != RELEASE_HOLD)
            continue;
        struct held held = { .kind = HELD_LOCK,
                             .since = message->record ? message->record->held.since
                                                      : sweep->env->now,
                             .sender = message->sender ? message->sender : "",
                             .recipients = message->recipients };
        memcpy(held.queue_id, message->id, sizeof(message->id));
        if (!message->recipients)
            sweep_failed(sweep, "out of memory");
        else if (put_record(sweep, &held)) {
            if (message->record)
                message->record->wanted = true;
            continue;
        }
        message->action = RELEASE_NOTHING;
    }
}

typedef bool queue_call(struct queue *queue, const char *const *ids, size_t n);

/* Those that could not be done stay as they are. */
static void undone(struct sweep *sweep, enum release_action action,
                   const char *const *ids, size_t n)
{
    for (size_t i = 0, k = 0; i < sweep->message_count && k < n; i++) {
        struct message *message = &sweep->messages[i];
        if (message->action != action || message->id != ids[k])
            continue;
        message->action = RELEASE_NOTHING;
        k++;
    }
}

/* Runs one command on all messages that have this action; returns how many. wake: what
 * comes out of it is picked up while the next slice is done. */
static size_t act(struct sweep *sweep, enum release_action action, queue_call *call,
                  bool wake)
{
    struct queue *queue = sweep->env->queue;
    size_t n = 0, done = 0;
    const char **ids = calloc(sweep->message_count + 1, sizeof(*ids));
    for (size_t i = 0; ids && i < sweep->message_count; i++)
        if (sweep->messages[i].action == action)
            ids[n++] = sweep->messages[i].id;
    if (!ids)
        sweep_failed(sweep, "out of memory");
    while (done < n) {
        size_t some = n - done < SLICE ? n - done : SLICE;
        if (!call(queue, ids + done, some)) {
            sweep_failed(sweep, queue_error(queue));
            undone(sweep, action, ids + done, n - done);
            break;
        }
        done += some;
        if (wake && !queue->ops->wake(queue))
            sweep_failed(sweep, queue_error(queue));
    }
    free(ids);
    return done;
}

void sweep_act(struct sweep *sweep)
{
    const struct queue_ops *ops = sweep->env->queue->ops;
    put_records(sweep);
    size_t held = act(sweep, RELEASE_HOLD, ops->hold, false);
    size_t released = act(sweep, RELEASE_RELEASE, ops->release, true);
    size_t requeued = act(sweep, RELEASE_REQUEUE, ops->requeue, true);
    size_t flushed = act(sweep, RELEASE_FLUSH, ops->flush, false);
    sweep->released = released + requeued;
    /* A reload moves what was in delivery back to incoming; on an idle host
     * qmgr(8) looks there only when it wakes up by itself, every 300 s. */
    if (sweep->stranded > 0 && !ops->scan(sweep->env->queue))
        sweep_failed(sweep, queue_error(sweep->env->queue));
    for (size_t i = 0; i < sweep->message_count; i++) {
        struct message *message = &sweep->messages[i];
        if (message->action != RELEASE_RELEASE)
            continue;
        message->record->released = true;
        remember(&sweep->release->moved, message->id);
    }
    sort_ids(&sweep->release->moved);
    if (held + released + requeued + flushed > 0)
        log_info("queue: %zu released, %zu put on hold, %zu requeued, %zu tried again",
                 released, held, requeued, flushed);
}

/* ---- records ---------------------------------------------------------------------- */

bool sweep_moved(const struct sweep *sweep, const char *id)
{
    const struct id_list *list = &sweep->release->moved;
    char key[QUEUE_ID_MAX] = "";
    if (list->n == 0 || strlen(id) >= sizeof(key))
        return false;
    memcpy(key, id, strlen(id));
    return bsearch(key, list->ids, list->n, sizeof(*list->ids), by_text) != NULL;
}

static void settle_record(struct sweep *sweep, struct record *record)
{
    const struct release_env *env = sweep->env;
    int64_t gone_since = record->held.gone_since;
    if (record->wanted) {
        record->drop = false;
        return; /* written just now */
    }
    if (!record->on_hold && sweep_moved(sweep, record->held.queue_id)) {
        record->drop = true;
    } else if (record->seen) {
        record->held.gone_since = 0;
    } else {
        enum record_fate fate = release_fate(gone_since, env->now);
        record->drop = fate == FATE_DROP;
        if (fate == FATE_MARK)
            record->held.gone_since = env->now;
    }
    if (!record->drop && record->held.gone_since != gone_since &&
        store_held_put(env->store, env->conf->hostname, &record->held) != COMMIT_DONE)
        sweep_failed(sweep, store_error(env->store));
}

/* Takes ids whose record is gone out of the list. */
static void forget_moved(struct sweep *sweep)
{
    struct id_list *list = &sweep->release->moved;
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        struct record *record = sweep_record(sweep, list->ids[i]);
        if (record && !record->drop)
            memmove(list->ids[n++], list->ids[i], QUEUE_ID_MAX);
    }
    list->n = n;
}

void sweep_settle_records(struct sweep *sweep)
{
    const struct release_env *env = sweep->env;
    const char **ids = calloc(sweep->record_count + 1, sizeof(*ids));
    size_t n = 0;
    for (size_t i = 0; i < sweep->record_count; i++) {
        settle_record(sweep, sweep->records[i]);
        if (ids && sweep->records[i]->drop)
            ids[n++] = sweep->records[i]->held.queue_id;
    }
    if (n > 0 && store_held_drop(env->store, env->conf->hostname, ids, n) != COMMIT_DONE)
        sweep_failed(sweep, store_error(env->store));
    else
        forget_moved(sweep);
    for (size_t i = 0; i < n; i++)
        if (!held_spool_drop(env->conf, ids[i]))
            log_warn("%s/held/%s: cannot remove it", env->conf->state_dir, ids[i]);
    free(ids);
    for (size_t i = 0; i < sweep->message_count; i++)
        if (sweep->messages[i].action == RELEASE_HOLD)
            remember(&sweep->release->moved, sweep->messages[i].id);
    sort_ids(&sweep->release->moved);
}
