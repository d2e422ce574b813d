/*
 * resolver: DNS for the three verifications; libunbound under all of them, one
 * shared caching context. resolver.c alone knows libunbound.
 *
 * Queries are begun early (resolver_ask() never waits) and waited for late
 * (query_wait()), so that the waits of one message overlap. The same question
 * under way twice is asked once. Answers stay in a bounded cache of our own in
 * front of libunbound's for their TTL: a cached one costs well under a
 * microsecond or two and no other thread.
 *
 * Names are text with dots, a final dot or none; labels may hold any byte but
 * '.' and NUL, written as they are. What is not a domain name (empty, a label
 * over 63 bytes, more than 253 in all) is answered NXDOMAIN without asking.
 *
 * Everything here may be called from any thread.
 */
#ifndef SLUICE_MILTER_RESOLVER_H
#define SLUICE_MILTER_RESOLVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"

enum rr_type { RR_A = 1, RR_PTR = 12, RR_MX = 15, RR_TXT = 16, RR_AAAA = 28 };

enum answer_kind {
    ANSWER_DATA,
    ANSWER_NODATA,   /* the name is there, records of this type are not */
    ANSWER_NXDOMAIN,
    ANSWER_FAILED,   /* SERVFAIL, bogus, late, malformed: a temporary error */
};

/* Immutable. CNAMEs have been followed. */
struct answer {
    enum answer_kind kind;
    const char *trouble; /* of ANSWER_FAILED, static text; else NULL */
    bool secure;         /* validated by DNSSEC */
    uint32_t ttl;        /* seconds it is kept */
    size_t count;        /* at most RESOLVER_RECORDS_MAX: a larger set FAILED */
    struct answer_record {
        const unsigned char *data; /* RDATA in wire form, names uncompressed */
        size_t len;
    } records[];
};

#define RESOLVER_RECORDS_MAX 512
#define RESOLVER_DATA_MAX    65535 /* bytes of all records of one answer */

struct resolver;
struct query;

/* From auth { servers, stub-zones, trust-anchor, query-timeout }. NULL: error
 * is one line. A failing server is not an error here. */
struct resolver *resolver_new(const struct conf_auth *auth, char *error,
                              size_t error_size);
/* All queries must have been dropped. Ends the resolver's thread. */
void resolver_free(struct resolver *resolver);

/* Begins a query, or joins the one under way, or finds the answer in the cache.
 * NULL: no memory (or too many under way, RESOLVER_PENDING_MAX); query_wait()
 * takes it and answers FAILED. */
struct query *resolver_ask(struct resolver *resolver, const char *name,
                           enum rr_type type);

/* As above, and then() is called once, whatever comes: from within this call
 * when the answer is cached or nothing can be asked, from the resolver's thread
 * otherwise (it must not wait there; it may ask more), at the latest when it is
 * late ("time limit"). The answer lives while it runs. No query to wait for or
 * to drop. At the end of the resolver it is called with FAILED.
 * A hook that asks for what is cached is called deeper in the stack each time:
 * who asks bounds that, by the budget of queries that each message has. */
typedef void resolver_then_fn(void *context, const struct answer *answer);
void resolver_ask_then(struct resolver *resolver, const char *name, enum rr_type type,
                       resolver_then_fn *then, void *context);

/* The answer, waited for until the deadline (clock_ms()), but no longer than
 * query-timeout after the query was begun: then FAILED "time limit". Never
 * NULL; lives until query_drop(). A late answer still goes into the cache. What
 * has been under way that long FAILED at once for who asks within a second. */
const struct answer *query_wait(struct query *query, int64_t deadline_ms);
void query_drop(struct query *query); /* NULL is fine */

/* Questions put to libunbound so far: what the cache does not spare. */
uint64_t resolver_asked(const struct resolver *resolver);

/* For unit tests: this is the answer from now on, the network is not asked.
 * With a NULL auth, resolver_new() makes one that never asks the network and
 * answers NXDOMAIN for what was not put. data: count records, each len bytes. */
bool resolver_put(struct resolver *resolver, const char *name, enum rr_type type,
                  enum answer_kind kind, const struct answer_record *records,
                  size_t count);

#define RESOLVER_PENDING_MAX 4096

#endif
