/*
 * The fence with a clock, a queue and answers of the test's own. A script is a
 * list of steps; each case says what must be confirmed when.
 */
#include "../../policyd/fence.h"

#include <stdlib.h>

#include "../../policyd/queue.h"
#include "unit.h"

/* The host as the fence sees it. */
struct scene {
    int64_t now;
    uint64_t started, answered;
    enum fence_answer selftest, reload, settled, quiet;
    int selftests, reloads, lists, judged;
    int64_t slack;
    bool list_fails;
    const char *queue; /* "id:a" active, ":A" active and relevant, ":d" deferred */
    char last_domain[64];
    size_t last_count;
};

static int64_t now_ms(void *context)
{
    return ((struct scene *)context)->now;
}

static uint64_t started(void *context)
{
    return ((struct scene *)context)->started;
}

static uint64_t answered(void *context)
{
    return ((struct scene *)context)->answered;
}

static int64_t slack(void *context)
{
    return ((struct scene *)context)->slack;
}

static enum fence_answer say(enum fence_answer answer, const char *text, char *why,
                             size_t size)
{
    if (answer != FENCE_YES)
        snprintf(why, size, "%s", text);
    return answer;
}

static enum fence_answer selftest(void *context, const char *domain,
                                  const char *const *locals, size_t n, char *why,
                                  size_t size)
{
    struct scene *scene = context;
    (void)locals;
    scene->selftests++;
    snprintf(scene->last_domain, sizeof(scene->last_domain), "%s", domain);
    scene->last_count = n;
    return say(scene->selftest, "shadowed", why, size);
}

static enum fence_answer reload(void *context, char *why, size_t size)
{
    struct scene *scene = context;
    scene->reloads++;
    return say(scene->reload, "no reload", why, size);
}

static enum fence_answer settled(void *context, char *why, size_t size)
{
    struct scene *scene = context;
    return say(scene->settled, "old qmgr", why, size);
}

static enum fence_answer quiet(void *context)
{
    return ((struct scene *)context)->quiet;
}

static bool list(void *context, bool judge, fence_message_fn *each, void *each_context,
                 char *why, size_t size)
{
    struct scene *scene = context;
    scene->lists++;
    scene->judged += judge;
    if (scene->list_fails) {
        snprintf(why, size, "no list");
        return false;
    }
    for (const char *at = scene->queue; *at;) {
        char id[32];
        size_t len = strcspn(at, ":");
        memcpy(id, at, len);
        id[len] = '\0';
        char kind = at[len + 1];
        each(each_context,
             &(struct fence_message){ .id = id,
                                      .in_flight = kind == 'a' || kind == 'A',
                                      .settled = kind == 'd',
                                      .relevant = judge && kind == 'A' });
        at += len + 2 + (at[len + 2] == ' ');
    }
    return true;
}

static struct scene scene;

static struct fence *begin(enum conf_fence mode, uint64_t confirmed)
{
    static const struct fence_ports ports = {
        .context = &scene,
        .now_ms = now_ms,
        .lookups_started = started,
        .lookups_answered = answered,
        .cache_slack = slack,
        .selftest = selftest,
        .reload = reload,
        .settled = settled,
        .quiet = quiet,
        .list = list,
    };
    memset(&scene, 0, sizeof(scene));
    scene.now = 1000000;
    scene.queue = "";
    return fence_new(&ports, mode, confirmed);
}

static void give(struct fence *fence, enum event_op op, uint64_t epoch, const char *body)
{
    struct event event = { .at = { .epoch = epoch }, .op = op, .body = body };
    snprintf(event.domain, sizeof(event.domain), "example.com");
    event.letter = op == EVENT_LOCK       ? 'l'
                   : op == EVENT_ROLLBACK ? 'r'
                   : op == EVENT_FLIP     ? 'n'
                                          : 'o';
    event.body_len = strlen(body);
    CU_ASSERT(fence_event(fence, &event));
}

static void pass(struct fence *fence, int64_t ms)
{
    for (int64_t end = scene.now + ms; scene.now < end;) {
        scene.now += 50;
        fence_step(fence);
    }
}

static const char *state(const struct fence *fence)
{
    static char text[160];
    fence_state(fence, text, sizeof(text));
    return text;
}

static void test_wait(void)
{
    struct fence *fence = begin(FENCE_WAIT, 4);
    CHECK_INT("at the start", fence_epoch(fence), 4);
    give(fence, EVENT_LOCK, 5, "a\nb\n");
    CHECK_INT("begun", fence_epoch(fence), 4);
    pass(fence, 31000);
    CHECK_INT("too early", fence_epoch(fence), 4);
    CHECK_INT("no listing before", scene.lists, 0);
    CU_ASSERT(strstr(state(fence), "resolve caches") != NULL);
    pass(fence, 2000);
    CHECK_INT("confirmed", fence_epoch(fence), 5);
    CHECK_INT("judged once", scene.judged, 1);
    CHECK_INT("both addresses", scene.last_count, 2);
    CHECK_STR("nothing to say", state(fence), "");
    fence_free(fence);
}

static void test_passing_events(void)
{
    struct fence *fence = begin(FENCE_WAIT, 0);
    give(fence, EVENT_INIT, 1, "\to1.1\n");
    CHECK_INT("init needs no fence", fence_epoch(fence), 1);
    give(fence, EVENT_IMPORT, 2, "a\to1.1\n");
    CHECK_INT("import needs none", fence_epoch(fence), 2);
    give(fence, EVENT_FLIP, 3, "a\n");
    give(fence, EVENT_HOST, 4, "mx\told\n");
    CHECK_INT("flip and host need none", fence_epoch(fence), 4);
    give(fence, EVENT_IMPORT, 5, "b\tl3.1\n");
    CHECK_INT("import into a locked domain does", fence_epoch(fence), 4);
    give(fence, EVENT_FLIP, 6, "a\n");
    CHECK_INT("what follows waits behind it", fence_epoch(fence), 4);
    pass(fence, 33000);
    CHECK_INT("all at once", fence_epoch(fence), 6);
    fence_free(fence);
}

static void test_lookups(void)
{
    struct fence *fence = begin(FENCE_WAIT, 0);
    scene.started = 10;
    scene.answered = 8;
    give(fence, EVENT_LOCK, 1, "a\n");
    scene.started = 20; /* later ones see the lock */
    pass(fence, 60000);
    CHECK_INT("a lookup of before is out", fence_epoch(fence), 0);
    scene.answered = 10;
    pass(fence, 31000);
    CHECK_INT("its cache entry lives 30 s from the answer", fence_epoch(fence), 0);
    pass(fence, 2000);
    CHECK_INT("then it is over", fence_epoch(fence), 1);
    fence_free(fence);
}

static void test_slow_tables(void)
{
    struct fence *fence = begin(FENCE_WAIT, 0);
    scene.slack = 30000;
    give(fence, EVENT_LOCK, 1, "a\n");
    pass(fence, 61000);
    CHECK_INT("other tables may be slow", fence_epoch(fence), 0);
    pass(fence, 3000);
    CHECK_INT("in the end", fence_epoch(fence), 1);
    fence_free(fence);
}

static void test_selftest(void)
{
    struct fence *fence = begin(FENCE_WAIT, 0);
    scene.selftest = FENCE_NOT_YET;
    give(fence, EVENT_LOCK, 1, "a\n");
    pass(fence, 100000);
    CHECK_INT("never", fence_epoch(fence), 0);
    CHECK_STR("it says why", state(fence), "shadowed");
    CU_ASSERT(scene.selftests > 10 && scene.selftests < 100);
    scene.selftest = FENCE_YES;
    fence_retry(fence);
    pass(fence, 31000);
    CHECK_INT("the caches count from its success", fence_epoch(fence), 0);
    pass(fence, 2000);
    CHECK_INT("confirmed", fence_epoch(fence), 1);
    fence_free(fence);
}

/* A mailbox is asked about once: Postfix answers each address once. */
static void test_locked_again(void)
{
    struct fence *fence = begin(FENCE_RELOAD, 0);
    scene.selftest = FENCE_YES;
    give(fence, EVENT_LOCK, 1, "a\nb\n");
    give(fence, EVENT_UNLOCK, 2, "a\nb\n");
    give(fence, EVENT_LOCK, 3, "b\na\naa\n");
    pass(fence, 2000);
    CHECK_INT("one generation", scene.selftests, 1);
    CHECK_INT("of three addresses", scene.last_count, 3);
    fence_free(fence);
}

static void test_drain(void)
{
    struct fence *fence = begin(FENCE_WAIT, 0);
    give(fence, EVENT_LOCK, 1, "a\n");
    scene.queue = "m1:A m2:a m3:A m4:d m5:A m5:d";
    pass(fence, 34000);
    CHECK_INT("two deliveries", fence_epoch(fence), 0);
    CU_ASSERT(strstr(state(fence), "2 deliveries") != NULL);
    scene.queue = "m2:a m3:A m6:A"; /* m6 came later: resolved anew */
    pass(fence, 2000);
    CHECK_STR("one is left", state(fence),
              "waiting for 1 delivery that began before the lock, e.g. m3");
    CHECK_INT("judged once", scene.judged, 1);
    scene.queue = "m2:a m3:d m6:A";
    pass(fence, 2000);
    CHECK_INT("gone or deferred", fence_epoch(fence), 1);
    fence_free(fence);
}

static void test_drain_seen_twice(void)
{
    struct fence *fence = begin(FENCE_WAIT, 0);
    give(fence, EVENT_LOCK, 1, "a\n");
    scene.queue = "m1:A";
    pass(fence, 34000);
    scene.queue = "m1:A m1:d"; /* moved while the queue was read */
    pass(fence, 2000);
    CHECK_INT("it was in deferred", fence_epoch(fence), 1);
    fence_free(fence);
}

static void test_list_fails(void)
{
    struct fence *fence = begin(FENCE_WAIT, 0);
    give(fence, EVENT_LOCK, 1, "a\n");
    scene.list_fails = true;
    pass(fence, 60000);
    CHECK_INT("unknown is not empty", fence_epoch(fence), 0);
    CHECK_STR("says so", state(fence), "no list");
    scene.list_fails = false;
    pass(fence, 2000);
    CHECK_INT("goes on", fence_epoch(fence), 1);
    fence_free(fence);
}

static void test_order(void)
{
    struct fence *fence = begin(FENCE_WAIT, 0);
    give(fence, EVENT_LOCK, 1, "a\n");
    give(fence, EVENT_LOCK, 2, "b\n");
    pass(fence, 200);
    give(fence, EVENT_LOCK, 3, "c\n");
    CHECK_INT("joined", fence_pending(fence), 1);
    pass(fence, 10000);
    give(fence, EVENT_LOCK, 4, "d\n");
    CHECK_INT("a second generation", fence_pending(fence), 2);
    scene.queue = "m1:A";
    pass(fence, 23000);
    CHECK_INT("the first drains", fence_epoch(fence), 0);
    /* The second finds nothing relevant, but is behind the first. */
    scene.queue = "m1:a";
    pass(fence, 15000);
    CHECK_INT("in order", fence_epoch(fence), 0);
    scene.queue = "";
    pass(fence, 2000);
    CHECK_INT("both", fence_epoch(fence), 4);
    fence_free(fence);
}

static void test_reload(void)
{
    struct fence *fence = begin(FENCE_RELOAD, 0);
    give(fence, EVENT_LOCK, 1, "a\n");
    scene.settled = FENCE_NOT_YET;
    pass(fence, 3000);
    CHECK_INT("the old qmgr runs", fence_epoch(fence), 0);
    CHECK_STR("says so", state(fence), "old qmgr");
    CHECK_INT("one reload", scene.reloads, 1);
    scene.settled = FENCE_YES;
    pass(fence, 500);
    CHECK_INT("confirmed", fence_epoch(fence), 1);
    fence_free(fence);
}

static void test_reload_drain(void)
{
    struct fence *fence = begin(FENCE_RELOAD, 0);
    give(fence, EVENT_LOCK, 1, "a\n");
    scene.quiet = FENCE_NOT_YET;
    scene.queue = "m1:A";
    pass(fence, 5000);
    CHECK_INT("an old process delivers", fence_epoch(fence), 0);
    scene.queue = "m1:a"; /* it stays in incoming, though it is delivered */
    scene.quiet = FENCE_YES;
    pass(fence, 2000);
    CHECK_INT("none is left", fence_epoch(fence), 1);
    fence_free(fence);
}

static void test_reload_fails(void)
{
    struct fence *fence = begin(FENCE_RELOAD, 0);
    give(fence, EVENT_LOCK, 1, "a\n");
    scene.reload = FENCE_FAILED;
    pass(fence, 10000);
    CHECK_INT("not confirmed", fence_epoch(fence), 0);
    CHECK_STR("says so", state(fence), "no reload");
    CU_ASSERT(scene.reloads >= 3 && scene.reloads <= 6);
    scene.reload = FENCE_YES;
    pass(fence, 3000);
    CHECK_INT("confirmed", fence_epoch(fence), 1);
    fence_free(fence);
}

static void test_reload_burst(void)
{
    struct fence *fence = begin(FENCE_RELOAD, 0);
    for (uint64_t epoch = 1; epoch <= 40; epoch++) {
        give(fence, EVENT_LOCK, epoch, "a\n");
        pass(fence, 100);
    }
    pass(fence, 6000);
    CHECK_INT("confirmed", fence_epoch(fence), 40);
    CHECK_INT("reloads", scene.reloads, 1);
    fence_free(fence);
}

static void test_replay(void)
{
    struct fence *fence = begin(FENCE_WAIT, 7);
    give(fence, EVENT_LOCK, 6, "a\n");
    CHECK_INT("confirmed before", fence_pending(fence), 0);
    give(fence, EVENT_LOCK, 8, "b\n");
    CHECK_INT("not yet", fence_epoch(fence), 7);
    pass(fence, 34000);
    CHECK_INT("confirmed", fence_epoch(fence), 8);
    fence_free(fence);
}

static void test_base(void)
{
    struct fence *fence = begin(FENCE_WAIT, 3);
    give(fence, EVENT_BASE, 20, "a\tl2.1\nb\to5.1\n");
    CHECK_INT("an old lock is confirmed", fence_pending(fence), 0);
    give(fence, EVENT_BASE, 20, "c\tl9.1\n");
    fence_reached(fence, 20);
    CHECK_INT("a lock below the base", fence_epoch(fence), 3);
    pass(fence, 34000);
    CHECK_INT("confirmed", fence_epoch(fence), 20);
    fence_free(fence);
}

UNIT_MAIN("fence", { "wait", test_wait }, { "events that pass", test_passing_events },
          { "lookups in flight", test_lookups }, { "slow tables", test_slow_tables },
          { "self-test", test_selftest }, { "locked again", test_locked_again },
          { "drain", test_drain }, { "seen twice", test_drain_seen_twice },
          { "listing fails", test_list_fails }, { "order", test_order },
          { "reload", test_reload }, { "reload and drain", test_reload_drain },
          { "reload fails", test_reload_fails }, { "reload burst", test_reload_burst },
          { "replay", test_replay }, { "base", test_base })
