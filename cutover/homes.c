/*
 * homes: looks up the homes of a list of mailboxes (see homes.h).
 *
 * Each batch is one round trip of store_lookup(), small enough for its time
 * limit. The lookup is the one that decides about mail, but without the fall
 * back from "user+extension" to "user": the question is about this very record.
 */
#include "homes.h"

#include <stdlib.h>
#include <string.h>

#include "output.h"

#define LOOKUPS 200

struct lookup_batch {
    struct command_context *context;
    const char *domain;
    char *const *locals;
    size_t from, n;
    struct route routes[LOOKUPS];
    struct home own; /* of the domain; there when own_known */
    bool own_known;
};

/* The domain's own record has no address: the totals have it. */
static bool look_up_own(struct lookup_batch *batch)
{
    struct store_totals totals;
    if (batch->own_known)
        return true;
    if (store_totals(batch->context->store, batch->domain, &totals) != LOOKUP_FOUND)
        return false;
    batch->own = totals.own;
    batch->own.listed = false;
    batch->own_known = true;
    return true;
}

static bool look_up_batch(struct lookup_batch *batch)
{
    struct route *list[LOOKUPS] = { NULL };
    char text[ADDR_TEXT_MAX + 1];
    size_t wanted = 0;
    for (size_t i = 0; i < batch->n; i++) {
        struct route *route = &batch->routes[i];
        const char *local = batch->locals[batch->from + i];
        *route = (struct route){ 0 };
        if (!local[0]) {
            if (!look_up_own(batch))
                return false;
            continue;
        }
        addr_format(local, batch->domain, text);
        if (!route_prepare(batch->context->conf, text, strlen(text), route))
            return false;
        route->base[0] = '\0'; /* this mailbox, not one that covers it */
        list[wanted++] = route;
    }
    store_lookup(batch->context->store, list, wanted);
    for (size_t i = 0; i < wanted; i++)
        if (list[i]->lookup != LOOKUP_FOUND)
            return false;
    return true;
}

bool homes_look_up(struct command_context *context, const char *domain,
                   char *const *locals, size_t count, homes_fn *each, void *data)
{
    struct lookup_batch *batch = calloc(1, sizeof(*batch));
    bool more = true;
    if (!batch) {
        message("out of memory");
        return false;
    }
    batch->context = context;
    batch->domain = domain;
    batch->locals = locals;
    for (; more && batch->from < count; batch->from += batch->n) {
        batch->n = count - batch->from < LOOKUPS ? count - batch->from : LOOKUPS;
        if (!look_up_batch(batch)) {
            message("%s: %s", domain, store_error(context->store));
            free(batch);
            return false;
        }
        for (size_t i = 0; more && i < batch->n; i++)
            more =
                each(data, batch->from + i,
                     locals[batch->from + i][0] ? &batch->routes[i].home : &batch->own);
    }
    free(batch);
    return true;
}
