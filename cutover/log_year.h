/*
 * log_year: when a log begins whose stamps have no year. For log_source.c.
 *
 * Known are the times at which its files were written last, since no line is younger
 * than its file; and the order of its lines: where December is followed by January, a
 * year has passed. So the last line of a file tells its year, and the first line of the
 * log is so many years older as turns of the year lie between. Every file gives an
 * answer, as the times may be those of copies; the earliest one counts.
 *
 * Of a plain file SAMPLES parts are looked at, of a compressed one its beginning, and all
 * of the oldest one. Wrong it is for copies that are over a year younger than all of
 * their lines, and where no line was written for half a year.
 */
#ifndef SLUICE_LOG_YEAR_H
#define SLUICE_LOG_YEAR_H

#include "log_file.h"
#include "log_line.h"

/* The time of the first line; files and their names: the oldest first. The files stay
 * where they are. clock: for log_line_parse() alone. false: its stamps have a year, or
 * there is no line. */
bool log_year_begin(struct log_file *const *files, char *const *names, size_t count,
                    struct log_clock *clock, int64_t *unix_s);

#endif
