/*
 * dns_rule: what the rules of sluice dns check share; used by cutover/dns_rule*.c
 * and their tests alone. A rule is a function of struct rules: it adds findings,
 * and PASS when it found nothing wrong. None does I/O but by the resolver that is
 * passed in.
 */
#ifndef SLUICE_DNS_RULE_H
#define SLUICE_DNS_RULE_H

#include "dns_look.h"
#include "dns_rules.h"
#include "dns_snap.h"
#include "dns_spf.h"
#include "names.h"

#define DNS_TTL_BEFORE_MOVE 600 /* seconds */

struct rules {
    const struct conf_domain *domain;
    const struct dns_sets *planned, *live;
    struct dns_sets wild;         /* what wildcards make of names that are not there */
    struct dns_sets future;       /* live, the planned records in their place */
    const struct dns_snap *snaps; /* oldest first */
    size_t snap_count;
    uint32_t negative_ttl;            /* 0: not known, or nothing is absent */
    int64_t now;                      /* Unix time */
    struct dns_spf_resolver resolver; /* future records first, then the world */
    bool before_change;               /* what sluice dns apply mends is no fault yet */
    struct names *senders;            /* addresses that send rightfully */
    struct names *old;                /* those of the old servers */
    struct dns_findings *out;
    bool no_memory;
};

/* live as it will be: future. false: no memory. */
bool dns_rule_future(struct rules *rules);
__attribute__((format(printf, 5, 6))) void
dns_rule_find(struct rules *rules, const char *rule, enum dns_rule_result result,
              const char *fix, const char *fmt, ...);
/* Of what sluice dns apply mends. */
enum dns_rule_result dns_rule_mended(const struct rules *rules);
enum dns_spf_lookup dns_rule_ask(const struct rules *rules, const char *name,
                                 enum dns_type type, struct dns_sets *out);

void dns_rule_mx(struct rules *rules);    /* mx, mx-left, mx-target, mx-priority */
void dns_rule_spf(struct rules *rules);   /* spf-..., of every name that plans one */
void dns_rule_dkim(struct rules *rules);  /* dkim-valid, dkim-size */
void dns_rule_dmarc(struct rules *rules); /* dmarc-valid, dmarc-policy, dmarc-pct */
void dns_rule_ttl(struct rules *rules);   /* ttl, ttl-old, ttl-plan, ttl-negative */
void dns_rule_alias(struct rules *rules); /* alias */

/* What one name server of the zone says of it. */
struct dns_rule_server {
    const char *text, *error; /* error: it gave no answer; else NULL */
    const struct dns_set *ns;
    unsigned long serial;
    bool best; /* the one that others are compared with */
};
/* ns. parent: the delegation, or NULL. */
void dns_rule_ns(struct rules *rules, const char *zone, const struct dns_set *parent,
                 const struct dns_rule_server *servers, size_t count);

#endif
