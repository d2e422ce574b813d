/*
 * output: everything that sluice prints.
 *
 * Results go to standard output, messages and progress to standard error, so
 * that a script can take the one and a person reads the other.  With --json
 * standard output carries exactly one document: print() and tables are silent
 * then, and out_finish() supplies a document with the error when a command
 * ended before it had one.
 *
 * Text from outside (senders, host states, queue ids) is printed with control
 * characters replaced, so that it cannot move the cursor of a terminal.
 *
 * There is one terminal, so there is one output: the state is the module's
 * own. One thread.
 */
#ifndef SLUICE_OUTPUT_H
#define SLUICE_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- messages and results ---------------------------------------------- */

/* command: what stands after "sluice: " in messages (kept, not copied; NULL:
 * nothing does). json: --json was given. */
void out_open(const char *command, bool json);
bool out_is_json(void);

/* "sluice: lock: ...\n" on standard error. The last one is the "error" of the
 * document that out_finish() prints. */
void message(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same, for news that is no fault: never the "error". */
void notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A line of the result on standard output ("\n" is added); silent with --json. */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Control characters (C0, C1, those that turn the direction of writing) and bytes
 * that are not UTF-8 become '?'. All of the above do it. */
void out_harmless(char *text);

/* Called by main.c at the end: clears the progress line, makes sure that --json
 * has its one document, and that what was printed was written. Returns the exit
 * code to end with. */
int out_finish(int code);

/* ---- progress ---------------------------------------------------------- */

/* On a terminal one line that is painted anew (bar, done/total, rate, time
 * left, detail), at most ten times a second; otherwise a plain line when the
 * detail changed, but at most one in five seconds. On standard error, also with
 * --json. total 0: not known, the line is what and detail alone.
 *     progress_begin("lock", 1000);
 *     progress_set(512, "waits for %s", host);
 *     progress_end();
 * Messages printed meanwhile stand above the bar. */
void progress_begin(const char *what, uint64_t total);
void progress_total(uint64_t total); /* when it becomes known or changes */
void progress_set(uint64_t done, const char *detail, ...)
    __attribute__((format(printf, 2, 3)));
void progress_end(void); /* removes the bar; harmless without one */

/* ---- tables ------------------------------------------------------------ */

/* Columns are as wide as their widest cell, two spaces apart. A header that
 * begins with '>' stands for a column of figures, aligned to the right. */
#define SHEET_COLUMNS_MAX 12
struct sheet;
struct sheet *sheet_new(const char *const *headers, size_t columns);
/* One cell per column; cells are copied; NULL is "-". */
void sheet_row(struct sheet *sheet, const char *const *cells);
size_t sheet_rows(const struct sheet *sheet);
void sheet_print(struct sheet *sheet); /* on standard output, indented by two; frees */
void sheet_free(struct sheet *sheet);

/* One line of a CSV file (RFC 4180: CRLF) on standard output; silent with --json. A
 * cell longer than PRINT_CELL_MAX bytes is left empty. */
#define PRINT_CELL_MAX 1024
void print_csv(const char *const *cells, size_t count);

/* ---- JSON -------------------------------------------------------------- */

/* A value of a document, by Jansson (output.c is the one file here that knows).
 * Bytes that are not UTF-8 are written as \xHH text: a hostile address cannot
 * make a document fail. Memory that runs out makes doc_print() fail, not the
 * calls before it. Keys are promises: scripts read them (doc/sluice.1). */
typedef struct json_t doc;
doc *doc_object(void);
doc *doc_array(void);
void doc_text(doc *object, const char *key, const char *value); /* NULL: null */
void doc_number(doc *object, const char *key, int64_t value);
void doc_real(doc *object, const char *key, double value);
void doc_flag(doc *object, const char *key, bool value);
/* Puts child in (and owns it from then on) and returns it. */
doc *doc_put(doc *object, const char *key, doc *child);
doc *doc_add(doc *array, doc *child);
void doc_add_text(doc *array, const char *value);
void doc_free(doc *document); /* one that is not printed; NULL is fine */
/* Prints the one document and frees it. false: a message was printed. Without
 * --json it only frees, so that a command may build it in any case. */
bool doc_print(doc *document);

/* ---- times ------------------------------------------------------------- */

#define DURATION_TEXT_MAX 32
/* "0 s", "45 s", "2 min 10 s", "1 h 05 min", "3 d 4 h". Returns out. */
const char *duration_text(int64_t seconds, char out[DURATION_TEXT_MAX]);
/* "90", "90s", "10m", "1h", "3d"; false: not a duration, or over a year. */
bool duration_parse(const char *text, int *seconds);
#define TIME_TEXT_MAX 32
/* Local time, "2024-05-31 03:04:05". 0: "-". Returns out. */
const char *time_text(int64_t unix_s, char out[TIME_TEXT_MAX]);

#endif
