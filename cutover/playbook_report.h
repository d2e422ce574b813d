/*
 * playbook_report: a playbook as a document to hand round, and a run as status
 * and report. Markdown, or one HTML page without anything outside itself; what
 * comes from outside (notes, names, settings) is escaped for either.
 */
#ifndef SLUICE_PLAYBOOK_REPORT_H
#define SLUICE_PLAYBOOK_REPORT_H

#include "playbook_engine.h"

enum paper { PAPER_TEXT, PAPER_MARKDOWN, PAPER_HTML };

/* Escapes for a table cell or a paragraph of that kind of paper; cut to fit. */
void paper_escape(enum paper paper, const char *text, char *out, size_t size);

void paper_plan(const struct playbook *playbook, enum paper paper);
void paper_document(const struct playbook *playbook); /* --json */
void paper_status(const struct engine *engine);       /* and --json */
void paper_report(const struct engine *engine, enum paper paper);

#endif
