/*
 * playbook_base: the baseline of who sends as the domain: what sluice-milter had counted
 * when the step `baseline` was done, so that later checks judge what came after it.
 */
#ifndef SLUICE_PLAYBOOK_BASE_H
#define SLUICE_PLAYBOOK_BASE_H

#include <stdio.h>

#include "output.h"
#include "playbook_action.h"
#include "playbook_judge.h"
#include "table.h"

struct base {
    struct table *rows; /* "client envelope" -> struct sender */
    int64_t at;         /* unix s; 0: there is no baseline */
};

/* None is fine. EXIT_DONE, or another code after a message; to be freed in any case. */
int base_read(const struct action_context *context, struct base *out);
void base_free(struct base *base);
/* What came after it. */
struct sender base_since(const struct base *base, const struct auth_row *row);
#define BASE_TEXT_MAX (TIME_TEXT_MAX + 16)
/* "since 2024-05-31 03:04:05", "so far". */
const char *base_text(const struct base *base, char out[BASE_TEXT_MAX]);

struct sender base_figures(const struct auth_row *row);
/* One row of a table of senders: client, envelope, helo, the figures, and verdict
 * (NULL: no such column). The header, where row is NULL. */
void base_write(FILE *out, const struct auth_row *row, struct sender sender,
                const char *verdict);

#endif
