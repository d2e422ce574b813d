/*
 * socketmap: the lookup tables that this host's MTA asks (socketmap_table(5)):
 * what a key and a verdict make of a reply. Pure; the framing is
 * lib/netstring.h, the listener's part is I/O.
 *
 * A request is "<map> <key>", a reply "OK <value>", "NOTFOUND ", "TEMP <why>"
 * or "PERM <why>".
 */
#ifndef SLUICE_POLICYD_SOCKETMAP_H
#define SLUICE_POLICYD_SOCKETMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "route.h"

/* An address and a word before it. */
#define SOCKETMAP_REPLY_MAX (ADDR_TEXT_MAX + 64)

struct socketmap_map; /* one table of socketmap.c */

struct socketmap_request {
    const struct socketmap_map *map; /* NULL: no such map */
    const char *key;
    size_t key_len;
};

/* false: there is no "<map> <key>" in it: close. key points into payload. */
bool socketmap_parse(const char *payload, size_t len, struct socketmap_request *out);

/* true: route is prepared, and a lookup decides (then socketmap_answer()).
 * false: reply is the answer already, without a lookup. now: seconds since 1970. */
bool socketmap_wants_lookup(const struct socketmap_request *request,
                            const struct conf *conf, int64_t now, struct route *route,
                            char reply[SOCKETMAP_REPLY_MAX]);

/* The reply to a finished route. */
void socketmap_answer(const struct socketmap_map *map, const struct route *route,
                      char reply[SOCKETMAP_REPLY_MAX]);

#endif
