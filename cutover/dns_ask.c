/*
 * dns_ask: questions to DNS servers (see dns_ask.h; dns_update.c sends updates).
 *
 * Records come out in the canonical form of dnsrecord.h; those of other types,
 * and those whose owner is no name in that form, are left out. What a server
 * sends is untrusted: a set past a limit makes the reply FAILED, never short.
 */
#include "dns_ask.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "dns_ldns.h"

#define EDNS_SIZE 1232 /* DNS flag day 2020: no fragments */
#define TRIES     2

bool dns_fail(char error[DNS_ERROR_MAX], const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(error, DNS_ERROR_MAX, fmt, args) < 0)
        error[0] = '\0';
    va_end(args);
    return false;
}

const char *dns_server_text(const struct dns_server *server, char out[DNS_SERVER_TEXT])
{
    char address[NETADDR_TEXT_MAX + 1], port[8] = "";
    netaddr_format(&server->address, address);
    if (!address[0]) {
        snprintf(out, DNS_SERVER_TEXT, "%s", server->name);
        return out;
    }
    if (server->port != 53)
        snprintf(port, sizeof(port), "#%u", (unsigned)server->port);
    if (server->name[0])
        snprintf(out, DNS_SERVER_TEXT, "%s (%s%s)", server->name, address, port);
    else
        snprintf(out, DNS_SERVER_TEXT, "%s%s", address, port);
    return out;
}

/* ---- ldns to text --------------------------------------------------------- */

static const ldns_rr_type ldns_types[DNS_TYPES] = {
    LDNS_RR_TYPE_A,  LDNS_RR_TYPE_AAAA, LDNS_RR_TYPE_CNAME, LDNS_RR_TYPE_MX,
    LDNS_RR_TYPE_NS, LDNS_RR_TYPE_SOA,  LDNS_RR_TYPE_SRV,   LDNS_RR_TYPE_TXT,
};

ldns_rr_type dns_ldns_type(enum dns_type type)
{
    return ldns_types[type];
}

static bool our_type(ldns_rr_type type, enum dns_type *out)
{
    for (size_t i = 0; i < DNS_TYPES; i++)
        if (ldns_types[i] == type) {
            *out = (enum dns_type)i;
            return true;
        }
    return false;
}

static bool owner_text(const ldns_rr *rr, char out[DNSRECORD_NAME_MAX + 1])
{
    char *text = ldns_rdf2str(ldns_rr_owner(rr));
    bool ok = text && dnsrecord_name(text, strlen(text), out);
    free(text);
    return ok;
}

/* One more string of a zone file; false: no room. */
static bool add_string(const unsigned char *bytes, size_t len, char *out, size_t size,
                       size_t *used)
{
    static char escaped[256 * 4 + 8];
    if (!dns_text(bytes, len, escaped, sizeof(escaped)) ||
        *used + 2 * strlen(escaped) + 4 > size)
        return false;
    if (*used > 0)
        out[(*used)++] = ' ';
    out[(*used)++] = '"';
    for (const char *p = escaped; *p; p++) {
        if (*p == '"')
            out[(*used)++] = '\\';
        out[(*used)++] = *p;
    }
    out[(*used)++] = '"';
    out[*used] = '\0';
    return true;
}

/* text: its strings as a zone file has them; "": they are cut at 255 bytes. */
static bool txt_value(const ldns_rr *rr, char *out, size_t size, char *text,
                      size_t text_size)
{
    static unsigned char bytes[DNS_WIRE_MAX];
    size_t used = 0, text_used = 0, count = ldns_rr_rd_count(rr);
    bool even = count > 0;
    for (size_t i = 0; i < count; i++) {
        const ldns_rdf *rdf = ldns_rr_rdf(rr, i);
        size_t len = ldns_rdf_size(rdf);
        if (len < 1 || used + len - 1 > sizeof(bytes) ||
            !add_string(ldns_rdf_data(rdf) + 1, len - 1, text, text_size, &text_used))
            return false;
        memcpy(bytes + used, ldns_rdf_data(rdf) + 1, len - 1);
        used += len - 1;
        even = even && (i + 1 < count ? len - 1 == 255 : len > 1 || count == 1);
    }
    if (even)
        text[0] = '\0';
    return dns_text(bytes, used, out, size);
}

static bool plain_value(const ldns_rr *rr, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < ldns_rr_rd_count(rr); i++) {
        ldns_rdf *rdf = ldns_rr_rdf(rr, i);
        if (ldns_rdf_get_type(rdf) == LDNS_RDF_TYPE_DNAME)
            ldns_dname2canonical(rdf);
        char *text = ldns_rdf2str(rdf);
        int n =
            text ? snprintf(out + used, size - used, "%s%s", i > 0 ? " " : "", text) : -1;
        free(text);
        if (n < 0 || (size_t)n >= size - used)
            return false;
        used += (size_t)n;
    }
    return used > 0;
}

static bool address_value(const ldns_rr *rr, char *out, size_t size)
{
    const ldns_rdf *rdf = ldns_rr_rdf(rr, 0);
    int family = ldns_rr_get_type(rr) == LDNS_RR_TYPE_A ? AF_INET : AF_INET6;
    return rdf && ldns_rdf_size(rdf) == (family == AF_INET ? 4u : 16u) &&
           inet_ntop(family, ldns_rdf_data(rdf), out, (socklen_t)size);
}

static bool value_text(const ldns_rr *rr, enum dns_type type, char *out, size_t size,
                       char *text, size_t text_size)
{
    text[0] = '\0';
    if (type == DNS_TXT)
        return txt_value(rr, out, size, text, text_size);
    if (type == DNS_A || type == DNS_AAAA)
        return address_value(rr, out, size);
    return plain_value(rr, out, size);
}

static bool take_section(const ldns_rr_list *list, struct dns_sets *out)
{
    static char value[DNS_VALUE_MAX + 1], text[DNS_ZONE_MAX];
    char owner[DNSRECORD_NAME_MAX + 1];
    enum dns_type type;
    for (size_t i = 0; list && i < ldns_rr_list_rr_count(list); i++) {
        const ldns_rr *rr = ldns_rr_list_rr(list, i);
        if (ldns_rr_get_class(rr) != LDNS_RR_CLASS_IN ||
            !our_type(ldns_rr_get_type(rr), &type) || !owner_text(rr, owner))
            continue;
        /* RFC 2181 8: a TTL with its highest bit set is none. */
        uint32_t ttl = ldns_rr_ttl(rr) > INT32_MAX ? 0 : ldns_rr_ttl(rr);
        if (!value_text(rr, type, value, sizeof(value), text, sizeof(text)) ||
            !dns_sets_add_text(out, owner, type, ttl, value, text[0] ? text : NULL))
            return false;
    }
    return true;
}

/* ---- asking --------------------------------------------------------------- */

/* RFC 2308 5: the lesser of the SOA's own TTL and its last field. */
static uint32_t negative_ttl(const struct dns_sets *authority)
{
    for (size_t i = 0; i < authority->count; i++) {
        const struct dns_set *set = &authority->items[i];
        const char *last =
            set->type == DNS_SOA && set->count > 0 ? strrchr(set->values[0], ' ') : NULL;
        if (last) {
            unsigned long minimum = strtoul(last + 1, NULL, 10);
            return minimum < set->ttl ? (uint32_t)minimum : set->ttl;
        }
    }
    return 0;
}

static bool same_question(const ldns_pkt *packet, const char *name, enum dns_type type)
{
    const ldns_rr_list *list = ldns_pkt_question(packet);
    char owner[DNSRECORD_NAME_MAX + 1];
    return list && ldns_rr_list_rr_count(list) == 1 &&
           ldns_rr_get_type(ldns_rr_list_rr(list, 0)) == ldns_types[type] &&
           owner_text(ldns_rr_list_rr(list, 0), owner) && strcmp(owner, name) == 0;
}

static const char *code_means(ldns_pkt_rcode code)
{
    switch (code) {
    case LDNS_RCODE_REFUSED:
        return ": it does not serve this name, or not to this host";
    case LDNS_RCODE_SERVFAIL:
        return ": it has no good data, look at its log";
    case LDNS_RCODE_FORMERR:
        return ": it does not understand the question (EDNS?)";
    default:
        return "";
    }
}

static bool read_reply(const ldns_pkt *packet, const char *name, enum dns_type type,
                       struct dns_reply *reply)
{
    ldns_pkt_rcode code = ldns_pkt_get_rcode(packet);
    if (code != LDNS_RCODE_NOERROR && code != LDNS_RCODE_NXDOMAIN) {
        char *text = ldns_pkt_rcode2str(code);
        dns_fail(reply->error, "it answered %s%s", text ? text : "an error",
                 code_means(code));
        free(text);
        return false;
    }
    if (!same_question(packet, name, type))
        return dns_fail(reply->error,
                        "it answered another question: look what stands between "
                        "(a proxy, a firewall)");
    if (ldns_pkt_tc(packet))
        return dns_fail(reply->error, "its answer is cut even by TCP: look at its log");
    if (!take_section(ldns_pkt_answer(packet), &reply->answer) ||
        !take_section(ldns_pkt_authority(packet), &reply->authority) ||
        !take_section(ldns_pkt_additional(packet), &reply->additional))
        return dns_fail(reply->error, "its answer is beyond what sluice handles");
    reply->authoritative = ldns_pkt_aa(packet);
    const struct dns_set *set = dns_sets_find(&reply->answer, name, type);
    reply->outcome = set ? DNS_FOUND : DNS_ABSENT;
    reply->no_name = !set && code == LDNS_RCODE_NXDOMAIN && reply->answer.count == 0;
    reply->negative_ttl = set ? 0 : negative_ttl(&reply->authority);
    return true;
}

enum dns_wire_result dns_exchange(const struct dns_server *server, bool tcp,
                                  const uint8_t *query, size_t query_len, int timeout_ms,
                                  ldns_pkt **packet, uint8_t *answer, size_t *answer_len,
                                  char error[DNS_ERROR_MAX])
{
    enum dns_wire_result result =
        dns_wire_ask(&server->address, server->port, tcp, query, query_len, timeout_ms,
                     answer, answer_len, error, DNS_ERROR_MAX);
    *packet = NULL;
    if (result != DNS_WIRE_DONE)
        return result;
    if (ldns_wire2pkt(packet, answer, *answer_len) != LDNS_STATUS_OK) {
        *packet = NULL;
        dns_fail(error, "its answer is no DNS message: look what runs there");
    }
    return result;
}

static bool make_query(const char *name, enum dns_type type, bool recursive,
                       uint8_t **wire, size_t *len)
{
    ldns_rdf *owner = ldns_dname_new_frm_str(*name ? name : ".");
    ldns_pkt *packet = owner
                           ? ldns_pkt_query_new(owner, ldns_types[type], LDNS_RR_CLASS_IN,
                                                recursive ? LDNS_RD : 0)
                           : NULL;
    if (!packet) {
        ldns_rdf_deep_free(owner);
        return false;
    }
    ldns_pkt_set_random_id(packet);
    ldns_pkt_set_edns_udp_size(packet, EDNS_SIZE);
    bool ok = ldns_pkt2wire(wire, packet, len) == LDNS_STATUS_OK;
    ldns_pkt_free(packet);
    return ok;
}

/* The packet of an answer, by TCP when it was cut; NULL: reply->error says why.
 * *heard: it gave some answer. */
static ldns_pkt *converse(const struct dns_server *server, const uint8_t *query,
                          size_t query_len, int timeout_ms, bool *heard,
                          char error[DNS_ERROR_MAX])
{
    static uint8_t answer[DNS_WIRE_MAX];
    size_t answer_len;
    ldns_pkt *packet = NULL;
    bool tcp = false;
    char why[DNS_ERROR_MAX];
    *heard = false;
    for (int tries = 0; tries < TRIES && !packet; tries++) {
        enum dns_wire_result result = dns_exchange(
            server, tcp, query, query_len, timeout_ms, &packet, answer, &answer_len, why);
        *heard = *heard || result == DNS_WIRE_DONE;
        if (packet && ldns_pkt_tc(packet) && !tcp) {
            tcp = true;
            tries = -1; /* as often by TCP: it ends, tcp stays */
            ldns_pkt_free(packet);
            packet = NULL;
        }
    }
    if (!packet && tcp)
        dns_fail(error,
                 "its answer is too long for UDP, and by TCP: %.100s: open TCP port %u",
                 why, (unsigned)server->port);
    else if (!packet && *heard)
        dns_fail(error, "%.150s", why);
    else if (!packet)
        dns_fail(error, "%.150s: is it up, and reachable from here (UDP port %u)?", why,
                 (unsigned)server->port);
    return packet;
}

/* One that answers slowly, again and again, costs no more than one that is silent. */
static void note_time(struct dns_server *server, int64_t began, int timeout_ms)
{
    server->spent += clock_ms() - began;
    if (server->silent || server->spent < (int64_t)timeout_ms * DNS_SPENT_MAX)
        return;
    server->silent = true;
    dns_fail(server->error, "too slow: its answers took %lld s together",
             (long long)server->spent / 1000);
}

void dns_ask(struct dns_server *server, const char *name, enum dns_type type,
             int timeout_ms, struct dns_reply *reply)
{
    uint8_t *query = NULL;
    size_t query_len = 0;
    bool heard;
    int64_t began = clock_ms();
    *reply = (struct dns_reply){ .outcome = DNS_FAILED };
    if (server->silent) {
        memcpy(reply->error, server->error, sizeof(reply->error));
        return;
    }
    if (!make_query(name, type, server->recursive, &query, &query_len)) {
        dns_fail(reply->error, "the question cannot be written");
        return;
    }
    ldns_pkt *packet =
        converse(server, query, query_len, timeout_ms, &heard, reply->error);
    free(query);
    if (packet && read_reply(packet, name, type, reply))
        reply->error[0] = '\0';
    else
        dns_reply_free(reply); /* nothing of half an answer */
    ldns_pkt_free(packet);
    if (!heard) {
        server->silent = true;
        memcpy(server->error, reply->error, sizeof(server->error));
    }
    note_time(server, began, timeout_ms);
}

void dns_reply_free(struct dns_reply *reply)
{
    dns_sets_free(&reply->answer);
    dns_sets_free(&reply->authority);
    dns_sets_free(&reply->additional);
}
