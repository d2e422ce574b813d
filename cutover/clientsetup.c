/*
 * clientsetup: see clientsetup.h. No XML reader: an element's text between its tags is
 * enough to know which servers are named, and nothing of an answer is ever followed but
 * a URL, which is judged by itself.
 */
#include "clientsetup.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- URLs ------------------------------------------------------------------- */

static bool take_port(const char *text, size_t len, unsigned *out)
{
    unsigned port = 0;
    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    if (port < 1 || port > 65535)
        return false;
    *out = port;
    return true;
}

static bool is_host(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z') ||
              (text[i] >= '0' && text[i] <= '9') || (text[i] && strchr(".-_:", text[i]))))
            return false;
    return len > 0;
}

bool web_place(const char *url, struct web_place *out)
{
    *out = (struct web_place){ 0 };
    out->is_tls = strncasecmp(url, "https://", 8) == 0;
    if (!out->is_tls && strncasecmp(url, "http://", 7) != 0)
        return false;
    out->port = out->is_tls ? 443 : 80;
    for (const char *c = url; *c; c++)
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
            return false;
    const char *host = url + (out->is_tls ? 8 : 7);
    size_t len = strcspn(host, "/?#");
    if (memchr(host, '@', len) || strchr(url, '#'))
        return false;
    const char *end = host[0] == '[' ? memchr(host, ']', len) : NULL;
    const char *port =
        memchr(end ? end : host, ':', len - (end ? (size_t)(end - host) : 0));
    if (host[0] == '[' && (!end || (port ? port != end + 1 : end + 1 != host + len)))
        return false;
    if (port && !take_port(port + 1, len - (size_t)(port + 1 - host), &out->port))
        return false;
    size_t n = end ? (size_t)(end - host) - 1 : port ? (size_t)(port - host) : len;
    const char *from = end ? host + 1 : host;
    if (n >= sizeof(out->host) || !is_host(from, n) || (!end && memchr(from, ':', n)))
        return false;
    for (size_t i = 0; i < n; i++)
        out->host[i] = from[i] >= 'A' && from[i] <= 'Z' ? (char)(from[i] + 32) : from[i];
    return true;
}

/* ---- elements ----------------------------------------------------------------- */

struct element {
    const char *name, *text; /* the name without a prefix */
    size_t name_len, text_len;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The next element that has nothing but text in it; *at moves on. */
static bool next_element(const char **at, const char *end, struct element *out)
{
    for (;;) {
        const char *open = memchr(*at, '<', (size_t)(end - *at));
        const char *shut = open ? memchr(open, '>', (size_t)(end - open)) : NULL;
        const char *close = shut ? memchr(shut, '<', (size_t)(end - shut)) : NULL;
        if (!close)
            return false;
        *at = shut + 1;
        if (close + 1 >= end || close[1] != '/' || shut[-1] == '/' || open[1] == '/')
            continue;
        size_t len = 0;
        const char *name = open + 1;
        for (; name + len < shut && !is_space(name[len]); len++)
            if (name[len] == ':') {
                name += len + 1;
                len = (size_t)-1; /* 0, when it was counted on */
            }
        *out = (struct element){ name, shut + 1, len, (size_t)(close - shut - 1) };
        for (; out->text_len > 0 && is_space(*out->text); out->text++)
            out->text_len--;
        while (out->text_len > 0 && is_space(out->text[out->text_len - 1]))
            out->text_len--;
        return true;
    }
}

static bool is_called(const struct element *element, const char *name)
{
    return strlen(name) == element->name_len &&
           strncasecmp(name, element->name, element->name_len) == 0;
}

static bool ends_in(const struct element *element, const char *tail)
{
    size_t len = strlen(tail);
    return element->name_len >= len &&
           strncasecmp(element->name + element->name_len - len, tail, len) == 0;
}

/* A name; NULL: it is none, or there is no more room. One that is there already is
 * another entry only with another port, which comes behind it. */
static struct setup_server *add(struct setup_server *out, size_t *count, const char *text,
                                size_t len)
{
    if (len > SETUP_NAME_MAX || !is_host(text, len) || *count == SETUP_SERVERS_MAX)
        return NULL;
    struct setup_server *it = &out[(*count)++];
    for (size_t i = 0; i < len; i++)
        it->name[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];
    it->name[len] = '\0';
    it->port = 0;
    return it;
}

static void add_url(struct setup_server *out, size_t *count,
                    const struct element *element)
{
    char url[512];
    struct web_place place;
    if (element->text_len >= sizeof(url))
        return;
    memcpy(url, element->text, element->text_len);
    url[element->text_len] = '\0';
    if (strlen(url) == element->text_len && web_place(url, &place) && place.is_tls) {
        struct setup_server *it = add(out, count, place.host, strlen(place.host));
        if (it)
            it->port = place.port;
    }
}

static size_t without_doubles(struct setup_server *out, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        size_t j = 0;
        while (j < n &&
               (strcmp(out[j].name, out[i].name) != 0 || out[j].port != out[i].port))
            j++;
        if (j == n)
            out[n++] = out[i];
    }
    return n;
}

/* Answers of Exchange name the same few servers over and over. */
static void make_room(struct setup_server *out, size_t *count, struct setup_server **last,
                      bool *more)
{
    if (*count < SETUP_SERVERS_MAX)
        return;
    *count = without_doubles(out, *count);
    *more = *more || *count == SETUP_SERVERS_MAX;
    *last = NULL;
}

size_t setup_servers(const char *text, size_t len,
                     struct setup_server out[SETUP_SERVERS_MAX], bool *more)
{
    const char *at = text, *end = text + len;
    struct element element;
    struct setup_server *last = NULL;
    size_t count = 0;
    *more = false;
    while (next_element(&at, end, &element)) {
        bool is_name = is_called(&element, "server") || is_called(&element, "hostname");
        if (is_name || ends_in(&element, "url"))
            make_room(out, &count, &last, more);
        if (is_name)
            last = add(out, &count, element.text, element.text_len);
        else if (is_called(&element, "port") && last && last->port == 0)
            (void)take_port(element.text, element.text_len, &last->port);
        else if (ends_in(&element, "url"))
            add_url(out, &count, &element);
    }
    return without_doubles(out, count);
}

bool setup_redirect(const char *text, size_t len, char *out, size_t size)
{
    const char *at = text, *end = text + len;
    struct element element;
    while (next_element(&at, end, &element))
        if (is_called(&element, "redirecturl") && element.text_len > 0 &&
            element.text_len < size) {
            memcpy(out, element.text, element.text_len);
            out[element.text_len] = '\0';
            return strlen(out) == element.text_len;
        }
    return false;
}

bool setup_is_one(const char *name, const char *list)
{
    size_t len = strlen(name);
    for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',') {
        size_t n = strcspn(at, ",");
        bool below = n > 1 && at[0] == '.';
        if (below ? len > n && strncasecmp(name + len - n, at, n) == 0
                  : n > 0 && len == n && strncasecmp(name, at, n) == 0)
            return true;
    }
    return false;
}
