/*
 * move_report: the end of a cutover. See move.h.
 *
 * Waits until the mail that was held for what is new has left every host (each
 * host's `swept` has reached the last flip, and no held record names one of the
 * mailboxes), then says what became of each mailbox: a summary on standard
 * output, or the document of --json, whose keys are a contract (doc/sluice.1).
 *
 * Messages on hold because of a loop are not waited for: only a person releases
 * them.
 */
#include "config.h"

#include "clock.h"
#include "move.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

#define RELEASE_LOOK_MS 500

static size_t count(const struct move *move, enum step step)
{
    size_t n = plan_count(&move->plan, step);
    if (move->own != PLAN_NONE && move->plan.boxes[move->own].step == step)
        n--; /* it is told apart */
    return n;
}

/* ---- release ------------------------------------------------------------------- */

struct held_search {
    const struct move *move;
    const char **addresses; /* sorted: what is new */
    size_t n;
    size_t found;
};

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_ours(const struct held_search *search, const char *recipient)
{
    if (bsearch(&recipient, search->addresses, search->n, sizeof(*search->addresses),
                compare_text))
        return true;
    /* An unlisted address that followed the domain's own record. */
    const struct move *move = search->move;
    const char *at = strrchr(recipient, '@');
    return move->own != PLAN_NONE && move->plan.boxes[move->own].step == STEP_MOVED &&
           at && strcmp(at + 1, move->domain->name) == 0;
}

static bool look_at_held(void *context, const struct held *held)
{
    struct held_search *search = context;
    if (held->kind != HELD_LOCK || held->gone_since != 0)
        return true;
    for (const char *r = held->recipients; *r;) {
        char address[ADDR_TEXT_MAX + 1];
        size_t len = strcspn(r, "\n");
        if (len <= ADDR_TEXT_MAX) {
            memcpy(address, r, len);
            address[len] = '\0';
            if (is_ours(search, address)) {
                search->found++;
                return true;
            }
        }
        r += len + (r[len] == '\n');
    }
    return true;
}

static void add_still(char *still, size_t size, const char *host, const char *what)
{
    size_t n = strlen(still);
    snprintf(still + n, size - n, "%s%s %s", n > 0 ? ", " : "", host, what);
}

/* One look at all hosts. false: the store does not answer. */
static bool look_at_release(struct held_search *search, char *still, size_t size)
{
    const struct move *move = search->move;
    struct host *hosts;
    size_t n;
    still[0] = '\0';
    int64_t now = store_time_ms(move->context->store);
    if (now == 0 || store_hosts(move->context->store, &hosts, &n) == LOOKUP_FAILED)
        return false;
    bool answered = true;
    for (size_t i = 0; i < n && answered; i++) {
        if (fence_excepted(move->options.without.items, hosts[i].name))
            continue;
        search->found = 0;
        answered =
            store_each_held(move->context->store, hosts[i].name, look_at_held, search);
        char what[64];
        snprintf(what, sizeof(what), "(%zu messages on hold)", search->found);
        if (search->found > 0)
            add_still(still, size, hosts[i].name, what);
        else if (hosts[i].swept < move->last_flip)
            add_still(still, size, hosts[i].name,
                      now - hosts[i].seen_ms > HOST_SILENT_MS
                          ? "(no sign of life)"
                          : "(looks through its queue)");
    }
    free(hosts);
    return answered;
}

static bool is_new(const struct move *move, size_t box)
{
    enum step step = move->plan.boxes[box].step;
    return step == STEP_MOVED || step == STEP_ALREADY;
}

bool move_wait_release(struct move *move, char *still, size_t still_size)
{
    struct held_search search = { .move = move };
    still[0] = '\0';
    if (move->last_flip == 0 || move->lease.lost)
        return true;
    search.addresses = malloc((move->plan.n + 1) * sizeof(*search.addresses));
    if (search.addresses == NULL) {
        snprintf(still, still_size, "not looked at, no memory");
        return false;
    }
    for (size_t i = 0; i < move->plan.n; i++)
        if (is_new(move, i) && i != move->own)
            search.addresses[search.n++] = move->plan.boxes[i].address;
    qsort(search.addresses, search.n, sizeof(*search.addresses), compare_text);
    int64_t end = clock_ms() + (int64_t)move->options.give_up * 1000;
    progress_begin("release", 0);
    for (;;) {
        if (!look_at_release(&search, still, still_size))
            snprintf(still, still_size, "unknown, %s", store_error(move->context->store));
        if (still[0] == '\0' || clock_ms() >= end || move->stop != MOVE_GOES_ON)
            break;
        progress_set(0, "held mail leaves: %s", still);
        int64_t until = clock_ms() + RELEASE_LOOK_MS;
        while (clock_ms() < until && move->stop == MOVE_GOES_ON)
            move_pause(move, until);
    }
    progress_end();
    free(search.addresses);
    return still[0] == '\0';
}

/* ---- figures --------------------------------------------------------------------- */

struct figures {
    double median, p99, worst;
};

static double hold_of(const struct mailbox *m)
{
    return (double)(m->flipped_ms - m->locked_ms) / 1000;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static struct figures hold_figures(const struct move *move)
{
    struct figures figures = { 0 };
    double *holds = malloc((move->plan.n + 1) * sizeof(*holds));
    size_t n = 0;
    if (holds == NULL)
        return figures;
    for (size_t i = 0; i < move->plan.n; i++)
        if (i != move->own && move->plan.boxes[i].step == STEP_MOVED)
            holds[n++] = hold_of(&move->plan.boxes[i]);
    qsort(holds, n, sizeof(*holds), compare_double);
    figures.median = plan_percentile(holds, n, 0.5);
    figures.p99 = plan_percentile(holds, n, 0.99);
    figures.worst = plan_percentile(holds, n, 1);
    free(holds);
    return figures;
}

/* What is to be said of the domain's own record; NULL: it is new. */
static const char *own_stays(const struct move *move)
{
    if (move->own == PLAN_NONE)
        return move->own_stays;
    const struct mailbox *m = &move->plan.boxes[move->own];
    if (m->step == STEP_MOVED || m->step == STEP_ALREADY)
        return NULL;
    return m->reason ? m->reason : "not begun";
}

/* Imported while the run was at its end: not moved, and the domain is. */
static bool others_left(const struct move *move)
{
    struct store_totals totals;
    return move->whole && own_stays(move) == NULL &&
           store_totals(move->context->store, move->domain->name, &totals) ==
               LOOKUP_FOUND &&
           totals.old + totals.locked + totals.rolling_back > 0;
}

static int exit_code(const struct move *move, const char *still)
{
    if (move->exit_code != EXIT_DONE)
        return move->exit_code;
    bool own_left = move->own != PLAN_NONE && own_stays(move) != NULL;
    if (count(move, STEP_REFUSED) + count(move, STEP_FAILED) > 0 &&
        count(move, STEP_UNDECIDED) == 0 && still[0] == '\0')
        return EXIT_CHECK;
    if (still[0] != '\0' || count(move, STEP_UNDECIDED) > 0 ||
        count(move, STEP_LEFT) > 0 || own_left || others_left(move))
        return EXIT_AGAIN;
    return EXIT_DONE;
}

/* ---- the document --------------------------------------------------------------------
 */

static void document_mailboxes(const struct move *move, doc *document)
{
    doc *list = doc_put(document, "mailboxes", doc_array());
    for (size_t i = 0; i < move->plan.n; i++) {
        const struct mailbox *m = &move->plan.boxes[i];
        if (i == move->own)
            continue;
        doc *entry = doc_add(list, doc_object());
        doc_text(entry, "address", m->address);
        doc_text(entry, "result", step_name(m->step));
        if (m->step == STEP_MOVED)
            doc_real(entry, "hold_s", hold_of(m));
        else
            doc_text(entry, "hold_s", NULL);
        if (m->ended_ms != 0)
            doc_real(entry, "sync_s", (double)(m->ended_ms - m->began_ms) / 1000);
        else
            doc_text(entry, "sync_s", NULL);
        doc_flag(entry, "stays_locked", m->stays_locked);
        doc_text(entry, "reason", m->reason);
    }
}

static doc *document_counts(const struct move *move)
{
    static const enum step told[] = { STEP_MOVED,  STEP_ALREADY,   STEP_REFUSED,
                                      STEP_FAILED, STEP_UNDECIDED, STEP_LEFT };
    doc *document = doc_object();
    doc_text(document, "domain", move->domain->name);
    for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++)
        doc_number(document, step_name(told[i]), (int64_t)count(move, told[i]));
    doc_flag(document, "probed", !move->not_probed);
    doc_flag(document, "accepts_anyone", move->takes_anyone);
    return document;
}

static void print_document(const struct move *move, const struct figures *figures,
                           const char *still)
{
    doc *document = document_counts(move);
    doc_real(document, "hold_median_s", figures->median);
    doc_real(document, "hold_p99_s", figures->p99);
    doc_real(document, "hold_worst_s", figures->worst);
    doc_number(document, "fences", (int64_t)move->fences);
    doc_real(document, "fence_s", move->all_fences_s);
    doc_real(document, "seconds", (double)(clock_ms() - move->began_ms) / 1000);
    doc_text(document, "domain_stays", own_stays(move));
    doc_text(document, "still_releasing", still[0] ? still : NULL);
    document_mailboxes(move, document);
    doc_print(document);
}

/* ---- the summary
 * ------------------------------------------------------------------------ */

/* For whoever sees one line of it: the step of a playbook. */
static void say_first_unmoved(const struct move *move)
{
    const struct mailbox *first = NULL;
    size_t count = 0;
    for (size_t i = 0; i < move->plan.n; i++) {
        const struct mailbox *m = &move->plan.boxes[i];
        if (i == move->own || (m->step != STEP_REFUSED && m->step != STEP_FAILED &&
                               m->step != STEP_UNDECIDED))
            continue;
        first = count++ == 0 ? m : first;
    }
    if (first && count == 1)
        message("%s: %s: %s", first->address, step_name(first->step),
                first->reason ? first->reason : "no reason is known");
    else if (first)
        message("%s and %zu more are not ready to move: %s", first->address, count - 1,
                first->reason ? first->reason : "no reason is known");
}

static void print_unmoved(const struct move *move)
{
    static const char *const headers[] = { "MAILBOX", "RESULT", "REASON" };
    struct sheet *sheet = sheet_new(headers, 3);
    for (size_t i = 0; i < move->plan.n; i++) {
        const struct mailbox *m = &move->plan.boxes[i];
        bool told = m->step == STEP_REFUSED || m->step == STEP_FAILED ||
                    m->step == STEP_UNDECIDED;
        bool kept = m->step == STEP_LEFT && (m->stays_locked || m->ended_ms != 0);
        if (i != move->own && (told || kept))
            sheet_row(sheet, (const char *const[]){ m->address, step_name(m->step),
                                                    m->reason ? m->reason : "" });
    }
    if (sheet_rows(sheet) > 0)
        sheet_print(sheet);
    else
        sheet_free(sheet);
}

static void print_counts(const struct move *move)
{
    print("%s: %zu moved, %zu already there, %zu refused by the new server, %zu failed, "
          "%zu not decided, %zu not begun",
          move->domain->name, count(move, STEP_MOVED), count(move, STEP_ALREADY),
          count(move, STEP_REFUSED), count(move, STEP_FAILED),
          count(move, STEP_UNDECIDED), count(move, STEP_LEFT));
    print_unmoved(move);
}

static void print_summary(const struct move *move, const struct figures *figures,
                          const char *still)
{
    print_counts(move);
    if (count(move, STEP_MOVED) > 0)
        print("mail waited for each mailbox: median %.1f s, 99%% within %.1f s, longest "
              "%.1f s",
              figures->median, figures->p99, figures->worst);
    double seconds = (double)(clock_ms() - move->began_ms) / 1000;
    if (move->fences > 0)
        print(
            "%.1f s in all; %zu %s (every MTA host confirms a batch's locks) took %.1f s",
            seconds, move->fences, move->fences == 1 ? "fence" : "fences",
            move->all_fences_s);
    else
        print("%.1f s in all", seconds);
    if (move->not_probed)
        print("the new server was not asked whether it takes the recipients");
    if (own_stays(move))
        print("all other addresses of %s stay where they are: %s", move->domain->name,
              own_stays(move));
    if (still[0] != '\0')
        print("still releasing: %s (sluice held)", still);
}

int move_report(struct move *move, const char *still)
{
    struct figures figures = hold_figures(move);
    int code = exit_code(move, still);
    if (out_is_json())
        print_document(move, &figures, still);
    else
        print_summary(move, &figures, still);
    if (others_left(move))
        message("mailboxes of %s were imported meanwhile and are not new",
                move->domain->name);
    if (code == EXIT_AGAIN || code == EXIT_SERVICE)
        message("not complete: repeat the same command to go on");
    return code;
}

/* ---- --dry-run
 * -------------------------------------------------------------------------- */

int move_report_plan(struct move *move)
{
    const struct conf_sync *sync = &move->context->conf->sync;
    int jobs = move->options.jobs ? move->options.jobs : sync->jobs;
    size_t first = plan_batch_size(jobs, 0, 0, (size_t)move->options.batch);
    size_t ready = count(move, STEP_READY);
    size_t undecided = count(move, STEP_UNDECIDED);
    if (out_is_json()) {
        doc *document = document_counts(move);
        doc_number(document, "to_move", (int64_t)ready);
        doc_number(document, "first_batch", (int64_t)(first < ready ? first : ready));
        doc_number(document, "jobs", jobs);
        document_mailboxes(move, document);
        doc_print(document);
    } else {
        print("%s: would move %zu mailboxes (%zu are locked already), the first %zu at "
              "once, "
              "%d syncs at a time; %zu are there already, %zu refused by the new server, "
              "%zu not decided",
              move->domain->name, ready, move->locked_before,
              first < ready ? first : ready, jobs, count(move, STEP_ALREADY),
              count(move, STEP_REFUSED), undecided);
        print_unmoved(move);
        if (move->not_probed)
            print("the new server was not asked whether it takes the recipients");
        print("dry run: nothing was locked");
        say_first_unmoved(move);
    }
    if (move->exit_code != EXIT_DONE)
        return move->exit_code;
    if (undecided > 0)
        return EXIT_AGAIN;
    return count(move, STEP_REFUSED) + count(move, STEP_FAILED) > 0 ? EXIT_CHECK
                                                                    : EXIT_DONE;
}
