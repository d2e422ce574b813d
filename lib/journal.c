/*
 * journal: the writer of this host's copy of the history of changes.
 *
 * The file's text is described in journal_record.c. A record is written by one
 * pwritev(2) and synced before journal_append() returns true; when it cannot be,
 * it is taken back, and when even that fails nothing more is written. The file
 * is replaced as a whole by writing another beside it, syncing and renaming it;
 * the one before stays as <path>.old.
 *
 * One writer: an exclusive flock(2) on the file, which a replacing file has
 * before it gets the name.
 *
 * What journal_open() finds at the end and is no whole record was cut by a
 * crash while appending, so nobody was told that it is there: it is cut off,
 * with a line in the log. Damage before the end is an error (journal_read.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "journal.h"
#include "journal_record.h"
#include "log.h"

#define FILE_MODE 0640

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
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

/* Writes one record after last and moves size and last on. errno on false. */
static bool write_event(int fd, off_t *size, struct position *last,
                        const struct event *event)
{
    char header[JOURNAL_HEADER_MAX], end[JOURNAL_END_LEN + 1];
    size_t header_len;

    if (event->body_len > JOURNAL_BODY_MAX) {
        errno = EMSGSIZE;
        return false;
    }
    if (!journal_record_follows(event, last) ||
        !journal_record_format(event, header, &header_len, end)) {
        errno = EINVAL;
        return false;
    }
    struct iovec parts[] = {
        { header, header_len },
        { (void *)(uintptr_t)event->body, event->body_len },
        { end, JOURNAL_END_LEN },
    };
    if (!write_all(fd, parts, 3, *size))
        return false;
    *size += (off_t)(header_len + event->body_len + JOURNAL_END_LEN);
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
    if (journal_walk(journal->fd, path, NULL, NULL, &result, error, error_size) !=
        WALK_END) {
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
