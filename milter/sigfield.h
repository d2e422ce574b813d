/*
 * sigfield: one DKIM-Signature field, read and judged by itself (RFC 6376 3.5,
 * 3.7, 6.1.1; RFC 8301, 8463): before any key, and before libopendkim sees it.
 * Pure.
 */
#ifndef SLUICE_MILTER_SIGFIELD_H
#define SLUICE_MILTER_SIGFIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "authresult.h"

/* Past any of these: permerror. */
#define SIGFIELD_MAX       32768 /* bytes of the field; libopendkim takes 65535 */
#define SIGFIELD_NAMES_MAX 250   /* fields named in h= */
#define SIGFIELD_H_MAX     4000  /* bytes of h=; libopendkim cuts at 4095 */
#define SIGFIELD_B_MAX     1024  /* bytes of a signature */
#define SIGFIELD_BH_LEN    32
#define SIGFIELD_DRIFT     300 /* seconds that clocks may differ */

struct sigfield {
    /* AUTH_NONE: acceptable, all below is set. Else the result, and as much of
     * the texts as could be read. */
    enum auth_result result;
    char reason[96];
    char domain[254], selector[254]; /* lower case, without a final dot */
    char identity[256];              /* i= as it stands without white space; or "" */
    char algorithm[24];
    char b_text[13]; /* how b= begins, without white space */
    bool ed25519;    /* rsa-sha256 otherwise */
    bool subdomain;  /* the domain of i= is not d= itself */
    bool relaxed_header, relaxed_body;
    int64_t length; /* l=, or -1 */
    unsigned char bh[SIGFIELD_BH_LEN];
    unsigned char b[SIGFIELD_B_MAX];
    size_t b_len;
    struct sigfield_name {
        size_t at, len; /* within the value that was parsed */
    } names[SIGFIELD_NAMES_MAX];
    size_t name_count;
};

/* value: the field's, folded or not. now: seconds since the epoch. */
void sigfield_parse(const char *value, size_t len, int64_t now, struct sigfield *out);

/* Base64 with white space anywhere, padding required, nothing after it. The
 * number of bytes; -1: malformed, or more than size. */
long sigfield_base64(const char *text, size_t len, unsigned char *out, size_t size);

#endif
