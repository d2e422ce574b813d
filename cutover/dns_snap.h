/*
 * dns_snap: what was live before anything was touched, kept in
 * state-dir/dns/DOMAIN/TIME.zone: zone-file lines with a head of comments. Every
 * snapshot is kept. One that sluice dns apply takes also says what was then written.
 * dns_snap_format() and dns_snap_parse() are pure (dns_snap_text.c), and what is worked
 * out of snapshots (dns_snap_ttl.c).
 */
#ifndef SLUICE_DNS_SNAP_H
#define SLUICE_DNS_SNAP_H

#include "conf.h"
#include "dns_plan.h"

#define DNS_SNAPS_MAX 4096          /* of one domain that are looked at */
#define DNS_SNAP_MAX  (1024 * 1024) /* bytes of one; more is not written */

struct dns_snap {
    char name[64];                     /* of the file, without ".zone"; sorts by time */
    char zone[DNSRECORD_NAME_MAX + 1]; /* the zone's apex */
    int64_t taken;                     /* Unix time */
    uint32_t negative_ttl;
    struct dns_questions asked;
    struct dns_sets sets;
    struct dns_sets wild;        /* what wildcards made: in caches, not in the zone */
    struct dns_questions writes; /* the sets that apply was about to write */
    struct dns_sets written;     /* as what; one without records was to be removed */
    char back_to[64]; /* the snapshot that apply --back then went to; "": none */
};
void dns_snap_free(struct dns_snap *snap);

/* The text of a snapshot, malloc'ed; NULL: no memory. */
char *dns_snap_format(const struct dns_snap *snap, const char *domain);
/* Returns what is wrong with it, or NULL. The last line shows that it is whole, and as it
 * was written; a damaged text leads nowhere. */
const char *dns_snap_parse(const char *text, struct dns_snap *out);

/* Writes it (fsync) and sets snap->name. false: error is one line. */
bool dns_snap_write(const struct conf *conf, const char *domain, struct dns_snap *snap,
                    char *error, size_t error_size);
/* All of a domain, oldest first; *out malloc'ed, *count 0 when there are none. false:
 * error is one line; a damaged one is such an error. */
bool dns_snap_read(const struct conf *conf, const char *domain, struct dns_snap **out,
                   size_t *count, char *error, size_t error_size);
void dns_snap_free_all(struct dns_snap *snaps, size_t count);

/* The last one that differs from the plan: the way back. NULL: there is none. Pure. */
const struct dns_snap *dns_snap_last_old(const struct dns_snap *snaps, size_t count,
                                         const struct dns_sets *planned);
/* When the old records are out of every cache: each snapshot's sets that are not as
 * planned may have been handed out until the next snapshot, and the last such one until
 * agreed (when all servers first had the plan), which counts twice. *ttl: the one of
 * that last snapshot; 0: no snapshot differs from the plan. Pure. */
int64_t dns_snap_quiet(const struct dns_snap *snaps, size_t count,
                       const struct dns_sets *planned, int64_t agreed, uint32_t *ttl);

/* When the TTLs from before dns_plan_changes(DNS_AIM_TTL) have run out: a snapshot's
 * longer ones were given out until the next snapshot, those of the last until `since`
 * (when all servers first had the short ones). *ttl: the longest of them; 0: none. Pure.
 */
int64_t dns_snap_lowered(const struct dns_snap *snaps, size_t count,
                         const struct dns_sets *planned, int64_t since, uint32_t *ttl);

/* Until when caches may hold this name and type with a TTL longer than set has now, by
 * the snapshots: each may have been handed out until the next one was taken. *ttl: that
 * TTL; 0: no snapshot has a longer one. INT64_MAX: the last snapshot still has it, so it
 * is not known since when it is lower. Pure. */
int64_t dns_snap_cached(const struct dns_snap *snaps, size_t count,
                        const struct dns_set *set, uint32_t *ttl);

/* A file state-dir/dns/DOMAIN/NAME with that text, whole or not at all. */
bool dns_snap_note(const struct conf *conf, const char *domain, const char *name,
                   const char *text, char *path, size_t path_size, char *error,
                   size_t error_size);
/* The same file's text, malloc'ed; NULL: there is none, or it cannot be read. */
char *dns_snap_noted(const struct conf *conf, const char *domain, const char *name);
void dns_snap_forget(const struct conf *conf, const char *domain, const char *name);

#endif
