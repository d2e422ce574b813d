/*
 * milter_load: a load generator for milters: the MTA's side of the protocol
 * (version 6) as Postfix 3.7 speaks it, without an MTA.
 *
 *     milter_load [-c CONNECTIONS] [-n MESSAGES] [-p PER_CONNECTION]
 *                 [-a CLIENT] [-h HELO] [-f SENDER] [-u] [-r RECIPIENT]
 *                 [-e TEXT]... SOCKET[,SOCKET] FILE...
 *
 * One thread and epoll. On each of the connections one message is under way, a
 * FILE (LF lines) in turn. With two sockets each message goes through one filter
 * after the other, the second one sees the headers that the first one added.
 * Events are left out and replies not waited for as the filter negotiated;
 * commands without reply leave in one write, as from Postfix. With -p a
 * connection serves so many messages (default 1: an SMTP session each). -u gives
 * every message another sender domain: u<number>.<domain of SENDER>.
 *
 * Prints one JSON object. `bad` counts messages that were not accepted,
 * `expected` those whose added headers hold every TEXT. Exit 0, 1 when a message
 * was bad or held not what was expected, 2 when the load could not be made.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <libmilter/mfapi.h>
#include <libmilter/mfdef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FILTERS_MAX  2
#define EXPECTED_MAX 8
#define HEADERS_MAX  256
#define ADDED_MAX    16384
#define OUT_MAX      (1 << 20)
#define IN_MAX       (1 << 18)
#define BUCKETS      2000000 /* of 1 microsecond */
#define EVENTS_MAX   256
#define CHUNK        65535
#define OFFERED      0x1fffffUL /* all that version 6 has, as Postfix does */
#define ACTIONS      0x1ffUL

struct header {
    const char *name, *value; /* the value with its leading white space */
};

struct message {
    struct header headers[HEADERS_MAX];
    size_t count;
    char *body; /* CR LF lines */
    size_t body_len;
};

struct filter {
    const char *path;
    bool known;                  /* it has negotiated once */
    char *macros[SMFIM_EOH + 1]; /* the lists it asked for, or NULL */
};

enum step { NEGOTIATE, CONNECT, HELO, MAIL, RCPT, DATA, HEADERS, EOH, BODY, EOM, DONE };

struct link {
    int fd; /* -1: not connected */
    unsigned served;
    uint32_t flags; /* SMFIP_* of this connection */
    enum step step;
    size_t header;
    unsigned char *out, *in;
    size_t out_len, in_len;
};

struct slot {
    struct link links[FILTERS_MAX];
    size_t filter; /* the one that has the message */
    const struct message *message;
    uint64_t number;
    int64_t began; /* ns */
    bool bad;
    char added[ADDED_MAX]; /* name NUL value NUL ... of this message */
    size_t added_len;
};

static struct {
    int connections;
    uint64_t messages, per_connection;
    const char *client, *helo, *sender, *recipient;
    bool unique;
    const char *expected[EXPECTED_MAX];
    size_t expected_count, filter_count;
} o = { .connections = 10,
        .messages = 10000,
        .per_connection = 1,
        .client = "192.0.2.25",
        .helo = "mail.senders.test",
        .sender = "someone@senders.test",
        .recipient = "somebody@example.net" };

static struct filter filters[FILTERS_MAX];
static struct message *messages;
static size_t message_count;
static uint32_t histogram[BUCKETS + 1];
static uint64_t begun, ended, bad, expected;
static int poll_fd;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "milter_load: %s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(2);
}

/* ---- messages ------------------------------------------------------------ */

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;
    if (!file || getdelim(&text, &size, '\0', file) <= 0)
        fail(path);
    fclose(file);
    return text;
}

static void read_body(struct message *m, const char *text)
{
    m->body = malloc(2 * strlen(text) + 1);
    if (!m->body)
        fail("memory");
    for (; *text; text++) {
        if (*text == '\n')
            m->body[m->body_len++] = '\r';
        m->body[m->body_len++] = *text;
    }
}

static void read_message(struct message *m, const char *path)
{
    char *line = read_file(path);
    while (*line && *line != '\n') {
        char *end = strchr(line, '\n');
        while (end && (end[1] == ' ' || end[1] == '\t'))
            end = strchr(end + 1, '\n');
        char *colon = strchr(line, ':');
        if (!end || !colon || colon > end || m->count == HEADERS_MAX)
            fail(path);
        *end = *colon = '\0';
        m->headers[m->count++] = (struct header){ line, colon + 1 };
        line = end + 1;
    }
    read_body(m, *line ? line + 1 : line);
}

/* ---- the protocol -------------------------------------------------------- */

static void put(struct link *l, const void *data, size_t len)
{
    if (l->out_len + len > OUT_MAX) {
        errno = EMSGSIZE;
        fail("a message");
    }
    memcpy(l->out + l->out_len, data, len);
    l->out_len += len;
}

static void put32(struct link *l, uint32_t value)
{
    uint32_t wire = htonl(value);
    put(l, &wire, sizeof(wire));
}

static void put_text(struct link *l, const char *text)
{
    put(l, text, strlen(text) + 1);
}

/* A command's length is known at its end. */
static size_t begin(struct link *l, char command)
{
    size_t at = l->out_len;
    put32(l, 0);
    put(l, &command, 1);
    return at;
}

static void end(struct link *l, size_t at)
{
    uint32_t len = htonl((uint32_t)(l->out_len - at - 4));
    memcpy(l->out + at, &len, sizeof(len));
}

static bool is_wanted(const struct filter *f, int stage, const char *name)
{
    const char *list = f->macros[stage];
    return !list || strstr(list, name);
}

/* The macros that Postfix has at this stage, as far as they are wanted. */
static void put_macros(struct slot *s, struct link *l, char command, int stage)
{
    const struct filter *f = &filters[s->filter];
    char id[32];
    const char *pairs[10];
    size_t n = 0;
    snprintf(id, sizeof(id), "4XJ%012" PRIX64, s->number);
    if (stage == SMFIM_CONNECT) {
        const char *all[] = { "j",          "bench.test", "{daemon_name}",
                              "bench.test", "v",          "Postfix 3.7.11" };
        for (size_t i = 0; i < 6; i += 2)
            if (is_wanted(f, stage, all[i])) {
                pairs[n++] = all[i];
                pairs[n++] = all[i + 1];
            }
    } else if (stage == SMFIM_ENVFROM) {
        if (is_wanted(f, stage, "{mail_addr}")) {
            pairs[n++] = "{mail_addr}";
            pairs[n++] = o.sender;
        }
    } else if (stage != SMFIM_HELO && is_wanted(f, stage, "i")) {
        pairs[n++] = "i";
        pairs[n++] = id;
    }
    if (n == 0)
        return;
    size_t at = begin(l, SMFIC_MACRO);
    put(l, &command, 1);
    for (size_t i = 0; i < n; i++)
        put_text(l, pairs[i]);
    end(l, at);
}

static void put_connect(struct link *l)
{
    size_t at = begin(l, SMFIC_CONNECT);
    uint16_t port = htons(40000);
    bool six = strchr(o.client, ':');
    char family = six ? SMFIA_INET6 : SMFIA_INET;
    char address[80];
    snprintf(address, sizeof(address), "%s%s", six ? "IPv6:" : "", o.client);
    put_text(l, "unknown");
    put(l, &family, 1);
    put(l, &port, sizeof(port));
    put_text(l, address);
    end(l, at);
}

static void put_envelope(struct link *l, char command, const char *address)
{
    char bracketed[600];
    snprintf(bracketed, sizeof(bracketed), "<%s>", address);
    size_t at = begin(l, command);
    put_text(l, bracketed);
    end(l, at);
}

static void put_mail(struct slot *s, struct link *l)
{
    char sender[500];
    const char *domain = strchr(o.sender, '@');
    if (!o.unique || !domain) {
        put_envelope(l, SMFIC_MAIL, o.sender);
        return;
    }
    snprintf(sender, sizeof(sender), "%.*s@u%" PRIu64 ".%s", (int)(domain - o.sender),
             o.sender, s->number, domain + 1);
    put_envelope(l, SMFIC_MAIL, sender);
}

/* Without SMFIP_HDR_LEADSPC Postfix leaves out one blank. */
static void put_header(struct link *l, const char *name, const char *value)
{
    size_t at = begin(l, SMFIC_HEADER);
    put_text(l, name);
    put_text(l, !(l->flags & SMFIP_HDR_LEADSPC) && *value == ' ' ? value + 1 : value);
    end(l, at);
}

/* The n-th field, those that the first filter added first. */
static bool nth_header(const struct slot *s, size_t n, const char **name,
                       const char **value)
{
    size_t at = 0;
    if (s->filter > 0)
        for (; at < s->added_len; n--) {
            *name = s->added + at;
            *value = *name + strlen(*name) + 1;
            if (n == 0)
                return true;
            at = (size_t)(*value - s->added) + strlen(*value) + 1;
        }
    if (n >= s->message->count)
        return false;
    *name = s->message->headers[n].name;
    *value = s->message->headers[n].value;
    return true;
}

/* What of each step the filter may leave out, and whether it answers. */
static const struct {
    uint32_t leave_out, no_reply;
    char command;
    int stage;
} rules[] = {
    [CONNECT] = { SMFIP_NOCONNECT, SMFIP_NR_CONN, SMFIC_CONNECT, SMFIM_CONNECT },
    [HELO] = { SMFIP_NOHELO, SMFIP_NR_HELO, SMFIC_HELO, SMFIM_HELO },
    [MAIL] = { SMFIP_NOMAIL, SMFIP_NR_MAIL, SMFIC_MAIL, SMFIM_ENVFROM },
    [RCPT] = { SMFIP_NORCPT, SMFIP_NR_RCPT, SMFIC_RCPT, SMFIM_ENVRCPT },
    [DATA] = { SMFIP_NODATA, SMFIP_NR_DATA, SMFIC_DATA, SMFIM_DATA },
    [HEADERS] = { SMFIP_NOHDRS, SMFIP_NR_HDR, SMFIC_HEADER, SMFIM_EOH },
    [EOH] = { SMFIP_NOEOH, SMFIP_NR_EOH, SMFIC_EOH, SMFIM_EOH },
    [BODY] = { SMFIP_NOBODY, SMFIP_NR_BODY, SMFIC_BODY, SMFIM_EOM },
    [EOM] = { 0, 0, SMFIC_BODYEOB, SMFIM_EOM },
};

static void put_plain(struct link *l, char command, const void *data, size_t len)
{
    size_t at = begin(l, command);
    put(l, data, len);
    end(l, at);
}

/* Puts the step's next command; false when the step has no more of them. */
static bool put_step(struct slot *s, struct link *l)
{
    const char *name, *value;
    const struct message *m = s->message;
    if (l->step == HEADERS) {
        if (!nth_header(s, l->header, &name, &value))
            return false;
        l->header++;
        put_header(l, name, value);
        return true;
    }
    put_macros(s, l, rules[l->step].command, rules[l->step].stage);
    if (l->step == CONNECT)
        put_connect(l);
    else if (l->step == HELO)
        put_plain(l, SMFIC_HELO, o.helo, strlen(o.helo) + 1);
    else if (l->step == MAIL)
        put_mail(s, l);
    else if (l->step == RCPT)
        put_envelope(l, SMFIC_RCPT, o.recipient);
    else if (l->step == BODY)
        put_plain(l, SMFIC_BODY, m->body, m->body_len < CHUNK ? m->body_len : CHUNK);
    else
        put_plain(l, rules[l->step].command, "", 0);
    return true;
}

static void flush(struct link *l)
{
    size_t sent = 0;
    while (sent < l->out_len) {
        ssize_t n = send(l->fd, l->out + sent, l->out_len - sent, MSG_NOSIGNAL);
        if (n <= 0)
            fail("the filter closed a connection");
        sent += (size_t)n;
    }
    l->out_len = 0;
}

/* Goes on until a reply is to be waited for, or the message is done. */
static void advance(struct slot *s, struct link *l)
{
    while (l->step != DONE) {
        if (l->flags & rules[l->step].leave_out || !put_step(s, l)) {
            l->step++;
            continue;
        }
        bool waits = !(l->flags & rules[l->step].no_reply);
        if (waits) {
            flush(l);
            return;
        }
        if (l->step != HEADERS)
            l->step++;
    }
}

/* ---- connections --------------------------------------------------------- */

static void open_link(struct slot *s, struct link *l)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    const char *path = filters[s->filter].path;
    struct epoll_event want = { .events = EPOLLIN, .data.ptr = s };
    if (strlen(path) >= sizeof(at.sun_path)) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    memcpy(at.sun_path, path, strlen(path) + 1);
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while (l->fd >= 0 && connect(l->fd, (struct sockaddr *)&at, sizeof(at)) != 0) {
        if (errno != EAGAIN)
            fail(path);
        usleep(1000); /* the backlog is full */
    }
    if (l->fd < 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, l->fd, &want) != 0)
        fail("socket");
    l->served = 0;
    l->in_len = l->out_len = 0;
}

static void close_link(struct link *l)
{
    put_plain(l, SMFIC_QUIT, "", 0);
    flush(l);
    close(l->fd);
    l->fd = -1;
}

/* The message goes to the slot's present filter. */
static void start_filter(struct slot *s)
{
    struct link *l = &s->links[s->filter];
    l->header = 0;
    if (l->fd >= 0) {
        l->step = MAIL;
        advance(s, l);
        return;
    }
    open_link(s, l);
    l->step = NEGOTIATE;
    size_t at = begin(l, SMFIC_OPTNEG);
    put32(l, SMFI_PROT_VERSION);
    put32(l, ACTIONS);
    put32(l, OFFERED);
    end(l, at);
    flush(l);
}

static void start_message(struct slot *s)
{
    if (begun == o.messages)
        return;
    s->number = begun++;
    s->message = &messages[s->number % message_count];
    s->filter = 0;
    s->added_len = 0;
    s->bad = false;
    s->began = now_ns();
    start_filter(s);
}

static bool is_expected(const struct slot *s)
{
    for (size_t i = 0; i < o.expected_count; i++) {
        if (memmem(s->added, s->added_len, o.expected[i], strlen(o.expected[i])))
            continue;
        if (expected == ended - 1) {
            fprintf(stderr, "milter_load: first message without %s: ", o.expected[i]);
            for (size_t at = 0; at < s->added_len; at++)
                fputc(s->added[at] ? s->added[at] : '|', stderr);
            fputc('\n', stderr);
        }
        return false;
    }
    return true;
}

static void end_filter(struct slot *s)
{
    struct link *l = &s->links[s->filter];
    if (++l->served >= o.per_connection)
        close_link(l);
    if (!s->bad && ++s->filter < o.filter_count) {
        start_filter(s);
        return;
    }
    int64_t us = (now_ns() - s->began) / 1000;
    histogram[us < BUCKETS ? us : BUCKETS]++;
    ended++;
    bad += s->bad;
    expected += is_expected(s);
    start_message(s);
}

/* ---- replies ------------------------------------------------------------- */

static uint32_t get32(const unsigned char *data)
{
    uint32_t wire;
    memcpy(&wire, data, sizeof(wire));
    return ntohl(wire);
}

static void take_negotiation(struct slot *s, struct link *l, const unsigned char *data,
                             size_t len)
{
    struct filter *f = &filters[s->filter];
    if (len < 12)
        fail("the filter's negotiation");
    l->flags = get32(data + 8);
    for (size_t at = 12; !f->known && at + 4 < len;) {
        uint32_t stage = get32(data + at);
        const char *list = (const char *)data + at + 4;
        if (stage <= SMFIM_EOH)
            f->macros[stage] = strndup(list, len - at - 4);
        at += 4 + strnlen(list, len - at - 4) + 1;
    }
    f->known = true;
    l->step = CONNECT;
}

/* "name NUL value NUL", behind an index when it is an insertion. */
static void take_added(struct slot *s, const unsigned char *data, size_t len, size_t skip)
{
    if (len < skip || len - skip > ADDED_MAX - s->added_len)
        return;
    memcpy(s->added + s->added_len, data + skip, len - skip);
    s->added_len += len - skip;
}

/* One packet. Returns whether the link still waits in the same state. */
static void take_reply(struct slot *s, struct link *l, char reply,
                       const unsigned char *data, size_t len)
{
    switch (reply) {
    case SMFIC_OPTNEG:
        take_negotiation(s, l, data, len);
        break;
    case SMFIR_CONTINUE:
    case SMFIR_SKIP:
        if (l->step != HEADERS)
            l->step++;
        break;
    case SMFIR_ACCEPT:
        l->step = DONE;
        break;
    case SMFIR_INSHEADER:
        take_added(s, data, len, 4);
        return;
    case SMFIR_ADDHEADER:
        take_added(s, data, len, 0);
        return;
    case SMFIR_REJECT:
    case SMFIR_TEMPFAIL:
    case SMFIR_DISCARD:
    case SMFIR_REPLYCODE:
        if (bad == 0 && !s->bad)
            fprintf(stderr, "milter_load: first bad answer: %c %.*s\n", reply, (int)len,
                    (const char *)data);
        s->bad = true;
        l->step = DONE;
        break;
    default:
        return; /* other changes of the message, progress */
    }
    if (l->step != DONE)
        advance(s, l);
    if (l->step == DONE)
        end_filter(s);
}

static void receive(struct slot *s)
{
    struct link *l = &s->links[s->filter];
    ssize_t n = recv(l->fd, l->in + l->in_len, IN_MAX - l->in_len, 0);
    if (n <= 0)
        fail("the filter closed a connection");
    l->in_len += (size_t)n;
    size_t at = 0;
    while (l->in_len - at >= 5) {
        uint32_t len = get32(l->in + at);
        if (len == 0 || len > IN_MAX - 4)
            fail("the filter's reply");
        if (l->in_len - at < 4 + len)
            break;
        const unsigned char *packet = l->in + at + 4;
        at += 4 + len;
        bool last = at == l->in_len;
        if (last) /* a link that is closed below begins anew */
            l->in_len = at = 0;
        take_reply(s, l, (char)packet[0], packet + 1, len - 1);
        if (last)
            return;
    }
    memmove(l->in, l->in + at, l->in_len - at);
    l->in_len -= at;
}

/* ---- the run ------------------------------------------------------------- */

static double percentile(double share)
{
    uint64_t wanted = (uint64_t)((double)ended * share), seen = 0;
    if (wanted == 0)
        wanted = 1;
    for (int i = 0; i <= BUCKETS; i++) {
        seen += histogram[i];
        if (seen >= wanted)
            return (double)i / 1000;
    }
    return (double)BUCKETS / 1000;
}

static struct slot *new_slots(void)
{
    struct slot *slots = calloc((size_t)o.connections, sizeof(*slots));
    if (!slots)
        fail("memory");
    for (int i = 0; i < o.connections; i++)
        for (size_t f = 0; f < o.filter_count; f++) {
            slots[i].links[f] =
                (struct link){ .fd = -1, .out = malloc(OUT_MAX), .in = malloc(IN_MAX) };
            if (!slots[i].links[f].out || !slots[i].links[f].in)
                fail("memory");
        }
    return slots;
}

static void run(void)
{
    struct slot *slots = new_slots();
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (poll_fd < 0)
        fail("epoll");
    int64_t start = now_ns();
    for (int i = 0; i < o.connections; i++)
        start_message(&slots[i]);
    while (ended < o.messages) {
        struct epoll_event ready[EVENTS_MAX];
        int n = epoll_wait(poll_fd, ready, EVENTS_MAX, 30000);
        if (n == 0) {
            errno = ETIMEDOUT;
            fail("no answer for 30 s");
        }
        for (int i = 0; i < n; i++)
            receive(ready[i].data.ptr);
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    printf("{\"messages\":%" PRIu64 ",\"connections\":%d,\"seconds\":%.4f,"
           "\"per_second\":%.1f,\"bad\":%" PRIu64 ",\"expected\":%" PRIu64
           ",\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n",
           ended, o.connections, seconds, (double)ended / seconds, bad, expected,
           percentile(0.5), percentile(0.99));
}

static uint64_t number(const char *text)
{
    char *rest;
    unsigned long long value = strtoull(text, &rest, 10);
    if (*rest || value < 1 || value > 100000000) {
        fprintf(stderr, "milter_load: not a number: %s\n", text);
        exit(2);
    }
    return value;
}

static void usage(void)
{
    fprintf(stderr, "usage: milter_load [-c N] [-n MESSAGES] [-p PER_CONNECTION] "
                    "[-a CLIENT] [-h HELO]\n    [-f SENDER] [-u] [-r RECIPIENT] "
                    "[-e TEXT]... SOCKET[,SOCKET] FILE...\n");
    exit(2);
}

static void read_options(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "c:n:p:a:h:f:ur:e:")) != -1) {
        if (option == 'c')
            o.connections = (int)number(optarg);
        else if (option == 'n')
            o.messages = number(optarg);
        else if (option == 'p')
            o.per_connection = number(optarg);
        else if (option == 'a')
            o.client = optarg;
        else if (option == 'h')
            o.helo = optarg;
        else if (option == 'f')
            o.sender = optarg;
        else if (option == 'u')
            o.unique = true;
        else if (option == 'r')
            o.recipient = optarg;
        else if (option == 'e' && o.expected_count < EXPECTED_MAX)
            o.expected[o.expected_count++] = optarg;
        else
            usage();
    }
    if (argc - optind < 2)
        usage();
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    for (char *path = strtok(argv[optind], ","); path; path = strtok(NULL, ",")) {
        if (o.filter_count == FILTERS_MAX)
            usage();
        filters[o.filter_count++].path = path;
    }
    message_count = (size_t)(argc - optind - 1);
    messages = calloc(message_count, sizeof(*messages));
    if (!messages)
        fail("memory");
    for (size_t i = 0; i < message_count; i++)
        read_message(&messages[i], argv[optind + 1 + (int)i]);
    run();
    return bad > 0 || expected < ended ? 1 : 0;
}
