/*
 * dmarc_walk: see dmarc_walk.h. Of the TXT records at a name those that claim to
 * be DMARC count; where that is more than one, none of them does (RFC 7489 6.6.3
 * step 5, RFC 9989 4.10 step 2).
 */
#include <string.h>

#include "dmarc_walk.h"
#include "dnsdata.h"

#define PREFIX "_dmarc."

bool dmarc_walk_start(struct dmarc_walk *walk, const char *domain,
                      enum conf_discovery rules)
{
    size_t len = strlen(domain);

    walk->domain[0] = '\0';
    walk->rules = rules;
    walk->count = walk->known = 0;
    walk->bare = false;
    walk->trouble = NULL;
    if (len > ADDR_DOMAIN_MAX)
        return false;
    memcpy(walk->domain, domain, len + 1);
    return true;
}

void dmarc_walk_ask(struct dmarc_walk *walk, struct resolver *resolver, const char *name)
{
    char at[sizeof(PREFIX) + ADDR_DOMAIN_MAX] = PREFIX;

    memcpy(at + sizeof(PREFIX) - 1, name, strlen(name) + 1);
    walk->steps[walk->count].name = name;
    walk->queries[walk->count++] = resolver_ask(resolver, at, RR_TXT);
}

void dmarc_walk_ask_tree(struct dmarc_walk *walk, struct resolver *resolver,
                         const char *beyond)
{
    const char *names[DMARC_TREE_MAX];
    size_t count = dmarc_tree_names(walk->domain, names);

    for (size_t i = 0; i < count && strlen(names[i]) > strlen(beyond); i++)
        dmarc_walk_ask(walk, resolver, names[i]);
}

void dmarc_walk_drop(struct dmarc_walk *walk)
{
    for (size_t i = 0; i < walk->count; i++)
        query_drop(walk->queries[i]);
    walk->count = walk->known = 0;
}

/* Whether a TXT record that cannot be read, since it is too long or holds a NUL,
 * was to be a DMARC record: its first string tells. */
static bool unreadable_claims(const struct answer_record *record)
{
    return record->len > 1 && record->data[0] < record->len &&
           dmarc_record_claims((const char *)record->data + 1, record->data[0]);
}

/* How many of them are DMARC records, 2 standing for more; out is the first. */
static size_t read_records(const struct answer *answer, enum conf_discovery rules,
                           struct dmarc_record *out)
{
    char text[DMARC_RECORD_MAX + 1];
    size_t found = 0, len = 0;

    for (size_t i = 0; i < answer->count && found < 2; i++) {
        bool readable = dns_txt(&answer->records[i], text, sizeof(text), &len);
        if (readable ? !dmarc_record_claims(text, len)
                     : !unreadable_claims(&answer->records[i]))
            continue;
        if (found++ > 0)
            break;
        if (readable)
            dmarc_record_parse(text, len, rules, out);
        else
            dmarc_record_unusable(out, "its record is too long or holds a NUL");
    }
    return found;
}

const struct dmarc_step *dmarc_walk_step(struct dmarc_walk *walk, int64_t deadline_ms)
{
    size_t i = walk->known++;
    struct dmarc_step *step = &walk->steps[i];
    const struct answer *answer = query_wait(walk->queries[i], deadline_ms);

    step->kind = DMARC_STEP_ABSENT;
    step->psd = DMARC_PSD_UNSAID;
    walk->several[i] = false;
    if (answer->kind == ANSWER_FAILED) {
        step->kind = DMARC_STEP_FAILED;
        walk->trouble = answer->trouble;
    } else if (answer->kind == ANSWER_DATA) {
        size_t found = read_records(answer, walk->rules, &walk->records[i]);
        walk->several[i] = found > 1;
        if (found == 1) {
            step->kind = DMARC_STEP_RECORD;
            step->psd = walk->records[i].psd;
        }
    } else if (answer->kind == ANSWER_NXDOMAIN && step->name == walk->domain) {
        walk->bare = true;
    }
    return step;
}

const struct dmarc_step *dmarc_walk_through(struct dmarc_walk *walk, int64_t deadline_ms)
{
    while (walk->known < walk->count &&
           (walk->known == 0 || !dmarc_tree_ends(&walk->steps[walk->known - 1])))
        dmarc_walk_step(walk, deadline_ms);
    return walk->known ? &walk->steps[walk->known - 1] : NULL;
}

const char *dmarc_walk_organisation(struct dmarc_walk *walk, int64_t deadline_ms)
{
    dmarc_walk_through(walk, deadline_ms);
    return dmarc_tree_organisation(walk->domain, walk->steps, walk->known);
}
