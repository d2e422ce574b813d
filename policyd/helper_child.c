/*
 * helper_child: the queue helper itself, the one process that stays root.
 *
 * It reads one request after the other from the socketpair (helper_wire.h),
 * checks it (helper_request_valid(); nothing that policyd says is trusted),
 * builds the command line from the table in helper.c, and runs it: execve() of
 * an absolute path, environment of a fixed PATH alone, no descriptor but 0 to
 * 2, ids and keys on standard input from a memfd, time limit, process group of
 * its own that is killed as a whole. Map names for postmap(1) come from the
 * helper's own reading of main.cf, never from policyd.
 *
 * It ignores SIGTERM, SIGINT and SIGHUP, so that policyd can finish first, and
 * ends when policyd's end of the socketpair is closed.
 *
 * Limits: WIRE_REQUEST_MAX per request, OUTPUT_MAX of standard output,
 * WIRE_ERROR_MAX of standard error (the rest is read and dropped).
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "helper_wire.h"
#include "queue.h"

#define OUTPUT_MAX   (1024L * 1024 * 1024)
#define SETTINGS_MAX 262144

struct child {
    int socket;
    const char *commands;
    const char *config;
    /* what the last HELPER_SETTINGS said */
    char *settings;
    size_t settings_len;
    char queue_directory[PATH_MAX];
    char **maps;
    size_t map_count;
};

struct request {
    struct wire_request head;
    const char *items[HELPER_ITEMS_MAX];
};

/* ---- answers --------------------------------------------------------------- */

static bool answer(struct child *child, enum wire_kind kind, const char *text, size_t len)
{
    char packet[WIRE_ANSWER_MAX];
    if (len > sizeof(packet) - 1)
        len = sizeof(packet) - 1;
    packet[0] = (char)kind;
    memcpy(packet + 1, text, len);
    return send(child->socket, packet, len + 1, MSG_NOSIGNAL) == (ssize_t)(len + 1);
}

__attribute__((format(printf, 2, 3))) static bool refuse(struct child *child,
                                                         const char *fmt, ...)
{
    char text[WIRE_ERROR_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return answer(child, WIRE_REFUSED, text, strlen(text));
}

static bool answer_exit(struct child *child, int status)
{
    char digits[16];
    snprintf(digits, sizeof(digits), "%d", status);
    return answer(child, WIRE_EXIT, digits, strlen(digits));
}

/* ---- running a command ------------------------------------------------------ */

/* Items as lines in an anonymous file, ready to be read. */
static int input_file(const struct request *request)
{
    int fd = memfd_create("sluice-input", MFD_CLOEXEC);
    for (uint32_t i = 0; fd >= 0 && i < request->head.count; i++) {
        size_t len = strlen(request->items[i]);
        if (write(fd, request->items[i], len) != (ssize_t)len ||
            write(fd, "\n", 1) != 1) {
            close(fd);
            fd = -1;
        }
    }
    if (fd >= 0 && lseek(fd, 0, SEEK_SET) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* After fork(), in the new process. Returns only when it failed. */
static void become(const struct child *child, const struct helper_argv *line, int in,
                   int out, int err)
{
    static const char *const environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                                               "LANG=C", NULL };
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* Relative names in main.cf (socket paths) count from the queue directory,
     * where Postfix' daemons are. */
    if (child->queue_directory[0] && chdir(child->queue_directory) < 0)
        return;
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
        return;
    execve(line->argv[0], (char *const *)(uintptr_t)line->argv,
           (char *const *)(uintptr_t)environment);
}

struct running {
    pid_t pid;
    int out, err; /* -1 at end of file */
    int64_t until;
    long output;
    size_t errors;
    bool keep; /* settings: keep a copy of the output */
};

static bool spawn(struct child *child, const struct helper_argv *line, int in,
                  struct running *run)
{
    int out[2] = { -1, -1 }, err[2] = { -1, -1 };
    run->pid = -1;
    if (pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0)
        run->pid = fork();
    if (run->pid == 0) {
        become(child, line, in, out[1], err[1]);
        dprintf(err[1], "%s: %s", line->argv[0], strerror(errno));
        _exit(126);
    }
    for (int i = 0; i < 2; i++) {
        int *pair = i == 0 ? out : err;
        if (pair[1] >= 0)
            close(pair[1]);
        if (run->pid < 0 && pair[0] >= 0)
            close(pair[0]);
    }
    run->out = out[0];
    run->err = err[0];
    return run->pid > 0;
}

static bool keep_settings(struct child *child, const char *text, size_t len)
{
    if (child->settings_len + len >= SETTINGS_MAX)
        return false;
    memcpy(child->settings + child->settings_len, text, len);
    child->settings_len += len;
    child->settings[child->settings_len] = '\0';
    return true;
}

/* Hands on what one descriptor has. false: policyd is gone, or too much. */
static bool relay(struct child *child, struct running *run, int *fd, enum wire_kind kind)
{
    char text[WIRE_ANSWER_MAX - 1];
    ssize_t got = read(*fd, text, sizeof(text));
    if (got <= 0) {
        if (got < 0 && errno == EINTR)
            return true;
        close(*fd);
        *fd = -1;
        return true;
    }
    size_t len = (size_t)got;
    if (kind == WIRE_ERROR) {
        size_t room = WIRE_ERROR_MAX - run->errors;
        len = len < room ? len : room;
        run->errors += len;
        return len == 0 || answer(child, kind, text, len);
    }
    run->output += got;
    if (run->output > OUTPUT_MAX || (run->keep && !keep_settings(child, text, len)))
        return false;
    return answer(child, kind, text, len);
}

/* Reads both pipes until both are closed. false: time is over or policyd gone. */
static bool relay_all(struct child *child, struct running *run)
{
    while (run->out >= 0 || run->err >= 0) {
        struct pollfd wait[3] = { { .fd = run->out, .events = POLLIN },
                                  { .fd = run->err, .events = POLLIN },
                                  { .fd = child->socket, .events = POLLRDHUP } };
        int64_t left = run->until - clock_ms();
        if (left <= 0)
            return false;
        int ready = poll(wait, 3, (int)(left < 1000 ? left : 1000));
        if (ready < 0 && errno != EINTR)
            return false;
        if (ready <= 0)
            continue;
        if (wait[2].revents)
            return false;
        if (wait[0].revents && !relay(child, run, &run->out, WIRE_OUTPUT))
            return false;
        if (wait[1].revents && !relay(child, run, &run->err, WIRE_ERROR))
            return false;
    }
    return true;
}

/* Waits for the end. -1: it did not end in time and was killed. */
static int reap(struct running *run, bool in_time)
{
    int status = 0;
    while (in_time && clock_ms() < run->until) {
        pid_t got = waitpid(run->pid, &status, WNOHANG);
        if (got == run->pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (got < 0 && errno != EINTR)
            return 127;
        nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
    }
    kill(-run->pid, SIGKILL);
    kill(run->pid, SIGKILL);
    while (waitpid(run->pid, &status, 0) < 0 && errno == EINTR)
        ;
    return -1;
}

/* Runs one command and relays what it says. -1: killed, -2: not started. */
static int run_command(struct child *child, const struct request *request,
                       const char *last, bool with_input)
{
    enum helper_command command = request->head.command;
    struct running run = { .keep = command == HELPER_SETTINGS };
    struct helper_argv line;
    if (!helper_command_line(command, child->commands, child->config, last, &line))
        return -2;
    run.until = clock_ms() + (int64_t)helper_command_seconds(command, 0) * 1000;
    int in = with_input ? input_file(request) : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return -2;
    bool started = spawn(child, &line, in, &run);
    close(in);
    if (!started)
        return -2;
    bool in_time = relay_all(child, &run);
    int status = reap(&run, in_time);
    if (run.out >= 0)
        close(run.out);
    if (run.err >= 0)
        close(run.err);
    return status;
}

static bool report(struct child *child, enum helper_command command, int status)
{
    if (status == -1)
        return refuse(child,
                      "queue helper: command %d did not end within %d s and was killed",
                      (int)command, helper_command_seconds(command, 0));
    if (status < 0)
        return refuse(child, "queue helper: could not start a command: %s",
                      strerror(errno));
    return answer_exit(child, status);
}

/* ---- the requests ------------------------------------------------------------ */

/* The value of one "name = value" line of the settings. */
static bool setting(const struct child *child, const char *name, char *out, size_t size)
{
    size_t name_len = strlen(name);
    for (const char *line = child->settings; *line;) {
        const char *end = strchr(line, '\n');
        size_t len = end ? (size_t)(end - line) : strlen(line);
        if (len > name_len + 2 && !memcmp(line, name, name_len) &&
            !memcmp(line + name_len, " =", 2)) {
            const char *value = line + name_len + 2;
            len -= name_len + 2;
            while (len > 0 && *value == ' ')
                value++, len--;
            if (len >= size)
                return false;
            memcpy(out, value, len);
            out[len] = '\0';
            return true;
        }
        line = end ? end + 1 : line + len;
    }
    return false;
}

static bool do_settings(struct child *child, const struct request *request)
{
    char maps[16384];
    child->settings_len = 0;
    child->settings[0] = '\0';
    int status = run_command(child, request, NULL, false);
    if (status == 0) {
        queue_list_free(child->maps);
        child->maps = NULL;
        child->map_count = 0;
        if (!setting(child, "queue_directory", child->queue_directory,
                     sizeof(child->queue_directory)) ||
            child->queue_directory[0] != '/')
            child->queue_directory[0] = '\0';
        if (setting(child, "transport_maps", maps, sizeof(maps)))
            child->maps = queue_split(maps);
        while (child->maps && child->maps[child->map_count])
            child->map_count++;
    }
    return report(child, request->head.command, status);
}

static bool do_ask_map(struct child *child, const struct request *request)
{
    if (request->head.number >= child->map_count)
        return refuse(child,
                      "queue helper: main.cf has no transport_maps entry number %u",
                      request->head.number + 1);
    return report(child, HELPER_ASK_MAP,
                  run_command(child, request, child->maps[request->head.number], true));
}

static bool do_flush(struct child *child, const struct request *request)
{
    int worst = 0;
    for (uint32_t i = 0; i < request->head.count; i++) {
        int status = run_command(child, request, request->items[i], false);
        if (status < 0)
            return report(child, HELPER_FLUSH, status);
        if (status > worst)
            worst = status;
    }
    return answer_exit(child, worst);
}

/* pid's parent, start time (clock ticks after boot) and name, from
 * /proc/PID/stat (proc(5)); the name may contain anything. */
static bool process(const char *pid, long *parent, unsigned long long *started,
                    char name[17])
{
    char path[64], text[1024];
    if (snprintf(path, sizeof(path), "/proc/%s/stat", pid) >= (int)sizeof(path))
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t len = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (len <= 0)
        return false;
    text[len] = '\0';
    char *open_mark = strchr(text, '('), *close_mark = strrchr(text, ')');
    if (!open_mark || !close_mark || close_mark - open_mark - 1 > 16)
        return false;
    memcpy(name, open_mark + 1, (size_t)(close_mark - open_mark - 1));
    name[close_mark - open_mark - 1] = '\0';
    char state;
    return sscanf(close_mark + 1,
                  " %c %ld %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                  "%*s %*s %*s %llu",
                  &state, parent, started) == 3 &&
           state != 'Z';
}

/* The number in pid/master.pid. 0: no such file; -1: it cannot be read. */
static long master_number(const struct child *child)
{
    char path[PATH_MAX + 64], text[256] = "";
    snprintf(path, sizeof(path), "%s/pid/master.pid", child->queue_directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    ssize_t len = read(fd, text, sizeof(text) - 1);
    close(fd);
    char *end;
    long pid = len > 0 ? strtol(text, &end, 10) : -1;
    return pid > 1 ? pid : -1;
}

/* The running master(8) of this instance; 0: there is none; -1: cannot tell.
 * The file outlives its process, and the number may be reused. */
static long master_pid(const struct child *child)
{
    char number[32], link[64], name[17], cwd[PATH_MAX], queue[PATH_MAX];
    long parent, pid = master_number(child);
    unsigned long long started;
    if (pid <= 0)
        return pid;
    snprintf(number, sizeof(number), "%ld", pid);
    if (!process(number, &parent, &started, name) || strcmp(name, "master") != 0)
        return 0;
    /* Its current directory tells one instance from another. */
    snprintf(link, sizeof(link), "/proc/%ld/cwd", pid);
    ssize_t len = readlink(link, cwd, sizeof(cwd) - 1);
    if (len < 0 || !realpath(child->queue_directory, queue))
        return -1;
    cwd[len] = '\0';
    return strcmp(cwd, queue) == 0 ? pid : 0;
}

static bool do_daemons(struct child *child, const struct request *request)
{
    (void)request;
    if (!child->queue_directory[0])
        return refuse(child, "queue helper: queue_directory is not known yet");
    long master = master_pid(child), parent;
    if (master < 0)
        return refuse(child, "queue helper: cannot tell whether Postfix runs "
                             "(pid/master.pid, /proc)");
    unsigned long long started;
    char name[17], line[128];
    DIR *dir = master ? opendir("/proc") : NULL;
    if (master && !dir)
        return refuse(child, "queue helper: /proc: %s", strerror(errno));
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (!isdigit((unsigned char)entry->d_name[0]) ||
            !process(entry->d_name, &parent, &started, name))
            continue;
        if (parent != master && atol(entry->d_name) != master)
            continue;
        int len =
            snprintf(line, sizeof(line), "%s %llu %s\n", entry->d_name, started, name);
        if (len > 0 && (size_t)len < sizeof(line) &&
            !answer(child, WIRE_OUTPUT, line, (size_t)len)) {
            closedir(dir);
            return false;
        }
    }
    if (dir)
        closedir(dir);
    return answer_exit(child, 0);
}

/* Takes a packet apart. false: not a request. */
static bool parse(char *packet, size_t len, struct request *request)
{
    if (len < sizeof(request->head))
        return false;
    memcpy(&request->head, packet, sizeof(request->head));
    if (request->head.command >= HELPER_COMMANDS ||
        request->head.count > HELPER_ITEMS_MAX)
        return false;
    char *at = packet + sizeof(request->head), *end = packet + len;
    for (uint32_t i = 0; i < request->head.count; i++) {
        char *stop = at < end ? memchr(at, '\0', (size_t)(end - at)) : NULL;
        if (!stop)
            return false;
        request->items[i] = at;
        at = stop + 1;
    }
    return at == end;
}

/* false: policyd is gone. */
static bool serve(struct child *child, char *packet, size_t len)
{
    struct request request;
    if (!parse(packet, len, &request) ||
        !helper_request_valid(request.head.command, request.items, request.head.count))
        return refuse(child, "queue helper: request refused");
    switch ((enum helper_command)request.head.command) {
    case HELPER_SETTINGS:
        return do_settings(child, &request);
    case HELPER_ASK_MAP:
        return do_ask_map(child, &request);
    case HELPER_FLUSH:
        return do_flush(child, &request);
    case HELPER_DAEMONS:
        return do_daemons(child, &request);
    case HELPER_HOLD:
    case HELPER_RELEASE:
    case HELPER_REQUEUE:
        return report(child, request.head.command,
                      run_command(child, &request, NULL, true));
    default:
        return report(child, request.head.command,
                      run_command(child, &request, NULL, false));
    }
}

/* Standard error stays (the log may go there); all else is closed. */
static void detach(int socket)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, 0);
        dup2(null, 1);
    }
    for (int fd = 3; fd < socket; fd++)
        close(fd);
    closefrom(socket + 1);
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    umask(077);
    prctl(PR_SET_NAME, "sluice-helper");
}

int helper_child(int socket, const char *commands, const char *config)
{
    struct child child = { .socket = socket, .commands = commands, .config = config };
    char *packet = malloc(WIRE_REQUEST_MAX + 1);
    child.settings = calloc(1, SETTINGS_MAX);
    if (!packet || !child.settings)
        return 71; /* EX_OSERR */
    detach(socket);
    for (;;) {
        ssize_t len = recv(socket, packet, WIRE_REQUEST_MAX + 1, 0);
        if (len < 0 && errno == EINTR)
            continue;
        if (len <= 0)
            break;
        if (!serve(&child, packet, (size_t)len))
            break;
    }
    queue_list_free(child.maps);
    free(child.settings);
    free(packet);
    return 0;
}
