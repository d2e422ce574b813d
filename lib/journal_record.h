/*
 * journal_record: what the journal's writer (journal.c) and its readers
 * (journal_read.c) share: one record as text, by pure functions, and the walk
 * over a file of them.
 */
#ifndef SLUICE_JOURNAL_RECORD_H
#define SLUICE_JOURNAL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "home.h"

/* Every item with the longest local part and record, tab and line end. */
#define JOURNAL_BODY_MAX                                                                 \
    ((size_t)EVENT_ITEMS_MAX * (ADDR_LOCAL_MAX + HOME_RECORD_MAX + 2))
#define JOURNAL_HEADER_MAX 512
#define JOURNAL_END_LEN    (4 + 16 + 1 + EVENT_ID_LEN + 1 + 8 + 1)
#define JOURNAL_RECORD_MAX (JOURNAL_HEADER_MAX + JOURNAL_BODY_MAX + JOURNAL_END_LEN)
#define JOURNAL_START      "event " /* every record begins so */

enum parsed {
    PARSED_RECORD,
    PARSED_CUT, /* buf ends before the record does */
    PARSED_BAD,
};

/* Reads the record at the start of buf; event->body points into buf. */
enum parsed journal_record_parse(const char *buf, size_t len, struct event *event,
                                 size_t *used);

/* Finds the last record that ends in buf. *clean: nothing comes after it. */
bool journal_record_last(const char *buf, size_t len, struct position *out, bool *clean);

/* Whether event may come after a record at last (epoch 0: after none). */
bool journal_record_follows(const struct event *event, const struct position *last);

/* Writes what comes before and after the body. false: the event has a field
 * that a record cannot hold. */
bool journal_record_format(const struct event *event, char header[JOURNAL_HEADER_MAX],
                           size_t *header_len, char end[JOURNAL_END_LEN + 1]);

/* All records of an open file, from the start (journal_read.c). each may be NULL.
 * FAILED: error says why, with path and offset. */
enum walk { WALK_END, WALK_STOPPED, WALK_FAILED };
struct walk_result {
    struct position last; /* of the last good record */
    off_t end;            /* where it ends */
    off_t tail;           /* bytes after it, of a record that was cut */
};
enum walk journal_walk(int fd, const char *path,
                       bool (*each)(void *context, const struct event *event),
                       void *context, struct walk_result *result, char *error,
                       size_t error_size);

#endif
