/*
 * journal_read: reading the journal, by any program, while it is written.
 *
 * From the start (journal_walk): what may be found at the end of the file is a
 * record that was cut, by a crash or a full disk, or that is being written just
 * now; it is no record. A mistake that has a good record after it was not made
 * by a crash: the journal is damaged, and using it any further could hide a
 * lock. The message names the offset.
 *
 * The head alone (journal_head): the last line of the file says it, and is
 * believed when the whole record that it ends is good. The answer is kept as
 * long as stat(2) says that the file is the same, so a mail daemon pays one
 * system call a message. A tail that is being written costs a look further
 * back, never a wrong answer. When a file that had a head has none any more, the
 * old one still stands: the history went at least that far.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal.h"
#include "journal_record.h"

/* ---- reading from the start -------------------------------------------- */

/* A window on the file that journal_record_parse() can work on. */
struct scan {
    int fd;
    char *buf;
    size_t size; /* of buf */
    size_t len;  /* bytes in buf */
    size_t used; /* of these, already parsed */
    off_t start; /* file offset of buf[0] */
    bool at_end; /* the file has no more than buf */
    int error;   /* errno of a failed read, or 0 */
};

static bool scan_open(struct scan *scan, int fd)
{
    memset(scan, 0, sizeof(*scan));
    scan->fd = fd;
    scan->size = 2 * JOURNAL_RECORD_MAX;
    scan->buf = malloc(scan->size);
    return scan->buf != NULL;
}

static void scan_fill(struct scan *scan)
{
    memmove(scan->buf, scan->buf + scan->used, scan->len - scan->used);
    scan->start += (off_t)scan->used;
    scan->len -= scan->used;
    scan->used = 0;
    while (scan->len < scan->size && !scan->at_end) {
        ssize_t n = pread(scan->fd, scan->buf + scan->len, scan->size - scan->len,
                          scan->start + (off_t)scan->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            scan->error = errno;
        if (n <= 0)
            scan->at_end = true;
        else
            scan->len += (size_t)n;
    }
}

static off_t scan_offset(const struct scan *scan)
{
    return scan->start + (off_t)scan->used;
}

/* The next record; buf lives until the next call. CUT: the file ends here, in
 * the middle of a record or (scan->used == scan->len) after a whole one. */
static enum parsed scan_next(struct scan *scan, struct event *event)
{
    size_t used;
    enum parsed parsed = journal_record_parse(scan->buf + scan->used,
                                              scan->len - scan->used, event, &used);

    if (parsed != PARSED_RECORD && !scan->at_end) {
        scan_fill(scan);
        parsed = journal_record_parse(scan->buf, scan->len, event, &used);
    }
    if (parsed == PARSED_RECORD)
        scan->used += used;
    return parsed;
}

/* Whether a good record begins anywhere after the present offset. The line end
 * before it may be damaged too; its checksum tells. */
static bool scan_finds_record(struct scan *scan)
{
    struct event event;
    size_t used;

    for (size_t from = 1;; from = 0) {
        scan_fill(scan);
        /* What begins in the first half of the buffer is in it whole. */
        size_t half = scan->at_end ? scan->len : scan->size / 2;
        const char *end = scan->buf + scan->len;
        for (size_t at = from; at < half; at++) {
            const char *hit = memmem(scan->buf + at, scan->len - at, JOURNAL_START,
                                     (sizeof(JOURNAL_START) - 1));
            if (!hit)
                break;
            at = (size_t)(hit - scan->buf);
            if (at < half && journal_record_parse(hit, (size_t)(end - hit), &event,
                                                  &used) == PARSED_RECORD)
                return true;
        }
        if (scan->at_end)
            return false;
        scan->used = half;
    }
}

enum walk journal_walk(int fd, const char *path,
                       bool (*each)(void *context, const struct event *event),
                       void *context, struct walk_result *result, char *error,
                       size_t error_size)
{
    struct scan scan;
    struct event event;
    enum walk how = WALK_END;
    enum parsed parsed;
    bool in_order = true;

    memset(result, 0, sizeof(*result));
    if (!scan_open(&scan, fd)) {
        (void)snprintf(error, error_size, "%s: out of memory", path);
        return WALK_FAILED;
    }
    while ((parsed = scan_next(&scan, &event)) == PARSED_RECORD) {
        in_order = journal_record_follows(&event, &result->last);
        if (!in_order)
            break;
        result->last = event.at;
        result->end = scan_offset(&scan);
        if (each && !each(context, &event)) {
            how = WALK_STOPPED;
            break;
        }
    }
    if (how == WALK_END) {
        bool more = scan_finds_record(&scan);
        result->tail = scan.start + (off_t)scan.len - result->end;
        if (!in_order || more || result->tail > (off_t)JOURNAL_RECORD_MAX) {
            (void)snprintf(error, error_size,
                           "%s: damaged at offset %lld: restore the file, or move it "
                           "away and start policyd to take a new base from Redis",
                           path, (long long)result->end);
            how = WALK_FAILED;
        } else if (scan.error) {
            (void)snprintf(error, error_size, "%s: cannot read: %s", path,
                           strerror(scan.error));
            how = WALK_FAILED;
        }
    }
    free(scan.buf);
    return how;
}

bool journal_read(const char *path,
                  bool (*each)(void *context, const struct event *event), void *context,
                  char *error, size_t error_size)
{
    struct walk_result result;

    if (error_size > 0)
        error[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        (void)snprintf(error, error_size, "%s: cannot open: %s", path, strerror(errno));
        return false;
    }
    enum walk how = journal_walk(fd, path, each, context, &result, error, error_size);
    close(fd);
    return how == WALK_END;
}

/* ---- the head ---------------------------------------------------------- */

struct journal_reader {
    char *path;
    pthread_mutex_t lock;
    bool known; /* head is that of the file in stamp */
    struct stat stamp;
    struct position head;
};

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool same_content(const struct stat *a, const struct stat *b)
{
    return same_file(a, b) && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

struct journal_reader *journal_reader_new(const char *path)
{
    struct journal_reader *reader = calloc(1, sizeof(*reader));

    if (!reader)
        return NULL;
    reader->path = strdup(path);
    if (!reader->path || pthread_mutex_init(&reader->lock, NULL) != 0) {
        free(reader->path);
        free(reader);
        return NULL;
    }
    return reader;
}

void journal_reader_free(struct journal_reader *reader)
{
    if (!reader)
        return;
    pthread_mutex_destroy(&reader->lock);
    free(reader->path);
    free(reader);
}

/* The last len bytes of a file of size bytes; less when it is shorter now. */
static ssize_t read_tail(int fd, off_t size, char *buf, size_t len)
{
    size_t have = 0;

    while (have < len) {
        ssize_t n = pread(fd, buf + have, len - have, size - (off_t)len + (off_t)have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

/* Most records are small, so the first window is; the last is sure to hold a
 * whole record before a cut one. */
static bool find_head(int fd, off_t size, struct position *out, bool *clean)
{
    static const size_t windows[] = { 16384, 2 * JOURNAL_RECORD_MAX };

    for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
        size_t len = (off_t)windows[i] < size ? windows[i] : (size_t)size;
        char *buf = malloc(len);
        if (!buf)
            return false;
        ssize_t have = read_tail(fd, size, buf, len);
        bool whole = (off_t)len == size;
        bool found = have > 0 && journal_record_last(buf, (size_t)have, out, clean);
        free(buf);
        /* A cut tail is worth the large window only when nothing was found. */
        if (found || whole)
            return found;
    }
    return false;
}

/* Called with the lock held, the file being another than the one known. */
static enum lookup read_head(struct journal_reader *reader, struct position *out)
{
    struct stat st;
    struct position head;
    bool clean;
    enum lookup lookup = LOOKUP_FAILED;

    int fd = open(reader->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? LOOKUP_ABSENT : LOOKUP_FAILED;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        lookup = LOOKUP_FAILED;
    } else if (st.st_size == 0) {
        lookup = LOOKUP_ABSENT;
    } else if (find_head(fd, st.st_size, &head, &clean)) {
        reader->known = clean;
        reader->stamp = st;
        reader->head = *out = head;
        lookup = LOOKUP_FOUND;
    } else if (reader->head.epoch > 0 && same_file(&reader->stamp, &st)) {
        *out = reader->head; /* history went at least that far */
        lookup = LOOKUP_FOUND;
    }
    close(fd);
    return lookup;
}

enum lookup journal_head(struct journal_reader *reader, struct position *out)
{
    struct stat st;
    enum lookup lookup;

    if (stat(reader->path, &st) < 0)
        return errno == ENOENT ? LOOKUP_ABSENT : LOOKUP_FAILED;
    pthread_mutex_lock(&reader->lock);
    if (reader->known && same_content(&reader->stamp, &st)) {
        *out = reader->head;
        lookup = LOOKUP_FOUND;
    } else {
        lookup = read_head(reader, out);
    }
    pthread_mutex_unlock(&reader->lock);
    return lookup;
}
