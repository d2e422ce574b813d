/*
 * SPF macros: what is sound expands within its room or not at all; a domain is
 * never over 253 bytes. Input: the text, a NUL, then the values it may name.
 *
 * Sources: lib/spf_macro.c lib/netaddr.c
 */
#include "../../lib/spf_macro.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    char text[2048], local[600], sender_domain[300], domain[300], helo[300];
    char sender[1000], out[512], name[SPF_NAME_MAX + 1];
    uint8_t flags = take_byte(&input);
    struct spf_macro_values values = { .now = 1700000000,
                                       .sender = sender,
                                       .local = local,
                                       .sender_domain = sender_domain,
                                       .domain = domain,
                                       .helo = flags & 1 ? helo : NULL,
                                       .receiver = flags & 2 ? "mx.example.com" : NULL,
                                       .validated = flags & 4 ? "unknown" : NULL };
    enum spf_macro_where where = flags & 8 ? SPF_IN_EXPLANATION : SPF_IN_DOMAIN;

    netaddr_parse(flags & 16 ? "2001:db8::cb01" : "192.0.2.3", flags & 16 ? 14 : 9,
                  &values.client);
    take_text(&input, text, sizeof(text));
    take_text(&input, local, sizeof(local));
    take_text(&input, sender_domain, sizeof(sender_domain));
    take_text(&input, domain, sizeof(domain));
    take_text(&input, helo, sizeof(helo));
    snprintf(sender, sizeof(sender), "%s@%s", local, sender_domain);
    char *exact = exact_copy(text, strlen(text));
    if (spf_macros_are_sound(exact, strlen(text), where)) {
        if (spf_macro_expand(exact, strlen(text), &values, out, sizeof(out))) {
            HOLDS(memchr(out, '\0', sizeof(out)));
            /* Without macros a text stands for itself. */
            if (!strchr(text, '%'))
                HOLDS(strcmp(out, text) == 0);
        }
        if (where == SPF_IN_DOMAIN &&
            spf_macro_domain(exact, strlen(text), &values, name))
            HOLDS(memchr(name, '\0', sizeof(name)));
    }
    free(exact);
    return 0;
}
