/*
 * report: the milter's log lines about a message, one per managed recipient.
 * Their form is a contract (doc/architecture.md, "Logs"): audit reads them.
 */
#ifndef SLUICE_MILTER_REPORT_H
#define SLUICE_MILTER_REPORT_H

#include "apply.h"
#include "session.h"
#include "verify.h"

/* To be called when the plan was carried out. words: of struct verified, for the
 * end of each line. queue_id may be NULL. */
void report_message(const struct plan *plan, const struct session *session,
                    const char *words, const char *queue_id);
/* One line about a message for no managed mailbox, or one that is refused.
 * verdict: "none", "quarantine" or "reject"; reason: one word, or NULL. */
void report_verified(const struct session *session, const struct verified *verified,
                     const char *verdict, const char *reason, const char *queue_id);

/* Says once a minute, and whenever the text changes, why lookups fail. */
void report_store_trouble(const char *error);

#endif
