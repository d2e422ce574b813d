/*
 * release: nothing that sluice holds stays for a mailbox that is not locked,
 * and nothing that waits for a mailbox expires.
 *
 * A sweep reads this host's held records and the mail queue, decides about
 * each message (release_decide(), pure) and acts. It is due at once after a
 * flip, unlock or rollback, again and again until nothing is left, and at idle
 * intervals otherwise. Only the keeper thread calls it.
 *
 * A message on hold without a record of sluice is somebody else's and is never
 * touched.
 */
#ifndef SLUICE_POLICYD_RELEASE_H
#define SLUICE_POLICYD_RELEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "queue.h"
#include "store.h"

/* What conf/postfix/sluice-hold says; how a deferral of ours is known. */
#define RELEASE_REASON "mailbox is being moved"

/* ---- the decision, pure -------------------------------------------------- */

enum release_record {
    RECORD_NONE,
    RECORD_LOCK,
    RECORD_LOOP, /* a loop's or DMARC's: only a person releases it */
};

struct release_facts {
    enum queue_name queue;
    enum release_record record;
    bool null_sender;
    int64_t arrival, created; /* unix s, see struct queue_entry */
    int64_t now;
    int64_t lifetime; /* that applies to this sender, s */
    /* recipients that are left, by verdict */
    size_t unmanaged, deliver, hold, forward, redirect, later;
    size_t ours; /* of those not to be held: deferred by sluice-hold */
};

enum release_action {
    RELEASE_NOTHING,
    RELEASE_RELEASE, /* postsuper -r ID hold */
    RELEASE_HOLD,    /* a record, then postsuper -h ID deferred */
    RELEASE_FLUSH,   /* postqueue -i ID */
    RELEASE_REQUEUE, /* postsuper -r ID deferred */
};
const char *release_action_name(enum release_action action);

struct release_decision {
    enum release_action action;
    bool left;      /* something of an unlocked mailbox waits here */
    bool undecided; /* of at least one recipient nothing is known */
    bool alarm;     /* half of its lifetime is over */
    bool stale;     /* its record says "on hold" and it is not: drop that */
};
#define RELEASE_REQUEUE_MOST_S 3600 /* between two requeues of a message */
struct release_decision release_decide(const struct release_facts *facts);

/* What to do with a record whose message is in no queue. */
enum record_fate { FATE_KEEP, FATE_MARK, FATE_DROP };
#define RELEASE_GONE_S  600 /* then the record goes */
#define RELEASE_FRESH_S 60  /* so long, its message may still appear */
enum record_fate release_fate(int64_t gone_since, int64_t now);

/* ---- the sweeps ------------------------------------------------------------ */

struct release;

struct release_env {
    struct conf *conf;
    struct store *store;
    struct queue *queue;
    const struct queue_settings *settings;
    uint64_t epoch; /* of the journal: what this host knows */
    int64_t now;    /* unix s */
    int64_t now_ms; /* monotonic */
};

struct release *release_new(void);
void release_free(struct release *release);

/* Makes a sweep due when the event may free something. */
void release_event(struct release *release, const struct event *event, int64_t now_ms);
/* Whether release_step() would sweep now. */
bool release_due(const struct release *release, int64_t now_ms);
/* Sweeps when that is due. now_ms() is for measuring how long it took. */
void release_step(struct release *release, const struct release_env *env,
                  int64_t (*now_ms)(void));

struct release_figures {
    uint64_t held, loops, left;
    uint64_t swept;    /* epoch after which nothing was left */
    int64_t oldest;    /* unix s; 0: none */
    uint64_t deferred; /* see struct host */
    int64_t deferred_oldest;
    char error[160]; /* why the last sweep failed; "" */
};
void release_figures(const struct release *release, struct release_figures *out);

#endif
