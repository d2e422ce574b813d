/*
 * auth_row: how the figures of one sending host (struct auth_row in store.h) are
 * written down, and added. No I/O.
 *
 * Field: "<client> <envelope>"
 * Value: "<messages> <would fail> <first> <last> <counts> <helo>", where counts
 * is "-" or pairs of letters with a number, "sp12dp11df1mp12": s SPF, d DKIM, m
 * DMARC; the second letter is the result's (auth_row.c). lua/auth.lua adds them.
 *
 * HELO and envelope domain come from anybody: they are bounded, and whatever is
 * not a printing ASCII character is '?' in them.
 */
#ifndef SLUICE_AUTH_ROW_H
#define SLUICE_AUTH_ROW_H

#include <stdbool.h>
#include <stddef.h>

#include "addr.h"
#include "netaddr.h"
#include "store.h"

#define AUTH_HELO_MAX   100 /* longer: cut, and ends with "..." */
#define AUTH_FIELD_MAX  (NETADDR_TEXT_MAX + 1 + ADDR_DOMAIN_MAX)
#define AUTH_COUNTS_MAX (3 * AUTH_RESULTS * (2 + 20))
#define AUTH_VALUE_MAX  (4 * 21 + AUTH_COUNTS_MAX + 1 + AUTH_HELO_MAX)

void auth_row_helo(const char *helo, char out[AUTH_HELO_MAX + 1]);
void auth_row_field(const struct auth_row *row, char out[AUTH_FIELD_MAX + 1]);
void auth_row_counts(const struct auth_row *row, char out[AUTH_COUNTS_MAX + 1]);
void auth_row_value(const struct auth_row *row, char out[AUTH_VALUE_MAX + 1]);
/* Cuts both texts (changed, and pointed into) into the parts of out. Counts of a
 * kind that is not known are left out. */
bool auth_row_decode(char *field, char *value, struct auth_row *out);
/* Adds the figures, and the times; texts stay. */
void auth_row_add(struct auth_row *to, const struct auth_row *from);

#endif
