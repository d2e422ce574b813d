/*
 * audit_ledger: what each event does to its hop (see audit_ledger.h).
 *
 * Order of lines: a child's lines may stand before the line that names it (local(8)'s
 * "forwarded as", another host's "queued as"), a session's "disconnect" before qmgr's
 * first line. So nothing is concluded from a line that is not there yet.
 *
 * Accepted is what the queue manager had, what was put on hold or requeued, what has a
 * delivery, what pickup(8) took, and what smtpd's counts at the end of a session say
 * (data=2: both messages). A client that breaks off leaves client= and message-id=
 * lines and nothing more.
 */
#include "audit_hop.h"

#include <stdio.h>
#include <stdlib.h>

#define RELAYS_MAX 1000

static const struct log_slice no_text = { "", 0 };

struct ledger *ledger_new(const struct ledger_ports *ports)
{
    struct ledger *ledger = calloc(1, sizeof(*ledger));
    if (!ledger)
        return NULL;
    ledger->ports = *ports;
    ledger->bucket_count = 4096;
    ledger->now_us = INT64_MIN;
    ledger->buckets = calloc(ledger->bucket_count, sizeof(struct hop *));
    ledger->hosts = calloc(LEDGER_HOSTS_MAX, sizeof(struct log_host));
    ledger->relays = calloc(RELAYS_MAX, sizeof(struct relay));
    ledger->sessions = calloc(SESSION_SLOTS, sizeof(struct hop *));
    ledger->requeued = calloc(SESSION_SLOTS, sizeof(struct hop *));
    ledger->host_count = ledger->relay_count = 1;
    if (!ledger->buckets || !ledger->hosts || !ledger->relays || !ledger->sessions ||
        !ledger->requeued) {
        ledger_free(ledger);
        return NULL;
    }
    return ledger;
}

void ledger_free(struct ledger *ledger)
{
    if (!ledger)
        return;
    if (ledger->buckets)
        hops_free(ledger);
    for (size_t i = 0; ledger->hosts && i < ledger->host_count; i++)
        free(ledger->hosts[i].name);
    for (size_t i = 0; ledger->relays && i < ledger->relay_count; i++)
        free(ledger->relays[i].name);
    free(ledger->buckets);
    free(ledger->hosts);
    free(ledger->relays);
    free(ledger->sessions);
    free(ledger->requeued);
    free(ledger->dues);
    free(ledger);
}

const struct ledger_counts *ledger_counts(const struct ledger *ledger)
{
    return &ledger->counts;
}

const char *ledger_host(const struct ledger *ledger, size_t index, int64_t *first_us,
                        int64_t *last_us)
{
    if (index + 1 >= ledger->host_count)
        return NULL;
    *first_us = ledger->hosts[index + 1].first_us;
    *last_us = ledger->hosts[index + 1].last_us;
    return ledger->hosts[index + 1].name;
}

/* ---- hosts and relays ---------------------------------------------------------- */

static char *copy_name(struct ledger *ledger, struct log_slice text)
{
    char *name = strndup(text.text, text.len);
    if (!name)
        ledger->failed = true;
    return name;
}

static bool is_host(const struct log_host *host, struct log_slice name)
{
    return host->name && strlen(host->name) == name.len &&
           memcmp(host->name, name.text, name.len) == 0;
}

/* 0: the line names none, or there are too many. */
static uint16_t host_of(struct ledger *ledger, struct log_slice name)
{
    if (name.len == 0)
        return 0;
    if (is_host(&ledger->hosts[ledger->last_host], name))
        return (uint16_t)ledger->last_host;
    for (size_t i = 1; i < ledger->host_count; i++)
        if (is_host(&ledger->hosts[i], name)) {
            ledger->last_host = i;
            return (uint16_t)i;
        }
    if (ledger->host_count == LEDGER_HOSTS_MAX) {
        ledger->counts.hosts_left_out++;
        return 0;
    }
    struct log_host *host = &ledger->hosts[ledger->host_count];
    host->name = copy_name(ledger, name);
    if (!host->name)
        return 0;
    host->first_us = ledger->line_us;
    host->last_us = ledger->line_us;
    ledger->last_host = ledger->host_count++;
    return (uint16_t)ledger->last_host;
}

static enum ledger_side side_of(struct ledger *ledger, uint16_t index)
{
    struct log_host *host = &ledger->hosts[index];
    if (index == 0)
        return LEDGER_SIDE_UNKNOWN;
    if (!host->side_known) {
        host->side = ledger->ports.side(ledger->ports.context, host->name);
        host->side_known = true;
    }
    return host->side;
}

static uint16_t relay_of(struct ledger *ledger, struct log_slice name)
{
    for (size_t i = 1; i < ledger->relay_count; i++)
        if (strlen(ledger->relays[i].name) == name.len &&
            memcmp(ledger->relays[i].name, name.text, name.len) == 0)
            return (uint16_t)i;
    if (ledger->relay_count == RELAYS_MAX)
        return 0;
    struct relay *relay = &ledger->relays[ledger->relay_count];
    relay->name = copy_name(ledger, name);
    return relay->name ? (uint16_t)ledger->relay_count++ : 0;
}

/* ---- a hop's first lines --------------------------------------------------------- */

/* The hop of this event; of one that begins a message, and of any other where none
 * is known: a new one. */
static struct hop *hop_of(struct ledger *ledger, const struct log_line *line, bool begins,
                          bool early)
{
    uint16_t host = host_of(ledger, line->host);
    struct hop *hop = hop_find(ledger, line->id, host);
    /* postsuper -d and qmgr's "removed" are the last lines: the id is used again. */
    if (hop && begins && (hop->flags & (HOP_BORN | HOP_ENDED)))
        hop = NULL;
    if (!hop)
        hop = hop_new(ledger, line->id, host);
    if (!hop)
        return NULL;
    if (!(hop->flags & HOP_SEEN)) {
        hop->flags |= early ? HOP_SEEN : HOP_SEEN | HOP_LATE;
        hop->first_us = ledger->line_us;
    }
    hop->last_us = ledger->line_us;
    return hop;
}

static void set_from(struct ledger *ledger, struct hop *hop, struct log_slice from)
{
    if (!hop->from)
        hop->from = text_cut(ledger, from);
}

static void begin_smtp(struct ledger *ledger, struct hop *hop, const struct log_event *event)
{
    hop->flags |= HOP_BORN;
    if (!(hop->flags & HOP_ACCEPTED)) {
        hop_limbo(ledger, hop);
        hop_session_join(ledger, hop, ledger->line->pid);
    }
    /* A filter on this host gave it back, and smtpd was told the id before. */
    if (event->other_id.len > 0) {
        struct hop *before = hop_find(ledger, event->other_id, hop->host);
        if (before && before != hop && !hop->claimant)
            hop_attach(before, hop);
    }
}

/* What a session's end says of those of its messages that nothing else has shown to
 * be accepted. */
static void end_session(struct ledger *ledger, const struct log_event *event)
{
    uint16_t host = host_of(ledger, ledger->line->host);
    uint32_t pid = ledger->line->pid;
    for (struct hop *next, *hop = ledger->sessions[pid % SESSION_SLOTS]; hop; hop = next) {
        next = hop->chain_next;
        if (hop->pid != pid || hop->host != host)
            continue;
        bool whole = (hop->flags & HOP_ID_KNOWN) != 0;
        hop_session_leave(ledger, hop);
        if (whole && event->taken > 0 && event->taken == event->tried) {
            hop->flags |= HOP_TAKEN;
            hop_limbo_leave(ledger, hop);
        } else if (whole && event->taken != 0) {
            hop->flags |= HOP_DOUBTFUL;
        } else {
            hop->flags |= HOP_REFUSED;
            hop_limbo_leave(ledger, hop);
            hop_retire(ledger, hop);
        }
    }
}

/* ---- requeued: a new id -------------------------------------------------------- */

static struct hop **requeued_slot(struct ledger *ledger, const struct hop *hop)
{
    return &ledger->requeued[hop->message_hash % SESSION_SLOTS];
}

static void requeued(struct ledger *ledger, struct hop *hop)
{
    if (hop->flags & HOP_REQUEUED)
        return;
    hop_accept(ledger, hop);
    hop->flags |= HOP_REQUEUED;
    hop->flags &= ~(uint32_t)HOP_HELD;
    struct hop **slot = requeued_slot(ledger, hop);
    hop->chain_next = *slot;
    *slot = hop;
}

static void requeued_leave(struct ledger *ledger, struct hop *hop)
{
    struct hop **at = requeued_slot(ledger, hop);
    if (!(hop->flags & HOP_REQUEUED))
        return;
    while (*at && *at != hop)
        at = &(*at)->chain_next;
    if (*at)
        *at = hop->chain_next;
    hop->flags &= ~(uint32_t)HOP_REQUEUED;
}

/* hop has what `before` had. */
static void move_on(struct ledger *ledger, struct hop *before, struct hop *hop)
{
    if (before == hop || hop->claimant || !hop_attach(before, hop))
        return;
    requeued_leave(ledger, before);
    hop_accept(ledger, before);
    before->flags |= HOP_MOVED;
    rcpts_expect_open(ledger, hop, before);
    hop_retire(ledger, before);
}

/* Where pickup does not log orig_id=: the same Message-ID and sender, on this host. */
static void find_requeued(struct ledger *ledger, struct hop *hop)
{
    for (struct hop *old = *requeued_slot(ledger, hop); old; old = old->chain_next)
        if (old->host == hop->host && (old->flags & HOP_ID_KNOWN) &&
            old->message_hash == hop->message_hash && old->from && hop->from &&
            strcmp(old->from, hop->from) == 0) {
            move_on(ledger, old, hop);
            return;
        }
}

static void picked_up(struct ledger *ledger, struct hop *hop, const struct log_event *event)
{
    hop->flags |= HOP_BORN;
    hop_accept(ledger, hop);
    set_from(ledger, hop, event->from);
    if (event->other_id.len > 0) {
        struct hop *before = hop_find(ledger, event->other_id, hop->host);
        if (before)
            move_on(ledger, before, hop);
        else
            hop->flags |= HOP_LATE;
    }
}

static void set_message_id(struct ledger *ledger, struct hop *hop, struct log_slice id)
{
    if (hop->flags & HOP_ID_KNOWN)
        return;
    bool waits = (hop->flags & HOP_REQUEUED) != 0;
    requeued_leave(ledger, hop); /* where it is found depends on the Message-ID */
    hop->message_id = text_cut(ledger, id);
    hop->message_hash = hash_bytes(id.text, id.len);
    hop->flags |= HOP_ID_KNOWN;
    if (waits)
        requeued(ledger, hop);
    if ((hop->flags & HOP_BORN) && (hop->flags & HOP_ACCEPTED) && !hop->parent)
        find_requeued(ledger, hop);
    hop_settle(ledger, hop);
}

/* ---- recipients ------------------------------------------------------------------ */

/* A managed address in its canonical form, another as it stands. */
static struct log_slice canonical(struct ledger *ledger, struct log_slice text,
                                  char out[ADDR_TEXT_MAX + 1])
{
    if (text.len == 0 || !ledger->ports.mailbox(ledger->ports.context, text, out))
        out[0] = '\0';
    return out[0] ? (struct log_slice){ out, strlen(out) } : text;
}

static void announce(struct ledger *ledger, struct hop *hop, struct log_slice to,
                     const char *mailbox, uint8_t flags)
{
    char managed[ADDR_TEXT_MAX + 1];
    struct log_slice name = canonical(ledger, to, managed);
    if (name.len == 0)
        return;
    struct rcpt *r = rcpt_get(ledger, hop, name, no_text, mailbox[0] ? mailbox : managed);
    if (r)
        r->flags |= flags;
}

static void verdict(struct ledger *ledger, struct hop *hop, const struct log_event *event)
{
    char mailbox[ADDR_TEXT_MAX + 1] = "";
    ledger->hosts[hop->host].verdicts = true;
    set_from(ledger, hop, event->from);
    if (log_slice_is(event->verdict, "later") || log_slice_is(event->verdict, "reject"))
        return;
    (void)canonical(ledger, event->to.len > 0 ? event->to : event->from, mailbox);
    if (mailbox[0] && event->copy_to.len > 0)
        announce(ledger, hop, event->copy_to, mailbox, RCPT_COPY);
    if (mailbox[0] && event->new_to.len > 0)
        announce(ledger, hop, event->new_to, mailbox, RCPT_REDIRECT);
    else if (event->to.len > 0)
        announce(ledger, hop, event->to, "", 0);
}

/* "relay NUL text NUL". */
static void set_detail(struct ledger *ledger, struct rcpt *r, struct log_slice relay,
                       struct log_slice text)
{
    size_t cut = text.len < LEDGER_TEXT_MAX ? text.len : LEDGER_TEXT_MAX;
    size_t first = relay.len < LEDGER_TEXT_MAX ? relay.len : LEDGER_TEXT_MAX;
    char *detail = malloc(first + cut + 5);
    free(r->detail);
    r->detail = detail;
    if (!detail) {
        ledger->failed = true;
        return;
    }
    memcpy(detail, relay.text, first);
    detail[first] = '\0';
    memcpy(detail + first + 1, text.text, cut);
    memcpy(detail + first + 1 + cut, cut < text.len ? "..." : "", cut < text.len ? 4 : 1);
}

/* The line itself, in place of what was said. */
static void set_line(struct ledger *ledger, struct rcpt *r, const struct log_event *event)
{
    const struct log_line *line = ledger->line;
    char text[LEDGER_TEXT_MAX + 100];
    int n = snprintf(text, sizeof(text), "%.*s %.*s %.*s[%u]: %.*s: %.*s", (int)line->stamp.len,
                     line->stamp.text, (int)line->host.len, line->host.text,
                     (int)line->program.len, line->program.text, line->pid,
                     (int)line->id.len, line->id.text, (int)line->rest.len, line->rest.text);
    if (n < 0)
        n = 0;
    if ((size_t)n >= sizeof(text))
        n = (int)sizeof(text) - 1;
    set_detail(ledger, r, event->relay, (struct log_slice){ text, (size_t)n });
}

static bool by_service(const struct log_line *line, const char *service)
{
    size_t len = strlen(service);
    struct log_slice program = line->program;
    return program.len > len &&
           memcmp(program.text + program.len - len, service, len) == 0 &&
           program.text[program.len - len - 1] == '/';
}

/* Into a mailbox here, or another local address. */
static enum ledger_fate local_fate(struct ledger *ledger, const struct hop *hop,
                                   const char *to_mailbox)
{
    enum ledger_side side = side_of(ledger, hop->host);
    if (!to_mailbox[0])
        return FATE_SENT_ON;
    if (side == LEDGER_SIDE_UNKNOWN)
        return FATE_SIDE;
    switch (ledger->ports.judge(ledger->ports.context, to_mailbox,
                                ledger->hosts[hop->host].name, side, ledger->line_us,
                                ledger->line_end_us)) {
    case JUDGED_WRONG:
        return FATE_WRONG;
    case JUDGED_LOCKING:
        return FATE_LOCKING;
    case JUDGED_FINE:
        break;
    }
    return side == LEDGER_SIDE_OLD ? FATE_OLD : FATE_NEW;
}

static void sent(struct ledger *ledger, struct hop *hop, struct rcpt *r,
                 const struct log_event *event, const char *to_mailbox)
{
    bool smtp = by_service(ledger->line, "smtp") || (hop->flags & HOP_SENDMAIL);
    bool on_this_host = event->relay_address.len > 3 &&
                        (memcmp(event->relay_address.text, "127.", 4) == 0 ||
                         log_slice_is(event->relay_address, "::1"));
    if (r->state == RCPT_DONE || r->state == RCPT_PASSED) {
        r->again++;
        return;
    }
    r->state = RCPT_DONE;
    r->flags |= smtp ? RCPT_SMTP : 0;
    if (event->other_id.len > 0) {
        hop_claim(ledger, hop, r, event->other_id, true);
    } else if (event->remote_id.len > 0 && (r->mailbox_len > 0 || on_this_host)) {
        r->relay = r->mailbox_len > 0 ? relay_of(ledger, event->relay) : 0;
        hop_claim(ledger, hop, r, event->remote_id, false);
        if (r->mailbox_len > 0)
            set_detail(ledger, r, event->relay, event->remote_id);
        return;
    } else if (by_service(ledger->line, "discard")) {
        r->fate = FATE_DISCARDED;
    } else if (smtp) {
        r->fate = FATE_ELSEWHERE;
    } else {
        r->fate = (uint8_t)local_fate(ledger, hop, to_mailbox);
    }
    if (r->mailbox_len == 0)
        return;
    if (r->fate == FATE_WRONG)
        set_line(ledger, r, event);
    else if (ledger->ports.full || r->fate == FATE_DISCARDED || r->fate == FATE_ELSEWHERE)
        set_detail(ledger, r, event->relay, event->text);
}

static void one_delivery(struct ledger *ledger, struct hop *hop, struct log_slice address,
                         const struct log_event *event)
{
    char to_mailbox[ADDR_TEXT_MAX + 1] = "", orig_mailbox[ADDR_TEXT_MAX + 1] = "";
    struct log_slice to = canonical(ledger, address, to_mailbox);
    struct log_slice orig = canonical(ledger, event->orig_to, orig_mailbox);
    if (log_slice_equal(to, orig))
        orig = no_text;
    struct rcpt *r =
        rcpt_get(ledger, hop, to, orig, to_mailbox[0] ? to_mailbox : orig_mailbox);
    if (!r)
        return;
    if (!(r->flags & RCPT_TRIED))
        hop->tried++;
    r->flags |= RCPT_TRIED | (log_event_is_forward(ledger->line, event) ? RCPT_FORWARD : 0);
    r->us = ledger->line_us;
    switch (event->status) {
    case LOG_STATUS_SENT:
        sent(ledger, hop, r, event, to_mailbox);
        return;
    case LOG_STATUS_BOUNCED:
    case LOG_STATUS_EXPIRED:
        if (r->state == RCPT_DONE || r->state == RCPT_PASSED)
            return;
        r->state = RCPT_RETURNED;
        r->fate = FATE_RETURNED;
        break;
    case LOG_STATUS_DEFERRED:
    case LOG_STATUS_SOFTBOUNCE:
    case LOG_STATUS_OTHER:
        if (r->state > RCPT_DEFERRED)
            return;
        r->state = RCPT_DEFERRED;
        break;
    case LOG_STATUS_DELIVERABLE:
    case LOG_STATUS_UNDELIVERABLE:
        return;
    }
    if (r->mailbox_len > 0)
        set_detail(ledger, r, event->relay, event->text);
}

/* Sendmail logs no end: it is when all are done. */
static bool all_done(const struct hop *hop)
{
    uint32_t done = 0;
    for (const struct rcpt *r = hop->rcpts; r; r = r->next)
        done += r->state >= RCPT_PASSED;
    return hop->nrcpt > 0 && done >= hop->nrcpt;
}

static void delivery(struct ledger *ledger, struct hop *hop, const struct log_event *event)
{
    size_t at = 0;
    struct log_slice to;
    hop_accept(ledger, hop);
    if (event->status == LOG_STATUS_DELIVERABLE || event->status == LOG_STATUS_UNDELIVERABLE)
        hop->flags |= HOP_PROBE;
    /* Where its beginning is not in the log, this line says when it was. */
    if ((hop->flags & HOP_LATE) && event->delay > 0 &&
        ledger->line_us - event->delay * 1000 < hop->first_us)
        hop->first_us = ledger->line_us - event->delay * 1000;
    while (log_event_next_to(event, &at, &to))
        one_delivery(ledger, hop, to, event);
    if ((hop->flags & HOP_SENDMAIL) && all_done(hop) && !(hop->flags & HOP_REMOVED)) {
        hop->flags |= HOP_REMOVED;
        hop_retire(ledger, hop);
    }
}

/* ---- the rest of a hop's life ------------------------------------------------------ */

static void end_hop(struct ledger *ledger, struct hop *hop, uint32_t flag)
{
    hop_accept(ledger, hop);
    requeued_leave(ledger, hop);
    hop->flags |= flag;
    hop->flags &= ~(uint32_t)HOP_HELD;
    hop_retire(ledger, hop);
}

static void queued(struct ledger *ledger, struct hop *hop, const struct log_event *event)
{
    hop_accept(ledger, hop);
    hop->flags |= HOP_QUEUED;
    hop->flags &= ~(uint32_t)HOP_HELD;
    if (event->nrcpt > 0 && event->nrcpt < UINT32_MAX)
        hop->nrcpt = (uint32_t)event->nrcpt;
    set_from(ledger, hop, event->from);
    if (ledger->line->daemon != LOG_DAEMON_SENDMAIL)
        return;
    hop->flags |= HOP_SENDMAIL | HOP_BORN;
    if (event->message_id.len > 0)
        set_message_id(ledger, hop, event->message_id);
}

/* "milter-discard:" or "discard:" is silent: the client was told that it was taken. */
static void refused(struct ledger *ledger, struct hop *hop, const struct log_event *event)
{
    static const char discard[] = "discard: ", milter[] = "milter-discard: ";
    struct log_slice rest = ledger->line->rest;
    (void)event;
    if ((rest.len > sizeof(discard) && memcmp(rest.text, discard, sizeof(discard) - 1) == 0) ||
        (rest.len > sizeof(milter) && memcmp(rest.text, milter, sizeof(milter) - 1) == 0)) {
        end_hop(ledger, hop, HOP_DISCARDED | HOP_REMOVED);
        return;
    }
    hop_limbo_leave(ledger, hop);
    requeued_leave(ledger, hop);
    hop->flags |= HOP_REFUSED;
    hop_retire(ledger, hop);
}

static void by_admin(struct ledger *ledger, struct hop *hop, enum log_super super)
{
    switch (super) {
    case LOG_SUPER_HOLD:
        hop_accept(ledger, hop);
        hop->flags |= HOP_HELD;
        break;
    case LOG_SUPER_RELEASED:
        hop_accept(ledger, hop);
        hop->flags &= ~(uint32_t)HOP_HELD;
        break;
    case LOG_SUPER_REQUEUED:
        requeued(ledger, hop);
        break;
    case LOG_SUPER_REMOVED:
        end_hop(ledger, hop, HOP_KILLED);
        break;
    case LOG_SUPER_EXPIRED:
        hop_accept(ledger, hop);
        break;
    }
}

static void take(struct ledger *ledger, struct hop *hop, const struct log_event *event)
{
    switch (event->kind) {
    case LOG_EVENT_CLIENT:
        begin_smtp(ledger, hop, event);
        break;
    case LOG_EVENT_PICKUP:
        picked_up(ledger, hop, event);
        break;
    case LOG_EVENT_MESSAGE_ID:
        set_message_id(ledger, hop, event->message_id);
        if (!(hop->flags & (HOP_BORN | HOP_ACCEPTED)))
            hop_limbo(ledger, hop);
        break;
    case LOG_EVENT_REFUSED:
        refused(ledger, hop, event);
        break;
    case LOG_EVENT_HOLD:
        hop_accept(ledger, hop);
        hop->flags |= HOP_HELD;
        break;
    case LOG_EVENT_QUEUED:
        queued(ledger, hop, event);
        break;
    case LOG_EVENT_EXPIRED:
        hop_accept(ledger, hop);
        hop->flags |= HOP_EXPIRED;
        break;
    case LOG_EVENT_REMOVED:
        if (!(hop->flags & HOP_REMOVED))
            end_hop(ledger, hop, HOP_REMOVED);
        break;
    case LOG_EVENT_DELIVERY:
        delivery(ledger, hop, event);
        break;
    case LOG_EVENT_BOUNCE:
        if (event->notice == LOG_NOTICE_FAILURE && !event->postmaster && !hop->notice)
            hop->notice = text_cut(ledger, event->other_id);
        break;
    case LOG_EVENT_SUPER:
        by_admin(ledger, hop, event->super);
        break;
    case LOG_EVENT_VERDICT:
        if (!(hop->flags & (HOP_BORN | HOP_ACCEPTED)))
            hop_limbo(ledger, hop);
        verdict(ledger, hop, event);
        break;
    default:
        break;
    }
}

/* Whether this begins a message whose id may have been another's before. */
static bool begins(const struct ledger *ledger, const struct log_event *event)
{
    return event->kind == LOG_EVENT_CLIENT || event->kind == LOG_EVENT_PICKUP ||
           (event->kind == LOG_EVENT_QUEUED && ledger->line->daemon == LOG_DAEMON_SENDMAIL);
}

/* The lines that come before the queue manager has the message. */
static bool is_early(const struct ledger *ledger, const struct log_event *event)
{
    return begins(ledger, event) || event->kind == LOG_EVENT_MESSAGE_ID ||
           event->kind == LOG_EVENT_VERDICT || event->kind == LOG_EVENT_REFUSED;
}

bool ledger_take(struct ledger *ledger, const struct log_line *line,
                 const struct log_event *event, int64_t us)
{
    ledger->line = line;
    ledger->line_us = us;
    ledger->line_end_us = line->stamp_kind == LOG_STAMP_TRADITIONAL ? us + LEDGER_SECOND - 1 : us;
    if (us > ledger->now_us)
        ledger->now_us = us;
    struct log_host *host = &ledger->hosts[host_of(ledger, line->host)];
    if (us > host->last_us)
        host->last_us = us;
    if (event->kind == LOG_EVENT_DISCONNECT) {
        end_session(ledger, event);
    } else if (event->kind == LOG_EVENT_FENCE) {
        ledger->ports.fence(ledger->ports.context, event->text, (uint64_t)event->number, us);
    } else if (line->id.len > 0) {
        struct hop *hop =
            hop_of(ledger, line, begins(ledger, event), is_early(ledger, event));
        if (hop)
            take(ledger, hop, event);
    }
    hops_due(ledger);
    return !ledger->failed;
}

bool ledger_end(struct ledger *ledger)
{
    ledger->ended = true;
    hops_close_all(ledger);
    return !ledger->failed;
}
