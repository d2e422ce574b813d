/*
 * log_file: one log file, plain or compressed by gzip (see log_file.h). Plain ones
 * are read by read(2) into the caller's buffer: a log that is truncated below a
 * mapping would end the program by SIGBUS.
 */
#include "log_file.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define GZIP_BUFFER (256 * 1024)

struct log_file {
    int fd;
    gzFile gzip; /* NULL: plain; reads by a descriptor of its own */
};

static bool is_gzip(int fd)
{
    unsigned char magic[2];
    return pread(fd, magic, 2, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
}

static gzFile open_gzip(int fd)
{
    int own = dup(fd);
    if (own < 0)
        return NULL;
    gzFile gzip = gzdopen(own, "rb");
    if (!gzip) {
        close(own);
        errno = ENOMEM;
    } else {
        gzbuffer(gzip, GZIP_BUFFER);
    }
    return gzip;
}

struct log_file *log_file_new(int fd)
{
    struct log_file *file = calloc(1, sizeof(*file));
    if (!file) {
        close(fd);
        errno = ENOMEM;
        return NULL;
    }
    file->fd = fd;
    if (is_gzip(fd) && !(file->gzip = open_gzip(fd))) {
        int saved = errno;
        log_file_free(file);
        errno = saved;
        return NULL;
    }
    return file;
}

void log_file_free(struct log_file *file)
{
    if (!file)
        return;
    if (file->gzip)
        gzclose(file->gzip);
    close(file->fd);
    free(file);
}

static ssize_t read_gzip(struct log_file *file, char *out, size_t size)
{
    int error, n = gzread(file->gzip, out, (unsigned)(size > 1 << 30 ? 1 << 30 : size));
    if (n > 0)
        return n;
    gzerror(file->gzip, &error);
    if (error == Z_ERRNO)
        return -1;
    if (n < 0 || (error != Z_OK && error != Z_STREAM_END)) {
        errno = EBADMSG;
        return -1;
    }
    return 0;
}

ssize_t log_file_read(struct log_file *file, char *out, size_t size)
{
    ssize_t n;
    if (file->gzip)
        return read_gzip(file, out, size);
    do
        n = read(file->fd, out, size);
    while (n < 0 && errno == EINTR);
    return n;
}

bool log_file_seek(struct log_file *file, int64_t offset)
{
    struct stat st;
    errno = 0;
    if (!file->gzip)
        return fstat(file->fd, &st) == 0 && (int64_t)st.st_size >= offset &&
               lseek(file->fd, (off_t)offset, SEEK_SET) == (off_t)offset;
    char block[16384];
    int64_t at = (int64_t)gztell(file->gzip);
    if (at > offset) {
        if (gzrewind(file->gzip) != 0)
            return false;
        at = 0;
    }
    while (at < offset) {
        size_t want =
            offset - at < (int64_t)sizeof(block) ? (size_t)(offset - at) : sizeof(block);
        ssize_t n = read_gzip(file, block, want);
        if (n <= 0)
            return false;
        at += n;
    }
    return true;
}

int log_file_fd(const struct log_file *file)
{
    return file->fd;
}

bool log_file_is_gzip(const struct log_file *file)
{
    return file->gzip != NULL;
}
