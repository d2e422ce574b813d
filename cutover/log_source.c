/*
 * log_source: the lines of one log (see log_source.h).
 *
 * The buffer keeps LOG_TAIL bytes before the next line, so that a mark can be made
 * at any time, also of a compressed file, and so that a log that was truncated and
 * has grown again past our place is noticed. A line longer than PENDING_MAX is cut
 * before its end is seen.
 */
#include "log_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fnv.h"
#include "log_rotated.h"

#define READ_SIZE   (64 * 1024)
#define PENDING_MAX (64 * 1024)
#define BUFFER_SIZE (LOG_TAIL + PENDING_MAX + READ_SIZE)
#define OPEN_TRIES  5
#define SECOND_US   INT64_C(1000000)

uint64_t log_digest(uint64_t seed, const char *text, size_t len)
{
    return fnv_hash(seed, text, len);
}

bool log_source_init(struct log_source *source, const char *path,
                     struct log_counts *counts)
{
    *source = (struct log_source){
        .path = strdup(path),
        .with_rotated = true,
        .counts = counts,
        .standard_input = strcmp(path, "-") == 0,
        .buffer = malloc(BUFFER_SIZE),
        .size = BUFFER_SIZE,
        .since = INT64_MIN,
        .skip_before = INT64_MIN,
    };
    log_clock_init(&source->clock, (int64_t)time(NULL));
    return source->path && source->buffer;
}

static void pop_file(struct log_source *s)
{
    log_file_free(s->files[0]);
    free(s->names[0]);
    s->file_count--;
    memmove(s->files, s->files + 1, s->file_count * sizeof(s->files[0]));
    memmove(s->names, s->names + 1, s->file_count * sizeof(s->names[0]));
}

static void close_files(struct log_source *s)
{
    while (s->file_count > 0)
        pop_file(s);
    s->begin = s->end = s->scanned = 0;
    s->offset = 0;
}

void log_source_close(struct log_source *source)
{
    close_files(source);
    free(source->files);
    free(source->names);
    free(source->buffer);
    free(source->path);
    *source = (struct log_source){ .path = NULL };
}

static bool failed(struct log_source *s, const char *path, int error)
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
        return errno == ENOENT ? true : failed(s, path, errno);
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
        return failed(s, path, errno);
    if (add_file(s, file, path))
        return true;
    log_file_free(file);
    return failed(s, path, ENOMEM);
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
        close_files(s);
        bool fine = true;
        if (s->with_rotated && !log_rotated_find(s->path, &rotated) && errno != ENOENT)
            fine = failed(s, s->path, errno);
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
        return failed(s, s->path, ENOENT);
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
                return failed(s, s->names[i], errno ? errno : EIO);
        struct stat st;
        while (s->file_count > 1 && s->mark.last != LOG_NO_TIME &&
               fstat(log_file_fd(s->files[0]), &st) == 0 &&
               (int64_t)st.st_mtime < s->mark.last / SECOND_US)
            pop_file(s);
        return true;
    }
    while (found-- > 0)
        pop_file(s);
    for (size_t i = 1; i < s->file_count; i++) /* they were looked at too */
        if (!log_file_seek(s->files[i], 0))
            return failed(s, s->names[i], errno ? errno : EIO);
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

static bool open_source(struct log_source *s)
{
    struct stat st;
    s->opened = true;
    if (s->standard_input) {
        int fd = dup(STDIN_FILENO);
        struct log_file *file = fd < 0 ? NULL : log_file_new(fd);
        if (file && add_file(s, file, "standard input"))
            return true;
        log_file_free(file);
        return failed(s, "standard input", errno);
    }
    if (!open_files(s))
        return false;
    if (s->mark.known && s->file_count > 0) {
        if (!go_to_mark(s))
            return false;
        s->was_open = true;
    } else if (s->clock.last == LOG_NO_TIME && s->file_count > 0 &&
               fstat(log_file_fd(s->files[0]), &st) == 0) {
        s->clock.latest = (int64_t)st.st_mtime; /* its lines are not younger */
    }
    s->was_open = s->was_open || s->file_count > 0;
    return true;
}

/* ---- rotation while it is followed ------------------------------------------ */

/* Whether the file still has the bytes that were read from it. */
static bool is_unchanged(struct log_source *s)
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

/* Finds the place again among the files as they are named now. */
static bool open_again(struct log_source *s)
{
    struct log_mark mark;
    log_source_mark(s, &mark);
    s->mark = mark;
    close_files(s);
    s->skipping = false;
    return open_source(s);
}

enum news { NEWS_NONE, NEWS_FILES, NEWS_FAILED };

/* At the end of the newest file that is known. */
static enum news look_for_news(struct log_source *s)
{
    struct stat st, own;
    if (s->file_count == 0)
        return stat(s->path, &st) < 0 ? NEWS_NONE
               : open_source(s)       ? (s->file_count ? NEWS_FILES : NEWS_NONE)
                                      : NEWS_FAILED;
    if (!is_unchanged(s)) {
        s->counts->truncated++;
        return open_again(s) ? NEWS_FILES : NEWS_FAILED;
    }
    if (stat(s->path, &st) < 0 || st.st_size == 0)
        return NEWS_NONE;
    if (fstat(log_file_fd(s->files[s->file_count - 1]), &own) == 0 &&
        own.st_dev == st.st_dev && own.st_ino == st.st_ino)
        return NEWS_NONE;
    return open_again(s) ? NEWS_FILES : NEWS_FAILED;
}

/* ---- reading --------------------------------------------------------------- */

/* More bytes: 1, none 0, -1 failed. */
static int fill(struct log_source *s)
{
    size_t keep = s->begin < LOG_TAIL ? s->begin : LOG_TAIL;
    if (s->file_count == 0)
        return 0;
    if (s->size - s->end < READ_SIZE) {
        memmove(s->buffer, s->buffer + s->begin - keep, s->end - s->begin + keep);
        s->end -= s->begin - keep;
        s->begin = keep;
    }
    size_t room = s->size - s->end;
    ssize_t n = log_file_read(s->files[0], s->buffer + s->end,
                              room < READ_SIZE ? room : READ_SIZE);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0) {
        failed(s, s->names[0], errno);
        return -1;
    }
    s->end += (size_t)n;
    s->counts->bytes += (uint64_t)n;
    return n > 0;
}

/* A line of len bytes, and its end where that is there. */
static bool give_line(struct log_source *s, size_t len, bool with_end, const char **text,
                      size_t *out_len)
{
    const char *p = s->buffer + s->begin;
    bool rest = s->skipping;
    s->skipping = !with_end;
    s->begin += len + with_end;
    s->offset += (int64_t)(len + with_end);
    s->scanned = 0;
    if (rest)
        return false;
    s->counts->lines++;
    if (len > LOG_LINE_MAX) {
        s->counts->cut++;
        len = LOG_LINE_MAX;
    }
    while (len > 0 && *p == '\0') { /* what a crash leaves in a file */
        p++;
        len--;
    }
    *text = p;
    *out_len = len;
    return true;
}

/* To the next file; a last line without end is given first. */
static bool next_file(struct log_source *s, const char **text, size_t *len)
{
    bool line = s->end > s->begin && give_line(s, s->end - s->begin, true, text, len);
    pop_file(s);
    if (!line) {
        s->begin = s->end = 0;
    }
    s->scanned = 0;
    s->offset = 0;
    s->skipping = false;
    return line;
}

/* The newest file is gone to when it has a whole line, so that there is always a part
 * of a file before a mark, to know it by. */
static bool may_leave(const struct log_source *s)
{
    char block[4096];
    ssize_t n;
    if (s->file_count != 2)
        return s->file_count > 2;
    for (off_t at = 0; at < PENDING_MAX; at += n) {
        n = pread(log_file_fd(s->files[1]), block, sizeof(block), at);
        if (n <= 0)
            return false;
        if (memchr(block, '\n', (size_t)n))
            return true;
    }
    return true;
}

enum step { STEP_LINE, STEP_MORE, STEP_END, STEP_FAILED };

/* No more bytes in this file yet. */
static enum step at_end(struct log_source *s, const char **text, size_t *len)
{
    if (may_leave(s)) {
        size_t line_end = s->end;
        if (!next_file(s, text, len))
            return STEP_MORE;
        s->begin = s->end = line_end; /* the line given stays where it is */
        return STEP_LINE;
    }
    if (s->standard_input) {
        s->ended = true;
        return s->end > s->begin && give_line(s, s->end - s->begin, true, text, len)
                   ? (s->begin = s->end, STEP_LINE)
                   : STEP_END;
    }
    if (!s->follow)
        return STEP_END;
    switch (look_for_news(s)) {
    case NEWS_FILES:
        return STEP_MORE;
    case NEWS_FAILED:
        return STEP_FAILED;
    case NEWS_NONE:
        break;
    }
    return STEP_END;
}

/* The next whole line in the buffer. */
static bool buffered_line(struct log_source *s, const char **text, size_t *len)
{
    for (;;) {
        const char *from = s->buffer + s->begin;
        const char *end = memchr(from + s->scanned, '\n', s->end - s->begin - s->scanned);
        if (end) {
            if (give_line(s, (size_t)(end - from), true, text, len))
                return true;
            continue;
        }
        s->scanned = s->end - s->begin;
        return s->scanned >= PENDING_MAX && give_line(s, s->scanned, false, text, len);
    }
}

enum log_source_result log_source_next(struct log_source *s, const char **text,
                                       size_t *len)
{
    if (!s->opened && !open_source(s))
        return LOG_SOURCE_FAILED;
    if (s->rested && s->file_count > 0 && !is_unchanged(s)) {
        s->counts->truncated++;
        if (!open_again(s))
            return LOG_SOURCE_FAILED;
    }
    s->rested = false;
    for (;;) {
        if (buffered_line(s, text, len))
            return LOG_SOURCE_LINE;
        if (s->ended)
            return LOG_SOURCE_END;
        int got = fill(s);
        if (got < 0)
            return LOG_SOURCE_FAILED;
        if (got > 0)
            continue;
        switch (at_end(s, text, len)) {
        case STEP_LINE:
            return LOG_SOURCE_LINE;
        case STEP_MORE:
            continue;
        case STEP_END:
            s->rested = s->follow && !s->standard_input;
            return LOG_SOURCE_END;
        case STEP_FAILED:
            return LOG_SOURCE_FAILED;
        }
    }
}
