/*
 * sluice status [ADDRESS|DOMAIN...]: where everything stands.
 *
 * Without arguments: the configured domains (counted by the store, so a million
 * mailboxes take no longer than ten), the MTA hosts, and what needs a person
 * ("alarm: ..."), last so that it stands just above the prompt.  A domain narrows
 * the first sheet; an address shows that mailbox: its home, what either side
 * does with its mail, and what is held for it.
 *
 * --watch shows it again and again: painted anew on a terminal, else one report
 * after the other with the time above it. A store that does not answer is no
 * reason to end then.
 *
 * Reads only. Exit 0 also with alarms (sluice doctor judges); 69 when the store
 * does not answer, or has lost its history.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "fencewait.h"
#include "homes.h"
#include "options.h"
#include "output.h"
#include "targets.h"

#define DEFAULT_WATCH 2
#define ALARM_MAX     512

struct status {
    struct command_context *context;
    const struct targets *targets; /* NULL: everything */
    struct host *hosts;
    size_t host_count;
    struct position at;
    int64_t now_ms; /* the store's clock */
    doc *document, *alarms;
    char (*alarm_texts)[ALARM_MAX];
    size_t alarm_count;
};

__attribute__((format(printf, 2, 3))) static void alarm_add(struct status *status,
                                                            const char *fmt, ...)
{
    char(*grown)[ALARM_MAX] =
        reallocarray(status->alarm_texts, status->alarm_count + 1, sizeof(*grown));
    if (!grown)
        return;
    status->alarm_texts = grown;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(grown[status->alarm_count], ALARM_MAX, fmt, args);
    va_end(args);
    if (n < 0)
        return;
    if (n >= ALARM_MAX)
        memcpy(grown[status->alarm_count] + ALARM_MAX - 4, "...", 4);
    doc_add_text(status->alarms, grown[status->alarm_count]);
    status->alarm_count++;
}

/* ---- domains ----------------------------------------------------------- */

struct floaters {
    const char *local; /* NULL: all */
    uint64_t count;
    int64_t last;
};

static bool add_floater(void *context, const struct floater *floater)
{
    struct floaters *sum = context;
    if (sum->local && strcmp(sum->local, floater->local) != 0)
        return true;
    sum->count += floater->count;
    if (floater->last > sum->last)
        sum->last = floater->last;
    return true;
}

static const char *number_text(uint64_t number, char out[24])
{
    int n = snprintf(out, 24, "%" PRIu64, number);
    return n > 0 ? out : "";
}

static const char *ago_text(const struct status *status, int64_t unix_s,
                            char out[DURATION_TEXT_MAX + 8])
{
    char duration[DURATION_TEXT_MAX];
    if (unix_s <= 0)
        return "-";
    int n = snprintf(out, DURATION_TEXT_MAX + 8, "%s ago",
                     duration_text(status->now_ms / 1000 - unix_s, duration));
    return n > 0 ? out : "-";
}

/* "old", "locked", "new"; "locked, going back". */
static const char *home_text(const struct home *home)
{
    return home->rollback ? "locked, going back" : home_state_name(home->state);
}

static void show_domain(struct status *status, struct sheet *sheet, doc *domains,
                        const char *name)
{
    struct store_totals totals = { 0 };
    struct floaters floaters = { 0 };
    enum lookup found = store_totals(status->context->store, name, &totals);
    doc *object = doc_add(domains, doc_object());
    doc_text(object, "domain", name);
    doc_flag(object, "registered", found == LOOKUP_FOUND);
    if (found != LOOKUP_FOUND) {
        const char *cells[] = {
            name, found == LOOKUP_ABSENT ? "not registered" : "unknown",
            NULL, NULL,
            NULL, NULL,
            NULL, NULL
        };
        sheet_row(sheet, cells);
        if (found == LOOKUP_ABSENT)
            alarm_add(status,
                      "%s is not registered, its mail is answered \"try later\": run "
                      "sluice init",
                      name);
        else
            alarm_add(status, "%s: %s", name, store_error(status->context->store));
        return;
    }
    (void)store_each_floater(status->context->store, name, add_floater, &floaters);
    uint64_t all = totals.old + totals.locked + totals.rolling_back + totals.new;
    char text[6][24], last[DURATION_TEXT_MAX + 8];
    const char *cells[] = {
        name,
        home_text(&totals.own),
        number_text(all, text[0]),
        number_text(totals.old, text[1]),
        number_text(totals.locked + totals.rolling_back, text[2]),
        number_text(totals.new, text[3]),
        number_text(floaters.count, text[4]),
        ago_text(status, floaters.last, last),
    };
    sheet_row(sheet, cells);
    doc_text(object, "home", home_state_name(totals.own.state));
    doc_flag(object, "rollback", totals.own.rollback);
    doc_number(object, "since", totals.own.since);
    doc_number(object, "mailboxes", (int64_t)all);
    doc_number(object, "old", (int64_t)totals.old);
    doc_number(object, "locked", (int64_t)totals.locked);
    doc_number(object, "rolling_back", (int64_t)totals.rolling_back);
    doc_number(object, "new", (int64_t)totals.new);
    doc_number(object, "floaters", (int64_t)floaters.count);
    doc_number(object, "last_floater", floaters.last);
}

/* The domains to show: the named ones, or all configured. */
static void show_domains(struct status *status)
{
    static const char *const headers[] = {
        "domain",  "home", ">mailboxes", ">old",
        ">locked", ">new", ">floaters",  "last floater"
    };
    struct sheet *sheet = sheet_new(headers, 8);
    doc *domains = doc_put(status->document, "domains", doc_array());
    if (status->targets) {
        for (size_t i = 0; i < status->targets->count; i++)
            if (status->targets->items[i].whole)
                show_domain(status, sheet, domains,
                            status->targets->items[i].domain->name);
    } else {
        const struct conf *conf = status->context->conf;
        for (size_t i = 0; i < conf->domain_count; i++)
            show_domain(status, sheet, domains, conf->domains[i].name);
    }
    if (sheet_rows(sheet) > 0)
        sheet_print(sheet);
    else
        sheet_free(sheet);
}

/* Domains that Redis knows and this host's configuration does not. */
static void check_unknown_domains(struct status *status)
{
    char **names = NULL;
    if (store_domains(status->context->store, &names) != LOOKUP_FOUND)
        return;
    for (size_t i = 0; names[i]; i++) {
        const struct conf_domain *domain = conf_managed(status->context->conf, names[i]);
        if (!domain || strcmp(domain->name, names[i]) != 0)
            alarm_add(status,
                      "%s is registered but not in %s: this host delivers its mail "
                      "without asking",
                      names[i], status->context->conf->path);
    }
    store_list_free(names);
}

/* ---- hosts ------------------------------------------------------------- */

static bool host_silent(const struct status *status, const struct host *host)
{
    return status->now_ms - host->seen_ms > HOST_SILENT_MS;
}

static void check_host(struct status *status, const struct host *host)
{
    char duration[DURATION_TEXT_MAX];
    if (host_silent(status, host))
        alarm_add(status,
                  "%s: no sign of life for %s: locks are not completed and held mail "
                  "is not released there; start sluice-policyd",
                  host->name,
                  duration_text((status->now_ms - host->seen_ms) / 1000, duration));
    if (host->loops > 0)
        alarm_add(status,
                  "%s: %" PRIu64 " messages are on hold because of a loop (sluice "
                  "held)",
                  host->name, host->loops);
    for (size_t i = 0; i < status->host_count; i++)
        if (&status->hosts[i] == host && i > 0 &&
            strcmp(host->version, status->hosts[0].version) != 0)
            alarm_add(status, "%s runs sluice %s, %s runs %s", host->name, host->version,
                      status->hosts[0].name, status->hosts[0].version);
}

static void show_host(struct status *status, struct sheet *sheet, doc *hosts,
                      const struct host *host)
{
    bool silent = host_silent(status, host);
    bool confirmed = host->fenced >= status->at.epoch || host->fenced >= host->journaled;
    char text[3][24], seen[DURATION_TEXT_MAX + 8], oldest[DURATION_TEXT_MAX];
    const char *cells[] = {
        host->name,
        side_name(host->side),
        ago_text(status, host->seen_ms / 1000, seen),
        silent      ? "SILENT"
        : confirmed ? "confirmed"
                    : "working",
        number_text(host->held, text[0]),
        number_text(host->loops, text[1]),
        number_text(host->left, text[2]),
        host->oldest ? duration_text(status->now_ms / 1000 - host->oldest, oldest) : NULL,
        host->version,
        host->state,
    };
    sheet_row(sheet, cells);
    doc *object = doc_add(hosts, doc_object());
    doc_text(object, "host", host->name);
    doc_text(object, "side", side_name(host->side));
    doc_number(object, "seen_seconds", (status->now_ms - host->seen_ms) / 1000);
    doc_flag(object, "silent", silent);
    doc_flag(object, "fence_confirmed", confirmed);
    doc_number(object, "fenced", (int64_t)host->fenced);
    doc_number(object, "journaled", (int64_t)host->journaled);
    doc_number(object, "swept", (int64_t)host->swept);
    doc_text(object, "state", host->state);
    doc_number(object, "held", (int64_t)host->held);
    doc_number(object, "loops", (int64_t)host->loops);
    doc_number(object, "left", (int64_t)host->left);
    doc_number(object, "oldest", host->oldest);
    doc_text(object, "version", host->version);
    check_host(status, host);
}

static void show_hosts(struct status *status)
{
    static const char *const headers[] = { "host",    "side",   "seen",        "fence",
                                           ">held",   ">loops", ">to release", "oldest",
                                           "version", "state" };
    struct sheet *sheet = sheet_new(headers, 10);
    doc *hosts = doc_put(status->document, "hosts", doc_array());
    for (size_t i = 0; i < status->host_count; i++)
        show_host(status, sheet, hosts, &status->hosts[i]);
    if (status->host_count > 0) {
        print("%s", "");
        sheet_print(sheet);
    } else {
        sheet_free(sheet);
        alarm_add(status, "no MTA host is registered: start sluice-policyd on every one");
    }
}

/* ---- one mailbox ------------------------------------------------------- */

struct mailbox_view {
    struct status *status;
    const struct target *target;
    doc *mailboxes;
    /* of the mailbox whose held mail is being looked for */
    const char *local;
    const char *host;
    doc *held;
    uint64_t held_count;
};

/* Whether a recipient of the list is this mailbox, itself or by its base. */
static bool names_mailbox(const struct mailbox_view *view, const char *recipients)
{
    while (*recipients) {
        struct route route;
        size_t len = strcspn(recipients, "\n");
        if (len > 0 &&
            route_prepare(view->status->context->conf, recipients, len, &route) &&
            route.domain == view->target->domain &&
            (strcmp(route.addr.local, view->local) == 0 ||
             strcmp(route.base, view->local) == 0))
            return true;
        recipients += len + (recipients[len] == '\n');
    }
    return false;
}

static bool note_held(void *context, const struct held *held)
{
    struct mailbox_view *view = context;
    char since[TIME_TEXT_MAX];
    if (!names_mailbox(view, held->recipients))
        return true;
    view->held_count++;
    print("  held:          %s on %s since %s, from <%s>%s", held->queue_id, view->host,
          time_text(held->since, since), held->sender,
          held->kind == HELD_LOOP    ? ", because of a loop"
          : held->kind == HELD_DMARC ? ", because it fails DMARC"
                                     : "");
    doc *object = doc_add(view->held, doc_object());
    doc_text(object, "host", view->host);
    doc_text(object, "queue_id", held->queue_id);
    doc_number(object, "since", held->since);
    doc_text(object, "sender", held->sender);
    return true;
}

static void print_home(const struct status *status, const char *address,
                       const struct home *home)
{
    char since[TIME_TEXT_MAX], ago[DURATION_TEXT_MAX + 8];
    print("%s: %s since %s (%s)%s", address, home_text(home),
          time_text(home->since, since), ago_text(status, home->since, ago),
          home->listed ? "" : "; not listed, it follows its domain");
    print("  mail:          old side: %s, new side: %s",
          verdict_name(verdict_decide(SIDE_OLD, LOOKUP_FOUND, home)),
          verdict_name(verdict_decide(SIDE_NEW, LOOKUP_FOUND, home)));
    if (home->new_address[0])
        print("  new address:   %s", home->new_address);
    if (home->copy[0])
        print("  copies go to:  %s", home->copy);
}

static bool show_mailbox(void *context, size_t index, const struct home *home)
{
    struct mailbox_view *view = context;
    struct status *status = view->status;
    const char *domain = view->target->domain->name;
    char address[ADDR_TEXT_MAX + 1], ago[DURATION_TEXT_MAX + 8];
    view->local = view->target->locals[index];
    addr_format(view->local, domain, address);
    print_home(status, address, home);
    doc *object = doc_add(view->mailboxes, doc_object());
    doc_text(object, "address", address);
    doc_flag(object, "listed", home->listed);
    doc_text(object, "home", home_state_name(home->state));
    doc_flag(object, "rollback", home->rollback);
    doc_number(object, "epoch", (int64_t)home->epoch);
    doc_number(object, "since", home->since);
    doc_text(object, "new_address", home->new_address[0] ? home->new_address : NULL);
    doc_text(object, "copy", home->copy[0] ? home->copy : NULL);
    view->held = doc_put(object, "held", doc_array());
    view->held_count = 0;
    for (size_t i = 0; i < status->host_count; i++) {
        view->host = status->hosts[i].name;
        (void)store_each_held(status->context->store, view->host, note_held, view);
    }
    if (view->held_count == 0)
        print("  held:          nothing");
    struct floaters floaters = { .local = view->local };
    (void)store_each_floater(status->context->store, domain, add_floater, &floaters);
    if (floaters.count > 0)
        print("  floaters:      %" PRIu64 ", the last %s", floaters.count,
              ago_text(status, floaters.last, ago));
    else
        print("  floaters:      none");
    doc_number(object, "floaters", (int64_t)floaters.count);
    doc_number(object, "last_floater", floaters.last);
    return true;
}

static int show_mailboxes(struct status *status)
{
    struct mailbox_view view = { .status = status };
    if (!status->targets || status->targets->mailboxes == 0)
        return EXIT_DONE;
    view.mailboxes = doc_put(status->document, "mailboxes", doc_array());
    for (size_t i = 0; i < status->targets->count; i++) {
        view.target = &status->targets->items[i];
        if (view.target->whole)
            continue;
        if (!homes_look_up(status->context, view.target->domain->name,
                           view.target->locals, view.target->count, show_mailbox, &view))
            return EXIT_SERVICE;
    }
    return EXIT_DONE;
}

/* ---- the command ------------------------------------------------------- */

static void check_durable(struct status *status)
{
    if (store_durable(status->context->store) == COMMIT_REFUSED)
        alarm_add(status, "this Redis would forget locks: %s",
                  store_error(status->context->store));
}

static int show_all(struct status *status)
{
    bool narrow = status->targets && status->targets->mailboxes > 0;
    int code = show_mailboxes(status);
    if (code != EXIT_DONE)
        return code;
    show_domains(status);
    if (!narrow) {
        show_hosts(status);
        check_unknown_domains(status);
        check_durable(status);
    }
    if (status->alarm_count > 0)
        print("%s", "");
    for (size_t i = 0; i < status->alarm_count; i++)
        print("alarm: %s", status->alarm_texts[i]);
    return EXIT_DONE;
}

/* One report. */
static int report(struct command_context *context, const struct targets *targets)
{
    struct status status = { .context = context, .targets = targets };
    int code = command_need_store(context);
    if (code != EXIT_DONE)
        return code;
    status.now_ms = store_time_ms(context->store);
    if (status.now_ms == 0 ||
        store_position(context->store, &status.at) != LOOKUP_FOUND ||
        store_hosts(context->store, &status.hosts, &status.host_count) == LOOKUP_FAILED) {
        message("%s", store_error(context->store));
        return EXIT_SERVICE;
    }
    fence_sort_hosts(status.hosts, status.host_count);
    status.document = doc_object();
    status.alarms = doc_array();
    doc_text(status.document, "command", "status");
    doc_number(status.document, "time", status.now_ms / 1000);
    doc_number(status.document, "epoch", (int64_t)status.at.epoch);
    code = show_all(&status);
    doc_put(status.document, "alarms", status.alarms);
    if (code == EXIT_DONE)
        doc_print(status.document);
    else
        doc_free(status.document);
    free(status.alarm_texts);
    free(status.hosts);
    return code;
}

static int watch(struct command_context *context, const struct targets *targets,
                 int seconds)
{
    bool terminal = isatty(STDOUT_FILENO) == 1;
    command_catch_signals();
    do {
        char now[TIME_TEXT_MAX];
        if (terminal)
            fputs("\033[H\033[2J", stdout);
        print("%s", time_text((int64_t)time(NULL), now));
        print("%s", "");
        (void)report(context, targets);
        if (!terminal)
            print("%s", "");
        if (fflush(stdout) != 0)
            return EXIT_SERVICE; /* nobody reads any more */
    } while (command_sleep(seconds * 1000));
    return EXIT_DONE;
}

int command_status(struct command_context *context, int argc, char **argv)
{
    struct option_perhaps watching = { .number = DEFAULT_WATCH };
    struct targets targets;
    const struct option_spec specs[] = { { "watch", OPTION_PERHAPS, &watching } };
    if (!options_parse(specs, 1, &argc, argv))
        return EXIT_USE;
    if (watching.given && context->json) {
        message("--watch and --json do not go together: call it again instead");
        return EXIT_USE;
    }
    if (argc > 1) {
        int code = targets_resolve(context->conf, argc - 1, argv + 1, &targets);
        if (code != EXIT_DONE)
            return code;
    }
    const struct targets *named = argc > 1 ? &targets : NULL;
    int code =
        watching.given ? watch(context, named, watching.number) : report(context, named);
    if (named)
        targets_free(&targets);
    return code;
}
