/* Received lines as the MTAs write them, and what clients try to put in. */
#include <stdlib.h>

#include "../../milter/received.h"
#include "unit.h"

#define UNREADABLE NULL
#define LOCAL      "local"

/* client: its address, LOCAL or UNREADABLE. */
static void check(const char *value, size_t len, const char *client, const char *helo,
                  bool authenticated)
{
    struct received got;
    char text[NETADDR_TEXT_MAX + 1];
    char *exact = malloc(len ? len : 1); /* so that a read past the end is seen */

    memcpy(exact, value, len);
    memset(&got, 'x', sizeof(got));
    bool read = received_parse(exact, len, &got);
    free(exact);
    const char *is = !read                            ? "unreadable"
                     : got.client.family == AF_UNSPEC ? LOCAL
                                                      : netaddr_format(&got.client, text);
    CHECK_STR(value, is, client ? client : "unreadable");
    CHECK_STR(value, got.helo, helo);
    CHECK_INT(value, got.authenticated, authenticated);
}

struct line {
    const char *value, *client, *helo;
    bool authenticated;
};

static void check_all(const struct line *lines, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check(lines[i].value, strlen(lines[i].value), lines[i].client, lines[i].helo,
              lines[i].authenticated);
}

#define CHECK_ALL(lines) check_all(lines, sizeof(lines) / sizeof((lines)[0]))

static void test_postfix(void)
{
    static const struct line lines[] = {
        { " from helo.example (rdns.example [192.0.2.1])\n\tby mx.example.com (Postfix) "
          "with ESMTP id 4XyZ\n\tfor <u@example.com>; Sun, 22 Nov 2026 06:00:00 +0000 "
          "(UTC)",
          "192.0.2.1", "helo.example", false },
        { " from helo (unknown [IPv6:2001:db8::1])\n\t(using TLSv1.3 with cipher "
          "TLS_AES_256_GCM_SHA384 (256/256 bits)\n\t key-exchange X25519 "
          "server-signature "
          "RSA-PSS (2048 bits))\n\t(No client certificate requested)\n\tby mx (Postfix) "
          "with "
          "ESMTPS id 1; Sun, 22 Nov 2026 06:00:00 +0000 (UTC)",
          "2001:db8::1", "helo", false },
        { "from [10.0.0.9] (host.example [192.0.2.1])\n\t(Authenticated sender: "
          "user@example.com)\n\tby mx (Postfix) with ESMTPSA id 1; date",
          "192.0.2.1", "[10.0.0.9]", true },
        { "from x (a.example [192.0.2.1])\n\t(Client CN \"by me\", Issuer \"[1.2.3.4]\" "
          "(not "
          "verified))\n\tby mx (Postfix) with UTF8SMTPSA id 1; date",
          "192.0.2.1", "x", true },
        { "from x (a.example [192.0.2.1]) (Client CN \"b [9.9.9.9]\", Issuer \"c\" "
          "(verified "
          "OK)) by mx (Postfix) with ESMTPS id 1; date",
          "192.0.2.1", "x", false },
        { "by mx.example.com (Postfix, from userid 0)\n\tid 4XyZ; Sun, 22 Nov 2026 "
          "06:00:00 +0000 (UTC)",
          LOCAL, "", false },
        { "from localhost (localhost [127.0.0.1])\n\tby pmg.example (Proxmox) with ESMTP "
          "id "
          "1\n\tfor <u@example.com>; date",
          "127.0.0.1", "localhost", false },
        { "from mail.example ([127.0.0.1])\n by localhost (mail.example [127.0.0.1]) "
          "(amavisd-new, port 10024)\n with LMTP id x; date",
          "127.0.0.1", "mail.example", false },
        { "FROM x (unknown [192.0.2.1]) BY mx WITH esmtpsa; date", "192.0.2.1", "x",
          true },
        { "from by (unknown [192.0.2.1]) by mx with SMTP; date", "192.0.2.1", "by",
          false },
        { "from from (unknown [192.0.2.1]) by mx with SMTP; d", "192.0.2.1", "from",
          false },
        { "from x (unknown [::ffff:192.0.2.1]) by mx with SMTP; d", "192.0.2.1", "x",
          false },
    };
    CHECK_ALL(lines);
}

static void test_others(void)
{
    static const struct line lines[] = {
        /* Sendmail */
        { "from helo (rdns.example [192.0.2.1] (may be forged))\n\tby mx "
          "(8.15.2/8.15.2) with ESMTP id xAM; date",
          "192.0.2.1", "helo", false },
        { "from helo ([192.0.2.1])\n\tby mx (8.15.2/8.15.2) with ESMTP id xAM; date",
          "192.0.2.1", "helo", false },
        { "from helo (IDENT:joe@rdns.example [IPv6:2001:db8:0:0:0:0:0:1])\n\t"
          "(authenticated bits=0)\n\tby mx (8.15.2/8.15.2) with ESMTPSA id x",
          "2001:db8::1", "helo", true },
        { "(from root@localhost)\n\tby mx (8.15.2/8.15.2/Submit) id xAM; date", LOCAL, "",
          false },
        { "(from joe@rdns.example [192.0.2.1])\n\tby mx (8.15.2/8.15.2) id x; date",
          "192.0.2.1", "", false },
        /* Exim */
        { "from rdns.example ([192.0.2.1]:4711 helo=helo.example)\n\tby mx with esmtps  "
          "(TLS1.3)\n\ttls TLS_AES_256_GCM_SHA384\n\t(Exim 4.96)\n\t(envelope-from "
          "<a@example.org>)\n\tid 1abc-2def\n\tfor u@example.com; date",
          "192.0.2.1", "helo.example", false },
        { "from rdns.example ([192.0.2.1])\n\tby mx with esmtpsa (Exim 4.96) id 1; date",
          "192.0.2.1", "rdns.example", true },
        { "from [192.0.2.1] (helo=[10.0.0.1])\n\tby mx with esmtp (Exim 4.96) id 1; date",
          "192.0.2.1", "[10.0.0.1]", false },
        { "from [192.0.2.1]:4711 (helo=x ident=joe)\n\tby mx with asmtp (Exim 4.96) id 1",
          "192.0.2.1", "x", true },
        { "from [2001:db8::1] (port=4711 helo=x)\n\tby mx with esmtp (Exim 4.96) id 1",
          "2001:db8::1", "x", false },
        { "from [192.0.2.1]\n\tby mx with esmtp (Exim 4.96) id 1; date", "192.0.2.1", "",
          false },
        { "from joe by mx with local (Exim 4.96)\n\t(envelope-from <joe@mx>) id 1; date",
          LOCAL, "", false },
        /* Exchange, IIS */
        { "from EX1.corp.example (10.0.0.1) by EX2.corp.example (10.0.0.2) with "
          "Microsoft "
          "SMTP Server (version=TLS1_2, cipher=X) id 15.1.2507.6; date",
          "10.0.0.1", "EX1.corp.example", false },
        { "from A.outlook.example (2603:10b6:5:1::15) by B.outlook.example (fe80::1%3) "
          "with "
          "Microsoft SMTP Server id 15.20 via Frontend Transport; date",
          "2603:10b6:5:1::15", "A.outlook.example", false },
        { "from EX1 ([fe80::abcd%12]) by EX2 ([fe80::1]) with mapi id 14.03; date",
          "fe80::abcd", "EX1", false },
        { "from pc ([192.0.2.1]) by srv with Microsoft SMTPSVC(6.0.3790.4675); date",
          "192.0.2.1", "pc", false },
        /* qmail and its like */
        { "(qmail 12345 invoked from network); 22 Nov 2026 06:00:00 -0000", "127.0.0.1",
          "", false },
        { "(qmail 12345 invoked by uid 89); 22 Nov 2026 06:00:00 -0000", LOCAL, "",
          false },
        { "(qmail 12345 invoked by alias); 22 Nov 2026 06:00:00 -0000", UNREADABLE, "",
          false },
        { "from unknown (HELO helo.example) (192.0.2.1)\n  by mx with SMTP; date",
          "192.0.2.1", "helo.example", false },
        { "from rdns.example (HELO x) (joe@192.0.2.1)\n  by mx with ESMTPA; date",
          "192.0.2.1", "x", true },
        { "from rdns.example (192.0.2.1)\n  by mx with SMTP; date", "192.0.2.1",
          "rdns.example", false },
        { "from rdns.example (HELO x) ([192.0.2.1])\n  by esa.example with "
          "ESMTP/TLS/AES; d",
          "192.0.2.1", "x", false },
        { "from 127.0.0.1  (EHLO x.example) (192.0.2.1)\n  by mta with SMTPs; date",
          "192.0.2.1", "x.example", false },
        { "from [192.0.2.1] (HELO x) by mx (CommuniGate Pro SMTP 6.2) with ESMTP id 1",
          "192.0.2.1", "x", false },
        { "from host ([192.0.2.1] verified) by mx (CommuniGate Pro SMTP 6.2) with ESMTP "
          "id 1",
          "192.0.2.1", "host", false },
        /* Google, OpenSMTPD, Courier, Haraka, Domino, PowerMTA, MessageLabs */
        { "from mail-f41.google.example (mail-f41.google.example. [209.85.220.41])\n by "
          "mx.google.example with SMTPS id a1 for <u@example.com> (Google Transport "
          "Security); Sun, 22 Nov 2026 06:00:00 -0800 (PST)",
          "209.85.220.41", "mail-f41.google.example", false },
        { "by 2002:a05:6a10:1:2:3 with SMTP id abc; date", UNREADABLE, "", false },
        { "from 123 named unknown by gmailapi.google.example with HTTPREST; date",
          UNREADABLE, "", false },
        { "from x (<unknown> [192.0.2.1])\n\tby mx (OpenSMTPD) with ESMTPS id 1 "
          "(TLSv1.3:x:256:"
          "NO); date",
          "192.0.2.1", "x", false },
        { "from localhost (mx [local])\n\tby mx (OpenSMTPD) with ESMTPA id 1; date",
          LOCAL, "", true },
        { "from x (rdns [::ffff:192.0.2.1])\n (TLS: TLSv1.2,256bits,X)\n by mx with "
          "ESMTPS id 1",
          "192.0.2.1", "x", false },
        { "from x (NXDOMAIN [192.0.2.1])\n\tby mx (Haraka/2.8.25) with ESMTPSA id 1.2\n\t"
          "envelope-from <a@b> (authenticated bits=0)",
          "192.0.2.1", "x", true },
        { "from x ([192.0.2.1])\n by mx (Lotus Domino Release 8.5)\n with ESMTP id "
          "1-2;\n date",
          "192.0.2.1", "x", false },
        { "from x (192.0.2.1) by mx (PowerMTA(TM) v3.5r16) id h1 for <u@example.com>; "
          "date",
          "192.0.2.1", "x", false },
        { "from [192.0.2.1] (using TLSv1.2 with cipher X (256 bits)) by "
          "server-4.lab.example id "
          "5A/6F-1; date",
          "192.0.2.1", "", false },
        { "from pps.filterd (m1.example [127.0.0.1])\n\tby m1.example (8.17.1/8.17.1) "
          "with ESMTP "
          "id x; date",
          "127.0.0.1", "pps.filterd", false },
    };
    CHECK_ALL(lines);
}

/* HELO, the name in DNS, ident and recipient are the client's; the host is at
 * 192.0.2.1 and would be somebody else at 9.9.9.9. */
static void test_injected(void)
{
    static const struct line lines[] = {
        /* an MTA that lets HELO through as it is */
        { "from x (y [9.9.9.9]) (rdns [192.0.2.1]) by mx with SMTP", UNREADABLE, "",
          false },
        { "from x (y [9.9.9.9]) by z (rdns [192.0.2.1]) by mx with SMTP", UNREADABLE, "",
          false },
        { "from x (y [9.9.9.9]) by z; (rdns [192.0.2.1]) by mx with SMTP", UNREADABLE, "",
          false },
        { "from x (y [9.9.9.9]) by z ( (rdns [192.0.2.1]) by mx (P) with SMTP",
          UNREADABLE, "", false },
        { "from x (y [9.9.9.9]) by z ( (rdns [192.0.2.1]) by mx with SMTP for "
          "<a)@example.com>",
          UNREADABLE, "", false },
        { "from x (y [9.9.9.9]) by z (\\ (rdns [192.0.2.1])\n\tby mx with SMTP for "
          "<a)@b>",
          UNREADABLE, "", false },
        { "from x (y [9.9.9.9]) by z \" (rdns [192.0.2.1]) by mx for <\"a\"@example.com>",
          UNREADABLE, "", false },
        { "from x (y [9.9.9.9]) (rdns [192.0.2.1] helo=z) by mx with SMTP", UNREADABLE,
          "", false },
        { "from x (helo=[9.9.9.9]) (rdns [192.0.2.1]) by mx with SMTP", UNREADABLE, "",
          false },
        { "from [9.9.9.9] (helo=x) (rdns [192.0.2.1]) by mx with SMTP", UNREADABLE, "",
          false },
        { "from [9.9.9.9] by mx with SMTP; date", UNREADABLE, "", false },
        { "from [9.9.9.9] (helo=x) by z (unknown [192.0.2.1]) by mx", UNREADABLE, "",
          false },
        { "from [9.9.9.9] with local (Exim 4) by mx (rdns [192.0.2.1]) by mx", UNREADABLE,
          "", false },
        { "from [9.9.9.9] (unknown [192.0.2.1]) by mx with SMTP", "192.0.2.1",
          "[9.9.9.9]", false },
        { "from 9.9.9.9 (unknown [192.0.2.1]) by mx with SMTP", "192.0.2.1", "9.9.9.9",
          false },
        { "from [9.9.9.9]:25 (unknown [192.0.2.1]) by mx", "192.0.2.1", "[9.9.9.9]:25",
          false },
        /* the name in DNS */
        { "from x (y [9.9.9.9] [192.0.2.1]) by mx with SMTP", UNREADABLE, "", false },
        { "from x ([9.9.9.9] [192.0.2.1]) by mx with SMTP", UNREADABLE, "", false },
        { "from x (y[9.9.9.9] [192.0.2.1]) by mx with SMTP", UNREADABLE, "", false },
        { "from x (y) ([9.9.9.9]) ([192.0.2.1]) by mx with SMTP", UNREADABLE, "", false },
        { "from x (y [9.9.9.9]) (Client CN \" [192.0.2.1]) by mx with SMTP", UNREADABLE,
          "", false },
        /* Exim's junk HELO and ident */
        { "from [192.0.2.1] (helo=x [9.9.9.9]) by mx with SMTP (Exim 4)", UNREADABLE, "",
          false },
        { "from [192.0.2.1] (helo=x) (y [9.9.9.9]) by mx with SMTP (Exim 4)", UNREADABLE,
          "", false },
        { "from [192.0.2.1] (helo=x@9.9.9.9) by mx with SMTP (Exim 4)", "192.0.2.1",
          "x@9.9.9.9", false },
        { "from n ([192.0.2.1] helo=x) (y [9.9.9.9]) by mx (Exim 4)", UNREADABLE, "",
          false },
        { "from n ([192.0.2.1] helo=x ident=y helo=z) by mx (Exim 4)", UNREADABLE, "",
          false },
        { "from n ([192.0.2.1] helo=helo=x) by mx (Exim 4)", "192.0.2.1", "helo=x",
          false },
        /* qmail's likes */
        { "from n (HELO x) ([9.9.9.9]) ([192.0.2.1]) by esa with SMTP", UNREADABLE, "",
          false },
        { "from n (HELO x) ([9.9.9.9])) ([192.0.2.1]) by esa with SMTP", UNREADABLE, "",
          false },
        { "from n (HELO x) ([9.9.9.9]) (y) ([192.0.2.1]) by esa", UNREADABLE, "", false },
        { "from n (HELO x) (a@9.9.9.9@192.0.2.1)\n by mx with SMTP", "192.0.2.1", "x",
          false },
        { "from n (HELO [9.9.9.9]) (192.0.2.1) by mx", "192.0.2.1", "[9.9.9.9]", false },
        { "from n (HELO 9.9.9.9) by mx with SMTP", UNREADABLE, "", false },
        { "from x (Authenticated sender: y) (n [192.0.2.1]) by mx", UNREADABLE, "",
          false },
        /* a login that is none */
        { "from x (n [192.0.2.1]) by mx with SMTP for <a> with ESMTPA", "192.0.2.1", "x",
          false },
        { "from with (n [192.0.2.1]) by mx with SMTP", "192.0.2.1", "with", false },
    };
    CHECK_ALL(lines);
}

static void test_malformed(void)
{
    static const struct line lines[] = {
        { "", UNREADABLE, "", false },
        { " \t\r\n", UNREADABLE, "", false },
        { "from", UNREADABLE, "", false },
        { "by", UNREADABLE, "", false },
        { "from by", UNREADABLE, "", false },
        { "from (", UNREADABLE, "", false },
        { "from x (n [192.0.2.1])", UNREADABLE, "", false },
        { "from x (n [192.0.2.1]", UNREADABLE, "", false },
        { "from x (n [192.0.2.1])) by mx", UNREADABLE, "", false },
        { "from x (n [192.0.2.1]\\) by mx", UNREADABLE, "", false },
        { "from x (n [192.0.2.256]) by mx", UNREADABLE, "", false },
        { "from x (n [192.0.2.1) by mx", UNREADABLE, "", false },
        { "from x (n []) by mx", UNREADABLE, "", false },
        { "from x () by mx", UNREADABLE, "", false },
        { "from x (n [192.0.2.1]:) by mx", UNREADABLE, "", false },
        { "from x (n [192.0.2.1]:2x) by mx", UNREADABLE, "", false },
        { "from x (n [unix socket]) by mx with LMTPA", UNREADABLE, "", false },
        { "from x (n [192.0.2.1]) by mx (a\x01) with SMTP", UNREADABLE, "", false },
        { "from x\x7f (n [192.0.2.1]) by mx", UNREADABLE, "", false },
        { "from x (n [192.0.2.1]) from y by mx", UNREADABLE, "", false },
        { "from x (n [192.0.2.1]) y by mx", UNREADABLE, "", false },
        { "(from root@localhost)", UNREADABLE, "", false },
        { "(qmail 1 invoked from network) by mx", UNREADABLE, "", false },
        { "(qmail 1 invented from network); date", UNREADABLE, "", false },
        { "(qmail)", UNREADABLE, "", false },
        { "()", UNREADABLE, "", false },
        { "from x ( n\r\n\t[192.0.2.1] ) by mx", "192.0.2.1", "x", false },
    };
    CHECK_ALL(lines);
    check("from x\0y (n [192.0.2.1]) by mx", 31, UNREADABLE, "", false);
    check("from x (n [192.0.2.1\0]) by mx", 29, UNREADABLE, "", false);
}

static void test_sizes(void)
{
    static char text[RECEIVED_MAX + 600];
    char helo[300];

    memset(helo, 'h', sizeof(helo));
    for (int extra = 0; extra < 2; extra++) {
        int len = 255 + extra;
        snprintf(text, sizeof(text), "from %.*s (n [192.0.2.1]) by mx", len, helo);
        helo[len] = '\0';
        check(text, strlen(text), "192.0.2.1", extra ? "" : helo, false);
        helo[len] = 'h';
    }
    memset(text, ' ', sizeof(text));
    memcpy(text, "from x (n [192.0.2.1]) by mx", 28);
    check(text, RECEIVED_MAX, "192.0.2.1", "x", false);
    check(text, RECEIVED_MAX + 1, UNREADABLE, "", false);
    memset(text, '(', sizeof(text));
    check(text, RECEIVED_MAX, UNREADABLE, "", false);
    memset(text + RECEIVED_MAX / 2, ')', RECEIVED_MAX / 2);
    check(text, RECEIVED_MAX, UNREADABLE, "", false);
    /* More comments than anybody writes, before "by" and behind it. */
    char *p = text + snprintf(text, 100, "from x (n [192.0.2.1])");
    for (int i = 0; i < 100; i++)
        p += snprintf(p, 8, "(c)");
    snprintf(p, 8, " by mx");
    check(text, strlen(text), UNREADABLE, "", false);
    p = text + snprintf(text, 100, "from x (n [192.0.2.1]) by mx");
    for (int i = 0; i < 100; i++)
        p += snprintf(p, 8, " (c)");
    check(text, strlen(text), "192.0.2.1", "x", false);
}

UNIT_MAIN("received", { "Postfix", test_postfix }, { "others", test_others },
          { "injected", test_injected }, { "malformed", test_malformed },
          { "sizes", test_sizes })
