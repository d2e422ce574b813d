/*
 * callbacks: the milter as libmilter sees it. The only file, with main.c, that
 * knows libmilter.
 */
#ifndef SLUICE_MILTER_CALLBACKS_H
#define SLUICE_MILTER_CALLBACKS_H

#include <stdbool.h>

#include "pool.h"

/* Registers the filter and sets connection, time limit and backlog. What does
 * not work is named in *error. */
bool callbacks_register(const struct conf_endpoint *listen, const char **error);

/* The configuration that new messages take. Takes over the reference; the old
 * one goes with the last message that uses it. NULL at the end. */
void callbacks_use(struct pool *pool);

/* Waits for messages that are just being decided, at most so long. */
void callbacks_drain(int seconds);

#endif
