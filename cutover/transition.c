/*
 * transition: which change applies where (see transition.h). The table is the
 * one of doc/architecture.md, "Transitions".
 */
#include "transition.h"

#include <stddef.h>
#include <string.h>

/* For each change: the record letters it moves, those it makes, and what to
 * say about each other one. */
/* clang-format off */
static const struct rule {
    enum event_op op;
    const char *done;
    const char *moves, *there;
    struct refusal {
        char letter;
        const char *reason;
    } refusals[3];
} rules[] = {
    { EVENT_LOCK,
      "locked",
      "o",
      "l",
      { { 'n', "is at home new: lock moves only mailboxes at home old (sluice rollback "
               "takes it back)" },
        { 'r', "is locked on its way back to the old side (rollback): finish that with "
               "sluice unlock, or undo it with sluice flip" } } },
    { EVENT_FLIP,
      "flipped",
      "lr",
      "n",
      { { 'o', "is at home old: flip moves only locked mailboxes (sluice lock first)" } } },
    { EVENT_UNLOCK,
      "unlocked",
      "lr",
      "o",
      { { 'n', "is at home new: unlock moves only locked mailboxes (sluice rollback takes "
               "it back)" } } },
    { EVENT_ROLLBACK,
      "rolled back",
      "n",
      "r",
      { { 'o', "is at home old: rollback moves only mailboxes at home new" },
        { 'l', "is locked on its way to the new side: rollback moves only mailboxes at "
               "home new (sluice unlock gives the move up)" } } },
};
/* clang-format on */

static const struct rule *find_rule(enum event_op op)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].op == op)
            return &rules[i];
    return NULL;
}

enum transition transition_judge(enum event_op op, enum home_state state, bool rollback)
{
    const struct rule *rule = find_rule(op);
    char letter = home_letter(state, rollback);
    if (rule && strchr(rule->moves, letter))
        return TRANSITION_MOVES;
    if (rule && strchr(rule->there, letter))
        return TRANSITION_THERE;
    return TRANSITION_REFUSED;
}

const char *transition_refusal(enum event_op op, enum home_state state, bool rollback)
{
    const struct rule *rule = find_rule(op);
    char letter = home_letter(state, rollback);
    for (size_t i = 0; rule && i < sizeof(rule->refusals) / sizeof(rule->refusals[0]);
         i++)
        if (rule->refusals[i].letter == letter)
            return rule->refusals[i].reason;
    return "is in a state that this command does not move";
}

const char *transition_done(enum event_op op)
{
    const struct rule *rule = find_rule(op);
    return rule ? rule->done : "changed";
}
