/*
 * plan: the steps of a cutover as a table and lists. See plan.h.
 *
 * The way of a mailbox that moves: unprobed, ready, locked, queued, syncing,
 * synced, moved.  It may come back from synced to locked once more: a host that
 * was registered after the fence has not confirmed it, so what it delivered in
 * between is not copied.  The domain's own record is parked until it may be locked,
 * then ready and locked like a mailbox, and parked again until it may be flipped:
 * there is nothing to sync.  Lists are linked by index, both ways; a mailbox goes
 * from one to the other in constant time.
 *
 * Limits: as many mailboxes as memory holds (about 150 bytes each).
 */
#include "config.h"

#include "plan.h"

#include <stdio.h>
#include <string.h>

#include "fnv.h"

#define WAY(step) (1U << STEP_##step)

static const unsigned ways[STEP_COUNT] = {
    [STEP_PARKED] = WAY(READY) | WAY(SYNCED) | WAY(UNLOCKING) | WAY(LEFT),
    [STEP_UNPROBED] = WAY(READY) | WAY(REFUSED) | WAY(UNDECIDED) | WAY(LEFT) |
                      WAY(UNLOCKING) | WAY(FAILED),
    [STEP_READY] = WAY(LOCKED) | WAY(ALREADY) | WAY(FAILED) | WAY(LEFT) | WAY(UNLOCKING),
    [STEP_LOCKED] = WAY(QUEUED) | WAY(PARKED) | WAY(UNLOCKING) | WAY(LEFT),
    [STEP_QUEUED] = WAY(SYNCING) | WAY(FAILED) | WAY(UNLOCKING) | WAY(LEFT),
    [STEP_SYNCING] = WAY(QUEUED) | WAY(SYNCED) | WAY(UNLOCKING) | WAY(FAILED) | WAY(LEFT),
    [STEP_SYNCED] = WAY(MOVED) | WAY(LOCKED) | WAY(FAILED) | WAY(UNLOCKING) | WAY(LEFT),
    [STEP_UNLOCKING] = WAY(REFUSED) | WAY(UNDECIDED) | WAY(FAILED) | WAY(LEFT),
};

static const char *const names[STEP_COUNT] = {
    [STEP_PARKED] = "parked",   [STEP_UNPROBED] = "unprobed",
    [STEP_READY] = "ready",     [STEP_LOCKED] = "locked",
    [STEP_QUEUED] = "queued",   [STEP_SYNCING] = "syncing",
    [STEP_SYNCED] = "synced",   [STEP_UNLOCKING] = "unlocking",
    [STEP_MOVED] = "moved",     [STEP_ALREADY] = "already",
    [STEP_REFUSED] = "refused", [STEP_UNDECIDED] = "undecided",
    [STEP_FAILED] = "failed",   [STEP_LEFT] = "left",
};

const char *step_name(enum step step)
{
    return names[step];
}

bool plan_way(enum step from, enum step to)
{
    return ways[from] & (1U << to);
}

static void append(struct plan *plan, size_t box, enum step step)
{
    struct plan_list *list = &plan->lists[step];
    struct mailbox *m = &plan->boxes[box];
    m->step = step;
    m->prev = list->tail;
    m->next = PLAN_NONE;
    if (list->tail == PLAN_NONE)
        list->head = box;
    else
        plan->boxes[list->tail].next = box;
    list->tail = box;
    list->n++;
}

static void take_out(struct plan *plan, size_t box)
{
    struct mailbox *m = &plan->boxes[box];
    struct plan_list *list = &plan->lists[m->step];
    if (m->prev == PLAN_NONE)
        list->head = m->next;
    else
        plan->boxes[m->prev].next = m->next;
    if (m->next == PLAN_NONE)
        list->tail = m->prev;
    else
        plan->boxes[m->next].prev = m->prev;
    list->n--;
}

void plan_init(struct plan *plan, struct mailbox *boxes, size_t n)
{
    plan->boxes = boxes;
    plan->n = n;
    for (int step = 0; step < STEP_COUNT; step++)
        plan->lists[step] = (struct plan_list){ PLAN_NONE, PLAN_NONE, 0 };
    for (size_t i = 0; i < n; i++)
        append(plan, i, boxes[i].step);
}

bool plan_set(struct plan *plan, size_t box, enum step to)
{
    if (!plan_way(plan->boxes[box].step, to))
        return false;
    take_out(plan, box);
    append(plan, box, to);
    return true;
}

size_t plan_ended(const struct plan *plan)
{
    size_t n = 0;
    for (int step = STEP_MOVED; step < STEP_COUNT; step++)
        n += plan->lists[step].n;
    return n;
}

/* ---- how many at a time -------------------------------------------------- */

size_t plan_batch_size(int jobs, double rate, double fence_s, size_t fixed)
{
    if (fixed > 0)
        return fixed;
    size_t least = (size_t)(jobs > 0 ? jobs : 1) * 4;
    if (least > BATCH_MAX)
        return BATCH_MAX;
    if (!(rate > 0) || !(fence_s > 0))
        return least;
    double fitting = rate * fence_s;
    if (fitting >= BATCH_MAX)
        return BATCH_MAX;
    return fitting > (double)least ? (size_t)fitting : least;
}

bool plan_lock_now(size_t remaining, double rate, double fence_s)
{
    if (remaining == 0)
        return true;
    /* A fifth more: a fence may take longer than the last one did. */
    return rate > 0 && (double)remaining / rate <= fence_s * 1.2;
}

double plan_percentile(const double *sorted, size_t n, double p)
{
    if (n == 0)
        return 0;
    double rank = p * (double)n;
    size_t i = (size_t)rank;
    if ((double)i < rank)
        i++; /* nearest rank: rounded up */
    return sorted[i == 0 ? 0 : i > n ? n - 1 : i - 1];
}

/* ---- file names ------------------------------------------------------------ */

static bool plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("._+=@-", c) != NULL);
}

/* Tells long names apart, protects from nothing. */
static uint64_t hash(const char *text)
{
    return fnv_hash(0, text, strlen(text));
}

void plan_file_name(const char *text, char out[PLAN_FILE_NAME_MAX + 1])
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n = 0;
    for (const char *s = text; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (n + 3 > 200) {
            int len = snprintf(out + n, PLAN_FILE_NAME_MAX + 1 - n, "%%%016llx",
                               (unsigned long long)hash(text));
            n += len > 0 ? (size_t)len : 0;
            break;
        }
        if (plain(c) && !(c == '.' && s == text)) {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = digits[c >> 4];
            out[n++] = digits[c & 15];
        }
    }
    out[n] = '\0';
}
