/*
 * monitor_count: the floaters in a mail log. A floater is a recipient of a message
 * that the old server sent on to the new one: by the transport sluice-forward, or
 * by any smtp(8) to the domain's `new` of sluice.conf; redirected ones too, under
 * the mailbox's own address. It is counted once, at its first attempt, and followed
 * to its last status. What the new side sends back to the old one, and copies (dual
 * delivery), are none.
 *
 * Not counted are our own probes: a Message-ID as `sluice ping` makes them *and* a
 * mailbox that only probes go to (a ping section's, or named by the caller). The
 * Message-ID alone would let any sender hide; a mark on other mail is counted as
 * the floater that it is, and in `false_probes`.
 *
 * What a DMARC check by sluice-milter says is kept beside it, so that a report may
 * leave failures out.
 *
 * No clock, no I/O: what is read comes by monitor_take().
 */
#ifndef SLUICE_MONITOR_COUNT_H
#define SLUICE_MONITOR_COUNT_H

#include "conf.h"
#include "log_flow.h"
#include "log_reader.h"

#define MONITOR_ROWS_MAX 200000 /* of mailboxes, of senders; more are counted alone */
#define MONITOR_HOURS    (45 * 24)

/* Figures of all floaters, and of those that DMARC fails. */
enum monitor_class { MONITOR_ALL, MONITOR_FAILED, MONITOR_CLASSES };

struct monitor_tally {
    uint64_t count[MONITOR_CLASSES];
    int64_t first;      /* microseconds; LOG_NO_TIME */
    int64_t last;       /* of all */
    int64_t last_clean; /* of those that DMARC does not fail */
};

struct monitor_mailbox {
    char *address;
    struct monitor_tally tally;
    enum log_status status; /* of the last attempt */
    char *from;             /* sender of the last one */
    uint64_t waiting;       /* monitor_look() */
};

struct monitor_sender {
    char *client; /* address; "" none: local, or not in the log */
    char *user;   /* authenticated; "" */
    char *origin; /* for local mail: "local mail on HOST", ...; "" */
    char *name, *helo, *from, *mailbox; /* of the last one */
    struct monitor_tally tally;
};

struct monitor_hour {
    int64_t hour; /* unix hours */
    uint64_t count[MONITOR_CLASSES];
};

struct monitor_totals {
    struct monitor_tally tally;
    uint64_t probes, false_probes, copies;
    uint64_t delivered;
    uint64_t lost;      /* expired or returned to the sender */
    int64_t last_lost;  /* LOG_NO_TIME */
    uint64_t rows_left; /* floaters without a row of their own */
    int64_t begins;     /* the log is known without a gap from here ... */
    int64_t ends;       /* ... to here; LOG_NO_TIME: nothing yet */
};

struct monitor {
    const struct conf *conf;
    const char *const *probe_to; /* more mailboxes of probes; NULL-terminated, or NULL */
    struct log_flow *flow;
    struct monitor_totals totals;
    struct monitor_mailbox *mailboxes;
    size_t mailbox_count, mailbox_size;
    struct monitor_sender *senders;
    size_t sender_count, sender_size;
    struct monitor_hour hours[MONITOR_HOURS]; /* ascending */
    size_t hour_count;
    struct table *mailbox_index, *sender_index;
    bool no_memory;
    /* Called for each attempt of a floater; NULL: nobody. */
    void (*news)(void *context, const struct log_message *message,
                 const struct log_recipient *recipient, const char *mailbox, int64_t us);
    void *context;
};

/* conf is kept. NULL: no memory. */
struct monitor *monitor_new(const struct conf *conf);
void monitor_free(struct monitor *monitor);

/* log_reader_pick()'s: lines that monitor_take() needs. */
bool monitor_pick(const struct log_line *line);
void monitor_take(struct monitor *monitor, const struct log_line *line, int64_t us);
/* A part of the log is missing before the next line. */
void monitor_gap(struct monitor *monitor);

/* What is on its way now. */
struct monitor_waiting {
    uint64_t waiting;             /* tried, and not delivered */
    uint64_t refused;             /* of these: refused for good by the new server */
    uint64_t stuck;               /* of these: tried first before `since` */
    int64_t oldest;               /* first attempt, microseconds; LOG_NO_TIME */
    char mailbox[320], text[256]; /* of the worst one; "" */
    enum log_status status;
};
/* Sets the mailboxes' figures too. */
void monitor_look(struct monitor *monitor, int64_t since_us, struct monitor_waiting *out);
/* Floaters of a class in the hours from that time on. */
uint64_t monitor_since(const struct monitor *monitor, enum monitor_class class,
                       int64_t since_us);

/* The checkpoint's lines, the flow's among them. */
void monitor_save(struct monitor *monitor, FILE *out);
/* false: not one of its lines, or damaged. */
bool monitor_load(struct monitor *monitor, const char *line);

/* monitor_rows.c: the row, made where there is none; NULL: too many, no memory. */
struct monitor_mailbox *monitor_mailbox(struct monitor *monitor, const char *address);
struct monitor_sender *monitor_sender(struct monitor *monitor, const char *client,
                                      const char *user, const char *origin);
bool monitor_put(struct monitor *monitor, char **place, const char *text);
void monitor_add_hour(struct monitor *monitor, int64_t hour, uint64_t all,
                      uint64_t failed);
void monitor_rows_free(struct monitor *monitor);

#endif
