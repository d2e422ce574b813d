/*
 * lock_age: how long locks last, also when the store's clock is set back. A lock's own
 * time and the present one are the store's; once this process has seen a lock, it
 * grows at least as old as this process' monotonic clock says. A clock that is set
 * forward makes an alarm early, never late. What is known is lost with the process.
 *
 * One caller at a time. No I/O.
 */
#ifndef SLUICE_POLICYD_LOCK_AGE_H
#define SLUICE_POLICYD_LOCK_AGE_H

#include <stdbool.h>
#include <stdint.h>

struct lock_ages;

struct lock_ages *lock_ages_new(void); /* NULL: no memory */
void lock_ages_free(struct lock_ages *ages);

/* Before a look at all locks; now_ms is monotonic. */
void lock_ages_begin(struct lock_ages *ages, int64_t now_ms);
/* Since when, by the store's clock of now (both unix s), the lock has to be counted:
 * since itself, or earlier. The change (its number and letter) makes it unique in its
 * domain. */
int64_t lock_ages_since(struct lock_ages *ages, const char *domain, uint64_t epoch,
                        bool rollback, int64_t since, int64_t store_s);
/* After it. whole: all were seen, what was not is over. */
void lock_ages_end(struct lock_ages *ages, bool whole);

#endif
