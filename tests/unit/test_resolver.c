/*
 * The resolver: with answers put in, and through libunbound against a little DNS
 * server in a thread of this program, which also does what no server should.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../milter/dnscache.h"
#include "../../milter/dnsdata.h"
#include "../../milter/resolver.h"
#include "clock.h"
#include "unit.h"

static const char *kind_name(enum answer_kind kind)
{
    static const char *const names[] = { [ANSWER_DATA] = "data",
                                         [ANSWER_NODATA] = "nodata",
                                         [ANSWER_NXDOMAIN] = "nxdomain",
                                         [ANSWER_FAILED] = "failed" };
    return names[kind];
}

static void sleep_ms(int ms)
{
    poll(NULL, 0, ms);
}

/* ---- the server ----------------------------------------------------------- */

/*
 * What it does is said by the first label of the name:
 *
 *   ok...        one record      ttl0...   the same with a TTL of 0
 *   lateN        after N ms      never     nothing
 *   nx..., nodata...             with a SOA whose minimum is 40
 *   servfail, refused            that
 *   trunc        TC over UDP, one record over TCP
 *   huge         600 A records   big       TXT records of 66,000 bytes together
 *   large        TXT records of 60,000 bytes together
 *   short        an A record of 3 bytes, a TXT record with a string too long
 *   chainN       CNAME to chain(N-1); chain0 has one record
 *   loopa, loopb CNAMEs to each other
 *   wrongid      an answer with another id, then the right one
 *   onlywrongid  an answer with another id
 *   garbage      its id, then bytes that mean nothing
 *   tiny         three bytes
 *   "a \xffb"     that very label: one record
 * Any other name: NXDOMAIN. All but "late" at once.
 */
#define PACKET_MAX 65535
#define LATE_MAX   64

struct late {
    int64_t due_ms;
    struct sockaddr_in to;
    size_t len;
    unsigned char packet[600];
};

static struct {
    int udp, tcp, stop[2];
    uint16_t port;
    pthread_t thread;
    atomic_int questions; /* of the types that sluice asks */
    atomic_int over_tcp;
    struct late late[LATE_MAX];
    size_t late_count;
} server;

struct packet {
    unsigned char bytes[PACKET_MAX + 8192];
    size_t len;
    size_t question_end;
    char name[256];
    int type;
};

static void append(struct packet *packet, const void *bytes, size_t len)
{
    memcpy(packet->bytes + packet->len, bytes, len);
    packet->len += len;
}

static void append16(struct packet *packet, unsigned value)
{
    unsigned char bytes[] = { (unsigned char)(value >> 8), (unsigned char)value };

    append(packet, bytes, 2);
}

/* Owner: the question's name. */
static void record_head(struct packet *packet, int type, int ttl, size_t len)
{
    append16(packet, 0xc00c);
    append16(packet, (unsigned)type);
    append16(packet, 1);
    append16(packet, 0);
    append16(packet, (unsigned)ttl);
    append16(packet, (unsigned)len);
}

static void add_answer(struct packet *packet, int type, int ttl, const void *data,
                       size_t len)
{
    record_head(packet, type, ttl, len);
    append(packet, data, len);
    unsigned count = (unsigned)packet->bytes[6] << 8 | packet->bytes[7];
    packet->bytes[6] = (unsigned char)((count + 1) >> 8);
    packet->bytes[7] = (unsigned char)(count + 1);
}

static void add_plain(struct packet *packet, int ttl)
{
    switch (packet->type) {
    case RR_A:
        add_answer(packet, RR_A, ttl, "\xc0\x00\x02\x01", 4);
        break;
    case RR_AAAA:
        add_answer(packet, RR_AAAA, ttl, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01",
                   16);
        break;
    case RR_TXT:
        add_answer(packet, RR_TXT, ttl, "\x07v=spf1 \x04-all", 13);
        break;
    case RR_MX: /* the exchange: "mx" and a pointer to the question's name */
        add_answer(packet, RR_MX, ttl, "\x00\x0a\x02mx\xc0\x0c", 7);
        break;
    case RR_PTR:
        add_answer(packet, RR_PTR, ttl,
                   "\x04host\x07"
                   "example\x00",
                   14);
        break;
    }
}

static void add_soa(struct packet *packet, int ttl, unsigned char minimum)
{
    static const unsigned char numbers[16] = { 0, 0, 0, 1, 0, 0, 1, 0,
                                               0, 0, 1, 0, 0, 0, 1, 0 };
    unsigned char least[4] = { 0, 0, 0, minimum };

    /* The owner is the question's name without its first label. */
    append16(packet, 0xc00c + 1u + packet->bytes[12]);
    append16(packet, 6);
    append16(packet, 1);
    append16(packet, 0);
    append16(packet, (unsigned)ttl);
    append16(packet, 2 + 16 + 4);
    append(packet, "\0", 2); /* both names: the root */
    append(packet, numbers, 16);
    append(packet, least, 4);
    packet->bytes[9] = 1;
}

static void add_cname(struct packet *packet, const char *label)
{
    unsigned char data[70];
    size_t len = strlen(label);
    size_t parent = 12 + 1 + (size_t)packet->bytes[12];

    data[0] = (unsigned char)len;
    memcpy(data + 1, label, len);
    data[len + 1] = 0xc0;
    data[len + 2] = (unsigned char)parent;
    add_answer(packet, 5, 300, data, len + 3);
}

static void add_texts(struct packet *packet, int count, size_t len)
{
    unsigned char text[256 * 200];

    for (int i = 0; i < count; i++) {
        memset(text, 'a' + i % 26, len);
        for (size_t at = 0; at < len; at += 256)
            text[at] = (unsigned char)(len - at > 256 ? 255 : len - at - 1);
        add_answer(packet, RR_TXT, 300, text, len);
    }
}

static bool begins(const struct packet *packet, const char *text)
{
    return strncmp(packet->name, text, strlen(text)) == 0;
}

static void answer_chain(struct packet *packet)
{
    int at = atoi(packet->name + 5);
    char next[32];

    if (at == 0) {
        add_plain(packet, 300);
        return;
    }
    snprintf(next, sizeof(next), "chain%d", at - 1);
    add_cname(packet, next);
}

static void rcode(struct packet *packet, unsigned char code)
{
    packet->bytes[3] = (unsigned char)((packet->bytes[3] & 0xf0) | code);
}

static void truncate_udp(struct packet *packet, bool tcp)
{
    if (tcp)
        return;
    packet->len = packet->question_end;
    memset(packet->bytes + 6, 0, 6);
    packet->bytes[2] |= 2;
}

static void fill(struct packet *packet, bool tcp)
{
    if (begins(packet, "ok") || begins(packet, "late") || begins(packet, "wrongid") ||
        begins(packet, "onlywrongid") || begins(packet, "trunc") ||
        begins(packet, "a \xff"
                       "b")) {
        add_plain(packet, begins(packet, "okttl2") ? 2 : 300);
    } else if (begins(packet, "ttl0")) {
        add_plain(packet, 0);
    } else if (begins(packet, "nodata")) {
        add_soa(packet, 3600, 40);
    } else if (begins(packet, "servfail")) {
        rcode(packet, 2);
    } else if (begins(packet, "refused")) {
        rcode(packet, 5);
    } else if (begins(packet, "huge")) {
        for (unsigned i = 0; i < 600; i++) {
            unsigned char address[] = { 10, 0, (unsigned char)(i >> 8),
                                        (unsigned char)i };
            add_answer(packet, RR_A, 300, address, 4);
        }
    } else if (begins(packet, "big")) {
        add_texts(packet, 257, 250);
    } else if (begins(packet, "large")) {
        add_texts(packet, 2, 25000);
    } else if (begins(packet, "short")) {
        add_answer(packet, packet->type, 300, "\xc0\x00\x02", 3);
    } else if (begins(packet, "chain")) {
        answer_chain(packet);
    } else if (begins(packet, "loopa")) {
        add_cname(packet, "loopb");
    } else if (begins(packet, "loopb")) {
        add_cname(packet, "loopa");
    } else {
        rcode(packet, 3);
        add_soa(packet, 3600, begins(packet, "nxlong") ? 255 : 40);
    }
    if (packet->len > 1200 || begins(packet, "trunc"))
        truncate_udp(packet, tcp);
}

/* The question's name as text, its labels as they are. false: not understood. */
static bool understand(struct packet *packet)
{
    size_t at = 12, to = 0;

    if (packet->len < 17 || packet->bytes[5] != 1)
        return false;
    while (at < packet->len && packet->bytes[at] != 0) {
        size_t label = packet->bytes[at++];
        if (label > 63 || at + label >= packet->len)
            return false;
        for (size_t i = 0; i < label; i++) {
            char c = (char)packet->bytes[at + i];
            packet->name[to++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        }
        packet->name[to++] = '.';
        at += label;
    }
    packet->name[to] = '\0';
    if (at + 5 > packet->len)
        return false;
    packet->type = packet->bytes[at + 1] << 8 | packet->bytes[at + 2];
    packet->question_end = at + 5;
    packet->len = at + 5;
    packet->bytes[2] = 0x85;
    packet->bytes[3] = 0x80;
    memset(packet->bytes + 6, 0, 6);
    bool ours = packet->type == RR_A || packet->type == RR_AAAA ||
                packet->type == RR_TXT || packet->type == RR_MX || packet->type == RR_PTR;
    if (ours)
        atomic_fetch_add(&server.questions, 1);
    return true;
}

static void send_udp(const void *bytes, size_t len, const struct sockaddr_in *to)
{
    (void)sendto(server.udp, bytes, len, 0, (const struct sockaddr *)to, sizeof(*to));
}

static void send_late(const struct packet *packet, const struct sockaddr_in *to)
{
    if (server.late_count == LATE_MAX || packet->len > sizeof(server.late[0].packet))
        return;
    struct late *late = &server.late[server.late_count++];
    late->due_ms = clock_ms() + atoi(packet->name + 4);
    late->to = *to;
    late->len = packet->len;
    memcpy(late->packet, packet->bytes, packet->len);
}

static int send_due(void)
{
    int64_t now = clock_ms(), next = now + 1000;

    for (size_t i = 0; i < server.late_count;) {
        struct late *late = &server.late[i];
        if (late->due_ms <= now) {
            send_udp(late->packet, late->len, &late->to);
            *late = server.late[--server.late_count];
            continue;
        }
        if (late->due_ms < next)
            next = late->due_ms;
        i++;
    }
    return (int)(next - now);
}

static void serve_udp(void)
{
    static struct packet packet;
    struct sockaddr_in from;
    socklen_t from_len = sizeof(from);

    ssize_t n = recvfrom(server.udp, packet.bytes, PACKET_MAX, 0,
                         (struct sockaddr *)&from, &from_len);
    if (n < 0)
        return;
    packet.len = (size_t)n;
    if (!understand(&packet) || begins(&packet, "never"))
        return;
    fill(&packet, false);
    if (begins(&packet, "garbage")) {
        memset(packet.bytes + 4, 0xee, 200);
        packet.len = 204;
    } else if (begins(&packet, "tiny")) {
        packet.len = 3;
    } else if (begins(&packet, "late")) {
        send_late(&packet, &from);
        return;
    } else if (strstr(packet.name, "wrongid")) {
        packet.bytes[0] ^= 0x55;
        send_udp(packet.bytes, packet.len, &from);
        packet.bytes[0] ^= 0x55;
        if (begins(&packet, "only"))
            return;
    }
    send_udp(packet.bytes, packet.len, &from);
}

static bool read_all(int fd, void *bytes, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = read(fd, (char *)bytes + done, len - done);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static void serve_tcp(void)
{
    static struct packet packet;
    const struct timeval limit = { .tv_sec = 2 };
    unsigned char head[2];
    int fd = accept(server.tcp, NULL, NULL);

    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (read_all(fd, head, 2)) {
        packet.len = (size_t)head[0] << 8 | head[1];
        if (read_all(fd, packet.bytes, packet.len) && understand(&packet)) {
            atomic_fetch_add(&server.over_tcp, 1);
            fill(&packet, true);
            if (packet.len > PACKET_MAX)
                packet.len = PACKET_MAX; /* cut off in its midst */
            head[0] = (unsigned char)(packet.len >> 8);
            head[1] = (unsigned char)packet.len;
            if (write(fd, head, 2) == 2)
                (void)!write(fd, packet.bytes, packet.len);
        }
    }
    close(fd);
}

static void *serve(void *unused)
{
    struct pollfd fds[] = { { .fd = server.udp, .events = POLLIN },
                            { .fd = server.tcp, .events = POLLIN },
                            { .fd = server.stop[0], .events = POLLIN } };

    (void)unused;
    for (;;) {
        int wait_ms = send_due();
        if (poll(fds, 3, wait_ms) < 0)
            continue;
        if (fds[2].revents)
            return NULL;
        if (fds[0].revents)
            serve_udp();
        if (fds[1].revents)
            serve_tcp();
    }
}

static bool server_bind(void)
{
    struct sockaddr_in any = { .sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(any);
    const int size = 4 << 20, yes = 1;

    server.udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    server.tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(server.udp, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    setsockopt(server.tcp, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(server.tcp, (struct sockaddr *)&any, len) != 0 ||
        getsockname(server.tcp, (struct sockaddr *)&any, &len) != 0 ||
        bind(server.udp, (struct sockaddr *)&any, len) != 0 ||
        listen(server.tcp, 64) != 0) {
        close(server.udp);
        close(server.tcp);
        return false;
    }
    server.port = ntohs(any.sin_port);
    return true;
}

static bool server_start(void)
{
    server.questions = 0;
    server.over_tcp = 0;
    server.late_count = 0;
    int tries = 0;
    while (!server_bind()) /* the UDP port of that number may be taken */
        if (++tries == 20)
            return false;
    return pipe2(server.stop, O_CLOEXEC) == 0 &&
           pthread_create(&server.thread, NULL, serve, NULL) == 0;
}

static void server_stop(void)
{
    (void)!write(server.stop[1], "x", 1);
    pthread_join(server.thread, NULL);
    close(server.stop[0]);
    close(server.stop[1]);
    close(server.udp);
    close(server.tcp);
}

/* ---- a resolver that asks it ---------------------------------------------- */

static struct resolver *open_resolver(int timeout_ms)
{
    char error[256] = "";
    struct conf_server address = { .address = { .family = AF_INET,
                                                .bytes = { 127, 0, 0, 1 } } };
    struct conf_auth auth = { .servers = &address,
                              .server_count = 1,
                              .query_timeout = timeout_ms };

    if (!server_start())
        return NULL;
    address.port = server.port;
    struct resolver *resolver = resolver_new(&auth, error, sizeof(error));
    CHECK_STR("resolver_new", error, "");
    return resolver;
}

static void close_resolver(struct resolver *resolver)
{
    resolver_free(resolver);
    server_stop();
}

static const struct answer *wait_for(struct query *query)
{
    return query_wait(query, clock_ms() + 10000);
}

static void check_kind(struct resolver *resolver, const char *name, enum rr_type type,
                       enum answer_kind want, const char *trouble)
{
    struct query *query = resolver_ask(resolver, name, type);
    const struct answer *answer = wait_for(query);

    CHECK_STR(name, kind_name(answer->kind), kind_name(want));
    CHECK_STR(name, answer->trouble ? answer->trouble : "", trouble);
    if (want == ANSWER_DATA)
        CHECK_INT(name, answer->count > 0, 1);
    else
        CHECK_INT(name, answer->count, 0);
    query_drop(query);
}

struct told {
    atomic_int calls;
    atomic_int kind;
    atomic_int failed;
};

static void tell(void *context, const struct answer *answer)
{
    struct told *told = context;

    atomic_store(&told->kind, (int)answer->kind);
    if (answer->kind == ANSWER_FAILED)
        atomic_fetch_add(&told->failed, 1);
    atomic_fetch_add(&told->calls, 1);
}

static void wait_told(struct told *told, int calls, int most_ms)
{
    for (int64_t until = clock_ms() + most_ms;
         atomic_load(&told->calls) < calls && clock_ms() < until;)
        sleep_ms(1);
}

/* ---- without the network -------------------------------------------------- */

static void test_put(void)
{
    char error[100];
    struct resolver *resolver = resolver_new(NULL, error, sizeof(error));
    const struct answer_record records[] = { { (const unsigned char *)"\x01"
                                                                      "a",
                                               2 },
                                             { (const unsigned char *)"\x02"
                                                                      "bc",
                                               3 } };

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    CHECK_INT("put",
              resolver_put(resolver, "Example.COM", RR_TXT, ANSWER_DATA, records, 2), 1);
    CHECK_INT("put", resolver_put(resolver, "x.example", RR_A, ANSWER_FAILED, NULL, 0),
              1);
    CHECK_INT("put", resolver_put(resolver, "n.example", RR_A, ANSWER_NODATA, NULL, 0),
              1);
    CHECK_INT("not a name", resolver_put(resolver, "a..b", RR_A, ANSWER_NODATA, NULL, 0),
              0);
    check_kind(resolver, "example.com", RR_TXT, ANSWER_DATA, "");
    check_kind(resolver, "EXAMPLE.com.", RR_TXT, ANSWER_DATA, "");
    check_kind(resolver, "example.com", RR_A, ANSWER_NXDOMAIN, "");
    check_kind(resolver, "other.example", RR_TXT, ANSWER_NXDOMAIN, "");
    check_kind(resolver, "x.example", RR_A, ANSWER_FAILED, "server failure");
    check_kind(resolver, "n.example", RR_A, ANSWER_NODATA, "");

    struct query *query = resolver_ask(resolver, "example.com.", RR_TXT);
    const struct answer *answer = query_wait(query, 0);
    CHECK_INT("records", answer->count, 2);
    CHECK_INT("second", answer->records[1].len, 3);
    CHECK_INT("second",
              memcmp(answer->records[1].data,
                     "\x02"
                     "bc",
                     3),
              0);
    /* It is replaced, and the answer that is held stays. */
    resolver_put(resolver, "example.com", RR_TXT, ANSWER_NODATA, NULL, 0);
    check_kind(resolver, "example.com", RR_TXT, ANSWER_NODATA, "");
    CHECK_INT("still there",
              memcmp(answer->records[0].data,
                     "\x01"
                     "a",
                     2),
              0);
    query_drop(query);
    query_drop(NULL);
    CHECK_INT("nothing asked", resolver_asked(resolver), 0);
    CHECK_STR("no query", query_wait(NULL, 0)->trouble, "no memory");
    resolver_free(resolver);
    resolver_free(NULL);
}

static void test_then_put(void)
{
    char error[100];
    struct resolver *resolver = resolver_new(NULL, error, sizeof(error));
    struct told told = { 0 };

    resolver_put(resolver, "n.example", RR_A, ANSWER_NODATA, NULL, 0);
    resolver_ask_then(resolver, "n.example", RR_A, tell, &told);
    CHECK_INT("at once", told.calls, 1);
    CHECK_INT("nodata", told.kind, ANSWER_NODATA);
    resolver_ask_then(resolver, "other.example", RR_A, tell, &told);
    CHECK_INT("at once", told.calls, 2);
    CHECK_INT("nxdomain", told.kind, ANSWER_NXDOMAIN);
    resolver_ask_then(resolver, "..", RR_A, tell, &told);
    CHECK_INT("at once", told.calls, 3);
    resolver_free(resolver);
}

static void test_names(void)
{
    struct dnscache *cache = dnscache_new(10, 10000);
    char long_label[66], longest[300], label[64];
    struct dnskey key, same;

    memset(long_label, 'a', 64);
    long_label[64] = '\0';
    memset(label, 'b', 63);
    label[63] = '\0';
    snprintf(longest, sizeof(longest), "%s.%s.%s.%.61s", label, label, label, label);
    const struct {
        const char *name, *want;
    } cases[] = {
        { "example.com", "example.com" },
        { "eXaMple.COM.", "example.com" },
        { "x", "x" },
        { "\xc4\xd6 \\.example", "\xc4\xd6 \\.example" },
        { "", NULL },
        { ".", NULL },
        { "..", NULL },
        { ".a", NULL },
        { "a..b", NULL },
        { "a..", NULL },
        { label, label },
        { long_label, NULL },
        { longest, longest },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool ok = dnscache_key(cache, cases[i].name, RR_A, &key);
        CHECK_STR(cases[i].name, ok ? key.name : "refused",
                  cases[i].want ? cases[i].want : "refused");
    }
    strcat(longest, "b");
    CHECK_INT("254 bytes", dnscache_key(cache, longest, RR_A, &key), 0);
    CHECK_INT("key", dnscache_key(cache, "A.example.", RR_A, &key), 1);
    CHECK_INT("key", dnscache_key(cache, "a.EXAMPLE", RR_A, &same), 1);
    CHECK_INT("the same", key.hash == same.hash, 1);
    CHECK_INT("key", dnscache_key(cache, "a.example", RR_MX, &same), 1);
    CHECK_INT("another type", key.hash == same.hash, 0);
    dnscache_free(cache);
}

/* ---- the cache ------------------------------------------------------------ */

static void cache_put(struct dnscache *cache, const char *name, size_t bytes,
                      int64_t until)
{
    static unsigned char data[4096];
    struct answer head = { .kind = ANSWER_DATA };
    struct answer_record record = { data, bytes };
    struct dnskey key;

    const struct answer *answer = answer_new(&head, &record, 1);
    CU_ASSERT(dnscache_key(cache, name, RR_A, &key));
    (void)dnscache_put(cache, &key, answer, until);
    answer_drop(answer);
}

static bool cache_has(struct dnscache *cache, const char *name, int64_t now)
{
    struct dnskey key;

    CU_ASSERT(dnscache_key(cache, name, RR_A, &key));
    const struct answer *answer = dnscache_get(cache, &key, now);
    answer_drop(answer);
    return answer != NULL;
}

static void test_lru_count(void)
{
    struct dnscache *cache = dnscache_new(3, 1 << 20);

    cache_put(cache, "put.example", 4, INT64_MAX);
    cache_put(cache, "a.example", 4, 100);
    cache_put(cache, "b.example", 4, 100);
    CHECK_INT("a", cache_has(cache, "a.example", 50), 1); /* warmer than b now */
    cache_put(cache, "c.example", 4, 100);
    CHECK_INT("count", dnscache_count(cache), 3);
    CHECK_INT("b is out", cache_has(cache, "b.example", 50), 0);
    CHECK_INT("a", cache_has(cache, "a.example", 50), 1);
    CHECK_INT("c", cache_has(cache, "c.example", 50), 1);
    cache_put(cache, "c.example", 8, 200); /* in the place of the old one */
    CHECK_INT("count", dnscache_count(cache), 3);
    CHECK_INT("a has expired", cache_has(cache, "a.example", 100), 0);
    CHECK_INT("c has not", cache_has(cache, "c.example", 100), 1);
    CHECK_INT("the one for ever", cache_has(cache, "put.example", INT64_MAX - 1), 1);
    CHECK_INT("count", dnscache_count(cache), 2);
    dnscache_free(cache);
}

static void test_lru_bytes(void)
{
    struct dnscache *cache = dnscache_new(1000, 20000);
    char name[40];

    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "n%d.example", i);
        cache_put(cache, name, 1000, 100);
        CU_ASSERT(dnscache_bytes(cache) <= 20000);
    }
    CHECK_INT("about as many as there is room for", dnscache_count(cache) >= 15, 1);
    CHECK_INT("the last", cache_has(cache, "n499.example", 1), 1);
    CHECK_INT("an old one", cache_has(cache, "n400.example", 1), 0);

    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "n%d.example", i);
        (void)cache_has(cache, name, 1000); /* expired: out */
    }
    CHECK_INT("empty", dnscache_count(cache), 0);
    CHECK_INT("empty", dnscache_bytes(cache), 0);
    dnscache_free(cache);
}

static void test_evicted_lives(void)
{
    struct dnscache *cache = dnscache_new(1, 1 << 20);
    struct dnskey key;

    cache_put(cache, "a.example", 100, 100);
    dnscache_key(cache, "a.example", RR_A, &key);
    const struct answer *answer = dnscache_get(cache, &key, 1);
    cache_put(cache, "b.example", 100, 100);
    CHECK_INT("out", cache_has(cache, "a.example", 1), 0);
    CHECK_INT("but held", answer->records[0].data[99], 0);
    answer_drop(answer);
    dnscache_free(cache);
}

/* ---- through libunbound --------------------------------------------------- */

static void test_kinds(void)
{
    static const struct {
        const char *name;
        enum rr_type type;
        enum answer_kind want;
        const char *trouble;
    } cases[] = {
        { "ok.t.example", RR_A, ANSWER_DATA, "" },
        { "ok.t.example", RR_AAAA, ANSWER_DATA, "" },
        { "ok.t.example", RR_TXT, ANSWER_DATA, "" },
        { "OK.T.example.", RR_TXT, ANSWER_DATA, "" },
        { "ok.t.example", RR_MX, ANSWER_DATA, "" },
        { "ok.t.example", RR_PTR, ANSWER_DATA, "" },
        { "nx.t.example", RR_A, ANSWER_NXDOMAIN, "" },
        { "nodata.t.example", RR_TXT, ANSWER_NODATA, "" },
        { "servfail.t.example", RR_TXT, ANSWER_FAILED, "server failure" },
        { "refused.t.example", RR_TXT, ANSWER_FAILED, "server failure" },
        { "trunc.t.example", RR_TXT, ANSWER_DATA, "" },
        { "huge.t.example", RR_A, ANSWER_FAILED, "too many records" },
        { "large.t.example", RR_TXT, ANSWER_DATA, "" },
        { "short.t.example", RR_A, ANSWER_FAILED, "malformed answer" },
        { "short.t.example", RR_TXT, ANSWER_FAILED, "malformed answer" },
        { "chain5.t.example", RR_A, ANSWER_DATA, "" },
        { "loopa.t.example", RR_A, ANSWER_FAILED, "server failure" },
        { "chain40.t.example", RR_A, ANSWER_FAILED, "server failure" },
        { "wrongid.t.example", RR_A, ANSWER_DATA, "" },
        { "a \xff"
          "b.t.example",
          RR_TXT, ANSWER_DATA, "" },
        { "a\\b.t.example", RR_TXT, ANSWER_NXDOMAIN, "" },
        { "@.t.example", RR_TXT, ANSWER_NXDOMAIN, "" },
        { "(;\"$.t.example", RR_TXT, ANSWER_NXDOMAIN, "" },
        { "*.t.example", RR_TXT, ANSWER_NXDOMAIN, "" },
        { "a..t.example", RR_TXT, ANSWER_NXDOMAIN, "" },
        { "", RR_TXT, ANSWER_NXDOMAIN, "" },
        /* zones that libunbound would answer itself */
        { "ok.example.test", RR_TXT, ANSWER_DATA, "" },
        { "ok.2.0.192.in-addr.arpa", RR_PTR, ANSWER_DATA, "" },
        { "ok.10.in-addr.arpa", RR_PTR, ANSWER_DATA, "" },
        { "ok.8.b.d.0.1.0.0.2.ip6.arpa", RR_PTR, ANSWER_DATA, "" },
        { "ok.example.invalid", RR_TXT, ANSWER_DATA, "" },
        { "ok.home.arpa", RR_TXT, ANSWER_DATA, "" },
    };
    struct resolver *resolver = open_resolver(5000);

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_kind(resolver, cases[i].name, cases[i].type, cases[i].want,
                   cases[i].trouble);
    CHECK_INT("TCP was used", server.over_tcp >= 3, 1);
    close_resolver(resolver);
}

static void test_content(void)
{
    struct resolver *resolver = open_resolver(5000);
    char text[100], exchange[DNS_NAME_MAX + 1];
    uint16_t preference = 0;
    size_t len = 0;

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    struct query *txt = resolver_ask(resolver, "ok.t.example", RR_TXT);
    struct query *mx = resolver_ask(resolver, "ok.t.example", RR_MX);
    struct query *cname = resolver_ask(resolver, "chain2.t.example", RR_A);
    struct query *absent = resolver_ask(resolver, "nx.t.example", RR_A);
    const struct answer *answer = wait_for(txt);
    CU_ASSERT(dns_txt(&answer->records[0], text, sizeof(text), &len));
    CHECK_STR("TXT", text, "v=spf1 -all");
    CHECK_INT("TTL", answer->ttl, 300);
    CHECK_INT("secure", answer->secure, 0);
    CU_ASSERT(dns_mx(&wait_for(mx)->records[0], &preference, exchange));
    CHECK_INT("MX", preference, 10);
    CHECK_STR("MX, uncompressed", exchange, "mx.ok.t.example");
    CHECK_INT("the end of the chain", wait_for(cname)->records[0].len, 4);
    CHECK_INT("the SOA's minimum", wait_for(absent)->ttl, 40);
    CHECK_INT("asked", resolver_asked(resolver), 4);
    query_drop(txt);
    query_drop(mx);
    query_drop(cname);
    query_drop(absent);

    check_kind(resolver, "OK.t.example", RR_TXT, ANSWER_DATA, "");
    CHECK_INT("from the cache", resolver_asked(resolver), 4);
    close_resolver(resolver);
}

/* What never comes, in one form or another: FAILED at query-timeout. */
static void test_time_limit(void)
{
    static const char *const names[] = { "never.t.example", "onlywrongid.t.example",
                                         "garbage.t.example", "tiny.t.example",
                                         "big.t.example" };
    struct resolver *resolver = open_resolver(400);
    struct query *queries[5];
    struct told told = { 0 };

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    int64_t begun = clock_ms();
    resolver_ask_then(resolver, names[0], RR_TXT, tell, &told);
    for (int i = 0; i < 5; i++)
        queries[i] = resolver_ask(resolver, names[i], RR_TXT);
    CHECK_STR("the caller's own limit", query_wait(queries[0], begun + 50)->trouble,
              "time limit");
    CHECK_INT("was kept", clock_ms() - begun < 300, 1);
    for (int i = 0; i < 5; i++) {
        const struct answer *answer = wait_for(queries[i]);
        CHECK_STR(names[i], kind_name(answer->kind), "failed");
    }
    int64_t took = clock_ms() - begun;
    CHECK_INT("not before", took >= 399, 1);
    CHECK_INT("nor much later", took < 1500, 1);
    wait_told(&told, 1, 500);
    CHECK_INT("the hook too", told.calls, 1);
    CHECK_INT("failed", told.kind, ANSWER_FAILED);

    /* Who asks just afterwards does not wait for the dead server again. */
    begun = clock_ms();
    check_kind(resolver, names[0], RR_TXT, ANSWER_FAILED, "time limit");
    CHECK_INT("at once", clock_ms() - begun < 200, 1);
    for (int i = 0; i < 5; i++)
        query_drop(queries[i]);
    close_resolver(resolver);
    CHECK_INT("the hook once", told.calls, 1);
}

static void test_late_fills_cache(void)
{
    struct resolver *resolver = open_resolver(100);

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    check_kind(resolver, "ok.t.example", RR_A, ANSWER_DATA, "");
    struct query *query = resolver_ask(resolver, "late150.t.example", RR_A);
    query_drop(query); /* goes on */
    check_kind(resolver, "late150.t.example", RR_A, ANSWER_FAILED, "time limit");
    sleep_ms(300);
    CHECK_INT("asked", resolver_asked(resolver), 2);
    check_kind(resolver, "late150.t.example", RR_A, ANSWER_DATA, "");
    CHECK_INT("not asked again", resolver_asked(resolver), 2);
    close_resolver(resolver);
}

static void test_sharing(void)
{
    struct resolver *resolver = open_resolver(5000);
    struct query *queries[50];
    struct told told = { 0 };

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    for (int i = 0; i < 50; i++) {
        queries[i] = resolver_ask(
            resolver, i % 2 ? "LATE100.t.example" : "late100.t.example.", RR_TXT);
        resolver_ask_then(resolver, "late100.t.example", RR_TXT, tell, &told);
    }
    CHECK_INT("asked once", resolver_asked(resolver), 1);
    for (int i = 0; i < 25; i++)
        query_drop(queries[i]);
    for (int i = 25; i < 50; i++)
        CHECK_STR("all have it", kind_name(wait_for(queries[i])->kind), "data");
    CHECK_INT("the same", wait_for(queries[30]) == wait_for(queries[40]), 1);
    for (int i = 25; i < 50; i++)
        query_drop(queries[i]);
    wait_told(&told, 50, 2000);
    CHECK_INT("each hook", told.calls, 50);
    CHECK_INT("one question on the wire", server.questions, 1);
    close_resolver(resolver);
    CHECK_INT("each hook once", told.calls, 50);
}

static void test_ttl(void)
{
    struct resolver *resolver = open_resolver(5000);

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    check_kind(resolver, "ttl0.t.example", RR_A, ANSWER_DATA, "");
    check_kind(resolver, "ttl0.t.example", RR_A, ANSWER_DATA, "");
    check_kind(resolver, "servfail.t.example", RR_A, ANSWER_FAILED, "server failure");
    check_kind(resolver, "servfail.t.example", RR_A, ANSWER_FAILED, "server failure");
    check_kind(resolver, "okttl2.t.example", RR_A, ANSWER_DATA, "");
    CHECK_INT("each once", resolver_asked(resolver), 3);
    sleep_ms(1100);
    check_kind(resolver, "ttl0.t.example", RR_A, ANSWER_DATA, "");
    check_kind(resolver, "servfail.t.example", RR_A, ANSWER_FAILED, "server failure");
    CHECK_INT("asked again", resolver_asked(resolver), 5);
    sleep_ms(1000);
    check_kind(resolver, "okttl2.t.example", RR_A, ANSWER_DATA, "");
    CHECK_INT("its TTL over", resolver_asked(resolver), 6);
    close_resolver(resolver);
}

/* The waits of one message overlap. */
static void test_overlap(void)
{
    struct resolver *resolver = open_resolver(5000);
    struct query *queries[40];
    char name[40];

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    check_kind(resolver, "ok.t.example", RR_A, ANSWER_DATA, "");
    int64_t begun = clock_ms();
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "late100.n%d.t.example", i);
        queries[i] = resolver_ask(resolver, name, RR_TXT);
    }
    CHECK_INT("asking does not wait", clock_ms() - begun < 50, 1);
    for (int i = 0; i < 40; i++) {
        CHECK_STR("answer", kind_name(wait_for(queries[i])->kind), "data");
        query_drop(queries[i]);
    }
    CHECK_INT("all at the same time", clock_ms() - begun < 400, 1);
    close_resolver(resolver);
}

/* A hook that asks on, as SPF includes do. */
struct chain {
    struct resolver *resolver;
    int left;
    struct told told;
};

static void ask_on(void *context, const struct answer *answer)
{
    struct chain *chain = context;
    char name[40];

    if (chain->left == 0 || answer->kind != ANSWER_DATA) {
        tell(&chain->told, answer);
        return;
    }
    snprintf(name, sizeof(name), "ok%d.t.example", chain->left--);
    resolver_ask_then(chain->resolver, name, RR_TXT, ask_on, chain);
}

static void test_hook_asks(void)
{
    struct resolver *resolver = open_resolver(5000);
    struct chain chain = { .resolver = resolver, .left = 20 };

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    resolver_ask_then(resolver, "ok.t.example", RR_TXT, ask_on, &chain);
    wait_told(&chain.told, 1, 5000);
    CHECK_INT("the last hook", chain.told.calls, 1);
    CHECK_INT("data", chain.told.kind, ANSWER_DATA);
    CHECK_INT("asked", resolver_asked(resolver), 21);
    chain.left = 20;
    resolver_ask_then(resolver, "ok.t.example", RR_TXT, ask_on, &chain);
    CHECK_INT("from the cache at once", chain.told.calls, 2);
    CHECK_INT("not asked", resolver_asked(resolver), 21);
    close_resolver(resolver);
}

/* Hooks of what is under way are told, and so is what they ask then. */
static void ask_at_end(void *context, const struct answer *answer)
{
    struct chain *chain = context;

    tell(&chain->told, answer);
    if (chain->left-- > 0)
        resolver_ask_then(chain->resolver, "never2.t.example", RR_A, ask_at_end, chain);
}

static void test_free_under_way(void)
{
    struct resolver *resolver = open_resolver(5000);
    struct chain chain = { .resolver = resolver, .left = 30 };
    struct told told = { 0 };
    char name[40];

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "never.n%d.t.example", i);
        resolver_ask_then(resolver, name, RR_A, tell, &told);
        query_drop(resolver_ask(resolver, name, RR_A));
    }
    resolver_ask_then(resolver, "never.t.example", RR_A, ask_at_end, &chain);
    int64_t begun = clock_ms();
    close_resolver(resolver);
    CHECK_INT("soon", clock_ms() - begun < 2000, 1);
    CHECK_INT("every hook", told.calls, 100);
    CHECK_INT("FAILED", told.failed, 100);
    CHECK_INT("and what they asked", chain.told.calls, 31);
    CHECK_INT("FAILED", chain.told.failed, 31);
}

static void test_pending_max(void)
{
    struct resolver *resolver = open_resolver(300);
    struct told told = { 0 };
    char name[40];

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    for (int i = 0; i < RESOLVER_PENDING_MAX + 100; i++) {
        snprintf(name, sizeof(name), "never.m%d.t.example", i);
        resolver_ask_then(resolver, name, RR_A, tell, &told);
    }
    CHECK_INT("no more than that", resolver_asked(resolver), RESOLVER_PENDING_MAX);
    CHECK_INT("the others at once", told.calls >= 100, 1);
    wait_told(&told, RESOLVER_PENDING_MAX + 100, 3000);
    CHECK_INT("all", told.calls, RESOLVER_PENDING_MAX + 100);
    CHECK_INT("FAILED", told.failed, RESOLVER_PENDING_MAX + 100);
    close_resolver(resolver);
    CHECK_INT("each once", told.calls, RESOLVER_PENDING_MAX + 100);
}

/* ---- many threads --------------------------------------------------------- */

#define THREADS   8
#define QUESTIONS 3000

struct worker {
    struct resolver *resolver;
    unsigned seed;
    struct told *told;
    int hooks, wrong;
};

static void *work(void *context)
{
    static const char *const stems[] = { "ok", "nx", "nodata", "ttl0", "chain2" };
    static const enum answer_kind kinds[] = { ANSWER_DATA, ANSWER_NXDOMAIN, ANSWER_NODATA,
                                              ANSWER_DATA, ANSWER_DATA };
    struct worker *worker = context;
    char name[64];

    for (int i = 0; i < QUESTIONS; i++) {
        int stem = rand_r(&worker->seed) % 5;
        snprintf(name, sizeof(name), "%s.w%d.t.example", stems[stem],
                 rand_r(&worker->seed) % 100);
        if (i % 3 == 0) {
            resolver_ask_then(worker->resolver, name, RR_A, tell, worker->told);
            worker->hooks++;
            continue;
        }
        struct query *query = resolver_ask(worker->resolver, name, RR_A);
        if (i % 3 == 1 && wait_for(query)->kind != kinds[stem])
            worker->wrong++;
        query_drop(query);
    }
    return NULL;
}

static void test_threads(void)
{
    struct resolver *resolver = open_resolver(5000);
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    struct told told = { 0 };
    int hooks = 0;

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){ resolver, (unsigned)i, &told, 0, 0 };
        pthread_create(&threads[i], NULL, work, &workers[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CHECK_INT("all as they should be", workers[i].wrong, 0);
        hooks += workers[i].hooks;
    }
    wait_told(&told, hooks, 5000);
    CHECK_INT("every hook", told.calls, hooks);
    CHECK_INT("none failed", told.failed, 0);
    CHECK_INT("the cache spares most", resolver_asked(resolver) < 3000, 1);
    close_resolver(resolver);
    CHECK_INT("once", told.calls, hooks);
}

/* ---- configuration -------------------------------------------------------- */

#define DS "20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"

static void write_file(char *path, const char *text)
{
    int fd = mkstemp(path);

    CU_ASSERT(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static struct resolver *open_anchored(const char *anchor, const char *zone, char *error,
                                      size_t error_size)
{
    struct conf_server address = {
        .address = { .family = AF_INET, .bytes = { 127, 0, 0, 1 } }, .port = server.port
    };
    char zone_copy[64], anchor_copy[64];
    snprintf(zone_copy, sizeof(zone_copy), "%s", zone);
    snprintf(anchor_copy, sizeof(anchor_copy), "%s", anchor);
    struct conf_stub stub = { .zone = zone_copy, .server = address };
    struct conf_auth auth = { .servers = &address,
                              .server_count = 1,
                              .stubs = &stub,
                              .stub_count = 1,
                              .trust_anchor = anchor_copy,
                              .query_timeout = 5000 };

    error[0] = '\0';
    return resolver_new(&auth, error, error_size);
}

static void test_trust_anchor(void)
{
    char root[] = "/tmp/sluice-anchor-XXXXXX", zone[] = "/tmp/sluice-anchor-XXXXXX";
    char error[256];

    write_file(root, "; the root\n. 172800 IN DS " DS "\n");
    write_file(zone, "t.example. IN DS " DS "\n");
    CU_ASSERT_FATAL(server_start());
    /* Nothing above a stub zone says that it is not signed. */
    struct resolver *resolver = open_anchored(root, "t.example", error, sizeof(error));
    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    check_kind(resolver, "ok.t.example", RR_TXT, ANSWER_DATA, "");
    check_kind(resolver, "nx.t.example", RR_TXT, ANSWER_NXDOMAIN, "");
    check_kind(resolver, "ok.other.example", RR_TXT, ANSWER_FAILED,
               "DNSSEC validation failed");
    resolver_free(resolver);
    /* Its own anchor, and no signatures. */
    resolver = open_anchored(zone, "t.example", error, sizeof(error));
    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    check_kind(resolver, "ok.t.example", RR_TXT, ANSWER_FAILED,
               "DNSSEC validation failed");
    check_kind(resolver, "ok.other.example", RR_TXT, ANSWER_DATA, "");
    resolver_free(resolver);
    server_stop();
    unlink(root);
    unlink(zone);
}

static void test_bad_trust_anchor(void)
{
    char bad[] = "/tmp/sluice-anchor-XXXXXX", empty[] = "/tmp/sluice-anchor-XXXXXX";
    char error[256], want[256];

    write_file(bad, "this is no trust anchor\n");
    write_file(empty, "");
    CU_ASSERT_PTR_NULL(
        open_anchored("/nowhere/root.key", "t.example", error, sizeof(error)));
    CHECK_STR("absent", error,
              "trust-anchor /nowhere/root.key: No such file or directory");
    CU_ASSERT_PTR_NULL(open_anchored(bad, "t.example", error, sizeof(error)));
    snprintf(want, sizeof(want), "trust-anchor %s: not a file of DS or DNSKEY records",
             bad);
    CHECK_STR("bad", error, want);
    CU_ASSERT_PTR_NULL(open_anchored(empty, "t.example", error, sizeof(error)));
    snprintf(want, sizeof(want), "trust-anchor %s: it is empty", empty);
    CHECK_STR("empty", error, want);
    CU_ASSERT_PTR_NULL(open_anchored("/tmp", "t.example", error, sizeof(error)));
    CHECK_STR("a directory", error, "trust-anchor /tmp: Is a directory");
    unlink(bad);
    unlink(empty);
}

/* ---- figures -------------------------------------------------------------- */

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* Printed, not judged: other programs run on this host too. */
static void test_figures(void)
{
    struct resolver *resolver = open_resolver(5000);
    char name[40];

    CU_ASSERT_PTR_NOT_NULL_FATAL(resolver);
    check_kind(resolver, "ok.t.example", RR_TXT, ANSWER_DATA, "");
    double begun = now_us();
    for (int i = 0; i < 100000; i++) {
        struct query *query = resolver_ask(resolver, "ok.t.example", RR_TXT);
        (void)query_wait(query, 0);
        query_drop(query);
    }
    printf("\n  cached: %.0f ns", (now_us() - begun) / 100);
    begun = now_us();
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "ok.f%d.t.example", i);
        struct query *query = resolver_ask(resolver, name, RR_TXT);
        (void)wait_for(query);
        query_drop(query);
    }
    printf(", not cached: %.0f us ... ", (now_us() - begun) / 1000);
    close_resolver(resolver);
}

UNIT_MAIN("resolver", { "answers put in", test_put }, { "then, put in", test_then_put },
          { "names", test_names }, { "cache: count", test_lru_count },
          { "cache: bytes", test_lru_bytes }, { "cache: held", test_evicted_lives },
          { "kinds of answers", test_kinds }, { "their content", test_content },
          { "time limit", test_time_limit }, { "late answers", test_late_fills_cache },
          { "sharing", test_sharing }, { "TTL", test_ttl }, { "overlap", test_overlap },
          { "a hook that asks", test_hook_asks },
          { "end while under way", test_free_under_way },
          { "too many under way", test_pending_max }, { "threads", test_threads },
          { "trust anchor", test_trust_anchor },
          { "bad trust anchors", test_bad_trust_anchor }, { "figures", test_figures })
