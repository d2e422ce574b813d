/*
 * log_year: logs over several years, without years in their stamps. A file's text is made
 * from dates with a year ("2024-11-03 2025-01-09"), which the reader is not told;
 * expected are the same dates.
 */
#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "../../cutover/log_reader.h"

#define FILES_MAX 4

static char folder[] = "/tmp/sluice-year-XXXXXX";

struct file {
    const char *name, *dates, *written; /* the date of its last change */
};

static time_t unix_of(const char *date)
{
    struct tm tm = { 0 };
    CU_ASSERT_PTR_NOT_NULL_FATAL(strptime(date, "%Y-%m-%d", &tm));
    return mktime(&tm);
}

static void put_line(gzFile out, time_t t)
{
    static unsigned id;
    char stamp[32], line[160];
    struct tm tm;
    localtime_r(&t, &tm);
    strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", &tm);
    snprintf(line, sizeof(line), "%s mx1 postfix/qmgr[1]: %08X: removed\n", stamp, id++);
    CU_ASSERT(gzputs(out, line) > 0);
}

static void close_at(gzFile out, const char *path, const char *written)
{
    struct timespec times[2] = { { .tv_sec = unix_of(written) }, { .tv_nsec = 0 } };
    times[1] = times[0];
    CU_ASSERT(gzclose(out) == Z_OK);
    CU_ASSERT(utimensat(AT_FDCWD, path, times, 0) == 0);
}

/* "wT": plain. */
static gzFile open_log(const char *name, char path[160])
{
    size_t len = strlen(name);
    snprintf(path, 160, "%s/%s", folder, name);
    gzFile out = gzopen(path, strcmp(name + len - 3, ".gz") == 0 ? "wb" : "wT");
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    return out;
}

static void make_file(const struct file *file)
{
    char path[160], date[16];
    gzFile out = open_log(file->name, path);
    for (const char *p = file->dates; *p; p += strspn(p, " ")) {
        size_t len = strcspn(p, " ");
        snprintf(date, sizeof(date), "%.*s", (int)len, p);
        put_line(out, unix_of(date) + 43200);
        p += len;
    }
    close_at(out, path, file->written);
}

static void begin(void)
{
    DIR *dir = opendir(folder);
    for (struct dirent *d; (d = readdir(dir));)
        if (d->d_name[0] != '.')
            unlinkat(dirfd(dir), d->d_name, 0);
    closedir(dir);
}

static struct log_reader *open_reader(void)
{
    char path[160], error[256] = "";
    struct log_reader *reader = log_reader_new(1u << LOG_EVENT_REMOVED);
    snprintf(path, sizeof(path), "%s/mail.log", folder);
    CU_ASSERT(log_reader_add(reader, path, error, sizeof(error)));
    CHECK_STR("open", error, "");
    return reader;
}

static void date_of(const struct log_record *record, char *out, size_t size)
{
    time_t t = (time_t)(record->time.us / 1000000);
    struct tm tm;
    localtime_r(&t, &tm);
    strftime(out, size, "%Y-%m-%d", &tm);
}

static void read_dates(char *out, size_t size)
{
    struct log_reader *reader = open_reader();
    const struct log_record *record;
    char date[16];
    out[0] = '\0';
    while (log_reader_next(reader, &record) == LOG_READ_EVENT) {
        date_of(record, date, sizeof(date));
        size_t len = strlen(out);
        snprintf(out + len, size - len, "%s%s", len ? " " : "", date);
    }
    log_reader_free(reader);
}

static void test_years(void)
{
    static const struct {
        const char *what;
        struct file files[FILES_MAX];
    } cases[] = {
        { "this year", { { "mail.log", "2026-11-20 2026-11-21", "2026-11-21" } } },
        { "over New Year", { { "mail.log", "2025-12-30 2026-01-02", "2026-01-02" } } },
        { "a year and a day",
          { { "mail.log", "2025-11-20 2026-03-01 2026-07-01 2026-11-21",
              "2026-11-21" } } },
        { "three years",
          { { "mail.log",
              "2023-11-20 2024-02-29 2024-07-01 2024-12-31 2025-05-01 2025-10-01 "
              "2026-02-28 2026-08-01 2026-11-21",
              "2026-11-21" } } },
        { "an old one, not touched since",
          { { "mail.log", "2019-05-01 2019-10-01 2020-03-01 2020-08-01",
              "2020-08-01" } } },
        { "compressed",
          { { "mail.log.1.gz",
              "2024-04-01 2024-09-01 2025-02-01 2025-07-01 2025-12-01 2026-05-01",
              "2026-05-01" },
            { "mail.log", "2026-05-02 2026-10-01", "2026-10-01" } } },
        { "copies, all of them of one day",
          { { "mail.log.2", "2024-03-01 2024-08-01 2024-12-30", "2026-11-22" },
            { "mail.log.1", "2025-01-02 2025-06-01 2025-11-01", "2026-11-22" },
            { "mail.log", "2026-01-02 2026-06-01 2026-11-21", "2026-11-22" } } },
        { "copies, compressed by the year",
          { { "mail.log.2.gz", "2024-03-01 2024-08-01 2024-12-30", "2026-11-22" },
            { "mail.log.1.gz", "2025-01-02 2025-06-01 2025-11-01", "2026-11-22" },
            { "mail.log", "2026-01-02 2026-06-01 2026-11-21", "2026-11-22" } } },
        { "the newest is empty",
          { { "mail.log.1", "2025-10-01 2026-03-01 2026-08-01 2026-11-15", "2026-11-15" },
            { "mail.log", "", "2026-11-22" } } },
        { "a clock that is set back over New Year",
          { { "mail.log", "2025-12-31 2026-01-01 2025-12-31 2026-01-01 2026-01-02",
              "2026-01-02" } } },
        { "a line of a clock without battery is of the next year, and no other",
          { { "mail.log", "2026-11-20 2027-01-01 2026-11-20 2026-11-21",
              "2026-11-21" } } },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char want[1024] = "", got[1024];
        begin();
        for (size_t n = 0; n < FILES_MAX && cases[i].files[n].name; n++) {
            const struct file *file = &cases[i].files[n];
            size_t len = strlen(want);
            make_file(file);
            snprintf(want + len, sizeof(want) - len, "%s%s",
                     len && file->dates[0] ? " " : "", file->dates);
        }
        read_dates(got, sizeof(got));
        CHECK_STR(cases[i].what, got, want);
    }
}

/* 100,000 lines, so that parts are looked at; four fifths of them in the last year. */
static void make_large(const char *name)
{
    const time_t first = unix_of("2023-11-20"), last = unix_of("2026-11-21");
    const time_t middle = last - 365 * 86400;
    char path[160];
    gzFile out = open_log(name, path);
    for (int i = 0; i < 20000; i++)
        put_line(out, first + (middle - first) / 20000 * i);
    for (int i = 0; i <= 80000; i++)
        put_line(out, middle + (last - middle) / 80000 * i);
    close_at(out, path, "2026-11-21");
}

static void test_large(void)
{
    static const char *const names[] = { "mail.log", "mail.log.1.gz" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct log_record *record;
        char date[16] = "";
        int lines = 0;
        int64_t before = 0, back = 0;
        begin();
        make_large(names[i]);
        if (i > 0)
            make_file(&(struct file){ "mail.log", "2026-11-21", "2026-11-21" });
        struct log_reader *reader = open_reader();
        while (log_reader_next(reader, &record) == LOG_READ_EVENT) {
            if (lines++ == 0) {
                date_of(record, date, sizeof(date));
                CHECK_STR(names[i], date, "2023-11-20");
            }
            back += record->time.us < before - 3600000000; /* summer time ends */
            before = record->time.us;
        }
        CHECK_INT(names[i], lines, 100001 + i);
        CHECK_INT(names[i], back, 0);
        log_reader_free(reader);
    }
}

int main(void)
{
    static const struct unit_case cases[] = {
        { "years", test_years },
        { "large", test_large },
    };
    setenv("TZ", "Europe/Berlin", 1);
    if (!mkdtemp(folder))
        return 2;
    int code = unit_run("log_year", cases, sizeof(cases) / sizeof(cases[0]));
    begin();
    rmdir(folder);
    return code;
}
