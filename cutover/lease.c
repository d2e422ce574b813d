/*
 * lease: see lease.h. The store keeps the holder's text; its end names the process.
 */
#include "lease.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "fnv.h"
#include "run.h"

#define RENEWALS 6 /* in the time it lasts */
#define PROCESS  " (pid %ld at %08" PRIx32 ")"

/* A number for the processes that kill(2) can see here; 0: not known, as without /proc,
 * where all hosts would look the same. */
static uint32_t process_space(void)
{
    char text[80] = "";
    struct stat info;
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file && !fgets(text, 40, file))
        text[0] = '\0';
    if (file)
        fclose(file);
    size_t len = strlen(text);
    if (len == 0 || stat("/proc/self/ns/pid", &info) != 0)
        return 0;
    (void)snprintf(text + len, sizeof(text) - len, "%ju", (uintmax_t)info.st_ino);
    return (uint32_t)fnv_fold(fnv_hash(0, text, strlen(text)));
}

void lease_init(struct lease *lease, const char *kind, const char *domain,
                const char *who, int seconds)
{
    *lease = (struct lease){ .seconds = seconds };
    (void)snprintf(lease->name, sizeof(lease->name), "%s:%s", kind, domain);
    (void)snprintf(lease->holder, sizeof(lease->holder), "%.200s" PROCESS, who,
                   (long)getpid(), process_space());
}

/* The process of this host that lease->other names; 0: it is none. */
static long other_pid(const struct lease *lease)
{
    const char *at = strrchr(lease->other, '(');
    uint32_t space = 0;
    long pid = 0;
    int end = 0;
    bool ok = at && at > lease->other &&
              sscanf(at - 1, " (pid %ld at %8" SCNx32 ")%n", &pid, &space, &end) == 2 &&
              end > 0 && space != 0 && space == process_space();
    return ok && pid > 1 ? pid : 0;
}

bool lease_is_here(const struct lease *lease)
{
    return other_pid(lease) > 0;
}

static enum commit ask(struct lease *lease, struct store *store)
{
    return store_lease_take(store, lease->name, lease->holder, lease->seconds,
                            lease->other, sizeof(lease->other));
}

enum commit lease_take(struct lease *lease, struct store *store)
{
    lease->other[0] = '\0';
    lease->renew_at = clock_ms() + lease->seconds * 1000 / RENEWALS;
    enum commit commit = ask(lease, store);
    if (commit == COMMIT_REFUSED && lease_is_here(lease) &&
        run_is_gone(other_pid(lease))) {
        store_lease_drop(store, lease->name, lease->other);
        commit = ask(lease, store);
    }
    if (commit == COMMIT_REFUSED)
        lease->lost = lease->held;
    else if (commit == COMMIT_DONE)
        lease->held = true;
    return commit;
}

void lease_drop(struct lease *lease, struct store *store)
{
    if (lease->held && !lease->lost)
        store_lease_drop(store, lease->name, lease->holder);
    lease->held = false;
}
