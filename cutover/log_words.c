/*
 * log_words: words of a checkpoint's line (see log_words.h).
 */
#include "log_words.h"

#include <inttypes.h>
#include <string.h>

static bool is_plain(unsigned char c)
{
    return c > ' ' && c < 0x7f && c != '\\';
}

void log_word_put(FILE *out, const char *text)
{
    putc(' ', out);
    if (!text || !*text) {
        putc('-', out);
        return;
    }
    for (const char *p = text; *p; p++)
        if (is_plain((unsigned char)*p) && (*p != '-' || p != text))
            putc(*p, out);
        else
            fprintf(out, "\\x%02x", (unsigned)(unsigned char)*p);
}

void log_number_put(FILE *out, int64_t number)
{
    fprintf(out, " %" PRId64, number);
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool log_word_get(const char **at, char *out, size_t size)
{
    const char *p = *at;
    size_t used = 0;
    if (*p == ' ')
        p++;
    if (!*p || *p == ' ' || size == 0)
        return false;
    bool empty = p[0] == '-' && (p[1] == ' ' || !p[1]);
    for (p += empty; *p && *p != ' '; p++) {
        char c = *p;
        if (c == '\\') {
            int high = p[1] == 'x' ? hex(p[2]) : -1, low = high < 0 ? -1 : hex(p[3]);
            if (low < 0 || (high == 0 && low == 0))
                return false;
            c = (char)(high << 4 | low);
            p += 3;
        }
        if (used + 1 >= size)
            return false;
        out[used++] = c;
    }
    out[used] = '\0';
    *at = p;
    return true;
}

bool log_number_get(const char **at, int64_t least, int64_t most, int64_t *out)
{
    char word[24];
    int used = 0;
    if (!log_word_get(at, word, sizeof(word)) ||
        sscanf(word, "%" SCNd64 "%n", out, &used) != 1 || word[used] ||
        strchr("+ \t", word[0]))
        return false;
    return *out >= least && *out <= most;
}

bool log_word_is(const char **at, const char *keyword)
{
    size_t len = strlen(keyword);
    if (strncmp(*at, keyword, len) != 0 || ((*at)[len] != ' ' && (*at)[len]))
        return false;
    *at += len;
    return true;
}

bool log_words_end(const char *at)
{
    return !*at;
}
