/*
 * log_journal: one line of `journalctl -o json`.
 *
 * A field is a string, null (too large), an array of numbers (bytes that are not
 * UTF-8), or an array of such (given more than once; the first one counts).
 * Wanted are MESSAGE, __REALTIME_TIMESTAMP, SYSLOG_IDENTIFIER, _HOSTNAME and
 * SYSLOG_PID or _PID. log_line.c's part; no allocation.
 */
#ifndef SLUICE_LOG_JOURNAL_H
#define SLUICE_LOG_JOURNAL_H

#include "log_line.h"

/* false: not such an object, or without MESSAGE and time. Text is unescaped into
 * scratch. len is at most LOG_LINE_MAX. */
bool log_journal_parse(const char *text, size_t len, char scratch[LOG_LINE_MAX],
                       struct log_line *out);

/* log_line.c's: the program's name, and a text that may begin with a queue id. */
void log_line_program(struct log_slice program, struct log_line *out);
void log_line_text(const char *text, const char *end, struct log_line *out);

#endif
