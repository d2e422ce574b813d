/*
 * dns_back: the way back to a snapshot (see dns_back.h).
 *
 * What sluice wrote is a list of changes of a set, before and after: those that
 * snapshots note, and the one that the plan would be. So each set has its fate
 * first; then names that would have a CNAME beside other records, since one of the
 * two stays, stay whole (RFC 1034 3.6.2).
 */
#include "dns_back.h"

#include <stdlib.h>
#include <string.h>

#define ALL DNS_TXT_KINDS /* as a kind: a set that is judged as one */

enum fate { SKIPPED, IS_BACK, GOES_BACK, STAYS };

/* One change that sluice made; NULL: no records. */
struct written {
    const struct dns_set *before, *after;
    bool is_ttl;  /* of the plan, the TTLs alone, which nobody need have written */
    bool follows; /* from the snapshot by changes of sluice's alone: see follow() */
};

/* A set of the snapshot on its way back. */
struct item {
    const struct dns_question *question;
    const struct dns_set *was, *live; /* NULL: no records */
    struct written *written;          /* the latest last */
    size_t count;
    enum fate fate;
    struct dns_sets result; /* what it shall be: one set */
};

/* ---- parts of sets -------------------------------------------------------- */

static bool is_of(const struct dns_set *set, size_t value, int kind)
{
    return kind == ALL || (int)dns_txt_kind(set->name, set->values[value]) == kind;
}

static bool has(const struct dns_set *set, const char *value)
{
    return set && dns_set_has(set, value);
}

/* Whether all of a's records of this kind are in b. */
static bool is_in(const struct dns_set *a, const struct dns_set *b, int kind)
{
    for (size_t i = 0; a && i < a->count; i++)
        if (is_of(a, i, kind) && !has(b, a->values[i]))
            return false;
    return true;
}

static bool is_same(const struct dns_set *a, const struct dns_set *b, int kind)
{
    return is_in(a, b, kind) && is_in(b, a, kind);
}

static bool has_any(const struct dns_set *set, int kind)
{
    for (size_t i = 0; set && i < set->count; i++)
        if (is_of(set, i, kind))
            return true;
    return false;
}

static bool add_part(struct dns_sets *out, const struct dns_set *set, int kind)
{
    bool ok = true;
    for (size_t i = 0; set && ok && i < set->count; i++)
        if (is_of(set, i, kind))
            ok = dns_sets_add_of(out, set, i, set->ttl);
    return ok;
}

static bool add_value(struct item *item, const struct dns_set *set, size_t value)
{
    return dns_sets_add_of(&item->result, set, value, UINT32_MAX);
}

static bool take_part(struct item *item, const struct dns_set *set, int kind)
{
    bool ok = true;
    for (size_t i = 0; set && ok && i < set->count; i++)
        if (is_of(set, i, kind))
            ok = add_value(item, set, i);
    return ok;
}

/* ---- fallback MX ---------------------------------------------------------- */

static long number_of(const char *mx)
{
    return strtol(mx, NULL, 10);
}

/* Whether every MX that is in live and not in wrote comes after all of the snapshot. */
static bool are_fallbacks(const struct item *item, const struct dns_set *wrote)
{
    long last = -1;
    for (size_t i = 0; i < item->was->count; i++)
        if (number_of(item->was->values[i]) > last)
            last = number_of(item->was->values[i]);
    for (size_t i = 0; i < item->live->count; i++)
        if (!has(wrote, item->live->values[i]) &&
            number_of(item->live->values[i]) <= last)
            return false;
    return true;
}

static bool take_fallbacks(struct item *item, const struct dns_set *wrote)
{
    bool ok = true;
    for (size_t i = 0; ok && i < item->live->count; i++)
        if (!has(wrote, item->live->values[i]))
            ok = add_value(item, item->live, i);
    return ok;
}

/* ---- fates ---------------------------------------------------------------- */

/* Which changes lead from the snapshot, with none of somebody else's between them. */
static void follow(struct item *item, int kind)
{
    for (size_t i = 0; i < item->count; i++) {
        struct written *written = &item->written[i];
        written->follows = is_same(written->before, item->was, kind);
        for (size_t j = 0; j < i && !written->follows; j++)
            written->follows = item->written[j].follows &&
                               is_same(written->before, item->written[j].after, kind);
    }
}

/* Values of this kind; what sluice wrote besides was as others had it. */
static bool has_changed(const struct written *written, int kind)
{
    return !is_same(written->before, written->after, kind);
}

/* The last change of sluice's that made it what is live decides. */
static enum fate judge(struct item *item, int kind)
{
    if (is_same(item->live, item->was, kind))
        return IS_BACK;
    follow(item, kind);
    for (size_t i = item->count; i > 0; i--)
        if (has_changed(&item->written[i - 1], kind) &&
            is_same(item->live, item->written[i - 1].after, kind))
            return item->written[i - 1].follows ? GOES_BACK : STAYS;
    return STAYS;
}

/* What sluice wrote and others have added fallbacks to; NULL: it is not so. After
 * judge(). */
static const struct dns_set *written_below(const struct item *item)
{
    if (item->question->type != DNS_MX || !item->was || !item->live)
        return NULL;
    for (size_t i = item->count; i > 0; i--) {
        const struct written *written = &item->written[i - 1];
        if (written->after && has_changed(written, ALL) &&
            is_in(written->after, item->live, ALL))
            return written->follows && are_fallbacks(item, written->after)
                       ? written->after
                       : NULL;
    }
    return NULL;
}

/* Whether sluice ever changed its records of this kind, or their TTL. */
static bool is_ours(const struct item *item, int kind)
{
    for (size_t i = 0; i < item->count; i++) {
        const struct written *written = &item->written[i];
        if (!written->is_ttl &&
            (has_changed(written, kind) ||
             (!has_changed(written, ALL) && has_any(written->after, kind))))
            return true;
    }
    return false;
}

/* The set as sluice wrote it last, for a person. */
static const struct dns_set *last_written(const struct item *item)
{
    for (size_t i = item->count; i > 0; i--)
        if (!item->written[i - 1].is_ttl)
            return item->written[i - 1].after;
    return NULL;
}

static bool leave(const struct item *item, int kind, struct dns_back *out)
{
    struct dns_left *grown =
        reallocarray(out->left, out->left_count + 1, sizeof(*out->left));
    if (!grown)
        return false;
    out->left = grown;
    struct dns_left *left = &grown[out->left_count++];
    *left = (struct dns_left){ .name = strdup(item->question->name),
                               .type = item->question->type,
                               .ours = is_ours(item, kind) };
    return left->name && add_part(&left->was, item->was, kind) &&
           add_part(&left->wrote, last_written(item), kind) &&
           add_part(&left->live, item->live, kind);
}

/* A change of sluice's that has this record after it and not before it, or the other
 * way round. */
static bool did(const struct item *item, const char *value, bool added)
{
    for (size_t i = 0; i < item->count; i++)
        if (has(item->written[i].after, value) == added &&
            has(item->written[i].before, value) != added)
            return true;
    return false;
}

/* TXT records that are nobody's, one by one. */
static bool others_back(struct item *item, bool forced)
{
    bool ok = true;
    const struct dns_set *live = item->live, *was = item->was;
    for (size_t i = 0; live && ok && i < live->count; i++)
        if (is_of(live, i, TXT_OTHER) &&
            (has(was, live->values[i]) || !did(item, live->values[i], true)))
            ok = add_value(item, live, i);
    for (size_t i = 0; was && ok && i < was->count; i++)
        if (is_of(was, i, TXT_OTHER) && (forced || did(item, was->values[i], false)))
            ok = add_value(item, was, i);
    return ok;
}

/* Each part of a set; *stays: some of it does. */
static bool parts_back(struct item *item, bool forced, bool *stays, struct dns_back *out)
{
    bool is_txt = item->question->type == DNS_TXT, ok = true;
    for (int kind = is_txt ? 0 : ALL; ok && kind <= (is_txt ? TXT_OTHER : ALL); kind++) {
        if (is_txt && kind == TXT_OTHER) {
            ok = others_back(item, forced);
            continue;
        }
        enum fate fate = forced ? GOES_BACK : judge(item, kind);
        const struct dns_set *below =
            fate == STAYS && kind == ALL ? written_below(item) : NULL;
        if (below)
            ok = take_part(item, item->was, kind) && take_fallbacks(item, below);
        else
            ok = take_part(item, fate == STAYS ? item->live : item->was, kind);
        if (ok && fate == STAYS && !below) {
            *stays = true;
            ok = leave(item, kind, out);
        }
    }
    return ok;
}

/* A TTL that somebody else has set stays, where no value changes. */
static uint32_t ttl_of(const struct item *item, bool same_values, bool forced)
{
    if (!item->was || !item->live)
        return item->was ? item->was->ttl : item->live ? item->live->ttl : 0;
    bool ours = forced || !same_values;
    for (size_t i = 0; i < item->count; i++)
        ours |= item->written[i].after && item->written[i].after->ttl == item->live->ttl;
    return ours ? item->was->ttl : item->live->ttl;
}

static bool decide(struct item *item, bool forced, struct dns_back *out)
{
    bool stays = false;
    if (!dns_sets_add(&item->result, item->question->name, item->question->type,
                      UINT32_MAX, NULL) ||
        !parts_back(item, forced, &stays, out))
        return false;
    struct dns_set *result = &item->result.items[0];
    bool same_values = is_same(result, item->live, ALL);
    result->ttl = ttl_of(item, same_values, forced);
    item->fate = stays && same_values ? STAYS : same_values ? IS_BACK : GOES_BACK;
    return true;
}

/* ---- a CNAME beside others ------------------------------------------------ */

static bool will_be(const struct item *item)
{
    bool untouched = item->fate == STAYS || item->fate == SKIPPED;
    return untouched ? item->live && item->live->count > 0
                     : item->result.items[0].count > 0;
}

/* One of two that cannot stand together is not sluice's to remove: both stay. */
static bool keep_apart(struct item *items, size_t count, struct dns_back *out)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; items[i].question->type == DNS_CNAME && j < count; j++) {
            if (i == j || strcmp(items[i].question->name, items[j].question->name) != 0 ||
                !will_be(&items[i]) || !will_be(&items[j]))
                continue;
            struct item *const both[] = { &items[i], &items[j] };
            for (size_t b = 0; b < 2; b++) {
                if (both[b]->fate != GOES_BACK)
                    continue;
                both[b]->fate = STAYS;
                if (!leave(both[b], ALL, out))
                    return false;
            }
        }
    return true;
}

/* ---- all ------------------------------------------------------------------ */

static void add_written(struct item *item, const struct dns_changes *plan, bool is_ttl)
{
    for (size_t i = 0; i < plan->count; i++) {
        const struct dns_change *change = &plan->items[i];
        if (change->after.type == item->question->type &&
            strcmp(change->after.name, item->question->name) == 0)
            item->written[item->count++] = (struct written){ .before = &change->before,
                                                             .after = &change->after,
                                                             .is_ttl = is_ttl };
    }
}

static bool fill(struct item *item, const struct dns_way *way,
                 const struct dns_question *question, const struct dns_changes *plan,
                 const struct dns_changes *ttls)
{
    const char *name = question->name;
    enum dns_type type = question->type;
    *item =
        (struct item){ .question = question,
                       .was = dns_sets_find(&way->to->sets, name, type),
                       .live = dns_sets_find(way->live, name, type),
                       .written = calloc(way->snap_count + 2, sizeof(*item->written)) };
    if (!item->written)
        return false;
    add_written(item, ttls, true);
    add_written(item, plan, false);
    for (size_t i = 0; i < way->snap_count; i++) {
        const struct dns_snap *snap = &way->snaps[i];
        if (dns_questions_have(&snap->writes, name, type))
            item->written[item->count++] =
                (struct written){ .before = dns_sets_find(&snap->sets, name, type),
                                  .after = dns_sets_find(&snap->written, name, type) };
    }
    return true;
}

static bool decide_all(const struct dns_way *way, struct item *items, size_t count,
                       const struct dns_changes *plan, const struct dns_changes *ttls,
                       struct dns_back *out)
{
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        const struct dns_question *question = &way->to->asked.items[i];
        bool never = question->type == DNS_NS || question->type == DNS_SOA;
        ok = fill(&items[i], way, question, plan, ttls);
        if (ok && !never &&
            !dns_questions_have(&way->skipped, question->name, question->type))
            ok = decide(&items[i],
                        dns_questions_have(&way->forced, question->name, question->type),
                        out);
    }
    ok = ok && keep_apart(items, count, out);
    for (size_t i = 0; ok && i < count; i++)
        if (items[i].fate == IS_BACK || items[i].fate == GOES_BACK)
            ok = dns_sets_add_set(&out->changes.after, &items[i].result.items[0]);
    return ok && dns_changes_collect(way->live, &out->changes);
}

bool dns_back(const struct dns_way *way, struct dns_back *out)
{
    size_t count = way->to->asked.count;
    struct dns_changes plan = { 0 }, ttls = { 0 };
    *out = (struct dns_back){ 0 };
    struct item *items = calloc(count + 1, sizeof(*items));
    bool ok = items &&
              dns_plan_changes(way->planned, &way->to->sets, DNS_AIM_PLAN, &plan) &&
              dns_plan_changes(way->planned, &way->to->sets, DNS_AIM_TTL, &ttls) &&
              decide_all(way, items, count, &plan, &ttls, out);
    for (size_t i = 0; items && i < count; i++) {
        free(items[i].written);
        dns_sets_free(&items[i].result);
    }
    free(items);
    dns_changes_free(&plan);
    dns_changes_free(&ttls);
    return ok;
}

void dns_back_free(struct dns_back *back)
{
    for (size_t i = 0; i < back->left_count; i++) {
        free(back->left[i].name);
        dns_sets_free(&back->left[i].was);
        dns_sets_free(&back->left[i].wrote);
        dns_sets_free(&back->left[i].live);
    }
    free(back->left);
    dns_changes_free(&back->changes);
    *back = (struct dns_back){ 0 };
}
