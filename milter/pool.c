/*
 * pool: a stack of idle store handles under one mutex.
 *
 * The handle used last is taken first, so that the connections in use are few
 * and warm. Handles are made when needed, up to POOL_HANDLES_MAX, and connect
 * by themselves at their first call. A thread that finds all of them busy waits
 * for at most command-timeout: then Redis is in trouble, and its message is
 * better tried later than kept waiting.
 *
 * The key of the trace tokens never changes while the store lives; it is read
 * once per pool. A reload makes a new pool, so SIGUSR1 also reads the key
 * again, after a `sluice recover` onto an emptied Redis.
 */
#include "config.h"

#include "pool.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* sluice recover makes a new key when Redis had lost the old one. */
#define SECRET_SECONDS 60

struct pool {
    struct conf *conf;
    struct journal_reader *head;
    pool_open_fn *open;
    struct verifier *verifier; /* or NULL */
    pthread_mutex_t mutex;
    pthread_cond_t given;
    struct store *idle[POOL_HANDLES_MAX];
    int idle_count;
    int opened; /* idle and busy ones */
    int refs;
    time_t secret_until; /* monotonic s; then it is asked for again */
    unsigned char secret[STORE_SECRET_LEN];
};

static bool init_locks(struct pool *pool)
{
    pthread_condattr_t attr;
    if (pthread_mutex_init(&pool->mutex, NULL) != 0)
        return false;
    if (pthread_condattr_init(&attr) == 0) {
        bool ready = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
                     pthread_cond_init(&pool->given, &attr) == 0;
        pthread_condattr_destroy(&attr);
        if (ready)
            return true;
    }
    pthread_mutex_destroy(&pool->mutex);
    return false;
}

struct pool *pool_new(struct conf *conf, pool_open_fn *open)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    if (!pool) {
        conf_unref(conf);
        return NULL;
    }
    char path[PATH_MAX];
    conf_journal_path(conf, path, sizeof(path));
    pool->conf = conf;
    pool->open = open;
    pool->refs = 1;
    pool->head = journal_reader_new(path);
    if (pool->head && init_locks(pool))
        return pool;
    if (pool->head)
        journal_reader_free(pool->head);
    conf_unref(conf);
    free(pool);
    return NULL;
}

struct pool *pool_ref(struct pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pool->refs++;
    pthread_mutex_unlock(&pool->mutex);
    return pool;
}

void pool_unref(struct pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    int left = --pool->refs;
    pthread_mutex_unlock(&pool->mutex);
    if (left > 0)
        return;
    while (pool->idle_count > 0)
        store_free(pool->idle[--pool->idle_count]);
    verifier_free(pool->verifier);
    journal_reader_free(pool->head);
    conf_unref(pool->conf);
    pthread_cond_destroy(&pool->given);
    pthread_mutex_destroy(&pool->mutex);
    explicit_bzero(pool->secret, sizeof(pool->secret));
    free(pool);
}

const struct conf *pool_conf(const struct pool *pool)
{
    return pool->conf;
}

void pool_set_verifier(struct pool *pool, struct verifier *verifier)
{
    pool->verifier = verifier;
}

struct verifier *pool_verifier(const struct pool *pool)
{
    return pool->verifier;
}

static struct timespec deadline_after(int ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

struct store *pool_take(struct pool *pool)
{
    struct store *store = NULL;
    struct timespec deadline = deadline_after(pool->conf->command_timeout);
    bool waiting = true;
    pthread_mutex_lock(&pool->mutex);
    while (pool->idle_count == 0 && pool->opened == POOL_HANDLES_MAX && waiting)
        waiting = pthread_cond_timedwait(&pool->given, &pool->mutex, &deadline) == 0;
    if (pool->idle_count > 0)
        store = pool->idle[--pool->idle_count];
    bool make = !store && pool->opened < POOL_HANDLES_MAX;
    if (make)
        pool->opened++;
    pthread_mutex_unlock(&pool->mutex);
    if (make) {
        store = pool->open(pool->conf, pool->head);
        if (!store)
            pool_give(pool, NULL);
    }
    return store;
}

/* NULL gives back the place of a handle that could not be made. */
void pool_give(struct pool *pool, struct store *store)
{
    pthread_mutex_lock(&pool->mutex);
    if (store)
        pool->idle[pool->idle_count++] = store;
    else
        pool->opened--;
    pthread_cond_signal(&pool->given);
    pthread_mutex_unlock(&pool->mutex);
}

bool pool_secret(struct pool *pool, struct store *store,
                 unsigned char out[STORE_SECRET_LEN])
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    pthread_mutex_lock(&pool->mutex);
    bool fresh = now.tv_sec < pool->secret_until;
    if (fresh)
        memcpy(out, pool->secret, STORE_SECRET_LEN);
    pthread_mutex_unlock(&pool->mutex);
    if (fresh)
        return true;
    if (store_secret(store, out) != LOOKUP_FOUND)
        return false;
    pthread_mutex_lock(&pool->mutex);
    memcpy(pool->secret, out, STORE_SECRET_LEN);
    pool->secret_until = now.tv_sec + SECRET_SECONDS;
    pthread_mutex_unlock(&pool->mutex);
    return true;
}
