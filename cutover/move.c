/*
 * move: the loop of a cutover. See move.h.
 *
 * A turn takes what came (signals, answers of the new server, syncs that ended),
 * does what is due in the store (move_store.c), starts syncs and sleeps until
 * the next of it.  Probes run ahead of the locks, the fence of the next batch
 * runs beside the syncs of the current one.
 *
 * Ctrl-C (SIGINT, SIGTERM, SIGHUP): nothing more is locked, running syncs end
 * and their mailboxes are flipped, what this run locked and did not begin is
 * unlocked. The second one stops the syncs too; their mailboxes are unlocked or
 * stay locked as sync on-failure says.
 *
 * Limits: one batch locked ahead; the store gives up after --give-up.
 */
#include "config.h"

#include "move.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "output.h"

#define TURN_MAX_MS   1000 /* never sleeps longer */
#define BUSY_RETRY_MS 1000

/* ---- ends of a mailbox ---------------------------------------------------------- */

static const char *name_of(const struct move *move, size_t box)
{
    return box == move->own ? "all other addresses of the domain"
                            : move->plan.boxes[box].address;
}

static void tell_end(const struct move *move, size_t box, enum step end)
{
    const struct mailbox *m = &move->plan.boxes[box];
    const char *why = m->reason ? m->reason : "";
    if (move->context->dry_run)
        return;
    if (end == STEP_MOVED && (move->plain || box == move->own))
        notice("%s: moved (mail waited %.1f s)", name_of(move, box),
               (double)(m->flipped_ms - m->locked_ms) / 1000);
    else if (end == STEP_REFUSED)
        message("%s: refused by the new server: %s", name_of(move, box), why);
    else if (end == STEP_FAILED)
        message("%s: failed: %s", name_of(move, box), why);
    else if (end == STEP_UNDECIDED)
        message("%s: not decided: %s", name_of(move, box), why);
}

static void set_reason(struct mailbox *m, const char *fmt, va_list arguments)
    __attribute__((format(printf, 2, 0)));
static void set_reason(struct mailbox *m, const char *fmt, va_list arguments)
{
    char *text;
    if (vasprintf(&text, fmt, arguments) < 0)
        text = NULL;
    free(m->reason);
    m->reason = text;
}

void move_set(struct move *move, size_t box, enum step to, const char *fmt, ...)
{
    if (fmt) {
        va_list arguments;
        va_start(arguments, fmt);
        set_reason(&move->plan.boxes[box], fmt, arguments);
        va_end(arguments);
    }
    if (plan_set(&move->plan, box, to))
        tell_end(move, box, to);
}

void move_give_up(struct move *move, size_t box, enum step end, bool unlock,
                  const char *fmt, ...)
{
    va_list arguments;
    va_start(arguments, fmt);
    set_reason(&move->plan.boxes[box], fmt, arguments);
    va_end(arguments);
    move->plan.boxes[box].after = end;
    move_set(move, box, unlock ? STEP_UNLOCKING : end, NULL);
}

/* ---- stopping ---------------------------------------------------------------------- */

static void leave_list(struct move *move, enum step step)
{
    size_t box;
    while ((box = plan_first(&move->plan, step)) != PLAN_NONE) {
        struct mailbox *m = &move->plan.boxes[box];
        bool ours = step == STEP_LOCKED || step == STEP_QUEUED || m->unsure ||
                    (step == STEP_PARKED && m->locked_ms != 0);
        m->stays_locked = m->found_locked || (ours && move->lease.lost);
        move_give_up(move, box, STEP_LEFT, ours && !m->stays_locked, "not begun%s",
                     m->stays_locked ? "; it stays locked" : "");
    }
}

void move_stop(struct move *move, enum move_stop how, int exit_code, int64_t now)
{
    if (move->exit_code == EXIT_DONE)
        move->exit_code = exit_code;
    if (how > move->stop)
        move->stop = how;
    static const enum step waiting[] = { STEP_PARKED, STEP_UNPROBED, STEP_READY,
                                         STEP_LOCKED, STEP_QUEUED };
    for (size_t i = 0; i < sizeof(waiting) / sizeof(waiting[0]); i++)
        leave_list(move, waiting[i]);
    if (move->stop == MOVE_ABORTS && move->jobs)
        run_stop(move->jobs, now);
}

static void on_signal(struct move *move, int64_t now)
{
    size_t running = plan_count(&move->plan, STEP_SYNCING);
    if (move->stop == MOVE_GOES_ON) {
        if (running > 0)
            notice(
                "stopping: %zu syncs are running and may end (again Ctrl-C: stop them)",
                running);
        else
            notice("stopping: what this run has locked is unlocked again");
        move_stop(move, MOVE_DRAINS, EXIT_AGAIN, now);
    } else if (move->stop == MOVE_DRAINS) {
        notice("stopping the %zu running syncs", running);
        move_stop(move, MOVE_ABORTS, EXIT_AGAIN, now);
    }
}

static void take_signals(struct move *move, int64_t now)
{
    struct signalfd_siginfo info;
    while (read(move->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        if (info.ssi_signo != SIGCHLD)
            on_signal(move, now);
}

/* ---- probes -------------------------------------------------------------------------
 */

static void feed_probe(struct move *move)
{
    struct plan *plan = &move->plan;
    while (move->to_probe < plan->n && probe_room(move->probe) > 0) {
        size_t box = move->to_probe++;
        const struct mailbox *m = &plan->boxes[box];
        if (m->step == STEP_UNPROBED && !probe_add(move->probe, box, m->target))
            move_set(move, box, STEP_UNDECIDED,
                     "its address cannot be asked for in SMTP");
    }
}

static void take_probe(struct move *move, size_t box, enum probe_status status,
                       const char *text)
{
    struct mailbox *m = &move->plan.boxes[box];
    bool unlock =
        m->found_locked && move->context->conf->sync.on_failure == ON_FAILURE_UNLOCK;
    if (m->step != STEP_UNPROBED)
        return; /* stopped meanwhile */
    if (status == PROBE_ACCEPTED) {
        move_set(move, box, STEP_READY, NULL);
        return;
    }
    m->stays_locked = m->found_locked && !(unlock && status == PROBE_REFUSED);
    if (status == PROBE_REFUSED)
        move_give_up(move, box, STEP_REFUSED, unlock && !move->context->dry_run, "%s%s",
                     text, m->stays_locked ? "; it stays locked" : "");
    else
        move_set(move, box, STEP_UNDECIDED, "%s%s", text,
                 m->found_locked ? "; it stays locked" : "");
}

static void take_probes(struct move *move)
{
    size_t box;
    enum probe_status status;
    char text[SMTP_TEXT_MAX + 8];
    while (probe_result(move->probe, &box, &status, text)) {
        if (box != PLAN_NONE) {
            take_probe(move, box, status, text);
        } else if (status == PROBE_ACCEPTED) {
            move->takes_anyone = true;
            notice("the new server accepts any recipient, also one that was invented: "
                   "that it accepts a mailbox proves nothing");
        }
    }
}

/* ---- syncs ----------------------------------------------------------------------------
 */

/* Opens its log. RUN_LOG_BUSY: it stays queued and is tried again. */
static enum run_log_result open_log(struct move *move, size_t box, int64_t now, int *log)
{
    struct mailbox *m = &move->plan.boxes[box];
    char file[RUN_LOG_NAME_MAX + 1], header[ADDR_TEXT_MAX + 128], error[256];
    char when[TIME_TEXT_MAX];
    run_log_name(m->local, file);
    snprintf(header, sizeof(header), "=== %s sync of %s, by %.60s\n",
             time_text((int64_t)time(NULL), when), m->address, move->lease.holder);
    enum run_log_result result =
        run_log_open(move->log_directory, file, header, log, error, sizeof(error));
    if (result == RUN_LOG_FAILED)
        move_give_up(move, box, STEP_FAILED, !m->found_locked, "%s", error);
    if (result != RUN_LOG_BUSY)
        return result;
    if (m->busy_since == 0) {
        m->busy_since = now;
        notice("%s: an earlier sync of it is still running; waiting for its end",
               m->address);
    }
    m->not_before = now + BUSY_RETRY_MS;
    if (now - m->busy_since > (int64_t)move->context->conf->sync.timeout * 1000) {
        m->stays_locked = true;
        move_give_up(move, box, STEP_FAILED, false,
                     "an earlier sync of it is still running and has its log open; "
                     "it stays locked");
    }
    return result;
}

/* false: no more can be started in this turn. */
static bool start_sync(struct move *move, size_t box, int64_t now)
{
    struct mailbox *m = &move->plan.boxes[box];
    int log;
    enum run_log_result opened = open_log(move, box, now, &log);
    if (opened != RUN_LOG_OPEN)
        return true;
    char *variables[RUN_VARIABLES + 1], text[RUN_TEXT_MAX] = "no memory";
    enum run_start_result result = RUN_FULL;
    if (run_variables(move->domain, m->address, m->target, variables)) {
        struct run_command command = { move->context->conf->sync.command,
                                       (const char *const *)variables, log,
                                       move->context->conf->sync.timeout };
        result = run_start(move->jobs, box, &command, now, text);
    } else {
        close(log);
    }
    run_variables_free(variables);
    if (result == RUN_STARTED) {
        m->began_ms = now;
        if (move->first_sync_ms == 0)
            move->first_sync_ms = now;
        move_set(move, box, STEP_SYNCING, NULL);
    } else if (result == RUN_IMPOSSIBLE) {
        message("sync command: %s", text);
        move_give_up(move, box, STEP_FAILED, !m->found_locked, "%s", text);
        move_stop(move, MOVE_DRAINS, EXIT_CONFIGURATION, now);
    } else {
        m->not_before = now + BUSY_RETRY_MS;
    }
    return result == RUN_STARTED;
}

static void start_syncs(struct move *move, int64_t now)
{
    size_t box = plan_first(&move->plan, STEP_QUEUED);
    while (box != PLAN_NONE && run_room(move->jobs) > 0 && move->stop == MOVE_GOES_ON) {
        size_t next = move->plan.boxes[box].next;
        if (move->plan.boxes[box].not_before <= now && !start_sync(move, box, now))
            return;
        box = next;
    }
}

static void sync_failed(struct move *move, size_t box, const char *text)
{
    struct mailbox *m = &move->plan.boxes[box];
    char file[RUN_LOG_NAME_MAX + 1], domain[PLAN_FILE_NAME_MAX + 1];
    const struct conf *conf = move->context->conf;
    bool unlock = conf->sync.on_failure == ON_FAILURE_UNLOCK && !move->lease.lost;
    bool stopped = move->stop == MOVE_ABORTS;
    run_log_name(m->local, file);
    plan_file_name(move->domain->name, domain);
    m->stays_locked = !unlock;
    move_give_up(move, box, stopped ? STEP_LEFT : STEP_FAILED, unlock,
                 "sync %s%s%s, log %s/cutover/%s/%s", stopped ? "stopped: " : "", text,
                 unlock ? "" : "; it stays locked", conf->state_dir, domain, file);
}

static void note_speed(struct move *move, double seconds)
{
    /* A moving mean: of all while they are few, then of about the last fifty. */
    size_t weight = move->synced < 50 ? move->synced : 50;
    move->sync_s = (move->sync_s * (double)weight + seconds) / (double)(weight + 1);
    move->synced++;
}

static void take_syncs(struct move *move, int64_t now)
{
    size_t box;
    char text[RUN_TEXT_MAX];
    run_tick(move->jobs, now);
    while (run_ended(move->jobs, now, &box, text)) {
        struct mailbox *m = &move->plan.boxes[box];
        m->ended_ms = now;
        note_speed(move, (double)(now - m->began_ms) / 1000);
        if (text[0] == '\0')
            move_set(move, box, STEP_SYNCED, NULL);
        else
            sync_failed(move, box, text);
    }
}

/* ---- the loop
 * ---------------------------------------------------------------------------- */

static bool finished(const struct move *move)
{
    for (enum step step = STEP_PARKED; step < STEP_MOVED; step++)
        if (plan_count(&move->plan, step) > 0)
            return false;
    return true;
}

static void show_progress(const struct move *move)
{
    const struct plan *plan = &move->plan;
    size_t done = plan_ended(plan);
    if (move->own != PLAN_NONE && plan->boxes[move->own].step >= STEP_MOVED)
        done--; /* mailboxes are counted */
    size_t locked = plan_count(plan, STEP_LOCKED);
    size_t syncing = plan_count(plan, STEP_SYNCING);
    if (move->outage_since != 0)
        progress_set(done, "%zu syncing; the store does not answer", syncing);
    else if (locked > 0 && !move->fenced && syncing == 0)
        progress_set(done, "%zu locked, the fence %s", locked, move->waits_for);
    else
        progress_set(done, "%zu syncing, %zu queued, %zu locked ahead", syncing,
                     plan_count(plan, STEP_QUEUED), locked);
}

/* A pause until the clock says `until`, or something comes. */
static void wait_for_more(struct move *move, int64_t until)
{
    struct pollfd fds[2] = { { .fd = move->signals, .events = POLLIN }, { .fd = -1 } };
    int64_t now = clock_ms();
    if (move->probe) {
        fds[1].fd = probe_fd(move->probe, &fds[1].events);
        if (probe_due(move->probe) < until)
            until = probe_due(move->probe);
    }
    if (move->jobs && run_due(move->jobs, now) < until)
        until = run_due(move->jobs, now);
    int64_t left = until - now;
    if (left > TURN_MAX_MS)
        left = TURN_MAX_MS;
    if (poll(fds, 2, left > 0 ? (int)left : 0) < 0)
        fds[1].revents = 0;
    now = clock_ms();
    take_signals(move, now);
    if (move->probe) {
        probe_run(move->probe, now, fds[1].revents);
        take_probes(move);
    }
}

void move_pause(struct move *move, int64_t until)
{
    wait_for_more(move, until);
}

static int64_t next_turn(const struct move *move, int64_t now)
{
    const struct plan *plan = &move->plan;
    bool store_work =
        plan_count(plan, STEP_SYNCED) + plan_count(plan, STEP_UNLOCKING) > 0;
    int64_t at = now + 250;
    if (store_work)
        at = move->outage_since != 0 ? move->retry_at : now;
    else if (plan_count(plan, STEP_LOCKED) > 0 && !move->fenced && move->look_at < at)
        at = move->look_at;
    else if (plan_count(plan, STEP_READY) > 0 && plan_count(plan, STEP_LOCKED) == 0)
        at = now + 50;
    return at;
}

void move_run(struct move *move, int64_t now)
{
    progress_begin("cutover", move->mailboxes);
    while (!finished(move)) {
        if (move->probe && move->stop == MOVE_GOES_ON)
            feed_probe(move);
        if (!move->context->dry_run) {
            take_syncs(move, now);
            move_store_turn(move, now);
            move_promote(move);
            start_syncs(move, now);
        } else if (plan_count(&move->plan, STEP_UNPROBED) == 0) {
            break; /* a plan needs no more */
        }
        show_progress(move);
        wait_for_more(move, next_turn(move, now));
        now = clock_ms();
    }
    progress_end();
}
