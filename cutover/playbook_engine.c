/*
 * playbook_engine: reads a run, writes its steps, does and undoes them. See
 * playbook_engine.h; how a call is run in a child is in playbook_child.c.
 *
 * A step: record "running" -> pre-check -> action -> post-check -> "done"; each
 * record goes out before the thing that it announces is done. In a rehearsal,
 * what changes more than the pilot group is left out, and no time is waited for.
 *
 * Limits: LEASE_S until a runner that was killed on another host is taken for
 * dead; AGAIN_S between two looks at something that takes time.
 */
#include "playbook_engine.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "addr.h"
#include "clock.h"
#include "output.h"
#include "run.h"

#define LEASE_S 20
#define AGAIN_S 15
#define WHO     "=who"

/* ---- names ------------------------------------------------------------------ */

bool engine_path(const struct conf *conf, const char *name, char out[ENGINE_PATH_MAX])
{
    int n = strchr(name, '/')
                ? snprintf(out, ENGINE_PATH_MAX, "%s", name)
                : snprintf(out, ENGINE_PATH_MAX, "%s/%s.conf", conf->playbooks, name);
    return n > 0 && n < ENGINE_PATH_MAX;
}

void engine_operator(char out[STATE_BY_MAX + 1])
{
    char host[65] = "?", text[512];
    const struct passwd *user = getpwuid(getuid());
    if (gethostname(host, sizeof(host) - 1) != 0)
        memcpy(host, "?", 2);
    (void)snprintf(text, sizeof(text), "%.100s@%s", user ? user->pw_name : "?", host);
    state_text(text, out, STATE_BY_MAX + 1);
}

const char *engine_value(void *context, const char *name)
{
    const struct engine_names *names = context;
    const struct engine *engine = names->engine;
    if (strcmp(name, "domain") == 0)
        return engine->domain->name;
    if (strcmp(name, "who") == 0)
        return engine->who ? engine->who : engine->domain->name;
    if (strcmp(name, "step") == 0)
        return names->step;
    if (strcmp(name, "directory") == 0)
        return engine->directory;
    for (size_t i = 0; i < engine->playbook->setting_count; i++)
        if (strcmp(engine->playbook->settings[i].name, name) == 0)
            return engine->values[i] ? engine->values[i]
                                     : engine->playbook->settings[i].value;
    return NULL;
}

/* ---- reading ------------------------------------------------------------------- */

static void forget(struct engine *engine)
{
    for (size_t i = 0; i < PLAYBOOK_SETTINGS_MAX; i++) {
        free(engine->values[i]);
        engine->values[i] = NULL;
    }
    free(engine->who);
    engine->who = NULL;
    if (engine->playbook)
        memset(engine->records, 0,
               engine->playbook->step_count * sizeof(*engine->records));
}

static bool take_own(void *context, const char *name, const char *value)
{
    struct engine *engine = context;
    if (name[0] == '\0' && !run_record_decode(value, strlen(value), &engine->run))
        engine->lost = true;
    return true;
}

static bool take_value(struct engine *engine, const char *name, const char *value)
{
    const char *tab = strchr(value, '\t');
    char **at = NULL;
    if (strcmp(name, WHO) == 0)
        at = &engine->who;
    for (size_t i = 0; i < engine->playbook->setting_count; i++)
        if (strcmp(engine->playbook->settings[i].name, name + 1) == 0)
            at = &engine->values[i];
    if (at && tab) {
        free(*at);
        *at = strdup(tab + 1);
    }
    return true;
}

static bool take_field(void *context, const char *name, const char *value)
{
    struct engine *engine = context;
    if (name[0] == '\0')
        return take_own(context, name, value);
    if (name[0] == '=')
        return take_value(engine, name, value);
    size_t step = playbook_find(engine->playbook, name);
    if (step == SIZE_MAX ||
        !step_record_decode(value, strlen(value), &engine->records[step]))
        notice("step %s of this run is not in %s: the file has changed since the start",
               name, engine->playbook->path);
    return true;
}

static int read_fields(struct engine *engine, store_playbook_fn *each)
{
    struct store *store = engine->context->store;
    engine->now = store_time_ms(store) / 1000;
    if (engine->now > 0 && store_each_playbook(store, engine->domain->name, each, engine))
        return EXIT_DONE;
    message("%s", store_error(store));
    return EXIT_SERVICE;
}

int engine_read(struct engine *engine)
{
    forget(engine);
    engine->run = (struct run_record){ 0 };
    int code = read_fields(engine, take_field);
    if (code == EXIT_DONE && engine->run.state == RUN_NONE) {
        message("the run of %s is gone from Redis: sluice recover", engine->domain->name);
        return EXIT_SERVICE;
    }
    return code;
}

static int open_directory(struct engine *engine)
{
    char error[600];
    int n = snprintf(engine->directory, sizeof(engine->directory), "%s/playbook/%s",
                     engine->context->conf->state_dir, engine->domain->name);
    int fd = n > 0 && n < ENGINE_PATH_MAX
                 ? run_directory(engine->context->conf->state_dir, "playbook",
                                 engine->domain->name, error, sizeof(error))
                 : -1;
    if (fd < 0) {
        message("%s", error);
        return EXIT_SERVICE;
    }
    close(fd);
    return EXIT_DONE;
}

static int load(struct engine *engine)
{
    char path[ENGINE_PATH_MAX], error[PLAYBOOK_ERROR_MAX];
    if (engine->lost || !engine_path(engine->context->conf, engine->run.playbook, path)) {
        message("the run of %s in Redis is damaged: sluice recover",
                engine->domain->name);
        return EXIT_SERVICE;
    }
    engine->playbook = playbook_load(path, action_find, error, sizeof(error));
    if (!engine->playbook) {
        message("%s", error);
        return EXIT_CONFIGURATION;
    }
    engine->records = calloc(engine->playbook->step_count, sizeof(*engine->records));
    if (!engine->records) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    return EXIT_DONE;
}

int engine_open(struct command_context *context, const char *domain, struct engine *out)
{
    char name[ADDR_DOMAIN_MAX + 1];
    *out = (struct engine){ .context = context };
    out->domain = addr_domain(domain, strlen(domain), name)
                      ? conf_managed(context->conf, name)
                      : NULL;
    if (!out->domain) {
        message("%s is not a domain of %s", domain, context->conf->path);
        return EXIT_DATA;
    }
    engine_operator(out->by);
    (void)snprintf(out->holder, sizeof(out->holder), "%.120s:%ld", out->by,
                   (long)getpid());
    int code = command_need_store(context);
    if (code == EXIT_DONE)
        code = read_fields(out, take_own);
    if (code != EXIT_DONE || out->run.state == RUN_NONE)
        return code;
    code = load(out);
    if (code == EXIT_DONE)
        code = engine_read(out);
    return code == EXIT_DONE ? open_directory(out) : code;
}

void engine_close(struct engine *engine)
{
    forget(engine);
    free(engine->records);
    playbook_free(engine->playbook);
}

/* ---- writing ----------------------------------------------------------------------- */

static int put(struct engine *engine, const struct playbook_put *what, uint64_t *epoch)
{
    switch (store_playbook_put(engine->context->store, what, epoch)) {
    case COMMIT_DONE:
        return EXIT_DONE;
    case COMMIT_REFUSED:
        message("%s", store_error(engine->context->store));
        return EXIT_AGAIN;
    case COMMIT_UNCERTAIN:
        break;
    }
    message("outcome unknown (%s): run the same command again",
            store_error(engine->context->store));
    return EXIT_AGAIN;
}

int engine_put(struct engine *engine, size_t step, enum step_state state, int64_t due,
               const char *by, const char *note)
{
    struct step_record *record = &engine->records[step], next = *record;
    char text[STATE_RECORD_MAX];
    if (!step_state_way(record->state, state)) {
        message("step %s is %s and cannot become %s", engine->playbook->steps[step].id,
                step_state_name(record->state), step_state_name(state));
        return EXIT_CHECK;
    }
    int64_t ms = store_time_ms(engine->context->store);
    if (ms > 0)
        engine->now = ms / 1000;
    next.state = state;
    next.due = due;
    if (state == STATE_RUNNING && record->state != STATE_TIME)
        next.began = engine->now;
    next.ended = state == STATE_RUNNING ? 0 : engine->now;
    state_text(by, next.by, sizeof(next.by));
    state_text(note, next.note, sizeof(next.note));
    step_record_encode(&next, text);
    const struct playbook_field field = { engine->playbook->steps[step].id, text };
    const struct playbook_put what = { engine->domain->name, record->epoch, false, &field,
                                       1 };
    int code = put(engine, &what, &next.epoch);
    if (code == EXIT_DONE)
        *record = next;
    return code;
}

int engine_put_run(struct engine *engine, const struct run_record *run)
{
    struct run_record next = *run;
    char text[STATE_RECORD_MAX];
    if (run_record_encode(run, text) == 0) {
        message("the playbook's name is too long");
        return EXIT_DATA;
    }
    const struct playbook_field field = { "", text };
    const struct playbook_put what = { engine->domain->name, engine->run.epoch, false,
                                       &field, 1 };
    int code = put(engine, &what, &next.epoch);
    if (code == EXIT_DONE)
        engine->run = next;
    return code;
}

/* ---- the lease ------------------------------------------------------------------------
 */

static enum commit ask_lease(struct engine *engine, char *other, size_t size)
{
    char name[ADDR_DOMAIN_MAX + 16];
    (void)snprintf(name, sizeof(name), "playbook:%s", engine->domain->name);
    engine->lease_at = clock_ms() + LEASE_S * 1000 / 4;
    enum commit commit = store_lease_take(engine->context->store, name, engine->holder,
                                          LEASE_S, other, size);
    /* Its holder was a process of this host that is gone. */
    const char *pid = commit == COMMIT_REFUSED ? strrchr(other, ':') : NULL;
    size_t len = strlen(engine->by);
    if (pid && strncmp(other, engine->by, len) == 0 && other[len] == ':' &&
        kill((pid_t)strtol(pid + 1, NULL, 10), 0) != 0 && errno == ESRCH) {
        store_lease_drop(engine->context->store, name, other);
        commit = store_lease_take(engine->context->store, name, engine->holder, LEASE_S,
                                  other, size);
    }
    return commit;
}

int engine_lease(struct engine *engine)
{
    char other[200];
    if (engine->lost)
        return EXIT_AGAIN;
    if (engine->lease_at > 0 && clock_ms() < engine->lease_at)
        return EXIT_DONE;
    bool first = engine->lease_at == 0;
    switch (ask_lease(engine, other, sizeof(other))) {
    case COMMIT_DONE:
        return EXIT_DONE;
    case COMMIT_REFUSED:
        message("the playbook of %s is being run by %s%s", engine->domain->name, other,
                first ? ": sluice playbook status shows it" : ", who took it over");
        engine->lost = true;
        return EXIT_AGAIN;
    case COMMIT_UNCERTAIN:
        break;
    }
    if (!first)
        return EXIT_DONE; /* an outage: the next renewal tells */
    message("%s", store_error(engine->context->store));
    return EXIT_SERVICE;
}

void engine_release(struct engine *engine)
{
    char name[ADDR_DOMAIN_MAX + 16];
    (void)snprintf(name, sizeof(name), "playbook:%s", engine->domain->name);
    if (!engine->lost && engine->lease_at > 0)
        store_lease_drop(engine->context->store, name, engine->holder);
}

/* ---- one step
 * ---------------------------------------------------------------------------- */

static int fail_step(struct engine *engine, size_t step, const char *when,
                     const char *reason)
{
    char note[STATE_NOTE_MAX + 1], text[STATE_NOTE_MAX + 64];
    (void)snprintf(text, sizeof(text), "%s%s", when, reason);
    state_text(text, note, sizeof(note));
    int code = engine_put(engine, step, STATE_FAILED, 0, engine->by, note);
    message("step %s: %s", engine->playbook->steps[step].id, note);
    return code == EXIT_DONE ? EXIT_CHECK : code;
}

/* "timer 48h" or "timer 48h STEP": from that step's end on. */
static int wait_timer(struct engine *engine, size_t step)
{
    struct engine_names names = { engine, engine->playbook->steps[step].id };
    const struct playbook_call *call = &engine->playbook->steps[step].action;
    char text[64], length[DURATION_TEXT_MAX], note[STATE_NOTE_MAX + 1];
    int seconds;
    if (!playbook_expand(call->argv[1], engine_value, &names, text, sizeof(text)) ||
        !duration_parse(text, &seconds))
        return fail_step(engine, step, "",
                         "timer: not a duration: write it as 10m or 48h");
    int64_t from = engine->now;
    size_t since = call->argc > 2 ? playbook_find(engine->playbook, call->argv[2]) : step;
    if (call->argc > 2 && since != SIZE_MAX && engine->records[since].ended > 0)
        from = engine->records[since].ended;
    if (engine->run.rehearsal)
        seconds = 0;
    (void)snprintf(note, sizeof(note), "waits for %s", duration_text(seconds, length));
    return engine_put(engine, step, STATE_TIME, from + seconds, engine->by, note);
}

static int finish_step(struct engine *engine, size_t step, const char *note)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    char reason[STATE_NOTE_MAX + 1];
    if (it->post.argv) {
        int code = engine_call(engine, it, &it->post, reason);
        if (engine->lost || command_stopped())
            return EXIT_AGAIN;
        if (code != EXIT_DONE)
            return fail_step(engine, step, "check after it: ", reason);
    }
    int code = engine_put(engine, step, STATE_DONE, 0, engine->by, note);
    if (code == EXIT_DONE)
        print("%s: done%s%s", it->id, note[0] ? ": " : "", note);
    return code;
}

static bool left_out(const struct engine *engine, const struct playbook_step *step,
                     enum action_kind kind)
{
    return engine->run.rehearsal && kind == ACTION_CHANGE &&
           !playbook_call_uses(&step->action, "who");
}

static int act(struct engine *engine, size_t step, const struct action *action)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    char note[STATE_NOTE_MAX + 1];
    int code = engine_call(engine, it, &it->action, note);
    if (engine->lost)
        return EXIT_AGAIN;
    if (command_stopped()) {
        message("stopped in step %s: the same command goes on with it", it->id);
        return EXIT_AGAIN;
    }
    if (code == EXIT_AGAIN && action->info.kind == ACTION_TIME)
        return engine_put(engine, step, STATE_TIME, engine->now + AGAIN_S, engine->by,
                          note);
    if (code != EXIT_DONE)
        return fail_step(engine, step, "", note);
    return finish_step(engine, step, note);
}

static int do_step(struct engine *engine, size_t step)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    const struct action *action = action_of(action_find(it->action.argv[0]));
    char reason[STATE_NOTE_MAX + 1];
    bool timed_out = engine->records[step].state == STATE_TIME;
    int code = engine_put(engine, step, STATE_RUNNING, engine->records[step].due,
                          engine->by, "");
    if (code != EXIT_DONE)
        return code;
    if (it->pre.argv && !timed_out) {
        code = engine_call(engine, it, &it->pre, reason);
        if (engine->lost || command_stopped())
            return EXIT_AGAIN;
        if (code != EXIT_DONE)
            return fail_step(engine, step, "check before it: ", reason);
    }
    if (action->info.kind == ACTION_PERSON) {
        notice("%s: %s waits for %s: sluice playbook ack %s %s --by NAME --note TEXT",
               it->id, it->title, it->owner, engine->domain->name, it->id);
        return engine_put(engine, step, STATE_PERSON, 0, engine->by, "");
    }
    if (left_out(engine, it, action->info.kind) ||
        (engine->run.rehearsal && action->info.kind == ACTION_TIME))
        return engine_put(engine, step, STATE_DONE, 0, engine->by,
                          "rehearsal: left out, it concerns more than the pilot group");
    if (!action->run)
        return action->info.kind == ACTION_TIME
                   ? (timed_out ? finish_step(engine, step, "")
                                : wait_timer(engine, step))
                   : finish_step(engine, step, "");
    return act(engine, step, action);
}

/* ---- the run
 * ------------------------------------------------------------------------------- */

/* Whether the window allows the step; opens it. */
static int check_window(struct engine *engine, size_t step)
{
    struct forecast forecast;
    char need[DURATION_TEXT_MAX], left[DURATION_TEXT_MAX];
    const struct playbook_step *it = &engine->playbook->steps[step];
    state_forecast(engine->playbook, &engine->run, engine->records, engine->now,
                   &forecast);
    bool opening = it->opens && engine->run.opened == 0;
    if (!state_in_window(engine->playbook, step) || (!opening && !forecast.open))
        return EXIT_DONE;
    if (forecast.left_s < 0 || (opening && forecast.over)) {
        duration_text(forecast.need_s, need);
        duration_text(forecast.left_s < 0 ? -forecast.left_s : forecast.left_s, left);
        message("step %s is not begun: the change window %s%s, and %s are usually still "
                "needed; sluice playbook run %s --window DURATION goes on, sluice "
                "playbook rollback %s goes back",
                it->id, forecast.left_s < 0 ? "is over since " : "is ", left, need,
                engine->domain->name, engine->domain->name);
        return EXIT_CHECK;
    }
    if (!opening) {
        if (forecast.over)
            notice("the change window ends in %s, %s are usually still needed",
                   duration_text(forecast.left_s, left),
                   duration_text(forecast.need_s, need));
        return EXIT_DONE;
    }
    struct run_record run = engine->run;
    run.opened = engine->now;
    return engine_put_run(engine, &run);
}

/* Waits for the time of a step, or for a while when it is long. */
static int pass_time(struct engine *engine, size_t step)
{
    char left[DURATION_TEXT_MAX];
    progress_begin("waits", 0);
    while (engine->records[step].due > engine->now) {
        int code = engine_lease(engine);
        if (code == EXIT_DONE && !command_sleep(1000))
            code = EXIT_AGAIN;
        if (code != EXIT_DONE) {
            progress_end();
            return code;
        }
        int64_t ms = store_time_ms(engine->context->store);
        if (ms > 0)
            engine->now = ms / 1000;
        progress_set(0, "%s: %s left", engine->playbook->steps[step].id,
                     duration_text(engine->records[step].due - engine->now, left));
    }
    progress_end();
    return EXIT_DONE;
}

static int run_leased(struct engine *engine, bool wait)
{
    char when[TIME_TEXT_MAX];
    for (;;) {
        int code = engine_lease(engine);
        if (code == EXIT_DONE)
            code = engine_read(engine);
        if (code != EXIT_DONE)
            return code;
        struct next next = state_next(engine->playbook, engine->records, engine->now);
        const struct playbook_step *step =
            next.step == SIZE_MAX ? NULL : &engine->playbook->steps[next.step];
        if (next.kind == NEXT_DONE) {
            struct run_record run = engine->run;
            run.state = RUN_FINISHED;
            print("%s: every step of %s is done", engine->domain->name,
                  engine->playbook->name);
            return run.state == engine->run.state ? EXIT_DONE
                                                  : engine_put_run(engine, &run);
        }
        if (next.kind == NEXT_PERSON) {
            print("waits for %s: %s (sluice playbook ack %s %s --by NAME --note TEXT)",
                  step->owner, step->title, engine->domain->name, step->id);
            return EXIT_AGAIN;
        }
        if (next.kind == NEXT_TIME && !wait) {
            print("waits until %s: %s", time_text(engine->records[next.step].due, when),
                  step->title);
            return EXIT_AGAIN;
        }
        if (next.kind == NEXT_TIME)
            code = pass_time(engine, next.step);
        else if ((code = check_window(engine, next.step)) == EXIT_DONE)
            code = do_step(engine, next.step);
        if (code != EXIT_DONE)
            return code;
        if (command_stopped())
            return EXIT_AGAIN;
    }
}

int engine_run(struct engine *engine, bool wait)
{
    int code = engine_lease(engine);
    if (code == EXIT_DONE && engine->run.state != RUN_GOING) {
        struct run_record run = engine->run;
        run.state = RUN_GOING;
        code = engine->run.state == RUN_BACK ? engine_put_run(engine, &run) : EXIT_DONE;
    }
    if (code == EXIT_DONE)
        code = run_leased(engine, wait);
    engine_release(engine);
    return code;
}

static int dry_call(struct engine *engine, const struct playbook_step *step,
                    const char *what, const struct playbook_call *call)
{
    char note[STATE_NOTE_MAX + 1];
    int code = engine_call(engine, step, call, note);
    print("%s: %s %s: %s%s%s", step->id, what, call->argv[0],
          code == EXIT_DONE ? "good" : "FAILED", note[0] ? ": " : "", note);
    return code == EXIT_DONE ? EXIT_DONE : EXIT_CHECK;
}

int engine_dry_run(struct engine *engine)
{
    int worst = EXIT_DONE;
    for (size_t i = 0; i < engine->playbook->step_count && !command_stopped(); i++) {
        const struct playbook_step *step = &engine->playbook->steps[i];
        if (engine->records[i].state == STATE_DONE)
            continue;
        const struct playbook_call *calls[] = { &step->pre, &step->action, &step->post };
        static const char *const names[] = { "before", "check", "after" };
        for (size_t c = 0; c < 3; c++)
            if (calls[c]->argv && action_find(calls[c]->argv[0])->kind == ACTION_CHECK &&
                dry_call(engine, step, names[c], calls[c]) != EXIT_DONE)
                worst = EXIT_CHECK;
    }
    return command_stopped() ? EXIT_AGAIN : worst;
}

/* ---- back
 * --------------------------------------------------------------------------------------
 */

static int undo_step(struct engine *engine, size_t step)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    char note[STATE_NOTE_MAX + 1] = "";
    enum step_state was = engine->records[step].state;
    bool left =
        was == STATE_DONE && left_out(engine, it, action_find(it->action.argv[0])->kind);
    const struct action *undo =
        it->undo.argv && !left ? action_of(action_find(it->undo.argv[0])) : NULL;
    int code = engine_put(engine, step, STATE_UNDOING, 0, engine->by, "");
    if (code != EXIT_DONE)
        return code;
    if (undo && undo->info.kind == ACTION_PERSON) {
        print("waits for %s: undo \"%s\" (sluice playbook ack %s %s --by NAME --note "
              "TEXT, then rollback again)",
              it->owner, it->title, engine->domain->name, it->id);
        return EXIT_AGAIN;
    }
    if (undo && undo->run) {
        code = engine_call(engine, it, &it->undo, note);
        if (engine->lost || command_stopped())
            return EXIT_AGAIN;
        if (code != EXIT_DONE)
            return fail_step(engine, step, "undo: ", note);
    }
    print("%s: undone", it->id);
    return engine_put(engine, step, STATE_UNDONE, 0, engine->by, note);
}

static int back_leased(struct engine *engine, size_t first)
{
    for (;;) {
        int code = engine_lease(engine);
        if (code == EXIT_DONE)
            code = engine_read(engine);
        if (code != EXIT_DONE)
            return code;
        size_t step = state_next_back(engine->playbook, engine->records, first);
        if (step == SIZE_MAX)
            break;
        code = undo_step(engine, step);
        if (code != EXIT_DONE)
            return code;
    }
    struct run_record run = engine->run;
    run.state = first == 0 ? RUN_BACK : RUN_GOING;
    if (first == 0)
        run.opened = 0;
    print("%s: rolled back to before step %s", engine->domain->name,
          engine->playbook->steps[first].id);
    return engine_put_run(engine, &run);
}

int engine_rollback(struct engine *engine, size_t first)
{
    size_t wall = state_no_return(engine->playbook, engine->records, first);
    if (wall != SIZE_MAX) {
        message("step %s (%s) was a point of no return: rollback --to a later step",
                engine->playbook->steps[wall].id, engine->playbook->steps[wall].title);
        return EXIT_CHECK;
    }
    int code = engine_lease(engine);
    if (code == EXIT_DONE)
        code = back_leased(engine, first);
    engine_release(engine);
    return code;
}
