/*
 * ping_report: what a probe's result means, and how it is said. Pure.
 *
 * A line has what a person at night needs first: the fault, then the times. '|' would
 * begin performance data in the plugin's output and becomes '/'.
 */
#include "ping.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "output.h"

/* A line that grows. */
struct line {
    char *text;
    size_t size, used;
    bool full;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *fmt,
                                                      ...)
{
    va_list args;

    if (line->full)
        return;
    va_start(args, fmt);
    int len = vsnprintf(line->text + line->used, line->size - line->used, fmt, args);
    va_end(args);
    line->full = len < 0 || (size_t)len >= line->size - line->used;
    if (!line->full)
        line->used += (size_t)len;
    else if (line->size > 4) /* cut, and it shows */
        memcpy(line->text + line->size - 4, "...", 4);
}

static void comma(struct line *line)
{
    if (line->used > 0)
        add(line, ", ");
}

const char *ping_state_name(enum ping_state state)
{
    static const char *const names[] = { "OK", "WARNING", "CRITICAL", "UNKNOWN" };

    return names[state];
}

enum ping_state ping_worse(enum ping_state a, enum ping_state b)
{
    static const int weight[] = {
        [PING_OK] = 0, [PING_WARNING] = 1, [PING_UNKNOWN] = 2, [PING_CRITICAL] = 3
    };

    return weight[a] >= weight[b] ? a : b;
}

int64_t ping_arrived_ms(const struct conf_ping *ping, const struct ping_result *result)
{
    int64_t most = -1;

    for (size_t i = 0; i < ping->mailbox_count; i++) {
        if (result->arrivals[i].ms < 0)
            return -1;
        if (result->arrivals[i].ms > most)
            most = result->arrivals[i].ms;
    }
    return most;
}

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strcmp(host, "localhost") == 0;
}

static bool is_clear(const struct conf_access *access)
{
    return access->user && access->tls == CONF_TLS_NONE && !is_loopback(access->host);
}

/* Nothing was sent, or it was not taken. */
static enum ping_state judge_sending(const struct conf_ping *ping,
                                     const struct ping_result *result, struct line *line)
{
    bool failed = false;

    for (size_t i = 0; i < ping->mailbox_count; i++)
        if (result->arrivals[i].failed) {
            add(line, "%smailbox %s: %s", line->used ? "; " : "",
                ping->mailboxes[i]->name, result->arrivals[i].error);
            failed = true;
        }
    if (failed) {
        add(line, "; nothing was sent");
        return PING_CRITICAL;
    }
    if (!result->tried) {
        add(line, "%s; nothing was sent", result->error);
        return PING_UNKNOWN;
    }
    if (result->sent == MAIL_LATER)
        add(line, "not accepted in %u %s (greylisting?): ", result->attempts,
            result->attempts == 1 ? "attempt" : "attempts");
    add(line, "%s", result->error);
    return PING_CRITICAL;
}

static void add_times(const struct conf_ping *ping, const struct ping_result *result,
                      struct line *line)
{
    if (result->connected_ms >= 0) {
        comma(line);
        add(line, "connected %.3f s", (double)result->connected_ms / 1000);
    }
    if (result->accepted_ms >= 0) {
        comma(line);
        add(line, "accepted %.3f s", (double)result->accepted_ms / 1000);
    }
    for (size_t i = 0; i < ping->mailbox_count; i++)
        if (result->arrivals[i].ms >= 0) {
            comma(line);
            add(line, "in %s %.3f s", ping->mailboxes[i]->name,
                (double)result->arrivals[i].ms / 1000);
        }
}

/* What is wrong with the way into one mailbox. */
static enum ping_state judge_arrival(const struct conf_ping *ping, size_t which,
                                     const struct ping_result *result, struct line *line)
{
    const struct ping_arrival *arrival = &result->arrivals[which];
    const char *name = ping->mailboxes[which]->name;
    char limit[DURATION_TEXT_MAX];
    enum ping_state state = PING_OK;

    if (arrival->ms < 0) {
        comma(line);
        if (arrival->error[0] && result->waited_ms < 1000)
            add(line, "mailbox %s: %s", name, arrival->error);
        else
            add(line, "accepted, but not in %s within %s%s%s", name,
                duration_text((result->waited_ms + 500) / 1000, limit),
                arrival->error[0] ? "; " : "", arrival->error);
        return PING_CRITICAL;
    }
    if (arrival->ms > (int64_t)ping->warning * 1000) {
        comma(line);
        add(line, "%s took more than %s", name, duration_text(ping->warning, limit));
        state = PING_WARNING;
    }
    if (arrival->copies > 1) {
        comma(line);
        add(line, "came %u times into %s", arrival->copies, name);
        state = PING_WARNING;
    }
    if (arrival->late_copies > 0) {
        comma(line);
        add(line, "an earlier probe came once more into %s", name);
        state = PING_WARNING;
    }
    if (arrival->elsewhere) {
        comma(line);
        add(line, "lies in folder %s of %s", arrival->folder, name);
        state = PING_WARNING;
    }
    return state;
}

/* What is worth knowing, and no fault. */
static void add_notes(const struct conf_ping *ping, const struct ping_result *result,
                      struct line *line)
{
    if (result->attempts > 1 && result->sent == MAIL_DONE)
        add(line, "; accepted at attempt %u (greylisting?)", result->attempts);
    for (size_t i = 0; i < ping->mailbox_count; i++) {
        const struct ping_arrival *arrival = &result->arrivals[i];
        const char *name = ping->mailboxes[i]->name;
        if (arrival->late > 0)
            add(line, "; %u earlier %s came late into %s", arrival->late,
                arrival->late == 1 ? "probe" : "probes", name);
        if (arrival->removed > arrival->late + arrival->late_copies)
            add(line, "; %u left by earlier runs removed from %s",
                arrival->removed - arrival->late - arrival->late_copies, name);
        if (arrival->reconnects > 0)
            add(line, "; the connection to %s broke %u %s", name, arrival->reconnects,
                arrival->reconnects == 1 ? "time" : "times");
        if (is_clear(&ping->mailboxes[i]->imap))
            add(line, "; THE PASSWORD OF %s GOES OVER THE NET IN THE CLEAR (tls = none)",
                name);
    }
    if (is_clear(&ping->smtp))
        add(line, "; THE PASSWORD GOES OVER THE NET IN THE CLEAR (tls = none)");
}

enum ping_state ping_judge(const struct conf_ping *ping, const struct ping_result *result,
                           const char *why, char text[PING_TEXT])
{
    struct line line = { .text = text, .size = PING_TEXT };
    enum ping_state state = PING_OK;

    text[0] = '\0';
    if (result->interrupted && ping_arrived_ms(ping, result) < 0) {
        add(&line, "interrupted");
        state = PING_UNKNOWN;
    } else if (result->sent != MAIL_DONE) {
        state = judge_sending(ping, result, &line);
    } else {
        if (result->returned[0]) {
            add(&line, "accepted, and returned to the sender: %s", result->returned);
            state = PING_CRITICAL;
        }
        for (size_t i = 0; i < ping->mailbox_count; i++)
            if (!result->returned[0] || result->arrivals[i].ms >= 0)
                state = ping_worse(state, judge_arrival(ping, i, result, &line));
        if (why[0])
            add(&line, ": %s", why);
    }
    if (result->connected_ms >= 0) {
        char times[PING_TEXT] = "";
        struct line part = { .text = times, .size = sizeof(times) };
        add_times(ping, result, &part);
        add(&line, "%s%s", line.used > 0 ? "; " : "", times);
    }
    add_notes(ping, result, &line);
    for (char *c = text; *c; c++)
        if (*c == '|')
            *c = '/';
    return state;
}

/* 'label'=value, the value in seconds, or U ("unknown") without one. */
static void add_figure(struct line *line, const char *path, const char *leg, int64_t ms,
                       const char *limits)
{
    if (ms < 0)
        add(line, " '%s %s'=U%s", path, leg, limits);
    else
        add(line, " '%s %s'=%.3fs%s", path, leg, (double)ms / 1000, limits);
}

bool ping_perfdata(const struct conf_ping *ping, const struct ping_result *result,
                   char *out, size_t size)
{
    struct line line = { .text = out, .size = size, .used = strlen(out) };
    char limits[64];

    if (snprintf(limits, sizeof(limits), ";%d;%d;0", ping->warning, ping->critical) < 0)
        limits[0] = '\0';
    add_figure(&line, ping->name, "connected", result->connected_ms, "");
    add_figure(&line, ping->name, "accepted", result->accepted_ms, "");
    for (size_t i = 0; i < ping->mailbox_count; i++)
        add_figure(&line, ping->name, ping->mailboxes[i]->name, result->arrivals[i].ms,
                   limits);
    return !line.full;
}
