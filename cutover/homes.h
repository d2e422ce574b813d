/*
 * homes: looks up the homes of a list of mailboxes, in batches.
 */
#ifndef SLUICE_HOMES_H
#define SLUICE_HOMES_H

#include <stdbool.h>
#include <stddef.h>

#include "command.h"

/* home->listed is false for a mailbox that is not listed (home is then its
 * domain's). false: stop. */
typedef bool homes_fn(void *data, size_t index, const struct home *home);

/* The homes of exactly these mailboxes of a configured domain (local "": the
 * domain's own record), in order. false: the store failed, a message was
 * printed. */
bool homes_look_up(struct command_context *context, const char *domain,
                   char *const *locals, size_t count, homes_fn *each, void *data);

#endif
