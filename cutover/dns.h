/*
 * dns: what the actions of sluice dns share; used by cutover/dns*.c alone.
 */
#ifndef SLUICE_DNS_H
#define SLUICE_DNS_H

#include "command.h"
#include "dns_back.h"
#include "dns_look.h"
#include "dns_plan.h"
#include "dns_snap.h"
#include "options.h"
#include "output.h"

struct dns_options {
    bool back, lower_ttl, yes;
    bool try_only; /* an update without a change: whether it would be taken */
    bool rules;              /* check: the rules alone, on what the zone will be */
    struct option_list rule; /* check: the named rules alone, as "ns" or "spf" */
    const char *snapshot, *format, *senders;
    struct option_list only, except; /* names of the plan, as in sluice.conf */
    int timeout;                     /* seconds; 0: not given */
};

struct dns_task {
    struct command_context *context;
    const char *action;
    struct dns_options options;
    const struct conf_domain *domain;
    struct dns_look look;
    struct dns_sets planned;
    const struct dns_snap *back;  /* --back: the snapshot it goes to */
    struct dns_questions forced;  /* --back --only: these, whatever is live */
    struct dns_questions skipped; /* --back: not these */
    struct dns_snap *snaps;       /* oldest first */
    size_t snap_count;
};

/* Asks the zone's servers; live, which is empty, gets the sets, with the longest TTLs. */
int dns_task_look(struct dns_task *task, bool resolvers, struct dns_sets *live);
/* What to change, by the options, and on the way back what stays. To be freed. */
int dns_task_changes(struct dns_task *task, struct dns_back *out);
/* Keeps live as a snapshot, and with it what is now written (changes; NULL: nothing);
 * name is its name. */
int dns_task_snapshot(struct dns_task *task, const struct dns_sets *live,
                      const struct dns_changes *changes, char name[64]);
/* How a planned set stands on a server; counts only authoritative ones. */
enum dns_state dns_task_state(const struct dns_task *task, const struct dns_set *planned,
                              size_t server, bool elsewhere);
/* Whether every authoritative server has the plan. *behind: one that has not, or
 * SIZE_MAX. */
bool dns_task_agreed(const struct dns_task *task, size_t *behind);
/* Whether no authoritative server gives an old record a longer TTL than the plan does.
 * false too without memory, after a message. */
bool dns_task_lowered(const struct dns_task *task);
/* Kept in state-dir/dns/DOMAIN: since when all servers have the plan, or the short
 * TTLs. Gone with every change that apply makes. */
#define DNS_NOTE_AGREED  "agreed"
#define DNS_NOTE_LOWERED "lowered"
/* The snapshot before the last change that a command has, or may have, taken. */
#define DNS_NOTE_HANDED "handed"
/* A document with command, action and domain. */
doc *dns_task_document(const struct dns_task *task);
/* What changes, and what stays. */
void dns_task_print_changes(const struct dns_back *back);
void dns_task_document_changes(doc *document, const struct dns_back *back);
/* EXIT_AGAIN after a message when a change that a command has taken is still on its way:
 * live says nothing then of what the zone will be. */
int dns_task_handed(const struct dns_task *task, const struct dns_sets *live);
/* EXIT_CHECK after a message when something stays that sluice wrote. */
int dns_task_say_left(const struct dns_task *task, const struct dns_back *back);

int dns_check(struct dns_task *task);
int dns_diff(struct dns_task *task);
int dns_apply(struct dns_task *task);
int dns_wait(struct dns_task *task);

#endif
