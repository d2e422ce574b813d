/*
 * spf_macro: the macros of SPF (RFC 7208 section 7). Pure.
 */
#ifndef SLUICE_SPF_MACRO_H
#define SLUICE_SPF_MACRO_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "netaddr.h"

/* A value longer than this does not expand: callers refuse such senders. */
#define SPF_MACRO_VALUE_MAX 1024
#define SPF_NAME_MAX        253 /* of a domain name, without the final dot */

enum spf_macro_where {
    SPF_IN_DOMAIN,     /* a domain-spec */
    SPF_IN_EXPLANATION /* the text an exp= leads to: %{c}, %{r}, %{t} too */
};

/* What the letters stand for. A NULL text is a letter that is not known. */
struct spf_macro_values {
    const char *sender;        /* s: local-part@domain */
    const char *local;         /* l */
    const char *sender_domain; /* o */
    const char *domain;        /* d: whose record it is */
    const char *helo;          /* h */
    const char *receiver;      /* r */
    const char *validated;     /* p: name of the client, or "unknown" */
    struct netaddr client;     /* i, c, v; AF_UNSPEC: not known */
    time_t now;                /* t */
};

/* Whether every '%' in text begins a macro-expand of RFC 7208 7.1, and every
 * byte is a visible ASCII character (in an explanation a space too). */
bool spf_macros_are_sound(const char *text, size_t len, enum spf_macro_where where);
/* Whether sound text holds the macro of this (lower-case) letter; 0: any. */
bool spf_macro_used(const char *text, size_t len, char letter);

/* Sound text, expanded, with a NUL. false: a letter that is not known, a value
 * that is too long, or no room. */
bool spf_macro_expand(const char *text, size_t len, const struct spf_macro_values *values,
                      char *out, size_t size);
/* The same for a domain-spec: without a final dot, and of a name over
 * SPF_NAME_MAX only as many labels from the right as fit (RFC 7208 7.3). */
bool spf_macro_domain(const char *spec, size_t len, const struct spf_macro_values *values,
                      char out[SPF_NAME_MAX + 1]);

#endif
