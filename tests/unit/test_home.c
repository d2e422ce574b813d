/* The codec of home records, and events. */
#include <stdlib.h>

#include "home.h"
#include "unit.h"

static void check_decode(const char *text, bool want)
{
    size_t len = strlen(text);
    char *exact = malloc(len ? len : 1);
    struct home home;

    memcpy(exact, text, len);
    bool got = home_decode(exact, len, &home);
    CHECK_INT(text, got, want);
    if (got) {
        char again[HOME_RECORD_MAX + 1];
        CHECK_INT(text, home_encode(&home, again), len);
        CHECK_STR(text, again, text);
    }
    free(exact);
}

static void test_decode(void)
{
    static const char *const good[] = {
        "o0.0",
        "l1f.6740a1b2",
        "r1f.6740a1b2",
        "nffffffffffffffff.7fffffffffffffff",
        "n1.2\tn=a@b.example",
        "n1.2\tc=a@b.example",
        "n1.2\tn=a@b.example\tc=c@d.example",
        "n1.2\tn=\"a b\"@b.example",
    };
    static const char *const bad[] = {
        "",
        "o",
        "o1",
        "o1.",
        "o.1",
        ".",
        "x1.2",
        "O1.2",
        "1.2",
        " o1.2",
        "o1.2 ",
        "o1.2\n",
        "o01.2",
        "o1.02",
        "o00.0",
        "oA.1",
        "o1.A",
        "o-1.2",
        "o1.-2",
        "o+1.2",
        "o0x1.2",
        "o1.8000000000000000",
        "o10000000000000000.1",
        "o1.10000000000000000",
        "o1,2",
        "o1.2.3",
        "o1.2\t",
        "o1.2\tn",
        "o1.2\tn=",
        "o1.2\tn=\tc=a@b",
        "o1.2\tc=a@b\tn=a@b",
        "o1.2\tn=a@b\tn=a@b",
        "o1.2\tx=a@b",
        "o1.2\tn=a@b\t",
        "o1.2\tn=a@b\tc=",
        "o1.2n=a@b",
        "o1.2\tn=ab",
        "o1.2\tn=@b",
        "o1.2\tn=a@",
        "o1.2\tn=a@b\n",
        "o1.2\tn=a\x01@b",
        "o1.2\tn=a\x7f@b",
        "l1f.6740a1b2x",
    };

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        check_decode(good[i], true);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check_decode(bad[i], false);
    struct home home;
    CHECK_INT("a NUL", home_decode("o1.2\0", 5, &home), false);
    CHECK_INT("a NUL", home_decode("o1\0.2", 5, &home), false);
}

static void test_fields(void)
{
    static const char text[] = "r1f.6740a1b2\tn=n@new.example\tc=c@copy.example";
    struct home home;

    memset(&home, 'x', sizeof(home));
    CU_ASSERT_TRUE_FATAL(home_decode(text, sizeof(text) - 1, &home));
    CHECK_INT("state", home.state, HOME_LOCKED);
    CHECK_INT("rollback", home.rollback, true);
    CHECK_INT("epoch", home.epoch, 0x1f);
    CHECK_INT("since", home.since, 0x6740a1b2);
    CHECK_INT("listed", home.listed, true);
    CHECK_STR("new", home.new_address, "n@new.example");
    CHECK_STR("copy", home.copy, "c@copy.example");
    CU_ASSERT_TRUE_FATAL(home_decode("o1.2", 4, &home));
    CHECK_INT("rollback", home.rollback, false);
    CHECK_STR("no new", home.new_address, "");
    CHECK_STR("no copy", home.copy, "");
}

/* Every state, extreme numbers, the longest addresses: there and back. */
static void test_round_trip(void)
{
    static const char letters[] = "olrn";
    static const uint64_t epochs[] = { 0, 1, 15, 16, 0x123456789abcdef, UINT64_MAX };
    static const int64_t times[] = { 0, 1, 1732278706, INT64_MAX };
    char longest[ADDR_TEXT_MAX + 1];

    memset(longest, 'a', ADDR_TEXT_MAX);
    longest[ADDR_TEXT_MAX / 2] = '@';
    longest[ADDR_TEXT_MAX] = '\0';
    for (size_t letter = 0; letter < 4; letter++)
        for (size_t e = 0; e < 6; e++)
            for (size_t t = 0; t < 4; t++)
                for (unsigned bits = 0; bits < 4; bits++) {
                    struct home home = { .epoch = epochs[e], .since = times[t] }, back;
                    char text[HOME_RECORD_MAX + 1];
                    home_from_letter(letters[letter], &home.state, &home.rollback);
                    if (bits & 1)
                        memcpy(home.new_address, longest, sizeof(longest));
                    if (bits & 2)
                        memcpy(home.copy, longest, sizeof(longest));
                    size_t len = home_encode(&home, text);
                    CHECK_INT("length", len, strlen(text));
                    CU_ASSERT_TRUE(len <= HOME_RECORD_MAX);
                    CU_ASSERT_TRUE_FATAL(home_decode(text, len, &back));
                    CHECK_INT(text, back.state, home.state);
                    CHECK_INT(text, back.rollback, home.rollback);
                    CHECK_INT(text, back.epoch, home.epoch);
                    CHECK_INT(text, back.since, home.since);
                    CHECK_STR(text, back.new_address, home.new_address);
                    CHECK_STR(text, back.copy, home.copy);
                }
}

static void test_too_long(void)
{
    char text[HOME_RECORD_MAX + 16] = "o1.2\tn=";
    size_t len = strlen(text);
    struct home home;

    memset(text + len, 'a', ADDR_TEXT_MAX);
    text[len + 5] = '@';
    CHECK_INT("longest", home_decode(text, len + ADDR_TEXT_MAX, &home), true);
    text[len + ADDR_TEXT_MAX] = 'a';
    CHECK_INT("too long", home_decode(text, len + ADDR_TEXT_MAX + 1, &home), false);
}

/* What is read is written the same way, or is not read at all. */
static void test_garbage(void)
{
    static const char alphabet[] = "olrn0123af.\tnc=@A \n";
    unsigned seed = 1;
    int good = 0;

    for (int round = 0; round < 500000; round++) {
        char text[20], again[HOME_RECORD_MAX + 1];
        struct home home;
        size_t len = (size_t)rand_r(&seed) % sizeof(text);
        for (size_t i = 0; i < len; i++)
            text[i] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
        if (!home_decode(text, len, &home))
            continue;
        good++;
        if (home_encode(&home, again) != len || memcmp(text, again, len) != 0) {
            printf("\n  \"%.*s\" became \"%s\"\n", (int)len, text, again);
            CU_FAIL("round trip");
            return;
        }
    }
    CU_ASSERT_TRUE(good > 100);
}

static void test_letters(void)
{
    for (int c = 0; c < 256; c++) {
        enum home_state state;
        bool rollback;
        bool got = home_from_letter((char)c, &state, &rollback);
        CHECK_INT("letter", got, c != 0 && strchr("olrn", c) != NULL);
        if (got)
            CHECK_INT("letter", home_letter(state, rollback), c);
    }
    CHECK_INT("old, rolled back", home_letter(HOME_OLD, true), 0);
    CHECK_INT("new, rolled back", home_letter(HOME_NEW, true), 0);
    CHECK_STR("old", home_state_name(HOME_OLD), "old");
    CHECK_STR("locked", home_state_name(HOME_LOCKED), "locked");
    CHECK_STR("new", home_state_name(HOME_NEW), "new");
}

static void test_ops(void)
{
    for (int op = EVENT_INIT; op <= EVENT_BASE; op++) {
        enum event_op back;
        const char *name = event_op_name((enum event_op)op);
        CU_ASSERT_TRUE(event_op_parse(name, &back));
        CHECK_INT(name, back, op);
    }
    enum event_op none;
    CU_ASSERT_FALSE(event_op_parse("", &none));
    CU_ASSERT_FALSE(event_op_parse("Lock", &none));
    CU_ASSERT_FALSE(event_op_parse("locks", &none));
}

static struct event event_with(enum event_op op, char letter, const char *body)
{
    struct event event = { .at = { 9, "00112233445566ff" },
                           .prev = "-",
                           .op = op,
                           .letter = letter,
                           .time = 77,
                           .domain = "example.com",
                           .body = body,
                           .body_len = strlen(body) };
    return event;
}

static void test_items(void)
{
    static const struct {
        const char *body;
        const char *items; /* local=record; or local; */
    } cases[] = {
        { "", "" },
        { "a\nb\n", "a;b;" },
        { "a\to1.2\nb\n", "a=o1.2;b;" },
        { "\nb\n", ";b;" },
        { "\tn1.2\n", "=n1.2;" },
        { "a b\tn1.2\tn=x@y\n", "a b=n1.2\tn=x@y;" },
        { "a\t\n", "a=;" },
        { "a\nb", "a;b=;" }, /* cut: an empty record is not valid */
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct event event = event_with(EVENT_LOCK, 'l', cases[i].body);
        char got[200] = "";
        size_t cursor = 0, used = 0, local_len, record_len;
        const char *local, *record;
        while (event_next_item(&event, &cursor, &local, &local_len, &record, &record_len))
            used += (size_t)snprintf(got + used, sizeof(got) - used, "%.*s%s%.*s;",
                                     (int)local_len, local, record ? "=" : "",
                                     (int)record_len, record ? record : "");
        CHECK_STR(cases[i].body, got, cases[i].items);
    }
}

static void test_apply(void)
{
    struct event lock = event_with(EVENT_LOCK, 'l', "");
    struct home home = { .state = HOME_OLD, .epoch = 3, .since = 4, .listed = true };

    /* No record: the event's state, the addresses as they were. */
    memcpy(home.new_address, "n@x.example", 12);
    CU_ASSERT_TRUE(event_apply(&lock, NULL, 0, &home));
    CHECK_INT("state", home.state, HOME_LOCKED);
    CHECK_INT("epoch", home.epoch, 9);
    CHECK_INT("since", home.since, 77);
    CHECK_STR("new", home.new_address, "n@x.example");

    /* A mailbox that was not there before has no addresses. */
    home.listed = false;
    CU_ASSERT_TRUE(event_apply(&lock, NULL, 0, &home));
    CHECK_STR("new", home.new_address, "");
    CHECK_INT("listed", home.listed, true);

    struct event rollback = event_with(EVENT_ROLLBACK, 'r', "");
    CU_ASSERT_TRUE(event_apply(&rollback, NULL, 0, &home));
    CHECK_INT("rollback", home.rollback, true);

    /* A record says everything. */
    struct event import = event_with(EVENT_IMPORT, '-', "");
    CU_ASSERT_TRUE(event_apply(&import, "o5.6\tc=c@d", 10, &home));
    CHECK_INT("state", home.state, HOME_OLD);
    CHECK_INT("epoch", home.epoch, 5);
    CHECK_STR("copy", home.copy, "c@d");

    /* Not valid. */
    CU_ASSERT_FALSE(event_apply(&import, NULL, 0, &home));
    CU_ASSERT_FALSE(event_apply(&import, "", 0, &home));
    CU_ASSERT_FALSE(event_apply(&import, "o5.", 3, &home));
    struct event host = event_with(EVENT_HOST, 'l', "mx1\told\n");
    CU_ASSERT_FALSE(event_apply(&host, NULL, 0, &home));
    struct event recover = event_with(EVENT_RECOVER, 'l', "");
    CU_ASSERT_FALSE(event_apply(&recover, "o1.2", 4, &home));
}

static void test_history(void)
{
    static const char mine[] = "00112233445566ff", other[] = "ff112233445566ff";
    static const struct {
        const char *what;
        uint64_t head, last, floor;
        const char *id; /* at the head's epoch */
        enum history want;
    } cases[] = {
        { "no journal", 0, 7, 1, NULL, HISTORY_HOLDS },
        { "the same", 7, 7, 1, mine, HISTORY_HOLDS },
        { "gone on", 7, 9, 1, mine, HISTORY_HOLDS },
        { "trimmed up to the head", 7, 9, 7, mine, HISTORY_HOLDS },
        { "rolled back", 7, 6, 1, NULL, HISTORY_LOST },
        { "rolled back, an old id left", 7, 6, 1, mine, HISTORY_LOST },
        { "rolled back and grown again", 7, 9, 1, other, HISTORY_DIVERGED },
        { "the id is missing", 7, 9, 1, NULL, HISTORY_DIVERGED },
        { "trimmed past the head", 7, 9, 8, NULL, HISTORY_BEHIND },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct position head = { .epoch = cases[i].head };
        memcpy(head.id, mine, sizeof(mine));
        CHECK_INT(cases[i].what,
                  history_judge(&head, cases[i].last, cases[i].floor, cases[i].id),
                  cases[i].want);
    }
}

UNIT_MAIN("home", { "decode", test_decode }, { "fields", test_fields },
          { "round trip", test_round_trip }, { "too long", test_too_long },
          { "garbage", test_garbage }, { "letters", test_letters }, { "ops", test_ops },
          { "items", test_items }, { "apply", test_apply },
          { "history", test_history })
