/*
 * stats: see stats.h. A store handle of its own, blocking, one round trip for many
 * domains. Whatever fails, the next document is the last picture that was whole, with
 * what is wrong beside it.
 */
#include "config.h"

#include "stats.h"

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

#include "alarm.h"
#include "clock.h"
#include "lock_age.h"
#include "log.h"
#include "ping_row.h"
#include "status.h"

#define SHARE         20 /* asking takes one part in so many of the time */
#define PAUSE_MAX_MS  (STATS_STALE_MS / 2)
#define CHILD_POLL_MS 200
#define WINDOW_MS     300000 /* of the latencies that are shown */

struct stats {
    pthread_t thread;
    atomic_bool stop;
    _Atomic int64_t wanted_ms; /* somebody looked */
    int wake;                  /* eventfd */
    pthread_mutex_t lock;      /* guards the next two */
    struct conf *next_conf;
    struct stats_page *page;
    /* of the thread alone */
    struct conf *conf;
    struct lookups *lookups;
    struct journal_reader *head; /* to compare histories with */
    struct store *store;
    struct status *last; /* the last picture that was whole; NULL: none yet */
    struct alarms *alarms;
    struct lock_ages *ages;
    uint64_t reads, failures;
    struct lookup_figures window[2]; /* at the beginning of this window and the last */
    int64_t window_ms;
};

/* ---- pages --------------------------------------------------------------------- */

struct stats_page *stats_page_ref(struct stats_page *page)
{
    __atomic_add_fetch(&page->refs, 1, __ATOMIC_RELAXED);
    return page;
}

void stats_page_unref(struct stats_page *page)
{
    if (!page || __atomic_sub_fetch(&page->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    free(page->json);
    free(page->metrics);
    free(page);
}

static void wake(struct stats *stats)
{
    uint64_t one = 1;
    if (write(stats->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
        log_warn("status: eventfd");
}

struct stats_page *stats_take(struct stats *stats)
{
    int64_t now = clock_ms();
    int64_t before = atomic_exchange(&stats->wanted_ms, now);
    if (now - before > STATS_EVERY_MS)
        wake(stats);
    pthread_mutex_lock(&stats->lock);
    struct stats_page *page = stats->page ? stats_page_ref(stats->page) : NULL;
    pthread_mutex_unlock(&stats->lock);
    return page;
}

static void publish(struct stats *stats, const struct status *status)
{
    struct stats_page *page = calloc(1, sizeof(*page));
    if (page) {
        page->refs = 1;
        page->json = status_json(status, &page->json_len);
        page->metrics = status_metrics(status, &page->metrics_len);
        page->made_ms = clock_ms();
        page->up = status->up;
        snprintf(page->health, sizeof(page->health), "%s%s",
                 status->up ? "ok" : "Redis: ", status->error);
    }
    if (!page || !page->json || !page->metrics) {
        log_warnx("status: out of memory");
        stats_page_unref(page);
        return;
    }
    pthread_mutex_lock(&stats->lock);
    struct stats_page *old = stats->page;
    stats->page = page;
    pthread_mutex_unlock(&stats->lock);
    stats_page_unref(old);
}

/* ---- asking ---------------------------------------------------------------------- */

#define FORGET_MAX 20 /* rows, in one turn */

struct asking {
    struct status *status;
    struct store *store;
    struct journal_reader *head;
    bool failed;
    struct {
        char host[256], path[80]; /* path "": a verdict of sluice monitor */
    } forget[FORGET_MAX];
    size_t forget_count;
};

/* To be dropped after the reading: no call into the store from a callback of it. */
static void forget_row(struct asking *asking, const char *host, const char *path)
{
    if (asking->forget_count == FORGET_MAX)
        return;
    size_t i = asking->forget_count++;
    int host_len = snprintf(asking->forget[i].host, 256, "%s", host);
    int path_len = snprintf(asking->forget[i].path, 80, "%s", path);
    if (host_len < 0 || host_len > 255 || path_len < 0 || path_len > 79)
        asking->forget_count--; /* nobody wrote this: it is not shown, and stays */
}

static void forget_rows(struct asking *asking)
{
    for (size_t i = 0; i < asking->forget_count; i++) {
        const char *host = asking->forget[i].host, *path = asking->forget[i].path;
        if (path[0])
            (void)store_ping_drop(asking->store, host, path);
        else
            (void)store_monitor_drop(asking->store, host);
    }
}

static bool take_picture(void *context, const struct store_picture *picture)
{
    struct asking *asking = context;
    asking->failed = !status_add_domain(asking->status, picture);
    return !asking->failed;
}

static bool take_ping(void *context, const struct ping_row *row)
{
    struct asking *asking = context;
    if (ping_row_forgotten(row, asking->status->conf, asking->status->now))
        forget_row(asking, row->host, row->path);
    else
        asking->failed = !status_add_ping(asking->status, row);
    return !asking->failed;
}

static bool take_monitor(void *context, const struct monitor_row *row)
{
    struct asking *asking = context;
    if (asking->status->now - row->when > STATUS_MONITOR_FORGET_S)
        forget_row(asking, row->host, "");
    else
        asking->failed = !status_add_monitor(asking->status, row);
    return !asking->failed;
}

struct run_steps {
    struct status_run *run;
    char *outline;
};

static bool take_outline(void *context, const char *name, const char *value)
{
    struct run_steps *steps = context;
    if (strcmp(name, "@outline") != 0)
        return true;
    steps->outline = strdup(value);
    return false;
}

static bool take_step(void *context, const char *name, const char *value)
{
    const struct run_steps *steps = context;
    status_run_step(steps->run, steps->outline, name, value);
    return true;
}

/* The steps of the runs that are shown: of a few domains. */
static bool ask_runs(struct asking *asking)
{
    struct status *status = asking->status;
    bool good = true;
    for (size_t i = 0; i < status->domain_count && i < STATUS_DOMAINS_MAX && good; i++) {
        struct status_domain *domain = &status->domains[i];
        struct run_steps steps = { .run = domain->run };
        if (!domain->run)
            continue;
        good = store_each_playbook(asking->store, domain->name, take_outline, &steps) &&
               store_each_playbook(asking->store, domain->name, take_step, &steps);
        free(steps.outline);
        status_run_settle(domain->run);
    }
    return good;
}

static bool ask_domains(struct asking *asking)
{
    char **domains;
    size_t n = 0;
    switch (store_domains(asking->store, &domains)) {
    case LOOKUP_FAILED:
        return false;
    case LOOKUP_ABSENT:
        return true;
    case LOOKUP_FOUND:
        break;
    }
    while (domains[n])
        n++;
    struct store_totals any; /* asked for its comparison of histories */
    bool good = store_totals(asking->store, domains[0], &any) != LOOKUP_FAILED &&
                store_each_picture(asking->store, (const char *const *)domains, n,
                                   asking->status->store_s, take_picture, asking) &&
                !asking->failed;
    store_list_free(domains);
    return good;
}

/* Asks for everything. false: status->error says why. */
static bool ask(struct asking *asking)
{
    struct status *status = asking->status;
    struct position at;
    status->store_s = store_time_ms(asking->store) / 1000;
    bool good = status->store_s > 0;
    if (good) {
        enum lookup found = store_position(asking->store, &at);
        good = found == LOOKUP_FOUND;
        status->epoch = good ? at.epoch : 0;
        if (found == LOOKUP_ABSENT) {
            struct position known;
            bool did = journal_head(asking->head, &known) == LOOKUP_FOUND;
            snprintf(status->error, sizeof(status->error),
                     did ? "Redis has lost its history: run \"sluice recover\""
                         : "it holds no data of sluice: run \"sluice init\"");
            return false;
        }
    }
    good = good && ask_domains(asking) &&
           store_hosts(asking->store, &status->hosts, &status->host_count) !=
               LOOKUP_FAILED &&
           store_each_ping(asking->store, take_ping, asking) && !asking->failed &&
           store_each_monitor(asking->store, take_monitor, asking) && !asking->failed;
    if (good)
        forget_rows(asking);
    status_settle(status);
    good = good && ask_runs(asking);
    if (!good)
        snprintf(status->error, sizeof(status->error), "%.399s",
                 asking->failed ? "out of memory" : store_error(asking->store));
    return good;
}

/* ---- a turn ------------------------------------------------------------------------ */

static void take_lookups(struct stats *stats, struct status *status)
{
    int64_t now = clock_ms();
    lookups_figures(stats->lookups, &status->lookups);
    status->median_ms = status_quantile(&stats->window[1], &status->lookups, 0.5);
    status->p99_ms = status_quantile(&stats->window[1], &status->lookups, 0.99);
    if (now - stats->window_ms < WINDOW_MS)
        return;
    stats->window[1] = stats->window[0];
    stats->window[0] = status->lookups;
    stats->window_ms = now;
}

/* What is known without the store. */
static void take_here(struct stats *stats, struct status *status)
{
    status->conf = stats->conf;
    status->now = (int64_t)time(NULL);
    take_lookups(stats, status);
    status->has_milter = counters_load(stats->conf, &status->milter);
    status->reads = stats->reads;
    status->read_failures = stats->failures;
}

static void watch(struct stats *stats, struct status *status)
{
    static struct alarm conditions[STATUS_ALARMS_MAX]; /* this thread's alone */
    if (!status->alarms)
        status->alarms = calloc(STATUS_ALARMS_MAX, sizeof(*status->alarms));
    if (!status->alarms)
        return;
    size_t n = status_judge(status, conditions);
    status->alarm_count = alarms_update(stats->alarms, status, conditions, n,
                                        stats->store, clock_ms(), status->alarms);
    status->untold = alarms_untold(stats->alarms);
}

/* A picture of now, or the last one with what is wrong: then false. */
static bool turn(struct stats *stats)
{
    struct status *status = calloc(1, sizeof(*status));
    if (!status)
        return false;
    take_here(stats, status);
    struct asking asking = { .status = status,
                             .store = stats->store,
                             .head = stats->head };
    stats->reads++;
    status->ages = stats->ages;
    lock_ages_begin(stats->ages, clock_ms());
    bool up = status->up = ask(&asking);
    lock_ages_end(stats->ages, up);
    if (up) {
        status->as_of = status->now;
    } else {
        stats->failures++;
        status->read_failures = stats->failures;
    }
    if (!status->up && stats->last) {
        take_here(stats, stats->last);
        stats->last->up = false;
        memcpy(stats->last->error, status->error, sizeof(status->error));
        status_free(status);
        status = stats->last;
    } else {
        status_free(stats->last);
        stats->last = status;
    }
    watch(stats, status);
    publish(stats, status);
    return up;
}

/* How long Redis is left alone after a turn. One that failed was a wait, which costs
 * Redis nothing; that it is back is to be seen soon. */
static int64_t pause_ms(int64_t took_ms, bool up)
{
    int64_t pause = up ? took_ms * (SHARE - 1) : 0;
    return pause < PAUSE_MAX_MS ? pause : PAUSE_MAX_MS;
}

static void take_reload(struct stats *stats)
{
    pthread_mutex_lock(&stats->lock);
    struct conf *next = stats->next_conf;
    stats->next_conf = NULL;
    pthread_mutex_unlock(&stats->lock);
    if (!next)
        return;
    store_free(stats->store);
    conf_unref(stats->conf);
    stats->conf = next;
    stats->store = store_redis_new(next, stats->head);
    if (stats->last)
        stats->last->conf = next;
}

static bool wanted(const struct stats *stats)
{
    int64_t asked = atomic_load(&stats->wanted_ms);
    return asked > 0 && clock_ms() - asked < STATS_WANTED_MS;
}

/* Until due_ms, or until somebody begins to look. */
static void rest(struct stats *stats, int64_t due_ms, bool child)
{
    struct pollfd fd = { .fd = stats->wake, .events = POLLIN };
    int64_t left = due_ms - clock_ms();
    uint64_t count;
    if (left < 1)
        left = 1;
    if (child && left > CHILD_POLL_MS)
        left = CHILD_POLL_MS;
    if (poll(&fd, 1, (int)left) == 1 && read(stats->wake, &count, sizeof(count)) < 0)
        log_warn("status: eventfd");
}

static void *run(void *context)
{
    struct stats *stats = context;
    int64_t begun = 0, earliest = 0;
    while (!atomic_load(&stats->stop)) {
        int64_t due = begun + (wanted(stats) ? STATS_EVERY_MS : STATS_IDLE_MS);
        due = begun == 0 ? 0 : due > earliest ? due : earliest;
        bool up = stats->last && stats->last->up;
        bool child =
            alarms_tick(stats->alarms, stats->conf, up ? stats->store : NULL, clock_ms());
        if (clock_ms() < due) {
            rest(stats, due, child);
            continue;
        }
        take_reload(stats);
        begun = clock_ms();
        up = turn(stats);
        earliest = clock_ms() + pause_ms(clock_ms() - begun, up);
    }
    return NULL;
}

/* ---- life ----------------------------------------------------------------------------
 */

static void stats_free(struct stats *stats)
{
    alarms_free(stats->alarms);
    lock_ages_free(stats->ages);
    status_free(stats->last);
    store_free(stats->store);
    if (stats->head)
        journal_reader_free(stats->head);
    stats_page_unref(stats->page);
    conf_unref(stats->conf);
    conf_unref(stats->next_conf);
    if (stats->wake >= 0)
        close(stats->wake);
    pthread_mutex_destroy(&stats->lock);
    free(stats);
}

struct stats *stats_start(struct conf *conf, struct lookups *lookups)
{
    struct stats *stats = calloc(1, sizeof(*stats));
    if (!stats) {
        log_warn("status");
        return NULL;
    }
    pthread_mutex_init(&stats->lock, NULL);
    stats->conf = conf_ref(conf);
    stats->lookups = lookups;
    stats->window_ms = clock_ms();
    stats->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    stats->alarms = alarms_new();
    stats->ages = lock_ages_new();
    char journal[4096];
    conf_journal_path(conf, journal, sizeof(journal));
    stats->head = journal_reader_new(journal);
    stats->store = store_redis_new(conf, stats->head);
    int error = ENOMEM;
    if (stats->wake >= 0 && stats->alarms && stats->ages && stats->head)
        error = pthread_create(&stats->thread, NULL, run, stats);
    if (error == 0)
        return stats;
    errno = error;
    log_warn("status: cannot start");
    stats_free(stats);
    return NULL;
}

void stats_reload(struct stats *stats, struct conf *conf)
{
    pthread_mutex_lock(&stats->lock);
    conf_unref(stats->next_conf);
    stats->next_conf = conf_ref(conf);
    pthread_mutex_unlock(&stats->lock);
    wake(stats);
}

void stats_stop(struct stats *stats)
{
    if (!stats)
        return;
    atomic_store(&stats->stop, true);
    wake(stats);
    pthread_join(stats->thread, NULL);
    if (stats->last && stats->last->up)
        alarms_hand_back(stats->alarms, stats->store);
    stats_free(stats);
}
