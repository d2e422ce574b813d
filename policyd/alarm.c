/*
 * alarm: see alarm.h.
 *
 * A condition becomes an alarm once it has lasted for its kind's time, so that what
 * mends itself pages nobody. At most STATUS_ALARMS_MAX are kept. Commands are
 * alarm_tell.h's.
 */
#include "config.h"

#include "alarm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alarm_tell.h"
#include "clock.h"
#include "log.h"

struct known {
    struct alarm alarm;
    int64_t first_ms; /* the condition began */
    int64_t said_ms;
    bool raised;
    bool seen; /* in this update */
};

struct alarms {
    struct known known[STATUS_ALARMS_MAX];
    size_t count;
    struct tell *tell;
};

struct alarms *alarms_new(void)
{
    struct alarms *alarms = calloc(1, sizeof(*alarms));
    if (alarms && !(alarms->tell = tell_new(clock_ms()))) {
        free(alarms);
        return NULL;
    }
    return alarms;
}

void alarms_free(struct alarms *alarms)
{
    if (!alarms)
        return;
    tell_free(alarms->tell);
    free(alarms);
}

void alarms_hand_back(struct alarms *alarms, struct store *store)
{
    tell_hand_back(alarms->tell, store);
}

bool alarms_tick(struct alarms *alarms, const struct conf *conf, struct store *store,
                 int64_t now_ms)
{
    return tell_tick(alarms->tell, conf, store, now_ms);
}

size_t alarms_untold(const struct alarms *alarms)
{
    return tell_failing(alarms->tell);
}

/* ---- the list ------------------------------------------------------------------ */

/* How long a condition must last. A history that is lost does not come back. */
static int64_t patience_ms(const struct alarm *alarm)
{
    if (alarm->kind == ALARM_REDIS_DOWN)
        return strstr(alarm->text, "history") ? 0 : 10000;
    return alarm->kind == ALARM_HOST_FAULT ? 60000 : 0;
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
    if (condition->kind != ALARM_REDIS_DOWN && condition->kind != ALARM_HOST_FAULT &&
        condition->kind != ALARM_LOG_FAILING)
        known->alarm.since = condition->since;
    memcpy(known->alarm.text, condition->text, sizeof(known->alarm.text));
    one_line(known->alarm.text);
    known->seen = true;
}

/* ---- an update --------------------------------------------------------------------- */

static void speak(struct alarms *alarms, const struct status *status, struct known *known,
                  struct store *store, int64_t now_ms)
{
    bool first = !known->raised;
    if (first && now_ms - known->first_ms < patience_ms(&known->alarm))
        return;
    if (!first && now_ms - known->said_ms < (int64_t)ALARM_REPEAT_S * 1000)
        return;
    known->raised = true;
    known->said_ms = now_ms;
    log_alarm("%s: %s", alarm_kind_name(known->alarm.kind), known->alarm.text);
    tell_order(alarms->tell, status->conf, &known->alarm, first ? RAISED : STILL, store,
               now_ms);
}

/* The condition is gone. */
static void end(struct alarms *alarms, const struct status *status, struct known *known,
                struct store *store, int64_t now_ms)
{
    if (!known->raised)
        return;
    log_info("alarm over: %s %s", alarm_kind_name(known->alarm.kind), known->alarm.about);
    tell_order(alarms->tell, status->conf, &known->alarm, OVER, store, now_ms);
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
    struct store *usable = status->up ? store : NULL;
    for (size_t i = 0; i < alarms->count; i++)
        alarms->known[i].seen = !status->up && needs_store(alarms->known[i].alarm.kind);
    for (size_t i = 0; i < n; i++)
        take(alarms, &conditions[i], now_ms);
    for (size_t i = 0; i < alarms->count; i++) {
        struct known *known = &alarms->known[i];
        if (!known->seen) {
            end(alarms, status, known, usable, now_ms);
            continue;
        }
        speak(alarms, status, known, usable, now_ms);
        tell_text(alarms->tell, &known->alarm);
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
