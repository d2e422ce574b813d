/* ping: the probe's mark and message, what its result means, what IMAP servers say. */
#include <stdlib.h>

#include "../../cutover/imapline.h"
#include "../../cutover/ping.h"
#include "ping_row.h"
#include "unit.h"

#define ID "abcdefghijklmnopqrstuvwxyz"

/* ---- the mark ---------------------------------------------------------------- */

static void marks(void)
{
    static const struct {
        const char *text;
        bool want;
    } cases[] = {
        { "<sluice-ping." ID "@mx1.test>", true },
        { "sluice-ping." ID "@mx1.test", true },
        { "sluice-ping.234567ghijklmnopqrstuvwxyz@h", true },
        { "sluice-ping." ID "@", false },
        { "sluice-ping." ID "x@mx1.test", false },
        { "sluice-ping.bcdefghijklmnopqrstuvwxyz@mx1.test", false },
        { "sluice-ping.Abcdefghijklmnopqrstuvwxyz@mx1.test", false },
        { "sluice-ping.1bcdefghijklmnopqrstuvwxyz@mx1.test", false },
        { "x.sluice-ping." ID "@mx1.test", false },
        { "<<sluice-ping." ID "@mx1.test>", false },
        { "sluice-ping.", false },
        { "<", false },
        { "", false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT(cases[i].text, ping_is_mark(cases[i].text, strlen(cases[i].text)),
                  cases[i].want);
    CHECK_INT("cut short", ping_is_mark("sluice-ping." ID "@mx1.test", 38), false);
}

static void ids(void)
{
    char one[PING_ID_LEN + 1], two[PING_ID_LEN + 1], text[128];
    CU_ASSERT(ping_new_id(one) && ping_new_id(two));
    CU_ASSERT(strcmp(one, two) != 0);
    snprintf(text, sizeof(text), "<sluice-ping.%s@h>", one);
    CHECK_INT(text, ping_is_mark(text, strlen(text)), true);
}

static void headers(void)
{
    static const struct {
        const char *text;
        bool want;
        long sent;
        const char *path;
    } cases[] = {
        { ID " 1700000000 old forwarding", true, 1700000000, "old forwarding" },
        { ID " 1 x", true, 1, "x" },
        { ID " 0 x", false, 0, NULL },
        { ID " -5 x", false, 0, NULL },
        { ID " 17", false, 0, NULL },
        { ID " 17 ", false, 0, NULL },
        { ID " 17x", false, 0, NULL },
        { ID "a 17 x", false, 0, NULL },
        { "abc 17 x", false, 0, NULL },
        { ID, false, 0, NULL },
        { "", false, 0, NULL },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char id[PING_ID_LEN + 1];
        int64_t sent;
        const char *path;
        bool got = ping_read_header(cases[i].text, id, &sent, &path);
        CHECK_INT(cases[i].text, got, cases[i].want);
        if (!got || !cases[i].want)
            continue;
        CHECK_STR(cases[i].text, id, ID);
        CHECK_INT(cases[i].text, sent, cases[i].sent);
        CHECK_STR(cases[i].text, path, cases[i].path);
    }
}

/* ---- the message --------------------------------------------------------------- */

static struct conf_mailbox boxes[] = {
    { .name = (char *)(uintptr_t) "main", .imap = { .tls = CONF_TLS_ALWAYS } },
    { .name = (char *)(uintptr_t) "copy", .imap = { .tls = CONF_TLS_ALWAYS } },
};
static char name[] = "in", from[] = "a@b.test", to[] = "c@d.test", host[] = "192.0.2.1",
            null[] = "", user[] = "u";
static const struct conf_ping path = {
    .name = name,
    .smtp = { .host = host },
    .from = from,
    .to = to,
    .mailboxes = { &boxes[0], &boxes[1] },
    .mailbox_count = 2,
    .warning = 30,
    .critical = 120,
};

static void letters(void)
{
    struct conf_ping nobody = path;
    char *text = ping_letter(&path, "mx1.test", ID, 1700000000);
    CHECK_STR("letter", text,
              "From: <a@b.test>\r\nTo: <c@d.test>\r\nSubject: sluice ping: in\r\n"
              "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
              "Message-ID: <sluice-ping." ID "@mx1.test>\r\n"
              "X-Sluice-Ping: " ID " 1700000000 in\r\n"
              "Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All\r\n"
              "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
              "This is a probe of \"sluice ping\" on mx1.test.\r\n"
              "It is removed when it has been found; one that is left may be deleted."
              "\r\n");
    free(text);
    nobody.from = null;
    text = ping_letter(&nobody, "mx1.test", ID, 1700000000);
    CHECK_INT("a null sender", strncmp(text, "From: <postmaster@mx1.test>\r\n", 29), 0);
    free(text);
}

/* ---- what it means --------------------------------------------------------------- */

/* Sent and arrived in both, so many milliseconds after the beginning. */
static struct ping_result arrived(int64_t main, int64_t copy)
{
    struct ping_result result = { .sent = MAIL_DONE,
                                  .tried = true,
                                  .attempts = 1,
                                  .connected_ms = 10,
                                  .accepted_ms = 200,
                                  .waited_ms = 120000 };
    int64_t ms[] = { main, copy };
    for (size_t i = 0; i < 2; i++) {
        result.arrivals[i].ms = ms[i];
        result.arrivals[i].copies = ms[i] >= 0;
        result.arrivals[i].folder = "INBOX";
    }
    return result;
}

static void judge(const struct ping_result *result, const char *why,
                  enum ping_state want_state, const char *want)
{
    char text[PING_TEXT];
    enum ping_state state = ping_judge(&path, result, why, text);
    CHECK_STR("text", text, want);
    CHECK_STR(want, ping_state_name(state), ping_state_name(want_state));
}

#define TIMES "connected 0.010 s, accepted 0.200 s"
#define BOTH  TIMES ", in main 1.500 s, in copy 2.000 s"

static void arrivals(void)
{
    struct ping_result result = arrived(1500, 2000);
    judge(&result, "", PING_OK, BOTH);
    CHECK_INT("slowest", ping_arrived_ms(&path, &result), 2000);
    result.arrivals[1].copies = 3;
    judge(&result, "", PING_WARNING, "came 3 times into copy; " BOTH);
    result = arrived(1500, 2000);
    result.arrivals[0].folder = "Junk";
    result.arrivals[0].elsewhere = true;
    judge(&result, "", PING_WARNING, "lies in folder Junk of main; " BOTH);
    result = arrived(1500, 2000);
    result.attempts = 3;
    result.arrivals[0].removed = 4;
    result.arrivals[0].late = 1;
    result.arrivals[1].reconnects = 2;
    judge(&result, "", PING_OK,
          BOTH "; accepted at attempt 3 (greylisting?); 1 earlier probe came late into "
               "main; 3 left by earlier runs removed from main; the connection to copy "
               "broke 2 times");
    result.arrivals[0].late_copies = 1;
    result.attempts = 1;
    result.arrivals[1].reconnects = 0;
    judge(&result, "", PING_WARNING,
          "an earlier probe came once more into main; " BOTH
          "; 1 earlier probe came late into main; 2 left by earlier runs removed from "
          "main");
    result = arrived(30001, 2000);
    judge(&result, "", PING_WARNING,
          "main took more than 30 s; " TIMES ", in main 30.001 s, in copy 2.000 s");
    result = arrived(1500, -1);
    judge(&result, "", PING_CRITICAL,
          "accepted, but not in copy within 2 min 00 s; " TIMES ", in main 1.500 s");
    CHECK_INT("not all", ping_arrived_ms(&path, &result), -1);
    judge(&result, "it is locked", PING_CRITICAL,
          "accepted, but not in copy within 2 min 00 s: it is locked; " TIMES
          ", in main 1.500 s");
    snprintf(result.returned, sizeof(result.returned), "smtp; 550 no");
    judge(&result, "", PING_CRITICAL,
          "accepted, and returned to the sender: smtp; 550 no; " TIMES
          ", in main 1.500 s");
    result.interrupted = true;
    judge(&result, "", PING_UNKNOWN, "interrupted; " TIMES ", in main 1.500 s");
}

static void failures(void)
{
    struct ping_result result = arrived(-1, -1);
    result.connected_ms = result.accepted_ms = -1;
    result.sent = MAIL_REFUSED;
    snprintf(result.error, sizeof(result.error), "mx:25: 550 a|b");
    judge(&result, "", PING_CRITICAL, "mx:25: 550 a/b");
    result.sent = MAIL_LATER;
    result.connected_ms = 10;
    judge(&result, "", PING_CRITICAL,
          "not accepted in 1 attempt (greylisting?): mx:25: 550 a/b; connected 0.010 s");
    result.connected_ms = -1;
    result.tried = false;
    judge(&result, "", PING_UNKNOWN, "mx:25: 550 a/b; nothing was sent");
    for (size_t i = 0; i < 2; i++) {
        result.arrivals[i].failed = true;
        snprintf(result.arrivals[i].error, PING_TEXT, "imap:993: %s", i ? "no" : "bad");
    }
    judge(&result, "", PING_CRITICAL,
          "mailbox main: imap:993: bad; mailbox copy: imap:993: no; nothing was sent");
    for (size_t i = 0; i < 2; i++) {
        memset(result.arrivals[i].error, 'x', PING_TEXT - 1);
        result.arrivals[i].error[PING_TEXT - 1] = '\0';
    }
    char text[PING_TEXT];
    CHECK_INT("state", ping_judge(&path, &result, "", text), PING_CRITICAL);
    CHECK_STR("cut, and it shows", text + PING_TEXT - 6, "xx...");
}

/* No TLS with a password, not on this host: loud. */
static void in_the_clear(void)
{
    struct ping_result result = arrived(1500, 2000);
    struct conf_ping clear = path;
    char text[PING_TEXT];
    clear.smtp.user = user;
    CHECK_INT("state", ping_judge(&clear, &result, "", text), PING_OK);
    CHECK_STR("said", text,
              BOTH "; THE PASSWORD GOES OVER THE NET IN THE CLEAR (tls = none)");
    clear.smtp.tls = CONF_TLS_STARTTLS;
    CHECK_INT("state", ping_judge(&clear, &result, "", text), PING_OK);
    CHECK_STR("not said", text, BOTH);
}

static void figures(void)
{
    struct ping_result result = arrived(1500, -1);
    char text[512] = "", small[32] = "";
    CU_ASSERT(ping_perfdata(&path, &result, text, sizeof(text)));
    CHECK_STR("figures", text,
              " 'in connected'=0.010s 'in accepted'=0.200s 'in main'=1.500s;30;120;0 "
              "'in copy'=U;30;120;0");
    CU_ASSERT_FALSE(ping_perfdata(&path, &result, small, sizeof(small)));
    CHECK_INT("worse", ping_worse(PING_UNKNOWN, PING_CRITICAL), PING_CRITICAL);
    CHECK_INT("worse", ping_worse(PING_UNKNOWN, PING_WARNING), PING_UNKNOWN);
    CHECK_INT("worse", ping_worse(PING_OK, PING_WARNING), PING_WARNING);
}

/* ---- in Redis ------------------------------------------------------------------------
 */

static void rows(void)
{
    static const struct {
        const char *field, *value;
        bool want;
    } cases[] = {
        { "mx1 in", "1700000000 2 12 - - the text", true },
        { "mx1 a b", "1 0 1 2 3 ", true },
        { "mx1", "1 0 1 2 3 x", false },
        { " in", "1 0 1 2 3 x", false },
        { "mx1 ", "1 0 1 2 3 x", false },
        { "mx1 in", "1 4 1 2 3 x", false },
        { "mx1 in", "1 -1 1 2 3 x", false },
        { "mx1 in", "- 1 1 2 3 x", false },
        { "mx1 in", "1 0 1 2 3", false },
        { "mx1 in", "1 0 99999999999999999999 2 3 x", false },
        { "mx1 in", "", false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char field[64], value[64], text[PING_VALUE_MAX + 1], again[PING_FIELD_MAX + 1];
        struct ping_row row;
        snprintf(field, sizeof(field), "%s", cases[i].field);
        snprintf(value, sizeof(value), "%s", cases[i].value);
        bool got = ping_row_decode(field, value, &row);
        CHECK_INT(cases[i].value, got, cases[i].want);
        if (!got)
            continue;
        ping_row_value(&row, text);
        CHECK_STR("value", text, cases[i].value);
        CU_ASSERT(ping_row_field(&row, again));
        CHECK_STR("field", again, cases[i].field);
    }
}

/* ---- what IMAP servers say
 * --------------------------------------------------------------- */

static void imap_ends(void)
{
    static const struct {
        const char *line;
        int want; /* -1: not the end */
        const char *text;
    } cases[] = {
        { "s1 OK done", IMAP_OK, "done" },
        { "s1 no [X] y", IMAP_NO, "[X] y" },
        { "s1 BAD", IMAP_BAD, "" },
        { "s1 OKAY", -1, NULL },
        { "s12 OK x", -1, NULL },
        { "* OK x", -1, NULL },
        { "s1", -1, NULL },
        { "", -1, NULL },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum imap_end end;
        const char *text;
        bool got = imapline_end(cases[i].line, "s1", &end, &text);
        CHECK_INT(cases[i].line, got ? (int)end : -1, cases[i].want);
        if (got && cases[i].text)
            CHECK_STR(cases[i].line, text, cases[i].text);
    }
}

static void imap_literals(void)
{
    static const struct {
        const char *line;
        bool want;
        uint64_t size;
    } cases[] = {
        { "* 2 FETCH (X {12}", true, 12 },
        { "x {0}", true, 0 },
        { "x {4294967296}", true, 4294967296 },
        { "x {99999999999999999999999}", true, UINT64_MAX },
        { "x {12+}", true, 12 },
        { "x {}", false, 0 },
        { "x {a}", false, 0 },
        { "x {12} ", false, 0 },
        { "}", false, 0 },
        { "", false, 0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t size = 0;
        CHECK_INT(cases[i].line, imapline_literal(cases[i].line, &size), cases[i].want);
        if (cases[i].want)
            CHECK_INT(cases[i].line, size, cases[i].size);
    }
}

static void imap_items(void)
{
    uint32_t uids[2] = { 0, 0 };
    uint64_t number = 0;
    CHECK_INT("all are counted", imapline_numbers(" 3 0 7 4294967296 9 x 5", uids, 2), 3);
    CHECK_INT("first", uids[0], 3);
    CHECK_INT("second", uids[1], 7);
    CHECK_INT("none", imapline_numbers("", NULL, 0), 0);
    uint32_t first = 0, last = 0;
    imapline_range(" 9 3 x 1", &first, &last);
    imapline_range(" 12 0 4294967296 4", &first, &last);
    CHECK_INT("the least", first, 3);
    CHECK_INT("the greatest", last, 12);
    CU_ASSERT(imapline_item("(MESSAGES 3 SIZE 12)", "SIZE", &number));
    CHECK_INT("size", number, 12);
    CU_ASSERT(imapline_item(" (UID 5 RFC822.SIZE 88)", "rfc822.size", &number));
    CHECK_INT("message", number, 88);
    CU_ASSERT_FALSE(imapline_item("(RFC822.SIZE 88)", "SIZE", &number));
    CU_ASSERT_FALSE(imapline_item("(SIZE x)", "SIZE", &number));
    CU_ASSERT_FALSE(imapline_item("(SIZE", "SIZE", &number));
    CU_ASSERT(imapline_has(" IMAP4rev1 UIDPLUS STATUS=SIZE", "status=size"));
    CU_ASSERT_FALSE(imapline_has(" XUIDPLUS UIDPLUSX", "UIDPLUS"));
    CHECK_STR("untagged", imapline_untagged("* 12 EXISTS", "EXISTS", &number), "");
    CHECK_INT("number", number, 12);
    CU_ASSERT_PTR_NULL(imapline_untagged("* 12EXISTS", "EXISTS", &number));
    CU_ASSERT_PTR_NULL(imapline_untagged("* SEARCHES 3", "SEARCH", NULL));
}

static void imap_times(void)
{
    static const struct {
        const char *text;
        int64_t want; /* 0: none */
    } cases[] = {
        { " (UID 3 INTERNALDATE \"22-Nov-2026 14:07:47 +0000\")", 1795356467 },
        { " (INTERNALDATE \"22-NOV-2026 15:07:47 +0100\" UID 3)", 1795356467 },
        { " (INTERNALDATE \"22-Nov-2026 04:37:47 -0930\")", 1795356467 },
        { " (INTERNALDATE \" 1-Jan-1970 00:00:09 +0000\")", 9 },
        { " (INTERNALDATE \"01-Jan-1970 00:00:09 +0000\")", 9 },
        { " (INTERNALDATE \"22-Nov-2026 14:07:47 +0000", 0 },
        { " (INTERNALDATE \"22-Nov-2026 14:07:47\")", 0 },
        { " (INTERNALDATE \"22-Foo-2026 14:07:47 +0000\")", 0 },
        { " (INTERNALDATE \"32-Nov-2026 14:07:47 +0000\")", 0 },
        { " (INTERNALDATE \"22-Nov-2026 24:07:47 +0000\")", 0 },
        { " (INTERNALDATE \"22-Nov-2026 14:07:4x +0000\")", 0 },
        { " (INTERNALDATE \"22-Nov-2026 14:07:47 00000\")", 0 },
        { " (INTERNALDATE \"22-Nov-1026 14:07:47 +0000\")", 0 },
        { " (INTERNALDATE NIL)", 0 },
        { " (INTERNALDATE", 0 },
        { " (UID 3)", 0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t when = 0;
        bool got = imapline_time(cases[i].text, "INTERNALDATE", &when);
        CHECK_INT(cases[i].text, got, cases[i].want != 0);
        CHECK_INT(cases[i].text, when, cases[i].want);
    }
}

static void imap_folders(void)
{
    static const struct {
        const char *text, *literal, *want; /* NULL: none */
    } cases[] = {
        { " (\\HasNoChildren) \".\" INBOX", "", "INBOX" },
        { " () \"/\" \"Sent \\\"x\\\" \\\\\"", "", "Sent \"x\" \\" },
        { " () NIL Junk", "", "Junk" },
        { " () \"\\\\\" a\\b", "", "a\\b" },
        { " (\\HasChildren) \".\" {4}", "a(b)", "a(b)" },
        { " (\\Noselect) \".\" x", "", NULL },
        { " (\\X \\nonexistent) \".\" x", "", NULL },
        { " () \".\" \"x", "", NULL },
        { " () \".\"", "", NULL },
        { " () \".\" ", "", NULL },
        { " (", "", NULL },
        { "", "", NULL },
        { " () \".\" \"0123456789012345678901234567890123456789\"", "", NULL },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[32];
        bool got = imapline_folder(cases[i].text, cases[i].literal, out, sizeof(out));
        CHECK_INT(cases[i].text, got, cases[i].want != NULL);
        if (got && cases[i].want)
            CHECK_STR(cases[i].text, out, cases[i].want);
    }
}

static void imap_texts(void)
{
    static const struct {
        const char *header, *want;
    } cases[] = {
        { "X: a b\r\n\r\n", "a b" },
        { "Y: 1\r\nx:   a\r\n\tb  \r\nZ: 2\r\n", "a\tb" },
        { "XX: a\r\n", "" },
        { "X a\r\n", "" },
        { "X:\r\n\r\n", "" },
        { "X: 0123456789012345678901234567890", "012345678901234" },
        { "", "" },
    };
    char out[16];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        imapline_field(cases[i].header, "X", out, sizeof(out));
        CHECK_STR(cases[i].header, out, cases[i].want);
    }
    CU_ASSERT(imapline_quote("a\"b\\", out, sizeof(out)));
    CHECK_STR("quoted", out, "\"a\\\"b\\\\\"");
    CU_ASSERT_FALSE(imapline_quote("a\r\nb", out, sizeof(out)));
    CU_ASSERT_FALSE(imapline_quote("\xc3\xa9", out, sizeof(out)));
    CU_ASSERT_FALSE(imapline_quote("0123456789012345", out, sizeof(out)));
}

/* Rows that nobody asks for any more. */
static void forgotten(void)
{
    static char here[] = "mx1.test", named[] = "old";
    static struct conf_ping section = { .name = named };
    static const struct {
        const char *host, *path;
        int64_t age;
        bool forgotten;
    } cases[] = {
        { "mx1.test", "old", 60, false },
        { "mx1.test", "old", PING_FORGET_S, false },
        { "mx1.test", "old", PING_FORGET_S + 1, true },
        { "mx1.test", "new", PING_UNNAMED_S, false }, /* of another file, perhaps */
        { "mx1.test", "new", PING_UNNAMED_S + 1, true },
        { "mx2.test", "new", PING_UNNAMED_S + 1, false }, /* its sections are not known */
        { "mx2.test", "new", PING_FORGET_S + 1, true },
        { "mx2.test", "new", -PING_FORGET_S, false },
    };
    const struct conf conf = { .hostname = here, .pings = &section, .ping_count = 1 };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct ping_row row = { .host = cases[i].host,
                                      .path = cases[i].path,
                                      .when = 1700000000 - cases[i].age };
        char what[80];
        snprintf(what, sizeof(what), "%s on %s, %lld s", row.path, row.host,
                 (long long)cases[i].age);
        CHECK_INT(what, ping_row_forgotten(&row, &conf, 1700000000), cases[i].forgotten);
    }
}

UNIT_MAIN("ping", { "marks", marks }, { "ids", ids }, { "headers", headers },
          { "letters", letters }, { "arrivals", arrivals }, { "failures", failures },
          { "in the clear", in_the_clear }, { "figures", figures }, { "rows", rows }, { "forgotten rows", forgotten },
          { "imap ends", imap_ends }, { "imap literals", imap_literals },
          { "imap items", imap_items }, { "imap times", imap_times }, { "imap folders", imap_folders },
          { "imap texts", imap_texts })
