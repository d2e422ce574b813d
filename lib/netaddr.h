/*
 * netaddr: IP addresses and blocks of them. An IPv4-mapped IPv6 address is the
 * IPv4 address everywhere. No I/O.
 */
#ifndef SLUICE_NETADDR_H
#define SLUICE_NETADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define NETADDR_TEXT_MAX 45 /* without the NUL */

struct netaddr {
    int family; /* AF_INET, AF_INET6, AF_UNSPEC: none or not known */
    unsigned char bytes[16]; /* network order; 4 of them for AF_INET */
};

struct netblock {
    struct netaddr base;
    int bits;
};

/* NULL and families other than these two: AF_UNSPEC. */
void netaddr_from_sockaddr(const struct sockaddr *address, struct netaddr *out);
/* "192.0.2.1" or "2001:db8::1", nothing around it. */
bool netaddr_parse(const char *text, size_t len, struct netaddr *out);
/* "" for AF_UNSPEC. Returns out. */
const char *netaddr_format(const struct netaddr *addr, char out[NETADDR_TEXT_MAX + 1]);
bool netaddr_equal(const struct netaddr *a, const struct netaddr *b);
bool netaddr_is_loopback(const struct netaddr *addr); /* 127/8, ::1 */

/* "10.0.0.0/8", "2001:db8::/32", or an address alone. Bits below the prefix
 * must be 0. */
bool netblock_parse(const char *text, struct netblock *out);
bool netblock_has(const struct netblock *block, const struct netaddr *addr);

#endif
