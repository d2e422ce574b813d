/*
 * dns_spf: walks an SPF record (see dns_spf.h).
 *
 * Differences to a receiver's check_host(): the sender is postmaster@domain and
 * its HELO the domain, since a client address is all that is known; a term whose
 * answer hangs on more than that ("exists", a macro, "ptr") is counted and makes
 * what no other term decides UNKNOWN.
 */
#include "dns_spf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spf_macro.h"
#include "spf_record.h"

#define WALK_MAX  (DNS_SPF_LOOKUPS_MAX * 3) /* a walk that counts costs ends here */
#define DEPTH_MAX 12
#define HOSTS_MAX 10 /* RFC 7208 4.6.4: addresses looked up of one mx */

struct walk {
    const struct netaddr *client;
    const struct dns_spf_resolver *resolver;
    struct dns_spf *out;
    bool unknown; /* a term whose answer is not known went before */
};

static enum dns_spf_result evaluate(struct walk *walk, const char *record,
                                    const char *domain, int depth);

const char *dns_spf_result_name(enum dns_spf_result result)
{
    static const char *const names[] = { "pass",      "fail",      "softfail", "neutral",
                                         "permerror", "temperror", "unknown" };
    return names[result];
}

static enum dns_spf_result trouble(struct walk *walk, enum dns_spf_result result,
                                   const char *domain, const char *what)
{
    if (!walk->out->why[0])
        snprintf(walk->out->why, sizeof(walk->out->why), "%.120s: %.120s", domain, what);
    return result;
}

static enum dns_spf_lookup ask(struct walk *walk, const char *name, enum dns_type type,
                               struct dns_sets *out, const struct dns_set **set)
{
    enum dns_spf_lookup found =
        walk->resolver->ask(walk->resolver->with, name, type, out);
    *set = dns_sets_find(out, name, type);
    return found == DNS_SPF_FOUND && (!*set || (*set)->count == 0) ? DNS_SPF_ABSENT
                                                                   : found;
}

static bool covers(const struct netaddr *client, const char *value,
                   const struct spf_term *term)
{
    struct netblock block;
    if (!netaddr_parse(value, strlen(value), &block.base) ||
        block.base.family != client->family)
        return false;
    block.bits = client->family == AF_INET ? term->bits4 : term->bits6;
    struct netblock of = { *client, block.bits };
    /* netblock_has() wants the bits after the prefix to be 0. */
    for (int bit = block.bits; bit < (client->family == AF_INET ? 32 : 128); bit++) {
        unsigned char mask = (unsigned char)~(0x80u >> (bit % 8));
        block.base.bytes[bit / 8] &= mask;
        of.base.bytes[bit / 8] &= mask;
    }
    return netaddr_equal(&block.base, &of.base);
}

/* The addresses of a host. -1: the lookup failed; 0 no match; 1 match. */
static int match_host(struct walk *walk, const char *host, const struct spf_term *term,
                      bool *any)
{
    static const enum dns_type types[] = { DNS_A, DNS_AAAA };
    int matched = 0;
    for (size_t t = 0; t < 2 && matched == 0; t++) {
        struct dns_sets sets = { 0 };
        const struct dns_set *set;
        if (walk->client && (walk->client->family == AF_INET) != (types[t] == DNS_A))
            continue;
        enum dns_spf_lookup found = ask(walk, host, types[t], &sets, &set);
        if (found == DNS_SPF_FAILED)
            matched = -1;
        for (size_t i = 0; found == DNS_SPF_FOUND && i < set->count; i++) {
            *any = true;
            if (walk->client && covers(walk->client, set->values[i], term))
                matched = 1;
        }
        dns_sets_free(&sets);
    }
    return matched;
}

static int match_mx(struct walk *walk, const char *domain, const struct spf_term *term,
                    bool *any)
{
    struct dns_sets sets = { 0 };
    const struct dns_set *set;
    char host[DNSRECORD_NAME_MAX + 1];
    int matched = 0;
    enum dns_spf_lookup found = ask(walk, domain, DNS_MX, &sets, &set);
    if (found == DNS_SPF_FAILED)
        matched = -1;
    if (found == DNS_SPF_FOUND)
        *any = true;
    for (size_t i = 0; found == DNS_SPF_FOUND && i < set->count && matched == 0; i++) {
        bool some = false;
        if (i >= HOSTS_MAX) {
            trouble(walk, DNS_SPF_PERMERROR, domain, "mx names more than 10 hosts");
            matched = -2;
        } else if (dns_target(DNS_MX, set->values[i], host) && host[0]) {
            matched = match_host(walk, host, term, &some);
        }
    }
    dns_sets_free(&sets);
    return matched;
}

/* The domain that a term is about; false: it hangs on the sender. */
static bool term_domain(const struct walk *walk, const char *spec, size_t len,
                        const char *domain, char out[SPF_NAME_MAX + 1])
{
    char sender[DNSRECORD_NAME_MAX + 16];
    snprintf(sender, sizeof(sender), "postmaster@%s", domain);
    struct spf_macro_values values = { .sender_domain = domain, .domain = domain };
    if (walk->client)
        values.client = *walk->client;
    if (len == 0) {
        snprintf(out, SPF_NAME_MAX + 1, "%s", domain);
        return true;
    }
    if (spf_macro_used(spec, len, 's') || spf_macro_used(spec, len, 'l') ||
        spf_macro_used(spec, len, 'h') || spf_macro_used(spec, len, 'p'))
        return false;
    char expanded[SPF_NAME_MAX + 1];
    return spf_macro_domain(spec, len, &values, expanded) &&
           dnsrecord_name(expanded, strlen(expanded), out);
}

/* Counts one lookup. false: it must not be made. */
static bool may_look(struct walk *walk)
{
    unsigned most = walk->client ? DNS_SPF_LOOKUPS_MAX : WALK_MAX;
    return ++walk->out->lookups <= most;
}

/* RFC 7208 4.5: the one SPF record. */
static enum dns_spf_result included(struct walk *walk, const char *name, int depth)
{
    struct dns_sets sets = { 0 };
    const struct dns_set *set;
    const char *record = NULL;
    size_t records = 0;
    enum dns_spf_result result;
    enum dns_spf_lookup found = ask(walk, name, DNS_TXT, &sets, &set);
    for (size_t i = 0; found == DNS_SPF_FOUND && i < set->count; i++)
        if (spf_record_is(set->values[i], strlen(set->values[i]))) {
            record = set->values[i];
            records++;
        }
    walk->out->voids += found == DNS_SPF_ABSENT;
    if (found == DNS_SPF_FAILED)
        result = trouble(walk, DNS_SPF_TEMPERROR, name, "its SPF record cannot be asked");
    else if (records != 1)
        result = trouble(walk, DNS_SPF_PERMERROR, name,
                         records ? "it has several SPF records" : "it has no SPF record");
    else if (depth >= DEPTH_MAX)
        result = trouble(walk, DNS_SPF_PERMERROR, name, "includes go in a circle");
    else
        result = evaluate(walk, record, name, depth + 1);
    dns_sets_free(&sets);
    return result;
}

enum matched { NO, YES, NOT_KNOWN, BROKEN };

static enum matched match_include(struct walk *walk, const char *name, int depth,
                                  enum dns_spf_result *error)
{
    *error = included(walk, name, depth);
    switch (*error) {
    case DNS_SPF_PASS:
        return YES;
    case DNS_SPF_UNKNOWN:
        return NOT_KNOWN;
    case DNS_SPF_PERMERROR:
    case DNS_SPF_TEMPERROR:
        return BROKEN;
    case DNS_SPF_FAIL:
    case DNS_SPF_SOFTFAIL:
    case DNS_SPF_NEUTRAL:
        break;
    }
    return NO;
}

/* a, mx: in the record's own domain or another. */
static enum matched match_address(struct walk *walk, const struct spf_term *term,
                                  const char *name, enum dns_spf_result *error)
{
    bool any = false;
    int matched = term->mechanism == SPF_MX ? match_mx(walk, name, term, &any)
                                            : match_host(walk, name, term, &any);
    walk->out->voids += matched == 0 && !any;
    if (matched == -1)
        *error = trouble(walk, DNS_SPF_TEMPERROR, name, "its addresses cannot be asked");
    if (matched == -2)
        *error = DNS_SPF_PERMERROR;
    return matched < 0 ? BROKEN : matched > 0 ? YES : NO;
}

static enum matched match_term(struct walk *walk, const struct spf_term *term,
                               const char *domain, int depth, enum dns_spf_result *error)
{
    char name[SPF_NAME_MAX + 1];
    if (term->mechanism == SPF_ALL)
        return YES;
    if (term->mechanism == SPF_IP4 || term->mechanism == SPF_IP6)
        return walk->client && netblock_has(&term->block, walk->client) ? YES : NO;
    if (!may_look(walk)) {
        *error = trouble(walk, DNS_SPF_PERMERROR, domain, "more than 10 DNS lookups");
        return BROKEN;
    }
    if (term->mechanism == SPF_PTR || term->mechanism == SPF_EXISTS ||
        !term_domain(walk, term->domain, term->domain_len, domain, name)) {
        trouble(walk, DNS_SPF_UNKNOWN, domain, "a term hangs on who sends");
        return NOT_KNOWN;
    }
    return term->mechanism == SPF_INCLUDE ? match_include(walk, name, depth, error)
                                          : match_address(walk, term, name, error);
}

static enum dns_spf_result by_qualifier(char qualifier)
{
    return qualifier == '-'   ? DNS_SPF_FAIL
           : qualifier == '~' ? DNS_SPF_SOFTFAIL
           : qualifier == '?' ? DNS_SPF_NEUTRAL
                              : DNS_SPF_PASS;
}

static enum dns_spf_result redirected(struct walk *walk, const struct spf_record *parsed,
                                      const char *domain, int depth)
{
    char name[SPF_NAME_MAX + 1];
    if (!may_look(walk))
        return trouble(walk, DNS_SPF_PERMERROR, domain, "more than 10 DNS lookups");
    if (!term_domain(walk, parsed->redirect, parsed->redirect_len, domain, name))
        return trouble(walk, DNS_SPF_UNKNOWN, domain, "redirect hangs on who sends");
    return included(walk, name, depth);
}

static enum dns_spf_result evaluate(struct walk *walk, const char *record,
                                    const char *domain, int depth)
{
    struct spf_record *parsed = malloc(sizeof(*parsed)); /* too large for a deep stack */
    enum dns_spf_result result = DNS_SPF_NEUTRAL, error = DNS_SPF_NEUTRAL;
    char why[200];
    bool decided = false, all = false;
    if (!parsed)
        return trouble(walk, DNS_SPF_TEMPERROR, domain, "out of memory");
    if (!spf_record_parse(record, strlen(record), parsed, why, sizeof(why))) {
        free(parsed);
        return trouble(walk, DNS_SPF_PERMERROR, domain, why);
    }
    for (size_t i = 0; i < parsed->count && !decided; i++) {
        enum matched matched = match_term(walk, &parsed->terms[i], domain, depth, &error);
        all = all || parsed->terms[i].mechanism == SPF_ALL;
        if (matched == BROKEN) {
            result = error;
            decided = true;
        } else if (matched == NOT_KNOWN) {
            walk->unknown = true;
        } else if (matched == YES && (walk->client || all)) {
            result = by_qualifier(parsed->terms[i].qualifier);
            decided = true;
        }
    }
    if (!all && parsed->redirect && !decided)
        result = redirected(walk, parsed, domain, depth);
    free(parsed);
    if (walk->client && walk->unknown && result != DNS_SPF_PASS &&
        result != DNS_SPF_PERMERROR && result != DNS_SPF_TEMPERROR)
        return DNS_SPF_UNKNOWN;
    return result;
}

void dns_spf_walk(const char *record, const char *domain, const struct netaddr *client,
                  const struct dns_spf_resolver *resolver, struct dns_spf *out)
{
    struct walk walk = { .client = client, .resolver = resolver, .out = out };
    *out = (struct dns_spf){ 0 };
    out->result = evaluate(&walk, record, domain, 0);
}
