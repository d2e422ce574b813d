/*
 * doctor_net: sockets and next hops. See doctor.h.
 *
 * Whether Postfix reaches a socket is tried as Postfix: a forked child enters the
 * chroot, becomes that user and connects; its exit code is the errno. Time
 * limits: 3 s for a local socket, those of probe.h for a next hop (all of them
 * at once).
 */
#include "config.h"

#include "clock.h"
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netstring.h"
#include "probe.h"

#define SOCKET_S 3

/* A connected unix socket with time limits; -1: errno. */
static int open_unix(const char *path)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = SOCKET_S };
    size_t len = strlen(path);
    if (len >= sizeof(to.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(to.sun_path, path, len + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* In a child: errno of connecting as that user, in that chroot; 0: fine. */
static int connect_as(const char *path, const struct passwd *user, const char *root)
{
    if (user && initgroups(user->pw_name, user->pw_gid) != 0)
        return errno;
    if (root && (chroot(root) != 0 || chdir("/") != 0))
        return errno;
    if (user && (setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0))
        return errno;
    int fd = open_unix(path);
    return fd < 0 ? errno : 0;
}

void doctor_connect(const char *path, const char *as_user, const char *chroot_to,
                    char *error, size_t error_size)
{
    /* Only root can become somebody else; then the answer is for ourselves. */
    bool root = geteuid() == 0;
    const struct passwd *user = as_user && root ? getpwnam(as_user) : NULL;
    error[0] = '\0';
    if (as_user && root && user == NULL) {
        snprintf(error, error_size, "there is no user %s", as_user);
        return;
    }
    char whole[4096];
    int n = snprintf(whole, sizeof(whole), "%s%s%s", chroot_to && !root ? chroot_to : "",
                     path[0] == '/' ? "" : "/", path);
    if (n < 0 || (size_t)n >= sizeof(whole)) {
        snprintf(error, error_size, "%s", strerror(ENAMETOOLONG));
        return;
    }
    pid_t pid = fork();
    if (pid == 0)
        _exit(connect_as(whole, user, root ? chroot_to : NULL) & 255);
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid < 0)
        snprintf(error, error_size, "%s", strerror(errno));
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        snprintf(error, error_size, "%s", strerror(WEXITSTATUS(status)));
}

/* ---- our own sockets ------------------------------------------------------------- */

static void check_own_socket(struct doctor *doctor, const char *name, const char *program,
                             const struct conf_endpoint *endpoint)
{
    char error[256];
    if (endpoint->path == NULL)
        return;
    doctor_connect(endpoint->path, NULL, NULL, error, sizeof(error));
    if (error[0] == '\0') {
        doctor_say(doctor, FINDING_OK, name, "%s answers", endpoint->text);
        return;
    }
    doctor_say(doctor, FINDING_FAIL, name, "%s: %s", endpoint->text, error);
    doctor_fix(doctor, "shell", "systemctl start %s", program);
}

/* Sends one request, reads one reply; false: error. */
static bool ask_map(const char *path, const char *request, char *reply, size_t size,
                    char *error, size_t error_size)
{
    char frame[512], buf[NETSTRING_MAX + 32];
    size_t len = netstring_format(frame, sizeof(frame), request, strlen(request)),
           got = 0;
    int fd = open_unix(path);
    bool done = false;
    if (fd < 0 || len == 0 || send(fd, frame, len, MSG_NOSIGNAL) != (ssize_t)len) {
        snprintf(error, error_size, "%s", strerror(errno));
    } else {
        snprintf(error, error_size, "no answer within %d s", SOCKET_S);
        for (ssize_t n; !done && got < sizeof(buf) &&
                        (n = recv(fd, buf + got, sizeof(buf) - got, 0)) > 0;) {
            const char *payload;
            size_t payload_len, consumed;
            got += (size_t)n;
            if (netstring_parse(buf, got, NETSTRING_MAX, &payload, &payload_len,
                                &consumed) == NETSTRING_DONE) {
                snprintf(reply, size, "%.*s", (int)payload_len, payload);
                done = true;
            }
        }
    }
    if (fd >= 0)
        close(fd);
    return done;
}

static void check_map(struct doctor *doctor)
{
    const struct conf *conf = doctor->context->conf;
    char request[ADDR_TEXT_MAX + 64], reply[512], error[256];
    if (conf->map_listen.path == NULL || conf->domain_count == 0)
        return;
    snprintf(request, sizeof(request), "transport sluice-doctor@%s",
             conf->domains[0].name);
    if (!ask_map(conf->map_listen.path, request, reply, sizeof(reply), error,
                 sizeof(error))) {
        doctor_say(doctor, FINDING_FAIL, "map", "asked where mail for %s goes: %s",
                   request + 10, error);
        doctor_fix(doctor, "shell", "systemctl start sluice-policyd");
        return;
    }
    bool fine = strncmp(reply, "OK ", 3) == 0 || strncmp(reply, "NOTFOUND ", 9) == 0;
    doctor_say(doctor, fine ? FINDING_OK : FINDING_FAIL, "map",
               "asked where mail for %s goes: %s", request + 10,
               strncmp(reply, "NOTFOUND", 8) == 0 ? "delivered on this host" : reply);
    if (!fine)
        doctor_fix(doctor, "shell", "journalctl -u sluice-policyd");
}

void doctor_check_sockets(struct doctor *doctor)
{
    const struct conf *conf = doctor->context->conf;
    check_own_socket(doctor, "milter socket", "sluice-milter", &conf->milter_listen);
    check_own_socket(doctor, "policy socket", "sluice-policyd", &conf->policy_listen);
    check_own_socket(doctor, "map socket", "sluice-policyd", &conf->map_listen);
    check_map(doctor);
    if (conf->milter_listen.host)
        doctor_say(
            doctor, FINDING_WARN, "milter socket",
            "%s is TCP: every event is answered there, as without answers Postfix stalls "
            "44 ms a message; a unix socket costs half",
            conf->milter_listen.text);
}

/* ---- next hops --------------------------------------------------------------------- */

#define HOPS_MAX 64

struct hop_check {
    const struct conf_hop *hop;
    const char *domain, *key;
    struct probe *probe;
    char error[512];
};

static void add_hop(struct doctor *doctor, struct hop_check *checks, size_t *n,
                    const struct conf_domain *domain, const struct conf_hop *hop,
                    const char *key)
{
    if (hop->text == NULL || *n == HOPS_MAX)
        return;
    for (size_t i = 0; i < *n; i++)
        if (strcmp(checks[i].hop->text, hop->text) == 0)
            return;
    struct hop_check *check = &checks[(*n)++];
    *check = (struct hop_check){ .hop = hop, .domain = domain->name, .key = key };
    check->probe = probe_new(hop->host, hop->port, doctor->context->conf->hostname,
                             check->error, sizeof(check->error));
}

/* Runs all of them until each is known. */
static void run_hops(struct hop_check *checks, size_t n)
{
    struct pollfd fds[HOPS_MAX];
    for (bool busy = true; busy;) {
        int64_t now = clock_ms(), due = now + 1000;
        busy = false;
        for (size_t i = 0; i < n; i++) {
            fds[i] = (struct pollfd){ .fd = -1 };
            if (checks[i].probe == NULL || probe_state(checks[i].probe) != PROBE_TRYING)
                continue;
            busy = true;
            fds[i].fd = probe_fd(checks[i].probe, &fds[i].events);
            if (probe_due(checks[i].probe) < due)
                due = probe_due(checks[i].probe);
        }
        if (!busy || poll(fds, n, due > now ? (int)(due - now) : 0) < 0)
            memset(fds, 0, sizeof(fds));
        now = clock_ms();
        for (size_t i = 0; busy && i < n; i++)
            if (checks[i].probe && probe_state(checks[i].probe) == PROBE_TRYING)
                probe_run(checks[i].probe, now, fds[i].revents);
    }
}

void doctor_check_hops(struct doctor *doctor)
{
    const struct conf *conf = doctor->context->conf;
    struct hop_check *checks = calloc(HOPS_MAX, sizeof(*checks));
    size_t n = 0;
    for (size_t i = 0; checks && i < conf->domain_count; i++) {
        add_hop(doctor, checks, &n, &conf->domains[i], &conf->domains[i].new, "new");
        add_hop(doctor, checks, &n, &conf->domains[i], &conf->domains[i].old, "old");
    }
    run_hops(checks, n);
    for (size_t i = 0; i < n; i++) {
        struct hop_check *check = &checks[i];
        bool up = check->probe && probe_state(check->probe) == PROBE_UP;
        const char *why = check->probe ? probe_error(check->probe) : check->error;
        doctor_say(doctor, up ? FINDING_OK : FINDING_FAIL, "next hop", "%s of %s, %s: %s",
                   check->key, check->domain, check->hop->text,
                   up ? "answers SMTP" : why);
        if (!up)
            doctor_fix(doctor, "sluice.conf", "domain \"%s\" { %s = \"[host]:port\" }",
                       check->domain, check->key);
        probe_free(check->probe);
    }
    if (n == HOPS_MAX)
        doctor_say(doctor, FINDING_WARN, "next hop", "only the first %d were asked",
                   HOPS_MAX);
    free(checks);
}
