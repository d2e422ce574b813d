/*
 * store_redis: what the files of the Redis back end share. Keys are in
 * store.h, the scripts in lua/.
 */
#ifndef SLUICE_STORE_REDIS_H
#define SLUICE_STORE_REDIS_H

#include "redis.h"
#include "store_ops.h"

enum sr_script {
    SCRIPT_CHANGE,
    SCRIPT_CHANGE_ALL,
    SCRIPT_INIT_DOMAIN,
    SCRIPT_HOST_PUT,
    SCRIPT_HOST_REMOVE,
    SCRIPT_TRIM,
    SCRIPT_FLOATERS,
    SCRIPT_LEASE,
    SCRIPT_AUTH,
    SCRIPT_PLAYBOOK,
    SCRIPT_RECOVER,
    SCRIPT_COUNT,
};

struct store_redis {
    struct store base;
    struct conf *conf;
    struct journal_reader *head; /* may be NULL */
    struct redis *redis;
    struct redis_args args;
    struct redis_script scripts[SCRIPT_COUNT];
    int64_t down_until; /* monotonic ms: the lookups' circuit breaker */
    /* Chunks begun and not finished, oldest first. */
    enum sr_chunk { CHUNK_SENT, CHUNK_REFUSED, CHUNK_LOST } chunks[STORE_CHANGES_MAX];
    size_t under_way;
    bool auth_unanswered; /* figures were sent, and no answer came */
};

/* ---- helpers (store_redis.c) ------------------------------------------ */

/* Fills scripts[]; each file holds the texts of its own. */
void sr_change_scripts(struct redis_script scripts[SCRIPT_COUNT]);
void sr_host_scripts(struct redis_script scripts[SCRIPT_COUNT]);
void sr_record_scripts(struct redis_script scripts[SCRIPT_COUNT]);
void sr_recover_scripts(struct redis_script scripts[SCRIPT_COUNT]);
void sr_auth_scripts(struct redis_script scripts[SCRIPT_COUNT]);
void sr_playbook_scripts(struct redis_script scripts[SCRIPT_COUNT]);

/* The head of this host's journal; epoch 0 when there is none. false: it
 * cannot be read (the error is set). */
bool sr_head(struct store_redis *sr, struct position *head);
/* Queues what sr_history() checks. */
void sr_ask_history(struct store_redis *sr, const struct position *head);
/* Whether Redis' history contains head. The error is set otherwise.
 * epoch (may be NULL) is Redis' own; floor too. */
struct sr_history {
    uint64_t epoch, floor;
    bool behind; /* head is older than the ids that are kept: cannot compare */
};
bool sr_history(struct store_redis *sr, const struct resp *reply,
                const struct position *head, struct sr_history *out);

/* Starts args with a command's words. */
#define SR_WORDS(sr, ...) redis_args_words(&(sr)->args, __VA_ARGS__, (char *)NULL)
void sr_queue(struct store_redis *sr); /* args, as a command */

/* Runs what is queued as a read: every error reply is a failure. */
bool sr_read(struct store_redis *sr);
/* Runs what is queued as a write, with WAIT. */
enum commit sr_write(struct store_redis *sr);
/* Sets the error of a write whose reply did not come: UNCERTAIN. */
enum commit sr_write_failed(struct store_redis *sr, enum redis_result result);
/* Whether the reply is not an error; sets the error from one. */
bool sr_check(struct store_redis *sr, const struct resp *reply);
bool sr_check_all(struct store_redis *sr); /* all replies that there are */
/* Sets the error for a refusal by a script or a failed comparison: its code,
 * and two texts that came with it. */
void sr_set_refusal(struct store_redis *sr, const char *code, const char *one,
                    const char *two);

/* Starts args with what every script on the history takes: the journal's head
 * and a new event id. false: the error is set. */
bool sr_script_args(struct store_redis *sr);
/* Runs one script on args. DONE: *reply is the array whose first element is
 * "OK". REFUSED: another word, and the error says what it means. */
enum commit sr_script(struct store_redis *sr, enum sr_script script,
                      const struct resp **reply);
/* The queueing half of it; the reply is judged by sr_script_reply(). */
void sr_script_queue(struct store_redis *sr, enum sr_script script);
enum commit sr_script_reply(struct store_redis *sr, const struct resp *reply);
/* Queues WAIT when replicas are asked for, and says whether; what its reply
 * means. */
bool sr_queue_wait(struct store_redis *sr);
bool sr_check_wait(struct store_redis *sr, const struct resp *reply);

/* Every field and value of a hash, each once. false: FAILED. */
typedef bool sr_field_fn(void *context, const char *field, size_t field_len,
                         const char *value, size_t value_len);
bool sr_each_field(struct store_redis *sr, const char *prefix, const char *name,
                   sr_field_fn *each, void *context);

/* ---- entries of the table, by file ------------------------------------ */

/* store_redis_read.c */
void sr_lookup(struct store *store, struct route *const routes[], size_t n);
enum lookup sr_position(struct store *store, struct position *out);
enum lookup sr_secret(struct store *store, unsigned char out[STORE_SECRET_LEN]);
int64_t sr_time_ms(struct store *store);
enum lookup sr_totals(struct store *store, const char *domain, struct store_totals *out);
bool sr_each_home(struct store *store, const char *domain, store_home_fn *each,
                  void *context);

/* store_redis_change.c */
bool sr_change_begin(struct store *store, const struct change *change);
enum commit sr_change_finish(struct store *store, const struct change *change,
                             struct change_result *result);
enum commit sr_change_all(struct store *store, struct change_all *all);
enum commit sr_init_domain(struct store *store, const char *domain);
enum lookup sr_domains(struct store *store, char ***out);

/* store_redis_host.c */
enum commit sr_host_put(struct store *store, const struct host *host);
enum commit sr_host_remove(struct store *store, const char *name);
enum lookup sr_hosts(struct store *store, struct host **out, size_t *n);
enum lookup sr_events(struct store *store, const struct position *after, int wait_ms,
                      int max, store_event_fn *each, void *context);
void sr_trim(struct store *store);

/* store_redis_record.c */
enum commit sr_held_put(struct store *store, const char *host, const struct held *held);
enum commit sr_held_drop(struct store *store, const char *host,
                         const char *const *queue_ids, size_t n);
bool sr_each_held(struct store *store, const char *host, store_held_fn *each,
                  void *context);
void sr_count_floaters(struct store *store, struct route *const routes[], size_t n,
                       const struct floater_from *from, int64_t now);
void sr_note_arrivals(struct store *store, struct route *const routes[], size_t n,
                      const char *host, const char *queue_id, const char *message_id,
                      int64_t now);
bool sr_each_floater(struct store *store, const char *domain, store_floater_fn *each,
                     void *context);
bool sr_each_arrival(struct store *store, const char *domain, int64_t since,
                     store_arrival_fn *each, void *context);
enum commit sr_lease_take(struct store *store, const char *name, const char *holder,
                          int ttl_s, char *other, size_t other_size);
void sr_lease_drop(struct store *store, const char *name, const char *holder);
enum commit sr_durable(struct store *store);

/* store_redis_auth.c */
bool sr_auth_add(struct store *store, const char *domain, const struct auth_row *rows,
                 size_t n);
bool sr_each_auth(struct store *store, const char *domain, store_auth_fn *each,
                  void *context);
enum commit sr_auth_drop(struct store *store, const char *domain);

/* store_redis_monitor.c */
enum commit sr_ping_put(struct store *store, const struct ping_row *row);
enum commit sr_ping_drop(struct store *store, const char *host, const char *path);
bool sr_each_ping(struct store *store, store_ping_fn *each, void *context);
enum commit sr_monitor_put(struct store *store, const struct monitor_row *row);
enum commit sr_monitor_drop(struct store *store, const char *host);
bool sr_each_monitor(struct store *store, store_monitor_fn *each, void *context);

/* store_redis_playbook.c */
enum commit sr_playbook_put(struct store *store, const struct playbook_put *put,
                            uint64_t *epoch);
bool sr_each_playbook(struct store *store, const char *domain, store_playbook_fn *each,
                      void *context);

/* store_redis_picture.c */
bool sr_each_picture(struct store *store, const char *const *domains, size_t n,
                     int64_t now, store_picture_fn *each, void *context);

/* store_redis_recover.c */
enum commit sr_recover(struct store *store, const char *path, bool force,
                       struct recover_result *result);

#endif
