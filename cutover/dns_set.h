/*
 * dns_set: sets of DNS records of one name and type (RRsets), in memory. Names
 * and values are canonical (dnsrecord.h). Pure.
 */
#ifndef SLUICE_DNS_SET_H
#define SLUICE_DNS_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dnsrecord.h"

#define DNS_SET_VALUES_MAX 256  /* more in one set: adding fails */
#define DNS_SETS_MAX       2048 /* more sets: adding fails */

struct dns_set {
    char *name;
    enum dns_type type;
    uint32_t ttl;  /* the lowest of its records */
    char **values; /* NULL-terminated once there is one, else NULL */
    char **texts; /* as values; of a TXT record whose strings are not cut at 255 bytes, as
                     a zone file has them; else NULL */
    size_t count; /* 0: there are no such records */
    bool whole;   /* as a plan: stands for all records of its name and type, whatever
                     their kind, but for TXT that is nobody's (dns_plan.h) */
};

struct dns_sets {
    struct dns_set *items;
    size_t count;
};

/* Adds a value, which is taken once, to the set of this name and type; value NULL:
 * only the set. false: no memory, or past a limit. */
bool dns_sets_add(struct dns_sets *sets, const char *name, enum dns_type type,
                  uint32_t ttl, const char *value);
/* The same of a TXT record with its strings as a zone file has them; NULL: cut at 255. */
bool dns_sets_add_text(struct dns_sets *sets, const char *name, enum dns_type type,
                       uint32_t ttl, const char *value, const char *text);
/* One value of a set, strings as they are. */
bool dns_sets_add_of(struct dns_sets *sets, const struct dns_set *set, size_t value,
                     uint32_t ttl);
/* Adds all values of set. */
bool dns_sets_add_set(struct dns_sets *sets, const struct dns_set *set);
/* NULL: there is none. Good until the next add. */
const struct dns_set *dns_sets_find(const struct dns_sets *sets, const char *name,
                                    enum dns_type type);
void dns_sets_free(struct dns_sets *sets); /* leaves it empty */

/* A value as a zone file has it. out: size >= DNS_ZONE_MAX. */
void dns_set_zone(const struct dns_set *set, size_t value, char *out, size_t size);

bool dns_set_has(const struct dns_set *set, const char *value);
/* Whether both have the same values, in any order; the TTL is not looked at. */
bool dns_set_same(const struct dns_set *a, const struct dns_set *b);

#endif
