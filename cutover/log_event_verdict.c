/*
 * log_event: sluice-milter's lines (milter/report.c). Values are escaped by
 * log_value(): no space and no bracket of a client's is in them, so words are split
 * at spaces.
 */
#include "log_field.h"

/* "<a@x>" or "[192.0.2.1]" without what is around it. */
static struct log_slice bare(struct log_slice value)
{
    if (value.len >= 2 && (value.text[0] == '<' || value.text[0] == '['))
        return (struct log_slice){ value.text + 1, value.len - 2 };
    return value;
}

#define WORD(key, field)                                                                 \
    {                                                                                    \
        key, sizeof(key) - 1, offsetof(struct log_event, field)                          \
    }

static const struct {
    const char *key;
    size_t len, place;
} words[] = {
    WORD("verdict", verdict),
    WORD("to", to),
    WORD("home", home),
    WORD("from", from),
    WORD("client", client_address),
    WORD("helo", helo),
    WORD("auth", user),
    WORD("reason", reason),
    WORD("new", new_to),
    WORD("copy", copy_to),
    WORD("spf", spf),
    WORD("dkim", dkim),
    WORD("dmarc", dmarc),
    WORD("header-from", header_from),
    WORD("outbound", from),
};

static void take_word(struct log_slice key, struct log_slice value, struct log_event *out)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (words[i].len == key.len && words[i].key[0] == key.text[0] &&
            memcmp(words[i].key, key.text, key.len) == 0) {
            *(struct log_slice *)((char *)out + words[i].place) = bare(value);
            return;
        }
}

void log_event_verdict(const struct log_line *line, struct log_event *out)
{
    struct log_cursor c = log_cursor_of(line->rest);
    if (c.end - c.p < 8 || memcmp(c.p, "verdict=", 8) != 0)
        return;
    while (c.p < c.end) {
        const char *begin = c.p, *equal = NULL;
        for (; c.p < c.end && *c.p != ' '; c.p++)
            if (*c.p == '=' && !equal)
                equal = c.p;
        if (equal && equal > begin)
            take_word(log_slice_of(begin, equal), log_slice_of(equal + 1, c.p), out);
        if (c.p < c.end)
            c.p++;
    }
    out->kind = LOG_EVENT_VERDICT;
}
