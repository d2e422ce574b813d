/*
 * playbook_back: undoes the steps of a run, the last one first.
 *
 * A step whose action was never begun (`acted` in its record: it failed in its
 * pre-check, or was left out of a rehearsal) has nothing to undo.
 */
#include <stdio.h>

#include "output.h"
#include "playbook_engine.h"

static int ask_person(struct engine *engine, size_t step)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    char title[ENGINE_TEXT_MAX];
    print("waits for %s: undo \"%s\" (sluice playbook ack %s %s --by NAME --note TEXT, "
          "then rollback again)",
          it->owner, engine_text(engine, step, it->title, title), engine->domain->name,
          it->id);
    return EXIT_AGAIN;
}

static int undo_step(struct engine *engine, size_t step)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    const struct step_record *record = &engine->records[step];
    char note[STATE_NOTE_MAX + 1] = "";
    const struct action *undo =
        it->undo.argv && record->acted ? action_of(action_find(it->undo.argv[0])) : NULL;
    int code = engine_put(engine, step, STATE_UNDOING, 0, record->acted, engine->by, "");
    if (code != EXIT_DONE)
        return code;
    if (undo && undo->info.kind == ACTION_PERSON)
        return ask_person(engine, step);
    if (undo && undo->run) {
        code = engine_call(engine, it, &it->undo, note);
        if (engine->lease.lost || command_stopped())
            return EXIT_AGAIN;
        if (code != EXIT_DONE)
            return engine_fail(engine, step, "undo: ", note);
    } else if (it->undo.argv && !record->acted) {
        (void)snprintf(note, sizeof(note), "its action was never begun");
    }
    code = engine_put(engine, step, STATE_UNDONE, 0, false, engine->by, note);
    if (code == EXIT_DONE)
        print("%s: undone%s%s", it->id, note[0] ? ": " : "", note);
    return code;
}

static int go_back(struct engine *engine, size_t first)
{
    size_t wall = state_no_return(engine->playbook, engine->records, first);
    if (wall != SIZE_MAX) {
        message("step %s (%s) was a point of no return: rollback --to a later step",
                engine->playbook->steps[wall].id, engine->playbook->steps[wall].title);
        return EXIT_CHECK;
    }
    for (;;) {
        size_t step = state_next_back(engine->playbook, engine->records, first);
        if (step == SIZE_MAX)
            return EXIT_DONE;
        int code = undo_step(engine, step);
        if (code == EXIT_DONE && command_stopped())
            code = EXIT_AGAIN;
        if (code == EXIT_DONE)
            code = engine_lease(engine);
        if (code == EXIT_DONE)
            code = engine_read(engine);
        if (code != EXIT_DONE)
            return code;
    }
}

/* Whether the window opens again when the steps from `first` on are done again. */
static bool is_before_window(const struct engine *engine, size_t first)
{
    for (size_t i = first; i < engine->playbook->step_count; i++)
        if (engine->playbook->steps[i].opens)
            return true;
    return false;
}

static int back_leased(struct engine *engine, size_t first)
{
    int code = engine_read(engine);
    if (code == EXIT_DONE)
        code = go_back(engine, first);
    if (code != EXIT_DONE)
        return code;
    struct run_record run = engine->run;
    run.state = first == 0 ? RUN_BACK : RUN_GOING;
    if (is_before_window(engine, first))
        run.opened = 0;
    code = engine_put_run(engine, &run);
    if (code == EXIT_DONE)
        print("%s: rolled back to before step %s", engine->domain->name,
              engine->playbook->steps[first].id);
    return code;
}

int engine_rollback(struct engine *engine, size_t first)
{
    int code = engine_lease(engine);
    if (code == EXIT_DONE)
        code = back_leased(engine, first);
    engine_release(engine);
    return code;
}
