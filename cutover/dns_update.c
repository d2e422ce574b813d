/*
 * dns_update: updates of a zone (RFC 2136) with TSIG (RFC 8945); see dns_ask.h.
 *
 * An update names what it replaces as prerequisites: a zone that has changed since it
 * was looked at refuses it as a whole. An answer that says "done" counts only when it
 * is signed with the key.
 */
#include <stdio.h>
#include <stdlib.h>

#include "dns_ask.h"
#include "dns_ldns.h"

#define FUDGE_S 300 /* RFC 8945 10: how far two clocks may differ */

/* A record without data: whole sets are named so, and whole names. */
static bool push_bare(ldns_rr_list *list, const char *name, ldns_rr_type type,
                      ldns_rr_class class)
{
    ldns_rr *rr = ldns_rr_new();
    ldns_rdf *owner = ldns_dname_new_frm_str(name);
    if (!rr || !owner) {
        ldns_rr_free(rr);
        ldns_rdf_deep_free(owner);
        return false;
    }
    ldns_rr_set_owner(rr, owner);
    ldns_rr_set_type(rr, type);
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
        dns_set_zone(set, i, zone, sizeof(zone));
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

/* RFC 2136 2.4: how a set must still be. */
static bool push_prerequisites(const struct dns_changes *changes, size_t change,
                               ldns_rr_list *list)
{
    const struct dns_set *before = &changes->items[change].before;
    bool ok = before->count > 0
                  ? push_records(list, before, false)
                  : push_bare(list, before->name, dns_ldns_type(before->type),
                              LDNS_RR_CLASS_NONE);
    if (ok && dns_changes_need_unused(changes, change))
        ok = push_bare(list, before->name, LDNS_RR_TYPE_ANY, LDNS_RR_CLASS_NONE);
    for (size_t type = 0; ok && type < DNS_TYPES; type++)
        if (dns_changes_need_no(changes, change, (enum dns_type)type))
            ok = push_bare(list, before->name, dns_ldns_type((enum dns_type)type),
                           LDNS_RR_CLASS_NONE);
    return ok;
}

static bool fill_update(const struct dns_changes *changes, ldns_rr_list *prerequisites,
                        ldns_rr_list *updates)
{
    bool ok = true;
    for (size_t i = 0; ok && i < changes->count; i++)
        ok = push_prerequisites(changes, i, prerequisites);
    for (size_t i = 0; ok && i < changes->count; i++)
        if (changes->items[i].before.count > 0 && !dns_changes_keep(&changes->items[i]))
            ok = push_bare(updates, changes->items[i].before.name,
                           dns_ldns_type(changes->items[i].before.type),
                           LDNS_RR_CLASS_ANY);
    for (size_t i = 0; ok && i < changes->count; i++)
        ok = dns_changes_keep(&changes->items[i]) ||
             push_records(updates, &changes->items[i].after, true);
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
    return status == LDNS_STATUS_OK || dns_fail(error, "the update cannot be signed: %s",
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
    if (code == LDNS_RCODE_YXDOMAIN) {
        dns_fail(error, "where a CNAME shall stand there are records of another type (as "
                        "CAA), to be removed before it, or the zone has changed since it "
                        "was looked at");
        return DNS_UPDATE_CONFLICT;
    }
    if (code == LDNS_RCODE_YXRRSET || code == LDNS_RCODE_NXRRSET ||
        code == LDNS_RCODE_NXDOMAIN) {
        dns_fail(error, "the zone has changed since it was looked at");
        return DNS_UPDATE_CONFLICT;
    }
    if (code != LDNS_RCODE_NOERROR) {
        char *text = ldns_pkt_rcode2str(code);
        dns_fail(error, "%s%s%s", text ? text : "an error", trouble ? ": " : "",
                 trouble                      ? trouble
                 : code == LDNS_RCODE_REFUSED ? ": this key (or address) may not update"
                                              : "");
        free(text);
        return DNS_UPDATE_REFUSED;
    }
    if (!key || signed_with(wire, len, key, mac))
        return DNS_UPDATE_DONE;
    dns_fail(error, "the server says done, but its answer is not signed with the key");
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
        dns_fail(error, "the update cannot be written");
        return update;
    }
    if ((!key || sign(packet, key, error)) &&
        (ldns_pkt2wire(&query, packet, &query_len) == LDNS_STATUS_OK ||
         dns_fail(error, "the update cannot be written"))) {
        enum dns_wire_result result =
            dns_exchange(server, true, query, query_len, timeout_ms, &reply, answer,
                         &answer_len, error);
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
