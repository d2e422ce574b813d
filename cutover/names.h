/*
 * names: a set of strings that keeps their order. Import finds duplicate rows
 * with it, targets the addresses that were named twice.
 *
 * Made for a million names: the text lies in large blocks that never move, one
 * open-addressed table of 32-bit numbers finds it again.
 */
#ifndef SLUICE_NAMES_H
#define SLUICE_NAMES_H

#include <stddef.h>
#include <stdint.h>

struct names;

enum names_added { NAMES_NEW, NAMES_KNOWN, NAMES_FAILED /* out of memory */ };

struct names *names_new(void); /* NULL: out of memory */
void names_free(struct names *names);

/* Adds a copy of text. *index is its number, counted from 0: that of the first
 * one when it is known already. */
enum names_added names_add(struct names *names, const char *text, size_t *index);

/* Its number; SIZE_MAX: not in the set. */
size_t names_find(const struct names *names, const char *text);

size_t names_count(const struct names *names);
/* All of them, names_count() long, in the order they came. Owned by names; the
 * array moves with the next names_add(), the text does not. */
char **names_list(struct names *names);

/* A copy of text that lives as long as names does, outside the set. NULL: out
 * of memory. */
char *names_keep(struct names *names, const char *text);

#endif
