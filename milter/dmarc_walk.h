/*
 * dmarc_walk: the DMARC records at the names that one domain is asked for; all of
 * them are asked for at once, and waited for one by one, as far as needed.
 */
#ifndef SLUICE_MILTER_DMARC_WALK_H
#define SLUICE_MILTER_DMARC_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dmarc_align.h"
#include "dmarc_record.h"
#include "resolver.h"

struct dmarc_walk {
    char domain[ADDR_DOMAIN_MAX + 1];
    enum conf_discovery rules; /* how records are read */
    size_t count;              /* names asked for */
    size_t known;              /* of them waited for; what follows is theirs */
    struct dmarc_step steps[DMARC_TREE_MAX];
    struct query *queries[DMARC_TREE_MAX];
    struct dmarc_record records[DMARC_TREE_MAX]; /* of DMARC_STEP_RECORD */
    bool several[DMARC_TREE_MAX]; /* ABSENT because there is more than one */
    bool bare;           /* DNS has nothing at or below _dmarc of the domain itself:
                            the domain may not exist */
    const char *trouble; /* of the step that FAILED */
};

/* Sets domain and rules; nothing is asked yet. false: the name is too long. */
bool dmarc_walk_start(struct dmarc_walk *walk, const char *domain,
                      enum conf_discovery rules);
/* name points into walk->domain; at most DMARC_TREE_MAX of them. */
void dmarc_walk_ask(struct dmarc_walk *walk, struct resolver *resolver, const char *name);
/* The steps of the tree walk whose names are longer than beyond ("": all). */
void dmarc_walk_ask_tree(struct dmarc_walk *walk, struct resolver *resolver,
                         const char *beyond);
void dmarc_walk_drop(struct dmarc_walk *walk);

/* Waits for the next step; there must be one. */
const struct dmarc_step *dmarc_walk_step(struct dmarc_walk *walk, int64_t deadline_ms);
/* Waits for all that are left, up to where a tree walk ends. The last known one;
 * NULL: nothing was asked. */
const struct dmarc_step *dmarc_walk_through(struct dmarc_walk *walk, int64_t deadline_ms);
/* The organisational domain by a tree walk; points into walk->domain. NULL: not
 * known, a step failed. */
const char *dmarc_walk_organisation(struct dmarc_walk *walk, int64_t deadline_ms);

#endif
