/*
 * store_redis_picture: what the status page shows of the domains, read from
 * counters that the scripts keep: never from the mailboxes themselves.
 *
 * Limits: DOMAINS_A_TRIP domains in one round trip, so that Redis is never busy for
 * long. A row that cannot be read is left out: these are figures.
 */
#include "config.h"

#include "store_redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOMAINS_A_TRIP 32
/* Commands for each domain, in this order. */
enum part { OWN, TOTALS, LOCKS, HOURS, SENDERS, RUN, PARTS };

static void ask(struct store_redis *sr, const char *domain)
{
    SR_WORDS(sr, "HGET");
    redis_arg_key(&sr->args, STORE_HOME_OF, domain);
    redis_arg_text(&sr->args, "");
    sr_queue(sr);
    SR_WORDS(sr, "HMGET");
    redis_arg_key(&sr->args, STORE_TOTALS_OF, domain);
    for (const char *letter = "olrn"; *letter; letter++)
        redis_arg(&sr->args, letter, 1);
    redis_arg_text(&sr->args, "flipped");
    sr_queue(sr);
    static const char *const whole[] = { STORE_LOCKS_OF, STORE_HOURS_OF,
                                         STORE_SENDERS_OF };
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
        SR_WORDS(sr, "HGETALL");
        redis_arg_key(&sr->args, whole[i], domain);
        sr_queue(sr);
    }
    SR_WORDS(sr, "HMGET");
    redis_arg_key(&sr->args, STORE_PLAYBOOK_OF, domain);
    redis_arg_text(&sr->args, "");
    redis_arg_text(&sr->args, "@outline");
    sr_queue(sr);
}

static void take_totals(const struct resp *reply, struct store_picture *out)
{
    uint64_t *const to[] = { &out->totals.old, &out->totals.locked,
                             &out->totals.rolling_back, &out->totals.new };
    uint64_t flipped = 0;
    for (size_t i = 0; i < 4; i++)
        if (!resp_number(resp_at(reply, i), to[i]))
            *to[i] = 0;
    if (resp_number(resp_at(reply, 4), &flipped))
        out->flipped = (int64_t)flipped;
}

/* false: no memory. */
static bool take_locks(const struct resp *reply, struct store_picture *out)
{
    size_t rows = resp_count(reply) / 2;
    struct store_lock *locks = calloc(rows + 1, sizeof(*locks));
    for (size_t i = 0; locks && i < rows; i++) {
        struct home home;
        size_t len;
        const char *head = resp_text(resp_at(reply, 2 * i), &len);
        struct store_lock *lock = &locks[out->lock_count];
        if (!head || !home_decode(head, len, &home) || home.state != HOME_LOCKED ||
            !resp_number(resp_at(reply, 2 * i + 1), &lock->count) || lock->count == 0)
            continue;
        lock->rollback = home.rollback;
        lock->epoch = home.epoch;
        lock->since = home.since;
        out->lock_count++;
    }
    out->locks = locks;
    return locks != NULL;
}

static void take_hours(const struct resp *reply, int64_t now, struct store_picture *out)
{
    int64_t first = now / 3600 - STORE_HOURS + 1;
    for (size_t i = 0; i + 1 < resp_count(reply); i += 2) {
        const char *field = resp_text(resp_at(reply, i), NULL);
        uint64_t number, hour;
        if (!field || !resp_number(resp_at(reply, i + 1), &number))
            continue;
        if (strcmp(field, "total") == 0)
            out->floaters = number;
        else if (strcmp(field, "last") == 0)
            out->floater_last = (int64_t)number;
        else if (resp_number(resp_at(reply, i), &hour) && (int64_t)hour >= first &&
                 (int64_t)hour < first + STORE_HOURS)
            out->hours[(int64_t)hour - first] = number;
    }
}

/* false: no memory. */
static bool take_senders(const struct resp *reply, struct store_picture *out)
{
    size_t rows = resp_count(reply) / 2;
    struct store_sender *senders = calloc(rows + 1, sizeof(*senders));
    for (size_t i = 0; senders && i < rows; i++) {
        struct store_sender *sender = &senders[out->sender_count];
        const char *value = resp_text(resp_at(reply, 2 * i + 1), NULL);
        int name = 0;
        sender->client = resp_text(resp_at(reply, 2 * i), NULL);
        if (!sender->client || !value ||
            sscanf(value, "%" SCNu64 " %" SCNd64 " %" SCNd64 "%n", &sender->count,
                   &sender->first, &sender->last, &name) != 3 ||
            value[name] != ' ')
            continue;
        sender->name = value + name + 1;
        out->sender_count++;
    }
    out->senders = senders;
    return senders != NULL;
}

/* What Redis answered for one domain, from its reply `first` on. false: no memory,
 * or each() wants no more. */
static bool take(struct store_redis *sr, const char *domain, size_t first, int64_t now,
                 store_picture_fn *each, void *context, bool *failed)
{
    struct store_picture picture = { .domain = domain };
    const struct resp *parts[PARTS];
    size_t len;
    for (size_t i = 0; i < PARTS; i++)
        parts[i] = redis_reply(sr->redis, first + i);
    const char *own = resp_text(parts[OWN], &len);
    if (!own || !home_decode(own, len, &picture.totals.own))
        return true; /* not registered */
    take_totals(parts[TOTALS], &picture);
    take_hours(parts[HOURS], now, &picture);
    picture.run = resp_text(resp_at(parts[RUN], 0), NULL);
    picture.outline = resp_text(resp_at(parts[RUN], 1), NULL);
    *failed =
        !take_locks(parts[LOCKS], &picture) || !take_senders(parts[SENDERS], &picture);
    if (*failed)
        store_set_error(&sr->base, "out of memory for the figures of %s", domain);
    bool more = !*failed && each(context, &picture);
    free((void *)(uintptr_t)picture.locks);
    free((void *)(uintptr_t)picture.senders);
    return more;
}

bool sr_each_picture(struct store *store, const char *const *domains, size_t n,
                     int64_t now, store_picture_fn *each, void *context)
{
    struct store_redis *sr = (struct store_redis *)store;
    for (size_t at = 0; at < n; at += DOMAINS_A_TRIP) {
        size_t count = n - at < DOMAINS_A_TRIP ? n - at : DOMAINS_A_TRIP;
        redis_begin(sr->redis, sr->conf->command_timeout);
        for (size_t i = 0; i < count; i++)
            ask(sr, domains[at + i]);
        if (!sr_read(sr))
            return false;
        for (size_t i = 0; i < count; i++) {
            bool failed = false;
            if (!take(sr, domains[at + i], i * PARTS, now, each, context, &failed))
                return !failed;
        }
    }
    return true;
}
