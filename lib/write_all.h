/*
 * write_all: write(2) until all is written. false: errno says why; some of it may
 * have been written.
 */
#ifndef SLUICE_WRITE_ALL_H
#define SLUICE_WRITE_ALL_H

#include <stdbool.h>
#include <stddef.h>

bool write_all(int fd, const char *text, size_t len);

#endif
