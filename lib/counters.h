/*
 * counters: what sluice-milter has counted since its start, kept in memory and
 * written every few seconds to <state-dir>/milter.counters, where policyd of the
 * same host reads it for its metrics. A file, not Redis: it costs no round trip, and
 * an outage of Redis is when these figures are looked at.
 *
 * Text: "sluice-milter 1 <unix s when written>\n", then "<name> <number>\n" each; a
 * reader leaves out names that it does not know. Never read half-written (renamed).
 */
#ifndef SLUICE_COUNTERS_H
#define SLUICE_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "authresult.h"
#include "conf.h"

enum counter {
    COUNTER_MESSAGES, /* at their end, managed or not */
    COUNTER_DELIVER,  /* recipients of managed domains by verdict */
    COUNTER_HOLD,
    COUNTER_FORWARD,
    COUNTER_REDIRECT,
    COUNTER_LATER,
    COUNTER_REJECTED,       /* messages, by a DMARC policy or for forged results */
    COUNTER_QUARANTINED,    /* messages, by a DMARC policy */
    COUNTER_STORE_FAILURES, /* messages whose lookup failed */
    COUNTER_SPF,            /* + enum auth_result: messages by result */
    COUNTER_DKIM = COUNTER_SPF + AUTH_RESULTS,
    COUNTER_DMARC = COUNTER_DKIM + AUTH_RESULTS,
    COUNTER_COUNT = COUNTER_DMARC + AUTH_RESULTS,
};

/* "messages", ..., "spf_pass", ... */
const char *counter_name(enum counter counter, char out[32]);
/* Thread-safe, cheap. */
void counters_add(enum counter counter);

/* Writes those of this process. false: errno. */
bool counters_save(const struct conf *conf, int64_t now);

struct counters_read {
    int64_t updated; /* unix s */
    uint64_t count[COUNTER_COUNT];
};
/* false: there is no such file, or it is none. */
bool counters_load(const struct conf *conf, struct counters_read *out);

#endif
