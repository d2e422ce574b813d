/*
 * log_source: the lines of one log (see log_source.h).
 *
 * Here they are read; log_source_files.c knows the files. A line longer than PENDING_MAX
 * is cut before its end is seen.
 */
#include "log_source.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "log_source_files.h"

#define READ_SIZE   (64 * 1024)
#define PENDING_MAX (64 * 1024)
#define BUFFER_SIZE (LOG_TAIL + PENDING_MAX + READ_SIZE)

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

void log_source_close(struct log_source *source)
{
    log_source_close_files(source);
    free(source->files);
    free(source->names);
    free(source->buffer);
    free(source->path);
    *source = (struct log_source){ .path = NULL };
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
        log_source_failed(s, s->names[0], errno);
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
    log_source_pop(s);
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
    switch (log_source_look(s)) {
    case LOG_SOURCE_NEW_FILES:
        return STEP_MORE;
    case LOG_SOURCE_NEWS_FAILED:
        return STEP_FAILED;
    case LOG_SOURCE_NO_NEWS:
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
        if (end && !s->skipping && end - from <= LOG_LINE_MAX && *from != '\0') {
            *text = from; /* as nearly always; the others are give_line()'s */
            *len = (size_t)(end - from);
            s->begin += *len + 1;
            s->offset += (int64_t)*len + 1;
            s->scanned = 0;
            s->counts->lines++;
            return true;
        }
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
    if (!s->opened && !log_source_open(s))
        return LOG_SOURCE_FAILED;
    if (s->rested && s->file_count > 0 && !log_source_is_unchanged(s) &&
        !log_source_open_truncated(s))
        return LOG_SOURCE_FAILED;
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
