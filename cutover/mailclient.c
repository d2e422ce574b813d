/*
 * mailclient: the way into an SMTP or IMAP server, by libcurl, which no other file
 * includes.
 *
 * libcurl looks up, connects, makes TLS, reads the greeting and logs in
 * (CURLOPT_CONNECT_ONLY), and passes bytes from then on. The rest of the dialogs is
 * our own (mailsmtp.c, mailimap.c): libcurl's transfers wait up to two minutes for
 * the answer to QUIT, and cannot search or delete with answers that are checked.
 *
 * A certificate that is not trusted is an error that ends in the way out. For it
 * the server is asked once more what its key is, on a connection that can only
 * fail: nothing is sent there, and no login.
 *
 * Bugs: what a server says unasked right behind the answer to the login has been
 * read by libcurl and is lost. SMTP knows no such thing, and in IMAP it is news of
 * no folder, as none is open.
 */
#include "mailstream.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "clock.h"

#define CONNECT_MS 30000 /* to the end of the login: servers make strangers wait */
#define SLICE_MS   100   /* how often stop() is asked */
#define URL_MAX    600
#define PLACE_MAX  300
#define REPLY_MAX  400
#define PIN_MAX    80
/* The digest of no key. */
#define NO_PIN "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

/* One connection. */
struct session {
    CURL *curl;
    const struct mail_server *server;
    struct mail_call *call;
    struct curl_slist *connect_to;
    char url[URL_MAX];
    char place[PLACE_MAX]; /* "host:port", for messages */
    char text[CURL_ERROR_SIZE];
    char reply[REPLY_MAX]; /* the last line that came */
    char pin[PIN_MAX];     /* of the server's key, when it was asked for */
    bool stopped;
    bool logged_in;  /* in SMTP */
    int code;        /* of SMTP, the last one */
    int64_t greeted; /* clock_ms() of the first line */
};

struct mail_stream {
    struct session session;
};

bool mail_begin(void)
{
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

void mail_end(void)
{
    curl_global_cleanup();
}

/* ---- errors ------------------------------------------------------------ */

/* What a server said is shown to a person. */
static void make_printable(char *text)
{
    size_t len = strlen(text);

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        text[--len] = '\0';
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
            *text = '?';
}

__attribute__((format(printf, 4, 0))) static enum mail_result
vfail(const char *place, struct mail_call *call, enum mail_result result, const char *fmt,
      va_list args)
{
    char text[MAIL_ERROR_MAX];

    if (vsnprintf(text, sizeof(text), fmt, args) < 0)
        text[0] = '\0';
    make_printable(text);
    if (snprintf(call->error, sizeof(call->error), "%s: %s", place, text) < 0)
        call->error[0] = '\0';
    return result;
}

__attribute__((format(printf, 3, 4))) static enum mail_result
fail(struct session *session, enum mail_result result, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vfail(session->place, session->call, result, fmt, args);
    va_end(args);
    return result;
}

enum mail_result mail_stream_fail(const struct mail_stream *stream,
                                  struct mail_call *call, enum mail_result result,
                                  const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vfail(stream->session.place, call, result, fmt, args);
    va_end(args);
    return result;
}

static bool is_stopped(const struct mail_call *call)
{
    return call->stop && call->stop();
}

static long left_ms(const struct mail_call *call)
{
    int64_t left = call->until - clock_ms();

    return left < 1 ? 1 : left > 86400000 ? 86400000 : (long)left;
}

/* ---- what libcurl calls -------------------------------------------------- */

static int on_progress(void *context, curl_off_t a, curl_off_t b, curl_off_t c,
                       curl_off_t d)
{
    struct session *session = context;

    (void)a, (void)b, (void)c, (void)d;
    session->stopped = session->stopped || is_stopped(session->call);
    return session->stopped;
}

/* Three digits at the beginning; 0: none. */
static int reply_code(const char *line, size_t len)
{
    int code = 0;

    for (size_t i = 0; i < 3; i++) {
        if (i >= len || line[i] < '0' || line[i] > '9')
            return 0;
        code = code * 10 + line[i] - '0';
    }
    return code;
}

/* Every line that the server says. */
static size_t on_reply(char *line, size_t one, size_t len, void *context)
{
    struct session *session = context;
    int code = reply_code(line, len);

    (void)one;
    snprintf(session->reply, sizeof(session->reply), "%.*s",
             len < REPLY_MAX ? (int)len : REPLY_MAX - 1, line);
    make_printable(session->reply);
    if (session->greeted == 0)
        session->greeted = clock_ms();
    session->code = code ? code : session->code;
    session->logged_in = session->logged_in || code == 235;
    return len;
}

static size_t on_body(char *data, size_t one, size_t len, void *context)
{
    (void)data, (void)one, (void)context;
    return len;
}

/* libcurl tells the key's digest only in its log. */
static int on_log(CURL *curl, curl_infotype type, char *data, size_t len, void *context)
{
    static const char mark[] = "public key hash: ";
    struct session *session = context;
    const char *at =
        type == CURLINFO_TEXT ? memmem(data, len, mark, sizeof(mark) - 1) : NULL;
    (void)curl;
    if (!at || session->pin[0])
        return 0;
    at += sizeof(mark) - 1;
    size_t n = len - (size_t)(at - data);
    if (n >= sizeof(session->pin))
        return 0;
    memcpy(session->pin, at, n);
    session->pin[n] = '\0';
    make_printable(session->pin);
    return 0;
}

/* ---- a session ----------------------------------------------------------- */

static bool is_ipv6(const char *host)
{
    return strchr(host, ':') != NULL;
}

/* "host:port", an IPv6 address in brackets. */
static bool join_place(const char *host, unsigned port, char *out, size_t size)
{
    bool brackets = is_ipv6(host);
    int len = snprintf(out, size, "%s%s%s:%u", brackets ? "[" : "", host,
                       brackets ? "]" : "", port);

    return len > 0 && (size_t)len < size;
}

/* URL, and where it really goes when the certificate has another name. */
static bool set_address(struct session *session, const char *scheme, const char *path)
{
    const struct mail_server *server = session->server;
    char name[PLACE_MAX], to[2 * PLACE_MAX];

    if (!join_place(server->tls_name ? server->tls_name : server->host, server->port,
                    name, sizeof(name)))
        return false;
    int len = snprintf(session->url, sizeof(session->url), "%s%s://%s/%s", scheme,
                       server->tls == MAIL_TLS ? "s" : "", name, path);
    if (len < 0 || (size_t)len >= sizeof(session->url) ||
        curl_easy_setopt(session->curl, CURLOPT_URL, session->url) != CURLE_OK)
        return false;
    if (!server->tls_name)
        return true;
    len = snprintf(to, sizeof(to), "::%s", session->place);
    if (len < 0 || (size_t)len >= sizeof(to))
        return false;
    session->connect_to = curl_slist_append(NULL, to);
    return session->connect_to && curl_easy_setopt(session->curl, CURLOPT_CONNECT_TO,
                                                   session->connect_to) == CURLE_OK;
}

static bool set_trust(CURL *curl, const struct mail_server *server)
{
    bool good = curl_easy_setopt(curl, CURLOPT_USE_SSL,
                                 (long)(server->tls == MAIL_PLAIN ? CURLUSESSL_NONE
                                                                  : CURLUSESSL_ALL)) ==
                    CURLE_OK &&
                curl_easy_setopt(curl, CURLOPT_SSLVERSION,
                                 (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK;
    if (server->pin)
        return good &&
               curl_easy_setopt(curl, CURLOPT_PINNEDPUBLICKEY, server->pin) == CURLE_OK &&
               curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L) == CURLE_OK &&
               curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L) == CURLE_OK;
    good = good && curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK;
    if (server->ca_file)
        good = good &&
               curl_easy_setopt(curl, CURLOPT_CAINFO, server->ca_file) == CURLE_OK &&
               curl_easy_setopt(curl, CURLOPT_CAPATH, NULL) == CURLE_OK;
    return good;
}

static bool set_login(CURL *curl, const struct mail_server *server)
{
    return !server->user ||
           (curl_easy_setopt(curl, CURLOPT_USERNAME, server->user) == CURLE_OK &&
            curl_easy_setopt(curl, CURLOPT_PASSWORD, server->password) == CURLE_OK);
}

static bool set_callbacks(struct session *session)
{
    CURL *curl = session->curl;

    return curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, session->text) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_reply) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_HEADERDATA, session) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_XFERINFODATA, session) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L) == CURLE_OK;
}

/* What the environment could say otherwise, and the limits. */
static bool set_limits(CURL *curl, const struct mail_call *call)
{
    long left = left_ms(call);

    return curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
                            left < CONNECT_MS ? left : (long)CONNECT_MS) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, left) == CURLE_OK;
}

static void session_end(struct session *session)
{
    if (session->curl)
        curl_easy_cleanup(session->curl);
    curl_slist_free_all(session->connect_to);
    session->curl = NULL;
    session->connect_to = NULL;
}

static enum mail_result session_begin(struct session *session,
                                      const struct mail_server *server,
                                      struct mail_call *call, const char *scheme,
                                      const char *path)
{
    memset(session, 0, sizeof(*session));
    session->server = server;
    session->call = call;
    call->error[0] = '\0';
    if (!join_place(server->host, server->port, session->place, sizeof(session->place)))
        return fail(session, MAIL_NETWORK, "the host's name is too long");
    if (is_stopped(call))
        return fail(session, MAIL_STOPPED, "interrupted");
    if (clock_ms() >= call->until)
        return fail(session, MAIL_TIMEOUT, "no time left to connect");
    session->curl = curl_easy_init();
    if (!session->curl || !set_address(session, scheme, path) ||
        !set_callbacks(session) || !set_limits(session->curl, call) ||
        !set_login(session->curl, server) || !set_trust(session->curl, server))
        return fail(session, MAIL_NETWORK, "out of memory, or libcurl is too old");
    return MAIL_DONE;
}

/* ---- what went wrong ------------------------------------------------------ */

/* Asks for the key's pin, on a connection that cannot come about. */
static void ask_pin(const struct session *failed, char pin[PIN_MAX])
{
    struct mail_server server = *failed->server;
    struct mail_call call = { .until = clock_ms() + CONNECT_MS,
                              .stop = failed->call->stop };
    struct session session;
    bool imap = strncmp(failed->url, "imap", 4) == 0;

    pin[0] = '\0';
    if (call.until > failed->call->until)
        call.until = failed->call->until;
    server.pin = NO_PIN;
    server.user = server.password = NULL;
    if (session_begin(&session, &server, &call, imap ? "imap" : "smtp", "") ==
            MAIL_DONE &&
        curl_easy_setopt(session.curl, CURLOPT_CONNECT_ONLY, 1L) == CURLE_OK &&
        curl_easy_setopt(session.curl, CURLOPT_VERBOSE, 1L) == CURLE_OK &&
        curl_easy_setopt(session.curl, CURLOPT_DEBUGFUNCTION, on_log) == CURLE_OK &&
        curl_easy_setopt(session.curl, CURLOPT_DEBUGDATA, &session) == CURLE_OK) {
        (void)curl_easy_perform(session.curl);
        snprintf(pin, PIN_MAX, "%s", session.pin);
    }
    session_end(&session);
}

static enum mail_result fail_trust(struct session *session)
{
    char pin[PIN_MAX];

    if (session->server->pin) {
        ask_pin(session, pin);
        return fail(
            session, MAIL_UNTRUSTED,
            "its key is not the pinned one, nothing was sent. It shows %s: if the "
            "key was changed on purpose, pin that",
            pin[0] ? pin : "none");
    }
    ask_pin(session, pin);
    return fail(
        session, MAIL_UNTRUSTED,
        "%s; nothing was sent. If the server is the right one: its CA in ca-file, "
        "its certificate's name in tls-name, or pin = \"%s\"",
        session->text, pin[0] ? pin : "sha256//...");
}

/* A reply that decided, in SMTP. */
static enum mail_result fail_reply(struct session *session, int code)
{
    if (code == 535 || code == 534 || code == 530 || code == 538)
        return fail(session, MAIL_LOGIN, "login of %s is refused: %s",
                    session->server->user ? session->server->user : "nobody",
                    session->reply);
    return fail(session, code < 500 ? MAIL_LATER : MAIL_REFUSED, "%s", session->reply);
}

static enum mail_result fail_login(struct session *session)
{
    const char *user = session->server->user;

    /* Its own trouble, not the password's. */
    if (strstr(session->reply, "[UNAVAILABLE]"))
        return fail(session, MAIL_LATER, "%s", session->reply);
    return fail(session, MAIL_LOGIN, "login of %s is refused: %s", user ? user : "nobody",
                session->reply[0] ? session->reply : session->text);
}

static enum mail_result fail_connect(struct session *session)
{
    long error = 0;

    if (curl_easy_getinfo(session->curl, CURLINFO_OS_ERRNO, &error) != CURLE_OK ||
        error <= 0)
        return fail(session, MAIL_NETWORK, "%s", session->text);
    return fail(session, MAIL_NETWORK, "cannot connect: %s", strerror((int)error));
}

static enum mail_result fail_timeout(struct session *session)
{
    curl_off_t connected = 0;

    (void)curl_easy_getinfo(session->curl, CURLINFO_CONNECT_TIME_T, &connected);
    return fail(session, MAIL_TIMEOUT, "%s",
                session->greeted ? "does not answer in time"
                : connected > 0  ? "takes the connection, but does not greet in time"
                : strstr(session->text, "Resolving")
                    ? "no DNS server says in time where this is"
                    : "cannot connect in time");
}

static enum mail_result fail_code(struct session *session, CURLcode result)
{
    int code = session->code;

    if (session->stopped)
        return fail(session, MAIL_STOPPED, "interrupted");
    switch (result) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_ISSUER_ERROR:
        return fail_trust(session);
    case CURLE_COULDNT_CONNECT:
        return fail_connect(session);
    case CURLE_USE_SSL_FAILED:
        return fail(session, MAIL_UNTRUSTED,
                    "offers no STARTTLS; nothing was sent (tls = starttls)");
    case CURLE_SSL_CACERT_BADFILE:
        return fail(session, MAIL_UNTRUSTED,
                    "no TLS: %s: apt-get install ca-certificates, or name a ca-file",
                    session->text);
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CIPHER:
        return fail(session, MAIL_UNTRUSTED, "no TLS: %s", session->text);
    case CURLE_OPERATION_TIMEDOUT:
        return fail_timeout(session);
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
        return fail(session, MAIL_NETWORK,
                    "closes the connection, or answers what no mail server does%s%s",
                    session->reply[0] ? ": " : "", session->reply);
    case CURLE_LOGIN_DENIED:
        if (code >= 400 && code < 500)
            return fail_reply(session, code);
        return fail_login(session);
    default:
        if (code >= 400)
            return fail_reply(session, code);
        return fail(session, MAIL_NETWORK, "%s",
                    session->text[0] ? session->text : curl_easy_strerror(result));
    }
}

/* ---- the stream ------------------------------------------------------------- */

static enum mail_result connect_session(struct session *session, bool smtp)
{
    if (curl_easy_setopt(session->curl, CURLOPT_CONNECT_ONLY, 1L) != CURLE_OK)
        return fail(session, MAIL_NETWORK, "out of memory");
    CURLcode result = curl_easy_perform(session->curl);
    if (result != CURLE_OK)
        return fail_code(session, result);
    /* libcurl goes on without a login where none is offered. */
    if (smtp && session->server->user && !session->logged_in)
        return fail(session, MAIL_LOGIN, "offers no login%s",
                    session->server->tls == MAIL_PLAIN ? " (without TLS)" : "");
    return MAIL_DONE;
}

enum mail_result mail_stream_open(const struct mail_server *server,
                                  struct mail_call *call, const char *scheme,
                                  const char *path, struct mail_stream **out)
{
    struct mail_stream *stream = calloc(1, sizeof(*stream));

    *out = NULL;
    if (!stream) {
        snprintf(call->error, sizeof(call->error), "out of memory");
        return MAIL_NETWORK;
    }
    struct session *session = &stream->session;
    enum mail_result end = session_begin(session, server, call, scheme, path);
    if (end == MAIL_DONE)
        end = connect_session(session, strcmp(scheme, "smtp") == 0);
    if (end != MAIL_DONE) {
        mail_stream_close(stream);
        return end;
    }
    /* The caller's own: each later call brings one. */
    session->server = NULL;
    session->call = NULL;
    *out = stream;
    return MAIL_DONE;
}

int64_t mail_stream_greeted(const struct mail_stream *stream)
{
    return stream->session.greeted;
}

/* libcurl says no LOGOUT or QUIT on such a connection, so nothing waits here. */
void mail_stream_close(struct mail_stream *stream)
{
    if (!stream)
        return;
    if (stream->session.curl)
        (void)curl_easy_setopt(stream->session.curl, CURLOPT_NOPROGRESS, 1L);
    session_end(&stream->session);
    free(stream);
}

/* Until the socket is ready for that, the deadline, or stop(). */
static enum mail_result wait_ready(struct mail_stream *stream, struct mail_call *call,
                                   short events)
{
    curl_socket_t fd = CURL_SOCKET_BAD;

    if (curl_easy_getinfo(stream->session.curl, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK ||
        fd == CURL_SOCKET_BAD)
        return mail_stream_fail(stream, call, MAIL_NETWORK, "the connection is lost");
    while (clock_ms() < call->until) {
        struct pollfd entry = { .fd = fd, .events = events };
        if (is_stopped(call))
            return mail_stream_fail(stream, call, MAIL_STOPPED, "interrupted");
        long slice = left_ms(call) < SLICE_MS ? left_ms(call) : SLICE_MS;
        if (poll(&entry, 1, (int)slice) > 0)
            return MAIL_DONE;
    }
    return mail_stream_fail(stream, call, MAIL_TIMEOUT, "does not answer in time");
}

enum mail_result mail_stream_write(struct mail_stream *stream, struct mail_call *call,
                                   const char *data, size_t len)
{
    while (len > 0) {
        size_t n = 0;
        CURLcode result = curl_easy_send(stream->session.curl, data, len, &n);
        if (result == CURLE_AGAIN) {
            enum mail_result end = wait_ready(stream, call, POLLOUT);
            if (end != MAIL_DONE)
                return end;
        } else if (result != CURLE_OK) {
            return mail_stream_fail(stream, call, MAIL_NETWORK, "the connection is lost");
        }
        data += n;
        len -= n;
    }
    return MAIL_DONE;
}

enum mail_result mail_stream_read(struct mail_stream *stream, struct mail_call *call,
                                  char *buffer, size_t size, size_t *n)
{
    for (;;) {
        *n = 0;
        if (clock_ms() >= call->until)
            return mail_stream_fail(stream, call, MAIL_TIMEOUT,
                                    "does not answer in time");
        CURLcode result = curl_easy_recv(stream->session.curl, buffer, size, n);
        if (result == CURLE_OK && *n > 0)
            return MAIL_DONE;
        if (result != CURLE_AGAIN)
            return mail_stream_fail(stream, call, MAIL_NETWORK,
                                    "the server closed the connection");
        enum mail_result end = wait_ready(stream, call, POLLIN);
        if (end != MAIL_DONE)
            return end;
    }
}
