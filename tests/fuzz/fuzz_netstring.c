/*
 * Netstrings: what is read, written again, is read as the same; a part of one is
 * never more than "more".
 *
 * Sources: lib/netstring.c
 */
#include "../../lib/netstring.h"
#include "fuzz.h"

static void check_done(const char *text, const char *payload, size_t len, size_t consumed)
{
    const char *second;
    size_t second_len, second_consumed;
    char *again = malloc(len + 32);

    HOLDS(again);
    HOLDS(payload >= text && payload + len < text + consumed);
    size_t written = netstring_format(again, len + 32, payload, len);
    HOLDS(written > len);
    HOLDS(netstring_parse(again, written, NETSTRING_MAX, &second, &second_len,
                          &second_consumed) == NETSTRING_DONE);
    HOLDS(second_len == len && second_consumed == written);
    HOLDS(len == 0 || memcmp(second, payload, len) == 0);
    HOLDS(netstring_format(again, written - 1, payload, len) == 0);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *payload;
    size_t len, consumed;
    char *text = exact_copy(data, size);

    if (netstring_parse(text, size, NETSTRING_MAX, &payload, &len, &consumed) ==
        NETSTRING_DONE) {
        HOLDS(consumed <= size && len <= NETSTRING_MAX);
        check_done(text, payload, len, consumed);
        for (size_t cut = 0; cut < consumed && cut < 64; cut++)
            HOLDS(netstring_parse(text, cut, NETSTRING_MAX, &payload, &len,
                                  &(size_t){ 0 }) == NETSTRING_MORE);
    }
    free(text);
    return 0;
}
