/*
 * check_host() of RFC 7208 section 4: the order of the terms, include, redirect,
 * the limits and the explanation. Records are parsed by spf_record.c, macros
 * expanded by spf_macro.c; a, mx, ptr and exists are matched by libspf2
 * (spf_match.c), one mechanism at a time.
 *
 * What is judged here and not in libspf2 1.2.10, and why (measured):
 *   - the record as a whole: it takes malformed terms and macros for good, "exp"
 *     and "redirect" twice or before mechanisms for others than they are, and
 *     refuses records of more than 511 bytes in its own form (some 60 ip4 terms);
 *   - ip4 and ip6: it refuses a prefix length of 0 and any IPv6 address written in
 *     more than 15 characters;
 *   - macros and explanations: it has other delimiters than the RFC, escapes
 *     otherwise, cuts no long names, and its code for them has overflows of which
 *     Debian 12 has not mended all;
 *   - the limits (4.6.4): ten terms, counted when they are evaluated; two terms of
 *     void lookups; that an include of nothing is an error.
 *
 * A domain without a record costs one look into the resolver's cache and nothing
 * else. Nothing here fails but with a result: no memory is temperror.
 */
#include "spf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dnsdata.h"
#include "spf_answer.h"
#include "spf_identity.h"
#include "spf_match.h"
#include "spf_prefetch.h"

#define LOOKUPS_MAX     10
#define VOIDS_MAX       2
#define EXPLANATION_MAX 320
#define MECHANISM_SHOWN 120

struct spf {
    struct resolver *resolver;
    struct spf_engines *engines;
};

/* One evaluation. */
struct check {
    struct spf *spf;
    const struct spf_question *question;
    struct spf_identity identity;
    struct spf_outcome *out;
    unsigned voids;
    char validated[SPF_NAME_MAX + 1]; /* %{p} for the domain asked about last */
};

static enum auth_result check_host(struct check *check, const char *domain,
                                   bool included);

/* ---- what is said ------------------------------------------------------- */

static void make_printable(char *text)
{
    for (; *text; text++) {
        if (*text < 0x20 || *text > 0x7e)
            *text = '?';
    }
}

__attribute__((format(printf, 2, 3))) static void say(struct check *check,
                                                      const char *format, ...)
{
    char *reason = check->out->reason;
    size_t size = sizeof(check->out->reason);
    va_list args;

    va_start(args, format);
    int n = vsnprintf(reason, size, format, args);
    va_end(args);
    if (n < 0)
        reason[0] = '\0';
    else if ((size_t)n >= size)
        memcpy(reason + size - 4, "...", 4);
    make_printable(reason);
}

static enum auth_result permerror(struct check *check, const char *domain,
                                  const char *what)
{
    say(check, "%s: %s", domain, what);
    return AUTH_PERMERROR;
}

/* ---- macros ------------------------------------------------------------- */

static bool has_client(struct check *check, const struct answer *answer)
{
    const struct netaddr *client = &check->question->client;
    struct netaddr address;

    for (size_t i = 0; answer->kind == ANSWER_DATA && i < answer->count; i++) {
        if (dns_address(&answer->records[i], client->family == AF_INET ? RR_A : RR_AAAA,
                        &address) &&
            netaddr_equal(&address, client))
            return true;
    }
    return false;
}

/* 0: any name, 1: below the domain, 2: the domain itself. */
static int preference(const char *name, const char *domain)
{
    return !spf_is_below(name, domain) ? 0 : strlen(name) == strlen(domain) ? 2 : 1;
}

/* %{p} (RFC 7208 7.3): the client's name that its own address confirms; of
 * several the domain itself before one below it before any. */
static void validate_client(struct check *check, const char *domain)
{
    const struct netaddr *client = &check->question->client;
    struct resolver *resolver = check->spf->resolver;
    int64_t deadline = check->question->deadline_ms;
    struct query *asked[SPF_NAMES_MAX];
    struct spf_names names;
    char reverse[80];
    int best = -1;

    dns_reverse_name(client, reverse);
    struct query *query = resolver_ask(resolver, reverse, RR_PTR);
    spf_pointers(query_wait(query, deadline), &names);
    query_drop(query);
    for (size_t i = 0; i < names.count; i++)
        asked[i] = resolver_ask(resolver, names.name[i],
                                client->family == AF_INET ? RR_A : RR_AAAA);
    memcpy(check->validated, "unknown", sizeof("unknown"));
    for (size_t i = 0; i < names.count; i++) {
        int good = preference(names.name[i], domain);
        if (good > best && has_client(check, query_wait(asked[i], deadline))) {
            best = good;
            memcpy(check->validated, names.name[i], strlen(names.name[i]) + 1);
        }
        query_drop(asked[i]);
    }
}

static struct spf_macro_values values_for(struct check *check, const char *domain,
                                          const char *text, size_t len)
{
    struct spf_macro_values values = check->identity.values;

    values.domain = domain;
    if (spf_macro_used(text, len, 'p')) {
        validate_client(check, domain);
        values.validated = check->validated;
    }
    return values;
}

static bool expand_domain(struct check *check, const char *domain, const char *spec,
                          size_t len, char name[SPF_NAME_MAX + 1])
{
    struct spf_macro_values values = values_for(check, domain, spec, len);

    return spf_macro_domain(spec, len, &values, name);
}

/* ---- explanations ------------------------------------------------------- */

/* The text an exp= leads to. Whatever is wrong with it, there is none (6.2). */
static bool read_explanation(struct check *check, const char *domain,
                             const struct spf_record *record, char *text, size_t size)
{
    char name[SPF_NAME_MAX + 1], raw[SPF_RECORD_MAX];
    size_t len;

    if (!record->exp || !expand_domain(check, domain, record->exp, record->exp_len, name))
        return false;
    struct query *query = resolver_ask(check->spf->resolver, name, RR_TXT);
    const struct answer *answer = query_wait(query, check->question->deadline_ms);
    bool ok = answer->kind == ANSWER_DATA && answer->count == 1 &&
              spf_join(&answer->records[0], raw, sizeof(raw), &len) && len > 0;
    query_drop(query);
    if (!ok || !spf_macros_are_sound(raw, len, SPF_IN_EXPLANATION))
        return false;
    struct spf_macro_values values = values_for(check, domain, raw, len);
    return spf_macro_expand(raw, len, &values, text, size);
}

static void explain(struct check *check, const char *domain,
                    const struct spf_record *record, enum auth_result result)
{
    char client[NETADDR_TEXT_MAX + 1], text[EXPLANATION_MAX + 1];

    netaddr_format(&check->question->client, client);
    if (result == AUTH_FAIL && record &&
        read_explanation(check, domain, record, text, sizeof(text)))
        say(check, "%s explains: %s", domain, text);
    else if (result == AUTH_FAIL)
        say(check, "%s may not send for %s", client, check->out->domain);
    else if (result == AUTH_SOFTFAIL)
        say(check, "%s should not send for %s", client, check->out->domain);
    else if (result == AUTH_NEUTRAL)
        say(check, "%s says nothing of %s", check->out->domain, client);
    else
        check->out->reason[0] = '\0';
}

/* ---- mechanisms --------------------------------------------------------- */

/* What follows answers NONE where the evaluation goes on: a term that does not
 * match, a limit that is kept. */

static enum auth_result count_lookup(struct check *check, const char *domain)
{
    if (++check->out->lookups <= LOOKUPS_MAX)
        return AUTH_NONE;
    return permerror(check, domain, "more than ten terms that ask DNS");
}

/* The result of a term that matched (4.6.2). */
static enum auth_result qualified(const struct spf_term *term)
{
    switch (term->qualifier) {
    case '-':
        return AUTH_FAIL;
    case '~':
        return AUTH_SOFTFAIL;
    case '?':
        return AUTH_NEUTRAL;
    default:
        return AUTH_PASS;
    }
}

static enum auth_result evaluate_include(struct check *check, const char *domain,
                                         const struct spf_term *term, const char *name)
{
    switch (check_host(check, name, true)) {
    case AUTH_PASS:
        return qualified(term);
    case AUTH_TEMPERROR:
        return AUTH_TEMPERROR;
    case AUTH_PERMERROR:
        return AUTH_PERMERROR;
    case AUTH_NONE:
        say(check, "%s: included %s has no SPF record", domain, name);
        return AUTH_PERMERROR;
    default:
        return AUTH_NONE;
    }
}

static enum auth_result evaluate_lookup(struct check *check, const char *domain,
                                        const struct spf_term *term, const char *name)
{
    struct spf_match_outcome outcome;
    struct spf_mechanism_question question = {
        .mechanism = term->mechanism,
        .client = check->question->client,
        .name = name,
        .bits = check->question->client.family == AF_INET ? term->bits4 : term->bits6,
        .deadline_ms = check->question->deadline_ms,
    };

    spf_match(check->spf->engines, &question, &outcome);
    if (outcome.is_void && ++check->voids > VOIDS_MAX)
        return permerror(check, domain, "more than two terms whose names are not there");
    switch (outcome.match) {
    case SPF_MATCH:
        return qualified(term);
    case SPF_NO_MATCH:
        return AUTH_NONE;
    default:
        say(check, "%s: %.*s: %s", domain, (int)term->len, term->text,
            outcome.why ? outcome.why : "DNS failed");
        return outcome.match == SPF_MATCH_PERMERROR ? AUTH_PERMERROR : AUTH_TEMPERROR;
    }
}

static enum auth_result evaluate(struct check *check, const char *domain,
                                 const struct spf_term *term)
{
    char name[SPF_NAME_MAX + 1];

    if (term->mechanism == SPF_ALL)
        return qualified(term);
    if (term->mechanism == SPF_IP4 || term->mechanism == SPF_IP6)
        return netblock_has(&term->block, &check->question->client) ? qualified(term)
                                                                    : AUTH_NONE;
    enum auth_result result = count_lookup(check, domain);
    if (result != AUTH_NONE)
        return result;
    if (term->domain_len == 0)
        memcpy(name, domain, strlen(domain) + 1);
    else if (!expand_domain(check, domain, term->domain, term->domain_len, name))
        return permerror(check, domain, "a macro's value is too long");
    if (term->mechanism == SPF_INCLUDE)
        return evaluate_include(check, domain, term, name);
    return evaluate_lookup(check, domain, term, name);
}

/* ---- records ------------------------------------------------------------ */

/* NULL: result is what that means. */
static struct spf_loaded *load(struct check *check, const char *domain,
                               enum auth_result *result)
{
    char why[256];
    struct spf_loaded *loaded = NULL;
    struct query *query = resolver_ask(check->spf->resolver, domain, RR_TXT);
    const struct answer *answer = query_wait(query, check->question->deadline_ms);
    enum spf_load load = SPF_LOAD_NONE;

    if (answer->kind == ANSWER_DATA || answer->kind == ANSWER_FAILED) {
        loaded = malloc(sizeof(*loaded));
        load = loaded ? spf_load(answer, loaded, why, sizeof(why)) : SPF_LOAD_TEMPERROR;
        if (!loaded)
            snprintf(why, sizeof(why), "no memory");
    }
    query_drop(query);
    if (load == SPF_LOADED)
        return loaded;
    free(loaded);
    if (load == SPF_LOAD_NONE)
        say(check, "%s has no SPF record", domain);
    else
        say(check, "%s: %s", domain, why);
    *result = load == SPF_LOAD_NONE        ? AUTH_NONE
              : load == SPF_LOAD_PERMERROR ? AUTH_PERMERROR
                                           : AUTH_TEMPERROR;
    return NULL;
}

static void note_term(struct check *check, const struct spf_term *term)
{
    int shown = term->len > MECHANISM_SHOWN ? MECHANISM_SHOWN : (int)term->len;

    snprintf(check->out->mechanism, sizeof(check->out->mechanism), "%.*s%s", shown,
             term->text, (size_t)shown < term->len ? "..." : "");
    check->out->by_all = term->mechanism == SPF_ALL && term->qualifier != '+';
}

/* NONE: no term matched. */
static enum auth_result evaluate_terms(struct check *check, const char *domain,
                                       const struct spf_record *record, bool included)
{
    for (size_t i = 0; i < record->count; i++) {
        const struct spf_term *term = &record->terms[i];
        enum auth_result result = evaluate(check, domain, term);
        if (result == AUTH_NONE)
            continue;
        if (!included && result != AUTH_TEMPERROR && result != AUTH_PERMERROR) {
            note_term(check, term);
            explain(check, domain, record, result);
        }
        return result;
    }
    return AUTH_NONE;
}

/* Where a record without a match leads (6.1, 4.7): false, the result is known. */
static bool follow_redirect(struct check *check, const char *domain,
                            const struct spf_record *record, char name[SPF_NAME_MAX + 1],
                            enum auth_result *result)
{
    if (!record->redirect) {
        *result = AUTH_NEUTRAL;
        return false;
    }
    *result = count_lookup(check, domain);
    if (*result != AUTH_NONE)
        return false;
    if (expand_domain(check, domain, record->redirect, record->redirect_len, name))
        return true;
    *result = permerror(check, domain, "a macro's value is too long");
    return false;
}

static enum auth_result check_host(struct check *check, const char *domain, bool included)
{
    char name[SPF_NAME_MAX + 1], next[SPF_NAME_MAX + 1];
    enum auth_result result;
    bool redirected = false;

    memcpy(name, domain, strlen(domain) + 1);
    for (;;) {
        struct spf_loaded *loaded = load(check, name, &result);
        if (!loaded)
            break;
        result = evaluate_terms(check, name, &loaded->record, included);
        bool on = result == AUTH_NONE &&
                  follow_redirect(check, name, &loaded->record, next, &result);
        if (result == AUTH_NEUTRAL && !included && !check->out->mechanism[0]) {
            check->out->by_all = true;
            explain(check, name, NULL, result);
        }
        free(loaded);
        if (!on)
            return result;
        memcpy(name, next, strlen(next) + 1);
        redirected = true;
    }
    if (result == AUTH_NONE && redirected) {
        say(check, "%s: redirected to %s, which has no SPF record", domain, name);
        result = AUTH_PERMERROR;
    }
    return result;
}

/* ---- the interface ------------------------------------------------------ */

struct spf *spf_new(struct resolver *resolver)
{
    struct spf *spf = malloc(sizeof(*spf));

    if (!spf)
        return NULL;
    spf->resolver = resolver;
    spf->engines = spf_engines_new(resolver);
    if (spf->engines)
        return spf;
    free(spf);
    return NULL;
}

void spf_free(struct spf *spf)
{
    spf_engines_free(spf->engines);
    free(spf);
}

void spf_prefetch(struct spf *spf, const struct spf_question *question)
{
    spf_prefetch_begin(spf->resolver, question);
}

void spf_check(struct spf *spf, const struct spf_question *question,
               struct spf_outcome *out)
{
    struct check check = { .spf = spf, .question = question, .out = out };
    const char *why;

    out->by_all = false;
    out->mechanism[0] = out->reason[0] = out->domain[0] = '\0';
    out->lookups = 0;
    out->result = AUTH_NONE;
    if (!spf_identity_of(question, &check.identity, &why)) {
        say(&check, "%s", why);
        return;
    }
    memcpy(out->domain, check.identity.domain, strlen(check.identity.domain) + 1);
    if (question->client.family == AF_UNSPEC) {
        say(&check, "the client's address is not known");
        return;
    }
    out->result = check_host(&check, check.identity.domain, false);
}
