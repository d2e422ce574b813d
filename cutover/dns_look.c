/*
 * dns_look: asks the servers of a zone (see dns_look.h).
 *
 * The zone and its servers come from the parent: what the zone says of itself
 * is worth nothing while its delegation points elsewhere. Where sluice.conf
 * names no server of the parent zone, the resolvers find them. A resolver is
 * asked only about what every authoritative server has: a question that is
 * asked too early puts "there is none" into its cache, and keeps the new
 * record from its users for as long as the SOA says.
 */
#include "dns_look.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dns_wire.h"
#include "output.h"

#define RESOLV_CONF   "/etc/resolv.conf"
#define PARENTS_ASKED 3 /* name servers of the parent zone */

/* ---- servers -------------------------------------------------------------- */

static void add_server(struct dns_server *list, size_t *count, const char *name,
                       const struct netaddr *address, uint16_t port, bool recursive)
{
    if (*count >= DNS_SERVERS_MAX)
        return;
    for (size_t i = 0; i < *count; i++)
        if (list[i].port == port && netaddr_equal(&list[i].address, address))
            return;
    if (address->family == AF_INET6 && !dns_wire_route(address))
        return; /* a host without IPv6 asks by IPv4 */
    struct dns_server *server = &list[(*count)++];
    *server =
        (struct dns_server){ .address = *address, .port = port, .recursive = recursive };
    snprintf(server->name, sizeof(server->name), "%s", name);
}

static void read_resolv_conf(struct dns_look *look)
{
    char line[512], text[64];
    struct netaddr address;
    FILE *file = fopen(RESOLV_CONF, "re");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "nameserver %63s", text) == 1 &&
            netaddr_parse(text, strlen(text), &address))
            add_server(look->resolvers, &look->resolver_count, "", &address, 53, true);
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

/* The addresses of a set of that name: glue, or what the resolvers say. */
static bool add_addresses(struct dns_look *look, const char *name,
                          const struct dns_sets *glue, uint16_t port,
                          struct dns_server *list, size_t *count)
{
    static const enum dns_type types[] = { DNS_A, DNS_AAAA };
    struct netaddr address;
    bool any = false;
    for (size_t t = 0; t < 2; t++) {
        struct dns_reply reply = { 0 };
        const struct dns_set *set = dns_sets_find(glue, name, types[t]);
        if (!set) {
            dns_look_resolve(look, name, types[t], &reply);
            set = dns_sets_find(&reply.answer, name, types[t]);
        }
        for (size_t i = 0; set && i < set->count; i++)
            if (netaddr_parse(set->values[i], strlen(set->values[i]), &address)) {
                add_server(list, count, name, &address, port, false);
                any = true;
            }
        dns_reply_free(&reply);
    }
    return any;
}

static void add_name_servers(struct dns_look *look, const struct dns_set *ns,
                             const struct dns_sets *glue, uint16_t port, size_t most,
                             struct dns_server *list, size_t *count)
{
    char host[DNSRECORD_NAME_MAX + 1];
    for (size_t i = 0; i < ns->count && i < most; i++) {
        if (!dns_target(DNS_NS, ns->values[i], host) ||
            add_addresses(look, host, glue, port, list, count) ||
            *count >= DNS_SERVERS_MAX)
            continue;
        struct dns_server *server = &list[(*count)++];
        *server = (struct dns_server){ .silent = true, .port = port };
        snprintf(server->name, sizeof(server->name), "%s", host);
        snprintf(server->error, sizeof(server->error),
                 "it has no address: give it one, or take it out of the delegation");
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

/* The servers of the parent zone into list, from the resolvers. */
static bool find_parents(struct dns_look *look, struct dns_server *list, size_t *count)
{
    char zone[DNSRECORD_NAME_MAX + 1], parent[DNSRECORD_NAME_MAX + 1];
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

static bool ask_parent(struct dns_look *look, struct dns_server *parent, char *why,
                       size_t why_size)
{
    struct dns_reply reply;
    char text[DNS_SERVER_TEXT];
    dns_ask(parent, look->domain->name, DNS_NS, look->conf->dns.timeout, &reply);
    const struct dns_set *ns =
        reply.outcome == DNS_FAILED ? NULL : delegation_in(&reply, look->domain->name);
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

static int find_servers(struct dns_look *look)
{
    struct dns_server parents[DNS_SERVERS_MAX];
    size_t count = 0;
    char why[DNS_SERVER_TEXT + DNS_ERROR_MAX + 64] =
        "no server of the parent zone is known";
    for (size_t i = 0; i < look->conf->dns.parent_count; i++)
        add_server(parents, &count, "", &look->conf->dns.parents[i].address,
                   look->conf->dns.parents[i].port, false);
    if (count == 0 && !find_parents(look, parents, &count))
        return EXIT_SERVICE;
    for (size_t i = 0; i < count; i++)
        if (ask_parent(look, &parents[i], why, sizeof(why)))
            break;
    if (!look->zone[0]) {
        message("%s: its name servers are not found from the parent zone: %s",
                look->domain->name, why);
        return EXIT_SERVICE;
    }
    return no_address(look);
}

int dns_look_open(struct dns_look *look, const struct conf *conf,
                  const struct conf_domain *domain)
{
    *look = (struct dns_look){ .conf = conf, .domain = domain };
    for (size_t i = 0; i < conf->dns.resolver_count; i++)
        add_server(look->resolvers, &look->resolver_count, "",
                   &conf->dns.resolvers[i].address, conf->dns.resolvers[i].port, true);
    if (conf->dns.resolver_count == 0)
        read_resolv_conf(look);
    if (!dns_plan_questions(domain, &look->questions)) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    return find_servers(look);
}

/* ---- asking --------------------------------------------------------------- */

static size_t columns(const struct dns_look *look)
{
    return look->server_count + look->resolver_count;
}

static void free_replies(struct dns_look *look)
{
    for (size_t i = 0; look->replies && i < look->questions.count * columns(look); i++)
        dns_reply_free(&look->replies[i]);
    free(look->replies);
    look->replies = NULL;
}

const struct dns_reply *dns_look_reply(const struct dns_look *look, size_t question,
                                       size_t server)
{
    return &look->replies[question * columns(look) + server];
}

size_t dns_look_question(const struct dns_look *look, const char *name,
                         enum dns_type type)
{
    for (size_t q = 0; q < look->questions.count; q++)
        if (look->questions.items[q].type == type &&
            strcmp(look->questions.items[q].name, name) == 0)
            return q;
    return SIZE_MAX;
}

const struct dns_set *dns_look_set(const struct dns_look *look, size_t question,
                                   size_t server)
{
    const struct dns_question *asked = &look->questions.items[question];
    const struct dns_reply *reply = dns_look_reply(look, question, server);
    return reply->outcome == DNS_FOUND
               ? dns_sets_find(&reply->answer, asked->name, asked->type)
               : NULL;
}

static void ask_one(struct dns_look *look, size_t question, size_t column)
{
    const struct dns_question *asked = &look->questions.items[question];
    struct dns_reply *reply = &look->replies[question * columns(look) + column];
    struct dns_server *server = column < look->server_count
                                    ? &look->servers[column]
                                    : &look->resolvers[column - look->server_count];
    dns_ask(server, asked->name, asked->type, look->conf->dns.timeout, reply);
    if (reply->outcome != DNS_FAILED && !server->recursive && !reply->authoritative) {
        reply->outcome = DNS_FAILED;
        snprintf(reply->error, sizeof(reply->error),
                 "it is not authoritative for the zone (lame delegation): load the zone "
                 "there, or take it out of the delegation");
    }
}

/* The serial of the SOA that a server gave; false: it gave none. */
static bool serial_of(const struct dns_look *look, size_t server, uint32_t *serial)
{
    size_t question = dns_look_question(look, look->zone, DNS_SOA);
    const struct dns_set *soa =
        question == SIZE_MAX ? NULL : dns_look_set(look, question, server);
    unsigned long value;
    if (!soa || soa->count == 0 || sscanf(soa->values[0], "%*s %*s %lu", &value) != 1)
        return false;
    *serial = (uint32_t)value;
    return true;
}

/* A server without the zone's SOA record does not have the zone, whatever it says
 * of the names in it. */
static void need_soa(struct dns_look *look, size_t server)
{
    size_t soa = dns_look_question(look, look->zone, DNS_SOA);
    struct dns_reply *reply = &look->replies[soa * columns(look) + server];
    if (reply->outcome != DNS_ABSENT)
        return;
    for (size_t q = 0; q < look->questions.count; q++) {
        reply = &look->replies[q * columns(look) + server];
        if (reply->outcome == DNS_FAILED)
            continue;
        dns_reply_free(reply);
        *reply = (struct dns_reply){ .outcome = DNS_FAILED };
        snprintf(reply->error, sizeof(reply->error),
                 "it has no SOA record of the zone: load the zone there, or take it out "
                 "of the delegation");
    }
}

/* Whether a server answered everything. */
static bool is_whole(const struct dns_look *look, size_t server)
{
    for (size_t q = 0; q < look->questions.count; q++)
        if (dns_look_reply(look, q, server)->outcome == DNS_FAILED)
            return false;
    return true;
}

/* The one that takes updates: of sluice.conf, or by its own SOA. */
static bool is_primary(const struct dns_look *look, size_t server)
{
    const struct conf_server *named = &look->conf->dns.server;
    const struct dns_server *is = &look->servers[server];
    char primary[DNSRECORD_NAME_MAX + 1];
    if (named->address.family != AF_UNSPEC)
        return named->port == is->port && netaddr_equal(&named->address, &is->address);
    size_t question = dns_look_question(look, look->zone, DNS_SOA);
    const struct dns_set *soa =
        question == SIZE_MAX ? NULL : dns_look_set(look, question, server);
    return soa && soa->count > 0 &&
           dnsrecord_name(soa->values[0], strcspn(soa->values[0], " "), primary) &&
           strcmp(primary, is->name) == 0;
}

/* The primary, since a change is checked against what it has; else the highest serial
 * (RFC 1982: they go round). */
static bool choose_best(struct dns_look *look)
{
    bool found = false;
    uint32_t highest = 0, serial = 0;
    for (size_t s = 0; s < look->server_count; s++) {
        if (!is_whole(look, s))
            continue;
        if (!serial_of(look, s, &serial))
            serial = highest;
        if (!found || (int32_t)(serial - highest) > 0) {
            look->best = s;
            highest = serial;
        }
        found = true;
        if (is_primary(look, s)) {
            look->best = s;
            break;
        }
    }
    return found;
}

/* All that answer, that is: one that is down keeps nothing from being asked. */
static bool all_have(const struct dns_look *look, size_t question)
{
    size_t found = 0;
    for (size_t s = 0; s < look->server_count; s++) {
        enum dns_outcome outcome = dns_look_reply(look, question, s)->outcome;
        if (outcome == DNS_ABSENT)
            return false;
        found += outcome == DNS_FOUND;
    }
    return found > 0;
}

/* Why no server is good for comparing: the first one's reason. */
static void say_trouble(struct dns_look *look)
{
    char text[DNS_SERVER_TEXT], others[48] = "";
    const char *error = "";
    for (size_t q = 0; q < look->questions.count && !error[0]; q++)
        if (dns_look_reply(look, q, 0)->outcome == DNS_FAILED)
            error = dns_look_reply(look, q, 0)->error;
    if (look->server_count > 1)
        snprintf(others, sizeof(others), " (and %zu more)", look->server_count - 1);
    snprintf(look->trouble, sizeof(look->trouble),
             "%s: no authoritative server answers for it all: %s%s: %s", look->zone,
             dns_server_text(&look->servers[0], text), others, error);
}

int dns_look_ask(struct dns_look *look, bool resolvers)
{
    look->trouble[0] = '\0';
    free_replies(look);
    for (size_t s = 0; s < look->server_count; s++) {
        look->servers[s].silent = look->servers[s].address.family == AF_UNSPEC;
        look->servers[s].spent = 0;
    }
    for (size_t r = 0; r < look->resolver_count; r++) {
        look->resolvers[r].silent = false;
        look->resolvers[r].spent = 0;
    }
    if (!dns_questions_add(&look->questions, look->zone, DNS_SOA) ||
        !dns_questions_add(&look->questions, look->zone, DNS_NS) ||
        !(look->replies =
              calloc(look->questions.count * columns(look), sizeof(*look->replies)))) {
        snprintf(look->trouble, sizeof(look->trouble), "out of memory");
        return EXIT_SERVICE;
    }
    for (size_t i = 0; i < look->questions.count * columns(look); i++)
        look->replies[i].outcome = DNS_FAILED;
    for (size_t s = 0; s < look->server_count; s++) {
        for (size_t q = 0; q < look->questions.count; q++)
            ask_one(look, q, s);
        need_soa(look, s);
    }
    for (size_t r = 0; resolvers && r < look->resolver_count; r++)
        for (size_t q = 0; q < look->questions.count; q++)
            if (all_have(look, q))
                ask_one(look, q, look->server_count + r);
    if (command_stopped()) {
        snprintf(look->trouble, sizeof(look->trouble),
                 "interrupted: nothing was changed");
        return EXIT_AGAIN;
    }
    if (choose_best(look))
        return EXIT_DONE;
    say_trouble(look);
    return EXIT_SERVICE;
}

int dns_look_live(const struct dns_look *look, struct dns_sets *out)
{
    for (size_t q = 0; q < look->questions.count; q++) {
        const struct dns_set *set = dns_look_set(look, q, look->best);
        if (!set)
            continue;
        if (!dns_sets_add_set(out, set)) {
            message("out of memory");
            return EXIT_SERVICE;
        }
        for (size_t s = 0; s < look->server_count; s++) {
            const struct dns_set *other = dns_look_set(look, q, s);
            struct dns_set *taken = &out->items[out->count - 1];
            if (other && other->ttl > taken->ttl)
                taken->ttl = other->ttl;
        }
    }
    return EXIT_DONE;
}

uint32_t dns_look_negative(const struct dns_look *look)
{
    uint32_t most = 0;
    for (size_t q = 0; q < look->questions.count; q++) {
        const struct dns_reply *reply = dns_look_reply(look, q, look->best);
        if (reply->outcome == DNS_ABSENT && reply->negative_ttl > most)
            most = reply->negative_ttl;
    }
    return most;
}

void dns_look_close(struct dns_look *look)
{
    free_replies(look);
    dns_questions_free(&look->questions);
    dns_sets_free(&look->delegation);
}
