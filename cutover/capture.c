/*
 * capture: runs a command and keeps what it prints. See capture.h.
 *
 * The child gets a process group of its own, empty signal mask, /dev/null (or the
 * same pipe) as standard error, and no other descriptor of ours. Limits: time, CAPTURE_MAX
 * bytes; past one of them the group is killed and status is -1.
 */
#include "config.h"

#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "output.h"

static void child(const char *const argv[], int in, int out, bool errors)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    int null = open("/dev/null", O_RDWR);
    if (setpgid(0, 0) == 0 && null >= 0 && dup2(in >= 0 ? in : null, 0) >= 0 &&
        dup2(out, 1) >= 0 && dup2(errors ? out : null, 2) >= 0) {
        close_range(3, ~0U, 0);
        char *const *words;
        /* execv() leaves the words alone. */
        memcpy(&words, &argv, sizeof(words));
        execv(argv[0], words);
    }
    _exit(127);
}

/* false: the limit of time or size; out->error says which. */
static bool collect(int fd, int64_t end, struct capture *out)
{
    size_t size = 0;
    for (;;) {
        if (out->out_len + 4096 > size) {
            size = size ? size * 2 : 16384;
            char *grown = size <= CAPTURE_MAX * 2 ? realloc(out->out, size) : NULL;
            if (grown == NULL || out->out_len > CAPTURE_MAX) {
                snprintf(out->error, sizeof(out->error), "prints too much");
                return false;
            }
            out->out = grown;
        }
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        int64_t left = end - clock_ms();
        int ready = poll(&poll_fd, 1, left > 0 ? (int)left : 0);
        if (ready == 0) {
            snprintf(out->error, sizeof(out->error), "does not end");
            return false;
        }
        ssize_t n = ready < 0 ? -1 : read(fd, out->out + out->out_len, 4095);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return true;
        out->out_len += (size_t)n;
    }
}

/* After its output has ended the process has until `end` to end too. */
static void reap(pid_t pid, int64_t end, bool kill_it, struct capture *out)
{
    int status = 0;
    pid_t got;
    if (kill_it)
        kill(-pid, SIGKILL);
    while ((got = waitpid(pid, &status, kill_it ? 0 : WNOHANG)) <= 0) {
        if (got < 0 && errno != EINTR)
            break;
        if (got == 0 && clock_ms() >= end) {
            snprintf(out->error, sizeof(out->error), "does not end");
            kill(-pid, SIGKILL);
            kill_it = true;
        } else if (got == 0) {
            poll(NULL, 0, 2);
        }
    }
    if (got == pid && !kill_it && WIFEXITED(status))
        out->status = WEXITSTATUS(status);
    else if (out->error[0] == '\0')
        snprintf(out->error, sizeof(out->error), "was ended by a signal");
    if (out->status == 127)
        snprintf(out->error, sizeof(out->error), "cannot be executed");
}

static bool make_input(const char *input, int *in)
{
    int fds[2];
    *in = -1;
    if (input == NULL)
        return true;
    size_t len = strlen(input);
    if (len > 4096 || pipe2(fds, O_CLOEXEC) != 0)
        return false;
    bool written = write(fds[1], input, len) == (ssize_t)len;
    close(fds[1]);
    *in = fds[0];
    return written;
}

static void run(const char *const argv[], const char *input, int timeout_ms, bool errors,
                struct capture *out)
{
    int fds[2], in;
    int64_t end = clock_ms() + timeout_ms;
    *out = (struct capture){ .status = -1 };
    if (!make_input(input, &in) || pipe2(fds, O_CLOEXEC) != 0) {
        snprintf(out->error, sizeof(out->error), "%s", strerror(errno));
    } else {
        pid_t pid = fork();
        if (pid == 0)
            child(argv, in, fds[1], errors);
        close(fds[1]);
        if (pid > 0) {
            setpgid(pid, pid);
            bool whole = collect(fds[0], end, out);
            reap(pid, end, !whole, out);
        } else {
            snprintf(out->error, sizeof(out->error), "%s", strerror(errno));
        }
        close(fds[0]);
    }
    if (in >= 0)
        close(in);
    if (out->out == NULL)
        out->out = calloc(1, 1);
    else
        out->out[out->out_len] = '\0';
}

void capture_run(const char *const argv[], const char *input, int timeout_ms,
                 struct capture *out)
{
    run(argv, input, timeout_ms, false, out);
}

void capture_run_all(const char *const argv[], const char *input, int timeout_ms,
                     struct capture *out)
{
    run(argv, input, timeout_ms, true, out);
}
