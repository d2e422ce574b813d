/*
 * listener: listening sockets and accept loops.
 *
 * At most ACCEPTS_PER_TURN connections are accepted in one loop turn, so that a
 * flood of new clients does not keep the old ones waiting. When no more fit
 * (the maximum is reached, or accept(2) says EMFILE, ENFILE, ENOBUFS, ENOMEM),
 * the listener pauses for a moment instead of spinning on a socket that stays
 * readable; clients wait in the kernel's queue. Said at most once a minute.
 */
#include "listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon.h"
#include "log.h"

#define ACCEPTS_PER_TURN 32
#define PAUSE_MS         100
#define SAY_EVERY        60 /* seconds */

struct listener {
    struct conns *conns;
    const struct service *service;
    struct event *ready, *resume;
    int fd;
    size_t max;
    time_t said;
};

/* ---- sockets -------------------------------------------------------------- */

static int fail(int fd, char *error, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static int fail(int fd, char *error, size_t size, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(error, size, fmt, args) < 0 && size > 0)
        error[0] = '\0';
    va_end(args);
    if (fd >= 0)
        close(fd);
    return -1;
}

static int unix_socket(const char *path, const char *key, gid_t group, char *error,
                       size_t size)
{
    struct sockaddr_un at;
    char wrong[512];
    if (!daemon_clear_path(path, &at, wrong, sizeof(wrong)))
        return fail(-1, error, size, "%s: %s", key, wrong);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(-1, error, size, "%s: socket: %s", key, strerror(errno));
    mode_t mask = umask(0117);
    int bound = bind(fd, (const struct sockaddr *)&at, sizeof(at));
    int saved = errno;
    umask(mask);
    if (bound != 0 && saved == ENOENT)
        return fail(fd, error, size,
                    "%s: %s: its directory does not exist: create it, reachable for "
                    "the MTA and for nobody else",
                    key, path);
    if (bound != 0)
        return fail(fd, error, size, "%s: %s: %s", key, path, strerror(saved));
    if (lchown(path, (uid_t)-1, group) != 0)
        return fail(fd, error, size, "%s: %s: cannot give it to group %lu: %s", key, path,
                    (unsigned long)group, strerror(errno));
    if (listen(fd, SOMAXCONN) != 0)
        return fail(fd, error, size, "%s: %s: %s", key, path, strerror(errno));
    return fd;
}

static int tcp_socket(const struct conf_endpoint *at, const char *key, char *error,
                      size_t size)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
    struct addrinfo *found = NULL;
    char port[8];
    if (snprintf(port, sizeof(port), "%u", (unsigned)at->port) < 0)
        port[0] = '\0';
    int error_code = getaddrinfo(at->host, port, &hints, &found);
    if (error_code != 0)
        return fail(-1, error, size, "%s: %s: %s", key, at->text,
                    gai_strerror(error_code));
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    bool good =
        fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        /* inherited by what is accepted */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
        bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0;
    int saved = errno;
    freeaddrinfo(found);
    if (good)
        return fd;
    return fail(fd, error, size, "%s: %s: %s%s", key, at->text, strerror(saved),
                saved == EADDRINUSE ? ": is sluice-policyd running already?" : "");
}

int listener_socket(const struct conf_endpoint *at, const char *key, gid_t group,
                    char *error, size_t error_size)
{
    return at->path ? unix_socket(at->path, key, group, error, error_size)
                    : tcp_socket(at, key, error, error_size);
}

bool listener_is_local(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof(at);
    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0)
        return false;
    if (at.ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)&at)->sin_addr.s_addr) >> 24 == 127;
    if (at.ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&at)->sin6_addr);
    return at.ss_family == AF_UNIX;
}

/* ---- accepting ------------------------------------------------------------ */

static void pause_accepting(struct listener *l, const char *why)
{
    static const struct timeval delay = { .tv_usec = PAUSE_MS * 1000 };
    time_t now = time(NULL);
    if (!l->said || now - l->said >= SAY_EVERY) {
        l->said = now;
        log_warnx("%zu connections, no more are accepted: %s", conns_count(l->conns),
                  why);
    }
    event_del(l->ready);
    event_add(l->resume, &delay);
}

static void on_resume(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct listener *l = context;
    event_add(l->ready, NULL);
}

static void on_client(evutil_socket_t fd, short what, void *context)
{
    (void)what;
    struct listener *l = context;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        if (conns_count(l->conns) >= l->max) {
            pause_accepting(l, "the limit of open files is reached (ulimit -n)");
            return;
        }
        int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                pause_accepting(l, strerror(errno));
            /* Anything else is one client's: EAGAIN, ECONNABORTED, EPERM. */
            return;
        }
        if (!conns_add(l->conns, l->service, client)) {
            pause_accepting(l, "no memory");
            return;
        }
    }
}

struct listener *listener_new(struct event_base *base, struct conns *conns,
                              const struct service *service, int fd, size_t max)
{
    struct listener *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->conns = conns;
    l->service = service;
    l->fd = fd;
    l->max = max;
    l->ready = event_new(base, fd, EV_READ | EV_PERSIST, on_client, l);
    l->resume = event_new(base, -1, 0, on_resume, l);
    if (!l->ready || !l->resume || event_add(l->ready, NULL) != 0) {
        listener_free(l);
        return NULL;
    }
    return l;
}

void listener_free(struct listener *l)
{
    if (!l)
        return;
    if (l->ready)
        event_free(l->ready);
    if (l->resume)
        event_free(l->resume);
    close(l->fd);
    free(l);
}
