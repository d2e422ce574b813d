/*
 * probe: asks a mail server which recipients it takes, without sending mail.
 *
 * Non-blocking: the caller polls probe_fd() and calls probe_run() when it is
 * ready or probe_due() has come. Name resolution alone blocks (once, in
 * probe_new()). Time limits: 10 s to connect (each address of the host), 30 s
 * for each reply. The host's own addresses are used, MX records are not.
 * Without TLS: a server that insists on it is reported with its own words.
 */
#ifndef SLUICE_PROBE_H
#define SLUICE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "smtp.h"

#define PROBE_CONNECT_MS  10000
#define PROBE_REPLY_MS    30000
#define PROBE_OUTSTANDING 1024 /* recipients in work and results not taken */
#define PROBE_TRIES       3    /* of a recipient that gets 4xx */
#define PROBE_SESSIONS    3    /* sessions that fail in a row: down */

enum probe_status {
    PROBE_ACCEPTED,  /* 2xx */
    PROBE_REFUSED,   /* 5xx */
    PROBE_UNDECIDED, /* 4xx each time */
    PROBE_UNREACHED, /* the server could not be asked: probe_error() */
};

enum probe_state {
    PROBE_TRYING, /* not known yet */
    PROBE_UP,     /* answered 220 and EHLO with 250 in its last session */
    PROBE_DOWN,   /* could not be asked; recipients end as PROBE_UNREACHED */
};

struct probe;

/* host is a name or an address, helo what we say we are. NULL: the name cannot
 * be resolved, or no memory; error has one line. */
struct probe *probe_new(const char *host, uint16_t port, const char *helo, char *error,
                        size_t error_size);
void probe_free(struct probe *probe);

/* How many more recipients it takes now. */
size_t probe_room(const struct probe *probe);
/* address: a mail address as addr_format() writes it, new until its result.
 * false: no room, or not an address (too long, a control character). */
bool probe_add(struct probe *probe, size_t id, const char *address);

/* -1: nothing to poll. */
int probe_fd(const struct probe *probe, short *events);
/* Milliseconds of the clock that `now` is of; INT64_MAX: never. */
int64_t probe_due(const struct probe *probe);
void probe_run(struct probe *probe, int64_t now, short revents);

/* Takes one result, in no order. text is the server's, or probe_error(). */
bool probe_result(struct probe *probe, size_t *id, enum probe_status *status,
                  char text[SMTP_TEXT_MAX + 8]);

enum probe_state probe_state(const struct probe *probe);
/* What is wrong with the server, naming it. */
const char *probe_error(const struct probe *probe);
/* Nothing is waiting for an answer any more. */
bool probe_idle(const struct probe *probe);

#endif
