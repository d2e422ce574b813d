/*
 * playbook_claim: see playbook_claim.h.
 */
#include "playbook_claim.h"

#include <stdio.h>
#include <string.h>

#include "output.h"
#include "playbook_state.h"

struct claim {
    char field[PLAYBOOK_ID_MAX + 8];
    char host[STATE_BY_MAX + 1]; /* "": no host yet */
    bool is_ours;
};

static bool take_claim(void *context, const char *name, const char *value)
{
    struct claim *claim = context;
    const char *tab = strchr(value, '\t');
    if (strcmp(name, claim->field) != 0)
        return true;
    state_text(tab ? tab + 1 : "?", claim->host, sizeof(claim->host));
    return false;
}

static int read_claim(const struct action_context *context, struct claim *claim)
{
    struct store *store = context->command->store;
    char own[sizeof(claim->host)];
    *claim = (struct claim){ 0 };
    (void)snprintf(claim->field, sizeof(claim->field), "@at.%.*s", PLAYBOOK_ID_MAX,
                   context->step);
    if (!store_each_playbook(store, context->domain, take_claim, claim)) {
        message("%s", store_error(store));
        return EXIT_SERVICE;
    }
    state_text(context->command->conf->hostname, own, sizeof(own));
    claim->is_ours = strcmp(claim->host, own) == 0;
    return EXIT_DONE;
}

static int elsewhere(const struct action_context *context, const struct claim *claim,
                     const char *kept)
{
    message(
        "step %s was begun on %s, and what the way back needs is there: do it on that "
        "host, or copy its %s to this one first",
        context->step, claim->host, kept);
    return EXIT_CHECK;
}

int claim_check(const struct action_context *context, const char *kept)
{
    struct claim claim;
    int code = read_claim(context, &claim);
    return code != EXIT_DONE || !claim.host[0] || claim.is_ours
               ? code
               : elsewhere(context, &claim, kept);
}

int claim_step(const struct action_context *context, const char *kept)
{
    struct store *store = context->command->store;
    struct claim claim;
    char own[sizeof(claim.host)];
    uint64_t epoch;
    int code = read_claim(context, &claim);
    if (code != EXIT_DONE || claim.host[0])
        return code != EXIT_DONE || claim.is_ours ? code
                                                  : elsewhere(context, &claim, kept);
    state_text(context->command->conf->hostname, own, sizeof(own));
    const struct playbook_field field = { claim.field, own };
    const struct playbook_put what = { .domain = context->domain,
                                       .fields = &field,
                                       .count = 1 };
    if (store_playbook_put(store, &what, &epoch) == COMMIT_DONE)
        return EXIT_DONE;
    message("%s; nothing was changed, run the same command again", store_error(store));
    return EXIT_AGAIN;
}
