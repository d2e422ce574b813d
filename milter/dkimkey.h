/*
 * dkimkey: DKIM key records (RFC 6376 3.6.1, RFC 8301, 8463) and the last step
 * of a verification. Decoded keys are kept, since decoding one costs several
 * times what using it does. dkimkey.c alone knows OpenSSL's keys.
 */
#ifndef SLUICE_MILTER_DKIMKEY_H
#define SLUICE_MILTER_DKIMKEY_H

#include <stdbool.h>
#include <stddef.h>

#include "authresult.h"

#define DKIMKEY_RECORD_MAX 8192 /* bytes of a record; past it: permerror */
#define DKIMKEY_BITS_MIN   1024
#define DKIMKEY_BITS_MAX   4096
#define DKIMKEY_KEPT       1024 /* decoded keys */

struct dkimkey; /* immutable, counted */

struct dkimkey_facts {
    /* AUTH_NONE: usable. Else the result of any signature with it, and why. */
    enum auth_result result;
    const char *reason; /* lives as long as the key */
    bool ed25519;       /* an RSA key otherwise */
    bool testing;       /* t=y */
    bool no_subdomain;  /* t=s: i= must have the very domain of d= */
    unsigned bits;      /* 0: unknown */
};

/* Whether it looks like a key record at all: other TXT records may stand beside
 * one. */
bool dkimkey_is_record(const char *text, size_t len);

struct dkimkeys;                     /* those that are kept; thread-safe */
struct dkimkeys *dkimkeys_new(void); /* NULL: no memory */
void dkimkeys_free(struct dkimkeys *keys);
/* Of this record. NULL: no memory. To be dropped. */
struct dkimkey *dkimkeys_get(struct dkimkeys *keys, const char *record, size_t len);
void dkimkey_drop(struct dkimkey *key); /* NULL is fine */

const struct dkimkey_facts *dkimkey_facts(const struct dkimkey *key);

/* Whether b is the signature of this SHA-256 hash (of the header). */
bool dkimkey_verify(const struct dkimkey *key, const unsigned char *b, size_t b_len,
                    const unsigned char *hash, size_t hash_len);

#endif
