/*
 * fuzz: what the libFuzzer targets share. Each fuzz_NAME.c is one target; a
 * broken invariant aborts by HOLDS(). Lines "Sources:" and "Libraries:" in its
 * first comment tell tests/fuzz/run what to link (paths in the tree, names for
 * pkg-config).
 */
#ifndef SLUICE_TESTS_FUZZ_H
#define SLUICE_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__,            \
                    #condition);                                                         \
            abort();                                                                     \
        }                                                                                \
    } while (0)

/* What is left of an input. */
struct input {
    const uint8_t *data;
    size_t size;
};

/* 0 when there is none left. */
static inline uint8_t take_byte(struct input *input)
{
    if (input->size == 0)
        return 0;
    input->size--;
    return *input->data++;
}

/* A string of up to size - 1 bytes: up to the next NUL, or all there is. */
static inline void take_text(struct input *input, char *out, size_t size)
{
    size_t len = strnlen((const char *)input->data, input->size);
    size_t kept = len < size ? len : size - 1;
    if (kept > 0)
        memcpy(out, input->data, kept);
    out[kept] = '\0';
    if (len < input->size)
        len++;
    input->data += len;
    input->size -= len;
}

/* A copy of exactly this size on the heap, so that a read past the end is seen. */
static inline char *exact_copy(const void *data, size_t size)
{
    char *copy = malloc(size ? size : 1);
    HOLDS(copy);
    if (size > 0)
        memcpy(copy, data, size);
    return copy;
}

#endif
