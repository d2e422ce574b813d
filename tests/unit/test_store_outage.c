/*
 * What the store does when Redis does not do as it should: down, stopped in
 * mid-air, killed in mid-command, trickling, talking nonsense, emptied, rolled
 * back, rolled back and written again; and how it is rebuilt from a journal.
 * Each case has a private redis-server, or a server of its own that misbehaves.
 */
#include "config.h"

#include "redis.h"
#include "store_case.h"

static struct change_result result;

/* ---- help -------------------------------------------------------------- */

/* One command, with the answer's first text or number as text. */
static const char *tell(const struct redis_case *rc, const char *word, ...)
{
    static char answer[256];
    struct redis *redis = redis_new(rc->conf);
    struct redis_args args = { 0 };
    va_list words;
    va_start(words, word);
    for (; word; word = va_arg(words, const char *))
        redis_arg_text(&args, word);
    va_end(words);
    redis_begin(redis, 5000);
    redis_command(redis, &args);
    answer[0] = '\0';
    if (redis_run(redis) != REDIS_DONE) {
        snprintf(answer, sizeof(answer), "%.200s", redis_error(redis));
    } else {
        const struct resp *reply = redis_reply(redis, 0);
        const char *text = resp_text(reply, NULL);
        if (text)
            snprintf(answer, sizeof(answer), "%.200s", text);
        else
            snprintf(answer, sizeof(answer), "%lld", (long long)resp_integer(reply));
    }
    redis_args_free(&args);
    redis_free(redis);
    return answer;
}

static void furnish(struct store *store)
{
    CHECK_DONE(store, store_init_domain(store, "example.com"));
    CHECK_DONE(store, case_host(store, "mx1", SIDE_OLD, 0));
    CHECK_INT("import a", case_status(store, EVENT_IMPORT, "a"), CHANGE_MADE);
}

/* How long one lookup takes, and its answer. */
static int64_t timed_look(struct store *store, const struct conf *conf, char *answer)
{
    int64_t start = case_clock_ms();
    *answer = case_look(store, conf, "a@example.com");
    return case_clock_ms() - start;
}

static void check_within(const char *what, int64_t took, int64_t min, int64_t max)
{
    if (took < min || took > max)
        printf("\n  %s: took %lld ms, expected %lld to %lld\n", what, (long long)took,
               (long long)min, (long long)max);
    CU_ASSERT(took >= min && took <= max);
}

/* ---- a Redis that is not there, or does not answer --------------------- */

static void test_down(void)
{
    struct redis_case rc;
    char answer;
    case_begin(&rc);
    struct store *store = store_redis_new(rc.conf, NULL);
    check_within("down", timed_look(store, rc.conf, &answer), 0, 100);
    CHECK_INT("down", answer, '?');
    CHECK_HAS("down", store_error(store), rc.socket);
    CHECK_INT("write", case_change(store, EVENT_LOCK, "a", &result), COMMIT_UNCERTAIN);
    CHECK_HAS("write", store_error(store), "nothing was written");
    CHECK_INT("durable", store_durable(store), COMMIT_UNCERTAIN);
    store_free(store);
    case_end(&rc);
}

static void test_stopped(void)
{
    struct redis_case rc;
    char answer;
    case_begin(&rc);
    case_redis_start(&rc, (char *)NULL);
    struct store *store = store_redis_new(rc.conf, NULL);
    furnish(store);
    kill(rc.pid, SIGSTOP);
    check_within("lookup", timed_look(store, rc.conf, &answer), 190, 3000);
    CHECK_INT("lookup", answer, '?');
    CHECK_HAS("lookup", store_error(store), "does not answer within 200 ms");
    check_within("circuit breaker", timed_look(store, rc.conf, &answer), 0, 150);
    CHECK_INT("circuit breaker", answer, '?');
    CHECK_HAS("circuit breaker", store_error(store), "does not answer within 200 ms");
    int64_t start = case_clock_ms();
    CHECK_INT("lock", case_change(store, EVENT_LOCK, "a", &result), COMMIT_UNCERTAIN);
    check_within("lock", case_clock_ms() - start, 990, 5000);
    struct position none = { 0 };
    start = case_clock_ms();
    CHECK_INT("events", store_events(store, &none, 300, 9, NULL, NULL), LOOKUP_FAILED);
    check_within("events", case_clock_ms() - start, 1290, 5000);
    kill(rc.pid, SIGCONT);
    case_nap(1100); /* the breaker's second */
    timed_look(store, rc.conf, &answer);
    CU_ASSERT(answer == 'o' || answer == 'l'); /* the lock was sent: uncertain */
    CHECK_DONE(store, case_change(store, EVENT_LOCK, "a", &result));
    timed_look(store, rc.conf, &answer);
    CHECK_INT("settled", answer, 'l');
    store_free(store);
    case_end(&rc);
}

/* A server on the case's socket that does as behave() says, in a child. */
static void serve(struct redis_case *rc, void (*behave)(int fd))
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", rc->socket);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 8) != 0)
        case_die(rc->socket);
    fflush(stdout);
    rc->pid = fork();
    if (rc->pid > 0) {
        close(listener);
        return;
    }
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0) {
            behave(fd);
            close(fd);
        }
    }
}

static void say(int fd, const char *text)
{
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        return; /* the client has gone: the case's point */
}

static void hear(int fd)
{
    char buf[65536];
    ssize_t n = recv(fd, buf, sizeof(buf), 0);
    case_nap(20); /* the rest of the command */
    if (n > 0)
        (void)!recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
}

static void dies_in_the_script(int fd)
{
    hear(fd);
    say(fd, "$40\r\n0123456789012345678901234567890123456789\r\n");
    hear(fd);
}

static void test_killed_in_mid_command(void)
{
    struct redis_case rc;
    case_begin(&rc);
    serve(&rc, dies_in_the_script);
    struct store *store = store_redis_new(rc.conf, NULL);
    CHECK_INT("lock", case_change(store, EVENT_LOCK, "a", &result), COMMIT_UNCERTAIN);
    CHECK_HAS("lock", store_error(store), "it may have been written");

    /* And those under way behind it. */
    const struct change_item item = { .local = "a" };
    const struct change change = {
        .op = EVENT_LOCK, .domain = "example.com", .items = &item, .count = 1
    };
    store_change_begin(store, &change);
    store_change_begin(store, &change);
    CHECK_INT("first", store_change_finish(store, &change, &result), COMMIT_UNCERTAIN);
    CHECK_INT("second", store_change_finish(store, &change, &result), COMMIT_UNCERTAIN);
    store_free(store);
    case_end(&rc);
}

static void trickles(int fd)
{
    hear(fd);
    say(fd, "*3\r\n$");
    for (int i = 0; i < 100; i++) {
        say(fd, "0");
        case_nap(20);
    }
}

static void talks_nonsense(int fd)
{
    say(fd, "220 mail.example.com ESMTP Postfix\r\n");
    hear(fd);
}

static void answers_too_little(int fd)
{
    hear(fd);
    say(fd, "*1\r\n$1\r\n5\r\n*0\r\n");
    case_nap(500);
}

static void test_misbehaving(void)
{
    static const struct {
        const char *what;
        void (*behave)(int fd);
        int64_t min, max;
    } rows[] = {
        { "trickles", trickles, 190, 1900 },
        { "talks nonsense", talks_nonsense, 0, 1900 },
        { "answers too little", answers_too_little, 0, 1900 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct redis_case rc;
        char answer;
        case_begin(&rc);
        serve(&rc, rows[i].behave);
        struct store *store = store_redis_new(rc.conf, NULL);
        check_within(rows[i].what, timed_look(store, rc.conf, &answer), rows[i].min,
                     rows[i].max);
        CU_ASSERT(answer == '?' || answer == '-');
        CHECK_INT(rows[i].what, case_change(store, EVENT_LOCK, "a", &result),
                  COMMIT_UNCERTAIN);
        store_free(store);
        case_end(&rc);
    }
}

static void test_restarted(void)
{
    struct redis_case rc;
    case_begin(&rc);
    case_redis_start(&rc, "--appendonly", "yes", "--appendfsync", "always", (char *)NULL);
    struct store *store = store_redis_new(rc.conf, NULL);
    furnish(store);
    case_redis_end(&rc, SIGKILL);
    case_redis_start(&rc, "--appendonly", "yes", "--appendfsync", "always", (char *)NULL);
    CHECK_INT("read at once", case_look(store, rc.conf, "a@example.com"), 'o');
    case_redis_end(&rc, SIGKILL);
    case_redis_start(&rc, "--appendonly", "yes", "--appendfsync", "always", (char *)NULL);
    CHECK_INT("written at once", case_status(store, EVENT_LOCK, "a"), CHANGE_MADE);
    tell(&rc, "SCRIPT", "FLUSH", (char *)NULL);
    CHECK_INT("scripts forgotten", case_status(store, EVENT_UNLOCK, "a"), CHANGE_MADE);
    store_free(store);
    case_end(&rc);
}

/* ---- a Redis that asks for a password, or forgets ---------------------- */

static bool sum_auth(void *context, const struct auth_row *row)
{
    *(uint64_t *)context += row->messages;
    return true;
}

static uint64_t counted(struct store *store)
{
    uint64_t messages = 0;
    CU_ASSERT(store_each_auth(store, "example.com", sum_auth, &messages));
    return messages;
}

/* Figures: a script that Redis forgot, and a Redis that stands still, which would
 * run all that was sent to it meanwhile. */
static void test_figures(void)
{
    struct redis_case rc;
    struct auth_row rows[250];
    char clients[250][16];
    case_begin(&rc);
    case_redis_start(&rc, (char *)NULL);
    struct store *store = store_redis_new(rc.conf, NULL);
    furnish(store);
    for (int i = 0; i < 250; i++) {
        snprintf(clients[i], sizeof(clients[i]), "192.0.2.%d", i);
        rows[i] = (struct auth_row){
            .client = clients[i], .envelope = "a", .helo = "", .messages = 1
        };
    }
    CU_ASSERT(store_auth_add(store, "example.com", rows, 250));
    tell(&rc, "SCRIPT", "FLUSH", (char *)NULL);
    CU_ASSERT(store_auth_add(store, "example.com", rows, 250));
    CHECK_INT("once each", counted(store), 500);

    kill(rc.pid, SIGSTOP);
    for (int i = 0; i < 3; i++) {
        int64_t from = case_clock_ms();
        CU_ASSERT(!store_auth_add(store, "example.com", rows, 250));
        check_within("time limit", case_clock_ms() - from, 900, 5000);
        CHECK_HAS("error", store_error(store), "Redis");
    }
    kill(rc.pid, SIGCONT);
    CU_ASSERT(store_auth_add(store, "example.com", rows, 250));
    CHECK_INT("the first attempt, and the last", counted(store), 1000);

    tell(&rc, "SET", "sluice:auth:example.com", "nonsense", (char *)NULL);
    CU_ASSERT(!store_auth_add(store, "example.com", rows, 1));
    CHECK_HAS("error", store_error(store), "WRONGTYPE");
    store_free(store);
    case_end(&rc);
}

static struct conf *with_password(const struct redis_case *rc, const char *password,
                                  const char *more)
{
    char path[128], extra[256];
    case_path(rc, "password", path);
    FILE *file = fopen(path, "w");
    if (!file || fchmod(fileno(file), 0600) != 0)
        case_die(path);
    fprintf(file, "%s\n", password);
    fclose(file);
    snprintf(extra, sizeof(extra), "redis-password-file = \"%s\"\n%s", path, more);
    return case_conf(rc, rc->socket, extra);
}

static void test_password(void)
{
    struct redis_case rc;
    case_begin(&rc);
    case_redis_start(&rc, "--requirepass", "secret words", (char *)NULL);
    struct store *store = store_redis_new(rc.conf, NULL);
    CHECK_INT("none", case_look(store, rc.conf, "a@example.com"), '?');
    CHECK_HAS("none", store_error(store), "NOAUTH");
    store_free(store);

    struct conf *wrong = with_password(&rc, "guess", "");
    store = store_redis_new(wrong, NULL);
    CHECK_INT("wrong", case_look(store, wrong, "a@example.com"), '?');
    CHECK_HAS("wrong", store_error(store), "redis-password-file");
    CHECK_INT("wrong", store_init_domain(store, "example.com"), COMMIT_UNCERTAIN);
    store_free(store);
    conf_unref(wrong);

    struct conf *right = with_password(&rc, "secret words", "");
    store = store_redis_new(right, NULL);
    furnish(store);
    CHECK_INT("right", case_look(store, right, "a@example.com"), 'o');
    store_free(store);
    conf_unref(right);
    case_end(&rc);
}

static void test_durable(void)
{
    struct redis_case rc;
    case_begin(&rc);
    case_redis_start(&rc, (char *)NULL);
    struct store *store = store_redis_new(rc.conf, NULL);
    CHECK_INT("no append-only file", store_durable(store), COMMIT_REFUSED);
    CHECK_HAS("no append-only file", store_error(store), "appendonly yes");
    tell(&rc, "CONFIG", "SET", "appendonly", "yes", (char *)NULL);
    CHECK_DONE(store, store_durable(store));
    tell(&rc, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru", (char *)NULL);
    CHECK_INT("eviction", store_durable(store), COMMIT_REFUSED);
    CHECK_HAS("eviction", store_error(store), "maxmemory-policy noeviction");
    store_free(store);

    /* A user who may not ask CONFIG is answered by INFO. */
    tell(&rc, "ACL", "SETUSER", "mail", "on", ">pw", "~sluice:*", "+@all", "-config",
         (char *)NULL);
    struct conf *conf = with_password(&rc, "pw", "redis-user = \"mail\"");
    store = store_redis_new(conf, NULL);
    CHECK_INT("by INFO", store_durable(store), COMMIT_REFUSED);
    CHECK_HAS("by INFO", store_error(store), "allkeys-lru");
    tell(&rc, "CONFIG", "SET", "maxmemory-policy", "noeviction", (char *)NULL);
    CHECK_DONE(store, store_durable(store));
    furnish(store); /* all that the scripts do is allowed with ~sluice:* */
    tell(&rc, "ACL", "SETUSER", "mail", "-info", (char *)NULL);
    CHECK_INT("neither", store_durable(store), COMMIT_UNCERTAIN);
    store_free(store);
    conf_unref(conf);
    case_end(&rc);
}

static void test_replicas(void)
{
    struct redis_case rc;
    case_begin(&rc);
    case_redis_start(&rc, (char *)NULL);
    struct store *store = store_redis_new(rc.conf, NULL);
    furnish(store);
    store_free(store);
    struct conf *conf = case_conf(&rc, rc.socket, "redis-replicas = 1\n");
    store = store_redis_new(conf, NULL);
    CHECK_INT("lock", case_change(store, EVENT_LOCK, "a", &result), COMMIT_UNCERTAIN);
    CHECK_HAS("lock", store_error(store), "0 of 1 replicas");
    CHECK_INT("it was written", case_look(store, conf, "a@example.com"), 'l');
    const struct held held = { .queue_id = "4XyZ12abcdz1Qk",
                               .sender = "",
                               .recipients = "" };
    CHECK_INT("held", store_held_put(store, "mx1", &held), COMMIT_UNCERTAIN);
    CHECK_HAS("held", store_error(store), "0 of 1 replicas");
    store_free(store);
    conf_unref(conf);
    case_end(&rc);
}

static bool stop_at_none(void *context, const char *local, const struct home *home)
{
    (void)local;
    (void)home;
    ++*(int *)context;
    return true;
}

static void test_damaged(void)
{
    struct redis_case rc;
    case_begin(&rc);
    case_redis_start(&rc, (char *)NULL);
    struct store *store = store_redis_new(rc.conf, NULL);
    struct change_all all = { .op = EVENT_LOCK, .domain = "example.com" };
    int count = 0;
    furnish(store);
    tell(&rc, "HSET", "sluice:home:example.com", "a", "locked, I think", (char *)NULL);
    CHECK_INT("lookup", case_look(store, rc.conf, "a@example.com"), '?');
    CHECK_HAS("lookup", store_error(store), "the record of a@example.com");
    CHECK_INT("others", case_look(store, rc.conf, "b@example.com"), 'O');
    CHECK_INT("lock", case_change(store, EVENT_LOCK, "a", &result), COMMIT_REFUSED);
    CHECK_HAS("lock", store_error(store), "the record of a@example.com");
    CHECK_INT("lock all", store_change_all(store, &all), COMMIT_REFUSED);
    CHECK_INT("each", store_each_home(store, "example.com", stop_at_none, &count), 0);
    tell(&rc, "SET", "sluice:home:example.com", "not a hash", (char *)NULL);
    CHECK_INT("another type", case_look(store, rc.conf, "a@example.com"), '?');
    CHECK_HAS("another type", store_error(store), "WRONGTYPE");
    CHECK_INT("another type", case_change(store, EVENT_LOCK, "a", &result),
              COMMIT_UNCERTAIN);
    store_free(store);
    case_end(&rc);
}

/* ---- a history that was lost, rolled back, or grew again --------------- */

struct keeper {
    struct journal *journal;
    struct position at;
    int count;
};

static bool keep(void *context, const struct event *event)
{
    struct keeper *keeper = context;
    if (!journal_append(keeper->journal, event))
        case_die("journal_append");
    keeper->at = event->at;
    keeper->count++;
    return true;
}

/* Follows the events into a journal, as sluice-policyd does. */
static void follow(struct store *store, const char *path)
{
    char error[256];
    struct keeper keeper = { .journal = journal_open(path, error, sizeof(error)) };
    if (!keeper.journal) {
        printf("%s\n", error);
        exit(2);
    }
    keeper.at = journal_position(keeper.journal);
    do {
        keeper.count = 0;
        CHECK_INT("follow", store_events(store, &keeper.at, 0, 1000, keep, &keeper),
                  LOOKUP_FOUND);
    } while (keeper.count > 0);
    journal_close(keeper.journal);
}

static void copy_file(const struct redis_case *rc, const char *from, const char *to)
{
    char source[128], target[128], buf[4096];
    case_path(rc, from, source);
    case_path(rc, to, target);
    FILE *in = fopen(source, "r"), *out = fopen(target, "w");
    if (!in || !out)
        case_die(source);
    for (size_t n; (n = fread(buf, 1, sizeof(buf), in)) > 0;)
        if (fwrite(buf, 1, n, out) != n)
            case_die(target);
    fclose(in);
    if (fclose(out) != 0)
        case_die(target);
}

/* Everything refuses, and says the words. */
static void check_refuses(struct store *store, struct conf *conf, const char *what,
                          const char *words)
{
    struct store_totals totals;
    int count = 0;
    struct change_all all = { .op = EVENT_LOCK, .domain = "example.com" };
    CHECK_INT(what, case_look(store, conf, "a@example.com"), '?');
    CHECK_HAS(what, store_error(store), words);
    CHECK_HAS(what, store_error(store), "sluice recover");
    CHECK_INT(what, case_change(store, EVENT_UNLOCK, "a", &result), COMMIT_REFUSED);
    CHECK_HAS(what, store_error(store), words);
    CHECK_INT(what, case_change(store, EVENT_IMPORT, "new", &result), COMMIT_REFUSED);
    CHECK_INT(what, store_change_all(store, &all), COMMIT_REFUSED);
    CHECK_INT(what, store_init_domain(store, "example.net"), COMMIT_REFUSED);
    CHECK_INT(what, store_totals(store, "example.com", &totals), LOOKUP_FAILED);
    CHECK_INT(what, store_each_home(store, "example.com", NULL, &count), 0);
    CHECK_INT(what, case_host(store, "mx1", SIDE_OLD, 0), COMMIT_REFUSED);
}

static void test_history(void)
{
    struct redis_case rc;
    char journal[128];
    case_begin(&rc);
    case_path(&rc, "journal", journal);
    case_redis_start(&rc, (char *)NULL);
    struct journal_reader *head = journal_reader_new(journal);
    struct store *store = store_redis_new(rc.conf, head);
    furnish(store);
    tell(&rc, "SAVE", (char *)NULL);
    copy_file(&rc, "dump.rdb", "old.rdb"); /* at change 3 */
    CHECK_INT("lock", case_status(store, EVENT_LOCK, "a"), CHANGE_MADE);
    CHECK_INT("import", case_status(store, EVENT_IMPORT, "b"), CHANGE_MADE);
    follow(store, journal); /* at change 5 */
    CHECK_DONE(store, case_host(store, "mx1", SIDE_OLD, 5));
    CHECK_INT("a", case_look(store, rc.conf, "a@example.com"), 'l');

    case_redis_end(&rc, SIGKILL);
    copy_file(&rc, "old.rdb", "dump.rdb");
    case_redis_start(&rc, (char *)NULL);
    check_refuses(store, rc.conf, "rolled back",
                  "it is at change 3, this host's journal at 5");
    struct position at = { .epoch = 5 };
    journal_head(head, &at);
    CHECK_INT("events", store_events(store, &at, 0, 9, NULL, NULL), LOOKUP_FAILED);

    /* Written to by a host that has no journal to compare with. */
    struct store *careless = store_redis_new(rc.conf, NULL);
    for (int i = 0; i < 4; i++)
        CHECK_DONE(careless, case_change(careless, i % 2 ? EVENT_UNLOCK : EVENT_LOCK, "a",
                                         &result));
    CHECK_INT("its position", (long long)case_epoch(careless), 7);
    CHECK_INT("careless", case_look(careless, rc.conf, "a@example.com"), 'o');
    check_refuses(store, rc.conf, "grown again", "another history");
    CHECK_INT("events", store_events(store, &at, 0, 9, NULL, NULL), LOOKUP_FAILED);
    CHECK_HAS("events", store_error(store), "another history");
    store_free(careless);

    tell(&rc, "FLUSHALL", (char *)NULL);
    check_refuses(store, rc.conf, "emptied", "Redis has lost its history");
    store_free(store);
    journal_reader_free(head);
    case_end(&rc);
}

static void test_trimmed_below_the_journal(void)
{
    struct redis_case rc;
    char journal[128];
    case_begin(&rc);
    case_path(&rc, "journal", journal);
    case_redis_start(&rc, (char *)NULL);
    struct journal_reader *head = journal_reader_new(journal);
    struct store *store = store_redis_new(rc.conf, NULL);
    furnish(store);
    follow(store, journal); /* at change 3, then this host is away */
    for (int i = 0; i < 6; i++)
        CHECK_DONE(store,
                   case_change(store, i % 2 ? EVENT_UNLOCK : EVENT_LOCK, "a", &result));
    CHECK_DONE(store, case_host(store, "mx1", SIDE_OLD, 9));
    store_trim(store);
    CHECK_STR("events left", tell(&rc, "XLEN", "sluice:events", (char *)NULL), "0");
    CHECK_STR("ids left", tell(&rc, "HLEN", "sluice:chain", (char *)NULL), "4");
    struct store *returned = store_redis_new(rc.conf, head);
    CHECK_INT("lookup", case_look(returned, rc.conf, "a@example.com"), '?');
    CHECK_HAS("lookup", store_error(returned), "takes a new base");
    struct position at;
    journal_head(head, &at);
    CHECK_INT("events", store_events(returned, &at, 0, 9, NULL, NULL), LOOKUP_ABSENT);
    int count = 0;
    CHECK_INT("a base", store_each_home(returned, "example.com", stop_at_none, &count),
              1);
    CHECK_INT("a base", count, 2);
    store_free(returned);
    store_free(store);
    journal_reader_free(head);
    case_end(&rc);
}

static bool stop_waiting(void *context, const struct event *event)
{
    (void)event;
    ++*(int *)context;
    return true;
}

static void test_event_wakes(void)
{
    struct redis_case rc;
    case_begin(&rc);
    case_redis_start(&rc, (char *)NULL);
    struct store *store = store_redis_new(rc.conf, NULL);
    furnish(store);
    struct position at;
    store_position(store, &at);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct store *other = store_redis_new(rc.conf, NULL);
        case_nap(100);
        _exit(case_change(other, EVENT_LOCK, "a", &result) == COMMIT_DONE ? 0 : 1);
    }
    int count = 0;
    int64_t start = case_clock_ms();
    CHECK_INT("events", store_events(store, &at, 5000, 9, stop_waiting, &count),
              LOOKUP_FOUND);
    check_within("woken", case_clock_ms() - start, 80, 4500);
    CHECK_INT("one", count, 1);
    waitpid(child, NULL, 0);
    store_free(store);
    case_end(&rc);
}

/* ---- recover ----------------------------------------------------------- */

enum { CROWD = 20000 };

static void crowd(struct store *store)
{
    static char names[EVENT_ITEMS_MAX][16];
    static struct change_item items[EVENT_ITEMS_MAX];
    for (int from = 0; from < CROWD; from += EVENT_ITEMS_MAX) {
        for (int i = 0; i < EVENT_ITEMS_MAX; i++) {
            snprintf(names[i], sizeof(names[i]), "u%d", from + i);
            items[i] = (struct change_item){ .local = names[i] };
        }
        items[0].new_address = "moved@t.example.net";
        const struct change change = { .op = EVENT_IMPORT,
                                       .domain = "example.com",
                                       .items = items,
                                       .count = EVENT_ITEMS_MAX };
        CHECK_DONE(store, store_change(store, &change, &result));
    }
}

/* An order-free sum over all homes. */
struct sum {
    uint64_t sum;
    uint64_t count;
};

static bool add_home(void *context, const char *local, const struct home *home)
{
    struct sum *sum = context;
    char record[HOME_RECORD_MAX + 1];
    home_encode(home, record);
    uint64_t hash = 14695981039346656037u;
    for (const char *at = local; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    for (const char *at = record; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    sum->sum += hash;
    sum->count++;
    return true;
}

static struct sum sum_of(struct store *store)
{
    struct sum sum = { 0 };
    CU_ASSERT(store_each_home(store, "example.com", add_home, &sum));
    return sum;
}

/* Starts a recovery in a child and kills it some milliseconds after it has begun
 * to rebuild. false: it had ended by then. */
static bool killed_recovery(const struct redis_case *rc, const char *journal,
                            int after_ms)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct store *store = store_redis_new(rc->conf, NULL);
        struct recover_result recovered;
        _exit(store_recover(store, journal, true, &recovered) == COMMIT_DONE ? 0 : 1);
    }
    int64_t until = case_clock_ms() + 5000;
    while (case_clock_ms() < until &&
           strcmp(tell(rc, "EXISTS", "sluice:chain", (char *)NULL), "1") != 0)
        case_nap(1);
    case_nap(after_ms);
    kill(child, SIGKILL);
    int status;
    waitpid(child, &status, 0);
    case_nap(20); /* Redis may still be at the last step that it was sent */
    return strcmp(tell(rc, "HEXISTS", "sluice:chain", "recovering", (char *)NULL), "1") ==
           0;
}

/* A store with a crowd of locked mailboxes and its journal, one of another host
 * that is behind, and handles that compare with the one and with the other. */
struct recovering {
    struct redis_case rc;
    char journal[128], older[128];
    struct journal_reader *head, *older_head;
    struct store *store, *mine, *theirs;
    struct sum before;
    uint64_t epoch;
};

static void recovering_begin(struct recovering *r)
{
    case_begin(&r->rc);
    case_path(&r->rc, "journal", r->journal);
    case_path(&r->rc, "older", r->older);
    case_redis_start(&r->rc, (char *)NULL);
    r->head = journal_reader_new(r->journal);
    r->older_head = journal_reader_new(r->older);
    r->store = store_redis_new(r->rc.conf, NULL);
    r->mine = store_redis_new(r->rc.conf, r->head);
    r->theirs = store_redis_new(r->rc.conf, r->older_head);
    furnish(r->store);
    CHECK_DONE(r->store, case_host(r->store, "mx2", SIDE_NEW, 0));
    follow(r->store, r->older);
    crowd(r->store);
    struct change_all all = { .op = EVENT_LOCK, .domain = "example.com" };
    CHECK_DONE(r->store, store_change_all(r->store, &all));
    CHECK_DONE(r->store, case_host(r->store, "mx1", SIDE_OLD, all.epoch));
    CHECK_DONE(r->store, store_host_remove(r->store, "mx2"));
    follow(r->store, r->journal);
    r->before = sum_of(r->store);
    CHECK_INT("homes", (long long)r->before.count, CROWD + 2);
    r->epoch = case_epoch(r->store);
    tell(&r->rc, "FLUSHALL", (char *)NULL);
    CHECK_INT("emptied", case_look(r->mine, r->rc.conf, "u7@example.com"), '?');
}

static void recovering_end(struct recovering *r)
{
    store_free(r->mine);
    store_free(r->theirs);
    store_free(r->store);
    journal_reader_free(r->head);
    journal_reader_free(r->older_head);
    case_end(&r->rc);
}

static bool take_flipped(void *context, const struct store_picture *picture)
{
    *(int64_t *)context = picture->flipped;
    return true;
}

/* Everything is as it was, totals too, and both journals compare. */
static void check_recovered(struct recovering *r)
{
    struct sum after = sum_of(r->mine);
    struct store_totals totals;
    CU_ASSERT(r->before.sum == after.sum && r->before.count == after.count);
    CHECK_INT("totals", store_totals(r->mine, "example.com", &totals), LOOKUP_FOUND);
    CHECK_INT("locked", (long long)totals.locked, CROWD + 1);
    CHECK_INT("locks", (long long)case_check_locks(r->mine, "locks"), CROWD + 1);
    /* Floaters may be forgotten: the days of quiet are counted anew. */
    const char *const domain[] = { "example.com" };
    int64_t flipped = 0, now = store_time_ms(r->mine) / 1000;
    CU_ASSERT(store_each_picture(r->mine, domain, 1, now, take_flipped, &flipped));
    CHECK_INT("quiet since just now", flipped > now - 60 && flipped <= now, true);
    CHECK_INT("an event", (long long)case_epoch(r->mine), (long long)r->epoch + 1);
    CHECK_INT("mine", case_look(r->mine, r->rc.conf, "u7@example.com"), 'l');
    CHECK_INT("theirs", case_look(r->theirs, r->rc.conf, "u7@example.com"), 'l');
}

static void test_recover(void)
{
    struct recovering r;
    struct recover_result recovered;
    recovering_begin(&r);
    CHECK_DONE(r.mine, store_recover(r.mine, r.journal, false, &recovered));
    CHECK_INT("mailboxes", (long long)recovered.mailboxes, CROWD + 1);
    CHECK_INT("domains", (long long)recovered.domains, 1);
    CHECK_INT("hosts", (long long)recovered.hosts, 1);
    CHECK_INT("at", (long long)recovered.at.epoch, (long long)r.epoch);
    check_recovered(&r);
    CHECK_INT("fence anew", case_status(r.mine, EVENT_FLIP, "u7"), CHANGE_FENCE);
    follow(r.mine, r.journal);
    CHECK_DONE(r.mine, case_host(r.mine, "mx1", SIDE_OLD, case_epoch(r.mine)));
    CHECK_INT("goes on", case_status(r.mine, EVENT_FLIP, "u7"), CHANGE_MADE);

    /* From the older journal: Redis holds what it does not. */
    CHECK_INT("older", store_recover(r.mine, r.older, false, &recovered), COMMIT_REFUSED);
    CHECK_HAS("older", store_error(r.mine), "nothing to recover");
    CHECK_INT("missing", store_recover(r.mine, "/nonexistent/journal", false, &recovered),
              COMMIT_REFUSED);
    CHECK_HAS("missing", store_error(r.mine), "/nonexistent/journal");
    CHECK_INT("unchanged", case_look(r.mine, r.rc.conf, "u7@example.com"), 'n');
    recovering_end(&r);
}

static void test_recover_killed(void)
{
    struct recovering r;
    struct recover_result recovered;
    recovering_begin(&r);
    int killed = 0;
    for (int attempt = 0; attempt < 50 && killed < 4; attempt++) {
        tell(&r.rc, "FLUSHALL", (char *)NULL);
        if (!killed_recovery(&r.rc, r.journal, killed * 3))
            continue;
        killed++;
        CHECK_INT("mine", case_look(r.mine, r.rc.conf, "u7@example.com"), '?');
        CHECK_INT("no journal", case_look(r.store, r.rc.conf, "u7@example.com"), '?');
        CHECK_INT("init", store_init_domain(r.store, "example.com"), COMMIT_REFUSED);
        /* The own record is the last to come back. */
        if (strcmp(tell(&r.rc, "HEXISTS", "sluice:home:example.com", "", (char *)NULL),
                   "0") != 0)
            CHECK_INT("all of it",
                      atoi(tell(&r.rc, "HLEN", "sluice:home:example.com", (char *)NULL)),
                      CROWD + 2);
    }
    CU_ASSERT(killed > 0);
    CHECK_DONE(r.mine, store_recover(r.mine, r.journal, false, &recovered));
    check_recovered(&r);
    recovering_end(&r);
}

static void test_recover_another_history(void)
{
    struct redis_case rc;
    char journal[128];
    struct recover_result recovered;
    case_begin(&rc);
    case_path(&rc, "journal", journal);
    case_redis_start(&rc, (char *)NULL);
    struct store *store = store_redis_new(rc.conf, NULL);
    furnish(store);
    CHECK_INT("lock", case_status(store, EVENT_LOCK, "a"), CHANGE_MADE);
    follow(store, journal);
    tell(&rc, "FLUSHALL", (char *)NULL);
    furnish(store);
    CHECK_DONE(store, case_host(store, "mx9", SIDE_OLD, 3));
    for (int i = 0; i < 5; i++)
        CHECK_DONE(store,
                   case_change(store, i % 2 ? EVENT_UNLOCK : EVENT_LOCK, "a", &result));
    CHECK_INT("refused", store_recover(store, journal, false, &recovered),
              COMMIT_REFUSED);
    CHECK_HAS("refused", store_error(store), "--force");
    CHECK_DONE(store, store_recover(store, journal, true, &recovered));
    CHECK_INT("as the journal has it", case_look(store, rc.conf, "a@example.com"), 'l');
    struct host *hosts;
    size_t n;
    CHECK_INT("hosts", store_hosts(store, &hosts, &n), LOOKUP_FOUND);
    for (size_t i = 0; i < n; i++)
        CHECK_INT("no fence of the other history", (long long)hosts[i].fenced, 0);
    free(hosts);
    store_free(store);
    case_end(&rc);
}

int main(void)
{
    static const struct unit_case cases[] = {
        { "down", test_down },
        { "stopped", test_stopped },
        { "killed in mid-command", test_killed_in_mid_command },
        { "misbehaving", test_misbehaving },
        { "restarted", test_restarted },
        { "figures", test_figures },
        { "password", test_password },
        { "durable", test_durable },
        { "replicas", test_replicas },
        { "damaged", test_damaged },
        { "history", test_history },
        { "trimmed below the journal", test_trimmed_below_the_journal },
        { "an event wakes the reader", test_event_wakes },
        { "recover", test_recover },
        { "recover, killed halfway", test_recover_killed },
        { "recover another history", test_recover_another_history },
    };
    if (!case_has_redis()) {
        printf("redis-server is missing (apt-get install redis-server)\n");
        return CASE_SKIP;
    }
    return unit_run("store: outages", cases, sizeof(cases) / sizeof(cases[0]));
}
