/*
 * store_case: what the tests of the store share: a private folder, a private
 * redis-server on a unix socket in it, a configuration, and short ways to say
 * what a case needs.
 */
#ifndef SLUICE_TESTS_UNIT_STORE_CASE_H
#define SLUICE_TESTS_UNIT_STORE_CASE_H

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store.h"
#include "unit.h"

#define CASE_SKIP 77 /* automake: the test could not be run */

struct redis_case {
    char dir[64];
    char socket[96];
    pid_t pid; /* 0: not running */
    struct conf *conf;
};

static inline bool case_has_redis(void)
{
    return access("/usr/bin/redis-server", X_OK) == 0 ||
           access("/usr/local/bin/redis-server", X_OK) == 0;
}

static inline void case_die(const char *what)
{
    perror(what);
    exit(2);
}

static inline int64_t case_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void case_nap(int ms)
{
    struct timespec wait = { ms / 1000, ms % 1000 * 1000000L };
    nanosleep(&wait, NULL);
}

static inline void case_path(const struct redis_case *rc, const char *name, char out[128])
{
    snprintf(out, 128, "%s/%s", rc->dir, name);
}

/* extra: more lines of sluice.conf. */
static inline struct conf *case_conf(const struct redis_case *rc, const char *socket,
                                     const char *extra)
{
    char path[128], error[256];
    case_path(rc, "sluice.conf", path);
    FILE *file = fopen(path, "w");
    if (!file)
        case_die(path);
    fprintf(file,
            "side = old\nhostname = \"mx1.example.com\"\nredis = \"unix:%s\"\n"
            "lookup-timeout = 200\ncommand-timeout = 1000\nstate-dir = \"%s\"\n%s\n"
            "domain \"example.com\" { new = \"[127.0.0.1]:25\" }\n"
            "domain \"example.net\" { new = \"[127.0.0.1]:25\" }\n"
            "domain \"example.org\" { new = \"[127.0.0.1]:25\" }\n",
            socket, rc->dir, extra);
    fclose(file);
    struct conf *conf = conf_load(path, error, sizeof(error));
    if (!conf) {
        printf("%s\n", error);
        exit(2);
    }
    return conf;
}

static inline void case_begin(struct redis_case *rc)
{
    *rc = (struct redis_case){ 0 };
    snprintf(rc->dir, sizeof(rc->dir), "/tmp/sluice-store-XXXXXX");
    if (!mkdtemp(rc->dir))
        case_die("mkdtemp");
    snprintf(rc->socket, sizeof(rc->socket), "%s/redis.sock", rc->dir);
    rc->conf = case_conf(rc, rc->socket, "");
}

/* Whether a Redis that has loaded its data answers on the socket. */
static inline bool case_answers(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char answer[8] = "";
    /* -NOAUTH is an answer too. */
    bool ok = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
              send(fd, "PING\r\n", 6, MSG_NOSIGNAL) == 6 &&
              recv(fd, answer, sizeof(answer) - 1, 0) > 1 &&
              (strncmp(answer, "+PONG", 5) == 0 || strncmp(answer, "-NOAUTH", 5) == 0);
    close(fd);
    return ok;
}

/* Starts redis-server with the options, the last one NULL, and waits until it
 * answers (it loads its data first). */
static inline void case_redis_start(struct redis_case *rc, ...)
{
    const char *argv[32] = { "redis-server",
                             "--port",
                             "0",
                             "--unixsocket",
                             rc->socket,
                             "--dir",
                             rc->dir,
                             "--save",
                             "",
                             "--logfile",
                             "redis.log",
                             "--daemonize",
                             "no" };
    size_t n = 13;
    va_list options;
    va_start(options, rc);
    for (const char *option; n < 31 && (option = va_arg(options, const char *));)
        argv[n++] = option;
    va_end(options);
    unlink(rc->socket);
    fflush(stdout);
    rc->pid = fork();
    if (rc->pid == 0) {
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int64_t until = case_clock_ms() + 10000;
    while (!case_answers(rc->socket)) {
        if (case_clock_ms() > until) {
            printf("redis-server does not start: see %s/redis.log\n", rc->dir);
            exit(2);
        }
        case_nap(5);
    }
}

static inline void case_redis_end(struct redis_case *rc, int how)
{
    if (rc->pid > 0) {
        kill(rc->pid, how);
        waitpid(rc->pid, NULL, 0);
    }
    rc->pid = 0;
}

static inline int case_remove(const char *path, const struct stat *st, int type,
                              struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static inline void case_end(struct redis_case *rc)
{
    case_redis_end(rc, SIGKILL);
    conf_unref(rc->conf);
    /* A child of redis-server that rewrites its file may still be at it. */
    for (int i = 0; i < 20 && access(rc->dir, F_OK) == 0; i++) {
        if (i > 0)
            case_nap(50);
        nftw(rc->dir, case_remove, 8, FTW_DEPTH | FTW_PHYS);
    }
}

/* ---- what cases say ----------------------------------------------------- */

#define CHECK_DONE(store, call)                                                          \
    do {                                                                                 \
        enum commit case_commit = (call);                                                \
        if (case_commit != COMMIT_DONE)                                                  \
            printf("\n  %s: \"%s\"\n", #call, store_error(store));                       \
        CU_ASSERT(case_commit == COMMIT_DONE);                                           \
    } while (0)

/* The line contains the words. */
#define CHECK_HAS(what, got, words)                                                      \
    do {                                                                                 \
        const char *case_got = (got);                                                    \
        bool case_has = strstr(case_got, (words)) != NULL;                               \
        if (!case_has)                                                                   \
            printf("\n  %s: no \"%s\" in \"%s\"\n", (what), (words), case_got);          \
        CU_ASSERT(case_has);                                                             \
    } while (0)

/* Looks one address up: the state's letter, "?" failed, "-" absent; upper case
 * when the mailbox is not listed. */
static inline char case_look(struct store *store, const struct conf *conf,
                             const char *address)
{
    struct route route;
    struct route *routes[] = { &route };
    if (!route_prepare(conf, address, strlen(address), &route))
        return '!';
    store_lookup(store, routes, 1);
    if (route.lookup != LOOKUP_FOUND)
        return route.lookup == LOOKUP_ABSENT ? '-' : '?';
    char letter = home_letter(route.home.state, route.home.rollback);
    return route.home.listed ? letter : (char)(letter - 'a' + 'A');
}

/* One mailbox, one transition or import. */
static inline enum commit case_change(struct store *store, enum event_op op,
                                      const char *local, struct change_result *result)
{
    const struct change_item item = { .local = local };
    const struct change change = {
        .op = op, .domain = "example.com", .items = &item, .count = 1
    };
    return store_change(store, &change, result);
}

static inline enum change_status case_status(struct store *store, enum event_op op,
                                             const char *local)
{
    static struct change_result result;
    CHECK_DONE(store, case_change(store, op, local, &result));
    return result.status[0];
}

/* The locks as the homes themselves have them: mailboxes by epoch. */
struct case_locks {
    struct store_lock rows[2048];
    size_t count;
    uint64_t listed;
    bool right; /* the picture says the same */
};

static inline bool case_take_lock(void *context, const char *local,
                                  const struct home *home)
{
    struct case_locks *locks = context;
    size_t i = 0;
    if (!local[0] || home->state != HOME_LOCKED)
        return true;
    locks->listed++;
    while (i < locks->count && locks->rows[i].epoch != home->epoch)
        i++;
    if (i == 2048)
        return false;
    if (i == locks->count)
        locks->rows[locks->count++] =
            (struct store_lock){ home->rollback, home->epoch, home->since, 0 };
    locks->rows[i].count++;
    return true;
}

static inline bool case_same_locks(void *context, const struct store_picture *picture)
{
    struct case_locks *locks = context;
    size_t same = 0;
    for (size_t i = 0; i < picture->lock_count; i++)
        for (size_t k = 0; k < locks->count; k++)
            same += picture->locks[i].epoch == locks->rows[k].epoch &&
                    picture->locks[i].since == locks->rows[k].since &&
                    picture->locks[i].rollback == locks->rows[k].rollback &&
                    picture->locks[i].count == locks->rows[k].count;
    locks->right = same == locks->count && same == picture->lock_count &&
                   picture->totals.locked + picture->totals.rolling_back == locks->listed;
    return true;
}

/* The index of locks says what a look at every home says; returns how many are
 * locked. */
static inline uint64_t case_check_locks(struct store *store, const char *what)
{
    static struct case_locks locks;
    const char *const domain[] = { "example.com" };
    memset(&locks, 0, sizeof(locks));
    CU_ASSERT(store_each_home(store, "example.com", case_take_lock, &locks));
    CU_ASSERT(
        store_each_picture(store, domain, 1, (int64_t)time(NULL), case_same_locks, &locks));
    CHECK_INT(what, locks.right, true);
    return locks.listed;
}

static inline enum commit case_host(struct store *store, const char *name, enum side side,
                                    uint64_t fenced)
{
    struct host host = { .side = side, .fenced = fenced, .journaled = fenced };
    snprintf(host.name, sizeof(host.name), "%s", name);
    snprintf(host.version, sizeof(host.version), "0");
    return store_host_put(store, &host);
}

static inline uint64_t case_epoch(struct store *store)
{
    struct position at;
    return store_position(store, &at) == LOOKUP_FOUND ? at.epoch : 0;
}

#endif
