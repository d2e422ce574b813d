/*
 * playbook_check: whether a playbook can be run. Pure, no I/O.
 *
 * Step ids are unique, dependencies exist and go round in no circle, every action
 * exists and gets as many arguments as it wants, pre- and post-checks change
 * nothing, what changes something has an undo or is declared a point of no
 * return, and every %{variable} is known. So a run never meets a step that it
 * cannot do, at three in the morning, with the mailboxes locked.
 */
#include "playbook.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

#define VARIABLE_MAX  64
#define ID_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789-"

struct checking {
    struct playbook *playbook;
    action_find_fn *find;
    int *line;
    char *error;
    size_t size;
};

__attribute__((format(printf, 3, 4))) static bool wrong(struct checking *c, int line,
                                                        const char *fmt, ...)
{
    va_list args;
    *c->line = line;
    va_start(args, fmt);
    if (vsnprintf(c->error, c->size, fmt, args) < 0 && c->size > 0)
        c->error[0] = '\0';
    va_end(args);
    return false;
}

size_t playbook_find(const struct playbook *playbook, const char *id)
{
    for (size_t i = 0; i < playbook->step_count; i++)
        if (strcmp(playbook->steps[i].id, id) == 0)
            return i;
    return SIZE_MAX;
}

const struct playbook_setting *playbook_setting(const struct playbook *playbook,
                                                const char *name)
{
    for (size_t i = 0; i < playbook->setting_count; i++)
        if (strcmp(playbook->settings[i].name, name) == 0)
            return &playbook->settings[i];
    return NULL;
}

/* ---- variables ------------------------------------------------------------ */

/* The next %{name} at or after *at; *at is left behind it. 1 found, 0 none,
 * -1 not closed or too long. */
static int next_variable(const char **at, char name[VARIABLE_MAX])
{
    const char *begin = strstr(*at, "%{");
    if (!begin)
        return 0;
    const char *end = strchr(begin, '}');
    size_t len = end ? (size_t)(end - begin) - 2 : 0;
    if (!end || len == 0 || len >= VARIABLE_MAX)
        return -1;
    memcpy(name, begin + 2, len);
    name[len] = '\0';
    *at = end + 1;
    return 1;
}

bool playbook_expand(const char *text, playbook_value_fn *value, void *context, char *out,
                     size_t size)
{
    char name[VARIABLE_MAX];
    size_t used = 0;
    for (const char *at = text;;) {
        const char *from = at;
        int found = next_variable(&at, name);
        const char *until = found == 1 ? strstr(from, "%{") : from + strlen(from);
        const char *with = found == 1 ? value(context, name) : "";
        size_t len = (size_t)(until - from), more = with ? strlen(with) : 0;
        if (!with || used + len + more >= size)
            return false;
        memcpy(out + used, from, len);
        memcpy(out + used + len, with, more);
        used += len + more;
        out[used] = '\0';
        if (found != 1)
            return found == 0;
    }
}

bool playbook_call_uses(const struct playbook_call *call, const char *variable)
{
    char name[VARIABLE_MAX];
    for (size_t i = 0; i < call->argc; i++)
        for (const char *at = call->argv[i]; next_variable(&at, name) == 1;)
            if (strcmp(name, variable) == 0)
                return true;
    return false;
}

static bool is_ours(const char *name)
{
    static const char *const ours[] = { "domain", "who", "step", "directory" };
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strcmp(ours[i], name) == 0)
            return true;
    return false;
}

static bool known_variable(const struct playbook *playbook, const char *name)
{
    return is_ours(name) || playbook_setting(playbook, name) != NULL;
}

static bool check_variables(struct checking *c, const char *text, int line)
{
    char name[VARIABLE_MAX];
    int found;
    for (const char *at = text; (found = next_variable(&at, name)) != 0;) {
        if (found < 0)
            return wrong(c, line, "\"%.60s\": %%{ without a name and }", text);
        if (!known_variable(c->playbook, name))
            return wrong(c, line,
                         "%%{%s} is not known: declare it with setting \"%s\" { }", name,
                         name);
    }
    return true;
}

/* ---- one step -------------------------------------------------------------- */

static bool check_call(struct checking *c, const char *what,
                       const struct playbook_call *call, const struct action_info **out)
{
    *out = NULL;
    if (!call->argv)
        return true;
    const struct action_info *info = c->find(call->argv[0]);
    int count = (int)call->argc - 1;
    if (!info)
        return wrong(c, call->line,
                     "%s: there is no action \"%s\" (sluice playbook "
                     "actions lists them)",
                     what, call->argv[0]);
    if (count < info->least || count > info->most)
        return wrong(c, call->line, "%s: write it as %s%s%s", what, info->name,
                     info->usage[0] ? " " : "", info->usage);
    for (size_t i = 1; i < call->argc; i++)
        if (!check_variables(c, call->argv[i], call->line))
            return false;
    *out = info;
    return true;
}

static bool is_look(const struct action_info *info)
{
    return !info || info->kind == ACTION_CHECK;
}

/* "timer DURATION [STEP]": what can be looked at before it runs. */
static bool check_timer(struct checking *c, const struct playbook_step *step)
{
    const struct playbook_call *call = &step->action;
    int seconds;
    if (strcmp(call->argv[0], "timer") != 0)
        return true;
    if (!strstr(call->argv[1], "%{") && !duration_parse(call->argv[1], &seconds))
        return wrong(c, call->line,
                     "timer \"%.40s\": not a duration: write it as 10m, "
                     "2h or 3d",
                     call->argv[1]);
    if (call->argc > 2 && playbook_find(c->playbook, call->argv[2]) == SIZE_MAX)
        return wrong(c, call->line, "timer: there is no step \"%.60s\"", call->argv[2]);
    return true;
}

static bool check_step(struct checking *c, const struct playbook_step *step)
{
    const struct action_info *pre, *action, *post, *undo;
    size_t len = strlen(step->id);
    if (len == 0 || len > PLAYBOOK_ID_MAX || strspn(step->id, ID_CHARACTERS) != len)
        return wrong(c, step->line, "step \"%.60s\": an id is 1 to %d of a-z, 0-9 and -",
                     step->id, PLAYBOOK_ID_MAX);
    if (!step->title[0] || !step->owner[0])
        return wrong(c, step->line, "step %s has no %s", step->id,
                     step->title[0] ? "owner: say who does it" : "title");
    for (char **name = step->variants; name && *name; name++)
        if (!playbook_variant(c->playbook, *name))
            return wrong(c, step->line,
                         "step %s: there is no variant \"%.40s\": declare it with "
                         "variant \"%.40s\" { }",
                         step->id, *name, *name);
    if (!check_call(c, "pre", &step->pre, &pre) ||
        !check_call(c, "action", &step->action, &action) ||
        !check_call(c, "post", &step->post, &post) ||
        !check_call(c, "undo", &step->undo, &undo) ||
        !check_variables(c, step->title, step->line) ||
        !check_variables(c, step->text, step->line))
        return false;
    if (!action)
        return wrong(c, step->line, "step %s has no action", step->id);
    if (!is_look(pre) || !is_look(post))
        return wrong(c, is_look(pre) ? step->post.line : step->pre.line,
                     "step %s: %s is not a check", step->id,
                     is_look(pre) ? "post" : "pre");
    if (action->kind == ACTION_CHANGE && !undo && !step->no_return)
        return wrong(
            c, step->action.line,
            "step %s changes something and has no undo: name one (undo = "
            "{\"nothing\"} when none is needed), or say point-of-no-return = true",
            step->id);
    if (undo && step->no_return)
        return wrong(c, step->undo.line,
                     "step %s is a point of no return and has an undo: it cannot be both",
                     step->id);
    if (undo && undo->kind == ACTION_TIME)
        return wrong(c, step->undo.line, "step %s: an undo does not wait", step->id);
    return check_timer(c, step);
}

static bool check_setting(struct checking *c, const struct playbook_setting *setting)
{
    size_t len = strlen(setting->name);
    if (len == 0 || len > PLAYBOOK_ID_MAX || strspn(setting->name, ID_CHARACTERS) != len)
        return wrong(c, setting->line,
                     "setting \"%.60s\": a name is 1 to %d of a-z, 0-9 and -",
                     setting->name, PLAYBOOK_ID_MAX);
    if (is_ours(setting->name) || strcmp(setting->name, "variant") == 0)
        return wrong(c, setting->line, "setting \"%s\": that name has a meaning already",
                     setting->name);
    if (setting->value && strstr(setting->value, "%{"))
        return wrong(c, setting->line,
                     "setting %s: a default is taken as it is, without "
                     "%%{...}",
                     setting->name);
    return true;
}

/* ---- dependencies ------------------------------------------------------------ */

static bool resolve_needs(struct checking *c, size_t index)
{
    struct playbook_step *step = &c->playbook->steps[index];
    size_t n = 0;
    while (step->after && step->after[n])
        n++;
    free(step->needs);
    step->need_count = 0;
    step->needs = calloc(n + 1, sizeof(*step->needs));
    if (!step->needs)
        return wrong(c, 0, "out of memory");
    if (!step->after_given && index > 0)
        step->needs[step->need_count++] = index - 1;
    for (size_t i = 0; i < n; i++) {
        size_t need = playbook_find(c->playbook, step->after[i]);
        if (need == SIZE_MAX)
            return wrong(c, step->line,
                         "step %s comes after \"%.60s\", which does not "
                         "exist",
                         step->id, step->after[i]);
        step->needs[step->need_count++] = need;
    }
    return true;
}

/* Walks back over the needs. state: 0 not seen, 1 on the way, 2 good. */
static bool walk(struct checking *c, size_t index, char *state)
{
    const struct playbook_step *step = &c->playbook->steps[index];
    if (state[index] == 2)
        return true;
    if (state[index] == 1)
        return wrong(c, step->line, "step %s comes after itself, in a circle", step->id);
    state[index] = 1;
    for (size_t i = 0; i < step->need_count; i++)
        if (!walk(c, step->needs[i], state))
            return false;
    state[index] = 2;
    return true;
}

static bool check_order(struct checking *c)
{
    char state[PLAYBOOK_STEPS_MAX] = { 0 };
    for (size_t i = 0; i < c->playbook->step_count; i++)
        if (!resolve_needs(c, i))
            return false;
    for (size_t i = 0; i < c->playbook->step_count; i++)
        if (!walk(c, i, state))
            return false;
    /* In the file's order, so that the document reads as it is done. */
    for (size_t i = 0; i < c->playbook->step_count; i++)
        for (size_t n = 0; n < c->playbook->steps[i].need_count; n++)
            if (c->playbook->steps[i].needs[n] > i)
                return wrong(
                    c, c->playbook->steps[i].line,
                    "step %s comes after %s, which stands below it: move it down",
                    c->playbook->steps[i].id,
                    c->playbook->steps[c->playbook->steps[i].needs[n]].id);
    return true;
}

bool playbook_check(struct playbook *playbook, action_find_fn *find, int *line,
                    char *error, size_t error_size)
{
    struct checking c = { playbook, find, line, error, error_size };
    *line = 0;
    if (playbook->step_count == 0)
        return wrong(&c, 0, "has no step");
    for (size_t i = 0; i < playbook->variant_count; i++) {
        const struct playbook_variant *variant = &playbook->variants[i];
        size_t len = strlen(variant->name);
        if (len == 0 || len > PLAYBOOK_ID_MAX ||
            strspn(variant->name, ID_CHARACTERS) != len)
            return wrong(&c, variant->line,
                         "variant \"%.60s\": a name is 1 to %d of a-z, 0-9 and -",
                         variant->name, PLAYBOOK_ID_MAX);
    }
    for (size_t i = 0; i < playbook->setting_count; i++)
        if (!check_setting(&c, &playbook->settings[i]))
            return false;
    for (size_t i = 0; i < playbook->step_count; i++) {
        const struct playbook_step *step = &playbook->steps[i];
        size_t first = playbook_find(playbook, step->id);
        if (first != i)
            return wrong(&c, step->line, "there is another step \"%.60s\" (line %d)",
                         step->id, playbook->steps[first].line);
        if (!check_step(&c, step))
            return false;
    }
    return check_order(&c);
}
