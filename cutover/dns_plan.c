/*
 * dns_plan: what to change in a zone (see dns_plan.h).
 *
 * A change is a whole set before and after. The update that makes it names the
 * set before as a prerequisite (RFC 2136 2.4), so that two people who change
 * the same zone at once do not undo each other's work unseen. All sets are
 * removed before any is added: a CNAME may take the place of an address.
 */
#include "dns_plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- questions ------------------------------------------------------------ */

bool dns_questions_have(const struct dns_questions *questions, const char *name,
                        enum dns_type type)
{
    for (size_t i = 0; i < questions->count; i++)
        if (questions->items[i].type == type &&
            strcmp(questions->items[i].name, name) == 0)
            return true;
    return false;
}

bool dns_questions_add(struct dns_questions *questions, const char *name,
                       enum dns_type type)
{
    if (dns_questions_have(questions, name, type))
        return true;
    struct dns_question *grown =
        reallocarray(questions->items, questions->count + 1, sizeof(*grown));
    char *copy = strdup(name);
    if (grown)
        questions->items = grown;
    if (!grown || !copy) {
        free(copy);
        return false;
    }
    grown[questions->count++] = (struct dns_question){ copy, type };
    return true;
}

void dns_questions_free(struct dns_questions *questions)
{
    for (size_t i = 0; i < questions->count; i++)
        free(questions->items[i].name);
    free(questions->items);
    *questions = (struct dns_questions){ 0 };
}

bool dns_plan_questions(const struct conf_domain *domain, struct dns_questions *out)
{
    static const enum dns_type apex[] = { DNS_SOA, DNS_NS, DNS_MX, DNS_TXT };
    static const enum dns_type in_the_way[] = { DNS_CNAME, DNS_A,   DNS_AAAA,
                                                DNS_MX,    DNS_TXT, DNS_SRV };
    char dmarc[DNSRECORD_NAME_MAX + 1];
    bool ok = true;
    for (size_t i = 0; i < sizeof(apex) / sizeof(apex[0]); i++)
        ok = ok && dns_questions_add(out, domain->name, apex[i]);
    if (snprintf(dmarc, sizeof(dmarc), "_dmarc.%s", domain->name) < (int)sizeof(dmarc))
        ok = ok && dns_questions_add(out, dmarc, DNS_TXT);
    for (size_t i = 0; i < domain->record_count; i++) {
        const struct conf_record *record = &domain->records[i];
        ok = ok && dns_questions_add(out, record->name, record->type);
        for (size_t t = 0; t < sizeof(in_the_way) / sizeof(in_the_way[0]); t++)
            if (in_the_way[t] <= DNS_CNAME || record->type == DNS_CNAME)
                ok = ok && dns_questions_add(out, record->name, in_the_way[t]);
    }
    return ok;
}

bool dns_plan_sets(const struct conf_domain *domain, struct dns_sets *out)
{
    for (size_t i = 0; i < domain->record_count; i++) {
        const struct conf_record *record = &domain->records[i];
        for (char **value = record->values; *value; value++)
            if (!dns_sets_add(out, record->name, record->type, record->ttl, *value))
                return false;
    }
    return true;
}

/* ---- TXT ------------------------------------------------------------------ */

/* Whether value begins with v=word, blanks anywhere around the "=". */
static bool has_version(const char *value, const char *word)
{
    value += strspn(value, " \t\"");
    if (*value != 'v' && *value != 'V')
        return false;
    value++;
    value += strspn(value, " \t");
    if (*value++ != '=')
        return false;
    value += strspn(value, " \t");
    return strncasecmp(value, word, strlen(word)) == 0;
}

enum dns_txt_kind dns_txt_kind(const char *name, const char *value)
{
    if (has_version(value, "spf1"))
        return TXT_SPF;
    if (strncmp(name, "_dmarc.", 7) == 0 || has_version(value, "DMARC1"))
        return TXT_DMARC;
    if (strstr(name, "._domainkey.") || has_version(value, "DKIM1"))
        return TXT_DKIM;
    return TXT_OTHER;
}

static bool has_kind(const struct dns_set *set, enum dns_txt_kind kind)
{
    for (size_t i = 0; i < set->count; i++)
        if (dns_txt_kind(set->name, set->values[i]) == kind)
            return true;
    return false;
}

/* Whether a planned set stands for this live value of its name and type. */
static bool stands_for(const struct dns_set *planned, const char *value)
{
    if (planned->type != DNS_TXT)
        return true;
    enum dns_txt_kind kind = dns_txt_kind(planned->name, value);
    return kind == TXT_OTHER ? dns_set_has(planned, value)
                             : planned->whole || has_kind(planned, kind);
}

bool dns_plan_scope(const struct dns_set *planned, const struct dns_set *live,
                    struct dns_sets *out)
{
    for (size_t i = 0; live && i < live->count; i++)
        if (stands_for(planned, live->values[i]) &&
            !dns_sets_add_of(out, live, i, live->ttl))
            return false;
    return true;
}

/* ---- states --------------------------------------------------------------- */

const char *dns_state_name(enum dns_state state)
{
    static const char *const names[] = { "as planned", "not yet",   "wrong",    "missing",
                                         "extra",      "no answer", "not asked" };
    return names[state];
}

enum dns_state dns_plan_state(const struct dns_set *planned, const struct dns_set *live,
                              bool elsewhere)
{
    size_t missing = 0, extra = 0;
    for (size_t i = 0; i < planned->count; i++)
        missing += !live || !dns_set_has(live, planned->values[i]);
    for (size_t i = 0; live && i < live->count; i++)
        extra += !dns_set_has(planned, live->values[i]);
    if (missing == 0 && extra == 0)
        return DNS_AS_PLANNED;
    if (elsewhere)
        return DNS_NOT_YET;
    return missing == 0 ? DNS_EXTRA : extra == 0 ? DNS_MISSING : DNS_WRONG;
}

/* ---- changes -------------------------------------------------------------- */

bool dns_changes_collect(const struct dns_sets *live, struct dns_changes *out)
{
    out->items = calloc(out->after.count + 1, sizeof(*out->items));
    if (!out->items)
        return false;
    for (size_t i = 0; i < out->after.count; i++) {
        const struct dns_set *after = &out->after.items[i];
        const struct dns_set *before = dns_sets_find(live, after->name, after->type);
        bool same = before ? dns_set_same(before, after) &&
                                 (before->count == 0 || before->ttl == after->ttl)
                           : after->count == 0;
        if (!same && before && !dns_sets_add_set(&out->before, before))
            return false;
    }
    /* Only now: sets move while they are added. */
    for (size_t i = 0; i < out->after.count; i++) {
        const struct dns_set *after = &out->after.items[i];
        const struct dns_set *before =
            dns_sets_find(&out->before, after->name, after->type);
        if (!before && dns_sets_find(live, after->name, after->type))
            continue;
        if (!before && after->count == 0)
            continue;
        struct dns_change *change = &out->items[out->count++];
        change->after = *after;
        change->before =
            before ? *before
                   : (struct dns_set){ .name = after->name, .type = after->type };
    }
    return true;
}

static bool plan_one(const struct dns_set *planned, const struct dns_sets *live,
                     struct dns_sets *after)
{
    const struct dns_set *now = dns_sets_find(live, planned->name, planned->type);
    if (!dns_sets_add_set(after, planned))
        return false;
    for (size_t i = 0; now && i < now->count; i++)
        if (!stands_for(planned, now->values[i]) &&
            !dns_sets_add_of(after, now, i, planned->ttl))
            return false;
    /* RFC 1034 3.6.2: nothing beside a CNAME. */
    static const enum dns_type addresses[] = { DNS_A, DNS_AAAA };
    bool ok = true;
    for (size_t i = 0; planned->type == DNS_CNAME && i < 2; i++)
        if (dns_sets_find(live, planned->name, addresses[i]))
            ok = ok && dns_sets_add(after, planned->name, addresses[i], 0, NULL);
    if (planned->type != DNS_CNAME && dns_sets_find(live, planned->name, DNS_CNAME))
        ok = ok && dns_sets_add(after, planned->name, DNS_CNAME, 0, NULL);
    return ok;
}

static bool lower_one(const struct dns_set *set, uint32_t ttl, struct dns_sets *after)
{
    for (size_t i = 0; i < set->count; i++)
        if (!dns_sets_add_of(after, set, i, set->ttl < ttl ? set->ttl : ttl))
            return false;
    return true;
}

bool dns_plan_changes(const struct dns_sets *planned, const struct dns_sets *live,
                      enum dns_aim aim, struct dns_changes *out)
{
    *out = (struct dns_changes){ 0 };
    struct dns_changes full = { 0 };
    for (size_t i = 0; i < planned->count; i++)
        if (!plan_one(&planned->items[i], live, &full.after)) {
            dns_changes_free(&full);
            return false;
        }
    if (!dns_changes_collect(live, &full)) {
        dns_changes_free(&full);
        return false;
    }
    if (aim == DNS_AIM_PLAN) {
        *out = full;
        return true;
    }
    bool ok = true;
    for (size_t i = 0; ok && i < full.count; i++) {
        const struct dns_set *before = &full.items[i].before;
        uint32_t ttl = full.items[i].after.count > 0 ? full.items[i].after.ttl : 600;
        ok = lower_one(before, ttl, &out->after);
    }
    dns_changes_free(&full);
    return ok && dns_changes_collect(live, out);
}

/* A set, without TXT records that are nobody's: they may come and go. */
static bool add_own(const struct dns_set *set, struct dns_sets *out)
{
    bool ok = dns_sets_add(out, set->name, set->type, set->ttl, NULL);
    for (size_t i = 0; ok && i < set->count; i++)
        if (set->type != DNS_TXT || dns_txt_kind(set->name, set->values[i]) != TXT_OTHER)
            ok = dns_sets_add_of(out, set, i, set->ttl);
    return ok;
}

bool dns_plan_of_snapshot(const struct dns_questions *asked,
                          const struct dns_sets *snapshot, struct dns_sets *out)
{
    for (size_t i = 0; i < asked->count; i++) {
        const struct dns_question *question = &asked->items[i];
        const struct dns_set *set =
            dns_sets_find(snapshot, question->name, question->type);
        if (question->type == DNS_NS || question->type == DNS_SOA)
            continue;
        if (!(set ? add_own(set, out)
                  : dns_sets_add(out, question->name, question->type, 0, NULL)))
            return false;
    }
    for (size_t i = 0; i < out->count; i++)
        out->items[i].whole = true;
    return true;
}

void dns_changes_free(struct dns_changes *changes)
{
    dns_sets_free(&changes->before);
    dns_sets_free(&changes->after);
    free(changes->items);
    *changes = (struct dns_changes){ 0 };
}

bool dns_changes_keep(const struct dns_change *change)
{
    return dns_set_same(&change->before, &change->after) &&
           change->before.ttl == change->after.ttl;
}

bool dns_changes_need_unused(const struct dns_changes *changes, size_t change)
{
    const struct dns_set *after = &changes->items[change].after;
    if (after->type != DNS_CNAME || after->count == 0)
        return false;
    for (size_t i = 0; i < changes->count; i++)
        if (changes->items[i].before.count > 0 &&
            strcmp(changes->items[i].before.name, after->name) == 0)
            return false;
    return true;
}

bool dns_changes_need_no(const struct dns_changes *changes, size_t change,
                         enum dns_type type)
{
    const struct dns_set *after = &changes->items[change].after;
    bool clash =
        after->type == DNS_CNAME ? type == DNS_A || type == DNS_AAAA : type == DNS_CNAME;
    if (!clash || after->count == 0 || dns_changes_need_unused(changes, change))
        return false;
    for (size_t i = 0; i < changes->count; i++) {
        const struct dns_set *other = &changes->items[i].after;
        bool said = i < change && other->count > 0 && other->type != DNS_CNAME;
        if (strcmp(other->name, after->name) == 0 && (other->type == type || said))
            return false;
    }
    return true;
}

const struct dns_set *dns_plan_conflict(const struct dns_sets *planned,
                                        const struct dns_sets *live)
{
    for (size_t i = 0; i < planned->count; i++)
        for (size_t j = 0; planned->items[i].type == DNS_CNAME && j < live->count; j++)
            if (live->items[j].type > DNS_CNAME && live->items[j].count > 0 &&
                strcmp(live->items[j].name, planned->items[i].name) == 0)
                return &live->items[j];
    return NULL;
}

/* ---- as text -------------------------------------------------------------- */

struct text {
    FILE *file;
    char *buffer;
    size_t size;
};

/* One line: head, the record, tail. */
static void write_record(struct text *text, const char *head, const struct dns_set *set,
                         size_t value, bool with_ttl)
{
    static char zone[DNS_ZONE_MAX];
    dns_set_zone(set, value, zone, sizeof(zone));
    if (with_ttl)
        fprintf(text->file, "%s%s. %u IN %s %s\n", head, set->name, (unsigned)set->ttl,
                dns_type_name(set->type), zone);
    else
        fprintf(text->file, "%s%s. IN %s %s\n", head, set->name, dns_type_name(set->type),
                zone);
}

static bool begin(struct text *text)
{
    *text = (struct text){ 0 };
    text->file = open_memstream(&text->buffer, &text->size);
    return text->file != NULL;
}

static char *end(struct text *text)
{
    bool failed = ferror(text->file) != 0;
    if (fclose(text->file) == 0 && !failed)
        return text->buffer;
    free(text->buffer);
    return NULL;
}

char *dns_plan_zone_lines(const struct dns_changes *changes)
{
    struct text text;
    if (!begin(&text))
        return NULL;
    for (size_t i = 0; i < changes->count; i++) {
        const struct dns_change *change = &changes->items[i];
        for (size_t v = 0; v < change->before.count; v++)
            write_record(&text, "; remove: ", &change->before, v, true);
        for (size_t v = 0; v < change->after.count; v++)
            write_record(&text, "", &change->after, v, true);
    }
    return end(&text);
}

char *dns_plan_nsupdate(const struct dns_changes *changes, const char *zone,
                        const char *server, unsigned port)
{
    struct text text;
    if (!begin(&text))
        return NULL;
    if (server)
        fprintf(text.file, "server %s %u\n", server, port);
    fprintf(text.file, "zone %s.\n", zone);
    for (size_t i = 0; i < changes->count; i++) {
        const struct dns_set *before = &changes->items[i].before;
        for (size_t v = 0; v < before->count; v++)
            write_record(&text, "prereq yxrrset ", before, v, false);
        if (before->count == 0)
            fprintf(text.file, "prereq nxrrset %s. IN %s\n", before->name,
                    dns_type_name(before->type));
        if (dns_changes_need_unused(changes, i))
            fprintf(text.file, "prereq nxdomain %s.\n", before->name);
        for (size_t type = 0; type < DNS_TYPES; type++)
            if (dns_changes_need_no(changes, i, (enum dns_type)type))
                fprintf(text.file, "prereq nxrrset %s. IN %s\n", before->name,
                        dns_type_name((enum dns_type)type));
    }
    for (size_t i = 0; i < changes->count; i++)
        if (changes->items[i].before.count > 0)
            fprintf(text.file, "update delete %s. %s\n", changes->items[i].before.name,
                    dns_type_name(changes->items[i].before.type));
    for (size_t i = 0; i < changes->count; i++) {
        const struct dns_set *after = &changes->items[i].after;
        for (size_t v = 0; v < after->count; v++)
            write_record(&text, "update add ", after, v, true);
    }
    fprintf(text.file, "send\n");
    return end(&text);
}
