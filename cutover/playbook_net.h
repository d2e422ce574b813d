/*
 * playbook_net: names, as the actions of playbooks look them up.
 */
#ifndef SLUICE_PLAYBOOK_NET_H
#define SLUICE_PLAYBOOK_NET_H

#include "conf.h"
#include "dns_ask.h"

/* Asks the resolvers of the configuration, the first that answers; dns_reply_free(). */
void net_resolve(const struct conf *conf, const char *name, enum dns_type type,
                 struct dns_reply *reply);
#define NET_WHY_MAX 700
/* Follows CNAMEs to an address; target is the name that has it. false: why. */
bool net_address(const struct conf *conf, const char *host,
                 char address[DNSRECORD_NAME_MAX + 1],
                 char target[DNSRECORD_NAME_MAX + 1], char why[NET_WHY_MAX]);

#endif
