/*
 * dns_key: the TSIG key that signs updates.
 */
#ifndef SLUICE_DNS_KEY_H
#define SLUICE_DNS_KEY_H

#include <stdbool.h>
#include <stddef.h>

#include "dnsrecord.h"

struct dns_key {
    char name[DNSRECORD_NAME_MAX + 1];
    char algorithm[32]; /* "hmac-sha256" */
    char secret[512];   /* base64 */
};

/* From a file that its owner alone may read, in the form of tsig-keygen (BIND), of
 * "keymgr -t" (Knot), or "algorithm:name:secret" (kdig -y). false: error is one line. */
bool dns_key_read(const char *path, struct dns_key *out, char *error, size_t error_size);
/* The same from text. Pure. Returns what is wrong with it, or NULL. */
const char *dns_key_parse(const char *text, struct dns_key *out);
void dns_key_forget(struct dns_key *key);

#endif
