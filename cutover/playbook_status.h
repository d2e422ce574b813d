/*
 * playbook_status: where a run stands, for a person at a terminal and as --json.
 * All by print(): a hostile note cannot move the cursor.
 */
#ifndef SLUICE_PLAYBOOK_STATUS_H
#define SLUICE_PLAYBOOK_STATUS_H

#include "output.h"
#include "playbook_engine.h"

/* lines: of the terminal that it should fit (phases that are over or not begun are
 * one line then, and so on); 0: everything. */
void status_print(const struct engine *engine, unsigned lines);
/* One line of `list`: domain, playbook, state, steps done, next. */
void status_row(const struct engine *engine, struct sheet *sheet, doc *list);

#endif
