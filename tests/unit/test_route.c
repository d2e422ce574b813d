/* From a recipient's text to a verdict, over a configuration in a file. */
#include <stdlib.h>
#include <unistd.h>

#include "route.h"
#include "unit.h"

static const char old_side[] =
    "side = old\n"
    "hostname = \"mx1.example.com\"\n"
    "redis = \"unix:/run/redis.sock\"\n"
    "recipient-delimiter = \"+-\"\n"
    "domain \"example.com\" {\n"
    "  same-as = {\"localhost\", \"mx1.example.com\", \"[192.0.2.1]\"}\n"
    "  new = \"[mx.new.example]:2525\"\n"
    "  redirect-domains = {\"tenant.example.net\"}\n"
    "}\n"
    "domain \"redirected.example\" { new-address = \"m.%l.x@tenant.example.net\" }\n"
    "domain \"both.example\" { new-address = \"%l@tenant.example.net\"\n"
    "                         new = \"mx.both.example\" old = \"[::1]\" }\n";
static const char new_side[] =
    "side = new\n"
    "hostname = \"mx2.example.com\"\n"
    "redis = \"tcp:127.0.0.1:6379\"\n"
    "recipient-delimiter = \"\"\n"
    "domain \"example.com\" { old = \"[10.0.0.5]:25\"\n"
    "                        new-address = \"%l@tenant.example.net\" }\n";

static struct conf *load(const char *text)
{
    char path[] = "/tmp/sluice-route-XXXXXX", error[512];
    int fd = mkstemp(path);
    size_t len = strlen(text);

    CU_ASSERT_FATAL(fd >= 0 && write(fd, text, len) == (ssize_t)len);
    close(fd);
    struct conf *conf = conf_load(path, error, sizeof(error));
    unlink(path);
    if (!conf)
        printf("\n  %s\n", error);
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    return conf;
}

static void test_prepare(void)
{
    static const struct {
        const char *text;
        const char *want; /* address, base, and flags; NULL: no opinion */
    } cases[] = {
        { "user@example.com", "user@example.com base= " },
        { "<USER@Example.COM.>", "user@example.com base= " },
        { "user@localhost", "user@example.com base= same-as" },
        { "user@[192.0.2.1]", "user@example.com base= same-as" },
        { "User+Ext@mx1.example.com", "user+ext@example.com base=user same-as" },
        { "user-a+b@example.com", "user-a+b@example.com base=user " },
        { "+ext@example.com", "+ext@example.com base= " },
        { "\"us er\"@example.com", "\"us er\"@example.com base= " },
        { "user@sub.example.com", NULL },
        { "user@example.org", NULL },
        { "user@tenant.example.net", NULL },
        { "user", NULL },
        { "*", NULL },
        { "example.com", NULL },
        { "@example.com", NULL },
        { "", NULL },
        { "<>", NULL },
        { "user@exa mple.com", NULL },
        /* Malformed before the @, but mail for a managed domain all the same. */
        { "us er@example.com", "\"\"@example.com base= overlong" },
        { "us\ner@localhost", "\"\"@example.com base= same-as overlong" },
        /* This host's own addresses are what localhost is. */
        { "user+x@[127.0.0.1]", "user+x@example.com base=user same-as" },
        { "user@[192.0.2.77]", NULL },
        { "\"user@example.com", "\"\"@example.com base= overlong" },
        { "user+x\"@example.com", "user@example.com base=user overlong" },
        { "\"user+\x01\"@example.com", "user@example.com base=user overlong" },
    };
    struct conf *conf = load(old_side);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct route route;
        char address[ADDR_TEXT_MAX + 1], got[1024];
        memset(&route, 'x', sizeof(route));
        bool managed = route_prepare(conf, cases[i].text, strlen(cases[i].text), &route);
        CHECK_INT(cases[i].text, managed, cases[i].want != NULL);
        if (!managed) {
            CHECK_INT(cases[i].text, route.verdict, VERDICT_NONE);
            CU_ASSERT_PTR_NULL(route.domain);
            continue;
        }
        route_address(&route, address);
        snprintf(got, sizeof(got), "%s base=%s %s%s%s", address, route.base,
                 route.same_as ? "same-as" : "",
                 route.same_as && route.overlong ? " " : "",
                 route.overlong ? "overlong" : "");
        CHECK_STR(cases[i].text, got, cases[i].want);
        CHECK_INT("before any lookup", route.lookup, LOOKUP_FAILED);
    }
    conf_unref(conf);
}

struct lookup_case {
    const char *to;
    const char *own, *exact, *base; /* NULL: no such field */
    const char *verdict;
    const char *detail; /* next hop or new address */
    bool listed;
};

static void check_lookup(const struct conf *conf, const struct lookup_case *c)
{
    struct route route;
    char what[256];
    struct route_value own = { c->own, c->own ? strlen(c->own) : 0 };
    struct route_value exact = { c->exact, c->exact ? strlen(c->exact) : 0 };
    struct route_value base = { c->base, c->base ? strlen(c->base) : 0 };

    snprintf(what, sizeof(what), "%s own=%s exact=%s base=%s", c->to,
             c->own ? c->own : "-", c->exact ? c->exact : "-", c->base ? c->base : "-");
    CU_ASSERT_TRUE_FATAL(route_prepare(conf, c->to, strlen(c->to), &route));
    route_set_values(&route, &own, &exact, &base);
    route_finish(conf, &route);
    CHECK_STR(what, verdict_name(route.verdict), c->verdict);
    if (route.verdict == VERDICT_FORWARD)
        CHECK_STR(what, route.next_hop, c->detail);
    else if (route.verdict == VERDICT_REDIRECT)
        CHECK_STR(what, route.home.new_address, c->detail);
    if (route.lookup == LOOKUP_FOUND)
        CHECK_INT(what, route.home.listed, c->listed);
}

static void test_old_side(void)
{
    static const char hop[] = "[mx.new.example]:2525";
    static const struct lookup_case cases[] = {
        /* unlisted: the domain's own record */
        { "u@example.com", "o1.2", NULL, NULL, "deliver", NULL, false },
        { "u@example.com", "l1.2", NULL, NULL, "hold", NULL, false },
        { "u@example.com", "r1.2", NULL, NULL, "hold", NULL, false },
        { "u@example.com", "n1.2", NULL, NULL, "forward", hop, false },
        { "u+x@example.com", "n1.2", NULL, NULL, "forward", hop, false },
        /* listed: its own record */
        { "u@example.com", "o1.2", "l1.2", NULL, "hold", NULL, true },
        { "u@example.com", "n1.2", "o1.2", NULL, "deliver", NULL, true },
        { "u@localhost", "o1.2", "n1.2", NULL, "forward", hop, true },
        { "u@example.com", "o1.2", "n1.2\tn=u@tenant.example.net", NULL, "redirect",
          "u@tenant.example.net", true },
        { "u@example.com", "o1.2", "l1.2\tn=u@tenant.example.net", NULL, "hold", NULL,
          true },
        /* exact before base */
        { "u+x@example.com", "o1.2", "n1.2", "l1.2", "forward", hop, true },
        { "u+x@example.com", "o1.2", NULL, "l1.2", "hold", NULL, true },
        { "u+x@example.com", "l1.2", NULL, "o1.2", "deliver", NULL, true },
        /* a value for a base that there is none of is not asked */
        { "u@example.com", "o1.2", NULL, "l1.2", "deliver", NULL, false },
        /* malformed: neither exact nor base */
        { "u u@example.com", "o1.2", "l1.2", "l1.2", "deliver", NULL, false },
        /* the domain's own record is missing: nothing counts */
        { "u@example.com", NULL, NULL, NULL, "later", NULL, false },
        { "u@example.com", NULL, "o1.2", NULL, "later", NULL, false },
        { "u@example.com", NULL, "l1.2", NULL, "later", NULL, false },
        /* not a record */
        { "u@example.com", "", NULL, NULL, "later", NULL, false },
        { "u@example.com", "x", NULL, NULL, "later", NULL, false },
        { "u@example.com", "x", "o1.2", NULL, "later", NULL, false },
        { "u@example.com", "o1.2", "garbage", NULL, "later", NULL, false },
        { "u@example.com", "o1.2", "", NULL, "later", NULL, false },
        { "u+x@example.com", "o1.2", NULL, "garbage", "later", NULL, false },
        { "u+x@example.com", "o1.2", "garbage", "o1.2", "later", NULL, false },
        /* new-address pattern */
        { "u@redirected.example", "n1.2", NULL, NULL, "redirect",
          "m.u.x@tenant.example.net", false },
        { "u+x@redirected.example", "n1.2", NULL, NULL, "redirect",
          "m.u.x@tenant.example.net", false },
        { "u+x@redirected.example", "n1.2", "n1.2", NULL, "redirect",
          "m.u+x.x@tenant.example.net", true },
        { "u+x@redirected.example", "n1.2", NULL, "n1.2", "redirect",
          "m.u.x@tenant.example.net", true },
        { "u@redirected.example", "o1.2", "n1.2\tn=own@tenant.example.net", NULL,
          "redirect", "own@tenant.example.net", true },
        { "\"u u\"@redirected.example", "n1.2", NULL, NULL, "redirect",
          "\"m.u u.x\"@tenant.example.net", false },
        { "u@redirected.example", "o1.2", NULL, NULL, "deliver", NULL, false },
        { "u@redirected.example", "l1.2", NULL, NULL, "hold", NULL, false },
        /* no local part for the pattern, and no next hop */
        { "u u@redirected.example", "n1.2", NULL, NULL, "later", NULL, false },
        { "u u@both.example", "n1.2", NULL, NULL, "forward", "mx.both.example", false },
        { "u@both.example", "n1.2", NULL, NULL, "redirect", "u@tenant.example.net",
          false },
    };
    struct conf *conf = load(old_side);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_lookup(conf, &cases[i]);
    conf_unref(conf);
}

static void test_new_side(void)
{
    static const struct lookup_case cases[] = {
        { "u@example.com", "o1.2", NULL, NULL, "forward", "[10.0.0.5]:25", false },
        { "u@example.com", "o1.2", "l1.2", NULL, "hold", NULL, true },
        { "u@example.com", "o1.2", "n1.2", NULL, "deliver", NULL, true },
        { "u@example.com", "o1.2", "n1.2\tn=u@t.example", NULL, "deliver", NULL, true },
        /* no delimiter here: the extension is part of the name */
        { "u+x@example.com", "o1.2", NULL, "n1.2", "forward", "[10.0.0.5]:25", false },
        { "u@example.com", NULL, "n1.2", NULL, "later", NULL, false },
    };
    struct conf *conf = load(new_side);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_lookup(conf, &cases[i]);
    conf_unref(conf);
}

/* Values may be missing altogether, and every failed lookup is "later". */
static void test_no_values(void)
{
    struct conf *conf = load(old_side);
    struct route route;

    CU_ASSERT_TRUE_FATAL(route_prepare(conf, "u@example.com", 13, &route));
    route_finish(conf, &route);
    CHECK_STR("no lookup", verdict_name(route.verdict), "later");
    route_set_values(&route, NULL, NULL, NULL);
    CHECK_INT("absent", route.lookup, LOOKUP_ABSENT);
    route_finish(conf, &route);
    CHECK_STR("absent", verdict_name(route.verdict), "later");
    CHECK_STR("absent", route.next_hop, "");
    CU_ASSERT_FALSE(route_prepare(conf, "u@example.org", 13, &route));
    route_finish(conf, &route);
    CHECK_STR("not managed", verdict_name(route.verdict), "none");
    conf_unref(conf);
}

static void test_overlong(void)
{
    struct conf *conf = load(old_side);
    struct route route;
    char text[400];
    struct route_value own = { "n1.2", 4 }, listed = { "l1.2", 4 };

    memset(text, 'a', sizeof(text));
    memcpy(text + 200, "@localhost", 10);
    CU_ASSERT_TRUE_FATAL(route_prepare(conf, text, 210, &route));
    CU_ASSERT_TRUE(route.overlong);
    CHECK_STR("domain", route.addr.domain, "example.com");
    route_set_values(&route, &own, &listed, &listed);
    route_finish(conf, &route);
    CHECK_STR("overlong", verdict_name(route.verdict), "forward");
    /* An extension of any length is delivered into the mailbox before it. */
    memcpy(text, "user+", 5);
    CU_ASSERT_TRUE_FATAL(route_prepare(conf, text, 210, &route));
    CU_ASSERT_TRUE(route.overlong);
    CHECK_STR("base", route.base, "user");
    route_set_values(&route, &own, NULL, &listed);
    route_finish(conf, &route);
    CHECK_STR("a locked mailbox's", verdict_name(route.verdict), "hold");
    route_set_values(&route, &own, &own, NULL);
    route_finish(conf, &route);
    CHECK_STR("an unlisted one's", verdict_name(route.verdict), "forward");
    /* Just short enough to be listed, too long for the pattern. */
    memset(text, 'a', sizeof(text));
    memcpy(text + ADDR_LOCAL_MAX, "@redirected.example", 19);
    CU_ASSERT_TRUE_FATAL(route_prepare(conf, text, ADDR_LOCAL_MAX + 19, &route));
    CU_ASSERT_FALSE(route.overlong);
    route_set_values(&route, &own, NULL, NULL);
    route_finish(conf, &route);
    CHECK_STR("too long for the pattern", verdict_name(route.verdict), "later");
    CHECK_STR("nothing half-made", route.home.new_address, "");
    conf_unref(conf);
}

UNIT_MAIN("route", { "prepare", test_prepare }, { "old side", test_old_side },
          { "new side", test_new_side }, { "no values", test_no_values },
          { "overlong", test_overlong })
