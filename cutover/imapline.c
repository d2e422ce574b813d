/*
 * imapline: pieces of IMAP responses (RFC 3501 section 7 and 9), as far as the
 * commands of mailimap.c need them.
 */
#include "imapline.h"

#include <string.h>
#include <strings.h>
#include <time.h>

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

/* The next that is not 0 and fits; 0: no more. */
static uint32_t next_number(const char **text)
{
    uint64_t number;

    do {
        *text += strspn(*text, " ");
        if (!take_number(text, &number))
            return 0;
    } while (number == 0 || number > UINT32_MAX);
    return (uint32_t)number;
}

size_t imapline_numbers(const char *text, uint32_t *out, size_t max)
{
    size_t count = 0;

    for (uint32_t number; (number = next_number(&text)) != 0; count++)
        if (count < max)
            out[count] = number;
    return count;
}

void imapline_range(const char *text, uint32_t *first, uint32_t *last)
{
    for (uint32_t number; (number = next_number(&text)) != 0;) {
        if (*first == 0 || number < *first)
            *first = number;
        if (number > *last)
            *last = number;
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

/* So many digits (the first may be a blank), at most max; -1: something else. */
static int fixed_number(const char *at, int len, int max)
{
    int number = 0;

    for (int i = 0; i < len; i++) {
        if (!is_digit(at[i]) && (i > 0 || at[i] != ' '))
            return -1;
        number = number * 10 + (at[i] == ' ' ? 0 : at[i] - '0');
    }
    return number <= max ? number : -1;
}

static int month_number(const char *at)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (int i = 0; i < 12; i++)
        if (strncasecmp(at, months + 3 * i, 3) == 0)
            return i;
    return -1;
}

/* date-time of RFC 3501 without its quotes. */
static bool take_time(const char *at, int64_t *out)
{
    static const char form[] = "dd-mmm-yyyy hh:mm:ss +hhmm\"";
    size_t len = sizeof(form) - 1;

    if (strnlen(at, len) < len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (strchr("-: \"", form[i]) && at[i] != form[i])
            return false;
    struct tm tm = { .tm_mday = fixed_number(at, 2, 31),
                     .tm_mon = month_number(at + 3),
                     .tm_year = fixed_number(at + 7, 4, 9999) - 1900,
                     .tm_hour = fixed_number(at + 12, 2, 23),
                     .tm_min = fixed_number(at + 15, 2, 59),
                     .tm_sec = fixed_number(at + 18, 2, 60) };
    int hours = fixed_number(at + 22, 2, 23), minutes = fixed_number(at + 24, 2, 59);
    if (tm.tm_mday < 1 || tm.tm_mon < 0 || tm.tm_year < 0 || tm.tm_hour < 0 ||
        tm.tm_min < 0 || tm.tm_sec < 0 || hours < 0 || minutes < 0 ||
        (at[21] != '+' && at[21] != '-'))
        return false;
    int zone = hours * 3600 + minutes * 60;
    *out = (int64_t)timegm(&tm) - (at[21] == '-' ? -zone : zone);
    return true;
}

bool imapline_time(const char *text, const char *word, int64_t *out)
{
    const char *at = find_word(text, word);

    return at && strncmp(at, " \"", 2) == 0 && take_time(at + 2, out);
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
