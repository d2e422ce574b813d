/*
 * monitor_count: the floaters in a mail log (see monitor_count.h).
 *
 * Most messages of a server are none. So the lines of a message's arrival are kept
 * unread (log_flow_defer()), most deliveries are not looked at (monitor_pick()), and
 * a message is only joined when it is sent on.
 *
 * While the new server does not answer, qmgr(8) gives its mail to error(8), whose
 * lines name no relay: such a line counts when its text names the domain's `new`,
 * or when the recipient is a floater already.
 */
#include "monitor_count.h"

#include <stdlib.h>

#include "ping.h"
#include "table.h"

#define HOUR_US INT64_C(3600000000)

/* log_recipient.mark */
enum { MARK_NEW, MARK_FLOATER, MARK_FAILED, MARK_PROBE, MARK_OTHER };

struct monitor *monitor_new(const struct conf *conf)
{
    struct monitor *monitor = calloc(1, sizeof(*monitor));
    if (!monitor)
        return NULL;
    monitor->conf = conf;
    monitor->flow = log_flow_new();
    monitor->mailbox_index = table_new();
    monitor->sender_index = table_new();
    monitor->totals.tally.first = monitor->totals.tally.last = LOG_NO_TIME;
    monitor->totals.tally.last_clean = monitor->totals.last_lost = LOG_NO_TIME;
    monitor->totals.begins = monitor->totals.ends = LOG_NO_TIME;
    if (monitor->flow && monitor->mailbox_index && monitor->sender_index)
        return monitor;
    monitor_free(monitor);
    return NULL;
}

void monitor_free(struct monitor *monitor)
{
    if (!monitor)
        return;
    log_flow_free(monitor->flow);
    monitor_rows_free(monitor);
    free(monitor);
}

/* ---- lines ----------------------------------------------------------------- */

static bool is_named(struct log_slice program, const char *daemon)
{
    size_t len = strlen(daemon);
    return program.len >= len &&
           memcmp(program.text + program.len - len, daemon, len) == 0;
}

static bool is_forward_service(const struct log_line *line)
{
    return log_slice_is(line->service, "sluice-forward");
}

/* error(8) and qmgr(8) put mail off by themselves. */
static bool is_put_off(const struct log_line *line)
{
    return line->daemon == LOG_DAEMON_QMGR || is_named(line->program, "/error") ||
           is_named(line->program, "/retry");
}

bool monitor_pick(const struct log_line *line)
{
    switch (line->daemon) {
    case LOG_DAEMON_OTHER:
    case LOG_DAEMON_POLICYD:
        return false;
    case LOG_DAEMON_DELIVERY: /* not lmtp, virtual, pipe, discard */
        return line->id.len > 0 &&
               (is_forward_service(line) || is_named(line->program, "/smtp") ||
                is_named(line->program, "/local") || is_put_off(line));
    case LOG_DAEMON_SENDMAIL: /* who has logged in, too */
        return line->id.len > 0 || log_event_possible(line, 1u << LOG_EVENT_LOGIN);
    default:
        return line->id.len > 0;
    }
}

/* ---- what is a floater ----------------------------------------------------- */

static bool has_name(struct log_slice text, const char *name)
{
    size_t len = strlen(name);
    while (text.len > 0 && text.text[text.len - 1] == '.')
        text.len--;
    return text.len == len && strncasecmp(text.text, name, len) == 0;
}

/* Postfix names the next hop and the address; an unlogged port is any. */
static bool is_hop(const struct conf_hop *hop, struct log_slice name,
                   struct log_slice address, uint16_t port)
{
    return hop->text && (port == 0 || port == hop->port) &&
           (has_name(name, hop->host) || has_name(address, hop->host));
}

/* "connect to NAME[ADDRESS]:25: Connection refused", "host NAME[ADDRESS] said: ..." */
static bool names_hop(const struct conf_hop *hop, struct log_slice text)
{
    static const char *const words[] = { "connect to ", "host ", "conversation with " };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        const char *p = memmem(text.text, text.len, words[i], strlen(words[i]));
        if (!p)
            continue;
        p += strlen(words[i]);
        const char *end = text.text + text.len, *stop = memchr(p, ' ', (size_t)(end - p));
        struct log_slice peer = { p, (size_t)((stop ? stop : end) - p) };
        struct log_slice name = { "", 0 }, address = { "", 0 };
        uint16_t port = 0;
        const char *open = memchr(p, '[', peer.len);
        const char *close =
            open ? memchr(open, ']', (size_t)(p + peer.len - open)) : NULL;
        if (!close)
            continue;
        name = (struct log_slice){ p, (size_t)(open - p) };
        address = (struct log_slice){ open + 1, (size_t)(close - open - 1) };
        if (close + 1 < p + peer.len && close[1] == ':')
            for (const char *c = close + 2; c < p + peer.len && *c >= '0' && *c <= '9';
                 c++)
                port = (uint16_t)(port * 10 + (*c - '0'));
        if (is_hop(hop, name, address, port))
            return true;
    }
    return false;
}

/* As Sendmail has it (log_event.h), too. */
static bool parse(const char *text, struct addr *addr)
{
    static const char host[] = "@localhost";
    char plain[ADDR_TEXT_MAX + sizeof(host)];
    struct log_slice whole = { text, strlen(text) };
    bool qualified = memchr(whole.text, '@', whole.len) != NULL;
    if (qualified && addr_parse(whole.text, whole.len, addr) == ADDR_OK &&
        !memmem(whole.text, whole.len, "\\\\", 2))
        return true;
    size_t len = log_event_plain(whole, plain, ADDR_TEXT_MAX);
    if (len == 0)
        return false;
    if (!qualified) {
        memcpy(plain + len, host, sizeof(host) - 1);
        len += sizeof(host) - 1;
    }
    return addr_parse(plain, len, addr) == ADDR_OK;
}

/* The managed mailbox of an address without its extension. NULL: not managed. */
static const struct conf_domain *managed(const struct monitor *monitor, const char *text,
                                         char out[ADDR_TEXT_MAX + 1])
{
    struct addr addr;
    char base[ADDR_LOCAL_MAX + 1];
    if (!text || !*text || !parse(text, &addr))
        return NULL;
    const struct conf_domain *domain = conf_managed(monitor->conf, addr.domain);
    if (!domain)
        return NULL;
    bool extended = addr_base(addr.local, monitor->conf->recipient_delimiter, base);
    addr_format(extended ? base : addr.local, domain->name, out);
    return domain;
}

static const struct conf_domain *managed_slice(const struct monitor *monitor,
                                               struct log_slice text)
{
    char copy[ADDR_TEXT_MAX + 1], out[ADDR_TEXT_MAX + 1];
    if (text.len == 0 || text.len > ADDR_TEXT_MAX || memchr(text.text, '\0', text.len))
        return NULL;
    memcpy(copy, text.text, text.len);
    copy[text.len] = '\0';
    return managed(monitor, copy, out);
}

/* Whether a delivery must be joined at all. */
static bool concerns(struct monitor *monitor, const struct log_line *line,
                     const struct log_event *event, int64_t us)
{
    if (is_forward_service(line) || event->other_id.len ||
        line->daemon == LOG_DAEMON_SENDMAIL)
        return true;
    struct log_message *m = log_flow_find(monitor->flow, line->host, line->id, us);
    if (m && m->mark)
        return true;
    const struct conf_domain *domain = managed_slice(monitor, event->to);
    if (event->doubtful)
        return true;
    if (!domain || !domain->new.text)
        return false;
    return is_put_off(line) ? names_hop(&domain->new, event->text)
                            : is_hop(&domain->new, event->relay_name,
                                     event->relay_address, event->relay_port) ||
                                  names_hop(&domain->new, event->text);
}

/* To the other direction: a mailbox of the new side that still lives on the old. */
static bool goes_back(const struct conf_domain *domain, const struct log_event *event)
{
    bool same = domain->old.text &&
                domain->new.text &&strcmp(domain->old.text, domain->new.text) == 0;
    if (same || !domain->old.text)
        return false;
    return is_hop(&domain->old, event->relay_name, event->relay_address,
                  event->relay_port) ||
           (!event->relay_name.len && names_hop(&domain->old, event->text));
}

static bool is_probe_mailbox(const struct monitor *monitor, const char *mailbox)
{
    char address[ADDR_TEXT_MAX + 1];
    for (size_t i = 0; i < monitor->conf->ping_count; i++)
        if (managed(monitor, monitor->conf->pings[i].to, address) &&
            strcmp(address, mailbox) == 0)
            return true;
    for (size_t i = 0; monitor->probe_to && monitor->probe_to[i]; i++)
        if (managed(monitor, monitor->probe_to[i], address) &&
            strcmp(address, mailbox) == 0)
            return true;
    return false;
}

/* ---- counting -------------------------------------------------------------- */

static void add_tally(struct monitor_tally *tally, bool failed, int64_t us)
{
    tally->count[MONITOR_ALL]++;
    tally->count[MONITOR_FAILED] += failed;
    if (tally->first == LOG_NO_TIME || us < tally->first)
        tally->first = us;
    if (us > tally->last)
        tally->last = us;
    if (!failed && us > tally->last_clean)
        tally->last_clean = us;
}

/* Where mail comes from that no client sent; "" for the others. The milter sees local
 * mail as from 127.0.0.1. */
static void local_origin(const struct log_message *m, char *out, size_t size)
{
    const char *host = log_flow_text(m, LOG_FLOW_HOST), *what = "unknown client of";
    out[0] = '\0';
    if (m->entry == LOG_FLOW_BY_PICKUP)
        what = "local submission on";
    else if (log_flow_text(m, LOG_FLOW_CLIENT)[0])
        return;
    else if (m->entry == LOG_FLOW_BY_NOTICE)
        what = "bounces of";
    (void)snprintf(out, size, "%s %.200s", what, *host ? host : "this host");
}

static void count_sender(struct monitor *monitor, const struct log_message *m,
                         const char *mailbox, bool failed, int64_t us)
{
    char origin[256];
    local_origin(m, origin, sizeof(origin));
    struct monitor_sender *row =
        monitor_sender(monitor, origin[0] ? "" : log_flow_text(m, LOG_FLOW_CLIENT),
                       log_flow_text(m, LOG_FLOW_USER), origin);
    if (!row)
        return;
    add_tally(&row->tally, failed, us);
    monitor_put(monitor, &row->name, log_flow_text(m, LOG_FLOW_CLIENT_NAME));
    monitor_put(monitor, &row->helo, log_flow_text(m, LOG_FLOW_HELO));
    monitor_put(monitor, &row->from, log_flow_text(m, LOG_FLOW_FROM));
    monitor_put(monitor, &row->mailbox, mailbox);
}

static void count_first(struct monitor *monitor, const struct log_message *m,
                        struct log_recipient *r, const char *mailbox, int64_t us)
{
    const char *message_id = log_flow_text(m, LOG_FLOW_MESSAGE_ID);
    bool failed = strcmp(log_flow_text(m, LOG_FLOW_DMARC), "fail") == 0;
    if (ping_is_mark(message_id, strlen(message_id))) {
        if (is_probe_mailbox(monitor, mailbox)) {
            r->mark = MARK_PROBE;
            monitor->totals.probes++;
            return;
        }
        monitor->totals.false_probes++;
    }
    r->mark = failed ? MARK_FAILED : MARK_FLOATER;
    add_tally(&monitor->totals.tally, failed, us);
    monitor_add_hour(monitor, us >= 0 ? us / HOUR_US : -1, 1, failed);
    struct monitor_mailbox *row = monitor_mailbox(monitor, mailbox);
    if (row) {
        add_tally(&row->tally, failed, us);
        monitor_put(monitor, &row->from, log_flow_text(m, LOG_FLOW_FROM));
    }
    count_sender(monitor, m, mailbox, failed, us);
}

static void count_end(struct monitor *monitor, enum log_status status, int64_t us)
{
    if (status == LOG_STATUS_SENT) {
        monitor->totals.delivered++;
    } else if (status == LOG_STATUS_EXPIRED || status == LOG_STATUS_BOUNCED) {
        monitor->totals.lost++;
        if (us > monitor->totals.last_lost)
            monitor->totals.last_lost = us;
    }
}

/* Sendmail replaced the address by the one on the new server, and its log does not say
 * of what (an alias, below LogLevel 11): by the domain's new-address. */
static const struct conf_domain *by_new_address(const struct monitor *monitor,
                                                const struct log_recipient *r,
                                                char out[ADDR_TEXT_MAX + 1])
{
    static const char pattern[] = "%l@";
    struct addr addr;
    if (!r->to || addr_parse(r->to, strlen(r->to), &addr) != ADDR_OK)
        return NULL;
    for (size_t i = 0; i < monitor->conf->domain_count; i++) {
        const struct conf_domain *domain = &monitor->conf->domains[i];
        if (domain->new_address &&
            strncmp(domain->new_address, pattern, sizeof(pattern) - 1) == 0 &&
            strcmp(domain->new_address + sizeof(pattern) - 1, addr.domain) == 0) {
            addr_format(addr.local, domain->name, out);
            return domain;
        }
    }
    return NULL;
}

/* The mailbox whose mail this is; NULL: none, a copy. */
static const struct conf_domain *mailbox_of(const struct monitor *monitor,
                                            const struct log_message *m,
                                            const struct log_recipient *r,
                                            char out[ADDR_TEXT_MAX + 1])
{
    const struct conf_domain *domain = managed(monitor, r->mailbox, out);
    if (!domain)
        domain = managed(monitor, r->to, out);
    if (!domain)
        domain = managed(monitor, r->orig_to, out);
    if (!domain)
        domain = managed(monitor, r->expanded, out);
    if (!domain && m->sendmail)
        domain = by_new_address(monitor, r, out);
    if (!domain && r->doubtful && monitor->conf->domain_count > 0) {
        /* Whoever wrote that line's look must not hide by it. */
        (void)snprintf(out, ADDR_TEXT_MAX + 1, "unclear address");
        domain = &monitor->conf->domains[0];
    }
    return domain;
}

static void take_attempt(struct monitor *monitor, struct log_message *m,
                         struct log_recipient *r, const struct log_event *event,
                         int64_t us)
{
    char mailbox[ADDR_TEXT_MAX + 1];
    const struct conf_domain *domain = mailbox_of(monitor, m, r, mailbox);
    if (r->mark == MARK_OTHER)
        return;
    if (r->mark == MARK_NEW) {
        bool forward =
            r->forward || (domain && (is_hop(&domain->new, event->relay_name,
                                             event->relay_address, event->relay_port) ||
                                      names_hop(&domain->new, event->text)));
        if (!forward)
            return;
        if (!domain || goes_back(domain, event)) {
            r->mark = MARK_OTHER;
            monitor->totals.copies += !domain;
            return;
        }
        count_first(monitor, m, r, mailbox, us);
        m->mark = 1;
    }
    if (!domain || (r->mark != MARK_FLOATER && r->mark != MARK_FAILED))
        return;
    count_end(monitor, r->status, us);
    struct monitor_mailbox *row = monitor_mailbox(monitor, mailbox);
    if (row)
        row->status = r->status;
    if (monitor->news)
        monitor->news(monitor->context, m, r, mailbox, us);
}

static void take_expired(struct monitor *monitor, const struct log_message *m, int64_t us)
{
    char mailbox[ADDR_TEXT_MAX + 1];
    for (size_t i = 0; i < m->recipient_count; i++) {
        const struct log_recipient *r = &m->recipients[i];
        if (r->status != LOG_STATUS_EXPIRED || r->last != us ||
            (r->mark != MARK_FLOATER && r->mark != MARK_FAILED))
            continue;
        count_end(monitor, LOG_STATUS_EXPIRED, us);
        struct monitor_mailbox *row =
            mailbox_of(monitor, m, r, mailbox) ? monitor_mailbox(monitor, mailbox) : NULL;
        if (row)
            row->status = LOG_STATUS_EXPIRED;
        if (monitor->news)
            monitor->news(monitor->context, m, r, mailbox, us);
    }
}

static void cover(struct monitor *monitor, int64_t us)
{
    if (monitor->totals.begins == LOG_NO_TIME)
        monitor->totals.begins = us;
    if (us > monitor->totals.ends)
        monitor->totals.ends = us;
}

void monitor_gap(struct monitor *monitor)
{
    monitor->totals.begins = LOG_NO_TIME;
}

void monitor_take(struct monitor *monitor, const struct log_line *line, int64_t us)
{
    struct log_event event;
    cover(monitor, us);
    if (log_flow_defer(monitor->flow, line, us) ||
        !log_event_parse(line, LOG_EVENTS_ALL, &event) ||
        (event.kind == LOG_EVENT_DELIVERY && !concerns(monitor, line, &event, us)))
        return;
    struct log_message *m = log_flow_take(monitor->flow, line, &event, us, NULL);
    if (!m)
        return;
    if (event.kind == LOG_EVENT_DELIVERY) {
        struct log_slice to;
        for (size_t at = 0; log_event_next_to(&event, &at, &to);) {
            struct log_recipient *r = log_flow_recipient(m, to, event.orig_to);
            if (r)
                take_attempt(monitor, m, r, &event, us);
        }
    } else if (event.kind == LOG_EVENT_EXPIRED) {
        take_expired(monitor, m, us);
    }
    if (log_flow_ends(&event))
        log_flow_drop(monitor->flow, m);
}

/* ---- what is on its way ---------------------------------------------------- */

struct look {
    struct monitor *monitor;
    int64_t since;
    struct monitor_waiting *out;
};

static void look_at(struct look *look, const struct log_message *m,
                    const struct log_recipient *r)
{
    struct monitor_waiting *out = look->out;
    char mailbox[ADDR_TEXT_MAX + 1] = "";
    bool refused = r->status == LOG_STATUS_SOFTBOUNCE;
    out->waiting++;
    out->refused += refused;
    out->stuck += r->first < look->since;
    bool oldest = out->oldest == LOG_NO_TIME || r->first < out->oldest;
    if (mailbox_of(look->monitor, m, r, mailbox)) {
        struct monitor_mailbox *row = monitor_mailbox(look->monitor, mailbox);
        if (row)
            row->waiting++;
    }
    /* The worst: refused before put off, then the oldest. */
    if (refused ? out->status != LOG_STATUS_SOFTBOUNCE || oldest
                : out->status != LOG_STATUS_SOFTBOUNCE && oldest) {
        out->status = r->status;
        (void)snprintf(out->mailbox, sizeof(out->mailbox), "%.319s", mailbox);
        (void)snprintf(out->text, sizeof(out->text), "%.255s", r->text ? r->text : "");
    }
    if (oldest)
        out->oldest = r->first;
}

static bool look_at_message(void *arg, struct log_message *m)
{
    for (size_t i = 0; m->mark && i < m->recipient_count; i++) {
        const struct log_recipient *r = &m->recipients[i];
        if ((r->mark == MARK_FLOATER || r->mark == MARK_FAILED) &&
            (r->status == LOG_STATUS_DEFERRED || r->status == LOG_STATUS_SOFTBOUNCE))
            look_at(arg, m, r);
    }
    return true;
}

void monitor_look(struct monitor *monitor, int64_t since_us, struct monitor_waiting *out)
{
    struct look look = { monitor, since_us, out };
    *out = (struct monitor_waiting){ .oldest = LOG_NO_TIME };
    for (size_t i = 0; i < monitor->mailbox_count; i++)
        monitor->mailboxes[i].waiting = 0;
    log_flow_each(monitor->flow, look_at_message, &look);
}

uint64_t monitor_since(const struct monitor *monitor, enum monitor_class class,
                       int64_t since_us)
{
    uint64_t sum = 0;
    for (size_t i = monitor->hour_count; i-- > 0;) {
        if ((monitor->hours[i].hour + 1) * HOUR_US <= since_us)
            break;
        sum += monitor->hours[i].count[class];
    }
    return sum;
}
