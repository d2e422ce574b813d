/*
 * store_redis_auth: who sends as a domain. The rows are added inside Redis
 * (lua/auth.lua), ROWS_A_CALL with one script call so that none of them holds
 * Redis for more than about a millisecond, and all calls in one round trip.
 *
 * Adding twice counts twice. Redis that stands still and then goes on would run
 * each of the attempts made meanwhile: so after one without an answer, the next
 * first asks whether Redis is there.
 */
#include "config.h"

#include "store_redis.h"

#include <stdlib.h>
#include <string.h>

#include "auth_row.h"

#define ROWS_A_CALL 100

static const char auth_text[] =
#include "lib/lua/common.lua.h"
#include "lib/lua/auth.lua.h"
    ;

void sr_auth_scripts(struct redis_script scripts[SCRIPT_COUNT])
{
    scripts[SCRIPT_AUTH].text = auth_text;
}

static void row_args(struct redis_args *args, const struct auth_row *row)
{
    char field[AUTH_FIELD_MAX + 1], counts[AUTH_COUNTS_MAX + 1], helo[AUTH_HELO_MAX + 1];
    auth_row_field(row, field);
    auth_row_counts(row, counts);
    auth_row_helo(row->helo, helo);
    redis_arg_text(args, field);
    redis_arg_number(args, row->messages);
    redis_arg_number(args, row->would_fail);
    redis_arg_number(args, row->first > 0 ? (uint64_t)row->first : 0);
    redis_arg_number(args, row->last > 0 ? (uint64_t)row->last : 0);
    redis_arg_text(args, counts);
    redis_arg_text(args, helo);
}

static void queue_rows(struct store_redis *sr, const char *domain,
                       const struct auth_row *rows, size_t n)
{
    for (size_t at = 0; at < n; at += ROWS_A_CALL) {
        redis_args_reset(&sr->args);
        redis_arg_text(&sr->args, domain);
        redis_arg_number(&sr->args, AUTH_ROWS_MAX);
        for (size_t i = at; i < n && i < at + ROWS_A_CALL; i++)
            row_args(&sr->args, &rows[i]);
        sr_script_queue(sr, SCRIPT_AUTH);
    }
}

static bool answers(struct store_redis *sr)
{
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "PING");
    sr_queue(sr);
    if (!sr_read(sr))
        return false;
    sr->auth_unanswered = false;
    return true;
}

/* How many of the rows are in; *flushed: Redis has forgotten the script. */
static size_t add_rows(struct store_redis *sr, const char *domain,
                       const struct auth_row *rows, size_t n, bool *flushed)
{
    size_t added = 0;
    *flushed = false;
    redis_begin(sr->redis, sr->conf->command_timeout);
    enum redis_result result = redis_script_load(sr->redis, &sr->scripts[SCRIPT_AUTH]);
    if (result == REDIS_DONE) {
        queue_rows(sr, domain, rows, n);
        result = redis_run(sr->redis);
        sr->auth_unanswered = result == REDIS_LOST;
    }
    if (result != REDIS_DONE) {
        store_set_error(&sr->base, "%s", redis_error(sr->redis));
        return 0;
    }
    for (size_t call = 0; added < n; call++, added += ROWS_A_CALL) {
        const struct resp *reply = redis_reply(sr->redis, call);
        *flushed = resp_is_error(reply, "NOSCRIPT");
        if (sr_script_reply(sr, reply) != COMMIT_DONE)
            break;
    }
    return added < n ? added : n;
}

bool sr_auth_add(struct store *store, const char *domain, const struct auth_row *rows,
                 size_t n)
{
    struct store_redis *sr = (struct store_redis *)store;
    bool flushed;
    if (sr->auth_unanswered && !answers(sr))
        return false;
    size_t added = add_rows(sr, domain, rows, n, &flushed);
    if (flushed) {
        sr->scripts[SCRIPT_AUTH].sha[0] = '\0';
        added += add_rows(sr, domain, rows + added, n - added, &flushed);
    }
    return added == n;
}

struct each_auth {
    store_auth_fn *each;
    void *context;
};

static bool auth_field(void *context, const char *field, size_t field_len,
                       const char *value, size_t value_len)
{
    const struct each_auth *walk = context;
    char field_copy[AUTH_FIELD_MAX + 1], value_copy[AUTH_VALUE_MAX + 1];
    struct auth_row row;
    if (field_len > AUTH_FIELD_MAX || value_len > AUTH_VALUE_MAX)
        return true; /* a figure that nobody wrote */
    memcpy(field_copy, field, field_len + 1);
    memcpy(value_copy, value, value_len + 1);
    return !auth_row_decode(field_copy, value_copy, &row) ||
           walk->each(walk->context, &row);
}

bool sr_each_auth(struct store *store, const char *domain, store_auth_fn *each,
                  void *context)
{
    struct each_auth walk = { .each = each, .context = context };
    return sr_each_field((struct store_redis *)store, STORE_AUTH_OF, domain, auth_field,
                         &walk);
}

enum commit sr_auth_drop(struct store *store, const char *domain)
{
    struct store_redis *sr = (struct store_redis *)store;
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "DEL");
    redis_arg_key(&sr->args, STORE_AUTH_OF, domain);
    sr_queue(sr);
    return sr_write(sr);
}
