/*
 * playbook_traffic: see playbook_traffic.h.
 */
#include "playbook_traffic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "table.h"

#define WEEK_S (7 * 24 * 3600)

/* ---- hours of the week --------------------------------------------------- */

static int hour_of_week(int64_t unix_s)
{
    time_t when = (time_t)unix_s;
    struct tm tm;
    if (!localtime_r(&when, &tm))
        return 0;
    return (tm.tm_wday + 6) % 7 * 24 + tm.tm_hour;
}

void traffic_add(struct traffic *traffic, int64_t unix_s)
{
    traffic->hours[hour_of_week(unix_s)]++;
    if (traffic->messages == 0 || unix_s < traffic->first)
        traffic->first = unix_s;
    if (traffic->messages == 0 || unix_s > traffic->last)
        traffic->last = unix_s;
    traffic->messages++;
}

/* Whether the log was being written in that hour of the week. */
static bool covered(const struct traffic *traffic, int hour)
{
    if (traffic->last - traffic->first >= WEEK_S)
        return true;
    int from = hour_of_week(traffic->first), to = hour_of_week(traffic->last);
    return from <= to ? hour >= from && hour <= to : hour >= from || hour <= to;
}

struct traffic_window traffic_quietest(const struct traffic *traffic, int hours)
{
    struct traffic_window best = { -1, 0 };
    if (traffic->messages == 0)
        return best;
    for (int begins = 0; begins < TRAFFIC_HOURS; begins++) {
        uint64_t sum = 0;
        bool whole = true;
        for (int i = 0; i < hours; i++) {
            int hour = (begins + i) % TRAFFIC_HOURS;
            sum += traffic->hours[hour];
            whole = whole && covered(traffic, hour);
        }
        if (whole && (best.begins < 0 || sum < best.messages))
            best = (struct traffic_window){ begins, sum };
    }
    return best;
}

const char *traffic_day(int day)
{
    static const char *const days[] = { "Monday", "Tuesday",  "Wednesday", "Thursday",
                                        "Friday", "Saturday", "Sunday" };
    return day >= 0 && day < 7 ? days[day] : "?";
}

const char *traffic_hour_text(int hour, char out[TRAFFIC_HOUR_TEXT])
{
    (void)snprintf(out, TRAFFIC_HOUR_TEXT, "%s %02d:00", traffic_day(hour / 24),
                   hour % 24);
    return out;
}

/* ---- the most frequent --------------------------------------------------- */

struct ranking {
    struct table *names; /* name -> uint64_t */
    size_t names_max;
    uint64_t missed;
};

struct ranking *ranking_new(size_t names_max)
{
    struct ranking *ranking = calloc(1, sizeof(*ranking));
    if (!ranking)
        return NULL;
    ranking->names_max = names_max;
    ranking->names = table_new();
    if (ranking->names)
        return ranking;
    free(ranking);
    return NULL;
}

void ranking_free(struct ranking *ranking)
{
    if (ranking)
        table_free(ranking->names);
    free(ranking);
}

static uint64_t count_of(const char *value)
{
    uint64_t count = 0;
    memcpy(&count, value, sizeof(count));
    return count;
}

bool ranking_add(struct ranking *ranking, const char *name, size_t len)
{
    char value[sizeof(uint64_t)];
    const char *before = table_get(ranking->names, name, len, NULL);
    uint64_t count = before ? count_of(before) + 1 : 1;
    if (!before && table_count(ranking->names) >= ranking->names_max) {
        ranking->missed++;
        return true;
    }
    memcpy(value, &count, sizeof(count));
    return table_put(ranking->names, name, len, value, sizeof(value));
}

uint64_t ranking_missed(const struct ranking *ranking)
{
    return ranking->missed;
}

size_t ranking_count(const struct ranking *ranking)
{
    return table_count(ranking->names);
}

static int most_first(const void *a, const void *b)
{
    const struct ranked *one = a, *other = b;
    if (one->count != other->count)
        return one->count < other->count ? 1 : -1;
    return strcmp(one->name, other->name);
}

struct ranked *ranking_list(const struct ranking *ranking)
{
    size_t n = 0, cursor = 0, len, value_len;
    const char *name, *value;
    struct ranked *list = calloc(table_count(ranking->names) + 1, sizeof(*list));
    if (!list)
        return NULL;
    while (table_next(ranking->names, &cursor, &name, &len, &value, &value_len))
        list[n++] = (struct ranked){ name, count_of(value) };
    qsort(list, n, sizeof(*list), most_first);
    return list;
}
