/*
 * Addresses: what parses, formatted, parses to the same. A canonical domain is
 * its own canonical form.
 *
 * Sources: lib/addr.c
 * Libraries: libidn2
 */
#include "../../lib/addr.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = exact_copy(data, size);
    char domain[ADDR_DOMAIN_MAX + 1], again[ADDR_DOMAIN_MAX + 1];
    char formatted[ADDR_TEXT_MAX + 1], base[ADDR_LOCAL_MAX + 1];
    struct addr addr, back;

    if (addr_domain(text, size, domain)) {
        HOLDS(addr_domain(domain, strlen(domain), again));
        HOLDS(strcmp(domain, again) == 0);
    }
    if (addr_parse(text, size, &addr) == ADDR_OK) {
        addr_format(addr.local, addr.domain, formatted);
        HOLDS(addr_parse(formatted, strlen(formatted), &back) == ADDR_OK);
        HOLDS(strcmp(addr.local, back.local) == 0);
        HOLDS(strcmp(addr.domain, back.domain) == 0);
        if (addr_base(addr.local, "+-", base))
            HOLDS(strlen(base) < strlen(addr.local));
    }
    free(text);
    return 0;
}
