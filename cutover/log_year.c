/*
 * log_year: when a log begins whose stamps have no year (see log_year.h).
 */
#include "log_year.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log_time.h"

#define BLOCK     16384
#define SAMPLES   128
#define HALF_YEAR 186 /* days, of months of 31 */

struct walk {
    struct log_clock *clock;
    bool any;
    struct log_local first, last;
    int turns; /* of the year, between these two */
    bool known;
    int64_t earliest; /* unix seconds: the first line is not younger */
};

static int day_of(const struct log_local *at)
{
    return at->month * 31 + at->day;
}

/* The nearer year counts, as in log_time.c: a clock may be set back over New Year. */
static void take_line(struct walk *walk, const char *text, size_t len)
{
    struct log_line line;
    struct log_local at;
    if (!log_line_parse(walk->clock, text, len, &line) ||
        line.stamp_kind != LOG_STAMP_TRADITIONAL || !log_local_read(line.stamp.text, &at))
        return;
    if (!walk->any)
        walk->first = at;
    else if (day_of(&at) < day_of(&walk->last) - HALF_YEAR)
        walk->turns++;
    else if (day_of(&at) > day_of(&walk->last) + HALF_YEAR)
        walk->turns--;
    walk->last = at;
    walk->any = true;
}

/* The whole lines of a block; the first one may be a part. */
static void take_block(struct walk *walk, const char *text, size_t len, bool begins)
{
    const char *end = text + len, *stop;
    if (!begins) {
        stop = memchr(text, '\n', len);
        text = stop ? stop + 1 : end;
    }
    for (; (stop = memchr(text, '\n', (size_t)(end - text))); text = stop + 1)
        take_line(walk, text, (size_t)(stop - text));
}

static void walk_plain(struct walk *walk, int fd, off_t size)
{
    char block[BLOCK];
    off_t step = size / SAMPLES > BLOCK ? size / SAMPLES : BLOCK;
    for (off_t at = 0; at < size; at += step) {
        if (at + step >= size && size - at > BLOCK)
            at = size - BLOCK; /* the end of the file */
        ssize_t n = pread(fd, block, sizeof(block), at);
        if (n <= 0)
            return;
        take_block(walk, block, (size_t)n, at == 0);
        if (!walk->any) /* stamps with a year */
            return;
    }
}

/* By a descriptor of its own: after damaged data zlib does not go back. */
static void walk_gzip(struct walk *walk, const char *name, const struct stat *st,
                      bool whole)
{
    char block[BLOCK];
    struct stat own;
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return;
    if (fstat(fd, &own) < 0 || own.st_dev != st->st_dev || own.st_ino != st->st_ino) {
        close(fd); /* renamed meanwhile */
        return;
    }
    struct log_file *file = log_file_new(fd);
    bool begins = true;
    ssize_t n;
    while (file && (n = log_file_read(file, block, sizeof(block))) > 0) {
        take_block(walk, block, (size_t)n, begins);
        if (!whole || !walk->any)
            break;
        begins = false;
    }
    log_file_free(file);
}

/* A file is walked through to its end, which is not younger than `written`. */
static void end_file(struct walk *walk, int64_t written)
{
    int64_t last, first;
    if (!log_local_latest(&walk->last, written, &last) ||
        !log_local_in(&walk->first, log_local_year(last) - walk->turns, last, &first))
        return;
    if (!walk->known || first < walk->earliest)
        walk->earliest = first;
    walk->known = true;
}

bool log_year_begin(struct log_file *const *files, char *const *names, size_t count,
                    struct log_clock *clock, int64_t *unix_s)
{
    struct walk walk = { .clock = clock };
    for (size_t i = 0; i < count; i++) {
        int fd = log_file_fd(files[i]);
        struct stat st;
        if (fstat(fd, &st) < 0)
            continue;
        if (log_file_is_gzip(files[i]))
            walk_gzip(&walk, names[i], &st, i == 0);
        else
            walk_plain(&walk, fd, st.st_size);
        if (!walk.any)
            break;
        end_file(&walk, (int64_t)st.st_mtime);
    }
    *unix_s = walk.earliest;
    return walk.known;
}
