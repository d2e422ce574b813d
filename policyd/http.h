/*
 * http: policyd's status page, its document, the metrics and the health check, for
 * reading alone. Runs on the thread of the loop and hands out what stats.h has made.
 *
 *   /             the page (page.h)
 *   /status.json  status.h
 *   /metrics      text format of Prometheus
 *   /healthz      "ok" (200), or one line that says what is wrong (503)
 */
#ifndef SLUICE_POLICYD_HTTP_H
#define SLUICE_POLICYD_HTTP_H

#include <stdbool.h>

#include "conf.h"
#include "lookup.h"
#include "stats.h"

#define HTTP_CLIENTS_MAX 64

struct event_base;
struct http;

/* Takes fd over (listening, non-blocking), also on failure. conf is referenced;
 * stats and lookups must outlive it. NULL: logged. */
struct http *http_new(struct event_base *base, struct conf *conf, struct stats *stats,
                      const struct lookups *lookups, int fd);
void http_reload(struct http *http, struct conf *conf);
/* Closes everything at once. NULL is fine. */
void http_free(struct http *http);

#endif
