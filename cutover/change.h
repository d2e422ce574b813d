/*
 * change: one transition over all targets of a command; shared by lock, flip,
 * unlock (lock.c) and rollback (rollback.c).
 */
#ifndef SLUICE_CHANGE_H
#define SLUICE_CHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "command.h"
#include "output.h"
#include "targets.h"

#define CHANGE_REFUSALS_MAX 20 /* messages before "and N more" */

struct tally {
    uint64_t made, already, refused, unfenced; /* listed mailboxes */
    bool own; /* the domain's own record was changed, or was there before */
};

struct changes {
    struct command_context *context;
    enum event_op op;
    const char *const *without;
    bool force;       /* do not ask for the fence */
    bool to_the_end;  /* Ctrl-C does not stop it: it finishes an interrupted one */
    const char *also_done; /* letters of homes (home_letter()) that the change refuses,
                              and that are as good as done here; NULL: none */
    uint64_t total;   /* of the progress bar: the single mailboxes at first, each
                         whole domain adds its own */
    /* results */
    struct tally all;
    uint64_t epoch;   /* highest of what was made or was there before */
    uint64_t unfenced_epoch; /* highest lock of the unfenced, as far as known */
    doc *refusals;    /* made by changes_init(); doc_put() it or doc_free() it */
    uint64_t messages;
};

void changes_init(struct changes *changes, struct command_context *context,
                  enum event_op op);

/* One domain: all of it, or these mailboxes (expect: the epoch that each must
 * still have, or NULL). Refused ones are named by message(). With --dry-run it
 * counts what it would do. Returns EXIT_DONE also when some were refused;
 * EXIT_SERVICE or EXIT_AGAIN after a message. The counts are added to *tally
 * and to changes->all. */
int changes_domain(struct changes *changes, const char *domain, struct tally *tally);
int changes_list(struct changes *changes, const char *domain, char *const *locals,
                 const uint64_t *expect, size_t count, struct tally *tally);
int changes_target(struct changes *changes, const struct target *target,
                   struct tally *tally);
/* Frees the refusals, if nobody has put them into a document. */
void changes_free(struct changes *changes);
/* "and N more were refused", once at the end. */
void changes_end(struct changes *changes);

#endif
