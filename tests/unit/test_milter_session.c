/* session: what is kept of a connection and a message, and what is not. */
#include "config.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "milter_case.h"
#include "trace.h"

static void test_client_address(void)
{
    static const struct {
        int family;
        const char *address, *expected;
    } cases[] = {
        { AF_INET, "192.0.2.1", "192.0.2.1" },
        { AF_INET6, "2001:db8::1", "2001:db8::1" },
        { AF_UNIX, NULL, "unknown" },
        { AF_UNSPEC, NULL, "unknown" },
    };
    struct session *session = session_new();
    CHECK_STR("before any connection", session->client, "unknown");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sockaddr_storage storage = { .ss_family = (sa_family_t)cases[i].family };
        if (cases[i].family == AF_INET)
            inet_pton(AF_INET, cases[i].address,
                      &((struct sockaddr_in *)&storage)->sin_addr);
        else if (cases[i].family == AF_INET6)
            inet_pton(AF_INET6, cases[i].address,
                      &((struct sockaddr_in6 *)&storage)->sin6_addr);
        session_connect(session, (struct sockaddr *)&storage);
        CHECK_STR("client", session->client, cases[i].expected);
    }
    session_connect(session, NULL);
    CHECK_STR("no address", session->client, "unknown");
    session_free(session);
}

static void test_long_helo_is_cut_visibly(void)
{
    char name[600];
    memset(name, 'h', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    struct session *session = session_new();
    session_helo(session, name);
    CHECK_INT("length", strlen(session->helo), SESSION_WORD_MAX);
    CHECK_STR("end", session->helo + SESSION_WORD_MAX - 4, "h...");
    session_helo(session, "mx.x.test");
    CHECK_STR("short", session->helo, "mx.x.test");
    session_helo(session, NULL);
    CHECK_STR("none", session->helo, "");
    session_free(session);
}

static void test_sender(void)
{
    static const struct {
        const char *given, *kept;
        bool managed;
    } cases[] = {
        { "<s@x.test>", "s@x.test", false },
        { "s@x.test", "s@x.test", false },
        { "<>", "", false },
        { "", "", false },
        { "<", "<", false },
        { "<a@example.com>", "a@example.com", true },
    };
    struct conf *conf = case_conf("old", "queue", "true");
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    struct session *session = session_new();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        session_mail(session, conf, cases[i].given, NULL);
        CHECK_STR("sender", session->sender, cases[i].kept);
        CHECK_INT(cases[i].given, session_managed(session), cases[i].managed);
    }
    session_free(session);
    conf_unref(conf);
}

static void test_only_managed_recipients_are_kept(void)
{
    struct conf *conf = case_conf("old", "queue", "false");
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    struct session *session = session_new();
    char notify[] = "notify=NEVER", orcpt[] = "ORCPT=rfc822;a";
    char *parameters[] = { orcpt, notify, NULL };
    session_mail(session, conf, "<a@example.com>", "joe");
    CU_ASSERT_PTR_NULL(session->from);
    session_rcpt(session, "<x@other.test>", NULL);
    session_rcpt(session, "<postmaster>", NULL);
    session_rcpt(session, "<>", NULL);
    CHECK_INT("not managed", session_managed(session), false);
    session_rcpt(session, "<A+tag@LOCALHOST>", parameters);
    CHECK_INT("managed", session->count, 1);
    CHECK_INT("others", session->unmanaged, 3);
    CHECK_INT("redirect domains", session->present_count, 0);
    CHECK_STR("text", session->recipients[0]->text, "<A+tag@LOCALHOST>");
    CHECK_STR("notify", session->recipients[0]->notify, "notify=NEVER");
    CHECK_STR("domain", session->recipients[0]->route.addr.domain, "example.com");
    session_rcpt(session, "<Copy@Arch.Test>", NULL);
    CHECK_INT("remembered", session->present_count, 1);
    CHECK_STR("canonical", session->present[0], "copy@arch.test");
    CHECK_STR("auth", session->auth, "joe");
    session_mail(session, conf, "<>", NULL);
    CHECK_INT("the next message starts empty",
              session->count + session->unmanaged + session->present_count, 0);
    CHECK_STR("auth goes", session->auth, "");
    session_free(session);
    conf_unref(conf);
}

static void test_too_many_recipients(void)
{
    struct conf *conf = case_conf("old", "queue", "false");
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    struct session *session = session_new();
    session_mail(session, conf, "<s@x.test>", NULL);
    for (int i = 0; i < SESSION_RECIPIENTS_MAX; i++) {
        char text[64];
        snprintf(text, sizeof(text), "<u%d@example.com>", i);
        session_rcpt(session, text, NULL);
    }
    CU_ASSERT_PTR_NULL(session->incomplete);
    session_rcpt(session, "<one-more@example.com>", NULL);
    CHECK_STR("incomplete", session->incomplete, "too-many-recipients");
    CHECK_INT("count", session->count, SESSION_RECIPIENTS_MAX);
    session_free(session);
    conf_unref(conf);
}

static void test_headers(void)
{
    struct conf *conf = case_conf("new", "queue", "false");
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    struct session *session = case_session(conf, "x@other.test");
    session_header(session, TRACE_HEADER, "abc");
    session_header(session, "Message-ID", "<1@x>");
    CU_ASSERT_PTR_NULL(session->trace);
    CU_ASSERT_PTR_NULL(session->message_id);
    session_free(session);

    session = case_session(conf, "a@example.com=n");
    session_header(session, "x-sluice-TRACE", "one");
    session_header(session, "X-Sluice-Tracer", "other");
    session_header(session, TRACE_HEADER, "two");
    CHECK_STR("traces", session->trace, "one\ntwo\n");
    session_header(session, "Message-Id", "\n\t <1@x>");
    session_header(session, "Message-Id", "<2@x>");
    CHECK_STR("first message id", session->message_id, "<1@x>");
    char *big = malloc(SESSION_TRACE_MAX);
    memset(big, 'x', SESSION_TRACE_MAX - 1);
    big[SESSION_TRACE_MAX - 1] = '\0';
    session_header(session, TRACE_HEADER, big);
    CHECK_STR("what does not fit goes", session->trace, "one\ntwo\n");
    CU_ASSERT_PTR_NULL(session->incomplete);
    free(big);
    session_free(session);
    conf_unref(conf);
}

/* A managed srs domain: bounces to rewritten senders are not for its mailboxes. */
static void test_rewritten_senders(void)
{
    struct conf *conf = case_conf("old", "queue", "false");
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    conf->srs.domain = strdup("example.com");
    struct session *session = session_new();
    session_mail(session, conf, "<>", NULL);
    session_rcpt(session, "<SRS0=9WUf=JL=x.test=user@example.com>", NULL);
    session_rcpt(session, "<srs1+9WUf=x.test==a@Example.Com>", NULL);
    CHECK_INT("managed", session->count, 0);
    CHECK_INT("unmanaged", session->unmanaged, 2);
    session_rcpt(session, "<SRS0user@example.com>", NULL);
    CHECK_INT("a mailbox", session->count, 1);
    session_free(session);
    conf_unref(conf);
}

UNIT_MAIN("milter session", { "client address", test_client_address },
          { "long HELO", test_long_helo_is_cut_visibly }, { "sender", test_sender },
          { "recipients", test_only_managed_recipients_are_kept },
          { "too many recipients", test_too_many_recipients },
          { "headers", test_headers }, { "rewritten senders", test_rewritten_senders })
