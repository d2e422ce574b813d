/*
 * log_time: the time of a log line (see log_line.h).
 *
 * RFC 3339 stamps are arithmetic. A traditional one needs the time zone's rules:
 * mktime(3) once for each minute of the log, and the last minute's answer for its
 * other lines.
 */
#include "log_line.h"

#include <stdlib.h>
#include <time.h>

#include "log_bytes.h"
#include "log_time.h"

#define DAY_S     INT64_C(86400)
#define YEAR_MIN  1970
#define YEAR_MAX  2199
#define SECOND_US INT64_C(1000000)
#define NEAR_S    (150 * DAY_S) /* nearer than that no other year can be */

static int two(const char *p)
{
    int tens = p[0] == ' ' ? 0 : p[0] - '0', ones = p[1] - '0';
    return tens < 0 || tens > 9 || ones < 0 || ones > 9 ? -1 : tens * 10 + ones;
}

/* Days since 1970-01-01 of the Gregorian calendar; month from 1. */
static int64_t days_of(int64_t year, int month, int day)
{
    static const int before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
    int64_t y = year - (month <= 2); /* the leap day of this year is not yet over */
    return (year - 1970) * 365 + (y / 4 - y / 100 + y / 400) -
           (1969 / 4 - 1969 / 100 + 1969 / 400) + before[month - 1] + day - 1;
}

static int month_of(const char *p)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int i = 0; i < 12; i++)
        if (memcmp(p, names + 3 * i, 3) == 0)
            return i + 1;
    return 0;
}

static bool is_day(int64_t year, int month, int day)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month >= 1 && month <= 12 && day >= 1 &&
           day <= days[month - 1] + (month == 2 && leap);
}

/* ---- local time ------------------------------------------------------------ */

static int64_t apart(int64_t a, int64_t b)
{
    return a > b ? a - b : b - a;
}

static bool is_local(const struct log_local *at, int64_t unix_s)
{
    struct tm tm = { 0 };
    time_t t = (time_t)unix_s;
    return localtime_r(&t, &tm) && tm.tm_mon == at->month - 1 && tm.tm_mday == at->day &&
           tm.tm_hour == at->hour && tm.tm_min == at->minute;
}

bool log_local_in(const struct log_local *at, int year, int64_t near, int64_t *out)
{
    static const int64_t shifts[] = { -3600, 3600, -1800, 1800, -7200, 7200 };
    struct tm tm = { .tm_year = year - 1900,
                     .tm_mon = at->month - 1,
                     .tm_mday = at->day,
                     .tm_hour = at->hour,
                     .tm_min = at->minute,
                     .tm_isdst = -1 };
    if (!is_day(year, at->month, at->day))
        return false;
    int64_t t = (int64_t)mktime(&tm);
    *out = t;
    for (size_t i = 0; i < sizeof(shifts) / sizeof(shifts[0]); i++)
        if (apart(t + shifts[i], near) < apart(*out, near) && is_local(at, t + shifts[i]))
            *out = t + shifts[i];
    return true;
}

int log_local_year(int64_t unix_s)
{
    struct tm tm = { 0 };
    time_t t = (time_t)unix_s;
    return localtime_r(&t, &tm) ? tm.tm_year + 1900 : YEAR_MIN;
}

bool log_local_latest(const struct log_local *at, int64_t latest, int64_t *out)
{
    int year = log_local_year(latest + DAY_S);
    for (int back = 0; back <= 8; back++) /* eight years may lie between leap days */
        if (log_local_in(at, year - back, latest, out) && *out <= latest + DAY_S)
            return true;
    return false;
}

static bool nearest_year(const struct log_local *at, int64_t last, int64_t *out)
{
    int year = log_local_year(last);
    bool found = log_local_in(at, year, last, out);
    if (found && apart(*out, last) < NEAR_S)
        return true;
    for (int other = year - 1; other <= year + 1; other += 2) {
        int64_t t;
        if (log_local_in(at, other, last, &t) &&
            (!found || apart(t, last) < apart(*out, last))) {
            *out = t;
            found = true;
        }
    }
    return found;
}

/* Of another minute of the same hour: so near that no other reading of it is nearer;
 * mktime(3) takes its time. false: not that. */
static bool same_hour(const struct log_clock *clock, const char *stamp,
                      const struct log_local *at, int64_t *out)
{
    const size_t hour_len = 10; /* "Nov 22 09:" */
    if (clock->minute_len < hour_len || clock->last == LOG_NO_TIME ||
        memcmp(clock->minute, stamp, hour_len) != 0)
        return false;
    *out = clock->minute_start + 60 * (int64_t)(at->minute - two(clock->minute + 10));
    return apart(*out, clock->last / SECOND_US) < 600 && is_local(at, *out);
}

bool log_local_read(const char *stamp, struct log_local *out)
{
    *out = (struct log_local){ month_of(stamp), two(stamp + 4), two(stamp + 7),
                               two(stamp + 10) };
    return is_day(2000, out->month, out->day) && out->hour >= 0 && out->hour <= 23 &&
           out->minute >= 0 && out->minute <= 59;
}

/* Seconds since 1970 of "Nov 22 09:14:", from the clock or anew. */
static bool local_minute(struct log_clock *clock, const char *stamp, int64_t *out)
{
    enum { len = 13 };
    if (clock->minute_len == len && memcmp(clock->minute, stamp, len) == 0) {
        *out = clock->minute_start;
        return true;
    }
    struct log_local at;
    if (!log_local_read(stamp, &at))
        return false;
    if (same_hour(clock, stamp, &at, out))
        ; /* as nearly always */
    else if (clock->last == LOG_NO_TIME
                 ? !log_local_latest(&at, clock->latest, out)
                 : !nearest_year(&at, clock->last / SECOND_US, out))
        return false;
    memcpy(clock->minute, stamp, len);
    clock->minute_len = len;
    clock->minute_start = *out;
    return true;
}

static bool traditional_time(struct log_clock *clock, const char *stamp, int64_t *us)
{
    int64_t start;
    if (log_bytes_equal(clock->stamp, stamp, sizeof(clock->stamp))) {
        *us = clock->stamp_us;
        return true;
    }
    int second = two(stamp + 13);
    if (second < 0 || second > 60 || !local_minute(clock, stamp, &start))
        return false;
    *us = (start + second) * SECOND_US;
    memcpy(clock->stamp, stamp, sizeof(clock->stamp));
    clock->stamp_us = *us;
    return true;
}

/* ---- RFC 3339 -------------------------------------------------------------- */

/* "Z", "+01:00", "-0500"; a stamp without a zone is taken as UTC. */
static bool zone_offset(const char *p, const char *end, int64_t *seconds)
{
    size_t len = (size_t)(end - p);
    *seconds = 0;
    if (len == 0 || (len == 1 && (*p == 'Z' || *p == 'z')))
        return true;
    if ((len != 6 || p[3] != ':') && len != 5)
        return false;
    int hours = two(p + 1), minutes = two(end - 2);
    if ((*p != '+' && *p != '-') || hours < 0 || hours > 23 || minutes < 0 ||
        minutes > 59)
        return false;
    *seconds = hours * 3600 + minutes * 60;
    if (*p == '-')
        *seconds = -*seconds;
    return true;
}

static bool iso_time(struct log_slice stamp, int64_t *us)
{
    const char *p = stamp.text, *end = stamp.text + stamp.len;
    int century = two(p), years = two(p + 2), month = two(p + 5), day = two(p + 8);
    int hour = two(p + 11), minute = two(p + 14), second = two(p + 17);
    int64_t year = century * 100 + years, offset, fraction = 0;
    if (century < 0 || years < 0 || year < YEAR_MIN || year > YEAR_MAX ||
        !is_day(year, month, day) || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 60)
        return false;
    p += 19;
    if (p < end && *p == '.') {
        int64_t unit = SECOND_US / 10;
        for (p++; p < end && *p >= '0' && *p <= '9'; p++, unit /= 10)
            fraction += unit * (*p - '0');
    }
    if (!zone_offset(p, end, &offset))
        return false;
    *us = ((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60 * SECOND_US +
          (second - offset) * SECOND_US + fraction;
    return true;
}

/* ---- all ------------------------------------------------------------------- */

static bool journal_time(struct log_slice stamp, int64_t *us)
{
    const int64_t most = (days_of(YEAR_MAX + 1, 1, 1) * DAY_S) * SECOND_US;
    int64_t value = 0;
    if (stamp.len == 0 || stamp.len > 18)
        return false;
    for (size_t i = 0; i < stamp.len; i++) {
        if (stamp.text[i] < '0' || stamp.text[i] > '9')
            return false;
        value = value * 10 + (stamp.text[i] - '0');
    }
    *us = value;
    return value < most;
}

void log_clock_init(struct log_clock *clock, int64_t latest)
{
    clock->latest = latest;
    clock->last = LOG_NO_TIME;
    memset(clock->stamp, 0, sizeof(clock->stamp));
    clock->minute_len = 0;
    clock->minute_start = 0;
    clock->host_len = 0;
    clock->id_len = 0;
    for (size_t i = 0; i < LOG_PROGRAMS_KNOWN; i++)
        clock->programs[i].len = 0;
    clock->scratch[0] = '\0';
}

bool log_line_time(struct log_clock *clock, const struct log_line *line,
                   struct log_time *out)
{
    int64_t us = 0;
    bool valid = false;
    switch (line->stamp_kind) {
    case LOG_STAMP_TRADITIONAL:
        valid = line->stamp.len == 15 && traditional_time(clock, line->stamp.text, &us);
        break;
    case LOG_STAMP_ISO:
        valid = line->stamp.len >= 19 && iso_time(line->stamp, &us);
        break;
    case LOG_STAMP_JOURNAL:
        valid = journal_time(line->stamp, &us);
        break;
    }
    if (!valid)
        return false;
    clock->last = us;
    *out = (struct log_time){ us, line->stamp_kind == LOG_STAMP_TRADITIONAL };
    return true;
}
