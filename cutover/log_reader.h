/*
 * log_reader: lines of mail logs from files, rotated files, and standard input.
 *
 *     reader = log_reader_new(LOG_EVENTS_ALL);
 *     log_reader_add(reader, "/var/log/mail.log", error, sizeof(error));
 *     while ((result = log_reader_next(reader, &record)) == LOG_READ_EVENT)
 *         ...
 *
 * A source is a path with its rotated files (path.1, path.2.gz, path-20261122.gz,
 * ... the oldest first; gzip by its first bytes, not by its name), or "-". Several
 * sources (several hosts, or a daemon with a file of its own) are merged in the
 * order of time; a stamp in whole seconds counts as the end of its second, so that
 * the milter's line in another file comes before what the MTA does with it. A clock
 * that is set back does not change the order within a source.
 *
 * Of a line over LOG_LINE_MAX the rest is skipped, and counted. A last line
 * without an end is not read before its end is there, but in a rotated file. Lines
 * that are in no known format are counted. What was read through to the end of
 * the sources, and only that, is in the marks of the checkpoint.
 *
 * Checkpoint: of each source device, inode, offset, the digest of the bytes
 * before it, and the clock. In the next run a file whose digest is the same goes
 * on there, wherever rotation has moved it; one that is not found any more, or has
 * other bytes there (truncated, replaced), is read from its beginning, and
 * counted as lost where a part of the log was missed.
 *
 * One thread uses it; it may use a second one of its own.
 */
#ifndef SLUICE_LOG_READER_H
#define SLUICE_LOG_READER_H

#include <stdio.h>

#include "log_event.h"

#define LOG_SOURCES_MAX 64

struct log_reader;

/* One line with an event of the wanted kinds; good until the next call. */
struct log_record {
    struct log_line line;
    struct log_event event;
    struct log_time time;
    size_t source; /* 0 is the first that was added */
};

enum log_read {
    LOG_READ_EVENT,
    LOG_READ_END,    /* all is read; with log_reader_follow(): nothing new yet */
    LOG_READ_FAILED, /* log_reader_error() */
};

struct log_counts {
    uint64_t bytes, lines;
    uint64_t foreign;   /* lines in no known format */
    uint64_t cut;       /* lines over LOG_LINE_MAX */
    uint64_t untimed;   /* lines with an impossible time, skipped */
    uint64_t future;    /* lines over a day in the future: a wrong clock or year */
    uint64_t truncated; /* files that were truncated or replaced */
    uint64_t lost;      /* times that a part of the log was gone since the checkpoint */
};

/* NULL: no memory. wanted: as for log_event_parse(). */
struct log_reader *log_reader_new(unsigned wanted);
void log_reader_free(struct log_reader *reader);

/* false: error is one line. A file that does not exist is an error, but not with
 * follow (then it is waited for). "-" once only. */
bool log_reader_add(struct log_reader *reader, const char *path, char *error,
                    size_t error_size);
/* Before log_reader_add(): the path alone, without its rotated files. */
void log_reader_without_rotated(struct log_reader *reader);
/* Lines that pick() wants are given as they are, with event.kind LOG_EVENT_NONE and
 * nothing else in event; the others are passed over. For a caller who does not need
 * the events of most lines: log_event_parse() is half of the work. */
void log_reader_pick(struct log_reader *reader,
                     bool (*pick)(const struct log_line *line));
/* Before log_reader_add(): go on after the end; rotation by rename, truncation and
 * copytruncate are noticed. */
void log_reader_follow(struct log_reader *reader);
/* Skips quickly what is older, by whole files; lines may still be older. */
void log_reader_since(struct log_reader *reader, int64_t unix_s);

enum log_read log_reader_next(struct log_reader *reader, const struct log_record **out);
const char *log_reader_error(const struct log_reader *reader);
/* With follow, after LOG_READ_END: waits until something may be new, at most
 * so long. false: cut short by a signal. */
bool log_reader_wait(struct log_reader *reader, int milliseconds);
/* Nothing can come any more: every source is standard input, and that has ended. */
bool log_reader_ended(const struct log_reader *reader);

/* The name of a rotated file that was not read, as it is compressed by something else
 * than gzip; "" none. */
const char *log_reader_unread(const struct log_reader *reader);
/* Good until the next line is read. */
const struct log_counts *log_reader_counts(const struct log_reader *reader);
const char *log_reader_path(const struct log_reader *reader, size_t source);
size_t log_reader_sources(const struct log_reader *reader);

/* ---- checkpoint: a text file of "KEY VALUE" lines --------------------------- */

/* Writes the marks of the sources into a checkpoint that the caller saves with
 * its own lines (log_flow_save()) by log_checkpoint_write(). Only after
 * LOG_READ_END. */
void log_reader_save(const struct log_reader *reader, FILE *out);
/* One line of a checkpoint, before the first log_reader_next() and after the
 * sources were added. false: not a line of the reader's, or damaged. */
bool log_reader_load(struct log_reader *reader, const char *line);

/* Calls write(arg, file) on path.tmp, then fsync and rename; with a last line that
 * holds a digest of all the others. false: error is one line. */
bool log_checkpoint_write(const char *path, bool (*write)(void *arg, FILE *out),
                          void *arg, char *error, size_t error_size);
/* Calls take(arg, line) for each line; false of it is LOG_CHECKPOINT_DAMAGED. */
enum log_checkpoint {
    LOG_CHECKPOINT_READ,
    LOG_CHECKPOINT_NONE,    /* no such file: the first run */
    LOG_CHECKPOINT_DAMAGED, /* error is one line */
};
/* log_checkpoint_read()'s, of text in memory (len bytes and a NUL), which it changes. */
bool log_checkpoint_parse(char *text, size_t len,
                          bool (*take)(void *arg, const char *line), void *arg);
enum log_checkpoint log_checkpoint_read(const char *path,
                                        bool (*take)(void *arg, const char *line),
                                        void *arg, char *error, size_t error_size);

#endif
