/*
 * playbook_engine: reads a run, its steps and its playbook. See playbook_engine.h.
 *
 * The file: first the one of now; when that is not the one that the run was started
 * with, the copy in the run's directory; when this host has none, the run stops with
 * a line that says how to go on.
 */
#include "playbook_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "addr.h"
#include "output.h"
#include "write_all.h"

#define WHO       "=who"
#define VARIANT   "=variant"
#define REHEARSED "@rehearsed"

/* ---- names ------------------------------------------------------------------ */

bool engine_path(const struct conf *conf, const char *name, char out[ENGINE_PATH_MAX])
{
    int n = strchr(name, '/')
                ? snprintf(out, ENGINE_PATH_MAX, "%s", name)
                : snprintf(out, ENGINE_PATH_MAX, "%s/%s.conf", conf->playbooks, name);
    return n > 0 && n < ENGINE_PATH_MAX;
}

bool engine_copy_path(const struct engine *engine, const char *playbook, uint64_t digest,
                      char out[ENGINE_PATH_MAX])
{
    const char *slash = strrchr(playbook, '/');
    const char *base = slash ? slash + 1 : playbook;
    int n = snprintf(out, ENGINE_PATH_MAX, "%s/%.*s.%016" PRIx64 ".conf",
                     engine->directory, (int)strcspn(base, "."), base, digest);
    return n > 0 && n < ENGINE_PATH_MAX;
}

/* A name for a person's eyes: no control character, no space or bracket that could make
 * it look like another. */
static void plain_name(const char *text, char out[65])
{
    size_t n = 0;
    for (; text[n] && n < 64; n++)
        out[n] = (unsigned char)text[n] > 0x20 && text[n] != 0x7f && text[n] != '(' &&
                         text[n] != ')' && text[n] != '@'
                     ? text[n]
                     : '_';
    out[n] = '\0';
}

/* "user@host", or "ann>root@host" when sudo(8) says who became root. Anybody can set its
 * variable; so it is believed of root alone, who could lie in any case. */
static void name_operator(char out[STATE_BY_MAX + 1])
{
    char host[65] = "?", name[65] = "?", sudo[65] = "", text[400];
    const struct passwd *user = getpwuid(getuid());
    const char *from = getuid() == 0 ? getenv("SUDO_USER") : NULL;
    if (user)
        plain_name(user->pw_name, name);
    if (from && from[0] && strcmp(from, name) != 0)
        plain_name(from, sudo);
    if (gethostname(host, sizeof(host) - 1) != 0)
        memcpy(host, "?", 2);
    (void)snprintf(text, sizeof(text), "%s%s%s@%s", sudo, sudo[0] ? ">" : "", name, host);
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

const char *engine_text(const struct engine *engine, size_t step, const char *text,
                        char out[ENGINE_TEXT_MAX])
{
    struct engine_names names = { engine, engine->playbook->steps[step].id };
    if (!playbook_expand(text, engine_value, &names, out, ENGINE_TEXT_MAX))
        state_text(text, out, ENGINE_TEXT_MAX); /* as it stands in the file */
    return out;
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
    free(engine->variant);
    engine->variant = NULL;
    free(engine->rehearsed);
    engine->rehearsed = NULL;
    if (engine->playbook)
        memset(engine->records, 0,
               engine->playbook->step_count * sizeof(*engine->records));
    engine->run = (struct run_record){ 0 };
    engine->damaged = false;
}

/* Puts a value, as the store has it ("<epoch> TAB <text>"), in *out. */
static bool take_text(struct engine *engine, const char *value, char **out)
{
    const char *tab = strchr(value, '\t');
    free(*out);
    *out = tab ? strdup(tab + 1) : NULL;
    engine->damaged = engine->damaged || !*out;
    return true;
}

/* What belongs to the run itself. */
static bool take_own(void *context, const char *name, const char *value)
{
    struct engine *engine = context;
    if (strcmp(name, WHO) == 0)
        return take_text(engine, value, &engine->who);
    if (strcmp(name, VARIANT) == 0)
        return take_text(engine, value, &engine->variant);
    if (strcmp(name, REHEARSED) == 0)
        return take_text(engine, value, &engine->rehearsed);
    if (name[0] == '\0' && !run_record_decode(value, strlen(value), &engine->run)) {
        engine->damaged = true;
        engine->run.state = RUN_GOING; /* there is one */
    }
    return true;
}

static bool take_field(void *context, const char *name, const char *value)
{
    struct engine *engine = context;
    if (name[0] == '\0' || strcmp(name, WHO) == 0 || strcmp(name, VARIANT) == 0 ||
        strcmp(name, REHEARSED) == 0)
        return take_own(context, name, value);
    for (size_t i = 0; name[0] == '=' && i < engine->playbook->setting_count; i++)
        if (strcmp(engine->playbook->settings[i].name, name + 1) == 0)
            return take_text(engine, value, &engine->values[i]);
    if (name[0] == '=' || name[0] == '@')
        return true; /* a setting that the file no longer has; the outline */
    struct step_record record;
    size_t step = playbook_find(engine->playbook, name);
    if (!step_record_decode(value, strlen(value), &record))
        engine->damaged = true;
    else if (step != SIZE_MAX)
        engine->records[step] = record;
    else if (record.acted && record.state != STATE_UNDONE)
        notice("step %s of this run is not in %s: nothing here undoes it", name,
               engine->playbook->path);
    return true;
}

static int read_fields(struct engine *engine, store_playbook_fn *each)
{
    struct store *store = engine->context->store;
    engine->now = store_time_ms(store) / 1000;
    if (engine->now <= 0 ||
        !store_each_playbook(store, engine->domain->name, each, engine)) {
        message("%s", store_error(store));
        return EXIT_SERVICE;
    }
    if (!engine->damaged)
        return EXIT_DONE;
    message("the run of %s in Redis is damaged: sluice recover, or sluice playbook start "
            "--replace to forget it",
            engine->domain->name);
    return EXIT_SERVICE;
}

int engine_read(struct engine *engine)
{
    forget(engine);
    int code = read_fields(engine, take_field);
    if (code == EXIT_DONE && engine->run.state == RUN_NONE) {
        message("the run of %s is gone from Redis: sluice recover", engine->domain->name);
        return EXIT_SERVICE;
    }
    return code;
}

int engine_begin(struct command_context *context, const char *domain, struct engine *out)
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
    name_operator(out->by);
    engine_name_holder(out);
    int n = snprintf(out->directory, sizeof(out->directory), "%s/playbook/%s",
                     context->conf->state_dir, out->domain->name);
    if (n < 0 || n >= ENGINE_PATH_MAX - 200) { /* room for the names in it */
        message("%s: too long a name for state-dir", context->conf->state_dir);
        return EXIT_CONFIGURATION;
    }
    int code = command_need_store(context);
    return code == EXIT_DONE ? read_fields(out, take_own) : code;
}

void engine_close(struct engine *engine)
{
    forget(engine);
    free(engine->records);
    playbook_free(engine->playbook);
    engine->records = NULL;
    engine->playbook = NULL;
}

/* ---- the file --------------------------------------------------------------------- */

static struct playbook *load_variant(const struct engine *engine, const char *path,
                                     char error[PLAYBOOK_ERROR_MAX])
{
    struct playbook *playbook =
        playbook_load(path, action_find, error, PLAYBOOK_ERROR_MAX);
    if (playbook && playbook_select(playbook, engine->variant, action_find, error,
                                    PLAYBOOK_ERROR_MAX))
        return playbook;
    playbook_free(playbook);
    return NULL;
}

/* The file that the run was started with. NULL: after a message. */
static struct playbook *find_file(struct engine *engine)
{
    char path[ENGINE_PATH_MAX], copy[ENGINE_PATH_MAX];
    char error[PLAYBOOK_ERROR_MAX] = "", other[PLAYBOOK_ERROR_MAX];
    const char *domain = engine->domain->name;
    if (!engine_path(engine->context->conf, engine->run.playbook, path) ||
        !engine_copy_path(engine, engine->run.playbook, engine->run.digest, copy)) {
        message("%.200s...: too long a name", engine->run.playbook);
        return NULL;
    }
    struct playbook *now = load_variant(engine, path, error);
    if (now && (now->digest == engine->run.digest || engine->new_file))
        return now;
    if (!now && engine->new_file) {
        message("%s", error);
        return NULL;
    }
    struct playbook *kept = load_variant(engine, copy, other);
    if (kept && kept->digest != engine->run.digest) {
        playbook_free(kept);
        kept = NULL;
    }
    if (kept)
        notice("%s%s; this run goes on with the file that it was started with (%s); "
               "sluice playbook run %s --new-file takes the present one",
               now ? path : error, now ? " has changed" : "", copy, domain);
    else if (now)
        message(
            "%s has changed since the run of %s was started, and %s is missing: run it "
            "on the host where it was started, put the file back, or take it as it is "
            "now: sluice playbook run %s --new-file",
            path, domain, copy, domain);
    else
        message("%s; the run of %s was started with it: put it back", error, domain);
    playbook_free(now);
    return kept;
}

int engine_load(struct engine *engine)
{
    char kept[ENGINE_PATH_MAX];
    /* A start that was killed has left it to us. */
    if (!engine->damaged && engine->run.state != RUN_NONE)
        (void)engine_own_directory(engine, kept);
    engine->playbook = find_file(engine);
    if (!engine->playbook)
        return EXIT_CONFIGURATION;
    engine->records = calloc(engine->playbook->step_count, sizeof(*engine->records));
    if (!engine->records) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    return engine_read(engine);
}

int engine_keep_text(const char *path, const char *text, size_t len)
{
    char aside[ENGINE_PATH_MAX + 8];
    (void)snprintf(aside, sizeof(aside), "%s.new", path); /* fits */
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool good = fd >= 0 && write_all(fd, text, len) && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (good && rename(aside, path) == 0)
        return EXIT_DONE;
    message("%s: %s", path, strerror(good ? errno : error));
    return EXIT_SERVICE;
}

int engine_keep_file(const struct engine *engine, const struct playbook *playbook)
{
    char path[ENGINE_PATH_MAX];
    if (engine_copy_path(engine, playbook->path, playbook->digest, path))
        return engine_keep_text(path, playbook->source, playbook->source_len);
    message("%s: too long a name", playbook->path);
    return EXIT_DATA;
}

/* Whether every step that has something to undo is still there. */
static bool take_missing(void *context, const char *name, const char *value)
{
    struct engine *engine = context;
    struct step_record record;
    if (name[0] == '\0' || name[0] == '=' || name[0] == '@' ||
        playbook_find(engine->playbook, name) != SIZE_MAX ||
        !step_record_decode(value, strlen(value), &record) || !record.acted ||
        record.state == STATE_UNDONE)
        return true;
    message("step %s was begun and is not in %s: nothing could undo it; keep it in the "
            "file, or roll back first (without --new-file)",
            name, engine->playbook->path);
    engine->damaged = true;
    return false;
}

/* Whether every setting has a value: a run can be given none any more. */
static bool has_values(const struct engine *engine)
{
    for (size_t i = 0; i < engine->playbook->setting_count; i++)
        if (!engine->values[i] && !engine->playbook->settings[i].value) {
            message("setting \"%s\" of %s has no value in the run of %s: give it a "
                    "default there (%s), or go on without --new-file",
                    engine->playbook->settings[i].name, engine->playbook->path,
                    engine->domain->name, engine->playbook->settings[i].about);
            return false;
        }
    return true;
}

int engine_take_file(struct engine *engine)
{
    static char outline[STATE_OUTLINE_MAX];
    char record[STATE_RECORD_MAX];
    struct run_record run = engine->run;
    if (run.digest == engine->playbook->digest)
        return EXIT_DONE;
    if (!has_values(engine))
        return EXIT_CHECK;
    if (!store_each_playbook(engine->context->store, engine->domain->name, take_missing,
                             engine) ||
        engine->damaged)
        return engine->damaged ? EXIT_CHECK : EXIT_SERVICE;
    int code = engine_keep_file(engine, engine->playbook);
    if (code != EXIT_DONE)
        return code;
    run.digest = engine->playbook->digest;
    run_record_encode(&run, record);
    const struct playbook_field fields[] = { { "", record }, { "@outline", outline } };
    const struct playbook_put what = {
        .domain = engine->domain->name,
        .expect_epoch = run.epoch,
        .fields = fields,
        .count = state_outline(engine->playbook, outline) > 0 ? 2 : 1,
    };
    code = engine_put_fields(engine, &what, &run.epoch);
    if (code != EXIT_DONE)
        return code;
    engine->run = run;
    notice("the run of %s goes on with %s as it is now", engine->domain->name,
           engine->playbook->path);
    return EXIT_DONE;
}
