/*
 * dns_ask: questions to DNS servers, and updates (RFC 2136) with TSIG.
 */
#ifndef SLUICE_DNS_ASK_H
#define SLUICE_DNS_ASK_H

#include <netinet/in.h>

#include "dns_key.h"
#include "dns_plan.h"
#include "dns_set.h"
#include "netaddr.h"

#define DNS_ERROR_MAX 240

struct dns_server {
    char name[DNSRECORD_NAME_MAX + 1]; /* "" when only the address is known */
    struct netaddr address;
    uint16_t port;
    bool recursive;            /* a resolver: asked with RD */
    bool silent;               /* gave no answer twice, or is too slow: not asked again */
    int64_t spent;             /* ms that its answers took since it was last reset */
    char error[DNS_ERROR_MAX]; /* why */
};
#define DNS_SERVER_TEXT (DNSRECORD_NAME_MAX + NETADDR_TEXT_MAX + 16)
/* "ns1.example.com (192.0.2.1)", the port where it is not 53. Returns out. */
const char *dns_server_text(const struct dns_server *server, char out[DNS_SERVER_TEXT]);

enum dns_outcome { DNS_FOUND, DNS_ABSENT, DNS_FAILED };
struct dns_reply {
    enum dns_outcome outcome;
    bool no_name; /* ABSENT: no record of any type (NXDOMAIN) */
    bool authoritative;
    struct dns_sets answer, authority, additional; /* records of our types */
    uint32_t negative_ttl;     /* ABSENT: how long that is kept (RFC 2308); 0: not said */
    char error[DNS_ERROR_MAX]; /* FAILED */
};

/* Asks twice by UDP, by TCP when the answer was cut. FOUND: reply->answer has a set of
 * this name and type; FAILED: error names the way out. Always to be freed. A server that
 * gives no answer at all becomes silent, as one whose answers took DNS_SPENT_MAX time
 * limits together; it is then FAILED at once. */
#define DNS_SPENT_MAX 10
void dns_ask(struct dns_server *server, const char *name, enum dns_type type,
             int timeout_ms, struct dns_reply *reply);
void dns_reply_free(struct dns_reply *reply);

enum dns_update {
    DNS_UPDATE_DONE,
    DNS_UPDATE_UNSENT, /* nothing went out: the server cannot be reached */
    DNS_UPDATE_REFUSED,
    DNS_UPDATE_CONFLICT, /* the zone has changed since it was looked at */
    DNS_UPDATE_UNCERTAIN,
};
/* key NULL: not signed. error: one phrase, unless DONE. */
enum dns_update dns_ask_update(const struct dns_server *server, const char *zone,
                               const struct dns_changes *changes,
                               const struct dns_key *key, int timeout_ms,
                               char error[DNS_ERROR_MAX]);

#endif
