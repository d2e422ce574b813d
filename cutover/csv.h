/*
 * csv: rows of a comma-separated file (RFC 4180), as a stream; and its cells, for
 * writing one.
 *
 * Quoted fields may hold commas, doubled quotes and line ends. LF and CRLF end
 * a row; a byte order mark at the start and empty lines are skipped. A row of
 * more than CSV_ROW_MAX bytes or CSV_FIELDS_MAX fields, a NUL byte, a bare CR, a
 * quote inside an unquoted field, text after a closing quote: CSV_BAD. Does no
 * I/O but fread(3).
 */
#ifndef SLUICE_CSV_H
#define SLUICE_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define CSV_ROW_MAX    65536
#define CSV_FIELDS_MAX 256

struct csv;

enum csv_result {
    CSV_ROW,
    CSV_BAD,    /* this row: csv_error(); reading can go on after it */
    CSV_END,
    CSV_FAILED, /* fread(3) failed: errno */
};

struct csv_field {
    const char *text; /* NUL-terminated, without the quotes; never with a NUL */
    size_t len;       /* inside */
};

/* Reads from file, which stays the caller's. NULL: out of memory. */
struct csv *csv_new(FILE *file);
void csv_free(struct csv *csv);

/* The next row; the fields live until the next call. */
enum csv_result csv_next(struct csv *csv, const struct csv_field **fields, size_t *count);
/* The line (from 1) on which the last row began. */
unsigned long csv_line(const struct csv *csv);
const char *csv_error(const struct csv *csv);

/* Writes one cell, in quotes where it needs them. What a spreadsheet would run as a
 * formula (it begins with = + - @, a tab or a CR) gets an apostrophe in front. false:
 * it does not fit into size. */
bool csv_cell(const char *text, char *out, size_t size);

#endif
