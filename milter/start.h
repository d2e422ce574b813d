/*
 * start: a socket path that is surely the milter's own. (Limits and privileges:
 * lib/daemon.h.)
 */
#ifndef SLUICE_MILTER_START_H
#define SLUICE_MILTER_START_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Makes a unix socket's path free: takes a lock beside it (<path>.lock, held
 * by *lock_fd until the process ends) and removes a socket that nobody listens
 * on. false: somebody else has it, or the path is no good. */
bool start_claim_socket(const char *path, int *lock_fd, char *error, size_t error_size);

/* Group ((gid_t)-1: as it is) and mode 0660 of the socket that now exists. */
bool start_open_socket(const char *path, gid_t gid, char *error, size_t error_size);

#endif
