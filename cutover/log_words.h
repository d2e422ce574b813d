/*
 * log_words: words of a checkpoint's line: numbers, and texts with \xHH for what is
 * no plain character. "-" is the empty text.
 */
#ifndef SLUICE_LOG_WORDS_H
#define SLUICE_LOG_WORDS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* With a space in front. NULL is "". */
void log_word_put(FILE *out, const char *text);
void log_number_put(FILE *out, int64_t number);

/* The next word; *at moves behind it. false: none, or not of that kind, or longer
 * than size allows; a text has no NUL. */
bool log_word_get(const char **at, char *out, size_t size);
bool log_number_get(const char **at, int64_t least, int64_t most, int64_t *out);
/* "keyword ": *at is behind it then. */
bool log_word_is(const char **at, const char *keyword);
bool log_words_end(const char *at);

#endif
