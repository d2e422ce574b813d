/* auth_row: the figures of a sending host as text, there and back. */
#include "config.h"

#include "auth_row.h"
#include "unit.h"

static void test_there_and_back(void)
{
    static const struct {
        struct auth_row row;
        const char *field, *value;
    } cases[] = {
        { { .client = "192.0.2.1",
            .envelope = "example.com",
            .helo = "mx.example.com",
            .messages = 12,
            .would_fail = 3,
            .spf = { [AUTH_PASS] = 9, [AUTH_SOFTFAIL] = 3 },
            .dkim = { [AUTH_PASS] = 11, [AUTH_POLICY] = 1 },
            .dmarc = { [AUTH_FAIL] = 1, [AUTH_PASS] = 11 },
            .first = 100,
            .last = 200 },
          "192.0.2.1 example.com",
          "12 3 100 200 sp9ss3dp11do1mp11mf1 mx.example.com" },
        { { .client = "2001:db8::1", .envelope = "", .helo = "", .messages = 1 },
          "2001:db8::1 ",
          "1 0 0 0 - " },
        { { .client = "*",
            .envelope = "",
            .helo = "",
            .messages = UINT64_MAX,
            .spf = { 1, 1, 1, 1, 1, 1, 1, 1 } },
          "* ",
          "18446744073709551615 0 0 0 sn1sp1sf1ss1su1so1st1se1 " },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char field[AUTH_FIELD_MAX + 1], value[AUTH_VALUE_MAX + 1];
        struct auth_row back;
        auth_row_field(&cases[i].row, field);
        auth_row_value(&cases[i].row, value);
        CHECK_STR("field", field, cases[i].field);
        CHECK_STR("value", value, cases[i].value);
        CHECK_INT(cases[i].value, auth_row_decode(field, value, &back), true);
        CHECK_STR("client", back.client, cases[i].row.client);
        CHECK_STR("envelope", back.envelope, cases[i].row.envelope);
        CHECK_STR("helo", back.helo, cases[i].row.helo);
        CHECK_INT("messages", back.messages, cases[i].row.messages);
        CHECK_INT("would fail", back.would_fail, cases[i].row.would_fail);
        CHECK_INT("first", back.first, cases[i].row.first);
        CHECK_INT("last", back.last, cases[i].row.last);
        CHECK_INT("spf", memcmp(back.spf, cases[i].row.spf, sizeof(back.spf)), 0);
        CHECK_INT("dkim", memcmp(back.dkim, cases[i].row.dkim, sizeof(back.dkim)), 0);
        CHECK_INT("dmarc", memcmp(back.dmarc, cases[i].row.dmarc, sizeof(back.dmarc)), 0);
    }
}

static void test_damaged(void)
{
    static const struct {
        const char *field, *value;
        bool good;
    } cases[] = {
        { "192.0.2.1 a", "1 0 1 1 sp1 mx", true },
        { "192.0.2.1 a", "1 0 1 1 xq7sp1 mx", true }, /* a kind of later versions */
        { "192.0.2.1 a", "1 0 1 1 sx9sp1 mx", true },
        { "192.0.2.1 a", "1 0 1 1 sp1sp2 mx", true },
        { "192.0.2.1", "1 0 1 1 sp1 mx", false },
        { "192.0.2.1 a", "", false },
        { "192.0.2.1 a", "1 0 1 1", false },
        { "192.0.2.1 a", "1 0 1 1 sp1", false },
        { "192.0.2.1 a", "1 0 1 1 sp mx", false },
        { "192.0.2.1 a", "1 0 1 1 s mx", false },
        { "192.0.2.1 a", "1 0 1 1 7 mx", false },
        { "192.0.2.1 a", "x 0 1 1 sp1 mx", false },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char field[64], value[64];
        struct auth_row row;
        snprintf(field, sizeof(field), "%s", cases[i].field);
        snprintf(value, sizeof(value), "%s", cases[i].value);
        CHECK_INT(cases[i].value, auth_row_decode(field, value, &row), cases[i].good);
        if (cases[i].good)
            CHECK_INT(cases[i].value, row.spf[AUTH_PASS] == 1 || row.spf[AUTH_PASS] == 3,
                      true);
    }
}

/* HELO and envelope come from anybody. */
static void test_hostile(void)
{
    char huge[5000], field[AUTH_FIELD_MAX + 1], value[AUTH_VALUE_MAX + 1];
    char helo[AUTH_HELO_MAX + 1];
    struct auth_row most, back;
    memset(huge, 'x', sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = '\0';

    auth_row_helo("a b\tc\n\x1b[31m\x7f\xc3\xbc", helo);
    CHECK_STR("helo", helo, "a?b?c??[31m???");
    auth_row_helo(huge, helo);
    CHECK_INT("length", strlen(helo), AUTH_HELO_MAX);
    CHECK_STR("end", helo + AUTH_HELO_MAX - 4, "x...");
    const struct auth_row row = {
        .client = "192.0.2.1", .envelope = "a b\n* c", .helo = huge, .messages = 1
    };
    auth_row_field(&row, field);
    CHECK_STR("field", field, "192.0.2.1 a?b?*?c");

    memset(&most, 0xff, sizeof(most));
    most.client = most.envelope = most.helo = huge;
    most.first = most.last = INT64_MIN;
    auth_row_field(&most, field);
    CHECK_INT("longest", strlen(field), AUTH_FIELD_MAX);
    auth_row_value(&most, value);
    CHECK_INT("longest", auth_row_decode(field, value, &back), true);
    CHECK_INT("longest", back.dmarc[AUTH_PERMERROR] == UINT64_MAX, true);
    CHECK_INT("longest", back.first == INT64_MIN, true);
}

static void test_add(void)
{
    struct auth_row sum = { .client = "x" };
    struct auth_row one = { .client = "y",
                            .messages = 2,
                            .would_fail = 1,
                            .spf = { [AUTH_FAIL] = 2 },
                            .first = 50,
                            .last = 60 };
    auth_row_add(&sum, &one);
    one.first = 40;
    one.last = 55;
    auth_row_add(&sum, &one);
    CHECK_STR("client", sum.client, "x");
    CHECK_INT("messages", sum.messages, 4);
    CHECK_INT("would fail", sum.would_fail, 2);
    CHECK_INT("spf", sum.spf[AUTH_FAIL], 4);
    CHECK_INT("first", sum.first, 40);
    CHECK_INT("last", sum.last, 60);
}

UNIT_MAIN("auth_row", { "there and back", test_there_and_back },
          { "damaged", test_damaged }, { "hostile", test_hostile }, { "add", test_add })
