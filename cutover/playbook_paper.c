/*
 * playbook_paper: actions that read and write files: lists of people, documents,
 * notices, what a mail log tells. Artefacts go to the run's directory.
 *
 * Limits: a log line of LINE_MAX bytes (longer ones are skipped), NAMES_MAX
 * different correspondents.
 */
#include "playbook_people.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "addr.h"
#include "capture.h"
#include "csv.h"
#include "output.h"
#include "table.h"

#define LINE_MAX_LEN 16384
#define NAMES_MAX    200000
#define PATH_LEN     4400
#define POSTCONF_MS  30000

FILE *people_paper(const struct action_context *context, const char *name)
{
    char path[PATH_LEN];
    (void)snprintf(path, sizeof(path), "%s/%s", context->directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!file) {
        message("%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
    }
    return file;
}

static int close_paper(const struct action_context *context, FILE *file, const char *name)
{
    if (fclose(file) == 0)
        return EXIT_DONE;
    message("%s/%s: %s", context->directory, name, strerror(errno));
    return EXIT_SERVICE;
}

/* ---- lists of people ------------------------------------------------------------ */

struct columns {
    size_t address, password, admin; /* SIZE_MAX: none */
};

static void take_header(const struct csv_field *fields, size_t count, struct columns *out)
{
    *out = (struct columns){ SIZE_MAX, SIZE_MAX, SIZE_MAX };
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(fields[i].text, "address") == 0 ||
            strcasecmp(fields[i].text, "email") == 0)
            out->address = i;
        else if (strcasecmp(fields[i].text, "password") == 0)
            out->password = i;
        else if (strcasecmp(fields[i].text, "admin") == 0)
            out->admin = i;
    }
}

static const char *cell(const struct csv_field *fields, size_t count, size_t column)
{
    return column < count ? fields[column].text : "";
}

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

/* NULL: the row is good. */
static const char *take_row(const struct csv_field *fields, size_t count,
                            const struct columns *columns, bool passwords,
                            struct person *out)
{
    struct addr parsed;
    const char *admin = cell(fields, count, columns->admin);
    out->address = cell(fields, count, columns->address);
    out->password = cell(fields, count, columns->password);
    out->admin = strcasecmp(admin, "yes") == 0 || strcasecmp(admin, "true") == 0 ||
                 strcmp(admin, "1") == 0;
    if (addr_parse(out->address, strlen(out->address), &parsed) != ADDR_OK)
        return "not a mail address";
    if (passwords && (out->password[0] == '\0' || has_control(out->password)))
        return "no password, or one with control characters";
    return NULL;
}

static int read_rows(struct csv *csv, const char *path, bool passwords, people_fn *each,
                     void *context)
{
    const struct csv_field *fields;
    struct columns columns;
    struct person person;
    size_t count, rows = 0;
    for (bool header = true;; header = false) {
        enum csv_result result = csv_next(csv, &fields, &count);
        if (result == CSV_END)
            break;
        if (result != CSV_ROW) {
            message("%s:%lu: %s", path, csv_line(csv),
                    result == CSV_BAD ? csv_error(csv) : strerror(errno));
            return EXIT_DATA;
        }
        if (header) {
            take_header(fields, count, &columns);
            if (columns.address == SIZE_MAX ||
                (passwords && columns.password == SIZE_MAX)) {
                message("%s:1: there is no column %s", path,
                        columns.address == SIZE_MAX ? "address (or email)" : "password");
                return EXIT_DATA;
            }
            continue;
        }
        const char *wrong = take_row(fields, count, &columns, passwords, &person);
        if (wrong) {
            message("%s:%lu: %s", path, csv_line(csv), wrong);
            return EXIT_DATA;
        }
        rows++;
        if (!each(context, &person))
            break;
    }
    if (rows > 0)
        return EXIT_DONE;
    message("%s holds no row", path);
    return EXIT_DATA;
}

int people_each(const char *path, bool passwords, people_fn *each, void *context)
{
    struct stat info;
    FILE *file = fopen(path, "re");
    if (!file || fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode)) {
        message("%s: %s", path, file ? "is not a file" : strerror(errno));
        if (file)
            fclose(file);
        return EXIT_DATA;
    }
    if (passwords && info.st_mode & (S_IRWXG | S_IRWXO)) {
        message("%s holds passwords and others may read it: chmod 0600 %s", path, path);
        fclose(file);
        return EXIT_DATA;
    }
    struct csv *csv = csv_new(file);
    int code = csv ? read_rows(csv, path, passwords, each, context) : EXIT_SERVICE;
    csv_free(csv);
    fclose(file);
    return code;
}

/* ---- checks and CSV -------------------------------------------------------------- */

static bool utf8(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    while (*c) {
        int more = *c < 0x80                 ? 0
                   : *c >= 0xc2 && *c < 0xe0 ? 1
                   : *c >= 0xe0 && *c < 0xf0 ? 2
                   : *c >= 0xf0 && *c < 0xf5 ? 3
                                             : -1;
        if (more < 0)
            return false;
        for (c++; more > 0; more--, c++)
            if ((*c & 0xc0) != 0x80)
                return false;
    }
    return true;
}

struct checked {
    size_t rows;
    char wrong[ADDR_TEXT_MAX + 80];
};

static bool check_person(void *context, const struct person *person)
{
    struct checked *checked = context;
    checked->rows++;
    if (utf8(person->address) && utf8(person->password) && !has_control(person->address))
        return true;
    (void)snprintf(checked->wrong, sizeof(checked->wrong), "row %zu: not UTF-8",
                   checked->rows);
    return false;
}

int action_csv(struct action_context *context, int argc, char **argv)
{
    struct checked checked = { 0 };
    (void)context;
    (void)argc;
    int code = people_each(argv[1], true, check_person, &checked);
    if (code != EXIT_DONE)
        return code;
    if (checked.wrong[0]) {
        message("%s: %s", argv[1], checked.wrong);
        return EXIT_CHECK;
    }
    print("%s: %zu accounts", argv[1], checked.rows);
    return EXIT_DONE;
}

struct class_writer {
    FILE *out;
    const char *user, *admin;
    size_t users, admins;
};

static bool class_one(void *context, const struct person *person)
{
    struct class_writer *writer = context;
    char text[2048];
    if (!csv_cell(person->address, text, sizeof(text)))
        return false;
    fprintf(writer->out, "%s,%s\r\n", text, person->admin ? writer->admin : writer->user);
    writer->users += !person->admin;
    writer->admins += person->admin;
    return true;
}

int action_class(struct action_context *context, int argc, char **argv)
{
    struct class_writer writer = { people_paper(context, "class.csv"), argv[2], argv[3],
                                   0, 0 };
    (void)argc;
    if (!writer.out)
        return EXIT_SERVICE;
    fputs("userid,cos\r\n", writer.out);
    int code = people_each(argv[1], false, class_one, &writer);
    int closed = close_paper(context, writer.out, "class.csv");
    if (code == EXIT_DONE && closed == EXIT_DONE)
        print("class.csv: %zu users, %zu admins", writer.users, writer.admins);
    return code == EXIT_DONE ? closed : code;
}

/* ---- the mail log ------------------------------------------------------------------ */

typedef void log_fn(void *context, char *line);

static int each_line(const char *path, log_fn *each, void *context)
{
    char line[LINE_MAX_LEN];
    FILE *file = fopen(path, "re");
    bool whole = true;
    if (!file) {
        message("%s: %s", path, strerror(errno));
        return EXIT_DATA;
    }
    while (fgets(line, sizeof(line), file)) {
        size_t len = strlen(line);
        bool ended = len > 0 && line[len - 1] == '\n';
        if (whole && ended)
            each(context, line);
        whole = ended;
    }
    fclose(file);
    return EXIT_DONE;
}

/* The hour in "Nov 22 07:50:01 ..." or "2026-11-22T07:50:01..."; -1: none. */
static int hour_of(const char *line)
{
    size_t at = isdigit((unsigned char)line[0]) ? 11 : 7;
    if (strlen(line) < at + 3 || line[at + 2] != ':' ||
        !isdigit((unsigned char)line[at]) || !isdigit((unsigned char)line[at + 1]))
        return -1;
    int hour = (line[at] - '0') * 10 + line[at + 1] - '0';
    return hour < 24 ? hour : -1;
}

static void count_hour(void *context, char *line)
{
    uint64_t *hours = context;
    int hour = strstr(line, "/qmgr[") && strstr(line, ": from=<") ? hour_of(line) : -1;
    if (hour >= 0)
        hours[hour]++;
}

int action_histogram(struct action_context *context, int argc, char **argv)
{
    uint64_t hours[24] = { 0 }, all = 0;
    int quietest = 0;
    (void)argc;
    int code = each_line(argv[1], count_hour, hours);
    FILE *out = code == EXIT_DONE ? people_paper(context, "histogram.csv") : NULL;
    if (!out)
        return code == EXIT_DONE ? EXIT_SERVICE : code;
    fputs("hour,messages\r\n", out);
    for (int i = 0; i < 24; i++) {
        fprintf(out, "%02d,%" PRIu64 "\r\n", i, hours[i]);
        all += hours[i];
        quietest = hours[i] < hours[quietest] ? i : quietest;
    }
    print("%" PRIu64 " messages; the quietest hour begins at %02d:00 (%" PRIu64
          "): histogram.csv",
          all, quietest, hours[quietest]);
    return close_paper(context, out, "histogram.csv");
}

struct contacts {
    const char *domain;
    struct table *names; /* address -> decimal count */
};

static void count_contact(void *context, char *line)
{
    struct contacts *contacts = context;
    char text[24];
    size_t len;
    char *at = strstr(line, "/qmgr[") ? strstr(line, ": from=<") : NULL;
    if (!at)
        return;
    at += strlen(": from=<");
    len = strcspn(at, ">");
    at[len] = '\0';
    const char *domain = strrchr(at, '@');
    if (!domain || strcasecmp(domain + 1, contacts->domain) == 0 || has_control(at))
        return;
    const char *before = table_get(contacts->names, at, len, NULL);
    if (!before && table_count(contacts->names) >= NAMES_MAX)
        return;
    int n = snprintf(text, sizeof(text), "%llu",
                     (before ? strtoull(before, NULL, 10) : 0) + 1);
    (void)table_put(contacts->names, at, len, text, (size_t)n);
}

struct contact {
    const char *name;
    unsigned long long count;
};

static int most_first(const void *a, const void *b)
{
    const struct contact *one = a, *other = b;
    if (one->count != other->count)
        return one->count < other->count ? 1 : -1;
    return strcmp(one->name, other->name);
}

static int write_contacts(struct action_context *context, const struct table *names)
{
    size_t n = 0, cursor = 0, len, value_len;
    const char *name, *value;
    char text[2048];
    struct contact *list = calloc(table_count(names) + 1, sizeof(*list));
    FILE *out = list ? people_paper(context, "contacts.csv") : NULL;
    if (!out) {
        free(list);
        return EXIT_SERVICE;
    }
    while (table_next(names, &cursor, &name, &len, &value, &value_len))
        list[n++] = (struct contact){ name, strtoull(value, NULL, 10) };
    qsort(list, n, sizeof(*list), most_first);
    fputs("address,messages\r\n", out);
    for (size_t i = 0; i < n && i < 100; i++)
        if (csv_cell(list[i].name, text, sizeof(text)))
            fprintf(out, "%s,%llu\r\n", text, list[i].count);
    print("%zu correspondents: contacts.csv has the most frequent", n);
    free(list);
    return close_paper(context, out, "contacts.csv");
}

int action_contacts(struct action_context *context, int argc, char **argv)
{
    struct contacts contacts = { context->domain, table_new() };
    (void)argc;
    if (!contacts.names) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    int code = each_line(argv[1], count_contact, &contacts);
    if (code == EXIT_DONE)
        code = write_contacts(context, contacts.names);
    table_free(contacts.names);
    return code;
}

/* ---- documents and notices
 * ------------------------------------------------------------- */

int action_postconf(struct action_context *context, int argc, char **argv)
{
    const struct conf *conf = context->command->conf;
    char program[PATH_LEN];
    struct capture got;
    (void)argc;
    (void)argv;
    (void)snprintf(program, sizeof(program), "%s/postconf", conf->postfix_commands);
    const char *const words[] = { program, "-c", conf->postfix_config, "-n", NULL };
    capture_run(words, NULL, POSTCONF_MS, &got);
    FILE *out = got.status == 0 ? people_paper(context, "postconf.txt") : NULL;
    if (got.status != 0)
        message("%s: %s", program, got.error[0] ? got.error : "failed");
    if (out)
        fputs(got.out, out);
    free(got.out);
    if (!out)
        return EXIT_SERVICE;
    print("postconf.txt: the configuration as it is");
    return close_paper(context, out, "postconf.txt");
}

int action_document(struct action_context *context, int argc, char **argv)
{
    char name[200];
    (void)snprintf(name, sizeof(name), "%.150s.txt", context->step);
    FILE *out = people_paper(context, name);
    if (!out)
        return EXIT_SERVICE;
    for (int i = 1; i < argc; i++)
        fprintf(out, "%s\n", argv[i]);
    print("%s/%s", context->directory, name);
    return close_paper(context, out, name);
}

#define NOTICE_LINES 28
struct notice {
    const char *endpoint; /* NULL: it is written, not sent */
    const char *from;
    char **text; /* subject and lines */
    int lines;
    FILE *out;
    size_t done, failed;
};

/* "%a" of a line becomes the address. */
static void merge(const char *line, const char *address, char *out, size_t size)
{
    size_t used = 0, len = strlen(address);
    for (; *line && used + len + 2 < size; line++) {
        if (line[0] == '%' && line[1] == 'a') {
            memcpy(out + used, address, len);
            used += len;
            line++;
        } else {
            out[used++] = *line;
        }
    }
    out[used] = '\0';
}

static bool notice_one(void *context, const struct person *person)
{
    static char text[NOTICE_LINES][2600];
    const char *lines[NOTICE_LINES];
    struct notice *it = context;
    char when[64];
    time_t now = time(NULL);
    struct tm tm;
    size_t n = 0;
    if (!gmtime_r(&now, &tm) ||
        strftime(when, sizeof(when), "%a, %d %b %Y %H:%M:%S +0000", &tm) == 0)
        return false;
    (void)snprintf(text[n++], sizeof(text[0]), "From: <%s>", it->from);
    (void)snprintf(text[n++], sizeof(text[0]), "To: <%s>", person->address);
    (void)snprintf(text[n++], sizeof(text[0]), "Date: %s", when);
    (void)snprintf(text[n++], sizeof(text[0]), "Subject: %s", it->text[0]);
    (void)snprintf(text[n++], sizeof(text[0]),
                   "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8");
    text[n++][0] = '\0';
    for (int i = 1; i < it->lines && n < NOTICE_LINES; i++)
        merge(it->text[i], person->address, text[n++], sizeof(text[0]));
    for (size_t i = 0; i < n; i++)
        lines[i] = text[i];
    for (size_t i = 0; it->out && i < n; i++)
        fprintf(it->out, "%s\n", lines[i]);
    bool good =
        !it->endpoint || people_send(it->endpoint, it->from, person->address, lines, n);
    it->done += good;
    it->failed += !good;
    return it->failed < 20;
}

int action_notice(struct action_context *context, int argc, char **argv)
{
    bool send = strcmp(argv[0], "notice-send") == 0;
    char name[200];
    struct notice it = { .endpoint = send ? argv[2] : NULL,
                         .from = send ? argv[3] : "postmaster",
                         .text = argv + (send ? 4 : 2),
                         .lines = argc - (send ? 4 : 2) };
    for (int i = 1; i < argc; i++)
        if (has_control(argv[i])) {
            message("a notice has no control characters");
            return EXIT_DATA;
        }
    (void)snprintf(name, sizeof(name), "%.150s.mbox", context->step);
    it.out = people_paper(context, name);
    if (!it.out)
        return EXIT_SERVICE;
    int code = people_each(argv[1], false, notice_one, &it);
    int closed = close_paper(context, it.out, name);
    if (code != EXIT_DONE || closed != EXIT_DONE)
        return code != EXIT_DONE ? code : closed;
    if (it.failed > 0) {
        message("%zu notices were not accepted", it.failed);
        return EXIT_CHECK;
    }
    print("%zu notices %s: %s", it.done, send ? "sent" : "written", name);
    return EXIT_DONE;
}

/* ---- programs of the admin
 * -------------------------------------------------------------- */

int action_command(struct action_context *context, int argc, char **argv)
{
    (void)context;
    (void)argc;
    if (argv[1][0] != '/') {
        message("command: \"%s\" is not an absolute path", argv[1]);
        return EXIT_USE;
    }
    (void)fflush(NULL);
    execv(argv[1], argv + 1); /* this process is the step's own */
    message("%s: %s", argv[1], strerror(errno));
    return EXIT_SERVICE;
}
