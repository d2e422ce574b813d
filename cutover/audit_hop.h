/*
 * audit_hop: what the ledger keeps, shared by its files:
 *
 *     audit_hop.c       the hops, found by queue id; their memory
 *     audit_tree.c      trees of them; when they go
 *     audit_rcpt.c      the recipients of a hop
 *     audit_ledger.c    what each event does to a hop
 *     audit_delivery.c  ... and to its recipients
 *     audit_fate.c      from a tree that is complete to rows
 */
#ifndef SLUICE_AUDIT_HOP_H
#define SLUICE_AUDIT_HOP_H

#include "audit_ledger.h"

#define HOP_INDEXED 16 /* so many recipients are searched one by one */
#define HOP_DEPTH   64 /* generations of a tree; more is nobody's mail */

enum rcpt_state {
    RCPT_ANNOUNCED, /* nothing was tried: by the milter, or by the hop before */
    RCPT_DEFERRED,
    RCPT_PASSED, /* accepted under another queue id: rcpt->next_hop or next_id */
    RCPT_DONE,   /* accepted or delivered, and it ends here: rcpt->fate */
    RCPT_RETURNED,
};

enum {
    RCPT_REDIRECT = 1, /* the new address of a mailbox */
    RCPT_COPY = 2,
    RCPT_FORWARD = 4, /* went by sluice-forward */
    RCPT_COVERED = 8, /* announced, and found under another address */
    RCPT_SMTP = 16,   /* handed over by smtp(8) */
    RCPT_TRIED = 32,  /* a delivery line was seen */
    RCPT_TARGET = 64, /* of an alias or .forward of Sendmail's: it has a line of its own */
    RCPT_OWN = 128,   /* ... of its own one */
};

struct rcpt {
    struct rcpt *next;
    struct hop *next_hop;     /* RCPT_PASSED */
    struct rcpt *passed_next; /* of those that next_hop was named for */
    int64_t us;               /* of the last attempt */
    char *detail;             /* "relay\0text\0", or NULL */
    char *mailbox;            /* learned later than its first line; or NULL */
    uint32_t again;
    uint32_t hash;
    uint16_t relay; /* index; 0: none */
    uint8_t state, fate, flags;
    uint16_t to_len, orig_len, mailbox_len;
    char text[]; /* to, orig_to, mailbox; each with a NUL */
};

static inline const char *rcpt_to(const struct rcpt *r)
{
    return r->text;
}
static inline const char *rcpt_orig(const struct rcpt *r)
{
    return r->text + r->to_len + 1;
}
static inline const char *rcpt_mailbox(const struct rcpt *r)
{
    return r->mailbox ? r->mailbox : r->text + r->to_len + r->orig_len + 2;
}

enum {
    HOP_BORN = 1 << 0,     /* its first line (client=, uid=) was seen */
    HOP_ACCEPTED = 1 << 1, /* something shows that it was taken */
    HOP_QUEUED = 1 << 2,   /* qmgr had it */
    HOP_HELD = 1 << 3,
    HOP_REQUEUED = 1 << 4, /* postsuper -r; its next hop is not there yet */
    HOP_MOVED = 1 << 5,    /* ... is there: HOP.successor */
    HOP_REMOVED = 1 << 6,  /* qmgr: removed */
    HOP_KILLED = 1 << 7,   /* postsuper -d */
    HOP_EXPIRED = 1 << 8,
    HOP_DISCARDED = 1 << 9,
    HOP_REFUSED = 1 << 10,
    HOP_PROBE = 1 << 11,    /* address verification */
    HOP_CLOSED = 1 << 12,   /* nothing comes any more */
    HOP_SEEN = 1 << 13,     /* has lines of its own */
    HOP_ID_KNOWN = 1 << 14, /* message_hash is set */
    HOP_CLAIMED = 1 << 15,  /* claimant says that it is its next hop */
    HOP_LIMBO = 1 << 16,    /* in the list of those not accepted yet */
    HOP_SENDMAIL = 1 << 17,
    HOP_TAKEN = 1 << 18,    /* the session's end says that it was accepted */
    HOP_DOUBTFUL = 1 << 19, /* ... or that it may have been */
    HOP_LATE = 1 << 20,     /* its beginning is not in the log */
    HOP_CLONE = 1 << 21,    /* Sendmail: it has some of its parent's recipients */
    HOP_SPLIT = 1 << 22,    /* ... and this is the parent */
};
#define HOP_BLOCK  640 /* a hop with its id, texts and first recipient */
#define HOP_ID_MAX 255
#define HOP_ENDED  (HOP_REMOVED | HOP_KILLED | HOP_MOVED | HOP_REFUSED | HOP_PROBE)

struct hop {
    struct hop *same_bucket;
    uint64_t id_hash;
    uint32_t flags, pid;
    uint32_t used, size;               /* bytes of its block: hop_memory() */
    struct hop *parent;                /* whose recipient or requeue it continues */
    struct hop *tree_next, *tree_last; /* tree_last: of a root */
    struct hop *claimant;
    struct rcpt *passed; /* of the claimant (then the parent): what was passed to this */
    uint64_t serial;
    struct hop *chain_next; /* of the same smtpd process; or requeued too */
    struct hop *limbo_next, *limbo_prev;
    struct rcpt *rcpts, **rcpt_end;
    struct rcpt **index; /* by hash, when there are many */
    char *from, *message_id, *notice;
    uint64_t message_hash;
    int64_t first_us, last_us;
    uint32_t open;    /* of a root: hops not closed yet and claims not settled */
    uint32_t deleted; /* of nrcpt: by the milter, which qmgr(8) counts nevertheless; by
                         Sendmail, which made others of it */
    uint32_t nrcpt, rcpt_count, tried, refs, index_size;
    uint16_t host; /* 0: not known */
    uint8_t id_len;
    char id[];
};

/* A server that took messages over under an id of its own. */
struct relay {
    char *name;
    size_t len;
    uint16_t host; /* of the log that has such an id; 0: none so far */
};

struct log_host {
    char *name;
    size_t len;
    int64_t first_us, last_us;
    enum ledger_side side;
    bool side_known, verdicts;
    bool says_done;  /* a Sendmail of LogLevel 10 or more */
    bool says_alias; /* ... of 11 or more */
};

struct due {
    struct hop *hop;
    int64_t us;
};

struct ledger {
    struct ledger_ports ports;
    struct hop **buckets;
    struct hop *spare; /* hops that are done, to be used again */
    size_t bucket_count, hop_count, spare_count;
    struct log_host *hosts; /* [0] is the one without name */
    size_t host_count, last_host;
    struct relay *relays; /* [0] is none */
    size_t relay_count;
    uint16_t *relay_index; /* RELAY_PLACES, by hash; 0: free */
    struct hop **sessions; /* by pid: hops that are not accepted yet */
    struct hop **requeued; /* by Message-ID: waiting for pickup's line */
    struct hop *limbo, *limbo_last;
    struct due *dues; /* a ring */
    size_t due_first, due_count, due_size;
    int64_t now_us;
    bool failed; /* no memory */
    bool ended;
    struct ledger_counts counts;
    /* of the event at hand */
    const struct log_line *line;
    int64_t line_us, line_end_us;
    uint16_t line_host;
    struct ledger_row *rows; /* tree_rows()'s, used again and again */
    size_t rows_size;
};
#define SESSION_SLOTS 4096
#define RELAYS_MAX    1000
#define RELAY_PLACES  2048

/* audit_hop.c */
struct hop *hop_find(struct ledger *ledger, struct log_slice id, uint16_t host);
struct hop *hop_new(struct ledger *ledger, struct log_slice id, uint16_t host);
/* Memory that lives as long as the hop, in its block where there is room: no
 * call of malloc(3) for most, and all of it near. NULL: none. */
void *hop_memory(struct hop *hop, size_t size);
void hop_memory_free(struct hop *hop, void *memory);
void hop_free(struct ledger *ledger, struct hop *hop);
void hops_free(struct ledger *ledger);

/* audit_tree.c */
/* Closes it in LEDGER_GRACE_US. */
void hop_retire(struct ledger *ledger, struct hop *hop);
/* It was accepted after all. */
void hop_accept(struct ledger *ledger, struct hop *hop);
void hop_limbo(struct ledger *ledger, struct hop *hop);
void hop_limbo_leave(struct ledger *ledger, struct hop *hop);
void hop_session_join(struct ledger *ledger, struct hop *hop, uint32_t pid);
void hop_session_leave(struct ledger *ledger, struct hop *hop);
void hops_due(struct ledger *ledger); /* closes what is due */
void hops_close_all(struct ledger *ledger);
struct hop *hop_root(struct hop *hop);
/* child goes on with what parent had. false: it has a parent, or is one of its. */
bool hop_attach(struct hop *parent, struct hop *child);
/* rcpt of parent was accepted under an id. */
void hop_claim(struct ledger *ledger, struct hop *parent, struct rcpt *rcpt,
               struct log_slice id, bool trusted);
void hop_settle(struct ledger *ledger, struct hop *hop);

/* audit_sendmail.c */
void hop_expanded(struct ledger *ledger, struct hop *hop, const struct log_event *event);
void hop_clone(struct ledger *ledger, struct hop *hop, struct log_slice id);
/* A notice's own lines do not say from whom it is, nor when it began. */
void hop_notice(struct ledger *ledger, struct hop *hop, struct log_slice id);
/* Its recipients, where the line names them. */
void hop_discarded(struct ledger *ledger, struct hop *hop, const struct log_event *event);
/* Whether it has ended, as far as can be told. */
void hop_sendmail_done(struct ledger *ledger, struct hop *hop);
/* How many recipients of a hop of Sendmail have no line; *text says why it matters. */
uint32_t hop_sendmail_lost(const struct ledger *ledger, const struct hop *hop,
                           const char **text);

/* audit_delivery.c: another address for this mailbox ("": none of ours). */
struct rcpt *hop_announce(struct ledger *ledger, struct hop *hop, struct log_slice to,
                          const char *mailbox, uint8_t flags);

/* audit_rcpt.c */
struct rcpt *rcpt_find(struct hop *hop, struct log_slice to, struct log_slice orig);
/* Found or made; mailbox is "" or the managed address. NULL: no memory. */
struct rcpt *rcpt_get(struct ledger *ledger, struct hop *hop, struct log_slice to,
                      struct log_slice orig, const char *mailbox);
/* What rcpt stands for is expected in hop too. */
void rcpt_expect(struct ledger *ledger, struct hop *hop, const struct rcpt *rcpt);
void rcpts_expect_open(struct ledger *ledger, struct hop *hop, const struct hop *from);
/* A copy that lives as long as the hop. */
char *text_cut(struct ledger *ledger, struct hop *hop, struct log_slice text);

/* audit_ledger.c */
char *name_copy(struct ledger *ledger, struct log_slice text);
void hop_from(struct ledger *ledger, struct hop *hop, struct log_slice from);

/* audit_delivery.c */
void hop_verdict(struct ledger *ledger, struct hop *hop, const struct log_event *event);
void hop_delivery(struct ledger *ledger, struct hop *hop, const struct log_event *event);

/* audit_fate.c */
void tree_rows(struct ledger *ledger, struct hop *root);

#endif
