/*
 * What the queue helper takes and runs: ids, requests and command lines.
 */
#include "../../policyd/helper.h"

#include "unit.h"

static void test_ids(void)
{
    static const struct {
        const char *id;
        bool valid;
    } cases[] = {
        { "4jXDfR05J2z1bYCF", true },
        { "4jXDfR0Gvsz1bY5e", false },  /* vowels are no digits */
        { "4jXDfR0Gvsz1bY5q", true },
        { "4jXDfR0GvszzbY5q", true },   /* the last z separates */
        { "ALL", false },
        { "all", false },
        { "", false },
        { "-", false },
        { "0123456789AB", false },      /* a short id */
        { "4jXDfR05J2z", false },       /* no inode */
        { "4jXDfR05z1bYCF", false },    /* time too short */
        { "4jXDfR05J21bYCF", false },   /* no separator */
        { "4jXDfR05J2z1bYCF\n", false },
        { "4jXDfR05J2z1bYCF 4jXDfR05J2z1bYCF", false },
        { "../4jXDfR05J2z1bYCF", false },
        { "-4jXDfR05J2z1bYCF", false },
        { "4jXDfR05J2z1bYCa", false },  /* a is no digit of base 52 */
        { "4jXDfR05J2z1bYCF4jXDfR05J2z1bYCF4jXDfR05J2", false }, /* too long */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT(cases[i].id, helper_id_valid(cases[i].id, strlen(cases[i].id)),
                  cases[i].valid);
}

static void test_requests(void)
{
    static const char *const id[] = { "4jXDfR05J2z1bYCF" };
    static const char *const all[] = { "ALL" };
    static const char *const mixed[] = { "4jXDfR05J2z1bYCF", "ALL" };
    static const char *const key[] = { "a@example.com" };
    static const char *const evil[] = { "a@example.com\nb@example.com" };
    static const char *const comment[] = { "#a@example.com" };
    static const char *many[HELPER_ITEMS_MAX + 1];
    for (size_t i = 0; i <= HELPER_ITEMS_MAX; i++)
        many[i] = id[0];
    static const struct {
        const char *what;
        enum helper_command command;
        const char *const *items;
        size_t count;
        bool valid;
    } cases[] = {
        { "hold one", HELPER_HOLD, id, 1, true },
        { "hold none", HELPER_HOLD, id, 0, false },
        { "hold ALL", HELPER_HOLD, all, 1, false },
        { "release ALL", HELPER_RELEASE, all, 1, false },
        { "requeue one and ALL", HELPER_REQUEUE, mixed, 2, false },
        { "release as many as fit", HELPER_RELEASE, many, HELPER_ITEMS_MAX, true },
        { "release too many", HELPER_RELEASE, many, HELPER_ITEMS_MAX + 1, false },
        { "flush too many", HELPER_FLUSH, many, HELPER_FLUSH_MAX + 1, false },
        { "flush one", HELPER_FLUSH, id, 1, true },
        { "list with an id", HELPER_LIST, id, 1, false },
        { "list", HELPER_LIST, NULL, 0, true },
        { "reload", HELPER_RELOAD, NULL, 0, true },
        { "ask", HELPER_ASK_MAP, key, 1, true },
        { "ask with a line feed", HELPER_ASK_MAP, evil, 1, false },
        { "ask a comment", HELPER_ASK_MAP, comment, 1, false },
        { "no command", HELPER_COMMANDS, NULL, 0, false },
        { "no command at all", (enum helper_command)4711, NULL, 0, false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT(cases[i].what,
                  helper_request_valid(cases[i].command, cases[i].items, cases[i].count),
                  cases[i].valid);
}

/* The whole line, words separated by one space; "" when there is none. */
static const char *line_of(enum helper_command command, const char *directory,
                           const char *last)
{
    static char text[1024];
    struct helper_argv line;
    text[0] = '\0';
    if (!helper_command_line(command, directory, "/etc/postfix", last, &line))
        return text;
    for (size_t i = 0; line.argv[i]; i++) {
        size_t have = strlen(text);
        snprintf(text + have, sizeof(text) - have, "%s%s", i ? " " : "", line.argv[i]);
    }
    return text;
}

static void test_command_lines(void)
{
    static const struct {
        enum helper_command command;
        const char *last, *line;
    } cases[] = {
        { HELPER_LIST, NULL, "/usr/sbin/postqueue -c /etc/postfix -j" },
        { HELPER_HOLD, NULL, "/usr/sbin/postsuper -c /etc/postfix -h - deferred" },
        { HELPER_RELEASE, NULL, "/usr/sbin/postsuper -c /etc/postfix -r - hold" },
        { HELPER_REQUEUE, NULL, "/usr/sbin/postsuper -c /etc/postfix -r - deferred" },
        { HELPER_FLUSH, "4jXDfR05J2z1bYCF",
          "/usr/sbin/postqueue -c /etc/postfix -i 4jXDfR05J2z1bYCF" },
        { HELPER_FLUSH, NULL, "" },
        { HELPER_HOLD, "4jXDfR05J2z1bYCF", "" },
        { HELPER_WAKE, NULL, "/usr/sbin/postkick -c /etc/postfix public pickup W" },
        { HELPER_SCAN, NULL, "/usr/sbin/postkick -c /etc/postfix public qmgr I" },
        { HELPER_RELOAD, NULL, "/usr/sbin/postfix -c /etc/postfix reload" },
        { HELPER_ASK_MAP, "hash:/x", "/usr/sbin/postmap -c /etc/postfix -q - hash:/x" },
        { HELPER_ASK_MAP, "-d", "" },
        { HELPER_ASK_MAP, "", "" },
        { HELPER_DAEMONS, NULL, "" },
        { HELPER_COMMANDS, NULL, "" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_STR("line", line_of(cases[i].command, "/usr/sbin", cases[i].last),
                  cases[i].line);
    CHECK_STR("relative directory", line_of(HELPER_LIST, "sbin", NULL), "");
    char longest[600];
    memset(longest, 'x', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    CHECK_STR("long directory", line_of(HELPER_LIST, longest, NULL), "");
}

UNIT_MAIN("helper", { "ids", test_ids }, { "requests", test_requests },
          { "command lines", test_command_lines })
