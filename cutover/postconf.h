/*
 * postconf: Postfix's configuration as postconf(1) prints it.
 *
 * Loading runs postconf three times (main.cf, the fields and the -o options of
 * master.cf); the rest is parsing of its output, without I/O.
 */
#ifndef SLUICE_POSTCONF_H
#define SLUICE_POSTCONF_H

#include <stdbool.h>
#include <stddef.h>

#include "conf.h"

struct postconf;

struct postconf_service {
    const char *name;    /* "smtp/inet" */
    const char *program; /* "smtpd" */
    const char *command; /* the program and its arguments, as in master.cf */
    bool chroot;
};

/* NULL: error is one line. */
struct postconf *postconf_load(const struct conf *conf, char *error, size_t error_size);
/* The three outputs of postconf; they are changed and kept, not freed. NULL: no
 * memory. */
struct postconf *postconf_parse(char *main_cf, char *fields, char *options);
void postconf_free(struct postconf *postconf);

/* "" when the parameter is not there. */
const char *postconf_value(const struct postconf *postconf, const char *name);
/* What -o makes of it for that service; NULL: there is no such option. */
const char *postconf_option(const struct postconf *postconf, const char *service,
                            const char *name);
/* The one that applies: the option, else main.cf's. */
const char *postconf_effective(const struct postconf *postconf, const char *service,
                               const char *name);
/* The i-th service; NULL: no more. */
const struct postconf_service *postconf_service(const struct postconf *postconf,
                                                size_t i);
const struct postconf_service *postconf_find(const struct postconf *postconf,
                                             const char *name);

/* Takes the next item of a list ("a, b {c, d=e}"); braces are kept together and
 * taken off. false: the end. An item that does not fit is cut. */
bool postconf_item(const char **cursor, char *out, size_t size);

/* Whether "unix:path", "inet:host:port" or "host:port", read by a daemon that
 * runs chrooted or not, is our endpoint. Relative paths are below the queue
 * directory in both cases. */
bool postconf_same_endpoint(const char *text, const char *queue_directory, bool chroot,
                            const struct conf_endpoint *endpoint);
/* How to write the endpoint so that both find it: "unix:" relative to the queue
 * directory, "inet:host:port". */
void postconf_endpoint_text(const struct conf_endpoint *endpoint,
                            const char *queue_directory, char *out, size_t size);

#endif
