/*
 * keeper: one thread that keeps this host's promises (keeper.h).
 *
 * A turn of its loop: take a new configuration; read events, waiting up to
 * EVENT_WAIT_MS for one; journal each (fsync) before anything else is done with
 * it; a step of the fence; a sweep when one is due; the host's record every
 * HOST_BEAT_MS, or at once when something in it has changed. While a queue
 * command runs, the heartbeat goes on.
 *
 * Start: an empty journal, or a gap between it and the events that the store
 * still has, takes a base (keeper_base.h). Otherwise the fenced epoch of the
 * host's own record is where the fence goes on: all later locks in the journal
 * are fenced again.  So a crash at any point costs a repeated fence, never one
 * that is left out.
 *
 * Diagnostics. A history that was lost or rolled back is told once a minute,
 * naming `sluice recover` (the alarm about it is that of stats.h); nothing is
 * confirmed and nothing released until the store's history continues the
 * journal, and then it goes on by itself. A queue helper that died makes
 * keeper_failed_fd() readable.
 */
#include "config.h"

#include "keeper.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "fence.h"
#include "journal.h"
#include "keeper_base.h"
#include "keeper_ports.h"
#include "log.h"
#include "queue.h"
#include "release.h"

#define EVENT_WAIT_MS 200
#define EVENTS_MAX    100
#define RETRY_MS      1000
#define COMPLAIN_MS   60000
#define SETTINGS_MS   60000
#define TRIM_MS       60000

struct keeper {
    pthread_t thread;
    atomic_bool stop;
    int failed_fd;
    pthread_mutex_t lock; /* guards the next two */
    struct conf *next_conf;
    struct host shown;
    /* of the thread alone */
    struct conf *conf;
    struct helper *helper;
    struct journal_reader *head;
    struct store *store;
    struct journal *journal;
    struct queue queue;
    bool queue_known;
    struct keeper_ports ports;
    struct fence *fence;
    struct release *release;
    struct host host;    /* as it is to be written */
    struct host written; /* as it was written */
    bool host_known;     /* its old record was read */
    uint64_t lock_open;  /* oldest lock that was not confirmed when last looked; 0 */
    uint64_t lock_last;  /* the newest one */
    bool append_failed;
    int64_t beat_ms, trim_ms;
    int64_t complained_ms;
    char complaint[300]; /* why there is no fence and no release; "" */
};

/* ---- complaints --------------------------------------------------------------- */

/* Notes why nothing goes on; logged when it is new, and once a minute. */
static void complain(struct keeper *keeper, bool alarm, const char *text)
{
    int64_t now = clock_ms();
    if (strncmp(keeper->complaint, text, sizeof(keeper->complaint) - 1) == 0 &&
        now - keeper->complained_ms < COMPLAIN_MS)
        return;
    snprintf(keeper->complaint, sizeof(keeper->complaint), "%.299s", text);
    keeper->complained_ms = now;
    if (alarm)
        log_alarm("%s", text);
    else
        log_warnx("no fence and no release: %s", text);
}

static void content(struct keeper *keeper)
{
    if (keeper->complaint[0])
        log_info("keeper: goes on");
    keeper->complaint[0] = '\0';
}

/* What the store says about a lost history names the way out. The alarm about it is
 * that of the status page (alarm.h): one is enough. */
static void complain_store(struct keeper *keeper)
{
    complain(keeper, false, store_error(keeper->store));
}

/* ---- the host's record ---------------------------------------------------------- */

static void set_state(struct keeper *keeper, const struct release_figures *figures)
{
    char state[sizeof(keeper->host.state)] = "";
    if (!helper_available(keeper->helper))
        snprintf(state, sizeof(state),
                 "sluice-policyd was not started as root: no fence, no release");
    else if (!keeper->queue_known)
        snprintf(state, sizeof(state), "%.159s", queue_error(&keeper->queue));
    else if (keeper->complaint[0])
        snprintf(state, sizeof(state), "%.159s", keeper->complaint);
    else if (keeper->fence)
        fence_state(keeper->fence, state, sizeof(state));
    if (!state[0] && figures->error[0])
        snprintf(state, sizeof(state), "%.159s", figures->error);
    memcpy(keeper->host.state, state, sizeof(state));
}

/* `sluice audit` learns from this line when a lock was complete on this host, so it
 * is written before anybody is told. */
static void say_confirmed(struct keeper *keeper, uint64_t fenced)
{
    if (keeper->lock_open == 0 || fenced < keeper->lock_open)
        return;
    log_info("fence: confirmed up to change %llu on %s", (unsigned long long)fenced,
             keeper->host.name);
    keeper->lock_open = fenced < keeper->lock_last ? fenced + 1 : 0;
}

static void note_lock(struct keeper *keeper, const struct event *event)
{
    if (event->op != EVENT_LOCK && event->op != EVENT_ROLLBACK)
        return;
    keeper->lock_last = event->at.epoch;
    if (keeper->lock_open == 0)
        keeper->lock_open = event->at.epoch;
}

static void fill_host(struct keeper *keeper)
{
    struct release_figures figures;
    struct host *host = &keeper->host;
    release_figures(keeper->release, &figures);
    host->side = keeper->conf->side;
    if (keeper->journal)
        host->journaled = journal_position(keeper->journal).epoch;
    if (keeper->fence)
        host->fenced = fence_epoch(keeper->fence);
    say_confirmed(keeper, host->fenced);
    host->swept = figures.swept;
    host->held = figures.held;
    host->loops = figures.loops;
    host->left = figures.left;
    host->oldest = figures.oldest;
    host->deferred = figures.deferred;
    host->deferred_oldest = figures.deferred_oldest;
    set_state(keeper, &figures);
}

/* The state's text changes with every second that the fence waits: that alone
 * is no reason to write. */
static bool news(const struct keeper *keeper)
{
    const struct host *a = &keeper->host, *b = &keeper->written;
    return a->fenced != b->fenced || a->swept != b->swept || a->held != b->held ||
           a->left != b->left || a->deferred != b->deferred || a->loops != b->loops ||
           a->journaled != b->journaled || !a->state[0] != !b->state[0];
}

static void beat(struct keeper *keeper)
{
    int64_t now = clock_ms();
    if (!keeper->host_known)
        return;
    fill_host(keeper);
    if (now < keeper->beat_ms &&
        !(news(keeper) && now >= keeper->beat_ms - HOST_BEAT_MS + 50))
        return;
    keeper->beat_ms = now + HOST_BEAT_MS;
    if (store_host_put(keeper->store, &keeper->host) != COMMIT_DONE) {
        complain_store(keeper);
        return;
    }
    keeper->written = keeper->host;
    pthread_mutex_lock(&keeper->lock);
    keeper->shown = keeper->host;
    pthread_mutex_unlock(&keeper->lock);
}

/* Called while a queue command runs. */
static bool beat_while_waiting(void *context)
{
    struct keeper *keeper = context;
    beat(keeper);
    return !atomic_load(&keeper->stop);
}

/* The fenced epoch goes on from the record that the last run left. */
static bool know_host(struct keeper *keeper)
{
    struct host *hosts = NULL;
    size_t n = 0;
    if (keeper->host_known)
        return true;
    enum lookup found = store_hosts(keeper->store, &hosts, &n);
    if (found == LOOKUP_FAILED) {
        complain_store(keeper);
        return false;
    }
    for (size_t i = 0; found == LOOKUP_FOUND && i < n; i++) {
        if (strcmp(hosts[i].name, keeper->host.name) != 0)
            continue;
        keeper->host.fenced = hosts[i].fenced;
        keeper->host.swept = hosts[i].swept;
    }
    if (found == LOOKUP_FOUND)
        free(hosts);
    keeper->host_known = true;
    return true;
}

/* ---- history ---------------------------------------------------------------------- */

static void take_base_event(void *context, const struct event *event)
{
    struct keeper *keeper = context;
    if (keeper->fence && !fence_event(keeper->fence, event)) {
        fence_free(keeper->fence); /* to be built from the journal */
        keeper->fence = NULL;
    }
    release_event(keeper->release, event, clock_ms());
}

static bool take_base(struct keeper *keeper)
{
    char error[400];
    enum base base = keeper_base(keeper->store, keeper->journal, take_base_event, keeper,
                                 error, sizeof(error));
    if (base != BASE_TAKEN) {
        complain(keeper, false, error);
        return false;
    }
    uint64_t epoch = journal_position(keeper->journal).epoch;
    if (keeper->fence)
        fence_reached(keeper->fence, epoch);
    log_info("journal: new base at change %llu", (unsigned long long)epoch);
    return true;
}

static bool replay(void *context, const struct event *event)
{
    struct keeper *keeper = context;
    return fence_event(keeper->fence, event);
}

/* Every lock in the journal that is not confirmed yet is fenced. */
static bool start_fence(struct keeper *keeper)
{
    char path[4096], error[400];
    struct position at = journal_position(keeper->journal);
    struct fence_ports ports = keeper_fence_ports(&keeper->ports);
    if (keeper->fence)
        return true;
    uint64_t confirmed = keeper->host.fenced;
    if (confirmed > at.epoch) /* a new journal: what it was based on is not known */
        confirmed = 0;
    keeper->fence = fence_new(&ports, keeper->conf->fence, confirmed);
    conf_journal_path(keeper->conf, path, sizeof(path));
    error[0] = '\0';
    if (!keeper->fence || !journal_read(path, replay, keeper, error, sizeof(error))) {
        complain(keeper, true, error[0] ? error : "out of memory");
        fence_free(keeper->fence);
        keeper->fence = NULL;
        return false;
    }
    fence_reached(keeper->fence, at.epoch);
    if (fence_pending(keeper->fence) > 0) {
        log_info("fence: goes on after change %llu", (unsigned long long)confirmed);
        keeper->lock_open = confirmed + 1;
        keeper->lock_last = at.epoch;
    }
    return true;
}

static bool take_event(void *context, const struct event *event)
{
    struct keeper *keeper = context;
    if (!journal_append(keeper->journal, event)) {
        char text[4096 + 100], path[4096];
        int saved = errno;
        conf_journal_path(keeper->conf, path, sizeof(path));
        snprintf(text, sizeof(text),
                 "%s: %s: no lock is confirmed until it can be written", path,
                 strerror(saved));
        complain(keeper, true, text);
        keeper->append_failed = true;
        return false;
    }
    log_debug("change %llu: %s %s", (unsigned long long)event->at.epoch,
              event_op_name(event->op), event->domain);
    note_lock(keeper, event);
    if (keeper->fence && !fence_event(keeper->fence, event)) {
        fence_free(keeper->fence);
        keeper->fence = NULL;
    }
    release_event(keeper->release, event, clock_ms());
    return true;
}

/* Brings the journal up to the store's history. */
static bool read_events(struct keeper *keeper)
{
    struct position at = journal_position(keeper->journal);
    if (at.epoch == 0 && !take_base(keeper))
        return false;
    at = journal_position(keeper->journal);
    keeper->append_failed = false;
    switch (
        store_events(keeper->store, &at, EVENT_WAIT_MS, EVENTS_MAX, take_event, keeper)) {
    case LOOKUP_FOUND:
        return !keeper->append_failed;
    case LOOKUP_ABSENT:
        log_warnx("journal: the store has dropped changes after %llu: taking a new base",
                  (unsigned long long)at.epoch);
        return take_base(keeper);
    case LOOKUP_FAILED:
        break;
    }
    complain_store(keeper);
    return false;
}

/* ---- a turn -------------------------------------------------------------------------
 */

static bool open_journal(struct keeper *keeper)
{
    char path[4096], error[400];
    if (keeper->journal)
        return true;
    conf_journal_path(keeper->conf, path, sizeof(path));
    keeper->journal = journal_open(path, error, sizeof(error));
    if (!keeper->journal)
        complain(keeper, true, error);
    return keeper->journal != NULL;
}

static void open_store(struct keeper *keeper)
{
    store_free(keeper->store);
    keeper->store = store_redis_new(keeper->conf, keeper->head);
    keeper->ports.conf = keeper->conf;
    keeper->ports.store = keeper->store;
    keeper->ports.queue = &keeper->queue;
    keeper->queue_known = queue_open(&keeper->queue, keeper->conf, keeper->helper);
    keeper->queue.idle = beat_while_waiting;
    keeper->queue.idle_context = keeper;
    snprintf(keeper->host.name, sizeof(keeper->host.name), "%s", keeper->conf->hostname);
}

static void take_reload(struct keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    struct conf *next = keeper->next_conf;
    keeper->next_conf = NULL;
    pthread_mutex_unlock(&keeper->lock);
    if (!next)
        return;
    conf_unref(keeper->conf);
    keeper->conf = next;
    open_store(keeper);
    keeper->ports.settings_known = false;
    if (keeper->fence) {
        fence_set_mode(keeper->fence, next->fence);
        fence_retry(keeper->fence);
    }
}

static void sweep(struct keeper *keeper)
{
    if (!release_due(keeper->release, clock_ms()))
        return;
    if (!keeper_settings(&keeper->ports, SETTINGS_MS)) {
        complain(keeper, false, queue_error(&keeper->queue));
        return;
    }
    struct release_env env = {
        .conf = keeper->conf,
        .store = keeper->store,
        .queue = &keeper->queue,
        .settings = &keeper->ports.settings,
        .epoch = journal_position(keeper->journal).epoch,
        .now = (int64_t)time(NULL),
        .now_ms = clock_ms(),
    };
    release_step(keeper->release, &env, clock_ms);
}

/* false: something is missing; the loop waits a little. */
static bool turn(struct keeper *keeper)
{
    if (!open_journal(keeper) || !read_events(keeper) || !know_host(keeper) ||
        !start_fence(keeper))
        return false;
    content(keeper);
    beat(keeper);
    if (!helper_available(keeper->helper) || !keeper->queue_known)
        return true;
    fence_step(keeper->fence);
    beat(keeper);
    sweep(keeper);
    beat(keeper);
    if (clock_ms() >= keeper->trim_ms) {
        store_trim(keeper->store);
        keeper->trim_ms = clock_ms() + TRIM_MS;
    }
    return true;
}

static void *run(void *context)
{
    struct keeper *keeper = context;
    while (!atomic_load(&keeper->stop)) {
        take_reload(keeper);
        if (!helper_alive(keeper->helper)) {
            uint64_t one = 1;
            if (write(keeper->failed_fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
                log_warn("keeper: eventfd");
            return NULL;
        }
        if (turn(keeper))
            continue;
        beat(keeper);
        for (int i = 0; i < RETRY_MS / 100 && !atomic_load(&keeper->stop); i++)
            nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
    }
    return NULL;
}

/* ---- life ----------------------------------------------------------------------------
 */

static void keeper_free(struct keeper *keeper)
{
    fence_free(keeper->fence);
    release_free(keeper->release);
    keeper_ports_free(&keeper->ports);
    store_free(keeper->store);
    if (keeper->journal)
        journal_close(keeper->journal);
    if (keeper->head)
        journal_reader_free(keeper->head);
    conf_unref(keeper->conf);
    conf_unref(keeper->next_conf);
    if (keeper->failed_fd >= 0)
        close(keeper->failed_fd);
    pthread_mutex_destroy(&keeper->lock);
    free(keeper);
}

struct keeper *keeper_start(struct conf *conf, struct helper *helper,
                            struct lookups *lookups)
{
    char path[4096];
    struct keeper *keeper = calloc(1, sizeof(*keeper));
    if (!keeper) {
        log_warn("keeper");
        return NULL;
    }
    pthread_mutex_init(&keeper->lock, NULL);
    atomic_init(&keeper->stop, false);
    keeper->conf = conf_ref(conf);
    keeper->helper = helper;
    keeper->ports.lookups = lookups;
    keeper->failed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    keeper->release = release_new();
    conf_journal_path(conf, path, sizeof(path));
    keeper->head = journal_reader_new(path);
    snprintf(keeper->host.version, sizeof(keeper->host.version), "%s", PACKAGE_VERSION);
    if (keeper->failed_fd >= 0 && keeper->release && keeper->head) {
        open_store(keeper);
        keeper->shown = keeper->host;
        int error = pthread_create(&keeper->thread, NULL, run, keeper);
        if (error == 0)
            return keeper;
        errno = error;
    }
    log_warn("keeper: cannot start");
    keeper_free(keeper);
    return NULL;
}

void keeper_reload(struct keeper *keeper, struct conf *conf)
{
    pthread_mutex_lock(&keeper->lock);
    conf_unref(keeper->next_conf);
    keeper->next_conf = conf_ref(conf);
    pthread_mutex_unlock(&keeper->lock);
}

void keeper_stop(struct keeper *keeper)
{
    if (!keeper)
        return;
    atomic_store(&keeper->stop, true);
    pthread_join(keeper->thread, NULL);
    keeper_free(keeper);
}

int keeper_failed_fd(const struct keeper *keeper)
{
    return keeper->failed_fd;
}

void keeper_host(struct keeper *keeper, struct host *out)
{
    pthread_mutex_lock(&keeper->lock);
    *out = keeper->shown;
    pthread_mutex_unlock(&keeper->lock);
}
