/*
 * What a sweep looks at: this host's records of held messages (Redis, and the copy on
 * disk that survives it), the mail queue, and where each recipient's mailbox is.
 *
 * Lookups go in batches of SWEEP_BATCH.
 */
#include "release_sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define STRANDED_S 10

/* ---- records ---------------------------------------------------------------------- */

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

struct record *sweep_record(const struct sweep *sweep, const char *id)
{
    struct record key = { 0 }, *key_pointer = &key;
    if (sweep->record_count == 0 || strlen(id) >= sizeof(key.held.queue_id))
        return NULL;
    memcpy(key.held.queue_id, id, strlen(id) + 1);
    struct record **found = bsearch(&key_pointer, sweep->records, sweep->record_count,
                                    sizeof(struct record *), by_record_id);
    return found ? *found : NULL;
}
/* A record that this host has and Redis has not: Redis lost it, or the milter
 * is just about to put it there, too. */
static bool take_own_record(void *context, const struct held *held)
{
    struct sweep *sweep = context;
    if (sweep_record(sweep, held->queue_id))
        return true;
    if (store_held_put(sweep->env->store, sweep->env->conf->hostname, held) !=
        COMMIT_DONE) {
        sweep_failed(sweep, store_error(sweep->env->store));
        return false;
    }
    sweep->restored++;
    return true;
}

bool sweep_read_records(struct sweep *sweep)
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
    struct route *list[SWEEP_BATCH];
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
    if (sweep->waiting_count == SWEEP_BATCH)
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
    struct record *record = sweep_record(sweep, entry->id);
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

bool sweep_read_queue(struct sweep *sweep)
{
    struct queue *queue = sweep->env->queue;
    if (!queue->ops->list(queue, take_entry, sweep)) {
        sweep_failed(sweep, queue_error(queue));
        return false;
    }
    look_up(sweep);
    return true;
}

/* Records that have no message, and are fresh: it may be on its way to hold. */
void sweep_look_for_missing(struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->record_count; i++) {
        struct record *record = sweep->records[i];
        if (record->seen || record->held.kind != HELD_LOCK ||
            sweep->env->now - record->held.since > RELEASE_FRESH_S ||
            sweep_moved(sweep, record->held.queue_id))
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
