/*
 * webclient: see webclient.h.
 */
#include "webclient.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "clientsetup.h"

#define CONNECT_MS 10000
#define FIRST_ROOM 4096

struct web {
    CURL *curl;
    const struct web_request *request;
    struct web_page *page;
    struct curl_slist *connect_to, *headers;
    char text[CURL_ERROR_SIZE];
    size_t room;
    bool too_large, stopped, no_memory;
};

/* ---- what libcurl calls ---------------------------------------------------- */

static size_t on_body(char *data, size_t one, size_t len, void *context)
{
    struct web *web = context;
    struct web_page *page = web->page;
    (void)one;
    if (len > WEB_PAGE_MAX - page->len) {
        web->too_large = true;
        return 0;
    }
    if (page->len + len + 1 > web->room) {
        size_t room = web->room ? web->room : FIRST_ROOM;
        while (room < page->len + len + 1)
            room *= 2;
        char *more = realloc(page->text, room);
        if (!more) {
            web->no_memory = true;
            return 0;
        }
        page->text = more;
        web->room = room;
    }
    memcpy(page->text + page->len, data, len);
    page->len += len;
    page->text[page->len] = '\0';
    return len;
}

static size_t on_header(char *line, size_t one, size_t len, void *context)
{
    static const char name[] = "www-authenticate:";
    struct web *web = context;
    (void)one;
    if (len > sizeof(name) - 1 && strncasecmp(line, name, sizeof(name) - 1) == 0)
        for (size_t i = sizeof(name) - 1; i + 5 <= len; i++)
            web->page->asks_login =
                web->page->asks_login || strncasecmp(line + i, "basic", 5) == 0;
    return len;
}

static int on_progress(void *context, curl_off_t a, curl_off_t b, curl_off_t c,
                       curl_off_t d)
{
    struct web *web = context;
    (void)a, (void)b, (void)c, (void)d;
    web->stopped = web->stopped || (web->request->stop && web->request->stop());
    return web->stopped;
}

/* ---- one request ------------------------------------------------------------- */

static bool set(CURLcode code)
{
    return code == CURLE_OK;
}

/* The name stays that of the URL, for the certificate and the header. */
static bool set_address(struct web *web)
{
    struct web_place place;
    char to[400];
    const char *at = web->request->at;
    if (!at)
        return true;
    if (!web_place(web->request->url, &place))
        return false;
    bool ipv6 = strchr(at, ':') != NULL;
    int n = snprintf(to, sizeof(to), "::%s%.256s%s:%u", ipv6 ? "[" : "", at,
                     ipv6 ? "]" : "", place.port);
    if (n < 0 || (size_t)n >= sizeof(to))
        return false;
    web->connect_to = curl_slist_append(NULL, to);
    return web->connect_to &&
           set(curl_easy_setopt(web->curl, CURLOPT_CONNECT_TO, web->connect_to));
}

static bool set_trust(struct web *web)
{
    CURL *curl = web->curl;
    const char *ca = web->request->ca_file;
    return set(curl_easy_setopt(curl, CURLOPT_SSLVERSION,
                                (long)CURL_SSLVERSION_TLSv1_2)) &&
           set(curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L)) &&
           set(curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L)) &&
           (!ca || (set(curl_easy_setopt(curl, CURLOPT_CAINFO, ca)) &&
                    set(curl_easy_setopt(curl, CURLOPT_CAPATH, NULL))));
}

static bool set_body(struct web *web)
{
    const struct web_request *request = web->request;
    char type[200];
    if (!request->body)
        return true;
    int n = snprintf(type, sizeof(type), "Content-Type: %s", request->type);
    if (n < 0 || (size_t)n >= sizeof(type))
        return false;
    web->headers = curl_slist_append(NULL, type);
    return web->headers &&
           set(curl_easy_setopt(web->curl, CURLOPT_HTTPHEADER, web->headers)) &&
           set(curl_easy_setopt(web->curl, CURLOPT_POSTFIELDS, request->body));
}

static bool set_login(struct web *web)
{
    const struct web_request *request = web->request;
    return !request->user ||
           (strncasecmp(request->url, "https://", 8) == 0 &&
            set(curl_easy_setopt(web->curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC)) &&
            set(curl_easy_setopt(web->curl, CURLOPT_USERNAME, request->user)) &&
            set(curl_easy_setopt(web->curl, CURLOPT_PASSWORD, request->password)));
}

static bool set_limits(struct web *web)
{
    CURL *curl = web->curl;
    long all = web->request->timeout_ms;
    return set(curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L)) &&
           set(curl_easy_setopt(curl, CURLOPT_PROXY, "")) &&
           set(curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED)) &&
           set(curl_easy_setopt(curl, CURLOPT_HTTP_VERSION,
                                (long)CURL_HTTP_VERSION_1_1)) &&
           set(curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
                                all < CONNECT_MS ? all : (long)CONNECT_MS)) &&
           set(curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, all));
}

static bool set_callbacks(struct web *web)
{
    CURL *curl = web->curl;
    return set(curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, web->text)) &&
           set(curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body)) &&
           set(curl_easy_setopt(curl, CURLOPT_WRITEDATA, web)) &&
           set(curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header)) &&
           set(curl_easy_setopt(curl, CURLOPT_HEADERDATA, web)) &&
           set(curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress)) &&
           set(curl_easy_setopt(curl, CURLOPT_XFERINFODATA, web)) &&
           set(curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L));
}

/* What a server said is shown to a person. */
static void tell(struct web *web, const char *text)
{
    char *out = web->page->error;
    (void)snprintf(out, WEB_ERROR_MAX, "%s", text);
    for (; *out; out++)
        if ((unsigned char)*out < 0x20 || (unsigned char)*out >= 0x7f)
            *out = '?';
}

static bool perform(struct web *web)
{
    struct web_page *page = web->page;
    char *to = NULL;
    CURLcode code = curl_easy_perform(web->curl);
    if (web->stopped || web->too_large || web->no_memory) {
        tell(web, web->stopped     ? "interrupted"
                  : web->too_large ? "its answer is larger than 1 MiB"
                                   : "out of memory");
        return false;
    }
    if (code != CURLE_OK) {
        tell(web, web->text[0] ? web->text : curl_easy_strerror(code));
        return false;
    }
    if (!set(curl_easy_getinfo(web->curl, CURLINFO_RESPONSE_CODE, &page->status)) ||
        !set(curl_easy_getinfo(web->curl, CURLINFO_REDIRECT_URL, &to)))
        return false;
    if (to && strlen(to) < sizeof(page->location))
        memcpy(page->location, to, strlen(to) + 1);
    return true;
}

bool web_ask(const struct web_request *request, struct web_page *page)
{
    struct web_place place;
    struct web web = { .request = request, .page = page };
    *page = (struct web_page){ 0 };
    if (!web_place(request->url, &place)) {
        tell(&web, "that is no URL of http or https");
        return false;
    }
    web.curl = curl_easy_init();
    bool good = web.curl && set(curl_easy_setopt(web.curl, CURLOPT_URL, request->url)) &&
                set_callbacks(&web) && set_limits(&web) && set_address(&web) &&
                set_trust(&web) && set_body(&web) && set_login(&web);
    if (good)
        good = perform(&web);
    else
        tell(&web, "out of memory, or libcurl is too old");
    if (web.curl)
        curl_easy_cleanup(web.curl);
    curl_slist_free_all(web.connect_to);
    curl_slist_free_all(web.headers);
    return good;
}

void web_page_free(struct web_page *page)
{
    free(page->text);
    page->text = NULL;
    page->len = 0;
}
