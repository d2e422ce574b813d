/*
 * log_source: the files of one log (see log_source_files.h).
 *
 * The buffer keeps LOG_TAIL bytes before the next line, so that a mark can be made
 * at any time, also of a compressed file, and so that a log that was truncated and
 * has grown again past our place is noticed.
 */
#include "log_source_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fnv.h"
#include "log_rotated.h"
#include "log_year.h"

#define OPEN_TRIES 5
#define SECOND_US  INT64_C(1000000)

void log_source_pop(struct log_source *s)
{
    log_file_free(s->files[0]);
    free(s->names[0]);
    s->file_count--;
    memmove(s->files, s->files + 1, s->file_count * sizeof(s->files[0]));
    memmove(s->names, s->names + 1, s->file_count * sizeof(s->names[0]));
}

void log_source_close_files(struct log_source *s)
{
    while (s->file_count > 0)
        log_source_pop(s);
    s->begin = s->end = s->scanned = 0;
    s->offset = 0;
}

bool log_source_failed(struct log_source *s, const char *path, int error)
{
    char reason[128];
    if (error == EBADMSG)
        (void)snprintf(s->error, sizeof(s->error),
                       "%.300s: its gzip data are damaged or cut", path);
    else
        (void)snprintf(s->error, sizeof(s->error), "%.300s: %s", path,
                       strerror_r(error, reason, sizeof(reason)));
    return false;
}

uint64_t log_digest(uint64_t seed, const char *text, size_t len)
{
    return fnv_hash(seed, text, len);
}

/* ---- opening --------------------------------------------------------------- */

static bool add_file(struct log_source *s, struct log_file *file, const char *name)
{
    if (s->file_count == s->file_size) {
        size_t size = s->file_size ? s->file_size * 2 : 8;
        struct log_file **files = realloc(s->files, size * sizeof(struct log_file *));
        if (files)
            s->files = files;
        char **names = realloc(s->names, size * sizeof(*names));
        if (names)
            s->names = names;
        if (!files || !names)
            return false;
        s->file_size = size;
    }
    s->names[s->file_count] = strdup(name);
    if (!s->names[s->file_count])
        return false;
    s->files[s->file_count++] = file;
    return true;
}

static bool is_open(const struct log_source *s, const struct stat *st)
{
    struct stat other;
    for (size_t i = 0; i < s->file_count; i++)
        if (fstat(log_file_fd(s->files[i]), &other) == 0 && other.st_dev == st->st_dev &&
            other.st_ino == st->st_ino)
            return true;
    return false;
}

/* ENOENT is fine: it was renamed, or is not there yet. */
static bool open_one(struct log_source *s, const char *path, bool rotated)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno == ENOENT ? true : log_source_failed(s, path, errno);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        (void)snprintf(s->error, sizeof(s->error),
                       "%.300s: not a file (\"-\": standard input)", path);
        return false;
    }
    bool old = rotated && !s->mark.known && (int64_t)st.st_mtime < s->since;
    if (old || is_open(s, &st)) {
        close(fd);
        return true;
    }
    struct log_file *file = log_file_new(fd);
    if (!file)
        return log_source_failed(s, path, errno);
    if (add_file(s, file, path))
        return true;
    log_file_free(file);
    return log_source_failed(s, path, ENOMEM);
}

static bool is_newest(const struct log_source *s)
{
    struct stat now, open_one_st;
    if (s->file_count == 0 || stat(s->path, &now) < 0)
        return true; /* nothing by that name: then nothing newer */
    return fstat(log_file_fd(s->files[s->file_count - 1]), &open_one_st) == 0 &&
           now.st_dev == open_one_st.st_dev && now.st_ino == open_one_st.st_ino;
}

/* All files of the log, the oldest first; again when it is rotated meanwhile. */
static bool open_files(struct log_source *s)
{
    for (int i = 0; i < OPEN_TRIES; i++) {
        struct log_rotated rotated = { NULL, 0, "" };
        log_source_close_files(s);
        bool fine = true;
        if (s->with_rotated && !log_rotated_find(s->path, &rotated) && errno != ENOENT)
            fine = log_source_failed(s, s->path, errno);
        for (size_t n = 0; fine && n < rotated.count; n++)
            fine = open_one(s, rotated.paths[n], true);
        if (!s->mark.known)
            (void)snprintf(s->unread, sizeof(s->unread), "%s", rotated.other);
        log_rotated_free(&rotated);
        if (!fine || !open_one(s, s->path, false))
            return false;
        if (is_newest(s))
            break;
    }
    if (s->file_count == 0 && !s->follow)
        return log_source_failed(s, s->path, ENOENT);
    return true;
}

/* ---- marks ----------------------------------------------------------------- */

static bool has_identity(struct log_file *file, const struct log_mark *mark)
{
    struct stat st;
    return fstat(log_file_fd(file), &st) == 0 && (uint64_t)st.st_dev == mark->device &&
           (uint64_t)st.st_ino == mark->inode;
}

/* Whether the bytes before the mark are those of this file; then the buffer holds
 * them and the file is at the mark. */
static bool is_marked(struct log_source *s, struct log_file *file)
{
    const struct log_mark *mark = &s->mark;
    size_t tail = mark->offset < LOG_TAIL ? (size_t)mark->offset : LOG_TAIL, used = 0;
    if (!log_file_seek(file, mark->offset - (int64_t)tail))
        return false;
    while (used < tail) {
        ssize_t n = log_file_read(file, s->buffer + used, tail - used);
        if (n <= 0)
            return false;
        used += (size_t)n;
    }
    s->begin = s->end = tail;
    return log_digest(0, s->buffer, tail) == mark->digest;
}

/* The file that the mark is in; file_count: none. Compressed ones last, since all of
 * one must be read for it. */
static size_t find_mark(struct log_source *s)
{
    for (size_t i = s->file_count; i-- > 0;)
        if (has_identity(s->files[i], &s->mark) && is_marked(s, s->files[i]))
            return i;
    for (int gzip = 0; gzip <= 1; gzip++)
        for (size_t i = s->file_count; i-- > 0;)
            if (log_file_is_gzip(s->files[i]) == (gzip == 1) && is_marked(s, s->files[i]))
                return i;
    return s->file_count;
}

static bool go_to_mark(struct log_source *s)
{
    size_t found = find_mark(s);
    s->clock.last = s->mark.last;
    if (found == s->file_count) {
        s->begin = s->end = 0;
        s->skip_before = s->mark.last;
        s->counts->lost += !s->was_open;
        for (size_t i = 0; i < s->file_count; i++)
            if (!log_file_seek(s->files[i], 0))
                return log_source_failed(s, s->names[i], errno ? errno : EIO);
        struct stat st;
        while (s->file_count > 1 && s->mark.last != LOG_NO_TIME &&
               fstat(log_file_fd(s->files[0]), &st) == 0 &&
               (int64_t)st.st_mtime < s->mark.last / SECOND_US)
            log_source_pop(s);
        return true;
    }
    while (found-- > 0)
        log_source_pop(s);
    for (size_t i = 1; i < s->file_count; i++) /* they were looked at too */
        if (!log_file_seek(s->files[i], 0))
            return log_source_failed(s, s->names[i], errno ? errno : EIO);
    s->offset = s->mark.offset;
    s->skipping = s->mark.skipping;
    return true;
}

void log_source_mark(const struct log_source *s, struct log_mark *out)
{
    struct stat st;
    *out = (struct log_mark){ .last = s->clock.last };
    if (s->standard_input || (s->file_count > 0 && s->offset == 0))
        return; /* nothing read: there is nothing to know the place by */
    if (s->file_count == 0 || fstat(log_file_fd(s->files[0]), &st) < 0) {
        if (!s->opened || s->file_count == 0)
            *out = s->mark; /* not there yet: as before */
        return;
    }
    size_t tail = s->begin < LOG_TAIL ? s->begin : LOG_TAIL;
    if ((int64_t)tail > s->offset)
        tail = (size_t)s->offset;
    out->known = true;
    out->device = (uint64_t)st.st_dev;
    out->inode = (uint64_t)st.st_ino;
    out->offset = s->offset;
    out->digest = log_digest(0, s->buffer + s->begin - tail, tail);
    out->skipping = s->skipping;
}

/* Of the first line; without that, it is at least not younger than its file. */
static void find_year(struct log_source *s)
{
    struct stat st;
    int64_t first;
    if (log_year_begin(s->files, s->names, s->file_count, &s->clock, &first))
        s->clock.last = first * SECOND_US;
    else if (s->file_count > 0 && fstat(log_file_fd(s->files[0]), &st) == 0)
        s->clock.latest = (int64_t)st.st_mtime;
}

bool log_source_open(struct log_source *s)
{
    s->opened = true;
    if (s->standard_input) {
        int fd = dup(STDIN_FILENO);
        struct log_file *file = fd < 0 ? NULL : log_file_new(fd);
        if (file && add_file(s, file, "standard input"))
            return true;
        log_file_free(file);
        return log_source_failed(s, "standard input", errno);
    }
    if (!open_files(s))
        return false;
    if (s->mark.known && s->file_count > 0) {
        if (!go_to_mark(s))
            return false;
        s->was_open = true;
    } else if (s->clock.last == LOG_NO_TIME) {
        find_year(s);
    }
    s->was_open = s->was_open || s->file_count > 0;
    return true;
}

/* ---- rotation while it is followed ------------------------------------------ */

bool log_source_is_unchanged(struct log_source *s)
{
    char now[LOG_TAIL];
    struct stat st;
    size_t tail = s->begin < LOG_TAIL ? s->begin : LOG_TAIL;
    int fd = log_file_fd(s->files[0]);
    int64_t read_to = s->offset + (int64_t)(s->end - s->begin);
    if (log_file_is_gzip(s->files[0]))
        return true;
    if (fstat(fd, &st) < 0 || (int64_t)st.st_size < read_to)
        return false;
    if ((int64_t)tail > s->offset)
        tail = (size_t)s->offset;
    return tail == 0 ||
           (pread(fd, now, tail, (off_t)(s->offset - (int64_t)tail)) == (ssize_t)tail &&
            memcmp(now, s->buffer + s->begin - tail, tail) == 0);
}

bool log_source_open_again(struct log_source *s)
{
    struct log_mark mark;
    log_source_mark(s, &mark);
    s->mark = mark;
    log_source_close_files(s);
    s->skipping = false;
    return log_source_open(s);
}

/* What was not read yet may be gone: it is lost unless a rotated copy has our place. */
bool log_source_open_truncated(struct log_source *s)
{
    s->counts->truncated++;
    s->was_open = false;
    return log_source_open_again(s);
}

enum log_source_news log_source_look(struct log_source *s)
{
    struct stat st, own;
    if (s->file_count == 0)
        return stat(s->path, &st) < 0 ? LOG_SOURCE_NO_NEWS
               : log_source_open(s)
                   ? (s->file_count ? LOG_SOURCE_NEW_FILES : LOG_SOURCE_NO_NEWS)
                   : LOG_SOURCE_NEWS_FAILED;
    if (!log_source_is_unchanged(s))
        return log_source_open_truncated(s) ? LOG_SOURCE_NEW_FILES
                                            : LOG_SOURCE_NEWS_FAILED;
    if (stat(s->path, &st) < 0 || st.st_size == 0)
        return LOG_SOURCE_NO_NEWS;
    if (fstat(log_file_fd(s->files[s->file_count - 1]), &own) == 0 &&
        own.st_dev == st.st_dev && own.st_ino == st.st_ino)
        return LOG_SOURCE_NO_NEWS;
    return log_source_open_again(s) ? LOG_SOURCE_NEW_FILES : LOG_SOURCE_NEWS_FAILED;
}
