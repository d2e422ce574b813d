/*
 * orgdomain: see orgdomain.h. The list is read once: that of the package
 * publicsuffix where it is newer than the one built into libpsl (psl_latest()).
 * All of it counts, also the private suffixes (github.io), as RFC 7489 3.2 has it;
 * names are looked up as A-labels, which libpsl has for every U-label. A
 * top-level domain that is not listed is a public suffix (the rule "*").
 *
 * libpsl looks at the last nine labels of a name; no rule is longer.
 */
#include <stdlib.h>
#include <string.h>

#include <libpsl.h>

#include "orgdomain.h"

struct suffixes {
    psl_ctx_t *own; /* to be freed; NULL: the built-in list */
    const psl_ctx_t *list;
};

struct suffixes *suffixes_new(void)
{
    struct suffixes *suffixes = calloc(1, sizeof(*suffixes));
    if (!suffixes)
        return NULL;
    suffixes->own = psl_latest(NULL);
    suffixes->list = suffixes->own ? suffixes->own : psl_builtin();
    if (!suffixes->list || psl_suffix_count(suffixes->list) == 0) {
        suffixes_free(suffixes);
        return NULL;
    }
    return suffixes;
}

void suffixes_free(struct suffixes *suffixes)
{
    if (!suffixes)
        return;
    psl_free(suffixes->own);
    free(suffixes);
}

void suffixes_organisation(const struct suffixes *suffixes, const char *domain,
                           char out[ADDR_DOMAIN_MAX + 1])
{
    /* Points into domain; NULL: the name is a public suffix itself. */
    const char *found = psl_registrable_domain(suffixes->list, domain);
    if (!found)
        found = domain;
    size_t len = strnlen(found, ADDR_DOMAIN_MAX);
    memcpy(out, found, len);
    out[len] = '\0';
}

bool suffixes_is_public(const struct suffixes *suffixes, const char *domain)
{
    return psl_is_public_suffix(suffixes->list, domain) != 0;
}
