/*
 * playbook_file: reads a playbook with libConfuse. See playbook.h for the form.
 *
 * The file goes through conf_read_file(): comments, quotes and sizes are as in
 * sluice.conf. libConfuse knows the line while it parses, and only then; the
 * validation callback notes it for every option, so that the checks that come
 * after (playbook_check.c) can name the line too.
 *
 * Diagnostics: the first mistake, "<path>:<line>: <what is wrong>". One thread:
 * libConfuse's scanner is global.
 *
 * Limits: PLAYBOOK_STEPS_MAX steps, PLAYBOOK_TEXT_MAX bytes in a text.
 */
#include <confuse.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf_file.h"
#include "fnv.h"
#include "output.h"
#include "playbook.h"
#include "run.h"

#define NOTES_MAX     16384
#define DEFAULT_LIMIT "1h"

/* The load that runs now. */
static struct {
    const char *path;
    char *error;
    size_t size;
    bool failed;
    struct note {
        const cfg_opt_t *opt;
        int line;
    } * notes;
    size_t note_count;
} load;

__attribute__((format(printf, 2, 3))) static bool fail(int line, const char *fmt, ...)
{
    char text[PLAYBOOK_ERROR_MAX];
    va_list args;
    if (load.failed)
        return false;
    load.failed = true;
    va_start(args, fmt);
    if (vsnprintf(text, sizeof(text), fmt, args) < 0)
        text[0] = '\0';
    va_end(args);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    if (line > 0)
        (void)snprintf(load.error, load.size, "%s:%d: %s", load.path, line, text);
    else
        (void)snprintf(load.error, load.size, "%s: %s", load.path, text);
    return false;
}

__attribute__((format(printf, 2, 0))) static void on_error(cfg_t *cfg, const char *fmt,
                                                           va_list args)
{
    char text[PLAYBOOK_ERROR_MAX];
    if (vsnprintf(text, sizeof(text), fmt, args) < 0)
        text[0] = '\0';
    fail(cfg->line, "%s", text);
}

/* ---- lines -------------------------------------------------------------- */

static int on_value(cfg_t *cfg, cfg_opt_t *opt)
{
    for (size_t i = load.note_count; i > 0; i--)
        if (load.notes[i - 1].opt == opt) {
            if (!(opt->flags & CFGF_LIST))
                fail(cfg->line, "%s is given twice", opt->name);
            return load.failed ? -1 : 0; /* a list: its first line */
        }
    if (load.note_count == NOTES_MAX)
        fail(cfg->line, "more than %d values", NOTES_MAX);
    else
        load.notes[load.note_count++] = (struct note){ opt, cfg->line };
    if (opt->type == CFGT_STR && opt->nvalues > 0) {
        const char *value = cfg_opt_getnstr(opt, opt->nvalues - 1);
        if (value && strlen(value) > PLAYBOOK_TEXT_MAX)
            fail(cfg->line, "%s: longer than %d bytes", opt->name, PLAYBOOK_TEXT_MAX);
    }
    return load.failed ? -1 : 0;
}

/* 0: the option was not given. */
static int line_of(cfg_t *cfg, const char *name)
{
    const cfg_opt_t *opt = cfg_getopt(cfg, name);
    for (size_t i = 0; opt && i < load.note_count; i++)
        if (load.notes[i].opt == opt)
            return load.notes[i].line;
    return 0;
}

/* The first line of a section that has an option on it; its last one when none
 * has. */
static int line_of_section(cfg_t *cfg)
{
    int first = cfg->line;
    for (const cfg_opt_t *opt = cfg->opts; opt && opt->name; opt++) {
        int line = line_of(cfg, opt->name);
        if (line > 0 && line < first)
            first = line;
    }
    return first;
}

/* ---- pieces ------------------------------------------------------------- */

static bool copy(char **out, const char *text)
{
    *out = strdup(text ? text : "");
    return *out || fail(0, "out of memory");
}

static bool copy_key(cfg_t *cfg, const char *name, char **out)
{
    return copy(out, cfg_getstr(cfg, name));
}

static bool copy_list(cfg_t *cfg, const char *name, char ***out, size_t *count)
{
    unsigned n = cfg_size(cfg, name);
    *out = calloc((size_t)n + 1, sizeof(**out));
    if (!*out)
        return fail(0, "out of memory");
    for (unsigned i = 0; i < n; i++)
        if (!copy(&(*out)[i], cfg_getnstr(cfg, name, i)))
            return false;
    if (count)
        *count = n;
    return true;
}

static bool take_call(cfg_t *cfg, const char *name, struct playbook_call *call)
{
    call->line = line_of(cfg, name);
    if (cfg_size(cfg, name) == 0)
        return call->line == 0 || fail(call->line, "%s names no action", name);
    if (cfg_size(cfg, name) > PLAYBOOK_ARGS_MAX)
        return fail(call->line, "%s: more than %d words", name, PLAYBOOK_ARGS_MAX);
    return copy_list(cfg, name, &call->argv, &call->argc);
}

static bool take_duration(cfg_t *cfg, const char *name, int *seconds)
{
    const char *text = cfg_getstr(cfg, name);
    return duration_parse(text, seconds) ||
           fail(line_of(cfg, name),
                "%s = \"%s\": not a duration: write it as 90s, 10m, "
                "2h or 3d",
                name, text);
}

/* ---- sections ------------------------------------------------------------ */

static cfg_opt_t setting_opts[] = {
    CFG_STR("default", NULL, CFGF_NODEFAULT),
    CFG_STR("about", "", CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t variant_opts[] = {
    CFG_STR("about", "", CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t step_opts[] = {
    CFG_STR("title", "", CFGF_NONE),
    CFG_STR("owner", "", CFGF_NONE),
    CFG_STR("text", "", CFGF_NONE),
    CFG_STR_LIST("rows", NULL, CFGF_NODEFAULT),
    CFG_STR_LIST("after", NULL, CFGF_NODEFAULT),
    CFG_STR_LIST("variants", NULL, CFGF_NODEFAULT),
    CFG_STR_LIST("pre", NULL, CFGF_NODEFAULT),
    CFG_STR_LIST("action", NULL, CFGF_NODEFAULT),
    CFG_STR_LIST("post", NULL, CFGF_NODEFAULT),
    CFG_STR_LIST("undo", NULL, CFGF_NODEFAULT),
    CFG_BOOL("point-of-no-return", cfg_false, CFGF_NONE),
    CFG_BOOL("in-rehearsal", cfg_true, CFGF_NONE),
    CFG_BOOL("opens-window", cfg_false, CFGF_NONE),
    CFG_BOOL("closes-window", cfg_false, CFGF_NONE),
    CFG_STR("usually", "1m", CFGF_NONE),
    CFG_STR("limit", DEFAULT_LIMIT, CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t phase_opts[] = {
    CFG_SEC("step", step_opts, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_END(),
};
static cfg_opt_t root_opts[] = {
    CFG_STR("title", "", CFGF_NONE),
    CFG_STR("about", "", CFGF_NONE),
    CFG_STR("window", "6h", CFGF_NONE),
    CFG_SEC("setting", setting_opts, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_SEC("variant", variant_opts, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_SEC("phase", phase_opts, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_END(),
};

static bool take_setting(cfg_t *cfg, struct playbook_setting *out)
{
    out->line = line_of_section(cfg);
    const char *value = cfg_getstr(cfg, "default");
    return copy(&out->name, cfg_title(cfg)) && copy_key(cfg, "about", &out->about) &&
           (!value || copy(&out->value, value));
}

static bool take_variant(cfg_t *cfg, struct playbook_variant *out)
{
    out->line = line_of_section(cfg);
    return copy(&out->name, cfg_title(cfg)) && copy_key(cfg, "about", &out->about);
}

static bool take_step(cfg_t *cfg, size_t phase, struct playbook_step *out)
{
    out->phase = phase;
    out->line = line_of_section(cfg);
    out->after_given = line_of(cfg, "after") > 0;
    out->no_return = cfg_getbool(cfg, "point-of-no-return");
    out->whole = !cfg_getbool(cfg, "in-rehearsal");
    out->opens = cfg_getbool(cfg, "opens-window");
    out->closes = cfg_getbool(cfg, "closes-window");
    return copy(&out->id, cfg_title(cfg)) && copy_key(cfg, "title", &out->title) &&
           copy_key(cfg, "owner", &out->owner) && copy_key(cfg, "text", &out->text) &&
           copy_list(cfg, "rows", &out->rows, NULL) &&
           copy_list(cfg, "after", &out->after, NULL) &&
           copy_list(cfg, "variants", &out->variants, NULL) &&
           take_call(cfg, "pre", &out->pre) && take_call(cfg, "action", &out->action) &&
           take_call(cfg, "post", &out->post) && take_call(cfg, "undo", &out->undo) &&
           take_duration(cfg, "usually", &out->usually_s) &&
           take_duration(cfg, "limit", &out->limit_s);
}

static bool take_phase(cfg_t *cfg, struct playbook *playbook)
{
    unsigned n = cfg_size(cfg, "step");
    size_t phase = playbook->phase_count++;
    if (!copy(&playbook->phases[phase], cfg_title(cfg)))
        return false;
    for (unsigned i = 0; i < n; i++) {
        cfg_t *section = cfg_getnsec(cfg, "step", i);
        if (playbook->step_count == PLAYBOOK_STEPS_MAX)
            return fail(line_of_section(section), "more than %d steps",
                        PLAYBOOK_STEPS_MAX);
        if (!take_step(section, phase, &playbook->steps[playbook->step_count++]))
            return false;
    }
    return true;
}

/* "mailroute" of "/usr/share/sluice/playbooks/mailroute.conf". */
static bool take_name(const char *path, char **out)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    size_t len = strcspn(base, ".");
    *out = strndup(base, len);
    return *out || fail(0, "out of memory");
}

static bool take_all(cfg_t *cfg, struct playbook *playbook)
{
    unsigned phases = cfg_size(cfg, "phase"), settings = cfg_size(cfg, "setting"),
             variants = cfg_size(cfg, "variant");
    if (variants > PLAYBOOK_VARIANTS_MAX)
        return fail(0, "more than %d variants", PLAYBOOK_VARIANTS_MAX);
    if (settings > PLAYBOOK_SETTINGS_MAX)
        return fail(0, "more than %d settings", PLAYBOOK_SETTINGS_MAX);
    playbook->phases = calloc((size_t)phases + 1, sizeof(char *));
    playbook->steps = calloc(PLAYBOOK_STEPS_MAX, sizeof(*playbook->steps));
    playbook->settings = calloc((size_t)settings + 1, sizeof(*playbook->settings));
    playbook->variants = calloc((size_t)variants + 1, sizeof(*playbook->variants));
    if (!playbook->phases || !playbook->steps || !playbook->settings ||
        !playbook->variants)
        return fail(0, "out of memory");
    if (!copy(&playbook->path, load.path) || !take_name(load.path, &playbook->name) ||
        !copy_key(cfg, "title", &playbook->title) ||
        !copy_key(cfg, "about", &playbook->about) ||
        !take_duration(cfg, "window", &playbook->window_s))
        return false;
    for (unsigned i = 0; i < settings; i++)
        if (!take_setting(cfg_getnsec(cfg, "setting", i),
                          &playbook->settings[playbook->setting_count++]))
            return false;
    for (unsigned i = 0; i < variants; i++)
        if (!take_variant(cfg_getnsec(cfg, "variant", i),
                          &playbook->variants[playbook->variant_count++]))
            return false;
    for (unsigned i = 0; i < phases; i++)
        if (!take_phase(cfg_getnsec(cfg, "phase", i), playbook))
            return false;
    return true;
}

static void watch_values(cfg_t *cfg)
{
    static const char *const keys[] = {
        "title", "about", "window", "setting|default", "setting|about", "variant|about",
    };
    char name[64];
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        cfg_set_validate_func(cfg, keys[i], on_value);
    for (const cfg_opt_t *opt = step_opts; opt->name; opt++) {
        (void)snprintf(name, sizeof(name), "phase|step|%s", opt->name);
        cfg_set_validate_func(cfg, name, on_value);
    }
}

static bool parse(char *text, size_t len, struct playbook *playbook)
{
    static char nothing[] = "\n";
    cfg_t *cfg = cfg_init(root_opts, CFGF_NONE);
    FILE *file = len > 0 ? fmemopen(text, len, "r") : fmemopen(nothing, 1, "r");
    bool good = cfg && file;
    if (!good) {
        fail(0, "out of memory");
    } else {
        cfg_set_error_function(cfg, on_error);
        watch_values(cfg);
        good = cfg_parse_fp(cfg, file) == CFG_SUCCESS && !load.failed
                   ? take_all(cfg, playbook)
                   : fail(0, "cannot be parsed");
    }
    if (file)
        fclose(file);
    if (cfg)
        cfg_free(cfg);
    return good;
}

/* A playbook has programs run: whose file it is, is looked at by the descriptor that is
 * read, so that nobody exchanges it in between. NULL: the mistake is noted. */
static char *read_source(const char *path, size_t *len)
{
    struct conf_mistake mistake;
    struct stat info;
    char self[40];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const char *mistrust = fd >= 0 && fstat(fd, &info) == 0 ? run_mistrust(&info) : NULL;
    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    char *text = mistrust ? NULL : conf_read_file(fd >= 0 ? self : path, len, &mistake);
    if (mistrust)
        fail(0, "%s", mistrust);
    else if (!text)
        fail(mistake.line, "%s", mistake.text);
    if (fd >= 0)
        close(fd);
    return text;
}

struct playbook *playbook_load(const char *path, action_find_fn *find, char *error,
                               size_t error_size)
{
    char wrong[PLAYBOOK_ERROR_MAX];
    size_t len = 0;
    int line = 0;
    struct playbook *playbook = calloc(1, sizeof(*playbook));
    load.path = path;
    load.error = error;
    load.size = error_size;
    load.failed = false;
    load.note_count = 0;
    load.notes = calloc(NOTES_MAX, sizeof(*load.notes));
    char *text = read_source(path, &len);
    bool good = false;
    if (!playbook || !load.notes)
        fail(0, "out of memory");
    else if (text && parse(text, len, playbook))
        good = playbook_check(playbook, find, &line, wrong, sizeof(wrong)) ||
               fail(line, "%s", wrong);
    free(load.notes);
    load.notes = NULL;
    if (good) {
        playbook->source = text;
        playbook->source_len = len;
        playbook->digest = fnv_hash(0, text, len);
        return playbook;
    }
    free(text);
    playbook_free(playbook);
    return NULL;
}

/* ---- the end --------------------------------------------------------------- */

static void free_list(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

void playbook_free_step(struct playbook_step *step)
{
    free(step->id);
    free(step->title);
    free(step->owner);
    free(step->text);
    free_list(step->rows);
    free_list(step->after);
    free_list(step->variants);
    free(step->needs);
    free_list(step->pre.argv);
    free_list(step->action.argv);
    free_list(step->post.argv);
    free_list(step->undo.argv);
}

void playbook_free_setting(struct playbook_setting *setting)
{
    free(setting->name);
    free(setting->about);
    free(setting->value);
}

void playbook_free(struct playbook *playbook)
{
    if (!playbook)
        return;
    for (size_t i = 0; i < playbook->step_count; i++)
        playbook_free_step(&playbook->steps[i]);
    for (size_t i = 0; i < playbook->setting_count; i++)
        playbook_free_setting(&playbook->settings[i]);
    for (size_t i = 0; i < playbook->variant_count; i++) {
        free(playbook->variants[i].name);
        free(playbook->variants[i].about);
    }
    free(playbook->variants);
    free(playbook->steps);
    free(playbook->settings);
    free_list(playbook->phases);
    free(playbook->name);
    free(playbook->path);
    free(playbook->source);
    free(playbook->title);
    free(playbook->about);
    free(playbook);
}
