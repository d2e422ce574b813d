/*
 * run: child processes for the sync command. See run.h.
 *
 * A child between fork() and execv() gets: a process group (so that the time
 * limit reaches what a script starts, and Ctrl-C at the terminal does not), an
 * empty signal mask and default handlers, SIGTERM when its parent dies, and no
 * other descriptor than 0, 1 and 2. That execv() failed is told through a pipe
 * that a successful execv() closes, so a missing interpreter is not taken for a
 * failed sync.
 *
 * What a sync leaves running in the background when it ends is not waited for;
 * it keeps the log's lock, so the mailbox is not synced again meanwhile.
 *
 * Limits: as many jobs as configured; no more than one line of text per child.
 */
#include "config.h"

#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct job {
    pid_t pid; /* and number of its process group; 0: free */
    size_t id;
    int timeout_s;
    int64_t deadline; /* of the next signal */
    int asked;        /* 0: running, 1: SIGTERM sent, 2: SIGKILL sent */
    bool timed_out;
    bool over; /* the child has ended, others of its group not yet */
    int64_t over_at;
    char text[RUN_TEXT_MAX];
};

struct run_set {
    size_t jobs, running;
    struct job job[];
};

struct run_set *run_set_new(int jobs)
{
    size_t n = jobs > 0 ? (size_t)jobs : 1;
    struct run_set *set = calloc(1, sizeof(*set) + n * sizeof(set->job[0]));
    if (set)
        set->jobs = n;
    return set;
}

void run_set_free(struct run_set *set)
{
    if (set == NULL)
        return;
    for (size_t i = 0; i < set->jobs; i++) {
        if (set->job[i].pid == 0)
            continue;
        kill(-set->job[i].pid, SIGKILL);
        while (!set->job[i].over && waitpid(set->job[i].pid, NULL, 0) < 0 &&
               errno == EINTR)
            ;
    }
    free(set);
}

size_t run_count(const struct run_set *set)
{
    return set->running;
}

size_t run_room(const struct run_set *set)
{
    return set->jobs - set->running;
}

/* ---- variables ----------------------------------------------------------------- */

static bool variable(char **out, const char *name, const char *value)
{
    return asprintf(out, "%s=%s", name, value ? value : "") >= 0 || (*out = NULL);
}

bool run_variables(const struct conf_domain *domain, const char *address,
                   const char *target, char *out[RUN_VARIABLES + 1])
{
    memset(out, 0, (RUN_VARIABLES + 1) * sizeof(*out));
    return variable(&out[0], "SLUICE_MAILBOX", address) &&
           variable(&out[1], "SLUICE_DOMAIN", domain->name) &&
           variable(&out[2], "SLUICE_NEW_ADDRESS", target) &&
           variable(&out[3], "SLUICE_OLD", domain->old.host) &&
           variable(&out[4], "SLUICE_NEW", domain->new.host);
}

void run_variables_free(char *variables[RUN_VARIABLES + 1])
{
    for (size_t i = 0; i < RUN_VARIABLES; i++)
        free(variables[i]);
}

/* ---- starting ----------------------------------------------------------------- */

static char **join_environment(const char *const *variables)
{
    extern char **environ;
    size_t n = 0, m = 0;
    while (environ && environ[n])
        n++;
    while (variables[m])
        m++;
    char **out = calloc(n + m + 1, sizeof(*out));
    if (out == NULL)
        return NULL;
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "SLUICE_", 7) != 0)
            out[at++] = environ[i];
    for (size_t i = 0; i < m; i++) {
        /* execve() takes them as char *, and leaves them alone. */
        memcpy(&out[at++], &variables[i], sizeof(*out));
    }
    return out;
}

/* In the child; only returns when it failed, with errno set. *report is where to
 * tell that. */
static void become(const struct run_command *command, char **environment, int *report,
                   pid_t parent)
{
    if (setpgid(0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
        return;
    if (getppid() != parent)
        _exit(1); /* it died before prctl() */
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(command->log, 1) < 0 || dup2(command->log, 2) < 0 ||
        dup2(null, 0) < 0 || dup3(*report, 3, O_CLOEXEC) < 0)
        return;
    *report = 3;
    close_range(4, ~0U, 0);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL); /* fails for SIGKILL and the like: fine */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(command->argv[0], command->argv, environment);
}

static void child(const struct run_command *command, char **environment, int report,
                  pid_t parent)
{
    become(command, environment, &report, parent);
    int error = errno;
    (void)!write(report, &error, sizeof(error));
    _exit(127);
}

/* Descriptors 0 to 2 may be closed when we were started: never let a pipe have
 * one of those, the child puts its own there. */
static bool make_pipe(int fds[2])
{
    if (pipe2(fds, O_CLOEXEC) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        int moved = fcntl(fds[i], F_DUPFD_CLOEXEC, 10);
        close(fds[i]);
        fds[i] = moved;
    }
    if (fds[0] >= 0 && fds[1] >= 0)
        return true;
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return false;
}

static pid_t spawn(const struct run_command *command, char **environment, int *exec_error)
{
    int fds[2];
    if (!make_pipe(fds))
        return -1;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        child(command, environment, fds[1], parent);
    close(fds[1]);
    *exec_error = 0;
    if (pid > 0) {
        setpgid(pid, pid); /* whoever is first */
        ssize_t n;
        do
            n = read(fds[0], exec_error, sizeof(*exec_error));
        while (n < 0 && errno == EINTR);
        if (n != (ssize_t)sizeof(*exec_error))
            *exec_error = 0;
    }
    close(fds[0]);
    return pid;
}

enum run_start_result run_start(struct run_set *set, size_t id,
                                const struct run_command *command, int64_t now,
                                char text[RUN_TEXT_MAX])
{
    struct job *job = NULL;
    for (size_t i = 0; i < set->jobs && job == NULL; i++)
        if (set->job[i].pid == 0)
            job = &set->job[i];
    char **environment = job ? join_environment(command->variables) : NULL;
    int exec_error = 0;
    pid_t pid = environment ? spawn(command, environment, &exec_error) : -1;
    int error = errno;
    free(environment);
    close(command->log);
    if (pid < 0) {
        snprintf(text, RUN_TEXT_MAX, "no process can be started: %s", strerror(error));
        return RUN_FULL;
    }
    if (exec_error != 0) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        snprintf(text, RUN_TEXT_MAX, "%.100s cannot be executed: %s", command->argv[0],
                 strerror(exec_error));
        return RUN_IMPOSSIBLE;
    }
    *job = (struct job){ .pid = pid,
                         .id = id,
                         .timeout_s = command->timeout_s,
                         .deadline = now + (int64_t)command->timeout_s * 1000 };
    set->running++;
    return RUN_STARTED;
}

/* ---- ending -------------------------------------------------------------------- */

static void describe(const struct job *job, int status, char text[RUN_TEXT_MAX])
{
    text[0] = '\0';
    if (job->timed_out)
        snprintf(text, RUN_TEXT_MAX, "not done within %d s", job->timeout_s);
    else if (WIFSIGNALED(status))
        snprintf(text, RUN_TEXT_MAX, "signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != 0)
        snprintf(text, RUN_TEXT_MAX, "exit code %d", WEXITSTATUS(status));
}

/* Looks whether the child has ended. A failed one's group is ended too: nothing
 * may go on copying into a mailbox whose sync has failed. */
static void reap(struct job *job, int64_t now)
{
    int status;
    if (job->over || waitpid(job->pid, &status, WNOHANG) != job->pid)
        return;
    describe(job, status, job->text);
    job->over = true;
    job->over_at = now;
    if (job->text[0] != '\0' && job->asked == 0) {
        kill(-job->pid, SIGTERM);
        job->asked = 1;
        job->deadline = now + RUN_KILL_MS;
    }
}

bool run_ended(struct run_set *set, int64_t now, size_t *id, char text[RUN_TEXT_MAX])
{
    for (size_t i = 0; i < set->jobs; i++) {
        struct job *job = &set->job[i];
        if (job->pid != 0)
            reap(job, now);
        if (job->pid == 0 || !job->over)
            continue;
        /* The number of a process group is not given away while it has members.
         * Some may stay after SIGKILL: dead ones that nobody collects, as in a
         * container without init, or one in the kernel, which has the log's lock. */
        bool killed = job->asked == 2 && now >= job->deadline;
        if (job->text[0] != '\0' && !killed && kill(-job->pid, 0) == 0)
            continue;
        memcpy(text, job->text, sizeof(job->text));
        *id = job->id;
        job->pid = 0;
        set->running--;
        return true;
    }
    return false;
}

void run_tick(struct run_set *set, int64_t now)
{
    for (size_t i = 0; i < set->jobs; i++) {
        struct job *job = &set->job[i];
        if (job->pid == 0 || now < job->deadline || (job->over && job->asked == 2))
            continue;
        if (job->asked == 0)
            job->timed_out = true;
        kill(-job->pid, job->asked == 0 ? SIGTERM : SIGKILL);
        job->asked = job->asked == 0 ? 1 : 2;
        job->deadline = now + RUN_KILL_MS;
    }
}

int64_t run_due(const struct run_set *set, int64_t now)
{
    int64_t due = INT64_MAX;
    for (size_t i = 0; i < set->jobs; i++) {
        const struct job *job = &set->job[i];
        /* Only children are announced by a signal, not their children. */
        int64_t at = job->over ? now + 20 : job->deadline;
        if (job->pid != 0 && at < due)
            due = at;
    }
    return due;
}

void run_stop(struct run_set *set, int64_t now)
{
    for (size_t i = 0; i < set->jobs; i++) {
        struct job *job = &set->job[i];
        if (job->pid == 0 || job->asked > 0)
            continue;
        kill(-job->pid, SIGTERM);
        job->asked = 1;
        job->deadline = now + RUN_KILL_MS;
    }
}

bool run_is_gone(long pid)
{
    char path[40], text[256];
    if (pid <= 1)
        return false;
    if (kill((pid_t)pid, 0) != 0)
        return errno == ESRCH;
    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "re");
    size_t n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
    if (file)
        fclose(file);
    text[n] = '\0';
    /* "PID (NAME) STATE ...": NAME may have anything in it. */
    const char *end = strrchr(text, ')');
    return end && (strncmp(end, ") Z", 3) == 0 || strncmp(end, ") X", 3) == 0);
}

void run_check_program(const char *path, char *error, size_t error_size)
{
    struct stat info;
    error[0] = '\0';
    if (path[0] != '/')
        snprintf(error, error_size, "is not an absolute path");
    else if (stat(path, &info) != 0)
        snprintf(error, error_size, "%s", strerror(errno));
    else if (!S_ISREG(info.st_mode))
        snprintf(error, error_size, "is not a file");
    else if (access(path, X_OK) != 0)
        snprintf(error, error_size, "is not executable (chmod +x)");
}

const char *run_mistrust(const struct stat *info)
{
    if (info->st_uid != 0 && info->st_uid != geteuid())
        return "belongs neither to root nor to you: whoever owns it would have it run as "
               "you; look at it, then chown it";
    if (info->st_mode & (S_IWGRP | S_IWOTH))
        return "can be written to by others: look at it, then chmod go-w";
    return NULL;
}

/* ---- logs ------------------------------------------------------------------------ */

/* Opens the directory name below parent, making it. Somebody who may write to
 * the parent must not lead root's log files elsewhere. */
static int open_below(int parent, const char *name)
{
    if (mkdirat(parent, name, 0700) != 0 && errno != EEXIST)
        return -1;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    struct stat info;
    if (fstat(fd, &info) == 0 && info.st_uid == geteuid() && !(info.st_mode & 022))
        return fd;
    close(fd);
    errno = EPERM;
    return -1;
}

int run_log_directory(const char *state_dir, const char *domain, char *error,
                      size_t error_size)
{
    return run_directory(state_dir, "cutover", domain, error, error_size);
}

int run_directory(const char *state_dir, const char *kind, const char *domain,
                  char *error, size_t error_size)
{
    char name[PLAN_FILE_NAME_MAX + 1];
    plan_file_name(domain, name);
    int state = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int cutover = state >= 0 ? open_below(state, kind) : -1;
    int fd = cutover >= 0 ? open_below(cutover, name) : -1;
    if (fd < 0)
        snprintf(error, error_size, "%s%s%s%s: %s", state_dir, state < 0 ? "" : "/",
                 state < 0 ? "" : kind, state < 0 || cutover < 0 ? "" : "/(domain)",
                 errno == EPERM ? "belongs to somebody else; remove it"
                                : strerror(errno));
    if (cutover >= 0)
        close(cutover);
    if (state >= 0)
        close(state);
    return fd;
}

void run_log_name(const char *local, char out[RUN_LOG_NAME_MAX + 1])
{
    char name[PLAN_FILE_NAME_MAX + 1];
    plan_file_name(local, name);
    snprintf(out, RUN_LOG_NAME_MAX + 1, "%s.log", name);
}

enum run_log_result run_log_open(int directory, const char *file, const char *header,
                                 int *log, char *error, size_t error_size)
{
    int fd =
        openat(directory, file,
               O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        snprintf(error, error_size, "log %s: %s", file,
                 fd < 0 ? strerror(errno) : "is not a file");
        if (fd >= 0)
            close(fd);
        return RUN_LOG_FAILED;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        bool busy = errno == EWOULDBLOCK;
        snprintf(error, error_size, "%s", strerror(errno));
        close(fd);
        return busy ? RUN_LOG_BUSY : RUN_LOG_FAILED;
    }
    size_t len = strlen(header);
    if (write(fd, header, len) != (ssize_t)len) {
        snprintf(error, error_size, "log %s: %s", file, strerror(errno));
        close(fd);
        return RUN_LOG_FAILED;
    }
    /* Moved away from 0 to 2, see make_pipe(). */
    *log = fcntl(fd, F_DUPFD_CLOEXEC, 10);
    close(fd);
    return *log < 0 ? RUN_LOG_FAILED : RUN_LOG_OPEN;
}
