/* tally: whom a message is counted under, what is kept while the store is down. */
#include "config.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../milter/tally.h"
#include "unit.h"

static struct conf *conf;
static struct store *store;

static void set_up(void)
{
    char path[] = "/tmp/sluice-tally-XXXXXX", error[256];
    int fd = mkstemp(path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fprintf(file, "side = old\nhostname = mx1.example.org\nredis = \"unix:/none\"\n"
                  "domain example.com { new = x same-as = {\"alias.test\"} }\n"
                  "domain sub.example.com { new = x }\n"
                  "domain other.test { new = x }\n");
    fclose(file);
    conf = conf_load(path, error, sizeof(error));
    unlink(path);
    if (!conf)
        printf("%s\n", error);
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
}

static void fresh_store(void)
{
    static const char *const names[] = { "example.com", "sub.example.com", "other.test" };
    store_free(store);
    store = store_memory_new();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        CHECK_INT(names[i], store_init_domain(store, names[i]), COMMIT_DONE);
}

static void add(struct tally *tally, const char *client, const char *helo,
                const char *envelope, const char *from, int64_t now)
{
    struct netaddr address;
    netaddr_parse(client, strlen(client), &address);
    const struct tally_entry entry = { .client = &address,
                                       .helo = helo,
                                       .envelope = envelope,
                                       .from = from,
                                       .spf = AUTH_SOFTFAIL,
                                       .dkim = AUTH_PASS,
                                       .dmarc = AUTH_PASS,
                                       .would_fail = true };
    tally_add(tally, conf, &entry, now);
}

struct shown {
    char text[1024];
    uint64_t messages;
    size_t rows;
};

static bool show(void *context, const struct auth_row *row)
{
    struct shown *shown = context;
    size_t used = strlen(shown->text);
    shown->messages += row->messages;
    shown->rows++;
    snprintf(shown->text + used, sizeof(shown->text) - used,
             "[%s|%s|%s %llu/%llu s%llu d%llu m%llu %lld-%lld]", row->client,
             row->envelope, row->helo, (unsigned long long)row->messages,
             (unsigned long long)row->would_fail,
             (unsigned long long)row->spf[AUTH_SOFTFAIL],
             (unsigned long long)row->dkim[AUTH_PASS],
             (unsigned long long)row->dmarc[AUTH_PASS], (long long)row->first,
             (long long)row->last);
    return true;
}

static const char *rows_of(const char *domain)
{
    static struct shown shown;
    shown = (struct shown){ .rows = 0 };
    CHECK_INT(domain, store_each_auth(store, domain, show, &shown), true);
    return shown.text;
}

/* The domains that got the message: c, s, o. */
static void test_domains(void)
{
    static const struct {
        const char *envelope, *from, *domains;
    } cases[] = {
        { "example.com", "example.com", "c" },
        { "bounce.example.com", "example.com", "c" },
        { "example.com", "news.example.com", "c" },
        { "list.test", "example.com", "c" },
        { "example.com", "list.test", "c" },
        { "other.test", "example.com", "co" },
        { "alias.test", "example.com", "c" },
        { "sub.example.com", "example.com", "cs" },
        { "a.b.sub.example.com", "", "s" },
        { "", "other.test", "o" },
        { "", "", "" },
        { "com", "test", "" },
        { "notexample.com", "example.com.test", "" },
        { "unrelated.test", "unrelated.test", "" },
        { ".", "..", "" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tally *tally = tally_new();
        char what[128], got[8] = "";
        size_t n = 0;
        fresh_store();
        snprintf(what, sizeof(what), "\"%s\" \"%s\"", cases[i].envelope, cases[i].from);
        add(tally, "192.0.2.1", "mx", cases[i].envelope, cases[i].from, 100);
        CHECK_INT(what, tally_due(tally, 0), cases[i].domains[0] != '\0');
        tally_flush(tally, store, 0);
        if (rows_of("example.com")[0])
            got[n++] = 'c';
        if (rows_of("sub.example.com")[0])
            got[n++] = 's';
        if (rows_of("other.test")[0])
            got[n++] = 'o';
        CHECK_STR(what, got, cases[i].domains);
        tally_free(tally);
    }
}

static void test_rows(void)
{
    struct tally *tally = tally_new();
    fresh_store();
    CHECK_INT("nothing", tally_due(tally, 1000000), false);
    add(tally, "192.0.2.1", "first", "example.com", "example.com", 100);
    add(tally, "192.0.2.1", "second name", "example.com", "example.com", 160);
    add(tally, "::ffff:192.0.2.1", "", "example.com", "example.com", 130);
    tally_flush(tally, store, 5000);
    CHECK_STR("one row", rows_of("example.com"),
              "[192.0.2.1|example.com|second?name 3/3 s3 d3 m3 100-160]");
    add(tally, "192.0.2.1", "third", "example.com", "example.com", 200);
    CHECK_INT("not yet", tally_due(tally, 5000 + TALLY_HOLD_MS - 1), false);
    CHECK_INT("now", tally_due(tally, 5000 + TALLY_HOLD_MS), true);
    tally_flush(tally, store, 7000);
    CHECK_STR("added", rows_of("example.com"),
              "[192.0.2.1|example.com|third 4/4 s4 d4 m4 100-200]");
    tally_flush(tally, store, 9000);
    CHECK_STR("no more", rows_of("example.com"),
              "[192.0.2.1|example.com|third 4/4 s4 d4 m4 100-200]");
    tally_free(tally);
    tally_free(NULL);
}

static void test_store_down(void)
{
    struct tally *tally = tally_new();
    struct store *down = store_failing_new("the store is down");
    fresh_store();
    add(tally, "192.0.2.1", "mx", "example.com", "other.test", 100);
    tally_flush(tally, down, 1000);
    add(tally, "192.0.2.1", "mx", "example.com", "other.test", 110);
    CHECK_INT("waits", tally_due(tally, 1000 + TALLY_HOLD_MS), false);
    CHECK_INT("tries again", tally_due(tally, 11000), true);
    tally_flush(tally, down, 11000);
    tally_flush(tally, store, 30000);
    CHECK_STR("kept", rows_of("example.com"),
              "[192.0.2.1|example.com|mx 2/2 s2 d2 m2 100-110]");
    CHECK_STR("kept; its SPF record was not asked", rows_of("other.test"),
              "[192.0.2.1|example.com|mx 2/0 s2 d2 m2 100-110]");
    store_free(down);
    tally_free(tally);
}

/* Whoever sends from everywhere costs a bounded number of rows, and no figure is
 * lost. */
static void test_bounded(void)
{
    struct tally *tally = tally_new();
    struct store *down = store_failing_new("the store is down");
    struct shown shown = { .rows = 0 };
    char client[32], helo[400];
    memset(helo, '\x1b', sizeof(helo));
    helo[sizeof(helo) - 1] = '\0';
    fresh_store();
    for (int i = 0; i < 3 * TALLY_ROWS_MAX; i++) {
        snprintf(client, sizeof(client), "10.%d.%d.1", i / 250, i % 250);
        add(tally, client, helo, "example.com", "example.com", 100 + i);
        if (i == TALLY_ROWS_MAX)
            tally_flush(tally, down, 1000);
    }
    tally_flush(tally, store, 30000);
    CHECK_INT("each", store_each_auth(store, "example.com", show, &shown), true);
    CHECK_INT("messages", shown.messages, 3 * TALLY_ROWS_MAX);
    CHECK_INT("rows", shown.rows <= TALLY_ROWS_MAX + 1, true);
    if (strchr(shown.text, '\x1b'))
        CU_FAIL("control characters");
    store_free(down);
    tally_free(tally);
}

static void *count(void *tally)
{
    for (int i = 0; i < 20000; i++)
        add(tally, "192.0.2.1", "mx", "example.com", "example.com", 100);
    return NULL;
}

static void test_threads(void)
{
    struct tally *tally = tally_new();
    struct shown shown = { .rows = 0 };
    pthread_t threads[4];
    fresh_store();
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, count, tally);
    for (int i = 0; i < 50; i++) {
        (void)tally_due(tally, i);
        tally_flush(tally, store, i);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    tally_flush(tally, store, 1000);
    store_each_auth(store, "example.com", show, &shown);
    CHECK_INT("messages", shown.messages, 80000);
    tally_free(tally);
}

static void clean_up(void)
{
    store_free(store);
    conf_unref(conf);
}

UNIT_MAIN("tally", { "set up", set_up }, { "domains", test_domains },
          { "rows", test_rows }, { "store down", test_store_down },
          { "bounded", test_bounded }, { "threads", test_threads },
          { "clean up", clean_up })
