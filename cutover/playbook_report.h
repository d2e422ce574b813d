/*
 * playbook_report: a playbook as a document to hand round (playbook_plan.c), and what a
 * run did as a report (playbook_report.c). Text, Markdown, or one HTML page without
 * anything outside itself; what comes from outside (notes, names, settings, the playbook)
 * is escaped for each.
 */
#ifndef SLUICE_PLAYBOOK_REPORT_H
#define SLUICE_PLAYBOOK_REPORT_H

#include "playbook_engine.h"

enum paper { PAPER_TEXT, PAPER_MARKDOWN, PAPER_HTML };

/* Escaped for a table cell or a paragraph of that paper; to be freed. NULL: no
 * memory. */
char *paper_escape(enum paper paper, const char *text);

/* The plan, and the report of a run, on standard output. EXIT_DONE, or a message and
 * its code. */
int paper_plan(const struct playbook *playbook, enum paper paper);
int paper_report(const struct engine *engine, enum paper paper);
/* report.md and report.html in the run's directory. */
int paper_keep(const struct engine *engine);
void paper_document(const struct playbook *playbook); /* the plan as --json */

/* The run of an action's domain, to be closed, and the path of a paper in its
 * directory. EXIT_DONE, or a message and its code. */
int paper_run(struct action_context *context, const char *file, struct engine *engine,
              char path[ENGINE_PATH_MAX]);
/* The actions "plan" and "report": plan.html, report.html in the run's directory. */
int action_plan(struct action_context *context, int argc, char **argv);
int action_report(struct action_context *context, int argc, char **argv);

#endif
