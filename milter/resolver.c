/*
 * resolver: see resolver.h. Over libunbound (resolver_setup.c makes its context).
 *
 * One mutex guards the cache and the table of questions under way. A question
 * that is asked while the same one is under way joins it; its answer goes to all
 * who wait, to their hooks, and into the cache. No lock is held in libunbound or
 * in a hook.
 *
 * Two threads: libunbound's, which does the network, and the resolver's, which
 * takes its answers, calls hooks, and gives up for them what is late.
 *
 * Time limits. libunbound tries for longer than mail can wait: several seconds,
 * half a minute when no server answers at all. A question under way for query-timeout
 * is late: all who wait for it, and hooks, get FAILED, and so at once does who
 * asks within the next RETRY_MS, so that a dead server does not delay each
 * message anew; after that, asking waits once more. What comes in the end goes
 * into the cache.
 *
 * Kept: data for its TTL, one second to one day; "not there" for the TTL that
 * RFC 2308 gives, at most five minutes (an admin who puts DNS right at night
 * does not wait longer); a failure for one second.
 */
#include "resolver.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <unbound.h>

#include "clock.h"
#include "dnscache.h"
#include "dnsdata.h"
#include "resolver_setup.h"

#define CACHE_ENTRIES_MAX 65536
#define CACHE_BYTES_MAX   (32 << 20)
#define PENDING_BUCKETS   RESOLVER_PENDING_MAX /* a power of 2 */
#define RETRY_MS          1000
#define DATA_TTL_MAX      86400
#define ABSENT_TTL_MAX    300
#define CLASS_IN          1
#define PIPE_PAUSE_MS     100

struct hook {
    struct hook *next;
    resolver_then_fn *then;
    void *context;
};

/* A question under way. References: the table's, and one of each query. */
struct pending {
    struct resolver *resolver;
    struct pending *next;            /* of the same chain */
    struct pending *earlier, *later; /* by limit_ms, until that */
    pthread_cond_t done;
    const struct answer *answer; /* NULL: under way */
    struct hook *hooks, **hooks_end;
    int64_t limit_ms;
    unsigned refs;
    bool late;
    struct dnskey key;
};

struct query {
    struct resolver *resolver;
    struct pending *pending; /* or */
    const struct answer *answer;
    int64_t limit_ms;
};

struct resolver {
    pthread_mutex_t lock;
    pthread_condattr_t monotonic;
    struct dnscache *cache;
    struct pending **pending;
    struct pending *earliest, *latest;
    size_t pending_count;
    bool ending;
    atomic_uint_fast64_t asked;
    int timeout_ms;
    struct ub_ctx *ctx; /* NULL: no network */
    int wake;
    pthread_t thread;
};

/* ---- questions under way (with the lock) ---------------------------------- */

static struct pending **pending_slot(struct resolver *resolver, const struct dnskey *key)
{
    struct pending **slot = &resolver->pending[key->hash & (PENDING_BUCKETS - 1)];

    while (*slot && ((*slot)->key.hash != key->hash || (*slot)->key.type != key->type ||
                     (*slot)->key.len != key->len ||
                     memcmp((*slot)->key.name, key->name, key->len) != 0))
        slot = &(*slot)->next;
    return slot;
}

static void limit_begin(struct pending *pending, int64_t now)
{
    struct resolver *resolver = pending->resolver;

    pending->late = false;
    pending->limit_ms = now + resolver->timeout_ms;
    pending->later = NULL;
    pending->earlier = resolver->latest;
    *(resolver->latest ? &resolver->latest->later : &resolver->earliest) = pending;
    resolver->latest = pending;
}

static void limit_end(struct pending *pending)
{
    struct resolver *resolver = pending->resolver;

    if (pending->late)
        return;
    pending->late = true;
    *(pending->earlier ? &pending->earlier->later : &resolver->earliest) = pending->later;
    *(pending->later ? &pending->later->earlier : &resolver->latest) = pending->earlier;
}

static struct pending *pending_new(struct resolver *resolver, struct pending **slot,
                                   const struct dnskey *key, int64_t now)
{
    struct pending *pending = calloc(1, sizeof(*pending));

    if (!pending)
        return NULL;
    pending->resolver = resolver;
    pending->key = *key;
    pending->refs = 1;
    pending->hooks_end = &pending->hooks;
    pthread_cond_init(&pending->done, &resolver->monotonic);
    limit_begin(pending, now);
    *slot = pending;
    resolver->pending_count++;
    return pending;
}

static void pending_unref(struct pending *pending)
{
    if (--pending->refs > 0)
        return;
    pthread_cond_destroy(&pending->done);
    answer_drop(pending->answer);
    free(pending);
}

static struct hook *take_hooks(struct pending *pending)
{
    struct hook *hooks = pending->hooks;

    pending->hooks = NULL;
    pending->hooks_end = &pending->hooks;
    return hooks;
}

/* Without the lock. */
static void call_hooks(struct hook *hooks, const struct answer *answer)
{
    while (hooks) {
        struct hook *hook = hooks;
        hooks = hook->next;
        hook->then(hook->context, answer);
        free(hook);
    }
}

static int64_t kept_until(const struct answer *answer, int64_t now)
{
    return now + (int64_t)answer->ttl * 1000;
}

/* Takes the reference of answer. */
static void complete(struct pending *pending, const struct answer *answer)
{
    struct resolver *resolver = pending->resolver;

    pthread_mutex_lock(&resolver->lock);
    *pending_slot(resolver, &pending->key) = pending->next;
    resolver->pending_count--;
    limit_end(pending);
    /* Without memory it is asked again. */
    (void)dnscache_put(resolver->cache, &pending->key, answer,
                       kept_until(answer, clock_ms()));
    pending->answer = answer;
    struct hook *hooks = take_hooks(pending);
    pthread_cond_broadcast(&pending->done);
    pthread_mutex_unlock(&resolver->lock);
    call_hooks(hooks, answer);
    pthread_mutex_lock(&resolver->lock);
    pending_unref(pending);
    pthread_mutex_unlock(&resolver->lock);
}

/* ---- libunbound's answers ------------------------------------------------- */

static uint32_t clamp(int ttl, int most)
{
    return (uint32_t)(ttl < 1 ? 1 : ttl > most ? most : ttl);
}

static const struct answer *data_answer(const struct ub_result *result, enum rr_type type)
{
    struct answer_record records[RESOLVER_RECORDS_MAX];
    struct answer head = { .kind = ANSWER_DATA,
                           .secure = result->secure != 0,
                           .ttl = clamp(result->ttl, DATA_TTL_MAX) };
    size_t count = 0, bytes = 0;

    for (; result->data[count]; count++) {
        if (count == RESOLVER_RECORDS_MAX)
            return answer_failed(FAILURE_RECORDS);
        if (result->len[count] < 0)
            return answer_failed(FAILURE_MALFORMED);
        records[count].data = (const unsigned char *)result->data[count];
        records[count].len = (size_t)result->len[count];
        bytes += records[count].len;
        if (bytes > RESOLVER_DATA_MAX)
            return answer_failed(FAILURE_SIZE);
        if (!dns_well_formed(&records[count], type))
            return answer_failed(FAILURE_MALFORMED);
    }
    const struct answer *answer = answer_new(&head, records, count);
    return answer ? answer : answer_failed(FAILURE_MEMORY);
}

static const struct answer *answer_of(int err, const struct ub_result *result,
                                      enum rr_type type)
{
    if (err != 0 || !result)
        return answer_failed(FAILURE_LIBRARY);
    if (result->bogus)
        return answer_failed(FAILURE_BOGUS);
    if (result->rcode == 0 && result->havedata && result->data)
        return data_answer(result, type);
    if (!result->nxdomain && result->rcode != 0)
        return answer_failed(FAILURE_SERVER);
    struct answer head = { .kind = result->nxdomain ? ANSWER_NXDOMAIN : ANSWER_NODATA,
                           .secure = result->secure != 0,
                           .ttl = clamp(result->ttl, ABSENT_TTL_MAX) };
    const struct answer *answer = answer_new(&head, NULL, 0);
    return answer ? answer : answer_failed(FAILURE_MEMORY);
}

/* Called by ub_process(), in the resolver's thread. */
static void answered(void *context, int err, struct ub_result *result)
{
    struct pending *pending = context;
    const struct answer *answer = answer_of(err, result, (enum rr_type)pending->key.type);

    ub_resolve_free(result);
    complete(pending, answer);
}

/* libunbound reads RFC 1035 master file syntax; each byte that could mean
 * something there is escaped. */
static void presentation(const struct dnskey *key, char out[4 * DNSKEY_NAME_MAX + 2])
{
    for (size_t i = 0; i < key->len; i++) {
        unsigned char c = (unsigned char)key->name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '_' || c == '.';
        if (plain) {
            *out++ = (char)c;
        } else {
            *out++ = '\\';
            *out++ = (char)('0' + c / 100);
            *out++ = (char)('0' + c / 10 % 10);
            *out++ = (char)('0' + c % 10);
        }
    }
    *out++ = '.';
    *out = '\0';
}

static void put_to_libunbound(struct resolver *resolver, struct pending *pending)
{
    char name[4 * DNSKEY_NAME_MAX + 2];

    presentation(&pending->key, name);
    atomic_fetch_add_explicit(&resolver->asked, 1, memory_order_relaxed);
    int rc = ub_resolve_async(resolver->ctx, name, pending->key.type, CLASS_IN, pending,
                              answered, NULL);
    if (rc != 0)
        complete(pending, answer_failed(FAILURE_LIBRARY));
}

/* ---- the resolver's thread ------------------------------------------------ */

/* Hooks of what is late, and the milliseconds until the next is. Nothing that is
 * begun while this much is slept can be late before. */
static int give_up_late(struct resolver *resolver)
{
    pthread_mutex_lock(&resolver->lock);
    for (;;) {
        struct pending *pending = resolver->earliest;
        int64_t left = pending ? pending->limit_ms - clock_ms() : resolver->timeout_ms;
        if (left > 0) {
            pthread_mutex_unlock(&resolver->lock);
            return (int)left;
        }
        limit_end(pending);
        struct hook *hooks = take_hooks(pending);
        if (!hooks)
            continue;
        pthread_mutex_unlock(&resolver->lock);
        call_hooks(hooks, answer_failed(FAILURE_TIME_LIMIT));
        pthread_mutex_lock(&resolver->lock);
    }
}

static void *serve(void *context)
{
    struct resolver *resolver = context;
    struct pollfd fds[] = { { .fd = ub_fd(resolver->ctx), .events = POLLIN },
                            { .fd = resolver->wake, .events = POLLIN } };

    for (;;) {
        int wait_ms = give_up_late(resolver);
        if (poll(fds, 2, wait_ms) <= 0)
            continue;
        if (fds[1].revents)
            return NULL;
        if (fds[0].revents && ub_process(resolver->ctx) != 0)
            (void)poll(&fds[1], 1, PIPE_PAUSE_MS); /* no memory, at the worst */
    }
}

static bool start_thread(struct resolver *resolver)
{
    sigset_t all, before;

    resolver->wake = eventfd(0, EFD_CLOEXEC);
    if (resolver->wake < 0)
        return false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&resolver->thread, NULL, serve, resolver);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = rc;
    return rc == 0;
}

/* ---- life ----------------------------------------------------------------- */

static void release(struct resolver *resolver)
{
    if (resolver->wake >= 0)
        close(resolver->wake);
    ub_ctx_delete(resolver->ctx);
    dnscache_free(resolver->cache);
    free(resolver->pending);
    pthread_condattr_destroy(&resolver->monotonic);
    pthread_mutex_destroy(&resolver->lock);
    free(resolver);
}

struct resolver *resolver_new(const struct conf_auth *auth, char *error,
                              size_t error_size)
{
    struct resolver *resolver = calloc(1, sizeof(*resolver));

    if (!resolver) {
        snprintf(error, error_size, "resolver: no memory");
        return NULL;
    }
    resolver->wake = -1;
    resolver->timeout_ms = auth && auth->query_timeout > 0 ? auth->query_timeout : 1000;
    pthread_mutex_init(&resolver->lock, NULL);
    pthread_condattr_init(&resolver->monotonic);
    pthread_condattr_setclock(&resolver->monotonic, CLOCK_MONOTONIC);
    resolver->cache = dnscache_new(CACHE_ENTRIES_MAX, CACHE_BYTES_MAX);
    resolver->pending = calloc(PENDING_BUCKETS, sizeof(struct pending *));
    if (!resolver->cache || !resolver->pending) {
        snprintf(error, error_size, "resolver: no memory");
        release(resolver);
        return NULL;
    }
    if (!auth)
        return resolver;
    resolver->ctx = resolver_setup(auth, error, error_size);
    if (resolver->ctx && start_thread(resolver))
        return resolver;
    if (resolver->ctx)
        snprintf(error, error_size, "resolver: %s", strerror(errno));
    release(resolver);
    return NULL;
}

/* Nobody is left but the hooks, which may ask: they are told that it ends. */
static void end_pending(struct resolver *resolver)
{
    for (size_t i = 0; i < PENDING_BUCKETS; i++)
        while (resolver->pending[i])
            complete(resolver->pending[i], answer_failed(FAILURE_ENDED));
}

void resolver_free(struct resolver *resolver)
{
    if (!resolver)
        return;
    pthread_mutex_lock(&resolver->lock);
    resolver->ending = true;
    pthread_mutex_unlock(&resolver->lock);
    if (resolver->ctx) {
        const uint64_t one = 1;
        while (write(resolver->wake, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
        pthread_join(resolver->thread, NULL);
        ub_ctx_delete(resolver->ctx);
        resolver->ctx = NULL;
    }
    end_pending(resolver);
    release(resolver);
}

/* ---- asking --------------------------------------------------------------- */

/* Where a question got to: an answer (with a reference), or one under way. */
struct asked {
    const struct answer *answer;
    struct pending *pending;
    bool is_new; /* to be put to libunbound, without the lock */
};

static struct asked answered_by(const struct answer *answer)
{
    return (struct asked){ .answer = answer };
}

/* With the lock. */
static struct asked ask(struct resolver *resolver, const struct dnskey *key)
{
    int64_t now = clock_ms();
    const struct answer *answer = dnscache_get(resolver->cache, key, now);

    if (answer)
        return answered_by(answer);
    if (resolver->ending)
        return answered_by(answer_failed(FAILURE_ENDED));
    if (!resolver->ctx)
        return answered_by(answer_nxdomain());
    struct pending **slot = pending_slot(resolver, key), *pending = *slot;
    if (pending) {
        if (now < pending->limit_ms)
            return (struct asked){ .pending = pending };
        if (now < pending->limit_ms + RETRY_MS)
            return answered_by(answer_failed(FAILURE_TIME_LIMIT));
        if (pending->late)
            limit_begin(pending, now);
        return (struct asked){ .pending = pending };
    }
    if (resolver->pending_count >= RESOLVER_PENDING_MAX)
        return answered_by(answer_failed(FAILURE_PENDING));
    pending = pending_new(resolver, slot, key, now);
    if (!pending)
        return answered_by(answer_failed(FAILURE_MEMORY));
    return (struct asked){ .pending = pending, .is_new = true };
}

struct query *resolver_ask(struct resolver *resolver, const char *name, enum rr_type type)
{
    struct dnskey key;
    struct query *query = calloc(1, sizeof(*query));

    if (!query)
        return NULL;
    query->resolver = resolver;
    if (!dnscache_key(resolver->cache, name, type, &key)) {
        query->answer = answer_nxdomain();
        return query;
    }
    pthread_mutex_lock(&resolver->lock);
    struct asked asked = ask(resolver, &key);
    query->answer = asked.answer;
    query->pending = asked.pending;
    if (asked.pending) {
        asked.pending->refs++;
        query->limit_ms = asked.pending->limit_ms;
    }
    pthread_mutex_unlock(&resolver->lock);
    if (asked.is_new)
        put_to_libunbound(resolver, asked.pending);
    return query;
}

/* With the lock. false: no memory, and then is not to be called by pending. */
static bool add_hook(struct pending *pending, resolver_then_fn *then, void *context)
{
    struct hook *hook = malloc(sizeof(*hook));

    if (!hook)
        return false;
    *hook = (struct hook){ .then = then, .context = context };
    *pending->hooks_end = hook;
    pending->hooks_end = &hook->next;
    return true;
}

void resolver_ask_then(struct resolver *resolver, const char *name, enum rr_type type,
                       resolver_then_fn *then, void *context)
{
    struct dnskey key;

    if (!dnscache_key(resolver->cache, name, type, &key)) {
        then(context, answer_nxdomain());
        return;
    }
    pthread_mutex_lock(&resolver->lock);
    struct asked asked = ask(resolver, &key);
    if (asked.pending && !add_hook(asked.pending, then, context))
        asked.answer = answer_failed(FAILURE_MEMORY);
    pthread_mutex_unlock(&resolver->lock);
    if (asked.is_new)
        put_to_libunbound(resolver, asked.pending);
    if (asked.answer) {
        then(context, asked.answer);
        answer_drop(asked.answer);
    }
}

/* ---- waiting -------------------------------------------------------------- */

static const struct answer *wait_pending(struct pending *pending, int64_t until_ms)
{
    struct timespec until = { .tv_sec = (time_t)(until_ms / 1000),
                              .tv_nsec = (long)(until_ms % 1000) * 1000000 };
    int rc = 0;

    while (!pending->answer && rc == 0 && clock_ms() < until_ms)
        rc = pthread_cond_timedwait(&pending->done, &pending->resolver->lock, &until);
    return pending->answer ? answer_ref(pending->answer) : NULL;
}

const struct answer *query_wait(struct query *query, int64_t deadline_ms)
{
    if (!query)
        return answer_failed(FAILURE_MEMORY);
    if (!query->answer) {
        int64_t until = deadline_ms < query->limit_ms ? deadline_ms : query->limit_ms;
        pthread_mutex_lock(&query->resolver->lock);
        query->answer = wait_pending(query->pending, until);
        pthread_mutex_unlock(&query->resolver->lock);
    }
    return query->answer ? query->answer : answer_failed(FAILURE_TIME_LIMIT);
}

void query_drop(struct query *query)
{
    if (!query)
        return;
    answer_drop(query->answer);
    if (query->pending) {
        struct resolver *resolver = query->resolver;
        pthread_mutex_lock(&resolver->lock);
        pending_unref(query->pending);
        pthread_mutex_unlock(&resolver->lock);
    }
    free(query);
}

/* ---- the rest ------------------------------------------------------------- */

uint64_t resolver_asked(const struct resolver *resolver)
{
    return atomic_load_explicit(&resolver->asked, memory_order_relaxed);
}

bool resolver_put(struct resolver *resolver, const char *name, enum rr_type type,
                  enum answer_kind kind, const struct answer_record *records,
                  size_t count)
{
    struct answer head = { .kind = kind, .ttl = DATA_TTL_MAX };
    struct dnskey key;

    if (kind == ANSWER_FAILED)
        head.trouble = answer_failed(FAILURE_SERVER)->trouble;
    if (count > RESOLVER_RECORDS_MAX || !dnscache_key(resolver->cache, name, type, &key))
        return false;
    const struct answer *answer = answer_new(&head, records, count);
    if (!answer)
        return false;
    pthread_mutex_lock(&resolver->lock);
    bool put = dnscache_put(resolver->cache, &key, answer, INT64_MAX);
    pthread_mutex_unlock(&resolver->lock);
    answer_drop(answer);
    return put;
}
