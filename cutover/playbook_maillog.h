/*
 * playbook_maillog: what actions take from a mail log, with its rotated files
 * (log_reader.h).
 */
#ifndef SLUICE_PLAYBOOK_MAILLOG_H
#define SLUICE_PLAYBOOK_MAILLOG_H

#include "playbook_action.h"

/* submitters.csv: which clients and users send as the domain through this server.
 * EXIT_DONE, or another code after a message. */
int maillog_submitters(struct action_context *context, const char *path, size_t *count);

/* sluice-milter's judgments since (unix s), one per message. */
typedef void maillog_verdict_fn(void *context, const char *from, const char *client,
                                bool passed);
int maillog_verdicts(const char *path, int64_t since, maillog_verdict_fn *each,
                     void *context);

/* Addresses (canonical) that mail was delivered to. false: stop. */
typedef bool maillog_address_fn(void *context, const char *address);
int maillog_delivered(const char *path, maillog_address_fn *each, void *context);

#endif
