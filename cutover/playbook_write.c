/*
 * playbook_write: the records of a run into the store.
 *
 * A write whose outcome is not known (an outage in the middle of it) is looked for
 * and repeated for SETTLE_S, so that a step that took four hours is not done again
 * because Redis was restarted while it ended. Beyond that the run stops; the same
 * command does the step again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "output.h"
#include "playbook_engine.h"

#define SETTLE_S 60
#define LOOK_MS  500

struct look {
    const struct playbook_field *field;
    uint64_t epoch; /* that it has now */
    bool is_ours;
};

static bool look_for(void *context, const char *name, const char *value)
{
    struct look *look = context;
    if (strcmp(name, look->field->name) != 0)
        return true;
    const char *tab = strchr(value, '\t');
    look->epoch = strtoull(value, NULL, 10);
    look->is_ours = tab && strcmp(tab + 1, look->field->value) == 0;
    return false;
}

/* After an uncertain write: the first field tells whether it was done. */
static enum commit settle(struct engine *engine, const struct playbook_put *what,
                          uint64_t *epoch)
{
    struct store *store = engine->context->store;
    int64_t until = clock_ms() + SETTLE_S * 1000;
    notice("outcome unknown (%s): looks again for %d s", store_error(store), SETTLE_S);
    while (clock_ms() < until && command_sleep(LOOK_MS)) {
        struct look look = { .field = &what->fields[0] };
        if (engine->lease.held && engine_lease(engine) != EXIT_DONE)
            return COMMIT_REFUSED;
        if (!store_each_playbook(store, what->domain, look_for, &look))
            continue;
        if (look.is_ours && look.epoch > what->expect_epoch) {
            *epoch = look.epoch;
            return COMMIT_DONE;
        }
        enum commit commit = store_playbook_put(store, what, epoch);
        if (commit != COMMIT_UNCERTAIN)
            return commit;
    }
    return COMMIT_UNCERTAIN;
}

int engine_put_fields(struct engine *engine, const struct playbook_put *what,
                      uint64_t *epoch)
{
    enum commit commit = store_playbook_put(engine->context->store, what, epoch);
    if (commit == COMMIT_UNCERTAIN)
        commit = settle(engine, what, epoch);
    if (commit == COMMIT_DONE)
        return EXIT_DONE;
    if (commit == COMMIT_UNCERTAIN)
        message("outcome unknown (%s): run the same command again",
                store_error(engine->context->store));
    else if (!engine->lease.lost)
        message("%s", store_error(engine->context->store));
    return EXIT_AGAIN;
}

int engine_put(struct engine *engine, size_t step, enum step_state state, int64_t due,
               bool acted, const char *by, const char *note)
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
    bool begins = state == STATE_RUNNING && record->state != STATE_TIME &&
                  record->state != STATE_RUNNING;
    next.state = state;
    next.due = due;
    next.acted = acted;
    if (begins)
        next.began = engine->now;
    next.ended = state == STATE_RUNNING ? 0 : engine->now;
    state_text(by, next.by, sizeof(next.by));
    state_text(note, next.note, sizeof(next.note));
    step_record_encode(&next, text);
    const struct playbook_field field = { engine->playbook->steps[step].id, text };
    const struct playbook_put what = {
        .domain = engine->domain->name,
        .expect_epoch = record->epoch,
        .run_epoch = engine->run.epoch,
        .fields = &field,
        .count = 1,
    };
    int code = engine_put_fields(engine, &what, &next.epoch);
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
    const struct playbook_put what = {
        .domain = engine->domain->name,
        .expect_epoch = engine->run.epoch,
        .fields = &field,
        .count = 1,
    };
    int code = engine_put_fields(engine, &what, &next.epoch);
    if (code == EXIT_DONE)
        engine->run = next;
    return code;
}

int engine_fail(struct engine *engine, size_t step, const char *when, const char *reason)
{
    const struct step_record *record = &engine->records[step];
    char note[STATE_NOTE_MAX + 1], text[STATE_NOTE_MAX + 64];
    (void)snprintf(text, sizeof(text), "%s%s", when, reason); /* when is short */
    state_text(text, note, sizeof(note));
    int code = engine_put(engine, step, STATE_FAILED, record->due, record->acted,
                          engine->by, note);
    message("step %s: %s", engine->playbook->steps[step].id, note);
    return code == EXIT_DONE ? EXIT_CHECK : code;
}
