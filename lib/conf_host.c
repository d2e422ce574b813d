/*
 * conf_host: asks the kernel for the addresses of the interfaces.
 *
 * Where it does not tell (a sandbox without netlink sockets) the list is that of
 * the loopback interface: the transport map, which policyd answers, is the gate
 * that counts, and policyd's unit has netlink. Addresses that come later are known
 * after a reload; those of a translating router (proxy_interfaces) are known to
 * Postfix alone and belong in same-as.
 */
#include "config.h"

#include "conf_host.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "addr.h"

/* The canonical literal of an address, or NULL when it is of no such family. */
static char *literal_of(const struct sockaddr *address)
{
    char text[INET6_ADDRSTRLEN], literal[INET6_ADDRSTRLEN + 8];
    char canonical[ADDR_DOMAIN_MAX + 1];
    const void *binary = NULL;

    if (address && address->sa_family == AF_INET)
        binary = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    else if (address && address->sa_family == AF_INET6)
        binary = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (!binary || !inet_ntop(address->sa_family, binary, text, sizeof(text)))
        return NULL;
    int len = snprintf(literal, sizeof(literal), "[%s%s]",
                       address->sa_family == AF_INET6 ? "IPv6:" : "", text);
    if (len < 0 || (size_t)len >= sizeof(literal) ||
        !addr_domain(literal, (size_t)len, canonical))
        return NULL;
    return strdup(canonical);
}

char **conf_host_literals(void)
{
    struct ifaddrs *all = NULL;
    size_t n = 0, used = 0;

    if (getifaddrs(&all) != 0)
        all = NULL;
    for (const struct ifaddrs *one = all; one; one = one->ifa_next)
        n++;
    char **list = calloc(n + 2, sizeof(*list));
    for (const struct ifaddrs *one = all; list && one; one = one->ifa_next)
        if ((list[used] = literal_of(one->ifa_addr)))
            used++;
    if (list && !all)
        list[0] = strdup("[127.0.0.1]");
    if (all)
        freeifaddrs(all);
    return list;
}
