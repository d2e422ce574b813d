/*
 * conn: the connections of policyd's clients: input, requests in order, output.
 * Everything runs on the thread of the loop.
 */
#ifndef SLUICE_POLICYD_CONN_H
#define SLUICE_POLICYD_CONN_H

#include <stdbool.h>
#include <stddef.h>

#include "conf.h"

struct event_base;
struct lookups;
struct conns;

/* The protocol that a connection speaks. */
struct service;
extern const struct service service_policy, service_map;

/* conf is referenced; lookups must outlive the connections. NULL: no memory. */
struct conns *conns_new(struct event_base *base, struct conf *conf,
                        struct lookups *lookups);
/* Closes all. lookups_free() comes after this. NULL is fine. */
void conns_free(struct conns *conns);
/* For requests from now on; those in flight end with the old one. */
void conns_reload(struct conns *conns, struct conf *conf);

/* Takes fd over (non-blocking, close-on-exec). false: no memory, fd closed. */
bool conns_add(struct conns *conns, const struct service *service, int fd);
size_t conns_count(const struct conns *conns);

/* Reads no more, closes what waits for nothing, answers the rest; done() is
 * called when the last connection has gone, perhaps at once. */
void conns_drain(struct conns *conns, void (*done)(void *context), void *context);

#endif
