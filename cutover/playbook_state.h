/*
 * playbook_state: where a run of a playbook stands, and what comes next. Pure:
 * no I/O, no clock; times are unix seconds of the store's clock, given by the
 * caller.
 *
 * A step's record, a field of the store's hash (lib/store.h), without the epoch
 * that the store puts in front of it:
 *     <state letter> TAB <began> TAB <ended> TAB <due> TAB <by> TAB <note>
 *     TAB <acted 0|1>
 * The run's own record (field ""):
 *     <state letter> TAB <started> TAB <opened> TAB <window, s> TAB <rehearsal 0|1>
 *     TAB <playbook> TAB <by> TAB <note> TAB <digest>
 * The outline (field "@outline"), so that nobody needs the file to show how far it is:
 *     <title> { TAB <phase's title> TAB <ids of its steps, with a comma between> }
 * The last rehearsal of the domain that came to its end (field "@rehearsed"; a start
 * carries it over):
 *     <ended> TAB <mailboxes> TAB <digest> TAB <playbook> TAB <variant> TAB <by>
 * policyd reads these too, by position: what is new is added at the end.
 */
#ifndef SLUICE_PLAYBOOK_STATE_H
#define SLUICE_PLAYBOOK_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "playbook.h"

#define STATE_BY_MAX     120
#define STATE_NOTE_MAX   1000
#define STATE_RECORD_MAX (STATE_BY_MAX + STATE_NOTE_MAX + 4200)

enum step_state {
    STATE_PENDING,
    STATE_RUNNING,
    STATE_PERSON, /* waits to be acknowledged */
    STATE_TIME,   /* waits for `due` */
    STATE_DONE,
    STATE_FAILED,
    STATE_UNDOING, /* its undo runs, or waits to be acknowledged */
    STATE_UNDONE,
    STATE_COUNT
};

struct step_record {
    enum step_state state;
    uint64_t epoch; /* of the change that made it so; 0: never begun */
    int64_t began, ended, due;
    bool acted; /* its action was begun: there may be something to undo */
    char by[STATE_BY_MAX + 1];
    char note[STATE_NOTE_MAX + 1]; /* result, reason of a failure, or a person's note */
};

enum run_state { RUN_NONE, RUN_GOING, RUN_FINISHED, RUN_BACK };
struct run_record {
    enum run_state state;
    uint64_t epoch;
    int64_t started;
    int64_t opened; /* the change window; 0: not yet */
    int64_t window_s;
    bool rehearsal;
    char playbook[4096]; /* name, or path */
    uint64_t digest;     /* of the file that it was started with */
    char by[STATE_BY_MAX + 1];
    char note[STATE_NOTE_MAX + 1];
};

struct rehearsal_record {
    int64_t ended, mailboxes;
    uint64_t digest;     /* of the playbook's file */
    char playbook[4096]; /* its name */
    char variant[PLAYBOOK_ID_MAX + 1];
    char by[STATE_BY_MAX + 1];
};

const char *step_state_name(enum step_state state);
const char *run_state_name(enum run_state state);
/* Whether a step may go from one state to another. */
bool step_state_way(enum step_state from, enum step_state to);

#define STATE_OUTLINE_MAX (16 * 1024)
/* The field "@outline"; 0: it does not fit. */
size_t state_outline(const struct playbook *playbook, char out[STATE_OUTLINE_MAX]);

/* Control characters become spaces; what is too long is cut with "...". */
void state_text(const char *text, char *out, size_t size);
size_t step_record_encode(const struct step_record *record, char out[STATE_RECORD_MAX]);
bool step_record_decode(const char *text, size_t len, struct step_record *out);
size_t run_record_encode(const struct run_record *record, char out[STATE_RECORD_MAX]);
bool run_record_decode(const char *text, size_t len, struct run_record *out);
/* 0: it does not fit. */
size_t rehearsal_encode(const struct rehearsal_record *record,
                        char out[STATE_RECORD_MAX]);
/* Without the epoch. */
bool rehearsal_decode(const char *text, struct rehearsal_record *out);

/* ---- what comes next ----------------------------------------------------- */

enum next_kind {
    NEXT_STEP,   /* step is to be run (again) */
    NEXT_PERSON, /* nothing to do before a person acknowledges step */
    NEXT_TIME,   /* nothing to do before records[step].due */
    NEXT_DONE,
};
struct next {
    enum next_kind kind;
    size_t step;
};
/* records: one per step. A step that runs is found too: its runner is gone when
 * the caller holds the lease. */
struct next state_next(const struct playbook *playbook, const struct step_record *records,
                       int64_t now);
/* The last step that is not pending and not undone, down to `first` (all: 0);
 * SIZE_MAX: nothing is left to undo. */
size_t state_next_back(const struct playbook *playbook, const struct step_record *records,
                       size_t first);
/* A step at or after `first`, done or begun, from which there is no way back;
 * SIZE_MAX. */
size_t state_no_return(const struct playbook *playbook, const struct step_record *records,
                       size_t first);

/* Whether times can be trusted: `now` is the store's clock, `local` this host's.
 * The store's clock is wrong when it stands before something that has happened
 * (*since is then that time), and one of the two when they are far apart; a timer
 * that such a clock lets pass would pass early. */
#define STATE_CLOCK_S 120
enum clock_state { CLOCK_GOOD, CLOCK_BACK, CLOCK_APART };
enum clock_state state_clock(const struct playbook *playbook,
                             const struct run_record *run,
                             const struct step_record *records, int64_t now,
                             int64_t local, int64_t *since);

struct forecast {
    bool open;      /* the window is open */
    int64_t ends;   /* unix s; 0: it was never opened */
    int64_t left_s; /* of the window; negative: over */
    int64_t need_s; /* what is usually still needed up to its end */
    int64_t all_s;  /* what is usually still needed for everything */
    bool over;      /* it will not fit */
};
void state_forecast(const struct playbook *playbook, const struct run_record *run,
                    const struct step_record *records, int64_t now, struct forecast *out);
/* Whether a step lies in the change window. */
bool state_in_window(const struct playbook *playbook, size_t step);

#endif
