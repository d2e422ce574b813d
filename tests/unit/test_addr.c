/* Addresses: every form they come in, and what is refused. */
#include <stdlib.h>

#include "addr.h"
#include "unit.h"

static const char *kind_name(enum addr_kind kind)
{
    static const char *const names[] = {
        [ADDR_OK] = "ok",
        [ADDR_NULL] = "null",
        [ADDR_NO_DOMAIN] = "no domain",
        [ADDR_OVERLONG] = "overlong",
        [ADDR_BAD] = "bad",
    };
    return names[kind];
}

static void check_parse(const char *text, size_t len, enum addr_kind kind,
                        const char *local, const char *domain)
{
    struct addr addr;
    char *exact = malloc(len ? len : 1); /* so that a read past the end is seen */

    memcpy(exact, text, len);
    memset(&addr, 'x', sizeof(addr));
    enum addr_kind got = addr_parse(exact, len, &addr);
    CHECK_STR(text, kind_name(got), kind_name(kind));
    CHECK_STR(text, addr.local, local);
    CHECK_STR(text, addr.domain, domain);
    free(exact);
}

static void test_parse(void)
{
    static const struct {
        const char *text;
        enum addr_kind kind;
        const char *local, *domain;
    } cases[] = {
        { "user@example.com", ADDR_OK, "user", "example.com" },
        { "<user@example.com>", ADDR_OK, "user", "example.com" },
        { "<User.Name@EXAMPLE.Com>", ADDR_OK, "user.name", "example.com" },
        { "user@example.com.", ADDR_OK, "user", "example.com" },
        { "user+ext@example.com", ADDR_OK, "user+ext", "example.com" },
        { "", ADDR_NULL, "", "" },
        { "<>", ADDR_NULL, "", "" },
        { "postmaster", ADDR_NO_DOMAIN, "postmaster", "" },
        { "<Postmaster>", ADDR_NO_DOMAIN, "postmaster", "" },
        { "*", ADDR_NO_DOMAIN, "*", "" },
        { "example.com", ADDR_NO_DOMAIN, "example.com", "" },
        /* source routes */
        { "<@relay.example:user@example.com>", ADDR_OK, "user", "example.com" },
        { "<@a.example,@b.example:u@example.com>", ADDR_OK, "u", "example.com" },
        { "<@[IPv6:::1]:u@example.com>", ADDR_OK, "u", "example.com" },
        { "@example.com", ADDR_BAD, "", "" },
        { "<@example.com>", ADDR_BAD, "", "" },
        { "<@a.example:>", ADDR_BAD, "", "" },
        { "<@a.example:@b.example>", ADDR_BAD, "", "" },
        /* quotes */
        { "\"user\"@example.com", ADDR_OK, "user", "example.com" },
        { "\"us er\"@example.com", ADDR_OK, "us er", "example.com" },
        { "\"us\\\"er\"@example.com", ADDR_OK, "us\"er", "example.com" },
        { "\"a@b\"@example.com", ADDR_OK, "a@b", "example.com" },
        { "a@b@example.com", ADDR_OK, "a@b", "example.com" },
        { "a\\@b@example.com", ADDR_OK, "a@b", "example.com" },
        { "first.\"mid dle\".last@example.com", ADDR_OK, "first.mid dle.last",
          "example.com" },
        { "u\\ser@example.com", ADDR_OK, "user", "example.com" },
        { "\"\"@example.com", ADDR_BAD, "", "example.com" },
        { "\"user@example.com", ADDR_BAD, "user", "example.com" },
        { "user+\"@example.com", ADDR_BAD, "user+", "example.com" },
        { "user+\\@example.com", ADDR_BAD, "user+", "example.com" },
        { "\"user@example.com\"", ADDR_NO_DOMAIN, "user@example.com", "" },
        { "user@example.com\\", ADDR_BAD, "", "" },
        /* what Postfix takes */
        { "o'brien=x@example.com", ADDR_OK, "o'brien=x", "example.com" },
        { ".dot..dot.@example.com", ADDR_OK, ".dot..dot.", "example.com" },
        { "j\xc3\xbcrgen@example.com", ADDR_OK, "j\xc3\xbcrgen", "example.com" },
        { "us er@example.com", ADDR_BAD, "us", "example.com" },
        { "us\ter@example.com", ADDR_BAD, "us", "example.com" },
        { "\"us\ner\"@example.com", ADDR_BAD, "us", "example.com" },
        { "us\x7f@example.com", ADDR_BAD, "us", "example.com" },
        /* domains */
        { "user@[192.0.2.1]", ADDR_OK, "user", "[192.0.2.1]" },
        { "user@[IPv6:2001:DB8::1]", ADDR_OK, "user", "[ipv6:2001:db8::1]" },
        { "user@[IPv6:2001:db8:0:0::0:01]", ADDR_OK, "user", "[ipv6:2001:db8::1]" },
        { "user@[2001:db8::1]", ADDR_OK, "user", "[ipv6:2001:db8::1]" },
        { "user@[IPv6:::FFFF:192.0.2.1]", ADDR_OK, "user", "[ipv6:::ffff:192.0.2.1]" },
        { "user@[IPv6:x]", ADDR_OK, "user", "[ipv6:x]" },
        { "user@[192.0.2.1", ADDR_BAD, "", "" },
        { "user@[]", ADDR_BAD, "", "" },
        { "user@[a]b]", ADDR_BAD, "", "" },
        { "user@", ADDR_BAD, "", "" },
        { "user@.", ADDR_BAD, "", "" },
        { "user@a..b", ADDR_BAD, "", "" },
        { "user@.example.com", ADDR_BAD, "", "" },
        { "user@example.com..", ADDR_BAD, "", "" },
        { "user@exa mple.com", ADDR_BAD, "", "" },
        { "user@example.com\n", ADDR_BAD, "", "" },
        { "user@under_score.example", ADDR_OK, "user", "under_score.example" },
        { "user@B\xc3\xbc"
          "cher.example",
          ADDR_OK, "user", "xn--bcher-kva.example" },
        { "user@XN--BCHER-KVA.example", ADDR_OK, "user", "xn--bcher-kva.example" },
        { "user@stra\xc3\x9f"
          "e.example",
          ADDR_OK, "user", "xn--strae-oqa.example" },
        { "user@b\xc3\xbc"
          "cher\xe3\x80\x82"
          "example",
          ADDR_OK, "user", "xn--bcher-kva.example" },
        { "user@\xff\xfe.example", ADDR_BAD, "", "" },
        { "Foo <user@example.com>", ADDR_BAD, "", "" },
        { "<user@example.com", ADDR_OK, "<user", "example.com" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_parse(cases[i].text, strlen(cases[i].text), cases[i].kind, cases[i].local,
                    cases[i].domain);
    check_parse("us\0er@example.com", 17, ADDR_BAD, "us", "example.com");
    check_parse("user@exam\0ple.com", 17, ADDR_BAD, "", "");
    check_parse("user@b\xc3\xbc\0x.com", 14, ADDR_BAD, "", "");
}

static void test_lengths(void)
{
    char text[1024], local[ADDR_LOCAL_MAX + 1], domain[ADDR_DOMAIN_MAX + 1];

    memset(local, 'a', ADDR_LOCAL_MAX);
    local[ADDR_LOCAL_MAX] = '\0';
    snprintf(text, sizeof(text), "%s@example.com", local);
    check_parse(text, strlen(text), ADDR_OK, local, "example.com");
    snprintf(text, sizeof(text), "%sa@example.com", local);
    check_parse(text, strlen(text), ADDR_OVERLONG, local, "example.com");
    /* Quotes and backslashes do not count. */
    snprintf(text, sizeof(text), "\"\\%s\"@example.com", local);
    check_parse(text, strlen(text), ADDR_OK, local, "example.com");
    snprintf(text, sizeof(text), "%sa", local);
    check_parse(text, strlen(text), ADDR_BAD, "", "");

    /* 63 + 1 + 63 + 1 + 63 + 1 + 61 = 253 */
    memset(domain, 'd', ADDR_DOMAIN_MAX);
    domain[63] = domain[127] = domain[191] = '.';
    domain[ADDR_DOMAIN_MAX] = '\0';
    snprintf(text, sizeof(text), "user@%s", domain);
    check_parse(text, strlen(text), ADDR_OK, "user", domain);
    snprintf(text, sizeof(text), "user@%s.", domain);
    check_parse(text, strlen(text), ADDR_OK, "user", domain);
    snprintf(text, sizeof(text), "user@%sd", domain);
    check_parse(text, strlen(text), ADDR_BAD, "", "");
    domain[63] = 'd'; /* a label of 127 characters */
    snprintf(text, sizeof(text), "user@%s", domain);
    check_parse(text, strlen(text), ADDR_BAD, "", "");

    char *huge = malloc(1 << 20);
    memset(huge, 0xc3, 1 << 20);
    huge[1] = '@';
    check_parse("", 0, ADDR_NULL, "", "");
    struct addr addr;
    CHECK_INT("a megabyte of domain", addr_parse(huge, 1 << 20, &addr), ADDR_BAD);
    free(huge);
}

static void test_base(void)
{
    static const struct {
        const char *local, *delimiters, *base; /* NULL: none */
    } cases[] = {
        { "user+ext", "+", "user" },
        { "user", "+", NULL },
        { "user+a+b", "+", "user" },
        { "+ext", "+", NULL },
        { "+a+b", "+", NULL },
        { "user+", "+", "user" },
        { "user-a+b", "+-", "user" },
        { "user+a-b", "+-", "user" },
        { "user+ext", "", NULL },
        { "user+ext", "-", NULL },
        { "", "+", NULL },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char base[ADDR_LOCAL_MAX + 1];
        bool got = addr_base(cases[i].local, cases[i].delimiters, base);
        CHECK_INT(cases[i].local, got, cases[i].base != NULL);
        CHECK_STR(cases[i].local, base, cases[i].base ? cases[i].base : "");
    }
}

static void test_format(void)
{
    static const struct {
        const char *local, *domain, *text;
    } cases[] = {
        { "user", "example.com", "user@example.com" },
        { "first.last+x", "example.com", "first.last+x@example.com" },
        { "us er", "example.com", "\"us er\"@example.com" },
        { "a\"b\\c", "example.com", "\"a\\\"b\\\\c\"@example.com" },
        { "a@b", "example.com", "\"a@b\"@example.com" },
        { ".a", "example.com", "\".a\"@example.com" },
        { "a..b", "example.com", "\"a..b\"@example.com" },
        { "a.", "example.com", "\"a.\"@example.com" },
        { "", "example.com", "\"\"@example.com" },
        { "postmaster", "", "postmaster" },
        { "j\xc3\xbcrgen", "example.com", "j\xc3\xbcrgen@example.com" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[ADDR_TEXT_MAX + 1];
        addr_format(cases[i].local, cases[i].domain, text);
        CHECK_STR(cases[i].local, text, cases[i].text);
    }
    /* The longest there is fits, and comes back as it was. */
    struct addr longest = { "", "" }, back;
    char text[ADDR_TEXT_MAX + 1];
    memset(longest.local, '"', ADDR_LOCAL_MAX);
    memset(longest.domain, 'd', ADDR_DOMAIN_MAX);
    longest.domain[60] = longest.domain[120] = longest.domain[180] = '.';
    longest.domain[240] = '.';
    addr_format(longest.local, longest.domain, text);
    CHECK_INT("longest", strlen(text), ADDR_TEXT_MAX);
    CHECK_INT("longest", addr_parse(text, strlen(text), &back), ADDR_OK);
    CHECK_STR("longest", back.local, longest.local);
    CHECK_STR("longest", back.domain, longest.domain);
}

/* Whatever parses formats to something that parses to the same. */
static void test_garbage(void)
{
    static const char alphabet[] = "aB.@\"\\<>[]: +\t\n\xc3\xbc,";
    unsigned seed = 1;

    for (int round = 0; round < 200000; round++) {
        char text[24], formatted[ADDR_TEXT_MAX + 1];
        struct addr addr, again;
        size_t len = (size_t)(rand_r(&seed) % (int)sizeof(text));
        for (size_t i = 0; i < len; i++)
            text[i] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
        if (addr_parse(text, len, &addr) != ADDR_OK)
            continue;
        addr_format(addr.local, addr.domain, formatted);
        enum addr_kind kind = addr_parse(formatted, strlen(formatted), &again);
        if (kind != ADDR_OK || strcmp(addr.local, again.local) != 0 ||
            strcmp(addr.domain, again.domain) != 0) {
            printf("\n  \"%.*s\" became \"%s\"\n", (int)len, text, formatted);
            CU_FAIL("round trip");
            return;
        }
    }
    CU_PASS("round trip");
}

UNIT_MAIN("addr", { "parse", test_parse }, { "lengths", test_lengths },
          { "base", test_base }, { "format", test_format }, { "garbage", test_garbage })
