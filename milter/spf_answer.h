/*
 * spf_answer: what SPF reads in DNS answers. Pure.
 */
#ifndef SLUICE_MILTER_SPF_ANSWER_H
#define SLUICE_MILTER_SPF_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

#include "resolver.h"
#include "spf_macro.h"
#include "spf_record.h"

/* A record and its text. Large: not for the stack. */
struct spf_loaded {
    struct spf_record record;
    size_t len;
    char text[SPF_RECORD_MAX + 1];
};

enum spf_load { SPF_LOADED, SPF_LOAD_NONE, SPF_LOAD_TEMPERROR, SPF_LOAD_PERMERROR };

/* Chooses the SPF record in an answer for TXT and parses it (RFC 7208 4.4 to
 * 4.6). why: one line unless it was loaded. */
enum spf_load spf_load(const struct answer *answer, struct spf_loaded *out, char *why,
                       size_t why_size);

/* The strings of one TXT record joined (RFC 7208 3.3), any byte in them. false:
 * malformed, or over size - 1. */
bool spf_join(const struct answer_record *record, char *out, size_t size, size_t *len);

/* Names looked up for one MX or PTR query (RFC 7208 4.6.4). */
#define SPF_NAMES_MAX 10
struct spf_names {
    size_t count;
    bool more; /* there were more than these */
    char name[SPF_NAMES_MAX][256];
};

/* As resolver.h wants names: bytes as they are. The null MX (RFC 7505) and what
 * such text cannot express are left out. */
void spf_exchanges(const struct answer *answer, struct spf_names *out);
/* Host names alone: others validate nothing. */
void spf_pointers(const struct answer *answer, struct spf_names *out);

/* Letters, digits, hyphens, underscores, and dots between. */
bool spf_is_host_name(const char *name);
/* Whether a host is the domain or below it. */
bool spf_is_below(const char *host, const char *domain);

#endif
