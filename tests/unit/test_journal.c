/* The journal: what is appended is read back; a record that was cut at any
 * byte is no record, for the writer and for every reader; damage is named. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal.h"
#include "log.h"
#include "unit.h"

static char dir[] = "/tmp/sluice-journal-XXXXXX";
static char path[64], copy[64];
static char error[512];

/* ---- helpers ----------------------------------------------------------- */

static void fresh(void)
{
    char old[80], new[80];

    snprintf(old, sizeof(old), "%s.old", path);
    snprintf(new, sizeof(new), "%s.new", path);
    unlink(path);
    unlink(copy);
    unlink(old);
    unlink(new);
}

static const char *id_of(uint64_t epoch)
{
    static char ids[2][EVENT_ID_LEN + 1];
    static int turn;

    turn = !turn;
    snprintf(ids[turn], sizeof(ids[turn]), "%016llx",
             (unsigned long long)(epoch * 0x1234567));
    return ids[turn];
}

static struct event event_at(uint64_t epoch, const char *body)
{
    struct event event = { .at = { .epoch = epoch },
                           .op = EVENT_LOCK,
                           .letter = 'l',
                           .time = 1700000000 + (int64_t)epoch,
                           .domain = "example.com",
                           .body = body,
                           .body_len = strlen(body) };

    snprintf(event.at.id, sizeof(event.at.id), "%s", id_of(epoch));
    snprintf(event.prev, sizeof(event.prev), "%s", epoch == 1 ? "-" : id_of(epoch - 1));
    return event;
}

static struct event base_at(uint64_t epoch, const char *body)
{
    struct event event = event_at(epoch, body);

    event.op = EVENT_BASE;
    event.letter = '-';
    return event;
}

static struct journal *open_ok(const char *where)
{
    struct journal *journal = journal_open(where, error, sizeof(error));

    if (!journal)
        printf("\n  journal_open: %s\n", error);
    CU_ASSERT_PTR_NOT_NULL_FATAL(journal);
    return journal;
}

static void append_ok(struct journal *journal, uint64_t epoch, const char *body)
{
    struct event event = event_at(epoch, body);

    CU_ASSERT_TRUE_FATAL(journal_append(journal, &event));
}

static size_t read_bytes(const char *where, char *out, size_t size)
{
    int fd = open(where, O_RDONLY);
    ssize_t n = read(fd, out, size);

    close(fd);
    return n > 0 ? (size_t)n : 0;
}

static void write_bytes(const char *where, const char *data, size_t len)
{
    unlink(where);
    int fd = open(where, O_WRONLY | O_CREAT | O_EXCL, 0600);
    CU_ASSERT_FATAL(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    close(fd);
}

/* The head as a new reader sees it; -1: FAILED, 0: ABSENT. */
static long long head_of(const char *where)
{
    struct journal_reader *reader = journal_reader_new(where);
    struct position at = { 0, "" };
    enum lookup lookup = journal_head(reader, &at);

    journal_reader_free(reader);
    if (lookup == LOOKUP_FOUND)
        CHECK_STR("id of the head", at.id, id_of(at.epoch));
    return lookup == LOOKUP_FAILED   ? -1
           : lookup == LOOKUP_ABSENT ? 0
                                     : (long long)at.epoch;
}

struct seen {
    int count;
    uint64_t last;
    char text[4096];
    int stop_at;
};

static bool note(void *context, const struct event *event)
{
    struct seen *seen = context;
    size_t used = strlen(seen->text);

    seen->count++;
    seen->last = event->at.epoch;
    snprintf(seen->text + used, sizeof(seen->text) - used,
             "%llu %s %s %s %c %lld %s %.*s|", (unsigned long long)event->at.epoch,
             event->at.id, event->prev, event_op_name(event->op), event->letter,
             (long long)event->time, event->domain, (int)event->body_len, event->body);
    return seen->count != seen->stop_at;
}

/* ---- writing and reading ----------------------------------------------- */

static void test_empty(void)
{
    struct seen seen = { 0 };

    fresh();
    CHECK_INT("no file", head_of(path), 0);
    CU_ASSERT_FALSE(journal_read(path, note, &seen, error, sizeof(error)));
    CU_ASSERT_PTR_NOT_NULL(strstr(error, path));
    struct journal *journal = open_ok(path);
    CHECK_INT("position", journal_position(journal).epoch, 0);
    CHECK_INT("empty file", head_of(path), 0);
    CU_ASSERT_TRUE(journal_read(path, note, &seen, error, sizeof(error)));
    CHECK_INT("records", seen.count, 0);
    journal_close(journal);
}

static void test_form(void)
{
    char text[1024];
    struct event host = event_at(2, "mx1\told\n");

    fresh();
    host.op = EVENT_HOST;
    host.letter = '-';
    host.domain[0] = '\0';
    struct journal *journal = open_ok(path);
    append_ok(journal, 1, "a\nb c\tl1.2\n");
    CU_ASSERT_TRUE(journal_append(journal, &host));
    journal_close(journal);
    size_t len = read_bytes(path, text, sizeof(text) - 1);
    text[len] = '\0';
    CHECK_STR("text", text,
              "event 1 0000000001234567 - lock l 1700000001 example.com 11\n"
              "a\nb c\tl1.2\n"
              "end 0000000000000001 0000000001234567 c24e4bd7\n"
              "event 2 0000000002468ace 0000000001234567 host - 1700000002 - 8\n"
              "mx1\told\n"
              "end 0000000000000002 0000000002468ace 6718c785\n");
}

static void test_read_back(void)
{
    struct seen seen = { 0 };

    fresh();
    struct journal *journal = open_ok(path);
    append_ok(journal, 1, "a\n");
    append_ok(journal, 2, "");
    append_ok(journal, 3, "event 9\nend 0\n");
    CHECK_INT("position", journal_position(journal).epoch, 3);
    CHECK_INT("head", head_of(path), 3);
    journal_close(journal);
    CU_ASSERT_TRUE(journal_read(path, note, &seen, error, sizeof(error)));
    CHECK_STR("records", seen.text,
              "1 0000000001234567 - lock l 1700000001 example.com a\n|"
              "2 0000000002468ace 0000000001234567 lock l 1700000002 example.com |"
              "3 000000000369d035 0000000002468ace lock l 1700000003 example.com "
              "event 9\nend 0\n|");
    /* Stopped by the caller: false, without an error. */
    memset(&seen, 0, sizeof(seen));
    seen.stop_at = 2;
    snprintf(error, sizeof(error), "old");
    CU_ASSERT_FALSE(journal_read(path, note, &seen, error, sizeof(error)));
    CHECK_INT("stopped", seen.count, 2);
    CHECK_STR("stopped", error, "");
    journal = open_ok(path);
    append_ok(journal, 4, "x\n");
    journal_close(journal);
    CHECK_INT("after reopening", head_of(path), 4);
}

static void test_order(void)
{
    fresh();
    struct journal *journal = open_ok(path);
    struct event second = event_at(2, ""), third = event_at(3, "");
    struct event base = base_at(1, "");

    CU_ASSERT_FALSE(journal_append(journal, &second)); /* does not begin a history */
    CHECK_INT("errno", errno, EINVAL);
    append_ok(journal, 1, "");
    CU_ASSERT_FALSE(journal_append(journal, &third)); /* a gap */
    second.prev[0] = 'f';
    CU_ASSERT_FALSE(journal_append(journal, &second)); /* another history */
    second = event_at(2, "");
    snprintf(second.prev, sizeof(second.prev), "-");
    CU_ASSERT_FALSE(journal_append(journal, &second));
    CU_ASSERT_TRUE(journal_append(journal, &base)); /* shares the position */
    append_ok(journal, 2, "");
    CU_ASSERT_FALSE(journal_append(journal, &base)); /* not any more */
    CHECK_INT("head", head_of(path), 2);
    journal_close(journal);

    /* A host that joins late begins with a base. */
    fresh();
    journal = open_ok(path);
    struct event late = base_at(1000, "a\tl3e8.1\n");
    CU_ASSERT_TRUE(journal_append(journal, &late));
    CU_ASSERT_TRUE(journal_append(journal, &late));
    append_ok(journal, 1001, "");
    CHECK_INT("head", head_of(path), 1001);
    journal_close(journal);
    CU_ASSERT_PTR_NOT_NULL_FATAL(journal = open_ok(path));
    journal_close(journal);
}

static void test_refused(void)
{
    fresh();
    struct journal *journal = open_ok(path);
    static const struct {
        const char *id, *prev, *domain;
        char letter;
        int64_t time;
    } cases[] = {
        { "00112233445566f", "-", "example.com", 'l', 1 },
        { "00112233445566FF", "-", "example.com", 'l', 1 },
        { "00112233445566 f", "-", "example.com", 'l', 1 },
        { "00112233445566ff", "", "example.com", 'l', 1 },
        { "00112233445566ff", "- ", "example.com", 'l', 1 },
        { "00112233445566ff", "-", "exam ple.com", 'l', 1 },
        { "00112233445566ff", "-", "example.com\n", 'l', 1 },
        { "00112233445566ff", "-", "-", 'l', 1 },
        { "00112233445566ff", "-", "example.com", ' ', 1 },
        { "00112233445566ff", "-", "example.com", '\0', 1 },
        { "00112233445566ff", "-", "example.com", 'l', -1 },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct event event = event_at(1, "a\n");
        snprintf(event.at.id, sizeof(event.at.id), "%s", cases[i].id);
        snprintf(event.prev, sizeof(event.prev), "%s", cases[i].prev);
        snprintf(event.domain, sizeof(event.domain), "%s", cases[i].domain);
        event.letter = cases[i].letter;
        event.time = cases[i].time;
        errno = 0;
        CHECK_INT(cases[i].id, journal_append(journal, &event), false);
        CHECK_INT(cases[i].id, errno, EINVAL);
    }
    struct event huge = event_at(1, "a\n");
    huge.body_len = (size_t)64 << 20;
    CU_ASSERT_FALSE(journal_append(journal, &huge));
    CHECK_INT("errno", errno, EMSGSIZE);
    CHECK_INT("head", head_of(path), 0);
    append_ok(journal, 1, "a\n");
    CHECK_INT("head", head_of(path), 1);
    journal_close(journal);
}

static void test_locked(void)
{
    fresh();
    struct journal *journal = open_ok(path);
    CU_ASSERT_PTR_NULL(journal_open(path, error, sizeof(error)));
    CU_ASSERT_PTR_NOT_NULL(strstr(error, path));
    CU_ASSERT_PTR_NOT_NULL(strstr(error, "another sluice-policyd"));
    journal_close(journal);
    journal_close(open_ok(path));

    CU_ASSERT_PTR_NULL(journal_open("/nonexistent/journal", error, sizeof(error)));
    CHECK_STR("no directory", error,
              "/nonexistent/journal: cannot open: No such file or directory");
    CU_ASSERT_PTR_NULL(journal_open(dir, error, sizeof(error)));
    CHECK_INT("a directory", head_of(dir), -1);
    CHECK_INT("symbolic link", symlink(path, copy), 0);
    CU_ASSERT_PTR_NULL(journal_open(copy, error, sizeof(error)));
    unlink(copy);
}

/* ---- cut and damaged files --------------------------------------------- */

static char whole[65536];

/* Three records; *first and *second are where the first two end. */
static size_t three_records(size_t *first, size_t *second)
{
    fresh();
    struct journal *journal = open_ok(path);
    append_ok(journal, 1, "anna\nberta\n");
    *first = read_bytes(path, whole, sizeof(whole));
    append_ok(journal, 2, "");
    *second = read_bytes(path, whole, sizeof(whole));
    append_ok(journal, 3, "carl\nevent 3 \nend 0000000000000003 ");
    journal_close(journal);
    return read_bytes(path, whole, sizeof(whole));
}

static void check_cut(size_t len, long long want)
{
    char what[64];
    struct seen seen = { 0 };

    snprintf(what, sizeof(what), "cut at %zu", len);
    write_bytes(copy, whole, len);
    /* A reader that has nothing to go by says so, but never makes one up. */
    CHECK_INT(what, head_of(copy), want > 0 ? want : len > 0 ? -1 : 0);
    CU_ASSERT_TRUE(journal_read(copy, note, &seen, error, sizeof(error)));
    CHECK_INT(what, seen.last, want);
    struct journal *journal = open_ok(copy);
    CHECK_INT(what, journal_position(journal).epoch, want);
    append_ok(journal, (uint64_t)want + 1, "dora\n");
    journal_close(journal);
    CHECK_INT(what, head_of(copy), want + 1);
    journal = open_ok(copy);
    CHECK_INT(what, journal_position(journal).epoch, want + 1);
    journal_close(journal);
    memset(&seen, 0, sizeof(seen));
    CU_ASSERT_TRUE(journal_read(copy, note, &seen, error, sizeof(error)));
    CHECK_INT(what, seen.count, want + 1);
}

static void test_every_cut(void)
{
    size_t first, second;
    size_t len = three_records(&first, &second);

    for (size_t cut = 0; cut <= len; cut++)
        check_cut(cut, cut == len ? 3 : cut >= second ? 2 : cut >= first ? 1 : 0);
}

/* After a crash a file may have its new length and no content yet. */
static void test_zeroes(void)
{
    size_t first, second;
    size_t len = three_records(&first, &second);

    for (size_t from = second; from < len; from++) {
        memset(whole + from, 0, len - from);
        write_bytes(copy, whole, len);
        CHECK_INT("head", head_of(copy), 2);
        struct journal *journal = open_ok(copy);
        CHECK_INT("writer", journal_position(journal).epoch, 2);
        journal_close(journal);
        len = three_records(&first, &second);
    }
}

static void test_damage(void)
{
    size_t first, second;
    char offset[64];
    size_t len = three_records(&first, &second);

    for (size_t at = 0; at < second; at++) {
        struct seen seen = { 0 };
        size_t start = at < first ? 0 : first;
        whole[at] ^= 4;
        write_bytes(copy, whole, len);
        whole[at] ^= 4;
        snprintf(offset, sizeof(offset), "damaged at offset %zu:", start);
        struct journal *journal = journal_open(copy, error, sizeof(error));
        CU_ASSERT_PTR_NULL_FATAL(journal);
        CU_ASSERT_PTR_NOT_NULL_FATAL(strstr(error, offset));
        CU_ASSERT_PTR_NOT_NULL(strstr(error, copy));
        CU_ASSERT_FALSE(journal_read(copy, note, &seen, error, sizeof(error)));
        CU_ASSERT_PTR_NOT_NULL(strstr(error, offset));
        CHECK_INT("records before it", seen.count, start ? 1 : 0);
        CHECK_INT("size is untouched", read_bytes(copy, (char[65536]){ 0 }, 65536), len);
        CHECK_INT("the head is good", head_of(copy), 3);
    }
    /* Records that are good, in an order that is not. */
    write_bytes(copy, whole, first);
    int fd = open(copy, O_WRONLY | O_APPEND);
    CU_ASSERT_TRUE(write(fd, whole + second, len - second) == (ssize_t)(len - second));
    close(fd);
    CU_ASSERT_PTR_NULL(journal_open(copy, error, sizeof(error)));
    snprintf(offset, sizeof(offset), "damaged at offset %zu:", first);
    CU_ASSERT_PTR_NOT_NULL(strstr(error, offset));
}

/* A flipped bit in the last record: it is no record for anybody. */
static void test_damaged_tail(void)
{
    size_t first, second;
    size_t len = three_records(&first, &second);

    for (size_t at = second; at < len; at++) {
        whole[at] ^= 1;
        write_bytes(copy, whole, len);
        whole[at] ^= 1;
        CHECK_INT("head", head_of(copy), 2);
        struct journal *journal = open_ok(copy);
        CHECK_INT("writer", journal_position(journal).epoch, 2);
        journal_close(journal);
    }
}

static void test_not_a_journal(void)
{
    char garbage[70000];
    unsigned seed = 7;

    for (size_t i = 0; i < sizeof(garbage); i++)
        garbage[i] = (char)rand_r(&seed);
    write_bytes(copy, garbage, sizeof(garbage));
    CHECK_INT("head", head_of(copy), -1);
    write_bytes(copy, "hello\n", 6);
    CHECK_INT("head", head_of(copy), -1);
}

/* ---- large records ----------------------------------------------------- */

static char *large_body(size_t items)
{
    char *body = malloc(items * 1200 + 1);
    size_t used = 0;

    for (size_t i = 0; i < items; i++)
        used += (size_t)snprintf(body + used, 1200, "user%zu\to1.2\tn=%0*d@x.example\n",
                                 i, 400, 7);
    body[used] = '\0';
    return body;
}

static void test_large(void)
{
    char *body = large_body(EVENT_ITEMS_MAX);
    struct seen seen = { 0 };
    struct stat st;

    fresh();
    struct journal *journal = open_ok(path);
    for (uint64_t epoch = 1; epoch <= 6; epoch++)
        append_ok(journal, epoch, body);
    append_ok(journal, 7, "");
    journal_close(journal);
    CHECK_INT("head", head_of(path), 7);
    CU_ASSERT_TRUE(journal_read(path, note, &seen, error, sizeof(error)));
    CHECK_INT("records", seen.count, 7);
    CU_ASSERT_FATAL(stat(path, &st) == 0);
    /* Cut in the middle of a large one, after a large one. */
    off_t one = st.st_size / 6;
    CHECK_INT("truncate", truncate(path, one * 5 + one / 2), 0);
    CHECK_INT("head", head_of(path), 5);
    CHECK_INT("truncate", truncate(path, one * 4 + 7000), 0);
    CHECK_INT("head", head_of(path), 4);
    /* Damage in the first of them is found with the good ones far behind. */
    int fd = open(path, O_WRONLY);
    CHECK_INT("write", pwrite(fd, "\x01", 1, 5000), 1);
    close(fd);
    CU_ASSERT_PTR_NULL(journal_open(path, error, sizeof(error)));
    CU_ASSERT_PTR_NOT_NULL(strstr(error, "damaged at offset 0:"));
    free(body);
}

/* ---- the reader over time ---------------------------------------------- */

static void check_head(struct journal_reader *reader, long long want)
{
    struct position at = { 0, "" };
    enum lookup lookup = journal_head(reader, &at);

    CHECK_INT("head",
              lookup == LOOKUP_FAILED   ? -1
              : lookup == LOOKUP_ABSENT ? 0
                                        : (long long)at.epoch,
              want);
}

struct source {
    uint64_t from, to, at;
    uint64_t fail_at;
};

static bool supply(void *context, struct event *event, bool *failed)
{
    struct source *source = context;

    if (source->at > source->to)
        return false;
    *failed = source->at == source->fail_at;
    *event = source->at == source->from ? base_at(source->at, "a\to1.2\n")
                                        : event_at(source->at, "b\n");
    source->at++;
    return true;
}

static void test_reader_follows(void)
{
    struct source source = { 50, 52, 50, 0 };

    fresh();
    struct journal_reader *reader = journal_reader_new(path);
    check_head(reader, 0);
    struct journal *journal = open_ok(path);
    check_head(reader, 0);
    append_ok(journal, 1, "a\n");
    check_head(reader, 1);
    check_head(reader, 1);
    append_ok(journal, 2, "b\n");
    check_head(reader, 2);
    CU_ASSERT_TRUE(journal_replace(journal, supply, &source, error, sizeof(error)));
    check_head(reader, 52);
    append_ok(journal, 53, "c\n");
    check_head(reader, 53);
    /* An append in progress. */
    int fd = open(path, O_WRONLY | O_APPEND);
    CU_ASSERT_TRUE(write(fd, "event 54 ", 9) == 9);
    check_head(reader, 53);
    /* Nothing valid is left: what was known still holds. */
    struct stat st;
    CU_ASSERT_FATAL(fstat(fd, &st) == 0 && ftruncate(fd, 10) == 0);
    check_head(reader, 53);
    CHECK_INT("a new reader", head_of(path), -1);
    close(fd);
    journal_close(journal);
    CHECK_INT("unreadable", chmod(path, 0), 0);
    if (geteuid() != 0)
        CHECK_INT("unreadable", head_of(path), -1);
    unlink(path);
    check_head(reader, 0);
    journal_reader_free(reader);
    journal_reader_free(NULL);
}

static void test_replace(void)
{
    struct source source = { 9, 11, 9, 0 };
    struct seen seen = { 0 };
    char old[80], new[80];

    fresh();
    snprintf(old, sizeof(old), "%s.old", path);
    snprintf(new, sizeof(new), "%s.new", path);
    struct journal *journal = open_ok(path);
    append_ok(journal, 1, "a\n");
    write_bytes(new, "left by a crash", 15);
    CU_ASSERT_TRUE(journal_replace(journal, supply, &source, error, sizeof(error)));
    CHECK_INT("position", journal_position(journal).epoch, 11);
    CHECK_INT("old one", head_of(old), 1);
    CHECK_INT("head", head_of(path), 11);
    CHECK_INT("nothing beside", access(new, F_OK), -1);
    CU_ASSERT_TRUE(journal_read(path, note, &seen, error, sizeof(error)));
    CHECK_INT("records", seen.count, 3);
    /* The new file is locked too. */
    CU_ASSERT_PTR_NULL(journal_open(path, error, sizeof(error)));

    /* Given up: the journal stays as it was. */
    struct source failing = { 20, 30, 20, 25 };
    CU_ASSERT_FALSE(journal_replace(journal, supply, &failing, error, sizeof(error)));
    CU_ASSERT_PTR_NOT_NULL(strstr(error, path));
    CHECK_INT("position", journal_position(journal).epoch, 11);
    CHECK_INT("head", head_of(path), 11);
    CHECK_INT("nothing beside", access(new, F_OK), -1);
    append_ok(journal, 12, "x\n");
    CHECK_INT("head", head_of(path), 12);

    /* Again: the one before is overwritten. */
    struct source again = { 40, 40, 40, 0 };
    CU_ASSERT_TRUE(journal_replace(journal, supply, &again, error, sizeof(error)));
    CHECK_INT("old one", head_of(old), 12);
    CHECK_INT("head", head_of(path), 40);
    append_ok(journal, 41, "x\n");
    journal_close(journal);
    CHECK_INT("head", head_of(path), 41);
}

/* ---- a disk that is full, a writer and readers at once ------------------ */

static void test_no_room(void)
{
    struct rlimit limit, before;
    char *body = large_body(200);

    fresh();
    struct journal *journal = open_ok(path);
    append_ok(journal, 1, "a\n");
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 4096;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    struct event event = event_at(2, body);
    CU_ASSERT_FALSE(journal_append(journal, &event));
    CHECK_INT("errno", errno, EFBIG);
    CHECK_INT("position", journal_position(journal).epoch, 1);
    CHECK_INT("head", head_of(path), 1);
    append_ok(journal, 2, "fits\n");
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    CHECK_INT("head", head_of(path), 2);
    append_ok(journal, 3, body);
    journal_close(journal);
    CHECK_INT("head", head_of(path), 3);
    free(body);
}

static atomic_bool done;
static atomic_ullong written;

struct watch {
    struct journal_reader *reader;
    int failures, backwards;
};

static void *watch_head(void *context)
{
    struct watch *watch = context;
    uint64_t last = 0;

    while (!done) {
        struct position at;
        uint64_t sure = written;
        if (journal_head(watch->reader, &at) != LOOKUP_FOUND)
            watch->failures++;
        else if (at.epoch < last || at.epoch < sure || strcmp(at.id, "") == 0)
            watch->backwards++;
        else
            last = at.epoch;
    }
    return NULL;
}

static void test_threads(void)
{
    char *body = large_body(40);
    pthread_t threads[4];
    struct watch watches[4];

    fresh();
    struct journal *journal = open_ok(path);
    append_ok(journal, 1, "a\n");
    written = 1;
    done = false;
    struct journal_reader *shared = journal_reader_new(path);
    for (int i = 0; i < 4; i++) {
        watches[i] = (struct watch){ i < 2 ? shared : journal_reader_new(path), 0, 0 };
        pthread_create(&threads[i], NULL, watch_head, &watches[i]);
    }
    for (uint64_t epoch = 2; epoch <= 300; epoch++) {
        append_ok(journal, epoch, epoch % 3 ? body : "b\n");
        written = epoch;
    }
    done = true;
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        CHECK_INT("failures", watches[i].failures, 0);
        CHECK_INT("steps back", watches[i].backwards, 0);
        if (i >= 2)
            journal_reader_free(watches[i].reader);
    }
    journal_reader_free(shared);
    journal_close(journal);
    free(body);
}

static void test_clean_up(void)
{
    fresh();
    CHECK_INT("directory", rmdir(dir), 0);
}

static void test_set_up(void)
{
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/journal", dir);
    snprintf(copy, sizeof(copy), "%s/copy", dir);
    /* Hundreds of cut tails are reported below. */
    if (!freopen("/dev/null", "w", stderr))
        CU_FAIL("freopen");
}

UNIT_MAIN("journal", { "set up", test_set_up }, { "empty", test_empty },
          { "form", test_form }, { "read back", test_read_back }, { "order", test_order },
          { "refused", test_refused }, { "locked", test_locked },
          { "every cut", test_every_cut }, { "zeroes", test_zeroes },
          { "damage", test_damage }, { "damaged tail", test_damaged_tail },
          { "not a journal", test_not_a_journal }, { "large", test_large },
          { "reader follows", test_reader_follows }, { "replace", test_replace },
          { "no room", test_no_room }, { "threads", test_threads },
          { "clean up", test_clean_up })
