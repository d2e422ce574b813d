/* The way back to a snapshot: what sluice wrote is undone, what others did since is not.
 */
#include <stdlib.h>
#include <string.h>

#include "../../cutover/dns_back.h"
#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* "NAME TYPE TTL VALUE" lines, names below a.test ("@" is that). */
static void fill(struct dns_sets *out, struct dns_questions *names, const char *lines)
{
    char text[1024], *rest = NULL;
    CU_ASSERT_TRUE_FATAL(strlen(lines) < sizeof(text));
    memcpy(text, lines, strlen(lines) + 1);
    for (char *line = strtok_r(text, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        char *words = NULL, name[DNSRECORD_NAME_MAX + 1];
        enum dns_type type;
        const char *owner = strtok_r(line, " ", &words);
        CU_ASSERT_PTR_NULL_FATAL(dns_owner(owner, "a.test", name));
        CU_ASSERT_TRUE_FATAL(dns_type_parse(strtok_r(NULL, " ", &words), &type));
        const char *ttl = strtok_r(NULL, " ", &words);
        if (names)
            CU_ASSERT_TRUE_FATAL(dns_questions_add(names, name, type));
        if (ttl)
            CU_ASSERT_TRUE_FATAL(
                dns_sets_add(out, name, type, (uint32_t)strtoul(ttl, NULL, 10), words));
    }
}

/* "NAME TYPE", with "!" where sluice never wrote it. */
static void left_text(const struct dns_back *back, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < back->left_count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s %s%s\n",
                                 back->left[i].ours ? "" : "!", back->left[i].name,
                                 dns_type_name(back->left[i].type),
                                 back->left[i].live.count > 0 ? "" : " gone");
}

static const struct {
    const char *what;
    const char *was;   /* the snapshot before the change */
    const char *wrote; /* a set without a TTL was removed */
    const char *plan, *live;
    const char *want; /* zone-file lines */
    const char *left;
} ways[] = {
    { "as sluice wrote it", "@ MX 3600 10 old.", "@ MX 600 10 new.", "",
      "@ MX 600 10 new.",
      "; remove: a.test. 600 IN MX 10 new.\na.test. 3600 IN MX 10 old.\n", "" },
    { "by hand, as planned", "@ MX 3600 10 old.", "", "@ MX 600 10 new.",
      "@ MX 60 10 new.",
      "; remove: a.test. 60 IN MX 10 new.\na.test. 3600 IN MX 10 old.\n", "" },
    { "back already", "@ MX 3600 10 old.", "@ MX 600 10 new.", "", "@ MX 3600 10 old.",
      "", "" },
    { "somebody's own", "@ MX 3600 10 old.", "@ MX 600 10 new.", "@ MX 600 10 new.",
      "@ MX 300 10 other.", "", "a.test MX\n" },
    { "somebody removed it", "@ MX 3600 10 old.", "@ MX 600 10 new.", "", "", "",
      "a.test MX gone\n" },
    { "one of two was changed", "@ MX 60 10 old.", "@ MX 60 10 n1.\n@ MX 60 20 n2.", "",
      "@ MX 60 10 n1.\n@ MX 60 20 n3.", "", "a.test MX\n" },
    { "a fallback was added", "@ MX 60 10 old.", "@ MX 60 10 new.", "",
      "@ MX 60 10 new.\n@ MX 60 50 spare.",
      "; remove: a.test. 60 IN MX 10 new.\n; remove: a.test. 60 IN MX 50 spare.\n"
      "a.test. 60 IN MX 10 old.\na.test. 60 IN MX 50 spare.\n",
      "" },
    { "a first one was added", "@ MX 60 10 old.", "@ MX 60 10 new.", "",
      "@ MX 60 10 new.\n@ MX 60 5 filter.", "", "a.test MX\n" },
    { "never sluice's", "@ A 60 192.0.2.1", "@ MX 60 10 new.", "", "@ A 60 192.0.2.9", "",
      "!a.test A\n" },
    { "of others before, with it", "@ TXT 60 v=spf1 old\n@ TXT 60 site=1",
      "@ TXT 600 v=spf1 new\n@ TXT 600 site=1", "",
      "@ TXT 600 v=spf1 new\n@ TXT 600 site=2",
      "; remove: a.test. 600 IN TXT \"v=spf1 new\"\n"
      "; remove: a.test. 600 IN TXT \"site=2\"\n"
      "a.test. 60 IN TXT \"v=spf1 old\"\na.test. 60 IN TXT \"site=2\"\n",
      "" },
    { "SPF of somebody, the rest goes", "@ TXT 60 v=spf1 old\n@ MX 60 10 old.",
      "@ TXT 60 v=spf1 new\n@ TXT 60 ours\n@ MX 60 10 new.", "",
      "@ TXT 60 v=spf1 other\n@ TXT 60 ours\n@ MX 60 10 new.",
      "; remove: a.test. 60 IN TXT \"v=spf1 other\"\n; remove: a.test. 60 IN TXT "
      "\"ours\"\n"
      "a.test. 60 IN TXT \"v=spf1 other\"\n"
      "; remove: a.test. 60 IN MX 10 new.\na.test. 60 IN MX 10 old.\n",
      "a.test TXT\n" },
    { "a second SPF", "@ TXT 60 v=spf1 old", "@ TXT 60 v=spf1 new", "",
      "@ TXT 60 v=spf1 new\n@ TXT 60 v=spf1 other", "", "a.test TXT\n" },
    { "SPF was others' when sluice wrote beside it", "@ TXT 60 v=spf1 old",
      "@ TXT 60 v=spf1 old\n@ TXT 60 ours", "", "@ TXT 60 v=spf1 other\n@ TXT 60 ours",
      "; remove: a.test. 60 IN TXT \"v=spf1 other\"\n; remove: a.test. 60 IN TXT "
      "\"ours\"\n"
      "a.test. 60 IN TXT \"v=spf1 other\"\n",
      "!a.test TXT\n" },
    { "a short TTL of sluice's", "@ MX 3600 10 old.", "@ MX 600 10 old.", "",
      "@ MX 600 10 old.",
      "; remove: a.test. 600 IN MX 10 old.\na.test. 3600 IN MX 10 old.\n", "" },
    { "a TTL of somebody's", "@ MX 3600 10 old.", "@ MX 600 10 old.", "",
      "@ MX 60 10 old.", "", "" },
    { "a value below sluice's TTL", "@ MX 3600 10 old.", "@ MX 600 10 old.", "",
      "@ MX 600 10 other.", "", "a.test MX\n" },
    { "an address again", "imap A 60 192.0.2.1\nimap CNAME", "imap CNAME 60 new.\nimap A",
      "", "imap CNAME 60 new.",
      "imap.a.test. 60 IN A 192.0.2.1\n; remove: imap.a.test. 60 IN CNAME new.\n", "" },
    { "no address beside somebody's CNAME", "imap A 60 192.0.2.1\nimap CNAME",
      "imap CNAME 60 new.\nimap A", "", "imap CNAME 60 other.", "",
      "imap.a.test CNAME\nimap.a.test A gone\n" },
    { "no CNAME beside somebody's address", "imap CNAME 60 old.\nimap A",
      "imap A 60 192.0.2.1\nimap CNAME", "", "imap A 60 192.0.2.9", "",
      "imap.a.test A\nimap.a.test CNAME gone\n" },
    { "a name that was not there", "_dmarc TXT", "_dmarc TXT 60 v=DMARC1; p=none", "",
      "_dmarc TXT 60 v=DMARC1; p=none",
      "; remove: _dmarc.a.test. 60 IN TXT \"v=DMARC1; p=none\"\n", "" },
    { "somebody made it stricter", "_dmarc TXT", "_dmarc TXT 60 v=DMARC1; p=none", "",
      "_dmarc TXT 60 v=DMARC1; p=reject", "", "_dmarc.a.test TXT\n" },
};

static void check_case(size_t i, const struct dns_questions *forced,
                       const struct dns_questions *skipped, const char *want,
                       const char *want_left)
{
    struct dns_snap snap = { .taken = 1 };
    struct dns_sets planned = { 0 }, live = { 0 };
    struct dns_back back;
    char left[512];
    fill(&snap.sets, &snap.asked, ways[i].was);
    fill(&snap.written, &snap.writes, ways[i].wrote);
    fill(&planned, NULL, ways[i].plan);
    fill(&live, NULL, ways[i].live);
    const struct dns_way way = { .to = &snap,
                                 .snaps = &snap,
                                 .snap_count = 1,
                                 .planned = &planned,
                                 .live = &live,
                                 .forced = forced ? *forced : (struct dns_questions){ 0 },
                                 .skipped =
                                     skipped ? *skipped : (struct dns_questions){ 0 } };
    CU_ASSERT_TRUE_FATAL(dns_back(&way, &back));
    char *lines = dns_plan_zone_lines(&back.changes);
    CHECK_STR(ways[i].what, lines, want);
    left_text(&back, left, sizeof(left));
    CHECK_STR(ways[i].what, left, want_left);
    free(lines);
    dns_back_free(&back);
    dns_snap_free(&snap);
    dns_sets_free(&planned);
    dns_sets_free(&live);
}

static void test_back(void)
{
    for (size_t i = 0; i < COUNT(ways); i++)
        check_case(i, NULL, NULL, ways[i].want, ways[i].left);
}

/* --only puts it back all the same, --except leaves it. */
static void test_chosen(void)
{
    struct dns_questions mx = { 0 };
    size_t i = 0;
    while (strcmp(ways[i].what, "somebody's own") != 0)
        i++;
    CU_ASSERT_TRUE(dns_questions_add(&mx, "a.test", DNS_MX));
    check_case(i, &mx, NULL,
               "; remove: a.test. 300 IN MX 10 other.\na.test. 3600 IN MX 10 old.\n", "");
    check_case(i, NULL, &mx, "", "");
    dns_questions_free(&mx);
}

/* What was written since another snapshot counts, too. */
static void test_several_changes(void)
{
    struct dns_snap snaps[2] = { { .taken = 1 }, { .taken = 2 } };
    struct dns_sets none = { 0 };
    struct dns_back back;
    fill(&snaps[0].sets, &snaps[0].asked, "@ MX 3600 10 old.");
    fill(&snaps[0].written, &snaps[0].writes, "@ MX 600 10 old.");
    fill(&snaps[1].sets, &snaps[1].asked, "@ MX 600 10 old.");
    fill(&snaps[1].written, &snaps[1].writes, "@ MX 600 10 new.");
    struct dns_way way = { .to = &snaps[0],
                           .snaps = snaps,
                           .snap_count = 2,
                           .planned = &none,
                           .live = &snaps[1].written };
    CU_ASSERT_TRUE(dns_back(&way, &back));
    CHECK_INT("over both", back.changes.count, 1);
    CHECK_INT("with the first TTL", back.changes.items[0].after.ttl, 3600);
    dns_back_free(&back);
    /* Somebody's between the two is what the last one replaced, and it is not lost. */
    dns_sets_free(&snaps[1].sets);
    fill(&snaps[1].sets, &snaps[1].asked, "@ MX 600 10 other.");
    CU_ASSERT_TRUE(dns_back(&way, &back));
    CHECK_INT("not over somebody's", back.changes.count, 0);
    CHECK_INT("it is said", back.left_count, 1);
    dns_back_free(&back);
    way.to = &snaps[1];
    CU_ASSERT_TRUE(dns_back(&way, &back));
    CHECK_STR("but back to it", back.changes.items[0].after.values[0], "10 other.");
    dns_back_free(&back);
    way.live = &snaps[1].sets;
    CU_ASSERT_TRUE(dns_back(&way, &back));
    CHECK_INT("back already", back.changes.count + back.left_count, 0);
    dns_back_free(&back);
    dns_snap_free(&snaps[0]);
    dns_snap_free(&snaps[1]);
}

UNIT_MAIN("dns_back", { "the way back", test_back },
          { "chosen by the admin", test_chosen },
          { "several changes", test_several_changes })
