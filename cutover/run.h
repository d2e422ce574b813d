/*
 * run: the sync commands, as child processes.
 *
 * Each is started by execv(2), without a shell, in a process group of its own,
 * with stdin from /dev/null and both outputs appended to a log file, and gets
 * SIGTERM when its time is over (or the cutover dies), SIGKILL five seconds
 * later.  The log file carries a flock(2) that the child and all it starts hold
 * by their outputs: so a sync that outlived its cutover is noticed, and no
 * second one begins for the same mailbox.
 */
#ifndef SLUICE_RUN_H
#define SLUICE_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "plan.h"

#define RUN_KILL_MS  5000 /* from SIGTERM to SIGKILL */
#define RUN_TEXT_MAX 200

struct run_set;

struct run_command {
    char *const *argv;            /* argv[0] is an absolute path */
    const char *const *variables; /* "NAME=value", added; NULL-terminated */
    int log;                      /* from run_log_open(); closed by run_start() */
    int timeout_s;
};

enum run_start_result {
    RUN_STARTED,
    RUN_IMPOSSIBLE, /* the program cannot be executed: text says why */
    RUN_FULL,       /* all jobs are taken, or fork failed for the moment */
};

/* The variables of a sync (sluice.conf(5), sync command): address is the mailbox
 * on the old side, target on the new one. false: no memory. To be freed in both
 * cases. */
#define RUN_VARIABLES 5
bool run_variables(const struct conf_domain *domain, const char *address,
                   const char *target, char *out[RUN_VARIABLES + 1]);
void run_variables_free(char *variables[RUN_VARIABLES + 1]);

/* NULL: no memory. */
struct run_set *run_set_new(int jobs);
/* Kills what is still running and waits for it. */
void run_set_free(struct run_set *set);

size_t run_count(const struct run_set *set);
size_t run_room(const struct run_set *set);

enum run_start_result run_start(struct run_set *set, size_t id,
                                const struct run_command *command, int64_t now,
                                char text[RUN_TEXT_MAX]);

/* Takes one child that has ended. text is "" for success (exit code 0), else
 * what happened: "exit code 3", "signal 9 (Killed)", "not done within 3600 s". */
bool run_ended(struct run_set *set, int64_t now, size_t *id, char text[RUN_TEXT_MAX]);
/* Enforces the time limits. */
void run_tick(struct run_set *set, int64_t now);
/* When run_tick() is needed at the latest; INT64_MAX: never. */
int64_t run_due(const struct run_set *set, int64_t now);
/* SIGTERM to all groups, SIGKILL five seconds later. */
void run_stop(struct run_set *set, int64_t now);

/* ---- logs -------------------------------------------------------------- */

/* Opens (makes) the directory <state>/cutover/<domain>; -1: error has one line.
 * Directories that somebody else owns, or symbolic links, are refused. */
int run_log_directory(const char *state_dir, const char *domain, char *error,
                      size_t error_size);

/* The same below <state>/<kind>/<domain>. */
int run_directory(const char *state_dir, const char *kind, const char *domain,
                  char *error, size_t error_size);

/* The name of a mailbox's log in it: "<mailbox>.log". */
#define RUN_LOG_NAME_MAX (PLAN_FILE_NAME_MAX + 4)
void run_log_name(const char *local, char out[RUN_LOG_NAME_MAX + 1]);

enum run_log_result {
    RUN_LOG_OPEN,
    RUN_LOG_BUSY, /* an earlier sync of this mailbox is still running */
    RUN_LOG_FAILED,
};
/* Opens (makes, 0600) <mailbox>.log in it for appending, takes its lock and
 * writes the header line. */
enum run_log_result run_log_open(int directory, const char *file, const char *header,
                                 int *log, char *error, size_t error_size);

/* Whether a process of this host is gone; one that has ended and is not yet waited for
 * by its parent is. */
bool run_is_gone(long pid);

/* "" when path can be executed by us, else why not. */
void run_check_program(const char *path, char *error, size_t error_size);
/* What makes this user run programs must be his own or root's, and nobody else may
 * write to it. NULL: so it is; else what is wrong, and the way out. */
struct stat;
const char *run_mistrust(const struct stat *info);

#endif
