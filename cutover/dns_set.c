/*
 * dns_set: sets of DNS records (see dns_set.h). A zone's mail records are few:
 * lists are walked, nothing is indexed.
 */
#include "dns_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct dns_set *dns_sets_find(const struct dns_sets *sets, const char *name,
                                    enum dns_type type)
{
    for (size_t i = 0; i < sets->count; i++)
        if (sets->items[i].type == type && strcmp(sets->items[i].name, name) == 0)
            return &sets->items[i];
    return NULL;
}

static struct dns_set *find_or_make(struct dns_sets *sets, const char *name,
                                    enum dns_type type, uint32_t ttl)
{
    for (size_t i = 0; i < sets->count; i++)
        if (sets->items[i].type == type && strcmp(sets->items[i].name, name) == 0)
            return &sets->items[i];
    if (sets->count >= DNS_SETS_MAX)
        return NULL;
    struct dns_set *grown =
        reallocarray(sets->items, sets->count + 1, sizeof(*sets->items));
    if (!grown)
        return NULL;
    sets->items = grown;
    struct dns_set *set = &grown[sets->count];
    *set = (struct dns_set){ .name = strdup(name), .type = type, .ttl = ttl };
    if (!set->name)
        return NULL;
    sets->count++;
    return set;
}

static bool add_value(struct dns_set *set, const char *value, const char *text)
{
    char **values = reallocarray(set->values, set->count + 2, sizeof(*values));
    if (values)
        set->values = values;
    char **texts = reallocarray(set->texts, set->count + 1, sizeof(*texts));
    if (texts)
        set->texts = texts;
    char *copy = strdup(value), *text_copy = text ? strdup(text) : NULL;
    if (!values || !texts || !copy || (text && !text_copy)) {
        free(copy);
        free(text_copy);
        return false;
    }
    texts[set->count] = text_copy;
    values[set->count++] = copy;
    values[set->count] = NULL;
    return true;
}

bool dns_sets_add_text(struct dns_sets *sets, const char *name, enum dns_type type,
                       uint32_t ttl, const char *value, const char *text)
{
    struct dns_set *set = find_or_make(sets, name, type, ttl);
    if (!set)
        return false;
    if (ttl < set->ttl)
        set->ttl = ttl;
    if (!value || dns_set_has(set, value))
        return true;
    return set->count < DNS_SET_VALUES_MAX && add_value(set, value, text);
}

bool dns_sets_add(struct dns_sets *sets, const char *name, enum dns_type type,
                  uint32_t ttl, const char *value)
{
    return dns_sets_add_text(sets, name, type, ttl, value, NULL);
}

bool dns_sets_add_of(struct dns_sets *sets, const struct dns_set *set, size_t value,
                     uint32_t ttl)
{
    return dns_sets_add_text(sets, set->name, set->type, ttl, set->values[value],
                             set->texts[value]);
}

bool dns_sets_add_set(struct dns_sets *sets, const struct dns_set *set)
{
    bool ok = dns_sets_add(sets, set->name, set->type, set->ttl, NULL);
    for (size_t i = 0; ok && i < set->count; i++)
        ok = dns_sets_add_of(sets, set, i, set->ttl);
    return ok;
}

void dns_set_zone(const struct dns_set *set, size_t value, char *out, size_t size)
{
    if (set->texts[value])
        snprintf(out, size, "%s", set->texts[value]);
    else
        dns_value_zone(set->type, set->values[value], out, size);
}

void dns_sets_free(struct dns_sets *sets)
{
    for (size_t i = 0; i < sets->count; i++) {
        for (size_t v = 0; v < sets->items[i].count; v++)
            free(sets->items[i].values[v]);
        for (size_t v = 0; v < sets->items[i].count; v++)
            free(sets->items[i].texts[v]);
        free(sets->items[i].values);
        free(sets->items[i].texts);
        free(sets->items[i].name);
    }
    free(sets->items);
    *sets = (struct dns_sets){ 0 };
}

bool dns_set_has(const struct dns_set *set, const char *value)
{
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->values[i], value) == 0)
            return true;
    return false;
}

bool dns_set_same(const struct dns_set *a, const struct dns_set *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!dns_set_has(b, a->values[i]))
            return false;
    return true;
}
