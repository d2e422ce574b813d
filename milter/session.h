/*
 * session: what the milter knows about one connection and its present message.
 * Knows nothing of libmilter and does no I/O.
 *
 * A message for no managed domain allocates nothing here but its sender, which
 * goes with the message.
 */
#ifndef SLUICE_MILTER_SESSION_H
#define SLUICE_MILTER_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "conf.h"
#include "route.h"

/* Managed recipients of one message, about 2 KB each. Postfix allows 1000 in
 * an SMTP session (smtpd_recipient_limit); a message with more than this is
 * answered "try later". */
#define SESSION_RECIPIENTS_MAX 5000
/* Postfix passes no longer one (line_length_limit is 2048); a longer sender is
 * cut, it only serves log lines and listings. */
#define SESSION_SENDER_MAX 2048
/* Trace headers kept: room for a token of every possible recipient. What comes
 * after that is dropped; our own are inserted above all others, so they come
 * first. */
#define SESSION_TRACE_MAX (192 * 1024)
/* RFC 5322 2.1.1; a longer Message-ID is not kept. */
#define SESSION_MESSAGE_ID_MAX 998
#define SESSION_WORD_MAX       255 /* HELO name, login name: for log lines */

struct recipient {
    struct route route;
    bool copied;  /* set by the plan: a copy goes to route.home.copy */
    char *notify; /* "NOTIFY=..." as the client gave it (RFC 3461); or NULL */
    char text[];  /* as the MTA names it: what it takes back for deletion */
};

struct session {
    /* per connection */
    char client[64]; /* address, or "unknown" */
    char helo[SESSION_WORD_MAX + 1];

    /* per message */
    const struct conf *conf;         /* borrowed until session_reset() */
    char *sender;                    /* without angle brackets; "" is the null sender */
    char auth[SESSION_WORD_MAX + 1]; /* login name, or "" */
    struct recipient *from;          /* sender of a domain with copy-outbound, or NULL */
    struct recipient **recipients;   /* managed ones */
    size_t count, room;
    size_t unmanaged; /* number of all other recipients */
    char **present;   /* canonical; unmanaged recipients in the domains of new
                         and copy addresses: not to be added a second time */
    size_t present_count;
    char *trace; /* values of all trace headers, one per line; or NULL */
    size_t trace_len;
    char *message_id;       /* or NULL */
    const char *incomplete; /* why the message cannot be decided; or NULL */
};

struct session *session_new(void); /* NULL: no memory */
void session_free(struct session *session);

void session_connect(struct session *session, const struct sockaddr *address);
void session_helo(struct session *session, const char *name);

/* Begins a message; what is left of an earlier one goes. conf must live until
 * session_reset(). auth may be NULL. */
void session_mail(struct session *session, const struct conf *conf, const char *sender,
                  const char *auth);
/* parameters: the ESMTP parameters of RCPT TO, NULL-terminated; may be NULL. */
void session_rcpt(struct session *session, const char *text, char *const *parameters);
/* value with or without the white space in front of it. */
void session_header(struct session *session, const char *name, const char *value);
/* Whether anything about this message is sluice's business. */
bool session_managed(const struct session *session);
void session_reset(struct session *session);

#endif
