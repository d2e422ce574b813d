/*
 * dns_look: asks the servers of a zone (see dns_look.h; dns_servers.c finds them).
 *
 * A resolver is asked only about what every authoritative server has: a question that
 * is asked too early puts "there is none" into its cache, and keeps the new record from
 * its users for as long as the SOA says.
 *
 * Of a wildcard a server makes records that are not in the zone: they can neither be
 * removed nor be a prerequisite. "*.NAME" is answered by the same wildcard when NAME is
 * not there itself (RFC 4592 3.3.1), and by none when it is.
 */
#include "dns_look.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

int dns_look_open(struct dns_look *look, const struct conf *conf,
                  const struct conf_domain *domain)
{
    *look = (struct dns_look){ .conf = conf, .domain = domain };
    dns_servers_resolvers(look);
    if (!dns_plan_questions(domain, &look->questions)) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    return dns_servers_find(look);
}

/* ---- asking --------------------------------------------------------------- */

static size_t columns(const struct dns_look *look)
{
    return look->server_count + look->resolver_count;
}

static void free_replies(struct dns_look *look)
{
    free(look->wild);
    look->wild = NULL;
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

/* The zone that a server delegates a name of its own zone to; NULL: none. */
static const char *delegated(const struct dns_look *look, const char *name,
                             const struct dns_reply *reply)
{
    for (size_t i = 0; i < reply->authority.count; i++) {
        const struct dns_set *set = &reply->authority.items[i];
        if (set->type == DNS_NS && strcmp(set->name, look->zone) != 0 &&
            dnsrecord_within(set->name, look->zone) && dnsrecord_within(name, set->name))
            return set->name;
    }
    return NULL;
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
        const char *zone = delegated(look, asked->name, reply);
        reply->outcome = DNS_FAILED;
        if (zone)
            snprintf(reply->error, sizeof(reply->error),
                     "%.80s is in another zone, %.80s: take it out of the plan, and ask "
                     "who has that zone",
                     asked->name, zone);
        else
            snprintf(reply->error, sizeof(reply->error),
                     "it is not authoritative for the zone (lame delegation): load the "
                     "zone there, or take it out of the delegation");
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

/* Whether what the best server has of a question is made of a wildcard. */
static bool is_wild(struct dns_look *look, size_t question)
{
    const struct dns_question *asked = &look->questions.items[question];
    const struct dns_set *set = dns_look_set(look, question, look->best);
    char name[DNSRECORD_NAME_MAX + 1];
    struct dns_reply reply;
    if (!set || asked->name[0] == '*' || strcmp(asked->name, look->zone) == 0 ||
        snprintf(name, sizeof(name), "*.%s", asked->name) >= (int)sizeof(name))
        return false;
    dns_ask(&look->servers[look->best], name, asked->type, look->conf->dns.timeout,
            &reply);
    const struct dns_set *made = reply.outcome == DNS_FOUND
                                     ? dns_sets_find(&reply.answer, name, asked->type)
                                     : NULL;
    bool wild = made && dns_set_same(made, set);
    dns_reply_free(&reply);
    return wild;
}

bool dns_look_wild(const struct dns_look *look, size_t question)
{
    return look->wild[question];
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
        !(look->wild = calloc(look->questions.count, sizeof(*look->wild))) ||
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
    if (!choose_best(look)) {
        say_trouble(look);
        return EXIT_SERVICE;
    }
    for (size_t q = 0; q < look->questions.count; q++)
        look->wild[q] = is_wild(look, q);
    return EXIT_DONE;
}

/* What is in the zone, or what wildcards make. */
static int collect(const struct dns_look *look, bool wild, bool longest,
                   struct dns_sets *out)
{
    for (size_t q = 0; q < look->questions.count; q++) {
        const struct dns_set *set = dns_look_set(look, q, look->best);
        if (!set || dns_look_wild(look, q) != wild)
            continue;
        if (!dns_sets_add_set(out, set)) {
            message("out of memory");
            return EXIT_SERVICE;
        }
        for (size_t s = 0; longest && s < look->server_count; s++) {
            const struct dns_set *other = dns_look_set(look, q, s);
            struct dns_set *taken = &out->items[out->count - 1];
            if (other && other->ttl > taken->ttl)
                taken->ttl = other->ttl;
        }
    }
    return EXIT_DONE;
}

int dns_look_live(const struct dns_look *look, bool longest, struct dns_sets *out)
{
    return collect(look, false, longest, out);
}

int dns_look_made(const struct dns_look *look, struct dns_sets *out)
{
    return collect(look, true, true, out);
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
