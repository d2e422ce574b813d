/*
 * dnscache: answers counted by reference, and a bounded table of them by name
 * and type; the least recently used one goes first. Memory only; the table is
 * not thread-safe (the resolver locks it), the counts are.
 */
#ifndef SLUICE_MILTER_DNSCACHE_H
#define SLUICE_MILTER_DNSCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resolver.h"

#define DNSKEY_NAME_MAX 253 /* RFC 1035 2.3.4: 255 in wire form */

/* A name in lower case without its final dot, and a type. */
struct dnskey {
    uint64_t hash;
    uint16_t type;
    uint8_t len;
    char name[DNSKEY_NAME_MAX + 1];
};

struct dnscache;

/* NULL: no memory. */
struct dnscache *dnscache_new(size_t entries_max, size_t bytes_max);
void dnscache_free(struct dnscache *cache);
/* false: not a domain name. */
bool dnscache_key(const struct dnscache *cache, const char *name, enum rr_type type,
                  struct dnskey *key);
/* The caller drops it. NULL: none, or no longer good. */
const struct answer *dnscache_get(struct dnscache *cache, const struct dnskey *key,
                                  int64_t now_ms);
/* Good until then; INT64_MAX: for ever, whatever the bounds. Takes a reference of
 * its own. false: no memory, or larger than all the cache. */
bool dnscache_put(struct dnscache *cache, const struct dnskey *key,
                  const struct answer *answer, int64_t until_ms);
size_t dnscache_count(const struct dnscache *cache);
size_t dnscache_bytes(const struct dnscache *cache);

/* Copies the records. NULL: no memory. */
const struct answer *answer_new(const struct answer *head,
                                const struct answer_record *records, size_t count);
/* A constant; ref and drop do nothing to it. The text must stay. */
enum answer_failure {
    FAILURE_MEMORY,
    FAILURE_TIME_LIMIT,
    FAILURE_PENDING,
    FAILURE_ENDED,
    FAILURE_LIBRARY,
    FAILURE_SERVER,
    FAILURE_BOGUS,
    FAILURE_MALFORMED,
    FAILURE_RECORDS,
    FAILURE_SIZE,
};
const struct answer *answer_failed(enum answer_failure failure);
const struct answer *answer_nxdomain(void); /* a constant as well */
const struct answer *answer_ref(const struct answer *answer);
void answer_drop(const struct answer *answer);

#endif
