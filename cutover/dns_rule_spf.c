/*
 * dns_rule_spf: SPF records (RFC 7208) of the domain, and of every name below it
 * that plans one: exactly one, valid, within the limits, ending in -all, the old
 * server gone from it, every known sender let through.
 *
 * A known sender is an address with the name that its mail came from. One whose
 * mail passed by DKIM alone may be a forwarder, which no SPF record can cover: a
 * note, no fault.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dns_rule.h"
#include "spf_record.h"

/* ---- who may send --------------------------------------------------------- */

static void judge_old(struct rules *rules, const char *name, const char *record,
                      const char *text)
{
    struct netaddr address;
    struct dns_spf spf;
    size_t index;
    if (!netaddr_parse(text, strlen(text), &address))
        return;
    if (names_add(rules->old, text, &index) == NAMES_FAILED)
        rules->no_memory = true;
    dns_spf_walk(record, name, &address, &rules->resolver, &spf);
    if (spf.result == DNS_SPF_PASS)
        dns_rule_find(rules, "spf-old", DNS_RULE_FAIL,
                      "Take the old server out of the planned SPF record.",
                      "%s, the old server, may still send as %s", text, name);
}

/* The addresses of a host (or an address), each judged. */
static void judge_old_host(struct rules *rules, const char *name, const char *record,
                           const char *host)
{
    static const enum dns_type types[] = { DNS_A, DNS_AAAA };
    struct netaddr address;
    if (netaddr_parse(host, strlen(host), &address)) {
        judge_old(rules, name, record, host);
        return;
    }
    for (size_t t = 0; t < 2; t++) {
        struct dns_sets sets = { 0 };
        if (dns_rule_ask(rules, host, types[t], &sets) == DNS_SPF_FOUND)
            for (size_t i = 0; i < sets.items[0].count; i++)
                judge_old(rules, name, record, sets.items[0].values[i]);
        dns_sets_free(&sets);
    }
}

static bool names_host(const struct dns_set *mx, const char *host)
{
    char other[DNSRECORD_NAME_MAX + 1];
    for (size_t i = 0; mx && i < mx->count; i++)
        if (dns_target(DNS_MX, mx->values[i], other) && strcmp(host, other) == 0)
            return true;
    return false;
}

/* The old servers: the next hop "old" of sluice.conf, and the MX hosts of the last
 * snapshot with the old records. */
static void old_servers(struct rules *rules, const char *name, const char *record)
{
    char host[DNSRECORD_NAME_MAX + 1];
    const struct dns_snap *snap =
        dns_snap_last_old(rules->snaps, rules->snap_count, rules->planned);
    const struct dns_set *old =
        snap ? dns_sets_find(&snap->sets, rules->domain->name, DNS_MX) : NULL;
    const struct dns_set *planned =
        dns_sets_find(rules->planned, rules->domain->name, DNS_MX);
    size_t before = rules->out->count;
    if (rules->domain->old.host)
        judge_old_host(rules, name, record, rules->domain->old.host);
    for (size_t i = 0; planned && old && i < old->count; i++)
        if (dns_target(DNS_MX, old->values[i], host) && host[0] &&
            !names_host(planned, host))
            judge_old_host(rules, name, record, host);
    if (rules->out->count == before && names_count(rules->old) > 0)
        dns_rule_find(rules, "spf-old", DNS_RULE_PASS, NULL,
                      "the old server (%s%s) may not send as %s any more",
                      names_list(rules->old)[0],
                      names_count(rules->old) > 1 ? " and others" : "", name);
}

/* entry: "ADDRESS NAME". Whether it is one of this name, and not an old server. */
static bool sender_of(const struct rules *rules, const char *entry, const char *name,
                      char text[NETADDR_TEXT_MAX + 1], struct netaddr *address)
{
    size_t len = strcspn(entry, " ");
    if (len > NETADDR_TEXT_MAX || entry[len] == '\0' ||
        strcmp(entry + len + 1, name) != 0)
        return false;
    memcpy(text, entry, len);
    text[len] = '\0';
    return netaddr_parse(text, len, address) && names_find(rules->old, text) == SIZE_MAX;
}

static void senders(struct rules *rules, const char *name, const char *record)
{
    char text[NETADDR_TEXT_MAX + 1];
    struct netaddr address;
    size_t passed = 0;
    for (size_t i = 0; i < names_count(rules->senders); i++) {
        const char *entry = names_list(rules->senders)[i];
        struct dns_spf spf;
        /* One whose address passed SPF, or that the admin named, counts as that. */
        bool by_dkim = entry[0] == '~';
        if (!sender_of(rules, entry + by_dkim, name, text, &address) ||
            (by_dkim && names_find(rules->senders, entry + 1) != SIZE_MAX))
            continue;
        dns_spf_walk(record, name, &address, &rules->resolver, &spf);
        bool open = spf.result == DNS_SPF_UNKNOWN || spf.result == DNS_SPF_TEMPERROR;
        if (spf.result == DNS_SPF_PASS)
            passed++;
        else
            dns_rule_find(
                rules, "spf-senders",
                by_dkim ? DNS_RULE_NOTE
                : open  ? DNS_RULE_UNKNOWN
                        : DNS_RULE_FAIL,
                "Add it to the planned SPF record (ip4:ADDRESS, or its provider's "
                "include:), or find out why it sends as the domain.",
                "%s sends as %s%s, and SPF would be %s%s%s", text, name,
                by_dkim ? " (passing by DKIM alone: perhaps a forwarder)" : "",
                dns_spf_result_name(spf.result), spf.why[0] ? ": " : "", spf.why);
    }
    if (passed > 0)
        dns_rule_find(rules, "spf-senders", DNS_RULE_PASS, NULL,
                      "%zu known %s of %s pass%s", passed,
                      passed == 1 ? "sender" : "senders", name, passed == 1 ? "es" : "");
}

/* ---- the record itself ---------------------------------------------------- */

static void costs(struct rules *rules, const char *name, const struct dns_spf *spf)
{
    size_t before = rules->out->count;
    if (spf->lookups > DNS_SPF_LOOKUPS_MAX)
        dns_rule_find(rules, "spf-lookups", DNS_RULE_FAIL,
                      "Replace include: and a by ip4:, or drop providers that are not "
                      "used.",
                      "%s: the SPF record needs %u DNS lookups, RFC 7208 allows %d: "
                      "receivers take it as broken",
                      name, spf->lookups, DNS_SPF_LOOKUPS_MAX);
    if (spf->voids > DNS_SPF_VOID_MAX)
        dns_rule_find(rules, "spf-void", DNS_RULE_FAIL,
                      "Take out the names that do not exist.",
                      "%s: %u lookups of the SPF record find nothing, RFC 7208 allows %d",
                      name, spf->voids, DNS_SPF_VOID_MAX);
    if (rules->out->count > before)
        return;
    if (spf->result == DNS_SPF_PERMERROR)
        dns_rule_find(rules, "spf-lookups", DNS_RULE_FAIL,
                      "Correct the record that is named, or take it out of this one.",
                      "%s: receivers take the SPF record as broken: %s", name, spf->why);
    else if (spf->result == DNS_SPF_TEMPERROR)
        dns_rule_find(rules, "spf-lookups", DNS_RULE_UNKNOWN,
                      "Check again; see that the resolvers of sluice.conf answer.",
                      "%s: the SPF record cannot be followed to its end: %s", name,
                      spf->why);
    else
        dns_rule_find(rules, "spf-lookups", DNS_RULE_PASS, NULL,
                      "%s: %u of %d DNS lookups, %u of %d void", name, spf->lookups,
                      DNS_SPF_LOOKUPS_MAX, spf->voids, DNS_SPF_VOID_MAX);
}

/* What it says of everybody else: its "all", or that of the record it leads to. */
static void ending(struct rules *rules, const char *name, const struct spf_record *parsed,
                   const struct dns_spf *spf)
{
    char qualifier = '\0';
    for (size_t i = 0; i < parsed->count && !qualifier; i++)
        if (parsed->terms[i].mechanism == SPF_ALL)
            qualifier = parsed->terms[i].qualifier;
    if (!qualifier && parsed->redirect)
        qualifier = spf->result == DNS_SPF_SOFTFAIL  ? '~'
                    : spf->result == DNS_SPF_PASS    ? '+'
                    : spf->result == DNS_SPF_NEUTRAL ? '?'
                                                     : '-';
    const char *fix = "End it in -all, once sluice auth report shows no rightful sender "
                      "that would fail.";
    if (qualifier == '-')
        dns_rule_find(rules, "spf-all", DNS_RULE_PASS, NULL,
                      "%s: the SPF record ends in -all", name);
    else if (qualifier == '+')
        dns_rule_find(rules, "spf-all", DNS_RULE_FAIL, fix,
                      "%s: the SPF record ends in +all: it lets the whole world send",
                      name);
    else if (qualifier)
        dns_rule_find(rules, "spf-all", DNS_RULE_FAIL, fix,
                      "%s: the SPF record ends in %call, not in -all: forged mail is not "
                      "refused",
                      name, qualifier);
    else
        dns_rule_find(
            rules, "spf-all", DNS_RULE_FAIL, fix,
            "%s: the SPF record does not end in -all: forged mail is not refused", name);
}

static void check_record(struct rules *rules, const char *name, const char *record)
{
    struct spf_record *parsed = malloc(sizeof(*parsed)); /* too large for the stack */
    struct dns_spf spf;
    char why[200];
    if (!parsed) {
        rules->no_memory = true;
    } else if (!spf_record_is(record, strlen(record))) {
        dns_rule_find(rules, "spf-valid", DNS_RULE_FAIL,
                      "Begin it with \"v=spf1 \", without blanks around the \"=\".",
                      "%s: \"%.80s\" is no SPF record: it must begin with exactly "
                      "\"v=spf1\" and a blank (RFC 7208 4.5), so receivers find none",
                      name, record);
    } else if (!spf_record_parse(record, strlen(record), parsed, why, sizeof(why))) {
        dns_rule_find(rules, "spf-valid", DNS_RULE_FAIL,
                      "Correct the term that is named.",
                      "%s: the SPF record is not valid, receivers take it as broken: %s",
                      name, why);
    } else {
        dns_rule_find(rules, "spf-valid", DNS_RULE_PASS, NULL,
                      "%s: one SPF record, valid", name);
        dns_spf_walk(record, name, NULL, &rules->resolver, &spf);
        costs(rules, name, &spf);
        ending(rules, name, parsed, &spf);
        old_servers(rules, name, record);
        senders(rules, name, record);
    }
    free(parsed);
}

static void check_name(struct rules *rules, const char *name)
{
    const struct dns_set *set = dns_sets_find(&rules->future, name, DNS_TXT);
    const char *record = NULL;
    size_t count = 0;
    for (size_t i = 0; set && i < set->count; i++)
        if (dns_txt_kind(name, set->values[i]) == TXT_SPF) {
            record = set->values[i];
            count++;
        }
    if (count == 0)
        dns_rule_find(
            rules, "spf-one", DNS_RULE_FAIL,
            "Plan one: record \"TXT\" { name = \"@\" value = {\"v=spf1 ... -all\"} }.",
            "%s has no SPF record: anybody may send as it", name);
    else if (count > 1)
        dns_rule_find(rules, "spf-one", DNS_RULE_FAIL,
                      "Have exactly one TXT record that begins with v=spf1.",
                      "%s has %zu SPF records, receivers want exactly one (RFC 7208 4.5)",
                      name, count);
    else
        check_record(rules, name, record);
}

void dns_rule_spf(struct rules *rules)
{
    check_name(rules, rules->domain->name);
    for (size_t i = 0; i < rules->planned->count; i++) {
        const struct dns_set *set = &rules->planned->items[i];
        bool plans = false;
        for (size_t v = 0; set->type == DNS_TXT && v < set->count; v++)
            plans |= dns_txt_kind(set->name, set->values[v]) == TXT_SPF;
        if (plans && strcmp(set->name, rules->domain->name) != 0)
            check_name(rules, set->name);
    }
}
