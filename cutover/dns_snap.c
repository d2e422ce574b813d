/*
 * dns_snap: the files of snapshots (see dns_snap.h). They are written beside their
 * place and linked into it, so that no reader sees half of one and none is overwritten.
 */
#include "dns_snap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "write_all.h"

#define SUFFIX ".zone"
#define STAMP  16 /* characters of a time in a name */

void dns_snap_free_all(struct dns_snap *snaps, size_t count)
{
    for (size_t i = 0; i < count; i++)
        dns_snap_free(&snaps[i]);
    free(snaps);
}

/* UTC, for the name of a file. */
static void time_stamp(int64_t when, char name[32])
{
    time_t seconds = (time_t)when;
    struct tm tm = { 0 };
    gmtime_r(&seconds, &tm);
    if (strftime(name, 32, "%Y%m%dT%H%M%SZ", &tm) == 0)
        name[0] = '\0';
}

static bool path_of(const struct conf *conf, const char *domain, const char *name,
                    char *out, size_t size)
{
    int n = snprintf(out, size, "%s/dns/%s%s%s", conf->state_dir, domain,
                     *name ? "/" : "", name);
    return n > 0 && (size_t)n < size;
}

static bool fail(char *error, size_t size, const char *path, const char *what)
{
    snprintf(error, size, "%s: %s", path, what);
    return false;
}

/* Whoever may write to state-dir must not lead root's files elsewhere. */
static bool make_own(const char *path)
{
    struct stat info;
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return false;
    if (lstat(path, &info) != 0)
        return false;
    errno = S_ISDIR(info.st_mode) ? EPERM : ENOTDIR;
    return S_ISDIR(info.st_mode) && info.st_uid == geteuid() &&
           !(info.st_mode & (S_IWGRP | S_IWOTH));
}

static const char *why_not(int error)
{
    return error == EPERM     ? "belongs to somebody else, or others may write to it: "
                                "chown it, chmod go-w"
           : error == ENOTDIR ? "is not a directory: look at it, and remove it"
                              : strerror(error);
}

static bool make_directory(const struct conf *conf, const char *domain, char *error,
                           size_t error_size)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/dns", conf->state_dir);
    if (!make_own(path))
        return fail(error, error_size, path, why_not(errno));
    if (!path_of(conf, domain, "", path, sizeof(path)))
        return fail(error, error_size, conf->state_dir, "the path is too long");
    if (!make_own(path))
        return fail(error, error_size, path, why_not(errno));
    return true;
}

static bool sync_directory(const struct conf *conf, const char *domain)
{
    char path[4096];
    int fd = path_of(conf, domain, "", path, sizeof(path))
                 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                 : -1;
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Whole beside its place, then there: by rename, or by link, which overwrites none. */
static bool place(const struct conf *conf, const char *domain, const char *name,
                  const char *text, bool overwrite)
{
    char temporary[4096], path[4096];
    if (!path_of(conf, domain, ".new-XXXXXX", temporary, sizeof(temporary)) ||
        !path_of(conf, domain, name, path, sizeof(path))) {
        errno = ENAMETOOLONG;
        return false;
    }
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok =
        write_all(fd, text, strlen(text)) && fsync(fd) == 0 && fchmod(fd, 0644) == 0;
    ok = close(fd) == 0 && ok;
    ok = ok && (overwrite ? rename(temporary, path) : link(temporary, path)) == 0;
    int wrong = errno;
    if (!ok || !overwrite)
        unlink(temporary);
    errno = wrong;
    return ok && sync_directory(conf, domain);
}

static int is_snapshot(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name), tail = strlen(SUFFIX);
    return entry->d_name[0] != '.' && len > tail && len < 64 &&
           strcmp(entry->d_name + len - tail, SUFFIX) == 0;
}

/* "20240531T030405Z" */
static bool is_stamp(const char *text)
{
    static const char form[] = "00000000T000000Z";
    for (size_t i = 0; i < STAMP; i++)
        if (form[i] == '0' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
            return false;
    return true;
}

/* Names are in the order in which they are taken, also when the clock was set back: then
 * the last one's time is gone on with. Returns the number to begin with. */
static int after_the_last(const struct conf *conf, const char *domain, char stamp[32])
{
    char path[4096];
    struct dirent **names = NULL;
    int number = 1;
    int n = path_of(conf, domain, "", path, sizeof(path))
                ? scandir(path, &names, is_snapshot, alphasort)
                : 0;
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        if (is_stamp(name) && strncmp(name, stamp, STAMP) > 0) {
            memcpy(stamp, name, STAMP);
            number = 1;
        }
        if (name[0] == stamp[0] && strncmp(name, stamp, STAMP) == 0)
            number = name[STAMP] == '_' ? (int)strtol(name + STAMP + 1, NULL, 10) + 1 : 2;
        free(names[i]);
    }
    free(names);
    return number;
}

bool dns_snap_write(const struct conf *conf, const char *domain, struct dns_snap *snap,
                    char *error, size_t error_size)
{
    char stamp[32], name[80];
    if (!make_directory(conf, domain, error, error_size))
        return false;
    char *text = dns_snap_format(snap, domain);
    if (!text)
        return fail(error, error_size, domain, "out of memory");
    if (strlen(text) >= DNS_SNAP_MAX) {
        free(text);
        return fail(error, error_size, domain, "has too many records for a snapshot");
    }
    time_stamp(snap->taken, stamp);
    bool ok = false;
    int first = after_the_last(conf, domain, stamp);
    errno = EEXIST;
    for (int i = first; i < 1000 && !ok; i++) {
        if (i == 1)
            snprintf(snap->name, sizeof(snap->name), "%s", stamp);
        else
            snprintf(snap->name, sizeof(snap->name), "%s_%03d", stamp, i);
        snprintf(name, sizeof(name), "%s" SUFFIX, snap->name);
        ok = place(conf, domain, name, text, false);
        if (!ok && errno != EEXIST)
            break;
    }
    free(text);
    return ok || fail(error, error_size, conf->state_dir, strerror(errno));
}

bool dns_snap_note(const struct conf *conf, const char *domain, const char *name,
                   const char *text, char *path, size_t path_size, char *error,
                   size_t error_size)
{
    if (!make_directory(conf, domain, error, error_size))
        return false;
    if (!path_of(conf, domain, name, path, path_size))
        return fail(error, error_size, name, "the path is too long");
    return place(conf, domain, name, text, true) ||
           fail(error, error_size, path, strerror(errno));
}

/* state-dir belongs to the daemons' user, who must not tell root what was live: a file of
 * somebody else, or one that others may write to, is none. Nor may it be waited for. */
static FILE *open_own(const char *path)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool own = fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
               (info.st_uid == 0 || info.st_uid == geteuid()) &&
               !(info.st_mode & (S_IWGRP | S_IWOTH));
    FILE *file = own ? fdopen(fd, "r") : NULL;
    if (!file && fd >= 0)
        close(fd);
    return file;
}

static char *read_text(const char *path)
{
    char *text = NULL;
    size_t used = 0, n;
    FILE *file = open_own(path);
    if (file && (text = malloc(DNS_SNAP_MAX + 1))) {
        while (used < DNS_SNAP_MAX &&
               (n = fread(text + used, 1, DNS_SNAP_MAX - used, file)) > 0)
            used += n;
        text[used] = '\0';
        if (ferror(file) || used == DNS_SNAP_MAX) {
            free(text);
            text = NULL;
        }
    }
    if (file)
        fclose(file);
    return text;
}

char *dns_snap_noted(const struct conf *conf, const char *domain, const char *name)
{
    char path[4096];
    return path_of(conf, domain, name, path, sizeof(path)) ? read_text(path) : NULL;
}

void dns_snap_forget(const struct conf *conf, const char *domain, const char *name)
{
    char path[4096];
    if (path_of(conf, domain, name, path, sizeof(path)))
        unlink(path);
}

bool dns_snap_read(const struct conf *conf, const char *domain, struct dns_snap **out,
                   size_t *count, char *error, size_t error_size)
{
    char path[4096];
    struct dirent **names = NULL;
    *out = NULL;
    *count = 0;
    if (!path_of(conf, domain, "", path, sizeof(path)))
        return fail(error, error_size, domain, "the path is too long");
    int n = scandir(path, &names, is_snapshot, alphasort);
    if (n < 0)
        return errno == ENOENT || fail(error, error_size, path, strerror(errno));
    bool ok = n <= DNS_SNAPS_MAX || fail(error, error_size, path,
                                         "has too many snapshots: move the oldest away");
    if (ok && !(*out = calloc((size_t)n + 1, sizeof(**out))))
        ok = fail(error, error_size, domain, "out of memory");
    for (int i = 0; i < n; i++) {
        char *text = ok ? dns_snap_noted(conf, domain, names[i]->d_name) : NULL;
        if (ok) {
            struct dns_snap *snap = &(*out)[(*count)++];
            snprintf(snap->name, sizeof(snap->name), "%.*s",
                     (int)(strlen(names[i]->d_name) - strlen(SUFFIX)), names[i]->d_name);
            const char *wrong = text ? dns_snap_parse(text, snap)
                                     : "cannot be read, or somebody else may have "
                                       "written it: chown it and chmod go-w, or";
            if (wrong) {
                snprintf(error, error_size, "%s/%s %s%s move it out of there", path,
                         names[i]->d_name, wrong, text ? ":" : "");
                ok = false;
            }
        }
        free(text);
        free(names[i]);
    }
    free(names);
    if (!ok) {
        dns_snap_free_all(*out, *count);
        *out = NULL;
        *count = 0;
    }
    return ok;
}
