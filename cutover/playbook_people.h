/*
 * playbook_people: lists of people in CSV files (one column address or email, others
 * as they like), the words after an action's arguments, and the papers it writes.
 *
 * A file is read twice: every row is looked at before the first is worked on, so that
 * a mistake in row 900 does not stop a notice after 899.
 */
#ifndef SLUICE_PLAYBOOK_PEOPLE_H
#define SLUICE_PLAYBOOK_PEOPLE_H

#include <stdio.h>

#include "addr.h"
#include "playbook_action.h"

/* ---- people -------------------------------------------------------------- */

struct people_row;
struct person {
    const char *address;  /* as written; addr_parse() takes it */
    const char *password; /* "" without one; never to be printed or stored */
    bool admin;           /* column admin: yes, true or 1 */
    unsigned long line;   /* of the file */
    const struct people_row *row;
};
/* false: stop. */
typedef bool people_fn(void *context, const struct person *person);

/* Every row of the file. A bad row: a message each, with its line, EXIT_DATA, and
 * each() is never called. passwords: the column password is wanted, and a file that
 * others may read is refused. */
int people_each(const char *path, bool passwords, people_fn *each, void *context);
/* The cell of that column (any case); NULL: the file has no such column. */
const char *people_cell(const struct person *person, const char *column);

/* The address in canonical form, as sluice compares it. */
void people_canonical(const char *address, char out[ADDR_TEXT_MAX + 1]);

/* ---- rows of other files ------------------------------------------------- */

struct people_row {
    char *const *columns;     /* of the header */
    const char *const *cells; /* one per column, "" where the row is shorter */
    size_t count;
    unsigned long line;
};
/* Each row of a CSV file with a header. NULL: this row is good, else what is wrong
 * with it (printed with its line, at most 20 of them; EXIT_DATA). The header is shown
 * first, as a row of line 1. */
typedef const char *rows_fn(void *context, const struct people_row *row);
int rows_each(const char *path, bool secret, rows_fn *each, void *context);
/* SIZE_MAX: no such column. */
size_t rows_column(const struct people_row *row, const char *name);

/* ---- words --------------------------------------------------------------- */

/* What may stand after an action's arguments: "tls" (value becomes ""), or "ca=FILE"
 * (spec "ca=", value becomes the text). */
struct word_spec {
    const char *name;
    const char **value; /* untouched when it is not given */
};
/* argv[from] on. false: a message was printed, EXIT_USE. */
bool words_take(int argc, char **argv, int from, const struct word_spec *specs,
                size_t count);

/* ---- papers -------------------------------------------------------------- */

#define PAPER_PATH_MAX 4400
/* <directory>/<name>. false (a message was printed): too long. */
bool paper_path(const struct action_context *context, const char *name,
                char out[PAPER_PATH_MAX]);
/* <directory>/<name> is written as a temporary file and gets its name when it is
 * closed whole, so that a killed action leaves no half one. 0600. NULL: a message was
 * printed. */
FILE *paper_open(const struct action_context *context, const char *name);
/* keep false: what was written is thrown away. EXIT_DONE, or EXIT_SERVICE after a
 * message. */
int paper_close(const struct action_context *context, FILE *paper, const char *name,
                bool keep);
/* One line of a CSV file. */
void paper_row(FILE *paper, const char *const *cells, size_t count);

/* A message of progress now and then: at most one in ten seconds. */
struct pace {
    int64_t said; /* clock_ms(); 0: nothing yet */
};
bool pace_due(struct pace *pace);

#endif
