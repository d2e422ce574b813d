/*
 * status_monitor: what `sluice monitor` says of the logs, beside what the milters
 * counted. Mail that local(8) sends on by itself, from an alias or a .forward, no milter
 * sees; the log has it. So the countdown is the lower of both. Pure.
 *
 * A verdict that is old says nothing of now: it is shown as old, and that it was quiet
 * is not believed. That there was a floater stays true.
 */
#include "config.h"

#include "status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOCKS_S 300 /* so much may the clocks of two hosts differ */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Takes over; what no clock can have said is cut. */
static bool take_domains(struct status_monitor *monitor, const struct monitor_row *row)
{
    if (row->domain_count == 0)
        return true;
    monitor->domains = calloc(row->domain_count, sizeof(*monitor->domains));
    if (!monitor->domains)
        return false;
    for (size_t i = 0; i < row->domain_count; i++) {
        struct status_monitor_domain *to = &monitor->domains[monitor->domain_count++];
        snprintf(to->name, sizeof(to->name), "%.253s", row->domains[i].name);
        to->last = least(row->domains[i].last, monitor->when);
    }
    return true;
}

bool status_add_monitor(struct status *status, const struct monitor_row *row)
{
    if (status->monitor_count == STATUS_MONITORS_MAX)
        return true;
    struct status_monitor *grown =
        realloc(status->monitors, (status->monitor_count + 1) * sizeof(*grown));
    if (!grown)
        return false;
    status->monitors = grown;
    struct status_monitor *monitor = &grown[status->monitor_count++];
    memset(monitor, 0, sizeof(*monitor));
    snprintf(monitor->host, sizeof(monitor->host), "%.255s", row->host);
    snprintf(monitor->text, sizeof(monitor->text), "%.399s", row->text);
    /* One from a clock that is ahead would never grow old. */
    monitor->when =
        row->when > status->now + CLOCKS_S ? 0 : least(row->when, status->now);
    monitor->state = row->state;
    monitor->begins = least(row->begins, monitor->when);
    monitor->last = least(row->last, monitor->when);
    monitor->waiting = row->waiting;
    monitor->stuck = row->stuck;
    monitor->old = status->now - monitor->when > STATUS_MONITOR_OLD_S;
    return take_domains(monitor, row);
}

void status_monitors_free(struct status *status)
{
    for (size_t i = 0; i < status->monitor_count; i++)
        free(status->monitors[i].domains);
    free(status->monitors);
    status->monitors = NULL;
    status->monitor_count = 0;
}

/* When the last floater of a domain was; 0: there was none. */
static int64_t last_of(const struct status_monitor *monitor, const char *domain)
{
    int64_t last = 0;
    for (size_t i = 0; i < monitor->domain_count; i++) {
        const struct status_monitor_domain *row = &monitor->domains[i];
        if (strcmp(row->name, domain) == 0)
            return row->last;
        if (strcmp(row->name, "*") == 0)
            last = row->last;
    }
    return last;
}

static bool is_believed(const struct status_monitor *monitor)
{
    return !monitor->old && monitor->state != 3 && monitor->begins > 0;
}

/* What a new server sends back is no floater: its log says nothing of the old ones. */
static bool is_of_new_side(const struct status *status,
                           const struct status_monitor *monitor)
{
    for (size_t i = 0; i < status->host_count; i++)
        if (strcmp(status->hosts[i].name, monitor->host) == 0)
            return status->hosts[i].side == SIDE_NEW;
    return false;
}

/* Old servers whose log is not believed up to now. */
static unsigned count_missing(const struct status *status)
{
    unsigned missing = 0;
    for (size_t i = 0; i < status->host_count; i++) {
        const struct host *host = &status->hosts[i];
        bool found = host->side != SIDE_OLD;
        for (size_t k = 0; k < status->monitor_count && !found; k++)
            found = is_believed(&status->monitors[k]) &&
                    strcmp(status->monitors[k].host, host->name) == 0;
        missing += !found;
    }
    return missing;
}

static void count_domain(struct status_domain *domain,
                         const struct status_monitor *monitor)
{
    int64_t last = last_of(monitor, domain->name), since = last;
    if (is_believed(monitor)) {
        since = monitor->begins > last ? monitor->begins : last;
        domain->logs++;
    }
    if (since > domain->log_since)
        domain->log_since = since;
}

static int by_monitor_host(const void *a, const void *b)
{
    return strcmp(((const struct status_monitor *)a)->host,
                  ((const struct status_monitor *)b)->host);
}

void status_count_logs(struct status *status)
{
    status->logs_missing = count_missing(status);
    for (size_t k = 0; k < status->monitor_count; k++) {
        if (is_of_new_side(status, &status->monitors[k]))
            continue;
        for (size_t i = 0; i < status->domain_count; i++)
            count_domain(&status->domains[i], &status->monitors[k]);
    }
    for (size_t i = 0; i < status->domain_count; i++) {
        struct status_domain *domain = &status->domains[i];
        if (domain->quiet_since > 0 && domain->log_since > domain->quiet_since)
            domain->quiet_since = domain->log_since;
    }
    if (status->monitor_count > 0)
        qsort(status->monitors, status->monitor_count, sizeof(*status->monitors),
              by_monitor_host);
}
