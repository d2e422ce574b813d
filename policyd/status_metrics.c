/*
 * status_metrics: the picture in the text format of Prometheus (exposition format
 * 0.0.4): "# HELP", "# TYPE" and the samples of each metric together.
 *
 * What is about the whole move (domains, hosts) is the same on every policyd that is
 * asked: rules take the maximum over the instances. What is about lookups and the
 * milter is this host's. While Redis is down only the latter is shown, so that an old
 * value is never taken for a present one.
 */
#include "config.h"

#include "status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A label's value: backslash, quote and line feed are escaped; what is no printable
 * ASCII becomes "?" (the format wants UTF-8). */
static void put_label(FILE *out, const char *name, const char *value)
{
    fprintf(out, "%s=\"", name);
    for (const char *c = value; *c; c++) {
        if (*c == '\\' || *c == '"')
            putc('\\', out);
        putc((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e ? '?' : *c, out);
    }
    putc('"', out);
}

static void begin(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP sluice_%s %s\n# TYPE sluice_%s %s\n", name, help, name, type);
}

static void put_number(FILE *out, const char *name, const char *type, const char *help,
                       double value)
{
    begin(out, name, type, help);
    fprintf(out, "sluice_%s %.15g\n", name, value);
}

static void sample(FILE *out, const char *name, const char *label, const char *value,
                   double number)
{
    fprintf(out, "sluice_%s{", name);
    put_label(out, label, value);
    fprintf(out, "} %.15g\n", number);
}

static void sample2(FILE *out, const char *name, const char *label, const char *value,
                    const char *label2, const char *value2, double number)
{
    fprintf(out, "sluice_%s{", name);
    put_label(out, label, value);
    putc(',', out);
    put_label(out, label2, value2);
    fprintf(out, "} %.15g\n", number);
}

/* ---- domains -------------------------------------------------------------------- */

static void put_mailboxes(FILE *out, const struct status *status, size_t n)
{
    begin(out, "mailboxes", "gauge", "Listed mailboxes by home.");
    for (size_t i = 0; i < n; i++) {
        const struct status_domain *d = &status->domains[i];
        sample2(out, "mailboxes", "domain", d->name, "home", "old",
                (double)d->totals.old);
        sample2(out, "mailboxes", "domain", d->name, "home", "locked",
                (double)d->totals.locked);
        sample2(out, "mailboxes", "domain", d->name, "home", "rolling_back",
                (double)d->totals.rolling_back);
        sample2(out, "mailboxes", "domain", d->name, "home", "new",
                (double)d->totals.new);
    }
    begin(out, "domain_home", "gauge",
          "1 for the home of a domain's addresses that are not listed.");
    for (size_t i = 0; i < n; i++)
        sample2(out, "domain_home", "domain", status->domains[i].name, "home",
                home_state_name(status->domains[i].totals.own.state), 1);
}

static double lock_age(const struct status *status, const struct status_domain *domain)
{
    return domain->lock_since ? (double)(status->store_s - domain->lock_since) : 0;
}
static double overdue(const struct status *status, const struct status_domain *domain)
{
    (void)status;
    return (double)domain->overdue + domain->own_overdue;
}
static double floaters(const struct status *status, const struct status_domain *domain)
{
    (void)status;
    return (double)domain->floaters;
}
static double floater_last(const struct status *status,
                           const struct status_domain *domain)
{
    (void)status;
    return (double)domain->floater_last;
}
static double quiet(const struct status *status, const struct status_domain *domain)
{
    return domain->quiet_since ? (double)(status->store_s - domain->quiet_since) : 0;
}
static double steps_done(const struct status *status, const struct status_domain *domain)
{
    (void)status;
    return domain->run ? domain->run->done : 0;
}
static double steps(const struct status *status, const struct status_domain *domain)
{
    (void)status;
    return domain->run ? domain->run->total : 0;
}

static void put_domains(FILE *out, const struct status *status)
{
    static const struct {
        const char *name, *type, *help;
        double (*of)(const struct status *status, const struct status_domain *domain);
    } rows[] = {
        { "lock_age_seconds", "gauge", "Age of the oldest lock that has not ended.",
          lock_age },
        { "lock_overdue_mailboxes", "gauge", "Mailboxes locked past lock-deadline.",
          overdue },
        { "floaters_total", "counter",
          "Messages that came in on the old side for mailboxes that have moved.",
          floaters },
        { "floater_last_timestamp_seconds", "gauge", "When the last of them came.",
          floater_last },
        { "quiet_seconds", "gauge",
          "Time since the last floater or flip; 0 while nothing has moved.", quiet },
        { "playbook_steps_done", "gauge", "Steps of the playbook that are done.",
          steps_done },
        { "playbook_steps", "gauge", "Steps of the playbook.", steps },
    };
    size_t n = status->domain_count < STATUS_METRICS_MAX ? status->domain_count
                                                         : STATUS_METRICS_MAX;
    put_number(out, "domains", "gauge", "Registered domains.",
               (double)status->domain_count);
    put_mailboxes(out, status, n);
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        begin(out, rows[r].name, rows[r].type, rows[r].help);
        for (size_t i = 0; i < n; i++)
            sample(out, rows[r].name, "domain", status->domains[i].name,
                   rows[r].of(status, &status->domains[i]));
    }
}

/* ---- hosts ------------------------------------------------------------------------ */

static double seen_age(const struct status *status, const struct host *host)
{
    int64_t age = status->store_s * 1000 - host->seen_ms;
    return age > 0 ? (double)age / 1000 : 0;
}
static double fence_lag(const struct status *status, const struct host *host)
{
    return status->epoch > host->fenced ? (double)(status->epoch - host->fenced) : 0;
}
static double held(const struct status *status, const struct host *host)
{
    (void)status;
    return (double)host->held;
}
static double held_age(const struct status *status, const struct host *host)
{
    return host->oldest ? (double)(status->now - host->oldest) : 0;
}
static double loops(const struct status *status, const struct host *host)
{
    (void)status;
    return (double)host->loops;
}
static double left(const struct status *status, const struct host *host)
{
    (void)status;
    return (double)host->left;
}
static double deferred(const struct status *status, const struct host *host)
{
    (void)status;
    return (double)host->deferred;
}
static double deferred_age(const struct status *status, const struct host *host)
{
    return host->deferred_oldest ? (double)(status->now - host->deferred_oldest) : 0;
}

static void put_hosts(FILE *out, const struct status *status)
{
    static const struct {
        const char *name, *help;
        double (*of)(const struct status *status, const struct host *host);
    } rows[] = {
        { "host_heartbeat_age_seconds", "Age of a host's last heartbeat.", seen_age },
        { "fence_lag_changes",
          "Changes whose locks are not yet confirmed by the host; 0: complete.",
          fence_lag },
        { "held_messages", "Messages on hold by sluice.", held },
        { "held_oldest_age_seconds",
          "Age of the oldest of them, those held by a DMARC policy left out.", held_age },
        { "held_loops", "Messages on hold because they came back.", loops },
        { "release_left", "Messages of unlocked mailboxes still to be released.", left },
        { "forward_deferred_messages",
          "Forwarded messages that the other server has not taken yet.", deferred },
        { "forward_deferred_oldest_age_seconds", "Age of the oldest of them.",
          deferred_age },
    };
    begin(out, "host_info", "gauge", "A registered host.");
    for (size_t i = 0; i < status->host_count; i++) {
        fputs("sluice_host_info{", out);
        put_label(out, "host", status->hosts[i].name);
        putc(',', out);
        put_label(out, "side", side_name(status->hosts[i].side));
        putc(',', out);
        put_label(out, "version", status->hosts[i].version);
        fputs("} 1\n", out);
    }
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        begin(out, rows[r].name, "gauge", rows[r].help);
        for (size_t i = 0; i < status->host_count; i++)
            sample(out, rows[r].name, "host", status->hosts[i].name,
                   rows[r].of(status, &status->hosts[i]));
    }
}

static void put_pings(FILE *out, const struct status *status)
{
    begin(out, "ping_state", "gauge",
          "Last sluice ping of a path: 0 ok, 1 warning, 2 critical, 3 unknown.");
    for (size_t i = 0; i < status->ping_count; i++)
        sample2(out, "ping_state", "host", status->pings[i].host, "path",
                status->pings[i].path, status->pings[i].state);
    begin(out, "ping_timestamp_seconds", "gauge", "When that was.");
    for (size_t i = 0; i < status->ping_count; i++)
        sample2(out, "ping_timestamp_seconds", "host", status->pings[i].host, "path",
                status->pings[i].path, (double)status->pings[i].when);
    begin(out, "ping_arrived_seconds", "gauge",
          "How long the message took to its mailbox; -1: it did not arrive.");
    for (size_t i = 0; i < status->ping_count; i++)
        sample2(out, "ping_arrived_seconds", "host", status->pings[i].host, "path",
                status->pings[i].path,
                status->pings[i].ms[2] < 0 ? -1 : (double)status->pings[i].ms[2] / 1000);
}

static void put_monitors(FILE *out, const struct status *status)
{
    static const struct {
        const char *name, *help;
    } rows[] = {
        { "monitor_timestamp_seconds", "When sluice monitor last read the host's log." },
        { "monitor_state",
          "What it said: 0 quiet, 1 still forwarding, 2 forwards fail, 3 unknown." },
        { "monitor_last_floater_timestamp_seconds",
          "The last floater in the log; 0: none." },
        { "monitor_waiting", "Forwards in the log that are not taken yet." },
        { "monitor_stuck", "Of these, those put off for long." },
    };
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        begin(out, rows[r].name, "gauge", rows[r].help);
        for (size_t i = 0; i < status->monitor_count; i++) {
            const struct status_monitor *m = &status->monitors[i];
            const double values[] = { (double)m->when, m->state, (double)m->last,
                                      (double)m->waiting, (double)m->stuck };
            sample(out, rows[r].name, "host", m->host, values[r]);
        }
    }
}

/* ---- this host ----------------------------------------------------------------------
 */

static void put_lookups(FILE *out, const struct lookup_figures *figures)
{
    uint64_t sum = 0;
    begin(out, "lookups_total", "counter", "Lookups of homes by outcome.");
    sample(out, "lookups_total", "result", "found", (double)figures->found);
    sample(out, "lookups_total", "result", "absent", (double)figures->absent);
    sample(out, "lookups_total", "result", "failed", (double)figures->failed);
    begin(out, "lookup_duration_seconds", "histogram",
          "Time from a question to Redis' answer.");
    for (size_t i = 0; i <= LOOKUP_BUCKETS; i++) {
        sum += figures->bucket[i];
        if (i < LOOKUP_BUCKETS)
            fprintf(out,
                    "sluice_lookup_duration_seconds_bucket{le=\"%.15g\"} %" PRIu64 "\n",
                    lookup_bucket_us[i] / 1e6, sum);
    }
    fprintf(out,
            "sluice_lookup_duration_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n"
            "sluice_lookup_duration_seconds_sum %.15g\n"
            "sluice_lookup_duration_seconds_count %" PRIu64 "\n",
            sum, (double)figures->sum_us / 1e6, sum);
}

static void put_redis(FILE *out, const struct status *status)
{
    put_number(out, "redis_up", "gauge", "Whether Redis could be asked just now.",
               status->up);
    begin(out, "redis_errors_total", "counter",
          "Connections of the lookups lost, histories refused, figures not read.");
    sample(out, "redis_errors_total", "what", "lost", (double)status->lookups.outages);
    sample(out, "redis_errors_total", "what", "history",
           (double)status->lookups.refusals);
    sample(out, "redis_errors_total", "what", "status", (double)status->read_failures);
}

static void put_milter(FILE *out, const struct counters_read *milter)
{
    static const struct {
        enum counter first, last;
        const char *name, *label, *help;
    } groups[] = {
        { COUNTER_DELIVER, COUNTER_LATER, "milter_recipients_total", "verdict",
          "Recipients of managed domains by verdict." },
        { COUNTER_SPF, COUNTER_DKIM - 1, "milter_spf_total", "result",
          "Messages by the result of SPF." },
        { COUNTER_DKIM, COUNTER_DMARC - 1, "milter_dkim_total", "result",
          "Messages by the result of DKIM." },
        { COUNTER_DMARC, COUNTER_COUNT - 1, "milter_dmarc_total", "result",
          "Messages by the result of DMARC." },
    };
    char name[32];
    put_number(out, "milter_updated_timestamp_seconds", "gauge",
               "When sluice-milter wrote its counters.", (double)milter->updated);
    put_number(out, "milter_messages_total", "counter", "Messages at their end.",
               (double)milter->count[COUNTER_MESSAGES]);
    put_number(out, "milter_rejected_total", "counter",
               "Messages refused by a DMARC policy or for forged results.",
               (double)milter->count[COUNTER_REJECTED]);
    put_number(out, "milter_quarantined_total", "counter",
               "Messages put on hold by a DMARC policy.",
               (double)milter->count[COUNTER_QUARANTINED]);
    put_number(out, "milter_lookup_failures_total", "counter",
               "Messages whose homes could not be looked up.",
               (double)milter->count[COUNTER_STORE_FAILURES]);
    for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
        begin(out, groups[g].name, "counter", groups[g].help);
        for (int i = (int)groups[g].first; i <= (int)groups[g].last; i++) {
            const char *value = strrchr(counter_name((enum counter)i, name), '_');
            sample(out, groups[g].name, groups[g].label, value ? value + 1 : name,
                   (double)milter->count[i]);
        }
    }
}

static void put_alarms(FILE *out, const struct status *status)
{
    begin(out, "alarm", "gauge", "1 for each alarm of the status page.");
    for (size_t i = 0; i < status->alarm_count; i++)
        sample2(out, "alarm", "kind", alarm_kind_name(status->alarms[i].kind), "about",
                status->alarms[i].about, 1);
    put_number(out, "alarm_command_failing", "gauge",
               "Alarms whose alarm-command failed; it is run again.",
               (double)status->untold);
}

char *status_metrics(const struct status *status, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    if (!out)
        return NULL;
    begin(out, "build_info", "gauge", "This sluice-policyd.");
    fputs("sluice_build_info{", out);
    put_label(out, "host", status->conf->hostname);
    fprintf(out, ",side=\"%s\",version=\"" PACKAGE_VERSION "\"} 1\n",
            side_name(status->conf->side));
    put_redis(out, status);
    put_lookups(out, &status->lookups);
    if (status->has_milter)
        put_milter(out, &status->milter);
    put_number(out, "status_timestamp_seconds", "gauge", "When these figures were made.",
               (double)status->now);
    put_alarms(out, status);
    if (status->up) {
        put_number(out, "epoch", "gauge", "Number of the last change.",
                   (double)status->epoch);
        put_domains(out, status);
        put_hosts(out, status);
        put_pings(out, status);
        put_monitors(out, status);
    }
    bool good = !ferror(out);
    if (fclose(out) == 0 && good)
        return text;
    free(text);
    return NULL;
}
