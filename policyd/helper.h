/*
 * helper: the queue helper, the one part of policyd that stays root.
 *
 * main() calls helper_fork() before it drops privileges. The child takes
 * requests of a fixed format over a socketpair, one at a time, checks every
 * field itself, and runs nothing but the commands of enum helper_command:
 * absolute paths below conf->postfix_commands, "-c postfix-config", an empty
 * environment, no shell, a time limit for each. Queue ids are taken in the long
 * form only (never ALL) and go to the command's standard input; the queue is
 * always named. It ends when policyd's end of the socketpair closes.
 *
 * Only the keeper thread calls it once the daemon runs.
 */
#ifndef SLUICE_POLICYD_HELPER_H
#define SLUICE_POLICYD_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"

struct helper;

/* Forks the helper. Call it early: before threads, Redis and libevent. Not
 * started as root: no child, a handle with helper_available() false (every
 * request fails and says why). NULL: fork failed, errno is set. */
struct helper *helper_fork(const struct conf *conf);
/* Closes the socketpair (the child ends by itself) and waits for it shortly. */
void helper_close(struct helper *helper);

/* Whether there is a child at all (policyd was started as root). */
bool helper_available(const struct helper *helper);
/* False once a child that was there has died or was given up. */
bool helper_alive(struct helper *helper);
/* One line about the last request that failed. */
const char *helper_error(const struct helper *helper);

enum helper_command {
    HELPER_LIST,     /* postqueue -j */
    HELPER_HOLD,     /* postsuper -h - deferred */
    HELPER_RELEASE,  /* postsuper -r - hold */
    HELPER_REQUEUE,  /* postsuper -r - deferred */
    HELPER_FLUSH,    /* postqueue -i ID, one after the other */
    HELPER_WAKE,     /* postkick public pickup W */
    HELPER_SCAN,     /* postkick public qmgr I */
    HELPER_RELOAD,   /* postfix reload */
    HELPER_SETTINGS, /* postconf -x, a fixed list of parameters */
    HELPER_ASK_MAP,  /* postmap -q - on entry `number` of transport_maps */
    HELPER_DAEMONS,  /* "<pid> <start time> <name>" of each child of master(8) */
    HELPER_COMMANDS
};

#define HELPER_ITEM_MAX  520 /* a key: an address of addr.h's longest form */
#define HELPER_ITEMS_MAX 1000
#define HELPER_FLUSH_MAX 20 /* one process each */
#define HELPER_KEYS_MAX  64 /* of HELPER_ASK_MAP */

struct helper_request {
    enum helper_command command;
    unsigned number;          /* HELPER_ASK_MAP: from 0 */
    const char *const *items; /* queue ids, or keys of HELPER_ASK_MAP */
    size_t count;
    /* Called for each line of standard output, without its LF. May be NULL. */
    void (*line)(void *context, const char *text, size_t len);
    void *context;
    /* Called about every second while waiting; returns false to give up (then
     * the helper is lost). May be NULL. */
    bool (*idle)(void *context);
    void *idle_context;
    int exit_status; /* result: the command's, when helper_run() is true */
};

/* Runs one request. true: the command ran and ended, request->exit_status is
 * set and helper_error() holds what it said on standard error ("" for
 * nothing). false: refused, timed out or lost, see helper_error(). */
bool helper_run(struct helper *helper, struct helper_request *request);

/* ---- pure parts, for the tests ----------------------------------------- */

/* A long queue id as enable_long_queue_ids = yes makes it (Postfix
 * mail_queue.h): seconds and microseconds in base 52, "z", inode in base 51. */
#define HELPER_ID_MAX 40
bool helper_id_valid(const char *id, size_t len);

/* The argv of a command, NULL-terminated; config and last are kept, not copied.
 * last is the id of HELPER_FLUSH or the map of HELPER_ASK_MAP, else NULL.
 * false: no such command line. */
struct helper_argv {
    const char *argv[16];
    char program[512];
};
bool helper_command_line(enum helper_command command, const char *directory,
                         const char *config, const char *last, struct helper_argv *out);

/* What the child checks before it does anything. */
bool helper_request_valid(enum helper_command command, const char *const *items,
                          size_t count);

#endif
