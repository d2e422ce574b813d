/*
 * dmarc: whether a message passes DMARC, and what its author's domain asks for
 * if not (RFC 7489; RFC 9989 where dmarc-discovery = treewalk). libopendmarc
 * parses the record (dmarc_record.c); finding it, alignment and the organisational
 * domain are judged here (dmarc_align.c).
 */
#ifndef SLUICE_MILTER_DMARC_H
#define SLUICE_MILTER_DMARC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "authresult.h"
#include "conf.h"
#include "from.h"
#include "orgdomain.h"
#include "resolver.h"
#include "signatures.h"

enum dmarc_policy { DMARC_NONE, DMARC_QUARANTINE, DMARC_REJECT };
const char *dmarc_policy_name(enum dmarc_policy policy);

/* none: no record, or no From domain that could have one.
 * pass, fail.
 * temperror: DNS did not answer, and without that answer it cannot be told; also
 *   where SPF or DKIM could not be told and would align (RFC 7489 6.6.2).
 * permerror: From is malformed or names different domains; a record with no valid
 *   policy and nowhere to report that to.
 *
 * Where From is malformed or names different domains, what is not the result is
 * that of the author's domain which fails with the strictest policy (RFC 7489
 * 6.6.1): nobody escapes it by naming another one beside it. */
struct dmarc_outcome {
    enum auth_result result;             /* none pass fail temperror permerror */
    char from[ADDR_DOMAIN_MAX + 1];      /* header.from; "" when there is none */
    char record_at[ADDR_DOMAIN_MAX + 1]; /* where the record was found; or "" */
    enum dmarc_policy policy;            /* p, sp or np, whichever applies */
    const char *policy_tag;              /* "p", "sp", "np"; "" without a usable record */
    enum dmarc_policy disposition;       /* of what fails: policy after pct (RFC
                                            7489) or t=y (RFC 9989); else none */
    bool spf_aligned, dkim_aligned;      /* an aligned pass */
    char reason[128]; /* one line for a person; "" with a plain result */
};

struct dmarc; /* one message */

/* Begins the queries for the author's domain (a canonical name); never waits.
 * NULL: no memory, which dmarc_finish() takes. */
struct dmarc *dmarc_new(struct resolver *resolver, const struct suffixes *suffixes,
                        enum conf_discovery discovery, const char *from_domain);
/* Another domain that From names; only the first one is judged of FROM_ONE and
 * FROM_SEVERAL. Without memory it is left out. */
void dmarc_add(struct dmarc *dmarc, const char *from_domain);
void dmarc_free(struct dmarc *dmarc); /* NULL is fine */

/* spf: the result of the MAIL FROM identity (of HELO for a null sender) and its
 * domain. sample: 0 to 99, random, for pct.
 *
 * author: what all From fields came to. FROM_SEVERAL never passes, but the policy
 * of its domain applies; FROM_DIFFERENT and FROM_MALFORMED are permerror, with the
 * strictest policy of those that fail; FROM_NONE is none. NULL: as FROM_ONE. */
struct dmarc_evidence {
    enum auth_result spf;
    const char *spf_domain;
    const struct signature *signatures;
    size_t count;
    unsigned sample;
    const struct from_author *author;
};
/* dmarc may be NULL: nothing has been asked, since there was no domain to ask for
 * (author says why), or no memory (temperror). */
void dmarc_finish(struct dmarc *dmarc, const struct dmarc_evidence *evidence,
                  int64_t deadline_ms, struct dmarc_outcome *out);

#endif
