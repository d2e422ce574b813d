/*
 * store_redis: the store on Redis: the handle, and what the other files of this
 * back end share: running commands and scripts, comparing histories, scanning.
 * (read: lookups; change: homes; host: hosts and events; record: held messages,
 * figures, leases, health; recover.)
 *
 * Diagnostics: store_error() has one line. What went wrong with Redis itself
 * begins "Redis at <endpoint>"; a refusal by a script names the rule and the
 * way out (sr_set_refusal() below).
 *
 * Limits: a hash is read COUNT_PER_SCAN fields at a time, so that Redis serves
 * others in between.
 */
#include "config.h"

#include "store_redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "table.h"

#define COUNT_PER_SCAN "1000"

/* ---- running commands -------------------------------------------------- */

static int command_timeout(const struct store_redis *sr)
{
    return sr->conf->command_timeout;
}

void sr_queue(struct store_redis *sr)
{
    redis_command(sr->redis, &sr->args);
}

bool sr_check(struct store_redis *sr, const struct resp *reply)
{
    if (resp_type(reply) != RESP_ERROR)
        return true;
    const char *where = sr->conf->redis.text ? sr->conf->redis.text : "?";
    store_set_error(&sr->base, "Redis at %s answers: %s", where, resp_text(reply, NULL));
    /* After a failover the master may be found behind the same name. */
    if (resp_is_error(reply, "READONLY"))
        redis_close(sr->redis);
    return false;
}

bool sr_check_all(struct store_redis *sr)
{
    for (size_t i = 0; i < redis_reply_count(sr->redis); i++)
        if (!sr_check(sr, redis_reply(sr->redis, i)))
            return false;
    return true;
}

bool sr_read(struct store_redis *sr)
{
    if (redis_run(sr->redis) == REDIS_DONE)
        return sr_check_all(sr);
    store_set_error(&sr->base, "%s", redis_error(sr->redis));
    return false;
}

bool sr_queue_wait(struct store_redis *sr)
{
    if (sr->conf->redis_replicas <= 0)
        return false;
    SR_WORDS(sr, "WAIT");
    redis_arg_number(&sr->args, (uint64_t)sr->conf->redis_replicas);
    /* Redis' answer must arrive before our own limit. */
    redis_arg_number(&sr->args, (uint64_t)command_timeout(sr) / 2 + 1);
    sr_queue(sr);
    return true;
}

bool sr_check_wait(struct store_redis *sr, const struct resp *reply)
{
    if (!sr_check(sr, reply))
        return false;
    if (resp_integer(reply) >= sr->conf->redis_replicas)
        return true;
    store_set_error(&sr->base,
                    "written, but confirmed by %" PRId64
                    " of %d replicas (redis-replicas): "
                    "repeat the command when the replicas are back",
                    resp_integer(reply), sr->conf->redis_replicas);
    return false;
}

enum commit sr_write_failed(struct store_redis *sr, enum redis_result result)
{
    store_set_error(&sr->base, "%s; %s", redis_error(sr->redis),
                    result == REDIS_UNSENT
                        ? "nothing was written, try again"
                        : "it may have been written, repeat the command "
                          "to make sure");
    return COMMIT_UNCERTAIN;
}

enum commit sr_write(struct store_redis *sr)
{
    bool wait = sr_queue_wait(sr);
    enum redis_result result = redis_run(sr->redis);
    if (result != REDIS_DONE)
        return sr_write_failed(sr, result);
    size_t n = redis_reply_count(sr->redis);
    if (!sr_check_all(sr))
        return COMMIT_UNCERTAIN;
    if (wait && !sr_check_wait(sr, redis_reply(sr->redis, n - 1)))
        return COMMIT_UNCERTAIN;
    return COMMIT_DONE;
}

/* ---- the history ------------------------------------------------------- */

bool sr_head(struct store_redis *sr, struct position *head)
{
    *head = (struct position){ 0 };
    if (!sr->head)
        return true;
    switch (journal_head(sr->head, head)) {
    case LOOKUP_FOUND:
        return true;
    case LOOKUP_ABSENT:
        *head = (struct position){ 0 };
        return true;
    case LOOKUP_FAILED:
        break;
    }
    char path[256];
    conf_journal_path(sr->conf, path, sizeof(path));
    store_set_error(
        &sr->base, "this host's journal %s cannot be read: see the log of sluice-policyd",
        path);
    return false;
}

void sr_ask_history(struct store_redis *sr, const struct position *head)
{
    SR_WORDS(sr, "HMGET", STORE_CHAIN, "epoch");
    redis_arg_number(&sr->args, head->epoch);
    redis_arg_text(&sr->args, "floor");
    sr_queue(sr);
}

void sr_set_refusal(struct store_redis *sr, const char *code, const char *one,
                    const char *two)
{
    struct store *store = &sr->base;
    if (strcmp(code, "EMPTY") == 0 && strcmp(one, "0") == 0)
        store_set_error(store, "Redis holds no data of sluice: run \"sluice init\"");
    else if (strcmp(code, "EMPTY") == 0)
        store_set_error(
            store,
            "Redis has lost its history (it holds none, this host's journal is at "
            "change %s): run \"sluice recover\"",
            one);
    else if (strcmp(code, "LOST") == 0)
        store_set_error(
            store,
            "Redis has lost or rolled back its history (it is at change %s, this "
            "host's journal at %s): run \"sluice recover\"",
            one, two);
    else if (strcmp(code, "DIVERGED") == 0)
        store_set_error(
            store,
            "Redis has another history than this host's journal (it is at change "
            "%s, but its change %s is not the journal's): it was rolled back and "
            "written again; run \"sluice recover\"",
            one, two);
    else if (strcmp(code, "BEHIND") == 0)
        store_set_error(
            store,
            "this host's journal (at change %s) is older than what Redis keeps to "
            "compare with (it is at %s): start sluice-policyd here, it takes a new "
            "base",
            two, one);
    else if (strcmp(code, "UNREGISTERED") == 0)
        store_set_error(store, "%s is not registered: run \"sluice init\"", one);
    else if (strcmp(code, "TAKEN") == 0)
        store_set_error(store,
                        "%s of the playbook of %s was changed by somebody else "
                        "meanwhile: look at sluice playbook status",
                        one, two);
    else if (strcmp(code, "NOHOST") == 0)
        store_set_error(
            store,
            "no host of the %s side is registered: start sluice-policyd there, or "
            "see \"sluice status\"",
            one);
    else if (strcmp(code, "PARTIAL") == 0)
        store_set_error(
            store, "Redis holds parts of sluice's data but no history of changes: run "
                   "\"sluice recover\" on a host with a journal");
    else if (strcmp(code, "BAD") == 0)
        store_set_error(
            store, "the record of %s in Redis is damaged: run \"sluice recover\"", one);
    else
        store_set_error(store, "Redis refused: %s %s %s", code, one, two);
}

bool sr_history(struct store_redis *sr, const struct resp *reply,
                const struct position *head, struct sr_history *out)
{
    static const char *const codes[] = { [HISTORY_HOLDS] = "OK",
                                         [HISTORY_LOST] = "LOST",
                                         [HISTORY_BEHIND] = "BEHIND",
                                         [HISTORY_DIVERGED] = "DIVERGED" };
    char mine[24], theirs[24];
    snprintf(theirs, sizeof(theirs), "%" PRIu64, head->epoch);
    struct sr_history found = { 0 };
    if (!resp_number(resp_at(reply, 0), &found.epoch)) {
        sr_set_refusal(sr, "EMPTY", theirs, "");
        return false;
    }
    (void)resp_number(resp_at(reply, 2), &found.floor);
    enum history history =
        history_judge(head, found.epoch, found.floor, resp_text(resp_at(reply, 1), NULL));
    found.behind = history == HISTORY_BEHIND;
    if (out)
        *out = found;
    if (history == HISTORY_HOLDS)
        return true;
    snprintf(mine, sizeof(mine), "%" PRIu64, found.epoch);
    sr_set_refusal(sr, codes[history], mine, theirs);
    return false;
}

/* ---- scripts ----------------------------------------------------------- */

bool sr_script_args(struct store_redis *sr)
{
    struct position head;
    char id[EVENT_ID_LEN + 1];
    if (!sr_head(sr, &head))
        return false;
    if (!store_event_id(id)) {
        store_set_error(&sr->base,
                        "the kernel gives no random numbers: nothing was written");
        return false;
    }
    redis_args_reset(&sr->args);
    redis_arg_number(&sr->args, head.epoch);
    redis_arg_text(&sr->args, head.id);
    redis_arg_text(&sr->args, id);
    return true;
}

void sr_script_queue(struct store_redis *sr, enum sr_script script)
{
    redis_script(sr->redis, &sr->scripts[script], &sr->args);
}

enum commit sr_script_reply(struct store_redis *sr, const struct resp *reply)
{
    const char *code = resp_text(resp_at(reply, 0), NULL);
    if (code && strcmp(code, "OK") == 0)
        return COMMIT_DONE;
    if (!sr_check(sr, reply))
        return COMMIT_UNCERTAIN;
    if (!code) {
        store_set_error(&sr->base,
                        "Redis answered a script with something else; it may have "
                        "been written, repeat the command to make sure");
        return COMMIT_UNCERTAIN;
    }
    const char *one = resp_text(resp_at(reply, 1), NULL);
    const char *two = resp_text(resp_at(reply, 2), NULL);
    sr_set_refusal(sr, code, one ? one : "", two ? two : "");
    return COMMIT_REFUSED;
}

enum commit sr_script(struct store_redis *sr, enum sr_script script,
                      const struct resp **reply)
{
    *reply = NULL;
    for (int attempt = 0;; attempt++) {
        redis_begin(sr->redis, command_timeout(sr));
        if (redis_script_load(sr->redis, &sr->scripts[script]) != REDIS_DONE)
            return sr_write_failed(sr, REDIS_UNSENT);
        sr_script_queue(sr, script);
        enum redis_result result = redis_run(sr->redis);
        if (result != REDIS_DONE)
            return sr_write_failed(sr, result);
        *reply = redis_reply(sr->redis, 0);
        if (!resp_is_error(*reply, "NOSCRIPT") || attempt > 0)
            break;
        sr->scripts[script].sha[0] = '\0'; /* flushed: nothing ran, load it again */
    }
    enum commit commit = sr_script_reply(sr, *reply);
    if (commit == COMMIT_DONE && sr_queue_wait(sr)) {
        if (redis_run(sr->redis) != REDIS_DONE)
            return sr_write_failed(sr, REDIS_LOST);
        if (!sr_check_wait(sr, redis_reply(sr->redis, 1)))
            return COMMIT_UNCERTAIN;
    }
    return commit;
}

/* ---- scanning a hash --------------------------------------------------- */

static bool scan_page(struct store_redis *sr, const char *prefix, const char *name,
                      const char *cursor)
{
    redis_begin(sr->redis, command_timeout(sr));
    SR_WORDS(sr, "HSCAN");
    redis_arg_key(&sr->args, prefix, name);
    redis_arg_text(&sr->args, cursor);
    redis_arg_text(&sr->args, "COUNT");
    redis_arg_text(&sr->args, COUNT_PER_SCAN);
    sr_queue(sr);
    return sr_read(sr);
}

/* Whether field was met before; notes it. HSCAN repeats fields when the hash
 * grows or shrinks meanwhile. */
static bool met_before(struct table *seen, const char *field, size_t len, bool *failed)
{
    if (table_get(seen, field, len, NULL))
        return true;
    *failed = !table_put(seen, field, len, "", 0);
    return false;
}

static bool scan_all(struct store_redis *sr, const char *prefix, const char *name,
                     struct table *seen, sr_field_fn *each, void *context)
{
    char cursor[24] = "0";
    bool failed = false;
    do {
        if (!scan_page(sr, prefix, name, cursor))
            return false;
        const struct resp *page = redis_reply(sr->redis, 0);
        const char *next = resp_text(resp_at(page, 0), NULL);
        const struct resp *found = resp_at(page, 1);
        bool one_page = strcmp(cursor, "0") == 0 && next && strcmp(next, "0") == 0;
        for (size_t i = 0; i + 1 < resp_count(found); i += 2) {
            size_t field_len, value_len;
            const char *field = resp_text(resp_at(found, i), &field_len);
            const char *value = resp_text(resp_at(found, i + 1), &value_len);
            if (!field || !value)
                continue;
            if (!one_page && met_before(seen, field, field_len, &failed))
                continue;
            if (failed) {
                store_set_error(&sr->base, "out of memory while reading %s%s", prefix,
                                name);
                return false;
            }
            if (!each(context, field, field_len, value, value_len))
                return true;
        }
        int n = snprintf(cursor, sizeof(cursor), "%s", next ? next : "");
        if (!next || n >= (int)sizeof(cursor)) {
            store_set_error(&sr->base, "Redis answers HSCAN with no cursor");
            return false;
        }
    } while (strcmp(cursor, "0") != 0);
    return true;
}

bool sr_each_field(struct store_redis *sr, const char *prefix, const char *name,
                   sr_field_fn *each, void *context)
{
    struct table *seen = table_new();
    if (!seen) {
        store_set_error(&sr->base, "out of memory while reading %s%s", prefix, name);
        return false;
    }
    bool ok = scan_all(sr, prefix, name, seen, each, context);
    table_free(seen);
    return ok;
}

/* ---- the handle -------------------------------------------------------- */

static void sr_free(struct store *store)
{
    struct store_redis *sr = (struct store_redis *)store;
    redis_free(sr->redis);
    redis_args_free(&sr->args);
    conf_unref(sr->conf);
    free(sr);
}

static const struct store_ops redis_ops = {
    .free = sr_free,
    .lookup = sr_lookup,
    .position = sr_position,
    .secret = sr_secret,
    .time_ms = sr_time_ms,
    .totals = sr_totals,
    .each_home = sr_each_home,
    .change_begin = sr_change_begin,
    .change_finish = sr_change_finish,
    .change_all = sr_change_all,
    .init_domain = sr_init_domain,
    .domains = sr_domains,
    .host_put = sr_host_put,
    .host_remove = sr_host_remove,
    .hosts = sr_hosts,
    .events = sr_events,
    .trim = sr_trim,
    .held_put = sr_held_put,
    .held_drop = sr_held_drop,
    .each_held = sr_each_held,
    .count_floaters = sr_count_floaters,
    .note_arrivals = sr_note_arrivals,
    .each_floater = sr_each_floater,
    .each_arrival = sr_each_arrival,
    .auth_add = sr_auth_add,
    .each_auth = sr_each_auth,
    .auth_drop = sr_auth_drop,
    .ping_put = sr_ping_put,
    .ping_drop = sr_ping_drop,
    .each_ping = sr_each_ping,
    .monitor_put = sr_monitor_put,
    .monitor_drop = sr_monitor_drop,
    .each_monitor = sr_each_monitor,
    .playbook_put = sr_playbook_put,
    .each_playbook = sr_each_playbook,
    .each_picture = sr_each_picture,
    .lease_take = sr_lease_take,
    .lease_drop = sr_lease_drop,
    .durable = sr_durable,
    .recover = sr_recover,
};

struct store *store_redis_new(struct conf *conf, struct journal_reader *head)
{
    struct store_redis *sr = calloc(1, sizeof(*sr));
    if (!sr)
        abort(); /* at start-up, a few hundred bytes */
    sr->base.ops = &redis_ops;
    sr->conf = conf_ref(conf);
    sr->head = head;
    sr->redis = redis_new(conf);
    sr_change_scripts(sr->scripts);
    sr_host_scripts(sr->scripts);
    sr_record_scripts(sr->scripts);
    sr_recover_scripts(sr->scripts);
    sr_auth_scripts(sr->scripts);
    sr_playbook_scripts(sr->scripts);
    return &sr->base;
}
