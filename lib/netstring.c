/*
 * netstring: "<length>:<payload>,", as socketmap speaks it.
 *
 * The length is decimal, without leading zeros (the specification forbids
 * them, and Postfix never sends one), so every payload has one encoding. It is
 * judged against max as it is read: a sender that announces a gigabyte is
 * refused at the digit that goes too far, before anything is buffered.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "netstring.h"

/* Reads the digits. DONE: *used counts them, and buf[*used] is the first byte
 * after them. */
static enum netstring parse_length(const char *buf, size_t len, size_t max, size_t *value,
                                   size_t *used)
{
    size_t n = 0;

    *value = 0;
    while (n < len && buf[n] >= '0' && buf[n] <= '9') {
        if (n > 0 && *value == 0)
            return NETSTRING_BAD; /* a leading zero */
        size_t digit = (size_t)(buf[n] - '0');
        if (digit > max || *value > (max - digit) / 10)
            return NETSTRING_BAD;
        *value = *value * 10 + digit;
        n++;
    }
    *used = n;
    if (n == len)
        return NETSTRING_MORE;
    return n > 0 && buf[n] == ':' ? NETSTRING_DONE : NETSTRING_BAD;
}

enum netstring netstring_parse(const char *buf, size_t len, size_t max,
                               const char **payload, size_t *payload_len,
                               size_t *consumed)
{
    size_t size, used;
    enum netstring found = parse_length(buf, len, max, &size, &used);

    if (found != NETSTRING_DONE)
        return found;
    size_t start = used + 1;
    if (len - start < size || len - start == size)
        return NETSTRING_MORE;
    if (buf[start + size] != ',')
        return NETSTRING_BAD;
    *payload = buf + start;
    *payload_len = size;
    *consumed = start + size + 1;
    return NETSTRING_DONE;
}

size_t netstring_format(char *out, size_t size, const char *payload, size_t len)
{
    char prefix[32];
    int digits = snprintf(prefix, sizeof(prefix), "%zu:", len);

    if (digits < 0 || (size_t)digits >= sizeof(prefix))
        return 0;
    size_t head = (size_t)digits;
    if (len > SIZE_MAX - head - 1 || size < head + len + 1)
        return 0;
    memcpy(out, prefix, head);
    memcpy(out + head, payload, len);
    out[head + len] = ',';
    return head + len + 1;
}
