/*
 * One sweep of release.h, for the files that make it: release_look.c reads the
 * records and the queue and looks up what is known of each recipient,
 * release_act.c moves messages and settles their records, release.c says when.
 *
 * Any failure leaves what it concerns as it is and makes the sweep incomplete
 * (sweep_failed()): it does not count as "nothing left".
 */
#ifndef SLUICE_POLICYD_RELEASE_SWEEP_H
#define SLUICE_POLICYD_RELEASE_SWEEP_H

#include "held.h"
#include "release.h"

#define SWEEP_BATCH 200 /* lookups at once */

struct id_list {
    char (*ids)[QUEUE_ID_MAX];
    size_t n, size;
};

/* Lasts from sweep to sweep. */
struct release {
    struct release_figures figures;
    bool pressing; /* an event asks for a sweep */
    int64_t due_ms;
    int64_t again_ms;  /* back-off while something is left */
    int64_t ended_ms;  /* the last sweep */
    int64_t looked_ms; /* what of it was spent on looking */
    bool settling;     /* it released messages: their records are to go */
    int64_t spill_due_ms, spill_wait_ms; /* see decide_flush() */
    int64_t left_since_ms;               /* 0: nothing is left */
    int64_t refused_due_ms;              /* next alarm about refusals */
    struct id_list moved; /* to or from hold, by us; their records are there */
};

/* What Redis and the disk know of a held message. */
struct record {
    struct held held;
    char *sender, *recipients;
    bool seen; /* in some queue */
    bool on_hold;
    bool drop;
    bool released; /* in this sweep */
    bool wanted;   /* in this sweep its message goes on hold */
};

/* One in the queue that concerns us. */
struct message {
    char id[QUEUE_ID_MAX];
    struct release_facts facts;
    struct record *record;
    char *sender;     /* kept for what may be put on hold */
    char *recipients; /* canonical, LF between */
    enum release_action action;
};

struct sweep {
    struct release *release;
    const struct release_env *env;
    struct record **records; /* sorted by id */
    size_t record_count, record_size;
    struct message *messages;
    size_t message_count, message_size;
    struct route *routes; /* SWEEP_BATCH of them */
    struct {
        size_t message; /* index; NO_MESSAGE: recipients of a record */
        struct record *record;
        bool ours;
    } waiting[SWEEP_BATCH];
    size_t waiting_count;
    uint64_t left;
    size_t restored; /* records that Redis had lost */
    size_t stranded; /* messages that lie in incoming */
    size_t released; /* from hold, or requeued */
    bool spilled;    /* see decide_flush() */
    int64_t (*now_ms)(void);
    int64_t acted_ms;  /* spent on commands and records, not on looking */
    size_t refused;    /* recipients that another server answers 5xx for */
    char refusal[512]; /* the first of them */
    bool failed;
};
#define NO_MESSAGE SIZE_MAX

/* The first reason is kept, for the figures. */
void sweep_failed(struct sweep *sweep, const char *why);

/* release_look.c. False: failed, or the sweep must begin anew. */
bool sweep_read_records(struct sweep *sweep);
bool sweep_read_queue(struct sweep *sweep);
/* Counts in sweep->left what has a fresh record and no message yet. */
void sweep_look_for_missing(struct sweep *sweep);
struct record *sweep_record(const struct sweep *sweep, const char *id);

/* release_act.c. */
void sweep_decide(struct sweep *sweep);
void sweep_act(struct sweep *sweep);
void sweep_settle_records(struct sweep *sweep);
bool sweep_moved(const struct sweep *sweep, const char *id); /* by us, to or from hold */

#endif
