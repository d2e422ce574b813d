/*
 * Snapshots of a zone: whatever the file holds, what is read from it is written
 * and read again as the same; and a plan of it can be made and shown.
 *
 * Sources: cutover/dns_snap_text.c cutover/dns_back.c cutover/dns_plan.c
 * Sources: cutover/dns_set.c lib/dnsrecord.c
 */
#include "../../cutover/dns_back.h"
#include "fuzz.h"

static void check_again(const struct dns_snap *snap)
{
    struct dns_snap again = { 0 };
    char *text = dns_snap_format(snap, "example.com");
    HOLDS(text);
    HOLDS(dns_snap_parse(text, &again) == NULL);
    HOLDS(again.taken == snap->taken && again.negative_ttl == snap->negative_ttl);
    HOLDS(strcmp(again.zone, snap->zone) == 0);
    HOLDS(again.asked.count == snap->asked.count);
    for (size_t i = 0; i < snap->sets.count; i++) {
        const struct dns_set *set = &snap->sets.items[i];
        const struct dns_set *same = dns_sets_find(&again.sets, set->name, set->type);
        HOLDS(set->count > 0 && same);
        HOLDS(dns_set_same(set, same) && set->ttl == same->ttl);
    }
    HOLDS(again.writes.count == snap->writes.count);
    HOLDS(again.written.count == snap->written.count);
    HOLDS(again.wild.count == snap->wild.count);
    free(text);
    dns_snap_free(&again);
}

static void check_way_back(const struct dns_snap *snap)
{
    const struct dns_sets none = { 0 };
    const struct dns_way way = {
        .to = snap, .snaps = snap, .snap_count = 1, .planned = &none, .live = &snap->written
    };
    struct dns_back back;
    HOLDS(dns_back(&way, &back));
    char *lines = dns_plan_zone_lines(&back.changes);
    char *batch = dns_plan_nsupdate(&back.changes, snap->zone, NULL, 0);
    HOLDS(lines && batch && strstr(batch, "send\n"));
    free(lines);
    free(batch);
    dns_back_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    struct dns_snap snap = { 0 };
    char *text = malloc(size + 1);
    HOLDS(text);
    take_text(&input, text, size + 1);
    if (dns_snap_parse(text, &snap) == NULL) {
        check_again(&snap);
        check_way_back(&snap);
    }
    dns_snap_free(&snap);
    free(text);
    return 0;
}
