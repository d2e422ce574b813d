/*
 * dnsrecord: DNS records as sluice writes, compares and shows them. Pure.
 *
 * A name is in lower case and without its final dot; a value is the text of a
 * zone file (RFC 1035 5.1) in one canonical form, so that two records are the
 * same when their texts are: names in it in lower case with their final dot,
 * addresses as inet_ntop(3) writes them. The value of a TXT record is its
 * strings joined, without quotes; a backslash is doubled, and a byte that is
 * not printable ASCII is \DDD.
 */
#ifndef SLUICE_DNSRECORD_H
#define SLUICE_DNSRECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dns_type {
    DNS_A,
    DNS_AAAA,
    DNS_CNAME,
    DNS_MX,
    DNS_NS,
    DNS_SOA,
    DNS_SRV,
    DNS_TXT,
    DNS_TYPES
};

#define DNSRECORD_NAME_MAX 253  /* without the final dot */
#define DNS_TEXT_MAX       4000 /* bytes of a planned TXT record; a server must carry it */
#define DNS_VALUE_MAX      16384 /* of a canonical value; a longer one is not handled */
#define DNS_ZONE_MAX       (DNS_VALUE_MAX * 2)

const char *dns_type_name(enum dns_type type);
bool dns_type_parse(const char *text, enum dns_type *out);

/* Canonical form of a full name, with or without its final dot ("." is ""). Letters,
 * digits, "-", "_", and "*" as the first label. false: not a name. */
bool dnsrecord_name(const char *text, size_t len, char out[DNSRECORD_NAME_MAX + 1]);
/* Whether a canonical name is domain or below it. */
bool dnsrecord_within(const char *name, const char *domain);

/* The owner of a record of domain: "@", "mail" (below domain), or a full name with
 * its final dot, at or below domain. Returns what is wrong with it, or NULL. */
const char *dns_owner(const char *text, const char *domain,
                      char out[DNSRECORD_NAME_MAX + 1]);

/* The canonical value of text, as an admin writes it (a TXT record without quotes).
 * A name in it is full with its final dot, or "@" or one label below domain: a name
 * with dots but no final one is refused, since two people read it in two ways.
 * Returns what is wrong with it, or NULL. out: size >= DNS_VALUE_MAX + 1. */
const char *dns_value(enum dns_type type, const char *text, const char *domain, char *out,
                      size_t size);

/* The canonical value of a TXT record that is these bytes; false: no room. */
bool dns_text(const unsigned char *bytes, size_t len, char *out, size_t size);
/* The bytes of a TXT record's canonical value; their number, with a NUL after them. */
size_t dns_text_bytes(const char *value, char *out, size_t size);

/* A canonical value as a zone file has it: a TXT record in strings of up to 255
 * bytes, each quoted. out: size >= DNS_ZONE_MAX. */
void dns_value_zone(enum dns_type type, const char *value, char *out, size_t size);

/* The last word of a canonical value of MX, CNAME, NS or SRV: the host it names,
 * without the final dot. false: another type, or no room. */
bool dns_target(enum dns_type type, const char *value, char out[DNSRECORD_NAME_MAX + 1]);

#endif
