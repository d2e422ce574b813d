/*
 * redis: a blocking Redis client (see redis.h).
 *
 * Protocol: RESP2 <https://redis.io/docs/reference/protocol-spec/>. Commands
 * are written in their wire form by redis_arg(); replies are parsed by
 * hiredis' reader. The socket is non-blocking and every wait is a poll(2) up
 * to one absolute deadline, so that a server that trickles bytes cannot
 * stretch it. While a long pipeline is being sent replies are read too, or
 * both ends would wait for each other.
 *
 * Connections: opened on demand, with AUTH from the configuration; an idle one
 * is looked at before use, since a Redis that was restarted meanwhile is no
 * reason for an uncertain write. A failure closes the connection.
 *
 * Limits: a host name in "tcp:host:port" is resolved by getaddrinfo(3), whose
 * waits are resolv.conf's. So it is resolved once and again only after a
 * connection to the known address has failed; use an address where DNS may
 * be down.
 */
#include "config.h"

#include "redis.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

/* A reply is read in pieces of this size. */
#define READ_SIZE 65536

/* Addresses of one host name that are tried ("localhost" has two). */
#define ADDRESSES_MAX 4

struct redis {
    struct conf *conf;
    int fd; /* -1: not connected */
    redisReader *reader;
    int timeout_ms;   /* of the current deadline, for messages */
    int64_t deadline; /* monotonic ms */
    char *out;
    size_t out_len, out_sent, out_size;
    bool out_failed; /* out of memory while queueing */
    size_t queued;   /* commands in out or under way, without a reply yet */
    redisReply **replies;
    size_t reply_count, reply_size;
    struct address { /* where the endpoint is; the one that worked is first */
        struct sockaddr_storage storage;
        socklen_t len;
    } addresses[ADDRESSES_MAX];
    size_t address_count; /* 0: not resolved */
    char error[640];
};

/* ---- arguments ------------------------------------------------------- */

static bool reserve(char **buf, size_t *size, size_t need)
{
    if (need <= *size)
        return true;
    size_t larger = *size ? *size : 1024;
    while (larger < need) {
        if (larger > SIZE_MAX / 2)
            return false;
        larger *= 2;
    }
    char *grown = realloc(*buf, larger);
    if (!grown)
        return false;
    *buf = grown;
    *size = larger;
    return true;
}

void redis_args_reset(struct redis_args *args)
{
    args->len = args->count = 0;
    args->failed = false;
}

void redis_args_free(struct redis_args *args)
{
    free(args->buf);
    *args = (struct redis_args){ 0 };
}

/* Writes number in decimal and returns its length. */
static size_t decimal(uint64_t number, char out[20])
{
    char digits[20];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + number % 10);
    while (number /= 10);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

/* Reserves the argument "$len\r\n...\r\n" and returns where its bytes go. */
static char *open_arg(struct redis_args *args, size_t len)
{
    /* '$', 20 digits, two line ends */
    if (args->failed || len > SIZE_MAX / 4 ||
        !reserve(&args->buf, &args->size, args->len + len + 25)) {
        args->failed = true;
        return NULL;
    }
    char *at = args->buf + args->len;
    *at++ = '$';
    at += decimal(len, at);
    *at++ = '\r';
    *at++ = '\n';
    char *data = at;
    at += len;
    *at++ = '\r';
    *at++ = '\n';
    args->len = (size_t)(at - args->buf);
    args->count++;
    return data;
}

void redis_arg(struct redis_args *args, const void *data, size_t len)
{
    char *at = open_arg(args, len);
    if (at && len)
        memcpy(at, data, len);
}

void redis_arg_text(struct redis_args *args, const char *text)
{
    redis_arg(args, text, strlen(text));
}

void redis_arg_key(struct redis_args *args, const char *prefix, const char *name)
{
    size_t prefix_len = strlen(prefix), name_len = strlen(name);
    char *at = open_arg(args, prefix_len + name_len);
    if (at) {
        memcpy(at, prefix, prefix_len);
        memcpy(at + prefix_len, name, name_len);
    }
}

void redis_arg_number(struct redis_args *args, uint64_t number)
{
    char text[20];
    redis_arg(args, text, decimal(number, text));
}

void redis_args_words(struct redis_args *args, const char *word, ...)
{
    redis_args_reset(args);
    va_list words;
    va_start(words, word);
    for (; word; word = va_arg(words, const char *))
        redis_arg_text(args, word);
    va_end(words);
}

/* ---- the handle ------------------------------------------------------ */

struct redis *redis_new(struct conf *conf)
{
    struct redis *redis = calloc(1, sizeof(*redis));
    if (!redis)
        abort(); /* at start-up, a few hundred bytes */
    redis->conf = conf_ref(conf);
    redis->fd = -1;
    return redis;
}

static void drop_replies(struct redis *redis)
{
    for (size_t i = 0; i < redis->reply_count; i++)
        freeReplyObject(redis->replies[i]);
    redis->reply_count = 0;
}

void redis_close(struct redis *redis)
{
    if (redis->fd >= 0)
        close(redis->fd);
    redis->fd = -1;
    if (redis->reader)
        redisReaderFree(redis->reader);
    redis->reader = NULL;
    redis->out_len = redis->out_sent = redis->queued = 0;
    redis->out_failed = false;
}

void redis_free(struct redis *redis)
{
    if (!redis)
        return;
    redis_close(redis);
    drop_replies(redis);
    free(redis->replies);
    free(redis->out);
    conf_unref(redis->conf);
    free(redis);
}

void redis_extend(struct redis *redis, int timeout_ms)
{
    redis->timeout_ms = timeout_ms;
    redis->deadline = clock_ms() + timeout_ms;
}

/* A server that closed or sent something unasked for. */
static bool connection_is_stale(const struct redis *redis)
{
    char byte;
    ssize_t n = recv(redis->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return !(n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
}

void redis_begin(struct redis *redis, int timeout_ms)
{
    drop_replies(redis);
    if (redis->queued > 0 || redis->out_failed ||
        (redis->fd >= 0 && connection_is_stale(redis)))
        redis_close(redis);
    redis_extend(redis, timeout_ms);
}

const char *redis_error(const struct redis *redis)
{
    return redis->error;
}

__attribute__((format(printf, 2, 3))) static void fail(struct redis *redis,
                                                       const char *fmt, ...)
{
    char text[384];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args); /* a message may be cut */
    va_end(args);
    const char *where = redis->conf->redis.text ? redis->conf->redis.text : "?";
    snprintf(redis->error, sizeof(redis->error), "Redis at %.*s %s", 120, where, text);
    redis_close(redis);
}

static void fail_timeout(struct redis *redis)
{
    fail(redis, "does not answer within %d ms", redis->timeout_ms);
}

/* ---- sending and receiving ------------------------------------------- */

/* Waits for events on the socket until the deadline; false: failed. */
static bool wait_for(struct redis *redis, short events, short *got)
{
    for (;;) {
        int64_t left = redis->deadline - clock_ms();
        struct pollfd pfd = { .fd = redis->fd, .events = events };
        int n = poll(&pfd, 1, left > 0 ? (int)left : 0);
        if (n > 0) {
            *got = pfd.revents;
            return true;
        }
        if (n == 0 && left <= 0) {
            fail_timeout(redis);
            return false;
        }
        if (n < 0 && errno != EINTR) {
            fail(redis, "cannot be waited for: %s", strerror(errno));
            return false;
        }
    }
}

static bool write_some(struct redis *redis)
{
    while (redis->out_sent < redis->out_len) {
        ssize_t n = send(redis->fd, redis->out + redis->out_sent,
                         redis->out_len - redis->out_sent, MSG_NOSIGNAL);
        if (n > 0) {
            redis->out_sent += (size_t)n;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return true;
        } else {
            fail(redis, "closed the connection: %s", strerror(errno));
            return false;
        }
    }
    redis->out_len = redis->out_sent = 0;
    return true;
}

static bool read_some(struct redis *redis)
{
    static _Thread_local char buf[READ_SIZE];
    ssize_t n = recv(redis->fd, buf, sizeof(buf), 0);
    if (n > 0) {
        if (redisReaderFeed(redis->reader, buf, (size_t)n) == REDIS_OK)
            return true;
        fail(redis, "sent what could not be stored: %s", redis->reader->errstr);
        return false;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return true;
    fail(redis, "closed the connection%s%s", n < 0 ? ": " : "",
         n < 0 ? strerror(errno) : "");
    return false;
}

static bool flush_out(struct redis *redis)
{
    if (!write_some(redis))
        return false;
    while (redis->out_sent < redis->out_len) {
        short got;
        if (!wait_for(redis, POLLIN | POLLOUT, &got))
            return false;
        if ((got & (POLLIN | POLLHUP | POLLERR)) && !read_some(redis))
            return false;
        if (!write_some(redis))
            return false;
    }
    return true;
}

/* The next reply, whatever it is; NULL: failed. */
static redisReply *next_reply(struct redis *redis)
{
    for (;;) {
        void *reply = NULL;
        if (redisReaderGetReply(redis->reader, &reply) != REDIS_OK) {
            fail(redis, "does not speak Redis' protocol: %s", redis->reader->errstr);
            return NULL;
        }
        if (reply)
            return reply;
        short got;
        if (!wait_for(redis, POLLIN, &got) || !read_some(redis))
            return NULL;
    }
}

/* ---- connecting ------------------------------------------------------ */

static bool resolve(struct redis *redis)
{
    const struct conf_endpoint *to = &redis->conf->redis;
    char port[8];
    snprintf(port, sizeof(port), "%u", (unsigned)to->port);
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC };
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(to->host, port, &hints, &found);
    if (rc != 0) {
        fail(redis, "cannot be found: %s", gai_strerror(rc));
        return false;
    }
    redis->address_count = 0;
    for (const struct addrinfo *at = found; at; at = at->ai_next) {
        if (redis->address_count == ADDRESSES_MAX)
            break;
        struct address *address = &redis->addresses[redis->address_count++];
        memcpy(&address->storage, at->ai_addr, at->ai_addrlen);
        address->len = at->ai_addrlen;
    }
    freeaddrinfo(found);
    return true;
}

static bool find_addresses(struct redis *redis)
{
    const struct conf_endpoint *to = &redis->conf->redis;
    if (!to->path && !to->host) {
        fail(redis, "is not configured: set redis in sluice.conf");
        return false;
    }
    if (redis->address_count > 0)
        return true;
    if (!to->path)
        return resolve(redis);
    struct sockaddr_un *un = (struct sockaddr_un *)&redis->addresses[0].storage;
    size_t len = strlen(to->path);
    if (len >= sizeof(un->sun_path)) {
        fail(redis, "cannot be reached: the socket path is longer than %zu bytes",
             sizeof(un->sun_path) - 1);
        return false;
    }
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, to->path, len + 1);
    redis->addresses[0].len = sizeof(*un);
    redis->address_count = 1;
    return true;
}

static bool finish_connect(struct redis *redis)
{
    short got;
    if (!wait_for(redis, POLLOUT, &got))
        return false;
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(redis->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0)
        return true;
    fail(redis, "cannot be reached: %s", strerror(error));
    return false;
}

static bool open_socket(struct redis *redis, const struct address *to)
{
    int family = to->storage.ss_family;
    redis->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    redis->reader = redisReaderCreate();
    if (redis->fd < 0 || !redis->reader) {
        fail(redis, "cannot be reached: %s", strerror(errno));
        return false;
    }
    if (family != AF_UNIX) {
        int on = 1; /* a lost option costs speed only */
        (void)setsockopt(redis->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void)setsockopt(redis->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    if (connect(redis->fd, (const struct sockaddr *)&to->storage, to->len) == 0)
        return true;
    if (errno == EINPROGRESS || errno == EINTR)
        return finish_connect(redis);
    fail(redis, "cannot be reached: %s", strerror(errno));
    return false;
}

static bool open_any(struct redis *redis)
{
    if (!find_addresses(redis))
        return false;
    for (size_t i = 0; i < redis->address_count; i++) {
        if (!open_socket(redis, &redis->addresses[i]))
            continue;
        struct address worked = redis->addresses[i];
        redis->addresses[i] = redis->addresses[0];
        redis->addresses[0] = worked;
        return true;
    }
    redis->address_count = 0; /* resolve again next time */
    return false;
}

static bool authenticate(struct redis *redis)
{
    if (!redis->conf->redis_password)
        return true;
    struct redis_args args = { 0 };
    redis_arg_text(&args, "AUTH");
    if (redis->conf->redis_user)
        redis_arg_text(&args, redis->conf->redis_user);
    redis_arg_text(&args, redis->conf->redis_password);
    redis_command(redis, &args);
    if (args.buf)
        explicit_bzero(args.buf, args.len);
    redis_args_free(&args);
    if (redis->out_failed) {
        fail(redis, "cannot be asked: out of memory");
        return false;
    }
    redisReply *reply = flush_out(redis) ? next_reply(redis) : NULL;
    if (!reply)
        return false;
    redis->queued--;
    bool ok = reply->type != REDIS_REPLY_ERROR;
    if (!ok)
        fail(redis, "refuses user and password (redis-user, redis-password-file): %s",
             reply->str);
    freeReplyObject(reply);
    return ok;
}

/* Opens a connection, with the queued commands set aside meanwhile. */
static bool connect_now(struct redis *redis)
{
    char *out = redis->out;
    size_t len = redis->out_len, size = redis->out_size, queued = redis->queued;
    redis->out = NULL;
    redis->out_len = redis->out_size = redis->queued = 0;
    bool ok = open_any(redis) && authenticate(redis);
    free(redis->out);
    redis->out = out;
    redis->out_size = size;
    redis->out_len = ok ? len : 0;
    redis->queued = ok ? queued : 0;
    return ok;
}

/* ---- commands -------------------------------------------------------- */

static void queue_bytes(struct redis *redis, const char *head, size_t head_len,
                        const struct redis_args *args)
{
    size_t need = redis->out_len + head_len + args->len;
    if (args->failed || !reserve(&redis->out, &redis->out_size, need)) {
        redis->out_failed = true;
        return;
    }
    memcpy(redis->out + redis->out_len, head, head_len);
    if (args->len)
        memcpy(redis->out + redis->out_len + head_len, args->buf, args->len);
    redis->out_len = need;
    redis->queued++;
}

void redis_command(struct redis *redis, const struct redis_args *args)
{
    char head[24];
    int n = snprintf(head, sizeof(head), "*%zu\r\n", args->count);
    queue_bytes(redis, head, (size_t)n, args);
}

void redis_script(struct redis *redis, const struct redis_script *script,
                  const struct redis_args *args)
{
    char head[128];
    int n = snprintf(head, sizeof(head),
                     "*%zu\r\n$7\r\nEVALSHA\r\n$40\r\n%.40s\r\n$1\r\n0\r\n",
                     args->count + 3, script->sha);
    queue_bytes(redis, head, (size_t)n, args);
}

enum redis_result redis_script_load(struct redis *redis, struct redis_script *script)
{
    if (script->sha[0])
        return REDIS_DONE;
    struct redis_args args = { 0 };
    redis_args_words(&args, "SCRIPT", "LOAD", script->text, (char *)NULL);
    redis_command(redis, &args);
    redis_args_free(&args);
    enum redis_result result = redis_run(redis);
    if (result != REDIS_DONE)
        return REDIS_UNSENT; /* a script that is not run has no effect */
    size_t len = 0;
    const struct resp *reply = redis_reply(redis, redis->reply_count - 1);
    const char *text = resp_text(reply, &len);
    if (resp_type(reply) != RESP_TEXT || len != 40) {
        fail(redis, "does not take our script: %s", text ? text : "no SHA-1");
        return REDIS_UNSENT;
    }
    memcpy(script->sha, text, 41);
    drop_replies(redis);
    return REDIS_DONE;
}

enum redis_result redis_send(struct redis *redis)
{
    if (redis->out_failed) {
        fail(redis, "cannot be asked: out of memory");
        return REDIS_UNSENT;
    }
    if (redis->fd < 0 && !connect_now(redis))
        return REDIS_UNSENT;
    return flush_out(redis) ? REDIS_DONE : REDIS_LOST;
}

/* Appends the next reply. */
static enum redis_result receive(struct redis *redis)
{
    if (redis->fd < 0 || redis->queued == 0) {
        if (redis->fd >= 0)
            fail(redis, "was asked for a reply too many");
        return REDIS_LOST;
    }
    if (redis->reply_count == redis->reply_size) {
        size_t larger = redis->reply_size ? redis->reply_size * 2 : 16;
        redisReply **grown = realloc(redis->replies, larger * sizeof(*grown));
        if (!grown) {
            fail(redis, "cannot be read: out of memory");
            return REDIS_LOST;
        }
        redis->replies = grown;
        redis->reply_size = larger;
    }
    redisReply *reply = next_reply(redis);
    if (!reply)
        return REDIS_LOST;
    redis->queued--;
    redis->replies[redis->reply_count++] = reply;
    return REDIS_DONE;
}

enum redis_result redis_receive(struct redis *redis, const struct resp **out)
{
    drop_replies(redis);
    enum redis_result result = receive(redis);
    *out = redis_reply(redis, 0);
    return result;
}

enum redis_result redis_run(struct redis *redis)
{
    enum redis_result result = redis_send(redis);
    while (result == REDIS_DONE && redis->queued > 0)
        result = receive(redis);
    return result;
}

/* ---- replies --------------------------------------------------------- */

size_t redis_reply_count(const struct redis *redis)
{
    return redis->reply_count;
}

const struct resp *redis_reply(const struct redis *redis, size_t i)
{
    return i < redis->reply_count ? (const struct resp *)redis->replies[i] : NULL;
}

static const redisReply *unwrap(const struct resp *resp)
{
    return (const redisReply *)resp;
}

enum resp_type resp_type(const struct resp *resp)
{
    if (!resp)
        return RESP_NIL;
    switch (unwrap(resp)->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        return RESP_TEXT;
    case REDIS_REPLY_INTEGER:
        return RESP_INTEGER;
    case REDIS_REPLY_ARRAY:
        return RESP_ARRAY;
    case REDIS_REPLY_ERROR:
        return RESP_ERROR;
    default:
        return RESP_NIL;
    }
}

const char *resp_text(const struct resp *resp, size_t *len)
{
    enum resp_type type = resp_type(resp);
    bool is_text = type == RESP_TEXT || type == RESP_ERROR;
    if (len)
        *len = is_text ? (size_t)unwrap(resp)->len : 0;
    return is_text ? unwrap(resp)->str : NULL;
}

int64_t resp_integer(const struct resp *resp)
{
    return resp_type(resp) == RESP_INTEGER ? unwrap(resp)->integer : 0;
}

bool resp_number(const struct resp *resp, uint64_t *out)
{
    if (resp_type(resp) == RESP_INTEGER) {
        *out = (uint64_t)unwrap(resp)->integer;
        return unwrap(resp)->integer >= 0;
    }
    const char *text = resp_type(resp) == RESP_TEXT ? resp_text(resp, NULL) : NULL;
    if (!text || text[0] < '0' || text[0] > '9')
        return false;
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

size_t resp_count(const struct resp *resp)
{
    return resp_type(resp) == RESP_ARRAY ? unwrap(resp)->elements : 0;
}

const struct resp *resp_at(const struct resp *resp, size_t i)
{
    return i < resp_count(resp) ? (const struct resp *)unwrap(resp)->element[i] : NULL;
}

bool resp_is_error(const struct resp *resp, const char *word)
{
    const char *text = resp_type(resp) == RESP_ERROR ? resp_text(resp, NULL) : NULL;
    size_t len = strlen(word);
    return text && strncmp(text, word, len) == 0 &&
           (text[len] == ' ' || text[len] == '\0');
}
