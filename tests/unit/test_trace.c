/* The loop header's tokens. */
#include "trace.h"
#include "unit.h"

static const unsigned char key[32] = "0123456789abcdef0123456789abcde";

/* Computed with another implementation:
 * printf 'a@example.com\0007' | openssl dgst -sha256 -hmac secret
 */
static void test_known(void)
{
    char token[TRACE_TOKEN_LEN + 1];

    CU_ASSERT_TRUE_FATAL(
        trace_token((const unsigned char *)"secret", 6, "a@example.com", 7, token));
    CHECK_STR("token", token, "3d03f86df07e45cedc3707c2558cbf62");
}

static void test_differs(void)
{
    char a[TRACE_TOKEN_LEN + 1], b[TRACE_TOKEN_LEN + 1];
    unsigned char other[32];

    memcpy(other, key, sizeof(other));
    other[31] ^= 1;
    CU_ASSERT_TRUE(trace_token(key, sizeof(key), "a@example.com", 7, a));
    CHECK_INT("length", strlen(a), TRACE_TOKEN_LEN);
    CU_ASSERT_TRUE(trace_token(key, sizeof(key), "a@example.com", 7, b));
    CHECK_STR("same", a, b);
    CU_ASSERT_TRUE(trace_token(key, sizeof(key), "a@example.com", 8, b));
    CU_ASSERT_STRING_NOT_EQUAL(a, b);
    CU_ASSERT_TRUE(trace_token(key, sizeof(key), "b@example.com", 7, b));
    CU_ASSERT_STRING_NOT_EQUAL(a, b);
    CU_ASSERT_TRUE(trace_token(other, sizeof(other), "a@example.com", 7, b));
    CU_ASSERT_STRING_NOT_EQUAL(a, b);
    /* The border between address and epoch is part of the input. */
    CU_ASSERT_TRUE(trace_token(key, sizeof(key), "a@example.com1", 7, a));
    CU_ASSERT_TRUE(trace_token(key, sizeof(key), "a@example.com", 17, b));
    CU_ASSERT_STRING_NOT_EQUAL(a, b);
}

static void test_overlong(void)
{
    char text[2000], token[TRACE_TOKEN_LEN + 1];

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    CU_ASSERT_FALSE(trace_token(key, sizeof(key), text, 7, token));
    CHECK_STR("token", token, "");
}

static bool contains(const char *value, const char *token)
{
    struct trace_set set;

    CU_ASSERT_TRUE_FATAL(trace_read(value, &set));
    bool found = trace_has(&set, token);
    trace_free(&set);
    return found;
}

static void test_contains(void)
{
#define T "0123456789abcdef0123456789abcdef"
#define U "ffffffffffffffffffffffffffffffff"
    static const struct {
        const char *value;
        bool want;
    } cases[] = {
        { T, true },
        { U " " T, true },
        { U "\r\n\t" T " " U, true },
        { "  " T "  ", true },
        { "garbage (comment) " T, true },
        { U, false },
        { "", false },
        { "   ", false },
        { T "0", false },
        { "0" T, false },
        { "0123456789abcdef0123456789abcde", false },
        { "0123456789ABCDEF0123456789ABCDEF", false },
        { U T, false },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT(cases[i].value, contains(cases[i].value, T), cases[i].want);
    CHECK_INT("an empty token", contains("", ""), false);
    CHECK_INT("a short token", contains("abc", "abc"), false);
    CHECK_INT("no header", contains(NULL, T), false);
}

UNIT_MAIN("trace", { "known", test_known }, { "differs", test_differs },
          { "overlong", test_overlong }, { "contains", test_contains })
