/*
 * doctor: everything that must be wired, looked at. doctor.c collects and prints
 * the findings, the other files make them.
 */
#ifndef SLUICE_DOCTOR_H
#define SLUICE_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>

#include "command.h"
#include "output.h"

enum finding { FINDING_OK, FINDING_WARN, FINDING_FAIL };

struct doctor {
    struct command_context *context;
    doc *checks; /* array of the document */
    doc *fixes;  /* of the last finding */
    size_t ok, warnings, failures;
};

/* One finding, printed at once: "FAIL name: what was found". */
void doctor_say(struct doctor *doctor, enum finding finding, const char *name,
                const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* A line that puts the last finding right: where ("main.cf", "master.cf",
 * "sluice.conf", "shell"), what. */
void doctor_fix(struct doctor *doctor, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Redis, registration, journal, clock, versions. doctor_store.c */
void doctor_check_store(struct doctor *doctor);

/* main.cf and master.cf. doctor_postfix.c */
void doctor_check_postfix(struct doctor *doctor);

/* SPF, DKIM and DMARC. doctor_auth.c */
void doctor_check_auth(struct doctor *doctor);

/* ---- doctor_net.c ---------------------------------------------------------- */

/* Whether a daemon's socket answers; as_user (NULL: as we are) and chroot (NULL:
 * none) are those of the Postfix process that will connect; path is what that
 * process is told. error: "" or why not. */
void doctor_connect(const char *path, const char *as_user, const char *chroot,
                    char *error, size_t error_size);
/* Our own sockets, from sluice.conf, and whether the map knows a mailbox. */
void doctor_check_sockets(struct doctor *doctor);
/* Every configured next hop: 220 and EHLO. */
void doctor_check_hops(struct doctor *doctor);

#endif
