/*
 * log_event: lines that are not of one message, and have no queue id.
 *
 *     smtpd  disconnect from name[address] ehlo=1 mail=2 rcpt=2/3 data=1/2 commands=6/8
 *     sm-mta  AUTH=server, relay=name [address], authid=joe, mech=PLAIN, bits=0
 *     sluice-policyd  fence: confirmed up to change 14 on mx1.example.com
 *
 * Postfix counts "taken" or "taken/tried" of each command (src/smtpd/smtpd.c, 3.0 on);
 * a message is one DATA, or one or more BDAT.
 */
#include "log_field.h"

/* "1" or "1/2", added to both. */
static void add_counts(struct log_cursor *c, struct log_event *out)
{
    int64_t taken, tried;
    if (!log_take_number(c, &taken))
        return;
    tried = taken;
    if (log_take(c, "/") && !log_take_number(c, &tried))
        return;
    out->taken += taken;
    out->tried += tried;
}

static void disconnect(struct log_cursor c, struct log_event *out)
{
    if (!log_take(&c, "disconnect from "))
        return;
    log_take_until(&c, ']');
    out->kind = LOG_EVENT_DISCONNECT;
    out->taken = out->tried = -1;
    if (!log_take(&c, "] "))
        return;
    out->taken = out->tried = 0;
    /* Both words have a 'd', and few others have one. */
    for (const char *d; (d = memchr(c.p, 'd', (size_t)(c.end - c.p)));) {
        const char *word = d[-1] == 'b' ? d - 1 : d;
        c.p = word;
        if (word[-1] == ' ' && (log_take(&c, "data=") || log_take(&c, "bdat=")))
            add_counts(&c, out);
        else
            c.p = d + 1;
    }
}

static void fence(struct log_cursor c, struct log_event *out)
{
    if (!log_take(&c, "fence: confirmed up to change ") ||
        !log_take_number(&c, &out->number) || !log_take(&c, " on "))
        return;
    out->text = log_slice_of(c.p, c.end);
    out->kind = LOG_EVENT_FENCE;
}

/* The name has no comma that matters: mech= is the last one, relay= in front of it. */
static void login(struct log_cursor c, struct log_event *out)
{
    static const char id[] = ", authid=", mech[] = ", mech=";
    if (!log_take(&c, "AUTH=server, relay="))
        return;
    const char *p = memmem(c.p, (size_t)(c.end - c.p), id, sizeof(id) - 1);
    if (!p)
        return;
    p += sizeof(id) - 1;
    const char *end = memmem(p, (size_t)(c.end - p), mech, sizeof(mech) - 1);
    if (!end)
        return;
    out->user = log_slice_of(p, end);
    out->kind = LOG_EVENT_LOGIN;
}

void log_event_session(const struct log_line *line, struct log_event *out)
{
    struct log_cursor c = log_cursor_of(line->rest);
    if (line->daemon == LOG_DAEMON_SMTPD)
        disconnect(c, out);
    else if (line->daemon == LOG_DAEMON_SENDMAIL)
        login(c, out);
    else if (line->daemon == LOG_DAEMON_POLICYD)
        fence(c, out);
}
