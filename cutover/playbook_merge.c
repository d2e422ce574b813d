/*
 * playbook_merge: see playbook_merge.h. RFC 5322 2.1.1 (lines), 2045 6.7 (quoted-
 * printable), 2047 (words in a header).
 */
#include "playbook_merge.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_LEN   64
#define HEADER_MAX 1000 /* of a merged Subject */
#define PLAIN_LINE 78

struct merge_template {
    char *text; /* owns the rest */
    char *subject;
    char *reply_to; /* NULL: none */
    char *body;
};

static bool wrong(char error[MERGE_ERROR_MAX], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static bool wrong(char error[MERGE_ERROR_MAX], const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(error, MERGE_ERROR_MAX, fmt, args) < 0)
        error[0] = '\0';
    va_end(args);
    return false;
}

/* ---- UTF-8 --------------------------------------------------------------- */

/* Length of the character at text; 0: not UTF-8 (RFC 3629). */
static size_t character(const unsigned char *text, size_t len)
{
    unsigned char c = text[0];
    size_t n = c < 0x80   ? 1
               : c < 0xc2 ? 0
               : c < 0xe0 ? 2
               : c < 0xf0 ? 3
               : c < 0xf5 ? 4
                          : 0;
    if (n == 0 || n > len)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    bool bad = (c == 0xe0 && text[1] < 0xa0) || (c == 0xed && text[1] > 0x9f) ||
               (c == 0xf0 && text[1] < 0x90) || (c == 0xf4 && text[1] > 0x8f);
    return bad ? 0 : n;
}

bool merge_is_utf8(const char *text, size_t len)
{
    for (size_t at = 0, n; at < len; at += n)
        if ((n = character((const unsigned char *)text + at, len - at)) == 0)
            return false;
    return true;
}

static bool is_ascii(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text >= 0x80)
            return false;
    return true;
}

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

/* ---- reading ------------------------------------------------------------- */

/* Every "%" is "%%" or "%{name}". */
static bool check_names(const char *text, int line, char error[MERGE_ERROR_MAX])
{
    for (const char *at = text; *at; at++) {
        line += *at == '\n';
        if (*at != '%')
            continue;
        size_t len = at[1] == '{' ? strspn(at + 2, "abcdefghijklmnopqrstuvwxyz"
                                                   "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                   "0123456789-_")
                                  : 0;
        if (at[1] == '%')
            at++;
        else if (len == 0 || len >= NAME_LEN || at[2 + len] != '}')
            return wrong(error,
                         "line %d: \"%%\" without a name: write %%{name}, or %%%% for "
                         "the sign",
                         line);
    }
    return true;
}

static bool take_header_line(struct merge_template *it, char *line, int number,
                             char error[MERGE_ERROR_MAX])
{
    char *colon = strchr(line, ':');
    if (!colon)
        return wrong(error,
                     "line %d: not a header line: it begins with Subject: TEXT, then an "
                     "empty line, then the text",
                     number);
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    char **slot = strcasecmp(line, "Subject") == 0    ? &it->subject
                  : strcasecmp(line, "Reply-To") == 0 ? &it->reply_to
                                                      : NULL;
    if (!slot)
        return wrong(error, "line %d: only Subject and Reply-To can be set, not %.60s",
                     number, line);
    if (*slot || *value == '\0')
        return wrong(error, "line %d: %s %s", number, line,
                     *slot ? "is there twice" : "is empty");
    if (!check_names(value, number, error))
        return false;
    *slot = value;
    return true;
}

static bool parse(struct merge_template *it, char error[MERGE_ERROR_MAX])
{
    char *at = it->text, *end;
    int number = 1;
    for (;; number++) {
        end = strchr(at, '\n');
        if (!end)
            return wrong(error,
                         "line %d: the header has no end: an empty line, then the "
                         "text",
                         number);
        *end = '\0';
        if (end > at && end[-1] == '\r')
            end[-1] = '\0';
        if (*at == '\0')
            break;
        if (*at != '#' && !take_header_line(it, at, number, error))
            return false;
        at = end + 1;
    }
    it->body = end + 1;
    if (!it->subject)
        return wrong(error, "there is no Subject: line");
    if (it->body[strspn(it->body, " \r\n\t")] == '\0')
        return wrong(error, "there is no text after the header");
    return check_names(it->body, number + 1, error);
}

static bool readable(const char *text, size_t len, char error[MERGE_ERROR_MAX])
{
    int line = 1;
    if (len > MERGE_TEMPLATE_MAX)
        return wrong(error, "longer than %d bytes", MERGE_TEMPLATE_MAX);
    if (!merge_is_utf8(text, len))
        return wrong(error, "not UTF-8");
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        line += c == '\n';
        if ((c < 0x20 && c != '\n' && c != '\t' &&
             !(c == '\r' && i + 1 < len && text[i + 1] == '\n')) ||
            c == 0x7f)
            return wrong(error, "line %d: a control character", line);
    }
    return true;
}

struct merge_template *merge_parse(const char *text, size_t len,
                                   char error[MERGE_ERROR_MAX])
{
    if (!readable(text, len, error))
        return NULL;
    struct merge_template *it = calloc(1, sizeof(*it));
    if (it)
        it->text = strndup(text, len);
    if (!it || !it->text) {
        wrong(error, "out of memory");
        merge_free(it);
        return NULL;
    }
    if (parse(it, error))
        return it;
    merge_free(it);
    return NULL;
}

void merge_free(struct merge_template *template)
{
    if (template)
        free(template->text);
    free(template);
}

/* ---- writing ------------------------------------------------------------- */

struct out {
    char *text;
    size_t used, size;
    bool full;
};

static void put(struct out *out, const char *text, size_t len)
{
    if (len >= out->size - out->used) {
        out->full = true;
        return;
    }
    memcpy(out->text + out->used, text, len);
    out->used += len;
    out->text[out->used] = '\0';
}

static void put_text(struct out *out, const char *text)
{
    put(out, text, strlen(text));
}

static bool put_value(struct out *out, const char *name, merge_value_fn *value,
                      void *context, char error[MERGE_ERROR_MAX])
{
    const char *text = strcasecmp(name, "password") == 0 ? NULL : value(context, name);
    if (strcasecmp(name, "password") == 0)
        return wrong(error, "%%{%s}: a password is never sent by mail", name);
    if (!text)
        return wrong(error, "%%{%s} is neither a column nor a setting", name);
    if (has_control(text) || !merge_is_utf8(text, strlen(text)))
        return wrong(error, "%%{%s}: the value has a control character, or is not UTF-8",
                     name);
    put_text(out, text);
    return true;
}

/* With the values in it. */
static bool expand(struct out *out, const char *text, merge_value_fn *value,
                   void *context, char error[MERGE_ERROR_MAX])
{
    char name[NAME_LEN];
    while (*text) {
        size_t len = strcspn(text, "%");
        put(out, text, len);
        text += len;
        if (*text == '\0')
            break;
        if (text[1] == '%') {
            put_text(out, "%");
            text += 2;
            continue;
        }
        len = strcspn(text + 2, "}");
        memcpy(name, text + 2, len);
        name[len] = '\0';
        if (!put_value(out, name, value, context, error))
            return false;
        text += len + 3;
    }
    return !out->full || wrong(error, "longer than %zu bytes", out->size);
}

/* RFC 2047: words of at most 75 characters, cut between characters. */
static void put_words(struct out *out, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t len = strlen(text), line = 0;
    for (size_t at = 0, n; at < len; at += n) {
        n = character((const unsigned char *)text + at, len - at);
        if (line == 0 || line + 3 * n > 60) {
            put_text(out, line == 0 ? "=?UTF-8?Q?" : "?=\r\n =?UTF-8?Q?");
            line = 10;
        }
        for (size_t i = 0; i < n; i++) {
            unsigned char c = (unsigned char)text[at + i];
            const char code[] = { '=', hex[c >> 4], hex[c & 15] };
            bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                         (c >= 'A' && c <= 'Z');
            put(out,
                plain      ? text + at + i
                : c == ' ' ? "_"
                           : code,
                plain || c == ' ' ? 1 : 3);
            line += plain || c == ' ' ? 1 : 3;
        }
    }
    put_text(out, "?=");
}

static void put_header(struct out *out, const char *name, const char *value)
{
    put_text(out, name);
    put_text(out, ": ");
    if (is_ascii(value) && strlen(value) <= 900)
        put_text(out, value);
    else
        put_words(out, value);
    put_text(out, "\r\n");
}

static bool plain_enough(const char *text)
{
    size_t line = 0;
    for (; *text; text++) {
        line = *text == '\n' ? 0 : line + 1;
        if ((unsigned char)*text >= 0x80 || line > PLAIN_LINE)
            return false;
    }
    return true;
}

/* Lines with LF or CRLF come out with CRLF. */
static void put_plain(struct out *out, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\r\n");
        put(out, text, len);
        put_text(out, "\r\n");
        text += len;
        text += *text == '\r';
        text += *text == '\n';
    }
}

static void put_quoted(struct out *out, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t line = 0; *text; text++) {
        unsigned char c = (unsigned char)*text;
        const char code[] = { '=', hex[c >> 4], hex[c & 15] };
        bool end = text[1] == '\0' || text[1] == '\n' || text[1] == '\r';
        bool plain = (c > 0x20 && c < 0x7f && c != '=') || (c == ' ' && !end);
        if (c == '\r')
            continue;
        if (c == '\n') {
            put_text(out, "\r\n");
            line = 0;
            continue;
        }
        if (line + (plain ? 1 : 3) > 75) {
            put_text(out, "=\r\n");
            line = 0;
        }
        put(out, plain ? text : code, plain ? 1 : 3);
        line += plain ? 1 : 3;
    }
    if (out->used > 0 && out->text[out->used - 1] != '\n')
        put_text(out, "\r\n");
}

static bool write_message(const struct merge_letter *letter, const char *subject,
                          const char *reply_to, const char *body, struct out *out,
                          char error[MERGE_ERROR_MAX])
{
    bool plain = plain_enough(body);
    char to[400], from[400];
    (void)snprintf(to, sizeof(to), "<%.390s>", letter->to);
    (void)snprintf(from, sizeof(from), "<%.390s>", letter->from);
    put_header(out, "From", from);
    put_header(out, "To", to);
    if (reply_to[0])
        put_header(out, "Reply-To", reply_to);
    put_header(out, "Date", letter->date);
    put_header(out, "Message-ID", letter->message_id);
    put_header(out, "Subject", subject);
    put_header(out, "Auto-Submitted", "auto-generated");
    put_header(out, "MIME-Version", "1.0");
    put_header(out, "Content-Type", "text/plain; charset=utf-8");
    put_header(out, "Content-Transfer-Encoding", plain ? "7bit" : "quoted-printable");
    put_text(out, "\r\n");
    if (plain)
        put_plain(out, body);
    else
        put_quoted(out, body);
    return !out->full ||
           wrong(error, "the message is longer than %d bytes", MERGE_MESSAGE_MAX);
}

bool merge_write(const struct merge_template *template, const struct merge_letter *letter,
                 merge_value_fn *value, void *context, char *out, size_t *len,
                 char error[MERGE_ERROR_MAX])
{
    char subject[HEADER_MAX], reply_to[HEADER_MAX] = "";
    struct out one = { subject, 0, sizeof(subject), false },
               two = { reply_to, 0, sizeof(reply_to), false },
               body = { NULL, 0, MERGE_MESSAGE_MAX, false },
               all = { out, 0, MERGE_MESSAGE_MAX, false };
    subject[0] = '\0';
    body.text = malloc(MERGE_MESSAGE_MAX);
    if (!body.text)
        return wrong(error, "out of memory");
    body.text[0] = '\0';
    bool good = expand(&one, template->subject, value, context, error) &&
                (!template->reply_to ||
                 expand(&two, template->reply_to, value, context, error)) &&
                expand(&body, template->body, value, context, error) &&
                write_message(letter, subject, reply_to, body.text, &all, error);
    free(body.text);
    *len = all.used;
    return good;
}
