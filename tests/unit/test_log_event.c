/*
 * log_event: lines to events, written as the kind's number and "name=value" for each
 * field that is there. The lines are of the lab's Postfix 3.7.11, of its sources where
 * the lab writes none, and of Sendmail 8.17; the hostile ones are what a client or a
 * server can have a real Postfix write.
 */
#include "unit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "../../cutover/log_event.h"

static void add(char *out, size_t size, const char *name, struct log_slice value)
{
    size_t used = strlen(out);
    if (value.len)
        snprintf(out + used, size - used, " %s=%.*s", name, (int)value.len, value.text);
}

static void add_number(char *out, size_t size, const char *name, int64_t value,
                       int64_t none)
{
    size_t used = strlen(out);
    if (value != none)
        snprintf(out + used, size - used, " %s=%" PRId64, name, value);
}

static void describe(const struct log_event *e, char *out, size_t size)
{
    snprintf(out, size, "%d", e->kind);
    if (e->kind == LOG_EVENT_DELIVERY)
        snprintf(out + strlen(out), size - strlen(out), " %s%s",
                 log_status_name(e->status), e->doubtful ? "?" : "");
    add_number(out, size, "super", e->kind == LOG_EVENT_SUPER ? (int64_t)e->super : -1,
               -1);
    add_number(out, size, "notice", e->kind == LOG_EVENT_BOUNCE ? (int64_t)e->notice : -1,
               -1);
    add(out, size, "from", e->from);
    add(out, size, "to", e->to);
    add(out, size, "orig_to", e->orig_to);
    add(out, size, "name", e->client_name);
    add(out, size, "client", e->client_address);
    add(out, size, "user", e->user);
    add(out, size, "helo", e->helo);
    add(out, size, "mid", e->message_id);
    add(out, size, "relay", e->relay_name.len ? e->relay_name : e->relay);
    add(out, size, "at", e->relay_address);
    add_number(out, size, "port", e->relay_port, 0);
    add(out, size, "dsn", e->dsn);
    add(out, size, "remote", e->remote_id);
    add(out, size, "other", e->other_id);
    add(out, size, "verdict", e->verdict);
    add(out, size, "home", e->home);
    add(out, size, "new", e->new_to);
    add(out, size, "dmarc", e->dmarc);
    add_number(out, size, "size", e->size, -1);
    add_number(out, size, "nrcpt", e->nrcpt, 0);
    add_number(out, size, "uid", e->uid, -1);
    add_number(out, size, "delay", e->delay, -1);
}

/* program, "ID: text" without the ID. */
static void check(const char *program, const char *id, const char *text, const char *want)
{
    static struct log_clock clock_state;
    char line[4096], got[4096];
    struct log_line parsed;
    struct log_event event;
    log_clock_init(&clock_state, 0);
    int len = snprintf(line, sizeof(line), "Nov 22 09:14:32 mx1 %s[1]: %s: %s", program,
                       id, text);
    char *exact = malloc((size_t)len);
    memcpy(exact, line, (size_t)len);
    CHECK_INT(text, log_line_parse(&clock_state, exact, (size_t)len, &parsed), true);
    log_event_parse(&parsed, LOG_EVENTS_ALL, &event);
    describe(&event, got, sizeof(got));
    CHECK_STR(text, got, want);
    /* Every beginning of it is taken, and whatever it says is not a delivery unless
     * its end is there. */
    for (int cut = 0; cut < len; cut++) {
        char *part = malloc((size_t)cut ? (size_t)cut : 1);
        memcpy(part, line, (size_t)cut);
        if (log_line_parse(&clock_state, part, (size_t)cut, &parsed) &&
            log_event_parse(&parsed, LOG_EVENTS_ALL, &event) == LOG_EVENT_DELIVERY &&
            parsed.daemon != LOG_DAEMON_SENDMAIL)
            CHECK_INT("a cut line ends like one", part[cut - 1], ')');
        free(part);
    }
    free(exact);
}

#define LONG_ID "4jXP2T5gnwz1bwNG"

static void test_postfix(void)
{
    static const struct {
        const char *program, *text, *want;
    } cases[] = {
        { "postfix/smtpd", "client=unknown[192.0.2.25]",
          "1 name=unknown client=192.0.2.25" },
        { "postfix/submission/smtpd",
          "client=a.test[2001:db8::1], sasl_method=PLAIN, sasl_username=joe@example.com",
          "1 name=a.test client=2001:db8::1 user=joe@example.com" },
        { "postfix/smtpd",
          "client=localhost[127.0.0.1], orig_queue_id=4AAA2T5gnwz1bwNG, "
          "orig_client=x[1.2.3.4]",
          "1 name=localhost client=127.0.0.1 other=4AAA2T5gnwz1bwNG" },
        { "postfix/pickup", "uid=1000 from=<joe>", "2 from=joe uid=1000" },
        { "postfix/pickup",
          "uid=102 from=<sender1@senders.test> orig_id=4jXP2l4pYGz1bwWH",
          "2 from=sender1@senders.test other=4jXP2l4pYGz1bwWH uid=102" },
        { "postfix/cleanup", "message-id=<a b@c> status=sent",
          "3 mid=<a b@c> status=sent" },
        { "postfix/cleanup",
          "milter-hold: END-OF-MESSAGE from unknown[192.0.2.25]: milter triggers HOLD "
          "action; "
          "from=<s@senders.test> to=<user0008@example.com> proto=ESMTP "
          "helo=<client.test>",
          "5 helo=client.test" },
        { "postfix/cleanup",
          "milter-reject: END-OF-MESSAGE from x[1.2.3.4]: 5.7.1 no; from=<a@b> to=<c@d>",
          "4" },
        { "postfix/cleanup", "reject: header Subject: x from y[1.2.3.4]; from=<a@b>",
          "4" },
        { "postfix/cleanup", "warning: header Subject: removed from y[1.2.3.4]", "0" },
        { "postfix/smtpd", "reject: RCPT from x[1.2.3.4]: 550 5.1.1 <a@b>: no; from=<>",
          "0" },
        { "postfix/smtpd", "hold: RCPT from x[1.2.3.4]: <a@b>; from=<> helo=<h>",
          "5 helo=h" },
        { "postfix/qmgr", "from=<s@senders.test>, size=1024, nrcpt=2 (queue active)",
          "7 from=s@senders.test size=1024 nrcpt=2" },
        { "postfix/qmgr", "from=<>, size=1024, nrcpt=1 (queue active)",
          "7 size=1024 nrcpt=1" },
        { "postfix/qmgr", "from=<a@b>, status=expired, returned to sender",
          "8 from=a@b" },
        { "postfix/qmgr", "removed", "9" },
        { "postfix/qmgr", "removed.", "0" },
        { "postfix/sluice-forward/smtp",
          "to=<user0004@example.com>, relay=127.0.0.1[127.0.0.1]:13736, delay=26, "
          "delays=26/0.02/0.01/0.01, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as "
          "4jXP3C0sXRz1bx2v)",
          "10 sent to=user0004@example.com relay=127.0.0.1 at=127.0.0.1 port=13736 "
          "dsn=2.0.0 "
          "remote=4jXP3C0sXRz1bx2v delay=26000" },
        { "postfix/lmtp",
          "to=<user0006@example.com>, orig_to=<team0@old.lab.test>, "
          "relay=127.0.0.1[127.0.0.1]:30140, conn_use=2, delay=0.02, delays=0/0/0/0.01, "
          "dsn=2.0.0, status=sent (250 2.0.0 <user0006@example.com> UPBMO1G2Amv Saved)",
          "10 sent to=user0006@example.com orig_to=team0@old.lab.test relay=127.0.0.1 "
          "at=127.0.0.1 port=30140 dsn=2.0.0 delay=20" },
        { "postfix/local",
          "to=<team0@old.lab.test>, relay=local, delay=0.02, delays=0/0.01/0/0, "
          "dsn=2.0.0, "
          "status=sent (forwarded as 4jXP2T72Nkz1bwNg)",
          "10 sent to=team0@old.lab.test relay=local dsn=2.0.0 other=4jXP2T72Nkz1bwNg "
          "delay=20" },
        { "postfix/pipe",
          "to=<a@b>, relay=sluice-hold, delay=0.03, delays=0/0/0/0, dsn=4.2.1, "
          "status=deferred "
          "(mailbox is being moved)",
          "10 deferred to=a@b relay=sluice-hold dsn=4.2.1 delay=30" },
        { "postfix/sluice-forward/smtp",
          "to=<a@b>, relay=mx.new[203.0.113.5]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, "
          "status=SOFTBOUNCE (host mx.new[203.0.113.5] said: 550 5.1.1 no (in reply to "
          "RCPT TO "
          "command))",
          "10 softbounce to=a@b relay=mx.new at=203.0.113.5 port=25 dsn=5.1.1 "
          "delay=1000" },
        { "postfix/qmgr",
          "to=<a@b>, relay=none, delay=0.1, delays=0/0/0/0, dsn=4.3.0, status=deferred "
          "(mail "
          "transport unavailable)",
          "10 deferred to=a@b relay=none dsn=4.3.0 delay=100" },
        { "postfix/bounce", "sender non-delivery notification: 4jXP2T72Nkz1bwNg",
          "11 notice=0 other=4jXP2T72Nkz1bwNg" },
        { "postfix/bounce", "sender delay notification: 0A1B2C3D4E",
          "11 notice=1 other=0A1B2C3D4E" },
        { "postfix/postsuper", "placed on hold", "12 super=0" },
        { "postfix/postsuper", "released from hold", "12 super=1" },
        { "postfix/postsuper", "requeued", "12 super=2" },
        { "postfix/postsuper", "removed", "12 super=3" },
        { "sluice-milter",
          "verdict=redirect to=<user0001@example.com> home=new from=<s@senders.test> "
          "client=[192.0.2.25] helo=client.test auth=joe new=<u1@tenant.test> spf=pass "
          "dkim=pass "
          "dmarc=fail header-from=senders.test",
          "13 from=s@senders.test to=user0001@example.com client=192.0.2.25 user=joe "
          "helo=client.test verdict=redirect home=new new=u1@tenant.test dmarc=fail" },
        { "sluice-milter", "mail loop for <a@b>: it was sent away before", "0" },
        { "postfix/anvil", "to=<a@b>, relay=x, delay=1, status=sent (x)", "0" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check(cases[i].program, LONG_ID, cases[i].text, cases[i].want);
}

/* What others write into a line. */
static void test_hostile(void)
{
    static const struct {
        const char *program, *text, *want;
    } cases[] = {
        /* a quoted local part, as Postfix 3.5 and later log it */
        { "postfix/sluice-forward/smtp",
          "to=<\"a>, relay=x[1.2.3.4]:25, delay=0, delays=0/0/0/0, dsn=2.0.0, "
          "status=sent "
          "(250 ok)\"@example.com>, relay=mx.new[203.0.113.5]:25, delay=1, "
          "delays=0/0/0/1, "
          "dsn=4.0.0, status=deferred (no)",
          "10 deferred to=\"a>, relay=x[1.2.3.4]:25, delay=0, delays=0/0/0/0, dsn=2.0.0, "
          "status=sent (250 ok)\"@example.com relay=mx.new at=203.0.113.5 port=25 "
          "dsn=4.0.0 "
          "delay=1000" },
        { "postfix/smtp",
          "to=<\"a\\\">, relay=x, delay=0, status=sent (\"@b.test>, relay=none, delay=1, "
          "delays=0/0/0/0, dsn=4.0.0, status=deferred (x)",
          "10 deferred to=\"a\\\">, relay=x, delay=0, status=sent (\"@b.test relay=none "
          "dsn=4.0.0 delay=1000" },
        /* the same unquoted, as older ones do */
        { "postfix/sluice-forward/smtp",
          "to=<a>, relay=x[1.2.3.4]:25, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent "
          "(250 "
          "ok@example.com>, relay=mx.new[203.0.113.5]:25, delay=1, delays=0/0/0/1, "
          "dsn=4.0.0, "
          "status=deferred (no)",
          "10 deferred? to=a>, relay=x[1.2.3.4]:25, delay=0, delays=0/0/0/0, dsn=2.0.0, "
          "status=sent (250 ok@example.com relay=mx.new at=203.0.113.5 port=25 dsn=4.0.0 "
          "delay=1000" },
        { "postfix/smtp",
          "to=<a> b@example.com>, relay=mx.new[203.0.113.5]:25, delay=1, delays=0/0/0/1, "
          "dsn=2.0.0, status=sent (ok)",
          "10 sent to=a> b@example.com relay=mx.new at=203.0.113.5 port=25 dsn=2.0.0 "
          "delay=1000" },
        /* a server's reply */
        { "postfix/sluice-forward/smtp",
          "to=<a@example.com>, relay=mx.new[203.0.113.5]:25, delay=1, delays=0/0/0/1, "
          "dsn=4.0.0, "
          "status=deferred (host said: 451 x>, relay=y[1.2.3.4]:25, delay=0, "
          "delays=0/0/0/0, "
          "dsn=2.0.0, status=sent (250 Ok: queued as 0A1B2C3D4E))",
          "10 deferred? to=a@example.com>, relay=mx.new[203.0.113.5]:25, delay=1, "
          "delays=0/0/0/1, dsn=4.0.0, status=deferred (host said: 451 x relay=y "
          "at=1.2.3.4 "
          "port=25 dsn=2.0.0 delay=0" },
        { "postfix/smtp",
          "to=<a@example.com>, relay=mx.new[203.0.113.5]:25, delay=1, delays=0/0/0/1, "
          "dsn=4.0.0, "
          "status=deferred (status=sent (250 ok))",
          "10 deferred to=a@example.com relay=mx.new at=203.0.113.5 port=25 dsn=4.0.0 "
          "delay=1000" },
        /* a sender */
        { "postfix/qmgr",
          "from=<\"a>, size=1, nrcpt=9 (queue active)\"@b>, size=77, nrcpt=1 (queue "
          "active)",
          "7 from=\"a>, size=1, nrcpt=9 (queue active)\"@b size=77 nrcpt=1" },
        { "postfix/qmgr",
          "from=<a>, size=1, nrcpt=9 (queue @b>, size=77, nrcpt=1 (queue active)",
          "7 from=a>, size=1, nrcpt=9 (queue @b size=77 nrcpt=1" },
        { "postfix/qmgr",
          "from=<a>, status=expired, returned to sender@b>, size=77, nrcpt=1 (queue "
          "active)",
          "7 from=a>, status=expired, returned to sender@b size=77 nrcpt=1" },
        /* a Message-ID, a HELO */
        { "postfix/cleanup", "message-id=removed", "3 mid=removed" },
        { "sluice-milter",
          "verdict=forward to=<a@b> home=new from=<x\\x20verdict=deliver> "
          "client=[1.2.3.4] "
          "helo=x\\x20dmarc=pass",
          "13 from=x\\x20verdict=deliver to=a@b client=1.2.3.4 helo=x\\x20dmarc=pass "
          "verdict=forward home=new" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check(cases[i].program, LONG_ID, cases[i].text, cases[i].want);
}

static void test_sendmail(void)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "from=<a@b.test>, size=1234, class=0, nrcpts=2, msgid=<x@b.test>, proto=ESMTP, "
          "daemon=MTA-v4, relay=mx.b.test [192.0.2.1]",
          "7 from=a@b.test name=mx.b.test client=192.0.2.1 mid=<x@b.test> size=1234 "
          "nrcpt=2" },
        { "from=<a@b.test>, size=1, class=0, nrcpts=1, msgid=<x, relay=evil [9.9.9.9]>, "
          "proto=ESMTP, daemon=MTA-v4, relay=mx.b.test [192.0.2.1]",
          "7 from=a@b.test name=mx.b.test client=192.0.2.1 mid=<x, relay=evil [9.9.9.9]> "
          "size=1 nrcpt=1" },
        { "to=<u1@example.com>,<u2@example.com>, delay=00:01:02, xdelay=00:00:01, "
          "mailer=esmtp, "
          "pri=121234, relay=mx.new.example. [203.0.113.5], dsn=2.0.0, stat=Sent (ok: "
          "queued as "
          "0A1B2C3D4E)",
          "10 sent to=<u1@example.com>,<u2@example.com> relay=mx.new.example "
          "at=203.0.113.5 "
          "dsn=2.0.0 remote=0A1B2C3D4E delay=62000" },
        { "to=<\"a, stat=Sent (ok)\"@example.com>, delay=1+02:00:00, mailer=esmtp, "
          "pri=1, "
          "relay=mx.new. [203.0.113.5], dsn=4.0.0, stat=Deferred: Connection refused by "
          "mx.new.",
          "10 deferred to=<\"a, stat=Sent (ok)\"@example.com> relay=mx.new "
          "at=203.0.113.5 "
          "dsn=4.0.0 delay=93600000" },
        { "to=root, ctladdr=root (0/0), delay=00:00:00, mailer=local, pri=1, dsn=5.1.1, "
          "stat=User unknown",
          "10 bounced to=root dsn=5.1.1 delay=0" },
        { "4AM9EWxY012399: DSN: User unknown", "11 notice=0 other=4AM9EWxY012399" },
        { "done; delay=00:00:01, ntries=1", "9" },
        { "Milter: data, reject=451 4.3.0 later", "4" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check("sm-mta", "4AM9EWxY012345", cases[i].text, cases[i].want);
}

/* What Sendmail 8.17 wrote in the lab (test_sendmail_logs.py). */
static void test_sendmail_lab(void)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "to=a,b, delay=00:00:00, xdelay=00:00:00, mailer=local, pri=90328, "
          "relay=127.0.0.1 [127.0.0.1], dsn=2.0.0, stat=Sent",
          "10 sent to=a,b relay=127.0.0.1 [127.0.0.1] dsn=2.0.0 delay=0" },
        { "to=<a@example.com>,b@new.example.com, delay=00:00:00, xdelay=00:00:00, "
          "mailer=to18765, pri=90313, relay=[127.0.0.9] [127.0.0.9], dsn=4.4.1, "
          "stat=Deferred: Connection refused by [127.0.0.9]",
          "10 deferred to=<a@example.com>,b@new.example.com relay=[127.0.0.9] "
          "at=127.0.0.9 dsn=4.4.1 delay=0" },
        { "to=<a@new.example.com>,<b@new.example.com>, delay=00:00:02, xdelay=00:00:00, "
          "mailer=esmtp, pri=180304, relay=mx.new.test., dsn=4.4.1, stat=Deferred: "
          "Connection refused by mx.new.test.",
          "10 deferred to=<a@new.example.com>,<b@new.example.com> relay=mx.new.test "
          "dsn=4.4.1 delay=2000" },
        { "to=<a@new.example.com>, delay=00:00:00, xdelay=00:00:00, mailer=esmtp, "
          "pri=60304, relay=mx.new.test. [127.0.0.9], dsn=5.7.1, reply=554 5.7.1 "
          "<a@new.example.com>: Recipient address rejected: Access denied, stat=Service "
          "unavailable",
          "10 bounced to=<a@new.example.com> relay=mx.new.test at=127.0.0.9 dsn=5.7.1 "
          "delay=0" },
        { "to=<a@x>, delay=00:00:00, xdelay=00:00:00, mailer=esmtp, pri=1, relay=x. "
          "[192.0.2.9], dsn=4.3.2, reply=450 4.3.2 try, stat=Sent (ok), "
          "stat=Deferred: 450 4.3.2 try, stat=Sent (ok)",
          "10 deferred to=<a@x> relay=x at=192.0.2.9 dsn=4.3.2 delay=0" },
        { "to=b,a@example.com, ctladdr=root@old.lab.test (0/0), delay=00:00:00, "
          "xdelay=00:00:00, mailer=relay, pri=60108, relay=[127.0.0.1] [127.0.0.1], "
          "dsn=2.0.0, stat=Sent (6AMCoWk4012314 Message accepted for delivery)",
          "10 sent to=b,a@example.com relay=[127.0.0.1] at=127.0.0.1 dsn=2.0.0 "
          "remote=6AMCoWk4012314 delay=0" },
        { "to=a, ctladdr=<x, stat=Sent@old.lab.test> (0/0), delay=00:00:00, "
          "xdelay=00:00:00, mailer=local, pri=60114, relay=127.0.0.1 [127.0.0.1], "
          "dsn=5.1.1, reply=550 5.1.1 <a> User doesn't exist: a, stat=User unknown",
          "10 bounced to=a relay=127.0.0.1 [127.0.0.1] dsn=5.1.1 delay=0" },
        { "to=<u48@x>,<u49@x>, [more], delay=00:00:00, xdelay=00:00:00, mailer=esmtp, "
          "pri=1800108, relay=mx.new.test. [127.0.0.9], dsn=2.0.0, stat=Sent (Ok: queued "
          "as 4jXTMc5cZNz1gmGx)",
          "10 sent to=<u48@x>,<u49@x> relay=mx.new.test at=127.0.0.9 dsn=2.0.0 "
          "remote=4jXTMc5cZNz1gmGx delay=0" },
        { "to=\"a\\\\\"b>, c\"@odd.test, delay=00:00:00, xdelay=00:00:00, mailer=esmtp, "
          "pri=30097, relay=mx.new.test. [IPv6:2001:db8::9] (may be forged), dsn=2.0.0, "
          "stat=Sent (Ok: queued as 4jXTSQ6mPKz1glMy)",
          "10 sent to=\"a\\\\\"b>, c\"@odd.test relay=mx.new.test at=2001:db8::9 "
          "dsn=2.0.0 remote=4jXTSQ6mPKz1glMy delay=0" },
        { "to=<a@example.com>, delay=00:00:00, pri=60102, stat=mailbox state unknown, "
          "try "
          "again later",
          "0 to=<a@example.com> delay=0" },
        { "to=<a@example.com>, delay=00:00:00, pri=30108, stat=discarded",
          "4 to=<a@example.com> delay=0" },
        { "discarded", "4" },
        { "from=<s@senders.test>, size=0, class=0, nrcpts=0, proto=ESMTP, daemon=MTA-v4, "
          "relay=localhost [127.0.0.1]",
          "4 from=s@senders.test size=0" },
        { "from=<s@senders.test (x>, size=0, class=0, nrcpts=0, y)>, size=94, class=0, "
          "nrcpts=1, msgid=rf2, proto=ESMTP, daemon=MTA-v4, relay=localhost [127.0.0.1]",
          "7 from=s@senders.test (x>, size=0, class=0, nrcpts=0, y) name=localhost "
          "client=127.0.0.1 mid=rf2 size=94 nrcpt=1" },
        { "from=<\"s>, size=1, nrcpts=1, relay=x [1.2.3.4]\"@senders.test>, size=94, "
          "class=0, nrcpts=1, msgid=<x@y> , relay=evil [9.9.9.9, proto=ESMTP, "
          "daemon=MTA-v4, relay=localhost [127.0.0.1]",
          "7 from=\"s>, size=1, nrcpts=1, relay=x [1.2.3.4]\"@senders.test "
          "name=localhost client=127.0.0.1 mid=<x@y> , relay=evil [9.9.9.9 size=94 "
          "nrcpt=1" },
        { "from=y@z.test, size=114, class=0, nrcpts=2, msgid=<direct@lab.test>, "
          "relay=root@localhost",
          "7 from=y@z.test name=root@localhost mid=<direct@lab.test> size=114 nrcpt=2" },
        { "ruleset=check_mail, arg1=<\"x, quarantine=y\"@senders.test>, relay=localhost "
          "[127.0.0.1], quarantine=looks odd",
          "5" },
        { "ruleset=check_rcpt, arg1=<x@y>, relay=localhost [127.0.0.1], reject=550 5.7.1 "
          "<x@y>... Access denied",
          "0" },
        { "milter=sluice, quarantine=sluice: mailbox is being moved", "5" },
        { "unquarantine", "12 super=1" },
        { "Milter: data, reject=451 4.3.0 mailbox state unknown, try again later", "4" },
        { "Milter: no active filter", "0" },
        { "6AMCk4VP006115: clone: owner=d", "17 other=6AMCk4VP006115" },
        { "6AMCkHU4006693: DSN: Service unavailable",
          "11 notice=0 other=6AMCkHU4006693" },
        { "alias <team@old.lab.test> => a, b, c@new.example.com",
          "16 to=a, b, c@new.example.com orig_to=team@old.lab.test" },
        { "alias <\"x => y\"@z> => a", "16 to=a orig_to=\"x => y\"@z" },
        { "forward <d@example.com> => \\\\d", "16 to=\\\\d orig_to=d@example.com" },
        { "localhost [127.0.0.1] did not issue MAIL/EXPN/VRFY/ETRN during connection to "
          "MTA-v4",
          "0" },
        { "<no.such@example.com>... User unknown", "0" },
        { "Losing ./qf6AMCkHU4006693: savemail panic", "0" },
        { "done; delay=00:00:00, ntries=1", "9" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check("sm-mta", "6AMCk4VP006114", cases[i].text, cases[i].want);
}

static void test_recipients(void)
{
    static const struct {
        const char *to, *want;
    } cases[] = {
        { "<a@b>,<c@d>,<\"x,<y>\"@z>", "[a@b][c@d][\"x,<y>\"@z]" },
        { "<a@b>", "[a@b]" },
        { "a@b", "[a@b]" },
        { "", "[]" },
        { "<a", "[a]" },
        { "a,b", "[a][b]" },
        { "<a@b>,c,\"|/bin/x y, z\"", "[a@b][c][\"|/bin/x y, z\"]" },
        { "a , b,c@d ", "[a][b][c@d]" },
        { "\\\\d,<@x.test:a@b>", "[d][a@b]" },
        { "\"a\\\\\"b>, c\"@d,e", "[\"a\\\\\"b>, c\"@d][e]" },
        { "<a(, x )@b>,c", "[a(, x )@b][c]" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct log_event event = { .to = { cases[i].to, strlen(cases[i].to) },
                                   .to_list = true };
        struct log_slice to;
        char got[256] = "";
        for (size_t at = 0; log_event_next_to(&event, &at, &to);)
            snprintf(got + strlen(got), sizeof(got) - strlen(got), "[%.*s]", (int)to.len,
                     to.text);
        CHECK_STR(cases[i].to, got, cases[i].want);
    }
}

/* Lines made to take long: 16 KB that look like a delivery again and again. */
static void test_time_for_a_hostile_line(void)
{
    static const struct {
        const char *begin, *again;
        int rounds; /* for two seconds, or what a slow machine takes for them */
    } cases[] = {
        { "postfix/smtp[1]: " LONG_ID ": to=<", ">, relay=x, a=b", 1000 },
        { "sm-mta[1]: 6AMCk4VP006114: to=", "(,", 1000 },
        { "sm-mta[1]: 6AMCk4VP006114: to=", "<a@b>,", 500 },
        { "sm-mta[1]: 6AMCk4VP006114: to=a, stat=", ", stat=", 1000 },
        { "sm-mta[1]: 6AMCk4VP006114: from=", ", size=", 1000 },
        { "sm-mta[1]: 6AMCk4VP006114: from=a, size=1, msgid=", ", relay=", 1000 },
        { "sm-mta[1]: 6AMCk4VP006114: alias ", "\" => ", 500 },
    };
    static struct log_clock clock_state;
    static char line[LOG_LINE_MAX];
    for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
        struct log_line parsed;
        struct log_event event;
        struct log_slice to;
        log_clock_init(&clock_state, 0);
        size_t used = (size_t)snprintf(line, sizeof(line), "Nov 22 09:14:32 mx1 %s",
                                       cases[n].begin);
        while (used + 20 < sizeof(line))
            used +=
                (size_t)snprintf(line + used, sizeof(line) - used, "%s", cases[n].again);
        clock_t began = clock();
        for (int i = 0; i < cases[n].rounds; i++) {
            CU_ASSERT(log_line_parse(&clock_state, line, used, &parsed));
            if (log_event_parse(&parsed, LOG_EVENTS_ALL, &event) != LOG_EVENT_NONE)
                for (size_t at = 0; log_event_next_to(&event, &at, &to);) {
                }
        }
        long ms = (long)((clock() - began) * 1000 / CLOCKS_PER_SEC);
        if (ms > 2000)
            printf("\n  %s: %d lines took %ld ms\n", cases[n].begin, cases[n].rounds, ms);
        CU_ASSERT(ms <= 2000);
    }
}

UNIT_MAIN("log_event", { "Postfix", test_postfix }, { "hostile", test_hostile },
          { "Sendmail", test_sendmail }, { "Sendmail in the lab", test_sendmail_lab },
          { "recipients", test_recipients },
          { "a line that wants to take long", test_time_for_a_hostile_line })
