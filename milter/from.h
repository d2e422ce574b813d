/*
 * from: the domain of the author in From (RFC 5322 3.6.2), for DMARC. Hostile
 * text: comments, quotes, groups, encoded words, NUL and 8-bit bytes. Pure.
 */
#ifndef SLUICE_MILTER_FROM_H
#define SLUICE_MILTER_FROM_H

#include <stddef.h>

#include "addr.h"

/* Longer than this: FROM_MALFORMED, and what comes behind it is not read. */
#define FROM_VALUE_MAX 65536

enum from_status {
    FROM_ONE,       /* out is its domain */
    FROM_SEVERAL,   /* several addresses with one and the same domain: out is it */
    FROM_DIFFERENT, /* several addresses of different domains */
    FROM_NONE,      /* an empty group, nothing */
    FROM_MALFORMED,
};

/* Of one field; its value may be folded (LF or CR LF before a blank). The
 * domain in A-labels and lower case; "" unless FROM_ONE or FROM_SEVERAL. An
 * address literal, and a domain that is none, are FROM_MALFORMED. */
enum from_status from_domain(const char *value, size_t len,
                             char out[ADDR_DOMAIN_MAX + 1]);

#define FROM_DOMAINS_MAX 5

/* The author of a message, whose From fields are added one after the other. A
 * message is to have one: with more it is never FROM_ONE. Where they name one
 * domain between them it is FROM_SEVERAL, so that the policy of that domain
 * still applies.
 *
 * domains: each that an address names, as far as the fields could be read, in
 * their order, whatever the status: a mail program may show any of them, and none
 * gets rid of its policy by what stands beside it. More than FROM_DOMAINS_MAX are
 * passed over. */
struct from_author {
    enum from_status status;
    unsigned fields;
    char domain[ADDR_DOMAIN_MAX + 1]; /* of FROM_ONE and FROM_SEVERAL, else "" */
    size_t count;
    char domains[FROM_DOMAINS_MAX][ADDR_DOMAIN_MAX + 1];
};

void from_author_reset(struct from_author *author); /* FROM_NONE, no field */
void from_author_add(struct from_author *author, const char *value, size_t len);

#endif
