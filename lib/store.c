/*
 * store: calls the back end's functions, and what all back ends share. See
 * store.h for the contract of each call.
 */
#include "config.h"

#include "store.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "store_ops.h"

/* ---- shared by the back ends ------------------------------------------ */

void store_set_error(struct store *store, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(store->error, sizeof(store->error), fmt, args);
    va_end(args);
    if (n < 0)
        store->error[0] = '\0';
    else if ((size_t)n >= sizeof(store->error))
        memcpy(store->error + sizeof(store->error) - 4, "...", 4);
}

bool store_is_floater(const struct route *route)
{
    return route->domain && route->home.state == HOME_NEW &&
           (route->verdict == VERDICT_FORWARD || route->verdict == VERDICT_REDIRECT);
}

bool store_is_arrival(const struct route *route)
{
    return route->domain && route->home.state == HOME_NEW &&
           route->verdict == VERDICT_DELIVER;
}

void store_routes_set(struct route *const routes[], size_t n, enum lookup lookup)
{
    for (size_t i = 0; i < n; i++)
        if (routes[i]->domain)
            routes[i]->lookup = lookup;
}

bool store_event_id(char out[EVENT_ID_LEN + 1])
{
    unsigned char bytes[EVENT_ID_LEN / 2];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return false;
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

void store_host_text(const char *in, char *out, size_t size)
{
    size_t n = 0;
    for (; in[n] && n + 1 < size; n++)
        out[n] = (unsigned char)in[n] < ' ' || in[n] == 0x7f ? ' ' : in[n];
    out[n] = '\0';
}

/* Whether text can stand in a record and a line of an event. */
static bool is_plain(const char *text, size_t max)
{
    size_t n = 0;
    for (; text[n]; n++)
        if ((unsigned char)text[n] < ' ' || text[n] == 0x7f)
            return false;
    return n <= max;
}

/* As home_decode() takes it; NULL and "" are fine. */
static bool is_address(const char *text)
{
    if (!text || !text[0])
        return true;
    const char *at = strrchr(text, '@');
    return is_plain(text, ADDR_TEXT_MAX) && at && at > text && at[1];
}

bool store_check_change(struct store *store, const struct change *change)
{
    if (change->count > EVENT_ITEMS_MAX) {
        store_set_error(store, "a chunk of %zu mailboxes: at most %d go at once",
                        change->count, EVENT_ITEMS_MAX);
        return false;
    }
    for (size_t i = 0; i < change->count; i++) {
        const struct change_item *item = &change->items[i];
        if (!is_plain(item->local, ADDR_LOCAL_MAX) || !is_address(item->new_address) ||
            !is_address(item->copy)) {
            store_set_error(store, "mailbox %zu of the chunk is not a canonical address",
                            i + 1);
            return false;
        }
    }
    return true;
}

/* ---- dispatch --------------------------------------------------------- */

void store_free(struct store *store)
{
    if (store)
        store->ops->free(store);
}

const char *store_error(const struct store *store)
{
    return store->error;
}

void store_lookup(struct store *store, struct route *const routes[], size_t n)
{
    size_t managed = 0;
    for (size_t i = 0; i < n; i++)
        managed += routes[i]->domain != NULL;
    if (managed > 0)
        store->ops->lookup(store, routes, n);
}

enum lookup store_position(struct store *store, struct position *out)
{
    return store->ops->position(store, out);
}

enum lookup store_secret(struct store *store, unsigned char out[STORE_SECRET_LEN])
{
    return store->ops->secret(store, out);
}

int64_t store_time_ms(struct store *store)
{
    return store->ops->time_ms(store);
}

enum lookup store_totals(struct store *store, const char *domain,
                         struct store_totals *out)
{
    return store->ops->totals(store, domain, out);
}

bool store_each_home(struct store *store, const char *domain, store_home_fn *each,
                     void *context)
{
    return store->ops->each_home(store, domain, each, context);
}

bool store_change_begin(struct store *store, const struct change *change)
{
    return store->ops->change_begin(store, change);
}

enum commit store_change_finish(struct store *store, const struct change *change,
                                struct change_result *result)
{
    return store->ops->change_finish(store, change, result);
}

enum commit store_change(struct store *store, const struct change *change,
                         struct change_result *result)
{
    (void)store_change_begin(store, change); /* finish() tells */
    return store_change_finish(store, change, result);
}

enum commit store_change_all(struct store *store, struct change_all *all)
{
    return store->ops->change_all(store, all);
}

enum commit store_init_domain(struct store *store, const char *domain)
{
    return store->ops->init_domain(store, domain);
}

enum lookup store_domains(struct store *store, char ***out)
{
    return store->ops->domains(store, out);
}

void store_list_free(char **list)
{
    for (char **at = list; at && *at; at++)
        free(*at);
    free(list);
}

enum commit store_host_put(struct store *store, const struct host *host)
{
    return store->ops->host_put(store, host);
}

enum commit store_host_remove(struct store *store, const char *name)
{
    return store->ops->host_remove(store, name);
}

enum lookup store_hosts(struct store *store, struct host **out, size_t *n)
{
    return store->ops->hosts(store, out, n);
}

enum lookup store_events(struct store *store, const struct position *after, int wait_ms,
                         int max, store_event_fn *each, void *context)
{
    return store->ops->events(store, after, wait_ms, max, each, context);
}

void store_trim(struct store *store)
{
    store->ops->trim(store);
}

enum commit store_held_put(struct store *store, const char *host, const struct held *held)
{
    return store->ops->held_put(store, host, held);
}

enum commit store_held_drop(struct store *store, const char *host,
                            const char *const *queue_ids, size_t n)
{
    if (n == 0)
        return COMMIT_DONE;
    return store->ops->held_drop(store, host, queue_ids, n);
}

bool store_each_held(struct store *store, const char *host, store_held_fn *each,
                     void *context)
{
    return store->ops->each_held(store, host, each, context);
}

void store_count_floaters(struct store *store, struct route *const routes[], size_t n,
                          const struct floater_from *from, int64_t now)
{
    store->ops->count_floaters(store, routes, n, from, now);
}

void store_note_arrivals(struct store *store, struct route *const routes[], size_t n,
                         const char *host, const char *queue_id, const char *message_id,
                         int64_t now)
{
    store->ops->note_arrivals(store, routes, n, host, queue_id, message_id, now);
}

bool store_each_floater(struct store *store, const char *domain, store_floater_fn *each,
                        void *context)
{
    return store->ops->each_floater(store, domain, each, context);
}

bool store_each_arrival(struct store *store, const char *domain, int64_t since,
                        store_arrival_fn *each, void *context)
{
    return store->ops->each_arrival(store, domain, since, each, context);
}

bool store_auth_add(struct store *store, const char *domain, const struct auth_row *rows,
                    size_t n)
{
    return n == 0 || store->ops->auth_add(store, domain, rows, n);
}

bool store_each_auth(struct store *store, const char *domain, store_auth_fn *each,
                     void *context)
{
    return store->ops->each_auth(store, domain, each, context);
}

enum commit store_auth_drop(struct store *store, const char *domain)
{
    return store->ops->auth_drop(store, domain);
}

enum commit store_ping_put(struct store *store, const struct ping_row *row)
{
    return store->ops->ping_put(store, row);
}

enum commit store_ping_drop(struct store *store, const char *host, const char *path)
{
    return store->ops->ping_drop(store, host, path);
}

bool store_each_ping(struct store *store, store_ping_fn *each, void *context)
{
    return store->ops->each_ping(store, each, context);
}

enum commit store_monitor_put(struct store *store, const struct monitor_row *row)
{
    return store->ops->monitor_put(store, row);
}

enum commit store_monitor_drop(struct store *store, const char *host)
{
    return store->ops->monitor_drop(store, host);
}

bool store_each_monitor(struct store *store, store_monitor_fn *each, void *context)
{
    return store->ops->each_monitor(store, each, context);
}

enum commit store_playbook_put(struct store *store, const struct playbook_put *put,
                               uint64_t *epoch)
{
    size_t bytes = 0;
    *epoch = 0;
    for (size_t i = 0; i < put->count; i++) {
        bytes += strlen(put->fields[i].name) + strlen(put->fields[i].value) + 24;
        if (strpbrk(put->fields[i].name, "\t\n") || strchr(put->fields[i].value, '\n')) {
            store_set_error(store, "a playbook's record would break the journal's lines");
            return COMMIT_REFUSED;
        }
    }
    if (bytes > PLAYBOOK_BYTES_MAX) {
        store_set_error(store, "a playbook's change is longer than %d bytes",
                        PLAYBOOK_BYTES_MAX);
        return COMMIT_REFUSED;
    }
    if (put->count == 0 || put->count > PLAYBOOK_FIELDS_MAX) {
        store_set_error(store, "a playbook's change has 1 to %d fields",
                        PLAYBOOK_FIELDS_MAX);
        return COMMIT_REFUSED;
    }
    return store->ops->playbook_put(store, put, epoch);
}

bool store_each_playbook(struct store *store, const char *domain, store_playbook_fn *each,
                         void *context)
{
    return store->ops->each_playbook(store, domain, each, context);
}

bool store_each_picture(struct store *store, const char *const *domains, size_t n,
                        int64_t now, store_picture_fn *each, void *context)
{
    return store->ops->each_picture(store, domains, n, now, each, context);
}

enum commit store_lease_take(struct store *store, const char *name, const char *holder,
                             int ttl_s, char *other, size_t other_size)
{
    return store->ops->lease_take(store, name, holder, ttl_s, other, other_size);
}

void store_lease_drop(struct store *store, const char *name, const char *holder)
{
    store->ops->lease_drop(store, name, holder);
}

enum commit store_durable(struct store *store)
{
    return store->ops->durable(store);
}

enum commit store_recover(struct store *store, const char *path, bool force,
                          struct recover_result *result)
{
    return store->ops->recover(store, path, force, result);
}
