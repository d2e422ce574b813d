/*
 * cutover: moves mailboxes of a domain, one after the other, with their mail.
 *
 *     sluice cutover ADDRESS|DOMAIN|@FILE... [--batch N] [--jobs N]
 *         [--without-host NAME]... [--no-probe] [--give-up TIME]
 *
 * Each mailbox: the new server is asked whether it takes the recipient; lock and
 * fence; sync command; flip; its held mail is released.  Here is what comes
 * before: what is to be moved (the homes in the store are the only state: old is
 * to do, locked goes on at the fence, new is done), and the preconditions. With
 * one of them missing nothing is locked. Then move.c.
 *
 * One cutover per domain at a time (a lease in the store).
 *
 * Diagnostics: 0 all moved, 1 some were refused or failed, 65 targets, 69 Redis
 * or the new server, 75 not complete (repeat), 78 configuration.
 */
#include "config.h"

#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "command.h"
#include "move.h"
#include "names.h"
#include "output.h"
#include "targets.h"

/* ---- what is to be moved ---------------------------------------------------------- */

struct loader {
    struct move *move;
    const struct target *target;
    struct names *wanted; /* single mailboxes; NULL: all */
    struct names *texts;
    struct mailbox *boxes;
    size_t n, size;
    struct home own;
    size_t found, without_hop;
    bool failed;
};

/* Where its mail will be on the new side. */
static const char *target_of(struct loader *loader, const char *address,
                             const struct home *home)
{
    const struct conf *conf = loader->move->context->conf;
    struct route route;
    if (!route_prepare(conf, address, strlen(address), &route))
        return names_keep(loader->texts, address);
    route.lookup = LOOKUP_FOUND;
    route.exact = true;
    route.home = *home;
    route.home.state = HOME_NEW;
    route_finish(conf, &route);
    if (route.verdict == VERDICT_LATER)
        loader->without_hop++;
    return names_keep(loader->texts,
                      route.home.new_address[0] ? route.home.new_address : address);
}

static struct mailbox *new_box(struct loader *loader)
{
    if (loader->n + 1 >= loader->size) { /* room for the own record too */
        size_t size = loader->size ? loader->size * 2 : 256;
        struct mailbox *grown = realloc(loader->boxes, size * sizeof(*grown));
        if (grown == NULL)
            return NULL;
        loader->boxes = grown;
        loader->size = size;
    }
    struct mailbox *m = &loader->boxes[loader->n];
    memset(m, 0, sizeof(*m));
    return m;
}

static bool fill_box(struct loader *loader, struct mailbox *m, const char *local,
                     const struct home *home)
{
    char address[ADDR_TEXT_MAX + 1];
    addr_format(local, loader->move->domain->name, address);
    m->local = names_keep(loader->texts, local);
    m->address = names_keep(loader->texts, address);
    m->target = target_of(loader, address, home);
    m->step = STEP_UNPROBED;
    m->epoch = home->state == HOME_LOCKED ? home->epoch : 0;
    m->found_locked = home->state == HOME_LOCKED;
    if (home->state == HOME_NEW) {
        m->step = STEP_ALREADY;
        if (home->epoch > loader->move->last_flip)
            loader->move->last_flip = home->epoch;
    } else if (home->rollback) {
        m->step = STEP_FAILED;
        m->found_locked = false;
        m->reason =
            strdup("is being rolled back: finish that first (sluice unlock, or flip)");
    }
    return m->local && m->address && m->target;
}

static bool load_one(void *context, const char *local, const struct home *home)
{
    struct loader *loader = context;
    if (local[0] == '\0') {
        loader->own = *home;
        return true;
    }
    if (loader->wanted && names_find(loader->wanted, local) == SIZE_MAX)
        return true;
    struct mailbox *m = new_box(loader);
    loader->failed = m == NULL || !fill_box(loader, m, local, home);
    loader->n += !loader->failed;
    return !loader->failed;
}

/* Locked ones first: their mail waits already. Then by name, for people. */
static int compare_boxes(const void *a, const void *b)
{
    const struct mailbox *x = a, *y = b;
    if (x->found_locked != y->found_locked)
        return x->found_locked ? -1 : 1;
    return strcmp(x->local, y->local);
}

static void add_own(struct loader *loader)
{
    struct move *move = loader->move;
    const struct home *own = &loader->own;
    move->own = PLAN_NONE;
    if (!move->whole)
        move->own_stays = "name the domain to move them too";
    else if (own->state == HOME_LOCKED && own->rollback)
        move->own_stays = "the domain is being rolled back";
    if (move->own_stays || own->state == HOME_NEW) {
        if (own->state == HOME_NEW)
            move->own_stays = NULL;
        return;
    }
    move->own = loader->n;
    loader->boxes[loader->n++] = (struct mailbox){
        .local = "",
        .address = move->domain->name,
        .target = move->domain->name,
        .step = STEP_PARKED,
        .epoch = own->state == HOME_LOCKED ? own->epoch : 0,
        .found_locked = own->state == HOME_LOCKED,
    };
}

static int load_failed(const struct loader *loader)
{
    if (loader->failed)
        message("no memory for so many mailboxes");
    else
        message("%s", store_error(loader->move->context->store));
    return EXIT_SERVICE;
}

static int name_missing(struct loader *loader)
{
    struct names *found = names_new();
    size_t index;
    for (size_t i = 0; found && i < loader->n; i++)
        if (names_add(found, loader->boxes[i].local, &index) == NAMES_FAILED)
            return load_failed(loader);
    for (size_t i = 0; found && i < loader->target->count; i++)
        if (names_add(found, loader->target->locals[i], &index) == NAMES_NEW)
            message("%s@%s is not listed: sluice import it first",
                    loader->target->locals[i], loader->move->domain->name);
    names_free(found);
    return EXIT_DATA;
}

static int load_homes(struct loader *loader)
{
    struct move *move = loader->move;
    size_t index;
    loader->texts = names_new();
    loader->wanted = loader->target->whole ? NULL : names_new();
    loader->failed = !loader->texts || (!loader->target->whole && !loader->wanted);
    for (size_t i = 0; !loader->failed && i < loader->target->count; i++)
        loader->failed =
            names_add(loader->wanted, loader->target->locals[i], &index) == NAMES_FAILED;
    if (loader->failed ||
        !store_each_home(move->context->store, move->domain->name, load_one, loader) ||
        loader->failed)
        return load_failed(loader);
    if (loader->n < loader->target->count)
        return name_missing(loader);
    if (loader->n == 0) {
        message("%s has no listed mailbox: sluice import them first", move->domain->name);
        return EXIT_DATA;
    }
    qsort(loader->boxes, loader->n, sizeof(*loader->boxes), compare_boxes);
    move->mailboxes = loader->n;
    for (size_t i = 0; i < loader->n; i++)
        move->locked_before += loader->boxes[i].found_locked;
    add_own(loader);
    plan_init(&move->plan, loader->boxes, loader->n);
    return EXIT_DONE;
}

/* ---- preconditions --------------------------------------------------------------------
 */

static bool anything_to_do(const struct move *move)
{
    return plan_count(&move->plan, STEP_UNPROBED) + plan_count(&move->plan, STEP_PARKED) >
           0;
}

static int check_configuration(const struct move *move, const struct loader *loader)
{
    const struct conf *conf = move->context->conf;
    char why[256];
    if (loader->without_hop > 0) {
        message("%s: domain \"%s\" has neither new = \"[host]:port\" nor a new address "
                "for %zu "
                "mailboxes: their mail could go nowhere",
                conf->path, move->domain->name, loader->without_hop);
        return EXIT_CONFIGURATION;
    }
    if (conf->sync.command == NULL || conf->sync.command[0] == NULL) {
        message("%s: no sync command: sync { command = {\"/etc/sluice/sync\"} }",
                conf->path);
        return EXIT_CONFIGURATION;
    }
    run_check_program(conf->sync.command[0], why, sizeof(why));
    if (why[0] != '\0') {
        message("sync command %s: %s", conf->sync.command[0], why);
        return EXIT_CONFIGURATION;
    }
    return EXIT_DONE;
}

static int check_store(const struct move *move)
{
    struct store *store = move->context->store;
    enum commit durable =
        move->context->conf->redis_durable ? store_durable(store) : COMMIT_DONE;
    if (durable == COMMIT_DONE)
        return EXIT_DONE;
    message("%s", store_error(store));
    return durable == COMMIT_REFUSED ? EXIT_CONFIGURATION : EXIT_SERVICE;
}

/* Whether the hosts that a lock needs are there. EXIT_AGAIN: some are silent;
 * quiet: without a message about it. */
static int look_at_hosts(struct move *move, bool quiet)
{
    struct store *store = move->context->store;
    int code = EXIT_DONE;
    struct host *hosts;
    size_t n, delivering = 0;
    int64_t now = store_time_ms(store);
    if (now == 0 || store_hosts(store, &hosts, &n) == LOOKUP_FAILED) {
        message("%s", store_error(store));
        return EXIT_SERVICE;
    }
    for (size_t i = 0; i < n; i++) {
        char age[DURATION_TEXT_MAX];
        if (fence_excepted(move->options.without.items, hosts[i].name))
            continue;
        delivering += hosts[i].side == SIDE_OLD;
        if (now - hosts[i].seen_ms <= HOST_SILENT_MS)
            continue;
        code = EXIT_AGAIN;
        if (quiet)
            continue;
        message(
            "host %s: no sign of life for %s: start sluice-policyd there, or repeat with "
            "--without-host %s",
            hosts[i].name, duration_text((now - hosts[i].seen_ms) / 1000, age),
            hosts[i].name);
    }
    free(hosts);
    if (delivering > 0 || code != EXIT_DONE)
        return code;
    message("no host on the old side is registered: start sluice-policyd there");
    return EXIT_SERVICE;
}

static int check_hosts(struct move *move)
{
    int code = fence_check_without(move->context->store, move->options.without.items);
    int64_t end = clock_ms() + FENCE_PATIENCE_MS;
    if (code != EXIT_DONE)
        return code;
    while ((code = look_at_hosts(move, clock_ms() < end)) == EXIT_AGAIN &&
           clock_ms() < end && move->stop == MOVE_GOES_ON)
        move_pause(move, clock_ms() + 500);
    return code;
}

/* An address that nobody has: a server that takes it takes anything. */
static void probe_invented(struct move *move)
{
    char address[ADDR_TEXT_MAX + 1];
    const char *at = strrchr(move->plan.boxes[0].target, '@');
    uint64_t mark = (uint64_t)clock_ms() * 0x9e3779b97f4a7c15ULL ^ (uint64_t)getpid();
    if (at == NULL)
        return;
    snprintf(address, sizeof(address), "sluice-probe-%016llx%s", (unsigned long long)mark,
             at);
    probe_add(move->probe, PLAN_NONE, address);
}

static void skip_probes(struct move *move)
{
    size_t box;
    while ((box = plan_first(&move->plan, STEP_UNPROBED)) != PLAN_NONE)
        plan_set(&move->plan, box, STEP_READY);
}

/* Whether the new server is there. */
static int open_probe(struct move *move)
{
    const struct conf_hop *hop = &move->domain->new;
    char error[512];
    if (plan_count(&move->plan, STEP_UNPROBED) == 0)
        return EXIT_DONE;
    if (hop->text == NULL || move->options.no_probe) {
        skip_probes(move);
        move->not_probed = true;
        notice("the new server is not asked whether it takes the recipients%s",
               hop->text ? "" : ": the domain has no new = \"[host]:port\"");
        return EXIT_DONE;
    }
    if (hop->lookup_mx)
        notice("%s: asking the host itself, not its MX records", hop->text);
    move->probe = probe_new(hop->host, hop->port, move->context->conf->hostname, error,
                            sizeof(error));
    if (move->probe)
        probe_invented(move);
    while (move->probe && probe_state(move->probe) == PROBE_TRYING &&
           move->stop == MOVE_GOES_ON)
        move_pause(move, clock_ms() + 1000);
    if (move->stop != MOVE_GOES_ON)
        return EXIT_AGAIN;
    if (move->probe && probe_state(move->probe) == PROBE_UP)
        return EXIT_DONE;
    message("the new server cannot be asked: %s; nothing was locked%s (--no-probe: do "
            "not ask)",
            move->probe ? probe_error(move->probe) : error,
            move->locked_before ? " in this run, earlier locks stay" : "");
    return EXIT_SERVICE;
}

/* ---- the run
 * --------------------------------------------------------------------------- */

static bool catch_signals(struct move *move, sigset_t *before)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, before) != 0)
        return false;
    move->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return move->signals >= 0;
}

static void name_holder(struct move *move)
{
    const struct passwd *user = getpwuid(geteuid());
    char who[200], when[TIME_TEXT_MAX];
    (void)snprintf(who, sizeof(who), "%.32s@%.120s since %s", user ? user->pw_name : "?",
                   move->context->conf->hostname, time_text((int64_t)time(NULL), when));
    lease_init(&move->lease, "cutover", move->domain->name, who, MOVE_LEASE_S);
}

static int start_jobs(struct move *move)
{
    const struct conf *conf = move->context->conf;
    char error[512];
    move->log_directory =
        run_log_directory(conf->state_dir, move->domain->name, error, sizeof(error));
    if (move->log_directory < 0) {
        message("%s", error);
        return EXIT_CONFIGURATION;
    }
    move->jobs = run_set_new(move->options.jobs ? move->options.jobs : conf->sync.jobs);
    return move->jobs ? EXIT_DONE : EXIT_SERVICE;
}

/* With the lease. */
static int run_leased(struct move *move)
{
    char still[1024];
    int code = open_probe(move);
    if (code == EXIT_DONE)
        code = start_jobs(move);
    if (code != EXIT_DONE)
        return code;
    int64_t store_now = store_time_ms(move->context->store);
    move->offset_ms =
        store_now ? store_now - clock_ms() : (int64_t)time(NULL) * 1000 - clock_ms();
    move_run(move, clock_ms());
    move_wait_release(move, still, sizeof(still));
    return move_report(move, still);
}

static int run_dry(struct move *move)
{
    int code = open_probe(move);
    if (code != EXIT_DONE)
        return code;
    move_run(move, clock_ms());
    return move_report_plan(move);
}

static int run_move(struct move *move, const struct loader *loader)
{
    int code = EXIT_DONE;
    if (anything_to_do(move)) {
        code = plan_count(&move->plan, STEP_UNPROBED) ? check_configuration(move, loader)
                                                      : EXIT_DONE;
        if (code == EXIT_DONE)
            code = check_store(move);
        if (code == EXIT_DONE)
            code = check_hosts(move);
    }
    if (code != EXIT_DONE)
        return code;
    if (move->context->dry_run)
        return run_dry(move);
    code = move_take_lease(move);
    if (code != EXIT_DONE)
        return code;
    code = run_leased(move);
    move_drop_lease(move);
    return code;
}

static int prepare(struct command_context *context, int argc, char **argv,
                   struct move *move, struct targets *targets)
{
    const struct option_spec specs[] = {
        { "batch", OPTION_NUMBER, &move->options.batch },
        { "jobs", OPTION_NUMBER, &move->options.jobs },
        { "without-host", OPTION_LIST, &move->options.without },
        { "no-probe", OPTION_FLAG, &move->options.no_probe },
        { "give-up", OPTION_DURATION, &move->options.give_up },
    };
    fence_normalise_without(argc, argv);
    if (!options_parse(specs, sizeof(specs) / sizeof(specs[0]), &argc, argv))
        return EXIT_USE;
    int code = targets_resolve(context->conf, argc - 1, argv + 1, targets);
    if (code != EXIT_DONE)
        return code;
    if (targets->count != 1) {
        message(
            "one cutover moves mailboxes of one domain; these are of %zu: one after the "
            "other",
            targets->count);
        targets_free(targets);
        return EXIT_USE;
    }
    move->domain = targets->items[0].domain;
    move->whole = targets->items[0].whole;
    return EXIT_DONE;
}

static void clean_up(struct move *move, struct loader *loader)
{
    for (size_t i = 0; i < move->plan.n; i++)
        free(move->plan.boxes[i].reason);
    free(loader->boxes);
    names_free(loader->wanted);
    names_free(loader->texts);
    probe_free(move->probe);
    run_set_free(move->jobs);
    if (move->log_directory >= 0)
        close(move->log_directory);
    if (move->signals >= 0)
        close(move->signals);
}

int command_cutover(struct command_context *context, int argc, char **argv)
{
    struct targets targets;
    sigset_t before;
    struct move move = {
        .context = context,
        .options.give_up = MOVE_GIVE_UP_S,
        .own = PLAN_NONE,
        .log_directory = -1,
        .signals = -1,
        .last_fence_s = MOVE_FENCE_S,
        .began_ms = clock_ms(),
        .plain = !isatty(STDERR_FILENO),
    };
    int code = prepare(context, argc, argv, &move, &targets);
    if (code != EXIT_DONE)
        return code;
    struct loader loader = { .move = &move, .target = &targets.items[0] };
    name_holder(&move);
    code = command_need_store(context);
    if (code == EXIT_DONE && !catch_signals(&move, &before)) {
        message("signals cannot be waited for");
        code = EXIT_SERVICE;
    }
    if (code == EXIT_DONE)
        code = load_homes(&loader);
    if (code == EXIT_DONE)
        code = run_move(&move, &loader);
    if (move.signals >= 0)
        sigprocmask(SIG_SETMASK, &before, NULL);
    clean_up(&move, &loader);
    targets_free(&targets);
    return code;
}
