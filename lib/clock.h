/*
 * clock: the two clocks. Waits and limits are measured on the monotonic one,
 * which no admin can set back.
 */
#ifndef SLUICE_CLOCK_H
#define SLUICE_CLOCK_H

#include <stdint.h>

/* Milliseconds since some moment that stays the same while the host runs. */
int64_t clock_ms(void);

#endif
