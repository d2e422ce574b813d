/*
 * taglist: the tag=value lists of RFC 6376 3.2, as in DKIM-Signature fields and
 * in DKIM key records. Strict and pure.
 */
#ifndef SLUICE_TAGLIST_H
#define SLUICE_TAGLIST_H

#include <stdbool.h>
#include <stddef.h>

#define TAGS_MAX 64

struct tag {
    const char *name, *value;   /* point into the text; not terminated */
    size_t name_len, value_len; /* the value without white space around it */
};

struct taglist {
    struct tag tags[TAGS_MAX];
    size_t count;
};

/* false: malformed (a duplicate tag is), and why (static). Folding white space
 * (also CR LF before a blank) is allowed where RFC 6376 3.2 has FWS. */
bool taglist_parse(const char *text, size_t len, struct taglist *out, const char **why);
const struct tag *taglist_find(const struct taglist *list, const char *name);

#endif
