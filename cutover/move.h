/*
 * move: a cutover at work. cutover.c prepares it (targets, preconditions),
 * move.c is its loop (probes, syncs, signals), move_store.c its changes in the
 * store (locks, fences, flips), move_report.c what is told at the end.
 *
 * One thread, one poll(2) over the new server, the children and the signals;
 * calls of the store block, each for a moment. All state that matters is in the
 * store: killed at any point, the same command goes on.
 */
#ifndef SLUICE_MOVE_H
#define SLUICE_MOVE_H

#include <stdbool.h>
#include <stdint.h>

#include "command.h"
#include "fencewait.h"
#include "lease.h"
#include "options.h"
#include "plan.h"
#include "probe.h"
#include "run.h"

#define MOVE_LEASE_S   30
#define MOVE_FENCE_S   33 /* of a fence, until one was measured */
#define MOVE_GIVE_UP_S 600

struct move_options {
    int batch;   /* 0: automatic */
    int jobs;    /* 0: of the configuration */
    int give_up; /* seconds without Redis, for a fence, for the release */
    bool no_probe;
    struct option_list without;
};

enum move_stop {
    MOVE_GOES_ON,
    MOVE_DRAINS, /* locks no more, running syncs end, the rest is unlocked */
    MOVE_ABORTS, /* running syncs are stopped too */
};

struct move {
    struct command_context *context;
    const struct conf_domain *domain;
    struct move_options options;
    bool whole; /* the domain was named, not single mailboxes */
    struct plan plan;
    size_t own;            /* the domain's own record; PLAN_NONE: not to be moved */
    size_t mailboxes;      /* in the plan, without the own record */
    size_t locked_before;  /* found locked at the start */
    const char *own_stays; /* why, when it is not to be moved; NULL: it is new */
    struct probe *probe;   /* NULL: nobody to ask */
    size_t to_probe;       /* where feeding it goes on */
    bool not_probed;       /* mailboxes went on without */
    bool takes_anyone;     /* the new server accepted an invented recipient */
    struct run_set *jobs;
    int log_directory;
    int signals; /* signalfd */
    int64_t offset_ms; /* store's clock minus clock_ms() */
    int64_t began_ms;

    /* the batch ahead: STEP_LOCKED */
    bool fenced;
    bool relock; /* a lock ended uncertain: ask again */
    uint64_t fence_epoch;
    int64_t fence_began_ms, look_at;
    char waits_for[FENCE_TEXT_MAX], silent[FENCE_TEXT_MAX];
    double last_fence_s, all_fences_s;
    size_t fences, batches;

    /* speed: mean length of the last syncs */
    double sync_s;
    size_t synced;
    int64_t first_sync_ms;

    struct lease lease;
    int64_t outage_since, retry_at; /* 0: the store answers */
    uint64_t last_flip;             /* epoch */

    enum move_stop stop;
    int exit_code; /* EXIT_DONE, or why it stopped early */
    bool plain;    /* standard error is not a terminal: a line per mailbox */
};

/* Runs the loop until every mailbox has come to an end. */
void move_run(struct move *move, int64_t now);

/* ---- move_store.c ---------------------------------------------------------- */

/* Takes the lease, or says who has it. */
int move_take_lease(struct move *move);
void move_drop_lease(struct move *move);
/* Whatever the store is to do now: flips, unlocks, fence, next lock, lease. */
void move_store_turn(struct move *move, int64_t now);
/* Whether the fence of the batch ahead is over and the current batch begun. */
void move_promote(struct move *move);
/* Syncs per second with all jobs; 0: not known yet. */
double move_rate(const struct move *move, int64_t now);

/* ---- move.c, for the others ---------------------------------------------------- */

/* Begins to stop; the first reason given decides the exit code. */
void move_stop(struct move *move, enum move_stop how, int exit_code, int64_t now);
/* Ends or moves a mailbox with a reason (NULL: none), and tells it. */
void move_set(struct move *move, size_t box, enum step to, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Ends it as `end`, unlocking it before when unlock is set. */
void move_give_up(struct move *move, size_t box, enum step end, bool unlock,
                  const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Waits until `until` (clock_ms()) or a signal. */
void move_pause(struct move *move, int64_t until);

/* ---- move_report.c ------------------------------------------------------------- */

/* Waits until the held mail of what is new has left. false: not all. */
bool move_wait_release(struct move *move, char *still, size_t still_size);
/* The summary; still is "" or what is still to be released. Returns the exit
 * code. */
int move_report(struct move *move, const char *still);
/* The document and the table of --dry-run. */
int move_report_plan(struct move *move);

#endif
