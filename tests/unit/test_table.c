/* The hash table from texts to texts. */
#include "config.h"

#include <stdlib.h>

#include "table.h"
#include "unit.h"

static void put(struct table *table, const char *key, const char *value)
{
    CU_ASSERT(table_put(table, key, strlen(key), value, strlen(value)));
}

static void test_put_get_remove(void)
{
    struct table *table = table_new();
    size_t len;
    CU_ASSERT(table_get(table, "a", 1, NULL) == NULL);
    put(table, "a", "one");
    put(table, "", "the empty key");
    put(table, "a", "two");
    CHECK_STR("replaced", table_get(table, "a", 1, &len), "two");
    CHECK_INT("length", len, 3);
    CHECK_STR("empty key", table_get(table, "", 0, NULL), "the empty key");
    CHECK_INT("count", table_count(table), 2);
    table_remove(table, "b", 1);
    table_remove(table, "a", 1);
    CU_ASSERT(table_get(table, "a", 1, NULL) == NULL);
    CHECK_INT("count", table_count(table), 1);
    table_free(table);
}

/* Against an array, in an order that makes and fills holes. */
static void test_many(void)
{
    enum { N = 5000 };
    static int present[N];
    struct table *table = table_new();
    unsigned state = 1;
    char key[16];
    size_t expected = 0;
    for (int step = 0; step < 40 * N; step++) {
        state = state * 1103515245u + 12345u;
        int i = (int)(state >> 8) % N;
        int len = snprintf(key, sizeof(key), "key%d", i);
        if (state & 0x80) {
            table_remove(table, key, (size_t)len);
            expected -= (size_t)present[i];
            present[i] = 0;
        } else {
            put(table, key, key);
            expected += (size_t)!present[i];
            present[i] = 1;
        }
    }
    CHECK_INT("count", table_count(table), expected);
    int wrong = 0;
    for (int i = 0; i < N; i++) {
        int len = snprintf(key, sizeof(key), "key%d", i);
        const char *value = table_get(table, key, (size_t)len, NULL);
        wrong += present[i] ? !value || strcmp(value, key) != 0 : value != NULL;
    }
    CHECK_INT("wrong answers", wrong, 0);
    size_t cursor = 0, key_len, value_len, walked = 0;
    const char *found, *value;
    while (table_next(table, &cursor, &found, &key_len, &value, &value_len)) {
        wrong += strcmp(found, value) != 0 || strlen(found) != key_len;
        walked++;
    }
    CHECK_INT("walked", walked, expected);
    CHECK_INT("wrong entries", wrong, 0);
    table_free(table);
}

UNIT_MAIN("table", { "put, get, remove", test_put_get_remove }, { "many", test_many })
