/*
 * audit_tree: what hops become: trees of them, and when these go.
 *
 * A hop that has ended is kept for LEDGER_GRACE_US (hop_retire()), since a line that
 * refers to it may come later; then it is closed. When no hop of its tree is open,
 * tree_rows() judges the tree, and it is freed.
 *
 * hop_claim() is for ids that come from another server's reply: the claim waits until
 * the hop's Message-ID is known (hop_settle()), and only the same one is believed.
 */
#include "audit_hop.h"

#include <stdlib.h>

/* ---- trees -------------------------------------------------------------- */

struct hop *hop_root(struct hop *hop)
{
    while (hop->parent)
        hop = hop->parent;
    return hop;
}

bool hop_attach(struct hop *parent, struct hop *child)
{
    size_t depth = 0;
    if (child->parent)
        return false;
    for (struct hop *up = parent; up; up = up->parent)
        if (up == child || ++depth > HOP_DEPTH)
            return false;
    struct hop *root = hop_root(parent);
    child->parent = parent;
    root->tree_last->tree_next = child;
    root->tree_last = child->tree_last;
    root->open += child->open;
    return true;
}

static void tree_closed(struct ledger *ledger, struct hop *root);

/* One of the things that root waited for has come. */
static void tree_done(struct ledger *ledger, struct hop *hop)
{
    struct hop *root = hop_root(hop);
    if (--root->open == 0)
        tree_closed(ledger, root);
}

static void tree_closed(struct ledger *ledger, struct hop *root)
{
    tree_rows(ledger, root);
    for (struct hop *hop = root; hop;) {
        struct hop *next = hop->tree_next;
        hop_free(ledger, hop);
        hop = next;
    }
}

static void not_believed(struct ledger *ledger, struct rcpt *r)
{
    ledger->counts.unbelieved++;
    r->next_hop = NULL;
    r->state = RCPT_DONE;
    r->fate = FATE_ELSEWHERE;
}

static void follow(struct ledger *ledger, struct hop *child, const struct rcpt *r)
{
    rcpt_expect(ledger, child, r);
    if ((child->flags & HOP_SEEN) && r->relay && child->host)
        ledger->relays[r->relay].host = child->host;
}

void hop_settle(struct ledger *ledger, struct hop *hop)
{
    struct hop *parent = hop->claimant;
    if (!parent)
        return;
    bool other = (hop->flags & parent->flags & HOP_ID_KNOWN) &&
                 hop->message_hash != parent->message_hash;
    bool believed = !other && hop_attach(parent, hop);
    hop->claimant = NULL;
    for (struct rcpt *r = hop->passed; r; r = r->passed_next) {
        if (believed)
            follow(ledger, hop, r);
        else
            not_believed(ledger, r);
    }
    hop->passed = NULL;
    tree_done(ledger, parent);
}

void hop_claim(struct ledger *ledger, struct hop *parent, struct rcpt *rcpt,
               struct log_slice id, bool trusted)
{
    struct hop *child = hop_find(ledger, id, trusted ? parent->host : 0);
    if (child && !trusted && child->first_us + LEDGER_GRACE_US < parent->first_us)
        child = NULL; /* the id was used before */
    if (!child) {
        child = hop_new(ledger, id, trusted ? parent->host : 0);
        if (!child)
            return;
        hop_retire(ledger, child);
    }
    if (child == parent || (child->parent && child->parent != parent) ||
        (child->claimant && child->claimant != parent)) {
        not_believed(ledger, rcpt);
        return;
    }
    rcpt->state = RCPT_PASSED;
    rcpt->next_hop = child;
    if (child->parent) {
        follow(ledger, child, rcpt);
        return;
    }
    rcpt->passed_next = child->passed;
    child->passed = rcpt;
    if (child->claimant)
        return;
    child->claimant = parent;
    hop_root(parent)->open++;
    if (trusted || ((child->flags & HOP_ID_KNOWN) && (child->flags & HOP_SEEN)))
        hop_settle(ledger, child);
}

/* ---- when they go ------------------------------------------------------- */

static bool due_push(struct ledger *ledger, struct hop *hop, int64_t us)
{
    if (ledger->due_count == ledger->due_size) {
        size_t size = ledger->due_size ? ledger->due_size * 2 : 1024;
        struct due *dues = malloc(size * sizeof(*dues));
        if (!dues)
            return false;
        for (size_t i = 0; i < ledger->due_count; i++)
            dues[i] = ledger->dues[(ledger->due_first + i) & (ledger->due_size - 1)];
        free(ledger->dues);
        ledger->dues = dues;
        ledger->due_size = size;
        ledger->due_first = 0;
    }
    ledger->dues[(ledger->due_first + ledger->due_count++) & (ledger->due_size - 1)] =
        (struct due){ hop, us };
    return true;
}

void hop_retire(struct ledger *ledger, struct hop *hop)
{
    if (due_push(ledger, hop, ledger->now_us + LEDGER_GRACE_US))
        hop->refs++;
    else
        ledger->failed = true;
}

/* Whether nothing more is to be waited for: it ended, or was only ever claimed. */
static bool is_over(const struct hop *hop)
{
    return (hop->flags & HOP_ENDED) || !(hop->flags & HOP_SEEN);
}

static void hop_close(struct ledger *ledger, struct hop *hop)
{
    if (hop->flags & HOP_CLOSED)
        return;
    hop_limbo_leave(ledger, hop);
    hop_settle(ledger, hop);
    hop->flags |= HOP_CLOSED;
    tree_done(ledger, hop);
}

static struct hop *due_ahead(const struct ledger *ledger, size_t by)
{
    size_t at = (ledger->due_first + by) & (ledger->due_size - 1);
    return by < ledger->due_count ? ledger->dues[at].hop : NULL;
}

/* It is minutes of the log since a hop that is due was looked at: it has left the
 * processor's cache. First the hop, then what it points to. */
static void fetch_ahead(const struct ledger *ledger)
{
    const char *block = (const char *)due_ahead(ledger, 4);
    for (size_t i = 0; block && i < HOP_BLOCK * 3 / 4; i += 64)
        __builtin_prefetch(block + i);
    const struct hop *hop = due_ahead(ledger, 1);
    if (hop)
        __builtin_prefetch(&ledger->buckets[hop->id_hash & (ledger->bucket_count - 1)]);
}

void hops_due(struct ledger *ledger)
{
    while (ledger->due_count > 0 && ledger->dues[ledger->due_first].us < ledger->now_us) {
        struct hop *hop = ledger->dues[ledger->due_first].hop;
        fetch_ahead(ledger);
        ledger->due_first = (ledger->due_first + 1) & (ledger->due_size - 1);
        ledger->due_count--;
        if (--hop->refs == 0 && is_over(hop))
            hop_close(ledger, hop);
    }
    while (ledger->limbo && ledger->limbo->first_us + LEDGER_LIMBO_US < ledger->now_us) {
        struct hop *hop = ledger->limbo;
        hop_limbo_leave(ledger, hop);
        if (hop->flags & HOP_TAKEN)
            continue;
        hop->flags |= HOP_REFUSED;
        if (hop->refs == 0)
            hop_close(ledger, hop);
    }
}

void hop_limbo(struct ledger *ledger, struct hop *hop)
{
    if (hop->flags & (HOP_LIMBO | HOP_ACCEPTED))
        return;
    hop->flags |= HOP_LIMBO;
    hop->limbo_next = NULL;
    hop->limbo_prev = ledger->limbo_last;
    if (ledger->limbo_last)
        ledger->limbo_last->limbo_next = hop;
    else
        ledger->limbo = hop;
    ledger->limbo_last = hop;
}

void hop_session_join(struct ledger *ledger, struct hop *hop, uint32_t pid)
{
    if (pid == 0 || hop->pid)
        return;
    struct hop **slot = &ledger->sessions[pid % SESSION_SLOTS];
    hop->pid = pid;
    hop->chain_next = *slot;
    *slot = hop;
}

void hop_session_leave(struct ledger *ledger, struct hop *hop)
{
    struct hop **at = &ledger->sessions[hop->pid % SESSION_SLOTS];
    if (hop->pid == 0)
        return;
    while (*at && *at != hop)
        at = &(*at)->chain_next;
    if (*at)
        *at = hop->chain_next;
    hop->pid = 0;
}

void hop_limbo_leave(struct ledger *ledger, struct hop *hop)
{
    if (!(hop->flags & HOP_LIMBO))
        return;
    hop->flags &= ~(uint32_t)HOP_LIMBO;
    hop_session_leave(ledger, hop);
    if (hop->limbo_prev)
        hop->limbo_prev->limbo_next = hop->limbo_next;
    else
        ledger->limbo = hop->limbo_next;
    if (hop->limbo_next)
        hop->limbo_next->limbo_prev = hop->limbo_prev;
    else
        ledger->limbo_last = hop->limbo_prev;
}

void hop_accept(struct ledger *ledger, struct hop *hop)
{
    if (hop->flags & HOP_ACCEPTED)
        return;
    hop_limbo_leave(ledger, hop);
    hop->flags |= HOP_ACCEPTED;
}

/* ---- the end ------------------------------------------------------------ */

static int compare_age(const void *left, const void *right)
{
    const struct hop *a = *(struct hop *const *)left, *b = *(struct hop *const *)right;
    if (a->first_us != b->first_us)
        return a->first_us < b->first_us ? -1 : 1;
    return a->serial < b->serial ? -1 : 1;
}

void hops_close_all(struct ledger *ledger)
{
    size_t n = 0, count = ledger->hop_count;
    struct hop **all = calloc(count + 1, sizeof(struct hop *));
    if (!all) {
        ledger->failed = true;
        return;
    }
    for (size_t i = 0; i < ledger->bucket_count; i++)
        for (struct hop *hop = ledger->buckets[i]; hop; hop = hop->same_bucket)
            all[n++] = hop;
    qsort(all, n, sizeof(struct hop *), compare_age);
    ledger->due_count = 0;
    /* First everything is settled, so that each tree is whole; meanwhile none may go. */
    for (size_t i = 0; i < n; i++)
        hop_root(all[i])->open++;
    for (size_t i = 0; i < n; i++)
        hop_settle(ledger, all[i]);
    /* Then only roots are closed, and with them all that is below. */
    for (size_t i = 0; i < n; i++)
        if (all[i]->parent)
            all[i] = NULL;
    for (size_t i = 0; i < n; i++)
        if (all[i])
            tree_closed(ledger, all[i]);
    free(all);
}
