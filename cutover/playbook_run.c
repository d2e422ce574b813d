/*
 * playbook_run: does the steps of a run, one after the other.
 *
 * A step: record "running" -> pre-check -> record "running, acted" -> action ->
 * post-check -> "done"; each record goes out before the thing that it announces is
 * done. The pre-check belongs to the beginning: an action that was begun, and was
 * interrupted or failed, goes on without it. In a rehearsal, what changes more than the
 * pilot group is left out, with what looks for such a change (in-rehearsal = false) and
 * what nothing can undo; no time is waited for.
 *
 * Limits: AGAIN_S between two looks at something that takes time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "output.h"
#include "playbook_engine.h"

#define AGAIN_S 15

/* ---- one step ------------------------------------------------------------------ */

/* "timer 48h" or "timer 48h STEP": from that step's end on. */
static int wait_timer(struct engine *engine, size_t step)
{
    struct engine_names names = { engine, engine->playbook->steps[step].id };
    const struct playbook_call *call = &engine->playbook->steps[step].action;
    char text[64], length[DURATION_TEXT_MAX], note[STATE_NOTE_MAX + 1];
    int seconds;
    if (!playbook_expand(call->argv[1], engine_value, &names, text, sizeof(text)) ||
        !duration_parse(text, &seconds))
        return engine_fail(engine, step, "",
                           "timer: not a duration: write it as 10m or 48h");
    int64_t from = engine->now;
    size_t since = call->argc > 2 ? playbook_find(engine->playbook, call->argv[2]) : step;
    if (call->argc > 2 && since != SIZE_MAX && engine->records[since].ended > 0)
        from = engine->records[since].ended;
    (void)snprintf(note, sizeof(note), "waits for %s", duration_text(seconds, length));
    return engine_put(engine, step, STATE_TIME, from + seconds, true, engine->by, note);
}

/* EXIT_AGAIN without a message: the run is to end here. */
static int stop_here(struct engine *engine, const struct playbook_step *step)
{
    if (!engine->lease.lost)
        message("stopped in step %s: the same command goes on with it", step->id);
    return EXIT_AGAIN;
}

static int check(struct engine *engine, size_t step, const struct playbook_call *call,
                 const char *when)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    char reason[STATE_NOTE_MAX + 1];
    if (!call->argv)
        return EXIT_DONE;
    int code = engine_call(engine, it, call, reason);
    if (engine->lease.lost || command_stopped())
        return stop_here(engine, it);
    return code == EXIT_DONE ? EXIT_DONE : engine_fail(engine, step, when, reason);
}

static int finish_step(struct engine *engine, size_t step, const char *note)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    int code = check(engine, step, &it->post, "check after it: ");
    if (code == EXIT_DONE)
        code = engine_put(engine, step, STATE_DONE, engine->records[step].due,
                          engine->records[step].acted, engine->by, note);
    if (code == EXIT_DONE)
        print("%s: done%s%s", it->id, note[0] ? ": " : "", note);
    return code;
}

static int act(struct engine *engine, size_t step, const struct action *action)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    char note[STATE_NOTE_MAX + 1];
    int code = engine_call(engine, it, &it->action, note);
    if (engine->lease.lost || command_stopped())
        return stop_here(engine, it);
    if (code == EXIT_AGAIN && action->info.kind == ACTION_TIME)
        return engine_put(engine, step, STATE_TIME, engine->now + AGAIN_S, true,
                          engine->by, note);
    if (code != EXIT_DONE)
        return engine_fail(engine, step, "", note);
    return finish_step(engine, step, note);
}

static int ask_person(struct engine *engine, size_t step)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    char text[ENGINE_TEXT_MAX];
    if (it->text[0])
        notice("%s: %s", it->id, engine_text(engine, step, it->text, text));
    return engine_put(engine, step, STATE_PERSON, 0, true, engine->by, "");
}

static bool is_left_out(const struct engine *engine, const struct playbook_step *step,
                        enum action_kind kind)
{
    return engine->run.rehearsal &&
           (step->whole || step->no_return || kind == ACTION_TIME ||
            (kind == ACTION_CHANGE && !playbook_call_uses(&step->action, "who")));
}

static int do_step(struct engine *engine, size_t step)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    const struct action *action = action_of(action_find(it->action.argv[0]));
    const struct step_record *record = &engine->records[step];
    /* A time was noted: by a timer, or by a look that is repeated until it is good. */
    int64_t due = record->due;
    bool goes_on = due > 0 && record->state != STATE_FAILED;
    /* What was to hold before the action need not hold in the middle of it. */
    goes_on = goes_on || (record->acted && action->info.kind == ACTION_CHANGE);
    int code =
        engine_put(engine, step, STATE_RUNNING, due,
                   record->acted || (!it->pre.argv && action->info.kind == ACTION_CHANGE),
                   engine->by, "");
    if (code != EXIT_DONE)
        return code;
    if (is_left_out(engine, it, action->info.kind))
        return engine_put(engine, step, STATE_DONE, 0, false, engine->by,
                          "rehearsal: left out, it concerns more than the pilot group");
    if (!goes_on)
        code = check(engine, step, &it->pre, "check before it: ");
    if (code == EXIT_DONE && !record->acted && action->info.kind == ACTION_CHANGE)
        code = engine_put(engine, step, STATE_RUNNING, due, true, engine->by, "");
    if (code != EXIT_DONE)
        return code;
    if (action->info.kind == ACTION_PERSON)
        return ask_person(engine, step);
    if (action->run)
        return act(engine, step, action);
    if (action->info.kind != ACTION_TIME)
        return finish_step(engine, step, "");
    return due > 0 && due <= engine->now ? finish_step(engine, step, "time has passed")
           : due > 0 ? engine_put(engine, step, STATE_TIME, due, true, engine->by, "")
                     : wait_timer(engine, step);
}

/* ---- what stands before a step ----------------------------------------------------- */

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
    bool is_past = forecast.left_s < 0;
    duration_text(forecast.need_s, need);
    duration_text(is_past ? -forecast.left_s : forecast.left_s, left);
    if (is_past || (opening && forecast.over)) {
        message("step %s is not begun: the change window %s%s, and %s are usually still "
                "needed; sluice playbook run %s --window DURATION goes on, sluice "
                "playbook rollback %s goes back",
                it->id, is_past ? "is over since " : "is ", left, need,
                engine->domain->name, engine->domain->name);
        return EXIT_CHECK;
    }
    if (!opening) {
        if (forecast.over)
            notice("the change window ends in %s, %s are usually still needed", left,
                   need);
        return EXIT_DONE;
    }
    struct run_record run = engine->run;
    run.opened = engine->now;
    return engine_put_run(engine, &run);
}

static int check_clock(const struct engine *engine)
{
    char now[TIME_TEXT_MAX], other[TIME_TEXT_MAX];
    int64_t local = (int64_t)time(NULL), since;
    switch (state_clock(engine->playbook, &engine->run, engine->records, engine->now,
                        local, &since)) {
    case CLOCK_GOOD:
        return EXIT_DONE;
    case CLOCK_BACK:
        message("the clock of Redis' host stands at %s, before the last step of this run "
                "(%s): set it right (NTP), then run the same command again",
                time_text(engine->now, now), time_text(since, other));
        return EXIT_AGAIN;
    case CLOCK_APART:
        break;
    }
    message("the clock of Redis' host stands at %s, that of this host at %s: set them "
            "right (NTP), then run the same command again; no timer passes before",
            time_text(engine->now, now), time_text(local, other));
    return EXIT_AGAIN;
}

/* Waits for the time of a step, or for a while: others may have changed things. */
static int pass_time(struct engine *engine, size_t step)
{
    char left[DURATION_TEXT_MAX];
    const struct playbook_step *it = &engine->playbook->steps[step];
    int code = EXIT_DONE;
    progress_begin("waits", 0);
    for (int i = 0; i < AGAIN_S && engine->records[step].due > engine->now; i++) {
        code = engine_lease(engine);
        if (code == EXIT_DONE && !command_sleep(1000))
            code = EXIT_AGAIN;
        if (code != EXIT_DONE)
            break;
        int64_t ms = store_time_ms(engine->context->store);
        if (ms > 0)
            engine->now = ms / 1000;
        progress_set(0, "%s: %s left", it->id,
                     duration_text(engine->records[step].due - engine->now, left));
    }
    progress_end();
    return code;
}

/* ---- the run ------------------------------------------------------------------------
 */

static int finish_run(struct engine *engine, size_t until)
{
    struct run_record run = engine->run;
    if (until < engine->playbook->step_count) {
        print("%s: all before step %s is done", engine->domain->name,
              engine->playbook->steps[until].id);
        return EXIT_DONE;
    }
    run.state = RUN_FINISHED;
    int code = engine->run.state == RUN_FINISHED ? EXIT_DONE
               : run.rehearsal                   ? engine_finish_rehearsal(engine)
                                                 : engine_put_run(engine, &run);
    if (code == EXIT_DONE)
        print("%s: every step of %s is done", engine->domain->name,
              engine->playbook->name);
    return code;
}

/* One thing. *over: there is nothing more to be done now. */
static int run_once(struct engine *engine, bool wait, size_t until, bool *over)
{
    char when[TIME_TEXT_MAX], title[ENGINE_TEXT_MAX] = "";
    struct playbook part = *engine->playbook; /* its steps before `until` */
    if (until < part.step_count)
        part.step_count = until;
    struct next next = state_next(&part, engine->records, engine->now);
    const struct playbook_step *step =
        next.step == SIZE_MAX ? NULL : &engine->playbook->steps[next.step];
    int code;
    *over = true;
    if (!step)
        return finish_run(engine, until);
    engine_text(engine, next.step, step->title, title);
    switch (next.kind) {
    case NEXT_PERSON:
        if (engine->records[next.step].state == STATE_UNDOING)
            print("step %s is being undone: sluice playbook rollback %s goes on with it",
                  step->id, engine->domain->name);
        else
            print("waits for %s: %s (sluice playbook ack %s %s --by NAME --note TEXT)",
                  step->owner, title, engine->domain->name, step->id);
        return EXIT_AGAIN;
    case NEXT_TIME:
        *over = !wait;
        if (wait)
            return pass_time(engine, next.step);
        print("waits until %s: %s", time_text(engine->records[next.step].due, when),
              title);
        return EXIT_AGAIN;
    default:
        *over = false;
        code = check_window(engine, next.step);
        return code == EXIT_DONE ? do_step(engine, next.step) : code;
    }
}

static int run_leased(struct engine *engine, bool wait, int window_s, size_t until)
{
    int code = engine_read(engine);
    struct run_record run = engine->run;
    if (run.state == RUN_BACK)
        run.state = RUN_GOING;
    if (window_s > 0)
        run.window_s = window_s;
    if (code == EXIT_DONE)
        code = engine_take_file(engine);
    if (code == EXIT_DONE &&
        (run.state != engine->run.state || run.window_s != engine->run.window_s)) {
        run.epoch = engine->run.epoch;
        run.digest = engine->run.digest;
        code = engine_put_run(engine, &run);
    }
    for (bool over = false; code == EXIT_DONE && !over;) {
        if ((code = engine_lease(engine)) == EXIT_DONE &&
            (code = engine_read(engine)) == EXIT_DONE &&
            (code = check_clock(engine)) == EXIT_DONE)
            code = run_once(engine, wait, until, &over);
        if (code == EXIT_DONE && command_stopped())
            return EXIT_AGAIN;
    }
    return code;
}

int engine_run(struct engine *engine, bool wait, int window_s, size_t until)
{
    int code = engine_lease(engine);
    if (code == EXIT_DONE)
        code = run_leased(engine, wait, window_s, until);
    engine_release(engine);
    return code;
}

/* ---- only looking -------------------------------------------------------------------
 */

enum look { LOOK_GOOD, LOOK_FAILED, LOOK_NOT_YET };

/* first: the change just before it that has not been made; NULL: none. What is not good
 * then may be so because of that. */
static enum look dry_call(struct engine *engine, const struct playbook_step *step,
                          const char *what, const struct playbook_call *call,
                          const char *first)
{
    char note[STATE_NOTE_MAX + 1];
    if (first && action_sends(action_of(action_find(call->argv[0])))) {
        print("%s: %s %s: not tried: it sends a message, and step %s comes first",
              step->id, what, call->argv[0], first);
        return LOOK_NOT_YET;
    }
    int code = engine_call(engine, step, call, note);
    enum look look = code == EXIT_DONE ? LOOK_GOOD : first ? LOOK_NOT_YET : LOOK_FAILED;
    const char *const names[] = { "good", "FAILED", "not yet" };
    print("%s: %s %s: %s%s%s%s%s%s", step->id, what, call->argv[0], names[look],
          note[0] ? ": " : "", note, look == LOOK_NOT_YET ? " (step " : "",
          look == LOOK_NOT_YET ? first : "", look == LOOK_NOT_YET ? " comes first)" : "");
    return look;
}

/* *first: see dry_call(); is set when this step is such a change. */
static void dry_step(struct engine *engine, size_t i, const char **first,
                     size_t counts[3])
{
    const struct playbook_step *step = &engine->playbook->steps[i];
    enum action_kind kind = action_find(step->action.argv[0])->kind;
    const struct {
        const char *name;
        const struct playbook_call *call;
    } calls[] = { { "before", &step->pre },
                  { "check", &step->action },
                  { "after", &step->post } };
    if (engine->records[i].state == STATE_DONE || is_left_out(engine, step, kind))
        return;
    for (size_t c = 0; c < 3 && !command_stopped(); c++) {
        bool own = c == 2 && (kind == ACTION_CHANGE || kind == ACTION_PERSON);
        /* What is asked before a step is asked of the present. */
        const char *missing = own ? step->id : c == 0 ? NULL : *first;
        if (calls[c].call->argv &&
            action_find(calls[c].call->argv[0])->kind == ACTION_CHECK)
            counts[dry_call(engine, step, calls[c].name, calls[c].call, missing)]++;
    }
    if (kind == ACTION_CHANGE)
        *first = step->id;
}

int engine_dry_run(struct engine *engine, size_t until)
{
    size_t counts[3] = { 0 };
    const char *first = NULL;
    size_t count = engine->playbook->step_count;
    for (size_t i = 0; i < count && i < until && !command_stopped(); i++)
        dry_step(engine, i, &first, counts);
    if (command_stopped())
        return EXIT_AGAIN;
    print("%zu checks are good, %zu failed, %zu can only be so later", counts[LOOK_GOOD],
          counts[LOOK_FAILED], counts[LOOK_NOT_YET]);
    return counts[LOOK_FAILED] > 0 ? EXIT_CHECK : EXIT_DONE;
}
