/*
 * playbook_engine: a run of a playbook in the store: reading it, doing its steps,
 * undoing them.
 *
 * One runner per domain (a lease); each step's record is written with the epoch
 * that it was read with, so that of two operators one is refused. A runner that
 * was killed leaves a step that "runs": the next one does it again, since every
 * action may be repeated.
 */
#ifndef SLUICE_PLAYBOOK_ENGINE_H
#define SLUICE_PLAYBOOK_ENGINE_H

#include "command.h"
#include "playbook.h"
#include "playbook_action.h"
#include "playbook_state.h"

#define ENGINE_PATH_MAX 4096

struct engine {
    struct command_context *context;
    const struct conf_domain *domain;
    struct playbook *playbook;
    struct run_record run;
    struct step_record *records;         /* one per step */
    char *values[PLAYBOOK_SETTINGS_MAX]; /* set at the start; NULL: the default */
    char *who;
    char directory[ENGINE_PATH_MAX];
    char by[STATE_BY_MAX + 1]; /* who runs this command */
    char holder[160];          /* of the lease */
    int64_t lease_at;          /* when to renew it */
    bool lost;                 /* the lease */
    int64_t now;               /* unix s, the store's clock, at engine_read() */
};

/* Path of the playbook of that name (or of a path). false: too long. */
bool engine_path(const struct conf *conf, const char *name, char out[ENGINE_PATH_MAX]);
/* "user@host". */
void engine_operator(char out[STATE_BY_MAX + 1]);

/* Reads the domain's run and its playbook; EXIT_DONE, or a message and its code;
 * EXIT_CHECK without a message when there is no run and none is asked for. */
int engine_open(struct command_context *context, const char *domain, struct engine *out);
int engine_read(struct engine *engine); /* again */
void engine_close(struct engine *engine);

/* Writes a step's record (state checked against the table). */
int engine_put(struct engine *engine, size_t step, enum step_state state, int64_t due,
               const char *by, const char *note);
int engine_put_run(struct engine *engine, const struct run_record *run);

/* value of a variable, for playbook_expand(); context is a struct engine_names. */
struct engine_names {
    const struct engine *engine;
    const char *step;
};
const char *engine_value(void *names, const char *name);

/* Runs one call in a child; note gets its last line. */
int engine_call(struct engine *engine, const struct playbook_step *step,
                const struct playbook_call *call, char note[STATE_NOTE_MAX + 1]);

int engine_lease(struct engine *engine);
void engine_release(struct engine *engine);

/* All that can be done now. */
int engine_run(struct engine *engine, bool wait);
/* Every check, and no action. */
int engine_dry_run(struct engine *engine);
/* Back to before step `first`. */
int engine_rollback(struct engine *engine, size_t first);

#endif
