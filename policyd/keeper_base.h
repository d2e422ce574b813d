/*
 * keeper_base: a host's starting point in the history. Private to the keeper.
 */
#ifndef SLUICE_POLICYD_KEEPER_BASE_H
#define SLUICE_POLICYD_KEEPER_BASE_H

#include <stdbool.h>
#include <stddef.h>

#include "journal.h"
#include "store.h"

enum base { BASE_TAKEN, BASE_NOT_INITIALISED, BASE_FAILED };

/* Replaces the journal by EVENT_BASE records of all that the store holds: homes
 * by domain, and the hosts (domain "", lines "<name><TAB><side>"). The position
 * is read first: homes may be newer, and the events after it, which set
 * absolute values, are simply applied again. each() gets every record once the
 * journal has them. error is set unless BASE_TAKEN. */
enum base keeper_base(struct store *store, struct journal *journal,
                      void (*each)(void *context, const struct event *event),
                      void *context, char *error, size_t error_size);

#endif
