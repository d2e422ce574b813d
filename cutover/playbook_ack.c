/*
 * sluice playbook ack: somebody has done a step of a person, or its undo.
 *
 * What a machine can check is not left to the person's word: the step's post-check runs
 * first. The record has who says so, and whose login said it where that is another:
 * neither can be made to look like the other. Needs no lease: of two acknowledgements the
 * epoch lets one pass.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "output.h"
#include "playbook_cmd.h"
#include "playbook_report.h"

/* Who says so, and whose login said it where that is another: "Ann (root@mx1)". The last
 * bracket is always ours. */
static bool name_both(const struct engine *engine, const char *by,
                      char out[STATE_BY_MAX + 1])
{
    char name[STATE_BY_MAX + 1];
    size_t login = strcspn(engine->by, "@");
    char *shown = paper_escape(PAPER_TEXT, by);
    if (!shown) {
        message("out of memory");
        return false;
    }
    state_text(shown, name, sizeof(name));
    free(shown);
    for (char *c = name; *c; c++)
        *c = *c == '(' ? '[' : *c == ')' ? ']' : *c;
    bool same = strcmp(name, engine->by) == 0 ||
                (strlen(name) == login && strncmp(name, engine->by, login) == 0);
    int n = same ? snprintf(out, STATE_BY_MAX + 1, "%s", engine->by)
                 : snprintf(out, STATE_BY_MAX + 1, "%s (%s)", name, engine->by);
    if (n >= 0 && n <= STATE_BY_MAX)
        return true;
    message("--by %s: too long beside %s, whose login this is: write it shorter", by,
            engine->by);
    return false;
}

/* The step that waits for a person; NULL: none does. */
static const char *waiting_step(const struct engine *engine)
{
    for (size_t i = 0; i < engine->playbook->step_count; i++)
        if (engine->records[i].state == STATE_PERSON)
            return engine->playbook->steps[i].id;
    return NULL;
}

static int acknowledge(struct engine *engine, size_t step, const char *by,
                       const char *note)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    const struct step_record *record = &engine->records[step];
    char reason[STATE_NOTE_MAX + 1];
    bool undoing = record->state == STATE_UNDOING && it->undo.argv &&
                   action_find(it->undo.argv[0])->kind == ACTION_PERSON;
    if (record->state != STATE_PERSON && !undoing) {
        const char *other = waiting_step(engine);
        message("step %s is %s: there is nothing to acknowledge%s%s", it->id,
                step_state_name(record->state), other ? "; what waits is " : "",
                other ? other : "");
        return EXIT_CHECK;
    }
    /* What a machine can check is not left to the person's word. */
    if (!undoing && it->post.argv) {
        int code = engine_directory(engine);
        if (code != EXIT_DONE)
            return code;
        if (engine_call(engine, it, &it->post, reason) != EXIT_DONE) {
            message("step %s is not done yet: %s", it->id, reason);
            return EXIT_CHECK;
        }
    }
    char who[STATE_BY_MAX + 1];
    if (!name_both(engine, by, who))
        return EXIT_DATA;
    /* The runner may open the window meanwhile: the step's own epoch is enough. */
    engine->run.epoch = 0;
    char *shown = paper_escape(PAPER_TEXT, note);
    int code = engine_put(engine, step, undoing ? STATE_UNDONE : STATE_DONE, 0, !undoing,
                          who, shown ? shown : "");
    free(shown);
    if (code == EXIT_DONE)
        print("%s: %s, says %s", it->id, undoing ? "undone" : "done", who);
    return code;
}

int playbook_ack(struct command_context *context, int argc, char **argv)
{
    const char *by = NULL, *note = "";
    struct engine engine;
    const struct option_spec specs[] = { { "by", OPTION_TEXT, &by },
                                         { "note", OPTION_TEXT, &note } };
    if (!options_parse(specs, 2, &argc, argv))
        return EXIT_USE;
    if (argc != 3 || !by || !by[0]) {
        message("write: sluice playbook ack DOMAIN STEP --by NAME [--note TEXT]");
        return EXIT_USE;
    }
    if (strlen(by) > STATE_BY_MAX || strlen(note) > STATE_NOTE_MAX) {
        message("--by has %d bytes at most, --note %d: keep a longer text elsewhere and "
                "say where",
                STATE_BY_MAX, STATE_NOTE_MAX);
        return EXIT_DATA;
    }
    int code = playbook_open_run(context, argv[1], false, &engine);
    if (code != EXIT_DONE)
        return code;
    size_t step = playbook_step_named(&engine, argv[2]);
    if (step == SIZE_MAX)
        code = EXIT_USE;
    else if (context->dry_run)
        print("%s would be acknowledged by %s", argv[2], by);
    else
        code = acknowledge(&engine, step, by, note);
    engine_close(&engine);
    return code;
}
