/*
 * playbook_guard: see playbook_guard.h.
 *
 * The guard is in a process group of its own, so that Ctrl-C at the terminal reaches
 * `sluice playbook` alone, which then tells the guard; the work is in another, so
 * that the guard can signal all of it. It is the reaper of what the work leaves
 * behind (PR_SET_CHILD_SUBREAPER). The work's outputs are a pipe: a log can have a
 * limit then, and its last lines are at hand.
 *
 * Limits: TAIL_MAX bytes of the last output are looked at for the note.
 */
#include "config.h"

#include "playbook_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "command.h"
#include "playbook_state.h"

#define LOOK_MS      100
#define LEFT_MS      2000 /* for what the work left running, before SIGKILL */
#define TAIL_MAX     16384
#define READS_AT_END 256 /* of TAIL_MAX / 2 bytes: what a pipe can hold, and more */

struct guard {
    const struct guard_job *job;
    int report;
    int log, lock, output, signals;
    pid_t worker; /* and the number of its group */
    off_t logged;
    int log_error;
    char tail[TAIL_MAX + 1];
    size_t tail_len;
    int status;
    bool ended; /* the worker; others of its group may not have */
    bool told;  /* to stop */
    bool timed_out;
    int64_t deadline, kill_at; /* kill_at 0: no SIGTERM yet */
};

/* ---- last words ------------------------------------------------------------ */

void guard_last_words(char *text, size_t len, int failed, char note[GUARD_NOTE_MAX + 1])
{
    static const char mark[] = "sluice: ";
    const char *line = NULL, *said = NULL;
    char *save = NULL;
    for (size_t i = 0; i < len; i++)
        if (text[i] == '\0')
            text[i] = ' ';
    text[len] = '\0';
    for (char *at = strtok_r(text, "\r\n", &save); at;
         at = strtok_r(NULL, "\r\n", &save)) {
        line = at;
        if (strncmp(at, mark, strlen(mark)) == 0)
            said = at + strlen(mark);
    }
    if (failed && said)
        line = said;
    while (line && *line == ' ')
        line++;
    state_text(line ? line : "", note, GUARD_NOTE_MAX + 1);
}

/* ---- the log ---------------------------------------------------------------- */

static bool path_of(const struct guard *guard, const char *suffix,
                    char out[GUARD_PATH_MAX])
{
    int n = snprintf(out, GUARD_PATH_MAX, "%s%s", guard->job->path, suffix);
    errno = ENAMETOOLONG;
    return n > 0 && n < GUARD_PATH_MAX;
}

static int open_file(const struct guard *guard, const char *suffix)
{
    char path[GUARD_PATH_MAX];
    if (!path_of(guard, suffix, path))
        return -1;
    return open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static bool open_log(struct guard *guard)
{
    guard->log = open_file(guard, ".log");
    if (guard->log < 0)
        return false;
    guard->logged = lseek(guard->log, 0, SEEK_END);
    return true;
}

/* The log goes on in a new file, and the one before the last is forgotten. */
static void turn_over(struct guard *guard)
{
    char path[GUARD_PATH_MAX], old[GUARD_PATH_MAX];
    if (!path_of(guard, ".log", path) || !path_of(guard, ".log.1", old) ||
        rename(path, old) != 0)
        return;
    close(guard->log);
    if (!open_log(guard))
        guard->log_error = errno;
}

static void log_bytes(struct guard *guard, const char *bytes, size_t len)
{
    if (guard->logged >= GUARD_LOG_MAX)
        turn_over(guard);
    while (len > 0 && guard->log >= 0) {
        ssize_t n = write(guard->log, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            guard->log_error = errno; /* the work goes on: its log is less than it */
            return;
        }
        bytes += n;
        len -= (size_t)n;
        guard->logged += n;
    }
}

static void keep_tail(struct guard *guard, const char *bytes, size_t len)
{
    if (guard->tail_len + len > TAIL_MAX) {
        size_t drop = guard->tail_len + len - TAIL_MAX;
        memmove(guard->tail, guard->tail + drop, guard->tail_len - drop);
        guard->tail_len -= drop;
    }
    memcpy(guard->tail + guard->tail_len, bytes, len);
    guard->tail_len += len;
}

/* false: nothing there for now, or nobody writes any more. */
static bool take_output(struct guard *guard)
{
    char bytes[TAIL_MAX / 2];
    ssize_t n = read(guard->output, bytes, sizeof(bytes));
    if (n <= 0)
        return false;
    log_bytes(guard, bytes, (size_t)n);
    keep_tail(guard, bytes, (size_t)n);
    return true;
}

/* ---- the work ------------------------------------------------------------------ */

static int work(const struct guard *guard, int output)
{
    sigset_t none;
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0)
        return EXIT_SERVICE;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    return guard->job->work(guard->job->context);
}

static bool start_work(struct guard *guard)
{
    int ends[2];
    pid_t self = getpid();
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    guard->worker = fork();
    if (guard->worker == 0) {
        if (getppid() != self)
            _exit(EXIT_SERVICE);
        _exit(work(guard, ends[1]));
    }
    int error = errno;
    close(ends[1]);
    guard->output = ends[0];
    if (guard->worker > 0) {
        (void)setpgid(guard->worker, guard->worker);
        (void)!write(guard->report, &guard->worker, sizeof(guard->worker));
    }
    errno = error;
    return guard->worker > 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0;
}

/* ---- watching ---------------------------------------------------------------------- */

static void reap(struct guard *guard)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        if (pid == guard->worker) {
            guard->status = status;
            guard->ended = true;
        }
}

static void take_signals(struct guard *guard)
{
    struct signalfd_siginfo info;
    while (read(guard->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        if (info.ssi_signo != SIGCHLD)
            guard->told = true;
    reap(guard);
}

/* Whether the work, and what it has started, is over. */
static bool is_over(struct guard *guard)
{
    return guard->ended && kill(-guard->worker, 0) != 0 && errno == ESRCH;
}

static void enforce(struct guard *guard, int64_t now)
{
    bool late = !guard->ended && now >= guard->deadline;
    if (guard->kill_at == 0 && (late || guard->told || guard->ended)) {
        guard->timed_out = late && !guard->told;
        (void)kill(-guard->worker, SIGTERM);
        guard->kill_at = now + (guard->ended ? LEFT_MS : GUARD_KILL_MS);
    } else if (guard->kill_at > 0 && now >= guard->kill_at) {
        (void)kill(-guard->worker, SIGKILL);
        guard->kill_at = now + LOOK_MS;
    }
}

static void watch(struct guard *guard)
{
    guard->deadline = clock_ms() + (int64_t)guard->job->limit_s * 1000;
    for (;;) {
        struct pollfd fds[] = { { .fd = guard->signals, .events = POLLIN },
                                { .fd = guard->output, .events = POLLIN } };
        /* A pipe that all have closed would be ready for ever. */
        (void)poll(fds, guard->output < 0 ? 1 : 2, LOOK_MS);
        if (fds[1].fd >= 0 && (fds[1].revents & (POLLIN | POLLHUP)) &&
            !take_output(guard) && (fds[1].revents & POLLHUP)) {
            close(guard->output);
            guard->output = -1;
        }
        take_signals(guard);
        reap(guard);
        if (is_over(guard))
            break;
        enforce(guard, clock_ms());
    }
    for (size_t i = 0; i < READS_AT_END && guard->output >= 0; i++)
        if (!take_output(guard))
            break;
}

/* ---- the guard ------------------------------------------------------------------- */

static bool take_lock(struct guard *guard)
{
    guard->lock = open_file(guard, ".lock");
    int64_t until = clock_ms() + GUARD_LOCK_MS;
    while (guard->lock >= 0 && flock(guard->lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK || guard->told || clock_ms() >= until)
            return false;
        struct pollfd wait = { .fd = guard->signals, .events = POLLIN };
        (void)poll(&wait, 1, LOOK_MS);
        take_signals(guard);
    }
    return guard->lock >= 0;
}

static void judge(struct guard *guard, struct guard_end *end)
{
    end->code = WIFEXITED(guard->status) ? WEXITSTATUS(guard->status) : EXIT_SERVICE;
    guard_last_words(guard->tail, guard->tail_len, end->code != EXIT_DONE, end->note);
    if (guard->timed_out) {
        end->code = EXIT_CHECK;
        (void)snprintf(end->note, sizeof(end->note),
                       "not done within %d s (limit of the step)", guard->job->limit_s);
    } else if (!WIFEXITED(guard->status)) {
        (void)snprintf(end->note, sizeof(end->note), "ended by signal %d",
                       WTERMSIG(guard->status));
    } else if (end->code != EXIT_DONE && end->note[0] == '\0') {
        (void)snprintf(end->note, sizeof(end->note), "exit code %d", end->code);
    }
    size_t len = strlen(end->note);
    if (guard->log_error && len < sizeof(end->note) - 100)
        (void)snprintf(end->note + len, sizeof(end->note) - len,
                       " (its log is not complete: %s)", strerror(guard->log_error));
}

static void guard_work(struct guard *guard, struct guard_end *end)
{
    end->code = EXIT_SERVICE;
    if (!take_lock(guard)) {
        (void)snprintf(end->note, sizeof(end->note),
                       guard->lock < 0 ? "%.900s.lock: %s"
                                       : "%.900s.lock: an earlier run of this step is "
                                         "still at work on this host, or its lock: %s",
                       guard->job->path, strerror(errno));
        end->code = guard->lock < 0 ? EXIT_SERVICE : EXIT_AGAIN;
        return;
    }
    if (!open_log(guard) || !start_work(guard)) {
        (void)snprintf(end->note, sizeof(end->note), "%.900s.log: %s", guard->job->path,
                       strerror(errno));
        return;
    }
    log_bytes(guard, guard->job->heading, strlen(guard->job->heading));
    watch(guard);
    judge(guard, end);
}

static int be_guard(const struct guard_job *job, int report, pid_t parent)
{
    static struct guard guard; /* too large for some stacks; one per process */
    struct guard_end end = { .code = EXIT_SERVICE };
    sigset_t mask;
    guard = (struct guard){
        .job = job, .report = report, .log = -1, .lock = -1, .output = -1
    };
    (void)setpgid(0, 0);
    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, SIGTERM);
    (void)sigaddset(&mask, SIGINT);
    (void)sigaddset(&mask, SIGHUP);
    (void)sigaddset(&mask, SIGCHLD);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL);
    guard.signals = sigprocmask(SIG_SETMASK, &mask, NULL) == 0
                        ? signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK)
                        : -1;
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (guard.signals < 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
        (void)snprintf(end.note, sizeof(end.note), "signals: %s", strerror(errno));
    else if (getppid() == parent)
        guard_work(&guard, &end);
    pid_t nobody = 0;
    if (guard.worker <= 0)
        (void)!write(report, &nobody, sizeof(nobody));
    (void)!write(report, &end, sizeof(end)); /* less than PIPE_BUF: whole or not */
    return end.code;
}

pid_t guard_start(const struct guard_job *job, int *report)
{
    int ends[2];
    pid_t self = getpid();
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        _exit(be_guard(job, ends[1], self));
    }
    int error = errno;
    close(ends[1]);
    if (pid < 0)
        close(ends[0]);
    *report = pid < 0 ? -1 : ends[0];
    errno = error;
    return pid;
}

void guard_read(int report, int status, struct guard_end *out)
{
    pid_t worker = 0;
    bool told = read(report, &worker, sizeof(worker)) == (ssize_t)sizeof(worker);
    if (!told || read(report, out, sizeof(*out)) != (ssize_t)sizeof(*out)) {
        if (worker > 0)
            (void)kill(-worker, SIGKILL); /* what its guard can no longer end */
        out->code = EXIT_SERVICE;
        (void)snprintf(out->note, sizeof(out->note), "its guard was ended by signal %d",
                       WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
    out->note[GUARD_NOTE_MAX] = '\0';
    close(report);
}
