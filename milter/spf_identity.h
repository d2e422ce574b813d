/*
 * spf_identity: the identity that a question of spf.h is about. Pure.
 */
#ifndef SLUICE_MILTER_SPF_IDENTITY_H
#define SLUICE_MILTER_SPF_IDENTITY_H

#include <stdbool.h>

#include "spf.h"
#include "spf_macro.h"

/* Values point into the struct itself: it is not to be copied. */
struct spf_identity {
    char domain[SPF_NAME_MAX + 1];  /* canonical; "": there is none to ask about */
    struct spf_macro_values values; /* without the validated name */
    char local[SPF_MACRO_VALUE_MAX + 1];
    char sender[SPF_MACRO_VALUE_MAX + 1];
    char helo[SPF_MACRO_VALUE_MAX + 1];
    char receiver[SPF_NAME_MAX + 1];
};

/* false: the result is "none" (RFC 7208 4.3), and why. */
bool spf_identity_of(const struct spf_question *question, struct spf_identity *out,
                     const char **why);

#endif
