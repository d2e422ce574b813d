/*
 * make_log: a large Postfix log with the mail of a busy server, for measurements.
 *
 * Usage: make_log MEGABYTES [FORWARD_PERMILLE [iso]] > mail.log
 *
 * Messages overlap as on a real server: forty are under way at a time, their lines
 * mixed. Of a message there are connect, TLS, client=, message-id=, the milter's
 * verdict, qmgr, one delivery in ten deferred at first, removed, disconnect;
 * beside them refused connections, statistics and warnings. FORWARD_PERMILLE
 * (default 20) of the messages go to the new server by sluice-forward. The same
 * arguments make the same bytes. The last line is of 2026-11-22 09:00.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LANES   40
#define END     1795338000  /* 2026-11-22 09:00 UTC */
#define PER_GB  (4 * 86400) /* seconds of log in a gigabyte */
#define MAILBOX 2000
#define HOSTS   3000

struct lane {
    int step;
    char id[20];
    unsigned mailbox, client;
    bool forward, deferred, user;
    int pid;
};

static uint64_t state = 42;
static struct lane lanes[LANES];
static uint64_t written, messages;
static int64_t now_us;
static bool iso;
static char minute_text[32];

static uint32_t rnd(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 11) % below);
}

/* As src/global/mail_queue.h: seconds, microseconds, 'z', inode, in base 52. */
static void make_id(char *out)
{
    static const char digits[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
    uint64_t parts[2] = { (uint64_t)now_us / 1000000, (uint64_t)now_us % 1000000 };
    size_t len[2] = { 6, 4 };
    char *p = out;
    for (int i = 0; i < 2; i++, p += len[i - 1])
        for (size_t n = len[i]; n-- > 0; parts[i] /= 51)
            p[n] = digits[parts[i] % 51];
    *p++ = 'z';
    uint64_t inode = 100000 + rnd(5000000);
    for (int n = 0; n < 4; n++, inode /= 51)
        *p++ = digits[inode % 51];
    *p = '\0';
}

static void stamp(void)
{
    static int64_t last = -1;
    int64_t s = now_us / 1000000;
    if (s != last) {
        time_t t = (time_t)s;
        struct tm tm;
        gmtime_r(&t, &tm);
        strftime(minute_text, sizeof(minute_text),
                 iso ? "%Y-%m-%dT%H:%M:%S" : "%b %e %H:%M:%S", &tm);
        last = s;
    }
    int n = iso ? printf("%s.%06d+00:00 mx1 ", minute_text, (int)(now_us % 1000000))
                : printf("%s mx1 ", minute_text);
    written += (uint64_t)n;
}

#define LINE(...)                                                                        \
    do {                                                                                 \
        stamp();                                                                         \
        written += (uint64_t)printf(__VA_ARGS__);                                        \
    } while (0)

static void noise(const struct lane *l)
{
    unsigned c = rnd(250);
    switch (rnd(6)) {
    case 0:
        LINE("postfix/smtpd[%d]: NOQUEUE: reject: RCPT from unknown[198.51.100.%u]: 554 "
             "5.7.1 Service unavailable; Client host [198.51.100.%u] blocked using "
             "zen.example.org; from=<x%u@spam.test> to=<u%u@example.com> proto=ESMTP "
             "helo=<host%u.spam.test>\n",
             l->pid, c, c, c, rnd(MAILBOX), c);
        break;
    case 1:
        LINE("postfix/smtpd[%d]: warning: hostname h%u.spam.test does not resolve to "
             "address 198.51.100.%u: Name or service not known\n",
             l->pid, c, c);
        break;
    case 2:
        LINE(
            "postfix/smtpd[%d]: lost connection after AUTH from unknown[198.51.100.%u]\n",
            l->pid, c);
        break;
    case 3:
        LINE("postfix/postscreen[811]: CONNECT from [198.51.100.%u]:%u to "
             "[192.0.2.1]:25\n",
             c, 1024 + rnd(60000));
        break;
    case 4:
        LINE("postfix/anvil[902]: statistics: max connection rate 3/60s for "
             "(smtp:198.51.100.%u) at Nov 20 09:14:32\n",
             c);
        break;
    default:
        LINE("dovecot: imap-login: Login: user=<u%u@example.com>, method=PLAIN, "
             "rip=198.51.100.%u, lip=192.0.2.1, mpid=%u, TLS, session=<kX%u>\n",
             rnd(MAILBOX), c, rnd(60000), rnd(1000000));
    }
}

static void delivery(const struct lane *l, bool deferred)
{
    const char *status =
        deferred ? "dsn=4.4.1, status=deferred (connect to backend: Connection refused)"
                 : "dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4XyZ12abcdz1Qk)";
    if (l->forward)
        LINE("postfix/sluice-forward/smtp[%d]: %s: to=<u%u@example.com>, "
             "relay=mx.new.example[203.0.113.5]:25, delay=0.%u, delays=0.1/0/0.1/0.2, "
             "%s\n",
             l->pid + 3, l->id, l->mailbox, rnd(90), status);
    else
        LINE("postfix/lmtp[%d]: %s: to=<u%u@example.com>, "
             "relay=mail.example.com[private/dovecot-lmtp], delay=0.%u, "
             "delays=0.1/0/0.1/0.2, %s\n",
             l->pid + 3, l->id, l->mailbox, rnd(90), status);
}

static void arrival(struct lane *l)
{
    if (l->user)
        LINE("postfix/submission/smtpd[%d]: %s: client=h%u.senders.test[203.0.%u.%u], "
             "sasl_method=PLAIN, sasl_username=u%u@example.com\n",
             l->pid, l->id, l->client, 113 + l->client / 250, l->client % 250,
             l->client % MAILBOX);
    else
        LINE("postfix/smtpd[%d]: %s: client=h%u.senders.test[203.0.%u.%u]\n", l->pid,
             l->id, l->client, 113 + l->client / 250, l->client % 250);
}

static void step(struct lane *l)
{
    switch (l->step++) {
    case 0:
        make_id(l->id);
        l->mailbox = rnd(MAILBOX);
        l->client = rnd(HOSTS) * rnd(HOSTS) / HOSTS;
        l->user = rnd(5) == 0;
        l->deferred = rnd(10) == 0;
        l->pid = 1000 + (int)rnd(30000);
        messages++;
        LINE("postfix/smtpd[%d]: connect from h%u.senders.test[203.0.%u.%u]\n", l->pid,
             l->client, 113 + l->client / 250, l->client % 250);
        break;
    case 1:
        LINE("postfix/smtpd[%d]: Anonymous TLS connection established from "
             "h%u.senders.test[203.0.%u.%u]: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 "
             "(256/256 bits) key-exchange X25519 server-signature RSA-PSS (2048 bits)\n",
             l->pid, l->client, 113 + l->client / 250, l->client % 250);
        break;
    case 2:
        arrival(l);
        break;
    case 3:
        LINE("postfix/cleanup[%d]: %s: message-id=<%u.%u@h%u.senders.test>\n", l->pid + 1,
             l->id, rnd(1000000), rnd(1000000), l->client);
        break;
    case 4:
        LINE(
            "sluice-milter[700]: %s: verdict=%s to=<u%u@example.com> home=%s "
            "from=<s%u@senders.test> client=[203.0.%u.%u] helo=h%u.senders.test spf=pass "
            "dkim=pass dmarc=%s header-from=senders.test\n",
            l->id, l->forward ? "forward" : "deliver", l->mailbox,
            l->forward ? "new" : "old", l->client, 113 + l->client / 250, l->client % 250,
            l->client, l->client % 10 ? "pass" : "fail");
        break;
    case 5:
        LINE("postfix/qmgr[650]: %s: from=<s%u@senders.test>, size=%u, nrcpt=1 (queue "
             "active)\n",
             l->id, l->client, 900 + rnd(90000));
        break;
    case 6:
        LINE("postfix/smtpd[%d]: disconnect from h%u.senders.test[203.0.%u.%u] ehlo=2 "
             "starttls=1 mail=1 rcpt=1 data=1 quit=1 commands=7\n",
             l->pid, l->client, 113 + l->client / 250, l->client % 250);
        break;
    case 7:
        if (l->deferred)
            delivery(l, true);
        else
            noise(l);
        break;
    case 8:
        delivery(l, false);
        break;
    default:
        LINE("postfix/qmgr[650]: %s: removed\n", l->id);
        l->step = 0;
    }
}

int main(int argc, char **argv)
{
    uint64_t size = argc > 1 ? strtoull(argv[1], NULL, 10) << 20 : 0;
    uint32_t permille = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 20;
    iso = argc > 3 && strcmp(argv[3], "iso") == 0;
    if (size == 0) {
        fputs("usage: make_log MEGABYTES [FORWARD_PERMILLE [iso]]\n", stderr);
        return 64;
    }
    int64_t span = (int64_t)((double)size / (1 << 30) * PER_GB) + 60;
    int64_t begin = (END - span) * INT64_C(1000000);
    while (written < size) {
        now_us = begin + (int64_t)((double)written / (double)size * (double)span * 1e6);
        struct lane *l = &lanes[rnd(LANES)];
        if (l->step == 0)
            l->forward = rnd(1000) < permille;
        step(l);
    }
    fprintf(stderr, "%" PRIu64 " messages\n", messages);
    return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
