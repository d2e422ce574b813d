/*
 * log: one line per message, to syslog (facility mail) or to standard error.
 * Thread-safe. Values that come from outside go through log_value(), so that a
 * hostile header cannot forge a line.
 */
#ifndef SLUICE_LOG_H
#define SLUICE_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_target { LOG_TO_SYSLOG, LOG_TO_STDERR };

/* ident ("sluice-milter") is kept, not copied. Before log_open() messages go
 * to standard error. */
void log_open(const char *ident, enum log_target target);
void log_verbose(bool on); /* log_debug() lines on or off */

void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* With ": strerror(errno)" appended. */
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Without errno. */
void log_warnx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Something a person must look at: priority LOG_ALERT, text begins "alarm: ". */
void log_alarm(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Copies a value for a "key=value" line: space, control characters, bytes
 * above 126, and the characters " \ < > [ ] are written as \xHH. Cut at size
 * with a final "..." (a log line is not a record). Returns out. */
const char *log_value(const char *value, char *out, size_t size);

#endif
