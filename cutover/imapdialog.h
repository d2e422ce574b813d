/*
 * imapdialog: one IMAP command and what the server says to it; between mailimap.c and
 * mailstream.h.
 *
 * Limits: a line or a literal of 64 KB, and of the whole answer what the caller says.
 * Past one of them: MAIL_PROTOCOL. So no server can make us keep or read without end
 * what it sends.
 */
#ifndef SLUICE_IMAPDIALOG_H
#define SLUICE_IMAPDIALOG_H

#include "mailstream.h"

#define IMAP_LINE_MAX    65535
#define IMAP_LITERAL_MAX 65535

struct mail_imap {
    struct mail_stream *stream;
    bool uidplus, status_size;
    unsigned tag;
    size_t at, used; /* of buffer */
    size_t left;     /* bytes that this answer may still have */
    size_t literal_len;
    char buffer[16384];
    char line[IMAP_LINE_MAX + 1];
    char literal[IMAP_LITERAL_MAX + 1];
};

/* What came for a command: a line (see imapline.h) and its literal. */
typedef void imap_answer_fn(void *context, const struct mail_imap *imap);

/* Sends a command, and calls each (NULL: none) for every untagged response of up to limit
 * bytes together. MAIL_REFUSED: NO or BAD. */
__attribute__((format(printf, 6, 7))) enum mail_result
imap_command(struct mail_imap *imap, struct mail_call *call, size_t limit,
             imap_answer_fn *each, void *context, const char *fmt, ...);

#endif
