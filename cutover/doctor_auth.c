/*
 * doctor_auth: what the verification of SPF, DKIM and DMARC rests on. See
 * doctor.h.
 *
 * A forwarded message reaches the other side from this move's own server, which
 * no SPF record names; so each side must trust the other one's address and take
 * the client from its Received line (auth { trusted }).
 *
 * DNS is asked with one small query (the root's name servers, RFC 1035 4.1) to
 * each configured server, 2 s each.
 */
#include "config.h"

#include "doctor.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "netaddr.h"

#define DNS_S 2

static bool trusts(const struct conf_auth *auth, const struct netaddr *address)
{
    for (size_t i = 0; i < auth->trusted_count; i++)
        if (netblock_has(&auth->trusted[i], address))
            return true;
    return false;
}

static void check_hop_trusted(struct doctor *doctor, const struct conf_domain *domain,
                              const struct conf_hop *hop)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    char text[NETADDR_TEXT_MAX + 1];
    if (!hop->text || hop->lookup_mx || getaddrinfo(hop->host, NULL, &hints, &list) != 0)
        return;
    for (const struct addrinfo *at = list; at; at = at->ai_next) {
        struct netaddr address;
        netaddr_from_sockaddr(at->ai_addr, &address);
        if (address.family == AF_UNSPEC || trusts(&doctor->context->conf->auth, &address))
            continue;
        netaddr_format(&address, text);
        doctor_say(doctor, FINDING_WARN, "trusted",
                   "%s: mail that %s forwards to this host fails SPF: %s is not trusted",
                   domain->name, hop->text, text);
        doctor_fix(doctor, "sluice.conf", "auth { trusted += {\"%s\"} }", text);
        break;
    }
    freeaddrinfo(list);
}

/* "" or why the server does not answer. */
static const char *ask_server(const struct conf_server *server)
{
    static const unsigned char query[] = { 's', 'l', 1, 0, 0, 1, 0, 0, 0,
                                           0,   0,   0, 0, 0, 2, 0, 1 };
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(server->port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
                               .sin6_port = htons(server->port) };
    struct timeval limit = { .tv_sec = DNS_S };
    bool four = server->address.family == AF_INET;
    unsigned char reply[512];
    memcpy(&v4.sin_addr, server->address.bytes, sizeof(v4.sin_addr));
    memcpy(&v6.sin6_addr, server->address.bytes, sizeof(v6.sin6_addr));
    int fd = socket(server->address.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return strerror(errno);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    const struct sockaddr *to =
        four ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6;
    const char *trouble = "";
    if (connect(fd, to, four ? sizeof(v4) : sizeof(v6)) != 0 ||
        send(fd, query, sizeof(query), 0) != (ssize_t)sizeof(query))
        trouble = strerror(errno);
    else if (recv(fd, reply, sizeof(reply), 0) < 12)
        trouble = errno == EAGAIN ? "no answer within 2 s" : strerror(errno);
    else if (reply[0] != query[0] || reply[1] != query[1])
        trouble = "answers something else";
    close(fd);
    return trouble;
}

static void check_servers(struct doctor *doctor)
{
    const struct conf_auth *auth = &doctor->context->conf->auth;
    char text[NETADDR_TEXT_MAX + 1];
    size_t fine = 0;
    for (size_t i = 0; i < auth->server_count; i++) {
        const char *trouble = ask_server(&auth->servers[i]);
        if (!trouble[0]) {
            fine++;
            continue;
        }
        doctor_say(doctor, FINDING_WARN, "DNS",
                   "%s port %u: %s; without DNS every result "
                   "is temperror, and mail flows",
                   netaddr_format(&auth->servers[i].address, text),
                   (unsigned)auth->servers[i].port, trouble);
        doctor_fix(doctor, "sluice.conf", "auth { servers = {...} }");
    }
    if (fine > 0)
        doctor_say(doctor, FINDING_OK, "DNS", "%zu of %zu servers answer", fine,
                   auth->server_count);
}

void doctor_check_auth(struct doctor *doctor)
{
    static const char *const enforce[] = { [ENFORCE_NONE] = "none",
                                           [ENFORCE_QUARANTINE] = "quarantine",
                                           [ENFORCE_REJECT] = "reject" };
    const struct conf *conf = doctor->context->conf;
    const struct conf_auth *auth = &conf->auth;
    if (!auth->spf && !auth->dkim && !auth->dmarc) {
        doctor_say(doctor, FINDING_OK, "authentication", "nothing is verified");
        return;
    }
    doctor_say(doctor, FINDING_OK, "authentication",
               "verified:%s%s%s; results are written as %s; enforce = %s",
               auth->spf ? " SPF" : "", auth->dkim ? " DKIM" : "",
               auth->dmarc ? " DMARC" : "", auth->authserv_id, enforce[auth->enforce]);
    if (auth->dmarc && (!auth->spf || !auth->dkim))
        doctor_say(doctor, FINDING_WARN, "authentication",
                   "DMARC without %s fails mail that would pass with it",
                   auth->spf ? "DKIM" : "SPF");
    check_servers(doctor);
    for (size_t i = 0; auth->spf && i < conf->domain_count; i++)
        check_hop_trusted(doctor, &conf->domains[i],
                          conf->side == SIDE_NEW ? &conf->domains[i].old
                                                 : &conf->domains[i].new);
}
