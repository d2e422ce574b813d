/* Authentication-Results: what is written, and which ones claim to be ours. */
#include <stdlib.h>
#include <time.h>

#include "../../milter/authres.h"
#include "authres_grammar.h"
#include "unit.h"

#define ID "mx.example.com"

/* ---- the writer ---------------------------------------------------------- */

/* Whether no line is longer than it may be, but for single long words. */
static bool is_folded(const char *name, const char *value)
{
    size_t column = strlen(name) + 2;

    for (; *value; value++) {
        if (*value == '\n')
            column = 0;
        else
            column += *value == '\t' ? 8 : 1;
        if (column > 77)
            return false;
    }
    return true;
}

static void check_written(const char *what, const struct authres_facts *facts,
                          const char *want)
{
    char *got = authres_write(facts);

    CHECK_STR(what, got, want);
    CHECK_INT(what, grammar_authres(got), true);
    CHECK_INT(what, is_folded(AUTHRES_HEADER, got), true);
    CHECK_INT(what, authres_is_ours(got, strlen(got), facts->authserv_id), true);
    free(got);
}

static void test_whole(void)
{
    struct spf_outcome spf = { .result = AUTH_PASS }, helo = { .result = AUTH_NONE };
    struct signature signatures[] = {
        { .result = AUTH_PASS,
          .domain = "example.org",
          .selector = "s1",
          .identity = "@example.org",
          .algorithm = "rsa-sha256",
          .b = "dzdVyOfA",
          .key_bits = 2048 },
        { .result = AUTH_FAIL,
          .domain = "list.example",
          .selector = "2024",
          .identity = "news@list.example",
          .algorithm = "ed25519-sha256",
          .b = "a/b+c=Zz",
          .reason = "body hash did not match",
          .key_bits = 256,
          .secure = true },
    };
    struct dmarc_outcome dmarc = { .result = AUTH_PASS,
                                   .from = "example.org",
                                   .policy = DMARC_REJECT,
                                   .policy_tag = "p",
                                   .disposition = DMARC_REJECT };
    struct authres_facts facts = { .authserv_id = ID,
                                   .spf = &spf,
                                   .spf_helo = &helo,
                                   .mail_from = "joe@example.org",
                                   .helo = "out.example.org",
                                   .signatures = signatures,
                                   .count = 2,
                                   .dkim = true,
                                   .dmarc = &dmarc };

    check_written("all of it", &facts,
                  ID
                  ";\n\tspf=pass smtp.mailfrom=joe@example.org;"
                  "\n\tspf=none smtp.helo=out.example.org;"
                  "\n\tdkim=pass (2048-bit key) header.d=example.org header.s=s1"
                  "\n\theader.a=rsa-sha256 header.b=dzdVyOfA;"
                  "\n\tdkim=fail (256-bit key, DNSSEC) reason=\"body hash did not match\""
                  "\n\theader.d=list.example header.i=news@list.example header.s=2024"
                  "\n\theader.a=ed25519-sha256 header.b=\"a/b+c=Zz\";"
                  "\n\tdmarc=pass (p=reject) header.from=example.org");

    /* A fold within a text, close to its end. */
    memset(signatures[1].reason, 'r', 70);
    memcpy(signatures[1].reason + 70, " it", 4);
    facts.spf = facts.spf_helo = NULL;
    facts.dmarc = NULL;
    facts.signatures++;
    facts.count = 1;
    char *folded = authres_write(&facts);
    CHECK_INT("folded", strstr(folded, "r\n it\" header.d=") != NULL, true);
    CHECK_INT("folded", grammar_authres(folded), true);
    free(folded);

    facts.spf = &spf;
    facts.spf_helo = &helo;
    facts.dmarc = &dmarc;
    facts.count = 0;
    facts.mail_from = "";
    spf.result = AUTH_SOFTFAIL;
    dmarc = (struct dmarc_outcome){ .result = AUTH_FAIL,
                                    .from = "sub.example.org",
                                    .policy = DMARC_REJECT,
                                    .policy_tag = "sp",
                                    .disposition = DMARC_QUARANTINE,
                                    .reason = "no aligned pass" };
    check_written("null sender", &facts,
                  ID ";\n\tspf=softfail smtp.helo=out.example.org;"
                     "\n\tdkim=none;"
                     "\n\tdmarc=fail (sp=reject) reason=\"no aligned pass\""
                     "\n\tpolicy.dmarc=quarantine header.from=sub.example.org");

    facts.beyond = 3;
    facts.spf = facts.spf_helo = NULL;
    facts.dmarc = NULL;
    check_written("too many", &facts,
                  ID ";\n\tdkim=policy reason=\"3 more signatures not looked at\"");
    facts.dkim = false;
    check_written("nothing", &facts, ID "; none");
    facts.authserv_id = "gate way/1";
    check_written("an id in quotes", &facts, "\"gate way/1\"; none");
}

static void test_sender(void)
{
    static const struct {
        const char *sender, *written;
    } cases[] = {
        { "joe@example.org", "joe@example.org" },
        { "SRS0=ab+c=1=a.example=joe@example.org",
          "SRS0=ab+c=1=a.example=joe@example.org" },
        { "Joe.O'Neil/x@EXAMPLE.org", "Joe.O'Neil/x@EXAMPLE.org" },
        { "\"joe x\"@example.org", "\"\\\"joe x\\\"@example.org\"" },
        { "joe x@example.org", "\"joe x@example.org\"" },
        { "joe;spf=pass@example.org", "\"joe;spf=pass@example.org\"" },
        { "joe(x)@example.org", "\"joe(x)@example.org\"" },
        { ".joe@example.org", "\".joe@example.org\"" },
        { "a..b@example.org", "\"a..b@example.org\"" },
        { "a\\b@example.org", "\"a\\\\b@example.org\"" },
        { "a@b@example.org", "\"a@b@example.org\"" },
        { "joe@[192.0.2.1]", "\"joe@[192.0.2.1]\"" },
        { "joe@localhost", "\"joe@localhost\"" },
        { "joe@under_score.example", "\"joe@under_score.example\"" },
        { "joe@-a.example", "\"joe@-a.example\"" },
        { "joe@a-.example", "\"joe@a-.example\"" },
        { "joe@a..example", "\"joe@a..example\"" },
        { "joe@example.", "\"joe@example.\"" },
        { "joe@", "\"joe@\"" },
        { "@example.org", "@example.org" },
        { "joe", "joe" },
        { "b\xc3\xbc"
          "cher.example",
          "xn--bcher-kva.example" },
        { "joe@b\xc3\xbc"
          "cher.example",
          "joe@xn--bcher-kva.example" },
        { "j\xc3\xb6@example.org", "\"j\xc3\xb6@example.org\"" },
        { "j\xf6@example.org", "\"j?@example.org\"" },
        { "j\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80@e.org", "\"j?????????@e.org\"" },
        { "j\xc2\x85\xc2\x9f\xe2\x82", "\"j??????\"" },
        { "\xf0\x9f\x93\xac@example.org", "\"\xf0\x9f\x93\xac@example.org\"" },
        { "a\nX-Evil: 1\r\x01\x7f\t@example.org", "\"a?X-Evil: 1????@example.org\"" },
    };
    struct spf_outcome spf = { .result = AUTH_NONE };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct authres_facts facts = {
            .authserv_id = ID, .spf = &spf, .mail_from = cases[i].sender, .helo = "h"
        };
        char want[256];
        snprintf(want, sizeof(want), ID ";\n\tspf=none smtp.mailfrom=%s",
                 cases[i].written);
        check_written(cases[i].sender, &facts, want);
    }
}

static void test_helo(void)
{
    static const struct {
        const char *helo, *written;
    } cases[] = {
        { "mail.example.org", "smtp.helo=mail.example.org" },
        { "WIN-1", "smtp.helo=WIN-1" },
        { "[192.0.2.1]", "smtp.helo=\"[192.0.2.1]\"" },
        { "[IPv6:::1]", "smtp.helo=\"[IPv6:::1]\"" },
        { "a b\"c\\", "smtp.helo=\"a b\\\"c\\\\\"" },
        { "x; dkim=pass", "smtp.helo=\"x; dkim=pass\"" },
        { "x\xff", "smtp.helo=\"x?\"" },
    };
    struct spf_outcome spf = { .result = AUTH_NONE };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct authres_facts facts = {
            .authserv_id = ID, .spf_helo = &spf, .mail_from = "", .helo = cases[i].helo
        };
        char want[256];
        snprintf(want, sizeof(want), ID ";\n\tspf=none %s", cases[i].written);
        check_written(cases[i].helo, &facts, want);
    }
}

/* Nothing is longer than it may be, whatever comes. */
static void test_bounds(void)
{
    struct spf_outcome spf = { .result = AUTH_PERMERROR }, helo = spf;
    static struct signature signatures[SIGNATURES_LIMIT];
    static char sender[3000];
    struct dmarc_outcome dmarc = { .result = AUTH_FAIL, .policy_tag = "np" };
    struct authres_facts facts = { .authserv_id = ID,
                                   .spf = &spf,
                                   .spf_helo = &helo,
                                   .mail_from = sender,
                                   .helo = dmarc.from,
                                   .signatures = signatures,
                                   .beyond = (size_t)-1,
                                   .dkim = true,
                                   .dmarc = &dmarc };
    static const char *const fills[] = { "d", "\"", " ", "\x01", "\xc3\xbc", "d\\ " };

    for (size_t i = 0; i < sizeof(fills) / sizeof(fills[0]); i++) {
        size_t step = strlen(fills[i]);
#define FILL(field)                                                                      \
    for (size_t n = 0; n + step < sizeof(field); n += step)                              \
    memcpy((field) + n, fills[i], step + 1)
        FILL(spf.reason);
        FILL(helo.reason);
        FILL(sender);
        FILL(dmarc.from);
        FILL(dmarc.reason);
        for (size_t k = 0; k < SIGNATURES_LIMIT; k++) {
            FILL(signatures[k].domain);
            FILL(signatures[k].selector);
            FILL(signatures[k].identity);
            FILL(signatures[k].algorithm);
            FILL(signatures[k].b);
            FILL(signatures[k].reason);
            signatures[k].key_bits = (unsigned)-1;
        }
        memcpy(sender + sizeof(sender) - 13, "@example.org", 13);
        for (facts.count = 0; facts.count <= SIGNATURES_LIMIT; facts.count += 8) {
            char *got = authres_write(&facts);
            CHECK_INT(fills[i], strlen(got) <= AUTHRES_VALUE_MAX, true);
            CHECK_INT(fills[i], grammar_authres(got), true);
            CHECK_INT(fills[i], authres_is_ours(got, strlen(got), ID), true);
            CHECK_INT(fills[i], strstr(got, "smtp.mailfrom=example.org;") != NULL, true);
            free(got);
        }
    }
}

static void test_received_spf(void)
{
    struct spf_outcome spf = { .result = AUTH_FAIL, .mechanism = "-all", .reason = "no" };
    struct authres_facts facts = { .authserv_id = ID,
                                   .spf = &spf,
                                   .mail_from = "joe@example.org",
                                   .helo = "h.example" };
    char *got = authres_received_spf(&facts, "192.0.2.1", ID);

    CHECK_STR("fail", got,
              "fail receiver=mx.example.com; client-ip=192.0.2.1;"
              "\n\tenvelope-from=\"joe@example.org\"; helo=h.example; identity=mailfrom;"
              "\n\tmechanism=-all;");
    CHECK_INT("fail", is_folded(RECEIVED_SPF_HEADER, got), true);
    free(got);
    spf.result = AUTH_PERMERROR;
    spf.mechanism[0] = '\0';
    snprintf(spf.reason, sizeof(spf.reason), "two records; \"v=spf1\"");
    facts.mail_from = "";
    facts.helo = "a\nb";
    got = authres_received_spf(&facts, "2001:db8::1", ID);
    CHECK_STR(
        "null sender", got,
        "permerror receiver=mx.example.com; client-ip=\"2001:db8::1\";"
        "\n\thelo=\"a?b\"; identity=helo; problem=\"two records; \\\"v=spf1\\\"\";");
    free(got);
    facts.spf = NULL;
    CHECK_INT("no spf", authres_received_spf(&facts, "192.0.2.1", ID) == NULL, true);
}

/* ---- the reader ---------------------------------------------------------- */

static void check_claim(const char *value, size_t len, const char *id, bool want)
{
    char *exact = malloc(len ? len : 1); /* so that a read past the end is seen */

    memcpy(exact, value, len);
    CHECK_INT(value, authres_is_ours(exact, len, id), want);
    free(exact);
}

static void test_ours(void)
{
    static const char *const values[] = {
        " mx.example.com; spf=pass smtp.mailfrom=a@example.com",
        "mx.example.com;spf=pass",
        "MX.Example.COM; spf=pass",
        "mx.example.com 1; spf=pass",
        "mx.example.com 1",
        "mx.example.com",
        "mx.example.com.",
        "mx.example.com.; spf=pass",
        "mx.example.com;",
        "mx.example.com; none",
        "mx.example.com\n\t;\n\tnone",
        "\r\n\tmx.example.com\r\n\t;\r\n\tnone",
        "\"mx.example.com\"; spf=pass",
        "\"MX.example.com\" 1; spf=pass",
        "\"m\\x.exam\\ple.com\"; spf=pass",
        "\"mx.\n\texample.com\"; spf=pass",
        "\"mx.example.com",
        "\"mx.example.com; spf=pass",
        "\"mx.example.com x\"; spf=pass",
        "\"mx.example.com\".evil.test; spf=pass",
        "\"mx\".\"example\".com; spf=pass",
        "(x) mx.example.com; spf=pass",
        "(a(b\\)(c))d)\n\t(e) mx.example.com (f) 1 (g); spf=pass",
        "mx.example.com(x); spf=pass",
        "mx.(x)example.com; spf=pass",
        "mx(x).(y) example (z). com; spf=pass",
        "mx . example . com; spf=pass",
        "mx.exam\n\tple.com; spf=pass",
        "(mx.example.com; spf=pass",
        "((a) mx.example.com; spf=pass",
        "(a (b) mx.example.com; spf=pass (c))",
        "(\\) mx.example.com; spf=pass)",
        "(a)) mx.example.com; spf=pass",
        "mx.example.com (unfinished; spf=pass",
        "mx.example.com/evil; spf=pass",
        "mx.example.com evil; spf=pass",
        "mx.example.com .evil.test; spf=pass",
        "mx.example.com(x).evil.test; spf=pass",
        "mx.example.com=1; spf=pass",
        "mx.example.com@evil.test; spf=pass",
        "mx.example.com:25; spf=pass",
        "mx.example.com,evil; spf=pass",
        "mx.example.com\\; spf=pass",
        "mx\\.example.com; spf=pass",
        "mx.example.com\\x; spf=pass",
        "<mx.example.com>; spf=pass",
        "; mx.example.com; spf=pass",
        "@mx.example.com; spf=pass",
        "\x01mx.example.com\x02; spf=pass",
        "mx.exa\x03mple.com; spf=pass",
        "mx.example.com\xff; spf=pass",
        "mx.example.com\xc2\xa0; spf=pass",
        "mx.example.com\xe2\x80\x83"
        "evil..test; spf=pass",
        "mx.\xe2\x80\x8b"
        "example.com; spf=pass",
        "\xef\xbd\x8dx.example.com; spf=pass",
        "mx\xe3\x80\x82"
        "example\xef\xbc\x8e"
        "com; spf=pass",
        "=?utf-8?q?mx.example.com?=; spf=pass",
        " (x) =?utf-8?b?bXguZXhhbXBsZS5jb20=?=; spf=pass",
        "\"=?utf-8?q?mx?=\"; spf=pass",
    };

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        check_claim(values[i], strlen(values[i]), ID, true);
    check_claim("mx.example.com\0.evil.test", 25, ID, true);
    check_claim("\0mx.example.com", 15, ID, true);
}

static void test_not_ours(void)
{
    static const char *const values[] = {
        "",
        " \t\r\n",
        ";",
        "; none",
        "none",
        "1; none",
        "mx.example.com.evil.test; spf=pass",
        "mx.example.com.evil.test",
        "mx.example.com-evil.test; spf=pass",
        "mx.example.comx; spf=pass",
        "mx.example.com_; spf=pass",
        "evil-mx.example.com; spf=pass",
        "xmx.example.com; spf=pass",
        "x.mx.example.com; spf=pass",
        ".mx.example.com; spf=pass",
        "mx.example.co; spf=pass",
        "example.com; spf=pass smtp.helo=mx.example.com",
        "other.example (mx.example.com); spf=pass",
        "(mx.example.com) other.example; spf=pass",
        "other.example; mx.example.com; spf=pass",
        "other.example 1; dkim=pass header.d=mx.example.com",
        "\"other\"; mx.example.com",
        "\"mx.example.com.evil.test\"; spf=pass",
        "mx.example.com..; spf=pass",
        "mx..example.com; spf=pass",
        "mx.example.com.b\xc3\xbc"
        "cher.example; spf=pass",
        "mx.b\xc3\xbc"
        "cher.example; spf=pass",
        "((((((((((",
        "))))",
        "\"\"",
        "\\",
    };

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        check_claim(values[i], strlen(values[i]), ID, false);
}

static void test_ids(void)
{
    static const struct {
        const char *id, *value;
        bool ours;
    } cases[] = {
        { "MX.Example.com", "mx.example.com; none", true },
        { "mx.b\xc3\xbc"
          "cher.example",
          "mx.xn--bcher-kva.example; none", true },
        { "mx.xn--bcher-kva.example",
          "MX.B\xc3\x9c"
          "CHER.example; none",
          true },
        { "mx.xn--bcher-kva.example", "mx.bucher.example; none", false },
        { "gate", "gate; none", true },
        { "gate", "gateway; none", false },
        { "gate", "gate.example; none", false },
        { "Gate Way", "\"gate way\"; none", true },
        { "gate/1", "\"gate/1\"; none", true },
        { "gate/1", "gate/1; none", true },
        { "gate/1", "gate/2; none", false },
        { "gate/1", "gate/12; none", false },
        { "a\"b\\c", "\"a\\\"b\\\\c\"; none", true },
        { "[192.0.2.1]", "\"[192.0.2.1]\"; none", true },
        { "", "; none", false },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_claim(cases[i].value, strlen(cases[i].value), cases[i].id, cases[i].ours);
}

/* A megabyte of what could be slow; 60 times as much as it takes, at least. */
static void test_megabyte(void)
{
    static const struct {
        const char *unit, *end;
        bool ours;
    } cases[] = {
        { "(", "mx.example.com; none", true },
        { ")", "mx.example.com; none", true },
        { "()", "mx.example.com; none", true },
        { "(()", "mx.example.com; none", true },
        { "\\(", "mx.example.com; none", true },
        { "\"", "mx.example.com; none", true },
        { " \n", "mx.example.com; none", true },
        { "(a) ", "mx.example.com; none", true },
        { "a(b)", "; none", false },
        { "\xc3\xbc(b) ", "; none", false },
        { ".", "mx.example.com", false },
        { "=", "mx.example.com", true },
    };
    size_t size = 1 << 20;
    char *value = malloc(size + 64);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = 0, step = strlen(cases[i].unit);
        for (; len + step <= size; len += step)
            memcpy(value + len, cases[i].unit, step);
        memcpy(value + len, cases[i].end, strlen(cases[i].end));
        len += strlen(cases[i].end);
        clock_t began = clock();
        CHECK_INT(cases[i].unit, authres_is_ours(value, len, ID), cases[i].ours);
        CHECK_INT(cases[i].unit, (clock() - began) < CLOCKS_PER_SEC * 2, true);
    }
    free(value);
}

UNIT_MAIN("authres", { "whole", test_whole }, { "sender", test_sender },
          { "helo", test_helo }, { "bounds", test_bounds },
          { "Received-SPF", test_received_spf }, { "ours", test_ours },
          { "not ours", test_not_ours }, { "ids", test_ids },
          { "a megabyte", test_megabyte })
