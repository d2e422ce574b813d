/*
 * addr: mail addresses as sluice compares them.
 *
 * An address is parsed from the form a milter, Postfix's policy protocol, a
 * socketmap key or a CSV column gives it: with or without angle brackets,
 * with a source route (dropped, RFC 5321 4.1.1.3), with a quoted local part
 * (unquoted), in any case.  The result is canonical: domain in lower case,
 * without final dot, U-labels as A-labels (RFC 5891, by libidn2); local part
 * with ASCII letters in lower case.  Nothing is truncated: what does not fit
 * has an answer of its own.
 *
 * Pure functions, no allocation.
 */
#ifndef SLUICE_ADDR_H
#define SLUICE_ADDR_H

#include <stdbool.h>
#include <stddef.h>

/* RFC 5321 4.5.3.1.1 allows 64 octets, Postfix delivers to longer ones
 * (VERP, SRS); a longer local part than this cannot be a listed mailbox. */
#define ADDR_LOCAL_MAX 128
/* RFC 1035 2.3.4: 255 octets on the wire are 253 characters. */
#define ADDR_DOMAIN_MAX 253
#define ADDR_TEXT_MAX (ADDR_LOCAL_MAX * 2 + 2 + 1 + ADDR_DOMAIN_MAX)

enum addr_kind {
    ADDR_OK,        /* local and domain are set */
    ADDR_NULL,      /* "<>" or "": the null reverse-path */
    ADDR_NO_DOMAIN, /* local only, domain is "" ("postmaster", "*") */
    ADDR_OVERLONG,  /* domain is set; the local part is longer than that of any
                       listed mailbox: local is its beginning, which may still
                       name the mailbox of "user+a very long extension" */
    ADDR_BAD,       /* not an address: control characters, no local part, an
                       unfinished quote, a bad domain, over-long domain. Where
                       only the local part is at fault, domain is set, and local
                       is what comes before the fault */
};

struct addr {
    char local[ADDR_LOCAL_MAX + 1];
    char domain[ADDR_DOMAIN_MAX + 1];
};

/* Parses len bytes of text. out is always filled (empty strings where a part
 * is missing). Address literals ("[192.0.2.1]") are kept as domains. */
enum addr_kind addr_parse(const char *text, size_t len, struct addr *out);

/* Canonical form of a bare domain name; false when it is not one. */
bool addr_domain(const char *text, size_t len, char out[ADDR_DOMAIN_MAX + 1]);

/* The base of "user+ext": copies local up to its first delimiter character
 * (Postfix recipient_delimiter: a set of characters, never at position 0) and
 * returns true; false when there is none. */
bool addr_base(const char *local, const char *delimiters,
               char out[ADDR_LOCAL_MAX + 1]);

/* Whether a local part needs no quotes: a Dot-string of RFC 5321 4.1.2. */
bool addr_is_dot_string(const char *local);

/* local@domain as text, the local part quoted where RFC 5321 wants it. */
void addr_format(const char *local, const char *domain,
                 char out[ADDR_TEXT_MAX + 1]);

#endif
