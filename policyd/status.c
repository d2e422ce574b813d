/*
 * status: the picture's parts, and what of them is an alarm. Pure.
 *
 * A lock's age is that of its record in the store, by the store's clock, so it is
 * the same on every host and survives restarts. The store counts locked mailboxes by
 * the change that locked them (store.h, "locks"): a domain of a million mailboxes is
 * a thousand rows at the worst. When that clock is set back, see lock_age.h.
 */
#include "config.h"

#include "status.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lock_age.h"

void status_free(struct status *status)
{
    if (!status)
        return;
    for (size_t i = 0; i < status->domain_count; i++) {
        free(status->domains[i].run);
        free(status->domains[i].senders);
    }
    free(status->domains);
    free(status->hosts);
    free(status->pings);
    status_monitors_free(status);
    free(status->alarms);
    free(status);
}

/* ---- taking over ------------------------------------------------------------- */

static void note_lock(struct status_domain *domain, int64_t since)
{
    if (domain->lock_since == 0 || since < domain->lock_since)
        domain->lock_since = since;
}

/* Since when a lock counts: the store's clock may have been set back. */
static int64_t lock_since(const struct status *status, const char *domain, uint64_t epoch,
                          bool rollback, int64_t since)
{
    return status->ages ? lock_ages_since(status->ages, domain, epoch, rollback, since,
                                          status->store_s)
                        : since;
}

static void take_locks(const struct status *status, struct status_domain *domain,
                       const struct store_picture *picture, int limit_s)
{
    const struct home *own = &picture->totals.own;
    int64_t now = status->store_s;
    for (size_t i = 0; i < picture->lock_count; i++) {
        const struct store_lock *lock = &picture->locks[i];
        int64_t since =
            lock_since(status, picture->domain, lock->epoch, lock->rollback, lock->since);
        note_lock(domain, since);
        if (limit_s > 0 && now >= since + limit_s)
            domain->overdue += lock->count;
    }
    if (own->state == HOME_LOCKED) {
        int64_t since =
            lock_since(status, picture->domain, own->epoch, own->rollback, own->since);
        note_lock(domain, since);
        domain->own_overdue = limit_s > 0 && now >= since + limit_s;
    }
    if (domain->lock_since > 0 && limit_s > 0)
        domain->deadline = domain->lock_since + limit_s;
}

static int by_count(const void *a, const void *b)
{
    const struct store_sender *one = a, *other = b;
    bool one_rest = strcmp(one->client, "*") == 0,
         other_rest = strcmp(other->client, "*") == 0;
    if (one_rest != other_rest)
        return one_rest ? 1 : -1; /* all others come last */
    if (one->count != other->count)
        return one->count < other->count ? 1 : -1;
    return strcmp(one->client, other->client);
}

/* The most first; those that find no room are one row, the last. false: no memory. */
static bool take_senders(struct status_domain *domain,
                         const struct store_picture *picture)
{
    size_t n = picture->sender_count,
           room = n < STATUS_SENDERS_MAX ? n : STATUS_SENDERS_MAX;
    if (n == 0)
        return true;
    struct store_sender *sorted = calloc(n, sizeof(*sorted));
    domain->senders = calloc(room, sizeof(*domain->senders));
    if (!sorted || !domain->senders) {
        free(sorted);
        return false;
    }
    memcpy(sorted, picture->senders, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), by_count);
    domain->sender_count = room;
    for (size_t i = 0; i < n; i++) {
        bool rest = n > room && i + 1 >= room;
        struct status_sender *to = &domain->senders[rest ? room - 1 : i];
        snprintf(to->client, sizeof(to->client), "%.111s", rest ? "*" : sorted[i].client);
        snprintf(to->name, sizeof(to->name), "%.111s", rest ? "" : sorted[i].name);
        if (to->count == 0 || sorted[i].first < to->first)
            to->first = sorted[i].first;
        if (sorted[i].last > to->last)
            to->last = sorted[i].last;
        to->count += sorted[i].count;
    }
    free(sorted);
    return true;
}

/* Since when it has been quiet: since the last floater or the last flip, neither of
 * which is to come. 0: nothing has moved. */
static int64_t quiet_since(const struct store_picture *picture, int64_t now)
{
    const struct store_totals *totals = &picture->totals;
    int64_t moved = picture->flipped;
    if (totals->own.state == HOME_NEW && totals->own.since > moved)
        moved = totals->own.since;
    if (totals->new == 0 && totals->own.state != HOME_NEW)
        return 0;
    if (picture->floater_last > moved)
        moved = picture->floater_last;
    return moved < now ? moved : now;
}

static struct status_domain *append_domain(struct status *status)
{
    if (status->domain_count == status->domain_room) {
        size_t room = status->domain_room ? status->domain_room * 2 : 16;
        struct status_domain *grown = realloc(status->domains, room * sizeof(*grown));
        if (!grown)
            return NULL;
        status->domains = grown;
        status->domain_room = room;
    }
    struct status_domain *domain = &status->domains[status->domain_count++];
    memset(domain, 0, sizeof(*domain));
    return domain;
}

bool status_add_domain(struct status *status, const struct store_picture *picture)
{
    const struct conf_domain *known = conf_managed(status->conf, picture->domain);
    struct status_domain *domain = append_domain(status);
    if (!domain)
        return false;
    snprintf(domain->name, sizeof(domain->name), "%.253s", picture->domain);
    domain->totals = picture->totals;
    domain->totals.own.new_address[0] = domain->totals.own.copy[0] = '\0';
    take_locks(status, domain, picture,
               known ? known->lock_deadline : status->conf->lock_deadline);
    domain->floaters = picture->floaters;
    domain->floater_last = picture->floater_last;
    domain->quiet_since = quiet_since(picture, status->store_s);
    memcpy(domain->hours, picture->hours, sizeof(domain->hours));
    if (picture->run)
        domain->run = status_run_new(picture->run, picture->outline);
    return take_senders(domain, picture);
}

bool status_add_ping(struct status *status, const struct ping_row *row)
{
    if (status->ping_count == STATUS_PINGS_KEPT)
        return true;
    struct status_ping *grown =
        realloc(status->pings, (status->ping_count + 1) * sizeof(*grown));
    if (!grown)
        return false;
    status->pings = grown;
    struct status_ping *ping = &grown[status->ping_count++];
    snprintf(ping->host, sizeof(ping->host), "%.255s", row->host);
    snprintf(ping->path, sizeof(ping->path), "%.71s", row->path);
    snprintf(ping->text, sizeof(ping->text), "%.399s", row->text);
    ping->when = row->when;
    ping->state = row->state;
    ping->ms[0] = row->connected_ms;
    ping->ms[1] = row->accepted_ms;
    ping->ms[2] = row->arrived_ms;
    return true;
}

/* What needs a look comes first: locked, on the way, with a run, the others. */
static int urgency(const struct status_domain *domain)
{
    if (domain->overdue > 0 || domain->own_overdue)
        return 4;
    if (domain->lock_since > 0)
        return 3;
    if (domain->run && domain->run->state == 'g')
        return 2;
    return domain->quiet_since > 0;
}

static int by_urgency(const void *a, const void *b)
{
    const struct status_domain *one = a, *other = b;
    int difference = urgency(other) - urgency(one);
    return difference ? difference : strcmp(one->name, other->name);
}

static int by_path(const void *a, const void *b)
{
    const struct status_ping *one = a, *other = b;
    int difference = (other->state >= 2) - (one->state >= 2); /* what fails comes first */
    if (difference == 0)
        difference = strcmp(one->path, other->path);
    return difference ? difference : strcmp(one->host, other->host);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct host *)a)->name, ((const struct host *)b)->name);
}

void status_settle(struct status *status)
{
    status_count_logs(status);
    if (status->domain_count > 0)
        qsort(status->domains, status->domain_count, sizeof(*status->domains),
              by_urgency);
    if (status->ping_count > 0)
        qsort(status->pings, status->ping_count, sizeof(*status->pings), by_path);
    if (status->host_count > 0)
        qsort(status->hosts, status->host_count, sizeof(*status->hosts), by_name);
}

/* ---- alarms ------------------------------------------------------------------- */

const char *alarm_kind_name(enum alarm_kind kind)
{
    static const char *const names[ALARM_KINDS] = { "lock-deadline",   "held-old",
                                                    "forward-failing", "host-silent",
                                                    "host-fault",      "log-failing",
                                                    "milter-silent",   "redis-down" };
    return (size_t)kind < ALARM_KINDS ? names[kind] : "unknown";
}

const char *status_span(int64_t seconds, char out[STATUS_SPAN_MAX])
{
    int64_t s = seconds > 0 ? seconds : 0;
    int n;
    if (s < 120)
        n = snprintf(out, STATUS_SPAN_MAX, "%" PRId64 " s", s);
    else if (s < 7200)
        n = snprintf(out, STATUS_SPAN_MAX, "%" PRId64 " min", s / 60);
    else if (s < 172800 && s / 60 % 60 > 0)
        n = snprintf(out, STATUS_SPAN_MAX, "%" PRId64 " h %" PRId64 " min", s / 3600,
                     s / 60 % 60);
    else if (s < 172800)
        n = snprintf(out, STATUS_SPAN_MAX, "%" PRId64 " h", s / 3600);
    else
        n = snprintf(out, STATUS_SPAN_MAX, "%" PRId64 " d", s / 86400);
    if (n < 0)
        out[0] = '\0';
    return out;
}

struct judging {
    const struct status *status;
    struct alarm *out;
    size_t count;
};

static void raise_alarm(struct judging *j, enum alarm_kind kind, const char *about,
                        int64_t since, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

static void raise_alarm(struct judging *j, enum alarm_kind kind, const char *about,
                        int64_t since, const char *fmt, ...)
{
    va_list args;
    if (j->count == STATUS_ALARMS_MAX)
        return;
    struct alarm *alarm = &j->out[j->count++];
    *alarm = (struct alarm){ .kind = kind, .since = since };
    snprintf(alarm->about, sizeof(alarm->about), "%.255s", about);
    va_start(args, fmt);
    if (vsnprintf(alarm->text, sizeof(alarm->text), fmt, args) <
        0) /* a long one is cut */
        alarm->text[0] = '\0';
    va_end(args);
}

static void judge_domain(struct judging *j, const struct status_domain *domain)
{
    char age[STATUS_SPAN_MAX], limit[STATUS_SPAN_MAX], what[64];
    if (domain->overdue > 0)
        snprintf(what, sizeof(what), "%" PRIu64 " mailbox%s", domain->overdue,
                 domain->overdue == 1 ? " is" : "es are");
    else
        snprintf(what, sizeof(what), "all unlisted addresses are");
    raise_alarm(j, ALARM_LOCK_DEADLINE, domain->name, domain->deadline,
                "%s: %s locked for %s, past lock-deadline %s: their mail waits, and "
                "nothing is released by itself: flip or unlock them (sluice status %s)",
                domain->name, what,
                status_span(j->status->store_s - domain->lock_since, age),
                status_span(domain->deadline - domain->lock_since, limit), domain->name);
}

/* Each for itself, and the rest together: a phone must not ring for each of a thousand
 * domains, and other alarms must find room. */
static void judge_domains(struct judging *j)
{
    const struct status *status = j->status;
    uint64_t domains = 0, mailboxes = 0, told = 0;
    int64_t since = 0;
    for (size_t i = 0; i < status->domain_count; i++) {
        const struct status_domain *domain = &status->domains[i];
        if (domain->overdue == 0 && !domain->own_overdue)
            continue;
        if (told < STATUS_OVERDUE_MAX) {
            judge_domain(j, domain);
            told++;
            continue;
        }
        domains++;
        mailboxes += domain->overdue;
        if (since == 0 || domain->deadline < since)
            since = domain->deadline;
    }
    if (domains > 0)
        raise_alarm(j, ALARM_LOCK_DEADLINE, "others", since,
                    "%" PRIu64 " more domains with %" PRIu64 " mailboxes are past their "
                    "lock-deadline: sluice status",
                    domains, mailboxes);
}

static void judge_held(struct judging *j, const struct host *host)
{
    int limit = j->status->conf->lock_deadline;
    int64_t now = j->status->now;
    char age[STATUS_SPAN_MAX];
    if (limit > 0 && host->oldest > 0 && now - host->oldest >= limit)
        raise_alarm(j, ALARM_HELD_OLD, host->name, host->oldest + limit,
                    "%s: %" PRIu64 " messages are held, the oldest for %s: sluice held",
                    host->name, host->held, status_span(now - host->oldest, age));
    if (host->deferred > 0 && now - host->deferred_oldest >= STATUS_FORWARD_LATE_S)
        raise_alarm(j, ALARM_FORWARD_FAILING, host->name,
                    host->deferred_oldest + STATUS_FORWARD_LATE_S,
                    "%s: %" PRIu64 " forwarded messages wait for the other server, the "
                    "oldest for %s: see why in postqueue -p there, or sluice monitor",
                    host->name, host->deferred,
                    status_span(now - host->deferred_oldest, age));
}

static void judge_host(struct judging *j, const struct host *host)
{
    const struct status *status = j->status;
    int64_t quiet = status->store_s - host->seen_ms / 1000;
    char age[STATUS_SPAN_MAX];
    if (quiet >= STATUS_HOST_LOST_S) {
        raise_alarm(j, ALARM_HOST_SILENT, host->name,
                    host->seen_ms / 1000 + STATUS_HOST_LOST_S,
                    "%s: no heartbeat for %s: is sluice-policyd running there, and does "
                    "it reach Redis? No lock is complete until it answers",
                    host->name, host->seen_ms ? status_span(quiet, age) : "ever");
    } else if (host->state[0] && host->fenced >= host->journaled) {
        /* While a fence is under way the text is what it waits for. */
        raise_alarm(j, ALARM_HOST_FAULT, host->name, status->now, "%s: %s", host->name,
                    host->state);
    }
    judge_held(j, host); /* what a silent host holds is not over */
}

static void judge_monitor(struct judging *j, const struct status_monitor *monitor)
{
    int64_t age = j->status->now - monitor->when;
    char span[STATUS_SPAN_MAX];
    if (monitor->state != 2 || age > STATUS_MONITOR_ALARM_S)
        return;
    raise_alarm(j, ALARM_LOG_FAILING, monitor->host, monitor->when,
                "%s: its log says, %s ago: %s", monitor->host, status_span(age, span),
                monitor->text);
}

size_t status_judge(const struct status *status, struct alarm *out)
{
    struct judging j = { .status = status, .out = out };
    char age[STATUS_SPAN_MAX];
    if (!status->up)
        raise_alarm(&j, ALARM_REDIS_DOWN, "", status->now,
                    "mail for managed domains is tried later: %s", status->error);
    if (status->up)
        judge_domains(&j);
    /* Who is not heard of because Redis is down is not silent. */
    for (size_t i = 0; i < status->host_count && status->up; i++)
        judge_host(&j, &status->hosts[i]);
    for (size_t i = 0; i < status->monitor_count && status->up; i++)
        judge_monitor(&j, &status->monitors[i]);
    if (status->has_milter &&
        status->now - status->milter.updated >= STATUS_MILTER_LOST_S)
        raise_alarm(&j, ALARM_MILTER_SILENT, status->conf->hostname,
                    status->milter.updated + STATUS_MILTER_LOST_S,
                    "%s: sluice-milter has counted nothing for %s: is it running? "
                    "Postfix does without it what milter_default_action says",
                    status->conf->hostname,
                    status_span(status->now - status->milter.updated, age));
    return j.count;
}

/* ---- times --------------------------------------------------------------------- */

double status_quantile(const struct lookup_figures *from, const struct lookup_figures *to,
                       double quantile)
{
    uint64_t total = 0, below = 0;
    for (size_t i = 0; i <= LOOKUP_BUCKETS; i++)
        total += to->bucket[i] - from->bucket[i];
    double wanted = quantile * (double)total;
    for (size_t i = 0; i < LOOKUP_BUCKETS && total > 0; i++) {
        uint64_t here = to->bucket[i] - from->bucket[i];
        if (here > 0 && (double)(below + here) >= wanted) {
            double low = i > 0 ? lookup_bucket_us[i - 1] : 0;
            double part = (wanted - (double)below) / (double)here;
            return (low + (lookup_bucket_us[i] - low) * part) / 1000;
        }
        below += here;
    }
    return total > 0 ? lookup_bucket_us[LOOKUP_BUCKETS - 1] / 1000.0 : 0;
}
