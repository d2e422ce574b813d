/* DNS: records as they are written, plans against what is live, the way back,
 * snapshots, TSIG keys, SPF records walked. */
#include <stdlib.h>

#include "../../cutover/dns_key.h"
#include "../../cutover/dns_plan.h"
#include "../../cutover/dns_snap.h"
#include "../../cutover/dns_spf.h"
#include "dnsrecord.h"
#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char big[DNS_VALUE_MAX + 1];

static void test_values(void)
{
    static const struct {
        enum dns_type type;
        const char *text, *want; /* NULL: refused */
    } cases[] = {
        { DNS_MX, "10 MX1.New.Example.", "10 mx1.new.example." },
        { DNS_MX, "10 mail", "10 mail.a.test." },
        { DNS_MX, "0 .", "0 ." },
        { DNS_MX, "10 .", NULL },
        { DNS_MX, "10 mx1.new.example", NULL },
        { DNS_MX, "mx1.new.example.", NULL },
        { DNS_MX, "70000 mx1.example.", NULL },
        { DNS_MX, "10 192.0.2.1.", NULL },
        { DNS_A, "192.0.2.1", "192.0.2.1" },
        { DNS_A, "192.0.2.256", NULL },
        { DNS_AAAA, "2001:DB8:0::1", "2001:db8::1" },
        { DNS_AAAA, "192.0.2.1", NULL },
        { DNS_CNAME, "@", "a.test." },
        { DNS_SRV, "0 1 993 imap.b.test.", "0 1 993 imap.b.test." },
        { DNS_SRV, "0 1 imap.b.test.", NULL },
        { DNS_TXT, "v=spf1 -all", "v=spf1 -all" },
        { DNS_TXT, "a\\b", "a\\\\b" },
        { DNS_TXT, "\"quoted\"", NULL },
        { DNS_TXT, "", NULL },
        { DNS_SOA, "x", NULL },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *wrong =
            dns_value(cases[i].type, cases[i].text, "a.test", big, sizeof(big));
        CHECK_STR(cases[i].text, wrong ? "refused" : big,
                  cases[i].want ? cases[i].want : "refused");
    }
}

static void test_owners(void)
{
    static const char *const cases[][2] = {
        { "@", "a.test" },
        { "Mail", "mail.a.test" },
        { "s1._domainkey", "s1._domainkey.a.test" },
        { "imap.a.test.", "imap.a.test" },
        { "imap.a.test", "refused" },
        { "imap.b.test.", "refused" },
        { "", "refused" },
        { "a..b", "refused" },
    };
    char out[DNSRECORD_NAME_MAX + 1];
    for (size_t i = 0; i < COUNT(cases); i++)
        CHECK_STR(cases[i][0], dns_owner(cases[i][0], "a.test", out) ? "refused" : out,
                  cases[i][1]);
}

static void test_long_texts(void)
{
    static char text[601], zone[DNS_ZONE_MAX];
    memset(text, 'x', 600);
    text[300] = '"';
    dns_value_zone(DNS_TXT, text, zone, sizeof(zone));
    /* 600 bytes in three strings: their quotes, two gaps, one escaped quote. */
    CHECK_INT("length", strlen(zone), 600 + 6 + 2 + 1);
    CU_ASSERT_TRUE(memcmp(zone + 256, "\" \"", 3) == 0);
    unsigned char bytes[] = { 'a', 0, 0xff, '\\' };
    char back[16];
    CU_ASSERT_TRUE(dns_text(bytes, sizeof(bytes), big, sizeof(big)));
    CHECK_STR("escapes", big, "a\\000\\255\\\\");
    CHECK_INT("and back", dns_text_bytes(big, back, sizeof(back)), 4);
    CU_ASSERT_TRUE(memcmp(bytes, back, 4) == 0);
}

static void add(struct dns_sets *sets, const char *name, enum dns_type type, uint32_t ttl,
                const char *value)
{
    CU_ASSERT_TRUE_FATAL(dns_sets_add(sets, name, type, ttl, value));
}

static void check_lines(const char *what, struct dns_changes *changes, const char *want)
{
    char *lines = dns_plan_zone_lines(changes);
    CHECK_STR(what, lines, want);
    free(lines);
    dns_changes_free(changes);
}

static void test_changes(void)
{
    struct dns_sets planned = { 0 }, live = { 0 };
    struct dns_changes changes;
    add(&planned, "a.test", DNS_MX, 600, "10 new.");
    add(&planned, "a.test", DNS_TXT, 600, "v=spf1 -all");
    add(&planned, "imap.a.test", DNS_CNAME, 600, "new.");
    add(&live, "a.test", DNS_MX, 3600, "10 old.");
    add(&live, "a.test", DNS_TXT, 3600, "v= spf1 mx");
    add(&live, "a.test", DNS_TXT, 3600, "site=1");
    add(&live, "imap.a.test", DNS_A, 300, "192.0.2.1");
    CU_ASSERT_TRUE(dns_plan_changes(&planned, &live, DNS_AIM_PLAN, &changes));
    check_lines("plan", &changes,
                "; remove: a.test. 3600 IN MX 10 old.\n"
                "a.test. 600 IN MX 10 new.\n"
                "; remove: a.test. 3600 IN TXT \"v= spf1 mx\"\n"
                "; remove: a.test. 3600 IN TXT \"site=1\"\n"
                "a.test. 600 IN TXT \"v=spf1 -all\"\n"
                "a.test. 600 IN TXT \"site=1\"\n"
                "imap.a.test. 600 IN CNAME new.\n"
                "; remove: imap.a.test. 300 IN A 192.0.2.1\n");
    CU_ASSERT_TRUE(dns_plan_changes(&planned, &live, DNS_AIM_TTL, &changes));
    CHECK_INT("sets with a long TTL", changes.count, 2);
    dns_changes_free(&changes);
    CU_ASSERT_TRUE(dns_plan_changes(&live, &live, DNS_AIM_PLAN, &changes));
    CHECK_INT("nothing", changes.count, 0);
    dns_changes_free(&changes);
    CU_ASSERT_PTR_NULL(dns_plan_conflict(&planned, &live));
    add(&live, "imap.a.test", DNS_TXT, 300, "x");
    CU_ASSERT_PTR_NOT_NULL(dns_plan_conflict(&planned, &live));
    dns_sets_free(&planned);
    dns_sets_free(&live);
}

static void test_states(void)
{
    static const struct {
        const char *live[3];
        bool elsewhere;
        enum dns_state want;
    } cases[] = {
        { { "1", "2" }, false, DNS_AS_PLANNED }, { { "2", "1" }, true, DNS_AS_PLANNED },
        { { "3", "4" }, false, DNS_WRONG },      { { "3" }, true, DNS_NOT_YET },
        { { NULL }, false, DNS_MISSING },        { { "1" }, false, DNS_MISSING },
        { { "1", "2", "3" }, false, DNS_EXTRA },
    };
    struct dns_sets planned = { 0 };
    add(&planned, "a", DNS_MX, 1, "1");
    add(&planned, "a", DNS_MX, 1, "2");
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct dns_sets live = { 0 };
        for (size_t v = 0; v < 3 && cases[i].live[v]; v++)
            add(&live, "a", DNS_MX, 1, cases[i].live[v]);
        CHECK_STR("state",
                  dns_state_name(dns_plan_state(
                      planned.items, live.count ? live.items : NULL, cases[i].elsewhere)),
                  dns_state_name(cases[i].want));
        dns_sets_free(&live);
    }
    dns_sets_free(&planned);
}

static void test_snapshots(void)
{
    struct dns_snap snap = {
        .taken = 1700000000, .negative_ttl = 300, .zone = "a.test", .back_to = "then"
    };
    struct dns_snap got = { 0 };
    CU_ASSERT_TRUE(dns_questions_add(&snap.asked, "a.test", DNS_MX));
    CU_ASSERT_TRUE(dns_questions_add(&snap.asked, "a.test", DNS_TXT));
    CU_ASSERT_TRUE(dns_questions_add(&snap.asked, "_dmarc.a.test", DNS_TXT));
    add(&snap.sets, "a.test", DNS_MX, 3600, "10 old.");
    add(&snap.sets, "a.test", DNS_TXT, 300, "a \"quote\\\\ and \\255");
    CU_ASSERT_TRUE(dns_questions_add(&snap.writes, "a.test", DNS_MX));
    CU_ASSERT_TRUE(dns_questions_add(&snap.writes, "a.test", DNS_TXT));
    add(&snap.written, "a.test", DNS_MX, 600, "10 new.");
    add(&snap.wild, "imap.a.test", DNS_A, 7200, "192.0.2.1");
    char *text = dns_snap_format(&snap, "a.test");
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_PTR_NULL(dns_snap_parse(text, &got));
    CHECK_INT("taken", got.taken, snap.taken);
    CHECK_INT("asked", got.asked.count, 3);
    CHECK_STR("zone", got.zone, "a.test");
    CHECK_STR("back to", got.back_to, "then");
    CHECK_STR("text", got.sets.items[1].values[0], snap.sets.items[1].values[0]);
    CHECK_INT("writes", got.writes.count, 2);
    CHECK_INT("written: one of them is removed", got.written.count, 1);
    CHECK_INT("of wildcards", got.wild.count == 1 ? got.wild.items[0].ttl : 0, 7200);
    CHECK_STR("as", got.written.items[0].values[0], "10 new.");
    dns_snap_free(&got);
    got = (struct dns_snap){ 0 };
    *strstr(text, "\n; end ") = '\0';
    CHECK_STR("cut", dns_snap_parse(text, &got), "is not whole: its end is missing");
    free(text);
    dns_snap_free(&got);
    dns_snap_free(&snap);
}

/* Whatever byte is changed, a snapshot leads nowhere. */
static void test_damaged_snapshots(void)
{
    struct dns_snap snap = { .taken = 1700000000, .zone = "a.test" };
    CU_ASSERT_TRUE(dns_questions_add(&snap.asked, "a.test", DNS_MX));
    add(&snap.sets, "a.test", DNS_MX, 3600, "10 old.");
    char *text = dns_snap_format(&snap, "a.test");
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    for (size_t i = 0; text[i]; i++) {
        struct dns_snap got = { 0 };
        char was = text[i];
        text[i] = was == 'x' ? 'y' : 'x';
        if (!dns_snap_parse(text, &got))
            CHECK_STR("damaged, and taken", text, "refused");
        text[i] = was;
        dns_snap_free(&got);
    }
    free(text);
    dns_snap_free(&snap);
}

/* A snapshot as a plan: what was not there then, shall not be there. */
static void test_snapshot_as_plan(void)
{
    struct dns_questions asked = { 0 };
    struct dns_sets snapshot = { 0 }, plan = { 0 }, live = { 0 }, scope = { 0 };
    CU_ASSERT_TRUE(dns_questions_add(&asked, "a.test", DNS_TXT));
    CU_ASSERT_TRUE(dns_questions_add(&asked, "_dmarc.a.test", DNS_TXT));
    CU_ASSERT_TRUE(dns_questions_add(&asked, "a.test", DNS_SOA));
    add(&snapshot, "a.test", DNS_TXT, 60, "site=1");
    CU_ASSERT_TRUE(dns_plan_of_snapshot(&asked, &snapshot, &plan));
    CHECK_INT("sets, without the SOA", plan.count, 2);
    add(&live, "a.test", DNS_TXT, 60, "site=1");
    add(&live, "a.test", DNS_TXT, 60, "v=spf1 -all");
    add(&live, "_dmarc.a.test", DNS_TXT, 60, "v=DMARC1; p=none");
    for (size_t i = 0; i < plan.count; i++) {
        const char *name = plan.items[i].name;
        CU_ASSERT_TRUE(
            dns_plan_scope(&plan.items[i], dns_sets_find(&live, name, DNS_TXT), &scope));
        CHECK_STR(name,
                  dns_state_name(dns_plan_state(
                      &plan.items[i], dns_sets_find(&scope, name, DNS_TXT), false)),
                  "extra");
        dns_sets_free(&scope);
        CU_ASSERT_TRUE(dns_plan_scope(&plan.items[i],
                                      dns_sets_find(&snapshot, name, DNS_TXT), &scope));
        CHECK_STR(name,
                  dns_state_name(dns_plan_state(
                      &plan.items[i], dns_sets_find(&scope, name, DNS_TXT), false)),
                  "as planned");
    }
    dns_questions_free(&asked);
    dns_sets_free(&snapshot);
    dns_sets_free(&plan);
    dns_sets_free(&live);
    dns_sets_free(&scope);
}

static void test_quiet(void)
{
    struct dns_snap snaps[3] = { { .taken = 1000 },
                                 { .taken = 2000 },
                                 { .taken = 3000 } };
    struct dns_sets planned = { 0 };
    uint32_t ttl;
    add(&planned, "a", DNS_MX, 600, "10 new.");
    add(&snaps[0].sets, "a", DNS_MX, 86400, "10 old.");
    add(&snaps[1].sets, "a", DNS_MX, 600, "10 old.");
    add(&snaps[2].sets, "a", DNS_MX, 600, "10 new.");
    CHECK_INT("the long TTL has not run out",
              dns_snap_quiet(snaps, 2, &planned, 3000, &ttl), 2000 + 86400);
    CHECK_INT("noted", ttl, 600);
    CHECK_INT("twice", dns_snap_quiet(snaps + 1, 2, &planned, 90000, &ttl), 90000 + 1200);
    CHECK_INT("nothing old", dns_snap_quiet(snaps + 2, 1, &planned, 90000, &ttl), 0);
    CU_ASSERT_PTR_EQUAL(dns_snap_last_old(snaps, 3, &planned), &snaps[1]);
    dns_sets_free(&planned);
    /* An address in the place of which a CNAME comes, and what a wildcard made. */
    add(&planned, "imap", DNS_CNAME, 600, "new.");
    add(&snaps[0].sets, "imap", DNS_A, 7200, "192.0.2.1");
    add(&snaps[1].sets, "imap", DNS_A, 600, "192.0.2.1");
    add(&snaps[2].wild, "imap", DNS_A, 3600, "192.0.2.1");
    CHECK_INT("the address's", dns_snap_quiet(snaps, 1, &planned, 3000, &ttl),
              3000 + 2 * 7200);
    CHECK_INT("lowered", dns_snap_lowered(snaps, 2, &planned, 3000, &ttl), 2000 + 7200);
    CHECK_INT("the wildcard's", dns_snap_quiet(snaps + 2, 1, &planned, 3000, &ttl),
              3000 + 2 * 3600);
    dns_sets_free(&planned);
    for (size_t i = 0; i < 3; i++)
        dns_snap_free(&snaps[i]);
}

static void test_keys(void)
{
    static const char *const good[] = {
        "key \"k.test\" {\n\talgorithm hmac-sha256;\n\tsecret \"QUJDREVGR0g=\";\n};\n",
        ("# hmac-sha256:k.test:QUJDREVGR0g=\nkey:\n  - id: k.test.\n    algorithm: "
         "hmac-sha256\n    secret: QUJDREVGR0g=\n"),
        "hmac-sha256:k.test:QUJDREVGR0g=\n",
    };
    static const char *const bad[] = {
        "",
        "k.test QUJD",
        "hmac-md5:k.test:QUJDREVGR0g=",
        "hmac-sha256:k.test:no base64!",
        "key \"k\" { secret \"QUJDREVGR0g=\"; };",
    };
    struct dns_key key;
    for (size_t i = 0; i < COUNT(good); i++) {
        CU_ASSERT_PTR_NULL(dns_key_parse(good[i], &key));
        CHECK_STR("name", key.name, "k.test");
        CHECK_STR("algorithm", key.algorithm, "hmac-sha256");
        CHECK_STR("secret", key.secret, "QUJDREVGR0g=");
    }
    for (size_t i = 0; i < COUNT(bad); i++)
        CU_ASSERT_PTR_NOT_NULL(dns_key_parse(bad[i], &key));
}

/* A resolver of this table. */
static enum dns_spf_lookup ask(void *with, const char *name, enum dns_type type,
                               struct dns_sets *out)
{
    static const struct {
        const char *name;
        enum dns_type type;
        const char *value;
    } zone[] = {
        { "a.test", DNS_MX, "10 mx.a.test." },
        { "mx.a.test", DNS_A, "192.0.2.25" },
        { "p.test", DNS_TXT, "v=spf1 ip4:198.51.100.0/24 ~all" },
        { "self.test", DNS_TXT, "v=spf1 include:self.test -all" },
        { "two.test", DNS_TXT, "v=spf1 -all" },
        { "two.test", DNS_TXT, "v=spf1 +all" },
        { "down.test", DNS_TXT, NULL },
    };
    enum dns_spf_lookup found = DNS_SPF_ABSENT;
    (void)with;
    for (size_t i = 0; i < COUNT(zone); i++) {
        if (zone[i].type != type || strcmp(zone[i].name, name) != 0)
            continue;
        if (!zone[i].value)
            return DNS_SPF_FAILED;
        add(out, name, type, 60, zone[i].value);
        found = DNS_SPF_FOUND;
    }
    return found;
}

static void test_spf(void)
{
    static const struct {
        const char *record, *client;
        enum dns_spf_result want;
        unsigned lookups, voids;
    } cases[] = {
        { "v=spf1 mx -all", "192.0.2.25", DNS_SPF_PASS, 1, 0 },
        { "v=spf1 mx -all", "192.0.2.26", DNS_SPF_FAIL, 1, 0 },
        { "v=spf1 mx/24 -all", "192.0.2.26", DNS_SPF_PASS, 1, 0 },
        { "v=spf1 include:p.test ?all", "198.51.100.9", DNS_SPF_PASS, 1, 0 },
        { "v=spf1 include:p.test ~all", "192.0.2.1", DNS_SPF_SOFTFAIL, 1, 0 },
        { "v=spf1 redirect=p.test", "192.0.2.1", DNS_SPF_SOFTFAIL, 1, 0 },
        { "v=spf1 a:x.test a:y.test -all", NULL, DNS_SPF_FAIL, 2, 2 },
        { "v=spf1 include:two.test -all", "192.0.2.1", DNS_SPF_PERMERROR, 1, 0 },
        { "v=spf1 include:none.test -all", "192.0.2.1", DNS_SPF_PERMERROR, 1, 1 },
        { "v=spf1 include:down.test -all", "192.0.2.1", DNS_SPF_TEMPERROR, 1, 0 },
        { "v=spf1 include:self.test -all", "192.0.2.1", DNS_SPF_PERMERROR, 11, 0 },
        { "v=spf1 exists:%{l}.x.test -all", "192.0.2.1", DNS_SPF_UNKNOWN, 1, 0 },
        { "v=spf1 exists:%{l}.x.test ip4:192.0.2.1 -all", "192.0.2.1", DNS_SPF_PASS, 1,
          0 },
        { "v=spf1 nonsense -all", "192.0.2.1", DNS_SPF_PERMERROR, 0, 0 },
    };
    const struct dns_spf_resolver resolver = { ask, NULL };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct netaddr client;
        struct dns_spf spf;
        if (cases[i].client)
            CU_ASSERT_TRUE(
                netaddr_parse(cases[i].client, strlen(cases[i].client), &client));
        dns_spf_walk(cases[i].record, "a.test", cases[i].client ? &client : NULL,
                     &resolver, &spf);
        CHECK_STR(cases[i].record, dns_spf_result_name(spf.result),
                  dns_spf_result_name(cases[i].want));
        CHECK_INT(cases[i].record, spf.lookups, cases[i].lookups);
        CHECK_INT(cases[i].record, spf.voids, cases[i].voids);
    }
}

UNIT_MAIN("dns", { "values", test_values }, { "owners", test_owners },
          { "long texts", test_long_texts }, { "changes", test_changes },
          { "states", test_states }, { "snapshots", test_snapshots },
          { "damaged snapshots", test_damaged_snapshots },
          { "a snapshot as a plan", test_snapshot_as_plan }, { "quiet", test_quiet },
          { "keys", test_keys }, { "spf", test_spf })
