/*
 * playbook_store: actions on what sluice itself knows: homes, held mail,
 * floaters, senders; and syncs without a lock.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "addr.h"
#include "clock.h"
#include "homes.h"
#include "output.h"
#include "playbook_action.h"
#include "playbook_people.h"
#include "run.h"
#include "table.h"
#include "targets.h"

#define SHOWN_MAX    10
#define SYNC_LOOK_MS 100

/* ---- homes ------------------------------------------------------------------- */

struct wanted {
    const char *state;
    const struct target *target;
    size_t right, wrong;
};

static void judge(struct wanted *wanted, const char *local, const struct home *home)
{
    char address[ADDR_TEXT_MAX + 1];
    if (strcmp(home_state_name(home->state), wanted->state) == 0) {
        wanted->right++;
        return;
    }
    addr_format(local, wanted->target->domain->name, address);
    if (wanted->wrong++ < SHOWN_MAX)
        message("%s is at home %s, not %s", local[0] ? address : "the rest of the domain",
                home_state_name(home->state), wanted->state);
}

static bool judge_listed(void *context, const char *local, const struct home *home)
{
    judge(context, local, home);
    return true;
}

static bool judge_one(void *context, size_t index, const struct home *home)
{
    struct wanted *wanted = context;
    judge(wanted, wanted->target->locals[index], home);
    return true;
}

int action_home(struct action_context *context, int argc, char **argv)
{
    struct targets targets;
    struct wanted wanted = { .state = argv[1] };
    int code = targets_resolve(context->command->conf, argc - 2, argv + 2, &targets);
    if (code != EXIT_DONE)
        return code;
    for (size_t i = 0; i < targets.count && code == EXIT_DONE; i++) {
        wanted.target = &targets.items[i];
        bool good =
            wanted.target->whole
                ? store_each_home(context->command->store, wanted.target->domain->name,
                                  judge_listed, &wanted)
                : homes_look_up(context->command, wanted.target->domain->name,
                                wanted.target->locals, wanted.target->count, judge_one,
                                &wanted);
        if (!good) {
            message("%s", store_error(context->command->store));
            code = EXIT_SERVICE;
        }
    }
    targets_free(&targets);
    if (code != EXIT_DONE)
        return code;
    if (wanted.wrong > 0 || wanted.right == 0) {
        message("%zu are not at home %s", wanted.wrong, argv[1]);
        return EXIT_CHECK;
    }
    print("%zu at home %s", wanted.right, argv[1]);
    return EXIT_DONE;
}

/* ---- held mail, floaters ------------------------------------------------------- */

int action_unheld(struct action_context *context, int argc, char **argv)
{
    struct host *hosts;
    size_t n;
    uint64_t held = 0;
    (void)argc;
    (void)argv;
    if (store_hosts(context->command->store, &hosts, &n) != LOOKUP_FOUND) {
        message("no host is registered, or Redis fails: sluice status");
        return EXIT_SERVICE;
    }
    for (size_t i = 0; i < n; i++)
        held += hosts[i].held + hosts[i].left;
    free(hosts);
    if (held > 0) {
        message("%" PRIu64 " messages are held or still to be released: sluice held",
                held);
        return EXIT_CHECK;
    }
    print("nothing is held on %zu hosts", n);
    return EXIT_DONE;
}

struct last {
    int64_t at;
    uint64_t count;
};

static bool take_last(void *context, const struct floater *floater)
{
    struct last *last = context;
    last->count += floater->count;
    last->at = floater->last > last->at ? floater->last : last->at;
    return true;
}

int action_quiet(struct action_context *context, int argc, char **argv)
{
    struct store *store = context->command->store;
    struct store_totals totals;
    struct last last = { 0 };
    char text[DURATION_TEXT_MAX], more[DURATION_TEXT_MAX];
    int seconds;
    (void)argc;
    if (!duration_parse(argv[1], &seconds)) {
        message("quiet: \"%s\" is not a duration: write it as 72h", argv[1]);
        return EXIT_USE;
    }
    int64_t now = store_time_ms(store) / 1000;
    if (now == 0 || store_totals(store, context->domain, &totals) != LOOKUP_FOUND ||
        !store_each_floater(store, context->domain, take_last, &last)) {
        message("%s", store_error(store));
        return EXIT_SERVICE;
    }
    /* Without a floater it is quiet since the domain moved. */
    int64_t since = last.at > totals.own.since ? last.at : totals.own.since;
    int64_t quiet = now - since;
    if (quiet >= seconds) {
        print("quiet for %s (%" PRIu64 " floaters before)", duration_text(quiet, text),
              last.count);
        return EXIT_DONE;
    }
    message("quiet for %s of %s", duration_text(quiet > 0 ? quiet : 0, text),
            duration_text(seconds, more));
    return EXIT_AGAIN;
}

/* ---- who sends --------------------------------------------------------------------- */

struct senders {
    FILE *out;
    uint64_t messages, would_fail;
    size_t rows;
};

static bool take_sender(void *context, const struct auth_row *row)
{
    struct senders *senders = context;
    senders->rows++;
    senders->messages += row->messages;
    senders->would_fail += row->would_fail;
    if (senders->out)
        fprintf(senders->out, "%s,%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\r\n",
                row->client, row->envelope, row->messages, row->would_fail,
                row->dkim[AUTH_PASS], row->dmarc[AUTH_PASS]);
    else if (row->would_fail > 0 && senders->rows <= SHOWN_MAX)
        message("%s: %" PRIu64 " of %" PRIu64 " messages would fail under -all",
                row->client, row->would_fail, row->messages);
    return true;
}

int action_senders(struct action_context *context, int argc, char **argv)
{
    struct senders senders = { .out = people_paper(context, "senders.csv") };
    (void)argc;
    (void)argv;
    if (!senders.out)
        return EXIT_SERVICE;
    fputs("client,envelope,messages,would_fail,dkim_pass,dmarc_pass\r\n", senders.out);
    bool good =
        store_each_auth(context->command->store, context->domain, take_sender, &senders);
    if (fclose(senders.out) != 0 || !good) {
        message("%s", good ? "senders.csv cannot be written"
                           : store_error(context->command->store));
        return EXIT_SERVICE;
    }
    print("senders.csv: %zu senders, %" PRIu64 " messages", senders.rows,
          senders.messages);
    return EXIT_DONE;
}

int action_senders_pass(struct action_context *context, int argc, char **argv)
{
    struct senders senders = { 0 };
    (void)argc;
    (void)argv;
    if (!store_each_auth(context->command->store, context->domain, take_sender,
                         &senders)) {
        message("%s", store_error(context->command->store));
        return EXIT_SERVICE;
    }
    if (senders.would_fail > 0) {
        message("%" PRIu64 " of %" PRIu64 " messages would fail under -all: sluice auth "
                "report %s names the senders",
                senders.would_fail, senders.messages, context->domain);
        return EXIT_CHECK;
    }
    print("%zu senders, none would fail under -all", senders.rows);
    return EXIT_DONE;
}

/* ---- inventory -----------------------------------------------------------------------
 */

struct inventory {
    const char *domain;
    struct table *file;
    size_t missing, extra;
    bool failed;
};

static bool take_address(void *context, const struct person *person)
{
    struct inventory *it = context;
    struct addr parsed;
    char text[ADDR_TEXT_MAX + 1];
    if (addr_parse(person->address, strlen(person->address), &parsed) != ADDR_OK)
        return true;
    addr_format(parsed.local, parsed.domain, text);
    it->failed = !table_put(it->file, text, strlen(text), "", 0);
    return !it->failed;
}

static bool compare_listed(void *context, const char *local, const struct home *home)
{
    struct inventory *it = context;
    char text[ADDR_TEXT_MAX + 1];
    (void)home;
    if (local[0] == '\0')
        return true;
    addr_format(local, it->domain, text);
    if (table_get(it->file, text, strlen(text), NULL)) {
        table_remove(it->file, text, strlen(text));
    } else if (it->extra++ < SHOWN_MAX) {
        message("%s is listed and not in the file", text);
    }
    return true;
}

int action_inventory(struct action_context *context, int argc, char **argv)
{
    struct inventory it = { .domain = context->domain, .file = table_new() };
    size_t cursor = 0, len, value_len;
    const char *name, *value;
    (void)argc;
    int code = it.file ? people_each(argv[1], false, take_address, &it) : EXIT_SERVICE;
    size_t rows = it.file ? table_count(it.file) : 0;
    if (code == EXIT_DONE &&
        !store_each_home(context->command->store, context->domain, compare_listed, &it)) {
        message("%s", store_error(context->command->store));
        code = EXIT_SERVICE;
    }
    while (code == EXIT_DONE &&
           table_next(it.file, &cursor, &name, &len, &value, &value_len))
        if (it.missing++ < SHOWN_MAX)
            message("%s is in the file and not listed: sluice import", name);
    if (it.file)
        table_free(it.file);
    if (code != EXIT_DONE)
        return code;
    if (it.missing + it.extra > 0) {
        message("%zu addresses are missing, %zu are not in %s", it.missing, it.extra,
                argv[1]);
        return EXIT_CHECK;
    }
    print("%zu addresses, all listed", rows);
    return EXIT_DONE;
}

/* ---- syncs
 * ----------------------------------------------------------------------------- */

struct syncs {
    struct action_context *context;
    const struct conf_domain *domain;
    char **locals;
    size_t count, room, done, failed;
    int directory;
    struct run_set *set;
    bool broken;
};

static bool add_local(void *context, const char *local, const struct home *home)
{
    struct syncs *syncs = context;
    (void)home;
    if (local[0] == '\0')
        return true;
    if (syncs->count == syncs->room) {
        size_t room = syncs->room ? syncs->room * 2 : 64;
        char **locals = reallocarray(syncs->locals, room, sizeof(*locals));
        if (!locals)
            return !(syncs->broken = true);
        syncs->locals = locals;
        syncs->room = room;
    }
    syncs->locals[syncs->count] = strdup(local);
    syncs->broken = !syncs->locals[syncs->count];
    syncs->count += !syncs->broken;
    return !syncs->broken;
}

static void start_one(struct syncs *syncs, size_t index)
{
    const struct conf *conf = syncs->context->command->conf;
    char address[ADDR_TEXT_MAX + 1], file[RUN_LOG_NAME_MAX + 1],
        text[512] = "", why[RUN_TEXT_MAX] = "no memory";
    char *variables[RUN_VARIABLES + 1] = { NULL };
    struct run_command command = { .argv = conf->sync.command,
                                   .timeout_s = conf->sync.timeout };
    addr_format(syncs->locals[index], syncs->domain->name, address);
    run_log_name(syncs->locals[index], file);
    enum run_log_result log = run_log_open(syncs->directory, file, "playbook\n",
                                           &command.log, text, sizeof(text));
    enum run_start_result started = RUN_IMPOSSIBLE;
    if (log == RUN_LOG_OPEN &&
        run_variables(syncs->domain, address, address, variables)) {
        command.variables = (const char *const *)variables;
        started = run_start(syncs->set, index, &command, clock_ms(), why);
    }
    run_variables_free(variables);
    if (started == RUN_STARTED)
        return;
    message("%s: not synced: %s", address,
            log == RUN_LOG_BUSY     ? "an earlier sync is still running"
            : log == RUN_LOG_FAILED ? text
                                    : why);
    syncs->failed++;
}

static void sync_all(struct syncs *syncs)
{
    char why[RUN_TEXT_MAX], address[ADDR_TEXT_MAX + 1], eta[DURATION_TEXT_MAX];
    int64_t began = clock_ms();
    size_t next = 0, index;
    while (next < syncs->count || run_count(syncs->set) > 0) {
        while (next < syncs->count && run_room(syncs->set) > 0)
            start_one(syncs, next++);
        run_tick(syncs->set, clock_ms());
        while (run_ended(syncs->set, clock_ms(), &index, why)) {
            addr_format(syncs->locals[index], syncs->domain->name, address);
            syncs->done += why[0] == '\0';
            syncs->failed += why[0] != '\0';
            if (why[0])
                message("%s: sync failed: %s", address, why);
            size_t ended = syncs->done + syncs->failed;
            int64_t left = (clock_ms() - began) / 1000 * (int64_t)(syncs->count - ended) /
                           (int64_t)ended;
            notice("%zu of %zu synced, about %s left", ended, syncs->count,
                   duration_text(left, eta));
        }
        (void)command_sleep(SYNC_LOOK_MS);
    }
}

int action_sync(struct action_context *context, int argc, char **argv)
{
    struct command_context *command = context->command;
    struct targets targets;
    char error[512] = "";
    if (!command->conf->sync.command) {
        message("%s has no sync command", command->conf->path);
        return EXIT_CONFIGURATION;
    }
    int code = targets_resolve(command->conf, argc - 1, argv + 1, &targets);
    if (code != EXIT_DONE)
        return code;
    const struct target *target = &targets.items[0];
    struct syncs syncs = { .context = context, .domain = target->domain };
    struct home none = { 0 };
    if (target->whole)
        (void)store_each_home(command->store, target->domain->name, add_local, &syncs);
    for (size_t i = 0; !target->whole && i < target->count; i++)
        (void)add_local(&syncs, target->locals[i], &none);
    syncs.directory = run_directory(command->conf->state_dir, "cutover",
                                    target->domain->name, error, sizeof(error));
    syncs.set = run_set_new(command->conf->sync.jobs);
    if (syncs.broken || syncs.directory < 0 || !syncs.set || syncs.count == 0) {
        message("%s", error[0]           ? error
                      : syncs.count == 0 ? "no mailbox is listed"
                                         : "out of memory");
        code = EXIT_SERVICE;
    } else {
        sync_all(&syncs);
    }
    if (syncs.set)
        run_set_free(syncs.set);
    if (syncs.directory >= 0)
        close(syncs.directory);
    for (size_t i = 0; i < syncs.count; i++)
        free(syncs.locals[i]);
    free(syncs.locals);
    targets_free(&targets);
    if (code == EXIT_DONE && syncs.failed > 0) {
        message("%zu of %zu mailboxes were not synced; their logs are in %s/cutover/%s",
                syncs.failed, syncs.count, command->conf->state_dir, context->domain);
        code = EXIT_CHECK;
    } else if (code == EXIT_DONE) {
        print("%zu mailboxes synced", syncs.done);
    }
    return code;
}
