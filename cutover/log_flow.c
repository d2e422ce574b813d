/*
 * log_flow: messages in flight, joined from their log lines (see log_flow.h).
 *
 * The order of a message's lines is Postfix' own: client= or uid= first, then
 * cleanup's, the milter's, qmgr's, deliveries, removed. The milter's may come first
 * when it is in another file. A client= or uid= line for a message that has had one
 * is a new message under an old id.
 */
#include "log_flow.h"

#include "log_pool.h"

struct joined {
    struct log_flow *flow;
    const struct log_line *line;
    const struct log_event *event;
    int64_t us;
};

const char *log_flow_text(const struct log_message *message, enum log_flow_text which)
{
    return message->texts[which] ? message->texts[which] : "";
}

bool log_flow_set(struct log_message *message, enum log_flow_text which,
                  struct log_slice value)
{
    if (value.len == 0 && !message->texts[which])
        return true;
    return log_pool_text(message, &message->texts[which], value);
}

static bool set(struct joined *j, struct log_message *m, enum log_flow_text which,
                struct log_slice value)
{
    if (value.len == 0 || log_flow_set(m, which, value))
        return true;
    j->flow->counts.no_memory++;
    return false;
}

/* Where nothing is known yet. */
static void fill(struct joined *j, struct log_message *m, enum log_flow_text which,
                 struct log_slice value)
{
    if (!m->texts[which] || !m->texts[which][0])
        set(j, m, which, value);
}

static struct log_message *find(struct joined *j, struct log_slice id)
{
    return log_pool_find(j->flow, j->line->host, id, j->us);
}

struct log_message *log_flow_get(struct log_flow *flow, const struct log_line *line,
                                 struct log_slice id, int64_t us)
{
    struct log_message *m = log_pool_find(flow, line->host, id, us);
    if (!m)
        return log_pool_add(flow, line->host, id, us);
    if (!log_flow_text(m, LOG_FLOW_HOST)[0] &&
        !log_flow_set(m, LOG_FLOW_HOST, line->host))
        flow->counts.no_memory++;
    return m;
}

static struct log_message *find_or_add(struct joined *j, struct log_slice id)
{
    return log_flow_get(j->flow, j->line, id, j->us);
}

/* The message that this line begins. */
static struct log_message *begin(struct joined *j, enum log_flow_origin origin)
{
    struct log_message *m = find_or_add(j, j->line->id);
    if (m && m->begun && !j->flow->settling)
        log_pool_reset(m, j->us);
    if (m) {
        m->begun = true;
        m->origin = m->entry = origin;
    }
    return m;
}

static struct log_slice slice_of(const char *text)
{
    return (struct log_slice){ text ? text : "", text ? strlen(text) : 0 };
}

static struct log_slice text_of(const struct log_message *m, enum log_flow_text which)
{
    const char *text = log_flow_text(m, which);
    return (struct log_slice){ text, strlen(text) };
}

/* The new message is the old one under another id. */
static void inherit(struct joined *j, struct log_message *m,
                    const struct log_message *from, enum log_flow_origin origin)
{
    static const enum log_flow_text texts[] = {
        LOG_FLOW_CLIENT_NAME, LOG_FLOW_CLIENT, LOG_FLOW_USER, LOG_FLOW_HELO,
        LOG_FLOW_MESSAGE_ID,  LOG_FLOW_DMARC,  LOG_FLOW_FROM,
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        fill(j, m, texts[i], text_of(from, texts[i]));
    set(j, m, LOG_FLOW_ORIGIN, text_of(from, LOG_FLOW_ID));
    m->origin = origin;
    m->entry = from->entry;
}

bool log_status_is_final(enum log_status status)
{
    return status == LOG_STATUS_SENT || status == LOG_STATUS_BOUNCED ||
           status == LOG_STATUS_EXPIRED;
}

/* postsuper -r: what became of its recipients so far. */
static void inherit_recipients(struct joined *j, struct log_message *m,
                               const struct log_message *from)
{
    for (size_t i = 0; i < from->recipient_count; i++) {
        const struct log_recipient *old = &from->recipients[i];
        struct log_recipient *r =
            log_pool_recipient(j->flow, m, slice_of(old->to), slice_of(old->orig_to));
        if (!r)
            continue;
        if (!log_pool_text(m, &r->mailbox, slice_of(old->mailbox)) ||
            !log_pool_text(m, &r->expanded, slice_of(old->expanded)) ||
            !log_pool_text(m, &r->relay, slice_of(old->relay)) ||
            !log_pool_text(m, &r->text, slice_of(old->text)))
            j->flow->counts.no_memory++;
        r->first = old->first;
        r->last = old->last;
        r->attempts = old->attempts;
        m->tried += r->attempts > 0;
        r->status = old->status;
        r->forward = old->forward;
        r->mark = old->mark;
        m->finals += log_status_is_final(r->status);
    }
}

/* ---- events ---------------------------------------------------------------- */

static struct log_message *on_client(struct joined *j)
{
    const struct log_event *e = j->event;
    struct log_message *m = begin(j, LOG_FLOW_BY_SMTP);
    if (!m)
        return NULL;
    /* Behind a filter the client is the filter; the message's own is known. */
    struct log_message *before = e->other_id.len ? find(j, e->other_id) : NULL;
    if (before)
        log_flow_settle(j->flow, before);
    if (before && before != m) {
        inherit(j, m, before, LOG_FLOW_BY_FILTER);
    } else {
        set(j, m, LOG_FLOW_CLIENT_NAME, e->client_name);
        set(j, m, LOG_FLOW_CLIENT, e->client_address);
    }
    fill(j, m, LOG_FLOW_USER, e->user);
    return m;
}

static struct log_message *on_pickup(struct joined *j)
{
    const struct log_event *e = j->event;
    struct log_message *m = begin(j, LOG_FLOW_BY_PICKUP);
    if (!m)
        return NULL;
    set(j, m, LOG_FLOW_FROM, e->from);
    if (e->other_id.len == 0)
        return m;
    m->origin = LOG_FLOW_BY_REQUEUE;
    m->entry = LOG_FLOW_BY_NONE;
    set(j, m, LOG_FLOW_ORIGIN, e->other_id);
    struct log_message *before = find(j, e->other_id);
    if (before && before != m) {
        log_flow_settle(j->flow, before);
        inherit(j, m, before, LOG_FLOW_BY_REQUEUE);
        inherit_recipients(j, m, before);
        m->mark = before->mark;
        m->first = before->first;
        log_flow_drop(j->flow, before);
    }
    return m;
}

/* Who has logged in, of Sendmail's process: kept as if it were a message, so that it is
 * saved and forgotten like one. NULL: nobody (add: no memory). */
static struct log_message *session_of(struct joined *j, bool add)
{
    char text[300];
    int n = snprintf(text, sizeof(text), "login-%u@%.*s", j->line->pid,
                     (int)(j->line->host.len > 255 ? 255 : j->line->host.len),
                     j->line->host.text);
    struct log_slice id = { text, n > 0 ? (size_t)n : 0 };
    return add ? find_or_add(j, id) : find(j, id);
}

static struct log_message *on_login(struct joined *j)
{
    struct log_message *m = session_of(j, true);
    if (m)
        set(j, m, LOG_FLOW_USER, j->event->user);
    return m;
}

static struct log_message *on_queued(struct joined *j)
{
    const struct log_event *e = j->event;
    struct log_message *m = find_or_add(j, j->line->id);
    if (!m)
        return NULL;
    set(j, m, LOG_FLOW_FROM, e->from);
    fill(j, m, LOG_FLOW_MESSAGE_ID, e->message_id);
    fill(j, m, LOG_FLOW_CLIENT_NAME, e->client_name);
    fill(j, m, LOG_FLOW_CLIENT, e->client_address);
    m->sendmail = j->line->daemon == LOG_DAEMON_SENDMAIL;
    struct log_message *session = e->authenticated ? session_of(j, false) : NULL;
    if (session) {
        fill(j, m, LOG_FLOW_USER, text_of(session, LOG_FLOW_USER));
        session->last = j->us;
    }
    if (m->origin == LOG_FLOW_BY_NONE && m->sendmail) /* "root@localhost": sendmail(1) */
        m->origin = m->entry = e->client_address.len == 0 && e->client_name.len > 0
                                   ? LOG_FLOW_BY_PICKUP
                                   : LOG_FLOW_BY_SMTP;
    m->size = e->size;
    m->nrcpt = e->nrcpt;
    if (!m->sendmail || m->state != LOG_FLOW_HELD) /* a rule's quarantine comes before */
        m->state = LOG_FLOW_QUEUED;
    return m;
}

static void attempt(struct joined *j, struct log_message *m, struct log_recipient *r)
{
    const struct log_event *e = j->event;
    bool fine = log_pool_text(m, &r->relay, e->relay) &&
                log_pool_text(m, &r->remote_id, e->remote_id) &&
                log_pool_text(m, &r->text, e->text);
    if (!fine)
        j->flow->counts.no_memory++;
    if (r->attempts++ == 0) {
        r->first = j->us;
        m->tried++;
    }
    r->last = j->us;
    m->finals -= log_status_is_final(r->status);
    r->status = e->status;
    m->finals += log_status_is_final(r->status);
    r->forward = log_event_is_forward(j->line, e);
    r->doubtful = e->doubtful;
}

static struct log_message *on_delivery(struct joined *j, struct log_recipient **recipient)
{
    const struct log_event *e = j->event;
    struct log_message *m = find_or_add(j, j->line->id), *child;
    struct log_slice to;
    if (!m)
        return NULL;
    log_flow_settle(j->flow, m);
    if (j->line->daemon == LOG_DAEMON_SENDMAIL)
        m->sendmail = true;
    if (m->state == LOG_FLOW_OPEN)
        m->state = LOG_FLOW_QUEUED;
    for (size_t at = 0; log_event_next_to(e, &at, &to);) {
        struct log_recipient *r = log_pool_recipient(j->flow, m, to, e->orig_to);
        if (r)
            attempt(j, m, r);
    }
    if (recipient) { /* the array may have moved since the first */
        size_t at = 0;
        log_event_next_to(e, &at, &to);
        *recipient = log_flow_recipient(m, to, e->orig_to);
    }
    if (e->other_id.len && (child = find(j, e->other_id)) && child != m &&
        !child->begun) {
        log_flow_settle(j->flow, child);
        inherit(j, child, m, LOG_FLOW_BY_FORWARD);
    }
    return m;
}

static struct log_message *on_bounce(struct joined *j)
{
    struct log_message *child = find_or_add(j, j->event->other_id);
    if (child && !child->begun) {
        child->origin = child->entry = LOG_FLOW_BY_NOTICE;
        set(j, child, LOG_FLOW_ORIGIN, j->line->id);
    }
    return find_or_add(j, j->line->id);
}

/* Sendmail: whoever gets it for this alias is known by the alias. */
static struct log_message *on_expanded(struct joined *j)
{
    const struct log_slice none = { "", 0 };
    const struct log_event *e = j->event;
    struct log_message *m = find_or_add(j, j->line->id);
    struct log_slice to;
    for (size_t at = 0; m && log_event_next_to(e, &at, &to);) {
        struct log_recipient *r = log_pool_recipient(j->flow, m, to, none);
        if (r && !r->expanded && !log_pool_text(m, &r->expanded, e->orig_to))
            j->flow->counts.no_memory++;
    }
    return m;
}

/* A list's owner gets the notices, so its members have an envelope of their own. */
static struct log_message *on_clone(struct joined *j)
{
    const struct log_slice none = { "", 0 };
    struct log_message *m = find_or_add(j, j->line->id);
    struct log_message *child = m ? find_or_add(j, j->event->other_id) : NULL;
    if (!child || child == m)
        return m;
    inherit(j, child, m, LOG_FLOW_BY_FORWARD);
    child->begun = child->sendmail = true;
    for (size_t i = 0; i < m->recipient_count; i++) {
        const struct log_recipient *old = &m->recipients[i];
        struct log_recipient *r =
            old->expanded ? log_pool_recipient(j->flow, child, slice_of(old->to), none)
                          : NULL;
        if (r && !log_pool_text(child, &r->expanded, slice_of(old->expanded)))
            j->flow->counts.no_memory++;
    }
    return m;
}

static struct log_message *on_super(struct joined *j)
{
    bool hold = j->event->super == LOG_SUPER_HOLD;
    struct log_message *m = hold ? find_or_add(j, j->line->id) : find(j, j->line->id);
    if (!m)
        return NULL;
    if (hold)
        m->state = LOG_FLOW_HELD;
    else if (j->event->super == LOG_SUPER_RELEASED)
        m->state = LOG_FLOW_QUEUED;
    return m;
}

static struct log_message *on_verdict(struct joined *j)
{
    const struct log_event *e = j->event;
    struct log_message *m = find_or_add(j, j->line->id);
    if (!m)
        return NULL;
    fill(j, m, LOG_FLOW_CLIENT, e->client_address);
    fill(j, m, LOG_FLOW_FROM, e->from);
    fill(j, m, LOG_FLOW_USER, e->user);
    set(j, m, LOG_FLOW_HELO, e->helo);
    set(j, m, LOG_FLOW_DMARC, e->dmarc);
    if (e->new_to.len && log_slice_is(e->verdict, "redirect")) {
        const struct log_slice none = { "", 0 };
        struct log_recipient *r = log_pool_recipient(j->flow, m, e->new_to, none);
        if (r && !log_pool_text(m, &r->mailbox, e->to))
            j->flow->counts.no_memory++;
    }
    return m;
}

static struct log_message *on_expired(struct joined *j)
{
    struct log_message *m = find_or_add(j, j->line->id);
    for (size_t i = 0; m && i < m->recipient_count; i++)
        if (m->recipients[i].status == LOG_STATUS_DEFERRED ||
            m->recipients[i].status == LOG_STATUS_SOFTBOUNCE) {
            m->recipients[i].status = LOG_STATUS_EXPIRED;
            m->finals++;
            m->recipients[i].last = j->us;
        }
    return m;
}

static struct log_message *on_other(struct joined *j)
{
    const struct log_event *e = j->event;
    struct log_message *m = find_or_add(j, j->line->id);
    if (!m)
        return NULL;
    if (e->kind == LOG_EVENT_MESSAGE_ID)
        set(j, m, LOG_FLOW_MESSAGE_ID, e->message_id);
    if (e->kind == LOG_EVENT_HOLD) {
        fill(j, m, LOG_FLOW_HELO, e->helo);
        m->state = LOG_FLOW_HELD;
    }
    return m;
}

struct log_message *log_flow_take(struct log_flow *flow, const struct log_line *line,
                                  const struct log_event *event, int64_t us,
                                  struct log_recipient **recipient)
{
    struct joined j = { flow, line, event, us };
    struct log_message *m = NULL;
    if (recipient)
        *recipient = NULL;
    switch (event->kind) {
    case LOG_EVENT_NONE:
    case LOG_EVENT_DISCONNECT:
    case LOG_EVENT_FENCE:
    case LOG_EVENT_KINDS:
        return NULL;
    case LOG_EVENT_CLIENT:
        m = on_client(&j);
        break;
    case LOG_EVENT_PICKUP:
        m = on_pickup(&j);
        break;
    case LOG_EVENT_QUEUED:
        m = on_queued(&j);
        break;
    case LOG_EVENT_DELIVERY:
        m = on_delivery(&j, recipient);
        break;
    case LOG_EVENT_BOUNCE:
        m = on_bounce(&j);
        break;
    case LOG_EVENT_LOGIN:
        m = on_login(&j);
        break;
    case LOG_EVENT_EXPANDED:
        m = on_expanded(&j);
        break;
    case LOG_EVENT_CLONE:
        m = on_clone(&j);
        break;
    case LOG_EVENT_SUPER:
        m = on_super(&j);
        break;
    case LOG_EVENT_VERDICT:
        m = on_verdict(&j);
        break;
    case LOG_EVENT_EXPIRED:
        m = on_expired(&j);
        break;
    case LOG_EVENT_MESSAGE_ID:
    case LOG_EVENT_HOLD:
    case LOG_EVENT_REDIRECT:
        m = on_other(&j);
        break;
    case LOG_EVENT_REMOVED:
    case LOG_EVENT_REFUSED:
        m = find(&j, line->id);
        break;
    }
    if (m)
        m->last = us;
    return m;
}

struct log_message *log_flow_find(struct log_flow *flow, struct log_slice host,
                                  struct log_slice id, int64_t us)
{
    return log_pool_find(flow, host, id, us);
}

bool log_flow_ends(const struct log_event *event)
{
    switch (event->kind) {
    case LOG_EVENT_REMOVED:
    case LOG_EVENT_REFUSED:
        return true;
    case LOG_EVENT_SUPER:
        return event->super == LOG_SUPER_REMOVED;
    default:
        return false;
    }
}

const struct log_flow_counts *log_flow_counts(const struct log_flow *flow)
{
    return &flow->counts;
}
