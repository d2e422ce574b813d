/*
 * smtp: parser of SMTP replies. See smtp.h.
 *
 * Protocol: a reply is lines "ddd-text" and a last line "ddd text" or "ddd".
 * The first digit is 2 to 5, the second 0 to 5 (RFC 5321 4.2.1); 1yz replies do
 * not exist in SMTP.
 *
 * Limits: SMTP_LINE_MAX bytes a line, SMTP_LINES_MAX lines, SMTP_REPLY_MAX bytes
 * in all. What is past one of them is SMTP_BAD.
 */
#include "config.h"

#include "smtp.h"

#include <string.h>
#include <strings.h>

static void add_text(struct smtp_reply *out, const char *text, size_t len)
{
    size_t n = strlen(out->text);
    if (n > 0 && n < SMTP_TEXT_MAX)
        out->text[n++] = ' ';
    for (size_t i = 0; i < len; i++) {
        if (n == SMTP_TEXT_MAX) {
            memcpy(out->text + SMTP_TEXT_MAX - 3, "...", 3);
            break;
        }
        unsigned char c = (unsigned char)text[i];
        out->text[n++] = (char)(c >= 32 && c < 127 ? c : '?');
    }
    out->text[n] = '\0';
}

static bool is_keyword(const char *text, size_t len, const char *keyword)
{
    size_t n = strlen(keyword);
    return len >= n && strncasecmp(text, keyword, n) == 0 && (len == n || text[n] == ' ');
}

/* One line without its end. Returns the code, negative when it is not a line
 * of a reply; *last: the reply ends here. */
static int parse_line(const char *line, size_t len, bool *last)
{
    if (len < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' || line[1] > '5' ||
        line[2] < '0' || line[2] > '9')
        return -1;
    if (len > 3 && line[3] != ' ' && line[3] != '-')
        return -1;
    *last = len == 3 || line[3] == ' ';
    return (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
}

enum smtp_parse smtp_reply_parse(const char *buf, size_t len, struct smtp_reply *out,
                                 size_t *consumed)
{
    *out = (struct smtp_reply){ .code = 0 };
    size_t at = 0;
    for (int lines = 0; lines < SMTP_LINES_MAX; lines++) {
        size_t left = len - at;
        const char *end =
            memchr(buf + at, '\n', left < SMTP_LINE_MAX ? left : SMTP_LINE_MAX);
        if (end == NULL)
            return left >= SMTP_LINE_MAX || at >= SMTP_REPLY_MAX ? SMTP_BAD : SMTP_MORE;
        const char *line = buf + at;
        size_t n = (size_t)(end - line);
        if (n > 0 && line[n - 1] == '\r')
            n--;
        bool last;
        int code = parse_line(line, n, &last);
        if (code < 0 || (out->code != 0 && code != out->code))
            return SMTP_BAD;
        out->code = code;
        if (n > 4) {
            add_text(out, line + 4, n - 4);
            out->pipelining |= is_keyword(line + 4, n - 4, "PIPELINING");
            out->smtputf8 |= is_keyword(line + 4, n - 4, "SMTPUTF8");
        }
        at += (size_t)(end - line) + 1;
        if (last) {
            *consumed = at;
            return SMTP_DONE;
        }
    }
    return SMTP_BAD;
}
