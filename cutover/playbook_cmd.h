/*
 * playbook_cmd: what the verbs of sluice playbook share.
 */
#ifndef SLUICE_PLAYBOOK_CMD_H
#define SLUICE_PLAYBOOK_CMD_H

#include "playbook_engine.h"

/* The domain's run, which must be there; engine_close() after EXIT_DONE. Else a message
 * was printed. */
int playbook_open_run(struct command_context *context, const char *domain, bool new_file,
                      struct engine *engine);
/* The step of that name; SIZE_MAX after a message. */
size_t playbook_step_named(const struct engine *engine, const char *id);

/* sluice playbook ack */
int playbook_ack(struct command_context *context, int argc, char **argv);

#endif
