/*
 * alarm: what becomes of a condition that status_judge() finds: a line in the log
 * when it begins, again every ALARM_REPEAT_S while it lasts and when it is over, and
 * the configured command at the same moments. It releases nothing.
 *
 * The command (policyd { alarm-command }) is run without a shell, as policyd's own
 * unprivileged user, with the arguments of the configuration and no others, standard
 * input and output on /dev/null, and PATH, SLUICE_HOST, SLUICE_ALARM (the kind),
 * SLUICE_ALARM_ABOUT, SLUICE_ALARM_STATE ("raised", "still" or "over") and
 * SLUICE_ALARM_TEXT as its environment: a text that a stranger may have put there is
 * never part of a command line. One at a time; after ALARM_COMMAND_S it is killed,
 * with all that it started. Of several hosts one runs it (a lease in the store); when
 * the store is down each does. One that failed, or died with its host, is run again
 * until it has succeeded once (alarm_tell.h).
 *
 * One caller at a time.
 */
#ifndef SLUICE_POLICYD_ALARM_H
#define SLUICE_POLICYD_ALARM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "status.h"
#include "store.h"

#define ALARM_REPEAT_S         3600
#define ALARM_COMMAND_S        30
#define ALARM_COMMANDS_AN_HOUR 60

struct alarms;

struct alarms *alarms_new(void); /* NULL: no memory */
/* Before the end: gives back the lease of the command that runs, so that the next start,
 * or another host, runs it at once: an alarm told twice is better than one not told. */
void alarms_hand_back(struct alarms *alarms, struct store *store);
/* A command that still runs is killed. NULL is fine. */
void alarms_free(struct alarms *alarms);

/* Takes the conditions that hold now (status->alarms is not read), and writes those
 * that are alarms to out[] (room for STATUS_ALARMS_MAX), the oldest first; returns
 * how many. While status->up is false those that need the store stay as they were.
 * store: for the leases; NULL: none. now_ms is monotonic. */
size_t alarms_update(struct alarms *alarms, const struct status *status,
                     const struct alarm *conditions, size_t n, struct store *store,
                     int64_t now_ms, struct alarm *out);

/* Starts and ends commands. store: NULL when it cannot be asked. true: one runs; call
 * again soon. */
bool alarms_tick(struct alarms *alarms, const struct conf *conf, struct store *store,
                 int64_t now_ms);
/* Of how many alarms the command failed when it was run last. */
size_t alarms_untold(const struct alarms *alarms);

#endif
