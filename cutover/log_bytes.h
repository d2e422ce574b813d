/*
 * log_bytes: bytes looked at eight at a time, for the busiest places of log_*.c: what is
 * looked for stands within a few bytes, where a call of memchr(3) or memcmp(3) costs more
 * than it does. Known as SWAR (Bit Twiddling Hacks, "Determine if a word has a byte equal
 * to n"); the lowest byte found is exact.
 */
#ifndef SLUICE_LOG_BYTES_H
#define SLUICE_LOG_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LOG_BYTES_ONES  UINT64_C(0x0101010101010101)
#define LOG_BYTES_HIGHS UINT64_C(0x8080808080808080)

/* As written in memory: the compiler makes one load of it. */
static inline uint64_t log_bytes_get(const char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

static inline bool log_bytes_few_equal(const char *a, const char *b, size_t len)
{
    uint32_t first[2], last[2];
    if (len < 4) {
        while (len > 0 && a[len - 1] == b[len - 1])
            len--;
        return len == 0;
    }
    memcpy(&first[0], a, 4);
    memcpy(&first[1], b, 4);
    memcpy(&last[0], a + len - 4, 4);
    memcpy(&last[1], b + len - 4, 4);
    return first[0] == first[1] && last[0] == last[1];
}

static inline bool log_bytes_equal(const char *a, const char *b, size_t len)
{
    if (len < 8)
        return log_bytes_few_equal(a, b, len);
    for (; len > 8; a += 8, b += 8, len -= 8)
        if (log_bytes_get(a) != log_bytes_get(b))
            return false;
    /* The last eight: some of them for the second time. */
    return log_bytes_get(a + len - 8) == log_bytes_get(b + len - 8);
}

/* Where c is among the eight bytes at p; 8: nowhere. */
static inline size_t log_bytes_find(const char *p, char c)
{
    uint64_t word = le64toh(log_bytes_get(p)) ^ LOG_BYTES_ONES * (unsigned char)c;
    uint64_t found = (word - LOG_BYTES_ONES) & ~word & LOG_BYTES_HIGHS;
    return found ? (size_t)__builtin_ctzll(found) / 8 : 8;
}

/* How many digits the eight bytes at p begin with, and their number. */
static inline size_t log_bytes_number(const char *p, uint32_t *out)
{
    uint64_t word = le64toh(log_bytes_get(p)) ^ LOG_BYTES_ONES * '0';
    uint64_t other = ((word + LOG_BYTES_ONES * (0x80 - 10)) | word) & LOG_BYTES_HIGHS;
    size_t count = other ? (size_t)__builtin_ctzll(other) / 8 : 8;
    if (count == 0)
        return 0;
    word <<= (8 - count) * 8; /* zeros in front; then pairs, fours, all eight are added */
    word = (word * 10 + (word >> 8)) & UINT64_C(0x00ff00ff00ff00ff);
    word = (word * 100 + (word >> 16)) & UINT64_C(0x0000ffff0000ffff);
    *out = (uint32_t)(word * 10000 + (word >> 32));
    return count;
}

#endif
