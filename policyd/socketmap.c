/*
 * socketmap: the tables "transport", "virtual" and "srs".
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
 * srs is for recipient_canonical_maps: what bounces to a rewritten sender
 * (lib/srs.h) goes back to the sender himself. No Redis is asked. Anything else,
 * and an address that is forged or too old, is not found: then Postfix finds no
 * such user in the srs domain, and refuses it.
 *
 * Another MTA's table is one more line in maps[].
 */
#include "socketmap.h"

#include <stdio.h>
#include <string.h>

#include "srs.h"

struct socketmap_map {
    const char *name;
    /* The whole reply, without a lookup; NULL: a home is looked up. */
    void (*at_once)(const struct conf *conf, const char *key, int64_t now,
                    char reply[SOCKETMAP_REPLY_MAX]);
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

/* ---- srs --------------------------------------------------------------- */

static void srs_answer(const struct conf *conf, const char *key, int64_t now,
                       char reply[SOCKETMAP_REPLY_MAX])
{
    char original[ADDR_TEXT_MAX + 1];
    const struct srs_keys keys = { conf->srs.domain,
                                   (const char *const *)conf->srs.secrets };
    enum srs_status status =
        keys.domain ? srs_reverse(&keys, key, now, original) : SRS_NOT_NEEDED;
    if (status == SRS_DONE)
        say(reply, "OK ", original);
    else if (status == SRS_FAILED)
        say(reply, "TEMP no memory", "");
    else
        say(reply, not_found, "");
}

/* ---- the tables -------------------------------------------------------- */

static const struct socketmap_map maps[] = {
    { .name = "transport", .unmanaged = transport_unmanaged, .answer = transport_answer },
    { .name = "virtual", .answer = virtual_answer },
    { .name = "srs", .at_once = srs_answer },
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

/* A key as a string. What is longer than any address, or has a NUL, is found in
 * no table of addresses. */
static bool take_key(const struct socketmap_request *request, char key[ADDR_TEXT_MAX + 1])
{
    if (request->key_len > ADDR_TEXT_MAX || memchr(request->key, '\0', request->key_len))
        return false;
    memcpy(key, request->key, request->key_len);
    key[request->key_len] = '\0';
    return true;
}

bool socketmap_wants_lookup(const struct socketmap_request *request,
                            const struct conf *conf, int64_t now, struct route *route,
                            char reply[SOCKETMAP_REPLY_MAX])
{
    const struct socketmap_map *map = request->map;
    char key[ADDR_TEXT_MAX + 1];
    if (!map) {
        say(reply, "PERM no such map: there are transport, virtual and srs", "");
        return false;
    }
    if (!memchr(request->key, '@', request->key_len)) {
        say(reply, not_found, "");
        return false;
    }
    if (map->at_once) {
        if (take_key(request, key))
            map->at_once(conf, key, now, reply);
        else
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
