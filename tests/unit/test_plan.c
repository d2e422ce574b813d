/* plan: steps, batch sizes, percentiles, file names. */
#include "../../cutover/plan.h"

#include <stdlib.h>

#include "unit.h"

static void steps(void)
{
    static const struct {
        enum step from, to;
        bool allowed;
    } cases[] = {
        { STEP_UNPROBED, STEP_READY, true },   { STEP_UNPROBED, STEP_REFUSED, true },
        { STEP_UNPROBED, STEP_LOCKED, false }, { STEP_READY, STEP_LOCKED, true },
        { STEP_READY, STEP_QUEUED, false },    { STEP_LOCKED, STEP_QUEUED, true },
        { STEP_LOCKED, STEP_PARKED, true }, /* the domain's own record */
        { STEP_PARKED, STEP_SYNCED, true },
        { STEP_LOCKED, STEP_SYNCING, false },  { STEP_LOCKED, STEP_MOVED, false },
        { STEP_QUEUED, STEP_SYNCING, true },   { STEP_QUEUED, STEP_MOVED, false },
        { STEP_SYNCING, STEP_SYNCED, true },   { STEP_SYNCING, STEP_UNLOCKING, true },
        { STEP_SYNCING, STEP_MOVED, false },   { STEP_SYNCED, STEP_MOVED, true },
        { STEP_SYNCED, STEP_LOCKED, true }, /* a host without fence */
        { STEP_UNLOCKING, STEP_FAILED, true }, { STEP_UNLOCKING, STEP_MOVED, false },
        { STEP_MOVED, STEP_LOCKED, false },    { STEP_FAILED, STEP_READY, false },
        { STEP_PARKED, STEP_READY, true },     { STEP_PARKED, STEP_LOCKED, false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char what[64];
        snprintf(what, sizeof(what), "%s to %s", step_name(cases[i].from),
                 step_name(cases[i].to));
        CHECK_INT(what, plan_way(cases[i].from, cases[i].to), cases[i].allowed);
    }
}

/* An end is an end, and only a mailbox that was synced is moved. */
static void ends(void)
{
    for (enum step from = STEP_MOVED; from < STEP_COUNT; from++)
        for (enum step to = 0; to < STEP_COUNT; to++)
            CHECK_INT(step_name(from), plan_way(from, to), false);
    for (enum step from = 0; from < STEP_COUNT; from++)
        CHECK_INT(step_name(from), plan_way(from, STEP_MOVED), from == STEP_SYNCED);
}

static void check_lists(const struct plan *plan, const char *what)
{
    size_t all = 0;
    for (enum step step = 0; step < STEP_COUNT; step++) {
        size_t n = 0, last = PLAN_NONE;
        for (size_t i = plan_first(plan, step); i != PLAN_NONE; i = plan->boxes[i].next) {
            CHECK_INT(what, plan->boxes[i].step, step);
            CHECK_INT(what, plan->boxes[i].prev, last);
            last = i;
            if (++n > plan->n)
                break;
        }
        CHECK_INT(what, plan_count(plan, step), n);
        CHECK_INT(what, plan->lists[step].tail, last);
        all += n;
    }
    CHECK_INT(what, all, plan->n);
}

static void lists(void)
{
    struct mailbox boxes[5] = { 0 };
    struct plan plan;
    for (int i = 0; i < 5; i++)
        boxes[i].step = STEP_UNPROBED;
    plan_init(&plan, boxes, 5);
    check_lists(&plan, "after init");
    static const struct {
        size_t box;
        enum step to;
        bool done;
    } moves[] = {
        { 2, STEP_READY, true },  { 0, STEP_READY, true },   { 4, STEP_REFUSED, true },
        { 0, STEP_LOCKED, true }, { 2, STEP_LOCKED, true },  { 0, STEP_QUEUED, true },
        { 0, STEP_MOVED, false }, { 0, STEP_SYNCING, true }, { 0, STEP_SYNCED, true },
        { 0, STEP_MOVED, true },  { 1, STEP_LEFT, true },    { 3, STEP_UNDECIDED, true },
    };
    for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
        CHECK_INT("plan_set", plan_set(&plan, moves[i].box, moves[i].to), moves[i].done);
        check_lists(&plan, "after a move");
    }
    CHECK_INT("ended", plan_ended(&plan), 4);
    CHECK_INT("first locked", plan_first(&plan, STEP_LOCKED), 2);
}

static void batch_sizes(void)
{
    static const struct {
        int jobs;
        double rate, fence;
        size_t fixed, want;
    } cases[] = {
        { 8, 0, 33, 0, 32 },      /* the first */
        { 8, 0.5, 33, 0, 32 },    /* slow syncs: never less */
        { 8, 10, 33, 0, 330 },    /* as many as a fence takes */
        { 8, 4000, 33, 0, 1000 }, /* never more */
        { 8, 10, 0, 0, 32 },      /* no fence was measured */
        { 300, 0, 33, 0, 1000 },  /* 4 x jobs is more than a change holds */
        { 1, 0, 33, 0, 4 },       { 0, 0, 33, 0, 4 },
        { 8, 4000, 33, 7, 7 }, /* as the admin says */
        { 8, 0, 33, 5000, 5000 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT(
            "batch size",
            plan_batch_size(cases[i].jobs, cases[i].rate, cases[i].fence, cases[i].fixed),
            cases[i].want);
}

static void lock_times(void)
{
    static const struct {
        size_t remaining;
        double rate, fence;
        bool want;
    } cases[] = {
        { 0, 0, 33, true },      /* nothing runs */
        { 5, 0, 33, false },     /* rate not known */
        { 330, 10, 33, true },   /* as long as a fence */
        { 390, 10, 33, true },   /* a little more */
        { 400, 10, 33, false },  /* their mail would wait for nothing */
        { 32, 0.01, 33, false }, /* slow syncs */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT("lock now",
                  plan_lock_now(cases[i].remaining, cases[i].rate, cases[i].fence),
                  cases[i].want);
}

static void percentiles(void)
{
    static const double four[] = { 1, 2, 3, 4 };
    static const double one[] = { 7 };
    double hundred[100];
    for (int i = 0; i < 100; i++)
        hundred[i] = i + 1;
    const struct {
        const double *values;
        size_t n;
        double p, want;
    } cases[] = {
        { four, 0, 0.5, 0 },      { one, 1, 0.5, 7 },        { one, 1, 0.99, 7 },
        { four, 4, 0.5, 2 },      { four, 4, 0.75, 3 },      { four, 4, 1, 4 },
        { four, 4, 0, 1 },        { hundred, 100, 0.5, 50 }, { hundred, 100, 0.99, 99 },
        { hundred, 100, 1, 100 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT("percentile", plan_percentile(cases[i].values, cases[i].n, cases[i].p),
                  cases[i].want);
}

static void file_names(void)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "a.b+c@example.com", "a.b+c@example.com" },
        { "../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd" },
        { ".", "%2E" },
        { "", "" },
        { "a/b c", "a%2Fb%20c" },
        { "\xc3\xa9", "%C3%A9" },
        { "100%", "100%25" },
        { "UPPER", "%55%50%50%45%52" },
    };
    char out[PLAN_FILE_NAME_MAX + 1];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        plan_file_name(cases[i].text, out);
        CHECK_STR(cases[i].text, out, cases[i].want);
        CU_ASSERT(strchr(out, '/') == NULL);
        CU_ASSERT(out[0] != '.');
    }
}

static void long_file_names(void)
{
    char text[129], other[129], out[PLAN_FILE_NAME_MAX + 1], out2[PLAN_FILE_NAME_MAX + 1];
    memset(text, '!', 128);
    text[128] = '\0';
    memcpy(other, text, sizeof(text));
    other[127] = '?';
    plan_file_name(text, out);
    plan_file_name(other, out2);
    CU_ASSERT(strlen(out) <= PLAN_FILE_NAME_MAX);
    CU_ASSERT(strcmp(out, out2) != 0);
}

UNIT_MAIN("plan", { "steps", steps }, { "ends", ends }, { "lists", lists },
          { "batch sizes", batch_sizes }, { "lock times", lock_times },
          { "percentiles", percentiles }, { "file names", file_names },
          { "long file names", long_file_names })
