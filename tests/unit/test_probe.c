/* probe: replies of an SMTP server, and the lists that doctor reads. */
#include "../../cutover/postconf.h"
#include "../../cutover/smtp.h"

#include <stdlib.h>

#include "unit.h"

static const char *const parses[] = { "done", "more", "bad" };

static void replies(void)
{
    static const struct {
        const char *input;
        enum smtp_parse want;
        int code;
        const char *text;
        size_t left;
    } cases[] = {
        { "220 mx ESMTP\r\n", SMTP_DONE, 220, "mx ESMTP", 0 },
        { "250 a\r\n250 b\r\n", SMTP_DONE, 250, "a", 7 },
        { "250-a\r\n250-b\r\n250 c\r\n", SMTP_DONE, 250, "a b c", 0 },
        { "250\r\n", SMTP_DONE, 250, "", 0 },
        { "250-a\r\n250\r\n", SMTP_DONE, 250, "a", 0 },
        { "250 bare\n", SMTP_DONE, 250, "bare", 0 },
        { "550 5.1.1 <a@b>: no\x1b[2J\r\n", SMTP_DONE, 550, "5.1.1 <a@b>: no?[2J", 0 },
        { "550 \xc3\xa9\r\n", SMTP_DONE, 550, "??", 0 },
        { "", SMTP_MORE, 0, NULL, 0 },
        { "25", SMTP_MORE, 0, NULL, 0 },
        { "250-a\r\n", SMTP_MORE, 0, NULL, 0 },
        { "250-a\r\n250", SMTP_MORE, 0, NULL, 0 },
        { "250-a\r\n550 b\r\n", SMTP_BAD, 0, NULL, 0 },
        { "hello\r\n", SMTP_BAD, 0, NULL, 0 },
        { "25\r\n", SMTP_BAD, 0, NULL, 0 },
        { "2500 a\r\n", SMTP_BAD, 0, NULL, 0 },
        { "150 a\r\n", SMTP_BAD, 0, NULL, 0 },
        { "650 a\r\n", SMTP_BAD, 0, NULL, 0 },
        { "260 a\r\n", SMTP_BAD, 0, NULL, 0 },
        { "250_a\r\n", SMTP_BAD, 0, NULL, 0 },
        { "\r\n", SMTP_BAD, 0, NULL, 0 },
        { " 250 a\r\n", SMTP_BAD, 0, NULL, 0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct smtp_reply reply;
        size_t len = strlen(cases[i].input), consumed = 0;
        enum smtp_parse got = smtp_reply_parse(cases[i].input, len, &reply, &consumed);
        CHECK_STR(cases[i].input, parses[got], parses[cases[i].want]);
        if (got != SMTP_DONE || cases[i].want != SMTP_DONE)
            continue;
        CHECK_INT(cases[i].input, reply.code, cases[i].code);
        CHECK_STR(cases[i].input, reply.text, cases[i].text);
        CHECK_INT(cases[i].input, len - consumed, cases[i].left);
    }
}

/* A reply that comes byte by byte is the same reply. */
static void in_pieces(void)
{
    static const char input[] = "250-mx\r\n250-PIPELINING\r\n250 SMTPUTF8\r\n";
    struct smtp_reply reply;
    size_t consumed = 0;
    for (size_t len = 0; len < sizeof(input) - 1; len++)
        CHECK_INT("incomplete", smtp_reply_parse(input, len, &reply, &consumed),
                  SMTP_MORE);
    CHECK_INT("complete", smtp_reply_parse(input, sizeof(input) - 1, &reply, &consumed),
              SMTP_DONE);
}

static void keywords(void)
{
    static const struct {
        const char *input;
        bool pipelining, smtputf8;
    } cases[] = {
        { "250-mx\r\n250-PIPELINING\r\n250 SMTPUTF8\r\n", true, true },
        { "250-mx\r\n250 pipelining\r\n", true, false },
        { "250-mx\r\n250 PIPELINING2\r\n", false, false },
        { "250-mx\r\n250 XPIPELINING\r\n", false, false },
        { "250-mx\r\n250 SMTPUTF8 x\r\n", false, true },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct smtp_reply reply;
        size_t consumed;
        smtp_reply_parse(cases[i].input, strlen(cases[i].input), &reply, &consumed);
        CHECK_INT(cases[i].input, reply.pipelining, cases[i].pipelining);
        CHECK_INT(cases[i].input, reply.smtputf8, cases[i].smtputf8);
    }
}

static void limits(void)
{
    static char input[SMTP_REPLY_MAX * 2];
    struct smtp_reply reply;
    size_t consumed, len = 0;
    memset(input, 'x', sizeof(input));
    memcpy(input, "250 ", 4);
    CHECK_INT("endless line", smtp_reply_parse(input, sizeof(input), &reply, &consumed),
              SMTP_BAD);
    input[1000] = '\n';
    CHECK_INT("long text", smtp_reply_parse(input, 1001, &reply, &consumed), SMTP_DONE);
    CHECK_INT("cut", strlen(reply.text), SMTP_TEXT_MAX);
    CHECK_STR("cut with dots", reply.text + SMTP_TEXT_MAX - 3, "...");
    for (int i = 0; i < SMTP_LINES_MAX + 1; i++) {
        memcpy(input + len, "250-a\r\n", 7);
        len += 7;
    }
    CHECK_INT("endless reply", smtp_reply_parse(input, len, &reply, &consumed), SMTP_BAD);
}

static void items(void)
{
    static const struct {
        const char *list, *want;
    } cases[] = {
        { "", "" },
        { " , ", "" },
        { "a", "a|" },
        { "a, b\tc", "a|b|c|" },
        { "{ unix:a, default_action=accept }, inet:x:1",
          "unix:a, default_action=accept|inet:x:1|" },
        { "{unix:a}{inet:b:1}", "unix:a|inet:b:1|" },
        { "{ }", "|" },
        { "{ unix:a", "unix:a|" },
        { "inline:{{a = b}, c=d}, hash:/x", "inline:{{a = b}, c=d}|hash:/x|" },
        { "{ a {b, c} d } e", "a {b, c} d|e|" },
        { "} a", "}|a|" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char all[256] = "", item[128];
        for (const char *cursor = cases[i].list;
             postconf_item(&cursor, item, sizeof(item));) {
            size_t n = strlen(all);
            snprintf(all + n, sizeof(all) - n, "%s|", item);
        }
        CHECK_STR(cases[i].list, all, cases[i].want);
    }
}

static void endpoints(void)
{
    static char path[] = "/nonexistent/queue/sluice/m.sock", host[] = "127.0.0.1";
    const struct conf_endpoint local = { .path = path };
    const struct conf_endpoint tcp = { .host = host, .port = 10025 };
    static const struct {
        const char *text;
        bool chroot, is_local, is_tcp;
    } cases[] = {
        { "unix:sluice/m.sock", false, true, false },
        { "unix:sluice/m.sock", true, true, false },
        { "unix:/sluice/m.sock", true, true, false }, /* below the chroot */
        { "unix:/sluice/m.sock", false, false, false },
        { "unix:/nonexistent/queue/sluice/m.sock", false, true, false },
        { "unix:/nonexistent/queue/sluice/m.sock", true, false, false },
        { "unix:sluice/m.sock, default_action=accept", true, true, false },
        { "unix:other", true, false, false },
        { "inet:127.0.0.1:10025", true, false, true },
        { "127.0.0.1:10025", true, false, true },
        { "inet:127.0.0.1:10026", true, false, false },
        { "", true, false, false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *queue = "/nonexistent/queue";
        CHECK_INT(cases[i].text,
                  postconf_same_endpoint(cases[i].text, queue, cases[i].chroot, &local),
                  cases[i].is_local);
        CHECK_INT(cases[i].text,
                  postconf_same_endpoint(cases[i].text, queue, cases[i].chroot, &tcp),
                  cases[i].is_tcp);
    }
}

static void settings(void)
{
    char main_cf[] =
        "compatibility_level = 3.6\nsmtpd_milters =\nmydestination = a, b = c\n";
    char fields[] = "smtp/inet/service = smtp\nsmtp/inet/chroot = y\n"
                    "smtp/inet/command = smtpd -o x=y\n"
                    "127.0.0.1:25/inet/chroot = -\n127.0.0.1:25/inet/command = smtpd\n"
                    "nonsense\n";
    char options[] = "smtp/inet/smtpd_milters =\n";
    struct postconf *postconf = postconf_parse(main_cf, fields, options);
    CU_ASSERT_PTR_NOT_NULL_FATAL(postconf);
    CHECK_STR("value", postconf_value(postconf, "mydestination"), "a, b = c");
    CHECK_STR("unset", postconf_value(postconf, "no_such"), "");
    CHECK_STR("option", postconf_option(postconf, "smtp/inet", "smtpd_milters"), "");
    CU_ASSERT_PTR_NULL(postconf_option(postconf, "127.0.0.1:25/inet", "smtpd_milters"));
    const struct postconf_service *smtp = postconf_find(postconf, "smtp/inet");
    const struct postconf_service *other = postconf_find(postconf, "127.0.0.1:25/inet");
    CU_ASSERT_PTR_NOT_NULL_FATAL(smtp);
    CU_ASSERT_PTR_NOT_NULL_FATAL(other);
    CHECK_STR("program", smtp->program, "smtpd");
    CHECK_STR("command", smtp->command, "smtpd -o x=y");
    CHECK_INT("chroot", smtp->chroot, true);
    CHECK_INT("no chroot by default", other->chroot, false);
    CU_ASSERT_PTR_NULL(postconf_service(postconf, 2));
    postconf_free(postconf);
}

UNIT_MAIN("probe", { "replies", replies }, { "in pieces", in_pieces },
          { "keywords", keywords }, { "limits", limits }, { "postconf items", items },
          { "postconf endpoints", endpoints }, { "postconf settings", settings })
