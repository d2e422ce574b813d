/*
 * audit_fate: from a message whose hops are all known to its rows (audit_ledger.h).
 *
 * A recipient that was passed on has no row where it was: its row is in the hop that
 * it was passed to, where it is expected (rcpt_expect()). What was announced or
 * expected and never tried has the fate of its hop: on hold, removed by an admin,
 * expired; and none where the queue manager removed the hop, unless as many recipients
 * were tried as the queue file had (nrcpt=): then another address was made of it
 * (canonical_maps, a virtual alias).
 */
#include "audit_hop.h"

#include <stdio.h>
#include <stdlib.h>

#include "log_field.h"

struct rows {
    struct ledger *ledger;
    struct hop *root;
    struct ledger_row *items; /* ledger->rows */
    size_t count;
};

static const char *const fate_names[] = {
    [FATE_OLD] = "delivered-old",
    [FATE_LOCKING] = "delivered-while-locking",
    [FATE_NEW] = "delivered-new",
    [FATE_SIDE] = "delivered",
    [FATE_ELSEWHERE] = "accepted-elsewhere",
    [FATE_REDIRECTED] = "redirected",
    [FATE_SENT_ON] = "sent-on",
    [FATE_COPY] = "copy",
    [FATE_QUEUED] = "queued",
    [FATE_RETURNED] = "returned",
    [FATE_DISCARDED] = "discarded",
    [FATE_REMOVED] = "removed",
    [FATE_WRONG] = "wrong-place",
    [FATE_UNKNOWN] = "unknown",
};

const char *ledger_fate_name(enum ledger_fate fate)
{
    return fate_names[fate];
}

static const char *text_or_empty(const char *text)
{
    return text ? text : "";
}

static bool is_delivered(enum ledger_fate fate)
{
    return fate <= FATE_COPY || fate == FATE_WRONG;
}

static void row_begin(struct ledger_row *row, const char *mailbox, const char *to,
                      unsigned recipients)
{
    static const struct ledger_row none;
    log_copy(row, &none, sizeof(none));
    row->mailbox = mailbox;
    row->to = to;
    row->recipients = recipients;
}

static void row_add(struct rows *rows, const struct hop *hop, struct ledger_row row)
{
    struct ledger *ledger = rows->ledger;
    if (rows->count == ledger->rows_size) {
        size_t size = ledger->rows_size ? ledger->rows_size * 2 : 16;
        struct ledger_row *grown = reallocarray(ledger->rows, size, sizeof(*grown));
        if (!grown) {
            ledger->failed = true;
            return;
        }
        ledger->rows = rows->items = grown;
        ledger->rows_size = size;
    }
    row.host = text_or_empty(ledger->hosts[hop->host].name);
    row.id = hop->id;
    row.notice = text_or_empty(hop->notice);
    if (!row.where)
        row.where = "";
    if (!row.text)
        row.text = "";
    rows->items[rows->count++] = row;
}

/* ---- what was never tried, or not to an end ----------------------------- */

static bool was_accepted(const struct hop *hop)
{
    return (hop->flags & (HOP_ACCEPTED | HOP_TAKEN)) || hop->parent;
}

/* So long has its host logged, and nothing of this. */
static int64_t silence(const struct ledger *ledger, const struct hop *hop)
{
    return ledger->hosts[hop->host].last_us - hop->last_us;
}

/* The fate of a recipient that is still open, by what its hop is. */
static void open_fate(const struct ledger *ledger, const struct hop *hop, bool deferred,
                      struct ledger_row *row)
{
    row->fate = FATE_QUEUED;
    if (hop->flags & HOP_KILLED) {
        row->fate = FATE_REMOVED;
        row->text = "deleted by an admin (postsuper -d)";
    } else if (hop->flags & HOP_DISCARDED) {
        row->fate = FATE_DISCARDED;
    } else if (hop->flags & HOP_EXPIRED) {
        row->fate = FATE_RETURNED;
    } else if (hop->flags & HOP_REMOVED) {
        row->fate = FATE_UNKNOWN;
        row->text = "it left the queue, and no line says how it was delivered";
    } else if ((hop->flags & HOP_REFUSED) && !hop->parent) {
        row->fate = FATE_RETURNED;
    } else if (hop->flags & HOP_HELD) {
        row->where = "hold";
    } else if ((hop->flags & HOP_REQUEUED) && silence(ledger, hop) > LEDGER_GRACE_US) {
        row->fate = FATE_UNKNOWN;
        row->text = "requeued (postsuper -r), and pickup never took it up";
    } else if (hop->flags & HOP_REQUEUED) {
        row->where = "maildrop";
    } else if (silence(ledger, hop) > LEDGER_SILENT_US) {
        row->fate = FATE_UNKNOWN;
        row->text = "no line for hours, though the queue manager would have tried it";
    } else if (deferred) {
        row->where = "deferred";
    } else if (hop->flags & HOP_QUEUED) {
        row->where = "active";
    } else if (silence(ledger, hop) > LEDGER_GRACE_US) {
        row->fate = FATE_UNKNOWN;
        row->text = "accepted, and never seen by the queue manager";
    } else {
        row->where = "incoming";
    }
    row->fate_us = hop->last_us;
}

/* "" where it is the mailbox itself. */
static const char *other_address(const struct rcpt *r)
{
    return strcmp(rcpt_to(r), rcpt_mailbox(r)) == 0 ? "" : rcpt_to(r);
}

/* How many recipients of the queue file should have a line; 0: not known. */
static uint32_t recipients_of(const struct hop *hop)
{
    return hop->nrcpt > hop->deleted ? hop->nrcpt - hop->deleted : 0;
}

static void add_open(struct rows *rows, const struct hop *hop, const struct rcpt *r,
                     uint32_t *lost)
{
    struct ledger_row row;
    row_begin(&row, rcpt_mailbox(r), other_address(r), 1);
    if (hop->flags & HOP_MOVED)
        return;
    if ((hop->flags & HOP_REMOVED) && recipients_of(hop) > 0 &&
        hop->tried >= recipients_of(hop) && r->state == RCPT_ANNOUNCED &&
        !(r->flags & RCPT_TARGET))
        return;
    open_fate(rows->ledger, hop, r->state == RCPT_DEFERRED, &row);
    if (r->detail && row.fate != FATE_UNKNOWN && !row.text)
        row.text = r->detail + strlen(r->detail) + 1;
    if (r->us)
        row.fate_us = r->us;
    /* Tried ones are in the count of tried ones already. */
    if (row.fate == FATE_UNKNOWN && r->state == RCPT_ANNOUNCED)
        ++*lost;
    row_add(rows, hop, row);
}

/* Recipients that the queue file had, and that no line names. */
static void add_unnamed(struct rows *rows, const struct hop *hop, uint32_t lost,
                        size_t named)
{
    struct ledger_row row;
    row_begin(&row, "", "", 0);
    const struct ledger *ledger = rows->ledger;
    const char *doubt = NULL;
    if (hop->flags & (HOP_MOVED | HOP_LATE | HOP_PROBE | HOP_DISCARDED))
        return;
    if (hop->flags & HOP_SENDMAIL) {
        row.recipients = hop_sendmail_lost(ledger, hop, &doubt);
        row.recipients = row.recipients > lost ? row.recipients - lost : 0;
    } else if (hop->flags & HOP_REMOVED) {
        if (recipients_of(hop) > hop->tried + lost)
            row.recipients = recipients_of(hop) - hop->tried - lost;
        else if (hop->nrcpt == 0 && hop->rcpt_count == 0)
            row.recipients = 1;
        if (hop->flags & HOP_EXPIRED)
            return;
    } else if (named == 0 && hop->rcpt_count == 0 && !ledger->hosts[hop->host].verdicts &&
               !(hop->flags & HOP_REFUSED)) {
        /* The milter would have named those of a managed domain. */
        row.recipients = hop->nrcpt > 0 ? hop->nrcpt : 1;
    }
    if (row.recipients == 0)
        return;
    open_fate(ledger, hop, false, &row);
    if (doubt && row.fate == FATE_UNKNOWN)
        row.text = doubt;
    row_add(rows, hop, row);
}

/* ---- what was tried ----------------------------------------------------- */

/* It was passed on, and there are no lines of the hop that it was passed to. */
static enum ledger_fate unseen_fate(const struct ledger *ledger, const struct rcpt *r,
                                    const struct hop *hop, struct ledger_row *row)
{
    const struct relay *relay = &ledger->relays[r->relay];
    const struct log_host *host = &ledger->hosts[relay->host];
    bool local = r->next_hop->host != 0 && r->relay == 0; /* "forwarded as" */
    if (local)
        host = &ledger->hosts[hop->host];
    if ((local || relay->host != 0) && host->first_us <= r->us &&
        r->us + 5 * LEDGER_SECOND <= host->last_us) {
        row->text = "it went on under another queue id, of which the log has no line";
        return FATE_UNKNOWN;
    }
    return FATE_ELSEWHERE;
}

/* Accepted by somebody: what was it for? */
static enum ledger_fate sent_on_fate(const struct ledger *ledger, const struct rcpt *r,
                                     enum ledger_fate fate)
{
    struct log_slice to = { rcpt_to(r), r->to_len };
    char managed[ADDR_TEXT_MAX + 1];
    if (fate > FATE_COPY)
        return fate;
    if (r->flags & RCPT_COPY)
        return FATE_COPY;
    if (r->flags & RCPT_REDIRECT)
        return FATE_REDIRECTED;
    if (strcmp(rcpt_to(r), rcpt_mailbox(r)) == 0 ||
        ledger->ports.mailbox(ledger->ports.context, to, managed))
        return fate;
    if (ledger->ports.redirects_to(ledger->ports.context, to))
        return FATE_REDIRECTED;
    return FATE_SENT_ON;
}

static void add_tried(struct rows *rows, const struct hop *hop, const struct rcpt *r)
{
    struct ledger_row row;
    row_begin(&row, rcpt_mailbox(r), other_address(r), 1);
    row.again = r->again;
    row.fate = r->fate;
    row.fate_us = r->us;
    if (r->detail) {
        row.where = r->detail;
        row.text = r->detail + strlen(r->detail) + 1;
    }
    if (r->state == RCPT_PASSED) {
        if (r->next_hop && (r->next_hop->flags & HOP_SEEN))
            return;
        row.fate = r->next_hop ? unseen_fate(rows->ledger, r, hop, &row) : FATE_ELSEWHERE;
    }
    row.fate = sent_on_fate(rows->ledger, r, row.fate);
    row_add(rows, hop, row);
}

/* What a clone of Sendmail's delivered was announced for the hop that it was made of. */
static void cover_by_clones(struct hop *hop)
{
    for (const struct hop *clone = hop->tree_next; clone; clone = clone->tree_next)
        for (const struct rcpt *r = clone->rcpts;
             r && clone->parent == hop && (clone->flags & HOP_CLONE); r = r->next) {
            struct log_slice to = { rcpt_to(r), r->to_len }, none = { "", 0 };
            struct rcpt *announced = rcpt_find(hop, to, none);
            if (announced && !(announced->flags & RCPT_TRIED))
                announced->flags |= RCPT_COVERED;
        }
}

/* A line for one address stands for what was announced under another. */
static void cover(struct hop *hop)
{
    if (hop->flags & HOP_SPLIT)
        cover_by_clones(hop);
    for (struct rcpt *r = hop->rcpts; r; r = r->next) {
        struct rcpt *announced;
        if (!(r->flags & RCPT_TRIED) || r->orig_len == 0)
            continue;
        struct log_slice to = { rcpt_to(r), r->to_len },
                         orig = { rcpt_orig(r), r->orig_len };
        struct log_slice none = { "", 0 };
        struct rcpt *both[] = { rcpt_find(hop, orig, none), rcpt_find(hop, to, none) };
        for (size_t i = 0; i < 2; i++) {
            announced = both[i];
            if (!announced || announced == r || (announced->flags & RCPT_TRIED))
                continue;
            announced->flags |= RCPT_COVERED;
            r->flags |= announced->flags & (RCPT_REDIRECT | RCPT_COPY);
        }
    }
}

static void hop_rows(struct rows *rows, struct hop *hop)
{
    size_t before = rows->count;
    uint32_t lost = 0;
    if (!(hop->flags & HOP_SEEN) || (hop->flags & HOP_PROBE))
        return;
    if (!was_accepted(hop)) {
        rows->ledger->counts.unfinished++;
        return;
    }
    cover(hop);
    for (const struct rcpt *r = hop->rcpts; r; r = r->next) {
        if (r->mailbox_len == 0)
            continue;
        if (r->state >= RCPT_PASSED)
            add_tried(rows, hop, r);
        else if (!(r->flags & RCPT_COVERED))
            add_open(rows, hop, r, &lost);
    }
    add_unnamed(rows, hop, lost, rows->count - before);
}

/* ---- the message -------------------------------------------------------- */

static int compare_rows(const void *left, const void *right)
{
    const struct ledger_row *a = left, *b = right;
    int order = strcmp(a->mailbox, b->mailbox);
    if (order == 0)
        order = strcmp(a->to, b->to);
    if (order == 0) /* the worse one stands for both */
        order = (b->fate == FATE_WRONG) - (a->fate == FATE_WRONG);
    if (order == 0)
        order = (a->fate_us > b->fate_us) - (a->fate_us < b->fate_us);
    return order;
}

static void give_rows(struct rows *rows)
{
    const struct hop *root = rows->root, *named = root;
    const char *from = NULL; /* where no line of the first hop says it, another's does */
    rows->ledger->counts.messages++;
    if (rows->count > 1)
        qsort(rows->items, rows->count, sizeof(*rows->items), compare_rows);
    for (const struct hop *hop = root; hop && !(named->message_id && from);
         hop = hop->tree_next) {
        if (!named->message_id && hop->message_id)
            named = hop;
        if (!from)
            from = hop->from;
    }
    for (size_t i = 0; i < rows->count; i++) {
        struct ledger_row *row = &rows->items[i];
        while (is_delivered(row->fate) && row->mailbox[0] && i + 1 < rows->count &&
               is_delivered(row[1].fate) && strcmp(row->mailbox, row[1].mailbox) == 0 &&
               strcmp(row->to, row[1].to) == 0) {
            unsigned again = row->again + row[1].again + 1;
            row[1] = *row;
            row[1].again = again;
            row++;
            i++;
        }
        row->message = rows->ledger->counts.messages;
        row->from = from ? from : "?";
        row->message_id = text_or_empty(named->message_id);
        row->accepted_us = root->first_us;
        row->began_before = (root->flags & HOP_LATE) != 0;
        row->first_host = text_or_empty(rows->ledger->hosts[root->host].name);
        row->first_id = root->id;
        rows->ledger->ports.row(rows->ledger->ports.context, row);
    }
}

void tree_rows(struct ledger *ledger, struct hop *root)
{
    struct rows rows = { .ledger = ledger, .root = root, .items = ledger->rows };
    for (struct hop *hop = root; hop; hop = hop->tree_next)
        hop_rows(&rows, hop);
    if (rows.count > 0)
        give_rows(&rows);
}
