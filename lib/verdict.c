/*
 * verdict: the table of doc/architecture.md, "One idea". Nothing else in the
 * tree decides about a message.
 */
#include "verdict.h"

static enum verdict decide_on_old_side(const struct home *home)
{
    switch (home->state) {
    case HOME_OLD:
        return VERDICT_DELIVER;
    case HOME_LOCKED:
        return VERDICT_HOLD;
    case HOME_NEW:
        return home->new_address[0] ? VERDICT_REDIRECT : VERDICT_FORWARD;
    }
    return VERDICT_LATER;
}

static enum verdict decide_on_new_side(const struct home *home)
{
    switch (home->state) {
    case HOME_OLD:
        return VERDICT_FORWARD;
    case HOME_LOCKED:
        return VERDICT_HOLD;
    case HOME_NEW:
        return VERDICT_DELIVER;
    }
    return VERDICT_LATER;
}

enum verdict verdict_decide(enum side side, enum lookup lookup, const struct home *home)
{
    if (lookup != LOOKUP_FOUND)
        return VERDICT_LATER;
    return side == SIDE_OLD ? decide_on_old_side(home) : decide_on_new_side(home);
}

const char *verdict_name(enum verdict verdict)
{
    static const char *const names[] = {
        [VERDICT_NONE] = "none",         [VERDICT_DELIVER] = "deliver",
        [VERDICT_HOLD] = "hold",         [VERDICT_FORWARD] = "forward",
        [VERDICT_REDIRECT] = "redirect", [VERDICT_LATER] = "later",
    };
    return names[verdict];
}

const char *side_name(enum side side)
{
    return side == SIDE_OLD ? "old" : "new";
}
