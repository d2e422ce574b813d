/*
 * authres: Authentication-Results (RFC 8601): ours written, forged ones known.
 * Received-SPF (RFC 7208 9.1) too. Pure.
 */
#ifndef SLUICE_MILTER_AUTHRES_H
#define SLUICE_MILTER_AUTHRES_H

#include <stdbool.h>
#include <stddef.h>

#include "dmarc.h"
#include "signatures.h"
#include "spf.h"

#define AUTHRES_HEADER      "Authentication-Results"
#define RECEIVED_SPF_HEADER "Received-SPF"

struct authres_facts {
    const char *authserv_id;
    /* NULL: not evaluated, nothing is said about it */
    const struct spf_outcome *spf, *spf_helo;
    const char *mail_from; /* "" for the null sender */
    const char *helo;
    const struct signature *signatures;
    size_t count, beyond;
    bool dkim; /* evaluated: with no signature "dkim=none" */
    const struct dmarc_outcome *dmarc;
};

/* The value without a space before it, folded with LF and TAB (or LF and the
 * space of a quoted text) into lines below 78 columns where that can be, none
 * over 998; with "none" when nothing was evaluated. At most
 * AUTHRES_VALUE_MAX bytes whatever the facts are (32 signatures), control bytes
 * nowhere. malloc'ed; NULL: no memory. */
#define AUTHRES_VALUE_MAX 32768
char *authres_write(const struct authres_facts *facts);
/* The same for Received-SPF, of the MAIL FROM identity, or of HELO for a null
 * sender. client: as text. NULL also when SPF was not evaluated. */
char *authres_received_spf(const struct authres_facts *facts, const char *client,
                           const char *receiver);

/* Whether a value claims to come from us: its authserv-id is ours in any of the
 * forms of RFC 8601 2.2 (case, quotes, comments, folding, version), or it does
 * not parse but begins with it. In time linear in len. */
bool authres_is_ours(const char *value, size_t len, const char *authserv_id);

#endif
