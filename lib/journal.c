/*
 * journal: each host's own copy of the history of changes.
 *
 *     event <epoch> <id> <prev> <op> <letter> <time> <domain or -> <bytes>\n
 *     <body, bytes long>
 *     end <epoch, 16 hex digits> <id> <crc32, 8 hex digits>\n
 *
 * The crc32 covers the header line and the body. A record is written by one
 * write(2) and synced before journal_append() returns. What may be found at
 * the end of the file is therefore a record that was cut (a crash, a full
 * disk): it is no record, the writer cuts it off, a reader stops before it.
 * A mistake that has a good record after it was not made by a crash: the
 * journal is damaged, and using it any further could hide a lock.
 *
 * Reading the head looks at the last line first and then checks that line's
 * record, going back from the end; the answer is kept as long as stat(2) says
 * that the file is the same, so a mail daemon pays one system call. A tail
 * that is just being written costs a look further back, never a wrong answer.
 *
 * Limits: a body has at most BODY_MAX bytes. Errors name path and offset.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "journal.h"
#include "log.h"

#define FILE_MODE        0640
#define RECORD_START     "event "
#define RECORD_START_LEN (sizeof(RECORD_START) - 1)
/* Every item with the longest local part and record, tab and line end. */
#define BODY_MAX   ((size_t)EVENT_ITEMS_MAX * (ADDR_LOCAL_MAX + HOME_RECORD_MAX + 2))
#define HEADER_MAX 512
#define END_LEN    (4 + 16 + 1 + EVENT_ID_LEN + 1 + 8 + 1)
#define RECORD_MAX (HEADER_MAX + BODY_MAX + END_LEN)

/* ---- crc32 (IEEE 802.3, as zlib's) ------------------------------------- */

static uint32_t crc_table[256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_fill(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
        crc_table[i] = crc;
    }
}

static uint32_t crc32_add(uint32_t crc, const char *data, size_t len)
{
    pthread_once(&crc_once, crc_fill);
    crc = ~crc;
    for (size_t i = 0; i < len; i++)
        crc = crc >> 8 ^ crc_table[(crc ^ (unsigned char)data[i]) & 255];
    return ~crc;
}

/* ---- one record as text ------------------------------------------------ */

static bool is_id(const char *text)
{
    return strlen(text) == EVENT_ID_LEN &&
           strspn(text, "0123456789abcdef") == EVENT_ID_LEN;
}

static bool is_prev(const char *text)
{
    return strcmp(text, "-") == 0 || is_id(text);
}

static bool is_printable(char c)
{
    return c > ' ' && c < 0x7f;
}

static bool parse_decimal(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    if (!*text || (text[0] == '0' && text[1]))
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        unsigned digit = (unsigned)(*text - '0');
        if (value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

static bool copy_field(char *out, size_t size, const char *text)
{
    size_t len = strlen(text);

    if (len >= size)
        return false;
    memcpy(out, text, len + 1);
    return true;
}

/* Cuts a line of len bytes into exactly n fields at single spaces, in place. */
static bool split_fields(char *line, char *fields[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        fields[i] = line;
        char *space = strchr(line, ' ');
        if ((space == NULL) != (i == n - 1) || *line == '\0' || space == line)
            return false;
        if (space) {
            *space = '\0';
            line = space + 1;
        }
    }
    return true;
}

/* Reads the header line (without LF) into event; body stays unset. */
static bool parse_header(const char *text, size_t len, struct event *event)
{
    char line[HEADER_MAX];
    char *f[9];
    uint64_t time, bytes;

    if (len >= sizeof(line) || memchr(text, '\0', len))
        return false;
    memcpy(line, text, len);
    line[len] = '\0';
    if (!split_fields(line, f, 9) || strcmp(f[0], "event") != 0)
        return false;
    if (!parse_decimal(f[1], UINT64_MAX, &event->at.epoch) || event->at.epoch == 0 ||
        !is_id(f[2]) || !is_prev(f[3]) || !event_op_parse(f[4], &event->op) ||
        strlen(f[5]) != 1 || !is_printable(f[5][0]) ||
        !parse_decimal(f[6], INT64_MAX, &time) || !parse_decimal(f[8], BODY_MAX, &bytes))
        return false;
    event->letter = f[5][0];
    event->time = (int64_t)time;
    event->body = NULL;
    event->body_len = (size_t)bytes;
    return copy_field(event->at.id, sizeof(event->at.id), f[2]) &&
           copy_field(event->prev, sizeof(event->prev), f[3]) &&
           copy_field(event->domain, sizeof(event->domain),
                      strcmp(f[7], "-") == 0 ? "" : f[7]);
}

static int format_header(const struct event *event, char *out, size_t size)
{
    return snprintf(out, size, "event %" PRIu64 " %s %s %s %c %" PRId64 " %s %zu\n",
                    event->at.epoch, event->at.id, event->prev, event_op_name(event->op),
                    event->letter, event->time, event->domain[0] ? event->domain : "-",
                    event->body_len);
}

static int format_end(const struct position *at, uint32_t crc, char *out, size_t size)
{
    return snprintf(out, size, "end %016" PRIx64 " %s %08" PRIx32 "\n", at->epoch, at->id,
                    crc);
}

enum parsed { PARSED_RECORD, PARSED_CUT, PARSED_BAD };

/* The record at the start of buf. CUT: buf ends before the record does. */
static enum parsed parse_record(const char *buf, size_t len, struct event *event,
                                size_t *used)
{
    char end[END_LEN + 1];
    const char *lf = memchr(buf, '\n', len < HEADER_MAX ? len : HEADER_MAX);

    if (!lf)
        return len < HEADER_MAX ? PARSED_CUT : PARSED_BAD;
    if (!parse_header(buf, (size_t)(lf - buf), event))
        return PARSED_BAD;
    size_t covered = (size_t)(lf - buf) + 1 + event->body_len;
    if (len < covered + END_LEN)
        return PARSED_CUT;
    int n = format_end(&event->at, crc32_add(0, buf, covered), end, sizeof(end));
    if (n != END_LEN || memcmp(buf + covered, end, END_LEN) != 0)
        return PARSED_BAD;
    event->body = lf + 1;
    *used = covered + END_LEN;
    return PARSED_RECORD;
}

/* Whether event may come after a record at last (epoch 0: none yet). */
static bool follows(const struct event *event, const struct position *last)
{
    if (event->op == EVENT_BASE)
        return last->epoch == 0 ||
               (event->at.epoch == last->epoch && strcmp(event->at.id, last->id) == 0);
    return event->at.epoch == last->epoch + 1 &&
           strcmp(event->prev, last->epoch ? last->id : "-") == 0;
}

/* ---- reading from the start -------------------------------------------- */

/* A window on the file that parse_record() can work on. */
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
    scan->size = 2 * RECORD_MAX;
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
    enum parsed parsed =
        parse_record(scan->buf + scan->used, scan->len - scan->used, event, &used);

    if (parsed != PARSED_RECORD && !scan->at_end) {
        scan_fill(scan);
        parsed = parse_record(scan->buf, scan->len, event, &used);
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
            const char *hit =
                memmem(scan->buf + at, scan->len - at, RECORD_START, RECORD_START_LEN);
            if (!hit)
                break;
            at = (size_t)(hit - scan->buf);
            if (at < half &&
                parse_record(hit, (size_t)(end - hit), &event, &used) == PARSED_RECORD)
                return true;
        }
        if (scan->at_end)
            return false;
        scan->used = half;
    }
}

enum walk { WALK_END, WALK_STOPPED, WALK_FAILED };

struct walk_result {
    struct position last; /* of the last good record */
    off_t end;            /* where it ends */
    off_t tail;           /* bytes after it, of a record that was cut */
};

/* All records from the start. each may be NULL. FAILED: error says why. */
static enum walk walk(int fd, const char *path,
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
        in_order = follows(&event, &result->last);
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
        if (!in_order || more || result->tail > (off_t)RECORD_MAX) {
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
    enum walk how = walk(fd, path, each, context, &result, error, error_size);
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

/* Whether a record ends exactly at buf + end. */
static bool record_ends_at(const char *buf, size_t end, struct position *out)
{
    struct event event;
    size_t used;

    if (end < END_LEN || memcmp(buf + end - END_LEN, "end ", 4) != 0)
        return false;
    for (size_t at = end - END_LEN; at-- > 0;) {
        if (memcmp(buf + at, RECORD_START, RECORD_START_LEN) != 0)
            continue;
        if (parse_record(buf + at, end - at, &event, &used) == PARSED_RECORD &&
            used == end - at) {
            *out = event.at;
            return true;
        }
    }
    return false;
}

/* The last record that ends in buf. *clean: nothing comes after it. */
static bool last_record(const char *buf, size_t len, struct position *out, bool *clean)
{
    *clean = true;
    for (size_t end = len; end >= END_LEN; end--) {
        if (buf[end - 1] == '\n' && record_ends_at(buf, end, out))
            return true;
        *clean = false;
    }
    return false;
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
    static const size_t windows[] = { 16384, 2 * RECORD_MAX };

    for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
        size_t len = (off_t)windows[i] < size ? windows[i] : (size_t)size;
        char *buf = malloc(len);
        if (!buf)
            return false;
        ssize_t have = read_tail(fd, size, buf, len);
        bool whole = (off_t)len == size;
        bool found = have > 0 && last_record(buf, (size_t)have, out, clean);
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

/* ---- writing ----------------------------------------------------------- */

struct journal {
    char *path;
    int fd;
    off_t size;
    struct position last;
    bool broken; /* what is on the disk is not known: nothing more is written */
};

struct position journal_position(const struct journal *journal)
{
    return journal->last;
}

static bool sync_directory(const char *path)
{
    char copy[PATH_MAX];
    size_t len = strlen(path);

    if (len >= sizeof(copy)) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(copy, path, len + 1);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = fsync(fd) == 0;
    int saved = errno;
    close(fd);
    errno = saved;
    return ok;
}

/* Writes all of it at offset; in one call unless the kernel does less. */
static bool write_all(int fd, struct iovec *parts, int n, off_t offset)
{
    while (n > 0) {
        ssize_t done = pwritev(fd, parts, n, offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return false;
        offset += done;
        while (n > 0 && (size_t)done >= parts->iov_len) {
            done -= (ssize_t)parts->iov_len;
            parts++;
            n--;
        }
        if (n > 0) {
            parts->iov_base = (char *)parts->iov_base + done;
            parts->iov_len -= (size_t)done;
        }
    }
    return true;
}

static bool is_writable(const struct event *event)
{
    if (event->at.epoch == 0 || !is_id(event->at.id) || !is_prev(event->prev) ||
        !is_printable(event->letter) || event->time < 0)
        return false;
    for (const char *c = event->domain; *c; c++)
        if (!is_printable(*c))
            return false;
    return strcmp(event->domain, "-") != 0;
}

/* Writes one record after last and moves size and last on. errno on false. */
static bool write_event(int fd, off_t *size, struct position *last,
                        const struct event *event)
{
    char header[HEADER_MAX], end[END_LEN + 1];

    if (event->body_len > BODY_MAX) {
        errno = EMSGSIZE;
        return false;
    }
    int header_len = format_header(event, header, sizeof(header));
    if (!is_writable(event) || !follows(event, last) || header_len < 0 ||
        header_len >= HEADER_MAX) {
        errno = EINVAL;
        return false;
    }
    uint32_t crc = crc32_add(0, header, (size_t)header_len);
    crc = crc32_add(crc, event->body, event->body_len);
    if (format_end(&event->at, crc, end, sizeof(end)) != END_LEN) {
        errno = EINVAL;
        return false;
    }
    struct iovec parts[] = {
        { header, (size_t)header_len },
        { (void *)(uintptr_t)event->body, event->body_len },
        { end, END_LEN },
    };
    if (!write_all(fd, parts, 3, *size))
        return false;
    *size += (off_t)header_len + (off_t)event->body_len + END_LEN;
    *last = event->at;
    return true;
}

bool journal_append(struct journal *journal, const struct event *event)
{
    off_t size = journal->size;
    struct position last = journal->last;

    if (journal->broken) {
        errno = EIO;
        return false;
    }
    if (write_event(journal->fd, &size, &last, event) && fdatasync(journal->fd) == 0) {
        journal->size = size;
        journal->last = last;
        return true;
    }
    int saved = errno;
    /* Nothing of it may stay, or a reader would take it for a record. */
    if (ftruncate(journal->fd, journal->size) < 0 || fdatasync(journal->fd) < 0)
        journal->broken = true;
    errno = saved;
    return false;
}

/* ---- opening ----------------------------------------------------------- */

static struct journal *failed(struct journal *journal, char *error, size_t error_size,
                              const char *what)
{
    (void)snprintf(error, error_size, "%s: %s: %s", journal->path, what, strerror(errno));
    journal_close(journal);
    return NULL;
}

/* Opens and locks the file that path names; another program may replace it
 * between the two. NULL: done, else what went wrong. */
static const char *open_locked(struct journal *journal)
{
    struct stat mine, now;

    for (int attempt = 0; attempt < 10; attempt++) {
        journal->fd =
            open(journal->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
        if (journal->fd < 0)
            return "cannot open";
        if (flock(journal->fd, LOCK_EX | LOCK_NB) < 0)
            return errno == EWOULDBLOCK ? "another sluice-policyd uses it"
                                        : "cannot lock";
        if (fstat(journal->fd, &mine) < 0)
            return "cannot read";
        if (!S_ISREG(mine.st_mode)) {
            errno = EINVAL;
            return "not a regular file";
        }
        if (stat(journal->path, &now) == 0 && same_file(&mine, &now))
            return NULL;
        close(journal->fd);
        journal->fd = -1;
    }
    errno = EAGAIN;
    return "is being replaced all the time";
}

struct journal *journal_open(const char *path, char *error, size_t error_size)
{
    struct walk_result result;
    struct journal *journal = calloc(1, sizeof(*journal));

    if (journal)
        journal->fd = -1;
    if (!journal || !(journal->path = strdup(path))) {
        (void)snprintf(error, error_size, "%s: out of memory", path);
        journal_close(journal);
        return NULL;
    }
    const char *wrong = open_locked(journal);
    if (wrong)
        return failed(journal, error, error_size, wrong);
    if (walk(journal->fd, path, NULL, NULL, &result, error, error_size) != WALK_END) {
        journal_close(journal);
        return NULL;
    }
    journal->size = result.end;
    journal->last = result.last;
    if (result.tail > 0) {
        log_warnx("%s: cutting off %lld bytes of an unfinished record at offset %lld",
                  path, (long long)result.tail, (long long)result.end);
        if (ftruncate(journal->fd, result.end) < 0 || fdatasync(journal->fd) < 0)
            return failed(journal, error, error_size, "cannot cut off its torn end");
    }
    if (!sync_directory(path))
        return failed(journal, error, error_size, "cannot sync its directory");
    return journal;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    if (journal->fd >= 0)
        close(journal->fd);
    free(journal->path);
    free(journal);
}

/* ---- replacing --------------------------------------------------------- */

static bool write_all_events(struct journal *new, journal_source *next, void *context)
{
    struct event event;
    bool stop = false;

    while (memset(&event, 0, sizeof(event)), next(context, &event, &stop) && !stop)
        if (!write_event(new->fd, &new->size, &new->last, &event))
            return false;
    if (stop)
        errno = ECANCELED;
    return !stop;
}

/* The old file keeps its name until the very moment the new one has it. */
static bool put_in_place(const char *path, const char *new_path, const char *old_path)
{
    if (unlink(old_path) < 0 && errno != ENOENT)
        return false;
    if (link(path, old_path) < 0 && errno != ENOENT)
        return false;
    return rename(new_path, path) == 0;
}

bool journal_replace(struct journal *journal, journal_source *next, void *context,
                     char *error, size_t error_size)
{
    char new_path[PATH_MAX], old_path[PATH_MAX];
    struct journal new = { .fd = -1 };
    const char *wrong = NULL;

    int n = snprintf(new_path, sizeof(new_path), "%s.new", journal->path);
    int o = snprintf(old_path, sizeof(old_path), "%s.old", journal->path);
    if (n < 0 || o < 0 || n >= PATH_MAX || o >= PATH_MAX) {
        (void)snprintf(error, error_size, "%s: the path is too long", journal->path);
        return false;
    }
    if (unlink(new_path) < 0 && errno != ENOENT)
        wrong = "cannot remove an earlier try";
    else if ((new.fd = open(new_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                            FILE_MODE)) < 0)
        wrong = "cannot create";
    else if (flock(new.fd, LOCK_EX | LOCK_NB) < 0)
        wrong = "cannot lock";
    else if (!write_all_events(&new, next, context))
        wrong = "cannot write";
    else if (fsync(new.fd) < 0)
        wrong = "cannot sync";
    else if (!put_in_place(journal->path, new_path, old_path))
        wrong = "cannot take the journal's place";
    if (wrong) {
        (void)snprintf(error, error_size, "%s: %s: %s", new_path, wrong, strerror(errno));
        if (new.fd >= 0) {
            (void)unlink(new_path);
            close(new.fd);
        }
        return false;
    }
    close(journal->fd);
    journal->fd = new.fd;
    journal->size = new.size;
    journal->last = new.last;
    journal->broken = false;
    if (!sync_directory(journal->path)) {
        journal->broken = true;
        (void)snprintf(error, error_size, "%s: cannot sync its directory: %s",
                       journal->path, strerror(errno));
        return false;
    }
    return true;
}
