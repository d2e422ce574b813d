/*
 * resolver_setup: a libunbound context from the configuration; the resolver's
 * alone.
 */
#ifndef SLUICE_MILTER_RESOLVER_SETUP_H
#define SLUICE_MILTER_RESOLVER_SETUP_H

#include <stddef.h>

#include "conf.h"

struct ub_ctx;

/* Ready to be asked from any thread. NULL: error is one line. */
struct ub_ctx *resolver_setup(const struct conf_auth *auth, char *error,
                              size_t error_size);

#endif
