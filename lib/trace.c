/*
 * trace: tokens of the loop header.
 *
 * The token's input is the canonical address, a NUL (which no address holds)
 * and the epoch in decimal, so that no two pairs share an input. 128 of the
 * 256 bits are kept: far out of reach for somebody who has the header of other
 * messages, and a header with a hundred recipients stays short.
 *
 * This and srs.c are the only files that know OpenSSL.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "addr.h"
#include "trace.h"

bool trace_token(const unsigned char *key, size_t key_len, const char *address,
                 uint64_t epoch, char out[TRACE_TOKEN_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    char input[ADDR_TEXT_MAX + 32];
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned int mac_len = 0;

    out[0] = '\0';
    int len = snprintf(input, sizeof(input), "%s%c%" PRIu64, address, '\0', epoch);
    if (len < 0 || (size_t)len >= sizeof(input) || key_len > INT_MAX)
        return false;
    if (!HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)input, (size_t)len,
              mac, &mac_len) ||
        mac_len < TRACE_TOKEN_LEN / 2)
        return false;
    for (size_t i = 0; i < TRACE_TOKEN_LEN / 2; i++) {
        out[2 * i] = digits[mac[i] >> 4];
        out[2 * i + 1] = digits[mac[i] & 15];
    }
    out[TRACE_TOKEN_LEN] = '\0';
    return true;
}

/* A long header may come folded, and with the line ends of any system. */
#define SEPARATORS " \t\r\n"

/* Copies the tokens of value; returns their number. out may be NULL. */
static size_t take_tokens(const char *value, char (*out)[TRACE_TOKEN_LEN + 1])
{
    size_t count = 0;

    for (;;) {
        value += strspn(value, SEPARATORS);
        size_t len = strcspn(value, SEPARATORS);
        if (len == 0)
            return count;
        if (len == TRACE_TOKEN_LEN) {
            if (out) {
                memcpy(out[count], value, len);
                out[count][len] = '\0';
            }
            count++;
        }
        value += len;
    }
}

static int by_text(const void *a, const void *b)
{
    return memcmp(a, b, TRACE_TOKEN_LEN);
}

bool trace_read(const char *value, struct trace_set *out)
{
    *out = (struct trace_set){ 0 };
    size_t count = value ? take_tokens(value, NULL) : 0;
    if (count == 0)
        return true;
    out->tokens = calloc(count, sizeof(*out->tokens));
    if (!out->tokens)
        return false;
    out->count = take_tokens(value, out->tokens);
    qsort(out->tokens, out->count, sizeof(*out->tokens), by_text);
    return true;
}

bool trace_has(const struct trace_set *set, const char *token)
{
    return set->count > 0 && strlen(token) == TRACE_TOKEN_LEN &&
           bsearch(token, set->tokens, set->count, sizeof(*set->tokens), by_text);
}

void trace_free(struct trace_set *set)
{
    free(set->tokens);
    *set = (struct trace_set){ 0 };
}
