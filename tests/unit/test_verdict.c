/* The verdict for every combination there is: side x lookup x state x rollback
 * x new address x copy address x listed. */
#include "unit.h"
#include "verdict.h"

static enum verdict expected(enum side side, enum lookup lookup, const struct home *home)
{
    if (lookup != LOOKUP_FOUND)
        return VERDICT_LATER;
    if (home->state == HOME_LOCKED)
        return VERDICT_HOLD;
    if (side == SIDE_OLD && home->state == HOME_OLD)
        return VERDICT_DELIVER;
    if (side == SIDE_NEW && home->state == HOME_NEW)
        return VERDICT_DELIVER;
    if (side == SIDE_OLD && home->new_address[0])
        return VERDICT_REDIRECT;
    return VERDICT_FORWARD;
}

static void check_one(enum side side, enum lookup lookup, const struct home *home)
{
    char what[128];

    snprintf(what, sizeof(what), "side %s, lookup %d, home %s%s%s%s%s", side_name(side),
             (int)lookup, home_state_name(home->state),
             home->rollback ? ", rollback" : "", home->new_address[0] ? ", new" : "",
             home->copy[0] ? ", copy" : "", home->listed ? ", listed" : "");
    CHECK_STR(what, verdict_name(verdict_decide(side, lookup, home)),
              verdict_name(expected(side, lookup, home)));
}

static void test_every_combination(void)
{
    static const enum side sides[] = { SIDE_OLD, SIDE_NEW };
    static const enum lookup lookups[] = { LOOKUP_FOUND, LOOKUP_ABSENT, LOOKUP_FAILED };
    static const enum home_state states[] = { HOME_OLD, HOME_LOCKED, HOME_NEW };

    for (size_t side = 0; side < 2; side++)
        for (size_t lookup = 0; lookup < 3; lookup++)
            for (size_t state = 0; state < 3; state++)
                for (unsigned bits = 0; bits < 16; bits++) {
                    struct home home = { .state = states[state],
                                         .rollback = bits & 1,
                                         .listed = bits & 2,
                                         .epoch = 1 };
                    if (bits & 4)
                        memcpy(home.new_address, "u@t.example", 12);
                    if (bits & 8)
                        memcpy(home.copy, "u@c.example", 12);
                    check_one(sides[side], lookups[lookup], &home);
                }
}

/* The table of the documentation, word for word. */
static void test_the_table(void)
{
    static const struct {
        enum side side;
        enum home_state state;
        const char *new_address, *verdict;
    } cases[] = {
        { SIDE_OLD, HOME_OLD, "", "deliver" },
        { SIDE_OLD, HOME_OLD, "u@t.example", "deliver" },
        { SIDE_OLD, HOME_LOCKED, "", "hold" },
        { SIDE_OLD, HOME_LOCKED, "u@t.example", "hold" },
        { SIDE_OLD, HOME_NEW, "", "forward" },
        { SIDE_OLD, HOME_NEW, "u@t.example", "redirect" },
        { SIDE_NEW, HOME_OLD, "", "forward" },
        { SIDE_NEW, HOME_OLD, "u@t.example", "forward" },
        { SIDE_NEW, HOME_LOCKED, "", "hold" },
        { SIDE_NEW, HOME_LOCKED, "u@t.example", "hold" },
        { SIDE_NEW, HOME_NEW, "", "deliver" },
        { SIDE_NEW, HOME_NEW, "u@t.example", "deliver" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct home home = { .state = cases[i].state };
        snprintf(home.new_address, sizeof(home.new_address), "%s", cases[i].new_address);
        CHECK_STR(home_state_name(home.state),
                  verdict_name(verdict_decide(cases[i].side, LOOKUP_FOUND, &home)),
                  cases[i].verdict);
    }
}

/* One of the two sides always delivers, unless both hold: no loops. */
static void test_one_side_delivers(void)
{
    for (int state = HOME_OLD; state <= HOME_NEW; state++) {
        struct home home = { .state = (enum home_state)state };
        int delivering = 0, holding = 0;
        for (int side = SIDE_OLD; side <= SIDE_NEW; side++) {
            enum verdict verdict = verdict_decide((enum side)side, LOOKUP_FOUND, &home);
            delivering += verdict == VERDICT_DELIVER;
            holding += verdict == VERDICT_HOLD;
        }
        CHECK_INT(home_state_name(home.state), delivering, state != HOME_LOCKED);
        CHECK_INT(home_state_name(home.state), holding, state == HOME_LOCKED ? 2 : 0);
    }
}

/* A state that is none (memory gone wrong) is no reason to deliver. */
static void test_no_state(void)
{
    struct home home = { .state = (enum home_state)3 };

    CHECK_STR("old", verdict_name(verdict_decide(SIDE_OLD, LOOKUP_FOUND, &home)),
              "later");
    CHECK_STR("new", verdict_name(verdict_decide(SIDE_NEW, LOOKUP_FOUND, &home)),
              "later");
}

static void test_names(void)
{
    CHECK_STR("none", verdict_name(VERDICT_NONE), "none");
    CHECK_STR("old", side_name(SIDE_OLD), "old");
    CHECK_STR("new", side_name(SIDE_NEW), "new");
}

UNIT_MAIN("verdict", { "every combination", test_every_combination },
          { "the table", test_the_table },
          { "one side delivers", test_one_side_delivers }, { "no state", test_no_state },
          { "names", test_names })
