/*
 * The reader of Authentication-Results. A value whose authserv-id is ours by the
 * grammar is ours; so is anything behind our id and a semicolon, and nothing
 * behind another's.
 *
 * Sources: milter/authres_claim.c lib/addr.c
 * Libraries: libidn2
 */
#include <strings.h>

#include "../../milter/authres.h"
#include "../unit/authres_grammar.h"
#include "fuzz.h"

#define ID "mx.example.com"

/* Whether the id is ours by the grammar, read by a second reader. */
static bool is_ours_strictly(const char *text)
{
    char id[sizeof(ID) + 1];
    size_t len = 0;
    const char *start = grammar_cfws(text), *end = grammar_value(start);

    if (!end || *start == '(')
        return false;
    bool quoted = *start == '"';
    for (const char *p = start + quoted; p < end - quoted; p++) {
        if (quoted && *p == '\\')
            p++;
        else if (quoted && (*p == '\n' || *p == '\r'))
            continue;
        if (len == sizeof(id) - 1)
            return false;
        id[len++] = *p;
    }
    id[len] = '\0';
    return strcasecmp(id, ID) == 0;
}

static bool behind(const char *id, const uint8_t *data, size_t size)
{
    size_t len = strlen(id);
    char *value = malloc(len + size);

    HOLDS(value);
    memcpy(value, id, len);
    memcpy(value + len, data, size);
    bool ours = authres_is_ours(value, len + size, ID);
    free(value);
    return ours;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *value = exact_copy(data, size), *text = malloc(size + 1);
    bool ours = authres_is_ours(value, size, ID);

    HOLDS(text);
    memcpy(text, value, size);
    text[size] = '\0';
    if (strlen(text) == size && is_ours_strictly(text))
        HOLDS(ours);
    HOLDS(behind(" " ID ";", data, size));
    HOLDS(!behind(" other.example;", data, size));
    HOLDS(!behind(" x" ID ";", data, size));
    free(text);
    free(value);
    return 0;
}
