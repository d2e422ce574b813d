/*
 * dns_back: the way back to a snapshot. It undoes what sluice wrote, and nothing
 * that somebody else did since. Pure.
 *
 * A set goes back when what is live is what sluice wrote (as the snapshots note it,
 * or as it is planned: the change may have been made by hand). What is neither that
 * nor the snapshot's stays as it is, and is listed. Judged by itself is
 *   - each set, and of MX records also: one that somebody has added stays, where it
 *     comes after all that the snapshot has (a higher number: a fallback);
 *   - of TXT records those of one kind (SPF, DKIM, DMARC), and each one that is
 *     nobody's (TXT_OTHER).
 */
#ifndef SLUICE_DNS_BACK_H
#define SLUICE_DNS_BACK_H

#include "dns_snap.h"

/* A set that stays, all of it or the TXT records of one kind. */
struct dns_left {
    char *name;
    enum dns_type type;
    struct dns_sets was, wrote, live; /* one set of that kind, or none: no records */
    bool ours; /* sluice wrote it, and that is not undone. Else it never was sluice's */
};

struct dns_back {
    struct dns_changes changes;
    struct dns_left *left;
    size_t left_count;
};

struct dns_way {
    const struct dns_snap *to;    /* the snapshot */
    const struct dns_snap *snaps; /* all of the domain: what sluice wrote, and to what */
    size_t snap_count;
    const struct dns_sets *planned;
    const struct dns_sets *live;
    struct dns_questions forced;  /* these go back, whatever is live */
    struct dns_questions skipped; /* these are not looked at */
};

/* false: no memory. out is to be freed either way. */
bool dns_back(const struct dns_way *way, struct dns_back *out);
void dns_back_free(struct dns_back *back);

#endif
