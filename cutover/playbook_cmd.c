/*
 * sluice playbook: the whole migration, step by step.
 *
 * list, show, start, run, ack, status, rollback, report, actions; each is one
 * function below. What a run is, is in playbook_engine.h; the documents are in
 * playbook_report.c.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "options.h"
#include "output.h"
#include "playbook_engine.h"
#include "playbook_report.h"
#include "targets.h"

#define DEFAULT_WATCH 5
#define SUFFIX        ".conf"

/* ---- list --------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in the directory; *count of them, each to be freed. */
static char **playbook_names(const struct conf *conf, size_t *count)
{
    char **names = NULL;
    DIR *directory = opendir(conf->playbooks);
    *count = 0;
    if (!directory) {
        message("%s: %s (playbooks in sluice.conf)", conf->playbooks, strerror(errno));
        return NULL;
    }
    for (struct dirent *entry; *count < 1000 && (entry = readdir(directory));) {
        size_t len = strlen(entry->d_name), tail = strlen(SUFFIX);
        if (len <= tail || entry->d_name[0] == '.' ||
            strcmp(entry->d_name + len - tail, SUFFIX) != 0)
            continue;
        char **more = reallocarray(names, *count + 1, sizeof(*names));
        if (!more)
            break;
        names = more;
        names[*count] = strndup(entry->d_name, len - tail);
        if (names[*count])
            (*count)++;
    }
    closedir(directory);
    if (*count > 1)
        qsort(names, *count, sizeof(*names), by_name);
    return names;
}

static int list_one(const struct conf *conf, const char *name, struct sheet *sheet,
                    doc *list)
{
    char path[ENGINE_PATH_MAX], error[PLAYBOOK_ERROR_MAX], steps[24];
    doc *object = doc_add(list, doc_object());
    struct playbook *playbook =
        engine_path(conf, name, path)
            ? playbook_load(path, action_find, error, sizeof(error))
            : NULL;
    doc_text(object, "name", name);
    doc_text(object, "error", playbook ? NULL : error);
    if (!playbook) {
        message("%s", error);
        return EXIT_CONFIGURATION;
    }
    (void)snprintf(steps, sizeof(steps), "%zu", playbook->step_count);
    const char *cells[] = { name, steps, playbook->title };
    sheet_row(sheet, cells);
    doc_text(object, "title", playbook->title);
    doc_number(object, "steps", (int64_t)playbook->step_count);
    playbook_free(playbook);
    return EXIT_DONE;
}

static int command_list(struct command_context *context, int argc, char **argv)
{
    static const char *const headers[] = { "playbook", ">steps", "title" };
    size_t count;
    int worst = EXIT_DONE;
    (void)argv;
    if (argc > 1) {
        message("list takes no argument");
        return EXIT_USE;
    }
    char **names = playbook_names(context->conf, &count);
    struct sheet *sheet = sheet_new(headers, 3);
    doc *document = doc_object(), *list = doc_put(document, "playbooks", doc_array());
    for (size_t i = 0; i < count; i++) {
        int code = list_one(context->conf, names[i], sheet, list);
        worst = code != EXIT_DONE ? code : worst;
        free(names[i]);
    }
    free(names);
    sheet_print(sheet);
    doc_print(document);
    return names || count > 0 ? worst : EXIT_CONFIGURATION;
}

static int command_actions(void)
{
    static const char *const headers[] = { "action", "kind", "arguments", "does" };
    struct sheet *sheet = sheet_new(headers, 4);
    doc *document = doc_object(), *list = doc_put(document, "actions", doc_array());
    for (size_t i = 0; action_at(i); i++) {
        const struct action *action = action_at(i);
        const char *cells[] = { action->info.name, action_kind_name(action->info.kind),
                                action->info.usage, action->summary };
        sheet_row(sheet, cells);
        doc_add_text(list, action->info.name);
    }
    sheet_print(sheet);
    doc_print(document);
    return EXIT_DONE;
}

/* ---- documents ------------------------------------------------------------------- */

static bool take_format(const char *text, enum paper *out)
{
    static const char *const names[] = { "text", "markdown", "html" };
    for (size_t i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum paper)i;
            return true;
        }
    message("--format: \"%s\" is not text, markdown or html", text);
    return false;
}

static int command_show(struct command_context *context, int argc, char **argv)
{
    const char *format = "text";
    char path[ENGINE_PATH_MAX], error[PLAYBOOK_ERROR_MAX];
    enum paper paper;
    const struct option_spec specs[] = { { "format", OPTION_TEXT, &format } };
    if (!options_parse(specs, 1, &argc, argv))
        return EXIT_USE;
    if (argc != 2 || !take_format(format, &paper)) {
        message("write: sluice playbook show NAME [--format markdown|html]");
        return EXIT_USE;
    }
    if (!engine_path(context->conf, argv[1], path)) {
        message("%s: too long a name", argv[1]);
        return EXIT_DATA;
    }
    struct playbook *playbook = playbook_load(path, action_find, error, sizeof(error));
    if (!playbook) {
        message("%s", error);
        return EXIT_CONFIGURATION;
    }
    if (context->json)
        paper_document(playbook);
    else
        paper_plan(playbook, paper);
    playbook_free(playbook);
    return EXIT_DONE;
}

/* The domain's run, which must be there. */
static int open_run(struct command_context *context, const char *domain,
                    struct engine *engine)
{
    int code = engine_open(context, domain, engine);
    if (code == EXIT_DONE && engine->run.state == RUN_NONE) {
        message("no playbook was started for %s: sluice playbook start NAME %s",
                engine->domain->name, engine->domain->name);
        code = EXIT_CHECK;
    }
    if (code != EXIT_DONE)
        engine_close(engine);
    return code;
}

static int command_report(struct command_context *context, int argc, char **argv)
{
    const char *format = "markdown";
    struct engine engine;
    enum paper paper;
    const struct option_spec specs[] = { { "format", OPTION_TEXT, &format } };
    if (!options_parse(specs, 1, &argc, argv))
        return EXIT_USE;
    if (argc != 2 || !take_format(format, &paper)) {
        message("write: sluice playbook report DOMAIN [--format markdown|html]");
        return EXIT_USE;
    }
    int code = open_run(context, argv[1], &engine);
    if (code != EXIT_DONE)
        return code;
    if (context->json)
        paper_status(&engine);
    else
        paper_report(&engine, paper);
    engine_close(&engine);
    return EXIT_DONE;
}

/* ---- start ---------------------------------------------------------------------------
 */

struct start {
    struct option_list sets;
    const char *rehearse;
    bool replace;
};

/* "name=value" for a setting; NULL after a message. */
static const struct playbook_setting *set_of(const struct playbook *playbook,
                                             const char *text, const char **value)
{
    char name[PLAYBOOK_ID_MAX + 1];
    const char *equals = strchr(text, '=');
    size_t len = equals ? (size_t)(equals - text) : 0;
    if (!equals || len == 0 || len > PLAYBOOK_ID_MAX || strchr(equals, '\n')) {
        message("--set \"%s\": write it as NAME=VALUE", text);
        return NULL;
    }
    memcpy(name, text, len);
    name[len] = '\0';
    *value = equals + 1;
    const struct playbook_setting *setting = playbook_setting(playbook, name);
    if (!setting)
        message("--set: playbook %s has no setting \"%s\" (sluice playbook show)",
                playbook->name, name);
    return setting;
}

static int missing_settings(const struct playbook *playbook, const bool *given)
{
    int code = EXIT_DONE;
    for (size_t i = 0; i < playbook->setting_count; i++)
        if (!playbook->settings[i].value && !given[i]) {
            message("--set %s=... is missing: %s", playbook->settings[i].name,
                    playbook->settings[i].about);
            code = EXIT_USE;
        }
    return code;
}

static int write_start(struct command_context *context, struct engine *engine,
                       const struct playbook *playbook, const char *name,
                       const struct start *start)
{
    struct playbook_field fields[PLAYBOOK_FIELDS_MAX];
    char names[PLAYBOOK_SETTINGS_MAX + 1][PLAYBOOK_ID_MAX + 2], text[STATE_RECORD_MAX];
    bool given[PLAYBOOK_SETTINGS_MAX] = { false };
    size_t n = 1;
    struct run_record run = { .state = RUN_GOING,
                              .started = engine->now,
                              .window_s = playbook->window_s,
                              .rehearsal = start->rehearse != NULL };
    for (size_t i = 0; i < start->sets.count; i++) {
        const char *value;
        const struct playbook_setting *it =
            set_of(playbook, start->sets.items[i], &value);
        if (!it)
            return EXIT_USE;
        size_t index = (size_t)(it - playbook->settings);
        if (given[index]) {
            message("--set %s is given twice", it->name);
            return EXIT_USE;
        }
        given[index] = true;
        (void)snprintf(names[n], sizeof(names[n]), "=%s", it->name);
        fields[n] = (struct playbook_field){ names[n], value };
        n++;
    }
    int code = missing_settings(playbook, given);
    if (code != EXIT_DONE)
        return code;
    (void)snprintf(run.playbook, sizeof(run.playbook), "%s", name); /* engine_path() */
    memcpy(run.by, engine->by, sizeof(run.by));
    if (run_record_encode(&run, text) == 0) {
        message("%s: too long a name", name);
        return EXIT_DATA;
    }
    fields[0] = (struct playbook_field){ "", text };
    if (start->rehearse)
        fields[n++] = (struct playbook_field){ "=who", start->rehearse };
    const struct playbook_put what = { engine->domain->name, engine->run.epoch, true,
                                       fields, n };
    uint64_t epoch;
    if (context->dry_run) {
        print("%s: playbook %s would be started", engine->domain->name, playbook->name);
        return EXIT_DONE;
    }
    if (store_playbook_put(context->store, &what, &epoch) != COMMIT_DONE) {
        message("%s", store_error(context->store));
        return EXIT_AGAIN;
    }
    print("%s: playbook %s is started%s; next: sluice playbook run %s",
          engine->domain->name, playbook->name, start->rehearse ? " as a rehearsal" : "",
          engine->domain->name);
    return EXIT_DONE;
}

/* A rehearsal moves mailboxes of the domain, and not all of it. */
static int check_pilot(const struct command_context *context, struct engine *engine,
                       const char *who)
{
    struct targets targets;
    char *argv[] = { (char *)(uintptr_t)who, NULL };
    int code = targets_resolve(context->conf, 1, argv, &targets);
    if (code != EXIT_DONE)
        return code;
    if (targets.count != 1 || targets.items[0].whole ||
        targets.items[0].domain != engine->domain) {
        message("--rehearse %s: name single mailboxes of %s", who, engine->domain->name);
        code = EXIT_DATA;
    }
    targets_free(&targets);
    return code;
}

static int command_start(struct command_context *context, int argc, char **argv)
{
    struct start start = { 0 };
    char path[ENGINE_PATH_MAX], error[PLAYBOOK_ERROR_MAX];
    struct engine engine;
    const struct option_spec specs[] = { { "set", OPTION_LIST, &start.sets },
                                         { "rehearse", OPTION_TEXT, &start.rehearse },
                                         { "replace", OPTION_FLAG, &start.replace } };
    if (!options_parse(specs, 3, &argc, argv))
        return EXIT_USE;
    if (argc != 3) {
        message("write: sluice playbook start NAME DOMAIN [--set NAME=VALUE]...");
        return EXIT_USE;
    }
    if (!engine_path(context->conf, argv[1], path)) {
        message("%s: too long a name", argv[1]);
        return EXIT_DATA;
    }
    struct playbook *playbook = playbook_load(path, action_find, error, sizeof(error));
    if (!playbook) {
        message("%s", error);
        return EXIT_CONFIGURATION;
    }
    int code = engine_open(context, argv[2], &engine);
    if (code == EXIT_CONFIGURATION && start.replace)
        code = EXIT_DONE; /* the file of the run to be replaced is gone */
    if (code == EXIT_DONE && engine.run.state == RUN_GOING && !start.replace) {
        message("playbook %s of %s goes on already: sluice playbook status %s, or start "
                "--replace to forget it",
                engine.run.playbook, engine.domain->name, engine.domain->name);
        code = EXIT_CHECK;
    }
    if (code == EXIT_DONE && start.rehearse)
        code = check_pilot(context, &engine, start.rehearse);
    if (code == EXIT_DONE)
        code = write_start(context, &engine, playbook, argv[1], &start);
    engine_close(&engine);
    playbook_free(playbook);
    return code;
}

/* ---- run, ack, rollback --------------------------------------------------------------
 */

static int command_run(struct command_context *context, int argc, char **argv)
{
    bool wait = false;
    int window = 0;
    struct engine engine;
    const struct option_spec specs[] = { { "wait", OPTION_FLAG, &wait },
                                         { "window", OPTION_DURATION, &window } };
    if (!options_parse(specs, 2, &argc, argv))
        return EXIT_USE;
    if (argc != 2) {
        message("write: sluice playbook run DOMAIN [--wait] [--window DURATION]");
        return EXIT_USE;
    }
    int code = open_run(context, argv[1], &engine);
    if (code != EXIT_DONE)
        return code;
    command_catch_signals();
    if (window > 0 && !context->dry_run) {
        struct run_record run = engine.run;
        run.window_s = window;
        code = engine_put_run(&engine, &run);
    }
    if (code == EXIT_DONE)
        code = context->dry_run ? engine_dry_run(&engine) : engine_run(&engine, wait);
    if (code == EXIT_DONE || context->json)
        paper_status(&engine);
    engine_close(&engine);
    return code;
}

static int acknowledge(struct engine *engine, size_t step, const char *by,
                       const char *note)
{
    const struct playbook_step *it = &engine->playbook->steps[step];
    enum step_state state = engine->records[step].state;
    char reason[STATE_NOTE_MAX + 1];
    bool undoing = state == STATE_UNDOING && it->undo.argv &&
                   action_find(it->undo.argv[0])->kind == ACTION_PERSON;
    if (state != STATE_PERSON && !undoing) {
        message("step %s is %s: there is nothing to acknowledge", it->id,
                step_state_name(state));
        return EXIT_CHECK;
    }
    /* What a machine can check is not left to the person's word. */
    if (!undoing && it->post.argv &&
        engine_call(engine, it, &it->post, reason) != EXIT_DONE) {
        message("step %s is not done yet: %s", it->id, reason);
        return EXIT_CHECK;
    }
    int code = engine_put(engine, step, undoing ? STATE_UNDONE : STATE_DONE, 0, by, note);
    if (code == EXIT_DONE)
        print("%s: %s, says %s", it->id, undoing ? "undone" : "done", by);
    return code;
}

static int command_ack(struct command_context *context, int argc, char **argv)
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
    int code = open_run(context, argv[1], &engine);
    if (code != EXIT_DONE)
        return code;
    size_t step = playbook_find(engine.playbook, argv[2]);
    if (step == SIZE_MAX) {
        message("playbook %s has no step \"%s\" (sluice playbook status %s)",
                engine.playbook->name, argv[2], engine.domain->name);
        code = EXIT_USE;
    } else if (context->dry_run) {
        print("%s would be acknowledged by %s", argv[2], by);
    } else {
        code = acknowledge(&engine, step, by, note);
    }
    engine_close(&engine);
    return code;
}

static int command_back(struct command_context *context, int argc, char **argv)
{
    const char *to = NULL;
    struct engine engine;
    const struct option_spec specs[] = { { "to", OPTION_TEXT, &to } };
    if (!options_parse(specs, 1, &argc, argv))
        return EXIT_USE;
    if (argc != 2) {
        message("write: sluice playbook rollback DOMAIN [--to STEP]");
        return EXIT_USE;
    }
    int code = open_run(context, argv[1], &engine);
    if (code != EXIT_DONE)
        return code;
    size_t first = to ? playbook_find(engine.playbook, to) : 0;
    command_catch_signals();
    if (first == SIZE_MAX) {
        message("playbook %s has no step \"%s\"", engine.playbook->name, to);
        code = EXIT_USE;
    } else if (context->dry_run) {
        for (size_t i = engine.playbook->step_count; i > first; i--)
            if (engine.records[i - 1].state != STATE_PENDING &&
                engine.records[i - 1].state != STATE_UNDONE)
                print("%s would be undone%s%s", engine.playbook->steps[i - 1].id,
                      engine.playbook->steps[i - 1].undo.argv ? ": " : "",
                      engine.playbook->steps[i - 1].undo.argv
                          ? engine.playbook->steps[i - 1].undo.argv[0]
                          : "");
    } else {
        code = engine_rollback(&engine, first);
    }
    engine_close(&engine);
    return code;
}

/* ---- status
 * ------------------------------------------------------------------------------- */

static int command_state(struct command_context *context, int argc, char **argv)
{
    struct option_perhaps watching = { .number = DEFAULT_WATCH };
    struct engine engine;
    const struct option_spec specs[] = { { "watch", OPTION_PERHAPS, &watching } };
    if (!options_parse(specs, 1, &argc, argv))
        return EXIT_USE;
    if (argc != 2 || (watching.given && context->json)) {
        message("write: sluice playbook status DOMAIN [--watch [N]]");
        return EXIT_USE;
    }
    command_catch_signals();
    int code;
    do {
        if (watching.given && isatty(STDOUT_FILENO) == 1)
            fputs("\033[H\033[2J", stdout);
        code = open_run(context, argv[1], &engine);
        if (code == EXIT_DONE) {
            paper_status(&engine);
            engine_close(&engine);
        }
        if (fflush(stdout) != 0)
            return EXIT_SERVICE; /* nobody reads any more */
    } while (watching.given && command_sleep(watching.number * 1000));
    return code;
}

/* ---- the command
 * --------------------------------------------------------------------------- */

int command_playbook(struct command_context *context, int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(struct command_context *context, int argc, char **argv);
    } verbs[] = { { "list", command_list },     { "show", command_show },
                  { "start", command_start },   { "run", command_run },
                  { "ack", command_ack },       { "status", command_state },
                  { "rollback", command_back }, { "report", command_report } };
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "actions") == 0)
        return command_actions();
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(verbs[i].name, verb) == 0)
            return verbs[i].run(context, argc - 1, argv + 1);
    message("write: sluice playbook list|show|start|run|ack|status|rollback|report|"
            "actions");
    return EXIT_USE;
}
