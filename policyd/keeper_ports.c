/*
 * keeper_ports: what the fence asks of this host, and how it is answered.
 *
 * Self-test: the domain must be in the loaded configuration; the MTA's settings
 * must not defeat the gates (short queue ids, a local name that is not covered
 * by same-as, lifetimes too short for the sweeps); then the addresses that are
 * locked at this moment, SAMPLE of them, and one under each same-as name, are
 * asked of the host's own transport_maps.
 *
 * Reload: the processes that remember resolved addresses (Postfix
 * resolve_clnt.c is used by qmgr, local and smtpd; smtpd does not deliver) are
 * listed before `postfix reload`, and it is done when none of these is left. Each
 * ends as soon as it has done what it was at; so do the delivery agents, and when
 * none of those is left either, no old decision is being carried out any more.
 *
 * Drain: a message in incoming or active counts when a recipient's mailbox is
 * locked or its home cannot be found out, and when local(8) delivers any of
 * its recipients: an alias without owner is expanded inside local(8), and the
 * queue shows the alias alone.
 */
#include "keeper_ports.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "route.h"

#define SAMPLE         20
#define BATCH          200
#define SETTINGS_MS    10000
#define LIFETIME_LEAST 10
#define SLOW_MAPS_MS   30000
/* The own record of a domain is asked for by an address that is not listed. */
#define UNLISTED "sluice-self-test"

struct old_process {
    uint64_t pid, started;
    char name[17];
    bool remembers; /* resolved addresses; the others only deliver */
};

void keeper_ports_free(struct keeper_ports *ports)
{
    queue_settings_free(&ports->settings);
    free(ports->old);
    free(ports->routes);
}

bool keeper_settings(struct keeper_ports *ports, int64_t max_age_ms)
{
    struct queue_settings fresh;
    if (ports->settings_known && clock_ms() - ports->settings_ms < max_age_ms)
        return true;
    if (!ports->queue->ops->settings(ports->queue, &fresh))
        return false;
    queue_settings_free(&ports->settings);
    ports->settings = fresh;
    ports->settings_known = true;
    ports->settings_ms = clock_ms();
    return true;
}

static struct route *route_room(struct keeper_ports *ports)
{
    if (!ports->routes)
        ports->routes = calloc(BATCH, sizeof(*ports->routes));
    return ports->routes;
}

/* Looks up n prepared routes; false: at least one is not known. */
static bool look_up(struct keeper_ports *ports, size_t n)
{
    struct route *list[BATCH];
    bool known = true;
    for (size_t i = 0; i < n; i++)
        list[i] = &ports->routes[i];
    if (n > 0)
        store_lookup(ports->store, list, n);
    for (size_t i = 0; i < n; i++) {
        route_finish(ports->conf, &ports->routes[i]);
        known &= ports->routes[i].lookup == LOOKUP_FOUND;
    }
    return known;
}

/* ---- clock and lookups -------------------------------------------------------- */

static int64_t port_now(void *context)
{
    (void)context;
    return clock_ms();
}

static uint64_t port_started(void *context)
{
    const struct keeper_ports *ports = context;
    return ports->lookups ? lookups_started(ports->lookups) : 0;
}

static uint64_t port_answered(void *context)
{
    const struct keeper_ports *ports = context;
    return ports->lookups ? lookups_answered(ports->lookups) : 0;
}

/* Our answer starts nothing: trivial-rewrite(8) may still wait for other tables
 * before it answers qmgr(8), whose cache counts from then. */
static int64_t port_slack(void *context)
{
    const struct keeper_ports *ports = context;
    return !ports->settings_known || ports->settings.slow_maps ? SLOW_MAPS_MS : 0;
}

/* ---- self-test ------------------------------------------------------------------- */

/* "" or what is wrong with this host for this domain. */
static void check_settings(const struct keeper_ports *ports,
                           const struct conf_domain *domain, char *why, size_t size)
{
    const struct queue_settings *settings = &ports->settings;
    queue_uncovered_name(settings, domain, why, size);
    /* user-x would be another mailbox to us and the locked one to Postfix. */
    if (!why[0] &&
        settings
            ->delimiters[strspn(settings->delimiters, ports->conf->recipient_delimiter)])
        snprintf(why, size,
                 "recipient_delimiter is \"%s\" in main.cf: make recipient-delimiter in "
                 "sluice.conf the same",
                 settings->delimiters);
    if (!why[0] && !settings->long_ids)
        snprintf(why, size,
                 "queue ids are reused: set enable_long_queue_ids = yes in "
                 "main.cf");
    if (!why[0] && (settings->lifetime < LIFETIME_LEAST ||
                    settings->bounce_lifetime < LIFETIME_LEAST))
        snprintf(why, size,
                 "mail would expire while it waits: maximal_queue_lifetime and "
                 "bounce_queue_lifetime must be %d s or more",
                 LIFETIME_LEAST);
}

struct keys {
    char text[HELPER_KEYS_MAX][ADDR_TEXT_MAX + 1];
    const char *list[HELPER_KEYS_MAX];
    size_t n;
};

static void add_key(struct keys *keys, const char *local, const char *domain)
{
    if (keys->n == HELPER_KEYS_MAX)
        return;
    addr_format(local, domain, keys->text[keys->n]);
    keys->list[keys->n] = keys->text[keys->n];
    keys->n++;
}

/* Takes those of a batch that are locked; the first under all its names. */
static void take_locked(const struct keeper_ports *ports, size_t n,
                        const struct conf_domain *domain, struct keys *keys)
{
    for (size_t i = 0; i < n && keys->n < SAMPLE; i++) {
        const struct route *route = &ports->routes[i];
        if (route->verdict != VERDICT_HOLD)
            continue;
        bool first = keys->n == 0;
        add_key(keys, route->addr.local, domain->name);
        for (char *const *name = domain->same_as; first && name && *name; name++)
            add_key(keys, route->addr.local, *name);
    }
}

/* The addresses to ask for. false: their homes could not be looked up. */
static bool gather_keys(struct keeper_ports *ports, const struct conf_domain *domain,
                        const char *const *locals, size_t n, struct keys *keys)
{
    char text[ADDR_TEXT_MAX + 1];
    for (size_t done = 0; done < n && keys->n < SAMPLE;) {
        size_t batch = 0;
        for (; done < n && batch < BATCH; done++) {
            addr_format(locals[done][0] ? locals[done] : UNLISTED, domain->name, text);
            memset(&ports->routes[batch], 0, sizeof(*ports->routes));
            batch +=
                route_prepare(ports->conf, text, strlen(text), &ports->routes[batch]);
        }
        if (!look_up(ports, batch))
            return false;
        take_locked(ports, batch, domain, keys);
    }
    return true;
}

/* Whether this host is fit for a lock of the domain at all. */
static enum fence_answer check_host(struct keeper_ports *ports, const char *name,
                                    char *why, size_t size)
{
    const struct conf_domain *domain = conf_managed(ports->conf, name);
    if (!domain || strcmp(domain->name, name) != 0) {
        snprintf(why, size,
                 "domain %.80s is not in this host's sluice.conf: add it and reload "
                 "sluice-policyd",
                 name);
        return FENCE_NOT_YET;
    }
    why[0] = '\0';
    /* What is asked must be what is there now. */
    if (!keeper_settings(ports, 0) ||
        (ports->conf->fence == FENCE_WAIT &&
         !ports->queue->ops->unread(ports->queue, why, size))) {
        snprintf(why, size, "%s", queue_error(ports->queue));
        return FENCE_FAILED;
    }
    if (!why[0])
        check_settings(ports, domain, why, size);
    return why[0] ? FENCE_NOT_YET : FENCE_YES;
}

static enum fence_answer port_selftest(void *context, const char *name,
                                       const char *const *locals, size_t n, char *why,
                                       size_t size)
{
    struct keeper_ports *ports = context;
    const struct conf_domain *domain = conf_managed(ports->conf, name);
    enum fence_answer answer = check_host(ports, name, why, size);
    if (answer != FENCE_YES)
        return answer;
    answer = FENCE_FAILED;
    struct keys *keys = calloc(1, sizeof(*keys));
    if (!keys || !route_room(ports))
        snprintf(why, size, "out of memory");
    else if (!gather_keys(ports, domain, locals, n, keys))
        snprintf(why, size, "%s", store_error(ports->store));
    else if (keys->n > 0 && !ports->queue->ops->selftest(ports->queue, &ports->settings,
                                                         keys->list, keys->n))
        snprintf(why, size, "%s", queue_error(ports->queue));
    else
        answer = FENCE_YES;
    free(keys);
    return answer;
}

/* ---- reload ------------------------------------------------------------------------ */

static bool is_one_of(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

/* Of all children of master(8), those that matter. A name that is not known is
 * taken for a delivery agent. */
static void take_old(void *context, uint64_t pid, uint64_t started, const char *name)
{
    static const char *const remembering[] = { "qmgr", "nqmgr", "oqmgr", "local", NULL };
    static const char *const harmless[] = {
        "master",   "smtpd", "cleanup", "pickup",  "trivial-rewrite", "tlsmgr",
        "bounce",   "showq", "anvil",   "scache",  "proxymap",        "postlogd",
        "verify",   "flush", "error",   "discard", "postscreen",      "dnsblog",
        "tlsproxy", "qmqpd", "spawn",   NULL
    };
    struct keeper_ports *ports = context;
    ports->running |= strcmp(name, "master") == 0;
    if (is_one_of(name, harmless))
        return;
    struct old_process *old = realloc(ports->old, (ports->old_count + 1) * sizeof(*old));
    if (!old) {
        ports->old_missed = true;
        return;
    }
    ports->old = old;
    old += ports->old_count++;
    memset(old, 0, sizeof(*old));
    old->pid = pid;
    old->started = started;
    old->remembers = is_one_of(name, remembering);
    memcpy(old->name, name, strnlen(name, sizeof(old->name) - 1));
}

static enum fence_answer port_reload(void *context, char *why, size_t size)
{
    struct keeper_ports *ports = context;
    ports->old_count = 0;
    ports->running = ports->old_missed = false;
    if (!ports->queue->ops->daemons(ports->queue, take_old, ports) || ports->old_missed) {
        snprintf(why, size, "%s",
                 ports->old_missed ? "out of memory" : queue_error(ports->queue));
        return FENCE_FAILED;
    }
    bool reloaded = ports->queue->ops->reload(ports->queue);
    if (reloaded == ports->running)
        return FENCE_YES; /* not running: it remembers nothing */
    snprintf(why, size, "%s",
             reloaded ? "Postfix was reloaded, but its processes were not found"
                      : queue_error(ports->queue));
    return FENCE_FAILED;
}

struct survivors {
    const struct keeper_ports *ports;
    const struct old_process *one; /* of those that remember */
    size_t n;                      /* of those */
    size_t all;
};

static void take_survivor(void *context, uint64_t pid, uint64_t started, const char *name)
{
    struct survivors *survivors = context;
    (void)name;
    for (size_t i = 0; i < survivors->ports->old_count; i++) {
        const struct old_process *old = &survivors->ports->old[i];
        if (old->pid != pid || old->started != started)
            continue;
        survivors->all++;
        if (old->remembers) {
            survivors->one = old;
            survivors->n++;
        }
    }
}

static enum fence_answer port_settled(void *context, char *why, size_t size)
{
    struct keeper_ports *ports = context;
    struct survivors survivors = { .ports = ports };
    if (!ports->queue->ops->daemons(ports->queue, take_survivor, &survivors)) {
        snprintf(why, size, "%s", queue_error(ports->queue));
        return FENCE_FAILED;
    }
    if (survivors.n == 0)
        return FENCE_YES;
    snprintf(why, size,
             "waiting for %zu of Postfix' processes of before the reload, e.g. %s %llu",
             survivors.n, survivors.one->name, (unsigned long long)survivors.one->pid);
    return FENCE_NOT_YET;
}

static enum fence_answer port_quiet(void *context)
{
    struct keeper_ports *ports = context;
    struct survivors survivors = { .ports = ports };
    if (!ports->queue->ops->daemons(ports->queue, take_survivor, &survivors))
        return FENCE_FAILED; /* the listing says it too, or knows better */
    return survivors.all == 0 ? FENCE_YES : FENCE_NOT_YET;
}

/* ---- drain --------------------------------------------------------------------------
 */

struct drain {
    struct keeper_ports *ports;
    bool judge;
    fence_message_fn *each;
    void *context;
};

static bool any_to_wait_for(const struct keeper_ports *ports, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ports->routes[i].verdict == VERDICT_HOLD ||
            ports->routes[i].verdict == VERDICT_LATER)
            return true;
    return false;
}

static bool relevant(struct keeper_ports *ports, const struct queue_entry *entry)
{
    size_t n = 0;
    for (size_t i = 0; i < entry->count; i++)
        if (queue_is_local(&ports->settings, entry->recipients[i].address))
            return true;
    for (size_t i = 0; i < entry->count; i++) {
        const char *address = entry->recipients[i].address;
        memset(&ports->routes[n], 0, sizeof(*ports->routes));
        n += route_prepare(ports->conf, address, strlen(address), &ports->routes[n]);
        if (n < BATCH && i + 1 < entry->count)
            continue;
        (void)look_up(ports, n); /* what is not known is VERDICT_LATER */
        if (any_to_wait_for(ports, n))
            return true;
        n = 0;
    }
    return false;
}

static bool take_entry(void *context, const struct queue_entry *entry)
{
    struct drain *drain = context;
    struct fence_message message = {
        .id = entry->id,
        .in_flight = entry->queue == QUEUE_INCOMING || entry->queue == QUEUE_ACTIVE,
        .settled = entry->queue == QUEUE_DEFERRED || entry->queue == QUEUE_HOLD,
    };
    if (drain->judge && message.in_flight)
        message.relevant = relevant(drain->ports, entry);
    drain->each(drain->context, &message);
    return true;
}

static bool port_list(void *context, bool judge, fence_message_fn *each,
                      void *each_context, char *why, size_t size)
{
    struct keeper_ports *ports = context;
    struct drain drain = { ports, judge, each, each_context };
    if (!route_room(ports)) {
        snprintf(why, size, "out of memory");
        return false;
    }
    if (keeper_settings(ports, SETTINGS_MS) &&
        ports->queue->ops->list(ports->queue, take_entry, &drain))
        return true;
    snprintf(why, size, "%s", queue_error(ports->queue));
    return false;
}

struct fence_ports keeper_fence_ports(struct keeper_ports *ports)
{
    return (struct fence_ports){
        .context = ports,
        .now_ms = port_now,
        .lookups_started = port_started,
        .lookups_answered = port_answered,
        .cache_slack = port_slack,
        .selftest = port_selftest,
        .reload = port_reload,
        .settled = port_settled,
        .quiet = port_quiet,
        .list = port_list,
    };
}
