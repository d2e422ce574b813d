/*
 * playbook_action: what a step can do. A table of name, kind and function; a
 * playbook that names another is refused when it is loaded.
 *
 * The functions run in a child process (playbook_engine.c) with a store of its
 * own: they print like a command, return a command's exit code, and may be killed
 * at any moment and run again.
 */
#ifndef SLUICE_PLAYBOOK_ACTION_H
#define SLUICE_PLAYBOOK_ACTION_H

#include "command.h"
#include "playbook.h"

struct action_context {
    struct command_context *command;
    const char *domain;
    const char *who;       /* the domain, or the pilot group of a rehearsal */
    const char *directory; /* for what it writes */
    const char *step;
    int64_t run; /* when this run was started (unix s): its journals are its own */
    const struct playbook *playbook;
    const char *rehearsed; /* note of the domain's last rehearsal; NULL: none */
    /* Value of a setting, or of domain, who, step, directory; NULL: no such name. */
    playbook_value_fn *value;
    void *values;
};

typedef int action_fn(struct action_context *context, int argc, char **argv);

struct action {
    struct action_info info;
    const char *summary;
    action_fn *run; /* NULL: the engine's own (acknowledge, timer, nothing) */
};

const struct action_info *action_find(const char *name);
/* By the info that action_find() gave. */
const struct action *action_of(const struct action_info *info);
/* The i-th; NULL: no more. */
const struct action *action_at(size_t i);
/* A check that sends a message. */
bool action_sends(const struct action *action);
const char *action_kind_name(enum action_kind kind);

/* ---- by file ------------------------------------------------------------- */

/* playbook_net.c: servers and names */
action_fn action_access, action_catchall, action_port, action_tls;
/* playbook_web.c: pages, and what mail programs are told */
action_fn action_autodiscover, action_web;
/* playbook_backup.c */
action_fn action_backup;
/* playbook_mail.c: logins, mailboxes, a message on its way */
action_fn action_flow, action_imap_login, action_signature;
/* playbook_count.c: sizes and counts of mailboxes */
action_fn action_counts, action_imap_sizes;
/* playbook_dns.c: sluice dns */
action_fn action_dns_access, action_dns_snapshot, action_dns_diff, action_dns_check, action_dns_rules,
    action_dns_servers, action_dns_apply, action_dns_lower, action_dns_lowered,
    action_dns_back, action_dns_wait;
/* playbook_store.c: what sluice knows */
action_fn action_back, action_home, action_quiet, action_relock, action_unheld;
/* playbook_import.c */
action_fn action_import, action_import_back;
/* playbook_rehearsal.c */
action_fn action_rehearsed;
/* playbook_base.c, playbook_sender.c, playbook_application.c: who sends as the domain */
action_fn action_baseline, action_senders, action_senders_pass, action_signed,
    action_applications;
/* playbook_each.c: a program for each mailbox */
action_fn action_each, action_sync, action_synced;
/* playbook_inventory.c, playbook_maillog.c, playbook_notice.c */
action_fn action_inventory, action_contacts, action_histogram, action_notice,
    action_notice_send;
/* playbook_paper.c: files */
action_fn action_class, action_class_check, action_command, action_csv, action_document,
    action_postconf;

#endif
