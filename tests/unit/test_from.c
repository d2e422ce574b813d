/* From fields: every legal form, and what is made to look like one. */
#include <stdlib.h>
#include <time.h>

#include "../../milter/from.h"
#include "unit.h"

static const char *status_name(enum from_status status)
{
    static const char *const names[] = {
        [FROM_ONE] = "one",
        [FROM_SEVERAL] = "several",
        [FROM_DIFFERENT] = "different",
        [FROM_NONE] = "none",
        [FROM_MALFORMED] = "malformed",
    };
    return names[status];
}

static void check_from(const char *value, size_t len, enum from_status status,
                       const char *domain)
{
    char out[ADDR_DOMAIN_MAX + 1];
    char *exact = malloc(len ? len : 1); /* so that a read past the end is seen */

    memcpy(exact, value, len);
    memset(out, 'x', sizeof(out));
    enum from_status got = from_domain(exact, len, out);
    CHECK_STR(value, status_name(got), status_name(status));
    CHECK_STR(value, out, domain);
    free(exact);
}

struct from_case {
    const char *value;
    enum from_status status;
    const char *domain;
};

static void check_cases(const struct from_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check_from(cases[i].value, strlen(cases[i].value), cases[i].status,
                   cases[i].domain);
}

#define CHECK_CASES(cases) check_cases(cases, sizeof(cases) / sizeof((cases)[0]))

static void test_plain(void)
{
    static const struct from_case cases[] = {
        { "user@example.com", FROM_ONE, "example.com" },
        { " User@EXAMPLE.Com ", FROM_ONE, "example.com" },
        { "<user@example.com>", FROM_ONE, "example.com" },
        { "User <user@example.com>", FROM_ONE, "example.com" },
        { "\"a@b.com\" <c@d.com>", FROM_ONE, "d.com" },
        { "\"a@b.com>\" <c@d.com>", FROM_ONE, "d.com" },
        { "\"<a@b.com>\" <c@d.com>", FROM_ONE, "d.com" },
        { "J. R. \"Bob\" Dobbs <bob@example.com>", FROM_ONE, "example.com" },
        { "\"quoted \\\" <a@b.com>\" <c@d.com>", FROM_ONE, "d.com" },
        { "=?utf-8?q?=3Ca=40b.com=3E?= <c@d.com>", FROM_ONE, "d.com" },
        { "=?utf-8?b?PGFAYi5jb20+?= <c@d.com>", FROM_ONE, "d.com" },
        { "user@example.com.", FROM_ONE, "example.com" },
        { "user@localhost", FROM_ONE, "localhost" },
        { "a..b.@example.com", FROM_ONE, "example.com" },
        { "\"a@b\"@example.com", FROM_ONE, "example.com" },
        { "<\"a@b.com> <x\"@example.com>", FROM_ONE, "example.com" },
        { "\"first\".last@example.com", FROM_ONE, "example.com" },
        { "a\n\t<user@example.com>", FROM_ONE, "example.com" },
        { "a\r\n <user@example.com>", FROM_ONE, "example.com" },
        /* RFC 5322 A.1.2, A.1.3, A.5, A.6 */
        { "\"Joe Q. Public\" <john.q.public@example.com>", FROM_ONE, "example.com" },
        { "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", FROM_ONE,
          "silly.test" },
        { "John Doe <jdoe@machine(comment).  example>", FROM_ONE, "machine.example" },
        { "Mary Smith <@node.test,@b.example:mary@example.net>, , jdoe@test . example",
          FROM_DIFFERENT, "" },
    };
    CHECK_CASES(cases);
}

static void test_structure(void)
{
    static const struct from_case cases[] = {
        /* comments */
        { "(a@b.com) c@d.com", FROM_ONE, "d.com" },
        { "c@d.com (a@b.com)", FROM_ONE, "d.com" },
        { "(((a@b.com)<e@f.com>)) <c@d.com>", FROM_ONE, "d.com" },
        { "c(\"@b.com\\))@(x)d(y).(z)com(w)", FROM_ONE, "d.com" },
        { "c(\")@b.com(\\))@(x)d.com(w)", FROM_MALFORMED, "" },
        { "(a@b.com <c@d.com>", FROM_MALFORMED, "" },
        { "c@d.com (((", FROM_MALFORMED, "" },
        { "c@d.com ()) x", FROM_MALFORMED, "" },
        { "c@d.com (\\", FROM_MALFORMED, "" },
        { "c@d.com (\\)", FROM_MALFORMED, "" },
        /* routes */
        { "<@a,@b:user@example.com>", FROM_ONE, "example.com" },
        { "<,,@a,,@b.com,:user@example.com>", FROM_ONE, "example.com" },
        { "x <@a:user@example.com>", FROM_ONE, "example.com" },
        { "<@a,@b user@example.com>", FROM_MALFORMED, "" },
        { "<,:user@example.com>", FROM_MALFORMED, "" },
        { "<@:user@example.com>", FROM_MALFORMED, "" },
        { "<@a:@b:user@example.com>", FROM_MALFORMED, "" },
        { "@a:user@example.com", FROM_MALFORMED, "" },
        /* several */
        { "a@example.com, b@example.com", FROM_SEVERAL, "example.com" },
        { "a@example.com, b@EXAMPLE.com.", FROM_SEVERAL, "example.com" },
        { "a@example.com, b@example.net", FROM_DIFFERENT, "" },
        { "a@example.com, b@mail.example.com", FROM_DIFFERENT, "" },
        { "a@example.com,", FROM_ONE, "example.com" },
        { ",,a@example.com,(c),", FROM_ONE, "example.com" },
        { ", ,", FROM_NONE, "" },
        { "a@example.com b@example.com", FROM_MALFORMED, "" },
        { "a@example.com; b@example.com", FROM_MALFORMED, "" },
        { "<a@example.com> <b@example.net>", FROM_MALFORMED, "" },
        { "<a@example.com>, nobody", FROM_MALFORMED, "" },
        /* groups */
        { "Undisclosed recipients:;", FROM_NONE, "" },
        { "Undisclosed recipients:(nobody) , ;", FROM_NONE, "" },
        { "group: a@example.com;", FROM_ONE, "example.com" },
        { "group: a@example.com, \"b\" <b@example.com>;", FROM_SEVERAL, "example.com" },
        { "group: a@example.com;, b@example.net", FROM_DIFFERENT, "" },
        { "empty:;, b@example.net", FROM_ONE, "example.net" },
        { "\"a@b.com\":c@d.com;", FROM_ONE, "d.com" },
        { "group: a@example.com", FROM_MALFORMED, "" },
        { "group:", FROM_MALFORMED, "" },
        { "a:b:c@example.com;;", FROM_MALFORMED, "" },
        { ":a@example.com;", FROM_MALFORMED, "" },
        { "group:a@example.com; b@example.com", FROM_MALFORMED, "" },
        { "a@example.com;", FROM_MALFORMED, "" },
        { "a@b.com:c@d.com;", FROM_MALFORMED, "" },
        { ";", FROM_MALFORMED, "" },
    };
    CHECK_CASES(cases);
}

static void test_fooled(void)
{
    static const struct from_case cases[] = {
        { "", FROM_NONE, "" },
        { "  \t ", FROM_NONE, "" },
        { "(comment only)", FROM_NONE, "" },
        { "<>", FROM_MALFORMED, "" },
        { "nobody", FROM_MALFORMED, "" },
        { "user@", FROM_MALFORMED, "" },
        { "@example.com", FROM_MALFORMED, "" },
        { ".@", FROM_MALFORMED, "" },
        { ".@example.com", FROM_MALFORMED, "" },
        { "a@b.com <c@d.com>", FROM_DIFFERENT, "" },
        { "a@d.com <c@D.com>", FROM_ONE, "d.com" },
        { "a@d.com <c@d.com>, x@d.com", FROM_SEVERAL, "d.com" },
        { "a@d.com <c@d.com> <e@d.com>", FROM_MALFORMED, "" },
        { "a@d.com x <c@d.com>", FROM_MALFORMED, "" },
        { "<a@b.com> c@d.com", FROM_MALFORMED, "" },
        { "<a@b.com>c", FROM_MALFORMED, "" },
        { "a@b@d.com", FROM_MALFORMED, "" },
        { "<a@b.com@d.com>", FROM_MALFORMED, "" },
        { "<a@b.com", FROM_MALFORMED, "" },
        { "<<a@b.com>>", FROM_MALFORMED, "" },
        { "a@b.com>", FROM_MALFORMED, "" },
        { "user <x <a@b.com>", FROM_MALFORMED, "" },
        { "a b@example.com", FROM_MALFORMED, "" },
        { "\"a\"b@example.com", FROM_MALFORMED, "" },
        { "a\"@b.com\"@example.com", FROM_MALFORMED, "" },
        { "a@example.com b", FROM_MALFORMED, "" },
        { "a@example com", FROM_MALFORMED, "" },
        { "a@\"example.com\"", FROM_MALFORMED, "" },
        { "\"a@b.com <c@d.com>", FROM_MALFORMED, "" },
        { "\"a\\\" <c@d.com>", FROM_MALFORMED, "" },
        { "\"a\\", FROM_MALFORMED, "" },
        { "a\\@b.com", FROM_MALFORMED, "" },
        { "a@b..com", FROM_MALFORMED, "" },
        { "a@.b.com", FROM_MALFORMED, "" },
        { "a@b.com..", FROM_MALFORMED, "" },
        { "a@b.c!d", FROM_MALFORMED, "" },
        { "a@[192.0.2.1]", FROM_MALFORMED, "" },
        { "a@[b.com", FROM_MALFORMED, "" },
        { "a@[b[.com]]", FROM_MALFORMED, "" },
        { "a@[b\\]@c.com]", FROM_MALFORMED, "" },
        { "[x] <a@b.com>", FROM_MALFORMED, "" },
        { "a@b.com]", FROM_MALFORMED, "" },
        { "a)@b.com", FROM_MALFORMED, "" },
        /* control characters, also where they would be obsolete syntax */
        { "a\r@b.com", FROM_MALFORMED, "" },
        { "a <c@d.com>\r", FROM_MALFORMED, "" },
        { "a\n<c@d.com>", FROM_MALFORMED, "" },
        { "a\r\n<c@d.com>", FROM_MALFORMED, "" },
        { "\"a\r\" <c@d.com>", FROM_MALFORMED, "" },
        { "(\x01) c@d.com", FROM_MALFORMED, "" },
        { "a\x7f <c@d.com>", FROM_MALFORMED, "" },
        { "a <c@d.com>\n", FROM_MALFORMED, "" },
    };
    CHECK_CASES(cases);
    check_from("a@b.com\0 <c@d.com>", 18, FROM_MALFORMED, "");
    check_from("\"\0\" <c@d.com>", 13, FROM_MALFORMED, "");
    check_from("c@d.com(\\\0)", 11, FROM_MALFORMED, "");
    check_from("c@d.com\n\0", 9, FROM_MALFORMED, "");
}

static void test_utf8(void)
{
    static const struct from_case cases[] = {
        { "J\xc3\xb6rg <j\xc3\xb6rg@example.com>", FROM_ONE, "example.com" },
        { "a@b\xc3\xbc"
          "cher.example",
          FROM_ONE, "xn--bcher-kva.example" },
        { "a@B\xc3\x9c"
          "CHER.example",
          FROM_ONE, "xn--bcher-kva.example" },
        { "a@XN--BCHER-KVA.example, b@b\xc3\xbc"
          "cher.example",
          FROM_SEVERAL, "xn--bcher-kva.example" },
        { "a@\xe5\x85\xac\xe5\x8f\xb8.cn", FROM_ONE, "xn--55qx5d.cn" },
        /* bytes that are no UTF-8: of no matter in a display name */
        { "J\xf6rg <a@b.com>", FROM_ONE, "b.com" },
        { "\"J\xf6rg\" <a@b.com> (\xff)", FROM_ONE, "b.com" },
        { "a@b\xfc"
          "cher.example",
          FROM_MALFORMED, "" },
        { "a@b.com\xff", FROM_MALFORMED, "" },
        /* a full-width "@" is none */
        { "a\xef\xbc\xa0"
          "b.com",
          FROM_MALFORMED, "" },
        { "a\xef\xbc\xa0"
          "b.com <c@d.com>",
          FROM_ONE, "d.com" },
        { "a@b.com\xe2\x80\xae <c@d.com>", FROM_MALFORMED, "" },
    };
    CHECK_CASES(cases);
}

static void repeat(char *out, size_t size, const char *unit)
{
    size_t len = strlen(unit);
    for (size_t i = 0; i < size; i++)
        out[i] = unit[i % len];
}

/* Units that make a naive parser quadratic; all but the last are malformed. */
static void test_long(void)
{
    static const char *const units[] = { "(",  ")",   "\"",    "\\",   "<",    "@a,",
                                         ".",  "a.",  "a@",    "[",    ",",    ":",
                                         "a:", "\"(", "(\"",   "a b ", "=?x?", "\xff",
                                         ";",  " ",   "a@b.c," };
    const size_t megabyte = 1024 * 1024;
    char *text = malloc(megabyte);
    char out[ADDR_DOMAIN_MAX + 1];

    clock_t start = clock();
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        repeat(text, megabyte, units[i]);
        CHECK_STR(units[i], status_name(from_domain(text, megabyte, out)), "malformed");
        from_domain(text, FROM_VALUE_MAX, out);
    }
    CHECK_INT("seconds", (clock() - start) / CLOCKS_PER_SEC, 0);
    repeat(text, FROM_VALUE_MAX, "a@b.c,");
    check_from(text, FROM_VALUE_MAX / 6 * 6, FROM_SEVERAL, "b.c");
    memset(text, '(', FROM_VALUE_MAX);
    memset(text + 32000, ')', 32000);
    memcpy(text + 64000, "a@b.com", 7);
    check_from(text, 64007, FROM_ONE, "b.com");
    repeat(text, FROM_VALUE_MAX + 1, " ");
    memcpy(text, "a@b.com", 7);
    check_from(text, FROM_VALUE_MAX, FROM_ONE, "b.com");
    check_from(text, FROM_VALUE_MAX + 1, FROM_MALFORMED, "");
    /* a domain that is too long, and one whose U-labels are */
    repeat(text, 2000, "a.");
    memcpy(text, "a@", 2);
    check_from(
        text, 255, FROM_ONE,
        "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"
        ".a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"
        ".a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"
        ".a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a");
    check_from(text, 257, FROM_MALFORMED, "");
    check_from(text, 2000, FROM_MALFORMED, "");
    free(text);
}

static void test_author(void)
{
    static const struct {
        const char *first, *second, *third;
        enum from_status status;
        const char *domain, *domains;
    } cases[] = {
        { NULL, NULL, NULL, FROM_NONE, "", "" },
        { "a@b.com", NULL, NULL, FROM_ONE, "b.com", "b.com " },
        { "a@b.com, c@b.com", NULL, NULL, FROM_SEVERAL, "b.com", "b.com " },
        { "a@b.com", "a@b.com", NULL, FROM_SEVERAL, "b.com", "b.com " },
        { "a@b.com", "c@d.com", NULL, FROM_DIFFERENT, "", "b.com d.com " },
        { "a@b.com", "c@d.com", "a@b.com", FROM_DIFFERENT, "", "b.com d.com " },
        { "a@b.com", "c@d.com", "c@d.com", FROM_DIFFERENT, "", "b.com d.com " },
        { "a@b.com", "x:;", NULL, FROM_SEVERAL, "b.com", "b.com " },
        { "", "a@b.com", NULL, FROM_SEVERAL, "b.com", "b.com " },
        { "", "a@b.com", "c@d.com", FROM_DIFFERENT, "", "b.com d.com " },
        { "a@b.com", "@", "a@b.com", FROM_MALFORMED, "", "b.com " },
        { "@", "a@b.com", "a@b.com", FROM_MALFORMED, "", "b.com " },
        { "", "", NULL, FROM_NONE, "", "" },
        /* domains of what is malformed, or shown as a name */
        { "a@b.com <c@d.com>", NULL, NULL, FROM_DIFFERENT, "", "b.com d.com " },
        { "a@B.com, <c@d.com", NULL, NULL, FROM_MALFORMED, "", "b.com d.com " },
        { "a@b.com\x01, c@d.com", NULL, NULL, FROM_MALFORMED, "", "b.com " },
        { "\"a@b.com\" <c@d.com", "<@e.com:f@g.com>", NULL, FROM_MALFORMED, "",
          "d.com g.com " },
        { "a@1.a, a@2.a, a@3.a", "a@4.a, a@5.a, a@6.a", NULL, FROM_DIFFERENT, "",
          "1.a 2.a 3.a 4.a 5.a " },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *fields[] = { cases[i].first, cases[i].second, cases[i].third };
        struct from_author author;
        char what[16], domains[64] = "";
        unsigned n = 0;

        memset(&author, 'x', sizeof(author));
        from_author_reset(&author);
        for (; n < 3 && fields[n]; n++)
            from_author_add(&author, fields[n], strlen(fields[n]));
        snprintf(what, sizeof(what), "author %zu", i);
        CHECK_STR(what, status_name(author.status), status_name(cases[i].status));
        CHECK_STR(what, author.domain, cases[i].domain);
        for (size_t j = 0, used = 0; j < author.count; j++)
            used += (size_t)snprintf(domains + used, sizeof(domains) - used, "%s ",
                                     author.domains[j]);
        CHECK_STR(what, domains, cases[i].domains);
        CHECK_INT(what, author.fields, n);
    }
}

/* Bytes from the characters that matter: nothing to expect but a sound answer. */
static void test_garbage(void)
{
    static const char alphabet[] = "ab.@@<>(),:;\"\\[] \t\r\n\xc3\xbc\x01=?";
    unsigned seed = 1;

    for (unsigned round = 0; round < 200000; round++) {
        char text[48], out[ADDR_DOMAIN_MAX + 1];
        size_t len = round % sizeof(text);
        for (size_t i = 0; i < len; i++) {
            seed = seed * 1103515245u + 12345u;
            text[i] = alphabet[(seed >> 16) % (sizeof(alphabet))];
        }
        char *exact = malloc(len ? len : 1);
        memcpy(exact, text, len);
        enum from_status status = from_domain(exact, len, out);
        bool named = status == FROM_ONE || status == FROM_SEVERAL;
        if (named != (out[0] != '\0') || (named && out[0] == '[')) {
            CHECK_STR("garbage", out, "");
            free(exact);
            return;
        }
        free(exact);
    }
    CU_PASS("garbage");
}

UNIT_MAIN("from", { "plain", test_plain }, { "structure", test_structure },
          { "fooled", test_fooled }, { "utf8", test_utf8 }, { "long", test_long },
          { "author", test_author }, { "garbage", test_garbage })
