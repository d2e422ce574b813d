/*
 * options: a command's own options, from a table (see options.h).
 *
 * Why not getopt_long(3): its messages do not name the command the way all our
 * others do, and the values here are typed and checked in one place.
 */
#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

#define NUMBER_MAX 1000000

static const struct option_spec *find(const struct option_spec *specs, size_t count,
                                      const char *name, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(specs[i].name) == len && memcmp(specs[i].name, name, len) == 0)
            return &specs[i];
    return NULL;
}

static bool parse_number(const char *text, int *out)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 1 || value > NUMBER_MAX)
        return false;
    *out = (int)value;
    return true;
}

static bool set_value(const struct option_spec *spec, const char *text)
{
    struct option_list *list;
    struct option_perhaps *perhaps;
    switch (spec->kind) {
    case OPTION_FLAG:
        break;
    case OPTION_TEXT:
        *(const char **)spec->value = text;
        return true;
    case OPTION_NUMBER:
    case OPTION_PERHAPS:
        perhaps = spec->value;
        if (parse_number(text,
                         spec->kind == OPTION_NUMBER ? spec->value : &perhaps->number))
            return true;
        message("--%s: \"%s\" is not a number from 1 to %d", spec->name, text,
                NUMBER_MAX);
        return false;
    case OPTION_DURATION:
        if (duration_parse(text, spec->value))
            return true;
        message("--%s: \"%s\" is not a duration: write it as 90s, 10m or 2h", spec->name,
                text);
        return false;
    case OPTION_LIST:
        list = spec->value;
        if (list->count < OPTION_LIST_MAX) {
            list->items[list->count++] = text;
            return true;
        }
        message("--%s: more than %d of them", spec->name, OPTION_LIST_MAX);
        return false;
    }
    message("--%s takes no value", spec->name);
    return false;
}

/* argv[*i] is an option; *i is left on the last element that it used. */
static bool take_option(const struct option_spec *specs, size_t count, int argc,
                        char **argv, int *i)
{
    const char *name = argv[*i] + 2;
    const char *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const struct option_spec *spec =
        argv[*i][1] == '-' ? find(specs, count, name, len) : NULL;
    if (!spec) {
        message("unknown option %s (--help lists them)", argv[*i]);
        return false;
    }
    if (spec->kind == OPTION_FLAG && !equals) {
        *(bool *)spec->value = true;
        return true;
    }
    if (spec->kind == OPTION_PERHAPS) {
        struct option_perhaps *perhaps = spec->value;
        perhaps->given = true;
        if (!equals &&
            (*i + 1 >= argc || argv[*i + 1][strspn(argv[*i + 1], "0123456789")]))
            return true;
    }
    if (equals)
        return set_value(spec, equals + 1);
    if (*i + 1 >= argc) {
        message("--%s wants a value", spec->name);
        return false;
    }
    return set_value(spec, argv[++*i]);
}

bool options_parse(const struct option_spec *specs, size_t count, int *argc, char **argv)
{
    int kept = 1;
    bool ended = false;
    for (int i = 1; i < *argc; i++) {
        if (!ended && strcmp(argv[i], "--") == 0) {
            ended = true;
        } else if (ended || argv[i][0] != '-' || argv[i][1] == '\0') {
            argv[kept++] = argv[i]; /* "-" alone is standard input */
        } else if (!take_option(specs, count, *argc, argv, &i)) {
            return false;
        }
    }
    *argc = kept;
    argv[kept] = NULL;
    return true;
}
