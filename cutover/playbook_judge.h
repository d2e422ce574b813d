/*
 * playbook_judge: what lists and figures mean, as functions of their arguments: an
 * address of the inventory, a sending host. Pure.
 */
#ifndef SLUICE_PLAYBOOK_JUDGE_H
#define SLUICE_PLAYBOOK_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- inventory ----------------------------------------------------------- */

/* Where an address is known. ALIAS: the old side's alias or forward, no mailbox. */
enum found_in {
    IN_FILE = 1,
    IN_LIST = 2,
    IN_MAPS = 4,
    IN_ALIAS = 8,
    IN_LOG = 16,
    IN_NEW = 32,      /* the new side accepts it */
    IN_NEW_LATER = 64 /* it could not decide (4xx) */
};

/* NULL: nothing is wrong. asked: the sources that were read whole (IN_FILE, IN_LIST,
 * IN_MAPS, IN_LOG, IN_NEW). *way is how to mend it. */
const char *inventory_judge(unsigned found, unsigned asked, const char **way);

/* ---- senders ------------------------------------------------------------- */

struct sender {
    uint64_t messages, would_fail, spf_pass, dkim_pass, dmarc_pass;
};
/* What came after base; a figure that shrank was begun anew. */
struct sender sender_since(struct sender now, struct sender base);

enum sender_fault {
    SENDER_GOOD,
    SENDER_UNSIGNED, /* messages without a good DKIM signature */
    SENDER_SPF,      /* ... that do not pass SPF */
    SENDER_UNALIGNED /* ... that do not pass DMARC */
};
/* bounces: the null sender, which has no SPF domain of its own. percent: of the
 * messages that have to pass (1 to 100). *failed is how many did not. */
enum sender_fault sender_judge(struct sender sender, bool bounces, int percent,
                               uint64_t *failed);
const char *sender_fault_text(enum sender_fault fault);

/* ---- passwords ----------------------------------------------------------- */

/* NULL: it will survive an import. Never says what the password is. */
const char *password_judge(const char *password);

#endif
