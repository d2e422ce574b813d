/*
 * lookup: asynchronous Redis lookups, pipelined per loop turn.
 *
 * A batch on the wire is
 *     HMGET sluice:chain epoch <E> floor             E: this host's journal head
 *     HMGET sluice:home:<domain> "" <local> [<base>]      for each lookup
 * and Redis answers in order, so the first reply says whether the history is
 * the one this host knows; only then the others count (lib/store.h).
 *
 * hiredis 0.14 knows no time limits, answers callbacks with NULL when a
 * connection ends, and frees a context itself after a failed connect or a
 * disconnect. So: one timer here watches the oldest batch; a context that is
 * given up loses its data pointer first, and callbacks without one do nothing;
 * lookups are failed by walking our own lists, never by hiredis' callbacks.
 *
 * The circuit: DOWN (waiting to try), PROBING (connect, AUTH, history), UP.
 * Only UP takes lookups. A circuit that was UP is probed at once; then the
 * back-off between probes is 100 ms, doubled up to 2 s.
 *
 * Diagnostics: one line when the circuit opens and when it closes. A lost
 * history is an alarm, repeated once a minute, with one line a second at most
 * in between. Host names are resolved off the loop (getaddrinfo_a(3)).
 */
#include "lookup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>
#include <hiredis/async.h>
#include <hiredis/adapters/libevent.h>

#include "clock.h"
#include "log.h"

#define IN_FLIGHT_MAX   20000
#define BACKOFF_FIRST   100 /* ms */
#define BACKOFF_MAX     2000
#define RESOLVE_POLL    20
#define COMPLAINT_EVERY 10000
#define ADDRESSES_MAX   8

/* See struct lookup_figures. Written by the loop alone. */
struct counters {
    _Atomic uint64_t found, absent, failed, outages, refusals, sum_us;
    _Atomic uint64_t bucket[LOOKUP_BUCKETS + 1];
};
const uint32_t lookup_bucket_us[LOOKUP_BUCKETS] = { 100,   250,   500,    1000,
                                                    2500,  5000,  10000,  25000,
                                                    50000, 100000, 250000, 1000000 };

/* All lookups of one loop turn. */
struct batch {
    STAILQ_HEAD(, query) queries;
    STAILQ_ENTRY(batch) next;
    struct position head; /* of the journal, when the batch was sent */
    int64_t sent;         /* ms */
    int64_t begun_us;     /* the first lookup of it */
    uint64_t took_us;
    bool valid;           /* the history was confirmed */
};
STAILQ_HEAD(batch_list, batch);

enum circuit { DOWN, PROBING, UP };

/* A name being resolved by getaddrinfo_a(): must stay until it is done. */
struct resolving {
    struct gaicb request;
    struct gaicb *list[1];
    struct addrinfo hints;
    char *host;
};

struct lookups {
    struct event_base *base;
    struct conf *conf;
    struct journal_reader *head;

    enum circuit circuit;
    bool tried;               /* the first probe has ended */
    redisAsyncContext *redis; /* NULL when DOWN */
    struct event *timer;      /* DOWN: next probe; else: the time limit */
    int backoff;
    char reason[160]; /* of the last line about an open circuit */

    struct resolving *resolving;
    char address[ADDRESSES_MAX][INET6_ADDRSTRLEN];
    int addresses, next_address;

    struct event *flush;
    bool flush_wanted;
    struct batch *collecting; /* this turn's; NULL: none yet */
    struct batch_list sent;
    struct batch_list spare;
    size_t waiting;

    TAILQ_HEAD(, query) open; /* in order of their numbers */
    _Atomic uint64_t started, answered;
    struct counters counters;

    int64_t last_complaint;
};

static void open_circuit(struct lookups *l, const char *reason);
static void begin_probe(struct lookups *l);

static void set_timer(struct lookups *l, int64_t ms)
{
    if (ms < 1)
        ms = 1;
    struct timeval delay = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
    event_add(l->timer, &delay);
}

/* ---- numbers for the fence -------------------------------------------- */

uint64_t lookups_started(const struct lookups *l)
{
    return atomic_load(&l->started);
}

uint64_t lookups_answered(const struct lookups *l)
{
    return atomic_load(&l->answered);
}

/* No other thread writes. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static void count_failed(struct lookups *l)
{
    add(&l->counters.failed, 1);
}

static void count_answer(struct lookups *l, const struct query *query, uint64_t took_us)
{
    struct counters *counters = &l->counters;
    size_t i = 0;
    if (query->route.lookup == LOOKUP_FAILED) {
        count_failed(l);
        return;
    }
    add(query->route.lookup == LOOKUP_FOUND ? &counters->found : &counters->absent, 1);
    while (i < LOOKUP_BUCKETS && took_us > lookup_bucket_us[i])
        i++;
    add(&counters->bucket[i], 1);
    add(&counters->sum_us, took_us);
}

void lookups_figures(const struct lookups *l, struct lookup_figures *out)
{
    out->found = atomic_load(&l->counters.found);
    out->absent = atomic_load(&l->counters.absent);
    out->failed = atomic_load(&l->counters.failed);
    out->outages = atomic_load(&l->counters.outages);
    out->refusals = atomic_load(&l->counters.refusals);
    out->sum_us = atomic_load(&l->counters.sum_us);
    for (size_t i = 0; i <= LOOKUP_BUCKETS; i++)
        out->bucket[i] = atomic_load(&l->counters.bucket[i]);
}

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

bool lookups_up(const struct lookups *l)
{
    return l->circuit == UP;
}

bool lookups_tried(const struct lookups *l)
{
    return l->tried;
}

void lookup_handed(struct lookups *l, struct query *query)
{
    bool first = TAILQ_FIRST(&l->open) == query;
    TAILQ_REMOVE(&l->open, query, open);
    if (!first)
        return;
    const struct query *oldest = TAILQ_FIRST(&l->open);
    atomic_store(&l->answered, oldest ? oldest->number - 1 : atomic_load(&l->started));
}

/* ---- batches ----------------------------------------------------------- */

static struct batch *batch_new(struct lookups *l)
{
    struct batch *batch = STAILQ_FIRST(&l->spare);
    if (batch)
        STAILQ_REMOVE_HEAD(&l->spare, next);
    else
        batch = malloc(sizeof(*batch));
    if (!batch)
        return NULL;
    memset(batch, 0, sizeof(*batch));
    batch->begun_us = now_us();
    STAILQ_INIT(&batch->queries);
    return batch;
}

static void settle(struct lookups *l, struct query *query)
{
    query->waiting = false;
    l->waiting--;
    query->done(query);
}

static void fail_batch(struct lookups *l, struct batch *batch)
{
    struct query *query;
    while ((query = STAILQ_FIRST(&batch->queries))) {
        STAILQ_REMOVE_HEAD(&batch->queries, in_batch);
        query->route.lookup = LOOKUP_FAILED;
        count_failed(l);
        settle(l, query);
    }
    STAILQ_INSERT_HEAD(&l->spare, batch, next);
}

static void fail_all(struct lookups *l)
{
    struct batch_list failed = STAILQ_HEAD_INITIALIZER(failed);
    STAILQ_CONCAT(&failed, &l->sent);
    if (l->collecting)
        STAILQ_INSERT_TAIL(&failed, l->collecting, next);
    l->collecting = NULL;
    struct batch *batch;
    while ((batch = STAILQ_FIRST(&failed))) {
        STAILQ_REMOVE_HEAD(&failed, next);
        fail_batch(l, batch);
    }
}

bool lookup_start(struct lookups *l, struct query *query)
{
    query->waiting = false;
    query->route.lookup = LOOKUP_FAILED;
    if (l->circuit != UP || l->waiting >= IN_FLIGHT_MAX ||
        (!l->collecting && !(l->collecting = batch_new(l)))) {
        count_failed(l);
        return false;
    }
    if (!l->flush_wanted) {
        l->flush_wanted = true;
        /* Runs after the events that are ready in this turn. */
        event_active(l->flush, EV_TIMEOUT, 0);
    }
    query->waiting = true;
    l->waiting++;
    STAILQ_INSERT_TAIL(&l->collecting->queries, query, in_batch);
    TAILQ_INSERT_TAIL(&l->open, query, open);
    query->number = atomic_fetch_add(&l->started, 1) + 1;
    return true;
}

/* ---- replies ----------------------------------------------------------- */

/* what ends with the way out. The alarm about it is that of alarm.h. */
static void complain_about_history(struct lookups *l, const char *what)
{
    int64_t now = clock_ms();
    if (l->last_complaint && now - l->last_complaint < COMPLAINT_EVERY)
        return;
    l->last_complaint = now;
    log_warnx("lookups fail, mail for managed domains is tried later: %s", what);
}

static bool has_text(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING;
}

static uint64_t number_of(const redisReply *reply)
{
    return has_text(reply) ? strtoull(reply->str, NULL, 10) : 0;
}

/* Whether what Redis answered for the chain continues this host's journal. */
static bool history_holds(struct lookups *l, const struct position *head,
                          const redisReply *reply)
{
    static const char *const texts[] = {
        [HISTORY_HOLDS] = "",
        [HISTORY_LOST] = "has rolled back its history, run \"sluice recover\"",
        [HISTORY_BEHIND] =
            "no longer keeps what this host's journal ends with, it takes a new base",
        [HISTORY_DIVERGED] =
            "has another history than this host's journal, run \"sluice recover\"",
    };
    char what[240];
    const redisReply *id = reply->element[1];
    uint64_t last = number_of(reply->element[0]), floor = number_of(reply->element[2]);
    if (!has_text(reply->element[0])) {
        complain_about_history(
            l, head->epoch ? "Redis has lost its history: run \"sluice recover\""
                           : "Redis holds no data of sluice: run \"sluice init\"");
        return false;
    }
    enum history history =
        history_judge(head, last, floor, has_text(id) ? id->str : NULL);
    if (history == HISTORY_HOLDS)
        return true;
    snprintf(what, sizeof(what),
             "Redis %s (it is at change %" PRIu64 ", the journal at %" PRIu64 ")",
             texts[history], last, head->epoch);
    complain_about_history(l, what);
    return false;
}

static bool is_array(const redisReply *reply, size_t elements)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements == elements;
}

static void give_up_over(struct lookups *l, const redisReply *reply)
{
    char reason[160];
    const char *said = reply->type == REDIS_REPLY_ERROR ? reply->str : "unexpected reply";
    snprintf(reason, sizeof(reason), "Redis says: %.120s", said);
    for (char *c = reason; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    open_circuit(l, reason);
}

static void on_chain(redisAsyncContext *redis, void *raw, void *unused)
{
    (void)unused;
    struct lookups *l = redis->data;
    const redisReply *reply = raw;
    if (!l || !reply)
        return;
    struct batch *batch = STAILQ_FIRST(&l->sent);
    if (!is_array(reply, 3)) {
        give_up_over(l, reply);
        return;
    }
    batch->valid = history_holds(l, &batch->head, reply);
    batch->took_us = (uint64_t)(now_us() - batch->begun_us);
    if (batch->valid)
        l->last_complaint = 0;
    else
        add(&l->counters.refusals, 1);
}

static struct route_value value_of(const redisReply *reply, size_t n)
{
    struct route_value none = { NULL, 0 };
    if (n >= reply->elements || reply->element[n]->type != REDIS_REPLY_STRING)
        return none;
    return (struct route_value){ reply->element[n]->str, reply->element[n]->len };
}

/* The time limit is that of the oldest batch, if there is one. */
static void watch_oldest(struct lookups *l)
{
    const struct batch *oldest = STAILQ_FIRST(&l->sent);
    if (oldest && !event_pending(l->timer, EV_TIMEOUT, NULL))
        set_timer(l, oldest->sent + l->conf->lookup_timeout - clock_ms());
}

static void on_home(redisAsyncContext *redis, void *raw, void *unused)
{
    (void)unused;
    struct lookups *l = redis->data;
    const redisReply *reply = raw;
    if (!l || !reply)
        return;
    struct batch *batch = STAILQ_FIRST(&l->sent);
    struct query *query = STAILQ_FIRST(&batch->queries);
    STAILQ_REMOVE_HEAD(&batch->queries, in_batch);
    bool last = STAILQ_EMPTY(&batch->queries);
    if (batch->valid && reply->type == REDIS_REPLY_ARRAY) {
        struct route_value own = value_of(reply, 0), exact = value_of(reply, 1),
                           base = value_of(reply, 2);
        route_set_values(&query->route, &own, &exact, &base);
    } else {
        query->route.lookup = LOOKUP_FAILED;
    }
    count_answer(l, query, batch->took_us);
    if (last) {
        STAILQ_REMOVE_HEAD(&l->sent, next);
        STAILQ_INSERT_HEAD(&l->spare, batch, next);
    }
    settle(l, query);
}

/* ---- sending ----------------------------------------------------------- */

static bool send_chain(struct lookups *l, const struct position *head,
                       redisCallbackFn *answer)
{
    char epoch[24];
    int len = snprintf(epoch, sizeof(epoch), "%" PRIu64, head->epoch);
    const char *argv[] = { "HMGET", "sluice:chain", "epoch", epoch, "floor" };
    size_t lens[] = { 5, 12, 5, (size_t)len, 5 };
    return redisAsyncCommandArgv(l->redis, answer, NULL, 5, argv, lens) == REDIS_OK;
}

static bool send_home(struct lookups *l, const struct query *query)
{
    static const char prefix[] = "sluice:home:";
    const struct route *route = &query->route;
    char key[sizeof(prefix) + ADDR_DOMAIN_MAX];
    size_t domain_len = strlen(route->addr.domain);
    memcpy(key, prefix, sizeof(prefix) - 1);
    memcpy(key + sizeof(prefix) - 1, route->addr.domain, domain_len);

    const char *argv[5] = { "HMGET", key, "", route->addr.local, route->base };
    size_t lens[5] = { 5, sizeof(prefix) - 1 + domain_len, 0, strlen(route->addr.local),
                       strlen(route->base) };
    /* An over-long address has a base alone; its place stays empty. */
    int argc = lens[4] > 0 ? 5 : lens[3] > 0 ? 4 : 3;
    return redisAsyncCommandArgv(l->redis, on_home, NULL, argc, argv, lens) == REDIS_OK;
}

/* The journal's head now. No journal yet: epoch 0. */
static bool read_head(struct lookups *l, struct position *head)
{
    memset(head, 0, sizeof(*head));
    if (!l->head)
        return true;
    switch (journal_head(l->head, head)) {
    case LOOKUP_FOUND:
        return true;
    case LOOKUP_ABSENT:
        head->epoch = 0;
        return true;
    case LOOKUP_FAILED:
        break;
    }
    complain_about_history(l, "this host's journal cannot be read (state-dir)");
    return false;
}

/* The end of a loop turn: what it collected goes out in one write. */
static void on_flush(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct lookups *l = context;
    l->flush_wanted = false;
    struct batch *batch = l->collecting;
    if (!batch)
        return;
    l->collecting = NULL;
    if (!read_head(l, &batch->head)) {
        fail_batch(l, batch);
        return;
    }
    batch->sent = clock_ms();
    STAILQ_INSERT_TAIL(&l->sent, batch, next);
    bool sent = send_chain(l, &batch->head, on_chain);
    struct query *query;
    STAILQ_FOREACH(query, &batch->queries, in_batch)
    sent = sent && send_home(l, query);
    if (!sent) {
        open_circuit(l, "no memory, or the connection is closing");
        return;
    }
    watch_oldest(l);
    /* Now, not at the next turn of the loop; may end the connection. */
    redisAsyncHandleWrite(l->redis);
}

/* ---- the circuit --------------------------------------------------------- */

/* The context is hiredis' again: it frees it itself. */
static void forget_redis(struct lookups *l)
{
    if (l->redis)
        l->redis->data = NULL;
    l->redis = NULL;
}

static void drop_redis(struct lookups *l)
{
    redisAsyncContext *redis = l->redis;
    forget_redis(l);
    if (redis)
        redisAsyncFree(redis);
}

static void open_circuit(struct lookups *l, const char *reason)
{
    bool was_up = l->circuit == UP;
    drop_redis(l);
    l->circuit = DOWN;
    add(&l->counters.outages, was_up);
    if (was_up || strcmp(l->reason, reason) != 0)
        log_warnx("no lookups, mail for managed domains is tried later: %s: %s",
                  l->conf->redis.text, reason);
    if (snprintf(l->reason, sizeof(l->reason), "%s", reason) < 0)
        l->reason[0] = '\0';
    l->tried = l->tried || !l->next_address || l->next_address >= l->addresses;
    if (was_up) {
        /* Perhaps only the connection is gone (Redis' own idle limit). */
        set_timer(l, 1);
    } else {
        set_timer(l, l->backoff);
        l->backoff = l->backoff * 2 > BACKOFF_MAX ? BACKOFF_MAX : l->backoff * 2;
    }
    fail_all(l);
}

static void close_circuit(struct lookups *l)
{
    l->circuit = UP;
    l->tried = true;
    l->backoff = BACKOFF_FIRST;
    l->reason[0] = '\0';
    event_del(l->timer);
    log_info("lookups are answered: %s", l->conf->redis.text);
}

static void on_auth(redisAsyncContext *redis, void *raw, void *unused)
{
    (void)unused;
    struct lookups *l = redis->data;
    const redisReply *reply = raw;
    if (l && reply && reply->type == REDIS_REPLY_ERROR)
        give_up_over(l, reply);
}

static void on_probe(redisAsyncContext *redis, void *raw, void *unused)
{
    (void)unused;
    struct lookups *l = redis->data;
    const redisReply *reply = raw;
    if (!l || !reply)
        return;
    if (is_array(reply, 3))
        close_circuit(l);
    else
        give_up_over(l, reply);
}

static void lost(struct lookups *l, const redisAsyncContext *redis, const char *what)
{
    char reason[160];
    snprintf(reason, sizeof(reason), "%s%s%.100s", what, redis->err ? ": " : "",
             redis->err ? redis->errstr : "");
    forget_redis(l);
    open_circuit(l, reason);
}

static void on_connect(const redisAsyncContext *redis, int status)
{
    struct lookups *l = redis->data;
    if (l && status != REDIS_OK)
        lost(l, redis, "cannot connect");
}

static void on_disconnect(const redisAsyncContext *redis, int status)
{
    (void)status;
    struct lookups *l = redis->data;
    if (l)
        lost(l, redis, "connection lost");
}

static bool send_auth(struct lookups *l)
{
    const struct conf *conf = l->conf;
    if (!conf->redis_password)
        return true;
    const char *argv[] = { "AUTH", conf->redis_user, conf->redis_password };
    if (conf->redis_user)
        return redisAsyncCommandArgv(l->redis, on_auth, NULL, 3, argv, NULL) == REDIS_OK;
    argv[1] = conf->redis_password;
    return redisAsyncCommandArgv(l->redis, on_auth, NULL, 2, argv, NULL) == REDIS_OK;
}

/* redis: a new context or NULL. */
static void probe_through(struct lookups *l, redisAsyncContext *redis)
{
    if (!redis || redis->err) {
        char reason[160];
        snprintf(reason, sizeof(reason), "cannot connect: %.100s",
                 redis ? redis->errstr : "no memory");
        if (redis)
            redisAsyncFree(redis);
        open_circuit(l, reason);
        return;
    }
    static const struct position nowhere;
    l->redis = redis;
    redis->data = l;
    l->circuit = PROBING;
    set_timer(l, l->conf->lookup_timeout);
    if (redisLibeventAttach(redis, l->base) != REDIS_OK ||
        redisAsyncSetConnectCallback(redis, on_connect) != REDIS_OK ||
        redisAsyncSetDisconnectCallback(redis, on_disconnect) != REDIS_OK ||
        !send_auth(l) || !send_chain(l, &nowhere, on_probe))
        open_circuit(l, "cannot ask: no memory");
}

/* ---- host names ---------------------------------------------------------- */

static void resolving_free(struct resolving *r)
{
    if (!r)
        return;
    if (r->request.ar_result)
        freeaddrinfo(r->request.ar_result);
    free(r->host);
    free(r);
}

static bool is_numeric(const char *host)
{
    struct in6_addr any;
    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

static struct resolving *resolve_begin(const char *host)
{
    struct resolving *r = calloc(1, sizeof(*r));
    if (!r || !(r->host = strdup(host))) {
        resolving_free(r);
        return NULL;
    }
    r->hints.ai_socktype = SOCK_STREAM;
    r->request.ar_name = r->host;
    r->request.ar_request = &r->hints;
    r->list[0] = &r->request;
    if (getaddrinfo_a(GAI_NOWAIT, r->list, 1, NULL) == 0)
        return r;
    resolving_free(r);
    return NULL;
}

static void take_addresses(struct lookups *l, const struct resolving *r)
{
    l->addresses = l->next_address = 0;
    for (const struct addrinfo *a = r->request.ar_result;
         a && l->addresses < ADDRESSES_MAX; a = a->ai_next)
        if (getnameinfo(a->ai_addr, a->ai_addrlen, l->address[l->addresses],
                        INET6_ADDRSTRLEN, NULL, 0, NI_NUMERICHOST) == 0)
            l->addresses++;
}

/* true: there are addresses to try. false: still asking, or none (the timer
 * is set for another turn). */
static bool resolve(struct lookups *l)
{
    if (l->next_address < l->addresses)
        return true;
    if (!l->resolving)
        l->resolving = resolve_begin(l->conf->redis.host);
    int error = l->resolving ? gai_error(&l->resolving->request) : EAI_MEMORY;
    if (error == EAI_INPROGRESS) {
        set_timer(l, RESOLVE_POLL);
        return false;
    }
    if (error == 0 && strcmp(l->resolving->host, l->conf->redis.host) == 0)
        take_addresses(l, l->resolving);
    resolving_free(l->resolving);
    l->resolving = NULL;
    if (l->next_address < l->addresses)
        return true;
    char reason[160];
    snprintf(reason, sizeof(reason), "host name not found: %s",
             error ? gai_strerror(error) : "no address");
    open_circuit(l, reason);
    return false;
}

static void begin_probe(struct lookups *l)
{
    const struct conf_endpoint *at = &l->conf->redis;
    if (at->path) {
        probe_through(l, redisAsyncConnectUnix(at->path));
    } else if (is_numeric(at->host)) {
        probe_through(l, redisAsyncConnect(at->host, at->port));
    } else if (resolve(l)) {
        /* "localhost" may have two, and Redis listen on one: all in turn. */
        probe_through(l, redisAsyncConnect(l->address[l->next_address++], at->port));
    }
}

static bool is_late(const struct lookups *l)
{
    const struct batch *oldest = STAILQ_FIRST(&l->sent);
    return oldest && clock_ms() - oldest->sent >= l->conf->lookup_timeout;
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct lookups *l = context;
    if (l->circuit == DOWN) {
        begin_probe(l);
        return;
    }
    /* This process may be what was late: then the answer is in the kernel.
     * Reading may end the connection. */
    if (l->circuit == UP && is_late(l))
        redisAsyncHandleRead(l->redis);
    if (l->circuit == DOWN)
        return;
    if (l->circuit == PROBING || is_late(l)) {
        char reason[80];
        snprintf(reason, sizeof(reason), "no answer within %d ms",
                 l->conf->lookup_timeout);
        open_circuit(l, reason);
        return;
    }
    watch_oldest(l);
}

/* ---- life ------------------------------------------------------------------ */

struct lookups *lookups_new(struct event_base *base, struct conf *conf,
                            struct journal_reader *head)
{
    struct lookups *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->base = base;
    l->conf = conf_ref(conf);
    l->head = head;
    l->backoff = BACKOFF_FIRST;
    TAILQ_INIT(&l->open);
    STAILQ_INIT(&l->sent);
    STAILQ_INIT(&l->spare);
    l->timer = event_new(base, -1, 0, on_timer, l);
    l->flush = event_new(base, -1, 0, on_flush, l);
    if (!l->timer || !l->flush) {
        lookups_free(l);
        return NULL;
    }
    begin_probe(l);
    return l;
}

void lookups_free(struct lookups *l)
{
    if (!l)
        return;
    drop_redis(l);
    l->circuit = DOWN;
    fail_all(l);
    if (l->timer)
        event_free(l->timer);
    if (l->flush)
        event_free(l->flush);
    struct batch *batch;
    while ((batch = STAILQ_FIRST(&l->spare))) {
        STAILQ_REMOVE_HEAD(&l->spare, next);
        free(batch);
    }
    /* One that is still asking belongs to the C library's thread. */
    if (l->resolving && gai_error(&l->resolving->request) != EAI_INPROGRESS)
        resolving_free(l->resolving);
    conf_unref(l->conf);
    free(l);
}

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

void lookups_reload(struct lookups *l, struct conf *conf)
{
    struct conf *old = l->conf;
    l->conf = conf_ref(conf);
    if (!same(old->redis.text, conf->redis.text) ||
        !same(old->redis_user, conf->redis_user) ||
        !same(old->redis_password, conf->redis_password)) {
        l->addresses = l->next_address = 0;
        l->backoff = BACKOFF_FIRST;
        open_circuit(l, "the configuration names another Redis or user");
    }
    conf_unref(old);
}
