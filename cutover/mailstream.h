/*
 * mailstream: a connection to an SMTP or IMAP server, greeted, secured and logged
 * in, as bytes; between mailclient.c and mailsmtp.c, mailimap.c.
 */
#ifndef SLUICE_MAILSTREAM_H
#define SLUICE_MAILSTREAM_H

#include "mailclient.h"

struct mail_stream;

/* scheme: "smtp" (after EHLO; path is the name in it) or "imap" (path ""). */
enum mail_result mail_stream_open(const struct mail_server *server,
                                  struct mail_call *call, const char *scheme,
                                  const char *path, struct mail_stream **out);
/* clock_ms() when the server said its first line. */
int64_t mail_stream_greeted(const struct mail_stream *stream);
void mail_stream_close(struct mail_stream *stream);
/* All of it. */
enum mail_result mail_stream_write(struct mail_stream *stream, struct mail_call *call,
                                   const char *data, size_t len);
/* At least one byte. */
enum mail_result mail_stream_read(struct mail_stream *stream, struct mail_call *call,
                                  char *buffer, size_t size, size_t *n);
/* Sets call->error to "HOST:PORT: ..." and returns result. */
enum mail_result mail_stream_fail(const struct mail_stream *stream,
                                  struct mail_call *call, enum mail_result result,
                                  const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
