/*
 * dns_rules: what must be right about a domain's mail records, before and after
 * they change. Each broken rule comes with an explanation and the fix.
 *
 * The rules look at the zone as it will be: live records, with the planned ones
 * in the place of those they replace; and at the live ones where that is the
 * question (TTL before the move, old MX left behind, name servers).
 */
#ifndef SLUICE_DNS_RULES_H
#define SLUICE_DNS_RULES_H

#include "dns.h"

enum dns_rule_result { DNS_RULE_PASS, DNS_RULE_NOTE, DNS_RULE_FAIL, DNS_RULE_UNKNOWN };
const char *dns_result_name(enum dns_rule_result result);

struct dns_finding {
    const char *rule; /* "spf-valid" */
    enum dns_rule_result result;
    char text[512]; /* what is so, and why it matters */
    char fix[512];  /* "" for PASS */
};
#define DNS_FINDINGS_MAX 512
struct dns_findings {
    struct dns_finding *items;
    size_t count;
    size_t left_out; /* FAIL and UNKNOWN ones past the limit */
};

/* Applies all rules. EXIT_DONE, or another exit code after a message. */
int dns_rules(struct dns_task *task, const struct dns_sets *live,
              struct dns_findings *out);
void dns_findings_free(struct dns_findings *findings);

#endif
