/*
 * status_json: the document of /status.json, as status.h describes it.
 *
 * Texts come from strangers (host names, notes, errors): every byte that JSON or
 * HTML could take for something else is escaped, and what is not UTF-8 becomes
 * U+FFFD, so the document can always be read.
 */
#include "config.h"

#include "status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length of the UTF-8 sequence at text; 0: it is none (RFC 3629). */
static size_t utf8_length(const unsigned char *text)
{
    static const struct {
        unsigned char low, high, second_low, second_high;
        size_t length;
    } forms[] = {
        { 0x00, 0x7f, 0, 0, 1 },       { 0xc2, 0xdf, 0x80, 0xbf, 2 },
        { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
        { 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
        { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (text[0] < forms[i].low || text[0] > forms[i].high)
            continue;
        size_t length = forms[i].length;
        if (length > 1 &&
            (text[1] < forms[i].second_low || text[1] > forms[i].second_high))
            return 0;
        for (size_t k = 2; k < length; k++)
            if (text[k] < 0x80 || text[k] > 0xbf)
                return 0;
        return length;
    }
    return 0;
}

static void put_text(FILE *out, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    putc('"', out);
    while (*at) {
        size_t length = utf8_length(at);
        if (length == 0)
            fputs("\\ufffd", out);
        else if (length > 1)
            fwrite(at, 1, length, out);
        else if (*at < 0x20 || *at == 0x7f || strchr("\"\\<>&'", *at))
            fprintf(out, "\\u%04x", *at);
        else
            putc(*at, out);
        at += length ? length : 1;
    }
    putc('"', out);
}

static void put_field(FILE *out, const char *name, const char *text)
{
    fprintf(out, "\"%s\":", name);
    put_text(out, text);
}

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

static void put_hours(FILE *out, const uint64_t hours[STORE_HOURS])
{
    fputs("\"hours\":[", out);
    for (size_t i = 0; i < STORE_HOURS; i++)
        fprintf(out, "%s%" PRIu64, i ? "," : "", hours[i]);
    putc(']', out);
}

static void put_alarms(FILE *out, const struct status *status)
{
    fputs("\"alarms\":[", out);
    for (size_t i = 0; i < status->alarm_count; i++) {
        const struct alarm *alarm = &status->alarms[i];
        fputs(i ? ",{" : "{", out);
        put_field(out, "kind", alarm_kind_name(alarm->kind));
        putc(',', out);
        put_field(out, "about", alarm->about);
        fprintf(out, ",\"since\":%" PRId64 ",", alarm->since);
        put_field(out, "text", alarm->text);
        putc('}', out);
    }
    fputs("],", out);
}

static void put_counts(FILE *out, const struct store_totals *totals)
{
    fprintf(out,
            "\"old\":%" PRIu64 ",\"locked\":%" PRIu64 ",\"rolling_back\":%" PRIu64
            ",\"new\":%" PRIu64 ",\"total\":%" PRIu64,
            totals->old, totals->locked, totals->rolling_back, totals->new,
            totals->old + totals->locked + totals->rolling_back + totals->new);
}

/* Sums of all domains. */
static void put_sums(FILE *out, const struct status *status)
{
    struct store_totals sum = { 0 };
    uint64_t hours[STORE_HOURS] = { 0 }, floaters = 0;
    int64_t last = 0;
    for (size_t i = 0; i < status->domain_count; i++) {
        const struct status_domain *domain = &status->domains[i];
        sum.old += domain->totals.old;
        sum.locked += domain->totals.locked;
        sum.rolling_back += domain->totals.rolling_back;
        sum.new += domain->totals.new;
        floaters += domain->floaters;
        last = domain->floater_last > last ? domain->floater_last : last;
        for (size_t h = 0; h < STORE_HOURS; h++)
            hours[h] += domain->hours[h];
    }
    fputs("\"homes\":{", out);
    put_counts(out, &sum);
    fprintf(out,
            "},\"floaters\":{\"total\":%" PRIu64 ",\"last\":%" PRId64
            ",\"needed\":%d,\"first_hour\":%" PRId64 ",",
            floaters, last, STATUS_QUIET_S,
            status->store_s ? (status->store_s / 3600 - STORE_HOURS + 1) * 3600 : 0);
    put_hours(out, hours);
    fputs("},", out);
}

static void put_held(FILE *out, const struct status *status)
{
    uint64_t held = 0, loops = 0, left = 0;
    int64_t oldest = 0;
    for (size_t i = 0; i < status->host_count; i++) {
        const struct host *host = &status->hosts[i];
        held += host->held;
        loops += host->loops;
        left += host->left;
        if (host->oldest > 0 && (oldest == 0 || host->oldest < oldest))
            oldest = host->oldest;
    }
    fprintf(out,
            "\"held\":{\"messages\":%" PRIu64 ",\"loops\":%" PRIu64 ",\"left\":%" PRIu64
            ",\"oldest\":%" PRId64 "},",
            held, loops, left, oldest);
}

/* ---- domains ------------------------------------------------------------------ */

static void put_senders(FILE *out, const struct status_domain *domain)
{
    fputs("\"senders\":[", out);
    for (size_t i = 0; i < domain->sender_count; i++) {
        const struct status_sender *sender = &domain->senders[i];
        fputs(i ? ",{" : "{", out);
        put_field(out, "client", sender->client);
        putc(',', out);
        put_field(out, "name", sender->name);
        fprintf(out, ",\"count\":%" PRIu64 ",\"first\":%" PRId64 ",\"last\":%" PRId64 "}",
                sender->count, sender->first, sender->last);
    }
    fputs("],", out);
}

static const char *step_state(char letter)
{
    return letter == 'r'   ? "running"
           : letter == 'w' ? "waiting for a person"
           : letter == 't' ? "waiting for time"
           : letter == 'f' ? "failed"
                           : "undoing";
}

static void put_steps(FILE *out, const struct status_run *run)
{
    fputs("\"now\":[", out);
    for (size_t i = 0; i < run->now_count; i++) {
        const struct status_step *step = &run->now[i];
        fputs(i ? ",{" : "{", out);
        put_field(out, "id", step->id);
        fprintf(out, ",\"state\":\"%s\",\"began\":%" PRId64 ",\"due\":%" PRId64 ",",
                step_state(step->state), step->began, step->due);
        put_field(out, "by", step->by);
        putc(',', out);
        put_field(out, "note", step->note);
        putc('}', out);
    }
    putc(']', out);
}

static void put_run(FILE *out, const struct status_run *run)
{
    if (!run) {
        fputs("\"playbook\":null", out);
        return;
    }
    fputs("\"playbook\":{", out);
    put_field(out, "name", run->name);
    putc(',', out);
    put_field(out, "title", run->title);
    fprintf(out, ",\"state\":\"%s\",\"rehearsal\":%s,\"started\":%" PRId64 ",",
            run->state == 'g'   ? "going on"
            : run->state == 'f' ? "finished"
                                : "rolled back",
            truth(run->rehearsal), run->started);
    put_field(out, "by", run->by);
    fprintf(out,
            ",\"window_opened\":%" PRId64 ",\"window_ends\":%" PRId64
            ",\"done\":%u,\"total\":%u,\"phase\":%d,\"phases\":[",
            run->opened, run->opened ? run->opened + run->window_s : 0, run->done,
            run->total, run->phase);
    for (size_t i = 0; i < run->phase_count; i++) {
        fputs(i ? ",{" : "{", out);
        put_field(out, "title", run->phases[i].title);
        fprintf(out, ",\"done\":%u,\"total\":%u}", run->phases[i].done,
                run->phases[i].total);
    }
    fputs("],", out);
    put_steps(out, run);
    putc('}', out);
}

static void put_domain(FILE *out, const struct status_domain *domain)
{
    putc('{', out);
    put_field(out, "name", domain->name);
    fprintf(out, ",\"home\":\"%s\",\"home_since\":%" PRId64 ",",
            home_state_name(domain->totals.own.state), domain->totals.own.since);
    put_counts(out, &domain->totals);
    if (domain->lock_since > 0)
        fprintf(out,
                ",\"lock\":{\"since\":%" PRId64 ",\"deadline\":%" PRId64
                ",\"overdue\":%" PRIu64 "},",
                domain->lock_since, domain->deadline, domain->overdue);
    else
        fputs(",\"lock\":null,", out);
    fprintf(out,
            "\"floaters\":{\"total\":%" PRIu64 ",\"last\":%" PRId64
            ",\"quiet_since\":%" PRId64 ",\"log_since\":%" PRId64 ",\"logs\":%u,",
            domain->floaters, domain->floater_last, domain->quiet_since,
            domain->log_since, domain->logs);
    put_hours(out, domain->hours);
    fputs("},", out);
    put_senders(out, domain);
    put_run(out, domain->run);
    putc('}', out);
}

static void put_domains(FILE *out, const struct status *status)
{
    fprintf(out, "\"domain_count\":%zu,\"domains\":[", status->domain_count);
    for (size_t i = 0; i < status->domain_count && i < STATUS_DOMAINS_MAX; i++) {
        fputs(i ? ",\n" : "\n", out);
        put_domain(out, &status->domains[i]);
    }
    fputs("],\n", out);
}

/* ---- hosts, pings, this host's figures ------------------------------------------ */

static void put_host(FILE *out, const struct status *status, const struct host *host)
{
    int64_t age_ms = status->store_s * 1000 - host->seen_ms;
    bool silent = age_ms > HOST_SILENT_MS;
    putc('{', out);
    put_field(out, "name", host->name);
    fprintf(out, ",\"side\":\"%s\",", side_name(host->side));
    put_field(out, "version", host->version);
    fprintf(out,
            ",\"here\":%s,\"seen\":%" PRId64 ",\"age_ms\":%" PRId64
            ",\"silent\":%s,\"fence\":\"%s\",\"journaled\":%" PRIu64
            ",\"fenced\":%" PRIu64 ",\"held\":%" PRIu64 ",\"loops\":%" PRIu64
            ",\"left\":%" PRIu64 ",\"oldest\":%" PRId64 ",\"deferred\":%" PRIu64
            ",\"deferred_oldest\":%" PRId64 ",",
            truth(strcmp(host->name, status->conf->hostname) == 0), host->seen_ms / 1000,
            age_ms > 0 ? age_ms : 0, truth(silent),
            silent                          ? "unknown"
            : host->fenced >= status->epoch ? "complete"
                                            : "waiting",
            host->journaled, host->fenced, host->held, host->loops, host->left,
            host->oldest, host->deferred, host->deferred_oldest);
    put_field(out, "state", host->state);
    putc('}', out);
}

static const char *plugin_state(int state)
{
    static const char *const states[] = { "ok", "warning", "critical", "unknown" };
    return states[state >= 0 && state < 3 ? state : 3];
}

static void put_monitor(FILE *out, const struct status_monitor *monitor)
{
    putc('{', out);
    put_field(out, "host", monitor->host);
    fprintf(out, ",\"time\":%" PRId64 ",\"old\":%s,\"state\":\"%s\",", monitor->when,
            truth(monitor->old), plugin_state(monitor->state));
    put_field(out, "text", monitor->text);
    fprintf(out,
            ",\"begins\":%" PRId64 ",\"last\":%" PRId64 ",\"waiting\":%" PRIu64
            ",\"stuck\":%" PRIu64 "}",
            monitor->begins, monitor->last, monitor->waiting, monitor->stuck);
}

static void put_ping(FILE *out, const struct status_ping *ping)
{
    static const char *const legs[] = { "connected", "accepted", "arrived" };
    bool ok = ping->state == 0 || ping->state == 1;
    int64_t last = 0;
    putc('{', out);
    put_field(out, "host", ping->host);
    putc(',', out);
    put_field(out, "path", ping->path);
    fprintf(out, ",\"time\":%" PRId64 ",\"state\":\"%s\",\"ok\":%s,", ping->when,
            plugin_state(ping->state), truth(ok));
    put_field(out, "error", ok ? "" : ping->text);
    putc(',', out);
    put_field(out, "text", ping->text);
    fputs(",\"legs\":[", out);
    for (size_t i = 0; i < 3 && ping->ms[i] >= 0; i++) {
        fprintf(out, "%s{\"name\":\"%s\",\"ms\":%" PRId64 "}", i ? "," : "", legs[i],
                ping->ms[i]);
        last = ping->ms[i];
    }
    fprintf(out, "],\"total_ms\":%" PRId64 "}", last);
}

static void put_lists(FILE *out, const struct status *status)
{
    fputs("\"hosts\":[", out);
    for (size_t i = 0; i < status->host_count; i++) {
        fputs(i ? ",\n" : "\n", out);
        put_host(out, status, &status->hosts[i]);
    }
    fputs("],\n\"monitors\":[", out);
    for (size_t i = 0; i < status->monitor_count; i++) {
        fputs(i ? ",\n" : "\n", out);
        put_monitor(out, &status->monitors[i]);
    }
    fprintf(out,
            "],\n\"logs_missing\":%u,\"epoch\":%" PRIu64
            ",\"ping_count\":%zu,\"pings\":[",
            status->logs_missing, status->epoch, status->ping_count);
    for (size_t i = 0; i < status->ping_count && i < STATUS_PINGS_MAX; i++) {
        fputs(i ? ",\n" : "\n", out);
        put_ping(out, &status->pings[i]);
    }
    fputs("],\n", out);
}

static void put_here(FILE *out, const struct status *status)
{
    const struct lookup_figures *lookups = &status->lookups;
    const uint64_t *count = status->milter.count;
    fprintf(out,
            "\"lookups\":{\"answered\":%" PRIu64 ",\"failed\":%" PRIu64
            ",\"median_ms\":%.3f,\"p99_ms\":%.3f},\"milter\":",
            lookups->found + lookups->absent, lookups->failed, status->median_ms,
            status->p99_ms);
    if (!status->has_milter) {
        fputs("null", out);
        return;
    }
    fprintf(out,
            "{\"updated\":%" PRId64 ",\"messages\":%" PRIu64 ",\"deliver\":%" PRIu64
            ",\"hold\":%" PRIu64 ",\"forward\":%" PRIu64 ",\"redirect\":%" PRIu64
            ",\"later\":%" PRIu64 ",\"rejected\":%" PRIu64 "}",
            status->milter.updated, count[COUNTER_MESSAGES], count[COUNTER_DELIVER],
            count[COUNTER_HOLD], count[COUNTER_FORWARD], count[COUNTER_REDIRECT],
            count[COUNTER_LATER], count[COUNTER_REJECTED]);
}

char *status_json(const struct status *status, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    if (!out)
        return NULL;
    fputs("{\"version\":1,", out);
    put_field(out, "host", status->conf->hostname);
    fprintf(out,
            ",\"side\":\"%s\",\"sluice\":\"" PACKAGE_VERSION "\",\"time\":%" PRId64
            ",\n\"redis\":{\"up\":%s,",
            side_name(status->conf->side), status->now, truth(status->up));
    put_field(out, "error", status->error);
    fprintf(out, ",\"as_of\":%" PRId64 "},\n", status->as_of);
    put_alarms(out, status);
    put_sums(out, status);
    put_held(out, status);
    put_domains(out, status);
    put_lists(out, status);
    put_here(out, status);
    fputs("}\n", out);
    bool good = !ferror(out);
    if (fclose(out) == 0 && good)
        return text;
    free(text);
    return NULL;
}
