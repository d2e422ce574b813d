/*
 * dmarc_record: one DMARC record to values (RFC 7489 6.3, RFC 9989 4.7).
 * libopendmarc reads it; what 1.4.2 does wrong is mended in front of it: see
 * dmarc_record.c, which alone knows libopendmarc. Pure.
 */
#ifndef SLUICE_MILTER_DMARC_RECORD_H
#define SLUICE_MILTER_DMARC_RECORD_H

#include <stdbool.h>
#include <stddef.h>

#include "conf.h"
#include "dmarc.h"

/* A longer record is not read: it is one without a valid policy. */
#define DMARC_RECORD_MAX 4096

enum dmarc_psd { DMARC_PSD_UNSAID, DMARC_PSD_YES, DMARC_PSD_NO };

struct dmarc_record {
    bool usable;                 /* false: DMARC is not applied (RFC 7489 6.6.3 step 6) */
    const char *trouble;         /* what is wrong with its policy, static text; or NULL */
    enum dmarc_policy p, sp, np; /* sp is p, and np is sp, where there is none */
    bool has_sp, has_np;
    bool adkim_strict, aspf_strict;
    int pct;      /* 0 to 100; 100 by the rules of RFC 9989 */
    bool testing; /* t=y; by these and the next two RFC 9989 only */
    enum dmarc_psd psd;
};

/* Whether a TXT record is to be a DMARC record at all: its first tag is
 * v=DMARC1, spelled exactly so but for white space. */
bool dmarc_record_claims(const char *text, size_t len);

/* text: claims to be one. The rules are those of RFC 7489 (DISCOVERY_PSL) or of
 * RFC 9989 (DISCOVERY_TREEWALK). */
void dmarc_record_parse(const char *text, size_t len, enum conf_discovery rules,
                        struct dmarc_record *out);

/* The values of one that is too long or malformed beyond reading. */
void dmarc_record_unusable(struct dmarc_record *out, const char *trouble);

#endif
