/*
 * apply: from decided routes to what the MTA is asked to do.
 *
 *     plan_make()   pure: the routes of a message -> a plan
 *     plan_apply()  carries it out, the record of a held message first
 *
 * The MTA is a table of functions, so this knows nothing of libmilter.
 */
#ifndef SLUICE_MILTER_APPLY_H
#define SLUICE_MILTER_APPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session.h"
#include "store.h"

enum ending {
    ENDING_ACCEPT, /* the steps, then accept: the transport map holds and
                      forwards recipient by recipient */
    ENDING_HOLD,   /* every recipient is locked: the message goes on hold */
    ENDING_LOOP,   /* it was sent away before: on hold until a person looks */
    ENDING_DMARC,  /* enforce = quarantine: on hold until a person looks */
    ENDING_LATER,  /* 4xx to the whole message */
};

struct plan_step {
    const char *remove; /* recipient, as the MTA named it; or NULL */
    const char *add;    /* address; or NULL */
    const char *notify; /* ESMTP parameter of add; or NULL */
};

struct plan {
    enum ending ending;
    const char *reason; /* one word for the log; NULL */
    bool locked;        /* later because of a lock (hold = defer) */
    const struct recipient *looping;
    struct plan_step *steps;
    size_t step_count;
    char **traces; /* values of the trace headers to add */
    size_t trace_count;
    char *sender; /* the envelope sender that SRS makes of it; NULL: it stays.
                     Set by plan_apply() */
};

/* Whether plan_make() wants the key of the trace tokens. */
bool plan_wants_secret(const struct session *session);

/* Decides. The routes are finished; secret may be NULL (then what needs it is
 * tried later). Marks recipients as copied. The plan points into session. */
void plan_make(struct session *session, const unsigned char *secret, struct plan *plan);
void plan_free(struct plan *plan);
/* Its author's DMARC policy puts the message on hold, whatever else would become
 * of it, unless it is tried later or held as a loop. */
void plan_quarantine(struct plan *plan);
#define DMARC_HOLD_REASON "sluice: DMARC policy"

struct mta {
    void *context;
    bool (*quarantine)(void *context, const char *reason);
    bool (*add)(void *context, const char *address, const char *notify);
    bool (*remove)(void *context, const char *text);
    bool (*header)(void *context, const char *name, const char *value);
    /* NULL: the MTA does not let the sender be changed */
    bool (*sender)(void *context, const char *address);
};

/* Carries the plan out; what fails turns it into ENDING_LATER, with a reason.
 * queue_id may be NULL (unknown). */
void plan_apply(struct plan *plan, const struct session *session, const struct mta *mta,
                struct store *store, const char *queue_id, int64_t now);

/* The same hold for a message that plan_make() was not asked about, for it has no
 * managed mailbox. It does not wait for Redis: recorded as well as can be (store may
 * be NULL), it goes on hold. false: the MTA refuses. */
bool apply_quarantine(const struct session *session, const struct mta *mta,
                      struct store *store, const char *queue_id, int64_t now);

/* The figures of a message that was accepted: floaters, arrivals. */
void plan_count(const struct plan *plan, const struct session *session,
                struct store *store, const char *queue_id, int64_t now);

#endif
