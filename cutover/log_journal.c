/*
 * log_journal: one line of `journalctl -o json` (see log_journal.h; systemd's
 * JOURNAL_EXPORT_FORMATS). A scanner of its own and no JSON library: a line makes
 * no tree and no allocation, and what is not wanted is passed over.
 */
#include "log_journal.h"

#define DEPTH_MAX 4

struct scan {
    const char *p, *end;
    char *out, *out_end; /* scratch space */
};

struct fields {
    struct log_slice message, time, identifier, host, pid, own_pid;
};

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t'))
        s->p++;
}

static bool take(struct scan *s, char c)
{
    skip_space(s);
    if (s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex4(struct scan *s, uint32_t *out)
{
    *out = 0;
    if (s->end - s->p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        int digit = hex(*s->p++);
        if (digit < 0)
            return false;
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

/* At most as long as its escape, so it always fits. */
static void put_utf8(struct scan *s, uint32_t c)
{
    if (c < 0x80) {
        *s->out++ = (char)c;
    } else if (c < 0x800) {
        *s->out++ = (char)(0xc0 | c >> 6);
        *s->out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *s->out++ = (char)(0xe0 | c >> 12);
        *s->out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *s->out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *s->out++ = (char)(0xf0 | c >> 18);
        *s->out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *s->out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *s->out++ = (char)(0x80 | (c & 0x3f));
    }
}

static bool take_unicode(struct scan *s)
{
    uint32_t c, low;
    if (!hex4(s, &c))
        return false;
    if (c >= 0xd800 && c < 0xdc00 && s->end - s->p >= 6 && s->p[0] == '\\' &&
        s->p[1] == 'u') {
        s->p += 2;
        if (!hex4(s, &low))
            return false;
        if (low >= 0xdc00 && low < 0xe000)
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        else
            c = 0xfffd;
    }
    put_utf8(s, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
    return true;
}

static bool take_escape(struct scan *s)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (s->p == s->end)
        return false;
    char c = *s->p++;
    if (c == 'u')
        return take_unicode(s);
    const char *found = c ? strchr(from, c) : NULL;
    if (!found)
        return false;
    *s->out++ = to[found - from];
    return true;
}

/* Behind its opening quote. A string without escapes is a slice of the line. */
static bool take_string(struct scan *s, struct log_slice *out)
{
    const char *begin = s->p;
    char *copy = s->out;
    while (s->p < s->end && *s->p != '"' && *s->p != '\\')
        s->p++;
    if (s->p < s->end && *s->p == '"') {
        *out = (struct log_slice){ begin, (size_t)(s->p++ - begin) };
        return true;
    }
    if (s->out_end - s->out < s->end - begin)
        return false;
    memcpy(s->out, begin, (size_t)(s->p - begin));
    s->out += s->p - begin;
    while (s->p < s->end && *s->p != '"') {
        if (*s->p != '\\')
            *s->out++ = *s->p++;
        else if (s->p++, !take_escape(s))
            return false;
    }
    *out = (struct log_slice){ copy, (size_t)(s->out - copy) };
    return s->p++ < s->end;
}

static bool take_number(struct scan *s, uint32_t *out)
{
    const char *begin = s->p;
    *out = 0;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9' && s->p - begin < 4)
        *out = *out * 10 + (uint32_t)(*s->p++ - '0');
    return s->p > begin;
}

/* Behind '[', in which a number comes first: bytes. */
static bool take_bytes(struct scan *s, struct log_slice *out)
{
    char *copy = s->out;
    uint32_t byte;
    if (s->out_end - s->out < s->end - s->p)
        return false;
    do {
        skip_space(s);
        if (!take_number(s, &byte) || byte > 255)
            return false;
        *s->out++ = (char)byte;
    } while (take(s, ','));
    *out = (struct log_slice){ copy, (size_t)(s->out - copy) };
    return take(s, ']');
}

static bool take_word(struct scan *s)
{
    const char *begin = s->p;
    while (s->p < s->end && !strchr(",]} \t", *s->p))
        s->p++;
    return s->p > begin;
}

static bool take_value(struct scan *s, struct log_slice *out, int depth)
{
    struct log_slice more;
    skip_space(s);
    if (s->p == s->end || depth > DEPTH_MAX)
        return false;
    if (take(s, '"'))
        return take_string(s, out);
    if (!take(s, '['))
        return take_word(s); /* null: stays "" */
    skip_space(s);
    if (take(s, ']'))
        return true;
    if (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        return take_bytes(s, out);
    if (!take_value(s, out, depth + 1))
        return false;
    while (take(s, ','))
        if (!take_value(s, &more, depth + 1))
            return false;
    return take(s, ']');
}

static struct log_slice *field(struct fields *f, struct log_slice key)
{
    if (log_slice_is(key, "MESSAGE"))
        return &f->message;
    if (log_slice_is(key, "__REALTIME_TIMESTAMP"))
        return &f->time;
    if (log_slice_is(key, "SYSLOG_IDENTIFIER"))
        return &f->identifier;
    if (log_slice_is(key, "_HOSTNAME"))
        return &f->host;
    if (log_slice_is(key, "SYSLOG_PID"))
        return &f->pid;
    return log_slice_is(key, "_PID") ? &f->own_pid : NULL;
}

static bool take_object(struct scan *s, struct fields *f)
{
    if (!take(s, '{'))
        return false;
    do {
        struct log_slice key = { "", 0 }, value = { "", 0 };
        if (!take(s, '"') || !take_string(s, &key) || !take(s, ':') ||
            !take_value(s, &value, 0))
            return false;
        struct log_slice *place = field(f, key);
        if (place && place->len == 0)
            *place = value;
    } while (take(s, ','));
    return take(s, '}') && (skip_space(s), s->p == s->end);
}

bool log_journal_parse(const char *text, size_t len, char scratch[LOG_LINE_MAX],
                       struct log_line *out)
{
    const struct log_slice none = { "", 0 };
    struct fields f = { none, none, none, none, none, none };
    struct scan s = { text, text + len, scratch, scratch + LOG_LINE_MAX };
    if (len > LOG_LINE_MAX || !take_object(&s, &f) || f.message.len == 0 ||
        f.time.len == 0)
        return false;
    out->stamp = f.time;
    out->stamp_kind = LOG_STAMP_JOURNAL;
    out->host = f.host;
    if (f.pid.len == 0)
        f.pid = f.own_pid;
    for (size_t i = 0; i < f.pid.len && i < 9; i++)
        if (f.pid.text[i] >= '0' && f.pid.text[i] <= '9')
            out->pid = out->pid * 10 + (uint32_t)(f.pid.text[i] - '0');
    log_line_program(f.identifier, out);
    log_line_text(f.message.text, f.message.text + f.message.len, out);
    return true;
}
