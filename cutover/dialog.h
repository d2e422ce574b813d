/*
 * dialog: a blocking client of line protocols (SMTP, IMAP) for looks at a server that
 * send no mail and no password: what it accepts, and its certificate. One deadline for
 * everything; TLS by OpenSSL, which no other file includes. Mail and logins are
 * mailclient.h's.
 */
#ifndef SLUICE_DIALOG_H
#define SLUICE_DIALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIALOG_LINE_MAX 8192

struct dialog;

enum dialog_open_result { DIALOG_OPEN, DIALOG_REFUSED, DIALOG_FAILED };
/* "host:port"; at (may be NULL) is the address or name to connect to instead of the
 * host, whose name is still the one that a certificate must have. *out is NULL unless
 * DIALOG_OPEN. REFUSED: a host answers, and nothing listens. error has one line
 * otherwise. */
enum dialog_open_result dialog_open(const char *endpoint, const char *at, int timeout_ms,
                                    struct dialog **out, char *error, size_t error_size);
/* TLS from here on; the certificate must be good for the host's name, by the system's
 * authorities or those in the PEM file ca (NULL: none). false: dialog_error(). */
bool dialog_tls(struct dialog *dialog, const char *ca);
/* Days until the certificate ends; -1: no TLS. */
int dialog_days(const struct dialog *dialog);
void dialog_close(struct dialog *dialog);

/* CRLF is added. */
bool dialog_send(struct dialog *dialog, const char *line);
/* The next line, without its end. */
bool dialog_line(struct dialog *dialog, char out[DIALOG_LINE_MAX]);
const char *dialog_error(const struct dialog *dialog);

/* Sends a command (NULL: only reads) and reads the whole reply of SMTP: its code,
 * 0 when none came; text is its last line. */
int dialog_smtp(struct dialog *dialog, const char *command, char text[DIALOG_LINE_MAX]);
/* "a1 COMMAND"; each untagged line goes to each() (may be NULL). false: not OK, or no
 * answer; text is the tagged line or the error. */
bool dialog_imap(struct dialog *dialog, const char *command,
                 void (*each)(void *context, const char *line), void *context,
                 char text[DIALOG_LINE_MAX]);

#endif
