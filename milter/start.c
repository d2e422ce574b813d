/*
 * start: the milter's socket path.
 *
 * A second instance on the same socket would take half of the connections and
 * none of the blame, so the path is claimed with a lock file, which the kernel
 * frees with the process (libmilter removes whatever socket is there), and a
 * socket that answers is left alone even if no lock is held.
 */
#include "config.h"

#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon.h"

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

bool start_claim_socket(const char *path, int *lock_fd, char *error, size_t error_size)
{
    struct sockaddr_un address;
    return take_lock(path, lock_fd, error, error_size) &&
           daemon_clear_path(path, &address, error, error_size);
}

bool start_open_socket(const char *path, gid_t gid, char *error, size_t error_size)
{
    if (chown(path, (uid_t)-1, gid) != 0) {
        snprintf(error, error_size, "%s: cannot give it to group %lu: %s", path,
                 (unsigned long)gid, strerror(errno));
        return false;
    }
    if (chmod(path, 0660) != 0) {
        snprintf(error, error_size, "%s: cannot set mode 0660: %s", path,
                 strerror(errno));
        return false;
    }
    return true;
}
