/*
 * audit_delivery: what becomes of the recipients of a hop: as sluice-milter announces
 * them, and as deliveries are logged.
 */
#include <stdio.h>
#include <stdlib.h>

#include "audit_hop.h"
#include "log_field.h"

static const struct log_slice no_text = { "", 0 };

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
    size_t at = ledger_hash(name.text, name.len) % RELAY_PLACES;
    for (; ledger->relay_index[at]; at = (at + 1) % RELAY_PLACES) {
        const struct relay *known = &ledger->relays[ledger->relay_index[at]];
        if (known->len == name.len && memcmp(known->name, name.text, name.len) == 0)
            return ledger->relay_index[at];
    }
    if (ledger->relay_count == RELAYS_MAX)
        return 0;
    struct relay *relay = &ledger->relays[ledger->relay_count];
    relay->name = name_copy(ledger, name);
    if (!relay->name)
        return 0;
    relay->len = name.len;
    ledger->relay_index[at] = (uint16_t)ledger->relay_count++;
    return ledger->relay_index[at];
}

/* A managed address in its canonical form, another as it stands. */
static struct log_slice canonical(struct ledger *ledger, struct log_slice text,
                                  char out[ADDR_TEXT_MAX + 1])
{
    if (text.len == 0 || !ledger->ports.mailbox(ledger->ports.context, text, out))
        out[0] = '\0';
    return out[0] ? (struct log_slice){ out, strlen(out) } : text;
}

struct rcpt *hop_announce(struct ledger *ledger, struct hop *hop, struct log_slice to,
                          const char *mailbox, uint8_t flags)
{
    char managed[ADDR_TEXT_MAX + 1];
    struct log_slice name = canonical(ledger, to, managed);
    struct rcpt *r = rcpt_get(ledger, hop, name, no_text, mailbox);
    if (r)
        r->flags |= flags;
    return r;
}

void hop_verdict(struct ledger *ledger, struct hop *hop, const struct log_event *event)
{
    char mailbox[ADDR_TEXT_MAX + 1];
    ledger->hosts[hop->host].verdicts = true;
    hop_from(ledger, hop, event->from);
    if (log_slice_is(event->verdict, "later") || log_slice_is(event->verdict, "reject"))
        return;
    struct log_slice name =
        canonical(ledger, event->to.len > 0 ? event->to : event->from, mailbox);
    if (mailbox[0] && event->copy_to.len > 0)
        (void)hop_announce(ledger, hop, event->copy_to, mailbox, RCPT_COPY);
    if (mailbox[0] && event->new_to.len > 0) {
        hop->deleted++;
        (void)hop_announce(ledger, hop, event->new_to, mailbox, RCPT_REDIRECT);
    } else if (event->to.len > 0)
        (void)rcpt_get(ledger, hop, name, no_text, mailbox);
}

/* "relay NUL text NUL". */
static void set_detail(struct ledger *ledger, struct hop *hop, struct rcpt *r,
                       struct log_slice relay, struct log_slice text)
{
    size_t cut = text.len < LEDGER_TEXT_MAX ? text.len : LEDGER_TEXT_MAX;
    size_t first = relay.len < LEDGER_TEXT_MAX ? relay.len : LEDGER_TEXT_MAX;
    hop_memory_free(hop, r->detail);
    char *detail = hop_memory(hop, first + cut + 5);
    r->detail = detail;
    if (!detail) {
        ledger->failed = true;
        return;
    }
    log_copy(detail, relay.text, first);
    detail[first] = '\0';
    log_copy(detail + first + 1, text.text, cut);
    memcpy(detail + first + 1 + cut, cut < text.len ? "..." : "", cut < text.len ? 4 : 1);
}

/* The line itself, in place of what was said. */
static void set_line(struct ledger *ledger, struct hop *hop, struct rcpt *r,
                     const struct log_event *event)
{
    const struct log_line *line = ledger->line;
    char text[LEDGER_TEXT_MAX + 100];
    int n =
        snprintf(text, sizeof(text), "%.*s %.*s %.*s[%u]: %.*s: %.*s",
                 (int)line->stamp.len, line->stamp.text, (int)line->host.len,
                 line->host.text, (int)line->program.len, line->program.text, line->pid,
                 (int)line->id.len, line->id.text, (int)line->rest.len, line->rest.text);
    if (n < 0)
        n = 0;
    if ((size_t)n >= sizeof(text))
        n = (int)sizeof(text) - 1;
    set_detail(ledger, hop, r, event->relay, (struct log_slice){ text, (size_t)n });
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
    /* Of Sendmail's mailers the local ones have no relay's address (log_event.h). */
    bool smtp = by_service(ledger->line, "smtp") ||
                ((hop->flags & HOP_SENDMAIL) && event->relay_address.len > 0);
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
            set_detail(ledger, hop, r, event->relay, event->remote_id);
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
        set_line(ledger, hop, r, event);
    else if (ledger->ports.full || r->fate == FATE_DISCARDED || r->fate == FATE_ELSEWHERE)
        set_detail(ledger, hop, r, event->relay, event->text);
}

/* The recipient of this address, where that is a mailbox's as it stands (nearly always):
 * then nobody need be asked which mailbox it means. */
static struct rcpt *known_mailbox(struct hop *hop, struct log_slice address)
{
    if (hop->index || memchr(address.text, '\\', address.len))
        return NULL;
    for (struct rcpt *r = hop->rcpts; r; r = r->next)
        if (r->to_len == address.len && r->orig_len == 0 &&
            r->mailbox_len == address.len &&
            memcmp(rcpt_to(r), address.text, address.len) == 0 &&
            memcmp(rcpt_mailbox(r), address.text, address.len) == 0)
            return r;
    return NULL;
}

static void one_delivery(struct ledger *ledger, struct hop *hop, struct log_slice address,
                         const struct log_event *event)
{
    char to_mailbox[ADDR_TEXT_MAX + 1], orig_mailbox[ADDR_TEXT_MAX + 1];
    struct rcpt *r = event->orig_to.len == 0 ? known_mailbox(hop, address) : NULL;
    if (r) {
        memcpy(to_mailbox, rcpt_to(r), r->to_len + 1u);
    } else {
        struct log_slice to = canonical(ledger, address, to_mailbox);
        struct log_slice orig = canonical(ledger, event->orig_to, orig_mailbox);
        if (log_slice_equal(to, orig))
            orig = no_text;
        r = rcpt_get(ledger, hop, to, orig, to_mailbox[0] ? to_mailbox : orig_mailbox);
    }
    if (!r)
        return;
    if (!(r->flags & RCPT_TRIED))
        hop->tried++;
    r->flags |=
        RCPT_TRIED | (log_event_is_forward(ledger->line, event) ? RCPT_FORWARD : 0);
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
        set_detail(ledger, hop, r, event->relay, event->text);
}

void hop_delivery(struct ledger *ledger, struct hop *hop, const struct log_event *event)
{
    size_t at = 0;
    struct log_slice to;
    hop_accept(ledger, hop);
    if (ledger->line->daemon == LOG_DAEMON_SENDMAIL)
        hop->flags |= HOP_SENDMAIL;
    if (event->status == LOG_STATUS_DELIVERABLE ||
        event->status == LOG_STATUS_UNDELIVERABLE)
        hop->flags |= HOP_PROBE;
    /* Where its beginning is not in the log, this line says when it was. */
    if ((hop->flags & HOP_LATE) && event->delay > 0 &&
        ledger->line_us - event->delay * 1000 < hop->first_us)
        hop->first_us = ledger->line_us - event->delay * 1000;
    while (log_event_next_to(event, &at, &to))
        one_delivery(ledger, hop, to, event);
    if (ledger->line->daemon == LOG_DAEMON_SENDMAIL)
        hop_sendmail_done(ledger, hop);
}
