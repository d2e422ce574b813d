/*
 * queue: the MTA's mail queue on this host, as the fence and the release need
 * it. One back end per MTA behind struct queue_ops: postfix.c, through the
 * queue helper.
 *
 * Every call is blocking with a time limit and returns false with one line in
 * queue_error(). Ids that are gone meanwhile are not an error.
 */
#ifndef SLUICE_POLICYD_QUEUE_H
#define SLUICE_POLICYD_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "helper.h"

enum queue_name {
    QUEUE_MAILDROP,
    QUEUE_INCOMING,
    QUEUE_ACTIVE,
    QUEUE_DEFERRED,
    QUEUE_HOLD,
    QUEUE_OTHER, /* one that this program does not know: never acted on */
};
const char *queue_name_text(enum queue_name name);

#define QUEUE_ID_MAX HELPER_ID_MAX

struct queue_recipient {
    const char *address;
    const char *reason; /* why it was deferred; "" */
};

/* One message; recipients are those not yet done. Lives during the callback. */
struct queue_entry {
    enum queue_name queue;
    const char *id;
    bool id_valid;      /* a long id: the only ones that are acted on */
    int64_t arrival;    /* unix s; postsuper -r keeps it */
    int64_t created;    /* unix s; what the queue lifetime counts from:
                           postsuper -r makes a new one */
    const char *sender; /* "" for the null sender */
    const struct queue_recipient *recipients;
    size_t count;
};
typedef bool queue_entry_fn(void *context, const struct queue_entry *entry);

/* What the host's configuration says. Lists are NULL-terminated. */
struct queue_settings {
    char **local_domains;    /* literal names of mydestination, canonical */
    bool local_patterns;     /* mydestination has tables, files or patterns too */
    char *origin;            /* $myorigin, canonical; "" when it is none */
    char **transport_maps;   /* in order */
    bool slow_maps;          /* transport_maps or relocated_maps has a table that
                                a server answers: it may take long after ours */
    bool long_ids;           /* enable_long_queue_ids */
    char delimiters[16];     /* recipient_delimiter */
    int64_t lifetime;        /* maximal_queue_lifetime, seconds */
    int64_t bounce_lifetime; /* bounce_queue_lifetime, seconds */
};
void queue_settings_free(struct queue_settings *settings); /* its content */

struct queue;
struct queue_ops {
    const char *mta;
    bool (*list)(struct queue *queue, queue_entry_fn *each, void *context);
    /* deferred -> hold */
    bool (*hold)(struct queue *queue, const char *const *ids, size_t n);
    /* hold -> as if it had just arrived */
    bool (*release)(struct queue *queue, const char *const *ids, size_t n);
    /* deferred -> as if it had just arrived */
    bool (*requeue)(struct queue *queue, const char *const *ids, size_t n);
    /* deferred: try now */
    bool (*flush)(struct queue *queue, const char *const *ids, size_t n);
    /* have what was released or requeued picked up now */
    bool (*wake)(struct queue *queue);
    /* have what lies in incoming looked at now */
    bool (*scan)(struct queue *queue);
    bool (*reload)(struct queue *queue);
    bool (*settings)(struct queue *queue, struct queue_settings *out);
    /* Asks the host's own gate: every address must be held by sluice, before
     * any other answer. false: queue_error() names what is wrong. */
    bool (*selftest)(struct queue *queue, const struct queue_settings *settings,
                     const char *const *addresses, size_t n);
    /* The MTA's processes; pid and start time together are unique. */
    bool (*daemons)(struct queue *queue,
                    void (*each)(void *context, uint64_t pid, uint64_t started,
                                 const char *name),
                    void *context);
    /* "" or why what runs is not what the configuration files say (then the
     * self-test, which reads the files, says nothing). */
    bool (*unread)(struct queue *queue, char *why, size_t why_size);
};
extern const struct queue_ops queue_postfix;

struct queue {
    const struct queue_ops *ops;
    struct helper *helper;
    bool (*idle)(void *context); /* called while a command runs; or NULL */
    void *idle_context;
    const char *config; /* directory of the MTA's configuration; the conf's */
    char error[400];
};

/* The back end for conf->mta; false: there is none for it (queue->error). */
bool queue_open(struct queue *queue, const struct conf *conf, struct helper *helper);
const char *queue_error(const struct queue *queue);
/* Sets queue->error; returns false. */
bool queue_fail(struct queue *queue, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- pure parts of postfix.c, for the tests ---------------------------- */

/* One line of postqueue -j. false: not one (error says what). The entry is
 * freed by queue_line_free(). */
struct queue_line {
    struct queue_entry entry;
    struct queue_recipient *recipients;
    void *json;
};
bool queue_parse_line(const char *text, size_t len, struct queue_line *out, char *error,
                      size_t error_size);
void queue_line_free(struct queue_line *line);

/* Unix seconds that a long id begins with (mail_queue.h); 0: no long id. */
int64_t queue_id_time(const char *id);

/* Splits a Postfix list (white space or comma; { } keeps one entry whole). */
char **queue_split(const char *text);
void queue_list_free(char **list);
/* "5d", "300s", "0" to seconds; unit is what a bare number means; -1: bad. */
int64_t queue_seconds(const char *text, char unit);
/* Whether a list of tables has one that another server answers for. */
bool queue_slow_maps(const char *maps);
/* Takes literal names out of mydestination. false: out of memory. */
bool queue_local_names(const char *mydestination, struct queue_settings *out);
/* Whether local(8) may deliver to this address: its domain is one of those
 * names, an address literal or missing, or there are patterns. */
bool queue_is_local(const struct queue_settings *settings, const char *address);
/* "" or, when a managed domain is a local one and another local name is not in
 * its same-as, a line that says so. */
void queue_uncovered_name(const struct queue_settings *settings,
                          const struct conf_domain *domain, char *out, size_t size);

#endif
