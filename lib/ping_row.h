/*
 * ping_row: the last result of one path of `sluice ping` on one host, as Redis
 * keeps it: hash "sluice:pings", field "<host> <path>", value "<when> <state>
 * <connected> <accepted> <arrived> <text>". Pure.
 */
#ifndef SLUICE_PING_ROW_H
#define SLUICE_PING_ROW_H

#include <stdbool.h>
#include <stddef.h>

#include "store.h"

#define PING_FIELD_MAX 320 /* a host name, a blank, a path's name */
#define PING_TEXT_MAX  400
#define PING_VALUE_MAX (PING_TEXT_MAX + 120)

/* false: a name is too long, or no name. */
bool ping_row_field(const struct ping_row *row, char out[PING_FIELD_MAX + 1]);
/* A text that is too long is cut; what is no printable ASCII becomes '?'. */
void ping_row_value(const struct ping_row *row, char out[PING_VALUE_MAX + 1]);
/* Whether nobody asks for the row any more: it is PING_FORGET_S old, or this host no
 * longer has a section of its name (for an hour, which another configuration file may
 * need to come round). */
#define PING_FORGET_S   (7 * 86400)
#define PING_UNNAMED_S  3600
bool ping_row_forgotten(const struct ping_row *row, const struct conf *conf, int64_t now);
/* Cuts field and value up; row points into both. false: nobody wrote this. */
bool ping_row_decode(char *field, char *value, struct ping_row *row);

#endif
