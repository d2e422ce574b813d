/*
 * playbook_engine: a run of a playbook in the store: reading it, doing its steps,
 * undoing them.
 *
 * One runner per domain (a lease); each step's record is written with the epochs
 * that it and the run were read with, so that of two operators one is refused, and
 * a runner that was asleep cannot write into a run that was begun meanwhile. A
 * runner that was killed leaves a step that "runs": the next one does it again,
 * since every action may be repeated.
 *
 * A run goes on with the file that it was started with: its record has the file's
 * digest, and a copy lies with the logs. An edited file is taken when it is asked
 * for.
 *
 * playbook_engine.c   names, reading, opening
 * playbook_write.c    records into the store, over outages
 * playbook_lease.c    one runner
 * playbook_keep.c     its directory, and that of an earlier run
 * playbook_run.c      steps forward
 * playbook_back.c     steps back
 * playbook_rehearsal.c  that it was rehearsed
 * playbook_child.c    the call of a step (playbook_guard.c: its process)
 */
#ifndef SLUICE_PLAYBOOK_ENGINE_H
#define SLUICE_PLAYBOOK_ENGINE_H

#include "command.h"
#include "lease.h"
#include "playbook.h"
#include "playbook_action.h"
#include "playbook_state.h"

#define ENGINE_PATH_MAX 4096
#define ENGINE_TEXT_MAX 4096

struct engine {
    struct command_context *context;
    const struct conf_domain *domain;
    struct playbook *playbook;
    struct run_record run;
    bool damaged;                        /* the run's record */
    bool new_file;                       /* take an edited playbook; before loading */
    struct step_record *records;         /* one per step */
    char *values[PLAYBOOK_SETTINGS_MAX]; /* set at the start; NULL: the default */
    char *who;
    char *variant;   /* chosen at the start; NULL: the first */
    char *rehearsed; /* note of the domain's last rehearsal; NULL: none */
    char directory[ENGINE_PATH_MAX];
    char by[STATE_BY_MAX + 1]; /* who runs this command */
    struct lease lease;        /* held: this command is the runner */
    int64_t now;               /* unix s, the store's clock, at engine_read() */
    /* For the last report of a run: where its papers will be, and the playbook that is
     * begun in its place. NULL: they stay. */
    const char *kept_as, *kept_for;
};

/* Path of the playbook of that name (or of a path). false: too long. */
bool engine_path(const struct conf *conf, const char *name, char out[ENGINE_PATH_MAX]);
/* The copy of a run's file. false: too long. */
bool engine_copy_path(const struct engine *engine, const char *playbook, uint64_t digest,
                      char out[ENGINE_PATH_MAX]);

/* The domain's run by itself (out->run), without its playbook. EXIT_DONE, or a
 * message and its code. run.state RUN_NONE: there is none. */
int engine_begin(struct command_context *context, const char *domain, struct engine *out);
/* The run's playbook and steps, after engine_begin(). */
int engine_load(struct engine *engine);
int engine_read(struct engine *engine); /* the run and its steps, again */
/* Makes the directory of logs and papers; one of an earlier run is put aside. */
int engine_directory(struct engine *engine);
/* ... without making one. kept: where the earlier one is now; "": there was none. */
int engine_own_directory(struct engine *engine, char kept[ENGINE_PATH_MAX]);
/* Before another run takes the place of the one that is there: writes its report.
 * Under the lease. */
int engine_keep_run(struct engine *engine, const char *instead);
/* The start of a run that is begun now: its name in its papers, which no two share. */
int64_t engine_next_start(const struct engine *engine);
/* The directory of a run that is begun, until the store has it: empty. */
int engine_new_directory(const struct engine *engine, int64_t started,
                         char out[ENGINE_PATH_MAX]);
void engine_close(struct engine *engine);

/* A file in the run's directory, whole or not at all. */
int engine_keep_text(const char *path, const char *text, size_t len);
/* Keeps the playbook's file for the run. */
int engine_keep_file(const struct engine *engine, const struct playbook *playbook);
/* Makes the file of now (new_file) that of the run; under the lease. */
int engine_take_file(struct engine *engine);

/* Writes a step's record (state checked against the table). */
int engine_put(struct engine *engine, size_t step, enum step_state state, int64_t due,
               bool acted, const char *by, const char *note);
int engine_put_run(struct engine *engine, const struct run_record *run);
/* Writes that this rehearsal is at its end, and the note of it. */
int engine_finish_rehearsal(struct engine *engine);
/* Fields of the run; the first one's epoch is `expect`. */
int engine_put_fields(struct engine *engine, const struct playbook_put *what,
                      uint64_t *epoch);

/* value of a variable, for playbook_expand(); context is a struct engine_names. */
struct engine_names {
    const struct engine *engine;
    const char *step;
};
const char *engine_value(void *names, const char *name);
/* Title or text of a step with its variables' values. Returns out. */
const char *engine_text(const struct engine *engine, size_t step, const char *text,
                        char out[ENGINE_TEXT_MAX]);

/* Runs one call in a process of its own; note gets its last line. */
int engine_call(struct engine *engine, const struct playbook_step *step,
                const struct playbook_call *call, char note[STATE_NOTE_MAX + 1]);

/* Who this command is for the lease. */
void engine_name_holder(struct engine *engine);
/* Takes, or renews when it is time. */
int engine_lease(struct engine *engine);
void engine_release(struct engine *engine);

/* Writes a failure and says it. */
int engine_fail(struct engine *engine, size_t step, const char *when, const char *reason);
/* All that can be done now. window_s: the new length of the change window; 0: as it
 * is. until: neither this step nor one after it is begun; SIZE_MAX: to the end. */
int engine_run(struct engine *engine, bool wait, int window_s, size_t until);
/* Every check of the steps before `until`, and no action. */
int engine_dry_run(struct engine *engine, size_t until);
/* Back to before step `first`. */
int engine_rollback(struct engine *engine, size_t first);

#endif
