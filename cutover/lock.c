/*
 * sluice lock, flip, unlock: the transitions, see change.h.
 *
 * lock returns 0 only when every registered MTA host has confirmed that nothing
 * more is delivered into the mailboxes (fencewait.h). flip and unlock are at
 * once; sluice-policyd on each host then releases the held mail.
 *
 * --force: the first pass goes without it, so that only what is really not
 * confirmed is forced, after saying where.
 *
 * Exit: 0, 1 some were refused, 69 the store is not there, 75 not complete
 * (fence, interrupted, or an uncertain write): run it again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "change.h"
#include "fencewait.h"
#include "options.h"
#include "transition.h"

#define DEFAULT_TIMEOUT 600

struct run {
    struct changes changes;
    struct targets targets;
    struct tally *tallies; /* one per target */
    int timeout_s;
    bool force;
    struct option_list without;
};

static int run_pass(struct run *run)
{
    int code = EXIT_DONE;
    run->changes.total = run->targets.mailboxes;
    progress_begin(run->changes.context->command, run->changes.total);
    for (size_t i = 0; i < run->targets.count && code == EXIT_DONE; i++)
        code = changes_target(&run->changes, &run->targets.items[i], &run->tallies[i]);
    progress_end();
    return code;
}

static void keep_made(struct tally *tally, uint64_t made)
{
    uint64_t again = made < tally->already ? made : tally->already;
    tally->made += again;
    tally->already -= again;
}

/* The second pass of --force over all of it: what the first has made is there
 * now, and still counts as made. */
static int run_forced(struct run *run)
{
    struct changes *changes = &run->changes;
    struct tally first = changes->all;
    struct tally *tallies = calloc(run->targets.count, sizeof(*tallies));
    if (!tallies) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    changes_free(changes);
    changes->refusals = doc_array();
    changes->messages = CHANGE_REFUSALS_MAX; /* they were named */
    changes->all = (struct tally){ 0 };
    changes->force = true;
    struct tally *before = run->tallies;
    run->tallies = tallies;
    int code = run_pass(run);
    for (size_t i = 0; i < run->targets.count; i++)
        keep_made(&tallies[i], before[i].made);
    keep_made(&changes->all, first.made);
    free(before);
    return code;
}

/* flip, unlock: some locks are not complete. */
static int handle_unfenced(struct run *run)
{
    struct changes *changes = &run->changes;
    struct fence_view view;
    uint64_t n = changes->all.unfenced;
    uint64_t epoch = changes->unfenced_epoch ? changes->unfenced_epoch : changes->epoch;
    fence_look(changes->context->store, epoch, changes->without, &view);
    const char *waiting = view.waiting[0] ? view.waiting : "an MTA host";
    if (!run->force) {
        message("%" PRIu64
                " %s refused: the lock is not complete on %s. Wait for it with "
                "sluice lock%s; --force goes on at the risk of losing what is delivered "
                "there at this moment",
                n, n == 1 ? "mailbox was" : "mailboxes were", waiting,
                changes->op == EVENT_UNLOCK ? " or sluice rollback" : "");
        return EXIT_AGAIN;
    }
    notice(
        "--force: the lock of %" PRIu64 " %s is not complete on %s. A message that is "
        "being delivered there now may land in the mailbox after it was copied, and stay "
        "behind on that side",
        n, n == 1 ? "mailbox" : "mailboxes", waiting);
    return run_forced(run);
}

static void report_target(const struct run *run, size_t i)
{
    const struct target *target = &run->targets.items[i];
    const struct tally *tally = &run->tallies[i];
    bool dry_run = run->changes.context->dry_run;
    const char *done = transition_done(run->changes.op);
    char already[64] = "", refused[64] = "";
    if (tally->already > 0)
        snprintf(already, sizeof(already), ", %" PRIu64 " %s before", tally->already,
                 tally->already == 1 ? "was" : "were");
    if (tally->refused + tally->unfenced > 0)
        snprintf(refused, sizeof(refused), ", %" PRIu64 " refused",
                 tally->refused + tally->unfenced);
    print("%s: %" PRIu64 " %s%s %s%s%s%s", target->domain->name, tally->made,
          tally->made == 1 ? "mailbox" : "mailboxes", dry_run ? " would be" : "", done,
          already, refused,
          target->whole && tally->own ? "; unlisted addresses too" : "");
}

static void report_targets(const struct run *run)
{
    for (size_t i = 0; i < run->targets.count; i++)
        report_target(run, i);
}

static void tally_in(doc *object, const struct tally *tally)
{
    doc_number(object, "changed", (int64_t)tally->made);
    doc_number(object, "already", (int64_t)tally->already);
    doc_number(object, "refused", (int64_t)tally->refused);
    doc_number(object, "unfenced", (int64_t)tally->unfenced);
}

static void report_document(struct run *run, int code)
{
    doc *document = doc_object();
    doc_text(document, "command", run->changes.context->command);
    doc_flag(document, "dry_run", run->changes.context->dry_run);
    doc_flag(document, "complete", code == EXIT_DONE);
    doc_number(document, "epoch", (int64_t)run->changes.epoch);
    tally_in(document, &run->changes.all);
    doc *domains = doc_put(document, "domains", doc_array());
    for (size_t i = 0; i < run->targets.count; i++) {
        doc *object = doc_add(domains, doc_object());
        doc_text(object, "domain", run->targets.items[i].domain->name);
        doc_flag(object, "whole", run->targets.items[i].whole);
        tally_in(object, &run->tallies[i]);
    }
    doc_put(document, "refusals", run->changes.refusals);
    run->changes.refusals = NULL;
    doc_print(document);
}

/* lock: the records are written, now every host's confirmation. */
static int confirm_lock(struct run *run)
{
    struct changes *changes = &run->changes;
    report_targets(run);
    if (changes->all.made + changes->all.already == 0 && !changes->all.own)
        return EXIT_DONE; /* all were refused */
    int code = fence_wait(changes->context, "lock", changes->epoch, changes->without,
                          run->timeout_s);
    if (code == EXIT_DONE && run->without.count > 0)
        print("confirmed by every MTA host but those of --without-host: see to it that "
              "those deliver nothing");
    else if (code == EXIT_DONE)
        print(
            "confirmed by every MTA host: nothing is delivered into what is locked until "
            "flip or unlock");
    return code;
}

/* flip, unlock: policyd does the rest. */
static int report_release(struct run *run)
{
    int code = EXIT_DONE;
    if (run->changes.all.unfenced > 0)
        code = handle_unfenced(run);
    report_targets(run);
    if (run->changes.all.made > 0)
        print(
            "sluice-policyd releases the held mail now (sluice held shows what is left)");
    return code;
}

/* After the first pass. */
static int complete(struct run *run)
{
    int code = EXIT_DONE;
    changes_end(&run->changes);
    if (run->changes.context->dry_run)
        report_targets(run);
    else if (run->changes.op == EVENT_LOCK)
        code = confirm_lock(run);
    else
        code = report_release(run);
    if (run->changes.all.refused > 0 && (code == EXIT_DONE || code == EXIT_AGAIN))
        return EXIT_CHECK;
    return code;
}

static int change_command(struct command_context *context, enum event_op op,
                          const struct option_spec *specs, size_t spec_count,
                          struct run *run, int argc, char **argv)
{
    fence_normalise_without(argc, argv);
    if (!options_parse(specs, spec_count, &argc, argv))
        return EXIT_USE;
    changes_init(&run->changes, context, op);
    run->changes.without = run->without.count ? run->without.items : NULL;
    int code = targets_resolve(context->conf, argc - 1, argv + 1, &run->targets);
    if (code != EXIT_DONE)
        return code;
    run->tallies = calloc(run->targets.count, sizeof(*run->tallies));
    if (!run->tallies) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    command_catch_signals();
    code = command_need_store(context);
    if (code == EXIT_DONE)
        code = fence_check_without(context->store, run->changes.without);
    if (code != EXIT_DONE)
        return code;
    code = run_pass(run);
    if (code == EXIT_DONE)
        code = complete(run);
    report_document(run, code);
    return code;
}

static void run_free(struct run *run)
{
    changes_free(&run->changes);
    free(run->tallies);
    targets_free(&run->targets);
}

int command_lock(struct command_context *context, int argc, char **argv)
{
    struct run run = { .timeout_s = DEFAULT_TIMEOUT };
    const struct option_spec specs[] = {
        { "timeout", OPTION_DURATION, &run.timeout_s },
        { "without-host", OPTION_LIST, &run.without },
    };
    int code = change_command(context, EVENT_LOCK, specs, 2, &run, argc, argv);
    run_free(&run);
    return code;
}

static int release_command(struct command_context *context, enum event_op op, int argc,
                           char **argv)
{
    struct run run = { 0 };
    const struct option_spec specs[] = {
        { "force", OPTION_FLAG, &run.force },
        { "without-host", OPTION_LIST, &run.without },
    };
    int code = change_command(context, op, specs, 2, &run, argc, argv);
    run_free(&run);
    return code;
}

int command_flip(struct command_context *context, int argc, char **argv)
{
    return release_command(context, EVENT_FLIP, argc, argv);
}

int command_unlock(struct command_context *context, int argc, char **argv)
{
    return release_command(context, EVENT_UNLOCK, argc, argv);
}
