/*
 * targets: what ADDRESS|DOMAIN|@FILE... on a command line stands for.
 *
 * Addresses and domains are parsed by lib/addr.h, other names of a domain
 * (same-as) count as the managed one. "@FILE" holds one address or domain per
 * line ("@-": standard input); empty lines and what follows '#' at the start of
 * a line or after a space are comments.  Naming something twice is no fault, and
 * a domain named whole takes in its single addresses.
 *
 * Errors are printed here, each with its argument or "FILE:12:", up to
 * TARGETS_ERRORS_MAX and then a count. Nothing is done when there is one.
 */
#ifndef SLUICE_TARGETS_H
#define SLUICE_TARGETS_H

#include <stdbool.h>
#include <stddef.h>

#include "conf.h"

#define TARGETS_ERRORS_MAX 20
#define TARGETS_LINE_MAX   1024 /* of an @FILE */

struct target {
    const struct conf_domain *domain;
    bool whole;    /* the domain: its listed mailboxes and its own record */
    char **locals; /* canonical, each once, in the order given; none when whole */
    size_t count;
    struct names *names; /* private: owns the text */
};

struct targets {
    struct target *items; /* one per domain, in the order given */
    size_t count;
    size_t mailboxes; /* single addresses in all */
};

/* Returns EXIT_DONE, EXIT_USE (no argument), EXIT_DATA (bad or unmanaged ones,
 * a file that cannot be read) or EXIT_SERVICE (out of memory); out is valid only
 * after EXIT_DONE. The domains are conf's: keep it. */
int targets_resolve(const struct conf *conf, int argc, char **argv,
                    struct targets *out);
void targets_free(struct targets *targets);

#endif
