/* Leases of runners: one at a time, and none that a dead process keeps from its host. */
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../cutover/lease.h"
#include "state_dir.h"
#include "unit.h"

#define NAME "cutover:a.test"

static struct lease lease_of(const char *who)
{
    struct lease lease;
    lease_init(&lease, "cutover", "a.test", who, 30);
    return lease;
}

/* The end of a holder's text: another process of this host, or of another. */
static void holder(char out[256], long pid, bool here)
{
    struct lease mine = lease_of("x");
    char *at = strstr(mine.holder, " at ");
    snprintf(out, 256, "root@mail (pid %ld at %s", pid, here ? at + 4 : "00000000)");
}

static long gone_process(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    CU_ASSERT_FATAL(pid > 0 && waitpid(pid, NULL, 0) == pid);
    return pid;
}

static void test_one_at_a_time(void)
{
    struct store *store = store_memory_new();
    struct lease one = lease_of("ann@mx1"), two = lease_of("bob@mx2");
    CHECK_INT("taken", lease_take(&one, store), COMMIT_DONE);
    CHECK_INT("refused", lease_take(&two, store), COMMIT_REFUSED);
    CHECK_STR("by", two.other, one.holder);
    CHECK_INT("it was never held", two.lost, false);
    lease_drop(&two, store);
    CHECK_INT("renewed", lease_take(&one, store), COMMIT_DONE);
    lease_drop(&one, store);
    CHECK_INT("then the other", lease_take(&two, store), COMMIT_DONE);
    CHECK_INT("the first one has lost nothing", one.lost, false);
    store_free(store);
}

static void test_holders(void)
{
    long gone = gone_process();
    const struct {
        const char *what;
        long pid;
        bool here;
        enum commit want;
    } rows[] = {
        { "gone, of this host", gone, true, COMMIT_DONE },
        { "gone here, of another host", gone, false, COMMIT_REFUSED },
        { "alive", (long)getppid(), true, COMMIT_REFUSED },
        { "not to be asked for", 0, true, COMMIT_REFUSED },
        { "nor for all", -1, true, COMMIT_REFUSED },
        { "nor for init", 1, true, COMMIT_REFUSED },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct store *store = store_memory_new();
        struct lease lease = lease_of("ann@mx1");
        char other[256], text[256];
        holder(text, rows[i].pid, rows[i].here);
        CHECK_INT("theirs", store_lease_take(store, NAME, text, 30, other, sizeof(other)),
                  COMMIT_DONE);
        CHECK_INT(rows[i].what, lease_take(&lease, store), rows[i].want);
        if (rows[i].want == COMMIT_REFUSED)
            CHECK_STR(rows[i].what, lease.other, text);
        CHECK_INT(rows[i].what, lease_is_here(&lease),
                  rows[i].want == COMMIT_REFUSED && rows[i].here && rows[i].pid > 1);
        store_free(store);
    }
}

static void test_other_texts(void)
{
    static const char *const texts[] = { "root@mx2.example.com pid 1 since now", "",
                                         "(pid 4 at 1)", " (pid 4 at zz)", "(" };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct store *store = store_memory_new();
        struct lease lease = lease_of("ann@mx1");
        char other[256];
        CHECK_INT("theirs",
                  store_lease_take(store, NAME, texts[i], 30, other, sizeof(other)),
                  COMMIT_DONE);
        CHECK_INT(texts[i], lease_take(&lease, store), COMMIT_REFUSED);
        CHECK_INT(texts[i], lease_is_here(&lease), false);
        store_free(store);
    }
}

static void test_lost(void)
{
    struct store *store = store_memory_new();
    struct lease lease = lease_of("ann@mx1");
    char other[256];
    CHECK_INT("taken", lease_take(&lease, store), COMMIT_DONE);
    store_lease_drop(store, NAME, lease.holder);
    CHECK_INT("somebody", store_lease_take(store, NAME, "bob", 30, other, sizeof(other)),
              COMMIT_DONE);
    CHECK_INT("refused", lease_take(&lease, store), COMMIT_REFUSED);
    CHECK_INT("lost", lease.lost, true);
    lease_drop(&lease, store);
    CHECK_INT("theirs is not given back",
              store_lease_take(store, NAME, "cid", 30, other, sizeof(other)),
              COMMIT_REFUSED);
    store_free(store);
}

/* Where no host can be told from another, nobody is known to be gone. */
static bool refuses_without_proc(const char *root, long gone)
{
    if (chroot(root) != 0 || chdir("/") != 0)
        return false;
    struct store *store = store_memory_new();
    struct lease lease = lease_of("ann@mx1");
    char other[256], text[256];
    const char *own = strstr(lease.holder, " at ");
    snprintf(text, sizeof(text), "root@mail (pid %ld%s", gone, own ? own : "");
    return store_lease_take(store, NAME, text, 30, other, sizeof(other)) == COMMIT_DONE &&
           lease_take(&lease, store) == COMMIT_REFUSED && !lease_is_here(&lease);
}

static void test_without_proc(void)
{
    long gone = gone_process();
    const char *root = state_dir();
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() != 0 && unshare(CLONE_NEWUSER) != 0)
            _exit(2);
        _exit(refuses_without_proc(root, gone) ? 0 : 1);
    }
    CU_ASSERT_FATAL(pid > 0 && waitpid(pid, &status, 0) == pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
        printf(" (not tried: neither root nor a user namespace) ");
    else
        CHECK_INT("refused", status, 0);
}

UNIT_MAIN("lease", { "one at a time", test_one_at_a_time }, { "holders", test_holders },
          { "other texts", test_other_texts }, { "lost", test_lost },
          { "without /proc", test_without_proc })
