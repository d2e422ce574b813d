/*
 * playbook_each: what the journal of a step that copied mailboxes says.
 */
#ifndef SLUICE_PLAYBOOK_EACH_H
#define SLUICE_PLAYBOOK_EACH_H

#include "playbook_action.h"
#include "table.h"

/* <step>.journal: the mailboxes of which the last copy of this run ended well, with when
 * it began (unix s, decimal), are put into began. EXIT_DONE, or another code after a
 * message. */
int each_journal(const struct action_context *context, const char *step,
                 struct table *began);

#endif
