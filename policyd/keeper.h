/*
 * keeper: policyd's second thread, which keeps this host's promises.
 *
 * It reads the events of the store, journals each before anything else,
 * carries the fence of every lock through (fence.h), releases held mail
 * (release.h), and writes the host's record (heartbeat, fenced epoch, queue
 * figures). It has a blocking store handle of its own, and is the only user of
 * the journal and of the queue helper.
 */
#ifndef SLUICE_POLICYD_KEEPER_H
#define SLUICE_POLICYD_KEEPER_H

#include <stdbool.h>

#include "conf.h"
#include "helper.h"
#include "store.h"

struct keeper;
struct lookups; /* lookup.h */

/* Starts the thread; conf is referenced; helper and lookups must outlive the
 * keeper. Call it after privileges were dropped (the journal belongs to
 * conf->user). NULL: logged. */
struct keeper *keeper_start(struct conf *conf, struct helper *helper,
                            struct lookups *lookups);
/* The new configuration, from the next turn on. From the main thread. */
void keeper_reload(struct keeper *keeper, struct conf *conf);
/* Ends the thread (within about a second) and frees. */
void keeper_stop(struct keeper *keeper);

/* Readable (poll it, do not read it) once the keeper cannot go on: the queue
 * helper has died. policyd then ends with exit code 75, so that the service
 * manager starts both anew. */
int keeper_failed_fd(const struct keeper *keeper);

/* This host's record as last written, for the status page. Thread-safe. */
void keeper_host(struct keeper *keeper, struct host *out);

#endif
