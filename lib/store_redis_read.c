/*
 * store_redis_read: the lookups of homes, one by one, by message and by domain,
 * and the single facts.
 *
 * A lookup is one round trip: HMGET of the chain (does Redis' history contain
 * the head of this host's journal?) and one HMGET per domain of the message.
 * It has the configuration's lookup-timeout. After a failure lookups fail at
 * once for BREAKER_MS, then one tries again; each handle has its own breaker.
 */
#include "config.h"

#include "clock.h"
#include "store_redis.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BREAKER_MS 1000

/* ---- lookups ----------------------------------------------------------- */

/* The managed routes of a message, those of one domain side by side. */
struct lookup_plan {
    struct route **routes;
    size_t n;
};

static int by_domain(const void *a, const void *b)
{
    const struct route *left = *(struct route *const *)a,
                       *right = *(struct route *const *)b;
    uintptr_t l = (uintptr_t)left->domain, r = (uintptr_t)right->domain;
    return (l > r) - (l < r);
}

static bool plan_make(struct lookup_plan *plan, struct route *const routes[], size_t n)
{
    plan->n = 0;
    plan->routes = calloc(n, sizeof(struct route *));
    if (!plan->routes)
        return false;
    for (size_t i = 0; i < n; i++)
        if (routes[i]->domain)
            plan->routes[plan->n++] = routes[i];
    qsort(plan->routes, plan->n, sizeof(struct route *), by_domain);
    return true;
}

/* One past the last route of the domain at i. */
static size_t plan_end(const struct lookup_plan *plan, size_t i)
{
    size_t end = i;
    while (end < plan->n && plan->routes[end]->domain == plan->routes[i]->domain)
        end++;
    return end;
}

static void ask_domain(struct store_redis *sr, const struct lookup_plan *plan,
                       size_t from, size_t end)
{
    SR_WORDS(sr, "HMGET");
    redis_arg_key(&sr->args, STORE_HOME_OF, plan->routes[from]->domain->name);
    redis_arg_text(&sr->args, "");
    for (size_t i = from; i < end; i++) {
        const struct route *route = plan->routes[i];
        if (route->overlong && !route->base[0])
            continue;
        redis_arg_text(&sr->args, route->addr.local);
        if (route->base[0])
            redis_arg_text(&sr->args, route->base);
    }
    sr_queue(sr);
}

static struct route_value value_of(const struct resp *resp)
{
    struct route_value value;
    value.text = resp_type(resp) == RESP_TEXT ? resp_text(resp, &value.len) : NULL;
    if (!value.text)
        value.len = 0;
    return value;
}

static void take_domain(const struct lookup_plan *plan, size_t from, size_t end,
                        const struct resp *reply)
{
    const struct route_value own = value_of(resp_at(reply, 0));
    const struct route_value none = { 0 };
    size_t at = 1;
    for (size_t i = from; i < end; i++) {
        struct route *route = plan->routes[i];
        struct route_value exact = none, base = none;
        if (!route->overlong || route->base[0]) {
            exact = value_of(resp_at(reply, at++));
            if (route->base[0])
                base = value_of(resp_at(reply, at++));
        }
        route_set_values(route, &own, &exact, &base);
    }
}

static bool ask_all(struct store_redis *sr, const struct lookup_plan *plan,
                    const struct position *head)
{
    redis_begin(sr->redis, sr->conf->lookup_timeout);
    sr_ask_history(sr, head);
    for (size_t i = 0, end; i < plan->n; i = end) {
        end = plan_end(plan, i);
        ask_domain(sr, plan, i, end);
    }
    if (redis_run(sr->redis) == REDIS_DONE)
        return true;
    sr->down_until = clock_ms() + BREAKER_MS;
    store_set_error(&sr->base, "%s", redis_error(sr->redis));
    return false;
}

static bool lookup_planned(struct store_redis *sr, const struct lookup_plan *plan)
{
    struct position head;
    if (!sr_head(sr, &head) || !ask_all(sr, plan, &head) || !sr_check_all(sr) ||
        !sr_history(sr, redis_reply(sr->redis, 0), &head, NULL))
        return false;
    size_t reply = 1;
    for (size_t i = 0, end; i < plan->n; i = end) {
        end = plan_end(plan, i);
        take_domain(plan, i, end, redis_reply(sr->redis, reply++));
    }
    return true;
}

/* Sets the error for what was answered but decides nothing. */
static void explain_lookups(struct store_redis *sr, const struct lookup_plan *plan)
{
    for (size_t i = 0; i < plan->n; i++) {
        const struct route *route = plan->routes[i];
        char address[ADDR_TEXT_MAX + 1];
        if (route->lookup == LOOKUP_ABSENT) {
            sr_set_refusal(sr, "UNREGISTERED", route->domain->name, "");
        } else if (route->lookup == LOOKUP_FAILED) {
            route_address(route, address);
            sr_set_refusal(sr, "BAD", address, "");
        }
    }
}

void sr_lookup(struct store *store, struct route *const routes[], size_t n)
{
    struct store_redis *sr = (struct store_redis *)store;
    store_routes_set(routes, n, LOOKUP_FAILED);
    if (clock_ms() < sr->down_until)
        return; /* store_error() still says why */
    struct lookup_plan plan;
    if (!plan_make(&plan, routes, n)) {
        store_set_error(store, "out of memory for a lookup of %zu recipients", n);
        return;
    }
    if (lookup_planned(sr, &plan))
        explain_lookups(sr, &plan);
    else
        store_routes_set(routes, n, LOOKUP_FAILED);
    free(plan.routes);
}

/* ---- single facts ------------------------------------------------------ */

enum lookup sr_position(struct store *store, struct position *out)
{
    struct store_redis *sr = (struct store_redis *)store;
    *out = (struct position){ 0 };
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "HMGET", STORE_CHAIN, "epoch", "id");
    sr_queue(sr);
    if (!sr_read(sr))
        return LOOKUP_FAILED;
    const struct resp *reply = redis_reply(sr->redis, 0);
    size_t len;
    const char *id = resp_text(resp_at(reply, 1), &len);
    if (resp_type(resp_at(reply, 0)) == RESP_NIL) {
        sr_set_refusal(sr, "EMPTY", "0", "");
        return LOOKUP_ABSENT;
    }
    if (!resp_number(resp_at(reply, 0), &out->epoch) || !id || len != EVENT_ID_LEN) {
        store_set_error(store, "%s in Redis is damaged: run \"sluice recover\"",
                        STORE_CHAIN);
        return LOOKUP_FAILED;
    }
    memcpy(out->id, id, EVENT_ID_LEN + 1);
    return LOOKUP_FOUND;
}

enum lookup sr_secret(struct store *store, unsigned char out[STORE_SECRET_LEN])
{
    struct store_redis *sr = (struct store_redis *)store;
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "GET", STORE_SECRET);
    sr_queue(sr);
    if (!sr_read(sr))
        return LOOKUP_FAILED;
    size_t len;
    const char *secret = resp_text(redis_reply(sr->redis, 0), &len);
    if (!secret) {
        sr_set_refusal(sr, "EMPTY", "0", "");
        return LOOKUP_ABSENT;
    }
    if (len != STORE_SECRET_LEN) {
        store_set_error(store,
                        "%s in Redis has %zu bytes, not %d: delete it and run "
                        "\"sluice init\"",
                        STORE_SECRET, len, STORE_SECRET_LEN);
        return LOOKUP_FAILED;
    }
    memcpy(out, secret, STORE_SECRET_LEN);
    return LOOKUP_FOUND;
}

int64_t sr_time_ms(struct store *store)
{
    struct store_redis *sr = (struct store_redis *)store;
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "TIME");
    sr_queue(sr);
    if (!sr_read(sr))
        return 0;
    uint64_t seconds, micros;
    const struct resp *reply = redis_reply(sr->redis, 0);
    if (!resp_number(resp_at(reply, 0), &seconds) ||
        !resp_number(resp_at(reply, 1), &micros)) {
        store_set_error(store, "Redis answers TIME with no time");
        return 0;
    }
    return (int64_t)(seconds * 1000 + micros / 1000);
}

static bool decode_home(struct store_redis *sr, const char *local, const char *domain,
                        const char *text, size_t len, struct home *out)
{
    if (text && home_decode(text, len, out)) {
        out->listed = true;
        return true;
    }
    char name[ADDR_TEXT_MAX + 1];
    addr_format(local, domain, name);
    sr_set_refusal(sr, "BAD", name, "");
    return false;
}

/* A host whose journal is older than what Redis keeps to compare with must be
 * able to read all homes: that is its new base. */
enum compare { COMPARE, COMPARE_OR_BEHIND };

/* Of the first reply; the error is set when false. */
static bool compare_now(struct store_redis *sr, const struct position *head,
                        enum compare compare)
{
    struct sr_history history = { 0 };
    return sr_history(sr, redis_reply(sr->redis, 0), head, &history) ||
           (compare == COMPARE_OR_BEHIND && history.behind);
}

static enum lookup read_totals(struct store_redis *sr, const char *domain,
                               enum compare compare, struct store_totals *out)
{
    *out = (struct store_totals){ 0 };
    struct position head;
    if (!sr_head(sr, &head))
        return LOOKUP_FAILED;
    redis_begin(sr->redis, sr->conf->command_timeout);
    sr_ask_history(sr, &head);
    SR_WORDS(sr, "HGET");
    redis_arg_key(&sr->args, STORE_HOME_OF, domain);
    redis_arg_text(&sr->args, "");
    sr_queue(sr);
    SR_WORDS(sr, "HMGET");
    redis_arg_key(&sr->args, STORE_TOTALS_OF, domain);
    for (const char *letter = "olrn"; *letter; letter++)
        redis_arg(&sr->args, letter, 1);
    sr_queue(sr);
    if (!sr_read(sr) || !compare_now(sr, &head, compare))
        return LOOKUP_FAILED;
    size_t len;
    const char *own = resp_text(redis_reply(sr->redis, 1), &len);
    if (!own) {
        sr_set_refusal(sr, "UNREGISTERED", domain, "");
        return LOOKUP_ABSENT;
    }
    const struct resp *counts = redis_reply(sr->redis, 2);
    uint64_t *const to[] = { &out->old, &out->locked, &out->rolling_back, &out->new };
    for (size_t i = 0; i < 4; i++)
        if (!resp_number(resp_at(counts, i), to[i]))
            *to[i] = 0;
    return decode_home(sr, "", domain, own, len, &out->own) ? LOOKUP_FOUND
                                                            : LOOKUP_FAILED;
}

enum lookup sr_totals(struct store *store, const char *domain, struct store_totals *out)
{
    return read_totals((struct store_redis *)store, domain, COMPARE, out);
}

/* ---- every home -------------------------------------------------------- */

struct each_home {
    struct store_redis *sr;
    const char *domain;
    store_home_fn *each;
    void *context;
    bool own_seen;
    bool failed;
};

static bool home_field(void *context, const char *field, size_t field_len,
                       const char *value, size_t value_len)
{
    struct each_home *walk = context;
    struct home home;
    if (field_len == 0)
        walk->own_seen = true;
    if (field_len > ADDR_LOCAL_MAX || strlen(field) != field_len) {
        sr_set_refusal(walk->sr, "BAD", walk->domain, "");
        walk->failed = true;
        return false;
    }
    if (!decode_home(walk->sr, field, walk->domain, value, value_len, &home)) {
        walk->failed = true;
        return false;
    }
    return walk->each(walk->context, field, &home);
}

static bool history_now(struct store_redis *sr)
{
    struct position head;
    if (!sr_head(sr, &head))
        return false;
    redis_begin(sr->redis, sr->conf->command_timeout);
    sr_ask_history(sr, &head);
    return sr_read(sr) && compare_now(sr, &head, COMPARE_OR_BEHIND);
}

bool sr_each_home(struct store *store, const char *domain, store_home_fn *each,
                  void *context)
{
    struct store_redis *sr = (struct store_redis *)store;
    struct store_totals totals;
    if (read_totals(sr, domain, COMPARE_OR_BEHIND, &totals) != LOOKUP_FOUND)
        return false;
    struct each_home walk = {
        .sr = sr, .domain = domain, .each = each, .context = context
    };
    /* Again at the end: a Redis that lost its data in between has shown us
     * only a part of it. */
    return sr_each_field(sr, STORE_HOME_OF, domain, home_field, &walk) && !walk.failed &&
           history_now(sr);
}
