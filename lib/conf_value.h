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

#endif
