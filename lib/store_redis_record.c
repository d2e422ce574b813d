/*
 * store_redis_record: records beside the homes: held messages, floaters and
 * arrivals, leases, and whether this Redis keeps what it is told.
 * (Held records are written as held.h says.)
 *
 * Limits: ARRIVALS_MAX arrivals are kept per domain (about that: Redis trims
 * its streams by whole nodes).
 */
#include "config.h"

#include "store_redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth_row.h"
#include "held.h"

#define ARRIVALS_MAX    "100000"
#define ARRIVALS_A_PAGE 1000
/* How far the clock of the host that noted an arrival may be from Redis'. */
#define CLOCK_SKEW_S 3600

static const char floaters_text[] =
#include "lib/lua/common.lua.h"
#include "lib/lua/floaters.lua.h"
    ;
static const char lease_text[] =
#include "lib/lua/common.lua.h"
#include "lib/lua/lease.lua.h"
    ;

void sr_record_scripts(struct redis_script scripts[SCRIPT_COUNT])
{
    scripts[SCRIPT_FLOATERS].text = floaters_text;
    scripts[SCRIPT_LEASE].text = lease_text;
}

/* ---- held messages ----------------------------------------------------- */

enum commit sr_held_put(struct store *store, const char *host, const struct held *held)
{
    struct store_redis *sr = (struct store_redis *)store;
    size_t len = 0;
    char *text = held_encode(held, &len);
    if (!text) {
        store_set_error(store, "out of memory for the record of message %s",
                        held->queue_id);
        return COMMIT_UNCERTAIN;
    }
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "HSET");
    redis_arg_key(&sr->args, STORE_HELD_OF, host);
    redis_arg_text(&sr->args, held->queue_id);
    redis_arg(&sr->args, text, len);
    free(text);
    sr_queue(sr);
    return sr_write(sr);
}

enum commit sr_held_drop(struct store *store, const char *host,
                         const char *const *queue_ids, size_t n)
{
    struct store_redis *sr = (struct store_redis *)store;
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "HDEL");
    redis_arg_key(&sr->args, STORE_HELD_OF, host);
    for (size_t i = 0; i < n; i++)
        redis_arg_text(&sr->args, queue_ids[i]);
    sr_queue(sr);
    return sr_write(sr);
}

struct each_held {
    struct store_redis *sr;
    const char *host;
    store_held_fn *each;
    void *context;
    bool failed;
};

static bool held_field(void *context, const char *field, size_t field_len,
                       const char *value, size_t value_len)
{
    struct each_held *walk = context;
    (void)value_len;
    char *copy = strdup(value);
    struct held held;
    if (!copy || !held_decode(field, field_len, copy, &held)) {
        store_set_error(
            &walk->sr->base,
            copy ? "the record of held message %s on %s is damaged: release it "
                   "with postsuper there, and remove the record with redis-cli "
                   "hdel"
                 : "out of memory for the record of message %s on %s",
            field, walk->host);
        free(copy);
        walk->failed = true;
        return false;
    }
    bool more = walk->each(walk->context, &held);
    free(copy);
    return more;
}

bool sr_each_held(struct store *store, const char *host, store_held_fn *each,
                  void *context)
{
    struct store_redis *sr = (struct store_redis *)store;
    struct each_held walk = { .sr = sr, .host = host, .each = each, .context = context };
    return sr_each_field(sr, STORE_HELD_OF, host, held_field, &walk) && !walk.failed;
}

/* ---- floaters and arrivals --------------------------------------------- */

/* The listed mailbox that a route was decided by; "" when it is not listed. */
static const char *mailbox_of(const struct route *route)
{
    if (!route->home.listed)
        return "";
    return route->exact ? route->addr.local : route->base;
}

void sr_count_floaters(struct store *store, struct route *const routes[], size_t n,
                       const struct floater_from *from, int64_t now)
{
    struct store_redis *sr = (struct store_redis *)store;
    char client[AUTH_HELO_MAX + 1], name[AUTH_HELO_MAX + 1];
    auth_row_helo(from->client, client);
    auth_row_helo(from->name, name);
    redis_begin(sr->redis, sr->conf->lookup_timeout);
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (!store_is_floater(routes[i]))
            continue;
        if (!any &&
            redis_script_load(sr->redis, &sr->scripts[SCRIPT_FLOATERS]) != REDIS_DONE)
            return;
        any = true;
        redis_args_reset(&sr->args);
        redis_arg_text(&sr->args, routes[i]->domain->name);
        redis_arg_number(&sr->args, (uint64_t)now);
        redis_arg_number(&sr->args, STORE_HOURS);
        redis_arg_number(&sr->args, STORE_SENDERS_MAX);
        redis_arg_text(&sr->args, client);
        redis_arg_text(&sr->args, name);
        redis_arg_text(&sr->args, mailbox_of(routes[i]));
        sr_script_queue(sr, SCRIPT_FLOATERS);
    }
    if (!any || redis_run(sr->redis) != REDIS_DONE)
        return;
    if (resp_is_error(redis_reply(sr->redis, 0), "NOSCRIPT"))
        sr->scripts[SCRIPT_FLOATERS].sha[0] = '\0'; /* counts again from the next on */
}

void sr_note_arrivals(struct store *store, struct route *const routes[], size_t n,
                      const char *host, const char *queue_id, const char *message_id,
                      int64_t now)
{
    struct store_redis *sr = (struct store_redis *)store;
    bool any = false;
    redis_begin(sr->redis, sr->conf->lookup_timeout);
    for (size_t i = 0; i < n; i++) {
        if (!store_is_arrival(routes[i]))
            continue;
        any = true;
        const char *mailbox = mailbox_of(routes[i]);
        SR_WORDS(sr, "XADD");
        redis_arg_key(&sr->args, STORE_ARRIVALS_OF, routes[i]->domain->name);
        const char *const words[] = {
            "MAXLEN", "~",          ARRIVALS_MAX,
            "*",      "local",      mailbox[0] ? mailbox : routes[i]->addr.local,
            "host",   host,         "queue_id",
            queue_id, "message_id", message_id,
            "time"
        };
        for (size_t w = 0; w < sizeof(words) / sizeof(words[0]); w++)
            redis_arg_text(&sr->args, words[w]);
        redis_arg_number(&sr->args, (uint64_t)now);
        sr_queue(sr);
    }
    if (any)
        (void)redis_run(sr->redis); /* a figure: see store.h */
}

struct each_floater {
    store_floater_fn *each;
    void *context;
};

static bool floater_field(void *context, const char *field, size_t field_len,
                          const char *value, size_t value_len)
{
    struct each_floater *walk = context;
    struct floater floater = { .local = field };
    (void)field_len;
    (void)value_len;
    if (sscanf(value, "%" SCNu64 " %" SCNd64 " %" SCNd64, &floater.count, &floater.first,
               &floater.last) != 3)
        return true; /* a figure that nobody wrote */
    return walk->each(walk->context, &floater);
}

bool sr_each_floater(struct store *store, const char *domain, store_floater_fn *each,
                     void *context)
{
    struct each_floater walk = { .each = each, .context = context };
    return sr_each_field((struct store_redis *)store, STORE_FLOATERS_OF, domain,
                         floater_field, &walk);
}

static void arrival_decode(const struct resp *fields, struct arrival *out)
{
    *out = (struct arrival){ .local = "", .host = "", .queue_id = "", .message_id = "" };
    for (size_t i = 0; i + 1 < resp_count(fields); i += 2) {
        const char *name = resp_text(resp_at(fields, i), NULL);
        const char *value = resp_text(resp_at(fields, i + 1), NULL);
        if (!name || !value)
            continue;
        if (strcmp(name, "local") == 0)
            out->local = value;
        else if (strcmp(name, "host") == 0)
            out->host = value;
        else if (strcmp(name, "queue_id") == 0)
            out->queue_id = value;
        else if (strcmp(name, "message_id") == 0)
            out->message_id = value;
        else if (strcmp(name, "time") == 0)
            out->time = strtoll(value, NULL, 10);
    }
}

/* The entry id that follows id ("<ms>-<n>"). */
static bool next_id(const char *id, char *out, size_t size)
{
    uint64_t ms, n;
    if (!id || sscanf(id, "%" SCNu64 "-%" SCNu64, &ms, &n) != 2)
        return false;
    snprintf(out, size, "%" PRIu64 "-%" PRIu64, ms, n + 1);
    return true;
}

bool sr_each_arrival(struct store *store, const char *domain, int64_t since,
                     store_arrival_fn *each, void *context)
{
    struct store_redis *sr = (struct store_redis *)store;
    char from[48];
    int64_t start = since > CLOCK_SKEW_S ? since - CLOCK_SKEW_S : 0;
    snprintf(from, sizeof(from), "%" PRId64 "-0", start * 1000);
    for (;;) {
        redis_begin(sr->redis, sr->conf->command_timeout);
        SR_WORDS(sr, "XRANGE");
        redis_arg_key(&sr->args, STORE_ARRIVALS_OF, domain);
        redis_arg_text(&sr->args, from);
        redis_arg_text(&sr->args, "+");
        redis_arg_text(&sr->args, "COUNT");
        redis_arg_number(&sr->args, ARRIVALS_A_PAGE);
        sr_queue(sr);
        if (!sr_read(sr))
            return false;
        const struct resp *page = redis_reply(sr->redis, 0);
        size_t n = resp_count(page);
        for (size_t i = 0; i < n; i++) {
            struct arrival arrival;
            arrival_decode(resp_at(resp_at(page, i), 1), &arrival);
            if (arrival.time >= since && !each(context, &arrival))
                return true;
        }
        if (n < ARRIVALS_A_PAGE ||
            !next_id(resp_text(resp_at(resp_at(page, n - 1), 0), NULL), from,
                     sizeof(from)))
            return true;
    }
}

/* ---- leases ------------------------------------------------------------ */

static enum commit run_lease(struct store_redis *sr, const char *name, const char *holder,
                             int ttl_s, const struct resp **reply)
{
    redis_args_reset(&sr->args);
    redis_arg_text(&sr->args, name);
    redis_arg_text(&sr->args, holder);
    redis_arg_number(&sr->args, (uint64_t)ttl_s);
    return sr_script(sr, SCRIPT_LEASE, reply);
}

enum commit sr_lease_take(struct store *store, const char *name, const char *holder,
                          int ttl_s, char *other, size_t other_size)
{
    struct store_redis *sr = (struct store_redis *)store;
    const struct resp *reply;
    if (other_size > 0)
        other[0] = '\0';
    enum commit commit = run_lease(sr, name, holder, ttl_s > 0 ? ttl_s : 1, &reply);
    if (commit != COMMIT_REFUSED)
        return commit;
    const char *who = resp_text(resp_at(reply, 1), NULL);
    snprintf(other, other_size, "%s", who ? who : "somebody"); /* a name may be cut */
    store_set_error(store, "%s is already being done by %s", name,
                    who ? who : "somebody");
    return COMMIT_REFUSED;
}

void sr_lease_drop(struct store *store, const char *name, const char *holder)
{
    const struct resp *reply;
    (void)run_lease((struct store_redis *)store, name, holder, 0,
                    &reply); /* it expires */
}

/* ---- whether it stays -------------------------------------------------- */

/* The value of "name:value" in an INFO text; "" when missing. */
static void info_value(const char *info, const char *name, char *out, size_t size)
{
    size_t len = strlen(name);
    out[0] = '\0';
    for (const char *at = info; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, name, len) == 0 && at[len] == ':') {
            snprintf(out, size, "%.*s", (int)strcspn(at + len + 1, "\r\n"), at + len + 1);
            return;
        }
    }
}

struct durable {
    char aof[16];    /* "yes", "no" */
    char policy[32]; /* "noeviction", ... */
};

static void config_value(const struct resp *reply, char *out, size_t size)
{
    const char *text = resp_text(resp_at(reply, 1), NULL);
    snprintf(out, size, "%s", text ? text : "");
}

static bool ask_durable(struct store_redis *sr, struct durable *out)
{
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "CONFIG", "GET", "appendonly");
    sr_queue(sr);
    SR_WORDS(sr, "CONFIG", "GET", "maxmemory-policy");
    sr_queue(sr);
    SR_WORDS(sr, "INFO", "persistence");
    sr_queue(sr);
    SR_WORDS(sr, "INFO", "memory");
    sr_queue(sr);
    if (redis_run(sr->redis) != REDIS_DONE) {
        store_set_error(&sr->base, "%s", redis_error(sr->redis));
        return false;
    }
    /* CONFIG is often denied, INFO seldom. */
    config_value(redis_reply(sr->redis, 0), out->aof, sizeof(out->aof));
    config_value(redis_reply(sr->redis, 1), out->policy, sizeof(out->policy));
    if (!out->aof[0]) {
        char enabled[8];
        info_value(resp_text(redis_reply(sr->redis, 2), NULL), "aof_enabled", enabled,
                   sizeof(enabled));
        snprintf(out->aof, sizeof(out->aof), "%s",
                 enabled[0] == '1'   ? "yes"
                 : enabled[0] == '0' ? "no"
                                     : "");
    }
    if (!out->policy[0])
        info_value(resp_text(redis_reply(sr->redis, 3), NULL), "maxmemory_policy",
                   out->policy, sizeof(out->policy));
    return true;
}

enum commit sr_durable(struct store *store)
{
    struct store_redis *sr = (struct store_redis *)store;
    struct durable durable;
    if (!ask_durable(sr, &durable))
        return COMMIT_UNCERTAIN;
    if (!durable.aof[0] || !durable.policy[0]) {
        store_set_error(store,
                        "Redis tells neither by CONFIG GET nor by INFO whether it keeps "
                        "its data: allow one of them to redis-user (~sluice:* +info)");
        return COMMIT_UNCERTAIN;
    }
    if (strcmp(durable.aof, "yes") != 0) {
        store_set_error(store,
                        "Redis would forget locks at a restart (appendonly no): put "
                        "\"appendonly yes\" into redis.conf and run \"redis-cli config "
                        "set appendonly yes\"");
        return COMMIT_REFUSED;
    }
    if (strcmp(durable.policy, "noeviction") != 0) {
        store_set_error(store,
                        "Redis may throw locks away when memory is short "
                        "(maxmemory-policy %s): put \"maxmemory-policy noeviction\" "
                        "into redis.conf and run \"redis-cli config set "
                        "maxmemory-policy noeviction\"",
                        durable.policy);
        return COMMIT_REFUSED;
    }
    return COMMIT_DONE;
}
