/*
 * log_flow: messages in flight, joined from their log lines by queue id.
 *
 * A long queue id is unique by itself; a short one (hex digits) is joined within
 * its host. log_flow_take() puts what an event says into its message and returns
 * it, so that the caller sees event and message together; when log_flow_ends() says
 * so (removed, refused) the caller has the message a last time and calls
 * log_flow_drop(). postsuper -r, a content filter, local(8)'s forwarding and Sendmail's
 * lists with an owner give a message a new id: the new one takes over client, helo,
 * user, Message-ID and words of verification, and `origin`.
 *
 * Memory grows with the messages in flight: one that came to nothing (the client
 * hung up) is forgotten two hours after its last line, and so is one of Sendmail when
 * all recipients that its log has named are done: below LogLevel 10 it does not say that
 * there are no more. One on hold or in the queue is forgotten forty days after. Past LOG_FLOW_MAX messages a new one is not taken
 * (NULL) and counted.
 */
#ifndef SLUICE_LOG_FLOW_H
#define SLUICE_LOG_FLOW_H

#include <stdio.h>

#include "log_event.h"

#define LOG_FLOW_MAX            4000000u
#define LOG_FLOW_RECIPIENTS_MAX 50000u /* of one message; more are counted */
#define LOG_FLOW_TEXT_MAX       1024u  /* of one text; cut there */

enum log_flow_text {
    LOG_FLOW_ID,
    LOG_FLOW_HOST,
    LOG_FLOW_FROM,
    LOG_FLOW_CLIENT_NAME,
    LOG_FLOW_CLIENT, /* address */
    LOG_FLOW_USER,
    LOG_FLOW_HELO, /* of the milter: with its \xHH */
    LOG_FLOW_MESSAGE_ID,
    LOG_FLOW_DMARC,  /* "pass", "fail", ...; "" not verified */
    LOG_FLOW_ORIGIN, /* its queue id before; of a notice: that of its cause */
    LOG_FLOW_TEXTS
};

enum log_flow_state {
    LOG_FLOW_OPEN,   /* being received */
    LOG_FLOW_QUEUED, /* qmgr had it */
    LOG_FLOW_HELD,   /* on hold */
};

enum log_flow_origin {
    LOG_FLOW_BY_NONE, /* its beginning was not seen */
    LOG_FLOW_BY_SMTP,
    LOG_FLOW_BY_PICKUP,
    LOG_FLOW_BY_REQUEUE, /* postsuper -r; origin is the id before */
    LOG_FLOW_BY_FORWARD, /* local(8)'s alias or .forward, Sendmail's list */
    LOG_FLOW_BY_NOTICE,  /* a bounce */
    LOG_FLOW_BY_FILTER,  /* given back by a content filter */
};

struct log_recipient {
    char *to;            /* canonical (addr.h) where it is an address; or as logged */
    char *relay;         /* of the last attempt; NULL */
    char *remote_id;     /* NULL */
    char *text;          /* of the last attempt, cut; NULL */
    char *orig_to;       /* canonical; NULL: the same */
    char *mailbox;       /* `to` is the new address of this one (the milter's redirect);
                            NULL */
    char *expanded;      /* Sendmail: the alias or .forward that it comes from; NULL */
    int64_t first, last; /* of the attempts, microseconds */
    uint32_t attempts;
    enum log_status status;
    bool forward;  /* the last one went by sluice-forward */
    bool doubtful; /* see log_event.h */
    uint8_t mark;  /* the caller's, saved with it; 0 first */
};

struct log_message {
    int64_t first, last; /* of its lines, microseconds */
    int64_t size;        /* -1: not known */
    int64_t nrcpt;
    enum log_flow_state state;
    enum log_flow_origin origin;
    enum log_flow_origin entry; /* how it came in under its first id */
    uint32_t mark;              /* the caller's, saved with it; 0 first */
    struct log_recipient *recipients;
    size_t recipient_count;
    /* private */
    struct log_message *next;
    uint64_t hash;
    char *texts[LOG_FLOW_TEXTS]; /* NULL: "" */
    struct log_chunk *chunks;
    struct log_note *notes, **notes_end; /* lines that are not read yet */
    uint32_t notes_size;
    bool noted_queue;
    size_t recipient_size;
    uint32_t *index; /* of many recipients */
    size_t index_size;
    size_t finals; /* recipients with an end */
    size_t tried;  /* recipients with an attempt */
    bool begun;    /* its first line was seen */
    bool sendmail;
};

struct log_flow;

struct log_flow *log_flow_new(void); /* NULL: no memory */
void log_flow_free(struct log_flow *flow);

/* The message of this line, made where there is none (but not for an event that
 * can only end one); NULL: none, the limit, or no memory. *recipient (may be NULL):
 * the one of a delivery. The caller may leave out events that it does not want
 * joined. */
struct log_message *log_flow_take(struct log_flow *flow, const struct log_line *line,
                                  const struct log_event *event, int64_t us,
                                  struct log_recipient **recipient);
/* For a caller who needs few messages: keeps a line that says where a message comes
 * from (client=, message-id=, verdict=, qmgr's from=) unread with its message. false:
 * not such a line, to be parsed and taken now. log_flow_settle() reads what was kept;
 * log_flow_take() does so where it needs it, log_flow_text() and the fields of
 * log_message do not. */
bool log_flow_defer(struct log_flow *flow, const struct log_line *line, int64_t us);
void log_flow_settle(struct log_flow *flow, struct log_message *message);
/* Whether this event, just taken, was its message's last. */
bool log_flow_ends(const struct log_event *event);
/* For a delivery of Sendmail to several (log_event_next_to()), where *recipient of
 * log_flow_take() is the first of them; NULL: it has none such. */
struct log_recipient *log_flow_recipient(struct log_message *message, struct log_slice to,
                                         struct log_slice orig_to);
struct log_message *log_flow_find(struct log_flow *flow, struct log_slice host,
                                  struct log_slice id, int64_t us);
void log_flow_drop(struct log_flow *flow, struct log_message *message);

/* "" when not known. */
const char *log_flow_text(const struct log_message *message, enum log_flow_text which);
/* false: no memory. */
bool log_flow_set(struct log_message *message, enum log_flow_text which,
                  struct log_slice value);

struct log_flow_counts {
    uint64_t in_flight;
    uint64_t limit;      /* messages that were not taken */
    uint64_t recipients; /* that were not taken */
    uint64_t forgotten;
    uint64_t no_memory;
};
const struct log_flow_counts *log_flow_counts(const struct log_flow *flow);

/* Every message in flight, in no order; take may not drop. false of it ends. */
bool log_flow_each(struct log_flow *flow,
                   bool (*take)(void *arg, struct log_message *message), void *arg);

/* The checkpoint's lines, one message each, and its recipients. */
void log_flow_save(struct log_flow *flow, FILE *out);
/* false: not one of the flow's lines, or damaged. */
bool log_flow_load(struct log_flow *flow, const char *line);

#endif
