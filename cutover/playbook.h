/*
 * playbook: a migration as phases and steps, read from a file.
 *
 * A playbook is read whole (playbook_file.c, libConfuse), checked whole
 * (playbook_check.c: ids, actions, dependencies, undo, variables), and immutable
 * from then on. Every mistake is one line "file:12: ...".
 *
 *     title  = "Hold, sync, flip"
 *     window = 6h
 *     setting "helpline" { about = "whom users call" }
 *     phase "Service transition" {
 *         step "lock" {
 *             title   = "Delivery is put on hold"
 *             owner   = "provider"
 *             rows    = {"27"}                  # of the source document
 *             action  = {"lock", "%{who}"}
 *             undo    = {"unlock", "%{who}"}
 *             usually = 2m
 *         }
 *     }
 *
 * A step comes after the one before it, or after those that `after` names. With
 *     variant "continuity" { about = "..." }
 * the playbook has variants; a step with variants = {"continuity"} is in those alone.
 */
#ifndef SLUICE_PLAYBOOK_H
#define SLUICE_PLAYBOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLAYBOOK_STEPS_MAX    200
#define PLAYBOOK_SETTINGS_MAX 64
#define PLAYBOOK_VARIANTS_MAX 8
#define PLAYBOOK_ID_MAX       40
#define PLAYBOOK_TEXT_MAX     2000
#define PLAYBOOK_ARGS_MAX     24
#define PLAYBOOK_ERROR_MAX    1024

/* An action with its arguments; none: argv is NULL. */
struct playbook_call {
    char **argv; /* argv[0] is the action's name; NULL-terminated */
    size_t argc;
    int line;
};

struct playbook_step {
    char *id, *title, *owner;
    char *text;  /* instructions for a person; "" when there are none */
    char **rows; /* of the source document */
    char **after;
    bool after_given;
    char **variants; /* none: it is in every one */
    size_t *needs; /* indexes of the steps it comes after */
    size_t need_count;
    size_t phase;
    struct playbook_call pre, action, post, undo;
    bool no_return;     /* after it there is no way back */
    bool whole;         /* of the whole domain: left out of a rehearsal */
    bool opens, closes; /* the change window */
    int usually_s;
    int limit_s; /* of its action */
    int line;
};

struct playbook_setting {
    char *name, *about;
    char *value; /* default; NULL: must be given at the start */
    int line;
};

struct playbook_variant {
    char *name, *about;
    int line;
};

struct playbook {
    char *name, *path, *title, *about;
    char *source; /* the file, source_len bytes */
    size_t source_len;
    uint64_t digest; /* of it: tells an edited file, not a forged one */
    int window_s;
    char **phases;
    size_t phase_count;
    struct playbook_step *steps;
    size_t step_count;
    struct playbook_setting *settings;
    size_t setting_count;
    struct playbook_variant *variants;
    size_t variant_count;
    const char *variant; /* the one that playbook_select() left; NULL: none or all */
};

/* What the checks and the engine need to know of an action. */
enum action_kind {
    ACTION_CHECK,  /* looks, changes nothing */
    ACTION_WRITE,  /* writes an artefact for a person */
    ACTION_CHANGE, /* changes something: wants an undo */
    ACTION_PERSON, /* somebody has to acknowledge it */
    ACTION_TIME,   /* waits for a time */
};
struct action_info {
    const char *name;
    enum action_kind kind;
    int least, most; /* arguments */
    const char *usage;
};
/* NULL: no such action. */
typedef const struct action_info *action_find_fn(const char *name);

/* Reads and checks. NULL: error has the line. */
struct playbook *playbook_load(const char *path, action_find_fn *find, char *error,
                               size_t error_size);
void playbook_free(struct playbook *playbook);
void playbook_free_step(struct playbook_step *step);
void playbook_free_setting(struct playbook_setting *setting);

/* NULL: no such variant. */
const struct playbook_variant *playbook_variant(const struct playbook *playbook,
                                                const char *name);
/* Leaves the steps of one variant (NULL: the first, or all where there are none) and
 * the settings that they use. false: error has the line. */
bool playbook_select(struct playbook *playbook, const char *variant, action_find_fn *find,
                     char *error, size_t error_size);

/* Checks and resolves dependencies; pure. false: error is "line N: ...", or
 * without a line. *line is 0 for those. */
bool playbook_check(struct playbook *playbook, action_find_fn *find, int *line,
                    char *error, size_t error_size);

/* SIZE_MAX: no such step. */
size_t playbook_find(const struct playbook *playbook, const char *id);
const struct playbook_setting *playbook_setting(const struct playbook *playbook,
                                                const char *name);
/* Whether an argument of the call has the variable in it. */
bool playbook_call_uses(const struct playbook_call *call, const char *variable);

/* Replaces %{name} by what value() answers (never NULL for a name that was
 * checked). false: it does not fit. */
typedef const char *playbook_value_fn(void *context, const char *name);
bool playbook_expand(const char *text, playbook_value_fn *value, void *context, char *out,
                     size_t size);

#endif
