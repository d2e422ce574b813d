/*
 * load: a load generator for sluice-policyd's policy service and lookup tables.
 *
 *     load policy|map SOCKET [-c CONNECTIONS] [-s SECONDS] [-i IDLE]
 *                            [-d DOMAIN] [-n MAILBOXES] [-m MAP]
 *
 * One thread, one request in flight on each connection, as Postfix does it.
 * Recipients are u0..u(MAILBOXES-1)@DOMAIN in turn. IDLE more connections are
 * opened and left alone. Prints one JSON object; exit 1 when an answer was
 * neither an action nor a table's reply, 2 when the load could not be made.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define REQUESTS    1024 /* prepared, sent in turn */
#define REQUEST_MAX 2048
#define REPLY_MAX   4096
#define BUCKETS     200000 /* of 1 microsecond */
#define EVENTS      512

struct options {
    bool policy;
    const char *path, *domain, *map;
    int connections, seconds, idle, mailboxes;
};

struct client {
    int fd;
    int64_t sent; /* ns */
    size_t got;
    char reply[REPLY_MAX];
};

struct request {
    size_t len;
    char text[REQUEST_MAX];
};

static struct request requests[REQUESTS];
static uint32_t histogram[BUCKETS + 1];
static uint64_t answered, bad;
static int64_t worst;
static unsigned turn;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* What Postfix 3.7 sends at RCPT. */
static const char policy_form[] =
    "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\n"
    "client_address=192.0.2.17\nclient_name=mail.sender.example\nclient_port=41722\n"
    "reverse_client_name=mail.sender.example\nserver_address=192.0.2.1\n"
    "server_port=25\nhelo_name=mail.sender.example\nsender=someone@sender.example\n"
    "recipient=%s\nrecipient_count=0\nqueue_id=\ninstance=5d1f.6740a1b2.6a0c1.0\n"
    "size=24511\netrn_domain=\nstress=\nsasl_method=\nsasl_username=\nsasl_sender=\n"
    "ccert_subject=\nccert_issuer=\nccert_fingerprint=\nccert_pubkey_fingerprint=\n"
    "encryption_protocol=TLSv1.3\nencryption_cipher=TLS_AES_256_GCM_SHA384\n"
    "encryption_keysize=256\npolicy_context=\ncompatibility_level=3.6\n"
    "mail_version=3.7.11\n\n";

static void prepare(const struct options *o)
{
    for (int i = 0; i < REQUESTS; i++) {
        char address[300], query[400];
        int n;
        snprintf(address, sizeof(address), "u%d@%s", i % o->mailboxes, o->domain);
        if (o->policy) {
            n = snprintf(requests[i].text, REQUEST_MAX, policy_form, address);
        } else {
            int len = snprintf(query, sizeof(query), "%s %s", o->map, address);
            n = snprintf(requests[i].text, REQUEST_MAX, "%d:%s,", len, query);
        }
        requests[i].len = (size_t)n;
    }
}

static int open_client(const char *path)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket");
    if (strlen(path) >= sizeof(at.sun_path)) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    memcpy(at.sun_path, path, strlen(path) + 1);
    if (connect(fd, (const struct sockaddr *)&at, sizeof(at)) != 0)
        fail(path);
    return fd;
}

static void send_next(struct client *c)
{
    const struct request *r = &requests[turn++ % REQUESTS];
    c->got = 0;
    c->sent = now_ns();
    if (send(c->fd, r->text, r->len, MSG_NOSIGNAL) != (ssize_t)r->len)
        fail("send");
}

/* Whether the reply is complete. */
static bool is_whole(const struct client *c, bool policy)
{
    if (policy)
        return c->got >= 2 && memcmp(c->reply + c->got - 2, "\n\n", 2) == 0;
    char *colon = NULL;
    unsigned long len = strtoul(c->reply, &colon, 10);
    return colon && *colon == ':' && c->got >= (size_t)(colon - c->reply) + 1 + len + 1;
}

static bool is_good(const struct client *c, bool policy)
{
    if (policy)
        return strncmp(c->reply, "action=DUNNO\n", 13) == 0;
    const char *colon = strchr(c->reply, ':');
    return colon &&
           (strncmp(colon, ":OK ", 4) == 0 || strncmp(colon, ":NOTFOUND ", 10) == 0);
}

static void note(int64_t ns)
{
    int64_t us = ns / 1000;
    histogram[us < BUCKETS ? us : BUCKETS]++;
    if (ns > worst)
        worst = ns;
    answered++;
}

static void receive(struct client *c, bool policy)
{
    ssize_t n = recv(c->fd, c->reply + c->got, REPLY_MAX - 1 - c->got, 0);
    if (n <= 0)
        fail("the server closed a connection");
    c->got += (size_t)n;
    c->reply[c->got] = '\0';
    if (!is_whole(c, policy))
        return;
    note(now_ns() - c->sent);
    if (!is_good(c, policy) && bad++ == 0)
        fprintf(stderr, "load: first bad answer: %s\n", c->reply);
    send_next(c);
}

static double percentile(double share)
{
    uint64_t wanted = (uint64_t)((double)answered * share), seen = 0;
    for (int i = 0; i <= BUCKETS; i++) {
        seen += histogram[i];
        if (seen >= wanted)
            return (double)i / 1000;
    }
    return (double)BUCKETS / 1000;
}

static void raise_files(int wanted)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        fail("getrlimit");
    files.rlim_cur = (rlim_t)wanted < files.rlim_max ? (rlim_t)wanted : files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        fail("setrlimit");
}

static void run(const struct options *o)
{
    struct client *clients = calloc((size_t)o->connections, sizeof(*clients));
    int poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!clients || poll_fd < 0)
        fail("epoll");
    for (int i = 0; i < o->idle; i++)
        open_client(o->path);
    for (int i = 0; i < o->connections; i++) {
        struct epoll_event want = { .events = EPOLLIN, .data.ptr = &clients[i] };
        clients[i].fd = open_client(o->path);
        if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, clients[i].fd, &want) != 0)
            fail("epoll_ctl");
    }
    int64_t start = now_ns(), end = start + (int64_t)o->seconds * 1000000000;
    for (int i = 0; i < o->connections; i++)
        send_next(&clients[i]);
    while (now_ns() < end) {
        struct epoll_event ready[EVENTS];
        int n = epoll_wait(poll_fd, ready, EVENTS, 1000);
        for (int i = 0; i < n; i++)
            receive(ready[i].data.ptr, o->policy);
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    printf("{\"mode\":\"%s\",\"connections\":%d,\"idle\":%d,\"seconds\":%.2f,"
           "\"requests\":%" PRIu64 ",\"bad\":%" PRIu64 ",\"per_second\":%.0f,"
           "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f}\n",
           o->policy ? "policy" : "map", o->connections, o->idle, seconds, answered, bad,
           (double)answered / seconds, percentile(0.5), percentile(0.99),
           percentile(0.999), (double)worst / 1e6);
    free(clients);
}

static int number(const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || value < 0 || value > 1000000) {
        fprintf(stderr, "load: not a number: %s\n", text);
        exit(2);
    }
    return (int)value;
}

int main(int argc, char **argv)
{
    struct options o = { .domain = "example.com",
                         .map = "transport",
                         .connections = 50,
                         .seconds = 5,
                         .mailboxes = 1000 };
    int option;
    while ((option = getopt(argc, argv, "c:s:i:d:n:m:")) != -1) {
        switch (option) {
        case 'c':
            o.connections = number(optarg);
            break;
        case 's':
            o.seconds = number(optarg);
            break;
        case 'i':
            o.idle = number(optarg);
            break;
        case 'd':
            o.domain = optarg;
            break;
        case 'n':
            o.mailboxes = number(optarg);
            break;
        case 'm':
            o.map = optarg;
            break;
        default:
            return 2;
        }
    }
    if (argc - optind != 2 || o.connections < 1 || o.mailboxes < 1 ||
        (strcmp(argv[optind], "policy") != 0 && strcmp(argv[optind], "map") != 0)) {
        fprintf(stderr, "usage: load policy|map SOCKET [-c N] [-s SECONDS] [-i IDLE] "
                        "[-d DOMAIN] [-n MAILBOXES] [-m MAP]\n");
        return 2;
    }
    o.policy = strcmp(argv[optind], "policy") == 0;
    o.path = argv[optind + 1];
    raise_files(o.connections + o.idle + 64);
    prepare(&o);
    run(&o);
    return bad ? 1 : 0;
}
