/* SPF: results with their reasons over zones of the test, hostile input, threads. */
#include "../../milter/spf.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "clock.h"
#include "unit.h"

/* ---- zones --------------------------------------------------------------- */

/* A name and one record, or no data ("-" for text), or a failure ("!"). The
 * records of one name and type stand one after the other. MX and PTR: the name
 * alone; TXT: one string after the other, parted by '|'. */
struct entry {
    const char *name;
    enum rr_type type;
    const char *text;
};

static size_t wire_name(const char *text, unsigned char *out)
{
    size_t used = 0;

    while (*text && strcmp(text, ".") != 0) {
        size_t len = strcspn(text, ".");
        out[used++] = (unsigned char)len;
        memcpy(out + used, text, len);
        used += len;
        text += len + (text[len] == '.');
    }
    out[used++] = 0;
    return used;
}

static size_t wire_txt(const char *text, unsigned char *out)
{
    size_t used = 0;

    for (;;) {
        size_t whole = strcspn(text, "|");
        size_t len = whole > 255 ? 255 : whole;
        out[used++] = (unsigned char)len;
        memcpy(out + used, text, len);
        used += len;
        text += len;
        if (*text == '|')
            text++;
        else if (!*text)
            return used;
    }
}

static size_t wire(const struct entry *entry, unsigned char *out)
{
    switch (entry->type) {
    case RR_A:
        return inet_pton(AF_INET, entry->text, out) == 1 ? 4 : 0;
    case RR_AAAA:
        return inet_pton(AF_INET6, entry->text, out) == 1 ? 16 : 0;
    case RR_MX:
        out[0] = out[1] = 0;
        return 2 + wire_name(entry->text, out + 2);
    case RR_PTR:
        return wire_name(entry->text, out);
    default:
        return wire_txt(entry->text, out);
    }
}

#define RECORDS_MAX 16

static void put_entries(struct resolver *resolver, const struct entry *entries,
                        size_t count)
{
    static unsigned char data[RECORDS_MAX][20000];
    struct answer_record records[RECORDS_MAX];
    enum answer_kind kind = entries[0].text[0] == '-' && !entries[0].text[1]
                                ? ANSWER_NODATA
                            : strcmp(entries[0].text, "!") == 0 ? ANSWER_FAILED
                                                                : ANSWER_DATA;

    for (size_t i = 0; i < count; i++)
        records[i] = (struct answer_record){ data[i], wire(&entries[i], data[i]) };
    CHECK_INT(entries[0].name,
              resolver_put(resolver, entries[0].name, entries[0].type, kind, records,
                           kind == ANSWER_DATA ? count : 0),
              true);
}

static struct spf *begin(struct resolver **resolver, const struct entry *zone,
                         size_t count)
{
    char error[256] = "";

    *resolver = resolver_new(NULL, error, sizeof(error));
    CHECK_STR("resolver", error, "");
    for (size_t i = 0, end; i < count; i = end) {
        end = i + 1;
        while (end < count && zone[end].type == zone[i].type &&
               strcmp(zone[end].name, zone[i].name) == 0)
            end++;
        put_entries(*resolver, zone + i, end - i);
    }
    return spf_new(*resolver);
}

static void end(struct spf *spf, struct resolver *resolver)
{
    spf_free(spf);
    resolver_free(resolver);
}

static struct spf_question question(const char *client, const char *helo,
                                    const char *sender)
{
    struct spf_question out = { .helo = helo,
                                .sender = sender,
                                .receiver = "mx.receiver.test",
                                .deadline_ms = clock_ms() + 5000 };

    netaddr_parse(client, strlen(client), &out.client);
    return out;
}

/* ---- results ------------------------------------------------------------- */

#define ONE_TO_TEN(type, name)                                                           \
    { name, type, "n0.test" }, { name, type, "n1.test" }, { name, type, "n2.test" },     \
        { name, type, "n3.test" }, { name, type, "n4.test" }, { name, type, "n5.test" }, \
        { name, type, "n6.test" }, { name, type, "n7.test" }, { name, type, "n8.test" }, \
    {                                                                                    \
        name, type, "n9.test"                                                            \
    }

static const struct entry zone[] = {
    { "simple.test", RR_TXT, "v=spf1 ip4:198.51.100.0/24 a mx -all" },
    { "simple.test", RR_A, "192.0.2.1" },
    { "simple.test", RR_AAAA, "2001:db8::1" },
    { "simple.test", RR_MX, "mx.simple.test" },
    { "mx.simple.test", RR_A, "192.0.2.2" },
    { "soft.test", RR_TXT, "v=spf1 mx:simple.test ~all" },
    { "query.test", RR_TXT, "v=spf1 ?all" },
    { "ends.test", RR_TXT, "v=spf1 ip4:192.0.2.9" },
    { "minus.test", RR_TXT, "v=spf1 -ip4:192.0.2.9 ~ip4:192.0.2.8 ?a:simple.test +all" },
    { "void.test", RR_TXT,
      "v=spf1 a:a.void.test mx:b.void.test exists:c.void.test -all" },
    { "void2.test", RR_TXT, "v=spf1 a:a.void.test ptr mx:b.void.test -all" },
    { "bad.test", RR_TXT, "v=spf1 -all moo" },
    { "two.test", RR_TXT, "v=spf1 -all" },
    { "two.test", RR_TXT, "V=SPF1" },
    { "other.test", RR_TXT, "v=spf2.0/pra" },
    { "other.test", RR_TXT, "v=spf1 -all" },
    { "parts.test", RR_TXT, "v=sp|f1 ip4:|192.0.2.9 -all" },
    { "late.test", RR_TXT, "!" },
    { "nodata.test", RR_TXT, "-" },
    { "late-a.test", RR_TXT, "v=spf1 a:late.test -all" },
    { "late.test", RR_A, "!" },
    { "late-mx.test", RR_TXT, "v=spf1 mx -all" },
    { "late-mx.test", RR_MX, "late.test" },
    { "late-include.test", RR_TXT, "v=spf1 include:late.test -all" },
    { "late-exists.test", RR_TXT, "v=spf1 exists:late.test -all" },
    { "late-redirect.test", RR_TXT, "v=spf1 redirect=late.test" },
    { "include.test", RR_TXT, "v=spf1 include:simple.test ~all" },
    { "include-soft.test", RR_TXT, "v=spf1 -include:soft.test ?all" },
    { "include-none.test", RR_TXT, "v=spf1 include:nodata.test ~all" },
    { "include-bad.test", RR_TXT, "v=spf1 include:bad.test ~all" },
    { "loop.test", RR_TXT, "v=spf1 include:loop.test" },
    { "loop-mx.test", RR_TXT, "v=spf1 a:simple.test redirect=loop-mx.test" },
    { "redirect.test", RR_TXT, "v=spf1 redirect=simple.test" },
    { "redirect-soft.test", RR_TXT, "v=spf1 redirect=soft.test" },
    { "redirect-none.test", RR_TXT, "v=spf1 redirect=nodata.test" },
    { "redirect-all.test", RR_TXT, "v=spf1 redirect=bad.test -all" },
    { "all-mx.test", RR_TXT, "v=spf1 mx -all" },
    ONE_TO_TEN(RR_MX, "all-mx.test"),
    { "n9.test", RR_A, "192.0.2.99" },
    { "n0.test", RR_A, "192.0.2.90" },
    { "n1.test", RR_A, "192.0.2.91" },
    { "more-mx.test", RR_TXT, "v=spf1 mx -all" },
    ONE_TO_TEN(RR_MX, "more-mx.test"),
    { "more-mx.test", RR_MX, "n10.test" },
    { "null-mx.test", RR_TXT, "v=spf1 mx ?all" },
    { "null-mx.test", RR_MX, "." },
    { "ptr.test", RR_TXT, "v=spf1 ptr ptr:simple.test -all" },
    { "h.ptr.test", RR_A, "192.0.2.20" },
    { "h.xptr.test", RR_A, "192.0.2.21" },
    { "ptr.test", RR_A, "192.0.2.22" },
    { "20.2.0.192.in-addr.arpa", RR_PTR, "late.test" },
    { "20.2.0.192.in-addr.arpa", RR_PTR, "h.PTR.test" },
    { "21.2.0.192.in-addr.arpa", RR_PTR, "h.xptr.test" },
    { "21.2.0.192.in-addr.arpa", RR_PTR, "h.ptr.test" },
    { "22.2.0.192.in-addr.arpa", RR_PTR, "ptr.test" },
    { "24.2.0.192.in-addr.arpa", RR_PTR, "!" },
    ONE_TO_TEN(RR_PTR, "23.2.0.192.in-addr.arpa"),
    { "23.2.0.192.in-addr.arpa", RR_PTR, "h23.ptr.test" },
    { "h23.ptr.test", RR_A, "192.0.2.23" },
    { "zero.test", RR_TXT, "v=spf1 a:simple.test/0 -all" },
    { "zero6.test", RR_TXT, "v=spf1 a:simple.test//0 -all" },
    { "zero-mx.test", RR_TXT, "v=spf1 mx:simple.test/0 -all" },
    { "zero-void.test", RR_TXT, "v=spf1 a:nodata.test/0 -all" },
    { "cidr.test", RR_TXT, "v=spf1 a:simple.test/29//64 -all" },
    { "six.test", RR_TXT, "v=spf1 ip6:2001:db8:aaaa:bbbb:cccc:dddd:eeee:ff00/120 -all" },
    { "mapped.test", RR_TXT, "v=spf1 a:six.mapped.test ip6:::ffff:192.0.2.1 -all" },
    { "six.mapped.test", RR_AAAA, "::ffff:192.0.2.1" },
    { "exists.test", RR_TXT, "v=spf1 exists:%{ir}.%{v}.%{l}.list.test -all" },
    { "1.2.0.192.in-addr.joe.list.test", RR_A, "127.0.0.2" },
    { "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.joe.list.test",
      RR_A, "127.0.0.2" },
    { "helo.test", RR_TXT, "v=spf1 a:%{h} -all" },
    { "odd name%.simple.test", RR_A, "192.0.2.1" },
    { "p.test", RR_TXT, "v=spf1 exists:%{p}.list.test -all exp=e.p.test" },
    { "h.ptr.test.list.test", RR_A, "127.0.0.2" },
    { "e.p.test", RR_TXT, "%{p} %{c} %{r}" },
    { "exp.test", RR_TXT, "v=spf1 exp=e.exp.test ip4:198.51.100.1 -all" },
    { "e.exp.test", RR_TXT, "See http://%{o}/why?s=%{S}&i=%{I}|." },
    { "exp-long.test", RR_TXT, "v=spf1 exp=e.exp-long.test -all" },
    { "e.exp-long.test", RR_TXT, "%{l}%{l}%{l}%{l}%{l}%{l}%{l}%{l}" },
    { "exp-two.test", RR_TXT, "v=spf1 exp=e.exp-two.test -all" },
    { "e.exp-two.test", RR_TXT, "one" },
    { "e.exp-two.test", RR_TXT, "two" },
    { "exp-late.test", RR_TXT, "v=spf1 exp=late.test -all" },
    { "xn--bcher-kva.test", RR_TXT, "v=spf1 -all" },
    { "ten.test", RR_TXT,
      "v=spf1 a:simple.test a:simple.test a:simple.test a:simple.test a:simple.test "
      "a:simple.test a:simple.test a:simple.test a:simple.test a:simple.test -all" },
    { "eleven.test", RR_TXT, "v=spf1 include:ten.test a:simple.test -all" },
};

struct result_case {
    const char *client, *helo, *sender, *want;
};

#define IN      "192.0.2.1"
#define IN6     "2001:db8::1"
#define OUT     "203.0.113.1"
#define HELO    "mx.simple.test"
#define RESULTS sizeof(results) / sizeof(results[0])

/* want: result, "all" when by_all, lookups, mechanism, and the reason behind ';' */
static const struct result_case results[] = {
    { "198.51.100.9", HELO, "joe@simple.test", "pass 0 ip4:198.51.100.0/24;" },
    { IN, HELO, "joe@simple.test", "pass 1 a;" },
    { IN6, HELO, "joe@simple.test", "pass 1 a;" },
    { "::ffff:192.0.2.1", HELO, "joe@simple.test", "pass 1 a;" },
    { "192.0.2.2", HELO, "joe@simple.test", "pass 2 mx;" },
    { OUT, HELO, "joe@simple.test",
      "fail all 2 -all;203.0.113.1 may not send for simple.test" },
    /* a loopback client is a client like another */
    { "127.0.0.1", HELO, "joe@simple.test",
      "fail all 2 -all;127.0.0.1 may not send for simple.test" },
    { "::1", HELO, "joe@simple.test",
      "fail all 2 -all;::1 may not send for simple.test" },
    { OUT, HELO, "joe@soft.test",
      "softfail all 1 ~all;203.0.113.1 should not send for soft.test" },
    { OUT, HELO, "joe@query.test",
      "neutral all 0 ?all;query.test says nothing of 203.0.113.1" },
    { OUT, HELO, "joe@ends.test",
      "neutral all 0 ;ends.test says nothing of 203.0.113.1" },
    { "192.0.2.9", HELO, "joe@minus.test",
      "fail 0 -ip4:192.0.2.9;192.0.2.9 may not send for minus.test" },
    { "192.0.2.8", HELO, "joe@minus.test",
      "softfail 0 ~ip4:192.0.2.8;192.0.2.8 should not send for minus.test" },
    { IN, HELO, "joe@minus.test",
      "neutral 1 ?a:simple.test;minus.test says nothing of 192.0.2.1" },
    { OUT, HELO, "joe@minus.test", "pass 1 +all;" },
    /* identities */
    { IN, "simple.test", "", "pass 1 a;" },
    { IN, "simple.test", NULL, "pass 1 a;" },
    { IN, "Simple.Test.", "", "pass 1 a;" },
    { IN, "simple", "", "none 0 ;the HELO name is not a domain name" },
    { IN, "[192.0.2.1]", "", "none 0 ;the HELO name is not a domain name" },
    { IN, "192.0.2.1", "", "none 0 ;the HELO name is not a domain name" },
    { IN, "", "", "none 0 ;the HELO name is not a domain name" },
    { IN, NULL, "", "none 0 ;the HELO name is not a domain name" },
    { IN, HELO, "joe", "none 0 ;the sender's domain is not a domain name" },
    { IN, HELO, "joe@", "none 0 ;the sender's domain is not a domain name" },
    { IN, HELO, "joe@a..test", "none 0 ;the sender's domain is not a domain name" },
    { IN, HELO, "joe@[192.0.2.1]", "none 0 ;the sender's domain is not a domain name" },
    { IN, HELO, "@simple.test", "pass 1 a;" },
    { IN, HELO, "\"a@b\"@simple.test", "pass 1 a;" },
    { OUT, HELO,
      "joe@b\xc3\xbc"
      "cher.test",
      "fail all 0 -all;203.0.113.1 may not send for xn--bcher-kva.test" },
    { "", HELO, "joe@simple.test", "none 0 ;the client's address is not known" },
    /* records */
    { IN, HELO, "joe@not-there.test", "none 0 ;not-there.test has no SPF record" },
    { IN, HELO, "joe@nodata.test", "none 0 ;nodata.test has no SPF record" },
    { IN, HELO, "joe@bad.test",
      "permerror 0 ;bad.test: term 2 (\"moo\"): no such mechanism" },
    { IN, HELO, "joe@two.test", "permerror 0 ;two.test: more than one SPF record" },
    { IN, HELO, "joe@other.test",
      "fail all 0 -all;192.0.2.1 may not send for other.test" },
    { "192.0.2.9", HELO, "joe@parts.test", "pass 0 ip4:192.0.2.9;" },
    /* DNS fails */
    { IN, HELO, "joe@late.test", "temperror 0 ;late.test: server failure" },
    { IN, HELO, "joe@late-a.test",
      "temperror 1 ;late-a.test: a:late.test: server failure" },
    { IN, HELO, "joe@late-mx.test", "temperror 1 ;late-mx.test: mx: server failure" },
    { IN, HELO, "joe@late-exists.test",
      "temperror 1 ;late-exists.test: exists:late.test: server failure" },
    { IN, HELO, "joe@late-include.test", "temperror 1 ;late.test: server failure" },
    { IN, HELO, "joe@late-redirect.test", "temperror 1 ;late.test: server failure" },
    /* include and redirect */
    { IN, HELO, "joe@include.test", "pass 2 include:simple.test;" },
    { OUT, HELO, "joe@include.test",
      "softfail all 3 ~all;203.0.113.1 should not send for include.test" },
    { OUT, HELO, "joe@include-soft.test",
      "neutral all 2 ?all;include-soft.test says nothing of 203.0.113.1" },
    { "192.0.2.2", HELO, "joe@include-soft.test",
      "fail 2 -include:soft.test;192.0.2.2 may not send for include-soft.test" },
    { IN, HELO, "joe@include-none.test",
      "permerror 1 ;include-none.test: included nodata.test has no SPF record" },
    { IN, HELO, "joe@include-bad.test",
      "permerror 1 ;bad.test: term 2 (\"moo\"): no such mechanism" },
    { IN, HELO, "joe@loop.test",
      "permerror 11 ;loop.test: more than ten terms that ask DNS" },
    { OUT, HELO, "joe@loop-mx.test",
      "permerror 11 ;loop-mx.test: more than ten terms that ask DNS" },
    { IN, HELO, "joe@redirect.test", "pass 2 a;" },
    { OUT, HELO, "joe@redirect-soft.test",
      "softfail all 2 ~all;203.0.113.1 should not send for redirect-soft.test" },
    { IN, HELO, "joe@redirect-none.test",
      "permerror 1 ;redirect-none.test: redirected to nodata.test, which has no SPF "
      "record" },
    { IN, HELO, "joe@redirect-all.test",
      "fail all 0 -all;192.0.2.1 may not send for redirect-all.test" },
    /* limits */
    { IN, HELO, "joe@ten.test", "pass 1 a:simple.test;" },
    { OUT, HELO, "joe@ten.test",
      "fail all 10 -all;203.0.113.1 may not send for ten.test" },
    { OUT, HELO, "joe@eleven.test",
      "permerror 11 ;ten.test: more than ten terms that ask DNS" },
    { OUT, HELO, "joe@void.test",
      "permerror 3 ;void.test: more than two terms whose names are not there" },
    { OUT, HELO, "joe@void2.test",
      "fail all 3 -all;203.0.113.1 may not send for void2.test" },
    { "192.0.2.90", HELO, "joe@all-mx.test", "pass 1 mx;" },
    { "192.0.2.99", HELO, "joe@all-mx.test", "pass 1 mx;" },
    { "192.0.2.90", HELO, "joe@more-mx.test",
      "permerror 1 ;more-mx.test: mx: more than ten exchanges" },
    { OUT, HELO, "joe@null-mx.test",
      "neutral all 1 ?all;null-mx.test says nothing of 203.0.113.1" },
    /* ptr */
    { "192.0.2.20", HELO, "joe@ptr.test", "pass 1 ptr;" },
    { "192.0.2.22", HELO, "joe@ptr.test", "pass 1 ptr;" },
    { "192.0.2.21", HELO, "joe@ptr.test",
      "fail all 2 -all;192.0.2.21 may not send for ptr.test" },
    { "192.0.2.23", HELO, "joe@ptr.test",
      "fail all 2 -all;192.0.2.23 may not send for ptr.test" },
    { "192.0.2.24", HELO, "joe@ptr.test",
      "fail all 2 -all;192.0.2.24 may not send for ptr.test" },
    /* prefix lengths */
    { OUT, HELO, "joe@zero.test", "pass 1 a:simple.test/0;" },
    { "2001:db8:f::1", HELO, "joe@zero.test",
      "fail all 1 -all;2001:db8:f::1 may not send for zero.test" },
    { "2001:db8:f::1", HELO, "joe@zero6.test", "pass 1 a:simple.test//0;" },
    { OUT, HELO, "joe@zero-mx.test", "pass 1 mx:simple.test/0;" },
    { OUT, HELO, "joe@zero-void.test",
      "fail all 1 -all;203.0.113.1 may not send for zero-void.test" },
    { "192.0.2.7", HELO, "joe@cidr.test", "pass 1 a:simple.test/29//64;" },
    { "192.0.2.8", HELO, "joe@cidr.test",
      "fail all 1 -all;192.0.2.8 may not send for cidr.test" },
    { "2001:db8::ffff", HELO, "joe@cidr.test", "pass 1 a:simple.test/29//64;" },
    { "2001:db8:0:1::", HELO, "joe@cidr.test",
      "fail all 1 -all;2001:db8:0:1:: may not send for cidr.test" },
    { "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", HELO, "joe@six.test",
      "pass 0 ip6:2001:db8:aaaa:bbbb:cccc:dddd:eeee:ff00/120;" },
    { IN, HELO, "joe@mapped.test",
      "fail all 1 -all;192.0.2.1 may not send for mapped.test" },
    /* macros */
    { IN, HELO, "joe@exists.test", "pass 1 exists:%{ir}.%{v}.%{l}.list.test;" },
    { IN6, HELO, "joe@exists.test", "pass 1 exists:%{ir}.%{v}.%{l}.list.test;" },
    { IN, HELO, "jim@exists.test",
      "fail all 1 -all;192.0.2.1 may not send for exists.test" },
    { IN, "odd name%.simple.test", "joe@helo.test", "pass 1 a:%{h};" },
    { "192.0.2.20", HELO, "joe@p.test", "pass 1 exists:%{p}.list.test;" },
    { "192.0.2.22", HELO, "joe@p.test",
      "fail all 1 -all;p.test explains: ptr.test 192.0.2.22 mx.receiver.test" },
    { OUT, HELO, "joe@p.test",
      "fail all 1 -all;p.test explains: unknown 203.0.113.1 mx.receiver.test" },
    /* explanations */
    { OUT, HELO, "a b@exp.test",
      "fail all 0 -all;exp.test explains: See "
      "http://exp.test/why?s=a%20b%40exp.test&i=203.0.113.1." },
    { OUT, HELO, "\x01\x80\xff%{d}@exp-long.test",
      "fail all 0 -all;exp-long.test explains: "
      "???%{d}???%{d}???%{d}???%{d}???%{d}???%{d}???%{d}???%{d}" },
    { OUT, HELO, "0123456789012345678901234567890123456789x@exp-long.test",
      "fail all 0 -all;203.0.113.1 may not send for exp-long.test" },
    { OUT, HELO, "joe@exp-two.test",
      "fail all 0 -all;203.0.113.1 may not send for exp-two.test" },
    { OUT, HELO, "joe@exp-late.test",
      "fail all 0 -all;203.0.113.1 may not send for exp-late.test" },
};

static void outcome_text(const struct spf_outcome *out, char *text, size_t size)
{
    snprintf(text, size, "%s%s %u %s;%s", auth_result_name(out->result),
             out->by_all ? " all" : "", out->lookups, out->mechanism, out->reason);
}

static void check_results(bool prefetch)
{
    struct resolver *resolver;
    struct spf *spf = begin(&resolver, zone, sizeof(zone) / sizeof(zone[0]));

    for (size_t i = 0; i < RESULTS; i++) {
        char what[128], got[800];
        struct spf_question asked =
            question(results[i].client, results[i].helo, results[i].sender);
        struct spf_outcome out;
        if (prefetch)
            spf_prefetch(spf, &asked);
        spf_check(spf, &asked, &out);
        outcome_text(&out, got, sizeof(got));
        snprintf(what, sizeof(what), "%s %s", results[i].client,
                 results[i].sender ? results[i].sender : "(none)");
        CHECK_STR(what, got, results[i].want);
    }
    end(spf, resolver);
}

static void test_results(void)
{
    check_results(false);
}

static void test_prefetched(void)
{
    check_results(true);
}

/* ---- hostile input ------------------------------------------------------- */

/* Nothing here may matter but that it ends, with a result. */
static void test_hostile(void)
{
    static char record[16000], sender[4000], helo[3000];
    static const char *const specs[] = {
        "a:%{dr}",
        "a:%{d128r.-+,/_=}.x",
        "exists:%{LR-}.%{SR=}.%{HR+}.x",
        "exists:%{i128r}.x",
        "include:%{l}.%{l}.%{l}.%{l}.%{l}.x",
        "mx:%{p}",
        "ptr:%{p}",
        "a:%%%_%-%%%_%-.x",
    };
    static const char *const locals[] = { "", "-", "---", "%", "%{", "a\\", "\xff", "@" };

    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        size_t used = (size_t)snprintf(record, sizeof(record), "v=spf1");
        for (int n = 0; n < 60; n++)
            used +=
                (size_t)snprintf(record + used, sizeof(record) - used, " ?%s", specs[i]);
        const struct entry hostile[] = { { "x.test", RR_TXT, record },
                                         { "1.2.0.192.in-addr.arpa", RR_PTR, "x.test" },
                                         { "x.test", RR_A, "192.0.2.1" } };
        struct resolver *resolver;
        struct spf *spf = begin(&resolver, hostile, 3);
        for (size_t j = 0; j < sizeof(locals) / sizeof(locals[0]); j++) {
            struct spf_outcome out;
            size_t len = (size_t)snprintf(sender, sizeof(sender), "%s", locals[j]);
            while (len > 0 && len < j * 200) { /* up to more than is taken */
                memcpy(sender + len, sender, strlen(locals[j]));
                len += strlen(locals[j]);
            }
            snprintf(sender + len, sizeof(sender) - len, "@x.test");
            memset(helo, locals[j][0] ? locals[j][0] : '.', sizeof(helo) - 1);
            struct spf_question asked = question(IN, helo, sender);
            spf_prefetch(spf, &asked);
            spf_check(spf, &asked, &out);
            CHECK_INT(specs[i], out.result != AUTH_POLICY, true);
        }
        end(spf, resolver);
    }
}

/* What runs in the resolver's thread is to cost it little: specs of dozens of
 * macros, and a sender of a thousand bytes. */
static void test_costly(void)
{
    static char record[16000], sender[1100];
    const struct entry costly[] = { { "x.test", RR_TXT, record } };
    struct resolver *resolver;
    size_t used = (size_t)snprintf(record, sizeof(record), "v=spf1");

    while (used < 15400) {
        used += (size_t)snprintf(record + used, sizeof(record) - used, " exists:");
        for (int n = 0; n < 120; n++)
            used += (size_t)snprintf(record + used, sizeof(record) - used, "%%{S}");
    }
    struct spf *spf = begin(&resolver, costly, 1);
    for (size_t local = 50; local <= 1000; local += 950) {
        memset(sender, '+', local);
        snprintf(sender + local, sizeof(sender) - local, "@x.test");
        struct spf_question asked = question(IN, HELO, sender);
        clock_t start = clock();
        for (int i = 0; i < 60; i++)
            spf_prefetch(spf, &asked);
        CHECK_INT("seconds", (clock() - start) / CLOCKS_PER_SEC, 0);
    }
    end(spf, resolver);
}

/* A record as long as DNS has them, and more exchanges than any limit. */
static void test_large(void)
{
    static char record[20000];
    struct resolver *resolver;
    struct spf_outcome out;
    size_t used = (size_t)snprintf(record, sizeof(record), "v=spf1");

    for (int i = 0; i < 500; i++)
        used += (size_t)snprintf(record + used, sizeof(record) - used,
                                 " ip4:10.%d.%d.0/24", i / 256, i % 256);
    snprintf(record + used, sizeof(record) - used, " ip4:192.0.2.1 -all");
    struct entry large[] = { { "large.test", RR_TXT, record },
                             { "huge.test", RR_TXT, "v=spf1 -all" } };
    struct spf *spf = begin(&resolver, large, 2);
    struct spf_question asked = question(IN, HELO, "joe@large.test");
    spf_check(spf, &asked, &out);
    CHECK_STR("large", out.mechanism, "ip4:192.0.2.1");
    end(spf, resolver);

    memset(record + 6, ' ', sizeof(record) - 7);
    large[1].text = record;
    spf = begin(&resolver, large + 1, 1);
    asked = question(IN, HELO, "joe@huge.test");
    spf_check(spf, &asked, &out);
    CHECK_STR("huge", out.reason, "huge.test: the record is too long");
    CHECK_INT("huge", out.result, AUTH_PERMERROR);
    end(spf, resolver);
}

/* ---- threads ------------------------------------------------------------- */

struct worker {
    pthread_t thread;
    struct spf *spf;
    size_t offset;
    unsigned wrong;
};

static void *work(void *context)
{
    struct worker *worker = context;

    for (size_t n = 0; n < 20 * RESULTS; n++) {
        size_t i = (n * 7 + worker->offset) % RESULTS;
        struct spf_question asked =
            question(results[i].client, results[i].helo, results[i].sender);
        struct spf_outcome out;
        char got[800];
        if (n % 2)
            spf_prefetch(worker->spf, &asked);
        spf_check(worker->spf, &asked, &out);
        outcome_text(&out, got, sizeof(got));
        worker->wrong += strcmp(got, results[i].want) != 0;
    }
    return NULL;
}

static void test_threads(void)
{
    struct resolver *resolver;
    struct worker workers[6];
    struct spf *spf = begin(&resolver, zone, sizeof(zone) / sizeof(zone[0]));
    size_t count = sizeof(workers) / sizeof(workers[0]);

    for (size_t i = 0; i < count; i++) {
        workers[i] = (struct worker){ .spf = spf, .offset = i * 13 };
        CHECK_INT("begun", pthread_create(&workers[i].thread, NULL, work, &workers[i]),
                  0);
    }
    for (size_t i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        CHECK_INT("wrong", workers[i].wrong, 0);
    }
    end(spf, resolver);
}

UNIT_MAIN("spf", { "results", test_results }, { "prefetched", test_prefetched },
          { "hostile", test_hostile }, { "costly", test_costly }, { "large", test_large },
          { "threads", test_threads })
