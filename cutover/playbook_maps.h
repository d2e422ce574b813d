/*
 * playbook_maps: the addresses that this host's Postfix has in its tables, by
 * postconf(1) and "postmap -s".
 */
#ifndef SLUICE_PLAYBOOK_MAPS_H
#define SLUICE_PLAYBOOK_MAPS_H

#include <stdbool.h>
#include <stddef.h>

#include "conf.h"

#define MAPS_SKIPPED_MAX 400

struct maps {
    const struct conf *conf;
    const struct conf_domain *domain;
    /* An address of the domain (canonical, in its own name): a mailbox, or an alias. */
    bool (*each)(void *context, const char *address, bool alias);
    void *context;
    /* results */
    size_t tables;                  /* that were read */
    size_t unlistable;              /* that were not: ldap, regexp, ... */
    char skipped[MAPS_SKIPPED_MAX]; /* their names; cut with "..." */
    bool catch_all;                 /* "@domain" is in one of them */
};
/* EXIT_DONE, or another exit code after a message. */
int maps_read(struct maps *maps);

/* ---- pure ---------------------------------------------------------------- */

/* Whether "postmap -s" can list a table: "hash:/etc/postfix/virtual",
 * "proxy:lmdb:...". out is it without "proxy:". */
bool maps_listable(const char *table, const char **out);

enum maps_key {
    MAPS_OTHER, /* of another domain, or not an address */
    MAPS_MAILBOX,
    MAPS_ALIAS,
    MAPS_CATCH_ALL,
};
/* One line "KEY TAB VALUE" of a table. aliases: the table maps addresses to others; a
 * key that maps to itself alone is a mailbox. bare: a key without a domain is of the
 * domain. address: ADDR_TEXT_MAX + 1 bytes, set for mailbox and alias. */
enum maps_key maps_judge(const struct conf *conf, const struct conf_domain *domain,
                         const char *line, bool aliases, bool bare, char *address);

#endif
