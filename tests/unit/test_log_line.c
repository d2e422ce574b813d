/*
 * log_line: raw lines to their fields, written as "host|service|daemon|pid|id|rest", and
 * stamps to times. The lines are of the lab's Postfix 3.7.11, of rsyslog's two formats,
 * of journalctl -o json and of Sendmail 8.17.
 */
#include "unit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "../../cutover/log_bytes.h"
#include "../../cutover/log_line.h"

#define SECOND INT64_C(1000000)
#define NOV_22 INT64_C(1795338872) /* 2026-11-22 09:14:32 UTC */

static struct log_clock clock_state;

static void zone(const char *name)
{
    setenv("TZ", name, 1);
    tzset();
}

static void read_line(const char *text, size_t len, char *out, size_t size)
{
    struct log_line line;
    /* An exact copy, so that reading past it is seen. */
    char *copy = malloc(len ? len : 1);
    memcpy(copy, text, len);
    if (!log_line_parse(&clock_state, copy, len, &line))
        snprintf(out, size, "no");
    else
        snprintf(out, size, "%.*s|%.*s|%d|%u|%.*s|%.*s", (int)line.host.len,
                 line.host.text, (int)line.service.len, line.service.text, line.daemon,
                 (unsigned)line.pid, (int)line.id.len, line.id.text, (int)line.rest.len,
                 line.rest.text);
    free(copy);
}

static void test_fields(void)
{
    static const struct {
        const char *line, *want;
    } cases[] = {
        { "Nov 22 09:30:57 old postfix-old/smtpd[9490]: 4jXP2T5gnwz1bwNG: "
          "client=unknown[192.0.2.25]",
          "old|postfix-old|1|9490|4jXP2T5gnwz1bwNG|client=unknown[192.0.2.25]" },
        { "Nov 22 09:31:35 old postfix-old/sluice-forward/smtp[10617]: 4jXP3C0bYRz1bwWH: "
          "to=<x>",
          "old|sluice-forward|5|10617|4jXP3C0bYRz1bwWH|to=<x>" },
        { "2026-11-22T09:30:57.804353Z sluice-milter[9219]: 4jXP2T5gnwz1bwNG: "
          "verdict=none",
          "||8|9219|4jXP2T5gnwz1bwNG|verdict=none" },
        { "2026-11-22T09:30:57.804353+01:00 mx1 postfix/qmgr[1]: 0A1B2C3D4E: removed",
          "mx1|postfix|4|1|0A1B2C3D4E|removed" },
        { "<22>Nov  2 09:30:57 mx1 postfix/cleanup[7]: 0A1B2C3D4E: message-id=<a@b>",
          "mx1|postfix|3|7|0A1B2C3D4E|message-id=<a@b>" },
        { "Nov 22 09:14:32 mx1 sm-mta[71]: 4AM9EWxY012345: from=<a@b>, size=1",
          "mx1||10|71|4AM9EWxY012345|from=<a@b>, size=1" },
        { "Nov 22 09:14:32 mx1 postfix/smtpd[9]: warning: ABCDEF: client=x[1.2.3.4]",
          "mx1|postfix|1|9||warning: ABCDEF: client=x[1.2.3.4]" },
        { "Nov 22 09:14:32 mx1 postfix/smtpd[9]: NOQUEUE: reject: RCPT from x[1.2.3.4]",
          "mx1|postfix|1|9||NOQUEUE: reject: RCPT from x[1.2.3.4]" },
        { "Nov 22 09:14:32 mx1 postfix/postsuper[9]: Requeued: 1 message",
          "mx1|postfix|7|9||Requeued: 1 message" },
        { "Nov 22 09:14:32 mx1 kernel: eth0: link up", "mx1||0|0||eth0: link up" },
        { "Nov 22 09:14:32 mx1 last message repeated 3 times",
          "mx1||0|0||last message repeated 3 times" },
        { "Nov 22 09:14:32 mx1 postfix/smtpd[9]: 4jXP2T5gnwz1bwNG: client=a\r",
          "mx1|postfix|1|9|4jXP2T5gnwz1bwNG|client=a" },
        /* halves and wrecks */
        { "", "no" },
        { "Nov 22 09:14:3", "no" },
        { "Nov 22 09:14:32", "no" },
        { "client=unknown[192.0.2.25]", "no" },
        { "<22", "no" },
        { "<22>", "no" },
        { "2026-11-22T09:30", "no" },
        { "Nov 22 09:14:32 ", "||0|0||" },
        { "Nov 22 09:14:32 mx1", "||0|0||mx1" },
        { "Nov 22 09:14:32 mx1 postfix/smtpd[9]: 4jXP2T5gnwz1bwNG:",
          "mx1|postfix|1|9||4jXP2T5gnwz1bwNG:" },
        { "Nov 22 09:14:32 mx1 postfix/smtpd[: x", "mx1|postfix|0|0||x" },
        { "Nov 22 09:14:32 mx1 /[1]: x", "mx1||0|1||x" },
        { "Nov 22 09:14:32 mx1 : x", "mx1||0|0||: x" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char got[1024];
        read_line(cases[i].line, strlen(cases[i].line), got, sizeof(got));
        CHECK_STR(cases[i].line, got, cases[i].want);
    }
}

static void test_journal(void)
{
    static const struct {
        const char *line, *want;
    } cases[] = {
        { "{\"__REALTIME_TIMESTAMP\":\"1795338872000001\",\"_HOSTNAME\":\"mx1\","
          "\"SYSLOG_IDENTIFIER\":\"postfix/smtpd\",\"SYSLOG_PID\":\"12\",\"_PID\":\"99\","
          "\"MESSAGE\":\"4jXP2T5gnwz1bwNG: client=a[1.2.3.4]\"}",
          "mx1|postfix|1|12|4jXP2T5gnwz1bwNG|client=a[1.2.3.4]" },
        { "{ \"MESSAGE\" : \"4jXP2T5gnwz1bwNG: to=<\\\"a b\\\"@x> "
          "\\u00e9\\ud83d\\ude00\\n\" , "
          "\"__REALTIME_TIMESTAMP\" : \"1\" , \"SYSLOG_IDENTIFIER\" : \"postfix/smtp\" }",
          "|postfix|5|0|4jXP2T5gnwz1bwNG|to=<\"a b\"@x> \xc3\xa9\xf0\x9f\x98\x80\n" },
        { "{\"MESSAGE\":[65,66,67,68,69,70,58,32,255,0],\"__REALTIME_TIMESTAMP\":\"1\","
          "\"SYSLOG_IDENTIFIER\":\"qmgr\"}",
          "||4|0|ABCDEF|\xff" },
        { "{\"MESSAGE\":[\"ABCDEF: one\",\"two\"],\"__REALTIME_TIMESTAMP\":\"1\","
          "\"SYSLOG_IDENTIFIER\":\"qmgr\",\"A\":[[1,2],\"x\",null],\"B\":1.5e3}",
          "||4|0|ABCDEF|one" },
        { "{\"MESSAGE\":null,\"__REALTIME_TIMESTAMP\":\"1\"}", "no" },
        { "{\"MESSAGE\":\"x\"}", "no" },
        { "{\"MESSAGE\":\"x\",\"__REALTIME_TIMESTAMP\":\"1\"", "no" },
        { "{\"MESSAGE\":\"x\\q\",\"__REALTIME_TIMESTAMP\":\"1\"}", "no" },
        { "{\"MESSAGE\":\"x\\u12\",\"__REALTIME_TIMESTAMP\":\"1\"}", "no" },
        { "{\"MESSAGE\":[300],\"__REALTIME_TIMESTAMP\":\"1\"}", "no" },
        { "{\"MESSAGE\":[[[[[[\"x\"]]]]]],\"__REALTIME_TIMESTAMP\":\"1\"}", "no" },
        { "{\"MESSAGE\":\"x\",\"__REALTIME_TIMESTAMP\":\"1\"}{", "no" },
        { "{", "no" },
        { "{}", "no" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char got[1024];
        read_line(cases[i].line, strlen(cases[i].line), got, sizeof(got));
        CHECK_STR(cases[i].line, got, cases[i].want);
    }
}

static int64_t time_of(const char *stamp)
{
    char text[100];
    struct log_line line;
    struct log_time time;
    snprintf(text, sizeof(text), "%s mx1 postfix/qmgr[1]: ABCDEF: removed", stamp);
    if (!log_line_parse(&clock_state, text, strlen(text), &line) ||
        !log_line_time(&clock_state, &line, &time))
        return -1;
    return time.us;
}

static void test_times(void)
{
    static const struct {
        const char *stamp;
        int64_t want;
    } cases[] = {
        { "Nov 22 09:14:32", NOV_22 * SECOND },
        { "2026-11-22T09:14:32Z", NOV_22 * SECOND },
        { "2026-11-22T09:14:32.5Z", NOV_22 * SECOND + 500000 },
        { "2026-11-22T10:14:32.123456+01:00", NOV_22 * SECOND + 123456 },
        { "2026-11-22T10:14:32.123456789+0100", NOV_22 * SECOND + 123456 },
        { "2026-11-22T04:44:32-04:30", NOV_22 * SECOND },
        { "1970-01-01T00:00:00Z", 0 },
        { "2000-03-01T00:00:00Z", INT64_C(951868800) * SECOND },
        { "2024-02-29T23:59:60Z", INT64_C(1709251200) * SECOND },
        { "2100-03-01T00:00:00Z", INT64_C(4107542400) * SECOND },
        { "2026-02-29T00:00:00Z", -1 },
        { "2026-13-01T00:00:00Z", -1 },
        { "2026-11-22T24:00:00Z", -1 },
        { "2026-11-22T09:14:61Z", -1 },
        { "2026-11-22T09:14:32+1", -1 },
        { "2026-11-22T09:14:32+99:00", -1 },
        { "Nov 31 09:14:32", -1 },
        { "Xxx 22 09:14:32", -1 },
        { "Nov 22 09:60:32", -1 },
        { "Nov 22 09:14:xx", -1 },
    };
    zone("UTC");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        log_clock_init(&clock_state, NOV_22 + 3600);
        CHECK_INT(cases[i].stamp, time_of(cases[i].stamp), cases[i].want);
    }
}

static int64_t utc(int year, int month, int day, int hour, int minute)
{
    struct tm tm = { .tm_year = year - 1900,
                     .tm_mon = month - 1,
                     .tm_mday = day,
                     .tm_hour = hour,
                     .tm_min = minute };
    return (int64_t)timegm(&tm);
}

/* Stamps in the order of a log, with the times that they must get. */
static void test_years(void)
{
    zone("UTC");
    log_clock_init(&clock_state, utc(2027, 1, 2, 0, 0));
    CHECK_INT("December is last year's", time_of("Dec 30 10:00:00"),
              utc(2026, 12, 30, 10, 0) * SECOND);
    CHECK_INT("New Year's Eve", time_of("Dec 31 23:59:00"),
              utc(2026, 12, 31, 23, 59) * SECOND);
    CHECK_INT("New Year", time_of("Jan  1 00:00:00"), utc(2027, 1, 1, 0, 0) * SECOND);
    CHECK_INT("the clock is set back", time_of("Dec 31 23:58:00"),
              utc(2026, 12, 31, 23, 58) * SECOND);
    CHECK_INT("and goes on", time_of("Jan  1 00:01:00"), utc(2027, 1, 1, 0, 1) * SECOND);
    CHECK_INT("months later", time_of("May  1 00:01:00"), utc(2027, 5, 1, 0, 1) * SECOND);

    log_clock_init(&clock_state, utc(2026, 6, 1, 0, 0));
    CHECK_INT("a leap day is the last one's", time_of("Feb 29 12:00:00"),
              utc(2024, 2, 29, 12, 0) * SECOND);
    log_clock_init(&clock_state, utc(2026, 11, 22, 9, 0));
    CHECK_INT("a clock that is fast", time_of("Nov 22 20:00:00"),
              utc(2026, 11, 22, 20, 0) * SECOND);
    log_clock_init(&clock_state, utc(2026, 11, 22, 9, 0));
    CHECK_INT("two days ahead is last year", time_of("Nov 24 20:00:00"),
              utc(2025, 11, 24, 20, 0) * SECOND);
}

static void test_summer_time(void)
{
    zone("Europe/Berlin");
    log_clock_init(&clock_state, utc(2026, 10, 26, 0, 0));
    CHECK_INT("summer", time_of("Oct 25 01:59:59"),
              (utc(2026, 10, 24, 23, 59) + 59) * SECOND);
    CHECK_INT("02:30 the first time", time_of("Oct 25 02:30:00"),
              utc(2026, 10, 25, 0, 30) * SECOND);
    CHECK_INT("02:59 the first time", time_of("Oct 25 02:59:00"),
              utc(2026, 10, 25, 0, 59) * SECOND);
    CHECK_INT("02:00 is the second one", time_of("Oct 25 02:00:30"),
              (utc(2026, 10, 25, 1, 0) + 30) * SECOND);
    CHECK_INT("02:30 the second time", time_of("Oct 25 02:30:00"),
              utc(2026, 10, 25, 1, 30) * SECOND);
    CHECK_INT("winter", time_of("Oct 25 03:00:00"), utc(2026, 10, 25, 2, 0) * SECOND);
    log_clock_init(&clock_state, utc(2026, 3, 30, 0, 0));
    CHECK_INT("before spring's step", time_of("Mar 29 01:59:00"),
              utc(2026, 3, 29, 0, 59) * SECOND);
    CHECK_INT("behind it", time_of("Mar 29 03:00:00"), utc(2026, 3, 29, 1, 0) * SECOND);
    zone("UTC");
}

/* The clock remembers host and programs of the lines before: nothing else changes. */
static void test_remembered(void)
{
    static const char *const before[] = {
        "Nov 22 09:30:57 mx1 postfix/smtpd[1]: x",
        "Nov 22 09:30:57 mx1 postfix/sluice-forward/smtp[1]: x",
        "Nov 22 09:30:57 mx1 a/very/long/program/name/of/all[1]: x",
        "Nov 22 09:30:57 mx1 postfix[smtpd[1]: x",
        "Nov 22 09:30:57 postfix/smtpd[1]: x",
        "Nov 22 09:30:57 mx1 postfix/smtpd[1]: 4jXP2T5gnwz1bwNG: client=x",
    };
    static const char *const lines[] = {
        "Nov 22 09:30:57 mx1 postfix/smtpd[9490]: 4jXP2T5gnwz1bwNG: client=x",
        "Nov 22 09:30:57 mx1 postfix/smtpd[]: 4jXP2T5gnwz1bwNG: client=x",
        "Nov 22 09:30:57 mx1 postfix/smtpd[9490]:",
        "Nov 22 09:30:57 mx1 postfix/smtpd[9490]:x y",
        "Nov 22 09:30:57 mx1 postfix/smtpd[9490] x",
        "Nov 22 09:30:57 mx1 postfix/smtpd[1]: 4jXP2T5gnwz1bwNG",
        "Nov 22 09:30:57 mx1 postfix/smtpd[1]: 4jXP2T5gnwz1bwNG:",
        "Nov 22 09:30:57 mx1 postfix/smtpd[1]: 4jXP2T5gnwz1bwN: x",
        "Nov 22 09:30:57 mx1 postfix/smtpd[1]: 4jXP2T5gnwz1bwNG8: x",
        "Nov 22 09:30:57 mx1 postfix/smtpd[1]: statusinformatio: x",
        "Nov 22 09:30:57 mx1 postfix/smtpd[1]: 4jXP2T5gn z1bwNG: x",
        "Nov 22 09:30:57 mx1 postfix/smtpd[12345678]: x",
        "Nov 22 09:30:57 mx1 postfix/smtpd[1234567]: x",
        "Nov 22 09:30:57 mx1 postfix/smtpd[1234 67]: x",
        "Nov 22 09:30:57 mx1 postfix/smtpd[99999999990]: x",
        "Nov 22 09:30:57 mx1 postfix/smtpd: x",
        "Nov 22 09:30:57 mx1 postfix/smtpd",
        "Nov 22 09:30:57 mx1",
        "Nov 22 09:30:57 mx12 postfix/smtpd[7]: x",
        "Nov 22 09:30:57 mx1 postfix[smtpd[7]: x",
        "Nov 22 09:30:57 postfix/smtpd[7]: 4jXP2T5gnwz1bwNG: removed",
        "Nov 22 09:30:57 mx1 a/very/long/program/name/of/all[12]: x",
        "Nov 22 09:30:57 mx1 postfix/sluice-forward/smtp[7]: 0A1B2C3D4E: to=<x>",
        "Nov 22 09:30:57 mx1 postfix/sluice-backward/smtp[7]: 0A1B2C3D4E: to=<x>",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char want[512], got[512];
        log_clock_init(&clock_state, NOV_22);
        read_line(lines[i], strlen(lines[i]), want, sizeof(want));
        for (size_t n = 0; n < sizeof(before) / sizeof(before[0]); n++) {
            log_clock_init(&clock_state, NOV_22);
            read_line(before[n], strlen(before[n]), got, sizeof(got));
            read_line(lines[i], strlen(lines[i]), got, sizeof(got));
            CHECK_STR(lines[i], got, want);
        }
    }
}

/* The same by one byte after the other. */
static void test_bytes(void)
{
    char text[32];
    long long wrong = 0;
    for (uint32_t n = 0; n < 100000000; n += n < 20000 ? 1 : 997) {
        uint32_t got = 0;
        size_t digits = (size_t)snprintf(text, sizeof(text), "%u]9999999", n);
        digits -= 8;
        wrong += log_bytes_number(text, &got) != digits || got != n;
    }
    for (unsigned c = 0; c < 256; c++) /* around what counts as a digit */
        for (size_t at = 0; at < 8; at++) {
            uint32_t got = 0;
            bool digit = c >= '0' && c <= '9';
            memset(text, '1', 16);
            text[at] = (char)c;
            wrong += log_bytes_number(text, &got) != (digit ? 8 : at);
            memset(text, (int)(c ^ 1), 16);
            wrong += log_bytes_find(text, (char)c) != 8;
            text[at] = (char)c;
            wrong += log_bytes_find(text, (char)c) != at;
        }
    for (size_t len = 0; len < 30; len++)
        for (size_t at = 0; at < 30; at++) {
            char other[32];
            memset(text, 'a', sizeof(text));
            memset(other, 'a', sizeof(other));
            other[at] = 'b';
            wrong += log_bytes_equal(text, other, len) != (at >= len);
        }
    CHECK_INT("wrong answers", wrong, 0);
}

/* Minutes of one hour are added up: not over a step of the zone, or of the clock. */
static void test_minutes(void)
{
    zone("Australia/Lord_Howe"); /* half an hour, at 02:00 */
    log_clock_init(&clock_state, utc(2026, 4, 6, 0, 0));
    CHECK_INT("before", time_of("Apr  5 01:25:00"), utc(2026, 4, 4, 14, 25) * SECOND);
    CHECK_INT("01:55", time_of("Apr  5 01:55:00"), utc(2026, 4, 4, 14, 55) * SECOND);
    CHECK_INT("01:31 again", time_of("Apr  5 01:31:00"), utc(2026, 4, 4, 15, 1) * SECOND);
    CHECK_INT("01:40 again", time_of("Apr  5 01:40:00"),
              utc(2026, 4, 4, 15, 10) * SECOND);
    zone("UTC");
}

UNIT_MAIN("log_line", { "fields", test_fields }, { "remembered", test_remembered },
          { "bytes", test_bytes }, { "minutes", test_minutes },
          { "journal", test_journal }, { "times", test_times }, { "years", test_years },
          { "summer time", test_summer_time })
