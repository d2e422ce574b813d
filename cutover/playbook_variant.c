/*
 * playbook_variant: the variants of a playbook, and one of them by itself.
 *
 * A playbook may declare variants; the first is the one unless another is chosen at
 * the start. A step that names variants belongs to those alone. Choosing one drops
 * the other steps, and the settings that only those used: whatever reads the
 * playbook after that sees a plain one.
 */
#include <stdio.h>
#include <string.h>

#include "playbook.h"

const struct playbook_variant *playbook_variant(const struct playbook *playbook,
                                                const char *name)
{
    for (size_t i = 0; i < playbook->variant_count; i++)
        if (strcmp(playbook->variants[i].name, name) == 0)
            return &playbook->variants[i];
    return NULL;
}

static bool has(char *const *list, const char *name)
{
    for (; list && *list; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

static bool is_kept(const struct playbook_step *step, const char *variant)
{
    return !step->variants || !step->variants[0] || has(step->variants, variant);
}

static bool uses(const struct playbook_step *step, const char *name)
{
    char *texts[] = { step->title, step->text, NULL };
    const struct playbook_call instructions = { .argv = texts, .argc = 2 };
    return playbook_call_uses(&step->pre, name) ||
           playbook_call_uses(&step->action, name) ||
           playbook_call_uses(&step->post, name) ||
           playbook_call_uses(&step->undo, name) ||
           playbook_call_uses(&instructions, name);
}

/* A setting that no step mentions at all may be used by the text of a notice. */
static void keep_settings(struct playbook *playbook, const char *variant)
{
    size_t kept = 0;
    for (size_t i = 0; i < playbook->setting_count; i++) {
        struct playbook_setting setting = playbook->settings[i];
        bool used = false, was_used = false;
        for (size_t s = 0; s < playbook->step_count && !used; s++) {
            const struct playbook_step *step = &playbook->steps[s];
            bool here = uses(step, setting.name);
            used = here && is_kept(step, variant);
            was_used = was_used || here;
        }
        if (used || !was_used)
            playbook->settings[kept++] = setting;
        else
            playbook_free_setting(&setting);
    }
    playbook->setting_count = kept;
}

static void keep_steps(struct playbook *playbook, const char *variant)
{
    size_t kept = 0;
    for (size_t i = 0; i < playbook->step_count; i++) {
        struct playbook_step step = playbook->steps[i];
        if (is_kept(&step, variant))
            playbook->steps[kept++] = step;
        else
            playbook_free_step(&step);
    }
    playbook->step_count = kept;
}

bool playbook_select(struct playbook *playbook, const char *variant, action_find_fn *find,
                     char *error, size_t size)
{
    char wrong[PLAYBOOK_ERROR_MAX];
    int line;
    if (playbook->variant_count == 0 && !variant)
        return true;
    const struct playbook_variant *chosen =
        !variant ? &playbook->variants[0] : playbook_variant(playbook, variant);
    if (!chosen) {
        (void)snprintf(error, size, "playbook %s has no variant \"%.40s\": %s%s",
                       playbook->name, variant, "sluice playbook show ", playbook->name);
        return false;
    }
    playbook->variant = chosen->name;
    keep_settings(playbook, chosen->name);
    keep_steps(playbook, chosen->name);
    if (playbook_check(playbook, find, &line, wrong, sizeof(wrong)))
        return true;
    (void)snprintf(error, size, "%s:%d: variant %s: %.700s", playbook->path, line,
                   chosen->name, wrong);
    return false;
}
