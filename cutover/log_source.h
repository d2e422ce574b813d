/*
 * log_source: the lines of one log, over its rotated files, from a mark on. For
 * log_reader.c.
 *
 * A file is left for the next one only when that one has something in it: between
 * the renaming and the syslog daemon's opening of the new file, lines still go
 * into the old one.
 */
#ifndef SLUICE_LOG_SOURCE_H
#define SLUICE_LOG_SOURCE_H

#include "log_file.h"
#include "log_reader.h"

#define LOG_TAIL 4096 /* bytes before a mark whose digest is kept */

struct log_mark {
    bool known;
    uint64_t device, inode;
    int64_t offset;  /* of the next line, in the uncompressed text */
    uint64_t digest; /* of the LOG_TAIL bytes before it, or of all of them */
    int64_t last;    /* log_clock.last */
    bool skipping;   /* in the middle of a line that is too long */
};

struct log_source {
    char *path; /* "-": standard input */
    bool with_rotated, follow, standard_input, ended;
    int64_t since;
    struct log_counts *counts;
    struct log_clock clock;
    struct log_mark mark; /* where to begin */
    int64_t skip_before;  /* microseconds: the mark was not found, but these are known */
    bool opened, was_open;
    bool rested;             /* its end was reached: it may have been truncated since */
    struct log_file **files; /* from the one that is read to the newest */
    char **names;
    size_t file_count, file_size;
    char *buffer;
    size_t begin, end, size; /* the next line begins at begin */
    size_t scanned;          /* from begin on: no line end in these */
    int64_t offset;          /* of buffer[begin] */
    bool skipping;
    char unread[256]; /* a rotated file in a format that is not read */
    char error[512];
};

bool log_source_init(struct log_source *source, const char *path,
                     struct log_counts *counts); /* false: no memory */
void log_source_close(struct log_source *source);

enum log_source_result { LOG_SOURCE_LINE, LOG_SOURCE_END, LOG_SOURCE_FAILED };
/* text: without its end, good until the next call. */
enum log_source_result log_source_next(struct log_source *source, const char **text,
                                       size_t *len);
/* Where the next line begins. */
void log_source_mark(const struct log_source *source, struct log_mark *out);

uint64_t log_digest(uint64_t seed, const char *text, size_t len);

#endif
