/* The pure parts of the playbooks' actions: templates, judgments, hours, tables. */
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "clientsetup.h"
#include "playbook_judge.h"
#include "playbook_maps.h"
#include "playbook_merge.h"
#include "playbook_traffic.h"
#include "unit.h"

/* ---- templates ----------------------------------------------------------- */

static void template_mistakes(void)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        { "", "line 1: the header has no end: an empty line, then the text" },
        { "Subject: x\n", "line 2: the header has no end: an empty line, then the text" },
        { "\nText\n", "there is no Subject: line" },
        { "Subject: x\n\n \n", "there is no text after the header" },
        { "Subject:\n\nText\n", "line 1: Subject is empty" },
        { "Subject: x\nSubject: y\n\nText\n", "line 2: Subject is there twice" },
        { "# why\nBcc: all@x\n\nText\n",
          "line 2: only Subject and Reply-To can be set, not Bcc" },
        { "Hello\n\nText\n", "line 1: not a header line: it begins with Subject: TEXT, "
                             "then an empty line, then the text" },
        { "Subject: x\n\nText\n100% of it\n",
          "line 4: \"%\" without a name: write %{name}, or %% for the sign" },
        { "Subject: %{\n\nText\n",
          "line 1: \"%\" without a name: write %{name}, or %% for the sign" },
        { "Subject: x\n\n%{a b}\n",
          "line 3: \"%\" without a name: write %{name}, or %% for the sign" },
        { "Subject: x\n\nT\x01xt\n", "line 3: a control character" },
        { "Subject: x\n\nM\xfcller\n", "not UTF-8" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char error[MERGE_ERROR_MAX] = "";
        struct merge_template *template =
            merge_parse(cases[i].text, strlen(cases[i].text), error);
        CU_ASSERT(!template);
        CHECK_STR(cases[i].text, error, cases[i].error);
        merge_free(template);
    }
}

static const char *value_of(void *context, const char *name)
{
    static const char *const all[][2] = {
        { "name", "Ann" },        { "who", "J\xc3\xbcrgen" }, { "evil", "x\r\nBcc: all" },
        { "latin", "M\xfcller" }, { "password", "secret" },   { "empty", "" },
    };
    (void)context;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (strcmp(all[i][0], name) == 0)
            return all[i][1];
    return NULL;
}

#define HEAD                                                                             \
    "From: <pm@example.com>\r\nTo: <a@example.com>\r\nDate: D\r\nMessage-ID: <i@x>\r\n"
#define TAIL                                                                             \
    "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"                            \
    "Content-Type: text/plain; charset=utf-8\r\n"
#define PLAIN  "Content-Transfer-Encoding: 7bit\r\n\r\n"
#define QUOTED "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
#define A40    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void merging(void)
{
    static const struct {
        const char *text, *message; /* or the error */
    } cases[] = {
        { "Subject: Hello %{name}\n\nDear %{name},\n100%% of %{empty}it.\n",
          HEAD "Subject: Hello Ann\r\n" TAIL PLAIN "Dear Ann,\r\n100% of it.\r\n" },
        { "# for you\r\nSubject: x\r\n\r\nOne\r\n\r\nTwo",
          HEAD "Subject: x\r\n" TAIL PLAIN "One\r\n\r\nTwo\r\n" },
        { "Subject: Hi %{who}\n\nDear %{who}=\n",
          HEAD "Subject: =?UTF-8?Q?Hi_J=C3=BCrgen?=\r\n" TAIL QUOTED
               "Dear J=C3=BCrgen=3D\r\n" },
        { "Subject: x\n\n" A40 " " A40 "\n",
          HEAD "Subject: x\r\n" TAIL QUOTED A40 " aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=\r\n"
               "aaaaaa\r\n" },
        { "Subject: x\n\n\xc3\xbc \nend\n", /* a space at the end of a line */
          HEAD "Subject: x\r\n" TAIL QUOTED "=C3=BC=20\r\nend\r\n" },
        { "Subject: x\n\n%{colour}\n", "%{colour} is neither a column nor a setting" },
        { "Subject: %{evil}\n\nText\n",
          "%{evil}: the value has a control character, or is not UTF-8" },
        { "Subject: x\n\n%{latin}\n",
          "%{latin}: the value has a control character, or is not UTF-8" },
        { "Subject: x\n\n%{Password}\n",
          "%{Password}: a password is never sent by mail" },
    };
    static const struct merge_letter letter = { "pm@example.com", "a@example.com", "D",
                                                "<i@x>" };
    char *out = malloc(MERGE_MESSAGE_MAX);
    for (size_t i = 0; out && i < sizeof(cases) / sizeof(cases[0]); i++) {
        char error[MERGE_ERROR_MAX] = "";
        size_t len = 0;
        struct merge_template *template =
            merge_parse(cases[i].text, strlen(cases[i].text), error);
        CHECK_STR(cases[i].text, error, "");
        bool good =
            template && merge_write(template, &letter, value_of, NULL, out, &len, error);
        CHECK_STR(cases[i].text, good ? out : error, cases[i].message);
        CHECK_INT("its length", good ? len : 0, good ? strlen(out) : 0);
        merge_free(template);
    }
    free(out);
}

static void long_subject(void)
{
    char text[400] = "Subject: ", *end = text + strlen(text), error[MERGE_ERROR_MAX] = "";
    static const struct merge_letter letter = { "f", "t", "D", "<i>" };
    size_t len;
    for (int i = 0; i < 60; i++)
        end = stpcpy(end, "\xc3\xbc");
    (void)stpcpy(end, "\n\nText\n");
    struct merge_template *template = merge_parse(text, strlen(text), error);
    char *out = malloc(MERGE_MESSAGE_MAX);
    CU_ASSERT_FATAL(template && out);
    CU_ASSERT(merge_write(template, &letter, value_of, NULL, out, &len, error));
    /* RFC 2047 2: a word has at most 75 characters, a line of them 76. */
    for (const char *line = strstr(out, "Subject: "); line && *line != 'A';
         line = strchr(line, '\n') + 1)
        CHECK_INT("a line of words", strcspn(line, "\r") <= 76 + strlen("Subject: "), 1);
    merge_free(template);
    free(out);
}

/* ---- judgments ----------------------------------------------------------- */

static void inventory(void)
{
    enum { ALL = IN_FILE | IN_LIST | IN_MAPS | IN_LOG | IN_NEW };
    static const struct {
        unsigned found, asked;
        const char *what; /* NULL: nothing */
    } cases[] = {
        { ALL, ALL, NULL },
        { IN_FILE | IN_LIST, IN_FILE | IN_LIST, NULL },
        { IN_FILE, IN_FILE | IN_LIST, "in the file, and not listed" },
        { IN_LIST, IN_FILE | IN_LIST, "listed, and not in the file" },
        { IN_LIST | IN_MAPS, IN_LIST | IN_MAPS, NULL },
        { IN_FILE | IN_LIST, IN_FILE | IN_LIST | IN_MAPS,
          "in the file, and the old server's maps do not have it" },
        { IN_FILE | IN_LIST | IN_ALIAS, IN_FILE | IN_LIST | IN_MAPS, NULL },
        { IN_MAPS, IN_FILE | IN_LIST | IN_MAPS,
          "a mailbox of the old server, and not in the file" },
        { IN_ALIAS, IN_FILE | IN_LIST | IN_MAPS, NULL },
        { IN_ALIAS, ALL, "the new side refuses it" },
        { IN_ALIAS | IN_NEW, ALL, NULL },
        { ALL & ~IN_NEW, ALL, "the new side refuses it" },
        { (ALL & ~IN_NEW) | IN_NEW_LATER, ALL,
          "the new side could not say whether it takes it" },
        { IN_LOG, ALL, "mail was delivered to it, and no list has it" },
        { IN_LOG | IN_ALIAS | IN_NEW, ALL, NULL },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *way = "?";
        const char *what = inventory_judge(cases[i].found, cases[i].asked, &way);
        char name[40];
        (void)snprintf(name, sizeof(name), "case %zu", i);
        CHECK_STR(name, what ? what : "", cases[i].what ? cases[i].what : "");
        CHECK_INT("a way out where there is a fault", way[0] != '\0', what != NULL);
    }
}

static void senders(void)
{
    static const struct {
        struct sender sender;
        bool bounces;
        int percent;
        enum sender_fault fault;
        uint64_t failed;
    } cases[] = {
        { { 10, 0, 10, 10, 10 }, false, 100, SENDER_GOOD, 0 },
        { { 10, 0, 10, 9, 10 }, false, 100, SENDER_UNSIGNED, 1 },
        { { 10, 0, 10, 9, 10 }, false, 90, SENDER_GOOD, 0 },
        { { 10, 2, 8, 10, 10 }, false, 100, SENDER_SPF, 2 },
        { { 10, 2, 0, 10, 10 }, true, 100, SENDER_GOOD, 0 },
        { { 10, 0, 10, 10, 7 }, false, 100, SENDER_UNALIGNED, 3 },
        { { UINT64_MAX, 0, 0, 0, 0 }, false, 100, SENDER_UNSIGNED, UINT64_MAX },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t failed;
        enum sender_fault fault =
            sender_judge(cases[i].sender, cases[i].bounces, cases[i].percent, &failed);
        CHECK_STR("fault", sender_fault_text(fault), sender_fault_text(cases[i].fault));
        if (cases[i].fault != SENDER_GOOD)
            CU_ASSERT_EQUAL(failed, cases[i].failed);
    }
    struct sender now = { 10, 3, 5, 6, 7 }, base = { 4, 3, 1, 6, 2 };
    struct sender since = sender_since(now, base);
    CHECK_INT("messages", since.messages, 6);
    CHECK_INT("signed", since.dkim_pass, 0);
    since = sender_since((struct sender){ 2, 0, 1, 1, 1 }, base); /* began anew */
    CHECK_INT("all of them", since.messages, 2);
}

static void passwords(void)
{
    static const struct {
        const char *password;
        bool good;
    } cases[] = {
        { "Sommer-2026", true },
        { "a.b_c!d#e%f+g=h@i*j(k)[l]{m}?~^:/", true },
        { "\xc3\xbc"
          "berall",
          true },
        { "two words", true },
        { " x7q", false },
        { "x7q ", false },
        { "a,b", false },
        { "a;b", false },
        { "a\"b", false },
        { "a'b", false },
        { "a\\b", false },
        { "a`b", false },
        { "$x", false },
        { "a\tb", false },
        { "M\xfcller", false },
        { "\xed\xa0\x80", false }, /* a surrogate */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *wrong = password_judge(cases[i].password);
        CHECK_STR(cases[i].password, wrong ? "wrong" : "good",
                  cases[i].good ? "good" : "wrong");
        CU_ASSERT(!wrong || !strstr(wrong, cases[i].password));
    }
}

/* ---- hours --------------------------------------------------------------- */

#define MONDAY 1793577600 /* 2 November 2026, 00:00 UTC */

static void hours(void)
{
    static const struct {
        int from, to, quiet_from, quiet_to; /* hours since MONDAY with a message each */
        int span, begins;
        uint64_t messages;
    } cases[] = {
        { 0, 2 * TRAFFIC_HOURS, 146, 152, 6, 146, 0 }, /* Sunday 02:00 to 08:00 */
        { 0, 2 * TRAFFIC_HOURS, 146, 152, 8, 144, 4 }, /* the first of equals */
        { 0, 2 * TRAFFIC_HOURS, 166, 170, 4, 166, 4 }, /* over the week's end, in one of
                                                          the two weeks */
        { 0, 48, 30, 34, 4, 30, 0 },                   /* two days: no word of Sunday */
        { 0, 3, 1, 2, 6, -1, 0 },                      /* shorter than the span */
    };
    char text[TRAFFIC_HOUR_TEXT];
    setenv("TZ", "UTC", 1);
    tzset();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct traffic traffic = { 0 };
        for (int hour = cases[i].from; hour < cases[i].to; hour++) {
            int of_week = hour % TRAFFIC_HOURS;
            bool quiet = (hour >= cases[i].quiet_from && hour < cases[i].quiet_to) ||
                         (cases[i].quiet_to <= TRAFFIC_HOURS &&
                          of_week >= cases[i].quiet_from && of_week < cases[i].quiet_to);
            if (!quiet)
                traffic_add(&traffic, MONDAY + (int64_t)hour * 3600 + 600);
        }
        struct traffic_window window = traffic_quietest(&traffic, cases[i].span);
        CHECK_INT("begins", window.begins, cases[i].begins);
        CHECK_INT("messages", window.messages, cases[i].messages);
    }
    CHECK_STR("hour 146", traffic_hour_text(146, text), "Sunday 02:00");
    CHECK_STR("hour 0", traffic_hour_text(0, text), "Monday 00:00");
    struct traffic none = { 0 };
    CHECK_INT("no log", traffic_quietest(&none, 1).begins, -1);
}

static void rankings(void)
{
    static const char *const names[] = { "b", "a", "c", "a", "b", "d", "e" };
    struct ranking *ranking = ranking_new(3);
    CU_ASSERT_FATAL(ranking != NULL);
    for (size_t i = 0; i < 7; i++)
        CU_ASSERT(ranking_add(ranking, names[i], 1));
    CHECK_INT("different ones", ranking_count(ranking), 3);
    CHECK_INT("past the limit", ranking_missed(ranking), 2);
    struct ranked *list = ranking_list(ranking);
    CU_ASSERT_FATAL(list != NULL);
    CHECK_STR("first", list[0].name, "a");
    CHECK_STR("second", list[1].name, "b");
    CHECK_STR("last", list[2].name, "c");
    CHECK_INT("twice", list[1].count, 2);
    free(list);
    ranking_free(ranking);
}

/* ---- Postfix's tables ---------------------------------------------------- */

static void tables(void)
{
    static const struct {
        const char *table, *listed;
        bool yes;
    } cases[] = {
        { "hash:/etc/postfix/virtual", "hash:/etc/postfix/virtual", true },
        { "proxy:lmdb:/x", "lmdb:/x", true },
        { "texthash:/x", "texthash:/x", true },
        { "proxy:unix:passwd.byname", "unix:passwd.byname", false },
        { "ldap:/x", "ldap:/x", false },
        { "regexp:/x", "regexp:/x", false },
        { "", "", false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *listed = NULL;
        CHECK_INT(cases[i].table, maps_listable(cases[i].table, &listed), cases[i].yes);
        CHECK_STR(cases[i].table, listed, cases[i].listed);
    }
}

/* ---- what web servers say ------------------------------------------------ */

static void urls(void)
{
    static const struct {
        const char *url, *host;
        unsigned port;
        int tls;
    } cases[] = {
        { "https://Mail.Example.com/x?y=1", "mail.example.com", 443, 1 },
        { "http://a", "a", 80, 0 },
        { "HTTPS://a:8443", "a", 8443, 1 },
        { "https://[2001:db8::1]:99/", "2001:db8::1", 99, 1 },
        { "https://[2001:db8::1]", "2001:db8::1", 443, 1 },
        { "https://a?b:1", "a", 443, 1 },
        { "ftp://a/", NULL, 0, 0 },
        { "file:///etc/passwd", NULL, 0, 0 },
        { "https://", NULL, 0, 0 },
        { "https:///x", NULL, 0, 0 },
        { "https://user:pw@a/", NULL, 0, 0 },
        { "https://a/#x", NULL, 0, 0 },
        { "https://a:0/", NULL, 0, 0 },
        { "https://a:65536/", NULL, 0, 0 },
        { "https://a:/", NULL, 0, 0 },
        { "https://a:99999999999999999999/", NULL, 0, 0 },
        { "https://a:1:2/", NULL, 0, 0 },
        { "https://2001:db8::1/", NULL, 0, 0 },
        { "https://[::1/", NULL, 0, 0 },
        { "https://[::1]x/", NULL, 0, 0 },
        { "https://[::1]x:4/", NULL, 0, 0 },
        { "https://a b/", NULL, 0, 0 },
        { "https://a\r\nX: y/", NULL, 0, 0 },
        { "https://a\xc3\xbc/", NULL, 0, 0 },
        { "https://a%00/", NULL, 0, 0 },
        { "", NULL, 0, 0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct web_place place;
        CHECK_INT(cases[i].url, web_place(cases[i].url, &place), cases[i].host != NULL);
        if (!cases[i].host)
            continue;
        CHECK_STR(cases[i].url, place.host, cases[i].host);
        CHECK_INT(cases[i].url, place.port, cases[i].port);
        CHECK_INT(cases[i].url, place.is_tls, cases[i].tls);
    }
}

static void servers_told(void)
{
    static const struct {
        const char *text, *servers;
    } cases[] = {
        { "", "" },
        { "<Protocol><Type>IMAP</Type><Server>Imap.New.test</Server><Port>993</Port>"
          "<Server>smtp.new.test</Server><Port> 587 </Port></Protocol>",
          "imap.new.test:993 smtp.new.test:587 " },
        { "<incomingServer type=\"imap\"><hostname>\n a.test \n</hostname>"
          "<port>143</port></incomingServer>",
          "a.test:143 " },
        { "<a:Server x=\"y\">a.test</a:Server>", "a.test:0 " },
        { "<EwsUrl>https://ews.test/EWS</EwsUrl><OWAUrl>http://no.test/</OWAUrl>",
          "ews.test:443 " },
        { "<Server>a.test</Server><Server>a.test</Server>", "a.test:0 " },
        { "<Server></Server><Server> </Server><Server>a b</Server><Server/>", "" },
        { "<Server>a<b/></Server>", "" },
        { "<Server>a.test", "" },
        { "<Server>a.test<", "" },
        { "<Port>1</Port>", "" },
        { "<Server>a.test</Server><Port>x</Port><Port>99999</Port>", "a.test:0 " },
        { "<Serverx>a.test</Serverx><xServer>a.test</xServer>", "" },
        { "<<<>>><Server>a.test</Server>", "a.test:0 " },
        { "<!-- <Server>a.test</Server> -->", "" },
    };
    static const char nul[] = "<Server>a\0.test</Server><Server>b.test</Server>";
    struct setup_server servers[SETUP_SERVERS_MAX];
    bool more;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char got[400] = "";
        size_t n = setup_servers(cases[i].text, strlen(cases[i].text), servers, &more);
        for (size_t j = 0; j < n; j++)
            snprintf(got + strlen(got), sizeof(got) - strlen(got), "%.20s:%u ",
                     servers[j].name, servers[j].port);
        CHECK_STR(cases[i].text, got, cases[i].servers);
    }
    CHECK_INT("a zero byte", setup_servers(nul, sizeof(nul) - 1, servers, &more), 1);
    CHECK_INT("all of them", more, false);
    char many[101 * 64] = "";
    for (int i = 0; i < 100; i++)
        snprintf(many + strlen(many), sizeof(many) - strlen(many), "<Server>s%d</Server>",
                 i);
    CHECK_INT("not too many", setup_servers(many, strlen(many), servers, &more),
              SETUP_SERVERS_MAX);
    CHECK_INT("and it is said", more, true);
    /* One that is named often does not hide one that comes late. */
    many[0] = '\0';
    for (int i = 0; i < 100; i++)
        snprintf(many + strlen(many), sizeof(many) - strlen(many),
                 "<Server>new</Server><Port>993</Port>");
    snprintf(many + strlen(many), sizeof(many) - strlen(many),
             "<Server>old</Server><Port>143</Port>");
    size_t n = setup_servers(many, strlen(many), servers, &more);
    CHECK_INT("both", n, 2);
    CHECK_STR("the late one", servers[n - 1].name, "old");
    CHECK_INT("its port", servers[n - 1].port, 143);
    CHECK_INT("that is all", more, false);
    char out[20];
    static const char on[] = "<RedirectUrl> https://a/ </RedirectUrl>",
                      far[] = "<RedirectUrl>https://a/0123456789</RedirectUrl>";
    CHECK_INT("redirect", setup_redirect(on, strlen(on), out, sizeof(out)), 1);
    CHECK_STR("redirect", out, "https://a/");
    CHECK_INT("too long a redirect", setup_redirect(far, strlen(far), out, sizeof(out)),
              0);
}

static void lists_of_names(void)
{
    static const struct {
        const char *name, *list;
        int is_one;
    } cases[] = {
        { "a.test", "a.test", 1 },        { "a.test", "b.test,A.test", 1 },
        { "a.test", "b.test", 0 },        { "a.test", "", 0 },
        { "a.test", "a.tes", 0 },         { "x.a.test", ".a.test", 1 },
        { "a.test", ".a.test", 0 },       { "xa.test", ".a.test", 0 },
        { "x.a.test", ",.a.test,", 1 },   { "a", ".", 0 },
        { "127.0.0.1", "127.0.0.1,", 1 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT(cases[i].list, setup_is_one(cases[i].name, cases[i].list),
                  cases[i].is_one);
}

UNIT_MAIN("playbook actions", { "a template's mistakes", template_mistakes },
          { "messages", merging }, { "long subjects", long_subject },
          { "inventory", inventory }, { "senders", senders }, { "passwords", passwords },
          { "hours", hours }, { "the most frequent", rankings }, { "tables", tables },
          { "URLs", urls }, { "servers that are told", servers_told },
          { "lists of names", lists_of_names })
