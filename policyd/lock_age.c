/*
 * lock_age: see lock_age.h. Two sorted lists, of the look before and of this one: n log
 * n in the number of locks (of changes, not of mailboxes). Without memory for more the
 * store's clock alone counts.
 */
#include "config.h"

#include "lock_age.h"

#include <stdlib.h>
#include <string.h>

#include "fnv.h"

/* Both clocks are read in whole seconds, and at different moments. */
#define SLACK_S 3

struct seen {
    uint64_t key;
    int64_t first_ms; /* monotonic */
    int64_t age_s;    /* then, by the store's clock */
};

struct list {
    struct seen *seen;
    size_t n, room;
};

struct lock_ages {
    struct list before, now;
    int64_t now_ms;
};

struct lock_ages *lock_ages_new(void)
{
    return calloc(1, sizeof(struct lock_ages));
}

void lock_ages_free(struct lock_ages *ages)
{
    if (!ages)
        return;
    free(ages->before.seen);
    free(ages->now.seen);
    free(ages);
}

static int by_key(const void *a, const void *b)
{
    const struct seen *one = a, *other = b;
    return one->key < other->key ? -1 : one->key > other->key;
}

static void add(struct list *list, const struct seen *seen)
{
    if (list->n == list->room) {
        size_t room = list->room ? list->room * 2 : 64;
        struct seen *grown = realloc(list->seen, room * sizeof(*grown));
        if (!grown)
            return;
        list->seen = grown;
        list->room = room;
    }
    list->seen[list->n++] = *seen;
}

void lock_ages_begin(struct lock_ages *ages, int64_t now_ms)
{
    ages->now.n = 0;
    ages->now_ms = now_ms;
}

int64_t lock_ages_since(struct lock_ages *ages, const char *domain, uint64_t epoch,
                        bool rollback, int64_t since, int64_t store_s)
{
    uint64_t key = fnv_hash(epoch * 2 + rollback, domain, strlen(domain));
    struct seen seen = { .key = fnv_hash(key, (const char *)&since, sizeof(since)),
                         .first_ms = ages->now_ms,
                         .age_s = store_s > since ? store_s - since : 0 };
    const struct seen *known =
        ages->before.n > 0
            ? bsearch(&seen, ages->before.seen, ages->before.n, sizeof(seen), by_key)
            : NULL;
    if (known)
        seen = *known;
    add(&ages->now, &seen);
    int64_t age = seen.age_s + (ages->now_ms - seen.first_ms) / 1000;
    return store_s - age < since - SLACK_S ? store_s - age : since;
}

void lock_ages_end(struct lock_ages *ages, bool whole)
{
    if (!whole)
        return;
    struct list old = ages->before;
    ages->before = ages->now;
    ages->now = old;
    if (ages->before.n > 0)
        qsort(ages->before.seen, ages->before.n, sizeof(*ages->before.seen), by_key);
}
