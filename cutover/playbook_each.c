/*
 * playbook_each: a program for each mailbox: the sync command of sluice.conf without a
 * lock (sync), or one of the admin's, for backups and the like (each).
 *
 * <step>.journal in the run's directory has a line for each mailbox that ended:
 *     TIME TAB ADDRESS TAB ok|failed TAB SECONDS TAB why
 * A run that was interrupted, or in which some failed, goes on with those that are not
 * "ok". When all are, the journal ends with "complete", and the next time begins anew:
 * a later copy is not left out because an earlier one went well. The first line names
 * the run. Output of the program goes to a log for each mailbox (run.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "output.h"
#include "playbook_each.h"
#include "playbook_people.h"
#include "run.h"
#include "targets.h"

#define LOOK_MS      50
#define LINE_LEN     (ADDR_TEXT_MAX + RUN_TEXT_MAX + 80)
#define FAILED_SHOWN 20

struct box {
    char *local;
    int64_t began; /* clock_ms() */
};

struct each {
    struct action_context *context;
    const struct conf_domain *domain;
    char *const *argv;
    const char *logs; /* kind of the log directory, and word for messages */
    struct box *boxes;
    size_t count, room, earlier, done, failed;
    struct table *ended; /* address -> when it began, unix s */
    int directory, journal;
    struct run_set *set;
    bool no_memory;
    struct pace pace;
    int64_t began;
};

/* ---- the journal --------------------------------------------------------- */

/* The time before SECONDS, rounded to the earlier second; false: no such numbers. */
static bool take_began(const char *ended, const char *seconds, char out[24])
{
    char *end;
    long long when = strtoll(ended, &end, 10);
    if (when <= 0 || *end != '\t')
        return false;
    double took = strtod(seconds, &end);
    if (*end != '\t' || !(took >= 0 && took <= (double)when))
        return false;
    (void)snprintf(out, 24, "%lld", when - (long long)took - 1);
    return true;
}

/* Takes what ended well. *whole: the journal is complete. false: out of memory. */
static bool take_line(struct table *ended, char *line, bool *whole)
{
    char began[24], *address = strchr(line, '\t');
    char *state = address ? strchr(address + 1, '\t') : NULL;
    *whole = strcmp(line, "complete") == 0;
    if (!state || strncmp(state + 1, "ok\t", 3) != 0 ||
        !take_began(line, state + 4, began))
        return true;
    *state = '\0';
    return table_put(ended, address + 1, strlen(address + 1), began, strlen(began));
}

static bool read_journal(struct each *it, FILE *file, bool *anew)
{
    char line[LINE_LEN], run[48];
    bool whole = false;
    (void)snprintf(run, sizeof(run), "run %" PRId64 "\n", it->context->run);
    *anew = !fgets(line, sizeof(line), file) || strcmp(line, run) != 0;
    while (!*anew && fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = '\0';
        it->no_memory = !take_line(it->ended, line, &whole) || it->no_memory;
    }
    *anew = *anew || whole;
    return !it->no_memory;
}

static bool open_journal(struct each *it)
{
    char name[220], path[PAPER_PATH_MAX];
    bool anew = false;
    (void)snprintf(name, sizeof(name), "%.150s.journal", it->context->step);
    if (!paper_path(it->context, name, path))
        return false;
    it->journal = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_APPEND, 0600);
    int copy = it->journal >= 0 ? dup(it->journal) : -1;
    FILE *file = copy >= 0 ? fdopen(copy, "r") : NULL;
    bool good = file && read_journal(it, file, &anew);
    if (file)
        fclose(file);
    if (good && anew) {
        table_free(it->ended);
        it->ended = table_new();
        good = it->ended && ftruncate(it->journal, 0) == 0 &&
               dprintf(it->journal, "run %" PRId64 "\n", it->context->run) > 0;
    } else if (good) { /* ends a line that was being written */
        good = write(it->journal, "\n", 1) == 1;
    }
    if (!good)
        message("%s: %s", path, it->no_memory ? "out of memory" : strerror(errno));
    return good;
}

static void note(struct each *it, const char *address, int64_t took_ms, const char *why)
{
    if (dprintf(it->journal, "%lld\t%s\t%s\t%.1f\t%s\n", (long long)time(NULL), address,
                why[0] ? "failed" : "ok", (double)took_ms / 1000, why) < 0)
        notice("the journal cannot be written: %s", strerror(errno));
}

/* ---- mailboxes ----------------------------------------------------------- */

static bool add_local(void *context, const char *local, const struct home *home)
{
    struct each *it = context;
    (void)home;
    if (local[0] == '\0')
        return true;
    if (it->count == it->room) {
        size_t room = it->room ? it->room * 2 : 64;
        struct box *boxes = reallocarray(it->boxes, room, sizeof(*boxes));
        if (!boxes)
            return !(it->no_memory = true);
        it->boxes = boxes;
        it->room = room;
    }
    it->boxes[it->count] = (struct box){ .local = strdup(local) };
    it->no_memory = !it->boxes[it->count].local;
    it->count += !it->no_memory;
    return !it->no_memory;
}

static bool find_boxes(struct each *it, const struct targets *targets)
{
    struct store *store = it->context->command->store;
    const struct home none = { 0 };
    const struct target *target = &targets->items[0];
    if (targets->count != 1) {
        message("%s works on one domain at a time", it->context->command->command);
        return false;
    }
    it->domain = target->domain;
    if (target->whole && !store_each_home(store, target->domain->name, add_local, it)) {
        message("%s", store_error(store));
        return false;
    }
    for (size_t i = 0; !target->whole && i < target->count; i++)
        (void)add_local(it, target->locals[i], &none);
    if (it->no_memory)
        message("out of memory");
    else if (it->count == 0)
        message("no mailbox of %s is listed: sluice import", it->domain->name);
    return !it->no_memory && it->count > 0;
}

/* ---- running ------------------------------------------------------------- */

static void ended(struct each *it, const char *address, int64_t took_ms, const char *why)
{
    note(it, address, took_ms, why);
    it->done += why[0] == '\0';
    it->failed += why[0] != '\0';
    if (why[0] && it->failed <= FAILED_SHOWN)
        message("%s: %s: %s", address, it->logs, why);
}

static void start_one(struct each *it, size_t index)
{
    const struct conf *conf = it->context->command->conf;
    char address[ADDR_TEXT_MAX + 1], file[RUN_LOG_NAME_MAX + 1],
        text[512] = "", why[RUN_TEXT_MAX] = "no memory";
    char *variables[RUN_VARIABLES + 1] = { NULL };
    struct run_command command = { .argv = it->argv, .timeout_s = conf->sync.timeout };
    addr_format(it->boxes[index].local, it->domain->name, address);
    if (table_get(it->ended, address, strlen(address), NULL)) {
        it->earlier++;
        return;
    }
    run_log_name(it->boxes[index].local, file);
    enum run_log_result log =
        run_log_open(it->directory, file, "playbook\n", &command.log, text, sizeof(text));
    enum run_start_result started = RUN_IMPOSSIBLE;
    if (log == RUN_LOG_OPEN && run_variables(it->domain, address, address, variables)) {
        command.variables = (const char *const *)variables;
        it->boxes[index].began = clock_ms();
        started = run_start(it->set, index, &command, clock_ms(), why);
    }
    run_variables_free(variables);
    if (started != RUN_STARTED)
        ended(it, address, 0,
              log == RUN_LOG_BUSY     ? "an earlier one is still running"
              : log == RUN_LOG_FAILED ? text
                                      : why);
}

static void show(struct each *it)
{
    char left[DURATION_TEXT_MAX];
    size_t now = it->done + it->failed, rest = it->count - it->earlier - now;
    if (now == 0 || !pace_due(&it->pace))
        return;
    int64_t seconds = (clock_ms() - it->began) / 1000 * (int64_t)rest / (int64_t)now;
    notice("%zu of %zu mailboxes done, %zu failed, about %s left", it->earlier + it->done,
           it->count, it->failed, duration_text(seconds, left));
}

static void take_ended(struct each *it)
{
    char why[RUN_TEXT_MAX], address[ADDR_TEXT_MAX + 1];
    size_t index;
    while (run_ended(it->set, clock_ms(), &index, why)) {
        addr_format(it->boxes[index].local, it->domain->name, address);
        ended(it, address, clock_ms() - it->boxes[index].began, why);
    }
}

static void run_all(struct each *it)
{
    size_t next = 0;
    bool stopping = false;
    it->began = clock_ms();
    while (next < it->count || run_count(it->set) > 0) {
        if (command_stopped() && !stopping) {
            run_stop(it->set, clock_ms());
            stopping = true;
        }
        if (stopping)
            next = it->count;
        while (next < it->count && run_room(it->set) > 0)
            start_one(it, next++);
        run_tick(it->set, clock_ms());
        take_ended(it);
        show(it);
        if (run_count(it->set) > 0)
            (void)command_sleep(LOOK_MS);
    }
}

static int judge(struct each *it)
{
    char took[DURATION_TEXT_MAX];
    size_t done = it->earlier + it->done;
    if (command_stopped()) {
        message("stopped: %zu of %zu mailboxes are done; run again to go on", done,
                it->count);
        return EXIT_AGAIN;
    }
    if (it->failed > 0) {
        message("%zu of %zu mailboxes failed: %.150s.journal has each, their logs are in "
                "%s/%s/%s; mend it and run again, the others are not repeated",
                it->failed, it->count, it->context->step,
                it->context->command->conf->state_dir, it->logs, it->domain->name);
        return EXIT_CHECK;
    }
    (void)dprintf(it->journal, "complete\n");
    print("all %zu mailboxes done in %s (%zu of them earlier): %.150s.journal", it->count,
          duration_text((clock_ms() - it->began) / 1000, took), it->earlier,
          it->context->step);
    return EXIT_DONE;
}

static int prepare(struct each *it)
{
    const struct conf *conf = it->context->command->conf;
    char error[512] = "";
    it->ended = table_new();
    it->set = run_set_new(conf->sync.jobs);
    it->directory =
        run_directory(conf->state_dir, it->logs, it->domain->name, error, sizeof(error));
    if (it->ended && it->set && it->directory >= 0)
        return open_journal(it) ? EXIT_DONE : EXIT_SERVICE;
    message("%s", error[0] ? error : "out of memory");
    return EXIT_SERVICE;
}

static void release(struct each *it)
{
    if (it->set)
        run_set_free(it->set);
    if (it->ended)
        table_free(it->ended);
    if (it->directory >= 0)
        close(it->directory);
    if (it->journal >= 0)
        close(it->journal);
    for (size_t i = 0; i < it->count; i++)
        free(it->boxes[i].local);
    free(it->boxes);
}

/* ---- how the last one went ----------------------------------------------- */

int each_journal(const struct action_context *context, const char *step,
                 struct table *began)
{
    char name[220], path[PAPER_PATH_MAX], line[LINE_LEN], run[48];
    bool good = true, whole;
    (void)snprintf(name, sizeof(name), "%.150s.journal", step);
    if (!paper_path(context, name, path))
        return EXIT_SERVICE;
    FILE *file = fopen(path, "re");
    (void)snprintf(run, sizeof(run), "run %" PRId64 "\n", context->run);
    if (!file || !fgets(line, sizeof(line), file) || strcmp(line, run) != 0) {
        message("%s: no sync of this run is in it: run the step %s first", path, step);
        if (file)
            fclose(file);
        return EXIT_CHECK;
    }
    while (good && fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = '\0';
        good = take_line(began, line, &whole);
    }
    fclose(file);
    if (!good)
        message("out of memory");
    return good ? EXIT_DONE : EXIT_SERVICE;
}

/* Whether each of the mailboxes is in it. */
static int read_synced(struct each *it, const char *step, size_t *failed)
{
    int code = each_journal(it->context, step, it->ended);
    for (size_t i = 0; i < it->count && code == EXIT_DONE; i++) {
        char address[ADDR_TEXT_MAX + 1];
        addr_format(it->boxes[i].local, it->domain->name, address);
        if (!table_get(it->ended, address, strlen(address), NULL) &&
            (*failed)++ < FAILED_SHOWN)
            message("%s: no sync has ended well", address);
    }
    return code;
}

int action_synced(struct action_context *context, int argc, char **argv)
{
    struct targets targets;
    struct each it = { .context = context, .directory = -1, .journal = -1 };
    size_t failed = 0;
    int code = targets_resolve(context->command->conf, argc - 2, argv + 2, &targets);
    if (code != EXIT_DONE)
        return code;
    it.ended = table_new();
    code = it.ended && find_boxes(&it, &targets) ? read_synced(&it, argv[1], &failed)
                                                 : EXIT_CHECK;
    if (code == EXIT_DONE && failed > 0) {
        message(
            "%zu of %zu mailboxes have no sync that ended well: run the step %s again",
            failed, it.count, argv[1]);
        code = EXIT_CHECK;
    } else if (code == EXIT_DONE) {
        print("the last sync of all %zu mailboxes ended well", it.count);
    }
    release(&it);
    targets_free(&targets);
    return code;
}

/* ---- actions ------------------------------------------------------------- */

static int for_each(struct action_context *context, char *const *program,
                    const char *logs, int argc, char **who)
{
    struct targets targets;
    struct each it = {
        .context = context, .argv = program, .logs = logs, .directory = -1, .journal = -1
    };
    int code = targets_resolve(context->command->conf, argc, who, &targets);
    if (code != EXIT_DONE)
        return code;
    command_catch_signals();
    code = find_boxes(&it, &targets) ? prepare(&it) : EXIT_CHECK;
    if (code == EXIT_DONE) {
        run_all(&it);
        code = judge(&it);
    }
    release(&it);
    targets_free(&targets);
    return code;
}

int action_sync(struct action_context *context, int argc, char **argv)
{
    const struct conf *conf = context->command->conf;
    if (!conf->sync.command) {
        message("%s has no sync command", conf->path);
        return EXIT_CONFIGURATION;
    }
    /* The logs of a cutover's syncs and these are in one place. */
    return for_each(context, conf->sync.command, "cutover", argc - 1, argv + 1);
}

int action_each(struct action_context *context, int argc, char **argv)
{
    char why[RUN_TEXT_MAX];
    struct stat info;
    (void)argc;
    run_check_program(argv[2], why, sizeof(why));
    if (!why[0] && stat(argv[2], &info) == 0 && run_mistrust(&info))
        (void)snprintf(why, sizeof(why), "%s", run_mistrust(&info));
    if (argv[2][0] != '/' || why[0]) {
        message("each: %s: %s", argv[2],
                argv[2][0] != '/' ? "not an absolute path" : why);
        return EXIT_USE;
    }
    return for_each(context, argv + 2, "playbook-each", 1, argv + 1);
}
