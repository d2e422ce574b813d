/*
 * netstring: the framing of Postfix's and Sendmail's socketmap protocol
 * (socketmap_table(5); <https://cr.yp.to/proto/netstrings.txt>).  Pure.
 */
#ifndef SLUICE_NETSTRING_H
#define SLUICE_NETSTRING_H

#include <stddef.h>
#include <sys/types.h>

/* Postfix dict_sockmap.c accepts replies of up to 100000 bytes and sends keys
 * of up to its line length limit; we take far less than either. */
#define NETSTRING_MAX 8192

enum netstring {
    NETSTRING_DONE, /* payload is set, *consumed bytes were used */
    NETSTRING_MORE, /* incomplete so far */
    NETSTRING_BAD,  /* not a netstring, or longer than max: close */
};

/* Looks for one netstring at the start of buf. The payload points into buf. */
enum netstring netstring_parse(const char *buf, size_t len, size_t max,
                               const char **payload, size_t *payload_len,
                               size_t *consumed);

/* Writes "<len>:<payload>,". Returns its length; 0 when it does not fit. */
size_t netstring_format(char *out, size_t size, const char *payload, size_t len);

#endif
