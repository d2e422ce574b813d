/*
 * dmarc: see dmarc.h. A message in two steps: dmarc_new() asks for every record
 * that may apply, dmarc_finish() waits for what it needs of them.
 *
 * Where the record is, in order of preference:
 * - dmarc-discovery = psl (RFC 7489 6.6.3): at the author's domain, else at its
 *   organisational domain by the public suffix list. Several records at one name
 *   end the search.
 * - dmarc-discovery = treewalk (RFC 9989 4.10.1): at the author's domain, else at
 *   its organisational domain by the tree walk, else at the public suffix domain
 *   (psd=y) that the walk ended at. Several records at one name count as none.
 *
 * Answers that are not needed are not waited for, and their failure does not
 * matter: a TLD server that is down spoils no message whose author signs as
 * itself. Alignment of other identifiers in a tree walk: see by_walk().
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dmarc.h"
#include "dmarc_walk.h"

/* An author's domain. */
struct dmarc {
    struct resolver *resolver;
    const struct suffixes *suffixes;
    enum conf_discovery discovery;
    struct dmarc_walk author;
    struct dmarc *next; /* another one of the same message; or NULL */
};

/* ---- asking -------------------------------------------------------------- */

/* The names at which the record may be: two by the list, up to eight by a walk. */
static void ask_for_author(struct dmarc *dmarc)
{
    struct dmarc_walk *walk = &dmarc->author;
    char organisation[ADDR_DOMAIN_MAX + 1];

    if (dmarc->discovery == DISCOVERY_TREEWALK) {
        dmarc_walk_ask_tree(walk, dmarc->resolver, "");
        return;
    }
    suffixes_organisation(dmarc->suffixes, walk->domain, organisation);
    dmarc_walk_ask(walk, dmarc->resolver, walk->domain);
    if (strcmp(organisation, walk->domain) != 0)
        dmarc_walk_ask(walk, dmarc->resolver,
                       walk->domain + strlen(walk->domain) - strlen(organisation));
}

struct dmarc *dmarc_new(struct resolver *resolver, const struct suffixes *suffixes,
                        enum conf_discovery discovery, const char *from_domain)
{
    struct dmarc *dmarc = malloc(sizeof(*dmarc));
    if (!dmarc)
        return NULL;
    dmarc->resolver = resolver;
    dmarc->suffixes = suffixes;
    dmarc->discovery = discovery;
    dmarc->next = NULL;
    if (dmarc_walk_start(&dmarc->author, from_domain ? from_domain : "", discovery) &&
        dmarc->author.domain[0])
        ask_for_author(dmarc);
    return dmarc;
}

void dmarc_add(struct dmarc *dmarc, const char *from_domain)
{
    struct dmarc *other =
        dmarc_new(dmarc->resolver, dmarc->suffixes, dmarc->discovery, from_domain);

    while (dmarc->next)
        dmarc = dmarc->next;
    dmarc->next = other;
}

void dmarc_free(struct dmarc *dmarc)
{
    while (dmarc) {
        struct dmarc *next = dmarc->next;
        dmarc_walk_drop(&dmarc->author);
        free(dmarc);
        dmarc = next;
    }
}

/* What ask_for_author() asked for last. */
static const char *list_organisation(const struct dmarc_walk *author)
{
    return author->steps[author->count - 1].name;
}

/* ---- saying -------------------------------------------------------------- */

/* One line; one that does not fit says so. */
__attribute__((format(printf, 3, 4))) static void
conclude(struct dmarc_outcome *out, enum auth_result result, const char *format, ...)
{
    va_list args;

    out->result = result;
    va_start(args, format);
    int len = vsnprintf(out->reason, sizeof(out->reason), format, args);
    va_end(args);
    if (len < 0)
        out->reason[0] = '\0';
    else if ((size_t)len >= sizeof(out->reason))
        memcpy(out->reason + sizeof(out->reason) - 4, "...", 4);
}

static void conclude_dns_failed(struct dmarc_outcome *out, const struct dmarc_walk *walk)
{
    conclude(out, AUTH_TEMPERROR, "%s: _dmarc.%s",
             walk->trouble ? walk->trouble : "DNS failed",
             walk->known ? walk->steps[walk->known - 1].name : walk->domain);
}

static void conclude_no_record(struct dmarc_outcome *out, const struct dmarc_walk *author)
{
    conclude(out, AUTH_NONE, "no DMARC record");
    for (size_t i = 0; i < author->known; i++)
        if (author->several[i])
            conclude(out, AUTH_NONE, "several DMARC records, so none: _dmarc.%s",
                     author->steps[i].name);
}

/* ---- the record that applies --------------------------------------------- */

#define NO_STEP SIZE_MAX

static size_t find_by_list(struct dmarc_walk *author, int64_t deadline_ms)
{
    while (author->known < author->count) {
        if (dmarc_walk_step(author, deadline_ms)->kind != DMARC_STEP_ABSENT)
            return author->known - 1;
        if (author->several[author->known - 1])
            break;
    }
    return NO_STEP;
}

static size_t find_by_walk(struct dmarc_walk *author, int64_t deadline_ms)
{
    if (dmarc_walk_step(author, deadline_ms)->kind != DMARC_STEP_ABSENT)
        return 0;
    const char *organisation = dmarc_walk_organisation(author, deadline_ms);
    if (!organisation)
        return author->known - 1;
    for (size_t i = 0; i < author->known; i++)
        if (author->steps[i].kind == DMARC_STEP_RECORD &&
            author->steps[i].name == organisation)
            return i;
    const struct dmarc_step *last = &author->steps[author->known - 1];
    bool suffix = last->kind == DMARC_STEP_RECORD && last->psd == DMARC_PSD_YES;
    return suffix ? author->known - 1 : NO_STEP;
}

/* np is for an author's domain that does not exist: NXDOMAIN (RFC 9989, as RFC
 * 8020). Anything below it in DNS shows that it does. Where DNS does not tell, it
 * is the milder of sp and np: a policy is not guessed at. */
static bool np_applies(struct dmarc *dmarc, const struct dmarc_record *record,
                       int64_t deadline_ms)
{
    if (!record->has_np || !dmarc->author.bare || record->np == record->sp)
        return false;
    struct query *query = resolver_ask(dmarc->resolver, dmarc->author.domain, RR_A);
    enum answer_kind kind = query_wait(query, deadline_ms)->kind;
    query_drop(query);
    return kind == ANSWER_FAILED ? record->np < record->sp : kind == ANSWER_NXDOMAIN;
}

static void choose_policy(struct dmarc *dmarc, size_t found, int64_t deadline_ms,
                          struct dmarc_outcome *out)
{
    const struct dmarc_record *record = &dmarc->author.records[found];

    if (found > 0 && np_applies(dmarc, record, deadline_ms)) {
        out->policy = record->np;
        out->policy_tag = "np";
    } else if (found > 0 && record->has_sp) {
        out->policy = record->sp;
        out->policy_tag = "sp";
    } else {
        out->policy = record->p;
        out->policy_tag = "p";
    }
}

/* NULL: out says what there is instead. */
static const struct dmarc_record *discover(struct dmarc *dmarc, int64_t deadline_ms,
                                           struct dmarc_outcome *out)
{
    struct dmarc_walk *author = &dmarc->author;
    size_t found = dmarc->discovery == DISCOVERY_PSL ? find_by_list(author, deadline_ms)
                                                     : find_by_walk(author, deadline_ms);
    if (found == NO_STEP) {
        conclude_no_record(out, author);
        return NULL;
    }
    if (author->steps[found].kind == DMARC_STEP_FAILED) {
        conclude_dns_failed(out, author);
        return NULL;
    }
    const struct dmarc_record *record = &author->records[found];
    const char *name = author->steps[found].name;
    memcpy(out->record_at, name, strlen(name) + 1);
    if (!record->usable) {
        conclude(out, AUTH_PERMERROR, "%s", record->trouble);
        return NULL;
    }
    choose_policy(dmarc, found, deadline_ms, out);
    return record;
}

/* ---- alignment ----------------------------------------------------------- */

enum alignment { NOT_ALIGNED, NOT_KNOWN, ALIGNED, TO_BE_ASKED }; /* rising */

/* A domain that SPF or DKIM authenticated, or could not tell about. */
struct identifier {
    enum auth_result result; /* AUTH_PASS or AUTH_TEMPERROR */
    bool dkim, strict;
    char domain[ADDR_DOMAIN_MAX + 1];
    enum alignment alignment;
    struct dmarc_walk *walk; /* asked for it; or NULL */
};

static const char *last_label(const char *domain)
{
    const char *dot = strrchr(domain, '.');
    return dot ? dot + 1 : domain;
}

/* Whether the author's organisational domain O is the identifier's too, with as
 * few questions as can be:
 * - it is not the identifier nor above it: no, since the identifier's own is;
 * - it is the identifier: yes, a walk from there ends where the author's did;
 * - it is above: unless a name between says psd=y or psd=n, which has to be asked.
 *   One exception: the author's own record says psd=y. Then the author is an
 *   organisation of its own, and what lies below it are others. */
static enum alignment by_walk(struct dmarc_walk *author, const char *identifier,
                              int64_t deadline_ms)
{
    if (strcmp(last_label(identifier), last_label(author->domain)) != 0)
        return NOT_ALIGNED;
    const char *organisation = dmarc_walk_organisation(author, deadline_ms);
    if (!organisation)
        return NOT_KNOWN;
    if (!dmarc_is_within(identifier, organisation))
        return NOT_ALIGNED;
    if (strcmp(identifier, organisation) == 0)
        return ALIGNED;
    if (author->steps[0].kind == DMARC_STEP_RECORD &&
        author->steps[0].psd == DMARC_PSD_YES)
        return NOT_ALIGNED;
    return TO_BE_ASKED;
}

static enum alignment align(struct dmarc *dmarc, const struct identifier *identifier,
                            int64_t deadline_ms)
{
    const char *author = dmarc->author.domain;
    bool aligned;

    if (identifier->strict || strcmp(identifier->domain, author) == 0)
        aligned = dmarc_aligned(true, author, "", identifier->domain, "");
    else if (dmarc->discovery == DISCOVERY_PSL)
        aligned =
            dmarc_aligned_by_list(dmarc->suffixes, false, author,
                                  list_organisation(&dmarc->author), identifier->domain);
    else
        return by_walk(&dmarc->author, identifier->domain, deadline_ms);
    return aligned ? ALIGNED : NOT_ALIGNED;
}

/* A walk leaves out names of more than seven labels but the one it begins at, so
 * from below it may not come by a longer organisational domain at all. */
static bool is_beyond_walks(const char *organisation)
{
    size_t labels = 1;
    for (; *organisation; organisation++)
        labels += *organisation == '.';
    return labels >= DMARC_TREE_MAX;
}

/* Asks for the identifier's steps below the organisational domain of the author;
 * from there on its walk is the author's. */
static void ask_for_identifier(struct dmarc *dmarc, struct identifier *identifier,
                               int64_t deadline_ms)
{
    const char *organisation = dmarc_walk_organisation(&dmarc->author, deadline_ms);
    struct dmarc_walk *walk = malloc(sizeof(*walk));

    if (!walk)
        return;
    identifier->walk = walk;
    dmarc_walk_start(walk, identifier->domain, dmarc->discovery);
    dmarc_walk_ask_tree(walk, dmarc->resolver,
                        is_beyond_walks(organisation) ? "" : organisation);
}

static enum alignment wait_for_identifier(struct dmarc *dmarc,
                                          struct identifier *identifier,
                                          int64_t deadline_ms)
{
    struct dmarc_walk *walk = identifier->walk;
    const char *wanted = dmarc_walk_organisation(&dmarc->author, deadline_ms);
    bool aligned;

    if (!walk)
        return NOT_KNOWN;
    const struct dmarc_step *last = dmarc_walk_through(walk, deadline_ms);
    if (last->kind == DMARC_STEP_FAILED)
        return NOT_KNOWN;
    if (is_beyond_walks(wanted))
        aligned = dmarc_aligned(false, dmarc->author.domain, wanted, walk->domain,
                                dmarc_walk_organisation(walk, deadline_ms));
    else
        aligned = !dmarc_tree_ends(last);
    return aligned ? ALIGNED : NOT_ALIGNED;
}

/* ---- the evidence -------------------------------------------------------- */

struct evidence {
    struct identifier *identifiers;
    size_t count;
};

/* Other results, and what is no domain, say nothing. */
static void add_identifier(struct evidence *evidence, enum auth_result result, bool dkim,
                           bool strict, const char *domain)
{
    struct identifier *identifier = &evidence->identifiers[evidence->count];

    if ((result != AUTH_PASS && result != AUTH_TEMPERROR) || !domain ||
        !addr_domain(domain, strlen(domain), identifier->domain))
        return;
    identifier->result = result;
    identifier->dkim = dkim;
    identifier->strict = strict;
    identifier->walk = NULL;
    evidence->count++;
}

static bool collect(const struct dmarc_evidence *given, const struct dmarc_record *record,
                    struct evidence *out)
{
    out->count = 0;
    out->identifiers = reallocarray(NULL, given->count + 1, sizeof(*out->identifiers));
    if (!out->identifiers)
        return false;
    add_identifier(out, given->spf, false, record->aspf_strict, given->spf_domain);
    for (size_t i = 0; i < given->count; i++)
        add_identifier(out, given->signatures[i].result, true, record->adkim_strict,
                       given->signatures[i].domain);
    return true;
}

static void drop_evidence(struct evidence *evidence)
{
    for (size_t i = 0; i < evidence->count; i++) {
        if (evidence->identifiers[i].walk) {
            dmarc_walk_drop(evidence->identifiers[i].walk);
            free(evidence->identifiers[i].walk);
        }
    }
    free(evidence->identifiers);
}

/* What the identifiers with one result come to, by mechanism: the best of each.
 * First what needs no question, then all questions at once; a mechanism that has
 * an aligned identifier needs no more of them. */
static void judge(struct dmarc *dmarc, struct evidence *evidence, enum auth_result result,
                  int64_t deadline_ms, enum alignment best[2])
{
    struct identifier *end = evidence->identifiers + evidence->count;

    best[0] = best[1] = NOT_ALIGNED;
    for (struct identifier *i = evidence->identifiers; i < end; i++) {
        i->alignment = i->result == result ? align(dmarc, i, deadline_ms) : NOT_ALIGNED;
        if (i->alignment != TO_BE_ASKED && i->alignment > best[i->dkim])
            best[i->dkim] = i->alignment;
    }
    for (struct identifier *i = evidence->identifiers; i < end; i++)
        if (i->alignment == TO_BE_ASKED && best[i->dkim] != ALIGNED)
            ask_for_identifier(dmarc, i, deadline_ms);
    for (struct identifier *i = evidence->identifiers; i < end; i++) {
        if (i->alignment != TO_BE_ASKED || best[i->dkim] == ALIGNED)
            continue;
        i->alignment = wait_for_identifier(dmarc, i, deadline_ms);
        if (i->alignment > best[i->dkim])
            best[i->dkim] = i->alignment;
    }
}

static void weigh(struct dmarc *dmarc, struct evidence *evidence, int64_t deadline_ms,
                  struct dmarc_outcome *out)
{
    enum alignment passed[2], unsure[2];

    judge(dmarc, evidence, AUTH_PASS, deadline_ms, passed);
    out->spf_aligned = passed[0] == ALIGNED;
    out->dkim_aligned = passed[1] == ALIGNED;
    if (out->spf_aligned || out->dkim_aligned) {
        out->result = AUTH_PASS;
        return;
    }
    if (passed[0] == NOT_KNOWN || passed[1] == NOT_KNOWN) {
        conclude(out, AUTH_TEMPERROR, "DNS failed: alignment of %s",
                 passed[1] == NOT_KNOWN ? "DKIM" : "SPF");
        return;
    }
    /* RFC 7489 6.6.2: what could have passed and be aligned leaves it open. */
    judge(dmarc, evidence, AUTH_TEMPERROR, deadline_ms, unsure);
    if (unsure[0] != NOT_ALIGNED || unsure[1] != NOT_ALIGNED)
        conclude(out, AUTH_TEMPERROR, "temporary error of %s",
                 unsure[1] != NOT_ALIGNED ? "DKIM" : "SPF");
    else
        out->result = AUTH_FAIL;
}

/* ---- the result ---------------------------------------------------------- */

static enum dmarc_policy one_step_down(enum dmarc_policy policy)
{
    return policy == DMARC_REJECT ? DMARC_QUARANTINE : DMARC_NONE;
}

/* false: out says why there is nothing to judge. */
static bool may_be_judged(const struct dmarc *dmarc, const struct from_author *author,
                          struct dmarc_outcome *out)
{
    if (author && author->status == FROM_NONE)
        conclude(out, AUTH_NONE, author->fields ? "From names no author" : "no From");
    else if (author && author->status == FROM_DIFFERENT)
        conclude(out, AUTH_PERMERROR, "From names authors of different domains");
    else if (author && author->status == FROM_MALFORMED)
        conclude(out, AUTH_PERMERROR, "From is malformed");
    else if (!dmarc)
        conclude(out, AUTH_TEMPERROR, "out of memory");
    else if (dmarc->author.count == 0)
        conclude(out, AUTH_NONE, "From has no domain");
    else
        return true;
    return false;
}

/* One author's domain. */
static void judge_author(struct dmarc *dmarc, const struct dmarc_evidence *evidence,
                         int64_t deadline_ms, struct dmarc_outcome *out)
{
    bool several = evidence->author && evidence->author->status == FROM_SEVERAL;
    struct evidence found;

    memset(out, 0, sizeof(*out));
    out->policy_tag = "";
    memcpy(out->from, dmarc->author.domain, sizeof(out->from));
    dmarc->author.known = 0;
    const struct dmarc_record *record = discover(dmarc, deadline_ms, out);
    if (!record)
        return;
    if (!collect(evidence, record, &found)) {
        conclude(out, AUTH_TEMPERROR, "out of memory");
        return;
    }
    weigh(dmarc, &found, deadline_ms, out);
    drop_evidence(&found);
    if (several)
        conclude(out, AUTH_FAIL, "From names several authors: never a pass");
    else if (out->result == AUTH_FAIL && record->trouble)
        conclude(out, AUTH_FAIL, "%s: taken as none", record->trouble);
    if (out->result == AUTH_FAIL)
        out->disposition = record->testing || evidence->sample >= (unsigned)record->pct
                               ? one_step_down(out->policy)
                               : out->policy;
}

/* The strictest policy among those of the domains that fail; result and reason
 * stay. */
static void judge_all(struct dmarc *dmarc, const struct dmarc_evidence *evidence,
                      int64_t deadline_ms, struct dmarc_outcome *out)
{
    for (; dmarc; dmarc = dmarc->next) {
        struct dmarc_outcome one;
        if (dmarc->author.count == 0)
            continue;
        judge_author(dmarc, evidence, deadline_ms, &one);
        if (one.result != AUTH_FAIL || one.disposition <= out->disposition)
            continue;
        memcpy(out->from, one.from, sizeof(out->from));
        memcpy(out->record_at, one.record_at, sizeof(out->record_at));
        out->policy = one.policy;
        out->policy_tag = one.policy_tag;
        out->disposition = one.disposition;
    }
}

void dmarc_finish(struct dmarc *dmarc, const struct dmarc_evidence *evidence,
                  int64_t deadline_ms, struct dmarc_outcome *out)
{
    memset(out, 0, sizeof(*out));
    out->policy_tag = "";
    if (may_be_judged(dmarc, evidence->author, out))
        judge_author(dmarc, evidence, deadline_ms, out);
    else if (out->result == AUTH_PERMERROR)
        judge_all(dmarc, evidence, deadline_ms, out);
}
