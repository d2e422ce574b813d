/*
 * dns_ldns: what the two files that know ldns share, dns_ask.c and dns_update.c.
 */
#ifndef SLUICE_DNS_LDNS_H
#define SLUICE_DNS_LDNS_H

#include <ldns/ldns.h>

#include "dns_ask.h"
#include "dns_wire.h"

ldns_rr_type dns_ldns_type(enum dns_type type);
/* Writes the error and returns false. */
__attribute__((format(printf, 2, 3))) bool dns_fail(char error[DNS_ERROR_MAX],
                                                    const char *fmt, ...);
/* One message and its answer, as a packet too; NULL: error says why. answer has
 * DNS_WIRE_MAX bytes. */
enum dns_wire_result dns_exchange(const struct dns_server *server, bool tcp,
                                  const uint8_t *query, size_t query_len, int timeout_ms,
                                  ldns_pkt **packet, uint8_t *answer, size_t *answer_len,
                                  char error[DNS_ERROR_MAX]);

#endif
