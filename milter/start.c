/*
 * start: limits, privileges, socket path.
 *
 * A second instance on the same socket would take half of the connections and
 * none of the blame, so the path is claimed with a lock file, which the kernel
 * frees with the process, and a socket that answers is left alone even if no
 * lock is held.
 */
#include "config.h"

#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

#define FILES_WANTED 65536

void start_raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    rlim_t wanted = FILES_WANTED;
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < wanted)
        wanted = limit.rlim_max;
    if (limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_warn("cannot raise the limit of open files to %ju", (uintmax_t)wanted);
}

static bool find_group(const struct conf *conf, gid_t *gid, char *error,
                       size_t error_size)
{
    errno = 0;
    const struct group *group = getgrnam(conf->group);
    if (group) {
        *gid = group->gr_gid;
        return true;
    }
    snprintf(error, error_size,
             "group \"%s\" does not exist: groupadd it, or set "
             "\"group\" in %s",
             conf->group, conf->path);
    return false;
}

bool start_drop_privileges(const struct conf *conf, char *error, size_t error_size)
{
    gid_t gid;
    if (geteuid() != 0)
        return true;
    const struct passwd *user = getpwnam(conf->user);
    if (!user) {
        snprintf(error, error_size,
                 "user \"%s\" does not exist: useradd it, or set "
                 "\"user\" in %s",
                 conf->user, conf->path);
        return false;
    }
    uid_t uid = user->pw_uid;
    if (!find_group(conf, &gid, error, error_size))
        return false;
    if (initgroups(conf->user, user->pw_gid) != 0 || setresgid(gid, gid, gid) != 0 ||
        setresuid(uid, uid, uid) != 0) {
        snprintf(error, error_size, "cannot become user \"%s\": %s", conf->user,
                 strerror(errno));
        return false;
    }
    if (uid != 0 && setuid(0) == 0) {
        snprintf(error, error_size, "user \"%s\" could become root again", conf->user);
        return false;
    }
    return true;
}

static bool take_lock(const char *path, int *lock_fd, char *error, size_t error_size)
{
    char lock[PATH_MAX];
    int len = snprintf(lock, sizeof(lock), "%s.lock", path);
    if (len < 0 || (size_t)len >= sizeof(lock)) {
        snprintf(error, error_size, "%s: the path is too long", path);
        return false;
    }
    *lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*lock_fd < 0) {
        snprintf(error, error_size,
                 "%s: %s: its directory must exist and belong to "
                 "the user of sluice-milter",
                 lock, strerror(errno));
        return false;
    }
    if (flock(*lock_fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    snprintf(error, error_size, "%s: another sluice-milter is listening there", path);
    close(*lock_fd);
    *lock_fd = -1;
    return false;
}

/* Whether somebody answers at the socket: the errno of the attempt. */
static int try_connect(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    int result = 0;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0)
        result = errno;
    close(fd);
    return result;
}

static bool remove_stale(const char *path, char *error, size_t error_size)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct stat status;
    if (lstat(path, &status) != 0 && errno == ENOENT)
        return true;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int result = try_connect(&address);
    if (!S_ISSOCK(status.st_mode))
        snprintf(error, error_size, "%s: is there, and is not a socket", path);
    else if (result == 0 || result == EAGAIN)
        snprintf(error, error_size, "%s: another program is listening there", path);
    else if (result != ECONNREFUSED)
        snprintf(error, error_size, "%s: %s", path, strerror(result));
    else if (unlink(path) != 0)
        snprintf(error, error_size, "%s: cannot remove the stale socket: %s", path,
                 strerror(errno));
    else
        return true;
    return false;
}

bool start_claim_socket(const char *path, int *lock_fd, char *error, size_t error_size)
{
    struct sockaddr_un address;
    if (strlen(path) >= sizeof(address.sun_path)) {
        snprintf(error, error_size, "%s: the path of a socket has at most %zu bytes",
                 path, sizeof(address.sun_path) - 1);
        return false;
    }
    return take_lock(path, lock_fd, error, error_size) &&
           remove_stale(path, error, error_size);
}

bool start_open_socket(const struct conf *conf, const char *path, char *error,
                       size_t error_size)
{
    gid_t gid;
    if (!find_group(conf, &gid, error, error_size))
        return false;
    if (chown(path, (uid_t)-1, gid) != 0) {
        snprintf(error, error_size, "%s: cannot give it to group \"%s\": %s", path,
                 conf->group, strerror(errno));
        return false;
    }
    if (chmod(path, 0660) != 0) {
        snprintf(error, error_size, "%s: cannot set mode 0660: %s", path,
                 strerror(errno));
        return false;
    }
    return true;
}
