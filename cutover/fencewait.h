/*
 * fencewait: has every MTA host confirmed a lock?
 *
 * Every registered host except those in `without` (--without-host) must have
 * fenced >= epoch (store.h). lock, rollback and cutover share this; the first
 * two wait with fence_wait(), cutover looks with fence_look() while syncs run.
 */
#ifndef SLUICE_FENCEWAIT_H
#define SLUICE_FENCEWAIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "command.h"

enum fence_answer {
    FENCE_CONFIRMED, /* by every host */
    FENCE_PENDING,   /* some host is still at it */
    FENCE_SILENT,    /* some host has not confirmed, and its heartbeat is older
                        than HOST_SILENT_MS */
    FENCE_NOBODY,    /* no host is registered */
    FENCE_UNKNOWN,   /* the store could not be asked: store_error() */
};

#define FENCE_TEXT_MAX 1024
struct fence_view {
    enum fence_answer answer;
    size_t hosts, confirmed; /* without the excepted ones; 0 of 0 is confirmed
                                when all of them are */
    /* The unconfirmed hosts for a person: "mx1 (drains 3 messages), mx2 (no
     * sign of life for 2 min 10 s)"; cut with "..." at its size. */
    char waiting[FENCE_TEXT_MAX];
    char silent[FENCE_TEXT_MAX]; /* names of the silent ones: "mx2, mx3" */
};

/* One look, two round trips. epoch 0 is confirmed when there are hosts. */
void fence_look(struct store *store, uint64_t epoch, const char *const *without,
                struct fence_view *out);

/* How long a host that seems silent is waited for: when Redis was away its last
 * heartbeat is old, and the next one is on its way. */
#define FENCE_PATIENCE_MS (HOST_BEAT_MS + 1000)

/* Waits with progress until every host confirmed. what names it in messages
 * ("lock", "rollback").  Returns EXIT_DONE; EXIT_AGAIN after a message that
 * says what to do (silent host, timeout_s over, Ctrl-C); EXIT_SERVICE when the
 * store does not answer for a minute. The mailboxes stay as they are. */
int fence_wait(struct command_context *context, const char *what, uint64_t epoch,
               const char *const *without, int timeout_s);

/* Whether every name in without is a registered host: EXIT_DONE, or EXIT_DATA
 * after a message with the names there are, or EXIT_SERVICE. */
int fence_check_without(struct store *store, const char *const *without);

/* Whether a host is one of the excepted (without may be NULL). */
bool fence_excepted(const char *const *without, const char *name);

/* By name, for people: the store's order changes. */
void fence_sort_hosts(struct host *hosts, size_t n);

/* Puts the names after --without-host into lower case, as hosts register
 * themselves; before options_parse(). */
void fence_normalise_without(int argc, char **argv);

#endif
