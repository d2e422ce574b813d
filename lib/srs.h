/*
 * srs: Sender Rewriting Scheme, so that forwarded mail passes SPF at the next
 * server (Mengwong Wong, Shevek: "The Sender Rewriting Scheme"; the addresses
 * are those of libsrs2 and PostSRSd, with separator '=').
 *
 *     SRS0=HHHH=TT=domain=local@srs-domain        first forwarder
 *     SRS1=HHHH=first-forwarder==HHHH=TT=...@srs-domain   one that comes after
 *
 * HHHH: 4 characters of base64 of HMAC-SHA1 over the lower-cased rest; TT: two
 * characters of base32, days modulo 1024. The first secret signs, each of them
 * verifies (rotation). Pure: no I/O, no clock of its own.
 */
#ifndef SLUICE_SRS_H
#define SLUICE_SRS_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

enum srs_status {
    SRS_DONE,
    SRS_NOT_NEEDED, /* forward: null sender, no domain, or the srs domain's own;
                       reverse: not an SRS address of this domain */
    SRS_FORGED,     /* hash of no secret */
    SRS_EXPIRED,    /* older than SRS_DAYS_MAX, or from the future */
    SRS_MALFORMED,  /* forward: not an address, or an SRS1 address without its
                       parts; reverse: the same of an SRS address */
    SRS_TOO_LONG,   /* the address or the result is beyond ADDR_TEXT_MAX */
    SRS_FAILED,     /* no hash to be had from the library (memory) */
};

#define SRS_DAYS_MAX 21

struct srs_keys {
    const char *domain;         /* canonical */
    const char *const *secrets; /* NULL-terminated; at least one */
};

/* Both read "local@domain" as it stands in the envelope, without brackets, and
 * keep the case of its local part. out is set only with SRS_DONE. */
enum srs_status srs_forward(const struct srs_keys *keys, const char *sender, int64_t now,
                            char out[ADDR_TEXT_MAX + 1]);
enum srs_status srs_reverse(const struct srs_keys *keys, const char *address, int64_t now,
                            char out[ADDR_TEXT_MAX + 1]);

/* Whether address, with or without angle brackets, has the form of an SRS address
 * of this domain, whoever made it. domain may be NULL: never. */
bool srs_is_address(const char *domain, const char *address);

/* "forged", "expired", ...: for log lines. */
const char *srs_status_name(enum srs_status status);

#endif
