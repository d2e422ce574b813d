/*
 * counters: see counters.h. The file is written aside and renamed, without fsync: it
 * is a figure, the next one follows in seconds. Limit: FILE_MAX bytes are read.
 */
#include "config.h"

#include "counters.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC    "sluice-milter 1 "
#define FILE_MAX 8192

static _Atomic uint64_t counts[COUNTER_COUNT];

const char *counter_name(enum counter counter, char out[32])
{
    static const char *const names[COUNTER_SPF] = {
        "messages", "deliver",  "hold",        "forward",       "redirect",
        "later",    "rejected", "quarantined", "store_failures"
    };
    static const char *const checks[] = { "spf", "dkim", "dmarc" };
    if (counter < COUNTER_SPF) {
        snprintf(out, 32, "%s", names[counter]);
        return out;
    }
    unsigned at = (unsigned)(counter - COUNTER_SPF);
    snprintf(out, 32, "%s_%s", checks[at / AUTH_RESULTS % 3],
             auth_result_name((enum auth_result)(at % AUTH_RESULTS)));
    return out;
}

void counters_add(enum counter counter)
{
    if ((size_t)counter < COUNTER_COUNT)
        atomic_fetch_add_explicit(&counts[counter], 1, memory_order_relaxed);
}

static bool path_of(const struct conf *conf, const char *suffix, char *out, size_t size)
{
    int n = snprintf(out, size, "%s/milter.counters%s", conf->state_dir, suffix);
    if (n > 0 && (size_t)n < size)
        return true;
    errno = ENAMETOOLONG;
    return false;
}

/* Never longer than FILE_MAX: COUNTER_COUNT lines of 32 + 22 bytes. */
static size_t format(char text[FILE_MAX], int64_t now)
{
    char name[32];
    int n = snprintf(text, FILE_MAX, MAGIC "%" PRId64 "\n", now);
    size_t used = n > 0 ? (size_t)n : 0;
    for (int i = 0; i < COUNTER_COUNT; i++) {
        n = snprintf(text + used, FILE_MAX - used, "%s %" PRIu64 "\n",
                     counter_name((enum counter)i, name),
                     (uint64_t)atomic_load_explicit(&counts[i], memory_order_relaxed));
        used += n > 0 ? (size_t)n : 0;
    }
    return used;
}

bool counters_save(const struct conf *conf, int64_t now)
{
    char text[FILE_MAX], path[4096], aside[4096];
    size_t len = format(text, now);
    if (!path_of(conf, "", path, sizeof(path)) ||
        !path_of(conf, ".new", aside, sizeof(aside)))
        return false;
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return false;
    ssize_t written = write(fd, text, len);
    if (written >= 0 && (size_t)written < len)
        errno = ENOSPC;
    bool ok = written == (ssize_t)len;
    int saved = errno;
    close(fd);
    if (ok && rename(aside, path) == 0)
        return true;
    saved = ok ? errno : saved;
    (void)unlink(aside);
    errno = saved;
    return false;
}

/* The content, NUL-terminated; 0: none. */
static size_t read_text(const struct conf *conf, char text[FILE_MAX + 1])
{
    char path[4096];
    struct stat st;
    int fd = path_of(conf, "", path, sizeof(path))
                 ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
                 : -1;
    if (fd < 0)
        return 0;
    ssize_t n =
        fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? read(fd, text, FILE_MAX) : -1;
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

static void take_line(const char *line, size_t len, struct counters_read *out)
{
    char name[32], *end;
    for (int i = 0; i < COUNTER_COUNT; i++) {
        size_t name_len = strlen(counter_name((enum counter)i, name));
        if (name_len < len && strncmp(line, name, name_len) == 0 &&
            line[name_len] == ' ' && line[name_len + 1] >= '0' &&
            line[name_len + 1] <= '9') {
            uint64_t value = strtoull(line + name_len + 1, &end, 10);
            if (end == line + len)
                out->count[i] = value;
            return;
        }
    }
}

bool counters_load(const struct conf *conf, struct counters_read *out)
{
    char text[FILE_MAX + 1];
    *out = (struct counters_read){ 0 };
    if (read_text(conf, text) == 0 || strncmp(text, MAGIC, sizeof(MAGIC) - 1) != 0)
        return false;
    out->updated = strtoll(text + sizeof(MAGIC) - 1, NULL, 10);
    for (const char *line = strchr(text, '\n'); line && *++line;) {
        size_t len = strcspn(line, "\n");
        take_line(line, len, out);
        line = line[len] ? line + len : NULL;
    }
    return true;
}
