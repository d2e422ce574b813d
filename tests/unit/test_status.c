/*
 * status: what is taken from the store, what is an alarm, the two texts; alarm: when
 * it speaks, and its command.
 */
#include "config.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../policyd/alarm.h"
#include "clock.h"
#include "log.h"
#include "../../policyd/status.h"
#include "unit.h"

#define NOW 1795311841

static char directory[64], script[128], record[160];
static char hostname[] = "mx1.example.com";

/* A real one, since lookups of domains go through its index; it manages another
 * domain than the cases use. */
static struct conf *loaded(void)
{
    static struct conf *conf;
    char path[160], error[300];
    snprintf(path, sizeof(path), "%s/sluice.conf", directory);
    FILE *file = conf ? NULL : fopen(path, "w");
    if (file) {
        fprintf(file, "side = old\nhostname = \"mx1.example.com\"\nredis = \"unix:/x\"\n"
                      "domain \"other.example\" { new = \"[127.0.0.1]:25\" }\n");
        fclose(file);
        conf = conf_load(path, error, sizeof(error));
        if (!conf)
            printf("%s\n", error);
        unlink(path);
    }
    if (!conf)
        abort();
    return conf;
}

static struct conf conf_of(int deadline)
{
    struct conf conf = *loaded();
    conf.hostname = hostname;
    conf.lock_deadline = deadline;
    return conf;
}

static void contains(const char *what, const char *text, const char *part)
{
    bool there = text && strstr(text, part);
    if (!there)
        printf("\n  %s: no %s in %s\n", what, part, text ? text : "(null)");
    CU_ASSERT(there);
}

/* ---- texts ----------------------------------------------------------------- */

static void test_spans(void)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } rows[] = {
        { -5, "0 s" },           { 0, "0 s" },
        { 119, "119 s" },        { 120, "2 min" },
        { 7199, "119 min" },     { 7200, "2 h" },
        { 15840, "4 h 24 min" }, { 172799, "47 h 59 min" },
        { 172800, "2 d" },       { 259200, "3 d" },
    };
    char text[STATUS_SPAN_MAX];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK_STR("span", status_span(rows[i].seconds, text), rows[i].text);
}

static void test_quantiles(void)
{
    struct lookup_figures from = { .found = 0 }, to = { .found = 0 };
    char text[32];
    snprintf(text, sizeof(text), "%.3f", status_quantile(&from, &to, 0.5));
    CHECK_STR("nothing", text, "0.000");
    from.bucket[0] = to.bucket[0] = 1000000; /* of before */
    to.bucket[2] = 50;                       /* 250 to 500 us */
    to.bucket[5] = 50;                       /* 2.5 to 5 ms */
    snprintf(text, sizeof(text), "%.3f", status_quantile(&from, &to, 0.25));
    CHECK_STR("in the middle of the first", text, "0.375");
    snprintf(text, sizeof(text), "%.3f", status_quantile(&from, &to, 0.99));
    CHECK_STR("near the end of the last", text, "4.950");
    to.bucket[LOOKUP_BUCKETS] = 1000000;
    snprintf(text, sizeof(text), "%.1f", status_quantile(&from, &to, 0.99));
    CHECK_STR("more than is told apart", text, "1000.0");
}

/* Names that nobody should have. */
static const char *const hostile[] = {
    "\"},{\"version\":9",           "</script><script>alert(1)</script>",
    "a\\b\nc\td\x01\x7f",           "\xff\xfe\xc0\xaf\xed\xa0\x80",
    "caf\xc3\xa9 \xf0\x9f\x90\x8c", "\xe2\x82",
};

/* Every byte is where JSON allows it, and quotes are in pairs. */
static void check_json(const char *text, size_t len)
{
    bool inside = false;
    int depth = 0, bad = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (inside && c == '\\')
            i++;
        else if (c == '"')
            inside = !inside;
        else if (inside)
            bad += c < 0x20 || strchr("<>&'", c) != NULL || c == 0x7f;
        else
            depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        bad += depth < 0;
    }
    CHECK_INT("json: bytes that must not be there", bad, 0);
    CHECK_INT("json: open strings", inside, false);
    CHECK_INT("json: open brackets", depth, 0);
}

static void check_metrics(const char *text)
{
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
        size_t len = strcspn(line, "\n"), quotes = 0;
        bool good = strncmp(line, "# ", 2) == 0 || strncmp(line, "sluice_", 7) == 0;
        for (size_t i = 0; i < len; i++) {
            good =
                good && (unsigned char)line[i] >= 0x20 && (unsigned char)line[i] < 0x7f;
            if (line[i] == '\\')
                i++;
            else
                quotes += line[i] == '"';
        }
        if (!good || (line[0] == 's' && quotes % 2))
            printf("\n  metrics: %.*s\n", (int)len, line);
        CU_ASSERT(good && (line[0] == '#' || quotes % 2 == 0));
    }
}

static void test_hostile_texts(void)
{
    struct conf conf = conf_of(14400);
    for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
        struct status *status = calloc(1, sizeof(*status));
        struct ping_row ping = { .host = hostile[i],
                                 .path = hostile[i],
                                 .text = hostile[i] };
        const struct store_sender sender = { hostile[i], hostile[i], 1, 2, 3 };
        struct store_picture picture = { .domain = "example.com",
                                         .senders = &sender,
                                         .sender_count = 1 };
        size_t len;
        CU_ASSERT_FATAL(status != NULL);
        status->conf = &conf;
        status->up = true;
        status->now = status->store_s = NOW;
        CU_ASSERT(status_add_ping(status, &ping));
        CU_ASSERT(status_add_domain(status, &picture));
        snprintf(status->error, sizeof(status->error), "%s", hostile[i]);
        status->host_count = 1;
        status->hosts = calloc(1, sizeof(*status->hosts));
        CU_ASSERT_FATAL(status->hosts != NULL);
        snprintf(status->hosts[0].name, sizeof(status->hosts[0].name), "%s", hostile[i]);
        snprintf(status->hosts[0].state, sizeof(status->hosts[0].state), "%s",
                 hostile[i]);
        status_settle(status);
        char *json = status_json(status, &len);
        CU_ASSERT_FATAL(json != NULL);
        check_json(json, len);
        free(json);
        char *metrics = status_metrics(status, &len);
        CU_ASSERT_FATAL(metrics != NULL);
        check_metrics(metrics);
        free(metrics);
        status_free(status);
    }
}

/* The most first, and whoever finds no room is counted in the last row. */
static void test_senders(void)
{
    static struct store_sender senders[STATUS_SENDERS_MAX + 6];
    static char names[STATUS_SENDERS_MAX + 5][16];
    struct conf conf = conf_of(14400);
    for (unsigned i = 0; i < STATUS_SENDERS_MAX + 5; i++) {
        snprintf(names[i], sizeof(names[i]), "192.0.2.%u", i);
        senders[i] = (struct store_sender){ names[i], "name", i + 1, 1000 - i, 2000 + i };
    }
    senders[STATUS_SENDERS_MAX + 5] = (struct store_sender){ "*", "", 1000, 1, 9999 };
    static const struct {
        size_t given, shown;
        uint64_t first, last; /* counts in the first and the last row */
        const char *last_client;
    } rows[] = {
        { 0, 0, 0, 0, NULL },
        { 1, 1, 1, 1, "192.0.2.0" },
        { STATUS_SENDERS_MAX, STATUS_SENDERS_MAX, 20, 1, "192.0.2.0" },
        /* 1 to 6, and the 1000 that the store itself found no room for */
        { STATUS_SENDERS_MAX + 6, STATUS_SENDERS_MAX, 25, 1021, "*" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct status *status = calloc(1, sizeof(*status));
        CU_ASSERT_FATAL(status != NULL);
        status->conf = &conf;
        const struct store_picture picture = { .domain = "example.com",
                                               .senders = senders,
                                               .sender_count = rows[i].given };
        CU_ASSERT_FATAL(status_add_domain(status, &picture));
        const struct status_domain *domain = &status->domains[0];
        CHECK_INT("shown", (long long)domain->sender_count, (long long)rows[i].shown);
        if (rows[i].shown > 0) {
            const struct status_sender *last = &domain->senders[rows[i].shown - 1];
            CHECK_INT("most", (long long)domain->senders[0].count,
                      (long long)rows[i].first);
            CHECK_INT("least", (long long)last->count, (long long)rows[i].last);
            CHECK_STR("least", last->client, rows[i].last_client);
        }
        if (rows[i].given > STATUS_SENDERS_MAX) {
            CHECK_INT("since", domain->senders[rows[i].shown - 1].first, 1);
            CHECK_INT("until", domain->senders[rows[i].shown - 1].last, 9999);
        }
        status_free(status);
    }
}

/* ---- playbooks --------------------------------------------------------------- */

static void test_run(void)
{
    static const char outline[] = "7\tThe title\tBefore\tone,two\tMove\tthree\tAfter\t";
    struct status_run *run = status_run_new(
        "7\tg\t100\t200\t3600\t1\t/etc/x/my.conf\tnadia\tnote\tmore", outline);
    CU_ASSERT_FATAL(run != NULL);
    CHECK_STR("name", run->name, "my");
    CHECK_STR("title", run->title, "The title");
    CHECK_INT("steps", run->total, 3);
    CHECK_INT("phases", run->phase_count, 3);
    status_run_step(run, outline, "", "7\tg\t1");
    status_run_step(run, outline, "=who", "7\td\t1\t2\t3\t4\t5");
    status_run_step(run, outline, "@outline", outline);
    status_run_step(run, outline, "one", "8\td\t1\t2\t0\tme\tdone");
    status_run_step(run, outline, "two", "9\tf\t1\t2\t0\tme\tno\tmore");
    status_run_step(run, outline, "three", "nonsense");
    status_run_step(run, outline, "on", "9\tr\t1\t2\t0\tme\t");
    status_run_settle(run);
    CHECK_INT("done", run->done, 1);
    CHECK_INT("phase", run->phase, 0);
    CHECK_INT("done in it", run->phases[0].done, 1);
    CHECK_INT("under way", run->now_count, 2);
    CHECK_STR("which", run->now[0].id, "two");
    CHECK_STR("why", run->now[0].note, "no");
    free(run);
    /* What is no record, or has no outline. */
    CHECK_INT("not a run", status_run_new("7\tz\t1\t2\t3\t0\tname\tby", NULL) == NULL, 1);
    CHECK_INT("too short", status_run_new("7\tg\t1", NULL) == NULL, 1);
    CHECK_INT("empty", status_run_new("", NULL) == NULL, 1);
    run = status_run_new("7\tf\t1\t2\t3\t0\tname\tby", NULL);
    CU_ASSERT_FATAL(run != NULL);
    status_run_step(run, NULL, "one", "8\td\t1\t2\t0\tme\tdone");
    status_run_settle(run);
    CHECK_INT("without an outline", run->total == 0 && run->done == 1 && run->phase == -1,
              1);
    free(run);
}

/* ---- alarms --------------------------------------------------------------------- */

static struct status *status_new(const struct conf *conf)
{
    struct status *status = calloc(1, sizeof(*status));
    if (!status)
        abort();
    status->conf = conf;
    status->up = true;
    status->now = status->store_s = NOW;
    return status;
}

static void test_deadline(void)
{
    static const struct {
        int limit;
        int64_t age;      /* of the lock */
        bool own;         /* the domain's own record is locked, too */
        const char *text; /* NULL: no alarm */
        uint64_t overdue;
    } rows[] = {
        { 14400, 14399, false, NULL, 0 },
        { 14400, 14400, false, "7 mailboxes are locked for 4 h, past lock-deadline 4 h",
          7 },
        { 0, 1000000, false, NULL, 0 },
        { 60, 15840, true, "7 mailboxes are locked for 4 h 24 min, past", 7 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct conf conf = conf_of(rows[i].limit);
        struct status *status = status_new(&conf);
        static struct alarm out[STATUS_ALARMS_MAX];
        const struct store_lock locks[] = { { false, 9, NOW - 10, 3 },
                                            { true, 8, NOW - rows[i].age, 7 } };
        struct store_picture picture = { .domain = "example.com",
                                         .locks = locks,
                                         .lock_count = 2 };
        if (rows[i].own) {
            picture.totals.own.state = HOME_LOCKED;
            picture.totals.own.since = NOW - rows[i].age;
        }
        CU_ASSERT(status_add_domain(status, &picture));
        CHECK_INT("alarms", status_judge(status, out), rows[i].text != NULL);
        CHECK_INT("overdue", (long long)status->domains[0].overdue,
                  (long long)rows[i].overdue);
        CHECK_INT("own", status->domains[0].own_overdue, rows[i].own);
        if (rows[i].text)
            contains("text", out[0].text, rows[i].text);
        if (rows[i].text)
            CHECK_INT("since", out[0].since, NOW - rows[i].age + rows[i].limit);
        status_free(status);
    }
}

/* A thousand domains past their deadline are twenty alarms and one, and other alarms
 * find room. */
static void test_many_overdue(void)
{
    struct conf conf = conf_of(3600);
    struct status *status = status_new(&conf);
    static struct alarm out[STATUS_ALARMS_MAX];
    char name[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "d%04d.example", i);
        const struct store_lock late = { false, 9, NOW - 3700 - i, 3 };
        struct store_picture picture = { .domain = name, .locks = &late, .lock_count = 1 };
        CU_ASSERT(status_add_domain(status, &picture));
    }
    status->hosts = calloc(1, sizeof(*status->hosts));
    CU_ASSERT_FATAL(status->hosts != NULL);
    status->host_count = 1;
    status_settle(status);
    CHECK_INT("alarms", (long long)status_judge(status, out), STATUS_OVERDUE_MAX + 2);
    CHECK_STR("the first", out[0].about, "d0000.example");
    CHECK_STR("the rest", out[STATUS_OVERDUE_MAX].about, "others");
    contains("the rest", out[STATUS_OVERDUE_MAX].text,
             "980 more domains with 2940 mailboxes are past");
    CHECK_INT("since the oldest", out[STATUS_OVERDUE_MAX].since, NOW - 4699 + 3600);
    CHECK_INT("the host", out[STATUS_OVERDUE_MAX + 1].kind, ALARM_HOST_SILENT);
    status_free(status);
}

static void test_hosts(void)
{
    static const struct {
        struct host host;
        int kind; /* -1: none */
    } rows[] = {
        { { .seen_ms = (NOW - 1) * 1000LL }, -1 },
        { { .seen_ms = (NOW - 60) * 1000LL }, ALARM_HOST_SILENT },
        { { .seen_ms = 0, .held = 5, .oldest = NOW - 9 }, ALARM_HOST_SILENT },
        { { .seen_ms = NOW * 1000LL, .held = 5, .oldest = NOW - 14400 }, ALARM_HELD_OLD },
        { { .seen_ms = NOW * 1000LL, .held = 5, .oldest = NOW - 14399 }, -1 },
        { { .seen_ms = NOW * 1000LL, .deferred = 1, .deferred_oldest = NOW - 900 },
          ALARM_FORWARD_FAILING },
        { { .seen_ms = NOW * 1000LL, .deferred = 1, .deferred_oldest = NOW - 899 }, -1 },
        { { .seen_ms = NOW * 1000LL, .journaled = 9, .fenced = 8, .state = "drains" },
          -1 },
        { { .seen_ms = NOW * 1000LL, .journaled = 9, .fenced = 9, .state = "no helper" },
          ALARM_HOST_FAULT },
    };
    struct conf conf = conf_of(14400);
    static struct alarm out[STATUS_ALARMS_MAX];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct status *status = status_new(&conf);
        status->hosts = malloc(sizeof(*status->hosts));
        CU_ASSERT_FATAL(status->hosts != NULL);
        status->hosts[0] = rows[i].host;
        status->host_count = 1;
        size_t n = status_judge(status, out);
        CHECK_INT("kind", n ? (int)out[0].kind : -1, rows[i].kind);
        CHECK_INT("alarms", (long long)n, rows[i].kind >= 0);
        status->up = false; /* then only that is told */
        CHECK_INT("down", status_judge(status, out), 1);
        CHECK_INT("down", out[0].kind, ALARM_REDIS_DOWN);
        status_free(status);
    }
}

/* ---- what the logs say --------------------------------------------------------- */

#define DAY 86400

/* The countdown of a domain that moved four days ago and had its last floater, by the
 * milter, three days ago. */
static void test_monitors(void)
{
    static const struct monitor_domain example[] = { { "example.com", NOW - 3600, 0 } },
                                       other[] = { { "other.test", NOW - 60, 0 } },
                                       rest[] = { { "*", NOW - 1800, 0 } },
                                       future[] = { { "example.com", NOW + DAY, 0 } };
    static const struct {
        const char *what;
        struct monitor_row row;
        int64_t quiet, log; /* seconds ago; log -1: not known */
        unsigned logs;
        bool old;
        int alarms;
    } rows[] = {
        { "quiet, as the milter says", { .when = NOW - 60, .begins = NOW - 9 * DAY },
          3 * DAY, 9 * DAY, 1, false, 0 },
        { "a floater that no milter saw",
          { .when = NOW - 60, .state = 1, .begins = NOW - 9 * DAY, .domains = example,
            .domain_count = 1 }, 3600, 3600, 1, false, 0 },
        { "another domain's", { .when = NOW - 60, .state = 1, .begins = NOW - 9 * DAY,
            .domains = other, .domain_count = 1 }, 3 * DAY, 9 * DAY, 1, false, 0 },
        { "one that found no row", { .when = NOW - 60, .begins = NOW - 9 * DAY,
            .domains = rest, .domain_count = 1 }, 1800, 1800, 1, false, 0 },
        { "a log that begins late", { .when = NOW - 60, .begins = NOW - DAY }, DAY, DAY,
          1, false, 0 },
        { "no mail in the log", { .when = NOW - 60, .state = 3 }, 3 * DAY, -1, 0, false,
          0 },
        { "old: not believed that it was quiet",
          { .when = NOW - 7201, .begins = NOW - 9 * DAY }, 3 * DAY, -1, 0, true, 0 },
        { "old: a floater stays one", { .when = NOW - 7201, .begins = NOW - 9 * DAY,
            .domains = example, .domain_count = 1 }, 7201, 7201, 0, true, 0 },
        { "forwards fail", { .when = NOW - 60, .state = 2, .begins = NOW - 9 * DAY,
            .text = "1 forward fails" }, 3 * DAY, 9 * DAY, 1, false, 1 },
        { "failed yesterday", { .when = NOW - DAY, .state = 2, .begins = NOW - 9 * DAY },
          3 * DAY, -1, 0, true, 1 },
        { "failed long ago", { .when = NOW - 2 * DAY, .state = 2 }, 3 * DAY, -1, 0, true,
          0 },
        { "a clock that is ahead",
          { .when = NOW + 301, .state = 2, .begins = NOW - 9 * DAY, .last = NOW,
            .domains = example, .domain_count = 1 },
          3 * DAY, -1, 0, true, 0 },
        { "a floater of tomorrow", { .when = NOW - 60, .begins = NOW - 9 * DAY,
            .domains = future, .domain_count = 1 }, 60, 60, 1, false, 0 },
    };
    static struct alarm out[STATUS_ALARMS_MAX];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct conf conf = conf_of(14400);
        struct status *status = status_new(&conf);
        struct store_picture picture = { .domain = "example.com",
                                         .totals = { .new = 9 },
                                         .flipped = NOW - 4 * DAY,
                                         .floater_last = NOW - 3 * DAY };
        struct monitor_row row = rows[i].row;
        row.host = "mx1.example.com";
        row.text = row.text ? row.text : "";
        CU_ASSERT(status_add_domain(status, &picture));
        CU_ASSERT(status_add_monitor(status, &row));
        status_settle(status);
        const struct status_domain *domain = &status->domains[0];
        int64_t log = rows[i].log < 0 ? 0 : NOW - rows[i].log;
        CHECK_INT(rows[i].what, NOW - domain->quiet_since, rows[i].quiet);
        CHECK_INT(rows[i].what, domain->log_since, log);
        CHECK_INT(rows[i].what, domain->logs, rows[i].logs);
        CHECK_INT(rows[i].what, status->monitors[0].old, rows[i].old);
        CHECK_INT(rows[i].what, (long long)status_judge(status, out), rows[i].alarms);
        size_t len;
        char *json = status_json(status, &len), *metrics = status_metrics(status, &len);
        contains("json", json, rows[i].old ? "\"old\":true" : "\"old\":false");
        contains("metrics", metrics, "sluice_monitor_state{host=\"mx1.example.com\"}");
        free(json);
        free(metrics);
        status_free(status);
    }
}

/* Whose logs count: those of the old side, and each of them has to be known. */
static void test_whose_logs(void)
{
    const enum side OLD = SIDE_OLD, NEW = SIDE_NEW;
    static const struct {
        const char *what, *monitors[3];
        int64_t when; /* seconds ago, of the first */
        unsigned logs, missing;
        int64_t quiet; /* days */
    } rows[] = {
        { "nobody's", { NULL }, 60, 0, 2, 3 },
        { "both old ones", { "mx1", "mx2" }, 60, 2, 0, 3 },
        { "one of two", { "mx1" }, 60, 1, 1, 3 },
        { "one of two is old", { "mx1", "mx2" }, 7201, 1, 1, 3 },
        { "the new side's, which begins late", { "new1" }, 60, 0, 2, 3 },
        { "all three", { "mx1", "mx2", "new1" }, 60, 2, 0, 3 },
        { "a host for logs, not registered", { "loghost" }, 60, 1, 2, 3 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct conf conf = conf_of(14400);
        struct status *status = status_new(&conf);
        struct store_picture picture = { .domain = "example.com",
                                         .totals = { .new = 9 },
                                         .flipped = NOW - 3 * DAY };
        status->hosts = calloc(3, sizeof(*status->hosts));
        CU_ASSERT_FATAL(status->hosts != NULL);
        status->host_count = 3;
        status->hosts[0] = (struct host){ .name = "mx1", .side = OLD };
        status->hosts[1] = (struct host){ .name = "new1", .side = NEW };
        status->hosts[2] = (struct host){ .name = "mx2", .side = OLD };
        CU_ASSERT(status_add_domain(status, &picture));
        for (size_t k = 0; k < 3 && rows[i].monitors[k]; k++) {
            bool late = rows[i].monitors[k][0] == 'n';
            struct monitor_row row = { .host = rows[i].monitors[k],
                                       .when = NOW - (k == 0 ? rows[i].when : 60),
                                       .begins = NOW - (late ? 1 : 9) * DAY,
                                       .text = "" };
            CU_ASSERT(status_add_monitor(status, &row));
        }
        status_settle(status);
        CHECK_INT(rows[i].what, status->domains[0].logs, rows[i].logs);
        CHECK_INT(rows[i].what, status->logs_missing, rows[i].missing);
        CHECK_INT(rows[i].what, NOW - status->domains[0].quiet_since, rows[i].quiet * DAY);
        size_t len;
        char wanted[40], *json = status_json(status, &len);
        snprintf(wanted, sizeof(wanted), "\"logs_missing\":%u,", rows[i].missing);
        contains("json", json, wanted);
        free(json);
        status_free(status);
    }
}

/* Those that fail are shown, however many there are. */
static void test_many_pings(void)
{
    struct conf conf = conf_of(14400);
    struct status *status = status_new(&conf);
    char path[32];
    for (int i = 0; i < 130; i++) {
        snprintf(path, sizeof(path), "path %03d", i);
        struct ping_row row = { .host = "mx1", .path = path, .when = NOW, .text = "" };
        row.state = i >= 120 ? 2 : 0;
        CU_ASSERT(status_add_ping(status, &row));
    }
    status_settle(status);
    size_t len, shown = 0;
    char *json = status_json(status, &len);
    contains("all are counted", json, "\"ping_count\":130,");
    contains("the failing come first", json, "\"pings\":[\n{\"host\":\"mx1\",\"path\":\"path 120\"");
    for (const char *at = json; at && (at = strstr(at, "\"path\":")); at++)
        shown++;
    CHECK_INT("shown", (long long)shown, STATUS_PINGS_MAX);
    free(json);
    status_free(status);
}

/* What a host holds is not over because the host is silent. */
static void test_silent_host_that_holds(void)
{
    struct conf conf = conf_of(14400);
    static struct alarm out[STATUS_ALARMS_MAX];
    struct status *status = status_new(&conf);
    status->hosts = calloc(1, sizeof(*status->hosts));
    CU_ASSERT_FATAL(status->hosts != NULL);
    status->hosts[0].held = 5;
    status->hosts[0].oldest = NOW - 14400;
    status->host_count = 1;
    CHECK_INT("both", (long long)status_judge(status, out), 2);
    CHECK_INT("silent", out[0].kind, ALARM_HOST_SILENT);
    CHECK_INT("holds", out[1].kind, ALARM_HELD_OLD);
    status_free(status);
}

/* How many alarms are shown after an update with these conditions. */
static size_t update(struct alarms *alarms, const struct status *status,
                     const struct alarm *conditions, size_t n, struct store *store,
                     int64_t now_ms)
{
    static struct alarm out[STATUS_ALARMS_MAX];
    return alarms_update(alarms, status, conditions, n, store, now_ms, out);
}

static void test_patience(void)
{
    struct conf conf = conf_of(14400);
    struct status *status = status_new(&conf);
    struct alarms *alarms = alarms_new();
    const struct alarm down = { .kind = ALARM_REDIS_DOWN, .since = NOW, .text = "down" };
    const struct alarm lock = { .kind = ALARM_LOCK_DEADLINE, .about = "a", .text = "t" };
    const struct alarm both[] = { down, lock };
    CU_ASSERT_FATAL(alarms != NULL);
    CHECK_INT("a lock at once", update(alarms, status, &lock, 1, NULL, 1000), 1);
    CHECK_INT("redis not yet", update(alarms, status, both, 2, NULL, 2000), 1);
    CHECK_INT("then it is", update(alarms, status, both, 2, NULL, 12000), 2);
    status->up = false;
    CHECK_INT("what needs the store stays", update(alarms, status, &down, 1, NULL, 13000),
              2);
    status->up = true;
    CHECK_INT("over", update(alarms, status, NULL, 0, NULL, 14000), 0);
    CHECK_INT("anew", update(alarms, status, &down, 1, NULL, 15000), 0);
    alarms_free(alarms);
    status_free(status);
}

/* ---- the command ------------------------------------------------------------------- */

static void write_script(const char *body)
{
    FILE *file = fopen(script, "w");
    CU_ASSERT_FATAL(file != NULL);
    fprintf(file, "#!/bin/sh\necho $SLUICE_ALARM_STATE $SLUICE_ALARM_ABOUT >>%s\n%s\n",
            record, body);
    fclose(file);
    chmod(script, 0700);
    unlink(record);
}

static size_t lines_of(const char *word)
{
    char line[600];
    size_t n = 0;
    FILE *file = fopen(record, "r");
    while (file && fgets(line, sizeof(line), file))
        n += strncmp(line, word, strlen(word)) == 0;
    if (file)
        fclose(file);
    return n;
}

static struct store *tick_store; /* for the leases; NULL: Redis is down */

/* Until no command runs; false: it runs longer than that. */
static bool finish(struct alarms *alarms, const struct conf *conf, int64_t now_ms)
{
    for (int64_t until = clock_ms() + 10000; clock_ms() < until;) {
        if (!alarms_tick(alarms, conf, tick_store, now_ms))
            return true;
        nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    }
    return false;
}

static void test_command(void)
{
    char *argv[] = { script, NULL };
    struct conf conf = conf_of(14400);
    struct status *status = status_new(&conf);
    struct alarms *alarms = alarms_new(), *other = alarms_new();
    struct store *store = store_memory_new();
    static struct alarm lock = { .kind = ALARM_LOCK_DEADLINE, .about = "a", .text = "t" };
    conf.alarm_command = argv;
    CU_ASSERT_FATAL(alarms != NULL && other != NULL);
    tick_store = store;
    write_script("");
    update(alarms, status, &lock, 1, store, 1000);
    CU_ASSERT(finish(alarms, &conf, 1000));
    CHECK_INT("raised", lines_of("raised a"), 1);
    /* Another policyd, on another host, sees the same. */
    static char elsewhere[] = "mx2.example.com";
    struct conf conf2 = conf;
    conf2.hostname = elsewhere;
    status->conf = &conf2;
    update(other, status, &lock, 1, store, 2000);
    CU_ASSERT(finish(other, &conf2, 2000));
    CHECK_INT("by one host alone", lines_of("raised a"), 1);
    update(other, status, NULL, 0, store, 3000);
    CU_ASSERT(finish(other, &conf2, 3000));
    CHECK_INT("not the other's to end", lines_of("over"), 0);
    status->conf = &conf;
    update(alarms, status, &lock, 1, store, 4000);
    CU_ASSERT(finish(alarms, &conf, 4000));
    CHECK_INT("not each time", lines_of("still"), 0);
    update(alarms, status, &lock, 1, store, 1000 + ALARM_REPEAT_S * 1000);
    CU_ASSERT(finish(alarms, &conf, 1000 + ALARM_REPEAT_S * 1000));
    CHECK_INT("after an hour", lines_of("still"), 1);
    update(alarms, status, NULL, 0, store, 8000000);
    CU_ASSERT(finish(alarms, &conf, 8000000));
    CHECK_INT("over", lines_of("over a"), 1);
    tick_store = NULL;
    alarms_free(alarms);
    alarms_free(other);
    store_free(store);
    status_free(status);
}

/* What the end of policyd cuts short is run by the next one; what is done is not. */
static void test_command_cut_short(void)
{
    char *argv[] = { script, NULL };
    struct conf conf = conf_of(14400);
    struct status *status = status_new(&conf);
    struct store *store = store_memory_new();
    static struct alarm both[2] = {
        { .kind = ALARM_LOCK_DEADLINE, .about = "short", .text = "t" },
        { .kind = ALARM_HELD_OLD, .about = "waits", .text = "t" },
    };
    conf.alarm_command = argv;
    struct alarms *alarms = alarms_new();
    CU_ASSERT_FATAL(alarms != NULL);
    write_script("sleep 1000 & wait");
    update(alarms, status, both, 2, store, 1000);
    CHECK_INT("one runs, one waits", alarms_tick(alarms, &conf, store, 1000), true);
    tick_store = store;
    alarms_hand_back(alarms, store);
    alarms_free(alarms);
    for (int start = 0; start < 2; start++) {
        alarms = alarms_new();
        CU_ASSERT_FATAL(alarms != NULL);
        /* Another process has another name for its leases: it is of the next second. */
        const struct timespec second = { .tv_sec = 1, .tv_nsec = 50000000 };
        nanosleep(&second, NULL);
        if (start == 0)
            write_script("");
        update(alarms, status, both, 2, store, 2000);
        CU_ASSERT(finish(alarms, &conf, 2000));
        CHECK_INT("told", lines_of("raised short"), 1);
        CHECK_INT("told", lines_of("raised waits"), 1);
        alarms_hand_back(alarms, store);
        alarms_free(alarms);
    }
    tick_store = NULL;
    store_free(store);
    status_free(status);
}

/* One that never ends is killed, with what it started; a flood is bounded. */
static void test_command_limits(void)
{
    char *argv[] = { script, NULL };
    struct conf conf = conf_of(14400);
    struct status *status = status_new(&conf);
    struct alarms *alarms = alarms_new();
    static struct alarm many[STATUS_ALARMS_MAX];
    conf.alarm_command = argv;
    CU_ASSERT_FATAL(alarms != NULL);
    write_script("sleep 1000 & wait");
    many[0] = (struct alarm){ .kind = ALARM_LOCK_DEADLINE, .about = "slow" };
    int64_t now = clock_ms();
    update(alarms, status, many, 1, NULL, now);
    CHECK_INT("runs", alarms_tick(alarms, &conf, NULL, now), true);
    CHECK_INT("still", alarms_tick(alarms, &conf, NULL, now + ALARM_COMMAND_S * 1000 - 1),
              true);
    CU_ASSERT(finish(alarms, &conf, now + ALARM_COMMAND_S * 1000));
    write_script("");
    for (size_t round = 0; round < 4; round++) {
        for (size_t i = 0; i < STATUS_ALARMS_MAX; i++) {
            many[i] = (struct alarm){ .kind = ALARM_HOST_SILENT };
            snprintf(many[i].about, sizeof(many[i].about), "%zu.%zu", round, i);
        }
        update(alarms, status, many, STATUS_ALARMS_MAX, NULL, now + 40000);
        CU_ASSERT(finish(alarms, &conf, now + 40000));
    }
    size_t ran = lines_of("raised") + lines_of("over");
    CHECK_INT("so many in an hour", ran, ALARM_COMMANDS_AN_HOUR - 1);
    /* One that cannot be run is said, and nothing hangs. */
    static char nowhere[] = "/nonexistent/command";
    argv[0] = nowhere;
    update(alarms, status, many, 1, NULL, now + 8000000);
    CHECK_INT("nothing runs", alarms_tick(alarms, &conf, NULL, now + 8000000), false);
    alarms_free(alarms);
    status_free(status);
}

/* ---- the milter's counters ------------------------------------------------------------
 */

static void test_counters(void)
{
    struct conf conf = conf_of(0);
    struct counters_read read;
    conf.state_dir = directory;
    CHECK_INT("none yet", counters_load(&conf, &read), false);
    counters_add(COUNTER_MESSAGES);
    counters_add((enum counter)(COUNTER_DMARC + AUTH_FAIL));
    counters_add((enum counter)(COUNTER_DMARC + AUTH_FAIL));
    CHECK_INT("written", counters_save(&conf, NOW), true);
    CHECK_INT("read", counters_load(&conf, &read), true);
    CHECK_INT("when", read.updated, NOW);
    CHECK_INT("messages", (long long)read.count[COUNTER_MESSAGES], 1);
    CHECK_INT("dmarc_fail", (long long)read.count[COUNTER_DMARC + AUTH_FAIL], 2);
    CHECK_INT("others", (long long)read.count[COUNTER_HOLD], 0);
    char path[160];
    snprintf(path, sizeof(path), "%s/milter.counters", directory);
    FILE *file = fopen(path, "w");
    CU_ASSERT_FATAL(file != NULL);
    fputs("sluice-milter 1 7\nmessages\nmessages x\nhold 12x\nforward 3\nlater 99\n",
          file);
    fclose(file);
    CHECK_INT("damaged", counters_load(&conf, &read), true);
    CHECK_INT("what is no number is left out", (long long)read.count[COUNTER_HOLD], 0);
    CHECK_INT("the rest is read", (long long)read.count[COUNTER_FORWARD], 3);
    CHECK_INT("to the end", (long long)read.count[COUNTER_LATER], 99);
}

static int run_all(void)
{
    static const struct unit_case cases[] = {
        { "spans", test_spans },
        { "quantiles", test_quantiles },
        { "hostile texts", test_hostile_texts },
        { "run", test_run },
        { "deadline", test_deadline },
        { "many overdue", test_many_overdue },
        { "hosts", test_hosts },
        { "a silent host that holds", test_silent_host_that_holds },
        { "senders", test_senders },
        { "what the logs say", test_monitors },
        { "whose logs count", test_whose_logs },
        { "many pings", test_many_pings },
        { "patience", test_patience },
        { "command", test_command },
        { "command's limits", test_command_limits },
        { "a command that is cut short", test_command_cut_short },
        { "counters", test_counters },
    };
    return unit_run("status", cases, sizeof(cases) / sizeof(cases[0]));
}

int main(void)
{
    snprintf(directory, sizeof(directory), "/tmp/sluice-status-XXXXXX");
    if (!mkdtemp(directory))
        return 2;
    snprintf(script, sizeof(script), "%s/page", directory);
    snprintf(record, sizeof(record), "%s/record", directory);
    int status = run_all();
    conf_unref(loaded());
    char counters[160];
    snprintf(counters, sizeof(counters), "%s/milter.counters", directory);
    unlink(counters);
    unlink(script);
    unlink(record);
    rmdir(directory);
    return status;
}
