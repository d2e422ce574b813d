/*
 * alarm_tell: an alarm's command is run until it has succeeded once, over failures,
 * restarts and the deaths of hosts; lock_age: how long a lock lasts when the store's
 * clock is set back.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../policyd/alarm.h"
#include "../../policyd/alarm_tell.h"
#include "../../policyd/lock_age.h"
#include "clock.h"
#include "unit.h"

#define LEASE "alarm:lock-deadline:example.com"

static char directory[64], script[128], record[160];
static char *argv[] = { script, NULL };
static char here[] = "mx1.example.com", there[] = "mx2.example.com";
static const struct alarm lock = { .kind = ALARM_LOCK_DEADLINE,
                                   .about = "example.com",
                                   .since = 1795300000,
                                   .text = "locked" };

/* Writes a line to the record, then ends so. */
static void write_script(const char *end)
{
    FILE *file = fopen(script, "w");
    CU_ASSERT_FATAL(file != NULL);
    fprintf(file, "#!/bin/sh\necho $SLUICE_ALARM_STATE $SLUICE_ALARM_TEXT >>%s\n%s\n",
            record, end);
    fclose(file);
    chmod(script, 0700);
}

static long long ran(const char *word)
{
    char line[600];
    long long n = 0;
    FILE *file = fopen(record, "r");
    while (file && fgets(line, sizeof(line), file))
        n += strncmp(line, word, strlen(word)) == 0;
    if (file)
        fclose(file);
    return n;
}

static struct conf conf_at(char *host)
{
    return (struct conf){ .hostname = host, .alarm_command = argv };
}

static struct tell *new_tell(void)
{
    struct tell *tell = tell_new(0);
    CU_ASSERT_FATAL(tell != NULL);
    return tell;
}

/* Until no command runs. */
static void tick(struct tell *tell, const struct conf *conf, struct store *store,
                 int64_t now_ms)
{
    for (int64_t until = clock_ms() + 20000; clock_ms() < until;) {
        if (!tell_tick(tell, conf, store, now_ms))
            return;
        nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    }
    CU_FAIL("the command does not end");
}

static void test_backoff(void)
{
    static const struct {
        unsigned failures;
        int seconds;
    } rows[] = { { 1, 60 },  { 2, 120 }, { 3, 240 },      { 4, 480 },
                 { 5, 900 }, { 6, 900 }, { 1000000, 900 } };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK_INT("backoff", tell_backoff_s(rows[i].failures), rows[i].seconds);
}

/* A command that fails is run again at 1, 3, 7, 15, 30 minutes; once it succeeds, no
 * more. With the store and without it. */
static void retries(struct store *store)
{
    static const int64_t due_s[] = { 0, 60, 180, 420, 900, 1800 };
    struct conf conf = conf_at(here);
    struct tell *tell = new_tell();
    unlink(record);
    write_script("exit 3");
    tell_order(tell, &conf, &lock, RAISED, store, 0);
    for (size_t i = 0; i < sizeof(due_s) / sizeof(due_s[0]); i++) {
        if (due_s[i] > 0)
            tick(tell, &conf, store, due_s[i] * 1000 - 1);
        CHECK_INT("not before", ran("raised"), (long long)i);
        CHECK_INT("failing", (long long)tell_failing(tell), i > 0);
        tick(tell, &conf, store, due_s[i] * 1000);
        CHECK_INT("then", ran("raised"), (long long)i + 1);
    }
    struct alarm changed = lock;
    memcpy(changed.text, "changed", 8);
    tell_text(tell, &changed);
    write_script("");
    tick(tell, &conf, store, 2700000);
    CHECK_INT("with what it is by then", ran("raised changed"), 1);
    CHECK_INT("not failing", (long long)tell_failing(tell), 0);
    tick(tell, &conf, store, 100000000);
    CHECK_INT("once", ran("raised"), 7);
    tell_free(tell);
}

static void test_retries(void)
{
    struct store *store = store_memory_new();
    retries(store);
    retries(NULL);
    store_free(store);
}

/* The end is told by who told the beginning, or tried to; it is tried some times. */
static void test_over(void)
{
    struct conf conf = conf_at(here);
    struct store *store = store_memory_new();
    struct tell *tell = new_tell();
    unlink(record);
    write_script("exit 1");
    tell_order(tell, &conf, &lock, RAISED, store, 0);
    tell_order(tell, &conf, &lock, OVER, store, 1000);
    tick(tell, &conf, store, 2000);
    CHECK_INT("never told, never over", ran(""), 0);
    tell_order(tell, &conf, &lock, RAISED, store, 3000);
    tick(tell, &conf, store, 3000);
    tell_order(tell, &conf, &lock, OVER, store, 4000);
    for (int64_t now = 4000; now < 10000000; now += 30000)
        tick(tell, &conf, store, now);
    CHECK_INT("raised once", ran("raised"), 1);
    CHECK_INT("the end is given up", ran("over"), 6);
    char other[100];
    CHECK_INT("nothing is left in the store",
              store_lease_take(store, LEASE, "me", 9, other, sizeof(other)), COMMIT_DONE);
    tell_free(tell);
    store_free(store);
}

/* The lease's text at present; "" for none. */
static const char *lease(struct store *store)
{
    static char other[400];
    if (store_lease_take(store, LEASE, "test", 1, other, sizeof(other)) == COMMIT_DONE)
        store_lease_drop(store, LEASE, "test");
    return other;
}

/* Who finds what in the store, and what it does. */
static void test_leases(void)
{
    static const struct {
        const char *what, *lease;
        long long at_once; /* runs */
        bool over;         /* tells the end, too */
    } rows[] = {
        { "nobody was at it", "", 1, true },
        { "another host runs it", "mx2.example.com:77:1 run 0", 0, false },
        { "it failed on another host", "mx2.example.com:77:1 failed 2", 0, false },
        { "another host told it", "mx2.example.com:77:1 told 0", 0, false },
        { "this host ran it and died", "mx1.example.com:77:1 run 0", 1, true },
        { "this host told it before", "mx1.example.com:77:1 told 0", 0, true },
        { "it failed here before", "mx1.example.com:77:1 failed 1", 0, true },
        { "an older version had it", "mx1.example.com:77:1795311841", 0, true },
        { "a host with a like name runs it", "mx1.example.com.au:7:1 run 0", 0, false },
        { "told, the same alarm", "mx1.example.com:77:1 told 0 1795300000", 0, true },
        { "told by another host", "mx2.example.com:77:1 told 0 1795299990", 0, false },
        { "told, the alarm before", "mx1.example.com:77:1 told 0 1795299000", 1, true },
        { "the one before, there", "mx2.example.com:77:1 told 0 1795299000", 1, true },
        { "hostile", "mx2.example.com:77:1 told 0 99999999999999999999", 0, false },
    };
    struct conf conf = conf_at(here);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct store *store = store_memory_new();
        struct tell *tell = new_tell();
        char other[400];
        unlink(record);
        write_script("");
        if (rows[i].lease[0])
            CHECK_INT(
                "lease",
                store_lease_take(store, LEASE, rows[i].lease, 900, other, sizeof(other)),
                COMMIT_DONE);
        tell_order(tell, &conf, &lock, RAISED, store, 0);
        tick(tell, &conf, store, 0);
        CHECK_INT(rows[i].what, ran("raised"), rows[i].at_once);
        tick(tell, &conf, store, 5000);
        CHECK_INT(rows[i].what, ran("raised"), rows[i].at_once);
        tell_order(tell, &conf, &lock, OVER, store, 6000);
        tick(tell, &conf, store, 6000);
        CHECK_INT(rows[i].what, ran("over"), rows[i].over);
        tell_free(tell);
        store_free(store);
    }
}

/* A host dies with its command: another takes over when the lease has ended. */
static void test_host_dies(void)
{
    struct conf one = conf_at(here), two = conf_at(there);
    struct store *store = store_memory_new();
    struct tell *first = new_tell(), *second = new_tell();
    char other[400];
    unlink(record);
    write_script("sleep 1000 & wait");
    tell_order(first, &one, &lock, RAISED, store, 0);
    CHECK_INT("runs", tell_tick(first, &one, store, 0), true);
    for (int64_t until = clock_ms() + 20000; ran("raised") == 0 && clock_ms() < until;)
        nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    char held[400];
    snprintf(held, sizeof(held), "%s", lease(store));
    tell_order(second, &two, &lock, RAISED, store, 0);
    CHECK_INT("the other waits", tell_tick(second, &two, store, 0), false);
    tell_free(first); /* the command dies, the lease stays */
    CHECK_STR("still there", lease(store), held);
    store_lease_drop(store, LEASE, held);
    CHECK_INT("for a second yet",
              store_lease_take(store, LEASE, held, 1, other, sizeof(other)), COMMIT_DONE);
    write_script("");
    tick(second, &two, store, 10000);
    CHECK_INT("not yet", ran("raised"), 1);
    nanosleep(&(struct timespec){ .tv_sec = 1, .tv_nsec = 100000000 }, NULL);
    tick(second, &two, store, 20000);
    CHECK_INT("then the other tells", ran("raised"), 2);
    first = new_tell();
    nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
    tell_order(first, &one, &lock, RAISED, store, 0);
    tick(first, &one, store, 30000);
    CHECK_INT("and it is told", ran("raised"), 2);
    tell_free(first);
    tell_free(second);
    store_free(store);
}

/* The store's clock was set back: the lease of a host that died does not end. */
static void test_stuck_lease(void)
{
    static const struct {
        const char *lease;
        int64_t after_s;
        long long runs;
    } rows[] = {
        { "mx2.example.com:7:1 run 0 5", 900, 0 },
        { "mx2.example.com:7:1 run 0 5", 1000, 1 },
        { "mx2.example.com:7:1 failed 5 5", 1000, 1 },
        { "mx2.example.com:7:1 told 0 1795300000", 1000, 0 },
    };
    struct conf one = conf_at(here);
    char other[400];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct store *store = store_memory_new();
        struct tell *tell = new_tell();
        unlink(record);
        write_script("");
        CHECK_INT(
            "lease",
            store_lease_take(store, LEASE, rows[i].lease, 86400, other, sizeof(other)),
            COMMIT_DONE);
        tell_order(tell, &one, &lock, RAISED, store, 0);
        for (int64_t s = 0; s <= rows[i].after_s; s += 10)
            tick(tell, &one, store, s * 1000);
        CHECK_INT(rows[i].lease, ran("raised"), rows[i].runs);
        tell_free(tell);
        store_free(store);
    }
}

/* What failed on one host goes on at the same pace on the next. */
static void test_failures_are_shared(void)
{
    struct conf two = conf_at(there);
    struct store *store = store_memory_new();
    struct tell *tell = new_tell();
    char other[400];
    unlink(record);
    write_script("exit 1");
    CHECK_INT("lease",
              store_lease_take(store, LEASE, "mx1.example.com:7:1 failed 4", 1, other,
                               sizeof(other)),
              COMMIT_DONE);
    tell_order(tell, &two, &lock, RAISED, store, 0);
    tick(tell, &two, store, 0);
    CHECK_INT("not yet", ran("raised"), 0);
    nanosleep(&(struct timespec){ .tv_sec = 1, .tv_nsec = 100000000 }, NULL);
    tick(tell, &two, store, 10000);
    CHECK_INT("the fifth", ran("raised"), 1);
    tick(tell, &two, store, 10000 + 899000);
    CHECK_INT("a quarter of an hour", ran("raised"), 1);
    CHECK_INT("said so", strstr(lease(store), " failed 5") != NULL, true);
    tell_free(tell);
    store_free(store);
}

/* ---- how long locks last --------------------------------------------------------- */

static void test_lock_age(void)
{
    static const struct {
        const char *what;
        int64_t first_s, then_s; /* the store's clock at two looks, a minute apart */
        int64_t since;           /* of the lock */
        int64_t first, then;     /* since when it counts */
    } rows[] = {
        { "no step", 1000, 1060, 900, 900, 900 },
        { "a second of slack", 1000, 1058, 900, 900, 900 },
        { "an hour back", 10000, 6460, 9900, 9900, 6460 - 160 },
        { "back before it was seen", 6400, 6460, 9900, 6400, 6400 },
        { "an hour forward", 1000, 4660, 900, 900, 900 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct lock_ages *ages = lock_ages_new();
        CU_ASSERT_FATAL(ages != NULL);
        lock_ages_begin(ages, 0);
        CHECK_INT(rows[i].what,
                  lock_ages_since(ages, "a", 7, false, rows[i].since, rows[i].first_s),
                  rows[i].first);
        lock_ages_end(ages, true);
        lock_ages_begin(ages, 30000); /* Redis is down: nothing is forgotten */
        lock_ages_end(ages, false);
        lock_ages_begin(ages, 60000);
        CHECK_INT(rows[i].what,
                  lock_ages_since(ages, "a", 7, false, rows[i].since, rows[i].then_s),
                  rows[i].then);
        /* Another lock, or another domain's, knows nothing of that. */
        CHECK_INT("another change",
                  lock_ages_since(ages, "a", 8, false, rows[i].then_s, rows[i].then_s),
                  rows[i].then_s);
        CHECK_INT("another domain",
                  lock_ages_since(ages, "b", 7, false, rows[i].then_s, rows[i].then_s),
                  rows[i].then_s);
        lock_ages_end(ages, true);
        lock_ages_free(ages);
    }
}

/* A thousand locks in each of many domains: a look costs little. */
static void test_many_locks(void)
{
    struct lock_ages *ages = lock_ages_new();
    CU_ASSERT_FATAL(ages != NULL);
    int64_t begun = clock_ms(), wrong = 0;
    char name[32];
    for (int64_t look = 0; look < 3; look++) {
        lock_ages_begin(ages, look * 60000);
        for (int d = 0; d < 100; d++) {
            snprintf(name, sizeof(name), "d%d.example", d);
            for (uint64_t e = 1; e <= 1000; e++)
                wrong += lock_ages_since(ages, name, e, false, 5000, 6000) !=
                         (look == 0 ? 5000 : 5000 - 60 * look);
        }
        lock_ages_end(ages, true);
    }
    CHECK_INT("each by itself", wrong, 0);
    CU_ASSERT(clock_ms() - begun < 5000);
    lock_ages_free(ages);
}

static int run_all(void)
{
    static const struct unit_case cases[] = {
        { "backoff", test_backoff },
        { "retries", test_retries },
        { "over", test_over },
        { "leases", test_leases },
        { "a lease that does not end", test_stuck_lease },
        { "a host dies", test_host_dies },
        { "failures are shared", test_failures_are_shared },
        { "lock age", test_lock_age },
        { "many locks", test_many_locks },
    };
    return unit_run("alarm", cases, sizeof(cases) / sizeof(cases[0]));
}

int main(void)
{
    snprintf(directory, sizeof(directory), "/tmp/sluice-alarm-XXXXXX");
    if (!mkdtemp(directory))
        return 2;
    snprintf(script, sizeof(script), "%s/page", directory);
    snprintf(record, sizeof(record), "%s/record", directory);
    int status = run_all();
    unlink(script);
    unlink(record);
    rmdir(directory);
    return status;
}
