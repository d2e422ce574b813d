/*
 * daemon: limits, privileges, socket paths (daemon.h).
 *
 * Nothing here is for threads: all of it is done before there are any.
 */
#include "config.h"

#include "daemon.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

#define FILES_WANTED 65536
#define FILES_LEAST  1024 /* POSIX' usual limit, when none can be read */
#define GROUPS_MOST  256

__attribute__((format(printf, 3, 4))) static bool fail(char *error, size_t size,
                                                       const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(error, size, fmt, args) < 0 && size > 0)
        error[0] = '\0';
    va_end(args);
    return false;
}

size_t daemon_raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return FILES_LEAST;
    rlim_t before = limit.rlim_cur, wanted = FILES_WANTED;
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < wanted)
        wanted = limit.rlim_max;
    if (before != RLIM_INFINITY && before < wanted) {
        limit.rlim_cur = wanted;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
            log_warn("cannot raise the limit of open files to %ju", (uintmax_t)wanted);
            limit.rlim_cur = before;
        }
    }
    return limit.rlim_cur > SIZE_MAX ? SIZE_MAX : (size_t)limit.rlim_cur;
}

/* ---- privileges ---------------------------------------------------------- */

static bool in_group(gid_t gid)
{
    gid_t groups[GROUPS_MOST];
    int n = getgroups(GROUPS_MOST, groups);
    for (int i = 0; i < n; i++)
        if (groups[i] == gid)
            return true;
    return getegid() == gid;
}

static bool fail_missing(const struct conf *conf, const char *what, const char *name,
                         char *error, size_t error_size)
{
    return fail(error, error_size,
                "%s: %s \"%s\" does not exist on this host: create it (%sadd) or name "
                "another",
                conf->path, what, name, what);
}

bool daemon_identity(const struct conf *conf, struct daemon_identity *out, char *error,
                     size_t error_size)
{
    const struct passwd *user = getpwnam(conf->user);
    const struct group *group = getgrnam(conf->group);
    bool root = geteuid() == 0;
    if (root && !user)
        return fail_missing(conf, "user", conf->user, error, error_size);
    if (root && !group)
        return fail_missing(conf, "group", conf->group, error, error_size);
    out->uid = root ? user->pw_uid : geteuid();
    out->own_gid = root ? user->pw_gid : getegid();
    out->gid = group && (root || in_group(group->gr_gid)) ? group->gr_gid : (gid_t)-1;
    if (out->gid == (gid_t)-1)
        log_warnx("not a member of group \"%s\": the sockets keep their group",
                  conf->group);
    return true;
}

bool daemon_become(const struct conf *conf, const struct daemon_identity *identity,
                   char *error, size_t error_size)
{
    if (geteuid() != 0)
        return true;
    if (initgroups(conf->user, identity->own_gid) != 0 ||
        setresgid(identity->gid, identity->gid, identity->gid) != 0 ||
        setresuid(identity->uid, identity->uid, identity->uid) != 0)
        return fail(error, error_size, "cannot become user \"%s\": %s", conf->user,
                    strerror(errno));
    if (identity->uid != 0 && setuid(0) == 0)
        return fail(error, error_size, "user \"%s\" could become root again", conf->user);
    return true;
}

/* ---- socket paths -------------------------------------------------------- */

/* What connect(2) says: 0, or its errno. */
static int try_connect(const struct sockaddr_un *at)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    int result = 0;
    if (connect(fd, (const struct sockaddr *)at, sizeof(*at)) != 0)
        result = errno;
    close(fd);
    return result;
}

bool daemon_clear_path(const char *path, struct sockaddr_un *out, char *error,
                       size_t error_size)
{
    struct stat found;
    size_t len = strlen(path);
    memset(out, 0, sizeof(*out));
    out->sun_family = AF_UNIX;
    if (len == 0 || len >= sizeof(out->sun_path))
        return fail(error, error_size,
                    "%s: a socket path has at most %zu bytes: choose a shorter one", path,
                    sizeof(out->sun_path) - 1);
    memcpy(out->sun_path, path, len + 1);
    if (lstat(path, &found) != 0)
        return errno == ENOENT ||
               fail(error, error_size, "%s: %s", path, strerror(errno));
    if (!S_ISSOCK(found.st_mode))
        return fail(error, error_size, "%s is there and is not a socket: remove it",
                    path);
    int result = try_connect(out);
    if (result == 0 || result == EAGAIN || result == EINPROGRESS)
        return fail(error, error_size,
                    "%s: another program listens there: is it running already?", path);
    if (result != ECONNREFUSED)
        return fail(error, error_size, "%s: cannot tell whether somebody listens: %s",
                    path, strerror(result));
    if (unlink(path) != 0 && errno != ENOENT)
        return fail(error, error_size, "%s: cannot remove the stale socket: %s", path,
                    strerror(errno));
    return true;
}
