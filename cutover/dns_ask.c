/*
 * dns_ask: questions to DNS servers, and updates (see dns_ask.h).
 *
 * Records come out in the canonical form of dnsrecord.h; those of other types,
 * and those whose owner is no name in that form, are left out. What a server
 * sends is untrusted: a set past a limit makes the reply FAILED, never short.
 */
#include "dns_ask.h"

#include <arpa/inet.h>
#include <ldns/ldns.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "dns_wire.h"

#define EDNS_SIZE 1232 /* DNS flag day 2020: no fragments */
#define TRIES     2
#define FUDGE_S   300 /* RFC 8945 10: how far two clocks may differ */

__attribute__((format(printf, 2, 3))) static bool fail(char error[DNS_ERROR_MAX],
                                                       const char *fmt, ...)
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

static bool txt_value(const ldns_rr *rr, char *out, size_t size)
{
    static unsigned char bytes[DNS_WIRE_MAX];
    size_t used = 0;
    for (size_t i = 0; i < ldns_rr_rd_count(rr); i++) {
        const ldns_rdf *rdf = ldns_rr_rdf(rr, i);
        size_t len = ldns_rdf_size(rdf);
        if (len < 1 || used + len - 1 > sizeof(bytes))
            return false;
        memcpy(bytes + used, ldns_rdf_data(rdf) + 1, len - 1);
        used += len - 1;
    }
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

static bool value_text(const ldns_rr *rr, enum dns_type type, char *out, size_t size)
{
    if (type == DNS_TXT)
        return txt_value(rr, out, size);
    if (type == DNS_A || type == DNS_AAAA)
        return address_value(rr, out, size);
    return plain_value(rr, out, size);
}

static bool take_section(const ldns_rr_list *list, struct dns_sets *out)
{
    static char value[DNS_VALUE_MAX + 1];
    char owner[DNSRECORD_NAME_MAX + 1];
    enum dns_type type;
    for (size_t i = 0; list && i < ldns_rr_list_rr_count(list); i++) {
        const ldns_rr *rr = ldns_rr_list_rr(list, i);
        if (ldns_rr_get_class(rr) != LDNS_RR_CLASS_IN ||
            !our_type(ldns_rr_get_type(rr), &type) || !owner_text(rr, owner))
            continue;
        if (!value_text(rr, type, value, sizeof(value)) ||
            !dns_sets_add(out, owner, type, ldns_rr_ttl(rr), value))
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
        fail(reply->error, "it answered %s%s", text ? text : "an error",
             code_means(code));
        free(text);
        return false;
    }
    if (!same_question(packet, name, type))
        return fail(reply->error,
                    "it answered another question: look what stands between "
                    "(a proxy, a firewall)");
    if (ldns_pkt_tc(packet))
        return fail(reply->error, "its answer is cut even by TCP: look at its log");
    if (!take_section(ldns_pkt_answer(packet), &reply->answer) ||
        !take_section(ldns_pkt_authority(packet), &reply->authority) ||
        !take_section(ldns_pkt_additional(packet), &reply->additional))
        return fail(reply->error, "its answer is beyond what sluice handles");
    reply->authoritative = ldns_pkt_aa(packet);
    const struct dns_set *set = dns_sets_find(&reply->answer, name, type);
    reply->outcome = set ? DNS_FOUND : DNS_ABSENT;
    reply->no_name = !set && code == LDNS_RCODE_NXDOMAIN && reply->answer.count == 0;
    reply->negative_ttl = set ? 0 : negative_ttl(&reply->authority);
    return true;
}

/* One exchange. *again: by TCP. */
static enum dns_wire_result exchange(const struct dns_server *server, bool tcp,
                                     const uint8_t *query, size_t query_len,
                                     int timeout_ms, ldns_pkt **packet, uint8_t *answer,
                                     size_t *answer_len, char error[DNS_ERROR_MAX])
{
    enum dns_wire_result result =
        dns_wire_ask(&server->address, server->port, tcp, query, query_len, timeout_ms,
                     answer, answer_len, error, DNS_ERROR_MAX);
    *packet = NULL;
    if (result != DNS_WIRE_DONE)
        return result;
    if (ldns_wire2pkt(packet, answer, *answer_len) != LDNS_STATUS_OK) {
        *packet = NULL;
        fail(error, "its answer is no DNS message: look what runs there");
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
        enum dns_wire_result result = exchange(server, tcp, query, query_len, timeout_ms,
                                               &packet, answer, &answer_len, why);
        *heard = *heard || result == DNS_WIRE_DONE;
        if (packet && ldns_pkt_tc(packet) && !tcp) {
            tcp = true;
            tries = -1; /* as often by TCP: it ends, tcp stays */
            ldns_pkt_free(packet);
            packet = NULL;
        }
    }
    if (!packet && tcp)
        fail(error,
             "its answer is too long for UDP, and by TCP: %.100s: open TCP port %u", why,
             (unsigned)server->port);
    else if (!packet && *heard)
        fail(error, "%.150s", why);
    else if (!packet)
        fail(error, "%.150s: is it up, and reachable from here (UDP port %u)?", why,
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
    fail(server->error, "too slow: its answers took %lld s together",
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
        fail(reply->error, "the question cannot be written");
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

/* ---- updates (RFC 2136) --------------------------------------------------- */

/* A record without data: whole sets are named so. */
static bool push_bare(ldns_rr_list *list, const struct dns_set *set, ldns_rr_class class)
{
    ldns_rr *rr = ldns_rr_new();
    ldns_rdf *owner = ldns_dname_new_frm_str(set->name);
    if (!rr || !owner) {
        ldns_rr_free(rr);
        ldns_rdf_deep_free(owner);
        return false;
    }
    ldns_rr_set_owner(rr, owner);
    ldns_rr_set_type(rr, ldns_types[set->type]);
    ldns_rr_set_class(rr, class);
    ldns_rr_set_ttl(rr, 0);
    if (ldns_rr_list_push_rr(list, rr))
        return true;
    ldns_rr_free(rr);
    return false;
}

static bool push_records(ldns_rr_list *list, const struct dns_set *set, bool with_ttl)
{
    static char zone[DNS_ZONE_MAX], line[DNS_ZONE_MAX + DNSRECORD_NAME_MAX + 64];
    for (size_t i = 0; i < set->count; i++) {
        ldns_rr *rr = NULL;
        dns_value_zone(set->type, set->values[i], zone, sizeof(zone));
        snprintf(line, sizeof(line), "%s. %u IN %s %s", set->name,
                 with_ttl ? (unsigned)set->ttl : 0, dns_type_name(set->type), zone);
        if (ldns_rr_new_frm_str(&rr, line, 0, NULL, NULL) != LDNS_STATUS_OK)
            return false;
        if (!ldns_rr_list_push_rr(list, rr)) {
            ldns_rr_free(rr);
            return false;
        }
    }
    return true;
}

static bool fill_update(const struct dns_changes *changes, ldns_rr_list *prerequisites,
                        ldns_rr_list *updates)
{
    bool ok = true;
    for (size_t i = 0; i < changes->count; i++) {
        const struct dns_set *before = &changes->items[i].before;
        ok = ok &&
             (before->count > 0 ? push_records(prerequisites, before, false)
                                : push_bare(prerequisites, before, LDNS_RR_CLASS_NONE));
    }
    for (size_t i = 0; i < changes->count; i++)
        if (changes->items[i].before.count > 0)
            ok = ok && push_bare(updates, &changes->items[i].before, LDNS_RR_CLASS_ANY);
    for (size_t i = 0; i < changes->count; i++)
        ok = ok && push_records(updates, &changes->items[i].after, true);
    return ok;
}

static ldns_pkt *make_update(const char *zone, const struct dns_changes *changes)
{
    ldns_rdf *owner = ldns_dname_new_frm_str(zone);
    ldns_rr_list *prerequisites = ldns_rr_list_new(), *updates = ldns_rr_list_new();
    ldns_pkt *packet = NULL;
    if (owner && prerequisites && updates && fill_update(changes, prerequisites, updates))
        packet =
            ldns_update_pkt_new(owner, LDNS_RR_CLASS_IN, prerequisites, updates, NULL);
    if (packet)
        ldns_pkt_set_random_id(packet);
    else
        ldns_rdf_deep_free(owner); /* else the packet has it */
    ldns_rr_list_deep_free(prerequisites);
    ldns_rr_list_deep_free(updates);
    return packet;
}

static bool sign(ldns_pkt *packet, const struct dns_key *key, char error[DNS_ERROR_MAX])
{
    char algorithm[sizeof(key->algorithm) + 1];
    snprintf(algorithm, sizeof(algorithm), "%s.", key->algorithm);
    ldns_status status =
        ldns_pkt_tsig_sign(packet, key->name, key->secret, FUDGE_S, algorithm, NULL);
    return status == LDNS_STATUS_OK || fail(error, "the update cannot be signed: %s",
                                            ldns_get_errorstr_by_id(status));
}

/* RFC 8945 5.3.2: the error code in an answer's TSIG record. */
static const char *tsig_trouble(const ldns_pkt *packet)
{
    const ldns_rr *tsig = ldns_pkt_tsig(packet);
    const ldns_rdf *rdf =
        tsig && ldns_rr_rd_count(tsig) > 5 ? ldns_rr_rdf(tsig, 5) : NULL;
    switch (rdf && ldns_rdf_size(rdf) == 2 ? ldns_rdf2native_int16(rdf) : 0) {
    case 16:
        return "the secret of the TSIG key is not the server's (BADSIG)";
    case 17:
        return "the server does not know this TSIG key or algorithm (BADKEY)";
    case 18:
        return "the clocks of this host and the server differ by more than five minutes "
               "(BADTIME)";
    case 22:
        return "the server wants a longer TSIG signature (BADTRUNC)";
    default:
        return NULL;
    }
}

/* ldns takes the TSIG record out of the packet for a moment, and forgets it when it
 * does not know the algorithm. */
static bool signed_with(const uint8_t *wire, size_t len, const struct dns_key *key,
                        const ldns_rdf *mac)
{
    ldns_pkt *copy = NULL;
    if (ldns_wire2pkt(&copy, wire, len) != LDNS_STATUS_OK)
        return false;
    ldns_rr *tsig = ldns_pkt_tsig(copy);
    bool ok = tsig && ldns_pkt_tsig_verify(copy, wire, len, key->name, key->secret, mac);
    if (tsig && !ldns_pkt_tsig(copy))
        ldns_rr_free(tsig);
    ldns_pkt_free(copy);
    return ok;
}

static enum dns_update judge(const ldns_pkt *packet, const uint8_t *wire, size_t len,
                             const struct dns_key *key, const ldns_rdf *mac,
                             char error[DNS_ERROR_MAX])
{
    ldns_pkt_rcode code = ldns_pkt_get_rcode(packet);
    const char *trouble = tsig_trouble(packet);
    if (code == LDNS_RCODE_YXRRSET || code == LDNS_RCODE_NXRRSET ||
        code == LDNS_RCODE_YXDOMAIN || code == LDNS_RCODE_NXDOMAIN) {
        fail(error, "the zone has changed since it was looked at");
        return DNS_UPDATE_CONFLICT;
    }
    if (code != LDNS_RCODE_NOERROR) {
        char *text = ldns_pkt_rcode2str(code);
        fail(error, "%s%s%s", text ? text : "an error", trouble ? ": " : "",
             trouble                      ? trouble
             : code == LDNS_RCODE_REFUSED ? ": this key (or address) may not update"
                                          : "");
        free(text);
        return DNS_UPDATE_REFUSED;
    }
    if (!key || signed_with(wire, len, key, mac))
        return DNS_UPDATE_DONE;
    fail(error, "the server says done, but its answer is not signed with the key");
    return DNS_UPDATE_UNCERTAIN;
}

enum dns_update dns_ask_update(const struct dns_server *server, const char *zone,
                               const struct dns_changes *changes,
                               const struct dns_key *key, int timeout_ms,
                               char error[DNS_ERROR_MAX])
{
    static uint8_t answer[DNS_WIRE_MAX];
    enum dns_update update = DNS_UPDATE_REFUSED;
    uint8_t *query = NULL;
    size_t query_len = 0, answer_len = 0;
    ldns_pkt *reply = NULL, *packet = make_update(zone, changes);
    if (!packet) {
        fail(error, "the update cannot be written");
        return update;
    }
    if ((!key || sign(packet, key, error)) &&
        (ldns_pkt2wire(&query, packet, &query_len) == LDNS_STATUS_OK ||
         fail(error, "the update cannot be written"))) {
        enum dns_wire_result result = exchange(server, true, query, query_len, timeout_ms,
                                               &reply, answer, &answer_len, error);
        const ldns_rr *tsig = ldns_pkt_tsig(packet);
        if (reply)
            update = judge(reply, answer, answer_len, key,
                           tsig ? ldns_rr_rdf(tsig, 3) : NULL, error);
        else
            update = result == DNS_WIRE_UNSENT ? DNS_UPDATE_UNSENT : DNS_UPDATE_UNCERTAIN;
    }
    free(query);
    ldns_pkt_free(reply);
    ldns_pkt_free(packet);
    return update;
}
