/*
 * log_field: taking fields from the text of a log line (see log_field.h).
 */
#include "log_field.h"

void log_copy(void *to, const void *from, size_t len)
{
    memcpy(to, from, len);
}

bool log_take_number(struct log_cursor *c, int64_t *out)
{
    const char *begin = c->p;
    int64_t value = 0;
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++)
        if (c->p - begin < 18)
            value = value * 10 + (*c->p - '0');
    *out = c->p - begin > 18 ? 0 : value;
    return c->p > begin;
}

/* Behind the quote: behind the closing one. NULL: none. */
static const char *skip_quoted(const char *p, const char *end)
{
    for (; p < end; p++) {
        if (*p == '\\')
            p++;
        else if (*p == '"')
            return p + 1;
    }
    return NULL;
}

bool log_take_address(struct log_cursor *c, struct log_slice *out)
{
    const char *begin = c->p, *from = begin;
    if (from < c->end && *from == '"') {
        from = skip_quoted(from + 1, c->end);
        if (!from)
            from = begin; /* not quoted after all: a quote in an unquoted name */
    }
    const char *close = memchr(from, '>', (size_t)(c->end - from));
    if (!close)
        return false;
    *out = log_slice_of(begin, close);
    c->p = close + 1;
    return true;
}

void log_split_peer(struct log_slice peer, struct log_slice *name,
                    struct log_slice *address, uint16_t *port)
{
    const char *end = peer.text + peer.len, *open, *close;
    *port = 0;
    open = peer.len ? memchr(peer.text, '[', peer.len) : NULL;
    close = open ? memchr(open, ']', (size_t)(end - open)) : NULL;
    if (!close)
        return;
    *name = log_slice_of(peer.text, open);
    *address = log_slice_of(open + 1, close);
    struct log_cursor c = { close + 1, end };
    int64_t value;
    if (log_take(&c, ":") && log_take_number(&c, &value) && c.p == end && value <= 65535)
        *port = (uint16_t)value;
}

static bool is_id(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           c == '-';
}

/* The first of these words in text, by its character that is rare in replies; memmem(3)
 * makes a table first. NULL: none. */
static const char *find_word(struct log_slice text, const char *word, size_t len,
                             size_t rare)
{
    const char *end = text.text + text.len, *p = text.text + rare;
    while (text.len >= len && p <= end - (len - rare) &&
           (p = memchr(p, word[rare], (size_t)(end - (len - rare) - p) + 1))) {
        if (memcmp(p - rare, word, len) == 0)
            return p - rare;
        p++;
    }
    return NULL;
}

struct log_slice log_remote_id(struct log_slice reply)
{
    static const char queued[] = "queued as ", accepted[] = " Message accepted",
                      id[] = " id=";
    const char *end = reply.text + reply.len, *p, *begin;
    p = find_word(reply, queued, sizeof(queued) - 1, 0);
    begin = p ? p + sizeof(queued) - 1 : NULL;
    if (!p && (p = find_word(reply, id, sizeof(id) - 1, 3)))
        begin = p + sizeof(id) - 1;
    if (!p && (p = find_word(reply, accepted, sizeof(accepted) - 1, 1)))
        for (begin = p; begin > reply.text && is_id(begin[-1]);)
            begin--;
    if (!begin)
        return (struct log_slice){ "", 0 };
    for (p = begin; p < end && is_id(*p);)
        p++;
    return log_slice_of(begin, p);
}
