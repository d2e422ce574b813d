/*
 * spf_match: whether one mechanism that asks DNS matches the client; by libspf2,
 * which spf_match.c alone knows. Thread-safe.
 */
#ifndef SLUICE_MILTER_SPF_MATCH_H
#define SLUICE_MILTER_SPF_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netaddr.h"
#include "resolver.h"
#include "spf_record.h"

struct spf_engines;

/* NULL: libspf2 cannot be started (no memory). */
struct spf_engines *spf_engines_new(struct resolver *resolver);
void spf_engines_free(struct spf_engines *engines);

struct spf_mechanism_question {
    enum spf_mechanism mechanism; /* SPF_A, SPF_MX, SPF_PTR or SPF_EXISTS */
    struct netaddr client;        /* IPv4 or IPv6 */
    const char *name;             /* target-name: the domain-spec, expanded */
    int bits;                     /* prefix length for the client's family */
    int64_t deadline_ms;
};

enum spf_match { SPF_NO_MATCH, SPF_MATCH, SPF_MATCH_TEMPERROR, SPF_MATCH_PERMERROR };

struct spf_match_outcome {
    enum spf_match match;
    bool is_void;    /* a name was not there, or had no such records (RFC 7208
                        4.6.4) */
    const char *why; /* of both errors, static text, or NULL: DNS failed */
};

void spf_match(struct spf_engines *engines, const struct spf_mechanism_question *question,
               struct spf_match_outcome *out);

#endif
