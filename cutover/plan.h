/*
 * plan: which mailbox is where in a cutover, and how many come next.
 *
 * Every mailbox is in exactly one step; the steps and the ways between them are
 * a table in plan.c. Each step is a list in the order of arrival, so the loop in
 * move.c never searches.  Pure: no I/O, no clock; times are given by the caller
 * in milliseconds.
 */
#ifndef SLUICE_PLAN_H
#define SLUICE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum step {
    STEP_PARKED,   /* the domain's own record, waiting for the mailboxes: before its
                      lock, and after its fence */
    STEP_UNPROBED, /* the new server was not asked yet */
    STEP_READY,    /* the new server takes its mail (or is not asked) */
    STEP_LOCKED,   /* locked, the fence is not confirmed */
    STEP_QUEUED,   /* fenced, waits for a sync job */
    STEP_SYNCING,
    STEP_SYNCED,    /* to be flipped */
    STEP_UNLOCKING, /* to be unlocked; then goes to its `after` */
    STEP_MOVED,     /* done in this run */
    STEP_ALREADY,   /* was new before */
    STEP_REFUSED,   /* 5xx by the new server: left where it is */
    STEP_UNDECIDED, /* 4xx, or no answer: left where it is */
    STEP_FAILED,    /* sync failed, or somebody else changed it */
    STEP_LEFT,      /* not begun when the run stopped */
    STEP_COUNT
};

#define PLAN_NONE SIZE_MAX

struct mailbox {
    const char *local; /* "" is the domain's own record */
    const char *address;
    const char *target; /* address on the new side; same as address or new */
    char *reason;       /* why it ended there; NULL */
    enum step step;     /* set by plan_set() alone */
    enum step after;    /* of STEP_UNLOCKING: where it goes then */
    bool found_locked;  /* by somebody else, or by an earlier run */
    bool stays_locked;  /* at its end, so it is told */
    bool unsure;        /* its lock or flip ended uncertain: it may be done */
    uint8_t tries;      /* of the fence */
    int64_t not_before; /* of its sync, which found an earlier one running */
    int64_t busy_since;
    uint64_t epoch;    /* of its lock */
    int64_t locked_ms; /* store's clock; 0: not locked */
    int64_t began_ms;  /* of its sync, and when that ended */
    int64_t ended_ms;
    int64_t flipped_ms;
    size_t prev, next; /* in the list of its step */
};

struct plan_list {
    size_t head, tail, n;
};

struct plan {
    struct mailbox *boxes;
    size_t n;
    struct plan_list lists[STEP_COUNT];
};

/* Takes an array of n mailboxes (not the memory of it); each starts in the step
 * that it has. */
void plan_init(struct plan *plan, struct mailbox *boxes, size_t n);

/* Moves a mailbox to the end of another step's list. false: there is no such
 * way, nothing was done. */
bool plan_set(struct plan *plan, size_t box, enum step to);
bool plan_way(enum step from, enum step to);

static inline size_t plan_first(const struct plan *plan, enum step step)
{
    return plan->lists[step].head;
}
static inline size_t plan_count(const struct plan *plan, enum step step)
{
    return plan->lists[step].n;
}
/* Mailboxes that have come to an end. */
size_t plan_ended(const struct plan *plan);

/* "moved", "already", "refused", ... as in the summary's document. */
const char *step_name(enum step step);

/* ---- how many at a time ------------------------------------------------ */

#define BATCH_MAX 1000 /* one change of the store: EVENT_ITEMS_MAX */

/* Size of the next batch: `fixed` when not 0; 4 x jobs until the rate (syncs per
 * second, all jobs together) is known; then as many as are synced in the time
 * of one fence; within [4 x jobs, BATCH_MAX]. */
size_t plan_batch_size(int jobs, double rate, double fence_s, size_t fixed);

/* Whether to lock the next batch now: its fence shall end about when the last of
 * the `remaining` mailboxes of the current one begins. Locked earlier, its mail
 * would wait for nothing. rate 0: not known, do not. */
bool plan_lock_now(size_t remaining, double rate, double fence_s);

/* The value below which p (0 to 1) of the n sorted values lie, by nearest rank.
 * 0 when there are none. */
double plan_percentile(const double *sorted, size_t n, double p);

/* File name for a mailbox or domain: what is not [a-z0-9._+=@-], and a dot at
 * the start, as %XX; a name that would be longer than 200 bytes is cut and ends
 * in "%" and 16 digits of a hash. */
#define PLAN_FILE_NAME_MAX 217
void plan_file_name(const char *text, char out[PLAN_FILE_NAME_MAX + 1]);

#endif
