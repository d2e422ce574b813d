/*
 * dns_look: what every authoritative server of a zone, and every configured
 * resolver, says about the records of a domain.
 */
#ifndef SLUICE_DNS_LOOK_H
#define SLUICE_DNS_LOOK_H

#include "command.h"
#include "conf.h"
#include "dns_ask.h"
#include "dns_plan.h"

#define DNS_SERVERS_MAX                                                                  \
    32 /* authoritative ones, each address is one; more are left out */

struct dns_look {
    const struct conf *conf;
    const struct conf_domain *domain;
    char zone[DNSRECORD_NAME_MAX + 1]; /* the zone's apex */
    struct dns_sets delegation;        /* its NS as the parent has it */
    struct dns_server resolvers[DNS_SERVERS_MAX];
    size_t resolver_count;
    struct dns_server servers[DNS_SERVERS_MAX];
    size_t server_count;
    struct dns_questions questions;
    struct dns_reply *replies; /* [question][server, then resolver] */
    bool *wild;                /* [question]: the best server makes it of a wildcard */
    size_t best;               /* the primary, or the one with the highest serial */
    char trouble[DNS_SERVER_TEXT + DNS_ERROR_MAX + 320]; /* of the last dns_look_ask() */
};

/* Finds the zone and its servers. EXIT_DONE, or another exit code after a message. */
int dns_look_open(struct dns_look *look, const struct conf *conf,
                  const struct conf_domain *domain);
/* Asks all servers all questions, and (resolvers) the resolvers what every server
 * knows. May be called again: servers that were silent are tried again then. EXIT_DONE;
 * else look->trouble is one line: EXIT_SERVICE when no server answered everything,
 * EXIT_AGAIN when a signal came. */
int dns_look_ask(struct dns_look *look, bool resolvers);
void dns_look_close(struct dns_look *look);

const struct dns_reply *dns_look_reply(const struct dns_look *look, size_t question,
                                       size_t server);
/* The live set of this question on a server; NULL: none, or no answer. */
const struct dns_set *dns_look_set(const struct dns_look *look, size_t question,
                                   size_t server);
/* SIZE_MAX: not asked. */
size_t dns_look_question(const struct dns_look *look, const char *name,
                         enum dns_type type);
/* Whether the live set of this question is of a wildcard, and not in the zone. */
bool dns_look_wild(const struct dns_look *look, size_t question);
/* The zone's sets as the best server has them, but those of wildcards; longest: each with
 * the highest TTL of all servers, which is how long a cache may hold it. EXIT_DONE, or
 * another exit code after a message. */
int dns_look_live(const struct dns_look *look, bool longest, struct dns_sets *out);
/* What wildcards make, with the longest TTLs: it is in caches. */
int dns_look_made(const struct dns_look *look, struct dns_sets *out);
/* How long the absence of a name is kept by caches; 0: not known. */
uint32_t dns_look_negative(const struct dns_look *look);

/* The configured resolvers, or those of the host. */
void dns_servers_resolvers(struct dns_look *look);
/* Finds the zone, its delegation and its servers. EXIT_DONE, or another exit code after a
 * message. */
int dns_servers_find(struct dns_look *look);
/* One question to the resolvers, the first that answers; an error names it. To be
 * freed. */
void dns_look_resolve(struct dns_look *look, const char *name, enum dns_type type,
                      struct dns_reply *reply);

#endif
