/*
 * status: what is known of the whole move, as one picture, and how it is written
 * down: the document of /status.json, which the page at / draws, and the metrics
 * that come from the same picture. Pure: no I/O, no clock.
 *
 * /status.json: one object. Times are unix seconds (0: never, or not known),
 * durations seconds or, where the name ends in _ms, milliseconds; counts are
 * numbers. Every field is always there; a list may be empty; "playbook", "lock"
 * and "milter" may be null. Texts may hold anything that a text can hold (names and
 * notes come from strangers): show them as text, never as markup. More fields may
 * come; "version" changes when one of these goes or means something else.
 *
 *   version   1
 *   host, side, sluice   this host's name, "old" or "new", program version
 *   time      when this document was made, by this host's clock; ages are to be
 *             counted from here, not from the browser's clock
 *   redis     { up: can be asked, error: why not ("" when up; a line for a person),
 *               as_of: time of what is shown below; while Redis is down that is the
 *               last that was known, or 0: nothing yet (all lists are empty) }
 *   alarms    [ { kind, about, since, text } ]   the oldest first. kind:
 *               "lock-deadline"   about a domain    a lock is past its deadline; about
 *                                 "others"          those of more than 20 domains
 *               "held-old"        about a host      held mail is older than that
 *               "forward-failing" about a host      forwarded mail waits in its queue
 *               "host-silent"     about a host      no heartbeat
 *               "host-fault"      about a host      its own text, e.g. no helper
 *               "log-failing"     about a host      its log says that forwards fail
 *               "milter-silent"   about this host   sluice-milter is not there
 *               "redis-down"      about ""          see redis.error
 *             text is a line for a person, with the way out
 *   homes     { old, locked, rolling_back, new, total }   listed mailboxes of all
 *             domains; locked: on their way to the new side; rolling_back: locked
 *             too, on their way back
 *   held      { messages, loops, left, oldest }   of all hosts. messages: on hold by
 *             sluice (loops included); left: of unlocked mailboxes, still to be
 *             released; oldest: since when the oldest is held
 *   floaters  { total, last, needed, first_hour, hours[96] }   of all domains:
 *             messages that arrived on the old side for moved mailboxes; total since
 *             ever; last: time of the last one; needed: how long it must be quiet
 *             (259200, 72 h); hours: how many in each hour, the oldest first, the
 *             last one is the present hour; first_hour: when hours[0] began
 *   domain_count   of all; "domains" holds 200 at most: those that move first
 *   domains   [ {
 *       name
 *       home         "old", "locked", "new": of addresses that are not listed
 *       home_since
 *       old, locked, rolling_back, new, total   listed mailboxes
 *       lock         null, or { since: of the oldest lock that has not ended,
 *                    deadline: when that becomes an alarm (0: no deadline),
 *                    overdue: how many mailboxes are past it }
 *       floaters     { total, last, quiet_since, log_since, logs, hours[96] }   as
 *                    above, counted by the milters. quiet_since: since the last
 *                    floater, or since the last flip or sluice recover (which may have
 *                    lost floaters) when that is later: the countdown ends at
 *                    quiet_since + needed. 0: nothing has moved yet, there is no
 *                    countdown. log_since: the same by the logs ("monitors"): since
 *                    the last floater, or since the beginning of a log that is
 *                    believed; 0: not known. When it is later it is quiet_since.
 *                    logs: so many hosts' logs are believed up to now; those of the
 *                    new side are not counted
 *       senders      [ { client, name, count, first, last } ]   who sent floaters,
 *                    the most first, 20 at most; client: address, or "*" for all that
 *                    found no room; name: what it calls itself (anything), or ""
 *       playbook     null, or {
 *           name, title
 *           state      "going on", "finished", "rolled back"
 *           rehearsal  true: nothing is changed
 *           started, by
 *           window_opened, window_ends   the change window; 0: not opened yet
 *           done, total   steps; total 0: not known
 *           phase      index of the present one in phases; -1: none, or over
 *           phases     [ { title, done, total } ]
 *           now        [ { id, state, began, due, by, note } ]   steps that are under
 *                      way, 5 at most. state: "running", "waiting for a person",
 *                      "waiting for time" (until due), "failed", "undoing"
 *       }
 *   } ]
 *   hosts     [ { name, side, version,
 *                 here: this is the host that answers,
 *                 seen: last heartbeat, age_ms: how old that is, silent: too old,
 *                 fence: "complete", or "waiting" for a lock, or "unknown" (silent),
 *                 journaled, fenced: last change in its journal, and up to which
 *                 every lock is complete; held, loops, left, oldest: as in "held";
 *                 deferred, deferred_oldest: forwarded messages that the new server
 *                 has not taken yet, in its queue;
 *                 state: what it waits for or what is wrong there; "" } ]
 *   epoch     number of the last change
 *   monitors  [ { host, time, old, state, text, begins, last, waiting, stuck } ]   the
 *             last verdict of "sluice monitor" on each host, of the whole log there.
 *             old: nothing was looked at for two hours: it is not believed. state: as in
 *             "pings"; text: a line for a person; begins: the log is known from here;
 *             last: the last floater; waiting: forwards that are not taken yet, stuck:
 *             of these, for long
 *   logs_missing   so many registered hosts of the old side have no log that is believed
 *             up to now: what they forwarded unseen is not known
 *   ping_count   of all; "pings" holds 100 at most, those that fail first
 *   pings     [ { host, path, time, state, ok, total_ms, error, text, legs: [ { name,
 *               ms } ] } ]   the last of each path ("sluice ping") on each host. state:
 *             "ok", "warning", "critical", "unknown"; ok: whether it arrived in time;
 *             text: a line for a person; error: that line, or "" when ok. legs:
 *             "connected", "accepted", "arrived", as far as it came, in milliseconds
 *             since it began; total_ms: of the last leg, 0: none
 *   lookups   of this host: { answered, failed, median_ms, p99_ms }   since the start;
 *             the times are of the last minutes
 *   milter    of this host: null (no sluice-milter has run here), or { updated, messages,
 *             deliver, hold, forward, redirect, later, rejected }   since its start
 */
#ifndef SLUICE_POLICYD_STATUS_H
#define SLUICE_POLICYD_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "counters.h"
#include "lookup.h"
#include "store.h"

#define STATUS_QUIET_S     259200 /* 72 h without a floater */
#define STATUS_DOMAINS_MAX 200    /* in the document */
#define STATUS_METRICS_MAX 1000   /* domains in the metrics */
#define STATUS_OVERDUE_MAX 20     /* domains with an alarm of their own */
#define STATUS_SENDERS_MAX 20
#define STATUS_PINGS_MAX   100    /* in the document */
#define STATUS_PINGS_KEPT  1000   /* in the metrics */
#define STATUS_MONITORS_MAX 100
#define STATUS_PHASES_MAX  32
#define STATUS_NOW_MAX     5
#define STATUS_TEXT_MAX    400

/* When a condition becomes an alarm. */
#define STATUS_HOST_LOST_S    60
#define STATUS_FORWARD_LATE_S 900
#define STATUS_MILTER_LOST_S  60
/* A verdict of sluice monitor is old then; so long a bad one is an alarm, and so long it
 * is shown at all. */
#define STATUS_MONITOR_OLD_S    7200
#define STATUS_MONITOR_ALARM_S  (26 * 3600)
#define STATUS_MONITOR_FORGET_S (30 * 86400)

struct status_step {
    char id[64];
    char state; /* letter of the record */
    int64_t began, due;
    char by[128], note[256];
};

struct status_phase {
    char title[128];
    unsigned done, total;
};

/* A run of a playbook, as its records say. */
struct status_run {
    char name[128], title[200], by[128];
    char state; /* letter of the record: g going on, f finished, b rolled back */
    bool rehearsal;
    int64_t started, opened, window_s;
    unsigned done, total;
    int phase; /* -1: none */
    struct status_phase phases[STATUS_PHASES_MAX];
    size_t phase_count;
    struct status_step now[STATUS_NOW_MAX];
    size_t now_count;
};

struct status_sender {
    char client[112], name[112];
    uint64_t count;
    int64_t first, last;
};

struct status_domain {
    char name[ADDR_DOMAIN_MAX + 1];
    struct store_totals totals; /* own: without addresses */
    int64_t lock_since;         /* of the oldest lock; 0: none */
    int64_t deadline;           /* when that is an alarm; 0: never */
    uint64_t overdue;           /* mailboxes */
    bool own_overdue;           /* the addresses that are not listed, too */
    uint64_t floaters;
    int64_t floater_last, quiet_since;
    int64_t log_since; /* by the logs: since the last floater, or since they begin */
    unsigned logs;     /* so many hosts' logs are known up to now */
    uint64_t hours[STORE_HOURS];
    struct status_sender *senders; /* STATUS_SENDERS_MAX at most */
    size_t sender_count;
    struct status_run *run; /* or NULL */
};

struct status_ping {
    char host[256], path[72], text[STATUS_TEXT_MAX]; /* names have 64 characters */
    int64_t when;
    int state;
    int64_t ms[3]; /* connected, accepted, arrived; -1: never */
};

struct status_monitor_domain {
    char name[ADDR_DOMAIN_MAX + 1];
    int64_t last;
};
/* As struct monitor_row. */
struct status_monitor {
    char host[256], text[STATUS_TEXT_MAX];
    int64_t when, begins, last;
    int state;
    uint64_t waiting, stuck;
    bool old;
    struct status_monitor_domain *domains;
    size_t domain_count;
};

enum alarm_kind {
    ALARM_LOCK_DEADLINE,
    ALARM_HELD_OLD,
    ALARM_FORWARD_FAILING,
    ALARM_HOST_SILENT,
    ALARM_HOST_FAULT,
    ALARM_LOG_FAILING,
    ALARM_MILTER_SILENT,
    ALARM_REDIS_DOWN,
    ALARM_KINDS
};
struct alarm {
    enum alarm_kind kind;
    char about[256];
    int64_t since; /* unix s */
    char text[STATUS_TEXT_MAX];
};
#define STATUS_ALARMS_MAX 200

struct status {
    const struct conf *conf;
    int64_t now; /* unix s, of this host */
    bool up;
    char error[STATUS_TEXT_MAX]; /* why it is not; "" */
    int64_t as_of;               /* unix s, of this host; 0: nothing is known */
    int64_t store_s;             /* unix s by the store's clock, at as_of */
    uint64_t epoch;
    struct status_domain *domains; /* sorted: those that move first */
    size_t domain_count, domain_room;
    struct host *hosts;
    size_t host_count;
    struct status_ping *pings;
    size_t ping_count; /* those that fail come first */
    struct status_monitor *monitors; /* sorted by host */
    size_t monitor_count;
    unsigned logs_missing; /* old servers whose log is not believed up to now */
    struct lock_ages *ages; /* or NULL; the caller's */
    struct lookup_figures lookups;
    double median_ms, p99_ms;
    bool has_milter;
    struct counters_read milter;
    uint64_t reads, read_failures; /* of these figures themselves */
    struct alarm *alarms;
    size_t alarm_count;
    size_t untold; /* of these, and of those that are over: alarm-command failed */
};

void status_free(struct status *status);

/* Takes over what the store tells of one domain. false: no memory. */
bool status_add_domain(struct status *status, const struct store_picture *picture);
bool status_add_ping(struct status *status, const struct ping_row *row);
/* After status->now is set. */
bool status_add_monitor(struct status *status, const struct monitor_row *row);
/* Sorts, and counts what the logs say; after the last one. */
void status_settle(struct status *status);

/* ---- what the logs say (status_monitor.c); private to status.c ------------- */

void status_count_logs(struct status *status);
void status_monitors_free(struct status *status);

/* The conditions that are alarms now, or would be if they lasted, into out[] (room for
 * STATUS_ALARMS_MAX); returns how many. since is when each began, as far as that is
 * known, else now. */
size_t status_judge(const struct status *status, struct alarm *out);
const char *alarm_kind_name(enum alarm_kind kind);

/* What a value of a histogram is at a quantile (0 to 1), in milliseconds. */
double status_quantile(const struct lookup_figures *from, const struct lookup_figures *to,
                       double quantile);
/* "4 h 24 min". Returns out. */
#define STATUS_SPAN_MAX 48
const char *status_span(int64_t seconds, char out[STATUS_SPAN_MAX]);

/* ---- the run of a playbook (status_run.c) --------------------------------- */

/* run: the store's field ""; outline: its field "@outline", or NULL. NULL: it is
 * none, or no memory. */
struct status_run *status_run_new(const char *run, const char *outline);
/* One field of the run, in any order. */
void status_run_step(struct status_run *run, const char *outline, const char *name,
                     const char *value);
/* After the last step. */
void status_run_settle(struct status_run *run);

/* ---- as text; malloc'ed, NULL: no memory ----------------------------------- */

char *status_json(const struct status *status, size_t *len);    /* status_json.c */
char *status_metrics(const struct status *status, size_t *len); /* status_metrics.c */

#endif
