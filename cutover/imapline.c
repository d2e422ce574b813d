/*
 * imapline: pieces of IMAP responses (RFC 3501 section 7 and 9), as far as the
 * commands of mailimap.c need them.
 */
#include "imapline.h"

#include <string.h>
#include <strings.h>

#define BLANKS " \t\r\n"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* *at goes behind it. false: no digit there. Too large: UINT64_MAX. */
static bool take_number(const char **at, uint64_t *out)
{
    const char *c = *at;

    if (!is_digit(*c))
        return false;
    for (*out = 0; is_digit(*c); c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        *out = *out > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *out * 10 + digit;
    }
    *at = c;
    return true;
}

bool imapline_end(const char *line, const char *tag, enum imap_end *end,
                  const char **text)
{
    static const char *const words[] = { "OK", "NO", "BAD" };
    size_t len = strlen(tag);

    if (strncmp(line, tag, len) != 0 || line[len] != ' ')
        return false;
    line += len + 1;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t word = strlen(words[i]);
        if (strncasecmp(line, words[i], word) == 0 &&
            (line[word] == ' ' || line[word] == '\0')) {
            *end = (enum imap_end)i;
            *text = line + word + (line[word] == ' ');
            return true;
        }
    }
    return false;
}

const char *imapline_untagged(const char *line, const char *word, uint64_t *number)
{
    uint64_t found = 0;
    size_t len = strlen(word);

    if (strncmp(line, "* ", 2) != 0)
        return NULL;
    line += 2;
    if (take_number(&line, &found) && *line++ != ' ')
        return NULL;
    if (strncasecmp(line, word, len) != 0 || (line[len] != ' ' && line[len] != '\0'))
        return NULL;
    if (number)
        *number = found;
    return line + len;
}

bool imapline_literal(const char *line, uint64_t *size)
{
    size_t len = strlen(line);

    if (len < 3 || line[len - 1] != '}')
        return false;
    const char *brace = strrchr(line, '{');
    const char *at = brace ? brace + 1 : NULL;
    if (!at || !take_number(&at, size))
        return false;
    if (*at == '+') /* LITERAL+, which a server does not send */
        at++;
    return at == line + len - 1;
}

size_t imapline_numbers(const char *text, uint32_t *out, size_t max)
{
    size_t count = 0;
    uint64_t number;

    for (;;) {
        while (*text == ' ')
            text++;
        if (!take_number(&text, &number))
            return count;
        if (number == 0 || number > UINT32_MAX)
            continue;
        if (count < max)
            out[count] = (uint32_t)number;
        count++;
    }
}

/* Behind the word, where it stands alone. */
static const char *find_word(const char *text, const char *word)
{
    size_t len = strlen(word);

    for (const char *at = text; *at;) {
        size_t n = strcspn(at, " ()");
        if (n == len && strncasecmp(at, word, len) == 0)
            return at + n;
        at += n;
        at += strspn(at, " ()");
    }
    return NULL;
}

bool imapline_item(const char *text, const char *word, uint64_t *number)
{
    const char *at = find_word(text, word);

    return at && *at++ == ' ' && take_number(&at, number);
}

bool imapline_has(const char *text, const char *word)
{
    return find_word(text, word) != NULL;
}

/* A quoted string at *at; it goes behind. out may be NULL. */
static bool take_quoted(const char **at, char *out, size_t size)
{
    const char *c = *at;
    size_t used = 0;

    if (*c++ != '"')
        return false;
    for (; *c != '"'; c++) {
        if (*c == '\\')
            c++;
        if (*c == '\0' || (out && used + 1 >= size))
            return false;
        if (out)
            out[used++] = *c;
    }
    if (out)
        out[used] = '\0';
    *at = c + 1;
    return true;
}

bool imapline_folder(const char *text, const char *literal, char *out, size_t size)
{
    uint64_t octets;
    const char *close = strchr(text, ')');

    if (strncmp(text, " (", 2) != 0 || !close)
        return false;
    size_t n = strcspn(text, ")");
    for (const char *flag = text; flag < text + n; flag++)
        if (strncasecmp(flag, "\\Noselect", 9) == 0 ||
            strncasecmp(flag, "\\NonExistent", 12) == 0)
            return false;
    const char *at = close + 1;
    if (*at++ != ' ')
        return false;
    if (*at == '"' ? !take_quoted(&at, NULL, 0) : strncasecmp(at, "NIL", 3) != 0)
        return false;
    at += strcspn(at, " ");
    if (*at++ != ' ')
        return false;
    if (*at == '"')
        return take_quoted(&at, out, size) && out[0];
    if (*at == '{' && imapline_literal(at, &octets))
        at = literal ? literal : "";
    if (!*at || strlen(at) >= size)
        return false;
    memcpy(out, at, strlen(at) + 1);
    return true;
}

bool imapline_quote(const char *text, char *out, size_t size)
{
    size_t used = 0;

    if (size < 3)
        return false;
    out[used++] = '"';
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || (unsigned char)*text > 0x7e || used + 4 > size)
            return false;
        if (*text == '"' || *text == '\\')
            out[used++] = '\\';
        out[used++] = *text;
    }
    if (used + 2 > size)
        return false;
    out[used++] = '"';
    out[used] = '\0';
    return true;
}

void imapline_field(const char *header, const char *name, char *out, size_t size)
{
    size_t len = strlen(name), used = 0;

    out[0] = '\0';
    while (*header && !(strncasecmp(header, name, len) == 0 && header[len] == ':')) {
        header += strcspn(header, "\n");
        header += *header == '\n';
    }
    if (!*header)
        return;
    header += len + 1;
    header += strspn(header, BLANKS);
    for (; *header && used + 1 < size; header++) {
        if (*header == '\n' && header[1] != ' ' && header[1] != '\t')
            break;
        if (*header != '\r' && *header != '\n')
            out[used++] = *header;
    }
    while (used > 0 && strchr(BLANKS, out[used - 1]))
        used--;
    out[used] = '\0';
}
