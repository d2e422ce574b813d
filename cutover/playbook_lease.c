/*
 * playbook_lease: one runner per domain. A lease in the store of LEASE_S, renewed
 * while the runner lives; what a runner of another host that was killed still holds
 * runs out by itself, one of this host that is gone is taken at once (its work has
 * a guard that ends with it: playbook_guard.h). "This host" is this run of its kernel
 * and this namespace of processes: two servers may both be called "mail", and a process
 * of one is not to be looked for on the other.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* A number for the processes that kill(2) can see here. */
static uint32_t process_space(void)
{
    char boot[40] = "";
    struct stat info;
    uint32_t hash = 2166136261u;
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file && !fgets(boot, sizeof(boot), file))
        boot[0] = '\0';
    if (file)
        fclose(file);
    for (const char *c = boot; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    if (stat("/proc/self/ns/pid", &info) == 0)
        hash = (hash ^ (uint32_t)info.st_ino) * 16777619u;
    return hash;
}

/* "user@host/SPACE:pid" */
void engine_name_holder(struct engine *engine)
{
    (void)snprintf(engine->holder, sizeof(engine->holder), "%.120s/%08" PRIx32 ":%ld",
                   engine->by, process_space(), (long)getpid());
}

/* Whether holder was a process of this host that is gone. */
static bool is_gone(const struct engine *engine, const char *holder)
{
    const char *at = strrchr(engine->holder, '@'), *other = strrchr(holder, '@');
    const char *end = strrchr(engine->holder, ':'), *pid = strrchr(holder, ':');
    if (!at || !end || !other || !pid || end < at || pid - other != end - at ||
        strncmp(at, other, (size_t)(end - at)) != 0)
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
