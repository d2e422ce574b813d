/*
 * The pure parts of the queue back end: postqueue's listing, Postfix' lists and
 * times, queue ids, local names.
 */
#include "../../policyd/queue.h"

#include <stdlib.h>

#include "unit.h"

#define LINE(recipients)                                                                 \
    "{\"queue_name\": \"deferred\", \"queue_id\": \"4jXDfR0Gvsz1bY5q\", "                \
    "\"arrival_time\": 1795317000, \"message_size\": 262, \"forced_expire\": false, "    \
    "\"sender\": \"b@senders.test\", \"recipients\": [" recipients "]}"
#define WITH(queue, sender)                                                              \
    "{\"queue_name\": \"" queue "\", \"queue_id\": \"4jXDfR0Gvsz1bY5q\", "               \
    "\"arrival_time\": 1, \"sender\": \"" sender "\", \"recipients\": []}"

/* "<queue> <id> <created> <sender>: <address>(<reason>) ...", or "bad". */
static const char *parsed(const char *text)
{
    static char out[1024];
    struct queue_line line;
    char error[200];
    if (!queue_parse_line(text, strlen(text), &line, error, sizeof(error)))
        return "bad";
    int len = snprintf(out, sizeof(out), "%s %s%s %lld %s:",
                       queue_name_text(line.entry.queue), line.entry.id,
                       line.entry.id_valid ? "" : "!", (long long)line.entry.created,
                       line.entry.sender[0] ? line.entry.sender : "<>");
    for (size_t i = 0; i < line.entry.count && len < 900; i++)
        len += snprintf(out + len, sizeof(out) - (size_t)len, " %s(%s)",
                        line.entry.recipients[i].address,
                        line.entry.recipients[i].reason);
    queue_line_free(&line);
    return out;
}

static void test_listing(void)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { LINE("{\"address\": \"a@example.com\", \"delay_reason\": \"no route\"}"),
          "deferred 4jXDfR0Gvsz1bY5q 1795317183 b@senders.test: a@example.com(no route)" },
        { LINE("{\"address\": \"a@example.com\"}, {\"address\": \"b\"}"),
          "deferred 4jXDfR0Gvsz1bY5q 1795317183 b@senders.test: a@example.com() b()" },
        { LINE(""), "deferred 4jXDfR0Gvsz1bY5q 1795317183 b@senders.test:" },
        { LINE("{\"address\": \"\xff\xfe@example.com\"}"),
          "deferred 4jXDfR0Gvsz1bY5q 1795317183 b@senders.test: ?\?@example.com()" },
        { LINE("{\"address\": \"\xc3\xa4@example.com\"}"),
          "deferred 4jXDfR0Gvsz1bY5q 1795317183 b@senders.test: \xc3\xa4@example.com()" },
        { LINE("{\"address\": \"\\\"a\\\\\\\"b\\\"@example.com\"}"),
          "deferred 4jXDfR0Gvsz1bY5q 1795317183 b@senders.test: "
          "\"a\\\"b\"@example.com()" },
        { WITH("hold", "MAILER-DAEMON"), "hold 4jXDfR0Gvsz1bY5q 1795317183 <>:" },
        { WITH("saved", "x"), "other 4jXDfR0Gvsz1bY5q 1795317183 x:" },
        { "{\"queue_name\": \"hold\", \"queue_id\": \"A1B2C3\", \"arrival_time\": 77, "
          "\"sender\": \"x\", \"recipients\": []}",
          "hold A1B2C3! 77 x:" },
        { LINE("{\"address\": 7}"), "bad" },
        { LINE("{\"delay_reason\": \"x\"}"), "bad" },
        { LINE("\"a@example.com\""), "bad" },
        { "{\"queue_name\": \"hold\"}", "bad" },
        { "postqueue: warning: Mail system is down", "bad" },
        { "{", "bad" },
        { "[]", "bad" },
        { "", "bad" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_STR(cases[i].text, parsed(cases[i].text), cases[i].want);
}

static void test_id_times(void)
{
    static const struct {
        const char *id;
        long long time;
    } cases[] = {
        { "4jXDfR05J2z1bYCF", 1795317183 },
        { "4jXDfY1PP9z1bYCT", 1795317189 },
        { "ABCDEF123456", 0 },
        { "", 0 },
        { "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz1", 0 }, /* no such time */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT(cases[i].id, queue_id_time(cases[i].id), cases[i].time);
}

static const char *joined(char **list)
{
    static char out[512];
    out[0] = '\0';
    for (char **item = list; item && *item; item++) {
        size_t have = strlen(out);
        snprintf(out + have, sizeof(out) - have, "%s%s", have ? "|" : "", *item);
    }
    return out;
}

static void test_lists(void)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "", "" },
        { " ,\t", "" },
        { "hash:/a, socketmap:unix:b:c", "hash:/a|socketmap:unix:b:c" },
        { "hash:/a hash:/b\n hash:/c,", "hash:/a|hash:/b|hash:/c" },
        { "inline:{a=b, c=d}, hash:/a", "inline:{a=b, c=d}|hash:/a" },
        { "pipemap:{inline:{a=b, c=d}, hash:/x} y", "pipemap:{inline:{a=b, c=d}, hash:/x}|y" },
        { "inline:{a=b", "inline:{a=b" },
        { "a} b", "a}|b" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char **list = queue_split(cases[i].text);
        CHECK_STR(cases[i].text, joined(list), cases[i].want);
        queue_list_free(list);
    }
}

static void test_seconds(void)
{
    static const struct {
        const char *text;
        long long want;
    } cases[] = {
        { "5d", 432000 }, { "20s", 20 },  { "2h", 7200 }, { "1w", 604800 }, { "3", 259200 },
        { "0", 0 },       { "10M", 600 }, { "", -1 },     { "d", -1 },      { "5x", -1 },
        { "5dd", -1 },    { "-1d", -1 },  { "99999999999d", -1 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT(cases[i].text, queue_seconds(cases[i].text, 'd'), cases[i].want);
}

static void test_slow_maps(void)
{
    static const struct {
        const char *text;
        bool slow;
    } cases[] = {
        { "", false },
        { "socketmap:unix:sluice/map.sock:transport", false },
        { "socketmap:unix:a:b, hash:/etc/postfix/transport", false },
        { "socketmap:unix:a:b, mysql:/etc/postfix/t.cf", true },
        { "proxy:hash:/x", true },
        { "pipemap:{hash:/x, ldap:/y}", true },
        { "brandnew:/x", true },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT(cases[i].text, queue_slow_maps(cases[i].text), cases[i].slow);
}

static void test_local(void)
{
    static const struct {
        const char *mydestination, *address;
        bool local;
    } cases[] = {
        { "localhost, Old.Lab.Test", "a@old.lab.test", true },
        { "localhost, Old.Lab.Test", "a@LOCALHOST", true },
        { "localhost", "a@example.com", false },
        { "localhost", "a@[127.0.0.1]", true },
        { "localhost", "root", true },
        { "localhost", "@@", true },
        { "localhost hash:/etc/postfix/local", "a@example.com", true },
        { "localhost /etc/postfix/local", "a@example.com", true },
        { "!x.test localhost", "a@example.com", true },
        { "", "a@example.com", false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct queue_settings settings = { 0 };
        CU_ASSERT(queue_local_names(cases[i].mydestination, &settings));
        CHECK_INT(cases[i].address, queue_is_local(&settings, cases[i].address),
                  cases[i].local);
        queue_settings_free(&settings);
    }
}

static void test_uncovered(void)
{
    char *same_as[] = { (char[]){ "localhost" }, (char[]){ "mx.test" }, NULL };
    struct conf_domain domain = { .name = (char[]){ "example.com" }, .same_as = same_as };
    static const struct {
        const char *mydestination, *origin, *missing;
    } cases[] = {
        { "localhost, mx.test", "mx.test", "" }, /* not local: no matter */
        { "localhost, other.test", "other.test", "" },
        { "example.com, localhost, mx.test", "mx.test", "" },
        { "example.com", "example.com", "" },
        { "example.com, localhost, other.test", "localhost", "other.test" },
        { "example.com, localhost", "origin.test", "origin.test" },
        { "example.com, localhost hash:/x", "", "" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct queue_settings settings = { 0 };
        char why[300];
        CU_ASSERT(queue_local_names(cases[i].mydestination, &settings));
        settings.origin = strdup(cases[i].origin);
        queue_uncovered_name(&settings, &domain, why, sizeof(why));
        if (cases[i].missing[0]) {
            char want[100];
            snprintf(want, sizeof(want), "add \"%s\" to its same-as", cases[i].missing);
            if (!strstr(why, want))
                CHECK_STR(cases[i].mydestination, why, want);
        } else {
            CHECK_STR(cases[i].mydestination, why, "");
        }
        queue_settings_free(&settings);
    }
}

UNIT_MAIN("queue", { "listing", test_listing }, { "id times", test_id_times },
          { "lists", test_lists }, { "seconds", test_seconds },
          { "slow maps", test_slow_maps }, { "local names", test_local },
          { "uncovered names", test_uncovered })
