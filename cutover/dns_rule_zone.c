/*
 * dns_rule_zone: TTLs before the move, records in the way, name servers.
 */
#include <stdio.h>
#include <string.h>

#include "dns_rule.h"
#include "output.h"

/* ---- TTL ------------------------------------------------------------------ */

static void ttl_is_long(struct rules *rules, const struct dns_set *old)
{
    dns_rule_find(rules, "ttl", DNS_RULE_FAIL,
                  "Run sluice dns apply --lower-ttl, and wait until the old TTL has run "
                  "out.",
                  "%s %s has TTL %u s: after the change it is remembered for so long; at "
                  "most %d s is wanted before the move",
                  old->name, dns_type_name(old->type), (unsigned)old->ttl,
                  DNS_TTL_BEFORE_MOVE);
}

/* The TTL is low, but caches may hold the record with the one that it had. */
static void ttl_was_long(struct rules *rules, const struct dns_set *old)
{
    char was[DURATION_TEXT_MAX], left[DURATION_TEXT_MAX], until[TIME_TEXT_MAX];
    uint32_t ttl = 0;
    int64_t end = dns_snap_cached(rules->snaps, rules->snap_count, old, &ttl);
    if (ttl <= DNS_TTL_BEFORE_MOVE)
        return;
    duration_text(ttl, was);
    if (end == INT64_MAX)
        dns_rule_find(
            rules, "ttl-old", DNS_RULE_FAIL,
            "Run sluice dns snapshot now: the old TTL is counted from then.",
            "%s %s had TTL %s in the last snapshot and has %u s now; since when "
            "is not known, so caches may still keep it for %s",
            old->name, dns_type_name(old->type), was, (unsigned)old->ttl, was);
    else if (end > rules->now)
        dns_rule_find(rules, "ttl-old", DNS_RULE_FAIL, "Change it after that.",
                      "%s %s had TTL %s: caches may keep it until %s, %s from now",
                      old->name, dns_type_name(old->type), was, time_text(end, until),
                      duration_text(end - rules->now, left));
}

/* A wildcard answers for a planned name, until the name is there. */
static void wildcard_is_long(struct rules *rules, const struct dns_set *planned)
{
    for (size_t i = 0; i < rules->wild.count; i++) {
        const struct dns_set *made = &rules->wild.items[i];
        if (strcmp(made->name, planned->name) == 0 && made->ttl > DNS_TTL_BEFORE_MOVE &&
            (made->type == planned->type || made->type == DNS_CNAME ||
             planned->type == DNS_CNAME))
            dns_rule_find(rules, "ttl", DNS_RULE_FAIL,
                          "Lower the TTL of the wildcard record, and wait until the old "
                          "one has run out.",
                          "%s %s is made by a wildcard record with TTL %u s: after the "
                          "change it is remembered for so long; at most %d s is wanted "
                          "before the move",
                          made->name, dns_type_name(made->type), (unsigned)made->ttl,
                          DNS_TTL_BEFORE_MOVE);
    }
}

void dns_rule_ttl(struct rules *rules)
{
    size_t before = rules->out->count;
    struct dns_changes changes = { 0 };
    if (!dns_plan_changes(rules->planned, rules->live, DNS_AIM_PLAN, &changes)) {
        rules->no_memory = true;
        return;
    }
    bool absent = false;
    for (size_t i = 0; i < changes.count; i++) {
        const struct dns_set *old = &changes.items[i].before;
        const struct dns_set *after = &changes.items[i].after;
        absent |= old->count == 0;
        if (old->count == 0) {
            wildcard_is_long(rules, after);
            continue;
        }
        if (dns_set_same(old, after))
            dns_rule_find(rules, "ttl-plan", DNS_RULE_NOTE,
                          "sluice dns apply sets it; or plan the TTL that it has.",
                          "%s %s is as planned, but has TTL %u s, planned are %u s",
                          old->name, dns_type_name(old->type), (unsigned)old->ttl,
                          (unsigned)after->ttl);
        else if (old->ttl > DNS_TTL_BEFORE_MOVE)
            ttl_is_long(rules, old);
        else
            ttl_was_long(rules, old);
    }
    if (absent && rules->negative_ttl > DNS_TTL_BEFORE_MOVE)
        dns_rule_find(rules, "ttl-negative", DNS_RULE_NOTE,
                      "Do not ask a resolver for them before they are there; lower the "
                      "last number of the SOA record.",
                      "that a planned name is not there yet is remembered for %u s (SOA "
                      "minimum)",
                      (unsigned)rules->negative_ttl);
    dns_changes_free(&changes);
    if (rules->out->count == before)
        dns_rule_find(rules, "ttl", DNS_RULE_PASS, NULL,
                      "what will change has a TTL of at most %d s", DNS_TTL_BEFORE_MOVE);
}

/* ---- records in the way --------------------------------------------------- */

static void beside(struct rules *rules, const struct dns_set *planned,
                   const struct dns_set *live)
{
    bool address = live->type == DNS_A || live->type == DNS_AAAA;
    /* Keys and policies: selector._domainkey, _dmarc. */
    bool text_name = planned->type == DNS_TXT &&
                     (planned->name[0] == '_' || strstr(planned->name, "._"));
    if (live->count == 0 || live->type == planned->type ||
        strcmp(live->name, planned->name) != 0)
        return;
    if (live->type == DNS_CNAME || planned->type == DNS_CNAME)
        dns_rule_find(rules, "alias",
                      live->type <= DNS_CNAME ? dns_rule_mended(rules) : DNS_RULE_FAIL,
                      live->type <= DNS_CNAME ? "Remove it: sluice dns apply does."
                                              : "Remove it, or plan another name.",
                      "%s has %s records in the way of the planned %s: nothing may stand "
                      "beside a CNAME",
                      live->name, dns_type_name(live->type),
                      dns_type_name(planned->type));
    else if (address && text_name)
        dns_rule_find(rules, "alias", DNS_RULE_FAIL, "Remove it.",
                      "%s has %s records beside the planned TXT: the name is for that "
                      "alone",
                      live->name, dns_type_name(live->type));
}

void dns_rule_alias(struct rules *rules)
{
    size_t before = rules->out->count;
    for (size_t i = 0; i < rules->planned->count; i++)
        for (size_t j = 0; j < rules->live->count; j++)
            beside(rules, &rules->planned->items[i], &rules->live->items[j]);
    if (rules->out->count == before)
        dns_rule_find(rules, "alias", DNS_RULE_PASS, NULL,
                      "no A or CNAME record is in the way of the planned ones");
}

/* ---- name servers --------------------------------------------------------- */

static void server(struct rules *rules, const char *zone, const struct dns_set *parent,
                   const struct dns_rule_server *is, const struct dns_rule_server *best)
{
    if (is->error)
        dns_rule_find(rules, "ns", DNS_RULE_FAIL,
                      "Mend the server, or take it out of the delegation.",
                      "name server %s: %s", is->text, is->error);
    else if (!is->ns || !parent || !dns_set_same(is->ns, parent))
        dns_rule_find(rules, "ns", DNS_RULE_FAIL,
                      "Make the NS records of the zone and those at the parent "
                      "(registrar) the same.",
                      "name server %s has other NS records for %s than the parent zone",
                      is->text, zone);
    else if (best && (int32_t)((uint32_t)is->serial - (uint32_t)best->serial) > 0)
        dns_rule_find(
            rules, "ns", DNS_RULE_FAIL,
            "Raise the serial number at the primary above it.",
            "name server %s has serial %lu of %s, and %s only %lu: it takes over "
            "nothing until that is higher (RFC 1982)",
            is->text, is->serial, zone, best->text, best->serial);
    else if (best && is->serial != best->serial)
        dns_rule_find(rules, "ns", DNS_RULE_FAIL,
                      "Wait for its zone transfer, or look why it does not come.",
                      "name server %s lags: it has serial %lu of %s, %s has %lu",
                      is->text, is->serial, zone, best->text, best->serial);
}

void dns_rule_ns(struct rules *rules, const char *zone, const struct dns_set *parent,
                 const struct dns_rule_server *servers, size_t count)
{
    size_t before = rules->out->count;
    const struct dns_rule_server *best = NULL;
    const struct dns_set *first =
        rules->snap_count > 0 ? dns_sets_find(&rules->snaps[0].sets, zone, DNS_NS) : NULL;
    for (size_t i = 0; i < count; i++)
        if (servers[i].best)
            best = &servers[i];
    for (size_t i = 0; i < count; i++)
        server(rules, zone, parent, &servers[i], best);
    if (first && parent && !dns_set_same(first, parent))
        dns_rule_find(rules, "ns-changed", DNS_RULE_FAIL,
                      "Find out who changed them. When it was meant: move the snapshots "
                      "from before it out of the state directory.",
                      "the NS records of %s are not those of the first snapshot (%s)",
                      zone, rules->snaps[0].name);
    if (rules->out->count == before)
        dns_rule_find(rules, "ns", DNS_RULE_PASS, NULL,
                      "%zu name servers, the same at the parent, with the same serial",
                      count);
}
