/*
 * options: a command's own options, from a table.
 *
 * "--name value" and "--name=value" are the same; options may stand between the
 * arguments; "--" ends them. An option that is not in the table, a missing or a
 * bad value: one message, and the command ends with EXIT_USE.
 */
#ifndef SLUICE_OPTIONS_H
#define SLUICE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum option_kind {
    OPTION_FLAG,     /* bool */
    OPTION_TEXT,     /* const char * */
    OPTION_NUMBER,   /* int, 1 to 1,000,000 */
    OPTION_DURATION, /* int, seconds: "90", "10m", "1h" */
    OPTION_PERHAPS,  /* struct option_perhaps: a NUMBER that may be left out */
    OPTION_LIST,     /* struct option_list; may be given again */
};

#define OPTION_LIST_MAX 64
struct option_list {
    const char *items[OPTION_LIST_MAX + 1]; /* NULL-terminated */
    size_t count;
};

struct option_perhaps {
    bool given;
    int number; /* untouched when none follows */
};

struct option_spec {
    const char *name; /* "timeout" for --timeout */
    enum option_kind kind;
    void *value; /* of the type that kind names; untouched when not given */
};

/* Takes the options out of argv[1] to argv[*argc - 1], so that the arguments
 * alone are left. false: a message was printed, return EXIT_USE. */
bool options_parse(const struct option_spec *specs, size_t count, int *argc,
                   char **argv);

#endif
