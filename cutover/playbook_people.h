/*
 * playbook_people: the lists of people that actions work on, and where they write.
 */
#ifndef SLUICE_PLAYBOOK_PEOPLE_H
#define SLUICE_PLAYBOOK_PEOPLE_H

#include <stdio.h>

#include "playbook_action.h"

struct person {
    const char *address;  /* checked by addr_parse() */
    const char *password; /* "" without one */
    bool admin;           /* column admin: yes, true or 1 */
};
typedef bool people_fn(void *context, const struct person *person);

/* Every row of a CSV file with a column address (or email); false from each(): stop.
 * A bad row: a message with its line, EXIT_DATA, and nothing more is read. passwords:
 * the column password is wanted, and a file that others may read is refused. */
int people_each(const char *path, bool passwords, people_fn *each, void *context);

/* <directory>/<name>, made anew, 0600. NULL: a message was printed. */
FILE *people_paper(const struct action_context *context, const char *name);

/* Sends one message by SMTP; lines are header, "" and text. false: a message was
 * printed. (playbook_net.c) */
bool people_send(const char *endpoint, const char *from, const char *to,
                 const char *const lines[], size_t count);

#endif
