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

/* Who sends as a managed domain is counted from here on, and handed to the
 * store by a thread of its own; end hands over the rest. To be called before the
 * first pool with a verifier is used, and any number of times. false: no memory,
 * or no threads. */
bool callbacks_start_tally(void);
void callbacks_end_tally(void);

/* Waits for messages that are just being decided, at most so long. */
void callbacks_drain(int seconds);

#endif
