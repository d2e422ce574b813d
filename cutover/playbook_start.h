/* playbook_start: `sluice playbook start`. */
#ifndef SLUICE_PLAYBOOK_START_H
#define SLUICE_PLAYBOOK_START_H

#include "command.h"

int playbook_start(struct command_context *context, int argc, char **argv);

#endif
