/*
 * command: what every command of sluice shares.
 *
 * main.c parses the options that all commands have (-c, --json, --dry-run,
 * --help), finds the command in its table and calls run(). A command prints
 * results on standard output (one JSON document with --json), messages on
 * standard error (output.h), and returns an exit code. Its own options are a
 * table (options.h), what it works on comes from targets.h.
 */
#ifndef SLUICE_COMMAND_H
#define SLUICE_COMMAND_H

#include <poll.h>
#include <stdbool.h>

#include "conf.h"
#include "store.h"

/* Exit codes: sysexits.h values, a contract (doc/sluice.1). */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_CHECK = 1,         /* a check failed, or some items were refused */
    EXIT_USE = 64,          /* usage */
    EXIT_DATA = 65,         /* bad input data */
    EXIT_SERVICE = 69,      /* a service is missing */
    EXIT_AGAIN = 75,        /* not complete, safe to repeat */
    EXIT_CONFIGURATION = 78,
};

struct command_context {
    const char *command;    /* name, for messages */
    const char *conf_path;
    struct conf *conf;      /* loaded before run() */
    struct store *store;    /* opened (not connected) before run() */
    struct journal_reader *head;
    bool json;
    bool dry_run;
};

/* From command_catch_signals() on: whether Ctrl-C or SIGTERM came; then stop at
 * the next safe point and return EXIT_AGAIN. Polls end early with EINTR. A
 * second one ends the program at once, which is safe too. */
void command_catch_signals(void);
bool command_stopped(void);
/* As poll(2), and misses no signal: -1 with EINTR when one came before or meanwhile. */
int command_poll(struct pollfd *fds, nfds_t count, int milliseconds);
/* Sleeps; false: it was cut short by a signal, command_stopped() is true. */
bool command_sleep(int milliseconds);

struct command {
    const char *name;
    const char *arguments;  /* for the usage line */
    const char *summary;    /* one line */
    const char *help;       /* the rest of --help: options and examples */
    bool changes;           /* takes --dry-run */
    int (*run)(struct command_context *context, int argc, char **argv);
};

/* Whether Redis answers, holds sluice's data and has the history that this
 * host's journal knows: EXIT_DONE, or EXIT_SERVICE after one line that says what
 * is wrong. Every command that works on homes begins with it. */
int command_need_store(struct command_context *context);

/* argv[0] is the command's name; the shared options are gone already. */
int command_init(struct command_context *context, int argc, char **argv);
int command_import(struct command_context *context, int argc, char **argv);
int command_status(struct command_context *context, int argc, char **argv);
int command_lock(struct command_context *context, int argc, char **argv);
int command_flip(struct command_context *context, int argc, char **argv);
int command_unlock(struct command_context *context, int argc, char **argv);
int command_rollback(struct command_context *context, int argc, char **argv);
int command_held(struct command_context *context, int argc, char **argv);
int command_cutover(struct command_context *context, int argc, char **argv);
int command_audit(struct command_context *context, int argc, char **argv);
int command_auth(struct command_context *context, int argc, char **argv);
int command_dns(struct command_context *context, int argc, char **argv);
int command_doctor(struct command_context *context, int argc, char **argv);
int command_ping(struct command_context *context, int argc, char **argv);
int command_monitor(struct command_context *context, int argc, char **argv);
int command_playbook(struct command_context *context, int argc, char **argv);
/* These words need no configuration: it has neither conf nor store then. */
bool command_playbook_alone(int argc, char **argv);
int command_recover(struct command_context *context, int argc, char **argv);

#endif
