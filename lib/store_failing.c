/*
 * store_failing: a back end that always fails, for the tests of callers: every
 * lookup FAILED, every write UNCERTAIN, with the given line as store_error().
 */
#include "config.h"

#include <stdlib.h>

#include "store_ops.h"

static void failing_free(struct store *store)
{
    free(store);
}

static void failing_lookup(struct store *store, struct route *const routes[], size_t n)
{
    (void)store;
    store_routes_set(routes, n, LOOKUP_FAILED);
}

static enum lookup failing_position(struct store *store, struct position *out)
{
    (void)store;
    *out = (struct position){ 0 };
    return LOOKUP_FAILED;
}

static enum lookup failing_secret(struct store *store,
                                  unsigned char out[STORE_SECRET_LEN])
{
    (void)store;
    (void)out;
    return LOOKUP_FAILED;
}

static int64_t failing_time_ms(struct store *store)
{
    (void)store;
    return 0;
}

static enum lookup failing_totals(struct store *store, const char *domain,
                                  struct store_totals *out)
{
    (void)store;
    (void)domain;
    *out = (struct store_totals){ 0 };
    return LOOKUP_FAILED;
}

static bool failing_each_home(struct store *store, const char *domain,
                              store_home_fn *each, void *context)
{
    (void)store;
    (void)domain;
    (void)each;
    (void)context;
    return false;
}

static bool failing_change_begin(struct store *store, const struct change *change)
{
    (void)store;
    (void)change;
    return false;
}

static enum commit failing_change_finish(struct store *store, const struct change *change,
                                         struct change_result *result)
{
    (void)store;
    (void)change;
    result->epoch = 0;
    return COMMIT_UNCERTAIN;
}

static enum commit failing_change_all(struct store *store, struct change_all *all)
{
    (void)store;
    all->made = all->already = all->wrong_state = all->unfenced = all->epoch = 0;
    return COMMIT_UNCERTAIN;
}

static enum commit failing_write(struct store *store, const char *name)
{
    (void)store;
    (void)name;
    return COMMIT_UNCERTAIN;
}

static enum lookup failing_domains(struct store *store, char ***out)
{
    (void)store;
    *out = NULL;
    return LOOKUP_FAILED;
}

static enum commit failing_host_put(struct store *store, const struct host *host)
{
    (void)store;
    (void)host;
    return COMMIT_UNCERTAIN;
}

static enum lookup failing_hosts(struct store *store, struct host **out, size_t *n)
{
    (void)store;
    *out = NULL;
    *n = 0;
    return LOOKUP_FAILED;
}

static enum lookup failing_events(struct store *store, const struct position *after,
                                  int wait_ms, int max, store_event_fn *each,
                                  void *context)
{
    (void)store;
    (void)after;
    (void)wait_ms;
    (void)max;
    (void)each;
    (void)context;
    return LOOKUP_FAILED;
}

static void failing_trim(struct store *store)
{
    (void)store;
}

static enum commit failing_held_put(struct store *store, const char *host,
                                    const struct held *held)
{
    (void)store;
    (void)host;
    (void)held;
    return COMMIT_UNCERTAIN;
}

static enum commit failing_held_drop(struct store *store, const char *host,
                                     const char *const *queue_ids, size_t n)
{
    (void)store;
    (void)host;
    (void)queue_ids;
    (void)n;
    return COMMIT_UNCERTAIN;
}

static bool failing_each_held(struct store *store, const char *host, store_held_fn *each,
                              void *context)
{
    (void)store;
    (void)host;
    (void)each;
    (void)context;
    return false;
}

static void failing_count_floaters(struct store *store, struct route *const routes[],
                                   size_t n, const struct floater_from *from,
                                   int64_t now)
{
    (void)store;
    (void)routes;
    (void)n;
    (void)from;
    (void)now;
}

static void failing_note_arrivals(struct store *store, struct route *const routes[],
                                  size_t n, const char *host, const char *queue_id,
                                  const char *message_id, int64_t now)
{
    (void)store;
    (void)routes;
    (void)n;
    (void)host;
    (void)queue_id;
    (void)message_id;
    (void)now;
}

static bool failing_each_floater(struct store *store, const char *domain,
                                 store_floater_fn *each, void *context)
{
    (void)store;
    (void)domain;
    (void)each;
    (void)context;
    return false;
}

static bool failing_each_arrival(struct store *store, const char *domain, int64_t since,
                                 store_arrival_fn *each, void *context)
{
    (void)store;
    (void)domain;
    (void)since;
    (void)each;
    (void)context;
    return false;
}

static bool failing_auth_add(struct store *store, const char *domain,
                             const struct auth_row *rows, size_t n)
{
    (void)store;
    (void)domain;
    (void)rows;
    (void)n;
    return false;
}

static bool failing_each_auth(struct store *store, const char *domain,
                              store_auth_fn *each, void *context)
{
    (void)store;
    (void)domain;
    (void)each;
    (void)context;
    return false;
}

static enum commit failing_ping_put(struct store *store, const struct ping_row *row)
{
    (void)store;
    (void)row;
    return COMMIT_UNCERTAIN;
}

static enum commit failing_ping_drop(struct store *store, const char *host,
                                     const char *path)
{
    (void)store;
    (void)host;
    (void)path;
    return COMMIT_UNCERTAIN;
}

static enum commit failing_monitor_put(struct store *store, const struct monitor_row *row)
{
    (void)store;
    (void)row;
    return COMMIT_UNCERTAIN;
}

static enum commit failing_monitor_drop(struct store *store, const char *host)
{
    (void)store;
    (void)host;
    return COMMIT_UNCERTAIN;
}

static bool failing_each_monitor(struct store *store, store_monitor_fn *each,
                                 void *context)
{
    (void)store;
    (void)each;
    (void)context;
    return false;
}

static bool failing_each_ping(struct store *store, store_ping_fn *each, void *context)
{
    (void)store;
    (void)each;
    (void)context;
    return false;
}

static enum commit failing_playbook_put(struct store *store,
                                        const struct playbook_put *put, uint64_t *epoch)
{
    (void)store;
    (void)put;
    *epoch = 0;
    return COMMIT_UNCERTAIN;
}

static bool failing_each_playbook(struct store *store, const char *domain,
                                  store_playbook_fn *each, void *context)
{
    (void)store;
    (void)domain;
    (void)each;
    (void)context;
    return false;
}

static bool failing_each_picture(struct store *store, const char *const *domains,
                                 size_t n, int64_t now, store_picture_fn *each,
                                 void *context)
{
    (void)store;
    (void)domains;
    (void)n;
    (void)now;
    (void)each;
    (void)context;
    return false;
}

static enum commit failing_lease_take(struct store *store, const char *name,
                                      const char *holder, int ttl_s, char *other,
                                      size_t other_size)
{
    (void)store;
    (void)name;
    (void)holder;
    (void)ttl_s;
    if (other_size > 0)
        other[0] = '\0';
    return COMMIT_UNCERTAIN;
}

static void failing_lease_drop(struct store *store, const char *name, const char *holder)
{
    (void)store;
    (void)name;
    (void)holder;
}

static enum commit failing_durable(struct store *store)
{
    (void)store;
    return COMMIT_UNCERTAIN;
}

static enum commit failing_recover(struct store *store, const char *path, bool force,
                                   struct recover_result *result)
{
    (void)store;
    (void)path;
    (void)force;
    *result = (struct recover_result){ 0 };
    return COMMIT_UNCERTAIN;
}

static const struct store_ops failing_ops = {
    .free = failing_free,
    .lookup = failing_lookup,
    .position = failing_position,
    .secret = failing_secret,
    .time_ms = failing_time_ms,
    .totals = failing_totals,
    .each_home = failing_each_home,
    .change_begin = failing_change_begin,
    .change_finish = failing_change_finish,
    .change_all = failing_change_all,
    .init_domain = failing_write,
    .domains = failing_domains,
    .host_put = failing_host_put,
    .host_remove = failing_write,
    .hosts = failing_hosts,
    .events = failing_events,
    .trim = failing_trim,
    .held_put = failing_held_put,
    .held_drop = failing_held_drop,
    .each_held = failing_each_held,
    .count_floaters = failing_count_floaters,
    .note_arrivals = failing_note_arrivals,
    .each_floater = failing_each_floater,
    .each_arrival = failing_each_arrival,
    .auth_add = failing_auth_add,
    .each_auth = failing_each_auth,
    .auth_drop = failing_write,
    .ping_put = failing_ping_put,
    .ping_drop = failing_ping_drop,
    .each_ping = failing_each_ping,
    .monitor_put = failing_monitor_put,
    .monitor_drop = failing_monitor_drop,
    .each_monitor = failing_each_monitor,
    .playbook_put = failing_playbook_put,
    .each_playbook = failing_each_playbook,
    .each_picture = failing_each_picture,
    .lease_take = failing_lease_take,
    .lease_drop = failing_lease_drop,
    .durable = failing_durable,
    .recover = failing_recover,
};

struct store *store_failing_new(const char *error)
{
    struct store *store = calloc(1, sizeof(*store));
    if (!store)
        abort();
    store->ops = &failing_ops;
    store_set_error(store, "%s", error);
    return store;
}
