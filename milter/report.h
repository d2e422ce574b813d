/*
 * report: the milter's log lines about a message, one per managed recipient.
 * Their form is a contract (doc/architecture.md, "Logs"): audit reads them.
 */
#ifndef SLUICE_MILTER_REPORT_H
#define SLUICE_MILTER_REPORT_H

#include "apply.h"
#include "session.h"

/* To be called when the plan was carried out. queue_id may be NULL. */
void report_message(const struct plan *plan, const struct session *session,
                    const char *queue_id);

/* Says once a minute, and whenever the text changes, why lookups fail. */
void report_store_trouble(const char *error);

#endif
