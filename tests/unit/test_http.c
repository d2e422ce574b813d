/*
 * http_request: which heads are requests, who may ask; page: the content security
 * policy.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "../../policyd/http_request.h"
#include "../../policyd/page.h"
#include "unit.h"

#define H "Host: localhost\r\n"

static void test_heads(void)
{
    static const struct {
        const char *text;
        int status;
        const char *path;
    } rows[] = {
        { "GET / HTTP/1.1\r\n" H "\r\n", 200, "/" },
        { "GET /metrics?x=1&y HTTP/1.1\r\n" H "\r\n", 200, "/metrics" },
        { "HEAD /healthz HTTP/1.0\r\n\r\n", 200, "/healthz" },
        { "GET / HTTP/1.1\r\nhOsT:\tlocalhost \r\n\r\n", 200, "/" },
        { "GET / HTTP/1.1\r\n" H "X:\r\nY: a b\tc\xc3\xa9\r\n\r\n", 200, "/" },
        { "GET / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", 200, "/" },
        { "POST / HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\n", 200, "" },
        { "OPTIONS * HTTP/1.1\r\n" H "\r\n", 200, "" },
        { "GET / HTTP/1.1\r\n" H "Content-Length: 00\r\n\r\n", 413, "/" },
        { "GET / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\n", 413, "/" },
        { "GET / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", 413, "/" },
        { "GET / HTTP/1.1\r\n" H H "\r\n", 400, "/" },
        { "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "/" },
        { "GET / HTTP/1.1\r\n" H " folded\r\n\r\n", 400, "/" },
        { "GET / HTTP/1.1\r\n" H "A B: c\r\n\r\n", 400, "/" },
        { "GET / HTTP/1.1\r\n" H "no colon\r\n\r\n", 400, "/" },
        { "GET / HTTP/1.1\r\n" H ":x\r\n\r\n", 400, "/" },
        { "GET http://localhost/ HTTP/1.1\r\n" H "\r\n", 400, "" },
        { "GET / HTTP/1.1 \r\n" H "\r\n", 400, "" },
        { "GET / HTTP/1.1\n" H "\r\n", 400, "" },
        { "GET  / HTTP/1.1\r\n" H "\r\n", 400, "" },
        { "GET / http/1.1\r\n" H "\r\n", 400, "" },
        { "GET / HTTP/1.2\r\n" H "\r\n", 505, "" },
        { "GET / HTTP/3.0\r\n" H "\r\n", 505, "" },
        { "G(T / HTTP/1.1\r\n" H "\r\n", 400, "" },
        { "GET /\x7f HTTP/1.1\r\n" H "\r\n", 400, "" },
        { "\r\nGET / HTTP/1.1\r\n" H "\r\n", 400, "" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct http_request request;
        size_t used;
        CHECK_INT(rows[i].text,
                  http_request_parse(rows[i].text, strlen(rows[i].text), &request, &used),
                  rows[i].status);
        CHECK_STR(rows[i].text, request.path, rows[i].path);
    }
}

/* Cut anywhere, it is not complete; with anything behind it, the same. */
static void test_cut(void)
{
    static const char text[] =
        "GET /status.json HTTP/1.1\r\nHost: a.example:8080\r\nConnection: te, close\r\n"
        "Authorization: Basic eDp5\r\n\r\n";
    struct http_request request;
    size_t used, len = sizeof(text) - 1;
    for (size_t cut = 0; cut < len; cut++)
        CHECK_INT("cut", http_request_parse(text, cut, &request, &used), 0);
    char more[sizeof(text) + 8];
    memcpy(more, text, len);
    memcpy(more + len, "GET / HT", 8);
    CHECK_INT("whole", http_request_parse(more, len + 8, &request, &used), 200);
    CHECK_INT("its length", used, len);
    CHECK_INT("GET", request.get, true);
    CHECK_INT("close", request.keep, false);
    CHECK_STR("host", request.host, "a.example:8080");
    CHECK_STR("authorization", request.authorization, "Basic eDp5");
}

static void test_large(void)
{
    static char text[HTTP_HEAD_MAX + 1];
    struct http_request request;
    size_t used;
    memset(text, 'a', sizeof(text));
    CHECK_INT("one line", http_request_parse(text, HTTP_HEAD_MAX - 1, &request, &used),
              0);
    CHECK_INT("too long a line", http_request_parse(text, HTTP_HEAD_MAX, &request, &used),
              414);
    memcpy(text, "GET / HTTP/1.1\r\nX: ", 19);
    CHECK_INT("too long a field",
              http_request_parse(text, HTTP_HEAD_MAX, &request, &used), 431);
    /* Any single byte changed: an answer, and nothing read outside (sanitizer). */
    static const char whole[] = "GET / HTTP/1.1\r\n" H "X: y\r\n\r\n";
    for (size_t at = 0; at < sizeof(whole) - 1; at++) {
        for (int byte = 0; byte < 256; byte++) {
            char *copy = malloc(sizeof(whole) - 1);
            CU_ASSERT_FATAL(copy != NULL);
            memcpy(copy, whole, sizeof(whole) - 1);
            copy[at] = (char)byte;
            int status = http_request_parse(copy, sizeof(whole) - 1, &request, &used);
            CU_ASSERT(status == 0 || status == 200 || status == 400 || status == 505 ||
                      status == 413 || status == 431);
            free(copy);
        }
    }
}

static void test_hosts(void)
{
    static char name[] = "Mx1.example.com", other[] = "status.example.org";
    static char canonical[] = "mx1.example.com";
    char *hosts[] = { other, NULL };
    struct conf conf = { .hostname = canonical, .http = { .hosts = hosts } };
    static const struct {
        const char *host;
        bool good;
    } rows[] = {
        { "localhost", true },
        { "LocalHost:9125", true },
        { "127.0.0.1:9125", true },
        { "[::1]:9125", true },
        { "192.0.2.1", true },
        { "status.example.org", true },
        { "status.example.org.", true },
        { "evil.example", false },
        { "localhost.evil.example", false },
        { "mx1.example.com.evil.example", false },
        { "", false },
        { ":9125", false },
        { "localhost:x", false },
        { "[::1", false },
        { "[evil.example]", false },
        { "[::1]evil.example", false },
        { "[::1]:80.evil.example", false },
        { "127.0.0.1.evil.example", false },
        { "localhost:1:2", false },
    };
    CHECK_INT(name, http_request_host(&conf, name), true);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK_INT(rows[i].host, http_request_host(&conf, rows[i].host), rows[i].good);
}

static void test_password(void)
{
    static char password[] = "open sesame";
    struct conf conf = { .http = { .password = NULL } };
    static const struct {
        const char *authorization;
        bool good;
    } rows[] = {
        { "Basic eDpvcGVuIHNlc2FtZQ==", true },      /* x:open sesame */
        { "basic  OnpvcGVuIHNlc2FtZQ==", false },    /* :zopen sesame */
        { "BASIC OmFiYzpvcGVuIHNlc2FtZQ==", false }, /* :abc:open sesame */
        { "Basic eDpvcGVuIHNlc2FtZQ", true },
        { "Basic b3BlbiBzZXNhbWU=", false }, /* no user */
        { "Basic eDpvcGVuIHNlc2Ft", false }, /* x:open sesam */
        { "Basic eDo=", false },             /* x: */
        { "Basic ====", false },
        { "Basic !", false },
        { "Basic", false },
        { "Bearer eDpvcGVuIHNlc2FtZQ==", false },
        { "", false },
    };
    CHECK_INT("none is asked for", http_request_allowed(&conf, ""), true);
    conf.http.password = password;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK_INT(rows[i].authorization,
                  http_request_allowed(&conf, rows[i].authorization), rows[i].good);
}

static void test_policy(void)
{
    char policy[PAGE_POLICY_MAX];
    CU_ASSERT(page_policy(page_text, policy));
    /* printf 'body{}' | openssl dgst -sha256 -binary | base64; printf 'a()' | ... */
    CU_ASSERT(page_policy("<style>body{}</style><script>a()</script>", policy));
    CHECK_STR(
        "policy", policy,
        "default-src 'none'; "
        "style-src 'sha256-fJgEClQWV1hGkK4qHMO0KotTsVnMYMXTq7/suurGyUo='; script-src "
        "'sha256-qVpDBgj7bpq5hMAcGp3AOc79J3Y1Z4HvySTwKrWDoy4='; connect-src "
        "'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'");
    CHECK_INT("two scripts",
              page_policy("<style></style><script></script><script></script>", policy),
              false);
    CHECK_INT("no style", page_policy("<script></script>", policy), false);
    CHECK_INT("no end", page_policy("<style></style><script>", policy), false);
    CHECK_INT("length", page_len, strlen(page_text));
}

UNIT_MAIN("http", { "heads", test_heads }, { "cut", test_cut }, { "large", test_large },
          { "hosts", test_hosts }, { "password", test_password },
          { "policy", test_policy })
