/*
 * verdict: what happens to mail for one recipient. The heart of sluice: a pure
 * function of the mailbox's home and the side this host is on, no I/O.
 */
#ifndef SLUICE_VERDICT_H
#define SLUICE_VERDICT_H

#include <stdbool.h>

#include "home.h"

enum side { SIDE_OLD, SIDE_NEW };

enum verdict {
    VERDICT_NONE,     /* not a managed domain: no opinion */
    VERDICT_DELIVER,  /* the mailbox lives here */
    VERDICT_HOLD,     /* it is being copied: keep the message in the queue */
    VERDICT_FORWARD,  /* it lives on the other side: pass the message on */
    VERDICT_REDIRECT, /* it lives under another address: replace the recipient */
    VERDICT_LATER,    /* unknown: try later, never a guess */
};

/* The verdict for a recipient of a managed domain. home is read only when
 * lookup is LOOKUP_FOUND; LOOKUP_ABSENT (a configured domain that was never
 * registered) is as unknown as a failure. */
enum verdict verdict_decide(enum side side, enum lookup lookup,
                            const struct home *home);

/* "none", "deliver", "hold", "forward", "redirect", "later". */
const char *verdict_name(enum verdict verdict);
const char *side_name(enum side side);

#endif
