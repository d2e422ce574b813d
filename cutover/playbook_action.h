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
const char *action_kind_name(enum action_kind kind);

/* ---- by file --------------------------------------------------------------- */

/* playbook_net.c: servers and names */
int action_port(struct action_context *context, int argc, char **argv);
int action_imap_login(struct action_context *context, int argc, char **argv);
int action_imap_sizes(struct action_context *context, int argc, char **argv);
int action_catchall(struct action_context *context, int argc, char **argv);
int action_flow(struct action_context *context, int argc, char **argv);
int action_notice(struct action_context *context, int argc, char **argv);
int action_tls(struct action_context *context, int argc, char **argv);

/* playbook_store.c: what sluice knows */
int action_home(struct action_context *context, int argc, char **argv);
int action_quiet(struct action_context *context, int argc, char **argv);
int action_unheld(struct action_context *context, int argc, char **argv);
int action_senders_pass(struct action_context *context, int argc, char **argv);
int action_senders(struct action_context *context, int argc, char **argv);
int action_sync(struct action_context *context, int argc, char **argv);
int action_inventory(struct action_context *context, int argc, char **argv);

/* playbook_paper.c: files */
int action_postconf(struct action_context *context, int argc, char **argv);
int action_csv(struct action_context *context, int argc, char **argv);
int action_class(struct action_context *context, int argc, char **argv);
int action_histogram(struct action_context *context, int argc, char **argv);
int action_contacts(struct action_context *context, int argc, char **argv);
int action_document(struct action_context *context, int argc, char **argv);
int action_command(struct action_context *context, int argc, char **argv);

#endif
