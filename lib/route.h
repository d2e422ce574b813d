/*
 * route: from a recipient as the MTA names it to a verdict. Milter, policy
 * service, lookup tables and the drain all come through here, so the gates
 * cannot disagree.
 *
 *     route_prepare()   text -> managed mailbox, or no opinion (no I/O needed)
 *     a lookup          fills lookup and home (store.h, or policyd's own)
 *     route_finish()    -> verdict, next hop, addresses
 *
 * Pure functions, no I/O.
 */
#ifndef SLUICE_ROUTE_H
#define SLUICE_ROUTE_H

#include "addr.h"
#include "conf.h"
#include "home.h"
#include "verdict.h"

struct route {
    const struct conf_domain *domain; /* NULL: not managed */
    bool same_as;     /* was reached under another name than domain->name */
    bool overlong;    /* local part too long (or malformed) to be listed: then
                         addr.local is "", and base alone may be a mailbox */
    struct addr addr; /* domain = domain->name */
    char base[ADDR_LOCAL_MAX + 1]; /* "" when there is no extension */

    enum lookup lookup;
    struct home home;
    bool exact;       /* home is the address's own, not its base's or domain's */

    enum verdict verdict;
    char next_hop[ADDR_DOMAIN_MAX + 16]; /* for VERDICT_FORWARD */
};

/* false: not a managed domain, not an address, or an address without domain;
 * then verdict is VERDICT_NONE and no lookup is wanted. */
bool route_prepare(const struct conf *conf, const char *text, size_t len,
                   struct route *route);

/* The values of HMGET home:<domain> "" <local> <base> (NULL: no such field):
 * exact match first, then the base, then the domain's own record, which must
 * exist. Sets lookup and home. An undecodable record is LOOKUP_FAILED. */
struct route_value {
    const char *text;
    size_t len;
};
void route_set_values(struct route *route, const struct route_value *own,
                      const struct route_value *exact,
                      const struct route_value *base);

/* Sets verdict, next_hop and, by the domain's new-address pattern, a missing
 * home.new_address. A forward without configured next hop is VERDICT_LATER. */
void route_finish(const struct conf *conf, struct route *route);

/* The canonical address; of one that is too long or malformed its base's. */
void route_address(const struct route *route, char out[ADDR_TEXT_MAX + 1]);

#endif
