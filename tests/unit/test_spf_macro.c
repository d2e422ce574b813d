/* SPF macros: the examples of RFC 7208 7.4, and values that nobody expects. */
#include "../../lib/spf_macro.h"

#include "unit.h"

static struct spf_macro_values rfc(const char *client)
{
    struct spf_macro_values values = {
        .sender = "strong-bad@email.example.com",
        .local = "strong-bad",
        .sender_domain = "email.example.com",
        .domain = "email.example.com",
        .helo = "mx.example.org",
        .receiver = "mx.receiver.test",
        .validated = "unknown",
        .now = 1700000000,
    };

    netaddr_parse(client, strlen(client), &values.client);
    return values;
}

struct macro_case {
    const char *client, *text, *want; /* want NULL: it does not expand */
};

#define V4 "192.0.2.3"
#define V6 "2001:db8::cb01"

static const struct macro_case expansions[] = {
    /* RFC 7208 7.4 */
    { V4, "%{s}", "strong-bad@email.example.com" },
    { V4, "%{o}", "email.example.com" },
    { V4, "%{d}", "email.example.com" },
    { V4, "%{d4}", "email.example.com" },
    { V4, "%{d3}", "email.example.com" },
    { V4, "%{d2}", "example.com" },
    { V4, "%{d1}", "com" },
    { V4, "%{dr}", "com.example.email" },
    { V4, "%{d2r}", "example.email" },
    { V4, "%{l}", "strong-bad" },
    { V4, "%{l-}", "strong.bad" },
    { V4, "%{lr}", "strong-bad" },
    { V4, "%{lr-}", "bad.strong" },
    { V4, "%{l1r-}", "strong" },
    { V4, "%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com" },
    { V4, "%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com" },
    { V4, "%{lr-}.lp.%{ir}.%{v}._spf.%{d2}",
      "bad.strong.lp.3.2.0.192.in-addr._spf.example.com" },
    { V4, "%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}",
      "3.2.0.192.in-addr.strong.lp._spf.example.com" },
    { V4, "%{d2}.trusted-domains.example.net",
      "example.com.trusted-domains.example.net" },
    { V6, "%{ir}.%{v}._spf.%{d2}",
      "1.0.B.C.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2.ip6._spf."
      "example.com" },
    /* the other letters */
    { V4, "%{h} %{r} %{p} %{t}", "mx.example.org mx.receiver.test unknown 1700000000" },
    { V4, "%{c} %{i}", "192.0.2.3 192.0.2.3" },
    { V6, "%{c} %{v}", "2001:db8::cb01 ip6" },
    { V4, "%%%_%-", "% %20" },
    { V4, "", "" },
    /* upper case: URL escapes */
    { V4, "%{S}", "strong-bad%40email.example.com" },
    { V4, "%{D2R}", "example.email" },
    /* digits */
    { V4, "%{d128}", "email.example.com" },
    { V4, "%{d99999999999999999999}", "email.example.com" },
    { V4, "%{d0000000001}", "com" },
    /* delimiters: all of them, and twice */
    { V4, "%{s@}", NULL },
    { V4, "%{s.-}", "strong.bad@email.example.com" },
    { V4, "%{s.-.-+,/_=}", "strong.bad@email.example.com" },
};

static void test_expansions(void)
{
    for (size_t i = 0; i < sizeof(expansions) / sizeof(expansions[0]); i++) {
        const struct macro_case *each = &expansions[i];
        struct spf_macro_values values = rfc(each->client);
        char out[512];
        bool ok =
            spf_macros_are_sound(each->text, strlen(each->text), SPF_IN_EXPLANATION) &&
            spf_macro_expand(each->text, strlen(each->text), &values, out, sizeof(out));
        if (each->want && ok)
            CHECK_STR(each->text, out, each->want);
        CHECK_INT(each->text, ok, each->want != NULL);
    }
}

static void test_values(void)
{
    static const struct {
        const char *local, *text, *want;
    } cases[] = {
        { "a.b-c+d,e/f_g=h", "%{l.-+,/_=}", "a.b.c.d.e.f.g.h" },
        { "a.b-c+d,e/f_g=h", "%{l3r=_}", "h.g.a.b-c+d,e/f" },
        { "..", "%{l}|%{l2}|%{l1}|%{lr}", "..|.||.." },
        { "", "<%{l}%{lr-}%{l2}>", "<>" },
        { "~jack&jill=up-a_b3.c", "%{L}", "~jack%26jill%3Dup-a_b3.c" },
        { "\xc3\xa4 \"", "%{L}", "%C3%A4%20%22" },
        { "Macro Error", "%{l} in", "Macro Error in" },
        { "%{s}%", "%{l}", "%{s}%" }, /* a value is not read again */
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct spf_macro_values values = rfc(V4);
        char out[128] = "(does not expand)";
        values.local = cases[i].local;
        spf_macro_expand(cases[i].text, strlen(cases[i].text), &values, out, sizeof(out));
        CHECK_STR(cases[i].text, out, cases[i].want);
    }
}

static void test_sound(void)
{
    static const struct {
        const char *text;
        bool in_domain, in_explanation;
    } cases[] = {
        { "", true, true },           { "a:b/c", true, true },
        { "two words", false, true }, { "tab\t", false, false },
        { "\x80", false, false },     { "%{i}%{s}%{l}%{o}%{d}%{p}%{v}%{h}", true, true },
        { "%{c}", false, true },      { "%{R}", false, true },
        { "%{t5r}", false, true },    { "%{x}", false, false },
        { "%{}", false, false },      { "%{d", false, false },
        { "%{", false, false },       { "%", false, false },
        { "%%", true, true },         { "%a", false, false },
        { "%{d0}", false, false },    { "%{dr5}", false, false },
        { "%{dR}", true, true },      { "%{d.r}", false, false },
        { "%{d|}", false, false },    { "%{d }", false, false },
        { "%{-5r}", false, false },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = strlen(cases[i].text);
        CHECK_INT(cases[i].text, spf_macros_are_sound(cases[i].text, len, SPF_IN_DOMAIN),
                  cases[i].in_domain);
        CHECK_INT(cases[i].text,
                  spf_macros_are_sound(cases[i].text, len, SPF_IN_EXPLANATION),
                  cases[i].in_explanation);
    }
    CHECK_INT("p used", spf_macro_used("x%%p%{d}%{P2}", 13, 'p'), true);
    CHECK_INT("p not used", spf_macro_used("%%{p}%{d}", 9, 'p'), false);
    CHECK_INT("any used", spf_macro_used("a%_b%{d}", 8, 0), true);
    CHECK_INT("none used", spf_macro_used("a%_b%%", 6, 0), false);
}

/* What the macro code of libspf2 1.2.10 overflows on: long values, reversed,
 * escaped, many times over. */
static void test_bounds(void)
{
    static char long_local[SPF_MACRO_VALUE_MAX + 2], text[2048];
    struct spf_macro_values values = rfc(V4);
    char out[321], name[SPF_NAME_MAX + 1];

    memset(long_local, '.', SPF_MACRO_VALUE_MAX);
    values.local = long_local;
    for (size_t i = 0; i + 6 < sizeof(text); i += 6)
        memcpy(text + i, "%{LR-}", 6);
    size_t len = sizeof(text) / 6 * 6;
    CHECK_INT("no room", spf_macro_expand(text, len, &values, out, sizeof(out)), false);
    CHECK_INT("a name", spf_macro_domain(text, len, &values, name), true);
    CHECK_INT("is cut", strlen(name) <= SPF_NAME_MAX, true);
    long_local[SPF_MACRO_VALUE_MAX] = '.';
    CHECK_INT("a value too long", spf_macro_domain(text, len, &values, name), false);
    values.local = NULL;
    CHECK_INT("not known", spf_macro_expand("%{l}", 4, &values, out, sizeof(out)), false);
    values.client.family = AF_UNSPEC;
    CHECK_INT("no client", spf_macro_expand("%{i}", 4, &values, out, sizeof(out)), false);
    CHECK_INT("no client", spf_macro_expand("%{v}", 4, &values, out, sizeof(out)), false);
    CHECK_INT("just fits", spf_macro_expand("1234567", 7, &values, out, 8), true);
    CHECK_INT("just not", spf_macro_expand("12345678", 8, &values, out, 8), false);
}

static void test_domains(void)
{
    struct spf_macro_values values = rfc(V4);
    char label[61], spec[700], want[600], name[SPF_NAME_MAX + 1];

    memset(label, 'x', 60);
    label[60] = '\0';
    CHECK_INT("final dot", spf_macro_domain("%{d}.", 5, &values, name), true);
    CHECK_STR("final dot", name, "email.example.com");
    /* 4 * 61 + 9 = 253 bytes fit; one more label is cut off on the left */
    snprintf(want, sizeof(want), "%s.%s.%s.%s.123.45678", label, label, label, label);
    CHECK_INT("length", strlen(want), 253);
    CHECK_INT("fits", spf_macro_domain(want, strlen(want), &values, name), true);
    CHECK_STR("fits", name, want);
    snprintf(spec, sizeof(spec), "%%{d1}.%s.", want);
    CHECK_INT("cut", spf_macro_domain(spec, strlen(spec), &values, name), true);
    CHECK_STR("cut", name, want);
    snprintf(spec, sizeof(spec), "y%s", want);
    CHECK_INT("cut at a label", spf_macro_domain(spec, strlen(spec), &values, name),
              true);
    CHECK_STR("cut at a label", name, want + 61);
    memset(spec, 'z', 300);
    CHECK_INT("one label", spf_macro_domain(spec, 300, &values, name), true);
    CHECK_INT("one label", strlen(name), 253);
}

UNIT_MAIN("spf_macro", { "sound", test_sound }, { "expansions", test_expansions },
          { "values", test_values }, { "bounds", test_bounds },
          { "domains", test_domains })
