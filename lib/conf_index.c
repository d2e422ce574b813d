/*
 * conf_index: a hash table with open addressing, at most half full. It is asked
 * for every recipient of every message, most of which are not found; so the
 * answer takes one comparison or two, however many domains there are. The names
 * in it are the admin's, so nobody can crowd one place.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fnv.h"

#include "conf_index.h"

struct entry {
    const char *name; /* NULL: free */
    const struct conf_domain *domain;
};

struct conf_index {
    struct entry *entries;
    size_t mask; /* number of entries, a power of two, minus one */
};

static size_t hash_name(const char *name)
{
    return (size_t)fnv_fold(fnv_hash(0, name, strlen(name)));
}

static struct entry *find_slot(const struct conf_index *index, const char *name)
{
    size_t i = hash_name(name) & index->mask;

    while (index->entries[i].name && strcmp(index->entries[i].name, name) != 0)
        i = (i + 1) & index->mask;
    return &index->entries[i];
}

struct conf_index *conf_index_new(size_t names)
{
    struct conf_index *index = malloc(sizeof(*index));
    size_t size = 8;

    while (size < names * 2)
        size *= 2;
    if (index)
        index->entries = calloc(size, sizeof(*index->entries));
    if (!index || !index->entries) {
        free(index);
        return NULL;
    }
    index->mask = size - 1;
    return index;
}

void conf_index_free(struct conf_index *index)
{
    if (index)
        free(index->entries);
    free(index);
}

const struct conf_domain *conf_index_add(struct conf_index *index, const char *name,
                                         const struct conf_domain *domain)
{
    struct entry *entry = find_slot(index, name);

    if (entry->name)
        return entry->domain;
    *entry = (struct entry){ name, domain };
    return NULL;
}

const struct conf_domain *conf_index_find(const struct conf_index *index,
                                          const char *name)
{
    return find_slot(index, name)->domain;
}
