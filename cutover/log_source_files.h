/*
 * log_source_files: the files of a log_source: which they are, where in them the mark is,
 * what rotation has done to them. For log_source.c.
 */
#ifndef SLUICE_LOG_SOURCE_FILES_H
#define SLUICE_LOG_SOURCE_FILES_H

#include "log_source.h"

/* Writes source->error; returns false. */
bool log_source_failed(struct log_source *source, const char *path, int error);

/* Opens all of them, and goes to the mark, or finds the year of the first line. */
bool log_source_open(struct log_source *source);
/* Finds the place again among the files as they are named now. */
bool log_source_open_again(struct log_source *source);
/* The same, of one that was truncated while it was open. */
bool log_source_open_truncated(struct log_source *source);
/* The oldest one is read through. */
void log_source_pop(struct log_source *source);
void log_source_close_files(struct log_source *source);

/* Whether the file still has the bytes that were read from it. */
bool log_source_is_unchanged(struct log_source *source);
enum log_source_news { LOG_SOURCE_NO_NEWS, LOG_SOURCE_NEW_FILES, LOG_SOURCE_NEWS_FAILED };
/* At the end of the newest file that is known, with follow. */
enum log_source_news log_source_look(struct log_source *source);

#endif
