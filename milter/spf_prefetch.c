/*
 * What spf_check() will ask DNS, asked ahead (RFC 7208 4.6.4 bounds it: ten terms,
 * ten names each; here SPF_PREFETCH_MAX queries in all, whatever a record names).
 *
 * Each answer comes in the resolver's thread (or at once, from its cache) and
 * begins what it leads to: a record the queries of its terms, MX and PTR records
 * the addresses of their names. What the evaluation will not reach is not asked
 * for: terms behind "all" or behind an address block that the client is in.
 * Nothing is kept: the answers are in the resolver's cache when they are needed.
 *
 * The resolver's thread serves all messages and is not to be kept busy by one:
 * what only an attacker writes (senders past RFC 5321 4.5.3.1, domain-specs of
 * dozens of macros) is left to spf_check(), and so is everything once the budget is
 * spent.
 */
#include "spf_prefetch.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "dnsdata.h"
#include "spf_answer.h"
#include "spf_identity.h"

#define SENDER_MAX 320 /* 64 and 255 bytes, and '@' */
#define SPEC_MAX   128

/* One prefetch; freed by the last errand. */
struct prefetch {
    atomic_int errands; /* and the function that began it */
    atomic_int budget;
    struct resolver *resolver;
    struct spf_identity identity;
};

/* One query whose answer leads to others. */
struct errand {
    struct prefetch *prefetch;
    enum { ERRAND_RECORD, ERRAND_EXCHANGES, ERRAND_POINTERS } what;
    char domain[SPF_NAME_MAX + 1]; /* of a record */
};

static void leave(struct prefetch *prefetch)
{
    if (atomic_fetch_sub(&prefetch->errands, 1) == 1)
        free(prefetch);
}

static bool spend(struct prefetch *prefetch)
{
    return atomic_fetch_sub(&prefetch->budget, 1) > 0;
}

static void arrived(void *context, const struct answer *answer);

/* A query whose answer leads nowhere. */
static void ask(struct prefetch *prefetch, const char *name, enum rr_type type)
{
    if (spend(prefetch))
        query_drop(resolver_ask(prefetch->resolver, name, type));
}

static void ask_addresses(struct prefetch *prefetch, const char *name)
{
    int family = prefetch->identity.values.client.family;

    if (family != AF_INET6)
        ask(prefetch, name, RR_A);
    if (family != AF_INET)
        ask(prefetch, name, RR_AAAA);
}

static void send_errand(struct prefetch *prefetch, int what, const char *name,
                        enum rr_type type)
{
    struct errand *errand = spend(prefetch) ? malloc(sizeof(*errand)) : NULL;
    size_t len = strlen(name);

    if (!errand)
        return;
    errand->prefetch = prefetch;
    errand->what = what;
    memcpy(errand->domain, name, len + 1);
    atomic_fetch_add(&prefetch->errands, 1);
    resolver_ask_then(prefetch->resolver, name, type, arrived, errand);
}

static void ask_pointers(struct prefetch *prefetch)
{
    char name[80];

    if (prefetch->identity.values.client.family == AF_UNSPEC)
        return;
    dns_reverse_name(&prefetch->identity.values.client, name);
    send_errand(prefetch, ERRAND_POINTERS, name, RR_PTR);
}

/* The name that a domain-spec stands for. false: not known yet, or left out. */
static bool expand(struct prefetch *prefetch, const char *domain, const char *spec,
                   size_t len, char name[SPF_NAME_MAX + 1])
{
    struct spf_macro_values values = prefetch->identity.values;

    if (len > SPEC_MAX || atomic_load(&prefetch->budget) <= 0)
        return false;
    if (spf_macro_used(spec, len, 'p'))
        ask_pointers(prefetch);
    values.domain = domain;
    return spf_macro_domain(spec, len, &values, name);
}

static void ask_term(struct prefetch *prefetch, const char *domain,
                     const struct spf_term *term)
{
    char name[SPF_NAME_MAX + 1];

    if (term->domain_len == 0)
        memcpy(name, domain, strlen(domain) + 1);
    else if (!expand(prefetch, domain, term->domain, term->domain_len, name))
        return;
    switch (term->mechanism) {
    case SPF_INCLUDE:
        send_errand(prefetch, ERRAND_RECORD, name, RR_TXT);
        break;
    case SPF_A:
        ask_addresses(prefetch, name);
        break;
    case SPF_MX:
        send_errand(prefetch, ERRAND_EXCHANGES, name, RR_MX);
        break;
    case SPF_PTR:
        ask_pointers(prefetch);
        break;
    case SPF_EXISTS:
        ask(prefetch, name, RR_A);
        break;
    default:
        break;
    }
}

static void ask_modifiers(struct prefetch *prefetch, const char *domain,
                          const struct spf_record *record, bool reached)
{
    char name[SPF_NAME_MAX + 1];

    if (record->redirect && reached &&
        expand(prefetch, domain, record->redirect, record->redirect_len, name))
        send_errand(prefetch, ERRAND_RECORD, name, RR_TXT);
    if (record->exp && expand(prefetch, domain, record->exp, record->exp_len, name))
        ask(prefetch, name, RR_TXT);
}

static void ask_terms(struct prefetch *prefetch, const char *domain,
                      const struct spf_record *record)
{
    const struct netaddr *client = &prefetch->identity.values.client;

    for (size_t i = 0; i < record->count; i++) {
        const struct spf_term *term = &record->terms[i];
        bool block = term->mechanism == SPF_IP4 || term->mechanism == SPF_IP6;
        if (block && netblock_has(&term->block, client))
            return;
        if (term->mechanism == SPF_ALL) {
            ask_modifiers(prefetch, domain, record, false);
            return;
        }
        ask_term(prefetch, domain, term);
    }
    ask_modifiers(prefetch, domain, record, true);
}

static void ask_record(struct prefetch *prefetch, const char *domain,
                       const struct answer *answer)
{
    char why[256];
    struct spf_loaded *loaded = malloc(sizeof(*loaded));

    if (loaded && atomic_load(&prefetch->budget) > 0 &&
        spf_load(answer, loaded, why, sizeof(why)) == SPF_LOADED)
        ask_terms(prefetch, domain, &loaded->record);
    free(loaded);
}

static void ask_names(struct prefetch *prefetch, const struct spf_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        ask_addresses(prefetch, names->name[i]);
}

static void arrived(void *context, const struct answer *answer)
{
    struct errand *errand = context;
    struct spf_names names;

    switch (errand->what) {
    case ERRAND_EXCHANGES:
        spf_exchanges(answer, &names);
        ask_names(errand->prefetch, &names);
        break;
    case ERRAND_POINTERS:
        spf_pointers(answer, &names);
        ask_names(errand->prefetch, &names);
        break;
    default:
        ask_record(errand->prefetch, errand->domain, answer);
        break;
    }
    leave(errand->prefetch);
    free(errand);
}

void spf_prefetch_begin(struct resolver *resolver, const struct spf_question *question)
{
    struct prefetch *prefetch = malloc(sizeof(*prefetch));
    const char *why;

    if (!prefetch)
        return;
    atomic_init(&prefetch->errands, 1);
    atomic_init(&prefetch->budget, SPF_PREFETCH_MAX);
    prefetch->resolver = resolver;
    if (spf_identity_of(question, &prefetch->identity, &why) &&
        strlen(prefetch->identity.sender) <= SENDER_MAX)
        send_errand(prefetch, ERRAND_RECORD, prefetch->identity.domain, RR_TXT);
    leave(prefetch);
}
