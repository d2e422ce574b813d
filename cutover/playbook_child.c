/*
 * playbook_child: one call of a step, in processes of its own.
 *
 * The work runs under a guard (playbook_guard.h) with a store of its own; its output
 * goes to <directory>/<step>.log, and the last line that it said is the note of the
 * step. Meanwhile the lease is renewed; when it is lost, or this command is told to
 * stop, the guard ends the work.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "clock.h"
#include "output.h"
#include "playbook_engine.h"
#include "playbook_guard.h"

#define LOOK_MS     50
#define ARG_MAX_LEN 8192

struct call_work {
    struct engine *engine;
    const struct playbook_step *step;
    const struct playbook_call *call;
};

/* ---- the work --------------------------------------------------------------- */

static bool expand_all(const struct call_work *work, char *argv[])
{
    struct engine_names names = { work->engine, work->step->id };
    for (size_t i = 0; i < work->call->argc; i++) {
        char text[ARG_MAX_LEN];
        if (!playbook_expand(work->call->argv[i], engine_value, &names, text,
                             sizeof(text)))
            return false;
        argv[i] = strdup(text);
        if (!argv[i])
            return false;
    }
    return true;
}

static int do_work(void *context)
{
    const struct call_work *work = context;
    const struct engine *engine = work->engine;
    char *argv[PLAYBOOK_ARGS_MAX + 1] = { NULL };
    const char *name = work->call->argv[0];
    const struct action *action = action_of(action_find(name));
    out_open(name, false);
    if (!expand_all(work, argv)) {
        message("an argument is longer than %d bytes", ARG_MAX_LEN);
        return EXIT_DATA;
    }
    if (!action || !action->run)
        return EXIT_DONE;
    struct command_context command = *engine->context;
    command.command = name;
    command.json = command.dry_run = false;
    command.store = store_redis_new(command.conf, command.head);
    struct engine_names names = { engine, work->step->id };
    struct action_context own = {
        .command = &command,
        .domain = engine->domain->name,
        .who = engine->who ? engine->who : engine->domain->name,
        .directory = engine->directory,
        .step = work->step->id,
        .run = engine->run.started,
        .playbook = engine->playbook,
        .rehearsed = engine->rehearsed,
        .value = engine_value,
        .values = &names,
    };
    if (!command.store) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    return out_finish(action->run(&own, (int)work->call->argc, argv));
}

/* ---- waiting ---------------------------------------------------------------- */

/* Until its guard has ended; that keeps the limit. */
static int await(struct engine *engine, const struct playbook_step *step, pid_t pid)
{
    char taken[DURATION_TEXT_MAX];
    int64_t began = clock_ms(), asked = 0;
    int status = 0;
    progress_begin(step->id, 0);
    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid || (got < 0 && errno != EINTR))
            break;
        int64_t now = clock_ms();
        if (engine->lease.held)
            (void)engine_lease(engine);
        if (asked == 0 && (engine->lease.lost || command_stopped())) {
            (void)kill(pid, SIGTERM);
            asked = now;
        } else if (asked > 0 && now - asked > 2 * GUARD_KILL_MS) {
            (void)kill(pid, SIGKILL); /* the work dies with it */
        }
        progress_set(0, "%s, since %s", step->title,
                     duration_text((now - began) / 1000, taken));
        struct timespec pause = { .tv_nsec = LOOK_MS * 1000000L };
        (void)nanosleep(&pause, NULL);
    }
    progress_end();
    return status;
}

int engine_call(struct engine *engine, const struct playbook_step *step,
                const struct playbook_call *call, char note[STATE_NOTE_MAX + 1])
{
    char path[ENGINE_PATH_MAX + PLAYBOOK_ID_MAX + 2], heading[200], when[TIME_TEXT_MAX];
    struct call_work work = { engine, step, call };
    struct guard_end end = { 0 };
    int report = -1;
    (void)snprintf(path, sizeof(path), "%s/%s", engine->directory, step->id); /* fits */
    (void)snprintf(heading, sizeof(heading), "---- %s: %.100s\n",
                   time_text(engine->now, when), call->argv[0]);
    const struct guard_job job = {
        .path = path,
        .heading = heading,
        .limit_s = step->limit_s,
        .work = do_work,
        .context = &work,
    };
    pid_t pid = guard_start(&job, &report);
    if (pid < 0) {
        (void)snprintf(note, STATE_NOTE_MAX + 1, "no process for it: %s",
                       strerror(errno));
        return EXIT_SERVICE;
    }
    guard_read(report, await(engine, step, pid), &end);
    state_text(end.note, note, STATE_NOTE_MAX + 1);
    return end.code;
}
