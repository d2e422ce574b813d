/*
 * dnsdata: see dnsdata.h. Wire form: RFC 1035 3.1 (names), 3.3 (RDATA), 3.3.14
 * (TXT: one or more strings, each with a length byte); addresses 3.4.1 and RFC
 * 3596 2.2; reverse names 3.5 and RFC 3596 2.5.
 */
#include "dnsdata.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define LABEL_MAX     63
#define WIRE_NAME_MAX 255

static bool is_plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_';
}

/* ---- texts ---------------------------------------------------------------- */

/* Whether the strings fill the record exactly; length is that of all of them. */
static bool txt_length(const struct answer_record *record, size_t *length)
{
    size_t at = 0;

    *length = 0;
    while (at < record->len) {
        size_t part = record->data[at];
        if (part >= record->len - at)
            return false;
        *length += part;
        at += 1 + part;
    }
    return record->len > 0;
}

bool dns_txt(const struct answer_record *record, char *out, size_t size, size_t *len)
{
    size_t length, done = 0;

    if (size == 0)
        return false;
    out[0] = '\0';
    if (!txt_length(record, &length) || length >= size)
        return false;
    for (size_t at = 0; at < record->len; at += 1 + (size_t)record->data[at]) {
        size_t part = record->data[at];
        if (memchr(record->data + at + 1, '\0', part)) {
            out[0] = '\0';
            return false;
        }
        memcpy(out + done, record->data + at + 1, part);
        done += part;
    }
    out[done] = '\0';
    if (len)
        *len = done;
    return true;
}

/* ---- names ---------------------------------------------------------------- */

/* Whether these bytes are one whole name and nothing else. */
static bool is_name(const unsigned char *data, size_t len)
{
    size_t at = 0;

    if (len == 0 || len > WIRE_NAME_MAX)
        return false;
    while (data[at] != 0) {
        if (data[at] > LABEL_MAX || data[at] + (size_t)1 >= len - at)
            return false;
        at += 1 + (size_t)data[at];
    }
    return at + 1 == len;
}

static char *append_byte(char *to, unsigned char c)
{
    if (is_plain(c)) {
        *to++ = (char)c;
        return to;
    }
    *to++ = '\\';
    *to++ = (char)('0' + c / 100);
    *to++ = (char)('0' + c / 10 % 10);
    *to++ = (char)('0' + c % 10);
    return to;
}

bool dns_name(const unsigned char *data, size_t len, char out[DNS_NAME_MAX + 1])
{
    char *to = out;

    out[0] = '\0';
    if (!is_name(data, len))
        return false;
    for (size_t at = 0; data[at] != 0; at += 1 + (size_t)data[at]) {
        if (at > 0)
            *to++ = '.';
        for (size_t i = 1; i <= data[at]; i++)
            to = append_byte(to, data[at + i]);
    }
    if (to == out)
        *to++ = '.';
    *to = '\0';
    return true;
}

bool dns_mx(const struct answer_record *record, uint16_t *preference,
            char exchange[DNS_NAME_MAX + 1])
{
    exchange[0] = '\0';
    if (record->len < 3)
        return false;
    *preference = (uint16_t)(record->data[0] << 8 | record->data[1]);
    return dns_name(record->data + 2, record->len - 2, exchange);
}

/* ---- addresses ------------------------------------------------------------ */

bool dns_address(const struct answer_record *record, enum rr_type type,
                 struct netaddr *out)
{
    struct sockaddr_in6 six = { .sin6_family = AF_INET6 };

    memset(out, 0, sizeof(*out));
    out->family = AF_UNSPEC;
    if (type == RR_A && record->len == 4) {
        out->family = AF_INET;
        memcpy(out->bytes, record->data, 4);
        return true;
    }
    if (type != RR_AAAA || record->len != 16)
        return false;
    memcpy(&six.sin6_addr, record->data, 16);
    netaddr_from_sockaddr((const struct sockaddr *)&six, out);
    return true;
}

static void reverse_v6(const unsigned char bytes[16], char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 15; i >= 0; i--) {
        *out++ = digits[bytes[i] & 15];
        *out++ = '.';
        *out++ = digits[bytes[i] >> 4];
        *out++ = '.';
    }
    memcpy(out, "ip6.arpa", sizeof("ip6.arpa"));
}

void dns_reverse_name(const struct netaddr *addr, char out[80])
{
    const unsigned char *b = addr->bytes;

    out[0] = '\0';
    if (addr->family == AF_INET6)
        reverse_v6(b, out);
    else if (addr->family == AF_INET &&
             snprintf(out, 80, "%d.%d.%d.%d.in-addr.arpa", b[3], b[2], b[1], b[0]) < 0)
        out[0] = '\0';
}

/* ---- any of them ---------------------------------------------------------- */

bool dns_well_formed(const struct answer_record *record, enum rr_type type)
{
    size_t length;

    switch (type) {
    case RR_A:
        return record->len == 4;
    case RR_AAAA:
        return record->len == 16;
    case RR_TXT:
        return txt_length(record, &length);
    case RR_PTR:
        return is_name(record->data, record->len);
    case RR_MX:
        return record->len > 2 && is_name(record->data + 2, record->len - 2);
    }
    return false;
}
