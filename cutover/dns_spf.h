/*
 * dns_spf: an SPF record as a receiver would walk it (RFC 7208 4.6.4), to count
 * what it costs and to see whom it lets send. Names are looked up by a function
 * that is passed in; the rest is pure.
 */
#ifndef SLUICE_DNS_SPF_H
#define SLUICE_DNS_SPF_H

#include "dns_set.h"
#include "netaddr.h"

/* RFC 7208 4.6.4. */
#define DNS_SPF_LOOKUPS_MAX 10
#define DNS_SPF_VOID_MAX    2

enum dns_spf_result {
    DNS_SPF_PASS,
    DNS_SPF_FAIL,
    DNS_SPF_SOFTFAIL,
    DNS_SPF_NEUTRAL,
    DNS_SPF_PERMERROR,
    DNS_SPF_TEMPERROR, /* a lookup failed */
    DNS_SPF_UNKNOWN,   /* depends on who sends: a macro, ptr */
};
const char *dns_spf_result_name(enum dns_spf_result result);

enum dns_spf_lookup { DNS_SPF_FOUND, DNS_SPF_ABSENT, DNS_SPF_FAILED };
struct dns_spf_resolver {
    /* out, which is empty, gets the set of this name and type. */
    enum dns_spf_lookup (*ask)(void *with, const char *name, enum dns_type type,
                               struct dns_sets *out);
    void *with;
};

struct dns_spf {
    enum dns_spf_result result; /* for the client */
    unsigned lookups, voids;    /* of the whole record, whoever the client is */
    char why[256];              /* of an error, or what cannot be known */
};

/* record: of domain. client NULL: only the costs are found, every term is walked; a
 * lookup past the limits is counted, up to three times of them, then it ends. */
void dns_spf_walk(const char *record, const char *domain, const struct netaddr *client,
                  const struct dns_spf_resolver *resolver, struct dns_spf *out);

#endif
