/*
 * store_redis_change: changes of homes. Each chunk is one run of a Lua script
 * (lua/change.lua, lua/change_all.lua): it checks history, transitions and
 * fences, and writes records, totals, the next epoch and the event, or nothing.
 *
 * Limits: EVENT_ITEMS_MAX items per chunk, SCAN_COUNT mailboxes per step of a
 * whole domain (about 3 ms of Redis' time), STORE_CHANGES_MAX chunks under way.
 */
#include "config.h"

#include "store_redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SCAN_COUNT 900
/* Passes over a domain: a mailbox imported while the first one ran may have
 * been missed by it. */
#define SCAN_PASSES 3

static const char change_text[] =
#include "lib/lua/common.lua.h"
#include "lib/lua/transition.lua.h"
#include "lib/lua/change.lua.h"
    ;
static const char change_all_text[] =
#include "lib/lua/common.lua.h"
#include "lib/lua/transition.lua.h"
#include "lib/lua/change_all.lua.h"
    ;
static const char init_domain_text[] =
#include "lib/lua/common.lua.h"
#include "lib/lua/init_domain.lua.h"
    ;

void sr_change_scripts(struct redis_script scripts[SCRIPT_COUNT])
{
    scripts[SCRIPT_CHANGE].text = change_text;
    scripts[SCRIPT_CHANGE_ALL].text = change_all_text;
    scripts[SCRIPT_INIT_DOMAIN].text = init_domain_text;
}

/* ---- one chunk: asking ------------------------------------------------- */

static bool has_extra(const struct change *change, const struct change_item *item)
{
    return item->expect_epoch > 0 ||
           (change->op == EVENT_IMPORT && (item->new_address || item->copy));
}

static void put_extra(struct redis_args *args, const struct change *change,
                      const struct change_item *item)
{
    char text[32 + 2 * (3 + ADDR_TEXT_MAX) + 1];
    size_t len = 0;
    text[0] = '\0';
    bool import = change->op == EVENT_IMPORT;
    const struct {
        const char *name, *value;
    } parts[] = { { "\tn=", import ? item->new_address : NULL },
                  { "\tc=", import ? item->copy : NULL } };
    if (item->expect_epoch)
        len = (size_t)snprintf(text, sizeof(text), "e=%llx",
                               (unsigned long long)item->expect_epoch);
    for (size_t i = 0; i < 2; i++)
        if (parts[i].value) /* fits: store_check_change() saw the lengths */
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", parts[i].name,
                                    parts[i].value);
    redis_arg(args, text, len);
}

static void put_without(struct redis_args *args, const char *const *without)
{
    for (; without && *without; without++)
        redis_arg_text(args, *without);
}

static bool change_args(struct store_redis *sr, const struct change *change)
{
    if (!sr_script_args(sr))
        return false;
    struct redis_args *args = &sr->args;
    bool extras = false;
    for (size_t i = 0; i < change->count && !extras; i++)
        extras = has_extra(change, &change->items[i]);
    size_t without = 0;
    while (change->without && change->without[without])
        without++;
    redis_arg_text(args, event_op_name(change->op));
    redis_arg_text(args, change->domain);
    redis_arg_number(args, change->force);
    redis_arg_number(args, extras);
    redis_arg_number(args, without);
    put_without(args, change->without);
    for (size_t i = 0; i < change->count; i++) {
        redis_arg_text(args, change->items[i].local);
        if (extras)
            put_extra(args, change, &change->items[i]);
    }
    return true;
}

static enum sr_chunk begin_chunk(struct store_redis *sr, const struct change *change)
{
    if (!store_check_change(&sr->base, change))
        return CHUNK_REFUSED;
    if (sr->under_way > 0) {
        if (sr->chunks[sr->under_way - 1] == CHUNK_LOST)
            return CHUNK_LOST;
        redis_extend(sr->redis, sr->conf->command_timeout);
    } else {
        redis_begin(sr->redis, sr->conf->command_timeout);
        struct redis_script *script = &sr->scripts[SCRIPT_CHANGE];
        if (redis_script_load(sr->redis, script) != REDIS_DONE) {
            (void)sr_write_failed(sr, REDIS_UNSENT);
            return CHUNK_LOST;
        }
    }
    if (!change_args(sr, change))
        return CHUNK_LOST;
    sr_script_queue(sr, SCRIPT_CHANGE);
    (void)sr_queue_wait(sr);
    enum redis_result result = redis_send(sr->redis);
    if (result == REDIS_DONE)
        return CHUNK_SENT;
    (void)sr_write_failed(sr, result);
    return CHUNK_LOST;
}

bool sr_change_begin(struct store *store, const struct change *change)
{
    struct store_redis *sr = (struct store_redis *)store;
    if (sr->under_way == STORE_CHANGES_MAX) {
        store_set_error(store, "more than %d changes are under way: nothing was written",
                        STORE_CHANGES_MAX);
        return false;
    }
    if (change->count == 0) {
        sr->chunks[sr->under_way++] = CHUNK_SENT; /* answered without Redis */
        return true;
    }
    enum sr_chunk chunk = begin_chunk(sr, change);
    sr->chunks[sr->under_way++] = chunk;
    return chunk == CHUNK_SENT;
}

/* ---- one chunk: answering ---------------------------------------------- */

static bool take_status(char letter, enum change_status *out)
{
    static const char letters[] = "MAUSEF"; /* in the order of the enum */
    const char *at = letter ? strchr(letters, letter) : NULL;
    if (at)
        *out = (enum change_status)(at - letters);
    return at != NULL;
}

static bool take_before(const char *text, size_t len, struct home *out)
{
    if (len == 0) {
        out->state = HOME_OLD;
        out->rollback = out->listed = false;
        out->epoch = 0;
        out->since = 0;
        out->new_address[0] = out->copy[0] = '\0';
        return true;
    }
    bool ok = home_decode(text, len, out);
    out->listed = ok;
    return ok;
}

static bool take_lines(const struct change *change, const char *text, size_t len,
                       struct change_result *result)
{
    const char *end = text + len;
    for (size_t i = 0; i < change->count; i++) {
        const char *line_end =
            text < end ? memchr(text, '\n', (size_t)(end - text)) : NULL;
        if (!line_end)
            line_end = end;
        if (text >= line_end || !take_status(*text, &result->status[i]) ||
            !take_before(text + 1, (size_t)(line_end - text) - 1, &result->before[i]))
            return false;
        text = line_end + 1;
    }
    return true;
}

static enum commit take_reply(struct store_redis *sr, const struct change *change,
                              const struct resp *reply, struct change_result *result)
{
    enum commit commit = sr_script_reply(sr, reply);
    if (commit != COMMIT_DONE)
        return commit;
    size_t len;
    const char *lines = resp_text(resp_at(reply, 2), &len);
    if (resp_number(resp_at(reply, 1), &result->epoch) && lines &&
        take_lines(change, lines, len, result))
        return COMMIT_DONE;
    store_set_error(&sr->base, "Redis answered a change with something else; repeat it");
    return COMMIT_UNCERTAIN;
}

/* Redis forgot the script (SCRIPT FLUSH), so the chunk was not run. */
static enum commit run_again(struct store_redis *sr, const struct change *change,
                             struct change_result *result)
{
    sr->scripts[SCRIPT_CHANGE].sha[0] = '\0';
    if (sr->under_way > 0) {
        store_set_error(&sr->base,
                        "Redis was told to forget all scripts; nothing was written, "
                        "try again");
        return COMMIT_UNCERTAIN;
    }
    const struct resp *reply;
    if (!change_args(sr, change))
        return COMMIT_UNCERTAIN;
    enum commit commit = sr_script(sr, SCRIPT_CHANGE, &reply);
    return commit == COMMIT_DONE ? take_reply(sr, change, reply, result) : commit;
}

static enum commit finish_sent(struct store_redis *sr, const struct change *change,
                               struct change_result *result)
{
    redis_extend(sr->redis, sr->conf->command_timeout);
    const struct resp *reply;
    if (redis_receive(sr->redis, &reply) != REDIS_DONE)
        return sr_write_failed(sr, REDIS_LOST);
    bool forgotten = resp_is_error(reply, "NOSCRIPT");
    enum commit commit =
        forgotten ? COMMIT_UNCERTAIN : take_reply(sr, change, reply, result);
    if (sr->conf->redis_replicas > 0) {
        if (redis_receive(sr->redis, &reply) != REDIS_DONE)
            return sr_write_failed(sr, REDIS_LOST);
        if (commit == COMMIT_DONE && !sr_check_wait(sr, reply))
            return COMMIT_UNCERTAIN;
    }
    return forgotten ? run_again(sr, change, result) : commit;
}

enum commit sr_change_finish(struct store *store, const struct change *change,
                             struct change_result *result)
{
    struct store_redis *sr = (struct store_redis *)store;
    result->epoch = 0;
    if (sr->under_way == 0) {
        store_set_error(store, "no change was begun");
        return COMMIT_REFUSED;
    }
    enum sr_chunk chunk = sr->chunks[0];
    sr->under_way--;
    memmove(sr->chunks, sr->chunks + 1, sr->under_way * sizeof(sr->chunks[0]));
    if (chunk == CHUNK_REFUSED) {
        (void)store_check_change(&sr->base, change); /* sets the error again */
        return COMMIT_REFUSED;
    }
    if (chunk == CHUNK_LOST)
        return COMMIT_UNCERTAIN;
    if (change->count == 0)
        return COMMIT_DONE;
    enum commit commit = finish_sent(sr, change, result);
    if (commit == COMMIT_UNCERTAIN) {
        redis_close(sr->redis);
        for (size_t i = 0; i < sr->under_way; i++)
            if (sr->chunks[i] == CHUNK_SENT)
                sr->chunks[i] = CHUNK_LOST;
    }
    return commit;
}

/* ---- a whole domain ---------------------------------------------------- */

struct step {
    char cursor[24]; /* "own": the domain's own record */
    uint64_t made, already, wrong_state, unfenced, reached, left;
};

static enum commit run_step(struct store_redis *sr, const struct change_all *all,
                            struct step *step)
{
    if (!sr_script_args(sr))
        return COMMIT_UNCERTAIN;
    redis_arg_text(&sr->args, event_op_name(all->op));
    redis_arg_text(&sr->args, all->domain);
    redis_arg_number(&sr->args, all->force);
    redis_arg_text(&sr->args, step->cursor);
    redis_arg_number(&sr->args, SCAN_COUNT);
    put_without(&sr->args, all->without);
    const struct resp *reply;
    enum commit commit = sr_script(sr, SCRIPT_CHANGE_ALL, &reply);
    if (commit != COMMIT_DONE)
        return commit;
    uint64_t *const numbers[] = { &step->made,     &step->already, &step->wrong_state,
                                  &step->unfenced, &step->reached, &step->left };
    const char *next = resp_text(resp_at(reply, 1), NULL);
    int n = next ? snprintf(step->cursor, sizeof(step->cursor), "%s", next) : -1;
    bool ok = n > 0 && n < (int)sizeof(step->cursor);
    for (size_t i = 0; i < 6; i++)
        ok = resp_number(resp_at(reply, i + 2), numbers[i]) && ok;
    if (ok)
        return COMMIT_DONE;
    store_set_error(&sr->base, "Redis answered a change with something else; repeat it");
    return COMMIT_UNCERTAIN;
}

/* What was there before a later pass began has been counted by the first. */
static void add_step(struct change_all *all, const struct step *step, bool first_pass)
{
    all->made += step->made;
    if (first_pass) {
        all->already += step->already;
        all->wrong_state += step->wrong_state;
        all->unfenced += step->unfenced;
    }
    if (step->reached > all->epoch)
        all->epoch = step->reached;
}

/* One pass: the mailboxes, then the own record. *left is the number of those
 * that are still in a state from which the transition starts, and were not
 * refused for their fence: a pass too early. */
static enum commit run_pass(struct store_redis *sr, struct change_all *all,
                            bool first_pass, uint64_t *left)
{
    struct step step = { .cursor = "0" };
    uint64_t unfenced = 0;
    for (;;) {
        bool own = strcmp(step.cursor, "own") == 0;
        enum commit commit = run_step(sr, all, &step);
        if (commit != COMMIT_DONE)
            return commit;
        add_step(all, &step, first_pass);
        unfenced += own ? 0 : step.unfenced;
        if (own) {
            *left = step.left > unfenced ? step.left - unfenced : 0;
            return COMMIT_DONE;
        }
        if (all->progress && !all->progress(all->context, all)) {
            store_set_error(&sr->base, "stopped: repeat the command to finish it");
            return COMMIT_UNCERTAIN;
        }
        if (strcmp(step.cursor, "0") == 0)
            memcpy(step.cursor, "own", sizeof("own"));
    }
}

enum commit sr_change_all(struct store *store, struct change_all *all)
{
    struct store_redis *sr = (struct store_redis *)store;
    all->made = all->already = all->wrong_state = all->unfenced = all->epoch = 0;
    uint64_t left = 1;
    for (int pass = 0; pass < SCAN_PASSES && left > 0; pass++) {
        enum commit commit = run_pass(sr, all, pass == 0, &left);
        if (commit != COMMIT_DONE)
            return commit;
    }
    return COMMIT_DONE;
}

/* ---- domains ----------------------------------------------------------- */

enum commit sr_init_domain(struct store *store, const char *domain)
{
    struct store_redis *sr = (struct store_redis *)store;
    unsigned char secret[STORE_SECRET_LEN];
    if (getrandom(secret, sizeof(secret), 0) != (ssize_t)sizeof(secret)) {
        store_set_error(store, "the kernel gives no random numbers: nothing was written");
        return COMMIT_UNCERTAIN;
    }
    if (!sr_script_args(sr))
        return COMMIT_UNCERTAIN;
    redis_arg_text(&sr->args, domain);
    redis_arg(&sr->args, secret, sizeof(secret));
    const struct resp *reply;
    return sr_script(sr, SCRIPT_INIT_DOMAIN, &reply);
}

enum lookup sr_domains(struct store *store, char ***out)
{
    struct store_redis *sr = (struct store_redis *)store;
    *out = NULL;
    redis_begin(sr->redis, sr->conf->command_timeout);
    SR_WORDS(sr, "SMEMBERS", STORE_DOMAINS);
    sr_queue(sr);
    if (!sr_read(sr))
        return LOOKUP_FAILED;
    const struct resp *names = redis_reply(sr->redis, 0);
    size_t n = resp_count(names);
    if (n == 0)
        return LOOKUP_ABSENT;
    char **list = calloc(n + 1, sizeof(*list));
    for (size_t i = 0; list && i < n; i++) {
        const char *name = resp_text(resp_at(names, i), NULL);
        list[i] = name ? strdup(name) : NULL;
        if (!list[i]) {
            store_list_free(list);
            list = NULL;
        }
    }
    if (!list) {
        store_set_error(store, "out of memory for %zu domains", n);
        return LOOKUP_FAILED;
    }
    *out = list;
    return LOOKUP_FOUND;
}
