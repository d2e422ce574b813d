/*
 * csv: rows of a comma-separated file (see csv.h).
 *
 * One pass, one state per byte. The fields of a row are written without their
 * quotes, each with a final NUL, one after the other into a buffer of the
 * largest row; nothing is allocated per row.
 *
 * After a bad row the rest of its line is skipped. A quote that is never closed
 * swallows the following lines until the row is too long, or the file ends; the
 * message then names the line where it was opened.
 */
#include "csv.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_SIZE 65536

enum state {
    FIELD_START, /* nothing of this field yet */
    PLAIN,       /* in an unquoted field */
    QUOTED,      /* in a quoted one */
    QUOTE_SEEN,  /* after a quote in a quoted one: doubled, or the end */
    CR_SEEN,     /* LF must follow */
};

struct csv {
    FILE *file;
    char input[INPUT_SIZE];
    size_t at, filled;
    unsigned long line;     /* of the next byte */
    unsigned long row_line; /* where the row began */
    const char *error;
    char row[CSV_ROW_MAX];
    size_t used;  /* bytes of row */
    size_t start; /* of the present field, in row */
    struct csv_field fields[CSV_FIELDS_MAX];
    size_t count;
};

struct csv *csv_new(FILE *file)
{
    struct csv *csv = malloc(sizeof(*csv));
    if (!csv)
        return NULL;
    csv->file = file;
    csv->at = csv->filled = 0;
    csv->line = csv->row_line = 1;
    csv->error = "";
    csv->used = csv->start = csv->count = 0;
    return csv;
}

void csv_free(struct csv *csv)
{
    free(csv);
}

unsigned long csv_line(const struct csv *csv)
{
    return csv->row_line;
}

const char *csv_error(const struct csv *csv)
{
    return csv->error;
}

static bool refill(struct csv *csv)
{
    bool first = csv->filled == 0 && csv->line == 1;
    csv->at = 0;
    csv->filled = fread(csv->input, 1, sizeof(csv->input), csv->file);
    if (first && csv->filled >= 3 && memcmp(csv->input, "\xef\xbb\xbf", 3) == 0)
        csv->at = 3;
    return csv->at < csv->filled || (csv->at > 0 && refill(csv));
}

/* The next byte, or EOF. */
static int next_byte(struct csv *csv)
{
    if (csv->at == csv->filled && !refill(csv))
        return EOF;
    int c = (unsigned char)csv->input[csv->at++];
    csv->line += c == '\n';
    return c;
}

static bool put_byte(struct csv *csv, int c)
{
    if (csv->used == sizeof(csv->row)) {
        csv->error = "the row is longer than 65536 bytes (a quote that is never closed?)";
        return false;
    }
    csv->row[csv->used++] = (char)c;
    return true;
}

static bool end_field(struct csv *csv)
{
    if (csv->count == CSV_FIELDS_MAX) {
        csv->error = "more than 256 fields";
        return false;
    }
    if (!put_byte(csv, '\0'))
        return false;
    csv->fields[csv->count++] = (struct csv_field){
        .text = csv->row + csv->start,
        .len = csv->used - csv->start - 1,
    };
    csv->start = csv->used;
    return true;
}

/* What a byte outside a quoted field does; *state moves on. */
static bool take_plain(struct csv *csv, enum state *state, int c)
{
    if (c == ',') {
        *state = FIELD_START;
        return end_field(csv);
    }
    if (c == '\r') {
        *state = CR_SEEN;
        return true;
    }
    if (*state == QUOTE_SEEN) {
        csv->error = "text after a closing quote (a quote inside a field is doubled)";
        return false;
    }
    if (c == '"') {
        csv->error =
            "a quote inside an unquoted field (quote the field, double the quote)";
        if (*state != FIELD_START)
            return false;
        *state = QUOTED;
        return true;
    }
    *state = PLAIN;
    return put_byte(csv, c);
}

static bool take_byte(struct csv *csv, enum state *state, int c)
{
    if (c == '\0') {
        csv->error = "a NUL byte (not a text file in UTF-8?)";
        return false;
    }
    if (*state == CR_SEEN) {
        csv->error = "a carriage return without a line feed";
        return false;
    }
    if (*state == QUOTED) {
        if (c != '"')
            return put_byte(csv, c);
        *state = QUOTE_SEEN;
        return true;
    }
    if (*state == QUOTE_SEEN && c == '"') {
        *state = QUOTED;
        return put_byte(csv, c);
    }
    return take_plain(csv, state, c);
}

static enum csv_result skip_line(struct csv *csv, int c)
{
    while (c != '\n' && c != EOF)
        c = next_byte(csv);
    return CSV_BAD;
}

/* One row; CSV_ROW with no field for an empty line. */
static enum csv_result read_row(struct csv *csv)
{
    enum state state = FIELD_START;
    int c;
    csv->used = csv->start = csv->count = 0;
    csv->row_line = csv->line;
    while ((c = next_byte(csv)) != EOF) {
        if (c == '\n' && state != QUOTED)
            break;
        if (!take_byte(csv, &state, c))
            return skip_line(csv, c);
    }
    if (c == EOF) {
        if (ferror(csv->file))
            return CSV_FAILED;
        if (state == QUOTED) {
            csv->error = "the quote that begins here is never closed";
            return CSV_BAD;
        }
    }
    bool empty = csv->count == 0 && csv->used == 0 && state != QUOTE_SEEN;
    if (empty)
        return c == EOF && state != CR_SEEN ? CSV_END : CSV_ROW;
    return end_field(csv) ? CSV_ROW : CSV_BAD;
}

enum csv_result csv_next(struct csv *csv, const struct csv_field **fields, size_t *count)
{
    enum csv_result result;
    do
        result = read_row(csv);
    while (result == CSV_ROW && csv->count == 0);
    *fields = csv->fields;
    *count = csv->count;
    return result;
}

/* ---- writing ------------------------------------------------------------- */

bool csv_cell(const char *text, char *out, size_t size)
{
    bool formula = text[0] != '\0' && strchr("=+-@\t\r", text[0]);
    bool quoted = text[strcspn(text, ",\"\r\n")] != '\0';
    size_t used = 0;
    /* Room for an apostrophe, two quotes, a doubled one and the NUL. */
    if (size < 6)
        return false;
    if (quoted)
        out[used++] = '"';
    if (formula)
        out[used++] = '\'';
    for (; *text && used + 4 <= size; text++) {
        if (*text == '"')
            out[used++] = '"';
        out[used++] = *text;
    }
    if (quoted)
        out[used++] = '"';
    out[used] = '\0';
    return *text == '\0';
}
