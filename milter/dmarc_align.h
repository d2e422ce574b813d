/*
 * dmarc_align: alignment, and organisational domains by the tree walk of RFC 9989
 * 4.10. Pure. Domains are canonical (addr_domain()).
 */
#ifndef SLUICE_MILTER_DMARC_ALIGN_H
#define SLUICE_MILTER_DMARC_ALIGN_H

#include <stdbool.h>
#include <stddef.h>

#include "dmarc_record.h"
#include "orgdomain.h"

/* Whether an identifier that passed speaks for the author: the same domain, or
 * for relaxed alignment the same organisational domain (RFC 7489 3.1). */
bool dmarc_aligned(bool strict, const char *author, const char *author_organisation,
                   const char *identifier, const char *identifier_organisation);

/* The same with organisational domains by the public suffix list; that of the
 * author is given. */
bool dmarc_aligned_by_list(const struct suffixes *suffixes, bool strict,
                           const char *author, const char *author_organisation,
                           const char *identifier);

/* Whether name is the domain or lies below it. */
bool dmarc_is_within(const char *name, const char *domain);

#define DMARC_TREE_MAX 8

enum dmarc_step_kind {
    DMARC_STEP_ABSENT, /* no record there, or several */
    DMARC_STEP_RECORD,
    DMARC_STEP_FAILED, /* DNS did not tell */
};

struct dmarc_step {
    const char *name; /* points into the domain that the walk began at */
    enum dmarc_step_kind kind;
    enum dmarc_psd psd; /* of DMARC_STEP_RECORD */
};

/* The names of the steps, the domain itself first: 1 to 8. */
size_t dmarc_tree_names(const char *domain, const char *names[DMARC_TREE_MAX]);

/* A step after which there is none: psd=y or psd=n, or not known. */
bool dmarc_tree_ends(const struct dmarc_step *step);

/* The organisational domain from the steps of a walk from domain, to where it
 * ended; points into domain. NULL: not known, a step failed. */
const char *dmarc_tree_organisation(const char *domain, const struct dmarc_step *steps,
                                    size_t count);

#endif
