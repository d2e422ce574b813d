/* SPF records: what is read, and that nothing malformed is. */
#include "../../lib/spf_record.h"

#include "unit.h"

/* A record and what it is read as, one term after the other: "-a:x/24//64 ...";
 * or what is wrong with it. */
static void describe(const struct spf_record *record, char *out, size_t size)
{
    static const char *const names[] = { "all", "include", "a",   "mx",
                                         "ptr", "ip4",     "ip6", "exists" };
    size_t used = 0;
    char address[NETADDR_TEXT_MAX + 1];

    for (size_t i = 0; i < record->count; i++) {
        const struct spf_term *term = &record->terms[i];
        used += (size_t)snprintf(out + used, size - used, "%s%c%s", i ? " " : "",
                                 term->qualifier, names[term->mechanism]);
        if (term->domain_len)
            used += (size_t)snprintf(out + used, size - used, ":%.*s",
                                     (int)term->domain_len, term->domain);
        if (term->mechanism == SPF_A || term->mechanism == SPF_MX)
            used += (size_t)snprintf(out + used, size - used, "/%d//%d", term->bits4,
                                     term->bits6);
        if (term->mechanism == SPF_IP4 || term->mechanism == SPF_IP6)
            used += (size_t)snprintf(out + used, size - used, ":%s/%d",
                                     netaddr_format(&term->block.base, address),
                                     term->block.bits);
    }
    if (record->redirect)
        used += (size_t)snprintf(out + used, size - used, " redirect=%.*s",
                                 (int)record->redirect_len, record->redirect);
    if (record->exp)
        snprintf(out + used, size - used, " exp=%.*s", (int)record->exp_len, record->exp);
}

struct record_case {
    const char *text, *want;
};

static const struct record_case good[] = {
    { "v=spf1", "" },
    { "V=SPF1   ", "" },
    { "v=spf1  a   -all ", "+a/32//128 -all" },
    { "v=spf1 +A ?mX ~Ptr -ALL", "+a/32//128 ?mx/32//128 ~ptr -all" },
    /* RFC 7208 A.1 to A.4 */
    { "v=spf1 a:example.org -all", "+a:example.org/32//128 -all" },
    { "v=spf1 mx/30 mx:example.org/30 -all", "+mx/30//128 +mx:example.org/30//128 -all" },
    { "v=spf1 ip4:192.0.2.128/28 -all", "+ip4:192.0.2.128/28 -all" },
    { "v=spf1 include:example.com include:example.net -all",
      "+include:example.com +include:example.net -all" },
    { "v=spf1 redirect=example.org", " redirect=example.org" },
    { "v=spf1 -include:ip4._spf.%{d} -include:ptr._spf.%{d} +all",
      "-include:ip4._spf.%{d} -include:ptr._spf.%{d} +all" },
    { "v=spf1 -ip4:192.0.2.0/24 +all", "-ip4:192.0.2.0/24 +all" },
    { "v=spf1 mx -all exp=explain._spf.%{d2}",
      "+mx/32//128 -all exp=explain._spf.%{d2}" },
    { "v=spf1 exists:%{ir}.%{l1r+-}._spf.%{d} -all",
      "+exists:%{ir}.%{l1r+-}._spf.%{d} -all" },
    /* prefix lengths */
    { "v=spf1 a/0 a//0 a/24//64 mx//128", "+a/0//128 +a/32//0 +a/24//64 +mx/32//128" },
    { "v=spf1 a:x.test/24//64 a:foo:bar/baz.test/8",
      "+a:x.test/24//64 +a:foo:bar/baz.test/8//128" },
    { "v=spf1 ip4:1.1.1.1/0 ip4:1.2.3.4", "+ip4:1.1.1.1/0 +ip4:1.2.3.4/32" },
    { "v=spf1 ip6:2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff/127 ip6:::1.1.1.1/0",
      "+ip6:2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff/127 +ip6:::1.1.1.1/0" },
    { "v=spf1 ip6:::FFFF:1.2.3.4", "+ip6:::ffff:1.2.3.4/128" },
    /* domain-spec */
    { "v=spf1 a:example.xn--zckzah a:_spf.a-b.c-d a:x.1-2 a:x.test.",
      "+a:example.xn--zckzah/32//128 +a:_spf.a-b.c-d/32//128 +a:x.1-2/32//128 "
      "+a:x.test./32//128" },
    { "v=spf1 a:%{h} a:x%% a:%{i}.test", "+a:%{h}/32//128 +a:x%%/32//128 "
                                         "+a:%{i}.test/32//128" },
    { "v=spf1 a:a..test a:.test", "+a:a..test/32//128 +a:.test/32//128" },
    /* modifiers, anywhere; others ignored */
    { "v=spf1 redirect=a.test moo.cow-far_out=man:dog/cat ip4:1.2.3.4 x= y=%{t} "
      "EXP=b.test all.=",
      "+ip4:1.2.3.4/32 redirect=a.test exp=b.test" },
};

static const struct record_case bad[] = {
    { "v=spf10", "not an SPF record" },
    { "v=spf1\ta", "not an SPF record" },
    { "v=spf1 a\t-all", "term 1 (\"a\\x09-all\"): a byte that is not visible ASCII" },
    { "v=spf1 a:\xef\xbb\xbfx.test",
      "term 1 (\"a:\\xef\\xbb\\xbfx.test\"): a byte that is "
      "not visible ASCII" },
    { "v=spf1 -all moo", "term 2 (\"moo\"): no such mechanism" },
    { "v=spf1 --all", "term 1 (\"--all\"): no such mechanism" },
    { "v=spf1 -", "term 1 (\"-\"): no such mechanism" },
    { "v=spf1 =all", "term 1 (\"=all\"): no such mechanism" },
    { "v=spf1 1up=foo", "term 1 (\"1up=foo\"): no such mechanism" },
    { "v=spf1 +redirect=x.test", "term 1 (\"+redirect=x.test\"): no such mechanism" },
    { "v=spf1 moo/cow=x", "term 1 (\"moo/cow=x\"): no such mechanism" },
    { "v=spf1 -all.", "term 1 (\"-all.\"): no such mechanism" },
    { "v=spf1 all:x.test", "term 1 (\"all:x.test\"): \"all\" takes nothing" },
    { "v=spf1 all/8", "term 1 (\"all/8\"): \"all\" takes nothing" },
    { "v=spf1 a:", "term 1 (\"a:\"): a domain is missing" },
    { "v=spf1 ax.test", "term 1 (\"ax.test\"): no such mechanism" },
    { "v=spf1 include", "term 1 (\"include\"): a domain is missing" },
    { "v=spf1 include:x.test/24", "term 1 (\"include:x.test/24\"): not a domain name" },
    { "v=spf1 exists", "term 1 (\"exists\"): a domain is missing" },
    { "v=spf1 ptr:", "term 1 (\"ptr:\"): a domain is missing" },
    { "v=spf1 ptr/0", "term 1 (\"ptr/0\"): a domain is missing" },
    { "v=spf1 a:x.test//", "term 1 (\"a:x.test//\"): not a domain name" },
    { "v=spf1 a/", "term 1 (\"a/\"): a domain is missing" },
    { "v=spf1 a/33", "term 1 (\"a/33\"): a prefix length is malformed" },
    { "v=spf1 a//129", "term 1 (\"a//129\"): a prefix length is malformed" },
    { "v=spf1 a/024", "term 1 (\"a/024\"): a prefix length is malformed" },
    { "v=spf1 a/4294967320", "term 1 (\"a/4294967320\"): a prefix length is malformed" },
    { "v=spf1 a/24/64", "term 1 (\"a/24/64\"): a prefix length is malformed" },
    { "v=spf1 a:museum", "term 1 (\"a:museum\"): not a domain name" },
    { "v=spf1 a:museum.", "term 1 (\"a:museum.\"): not a domain name" },
    { "v=spf1 a:192.0.2.1", "term 1 (\"a:192.0.2.1\"): not a domain name" },
    { "v=spf1 a:example.-com", "term 1 (\"a:example.-com\"): not a domain name" },
    { "v=spf1 a:example.com-", "term 1 (\"a:example.com-\"): not a domain name" },
    { "v=spf1 a:example.com..", "term 1 (\"a:example.com..\"): not a domain name" },
    { "v=spf1 a:example.com:8080", "term 1 (\"a:example.com:8080\"): not a domain name" },
    { "v=spf1 a:%{d}com", "term 1 (\"a:%{d}com\"): not a domain name" },
    { "v=spf1 a:%{d", "term 1 (\"a:%{d\"): a macro is malformed" },
    { "v=spf1 a:%{d}%", "term 1 (\"a:%{d}%\"): a macro is malformed" },
    { "v=spf1 a:%(d).test", "term 1 (\"a:%(d).test\"): a macro is malformed" },
    { "v=spf1 a:%{c}.test", "term 1 (\"a:%{c}.test\"): a macro is malformed" },
    { "v=spf1 a:%{d0}", "term 1 (\"a:%{d0}\"): a macro is malformed" },
    { "v=spf1 a:%{d|}", "term 1 (\"a:%{d|}\"): a macro is malformed" },
    { "v=spf1 foo=%abc", "term 1 (\"foo=%abc\"): a macro is malformed" },
    { "v=spf1 redirect=", "term 1 (\"redirect=\"): a domain is missing" },
    { "v=spf1 redirect=-all", "term 1 (\"redirect=-all\"): not a domain name" },
    { "v=spf1 redirect=a.test redirect=a.test",
      "term 2 (\"redirect=a.test\"): a second one" },
    { "v=spf1 exp=a.test -all Exp=b.test", "term 3 (\"Exp=b.test\"): a second one" },
    { "v=spf1 exp=%{r}.test", "term 1 (\"exp=%{r}.test\"): a macro is malformed" },
    { "v=spf1 ip4", "term 1 (\"ip4\"): an address is missing" },
    { "v=spf1 ip4:", "term 1 (\"ip4:\"): an address is missing" },
    { "v=spf1 ip4:1.2.3", "term 1 (\"ip4:1.2.3\"): not an address" },
    { "v=spf1 ip4:1.2.3.04", "term 1 (\"ip4:1.2.3.04\"): not an address" },
    { "v=spf1 ip4:1.2.3.4:25", "term 1 (\"ip4:1.2.3.4:25\"): not an address" },
    { "v=spf1 ip4:1.2.3.4/033", "term 1 (\"ip4:1.2.3.4/033\"): a prefix length is "
                                "malformed" },
    { "v=spf1 ip4:1.2.3.4//32", "term 1 (\"ip4:1.2.3.4//32\"): a prefix length is "
                                "malformed" },
    { "v=spf1 ip6:1.2.3.4", "term 1 (\"ip6:1.2.3.4\"): not an address" },
    { "v=spf1 ip6::CAFE::BABE", "term 1 (\"ip6::CAFE::BABE\"): not an address" },
    { "v=spf1 ip6:::1/129", "term 1 (\"ip6:::1/129\"): a prefix length is malformed" },
    { "v=spf1 ip6:fe80::1%eth0", "term 1 (\"ip6:fe80::1%eth0\"): not an address" },
};

static struct spf_record record;

static void test_good(void)
{
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char why[256], got[1024] = "";
        if (spf_record_parse(good[i].text, strlen(good[i].text), &record, why,
                             sizeof(why)))
            describe(&record, got, sizeof(got));
        else
            snprintf(got, sizeof(got), "%s", why);
        CHECK_STR(good[i].text, got, good[i].want);
    }
}

static void test_bad(void)
{
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char why[256] = "it parses";
        bool ok =
            spf_record_parse(bad[i].text, strlen(bad[i].text), &record, why, sizeof(why));
        CHECK_INT(bad[i].text, ok, false);
        CHECK_STR(bad[i].text, why, bad[i].want);
    }
}

static void test_is(void)
{
    static const struct {
        const char *text;
        size_t len;
        bool want;
    } cases[] = {
        { "v=spf1", 6, true },    { "V=sPf1 a", 8, true },  { "v=spf1a", 7, false },
        { "v=spf", 5, false },    { "v=spf10", 7, false },  { "", 0, false },
        { " v=spf1 ", 8, false }, { "v=spf1\0", 7, false },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT(cases[i].text, spf_record_is(cases[i].text, cases[i].len),
                  cases[i].want);
}

/* A NUL is a byte like another that the grammar does not have. */
static void test_nul(void)
{
    static const char text[] = "v=spf1 a:foo.test\0 -all";
    char why[256];

    CHECK_INT("parses",
              spf_record_parse(text, sizeof(text) - 1, &record, why, sizeof(why)), false);
    CHECK_STR("why", why,
              "term 1 (\"a:foo.test\\x00\"): a byte that is not visible ASCII");
}

/* Of each limit the last that is taken and the first that is not. */
static void test_limits(void)
{
    static char text[SPF_RECORD_MAX + 2];
    char why[256];
    size_t len = 6;

    memcpy(text, "v=spf1", 6);
    for (int i = 0; i < SPF_TERMS_MAX; i++) {
        memcpy(text + len, " a", 2);
        len += 2;
    }
    CHECK_INT("terms", spf_record_parse(text, len, &record, why, sizeof(why)), true);
    CHECK_INT("how many", record.count, SPF_TERMS_MAX);
    memcpy(text + len, " a", 2);
    CHECK_INT("a term more", spf_record_parse(text, len + 2, &record, why, sizeof(why)),
              false);
    CHECK_STR("why", why, "term 513 (\"a\"): too many terms");

    memset(text + 6, ' ', sizeof(text) - 6);
    CHECK_INT("length", spf_record_parse(text, SPF_RECORD_MAX, &record, why, sizeof(why)),
              true);
    CHECK_INT("a byte more",
              spf_record_parse(text, SPF_RECORD_MAX + 1, &record, why, sizeof(why)),
              false);
    CHECK_STR("why", why, "the record is too long");

    memcpy(text, "v=spf1 a:", 9);
    memset(text + 9, 'x', 512);
    memcpy(text + 9 + 508, ".com", 4);
    CHECK_INT("domain", spf_record_parse(text, 9 + 512, &record, why, sizeof(why)), true);
    memcpy(text + 9 + 509, ".com", 4);
    CHECK_INT("longer", spf_record_parse(text, 9 + 513, &record, why, sizeof(why)),
              false);
    CHECK_INT("ends in why", strstr(why, "...\"): a domain is too long") != NULL, true);
}

UNIT_MAIN("spf_record", { "is", test_is }, { "good", test_good }, { "bad", test_bad },
          { "nul", test_nul }, { "limits", test_limits })
