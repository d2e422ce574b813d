/*
 * socketmap: the tables "transport" and "virtual".
 *
 * transport is the delivery gate (transport_maps): every recipient comes
 * through it after alias expansion, so a doubt here is TEMP. virtual is for
 * redirected mailboxes (virtual_alias_maps); a doubt there is "not found",
 * because TEMP would refuse the whole message and the transport map gates
 * anyway.
 *
 *     verdict     transport                  virtual
 *     none        NOTFOUND                   NOTFOUND
 *     deliver     NOTFOUND                   NOTFOUND
 *     hold        OK sluice-hold:            NOTFOUND
 *     forward     OK sluice-forward:<hop>    NOTFOUND, or the managed address
 *                                            for one of its other names
 *     redirect    OK sluice-hold:            OK <new address>
 *     later       TEMP                       NOTFOUND
 *
 * A redirected mailbox's old address is never "not found" in transport: it
 * would fall into the old mailbox. The domains of new and copy addresses go out
 * by sluice-forward with an empty next hop, so that nothing sent there bounces.
 *
 * Keys without "@" (Postfix asks "*" and every bare domain) and keys of domains
 * that are not managed cost no lookup. Postfix refuses an empty OK, and asks
 * for no partial keys: extensions are handled by route.h.
 *
 * Another MTA's table is one more line in maps[].
 */
#include "socketmap.h"

#include <stdio.h>
#include <string.h>

struct socketmap_map {
    const char *name;
    /* The reply for a key that no managed mailbox has; NULL: not found. */
    const char *(*unmanaged)(const struct conf *conf, const struct route *route);
    void (*answer)(const struct route *route, char reply[SOCKETMAP_REPLY_MAX]);
};

static const char not_found[] = "NOTFOUND ";

static void say(char reply[SOCKETMAP_REPLY_MAX], const char *before, const char *value)
{
    int len = snprintf(reply, SOCKETMAP_REPLY_MAX, "%s%s", before, value);
    if (len < 0 || len >= SOCKETMAP_REPLY_MAX)
        memcpy(reply, "TEMP reply too long", sizeof("TEMP reply too long"));
}

/* ---- transport --------------------------------------------------------- */

static const char *transport_unmanaged(const struct conf *conf, const struct route *route)
{
    if (route->addr.domain[0] && conf_redirects_to(conf, route->addr.domain))
        return "OK sluice-forward:";
    return not_found;
}

static void transport_answer(const struct route *route, char reply[SOCKETMAP_REPLY_MAX])
{
    switch (route->verdict) {
    case VERDICT_NONE:
    case VERDICT_DELIVER:
        say(reply, not_found, "");
        return;
    case VERDICT_HOLD:
    case VERDICT_REDIRECT:
        say(reply, "OK sluice-hold:", "");
        return;
    case VERDICT_FORWARD:
        say(reply, "OK sluice-forward:", route->next_hop);
        return;
    case VERDICT_LATER:
        break;
    }
    say(reply, "TEMP the mailbox's home is not known at present", "");
}

/* ---- virtual ----------------------------------------------------------- */

static void virtual_answer(const struct route *route, char reply[SOCKETMAP_REPLY_MAX])
{
    char address[ADDR_TEXT_MAX + 1];
    if (route->verdict == VERDICT_REDIRECT) {
        say(reply, "OK ", route->home.new_address);
    } else if (route->verdict == VERDICT_FORWARD && route->same_as &&
               (!route->overlong || route->base[0])) {
        route_address(route, address);
        say(reply, "OK ", address);
    } else {
        say(reply, not_found, "");
    }
}

/* ---- the tables -------------------------------------------------------- */

static const struct socketmap_map maps[] = {
    { "transport", transport_unmanaged, transport_answer },
    { "virtual", NULL, virtual_answer },
};

static const struct socketmap_map *find_map(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++)
        if (strlen(maps[i].name) == len && memcmp(maps[i].name, name, len) == 0)
            return &maps[i];
    return NULL;
}

bool socketmap_parse(const char *payload, size_t len, struct socketmap_request *out)
{
    const char *space = memchr(payload, ' ', len);
    if (!space || space == payload)
        return false;
    size_t name_len = (size_t)(space - payload);
    out->map = find_map(payload, name_len);
    out->key = space + 1;
    out->key_len = len - name_len - 1;
    return true;
}

bool socketmap_wants_lookup(const struct socketmap_request *request,
                            const struct conf *conf, struct route *route,
                            char reply[SOCKETMAP_REPLY_MAX])
{
    const struct socketmap_map *map = request->map;
    if (!map) {
        say(reply, "PERM no such map: there are transport and virtual", "");
        return false;
    }
    if (!memchr(request->key, '@', request->key_len)) {
        say(reply, not_found, "");
        return false;
    }
    if (route_prepare(conf, request->key, request->key_len, route))
        return true;
    say(reply, map->unmanaged ? map->unmanaged(conf, route) : not_found, "");
    return false;
}

void socketmap_answer(const struct socketmap_map *map, const struct route *route,
                      char reply[SOCKETMAP_REPLY_MAX])
{
    map->answer(route, reply);
}
