/*
 * alarm_tell: the configured command of an alarm (alarm.h), run until it has succeeded
 * once. Private to alarm.c.
 *
 * A command that fails, is killed or cannot be started is run again after 1, 2, 4, 8
 * and then every 15 minutes, as long as the alarm lasts; the word that an alarm is over
 * is tried TELL_OVER_TRIES times. Of several hosts one tells each alarm: who does, and
 * how far that is, is a lease in the store:
 *
 *   lease:alarm:<kind>:<about>   "<host>:<pid>:<start> <phase> <failures> <since>"
 *     run     its command runs; for CLAIM_S: when that host dies, another takes over
 *     failed  not before the lease ends
 *     told    it has succeeded; until the alarm is told again (ALARM_REPEAT_S)
 *
 * So a restart neither repeats what was told nor forgets what was not, and starts
 * nothing early that failed. What was told of an alarm that ended while nobody looked
 * says nothing of the next one: that one began later (since, where the store's data have
 * it). A lease that lasts too long, as after the store's clock was set back, is taken
 * over. Without the store each host tells what it sees.
 */
#ifndef SLUICE_POLICYD_ALARM_TELL_H
#define SLUICE_POLICYD_ALARM_TELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "status.h"
#include "store.h"

enum moment { RAISED, STILL, OVER };

struct tell;

struct tell *tell_new(int64_t now_ms); /* NULL: no memory */
/* A command that runs is killed. */
void tell_free(struct tell *tell);
/* Before the end: another takes over what runs here. */
void tell_hand_back(struct tell *tell, struct store *store);

/* The command is to be run. store: NULL when it cannot be asked. */
void tell_order(struct tell *tell, const struct conf *conf, const struct alarm *alarm,
                enum moment moment, struct store *store, int64_t now_ms);
/* What the alarm says now, for a command that is still to be run. */
void tell_text(struct tell *tell, const struct alarm *alarm);

/* Starts and ends commands. true: one runs. */
bool tell_tick(struct tell *tell, const struct conf *conf, struct store *store,
               int64_t now_ms);

/* Alarms whose command failed when it was run last. */
size_t tell_failing(const struct tell *tell);

/* After so many failures in a row, in seconds. */
int tell_backoff_s(unsigned failures);

#endif
