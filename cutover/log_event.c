/*
 * log_event: what a line says about one message (see log_event.h). Here are
 * Postfix's lines:
 *
 *     smtpd    client=name[address], sasl_method=PLAIN, sasl_username=joe
 *     pickup   uid=1000 from=<joe> orig_id=...
 *     cleanup  message-id=<...>     milter-hold: END-OF-MESSAGE from ...
 *     qmgr     from=<a@b>, size=1, nrcpt=1 (queue active)     removed
 *              from=<a@b>, status=expired, returned to sender
 *     smtp     to=<a@b>, orig_to=<c>, relay=name[address]:25, conn_use=2, delay=1,
 *              delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as ...)
 *     bounce   sender non-delivery notification: NEWID
 *     postsuper  placed on hold
 */
#include "log_event.h"

#include "log_field.h"

#define KEY_MAX    24
#define OTHERS_MAX 8 /* fields that are not looked at: conn_use, delays, ... */

static const char *const status_names[] = {
    [LOG_STATUS_OTHER] = "other",
    [LOG_STATUS_SENT] = "sent",
    [LOG_STATUS_DEFERRED] = "deferred",
    [LOG_STATUS_SOFTBOUNCE] = "softbounce",
    [LOG_STATUS_BOUNCED] = "bounced",
    [LOG_STATUS_EXPIRED] = "expired",
    [LOG_STATUS_UNDELIVERABLE] = "undeliverable",
    [LOG_STATUS_DELIVERABLE] = "deliverable",
};

const char *log_status_name(enum log_status status)
{
    return status_names[status];
}

bool log_event_is_forward(const struct log_line *line, const struct log_event *event)
{
    return event->kind == LOG_EVENT_DELIVERY &&
           log_slice_is(line->service, "sluice-forward");
}

/* ---- deliveries ------------------------------------------------------------ */

static enum log_status status_of(struct log_slice word)
{
    if (log_slice_is(word, "sent"))
        return LOG_STATUS_SENT;
    if (log_slice_is(word, "SOFTBOUNCE"))
        return LOG_STATUS_SOFTBOUNCE;
    for (enum log_status s = LOG_STATUS_DEFERRED; s <= LOG_STATUS_DELIVERABLE; s++)
        if (log_slice_is(word, status_names[s]))
            return s;
    return LOG_STATUS_OTHER;
}

static int badness(enum log_status status)
{
    switch (status) {
    case LOG_STATUS_SENT:
    case LOG_STATUS_DELIVERABLE:
        return 0;
    case LOG_STATUS_DEFERRED:
        return 1;
    case LOG_STATUS_SOFTBOUNCE:
        return 2;
    case LOG_STATUS_OTHER:
    case LOG_STATUS_EXPIRED:
    case LOG_STATUS_BOUNCED:
    case LOG_STATUS_UNDELIVERABLE:
        break;
    }
    return 3;
}

/* "0.12", "26": milliseconds. */
static int64_t delay_ms(struct log_slice text)
{
    struct log_cursor c = log_cursor_of(text);
    int64_t whole, fraction = 0;
    if (!log_take_number(&c, &whole))
        return -1;
    if (whole > INT64_C(10000000000))
        return -1;
    if (log_take(&c, "."))
        for (int unit = 100; c.p < c.end && *c.p >= '0' && *c.p <= '9'; c.p++, unit /= 10)
            fraction += unit * (*c.p - '0');
    return whole * 1000 + fraction;
}

/* What stands behind the recipient. */
struct tail {
    struct log_slice orig_to, relay, dsn, text;
    int64_t delay;
    enum log_status status;
};

static void put_tail(const struct tail *tail, struct log_event *out)
{
    out->orig_to = tail->orig_to;
    out->relay = tail->relay;
    out->dsn = tail->dsn;
    out->text = tail->text;
    out->delay = tail->delay;
    out->status = tail->status;
}

/* "WORD (TEXT)" to the end of the line. */
static bool take_status(struct log_cursor *c, struct tail *out)
{
    out->status = status_of(log_take_until(c, ' '));
    if (!log_take(c, " (") || c->p >= c->end || c->end[-1] != ')')
        return false;
    out->text = log_slice_of(c->p, c->end - 1);
    return true;
}

/* "key=", a short word. */
static bool take_key(struct log_cursor *c, struct log_slice *key)
{
    const char *begin = c->p;
    while (c->p < c->end && c->p - begin < KEY_MAX &&
           ((*c->p >= 'a' && *c->p <= 'z') || *c->p == '_'))
        c->p++;
    *key = log_slice_of(begin, c->p);
    return log_take(c, "=");
}

/* false: not a delivery, or cut. */
static bool take_tail(struct log_cursor c, struct tail *out)
{
    bool relay = false, delay = false;
    int others = 0;
    if (c.end - c.p < 9 || c.p[0] != ',' || (c.p[2] != 'r' && c.p[2] != 'o'))
        return false;
    out->orig_to = out->dsn = (struct log_slice){ "", 0 };
    if (log_take(&c, ", orig_to=<") && !log_take_address(&c, &out->orig_to))
        return false;
    while (log_take(&c, ", ")) {
        struct log_slice key;
        if (log_take(&c, "status="))
            return relay && delay && take_status(&c, out);
        if (!take_key(&c, &key))
            return false;
        struct log_slice value = log_take_until(&c, ',');
        if (log_slice_is(key, "relay")) {
            if (relay) /* so that a line of many ">, relay=" is not quadratic */
                return false;
            relay = true;
            out->relay = value;
        } else if (log_slice_is(key, "delay")) {
            delay = true;
            out->delay = delay_ms(value);
        } else if (log_slice_is(key, "dsn")) {
            out->dsn = value;
        } else if (++others > OTHERS_MAX) {
            return false;
        }
    }
    return false;
}

static void finish_delivery(struct log_event *out)
{
    log_split_peer(out->relay, &out->relay_name, &out->relay_address, &out->relay_port);
    if (out->status == LOG_STATUS_SENT) {
        static const char forwarded[] = "forwarded as ";
        struct log_cursor c = log_cursor_of(out->text);
        if (log_take(&c, forwarded))
            out->other_id = log_slice_of(c.p, c.end);
        else
            out->remote_id = log_remote_id(out->text);
    }
    out->kind = LOG_EVENT_DELIVERY;
}

/* Behind "to=<". The address ends at the first '>' that the rest fits to; when it
 * fits to a later one too, a client (in an unquoted address) or a server (in its
 * reply) wrote what looks like a log line: then the last one counts, as it is the
 * client who gains by the first, and the worse status. */
static void delivery(struct log_cursor c, struct log_event *out)
{
    const char *begin = c.p;
    enum log_status worst = LOG_STATUS_SENT;
    struct log_slice address;
    int fits = 0;
    if (!log_take_address(&c, &address))
        return;
    for (;;) {
        struct tail tail;
        if (take_tail(c, &tail)) {
            if (fits++ == 0 || badness(tail.status) > badness(worst))
                worst = tail.status;
            put_tail(&tail, out);
            out->to = log_slice_of(begin, c.p - 1);
            if (out->orig_to.len > 0) /* its '>' ends no other reading */
                c.p = out->orig_to.text + out->orig_to.len + 1;
        }
        const char *next = c.p < c.end ? memchr(c.p, '>', (size_t)(c.end - c.p)) : NULL;
        if (!next || fits > 1)
            break;
        c.p = next + 1;
    }
    if (!fits)
        return;
    out->doubtful = fits > 1;
    out->status = worst;
    finish_delivery(out);
}

/* ---- the others ------------------------------------------------------------ */

static void client(struct log_cursor c, struct log_event *out)
{
    uint16_t port;
    struct log_slice peer = log_take_until(&c, ',');
    log_split_peer(peer, &out->client_name, &out->client_address, &port);
    while (log_take(&c, ", ")) {
        bool user = log_take(&c, "sasl_username="), id = log_take(&c, "orig_queue_id=");
        struct log_slice value = log_take_until(&c, ',');
        if (user)
            out->user = value;
        else if (id)
            out->other_id = value;
    }
    out->kind = LOG_EVENT_CLIENT;
}

static void pickup(struct log_cursor c, struct log_event *out)
{
    if (!log_take(&c, "uid=") || !log_take_number(&c, &out->uid) ||
        !log_take(&c, " from=<") || !log_take_address(&c, &out->from))
        return;
    if (log_take(&c, " orig_id="))
        out->other_id = log_take_until(&c, ' ');
    out->kind = LOG_EVENT_PICKUP;
}

/* "hold: RCPT from ...: ...; from=<> to=<> proto=ESMTP helo=<x>". */
static void take_helo(struct log_event *out)
{
    static const char key[] = " helo=<";
    const size_t len = sizeof(key) - 1;
    const char *end = out->text.text + out->text.len;
    if (out->text.len < len + 1 || end[-1] != '>')
        return;
    for (const char *p = end - 1 - len; p >= out->text.text; p--)
        if (memcmp(p, key, len) == 0) {
            out->helo = log_slice_of(p + len, end - 1);
            return;
        }
}

/* An action on the whole message, by smtpd's access maps or cleanup's checks and
 * milters. "reject: RCPT" is one recipient. */
static void action(struct log_cursor c, struct log_event *out)
{
    bool milter = log_take(&c, "milter-");
    if (log_take(&c, "hold: "))
        out->kind = LOG_EVENT_HOLD;
    else if (log_take(&c, "discard: "))
        out->kind = LOG_EVENT_REFUSED;
    else if (!milter && log_take(&c, "redirect: "))
        out->kind = LOG_EVENT_REDIRECT;
    else if (log_take(&c, "reject: ")) {
        const char *p = c.p;
        if (!log_take(&c, "RCPT ") && !log_take(&c, "VRFY ") && !log_take(&c, "ETRN "))
            out->kind = LOG_EVENT_REFUSED;
        c.p = p;
    }
    if (out->kind == LOG_EVENT_NONE)
        return;
    out->text = log_slice_of(c.p, c.end);
    if (out->kind == LOG_EVENT_HOLD)
        take_helo(out);
}

static void smtpd(struct log_cursor c, struct log_event *out)
{
    if (log_take(&c, "client="))
        client(c, out);
    else
        action(c, out);
}

static void cleanup(struct log_cursor c, struct log_event *out)
{
    if (log_take(&c, "message-id=")) {
        out->message_id = log_slice_of(c.p, c.end);
        out->kind = LOG_EVENT_MESSAGE_ID;
    } else if (log_take(&c, "to=<")) {
        delivery(c, out);
    } else {
        action(c, out);
    }
}

static void qmgr(struct log_cursor c, struct log_event *out)
{
    if (log_take(&c, "removed")) {
        if (c.p == c.end)
            out->kind = LOG_EVENT_REMOVED;
        return;
    }
    if (log_take(&c, "to=<")) {
        delivery(c, out);
        return;
    }
    if (!log_take(&c, "from=<"))
        return;
    /* An unquoted sender may look like the rest: its end is the last that fits. */
    const char *begin = c.p;
    struct log_slice address;
    while (log_take_address(&c, &address)) {
        struct log_cursor tail = c;
        int64_t size, nrcpt;
        bool queued = log_take(&tail, ", size=") && log_take_number(&tail, &size) &&
                      log_take(&tail, ", nrcpt=") && log_take_number(&tail, &nrcpt) &&
                      log_take(&tail, " (queue ");
        tail.p = queued ? tail.p : c.p;
        if (queued) {
            out->size = size;
            out->nrcpt = nrcpt;
            out->kind = LOG_EVENT_QUEUED;
        } else if (log_take(&tail, ", status=expired, returned to sender") ||
                   log_take(&tail, ", status=force-expired, returned to sender")) {
            out->kind = LOG_EVENT_EXPIRED;
        } else {
            continue;
        }
        out->from = log_slice_of(begin, c.p - 1);
    }
}

static void bounce(struct log_cursor c, struct log_event *out)
{
    out->postmaster = log_take(&c, "postmaster ");
    if (!out->postmaster && !log_take(&c, "sender "))
        return;
    if (log_take(&c, "delay notification: "))
        out->notice = LOG_NOTICE_DELAY;
    else if (log_take(&c, "delivery status notification: "))
        out->notice = LOG_NOTICE_SUCCESS;
    else if (!log_take(&c, "non-delivery notification: "))
        return;
    out->other_id = log_slice_of(c.p, c.end);
    out->kind = LOG_EVENT_BOUNCE;
}

static void postsuper(struct log_slice rest, struct log_event *out)
{
    static const struct {
        const char *text;
        enum log_super super;
    } words[] = {
        { "placed on hold", LOG_SUPER_HOLD },
        { "released from hold", LOG_SUPER_RELEASED },
        { "requeued", LOG_SUPER_REQUEUED },
        { "removed", LOG_SUPER_REMOVED },
        { "expired", LOG_SUPER_EXPIRED },
        { "deleted", LOG_SUPER_REMOVED },
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (log_slice_is(rest, words[i].text)) {
            out->super = words[i].super;
            out->kind = LOG_EVENT_SUPER;
        }
}

/* ---- all ------------------------------------------------------------------- */

/* The kinds that a daemon's lines may be of. */
#define BIT(kind)     (1u << (kind))
#define SESSION_KINDS                                                                    \
    (BIT(LOG_EVENT_DISCONNECT) | BIT(LOG_EVENT_FENCE) | BIT(LOG_EVENT_LOGIN))
static const unsigned kinds[] = {
    [LOG_DAEMON_OTHER] = 0,
    [LOG_DAEMON_SMTPD] = BIT(LOG_EVENT_CLIENT) | BIT(LOG_EVENT_REFUSED) |
                         BIT(LOG_EVENT_HOLD) | BIT(LOG_EVENT_REDIRECT) |
                         BIT(LOG_EVENT_DISCONNECT),
    [LOG_DAEMON_PICKUP] = BIT(LOG_EVENT_PICKUP),
    [LOG_DAEMON_CLEANUP] = BIT(LOG_EVENT_MESSAGE_ID) | BIT(LOG_EVENT_REFUSED) |
                           BIT(LOG_EVENT_HOLD) | BIT(LOG_EVENT_REDIRECT) |
                           BIT(LOG_EVENT_DELIVERY),
    [LOG_DAEMON_QMGR] = BIT(LOG_EVENT_QUEUED) | BIT(LOG_EVENT_EXPIRED) |
                        BIT(LOG_EVENT_REMOVED) | BIT(LOG_EVENT_DELIVERY),
    [LOG_DAEMON_DELIVERY] = BIT(LOG_EVENT_DELIVERY),
    [LOG_DAEMON_BOUNCE] = BIT(LOG_EVENT_BOUNCE),
    [LOG_DAEMON_POSTSUPER] = BIT(LOG_EVENT_SUPER),
    [LOG_DAEMON_MILTER] = BIT(LOG_EVENT_VERDICT),
    [LOG_DAEMON_POLICYD] = BIT(LOG_EVENT_FENCE),
    [LOG_DAEMON_SENDMAIL] = LOG_EVENTS_ALL,
};

static void parse(const struct log_line *line, struct log_event *out)
{
    struct log_cursor c = log_cursor_of(line->rest);
    switch (line->daemon) {
    case LOG_DAEMON_SMTPD:
        smtpd(c, out);
        break;
    case LOG_DAEMON_PICKUP:
        pickup(c, out);
        break;
    case LOG_DAEMON_CLEANUP:
        cleanup(c, out);
        break;
    case LOG_DAEMON_QMGR:
        qmgr(c, out);
        break;
    case LOG_DAEMON_DELIVERY:
        if (log_take(&c, "to=<"))
            delivery(c, out);
        break;
    case LOG_DAEMON_BOUNCE:
        bounce(c, out);
        break;
    case LOG_DAEMON_POSTSUPER:
        postsuper(line->rest, out);
        break;
    case LOG_DAEMON_MILTER:
        log_event_verdict(line, out);
        break;
    case LOG_DAEMON_SENDMAIL:
        log_event_sendmail(line, out);
        break;
    case LOG_DAEMON_POLICYD:
    case LOG_DAEMON_OTHER:
        break;
    }
}

#define NONE                                                                             \
    {                                                                                    \
        "", 0                                                                            \
    }
static const struct log_event empty = {
    .size = -1,
    .uid = -1,
    .delay = -1,
    .taken = -1,
    .tried = -1,
    .from = NONE,
    .to = NONE,
    .orig_to = NONE,
    .client_name = NONE,
    .client_address = NONE,
    .user = NONE,
    .helo = NONE,
    .message_id = NONE,
    .relay = NONE,
    .relay_name = NONE,
    .relay_address = NONE,
    .dsn = NONE,
    .text = NONE,
    .remote_id = NONE,
    .other_id = NONE,
    .verdict = NONE,
    .home = NONE,
    .reason = NONE,
    .new_to = NONE,
    .copy_to = NONE,
    .spf = NONE,
    .dkim = NONE,
    .dmarc = NONE,
    .header_from = NONE,
};

bool log_event_possible(const struct log_line *line, unsigned wanted)
{
    const bool session = line->id.len == 0;
    return (kinds[line->daemon] & wanted & (session ? SESSION_KINDS : ~SESSION_KINDS)) &&
           (!session || log_event_is_session(line->rest));
}

enum log_event_kind log_event_parse(const struct log_line *line, unsigned wanted,
                                    struct log_event *out)
{
    out->kind = LOG_EVENT_NONE;
    if (!log_event_possible(line, wanted))
        return LOG_EVENT_NONE;
    log_copy(out, &empty, sizeof(empty));
    if (line->id.len == 0)
        log_event_session(line, out);
    else
        parse(line, out);
    if (!(BIT(out->kind) & wanted))
        out->kind = LOG_EVENT_NONE;
    return out->kind;
}
