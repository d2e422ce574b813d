/* apply: the plan of a message, and its execution against an MTA of the test. */
#include "config.h"

#include "../../milter/apply.h"
#include "milter_case.h"
#include "trace.h"

static const unsigned char secret[STORE_SECRET_LEN] = "a key of thirty-two bytes, never";

/* "accept -<a@example.com> +t@new.test trace=1 copied=0" */
static void describe(const struct plan *plan, const struct session *session, char *out,
                     size_t size)
{
    static const char *const endings[] = {
        [ENDING_ACCEPT] = "accept", [ENDING_HOLD] = "hold",   [ENDING_LOOP] = "loop",
        [ENDING_DMARC] = "dmarc",   [ENDING_LATER] = "later",
    };
    FILE *text = fmemopen(out, size, "w");
    fprintf(text, "%s", endings[plan->ending]);
    if (plan->reason)
        fprintf(text, " %s", plan->reason);
    for (size_t i = 0; plan->ending == ENDING_ACCEPT && i < plan->step_count; i++) {
        if (plan->steps[i].remove)
            fprintf(text, " -%s", plan->steps[i].remove);
        if (plan->steps[i].add)
            fprintf(text, " +%s", plan->steps[i].add);
    }
    if (plan->ending == ENDING_ACCEPT)
        for (size_t i = 0; i < plan->trace_count; i++)
            fprintf(text, " trace=%zu", (strlen(plan->traces[i]) + 1) / 33);
    for (size_t i = 0; i < session->count; i++)
        if (session->recipients[i]->copied)
            fprintf(text, " copied=%zu", i);
    if (session->from && session->from->copied)
        fprintf(text, " copied=from");
    fclose(text);
}

struct plan_case {
    const char *side, *hold, *message, *expected;
};

static const struct plan_case plan_cases[] = {
    /* nothing of ours */
    { "old", "queue", "x@other.test", "accept" },
    { "old", "queue", "a@example.com=o", "accept" },
    { "new", "queue", "a@example.com=n", "accept" },
    /* hold: all, some, other holders */
    { "old", "queue", "a@example.com=l", "hold" },
    { "old", "queue", "a@example.com=r", "hold" },
    { "new", "queue", "a@example.com=l b@example.com=l", "hold" },
    { "old", "queue", "a@example.com=l b@example.com=o", "accept" },
    { "old", "queue", "a@example.com=l x@other.test", "accept" },
    { "old", "queue", "a@example.com=l postmaster", "accept" },
    { "old", "defer", "a@example.com=l", "later locked" },
    { "old", "defer", "a@example.com=l b@example.com=o", "accept" },
    /* forward */
    { "old", "queue", "a@example.com=n", "accept trace=1" },
    { "new", "queue", "a@example.com=o", "accept trace=1" },
    { "old", "queue", "a@example.com=n b@example.com=n c@example.com=l",
      "accept trace=2" },
    /* redirect */
    { "old", "queue", "a@example.com=n,n=t@new.test",
      "accept -<a@example.com> +t@new.test trace=1" },
    { "old", "queue", "a@example.com=n,n=t@new.test b@example.com=n,n=t@new.test",
      "accept -<a@example.com> +t@new.test -<b@example.com> trace=2" },
    { "old", "queue", "a@example.com=n,n=t@new.test T@New.Test",
      "accept -<a@example.com> trace=1" },
    { "old", "queue", "a@example.com=n,n=t@new.test b@example.com=l",
      "accept -<a@example.com> +t@new.test trace=1" },
    /* copy */
    { "old", "queue", "a@example.com=o,c=k@arch.test",
      "accept +k@arch.test trace=1 copied=0" },
    { "old", "queue", "a@example.com=o,c=k@arch.test b@example.com=o,c=k@arch.test",
      "accept +k@arch.test trace=1 copied=0" },
    { "old", "queue", "a@example.com=o,c=k@arch.test K@ARCH.test", "accept" },
    { "old", "queue", "a@example.com=o,c=b@example.com b@example.com=o", "accept" },
    { "old", "queue", "a@example.com=n,c=k@arch.test",
      "accept +k@arch.test trace=2 copied=0" },
    { "old", "queue", "a@example.com=l,c=k@arch.test",
      "accept +k@arch.test trace=1 copied=0" },
    { "old", "queue", "a@example.com=n,n=t@new.test,c=k@arch.test",
      "accept -<a@example.com> +t@new.test +k@arch.test trace=2 copied=0" },
    /* outgoing copies */
    { "old", "queue", "from:a@example.com=o,c=k@arch.test x@other.test",
      "accept +k@arch.test trace=1 copied=from" },
    { "old", "queue", "from:a@example.com=o x@other.test", "accept" },
    { "old", "queue", "from:a@example.com=f x@other.test", "later lookup-failed" },
    { "old", "queue", "from:a@example.com=o,c=k@arch.test b@example.com=o,c=k@arch.test",
      "accept +k@arch.test trace=1 copied=0" },
    /* unknown */
    { "old", "queue", "a@example.com=f", "later lookup-failed" },
    { "old", "queue", "a@example.com=b", "later domain-not-registered" },
    { "old", "queue", "x@other.test a@example.com=o b@example.com=f",
      "later lookup-failed" },
    { "old", "queue", "a@example.com=l b@example.com=f", "later lookup-failed" },
    { "old", "queue", "a@example.com=f,c=k@arch.test", "later lookup-failed" },
};

static void test_plans(void)
{
    for (size_t i = 0; i < sizeof(plan_cases) / sizeof(plan_cases[0]); i++) {
        char text[512] = "", what[600];
        struct conf *conf = case_conf(plan_cases[i].side, plan_cases[i].hold, "true");
        CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
        struct session *session = case_session(conf, plan_cases[i].message);
        struct plan plan;
        plan_make(session, secret, &plan);
        describe(&plan, session, text, sizeof(text));
        snprintf(what, sizeof(what), "%s side, hold=%s: %s", plan_cases[i].side,
                 plan_cases[i].hold, plan_cases[i].message);
        CHECK_STR(what, text, plan_cases[i].expected);
        plan_free(&plan);
        session_free(session);
        conf_unref(conf);
    }
}

static void check_plan(const char *what, struct session *session,
                       const unsigned char *key, const char *expected)
{
    char text[512] = "";
    struct plan plan;
    plan_make(session, key, &plan);
    describe(&plan, session, text, sizeof(text));
    CHECK_STR(what, text, expected);
    plan_free(&plan);
}

static void test_without_key(void)
{
    static const struct {
        const char *message, *expected;
        bool wanted;
    } keyless[] = {
        { "a@example.com=o", "accept", false },
        { "a@example.com=l", "hold", false },
        { "a@example.com=n", "later no-trace-key", true },
        { "a@example.com=n,n=t@new.test", "later no-trace-key", true },
        { "a@example.com=o,c=k@arch.test", "later no-trace-key", true },
    };
    struct conf *conf = case_conf("old", "queue", "false");
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    for (size_t i = 0; i < sizeof(keyless) / sizeof(keyless[0]); i++) {
        struct session *session = case_session(conf, keyless[i].message);
        CHECK_INT(keyless[i].message, plan_wants_secret(session), keyless[i].wanted);
        check_plan(keyless[i].message, session, NULL, keyless[i].expected);
        session_free(session);
    }
    conf_unref(conf);
}

static void test_incomplete(void)
{
    struct conf *conf = case_conf("old", "queue", "false");
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    struct session *session = case_session(conf, "a@example.com=l");
    session->incomplete = "no-memory";
    check_plan("incomplete", session, secret, "later no-memory");
    session_free(session);
    conf_unref(conf);
}

/* What one side adds must stop the other: a message that went away comes back. */
static void test_loop(void)
{
    static const char *const kinds[] = { "a@example.com=n",
                                         "a@example.com=n,n=t@new.test" };
    struct conf *conf = case_conf("old", "queue", "false");
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    for (size_t i = 0; i < 2; i++) {
        struct session *first = case_session(conf, kinds[i]);
        struct plan plan;
        plan_make(first, secret, &plan);
        CU_ASSERT_FATAL(plan.trace_count == 1);
        struct session *again = case_session(conf, kinds[i]);
        session_header(again, TRACE_HEADER, plan.traces[0]);
        check_plan("the same again", again, secret, "loop");
        again->recipients[0]->route.home.epoch++;
        if (i == 0)
            check_plan("after another change", again, secret, "accept trace=1");
        session_free(again);
        struct session *other = case_session(conf, "b@example.com=n");
        session_header(other, TRACE_HEADER, plan.traces[0]);
        check_plan("another recipient", other, secret, "accept trace=1");
        session_free(other);
        struct session *held = case_session(conf, "a@example.com=l");
        session_header(held, TRACE_HEADER, plan.traces[0]);
        check_plan("a lock is no loop", held, secret, "hold");
        session_free(held);
        plan_free(&plan);
        session_free(first);
    }
    conf_unref(conf);
}

static void test_copy_is_made_once_on_both_sides(void)
{
    struct conf *old = case_conf("old", "queue", "true");
    struct conf *new = case_conf("new", "queue", "true");
    CU_ASSERT_FATAL(old && new);
    struct session *first = case_session(old, "a@example.com=n,c=k@arch.test");
    struct plan plan;
    plan_make(first, secret, &plan);
    CU_ASSERT_FATAL(plan.trace_count == 1);
    struct session *second = case_session(new, "a@example.com=n,c=k@arch.test");
    session_header(second, TRACE_HEADER, plan.traces[0]);
    check_plan("on the new side", second, secret, "accept");
    session_free(second);
    second = case_session(new, "a@example.com=n,c=other@arch.test");
    session_header(second, TRACE_HEADER, plan.traces[0]);
    check_plan("another copy address", second, secret,
               "accept +other@arch.test trace=1 copied=0");
    session_free(second);
    plan_free(&plan);
    session_free(first);
    conf_unref(old);
    conf_unref(new);
}

static void test_many_tokens_are_folded(void)
{
    struct conf *conf = case_conf("old", "queue", "false");
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    struct session *session = session_new();
    session_mail(session, conf, "<s@x.test>", NULL);
    for (int i = 0; i < 1001; i++) {
        char text[64];
        snprintf(text, sizeof(text), "u%d@example.com=n", i);
        case_word(session, text);
    }
    struct plan plan;
    plan_make(session, secret, &plan);
    CHECK_INT("headers", plan.trace_count, 3);
    for (size_t i = 0; i < plan.trace_count; i++) {
        size_t longest = 0;
        for (const char *line = plan.traces[i]; *line; line += strcspn(line, "\n")) {
            if (*line == '\n')
                line++;
            if (strcspn(line, "\n") > longest)
                longest = strcspn(line, "\n");
        }
        CU_ASSERT(longest <= 78);
        CU_ASSERT(strlen(plan.traces[i]) < 16384);
    }
    struct session *last = case_session(conf, "u1000@example.com=n");
    for (size_t i = 0; i < plan.trace_count; i++)
        session_header(last, TRACE_HEADER, plan.traces[i]);
    check_plan("the last token counts too", last, secret, "loop");
    session_free(last);
    plan_free(&plan);
    session_free(session);
    conf_unref(conf);
}

/* ---- carrying it out --------------------------------------------------- */

struct fake_mta {
    char log[1024];
    const char *refuse; /* the call that fails, or NULL */
    bool keeps_sender;  /* the sender cannot be changed */
    struct store *store;
};

static bool note(struct fake_mta *fake, const char *call, const char *a, const char *b)
{
    size_t len = strlen(fake->log);
    snprintf(fake->log + len, sizeof(fake->log) - len, "%s(%s%s%s) ", call, a,
             b ? "," : "", b ? b : "");
    return !fake->refuse || strcmp(fake->refuse, call) != 0;
}

static bool count_held(void *context, const struct held *held)
{
    static const char *const kinds[] = {
        [HELD_LOCK] = "lock",
        [HELD_LOOP] = "loop",
        [HELD_DMARC] = "dmarc",
    };
    return note(context, kinds[held->kind], held->queue_id, held->recipients);
}

/* The record must be there when the hold is asked for. */
static bool fake_quarantine(void *context, const char *reason)
{
    struct fake_mta *fake = context;
    (void)reason;
    store_each_held(fake->store, "mx.lab.test", count_held, fake);
    return note(fake, "quarantine", "", NULL);
}

static bool fake_add(void *context, const char *address, const char *notify)
{
    return note(context, "add", address, notify);
}

static bool fake_remove(void *context, const char *text)
{
    return note(context, "remove", text, NULL);
}

static bool fake_header(void *context, const char *name, const char *value)
{
    (void)value;
    return note(context, "header", name, NULL);
}

static bool fake_sender(void *context, const char *address)
{
    return note(context, "sender", address, NULL);
}

/* Carries the plan of message out, enforce: with its author's DMARC policy; what
 * came of it is in fake->log and text. */
static void run_plan(const struct conf *conf, const char *message, bool enforce,
                     const char *queue_id, struct fake_mta *fake, char *text, size_t size)
{
    const struct mta mta = { .context = fake,
                             .quarantine = fake_quarantine,
                             .add = fake_add,
                             .remove = fake_remove,
                             .header = fake_header,
                             .sender = fake->keeps_sender ? NULL : fake_sender };
    struct session *session = case_session(conf, message);
    struct plan plan;
    plan_make(session, secret, &plan);
    if (enforce)
        plan_quarantine(&plan);
    plan_apply(&plan, session, &mta, fake->store, queue_id, 1000);
    describe(&plan, session, text, size);
    plan_count(&plan, session, fake->store, queue_id, 1000);
    plan_free(&plan);
    session_free(session);
}

static void test_apply(void)
{
    static const struct {
        const char *message, *queue_id, *refuse, *calls, *outcome;
        bool store_fails;
    } runs[] = {
        { "a@example.com=l b@example.com=l", "Q1", NULL,
          "lock(Q1,a@example.com\nb@example.com) quarantine() ", "hold", false },
        { "a@example.com=l", "Q1", NULL, "", "later not-recorded", true },
        { "a@example.com=l", NULL, NULL, "", "later no-queue-id", false },
        { "a@example.com=l", "Q1", "quarantine", "lock(Q1,a@example.com) quarantine() ",
          "later mta-refused", false },
        { "a@example.com=n", "Q1", NULL, "header(X-Sluice-Trace) ", "accept trace=1",
          false },
        { "a@example.com=n", "Q1", "header", "header(X-Sluice-Trace) ",
          "later mta-refused", false },
        { "a@example.com=n,n=t@new.test", "Q1", NULL,
          "add(t@new.test) remove(<a@example.com>) header(X-Sluice-Trace) ",
          "accept -<a@example.com> +t@new.test trace=1", false },
        { "a@example.com=n,n=t@new.test", "Q1", "add", "add(t@new.test) ",
          "later mta-refused", false },
        { "a@example.com=o,c=k@arch.test", "Q1", NULL,
          "add(k@arch.test,NOTIFY=NEVER) header(X-Sluice-Trace) ",
          "accept +k@arch.test trace=1 copied=0", false },
        { "a@example.com=f", "Q1", NULL, "", "later lookup-failed", false },
    };
    struct conf *conf = case_conf("old", "queue", "false");
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        struct fake_mta fake = { .refuse = runs[i].refuse };
        fake.store = runs[i].store_fails ? store_failing_new("down") : store_memory_new();
        char text[512] = "";
        run_plan(conf, runs[i].message, false, runs[i].queue_id, &fake, text,
                 sizeof(text));
        CHECK_STR(runs[i].message, fake.log, runs[i].calls);
        CHECK_STR(runs[i].message, text, runs[i].outcome);
        store_free(fake.store);
    }
    conf_unref(conf);
}

static struct conf *srs_conf(const char *side)
{
    struct conf *conf = case_conf(side, "queue", "true");
    if (!conf)
        return NULL;
    conf->srs.domain = strdup("srs.test");
    conf->srs.secrets = calloc(2, sizeof(*conf->srs.secrets));
    if (conf->srs.domain && conf->srs.secrets)
        conf->srs.secrets[0] = strdup("tops3cret");
    return conf;
}

/* enforce = quarantine: on hold whatever else. A copy waits with the message, since
 * nobody would make it later; a redirect is made when it is released. */
static void test_quarantine(void)
{
    static const struct {
        const char *message, *calls, *outcome;
    } runs[] = {
        { "a@example.com=o", "dmarc(Q1,a@example.com) quarantine() ", "dmarc" },
        { "a@example.com=l",
          "sender(SRS0=MPV3=AA=x.test=s@srs.test) dmarc(Q1,a@example.com) quarantine() ",
          "dmarc" },
        { "x@other.test", "dmarc(Q1,) quarantine() ", "dmarc" },
        { "a@example.com=n,n=t@new.test",
          "sender(SRS0=MPV3=AA=x.test=s@srs.test) header(X-Sluice-Trace) "
          "dmarc(Q1,a@example.com) quarantine() ",
          "dmarc" },
        { "a@example.com=o,c=k@arch.test",
          "sender(SRS0=MPV3=AA=x.test=s@srs.test) add(k@arch.test,NOTIFY=NEVER) "
          "header(X-Sluice-Trace) dmarc(Q1,a@example.com) quarantine() ",
          "dmarc copied=0" },
        { "a@example.com=l,c=k@arch.test b@example.com=n,n=t@new.test",
          "sender(SRS0=MPV3=AA=x.test=s@srs.test) add(k@arch.test,NOTIFY=NEVER) "
          "header(X-Sluice-Trace) dmarc(Q1,a@example.com\nb@example.com) quarantine() ",
          "dmarc copied=0" },
        { "a@example.com=f", "", "later lookup-failed" },
    };
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        struct fake_mta fake = { .store = store_memory_new() };
        struct conf *conf = srs_conf("old");
        CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
        char text[512] = "";
        run_plan(conf, runs[i].message, true, "Q1", &fake, text, sizeof(text));
        CHECK_STR(runs[i].message, fake.log, runs[i].calls);
        CHECK_STR(runs[i].message, text, runs[i].outcome);
        store_free(fake.store);
        conf_unref(conf);
    }
}

/* Without a managed mailbox: on hold whether or not it can be recorded. */
static void test_quarantine_of_others(void)
{
    static const struct {
        const char *what, *queue_id, *refuse, *calls;
        bool without_store, held;
    } runs[] = {
        { "recorded", "Q1", NULL, "dmarc(Q1,) quarantine() ", false, true },
        { "Redis is down", "Q1", NULL, "quarantine() ", true, true },
        { "without an id", NULL, NULL, "quarantine() ", false, true },
        { "refused", "Q1", "quarantine", "dmarc(Q1,) quarantine() ", false, false },
    };
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        struct fake_mta fake = { .refuse = runs[i].refuse, .store = store_memory_new() };
        const struct mta mta = { .context = &fake, .quarantine = fake_quarantine };
        struct conf *conf = case_conf("old", "queue", "false");
        CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
        struct session *session = case_session(conf, "x@other.test");
        bool held =
            apply_quarantine(session, &mta, runs[i].without_store ? NULL : fake.store,
                             runs[i].queue_id, 1000);
        CHECK_INT(runs[i].what, held, runs[i].held);
        CHECK_STR(runs[i].what, fake.log, runs[i].calls);
        session_free(session);
        store_free(fake.store);
        conf_unref(conf);
    }
}

/* ---- the envelope sender ------------------------------------------------- */

static void test_sender(void)
{
#define OF_S "sender(SRS0=MPV3=AA=x.test=s@srs.test) "
    static const struct {
        const char *side, *message, *calls;
    } runs[] = {
        /* what leaves, and what stays */
        { "old", "a@example.com=n", OF_S "header(X-Sluice-Trace) " },
        { "new", "a@example.com=o", OF_S "header(X-Sluice-Trace) " },
        { "old", "a@example.com=o", "" },
        { "new", "a@example.com=n", "" },
        { "old", "x@other.test", "" },
        { "old", "T@New.Test", "" },
        { "old", "a@example.com=f", "" },
        { "old", "a@example.com=n,n=t@new.test",
          OF_S "add(t@new.test) remove(<a@example.com>) header(X-Sluice-Trace) " },
        { "old", "a@example.com=o b@example.com=n x@other.test",
          OF_S "header(X-Sluice-Trace) " },
        /* a lock on the old side; on the new side the mail comes to stay */
        { "old", "a@example.com=l", OF_S "lock(Q1,a@example.com) quarantine() " },
        { "old", "a@example.com=l b@example.com=o", OF_S },
        { "new", "a@example.com=l", "lock(Q1,a@example.com) quarantine() " },
        /* copies that go to another host */
        { "old", "a@example.com=o,c=k@arch.test",
          OF_S "add(k@arch.test,NOTIFY=NEVER) header(X-Sluice-Trace) " },
        { "old", "a@example.com=o,c=k@example.com",
          "add(k@example.com,NOTIFY=NEVER) header(X-Sluice-Trace) " },
        { "old", "from:a@example.com=o,c=k@arch.test x@other.test",
          "sender(SRS0=aE6E=AA=example.com=a@srs.test) "
          "add(k@arch.test,NOTIFY=NEVER) header(X-Sluice-Trace) " },
        /* senders */
        { "old", "from: a@example.com=n", "header(X-Sluice-Trace) " },
        { "old", "from:root a@example.com=n", "header(X-Sluice-Trace) " },
        { "old", "from:<s@SRS.Test> a@example.com=n", "header(X-Sluice-Trace) " },
        { "old", "from:<s@exa\"mple> a@example.com=n", "header(X-Sluice-Trace) " },
        { "old", "from:<SRS1+x@y.test> a@example.com=n", "header(X-Sluice-Trace) " },
    };
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        struct fake_mta fake = { .store = store_memory_new() };
        struct conf *conf = srs_conf(runs[i].side);
        CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
        char text[512] = "", what[300];
        run_plan(conf, runs[i].message, false, "Q1", &fake, text, sizeof(text));
        snprintf(what, sizeof(what), "%s side: %s", runs[i].side, runs[i].message);
        CHECK_STR(what, fake.log, runs[i].calls);
        store_free(fake.store);
        conf_unref(conf);
    }
    struct fake_mta fake = { .refuse = "sender", .store = store_memory_new() };
    struct conf *conf = srs_conf("old");
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    char text[512] = "";
    run_plan(conf, "a@example.com=l", false, "Q1", &fake, text, sizeof(text));
    CHECK_STR("refused", fake.log, OF_S);
    CHECK_STR("refused", text, "later mta-refused");
    /* negotiated before srs was switched on */
    fake = (struct fake_mta){ .keeps_sender = true, .store = fake.store };
    run_plan(conf, "a@example.com=n", false, "Q1", &fake, text, sizeof(text));
    CHECK_STR("goes on as it is", fake.log, "header(X-Sluice-Trace) ");
    store_free(fake.store);
    conf_unref(conf);
}

UNIT_MAIN("milter plan", { "plans", test_plans }, { "without key", test_without_key },
          { "incomplete", test_incomplete }, { "loop", test_loop },
          { "copy once", test_copy_is_made_once_on_both_sides },
          { "many tokens", test_many_tokens_are_folded }, { "apply", test_apply },
          { "quarantine", test_quarantine },
          { "quarantine of others", test_quarantine_of_others },
          { "envelope sender", test_sender })
