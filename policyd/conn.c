/*
 * conn: connection objects of the policy service and the lookup tables.
 *
 * A client sends requests, one after the other or pipelined; each becomes a
 * request object in its connection's list, answered at once or after a lookup,
 * and the answers leave in the order of the requests. Answers of one loop turn
 * go out together at its end.
 *
 * An idle connection is a struct conn and nothing else: input is read into one
 * shared buffer, and only what is left of an unfinished request is kept.
 * libevent's bufferevents cost several times as much per request.
 *
 * Limits: REQUESTS_MAX unanswered requests per connection, then its input is
 * left in the kernel (so the client blocks); one read of READ_SIZE per turn; an
 * answer that the client does not read, an unfinished request and an idle
 * connection each have their time (in ticks of TICK seconds), then the
 * connection is closed. Malformed input closes it without an answer, after the
 * answers to what came before.
 *
 * The fence counts a lookup as answered when its answer is with the kernel or
 * its connection is closed (lookup_handed()).
 */
#include "conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "log.h"
#include "lookup.h"
#include "netstring.h"
#include "policy.h"
#include "socketmap.h"

#define READ_SIZE    16384
#define REQUESTS_MAX 64
#define SPARE_MAX    1024
#define TICK         10 /* seconds */
#define UNREAD_TICKS 3  /* an answer that the client does not read */
#define HALF_TICKS   10 /* smtpd_policy_service_timeout is 100 s */
#define IDLE_TICKS   60 /* Postfix closes its own after 300 s */

/* What may be left of the input: an unfinished request and a read. */
#define REST_MAX   (NETSTRING_MAX + 16 + READ_SIZE)
#define ANSWER_MAX (SOCKETMAP_REPLY_MAX + 16)

struct request {
    struct query query;
    struct conn *conn;               /* NULL: it is closed */
    const struct socketmap_map *map; /* of service_map */
    STAILQ_ENTRY(request) next;
    bool ready; /* answer is there */
    bool owed;  /* lookup_handed() is */
    size_t answer_len;
    char answer[ANSWER_MAX];
};

struct conn {
    struct event *event; /* libevent's, not lib/home.h's */
    struct conns *conns;
    const struct service *service;
    TAILQ_ENTRY(conn) all, dirty;
    STAILQ_HEAD(, request) requests;
    struct policy_request *policy; /* unfinished; NULL: none */
    char *rest;                    /* input not taken yet; NULL: none */
    size_t rest_len;
    size_t sent; /* of the first answer */
    int fd;
    unsigned tick;  /* of the last progress */
    unsigned count; /* of requests */
    short interest; /* EV_READ, EV_WRITE */
    bool is_dirty;
    bool blocked; /* the kernel takes no more output */
    bool stalled; /* rest holds whole requests, that wait for answers to others */
    bool ending;  /* no more input is taken; closes after the last answer */
};

TAILQ_HEAD(conn_list, conn);

struct conns {
    struct event_base *base;
    struct conf *conf;
    struct lookups *lookups;
    struct event *flush, *ticker;
    bool flush_wanted;
    struct conn_list all, dirty;
    STAILQ_HEAD(, request) spare;
    size_t spare_count, count;
    unsigned tick;
    void (*drained)(void *context);
    void *drained_context;
    struct policy_request policy;
    char input[REST_MAX + READ_SIZE];
};

enum taken {
    TAKEN_ANSWER, /* request->answer is ready */
    TAKEN_LOOKUP, /* request->query.route is prepared */
    TAKEN_MORE,   /* unfinished */
    TAKEN_BAD,    /* close */
};

struct service {
    /* The next request of the input; *consumed also for TAKEN_MORE. */
    enum taken (*take)(struct conn *conn, const char *buf, size_t len, size_t *consumed,
                       struct request *request);
    /* The route is finished: the answer. */
    void (*answer)(struct request *request);
};

static void conn_close(struct conn *conn);
static void mark_dirty(struct conn *conn);
static void on_ready(evutil_socket_t fd, short what, void *context);

/* ---- the policy service -------------------------------------------------- */

static void policy_set(struct request *request, enum verdict verdict, enum conf_hold hold)
{
    const char *text = policy_answer(verdict, hold, &request->answer_len);
    memcpy(request->answer, text, request->answer_len);
}

static enum taken policy_take(struct conn *conn, const char *buf, size_t len,
                              size_t *consumed, struct request *request)
{
    struct conns *conns = conn->conns;
    struct policy_request *policy = conn->policy ? conn->policy : &conns->policy;
    enum policy_parse parsed = policy_parse(policy, buf, len, consumed);
    enum taken taken = TAKEN_BAD;

    if (parsed == POLICY_MORE) {
        if (!conn->policy && policy->size > 0) {
            conn->policy = malloc(sizeof(*policy));
            if (!conn->policy) {
                policy_reset(policy);
                return TAKEN_BAD;
            }
            *conn->policy = *policy;
            policy_reset(policy);
        }
        return TAKEN_MORE;
    }
    if (parsed == POLICY_DONE) {
        taken = TAKEN_LOOKUP;
        if (!policy_wants_verdict(policy) ||
            !route_prepare(conns->conf, policy->recipient, policy->recipient_len,
                           &request->query.route)) {
            policy_set(request, VERDICT_NONE, conns->conf->hold);
            taken = TAKEN_ANSWER;
        }
    }
    policy_reset(policy);
    free(conn->policy);
    conn->policy = NULL;
    return taken;
}

static void policy_reply(struct request *request)
{
    policy_set(request, request->query.route.verdict, request->query.conf->hold);
}

const struct service service_policy = { policy_take, policy_reply };

/* ---- the lookup tables ---------------------------------------------------- */

static void map_set(struct request *request, const char *reply)
{
    /* ANSWER_MAX has room for the frame around the longest reply. */
    request->answer_len =
        netstring_format(request->answer, sizeof(request->answer), reply, strlen(reply));
}

static enum taken map_take(struct conn *conn, const char *buf, size_t len,
                           size_t *consumed, struct request *request)
{
    const char *payload;
    size_t payload_len;
    struct socketmap_request asked;
    char reply[SOCKETMAP_REPLY_MAX];

    *consumed = 0;
    switch (netstring_parse(buf, len, NETSTRING_MAX, &payload, &payload_len, consumed)) {
    case NETSTRING_MORE:
        *consumed = 0;
        return TAKEN_MORE;
    case NETSTRING_BAD:
        return TAKEN_BAD;
    case NETSTRING_DONE:
        break;
    }
    if (!socketmap_parse(payload, payload_len, &asked))
        return TAKEN_BAD;
    request->map = asked.map;
    if (socketmap_wants_lookup(&asked, conn->conns->conf, time(NULL),
                               &request->query.route, reply))
        return TAKEN_LOOKUP;
    map_set(request, reply);
    return TAKEN_ANSWER;
}

static void map_reply(struct request *request)
{
    char reply[SOCKETMAP_REPLY_MAX];
    socketmap_answer(request->map, &request->query.route, reply);
    map_set(request, reply);
}

const struct service service_map = { map_take, map_reply };

/* ---- requests ------------------------------------------------------------- */

static struct request *request_new(struct conns *conns)
{
    struct request *request = STAILQ_FIRST(&conns->spare);
    if (request) {
        STAILQ_REMOVE_HEAD(&conns->spare, next);
        conns->spare_count--;
    } else if (!(request = malloc(sizeof(*request)))) {
        return NULL;
    }
    request->query.conf = NULL;
    request->query.waiting = false;
    request->conn = NULL;
    request->map = NULL;
    request->ready = request->owed = false;
    request->answer_len = 0;
    return request;
}

static void request_free(struct conns *conns, struct request *request)
{
    conf_unref(request->query.conf);
    if (conns->spare_count >= SPARE_MAX) {
        free(request);
        return;
    }
    STAILQ_INSERT_HEAD(&conns->spare, request, next);
    conns->spare_count++;
}

static void request_finish(struct request *request)
{
    route_finish(request->query.conf, &request->query.route);
    request->conn->service->answer(request);
    request->ready = true;
    mark_dirty(request->conn);
}

static void on_looked_up(struct query *query)
{
    /* query is the first member. */
    struct request *request = (struct request *)(void *)query;
    if (request->conn) {
        request_finish(request);
        return;
    }
    conf_unref(query->conf);
    free(request);
}

static void request_look_up(struct conn *conn, struct request *request)
{
    struct conns *conns = conn->conns;
    request->query.conf = conf_ref(conns->conf);
    request->query.done = on_looked_up;
    request->owed = lookup_start(conns->lookups, &request->query);
    if (!request->owed)
        request_finish(request);
}

/* ---- input ---------------------------------------------------------------- */

/* Appends the next request of the input to the connection's list. */
static enum taken take_one(struct conn *conn, const char *buf, size_t len,
                           size_t *consumed)
{
    struct conns *conns = conn->conns;
    struct request *request = request_new(conns);
    if (!request)
        return TAKEN_BAD;
    enum taken taken = conn->service->take(conn, buf, len, consumed, request);
    if (taken == TAKEN_MORE || taken == TAKEN_BAD) {
        request_free(conns, request);
        return taken;
    }
    request->conn = conn;
    STAILQ_INSERT_TAIL(&conn->requests, request, next);
    conn->count++;
    if (taken == TAKEN_LOOKUP) {
        request_look_up(conn, request);
    } else {
        request->ready = true;
        mark_dirty(conn);
    }
    return taken;
}

/* No more input; closes when (or as soon as) everything is answered. */
static void end_input(struct conn *conn)
{
    conn->ending = true;
    free(conn->rest);
    conn->rest = NULL;
    conn->rest_len = 0;
    mark_dirty(conn);
}

static void keep_rest(struct conn *conn, const char *buf, size_t len)
{
    char *rest = NULL;
    if (len > 0) {
        rest = malloc(len);
        if (!rest) {
            end_input(conn);
            return;
        }
        memcpy(rest, buf, len);
    }
    free(conn->rest);
    conn->rest = rest;
    conn->rest_len = len;
}

static void take_input(struct conn *conn, const char *buf, size_t len)
{
    size_t used = 0;
    while (used < len && conn->count < REQUESTS_MAX) {
        size_t consumed = 0;
        enum taken taken = take_one(conn, buf + used, len - used, &consumed);
        if (taken == TAKEN_BAD) {
            end_input(conn);
            return;
        }
        used += consumed;
        if (taken == TAKEN_MORE)
            break;
    }
    conn->stalled = used < len && conn->count >= REQUESTS_MAX;
    if (used < len || conn->rest)
        keep_rest(conn, buf + used, len - used);
}

static void set_interest(struct conn *conn)
{
    short interest = conn->blocked ? EV_WRITE : 0;
    if (!conn->ending && !conn->blocked && !conn->stalled && conn->count < REQUESTS_MAX)
        interest |= EV_READ;
    if (interest == conn->interest)
        return;
    event_del(conn->event);
    conn->interest = interest;
    if (!interest)
        return;
    if (event_assign(conn->event, conn->conns->base, conn->fd,
                     (short)(interest | EV_PERSIST), on_ready, conn) != 0 ||
        event_add(conn->event, NULL) != 0)
        end_input(conn);
}

static void read_input(struct conn *conn)
{
    struct conns *conns = conn->conns;
    size_t before = conn->rest_len;
    ssize_t got = recv(conn->fd, conns->input + before, READ_SIZE, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        end_input(conn);
    } else {
        conn->tick = conns->tick;
        if (before)
            memcpy(conns->input, conn->rest, before);
        take_input(conn, conns->input, before + (size_t)got);
    }
    set_interest(conn);
}

/* ---- output --------------------------------------------------------------- */

/* Gathers the answers that may leave now. */
static int gather(const struct conn *conn, struct iovec *out)
{
    const struct request *request;
    int n = 0;
    STAILQ_FOREACH(request, &conn->requests, next)
    {
        if (!request->ready)
            break;
        size_t skip = n == 0 ? conn->sent : 0;
        /* sendmsg(2) only reads. */
        out[n].iov_base = (void *)(uintptr_t)(request->answer + skip);
        out[n].iov_len = request->answer_len - skip;
        n++;
    }
    return n;
}

/* The kernel has taken len bytes. */
static void note_sent(struct conn *conn, size_t len)
{
    struct conns *conns = conn->conns;
    if (len > 0)
        conn->tick = conns->tick;
    conn->sent += len;
    struct request *request;
    while ((request = STAILQ_FIRST(&conn->requests)) && request->ready &&
           conn->sent >= request->answer_len) {
        conn->sent -= request->answer_len;
        STAILQ_REMOVE_HEAD(&conn->requests, next);
        conn->count--;
        if (request->owed)
            lookup_handed(conns->lookups, &request->query);
        request_free(conns, request);
    }
}

/* false: the connection is dead. */
static bool send_answers(struct conn *conn)
{
    struct iovec parts[REQUESTS_MAX];
    struct msghdr message = { .msg_iov = parts };
    int n = gather(conn, parts);
    if (n == 0)
        return true;
    message.msg_iovlen = (size_t)n;
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += parts[i].iov_len;
    ssize_t sent =
        n == 1 ? send(conn->fd, parts[0].iov_base, total, MSG_NOSIGNAL | MSG_DONTWAIT)
               : sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return false;
    note_sent(conn, sent < 0 ? 0 : (size_t)sent);
    conn->blocked = sent < 0 || (size_t)sent < total;
    return true;
}

/* Sends what is ready, then takes input that had to wait. */
static void progress(struct conn *conn)
{
    if (!send_answers(conn) || (conn->ending && conn->count == 0)) {
        conn_close(conn);
        return;
    }
    if (conn->stalled && conn->rest && conn->count <= REQUESTS_MAX / 2) {
        struct conns *conns = conn->conns;
        size_t len = conn->rest_len;
        memcpy(conns->input, conn->rest, len);
        take_input(conn, conns->input, len);
    }
    set_interest(conn);
}

static void mark_dirty(struct conn *conn)
{
    struct conns *conns = conn->conns;
    if (conn->is_dirty)
        return;
    conn->is_dirty = true;
    TAILQ_INSERT_TAIL(&conns->dirty, conn, dirty);
    if (!conns->flush_wanted) {
        conns->flush_wanted = true;
        event_active(conns->flush, EV_TIMEOUT, 0);
    }
}

/* At the end of a loop turn. */
static void on_flush(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct conns *conns = context;
    struct conn *conn, *last = TAILQ_LAST(&conns->dirty, conn_list);
    conns->flush_wanted = false;
    bool more = last != NULL;
    while (more && (conn = TAILQ_FIRST(&conns->dirty))) {
        more = conn != last;
        TAILQ_REMOVE(&conns->dirty, conn, dirty);
        conn->is_dirty = false;
        progress(conn);
    }
}

static void on_ready(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    struct conn *conn = context;
    if (what & EV_WRITE) {
        conn->blocked = false;
        mark_dirty(conn);
    } else if (what & EV_READ) {
        read_input(conn);
    }
}

/* ---- life ----------------------------------------------------------------- */

static void conn_close(struct conn *conn)
{
    struct conns *conns = conn->conns;
    struct request *request;
    event_free(conn->event); /* before the descriptor goes */
    close(conn->fd);
    while ((request = STAILQ_FIRST(&conn->requests))) {
        STAILQ_REMOVE_HEAD(&conn->requests, next);
        if (request->owed)
            lookup_handed(conns->lookups, &request->query);
        request->conn = NULL;
        if (!request->query.waiting)
            request_free(conns, request);
    }
    if (conn->is_dirty)
        TAILQ_REMOVE(&conns->dirty, conn, dirty);
    TAILQ_REMOVE(&conns->all, conn, all);
    free(conn->policy);
    free(conn->rest);
    free(conn);
    if (--conns->count == 0 && conns->drained)
        conns->drained(conns->drained_context);
}

bool conns_add(struct conns *conns, const struct service *service, int fd)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    if (!conn) {
        close(fd);
        return false;
    }
    conn->conns = conns;
    conn->service = service;
    conn->fd = fd;
    conn->tick = conns->tick;
    conn->interest = EV_READ;
    STAILQ_INIT(&conn->requests);
    conn->event = event_new(conns->base, fd, EV_READ | EV_PERSIST, on_ready, conn);
    if (!conn->event || event_add(conn->event, NULL) != 0) {
        if (conn->event)
            event_free(conn->event);
        close(fd);
        free(conn);
        return false;
    }
    TAILQ_INSERT_TAIL(&conns->all, conn, all);
    conns->count++;
    return true;
}

size_t conns_count(const struct conns *conns)
{
    return conns->count;
}

static bool is_late(const struct conn *conn)
{
    unsigned quiet = conn->conns->tick - conn->tick;
    if (conn->blocked)
        return quiet > UNREAD_TICKS;
    if (conn->rest || conn->policy)
        return quiet > HALF_TICKS;
    return conn->count == 0 && quiet > IDLE_TICKS;
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct conns *conns = context;
    struct conn *next;
    conns->tick++;
    for (struct conn *conn = TAILQ_FIRST(&conns->all); conn; conn = next) {
        next = TAILQ_NEXT(conn, all);
        if (is_late(conn))
            conn_close(conn);
    }
}

struct conns *conns_new(struct event_base *base, struct conf *conf,
                        struct lookups *lookups)
{
    static const struct timeval tick = { .tv_sec = TICK };
    struct conns *conns = calloc(1, sizeof(*conns));
    if (!conns)
        return NULL;
    conns->base = base;
    conns->conf = conf_ref(conf);
    conns->lookups = lookups;
    TAILQ_INIT(&conns->all);
    TAILQ_INIT(&conns->dirty);
    STAILQ_INIT(&conns->spare);
    conns->flush = event_new(base, -1, 0, on_flush, conns);
    conns->ticker = event_new(base, -1, EV_PERSIST, on_tick, conns);
    if (!conns->flush || !conns->ticker || event_add(conns->ticker, &tick) != 0) {
        conns_free(conns);
        return NULL;
    }
    return conns;
}

void conns_free(struct conns *conns)
{
    if (!conns)
        return;
    conns->drained = NULL;
    struct conn *conn;
    while ((conn = TAILQ_FIRST(&conns->all)))
        conn_close(conn);
    if (conns->flush)
        event_free(conns->flush);
    if (conns->ticker)
        event_free(conns->ticker);
    struct request *request;
    while ((request = STAILQ_FIRST(&conns->spare))) {
        STAILQ_REMOVE_HEAD(&conns->spare, next);
        free(request);
    }
    conf_unref(conns->conf);
    free(conns);
}

void conns_reload(struct conns *conns, struct conf *conf)
{
    struct conf *old = conns->conf;
    conns->conf = conf_ref(conf);
    conf_unref(old);
}

void conns_drain(struct conns *conns, void (*done)(void *context), void *context)
{
    if (conns->count == 0) {
        done(context);
        return;
    }
    conns->drained = done;
    conns->drained_context = context;
    struct conn *conn;
    TAILQ_FOREACH(conn, &conns->all, all)
    {
        end_input(conn);
        set_interest(conn);
    }
}
