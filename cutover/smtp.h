/*
 * smtp: replies of an SMTP server (RFC 5321 4.2), parsed strictly: three digits
 * that are a reply code, the same on every line of a reply, CRLF (a bare LF is
 * tolerated, as Postfix does). Text that is not printable ASCII becomes '?', so
 * it may be shown to a person.  Pure.
 */
#ifndef SLUICE_SMTP_H
#define SLUICE_SMTP_H

#include <stdbool.h>
#include <stddef.h>

#define SMTP_LINE_MAX  2048 /* RFC 5321 4.5.3.1.5 wants 512 */
#define SMTP_LINES_MAX 128
#define SMTP_REPLY_MAX 32768
#define SMTP_TEXT_MAX  400

struct smtp_reply {
    int code;                     /* 200 to 559 */
    char text[SMTP_TEXT_MAX + 1]; /* lines joined by a space, without the code;
                                     cut with "..." */
    bool pipelining;              /* a line is this EHLO keyword */
    bool smtputf8;
};

enum smtp_parse {
    SMTP_DONE, /* *consumed bytes were the reply */
    SMTP_MORE, /* incomplete so far */
    SMTP_BAD,  /* not a reply, or past a limit: close */
};

enum smtp_parse smtp_reply_parse(const char *buf, size_t len, struct smtp_reply *out,
                                 size_t *consumed);

#endif
