/*
 * dns_rule_mx: the MX records (RFC 5321 5.1, RFC 7505).
 */
#include <string.h>

#include "dns_rule.h"

static void left(struct rules *rules, const struct dns_set *planned)
{
    const struct dns_set *live = dns_sets_find(rules->live, planned->name, DNS_MX);
    size_t shared = 0;
    for (size_t i = 0; live && i < live->count; i++)
        shared += dns_set_has(planned, live->values[i]);
    for (size_t i = 0; live && shared > 0 && i < live->count; i++)
        if (!dns_set_has(planned, live->values[i]))
            dns_rule_find(rules, "mx-left", dns_rule_mended(rules),
                          "Remove it: sluice dns apply does.",
                          "%s still has MX %s beside the planned ones: part of the mail "
                          "goes there",
                          planned->name, live->values[i]);
}

static void target(struct rules *rules, const char *owner, const char *host)
{
    struct dns_sets alias = { 0 }, four = { 0 }, six = { 0 };
    enum dns_spf_lookup is_alias = dns_rule_ask(rules, host, DNS_CNAME, &alias);
    enum dns_spf_lookup a = dns_rule_ask(rules, host, DNS_A, &four);
    enum dns_spf_lookup aaaa = dns_rule_ask(rules, host, DNS_AAAA, &six);
    bool any = a == DNS_SPF_FOUND || aaaa == DNS_SPF_FOUND;
    if (is_alias == DNS_SPF_FOUND)
        dns_rule_find(rules, "mx-target", DNS_RULE_FAIL,
                      "Name the host that the CNAME leads to.",
                      "%s: MX %s is a CNAME, which RFC 5321 5.1 forbids: some senders "
                      "will not deliver",
                      owner, host);
    else if (is_alias == DNS_SPF_FAILED ||
             (!any && (a == DNS_SPF_FAILED || aaaa == DNS_SPF_FAILED)))
        dns_rule_find(rules, "mx-target", DNS_RULE_UNKNOWN,
                      "Look at the resolvers (dns { resolvers } of sluice.conf).",
                      "%s: the addresses of MX %s cannot be asked", owner, host);
    else if (!any)
        dns_rule_find(rules, "mx-target", DNS_RULE_FAIL,
                      "Correct the name, or add its A record first.",
                      "%s: MX %s has no address: mail for it would wait, then bounce",
                      owner, host);
    dns_sets_free(&alias);
    dns_sets_free(&four);
    dns_sets_free(&six);
}

/* The number before the host. */
static size_t priority_len(const char *value)
{
    return strcspn(value, " ");
}

static void priorities(struct rules *rules, const struct dns_set *planned)
{
    char host[DNSRECORD_NAME_MAX + 1], other[DNSRECORD_NAME_MAX + 1];
    const struct dns_set *live = dns_sets_find(rules->live, planned->name, DNS_MX);
    for (size_t i = 0; i < planned->count; i++) {
        const char *value = planned->values[i];
        if (!dns_target(DNS_MX, value, host) || !host[0])
            continue;
        for (size_t j = 0; j < i; j++)
            if (dns_target(DNS_MX, planned->values[j], other) && strcmp(host, other) == 0)
                dns_rule_find(rules, "mx-priority", DNS_RULE_FAIL,
                              "Plan each host with one priority.",
                              "%s: MX %s is planned with two priorities", planned->name,
                              host);
        for (size_t j = 0; live && j < live->count; j++)
            if (dns_target(DNS_MX, live->values[j], other) && strcmp(host, other) == 0 &&
                !dns_set_has(planned, live->values[j]))
                dns_rule_find(rules, "mx-priority", dns_rule_mended(rules),
                              "Correct the number: sluice dns apply does.",
                              "%s: MX %s has priority %.*s, planned is %.*s",
                              planned->name, host, (int)priority_len(live->values[j]),
                              live->values[j], (int)priority_len(value), value);
    }
}

/* RFC 7505: "0 ." says that there is no mail, and stands alone. */
static void null_mx(struct rules *rules, const struct dns_set *planned)
{
    if (planned->count > 1 && dns_set_has(planned, "0 ."))
        dns_rule_find(rules, "mx-target", DNS_RULE_FAIL,
                      "Take \"0 .\" out, or the others.",
                      "%s: MX \"0 .\" says that the domain takes no mail (RFC 7505), and "
                      "stands beside hosts that do",
                      planned->name);
}

void dns_rule_mx(struct rules *rules)
{
    size_t before = rules->out->count, planned_sets = 0;
    char host[DNSRECORD_NAME_MAX + 1];
    for (size_t s = 0; s < rules->planned->count; s++) {
        const struct dns_set *planned = &rules->planned->items[s];
        if (planned->type != DNS_MX)
            continue;
        planned_sets++;
        left(rules, planned);
        for (size_t i = 0; i < planned->count; i++)
            if (dns_target(DNS_MX, planned->values[i], host) && host[0])
                target(rules, planned->name, host);
        priorities(rules, planned);
        null_mx(rules, planned);
    }
    if (planned_sets == 0)
        dns_rule_find(
            rules, "mx", DNS_RULE_NOTE,
            "Plan record \"MX\" { name = \"@\" ... } when mail shall go elsewhere.",
            "%s: no MX record is planned, the live one stays", rules->domain->name);
    else if (rules->out->count == before)
        dns_rule_find(rules, "mx", DNS_RULE_PASS, NULL,
                      "no old MX beside new ones; every planned MX has an address");
}
