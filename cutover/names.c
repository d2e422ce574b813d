/*
 * names: a set of strings that keeps their order (see names.h).
 *
 * The table holds number + 1 of a name, 0 is a free slot; it doubles when it is
 * half full. The hash is FNV-1a: names come from the admin's own files, there
 * is no stranger to choose colliding ones.
 */
#include "names.h"

#include <stdlib.h>
#include <string.h>

#include "fnv.h"

#define BLOCK_SIZE  (256 * 1024)
#define TABLE_START 1024

struct block {
    struct block *next;
    size_t used, size;
    char text[];
};

struct names {
    struct block *blocks;
    char **list;
    size_t count, room;
    uint32_t *table;
    size_t slots; /* a power of two */
};

struct names *names_new(void)
{
    return calloc(1, sizeof(struct names));
}

void names_free(struct names *names)
{
    if (!names)
        return;
    while (names->blocks) {
        struct block *next = names->blocks->next;
        free(names->blocks);
        names->blocks = next;
    }
    free(names->list);
    free(names->table);
    free(names);
}

size_t names_count(const struct names *names)
{
    return names->count;
}

char **names_list(struct names *names)
{
    return names->list;
}

char *names_keep(struct names *names, const char *text)
{
    size_t need = strlen(text) + 1;
    struct block *block = names->blocks;
    if (!block || block->size - block->used < need) {
        size_t size = need > BLOCK_SIZE ? need : BLOCK_SIZE;
        block = malloc(sizeof(*block) + size);
        if (!block)
            return NULL;
        *block = (struct block){ .next = names->blocks, .size = size };
        names->blocks = block;
    }
    char *copy = block->text + block->used;
    memcpy(copy, text, need);
    block->used += need;
    return copy;
}

static uint64_t hash(const char *text)
{
    return fnv_fold(fnv_hash(0, text, strlen(text)));
}

/* The slot that holds text, or the free one where it belongs. */
static uint32_t *find_slot(const struct names *names, const char *text)
{
    size_t mask = names->slots - 1;
    size_t i = (size_t)hash(text) & mask;
    while (names->table[i] && strcmp(names->list[names->table[i] - 1], text) != 0)
        i = (i + 1) & mask;
    return &names->table[i];
}

size_t names_find(const struct names *names, const char *text)
{
    uint32_t found = names->slots ? *find_slot(names, text) : 0;
    return found ? found - 1 : SIZE_MAX;
}

static int grow_table(struct names *names)
{
    size_t slots = names->slots ? names->slots * 2 : TABLE_START;
    uint32_t *table = calloc(slots, sizeof(*table));
    if (!table)
        return -1;
    free(names->table);
    names->table = table;
    names->slots = slots;
    for (size_t i = 0; i < names->count; i++)
        *find_slot(names, names->list[i]) = (uint32_t)(i + 1);
    return 0;
}

static int grow_list(struct names *names)
{
    size_t room = names->room ? names->room * 2 : TABLE_START / 2;
    char **list = reallocarray(names->list, room, sizeof(*list));
    if (!list)
        return -1;
    names->list = list;
    names->room = room;
    return 0;
}

enum names_added names_add(struct names *names, const char *text, size_t *index)
{
    if (names->count >= UINT32_MAX - 1)
        return NAMES_FAILED;
    if ((names->count + 1) * 2 > names->slots && grow_table(names) != 0)
        return NAMES_FAILED;
    uint32_t *slot = find_slot(names, text);
    if (*slot) {
        *index = *slot - 1;
        return NAMES_KNOWN;
    }
    if (names->count == names->room && grow_list(names) != 0)
        return NAMES_FAILED;
    char *copy = names_keep(names, text);
    if (!copy)
        return NAMES_FAILED;
    *index = names->count;
    names->list[names->count++] = copy;
    *slot = (uint32_t)names->count;
    return NAMES_NEW;
}
