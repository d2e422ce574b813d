/*
 * home: where a mailbox lives, and how that is written down.
 *
 * Record (value of a field of the Redis hash home:<domain>), at most
 * HOME_RECORD_MAX bytes of text:
 *
 *     <state><epoch>.<since>[<TAB>n=<new address>][<TAB>c=<copy address>]
 *
 * state is one letter: o old, l locked (while it moves to the new side),
 * r locked (while it is rolled back to the old one), n new; epoch and since
 * (unix seconds of the last transition) are lower-case hexadecimal:
 * "l1f.6740a1b2".
 *
 * Event: one change of up to EVENT_ITEMS_MAX mailboxes of one domain. The same
 * text form is the entry of the Redis stream and the record of the journal,
 * its body being one line per mailbox: "<local>" or "<local><TAB><record>".
 * A line without a record means: state = the event's, epoch and since = the
 * event's, the addresses unchanged. The local part "" is the domain's own
 * record.  Local parts hold no control characters (addr refuses them).
 *
 * Pure functions, no I/O.
 */
#ifndef SLUICE_HOME_H
#define SLUICE_HOME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"

/* The three outcomes of every lookup; an outage is never an absence. */
enum lookup { LOOKUP_FOUND, LOOKUP_ABSENT, LOOKUP_FAILED };

enum home_state { HOME_OLD, HOME_LOCKED, HOME_NEW };

struct home {
    enum home_state state;
    bool rollback;    /* HOME_LOCKED on the way back from new to old */
    uint64_t epoch;   /* of the change that set state */
    int64_t since;    /* unix seconds of that change */
    bool listed;      /* false: taken from the domain's own record */
    char new_address[ADDR_TEXT_MAX + 1]; /* "" when there is none */
    char copy[ADDR_TEXT_MAX + 1];        /* "" when there is none */
};

#define HOME_RECORD_MAX (1 + 16 + 1 + 16 + 2 * (3 + ADDR_TEXT_MAX))

/* false when text is not a record (then out is not to be read). */
bool home_decode(const char *text, size_t len, struct home *out);
/* Returns the length written, without the final NUL. */
size_t home_encode(const struct home *home, char out[HOME_RECORD_MAX + 1]);

/* "old", "locked", "new". */
const char *home_state_name(enum home_state state);
/* The letter of a record; false when it is none. */
char home_letter(enum home_state state, bool rollback);
bool home_from_letter(char letter, enum home_state *state, bool *rollback);

/* A position in the history of changes: every change has the next epoch and
 * a random id, so a history that was rolled back and grew again is told from
 * the one that a host has in its journal. */
#define EVENT_ID_LEN 16 /* lower-case hexadecimal digits */
struct position {
    uint64_t epoch; /* 0: no history */
    char id[EVENT_ID_LEN + 1];
};

/* Whether the store's history contains a position (the head of a journal). */
enum history {
    HISTORY_HOLDS,    /* it does, or there is no position to compare (epoch 0) */
    HISTORY_LOST,     /* the store is before the position */
    HISTORY_BEHIND,   /* the position is older than the ids that the store keeps */
    HISTORY_DIVERGED, /* the store has another change in its place */
};
/* last and floor: the store's last epoch and the oldest whose id it keeps; id: the
 * one it has at head's epoch, or NULL. */
enum history history_judge(const struct position *head, uint64_t last, uint64_t floor,
                           const char *id);

enum event_op {
    EVENT_INIT,     /* domain registered */
    EVENT_IMPORT,   /* mailboxes added, or their addresses changed */
    EVENT_LOCK,     /* old -> locked */
    EVENT_FLIP,     /* locked -> new */
    EVENT_UNLOCK,   /* locked -> old */
    EVENT_ROLLBACK, /* new -> locked */
    EVENT_HOST,     /* a host was registered: body "<name><TAB><side>" */
    EVENT_UNHOST,   /* a host was removed: body "<name>" */
    EVENT_RECOVER,  /* Redis was rebuilt; no body */
    EVENT_PLAYBOOK, /* a step of a playbook's run: body "<field><TAB><value>" */
    EVENT_BASE,     /* journal only: a host's starting point: homes, runs, hosts */
};

/* A chunk never holds Redis for more than a few milliseconds, and the body of
 * its event stays well below Redis' and our own limits. */
#define EVENT_ITEMS_MAX 1000

struct event {
    struct position at;
    char prev[EVENT_ID_LEN + 1]; /* id of epoch - 1; "-" for the first */
    enum event_op op;
    char letter;  /* state of the lines without a record, see home_letter() */
    int64_t time;          /* unix seconds */
    char domain[ADDR_DOMAIN_MAX + 1]; /* "" for hosts and recover */
    const char *body;      /* lines, each ended by LF; not NUL-terminated */
    size_t body_len;
};

const char *event_op_name(enum event_op op);
bool event_op_parse(const char *name, enum event_op *out);

/* Walks the lines of a body: *cursor starts at 0. record is NULL (and
 * record_len 0) for a line without one. false at the end. */
bool event_next_item(const struct event *event, size_t *cursor,
                     const char **local, size_t *local_len,
                     const char **record, size_t *record_len);

/* What a line makes of a mailbox: home holds its present record (listed =
 * false: none yet) and is overwritten. false: the line is not valid. */
bool event_apply(const struct event *event, const char *record,
                 size_t record_len, struct home *home);

#endif
