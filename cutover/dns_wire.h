/*
 * dns_wire: carries one DNS message to a server and its answer back.
 */
#ifndef SLUICE_DNS_WIRE_H
#define SLUICE_DNS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netaddr.h"

#define DNS_WIRE_MAX 65535

enum dns_wire_result {
    DNS_WIRE_DONE,
    DNS_WIRE_UNSENT, /* nothing went out: no connection, no socket */
    DNS_WIRE_SILENT, /* sent, and no (whole) answer within the time */
};

/* By UDP or TCP. An answer has the query's id and the response bit; others are
 * passed over. answer: DNS_WIRE_MAX bytes. The limit holds for everything
 * together. error: one phrase, unless DONE. */
enum dns_wire_result dns_wire_ask(const struct netaddr *address, uint16_t port, bool tcp,
                                  const uint8_t *query, size_t query_len, int timeout_ms,
                                  uint8_t *answer, size_t *answer_len, char *error,
                                  size_t error_size);

/* Whether this host has a way to the address's family at all (no packet is sent). */
bool dns_wire_route(const struct netaddr *address);

#endif
