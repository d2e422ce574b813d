/*
 * conf_value: how the values of sluice.conf are written. Pure functions, used
 * by conf.c alone.
 */
#ifndef SLUICE_CONF_VALUE_H
#define SLUICE_CONF_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "conf.h"

/* "90", "90s", "15m", "1h", "2d"; from one second to 30 days. */
bool conf_duration(const char *text, int *seconds);

struct conf_host_port {
    char host[ADDR_DOMAIN_MAX + 1]; /* canonical, without brackets */
    uint16_t port;                  /* 0: not given */
    bool brackets;
};

/* Reads "[host]:port", "host:port" or either without port. Returns what is
 * wrong with it ("has no host"), or NULL. */
const char *conf_host_port(const char *text, struct conf_host_port *out);

/* Whether host is an IPv4 or IPv6 address. */
bool conf_is_address(const char *host);

/* Reads "192.0.2.1", "192.0.2.1:5353", "2001:db8::1" or "[2001:db8::1]:53". As
 * above. */
const char *conf_server(const char *text, struct conf_server *out);
/* Reads "zone=server"; zone comes out canonical. */
const char *conf_stub(const char *text, char zone[ADDR_DOMAIN_MAX + 1],
                      struct conf_server *server);

#endif
