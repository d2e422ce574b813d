/*
 * spf: check_host() of RFC 7208 for one identity, with libspf2 over our resolver.
 * What libspf2 1.2.10 does wrong is mended in front of it: see spf.c, which alone
 * knows libspf2. Thread-safe.
 */
#ifndef SLUICE_MILTER_SPF_H
#define SLUICE_MILTER_SPF_H

#include <stdint.h>

#include "authresult.h"
#include "netaddr.h"
#include "resolver.h"

struct spf_question {
    struct netaddr client;
    const char *helo;     /* as the client said it */
    const char *sender;   /* MAIL FROM without brackets; "" or NULL: the HELO
                             identity, postmaster@helo (RFC 7208 2.4) */
    const char *receiver; /* this host, for the macro %{r} */
    int64_t deadline_ms;  /* of the whole evaluation: then temperror */
};

struct spf_outcome {
    enum auth_result result; /* never AUTH_POLICY */
    bool by_all;             /* softfail, neutral or fail came from "all" (or from
                                nothing having matched), not from another mechanism */
    char domain[256];        /* of the identity, canonical; "": it has none */
    char mechanism[128];     /* what matched, as in the record, printable; or "" */
    char reason[512];        /* one line for a person, printable: why it is a fail
                                ("DOMAIN explains: TEXT" where its record has an
                                explanation), what is wrong with the record, what
                                DNS did; "" for a pass */
    unsigned lookups;        /* terms that count towards the limit of ten */
};

/* Shared, made once; resolver must outlive it. NULL: no memory. */
struct spf;
struct spf *spf_new(struct resolver *resolver);
void spf_free(struct spf *spf);

/* Begins what spf_check() of the same question will ask DNS: the domain's record
 * and, as records come in, what these name; at most SPF_PREFETCH_MAX queries. The
 * texts of the question are copied. A client that is not known yet (AF_UNSPEC)
 * is fine: addresses are then asked for in both families, macros of the client
 * and what lies behind them left for later. deadline_ms is not looked at. Never
 * waits. */
void spf_prefetch(struct spf *spf, const struct spf_question *question);

#define SPF_PREFETCH_MAX 30

/* Waits for DNS until the deadline. */
void spf_check(struct spf *spf, const struct spf_question *question,
               struct spf_outcome *out);

#endif
