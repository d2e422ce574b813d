/*
 * figures: the milter's counters (lib/counters.h): which of them a message moves,
 * and the thread that writes them down every FIGURES_SECONDS.
 */
#ifndef SLUICE_MILTER_FIGURES_H
#define SLUICE_MILTER_FIGURES_H

#include "apply.h"
#include "session.h"
#include "verify.h"

#define FIGURES_SECONDS 5

/* A message at its end, with what was found out about it. */
void figures_message(const struct verified *verified);
/* The recipients of one that was decided, by what becomes of them. */
void figures_plan(const struct plan *plan, const struct session *session);

/* Starts the thread; conf is referenced. false: no threads. */
bool figures_start(struct conf *conf);
/* Writes once more, at the end. */
void figures_end(const struct conf *conf);

#endif
