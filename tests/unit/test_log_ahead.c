/*
 * log_ahead: large logs, of which a second thread reads all but the beginning. Every line
 * has a number in its queue id and in its text; each source's numbers are to come in
 * their order, none left out, none twice, with all fields of the line.
 */
#include "unit.h"

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "../../cutover/log_reader.h"

#define LINES 40000
#define BEGIN INT64_C(1795338872) /* 2026-11-22 09:14:32 UTC */

static char folder[] = "/tmp/sluice-ahead-XXXXXX";

static const char *path_of(const char *name)
{
    static char text[4][160];
    static int next;
    char *out = text[next++ & 3];
    snprintf(out, sizeof(text[0]), "%s/%s", folder, name);
    return out;
}

static int threads(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *d; dir && (d = readdir(dir));)
        n += d->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return n;
}

static int own_threads;

static void *nothing(void *arg)
{
    return arg;
}

/* One; of ThreadSanitizer one more, from the first thread on. */
static void count_own(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, nothing, NULL) == 0)
        pthread_join(thread, NULL);
    usleep(50000);
    own_threads = threads();
}

/* One that was waited for is in /proc for another moment. */
static int threads_left(void)
{
    for (int i = 0; i < 1000 && threads() > own_threads; i++)
        usleep(1000);
    return threads() - own_threads;
}

static bool has_two_processors(void)
{
    return sysconf(_SC_NPROCESSORS_ONLN) >= 2;
}

/* ---- logs ------------------------------------------------------------------ */

enum format { TRADITIONAL, ISO, JOURNAL };

/* Line n; four a second. Every fifth is nothing that is wanted. */
static void make_line(enum format format, int n, char *out, size_t size)
{
    time_t t = (time_t)(BEGIN + n / 4);
    char stamp[40], text[400];
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(stamp, sizeof(stamp),
             format == TRADITIONAL ? "%b %e %H:%M:%S" : "%Y-%m-%dT%H:%M:%S", &tm);
    if (n % 5 == 4)
        snprintf(text, sizeof(text), "connect from h%d.test[192.0.2.1]", n);
    else
        snprintf(
            text, sizeof(text), "%05XABC: client=h%d.test[192.0.2.1]%.*s", n, n, n % 97,
            format == JOURNAL
                ? ""
                : ", sasl_method=PLAIN, "
                  "sasl_username=somebody-with-a-long-name@a-long-domain.example.com");
    switch (format) {
    case TRADITIONAL:
        snprintf(out, size, "%s mx0 postfix/smtpd[%d]: %s\n", stamp, n, text);
        break;
    case ISO:
        snprintf(out, size, "%s.%06dZ mx1 postfix/inner/smtpd[%d]: %s\n", stamp,
                 n % 4 * 250000, n, text);
        break;
    case JOURNAL: /* the "\u0073" makes it text that is unescaped elsewhere */
        snprintf(out, size,
                 "{\"__REALTIME_TIMESTAMP\":\"%lld%06d\",\"_HOSTNAME\":\"mx2\",\"MESSAGE"
                 "\":\"%s\",\"SYSLOG_IDENTIFIER\":\"postfix/\\u0073mtpd\",\"_PID\":"
                 "\"%d\"}\n",
                 (long long)t, n % 4 * 250000, text, n);
    }
}

static void make_log(const char *name, const char *flags, enum format format, int from,
                     int to)
{
    char line[800];
    FILE *file = fopen(path_of(name), flags);
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    for (int n = from; n < to; n++) {
        make_line(format, n, line, sizeof(line));
        fputs(line, file);
    }
    fclose(file);
}

static void make_gzip(const char *name, enum format format, int from, int to)
{
    char line[800];
    gzFile file = gzopen(path_of(name), "wb1");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    for (int n = from; n < to; n++) {
        make_line(format, n, line, sizeof(line));
        gzputs(file, line);
    }
    gzclose(file);
}

static void begin(void)
{
    DIR *dir = opendir(folder);
    for (struct dirent *d; (d = readdir(dir));)
        if (d->d_name[0] != '.')
            unlinkat(dirfd(dir), d->d_name, 0);
    closedir(dir);
}

static struct log_reader *open_logs(const char *const *names, bool follow)
{
    char error[512] = "";
    struct log_reader *reader = log_reader_new(1u << LOG_EVENT_CLIENT);
    if (follow)
        log_reader_follow(reader);
    for (; *names; names++)
        CU_ASSERT(log_reader_add(reader, path_of(*names), error, sizeof(error)));
    CHECK_STR("open", error, "");
    return reader;
}

/* ---- reading --------------------------------------------------------------- */

struct seen {
    int next[3];      /* of each source: the next number */
    int64_t order;    /* what came last, by the time that it counts for */
    int wrong, count; /* lines */
    int most_threads;
};

static int wanted_from(int n)
{
    return n % 5 == 4 ? n + 1 : n;
}

/* Whether all of it is as make_line() wrote it. */
static bool is_right(const struct log_record *record, int n)
{
    static const char *const hosts[] = { "mx0", "mx1", "mx2" };
    static const char *const services[] = { "postfix", "inner", "postfix" };
    char id[16], client[32];
    bool whole = record->source == TRADITIONAL;
    int64_t us = (BEGIN + n / 4) * 1000000 + (whole ? 0 : n % 4 * 250000);
    snprintf(id, sizeof(id), "%05XABC", n);
    snprintf(client, sizeof(client), "h%d.test", n);
    return log_slice_is(record->line.host, hosts[record->source]) &&
           log_slice_is(record->line.service, services[record->source]) &&
           log_slice_is(record->line.id, id) && record->line.pid == (uint32_t)n &&
           log_slice_is(record->event.client_name, client) && record->time.us == us &&
           record->time.year_guessed == whole &&
           memcmp(record->line.rest.text, "client=", 7) == 0;
}

static void look(struct seen *seen, const struct log_record *record)
{
    int *next = &seen->next[record->source];
    int64_t order = record->time.us + (record->time.year_guessed ? 999999 : 0);
    *next = wanted_from(*next);
    if (!is_right(record, *next) || order < seen->order) {
        if (seen->wrong++ < 3)
            printf("\n  source %zu: expected line %d, got %.*s\n", record->source, *next,
                   (int)record->line.id.len, record->line.id.text);
    }
    ++*next;
    seen->order = order;
    seen->count++;
    if (seen->count % 4096 == 0 && threads() > seen->most_threads)
        seen->most_threads = threads();
}

static enum log_read drain(struct log_reader *reader, struct seen *seen, int most)
{
    const struct log_record *record;
    enum log_read result = LOG_READ_EVENT;
    while (seen->count < most &&
           (result = log_reader_next(reader, &record)) == LOG_READ_EVENT)
        look(seen, record);
    return result;
}

static int all_wanted(int lines)
{
    return lines / 5 * 4;
}

static void test_three_logs(void)
{
    static const char *const names[] = { "a.log", "b.log", "c.json", NULL };
    struct seen seen = { .order = INT64_MIN };
    begin();
    make_log("a.log", "w", TRADITIONAL, 0, LINES);
    make_gzip("b.log.1.gz", ISO, 0, LINES / 2);
    make_log("b.log", "w", ISO, LINES / 2, LINES);
    make_log("c.json", "w", JOURNAL, 0, LINES);
    struct log_reader *reader = open_logs(names, false);
    CHECK_INT("read", drain(reader, &seen, INT32_MAX), LOG_READ_END);
    CHECK_INT("wrong ones", seen.wrong, 0);
    CHECK_INT("events", seen.count, 3 * all_wanted(LINES));
    CHECK_INT("lines", log_reader_counts(reader)->lines, 3 * LINES);
    CHECK_INT("foreign", log_reader_counts(reader)->foreign, 0);
    CHECK_INT("with a second thread", seen.most_threads - own_threads,
              has_two_processors() ? 1 : 0);
    CHECK_INT("that is gone", threads_left(), 0);
    CHECK_INT("and the end stays", drain(reader, &seen, INT32_MAX), LOG_READ_END);
    log_reader_free(reader);
}

/* Given up while the thread waits for room, fills a block, or has ended. */
static void test_given_up(void)
{
    static const char *const names[] = { "a.log", NULL };
    static const int after[] = { 0, 1, 9000, 9001, 9100, 11000, 20000, 31999, 32000 };
    begin();
    make_log("a.log", "w", TRADITIONAL, 0, LINES);
    for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
        struct seen seen = { .order = INT64_MIN };
        struct log_reader *reader = open_logs(names, false);
        drain(reader, &seen, after[i]);
        CHECK_INT("so many", seen.count, after[i]);
        log_reader_free(reader);
        CHECK_INT("no thread is left", threads_left(), 0);
        CHECK_INT("wrong ones", seen.wrong, 0);
    }
}

static bool save(void *arg, FILE *out)
{
    log_reader_save(arg, out);
    return true;
}

static bool load(void *arg, const char *line)
{
    return log_reader_load(arg, line);
}

/* The end of the log, more of it, and a checkpoint behind that. */
static void test_more(void)
{
    static const char *const names[] = { "a.log", NULL };
    struct seen seen = { .order = INT64_MIN };
    char error[512] = "", mark[160];
    snprintf(mark, sizeof(mark), "%s", path_of("mark"));
    begin();
    make_log("a.log", "w", TRADITIONAL, 0, LINES);
    struct log_reader *reader = open_logs(names, true);
    CHECK_INT("read", drain(reader, &seen, INT32_MAX), LOG_READ_END);
    CHECK_INT("so far", seen.count, all_wanted(LINES));
    for (int from = LINES; from < 3 * LINES; from += LINES) {
        make_log("a.log", "a", TRADITIONAL, from, from + 5);
        CHECK_INT("a few", drain(reader, &seen, INT32_MAX), LOG_READ_END);
        CHECK_INT("a few", seen.count, all_wanted(from + 5));
        make_log("a.log", "a", TRADITIONAL, from + 5, from + LINES);
        CHECK_INT("many", drain(reader, &seen, INT32_MAX), LOG_READ_END);
        CHECK_INT("many", seen.count, all_wanted(from + LINES));
    }
    CHECK_INT("wrong ones", seen.wrong, 0);
    CU_ASSERT(log_checkpoint_write(mark, save, reader, error, sizeof(error)));
    log_reader_free(reader);
    make_log("a.log", "a", TRADITIONAL, 3 * LINES, 4 * LINES);
    reader = open_logs(names, false);
    CHECK_INT("checkpoint", log_checkpoint_read(mark, load, reader, error, sizeof(error)),
              LOG_CHECKPOINT_READ);
    CHECK_INT("the next run", drain(reader, &seen, INT32_MAX), LOG_READ_END);
    CHECK_INT("the next run", seen.count, all_wanted(4 * LINES));
    CHECK_INT("wrong ones", seen.wrong, 0);
    log_reader_free(reader);
}

/* An error of the thread is the reader's, behind all lines that were there. */
static void test_damaged(void)
{
    static const char *const names[] = { "b.log", NULL };
    struct seen seen = { .order = INT64_MIN };
    struct stat st;
    begin();
    make_gzip("b.log.1.gz", ISO, 0, LINES);
    make_log("b.log", "w", ISO, LINES, LINES + 10);
    CU_ASSERT(stat(path_of("b.log.1.gz"), &st) == 0);
    CU_ASSERT(truncate(path_of("b.log.1.gz"), st.st_size * 3 / 4) == 0);
    struct log_reader *reader = open_logs(names, false);
    const struct log_record *record;
    enum log_read result;
    int count = 0, wrong = 0;
    while ((result = log_reader_next(reader, &record)) == LOG_READ_EVENT) {
        char id[16];
        snprintf(id, sizeof(id), "%05XABC", wanted_from(seen.next[0]));
        wrong += !log_slice_is(record->line.id, id);
        seen.next[0] = wanted_from(seen.next[0]) + 1;
        count++;
    }
    CHECK_INT("damaged", result, LOG_READ_FAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(log_reader_error(reader), "b.log.1.gz: its gzip data"));
    CU_ASSERT(count > LINES / 2 && count < all_wanted(LINES));
    CHECK_INT("wrong ones", wrong, 0);
    CHECK_INT("no thread is left", threads_left(), 0);
    log_reader_free(reader);
}

int main(void)
{
    static const struct unit_case cases[] = {
        { "three logs", test_three_logs },
        { "given up", test_given_up },
        { "more of it", test_more },
        { "damaged", test_damaged },
    };
    setenv("TZ", "UTC", 1);
    if (!mkdtemp(folder))
        return 2;
    count_own();
    int code = unit_run("log_ahead", cases, sizeof(cases) / sizeof(cases[0]));
    begin();
    rmdir(folder);
    return code;
}
