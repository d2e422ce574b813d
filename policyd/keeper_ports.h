/*
 * keeper_ports: the fence's view of this host (struct fence_ports), made of
 * the queue, the store, the configuration and policyd's lookups. Private to
 * the keeper.
 */
#ifndef SLUICE_POLICYD_KEEPER_PORTS_H
#define SLUICE_POLICYD_KEEPER_PORTS_H

#include <stdbool.h>
#include <stdint.h>

#include "conf.h"
#include "fence.h"
#include "lookup.h"
#include "queue.h"
#include "store.h"

struct old_process;

/* Filled by the keeper; what is NULL is not there (yet). */
struct keeper_ports {
    struct conf *conf;
    struct store *store;
    struct queue *queue;
    struct lookups *lookups;
    struct queue_settings settings;
    bool settings_known;
    int64_t settings_ms;     /* when they were read */
    struct old_process *old; /* of before a reload */
    bool old_missed;         /* memory was short */
    bool running;            /* the MTA was, then */
    size_t old_count;
    struct route *routes;
};

void keeper_ports_free(struct keeper_ports *ports);
struct fence_ports keeper_fence_ports(struct keeper_ports *ports);

/* Reads the MTA's settings when they are older than max_age_ms. false: they
 * could not be read and there are none, see queue_error(). */
bool keeper_settings(struct keeper_ports *ports, int64_t max_age_ms);


#endif
