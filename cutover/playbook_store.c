/*
 * playbook_store: what sluice itself knows: homes, held mail, floaters; and the way back
 * of mailboxes from wherever they stand.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "clock.h"
#include "homes.h"
#include "output.h"
#include "playbook_action.h"
#include "playbook_people.h"
#include "targets.h"

#define QUIET_LAST_S 10
#define SHOWN_MAX    10
#define UNHELD_S     60

/* ---- homes --------------------------------------------------------------- */

struct wanted {
    const char *state;
    const struct target *target;
    size_t right, wrong;
    bool rest; /* of the domain is right */
};

static void judge(struct wanted *wanted, const char *local, const struct home *home)
{
    char address[ADDR_TEXT_MAX + 1];
    if (strcmp(home_state_name(home->state), wanted->state) == 0) {
        wanted->right += local[0] != '\0';
        wanted->rest = wanted->rest || local[0] == '\0';
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
    if (strcmp(argv[1], "old") != 0 && strcmp(argv[1], "new") != 0 &&
        strcmp(argv[1], "locked") != 0) {
        message("home: \"%s\" is not old, locked or new", argv[1]);
        return EXIT_USE;
    }
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
    if (wanted.wrong > 0 || (wanted.right == 0 && !wanted.rest)) {
        message("%zu of %zu are not at home %s: sluice status names them", wanted.wrong,
                wanted.wrong + wanted.right, argv[1]);
        return EXIT_CHECK;
    }
    print("all %zu mailboxes%s are at home %s", wanted.right,
          wanted.rest ? " and the rest of the domain" : "", argv[1]);
    return EXIT_DONE;
}

/* ---- back to old, from wherever it is ------------------------------------ */

struct standing {
    const struct target *target;
    FILE *locked; /* gets the addresses that are locked on their way to new, or NULL */
    size_t new, waiting, own;
};

static void see(struct standing *it, const char *local, const struct home *home)
{
    char address[ADDR_TEXT_MAX + 1];
    bool forward = home->state == HOME_LOCKED && !home->rollback;
    it->new += home->state == HOME_NEW || (home->state == HOME_LOCKED && home->rollback);
    it->waiting += forward;
    it->own += forward && local[0] == '\0';
    if (!forward || local[0] == '\0' || !it->locked)
        return;
    addr_format(local, it->target->domain->name, address);
    fprintf(it->locked, "%s\n", address);
}

static bool see_listed(void *context, const char *local, const struct home *home)
{
    see(context, local, home);
    return true;
}

static bool see_one(void *context, size_t index, const struct home *home)
{
    struct standing *it = context;
    see(it, it->target->locals[index], home);
    return true;
}

static int see_all(struct action_context *context, struct targets *targets,
                   struct standing *it)
{
    struct command_context *command = context->command;
    for (size_t i = 0; i < targets->count; i++) {
        const struct target *target = it->target = &targets->items[i];
        const char *domain = target->domain->name;
        if (target->whole ? store_each_home(command->store, domain, see_listed, it)
                          : homes_look_up(command, domain, target->locals, target->count,
                                          see_one, it))
            continue;
        message("%s", store_error(command->store));
        return EXIT_SERVICE;
    }
    return EXIT_DONE;
}

/* Nothing has come to the new side for those that are only locked: unlocking is enough,
 * and a rollback would refuse them. */
static int go_back(struct action_context *context, const struct standing *it,
                   const char *list, int argc, char **argv)
{
    char unlock[] = "unlock", rollback[] = "rollback", at[PAPER_PATH_MAX + 1];
    char *some[] = { unlock, at, NULL };
    int code = EXIT_DONE;
    char *name = argv[0];
    (void)snprintf(at, sizeof(at), "@%s", list);
    argv[0] = unlock;
    if (it->waiting > 0)
        code = it->new == 0 || it->waiting == it->own
                   ? command_unlock(context->command, argc, argv)
                   : command_unlock(context->command, 2, some);
    argv[0] = rollback;
    if (code == EXIT_DONE && it->new > 0)
        code = command_rollback(context->command, argc, argv);
    argv[0] = name;
    if (code == EXIT_DONE && it->new + it->waiting == 0)
        print("all are at home old: nothing to do");
    return code;
}

int action_back(struct action_context *context, int argc, char **argv)
{
    struct targets targets;
    struct standing it = { 0 };
    char path[PAPER_PATH_MAX], name[200];
    (void)snprintf(name, sizeof(name), "%.150s.locked", context->step);
    int code = targets_resolve(context->command->conf, argc - 1, argv + 1, &targets);
    if (code != EXIT_DONE)
        return code;
    it.locked = paper_path(context, name, path) ? paper_open(context, name) : NULL;
    code = it.locked ? see_all(context, &targets, &it) : EXIT_SERVICE;
    targets_free(&targets);
    if (it.locked) {
        int closed = paper_close(context, it.locked, name, code == EXIT_DONE);
        code = code == EXIT_DONE ? closed : code;
    }
    return code == EXIT_DONE ? go_back(context, &it, path, argc, argv) : code;
}

/* From new to locked, and no further: the undo of a flip. What is on its way back then
 * (record letter r) is brought home by the undo of the step that locked it, with what
 * arrived on the new side meanwhile. */
int action_relock(struct action_context *context, int argc, char **argv)
{
    struct targets targets;
    struct standing it = { .locked = NULL };
    char keep[] = "--keep-locked", *words[PLAYBOOK_ARGS_MAX + 2];
    int code = targets_resolve(context->command->conf, argc - 1, argv + 1, &targets);
    if (code != EXIT_DONE)
        return code;
    code = see_all(context, &targets, &it);
    targets_free(&targets);
    if (code != EXIT_DONE)
        return code;
    if (it.new == 0) {
        print("none is at home new: nothing to do");
        return EXIT_DONE;
    }
    for (int i = 0; i < argc; i++)
        words[i] = argv[i];
    words[argc] = keep;
    words[argc + 1] = NULL;
    return command_rollback(context->command, argc + 1, words);
}

/* ---- held mail, floaters ------------------------------------------------- */

/* Messages on hold or still to be released, and the host that has most of them. */
static bool count_held(struct store *store, uint64_t *held, struct host *most, size_t *n)
{
    struct host *hosts;
    uint64_t highest = 0;
    *held = 0;
    if (store_hosts(store, &hosts, n) != LOOKUP_FOUND) {
        message("no host is registered, or Redis fails: sluice status");
        return false;
    }
    for (size_t i = 0; i < *n; i++) {
        uint64_t here = hosts[i].held + hosts[i].left;
        *held += here;
        if (here > highest) {
            highest = here;
            *most = hosts[i];
        }
    }
    free(hosts);
    return true;
}

/* The hosts count every second or two; so one look could come too early after an
 * unlock. */
int action_unheld(struct action_context *context, int argc, char **argv)
{
    int seconds = UNHELD_S;
    struct host most = { 0 };
    uint64_t held = 0;
    size_t hosts = 0;
    if (argc > 1 && !duration_parse(argv[1], &seconds)) {
        message("unheld: \"%s\" is not a duration: write it as 1m", argv[1]);
        return EXIT_USE;
    }
    command_catch_signals();
    int64_t end = clock_ms() + seconds * 1000L;
    do {
        if (!count_held(context->command->store, &held, &most, &hosts))
            return EXIT_SERVICE;
        if (held == 0) {
            print("nothing is held on %zu hosts", hosts);
            return EXIT_DONE;
        }
    } while (clock_ms() < end && command_sleep(HOST_BEAT_MS / 2));
    message("%" PRIu64 " messages are held or still to be released, most of them on %s "
            "%s%s%s: sluice held",
            held, most.name, most.state[0] ? " (" : "", most.state,
            most.state[0] ? ")" : "");
    return command_stopped() ? EXIT_AGAIN : EXIT_CHECK;
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

/* How long nothing was forwarded, s. EXIT_DONE, or another code after a message. */
static int quiet_since(struct action_context *context, int64_t *quiet, uint64_t *floaters)
{
    struct store *store = context->command->store;
    struct store_totals totals;
    struct last last = { 0 };
    int64_t now = store_time_ms(store) / 1000;
    if (now == 0 || store_totals(store, context->domain, &totals) != LOOKUP_FOUND ||
        !store_each_floater(store, context->domain, take_last, &last)) {
        message("%s", store_error(store));
        return EXIT_SERVICE;
    }
    /* Without a floater it is quiet since the domain moved. */
    int64_t since = last.at > totals.own.since ? last.at : totals.own.since;
    *quiet = now > since ? now - since : 0;
    *floaters = last.count;
    return EXIT_DONE;
}

int action_quiet(struct action_context *context, int argc, char **argv)
{
    char text[DURATION_TEXT_MAX], more[DURATION_TEXT_MAX];
    int seconds;
    int64_t quiet = 0;
    uint64_t floaters = 0;
    (void)argc;
    if (!duration_parse(argv[1], &seconds)) {
        message("quiet: \"%s\" is not a duration: write it as 72h", argv[1]);
        return EXIT_USE;
    }
    int code = quiet_since(context, &quiet, &floaters);
    /* The last seconds are waited for here: the run looks again only later. */
    while (code == EXIT_DONE && quiet < seconds && seconds - quiet <= QUIET_LAST_S &&
           command_sleep(1000))
        code = quiet_since(context, &quiet, &floaters);
    if (code != EXIT_DONE)
        return code;
    if (quiet >= seconds) {
        print("quiet for %s (%" PRIu64 " floaters before)", duration_text(quiet, text),
              floaters);
        return EXIT_DONE;
    }
    message("quiet for %s of %s: some clients still use the old servers",
            duration_text(quiet, text), duration_text(seconds, more));
    return EXIT_AGAIN;
}
