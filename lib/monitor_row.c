/*
 * monitor_row: the codec of monitor_row.h. Numbers are decimal and not negative.
 */
#include "monitor_row.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATES 4 /* of Nagios: ok, warning, critical, unknown */

static bool is_name(const char *text)
{
    size_t len = strlen(text);
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c > 0x7e)
            return false;
    return len > 0 && len <= HOST_NAME_MAX_LEN;
}

static int64_t at_least_0(int64_t number)
{
    return number > 0 ? number : 0;
}

bool monitor_row_encode(const struct monitor_row *row, char *value)
{
    size_t used;
    int len = snprintf(
        value, MONITOR_VALUE_MAX + 1,
        "%" PRId64 " %d %" PRId64 " %" PRId64 " %" PRIu64 " %" PRIu64 " %d %.*s",
        at_least_0(row->when), row->state, at_least_0(row->begins), at_least_0(row->last),
        row->waiting, row->stuck, row->quiet_for, MONITOR_TEXT_MAX, row->text);
    if (len < 0 || !is_name(row->host) || row->state < 0 || row->state >= STATES)
        return false;
    used = (size_t)len;
    for (char *c = value; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
            *c = '?';
    for (size_t i = 0; i < row->domain_count && i < MONITOR_DOMAINS_MAX; i++) {
        const struct monitor_domain *domain = &row->domains[i];
        if (!is_name(domain->name))
            return false;
        len = snprintf(value + used, MONITOR_VALUE_MAX + 1 - used,
                       "\n%s %" PRId64 " %" PRIu64, domain->name,
                       at_least_0(domain->last), domain->waiting);
        if (len < 0 || (size_t)len > MONITOR_VALUE_MAX - used)
            return false;
        used += (size_t)len;
    }
    return true;
}

/* The next number, and the byte behind it, which must be `end`. */
static bool take(char **at, char end, int64_t *out)
{
    char *stop;
    if ((*at)[0] < '0' || (*at)[0] > '9')
        return false;
    errno = 0;
    long long number = strtoll(*at, &stop, 10);
    if (errno || *stop != end)
        return false;
    *out = number;
    *at = end ? stop + 1 : stop;
    return true;
}

static bool take_domain(char *line, struct monitor_domain *out)
{
    int64_t waiting;
    char *blank = strchr(line, ' ');
    if (!blank)
        return false;
    *blank = '\0';
    out->name = line;
    line = blank + 1;
    if (!is_name(out->name) || !take(&line, ' ', &out->last) ||
        !take(&line, '\0', &waiting))
        return false;
    out->waiting = (uint64_t)waiting;
    return true;
}

bool monitor_row_decode(char *value, struct monitor_domain *domains,
                        struct monitor_row *row)
{
    int64_t state, waiting, stuck, quiet_for;
    char *lines = strchr(value, '\n');
    if (lines)
        *lines++ = '\0';
    if (!take(&value, ' ', &row->when) || !take(&value, ' ', &state) ||
        !take(&value, ' ', &row->begins) || !take(&value, ' ', &row->last) ||
        !take(&value, ' ', &waiting) || !take(&value, ' ', &stuck) ||
        !take(&value, ' ', &quiet_for) || state >= STATES || quiet_for > INT32_MAX)
        return false;
    row->state = (int)state;
    row->waiting = (uint64_t)waiting;
    row->stuck = (uint64_t)stuck;
    row->quiet_for = (int)quiet_for;
    row->text = value;
    row->domains = domains;
    row->domain_count = 0;
    while (lines) {
        char *line = lines;
        lines = strchr(line, '\n');
        if (lines)
            *lines++ = '\0';
        if (row->domain_count == MONITOR_DOMAINS_MAX ||
            !take_domain(line, &domains[row->domain_count++]))
            return false;
    }
    return true;
}
