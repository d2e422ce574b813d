/*
 * log_time: stamps without a year, for log_year.c. The time of a line is log_line.h's.
 */
#ifndef SLUICE_LOG_TIME_H
#define SLUICE_LOG_TIME_H

#include <stdbool.h>
#include <stdint.h>

struct log_local {
    int month, day, hour, minute;
};

/* Of "Nov 22 09:14:32"; false: not a time. Feb 29 is one. */
bool log_local_read(const char *stamp, struct log_local *out);
/* The latest such minute that is not after `latest`, by a day at most. */
bool log_local_latest(const struct log_local *at, int64_t latest, int64_t *out);
/* The one in this year; where the hour comes twice, the nearer to `near`. false: there is
 * no such day. */
bool log_local_in(const struct log_local *at, int year, int64_t near, int64_t *out);
int log_local_year(int64_t unix_s);

#endif
