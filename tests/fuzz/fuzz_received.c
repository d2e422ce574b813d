/*
 * The Received parser. Input is the text of a client, as HELO, as its name in
 * DNS, or as both, in lines of MTAs that would let all of it through: what comes
 * out is the address the host wrote, or nothing. With Postfix's own cleaning it
 * is always that address.
 *
 * Sources: milter/received.c lib/netaddr.c
 */
#include "../../milter/received.h"
#include "fuzz.h"

#define LINE_MAX_BYTES 20000

/* format has one %s for the client's text. */
static bool read_line(const char *before, const char *text, size_t len, const char *after,
                      struct received *out)
{
    size_t a = strlen(before), b = strlen(after);
    char *line = malloc(a + len + b);

    HOLDS(line);
    memcpy(line, before, a);
    memcpy(line + a, text, len);
    memcpy(line + a + len, after, b);
    bool read = received_parse(line, a + len + b, out);
    free(line);
    return read;
}

static bool is_host_address(const struct received *received)
{
    static const unsigned char address[4] = { 192, 0, 2, 1 };
    return received->client.family == AF_INET &&
           memcmp(received->client.bytes, address, 4) == 0;
}

static void check_injected(const char *text, size_t len)
{
    static const char *const lines[][2] = {
        { "from ", " (n.example [192.0.2.1]) by mx (Postfix) with ESMTP id 1; date" },
        { "from ", " ([192.0.2.1]) by mx (8.17/8.17) with ESMTP id 1; date" },
        { "from ", " (192.0.2.1) by mx with SMTP id 1; date" },
        { "from x (", " [192.0.2.1] (may be forged)) by mx with ESMTP id 1; date" },
        { "from x (", "@n.example [192.0.2.1]) by mx with ESMTP id 1; date" },
        { "from n.example ([192.0.2.1] helo=", ") by mx with esmtp (Exim 4.96) id 1" },
        { "from [192.0.2.1] (helo=", ") by mx with esmtp (Exim 4.96) id 1; date" },
        { "from n.example (HELO ", ") (192.0.2.1) by mx with SMTP; date" },
        { "from n.example (HELO ", ") ([192.0.2.1]) by mx with ESMTP; date" },
    };
    struct received received;

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (read_line(lines[i][0], text, len, lines[i][1], &received))
            HOLDS(is_host_address(&received));
}

/* As Postfix cleans HELO (src/smtpd/smtpd.c, NEUTER_CHARACTERS). */
static void check_postfix(char *text, size_t len)
{
    struct received received;

    for (size_t i = 0; i < len; i++)
        if (text[i] < 33 || text[i] > 126 || strchr("<>()\\\";@", text[i]))
            text[i] = '?';
    bool read = read_line("from ", text, len,
                          " (unknown [192.0.2.1])\n\tby mx.example.com (Postfix) with "
                          "ESMTP id 1; Sun, 22 Nov 2026 06:00:00 +0000 (UTC)",
                          &received);
    if (len == 0 || len > 10000)
        return;
    HOLDS(read && is_host_address(&received) && !received.authenticated);
    if (len < sizeof(received.helo))
        HOLDS(strlen(received.helo) == len && memcmp(received.helo, text, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct received received;
    char *text = exact_copy(data, size);

    bool read = received_parse(text, size, &received);
    HOLDS(memchr(received.helo, '\0', sizeof(received.helo)));
    if (!read)
        HOLDS(received.client.family == AF_UNSPEC && !received.helo[0]);
    check_injected(text, size);
    check_postfix(text, size);
    free(text);
    return 0;
}
