/*
 * log_file: one log file, plain or compressed by gzip, read in order. The one
 * place that knows zlib. For log_source.c.
 */
#ifndef SLUICE_LOG_FILE_H
#define SLUICE_LOG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct log_file;

/* Of a descriptor, which it owns from then on, also when it fails. NULL: errno. */
struct log_file *log_file_new(int fd);
void log_file_free(struct log_file *file);
/* Bytes read, 0 at the end (a growing file may have more later), -1: errno, EBADMSG
 * for damaged gzip data. */
ssize_t log_file_read(struct log_file *file, char *out, size_t size);
/* To this offset of the (uncompressed) text. false: it is not that long, or errno. */
bool log_file_seek(struct log_file *file, int64_t offset);
int log_file_fd(const struct log_file *file);
bool log_file_is_gzip(const struct log_file *file);

#endif
