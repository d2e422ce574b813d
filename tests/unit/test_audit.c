/*
 * test_audit: the ledger (cutover/audit_ledger.h): log lines in, rows out.
 *
 * Host old is the old side, new the new side, example.com is managed. Each line gets
 * "Nov 22 " in front; a time may stand alone ("12:00:00 ~" skips time, by one line of
 * another message).
 */
#include <stdlib.h>

#include "audit_ledger.h"
#include "unit.h"

#define LATEST 1795392000 /* 2026-11-23 */

struct test {
    char rows[8192];
    size_t len;
    unsigned messages;
    uint64_t last;
};

static bool mailbox(void *context, struct log_slice text, char out[ADDR_TEXT_MAX + 1])
{
    static const char domain[] = "@example.com";
    struct addr addr;
    (void)context;
    if (addr_parse(text.text, text.len, &addr) != ADDR_OK ||
        strcmp(addr.domain, domain + 1) != 0)
        return false;
    addr_format(addr.local, addr.domain, out);
    return true;
}

static bool redirects_to(void *context, struct log_slice text)
{
    static const char domain[] = "@tenant.test";
    (void)context;
    return text.len >= sizeof(domain) && memcmp(text.text + text.len - sizeof(domain) + 1,
                                                domain, sizeof(domain) - 1) == 0;
}

static enum ledger_side side(void *context, const char *host)
{
    (void)context;
    return strcmp(host, "old") == 0   ? LEDGER_SIDE_OLD
           : strcmp(host, "new") == 0 ? LEDGER_SIDE_NEW
                                      : LEDGER_SIDE_UNKNOWN;
}

/* wrong@example.com lives nowhere. */
static enum ledger_judged judge(void *context, const char *address, const char *host,
                                enum ledger_side where, int64_t from_us, int64_t to_us)
{
    (void)context, (void)host, (void)where;
    CU_ASSERT(from_us <= to_us);
    return strcmp(address, "wrong@example.com") == 0 ? JUDGED_WRONG : JUDGED_FINE;
}

static void fence(void *context, struct log_slice host, uint64_t change, int64_t us)
{
    (void)context, (void)host, (void)change, (void)us;
}

static void take_row(void *context, const struct ledger_row *row)
{
    struct test *test = context;
    test->messages += row->message != test->last;
    test->last = row->message;
    int n = snprintf(test->rows + test->len, sizeof(test->rows) - test->len,
                     "%s%s %s%s%s %s%s%s%s", row->mailbox, row->mailbox[0] ? "" : "?",
                     ledger_fate_name(row->fate), row->fate == FATE_QUEUED ? "=" : "",
                     row->fate == FATE_QUEUED ? row->where : "", row->host,
                     row->again ? " again" : "", row->began_before ? " late" : "",
                     row->to[0] ? " to " : "");
    if (test->len >= sizeof(test->rows) - 600)
        return;
    test->len += (size_t)n;
    n = snprintf(test->rows + test->len, sizeof(test->rows) - test->len, "%s%s", row->to,
                 row->notice[0] && row->fate == FATE_RETURNED ? " noticed\n" : "\n");
    test->len += (size_t)n;
}

static struct log_clock clock_;

static struct ledger *begin(struct test *test)
{
    struct ledger_ports ports = {
        .context = test,
        .mailbox = mailbox,
        .redirects_to = redirects_to,
        .side = side,
        .judge = judge,
        .fence = fence,
        .row = take_row,
        .full = true,
    };
    memset(test, 0, sizeof(*test));
    log_clock_init(&clock_, LATEST);
    return ledger_new(&ports);
}

/* false: not a line of a log. */
static bool give(struct ledger *ledger, const char *text, size_t len)
{
    struct log_line line;
    struct log_event event;
    struct log_time time;
    if (!log_line_parse(&clock_, text, len, &line) ||
        !log_line_time(&clock_, &line, &time))
        return false;
    if (log_event_parse(&line, LOG_EVENTS_ALL, &event) != LOG_EVENT_NONE)
        CU_ASSERT(ledger_take(ledger, &line, &event, time.us));
    return true;
}

/* lines: each ended by LF. skip: the number of a line to leave out, or -1. Returns the
 * number of lines. */
static int run(const char *lines, int skip, struct test *test)
{
    struct ledger *ledger = begin(test);
    int number = 0;
    for (; *lines; number++) {
        char text[2048];
        size_t len = strcspn(lines, "\n");
        int n = snprintf(text, sizeof(text), "Nov 22 %.*s", (int)len, lines);
        lines += len + 1;
        if (number == skip || n < 0)
            continue;
        bool parsed = give(ledger, text, (size_t)n);
        if (!parsed)
            printf("\n  not a line: %s\n", text);
        CU_ASSERT_FATAL(parsed);
    }
    CU_ASSERT(ledger_end(ledger));
    ledger_free(ledger);
    return number;
}

/* ---- what the cases are made of ------------------------------------------------- */

#define SMTP(host, id)                                                                   \
    "12:00:00 " host " postfix/smtpd[9]: " id ": client=c[192.0.2.1]\n"                  \
    "12:00:00 " host " postfix/cleanup[8]: " id ": message-id=<m1@x>\n"
#define ACTIVE(host, id, nrcpt)                                                          \
    "12:00:00 " host " postfix/qmgr[7]: " id ": from=<s@x.test>, size=9, nrcpt=" nrcpt   \
    " (queue active)\n"
#define TO(host, service, id, to, status)                                                \
    "12:00:01 " host " postfix/" service "[6]: " id ": to=<" to                          \
    ">, relay=r[192.0.2.9]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=" status "\n"
#define STORED(host, id, to)  TO(host, "lmtp", id, to, "sent (250 2.0.0 <" to "> Saved)")
#define REMOVED(host, id)     "12:00:02 " host " postfix/qmgr[7]: " id ": removed\n"
#define SUPER(host, id, what) "12:00:03 " host " postfix/postsuper[5]: " id ": " what "\n"
#define VERDICT(host, id, rest)                                                          \
    "12:00:00 " host " sluice-milter[4]: " id ": verdict=" rest "\n"
#define FORWARDED(id, to, next)                                                          \
    TO("old", "sluice-forward/smtp", id, to, "sent (250 2.0.0 Ok: queued as " next ")")
#define HOLD(id)                                                                         \
    "12:00:00 old postfix/cleanup[8]: " id ": milter-hold: END-OF-MESSAGE from "         \
    "c[192.0.2.1]: milter triggers HOLD action; from=<s@x.test> to=<a@example.com> "     \
    "proto=ESMTP helo=<x>\n"
#define REQUEUE(host, before, id)                                                        \
    SUPER(host, before, "requeued")                                                      \
    "12:00:04 " host " postfix/pickup[3]: " id                                           \
    ": uid=102 from=<s@x.test> orig_id=" before "\n"                                     \
    "12:00:04 " host " postfix/cleanup[8]: " id ": message-id=<m1@x>\n"
#define LATER(host) "23:59:59 " host " postfix/qmgr[7]: 4Zzz0Z0000z0000: removed\n"

#define SENDMAIL_FROM(host, id)                                                          \
    "12:00:00 " host " sm-mta[9]: " id ": from=<s@x.test>, size=9, class=0, nrcpts=1, "  \
    "msgid=<m1@x>, proto=ESMTP, daemon=MTA, relay=c [192.0.2.1]\n"
#define SENDMAIL_TO(host, id, mailer, relay, stat)                                       \
    "12:00:01 " host " sm-mta[8]: " id ": to=<a@example.com>, delay=00:00:01, "          \
    "xdelay=00:00:00, mailer=" mailer ", pri=30000" relay ", dsn=2.0.0, stat=" stat "\n"
/* So many bytes of a Message-ID say nothing yet of another one. */
#define HUNDRED                                                                          \
    "<1234567890123456789012345678901234567890123456789012345678901234567890"            \
    "123456789012345678901234567890"
#define SM1                     "3AMC00Ab012345"
#define SM2                     "3AMC00Ab012346"
#define SM(host, id, text)      "12:00:01 " host " sm-mta[8]: " id ": " text "\n"
#define SENDMAIL_DONE(host, id) SM(host, id, "done; delay=00:00:01, ntries=1")
#define LMTP                    ", relay=127.0.0.1 [127.0.0.1]"
#define SENDMAIL_TWO(host, id)                                                           \
    "12:00:00 " host " sm-mta[9]: " id ": from=<s@x.test>, size=9, class=0, nrcpts=2, "  \
    "msgid=<m1@x>, proto=ESMTP, daemon=MTA, relay=c [192.0.2.1]\n"

#define ID1 "4jXNy31Ftgz1brs1"
#define ID2 "4jXNy31Ftgz1brs2"
#define ID3 "4jXNy31Ftgz1brs3"

static const struct {
    const char *name, *lines, *rows;
    unsigned messages;
} mail[] = {
    { "delivered",
      SMTP("old", ID1) ACTIVE("old", ID1, "1") STORED("old", ID1, "a@example.com")
          REMOVED("old", ID1),
      "a@example.com delivered-old old\n", 1 },
    { "not managed",
      SMTP("old", ID1) ACTIVE("old", ID1, "1") STORED("old", ID1, "a@other.test")
          REMOVED("old", ID1),
      "", 0 },
    { "two of three are managed",
      SMTP("old", ID1) ACTIVE("old", ID1, "3") STORED("old", ID1, "a@example.com")
          STORED("old", ID1, "b@other.test") STORED("old", ID1, "C@Example.com")
              REMOVED("old", ID1),
      "a@example.com delivered-old old\nc@example.com delivered-old old\n", 1 },
    { "a delivery's line is missing",
      SMTP("old", ID1) ACTIVE("old", ID1, "2") STORED("old", ID1, "a@example.com")
          REMOVED("old", ID1),
      "? unknown old\na@example.com delivered-old old\n", 1 },
    { "the same, and the milter had named it",
      SMTP("old", ID1)
          VERDICT("old", ID1, "deliver to=<b@example.com> home=old from=<s@x.test>")
              ACTIVE("old", ID1, "1") REMOVED("old", ID1),
      "b@example.com unknown old\n", 1 },
    { "deferred, and gone without a word",
      SMTP("old", ID1) ACTIVE("old", ID1, "1")
          TO("old", "lmtp", ID1, "a@example.com", "deferred (busy)") REMOVED("old", ID1),
      "a@example.com unknown old\n", 1 },
    { "deferred, then delivered",
      SMTP("old", ID1) ACTIVE("old", ID1, "1")
          TO("old", "lmtp", ID1, "a@example.com", "deferred (busy)")
              STORED("old", ID1, "a@example.com") REMOVED("old", ID1),
      "a@example.com delivered-old old\n", 1 },
    { "still deferred",
      SMTP("old", ID1) ACTIVE("old", ID1, "1")
          TO("old", "lmtp", ID1, "a@example.com", "deferred (busy)"),
      "a@example.com queued=deferred old\n", 1 },
    { "deferred, and never tried again",
      SMTP("old", ID1) ACTIVE("old", ID1, "1")
          TO("old", "lmtp", ID1, "a@example.com", "deferred (busy)") LATER("old"),
      "a@example.com unknown old\n", 1 },
    { "on hold by the milter, for a day",
      SMTP("old", ID1) VERDICT("old", ID1, "hold to=<a@example.com> home=locked from=<>")
          HOLD(ID1) LATER("old"),
      "a@example.com queued=hold old\n", 1 },
    { "forwarded to the new side",
      SMTP("old", ID1) ACTIVE("old", ID1, "1") SMTP("new", ID2) ACTIVE("new", ID2, "1")
          FORWARDED(ID1, "a@example.com", ID2) STORED("new", ID2, "a@example.com")
              REMOVED("new", ID2) REMOVED("old", ID1),
      "a@example.com delivered-new new\n", 1 },
    { "forwarded, and the new log is not here",
      SMTP("old", ID1) ACTIVE("old", ID1, "1") FORWARDED(ID1, "a@example.com", ID2)
          REMOVED("old", ID1),
      "a@example.com accepted-elsewhere old\n", 1 },
    { "forwarded, and the new log has no such message",
      SMTP("old", ID1) ACTIVE("old", ID1, "2") SMTP("new", ID2) ACTIVE("new", ID2, "1")
          FORWARDED(ID1, "a@example.com", ID2) FORWARDED(ID1, "b@example.com", ID3)
              STORED("new", ID2, "a@example.com") REMOVED("new", ID2) REMOVED("old", ID1)
                  LATER("new"),
      "a@example.com delivered-new new\nb@example.com unknown old\n", 1 },
    { "forwarded, and the new side has nothing but its beginning",
      SMTP("old", ID1) ACTIVE("old", ID1, "1") SMTP("new", ID2)
          FORWARDED(ID1, "a@example.com", ID2) REMOVED("old", ID1) LATER("new"),
      "a@example.com unknown new\n", 1 },
    { "a server names another message's id",
      SMTP("old", ID1) ACTIVE("old", ID1, "1") STORED(
          "old", ID1, "a@example.com") "12:00:00 old postfix/smtpd[9]: " ID2
                                       ": client=c[192.0.2.1]\n"
                                       "12:00:00 old postfix/cleanup[8]: " ID2
                                       ": message-id=<m2@x>\n" ACTIVE("old", ID2, "1")
                                           TO("old", "smtp", ID2, "b@example.com",
                                              "sent (250 Ok: queued as " ID1 ")")
                                               REMOVED("old", ID1) REMOVED("old", ID2),
      "a@example.com delivered-old old\nb@example.com accepted-elsewhere old\n", 2 },
    { "a server names this message's id",
      SMTP("old", ID1) ACTIVE("old", ID1, "1")
          TO("old", "smtp", ID1, "b@example.com", "sent (250 Ok: queued as " ID1 ")")
              REMOVED("old", ID1),
      "b@example.com accepted-elsewhere old\n", 1 },
    { "requeued while on hold",
      SMTP("old", ID1) VERDICT("old", ID1, "hold to=<a@example.com> home=locked from=<>")
          HOLD(ID1) REQUEUE("old", ID1, ID2) ACTIVE("old", ID2, "1") SMTP("new", ID3)
              FORWARDED(ID2, "a@example.com", ID3) ACTIVE("new", ID3, "1") STORED(
                  "new", ID3, "a@example.com") REMOVED("new", ID3) REMOVED("old", ID2),
      "a@example.com delivered-new new\n", 1 },
    { "requeued by a pickup that does not say so",
      SMTP("old", ID1) ACTIVE("old", ID1, "1") TO("old", "pipe", ID1, "a@example.com",
                                                  "deferred (mailbox is being moved)")
          SUPER("old", ID1, "requeued") "12:00:04 old postfix/pickup[3]: " ID2
                                        ": uid=102 from=<s@x.test>\n"
                                        "12:00:04 old postfix/cleanup[8]: " ID2
                                        ": message-id=<m1@x>\n" ACTIVE("old", ID2, "1")
                                            STORED("old", ID2, "a@example.com")
                                                REMOVED("old", ID2),
      "a@example.com delivered-old old\n", 1 },
    { "requeued, and another of the same sender has a Message-ID that begins so",
      "12:00:00 old postfix/smtpd[9]: " ID1 ": client=c[192.0.2.1]\n"
      "12:00:00 old postfix/cleanup[8]: " ID1 ": message-id=" HUNDRED
      "a@x>\n" ACTIVE("old", ID1, "1")
          TO("old", "pipe", ID1, "a@example.com", "deferred (mailbox is being moved)")
              SUPER("old", ID1, "requeued") "12:00:04 old postfix/pickup[3]: " ID2
                                            ": uid=102 from=<s@x.test>\n"
                                            "12:00:04 old postfix/cleanup[8]: " ID2
                                            ": message-id=" HUNDRED
                                            "b@x>\n" ACTIVE("old", ID2, "1")
                                                STORED("old", ID2, "b@example.com")
                                                    REMOVED("old", ID2),
      "a@example.com queued=maildrop old\nb@example.com delivered-old old\n", 2 },
    { "requeued, and lost",
      SMTP("old", ID1) ACTIVE("old", ID1, "1")
          TO("old", "pipe", ID1, "a@example.com", "deferred (mailbox is being moved)")
              REQUEUE("old", ID1, ID2) ACTIVE("old", ID2, "1") REMOVED("old", ID2),
      "a@example.com unknown old\n", 1 },
    { "requeued, and pickup does not run",
      SMTP("old", ID1) ACTIVE("old", ID1, "1")
          TO("old", "pipe", ID1, "a@example.com", "deferred (mailbox is being moved)")
              SUPER("old", ID1, "requeued"),
      "a@example.com queued=maildrop old\n", 1 },
    { "requeued and redirected by the virtual alias map",
      SMTP("old", ID1) VERDICT("old", ID1, "hold to=<a@example.com> home=locked from=<>")
          HOLD(ID1) REQUEUE("old", ID1, ID2) ACTIVE(
              "old", ID2, "1") "12:00:05 old postfix/sluice-forward/smtp[6]: " ID2
                               ": to=<a@tenant.test>, "
                               "orig_to=<a@example.com>, relay=t[192.0.2.7]:25, delay=1, "
                               "delays=0/0/0/1, "
                               "dsn=2.0.0, status=sent (250 ok)\n" REMOVED("old", ID2),
      "a@example.com redirected old to a@tenant.test\n", 1 },
    { "redirected by the milter",
      SMTP("old", ID1) VERDICT(
          "old", ID1,
          "redirect to=<a@example.com> home=new from=<s@x.test> new=<a@tenant.test>")
          ACTIVE("old", ID1, "1") TO("old", "sluice-forward/smtp", ID1, "a@tenant.test",
                                     "sent (250 ok)") REMOVED("old", ID1),
      "a@example.com redirected old to a@tenant.test\n", 1 },
    { "redirected, and the line is missing",
      SMTP("old", ID1) VERDICT(
          "old", ID1,
          "redirect to=<a@example.com> home=new from=<s@x.test> new=<a@tenant.test>")
          ACTIVE("old", ID1, "1") REMOVED("old", ID1),
      "a@example.com unknown old to a@tenant.test\n", 1 },
    { "with a copy",
      SMTP("old", ID1) VERDICT(
          "old", ID1,
          "deliver to=<a@example.com> home=old from=<s@x.test> copy=<c@tenant.test>")
          ACTIVE("old", ID1, "2") STORED("old", ID1, "a@example.com")
              TO("old", "sluice-forward/smtp", ID1, "c@tenant.test", "sent (250 ok)")
                  REMOVED("old", ID1),
      "a@example.com delivered-old old\na@example.com copy old to c@tenant.test\n", 1 },
    { "an alias of local(8), whose lines come first",
      SMTP("old", ID1)
          ACTIVE("old", ID1,
                 "1") "12:00:01 old postfix/cleanup[8]: " ID2
                      ": message-id=<m1@x>\n" ACTIVE("old", ID2, "2")
                          STORED("old", ID2, "a@example.com")
                              STORED("old", ID2, "b@example.com") REMOVED("old", ID2)
                                  TO("old", "local", ID1, "team@other.test",
                                     "sent (forwarded as " ID2 ")") REMOVED("old", ID1),
      "a@example.com delivered-old old\nb@example.com delivered-old old\n", 1 },
    { "a virtual alias of a mailbox",
      SMTP("old", ID1)
          VERDICT("old", ID1, "deliver to=<list@example.com> home=old from=<>")
              ACTIVE("old", ID1,
                     "2") "12:00:01 old postfix/lmtp[6]: " ID1 ": to=<a@example.com>, "
                          "orig_to=<list@example.com>, relay=r[192.0.2.9]:24, delay=1, "
                          "delays=0/0/0/1, "
                          "dsn=2.0.0, status=sent (250 2.0.0 <a@example.com> Saved)\n"
                          "12:00:01 old postfix/smtp[6]: " ID1 ": to=<x@else.test>, "
                          "orig_to=<list@example.com>, relay=r[192.0.2.9]:25, delay=1, "
                          "delays=0/0/0/1, "
                          "dsn=2.0.0, status=sent (250 ok)\n" REMOVED("old", ID1),
      "a@example.com delivered-old old\nlist@example.com sent-on old to x@else.test\n",
      1 },
    { "returned, with a notice",
      SMTP("old", ID1) ACTIVE("old", ID1, "1")
          TO("old", "lmtp", ID1, "a@example.com",
             "bounced (550 no such user)") "12:00:02 old postfix/bounce[2]: " ID1
                                           ": sender non-delivery notification: " ID2
                                           "\n" REMOVED("old", ID1),
      "a@example.com returned old noticed\n", 1 },
    { "too long in the queue",
      SMTP("old", ID1) ACTIVE("old", ID1, "1")
          TO("old", "lmtp", ID1, "a@example.com",
             "deferred (busy)") "12:00:02 old postfix/qmgr[7]: " ID1
                                ": from=<s@x.test>, status=expired, returned "
                                "to sender\n" REMOVED("old", ID1),
      "a@example.com returned old\n", 1 },
    { "deleted by an admin",
      SMTP("old", ID1) VERDICT("old", ID1, "hold to=<a@example.com> home=locked from=<>")
          HOLD(ID1) SUPER("old", ID1, "removed"),
      "a@example.com removed old\n", 1 },
    { "refused by a milter",
      SMTP("old", ID1) VERDICT(
          "old", ID1,
          "later to=<a@example.com> home=unknown from=<>") "12:00:00 old "
                                                           "postfix/cleanup[8]: " ID1
                                                           ": milter-reject: "
                                                           "END-OF-MESSAGE from "
                                                           "c[192.0.2.1]: 4.3.0 later; "
                                                           "from=<> to=<a@example.com> "
                                                           "proto=ESMTP helo=<x>\n",
      "", 0 },
    { "discarded by a filter",
      SMTP("old", ID1) VERDICT(
          "old", ID1,
          "deliver to=<a@example.com> home=old from=<>") "12:00:00 old "
                                                         "postfix/cleanup[8]: " ID1
                                                         ": milter-discard: "
                                                         "END-OF-MESSAGE from "
                                                         "c[192.0.2.1]: milter triggers "
                                                         "DISCARD action; from=<> "
                                                         "to=<a@example.com> "
                                                         "proto=ESMTP helo=<x>\n",
      "a@example.com discarded old\n", 1 },
    { "the client broke off",
      SMTP("old", ID1) VERDICT(
          "old", ID1,
          "deliver to=<a@example.com> from=<>") "12:00:09 old postfix/smtpd[9]: "
                                                "disconnect from c[192.0.2.1] ehlo=1 "
                                                "mail=1 rcpt=1 "
                                                "data=0/1 commands=3/4\n" LATER("old"),
      "", 0 },
    { "accepted, says smtpd, and nothing more",
      SMTP("old", ID1) VERDICT(
          "old", ID1,
          "deliver to=<a@example.com> from=<>") "12:00:09 old postfix/smtpd[9]: "
                                                "disconnect from c[192.0.2.1] ehlo=1 "
                                                "mail=1 rcpt=1 "
                                                "data=1 quit=1 commands=5\n" LATER("old"),
      "a@example.com unknown old\n", 1 },
    { "another process' session ends",
      SMTP("old", ID1) VERDICT(
          "old", ID1,
          "deliver to=<a@example.com> from=<>") "12:00:09 old postfix/smtpd[10]: "
                                                "disconnect from c[192.0.2.1] ehlo=1 "
                                                "mail=1 rcpt=1 "
                                                "data=1 quit=1 commands=5\n" LATER("old"),
      "", 0 },
    { "through a content filter",
      SMTP("old", ID1) VERDICT("old", ID1, "deliver to=<a@example.com> home=old from=<>")
          ACTIVE("old", ID1, "1") SMTP("old", ID2) ACTIVE(
              "old", ID2,
              "1") "12:00:01 old postfix/smtp[6]: " ID1 ": to=<a@example.com>, "
                   "relay=127.0.0.1[127.0.0.1]:10024, delay=1, delays=0/0/0/1, "
                   "dsn=2.0.0, "
                   "status=sent (250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 "
                   "Ok: queued as " ID2 ")\n" STORED("old", ID2, "a@example.com")
                       REMOVED("old", ID1) REMOVED("old", ID2),
      "a@example.com delivered-old old\n", 1 },
    { "delivered twice",
      SMTP("old", ID1) ACTIVE("old", ID1, "1") STORED("old", ID1, "a@example.com")
          STORED("old", ID1, "a@example.com") REMOVED("old", ID1),
      "a@example.com delivered-old old again\n", 1 },
    { "in the wrong place",
      SMTP("old", ID1) ACTIVE("old", ID1, "1") STORED("old", ID1, "wrong@example.com")
          REMOVED("old", ID1),
      "wrong@example.com wrong-place old\n", 1 },
    { "a host whose side is not known",
      SMTP("mx7", ID1) ACTIVE("mx7", ID1, "1") STORED("mx7", ID1, "a@example.com")
          REMOVED("mx7", ID1),
      "a@example.com delivered mx7\n", 1 },
    { "the log begins in the middle",
      TO("old", "lmtp", ID1, "a@example.com", "sent (250 2.0.0 Saved)")
          REMOVED("old", ID1),
      "a@example.com delivered-old old late\n", 1 },
    { "the log begins in the middle, most are done",
      ACTIVE("old", ID1, "9") TO("old", "lmtp", ID1, "a@example.com", "sent (250 Saved)")
          REMOVED("old", ID1),
      "a@example.com delivered-old old late\n", 1 },
    { "a short id is used again",
      SMTP("old", "4A1B2C3D4E") ACTIVE("old", "4A1B2C3D4E", "1")
          STORED("old", "4A1B2C3D4E", "a@example.com") REMOVED("old", "4A1B2C3D4E")
              SMTP("old", "4A1B2C3D4E") ACTIVE("old", "4A1B2C3D4E", "1") STORED(
                  "old", "4A1B2C3D4E", "b@example.com") REMOVED("old", "4A1B2C3D4E"),
      "a@example.com delivered-old old\nb@example.com delivered-old old\n", 2 },
    { "a short id on two hosts",
      SMTP("old", "4A1B2C3D4E") SMTP("new", "4A1B2C3D4E") ACTIVE("old", "4A1B2C3D4E", "1")
          ACTIVE("new", "4A1B2C3D4E", "1") STORED("old", "4A1B2C3D4E", "a@example.com")
              STORED("new", "4A1B2C3D4E", "b@example.com") REMOVED("old", "4A1B2C3D4E")
                  REMOVED("new", "4A1B2C3D4E"),
      "a@example.com delivered-old old\nb@example.com delivered-new new\n", 2 },
    { "address verification is no mail",
      ACTIVE("old", ID1, "1") TO("old", "lmtp", ID1, "a@example.com",
                                 "deliverable (250 ok)") REMOVED("old", ID1),
      "", 0 },
    { "another address was made of it (canonical_maps)",
      SMTP("old", ID1)
          VERDICT("old", ID1, "deliver to=<a.b@example.com> home=old from=<>") ACTIVE(
              "old", ID1, "1") STORED("old", ID1, "ab@example.com") REMOVED("old", ID1),
      "ab@example.com delivered-old old\n", 1 },
    { "Sendmail delivers",
      SENDMAIL_FROM("old", SM1) SENDMAIL_TO("old", SM1, "local", "", "Sent"),
      "a@example.com delivered-old old\n", 1 },
    { "Sendmail delivers by LMTP",
      SENDMAIL_FROM("old", SM1) SENDMAIL_TO("old", SM1, "local", LMTP, "Sent"),
      "a@example.com delivered-old old\n", 1 },
    { "Sendmail, a list of its own",
      SENDMAIL_FROM("old", SM1) SM("old", SM1,
                                   "alias <list@example.com> => "
                                   "a@example.com, b@example.com, x@y.test")
          SENDMAIL_TO("old", SM1, "local", LMTP, "Sent")
              SM("old", SM1,
                 "to=b@example.com, delay=00:00:01, mailer=esmtp, pri=1, "
                 "relay=new. [192.0.2.9], dsn=4.0.0, stat=Deferred: no"),
      "a@example.com delivered-old old\nb@example.com queued=deferred "
      "old\nlist@example.com queued=active old to x@y.test\n",
      1 },
    { "Sendmail, one of a list has no line",
      SENDMAIL_FROM("old", SM1)
          SM("old", SM1, "alias <list@example.com> => a@example.com, b@example.com")
              SENDMAIL_TO("old", SM1, "local", LMTP, "Sent") SENDMAIL_DONE("old", SM1),
      "a@example.com delivered-old old\nb@example.com unknown old\n", 1 },
    { "Sendmail, a list with an owner",
      SENDMAIL_FROM("old", SM1) SM("old", SM1,
                                   "alias <list@example.com> => a@example.com")
          SM("old", SM1, SM2 ": clone: owner=o")
              SENDMAIL_TO("old", SM2, "local", LMTP, "Sent") SENDMAIL_DONE("old", SM2),
      "a@example.com delivered-old old\n", 1 },
    { "Sendmail, a list with an owner, below log level 10",
      SENDMAIL_FROM("old", SM1) SM("old", SM1, SM2 ": clone: owner=o")
          SENDMAIL_TO("old", SM2, "local", LMTP, "Sent") LATER("old"),
      "a@example.com delivered-old old\n", 1 },
    { "Sendmail, a list with an owner, at log level 10",
      SENDMAIL_FROM("old", SM1) SM("old", SM1, SM2 ": clone: owner=o")
          SENDMAIL_TO("old", SM2, "local", LMTP, "Sent") SENDMAIL_DONE("old", SM2),
      "a@example.com delivered-old old\n", 1 },
    { "Sendmail, .forward and a copy at home",
      SENDMAIL_FROM("old", SM1)
          SM("old", SM1, "forward <a@example.com> => \\\\a@example.com")
              SM("old", SM1, "forward <a@example.com> => z@y.test")
                  SENDMAIL_TO("old", SM1, "local", LMTP, "Sent")
                      SM("old", SM1,
                         "to=z@y.test, delay=00:00:01, mailer=esmtp, pri=1, "
                         "relay=y. [192.0.2.8], dsn=2.0.0, stat=Sent (ok)")
                          SENDMAIL_DONE("old", SM1),
      "a@example.com delivered-old old\na@example.com sent-on old to z@y.test\n", 1 },
    { "Sendmail, one of two has no line",
      SENDMAIL_TWO("old", SM1) SENDMAIL_TO("old", SM1, "local", LMTP, "Sent")
          SENDMAIL_DONE("old", SM1),
      "? unknown old\na@example.com delivered-old old\n", 1 },
    { "Sendmail, one of two has no line, below log level 10",
      SENDMAIL_TWO("old", SM1) SENDMAIL_TO("old", SM1, "local", LMTP, "Sent")
          LATER("old"),
      "? unknown old\na@example.com delivered-old old\n", 1 },
    { "Sendmail's rule quarantines it",
      SM("old", SM1,
         "ruleset=check_mail, arg1=<s@x.test>, relay=c [192.0.2.1], "
         "quarantine=odd") SENDMAIL_FROM("old", SM1) LATER("old"),
      "? queued=hold old\n", 1 },
    { "Sendmail, a milter quarantines it, and somebody releases it",
      SENDMAIL_FROM("old", SM1) SM("old", SM1, "milter=sluice, quarantine=x")
          SM("old", SM1, "unquarantine") SENDMAIL_TO("old", SM1, "local", LMTP, "Sent"),
      "a@example.com delivered-old old\n", 1 },
    { "Sendmail, a milter refuses it",
      SENDMAIL_FROM("old", SM1) SM("old", SM1, "Milter: data, reject=451 4.3.0 later")
          SM("old", SM1, "to=<a@example.com>, delay=00:00:00, pri=1, stat=later"),
      "", 0 },
    { "Sendmail, a rule discards it",
      SENDMAIL_FROM("old", SM1)
          SM("old", SM1, "to=<a@example.com>, delay=00:00:00, pri=1, stat=discarded"),
      "a@example.com discarded old\n", 1 },
    { "Sendmail sends it back, to a mailbox of ours",
      SENDMAIL_FROM("old", SM1)
          SM("old", SM1,
             "to=<a@example.com>, delay=00:00:01, mailer=esmtp, pri=1, "
             "relay=new. [192.0.2.9], dsn=5.1.1, reply=550 no, stat=User unknown")
              SM("old", SM1, SM2 ": DSN: User unknown")
                  SM("old", SM2,
                     "to=<b@example.com>, delay=00:00:00, mailer=local, pri=1, "
                     "dsn=2.0.0, stat=Sent"),
      "a@example.com returned old noticed\nb@example.com delivered-old old\n", 2 },
    { "sendmail(1) gives it to the daemon",
      "12:00:00 old sendmail[9]: " SM1 ": from=joe, size=9, class=0, nrcpts=1, "
      "msgid=<m1@x>, relay=joe@localhost\n" SENDMAIL_FROM("old", SM2)
          SM("old", SM1,
             "to=a@example.com, ctladdr=joe (1/1), delay=00:00:01, "
             "mailer=relay, pri=1, relay=[127.0.0.1] [127.0.0.1], dsn=2.0.0, "
             "stat=Sent (" SM2 " Message accepted for delivery)")
              SENDMAIL_TO("old", SM2, "local", LMTP, "Sent"),
      "a@example.com delivered-old old\n", 1 },
    { "Sendmail keeps it",
      SENDMAIL_FROM("old", SM1)
          SENDMAIL_TO("old", SM1, "esmtp", ", relay=new. [192.0.2.9]",
                      "Deferred: Connection refused by new."),
      "a@example.com queued=deferred old\n", 1 },
    { "from Sendmail to Postfix",
      SENDMAIL_FROM("old", SM1) SMTP("new", ID2) ACTIVE("new", ID2, "1") SENDMAIL_TO(
          "old", SM1, "esmtp", ", relay=new. [192.0.2.9]", "Sent (Ok: queued as " ID2 ")")
          STORED("new", ID2, "a@example.com") REMOVED("new", ID2),
      "a@example.com delivered-new new\n", 1 },
    { "from Postfix to Sendmail",
      SMTP("old", ID1) ACTIVE("old", ID1, "1") SENDMAIL_FROM("new", SM1)
          TO("old", "sluice-forward/smtp", ID1, "a@example.com",
             "sent (250 2.0.0 " SM1 " Message accepted for delivery)") REMOVED("old", ID1)
              SENDMAIL_TO("new", SM1, "local", "", "Sent"),
      "a@example.com delivered-new new\n", 1 },
    { "removed, and no line says for whom", SMTP("old", ID1) REMOVED("old", ID1),
      "? unknown old\n", 1 },
};

static void test_cases(void)
{
    for (size_t i = 0; i < sizeof(mail) / sizeof(mail[0]); i++) {
        static struct test test;
        run(mail[i].lines, -1, &test);
        CHECK_STR(mail[i].name, test.rows, mail[i].rows);
        CHECK_INT(mail[i].name, test.messages, mail[i].messages);
    }
}

/* Whatever line is lost, the message does not vanish; where the line was its delivery,
 * it is without a fate. */
static void test_a_line_is_lost(void)
{
    static const char lines[] = SMTP("old", ID1)
        VERDICT("old", ID1, "hold to=<a@example.com> home=locked from=<>") HOLD(ID1)
            REQUEUE("old", ID1, ID2) ACTIVE("old", ID2, "1") SMTP("new", ID3)
                FORWARDED(ID2, "a@example.com", ID3) ACTIVE("new", ID3, "1")
                    STORED("new", ID3, "a@example.com") REMOVED("new", ID3)
                        REMOVED("old", ID2) LATER("new") LATER("old");
    static struct test test;
    int count = run(lines, -1, &test), unknown = 0;
    CHECK_STR("all lines", test.rows, "a@example.com delivered-new new\n");
    for (int skip = 0; skip < count; skip++) {
        run(lines, skip, &test);
        if (!strstr(test.rows, "a@example.com "))
            printf("\n  without line %d: \"%s\"\n", skip, test.rows);
        CU_ASSERT(strstr(test.rows, "a@example.com ") != NULL);
        unknown += strstr(test.rows, "unknown") != NULL;
    }
    /* Its delivery; and pickup's and smtp's lines, that lead from one id to the next. */
    CU_ASSERT(unknown >= 2);
}

/* Bytes of every case changed at random: no crash, and what is no line is refused. */
static void test_hostile_lines(void)
{
    static struct test test;
    uint32_t state = 1;
    for (unsigned turn = 0; turn < 60; turn++)
        for (size_t i = 0; i < sizeof(mail) / sizeof(mail[0]); i++) {
            struct ledger *ledger = begin(&test);
            for (const char *lines = mail[i].lines; *lines;) {
                char text[2048];
                size_t len = strcspn(lines, "\n");
                int n = snprintf(text, sizeof(text), "Nov 22 %.*s", (int)len, lines);
                lines += len + 1;
                for (unsigned change = 0; change < turn % 4; change++) {
                    state = state * 1664525 + 1013904223;
                    text[(state >> 8) % (unsigned)n] = (char)(state >> 24);
                }
                (void)give(ledger, text, (size_t)n);
            }
            CU_ASSERT(ledger_end(ledger));
            ledger_free(ledger);
        }
}

/* Lines of every case in any order, some twice: no crash, no leak. */
static void test_any_order(void)
{
    static struct test test;
    uint32_t state = 7;
    for (unsigned turn = 0; turn < 40; turn++)
        for (size_t i = 0; i < sizeof(mail) / sizeof(mail[0]); i++) {
            const char *lines[32];
            size_t count = 0;
            struct ledger *ledger = begin(&test);
            for (const char *at = mail[i].lines; *at && count < 32;
                 at = strchr(at, '\n') + 1)
                lines[count++] = at;
            for (size_t n = 0; n < count + turn % 5; n++) {
                char text[2048];
                state = state * 1664525 + 1013904223;
                const char *line = lines[(state >> 8) % count];
                int len = snprintf(text, sizeof(text), "Nov 22 %.*s",
                                   (int)strcspn(line, "\n"), line);
                CU_ASSERT(give(ledger, text, (size_t)len));
            }
            CU_ASSERT(ledger_end(ledger));
            ledger_free(ledger);
        }
}

/* Nothing takes longer than in proportion: 40,000 recipients, handed over one by one. */
static void test_many_recipients(void)
{
    enum { COUNT = 40000 };
    static struct test test;
    struct ledger *ledger = begin(&test);
    char text[512];
    test.len = sizeof(test.rows) - 1; /* rows are not looked at */
    int n =
        snprintf(text, sizeof(text),
                 "Nov 22 12:00:00 old postfix/cleanup[8]: " ID1 ": message-id=<m1@x>");
    CU_ASSERT(give(ledger, text, (size_t)n));
    for (int i = 0; i < COUNT; i++) {
        n = snprintf(
            text, sizeof(text),
            "Nov 22 12:00:01 old postfix/sluice-forward/smtp[6]: " ID1
            ": to=<u%d@example.com>, relay=r[192.0.2.9]:25, delay=1, delays=0/0/0/1, "
            "dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 5jXNy31Ftg%05dz)",
            i, i / 2 + 10000);
        CU_ASSERT(give(ledger, text, (size_t)n));
    }
    CU_ASSERT(ledger_end(ledger));
    CHECK_INT("hops", ledger_counts(ledger)->hops, 1 + COUNT / 2);
    CHECK_INT("messages", test.messages, 1);
    ledger_free(ledger);
}

/* What is done is forgotten: ten minutes of the log are kept. */
static void test_memory(void)
{
    static struct test test;
    struct ledger *ledger = begin(&test);
    for (int i = 0; i < 20000; i++) {
        int id = i % 10000, lens[3];
        char at[40], parts[3][300];
        (void)snprintf(at, sizeof(at), "Nov 22 %02d:%02d:%02d old postfix", i / 3600,
                       i / 60 % 60, i % 60);
        lens[0] =
            snprintf(parts[0], sizeof(parts[0]),
                     "%s/cleanup[8]: 4jXNy31Ftgz%04d: message-id=<m%d@x>", at, id, i);
        lens[1] = snprintf(parts[1], sizeof(parts[1]),
                           "%s/lmtp[6]: 4jXNy31Ftgz%04d: to=<u%d@example.com>, "
                           "relay=r[192.0.2.9]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, "
                           "status=sent (250 Saved)",
                           at, id, i);
        lens[2] = snprintf(parts[2], sizeof(parts[2]),
                           "%s/qmgr[7]: 4jXNy31Ftgz%04d: removed", at, id);
        for (int part = 0; part < 3; part++)
            CU_ASSERT(give(ledger, parts[part], (size_t)lens[part]));
        test.len = 0;
    }
    CU_ASSERT(ledger_end(ledger));
    CHECK_INT("messages", test.messages, 20000);
    CU_ASSERT(ledger_counts(ledger)->most_in_memory < 700);
    ledger_free(ledger);
}

UNIT_MAIN("audit", { "cases", test_cases }, { "a line is lost", test_a_line_is_lost },
          { "hostile lines", test_hostile_lines }, { "any order", test_any_order },
          { "many recipients", test_many_recipients }, { "memory", test_memory })
