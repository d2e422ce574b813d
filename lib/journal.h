/*
 * journal: each host's own copy of the history of changes, a text file in
 * state-dir. policyd appends every event and syncs it to the disk before it
 * confirms a fence; whatever Redis forgets, each host notices.
 *
 * Record:  event <epoch> <id> <prev> <op> <letter> <time> <domain or -> <bytes>\n
 *          <body>
 *          end <epoch, 16 hex digits> <id> <crc32 of all above, 8 hex digits>\n
 *
 * The last line has a fixed length, so the head (the last event's position)
 * is one pread(2) away: the milter and the command line read it too.
 * A torn tail (crash while appending) is cut off when the writer opens it, and
 * never taken for a record by a reader.
 */
#ifndef SLUICE_JOURNAL_H
#define SLUICE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "home.h"

struct journal;

/* Opens for writing (creates; takes an exclusive flock so that two policyd do
 * not share one; cuts a torn tail off). NULL: error says why, naming path and
 * the way out. A damaged record before the tail is an error, not a cut. */
struct journal *journal_open(const char *path, char *error, size_t error_size);
void journal_close(struct journal *journal);

/* The last event; epoch 0 for an empty journal. */
struct position journal_position(const struct journal *journal);

/* Appends and fdatasync()s. false: nothing was appended that a reader takes
 * for a record (errno is set). Events with op EVENT_BASE may share a position;
 * others must follow the last one. */
bool journal_append(struct journal *journal, const struct event *event);

/* Replaces the whole journal atomically (write aside, fsync, rename, fsync of
 * the directory), keeping the old one as <path>.old. The callback supplies the
 * events one after the other until it returns false; *failed = true aborts. */
typedef bool journal_source(void *context, struct event *event, bool *failed);
bool journal_replace(struct journal *journal, journal_source *next,
                     void *context, char *error, size_t error_size);

/* Reading, by any program, while the writer runs. */
struct journal_reader;
/* A reader of the head alone; keeps path, follows a replaced file. */
struct journal_reader *journal_reader_new(const char *path);
void journal_reader_free(struct journal_reader *reader);
/* LOOKUP_ABSENT: no file, or an empty one (a host without policyd yet).
 * LOOKUP_FAILED: unreadable, or no valid head. Thread-safe. */
enum lookup journal_head(struct journal_reader *reader, struct position *out);

/* Calls each() for every complete record from the start. false: stopped by
 * each(), or damaged (error says where; error is "" when each() stopped it). */
bool journal_read(const char *path,
                  bool (*each)(void *context, const struct event *event),
                  void *context, char *error, size_t error_size);

#endif
