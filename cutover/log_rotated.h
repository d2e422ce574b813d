/*
 * log_rotated: the files of one log, the oldest first and itself last.
 *
 *     mail.log.2.gz  mail.log.1  mail.log
 *     maillog-20261115  maillog-20261122  maillog
 *     maillog.20261122-091432.gz  maillog          (postfix logrotate)
 *
 * By name, since a copy or a restored backup may have any time. Of NAME and NAME.gz
 * the plain one counts: gzip is at work. For log_source.c.
 */
#ifndef SLUICE_LOG_ROTATED_H
#define SLUICE_LOG_ROTATED_H

#include <stdbool.h>
#include <stddef.h>

#define LOG_ROTATED_MAX 1000

struct log_rotated {
    char **paths; /* without the log itself */
    size_t count;
    char other[256]; /* a rotated file in a format that is not read; "" none */
};

/* false: no memory, or the folder cannot be read (errno). */
bool log_rotated_find(const char *path, struct log_rotated *out);
void log_rotated_free(struct log_rotated *rotated);

#endif
