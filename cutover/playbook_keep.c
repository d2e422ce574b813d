/*
 * playbook_keep: the directory of a run, and what becomes of it when another is begun.
 *
 *     <state-dir>/playbook/DOMAIN                     logs and papers of the present run
 *     <state-dir>/playbook/DOMAIN.20240531T030405Z    of an earlier one, by its start
 *     <state-dir>/playbook/DOMAIN~new                 of a run that is being begun
 * (no name of a domain has a capital letter or a "~" in it).
 *
 * ".run" in a directory says whose it is: the start of the run (unix s), which no two
 * runs of a domain share. A new run is begun in four steps, each of which may be the
 * last one before a kill:
 *   1. report.md, report.html and records.txt of the earlier run are written into its
 *      directory (each whole or not at all);
 *   2. DOMAIN~new is made, with what the new run brings (its file, its pilot group);
 *   3. the store has the new run, in one change;
 *   4. DOMAIN gets its name as an earlier one, DOMAIN~new becomes DOMAIN.
 * Before 3 the earlier run is whole and goes on; after it, every command that reads the
 * run does 4 first (engine_own_directory()). On another host, where nothing but an
 * earlier run's directory is, that is put aside too; and a run that sluice recover has
 * brought back gets its directory back.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "output.h"
#include "playbook_engine.h"
#include "playbook_guard.h"
#include "playbook_report.h"
#include "run.h"

#define MARK      ".run"
#define KEPT_MAX  99 /* directories with one and the same start */
#define WAIT_MS   100
#define LOCK_MS   30000 /* another command that is putting a directory aside */
#define STAMP_MAX 40
#define ENTRY_MAX (ENGINE_PATH_MAX + 300)

/* ---- whose it is ------------------------------------------------------------ */

/* 0: there is no mark, or no directory. */
static int64_t owner_of(const char *directory)
{
    char path[ENTRY_MAX];
    int64_t started = 0;
    (void)snprintf(path, sizeof(path), "%s/%s", directory, MARK); /* fits */
    /* state-dir belongs to the daemons' user: nothing that it puts there is waited for.
     */
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    FILE *file = fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode)
                     ? fdopen(fd, "r")
                     : NULL;
    if (!file && fd >= 0)
        close(fd);
    if (!file)
        return 0;
    if (fscanf(file, "%" SCNd64, &started) != 1 || started < 0)
        started = 0;
    fclose(file);
    return started;
}

static int put_mark(const char *directory, int64_t started)
{
    char path[ENGINE_PATH_MAX], text[32];
    int n = snprintf(path, sizeof(path), "%s/%s", directory, MARK);
    if (n < 0 || (size_t)n >= sizeof(path))
        return EXIT_CONFIGURATION; /* engine_begin() has left room */
    n = snprintf(text, sizeof(text), "%" PRId64 "\n", started);
    return engine_keep_text(path, text, n > 0 ? (size_t)n : 0);
}

static bool is_there(const char *directory)
{
    struct stat info;
    return lstat(directory, &info) == 0 && S_ISDIR(info.st_mode);
}

/* "<directory>.20240531T030405Z", and from the second on ".2", ".3", ... */
static bool kept_name(const struct engine *engine, int64_t started, int number,
                      char out[ENGINE_PATH_MAX])
{
    char stamp[STAMP_MAX], more[16] = "";
    time_t when = (time_t)started;
    struct tm tm;
    if (!gmtime_r(&when, &tm) ||
        strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm) == 0)
        return false;
    if (number > 1)
        (void)snprintf(more, sizeof(more), ".%d", number);
    int n = snprintf(out, ENGINE_PATH_MAX, "%s.%s%s", engine->directory, stamp, more);
    return n > 0 && n < ENGINE_PATH_MAX;
}

static void new_name(const struct engine *engine, char out[ENGINE_PATH_MAX])
{
    (void)snprintf(out, ENGINE_PATH_MAX, "%.*s~new", ENGINE_PATH_MAX - 8,
                   engine->directory);
}

/* -1: after a message. */
static int open_directory(const struct engine *engine)
{
    char error[600];
    int fd = run_directory(engine->context->conf->state_dir, "playbook",
                           engine->domain->name, error, sizeof(error));
    if (fd < 0)
        message("%s", error);
    return fd;
}

static int make_directory(const struct engine *engine)
{
    int fd = open_directory(engine);
    if (fd >= 0)
        close(fd);
    return fd >= 0 ? EXIT_DONE : EXIT_SERVICE;
}

/* ---- putting aside ------------------------------------------------------------ */

/* The present directory gets its name among the earlier ones. */
static int put_aside(const struct engine *engine, char kept[ENGINE_PATH_MAX])
{
    struct stat info;
    int64_t started = owner_of(engine->directory);
    if (rmdir(engine->directory) == 0 || errno == ENOENT)
        return EXIT_DONE; /* nothing was in it */
    if (lstat(engine->directory, &info) != 0) {
        message("%s: %s", engine->directory, strerror(errno));
        return EXIT_SERVICE;
    }
    if (started == 0)
        started = (int64_t)info.st_mtime;
    for (int i = 1; i <= KEPT_MAX; i++) {
        if (!kept_name(engine, started, i, kept))
            break;
        /* Over nothing but an empty directory. */
        if (rename(engine->directory, kept) == 0)
            return EXIT_DONE;
        if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
            break;
    }
    kept[0] = '\0';
    message("%s, of an earlier run, cannot be renamed: %s; move it away",
            engine->directory, strerror(errno));
    return EXIT_SERVICE;
}

/* Of two commands one puts aside. -1: after a message. */
static int lock_names(const struct engine *engine)
{
    char path[ENGINE_PATH_MAX];
    int64_t until = clock_ms() + LOCK_MS;
    (void)snprintf(path, sizeof(path), "%.*s~lock", ENGINE_PATH_MAX - 8,
                   engine->directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK && clock_ms() < until && command_sleep(WAIT_MS))
            continue;
        close(fd);
        fd = -1;
    }
    if (fd < 0)
        message("%s: %s", path, strerror(errno));
    return fd;
}

static int exchange(const struct engine *engine, char kept[ENGINE_PATH_MAX])
{
    char fresh[ENGINE_PATH_MAX], back[ENGINE_PATH_MAX];
    int64_t owner = owner_of(engine->directory), started = engine->run.started;
    new_name(engine, fresh);
    bool is_ready = is_there(fresh) && owner_of(fresh) == started;
    if (owner == started || (owner == 0 && !is_ready))
        return EXIT_DONE; /* without a mark: of a release that made none */
    int code = put_aside(engine, kept);
    bool comes_back = !is_ready && kept_name(engine, started, 1, back) && is_there(back);
    const char *from = is_ready ? fresh : back;
    if (code != EXIT_DONE || (!is_ready && !comes_back) ||
        rename(from, engine->directory) == 0)
        return code;
    message("%s: %s", from, strerror(errno));
    return EXIT_SERVICE;
}

int engine_own_directory(struct engine *engine, char kept[ENGINE_PATH_MAX])
{
    char fresh[ENGINE_PATH_MAX];
    kept[0] = '\0';
    new_name(engine, fresh);
    int64_t owner = owner_of(engine->directory);
    if (owner == engine->run.started || (owner == 0 && !is_there(fresh)))
        return EXIT_DONE;
    int lock = lock_names(engine);
    if (lock < 0)
        return EXIT_SERVICE;
    int code = exchange(engine, kept);
    close(lock);
    return code;
}

/* ---- before another run is begun ------------------------------------------------ */

/* Whether a step's lock is free, or becomes so; its work may be ending still. */
static bool is_free(const char *path, int64_t until)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    bool free = fd < 0;
    while (!free) {
        free = flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (!free && (clock_ms() >= until || !command_sleep(WAIT_MS)))
            break;
    }
    if (fd >= 0)
        close(fd);
    return free;
}

static int is_lock(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    return len > 5 && strcmp(entry->d_name + len - 5, ".lock") == 0;
}

/* That no step of the earlier run is at work on this host. */
static int wait_for_steps(const struct engine *engine)
{
    struct dirent **entries = NULL;
    char path[ENTRY_MAX];
    int64_t until = clock_ms() + GUARD_LOCK_MS;
    int n = scandir(engine->directory, &entries, is_lock, alphasort), code = EXIT_DONE;
    for (int i = 0; i < n; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", engine->directory,
                       entries[i]->d_name); /* fits */
        if (code == EXIT_DONE && !is_free(path, until)) {
            message("%.*s of the earlier run is still at work on this host: wait for it, "
                    "or end it, and start again",
                    (int)strlen(entries[i]->d_name) - 5, entries[i]->d_name);
            code = EXIT_AGAIN;
        }
        free(entries[i]);
    }
    free(entries);
    return code;
}

/* What a start that was killed has left there; nothing but files is in it. Whoever may
 * write to state-dir must not have root remove others: no path is gone by, and no link.
 * own: the present directory, which is known to be ours. */
static void clear(int own, const char *name)
{
    int above = openat(own, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = above >= 0
                 ? openat(above, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
                 : -1;
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(fd, entry->d_name, 0);
    if (directory)
        closedir(directory);
    else if (fd >= 0)
        close(fd);
    if (above >= 0)
        close(above);
}

/* ---- what is written of it -------------------------------------------------------- */

/* A field as the store has it: no control character but the tab is in it. */
static bool write_record(void *context, const char *name, const char *value)
{
    FILE *out = context;
    return fprintf(out, "%s\t%s\n", name, value) > 0;
}

/* Every record of the run as it stands in the store: for a run whose file is gone, or
 * whose records are damaged, too. */
static int keep_records(const struct engine *engine)
{
    char path[ENGINE_PATH_MAX], *text = NULL;
    size_t len = 0;
    struct store *store = engine->context->store;
    FILE *out = open_memstream(&text, &len);
    int n = snprintf(path, sizeof(path), "%s/records.txt", engine->directory);
    if (!out || n < 0 || (size_t)n >= sizeof(path)) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    bool read = store_each_playbook(store, engine->domain->name, write_record, out);
    bool whole = fclose(out) == 0;
    int code = read && whole ? engine_keep_text(path, text, len) : EXIT_SERVICE;
    if (!read)
        message("%s", store_error(store));
    free(text);
    return code;
}

/* The report of the run that is there now. A run whose file is gone has its records. */
static int keep_report(struct engine *engine, const char *kept, const char *instead)
{
    struct engine old = { 0 };
    int code = engine->damaged
                   ? EXIT_DATA
                   : engine_begin(engine->context, engine->domain->name, &old);
    if (code == EXIT_DONE)
        code = engine_load(&old);
    if (code == EXIT_DONE) {
        old.kept_as = kept;
        old.kept_for = instead;
        code = paper_keep(&old);
    } else if (code != EXIT_SERVICE) {
        notice("no report of the earlier run can be made; records.txt has what is known");
        code = EXIT_DONE;
    }
    engine_close(&old);
    return code;
}

int engine_keep_run(struct engine *engine, const char *instead)
{
    char kept[ENGINE_PATH_MAX];
    const struct run_record *run = &engine->run;
    int code = wait_for_steps(engine);
    if (code != EXIT_DONE || run->state == RUN_NONE)
        return code;
    /* Of a damaged one nobody knows when it was begun: its directory is what it is. */
    code = engine->damaged ? make_directory(engine) : engine_directory(engine);
    if (code == EXIT_DONE)
        code = keep_records(engine);
    if (code == EXIT_DONE && kept_name(engine, run->started, 1, kept))
        code = keep_report(engine, kept, instead);
    return code;
}

int engine_directory(struct engine *engine)
{
    char kept[ENGINE_PATH_MAX];
    int code = engine_own_directory(engine, kept);
    if (code == EXIT_DONE)
        code = make_directory(engine);
    if (code == EXIT_DONE && owner_of(engine->directory) == 0)
        code = put_mark(engine->directory, engine->run.started);
    return code;
}

int64_t engine_next_start(const struct engine *engine)
{
    const struct run_record *run = &engine->run;
    int64_t next = run->started < engine->now ? engine->now : run->started + 1;
    /* Of a damaged run, or one that Redis has lost, the directory alone knows it. */
    return next == owner_of(engine->directory) ? next + 1 : next;
}

int engine_new_directory(const struct engine *engine, int64_t started,
                         char out[ENGINE_PATH_MAX])
{
    new_name(engine, out);
    int own = open_directory(engine);
    if (own < 0)
        return EXIT_SERVICE;
    const char *slash = strrchr(out, '/');
    clear(own, slash ? slash + 1 : out);
    close(own);
    if (mkdir(out, 0700) == 0 || (errno == EEXIST && is_there(out)))
        return put_mark(out, started);
    message("%s: %s", out, strerror(errno));
    return EXIT_SERVICE;
}
