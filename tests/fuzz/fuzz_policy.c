/*
 * Policy requests: read whole or in pieces of any size, the outcome is the same.
 * The first byte of the input is the size of the pieces.
 *
 * Sources: policyd/policy.c
 */
#include "../../policyd/policy.h"
#include "fuzz.h"

/* As a connection does it: what is not consumed is given again, with more. */
static enum policy_parse read_in_pieces(struct policy_request *request, const char *text,
                                        size_t size, size_t piece, size_t *used)
{
    size_t begin = 0, end = 0, consumed;

    policy_reset(request);
    for (;;) {
        end = size - end < piece ? size : end + piece;
        char *part = exact_copy(text + begin, end - begin);
        enum policy_parse outcome = policy_parse(request, part, end - begin, &consumed);
        free(part);
        if (outcome != POLICY_BAD) {
            HOLDS(consumed <= end - begin);
            begin += consumed;
        }
        *used = begin;
        if (outcome != POLICY_MORE || end == size)
            return outcome;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct policy_request whole, pieces;
    struct input input = { data, size };
    size_t piece = (size_t)take_byte(&input) + 1, used, used_in_pieces;
    const char *text = (const char *)input.data;

    enum policy_parse outcome =
        read_in_pieces(&whole, text, input.size, input.size + 1, &used);
    HOLDS(read_in_pieces(&pieces, text, input.size, piece, &used_in_pieces) == outcome);
    if (outcome != POLICY_DONE)
        return 0;
    HOLDS(used == used_in_pieces);
    HOLDS(policy_wants_verdict(&whole) == policy_wants_verdict(&pieces));
    if (policy_wants_verdict(&whole)) {
        HOLDS(whole.recipient_len == pieces.recipient_len);
        HOLDS(memcmp(whole.recipient, pieces.recipient, whole.recipient_len) == 0);
    }
    return 0;
}
