/*
 * dnsrecord: names and values of DNS records (see dnsrecord.h).
 *
 * The strict side of reading: what an admin plans is checked here, without a
 * DNS library, so that sluice.conf can name the line. What servers answer is
 * brought into the same form by dns_ask.c.
 */
#include "dnsrecord.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define LABEL_MAX  63
#define STRING_MAX 255 /* RFC 1035 3.3: a character-string */

static const char *const type_names[DNS_TYPES] = { "A",  "AAAA", "CNAME", "MX",
                                                   "NS", "SOA",  "SRV",   "TXT" };

const char *dns_type_name(enum dns_type type)
{
    return type < DNS_TYPES ? type_names[type] : "?";
}

bool dns_type_parse(const char *text, enum dns_type *out)
{
    for (size_t i = 0; i < DNS_TYPES; i++)
        if (strcasecmp(text, type_names[i]) == 0) {
            *out = (enum dns_type)i;
            return true;
        }
    return false;
}

/* ---- names --------------------------------------------------------------- */

static bool is_label_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool dnsrecord_name(const char *text, size_t len, char out[DNSRECORD_NAME_MAX + 1])
{
    size_t label = 0;

    if (len > 0 && text[len - 1] == '.')
        len--;
    if (len > DNSRECORD_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];
        bool star = c == '*' && i == 0 && (len == 1 || text[1] == '.');
        if (c == '.' ? label == 0 : (!is_label_char(c) && !star) || ++label > LABEL_MAX)
            return false;
        if (c == '.')
            label = 0;
        out[i] = c;
    }
    out[len] = '\0';
    return len == 0 || label > 0;
}

bool dnsrecord_within(const char *name, const char *domain)
{
    size_t len = strlen(name), tail = strlen(domain);

    if (tail == 0 || strcmp(name, domain) == 0)
        return true;
    return len > tail && name[len - tail - 1] == '.' &&
           strcmp(name + len - tail, domain) == 0;
}

/* name.domain; false: too long. */
static bool below(const char *name, const char *domain, char out[DNSRECORD_NAME_MAX + 1])
{
    int n =
        snprintf(out, DNSRECORD_NAME_MAX + 1, "%s%s%s", name, *domain ? "." : "", domain);

    return n >= 0 && n <= DNSRECORD_NAME_MAX;
}

const char *dns_owner(const char *text, const char *domain,
                      char out[DNSRECORD_NAME_MAX + 1])
{
    char name[DNSRECORD_NAME_MAX + 1];
    size_t len = strlen(text);

    if (strcmp(text, "@") == 0)
        return below(domain, "", out) ? NULL : "is too long";
    if (len == 0 || !dnsrecord_name(text, len, name) || name[0] == '\0')
        return "is not a name: letters, digits, \"-\" and \"_\" between dots (an "
               "international name as xn--...)";
    if (text[len - 1] != '.') {
        if (dnsrecord_within(name, domain))
            return "is taken as below the domain: end a full name with a dot";
        return below(name, domain, out) ? NULL : "is too long";
    }
    if (!dnsrecord_within(name, domain))
        return "is not in the domain";
    memcpy(out, name, strlen(name) + 1);
    return NULL;
}

/* ---- values -------------------------------------------------------------- */

#define NOT_A_TARGET                                                                     \
    "must name a host with its final dot (\"mx1.new.example.\"); without one only "      \
    "\"@\" "                                                                             \
    "or a single label of the domain"

/* A host name in a value, with its final dot; "." is the root. */
static const char *target(const char *text, size_t len, const char *domain,
                          char out[DNSRECORD_NAME_MAX + 2])
{
    char name[DNSRECORD_NAME_MAX + 1], full[DNSRECORD_NAME_MAX + 1];
    bool dot = len > 0 && text[len - 1] == '.';

    if (len == 1 && text[0] == '@') {
        if (!below(domain, "", full))
            return "names a host that is too long";
    } else if (len == 0 || !dnsrecord_name(text, len, name) || strchr(name, '*')) {
        return NOT_A_TARGET;
    } else if (dot) {
        memcpy(full, name, strlen(name) + 1);
    } else if (strchr(name, '.')) {
        return NOT_A_TARGET;
    } else if (!below(name, domain, full)) {
        return "names a host that is too long";
    }
    struct in_addr four;
    if (inet_pton(AF_INET, full, &four) == 1)
        return "names an address where a host name must stand";
    size_t used = strlen(full);
    memcpy(out, full, used);
    memcpy(out + used, ".", 2);
    return NULL;
}

/* Takes a number of 0 to 65535 and the blanks behind it from *text. */
static bool take_number(const char **text, unsigned *out)
{
    const char *p = *text;

    *out = 0;
    for (; *p >= '0' && *p <= '9' && p - *text < 6; p++)
        *out = *out * 10 + (unsigned)(*p - '0');
    if (p == *text || *out > 65535 || (*p != ' ' && *p != '\t'))
        return false;
    *text = p + strspn(p, " \t");
    return true;
}

static const char *write_value(char *out, size_t size, unsigned const *numbers,
                               size_t count, const char *host)
{
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        int n = snprintf(out + used, size - used, "%u ", numbers[i]);
        used += n > 0 ? (size_t)n : 0; /* at most three numbers of 5 digits */
    }
    snprintf(out + used, size - used, "%s", host);
    return NULL;
}

/* count numbers, then a host. */
static const char *numbers_and_host(enum dns_type type, const char *text,
                                    const char *domain, char *out, size_t size)
{
    unsigned numbers[3] = { 0 };
    size_t count = type == DNS_MX ? 1 : type == DNS_SRV ? 3 : 0;
    char host[DNSRECORD_NAME_MAX + 2];

    for (size_t i = 0; i < count; i++)
        if (!take_number(&text, &numbers[i]))
            return type == DNS_MX ? "must be a priority (0 to 65535) and a host: "
                                    "\"10 mx1.new.example.\""
                                  : "must be priority, weight, port and a host: "
                                    "\"0 1 993 imap.new.example.\"";
    const char *wrong = target(text, strlen(text), domain, host);
    if (wrong)
        return wrong;
    if (type != DNS_SRV && strcmp(host, ".") == 0 && (type != DNS_MX || numbers[0] != 0))
        return "names no host";
    return write_value(out, size, numbers, count, host);
}

static const char *address(int family, const char *text, char *out, size_t size)
{
    unsigned char bytes[16];

    if (inet_pton(family, text, bytes) != 1)
        return family == AF_INET ? "is not an IPv4 address" : "is not an IPv6 address";
    return inet_ntop(family, bytes, out, (socklen_t)size) ? NULL : "is too long";
}

static const char *planned_text(const char *text, char *out, size_t size)
{
    size_t len = strlen(text);

    if (len == 0)
        return "must not be empty";
    if (len > DNS_TEXT_MAX)
        return "is longer than 4000 bytes";
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || (unsigned char)text[i] > 0x7e)
            return "must be printable ASCII";
    if (text[0] == '"')
        return "needs no quotes inside: long texts are split into strings by sluice";
    return dns_text((const unsigned char *)text, len, out, size) ? NULL : "is too long";
}

const char *dns_value(enum dns_type type, const char *text, const char *domain, char *out,
                      size_t size)
{
    switch (type) {
    case DNS_A:
        return address(AF_INET, text, out, size);
    case DNS_AAAA:
        return address(AF_INET6, text, out, size);
    case DNS_CNAME:
    case DNS_MX:
    case DNS_NS:
    case DNS_SRV:
        return numbers_and_host(type, text, domain, out, size);
    case DNS_TXT:
        return planned_text(text, out, size);
    case DNS_SOA:
    case DNS_TYPES:
        break;
    }
    return "is of a type that is not planned";
}

/* ---- TXT ----------------------------------------------------------------- */

bool dns_text(const unsigned char *bytes, size_t len, char *out, size_t size)
{
    size_t used = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = bytes[i];
        if (used + 5 > size)
            return false;
        if (c < 0x20 || c > 0x7e) {
            used += (size_t)snprintf(out + used, size - used, "\\%03u", c);
            continue;
        }
        if (c == '\\')
            out[used++] = '\\';
        out[used++] = (char)c;
    }
    if (used >= size)
        return false;
    out[used] = '\0';
    return true;
}

size_t dns_text_bytes(const char *value, char *out, size_t size)
{
    size_t used = 0;

    for (const char *p = value; *p && used + 1 < size; p++) {
        unsigned number = 0;
        if (*p != '\\') {
            out[used++] = *p;
        } else if (sscanf(p + 1, "%3u", &number) == 1 && number < 256) {
            out[used++] = (char)number;
            p += 3;
        } else if (p[1]) {
            out[used++] = *++p;
        }
    }
    if (size > 0)
        out[used] = '\0';
    return used;
}

/* Bytes of value that stand for one byte of the record. */
static size_t unit_length(const char *value)
{
    if (*value != '\\' || !value[1])
        return 1;
    return strspn(value + 1, "0123456789") >= 3 ? 4 : 2;
}

void dns_value_zone(enum dns_type type, const char *value, char *out, size_t size)
{
    size_t used = 0, in_string = 0;

    if (type != DNS_TXT) {
        snprintf(out, size, "%s", value);
        return;
    }
    out[used++] = '"';
    while (*value && used + 12 < size) {
        if (in_string++ == STRING_MAX) {
            memcpy(out + used, "\" \"", 3);
            used += 3;
            in_string = 1;
        }
        if (*value == '"')
            out[used++] = '\\';
        size_t len = unit_length(value);
        memcpy(out + used, value, len);
        used += len;
        value += len;
    }
    memcpy(out + used, "\"", 2);
}

bool dns_target(enum dns_type type, const char *value, char out[DNSRECORD_NAME_MAX + 1])
{
    if (type != DNS_MX && type != DNS_CNAME && type != DNS_NS && type != DNS_SRV)
        return false;
    const char *host = strrchr(value, ' ');
    host = host ? host + 1 : value;
    return dnsrecord_name(host, strlen(host), out);
}
