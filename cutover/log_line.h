/*
 * log_line: one raw line of a mail log.
 *
 *     Nov 22 09:14:32 mx1 postfix/smtpd[471]: 4XyZ1: client=...    syslog, maillog_file
 *     <22>Nov 22 09:14:32 mx1 ...                                  the same with PRI
 *     2026-11-22T09:14:32.123456+01:00 mx1 postfix/smtpd[471]: ... rsyslog
 *     2026-11-22T09:14:32.123456Z sluice-milter[471]: ...          our log = stderr
 *     {"__REALTIME_TIMESTAMP":"...","MESSAGE":"...", ...}          journalctl -o json
 *
 * log_line_parse() finds the fields as slices of the line (of the clock's scratch
 * space for journald, where text must be unescaped): they are good until either
 * changes. log_line_time() is a call of its own, since most lines' time is never
 * asked for; it is to be called in the order of the lines.
 *
 * A stamp without year and zone is local time (TZ), and takes the year that
 * brings it nearest to the line before: over New Year, and over a clock that is
 * set back. The first one takes the latest year that is not after `latest`, unless
 * the reader has found out (log_year.h) and set `last`. In the hour that comes twice
 * in autumn it is the one nearest to the line before.
 *
 * Pure but for TZ; allocates nothing; any bytes are taken. A line is one line: no
 * line end in it. What a client wrote stands in `rest` alone (the MTA puts it
 * there, with control characters replaced), so it cannot forge another field.
 */
#ifndef SLUICE_LOG_LINE_H
#define SLUICE_LOG_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Longer lines are cut there by the reader (Postfix: 2,048; syslogd: 8,192). */
#define LOG_LINE_MAX 16384

struct log_slice {
    const char *text; /* not terminated; never NULL, "" when len is 0 */
    size_t len;
};

static inline bool log_slice_is(struct log_slice slice, const char *word)
{
    size_t len = strlen(word);
    return slice.len == len && memcmp(slice.text, word, len) == 0;
}

static inline bool log_slice_equal(struct log_slice a, struct log_slice b)
{
    return a.len == b.len && memcmp(a.text, b.text, a.len) == 0;
}

/* What wrote the line, by the last part of the program's name: any instance and
 * any service of Postfix. */
enum log_daemon {
    LOG_DAEMON_OTHER,
    LOG_DAEMON_SMTPD,
    LOG_DAEMON_PICKUP,
    LOG_DAEMON_CLEANUP,
    LOG_DAEMON_QMGR,     /* nqmgr and oqmgr too */
    LOG_DAEMON_DELIVERY, /* smtp, lmtp, local, virtual, pipe, error, retry, discard */
    LOG_DAEMON_BOUNCE,
    LOG_DAEMON_POSTSUPER,
    LOG_DAEMON_MILTER,   /* sluice-milter */
    LOG_DAEMON_POLICYD,  /* sluice-policyd */
    LOG_DAEMON_SENDMAIL, /* sendmail, sm-mta, sm-msp-queue, sm-que */
};

enum log_stamp {
    LOG_STAMP_TRADITIONAL, /* whole seconds, no year, no zone */
    LOG_STAMP_ISO,
    LOG_STAMP_JOURNAL, /* microseconds since 1970 */
};

struct log_line {
    struct log_slice host;    /* "": the line names none */
    struct log_slice program; /* "postfix/sluice-forward/smtp" */
    struct log_slice service; /* its part before the last '/' and after the one
                                 before: "sluice-forward"; of "postfix/smtp" the
                                 instance "postfix"; of "sm-mta" "" */
    enum log_daemon daemon;
    uint32_t pid;           /* 0: none */
    struct log_slice id;    /* queue id, "": none (NOQUEUE too) */
    struct log_slice rest;  /* behind "ID: ", or the whole text */
    struct log_slice stamp; /* as written */
    enum log_stamp stamp_kind;
};

/* A program's name as it was taken apart before: a log has few. */
struct log_known_program {
    uint64_t first, last; /* eight bytes of it each */
    char text[24];
    uint8_t len; /* 0: none */
    uint8_t service_at, service_len;
    uint8_t daemon;
};
#define LOG_PROGRAMS_KNOWN 64 /* places, by hash */

/* Of one source (a log with its rotated files). */
struct log_clock {
    int64_t latest; /* unix seconds: no line is younger, by a day at most */
    int64_t last;   /* unix microseconds of the line before; LOG_NO_TIME */
    char stamp[15]; /* the last one without year; "": none */
    int64_t stamp_us;
    char minute[20]; /* what the rest is computed for: stamp without seconds */
    size_t minute_len;
    int64_t minute_start; /* unix seconds */
    char host[64];        /* of the line before, and a space */
    size_t host_len;      /* 0: it had none */
    size_t id_len;        /* of the last queue id */
    struct log_known_program programs[LOG_PROGRAMS_KNOWN];
    char scratch[LOG_LINE_MAX];
};
#define LOG_NO_TIME INT64_MIN

void log_clock_init(struct log_clock *clock, int64_t latest);

/* false: in no format that is known, half a line, a continued line. */
bool log_line_parse(struct log_clock *clock, const char *text, size_t len,
                    struct log_line *out);

struct log_time {
    int64_t us;        /* unix microseconds */
    bool year_guessed; /* the stamp has none */
};
/* false: not a time ("Feb 31", "25:00"); the clock is unchanged then. */
bool log_line_time(struct log_clock *clock, const struct log_line *line,
                   struct log_time *out);

#endif
