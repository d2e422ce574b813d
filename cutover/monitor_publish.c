/*
 * monitor_publish: see monitor_publish.h. One row for this host: the whole verdict, and
 * of each domain with floaters when the last one was. The domains of the latest floaters
 * have rows of their own, all others are the row "*", so that a domain without a row is
 * known to have none.
 */
#include <stdlib.h>
#include <string.h>

#include "monitor_publish.h"
#include "monitor_row.h"
#include "output.h"

#define SECOND_US INT64_C(1000000)

static int64_t seconds(int64_t us)
{
    return us == LOG_NO_TIME ? 0 : us / SECOND_US;
}

static void add(struct monitor_domain *to, int64_t last, uint64_t waiting)
{
    if (last > to->last)
        to->last = last;
    to->waiting += waiting;
}

/* Of all configured domains, in their order. */
static void sum_up(const struct monitor_view *view, const struct conf *conf,
                   struct monitor_domain *sums)
{
    const struct monitor *monitor = view->monitor;
    for (size_t i = 0; i < conf->domain_count; i++)
        sums[i].name = conf->domains[i].name;
    for (size_t i = 0; i < monitor->mailbox_count; i++) {
        const struct monitor_mailbox *mailbox = &monitor->mailboxes[i];
        const char *at = strrchr(mailbox->address, '@');
        const struct conf_domain *domain = at ? conf_managed(conf, at + 1) : NULL;
        if (domain)
            add(&sums[domain - conf->domains],
                seconds(monitor_last(view, &mailbox->tally)), mailbox->waiting);
    }
}

static int latest_first(const void *a, const void *b)
{
    const struct monitor_domain *one = a, *other = b;
    return one->last < other->last ? 1 : one->last > other->last ? -1 : 0;
}

/* Leaves those with floaters, MONITOR_DOMAINS_MAX at most; returns how many. */
static size_t shorten(struct monitor_domain *sums, size_t n,
                      const struct monitor_view *view)
{
    size_t kept = 0;
    const struct monitor_totals *totals = &view->monitor->totals;
    struct monitor_domain rest = { .name = "*" };
    qsort(sums, n, sizeof(*sums), latest_first);
    for (size_t i = 0; i < n; i++) {
        if (sums[i].last == 0 && sums[i].waiting == 0)
            continue;
        if (kept < MONITOR_DOMAINS_MAX - 1)
            sums[kept++] = sums[i];
        else
            add(&rest, sums[i].last, sums[i].waiting);
    }
    /* Floaters whose mailboxes found no row: of any domain, of these too. */
    if (totals->rows_left > 0) {
        const int64_t last = seconds(monitor_last(view, &totals->tally));
        for (size_t i = 0; i < kept; i++)
            add(&sums[i], last, 0);
        add(&rest, last, 0);
    }
    if (rest.last > 0 || rest.waiting > 0)
        sums[kept++] = rest;
    return kept;
}

static enum commit put(struct command_context *context, const struct monitor_view *view)
{
    const struct conf *conf = context->conf;
    struct monitor_domain *sums = calloc(conf->domain_count + 1, sizeof(*sums));
    if (!sums)
        return COMMIT_UNCERTAIN;
    sum_up(view, conf, sums);
    const struct monitor_row row = {
        .host = conf->hostname,
        .when = view->now,
        .state = (int)view->state,
        .begins = seconds(view->monitor->totals.begins),
        .last = view->last == LOG_NO_TIME ? 0 : view->last,
        .waiting = view->waiting.waiting,
        .stuck = view->waiting.stuck,
        .quiet_for = view->quiet_for,
        .text = view->text,
        .domains = sums,
        .domain_count = shorten(sums, conf->domain_count, view),
    };
    enum commit done = store_monitor_put(context->store, &row);
    free(sums);
    return done;
}

void monitor_publish(struct command_context *context, const struct monitor_view *view,
                     bool *failing)
{
    bool failed = put(context, view) != COMMIT_DONE;
    const char *why = store_error(context->store);
    if (failed && !*failing)
        notice("the status page does not show this: %s (--no-publish)",
               *why ? why : "out of memory");
    *failing = failed;
}
