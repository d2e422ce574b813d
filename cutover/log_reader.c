/*
 * log_reader: events from mail logs, merged in the order of time (log_reader.h).
 *
 * Each source has its next line ready that may be wanted; the earliest is given. What a
 * source's clock does is not undone: its order is that of the latest time it has shown.
 *
 * Of a large log (AHEAD_FROM lines) the rest is read by a second thread (log_ahead.h):
 * finding lines and taking them apart is half of the work, what the caller does with
 * them the other half. It ends with the log, so that marks and waiting are of this one
 * alone.
 */
#include "log_reader.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "log_ahead.h"
#include "log_source.h"

#define SECOND_US  INT64_C(1000000)
#define DAY_US     (86400 * SECOND_US)
#define AHEAD_FROM 10000

struct head {
    struct log_item item;
    bool ready;
    int64_t order; /* microseconds */
};

struct log_reader {
    struct log_source sources[LOG_SOURCES_MAX];
    struct head heads[LOG_SOURCES_MAX];
    size_t count;
    size_t given; /* the head that the caller has; count: none */
    atomic_bool stopped;
    unsigned wanted;
    bool (*pick)(const struct log_line *line); /* NULL: events */
    bool with_rotated, follow;
    int64_t since, future; /* unix s; microseconds */
    struct log_counts counts;
    char error[640];
    /* The caller's; away from what the other thread writes for each line: a processor's
     * cache would have to fetch it anew each time. */
    struct log_ahead *ahead; /* NULL: read in this thread */
    uint64_t ahead_from;     /* lines */
    struct log_record record;
};

struct log_reader *log_reader_new(unsigned wanted)
{
    struct log_reader *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->wanted = wanted;
    r->with_rotated = true;
    r->since = INT64_MIN;
    r->given = LOG_SOURCES_MAX;
    r->ahead_from = AHEAD_FROM;
    return r;
}

void log_reader_free(struct log_reader *reader)
{
    if (!reader)
        return;
    atomic_store(&reader->stopped, true);
    log_ahead_free(reader->ahead);
    for (size_t i = 0; i < reader->count; i++)
        log_source_close(&reader->sources[i]);
    free(reader);
}

static bool refuse(char *error, size_t error_size, const char *path, const char *why)
{
    (void)snprintf(error, error_size, "%.300s: %s", path, why);
    return false;
}

bool log_reader_add(struct log_reader *reader, const char *path, char *error,
                    size_t error_size)
{
    char reason[128];
    for (size_t i = 0; i < reader->count; i++)
        if (strcmp(reader->sources[i].path, path) == 0)
            return refuse(error, error_size, path, "given twice");
    if (reader->count == LOG_SOURCES_MAX)
        return refuse(error, error_size, path, "more than 64 logs at once");
    if (strcmp(path, "-") != 0 && !reader->follow && access(path, R_OK) < 0)
        return refuse(error, error_size, path, strerror_r(errno, reason, sizeof(reason)));
    struct log_source *source = &reader->sources[reader->count];
    if (!log_source_init(source, path, &reader->counts)) {
        log_source_close(source);
        return refuse(error, error_size, path, "out of memory");
    }
    source->with_rotated = reader->with_rotated;
    source->follow = reader->follow;
    source->since = reader->since;
    reader->count++;
    return true;
}

void log_reader_without_rotated(struct log_reader *reader)
{
    reader->with_rotated = false;
}

void log_reader_pick(struct log_reader *reader, bool (*pick)(const struct log_line *line))
{
    reader->pick = pick;
}

void log_reader_follow(struct log_reader *reader)
{
    reader->follow = true;
}

void log_reader_since(struct log_reader *reader, int64_t unix_s)
{
    reader->since = unix_s;
}

/* ---- lines ----------------------------------------------------------------- */

/* One line of a source: true when it may be wanted. */
static bool take_line(struct log_reader *r, struct log_source *s, const char *text,
                      size_t len, struct log_item *out)
{
    if (!log_line_parse(&s->clock, text, len, &out->line)) {
        r->counts.foreign++;
        return false;
    }
    if (r->pick ? !r->pick(&out->line) : !log_event_possible(&out->line, r->wanted))
        return false;
    if (!log_line_time(&s->clock, &out->line, &out->time)) {
        r->counts.untimed++;
        return false;
    }
    if (out->time.us < s->skip_before)
        return false;
    s->skip_before = INT64_MIN; /* from here on it is new */
    if (out->time.us > r->future)
        r->counts.future++;
    return true;
}

static enum log_read ready_head(struct log_reader *r, size_t i)
{
    struct log_source *s = &r->sources[i];
    struct head *head = &r->heads[i];
    const char *text;
    size_t len;
    while (!atomic_load_explicit(&r->stopped, memory_order_relaxed)) {
        switch (log_source_next(s, &text, &len)) {
        case LOG_SOURCE_END:
            return LOG_READ_END;
        case LOG_SOURCE_FAILED:
            (void)snprintf(r->error, sizeof(r->error), "%s", s->error);
            return LOG_READ_FAILED;
        case LOG_SOURCE_LINE:
            break;
        }
        if (!take_line(r, s, text, len, &head->item))
            continue;
        int64_t order = head->item.time.us;
        if (head->item.line.stamp_kind == LOG_STAMP_TRADITIONAL)
            order += SECOND_US - 1;
        if (order > head->order)
            head->order = order;
        head->item.source = i;
        head->ready = true;
        return LOG_READ_EVENT;
    }
    return LOG_READ_END;
}

static void begin(struct log_reader *r)
{
    for (size_t i = 0; i < r->count; i++)
        r->heads[i].order = INT64_MIN;
}

/* Looked at once in a while, not at each line. */
static void look_at_clock(struct log_reader *r)
{
    r->future = (int64_t)time(NULL) * SECOND_US + DAY_US;
}

/* The next line of all sources. */
static enum log_read merge(void *context, const struct log_item **out)
{
    struct log_reader *reader = context;
    size_t best = LOG_SOURCES_MAX;
    if (reader->future == 0) {
        begin(reader);
        look_at_clock(reader);
    }
    if (reader->given < reader->count)
        reader->heads[reader->given].ready = false;
    reader->given = LOG_SOURCES_MAX;
    for (size_t i = 0; i < reader->count; i++) {
        if (!reader->heads[i].ready && ready_head(reader, i) == LOG_READ_FAILED)
            return LOG_READ_FAILED;
        if (reader->heads[i].ready &&
            (best == LOG_SOURCES_MAX ||
             reader->heads[i].order < reader->heads[best].order))
            best = i;
    }
    if (best == LOG_SOURCES_MAX) {
        look_at_clock(reader);
        return LOG_READ_END;
    }
    reader->given = best;
    *out = &reader->heads[best].item;
    return LOG_READ_EVENT;
}

/* Standard input may keep a thread waiting for ever. */
static bool has_standard_input(const struct log_reader *r)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->sources[i].standard_input)
            return true;
    return false;
}

static enum log_read next_item(struct log_reader *r, const struct log_item **out)
{
    if (!r->ahead && r->counts.lines >= r->ahead_from) {
        r->ahead_from = UINT64_MAX; /* asked once, up to the end */
        r->ahead = has_standard_input(r) ? NULL : log_ahead_new(merge, r, &r->counts);
    }
    enum log_read result = r->ahead ? log_ahead_next(r->ahead, out) : merge(r, out);
    if (result != LOG_READ_EVENT) {
        log_ahead_free(r->ahead);
        r->ahead = NULL;
        r->ahead_from = r->counts.lines + AHEAD_FROM;
    }
    return result;
}

enum log_read log_reader_next(struct log_reader *reader, const struct log_record **out)
{
    struct log_record *record = &reader->record;
    const struct log_item *item;
    enum log_read result;
    while ((result = next_item(reader, &item)) == LOG_READ_EVENT) {
        record->line = item->line;
        record->time = item->time;
        record->source = item->source;
        record->event.kind = LOG_EVENT_NONE;
        if (!reader->pick &&
            !log_event_parse(&record->line, reader->wanted, &record->event))
            continue;
        *out = record;
        break;
    }
    return result;
}

const char *log_reader_error(const struct log_reader *reader)
{
    return reader->error;
}

/* A file has no event to wait for but time; standard input has. */
bool log_reader_wait(struct log_reader *reader, int milliseconds)
{
    struct pollfd in = { .fd = -1, .events = POLLIN };
    for (size_t i = 0; i < reader->count; i++)
        if (reader->sources[i].standard_input && !reader->sources[i].ended)
            in.fd = STDIN_FILENO;
    return poll(&in, 1, milliseconds) >= 0 || errno != EINTR;
}

bool log_reader_ended(const struct log_reader *reader)
{
    for (size_t i = 0; i < reader->count; i++)
        if (!reader->sources[i].standard_input || !reader->sources[i].ended)
            return false;
    return true;
}

const char *log_reader_unread(const struct log_reader *reader)
{
    for (size_t i = 0; i < reader->count; i++)
        if (reader->sources[i].unread[0])
            return reader->sources[i].unread;
    return "";
}

const struct log_counts *log_reader_counts(const struct log_reader *reader)
{
    return reader->ahead ? log_ahead_counts(reader->ahead) : &reader->counts;
}

const char *log_reader_path(const struct log_reader *reader, size_t source)
{
    return reader->sources[source].path;
}

size_t log_reader_sources(const struct log_reader *reader)
{
    return reader->count;
}

/* ---- marks ----------------------------------------------------------------- */

/*     source DEVICE INODE OFFSET DIGEST LAST SKIPPING PATH */
void log_reader_save(const struct log_reader *reader, FILE *out)
{
    for (size_t i = 0; i < reader->count; i++) {
        struct log_mark mark;
        log_source_mark(&reader->sources[i], &mark);
        if (!mark.known)
            continue;
        fprintf(
            out,
            "source %" PRIu64 " %" PRIu64 " %" PRId64 " %016" PRIx64 " %" PRId64 " %d ",
            mark.device, mark.inode, mark.offset, mark.digest, mark.last, mark.skipping);
        for (const char *p = reader->sources[i].path; *p; p++)
            if ((unsigned char)*p <= ' ' || *p == '\\' || *p == 0x7f)
                fprintf(out, "\\x%02x", (unsigned)(unsigned char)*p);
            else
                putc(*p, out);
        putc('\n', out);
    }
}

/* Whether the escaped text stands for path. */
static bool is_path(const char *escaped, const char *path)
{
    for (; *path; path++) {
        char text[5] = { *path, '\0' };
        if ((unsigned char)*path <= ' ' || *path == '\\' || *path == 0x7f)
            (void)snprintf(text, sizeof(text), "\\x%02x", (unsigned)(unsigned char)*path);
        size_t len = strlen(text);
        if (strncmp(escaped, text, len) != 0)
            return false;
        escaped += len;
    }
    return *escaped == '\0';
}

bool log_reader_load(struct log_reader *reader, const char *line)
{
    struct log_mark mark = { .known = true };
    int skipping, used = 0;
    if (sscanf(line,
               "source %" SCNu64 " %" SCNu64 " %" SCNd64 " %" SCNx64 " %" SCNd64 " %d %n",
               &mark.device, &mark.inode, &mark.offset, &mark.digest, &mark.last,
               &skipping, &used) != 6 ||
        used == 0 || mark.offset <= 0 || (skipping != 0 && skipping != 1))
        return false;
    mark.skipping = skipping == 1;
    for (size_t i = 0; i < reader->count; i++)
        if (is_path(line + used, reader->sources[i].path))
            reader->sources[i].mark = mark;
    return true;
}
