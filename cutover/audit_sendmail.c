/*
 * audit_sendmail: what Sendmail's log needs beyond Postfix's.
 *
 * There is no line for a recipient that an alias or a .forward was made of: only those
 * that it was made into have one, and which those are is logged from LogLevel 11 on
 * ("alias", "forward"); the end of a message ("done;") from 10 on. Below that, a message
 * has ended when as many recipients have an end as nrcpts= said; so where one message
 * goes to a mailbox and to an alias of the same mailbox, one line is missing as if it
 * were lost.
 */
#include "audit_hop.h"

static const struct log_slice none = { "", 0 };

/* How many recipients should have a line: those that came, without the expanded ones. */
static uint32_t wanted(const struct hop *hop)
{
    return hop->nrcpt > hop->deleted ? hop->nrcpt - hop->deleted : 0;
}

/* The mailbox of an address; "": none of ours. */
static bool mailbox_of(struct ledger *ledger, struct log_slice address,
                       char out[ADDR_TEXT_MAX + 1])
{
    if (ledger->ports.mailbox(ledger->ports.context, address, out))
        return true;
    out[0] = '\0';
    return false;
}

void hop_expanded(struct ledger *ledger, struct hop *hop, const struct log_event *event)
{
    char mailbox[ADDR_TEXT_MAX + 1], own[ADDR_TEXT_MAX + 1];
    struct log_slice to;
    bool itself = false;
    mailbox_of(ledger, event->orig_to, mailbox);
    struct rcpt *from = hop_announce(ledger, hop, event->orig_to, mailbox, 0);
    bool was_target = from && (from->flags & RCPT_TARGET);
    hop->flags |= HOP_SENDMAIL;
    ledger->hosts[hop->host].says_alias = true;
    for (size_t at = 0; log_event_next_to(event, &at, &to);) {
        bool ours = mailbox_of(ledger, to, own);
        struct rcpt *r = hop_announce(ledger, hop, to, ours ? own : mailbox, RCPT_TARGET);
        if (r)
            r->flags &= (uint8_t)~RCPT_COVERED;
        itself = itself || r == from; /* "\\d" in d's own .forward */
    }
    if (!from || (from->flags & (RCPT_COVERED | RCPT_OWN)))
        return;
    if (itself) {
        from->flags |= RCPT_OWN;
        return;
    }
    hop->deleted += !was_target; /* else it is not of those that nrcpts= counted */
    from->flags = (uint8_t)((from->flags & ~RCPT_TARGET) | RCPT_COVERED);
}

/* Whether all that its aliases did is in the log. */
static bool is_exact(const struct ledger *ledger, const struct hop *hop)
{
    const struct log_host *host = &ledger->hosts[hop->host];
    return host->says_done && host->says_alias;
}

void hop_clone(struct ledger *ledger, struct hop *hop, struct log_slice id)
{
    struct hop *clone = hop_find(ledger, id, hop->host);
    hop->flags |= HOP_SENDMAIL | HOP_SPLIT;
    if (!clone) {
        clone = hop_new(ledger, id, hop->host);
        if (!clone)
            return;
        hop_retire(ledger, clone);
    }
    if (clone != hop && hop_attach(hop, clone))
        clone->flags |= HOP_SENDMAIL | HOP_BORN | HOP_CLONE;
    if ((hop->tried > 0 || wanted(hop) > 0) && is_exact(ledger, hop))
        return; /* it has recipients of its own: it will say "done" */
    hop->flags |= HOP_REMOVED;
    hop_retire(ledger, hop);
}

void hop_notice(struct ledger *ledger, struct hop *hop, struct log_slice id)
{
    struct hop *notice = hop_find(ledger, id, hop->host);
    if (notice || !(notice = hop_new(ledger, id, hop->host)))
        return;
    notice->flags |= HOP_SEEN | HOP_SENDMAIL | HOP_BORN;
    hop_accept(ledger, notice);
    notice->from = text_cut(ledger, notice, none);
    hop_retire(ledger, notice);
}

void hop_discarded(struct ledger *ledger, struct hop *hop, const struct log_event *event)
{
    char mailbox[ADDR_TEXT_MAX + 1];
    struct log_slice to;
    for (size_t at = 0; event->to_list && log_event_next_to(event, &at, &to);)
        if (mailbox_of(ledger, to, mailbox))
            (void)hop_announce(ledger, hop, to, mailbox, 0);
}

void hop_sendmail_done(struct ledger *ledger, struct hop *hop)
{
    uint32_t done = 0, tried = 0;
    if (ledger->hosts[hop->host].says_done)
        return;
    for (const struct rcpt *r = hop->rcpts; r; r = r->next) {
        tried += (r->flags & RCPT_TRIED) != 0;
        done += r->state >= RCPT_PASSED;
    }
    bool over = done == tried && (done >= wanted(hop) || (hop->flags & HOP_SPLIT));
    if (over && !(hop->flags & HOP_REMOVED)) {
        hop->flags |= HOP_REMOVED;
        hop_retire(ledger, hop);
    } else if (!over) {
        hop->flags &= ~(uint32_t)HOP_REMOVED;
    }
}

uint32_t hop_sendmail_lost(const struct ledger *ledger, const struct hop *hop,
                           const char **text)
{
    bool exact = is_exact(ledger, hop);
    if (hop->tried >= wanted(hop) || ((hop->flags & HOP_SPLIT) && !exact))
        return 0;
    if (!exact && hop->tried > 0)
        *text = "no line says how it was delivered (none is written for an alias of "
                "another recipient: Sendmail's LogLevel 11 would tell)";
    return wanted(hop) - hop->tried;
}
