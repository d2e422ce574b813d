/*
 * webclient: asks a web server one thing, by libcurl (webclient.c; mailclient.c is the
 * only other file that includes it).
 *
 * HTTP/1.1 over http or https and nothing else; no proxy, no .netrc, no cookies, no
 * compression, no redirect that is followed unasked. TLS is always checked, by the
 * system's authorities or a CA file, and the name. A login (Basic) goes over https
 * alone. An answer has WEB_PAGE_MAX bytes at most; more is an error. Blocking, with a
 * deadline for the whole, ended early by stop().
 */
#ifndef SLUICE_WEBCLIENT_H
#define SLUICE_WEBCLIENT_H

#include <stdbool.h>
#include <stddef.h>

#define WEB_PAGE_MAX  ((size_t)1024 * 1024)
#define WEB_URL_MAX   2048
#define WEB_ERROR_MAX 700

struct web_request {
    const char *url;
    const char *at;              /* address to connect to; NULL: the host of the URL */
    const char *ca_file;         /* PEM; NULL: the system's */
    const char *body, *type;     /* POST; NULL: GET */
    const char *user, *password; /* NULL: no login */
    int timeout_ms;
    bool (*stop)(void); /* NULL: never */
};

struct web_page {
    long status; /* of HTTP */
    char *text;  /* with a '\0' behind it */
    size_t len;
    char location[WEB_URL_MAX]; /* absolute, where it redirects to; "" */
    bool asks_login;            /* 401 that takes Basic */
    char error[WEB_ERROR_MAX];  /* where there was no answer; printable */
};

/* false: no answer, page->error says why. web_page_free() in any case. */
bool web_ask(const struct web_request *request, struct web_page *page);
void web_page_free(struct web_page *page);

#endif
