/*
 * lease: one runner at a time of a kind for a domain (cutover, playbook), on whatever
 * host. What a killed runner of another host still holds runs out by itself; one of this
 * host that is gone is taken at once.
 *
 * "This host" is this run of its kernel and this namespace of processes: two servers
 * may both be called "mail", and a process of one is not to be looked for on the other.
 */
#ifndef SLUICE_LEASE_H
#define SLUICE_LEASE_H

#include "addr.h"
#include "store.h"

struct lease {
    char name[ADDR_DOMAIN_MAX + 16];
    char holder[256]; /* as others see it: "root@mx1 (pid 4711 at 1a2b3c4d)" */
    int seconds;
    bool held;
    bool lost;        /* to somebody else, after it was held */
    int64_t renew_at; /* clock_ms() */
    char other[512];  /* who has it, after COMMIT_REFUSED */
};

/* who: a person for others to see, "user@host". */
void lease_init(struct lease *lease, const char *kind, const char *domain,
                const char *who, int seconds);
/* Takes or renews it. COMMIT_REFUSED: lease->other has it. */
enum commit lease_take(struct lease *lease, struct store *store);
/* Whether it is a process of this host that has it; it may be about to end. */
bool lease_is_here(const struct lease *lease);
/* Gives it back, where it is held. */
void lease_drop(struct lease *lease, struct store *store);

#endif
