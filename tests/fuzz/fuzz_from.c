/*
 * The From parser. The domain it gives is canonical; where it gives none, the
 * text is empty. Two fields are never one author.
 *
 * Sources: milter/from.c lib/addr.c
 * Libraries: libidn2
 */
#include "../../milter/from.h"
#include "fuzz.h"

static void check_domain(enum from_status status, const char *domain)
{
    char canonical[ADDR_DOMAIN_MAX + 1];

    if (status != FROM_ONE && status != FROM_SEVERAL) {
        HOLDS(domain[0] == '\0');
        return;
    }
    HOLDS(domain[0] != '[');
    HOLDS(addr_domain(domain, strlen(domain), canonical));
    HOLDS(strcmp(domain, canonical) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char domain[ADDR_DOMAIN_MAX + 1];
    struct from_author author;
    char *value = exact_copy(data, size);

    enum from_status status = from_domain(value, size, domain);
    check_domain(status, domain);

    from_author_reset(&author);
    from_author_add(&author, value, size);
    HOLDS(author.status == status && strcmp(author.domain, domain) == 0);
    from_author_add(&author, value, size / 2);
    HOLDS(author.status != FROM_ONE);
    check_domain(author.status, author.domain);
    free(value);
    return 0;
}
