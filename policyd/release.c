/*
 * release: what is on hold or deferred for managed mailboxes, and what becomes
 * of it.
 *
 * The decision (release_decide(), a table in if-form) for each message:
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
 * gone by as before the last time: REQUEUE_MOST_S at the most.
 *
 * Records. One precedes its message's move to hold, so a record without message
 * is marked and kept for RELEASE_GONE_S. One whose message this program itself
 * moved from hold, or to hold in an earlier sweep (it may have been in delivery
 * by then), goes as soon as the message is not on hold.
 *
 * Lookups go in batches of BATCH. Any failure leaves what it concerns as it is
 * and makes the sweep incomplete: it does not count as "nothing left".
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

#include "held.h"
#include "log.h"

#define BATCH          200
#define IDLE_MOST_MS   10000
#define AGAIN_FIRST_MS 300
#define AGAIN_MOST_MS  5000 /* qmgr's stale cache lasts 30 s at the most */
#define REQUEUE_MOST_S 3600
#define LOOK_REST      5
#define SLICE          500 /* messages between two wakes of pickup(8) */
#define SPILL_FIRST_MS 1000
#define LEFT_ALARM_MS  600000
#define STRANDED_S     10

const char *release_action_name(enum release_action action)
{
    static const char *const names[] = {
        [RELEASE_NOTHING] = "nothing", [RELEASE_RELEASE] = "release",
        [RELEASE_HOLD] = "hold",       [RELEASE_FLUSH] = "flush",
        [RELEASE_REQUEUE] = "requeue",
    };
    return names[action];
}

/* ---- the decision --------------------------------------------------------- */

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
    if (wait > REQUEUE_MOST_S)
        wait = REQUEUE_MOST_S;
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

/* ---- state ------------------------------------------------------------------ */

struct id_list {
    char (*ids)[QUEUE_ID_MAX];
    size_t n, size;
};

struct release {
    struct release_figures figures;
    bool pressing; /* an event asks for a sweep */
    int64_t due_ms;
    int64_t again_ms;  /* back-off while something is left */
    int64_t ended_ms;  /* the last sweep */
    int64_t looked_ms; /* what of it was spent on looking */
    bool settling;     /* it released messages: their records are to go */
    int64_t spill_due_ms, spill_wait_ms; /* see decide_flush() */
    int64_t left_since_ms;               /* 0: nothing is left */
    int64_t refused_due_ms;              /* next alarm about refusals */
    struct id_list moved; /* to or from hold, by us; their records are there */
};

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

/* ---- one sweep ----------------------------------------------------------------- */

struct record {
    struct held held;
    char *sender, *recipients;
    bool seen; /* in some queue */
    bool on_hold;
    bool drop;
    bool released; /* in this sweep */
    bool wanted;   /* in this sweep its message goes on hold */
};

struct message {
    char id[QUEUE_ID_MAX];
    struct release_facts facts;
    struct record *record;
    char *sender;     /* kept for what may be put on hold */
    char *recipients; /* canonical, LF between */
    enum release_action action;
};

struct sweep {
    struct release *release;
    const struct release_env *env;
    struct record **records; /* sorted by id */
    size_t record_count, record_size;
    struct message *messages;
    size_t message_count, message_size;
    struct route *routes; /* BATCH of them */
    struct {
        size_t message; /* index; NO_MESSAGE: recipients of a record */
        struct record *record;
        bool ours;
    } waiting[BATCH];
    size_t waiting_count;
    uint64_t left;
    size_t restored; /* records that Redis had lost */
    size_t stranded; /* messages that lie in incoming */
    size_t released; /* from hold, or requeued */
    bool spilled;    /* see decide_flush() */
    int64_t (*now_ms)(void);
    int64_t acted_ms;  /* spent on commands and records, not on looking */
    size_t refused;    /* recipients that another server answers 5xx for */
    char refusal[512]; /* the first of them */
    bool failed;
};
#define NO_MESSAGE SIZE_MAX

static void sweep_failed(struct sweep *sweep, const char *why)
{
    struct release_figures *figures = &sweep->release->figures;
    sweep->failed = true;
    if (!figures->error[0])
        snprintf(figures->error, sizeof(figures->error), "%.150s", why);
}

static int by_record_id(const void *a, const void *b)
{
    return strcmp((*(struct record *const *)a)->held.queue_id,
                  (*(struct record *const *)b)->held.queue_id);
}

static bool take_record(void *context, const struct held *held)
{
    struct sweep *sweep = context;
    if (sweep->record_count == sweep->record_size) {
        size_t size = sweep->record_size ? sweep->record_size * 2 : 64;
        struct record **all = realloc(sweep->records, size * sizeof(struct record *));
        if (!all) {
            sweep_failed(sweep, "out of memory");
            return false;
        }
        sweep->records = all;
        sweep->record_size = size;
    }
    struct record *record = calloc(1, sizeof(*record));
    if (record) {
        record->held = *held;
        record->sender = strdup(held->sender ? held->sender : "");
        record->recipients = strdup(held->recipients ? held->recipients : "");
        record->held.sender = record->sender;
        record->held.recipients = record->recipients;
        sweep->records[sweep->record_count++] = record;
    }
    if (record && record->sender && record->recipients)
        return true;
    sweep_failed(sweep, "out of memory");
    return false;
}

static struct record *find_record(struct sweep *sweep, const char *id)
{
    struct record key = { 0 }, *key_pointer = &key;
    if (sweep->record_count == 0 || strlen(id) >= sizeof(key.held.queue_id))
        return NULL;
    memcpy(key.held.queue_id, id, strlen(id) + 1);
    struct record **found = bsearch(&key_pointer, sweep->records, sweep->record_count,
                                    sizeof(struct record *), by_record_id);
    return found ? *found : NULL;
}

/* ---- lookups in batches --------------------------------------------------------- */

static void count_verdict(struct release_facts *facts, enum verdict verdict, bool ours)
{
    switch (verdict) {
    case VERDICT_NONE:
        facts->unmanaged++;
        break;
    case VERDICT_DELIVER:
        facts->deliver++;
        break;
    case VERDICT_HOLD:
        facts->hold++;
        break;
    case VERDICT_FORWARD:
        facts->forward++;
        break;
    case VERDICT_REDIRECT:
        facts->redirect++;
        break;
    case VERDICT_LATER:
        facts->later++;
        break;
    }
    if (ours && verdict != VERDICT_HOLD && verdict != VERDICT_LATER)
        facts->ours++;
}

/* A record whose message is not there (yet): is anything of it unlocked? */
static void count_missing(struct sweep *sweep, struct record *record,
                          enum verdict verdict)
{
    if (verdict != VERDICT_HOLD && verdict != VERDICT_LATER && !record->released) {
        record->released = true; /* counted */
        sweep->left++;
    }
}

static void look_up(struct sweep *sweep)
{
    struct route *list[BATCH];
    for (size_t i = 0; i < sweep->waiting_count; i++)
        list[i] = &sweep->routes[i];
    if (sweep->waiting_count > 0)
        store_lookup(sweep->env->store, list, sweep->waiting_count);
    for (size_t i = 0; i < sweep->waiting_count; i++) {
        route_finish(sweep->env->conf, &sweep->routes[i]);
        enum verdict verdict = sweep->routes[i].verdict;
        /* Unknown for another reason (no next hop configured): looking again
         * would change nothing. */
        if (sweep->routes[i].lookup == LOOKUP_FAILED)
            sweep_failed(sweep, store_error(sweep->env->store));
        if (sweep->waiting[i].message != NO_MESSAGE)
            count_verdict(&sweep->messages[sweep->waiting[i].message].facts, verdict,
                          sweep->waiting[i].ours);
        else
            count_missing(sweep, sweep->waiting[i].record, verdict);
    }
    sweep->waiting_count = 0;
}

/* Room for one more route, prepared. */
static bool prepare(struct sweep *sweep, const char *address, size_t len)
{
    if (sweep->waiting_count == BATCH)
        look_up(sweep);
    struct route *route = &sweep->routes[sweep->waiting_count];
    memset(route, 0, sizeof(*route));
    return route_prepare(sweep->env->conf, address, len, route);
}

/* ---- reading the queue ------------------------------------------------------------ */

static struct message *new_message(struct sweep *sweep, const struct queue_entry *entry)
{
    if (sweep->message_count == sweep->message_size) {
        size_t size = sweep->message_size ? sweep->message_size * 2 : 64;
        struct message *all = realloc(sweep->messages, size * sizeof(*all));
        if (!all) {
            sweep_failed(sweep, "out of memory");
            return NULL;
        }
        sweep->messages = all;
        sweep->message_size = size;
    }
    const struct queue_settings *settings = sweep->env->settings;
    struct message *message = &sweep->messages[sweep->message_count++];
    memset(message, 0, sizeof(*message));
    memcpy(message->id, entry->id, strlen(entry->id) + 1);
    message->facts.queue = entry->queue;
    message->facts.null_sender = entry->sender[0] == '\0';
    message->facts.arrival = entry->arrival;
    message->facts.created = entry->created;
    message->facts.now = sweep->env->now;
    message->facts.lifetime =
        message->facts.null_sender && settings->bounce_lifetime < settings->lifetime
            ? settings->bounce_lifetime
            : settings->lifetime;
    return message;
}

static void add_recipient(struct message *message, const struct route *route)
{
    char address[ADDR_TEXT_MAX + 1];
    route_address(route, address);
    size_t have = message->recipients ? strlen(message->recipients) : 0;
    size_t len = strlen(address);
    char *all = realloc(message->recipients, have + len + 2);
    if (!all)
        return;
    if (have)
        all[have++] = '\n';
    memcpy(all + have, address, len + 1);
    message->recipients = all;
}

static bool any_managed(struct sweep *sweep, const struct queue_entry *entry)
{
    for (size_t i = 0; i < entry->count; i++) {
        const char *address = entry->recipients[i].address;
        if (prepare(sweep, address, strlen(address)))
            return true;
    }
    return false;
}

/* Whether sluice sends this recipient's mail to another server. */
static bool sent_on(struct sweep *sweep, const char *address)
{
    struct addr target;
    if (prepare(sweep, address, strlen(address)))
        return true;
    return addr_parse(address, strlen(address), &target) == ADDR_OK &&
           conf_redirects_to(sweep->env->conf, target.domain);
}

/* A 5xx that soft_bounce made a deferral: smtp(8)'s words for it are
 * "host NAME[ADDRESS] said: 550 ..." (smtp_proto.c). */
static void note_refusals(struct sweep *sweep, const struct queue_entry *entry)
{
    for (size_t i = 0; i < entry->count; i++) {
        const struct queue_recipient *recipient = &entry->recipients[i];
        char who[160];
        if (!strstr(recipient->reason, " said: 5") || !sent_on(sweep, recipient->address))
            continue;
        if (sweep->refused++ == 0)
            snprintf(sweep->refusal, sizeof(sweep->refusal), "%s to <%s>: %.300s",
                     entry->id, log_value(recipient->address, who, sizeof(who)),
                     recipient->reason);
    }
}

static bool take_entry(void *context, const struct queue_entry *entry)
{
    struct sweep *sweep = context;
    struct record *record = find_record(sweep, entry->id);
    bool on_hold = entry->queue == QUEUE_HOLD;
    if (record) {
        record->seen = true;
        record->on_hold |= on_hold;
    }
    if (entry->id_valid && entry->queue == QUEUE_INCOMING &&
        sweep->env->now - entry->created >= STRANDED_S)
        sweep->stranded++;
    if (entry->id_valid && entry->queue == QUEUE_DEFERRED)
        note_refusals(sweep, entry);
    if (!entry->id_valid || (!on_hold && entry->queue != QUEUE_DEFERRED) ||
        (on_hold && !record) || (!record && !any_managed(sweep, entry)))
        return true;
    size_t at = sweep->message_count;
    struct message *message = new_message(sweep, entry);
    if (!message)
        return false;
    message->record = record;
    if (record)
        message->facts.record =
            record->held.kind == HELD_LOCK ? RECORD_LOCK : RECORD_LOOP;
    message->sender = strdup(entry->sender);
    for (size_t i = 0; i < entry->count; i++) {
        const struct queue_recipient *recipient = &entry->recipients[i];
        bool ours = strstr(recipient->reason, RELEASE_REASON) != NULL;
        if (!prepare(sweep, recipient->address, strlen(recipient->address))) {
            count_verdict(&message->facts, VERDICT_NONE, ours);
            continue;
        }
        add_recipient(message, &sweep->routes[sweep->waiting_count]);
        sweep->waiting[sweep->waiting_count].message = at;
        sweep->waiting[sweep->waiting_count].ours = ours;
        sweep->waiting_count++;
    }
    return true;
}

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

static void decide(struct sweep *sweep)
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

static void act_on_all(struct sweep *sweep)
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

static bool was_moved(const struct id_list *list, const char *id)
{
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
    if (!record->on_hold && was_moved(&sweep->release->moved, record->held.queue_id)) {
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
        struct record *record = find_record(sweep, list->ids[i]);
        if (record && !record->drop)
            memmove(list->ids[n++], list->ids[i], QUEUE_ID_MAX);
    }
    list->n = n;
}

static void settle_records(struct sweep *sweep)
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

/* Records that have no message, and are fresh: it may be on its way to hold. */
static void look_for_missing(struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->record_count; i++) {
        struct record *record = sweep->records[i];
        if (record->seen || record->held.kind != HELD_LOCK ||
            sweep->env->now - record->held.since > RELEASE_FRESH_S ||
            was_moved(&sweep->release->moved, record->held.queue_id))
            continue;
        for (const char *at = record->recipients; *at;) {
            size_t len = strcspn(at, "\n");
            if (prepare(sweep, at, len)) {
                sweep->waiting[sweep->waiting_count].message = NO_MESSAGE;
                sweep->waiting[sweep->waiting_count].record = record;
                sweep->waiting_count++;
            } else {
                count_missing(sweep, record, VERDICT_NONE);
            }
            at += len + (at[len] == '\n');
        }
    }
    look_up(sweep);
}

/* ---- figures and the whole -------------------------------------------------- */

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

/* A record that this host has and Redis has not: Redis lost it, or the milter
 * is just about to put it there, too. */
static bool take_own_record(void *context, const struct held *held)
{
    struct sweep *sweep = context;
    if (find_record(sweep, held->queue_id))
        return true;
    if (store_held_put(sweep->env->store, sweep->env->conf->hostname, held) !=
        COMMIT_DONE) {
        sweep_failed(sweep, store_error(sweep->env->store));
        return false;
    }
    sweep->restored++;
    return true;
}

static bool read_records(struct sweep *sweep)
{
    const struct release_env *env = sweep->env;
    char error[160];
    if (!store_each_held(env->store, env->conf->hostname, take_record, sweep)) {
        sweep_failed(sweep, store_error(env->store));
        return false;
    }
    if (sweep->record_count > 0)
        qsort(sweep->records, sweep->record_count, sizeof(struct record *), by_record_id);
    if (!held_spool_each(env->conf, take_own_record, sweep, error, sizeof(error))) {
        if (error[0])
            sweep_failed(sweep, error);
        return false;
    }
    if (sweep->restored > 0) {
        log_info("release: records of held messages put into Redis: %zu",
                 sweep->restored);
        sweep_failed(sweep, "records of held messages were missing in Redis");
        return false; /* the next sweep knows them all */
    }
    return true;
}

/* Steps of one sweep. The records are read before the queue: one that comes
 * later belongs to the next sweep. */
static void sweep_once(struct sweep *sweep)
{
    const struct release_env *env = sweep->env;
    sweep->release->figures.error[0] = '\0';
    sweep->routes = calloc(BATCH, sizeof(*sweep->routes));
    if (!sweep->routes) {
        sweep_failed(sweep, "out of memory");
        return;
    }
    if (!read_records(sweep))
        return;
    if (!env->queue->ops->list(env->queue, take_entry, sweep)) {
        sweep_failed(sweep, queue_error(env->queue));
        return;
    }
    look_up(sweep);
    decide(sweep);
    int64_t begun = sweep->now_ms();
    act_on_all(sweep);
    sweep->acted_ms = sweep->now_ms() - begun;
    look_for_missing(sweep);
    begun = sweep->now_ms();
    settle_records(sweep);
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
        if (release->spill_wait_ms > REQUEUE_MOST_S * 1000)
            release->spill_wait_ms = REQUEUE_MOST_S * 1000;
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
