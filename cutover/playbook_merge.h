/*
 * playbook_merge: templates of notices, and the messages that come of them. Pure.
 *
 * A template is a text file in UTF-8: header lines, an empty line, text. The header
 * needs a Subject, and may have Reply-To; nothing else. "%{name}" stands for a column
 * of the recipient's row, or a setting of the playbook; "%%" is "%". Lines that begin
 * with '#' above the header are comments.
 *
 * A message is text/plain in UTF-8 (RFC 2045, 2047): quoted-printable where a line has
 * more than ASCII or is longer than 78 characters. A value that holds a line end or
 * another control character is refused: it cannot add a header.
 */
#ifndef SLUICE_PLAYBOOK_MERGE_H
#define SLUICE_PLAYBOOK_MERGE_H

#include <stdbool.h>
#include <stddef.h>

#define MERGE_TEMPLATE_MAX 65536
#define MERGE_MESSAGE_MAX  262144
#define MERGE_ERROR_MAX    300

struct merge_template;

/* NULL: error is "line N: ...", or one phrase. */
struct merge_template *merge_parse(const char *text, size_t len,
                                   char error[MERGE_ERROR_MAX]);
void merge_free(struct merge_template *template);

/* NULL: there is no such name. */
typedef const char *merge_value_fn(void *context, const char *name);

struct merge_letter {
    const char *from, *to;  /* addresses */
    const char *date;       /* RFC 5322 */
    const char *message_id; /* with <> */
};
/* The whole message, lines end with CRLF, into out (MERGE_MESSAGE_MAX bytes). false:
 * error says which name has no value, or what is wrong with one. */
bool merge_write(const struct merge_template *template, const struct merge_letter *letter,
                 merge_value_fn *value, void *context, char *out, size_t *len,
                 char error[MERGE_ERROR_MAX]);

/* Whether text is UTF-8 (no overlong forms, no surrogates). */
bool merge_is_utf8(const char *text, size_t len);

#endif
