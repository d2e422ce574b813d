/*
 * log: one line per message.
 *
 * To syslog with facility mail, or to standard error as
 *
 *     2026-01-01T12:00:00.123456Z sluice-milter[4711]: text
 *
 * in UTC and in one write(2), so that lines of several threads and programs on
 * one pipe stay whole. A line has at most LINE_MAX_LEN bytes; a longer text is
 * cut and ends in "...". Control characters become \xHH: whatever a caller
 * forgot to pass through log_value() cannot begin a line of its own.
 *
 * errno is the same after every call as before it. A log that cannot be
 * written is not reported anywhere: there is no other place to do so.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define LINE_MAX_LEN 2048
#define CUT_MARK     "..."
#define ESCAPE_LEN   4 /* \xHH */

static _Atomic(const char *) log_ident = "sluice";
static atomic_int log_where = LOG_TO_STDERR;
static atomic_bool log_is_verbose;

void log_open(const char *ident, enum log_target target)
{
    log_ident = ident;
    /* At once, while /dev/log is still in reach and a descriptor free. */
    if (target == LOG_TO_SYSLOG)
        openlog(ident, LOG_PID | LOG_NDELAY, LOG_MAIL);
    log_where = (int)target;
}

void log_verbose(bool on)
{
    log_is_verbose = on;
}

static size_t put_escaped(char *out, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";

    out[0] = '\\';
    out[1] = 'x';
    out[2] = digits[c >> 4];
    out[3] = digits[c & 15];
    return ESCAPE_LEN;
}

/* Copies text with the bytes that must_escape() names as \xHH; what does not
 * fit is cut between two characters and marked. size is at least 1. */
static void copy_escaped(char *out, size_t size, const char *text,
                         bool (*must_escape)(unsigned char))
{
    const size_t mark = sizeof(CUT_MARK) - 1;
    size_t used = 0;
    size_t cut = 0; /* how much may stay when the mark must follow */

    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        size_t need = must_escape(c) ? ESCAPE_LEN : 1;
        if (used + need >= size) {
            used = cut;
            for (size_t i = 0; i < mark && used + 1 < size; i++)
                out[used++] = CUT_MARK[i];
            break;
        }
        if (need == ESCAPE_LEN)
            used += put_escaped(out + used, c);
        else
            out[used++] = (char)c;
        if (used + mark < size)
            cut = used;
    }
    out[used] = '\0';
}

static bool is_control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

static bool is_special(unsigned char c)
{
    return c <= ' ' || c > 126 || strchr("\"\\<>[]", c) != NULL;
}

const char *log_value(const char *value, char *out, size_t size)
{
    if (size > 0)
        copy_escaped(out, size, value ? value : "", is_special);
    return out;
}

static void write_stderr(const char *text)
{
    char line[LINE_MAX_LEN + 1];
    struct timespec now;
    struct tm utc;

    clock_gettime(CLOCK_REALTIME, &now);
    if (!gmtime_r(&now.tv_sec, &utc))
        memset(&utc, 0, sizeof(utc));
    int head =
        snprintf(line, sizeof(line),
                 "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ %.64s[%ld]: ", utc.tm_year + 1900,
                 utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                 now.tv_nsec / 1000, log_ident, (long)getpid());
    if (head < 0 || (size_t)head >= sizeof(line) - 1)
        return;
    size_t used = (size_t)head;
    copy_escaped(line + used, sizeof(line) - used - 1, text, is_control);
    used += strlen(line + used);
    line[used++] = '\n';
    while (write(STDERR_FILENO, line, used) < 0 && errno == EINTR)
        continue;
}

static void write_syslog(int priority, const char *text)
{
    char line[LINE_MAX_LEN];

    copy_escaped(line, sizeof(line), text, is_control);
    syslog(LOG_MAIL | priority, "%s", line);
}

/* error: errno to append, or 0. */
__attribute__((format(printf, 4, 0))) static void
log_line(int priority, const char *prefix, int error, const char *fmt, va_list args)
{
    char text[LINE_MAX_LEN * 2];
    char reason[128];
    size_t used = strlen(prefix);

    memcpy(text, prefix, used);
    int n = vsnprintf(text + used, sizeof(text) - used, fmt, args);
    if (n < 0)
        return;
    used += (size_t)n;
    if (error && used < sizeof(text))
        (void)snprintf(text + used, sizeof(text) - used, ": %s",
                       strerror_r(error, reason, sizeof(reason)));
    if (log_where == LOG_TO_SYSLOG)
        write_syslog(priority, text);
    else
        write_stderr(text);
}

void log_info(const char *fmt, ...)
{
    int saved = errno;
    va_list args;

    va_start(args, fmt);
    log_line(LOG_INFO, "", 0, fmt, args);
    va_end(args);
    errno = saved;
}

void log_debug(const char *fmt, ...)
{
    int saved = errno;
    va_list args;

    if (!log_is_verbose)
        return;
    va_start(args, fmt);
    log_line(LOG_DEBUG, "", 0, fmt, args);
    va_end(args);
    errno = saved;
}

void log_warn(const char *fmt, ...)
{
    int saved = errno;
    va_list args;

    va_start(args, fmt);
    log_line(LOG_WARNING, "", saved, fmt, args);
    va_end(args);
    errno = saved;
}

void log_warnx(const char *fmt, ...)
{
    int saved = errno;
    va_list args;

    va_start(args, fmt);
    log_line(LOG_WARNING, "", 0, fmt, args);
    va_end(args);
    errno = saved;
}

void log_alarm(const char *fmt, ...)
{
    int saved = errno;
    va_list args;

    va_start(args, fmt);
    log_line(LOG_ALERT, "alarm: ", 0, fmt, args);
    va_end(args);
    errno = saved;
}
