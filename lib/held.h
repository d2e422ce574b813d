/*
 * held: how the record of a held message is written down, and this host's own
 * copy of it.
 *
 * A held message belongs to sluice only if sluice has a record of it. Redis
 * shows the records to everybody, but it may lose its last second, or all; so
 * each host keeps its own ones on its disk too, one file per message in
 * <state-dir>/held, named by the queue id. A record is written here before it
 * goes to Redis, and policyd puts into Redis again what is missing there.
 *
 * Text:  <kind> <since> <gone since>\n<sender>\n<recipients, separated by LF>
 * where kind is l for a lock's, x for a loop's, d for DMARC's. Times are unix seconds.
 */
#ifndef SLUICE_HELD_H
#define SLUICE_HELD_H

#include <stdbool.h>
#include <stddef.h>

#include "conf.h"
#include "store.h"

/* The text, malloc'ed; NULL: out of memory. Control characters of the sender
 * (it comes from the network) become '?'. */
char *held_encode(const struct held *held, size_t *len);
/* Cuts text (changed, and pointed into) into the parts of out. */
bool held_decode(const char *queue_id, size_t id_len, char *text, struct held *out);

/* On the disk when it returns true. false: error names the file and why. */
bool held_spool_put(const struct conf *conf, const struct held *held, char *error,
                    size_t error_size);
/* Gone is gone. false: errno. */
bool held_spool_drop(const struct conf *conf, const char *queue_id);
/* Calls each() for every record; a damaged one is named in the log, and kept.
 * No directory: no records. false: unreadable (error), or each() stopped it
 * (error is ""). */
bool held_spool_each(const struct conf *conf, store_held_fn *each, void *context,
                     char *error, size_t error_size);

#endif
