/*
 * sluice playbook: the whole migration, step by step.
 *
 * list, show, run, status, rollback, report, actions; each is one function below
 * (start: playbook_start.c, ack: playbook_ack.c). What a run is, is in playbook_engine.h;
 * the documents are in playbook_report.c, what status shows in playbook_status.c.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "command.h"
#include "options.h"
#include "output.h"
#include "playbook_engine.h"
#include "playbook_report.h"
#include "playbook_cmd.h"
#include "playbook_start.h"
#include "playbook_status.h"

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

/* NULL: error has the line. conf may be NULL for a path. */
static struct playbook *by_its_name(const struct conf *conf, const char *name,
                                    char error[PLAYBOOK_ERROR_MAX])
{
    char path[ENGINE_PATH_MAX];
    if (!conf && !strchr(name, '/')) {
        (void)snprintf(error, PLAYBOOK_ERROR_MAX,
                       "%.100s: not a path of a playbook's file (with a slash in it)",
                       name);
        return NULL;
    }
    if (engine_path(conf, name, path))
        return playbook_load(path, action_find, error, PLAYBOOK_ERROR_MAX);
    (void)snprintf(error, PLAYBOOK_ERROR_MAX, "%.100s...: too long a name", name);
    return NULL;
}

static int list_one(const struct conf *conf, const char *name, struct sheet *sheet,
                    doc *list)
{
    char error[PLAYBOOK_ERROR_MAX], steps[24];
    doc *object = doc_add(list, doc_object());
    struct playbook *playbook = by_its_name(conf, name, error);
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

static int list_playbooks(const struct conf *conf, doc *document)
{
    static const char *const headers[] = { "playbook", ">steps", "title" };
    size_t count;
    int worst = EXIT_DONE;
    char **names = playbook_names(conf, &count);
    struct sheet *sheet = sheet_new(headers, 3);
    doc *list = doc_put(document, "playbooks", doc_array());
    for (size_t i = 0; i < count; i++) {
        int code = list_one(conf, names[i], sheet, list);
        worst = code != EXIT_DONE ? code : worst;
        free(names[i]);
    }
    bool is_there = names != NULL;
    free(names);
    if (is_there && count == 0)
        print("no playbook in %s", conf->playbooks);
    sheet_print(sheet);
    return is_there || count > 0 ? worst : EXIT_CONFIGURATION;
}

/* The runs of all domains; no table when there is none. */
static int list_runs(struct command_context *context, doc *document)
{
    static const char *const headers[] = { "domain", "playbook", "state", ">steps done",
                                           "next" };
    struct sheet *sheet = sheet_new(headers, 5);
    doc *list = doc_put(document, "runs", doc_array());
    int worst = EXIT_DONE;
    for (size_t i = 0; i < context->conf->domain_count && worst != EXIT_SERVICE; i++) {
        struct engine engine;
        int code = engine_begin(context, context->conf->domains[i].name, &engine);
        if (code == EXIT_DONE && engine.run.state != RUN_NONE) {
            code = engine_load(&engine);
            if (code == EXIT_DONE)
                status_row(&engine, sheet, list);
        }
        engine_close(&engine);
        worst = code != EXIT_DONE ? code : worst;
    }
    if (sheet_rows(sheet) > 0) {
        print("%s", "");
        sheet_print(sheet);
    } else {
        sheet_free(sheet);
    }
    return worst;
}

static int command_list(struct command_context *context, int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        message("list takes no argument");
        return EXIT_USE;
    }
    doc *document = doc_object();
    doc_text(document, "command", "playbook");
    int code = list_playbooks(context->conf, document);
    int runs = list_runs(context, document);
    doc_print(document);
    return code != EXIT_DONE ? code : runs;
}

/* By kind, two lines each: some have many arguments. */
static int command_actions(void)
{
    static const char *const heads[] = {
        [ACTION_CHECK] = "Checks: they look, and change nothing",
        [ACTION_WRITE] = "Documents: they write what a person needs",
        [ACTION_CHANGE] = "Changes: they want an undo",
        [ACTION_PERSON] = "By a person",
        [ACTION_TIME] = "Waits",
    };
    doc *document = doc_object(), *list = doc_put(document, "actions", doc_array());
    for (size_t kind = 0; kind < sizeof(heads) / sizeof(heads[0]); kind++) {
        if (kind > 0)
            print("%s", "");
        print("%s", heads[kind]);
        for (size_t i = 0; action_at(i); i++) {
            const struct action *action = action_at(i);
            if (action->info.kind != (enum action_kind)kind)
                continue;
            print("  %s%s%s", action->info.name, action->info.usage[0] ? " " : "",
                  action->info.usage);
            print("      %s", action->summary);
            doc *object = doc_add(list, doc_object());
            doc_text(object, "name", action->info.name);
            doc_text(object, "kind", action_kind_name(action->info.kind));
            doc_text(object, "arguments", action->info.usage);
            doc_text(object, "summary", action->summary);
        }
    }
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
    const char *format = "text", *variant = NULL;
    char error[PLAYBOOK_ERROR_MAX];
    enum paper paper;
    const struct option_spec specs[] = { { "format", OPTION_TEXT, &format },
                                         { "variant", OPTION_TEXT, &variant } };
    if (!options_parse(specs, 2, &argc, argv))
        return EXIT_USE;
    if (argc != 2) {
        message("write: sluice playbook show NAME [--variant NAME] [--format "
                "markdown|html]");
        return EXIT_USE;
    }
    if (!take_format(format, &paper))
        return EXIT_USE;
    struct playbook *playbook = by_its_name(context->conf, argv[1], error);
    if (!playbook ||
        !playbook_select(playbook, variant, action_find, error, sizeof(error))) {
        message("%s", error);
        playbook_free(playbook);
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
int playbook_open_run(struct command_context *context, const char *domain, bool new_file,
                      struct engine *engine)
{
    int code = engine_begin(context, domain, engine);
    engine->new_file = new_file;
    if (code == EXIT_DONE && engine->run.state == RUN_NONE) {
        message("no playbook was started for %s: sluice playbook start NAME %s",
                engine->domain->name, engine->domain->name);
        code = EXIT_CHECK;
    }
    if (code == EXIT_DONE)
        code = engine_load(engine);
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
    if (argc != 2) {
        message("write: sluice playbook report DOMAIN [--format text|markdown|html]");
        return EXIT_USE;
    }
    if (!take_format(format, &paper))
        return EXIT_USE;
    int code = playbook_open_run(context, argv[1], false, &engine);
    if (code != EXIT_DONE)
        return code;
    if (context->json)
        status_print(&engine, 0);
    else
        paper_report(&engine, paper);
    engine_close(&engine);
    return EXIT_DONE;
}

/* ---- run, ack, rollback --------------------------------------------------------- */

/* The step of that name; SIZE_MAX after a message. */
size_t playbook_step_named(const struct engine *engine, const char *id)
{
    size_t step = playbook_find(engine->playbook, id);
    if (step == SIZE_MAX)
        message("playbook %s has no step \"%s\" (sluice playbook status %s)",
                engine->playbook->name, id, engine->domain->name);
    return step;
}

/* Below the reason of a step that failed. */
static void say_way_out(const struct engine *engine)
{
    for (size_t i = 0; i < engine->playbook->step_count; i++)
        if (engine->records[i].state == STATE_FAILED)
            notice("its log: %s/%s.log; mend it and run the same command again, or go "
                   "back: sluice playbook rollback %s",
                   engine->directory, engine->playbook->steps[i].id,
                   engine->domain->name);
}

static int command_run(struct command_context *context, int argc, char **argv)
{
    const char *to = NULL;
    bool wait = false, new_file = false;
    int window = 0;
    struct engine engine;
    const struct option_spec specs[] = { { "wait", OPTION_FLAG, &wait },
                                         { "window", OPTION_DURATION, &window },
                                         { "new-file", OPTION_FLAG, &new_file },
                                         { "to", OPTION_TEXT, &to } };
    if (!options_parse(specs, 4, &argc, argv))
        return EXIT_USE;
    if (argc != 2) {
        message("write: sluice playbook run DOMAIN [--to STEP] [--wait] [--window "
                "DURATION] [--new-file]");
        return EXIT_USE;
    }
    int code = playbook_open_run(context, argv[1], new_file, &engine);
    if (code != EXIT_DONE)
        return code;
    command_catch_signals();
    size_t until = to ? playbook_step_named(&engine, to) : SIZE_MAX;
    code = to && until == SIZE_MAX ? EXIT_USE : engine_directory(&engine);
    if (code == EXIT_DONE)
        code = context->dry_run ? engine_dry_run(&engine, until)
                                : engine_run(&engine, wait, window, until);
    if (code == EXIT_CHECK && !context->dry_run)
        say_way_out(&engine);
    if ((code == EXIT_DONE && !context->dry_run) || context->json)
        status_print(&engine, 0);
    engine_close(&engine);
    return code;
}

/* The undo with its arguments, for a person. */
static void undo_words(const struct engine *engine, const struct playbook_step *step,
                       char out[ENGINE_TEXT_MAX])
{
    struct engine_names names = { engine, step->id };
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < step->undo.argc; i++) {
        char word[ENGINE_TEXT_MAX];
        if (!playbook_expand(step->undo.argv[i], engine_value, &names, word,
                             sizeof(word)))
            memcpy(word, "...", 4);
        int n =
            snprintf(out + used, ENGINE_TEXT_MAX - used, "%s%s", i > 0 ? " " : "", word);
        if (n < 0 || (size_t)n >= ENGINE_TEXT_MAX - used)
            return; /* long enough for a look */
        used += (size_t)n;
    }
}

static void show_way_back(const struct engine *engine, size_t first)
{
    for (size_t i = engine->playbook->step_count; i > first; i--) {
        const struct playbook_step *step = &engine->playbook->steps[i - 1];
        const struct step_record *record = &engine->records[i - 1];
        char words[ENGINE_TEXT_MAX];
        if (record->state == STATE_PENDING || record->state == STATE_UNDONE)
            continue;
        undo_words(engine, step, words);
        bool is_nothing = step->undo.argv && strcmp(step->undo.argv[0], "nothing") == 0;
        print("%s would be undone: %s", step->id,
              !record->acted     ? "nothing to do, its action was never begun"
              : !step->undo.argv ? "nothing to do, it has changed nothing"
              : is_nothing       ? "nothing to do, what it did stays"
                                 : words);
    }
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
    int code = playbook_open_run(context, argv[1], false, &engine);
    if (code != EXIT_DONE)
        return code;
    size_t first = to ? playbook_step_named(&engine, to) : 0;
    command_catch_signals();
    if (first == SIZE_MAX)
        code = EXIT_USE;
    else if (context->dry_run)
        show_way_back(&engine, first);
    else if ((code = engine_directory(&engine)) == EXIT_DONE)
        code = engine_rollback(&engine, first);
    if (context->json && first != SIZE_MAX)
        status_print(&engine, 0);
    engine_close(&engine);
    return code;
}

/* ---- status ------------------------------------------------------------------------ */

/* Lines of the terminal; 0: it is none, or has no size. */
static unsigned terminal_lines(void)
{
    struct winsize size;
    return isatty(STDOUT_FILENO) == 1 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0
               ? size.ws_row
               : 0;
}

static int command_state(struct command_context *context, int argc, char **argv)
{
    struct option_perhaps watching = { .number = DEFAULT_WATCH };
    struct engine engine;
    const struct option_spec specs[] = { { "watch", OPTION_PERHAPS, &watching } };
    if (!options_parse(specs, 1, &argc, argv))
        return EXIT_USE;
    if (argc != 2 || (watching.given && context->json)) {
        message("write: sluice playbook status DOMAIN [--watch [SECONDS]]");
        return EXIT_USE;
    }
    command_catch_signals();
    int code;
    do {
        if (watching.given && terminal_lines() > 0)
            fputs("\033[H\033[2J", stdout);
        code = playbook_open_run(context, argv[1], false, &engine);
        if (code == EXIT_DONE) {
            status_print(&engine, watching.given ? terminal_lines() : 0);
            engine_close(&engine);
        }
        if (fflush(stdout) != 0)
            return EXIT_SERVICE; /* nobody reads any more */
    } while (watching.given && command_sleep(watching.number * 1000));
    return code;
}

/* ---- the command ------------------------------------------------------------------- */

/* The table of actions, and a playbook that is named by its path. */
bool command_playbook_alone(int argc, char **argv)
{
    bool is_path = false;
    for (int i = 2; i < argc; i++)
        is_path = is_path || (argv[i][0] != '-' && strchr(argv[i], '/'));
    return argc > 1 &&
           (strcmp(argv[1], "actions") == 0 || (strcmp(argv[1], "show") == 0 && is_path));
}

int command_playbook(struct command_context *context, int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(struct command_context *context, int argc, char **argv);
    } verbs[] = { { "list", command_list },     { "show", command_show },
                  { "start", playbook_start },  { "run", command_run },
                  { "ack", playbook_ack },      { "status", command_state },
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
