/*
 * alarm_tell: see alarm_tell.h. One command at a time, ALARM_COMMAND_S for each and
 * ALARM_COMMANDS_AN_HOUR; what finds no room in that hour waits.
 */
#include "config.h"

#include "alarm_tell.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "alarm.h"
#include "fnv.h"
#include "log.h"

#define HOUR_MS         3600000
#define BACKOFF_FIRST_S 60
#define BACKOFF_MOST_S  900
#define CLAIM_S         (ALARM_COMMAND_S + 30)
#define POLL_MS         10000 /* another host is at it, or it failed there */
#define TELL_OVER_TRIES 6
#define STUCK_MS        ((int64_t)(BACKOFF_MOST_S + CLAIM_S) * 1000) /* no lease lasts so */
#define ANEW_S          30
#define TELLINGS_MAX    (2 * STATUS_ALARMS_MAX)
#define LEASE_MAX       400

static const char *const moment_names[] = { "raised", "still", "over" };

/* What is known of an alarm from its beginning until its end is told. */
struct telling {
    struct alarm alarm;
    enum moment moment;
    bool pending;      /* to be told, at due_ms */
    bool ran;          /* this host has told it, or tried to */
    bool failing;      /* the last time it failed */
    unsigned failures; /* in a row */
    int64_t due_ms;
    char lease[LEASE_MAX]; /* as last seen in the store; "" */
    uint64_t other;        /* digest of the one that had to be waited for */
    int64_t other_ms;      /* since when */
};

struct tell {
    struct telling list[TELLINGS_MAX];
    size_t count;
    pid_t child; /* 0: none; also its process group */
    struct alarm running;
    enum moment running_moment;
    int64_t child_due_ms;
    int64_t hour_ms; /* since when started counts */
    unsigned started;
    bool full;                 /* said that the hour is */
    char self[LEASE_MAX - 40]; /* "<host>:<pid>:<start>" */
};

int tell_backoff_s(unsigned failures)
{
    int seconds = BACKOFF_FIRST_S;
    while (failures-- > 1 && seconds < BACKOFF_MOST_S)
        seconds *= 2;
    return seconds < BACKOFF_MOST_S ? seconds : BACKOFF_MOST_S;
}

struct tell *tell_new(int64_t now_ms)
{
    struct tell *tell = calloc(1, sizeof(*tell));
    if (tell)
        tell->hour_ms = now_ms;
    return tell;
}

void tell_free(struct tell *tell)
{
    if (!tell)
        return;
    if (tell->child > 0) {
        kill(-tell->child, SIGKILL);
        while (waitpid(tell->child, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    free(tell);
}

static bool same(const struct alarm *one, const struct alarm *other)
{
    return one->kind == other->kind && strcmp(one->about, other->about) == 0;
}

static struct telling *find(struct tell *tell, const struct alarm *alarm)
{
    for (size_t i = 0; i < tell->count; i++)
        if (same(&tell->list[i].alarm, alarm))
            return &tell->list[i];
    return NULL;
}

static void forget(struct tell *tell, struct telling *telling)
{
    *telling = tell->list[--tell->count];
}

size_t tell_failing(const struct tell *tell)
{
    size_t n = 0;
    for (size_t i = 0; i < tell->count; i++)
        n += tell->list[i].failing;
    return n;
}

/* ---- leases ------------------------------------------------------------------ */

static bool lease_name(const struct alarm *alarm, char out[320])
{
    int n = snprintf(out, 320, "alarm:%s:%s", alarm_kind_name(alarm->kind), alarm->about);
    return n > 0 && n < 320;
}

static void know_self(struct tell *tell, const struct conf *conf)
{
    if (!tell->self[0])
        snprintf(tell->self, sizeof(tell->self), "%.255s:%ld:%" PRId64, conf->hostname,
                 (long)getpid(), (int64_t)time(NULL));
}

/* Whether a lease's holder is this process (self) or one before it on this host. */
static bool is_ours(const struct tell *tell, const char *lease, bool self)
{
    const char *end = self ? NULL : strchr(tell->self, ':');
    size_t len = end ? (size_t)(end - tell->self) : strlen(tell->self);
    return strncmp(lease, tell->self, len) == 0 && lease[len] == (self ? ' ' : ':');
}

/* Its phase, as its first letter; 't' for what nobody of this version wrote. since: of
 * the alarm; 0: not known. */
static char phase_of(const char *lease, unsigned *failures, int64_t *since)
{
    char phase[8] = "";
    *failures = 0;
    *since = 0;
    if (sscanf(lease, "%*s %7s %4u %18" SCNd64, phase, failures, since) < 1 ||
        (strcmp(phase, "run") != 0 && strcmp(phase, "failed") != 0))
        return 't';
    return phase[0];
}

/* When the condition began, where that is the same for every host and every process of
 * it: by the store's data. 0: the first look at it is its beginning. */
static int64_t known_since(const struct alarm *alarm)
{
    switch (alarm->kind) {
    case ALARM_LOCK_DEADLINE:
    case ALARM_HELD_OLD:
    case ALARM_FORWARD_FAILING:
    case ALARM_HOST_SILENT:
    case ALARM_MILTER_SILENT:
        return alarm->since;
    default:
        return 0;
    }
}

/* Whether what was told was an alarm before this one, whose end nobody saw: all who
 * could have dropped the lease were down by then. */
static bool is_anew(const struct telling *telling, int64_t told_since)
{
    return telling->moment == RAISED && told_since > 0 &&
           known_since(&telling->alarm) > told_since + ANEW_S;
}

/* Whether the same lease has been in the way for longer than any lasts: the store's
 * clock, which ends leases, was set back. */
static bool is_stuck(struct telling *telling, int64_t now_ms)
{
    uint64_t digest = fnv_hash(0, telling->lease, strlen(telling->lease));
    if (telling->other != digest) {
        telling->other = digest;
        telling->other_ms = now_ms;
    }
    return now_ms - telling->other_ms > STUCK_MS;
}

static void drop_lease(struct telling *telling, struct store *store)
{
    char name[320];
    if (store && telling->lease[0] && lease_name(&telling->alarm, name))
        store_lease_drop(store, name, telling->lease);
    telling->lease[0] = '\0';
}

/* REFUSED: somebody has it, telling->lease says who. */
static enum commit take_lease(struct tell *tell, struct telling *telling,
                              struct store *store, const char *phase, int seconds)
{
    char name[320], text[LEASE_MAX], other[LEASE_MAX];
    if (!store || !lease_name(&telling->alarm, name))
        return COMMIT_UNCERTAIN;
    snprintf(text, sizeof(text), "%s %s %u %" PRId64, tell->self, phase,
             telling->failures, known_since(&telling->alarm));
    enum commit taken =
        store_lease_take(store, name, text, seconds, other, sizeof(other));
    if (taken == COMMIT_REFUSED)
        memcpy(telling->lease, other, sizeof(other));
    else if (taken == COMMIT_DONE)
        memcpy(telling->lease, text, sizeof(text));
    return taken;
}

/* Goes over to another phase. In between another host may take it: told twice is
 * better than not told. */
static void set_phase(struct tell *tell, struct telling *telling, struct store *store,
                      const char *phase, int seconds)
{
    drop_lease(telling, store);
    (void)take_lease(tell, telling, store, phase, seconds);
}

enum claim { CLAIM_OURS, CLAIM_LATER, CLAIM_TOLD };

/* Whether this host is to tell it now. When the store cannot say: yes. */
static enum claim claim(struct tell *tell, struct telling *telling, struct store *store,
                        int64_t now_ms)
{
    unsigned failures;
    int64_t since;
    for (int attempt = 0; attempt < 2; attempt++) {
        if (take_lease(tell, telling, store, "run", CLAIM_S) != COMMIT_REFUSED)
            return CLAIM_OURS;
        bool ours = is_ours(tell, telling->lease, false);
        char phase = phase_of(telling->lease, &failures, &since);
        telling->ran |= ours;
        /* Our own is of the last time; what another process of this host was running
         * ended with it. */
        if (is_ours(tell, telling->lease, true) || (ours && phase == 'r') ||
            (phase == 't' ? is_anew(telling, since) : is_stuck(telling, now_ms))) {
            drop_lease(telling, store);
            continue;
        }
        if (phase == 't')
            return CLAIM_TOLD;
        if (failures > telling->failures)
            telling->failures = failures;
        break;
    }
    return CLAIM_LATER;
}

void tell_hand_back(struct tell *tell, struct store *store)
{
    struct telling *telling = tell->child > 0 ? find(tell, &tell->running) : NULL;
    if (telling && telling->moment != OVER)
        drop_lease(telling, store);
}

/* ---- orders ------------------------------------------------------------------- */

static struct telling *add(struct tell *tell, const struct alarm *alarm)
{
    if (tell->count == TELLINGS_MAX) {
        log_warnx("alarm-command: too many alarms at once: not run for %s %s",
                  alarm_kind_name(alarm->kind), alarm->about);
        return NULL;
    }
    struct telling *telling = &tell->list[tell->count++];
    *telling = (struct telling){ .alarm = *alarm };
    return telling;
}

/* One that nobody here has told, or tried to, needs no end. */
static void order_over(struct tell *tell, struct telling *telling, struct store *store,
                       int64_t now_ms)
{
    bool running = tell->child > 0 && same(&tell->running, &telling->alarm);
    drop_lease(telling, store);
    if (!telling->ran && !running) {
        forget(tell, telling);
        return;
    }
    telling->moment = OVER;
    telling->pending = true;
    telling->failing = false;
    telling->failures = 0;
    telling->due_ms = now_ms;
}

void tell_order(struct tell *tell, const struct conf *conf, const struct alarm *alarm,
                enum moment moment, struct store *store, int64_t now_ms)
{
    struct telling *telling = find(tell, alarm);
    if (!conf->alarm_command)
        return;
    know_self(tell, conf);
    if (moment == OVER) {
        if (telling)
            order_over(tell, telling, store, now_ms);
        return;
    }
    if (!telling && !(telling = add(tell, alarm)))
        return;
    telling->alarm = *alarm;
    if (telling->pending && telling->moment != OVER)
        return; /* it has not been told at all yet */
    telling->moment = moment;
    telling->pending = true;
    telling->failing = false;
    telling->failures = 0;
    telling->due_ms = now_ms;
}

void tell_text(struct tell *tell, const struct alarm *alarm)
{
    struct telling *telling = find(tell, alarm);
    if (telling)
        memcpy(telling->alarm.text, alarm->text, sizeof(alarm->text));
}

/* ---- commands ------------------------------------------------------------------- */

/* Standard input and output, and nothing else. */
static int prepare_files(posix_spawn_file_actions_t *files)
{
    int error = posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDWR, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(files, 0, 1);
    if (!error)
        error = posix_spawn_file_actions_adddup2(files, 0, 2);
    if (!error)
        error = posix_spawn_file_actions_addclosefrom_np(files, 3);
    return error;
}

/* A process group of its own, no signal blocked or ignored. */
static int prepare_attributes(posix_spawnattr_t *attributes)
{
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int error = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETPGROUP |
                                                         POSIX_SPAWN_SETSIGDEF |
                                                         POSIX_SPAWN_SETSIGMASK);
    if (!error)
        error = posix_spawnattr_setsigdefault(attributes, &all);
    if (!error)
        error = posix_spawnattr_setsigmask(attributes, &none);
    return error;
}

/* posix_spawn(3): the error; 0: runs. */
static int spawn(char *const argv[], char *const environment[], pid_t *child)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&files);
    if (error)
        return error;
    error = posix_spawnattr_init(&attributes);
    if (!error) {
        error = prepare_files(&files);
        if (!error)
            error = prepare_attributes(&attributes);
        if (!error)
            error = posix_spawn(child, argv[0], &files, &attributes, argv, environment);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&files);
    return error;
}

/* false: it could not be started. */
static bool start(struct tell *tell, const struct conf *conf, struct telling *telling,
                  int64_t now_ms)
{
    const struct alarm *alarm = &telling->alarm;
    char host[320], kind[64], about[320], state[64], text[STATUS_TEXT_MAX + 32];
    char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    char *environment[] = { path, host, kind, about, state, text, NULL };
    snprintf(host, sizeof(host), "SLUICE_HOST=%.255s", conf->hostname);
    snprintf(kind, sizeof(kind), "SLUICE_ALARM=%s", alarm_kind_name(alarm->kind));
    snprintf(about, sizeof(about), "SLUICE_ALARM_ABOUT=%s", alarm->about);
    snprintf(state, sizeof(state), "SLUICE_ALARM_STATE=%s",
             moment_names[telling->moment]);
    snprintf(text, sizeof(text), "SLUICE_ALARM_TEXT=%s", alarm->text);
    telling->ran = true;
    tell->started++;
    int error = spawn(conf->alarm_command, environment, &tell->child);
    if (error) {
        tell->child = 0;
        log_warnx("alarm-command: cannot run %s: %s", conf->alarm_command[0],
                  strerror(error));
        return false;
    }
    tell->running = *alarm;
    tell->running_moment = telling->moment;
    tell->child_due_ms = now_ms + ALARM_COMMAND_S * 1000;
    return true;
}

static void succeeded(struct tell *tell, struct telling *telling, struct store *store)
{
    telling->pending = telling->failing = false;
    telling->failures = 0;
    if (telling->moment == OVER)
        forget(tell, telling);
    else
        set_phase(tell, telling, store, "told", ALARM_REPEAT_S - 60);
}

static void failed(struct tell *tell, struct telling *telling, struct store *store,
                   int64_t now_ms)
{
    const struct alarm *alarm = &telling->alarm;
    telling->failing = true;
    if (telling->failures < 1000)
        telling->failures++;
    int seconds = tell_backoff_s(telling->failures);
    if (telling->moment == OVER && telling->failures >= TELL_OVER_TRIES) {
        log_warnx("alarm-command: failed %u times: not run again for the end of %s %s",
                  telling->failures, alarm_kind_name(alarm->kind), alarm->about);
        forget(tell, telling);
        return;
    }
    log_info("alarm-command: to be run again in %d s for %s %s", seconds,
             alarm_kind_name(alarm->kind), alarm->about);
    telling->due_ms = now_ms + (int64_t)seconds * 1000;
    if (telling->moment != OVER)
        set_phase(tell, telling, store, "failed", seconds);
}

/* The command has ended. */
static void settle(struct tell *tell, bool good, struct store *store, int64_t now_ms)
{
    struct telling *telling = find(tell, &tell->running);
    tell->child = 0;
    /* Something else is to be told of it by now: that comes next. */
    if (!telling || telling->moment != tell->running_moment || !telling->pending)
        return;
    if (good)
        succeeded(tell, telling, store);
    else
        failed(tell, telling, store, now_ms);
}

static void collect(struct tell *tell, struct store *store, int64_t now_ms)
{
    int status;
    pid_t got = waitpid(tell->child, &status, WNOHANG);
    if (got == 0 && now_ms >= tell->child_due_ms) {
        log_warnx("alarm-command: not done within %d s: killed", ALARM_COMMAND_S);
        kill(-tell->child, SIGKILL);
        tell->child_due_ms = now_ms + ALARM_COMMAND_S * 1000;
    }
    if (got == 0 || (got < 0 && errno == EINTR))
        return;
    bool good = got > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (got > 0 && WIFSIGNALED(status))
        log_warnx("alarm-command: ended by signal %d", WTERMSIG(status));
    else if (got > 0 && !good)
        log_warnx("alarm-command: exit code %d", WEXITSTATUS(status));
    settle(tell, good, store, now_ms);
}

static bool rate_allows(struct tell *tell, int64_t now_ms)
{
    if (now_ms - tell->hour_ms >= HOUR_MS) {
        tell->hour_ms = now_ms;
        tell->started = 0;
        tell->full = false;
    }
    if (tell->started < ALARM_COMMANDS_AN_HOUR)
        return true;
    if (!tell->full)
        log_warnx("alarm-command: %d times within an hour: the next alarms wait",
                  ALARM_COMMANDS_AN_HOUR);
    tell->full = true;
    return false;
}

static struct telling *next_due(struct tell *tell, int64_t now_ms)
{
    struct telling *first = NULL;
    for (size_t i = 0; i < tell->count; i++) {
        struct telling *telling = &tell->list[i];
        if (telling->pending && telling->due_ms <= now_ms &&
            (!first || telling->due_ms < first->due_ms))
            first = telling;
    }
    return first;
}

bool tell_tick(struct tell *tell, const struct conf *conf, struct store *store,
               int64_t now_ms)
{
    struct telling *telling;
    if (tell->child > 0)
        collect(tell, store, now_ms);
    if (!conf->alarm_command)
        tell->count = 0; /* taken out meanwhile */
    while (tell->child == 0 && (telling = next_due(tell, now_ms)) &&
           rate_allows(tell, now_ms)) {
        enum claim claimed =
            telling->moment == OVER ? CLAIM_OURS : claim(tell, telling, store, now_ms);
        if (claimed == CLAIM_LATER) {
            telling->due_ms = now_ms + POLL_MS;
        } else if (claimed == CLAIM_TOLD) {
            telling->pending = telling->failing = false;
        } else if (!start(tell, conf, telling, now_ms)) {
            failed(tell, telling, store, now_ms);
        }
    }
    return tell->child > 0;
}
