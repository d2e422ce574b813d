/*
 * dns_servers: finds the zone of a domain and its servers, from the parent (see
 * dns_look.h): what the zone says of itself is worth nothing while its delegation points
 * elsewhere. Where sluice.conf names no server of the parent zone, the resolvers find
 * them.
 */
#include <stdio.h>
#include <string.h>

#include "dns_look.h"
#include "dns_wire.h"
#include "output.h"

#define RESOLV_CONF   "/etc/resolv.conf"
#define PARENTS_ASKED 3 /* name servers of the parent zone */

/* ---- servers -------------------------------------------------------------- */

/* false: it cannot be asked from here (a host without IPv6 asks by IPv4). */
static bool add_server(struct dns_server *list, size_t *count, const char *name,
                       const struct netaddr *address, uint16_t port, bool recursive)
{
    if (address->family == AF_INET6 && !dns_wire_route(address))
        return false;
    if (*count >= DNS_SERVERS_MAX)
        return true;
    for (size_t i = 0; i < *count; i++)
        if (list[i].port == port && netaddr_equal(&list[i].address, address))
            return true;
    struct dns_server *server = &list[(*count)++];
    *server =
        (struct dns_server){ .address = *address, .port = port, .recursive = recursive };
    snprintf(server->name, sizeof(server->name), "%s", name);
    return true;
}

static void read_resolv_conf(struct dns_look *look)
{
    char line[512], text[64];
    struct netaddr address;
    FILE *file = fopen(RESOLV_CONF, "re");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "nameserver %63s", text) == 1 &&
            netaddr_parse(text, strlen(text), &address))
            (void)add_server(look->resolvers, &look->resolver_count, "", &address, 53,
                             true);
    if (file)
        fclose(file);
}

void dns_look_resolve(struct dns_look *look, const char *name, enum dns_type type,
                      struct dns_reply *reply)
{
    *reply = (struct dns_reply){ .outcome = DNS_FAILED };
    snprintf(reply->error, sizeof(reply->error),
             "no resolver is known: name some in dns { resolvers }");
    for (size_t i = 0; i < look->resolver_count && reply->outcome == DNS_FAILED; i++) {
        char text[DNS_SERVER_TEXT], why[DNS_ERROR_MAX];
        dns_reply_free(reply);
        dns_ask(&look->resolvers[i], name, type, look->conf->dns.timeout, reply);
        if (reply->outcome != DNS_FAILED)
            break;
        memcpy(why, reply->error, sizeof(why)); /* resolvers have no names: short */
        snprintf(reply->error, sizeof(reply->error), "%.60s: %.170s",
                 dns_server_text(&look->resolvers[i], text), why);
    }
}

enum found { NO_ADDRESS, NO_ROUTE, ADDED };

/* The addresses of a set of that name: glue, or what the resolvers say. */
static enum found add_addresses(struct dns_look *look, const char *name,
                                const struct dns_sets *glue, uint16_t port,
                                struct dns_server *list, size_t *count)
{
    static const enum dns_type types[] = { DNS_A, DNS_AAAA };
    struct netaddr address;
    enum found found = NO_ADDRESS;
    for (size_t t = 0; t < 2; t++) {
        struct dns_reply reply = { 0 };
        const struct dns_set *set = dns_sets_find(glue, name, types[t]);
        if (!set) {
            dns_look_resolve(look, name, types[t], &reply);
            set = dns_sets_find(&reply.answer, name, types[t]);
        }
        for (size_t i = 0; set && i < set->count; i++)
            if (netaddr_parse(set->values[i], strlen(set->values[i]), &address)) {
                if (add_server(list, count, name, &address, port, false))
                    found = ADDED;
                else if (found == NO_ADDRESS)
                    found = NO_ROUTE;
            }
        dns_reply_free(&reply);
    }
    return found;
}

static void add_name_servers(struct dns_look *look, const struct dns_set *ns,
                             const struct dns_sets *glue, uint16_t port, size_t most,
                             struct dns_server *list, size_t *count)
{
    char host[DNSRECORD_NAME_MAX + 1];
    for (size_t i = 0; i < ns->count && i < most; i++) {
        if (!dns_target(DNS_NS, ns->values[i], host))
            continue;
        enum found found = add_addresses(look, host, glue, port, list, count);
        if (found == ADDED || *count >= DNS_SERVERS_MAX)
            continue;
        struct dns_server *server = &list[(*count)++];
        *server = (struct dns_server){ .silent = true, .port = port };
        snprintf(server->name, sizeof(server->name), "%s", host);
        snprintf(
            server->error, sizeof(server->error), "%s",
            found == NO_ROUTE
                ? "it has IPv6 addresses alone, and this host has no way there: run "
                  "sluice where there is IPv6"
                : "it has no address: give it one, or take it out of the delegation");
    }
}

/* ---- the zone, from its parent -------------------------------------------- */

/* The apex of the zone that name is in, by a resolver's SOA. */
static bool find_apex(struct dns_look *look, const char *name,
                      char out[DNSRECORD_NAME_MAX + 1])
{
    struct dns_reply reply;
    bool found = false;
    dns_look_resolve(look, name, DNS_SOA, &reply);
    if (reply.outcome == DNS_FAILED) {
        message("%s: its zone is not found: resolver %s", name, reply.error);
    } else {
        const struct dns_sets *in =
            reply.outcome == DNS_FOUND ? &reply.answer : &reply.authority;
        for (size_t i = 0; i < in->count && !found; i++)
            if (in->items[i].type == DNS_SOA &&
                dnsrecord_within(name, in->items[i].name)) {
                snprintf(out, DNSRECORD_NAME_MAX + 1, "%s", in->items[i].name);
                found = true;
            }
        if (!found)
            message("%s: the resolvers name no zone for it: is dns { resolvers } right?",
                    name);
    }
    dns_reply_free(&reply);
    return found;
}

/* The servers of the parent zone into list, and the zone's apex, from the resolvers. */
static bool find_parents(struct dns_look *look, struct dns_server *list, size_t *count,
                         char zone[DNSRECORD_NAME_MAX + 1])
{
    char parent[DNSRECORD_NAME_MAX + 1];
    struct dns_reply reply;
    if (!find_apex(look, look->domain->name, zone))
        return false;
    const char *dot = strchr(zone, '.');
    if (!find_apex(look, dot ? dot + 1 : "", parent))
        return false;
    dns_look_resolve(look, parent, DNS_NS, &reply);
    const struct dns_set *ns = dns_sets_find(&reply.answer, parent, DNS_NS);
    if (ns)
        add_name_servers(look, ns, &reply.additional, look->conf->dns.port, PARENTS_ASKED,
                         list, count);
    else
        message("%s.: the name servers of the parent zone are not found: %s", parent,
                reply.outcome == DNS_FAILED ? reply.error : "the resolvers know none");
    dns_reply_free(&reply);
    return *count > 0;
}

/* A referral, or the answer of a server that has both zones. */
static const struct dns_set *delegation_in(const struct dns_reply *reply,
                                           const char *domain)
{
    const struct dns_sets *const sections[] = { &reply->answer, &reply->authority };
    for (size_t s = 0; s < 2; s++)
        for (size_t i = 0; i < sections[s]->count; i++) {
            const struct dns_set *set = &sections[s]->items[i];
            if (set->type == DNS_NS && set->name[0] &&
                dnsrecord_within(domain, set->name))
                return set;
        }
    return NULL;
}

/* name: the zone, or the domain where it is not known yet. */
static bool ask_parent(struct dns_look *look, struct dns_server *parent, const char *name,
                       char *why, size_t why_size)
{
    struct dns_reply reply;
    char text[DNS_SERVER_TEXT];
    dns_ask(parent, name, DNS_NS, look->conf->dns.timeout, &reply);
    const struct dns_set *ns =
        reply.outcome == DNS_FAILED ? NULL : delegation_in(&reply, name);
    dns_server_text(parent, text);
    if (ns) {
        snprintf(look->zone, sizeof(look->zone), "%s", ns->name);
        if (!dns_sets_add_set(&look->delegation, ns))
            ns = NULL;
        else
            add_name_servers(look, ns, &reply.additional, look->conf->dns.port,
                             DNS_SERVERS_MAX, look->servers, &look->server_count);
    } else if (reply.outcome == DNS_FAILED) {
        snprintf(why, why_size, "%s: %s", text, reply.error);
    } else {
        snprintf(why, why_size,
                 "%s delegates it to nobody%s: enter its NS records at the registrar",
                 text, reply.no_name ? " (no such name)" : "");
    }
    dns_reply_free(&reply);
    return ns != NULL;
}

/* Servers are there, even those without an address. */
static int no_address(const struct dns_look *look)
{
    for (size_t s = 0; s < look->server_count; s++)
        if (look->servers[s].address.family != AF_UNSPEC)
            return EXIT_DONE;
    message("%s: it is delegated to %s%s, which %s no address: correct the delegation at "
            "the registrar, or the address records",
            look->zone, look->server_count > 0 ? look->servers[0].name : "nobody",
            look->server_count > 1 ? " and others" : "",
            look->server_count > 1 ? "have" : "has");
    return EXIT_SERVICE;
}

void dns_servers_resolvers(struct dns_look *look)
{
    const struct conf_dns *dns = &look->conf->dns;
    for (size_t i = 0; i < dns->resolver_count; i++)
        (void)add_server(look->resolvers, &look->resolver_count, "",
                         &dns->resolvers[i].address, dns->resolvers[i].port, true);
    if (dns->resolver_count == 0)
        read_resolv_conf(look);
}

int dns_servers_find(struct dns_look *look)
{
    struct dns_server parents[DNS_SERVERS_MAX];
    char zone[DNSRECORD_NAME_MAX + 1] = "";
    size_t count = 0;
    char why[DNS_SERVER_TEXT + DNS_ERROR_MAX + 64] =
        "no server of the parent zone is known";
    for (size_t i = 0; i < look->conf->dns.parent_count; i++)
        (void)add_server(parents, &count, "", &look->conf->dns.parents[i].address,
                         look->conf->dns.parents[i].port, false);
    if (count == 0 && !find_parents(look, parents, &count, zone))
        return EXIT_SERVICE;
    for (size_t i = 0; i < count; i++)
        if (ask_parent(look, &parents[i], zone[0] ? zone : look->domain->name, why,
                       sizeof(why)))
            break;
    if (!look->zone[0]) {
        message("%s: its name servers are not found from the parent zone: %s",
                look->domain->name, why);
        return EXIT_SERVICE;
    }
    return no_address(look);
}
