/*
 * listener: the sockets that policyd listens on, and their accept loops.
 */
#ifndef SLUICE_POLICYD_LISTENER_H
#define SLUICE_POLICYD_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "conf.h"
#include "conn.h"

struct event_base;
struct listener;

/* A listening socket at a configured endpoint; key names it in errors
 * ("policyd.policy"). A unix socket gets mode 0660 and the group; a stale one
 * is removed only when nobody listens on it. -1: error is one line. */
int listener_socket(const struct conf_endpoint *at, const char *key, gid_t group,
                    char *error, size_t error_size);

/* Whether a listening socket can be reached from this host alone, whatever the
 * configuration calls it: a unix socket, or a loopback address. */
bool listener_is_local(int fd);

/* Accepts clients of fd (taken over) for a service, at most max connections in
 * all services together. NULL: no memory. */
struct listener *listener_new(struct event_base *base, struct conns *conns,
                              const struct service *service, int fd, size_t max);
/* Closes the socket. NULL is fine. */
void listener_free(struct listener *listener);

#endif
