/*
 * transition: which change moves a mailbox from where to where, and how a
 * person is told that one does not apply. The scripts in Redis decide (atomic);
 * this says the same for --dry-run and for messages. Pure.
 *
 *     lock      o -> l          flip    l, r -> n
 *     rollback  n -> r          unlock  l, r -> o
 */
#ifndef SLUICE_TRANSITION_H
#define SLUICE_TRANSITION_H

#include <stdbool.h>

#include "home.h"

enum transition {
    TRANSITION_MOVES,   /* the change applies */
    TRANSITION_THERE,   /* nothing to do: it has its target state */
    TRANSITION_REFUSED, /* by the state it is in */
};

/* op is EVENT_LOCK, EVENT_FLIP, EVENT_UNLOCK or EVENT_ROLLBACK. */
enum transition transition_judge(enum event_op op, enum home_state state, bool rollback);

/* "is at home new: lock moves only mailboxes at home old ..." for a refused
 * one, to stand after the mailbox's name. */
const char *transition_refusal(enum event_op op, enum home_state state, bool rollback);

/* "locked", "flipped", "unlocked", "rolled back". */
const char *transition_done(enum event_op op);

#endif
