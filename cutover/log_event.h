/*
 * log_event: what a line of a mail log says about one message.
 *
 * Formats: Postfix 2.3 to 3.9 (src/global/log_adhoc.c, opened.c; src/smtpd,
 * cleanup, qmgr, bounce, postsuper), sluice-milter (milter/report.c), Sendmail 8
 * (deliver.c logdelivery(), envelope.c logsender()). A line that says nothing of
 * these, that is cut within what is wanted, or that does not follow its format
 * is LOG_EVENT_NONE.
 *
 * Hostile text: addresses are taken as RFC 5321 quotes them, so one like
 * "a>, relay=x, status=sent (ok)"@example.com is one address. Before Postfix 3.5
 * (and with info_log_addr_form = internal) they are logged unquoted: where a line
 * can be read in two ways then, `doubtful` is set and status is the worse one. A
 * remote server's reply is only looked at behind the status' parenthesis. A
 * Message-ID is all the rest of its line.
 *
 * Pure, allocates nothing. Slices are of the line; a field that is not named for
 * a kind is "" or 0.
 */
#ifndef SLUICE_LOG_EVENT_H
#define SLUICE_LOG_EVENT_H

#include "log_line.h"

enum log_event_kind {
    LOG_EVENT_NONE,
    LOG_EVENT_CLIENT,     /* smtpd, a message begins: client_name client_address user
                             other_id (of the same message before a content filter) */
    LOG_EVENT_PICKUP,     /* local submission or postsuper -r: uid from; other_id: its
                             id before postsuper -r ("orig_id=") */
    LOG_EVENT_MESSAGE_ID, /* cleanup: message_id (all after "message-id=") */
    LOG_EVENT_REFUSED,    /* cleanup or smtpd refuse or discard the whole message, by a
                             milter or a header check (milter-reject, -discard, reject:,
                             discard:): text. One recipient refused is not it. Sendmail's
                             discards: discarded, and to where the line has recipients */
    LOG_EVENT_HOLD,       /* cleanup or smtpd put it on hold (milter-hold, hold:): text;
                             helo where the line has one */
    LOG_EVENT_REDIRECT,   /* cleanup, redirect: or milter; text */
    LOG_EVENT_QUEUED,     /* qmgr takes it up, each time: from size nrcpt. Sendmail's
                             from= line: also message_id user client_name client_address */
    LOG_EVENT_EXPIRED,    /* qmgr: too long in the queue, given back to `from` */
    LOG_EVENT_REMOVED,    /* qmgr: it has left the queue */
    LOG_EVENT_DELIVERY,   /* one recipient's attempt: to orig_to relay* status dsn delay
                             text; remote_id where the next server named one; other_id:
                             "forwarded as" by local(8) */
    LOG_EVENT_BOUNCE,     /* notice to the sender as a new message: other_id; notice */
    LOG_EVENT_SUPER,      /* postsuper: super */
    LOG_EVENT_VERDICT,    /* sluice-milter, one recipient: verdict to home from
                             client_address helo user reason new_to copy_to, words of the
                             verification. verdict=none, reject, quarantine, and later
                             stand for the message, with to "" */
    LOG_EVENT_DISCONNECT, /* smtpd, of a session (host and pid; no id): taken tried */
    LOG_EVENT_FENCE,      /* sluice-policyd confirms all locks up to change `number` */
    LOG_EVENT_EXPANDED,   /* Sendmail's alias or .forward: orig_to became `to` (several) */
    LOG_EVENT_CLONE,      /* Sendmail: some of its recipients go on under other_id */
    LOG_EVENT_LOGIN,      /* Sendmail, of a session (host and pid; no id): user */
    LOG_EVENT_KINDS
};

enum log_status {
    LOG_STATUS_OTHER, /* a word that is not known */
    LOG_STATUS_SENT,
    LOG_STATUS_DEFERRED,
    LOG_STATUS_SOFTBOUNCE, /* refused for good by the other side, kept by soft_bounce */
    LOG_STATUS_BOUNCED,    /* (Sendmail: any error that is not "Deferred") */
    LOG_STATUS_EXPIRED,
    LOG_STATUS_UNDELIVERABLE, /* address verification: no message */
    LOG_STATUS_DELIVERABLE,   /* the same */
};

enum log_super {
    LOG_SUPER_HOLD,
    LOG_SUPER_RELEASED,
    LOG_SUPER_REQUEUED,
    LOG_SUPER_REMOVED,
    LOG_SUPER_EXPIRED
};
enum log_notice { LOG_NOTICE_FAILURE, LOG_NOTICE_DELAY, LOG_NOTICE_SUCCESS };

struct log_event {
    enum log_event_kind kind;
    enum log_status status;
    enum log_super super;
    enum log_notice notice;
    bool doubtful;
    bool discarded;      /* refused: the client was told that it was taken */
    bool authenticated;  /* Sendmail's from=: its session has logged in */
    bool to_list;        /* `to` is a list as Sendmail has it */
    bool postmaster;     /* the notice goes to postmaster, not to the sender */
    uint16_t relay_port; /* 0: not logged */
    int64_t size;        /* -1: not logged */
    int64_t nrcpt;
    int64_t uid;          /* -1 */
    int64_t delay;        /* milliseconds since arrival; -1 */
    int64_t taken, tried; /* messages: "data=1/2" and bdat; -1: not logged */
    int64_t number;
    struct log_slice from; /* without <>; quoted as logged; "": null sender */
    struct log_slice to;   /* Sendmail lists several: log_event_next_to() */
    struct log_slice orig_to;
    struct log_slice client_name; /* "unknown" as logged */
    struct log_slice client_address;
    struct log_slice user;       /* authenticated: sasl_username, auth= */
    struct log_slice helo;       /* the milter's still has \xHH escapes */
    struct log_slice message_id; /* with <> as logged */
    struct log_slice relay; /* whole: "mx.new.example[192.0.2.1]:25", "none", "local" */
    struct log_slice relay_name; /* "" for Sendmail's local mailers, LMTP too */
    struct log_slice relay_address;
    struct log_slice dsn;
    struct log_slice text;      /* behind the status, without its parentheses */
    struct log_slice remote_id; /* "queued as ..." in a sent message's text */
    struct log_slice other_id;
    struct log_slice verdict, home, reason, new_to, copy_to;
    struct log_slice spf, dkim, dmarc, header_from;
};

/* wanted: bits 1 << LOG_EVENT_..., so that nothing else is looked at. Returns
 * out->kind; when that is LOG_EVENT_NONE, nothing else of out is to be looked at. */
#define LOG_EVENTS_ALL (~0u)
enum log_event_kind log_event_parse(const struct log_line *line, unsigned wanted,
                                    struct log_event *out);

/* Whether log_event_parse() could find one of these: told by the daemon, quickly. */
bool log_event_possible(const struct log_line *line, unsigned wanted);

/* One recipient of event->to after the other ("<a@x>,b" of Sendmail; else just one),
 * without <>. Sendmail does not qualify what an alias or a local sender left so: "b" is
 * b@localhost. *at is 0 first; false: no more. */
bool log_event_next_to(const struct log_event *event, size_t *at, struct log_slice *to);
/* Such an address without its comments, a backslash as one: its length, 0: too long. */
size_t log_event_plain(struct log_slice address, char *out, size_t size);

/* Whether this delivery went by the transport sluice-forward (its syslog_name). */
bool log_event_is_forward(const struct log_line *line, const struct log_event *event);

const char *log_status_name(enum log_status status);

#endif
