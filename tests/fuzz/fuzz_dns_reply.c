/*
 * Answers of DNS servers to sluice dns: any bytes, read as the answer to a
 * question of one of our types, give records in canonical form, which a snapshot
 * keeps and which can go into an update; and as the answer to an update they give
 * one of its outcomes. Input: type, then the message. The functions are static:
 * the files themselves are included.
 *
 * Sources: cutover/dns_wire.c cutover/dns_snap_text.c cutover/dns_plan.c
 * Sources: cutover/dns_set.c cutover/dns_key.c lib/dnsrecord.c lib/netaddr.c
 * Sources: lib/clock.c lib/write_all.c
 * Libraries: -lldns
 */
#include "../../cutover/dns_ask.c"
#include "../../cutover/dns_update.c"

#include "../../cutover/command.h"
#include "../../cutover/dns_snap.h"
#include "fuzz.h"

#define NAME "a.test"

bool command_stopped(void)
{
    return false;
}

/* Nothing is asked here. */
int command_poll(struct pollfd *files, nfds_t count, int milliseconds)
{
    (void)files;
    (void)count;
    (void)milliseconds;
    return 0;
}

static void check_value(const struct dns_set *set, const char *value)
{
    static char zone[DNS_ZONE_MAX];
    HOLDS(strlen(value) <= DNS_VALUE_MAX);
    for (const char *p = value; *p; p++)
        HOLDS(*p >= 0x20 && *p <= 0x7e);
    dns_value_zone(set->type, value, zone, sizeof(zone));
    HOLDS(zone[0] || set->type != DNS_TXT);
}

static void check_sets(const struct dns_sets *sets)
{
    char name[DNSRECORD_NAME_MAX + 1];
    for (size_t i = 0; i < sets->count; i++) {
        const struct dns_set *set = &sets->items[i];
        HOLDS(set->count > 0 && set->count <= DNS_SET_VALUES_MAX);
        HOLDS(dnsrecord_name(set->name, strlen(set->name), name));
        HOLDS(strcmp(set->name, name) == 0);
        for (size_t v = 0; v < set->count; v++)
            check_value(set, set->values[v]);
    }
}

/* As apply does: kept, then named in an update. */
static void check_kept(const struct dns_sets *sets)
{
    struct dns_snap snap = { .taken = 1, .zone = NAME, .sets = *sets }, again = { 0 };
    char *text = dns_snap_format(&snap, NAME);
    HOLDS(text);
    HOLDS(dns_snap_parse(text, &again) == NULL);
    HOLDS(again.sets.count == sets->count);
    for (size_t i = 0; i < sets->count; i++)
        HOLDS(dns_set_same(&sets->items[i], &again.sets.items[i]));
    free(text);
    dns_snap_free(&again);
    ldns_rr_list *list = ldns_rr_list_new();
    for (size_t i = 0; i < sets->count; i++)
        (void)push_records(list, &sets->items[i], true);
    ldns_rr_list_deep_free(list);
}

static void check_update(const ldns_pkt *packet, const uint8_t *wire, size_t len)
{
    static const struct dns_key key = { "k.test", "hmac-sha256", "QUJDREVGR0g=" };
    char error[DNS_ERROR_MAX] = "";
    enum dns_update update = judge(packet, wire, len, NULL, NULL, error);
    HOLDS(update == DNS_UPDATE_DONE || error[0]);
    /* Without the query's own MAC nothing verifies. */
    update = judge(packet, wire, len, &key, NULL, error);
    HOLDS(update == DNS_UPDATE_DONE || error[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    enum dns_type type = (enum dns_type)(take_byte(&input) % DNS_TYPES);
    struct dns_reply reply = { .outcome = DNS_FAILED };
    ldns_pkt *packet = NULL;
    char *wire = exact_copy(input.data, input.size);
    if (input.size > 0 &&
        ldns_wire2pkt(&packet, (uint8_t *)wire, input.size) == LDNS_STATUS_OK) {
        bool good = read_reply(packet, NAME, type, &reply);
        HOLDS(good == (reply.outcome != DNS_FAILED));
        HOLDS(good || reply.error[0]);
        if (good) {
            HOLDS((reply.outcome == DNS_FOUND) ==
                  (dns_sets_find(&reply.answer, NAME, type) != NULL));
            check_sets(&reply.answer);
            check_sets(&reply.authority);
            check_sets(&reply.additional);
            check_kept(&reply.answer);
        }
        dns_reply_free(&reply);
        check_update(packet, (const uint8_t *)wire, input.size);
    }
    ldns_pkt_free(packet);
    free(wire);
    return 0;
}
