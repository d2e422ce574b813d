/*
 * dnsdata: RDATA in wire form to values (RFC 1035 3.3). Pure; every length is
 * checked, since a DNS answer is anybody's text.
 */
#ifndef SLUICE_MILTER_DNSDATA_H
#define SLUICE_MILTER_DNSDATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netaddr.h"
#include "resolver.h"

#define DNS_NAME_MAX 1023 /* text; a name of 255 bytes with every byte escaped */

/* The character-strings of a TXT record joined without anything between (RFC
 * 7208 3.3, RFC 6376 3.6.2.2). out gets a NUL; one that holds a NUL byte itself
 * is malformed. false: malformed, or over size. */
bool dns_txt(const struct answer_record *record, char *out, size_t size, size_t *len);
/* A domain name as text without the final dot ("." for the root); bytes other
 * than letters, digits, '-' and '_' escaped as \DDD (RFC 1035 5.1). Compression
 * pointers are malformed. */
bool dns_name(const unsigned char *data, size_t len, char out[DNS_NAME_MAX + 1]);
/* Whether the RDATA has the form of its type. */
bool dns_well_formed(const struct answer_record *record, enum rr_type type);
bool dns_mx(const struct answer_record *record, uint16_t *preference,
            char exchange[DNS_NAME_MAX + 1]);
/* An IPv4-mapped AAAA is the IPv4 address (netaddr.h). */
bool dns_address(const struct answer_record *record, enum rr_type type,
                 struct netaddr *out);
/* "1.2.0.192.in-addr.arpa" or its ip6.arpa equal; "" for AF_UNSPEC. */
void dns_reverse_name(const struct netaddr *addr, char out[80]);

#endif
