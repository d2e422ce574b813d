/*
 * store_redis_recover: rebuilds Redis from a host's journal.
 *
 * The journal is read twice: once to replay it into tables in memory (one
 * record per mailbox, so memory is bounded by the mailboxes, not the events),
 * and once to give Redis back the ids of all changes, so that the journals of
 * other hosts compare with it again. Then EVENT_RECOVER follows the journal's
 * last change.
 *
 * From the first step to the last the chain has no epoch: lookups fail, changes
 * are refused. A run that was killed is simply repeated; a second run at the
 * same time overtakes the first, which then stops (each step checks a token).
 *
 * Kept as they are: held messages, floaters, arrivals, leases, the secret, and
 * domains that the journal does not know. Every host has to confirm its fences
 * anew.
 */
#include "config.h"

#include "store_redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "table.h"

#define FIELDS_PER_STEP 500

static const char recover_text[] =
#include "lib/lua/common.lua.h"
#include "lib/lua/recover.lua.h"
    ;

void sr_recover_scripts(struct redis_script scripts[SCRIPT_COUNT])
{
    scripts[SCRIPT_RECOVER].text = recover_text;
}

struct domain_homes {
    char name[ADDR_DOMAIN_MAX + 1];
    struct table *homes; /* local part -> record */
    struct table *playbook; /* field -> value; NULL: the journal knows no run */
    bool playbook_whole;    /* from its start on: what Redis has is dropped */
};

struct recovery {
    struct store_redis *sr;
    const char *path;
    char token[EVENT_ID_LEN + 1];
    struct position stored;   /* where Redis is; epoch 0: nowhere */
    bool stored_is_contained; /* in the journal */
    uint64_t first;           /* first epoch in the journal; 0: none yet */
    struct position last;
    struct domain_homes *domains;
    size_t domain_count;
    struct table *hosts; /* name -> side */
    uint64_t mailboxes;
    size_t ids_queued;  /* pairs in args */
    enum commit commit; /* of the step that stopped a walk */
};

/* ---- replaying the journal --------------------------------------------- */

static struct table *homes_of(struct recovery *run, const char *domain)
{
    for (size_t i = run->domain_count; i-- > 0;)
        if (strcmp(run->domains[i].name, domain) == 0)
            return run->domains[i].homes;
    struct domain_homes *grown =
        realloc(run->domains, (run->domain_count + 1) * sizeof(*grown));
    if (!grown)
        return NULL;
    run->domains = grown;
    struct domain_homes *added = &grown[run->domain_count];
    *added = (struct domain_homes){ 0 };
    snprintf(added->name, sizeof(added->name), "%s", domain); /* same size */
    added->homes = table_new();
    if (!added->homes)
        return NULL;
    run->domain_count++;
    return added->homes;
}

static bool out_of_memory(struct recovery *run)
{
    store_set_error(&run->sr->base, "out of memory while reading %s", run->path);
    return false;
}

static bool damaged(struct recovery *run, const struct event *event)
{
    store_set_error(&run->sr->base,
                    "%s: change %" PRIu64
                    " is damaged or does not follow the one before: "
                    "recover on another host",
                    run->path, event->at.epoch);
    return false;
}

static bool replay_homes(struct recovery *run, const struct event *event)
{
    struct table *homes = homes_of(run, event->domain);
    if (!homes)
        return out_of_memory(run);
    const char *local, *record;
    size_t local_len, record_len, cursor = 0;
    while (event_next_item(event, &cursor, &local, &local_len, &record, &record_len)) {
        struct home home = { 0 };
        char text[HOME_RECORD_MAX + 1];
        size_t known_len;
        const char *known = table_get(homes, local, local_len, &known_len);
        if (known && home_decode(known, known_len, &home))
            home.listed = true;
        if (!event_apply(event, record, record_len, &home))
            return damaged(run, event);
        if (!table_put(homes, local, local_len, text, home_encode(&home, text)))
            return out_of_memory(run);
    }
    return true;
}

static bool replay_hosts(struct recovery *run, const struct event *event)
{
    const char *name, *side;
    size_t name_len, side_len, cursor = 0;
    while (event_next_item(event, &cursor, &name, &name_len, &side, &side_len)) {
        if (event->op == EVENT_UNHOST)
            table_remove(run->hosts, name, name_len);
        else if (!side)
            return damaged(run, event);
        else if (!table_put(run->hosts, name, name_len, side, side_len))
            return out_of_memory(run);
    }
    return true;
}

/* The run of a playbook: its fields, from the last start on. */
static bool replay_playbook(struct recovery *run, const struct event *event)
{
    const char *field, *value;
    size_t field_len, value_len, cursor = 0;
    if (!homes_of(run, event->domain))
        return out_of_memory(run);
    struct domain_homes *domain = run->domains;
    while (strcmp(domain->name, event->domain) != 0)
        domain++; /* homes_of() has made it */
    if (!domain->playbook || event->letter == 'a') {
        table_free(domain->playbook);
        domain->playbook = table_new();
        domain->playbook_whole = event->letter == 'a';
    }
    if (!domain->playbook)
        return out_of_memory(run);
    while (event_next_item(event, &cursor, &field, &field_len, &value, &value_len))
        if (!value)
            return damaged(run, event);
        else if (!table_put(domain->playbook, field, field_len, value, value_len))
            return out_of_memory(run);
    return true;
}

/* A base may stand anywhere and its parts share a position; everything else
 * follows what is before it. */
static bool follows(const struct recovery *run, const struct event *event)
{
    if (event->op == EVENT_BASE || run->first == 0)
        return true;
    return event->at.epoch == run->last.epoch + 1 &&
           strcmp(event->prev, run->last.id) == 0;
}

/* A base's lines of a playbook's run (policyd/keeper_base.c). */
static bool is_base_of_run(const struct event *event)
{
    return event->op == EVENT_BASE && (event->letter == 'a' || event->letter == 'c');
}

static bool replay(void *context, const struct event *event)
{
    struct recovery *run = context;
    if (!follows(run, event))
        return damaged(run, event);
    if (run->first == 0)
        run->first = event->at.epoch;
    run->last = event->at;
    if (event->at.epoch == run->stored.epoch && strcmp(event->at.id, run->stored.id) == 0)
        run->stored_is_contained = true;
    if (event->op == EVENT_RECOVER)
        return true;
    if (event->op == EVENT_PLAYBOOK || is_base_of_run(event))
        return replay_playbook(run, event);
    return event->domain[0] ? replay_homes(run, event) : replay_hosts(run, event);
}

static enum commit read_journal(struct recovery *run)
{
    char error[256];
    struct store *store = &run->sr->base;
    store_set_error(store, "%s", "");
    if (!journal_read(run->path, replay, run, error, sizeof(error))) {
        if (error[0])
            store_set_error(store, "%s", error);
        return COMMIT_REFUSED;
    }
    if (run->first > 0)
        return COMMIT_DONE;
    store_set_error(store, "%s holds no changes: recover on a host whose journal does",
                    run->path);
    return COMMIT_REFUSED;
}

/* ---- whether it may be done -------------------------------------------- */

static enum commit ask_stored(struct recovery *run)
{
    struct store *store = &run->sr->base;
    struct position at;
    switch (store_position(store, &at)) {
    case LOOKUP_FOUND:
        run->stored = at;
        return COMMIT_DONE;
    case LOOKUP_ABSENT:
        return COMMIT_DONE;
    case LOOKUP_FAILED:
        break;
    }
    return COMMIT_UNCERTAIN;
}

static enum commit may_replace(struct recovery *run, bool force)
{
    if (run->stored.epoch == 0 || run->stored_is_contained || force)
        return COMMIT_DONE;
    struct store_redis *sr = run->sr;
    redis_begin(sr->redis, sr->conf->command_timeout);
    sr_ask_history(sr, &run->last);
    if (!sr_read(sr))
        return COMMIT_UNCERTAIN;
    if (sr_history(sr, redis_reply(sr->redis, 0), &run->last, NULL))
        store_set_error(&sr->base,
                        "Redis is ahead of %s (at change %" PRIu64
                        ", the journal at %" PRIu64
                        ") and has the same history: there is nothing to recover",
                        run->path, run->stored.epoch, run->last.epoch);
    else
        store_set_error(
            &sr->base,
            "Redis holds changes that %s does not (it is at change %" PRIu64
            ", the journal has %" PRIu64 " to %" PRIu64 "): recover on the host "
            "whose journal reaches furthest; --force drops Redis' own changes",
            run->path, run->stored.epoch, run->first, run->last.epoch);
    return COMMIT_REFUSED;
}

/* ---- rebuilding -------------------------------------------------------- */

static void start_step(struct recovery *run, const char *step)
{
    redis_args_reset(&run->sr->args);
    redis_arg_text(&run->sr->args, step);
    redis_arg_text(&run->sr->args, run->token);
}

static enum commit run_step(struct recovery *run)
{
    const struct resp *reply;
    enum commit commit = sr_script(run->sr, SCRIPT_RECOVER, &reply);
    if (commit == COMMIT_REFUSED)
        store_set_error(
            &run->sr->base,
            "another \"sluice recover\" began after this one and goes on alone");
    return commit;
}

static enum commit rebuild_totals(struct recovery *run, const char *domain,
                                  const uint64_t counts[4])
{
    start_step(run, "totals");
    redis_arg_text(&run->sr->args, domain);
    for (size_t i = 0; i < 4; i++) {
        redis_arg(&run->sr->args, &"olrn"[i], 1);
        redis_arg_number(&run->sr->args, counts[i]);
    }
    return run_step(run);
}

/* In which record's head the letter of a lock stands, and how often. */
static bool count_lock(struct table *locks, const char *record, size_t len)
{
    const char *tab = memchr(record, '\t', len);
    size_t head_len = tab ? (size_t)(tab - record) : len;
    const char *known = table_get(locks, record, head_len, NULL);
    char text[24];
    int n = snprintf(text, sizeof(text), "%" PRIu64,
                     (uint64_t)(known ? strtoull(known, NULL, 10) : 0) + 1);
    return table_put(locks, record, head_len, text, (size_t)n);
}

static enum commit rebuild_locks(struct recovery *run, const char *domain,
                                 const struct table *locks)
{
    enum commit commit = COMMIT_DONE;
    const char *head, *count;
    size_t head_len, count_len, cursor = 0, queued = 0;
    while (commit == COMMIT_DONE &&
           table_next(locks, &cursor, &head, &head_len, &count, &count_len)) {
        if (queued == 0) {
            start_step(run, "locks");
            redis_arg_text(&run->sr->args, domain);
        }
        redis_arg(&run->sr->args, head, head_len);
        redis_arg(&run->sr->args, count, count_len);
        if (++queued == FIELDS_PER_STEP) {
            commit = run_step(run);
            queued = 0;
        }
    }
    return commit == COMMIT_DONE && queued > 0 ? run_step(run) : commit;
}

static void start_homes(struct recovery *run, const char *domain)
{
    start_step(run, "homes");
    redis_arg_text(&run->sr->args, domain);
}

/* The listed mailboxes; counts them by letter, and by lock. */
static enum commit rebuild_mailboxes(struct recovery *run,
                                     const struct domain_homes *domain,
                                     uint64_t counts[4], struct table *locks)
{
    enum commit commit = COMMIT_DONE;
    const char *local, *record;
    size_t local_len, record_len, cursor = 0, queued = 0;
    while (commit == COMMIT_DONE &&
           table_next(domain->homes, &cursor, &local, &local_len, &record, &record_len)) {
        if (local_len == 0)
            continue;
        if (queued == 0)
            start_homes(run, domain->name);
        redis_arg(&run->sr->args, local, local_len);
        redis_arg(&run->sr->args, record, record_len);
        const char *letter = strchr("olrn", record[0]);
        if (letter)
            counts[letter - "olrn"]++;
        if ((record[0] == 'l' || record[0] == 'r') &&
            !count_lock(locks, record, record_len)) {
            (void)out_of_memory(run);
            return COMMIT_UNCERTAIN;
        }
        run->mailboxes++;
        if (++queued == FIELDS_PER_STEP) {
            commit = run_step(run);
            queued = 0;
        }
    }
    return commit == COMMIT_DONE && queued > 0 ? run_step(run) : commit;
}

/* A run has at most a few hundred fields. */
static enum commit rebuild_playbook(struct recovery *run,
                                    const struct domain_homes *domain)
{
    const char *field, *value;
    size_t field_len, value_len, cursor = 0;
    if (!domain->playbook)
        return COMMIT_DONE;
    start_step(run, "playbook");
    redis_arg_text(&run->sr->args, domain->name);
    redis_arg_number(&run->sr->args, domain->playbook_whole);
    while (table_next(domain->playbook, &cursor, &field, &field_len, &value,
                      &value_len)) {
        redis_arg(&run->sr->args, field, field_len);
        redis_arg(&run->sr->args, value, value_len);
    }
    return run_step(run);
}

/* The domain's own record comes last: a lookup whose look at the chain was just
 * before the first step must not take a mailbox that is not back yet for one that
 * was never listed. Without the own record it is tried later. */
static enum commit rebuild_domain(struct recovery *run, const struct domain_homes *domain)
{
    uint64_t counts[4] = { 0 };
    struct table *locks = table_new();
    if (!locks) {
        (void)out_of_memory(run);
        return COMMIT_UNCERTAIN;
    }
    start_step(run, "clear");
    redis_arg_text(&run->sr->args, domain->name);
    enum commit commit = run_step(run);
    if (commit == COMMIT_DONE)
        commit = rebuild_mailboxes(run, domain, counts, locks);
    if (commit == COMMIT_DONE)
        commit = rebuild_locks(run, domain->name, locks);
    table_free(locks);
    if (commit == COMMIT_DONE)
        commit = rebuild_totals(run, domain->name, counts);
    if (commit == COMMIT_DONE)
        commit = rebuild_playbook(run, domain);
    size_t len;
    const char *own = table_get(domain->homes, "", 0, &len);
    if (commit != COMMIT_DONE || !own)
        return commit;
    start_homes(run, domain->name);
    redis_arg_text(&run->sr->args, "");
    redis_arg(&run->sr->args, own, len);
    return run_step(run);
}

static bool give_id(void *context, const struct event *event)
{
    struct recovery *run = context;
    if (event->at.epoch > run->last.epoch)
        return false; /* appended since we began: Redis' answer is ours now */
    if (run->ids_queued == 0)
        start_step(run, "ids");
    redis_arg_number(&run->sr->args, event->at.epoch);
    redis_arg_text(&run->sr->args, event->at.id);
    if (++run->ids_queued < FIELDS_PER_STEP)
        return true;
    run->ids_queued = 0;
    run->commit = run_step(run);
    return run->commit == COMMIT_DONE;
}

static enum commit rebuild_ids(struct recovery *run)
{
    char error[256];
    run->commit = COMMIT_DONE;
    if (!journal_read(run->path, give_id, run, error, sizeof(error)) && error[0]) {
        store_set_error(&run->sr->base, "%s", error);
        return COMMIT_UNCERTAIN;
    }
    if (run->commit == COMMIT_DONE && run->ids_queued > 0)
        run->commit = run_step(run);
    return run->commit;
}

static enum commit finish(struct recovery *run)
{
    struct redis_args *args = &run->sr->args;
    unsigned char secret[STORE_SECRET_LEN];
    char id[EVENT_ID_LEN + 1];
    if (!store_event_id(id) ||
        getrandom(secret, sizeof(secret), 0) != (ssize_t)sizeof(secret)) {
        store_set_error(&run->sr->base, "the kernel gives no random numbers: try again");
        return COMMIT_UNCERTAIN;
    }
    start_step(run, "finish");
    redis_arg_number(args, run->last.epoch);
    redis_arg_text(args, run->last.id);
    redis_arg_number(args, run->first);
    redis_arg_text(args, id);
    redis_arg(args, secret, sizeof(secret));
    const char *name, *side;
    size_t name_len, side_len, cursor = 0;
    while (table_next(run->hosts, &cursor, &name, &name_len, &side, &side_len)) {
        redis_arg(args, name, name_len);
        redis_arg(args, side, side_len);
    }
    return run_step(run);
}

static enum commit rebuild(struct recovery *run)
{
    start_step(run, "start");
    enum commit commit = run_step(run);
    for (size_t i = 0; commit == COMMIT_DONE && i < run->domain_count; i++)
        commit = rebuild_domain(run, &run->domains[i]);
    if (commit == COMMIT_DONE)
        commit = rebuild_ids(run);
    return commit == COMMIT_DONE ? finish(run) : commit;
}

enum commit sr_recover(struct store *store, const char *path, bool force,
                       struct recover_result *result)
{
    struct recovery run = { .sr = (struct store_redis *)store, .path = path };
    *result = (struct recover_result){ 0 };
    run.hosts = table_new();
    enum commit commit = COMMIT_UNCERTAIN;
    if (!run.hosts || !store_event_id(run.token))
        (void)out_of_memory(&run);
    else
        commit = ask_stored(&run);
    if (commit == COMMIT_DONE)
        commit = read_journal(&run);
    if (commit == COMMIT_DONE)
        commit = may_replace(&run, force);
    if (commit == COMMIT_DONE)
        commit = rebuild(&run);
    if (commit == COMMIT_DONE)
        *result = (struct recover_result){ .at = run.last,
                                           .mailboxes = run.mailboxes,
                                           .domains = run.domain_count,
                                           .hosts = table_count(run.hosts) };
    for (size_t i = 0; i < run.domain_count; i++) {
        table_free(run.domains[i].homes);
        table_free(run.domains[i].playbook);
    }
    free(run.domains);
    table_free(run.hosts);
    return commit;
}
