/*
 * playbook_child: one call of a step, in a child process.
 *
 * The child has a process group of its own and a store of its own, its output
 * goes to <directory>/<step>.log, and the last line that it said is the note of
 * the step. It gets SIGTERM when its time is over, when this command is told to
 * stop or loses its lease, and when this process dies; SIGKILL KILL_MS later.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "output.h"
#include "playbook_engine.h"

#define LOOK_MS     50
#define KILL_MS     10000
#define TAIL_MAX    16384
#define ARG_MAX_LEN 8192

/* ---- arguments ------------------------------------------------------------ */

static bool expand_all(struct engine *engine, const struct playbook_step *step,
                       const struct playbook_call *call, char *argv[])
{
    struct engine_names names = { engine, step->id };
    for (size_t i = 0; i < call->argc; i++) {
        char text[ARG_MAX_LEN];
        if (!playbook_expand(call->argv[i], engine_value, &names, text, sizeof(text)))
            return false;
        argv[i] = strdup(text);
        if (!argv[i])
            return false;
    }
    return true;
}

/* ---- the child -------------------------------------------------------------- */

static int in_child(struct engine *engine, const struct playbook_step *step,
                    const struct playbook_call *call, int log)
{
    char *argv[PLAYBOOK_ARGS_MAX + 1] = { NULL };
    const struct action *action = action_of(action_find(call->argv[0]));
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
        dup2(log, STDERR_FILENO) < 0)
        return EXIT_SERVICE;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    out_open(call->argv[0], false);
    if (!expand_all(engine, step, call, argv)) {
        message("an argument is longer than %d bytes", ARG_MAX_LEN);
        return EXIT_DATA;
    }
    struct command_context command = *engine->context;
    command.command = call->argv[0];
    command.json = command.dry_run = false;
    command.store = store_redis_new(command.conf, command.head);
    struct action_context context = {
        .command = &command,
        .domain = engine->domain->name,
        .who = engine->who ? engine->who : engine->domain->name,
        .directory = engine->directory,
        .step = step->id,
    };
    if (!action || !action->run)
        return EXIT_DONE;
    return out_finish(action->run(&context, (int)call->argc, argv));
}

/* ---- its last words ------------------------------------------------------------ */

/* The line for a person in what was added to the log from `from` on: of a failure
 * the last message ("sluice: ..."), else the last line. */
static void last_words(int log, off_t from, bool failed, char note[STATE_NOTE_MAX + 1])
{
    static const char mark[] = "sluice: ";
    char text[TAIL_MAX + 1];
    off_t end = lseek(log, 0, SEEK_END);
    if (end - from > TAIL_MAX)
        from = end - TAIL_MAX;
    ssize_t n = pread(log, text, TAIL_MAX, from);
    text[n > 0 ? n : 0] = '\0';
    const char *line = NULL, *said = NULL;
    char *save = NULL;
    for (char *at = strtok_r(text, "\n", &save); at; at = strtok_r(NULL, "\n", &save)) {
        line = at;
        if (strncmp(at, mark, strlen(mark)) == 0)
            said = at + strlen(mark);
    }
    if (failed && said)
        line = said;
    while (line && *line == ' ')
        line++;
    state_text(line ? line : "", note, STATE_NOTE_MAX + 1);
}

/* ---- waiting --------------------------------------------------------------------- */

/* Until it ends, or its time is over. */
static int await(struct engine *engine, const struct playbook_step *step, pid_t pid,
                 bool *timed_out)
{
    char taken[DURATION_TEXT_MAX];
    int64_t began = clock_ms(), end = began + (int64_t)step->limit_s * 1000, kill_at = 0;
    int status = 0;
    progress_begin(step->id, 0);
    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid || (got < 0 && errno != EINTR))
            break;
        int64_t now = clock_ms();
        (void)engine_lease(engine);
        *timed_out = *timed_out || (now >= end && kill_at == 0);
        if (kill_at == 0 && (now >= end || engine->lost || command_stopped())) {
            (void)kill(-pid, SIGTERM);
            kill_at = now + KILL_MS;
        } else if (kill_at > 0 && now >= kill_at) {
            (void)kill(-pid, SIGKILL);
            kill_at = now + KILL_MS;
        }
        progress_set(0, "%s, since %s", step->title,
                     duration_text((now - began) / 1000, taken));
        struct timespec pause = { .tv_nsec = LOOK_MS * 1000000L };
        (void)nanosleep(&pause, NULL);
    }
    progress_end();
    return status;
}

static int open_log(const struct engine *engine, const struct playbook_step *step,
                    const struct playbook_call *call)
{
    char path[ENGINE_PATH_MAX + PLAYBOOK_ID_MAX + 8];
    (void)snprintf(path, sizeof(path), "%s/%s.log", engine->directory, step->id);
    int log = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log < 0)
        return -1;
    char when[TIME_TEXT_MAX];
    dprintf(log, "---- %s: %s", time_text(engine->now, when), call->argv[0]);
    dprintf(log, "\n");
    return log;
}

int engine_call(struct engine *engine, const struct playbook_step *step,
                const struct playbook_call *call, char note[STATE_NOTE_MAX + 1])
{
    bool timed_out = false;
    int log = open_log(engine, step, call);
    if (log < 0) {
        (void)snprintf(note, STATE_NOTE_MAX, "%s/%s.log: %s", engine->directory, step->id,
                       strerror(errno));
        return EXIT_SERVICE;
    }
    off_t from = lseek(log, 0, SEEK_END);
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_child(engine, step, call, log));
    int status = pid > 0 ? await(engine, step, pid, &timed_out) : -1;
    int code = pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SERVICE;
    last_words(log, from, code != EXIT_DONE, note);
    close(log);
    if (pid < 0)
        (void)snprintf(note, STATE_NOTE_MAX, "cannot fork: %s", strerror(errno));
    else if (timed_out)
        (void)snprintf(note, STATE_NOTE_MAX, "not done within %d s (limit of the step)",
                       step->limit_s);
    else if (!WIFEXITED(status))
        (void)snprintf(note, STATE_NOTE_MAX, "ended by signal %d", WTERMSIG(status));
    else if (code != EXIT_DONE && note[0] == '\0')
        (void)snprintf(note, STATE_NOTE_MAX, "exit code %d", code);
    return timed_out ? EXIT_AGAIN : code;
}
