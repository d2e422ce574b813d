/*
 * playbook_claim: a step that keeps on its host what its undo needs (a snapshot of the
 * zone, the addresses before an import) is done and undone on that host alone. The run
 * has a field "@at.STEP" for it, the hostname of sluice.conf there.
 */
#ifndef SLUICE_PLAYBOOK_CLAIM_H
#define SLUICE_PLAYBOOK_CLAIM_H

#include "playbook_action.h"

#define CLAIM_WHAT_MAX 9000

/* Before anything is kept: the step is this host's from now on. kept names the files, for
 * whoever is told that it is another's. EXIT_DONE, or a code after a message. */
int claim_step(const struct action_context *context, const char *kept);
/* That it is no other host's. */
int claim_check(const struct action_context *context, const char *kept);

#endif
