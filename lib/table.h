/*
 * table: a hash table from texts to texts, for sets of mailboxes in memory.
 * Keys and values are copied; entries are replaced, and found by key or, in no
 * order, one after the other. Not thread-safe.
 */
#ifndef SLUICE_TABLE_H
#define SLUICE_TABLE_H

#include <stdbool.h>
#include <stddef.h>

struct table;

struct table *table_new(void); /* NULL: out of memory */
void table_free(struct table *table);
/* false: out of memory, nothing changed. */
bool table_put(struct table *table, const char *key, size_t key_len, const char *value,
               size_t value_len);
/* The value (NUL-terminated), NULL when there is none; good until the next
 * put or remove. len may be NULL. */
const char *table_get(const struct table *table, const char *key, size_t key_len,
                      size_t *len);
void table_remove(struct table *table, const char *key, size_t key_len);
size_t table_count(const struct table *table);
/* Walks all entries: *cursor starts at 0. key is NUL-terminated. false at the
 * end. No put or remove in between. */
bool table_next(const struct table *table, size_t *cursor, const char **key,
                size_t *key_len, const char **value, size_t *value_len);

#endif
