/*
 * policy: Postfix's policy delegation protocol (SMTPD_POLICY_README).
 *
 * A request is lines "name=value" ended by LF, and an empty line at its end;
 * the answer is one line "action=..." and an empty line. Pure.
 */
#ifndef SLUICE_POLICYD_POLICY_H
#define SLUICE_POLICYD_POLICY_H

#include <stdbool.h>
#include <stddef.h>

#include "conf.h"
#include "verdict.h"

/* Postfix 3.7 sends about 30 attributes in less than 1 KB; the longest value
 * is an address or a certificate name. */
#define POLICY_LINE_MAX       4096
#define POLICY_REQUEST_MAX    65536
#define POLICY_ATTRIBUTES_MAX 256

enum policy_state {
    POLICY_STATE_OTHER, /* CONNECT, EHLO, MAIL, DATA, END-OF-MESSAGE, ... */
    POLICY_STATE_RCPT,
};

/* A request as far as it has been read. Small parts first: only they are
 * cleared between two requests. */
struct policy_request {
    size_t size; /* bytes of complete lines so far */
    unsigned attributes;
    bool is_access_policy; /* request=smtpd_access_policy was there */
    bool has_state, has_recipient;
    enum policy_state state;
    size_t recipient_len;
    char recipient[POLICY_LINE_MAX]; /* as sent, not NUL-terminated */
};

enum policy_parse {
    POLICY_DONE, /* a whole request; call policy_reset() before the next */
    POLICY_MORE, /* the bytes after *consumed are an unfinished line */
    POLICY_BAD,  /* malformed or past a limit: close without an answer */
};

void policy_reset(struct policy_request *request);

/* Takes complete lines from buf, up to the end of the request. What follows
 * *consumed must be given again, with more behind it. */
enum policy_parse policy_parse(struct policy_request *request, const char *buf,
                               size_t len, size_t *consumed);

/* Whether the request is about a recipient, so that a verdict matters. */
bool policy_wants_verdict(const struct policy_request *request);

/* The whole answer, static. */
const char *policy_answer(enum verdict verdict, enum conf_hold hold, size_t *len);

#endif
