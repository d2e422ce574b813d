/*
 * store_ops: what a back end of the store implements. One static const table
 * per back end; store.c calls through it. Every entry is set. Contracts are
 * those of the functions of the same name in store.h.
 */
#ifndef SLUICE_STORE_OPS_H
#define SLUICE_STORE_OPS_H

#include "store.h"

#define STORE_ERROR_SIZE 640

struct store_ops {
    void (*free)(struct store *store);
    void (*lookup)(struct store *store, struct route *const routes[], size_t n);
    enum lookup (*position)(struct store *store, struct position *out);
    enum lookup (*secret)(struct store *store, unsigned char out[STORE_SECRET_LEN]);
    int64_t (*time_ms)(struct store *store);
    enum lookup (*totals)(struct store *store, const char *domain,
                          struct store_totals *out);
    bool (*each_home)(struct store *store, const char *domain, store_home_fn *each,
                      void *context);
    bool (*change_begin)(struct store *store, const struct change *change);
    enum commit (*change_finish)(struct store *store, const struct change *change,
                                 struct change_result *result);
    enum commit (*change_all)(struct store *store, struct change_all *all);
    enum commit (*init_domain)(struct store *store, const char *domain);
    enum lookup (*domains)(struct store *store, char ***out);
    enum commit (*host_put)(struct store *store, const struct host *host);
    enum commit (*host_remove)(struct store *store, const char *name);
    enum lookup (*hosts)(struct store *store, struct host **out, size_t *n);
    enum lookup (*events)(struct store *store, const struct position *after, int wait_ms,
                          int max, store_event_fn *each, void *context);
    void (*trim)(struct store *store);
    enum commit (*held_put)(struct store *store, const char *host,
                            const struct held *held);
    enum commit (*held_drop)(struct store *store, const char *host,
                             const char *const *queue_ids, size_t n);
    bool (*each_held)(struct store *store, const char *host, store_held_fn *each,
                      void *context);
    void (*count_floaters)(struct store *store, struct route *const routes[], size_t n,
                           const struct floater_from *from, int64_t now);
    void (*note_arrivals)(struct store *store, struct route *const routes[], size_t n,
                          const char *host, const char *queue_id, const char *message_id,
                          int64_t now);
    bool (*each_floater)(struct store *store, const char *domain, store_floater_fn *each,
                         void *context);
    bool (*each_arrival)(struct store *store, const char *domain, int64_t since,
                         store_arrival_fn *each, void *context);
    bool (*auth_add)(struct store *store, const char *domain, const struct auth_row *rows,
                     size_t n);
    bool (*each_auth)(struct store *store, const char *domain, store_auth_fn *each,
                      void *context);
    enum commit (*auth_drop)(struct store *store, const char *domain);
    enum commit (*ping_put)(struct store *store, const struct ping_row *row);
    enum commit (*ping_drop)(struct store *store, const char *host, const char *path);
    bool (*each_ping)(struct store *store, store_ping_fn *each, void *context);
    enum commit (*monitor_put)(struct store *store, const struct monitor_row *row);
    enum commit (*monitor_drop)(struct store *store, const char *host);
    bool (*each_monitor)(struct store *store, store_monitor_fn *each, void *context);
    enum commit (*playbook_put)(struct store *store, const struct playbook_put *put,
                                uint64_t *epoch);
    bool (*each_playbook)(struct store *store, const char *domain,
                          store_playbook_fn *each, void *context);
    bool (*each_picture)(struct store *store, const char *const *domains, size_t n,
                         int64_t now, store_picture_fn *each, void *context);
    enum commit (*lease_take)(struct store *store, const char *name, const char *holder,
                              int ttl_s, char *other, size_t other_size);
    void (*lease_drop)(struct store *store, const char *name, const char *holder);
    enum commit (*durable)(struct store *store);
    enum commit (*recover)(struct store *store, const char *path, bool force,
                           struct recover_result *result);
};

/* The head of every back end's own structure. */
struct store {
    const struct store_ops *ops;
    char error[STORE_ERROR_SIZE];
};

/* Sets store_error(); a line that is too long is cut. */
void store_set_error(struct store *store, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- shared by the back ends ------------------------------------------ */

/* Whether a route counts as a floater (it leaves the old side for the new one)
 * or as an arrival (it is delivered on the new side). */
bool store_is_floater(const struct route *route);
bool store_is_arrival(const struct route *route);
/* Whether a change's items fit records and events: their number, local parts
 * and addresses as addr.h makes them. Sets the error. */
bool store_check_change(struct store *store, const struct change *change);
/* Marks the lookup of every managed route. */
void store_routes_set(struct route *const routes[], size_t n, enum lookup lookup);
/* A random event id; false: the kernel gave none. */
bool store_event_id(char out[EVENT_ID_LEN + 1]);
/* Copies a host's version or state, control characters replaced by spaces: no
 * text can forge a field of the record. */
void store_host_text(const char *in, char *out, size_t size);

#endif
