/*
 * sluice rollback: new -> locked -> old.
 *
 *  1. notes when each mailbox was flipped, then locks it (state r);
 *  2. waits for the fence, now mainly of the hosts on the new side;
 *  3. lists what arrived on the new side since the flip;
 *  4. runs sync reverse-command per mailbox, as cutover does the sync (argv, no
 *     shell, the same environment, log and time limit);
 *  5. unlocks each mailbox whose copy succeeded: home old, held mail goes there.
 *
 * Without reverse-command it ends after 3 with the mailboxes locked (exit 75)
 * and says the next commands; --no-sync goes from 3 to 5; --keep-locked is wanted to
 * end after 3.
 *
 * Killed anywhere and run again, it finishes: what is locked for the way back is
 * taken up where it is, what is at home old was brought back before.  The time
 * of the flip is known only to the run that locks; a later one lists all
 * arrivals that are kept. The list is what the MTAs on the new side noted, a
 * help for the person and not a ledger (sluice audit is).
 *
 * A mailbox whose copy fails stays locked and is named; its mail waits.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "change.h"
#include "clock.h"
#include "fencewait.h"
#include "homes.h"
#include "names.h"
#include "options.h"
#include "run.h"

#define DEFAULT_TIMEOUT 600
#define POLL_MS         100
#define NOT_FLIPPED     INT64_MAX /* it was imported meanwhile */

/* One mailbox on its way back; the domain's own record is the one with local
 * "". Number i of the arrays is name i of the set. */
struct box {
    int64_t flipped;    /* unix s; 0: not known */
    uint64_t epoch;     /* of its rollback; 0: it is not locked for it */
    const char *target; /* its address on the new side; NULL: the same */
    bool copied;
};

struct way_back {
    const struct target *target;
    struct names *names;
    struct box *boxes;
    size_t room;
    struct tally tally;
    int logs; /* directory; -1 */
};

struct rollback {
    struct command_context *context;
    struct changes changes;
    struct targets targets;
    struct way_back *ways; /* one per target */
    struct option_list without;
    int timeout_s;
    bool no_sync, keep_locked;
    doc *arrivals, *failures;
    uint64_t arrived, failed, unlocked;
    struct way_back *way; /* that is being read */
    bool out_of_memory;
};

/* ---- the mailboxes ----------------------------------------------------- */

static struct box *box_for(struct rollback *rollback, const char *local)
{
    struct way_back *way = rollback->way;
    size_t index;
    if (names_count(way->names) == way->room) {
        size_t room = way->room ? way->room * 2 : 256;
        struct box *boxes = reallocarray(way->boxes, room, sizeof(*boxes));
        if (!boxes) {
            rollback->out_of_memory = true;
            return NULL;
        }
        way->boxes = boxes;
        way->room = room;
    }
    switch (names_add(way->names, local, &index)) {
    case NAMES_NEW:
        way->boxes[index] = (struct box){ .flipped = NOT_FLIPPED };
        return &way->boxes[index];
    case NAMES_KNOWN:
        return &way->boxes[index];
    case NAMES_FAILED:
        break;
    }
    rollback->out_of_memory = true;
    return NULL;
}

/* Where its mail is on the new side, when that is another address. */
static const char *new_side_address(struct rollback *rollback, const char *local,
                                    const struct home *home)
{
    struct route route;
    char text[ADDR_TEXT_MAX + 1];
    addr_format(local, rollback->way->target->domain->name, text);
    if (!route_prepare(rollback->context->conf, text, strlen(text), &route))
        return NULL;
    route.lookup = LOOKUP_FOUND;
    route.home = *home;
    route_finish(rollback->context->conf, &route);
    if (!route.home.new_address[0])
        return NULL;
    const char *kept = names_keep(rollback->way->names, route.home.new_address);
    rollback->out_of_memory = rollback->out_of_memory || !kept;
    return kept;
}

/* Both before the change (at home new) and after it (locked for the way back). */
static bool note_home(void *context, const char *local, const struct home *home)
{
    struct rollback *rollback = context;
    bool back = home->state == HOME_LOCKED && home->rollback;
    if (home->state != HOME_NEW && !back)
        return true;
    struct box *box = box_for(rollback, local);
    if (!box)
        return false;
    if (!back) {
        box->flipped = home->since;
    } else {
        if (box->flipped == NOT_FLIPPED)
            box->flipped = 0;
        box->epoch = home->epoch;
        if (local[0] && !box->target)
            box->target = new_side_address(rollback, local, home);
    }
    return !rollback->out_of_memory;
}

static bool note_listed(void *context, size_t index, const struct home *home)
{
    struct rollback *rollback = context;
    if (!home->listed)
        return true;
    return note_home(rollback, rollback->way->target->locals[index], home);
}

/* Reads the homes of all targets. */
static int read_homes(struct rollback *rollback)
{
    bool fine = true;
    for (size_t i = 0; fine && i < rollback->targets.count; i++) {
        struct way_back *way = rollback->way = &rollback->ways[i];
        const char *domain = way->target->domain->name;
        for (size_t n = 0; n < names_count(way->names); n++)
            way->boxes[n].epoch = 0;
        if (way->target->whole) {
            fine = store_each_home(rollback->context->store, domain, note_home, rollback);
            if (!fine)
                message("%s", store_error(rollback->context->store));
        } else {
            fine = homes_look_up(rollback->context, domain, way->target->locals,
                                 way->target->count, note_listed, rollback);
        }
    }
    if (rollback->out_of_memory)
        message("out of memory");
    return fine && !rollback->out_of_memory ? EXIT_DONE : EXIT_SERVICE;
}

static int lock_all(struct rollback *rollback)
{
    int code = EXIT_DONE;
    rollback->changes.total = rollback->targets.mailboxes;
    progress_begin("rollback", rollback->changes.total);
    for (size_t i = 0; i < rollback->targets.count && code == EXIT_DONE; i++)
        code = changes_target(&rollback->changes, &rollback->targets.items[i],
                              &rollback->ways[i].tally);
    progress_end();
    if (code == EXIT_DONE)
        changes_end(&rollback->changes);
    return code;
}

/* ---- what arrived ------------------------------------------------------ */

struct arrival_list {
    struct rollback *rollback;
    struct way_back *way;
    struct sheet *sheet;
};

static bool note_arrival(void *context, const struct arrival *arrival)
{
    struct arrival_list *list = context;
    struct way_back *way = list->way;
    char address[ADDR_TEXT_MAX + 1], time[TIME_TEXT_MAX];
    size_t index = names_find(way->names, arrival->local);
    if (index == SIZE_MAX && way->target->whole)
        index = names_find(way->names, ""); /* an address that is not listed */
    if (index == SIZE_MAX || arrival->time < way->boxes[index].flipped)
        return true;
    addr_format(arrival->local, way->target->domain->name, address);
    const char *cells[] = { address, time_text(arrival->time, time), arrival->host,
                            arrival->queue_id, arrival->message_id };
    sheet_row(list->sheet, cells);
    doc *object = doc_add(list->rollback->arrivals, doc_object());
    doc_text(object, "address", address);
    doc_number(object, "time", arrival->time);
    doc_text(object, "host", arrival->host);
    doc_text(object, "queue_id", arrival->queue_id);
    doc_text(object, "message_id", arrival->message_id);
    list->rollback->arrived++;
    return true;
}

static int list_arrivals(struct rollback *rollback)
{
    static const char *const headers[] = { "mailbox", "arrived", "host", "queue id",
                                           "message-id" };
    struct arrival_list list = { .rollback = rollback, .sheet = sheet_new(headers, 5) };
    bool fine = true;
    for (size_t i = 0; fine && i < rollback->targets.count; i++) {
        struct way_back *way = list.way = &rollback->ways[i];
        int64_t since = NOT_FLIPPED;
        for (size_t n = 0; n < names_count(way->names); n++)
            if (way->boxes[n].flipped < since)
                since = way->boxes[n].flipped;
        if (since != NOT_FLIPPED)
            fine = store_each_arrival(rollback->context->store, way->target->domain->name,
                                      since, note_arrival, &list);
    }
    if (rollback->arrived > 0) {
        print("arrived on the new side since the flip:");
        sheet_print(list.sheet);
    } else {
        sheet_free(list.sheet);
        if (fine)
            print("nothing was noted to have arrived on the new side since the flip");
    }
    if (!fine)
        message("the list of what arrived is not complete: %s",
                store_error(rollback->context->store));
    return fine ? EXIT_DONE : EXIT_SERVICE;
}

/* ---- the copy back ----------------------------------------------------- */

static void note_failure(struct rollback *rollback, const char *address,
                         const char *reason)
{
    rollback->failed++;
    message("%s stays locked: %s", address, reason);
    doc *object = doc_add(rollback->failures, doc_object());
    doc_text(object, "address", address);
    doc_text(object, "reason", reason);
}

/* The mailbox's log, the same as the sync's: its lock tells when one still runs. */
static enum run_log_result open_log(const struct way_back *way, const char *local,
                                    const char *address, int *log, char *error,
                                    size_t size)
{
    char file[RUN_LOG_NAME_MAX + 1];
    char header[ADDR_TEXT_MAX + 128], when[TIME_TEXT_MAX];
    run_log_name(local, file);
    snprintf(header, sizeof(header), "=== %s reverse sync of %s\n",
             time_text((int64_t)time(NULL), when), address);
    return run_log_open(way->logs, file, header, log, error, size);
}

struct copy {
    struct rollback *rollback;
    struct run_set *set;
    size_t way, box; /* the next one to start */
    uint64_t total, done;
    bool impossible; /* the command cannot be executed */
};

/* Children are known by one number: the way's in the upper half. */
#define JOB_ID(way, box) ((size_t)(way) << 40 | (box))
#define JOB_WAY(id)      ((id) >> 40)
#define JOB_BOX(id)      ((id) & (((size_t)1 << 40) - 1))

/* Starts the copy of one mailbox. false: not now (all jobs are taken). */
static bool start_copy(struct copy *copy, struct way_back *way, size_t index)
{
    struct rollback *rollback = copy->rollback;
    struct conf_sync *sync = &rollback->context->conf->sync;
    char address[ADDR_TEXT_MAX + 1], error[RUN_TEXT_MAX + 256] = "out of memory";
    char *variables[RUN_VARIABLES + 1];
    const char *local = names_list(way->names)[index];
    const char *target = way->boxes[index].target;
    int log;
    addr_format(local, way->target->domain->name, address);
    switch (open_log(way, local, address, &log, error, sizeof(error))) {
    case RUN_LOG_BUSY:
        note_failure(rollback, address, "an earlier sync of it is still running");
        copy->done++;
        return true;
    case RUN_LOG_FAILED:
        note_failure(rollback, address, error);
        copy->done++;
        return true;
    case RUN_LOG_OPEN:
        break;
    }
    enum run_start_result started = RUN_IMPOSSIBLE;
    if (run_variables(way->target->domain, address, target ? target : address,
                      variables)) {
        struct run_command command = { sync->reverse_command,
                                       (const char *const *)variables, log,
                                       sync->timeout };
        started = run_start(copy->set, JOB_ID(way - rollback->ways, index), &command,
                            clock_ms(), error);
    } else {
        close(log);
    }
    run_variables_free(variables);
    if (started == RUN_IMPOSSIBLE) {
        note_failure(rollback, address, error);
        copy->impossible = true;
    }
    return started != RUN_FULL;
}

/* Starts as many as there is room for. false: none is left to start. */
static bool start_copies(struct copy *copy)
{
    struct rollback *rollback = copy->rollback;
    for (; copy->way < rollback->targets.count; copy->way++, copy->box = 0) {
        struct way_back *way = &rollback->ways[copy->way];
        for (; copy->box < names_count(way->names); copy->box++) {
            if (way->boxes[copy->box].epoch == 0 || !names_list(way->names)[copy->box][0])
                continue;
            if (run_room(copy->set) == 0 || !start_copy(copy, way, copy->box))
                return true;
            if (copy->impossible)
                return false;
        }
    }
    return false;
}

static void take_copies(struct copy *copy)
{
    size_t id;
    char text[RUN_TEXT_MAX], address[ADDR_TEXT_MAX + 1], reason[RUN_TEXT_MAX + 1024];
    char domain[PLAN_FILE_NAME_MAX + 1], file[RUN_LOG_NAME_MAX + 1];
    run_tick(copy->set, clock_ms());
    while (run_ended(copy->set, clock_ms(), &id, text)) {
        struct way_back *way = &copy->rollback->ways[JOB_WAY(id)];
        copy->done++;
        if (text[0] == '\0') {
            way->boxes[JOB_BOX(id)].copied = true;
            continue;
        }
        const char *local = names_list(way->names)[JOB_BOX(id)];
        addr_format(local, way->target->domain->name, address);
        plan_file_name(way->target->domain->name, domain);
        run_log_name(local, file);
        snprintf(reason, sizeof(reason), "reverse sync: %s, log %.200s/cutover/%s/%s",
                 text, copy->rollback->context->conf->state_dir, domain, file);
        note_failure(copy->rollback, address, reason);
    }
}

/* Runs the copies to their end; Ctrl-C stops them. */
static void run_copies(struct copy *copy)
{
    bool stopping = false, more = true;
    progress_begin("copy back", copy->total);
    while (more || run_count(copy->set) > 0) {
        if (command_stopped() && !stopping) {
            notice("stopping: what was copied is unlocked, the rest stays locked");
            run_stop(copy->set, clock_ms());
            stopping = true;
            more = false;
        }
        if (more)
            more = start_copies(copy);
        take_copies(copy);
        progress_set(copy->done, "%zu running, %" PRIu64 " failed", run_count(copy->set),
                     copy->rollback->failed);
        if (more || run_count(copy->set) > 0)
            (void)poll(NULL, 0, POLL_MS);
    }
    progress_end();
}

/* The directory of the logs of each domain. */
static int open_logs(struct rollback *rollback)
{
    char error[512];
    for (size_t i = 0; i < rollback->targets.count; i++) {
        struct way_back *way = &rollback->ways[i];
        way->logs = run_log_directory(rollback->context->conf->state_dir,
                                      way->target->domain->name, error, sizeof(error));
        if (way->logs < 0) {
            message("%s", error);
            return EXIT_CONFIGURATION;
        }
    }
    return EXIT_DONE;
}

static int copy_back(struct rollback *rollback)
{
    struct copy copy = { .rollback = rollback };
    int code = open_logs(rollback);
    if (code != EXIT_DONE)
        return code;
    for (size_t i = 0; i < rollback->targets.count; i++)
        for (size_t n = 0; n < names_count(rollback->ways[i].names); n++)
            copy.total += rollback->ways[i].boxes[n].epoch > 0 &&
                          names_list(rollback->ways[i].names)[n][0];
    copy.set = run_set_new(rollback->context->conf->sync.jobs);
    if (!copy.set) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    run_copies(&copy);
    run_set_free(copy.set);
    return copy.impossible ? EXIT_CONFIGURATION : EXIT_DONE;
}

/* ---- unlock ------------------------------------------------------------ */

/* The mailboxes to unlock, the own record (of a domain of which nothing failed)
 * first: what is imported meanwhile is at home old then. */
static int unlock_way(struct changes *changes, struct way_back *way, bool all)
{
    size_t count = names_count(way->names), n = 0;
    char **locals = calloc(count + 1, sizeof(*locals));
    uint64_t *epochs = calloc(count + 1, sizeof(*epochs));
    size_t own = names_find(way->names, "");
    struct tally tally = { 0 };
    int code = EXIT_SERVICE;
    bool complete = true;
    for (size_t i = 0; i < count; i++)
        complete = complete &&
                   (all || i == own || way->boxes[i].epoch == 0 || way->boxes[i].copied);
    if (locals && epochs) {
        if (own != SIZE_MAX && complete && way->boxes[own].epoch > 0) {
            epochs[n] = way->boxes[own].epoch;
            locals[n++] = names_list(way->names)[own];
        }
        for (size_t i = 0; i < count; i++) {
            if (i == own || way->boxes[i].epoch == 0 || !(all || way->boxes[i].copied))
                continue;
            epochs[n] = way->boxes[i].epoch;
            locals[n++] = names_list(way->names)[i];
        }
        code =
            changes_list(changes, way->target->domain->name, locals, epochs, n, &tally);
    } else {
        message("out of memory");
    }
    free(locals);
    free(epochs);
    if (code == EXIT_DONE && !complete)
        code = EXIT_AGAIN;
    return code;
}

static int unlock_all(struct rollback *rollback, bool all)
{
    struct changes changes;
    int code = EXIT_DONE;
    changes_init(&changes, rollback->context, EVENT_UNLOCK);
    changes.without = rollback->changes.without;
    changes.to_the_end = true; /* what was copied must not be copied again */
    for (size_t i = 0; i < rollback->targets.count; i++) {
        int outcome = unlock_way(&changes, &rollback->ways[i], all);
        if (code == EXIT_DONE)
            code = outcome;
    }
    changes_end(&changes);
    if (code == EXIT_DONE && changes.all.refused + changes.all.unfenced > 0)
        code = EXIT_AGAIN;
    rollback->unlocked = changes.all.made + changes.all.already;
    changes_free(&changes);
    return code;
}

/* ---- the command ------------------------------------------------------- */

/* What to type next; the targets as they were given. */
static void tell_next(int argc, char **argv)
{
    char names[1024] = "";
    for (int i = 1; i < argc; i++) {
        size_t used = strlen(names);
        if (used + strlen(argv[i]) + 2 > sizeof(names)) {
            memcpy(names, "...", 4);
            break;
        }
        snprintf(names + used, sizeof(names) - used, "%s%s", used ? " " : "", argv[i]);
    }
    message(
        "no sync reverse-command is configured: the mailboxes stay locked, their mail "
        "waits. Copy what arrived back to the old server, then run: sluice unlock %s   "
        "(to give the rollback up instead: sluice flip %s)",
        names, names);
}

/* After the list: copy and unlock. */
static int bring_back(struct rollback *rollback, int argc, char **argv)
{
    int code = EXIT_DONE;
    if (!rollback->no_sync && !rollback->context->conf->sync.reverse_command) {
        tell_next(argc, argv);
        return EXIT_AGAIN;
    }
    if (!rollback->no_sync)
        code = copy_back(rollback);
    if (code == EXIT_SERVICE)
        return code;
    int unlocked = unlock_all(rollback, rollback->no_sync);
    print("%" PRIu64 " %s at home old again; sluice-policyd releases the held mail",
          rollback->unlocked, rollback->unlocked == 1 ? "mailbox is" : "mailboxes are");
    if (rollback->failed > 0)
        message("%" PRIu64 " %s locked: correct the cause and run the same command again",
                rollback->failed,
                rollback->failed == 1 ? "mailbox stays" : "mailboxes stay");
    return code == EXIT_DONE ? unlocked : code;
}

/* Whether anything is locked for the way back. */
static bool anything_locked(const struct rollback *rollback)
{
    for (size_t i = 0; i < rollback->targets.count; i++)
        for (size_t n = 0; n < names_count(rollback->ways[i].names); n++)
            if (rollback->ways[i].boxes[n].epoch > 0)
                return true;
    return false;
}

static int roll_back(struct rollback *rollback, int argc, char **argv)
{
    struct changes *changes = &rollback->changes;
    int code = read_homes(rollback);
    if (code == EXIT_DONE)
        code = lock_all(rollback);
    if (code != EXIT_DONE)
        return code;
    if (rollback->context->dry_run) {
        print("%" PRIu64 " mailboxes would be rolled back, %" PRIu64
              " are locked for it or at home "
              "old already, %" PRIu64 " refused",
              changes->all.made, changes->all.already, changes->all.refused);
        code = list_arrivals(rollback);
        return code == EXIT_DONE && changes->all.refused > 0 ? EXIT_CHECK : code;
    }
    if (changes->all.made + changes->all.already == 0 && !changes->all.own)
        return EXIT_CHECK;
    if (changes->epoch > 0)
        code = fence_wait(rollback->context, "rollback", changes->epoch, changes->without,
                          rollback->timeout_s);
    if (code == EXIT_DONE)
        code = read_homes(rollback);
    if (code == EXIT_DONE && !anything_locked(rollback)) {
        print("nothing to do: %" PRIu64 " %s at home old%s already", changes->all.already,
              changes->all.already == 1 ? "mailbox is" : "mailboxes are",
              rollback->keep_locked ? " or locked" : "");
        return changes->all.refused > 0 ? EXIT_CHECK : EXIT_DONE;
    }
    if (code == EXIT_DONE)
        code = list_arrivals(rollback);
    if (code == EXIT_DONE && rollback->keep_locked)
        print("locked: sluice flip goes on to the new side, sluice rollback to the old "
              "one");
    else if (code == EXIT_DONE)
        code = bring_back(rollback, argc, argv);
    return code == EXIT_DONE && changes->all.refused > 0 ? EXIT_CHECK : code;
}

static int prepare(struct rollback *rollback)
{
    struct command_context *context = rollback->context;
    rollback->ways = calloc(rollback->targets.count, sizeof(*rollback->ways));
    bool fine = rollback->ways != NULL;
    for (size_t i = 0; fine && i < rollback->targets.count; i++) {
        struct way_back *way = &rollback->ways[i];
        way->target = &rollback->targets.items[i];
        way->names = names_new();
        way->logs = -1;
        fine = way->names != NULL;
    }
    if (!fine) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    int code = command_need_store(context);
    return code == EXIT_DONE
               ? fence_check_without(context->store, rollback->changes.without)
               : code;
}

static void report(struct rollback *rollback, int code)
{
    const struct tally *all = &rollback->changes.all;
    doc *document = doc_object();
    doc_text(document, "command", "rollback");
    doc_flag(document, "dry_run", rollback->context->dry_run);
    doc_flag(document, "complete", code == EXIT_DONE);
    doc_number(document, "epoch", (int64_t)rollback->changes.epoch);
    doc_number(document, "changed", (int64_t)all->made);
    doc_number(document, "already", (int64_t)all->already);
    doc_number(document, "refused", (int64_t)all->refused);
    doc_number(document, "unlocked", (int64_t)rollback->unlocked);
    doc_put(document, "refusals", rollback->changes.refusals);
    doc_put(document, "arrivals", rollback->arrivals);
    doc_put(document, "failures", rollback->failures);
    doc_print(document);
}

static void release(struct rollback *rollback)
{
    for (size_t i = 0; rollback->ways && i < rollback->targets.count; i++) {
        names_free(rollback->ways[i].names);
        free(rollback->ways[i].boxes);
        if (rollback->ways[i].logs >= 0)
            close(rollback->ways[i].logs);
    }
    free(rollback->ways);
    targets_free(&rollback->targets);
}

int command_rollback(struct command_context *context, int argc, char **argv)
{
    struct rollback rollback = { .context = context, .timeout_s = DEFAULT_TIMEOUT };
    const struct option_spec specs[] = {
        { "timeout", OPTION_DURATION, &rollback.timeout_s },
        { "without-host", OPTION_LIST, &rollback.without },
        { "no-sync", OPTION_FLAG, &rollback.no_sync },
        { "keep-locked", OPTION_FLAG, &rollback.keep_locked },
    };
    fence_normalise_without(argc, argv);
    if (!options_parse(specs, sizeof(specs) / sizeof(specs[0]), &argc, argv))
        return EXIT_USE;
    if (rollback.no_sync && rollback.keep_locked) {
        message("--no-sync unlocks at once, --keep-locked not at all: choose one");
        return EXIT_USE;
    }
    int code = targets_resolve(context->conf, argc - 1, argv + 1, &rollback.targets);
    if (code != EXIT_DONE)
        return code;
    changes_init(&rollback.changes, context, EVENT_ROLLBACK);
    /* At home old it was brought back before; where the way ends with the lock, what
     * is still locked on its way to new is there, too. */
    rollback.changes.also_done = rollback.keep_locked ? "ol" : "o";
    rollback.changes.without = rollback.without.count ? rollback.without.items : NULL;
    rollback.arrivals = doc_array();
    rollback.failures = doc_array();
    command_catch_signals();
    code = prepare(&rollback);
    if (code == EXIT_DONE)
        code = roll_back(&rollback, argc, argv);
    report(&rollback, code);
    release(&rollback);
    return code;
}
