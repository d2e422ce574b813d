/*
 * held: the record codec, and the host's own copies.
 *
 * A file is written aside (a name that begins with a dot), synced, renamed, and
 * its directory synced: after that a crash, here or of Redis, does not lose it.
 * Queue ids name files, so only letters and digits are taken. Limits: a file of
 * more than FILE_MAX bytes is none of ours.
 */
#include "config.h"

#include "held.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "write_all.h"

#define FILE_MAX (8 * 1024 * 1024)

/* ---- codec --------------------------------------------------------------- */

static const char kind_letters[] = {
    [HELD_LOCK] = 'l', [HELD_LOOP] = 'x', [HELD_DMARC] = 'd'
};

char *held_encode(const struct held *held, size_t *len)
{
    size_t size = strlen(held->sender) + strlen(held->recipients) + 64;
    char *text = malloc(size);
    if (!text)
        return NULL;
    int head = snprintf(text, size, "%c %" PRId64 " %" PRId64 "\n",
                        kind_letters[held->kind], held->since, held->gone_since);
    size_t used = (size_t)head;
    for (const char *from = held->sender; *from; from++)
        text[used++] = (unsigned char)*from < ' ' ? '?' : *from;
    int rest = snprintf(text + used, size - used, "\n%s", held->recipients);
    *len = used + (size_t)rest;
    return text;
}

bool held_decode(const char *queue_id, size_t id_len, char *text, struct held *out)
{
    char kind;
    char *sender = strchr(text, '\n');
    char *recipients = sender ? strchr(sender + 1, '\n') : NULL;
    if (!recipients || id_len >= sizeof(out->queue_id))
        return false;
    *sender++ = *recipients++ = '\0';
    memcpy(out->queue_id, queue_id, id_len);
    out->queue_id[id_len] = '\0';
    out->sender = sender;
    out->recipients = recipients;
    bool ok = sscanf(text, "%c %" SCNd64 " %" SCNd64, &kind, &out->since,
                     &out->gone_since) == 3;
    const char *letter = ok ? memchr(kind_letters, kind, sizeof(kind_letters)) : NULL;
    out->kind = letter ? (enum held_kind)(letter - kind_letters) : HELD_LOCK;
    return letter != NULL;
}

/* ---- the host's copies ----------------------------------------------------- */

static bool plain_id(const char *queue_id)
{
    size_t len = strspn(queue_id, "0123456789abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    return len > 0 && queue_id[len] == '\0';
}

/* Opens <state-dir>/held, making it when asked to; -1: errno. */
static int open_folder(const struct conf *conf, bool make)
{
    int state = open(conf->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (state < 0)
        return -1;
    if (make && mkdirat(state, "held", 0700) == 0)
        (void)fsync(state);
    int folder = openat(state, "held", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int saved = errno;
    close(state);
    errno = saved;
    return folder;
}

static bool write_file(int folder, const char *queue_id, const char *text, size_t len)
{
    char aside[80];
    int n = snprintf(aside, sizeof(aside), ".%s", queue_id);
    if (n < 0 || (size_t)n >= sizeof(aside)) {
        errno = ENAMETOOLONG;
        return false;
    }
    int fd = openat(folder, aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                    0600);
    if (fd < 0)
        return false;
    bool ok = write_all(fd, text, len) && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    ok = ok && renameat(folder, aside, folder, queue_id) == 0 && fsync(folder) == 0;
    if (!ok) {
        int saved = errno;
        (void)unlinkat(folder, aside, 0);
        errno = saved;
    }
    return ok;
}

bool held_spool_put(const struct conf *conf, const struct held *held, char *error,
                    size_t error_size)
{
    size_t len = 0;
    char *text = plain_id(held->queue_id) ? held_encode(held, &len) : NULL;
    int folder = -1;
    bool ok = false;
    if (!text)
        errno = plain_id(held->queue_id) ? ENOMEM : EINVAL;
    else
        folder = open_folder(conf, true);
    if (folder >= 0)
        ok = write_file(folder, held->queue_id, text, len);
    if (!ok)
        snprintf(error, error_size, "%s/held: cannot keep the record of %s: %s",
                 conf->state_dir, held->queue_id, strerror(errno));
    if (folder >= 0)
        close(folder);
    free(text);
    return ok;
}

bool held_spool_drop(const struct conf *conf, const char *queue_id)
{
    if (!plain_id(queue_id))
        return true;
    int folder = open_folder(conf, false);
    if (folder < 0)
        return errno == ENOENT;
    bool ok = unlinkat(folder, queue_id, 0) == 0 || errno == ENOENT;
    int saved = errno;
    close(folder);
    errno = saved;
    return ok;
}

/* The content with a final NUL; NULL: errno (ENOENT: gone meanwhile). */
static char *read_file(int folder, const char *name)
{
    struct stat st;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return NULL;
    char *text = NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= FILE_MAX)
        text = malloc((size_t)st.st_size + 1);
    ssize_t n = text ? pread(fd, text, (size_t)st.st_size, 0) : -1;
    close(fd);
    if (n < 0) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

/* false: each() stopped. */
static bool visit(int folder, const char *name, const struct conf *conf,
                  store_held_fn *each, void *context)
{
    struct held held;
    char *text = read_file(folder, name);
    bool more = true;
    if (!text && errno == ENOENT)
        return true;
    if (text && held_decode(name, strlen(name), text, &held))
        more = each(context, &held);
    else
        log_warnx("%s/held/%s is not a record: look at that message, then remove it",
                  conf->state_dir, name);
    free(text);
    return more;
}

bool held_spool_each(const struct conf *conf, store_held_fn *each, void *context,
                     char *error, size_t error_size)
{
    error[0] = '\0';
    int folder = open_folder(conf, false);
    if (folder < 0 && errno == ENOENT)
        return true;
    DIR *dir = folder >= 0 ? fdopendir(folder) : NULL;
    if (!dir) {
        snprintf(error, error_size, "%s/held: %s", conf->state_dir, strerror(errno));
        if (folder >= 0)
            close(folder);
        return false;
    }
    bool more = true;
    struct dirent *entry;
    while (more && (entry = readdir(dir)))
        if (plain_id(entry->d_name))
            more = visit(dirfd(dir), entry->d_name, conf, each, context);
    closedir(dir);
    return more;
}
