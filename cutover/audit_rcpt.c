/*
 * audit_rcpt: the recipients of a hop, found by their address and the one that it was
 * made of (orig_to). Few are searched one by one, many by an index.
 */
#include <stdlib.h>

#include "audit_hop.h"

static uint32_t rcpt_hash(struct log_slice to, struct log_slice orig)
{
    uint64_t hash = ledger_hash(to.text, to.len);
    if (orig.len > 0)
        hash = hash * 31 + ledger_hash(orig.text, orig.len);
    return (uint32_t)hash;
}

static bool rcpt_is(const struct rcpt *r, uint32_t hash, struct log_slice to,
                    struct log_slice orig)
{
    return r->hash == hash && r->to_len == to.len && r->orig_len == orig.len &&
           memcmp(rcpt_to(r), to.text, to.len) == 0 &&
           memcmp(rcpt_orig(r), orig.text, orig.len) == 0;
}

static void index_put(struct hop *hop, struct rcpt *r)
{
    uint32_t at = r->hash & (hop->index_size - 1);
    while (hop->index[at])
        at = (at + 1) & (hop->index_size - 1);
    hop->index[at] = r;
}

/* Twice as many places as recipients, at least. */
static bool index_grow(struct hop *hop)
{
    uint32_t size = hop->index_size ? hop->index_size * 4 : HOP_INDEXED * 8;
    struct rcpt **index = calloc(size, sizeof(struct rcpt *));
    if (!index)
        return false;
    free(hop->index);
    hop->index = index;
    hop->index_size = size;
    for (struct rcpt *r = hop->rcpts; r; r = r->next)
        index_put(hop, r);
    return true;
}

struct rcpt *rcpt_find(struct hop *hop, struct log_slice to, struct log_slice orig)
{
    uint32_t hash = rcpt_hash(to, orig);
    if (!hop->index) {
        for (struct rcpt *r = hop->rcpts; r; r = r->next)
            if (rcpt_is(r, hash, to, orig))
                return r;
        return NULL;
    }
    for (uint32_t at = hash & (hop->index_size - 1); hop->index[at];
         at = (at + 1) & (hop->index_size - 1))
        if (rcpt_is(hop->index[at], hash, to, orig))
            return hop->index[at];
    return NULL;
}

static struct rcpt *rcpt_new(struct hop *hop, struct log_slice to, struct log_slice orig,
                             const char *mailbox)
{
    size_t len = strlen(mailbox);
    const size_t size = sizeof(struct rcpt) + to.len + orig.len + len + 3;
    struct rcpt *r = hop_memory(hop, size);
    if (!r)
        return NULL;
    memset(r, 0, size);
    r->hash = rcpt_hash(to, orig);
    r->to_len = (uint16_t)to.len;
    r->orig_len = (uint16_t)orig.len;
    r->mailbox_len = (uint16_t)len;
    memcpy(r->text, to.text, to.len);
    memcpy(r->text + to.len + 1, orig.text, orig.len);
    memcpy(r->text + to.len + orig.len + 2, mailbox, len);
    *hop->rcpt_end = r;
    hop->rcpt_end = &r->next;
    hop->rcpt_count++;
    return r;
}

struct rcpt *rcpt_get(struct ledger *ledger, struct hop *hop, struct log_slice to,
                      struct log_slice orig, const char *mailbox)
{
    /* No line is longer (LOG_LINE_MAX), but this keeps the lengths' type honest. */
    if (to.len > LOG_LINE_MAX || orig.len > LOG_LINE_MAX)
        return NULL;
    struct rcpt *r = rcpt_find(hop, to, orig);
    if (r)
        return r;
    if ((hop->index ? hop->rcpt_count * 2 >= hop->index_size
                    : hop->rcpt_count >= HOP_INDEXED) &&
        !index_grow(hop)) {
        ledger->failed = true;
        return NULL;
    }
    r = rcpt_new(hop, to, orig, mailbox);
    if (!r)
        ledger->failed = true;
    else if (hop->index)
        index_put(hop, r);
    return r;
}

static struct log_slice slice_of(const char *text, size_t len)
{
    return (struct log_slice){ text, len };
}

void rcpt_expect(struct ledger *ledger, struct hop *hop, const struct rcpt *rcpt)
{
    if (rcpt->mailbox_len == 0)
        return;
    struct rcpt *r = rcpt_get(ledger, hop, slice_of(rcpt_to(rcpt), rcpt->to_len),
                              slice_of("", 0), rcpt_mailbox(rcpt));
    if (!r)
        return;
    r->flags |= rcpt->flags & (RCPT_REDIRECT | RCPT_COPY);
    if (r->mailbox_len == 0) { /* its own line came before */
        r->mailbox = hop_memory(hop, rcpt->mailbox_len + 1u);
        if (r->mailbox)
            memcpy(r->mailbox, rcpt_mailbox(rcpt), rcpt->mailbox_len + 1u);
        else
            ledger->failed = true;
        r->mailbox_len = r->mailbox ? rcpt->mailbox_len : 0;
    }
}

void rcpts_expect_open(struct ledger *ledger, struct hop *hop, const struct hop *from)
{
    for (const struct rcpt *r = from->rcpts; r; r = r->next)
        if (r->mailbox_len && (r->state == RCPT_ANNOUNCED || r->state == RCPT_DEFERRED)) {
            struct rcpt *same =
                rcpt_get(ledger, hop, slice_of(rcpt_to(r), r->to_len),
                         slice_of(rcpt_orig(r), r->orig_len), rcpt_mailbox(r));
            if (same)
                same->flags |= r->flags & (RCPT_REDIRECT | RCPT_COPY | RCPT_COVERED);
        }
}
