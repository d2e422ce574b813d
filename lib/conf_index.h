/*
 * conf_index: domain names to domain sections, used by conf.c alone. Names and
 * domains are the configuration's own; the index does not copy them.
 */
#ifndef SLUICE_CONF_INDEX_H
#define SLUICE_CONF_INDEX_H

#include <stddef.h>

struct conf_domain;
struct conf_index;

/* For up to so many names. NULL: out of memory. */
struct conf_index *conf_index_new(size_t names);
void conf_index_free(struct conf_index *index);

/* Adds a name; returns the domain that has it already, or NULL. */
const struct conf_domain *conf_index_add(struct conf_index *index, const char *name,
                                         const struct conf_domain *domain);
const struct conf_domain *conf_index_find(const struct conf_index *index,
                                          const char *name);

#endif
