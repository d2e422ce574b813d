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

/* Whether a header value contains the token. Other content is skipped. */
bool trace_contains(const char *value, const char *token);

#endif
