/*
 * log_event: Sendmail's lines, as 8.17 writes them (envelope.c logsender(), deliver.c
 * logdelivery(), alias.c, savemail.c, milter.c, ruleset actions).
 *
 *     ID: from=<a@b>, size=1, class=0, nrcpts=1, msgid=<x@b>, proto=ESMTP,
 *         daemon=MTA-v4, relay=host [192.0.2.1]
 *     ID: to=<a@b>,<c@b>, [more], ctladdr=<a@b> (0/0), delay=00:00:01, xdelay=00:00:00,
 *         mailer=esmtp, pri=1, relay=mx.b. [192.0.2.9], dsn=4.3.2, reply=450 ...,
 *         stat=Deferred: 450 ...
 *     ID: alias <list@b> => a, "|prog x"           (from LogLevel 11 on)
 *     ID: forward <d@b> => x@c                     ( " )
 *     ID: done; delay=00:00:00, ntries=1           (from 10 on)
 *     ID: NEWID: clone: owner=owner-list           NEWID has some of ID's recipients
 *     ID: NEWID: DSN: User unknown
 *     ID: milter=sluice, quarantine=...            ID: unquarantine
 *     ID: ruleset=check_mail, arg1=<a@b>, relay=host [192.0.2.1], quarantine=...
 *     ID: Milter: data, reject=451 ...
 *
 * Addresses are logged as the client wrote them, in <>, with comments and quoted
 * strings (both balanced, or Sendmail refuses them) and with a route ("@x:a@b"); those
 * of aliases as the file has them, without <>. A backslash is logged as two, a control
 * character as "\n" or "\001".
 *
 * Hostile text: the sender (cut at 200 bytes) and the Message-ID (cut at 100) are the
 * client's, reply= and stat= the other server's. So from= is read from both ends, the
 * recipients by RFC 5322's rules, and a status has to agree with dsn=, which stands
 * before them.
 */
#include "log_field.h"

#define DELAY_MAX   100000000 /* in any unit: nothing waits that long */
#define ADDRESS_MAX 1200      /* logged bytes: MAXNAME is 256, an escape has 4 */
#define SENDER_CUT  200

/* ---- addresses ------------------------------------------------------------- */

/* Behind one character of the client's; a quoted pair is two of them. */
static const char *skip_char(const char *p, const char *end)
{
    if (*p != '\\' || end - p < 2)
        return p + 1;
    if (p[1] != '\\')
        return p + 2;
    p += 2; /* one backslash: what it quotes */
    return p >= end ? end : *p == '\\' && end - p > 1 ? p + 2 : p + 1;
}

/* Where the address at p ends: at a comma outside of <>, "" and (). NULL: it is not
 * balanced, or too long. */
static const char *address_end(const char *p, const char *end)
{
    int comment = 0;
    bool quoted = false, angle = false;
    if (end - p > ADDRESS_MAX)
        end = p + ADDRESS_MAX;
    for (; p < end; p = skip_char(p, end)) {
        if (quoted) {
            quoted = *p != '"';
        } else if (comment) {
            comment += (*p == '(') - (*p == ')');
        } else if (*p == '"') {
            quoted = true;
        } else if (*p == '(') {
            comment++;
        } else if (*p == '<') {
            angle = true;
        } else if (*p == '>') {
            angle = false;
        } else if (*p == ',' && !angle) {
            return p;
        }
    }
    return quoted || comment || angle ? NULL : p;
}

/* Without <>, a route, and the backslash that keeps a name from being expanded. */
static struct log_slice bare(struct log_slice address)
{
    const char *p = address.text, *end = p + address.len;
    if (p < end && *p == '<') {
        p++;
        end -= end > p && end[-1] == '>';
    }
    while (p < end && *p == '\\')
        p++;
    if (p < end && *p == '@') {
        const char *colon = memchr(p, ':', (size_t)(end - p));
        p = colon ? colon + 1 : p;
    }
    return log_slice_of(p, end);
}

size_t log_event_plain(struct log_slice address, char *out, size_t size)
{
    const char *p = address.text, *end = p + address.len;
    size_t n = 0;
    int comment = 0;
    for (bool quoted = false; p < end;) {
        const char *next = skip_char(p, end);
        if (*p == '"' && !comment)
            quoted = !quoted;
        else if (*p == '(' && !quoted)
            comment++;
        if (!comment) {
            if (next - p > 1 && p[1] == '\\')
                p++; /* one backslash of two */
            if (n + (size_t)(next - p) > size)
                return 0;
            memcpy(out + n, p, (size_t)(next - p));
            n += (size_t)(next - p);
        } else if (*p == ')') {
            comment--;
        }
        p = next;
    }
    return n;
}

/* One address as it stands; one that was cut, with all up to the next field: so a line of
 * many that look cut is not quadratic. */
static struct log_slice take_one(struct log_cursor *c)
{
    const char *begin = c->p, *end = address_end(begin, c->end);
    if (!end)
        end = memmem(begin, (size_t)(c->end - begin), ", ", 2);
    c->p = end ? end : c->end;
    return log_slice_of(begin, c->p);
}

bool log_event_next_to(const struct log_event *event, size_t *at, struct log_slice *to)
{
    struct log_cursor c = log_cursor_of(event->to);
    if (*at > 0 && *at >= event->to.len)
        return false;
    if (!event->to_list || event->to.len == 0) {
        *to = event->to;
        *at = event->to.len ? event->to.len : 1;
        return true;
    }
    c.p += *at;
    while (c.p < c.end && (*c.p == ',' || *c.p == ' ')) /* of an alias: "a , b" */
        c.p++;
    if (c.p == c.end) {
        *at = event->to.len;
        return false;
    }
    struct log_slice one = take_one(&c);
    while (one.len > 0 && one.text[one.len - 1] == ' ')
        one.len--;
    *to = bare(one);
    *at = (size_t)(c.p - event->to.text);
    return true;
}

/* The last "[192.0.2.1]" or "[IPv6:2001:db8::1]" of "host. [...] (may be forged)", and
 * what stands before it; "user@localhost" has none. */
static void split_relay(struct log_slice relay, struct log_slice *name,
                        struct log_slice *address)
{
    static const char v6[] = "IPv6:";
    const char *open = relay.len ? memrchr(relay.text, '[', relay.len) : NULL;
    const char *end = relay.text + relay.len;
    const char *close = open ? memchr(open, ']', (size_t)(end - open)) : NULL;
    *name = relay;
    if (close) {
        *name = log_slice_of(relay.text, open);
        *address = log_slice_of(open + 1, close);
        if (address->len > sizeof(v6) && memcmp(address->text, v6, sizeof(v6) - 1) == 0)
            *address = log_slice_of(open + sizeof(v6), close);
    }
    while (name->len &&
           (name->text[name->len - 1] == ' ' || name->text[name->len - 1] == '.'))
        name->len--;
}

/* Behind the last one; NULL: there is none. */
static const char *last_of(struct log_cursor c, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = c.end; (size_t)(p - c.p) >= len; p--)
        if (memcmp(p - len, word, len) == 0)
            return p;
    return NULL;
}

/* ---- from= ----------------------------------------------------------------- */

/* "...KEYword" to "...", where that is how the text ends and the word is one. */
static bool drop_last(struct log_slice *text, const char *key)
{
    const char *value = last_of(log_cursor_of(*text), key);
    const char *end = text->text + text->len;
    if (!value || memchr(value, ',', (size_t)(end - value)))
        return false;
    text->len = (size_t)(value - strlen(key) - text->text);
    return true;
}

/* Behind ", msgid=": what is behind the Message-ID is known from its end. */
static struct log_slice message_id(struct log_cursor c)
{
    static const char *const keys[] = { ", daemon=", ", proto=", ", bodytype=" };
    const char *relay = last_of(c, ", relay=");
    struct log_slice id = log_slice_of(c.p, relay ? relay - strlen(", relay=") : c.end);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        drop_last(&id, keys[i]);
    return id;
}

/* "ESMTPA", "ESMTPSA" (RFC 3848) behind the Message-ID. */
static bool is_authenticated(struct log_slice id, const char *end)
{
    struct log_cursor c = { id.text + id.len, end };
    if (log_take(&c, ", bodytype="))
        log_take_until(&c, ',');
    if (!log_take(&c, ", proto="))
        return false;
    struct log_slice proto = log_take_until(&c, ',');
    return proto.len > 0 && proto.text[proto.len - 1] == 'A';
}

static struct log_slice take_sender(struct log_cursor *c)
{
    static const char size[] = ", size=";
    const char *begin = c->p, *end = address_end(begin, c->end), *next;
    if (!end || (size_t)(c->end - end) < sizeof(size) - 1 ||
        memcmp(end, size, sizeof(size) - 1) != 0) {
        /* Cut, so anything is in it: no more of the client's is behind the cut. */
        const char *from = c->end - begin > SENDER_CUT ? begin + SENDER_CUT : begin;
        next = memmem(from, (size_t)(c->end - from), size, sizeof(size) - 1);
        end = next ? next : c->end;
    }
    c->p = end;
    return bare(log_slice_of(begin, end));
}

static void sender(struct log_cursor c, struct log_event *out)
{
    int64_t value;
    bool known = false;
    out->from = take_sender(&c);
    while (log_take(&c, ", ")) {
        if (log_take(&c, "size=") && log_take_number(&c, &value)) {
            out->size = value;
        } else if (log_take(&c, "nrcpts=") && log_take_number(&c, &value)) {
            out->nrcpt = value;
            known = true;
        } else if (log_take(&c, "msgid=")) {
            out->message_id = message_id(c);
            out->authenticated = is_authenticated(out->message_id, c.end);
            break;
        } else {
            log_take_until(&c, ',');
        }
    }
    const char *relay = last_of(c, ", relay=");
    if (relay)
        split_relay(log_slice_of(relay, c.end), &out->client_name, &out->client_address);
    /* No recipient was taken, so there came no message: no Message-ID either, which
     * Sendmail adds where the client sent none. */
    bool none = known && out->nrcpt == 0 && out->message_id.len == 0;
    out->kind = none ? LOG_EVENT_REFUSED : LOG_EVENT_QUEUED;
}

/* ---- to= ------------------------------------------------------------------- */

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

/* Mailers that hand over to no other mail server, though LMTP to a local one has its
 * address as relay=. */
static bool is_local_mailer(struct log_slice name)
{
    static const char *const names[] = { "local",    "prog",    "*file*",  "*include*",
                                         "procmail", "cyrus",   "cyrusv2", "cyrusbb",
                                         "lmtp",     "dovecot", "discard", "*discard*",
                                         "usenet" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (log_slice_is(name, names[i]))
            return true;
    return false;
}

static enum log_status status_of(const struct log_event *event, struct log_slice stat)
{
    struct log_cursor c = log_cursor_of(stat);
    char class = event->dsn.len ? event->dsn.text[0] : '\0';
    if (class == '5')
        return LOG_STATUS_BOUNCED;
    if (class == '4')
        return LOG_STATUS_DEFERRED;
    if (log_take(&c, "Sent"))
        return LOG_STATUS_SENT;
    if (class == '2' || log_take(&c, "queued") || log_take(&c, "quarantine"))
        return LOG_STATUS_OTHER;
    return log_take(&c, "Deferred") ? LOG_STATUS_DEFERRED : LOG_STATUS_BOUNCED;
}

/* Behind "reply=" or "stat=". The last ", stat=" is Sendmail's, unless the other
 * server's answer has it too: then it is that answer's end, and dsn= decides. */
static void take_answer(struct log_cursor c, bool reply, struct log_event *out)
{
    const char *stat = reply ? last_of(c, ", stat=") : c.p;
    struct log_slice status = log_slice_of(stat ? stat : c.end, c.end);
    out->status = status_of(out, status);
    out->text = status;
    if (reply && stat && out->status != LOG_STATUS_SENT)
        out->text = log_slice_of(c.p, stat - strlen(", stat="));
    if (out->status == LOG_STATUS_SENT)
        out->remote_id = log_remote_id(status);
}

static void take_relay(struct log_slice value, bool local, struct log_event *out)
{
    out->relay = value;
    if (!local)
        split_relay(value, &out->relay_name, &out->relay_address);
}

/* A line without mailer= is of a message that was not taken, or only seemingly. */
static void delivery(struct log_cursor c, struct log_event *out)
{
    const char *begin = c.p;
    bool mailer = false, local = false, reply;
    do
        take_one(&c);
    while (c.end - c.p > 1 && c.p[0] == ',' && c.p[1] != ' ' && c.p++);
    out->to = log_slice_of(begin, c.p);
    out->to_list = true;
    while (out->to.len > 0 && log_take(&c, ", ")) {
        if ((reply = log_take(&c, "reply=")) || log_take(&c, "stat=")) {
            take_answer(c, reply, out);
            out->discarded = !mailer && log_slice_is(out->text, "discarded");
            out->kind = mailer           ? LOG_EVENT_DELIVERY
                        : out->discarded ? LOG_EVENT_REFUSED
                                         : LOG_EVENT_NONE;
            return;
        }
        if (log_take(&c, "ctladdr=")) {
            take_one(&c);
        } else if (log_take(&c, "delay=")) {
            out->delay = clock_ms(log_take_until(&c, ','));
        } else if (log_take(&c, "mailer=")) {
            mailer = true;
            local = is_local_mailer(log_take_until(&c, ','));
        } else if (log_take(&c, "relay=")) {
            take_relay(log_take_until(&c, ','), local, out);
        } else if (log_take(&c, "dsn=")) {
            out->dsn = log_take_until(&c, ',');
        } else {
            log_take_until(&c, ',');
        }
    }
}

/* ---- the others ------------------------------------------------------------ */

/* "alias <list@b> => a, b", "forward <d@b> => x@c". */
static void expanded(struct log_cursor c, struct log_event *out)
{
    const char *begin = c.p, *arrow;
    arrow = memmem(c.p, (size_t)(c.end - c.p), " => ", 4);
    /* A quoted name may have an arrow in it. */
    while (arrow && address_end(begin, arrow) != arrow)
        arrow = memmem(arrow + 1, (size_t)(c.end - arrow - 1), " => ", 4);
    if (!arrow || arrow - begin > ADDRESS_MAX)
        return;
    out->orig_to = bare(log_slice_of(begin, arrow));
    out->to = log_slice_of(arrow + 4, c.end);
    out->to_list = true;
    out->kind = LOG_EVENT_EXPANDED;
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
    out->other_id = id;
    if (log_take(&c, "clone: ")) {
        out->kind = LOG_EVENT_CLONE;
        return;
    }
    if (log_take(&c, "sender notify: "))
        out->notice = LOG_NOTICE_DELAY;
    else if (log_take(&c, "postmaster notify: "))
        out->postmaster = true;
    else if (log_take(&c, "return receipt"))
        out->notice = LOG_NOTICE_SUCCESS;
    else if (!log_take(&c, "DSN: ") && !log_take(&c, "return to sender: "))
        return;
    out->kind = LOG_EVENT_BOUNCE;
}

/* "quarantine=...", "reject=...", "discard": what was done. */
static void action(struct log_cursor c, struct log_event *out)
{
    out->text = log_slice_of(c.p, c.end);
    if (log_take(&c, "quarantine="))
        out->kind = LOG_EVENT_HOLD;
    else if (log_take(&c, "reject="))
        out->kind = LOG_EVENT_REFUSED;
    else if ((out->discarded = log_take(&c, "discard")))
        out->kind = LOG_EVENT_REFUSED;
}

static void milter(struct log_cursor c, struct log_event *out)
{
    log_take_until(&c, ',');
    if (log_take(&c, ", "))
        action(c, out);
}

/* "check_mail, arg1=<a@b>, relay=host [192.0.2.1], quarantine=...": one recipient's or a
 * sender's refusal is no message's, nor is it one yet. arg1 is the client's. */
static void ruleset(struct log_cursor c, struct log_event *out)
{
    const char *relay = last_of(c, ", relay=");
    if (!relay)
        return;
    c.p = relay;
    log_take_until(&c, ',');
    if (!log_take(&c, ", "))
        return;
    action(c, out);
    if (out->kind == LOG_EVENT_REFUSED)
        out->kind = LOG_EVENT_NONE;
}

void log_event_sendmail(const struct log_line *line, struct log_event *out)
{
    struct log_cursor c = log_cursor_of(line->rest);
    if (log_take(&c, "from=")) {
        sender(c, out);
    } else if (log_take(&c, "to=")) {
        delivery(c, out);
    } else if (log_take(&c, "done; ")) {
        out->kind = LOG_EVENT_REMOVED;
    } else if (log_take(&c, "alias ") || log_take(&c, "forward ")) {
        expanded(c, out);
    } else if (log_take(&c, "Milter: ") || log_take(&c, "milter=")) {
        milter(c, out);
    } else if (log_take(&c, "ruleset=")) {
        ruleset(c, out);
    } else if (log_slice_is(line->rest, "discarded")) {
        out->discarded = true;
        out->kind = LOG_EVENT_REFUSED;
    } else if (log_slice_is(line->rest, "unquarantine")) {
        out->super = LOG_SUPER_RELEASED;
        out->kind = LOG_EVENT_SUPER;
    } else {
        notice(c, out);
    }
}
