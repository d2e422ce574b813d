/*
 * route: from a recipient to a verdict.
 *
 * Every gate (milter, policy service, lookup tables, drain, release) asks here,
 * so they cannot disagree about an address. The rules:
 *
 *  - a name listed in same-as is the managed domain itself;
 *  - user+ext is looked up as it stands, then as user, then the domain's own
 *    record decides (an unlisted mailbox lives where its domain does);
 *  - the domain's own record must exist even when the mailbox is found: without
 *    it the store is not the one that was initialised, and nothing in it counts;
 *  - an address that is too long or malformed before its '@' cannot be listed,
 *    and is still mail for a managed domain: its base, if it has one, or else the
 *    domain's record decides;
 *  - with a new-address pattern, a mailbox without a new address of its own
 *    gets one: %l is the mailbox's local part, without an extension that is not
 *    part of a listed address;
 *  - a forward that nobody configured a next hop for is "try later".
 */
#include <stdio.h>
#include <string.h>

#include "route.h"

bool route_prepare(const struct conf *conf, const char *text, size_t len,
                   struct route *route)
{
    memset(route, 0, sizeof(*route));
    route->lookup = LOOKUP_FAILED;
    route->verdict = VERDICT_NONE;

    enum addr_kind kind = addr_parse(text, len, &route->addr);
    if (!route->addr.domain[0])
        return false;
    route->domain = conf_managed(conf, route->addr.domain);
    if (!route->domain)
        return false;
    route->overlong = kind != ADDR_OK;
    route->same_as = strcmp(route->domain->name, route->addr.domain) != 0;
    if (route->same_as)
        memcpy(route->addr.domain, route->domain->name, strlen(route->domain->name) + 1);
    addr_base(route->addr.local, conf->recipient_delimiter, route->base);
    if (route->overlong)
        route->addr.local[0] = '\0';
    return true;
}

static bool is_there(const struct route_value *value)
{
    return value && value->text;
}

void route_set_values(struct route *route, const struct route_value *own,
                      const struct route_value *exact, const struct route_value *base)
{
    struct home domain_home;

    route->exact = false;
    if (!is_there(own)) {
        route->lookup = LOOKUP_ABSENT;
        return;
    }
    route->lookup = LOOKUP_FAILED;
    if (!home_decode(own->text, own->len, &domain_home))
        return;
    const struct route_value *listed = NULL;
    if (!route->overlong && is_there(exact))
        listed = exact;
    else if (route->base[0] && is_there(base))
        listed = base;
    if (listed) {
        if (!home_decode(listed->text, listed->len, &route->home))
            return;
        route->exact = listed == exact;
    } else {
        route->home = domain_home;
        route->home.listed = false;
    }
    route->lookup = LOOKUP_FOUND;
}

/* The pattern with the mailbox's local part for %l; false when there is none,
 * or the result would be too long for an address. */
static bool expand_pattern(const struct route *route, char out[ADDR_TEXT_MAX + 1])
{
    const char *pattern = route->domain->new_address;

    if (!pattern)
        return false;
    const char *mark = strstr(pattern, "%l");
    const char *at = strrchr(pattern, '@');
    if (!mark || !at || mark + 2 > at)
        return false;
    const char *local = route->base[0] && !route->exact ? route->base : route->addr.local;
    if (!local[0])
        return false;
    char expanded[ADDR_LOCAL_MAX + 1];
    int len = snprintf(expanded, sizeof(expanded), "%.*s%s%.*s", (int)(mark - pattern),
                       pattern, local, (int)(at - mark - 2), mark + 2);
    if (len < 0 || (size_t)len >= sizeof(expanded))
        return false;
    addr_format(expanded, at + 1, out);
    return true;
}

static bool set_next_hop(const struct conf_hop *hop, struct route *route)
{
    size_t len = hop->text ? strlen(hop->text) : 0;

    if (len == 0 || len >= sizeof(route->next_hop))
        return false;
    memcpy(route->next_hop, hop->text, len + 1);
    return true;
}

void route_finish(const struct conf *conf, struct route *route)
{
    route->next_hop[0] = '\0';
    if (!route->domain) {
        route->verdict = VERDICT_NONE;
        return;
    }
    if (route->lookup == LOOKUP_FOUND && !route->home.new_address[0] &&
        !expand_pattern(route, route->home.new_address))
        route->home.new_address[0] = '\0';
    route->verdict = verdict_decide(conf->side, route->lookup, &route->home);
    const struct conf_hop *hop =
        conf->side == SIDE_OLD ? &route->domain->new : &route->domain->old;
    if (route->verdict == VERDICT_FORWARD && !set_next_hop(hop, route))
        route->verdict = VERDICT_LATER;
}

void route_address(const struct route *route, char out[ADDR_TEXT_MAX + 1])
{
    addr_format(route->overlong ? route->base : route->addr.local, route->addr.domain,
                out);
}
