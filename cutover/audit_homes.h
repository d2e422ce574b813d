/*
 * audit_homes: where each mailbox lived at which time, for the ledger to judge
 * deliveries by.
 *
 * From a journal (lib/journal.h): every host that takes part has the same one, so this
 * host's is as good as another's, or a copy of one that is given. It tells the changes
 * of every mailbox, with their times by the clock of Redis in whole seconds, and the
 * side of every host. When a lock was complete, host by host, only policyd's log lines
 * tell ("fence: confirmed up to change N on HOST").
 *
 * A delivery into a locked mailbox is wrong when it was logged after that host's
 * confirmation, in a later second; before, it is harmless: the sync had not begun.
 * One into a mailbox that lives on the other side is wrong when it had done so for
 * CLOCKS_S seconds. Where nothing is known, nothing is judged.
 */
#ifndef SLUICE_AUDIT_HOMES_H
#define SLUICE_AUDIT_HOMES_H

#include "audit_ledger.h"
#include "conf.h"

#define AUDIT_CLOCKS_S 2 /* so far apart a host's clock and that of Redis may be */

struct audit_homes;

struct audit_homes *audit_homes_new(const struct conf *conf); /* NULL: no memory */
void audit_homes_free(struct audit_homes *homes);

/* false: error is one line. A journal that is not there: true, and
 * audit_homes_changes() is 0. */
bool audit_homes_load(struct audit_homes *homes, const char *path, char *error,
                      size_t error_size);
size_t audit_homes_changes(const struct audit_homes *homes);

/* One change, as audit_homes_load() takes them, in their order. false: no memory. */
bool audit_homes_event(struct audit_homes *homes, const struct event *event);

/* name is the log's: "mx1" stands for "mx1.example.com" where no other host begins so.
 * audit_homes_name(): the admin says so (HOST=old). */
enum ledger_side audit_homes_side(const struct audit_homes *homes, const char *name);
bool audit_homes_name(struct audit_homes *homes, const char *name, enum ledger_side side);

void audit_homes_fence(struct audit_homes *homes, struct log_slice host, uint64_t change,
                       int64_t us);
/* Whether any line of policyd of that host was there. */
bool audit_homes_has_fence(const struct audit_homes *homes, const char *host);

enum ledger_judged audit_homes_judge(const struct audit_homes *homes, const char *mailbox,
                                     const char *host, enum ledger_side side,
                                     int64_t from_us, int64_t to_us);

#endif
