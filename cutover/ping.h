/*
 * ping: what the parts of `sluice ping` share: a message sent through one SMTP path,
 * and looked for in the mailboxes where it must arrive.
 *
 * The mark of a probe, for whoever meets one (sluice monitor leaves them out):
 *
 *     Message-ID: <sluice-ping.ID@HOST>
 *     X-Sluice-Ping: ID SECONDS PATH
 *     Auto-Submitted: auto-generated
 *
 * ID is 26 characters of [a-z2-7], 128 random bits: nobody can put an answer into a
 * mailbox who has not seen the probe. HOST is the sender's hostname of sluice.conf,
 * SECONDS the unix time of its making, PATH the name of the ping section. In the
 * MTA's log a probe is
 *
 *     message-id=<sluice-ping.ID@HOST>
 *
 * and ping_is_mark() is what tells it.
 */
#ifndef SLUICE_PING_H
#define SLUICE_PING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "mailclient.h"

#define PING_ID_HEAD "sluice-ping."
#define PING_ID_LEN  26
#define PING_HEADER  "X-Sluice-Ping"
#define PING_TEXT    480

/* ---- the message (ping_letter.c, pure but for ping_new_id()) ---------------- */

/* Whether a Message-ID (with or without its angle brackets, len bytes) is a probe's. */
bool ping_is_mark(const char *message_id, size_t len);
/* false: the kernel gave no random bytes. */
bool ping_new_id(char out[PING_ID_LEN + 1]);
/* The whole message, with CRLF, malloc'ed; NULL: out of memory. */
char *ping_letter(const struct conf_ping *ping, const char *hostname, const char *id,
                  int64_t now);
/* Takes the value of an X-Sluice-Ping header apart; path points into it. false:
 * it is not ours. */
bool ping_read_header(const char *value, char id[PING_ID_LEN + 1], int64_t *sent,
                      const char **path);

/* ---- one probe (ping_probe.c) ------------------------------------------------ */

/* As the plugin's exit codes. */
enum ping_state { PING_OK, PING_WARNING, PING_CRITICAL, PING_UNKNOWN };

/* The id of an earlier probe of a path, to know it when it comes after all. */
struct ping_past {
    char id[PING_ID_LEN + 1];
    bool arrived[CONF_PING_MAILBOXES_MAX];
};
#define PING_PAST_MAX 32

/* One path, from round to round. */
struct ping_path {
    const struct conf_ping *conf;
    const char *hostname;
    char *smtp_password; /* NULL: no login */
    char *imap_passwords[CONF_PING_MAILBOXES_MAX];
    char fault[PING_TEXT]; /* a password that cannot be read: nothing is sent */
    struct ping_past past[PING_PAST_MAX];
    size_t past_count; /* ever */
};

struct ping_arrival {
    int64_t ms;         /* after the beginning; -1: it has not come */
    const char *folder; /* where it was found first */
    bool elsewhere;     /* not in the folder where mail belongs */
    unsigned copies;
    unsigned removed;     /* older probes */
    unsigned late;        /* of these: our own of an earlier round, given up then */
    unsigned late_copies; /* of these: one more of a probe that had arrived */
    unsigned reconnects;
    bool failed;           /* the mailbox could not be read at all */
    char error[PING_TEXT]; /* why, or the last trouble on the way; "" */
};

struct ping_result {
    char id[PING_ID_LEN + 1];
    int64_t when; /* unix s */
    enum mail_result sent;
    bool tried; /* to send */
    bool interrupted;
    int64_t connected_ms, accepted_ms; /* after the beginning; -1 */
    unsigned attempts;
    char error[PING_TEXT];    /* of SMTP, or of all; "" */
    char returned[PING_TEXT]; /* why, when it came back as a bounce; "" */
    int64_t waited_ms;        /* for its arrival */
    struct ping_arrival arrivals[CONF_PING_MAILBOXES_MAX];
};

/* One probe: logs in, removes what earlier ones have left, sends, waits, deletes.
 * until: clock_ms() when all must be over; the path's own critical limit may be
 * earlier. */
void ping_probe(struct ping_path *path, int64_t until, struct ping_result *result);

/* ---- what it means (ping_report.c, pure) --------------------------------------- */

/* why: what the store knows about a probe that has not come, or "". text has room
 * for PING_TEXT bytes. */
enum ping_state ping_judge(const struct conf_ping *ping, const struct ping_result *result,
                           const char *why, char text[PING_TEXT]);
/* "old forwarding mainbox arrived": the slowest of a path's mailboxes; -1: not all. */
int64_t ping_arrived_ms(const struct conf_ping *ping, const struct ping_result *result);
const char *ping_state_name(enum ping_state state);
/* The worse of two: unknown counts less than critical. */
enum ping_state ping_worse(enum ping_state a, enum ping_state b);
/* Performance data of one path; appends to out. false: no room. */
bool ping_perfdata(const struct conf_ping *ping, const struct ping_result *result,
                   char *out, size_t size);

#endif
