/*
 * playbook_lease: one runner per domain (lease.h), renewed while the runner lives. The
 * work of one that was killed has a guard that ends with it (playbook_guard.h).
 */
#include "clock.h"
#include "output.h"
#include "playbook_engine.h"

#define LEASE_S 20

void engine_name_holder(struct engine *engine)
{
    lease_init(&engine->lease, "playbook", engine->domain->name, engine->by, LEASE_S);
}

int engine_lease(struct engine *engine)
{
    struct lease *lease = &engine->lease;
    if (lease->lost)
        return EXIT_AGAIN;
    if (lease->held && clock_ms() < lease->renew_at)
        return EXIT_DONE;
    bool first = !lease->held;
    switch (lease_take(lease, engine->context->store)) {
    case COMMIT_DONE:
        return EXIT_DONE;
    case COMMIT_REFUSED:
        message("the playbook of %s is being run by %s%s", engine->domain->name,
                lease->other,
                first ? ": sluice playbook status shows it" : ", who took it over");
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
    lease_drop(&engine->lease, engine->context->store);
}
