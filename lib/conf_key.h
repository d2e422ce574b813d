/*
 * conf_key: the keys of sluice.conf, and what their values must be. Pure, used
 * by conf.c alone.
 */
#ifndef SLUICE_CONF_KEY_H
#define SLUICE_CONF_KEY_H

#include <stdbool.h>
#include <stddef.h>

struct conf_key;
/* Writes what is wrong with value to wrong and returns false, or returns true. */
typedef bool conf_key_check(const struct conf_key *key, const char *value, char *wrong,
                            size_t size);

struct conf_key {
    const char *section; /* NULL: top level */
    const char *name;
    conf_key_check *check; /* of a text; NULL: a number or a boolean */
    long min, max;         /* of a number, or of the length of a text */
    const char *words;     /* "a|b": nothing else is allowed */
};

extern const struct conf_key conf_keys[];
extern const size_t conf_key_count;
/* The titles of sections. */
extern const struct conf_key conf_key_domain, conf_key_mailbox, conf_key_ping;

/* section: NULL for the top level. NULL: no such key. */
const struct conf_key *conf_key_find(const char *section, const char *name);

#endif
