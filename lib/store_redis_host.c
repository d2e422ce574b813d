/*
 * store_redis_host: the MTA hosts with their heartbeats, and the stream of
 * events that they follow.
 *
 * Host record, a field of sluice:hosts, TAB-separated:
 *     side=old fenced=<epoch> journaled=<epoch> swept=<epoch> seen=<unix ms>
 *     held=<n> loops=<n> left=<n> oldest=<unix s> waiting=<n> waits=<unix s>
 *     version=<text> state=<text>
 * The scripts read side, fenced and journaled; control characters are taken out
 * of the texts, so no text can forge a figure.
 *
 * Limits: one XREAD takes at most EVENTS_PER_READ events (12 MB at the worst
 * usual size), a trim TRIM_COUNT.
 */
#include "config.h"

#include "store_redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_PER_READ 100
#define TRIM_COUNT      2000

static const char host_put_text[] =
#include "lib/lua/common.lua.h"
#include "lib/lua/host_put.lua.h"
    ;
static const char host_remove_text[] =
#include "lib/lua/common.lua.h"
#include "lib/lua/host_remove.lua.h"
    ;
static const char trim_text[] =
#include "lib/lua/common.lua.h"
#include "lib/lua/trim.lua.h"
    ;

void sr_host_scripts(struct redis_script scripts[SCRIPT_COUNT])
{
    scripts[SCRIPT_HOST_PUT].text = host_put_text;
    scripts[SCRIPT_HOST_REMOVE].text = host_remove_text;
    scripts[SCRIPT_TRIM].text = trim_text;
}

/* ---- hosts ------------------------------------------------------------- */

enum commit sr_host_put(struct store *store, const struct host *host)
{
    struct store_redis *sr = (struct store_redis *)store;
    char version[sizeof(host->version)], state[sizeof(host->state)], rest[512];
    store_host_text(host->version, version, sizeof(version));
    store_host_text(host->state, state, sizeof(state));
    /* 6 numbers of 20 digits and two texts of known size: fits. */
    snprintf(rest, sizeof(rest),
             "held=%" PRIu64 "\tloops=%" PRIu64 "\tleft=%" PRIu64 "\toldest=%" PRId64
             "\twaiting=%" PRIu64 "\twaits=%" PRId64 "\tversion=%s\tstate=%s",
             host->held, host->loops, host->left, host->oldest, host->deferred,
             host->deferred_oldest, version, state);
    if (!sr_script_args(sr))
        return COMMIT_UNCERTAIN;
    redis_arg_text(&sr->args, host->name);
    redis_arg_text(&sr->args, side_name(host->side));
    redis_arg_number(&sr->args, host->journaled);
    redis_arg_number(&sr->args, host->fenced);
    redis_arg_number(&sr->args, host->swept);
    redis_arg_text(&sr->args, rest);
    const struct resp *reply;
    return sr_script(sr, SCRIPT_HOST_PUT, &reply);
}

enum commit sr_host_remove(struct store *store, const char *name)
{
    struct store_redis *sr = (struct store_redis *)store;
    if (!sr_script_args(sr))
        return COMMIT_UNCERTAIN;
    redis_arg_text(&sr->args, name);
    const struct resp *reply;
    return sr_script(sr, SCRIPT_HOST_REMOVE, &reply);
}

/* The value of "name=" in a record, up to the next TAB; "" when missing. */
static void host_field(const char *record, const char *name, char *out, size_t size)
{
    size_t name_len = strlen(name);
    out[0] = '\0';
    for (const char *at = record; at; at = strchr(at, '\t')) {
        at += *at == '\t';
        if (strncmp(at, name, name_len) == 0 && at[name_len] == '=') {
            int len = (int)strcspn(at + name_len + 1, "\t");
            snprintf(out, size, "%.*s", len, at + name_len + 1); /* texts may be cut */
            return;
        }
    }
}

static uint64_t host_number(const char *record, const char *name)
{
    char text[24];
    host_field(record, name, text, sizeof(text));
    return text[0] >= '0' && text[0] <= '9' ? strtoull(text, NULL, 10) : 0;
}

static bool host_decode(const char *name, const char *record, struct host *out)
{
    char side[8];
    *out = (struct host){ 0 };
    host_field(record, "side", side, sizeof(side));
    int n = snprintf(out->name, sizeof(out->name), "%s", name);
    out->side = strcmp(side, side_name(SIDE_NEW)) == 0 ? SIDE_NEW : SIDE_OLD;
    out->journaled = host_number(record, "journaled");
    out->fenced = host_number(record, "fenced");
    out->swept = host_number(record, "swept");
    out->held = host_number(record, "held");
    out->loops = host_number(record, "loops");
    out->left = host_number(record, "left");
    out->oldest = (int64_t)host_number(record, "oldest");
    out->deferred = host_number(record, "waiting");
    out->deferred_oldest = (int64_t)host_number(record, "waits");
    out->seen_ms = (int64_t)host_number(record, "seen");
    host_field(record, "version", out->version, sizeof(out->version));
    host_field(record, "state", out->state, sizeof(out->state));
    return n > 0 && n < (int)sizeof(out->name) &&
           (out->side == SIDE_NEW || strcmp(side, side_name(SIDE_OLD)) == 0);
}

enum lookup sr_hosts(struct store *store, struct host **out, size_t *n)
{
    struct store_redis *sr = (struct store_redis *)store;
    *out = NULL;
    *n = 0;
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "HGETALL", STORE_HOSTS);
    sr_queue(sr);
    if (!sr_read(sr))
        return LOOKUP_FAILED;
    const struct resp *all = redis_reply(sr->redis, 0);
    size_t count = resp_count(all) / 2;
    if (count == 0)
        return LOOKUP_ABSENT;
    struct host *list = calloc(count, sizeof(*list));
    if (!list) {
        store_set_error(store, "out of memory for %zu hosts", count);
        return LOOKUP_FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = resp_text(resp_at(all, 2 * i), NULL);
        const char *record = resp_text(resp_at(all, 2 * i + 1), NULL);
        if (!name || !record || !host_decode(name, record, &list[i])) {
            store_set_error(store,
                            "the record of host %.64s in Redis is damaged: \"sluice "
                            "status\" names it, its sluice-policyd writes it again",
                            name ? name : "?");
            free(list);
            return LOOKUP_FAILED;
        }
    }
    *out = list;
    *n = count;
    return LOOKUP_FOUND;
}

/* ---- events ------------------------------------------------------------ */

static const char *field_of(const struct resp *fields, const char *name, size_t *len)
{
    for (size_t i = 0; i + 1 < resp_count(fields); i += 2) {
        const char *found = resp_text(resp_at(fields, i), NULL);
        if (found && strcmp(found, name) == 0)
            return resp_text(resp_at(fields, i + 1), len);
    }
    return NULL;
}

/* Copies a text of known size; false when it is missing or too long. */
static bool copy_field(const struct resp *fields, const char *name, char *out,
                       size_t size)
{
    size_t len;
    const char *text = field_of(fields, name, &len);
    if (!text || len >= size)
        return false;
    memcpy(out, text, len + 1);
    return true;
}

static bool event_decode(const struct resp *entry, struct event *out)
{
    char op[16], letter[2], time[24];
    const char *id = resp_text(resp_at(entry, 0), NULL);
    const struct resp *fields = resp_at(entry, 1);
    *out = (struct event){ 0 };
    if (!id || !copy_field(fields, "id", out->at.id, sizeof(out->at.id)) ||
        !copy_field(fields, "prev", out->prev, sizeof(out->prev)) ||
        !copy_field(fields, "op", op, sizeof(op)) ||
        !copy_field(fields, "letter", letter, sizeof(letter)) ||
        !copy_field(fields, "time", time, sizeof(time)) ||
        !copy_field(fields, "domain", out->domain, sizeof(out->domain)))
        return false;
    out->at.epoch = strtoull(id, NULL, 10);
    out->letter = letter[0];
    out->time = strtoll(time, NULL, 10);
    out->body = field_of(fields, "body", &out->body_len);
    return out->body && out->at.epoch > 0 && event_op_parse(op, &out->op);
}

static bool read_entries(struct store_redis *sr, const struct position *after,
                         int wait_ms, int max, struct sr_history *history)
{
    char from[32];
    snprintf(from, sizeof(from), "%" PRIu64 "-0", after->epoch);
    redis_begin(sr->redis, sr->conf->command_timeout + wait_ms);
    sr_ask_history(sr, after);
    SR_WORDS(sr, "XREAD", "COUNT");
    redis_arg_number(&sr->args,
                     (uint64_t)(max < EVENTS_PER_READ ? max : EVENTS_PER_READ));
    if (wait_ms > 0) { /* BLOCK 0 would be for ever */
        redis_arg_text(&sr->args, "BLOCK");
        redis_arg_number(&sr->args, (uint64_t)wait_ms);
    }
    redis_arg_text(&sr->args, "STREAMS");
    redis_arg_text(&sr->args, STORE_EVENTS);
    redis_arg_text(&sr->args, from);
    sr_queue(sr);
    return sr_read(sr) && sr_history(sr, redis_reply(sr->redis, 0), after, history);
}

enum lookup sr_events(struct store *store, const struct position *after, int wait_ms,
                      int max, store_event_fn *each, void *context)
{
    struct store_redis *sr = (struct store_redis *)store;
    struct sr_history history = { 0 };
    if (max <= 0)
        return LOOKUP_FOUND;
    if (!read_entries(sr, after, wait_ms, max, &history))
        return history.epoch >= after->epoch && after->epoch > 0 &&
                       after->epoch < history.floor
                   ? LOOKUP_ABSENT /* too far behind to compare: a new base */
                   : LOOKUP_FAILED;
    const struct resp *entries = resp_at(resp_at(redis_reply(sr->redis, 1), 0), 1);
    struct position last = *after;
    if (last.epoch == 0)
        memcpy(last.id, "-", 2);
    if (resp_count(entries) == 0 && history.epoch > after->epoch)
        return LOOKUP_ABSENT;
    for (size_t i = 0; i < resp_count(entries); i++) {
        struct event event;
        if (!event_decode(resp_at(entries, i), &event)) {
            store_set_error(store,
                            "%s in Redis is damaged after change %" PRIu64
                            ": run \"sluice recover\"",
                            STORE_EVENTS, last.epoch);
            return LOOKUP_FAILED;
        }
        if (event.at.epoch > last.epoch + 1)
            return LOOKUP_ABSENT;
        if (strcmp(event.prev, last.id) != 0) {
            store_set_error(store,
                            "change %" PRIu64 " in Redis does not follow this host's "
                            "change %" PRIu64 ": Redis was rolled back and written "
                            "again; run \"sluice recover\"",
                            event.at.epoch, last.epoch);
            return LOOKUP_FAILED;
        }
        last = event.at;
        if (!each(context, &event))
            break;
    }
    return LOOKUP_FOUND;
}

void sr_trim(struct store *store)
{
    struct store_redis *sr = (struct store_redis *)store;
    redis_args_reset(&sr->args);
    redis_arg_number(&sr->args, TRIM_COUNT);
    const struct resp *reply;
    (void)sr_script(sr, SCRIPT_TRIM, &reply); /* the next trim does it */
}
