/*
 * spf_record: one SPF record, parsed strictly (RFC 7208 section 12 is the
 * grammar): whatever libspf2 is asked later has passed here. Pure.
 */
#ifndef SLUICE_SPF_RECORD_H
#define SLUICE_SPF_RECORD_H

#include <stdbool.h>
#include <stddef.h>

#include "netaddr.h"

/* A record longer than this is permerror; DNS allows 64 KB of TXT, real ones
 * keep below 512 (RFC 7208 3.4). */
#define SPF_RECORD_MAX 16384
#define SPF_TERMS_MAX  512

enum spf_mechanism {
    SPF_ALL,
    SPF_INCLUDE,
    SPF_A,
    SPF_MX,
    SPF_PTR,
    SPF_IP4,
    SPF_IP6,
    SPF_EXISTS
};

struct spf_term {
    enum spf_mechanism mechanism;
    char qualifier;   /* '+' '-' '~' '?' */
    const char *text; /* the whole term as it stands in the record */
    size_t len;
    const char *domain; /* domain-spec, points into text; len 0: none given */
    size_t domain_len;
    int bits4, bits6;      /* dual-cidr of a and mx: 32, 128 when not given */
    struct netblock block; /* ip4; ip6, whose base may be an IPv4-mapped address
                              that stays AF_INET6 (RFC 7208 5: such a client is
                              an IPv4 client, so it matches none) */
};

struct spf_record {
    struct spf_term terms[SPF_TERMS_MAX];
    size_t count;
    const char *redirect, *exp; /* domain-specs, point into text; NULL: none */
    size_t redirect_len, exp_len;
};

/* Whether a TXT record is an SPF record at all: "v=spf1" and then a space or
 * the end (RFC 7208 4.5). */
bool spf_record_is(const char *text, size_t len);
/* text[0..len) must outlive out. false: permerror, and why (one line: the term's
 * number, the term itself, escaped, and what is wrong with it). */
bool spf_record_parse(const char *text, size_t len, struct spf_record *out, char *why,
                      size_t why_size);

#endif
