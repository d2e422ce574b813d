/*
 * table: a hash table from texts to texts (see table.h). Open addressing with
 * linear probing, at most three quarters full; each entry is one allocation.
 * The hash (FNV-1a) is started from a random value, so that nobody chooses
 * mailbox names that all fall into one place.
 */
#include "config.h"

#include "table.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "fnv.h"

struct entry {
    uint64_t hash;
    size_t key_len, value_len;
    char text[]; /* key NUL value NUL */
};

struct table {
    struct entry **slots;
    size_t slot_count; /* a power of two */
    size_t count;
    uint64_t seed;
};

#define FIRST_SLOTS 64

static uint64_t hash_of(const struct table *table, const char *key, size_t len)
{
    return fnv_fold(fnv_hash(table->seed, key, len));
}

struct table *table_new(void)
{
    struct table *table = calloc(1, sizeof(*table));
    if (!table)
        return NULL;
    table->slots = calloc(FIRST_SLOTS, sizeof(struct entry *));
    if (!table->slots) {
        free(table);
        return NULL;
    }
    table->slot_count = FIRST_SLOTS;
    /* Without randomness the table is as good, only guessable. */
    if (getrandom(&table->seed, sizeof(table->seed), GRND_NONBLOCK) < 0)
        table->seed = (uint64_t)(uintptr_t)table;
    return table;
}

void table_free(struct table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->slot_count; i++)
        free(table->slots[i]);
    free(table->slots);
    free(table);
}

/* Where the key is, or where it would go. */
static size_t slot_of(const struct table *table, uint64_t hash, const char *key,
                      size_t len)
{
    size_t mask = table->slot_count - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        const struct entry *entry = table->slots[i];
        if (!entry || (entry->hash == hash && entry->key_len == len &&
                       memcmp(entry->text, key, len) == 0))
            return i;
    }
}

static bool grow(struct table *table)
{
    size_t larger = table->slot_count * 2;
    struct entry **slots = calloc(larger, sizeof(struct entry *));
    if (!slots)
        return false;
    for (size_t i = 0; i < table->slot_count; i++) {
        struct entry *entry = table->slots[i];
        if (!entry)
            continue;
        size_t at = (size_t)entry->hash & (larger - 1);
        while (slots[at])
            at = (at + 1) & (larger - 1);
        slots[at] = entry;
    }
    free(table->slots);
    table->slots = slots;
    table->slot_count = larger;
    return true;
}

bool table_put(struct table *table, const char *key, size_t key_len, const char *value,
               size_t value_len)
{
    if (table->count >= table->slot_count / 4 * 3 && !grow(table))
        return false;
    struct entry *entry = malloc(sizeof(*entry) + key_len + value_len + 2);
    if (!entry)
        return false;
    entry->hash = hash_of(table, key, key_len);
    entry->key_len = key_len;
    entry->value_len = value_len;
    memcpy(entry->text, key, key_len);
    entry->text[key_len] = '\0';
    if (value_len)
        memcpy(entry->text + key_len + 1, value, value_len);
    entry->text[key_len + 1 + value_len] = '\0';
    size_t at = slot_of(table, entry->hash, key, key_len);
    if (!table->slots[at])
        table->count++;
    free(table->slots[at]);
    table->slots[at] = entry;
    return true;
}

const char *table_get(const struct table *table, const char *key, size_t key_len,
                      size_t *len)
{
    size_t at = slot_of(table, hash_of(table, key, key_len), key, key_len);
    const struct entry *entry = table->slots[at];
    if (len)
        *len = entry ? entry->value_len : 0;
    return entry ? entry->text + entry->key_len + 1 : NULL;
}

void table_remove(struct table *table, const char *key, size_t key_len)
{
    size_t mask = table->slot_count - 1;
    size_t hole = slot_of(table, hash_of(table, key, key_len), key, key_len);
    if (!table->slots[hole])
        return;
    free(table->slots[hole]);
    table->slots[hole] = NULL;
    table->count--;
    /* Entries behind the hole move up unless they are at or past their place. */
    for (size_t i = (hole + 1) & mask; table->slots[i]; i = (i + 1) & mask) {
        size_t home = (size_t)table->slots[i]->hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            table->slots[hole] = table->slots[i];
            table->slots[i] = NULL;
            hole = i;
        }
    }
}

size_t table_count(const struct table *table)
{
    return table->count;
}

bool table_next(const struct table *table, size_t *cursor, const char **key,
                size_t *key_len, const char **value, size_t *value_len)
{
    while (*cursor < table->slot_count) {
        const struct entry *entry = table->slots[(*cursor)++];
        if (!entry)
            continue;
        *key = entry->text;
        *key_len = entry->key_len;
        *value = entry->text + entry->key_len + 1;
        *value_len = entry->value_len;
        return true;
    }
    return false;
}
