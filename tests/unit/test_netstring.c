/* Netstrings: whole, in pieces, and what is refused. */
#include <stdlib.h>

#include "netstring.h"
#include "unit.h"

static void test_parse(void)
{
    static const struct {
        const char *text;
        enum netstring want;
        const char *payload; /* of DONE */
        size_t consumed;
    } cases[] = {
        { "0:,", NETSTRING_DONE, "", 3 },
        { "5:hello,", NETSTRING_DONE, "hello", 8 },
        { "5:hello,3:abc,", NETSTRING_DONE, "hello", 8 },
        { "3:a,b,x", NETSTRING_DONE, "a,b", 6 },
        { "16:0123456789abcdef,", NETSTRING_DONE, "0123456789abcdef", 20 },
        { "", NETSTRING_MORE, NULL, 0 },
        { "1", NETSTRING_MORE, NULL, 0 },
        { "5:", NETSTRING_MORE, NULL, 0 },
        { "5:hello", NETSTRING_MORE, NULL, 0 },
        { "17:0123456789abcdef0,", NETSTRING_BAD, NULL, 0 }, /* max is 16 */
        { "17", NETSTRING_BAD, NULL, 0 },
        { "99999999999999999999999", NETSTRING_BAD, NULL, 0 },
        { "18446744073709551617:a,", NETSTRING_BAD, NULL, 0 },
        { "05:hello,", NETSTRING_BAD, NULL, 0 },
        { "00:,", NETSTRING_BAD, NULL, 0 },
        { ":,", NETSTRING_BAD, NULL, 0 },
        { "-1:a,", NETSTRING_BAD, NULL, 0 },
        { " 1:a,", NETSTRING_BAD, NULL, 0 },
        { "1 :a,", NETSTRING_BAD, NULL, 0 },
        { "1;a,", NETSTRING_BAD, NULL, 0 },
        { "1:ab", NETSTRING_BAD, NULL, 0 },
        { "0:x", NETSTRING_BAD, NULL, 0 },
        { "GET / HTTP/1.1\r\n", NETSTRING_BAD, NULL, 0 },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *payload = "";
        size_t len = 0, consumed = 0;
        size_t size = strlen(cases[i].text);
        char *exact = malloc(size ? size : 1);
        memcpy(exact, cases[i].text, size);
        enum netstring got = netstring_parse(exact, size, 16, &payload, &len, &consumed);
        CHECK_INT(cases[i].text, got, cases[i].want);
        if (got == NETSTRING_DONE && cases[i].payload) {
            CHECK_INT(cases[i].text, len, strlen(cases[i].payload));
            CU_ASSERT(memcmp(payload, cases[i].payload, len) == 0);
            CHECK_INT(cases[i].text, consumed, cases[i].consumed);
        }
        free(exact);
    }
}

/* Every prefix of a good one asks for more. */
static void test_pieces(void)
{
    static const char text[] = "12:virtual a@b ,";

    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        const char *payload;
        size_t payload_len, consumed;
        CHECK_INT("prefix",
                  netstring_parse(text, len, 100, &payload, &payload_len, &consumed),
                  NETSTRING_MORE);
    }
}

static void test_no_payload_allowed(void)
{
    const char *payload;
    size_t len, consumed;

    CHECK_INT("0", netstring_parse("0:,", 3, 0, &payload, &len, &consumed),
              NETSTRING_DONE);
    CHECK_INT("1", netstring_parse("1:a,", 4, 0, &payload, &len, &consumed),
              NETSTRING_BAD);
}

static void test_format(void)
{
    char out[16];
    size_t len = netstring_format(out, sizeof(out), "NOTFOUND ", 9);

    CHECK_INT("length", len, 12);
    CU_ASSERT(memcmp(out, "9:NOTFOUND ,", 12) == 0);
    CHECK_INT("empty", netstring_format(out, 3, "", 0), 3);
    CHECK_INT("no room", netstring_format(out, 2, "", 0), 0);
    CHECK_INT("exact", netstring_format(out, sizeof(out), "0123456789ab", 12), 16);
    CHECK_INT("one too many", netstring_format(out, sizeof(out), "0123456789abc", 13), 0);
    CHECK_INT("absurd", netstring_format(out, sizeof(out), "x", (size_t)-2), 0);
}

UNIT_MAIN("netstring", { "parse", test_parse }, { "pieces", test_pieces },
          { "no payload allowed", test_no_payload_allowed }, { "format", test_format })
