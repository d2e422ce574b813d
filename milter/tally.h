/*
 * tally: counts who sends as a managed domain, in memory, and hands it to the
 * store every few seconds: no message waits for a figure. Bounded; thread-safe.
 */
#ifndef SLUICE_MILTER_TALLY_H
#define SLUICE_MILTER_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "authresult.h"
#include "conf.h"
#include "netaddr.h"
#include "store.h"

struct tally_entry {
    const struct netaddr *client;
    const char *helo;
    const char *envelope; /* canonical domain of MAIL FROM; "" null sender */
    const char *from;     /* domain of From; or "" */
    enum auth_result spf, dkim, dmarc; /* dkim: pass when any signature passed */
    bool would_fail;
};

struct tally;
struct tally *tally_new(void); /* NULL: no memory */
void tally_free(struct tally *tally);

/* Counts the message under the managed domain of From and, where that is
 * another one, that of the envelope (each itself or a parent of it); under none:
 * nothing is kept. would_fail counts for the domain of the envelope alone, whose SPF
 * record it is about. Never fails: what has no room goes to "*", TALLY_ROWS_MAX. */
#define TALLY_ROWS_MAX 4096
void tally_add(struct tally *tally, const struct conf *conf,
               const struct tally_entry *entry, int64_t now);

/* Whether there is something that waits since TALLY_HOLD_MS. */
#define TALLY_HOLD_MS 2000
bool tally_due(const struct tally *tally, int64_t now_ms);
/* Hands all of it to the store. What fails is kept and added again later. */
void tally_flush(struct tally *tally, struct store *store, int64_t now_ms);

#endif
