/*
 * trace: the header by which sluice knows a message that it forwarded before.
 *
 * A loop is the same recipient, under the same epoch, coming to the verdict
 * "forward" again. The header carries a token per forwarded recipient: an
 * HMAC-SHA256 over address and epoch, cut to 16 bytes. So the header names no
 * blind-copy recipient to the others, and a stranger cannot forge it to have
 * mail held.
 *
 *     X-Sluice-Trace: <token> <token> ...        (32 hex digits each)
 */
#ifndef SLUICE_TRACE_H
#define SLUICE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_HEADER    "X-Sluice-Trace"
#define TRACE_TOKEN_LEN 32

/* false: the cryptographic library failed. */
bool trace_token(const unsigned char *key, size_t key_len, const char *address,
                 uint64_t epoch, char out[TRACE_TOKEN_LEN + 1]);

/* The tokens in header values, for any number of questions: a message may bring
 * thousands of them, true or not, and have as many recipients. */
struct trace_set {
    char (*tokens)[TRACE_TOKEN_LEN + 1]; /* sorted */
    size_t count;
};
/* value may be NULL. Content that is no token is skipped. false: no memory. */
bool trace_read(const char *value, struct trace_set *out);
bool trace_has(const struct trace_set *set, const char *token);
void trace_free(struct trace_set *set);

#endif
