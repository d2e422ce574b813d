/*
 * monitor: a log to its floaters. The lines are the lab's, with what a client, a
 * server and a night add to them.
 */
#include "unit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "../../cutover/log_words.h"
#include "../../cutover/monitor_publish.h"
#include "../../cutover/monitor_report.h"

#define SECOND INT64_C(1000000)
#define NOW    INT64_C(1795342472) /* 2026-11-22 10:14:32 UTC */

static struct conf *conf;

static const char config[] =
    "side = old\nhostname = \"mx1.example.com\"\nredis = \"unix:/nonexistent\"\n"
    "recipient-delimiter = \"+\"\n"
    "domain \"example.com\" {\n same-as = {\"localhost\"}\n "
    "new-address = \"%l@box.new.example\"\n old = \"[10.0.0.5]:25\"\n"
    " new = \"[mx.new.example]:25\"\n redirect-domains = {\"tenant.test\"}\n}\n";

static void load_conf(void)
{
    char path[] = "/tmp/sluice-monitor-XXXXXX", error[1024];
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    fputs(config, file);
    fclose(file);
    conf = conf_load(path, error, sizeof(error));
    if (!conf)
        printf("%s\n", error);
    unlink(path);
}

struct reading {
    struct monitor *monitor;
    struct log_clock clock;
};

static void begin(struct reading *r)
{
    static const char *const probes[] = { "probe@example.com", NULL };
    r->monitor = monitor_new(conf);
    r->monitor->probe_to = probes;
    log_clock_init(&r->clock, NOW);
}

static void take(struct reading *r, const char *text, size_t len)
{
    struct log_line line;
    struct log_time time;
    char *exact = malloc(len ? len : 1);
    memcpy(exact, text, len);
    if (log_line_parse(&r->clock, exact, len, &line) && monitor_pick(&line) &&
        log_line_time(&r->clock, &line, &time))
        monitor_take(r->monitor, &line, time.us);
    free(exact);
}

static void take_all(struct reading *r, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");
        take(r, text, len);
        text += len + (text[len] == '\n');
    }
}

static void judge(struct reading *r, int64_t now, bool without, struct monitor_view *view)
{
    *view = (struct monitor_view){ .monitor = r->monitor,
                                   .now = now,
                                   .quiet_for = 72 * 3600,
                                   .failing_after = 1800,
                                   .without_failures = without };
    monitor_judge(view);
}

/* All that a report is made of. */
static void describe(struct reading *r, char *out, size_t size)
{
    struct monitor_view view;
    size_t count;
    judge(r, NOW, false, &view);
    const struct monitor_totals *t = &r->monitor->totals;
    snprintf(out, size,
             "%s %" PRIu64 " floaters, %" PRIu64 " delivered, %" PRIu64
             " waiting, %" PRIu64 " refused, %" PRIu64 " lost, %" PRIu64
             " probes, %" PRIu64 " copies;",
             monitor_state_name(view.state), view.floaters, t->delivered,
             view.waiting.waiting, view.waiting.refused, t->lost, t->probes, t->copies);
    const struct monitor_sender **senders = monitor_senders(&view, &count);
    for (size_t i = 0; i < count; i++) {
        char client[600];
        monitor_client(senders[i], client, sizeof(client));
        snprintf(out + strlen(out), size - strlen(out), " %s/%s/%s %" PRIu64 ";", client,
                 senders[i]->helo, senders[i]->user, senders[i]->tally.count[0]);
    }
    const struct monitor_mailbox **boxes = monitor_mailboxes(&view, &count);
    for (size_t i = 0; i < count; i++)
        snprintf(out + strlen(out), size - strlen(out), " %s %" PRIu64 " %s;",
                 boxes[i]->address, boxes[i]->tally.count[0],
                 log_status_name(boxes[i]->status));
    free(senders);
    free(boxes);
}

#define T      "Nov 22 09:14:32 mx1 "
#define ID     "4jXP2T5gnwz1bwNG"
#define ID2    "4jXP3B710Hz1bx0b"
#define CLIENT T "postfix/smtpd[1]: " ID ": client=a.test[192.0.2.25]\n"
#define MID    T "postfix/cleanup[1]: " ID ": message-id=<x@a.test>\n"
#define VERDICT                                                                          \
    T "sluice-milter[2]: " ID ": verdict=forward to=<u1@example.com> home=new "          \
      "from=<s@a.test> client=[192.0.2.25] helo=h.test dmarc=pass header-from=a.test\n"
#define QUEUED                                                                           \
    T "postfix/qmgr[3]: " ID ": from=<s@a.test>, size=9, nrcpt=1 (queue active)\n"
#define SM  "4AM9EWxY012345"
#define SM2 "4AM9EWxY012346"
#define SM_FROM(nrcpts, id)                                                              \
    T "sm-mta[1]: " SM ": from=<s@a.test>, size=9, class=0, nrcpts=" nrcpts              \
      ", msgid=" id ", proto=ESMTP, daemon=MTA, relay=a.test [192.0.2.25]\n"
#define SM_TO(to, mailer, rest)                                                          \
    T "sm-mta[2]: " SM ": to=" to ", delay=00:00:01, mailer=" mailer ", pri=1, " rest "\n"
#define SM_NEW  "relay=mx.new.example. [203.0.113.5], dsn=2.0.0, stat=Sent (ok)"
#define SM_LMTP "relay=127.0.0.1 [127.0.0.1], dsn=2.0.0, stat=Sent"
#define REMOVED T "postfix/qmgr[3]: " ID ": removed\n"
#define ARRIVED CLIENT MID VERDICT QUEUED
#define RELAY   "relay=mx.new.example[203.0.113.5]:25, delay=1, delays=0/0/0/1, "
#define SENT    "dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 0A1B2C3D4E)\n"
#define FORWARD(id, to, rest)                                                            \
    T "postfix/sluice-forward/smtp[4]: " id ": to=<" to ">, " RELAY rest
#define REFUSED_5                                                                        \
    "dsn=5.1.1, status=SOFTBOUNCE (host mx.new.example[203.0.113.5] said: 550 no)\n"
#define REFUSED_4                                                                        \
    "dsn=4.0.0, status=deferred (host mx.new.example[203.0.113.5] said: 451 later)\n"
#define FROM_A " a.test [192.0.2.25]/h.test/ 1;"

static const struct {
    const char *what, *log, *want;
} cases[] = {
    { "delivered", ARRIVED FORWARD(ID, "u1@example.com", SENT) REMOVED,
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 sent;" },
    { "an extension is the same mailbox",
      ARRIVED FORWARD(ID, "u1+x@example.com", SENT) REMOVED,
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 sent;" },
    { "same-as is the same mailbox", ARRIVED FORWARD(ID, "U1@localhost", SENT) REMOVED,
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 sent;" },
    { "refused, then taken",
      ARRIVED FORWARD(ID, "u1@example.com", REFUSED_5) FORWARD(ID, "u1@example.com", SENT)
          REMOVED,
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 sent;" },
    { "refused", ARRIVED FORWARD(ID, "u1@example.com", REFUSED_5),
      "CRITICAL 1 floaters, 0 delivered, 1 waiting, 1 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 softbounce;" },
    { "put off too long", ARRIVED FORWARD(ID, "u1@example.com", REFUSED_4),
      "CRITICAL 1 floaters, 0 delivered, 1 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 deferred;" },
    { "expired",
      ARRIVED FORWARD(ID, "u1@example.com", REFUSED_4) T
      "postfix/qmgr[3]: " ID
      ": from=<s@a.test>, status=expired, returned to sender\n" REMOVED,
      "CRITICAL 1 floaters, 0 delivered, 0 waiting, 0 refused, 1 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 expired;" },
    { "put off by error(8), then the new server is there",
      ARRIVED T "postfix/error[5]: " ID ": to=<u1@example.com>, relay=none, delay=1, "
                "delays=0/0/0/0, dsn=4.4.1, status=deferred (delivery temporarily "
                "suspended: connect to "
                "mx.new.example[203.0.113.5]:25: Connection refused)\n" FORWARD(
                    ID, "u1@example.com", SENT) REMOVED,
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 sent;" },
    { "put off by error(8) for another server",
      ARRIVED T "postfix/error[5]: " ID ": to=<u1@example.com>, relay=none, delay=1, "
                "delays=0/0/0/0, dsn=4.4.1, status=deferred (delivery temporarily "
                "suspended: connect to "
                "mx.other.example[203.0.113.6]:25: Connection refused)\n",
      "WARNING 0 floaters, 0 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" },
    { "by another transport to the new server",
      ARRIVED T "postfix/smtp[5]: " ID ": to=<u1@example.com>, " RELAY SENT REMOVED,
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 sent;" },
    { "delivered here",
      ARRIVED T "postfix/smtp[5]: " ID
                ": to=<u1@example.com>, relay=mx.other[203.0.113.6]:25, "
                "delay=1, delays=0/0/0/0, " SENT REMOVED,
      "WARNING 0 floaters, 0 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" },
    { "back to the old server, on the new side",
      ARRIVED T "postfix/sluice-forward/smtp[4]: " ID ": to=<u1@example.com>, "
                "relay=10.0.0.5[10.0.0.5]:25, delay=1, delays=0/0/0/1, " SENT REMOVED,
      "WARNING 0 floaters, 0 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" },
    { "a copy", ARRIVED FORWARD(ID, "copy@tenant.test", SENT) REMOVED,
      "WARNING 0 floaters, 0 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 1 "
      "copies;" },
    { "redirected by the milter",
      CLIENT MID T "sluice-milter[2]: " ID
                   ": verdict=redirect to=<u1@example.com> home=new "
                   "from=<s@a.test> client=[192.0.2.25] helo=h.test new=<n1@tenant.test> "
                   "dmarc=pass\n" QUEUED FORWARD(ID, "n1@tenant.test", SENT) REMOVED,
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 sent;" },
    { "requeued between two attempts: one floater",
      ARRIVED FORWARD(ID, "u1@example.com", REFUSED_4) T
      "postfix/postsuper[6]: " ID ": requeued\n" T "postfix/pickup[7]: " ID2
      ": uid=102 from=<s@a.test> orig_id=" ID "\n" T "postfix/cleanup[1]: " ID2
      ": message-id=<x@a.test>\n" T "postfix/qmgr[3]: " ID2
      ": from=<s@a.test>, size=9, nrcpt=1 (queue active)\n" FORWARD(
          ID2, "u1@example.com", SENT) T "postfix/qmgr[3]: " ID2 ": removed\n",
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 sent;" },
    { "through an alias of local(8)",
      ARRIVED T
      "postfix/cleanup[1]: " ID2 ": message-id=<x@a.test>\n" T "postfix/qmgr[3]: " ID2
      ": from=<s@a.test>, size=9, nrcpt=1 (queue active)\n" T "postfix/local[8]: " ID
      ": to=<team@localhost>, relay=local, delay=0, delays=0/0/0/0, "
      "dsn=2.0.0, status=sent (forwarded as " ID2
      ")\n" REMOVED FORWARD(ID2, "u1@example.com", SENT),
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 sent;" },
    { "local submission",
      T "postfix/pickup[7]: " ID
        ": uid=0 from=<root>\n" MID QUEUED FORWARD(ID, "u1@example.com", SENT) REMOVED,
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; local "
      "submission on mx1// 1; u1@example.com 1 sent;" },
    { "the log begins in the middle", FORWARD(ID, "u1@example.com", SENT) REMOVED,
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; unknown "
      "client of mx1// 1; u1@example.com 1 sent;" },
    { "a probe to its mailbox",
      CLIENT T "postfix/cleanup[1]: " ID
               ": message-id=<sluice-ping.abcdefghijklmnopqrstuvwxyz@h>\n" QUEUED FORWARD(
                   ID, "probe@example.com", SENT) REMOVED,
      "WARNING 0 floaters, 0 delivered, 0 waiting, 0 refused, 0 lost, 1 probes, 0 "
      "copies;" },
    { "the mark of a probe, to somebody",
      CLIENT T "postfix/cleanup[1]: " ID
               ": message-id=<sluice-ping.abcdefghijklmnopqrstuvwxyz@h>\n" QUEUED FORWARD(
                   ID, "u1@example.com", SENT) REMOVED,
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; a.test "
      "[192.0.2.25]// 1; u1@example.com 1 sent;" },
    /* hostile */
    { "a quoted recipient that looks like a delivery",
      ARRIVED FORWARD(ID, "\\\"a>, relay=x, delay=0, status=sent (ok)\\\"@example.com",
                      REFUSED_5),
      "CRITICAL 1 floaters, 0 delivered, 1 waiting, 1 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " unclear address 1 softbounce;" },
    { "Message-ID, HELO and sender that look like lines",
      CLIENT T "postfix/cleanup[1]: " ID
               ": message-id=<x> to=<u9@example.com>, " RELAY SENT T
               "sluice-milter[2]: " ID ": verdict=forward to=<u1@example.com> home=new "
               "from=<a\\x20client=\\x5b9.9.9.9\\x5d@a.test> client=[192.0.2.25] "
               "helo=x\\x20dmarc=fail\n" T "postfix/qmgr[3]: " ID
               ": from=<\"removed>, size=1, nrcpt=1 (queue active)\"@a.test>, "
               "size=9, nrcpt=1 (queue active)\n" FORWARD(ID, "u1@example.com", SENT),
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; a.test "
      "[192.0.2.25]/x\\x20dmarc=fail/ 1; u1@example.com 1 sent;" },
    { "a local program with another name",
      ARRIVED T "smtpd[9]: " ID ": to=<u1@example.com>, " RELAY SENT T
                "postfix/smtpd[9]: warning: " ID
                ": removed\n" FORWARD(ID, "u1@example.com", SENT),
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" FROM_A " u1@example.com 1 sent;" },
    { "an id that is used again",
      T "postfix/smtpd[1]: 0A1B2C: client=old.test[192.0.2.1]\n" T
        "postfix/smtpd[1]: 0A1B2C: client=a.test[192.0.2.25]\n" FORWARD(
            "0A1B2C", "u1@example.com", SENT),
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; a.test "
      "[192.0.2.25]// 1; u1@example.com 1 sent;" },
    { "a short id of another host",
      "Nov 22 09:14:32 mx2 postfix/smtpd[1]: 0A1B2C: client=two.test[192.0.2.2]\n" T
      "postfix/smtpd[1]: 0A1B2C: client=a.test[192.0.2.25]\n"
      "Nov 22 09:14:33 mx2 postfix/qmgr[3]: 0A1B2C: removed\n" FORWARD(
          "0A1B2C", "u1@example.com", SENT),
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; a.test "
      "[192.0.2.25]// 1; u1@example.com 1 sent;" },
    { "Sendmail, users of the host and what aliases made of them",
      SM_FROM("1", "<x@a>") T
      "sm-mta[2]: " SM ": alias <team@old> => u1, u2, u3\n" T "sm-mta[2]: " SM
      ": alias u2 => u2@elsewhere.test\n" T "sm-mta[2]: " SM ": forward u3 => \\\\u3\n" T
      "sm-mta[2]: " SM ": forward u3 => u9@elsewhere.test\n" SM_TO(
          "u1,u2@elsewhere.test,u9@elsewhere.test", "esmtp", SM_NEW)
          SM_TO("\\\\u3", "local", SM_LMTP) T "sm-mta[2]: " SM
                                              ": done; delay=00:00:00, ntries=1\n",
      "WARNING 3 floaters, 3 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; a.test [192.0.2.25]// 3; u1@example.com 1 sent; u2@example.com 1 sent; "
      "u3@example.com 1 sent;" },
    { "Sendmail, an alias that its log level leaves out",
      SM_FROM("1", "<x@a>") SM_TO("u2@box.new.example", "esmtp", SM_NEW),
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; a.test [192.0.2.25]// 1; u2@example.com 1 sent;" },
    { "Sendmail, a list with an owner",
      SM_FROM("1", "<x@a>") T "sm-mta[2]: " SM ": " SM2 ": clone: owner=u3\n" T
                              "sm-mta[2]: " SM2 ": to=u1, ctladdr=u3 (8/8), "
                              "delay=00:00:00, mailer=esmtp, pri=1, " SM_NEW "\n",
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; a.test [192.0.2.25]// 1; u1@example.com 1 sent;" },
    { "Sendmail, LMTP on the new server's address is none",
      SM_FROM("1", "<x@a>") SM_TO("<u1@example.com>", "local", SM_NEW),
      "WARNING 0 floaters, 0 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" },
    { "Sendmail, a comment and a route",
      SM_FROM("2", "<x@a>") SM_TO(
          "<u1(, stat=Sent)@example.com>,<@x.test:u2@example.com>", "esmtp", SM_NEW),
      "WARNING 2 floaters, 2 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; a.test [192.0.2.25]// 2; u1@example.com 1 sent; u2@example.com 1 sent;" },
    { "Sendmail, refused: sent back",
      SM_FROM("1", "<x@a>") T
      "sm-mta[2]: " SM ": to=<u1@example.com>, delay=00:00:00, "
      "mailer=esmtp, pri=1, relay=mx.new.example. [203.0.113.5], "
      "dsn=5.7.1, reply=554 5.7.1 no, stat=Sent (ok), stat=Service "
      "unavailable\n",
      "CRITICAL 1 floaters, 0 delivered, 0 waiting, 0 refused, 1 lost, 0 probes, 0 "
      "copies; a.test [192.0.2.25]// 1; u1@example.com 1 bounced;" },
    { "Sendmail, no message came of it",
      T "sm-mta[1]: " SM ": from=<s@a.test>, size=0, class=0, nrcpts=0, proto=ESMTP, "
        "daemon=MTA, relay=a.test [192.0.2.25]\n",
      "WARNING 0 floaters, 0 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" },
    { "Sendmail, a login counts for its own session",
      T "sm-mta[1]: AUTH=server, relay=a.test [192.0.2.25], authid=joe, mech=PLAIN, "
        "bits=0\n" T "sm-mta[1]: " SM
        ": from=<s@a.test>, size=9, class=0, nrcpts=1, msgid=<x@a>, "
        "bodytype=8BITMIME, proto=ESMTPSA, daemon=MTA, relay=a.test [192.0.2.25]\n" T
        "sm-mta[1]: " SM2 ": from=<s@a.test>, size=9, class=0, nrcpts=1, msgid=<x@a>, "
        "proto=ESMTP, daemon=MTA, relay=a.test [192.0.2.25]\n" SM_TO("<u1@example.com>",
                                                                     "esmtp", SM_NEW) T
      "sm-mta[2]: " SM2
      ": to=<u1@example.com>, delay=00:00:01, mailer=esmtp, pri=1, " SM_NEW "\n",
      "WARNING 2 floaters, 2 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; "
      "a.test [192.0.2.25]// 1; a.test [192.0.2.25]//joe 1; u1@example.com 2 sent;" },
    { "Sendmail, lines that name nobody, or half of him",
      SM_FROM("1", "<x@a>") SM_TO("", "esmtp", SM_NEW) SM_TO("(,(,(,", "esmtp", SM_NEW)
          SM_TO("<", "esmtp", SM_NEW) SM_TO("<>", "esmtp", SM_NEW)
              SM_TO(",", "esmtp", SM_NEW),
      "WARNING 0 floaters, 0 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies;" },
    { "Sendmail, by sendmail(1)",
      T "sendmail[1]: " SM ": from=joe, size=9, class=0, nrcpts=1, msgid=<x@a>, "
        "relay=joe@localhost\n" SM_TO("u1", "esmtp", SM_NEW),
      "WARNING 1 floaters, 1 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; local submission on mx1// 1; u1@example.com 1 sent;" },
    { "Sendmail, two recipients",
      T
      "sm-mta[1]: 4AM9EWxY012345: from=<s@a.test>, size=9, class=0, nrcpts=2, "
      "msgid=<x@a>, "
      "proto=ESMTP, daemon=MTA, relay=a.test [192.0.2.25]\n" T
      "sm-mta[2]: 4AM9EWxY012345: to=<u1@example.com>,<u2@example.com>, delay=00:00:01, "
      "mailer=esmtp, pri=1, relay=mx.new.example. [203.0.113.5], dsn=2.0.0, stat=Sent "
      "(ok)\n",
      "WARNING 2 floaters, 2 delivered, 0 waiting, 0 refused, 0 lost, 0 probes, 0 "
      "copies; a.test "
      "[192.0.2.25]// 2; u1@example.com 1 sent; u2@example.com 1 sent;" },
};
#define CASES (sizeof(cases) / sizeof(cases[0]))

static void test_cases(void)
{
    for (size_t i = 0; i < CASES; i++) {
        struct reading r;
        char got[4096];
        begin(&r);
        take_all(&r, cases[i].log);
        describe(&r, got, sizeof(got));
        CHECK_STR(cases[i].what, got, cases[i].want);
        monitor_free(r.monitor);
    }
}

/* Each case's log cut behind any line, saved, and read on by a new monitor. */
static void test_in_two_runs(void)
{
    for (size_t i = 0; i < CASES; i++)
        for (const char *cut = cases[i].log; *cut; cut += strcspn(cut, "\n") + 1) {
            struct reading r, next;
            char got[4096], head[8192], *saved = NULL;
            size_t len;
            snprintf(head, sizeof(head), "%.*s", (int)(cut - cases[i].log), cases[i].log);
            begin(&r);
            take_all(&r, head);
            FILE *out = open_memstream(&saved, &len);
            monitor_save(r.monitor, out);
            fclose(out);
            begin(&next);
            for (char *rest = NULL, *line = strtok_r(saved, "\n", &rest); line;
                 line = strtok_r(NULL, "\n", &rest))
                CHECK_INT(line, monitor_load(next.monitor, line), true);
            next.clock.last = r.clock.last;
            take_all(&next, cut);
            describe(&next, got, sizeof(got));
            CHECK_STR(cases[i].what, got, cases[i].want);
            free(saved);
            monitor_free(r.monitor);
            monitor_free(next.monitor);
        }
}

static void test_states(void)
{
    static const struct {
        const char *what, *log;
        int64_t after; /* seconds after 09:14:32 */
        bool without;
        const char *want;
    } tries[] = {
        { "nothing at all", "", 60, false, "UNKNOWN" },
        { "no floater, but a short log", CLIENT, 60, false, "WARNING" },
        { "a log that ends days ago", CLIENT, 2 * 86400, false, "UNKNOWN" },
        { "one just now", ARRIVED FORWARD(ID, "u1@example.com", SENT), 60, false,
          "WARNING" },
        { "one 71 hours ago",
          ARRIVED FORWARD(ID, "u1@example.com",
                          SENT) "Nov 25 08:00:00 mx1 postfix/qmgr[3]: " ID2 ": removed\n",
          71 * 3600, false, "WARNING" },
        { "one 73 hours ago",
          ARRIVED FORWARD(ID, "u1@example.com",
                          SENT) "Nov 25 08:00:00 mx1 postfix/qmgr[3]: " ID2 ": removed\n",
          73 * 3600, false, "OK" },
        { "put off for a minute", ARRIVED FORWARD(ID, "u1@example.com", REFUSED_4), 60,
          false, "WARNING" },
        { "put off for an hour", ARRIVED FORWARD(ID, "u1@example.com", REFUSED_4), 3600,
          false, "CRITICAL" },
        { "refused", ARRIVED FORWARD(ID, "u1@example.com", REFUSED_5), 1, false,
          "CRITICAL" },
    };
    for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        struct reading r;
        struct monitor_view view;
        begin(&r);
        take_all(&r, tries[i].log);
        judge(&r, NOW - 3600 + tries[i].after, tries[i].without, &view);
        CHECK_STR(tries[i].what, monitor_state_name(view.state), tries[i].want);
        monitor_free(r.monitor);
    }
}

static void test_dmarc(void)
{
    struct reading r;
    struct monitor_view view;
    begin(&r);
    take_all(
        &r, CLIENT MID T
        "sluice-milter[2]: " ID ": verdict=forward to=<u1@example.com> "
        "home=new from=<s@a.test> client=[192.0.2.25] helo=h.test dmarc=fail\n" QUEUED
            FORWARD(ID, "u1@example.com", SENT) REMOVED);
    judge(&r, NOW, false, &view);
    CHECK_INT("counted", view.floaters, 1);
    judge(&r, NOW, true, &view);
    CHECK_INT("left out", view.floaters, 0);
    CHECK_INT("and of the last hours", view.recent, 0);
    CHECK_INT("no time", view.last, LOG_NO_TIME);
    monitor_free(r.monitor);
}

/* What a sender writes stays text in each report. */
static void test_report_is_harmless(void)
{
    static const char *const evil = "<script>|\\x1b[2J";
    struct reading r;
    struct monitor_view view;
    char log[2048], status[2048], *html;
    size_t len;
    begin(&r);
    snprintf(log, sizeof(log),
             CLIENT T "postfix/qmgr[3]: " ID
                      ": from=<\"%s\"@a>, size=9, nrcpt=1 (queue active)\n" T
                      "sluice-milter[2]: " ID
                      ": verdict=forward to=<u1@example.com> helo=<img>|x\n" FORWARD(
                          ID, "u1@example.com",
                          "dsn=5.1.1, status=SOFTBOUNCE (550 <b> | quiet=0 \x1b)\n"),
             evil);
    take_all(&r, log);
    judge(&r, NOW, false, &view);
    monitor_status(&view, status, sizeof(status));
    char *bar = strchr(status, '|');
    CU_ASSERT_PTR_NOT_NULL_FATAL(bar);
    CU_ASSERT_PTR_NULL(strchr(bar + 1, '|'));
    CHECK_INT("performance data is ours", strncmp(bar, "| quiet=3600s;", 14), 0);
    CU_ASSERT_PTR_NULL(strchr(status, '\x1b'));
    CU_ASSERT(monitor_html(&view, &html, &len));
    CU_ASSERT_PTR_NULL(strstr(html, "<script"));
    CU_ASSERT_PTR_NULL(strstr(html, "<img"));
    CU_ASSERT_PTR_NULL(strstr(html, "<b> "));
    CU_ASSERT_PTR_NOT_NULL(strstr(html, "&lt;script&gt;"));
    CU_ASSERT_PTR_NULL(strchr(html, '\x1b'));
    free(html);
    monitor_free(r.monitor);
}

/* Messages that come to nothing do not stay. */
static void test_memory(void)
{
    struct reading r;
    begin(&r);
    for (int i = 0; i < 400000; i++) {
        char line[200];
        int64_t t = NOW - 86400 + i / 5;
        struct tm tm;
        time_t unix_s = (time_t)t;
        gmtime_r(&unix_s, &tm);
        int len = snprintf(
            line, sizeof(line),
            "2026-%02d-%02dT%02d:%02d:%02dZ mx1 postfix/smtpd[1]: 4jXP%06dz1bwNG: "
            "client=a.test[192.0.2.25]",
            tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, i);
        take(&r, line, (size_t)len);
    }
    uint64_t left = log_flow_counts(r.monitor->flow)->in_flight;
    if (left > 150000)
        printf("\n  %" PRIu64 " messages in flight\n", left);
    CU_ASSERT(left <= 150000);
    monitor_free(r.monitor);
}

static void test_words(void)
{
    static const char *const texts[] = { "",      "-",        "-x",   "a b",
                                         "\\x41", "\x01\xff", "plain" };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char *saved, got[64];
        size_t len;
        FILE *out = open_memstream(&saved, &len);
        log_word_put(out, texts[i]);
        log_number_put(out, INT64_MIN);
        fclose(out);
        const char *at = saved;
        int64_t number;
        CU_ASSERT(log_word_get(&at, got, sizeof(got)));
        CHECK_STR(saved, got, texts[i]);
        CU_ASSERT(log_number_get(&at, INT64_MIN, INT64_MAX, &number) &&
                  number == INT64_MIN);
        CU_ASSERT(log_words_end(at));
        free(saved);
    }
}

static bool take_row(void *context, const struct monitor_row *row)
{
    char *out = context;
    size_t used = 0;
    for (size_t i = 0; i < row->domain_count; i++)
        used += (size_t)snprintf(out + used, 200 - used, "%s %" PRId64 ";",
                                 row->domains[i].name, NOW - row->domains[i].last);
    return true;
}

/* What the status page is told: of a domain never less than may have been. */
static void test_publish(void)
{
    static const struct {
        const char *what, *address;
        uint64_t rows_left;
        const char *want; /* domain, seconds since its last floater */
    } rows[] = {
        { "all have rows", "a@example.com", 0, "example.com 900;" },
        { "some found no row", "a@example.com", 1, "example.com 60;* 60;" },
        { "no domain of ours", "a@example.net", 1, "* 60;" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char address[40], got[200] = "";
        bool failing = false;
        struct monitor *monitor = monitor_new(conf);
        struct monitor_mailbox mailbox = { .address = address };
        mailbox.tally.last = (NOW - 900) * SECOND;
        monitor->totals.tally.last = (NOW - 60) * SECOND;
        monitor->totals.rows_left = rows[i].rows_left;
        snprintf(address, sizeof(address), "%s", rows[i].address);
        struct command_context context = { .conf = conf, .store = store_memory_new() };
        struct monitor_view view = { .monitor = monitor, .now = NOW };
        struct monitor_mailbox *own = monitor->mailboxes;
        monitor->mailboxes = &mailbox;
        monitor->mailbox_count = 1;
        monitor_publish(&context, &view, &failing);
        monitor->mailboxes = own;
        monitor->mailbox_count = 0;
        CHECK_INT(rows[i].what, failing, false);
        CU_ASSERT(store_each_monitor(context.store, take_row, got));
        CHECK_STR(rows[i].what, got, rows[i].want);
        store_free(context.store);
        monitor_free(monitor);
    }
}

int main(void)
{
    static const struct unit_case tests[] = {
        { "what is published", test_publish },
        { "cases", test_cases },
        { "in two runs", test_in_two_runs },
        { "states", test_states },
        { "DMARC", test_dmarc },
        { "harmless", test_report_is_harmless },
        { "memory", test_memory },
        { "words", test_words },
    };
    setenv("TZ", "UTC", 1);
    load_conf();
    if (!conf)
        return 2;
    int code = unit_run("monitor", tests, sizeof(tests) / sizeof(tests[0]));
    conf_unref(conf);
    return code;
}
