/* DNS rules: each, good and broken, as tables of zones; no resolver but a table. */
#include <stdlib.h>

#include "../../cutover/dns_rule.h"
#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NOW          1000000

static const char key512[] =
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAK77TEjHb3wbgrRTZeP8DS9wJgtw0DC9Dg1kJVosaCEE"
    "wCir7Hb7C49aMTGMteMuujyyDOG/1s7LYAzwjZxkGJMCAwEAAQ==";
static const char key1024[] =
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDEVImMTtx3Y5VyhE3e8WMZQNJWmAADsU0PLSXt"
    "QU6+pOtulGPyMoxQo51949U457NTDWr9fQf3gRiY/HpXQAqLXP8AAAkdnEQbuCACtgC9qckeQjvh"
    "NoA4EK7KV9w64E9WDTHcA2KOIumsjvASscVtmVSSSlwhzf5vilBdTr65xQIDAQAB";
static const char key2048[] =
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAsgZtEVl+vMHICZIG3xfU81DuteJxXjDE"
    "5nY5dHvXyLmKEpP5ApS8oDRGZ/1N73mP4iNssX/Maep1ZUsNq079sU8xQpjcUGLryGMgjSOARlww"
    "pW8XISQJzMGg/VOVz3DjY3dM7+KInT7xdvnpmkWxJDVRtHt5LlswdYBit+mDxegIBpODrxVR1Xj4"
    "RcrV9LJrKHx22v0GAEcJdsLCBJ0/plT+a4sY2tW6ZvFUH4pfciq0AcIW+RN88Bbbs1Io3nQMljK/"
    "F1QG/n7d+BsA+LyuDcOMTrtFFJAq+cv2X959M03UTsvO4mTCRVvl/u+Nu6AdS0nc0XpCr7wH5Svx"
    "8PpWvwIDAQAB";
static const char key_ed25519[] = "13WahedAkcxzCsCQPXVcii+0mEoPxNrSQzTcnLU3Zc8=";

/* "NAME TTL TYPE VALUE", one on each line. */
static void parse(const char *text, struct dns_sets *out)
{
    char name[256], word[8];
    unsigned ttl;
    int head;
    while (*text) {
        static char value[2048];
        size_t len = strcspn(text, "\n");
        enum dns_type type;
        CU_ASSERT_EQUAL_FATAL(sscanf(text, "%255s %u %7s %n", name, &ttl, word, &head),
                              3);
        CU_ASSERT_TRUE_FATAL(dns_type_parse(word, &type) &&
                             len - (size_t)head < sizeof(value));
        memcpy(value, text + head, len - (size_t)head);
        value[len - (size_t)head] = '\0';
        CU_ASSERT_TRUE_FATAL(dns_sets_add(out, name, type, ttl, value));
        text += len + (text[len] == '\n');
    }
}

/* The zone as it will be, then the world; "down." names fail. */
struct table {
    const struct dns_sets *future, *world;
};

static enum dns_spf_lookup ask(void *with, const char *name, enum dns_type type,
                               struct dns_sets *out)
{
    const struct table *table = with;
    const struct dns_set *set = dns_sets_find(table->future, name, type);
    if (!set)
        set = dns_sets_find(table->world, name, type);
    if (strncmp(name, "down.", 5) == 0)
        return DNS_SPF_FAILED;
    if (!set)
        return DNS_SPF_ABSENT;
    CU_ASSERT_TRUE_FATAL(dns_sets_add_set(out, set));
    return DNS_SPF_FOUND;
}

/* "rule=result", separated by blanks, in the order they were found. */
static const char *found(const struct dns_findings *findings, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < findings->count; i++) {
        const struct dns_finding *finding = &findings->items[i];
        used += (size_t)snprintf(out + used, size - used, "%s%s=%s", i > 0 ? " " : "",
                                 finding->rule, dns_result_name(finding->result));
        CU_ASSERT_TRUE_FATAL(used < size);
        if (finding->result != DNS_RULE_PASS && !finding->fix[0])
            printf("\n  %s has no fix: %s\n", finding->rule, finding->text);
        CU_ASSERT_TRUE(finding->result == DNS_RULE_PASS || finding->fix[0]);
    }
    return out;
}

/* NULL: the texts of all findings have it. */
static const char *without(const struct dns_findings *findings, const char *part)
{
    for (size_t i = 0; i < findings->count; i++)
        if (!part || strstr(findings->items[i].text, part))
            return part ? part : "";
    return findings->count > 0 ? findings->items[0].text : "(nothing)";
}

struct zones {
    const char *what, *planned, *live, *world;
    const char *want; /* found() */
    const char *says; /* in one of the texts; NULL: not looked at */
    bool before_change;
    uint32_t negative_ttl;
    const char *senders[3]; /* as dns_rule_spf.c reads them */
    const struct dns_snap *snaps;
    size_t snap_count;
    const char *old; /* next hop "old" of sluice.conf */
};

static void check_zones(const struct zones *zones, void (*rule)(struct rules *))
{
    struct dns_sets planned = { 0 }, live = { 0 }, world = { 0 };
    struct dns_findings findings = { 0 };
    char name[] = "a.test", old[64], got[512];
    struct conf_domain domain = { .name = name };
    parse(zones->planned, &planned);
    parse(zones->live ? zones->live : "", &live);
    parse(zones->world ? zones->world : "", &world);
    struct rules rules = { .domain = &domain,
                           .planned = &planned,
                           .live = &live,
                           .snaps = zones->snaps,
                           .snap_count = zones->snap_count,
                           .negative_ttl = zones->negative_ttl,
                           .now = NOW,
                           .before_change = zones->before_change,
                           .senders = names_new(),
                           .old = names_new(),
                           .out = &findings };
    struct table table = { &rules.future, &world };
    if (zones->old) {
        snprintf(old, sizeof(old), "%s", zones->old);
        domain.old.host = old;
    }
    rules.resolver = (struct dns_spf_resolver){ ask, &table };
    CU_ASSERT_TRUE_FATAL(dns_rule_future(&rules));
    for (size_t i = 0; i < 3 && zones->senders[i]; i++) {
        size_t index;
        CU_ASSERT_EQUAL(names_add(rules.senders, zones->senders[i], &index), NAMES_NEW);
    }
    rule(&rules);
    CU_ASSERT_FALSE(rules.no_memory);
    CHECK_STR(zones->what, found(&findings, got, sizeof(got)), zones->want);
    if (zones->says)
        CHECK_STR(zones->what, without(&findings, zones->says), zones->says);
    dns_findings_free(&findings);
    dns_sets_free(&rules.future);
    dns_sets_free(&planned);
    dns_sets_free(&live);
    dns_sets_free(&world);
    names_free(rules.senders);
    names_free(rules.old);
}

#define CHECK_ALL(cases, rule)                                                           \
    for (size_t i = 0; i < COUNT(cases); i++)                                            \
    check_zones(&(cases)[i], rule)

static void test_mx(void)
{
    static const char new_mx[] = "a.test 600 MX 10 new.b.test.";
    static const char address[] = "new.b.test 60 A 192.0.2.1";
    static const struct zones cases[] = {
        { "good", new_mx, new_mx, address, .want = "mx=pass" },
        { "before the change nothing is left", new_mx, "a.test 600 MX 10 old.", address,
          .want = "mx=pass" },
        { "old one left", new_mx, "a.test 600 MX 10 new.b.test.\na.test 600 MX 10 old.",
          address, .want = "mx-left=fail", .says = "10 old." },
        { "... which the change mends", new_mx,
          "a.test 600 MX 10 new.b.test.\na.test 600 MX 10 old.", address,
          .want = "mx-left=note", .before_change = true },
        { "no address", new_mx, NULL, NULL, .want = "mx-target=fail",
          .says = "new.b.test has no address" },
        { "IPv6 is one", new_mx, NULL, "new.b.test 60 AAAA 2001:db8::1",
          .want = "mx=pass" },
        { "a CNAME", new_mx, NULL,
          "new.b.test 60 CNAME other.\nnew.b.test 60 A 192.0.2.1",
          .want = "mx-target=fail", .says = "is a CNAME" },
        { "a CNAME that is planned", "a.test 600 MX 10 mx.a.test.\nmx.a.test 60 CNAME b.",
          NULL, NULL, .want = "mx-target=fail", .says = "is a CNAME" },
        { "resolvers down", "a.test 600 MX 10 down.b.test.", NULL, NULL,
          .want = "mx-target=unknown" },
        { "two priorities", "a.test 600 MX 10 new.b.test.\na.test 600 MX 20 new.b.test.",
          NULL, address, .want = "mx-priority=fail", .says = "two priorities" },
        { "another one live", new_mx, "a.test 600 MX 50 new.b.test.", address,
          .want = "mx-priority=fail", .says = "has priority 50, planned is 10" },
        { "... which the change mends", new_mx, "a.test 600 MX 50 new.b.test.", address,
          .want = "mx-priority=note", .before_change = true },
        { "no mail at all", "a.test 600 MX 0 .", NULL, NULL, .want = "mx=pass" },
        { "no mail, and mail", "a.test 600 MX 0 .\na.test 600 MX 10 new.b.test.", NULL,
          address, .want = "mx-target=fail" },
        { "none planned", "a.test 600 TXT x", NULL, NULL, .want = "mx=note" },
    };
    CHECK_ALL(cases, dns_rule_mx);
}

static void test_spf(void)
{
    static const char v[] = "a.test 600 TXT v=spf1 ip4:192.0.2.0/24 -all";
#define GOOD "spf-valid=pass spf-lookups=pass "
    static const struct zones cases[] = {
        { "good", v, NULL, NULL, .want = GOOD "spf-all=pass" },
        { "the sample of the go-live document",
          "a.test 600 TXT v= spf1 include:b.test -all", NULL, NULL,
          .want = "spf-valid=fail", .says = "must begin with exactly \"v=spf1\"" },
        { "live, and not planned", "a.test 600 MX 10 b.", "a.test 60 TXT v= spf1 -all",
          NULL, .want = "spf-valid=fail" },
        { "none", "a.test 600 MX 10 b.", NULL, NULL, .want = "spf-one=fail",
          .says = "has no SPF record" },
        { "two", "a.test 6 TXT v=spf1 -all\na.test 6 TXT v=spf1 mx -all", NULL, NULL,
          .want = "spf-one=fail", .says = "has 2 SPF records" },
        { "the planned one takes the old one's place", v, "a.test 600 TXT v=spf1 mx ~all",
          NULL, .want = GOOD "spf-all=pass" },
        { "unknown term", "a.test 6 TXT v=spf1 ip:192.0.2.1 -all", NULL, NULL,
          .want = "spf-valid=fail", .says = "ip:192.0.2.1" },
        { "soft", "a.test 6 TXT v=spf1 ip4:192.0.2.1 ~all", NULL, NULL,
          .want = GOOD "spf-all=fail", .says = "ends in ~all, not in -all" },
        { "neutral", "a.test 6 TXT v=spf1 ip4:192.0.2.1 ?all", NULL, NULL,
          .want = GOOD "spf-all=fail", .says = "ends in ?all" },
        { "open", "a.test 6 TXT v=spf1 +all", NULL, NULL, .want = GOOD "spf-all=fail",
          .says = "the whole world" },
        { "no end", "a.test 6 TXT v=spf1 ip4:192.0.2.1", NULL, NULL,
          .want = GOOD "spf-all=fail", .says = "does not end in -all" },
        { "led on", "a.test 6 TXT v=spf1 redirect=b.test", NULL,
          "b.test 6 TXT v=spf1 ip4:192.0.2.1 -ALL", .want = GOOD "spf-all=pass" },
        { "led on to a soft one", "a.test 6 TXT v=spf1 redirect=b.test", NULL,
          "b.test 6 TXT v=spf1 ip4:192.0.2.1 ~all", .want = GOOD "spf-all=fail" },
        { "ten lookups",
          "a.test 6 TXT v=spf1 a:b.t a:b.t a:b.t a:b.t a:b.t a:b.t a:b.t a:b.t a:b.t "
          "a:b.t -all",
          NULL, "b.t 6 A 192.0.2.1", .want = GOOD "spf-all=pass",
          .says = "10 of 10 DNS lookups" },
        { "eleven",
          "a.test 6 TXT v=spf1 a:b.t a:b.t a:b.t a:b.t a:b.t a:b.t a:b.t a:b.t a:b.t "
          "a:b.t a:b.t -all",
          NULL, "b.t 6 A 192.0.2.1",
          .want = "spf-valid=pass spf-lookups=fail spf-all=pass",
          .says = "needs 11 DNS lookups" },
        { "includes in a circle", "a.test 6 TXT v=spf1 include:a.test -all", NULL, NULL,
          .want = "spf-valid=pass spf-lookups=fail spf-all=pass" },
        { "two void", "a.test 6 TXT v=spf1 a:x.t a:y.t -all", NULL, NULL,
          .want = GOOD "spf-all=pass", .says = "2 of 2 void" },
        { "three void", "a.test 6 TXT v=spf1 a:x.t a:y.t a:z.t -all", NULL, NULL,
          .want = "spf-valid=pass spf-void=fail spf-all=pass", .says = "3 lookups" },
        { "an include without a record", "a.test 6 TXT v=spf1 include:x.t -all", NULL,
          NULL, .want = "spf-valid=pass spf-lookups=fail spf-all=pass",
          .says = "it has no SPF record" },
        { "an include that cannot be asked", "a.test 6 TXT v=spf1 include:down.b -all",
          NULL, NULL, .want = "spf-valid=pass spf-lookups=unknown spf-all=pass" },
        { "a name below the domain",
          "a.test 6 TXT v=spf1 -all\nnews.a.test 6 TXT v=spf1 ip4:192.0.2.1 ~all", NULL,
          NULL, .want = GOOD "spf-all=pass " GOOD "spf-all=fail",
          .says = "news.a.test: " },
        { "a sample below the domain",
          "a.test 6 TXT v=spf1 -all\nnews.a.test 6 TXT v= spf1 -all", NULL, NULL,
          .want = GOOD "spf-all=pass spf-valid=fail" },
        { "senders", v, NULL, NULL, .want = GOOD "spf-all=pass spf-senders=pass",
          .senders = { "192.0.2.7 a.test", "192.0.2.8 a.test" },
          .says = "2 known senders of a.test pass" },
        { "a sender that would fail", v, NULL, NULL,
          .want = GOOD "spf-all=pass spf-senders=fail spf-senders=pass",
          .senders = { "198.51.100.7 a.test", "192.0.2.8 a.test" },
          .says = "198.51.100.7 sends as a.test, and SPF would be fail" },
        { "by DKIM alone: perhaps a forwarder", v, NULL, NULL,
          .want = GOOD "spf-all=pass spf-senders=note",
          .senders = { "~198.51.100.7 a.test" } },
        { "by DKIM alone, and named too", v, NULL, NULL,
          .want = GOOD "spf-all=pass spf-senders=fail",
          .senders = { "~198.51.100.7 a.test", "198.51.100.7 a.test" } },
        { "a sender of another name", v, NULL, NULL, .want = GOOD "spf-all=pass",
          .senders = { "198.51.100.7 news.a.test" } },
        { "a sender of a planned name below",
          "a.test 6 TXT v=spf1 -all\nnews.a.test 6 TXT v=spf1 ip4:192.0.2.1 -all", NULL,
          NULL, .want = GOOD "spf-all=pass " GOOD "spf-all=pass spf-senders=fail",
          .senders = { "198.51.100.7 news.a.test" } },
        { "the old server is gone", v, NULL, NULL,
          .want = GOOD "spf-all=pass spf-old=pass", .old = "198.51.100.1" },
        { "the old server is not", v, NULL, "old.b 60 A 192.0.2.9",
          .want = GOOD "spf-all=pass spf-old=fail", .old = "old.b",
          .says = "192.0.2.9, the old server, may still send" },
        { "nor by IPv6", "a.test 6 TXT v=spf1 ip6:2001:db8::/32 -all", NULL,
          "old.b 60 AAAA 2001:db8::25", .want = GOOD "spf-all=pass spf-old=fail",
          .old = "old.b" },
        { "what the old server sends is no known sender", v, NULL, NULL,
          .want = GOOD "spf-all=pass spf-old=pass", .old = "198.51.100.1",
          .senders = { "198.51.100.1 a.test" } },
    };
#undef GOOD
    CHECK_ALL(cases, dns_rule_spf);
}

/* The old MX of a snapshot, which the plan does not have. */
static void test_spf_snapshot(void)
{
    struct dns_snap snap = { .taken = 1 };
    parse("a.test 60 MX 10 old.b.", &snap.sets);
    const struct zones zones = { "old MX",
                                 "a.test 6 TXT v=spf1 ip4:192.0.2.9 -all\n"
                                 "a.test 6 MX 10 new.b.",
                                 NULL,
                                 "old.b 60 A 192.0.2.9",
                                 .want = "spf-valid=pass spf-lookups=pass spf-all=pass "
                                         "spf-old=fail",
                                 .snaps = &snap,
                                 .snap_count = 1 };
    check_zones(&zones, dns_rule_spf);
    dns_snap_free(&snap);
}

static void test_dkim(void)
{
    static const struct {
        const char *what, *head, *key, *tail, *want;
    } cases[] = {
        { "2048", "v=DKIM1; k=rsa; p=", key2048, "", "dkim-valid=pass" },
        { "without v and k", "p=", key2048, "", "dkim-valid=pass" },
        { "1024", "v=DKIM1; p=", key1024, "", "dkim-size=note" },
        { "512", "v=DKIM1; p=", key512, "", "dkim-size=fail" },
        { "ed25519", "v=DKIM1; k=ed25519; p=", key_ed25519, "", "dkim-valid=pass" },
        { "not ed25519", "v=DKIM1; k=ed25519; p=", key1024, "", "dkim-valid=fail" },
        { "other kind", "v=DKIM1; k=dsa; p=", key1024, "", "dkim-valid=fail" },
        { "cut", "v=DKIM1; k=rsa; p=", "MIGfMA0GCSqGSIb3DQEBAQUAA4", "",
          "dkim-valid=fail" },
        { "no base64", "v=DKIM1; p=", "not a key!!", "", "dkim-valid=fail" },
        { "revoked", "v=DKIM1; p=", "", "", "dkim-valid=fail" },
        { "no p", "v=DKIM1; k=rsa", "", "", "dkim-valid=fail" },
        { "v not first", "p=", key2048, "; v=DKIM1", "dkim-valid=fail" },
        { "other v", "v=DKIM2; p=", key2048, "", "dkim-valid=fail" },
        { "twice", "p=", key2048, "; p=x", "dkim-valid=fail" },
        { "testing", "v=DKIM1; t=s:y; p=", key2048, "",
          "dkim-valid=pass dkim-test=note" },
        { "strict only", "v=DKIM1; t=s; p=", key2048, "", "dkim-valid=pass" },
        { "hashes", "v=DKIM1; h=sha1 : SHA256; p=", key2048, "", "dkim-valid=pass" },
        { "an old hash", "v=DKIM1; h=sha1; p=", key2048, "", "dkim-valid=fail" },
        { "no hash", "v=DKIM1; h=; p=", key2048, "", "dkim-valid=fail" },
        { "for mail", "v=DKIM1; s=tlsrpt:email; p=", key2048, "", "dkim-valid=pass" },
        { "for all", "v=DKIM1; s=*; p=", key2048, "", "dkim-valid=pass" },
        { "for something else", "v=DKIM1; s=tlsrpt; p=", key2048, "", "dkim-valid=fail" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char planned[1024];
        snprintf(planned, sizeof(planned), "s1._domainkey.a.test 60 TXT %s%s%s",
                 cases[i].head, cases[i].key, cases[i].tail);
        const struct zones zones = { cases[i].what, planned, .want = cases[i].want };
        check_zones(&zones, dns_rule_dkim);
    }
    static const char alias[] = "s1._domainkey.a.test 60 CNAME s1.b.";
    const struct zones others[] = {
        { "none planned", "a.test 60 MX 10 b.", .want = "dkim-valid=note" },
        { "a CNAME to nothing", alias, .want = "dkim-valid=fail",
          .says = "there is no key at s1.b" },
        { "a CNAME to a good one", alias,
          .world = "s1.b 60 TXT v=DKIM1; k=ed25519; "
                   "p=13WahedAkcxzCsCQPXVcii+0mEoPxNrSQzTcnLU3Zc8=",
          .want = "dkim-valid=pass" },
        { "a CNAME that cannot be asked", "s1._domainkey.a.test 60 CNAME down.b.",
          .want = "dkim-valid=unknown" },
        { "two texts", "s1._domainkey.a.test 60 TXT p=x\ns1._domainkey.a.test 60 TXT p=y",
          .want = "dkim-valid=fail" },
    };
    CHECK_ALL(others, dns_rule_dkim);
}

#define D "_dmarc.a.test 60 TXT "

static void test_dmarc(void)
{
    static const struct zones cases[] = {
        { "good", D "v=DMARC1; p=reject; sp=reject", D "v=DMARC1; p=reject",
          .want = "dmarc-valid=pass dmarc-policy=pass" },
        { "weaker", D "v=DMARC1; p=reject", D "v=DMARC1; p=none",
          .want = "dmarc-valid=pass dmarc-policy=fail",
          .says = "the plan is p=reject sp=reject, live is p=none sp=none: forged" },
        { "weaker, before the change", D "v=DMARC1; p=reject", D "v=DMARC1; p=none",
          .want = "dmarc-valid=pass dmarc-policy=note", .before_change = true },
        { "weaker below", D "v=DMARC1; p=reject", D "v=DMARC1; p=reject; sp=none",
          .want = "dmarc-valid=pass dmarc-policy=fail",
          .says = "live is p=reject sp=none" },
        { "harsher", D "v=DMARC1; p=none", D "v=DMARC1; p=quarantine",
          .want = "dmarc-valid=pass dmarc-policy=fail", .says = "more harshly" },
        { "not there yet", D "v=DMARC1; p=none", NULL,
          .want = "dmarc-valid=pass dmarc-policy=fail", .says = "no record" },
        { "broken now", D "v=DMARC1; p=none", D "v=DMARC1; p=refuse",
          .want = "dmarc-valid=pass dmarc-policy=fail", .says = "no valid record" },
        { "the sample", D "v=DMARC1; p=none; sp=none; pct=100", D "v=DMARC1; p=none",
          .want = "dmarc-valid=pass dmarc-pct=note dmarc-policy=pass",
          .says = "pct=100 is withdrawn by RFC 9989" },
        { "sp open", D "v=DMARC1; p=reject; sp=none", D "v=DMARC1; p=reject; sp=none",
          .want = "dmarc-valid=pass dmarc-sp=note dmarc-policy=pass" },
        { "only tried", D "v=DMARC1; p=reject; t=y", D "v=DMARC1; p=reject; t=y",
          .want = "dmarc-valid=pass dmarc-test=note dmarc-policy=pass" },
        { "live, not planned", "a.test 60 MX 10 b.", D "v=DMARC1; p=none",
          .want = "dmarc-valid=pass dmarc-policy=note" },
        { "none at all", "a.test 60 MX 10 b.", NULL, .want = "dmarc-valid=note" },
        { "bad policy", D "v=DMARC1; p=refuse", NULL, .want = "dmarc-valid=fail" },
        { "bad sp", D "v=DMARC1; p=none; sp=x", NULL, .want = "dmarc-valid=fail" },
        { "no policy", D "v=DMARC1; rua=mailto:a@b", NULL, .want = "dmarc-valid=fail" },
        { "bad head", D "v= DMARC2; p=none", NULL, .want = "dmarc-valid=fail" },
        { "two", D "v=DMARC1; p=none\n" D "v=DMARC1; p=reject", NULL,
          .want = "dmarc-valid=fail", .says = "2 TXT records" },
        { "something else beside it", D "v=DMARC1; p=none\n" D "verification=1", NULL,
          .want = "dmarc-valid=pass dmarc-policy=fail" },
    };
    CHECK_ALL(cases, dns_rule_dmarc);
}

static void test_ttl(void)
{
    struct dns_snap snaps[2] = { { .taken = NOW - 4000 }, { .taken = NOW - 3000 } };
    parse("a.test 3600 MX 10 old.", &snaps[0].sets);
    parse("a.test 600 MX 10 old.", &snaps[1].sets);
    static const char plan[] = "a.test 600 MX 10 new.", old[] = "a.test 600 MX 10 old.";
    const struct zones cases[] = {
        { "short", plan, old, .want = "ttl=pass" },
        { "long", plan, "a.test 601 MX 10 old.", .want = "ttl=fail", .says = "601 s" },
        { "long, but it stays", plan, "a.test 600 MX 10 new.\nb.a.test 9999 A 192.0.2.1",
          .want = "ttl=pass" },
        { "as planned, with another TTL", plan, "a.test 3600 MX 10 new.",
          .want = "ttl-plan=note" },
        { "absent, and soon asked again", plan, NULL, .negative_ttl = 300,
          .want = "ttl=pass" },
        { "absent for long", plan, NULL, .negative_ttl = 86400,
          .want = "ttl-negative=note", .says = "86400 s" },
        { "lowered, not yet run out", plan, old, .snaps = snaps, .snap_count = 2,
          .want = "ttl-old=fail", .says = "10 min 00 s from now" },
        { "lowered, since when is not known", plan, old, .snaps = snaps, .snap_count = 1,
          .want = "ttl-old=fail", .says = "since when is not known" },
    };
    CHECK_ALL(cases, dns_rule_ttl);
    snaps[1].taken = NOW - 3600;
    const struct zones over = {
        "run out", plan, old, .snaps = snaps, .snap_count = 2, .want = "ttl=pass"
    };
    check_zones(&over, dns_rule_ttl);
    dns_snap_free(&snaps[0]);
    dns_snap_free(&snaps[1]);
}

static void test_alias(void)
{
    static const struct zones cases[] = {
        { "good", "a.test 6 MX 10 b.\nimap.a.test 6 CNAME b.",
          "a.test 6 A 192.0.2.1\nimap.a.test 6 CNAME b.", .want = "alias=pass" },
        { "an address in a CNAME's place", "imap.a.test 6 CNAME b.",
          "imap.a.test 6 A 192.0.2.1", .want = "alias=fail" },
        { "... which the change mends", "imap.a.test 6 CNAME b.",
          "imap.a.test 6 A 192.0.2.1", .want = "alias=note", .before_change = true },
        { "mail in a CNAME's place", "imap.a.test 6 CNAME b.", "imap.a.test 6 MX 10 b.",
          .want = "alias=fail", .before_change = true },
        { "a CNAME in an address's place", "mx.a.test 6 A 192.0.2.1",
          "mx.a.test 6 CNAME b.", .want = "alias=fail" },
        { "a CNAME at a key", "s._domainkey.a.test 6 TXT p=x",
          "s._domainkey.a.test 6 CNAME b.", .want = "alias=fail" },
        { "an address beside a key", "s._domainkey.a.test 6 TXT p=x",
          "s._domainkey.a.test 6 A 192.0.2.1", .want = "alias=fail",
          .says = "the name is for that alone" },
        { "an address beside the policy", D "v=DMARC1; p=none",
          "_dmarc.a.test 6 AAAA 2001:db8::1", .want = "alias=fail" },
        { "an address beside other text", "a.test 6 TXT v=spf1 -all",
          "a.test 6 A 192.0.2.1", .want = "alias=pass" },
    };
    CHECK_ALL(cases, dns_rule_alias);
}

static void check_ns(const char *what, const char *parent, const char *own,
                     const char *first, unsigned long serial, const char *error,
                     const char *want, const char *says)
{
    struct dns_sets at_parent = { 0 }, at_child = { 0 }, none = { 0 };
    struct dns_snap snap = { .taken = 1, .name = "20240531T030405Z" };
    struct dns_findings findings = { 0 };
    char got[256];
    parse(parent, &at_parent);
    parse(own, &at_child);
    parse(first, &snap.sets);
    struct rules rules = { .planned = &none,
                           .live = &none,
                           .snaps = &snap,
                           .snap_count = *first ? 1 : 0,
                           .out = &findings };
    const struct dns_rule_server servers[] = {
        { "ns1 (192.0.2.1)", NULL, dns_sets_find(&at_parent, "a.test", DNS_NS), 7, true },
        { "ns2 (192.0.2.2)", error,
          error ? NULL : dns_sets_find(&at_child, "a.test", DNS_NS), serial, false },
    };
    dns_rule_ns(&rules, "a.test", dns_sets_find(&at_parent, "a.test", DNS_NS), servers,
                2);
    CHECK_STR(what, found(&findings, got, sizeof(got)), want);
    if (says && !strstr(findings.items[0].text, says))
        CHECK_STR(what, findings.items[0].text, says);
    dns_findings_free(&findings);
    dns_sets_free(&at_parent);
    dns_sets_free(&at_child);
    dns_snap_free(&snap);
}

static void test_ns(void)
{
    static const char two[] = "a.test 6 NS ns1.\na.test 6 NS ns2.";
    static const char turned[] = "a.test 6 NS ns2.\na.test 6 NS ns1.";
    static const char one[] = "a.test 6 NS ns1.";
    check_ns("good", two, turned, "", 7, NULL, "ns=pass", NULL);
    check_ns("good, as ever", two, two, turned, 7, NULL, "ns=pass", NULL);
    check_ns("parent and child disagree", two, one, "", 7, NULL, "ns=fail", NULL);
    check_ns("lags", two, two, "", 6, NULL, "ns=fail", "lags");
    check_ns("ahead of the primary", two, two, "", 8, NULL, "ns=fail",
             "takes over nothing");
    check_ns("has gone round", two, two, "", 4294967290, NULL, "ns=fail", "lags");
    check_ns("silent", two, two, "", 7, "no answer in time", "ns=fail", NULL);
    check_ns("changed", two, two, one, 7, NULL, "ns-changed=fail", NULL);
}

UNIT_MAIN("dns rules", { "mx", test_mx }, { "spf", test_spf },
          { "spf and snapshots", test_spf_snapshot }, { "dkim", test_dkim },
          { "dmarc", test_dmarc }, { "ttl", test_ttl }, { "alias", test_alias },
          { "ns", test_ns })
