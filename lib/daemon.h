/*
 * daemon: what the milter and policyd have in common before they serve: limits,
 * privileges, and a path for a socket that is surely theirs. Errors are one line
 * that names the thing and the way out.
 */
#ifndef SLUICE_DAEMON_H
#define SLUICE_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

#include "conf.h"

/* As many open files as the system grants: each of the MTA's processes that
 * handle mail keeps a connection. Returns the limit that holds now. */
size_t daemon_raise_files(void);

struct daemon_identity {
    uid_t uid;
    gid_t own_gid; /* the user's primary group */
    gid_t gid;     /* the configured group; (gid_t)-1: not ours to give */
};

/* Who the configuration says to be. Started as root, user and group must exist;
 * else the process stays who it is, and gid is set if it is a member. */
bool daemon_identity(const struct conf *conf, struct daemon_identity *out, char *error,
                     size_t error_size);

/* From root to that identity: the configured group is the primary one, the
 * user's own groups are the supplementary ones. Not root: nothing. */
bool daemon_become(const struct conf *conf, const struct daemon_identity *identity,
                   char *error, size_t error_size);

/* Makes way for a new unix socket at path, whose address is *out: what is there
 * is removed if it is a socket that refuses connections, so that nobody listens. */
bool daemon_clear_path(const char *path, struct sockaddr_un *out, char *error,
                       size_t error_size);

#endif
