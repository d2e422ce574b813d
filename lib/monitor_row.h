/*
 * monitor_row: the last verdict of `sluice monitor` on one host, as Redis keeps it:
 * hash "sluice:monitors", field the host, value
 *
 *   <when> <state> <begins> <last> <waiting> <stuck> <quiet-for> <text>
 *   <domain> <last> <waiting>          one line for each domain with floaters
 *
 * Pure.
 */
#ifndef SLUICE_MONITOR_ROW_H
#define SLUICE_MONITOR_ROW_H

#include <stdbool.h>
#include <stddef.h>

#include "store.h"

#define MONITOR_FIELD_MAX   HOST_NAME_MAX_LEN
#define MONITOR_TEXT_MAX    400
#define MONITOR_DOMAINS_MAX 200 /* those of the latest floaters; "*" is all others */
#define MONITOR_VALUE_MAX   (MONITOR_TEXT_MAX + 200 + MONITOR_DOMAINS_MAX * 310)

/* false: no host name, or a domain that is none. A text that is too long is cut; what is
 * no printable ASCII becomes '?'. value has room for MONITOR_VALUE_MAX + 1. */
bool monitor_row_encode(const struct monitor_row *row, char *value);
/* Cuts the value up; row points into it and into domains, which has room for
 * MONITOR_DOMAINS_MAX. false: nobody wrote this. */
bool monitor_row_decode(char *value, struct monitor_domain *domains,
                        struct monitor_row *row);

#endif
