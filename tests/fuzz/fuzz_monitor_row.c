/*
 * The verdict of sluice monitor in Redis, which anybody may have written: what can be
 * read is whole, and written down again it reads the same.
 *
 * Sources: lib/monitor_row.c
 */
#include "../../lib/monitor_row.h"
#include "fuzz.h"

static void check_same(const struct monitor_row *one, const struct monitor_row *other)
{
    HOLDS(one->when == other->when && one->state == other->state &&
          one->begins == other->begins && one->last == other->last &&
          one->waiting == other->waiting && one->stuck == other->stuck &&
          one->quiet_for == other->quiet_for && one->domain_count == other->domain_count);
    for (size_t i = 0; i < one->domain_count; i++)
        HOLDS(strcmp(one->domains[i].name, other->domains[i].name) == 0 &&
              one->domains[i].last == other->domains[i].last &&
              one->domains[i].waiting == other->domains[i].waiting);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct monitor_domain domains[MONITOR_DOMAINS_MAX],
        again_domains[MONITOR_DOMAINS_MAX];
    static char value[MONITOR_VALUE_MAX + 1];
    struct monitor_row row = { .host = "mx1.example.com" }, again = row;
    char *copy = malloc(size + 1);

    HOLDS(copy);
    if (size > 0)
        memcpy(copy, data, size);
    copy[size] = '\0';
    if (monitor_row_decode(copy, domains, &row)) {
        HOLDS(row.state >= 0 && row.state < 4 && row.when >= 0 && row.last >= 0);
        HOLDS(row.domain_count <= MONITOR_DOMAINS_MAX);
        HOLDS(monitor_row_encode(&row, value));
        HOLDS(strlen(value) <= MONITOR_VALUE_MAX);
        HOLDS(monitor_row_decode(value, again_domains, &again));
        check_same(&row, &again);
    }
    free(copy);
    return 0;
}
