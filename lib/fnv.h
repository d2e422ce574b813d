/*
 * fnv: FNV-1a, 64 bits. Tells texts apart and protects from nothing; what strangers
 * can choose is hashed with a seed of their table's own.
 */
#ifndef SLUICE_FNV_H
#define SLUICE_FNV_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t fnv_hash(uint64_t seed, const char *text, size_t len)
{
    uint64_t hash = seed ^ UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* For tables whose size is a power of two. */
static inline uint64_t fnv_fold(uint64_t hash)
{
    return hash ^ hash >> 32;
}

#endif
