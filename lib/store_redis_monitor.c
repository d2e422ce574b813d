/*
 * store_redis_monitor: what `sluice monitor` and `sluice ping` have seen last, for the
 * status page. Figures: a row that cannot be read is left out.
 */
#include "config.h"

#include "store_redis.h"

#include <stdlib.h>
#include <string.h>

#include "monitor_row.h"
#include "ping_row.h"

/* ---- sluice ping ------------------------------------------------------------------ */

enum commit sr_ping_put(struct store *store, const struct ping_row *row)
{
    struct store_redis *sr = (struct store_redis *)store;
    char field[PING_FIELD_MAX + 1], value[PING_VALUE_MAX + 1];
    if (!ping_row_field(row, field)) {
        store_set_error(store, "ping: the names of host and path are too long");
        return COMMIT_REFUSED;
    }
    ping_row_value(row, value);
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "HSET", STORE_PINGS);
    redis_arg_text(&sr->args, field);
    redis_arg_text(&sr->args, value);
    sr_queue(sr);
    return sr_write(sr);
}

/* The row may be gone already. */
static enum commit drop_field(struct store_redis *sr, const char *key, const char *field)
{
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "HDEL", key);
    redis_arg_text(&sr->args, field);
    sr_queue(sr);
    return sr_write(sr);
}

enum commit sr_ping_drop(struct store *store, const char *host, const char *path)
{
    char field[PING_FIELD_MAX + 1];
    const struct ping_row row = { .host = host, .path = path };
    if (!ping_row_field(&row, field))
        return COMMIT_DONE; /* there is none */
    return drop_field((struct store_redis *)store, STORE_PINGS, field);
}

struct each_ping {
    store_ping_fn *each;
    void *context;
};

static bool ping_field(void *context, const char *field, size_t field_len,
                       const char *value, size_t value_len)
{
    const struct each_ping *walk = context;
    char field_copy[PING_FIELD_MAX + 1], value_copy[PING_VALUE_MAX + 1];
    struct ping_row row;
    if (field_len > PING_FIELD_MAX || value_len > PING_VALUE_MAX)
        return true; /* nobody wrote this */
    memcpy(field_copy, field, field_len + 1);
    memcpy(value_copy, value, value_len + 1);
    return !ping_row_decode(field_copy, value_copy, &row) ||
           walk->each(walk->context, &row);
}

bool sr_each_ping(struct store *store, store_ping_fn *each, void *context)
{
    struct each_ping walk = { .each = each, .context = context };
    return sr_each_field((struct store_redis *)store, STORE_PREFIX, "pings", ping_field,
                         &walk);
}

/* ---- sluice monitor ---------------------------------------------------------------- */

enum commit sr_monitor_put(struct store *store, const struct monitor_row *row)
{
    struct store_redis *sr = (struct store_redis *)store;
    char *value = malloc(MONITOR_VALUE_MAX + 1);
    if (!value || !monitor_row_encode(row, value)) {
        store_set_error(store, "monitor: %s",
                        value ? "a name is too long" : "out of memory");
        free(value);
        return COMMIT_REFUSED;
    }
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "HSET", STORE_MONITORS);
    redis_arg_text(&sr->args, row->host);
    redis_arg_text(&sr->args, value);
    sr_queue(sr);
    free(value);
    return sr_write(sr);
}

enum commit sr_monitor_drop(struct store *store, const char *host)
{
    return drop_field((struct store_redis *)store, STORE_MONITORS, host);
}

struct each_monitor {
    store_monitor_fn *each;
    void *context;
    struct monitor_domain *domains;
    char *value;
};

static bool monitor_field(void *context, const char *field, size_t field_len,
                          const char *value, size_t value_len)
{
    const struct each_monitor *walk = context;
    char host[MONITOR_FIELD_MAX + 1];
    struct monitor_row row = { .host = host };
    if (field_len == 0 || field_len > MONITOR_FIELD_MAX || value_len > MONITOR_VALUE_MAX)
        return true; /* nobody wrote this */
    memcpy(host, field, field_len + 1);
    memcpy(walk->value, value, value_len + 1);
    return !monitor_row_decode(walk->value, walk->domains, &row) ||
           walk->each(walk->context, &row);
}

bool sr_each_monitor(struct store *store, store_monitor_fn *each, void *context)
{
    struct each_monitor walk = { .each = each, .context = context };
    bool good = false;
    walk.domains = calloc(MONITOR_DOMAINS_MAX, sizeof(*walk.domains));
    walk.value = malloc(MONITOR_VALUE_MAX + 1);
    if (walk.domains && walk.value)
        good = sr_each_field((struct store_redis *)store, STORE_PREFIX, "monitors",
                             monitor_field, &walk);
    else
        store_set_error(store, "out of memory");
    free(walk.domains);
    free(walk.value);
    return good;
}
