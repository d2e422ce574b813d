/*
 * Release: the decision as a table, then whole sweeps over a store in memory
 * and a queue of the test's own, which notes what is done to it.
 */
#include "../../policyd/release.h"

#include <stdlib.h>
#include <unistd.h>

#include "state_dir.h"
#include "unit.h"

/* ---- the decision ----------------------------------------------------------- */

#define DAY  86400
#define NOW  (1000 * DAY)
#define LIFE (5 * DAY)

/* "<queue> <record> <recipients>": queue h d a (hold, deferred, active), record
 * - l L (none, lock, loop), one letter per recipient: u unmanaged, d deliver,
 * h hold, f forward, r redirect, ? lookup failed; after a letter "!" means
 * deferred by sluice-hold. */
static struct release_facts facts_of(const char *text, int64_t age, int64_t before)
{
    struct release_facts facts = { .now = NOW, .lifetime = LIFE };
    facts.created = NOW - age;
    facts.arrival = facts.created - before;
    facts.queue = text[0] == 'h'   ? QUEUE_HOLD
                  : text[0] == 'd' ? QUEUE_DEFERRED
                                   : QUEUE_ACTIVE;
    facts.record = text[2] == 'l'   ? RECORD_LOCK
                   : text[2] == 'L' ? RECORD_LOOP
                                    : RECORD_NONE;
    for (const char *at = text + 4; *at; at++) {
        facts.unmanaged += *at == 'u';
        facts.deliver += *at == 'd';
        facts.hold += *at == 'h';
        facts.forward += *at == 'f';
        facts.redirect += *at == 'r';
        facts.later += *at == '?';
        facts.ours += *at == '!';
    }
    return facts;
}

static void test_decide(void)
{
    static const struct {
        const char *facts;
        int64_t age, before;
        enum release_action action;
        const char *flags; /* l left, u undecided, a alarm, s stale */
    } cases[] = {
        { "h - d", 9, 0, RELEASE_NOTHING, "" }, /* somebody else's */
        { "h - h", 9, 0, RELEASE_NOTHING, "" },
        { "h L d", 9, 0, RELEASE_NOTHING, "" }, /* released by a person */
        { "h l h", 9, 0, RELEASE_NOTHING, "" },
        { "h l h", 9 * DAY, 0, RELEASE_NOTHING, "" }, /* nothing expires on hold */
        { "h l hh", 9, 0, RELEASE_NOTHING, "" },
        { "h l d", 9, 0, RELEASE_RELEASE, "l" },
        { "h l f", 9, 0, RELEASE_RELEASE, "l" },
        { "h l r", 9, 0, RELEASE_RELEASE, "l" },
        { "h l u", 9, 0, RELEASE_RELEASE, "l" },
        { "h l hd", 9, 0, RELEASE_RELEASE, "l" }, /* any of them */
        { "h l h?", 9, 0, RELEASE_NOTHING, "u" },
        { "h l ?", 9, 0, RELEASE_NOTHING, "u" },
        { "h l d?", 9, 0, RELEASE_RELEASE, "lu" },
        { "h l ", 9, 0, RELEASE_RELEASE, "l" },
        { "a l d", 9, 0, RELEASE_NOTHING, "" },
        { "a - h", 9, 0, RELEASE_NOTHING, "" },
        { "d - u", 9 * DAY, 0, RELEASE_NOTHING, "" },
        { "d - h", 9, 0, RELEASE_HOLD, "" },
        { "d - h!", 9, 0, RELEASE_HOLD, "" },
        { "d - hh", 4 * DAY, 0, RELEASE_HOLD, "" },
        { "d l h", 9, 0, RELEASE_HOLD, "" },
        { "d - hu", 9, 0, RELEASE_NOTHING, "" }, /* the other must not wait */
        { "d - hu", 3 * DAY, 0, RELEASE_REQUEUE, "a" },
        { "d - hd", 9, 0, RELEASE_NOTHING, "" },
        { "d - h?", 9, 0, RELEASE_NOTHING, "u" },
        { "d - d", 9, 0, RELEASE_NOTHING, "" },
        { "d - d", 4 * DAY, 0, RELEASE_NOTHING, "" }, /* a delivery problem of its own */
        { "d - d!", 9, 0, RELEASE_FLUSH, "l" },
        { "d l d!", 9, 0, RELEASE_FLUSH, "ls" },
        { "d l d", 9, 0, RELEASE_NOTHING, "s" },
        { "d - f", 9, 0, RELEASE_NOTHING, "" }, /* Postfix tries by itself */
        { "d - f!", 9, 0, RELEASE_FLUSH, "l" },
        { "d - f", LIFE / 2, 0, RELEASE_REQUEUE, "a" },
        { "d - f", LIFE / 2 - 1, 0, RELEASE_NOTHING, "" },
        { "d - f", 9, 4 * DAY, RELEASE_NOTHING, "" }, /* requeued: new again */
        { "d - f!h", 9, 0, RELEASE_FLUSH, "l" },
        { "d - r", 9, 0, RELEASE_REQUEUE, "l" },
        { "d - r!", 9, 0, RELEASE_REQUEUE, "l" },
        { "d - ru", 9, 0, RELEASE_REQUEUE, "l" },
        { "d - r!", 9, 10, RELEASE_NOTHING, "l" }, /* requeued 9 s ago in vain */
        { "d - r!", 10, 10, RELEASE_REQUEUE, "l" },
        { "d - r!", 3600, DAY, RELEASE_REQUEUE, "l" }, /* an hour is enough */
        { "d - r", LIFE / 2, 4 * DAY, RELEASE_REQUEUE, "la" },
        { "d L d!", 9, 0, RELEASE_NOTHING, "" },
        { "d - ?", 4 * DAY, 0, RELEASE_NOTHING, "u" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct release_facts facts =
            facts_of(cases[i].facts, cases[i].age, cases[i].before);
        struct release_decision got = release_decide(&facts);
        char what[80], flags[8];
        snprintf(what, sizeof(what), "\"%s\" age %lld", cases[i].facts,
                 (long long)cases[i].age);
        snprintf(flags, sizeof(flags), "%s%s%s%s", got.left ? "l" : "",
                 got.undecided ? "u" : "", got.alarm ? "a" : "", got.stale ? "s" : "");
        CHECK_STR(what, release_action_name(got.action),
                  release_action_name(cases[i].action));
        CHECK_STR(what, flags, cases[i].flags);
    }
}

static void test_lifetimes(void)
{
    struct release_facts facts = facts_of("d - f", 100, 0);
    facts.lifetime = 0; /* bounce_queue_lifetime = 0: nothing can be saved */
    CHECK_INT("lifetime 0", release_decide(&facts).action, RELEASE_NOTHING);
    facts.lifetime = 20;
    CHECK_INT("lifetime 20", release_decide(&facts).action, RELEASE_REQUEUE);
}

static void test_fate(void)
{
    CHECK_INT("first missed", release_fate(0, NOW), FATE_MARK);
    CHECK_INT("after nine minutes", release_fate(NOW - 540, NOW), FATE_KEEP);
    CHECK_INT("after ten", release_fate(NOW - 600, NOW), FATE_DROP);
}

/* ---- sweeps ------------------------------------------------------------------- */

#define HOST "mx.lab.test"
#define ID1  "4jXDfR05J2z1bYCF"
#define ID2  "4jXDfR0B08z1bYCG"
#define ID3  "4jXDfR0Gvsz1bY5q"

static struct {
    const char *entries; /* "<queue letter>:<id>:<recipient>,<recipient> ..." */
    char done[400];      /* "<command> <id> ..." */
    bool fails;
    int64_t look_ms, work_ms; /* so long a listing and a release take */
} fake;

static int64_t clock_ms;

static bool fake_list(struct queue *queue, queue_entry_fn *each, void *context)
{
    char text[1000];
    snprintf(text, sizeof(text), "%s", fake.entries);
    char *save = NULL;
    for (char *word = strtok_r(text, " ", &save); word;
         word = strtok_r(NULL, " ", &save)) {
        struct queue_recipient recipients[4];
        struct queue_entry entry = { .id = word + 2,
                                     .id_valid = true,
                                     .sender = "s@x.test",
                                     .recipients = recipients,
                                     .arrival = NOW,
                                     .created = NOW };
        entry.queue = word[0] == 'h'   ? QUEUE_HOLD
                      : word[0] == 'd' ? QUEUE_DEFERRED
                      : word[0] == 'i' ? QUEUE_INCOMING
                                       : QUEUE_ACTIVE;
        char *list = strchr(word + 2, ':'), *inner = NULL;
        *list++ = '\0';
        for (char *one = strtok_r(list, ",", &inner); one;
             one = strtok_r(NULL, ",", &inner)) {
            bool ours = one[0] == '!';
            recipients[entry.count].address = one + ours;
            recipients[entry.count++].reason = ours ? RELEASE_REASON : "no route";
        }
        if (!each(context, &entry))
            break;
    }
    clock_ms += fake.look_ms;
    return fake.fails ? queue_fail(queue, "no listing") : true;
}

static bool do_it(const char *command, const char *const *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t have = strlen(fake.done);
        snprintf(fake.done + have, sizeof(fake.done) - have, "%s%s %s", have ? ", " : "",
                 command, ids[i]);
    }
    return true;
}

static bool fake_hold(struct queue *queue, const char *const *ids, size_t n)
{
    (void)queue;
    return do_it("hold", ids, n);
}

static bool fake_release(struct queue *queue, const char *const *ids, size_t n)
{
    (void)queue;
    clock_ms += fake.work_ms;
    return do_it("release", ids, n);
}

static bool fake_requeue(struct queue *queue, const char *const *ids, size_t n)
{
    (void)queue;
    return do_it("requeue", ids, n);
}

static bool fake_flush(struct queue *queue, const char *const *ids, size_t n)
{
    (void)queue;
    return do_it("flush", ids, n);
}

static bool fake_wake(struct queue *queue)
{
    static const char *const pickup[] = { "pickup" };
    (void)queue;
    return do_it("wake", pickup, 1);
}

static bool fake_scan(struct queue *queue)
{
    static const char *const qmgr[] = { "qmgr" };
    (void)queue;
    return do_it("scan", qmgr, 1);
}

static const struct queue_ops fake_ops = {
    .mta = "fake",
    .list = fake_list,
    .hold = fake_hold,
    .release = fake_release,
    .requeue = fake_requeue,
    .flush = fake_flush,
    .wake = fake_wake,
    .scan = fake_scan,
};

static int64_t now_ms(void)
{
    return clock_ms;
}

static struct {
    struct conf *conf;
    struct store *store;
    struct queue queue;
    struct queue_settings settings;
    struct release *release;
    int64_t now;
} scene;

static void change(enum event_op op, const char *const *locals, size_t n)
{
    static struct change_result result;
    struct change_item items[8] = { 0 };
    for (size_t i = 0; i < n; i++)
        items[i].local = locals[i];
    struct change change = {
        .op = op, .domain = "example.com", .items = items, .count = n, .force = true
    };
    CHECK_INT("change", store_change(scene.store, &change, &result), COMMIT_DONE);
}

static void change_one(enum event_op op, const char *local)
{
    change(op, &local, 1);
}

static struct conf *test_conf(void)
{
    static const char text[] =
        "side = old\nhostname = \"" HOST "\"\nredis = \"unix:/nonexistent/redis.sock\"\n"
        "milter { listen = \"unix:/nonexistent/m\" }\n"
        "policyd { policy = \"unix:/nonexistent/p\"  map = \"unix:/nonexistent/t\" }\n"
        "domain \"example.com\" { old = \"[127.0.0.1]:1\"  new = \"[127.0.0.1]:2\"\n"
        "  redirect-domains = {\"new.test\"} }\n"
        "state-dir = \"%s\"\n";
    char path[] = "/tmp/sluice-unit.XXXXXX", error[512] = "";
    int fd = mkstemp(path);
    if (fd < 0 || dprintf(fd, text, state_dir()) < 0)
        return NULL;
    close(fd);
    struct conf *conf = conf_load(path, error, sizeof(error));
    unlink(path);
    if (!conf)
        printf("\n  %s\n", error);
    return conf;
}

static void set_up(void)
{
    static const char *const all[] = { "a", "b", "c" };
    memset(&scene, 0, sizeof(scene));
    memset(&fake, 0, sizeof(fake));
    fake.entries = "";
    scene.conf = test_conf();
    scene.store = store_memory_new();
    scene.queue.ops = &fake_ops;
    scene.settings.lifetime = scene.settings.bounce_lifetime = LIFE;
    scene.release = release_new();
    scene.now = NOW;
    clock_ms = 1000;
    struct host host = { .name = HOST };
    CHECK_INT("init", store_init_domain(scene.store, "example.com"), COMMIT_DONE);
    CHECK_INT("host", store_host_put(scene.store, &host), COMMIT_DONE);
    change(EVENT_IMPORT, all, 3);
}

static void tear_down(void)
{
    release_free(scene.release);
    store_free(scene.store);
    conf_unref(scene.conf);
    state_dir_clear();
}

/* One sweep, due or not; what it did. */
static const char *swept(uint64_t epoch)
{
    struct release_env env = { scene.conf, scene.store, &scene.queue, &scene.settings,
                               epoch,      scene.now,   clock_ms };
    clock_ms += 60000;
    env.now_ms = clock_ms;
    fake.done[0] = '\0';
    CU_ASSERT(release_due(scene.release, clock_ms));
    release_step(scene.release, &env, now_ms);
    return fake.done;
}

static void put_record(const char *id, enum held_kind kind, const char *recipients)
{
    struct held held = {
        .kind = kind, .since = scene.now, .sender = "s@x.test", .recipients = recipients
    };
    snprintf(held.queue_id, sizeof(held.queue_id), "%s", id);
    CHECK_INT("record", store_held_put(scene.store, HOST, &held), COMMIT_DONE);
}

static bool add_record(void *context, const struct held *held)
{
    char *out = context;
    size_t have = strlen(out);
    snprintf(out + have, 300 - have, "%s%s%s for %s", have ? ", " : "", held->queue_id,
             held->gone_since ? " gone" : "", held->recipients);
    return true;
}

static const char *records(void)
{
    static char out[300];
    out[0] = '\0';
    CU_ASSERT(store_each_held(scene.store, HOST, add_record, out));
    return out;
}

static struct release_figures figures(void)
{
    struct release_figures out;
    release_figures(scene.release, &out);
    return out;
}

static void test_sweep_release(void)
{
    set_up();
    change_one(EVENT_LOCK, "a");
    put_record(ID1, HELD_LOCK, "a@example.com");
    put_record(ID3, HELD_LOOP, "a@example.com");
    fake.entries =
        "h:" ID1 ":a@example.com h:" ID2 ":a@example.com h:" ID3 ":a@example.com";
    CHECK_STR("locked", swept(5), "");
    CHECK_INT("held", figures().held, 2);
    CHECK_INT("loops", figures().loops, 1);
    CHECK_INT("left", figures().left, 0);
    CHECK_INT("swept", figures().swept, 5);
    change_one(EVENT_UNLOCK, "a");
    CHECK_STR("unlocked: ours alone", swept(6), "release " ID1 ", wake pickup");
    CHECK_INT("left", figures().left, 1);
    CHECK_INT("not swept yet", figures().swept, 5);
    CHECK_STR("the record stays until it has left hold", records(),
              ID1 " for a@example.com, " ID3 " for a@example.com");
    fake.entries = "h:" ID2 ":a@example.com h:" ID3 ":a@example.com";
    CHECK_STR("nothing more", swept(7), "");
    CHECK_STR("the record is gone", records(), ID3 " for a@example.com");
    CHECK_INT("swept", figures().swept, 7);
    tear_down();
}

/* A message that fails DMARC is a person's, whatever its mailboxes are. */
static void test_sweep_dmarc(void)
{
    set_up();
    put_record(ID1, HELD_DMARC, "a@example.com");
    put_record(ID2, HELD_DMARC, "x@other.test");
    fake.entries = "h:" ID1 ":a@example.com h:" ID2 ":x@other.test";
    CHECK_STR("kept", swept(5), "");
    CHECK_INT("held", figures().held, 2);
    CHECK_INT("loops", figures().loops, 0);
    CHECK_INT("left", figures().left, 0);
    put_record(ID2, HELD_LOCK, "x@other.test"); /* sluice held release */
    CHECK_STR("released", swept(6), "release " ID2 ", wake pickup");
    tear_down();
}

static void test_sweep_release_again(void)
{
    set_up();
    put_record(ID1, HELD_LOCK, "a@example.com");
    fake.entries = "h:" ID1 ":a@example.com";
    CHECK_STR("first", swept(1), "release " ID1 ", wake pickup");
    CHECK_STR("still there", swept(1), "release " ID1 ", wake pickup");
    fake.entries = "";
    CHECK_STR("gone", swept(1), "");
    CHECK_STR("record", records(), "");
    tear_down();
}

static void test_sweep_hold(void)
{
    set_up();
    change_one(EVENT_LOCK, "a");
    fake.entries = "d:" ID1 ":!a@example.com d:" ID2 ":!A+x@EXAMPLE.com,b@example.com "
                   "d:" ID3 ":x@unmanaged.test";
    CHECK_STR("all locked", swept(4), "hold " ID1);
    CHECK_STR("with a record", records(), ID1 " for a@example.com");
    CHECK_INT("held", figures().held, 1);
    tear_down();
}

/* Between the listing and postsuper -h the message was delivered. */
static void test_sweep_hold_too_late(void)
{
    set_up();
    change_one(EVENT_LOCK, "a");
    fake.entries = "d:" ID1 ":!a@example.com";
    CHECK_STR("asked for", swept(4), "hold " ID1);
    CHECK_STR("with a record", records(), ID1 " for a@example.com");
    fake.entries = "";
    CHECK_STR("gone", swept(4), "");
    CHECK_STR("its record, too", records(), "");
    tear_down();
}

/* Released, and locked again before the next sweep: the record that the last
 * sweep left must not go. */
static void test_sweep_hold_again(void)
{
    set_up();
    put_record(ID1, HELD_LOCK, "a@example.com");
    fake.entries = "h:" ID1 ":a@example.com";
    CHECK_STR("released", swept(4), "release " ID1 ", wake pickup");
    change_one(EVENT_LOCK, "a");
    fake.entries = "d:" ID1 ":!a@example.com";
    CHECK_STR("put on hold", swept(5), "hold " ID1);
    CHECK_STR("the record is there", records(), ID1 " for a@example.com");
    fake.entries = "h:" ID1 ":a@example.com";
    CHECK_STR("on hold", swept(5), "");
    CHECK_STR("and stays", records(), ID1 " for a@example.com");
    change_one(EVENT_UNLOCK, "a");
    CHECK_STR("released again", swept(6), "release " ID1 ", wake pickup");
    fake.entries = "a:" ID1 ":a@example.com";
    CHECK_STR("in delivery", swept(6), "");
    CHECK_STR("done", records(), "");
    tear_down();
}

/* Redis forgets a record; the host has its own. */
static void test_sweep_restores(void)
{
    static const char *const id = ID1;
    set_up();
    change_one(EVENT_LOCK, "a");
    fake.entries = "d:" ID1 ":!a@example.com";
    CHECK_STR("on hold", swept(4), "hold " ID1);
    CHECK_INT("forgotten", store_held_drop(scene.store, HOST, &id, 1), COMMIT_DONE);
    CHECK_STR("records", records(), "");
    fake.entries = "h:" ID1 ":a@example.com";
    CHECK_STR("put there again", swept(5), "");
    CHECK_STR("records", records(), ID1 " for a@example.com");
    CHECK_INT("does not count as swept", figures().swept, 4);
    change_one(EVENT_UNLOCK, "a");
    CHECK_STR("released", swept(6), "release " ID1 ", wake pickup");
    fake.entries = "";
    CHECK_STR("gone", swept(7), "");
    CHECK_STR("nothing comes back", swept(8), "");
    CHECK_STR("records", records(), "");
    tear_down();
}

static void test_sweep_stranded(void)
{
    set_up();
    fake.entries = "i:" ID1 ":x@unmanaged.test";
    CHECK_STR("just arrived", swept(1), "");
    scene.now += 10;
    CHECK_STR("lies there", swept(2), "scan qmgr");
    fake.entries = "a:" ID1 ":x@unmanaged.test";
    CHECK_STR("on its way", swept(3), "");
    tear_down();
}

static void test_sweep_flush(void)
{
    set_up();
    fake.entries = "d:" ID1 ":!a@example.com d:" ID2 ":b@example.com";
    CHECK_STR("ours alone", swept(4), "flush " ID1);
    CHECK_INT("left", figures().left, 1);
    tear_down();
}

static void test_sweep_flush_many(void)
{
    static char text[1000], want[400];
    set_up();
    static const char digits[] = "0123456789BCDFGHJKLMNPQRSTVWX";
    for (size_t i = 0; i < HELPER_FLUSH_MAX + 1; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text),
                 "%sd:4jXDfR05J2z1bYC%c:!a@example.com", i ? " " : "", digits[i]);
    fake.entries = text;
    snprintf(want, sizeof(want), "requeue 4jXDfR05J2z1bYC%c, wake pickup",
             digits[HELPER_FLUSH_MAX]);
    const char *got = swept(4);
    CU_ASSERT(strncmp(got, want, strlen(want)) == 0);
    /* It comes back again and again: each requeue costs a Received: header. */
    size_t requeued = 1;
    for (int i = 0; i < 120; i++) /* two hours */
        requeued += strncmp(swept(4), "requeue", 7) == 0;
    CU_ASSERT(requeued > 6 && requeued < 15);
    tear_down();
}

/* ---- many ------------------------------------------------------------------------ */

#ifdef __SANITIZE_ADDRESS__
#define MANY 1000 /* the store in memory looks through a list */
#else
#define MANY 10000
#endif
#define LOOK_MS 2000

/* A queue of MANY messages on hold, at which a look takes LOOK_MS, and a command 5 ms
 * for each. */
static struct {
    char ids[MANY][QUEUE_ID_MAX];
    bool gone[MANY];
    size_t left, lists, moves, wakes;
} many;

static bool many_list(struct queue *queue, queue_entry_fn *each, void *context)
{
    static const struct queue_recipient to = { .address = "a@example.com", .reason = "" };
    (void)queue;
    many.lists++;
    for (size_t i = 0; i < MANY; i++) {
        struct queue_entry entry = { .id = many.ids[i],
                                     .id_valid = true,
                                     .queue = many.gone[i] ? QUEUE_ACTIVE : QUEUE_HOLD,
                                     .sender = "s@x.test",
                                     .recipients = &to,
                                     .count = 1 };
        if (!each(context, &entry))
            break;
    }
    clock_ms += LOOK_MS;
    return true;
}

static bool many_release(struct queue *queue, const char *const *ids, size_t n)
{
    (void)queue;
    many.moves++;
    for (size_t i = 0; i < n; i++) {
        size_t at = (size_t)((const char(*)[QUEUE_ID_MAX])bsearch(
                                 ids[i], many.ids, MANY, sizeof(many.ids[0]),
                                 (int (*)(const void *, const void *))strcmp) -
                             many.ids);
        many.left -= !many.gone[at];
        many.gone[at] = true;
    }
    clock_ms += (int64_t)n * 5;
    return true;
}

static bool many_wake(struct queue *queue)
{
    (void)queue;
    many.wakes++;
    return true;
}

static bool count_record(void *context, const struct held *held)
{
    (void)held;
    ++*(size_t *)context;
    return true;
}

static size_t record_count(void)
{
    size_t n = 0;
    CU_ASSERT(store_each_held(scene.store, HOST, count_record, &n));
    return n;
}

/* The keeper's loop until a time, a turn each 200 ms. */
static void turns(int64_t until_ms)
{
    for (; clock_ms < until_ms; clock_ms += 200) {
        struct release_env env = { scene.conf, scene.store, &scene.queue,
                                   &scene.settings, 9, scene.now + clock_ms / 1000,
                                   clock_ms };
        release_step(scene.release, &env, now_ms);
    }
}

static void set_up_many(void)
{
    static struct queue_ops ops;
    static const char digits[] = "0123456789";
    set_up();
    memset(&many, 0, sizeof(many));
    many.left = MANY;
    for (size_t i = 0; i < MANY; i++) {
        snprintf(many.ids[i], sizeof(many.ids[i]), "4jXDfR0%c%c%c%cz1bYCF",
                 digits[i / 1000], digits[i / 100 % 10], digits[i / 10 % 10],
                 digits[i % 10]);
        put_record(many.ids[i], HELD_LOCK, "a@example.com");
    }
    ops = fake_ops;
    ops.list = many_list;
    ops.release = many_release;
    ops.wake = many_wake;
    scene.queue.ops = &ops;
}

static void test_many(void)
{
    static const struct event unlock = { .op = EVENT_UNLOCK };
    set_up_many();
    change_one(EVENT_LOCK, "a");
    turns(clock_ms + 60000);
    /* Nothing to do: a look of 2 s, then ten times as long nothing but the idle rest. */
    CU_ASSERT(many.lists >= 3 && many.lists <= 6);
    many.lists = 0;
    change_one(EVENT_UNLOCK, "a");
    int64_t begun = clock_ms;
    release_event(scene.release, &unlock, clock_ms);
    /* A look, postsuper, as long a rest as the look was, the look that settles. */
    turns(begun + 3 * LOOK_MS + MANY * 5 + 1000);
    CHECK_INT("all have left hold", many.left, 0);
    CHECK_INT("no record is left", record_count(), 0);
    CHECK_INT("looks", (long long)many.lists, 2);
    CHECK_INT("a command for five hundred", many.moves, MANY / 500);
    CHECK_INT("picked up after each", many.wakes, MANY / 500);
    tear_down();
}

/* Events without end are not looks without end: half of the time at the most. */
static void test_many_events(void)
{
    static const struct event flip = { .op = EVENT_FLIP };
    set_up_many();
    change_one(EVENT_LOCK, "a");
    int64_t begun = clock_ms;
    for (int i = 0; clock_ms < begun + 100000; i++) {
        release_event(scene.release, &flip, clock_ms);
        turns(clock_ms + 1);
    }
    CU_ASSERT(many.lists >= 20 && many.lists <= 26);
    tear_down();
}

static void test_sweep_missing(void)
{
    set_up();
    put_record(ID1, HELD_LOCK, "a@example.com");
    CHECK_STR("not there yet", swept(4), "");
    CHECK_INT("it may come", figures().left, 1);
    CHECK_STR("marked", records(), ID1 " gone for a@example.com");
    scene.now += 30;
    fake.entries = "h:" ID1 ":a@example.com";
    CHECK_STR("it came", swept(4), "release " ID1 ", wake pickup");
    fake.entries = "";
    (void)swept(4);
    CHECK_STR("done", records(), "");
    put_record(ID2, HELD_LOCK, "a@example.com");
    (void)swept(4);
    scene.now += 100;
    (void)swept(4);
    CHECK_INT("it will not come", figures().left, 0);
    CHECK_STR("but it is looked for", records(), ID2 " gone for a@example.com");
    scene.now += 600;
    (void)swept(4);
    CHECK_STR("for ten minutes", records(), "");
    tear_down();
}

static void test_sweep_taken_off(void)
{
    set_up();
    put_record(ID1, HELD_LOCK, "a@example.com");
    fake.entries = "d:" ID1 ":a@example.com"; /* an admin's postsuper -H */
    CHECK_STR("Postfix tries it", swept(4), "");
    CHECK_STR("the record is stale", records(), "");
    tear_down();
}

static void test_sweep_fails(void)
{
    set_up();
    put_record(ID1, HELD_LOCK, "a@example.com");
    fake.entries = "h:" ID1 ":a@example.com";
    fake.fails = true;
    CHECK_STR("half a listing is none", swept(9), "");
    CHECK_INT("not swept", figures().swept, 0);
    CHECK_STR("says why", figures().error, "no listing");
    CHECK_STR("the record is not marked", records(), ID1 " for a@example.com");
    tear_down();
}

static void test_sweep_store_fails(void)
{
    set_up();
    put_record(ID1, HELD_LOCK, "a@example.com");
    fake.entries = "h:" ID1 ":a@example.com d:" ID2 ":!a@example.com";
    store_free(scene.store);
    scene.store = store_failing_new("Redis is down");
    CHECK_STR("nothing is done", swept(9), "");
    CHECK_INT("not swept", figures().swept, 0);
    CHECK_STR("says why", figures().error, "Redis is down");
    tear_down();
}

static void test_pace(void)
{
    static const struct event flip = { .op = EVENT_FLIP }, lock = { .op = EVENT_LOCK };
    set_up();
    (void)swept(4);
    CU_ASSERT(!release_due(scene.release, clock_ms + 9000));
    CU_ASSERT(release_due(scene.release, clock_ms + 10001));
    release_event(scene.release, &lock, clock_ms);
    CU_ASSERT(!release_due(scene.release, clock_ms + 100));
    release_event(scene.release, &flip, clock_ms);
    CU_ASSERT(release_due(scene.release, clock_ms + 100));
    scene.settings.lifetime = 20;
    (void)swept(4);
    CU_ASSERT(release_due(scene.release, clock_ms + 5001));
    tear_down();
}

/* After a release of 100 ms of looking and 5 s of work, the records are settled at
 * once; after that, with nothing to do, the machine rests. */
static void test_pace_after_work(void)
{
    set_up();
    put_record(ID1, HELD_LOCK, "a@example.com");
    fake.entries = "h:" ID1 ":a@example.com";
    fake.look_ms = 100;
    fake.work_ms = 5000;
    CHECK_STR("released", swept(4), "release " ID1 ", wake pickup");
    CU_ASSERT(!release_due(scene.release, clock_ms + 90));
    CU_ASSERT(release_due(scene.release, clock_ms + 301));
    fake.entries = "";
    fake.look_ms = 3000;
    CHECK_STR("settled", swept(4), "");
    CHECK_STR("record", records(), "");
    CU_ASSERT(!release_due(scene.release, clock_ms + 14000));
    CU_ASSERT(release_due(scene.release, clock_ms + 15001));
    tear_down();
}

UNIT_MAIN("release", { "decide", test_decide }, { "lifetimes", test_lifetimes },
          { "fate", test_fate }, { "release", test_sweep_release },
          { "sweep: DMARC", test_sweep_dmarc },
          { "release again", test_sweep_release_again }, { "hold", test_sweep_hold },
          { "hold too late", test_sweep_hold_too_late },
          { "hold again", test_sweep_hold_again }, { "restores", test_sweep_restores },
          { "stranded", test_sweep_stranded }, { "flush", test_sweep_flush },
          { "flush many", test_sweep_flush_many }, { "missing", test_sweep_missing },
          { "taken off hold", test_sweep_taken_off },
          { "listing fails", test_sweep_fails },
          { "store fails", test_sweep_store_fails }, { "pace", test_pace },
          { "pace after work", test_pace_after_work }, { "many", test_many },
          { "many events", test_many_events })
