/*
 * log_event: Sendmail's lines (envelope.c logsender(), deliver.c logdelivery(),
 * savemail.c, milter.c).
 *
 *     ID: from=<a@b>, size=1, class=0, nrcpts=1, msgid=<x@b>, proto=ESMTP,
 *         daemon=MTA-v4, relay=host [192.0.2.1]
 *     ID: to=<a@b>,<c@b>, ctladdr=..., delay=00:00:01, xdelay=00:00:00, mailer=esmtp,
 *         pri=1, relay=mx.b. [192.0.2.9], dsn=2.0.0, stat=Sent (reply)
 *     ID: NEWID: DSN: User unknown
 *     ID: milter=sluice, quarantine=...    ID: Milter: data, reject=451 ...
 *
 * Of from= the sender and msgid are the client's text: relay= is the last one of the
 * line, size and nrcpts stand before msgid. Of to= all but the addresses, which are
 * quoted, and the reply, which is last, is Sendmail's own.
 */
#include "log_field.h"

#define DELAY_MAX 100000000 /* in any unit: nothing waits that long */

/* One address: "<...>" without its brackets, or up to ',' . */
static struct log_slice take_one(struct log_cursor *c)
{
    struct log_slice address;
    const char *begin = c->p;
    if (log_take(c, "<")) {
        if (log_take_address(c, &address))
            return address;
        c->p = begin;
    }
    return log_take_until(c, ',');
}

bool log_event_next_to(const struct log_event *event, size_t *at, struct log_slice *to)
{
    struct log_cursor c = log_cursor_of(event->to);
    if (*at > 0 && *at >= event->to.len)
        return false;
    if (event->to.len == 0) {
        *to = event->to;
        *at = 1;
        return true;
    }
    if (event->to.text[0] != '<') { /* all of it, unless it is a list of plain names */
        *to = event->to;
        *at = event->to.len;
        return true;
    }
    c.p += *at;
    *to = take_one(&c);
    log_take(&c, ",");
    *at = (size_t)(c.p - event->to.text);
    return true;
}

/* "host [192.0.2.1]", "host. [192.0.2.1] (may be forged)", "user@localhost". */
static void split_relay(struct log_slice relay, struct log_slice *name,
                        struct log_slice *address)
{
    uint16_t port;
    log_split_peer(relay, name, address, &port);
    while (name->len &&
           (name->text[name->len - 1] == ' ' || name->text[name->len - 1] == '.'))
        name->len--;
}

static const char *last_of(struct log_cursor c, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = c.end; (size_t)(p - c.p) >= len; p--)
        if (memcmp(p - len, word, len) == 0)
            return p;
    return NULL;
}

static void sender(struct log_cursor c, struct log_event *out)
{
    int64_t value;
    out->from = take_one(&c);
    while (log_take(&c, ", ")) {
        if (log_take(&c, "size=") && log_take_number(&c, &value)) {
            out->size = value;
        } else if (log_take(&c, "nrcpts=") && log_take_number(&c, &value)) {
            out->nrcpt = value;
        } else if (log_take(&c, "msgid=")) {
            out->message_id = log_take_until(&c, ',');
            break;
        } else {
            log_take_until(&c, ',');
        }
    }
    const char *relay = last_of(c, ", relay=");
    if (relay) {
        struct log_cursor r = { relay, c.end };
        split_relay(log_take_until(&r, ','), &out->client_name, &out->client_address);
    }
    out->kind = LOG_EVENT_QUEUED;
}

/* "00:01:02", "1+00:01:02"; -1: not a delay. */
static int64_t clock_ms(struct log_slice text)
{
    struct log_cursor c = log_cursor_of(text);
    int64_t value, seconds = 0;
    while (log_take_number(&c, &value)) {
        if (value > DELAY_MAX || seconds > DELAY_MAX)
            return -1;
        if (log_take(&c, "+")) { /* days */
            seconds = value * 24;
            continue;
        }
        seconds = seconds + value;
        if (!log_take(&c, ":"))
            break;
        seconds *= 60;
    }
    return seconds * 1000;
}

static enum log_status status_of(const struct log_event *event)
{
    struct log_cursor c = log_cursor_of(event->text);
    if (log_take(&c, "Sent"))
        return LOG_STATUS_SENT;
    if (log_take(&c, "queued"))
        return LOG_STATUS_OTHER;
    if (log_take(&c, "Deferred") || (event->dsn.len && event->dsn.text[0] == '4'))
        return LOG_STATUS_DEFERRED;
    return LOG_STATUS_BOUNCED;
}

static void delivery(struct log_cursor c, struct log_event *out)
{
    const char *begin = c.p;
    do
        take_one(&c);
    while (c.end - c.p > 1 && c.p[0] == ',' && c.p[1] != ' ' && c.p++);
    out->to = log_slice_of(begin, c.p);
    while (log_take(&c, ", ")) {
        if (log_take(&c, "stat=")) {
            out->text = log_slice_of(c.p, c.end);
            out->status = status_of(out);
            if (out->status == LOG_STATUS_SENT)
                out->remote_id = log_remote_id(out->text);
            out->kind = LOG_EVENT_DELIVERY;
            return;
        }
        bool relay = log_take(&c, "relay="), dsn = log_take(&c, "dsn=");
        bool delay = log_take(&c, "delay=");
        struct log_slice value = log_take_until(&c, ',');
        if (relay) {
            out->relay = value;
            split_relay(value, &out->relay_name, &out->relay_address);
        } else if (dsn) {
            out->dsn = value;
        } else if (delay) {
            out->delay = clock_ms(value);
        }
    }
}

static void notice(struct log_cursor c, struct log_event *out)
{
    const char *begin = c.p;
    while (c.p < c.end && ((*c.p >= '0' && *c.p <= '9') || (*c.p >= 'A' && *c.p <= 'Z') ||
                           (*c.p >= 'a' && *c.p <= 'z')))
        c.p++;
    struct log_slice id = log_slice_of(begin, c.p);
    if (id.len < 12 || !log_take(&c, ": "))
        return;
    if (log_take(&c, "sender notify: "))
        out->notice = LOG_NOTICE_DELAY;
    else if (log_take(&c, "postmaster notify: "))
        out->postmaster = true;
    else if (log_take(&c, "return receipt"))
        out->notice = LOG_NOTICE_SUCCESS;
    else if (!log_take(&c, "DSN: ") && !log_take(&c, "return to sender: "))
        return;
    out->other_id = id;
    out->kind = LOG_EVENT_BOUNCE;
}

static void milter(struct log_cursor c, struct log_event *out)
{
    log_take_until(&c, ',');
    if (!log_take(&c, ", "))
        return;
    out->text = log_slice_of(c.p, c.end);
    if (log_take(&c, "quarantine="))
        out->kind = LOG_EVENT_HOLD;
    else if (log_take(&c, "reject=") || log_take(&c, "discard"))
        out->kind = LOG_EVENT_REFUSED;
}

void log_event_sendmail(const struct log_line *line, struct log_event *out)
{
    struct log_cursor c = log_cursor_of(line->rest);
    if (log_take(&c, "from="))
        sender(c, out);
    else if (log_take(&c, "to="))
        delivery(c, out);
    else if (log_take(&c, "done; "))
        out->kind = LOG_EVENT_REMOVED;
    else if (log_take(&c, "Milter: data") || log_take(&c, "milter="))
        milter(c, out);
    else
        notice(c, out);
}
