/*
 * store: the shared record of homes, holds, hosts and changes. Redis is the
 * one for production (store_redis.c); an in-memory and an always failing one
 * serve the tests. Blocking, one caller at a time per handle: the milter keeps
 * a small pool, the command line one, policyd's keeper thread one. (policyd's
 * lookups are asynchronous, over the same keys and record codec.)
 *
 * Every call has a time limit. Lookups answer FOUND, ABSENT or FAILED; writes
 * end DONE, REFUSED or UNCERTAIN; after FAILED or UNCERTAIN store_error() has
 * one line for a person, naming the thing and the way out.  An uncertain write
 * is settled by doing the same again: every write here is idempotent.
 *
 * Redis keys, all below "sluice:"
 *   chain           hash: "epoch" -> last epoch (decimal), "id" -> its id,
 *                   "floor" -> oldest epoch whose id is kept, "<epoch>" -> id
 *   home:<domain>   hash: local part -> record (home.h), "" -> domain's own
 *   totals:<domain> hash: o l r n -> number of listed mailboxes in that state,
 *                   "flipped" -> time of the last flip (unix s)
 *   locks:<domain>  hash: "<letter><epoch>.<since>" of a record that is locked ->
 *                   number of listed mailboxes with it
 *   domains         set of registered domains
 *   events          stream, entry id <epoch>-0: id prev op letter time domain body
 *   hosts           hash: host -> host record
 *   held:<host>     hash: queue id -> held record
 *   floaters:<domain> hash: local part -> "<count> <first> <last>" (unix s)
 *   hours:<domain>  hash: hours since 1970 -> floaters in it; "total", "last"
 *   senders:<domain> hash: client -> "<count> <first> <last> <name>" of floaters
 *   auth:<domain>   hash: "<client> <envelope>" -> auth row's figures
 *   arrivals:<domain> stream of deliveries on the new side, capped
 *   playbook:<domain> hash: step, "" or "=<setting>" -> "<epoch> TAB <record>"
 *   pings           hash: "<host> <path>" -> the last result of sluice ping
 *   monitors        hash: host -> the last verdict of sluice monitor (monitor_row.h)
 *   lease:<name>    string with expiry: who runs a cutover
 *   secret          string: key of the trace header's token
 * Every reader of homes asks for chain "epoch" and the id at its host journal's
 * head in the same round trip: no epoch, an epoch below the head, or another id
 * there is a history that was lost or rolled back: LOOKUP_FAILED.
 */
#ifndef SLUICE_STORE_H
#define SLUICE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "authresult.h"
#include "conf.h"
#include "home.h"
#include "journal.h"
#include "route.h"

enum commit { COMMIT_DONE, COMMIT_REFUSED, COMMIT_UNCERTAIN };

struct store;

/* Names of the keys. */
#define STORE_PREFIX       "sluice:"
#define STORE_CHAIN        STORE_PREFIX "chain"
#define STORE_DOMAINS      STORE_PREFIX "domains"
#define STORE_EVENTS       STORE_PREFIX "events"
#define STORE_HOSTS        STORE_PREFIX "hosts"
#define STORE_SECRET       STORE_PREFIX "secret"
#define STORE_HOME_OF      STORE_PREFIX "home:"     /* + domain */
#define STORE_TOTALS_OF    STORE_PREFIX "totals:"   /* + domain */
#define STORE_HELD_OF      STORE_PREFIX "held:"     /* + host */
#define STORE_LOCKS_OF     STORE_PREFIX "locks:"    /* + domain */
#define STORE_FLOATERS_OF  STORE_PREFIX "floaters:" /* + domain */
#define STORE_HOURS_OF     STORE_PREFIX "hours:"    /* + domain */
#define STORE_SENDERS_OF   STORE_PREFIX "senders:"  /* + domain */
#define STORE_AUTH_OF      STORE_PREFIX "auth:"     /* + domain */
#define STORE_ARRIVALS_OF  STORE_PREFIX "arrivals:" /* + domain */
#define STORE_PINGS        STORE_PREFIX "pings"
#define STORE_MONITORS     STORE_PREFIX "monitors"
#define STORE_LEASE_OF     STORE_PREFIX "lease:"    /* + name */
#define STORE_PLAYBOOK_OF  STORE_PREFIX "playbook:" /* + domain */

/* No callback (each(), progress()) may call into the same store. */

/* Never NULL, does not connect yet. conf is referenced. head may be NULL (no
 * journal to compare with); it is the caller's and must outlive the store. */
struct store *store_redis_new(struct conf *conf, struct journal_reader *head);
struct store *store_memory_new(void);
struct store *store_failing_new(const char *error);
void store_free(struct store *store);

/* One line about the last FAILED, REFUSED or UNCERTAIN. */
const char *store_error(const struct store *store);

/* ---- lookups --------------------------------------------------------- */

/* Decides a whole message: fills lookup and home of every prepared route (the
 * caller then calls route_finish()), in one pipelined round trip. Routes with
 * domain NULL are skipped; when all are, nothing is sent. Uses the lookup time
 * limit and, after a failure, answers FAILED at once for a moment (circuit
 * breaker), so that a dead Redis costs its time limit once and not per message. */
void store_lookup(struct store *store, struct route *const routes[], size_t n);

/* The present position, not compared with the journal's head. ABSENT: never
 * initialised, or emptied. */
enum lookup store_position(struct store *store, struct position *out);

/* Key of the trace token (32 bytes), made by store_init(). */
#define STORE_SECRET_LEN 32
enum lookup store_secret(struct store *store, unsigned char out[STORE_SECRET_LEN]);

/* Unix time in milliseconds by the store's own clock. 0: FAILED. */
int64_t store_time_ms(struct store *store);

/* Number of listed mailboxes by record letter, and the domain's own record. */
struct store_totals {
    uint64_t old, locked, rolling_back, new;
    struct home own;
};
enum lookup store_totals(struct store *store, const char *domain,
                         struct store_totals *out);

/* Every listed mailbox and the own record (local ""), in no order; each once.
 * Not a snapshot: a change made meanwhile may be seen or not. So a base for a
 * journal is: store_position(), then every home, then store_events() from that
 * position, which end in the same state whatever the scan had seen of them.
 * It works too for a host whose journal is too old to compare (store_events()
 * is ABSENT there). each() returns false to stop (then the result is true).
 * false: FAILED. */
typedef bool store_home_fn(void *context, const char *local,
                           const struct home *home);
bool store_each_home(struct store *store, const char *domain,
                     store_home_fn *each, void *context);

/* ---- changes --------------------------------------------------------- */

struct change_item {
    const char *local;     /* canonical; "" is the domain's own record */
    uint64_t expect_epoch; /* only if the record's epoch is this; 0: any */
    const char *new_address; /* import only; NULL: keep, "": none */
    const char *copy;        /* import only; NULL: keep, "": none */
};

enum change_status {
    CHANGE_MADE,
    CHANGE_ALREADY,  /* was in that state: nothing to do */
    CHANGE_UNLISTED, /* no such mailbox (transitions only) */
    CHANGE_STATE,    /* the transition is not allowed from its state */
    CHANGE_EPOCH,    /* changed meanwhile: expect_epoch does not match */
    CHANGE_FENCE,    /* the lock's fence is not confirmed by every host */
};

struct change {
    enum event_op op; /* EVENT_IMPORT LOCK FLIP UNLOCK ROLLBACK */
    const char *domain;
    const struct change_item *items;
    size_t count;          /* at most EVENT_ITEMS_MAX */
    bool force;            /* do not ask for the fence */
    const char *const *without; /* hosts the fence does without; NULL-terminated
                                   or NULL */
};

struct change_result {
    enum change_status status[EVENT_ITEMS_MAX];
    struct home before[EVENT_ITEMS_MAX]; /* state, rollback, epoch, since, listed only */
    uint64_t epoch; /* of the event; 0: nothing was made */
};

/* One atomic chunk: one script that checks the history (against the host's
 * journal head), the transitions and, for flip from locked and unlock from
 * rolling back, that every registered host's fence has reached the lock's
 * epoch; writes the records, the totals, the next epoch and the event.
 * REFUSED: nothing was written for the whole chunk (uninitialised, rolled
 * back, domain not registered; lock and rollback: no host registered on the
 * side that delivers). Items refused one by one have their status.
 * result->before is where the item stood. */
enum commit store_change(struct store *store, const struct change *change,
                         struct change_result *result);
/* The same in two halves, so that several chunks are under way at once:
 * finish() answers the oldest begun one, and is called once for every begin(),
 * also for one that returned false, with the same change (whose items live till
 * then). No other call of this store in between. Chunks under way behind one
 * that ended UNCERTAIN end UNCERTAIN too. Keep few under way (two or three are
 * enough): Redis runs them back to back, and lookups wait behind. */
#define STORE_CHANGES_MAX 16
bool store_change_begin(struct store *store, const struct change *change);
enum commit store_change_finish(struct store *store, const struct change *change,
                                struct change_result *result);

/* The same transition for every listed mailbox of the domain and its own
 * record, found inside Redis, chunk by chunk; continues where a killed one
 * stopped, since what is there already is skipped. progress() (may be NULL) is
 * called after each chunk and returns false to stop between two chunks, which
 * ends UNCERTAIN. The own record is the last to change. */
struct change_all {
    enum event_op op;
    const char *domain;
    bool force;
    const char *const *without;
    bool (*progress)(void *context, const struct change_all *all);
    void *context;
    /* results */
    uint64_t made, already, wrong_state, unfenced;
    uint64_t epoch; /* highest epoch of the records now in the target state
                       because of a lock (made or already there) */
};
enum commit store_change_all(struct store *store, struct change_all *all);

/* Registers a domain with home old; already registered: DONE, nothing changes.
 * Makes the chain and the secret when Redis is empty. */
enum commit store_init_domain(struct store *store, const char *domain);
/* *out is NULL unless FOUND, then for store_list_free(). */
enum lookup store_domains(struct store *store, char ***out);
void store_list_free(char **list);

/* ---- hosts and fences ------------------------------------------------ */

#define HOST_NAME_MAX_LEN 255
struct host {
    char name[HOST_NAME_MAX_LEN + 1];
    enum side side;
    uint64_t journaled; /* last epoch in its journal */
    uint64_t fenced;    /* every lock up to this epoch is complete there */
    uint64_t swept;     /* after this epoch nothing was left to release */
    uint64_t held;      /* messages on hold by sluice (loops included) */
    uint64_t loops;     /* of these, held because of a loop */
    uint64_t left;      /* messages of unlocked mailboxes still to be released */
    int64_t oldest;     /* unix s of the oldest held, DMARC's left out; 0: none */
    uint64_t deferred;  /* forwarded messages that the other side has not taken yet */
    int64_t deferred_oldest; /* unix s: arrival of the oldest of these; 0: none */
    int64_t seen_ms;    /* last heartbeat, store's clock; set by the store */
    char version[32];
    char state[160];    /* what the fence waits for, or what is wrong; text */
};

/* Written whole by its own policyd; seen_ms is the store's. Registering a name
 * for the first time, or with another side, is an event (EVENT_HOST). REFUSED
 * when the host's journal and the store differ: a host known there still shows
 * its heartbeat and state, but counts as having journaled and fenced nothing. */
enum commit store_host_put(struct store *store, const struct host *host);
enum commit store_host_remove(struct store *store, const char *name);
/* *out is malloc'ed; NULL unless FOUND. */
enum lookup store_hosts(struct store *store, struct host **out, size_t *n);
#define HOST_SILENT_MS 10000 /* a heartbeat older than this is silence */
#define HOST_BEAT_MS   2000

/* ---- events ---------------------------------------------------------- */

/* Events after the given epoch, oldest first, waiting up to wait_ms for the
 * first. event->body points into a buffer that lives until the next call.
 * Calls each() for up to max. FAILED also when the history does not continue
 * at after (store_error() says lost, rolled back or diverged), ABSENT when
 * events between after and the oldest kept are gone and nothing says that the
 * history is another (take a new base: store_each_home()). */
typedef bool store_event_fn(void *context, const struct event *event);
enum lookup store_events(struct store *store, const struct position *after,
                         int wait_ms, int max, store_event_fn *each, void *context);
/* Drops events that every registered host has journaled, and their ids; a
 * thousand or so per call, so call it regularly. Ignores failures. */
void store_trim(struct store *store);

/* ---- held messages --------------------------------------------------- */

enum held_kind {
    HELD_LOCK,    /* its recipients were locked */
    HELD_LOOP,    /* it came back: released by a person only (sluice held release
                     makes it HELD_LOCK) */
    HELD_DMARC,   /* enforce = quarantine: by a person only, as above */
};
struct held {
    char queue_id[64];
    enum held_kind kind;
    int64_t since; /* unix s */
    int64_t gone_since; /* unix s when first not found in hold; 0 */
    const char *sender;     /* "" for the null sender */
    const char *recipients; /* canonical, separated by LF */
};
enum commit store_held_put(struct store *store, const char *host,
                           const struct held *held);
enum commit store_held_drop(struct store *store, const char *host,
                            const char *const *queue_ids, size_t n);
typedef bool store_held_fn(void *context, const struct held *held);
bool store_each_held(struct store *store, const char *host, store_held_fn *each,
                     void *context);

/* ---- figures --------------------------------------------------------- */

/* Who sent a message: address as text, and what it calls itself (anything; cut and
 * cleaned here). Either may be "". */
struct floater_from {
    const char *client, *name;
};
/* One floater for each route with verdict forward or redirect on the old side.
 * A figure, not a promise: failures are ignored. One round trip. */
void store_count_floaters(struct store *store, struct route *const routes[],
                          size_t n, const struct floater_from *from, int64_t now);
/* A delivery on the new side, for the list that rollback prints. As above. */
void store_note_arrivals(struct store *store, struct route *const routes[],
                         size_t n, const char *host, const char *queue_id,
                         const char *message_id, int64_t now);
struct floater {
    const char *local; /* "" counts all unlisted addresses */
    uint64_t count;
    int64_t first, last;
};
typedef bool store_floater_fn(void *context, const struct floater *floater);
bool store_each_floater(struct store *store, const char *domain,
                        store_floater_fn *each, void *context);
struct arrival {
    const char *local, *host, *queue_id, *message_id;
    int64_t time;
};
/* Arrivals of the domain since (unix s), oldest first. */
typedef bool store_arrival_fn(void *context, const struct arrival *arrival);
bool store_each_arrival(struct store *store, const char *domain, int64_t since,
                        store_arrival_fn *each, void *context);

/* ---- who sends as a domain ---------------------------------------------- */

/* What has been verified of the mail that one sending host sent with one
 * envelope domain. */
struct auth_row {
    const char *client;   /* its address as text; "*" is the row that counts
                             what found no room */
    const char *envelope; /* canonical domain of MAIL FROM; "" null sender */
    const char *helo;     /* as it said last; or "" */
    uint64_t messages;
    uint64_t would_fail;  /* SPF did not pass and nothing but "all" matched: under
                             "-all" it fails */
    uint64_t spf[AUTH_RESULTS], dkim[AUTH_RESULTS], dmarc[AUTH_RESULTS];
    int64_t first, last;  /* unix s */
};
/* So many rows are kept for a domain; what else there is is added to "*". Rows of
 * many messages stay, those of few make room. */
#define AUTH_ROWS_MAX 5000
/* Adds to the domain's rows, in one round trip; messages is not 0. A figure, not a
 * promise: false when it could not be, or only in part (the caller may add it again
 * later or let it go). */
bool store_auth_add(struct store *store, const char *domain,
                    const struct auth_row *rows, size_t n);
typedef bool store_auth_fn(void *context, const struct auth_row *row);
bool store_each_auth(struct store *store, const char *domain, store_auth_fn *each,
                     void *context);
/* Forgets all of them. */
enum commit store_auth_drop(struct store *store, const char *domain);

/* ---- sluice ping ---------------------------------------------------------- */

/* The last result of one path, on one host. */
struct ping_row {
    const char *host, *path;
    int64_t when; /* unix s */
    int state;    /* of Nagios: 0 ok, 1 warning, 2 critical, 3 unknown */
    int64_t connected_ms, accepted_ms, arrived_ms; /* since it began; -1: it never was */
    const char *text; /* one line */
};
/* Replaces the one before. A figure, not a promise: UNCERTAIN may be let go. */
enum commit store_ping_put(struct store *store, const struct ping_row *row);
enum commit store_ping_drop(struct store *store, const char *host, const char *path);
/* Paths that nobody probes any more stay until they are dropped: look at when. */
typedef bool store_ping_fn(void *context, const struct ping_row *row);
bool store_each_ping(struct store *store, store_ping_fn *each, void *context);

/* ---- sluice monitor -------------------------------------------------------- */

/* A domain in a verdict; "*" is all that found no room. */
struct monitor_domain {
    const char *name;
    int64_t last;     /* unix s of its last floater; 0: none */
    uint64_t waiting; /* forwards that the new server has not taken yet */
};
/* The last verdict of one host: what its log says. */
struct monitor_row {
    const char *host;
    int64_t when;         /* unix s */
    int state;            /* of Nagios: 0 ok, 1 warning, 2 critical, 3 unknown */
    int64_t begins;       /* unix s: the log is known from here on; 0: nothing is */
    int64_t last;         /* unix s of the last floater; 0: none */
    uint64_t waiting;     /* forwards that the new server has not taken yet */
    uint64_t stuck;       /* of these, for long */
    int quiet_for;        /* seconds that it was asked for */
    const char *text;     /* one line */
    const struct monitor_domain *domains; /* with floaters */
    size_t domain_count;
};
/* Replaces the one before. A figure, not a promise: UNCERTAIN may be let go. */
enum commit store_monitor_put(struct store *store, const struct monitor_row *row);
enum commit store_monitor_drop(struct store *store, const char *host);
typedef bool store_monitor_fn(void *context, const struct monitor_row *row);
bool store_each_monitor(struct store *store, store_monitor_fn *each, void *context);

/* ---- runs of playbooks -------------------------------------------------- */

/* Fields and values are the caller's (cutover/playbook_state.h), without LF. */
struct playbook_field {
    const char *name;  /* no TAB; "" is the run itself */
    const char *value; /* stored as "<epoch of this change><TAB><value>" */
};
#define PLAYBOOK_FIELDS_MAX 100
#define PLAYBOOK_BYTES_MAX  (256 * 1024) /* of one change: it is one journal record */
struct playbook_put {
    const char *domain;
    uint64_t expect_epoch; /* of the first field; 0: it must not be there */
    uint64_t run_epoch;    /* of field "", when another is written; 0: not looked at */
    bool anew;             /* forget all that was there */
    const struct playbook_field *fields;
    size_t count;
};
/* One change, all of it or nothing, with an EVENT_PLAYBOOK. REFUSED also when the
 * first field's epoch, or the run's, is another: somebody else was faster, or began
 * another run meanwhile. */
enum commit store_playbook_put(struct store *store, const struct playbook_put *put,
                               uint64_t *epoch);
/* Every field; none: no run. false: FAILED. */
typedef bool store_playbook_fn(void *context, const char *name, const char *value);
bool store_each_playbook(struct store *store, const char *domain,
                         store_playbook_fn *each, void *context);

/* ---- the picture for the status page ------------------------------------- */

/* Listed mailboxes that one change locked and that are still locked. */
struct store_lock {
    bool rollback;
    uint64_t epoch;
    int64_t since;
    uint64_t count;
};
struct store_sender {
    const char *client; /* "*" counts those that found no room */
    const char *name;
    uint64_t count;
    int64_t first, last;
};
#define STORE_HOURS       96
#define STORE_SENDERS_MAX 200
/* What there is to show of one domain; lives until each() returns. */
struct store_picture {
    const char *domain;
    struct store_totals totals;
    int64_t flipped; /* unix s of the last flip or recovery; 0: none */
    const struct store_lock *locks; /* in no order */
    size_t lock_count;
    uint64_t floaters;
    int64_t floater_last;
    uint64_t hours[STORE_HOURS]; /* the last one is the hour of now */
    const struct store_sender *senders; /* in no order */
    size_t sender_count;
    const char *run;     /* its playbook's field "", or NULL */
    const char *outline; /* its playbook's field "@outline", or NULL */
};
typedef bool store_picture_fn(void *context, const struct store_picture *picture);
/* Those of the domains that are registered, in order; a few round trips for any
 * number, none of them large. Looks at counters, never at mailboxes, and does not
 * compare histories: a figure, not a decision. false: FAILED. */
bool store_each_picture(struct store *store, const char *const *domains, size_t n,
                        int64_t now, store_picture_fn *each, void *context);

/* ---- leases and health ----------------------------------------------- */

/* Takes or renews the lease for holder. REFUSED: somebody else has it, and
 * other[] names them. */
enum commit store_lease_take(struct store *store, const char *name,
                             const char *holder, int ttl_s, char *other,
                             size_t other_size);
void store_lease_drop(struct store *store, const char *name, const char *holder);

/* Whether what is written stays: append-only file on, eviction off. REFUSED:
 * store_error() says what to change. UNCERTAIN: could not ask. */
enum commit store_durable(struct store *store);

/* Rebuilds the store from the journal at path: homes, totals, hosts, chain,
 * then an EVENT_RECOVER. Refused while the store holds a history that this
 * journal does not contain, unless force. Removes nothing but what it rebuilds.
 * Until it ends every lookup fails; killed, it is run again. Hosts are taken
 * from EVENT_HOST and from an EVENT_BASE with domain "" (lines of EVENT_HOST);
 * all fences have to be confirmed anew. */
struct recover_result {
    struct position at; /* the journal's head */
    uint64_t mailboxes, domains, hosts;
};
enum commit store_recover(struct store *store, const char *path, bool force,
                          struct recover_result *result);

#endif
