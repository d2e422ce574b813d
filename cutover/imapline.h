/*
 * imapline: what an IMAP server (RFC 3501) says, taken apart. Pure. Every text may
 * be hostile.
 *
 * A response is given as one line without its end; a literal in it stands as its
 * "{12}", with the octets beside (the last one, if there are several).
 */
#ifndef SLUICE_IMAPLINE_H
#define SLUICE_IMAPLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum imap_end { IMAP_OK, IMAP_NO, IMAP_BAD };

/* "a7 OK text" is the end of the command with that tag; *text points behind. */
bool imapline_end(const char *line, const char *tag, enum imap_end *end,
                  const char **text);
/* "* 12 EXISTS": the word behind "* " and behind a number there; NULL: none. number
 * may be NULL, and is 0 without one. */
const char *imapline_untagged(const char *line, const char *word, uint64_t *number);
/* The literal that the line ends in ("... {12}"); false: none. A number that is too
 * large is UINT64_MAX. */
bool imapline_literal(const char *line, uint64_t *size);
/* The numbers of " 3 7 9", behind "* SEARCH": those that are not 0 and fit. */
size_t imapline_numbers(const char *text, uint32_t *out, size_t max);
/* The least and the greatest of such numbers, and of *first (0: none yet) and *last. */
void imapline_range(const char *text, uint32_t *first, uint32_t *last);
/* The number behind a word in a list, "MESSAGES 3 SIZE 12" or "(UID 3 RFC822.SIZE
 * 12)"; false: it is not there. */
bool imapline_item(const char *text, const char *word, uint64_t *number);
/* The date and time behind a word in a list, "INTERNALDATE "22-Nov-2026 14:07:47 +0100"",
 * as unix s; false: there is none. */
bool imapline_time(const char *text, const char *word, int64_t *out);
/* Whether a word stands in a list of words, whatever its case. */
bool imapline_has(const char *text, const char *word);
/* The text behind "* LIST": the folder's name, by then unquoted, or *literal. false:
 * it cannot hold mail, or this is none. */
bool imapline_folder(const char *text, const char *literal, char *out, size_t size);
/* Text as a quoted string; false: it does not fit, or cannot be one. */
bool imapline_quote(const char *text, char *out, size_t size);
/* A header block's field of that name, unfolded and without the blanks around it; ""
 * when there is none. Cut to size. */
void imapline_field(const char *header, const char *name, char *out, size_t size);

#endif
