/*
 * DMARC records, by both sets of rules: values stay in their ranges, and what is
 * not usable never asks for anything.
 *
 * Sources: milter/dmarc_record.c
 * Libraries: -lopendmarc
 */
#include "../../milter/dmarc_record.h"
#include "fuzz.h"

static void check(const char *text, size_t size, enum conf_discovery rules)
{
    struct dmarc_record record;

    memset(&record, 'x', sizeof(record));
    dmarc_record_parse(text, size, rules, &record);
    HOLDS(record.p <= DMARC_REJECT && record.sp <= DMARC_REJECT);
    HOLDS(record.np <= DMARC_REJECT && record.psd <= DMARC_PSD_NO);
    HOLDS(record.pct >= 0 && record.pct <= 100);
    if (rules == DISCOVERY_TREEWALK)
        HOLDS(record.pct == 100);
    else
        HOLDS(!record.testing && record.psd == DMARC_PSD_UNSAID);
    if (!record.usable)
        HOLDS(record.p == DMARC_NONE && record.sp == DMARC_NONE &&
              record.np == DMARC_NONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = exact_copy(data, size);

    if (dmarc_record_claims(text, size)) {
        check(text, size, DISCOVERY_PSL);
        check(text, size, DISCOVERY_TREEWALK);
    }
    free(text);
    return 0;
}
