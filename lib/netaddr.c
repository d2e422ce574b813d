/*
 * IP addresses and blocks. The text forms are those of inet_pton(3): dotted
 * quads without leading zeroes, RFC 4291 2.2 for IPv6, no zone. What is mapped
 * (RFC 4291 2.5.5.2, ::ffff:a.b.c.d) becomes IPv4 on every way in, so that a
 * comparison never meets two forms of one address.
 */
#include "netaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static const unsigned char mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static void set_v4(struct netaddr *out, const void *bytes)
{
    memset(out, 0, sizeof(*out));
    out->family = AF_INET;
    memcpy(out->bytes, bytes, 4);
}

static void set_v6(struct netaddr *out, const unsigned char bytes[16])
{
    if (memcmp(bytes, mapped, sizeof(mapped)) == 0) {
        set_v4(out, bytes + sizeof(mapped));
        return;
    }
    out->family = AF_INET6;
    memcpy(out->bytes, bytes, 16);
}

void netaddr_from_sockaddr(const struct sockaddr *address, struct netaddr *out)
{
    memset(out, 0, sizeof(*out));
    out->family = AF_UNSPEC;
    if (!address)
        return;
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof(in));
        set_v4(out, &in.sin_addr);
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof(in6));
        set_v6(out, in6.sin6_addr.s6_addr);
    }
}

/* The address as it is written: its family and bytes, mapped or not. */
static int parse_bytes(const char *text, size_t len, unsigned char bytes[16])
{
    char copy[NETADDR_TEXT_MAX + 1];

    if (len == 0 || len > NETADDR_TEXT_MAX || memchr(text, '\0', len))
        return AF_UNSPEC;
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (inet_pton(AF_INET, copy, bytes) == 1)
        return AF_INET;
    return inet_pton(AF_INET6, copy, bytes) == 1 ? AF_INET6 : AF_UNSPEC;
}

static void set(struct netaddr *out, int family, const unsigned char bytes[16])
{
    if (family == AF_INET)
        set_v4(out, bytes);
    else
        set_v6(out, bytes);
}

bool netaddr_parse(const char *text, size_t len, struct netaddr *out)
{
    unsigned char bytes[16];
    int family = parse_bytes(text, len, bytes);

    memset(out, 0, sizeof(*out));
    out->family = AF_UNSPEC;
    if (family == AF_UNSPEC)
        return false;
    set(out, family, bytes);
    return true;
}

const char *netaddr_format(const struct netaddr *addr, char out[NETADDR_TEXT_MAX + 1])
{
    out[0] = '\0';
    if (addr->family == AF_INET || addr->family == AF_INET6) {
        if (!inet_ntop(addr->family, addr->bytes, out, NETADDR_TEXT_MAX + 1))
            out[0] = '\0';
    }
    return out;
}

static size_t width(const struct netaddr *addr)
{
    return addr->family == AF_INET ? 4 : addr->family == AF_INET6 ? 16 : 0;
}

bool netaddr_equal(const struct netaddr *a, const struct netaddr *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, width(a)) == 0;
}

bool netaddr_is_loopback(const struct netaddr *addr)
{
    static const unsigned char loopback6[16] = { [15] = 1 };

    if (addr->family == AF_INET)
        return addr->bytes[0] == 127;
    return addr->family == AF_INET6 &&
           memcmp(addr->bytes, loopback6, sizeof(loopback6)) == 0;
}

/* 1 to 3 digits, no sign, no leading zero, at most max. -1: not that. */
static int parse_bits(const char *text, int max)
{
    int bits = 0;
    size_t len = strlen(text);

    if (len == 0 || len > 3 || (text[0] == '0' && len > 1))
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        bits = bits * 10 + (*text - '0');
    }
    return bits <= max ? bits : -1;
}

/* Whether the first bits of a and b are the same. */
static bool same_prefix(const unsigned char *a, const unsigned char *b, int bits)
{
    size_t whole = (size_t)bits / 8;
    unsigned mask = (0xff00U >> (bits % 8)) & 0xff;

    if (memcmp(a, b, whole) != 0)
        return false;
    return mask == 0 || ((a[whole] ^ b[whole]) & mask) == 0;
}

/* Whether all bits after the first ones are 0. */
static bool zero_after(const unsigned char *bytes, int bits, int total)
{
    static const unsigned char zero[16];
    unsigned char rest[16];
    size_t whole = (size_t)bits / 8, len = (size_t)total / 8;

    memcpy(rest, bytes, len);
    memset(rest, 0, whole);
    if (bits % 8 != 0)
        rest[whole] &= (unsigned char)(0xffU >> (bits % 8));
    return memcmp(rest, zero, len) == 0;
}

bool netblock_parse(const char *text, struct netblock *out)
{
    const char *slash = strchr(text, '/');
    unsigned char bytes[16];
    int family = parse_bytes(text, slash ? (size_t)(slash - text) : strlen(text), bytes);
    int total = family == AF_INET ? 32 : 128;

    memset(out, 0, sizeof(*out));
    out->base.family = AF_UNSPEC;
    if (family == AF_UNSPEC)
        return false;
    int bits = slash ? parse_bits(slash + 1, total) : total;
    if (bits < 0 || !zero_after(bytes, bits, total))
        return false;
    set(&out->base, family, bytes);
    /* A mapped base has bits up to the 96th set, so its prefix is no shorter. */
    out->bits = out->base.family == family ? bits : bits - 96;
    return true;
}

bool netblock_has(const struct netblock *block, const struct netaddr *addr)
{
    if (addr->family != block->base.family || addr->family == AF_UNSPEC)
        return false;
    return same_prefix(block->base.bytes, addr->bytes, block->bits);
}
