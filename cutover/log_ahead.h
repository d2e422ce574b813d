/*
 * log_ahead: a second thread that reads lines ahead, for log_reader.c.
 *
 * From log_ahead_new() until log_ahead_next() has given an end, or log_ahead_free() has
 * returned, what read() uses belongs to the thread. Items are copied, with the text of
 * their lines, into blocks: a few of them, so that it is never far ahead, and memory does
 * not grow. Their order and number are what read() gave.
 */
#ifndef SLUICE_LOG_AHEAD_H
#define SLUICE_LOG_AHEAD_H

#include "log_reader.h"

/* A line that was picked; its text is good until the next one is asked for. */
struct log_item {
    struct log_line line;
    struct log_time time;
    size_t source;
};

struct log_ahead;

/* The next item; called in the thread alone, until it gives an end. */
typedef enum log_read log_ahead_read(void *context, const struct log_item **out);

/* counts: what read() counts. NULL: there is no second processor, no thread or no memory;
 * then the caller goes on by itself. */
struct log_ahead *log_ahead_new(log_ahead_read *read, void *context,
                                const struct log_counts *counts);
/* Waits for the thread; read() is to end soon (LOG_READ_END, say) once it is told so. */
void log_ahead_free(struct log_ahead *ahead);

/* Not LOG_READ_EVENT: the end, once; then only log_ahead_free() is left to do. */
enum log_read log_ahead_next(struct log_ahead *ahead, const struct log_item **out);
/* As of about the item that was given last. */
const struct log_counts *log_ahead_counts(const struct log_ahead *ahead);

#endif
