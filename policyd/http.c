/*
 * http: a server for GET and HEAD on libevent's events. evhttp of libevent 2.1 is not
 * used: it cannot limit the number of clients, nor the whole time of a request (its
 * time limit begins anew with each byte), and it answers errors by itself, without
 * our headers.
 *
 * Limits: HTTP_CLIENTS_MAX connections; when one more comes, the one that has waited
 * longest for the rest of a request goes, so slow clients keep nobody out. A head has
 * HEAD_MS, an answer WRITE_MS, an idle connection IDLE_MS, each as a whole; one
 * connection REQUESTS_MAX requests. Of an answer SEND_MAX bytes leave in one turn of
 * the loop, which serves Postfix. A wrong password is answered after WRONG_MS.
 */
#include "http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "clock.h"
#include "http_request.h"
#include "log.h"
#include "page.h"

#define HEAD_MS          10000
#define WRITE_MS         60000
#define IDLE_MS          60000
#define WRONG_MS         1000
#define PAUSE_MS         100
#define REQUESTS_MAX     1000
#define SEND_MAX         (256 * 1024)
#define ACCEPTS_PER_TURN 8
#define ANSWER_HEAD_MAX  2048

enum state { READING, PAUSED, WRITING };

struct client {
    TAILQ_ENTRY(client) all;
    struct http *http;
    struct event *event; /* libevent's, not lib/home.h's */
    int fd;
    enum state state;
    int64_t due_ms;
    unsigned requests;
    bool keep;
    char input[HTTP_HEAD_MAX];
    size_t input_len;
    char head[ANSWER_HEAD_MAX];
    char small[600]; /* a body of one line */
    const char *body;
    size_t head_len, body_len, sent;
    struct stats_page *page; /* that body points into, or NULL */
};
TAILQ_HEAD(client_list, client);

struct http {
    struct event_base *base;
    struct conf *conf;
    struct stats *stats;
    const struct lookups *lookups;
    struct event *ready, *resume;
    struct client_list clients;
    size_t count;
    int fd;
    char policy[PAGE_POLICY_MAX];
};

static void on_client_ready(evutil_socket_t fd, short what, void *context);

static void client_close(struct client *client)
{
    struct http *http = client->http;
    TAILQ_REMOVE(&http->clients, client, all);
    http->count--;
    if (client->event)
        event_free(client->event);
    close(client->fd);
    stats_page_unref(client->page);
    free(client);
}

/* Waits for what the state waits for, until due_ms. false: closed. */
static bool client_wait(struct client *client)
{
    int64_t left = client->due_ms - clock_ms();
    short what = client->state == READING   ? EV_READ
                 : client->state == WRITING ? EV_WRITE
                                            : 0;
    if (left < 1)
        left = 1;
    const struct timeval limit = { .tv_sec = (time_t)(left / 1000),
                                   .tv_usec = (suseconds_t)(left % 1000 * 1000) };
    event_del(client->event);
    if (event_assign(client->event, client->http->base, client->fd, what, on_client_ready,
                     client) == 0 &&
        event_add(client->event, &limit) == 0)
        return true;
    client_close(client);
    return false;
}

/* ---- answers ---------------------------------------------------------------------- */

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        { 200, "OK" },
        { 400, "Bad Request" },
        { 401, "Unauthorized" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 408, "Request Timeout" },
        { 413, "Content Too Large" },
        { 414, "URI Too Long" },
        { 421, "Misdirected Request" },
        { 431, "Request Header Fields Too Large" },
        { 503, "Service Unavailable" },
        { 505, "HTTP Version Not Supported" },
    };
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Error";
}

/* Fills the answer's head; body and body_len are set. */
static void answer_head(struct client *client, int status, const char *type, bool no_body)
{
    char date[40] = "";
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc))
        (void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &utc);
    /* Longer than the longest: the policy, and some 600 bytes. */
    int n = snprintf(
        client->head, sizeof(client->head),
        "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
        "%s%sConnection: %s\r\nCache-Control: no-store\r\n"
        "Content-Security-Policy: %s\r\nX-Frame-Options: DENY\r\n"
        "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
        "Cross-Origin-Resource-Policy: same-origin\r\n\r\n",
        status, reason_of(status), date, type, client->body_len,
        status == 405 ? "Allow: GET, HEAD\r\n" : "",
        status == 401 ? "WWW-Authenticate: Basic realm=\"sluice\", charset=\"UTF-8\"\r\n"
                      : "",
        client->keep ? "keep-alive" : "close", client->http->policy);
    client->head_len = n > 0 && (size_t)n < sizeof(client->head) ? (size_t)n : 0;
    client->sent = 0;
    if (no_body)
        client->body_len = 0;
}

static void answer_line(struct client *client, int status, const char *line, bool no_body)
{
    int n = snprintf(client->small, sizeof(client->small), "%.590s\n", line);
    client->body = client->small;
    client->body_len = n > 0 ? (size_t)n : 0;
    answer_head(client, status, "text/plain; charset=utf-8", no_body);
}

static void answer_health(struct client *client, bool no_body)
{
    const struct stats_page *page = client->page;
    const char *text = page ? page->health : "not ready";
    bool good = page && page->up;
    if (page && clock_ms() - page->made_ms > STATS_STALE_MS) {
        text = "the figures are old: Redis does not answer, or the host is overloaded";
        good = false;
    } else if (good && !lookups_up(client->http->lookups)) {
        text = "no lookups: mail for managed domains is tried later";
        good = false;
    }
    answer_line(client, good ? 200 : 503, text, no_body);
}

static void answer_text(struct client *client, const char *text, size_t len,
                        const char *type, bool no_body)
{
    client->body = text;
    client->body_len = len;
    answer_head(client, 200, type, no_body);
}

static void answer_request(struct client *client, const struct http_request *request)
{
    const char *path = request->path;
    bool no_body = request->head;
    if (strcmp(path, "/") == 0) {
        answer_text(client, page_text, page_len, "text/html; charset=utf-8", no_body);
        return;
    }
    client->page = stats_take(client->http->stats);
    const struct stats_page *page = client->page;
    if (strcmp(path, "/healthz") == 0)
        answer_health(client, no_body);
    else if (strcmp(path, "/status.json") != 0 && strcmp(path, "/metrics") != 0)
        answer_line(client, 404, "not here: /, /status.json, /metrics, /healthz",
                    no_body);
    else if (!page)
        answer_line(client, 503, "not ready: try again", no_body);
    else if (path[1] == 's')
        answer_text(client, page->json, page->json_len, "application/json", no_body);
    else
        answer_text(client, page->metrics, page->metrics_len,
                    "text/plain; version=0.0.4; charset=utf-8", no_body);
}

/* ---- one request --------------------------------------------------------------------
 */

static void begin_writing(struct client *client)
{
    client->state = WRITING;
    client->due_ms = clock_ms() + WRITE_MS;
}

/* no_body: the answer to HEAD, which has none whatever it is (RFC 9110 9.3.2). */
static void refuse(struct client *client, int status, const char *line, bool no_body)
{
    client->keep = false;
    answer_line(client, status, line, no_body);
    begin_writing(client);
}

static void take_request(struct client *client, const struct http_request *request)
{
    const struct conf *conf = client->http->conf;
    client->keep = request->keep && ++client->requests < REQUESTS_MAX;
    if (!request->get && !request->head) {
        refuse(client, 405, "reading only: GET and HEAD", false);
    } else if (!request->host[0]) {
        refuse(client, 400, "no Host", request->head);
    } else if (!http_request_host(conf, request->host)) {
        refuse(client, 421, "not a name of this server: see http-hosts in sluice.conf(5)",
               request->head);
    } else if (!http_request_allowed(conf, request->authorization)) {
        refuse(client, 401, "a password is needed", request->head);
        if (request->authorization[0]) {
            client->state = PAUSED;
            client->due_ms = clock_ms() + WRONG_MS;
        }
    } else {
        answer_request(client, request);
        begin_writing(client);
    }
}

/* Takes the next request of the input, if it is whole. */
static void take_input(struct client *client)
{
    struct http_request request;
    size_t used;
    int status = http_request_parse(client->input, client->input_len, &request, &used);
    if (status == 0)
        return;
    memmove(client->input, client->input + used, client->input_len - used);
    client->input_len -= used;
    if (status == 200)
        take_request(client, &request);
    else
        refuse(client, status, reason_of(status), request.head);
    explicit_bzero(&request, sizeof(request));
}

/* false: closed. */
static bool client_read(struct client *client)
{
    ssize_t got = recv(client->fd, client->input + client->input_len,
                       sizeof(client->input) - client->input_len, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got <= 0) {
        client_close(client);
        return false;
    }
    if (client->input_len == 0)
        client->due_ms = clock_ms() + HEAD_MS;
    client->input_len += (size_t)got;
    take_input(client);
    return true;
}

/* The answer is out. false: closed. */
static bool client_next(struct client *client)
{
    stats_page_unref(client->page);
    client->page = NULL;
    if (!client->keep) {
        /* What it still sends is not read: the answer must arrive all the same. */
        (void)shutdown(client->fd, SHUT_WR);
        char rest[4096];
        for (int i = 0; i < 16 && recv(client->fd, rest, sizeof(rest), MSG_DONTWAIT) > 0;)
            i++;
        client_close(client);
        return false;
    }
    client->state = READING;
    client->due_ms = clock_ms() + (client->input_len > 0 ? HEAD_MS : IDLE_MS);
    take_input(client);
    return true;
}

/* false: closed. */
static bool client_write(struct client *client)
{
    struct iovec parts[2];
    size_t head_sent = client->sent < client->head_len ? client->sent : client->head_len;
    size_t body_sent = client->sent - head_sent, left = client->body_len - body_sent;
    parts[0].iov_base = client->head + head_sent;
    parts[0].iov_len = client->head_len - head_sent;
    /* sendmsg(2) only reads. */
    parts[1].iov_base = (void *)(uintptr_t)(client->body + body_sent);
    parts[1].iov_len = left < SEND_MAX ? left : SEND_MAX;
    const struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    ssize_t sent = sendmsg(client->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        client_close(client);
        return false;
    }
    client->sent += sent > 0 ? (size_t)sent : 0;
    if (client->sent < client->head_len + client->body_len)
        return true;
    return client_next(client);
}

static void on_client_ready(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    struct client *client = context;
    bool open = true;
    if (client->state == PAUSED && what & EV_TIMEOUT) {
        begin_writing(client);
    } else if (clock_ms() >= client->due_ms) {
        client_close(client); /* too slow; an idle one needs no word */
        return;
    } else if (what & EV_READ) {
        open = client_read(client);
    } else if (what & EV_WRITE) {
        open = client_write(client);
    }
    if (open)
        client_wait(client);
}

/* ---- clients -------------------------------------------------------------------------
 */

/* Makes room: of those that we wait for, the one that began first; then any. */
static void drop_one(struct http *http)
{
    struct client *client, *victim = NULL;
    TAILQ_FOREACH(client, &http->clients, all)
    {
        bool better = client->state != WRITING;
        if (!victim || (better && victim->state == WRITING) ||
            (better == (victim->state != WRITING) && client->due_ms < victim->due_ms))
            victim = client;
    }
    if (victim)
        client_close(victim);
}

static void add_client(struct http *http, int fd)
{
    if (http->count >= HTTP_CLIENTS_MAX)
        drop_one(http);
    struct client *client = calloc(1, sizeof(*client));
    if (!client) {
        close(fd);
        return;
    }
    client->http = http;
    client->fd = fd;
    client->due_ms = clock_ms() + HEAD_MS;
    TAILQ_INSERT_TAIL(&http->clients, client, all);
    http->count++;
    client->event = event_new(http->base, fd, EV_READ, on_client_ready, client);
    if (!client->event)
        client_close(client);
    else
        client_wait(client);
}

static void on_resume(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct http *http = context;
    event_add(http->ready, NULL);
}

static void on_connection(evutil_socket_t fd, short what, void *context)
{
    static const struct timeval pause = { .tv_usec = PAUSE_MS * 1000 };
    (void)what;
    struct http *http = context;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client >= 0) {
            add_client(http, client);
        } else {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
                errno == ENOMEM) {
                event_del(http->ready);
                event_add(http->resume, &pause);
            }
            return;
        }
    }
}

/* ---- life
 * ------------------------------------------------------------------------------ */

struct http *http_new(struct event_base *base, struct conf *conf, struct stats *stats,
                      const struct lookups *lookups, int fd)
{
    struct http *http = calloc(1, sizeof(*http));
    if (!http) {
        log_warn("http");
        close(fd);
        return NULL;
    }
    http->base = base;
    http->conf = conf_ref(conf);
    http->stats = stats;
    http->lookups = lookups;
    http->fd = fd;
    TAILQ_INIT(&http->clients);
    http->ready = event_new(base, fd, EV_READ | EV_PERSIST, on_connection, http);
    http->resume = event_new(base, -1, 0, on_resume, http);
    bool policy = page_policy(page_text, http->policy);
    if (policy && http->ready && http->resume && event_add(http->ready, NULL) == 0)
        return http;
    log_warnx("http: cannot start: %s", policy ? "out of memory" : "the page is damaged");
    http_free(http);
    return NULL;
}

void http_reload(struct http *http, struct conf *conf)
{
    struct conf *old = http->conf;
    /* The new file may need none for its own address; what we listen on stays. */
    if (old->http.password && !conf->http.password) {
        log_warnx("http-password-file has gone: restart sluice-policyd to serve the "
                  "status page without a password; until then the old one is asked for");
        return;
    }
    http->conf = conf_ref(conf);
    conf_unref(old);
}

void http_free(struct http *http)
{
    if (!http)
        return;
    struct client *client;
    while ((client = TAILQ_FIRST(&http->clients)))
        client_close(client);
    if (http->ready)
        event_free(http->ready);
    if (http->resume)
        event_free(http->resume);
    close(http->fd);
    conf_unref(http->conf);
    free(http);
}
