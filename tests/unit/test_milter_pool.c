/* pool: handles are shared, bounded, and a wait for one ends. */
#include "config.h"

#include <pthread.h>
#include <time.h>

#include "milter_case.h"
#include "../../milter/pool.h"

static int opened;

static struct store *open_memory(struct conf *conf, struct journal_reader *head)
{
    (void)conf;
    (void)head;
    opened++;
    return store_memory_new();
}

static void test_handles_are_used_again(void)
{
    struct pool *pool = pool_new(case_conf("old", "queue", "false"), open_memory);
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool);
    opened = 0;
    for (int i = 0; i < 100; i++) {
        struct store *store = pool_take(pool);
        CU_ASSERT_PTR_NOT_NULL(store);
        pool_give(pool, store);
    }
    CHECK_INT("opened", opened, 1);
    struct store *first = pool_take(pool), *second = pool_take(pool);
    CHECK_INT("opened", opened, 2);
    CU_ASSERT(first != second);
    pool_give(pool, first);
    pool_give(pool, second);
    CHECK_STR("its configuration", pool_conf(pool)->hostname, "mx.lab.test");
    pool_unref(pool);
}

static void *give_later(void *context)
{
    void **pair = context;
    nanosleep(&(struct timespec){ .tv_nsec = 50 * 1000000L }, NULL);
    pool_give(pair[0], pair[1]);
    return NULL;
}

static void test_waiting_ends(void)
{
    struct pool *pool = pool_new(case_conf("old", "queue", "false"), open_memory);
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool);
    struct store *taken[POOL_HANDLES_MAX];
    struct timespec before, after;
    for (int i = 0; i < POOL_HANDLES_MAX; i++)
        taken[i] = pool_take(pool);
    clock_gettime(CLOCK_MONOTONIC, &before);
    CU_ASSERT_PTR_NULL(pool_take(pool));
    clock_gettime(CLOCK_MONOTONIC, &after);
    double waited = (double)(after.tv_sec - before.tv_sec) +
                    (double)(after.tv_nsec - before.tv_nsec) / 1e9;
    CU_ASSERT(waited >= 0.25);
    void *pair[] = { pool, taken[0] };
    pthread_t giver;
    CU_ASSERT_FATAL(pthread_create(&giver, NULL, give_later, pair) == 0);
    CU_ASSERT_PTR_EQUAL(pool_take(pool), taken[0]);
    pthread_join(giver, NULL);
    for (int i = 0; i < POOL_HANDLES_MAX; i++)
        pool_give(pool, taken[i]);
    pool_unref(pool);
}

static void *hammer(void *context)
{
    struct pool *pool = context;
    for (int i = 0; i < 20000; i++) {
        struct store *store = pool_take(pool_ref(pool));
        if (store)
            pool_give(pool, store);
        pool_unref(pool);
    }
    return NULL;
}

static void test_many_threads(void)
{
    struct pool *pool = pool_new(case_conf("old", "queue", "false"), open_memory);
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool);
    pthread_t threads[32];
    opened = 0;
    for (int i = 0; i < 32; i++)
        CU_ASSERT_FATAL(pthread_create(&threads[i], NULL, hammer, pool) == 0);
    for (int i = 0; i < 32; i++)
        pthread_join(threads[i], NULL);
    CU_ASSERT(opened <= POOL_HANDLES_MAX);
    pool_unref(pool);
}

UNIT_MAIN("milter pool", { "used again", test_handles_are_used_again },
          { "waiting ends", test_waiting_ends }, { "many threads", test_many_threads })
