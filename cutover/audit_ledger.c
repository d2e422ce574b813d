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

#define MESSAGE_ID_LOGGED 100

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
    ledger->relay_index = calloc(RELAY_PLACES, sizeof(*ledger->relay_index));
    ledger->sessions = calloc(SESSION_SLOTS, sizeof(struct hop *));
    ledger->requeued = calloc(SESSION_SLOTS, sizeof(struct hop *));
    ledger->host_count = ledger->relay_count = 1;
    if (!ledger->buckets || !ledger->hosts || !ledger->relays || !ledger->relay_index ||
        !ledger->sessions || !ledger->requeued) {
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
    free(ledger->relay_index);
    free(ledger->rows);
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

/* ---- hosts and relays --------------------------------------------------- */

char *name_copy(struct ledger *ledger, struct log_slice text)
{
    /* Not strndup(3): a NUL in a log line must not make it shorter than its length. */
    char *name = malloc(text.len + 1);
    if (!name) {
        ledger->failed = true;
        return NULL;
    }
    memcpy(name, text.text, text.len);
    name[text.len] = '\0';
    return name;
}

static bool is_host(const struct log_host *host, struct log_slice name)
{
    return host->name && host->len == name.len &&
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
    host->name = name_copy(ledger, name);
    if (!host->name)
        return 0;
    host->len = name.len;
    host->first_us = ledger->line_us;
    host->last_us = ledger->line_us;
    ledger->last_host = ledger->host_count++;
    return (uint16_t)ledger->last_host;
}

/* ---- a hop's first lines ------------------------------------------------ */

/* The hop of this event; of one that begins a message, and of any other where none
 * is known: a new one. */
static struct hop *hop_of(struct ledger *ledger, const struct log_line *line, bool begins,
                          bool early)
{
    uint16_t host = ledger->line_host;
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

void hop_from(struct ledger *ledger, struct hop *hop, struct log_slice from)
{
    if (!hop->from)
        hop->from = text_cut(ledger, hop, from);
}

static void begin_smtp(struct ledger *ledger, struct hop *hop,
                       const struct log_event *event)
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
    uint16_t host = ledger->line_host;
    uint32_t pid = ledger->line->pid;
    for (struct hop *next, *hop = ledger->sessions[pid % SESSION_SLOTS]; hop;
         hop = next) {
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

/* ---- requeued: a new id ------------------------------------------------- */

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
            strcmp(old->from, hop->from) == 0 && old->message_id && hop->message_id &&
            strcmp(old->message_id, hop->message_id) == 0) {
            move_on(ledger, old, hop);
            return;
        }
}

static void picked_up(struct ledger *ledger, struct hop *hop,
                      const struct log_event *event)
{
    hop->flags |= HOP_BORN;
    hop_accept(ledger, hop);
    hop_from(ledger, hop, event->from);
    if (event->other_id.len > 0) {
        struct hop *before = hop_find(ledger, event->other_id, hop->host);
        if (before)
            move_on(ledger, before, hop);
        else
            hop->flags |= HOP_LATE;
    }
}

/* Sendmail logs 100 bytes of it, and a backslash as two: so it is compared. */
static uint64_t message_id_hash(struct log_slice id)
{
    char plain[MESSAGE_ID_LOGGED];
    size_t n = 0;
    if (id.len > MESSAGE_ID_LOGGED)
        id.len = MESSAGE_ID_LOGGED;
    if (!memchr(id.text, '\\', id.len))
        return ledger_hash(id.text, id.len);
    for (size_t i = 0; i < id.len; i++)
        if (id.text[i] != '\\')
            plain[n++] = id.text[i];
    return ledger_hash(plain, n);
}

static void set_message_id(struct ledger *ledger, struct hop *hop, struct log_slice id)
{
    if (hop->flags & HOP_ID_KNOWN)
        return;
    bool waits = (hop->flags & HOP_REQUEUED) != 0;
    requeued_leave(ledger, hop); /* where it is found depends on the Message-ID */
    hop->message_id = text_cut(ledger, hop, id);
    hop->message_hash = message_id_hash(id);
    hop->flags |= HOP_ID_KNOWN;
    if (waits)
        requeued(ledger, hop);
    if ((hop->flags & HOP_BORN) && (hop->flags & HOP_ACCEPTED) && !hop->parent)
        find_requeued(ledger, hop);
    hop_settle(ledger, hop);
}

/* ---- the rest of a hop's life ------------------------------------------- */

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
    /* In Sendmail's log a rule's quarantine comes before. */
    if (ledger->line->daemon != LOG_DAEMON_SENDMAIL)
        hop->flags &= ~(uint32_t)HOP_HELD;
    if (event->nrcpt > 0 && event->nrcpt < UINT32_MAX)
        hop->nrcpt = (uint32_t)event->nrcpt;
    hop_from(ledger, hop, event->from);
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
    if (event->discarded ||
        (rest.len > sizeof(discard) &&
         memcmp(rest.text, discard, sizeof(discard) - 1) == 0) ||
        (rest.len > sizeof(milter) &&
         memcmp(rest.text, milter, sizeof(milter) - 1) == 0)) {
        hop_discarded(ledger, hop, event);
        end_hop(ledger, hop, HOP_DISCARDED | HOP_REMOVED);
        return;
    }
    hop_limbo_leave(ledger, hop);
    requeued_leave(ledger, hop);
    if (ledger->line->daemon == LOG_DAEMON_SENDMAIL) /* its from= came before */
        hop->flags &= ~(uint32_t)(HOP_ACCEPTED | HOP_QUEUED);
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
        ledger->hosts[hop->host].says_done |= ledger->line->daemon == LOG_DAEMON_SENDMAIL;
        if (!(hop->flags & HOP_REMOVED))
            end_hop(ledger, hop, HOP_REMOVED);
        break;
    case LOG_EVENT_EXPANDED:
        hop_expanded(ledger, hop, event);
        break;
    case LOG_EVENT_CLONE:
        hop_clone(ledger, hop, event->other_id);
        break;
    case LOG_EVENT_DELIVERY:
        hop_delivery(ledger, hop, event);
        break;
    case LOG_EVENT_BOUNCE:
        if (event->notice == LOG_NOTICE_FAILURE && !event->postmaster && !hop->notice)
            hop->notice = text_cut(ledger, hop, event->other_id);
        if (ledger->line->daemon == LOG_DAEMON_SENDMAIL)
            hop_notice(ledger, hop, event->other_id);
        break;
    case LOG_EVENT_SUPER:
        by_admin(ledger, hop, event->super);
        break;
    case LOG_EVENT_VERDICT:
        if (!(hop->flags & (HOP_BORN | HOP_ACCEPTED)))
            hop_limbo(ledger, hop);
        hop_verdict(ledger, hop, event);
        break;
    default:
        break;
    }
}

/* Whether this begins a message whose id may have been another's before. */
static bool begins(const struct ledger *ledger, const struct log_event *event)
{
    return event->kind == LOG_EVENT_CLIENT || event->kind == LOG_EVENT_PICKUP ||
           (event->kind == LOG_EVENT_QUEUED &&
            ledger->line->daemon == LOG_DAEMON_SENDMAIL);
}

/* The lines that come before the queue manager has the message. */
static bool is_early(const struct ledger *ledger, const struct log_event *event)
{
    return begins(ledger, event) || event->kind == LOG_EVENT_MESSAGE_ID ||
           event->kind == LOG_EVENT_VERDICT || event->kind == LOG_EVENT_REFUSED ||
           (event->kind == LOG_EVENT_HOLD && /* by a rule, before from= */
            ledger->line->daemon == LOG_DAEMON_SENDMAIL);
}

bool ledger_take(struct ledger *ledger, const struct log_line *line,
                 const struct log_event *event, int64_t us)
{
    ledger->line = line;
    ledger->line_us = us;
    ledger->line_end_us =
        line->stamp_kind == LOG_STAMP_TRADITIONAL ? us + LEDGER_SECOND - 1 : us;
    if (us > ledger->now_us)
        ledger->now_us = us;
    ledger->line_host = host_of(ledger, line->host);
    struct log_host *host = &ledger->hosts[ledger->line_host];
    if (us > host->last_us)
        host->last_us = us;
    if (event->kind == LOG_EVENT_DISCONNECT) {
        end_session(ledger, event);
    } else if (event->kind == LOG_EVENT_FENCE) {
        ledger->ports.fence(ledger->ports.context, event->text, (uint64_t)event->number,
                            us);
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
