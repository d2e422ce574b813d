/*
 * dns_wire: one DNS message and its answer (see dns_wire.h).
 *
 * Why not ldns' own: its time limit begins anew with every byte that a server
 * sends by TCP, and over UDP it takes the first packet for the answer. Here
 * one moment ends everything, the socket is connected (the kernel drops what
 * other hosts send), and a packet with another id is passed over.
 */
#include "dns_wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "command.h"

#define HEADER_LEN 12 /* RFC 1035 4.1.1 */

struct wire {
    int fd;
    int64_t end;     /* clock_ms() */
    unsigned others; /* packets that were no answer to the question */
    char *error;
    size_t error_size;
};

static bool fail(const struct wire *wire, const char *what)
{
    snprintf(wire->error, wire->error_size, "%s", what);
    return false;
}

/* Until the socket is ready for events; false: error is set. */
static bool wait_for(const struct wire *wire, short events)
{
    for (;;) {
        struct pollfd poll_fd = { .fd = wire->fd, .events = events };
        int64_t left = wire->end - clock_ms();
        if (command_stopped())
            return fail(wire, "interrupted");
        int ready = left > 0 ? command_poll(&poll_fd, 1, (int)left) : 0;
        if (ready > 0)
            return true;
        if (ready == 0)
            return fail(wire, wire->others > 0
                                  ? "no answer in time, only packets with a wrong id"
                                  : "no answer in time");
        if (errno != EINTR)
            return fail(wire, strerror(errno));
    }
}

static socklen_t to_sockaddr(const struct netaddr *address, uint16_t port,
                             struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (address->family == AF_INET) {
        struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
        memcpy(&four.sin_addr, address->bytes, 4);
        memcpy(out, &four, sizeof(four));
        return sizeof(four);
    }
    struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    memcpy(&six.sin6_addr, address->bytes, 16);
    memcpy(out, &six, sizeof(six));
    return sizeof(six);
}

static bool open_socket(struct wire *wire, const struct netaddr *address, uint16_t port,
                        bool tcp)
{
    struct sockaddr_storage to;
    socklen_t len = to_sockaddr(address, port, &to);
    int type = (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
    wire->fd = socket(to.ss_family, type, 0);
    if (wire->fd < 0)
        return fail(wire, strerror(errno));
    if (connect(wire->fd, (const struct sockaddr *)&to, len) == 0)
        return true;
    if (errno != EINPROGRESS)
        return fail(wire, strerror(errno));
    if (!wait_for(wire, POLLOUT))
        return false;
    int wrong = 0;
    socklen_t size = sizeof(wrong);
    if (getsockopt(wire->fd, SOL_SOCKET, SO_ERROR, &wrong, &size) != 0 || wrong != 0)
        return fail(wire, strerror(wrong ? wrong : errno));
    return true;
}

static bool is_answer(const uint8_t *query, const uint8_t *answer, size_t len)
{
    return len >= HEADER_LEN && memcmp(query, answer, 2) == 0 && (answer[2] & 0x80);
}

static bool by_udp(struct wire *wire, const uint8_t *query, size_t query_len,
                   uint8_t *answer, size_t *answer_len)
{
    if (send(wire->fd, query, query_len, MSG_NOSIGNAL) != (ssize_t)query_len)
        return fail(wire, strerror(errno));
    for (;;) {
        if (!wait_for(wire, POLLIN))
            return false;
        ssize_t n = recv(wire->fd, answer, DNS_WIRE_MAX, 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return fail(wire, strerror(errno));
        *answer_len = (size_t)n;
        if (is_answer(query, answer, (size_t)n))
            return true;
        wire->others++;
    }
}

static bool send_all(const struct wire *wire, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(wire->fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return fail(wire, strerror(errno));
        if (n < 0 && !wait_for(wire, POLLOUT))
            return false;
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static bool receive_all(const struct wire *wire, uint8_t *bytes, size_t len)
{
    while (len > 0) {
        if (!wait_for(wire, POLLIN))
            return false;
        ssize_t n = recv(wire->fd, bytes, len, 0);
        if (n == 0)
            return fail(wire, "the server closed the connection");
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return fail(wire, strerror(errno));
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
    return true;
}

/* RFC 1035 4.2.2: two bytes of length go before each message. */
static bool by_tcp(struct wire *wire, const uint8_t *query, size_t query_len,
                   uint8_t *answer, size_t *answer_len)
{
    uint8_t head[2] = { (uint8_t)(query_len >> 8), (uint8_t)query_len };
    if (!send_all(wire, head, 2) || !send_all(wire, query, query_len) ||
        !receive_all(wire, head, 2))
        return false;
    *answer_len = (size_t)head[0] << 8 | head[1];
    if (!receive_all(wire, answer, *answer_len))
        return false;
    return is_answer(query, answer, *answer_len) ||
           fail(wire, "an answer with a wrong id");
}

enum dns_wire_result dns_wire_ask(const struct netaddr *address, uint16_t port, bool tcp,
                                  const uint8_t *query, size_t query_len, int timeout_ms,
                                  uint8_t *answer, size_t *answer_len, char *error,
                                  size_t error_size)
{
    struct wire wire = {
        .fd = -1, .end = clock_ms() + timeout_ms, .error = error, .error_size = error_size
    };
    enum dns_wire_result result = DNS_WIRE_UNSENT;
    if (query_len < HEADER_LEN || query_len > DNS_WIRE_MAX)
        fail(&wire, "the message is too long for DNS");
    else if (open_socket(&wire, address, port, tcp))
        result = (tcp ? by_tcp : by_udp)(&wire, query, query_len, answer, answer_len)
                     ? DNS_WIRE_DONE
                     : DNS_WIRE_SILENT;
    if (wire.fd >= 0)
        close(wire.fd);
    return result;
}

bool dns_wire_route(const struct netaddr *address)
{
    struct sockaddr_storage to;
    socklen_t len = to_sockaddr(address, 53, &to);
    int fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && connect(fd, (const struct sockaddr *)&to, len) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}
