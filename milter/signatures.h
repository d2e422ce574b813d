/*
 * signatures: every DKIM signature of one message, verified by libopendkim
 * while the message streams through (RFC 6376, 8301, 8463). signatures.c alone
 * knows libopendkim.
 *
 * Each signature field is checked by our own parser first; what is malformed
 * or not acceptable gets its result here and is kept from libopendkim, which
 * would let it hide the others. Keys are asked for as soon as a signature's
 * field has been seen.
 *
 * Calls, in order: new, header ..., end_of_headers, body ..., finish, free.
 */
#ifndef SLUICE_MILTER_SIGNATURES_H
#define SLUICE_MILTER_SIGNATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "authresult.h"
#include "resolver.h"

struct signature {
    enum auth_result result; /* pass fail policy temperror permerror; RFC 8601
                                2.7.1. policy: rsa-sha1, an RSA key under 1024 or
                                over 4096 bits, signed in the future, l= that
                                leaves part of the body unsigned */
    char domain[254];     /* d=, A-labels, lower case; "" when unreadable */
    char selector[254];   /* s= */
    char identity[512];   /* i=, or "" */
    char algorithm[24];   /* a=, printable; or "" */
    char b[13];           /* header.b: the first 8 characters of b= or more
                             where RFC 6008 needs them to tell two apart */
    char reason[128];     /* one line, printable; "" with a plain pass */
    unsigned key_bits;    /* 0: unknown */
    bool secure;          /* the key came by DNSSEC */
};

#define SIGNATURES_LIMIT 32 /* of auth { signatures = N } */

/* Long-lived, for all messages. NULL: error. */
struct dkim_verifier;
struct dkim_verifier *dkim_verifier_new(struct resolver *resolver, int signatures_max,
                                        char *error, size_t error_size);
void dkim_verifier_free(struct dkim_verifier *verifier);

/* id: for libopendkim's own messages. NULL: no memory. */
struct signatures;
struct signatures *signatures_new(struct dkim_verifier *verifier, const char *id);
void signatures_free(struct signatures *signatures);

/* The value with its leading white space as in the message (SMFIP_HDR_LEADSPC);
 * lines folded with LF or CR LF. */
void signatures_header(struct signatures *signatures, const char *name,
                       const char *value);
/* false: there is no signature that needs the body. */
bool signatures_end_of_headers(struct signatures *signatures);
void signatures_body(struct signatures *signatures, const unsigned char *data,
                     size_t len);
/* Waits for keys until the deadline at most. Results in the order of the
 * fields, top first; they live until signatures_free(). beyond: signatures over
 * the limit, which were not looked at. */
const struct signature *signatures_finish(struct signatures *signatures,
                                          int64_t deadline_ms, size_t *count,
                                          size_t *beyond);
/* Whether a signature names this field in h= more often than the message has
 * it: adding one would break it. After end_of_headers(). */
bool signatures_forbid(const struct signatures *signatures, const char *field);

#endif
