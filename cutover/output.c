/*
 * output: messages, results, progress, tables, JSON (see output.h).
 *
 * The progress line is only ever on a terminal: it begins with a carriage
 * return, ends with "erase to the end of the line" and is removed before any
 * other line is printed, so nothing of it stays in the scroll-back.  It is cut
 * to the terminal's width.  Where standard error is a file or a pipe (cron, a
 * script's log) progress is plain lines, seldom.
 *
 * Messages are composed in a buffer and written with one call, so lines of two
 * programs on one terminal do not mix. A message longer than MESSAGE_MAX ends
 * with "...".
 *
 * Standard output that cannot be written (a full disk, a closed pipe) is found
 * by out_finish() and keeps the command from ending with 0: a script must not
 * take half a document for a whole one.
 */
#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "command.h"
#include "csv.h"

#define MESSAGE_MAX    4096
#define DETAIL_MAX     512
#define PAINT_MS       100  /* between two paintings on a terminal */
#define PLAIN_MS       5000 /* between two plain lines */
#define BAR_CELLS      24
#define TERMINAL_WIDTH 80 /* when the terminal does not say */

static struct {
    const char *command;
    bool json;
    bool document_done;
    char error[MESSAGE_MAX];
} out;

static struct {
    bool on;
    bool painted; /* there is a line on the terminal now */
    const char *what;
    uint64_t done, total;
    int64_t began, last, moved; /* clock_ms(); moved: when done last changed */
    char detail[DETAIL_MAX];
    char last_detail[DETAIL_MAX];
} progress;

void out_open(const char *command, bool json)
{
    out.command = command;
    out.json = json;
}

bool out_is_json(void)
{
    return out.json;
}

/* Bytes of the UTF-8 character at p; 0: it is none. */
static size_t character_length(const unsigned char *p)
{
    size_t len = *p < 0x80                 ? 1
                 : *p >= 0xc2 && *p < 0xe0 ? 2
                 : *p >= 0xe0 && *p < 0xf0 ? 3
                 : *p >= 0xf0 && *p < 0xf5 ? 4
                                           : 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

/* Control characters: C0 and DEL, C1, and those that turn the direction of what
 * follows (U+202A to U+202E, U+2066 to U+2069). */
static bool is_control(const unsigned char *p, size_t len)
{
    if (len == 1)
        return *p < 0x20 || *p == 0x7f;
    if (len == 2)
        return p[0] == 0xc2 && p[1] < 0xa0;
    return len == 3 && p[0] == 0xe2 &&
           ((p[1] == 0x80 && p[2] >= 0xaa && p[2] <= 0xae) ||
            (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9));
}

/* Control characters, and bytes that are not UTF-8 (a terminal might take them
 * for C1), become '?'. */
void out_harmless(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p;) {
        size_t len = character_length(p);
        if (len == 0 || is_control(p, len)) {
            len += len == 0;
            memset(p, '?', len);
        }
        p += len;
    }
}

/* Formats into text; what does not fit ends with "...". */
__attribute__((format(printf, 3, 0))) static void compose(char *text, size_t size,
                                                          const char *fmt, va_list args)
{
    int n = vsnprintf(text, size, fmt, args);
    if (n < 0)
        text[0] = '\0';
    else if ((size_t)n >= size)
        memcpy(text + size - 4, "...", 4);
    out_harmless(text);
}

/* ---- messages and results ---------------------------------------------- */

static void remove_progress_line(void)
{
    if (progress.painted) {
        fputs("\r\033[K", stderr);
        progress.painted = false;
        progress.last = 0; /* paint again at the next chance */
    }
}

static void write_message(const char *text)
{
    remove_progress_line();
    fflush(stdout);
    if (out.command)
        fprintf(stderr, "sluice: %s: %s\n", out.command, text);
    else
        fprintf(stderr, "sluice: %s\n", text);
    fflush(stderr);
}

void message(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    compose(out.error, sizeof(out.error), fmt, args);
    va_end(args);
    write_message(out.error);
}

void notice(const char *fmt, ...)
{
    char text[MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    compose(text, sizeof(text), fmt, args);
    va_end(args);
    write_message(text);
}

void print(const char *fmt, ...)
{
    char text[MESSAGE_MAX];
    if (out.json)
        return;
    remove_progress_line();
    va_list args;
    va_start(args, fmt);
    compose(text, sizeof(text), fmt, args);
    va_end(args);
    printf("%s\n", text);
}

int out_finish(int code)
{
    progress_end();
    if (out.json && !out.document_done) {
        doc *document = doc_object();
        doc_text(document, "command", out.command);
        doc_number(document, "exit", code);
        doc_text(document, "error", out.error[0] ? out.error : NULL);
        doc_print(document);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (errno != EPIPE)
            message("standard output: %s", strerror(errno));
        if (code == EXIT_DONE)
            code = EXIT_SERVICE;
    }
    return code;
}

/* ---- progress ---------------------------------------------------------- */

static bool on_terminal(void)
{
    static int known = -1;
    if (known < 0) {
        const char *term = getenv("TERM");
        known = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    }
    return known == 1;
}

static size_t terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 10)
        return size.ws_col;
    return TERMINAL_WIDTH;
}

void progress_begin(const char *what, uint64_t total)
{
    progress_end();
    memset(&progress, 0, sizeof(progress));
    progress.on = true;
    progress.what = what;
    progress.total = total;
    progress.began = progress.moved = clock_ms();
}

void progress_total(uint64_t total)
{
    progress.total = total;
}

/* ", 120/s, 1 min 05 s left", empty while nothing can be said. The time left
 * counts down between two steps, also where work comes in batches. */
static void describe_pace(char *text, size_t size)
{
    char left[DURATION_TEXT_MAX];
    double seconds = (double)(progress.moved - progress.began) / 1000;
    double rate = seconds >= 1 ? (double)progress.done / seconds : 0;
    text[0] = '\0';
    if (rate <= 0 || progress.done >= progress.total)
        return;
    double since = (double)(clock_ms() - progress.moved) / 1000;
    double rest = (double)(progress.total - progress.done) / rate - since;
    duration_text((int64_t)(rest + 0.5), left);
    int n = snprintf(text, size, rate < 10 ? ", %.1f/s%s%s%s" : ", %.0f/s%s%s%s", rate,
                     rest > 0 ? ", " : "", rest > 0 ? left : "", rest > 0 ? " left" : "");
    if (n < 0 || (size_t)n >= size)
        text[0] = '\0';
}

static void describe_progress(char *line, size_t size, bool bar)
{
    char pace[80], cells[BAR_CELLS + 4] = "";
    const char *gap = progress.detail[0] ? ": " : "";
    int n;
    if (progress.total == 0) {
        n = snprintf(line, size, "%s%s%s", progress.what, gap, progress.detail);
    } else {
        uint64_t done = progress.done < progress.total ? progress.done : progress.total;
        size_t full = (size_t)((double)done / (double)progress.total * BAR_CELLS);
        if (bar) {
            memset(cells + 1, '-', BAR_CELLS);
            memset(cells + 1, '#', full);
            cells[0] = '[';
            memcpy(cells + BAR_CELLS + 1, "] ", 3);
        }
        describe_pace(pace, sizeof(pace));
        n = snprintf(line, size, "%s %s%" PRIu64 "/%" PRIu64 "%s%s%s", progress.what,
                     cells, progress.done, progress.total, pace, gap, progress.detail);
    }
    if (n < 0)
        line[0] = '\0';
}

static void paint_progress(void)
{
    char line[DETAIL_MAX + 160];
    size_t width = terminal_width() - 1;
    describe_progress(line, sizeof(line), true);
    if (width < sizeof(line))
        line[width] = '\0';
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    progress.painted = true;
}

static void print_progress(void)
{
    char line[DETAIL_MAX + 160];
    describe_progress(line, sizeof(line), false);
    fprintf(stderr, "sluice: %s\n", line);
    fflush(stderr);
    memcpy(progress.last_detail, progress.detail, sizeof(progress.detail));
}

void progress_set(uint64_t done, const char *detail, ...)
{
    if (!progress.on)
        return;
    va_list args;
    va_start(args, detail);
    compose(progress.detail, sizeof(progress.detail), detail, args);
    va_end(args);
    bool moved =
        done != progress.done || strcmp(progress.detail, progress.last_detail) != 0;
    int64_t now = clock_ms();
    if (done != progress.done)
        progress.moved = now;
    progress.done = done;
    if (on_terminal()) {
        if (now - progress.last < PAINT_MS && progress.last != 0)
            return;
        paint_progress();
    } else {
        if (!moved || now - (progress.last ? progress.last : progress.began) < PLAIN_MS)
            return;
        print_progress();
    }
    progress.last = now;
}

void progress_end(void)
{
    remove_progress_line();
    if (progress.on)
        fflush(stderr);
    progress.on = false;
}

/* ---- tables ------------------------------------------------------------ */

struct sheet {
    size_t columns, rows, room;
    bool right[SHEET_COLUMNS_MAX];
    size_t width[SHEET_COLUMNS_MAX];
    char **cells; /* rows * columns; row 0 is the header */
    bool failed;  /* memory ran out: said when printed */
};

/* Characters a terminal needs for UTF-8 text: all bytes but continuations. */
static size_t text_width(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

struct sheet *sheet_new(const char *const *headers, size_t columns)
{
    const char *cells[SHEET_COLUMNS_MAX];
    struct sheet *sheet = calloc(1, sizeof(*sheet));
    if (!sheet || columns > SHEET_COLUMNS_MAX) {
        free(sheet);
        return NULL;
    }
    sheet->columns = columns;
    for (size_t i = 0; i < columns; i++) {
        sheet->right[i] = headers[i][0] == '>';
        cells[i] = headers[i] + sheet->right[i];
    }
    sheet_row(sheet, cells);
    return sheet;
}

void sheet_row(struct sheet *sheet, const char *const *cells)
{
    if (!sheet || sheet->failed)
        return;
    if (sheet->rows == sheet->room) {
        size_t room = sheet->room ? sheet->room * 2 : 16;
        char **grown = reallocarray(sheet->cells, room * sheet->columns, sizeof(*grown));
        if (!grown) {
            sheet->failed = true;
            return;
        }
        sheet->cells = grown;
        sheet->room = room;
    }
    char **row = sheet->cells + sheet->rows * sheet->columns;
    for (size_t i = 0; i < sheet->columns; i++) {
        row[i] = strdup(cells[i] ? cells[i] : "-");
        if (!row[i]) {
            sheet->failed = true;
            row[i] = NULL;
            continue;
        }
        out_harmless(row[i]);
        size_t width = text_width(row[i]);
        if (width > sheet->width[i])
            sheet->width[i] = width;
    }
    sheet->rows++;
}

size_t sheet_rows(const struct sheet *sheet)
{
    return sheet && sheet->rows ? sheet->rows - 1 : 0;
}

void sheet_free(struct sheet *sheet)
{
    if (!sheet)
        return;
    for (size_t i = 0; i < sheet->rows * sheet->columns; i++)
        free(sheet->cells[i]);
    free(sheet->cells);
    free(sheet);
}

static void print_cell(const struct sheet *sheet, size_t column, const char *text)
{
    size_t fill = sheet->width[column] - text_width(text);
    bool last = column + 1 == sheet->columns;
    fputs("  ", stdout);
    if (sheet->right[column])
        printf("%*s", (int)fill, "");
    fputs(text, stdout);
    if (!sheet->right[column] && !last)
        printf("%*s", (int)fill, "");
}

void sheet_print(struct sheet *sheet)
{
    if (!sheet || sheet->failed) {
        message("out of memory: a table is missing");
    } else if (!out.json) {
        remove_progress_line();
        for (size_t row = 0; row < sheet->rows; row++) {
            for (size_t i = 0; i < sheet->columns; i++)
                print_cell(sheet, i, sheet->cells[row * sheet->columns + i]);
            putchar('\n');
        }
    }
    sheet_free(sheet);
}

void print_csv(const char *const *cells, size_t count)
{
    char text[PRINT_CELL_MAX + 1], cell[2 * PRINT_CELL_MAX + 8];
    if (out.json)
        return;
    remove_progress_line();
    for (size_t i = 0; i < count; i++) {
        int n = snprintf(text, sizeof(text), "%s", cells[i]);
        if (n < 0 || (size_t)n >= sizeof(text))
            text[0] = '\0';
        out_harmless(text);
        fputs(i > 0 ? "," : "", stdout);
        fputs(csv_cell(text, cell, sizeof(cell)) ? cell : "", stdout);
    }
    fputs("\r\n", stdout);
}

/* ---- JSON -------------------------------------------------------------- */

doc *doc_object(void)
{
    return json_object();
}

doc *doc_array(void)
{
    return json_array();
}

/* Bytes that are not UTF-8 as "\xHH". NULL: out of memory. */
static json_t *escaped_string(const char *value)
{
    size_t len = strlen(value);
    if (len > SIZE_MAX / 4 - 1)
        return NULL;
    char *text = malloc(len * 4 + 1);
    if (!text)
        return NULL;
    char *to = text;
    for (; *value; value++) {
        unsigned char byte = (unsigned char)*value;
        if (byte < 0x80) {
            *to++ = (char)byte;
        } else {
            static const char hex[] = "0123456789abcdef";
            *to++ = '\\';
            *to++ = 'x';
            *to++ = hex[byte >> 4];
            *to++ = hex[byte & 15];
        }
    }
    *to = '\0';
    json_t *string = json_string(text);
    free(text);
    return string;
}

static json_t *string_value(const char *value)
{
    if (!value)
        return json_null();
    json_t *string = json_string(value); /* NULL for what is not UTF-8 */
    return string ? string : escaped_string(value);
}

/* Memory that ran out anywhere makes the whole document fail. */
static bool document_failed;

/* false: it was not put in, and is freed. */
static bool put(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) == 0)
        return true;
    document_failed = true;
    return false;
}

void doc_text(doc *object, const char *key, const char *value)
{
    put(object, key, string_value(value));
}

void doc_number(doc *object, const char *key, int64_t value)
{
    put(object, key, json_integer(value));
}

void doc_real(doc *object, const char *key, double value)
{
    put(object, key, json_real(value));
}

void doc_flag(doc *object, const char *key, bool value)
{
    put(object, key, json_boolean(value));
}

doc *doc_put(doc *object, const char *key, doc *child)
{
    return put(object, key, child) ? child : NULL;
}

doc *doc_add(doc *array, doc *child)
{
    if (json_array_append_new(array, child) == 0)
        return child;
    document_failed = true;
    return NULL;
}

void doc_add_text(doc *array, const char *value)
{
    doc_add(array, string_value(value));
}

void doc_free(doc *document)
{
    json_decref(document);
}

bool doc_print(doc *document)
{
    bool fine = document && !document_failed;
    if (!out.json) {
        json_decref(document);
        return true;
    }
    if (fine) {
        remove_progress_line();
        fine = json_dumpf(document, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) == 0;
        putchar('\n');
    }
    out.document_done = true;
    if (!fine && !ferror(stdout)) /* out_finish() says that */
        message("out of memory: no document");
    json_decref(document);
    return fine;
}

/* ---- times ------------------------------------------------------------- */

const char *duration_text(int64_t seconds, char text[DURATION_TEXT_MAX])
{
    long long s = seconds < 0 ? 0 : (long long)seconds;
    int n;
    if (s < 60)
        n = snprintf(text, DURATION_TEXT_MAX, "%lld s", s);
    else if (s < 3600)
        n = snprintf(text, DURATION_TEXT_MAX, "%lld min %02lld s", s / 60, s % 60);
    else if (s < 86400)
        n = snprintf(text, DURATION_TEXT_MAX, "%lld h %02lld min", s / 3600,
                     s % 3600 / 60);
    else
        n = snprintf(text, DURATION_TEXT_MAX, "%lld d %lld h", s / 86400,
                     s % 86400 / 3600);
    if (n < 0 || n >= DURATION_TEXT_MAX)
        text[0] = '\0';
    return text;
}

bool duration_parse(const char *text, int *seconds)
{
    enum { YEAR = 366 * 86400 };
    long long value = 0, unit = 1;
    if (*text < '0' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9'; text++) {
        value = value * 10 + (*text - '0');
        if (value > YEAR)
            return false;
    }
    switch (*text) {
    case '\0':
    case 's':
        break;
    case 'm':
        unit = 60;
        break;
    case 'h':
        unit = 3600;
        break;
    case 'd':
        unit = 86400;
        break;
    default:
        return false;
    }
    if (*text && text[1])
        return false;
    if (value * unit > YEAR)
        return false;
    *seconds = (int)(value * unit);
    return true;
}

const char *time_text(int64_t unix_s, char text[TIME_TEXT_MAX])
{
    time_t when = (time_t)unix_s;
    struct tm local;
    if (unix_s <= 0 || !localtime_r(&when, &local) ||
        strftime(text, TIME_TEXT_MAX, "%Y-%m-%d %H:%M:%S", &local) == 0)
        memcpy(text, "-", 2);
    return text;
}

