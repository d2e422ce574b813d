/*
 * change: one transition over mailboxes and domains (see change.h).
 *
 * Mailboxes named one by one go in chunks of EVENT_ITEMS_MAX, each one script
 * in Redis; a domain named whole is walked inside Redis. A mailbox that is in
 * the wanted state already counts as done, so a command that was killed is
 * finished by running it again; one whose state the change does not move is
 * refused by name, and the others go on.
 *
 * --dry-run looks the homes up instead and judges them by the same table
 * (transition.h).
 */
#include "change.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "homes.h"
#include "transition.h"

void changes_init(struct changes *changes, struct command_context *context,
                  enum event_op op)
{
    *changes = (struct changes){ .context = context, .op = op, .refusals = doc_array() };
}

/* ---- what was refused -------------------------------------------------- */

static const char *mailbox_text(const char *local, const char *domain,
                                char out[ADDR_TEXT_MAX + 1])
{
    if (local[0])
        addr_format(local, domain, out);
    else
        snprintf(out, ADDR_TEXT_MAX + 1, "%s (unlisted addresses)", domain);
    return out;
}

static void refuse(struct changes *changes, struct tally *tally, const char *local,
                   const char *domain, const struct home *home, const char *reason)
{
    char address[ADDR_TEXT_MAX + 1];
    mailbox_text(local, domain, address);
    tally->refused++;
    if (changes->messages++ < CHANGE_REFUSALS_MAX)
        message("%s %s", address, reason);
    doc *object = doc_add(changes->refusals, doc_object());
    doc_text(object, "address", address);
    doc_text(object, "home", home ? home_state_name(home->state) : NULL);
    doc_text(object, "reason", reason);
}

void changes_free(struct changes *changes)
{
    doc_free(changes->refusals);
    changes->refusals = NULL;
}

void changes_end(struct changes *changes)
{
    if (changes->messages > CHANGE_REFUSALS_MAX)
        message("and %" PRIu64 " more were refused",
                changes->messages - CHANGE_REFUSALS_MAX);
}

static void add_tally(struct tally *to, const struct tally *from)
{
    to->made += from->made;
    to->already += from->already;
    to->refused += from->refused;
    to->unfenced += from->unfenced;
    to->own = to->own || from->own;
}

static bool is_done(const struct changes *changes, char letter)
{
    return changes->also_done && strchr(changes->also_done, letter);
}

/* Counts one mailbox as made, there already, or refused by its state. */
static void judge(struct changes *changes, struct tally *tally, const char *local,
                  const char *domain, const struct home *home)
{
    enum transition answer = transition_judge(changes->op, home->state, home->rollback);
    if (answer == TRANSITION_REFUSED &&
        is_done(changes, home_letter(home->state, home->rollback)))
        answer = TRANSITION_THERE;
    if (answer == TRANSITION_REFUSED)
        refuse(changes, tally, local, domain, home,
               transition_refusal(changes->op, home->state, home->rollback));
    else if (!local[0])
        tally->own = true;
    else if (answer == TRANSITION_THERE)
        tally->already++;
    else
        tally->made++;
}

/* ---- mailboxes one by one ---------------------------------------------- */

static void count_one(struct changes *changes, struct tally *tally, const char *domain,
                      const char *local, enum change_status status,
                      const struct home *before, uint64_t epoch)
{
    switch (status) {
    case CHANGE_MADE:
        if (epoch > changes->epoch)
            changes->epoch = epoch;
        judge(changes, tally, local, domain, before);
        break;
    case CHANGE_ALREADY:
        if (before->epoch > changes->epoch)
            changes->epoch = before->epoch;
        judge(changes, tally, local, domain, before);
        break;
    case CHANGE_STATE:
        judge(changes, tally, local, domain, before);
        break;
    case CHANGE_UNLISTED:
        refuse(changes, tally, local, domain, NULL,
               "is not a listed mailbox, it follows its domain: sluice import adds it");
        break;
    case CHANGE_EPOCH:
        refuse(changes, tally, local, domain, before,
               "was changed by somebody else meanwhile: look with sluice status");
        break;
    case CHANGE_FENCE:
        tally->unfenced++;
        if (before->epoch > changes->unfenced_epoch)
            changes->unfenced_epoch = before->epoch;
        break;
    }
}

static int report_uncertain(struct changes *changes, const char *domain)
{
    message("%s: %s. The outcome is unknown: run the same command again", domain,
            store_error(changes->context->store));
    return EXIT_AGAIN;
}

static int report_interrupted(struct changes *changes)
{
    message("interrupted, %" PRIu64 " mailboxes %s so far: run the same command again to "
            "go on",
            changes->all.made, transition_done(changes->op));
    return EXIT_AGAIN;
}

static int change_chunk(struct changes *changes, const struct change *change,
                        struct change_result *result, struct tally *tally)
{
    struct store *store = changes->context->store;
    switch (store_change(store, change, result)) {
    case COMMIT_REFUSED:
        message("%s", store_error(store));
        return EXIT_SERVICE;
    case COMMIT_UNCERTAIN:
        return report_uncertain(changes, change->domain);
    case COMMIT_DONE:
        break;
    }
    for (size_t i = 0; i < change->count; i++)
        count_one(changes, tally, change->domain, change->items[i].local,
                  result->status[i], &result->before[i], result->epoch);
    return EXIT_DONE;
}

static uint64_t tally_sum(const struct tally *tally)
{
    return tally->made + tally->already + tally->refused + tally->unfenced;
}

static int change_list(struct changes *changes, const char *domain, char *const *locals,
                       const uint64_t *expect, size_t count, struct tally *tally)
{
    struct change_result *result = malloc(sizeof(*result));
    struct change_item *items = calloc(EVENT_ITEMS_MAX, sizeof(*items));
    int code = EXIT_DONE;
    if (!result || !items) {
        message("out of memory");
        code = EXIT_SERVICE;
    }
    for (size_t from = 0; code == EXIT_DONE && from < count; from += EVENT_ITEMS_MAX) {
        size_t n = count - from < EVENT_ITEMS_MAX ? count - from : EVENT_ITEMS_MAX;
        struct change change = { .op = changes->op,
                                 .domain = domain,
                                 .items = items,
                                 .count = n,
                                 .force = changes->force,
                                 .without = changes->without };
        for (size_t i = 0; i < n; i++)
            items[i] =
                (struct change_item){ .local = locals[from + i],
                                      .expect_epoch = expect ? expect[from + i] : 0 };
        code = command_stopped() && !changes->to_the_end
                   ? report_interrupted(changes)
                   : change_chunk(changes, &change, result, tally);
        progress_set(tally_sum(&changes->all) + from + n, "%s", domain);
    }
    free(items);
    free(result);
    return code;
}

struct prediction {
    struct changes *changes;
    const char *domain;
    char *const *locals;
    struct tally *tally;
};

static bool predict_one(void *context, size_t index, const struct home *home)
{
    struct prediction *at = context;
    if (home->listed || !at->locals[index][0])
        judge(at->changes, at->tally, at->locals[index], at->domain, home);
    else
        count_one(at->changes, at->tally, at->domain, at->locals[index], CHANGE_UNLISTED,
                  home, 0);
    return true;
}

int changes_list(struct changes *changes, const char *domain, char *const *locals,
                 const uint64_t *expect, size_t count, struct tally *tally)
{
    struct tally mine = { 0 };
    struct prediction prediction = { changes, domain, locals, &mine };
    int code;
    if (!changes->context->dry_run)
        code = change_list(changes, domain, locals, expect, count, &mine);
    else
        code = homes_look_up(changes->context, domain, locals, count, predict_one,
                             &prediction)
                   ? EXIT_DONE
                   : EXIT_SERVICE;
    add_tally(tally, &mine);
    add_tally(&changes->all, &mine);
    return code;
}

/* ---- whole domains ----------------------------------------------------- */

static uint64_t total_of(const struct store_totals *totals, char letter)
{
    switch (letter) {
    case 'o':
        return totals->old;
    case 'l':
        return totals->locked;
    case 'r':
        return totals->rolling_back;
    default:
        return totals->new;
    }
}

/* How many mailboxes the state of the domain lets the change move, has moved
 * already, and refuses (one message and one entry per state). */
static void judge_totals(struct changes *changes, const char *domain,
                         const struct store_totals *totals, struct tally *tally)
{
    for (const char *letter = "olrn"; *letter; letter++) {
        struct home home = { 0 };
        uint64_t n = total_of(totals, *letter);
        (void)home_from_letter(*letter, &home.state, &home.rollback);
        switch (transition_judge(changes->op, home.state, home.rollback)) {
        case TRANSITION_MOVES:
            tally->made += n;
            continue;
        case TRANSITION_THERE:
            tally->already += n;
            continue;
        case TRANSITION_REFUSED:
            break;
        }
        if (n == 0)
            continue;
        if (is_done(changes, *letter)) {
            tally->already += n;
            continue;
        }
        const char *reason = transition_refusal(changes->op, home.state, home.rollback);
        tally->refused += n;
        changes->messages++;
        message("%s: %" PRIu64 " %s not %s: each %s", domain, n,
                n == 1 ? "mailbox was" : "mailboxes were", transition_done(changes->op),
                reason);
        doc *object = doc_add(changes->refusals, doc_object());
        doc_text(object, "domain", domain);
        doc_number(object, "mailboxes", (int64_t)n);
        doc_text(object, "home", home_state_name(home.state));
        doc_text(object, "reason", reason);
    }
    judge(changes, tally, "", domain, &totals->own);
}

static bool note_progress(void *context, const struct change_all *all)
{
    struct changes *changes = context;
    progress_set(tally_sum(&changes->all) + all->made + all->already + all->wrong_state +
                     all->unfenced,
                 "%s", all->domain);
    return !command_stopped();
}

static int totals_of(struct changes *changes, const char *domain,
                     struct store_totals *totals)
{
    switch (store_totals(changes->context->store, domain, totals)) {
    case LOOKUP_FOUND:
        return EXIT_DONE;
    case LOOKUP_ABSENT:
        message("%s is not registered in Redis: run sluice init", domain);
        return EXIT_SERVICE;
    case LOOKUP_FAILED:
        break;
    }
    message("%s", store_error(changes->context->store));
    return EXIT_SERVICE;
}

/* The counts of the store contain the domain's own record, ours do not. */
static void count_all(struct changes *changes, const struct change_all *all,
                      const struct store_totals *before, struct tally *tally)
{
    const struct home *own = &before->own;
    enum transition answer = transition_judge(changes->op, own->state, own->rollback);
    bool unfenced = answer == TRANSITION_MOVES && all->unfenced > 0 && all->made == 0;
    tally->made = all->made;
    tally->already = all->already;
    tally->unfenced = all->unfenced;
    tally->own = answer != TRANSITION_REFUSED && !unfenced;
    uint64_t *count = answer == TRANSITION_THERE ? &tally->already
                      : unfenced                 ? &tally->unfenced
                                                 : &tally->made;
    if (answer != TRANSITION_REFUSED && *count > 0)
        --*count;
}

static int change_domain(struct changes *changes, const char *domain,
                         const struct store_totals *before, struct tally *tally)
{
    struct store *store = changes->context->store;
    struct store_totals after;
    struct tally refused = { 0 };
    struct change_all all = { .op = changes->op,
                              .domain = domain,
                              .force = changes->force,
                              .without = changes->without,
                              .progress = note_progress,
                              .context = changes };
    enum commit outcome = store_change_all(store, &all);
    count_all(changes, &all, before, tally);
    /* A lock of the whole domain locks its own record last. */
    if (all.unfenced > 0 && before->own.state == HOME_LOCKED &&
        before->own.epoch > changes->unfenced_epoch)
        changes->unfenced_epoch = before->own.epoch;
    if (outcome != COMMIT_DONE || command_stopped())
        tally->own = false; /* it comes last */
    if (all.epoch > changes->epoch)
        changes->epoch = all.epoch;
    if (outcome == COMMIT_REFUSED) {
        message("%s", store_error(store));
        return EXIT_SERVICE;
    }
    if (outcome == COMMIT_UNCERTAIN)
        return report_uncertain(changes, domain);
    if (command_stopped()) {
        changes->all.made += tally->made;
        int code = report_interrupted(changes);
        changes->all.made -= tally->made;
        return code;
    }
    if (all.wrong_state > 0 && totals_of(changes, domain, &after) == EXIT_DONE) {
        judge_totals(changes, domain, &after, &refused);
        tally->refused = refused.refused;
        for (const char *letter = "olrn"; *letter; letter++)
            if (is_done(changes, *letter)) /* of the wrong state for the store */
                tally->already += total_of(&after, *letter);
    }
    return EXIT_DONE;
}

int changes_domain(struct changes *changes, const char *domain, struct tally *tally)
{
    struct tally mine = { 0 };
    struct store_totals totals;
    int code = totals_of(changes, domain, &totals);
    if (code == EXIT_DONE) {
        changes->total += totals.old + totals.locked + totals.rolling_back + totals.new;
        progress_total(changes->total);
    }
    if (code == EXIT_DONE && changes->context->dry_run)
        judge_totals(changes, domain, &totals, &mine);
    else if (code == EXIT_DONE)
        code = change_domain(changes, domain, &totals, &mine);
    add_tally(tally, &mine);
    add_tally(&changes->all, &mine);
    return code;
}

int changes_target(struct changes *changes, const struct target *target,
                   struct tally *tally)
{
    if (target->whole)
        return changes_domain(changes, target->domain->name, tally);
    return changes_list(changes, target->domain->name, target->locals, NULL,
                        target->count, tally);
}
