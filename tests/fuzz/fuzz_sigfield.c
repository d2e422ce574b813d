/*
 * DKIM-Signature fields: any text has a result, or is acceptable and all of it
 * is within its bounds.
 *
 * Sources: milter/sigfield.c lib/taglist.c lib/authresult.c lib/addr.c
 * Libraries: libidn2
 */
#include "../../milter/sigfield.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sigfield field;
    char *value = exact_copy(data, size);

    memset(&field, 'x', sizeof(field));
    sigfield_parse(value, size, 1700000000, &field);
    HOLDS(memchr(field.reason, '\0', sizeof(field.reason)));
    HOLDS(memchr(field.domain, '\0', sizeof(field.domain)));
    HOLDS(memchr(field.selector, '\0', sizeof(field.selector)));
    HOLDS(memchr(field.identity, '\0', sizeof(field.identity)));
    HOLDS(memchr(field.algorithm, '\0', sizeof(field.algorithm)));
    HOLDS(memchr(field.b_text, '\0', sizeof(field.b_text)));
    if (field.result == AUTH_NONE) {
        HOLDS(field.domain[0] && field.selector[0] && field.b_text[0]);
        HOLDS(field.b_len > 0 && field.b_len <= SIGFIELD_B_MAX);
        HOLDS(field.name_count > 0 && field.name_count <= SIGFIELD_NAMES_MAX);
        for (size_t i = 0; i < field.name_count; i++)
            HOLDS(field.names[i].at <= size && field.names[i].len <= size &&
                  field.names[i].at + field.names[i].len <= size);
    } else {
        HOLDS(field.result != AUTH_PASS && field.reason[0]);
    }
    free(value);
    return 0;
}
