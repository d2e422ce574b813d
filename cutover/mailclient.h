/*
 * mailclient: sends one message over SMTP, and looks into a mailbox over IMAP.
 * By libcurl (connections, TLS, logins), which mailclient.c alone includes; the
 * IMAP commands are in mailimap.c and imapdialog.c.
 *
 * Blocking, every call with a deadline on the monotonic clock (clock_ms()), and
 * ended early by stop(). Several threads may each have connections of their own;
 * none shares one. No proxy, no .netrc, no environment: only what is given here.
 *
 * TLS is always checked: by the system's authorities or a CA file (a self-signed
 * certificate is its own CA file) and the name, or, instead of both, by the pin of
 * the server's key. There is no way around that but tls = MAIL_PLAIN, which is no
 * TLS at all.
 *
 *     struct mail_call call = { .until = clock_ms() + 30000 };
 *     struct mail_imap *imap;
 *     if (mail_imap_open(&server, &call, &imap) != MAIL_DONE)
 *         message("%s", call.error);
 */
#ifndef SLUICE_MAILCLIENT_H
#define SLUICE_MAILCLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mail_result {
    MAIL_DONE,
    MAIL_LATER,     /* 4xx, or the server is busy: worth another try */
    MAIL_REFUSED,   /* 5xx, NO: the server does not want this */
    MAIL_LOGIN,     /* user and password are refused, or no login is offered */
    MAIL_UNTRUSTED, /* TLS: not offered, or the certificate is not good */
    MAIL_NETWORK,   /* no such name, refused, closed */
    MAIL_TIMEOUT,   /* the deadline has passed */
    MAIL_STOPPED,   /* stop() said so */
    MAIL_PROTOCOL,  /* an answer that is none, or past a limit: the connection is
                       of no use any more */
};

enum mail_tls { MAIL_PLAIN, MAIL_STARTTLS, MAIL_TLS };

struct mail_server {
    const char *host; /* name or address, without brackets */
    uint16_t port;
    enum mail_tls tls;
    const char *tls_name;        /* that the certificate must have; NULL: host */
    const char *ca_file;         /* PEM; NULL: the system's */
    const char *pin;             /* "sha256//BASE64" of the key: then neither name nor
                                    authority counts; NULL: none */
    const char *user, *password; /* NULL: no login (IMAP needs one) */
};

#define MAIL_ERROR_MAX 640
/* What every call has: when to end, and one line of what went wrong. */
struct mail_call {
    int64_t until;              /* clock_ms() */
    bool (*stop)(void);         /* asked several times a second; NULL: never */
    char error[MAIL_ERROR_MAX]; /* set unless MAIL_DONE; printable, names the server */
};

/* Once, before any thread begins; false: no memory. */
bool mail_begin(void);
void mail_end(void);

/* ---- SMTP -------------------------------------------------------------- */

struct mail_letter {
    const char *helo; /* this host's name */
    const char *from; /* "" is the null sender */
    const char *to;
    const char *text; /* lines end with CRLF; dots are doubled on the way */
    size_t len;
};
struct mail_sent {
    int64_t connected; /* clock_ms() when the server greeted; 0: it did not */
    int64_t accepted;  /* ... when it said 250 after the text; 0 */
    int code;          /* the last reply's; 0: none */
};
/* One message in one session. Its text is sent only after a login where
 * server->user is given. */
enum mail_result mail_send(const struct mail_server *server,
                           const struct mail_letter *letter, struct mail_call *call,
                           struct mail_sent *sent);

/* ---- IMAP -------------------------------------------------------------- */

struct mail_imap;

/* Connects and logs in; *out is NULL unless MAIL_DONE. */
enum mail_result mail_imap_open(const struct mail_server *server, struct mail_call *call,
                                struct mail_imap **out);
/* NULL is fine. Waits for nothing. */
void mail_imap_close(struct mail_imap *imap);

/* After MAIL_REFUSED the connection goes on; after anything else but MAIL_DONE it
 * is only good for mail_imap_close(). Names of folders are as the server wants them
 * (modified UTF-7). */

struct mail_folder {
    uint64_t messages;
    uint32_t next_uid; /* whatever comes in later has this one or a higher; 1 where
                          the server does not say */
};
/* Opens a folder; out may be NULL. */
enum mail_result mail_imap_select(struct mail_imap *imap, struct mail_call *call,
                                  const char *folder, bool read_only,
                                  struct mail_folder *out);
/* So that the server looks for new mail. */
enum mail_result mail_imap_noop(struct mail_imap *imap, struct mail_call *call);
/* Messages that are not marked as deleted, have this header field with that text in
 * it, and came so late. In a large mailbox one of the limits makes the search cheap. */
struct mail_search {
    const char *field, *text; /* text is any part of the value; field NULL: of the
                                 whole message */
    uint32_t from_uid;        /* 0: from the first */
    int64_t since;            /* not before this day (unix s); 0: any */
};
/* *count may be more than max; uids then has the first max. */
enum mail_result mail_imap_search(struct mail_imap *imap, struct mail_call *call,
                                  const struct mail_search *search, uint32_t *uids,
                                  size_t max, size_t *count);
/* How many messages of the folder came at that time (INTERNALDATE, unix s) or later;
 * those marked as deleted count, too. */
enum mail_result mail_imap_came_since(struct mail_imap *imap, struct mail_call *call,
                                      int64_t since, uint64_t *count);
/* The value of a header field, unfolded; "" when there is none. One that is longer
 * than size is cut. */
enum mail_result mail_imap_field(struct mail_imap *imap, struct mail_call *call,
                                 uint32_t uid, const char *field, char *out, size_t size);
/* The beginning of a message's body, as much as size holds. */
enum mail_result mail_imap_body(struct mail_imap *imap, struct mail_call *call,
                                uint32_t uid, char *out, size_t size);
/* Removes these messages and no other: where the server cannot expunge by UID (RFC
 * 4315) and other messages are marked as deleted, these are marked only. */
enum mail_result mail_imap_delete(struct mail_imap *imap, struct mail_call *call,
                                  const uint32_t *uids, size_t count);

/* Folders that can hold mail. each() returns false to stop. */
typedef bool mail_folder_fn(void *context, const char *folder);
enum mail_result mail_imap_folders(struct mail_imap *imap, struct mail_call *call,
                                   mail_folder_fn *each, void *context);
/* Messages and bytes of a folder: by STATUS where it knows sizes (RFC 8438), else
 * by asking each message's size. Afterwards no folder may be open. */
enum mail_result mail_imap_size(struct mail_imap *imap, struct mail_call *call,
                                const char *folder, uint64_t *messages, uint64_t *bytes);

#endif
