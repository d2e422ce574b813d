/*
 * playbook_start: begins a run: settings, variant, pilot group and the file are
 * checked and noted in one change, under the runner's lease, so that no run is
 * replaced while somebody is at work in it. What was there before is kept, with its
 * report (playbook_keep.c).
 */
#include "playbook_start.h"

#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf_file.h"
#include "options.h"
#include "output.h"
#include "playbook_engine.h"
#include "targets.h"

#define VALUE_MAX 2000

struct start {
    struct option_list sets;
    const char *rehearse, *variant;
    char pilots[PATH_MAX + 1]; /* rehearse, when it is @FILE: as found from anywhere;
                                  later the run's own copy */
    bool replace;
    char name[ENGINE_PATH_MAX]; /* or absolute path, of the playbook */
    int64_t started;
    char directory[ENGINE_PATH_MAX]; /* of the run, until it is begun */
};

/* Fields with the memory that they point to. */
struct fields {
    struct playbook_field items[PLAYBOOK_FIELDS_MAX];
    size_t count;
    char names[PLAYBOOK_SETTINGS_MAX][PLAYBOOK_ID_MAX + 2];
    char run[STATE_RECORD_MAX];
    char outline[STATE_OUTLINE_MAX];
};

/* ---- settings ------------------------------------------------------------------ */

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

/* "name=value" for a setting; NULL after a message. */
static const struct playbook_setting *set_of(const struct playbook *playbook,
                                             const char *text, const char **value)
{
    char name[PLAYBOOK_ID_MAX + 1];
    const char *equals = strchr(text, '=');
    size_t len = equals ? (size_t)(equals - text) : 0;
    if (!equals || len == 0 || len > PLAYBOOK_ID_MAX) {
        message("--set \"%.80s\": write it as NAME=VALUE", text);
        return NULL;
    }
    memcpy(name, text, len);
    name[len] = '\0';
    *value = equals + 1;
    if (has_control(*value) || strlen(*value) > VALUE_MAX) {
        message("--set %s: a value has %d bytes at most and no control characters", name,
                VALUE_MAX);
        return NULL;
    }
    const struct playbook_setting *setting = playbook_setting(playbook, name);
    if (!setting)
        message("--set: playbook %s has no setting \"%s\" (sluice playbook show %s)",
                playbook->name, name, playbook->name);
    return setting;
}

static int add_settings(const struct playbook *playbook, const struct option_list *sets,
                        struct fields *fields)
{
    bool given[PLAYBOOK_SETTINGS_MAX] = { false };
    int code = EXIT_DONE;
    for (size_t i = 0; i < sets->count; i++) {
        const char *value;
        const struct playbook_setting *it = set_of(playbook, sets->items[i], &value);
        if (!it)
            return EXIT_USE;
        size_t index = (size_t)(it - playbook->settings);
        if (given[index]) {
            message("--set %s is given twice", it->name);
            return EXIT_USE;
        }
        given[index] = true;
        (void)snprintf(fields->names[index], sizeof(fields->names[index]), "=%s",
                       it->name);
        fields->items[fields->count++] =
            (struct playbook_field){ fields->names[index], value };
    }
    for (size_t i = 0; i < playbook->setting_count; i++)
        if (!playbook->settings[i].value && !given[i]) {
            message("--set %s=... is missing: %s", playbook->settings[i].name,
                    playbook->settings[i].about);
            code = EXIT_USE;
        }
    return code;
}

/* ---- the start ----------------------------------------------------------------- */

static int collect(const struct engine *engine, const struct playbook *playbook,
                   const struct start *start, struct fields *fields)
{
    struct run_record run = {
        .state = RUN_GOING,
        .started = start->started,
        .window_s = playbook->window_s,
        .rehearsal = start->rehearse != NULL,
        .digest = playbook->digest,
    };
    (void)snprintf(run.playbook, sizeof(run.playbook), "%s", start->name); /* fits */
    memcpy(run.by, engine->by, sizeof(run.by));
    if (run_record_encode(&run, fields->run) == 0 || has_control(start->name)) {
        message("%s: too long a name, or control characters in it", start->name);
        return EXIT_DATA;
    }
    fields->items[fields->count++] = (struct playbook_field){ "", fields->run };
    if (state_outline(playbook, fields->outline) > 0)
        fields->items[fields->count++] =
            (struct playbook_field){ "@outline", fields->outline };
    if (start->rehearse)
        fields->items[fields->count++] =
            (struct playbook_field){ "=who", start->rehearse };
    if (playbook->variant)
        fields->items[fields->count++] =
            (struct playbook_field){ "=variant", playbook->variant };
    if (engine->rehearsed)
        fields->items[fields->count++] =
            (struct playbook_field){ "@rehearsed", engine->rehearsed };
    return add_settings(playbook, &start->sets, fields);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The playbook's file, for the run. */
static int keep_file(struct engine *engine, const struct playbook *playbook,
                     const struct start *start)
{
    char own[ENGINE_PATH_MAX];
    memcpy(own, engine->directory, sizeof(own));
    memcpy(engine->directory, start->directory, sizeof(own));
    int code = engine_keep_file(engine, playbook);
    memcpy(engine->directory, own, sizeof(own));
    return code;
}

static int begin(struct engine *engine, const struct playbook *playbook,
                 const struct start *start, const struct fields *fields)
{
    char kept[ENGINE_PATH_MAX];
    const struct run_record earlier = engine->run;
    const struct playbook_put what = {
        .domain = engine->domain->name,
        .expect_epoch = engine->run.epoch,
        .anew = true,
        .fields = fields->items,
        .count = fields->count,
    };
    int code = keep_file(engine, playbook, start);
    /* A step of the earlier run may have been waited for. */
    if (code == EXIT_DONE)
        code = engine_lease(engine);
    if (code == EXIT_DONE)
        code = engine_put_fields(engine, &what, &engine->run.epoch);
    if (code != EXIT_DONE)
        return code;
    print("%s: playbook %s is started%s; next: sluice playbook run %s",
          engine->domain->name, playbook->name, start->rehearse ? " as a rehearsal" : "",
          engine->domain->name);
    engine->run.state = RUN_GOING;
    engine->run.started = start->started;
    code = engine_own_directory(engine, kept);
    if (code == EXIT_DONE && kept[0])
        print("logs and papers of the earlier run%s%.40s%s are in %s%s",
              earlier.playbook[0] ? " (" : "", base_name(earlier.playbook),
              earlier.playbook[0] ? ")" : "", kept,
              earlier.state != RUN_NONE ? ": report.html says what it did" : "");
    return code;
}

static int write_start(struct engine *engine, const struct playbook *playbook,
                       const struct start *start)
{
    struct fields *fields = calloc(1, sizeof(*fields));
    int code = fields ? collect(engine, playbook, start, fields) : EXIT_SERVICE;
    if (!fields)
        message("out of memory");
    if (code == EXIT_DONE && engine->context->dry_run)
        print("%s: playbook %s would be started", engine->domain->name, playbook->name);
    else if (code == EXIT_DONE)
        code = begin(engine, playbook, start, fields);
    free(fields);
    return code;
}

/* A rehearsal moves mailboxes of the domain, and not all of it. */
static int check_pilot(const struct command_context *context, struct engine *engine,
                       const char *who)
{
    struct targets targets;
    char *argv[] = { (char *)(uintptr_t)who, NULL };
    if (has_control(who) || strlen(who) > VALUE_MAX) {
        message("--rehearse: %d bytes at most, and no control characters", VALUE_MAX);
        return EXIT_DATA;
    }
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

/* The pilot group stays what it is now, for the way back too, whatever becomes of the
 * file. */
static int keep_pilots(const struct command_context *context, struct engine *engine,
                       struct start *start)
{
    struct conf_mistake mistake;
    char path[PATH_MAX + 1];
    size_t len = 0;
    if (!start->rehearse || start->rehearse[0] != '@')
        return EXIT_DONE;
    char *text = conf_read_file(start->rehearse + 1, &len, &mistake);
    if (!text) {
        message("%s: %s", start->rehearse + 1, mistake.text);
        return EXIT_DATA;
    }
    (void)snprintf(path, sizeof(path), "@%.*s/pilots", ENGINE_PATH_MAX - 200,
                   start->directory);
    int code = engine_keep_text(path + 1, text, len);
    free(text);
    if (code == EXIT_DONE)
        code = check_pilot(context, engine, path);
    (void)snprintf(start->pilots, sizeof(start->pilots), "@%.*s/pilots",
                   ENGINE_PATH_MAX - 200, engine->directory);
    start->rehearse = start->pilots;
    return code;
}

/* What the run that is there leaves behind, and a place for the next one. */
static int make_room(struct engine *engine, const struct playbook *playbook,
                     struct start *start)
{
    start->started = engine_next_start(engine);
    if (engine->context->dry_run)
        return EXIT_DONE;
    int code = engine_keep_run(engine, playbook->name);
    if (code == EXIT_DONE)
        code = engine_new_directory(engine, start->started, start->directory);
    return code == EXIT_DONE ? keep_pilots(engine->context, engine, start) : code;
}

/* Whether the run that is there may be replaced. */
static int check_present(struct engine *engine, const struct start *start)
{
    int code = engine->context->dry_run ? EXIT_DONE : engine_lease(engine);
    if (code != EXIT_DONE)
        return code;
    if (engine->run.state != RUN_GOING || start->replace)
        return EXIT_DONE;
    message("playbook %s of %s goes on already: sluice playbook status %s, or start "
            "--replace to forget it",
            engine->run.playbook, engine->domain->name, engine->domain->name);
    return EXIT_CHECK;
}

static int start_on(struct command_context *context, const struct playbook *playbook,
                    const char *domain, struct start *start)
{
    struct engine engine;
    int code = engine_begin(context, domain, &engine);
    if (engine.damaged && start->replace)
        code = EXIT_DONE;
    if (code == EXIT_DONE && start->rehearse)
        code = check_pilot(context, &engine, start->rehearse);
    if (code == EXIT_DONE) {
        code = check_present(&engine, start);
        if (code == EXIT_DONE)
            code = make_room(&engine, playbook, start);
        if (code == EXIT_DONE)
            code = write_start(&engine, playbook, start);
        engine_release(&engine);
    }
    engine_close(&engine);
    return code;
}

int playbook_start(struct command_context *context, int argc, char **argv)
{
    struct start start = { 0 };
    char path[ENGINE_PATH_MAX], whole[PATH_MAX], error[PLAYBOOK_ERROR_MAX];
    const struct option_spec specs[] = { { "set", OPTION_LIST, &start.sets },
                                         { "rehearse", OPTION_TEXT, &start.rehearse },
                                         { "variant", OPTION_TEXT, &start.variant },
                                         { "replace", OPTION_FLAG, &start.replace } };
    if (!options_parse(specs, 4, &argc, argv))
        return EXIT_USE;
    if (argc != 3) {
        message("write: sluice playbook start NAME DOMAIN [--variant NAME] [--set "
                "NAME=VALUE]... [--rehearse WHO] [--replace]");
        return EXIT_USE;
    }
    if (!engine_path(context->conf, argv[1], path)) {
        message("%.100s...: too long a name", argv[1]);
        return EXIT_DATA;
    }
    if (start.rehearse && start.rehearse[0] == '@' &&
        realpath(start.rehearse + 1, whole)) {
        (void)snprintf(start.pilots, sizeof(start.pilots), "@%s", whole); /* fits */
        start.rehearse = start.pilots;
    }
    /* A path is noted as it is found from anywhere. */
    const char *name = strchr(argv[1], '/') && realpath(argv[1], whole) ? whole : argv[1];
    if (strlen(name) >= sizeof(start.name)) {
        message("%.100s...: too long a path", name);
        return EXIT_DATA;
    }
    memcpy(start.name, name, strlen(name) + 1);
    struct playbook *playbook = playbook_load(path, action_find, error, sizeof(error));
    if (!playbook ||
        !playbook_select(playbook, start.variant, action_find, error, sizeof(error))) {
        message("%s", error);
        playbook_free(playbook);
        return EXIT_CONFIGURATION;
    }
    int code = start_on(context, playbook, argv[2], &start);
    playbook_free(playbook);
    return code;
}
