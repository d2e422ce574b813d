/*
 * alarm: see alarm.h.
 *
 * A condition becomes an alarm once it has lasted for its kind's time, so that what
 * mends itself pages nobody. At most STATUS_ALARMS_MAX are kept; commands are
 * bounded by number, time and rate.
 */
#include "config.h"

#include "alarm.h"

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

#include "clock.h"
#include "log.h"

#define HOUR_MS      3600000
#define HAND_BACK_MS 2000

enum moment { RAISED, STILL, OVER };
static const char *const moment_names[] = { "raised", "still", "over" };

struct known {
    struct alarm alarm;
    int64_t first_ms; /* the condition began */
    int64_t said_ms;
    bool raised;
    bool ran;  /* this host ran the command for it: it has the lease */
    bool seen; /* in this update */
};

struct order {
    struct alarm alarm;
    enum moment moment;
};

struct alarms {
    struct known known[STATUS_ALARMS_MAX];
    size_t count;
    struct order queue[ALARM_QUEUE_MAX];
    size_t waiting;
    pid_t child; /* 0: none; also its process group */
    struct order running;
    int64_t child_due_ms;
    int64_t hour_ms; /* since when started counts */
    unsigned started;
    char holder[320];
};

struct alarms *alarms_new(void)
{
    struct alarms *alarms = calloc(1, sizeof(*alarms));
    if (alarms)
        alarms->hour_ms = clock_ms();
    return alarms;
}

void alarms_free(struct alarms *alarms)
{
    if (!alarms)
        return;
    if (alarms->child > 0) {
        kill(-alarms->child, SIGKILL);
        while (waitpid(alarms->child, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    free(alarms);
}

/* ---- the list ------------------------------------------------------------------ */

/* How long a condition must last. */
static int64_t patience_ms(enum alarm_kind kind)
{
    return kind == ALARM_HOST_FAULT ? 60000 : kind == ALARM_REDIS_DOWN ? 10000 : 0;
}

/* Whether it is told from the store alone. */
static bool needs_store(enum alarm_kind kind)
{
    return kind != ALARM_REDIS_DOWN && kind != ALARM_MILTER_SILENT;
}

static struct known *find(struct alarms *alarms, const struct alarm *alarm)
{
    for (size_t i = 0; i < alarms->count; i++)
        if (alarms->known[i].alarm.kind == alarm->kind &&
            strcmp(alarms->known[i].alarm.about, alarm->about) == 0)
            return &alarms->known[i];
    return NULL;
}

static void one_line(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
}

static void take(struct alarms *alarms, const struct alarm *condition, int64_t now_ms)
{
    struct known *known = find(alarms, condition);
    if (!known) {
        if (alarms->count == STATUS_ALARMS_MAX)
            return;
        known = &alarms->known[alarms->count++];
        *known = (struct known){ .first_ms = now_ms };
        known->alarm = *condition;
    }
    /* Of what does not tell when it began, the first look at it is the beginning. */
    if (condition->kind != ALARM_REDIS_DOWN && condition->kind != ALARM_HOST_FAULT)
        known->alarm.since = condition->since;
    memcpy(known->alarm.text, condition->text, sizeof(known->alarm.text));
    one_line(known->alarm.text);
    known->seen = true;
}

/* ---- commands -------------------------------------------------------------------- */

static bool lease_name(const struct alarm *alarm, char out[320])
{
    int n = snprintf(out, 320, "alarm:%s:%s", alarm_kind_name(alarm->kind), alarm->about);
    return n > 0 && n < 320;
}

/* Takes the lease, or asks for it. other: who has it, when it is refused. */
static bool take_lease(struct alarms *alarms, const struct status *status,
                       const struct alarm *alarm, struct store *store, char other[320])
{
    char name[320];
    other[0] = '\0';
    if (!store || !status->up || !lease_name(alarm, name))
        return true;
    if (!alarms->holder[0])
        snprintf(alarms->holder, sizeof(alarms->holder), "%.255s:%ld:%" PRId64,
                 status->conf->hostname, (long)getpid(), (int64_t)time(NULL));
    return store_lease_take(store, name, alarms->holder, ALARM_REPEAT_S - 60, other,
                            320) != COMMIT_REFUSED;
}

/* Whether a lease is that of this host's policyd, before it was restarted. */
static bool is_former(const struct status *status, const char *holder)
{
    size_t len = strlen(status->conf->hostname);
    return strncmp(holder, status->conf->hostname, len) == 0 && holder[len] == ':';
}

static void hand_back(struct alarms *alarms, struct store *store,
                      const struct order *order)
{
    char name[320];
    if (order->moment != OVER && lease_name(&order->alarm, name))
        store_lease_drop(store, name, alarms->holder);
}

void alarms_hand_back(struct alarms *alarms, struct store *store)
{
    int64_t until = clock_ms() + HAND_BACK_MS; /* Redis may hang */
    if (alarms->child > 0)
        hand_back(alarms, store, &alarms->running);
    for (size_t i = 0; i < alarms->waiting && clock_ms() < until; i++)
        hand_back(alarms, store, &alarms->queue[i]);
}

static void order(struct alarms *alarms, const struct status *status, struct known *known,
                  enum moment moment, struct store *store)
{
    char name[320], other[320];
    if (!status->conf->alarm_command || (moment == OVER && !known->ran))
        return;
    bool ours = take_lease(alarms, status, &known->alarm, store, other);
    if (moment == OVER) {
        if (store && status->up && lease_name(&known->alarm, name))
            store_lease_drop(store, name, ours ? alarms->holder : other);
    } else {
        known->ran = ours || is_former(status, other);
        if (!ours)
            return; /* somebody else ran it, or we did before a restart */
    }
    if (alarms->waiting == ALARM_QUEUE_MAX) {
        log_warnx("alarm-command: too many alarms at once: not run for %s %s",
                  alarm_kind_name(known->alarm.kind), known->alarm.about);
        return;
    }
    alarms->queue[alarms->waiting++] =
        (struct order){ .alarm = known->alarm, .moment = moment };
}

static bool rate_allows(struct alarms *alarms, int64_t now_ms)
{
    if (now_ms - alarms->hour_ms >= HOUR_MS) {
        alarms->hour_ms = now_ms;
        alarms->started = 0;
    }
    return alarms->started < ALARM_COMMANDS_AN_HOUR;
}

/* posix_spawn(3): the error; 0: runs. */
static int spawn(char *const argv[], char *const environment[], pid_t *child)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int error = posix_spawn_file_actions_init(&files);
    if (error)
        return error;
    error = posix_spawnattr_init(&attributes);
    if (error) {
        posix_spawn_file_actions_destroy(&files);
        return error;
    }
    if (!error)
        error = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&files, 0, 1);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&files, 0, 2);
    if (!error)
        error = posix_spawn_file_actions_addclosefrom_np(&files, 3);
    if (!error)
        error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP |
                                                          POSIX_SPAWN_SETSIGDEF |
                                                          POSIX_SPAWN_SETSIGMASK);
    if (!error)
        error = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!error)
        error = posix_spawnattr_setsigmask(&attributes, &none);
    if (!error)
        error = posix_spawn(child, argv[0], &files, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

static void start(struct alarms *alarms, const struct conf *conf,
                  const struct order *order, int64_t now_ms)
{
    char host[320], kind[64], about[320], state[64], text[STATUS_TEXT_MAX + 32];
    char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    char *environment[] = { path, host, kind, about, state, text, NULL };
    snprintf(host, sizeof(host), "SLUICE_HOST=%.255s", conf->hostname);
    snprintf(kind, sizeof(kind), "SLUICE_ALARM=%s", alarm_kind_name(order->alarm.kind));
    snprintf(about, sizeof(about), "SLUICE_ALARM_ABOUT=%s", order->alarm.about);
    snprintf(state, sizeof(state), "SLUICE_ALARM_STATE=%s", moment_names[order->moment]);
    snprintf(text, sizeof(text), "SLUICE_ALARM_TEXT=%s", order->alarm.text);
    pid_t child = 0;
    int error = spawn(conf->alarm_command, environment, &child);
    if (error) {
        log_warnx("alarm-command: cannot run %s: %s", conf->alarm_command[0],
                  strerror(error));
        return;
    }
    alarms->child = child;
    alarms->running = *order;
    alarms->child_due_ms = now_ms + ALARM_COMMAND_S * 1000;
    alarms->started++;
}

static void collect(struct alarms *alarms, int64_t now_ms)
{
    int status;
    pid_t got = waitpid(alarms->child, &status, WNOHANG);
    if (got == 0 && now_ms >= alarms->child_due_ms) {
        log_warnx("alarm-command: not done within %d s: killed", ALARM_COMMAND_S);
        kill(-alarms->child, SIGKILL);
        alarms->child_due_ms = now_ms + ALARM_COMMAND_S * 1000;
    }
    if (got == 0 || (got < 0 && errno == EINTR))
        return;
    alarms->child = 0;
    if (got < 0)
        return;
    if (WIFSIGNALED(status))
        log_warnx("alarm-command: ended by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        log_warnx("alarm-command: exit code %d", WEXITSTATUS(status));
}

bool alarms_tick(struct alarms *alarms, const struct conf *conf, int64_t now_ms)
{
    if (alarms->child > 0)
        collect(alarms, now_ms);
    while (alarms->child == 0 && alarms->waiting > 0) {
        struct order next = alarms->queue[0];
        memmove(alarms->queue, alarms->queue + 1,
                --alarms->waiting * sizeof(alarms->queue[0]));
        if (!conf->alarm_command)
            continue; /* taken out meanwhile */
        if (rate_allows(alarms, now_ms))
            start(alarms, conf, &next, now_ms);
        else
            log_warnx("alarm-command: %d times within an hour: not run for %s %s",
                      ALARM_COMMANDS_AN_HOUR, alarm_kind_name(next.alarm.kind),
                      next.alarm.about);
    }
    return alarms->child > 0;
}

/* ---- an update --------------------------------------------------------------------- */

static void speak(struct alarms *alarms, const struct status *status, struct known *known,
                  struct store *store, int64_t now_ms)
{
    bool first = !known->raised;
    if (first && now_ms - known->first_ms < patience_ms(known->alarm.kind))
        return;
    if (!first && now_ms - known->said_ms < (int64_t)ALARM_REPEAT_S * 1000)
        return;
    known->raised = true;
    known->said_ms = now_ms;
    log_alarm("%s: %s", alarm_kind_name(known->alarm.kind), known->alarm.text);
    order(alarms, status, known, first ? RAISED : STILL, store);
}

/* The condition is gone. */
static void end(struct alarms *alarms, const struct status *status, struct known *known,
                struct store *store)
{
    if (!known->raised)
        return;
    log_info("alarm over: %s %s", alarm_kind_name(known->alarm.kind), known->alarm.about);
    order(alarms, status, known, OVER, store);
}

static int by_age(const void *a, const void *b)
{
    const struct alarm *one = a, *other = b;
    if (one->since != other->since)
        return one->since < other->since ? -1 : 1;
    return strcmp(one->about, other->about);
}

size_t alarms_update(struct alarms *alarms, const struct status *status,
                     const struct alarm *conditions, size_t n, struct store *store,
                     int64_t now_ms, struct alarm *out)
{
    size_t kept = 0, shown = 0;
    for (size_t i = 0; i < alarms->count; i++)
        alarms->known[i].seen = !status->up && needs_store(alarms->known[i].alarm.kind);
    for (size_t i = 0; i < n; i++)
        take(alarms, &conditions[i], now_ms);
    for (size_t i = 0; i < alarms->count; i++) {
        struct known *known = &alarms->known[i];
        if (!known->seen) {
            end(alarms, status, known, store);
            continue;
        }
        speak(alarms, status, known, store, now_ms);
        if (known->raised)
            out[shown++] = known->alarm;
        if (kept != i)
            alarms->known[kept] = *known;
        kept++;
    }
    alarms->count = kept;
    if (shown > 0)
        qsort(out, shown, sizeof(*out), by_age);
    return shown;
}
