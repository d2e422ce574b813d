/*
 * The contract of the store: every case runs over the store in memory and over
 * Redis (a private redis-server of this test), so that the two cannot drift
 * apart. Outages and what Redis alone can do: test_store_outage.c.
 */
#include "config.h"

#include "redis.h"
#include "monitor_row.h"
#include "store_case.h"

static struct redis_case rc;
static bool on_redis;

static struct store *fresh(void)
{
    if (!on_redis)
        return store_memory_new();
    struct redis *redis = redis_new(rc.conf);
    struct redis_args args = { 0 };
    redis_begin(redis, 1000);
    redis_args_words(&args, "FLUSHALL", (char *)NULL);
    redis_command(redis, &args);
    if (redis_run(redis) != REDIS_DONE)
        printf("\n  FLUSHALL: %s\n", redis_error(redis));
    redis_args_free(&args);
    redis_free(redis);
    return store_redis_new(rc.conf, NULL);
}

/* A registered domain, a host on each side, mailbox a. */
static struct store *furnished(void)
{
    struct store *store = fresh();
    CHECK_DONE(store, store_init_domain(store, "example.com"));
    CHECK_DONE(store, case_host(store, "mx1", SIDE_OLD, 0));
    CHECK_DONE(store, case_host(store, "mx2", SIDE_NEW, 0));
    CHECK_INT("import a", case_status(store, EVENT_IMPORT, "a"), CHANGE_MADE);
    return store;
}

static void confirm_fences(struct store *store)
{
    uint64_t epoch = case_epoch(store);
    CHECK_DONE(store, case_host(store, "mx1", SIDE_OLD, epoch));
    CHECK_DONE(store, case_host(store, "mx2", SIDE_NEW, epoch));
}

/* ---- lookups ----------------------------------------------------------- */

static void test_unknown_is_not_unlocked(void)
{
    struct store *store = fresh();
    struct position at;
    struct change_result *result = calloc(1, sizeof(*result));
    CHECK_INT("lookup", case_look(store, rc.conf, "a@example.com"), '?');
    CHECK_INT("position", store_position(store, &at), LOOKUP_ABSENT);
    CHECK_INT("lock", case_change(store, EVENT_LOCK, "a", result), COMMIT_REFUSED);
    CHECK_HAS("lock", store_error(store), "sluice init");
    CHECK_INT("host", case_host(store, "mx1", SIDE_OLD, 0), COMMIT_REFUSED);
    CHECK_HAS("host", store_error(store), "sluice init");
    CHECK_DONE(store, store_init_domain(store, "example.com"));
    CHECK_INT("unlisted", case_look(store, rc.conf, "a@example.com"), 'O');
    CHECK_INT("unregistered", case_look(store, rc.conf, "a@example.net"), '-');
    free(result);
    store_free(store);
}

static void test_init(void)
{
    struct store *store = fresh();
    unsigned char one[STORE_SECRET_LEN], two[STORE_SECRET_LEN];
    char **domains;
    CHECK_DONE(store, store_init_domain(store, "example.com"));
    CHECK_INT("secret", store_secret(store, one), LOOKUP_FOUND);
    CHECK_DONE(store, store_init_domain(store, "example.com"));
    CHECK_INT("again: no change", case_epoch(store), 1);
    CHECK_DONE(store, store_init_domain(store, "example.net"));
    CHECK_INT("another", case_epoch(store), 2);
    CHECK_INT("secret", store_secret(store, two), LOOKUP_FOUND);
    CU_ASSERT(memcmp(one, two, sizeof(one)) == 0);
    CHECK_INT("domains", store_domains(store, &domains), LOOKUP_FOUND);
    CHECK_INT("two", domains[0] && domains[1] && !domains[2], 1);
    store_list_free(domains);
    CU_ASSERT(store_time_ms(store) > 1700000000000);
    store_free(store);
}

static void test_message_of_many(void)
{
    enum { N = 1000 };
    struct store *store = furnished();
    static struct route many[N];
    static struct route *routes[N];
    CHECK_DONE(store, store_init_domain(store, "example.net"));
    CHECK_INT("lock", case_status(store, EVENT_LOCK, "a"), CHANGE_MADE);
    for (int i = 0; i < N; i++) {
        char address[64];
        const char *const shapes[] = { "a@example.com", "A+x%d@Example.COM",
                                       "u%d@example.com", "u%d@example.net",
                                       "u%d@unmanaged.example" };
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        int len = snprintf(address, sizeof(address), shapes[i % 5], i);
#pragma GCC diagnostic pop
        route_prepare(rc.conf, address, (size_t)len, &many[i]);
        routes[i] = &many[i];
    }
    store_lookup(store, routes, N);
    const char *wrong = NULL;
    for (int i = 0; i < N; i++) {
        if (i % 5 == 4)
            continue;
        bool ok = many[i].lookup == LOOKUP_FOUND && many[i].home.listed == (i % 5 < 2) &&
                  many[i].home.state == (i % 5 < 2 ? HOME_LOCKED : HOME_OLD);
        if (!ok && !wrong)
            wrong = many[i].addr.local;
    }
    CHECK_STR("first wrong one", wrong ? wrong : "none", "none");
    store_free(store);
}

/* ---- changes ----------------------------------------------------------- */

static const char *const ways[] = {
    /* what leads to the state, from old: */
    ['o'] = "",
    ['l'] = "l",
    ['n'] = "lf",
    ['r'] = "lfr",
};

static enum event_op op_of(char letter)
{
    return letter == 'l'   ? EVENT_LOCK
           : letter == 'f' ? EVENT_FLIP
           : letter == 'u' ? EVENT_UNLOCK
                           : EVENT_ROLLBACK;
}

static void lead(struct store *store, const char *local, const char *way)
{
    for (; *way; way++) {
        confirm_fences(store);
        CHECK_INT("on the way", case_status(store, op_of(*way), local), CHANGE_MADE);
    }
}

static void test_transitions(void)
{
    static const struct {
        char from;
        enum event_op op;
        bool fenced;
        enum change_status status;
        char to;
    } rows[] = {
        { 'o', EVENT_LOCK, false, CHANGE_MADE, 'l' },
        { 'l', EVENT_LOCK, false, CHANGE_ALREADY, 'l' },
        { 'r', EVENT_LOCK, false, CHANGE_STATE, 'r' },
        { 'n', EVENT_LOCK, false, CHANGE_STATE, 'n' },
        { 'o', EVENT_FLIP, true, CHANGE_STATE, 'o' },
        { 'l', EVENT_FLIP, true, CHANGE_MADE, 'n' },
        { 'l', EVENT_FLIP, false, CHANGE_FENCE, 'l' },
        { 'r', EVENT_FLIP, false, CHANGE_MADE, 'n' },
        { 'n', EVENT_FLIP, false, CHANGE_ALREADY, 'n' },
        { 'o', EVENT_UNLOCK, false, CHANGE_ALREADY, 'o' },
        { 'l', EVENT_UNLOCK, false, CHANGE_MADE, 'o' },
        { 'r', EVENT_UNLOCK, false, CHANGE_FENCE, 'r' },
        { 'r', EVENT_UNLOCK, true, CHANGE_MADE, 'o' },
        { 'n', EVENT_UNLOCK, true, CHANGE_STATE, 'n' },
        { 'o', EVENT_ROLLBACK, true, CHANGE_STATE, 'o' },
        { 'l', EVENT_ROLLBACK, true, CHANGE_STATE, 'l' },
        { 'r', EVENT_ROLLBACK, true, CHANGE_ALREADY, 'r' },
        { 'n', EVENT_ROLLBACK, false, CHANGE_MADE, 'r' },
    };
    struct store *store = furnished();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char local[16], what[64], address[32];
        snprintf(local, sizeof(local), "row%zu", i);
        snprintf(address, sizeof(address), "%s@example.com", local);
        snprintf(what, sizeof(what), "row %zu: %s from %c", i, event_op_name(rows[i].op),
                 rows[i].from);
        CHECK_INT(what, case_status(store, EVENT_IMPORT, local), CHANGE_MADE);
        lead(store, local, ways[(unsigned char)rows[i].from]);
        if (rows[i].fenced)
            confirm_fences(store);
        uint64_t before = case_epoch(store);
        CHECK_INT(what, case_status(store, rows[i].op, local), rows[i].status);
        CHECK_INT(what, case_look(store, rc.conf, address), rows[i].to);
        CHECK_INT(what, case_epoch(store), before + (rows[i].status == CHANGE_MADE));
    }
    CHECK_INT("unlisted", case_status(store, EVENT_LOCK, "nobody"), CHANGE_UNLISTED);
    CHECK_INT("locked at last", (long long)case_check_locks(store, "locks"), 8);
    store_free(store);
}

static void test_import(void)
{
    struct store *store = furnished();
    static const struct {
        const char *local, *new_address, *copy;
        enum change_status status;
        const char *new_after, *copy_after;
    } rows[] = {
        { "b", NULL, NULL, CHANGE_MADE, "", "" },
        { "b", NULL, NULL, CHANGE_ALREADY, "", "" },
        { "b", "b@t.example.net", NULL, CHANGE_MADE, "b@t.example.net", "" },
        { "b", NULL, "c@t.example.net", CHANGE_MADE, "b@t.example.net",
          "c@t.example.net" },
        { "b", NULL, NULL, CHANGE_ALREADY, "b@t.example.net", "c@t.example.net" },
        { "b", "b@t.example.net", "c@t.example.net", CHANGE_ALREADY, "b@t.example.net",
          "c@t.example.net" },
        { "b", "", NULL, CHANGE_MADE, "", "c@t.example.net" },
        { "d", "d@t.example.net", "", CHANGE_MADE, "d@t.example.net", "" },
        { "", NULL, NULL, CHANGE_STATE, "", "" },
    };
    static struct change_result result;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char what[64], address[64];
        const struct change_item item = { .local = rows[i].local,
                                          .new_address = rows[i].new_address,
                                          .copy = rows[i].copy };
        const struct change change = {
            .op = EVENT_IMPORT, .domain = "example.com", .items = &item, .count = 1
        };
        snprintf(what, sizeof(what), "row %zu", i);
        CHECK_DONE(store, store_change(store, &change, &result));
        CHECK_INT(what, result.status[0], rows[i].status);
        CHECK_INT(what, result.epoch > 0, rows[i].status == CHANGE_MADE);
        if (!rows[i].local[0])
            continue;
        struct route route, *routes[] = { &route };
        int len = snprintf(address, sizeof(address), "%s@example.com", rows[i].local);
        route_prepare(rc.conf, address, (size_t)len, &route);
        store_lookup(store, routes, 1);
        CHECK_INT(what, route.lookup, LOOKUP_FOUND);
        CHECK_STR(what, route.home.new_address, rows[i].new_after);
        CHECK_STR(what, route.home.copy, rows[i].copy_after);
    }
    /* A home is not changed by importing again, and addresses survive a lock. */
    CHECK_INT("lock d", case_status(store, EVENT_LOCK, "d"), CHANGE_MADE);
    CHECK_INT("import d", case_status(store, EVENT_IMPORT, "d"), CHANGE_ALREADY);
    CHECK_INT("still locked", case_look(store, rc.conf, "d@example.com"), 'l');
    store_free(store);
}

static void test_import_takes_the_domains_home(void)
{
    struct store *store = furnished();
    struct store_totals totals;
    CHECK_INT("lock the rest", case_status(store, EVENT_LOCK, ""), CHANGE_MADE);
    CHECK_INT("unlisted", case_look(store, rc.conf, "late@example.com"), 'L');
    CHECK_INT("import", case_status(store, EVENT_IMPORT, "late"), CHANGE_MADE);
    CHECK_INT("listed", case_look(store, rc.conf, "late@example.com"), 'l');
    CHECK_INT("totals", store_totals(store, "example.com", &totals), LOOKUP_FOUND);
    CHECK_INT("locked", totals.locked, 1);
    CHECK_INT("old", totals.old, 1);
    CHECK_INT("own", totals.own.state, HOME_LOCKED);
    /* With the own record's epoch, so its fence is the lock's fence. */
    CHECK_INT("not fenced", case_status(store, EVENT_FLIP, "late"), CHANGE_FENCE);
    confirm_fences(store);
    CHECK_INT("fenced", case_status(store, EVENT_FLIP, "late"), CHANGE_MADE);
    (void)case_check_locks(store, "locks of imported mailboxes");
    store_free(store);
}

static void test_expected_epoch(void)
{
    struct store *store = furnished();
    static struct change_result result;
    CHECK_DONE(store, case_change(store, EVENT_LOCK, "a", &result));
    uint64_t lock = result.epoch;
    confirm_fences(store);
    struct change_item item = { .local = "a", .expect_epoch = lock + 7 };
    const struct change change = {
        .op = EVENT_FLIP, .domain = "example.com", .items = &item, .count = 1
    };
    CHECK_DONE(store, store_change(store, &change, &result));
    CHECK_INT("another lock", result.status[0], CHANGE_EPOCH);
    CHECK_INT("before", (long long)result.before[0].epoch, (long long)lock);
    CHECK_INT("before", result.before[0].state, HOME_LOCKED);
    item.expect_epoch = lock;
    CHECK_DONE(store, store_change(store, &change, &result));
    CHECK_INT("this lock", result.status[0], CHANGE_MADE);
    CHECK_DONE(store, store_change(store, &change, &result));
    CHECK_INT("repeated", result.status[0], CHANGE_ALREADY);
    store_free(store);
}

static void test_chunk(void)
{
    struct store *store = furnished();
    static struct change_result result;
    static char names[EVENT_ITEMS_MAX][16];
    static struct change_item items[EVENT_ITEMS_MAX + 1];
    for (int i = 0; i < EVENT_ITEMS_MAX; i++) {
        snprintf(names[i], sizeof(names[i]), "u%d", i);
        items[i].local = names[i];
    }
    items[1].local = names[0]; /* twice: the second finds it done */
    items[2].local = "a";
    struct change change = { .op = EVENT_IMPORT,
                             .domain = "example.com",
                             .items = items,
                             .count = EVENT_ITEMS_MAX };
    CHECK_DONE(store, store_change(store, &change, &result));
    CHECK_INT("first", result.status[0], CHANGE_MADE);
    CHECK_INT("not listed before", result.before[0].listed, 0);
    CHECK_INT("twice", result.status[1], CHANGE_ALREADY);
    CHECK_INT("there", result.status[2], CHANGE_ALREADY);
    CHECK_INT("there before", result.before[2].listed, 1);
    CHECK_INT("last", result.status[EVENT_ITEMS_MAX - 1], CHANGE_MADE);
    CHECK_INT("one event", (long long)result.epoch, (long long)case_epoch(store));
    struct store_totals totals;
    store_totals(store, "example.com", &totals);
    CHECK_INT("total", (long long)totals.old, EVENT_ITEMS_MAX - 1);

    items[EVENT_ITEMS_MAX].local = "one-more";
    change.count = EVENT_ITEMS_MAX + 1;
    CHECK_INT("too many", store_change(store, &change, &result), COMMIT_REFUSED);
    items[0].local = "a\nb";
    change.count = 1;
    CHECK_INT("control character", store_change(store, &change, &result), COMMIT_REFUSED);
    items[0] = (struct change_item){ .local = "x", .new_address = "not-an-address" };
    CHECK_INT("no address", store_change(store, &change, &result), COMMIT_REFUSED);
    change.domain = "example.net";
    items[0] = (struct change_item){ .local = "x" };
    CHECK_INT("unregistered", store_change(store, &change, &result), COMMIT_REFUSED);
    CHECK_HAS("unregistered", store_error(store), "example.net");
    change.count = 0;
    CHECK_DONE(store, store_change(store, &change, &result));
    store_free(store);
}

static void test_chunks_under_way(void)
{
    struct store *store = furnished();
    static struct change_result result;
    const struct change_item items[] = { { .local = "p1" },
                                         { .local = "p2" },
                                         { .local = "p3" } };
    struct change changes[3];
    for (int i = 0; i < 3; i++) {
        changes[i] = (struct change){
            .op = EVENT_IMPORT, .domain = "example.com", .items = &items[i], .count = 1
        };
    }
    changes[1].domain = "example.net"; /* refused between two that are done */
    for (int i = 0; i < 3; i++)
        CU_ASSERT(store_change_begin(store, &changes[i]));
    CHECK_INT("first", store_change_finish(store, &changes[0], &result), COMMIT_DONE);
    CHECK_INT("second", store_change_finish(store, &changes[1], &result), COMMIT_REFUSED);
    CHECK_HAS("second", store_error(store), "example.net");
    CHECK_INT("third", store_change_finish(store, &changes[2], &result), COMMIT_DONE);
    CHECK_INT("third", result.status[0], CHANGE_MADE);
    CHECK_INT("made", case_look(store, rc.conf, "p3@example.com"), 'o');
    store_free(store);
}

static void test_lock_needs_a_host(void)
{
    struct store *store = fresh();
    static struct change_result result;
    CHECK_DONE(store, store_init_domain(store, "example.com"));
    CHECK_DONE(store, case_host(store, "mx2", SIDE_NEW, 0));
    CHECK_INT("import", case_status(store, EVENT_IMPORT, "a"), CHANGE_MADE);
    CHECK_INT("lock", case_change(store, EVENT_LOCK, "a", &result), COMMIT_REFUSED);
    CHECK_HAS("lock", store_error(store), "no host of the old side is registered");
    struct change_all all = { .op = EVENT_LOCK, .domain = "example.com" };
    CHECK_INT("lock all", store_change_all(store, &all), COMMIT_REFUSED);
    CHECK_DONE(store, case_host(store, "mx1", SIDE_OLD, 0));
    CHECK_DONE(store, store_host_remove(store, "mx2"));
    CHECK_INT("rollback", case_change(store, EVENT_ROLLBACK, "a", &result),
              COMMIT_REFUSED);
    CHECK_HAS("rollback", store_error(store), "no host of the new side is registered");
    store_free(store);
}

static void test_fence(void)
{
    struct store *store = furnished();
    static struct change_result result;
    const struct change_item item = { .local = "a" };
    const char *const without[] = { "mx2", NULL };
    struct change change = {
        .op = EVENT_FLIP, .domain = "example.com", .items = &item, .count = 1
    };
    CHECK_DONE(store, case_change(store, EVENT_LOCK, "a", &result));
    CHECK_DONE(store, case_host(store, "mx1", SIDE_OLD, result.epoch));
    CHECK_DONE(store, store_change(store, &change, &result));
    CHECK_INT("one of two hosts", result.status[0], CHANGE_FENCE);
    change.without = without;
    CHECK_DONE(store, store_change(store, &change, &result));
    CHECK_INT("without the other", result.status[0], CHANGE_MADE);
    CHECK_INT("rollback", case_status(store, EVENT_ROLLBACK, "a"), CHANGE_MADE);
    change.op = EVENT_UNLOCK;
    change.without = NULL;
    CHECK_DONE(store, store_change(store, &change, &result));
    CHECK_INT("no fence on the way back", result.status[0], CHANGE_FENCE);
    change.force = true;
    CHECK_DONE(store, store_change(store, &change, &result));
    CHECK_INT("forced", result.status[0], CHANGE_MADE);
    store_free(store);
}

static bool stop_at_once(void *context, const struct change_all *all)
{
    (void)all;
    ++*(int *)context;
    return false;
}

static void fill(struct store *store, int n)
{
    static char names[EVENT_ITEMS_MAX][16];
    static struct change_item items[EVENT_ITEMS_MAX];
    static struct change_result result;
    for (int from = 0; from < n; from += EVENT_ITEMS_MAX) {
        int count = n - from < EVENT_ITEMS_MAX ? n - from : EVENT_ITEMS_MAX;
        for (int i = 0; i < count; i++) {
            snprintf(names[i], sizeof(names[i]), "m%d", from + i);
            items[i] = (struct change_item){ .local = names[i] };
        }
        const struct change change = { .op = EVENT_IMPORT,
                                       .domain = "example.com",
                                       .items = items,
                                       .count = (size_t)count };
        CHECK_DONE(store, store_change(store, &change, &result));
    }
}

static void test_whole_domain(void)
{
    struct store *store = furnished();
    struct store_totals totals;
    fill(store, 4999);
    CHECK_INT("one locked before", case_status(store, EVENT_LOCK, "a"), CHANGE_MADE);
    confirm_fences(store);
    CHECK_INT("one moved before", case_status(store, EVENT_IMPORT, "z"), CHANGE_MADE);
    lead(store, "z", "lf");

    int stops = 0;
    struct change_all all = { .op = EVENT_LOCK,
                              .domain = "example.com",
                              .progress = stop_at_once,
                              .context = &stops };
    CHECK_INT("stopped", store_change_all(store, &all), COMMIT_UNCERTAIN);
    CHECK_INT("stopped", stops, 1);
    CHECK_INT("own record is last", case_look(store, rc.conf, "unlisted@example.com"),
              'O');
    uint64_t done = all.made;
    all.progress = NULL;
    CHECK_DONE(store, store_change_all(store, &all));
    CHECK_INT("made", (long long)(done + all.made), 5000); /* 4999 and the own record */
    CHECK_INT("already", (long long)all.already, (long long)done + 1);
    CHECK_INT("wrong state", (long long)all.wrong_state, 1);
    CHECK_INT("epoch", (long long)all.epoch, (long long)case_epoch(store));
    store_totals(store, "example.com", &totals);
    CHECK_INT("locked", (long long)totals.locked, 5000);
    CHECK_INT("new", (long long)totals.new, 1);
    CHECK_INT("own", totals.own.state, HOME_LOCKED);

    uint64_t epoch = all.epoch;
    CHECK_DONE(store, store_change_all(store, &all));
    CHECK_INT("again: made", (long long)all.made, 0);
    CHECK_INT("again: epoch", (long long)all.epoch, (long long)epoch);

    all.op = EVENT_FLIP;
    CHECK_DONE(store, store_change_all(store, &all));
    CHECK_INT("flip without fence", (long long)all.made,
              1); /* a: its fence is confirmed */
    CHECK_INT("flip without fence", (long long)all.unfenced, 5000);
    confirm_fences(store);
    CHECK_DONE(store, store_change_all(store, &all));
    CHECK_INT("flip", (long long)all.made, 5000);
    store_totals(store, "example.com", &totals);
    CHECK_INT("all new", (long long)totals.new, 5001);
    CHECK_INT("none locked", (long long)totals.locked, 0);
    (void)case_check_locks(store, "locks of a whole domain");
    store_free(store);
}

/* Named more than once in one change, a mailbox is counted once. */
static void test_named_often(void)
{
    struct store *store = furnished();
    struct store_totals before, after;
    static struct change_result result;
    static const struct change_item items[] = {
        { .local = "often" }, { .local = "often" }, { .local = "often" }, { .local = "often" }
    };
    static const enum event_op ops[] = { EVENT_IMPORT, EVENT_LOCK };
    store_totals(store, "example.com", &before);
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        const struct change change = {
            .op = ops[i], .domain = "example.com", .items = items, .count = 4
        };
        CHECK_DONE(store, store_change(store, &change, &result));
        CHECK_INT("first", result.status[0], CHANGE_MADE);
        for (size_t k = 1; k < 4; k++)
            CHECK_INT("again", result.status[k], CHANGE_ALREADY);
    }
    store_totals(store, "example.com", &after);
    CHECK_INT("old", (long long)after.old, (long long)before.old);
    CHECK_INT("locked", (long long)after.locked, (long long)before.locked + 1);
    (void)case_check_locks(store, "locks");
    store_free(store);
}

/* ---- events ------------------------------------------------------------ */

struct replay {
    struct position at;
    int count;
    bool broken;
    char ops[256];
    char last_body[64];
};

static bool take_event(void *context, const struct event *event)
{
    struct replay *replay = context;
    const char *prev = replay->at.epoch ? replay->at.id : "-";
    if (event->at.epoch != replay->at.epoch + 1 || strcmp(event->prev, prev) != 0)
        replay->broken = true;
    replay->at = event->at;
    replay->count++;
    size_t used = strlen(replay->ops);
    snprintf(replay->ops + used, sizeof(replay->ops) - used, "%s%s", used ? " " : "",
             event_op_name(event->op));
    snprintf(replay->last_body, sizeof(replay->last_body), "%.*s", (int)event->body_len,
             event->body);
    return true;
}

static void test_events(void)
{
    struct store *store = furnished();
    struct replay all = { 0 };
    CHECK_INT("lock", case_status(store, EVENT_LOCK, "a"), CHANGE_MADE);
    CHECK_INT("events", store_events(store, &all.at, 0, 100, take_event, &all),
              LOOKUP_FOUND);
    CHECK_STR("ops", all.ops, "init host host import lock");
    CHECK_STR("body", all.last_body, "a\n");
    CHECK_INT("chain", all.broken, 0);
    CHECK_INT("at the end", (long long)all.at.epoch, (long long)case_epoch(store));

    int64_t start = case_clock_ms();
    CHECK_INT("none", store_events(store, &all.at, 100, 100, take_event, &all),
              LOOKUP_FOUND);
    CHECK_INT("none", all.count, 5);
    CU_ASSERT(case_clock_ms() - start >= 90);

    struct replay some = { 0 };
    CHECK_INT("two", store_events(store, &some.at, 0, 2, take_event, &some),
              LOOKUP_FOUND);
    CHECK_STR("two", some.ops, "init host");
    CHECK_INT("rest", store_events(store, &some.at, 0, 100, take_event, &some),
              LOOKUP_FOUND);
    CHECK_INT("rest", some.count, 5);

    struct position other = all.at;
    other.id[0] = other.id[0] == 'a' ? 'b' : 'a';
    CHECK_INT("another history", store_events(store, &other, 0, 9, take_event, &some),
              LOOKUP_FAILED);
    CHECK_HAS("another history", store_error(store), "sluice recover");
    other.epoch = 99;
    CHECK_INT("ahead", store_events(store, &other, 0, 9, take_event, &some),
              LOOKUP_FAILED);
    CHECK_HAS("ahead", store_error(store), "sluice recover");
    store_free(store);
}

static void test_trim(void)
{
    struct store *store = furnished(); /* changes 1 to 4 */
    struct replay all = { 0 }, from_start = { 0 }, from_two = { 0 };
    CHECK_INT("all", store_events(store, &all.at, 0, 2, take_event, &all), LOOKUP_FOUND);
    struct position two = all.at;
    struct host host = { .name = "mx1", .side = SIDE_OLD, .journaled = 2 };
    CHECK_DONE(store, store_host_put(store, &host));
    store_trim(store); /* mx2 has journaled nothing */
    CHECK_INT("kept", store_events(store, &from_start.at, 0, 9, take_event, &from_start),
              LOOKUP_FOUND);
    snprintf(host.name, sizeof(host.name), "mx2");
    host.side = SIDE_NEW;
    CHECK_DONE(store, store_host_put(store, &host));
    store_trim(store);
    from_start = (struct replay){ 0 };
    CHECK_INT("gone", store_events(store, &from_start.at, 0, 9, take_event, &from_start),
              LOOKUP_ABSENT);
    from_two.at = two;
    CHECK_INT("the rest", store_events(store, &two, 0, 9, take_event, &from_two),
              LOOKUP_FOUND);
    CHECK_STR("the rest", from_two.ops, "host import");
    CHECK_INT("chain", from_two.broken, 0);
    store_free(store);
}

/* A journal's view: what the events alone say of the homes. */
static bool same_home(void *context, const char *local, const struct home *home)
{
    (void)local;
    (void)home;
    ++*(int *)context;
    return true;
}

static void test_every_home(void)
{
    struct store *store = furnished();
    int count = 0;
    fill(store, 2500);
    CU_ASSERT(store_each_home(store, "example.com", same_home, &count));
    CHECK_INT("homes and the own record", count, 2502);
    CHECK_INT("unregistered", store_each_home(store, "example.net", same_home, &count),
              0);
    store_free(store);
}

/* ---- hosts ------------------------------------------------------------- */

static void test_hosts(void)
{
    struct store *store = fresh();
    struct host *hosts;
    size_t n;
    CHECK_DONE(store, store_init_domain(store, "example.com"));
    CHECK_INT("none", store_hosts(store, &hosts, &n), LOOKUP_ABSENT);
    free(hosts);
    const struct host host = { .name = "mx1.example.com",
                               .side = SIDE_NEW,
                               .journaled = 1,
                               .fenced = 1,
                               .swept = 1,
                               .held = 4,
                               .loops = 2,
                               .left = 3,
                               .oldest = 1700000000,
                               .version = "0.1.0",
                               .state = "waits\tfenced=99\nfor 3 messages" };
    CHECK_DONE(store, store_host_put(store, &host));
    CHECK_INT("registration is a change", case_epoch(store), 2);
    CHECK_DONE(store, store_host_put(store, &host));
    CHECK_INT("a heartbeat is none", case_epoch(store), 2);
    CHECK_INT("one", store_hosts(store, &hosts, &n), LOOKUP_FOUND);
    CHECK_INT("one", n, 1);
    if (n == 1) {
        CHECK_STR("name", hosts[0].name, "mx1.example.com");
        CHECK_INT("side", hosts[0].side, SIDE_NEW);
        CHECK_INT("fenced", hosts[0].fenced, 1);
        CHECK_INT("swept", hosts[0].swept, 1);
        CHECK_INT("held", hosts[0].held, 4);
        CHECK_INT("loops", hosts[0].loops, 2);
        CHECK_INT("left", hosts[0].left, 3);
        CHECK_INT("oldest", hosts[0].oldest, 1700000000);
        CHECK_STR("version", hosts[0].version, "0.1.0");
        CHECK_STR("state forges nothing", hosts[0].state,
                  "waits fenced=99 for 3 messages");
        int64_t age = store_time_ms(store) - hosts[0].seen_ms;
        CU_ASSERT(age >= 0 && age < 5000);
    }
    free(hosts);

    struct host liar = host;
    liar.fenced = 50;
    CHECK_INT("fenced what is not there", store_host_put(store, &liar), COMMIT_REFUSED);
    CHECK_HAS("fenced what is not there", store_error(store), "sluice recover");
    CHECK_INT("shown", store_hosts(store, &hosts, &n), LOOKUP_FOUND);
    CHECK_INT("counts for nothing", (long long)hosts[0].fenced, 0);
    free(hosts);

    liar = host;
    liar.side = SIDE_OLD;
    CHECK_DONE(store, store_host_put(store, &liar));
    CHECK_INT("another side is a change", case_epoch(store), 3);
    CHECK_DONE(store, store_host_remove(store, "mx1.example.com"));
    CHECK_DONE(store, store_host_remove(store, "mx1.example.com"));
    CHECK_INT("removal is one", case_epoch(store), 4);
    CHECK_INT("none", store_hosts(store, &hosts, &n), LOOKUP_ABSENT);
    free(hosts);
    store_free(store);
}

/* ---- held messages, figures, leases ------------------------------------ */

struct held_list {
    int count;
    char text[512];
};

static bool list_held(void *context, const struct held *held)
{
    struct held_list *list = context;
    list->count++;
    snprintf(list->text, sizeof(list->text), "%s %d %lld %lld <%s> %s", held->queue_id,
             held->kind, (long long)held->since, (long long)held->gone_since,
             held->sender, held->recipients);
    return true;
}

static void test_held(void)
{
    struct store *store = furnished();
    struct held_list list = { 0 };
    struct held held = { .queue_id = "4XyZ12abcdz1Qk",
                         .kind = HELD_LOOP,
                         .since = 1700000000,
                         .sender = "",
                         .recipients = "a@example.com\nb@example.com" };
    CHECK_DONE(store, store_held_put(store, "mx1", &held));
    CU_ASSERT(store_each_held(store, "mx1", list_held, &list));
    CHECK_STR("record", list.text,
              "4XyZ12abcdz1Qk 1 1700000000 0 <> a@example.com\nb@example.com");
    CU_ASSERT(store_each_held(store, "mx2", list_held, &list));
    CHECK_INT("of this host only", list.count, 1);
    held.kind = HELD_LOCK;
    held.gone_since = 1700000600;
    held.sender = "x y@example.org";
    CHECK_DONE(store, store_held_put(store, "mx1", &held));
    list.count = 0;
    CU_ASSERT(store_each_held(store, "mx1", list_held, &list));
    CHECK_INT("replaced", list.count, 1);
    CHECK_STR("record", list.text,
              "4XyZ12abcdz1Qk 0 1700000000 1700000600 <x y@example.org> "
              "a@example.com\nb@example.com");
    snprintf(held.queue_id, sizeof(held.queue_id), "4XyZ12abcdz1Qm");
    CHECK_DONE(store, store_held_put(store, "mx1", &held));
    const char *const drop[] = { "4XyZ12abcdz1Qk", "4XyZ12abcdz1Qn" };
    CHECK_DONE(store, store_held_drop(store, "mx1", drop, 2));
    CHECK_DONE(store, store_held_drop(store, "mx1", drop, 0));
    list.count = 0;
    CU_ASSERT(store_each_held(store, "mx1", list_held, &list));
    CHECK_INT("dropped", list.count, 1);
    store_free(store);
}

struct figures {
    char text[512];
};

static bool list_floater(void *context, const struct floater *floater)
{
    struct figures *figures = context;
    size_t used = strlen(figures->text);
    snprintf(figures->text + used, sizeof(figures->text) - used, "[%s %llu %lld %lld]",
             floater->local, (unsigned long long)floater->count,
             (long long)floater->first, (long long)floater->last);
    return true;
}

static bool list_arrival(void *context, const struct arrival *arrival)
{
    struct figures *figures = context;
    size_t used = strlen(figures->text);
    snprintf(figures->text + used, sizeof(figures->text) - used, "[%s %s %s %s]",
             arrival->local, arrival->host, arrival->queue_id, arrival->message_id);
    return true;
}

static void decide(struct store *store, const char *address, struct route *route,
                   enum verdict verdict)
{
    struct route *routes[] = { route };
    route_prepare(rc.conf, address, strlen(address), route);
    store_lookup(store, routes, 1);
    route->verdict = verdict;
}

static void test_figures(void)
{
    struct store *store = furnished();
    struct route listed, extended, other;
    struct route *const routes[] = { &listed, &extended, &other };
    struct figures figures = { "" };
    int64_t now = store_time_ms(store) / 1000;
    lead(store, "a", "lf");
    decide(store, "a@example.com", &listed, VERDICT_FORWARD);
    decide(store, "a+list@example.com", &extended, VERDICT_FORWARD);
    decide(store, "b@example.com", &other, VERDICT_DELIVER);
    const struct floater_from from = { "192.0.2.1", "mail.example" };
    store_count_floaters(store, routes, 3, &from, now);
    store_count_floaters(store, routes, 1, &from, now + 60);
    CU_ASSERT(store_each_floater(store, "example.com", list_floater, &figures));
    char expected[64];
    snprintf(expected, sizeof(expected), "[a 3 %lld %lld]", (long long)now,
             (long long)now + 60);
    CHECK_STR("floaters", figures.text, expected);

    figures.text[0] = '\0';
    listed.verdict = extended.verdict = VERDICT_DELIVER;
    store_note_arrivals(store, routes, 3, "mx2", "4XyZ12abcdz1Qk", "<1@x>", now);
    CU_ASSERT(store_each_arrival(store, "example.com", now - 5, list_arrival, &figures));
    CHECK_STR("arrivals", figures.text,
              "[a mx2 4XyZ12abcdz1Qk <1@x>][a mx2 4XyZ12abcdz1Qk <1@x>]");
    figures.text[0] = '\0';
    CU_ASSERT(store_each_arrival(store, "example.com", now + 5, list_arrival, &figures));
    CHECK_STR("later", figures.text, "");
    store_free(store);
}

/* ---- the picture ---------------------------------------------------------- */

struct picture_text {
    char text[600];
    size_t senders;
    uint64_t rest, most;
};

static bool take_picture(void *context, const struct store_picture *picture)
{
    struct picture_text *out = context;
    uint64_t recent = picture->hours[STORE_HOURS - 1] + picture->hours[STORE_HOURS - 2];
    int n = snprintf(out->text, sizeof(out->text),
                     "%s o%llu l%llu r%llu n%llu flipped %d floaters %llu recent %llu "
                     "run %s outline %s",
                     picture->domain, (unsigned long long)picture->totals.old,
                     (unsigned long long)picture->totals.locked,
                     (unsigned long long)picture->totals.rolling_back,
                     (unsigned long long)picture->totals.new, picture->flipped > 0,
                     (unsigned long long)picture->floaters, (unsigned long long)recent,
                     picture->run ? picture->run : "-",
                     picture->outline ? picture->outline : "-");
    out->senders = picture->sender_count;
    for (size_t i = 0; i < picture->sender_count; i++) {
        const struct store_sender *sender = &picture->senders[i];
        if (strcmp(sender->client, "*") == 0)
            out->rest += sender->count;
        else if (sender->count > out->most) {
            out->most = sender->count;
            snprintf(out->text + n, sizeof(out->text) - (size_t)n, " %s=%s",
                     sender->client, sender->name);
        }
    }
    return true;
}

static void test_picture(void)
{
    struct store *store = furnished();
    struct picture_text got = { .text = "" };
    const char *const domains[] = { "example.com", "unheard.example" };
    int64_t now = store_time_ms(store) / 1000;
    struct route route;
    struct route *const routes[] = { &route };
    lead(store, "a", "lf");
    CHECK_INT("b", case_status(store, EVENT_IMPORT, "b"), CHANGE_MADE);
    lead(store, "b", "l");
    decide(store, "a@example.com", &route, VERDICT_FORWARD);
    struct floater_from from = { "192.0.2.1", "mail\n.example" };
    for (int i = 0; i < 3; i++)
        store_count_floaters(store, routes, 1, &from, now);
    CU_ASSERT(store_each_picture(store, domains, 2, now, take_picture, &got));
    CHECK_HAS("figures", got.text, "example.com o");
    CHECK_HAS("figures", got.text, " l1 r0 n1 flipped 1 floaters 3 recent 3 run - ");
    CHECK_HAS("its sender", got.text, " 192.0.2.1=mail?.example");
    (void)case_check_locks(store, "locks");

    /* A crowd of senders makes room for those who send more, not the other way. */
    for (int i = 0; i < STORE_SENDERS_MAX + 100; i++) {
        char client[64];
        snprintf(client, sizeof(client), "2001:db8::%x", i);
        from.client = client;
        store_count_floaters(store, routes, 1, &from, now);
    }
    got = (struct picture_text){ .text = "" };
    CU_ASSERT(store_each_picture(store, domains, 1, now, take_picture, &got));
    CU_ASSERT(got.senders <= STORE_SENDERS_MAX + 1);
    CHECK_INT("the others are counted together",
              (long long)got.rest >= STORE_SENDERS_MAX / 2, true);
    CHECK_HAS("who sends most stays", got.text, "192.0.2.1=");
    /* Another day: the hours are gone from the picture, the sum is not. */
    got = (struct picture_text){ .text = "" };
    CU_ASSERT(store_each_picture(store, domains, 1, now + 100 * 3600, take_picture, &got));
    CHECK_HAS("later", got.text, " floaters 303 recent 0 ");
    store_free(store);
}

/* The rows, sorted, without the domain's REST unless it is asked for. */
struct auth_rows {
    char text[1024];
    uint64_t messages, rest, spf_pass;
    size_t rows;
    bool heavy; /* 192.0.2.77 is among them */
};

static bool list_auth(void *context, const struct auth_row *row)
{
    struct auth_rows *list = context;
    size_t used = strlen(list->text);
    list->rows++;
    list->messages += row->messages;
    list->spf_pass += row->spf[AUTH_PASS];
    if (strcmp(row->client, "*") == 0)
        list->rest += row->messages;
    if (strcmp(row->client, "192.0.2.77") == 0)
        list->heavy = true;
    snprintf(list->text + used, sizeof(list->text) - used,
             "[%s|%s|%s %llu/%llu p%llu s%llu d%llu m%llu %lld-%lld]", row->client,
             row->envelope, row->helo, (unsigned long long)row->messages,
             (unsigned long long)row->would_fail, (unsigned long long)row->spf[AUTH_PASS],
             (unsigned long long)row->spf[AUTH_SOFTFAIL],
             (unsigned long long)row->dkim[AUTH_PASS],
             (unsigned long long)row->dmarc[AUTH_FAIL], (long long)row->first,
             (long long)row->last);
    return true;
}

static bool stop_auth(void *context, const struct auth_row *row)
{
    (void)row;
    ++*(int *)context;
    return false;
}

static void test_auth(void)
{
    struct store *store = furnished();
    struct auth_rows list = { .rows = 0 };
    struct auth_row row = { .client = "192.0.2.1",
                            .envelope = "list.test",
                            .helo = "mx \x1b[31m",
                            .messages = 3,
                            .would_fail = 2,
                            .spf = { [AUTH_PASS] = 1, [AUTH_SOFTFAIL] = 2 },
                            .dkim = { [AUTH_PASS] = 3 },
                            .dmarc = { [AUTH_FAIL] = 3 },
                            .first = 100,
                            .last = 120 };
    CU_ASSERT(store_auth_add(store, "example.com", NULL, 0));
    CU_ASSERT(store_each_auth(store, "example.com", list_auth, &list));
    CHECK_STR("none", list.text, "");
    CU_ASSERT(store_auth_add(store, "example.com", &row, 1));
    row.first = 90;
    row.last = 110;
    row.helo = "an earlier one";
    CU_ASSERT(store_auth_add(store, "example.com", &row, 1));
    row.first = row.last = 130;
    row.helo = "";
    CU_ASSERT(store_auth_add(store, "example.com", &row, 1));
    CU_ASSERT(store_each_auth(store, "example.com", list_auth, &list));
    CHECK_STR("added", list.text,
              "[192.0.2.1|list.test|mx??[31m 9/6 p3 s6 d9 m9 90-130]");
    struct auth_row two[] = { row, row };
    two[0].helo = "another";
    two[1].client = "2001:db8::1";
    two[1].envelope = two[1].helo = "";
    CU_ASSERT(store_auth_add(store, "example.com", two, 2));
    int calls = 0;
    CU_ASSERT(store_each_auth(store, "example.com", stop_auth, &calls));
    CHECK_INT("stopped", calls, 1);
    list = (struct auth_rows){ .rows = 0 };
    CU_ASSERT(store_each_auth(store, "example.com", list_auth, &list));
    CHECK_HAS("last HELO", list.text, "[192.0.2.1|list.test|another 12/8 ");
    CHECK_HAS("null sender", list.text, "[2001:db8::1|| 3/2 ");
    list = (struct auth_rows){ .rows = 0 };
    CU_ASSERT(store_each_auth(store, "example.net", list_auth, &list));
    CHECK_STR("another domain", list.text, "");
    CHECK_DONE(store, store_auth_drop(store, "example.com"));
    CHECK_DONE(store, store_auth_drop(store, "example.com"));
    CU_ASSERT(store_each_auth(store, "example.com", list_auth, &list));
    CHECK_STR("dropped", list.text, "");
    store_free(store);
}

/* Forgeries from everywhere: bounded, nothing uncounted, and who sends much stays. */
static void test_auth_bounded(void)
{
    enum { BATCH = 500, BATCHES = 3 * AUTH_ROWS_MAX / BATCH };
    static char clients[BATCH][32];
    static struct auth_row rows[BATCH];
    struct store *store = furnished();
    struct auth_rows list = { .rows = 0 };
    struct auth_row heavy = { .client = "192.0.2.77",
                              .envelope = "example.com",
                              .helo = "mx",
                              .messages = 50,
                              .spf = { [AUTH_PASS] = 50 },
                              .first = 1,
                              .last = 1 };
    CU_ASSERT(store_auth_add(store, "example.com", &heavy, 1));
    for (int b = 0; b < BATCHES; b++) {
        for (int i = 0; i < BATCH; i++) {
            snprintf(clients[i], sizeof(clients[i]), "10.%d.%d.1", b, i);
            rows[i] = (struct auth_row){ .client = clients[i],
                                         .envelope = "example.com",
                                         .helo = "x",
                                         .messages = 1,
                                         .spf = { [AUTH_PASS] = 1 },
                                         .first = 100 + b,
                                         .last = 100 + b };
        }
        CU_ASSERT(store_auth_add(store, "example.com", rows, BATCH));
    }
    CU_ASSERT(store_each_auth(store, "example.com", list_auth, &list));
    CHECK_INT("rows", list.rows, AUTH_ROWS_MAX + 1);
    CHECK_INT("messages", list.messages, 3 * AUTH_ROWS_MAX + 50);
    CHECK_INT("spf", list.spf_pass, 3 * AUTH_ROWS_MAX + 50);
    CHECK_INT("rest", list.rest, 2 * AUTH_ROWS_MAX + 1);
    CHECK_INT("who sends much", list.heavy, true);
    store_free(store);
}

static bool take_ping(void *context, const struct ping_row *row)
{
    char line[512], *all = context;
    snprintf(line, sizeof(line), "%s/%s %lld %d %lld %lld %lld %s;", row->host, row->path,
             (long long)row->when, row->state, (long long)row->connected_ms,
             (long long)row->accepted_ms, (long long)row->arrived_ms, row->text);
    size_t len = strlen(all);
    snprintf(all + len, 1024 - len, "%s", line);
    return true;
}

/* The last result of a path on a host. */
static void test_pings(void)
{
    struct store *store = furnished();
    struct ping_row row = { .host = "mx1.test",
                            .path = "old forwarding",
                            .when = 1700000000,
                            .state = 2,
                            .connected_ms = 12,
                            .accepted_ms = 40,
                            .arrived_ms = -1,
                            .text = "not there" };
    char all[1024] = "", long_name[400];
    CU_ASSERT(store_each_ping(store, take_ping, all));
    CHECK_STR("none", all, "");
    CHECK_DONE(store, store_ping_put(store, &row));
    row.state = 0;
    row.arrived_ms = 1300;
    row.text = "fine";
    CHECK_DONE(store, store_ping_put(store, &row));
    CU_ASSERT(store_each_ping(store, take_ping, all));
    CHECK_STR("one", all, "mx1.test/old forwarding 1700000000 0 12 40 1300 fine;");
    memset(long_name, 'x', sizeof(long_name));
    long_name[sizeof(long_name) - 1] = '\0';
    CHECK_DONE(store, store_ping_drop(store, "mx1.test", "another"));
    CHECK_DONE(store, store_ping_drop(store, "mx1.test", long_name));
    all[0] = '\0';
    CU_ASSERT(store_each_ping(store, take_ping, all));
    CHECK_STR("still one", all, "mx1.test/old forwarding 1700000000 0 12 40 1300 fine;");
    CHECK_DONE(store, store_ping_drop(store, "mx1.test", "old forwarding"));
    all[0] = '\0';
    CU_ASSERT(store_each_ping(store, take_ping, all));
    CHECK_STR("none again", all, "");
    row.path = long_name;
    CHECK_INT("too long", store_ping_put(store, &row), COMMIT_REFUSED);
    store_free(store);
}

static bool take_monitor(void *context, const struct monitor_row *row)
{
    char *all = context;
    size_t len = strlen(all);
    snprintf(all + len, 1024 - len, "%s %lld %d %lld %lld %llu %llu %d \"%s\"", row->host,
             (long long)row->when, row->state, (long long)row->begins,
             (long long)row->last, (unsigned long long)row->waiting,
             (unsigned long long)row->stuck, row->quiet_for, row->text);
    for (size_t i = 0; i < row->domain_count; i++) {
        len = strlen(all);
        snprintf(all + len, 1024 - len, " %s=%lld+%llu", row->domains[i].name,
                 (long long)row->domains[i].last,
                 (unsigned long long)row->domains[i].waiting);
    }
    return true;
}

/* The last verdict of sluice monitor on a host. */
static void test_monitors(void)
{
    static const struct monitor_domain domains[] = { { "example.com", 1699999999, 2 },
                                                     { "*", 1600000000, 0 } };
    static const struct monitor_domain bad[] = { { "a b", 1, 0 } };
    struct monitor_row row = { .host = "mx1.test",
                               .when = 1700000000,
                               .state = 1,
                               .begins = 1690000000,
                               .last = 1699999999,
                               .waiting = 2,
                               .stuck = 1,
                               .quiet_for = 259200,
                               .text = "two\nlines \xff",
                               .domains = domains,
                               .domain_count = 2 };
    struct store *store = furnished();
    char all[1024] = "";
    CHECK_DONE(store, store_monitor_put(store, &row));
    CHECK_DONE(store, store_monitor_put(store, &row));
    CU_ASSERT(store_each_monitor(store, take_monitor, all));
    CHECK_STR("one", all,
              "mx1.test 1700000000 1 1690000000 1699999999 2 1 259200 \"two?lines ?\" "
              "example.com=1699999999+2 *=1600000000+0");
    row.domains = bad;
    row.domain_count = 1;
    CHECK_INT("no domain", store_monitor_put(store, &row), COMMIT_REFUSED);
    row.domain_count = 0;
    row.host = "";
    CHECK_INT("no host", store_monitor_put(store, &row), COMMIT_REFUSED);
    row.host = "mx1.test";
    row.begins = row.last = -5; /* none */
    row.text = "";
    CHECK_DONE(store, store_monitor_put(store, &row));
    all[0] = '\0';
    CU_ASSERT(store_each_monitor(store, take_monitor, all));
    CHECK_STR("the new one alone", all, "mx1.test 1700000000 1 0 0 2 1 259200 \"\"");
    CHECK_DONE(store, store_monitor_drop(store, "mx2.test"));
    CHECK_DONE(store, store_monitor_drop(store, "mx1.test"));
    all[0] = '\0';
    CU_ASSERT(store_each_monitor(store, take_monitor, all));
    CHECK_STR("none", all, "");
    store_free(store);
}

/* The longest that is written can be read; what nobody wrote cannot. */
static void test_monitor_codec(void)
{
    static const char *const bad[] = {
        "", "x", "1 1 1 1 1 1", "1 4 1 1 1 1 1 t", "1 -1 1 1 1 1 1 t", "1 1 1 1 1 1 1",
        "99999999999999999999 1 1 1 1 1 1 t", "1 1 1 1 1 1 1 t\n", "1 1 1 1 1 1 1 t\nd",
        "1 1 1 1 1 1 1 t\nd x 1", "1 1 1 1 1 1 1 t\nd 1 1\n", "1 1 1 1 1 1 1 t\nd 1 1 1",
        "1 1 1 1 1 1 99999999999 t", "1 1 1 1 1 1 1 t\n\x01 1 1",
    };
    static struct monitor_domain many[MONITOR_DOMAINS_MAX + 5], got[MONITOR_DOMAINS_MAX];
    static char names[MONITOR_DOMAINS_MAX + 5][254], text[1000];
    static char value[MONITOR_VALUE_MAX + 1];
    struct monitor_row row = { .host = "h", .when = INT64_MAX, .text = text,
                               .begins = INT64_MAX, .last = INT64_MAX,
                               .waiting = INT64_MAX, .stuck = INT64_MAX,
                               .quiet_for = INT32_MAX, .domains = many,
                               .domain_count = MONITOR_DOMAINS_MAX + 5 };
    memset(text, 't', sizeof(text) - 1);
    for (size_t i = 0; i < MONITOR_DOMAINS_MAX + 5; i++) {
        memset(names[i], 'd', sizeof(names[i]) - 1);
        many[i] = (struct monitor_domain){ names[i], INT64_MAX, INT64_MAX };
    }
    CU_ASSERT(monitor_row_encode(&row, value));
    CU_ASSERT(monitor_row_decode(value, got, &row));
    CHECK_INT("domains", (long long)row.domain_count, MONITOR_DOMAINS_MAX);
    CHECK_INT("text", (long long)strlen(row.text), MONITOR_TEXT_MAX);
    CHECK_STR("the last", row.domains[MONITOR_DOMAINS_MAX - 1].name, names[0]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(value, sizeof(value), "%s", bad[i]);
        CHECK_INT(bad[i], monitor_row_decode(value, got, &row), false);
    }
}

static void test_leases(void)
{
    struct store *store = furnished();
    char other[64];
    CHECK_DONE(store, store_lease_take(store, "cutover", "me", 30, other, sizeof(other)));
    CHECK_DONE(store, store_lease_take(store, "cutover", "me", 30, other, sizeof(other)));
    CHECK_INT("taken",
              store_lease_take(store, "cutover", "you", 30, other, sizeof(other)),
              COMMIT_REFUSED);
    CHECK_STR("by", other, "me");
    CHECK_HAS("by", store_error(store), "me");
    store_lease_drop(store, "cutover", "you");
    CHECK_INT("still",
              store_lease_take(store, "cutover", "you", 30, other, sizeof(other)),
              COMMIT_REFUSED);
    store_lease_drop(store, "cutover", "me");
    CHECK_DONE(store, store_lease_take(store, "cutover", "you", 1, other, sizeof(other)));
    case_nap(1100);
    CHECK_DONE(store, store_lease_take(store, "cutover", "me", 1, other, sizeof(other)));
    store_free(store);
}

/* ---- runs of playbooks ------------------------------------------------- */

/* A run's fields as "[name=value]", sorted, without the epochs. */
struct run_fields {
    size_t count;
    char items[8][64];
};

static bool list_run(void *context, const char *name, const char *value)
{
    struct run_fields *list = context;
    char item[64];
    size_t at = list->count++;
    const char *tab = strchr(value, '\t');
    if (at == 8)
        return false;
    snprintf(item, sizeof(item), "[%s=%s]", name, tab ? tab + 1 : "?");
    for (; at > 0 && strcmp(list->items[at - 1], item) > 0; at--)
        memcpy(list->items[at], list->items[at - 1], sizeof(item));
    memcpy(list->items[at], item, sizeof(item));
    return true;
}

static const char *run_text(struct store *store, const char *domain)
{
    static char text[600];
    struct run_fields list = { 0 };
    CU_ASSERT(store_each_playbook(store, domain, list_run, &list));
    text[0] = '\0';
    for (size_t i = 0; i < list.count && i < 8; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s", list.items[i]);
    return text;
}

static enum commit put_one(struct store *store, const char *name, uint64_t expect,
                           uint64_t run, const char *value, uint64_t *epoch)
{
    const struct playbook_field field = { name, value };
    const struct playbook_put put = { .domain = "example.com",
                                      .expect_epoch = expect,
                                      .run_epoch = run,
                                      .fields = &field,
                                      .count = 1 };
    return store_playbook_put(store, &put, epoch);
}

static void test_playbook(void)
{
    struct store *store = furnished();
    uint64_t run, step, next, before = case_epoch(store);
    const struct playbook_field start[] = { { "", "g\t1" }, { "=who", "a\tb" } };
    struct playbook_put put = {
        .domain = "example.com", .anew = true, .fields = start, .count = 2
    };
    CHECK_STR("none", run_text(store, "example.com"), "");
    CHECK_STR("unknown domain", run_text(store, "example.net"), "");
    CHECK_INT("start", store_playbook_put(store, &put, &run), COMMIT_DONE);
    CHECK_INT("is one change", run, before + 1);
    CHECK_STR("started", run_text(store, "example.com"), "[=g\t1][=who=a\tb]");
    CHECK_INT("twice", store_playbook_put(store, &put, &next), COMMIT_REFUSED);
    CHECK_HAS("twice", store_error(store), "the run of the playbook of example.com");

    CHECK_INT("first", put_one(store, "one", 0, run, "r", &step), COMMIT_DONE);
    CHECK_INT("the other operator", put_one(store, "one", 0, run, "r", &next),
              COMMIT_REFUSED);
    CHECK_HAS("the other operator", store_error(store), "one of the playbook");
    CHECK_INT("next", put_one(store, "one", step, run, "d", &next), COMMIT_DONE);
    CHECK_INT("a stale one", put_one(store, "one", step, run, "f", &step),
              COMMIT_REFUSED);
    CHECK_STR("stays", run_text(store, "example.com"), "[=g\t1][=who=a\tb][one=d]");
    CHECK_INT("events", case_epoch(store), before + 3);

    /* Begun anew while a runner of the old run still believes in it. */
    put.expect_epoch = run;
    uint64_t old = run;
    CHECK_INT("anew", store_playbook_put(store, &put, &run), COMMIT_DONE);
    CHECK_STR("old steps are gone", run_text(store, "example.com"), "[=g\t1][=who=a\tb]");
    CHECK_INT("the old runner", put_one(store, "two", 0, old, "r", &next),
              COMMIT_REFUSED);
    CHECK_HAS("the old runner", store_error(store), "the run of the playbook");
    CHECK_INT("the new one", put_one(store, "two", 0, run, "r", &next), COMMIT_DONE);
    store_free(store);
}

static void test_playbook_bounded(void)
{
    struct store *store = furnished();
    static char big[PLAYBOOK_BYTES_MAX + 1];
    uint64_t epoch, before = case_epoch(store);
    struct playbook_field fields[PLAYBOOK_FIELDS_MAX + 1];
    struct playbook_put put = { .domain = "example.com", .fields = fields };
    for (size_t i = 0; i <= PLAYBOOK_FIELDS_MAX; i++)
        fields[i] = (struct playbook_field){ "x", "y" };
    CHECK_INT("none", store_playbook_put(store, &put, &epoch), COMMIT_REFUSED);
    put.count = PLAYBOOK_FIELDS_MAX + 1;
    CHECK_INT("too many", store_playbook_put(store, &put, &epoch), COMMIT_REFUSED);
    memset(big, 'x', PLAYBOOK_BYTES_MAX);
    CHECK_INT("long", put_one(store, "one", 0, 0, big, &epoch), COMMIT_REFUSED);
    CHECK_HAS("long", store_error(store), "longer than");
    CHECK_INT("LF", put_one(store, "one", 0, 0, "a\nb", &epoch), COMMIT_REFUSED);
    CHECK_INT("tab", put_one(store, "o\tne", 0, 0, "a", &epoch), COMMIT_REFUSED);
    put.domain = "example.org";
    put.count = 1;
    CHECK_INT("not registered", store_playbook_put(store, &put, &epoch), COMMIT_REFUSED);
    CHECK_HAS("not registered", store_error(store), "sluice init");
    CHECK_INT("nothing was written", case_epoch(store), before);
    store_free(store);
}

/* ---- the always failing one -------------------------------------------- */

static void test_failing(void)
{
    struct store *store = store_failing_new("the store is down");
    static struct change_result result;
    struct position at;
    CHECK_INT("lookup", case_look(store, rc.conf, "a@example.com"), '?');
    CHECK_INT("position", store_position(store, &at), LOOKUP_FAILED);
    CHECK_INT("lock", case_change(store, EVENT_LOCK, "a", &result), COMMIT_UNCERTAIN);
    CHECK_INT("host", case_host(store, "mx1", SIDE_OLD, 0), COMMIT_UNCERTAIN);
    struct auth_row row = { .client = "", .envelope = "", .helo = "", .messages = 1 };
    CHECK_INT("figures", store_auth_add(store, "example.com", &row, 1), false);
    CHECK_INT("figures", store_each_auth(store, "example.com", list_auth, NULL), false);
    CHECK_INT("figures", store_auth_drop(store, "example.com"), COMMIT_UNCERTAIN);
    uint64_t epoch;
    CHECK_INT("run", put_one(store, "one", 0, 0, "r", &epoch), COMMIT_UNCERTAIN);
    struct run_fields list = { 0 };
    CHECK_INT("run", store_each_playbook(store, "example.com", list_run, &list), false);
    CHECK_STR("error", store_error(store), "the store is down");
    store_free(store);
}

#define CASES                                                                            \
    { "unknown is not unlocked", test_unknown_is_not_unlocked }, { "init", test_init },  \
        { "a message of many recipients", test_message_of_many },                        \
        { "transitions", test_transitions }, { "import", test_import },                  \
        { "import takes the domain's home", test_import_takes_the_domains_home },        \
        { "expected epoch", test_expected_epoch }, { "a chunk", test_chunk },            \
        { "chunks under way", test_chunks_under_way },                                   \
        { "a lock needs a host", test_lock_needs_a_host }, { "fence", test_fence },      \
        { "named often", test_named_often },                                             \
        { "a whole domain", test_whole_domain }, { "events", test_events },              \
        { "trim", test_trim }, { "every home", test_every_home },                        \
        { "hosts", test_hosts }, { "held messages", test_held },                         \
        { "figures", test_figures }, { "the picture", test_picture },                    \
        { "who sends", test_auth },                                                      \
        { "who sends, bounded", test_auth_bounded },                                     \
        { "a playbook's run", test_playbook },                                           \
        { "a playbook's run, bounded", test_playbook_bounded },                          \
        { "pings", test_pings }, { "monitors", test_monitors },                          \
        { "monitor codec", test_monitor_codec },                                         \
    {                                                                                    \
        "leases", test_leases                                                            \
    }

int main(void)
{
    static const struct unit_case memory_cases[] = { CASES, { "failing", test_failing } };
    static const struct unit_case redis_cases[] = { CASES };
    case_begin(&rc);
    int failed = unit_run("store: memory", memory_cases,
                          sizeof(memory_cases) / sizeof(memory_cases[0]));
    if (case_has_redis()) {
        on_redis = true;
        case_redis_start(&rc, (char *)NULL);
        failed |= unit_run("store: redis", redis_cases,
                           sizeof(redis_cases) / sizeof(redis_cases[0]));
    }
    case_end(&rc);
    if (!on_redis && !failed) {
        printf("redis-server is missing (apt-get install redis-server): not all cases "
               "ran\n");
        return CASE_SKIP;
    }
    return failed;
}
