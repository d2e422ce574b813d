/*
 * http_request: reads the head of an HTTP/1 request (RFC 9112), as strictly as a
 * server may that answers nothing but GET and HEAD of a few fixed paths. Pure.
 *
 * Refused: line ends other than CRLF, folded and nameless header fields, control
 * characters, targets that are no path, a body of any kind, more than one Host. What
 * is refused ends the connection, so nothing that follows can be taken for a request.
 */
#ifndef SLUICE_POLICYD_HTTP_REQUEST_H
#define SLUICE_POLICYD_HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "conf.h"

#define HTTP_HEAD_MAX   8192 /* bytes of the whole head */
#define HTTP_FIELDS_MAX 64
#define HTTP_PATH_MAX   64 /* ours are shorter; a longer one is not found */
#define HTTP_HOST_MAX   300
#define HTTP_AUTH_MAX   2048

struct http_request {
    bool get, head;               /* neither: another method */
    bool keep;                    /* the connection may stay open */
    char path[HTTP_PATH_MAX + 1]; /* without query; "" when too long */
    char host[HTTP_HOST_MAX + 1]; /* as it came; "" when there is none */
    char authorization[HTTP_AUTH_MAX + 1];
};

/* 0: the head is not complete. 200: it is, and *used bytes long. Else the status to
 * answer with, after which the connection is closed: 400, 413, 414, 431, 505. */
int http_request_parse(const char *buf, size_t len, struct http_request *out,
                       size_t *used);

/* Whether a Host field names this server: an address (no attacker's name leads to it:
 * DNS rebinding needs a name), localhost, this host or one of http-hosts. */
bool http_request_host(const struct conf *conf, const char *host);
/* Whether an Authorization field has the password (Basic, any user), or none is asked
 * for. The time it takes does not depend on how much of it is right. */
bool http_request_allowed(const struct conf *conf, const char *authorization);

#endif
