/*
 * log_checkpoint: the file of a checkpoint (see log_reader.h).
 *
 *     sluice log checkpoint 1
 *     ... lines of whoever writes it ...
 *     end DIGEST
 *
 * It is written beside its place, synced and renamed, so that a reader sees the old
 * or the new one; the digest tells one that was cut or changed all the same.
 */
#include "log_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log_source.h"
#include "write_all.h"

#define HEAD           "sluice log checkpoint 1\n"
#define SIZE_MAX_BYTES (INT64_C(4) << 30)

static bool failed(char *error, size_t error_size, const char *what, const char *path)
{
    char reason[128];
    (void)snprintf(error, error_size, "%s %.300s: %s", what, path,
                   strerror_r(errno, reason, sizeof(reason)));
    return false;
}

static bool make_text(bool (*write)(void *arg, FILE *out), void *arg, char **text,
                      size_t *len)
{
    FILE *out = open_memstream(text, len);
    if (!out)
        return false;
    fputs(HEAD, out);
    bool fine = write(arg, out) && fflush(out) == 0;
    if (fine)
        fprintf(out, "end %016" PRIx64 "\n", log_digest(0, *text, *len));
    fine = fine && !ferror(out);
    return fclose(out) == 0 && fine;
}

/* The entry in the folder too. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd); /* without it an older one may be there after a crash */
        close(fd);
    }
    free(folder);
}

static bool put_file(const char *path, const char *text, size_t len, char *error,
                     size_t error_size)
{
    char *beside = NULL;
    if (asprintf(&beside, "%s.XXXXXX", path) < 0) {
        errno = ENOMEM;
        return failed(error, error_size, "cannot write", path);
    }
    int fd = mkostemp(beside, O_CLOEXEC); /* 0600: it names senders */
    bool fine = fd >= 0 && write_all(fd, text, len) && fsync(fd) == 0;
    int saved = errno;
    if (fd >= 0 && close(fd) < 0 && fine) {
        saved = errno;
        fine = false;
    }
    if (fine && rename(beside, path) < 0) {
        saved = errno;
        fine = false;
    }
    if (!fine && fd >= 0)
        unlink(beside);
    free(beside);
    errno = saved;
    if (!fine)
        return failed(error, error_size, "cannot write", path);
    sync_folder(path);
    return true;
}

bool log_checkpoint_write(const char *path, bool (*write)(void *arg, FILE *out),
                          void *arg, char *error, size_t error_size)
{
    char *text = NULL;
    size_t len = 0;
    if (!make_text(write, arg, &text, &len)) {
        free(text);
        errno = ENOMEM;
        return failed(error, error_size, "cannot write", path);
    }
    bool fine = put_file(path, text, len, error, error_size);
    free(text);
    return fine;
}

static char *read_all(int fd, size_t *len)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return NULL;
    if (!S_ISREG(st.st_mode) || st.st_size > SIZE_MAX_BYTES) {
        errno = EFBIG;
        return NULL;
    }
    char *text = malloc((size_t)st.st_size + 1);
    *len = 0;
    while (text && *len < (size_t)st.st_size) {
        ssize_t n = read(fd, text + *len, (size_t)st.st_size - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int saved = errno;
            free(text);
            errno = saved;
            return NULL;
        }
        if (n == 0)
            break;
        *len += (size_t)n;
    }
    if (text)
        text[*len] = '\0';
    return text;
}

/* The lines between head and end, each one's end made a NUL. */
bool log_checkpoint_parse(char *text, size_t len,
                          bool (*take)(void *arg, const char *line), void *arg)
{
    const size_t end_len = sizeof("end 0123456789abcdef\n") - 1,
                 head_len = sizeof(HEAD) - 1;
    char wanted[32];
    if (len < head_len + end_len || memcmp(text, HEAD, head_len) != 0 ||
        memchr(text, '\0', len))
        return false;
    (void)snprintf(wanted, sizeof(wanted), "end %016" PRIx64 "\n",
                   log_digest(0, text, len - end_len));
    if (memcmp(text + len - end_len, wanted, end_len) != 0)
        return false;
    text[len - end_len] = '\0';
    for (char *p = text + head_len, *end; *p; p = end + 1) {
        end = strchr(p, '\n');
        if (!end)
            return false;
        *end = '\0';
        if (!take(arg, p))
            return false;
    }
    return true;
}

enum log_checkpoint log_checkpoint_read(const char *path,
                                        bool (*take)(void *arg, const char *line),
                                        void *arg, char *error, size_t error_size)
{
    size_t len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return LOG_CHECKPOINT_NONE;
    char *text = fd < 0 ? NULL : read_all(fd, &len);
    if (!text)
        failed(error, error_size, "cannot read", path);
    if (fd >= 0)
        close(fd);
    if (!text)
        return LOG_CHECKPOINT_DAMAGED;
    bool fine = log_checkpoint_parse(text, len, take, arg);
    if (!fine)
        (void)snprintf(error, error_size,
                       "%.300s: damaged, or not a checkpoint of this "
                       "version; remove it to read the logs anew",
                       path);
    free(text);
    return fine ? LOG_CHECKPOINT_READ : LOG_CHECKPOINT_DAMAGED;
}
