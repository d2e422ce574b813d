/*
 * doctor_store: Redis, what is registered in it, this host's journal, the clock,
 * and the versions of all hosts. See doctor.h.
 */
#include "config.h"

#include "doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLOCK_WARN_MS 2000
#define CLOCK_FAIL_MS 60000

static bool check_redis(struct doctor *doctor)
{
    struct command_context *context = doctor->context;
    struct position at;
    switch (store_position(context->store, &at)) {
    case LOOKUP_FOUND:
        doctor_say(doctor, FINDING_OK, "redis", "%s answers, epoch %llu",
                   context->conf->redis.text, (unsigned long long)at.epoch);
        return true;
    case LOOKUP_ABSENT:
        doctor_say(doctor, FINDING_FAIL, "redis",
                   "%s answers, but holds no data of sluice", context->conf->redis.text);
        doctor_fix(doctor, "shell",
                   "sluice init (or sluice recover, when it was emptied)");
        return true;
    default:
        doctor_say(doctor, FINDING_FAIL, "redis", "%s", store_error(context->store));
        return false;
    }
}

static void check_durable(struct doctor *doctor)
{
    struct store *store = doctor->context->store;
    enum commit durable = store_durable(store);
    if (durable == COMMIT_DONE) {
        doctor_say(doctor, FINDING_OK, "durable", "append-only file on, no eviction");
        return;
    }
    bool wanted = doctor->context->conf->redis_durable;
    doctor_say(doctor, wanted ? FINDING_FAIL : FINDING_WARN, "durable", "%s",
               store_error(store));
    if (durable == COMMIT_REFUSED)
        doctor_fix(doctor, "redis.conf", "appendonly yes, maxmemory-policy noeviction");
}

static void check_domains(struct doctor *doctor)
{
    const struct conf *conf = doctor->context->conf;
    char **names;
    enum lookup lookup = store_domains(doctor->context->store, &names);
    if (lookup == LOOKUP_FAILED) {
        doctor_say(doctor, FINDING_FAIL, "domains", "%s",
                   store_error(doctor->context->store));
        return;
    }
    size_t missing = 0;
    for (size_t i = 0; i < conf->domain_count; i++) {
        bool found = false;
        for (char **name = names; lookup == LOOKUP_FOUND && *name && !found; name++)
            found = strcmp(*name, conf->domains[i].name) == 0;
        if (found)
            continue;
        doctor_say(doctor, FINDING_FAIL, "domains",
                   "%s is configured but not registered: its mail is tried later",
                   conf->domains[i].name);
        doctor_fix(doctor, "shell", "sluice init");
        missing++;
    }
    if (conf->domain_count == 0)
        doctor_say(doctor, FINDING_WARN, "domains", "none is configured");
    else if (missing == 0)
        doctor_say(doctor, FINDING_OK, "domains", "%zu registered", conf->domain_count);
    if (lookup == LOOKUP_FOUND)
        store_list_free(names);
}

static void check_this_host(struct doctor *doctor, const struct host *host, int64_t now)
{
    const struct conf *conf = doctor->context->conf;
    char age[DURATION_TEXT_MAX];
    if (host == NULL) {
        doctor_say(doctor, FINDING_FAIL, "host",
                   "%s is not registered (sluice-policyd does that, seconds after "
                   "sluice init): no lock can be complete",
                   conf->hostname);
        doctor_fix(doctor, "shell", "systemctl start sluice-policyd");
    } else if (host->side != conf->side) {
        doctor_say(doctor, FINDING_FAIL, "host",
                   "%s is registered on the %s side, but "
                   "configured for the %s one",
                   conf->hostname, side_name(host->side), side_name(conf->side));
        doctor_fix(doctor, "shell", "systemctl restart sluice-policyd");
    } else if (now - host->seen_ms > HOST_SILENT_MS) {
        doctor_say(doctor, FINDING_FAIL, "host",
                   "%s: no sign of life of its policyd for %s", conf->hostname,
                   duration_text((now - host->seen_ms) / 1000, age));
        doctor_fix(doctor, "shell", "systemctl start sluice-policyd");
    } else {
        doctor_say(doctor, FINDING_OK, "host",
                   "%s, %s side, confirmed up to epoch %llu%s%s", conf->hostname,
                   side_name(host->side), (unsigned long long)host->fenced,
                   host->state[0] ? "; " : "", host->state);
    }
}

static void check_other_hosts(struct doctor *doctor, const struct host *hosts, size_t n,
                              int64_t now)
{
    size_t silent = 0, other = 0;
    char age[DURATION_TEXT_MAX];
    for (size_t i = 0; i < n; i++) {
        bool here = strcmp(hosts[i].name, doctor->context->conf->hostname) == 0;
        if (!here && now - hosts[i].seen_ms > HOST_SILENT_MS) {
            silent++;
            doctor_say(doctor, FINDING_FAIL, "hosts",
                       "%s: no sign of life for %s; a lock waits "
                       "for it",
                       hosts[i].name,
                       duration_text((now - hosts[i].seen_ms) / 1000, age));
            doctor_fix(doctor, "shell", "systemctl start sluice-policyd (on %s)",
                       hosts[i].name);
        }
        if (strcmp(hosts[i].version, PACKAGE_VERSION) != 0) {
            other++;
            doctor_say(doctor, FINDING_WARN, "versions", "%s runs %s, this is %s",
                       hosts[i].name, hosts[i].version, PACKAGE_VERSION);
        }
    }
    if (silent == 0)
        doctor_say(doctor, FINDING_OK, "hosts", "%zu registered, none silent", n);
    if (other == 0 && n > 0)
        doctor_say(doctor, FINDING_OK, "versions", "%s on all hosts", PACKAGE_VERSION);
}

static void check_journal(struct doctor *doctor, const struct host *host)
{
    struct position head, at;
    char path[4096];
    conf_journal_path(doctor->context->conf, path, sizeof(path));
    enum lookup here = journal_head(doctor->context->head, &head);
    if (here == LOOKUP_ABSENT) {
        doctor_say(doctor, host ? FINDING_FAIL : FINDING_WARN, "journal",
                   "%s: none yet, policyd writes it", path);
    } else if (here == LOOKUP_FAILED) {
        doctor_say(doctor, FINDING_FAIL, "journal", "%s: cannot be read, or is damaged",
                   path);
        doctor_fix(doctor, "shell", "ls -l %s; journalctl -u sluice-policyd", path);
    } else if (store_position(doctor->context->store, &at) != LOOKUP_FOUND ||
               at.epoch < head.epoch) {
        doctor_say(doctor, FINDING_FAIL, "journal",
                   "%s knows epoch %llu: Redis lost or rolled back its history", path,
                   (unsigned long long)head.epoch);
        doctor_fix(doctor, "shell", "sluice recover");
    } else {
        doctor_say(doctor, FINDING_OK, "journal",
                   "%s agrees with Redis, %llu events behind", path,
                   (unsigned long long)(at.epoch - head.epoch));
    }
}

static void check_clock(struct doctor *doctor, int64_t store_ms)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t off = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 - store_ms;
    int64_t size = off < 0 ? -off : off;
    enum finding finding = size < CLOCK_WARN_MS   ? FINDING_OK
                           : size < CLOCK_FAIL_MS ? FINDING_WARN
                                                  : FINDING_FAIL;
    doctor_say(doctor, finding, "clock", "%.1f s %s Redis' clock", (double)size / 1000,
               off < 0 ? "behind" : "ahead of");
    if (finding != FINDING_OK)
        doctor_fix(doctor, "shell", "timedatectl set-ntp true (on both)");
}

void doctor_check_store(struct doctor *doctor)
{
    struct store *store = doctor->context->store;
    struct host *hosts = NULL;
    size_t n = 0;
    if (!check_redis(doctor))
        return;
    check_durable(doctor);
    check_domains(doctor);
    int64_t now = store_time_ms(store);
    if (now == 0 || store_hosts(store, &hosts, &n) == LOOKUP_FAILED) {
        doctor_say(doctor, FINDING_FAIL, "hosts", "%s", store_error(store));
        return;
    }
    const struct host *here = NULL;
    for (size_t i = 0; i < n; i++)
        if (strcmp(hosts[i].name, doctor->context->conf->hostname) == 0)
            here = &hosts[i];
    check_this_host(doctor, here, now);
    check_other_hosts(doctor, hosts, n, now);
    check_journal(doctor, here);
    check_clock(doctor, now);
    free(hosts);
}
