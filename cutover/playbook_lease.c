/*
 * playbook_lease: one runner per domain. A lease in the store of LEASE_S, renewed
 * while the runner lives; what a runner of another host that was killed still holds
 * runs out by itself, one of this host that is gone is taken at once (its work has
 * a guard that ends with it: playbook_guard.h).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "clock.h"
#include "output.h"
#include "playbook_engine.h"

#define LEASE_S        20
#define LEASE_NAME_MAX (ADDR_DOMAIN_MAX + 16)

static void lease_name(const struct engine *engine, char out[LEASE_NAME_MAX])
{
    (void)snprintf(out, LEASE_NAME_MAX, "playbook:%s", engine->domain->name);
}

/* Whether holder ("user@host:pid") was a process of this host that is gone. */
static bool is_gone(const struct engine *engine, const char *holder)
{
    const char *at = strrchr(engine->by, '@'), *other = strrchr(holder, '@');
    const char *pid = strrchr(holder, ':');
    size_t len = at ? strlen(at) : 0;
    if (!at || !other || !pid || strncmp(at, other, len) != 0 || other + len != pid)
        return false;
    long number = strtol(pid + 1, NULL, 10);
    return number > 0 && kill((pid_t)number, 0) != 0 && errno == ESRCH;
}

static enum commit ask_lease(struct engine *engine, char *other, size_t size)
{
    struct store *store = engine->context->store;
    char name[LEASE_NAME_MAX];
    lease_name(engine, name);
    engine->lease_at = clock_ms() + LEASE_S * 1000 / 4;
    enum commit commit =
        store_lease_take(store, name, engine->holder, LEASE_S, other, size);
    if (commit == COMMIT_REFUSED && is_gone(engine, other)) {
        store_lease_drop(store, name, other);
        commit = store_lease_take(store, name, engine->holder, LEASE_S, other, size);
    }
    return commit;
}

int engine_lease(struct engine *engine)
{
    char other[200];
    if (engine->lost)
        return EXIT_AGAIN;
    if (engine->leased && clock_ms() < engine->lease_at)
        return EXIT_DONE;
    bool first = !engine->leased;
    switch (ask_lease(engine, other, sizeof(other))) {
    case COMMIT_DONE:
        engine->leased = true;
        return EXIT_DONE;
    case COMMIT_REFUSED:
        message("the playbook of %s is being run by %s%s", engine->domain->name, other,
                first ? ": sluice playbook status shows it" : ", who took it over");
        engine->lost = true;
        return EXIT_AGAIN;
    case COMMIT_UNCERTAIN:
        break;
    }
    if (!first)
        return EXIT_DONE; /* an outage: the next renewal tells */
    message("%s", store_error(engine->context->store));
    return EXIT_SERVICE;
}

void engine_release(struct engine *engine)
{
    char name[LEASE_NAME_MAX];
    lease_name(engine, name);
    if (!engine->lost && engine->leased)
        store_lease_drop(engine->context->store, name, engine->holder);
    engine->leased = false;
}
