/*
 * orgdomain: organisational domains from the public suffix list (libpsl, the
 * list of Debian's package publicsuffix). orgdomain.c alone knows libpsl.
 */
#ifndef SLUICE_MILTER_ORGDOMAIN_H
#define SLUICE_MILTER_ORGDOMAIN_H

#include <stdbool.h>

#include "addr.h"

struct suffixes;

/* NULL: no list is to be had. */
struct suffixes *suffixes_new(void);
void suffixes_free(struct suffixes *suffixes);

/* RFC 7489 3.2: the public suffix and one label. For a name that is a public
 * suffix itself, or has no dot: the name. Names are canonical (addr_domain()). */
void suffixes_organisation(const struct suffixes *suffixes, const char *domain,
                           char out[ADDR_DOMAIN_MAX + 1]);
bool suffixes_is_public(const struct suffixes *suffixes, const char *domain);

#endif
