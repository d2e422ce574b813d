/*
 * conf_value: durations, host:port pairs and DNS servers of sluice.conf.
 *
 * Hosts are written as in Postfix's transport(5): brackets say that no MX
 * lookup is wanted, and hold IPv6 addresses, with or without "IPv6:". A host
 * name comes out in canonical form (addr.h), an address as it was written.
 * Ports are numbers: a service name would depend on the host's /etc/services.
 */
#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "conf_value.h"

#define DURATION_MAX (30 * 24 * 3600)
#define DNS_PORT     53

/* Decimal digits alone, at most nine, within the limits. */
static bool parse_number(const char *text, size_t len, long min, long max, long *out)
{
    long value = 0;

    if (len == 0 || len > 9)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (text[i] - '0');
    }
    *out = value;
    return value >= min && value <= max;
}

bool conf_duration(const char *text, int *seconds)
{
    static const struct {
        char suffix;
        long seconds;
    } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
    size_t len = strlen(text);
    long unit = 1, value;

    for (size_t i = 0; len > 0 && i < sizeof(units) / sizeof(units[0]); i++)
        if (text[len - 1] == units[i].suffix) {
            unit = units[i].seconds;
            len--;
            break;
        }
    if (!parse_number(text, len, 1, DURATION_MAX / unit, &value))
        return false;
    *seconds = (int)(value * unit);
    return true;
}

bool conf_is_address(const char *host)
{
    struct in6_addr address;

    return inet_pton(AF_INET, host, &address) == 1 ||
           inet_pton(AF_INET6, host, &address) == 1;
}

/* Moves *start to the first byte of the host and returns the byte after it;
 * NULL: the bracket is not closed. */
static const char *host_end(const char **start, bool *brackets)
{
    *brackets = **start == '[';
    if (!*brackets)
        return *start + strcspn(*start, ":");
    (*start)++;
    if (strncasecmp(*start, "ipv6:", 5) == 0)
        *start += 5;
    return strchr(*start, ']');
}

static const char *read_host(const char *start, size_t len, char *out)
{
    char host[ADDR_DOMAIN_MAX + 1];

    if (len == 0)
        return "has no host";
    if (len < sizeof(host)) {
        memcpy(host, start, len);
        host[len] = '\0';
        if (conf_is_address(host)) {
            memcpy(out, host, len + 1);
            return NULL;
        }
    }
    if (!addr_domain(start, len, out) || out[0] == '[')
        return "has no valid host name";
    return NULL;
}

const char *conf_host_port(const char *text, struct conf_host_port *out)
{
    const char *start = text;
    const char *end = host_end(&start, &out->brackets);
    long port = 0;

    if (!end)
        return "lacks the closing \"]\"";
    if (!out->brackets && *end == ':' && strchr(end + 1, ':'))
        return "is an IPv6 address without brackets: write [address]:port";
    const char *wrong = read_host(start, (size_t)(end - start), out->host);
    if (wrong)
        return wrong;
    if (out->brackets)
        end++;
    if (*end && (*end != ':' || !parse_number(end + 1, strlen(end + 1), 1, 65535, &port)))
        return "has no valid port (1 to 65535)";
    out->port = (uint16_t)port;
    return NULL;
}

const char *conf_server(const char *text, struct conf_server *out)
{
    struct conf_host_port hp = { .port = 0 };

    out->port = DNS_PORT;
    if (netaddr_parse(text, strlen(text), &out->address))
        return NULL;
    const char *wrong = conf_host_port(text, &hp);
    if (wrong)
        return wrong;
    if (!netaddr_parse(hp.host, strlen(hp.host), &out->address))
        return "is not an IP address";
    if (hp.port)
        out->port = hp.port;
    return NULL;
}

const char *conf_stub(const char *text, char zone[ADDR_DOMAIN_MAX + 1],
                      struct conf_server *server)
{
    const char *equals = strchr(text, '=');

    if (!equals)
        return "must be like \"example.test=127.0.0.1:5353\"";
    if (!addr_domain(text, (size_t)(equals - text), zone) || zone[0] == '[')
        return "begins with no domain name";
    return conf_server(equals + 1, server);
}
