/*
 * audit_ledger: every message of a log, from its acceptance to its fate.
 *
 *     ledger = ledger_new(&ports);
 *     for each line, in the order of time: ledger_take(ledger, &line, &event, time)
 *     ledger_end(ledger);
 *
 * A queue file is a hop. A message begins with one, and goes on in another when the
 * next server says "queued as", when local(8) forwards, when postsuper -r or a
 * content filter gives it a new id: its hops are a tree, whose leaves are its
 * recipients. When no hop of a tree is open any more, each managed recipient is
 * given to ports->row() as one row with one fate.
 *
 * What a line can claim: a queue id that another server names in its reply is only
 * believed when that hop has the same Message-ID, so a hostile server cannot take a
 * message out of the books by naming its id. A recipient whose line is missing is
 * noticed by the count of recipients that qmgr(8) logs (nrcpt=), by what
 * sluice-milter announced, and by the hops before.
 *
 * Limits: what is finished is kept for LEDGER_GRACE_US more, since the line that
 * refers to it (of a host with another clock, or of the same one) may come later;
 * so hosts' clocks may differ by that much. local(8) may expand one recipient into
 * several by itself: a missing line may hide behind these. Memory grows with the
 * messages in the queues, and those of the last LEDGER_GRACE_US.
 *
 * No I/O, no clock: pure, but for memory.
 */
#ifndef SLUICE_AUDIT_LEDGER_H
#define SLUICE_AUDIT_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "log_event.h"

#define LEDGER_SECOND    INT64_C(1000000)
#define LEDGER_GRACE_US  (600 * LEDGER_SECOND)
#define LEDGER_LIMBO_US  (7200 * LEDGER_SECOND) /* begun, and never accepted */
#define LEDGER_SILENT_US (6 * 3600 * LEDGER_SECOND)
#define LEDGER_TEXT_MAX  300 /* of a text from the log; cut there with "..." */
#define LEDGER_HOSTS_MAX 1000

enum ledger_fate {
    FATE_OLD,        /* into the old mailbox, before its lock */
    FATE_LOCKING,    /* the same, while the lock was being completed: before the sync */
    FATE_NEW,        /* into the new mailbox */
    FATE_SIDE,       /* into a mailbox on a host whose side is not known */
    FATE_ELSEWHERE,  /* accepted by another server, whose log is not here */
    FATE_REDIRECTED, /* to its new address */
    FATE_SENT_ON,    /* an alias or .forward made another address of it */
    FATE_COPY,       /* a copy, delivered or handed over */
    FATE_QUEUED,
    FATE_RETURNED,  /* refused, or too long in the queue */
    FATE_DISCARDED, /* by a rule of the MTA or a filter */
    FATE_REMOVED,   /* by an admin: postsuper -d */
    FATE_WRONG,     /* into a mailbox that was locked, or did not live there */
    FATE_UNKNOWN,
    LEDGER_FATES
};

/* What ports->judge() says of a delivery into a mailbox. */
enum ledger_judged { JUDGED_FINE, JUDGED_LOCKING, JUDGED_WRONG };
enum ledger_side { LEDGER_SIDE_UNKNOWN, LEDGER_SIDE_OLD, LEDGER_SIDE_NEW };

struct ledger_row {
    uint64_t message; /* its number: the same for all rows of a message, which come
                         one after the other */
    enum ledger_fate fate;
    const char *mailbox; /* the managed address; "": the log does not name it */
    const char *to;      /* what it was delivered to; "" the same */
    unsigned recipients; /* 1; more only where they are not named */
    unsigned again;      /* so many more deliveries of the same */
    const char *from, *message_id;
    int64_t accepted_us;
    bool began_before;                 /* its beginning is not in the logs */
    const char *first_host, *first_id; /* where it was accepted */
    int64_t fate_us;
    const char *host, *id; /* where its fate is; of a queued one: where it is */
    const char *where;     /* queued: "hold", "deferred", ...; else the relay */
    const char *text;      /* what was said; or the line, of FATE_WRONG */
    const char *notice;    /* returned: queue id of the notice; "" none */
};

struct ledger_ports {
    void *context;
    /* The managed address that text stands for, canonical. false: not managed. */
    bool (*mailbox)(void *context, struct log_slice text, char out[ADDR_TEXT_MAX + 1]);
    /* Whether this (unmanaged) address is one that mailboxes are redirected to. */
    bool (*redirects_to)(void *context, struct log_slice text);
    enum ledger_side (*side)(void *context, const char *host);
    /* A delivery into mailbox on host, at from_us to to_us (the stamp's second). */
    enum ledger_judged (*judge)(void *context, const char *mailbox, const char *host,
                                enum ledger_side side, int64_t from_us, int64_t to_us);
    /* A host has completed all locks up to a change. */
    void (*fence)(void *context, struct log_slice host, uint64_t change, int64_t us);
    void (*row)(void *context, const struct ledger_row *row);
    bool full; /* texts of every row are wanted, not only of those with a problem */
};

struct ledger;

struct ledger *ledger_new(const struct ledger_ports *ports); /* NULL: no memory */
void ledger_free(struct ledger *ledger);
/* us: log_time.us; false: no memory. */
bool ledger_take(struct ledger *ledger, const struct log_line *line,
                 const struct log_event *event, int64_t us);
/* All is read: what is open becomes FATE_QUEUED or FATE_UNKNOWN. */
bool ledger_end(struct ledger *ledger);

struct ledger_counts {
    uint64_t messages; /* with a row */
    uint64_t hops, most_in_memory;
    uint64_t unfinished; /* transactions that clients broke off: nothing accepted */
    uint64_t unbelieved; /* queue ids named by servers, that are of other messages */
    uint64_t hosts_left_out;
};
const struct ledger_counts *ledger_counts(const struct ledger *ledger);
/* The hosts in the log: NULL after the last. */
const char *ledger_host(const struct ledger *ledger, size_t index, int64_t *first_us,
                        int64_t *last_us);

/* Of any bytes; not for keys that must not be guessed. */
uint64_t ledger_hash(const char *text, size_t len);

const char *ledger_fate_name(enum ledger_fate fate); /* a stable word: "delivered-old" */

#endif
