/*
 * dns_snap_ttl: what snapshots say of old records and TTLs in caches (see dns_snap.h).
 * Pure.
 */
#include "dns_snap.h"

#include <string.h>

#define OTHER_TTL 600 /* what dns_plan_changes() lowers other types to */

/* The longest TTL of what was at a planned name in the way of the plan: records of its
 * type, a CNAME, all beside a planned CNAME; also what a wildcard made. low: only of what
 * is not low yet. 0: nothing. */
static uint32_t name_ttl(const struct dns_snap *snap, const struct dns_set *plan,
                         bool low)
{
    const struct dns_sets *const both[] = { &snap->sets, &snap->wild };
    uint32_t most = 0;
    for (size_t b = 0; b < 2; b++)
        for (size_t i = 0; i < both[b]->count; i++) {
            const struct dns_set *set = &both[b]->items[i];
            bool same = set->type == plan->type;
            uint32_t limit = !low ? 0 : same ? plan->ttl : OTHER_TTL;
            if (strcmp(set->name, plan->name) == 0 && set->count > 0 &&
                (same || set->type == DNS_CNAME ||
                 (plan->type == DNS_CNAME && plan->count > 0)) &&
                set->ttl > limit && set->ttl > most)
                most = set->ttl;
        }
    return most;
}

/* The longest that a cache keeps what a snapshot has and the plan has not; 0: all is as
 * planned there. */
static uint32_t old_ttl(const struct dns_snap *snap, const struct dns_sets *planned)
{
    uint32_t most = 0;
    for (size_t i = 0; i < planned->count; i++) {
        const struct dns_set *plan = &planned->items[i];
        const struct dns_set *live = dns_sets_find(&snap->sets, plan->name, plan->type);
        struct dns_sets scope = { 0 };
        /* A TXT set is cached whole, whatever its kinds. */
        bool known = dns_plan_scope(plan, live, &scope);
        bool as_planned =
            known && dns_plan_state(plan, dns_sets_find(&scope, plan->name, plan->type),
                                    false) == DNS_AS_PLANNED;
        uint32_t ttl = name_ttl(snap, plan, false);
        if (ttl == 0 && !live)
            ttl = snap->negative_ttl;
        dns_sets_free(&scope);
        if (as_planned)
            continue;
        if (ttl < 1)
            ttl = 1; /* it differs all the same */
        if (ttl > most)
            most = ttl;
    }
    return most;
}

const struct dns_snap *dns_snap_last_old(const struct dns_snap *snaps, size_t count,
                                         const struct dns_sets *planned)
{
    for (size_t i = count; i > 0; i--)
        if (old_ttl(&snaps[i - 1], planned) > 0)
            return &snaps[i - 1];
    return NULL;
}

int64_t dns_snap_quiet(const struct dns_snap *snaps, size_t count,
                       const struct dns_sets *planned, int64_t agreed, uint32_t *ttl)
{
    int64_t quiet = 0;
    *ttl = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t old = old_ttl(&snaps[i], planned);
        if (old == 0)
            continue;
        *ttl = old;
        int64_t gone = i + 1 < count ? snaps[i + 1].taken : agreed;
        if (gone > agreed)
            gone = agreed;
        if (gone + old > quiet)
            quiet = gone + old;
    }
    if (*ttl > 0 && agreed + 2 * (int64_t)*ttl > quiet)
        quiet = agreed + 2 * (int64_t)*ttl;
    return quiet;
}

int64_t dns_snap_lowered(const struct dns_snap *snaps, size_t count,
                         const struct dns_sets *planned, int64_t since, uint32_t *ttl)
{
    int64_t out = 0;
    *ttl = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t gone =
            i + 1 < count && snaps[i + 1].taken < since ? snaps[i + 1].taken : since;
        for (size_t p = 0; p < planned->count; p++) {
            const struct dns_set *plan = &planned->items[p];
            uint32_t was = name_ttl(&snaps[i], plan, true);
            if (was == 0)
                continue;
            *ttl = was > *ttl ? was : *ttl;
            out = gone + was > out ? gone + was : out;
        }
    }
    return out;
}

int64_t dns_snap_cached(const struct dns_snap *snaps, size_t count,
                        const struct dns_set *set, uint32_t *ttl)
{
    int64_t end = 0;
    *ttl = 0;
    for (size_t i = 0; i < count; i++) {
        const struct dns_set *was = dns_sets_find(&snaps[i].sets, set->name, set->type);
        if (!was || was->count == 0 || was->ttl <= set->ttl)
            continue;
        int64_t gone = i + 1 < count ? snaps[i + 1].taken + was->ttl : INT64_MAX;
        if (gone > end) {
            end = gone;
            *ttl = was->ttl;
        }
    }
    return end;
}
