/*
 * spf_prefetch: see spf_prefetch() in spf.h, which is this.
 */
#ifndef SLUICE_MILTER_SPF_PREFETCH_H
#define SLUICE_MILTER_SPF_PREFETCH_H

#include "resolver.h"
#include "spf.h"

void spf_prefetch_begin(struct resolver *resolver, const struct spf_question *question);

#endif
