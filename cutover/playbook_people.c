/*
 * playbook_people: see playbook_people.h.
 *
 * Limits: those of csv.h; BAD_ROWS messages for one file. A file of passwords must be
 * the reader's own business (mode 0600): it is looked at by its descriptor, so that
 * nobody can exchange it in between.
 */
#include "playbook_people.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "csv.h"
#include "output.h"

#define BAD_ROWS 20
#define PACE_MS  10000

/* ---- rows ---------------------------------------------------------------- */

struct reader {
    const char *path;
    FILE *file;
    char *columns[CSV_FIELDS_MAX];
    size_t count;
    size_t rows, bad;
};

static FILE *open_list(const char *path, bool secret)
{
    struct stat info;
    FILE *file = fopen(path, "re");
    if (!file || fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode)) {
        message("%s: %s", path, file ? "is not a file" : strerror(errno));
    } else if (secret && info.st_mode & (S_IRWXG | S_IRWXO)) {
        message("%s holds passwords and others may read it: chmod 0600 %s", path, path);
    } else {
        return file;
    }
    if (file)
        fclose(file);
    return NULL;
}

static bool keep_header(struct reader *reader, const struct csv_field *fields,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        reader->columns[i] = strdup(fields[i].text);
        if (!reader->columns[i]) {
            message("out of memory");
            return false;
        }
        reader->count = i + 1;
    }
    return true;
}

static void complain(struct reader *reader, unsigned long line, const char *wrong)
{
    if (reader->bad++ < BAD_ROWS)
        message("%s:%lu: %s", reader->path, line, wrong);
}

static void give_row(struct reader *reader, const struct csv_field *fields, size_t count,
                     unsigned long line, rows_fn *each, void *context)
{
    const char *cells[CSV_FIELDS_MAX];
    struct people_row row = { reader->columns, cells, reader->count, line };
    if (count > reader->count) {
        complain(reader, line, "more cells than the header has columns");
        return;
    }
    for (size_t i = 0; i < reader->count; i++)
        cells[i] = i < count ? fields[i].text : "";
    reader->rows += line > 1;
    const char *wrong = each(context, &row);
    if (wrong)
        complain(reader, line, wrong);
}

static int read_rows(struct reader *reader, struct csv *csv, rows_fn *each, void *context)
{
    const struct csv_field *fields;
    size_t count;
    bool header = true;
    for (;;) {
        enum csv_result result = csv_next(csv, &fields, &count);
        if (result == CSV_END)
            break;
        if (result == CSV_FAILED) {
            message("%s: %s", reader->path, strerror(errno));
            return EXIT_SERVICE;
        }
        if (result == CSV_BAD) {
            complain(reader, csv_line(csv), csv_error(csv));
            continue;
        }
        if (header && !keep_header(reader, fields, count))
            return EXIT_SERVICE;
        give_row(reader, fields, count, header ? 1 : csv_line(csv), each, context);
        if (header && reader->bad > 0)
            return EXIT_DATA;
        header = false;
    }
    if (reader->bad > BAD_ROWS)
        message("%s: %zu rows are wrong", reader->path, reader->bad);
    if (reader->rows == 0 && reader->bad == 0)
        message("%s holds no row", reader->path);
    return reader->rows == 0 || reader->bad > 0 ? EXIT_DATA : EXIT_DONE;
}

int rows_each(const char *path, bool secret, rows_fn *each, void *context)
{
    struct reader reader = { .path = path, .file = open_list(path, secret) };
    if (!reader.file)
        return EXIT_DATA;
    struct csv *csv = csv_new(reader.file);
    int code = EXIT_SERVICE;
    if (csv)
        code = read_rows(&reader, csv, each, context);
    else
        message("out of memory");
    csv_free(csv);
    fclose(reader.file);
    for (size_t i = 0; i < reader.count; i++)
        free(reader.columns[i]);
    return code;
}

size_t rows_column(const struct people_row *row, const char *name)
{
    for (size_t i = 0; i < row->count; i++)
        if (strcasecmp(row->columns[i], name) == 0)
            return i;
    return SIZE_MAX;
}

/* ---- people -------------------------------------------------------------- */

struct people {
    const char *path;
    bool passwords;
    people_fn *each; /* NULL: only looks */
    void *context;
    bool stopped;
    size_t address, password, admin; /* columns; SIZE_MAX: none */
};

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

static const char *take_header(struct people *people, const struct people_row *row)
{
    people->address = rows_column(row, "address");
    if (people->address == SIZE_MAX)
        people->address = rows_column(row, "email");
    people->password = rows_column(row, "password");
    people->admin = rows_column(row, "admin");
    if (people->address == SIZE_MAX)
        return "there is no column address (or email)";
    return people->passwords && people->password == SIZE_MAX
               ? "there is no column password"
               : NULL;
}

static const char *take_person(void *context, const struct people_row *row)
{
    struct people *people = context;
    struct addr parsed;
    if (row->line == 1)
        return take_header(people, row);
    if (people->stopped)
        return NULL;
    const char *admin = people->admin == SIZE_MAX ? "" : row->cells[people->admin];
    struct person person = {
        .address = row->cells[people->address],
        .password = people->password == SIZE_MAX ? "" : row->cells[people->password],
        .admin = strcasecmp(admin, "yes") == 0 || strcasecmp(admin, "true") == 0 ||
                 strcmp(admin, "1") == 0,
        .line = row->line,
        .row = row,
    };
    if (addr_parse(person.address, strlen(person.address), &parsed) != ADDR_OK)
        return "not a mail address";
    if (people->passwords && (person.password[0] == '\0' || has_control(person.password)))
        return "no password, or one with control characters";
    people->stopped = people->each && !people->each(people->context, &person);
    return NULL;
}

int people_each(const char *path, bool passwords, people_fn *each, void *context)
{
    struct people people = { .path = path, .passwords = passwords };
    int code = rows_each(path, passwords, take_person, &people);
    if (code != EXIT_DONE)
        return code;
    people.each = each;
    people.context = context;
    return rows_each(path, passwords, take_person, &people);
}

const char *people_cell(const struct person *person, const char *column)
{
    size_t i = rows_column(person->row, column);
    return i == SIZE_MAX ? NULL : person->row->cells[i];
}

void people_canonical(const char *address, char out[ADDR_TEXT_MAX + 1])
{
    struct addr parsed;
    (void)addr_parse(address, strlen(address), &parsed);
    addr_format(parsed.local, parsed.domain, out);
}

/* ---- words --------------------------------------------------------------- */

static bool take_word(const char *word, const struct word_spec *specs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(specs[i].name);
        bool valued = len > 0 && specs[i].name[len - 1] == '=';
        if (valued ? strncmp(word, specs[i].name, len) != 0
                   : strcmp(word, specs[i].name) != 0)
            continue;
        *specs[i].value = valued ? word + len : "";
        return true;
    }
    return false;
}

bool words_take(int argc, char **argv, int from, const struct word_spec *specs,
                size_t count)
{
    for (int i = from; i < argc; i++) {
        char known[400] = "";
        if (take_word(argv[i], specs, count))
            continue;
        for (size_t k = 0; k < count; k++) {
            size_t used = strlen(known);
            (void)snprintf(known + used, sizeof(known) - used, "%s%s", k ? ", " : "",
                           specs[k].name);
        }
        message("%s: \"%s\" is none of: %s", argv[0], argv[i], known);
        return false;
    }
    return true;
}

/* ---- papers -------------------------------------------------------------- */

bool paper_path(const struct action_context *context, const char *name,
                char out[PAPER_PATH_MAX])
{
    int n = snprintf(out, PAPER_PATH_MAX, "%s/%s", context->directory, name);
    if (n >= 0 && n < PAPER_PATH_MAX)
        return true;
    message("%s/%s: the path is too long", context->directory, name);
    return false;
}

static bool part_path(const struct action_context *context, const char *name,
                      char out[PAPER_PATH_MAX])
{
    char part[300];
    int n = snprintf(part, sizeof(part), ".%s.part", name);
    return n > 0 && (size_t)n < sizeof(part) && paper_path(context, part, out);
}

FILE *paper_open(const struct action_context *context, const char *name)
{
    char path[PAPER_PATH_MAX];
    if (!part_path(context, name, path))
        return NULL;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!file) {
        message("%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
    }
    return file;
}

int paper_close(const struct action_context *context, FILE *paper, const char *name,
                bool keep)
{
    char part[PAPER_PATH_MAX], path[PAPER_PATH_MAX];
    if (!part_path(context, name, part) || !paper_path(context, name, path)) {
        fclose(paper);
        return EXIT_SERVICE;
    }
    bool written = !ferror(paper);
    written = fclose(paper) == 0 && written;
    if (written && keep && rename(part, path) == 0)
        return EXIT_DONE;
    int why = errno;
    (void)unlink(part);
    if (!keep)
        return EXIT_DONE;
    message("%s: %s", path, strerror(why));
    return EXIT_SERVICE;
}

void paper_row(FILE *paper, const char *const *cells, size_t count)
{
    char text[4096];
    for (size_t i = 0; i < count; i++) {
        /* What does not fit is hostile: no address or reason is that long. */
        bool fits = csv_cell(cells[i] ? cells[i] : "", text, sizeof(text));
        fprintf(paper, "%s%s", i ? "," : "", fits ? text : "(too long)");
    }
    fputs("\r\n", paper);
}

bool pace_due(struct pace *pace)
{
    int64_t now = clock_ms();
    if (pace->said == 0)
        pace->said = now;
    if (now - pace->said < PACE_MS)
        return false;
    pace->said = now;
    return true;
}
