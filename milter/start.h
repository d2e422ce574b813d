/*
 * start: what the milter does before it listens: limits, privileges, and a
 * socket path that is surely its own.
 */
#ifndef SLUICE_MILTER_START_H
#define SLUICE_MILTER_START_H

#include <stdbool.h>
#include <stddef.h>

#include "conf.h"

/* As many open files as the system grants: each of the MTA's processes that
 * receive mail keeps a connection. */
void start_raise_limits(void);

/* From root to the configured user: initgroups, the configured group as the
 * primary one. Not started as root: nothing. false: error names the trouble. */
bool start_drop_privileges(const struct conf *conf, char *error, size_t error_size);

/* Makes a unix socket's path free: takes a lock beside it (<path>.lock, held
 * by *lock_fd until the process ends) and removes a socket that nobody listens
 * on. false: somebody else has it, or the path is no good. */
bool start_claim_socket(const char *path, int *lock_fd, char *error, size_t error_size);

/* Group and mode 0660 of the socket that now exists. */
bool start_open_socket(const struct conf *conf, const char *path, char *error,
                       size_t error_size);

#endif
