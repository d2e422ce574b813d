/*
 * dns_plan: the planned records against those that are live. Pure.
 *
 * A planned set stands for all records of its name and type, with one exception:
 * a name may have TXT records of several parties, so a planned TXT record
 * replaces only those of its own kind (SPF, DKIM, DMARC, or none of these, and
 * of the last it only joins the others).
 */
#ifndef SLUICE_DNS_PLAN_H
#define SLUICE_DNS_PLAN_H

#include "conf.h"
#include "dns_set.h"

struct dns_question {
    char *name;
    enum dns_type type;
};
struct dns_questions {
    struct dns_question *items;
    size_t count;
};
bool dns_questions_add(struct dns_questions *questions, const char *name,
                       enum dns_type type); /* once; false: no memory */
bool dns_questions_have(const struct dns_questions *questions, const char *name,
                        enum dns_type type);
void dns_questions_free(struct dns_questions *questions);

/* The planned sets of a domain. false: no memory. */
bool dns_plan_sets(const struct conf_domain *domain, struct dns_sets *out);
/* What must be known of a zone to compare and to go back: every planned name with
 * every type that could be in the way there, the domain's MX, TXT, NS, SOA, and its
 * DMARC record. false: no memory. */
bool dns_plan_questions(const struct conf_domain *domain, struct dns_questions *out);

enum dns_txt_kind { TXT_SPF, TXT_DKIM, TXT_DMARC, TXT_OTHER, DNS_TXT_KINDS };
/* "v= spf1" is meant to be SPF too; the rules say what is wrong with it. */
enum dns_txt_kind dns_txt_kind(const char *name, const char *value);
/* Of live (NULL: none) what a planned set stands for: all, or the TXT records of a kind
 * that planned has. false: no memory. */
bool dns_plan_scope(const struct dns_set *planned, const struct dns_set *live,
                    struct dns_sets *out);

enum dns_state {
    DNS_AS_PLANNED,
    DNS_NOT_YET, /* the old records, which will go: see dns_plan_state() */
    DNS_WRONG,   /* some are missing and there are others */
    DNS_MISSING, /* some are missing */
    DNS_EXTRA,   /* there are others besides */
    DNS_UNKNOWN, /* the server gave no answer */
    DNS_UNASKED, /* would put a "no such name" into the resolver's cache */
};
const char *dns_state_name(enum dns_state state); /* "as planned", "not yet", ... */
/* live: what dns_plan_scope() left of a server's answer; NULL: there are none.
 * elsewhere: an authoritative server has the set as planned already, so that a
 * different one here is DNS_NOT_YET. */
enum dns_state dns_plan_state(const struct dns_set *planned, const struct dns_set *live,
                              bool elsewhere);

struct dns_change {
    struct dns_set before, after; /* of one name and type; count 0: none */
};
struct dns_changes {
    struct dns_change *items;
    size_t count;
    struct dns_sets before; /* the sets that items point into */
    struct dns_sets after;  /* the same, and those that are so already */
};
enum dns_aim {
    DNS_AIM_PLAN, /* the planned records */
    DNS_AIM_TTL,  /* live records that the plan will change get its TTL, where longer */
};
/* The changes that make live into the plan. false: no memory. */
bool dns_plan_changes(const struct dns_sets *planned, const struct dns_sets *live,
                      enum dns_aim aim, struct dns_changes *out);
/* A snapshot as a plan, each set whole but for TXT records that are nobody's: also those
 * that were not there then. false: no memory. */
bool dns_plan_of_snapshot(const struct dns_questions *asked,
                          const struct dns_sets *snapshot, struct dns_sets *out);
/* out->after holds, for every set that is looked at, what it shall be: makes items of
 * those that live has otherwise. false: no memory. */
bool dns_changes_collect(const struct dns_sets *live, struct dns_changes *out);
void dns_changes_free(struct dns_changes *changes);
/* Whether it is none: the same records before and after, to be a prerequisite alone. */
bool dns_changes_keep(const struct dns_change *change);
/* Whether this change, a CNAME where nothing was, may only be made while its name has no
 * records at all; there are types that sluice does not ask about. */
bool dns_changes_need_unused(const struct dns_changes *changes, size_t change);
/* Whether this change may only be made while its name has no records of that type, which
 * no other change removes: a server passes over a record beside a CNAME, or a CNAME
 * beside a record, without a word (RFC 2136 3.4.2.2). */
bool dns_changes_need_no(const struct dns_changes *changes, size_t change,
                         enum dns_type type);
/* A planned CNAME whose name has other records than addresses, which are not sluice's
 * to remove: the set in its way; NULL: none. */
const struct dns_set *dns_plan_conflict(const struct dns_sets *planned,
                                        const struct dns_sets *live);

/* Zone-file lines and an nsupdate batch, malloc'ed; NULL: no memory. The batch has
 * the zone's present sets as prerequisites: it does nothing to a zone that has
 * changed meanwhile. server may be NULL. */
char *dns_plan_zone_lines(const struct dns_changes *changes);
char *dns_plan_nsupdate(const struct dns_changes *changes, const char *zone,
                        const char *server, unsigned port);

#endif
