/*
 * fence: generations of locks and their way to "confirmed".
 *
 * A generation is opened by the first event that locks a mailbox and joined by
 * what follows within a moment (longer with fence = reload, where each costs
 * Postfix a reload). Several are under way at a time; they are confirmed in
 * order, whatever order they finish in.
 *
 * CACHES. qmgr(8), smtpd(8) and local(8) keep the last resolved address for
 * 30 s, counted from the reply. The count therefore begins when every lookup
 * that began before the event was read has been answered; or, when the
 * self-test failed at first, when it succeeded: until then Postfix may have
 * resolved without asking us.  With fence = reload the processes themselves
 * are replaced, and the wait is for the old ones to be gone.
 *
 * DRAIN. A message that was in incoming or active when the caches were fresh
 * may have been resolved before that. Each that may be on its way into a
 * locked mailbox is noted once and waited for until it is gone from those two
 * queues, or was seen in deferred or hold: it is resolved anew after that. With
 * fence = reload it is also enough that no old process delivers any more.
 *
 * Limits: SAMPLE_MAX addresses are kept of a generation, for the self-test.
 */
#include "fence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "queue.h"

#define SAMPLE_MAX       200
#define DOMAINS_MAX      50
#define SELFTEST_SLOW_MS 5000

enum stage { STAGE_OPEN, STAGE_SELFTEST, STAGE_CACHES, STAGE_DRAIN, STAGE_CONFIRMED };

struct sample {
    char domain[ADDR_DOMAIN_MAX + 1];
    char *locals[SAMPLE_MAX];
    size_t n;
    struct sample *next;
};

struct generation {
    uint64_t first_epoch, last_epoch;
    int64_t opened_ms, last_ms; /* first and last event */
    uint64_t started;           /* lookups begun at the last event */
    enum stage stage;
    struct sample *samples;
    size_t domains, sampled;
    bool selftest_failed;
    int64_t due_ms;   /* next self-test */
    int64_t retry_ms; /* its back-off */
    int64_t fresh_ms; /* caches are fresh then; 0: not known yet */
    bool reloading;
    bool noted; /* ids are those waited for */
    char (*ids)[QUEUE_ID_MAX];
    size_t id_count;
    char why[160];
    struct generation *next;
};

struct fence {
    struct fence_ports ports;
    enum conf_fence mode;
    uint64_t seen; /* last epoch given */
    struct generation *first, *last;
    size_t count;
    int64_t list_due_ms, list_wait_ms;
    char list_why[160];
};

struct fence *fence_new(const struct fence_ports *ports, enum conf_fence mode,
                        uint64_t confirmed)
{
    struct fence *fence = calloc(1, sizeof(*fence));
    if (!fence)
        return NULL;
    fence->ports = *ports;
    fence->mode = mode;
    fence->seen = confirmed;
    fence->list_wait_ms = FENCE_LIST_FIRST_MS;
    return fence;
}

static void generation_free(struct generation *generation)
{
    for (struct sample *sample = generation->samples; sample;) {
        struct sample *next = sample->next;
        for (size_t i = 0; i < sample->n; i++)
            free(sample->locals[i]);
        free(sample);
        sample = next;
    }
    free(generation->ids);
    free(generation);
}

void fence_free(struct fence *fence)
{
    if (!fence)
        return;
    for (struct generation *g = fence->first; g;) {
        struct generation *next = g->next;
        generation_free(g);
        g = next;
    }
    free(fence);
}

void fence_set_mode(struct fence *fence, enum conf_fence mode)
{
    fence->mode = mode;
}

/* ---- events ---------------------------------------------------------------- */

static int64_t now(const struct fence *fence)
{
    return fence->ports.now_ms(fence->ports.context);
}

/* Whether a line locks its mailbox as far as this host knows. */
static bool line_locks(const struct fence *fence, const struct event *event,
                       const char *record, size_t record_len)
{
    struct home home;
    if (event->op == EVENT_LOCK || event->op == EVENT_ROLLBACK)
        return true;
    if ((event->op != EVENT_IMPORT && event->op != EVENT_BASE) || !event->domain[0])
        return false; /* a base without domain lists hosts */
    memset(&home, 0, sizeof(home));
    if (!event_apply(event, record, record_len, &home) || home.state != HOME_LOCKED)
        return false;
    /* A base repeats what may have been confirmed long ago. */
    return event->op == EVENT_IMPORT || home.epoch > fence->seen;
}

static struct sample *sample_for(struct generation *generation, const char *domain)
{
    for (struct sample *sample = generation->samples; sample; sample = sample->next)
        if (strcmp(sample->domain, domain) == 0)
            return sample;
    if (generation->domains >= DOMAINS_MAX)
        return NULL;
    struct sample *sample = calloc(1, sizeof(*sample));
    if (!sample)
        return NULL;
    memcpy(sample->domain, domain, strlen(domain) + 1);
    sample->next = generation->samples;
    generation->samples = sample;
    generation->domains++;
    return sample;
}

/* Keeps an address for the self-test; one that is not kept is not tested. A mailbox
 * that was locked, unlocked and locked again within a moment is tested once. */
static void take_sample(struct generation *generation, const char *domain,
                        const char *local, size_t len)
{
    struct sample *sample = sample_for(generation, domain);
    if (!sample || sample->n == SAMPLE_MAX || generation->sampled >= SAMPLE_MAX * 2)
        return;
    for (size_t i = 0; i < sample->n; i++)
        if (strlen(sample->locals[i]) == len && !memcmp(sample->locals[i], local, len))
            return;
    char *copy = strndup(local, len);
    if (!copy)
        return;
    sample->locals[sample->n++] = copy;
    generation->sampled++;
}

static bool open_for(const struct fence *fence, const struct generation *generation,
                     int64_t at)
{
    if (!generation || generation->stage != STAGE_OPEN)
        return false;
    if (fence->mode == FENCE_RELOAD)
        return at < generation->last_ms + FENCE_JOIN_RELOAD_MS &&
               at < generation->opened_ms + FENCE_JOIN_MOST_MS;
    return at < generation->opened_ms + FENCE_JOIN_MS;
}

/* The generation that an event at this moment joins. */
static struct generation *open_generation(struct fence *fence, uint64_t first,
                                          uint64_t last)
{
    int64_t at = now(fence);
    struct generation *generation = fence->last;
    if (!open_for(fence, generation, at)) {
        generation = calloc(1, sizeof(*generation));
        if (!generation)
            return NULL;
        generation->first_epoch = first;
        generation->opened_ms = at;
        generation->retry_ms = FENCE_RETRY_FIRST_MS;
        if (fence->last)
            fence->last->next = generation;
        else
            fence->first = generation;
        fence->last = generation;
        fence->count++;
    }
    generation->last_epoch = last;
    generation->last_ms = at;
    generation->started = fence->ports.lookups_started(fence->ports.context);
    return generation;
}

bool fence_event(struct fence *fence, const struct event *event)
{
    struct generation *generation = NULL;
    const char *local, *record;
    size_t local_len, record_len, cursor = 0;
    bool base = event->op == EVENT_BASE;
    if (!base && event->at.epoch <= fence->seen)
        return true;
    /* The locks in a base are older than the base. */
    uint64_t first = base ? fence->seen + 1 : event->at.epoch;
    while (event_next_item(event, &cursor, &local, &local_len, &record, &record_len)) {
        if (!line_locks(fence, event, record, record_len))
            continue;
        if (!generation)
            generation = open_generation(fence, first, event->at.epoch);
        if (!generation)
            return false;
        take_sample(generation, event->domain, local, local_len);
    }
    if (!base)
        fence->seen = event->at.epoch;
    return true;
}

void fence_reached(struct fence *fence, uint64_t epoch)
{
    if (epoch > fence->seen)
        fence->seen = epoch;
}

/* ---- self-test --------------------------------------------------------------- */

static void step_selftest(struct fence *fence, struct generation *generation)
{
    enum fence_answer answer = FENCE_YES;
    if (now(fence) < generation->due_ms)
        return;
    for (struct sample *sample = generation->samples; sample && answer == FENCE_YES;
         sample = sample->next)
        answer = fence->ports.selftest(fence->ports.context, sample->domain,
                                       (const char *const *)sample->locals, sample->n,
                                       generation->why, sizeof(generation->why));
    if (answer != FENCE_YES) {
        generation->selftest_failed = true;
        generation->due_ms = now(fence) + generation->retry_ms;
        if (generation->retry_ms * 2 <= FENCE_RETRY_MOST_MS)
            generation->retry_ms *= 2;
        return;
    }
    generation->why[0] = '\0';
    generation->stage = STAGE_CACHES;
    /* Asked late, it says nothing about the time before. */
    if (generation->selftest_failed ||
        now(fence) > generation->last_ms + SELFTEST_SLOW_MS)
        generation->started = fence->ports.lookups_started(fence->ports.context);
}

/* ---- caches -------------------------------------------------------------------- */

static void to_drain(struct fence *fence, struct generation *generation)
{
    generation->stage = STAGE_DRAIN;
    generation->why[0] = '\0';
    fence->list_due_ms = 0;
    fence->list_wait_ms = FENCE_LIST_FIRST_MS;
}

static void step_wait(struct fence *fence, struct generation *generation)
{
    int64_t at = now(fence);
    if (generation->fresh_ms == 0) {
        if (fence->ports.lookups_answered(fence->ports.context) < generation->started) {
            snprintf(generation->why, sizeof(generation->why),
                     "waiting for lookups that began before the lock");
            return;
        }
        /* It is not known how long ago the last of them was answered. */
        generation->fresh_ms =
            at + FENCE_CACHE_MS + fence->ports.cache_slack(fence->ports.context);
    }
    if (at >= generation->fresh_ms) {
        to_drain(fence, generation);
        return;
    }
    snprintf(generation->why, sizeof(generation->why),
             "waiting %d s for Postfix' resolve caches",
             (int)((generation->fresh_ms - at + 999) / 1000));
}

/* One reload serves every generation that is ready for it. */
static void step_reload(struct fence *fence, struct generation *generation)
{
    enum fence_answer answer = FENCE_YES;
    if (now(fence) < generation->due_ms)
        return;
    if (!generation->reloading) {
        answer = fence->ports.reload(fence->ports.context, generation->why,
                                     sizeof(generation->why));
        for (struct generation *g = generation; g && answer == FENCE_YES; g = g->next)
            g->reloading |= g->stage == STAGE_CACHES;
    }
    if (answer == FENCE_YES)
        answer = fence->ports.settled(fence->ports.context, generation->why,
                                      sizeof(generation->why));
    if (answer == FENCE_YES) {
        for (struct generation *g = generation; g; g = g->next)
            if (g->stage == STAGE_CACHES && g->reloading)
                to_drain(fence, g);
        return;
    }
    generation->due_ms =
        now(fence) + (answer == FENCE_FAILED ? FENCE_RETRY_MOST_MS : FENCE_LIST_FIRST_MS);
}

static void step_caches(struct fence *fence, struct generation *generation)
{
    if (fence->mode == FENCE_RELOAD)
        step_reload(fence, generation);
    else
        step_wait(fence, generation);
}

/* ---- drain ----------------------------------------------------------------------- */

struct seen {
    char id[QUEUE_ID_MAX];
    bool in_flight, settled, relevant;
};
struct listing {
    struct seen *all;
    size_t n, size;
    bool failed;
};

static void take_message(void *context, const struct fence_message *message)
{
    struct listing *listing = context;
    if (listing->n == listing->size) {
        size_t size = listing->size ? listing->size * 2 : 256;
        struct seen *all = realloc(listing->all, size * sizeof(*all));
        if (!all) {
            listing->failed = true;
            return;
        }
        listing->all = all;
        listing->size = size;
    }
    struct seen *seen = &listing->all[listing->n++];
    memset(seen, 0, sizeof(*seen));
    strncpy(seen->id, message->id, sizeof(seen->id) - 1);
    seen->in_flight = message->in_flight;
    seen->settled = message->settled;
    seen->relevant = message->relevant;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct seen *)a)->id, ((const struct seen *)b)->id);
}

/* A message that moved while the queue was read is there twice: one of each. */
static void merge(struct listing *listing)
{
    size_t n = 0;
    if (listing->n == 0)
        return;
    qsort(listing->all, listing->n, sizeof(*listing->all), by_id);
    for (size_t i = 1; i < listing->n; i++) {
        struct seen *into = &listing->all[n], *one = &listing->all[i];
        if (strcmp(into->id, one->id) != 0) {
            listing->all[++n] = *one;
            continue;
        }
        into->in_flight |= one->in_flight;
        into->settled |= one->settled;
        into->relevant |= one->relevant;
    }
    listing->n = n + 1;
}

static bool waits(const struct seen *seen)
{
    return seen && seen->in_flight && !seen->settled;
}

static bool note(struct generation *generation, const struct listing *listing)
{
    size_t n = 0;
    generation->ids = calloc(listing->n ? listing->n : 1, sizeof(*generation->ids));
    if (!generation->ids)
        return false;
    for (size_t i = 0; i < listing->n; i++)
        if (waits(&listing->all[i]) && listing->all[i].relevant)
            memcpy(generation->ids[n++], listing->all[i].id, QUEUE_ID_MAX);
    generation->id_count = n;
    generation->noted = true;
    return true;
}

static void strike_out(struct generation *generation, const struct listing *listing)
{
    size_t n = 0;
    for (size_t i = 0; i < generation->id_count; i++) {
        struct seen key;
        memcpy(key.id, generation->ids[i], QUEUE_ID_MAX);
        if (listing->n > 0 &&
            waits(bsearch(&key, listing->all, listing->n, sizeof(key), by_id)))
            memmove(generation->ids[n++], generation->ids[i], QUEUE_ID_MAX);
    }
    generation->id_count = n;
}

/* After a reload the messages that were under way stay in incoming for a minute,
 * delivered or not (qmgr_active.c: "skipped, still being delivered"); but the
 * processes that deliver them end when they are done. */
static void quiet(struct fence *fence)
{
    bool wanted = false;
    for (struct generation *g = fence->first; g; g = g->next)
        wanted |= g->stage == STAGE_DRAIN && g->reloading;
    if (!wanted || fence->ports.quiet(fence->ports.context) != FENCE_YES)
        return;
    for (struct generation *g = fence->first; g; g = g->next)
        if (g->stage == STAGE_DRAIN && g->reloading)
            g->stage = STAGE_CONFIRMED;
}

static void drain_one(struct generation *generation, const struct listing *listing)
{
    if (!generation->noted) {
        if (!note(generation, listing))
            return;
    } else {
        strike_out(generation, listing);
    }
    if (generation->id_count == 0) {
        generation->stage = STAGE_CONFIRMED;
        return;
    }
    snprintf(generation->why, sizeof(generation->why),
             "waiting for %zu %s that began before the lock, e.g. %s",
             generation->id_count, generation->id_count == 1 ? "delivery" : "deliveries",
             generation->ids[0]);
}

/* One listing serves all generations in DRAIN. */
static void step_drain(struct fence *fence)
{
    bool wanted = false, judge = false;
    struct listing listing = { 0 };
    int64_t begun = now(fence);
    if (begun < fence->list_due_ms)
        return;
    quiet(fence);
    for (struct generation *g = fence->first; g; g = g->next) {
        wanted |= g->stage == STAGE_DRAIN;
        judge |= g->stage == STAGE_DRAIN && !g->noted;
    }
    if (!wanted)
        return;
    fence->list_why[0] = '\0';
    if (fence->ports.list(fence->ports.context, judge, take_message, &listing,
                          fence->list_why, sizeof(fence->list_why)) &&
        !listing.failed) {
        merge(&listing);
        for (struct generation *g = fence->first; g; g = g->next)
            if (g->stage == STAGE_DRAIN)
                drain_one(g, &listing);
    }
    free(listing.all);
    /* Never busy with listing for more than a third of the time. */
    int64_t took = now(fence) - begun;
    fence->list_due_ms =
        begun + took + (fence->list_wait_ms > 2 * took ? fence->list_wait_ms : 2 * took);
    if (fence->list_wait_ms * 2 <= FENCE_LIST_MOST_MS)
        fence->list_wait_ms *= 2;
}

/* ---- steps ------------------------------------------------------------------------- */

void fence_step(struct fence *fence)
{
    for (struct generation *g = fence->first; g; g = g->next) {
        if (g->stage == STAGE_OPEN && !open_for(fence, g, now(fence)))
            g->stage = STAGE_SELFTEST;
        if (g->stage == STAGE_SELFTEST)
            step_selftest(fence, g);
        if (g->stage == STAGE_CACHES)
            step_caches(fence, g);
    }
    step_drain(fence);
    while (fence->first && fence->first->stage == STAGE_CONFIRMED) {
        struct generation *done = fence->first;
        fence->first = done->next;
        if (!fence->first)
            fence->last = NULL;
        generation_free(done);
        fence->count--;
    }
}

void fence_retry(struct fence *fence)
{
    for (struct generation *g = fence->first; g; g = g->next)
        g->due_ms = 0;
}

uint64_t fence_epoch(const struct fence *fence)
{
    return fence->first ? fence->first->first_epoch - 1 : fence->seen;
}

size_t fence_pending(const struct fence *fence)
{
    return fence->count;
}

void fence_state(const struct fence *fence, char *out, size_t size)
{
    const struct generation *g = fence->first;
    const char *why = "";
    if (g && g->stage == STAGE_DRAIN && fence->list_why[0])
        why = fence->list_why;
    else if (g)
        why = g->why[0] ? g->why : "fence begun";
    int len = snprintf(out, size, "%s", why);
    if (len >= (int)size && size > 4)
        memcpy(out + size - 4, "...", 4);
}
