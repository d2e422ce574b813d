/*
 * log_event: sluice-milter's lines (milter/report.c). Values are escaped by
 * log_value(): no space and no bracket of a client's is in them, so words are split
 * at spaces.
 */
#include "log_bytes.h"
#include "log_field.h"

/* "<a@x>" or "[192.0.2.1]" without what is around it. */
static struct log_slice bare(struct log_slice value)
{
    if (value.len >= 2 && (value.text[0] == '<' || value.text[0] == '['))
        return (struct log_slice){ value.text + 1, value.len - 2 };
    return value;
}

struct word {
    const char *key;
    size_t len;
    size_t at; /* of its field in struct log_event */
};

/* In the milter's order: the next word is looked for from behind the last one on. */
#define WORD(key, field)                                                                 \
    {                                                                                    \
        key "=", sizeof(key), offsetof(struct log_event, field)                          \
    }
static const struct word words[] = {
    WORD("verdict", verdict),
    WORD("outbound", from),
    WORD("to", to),
    WORD("home", home),
    WORD("from", from),
    WORD("client", client_address),
    WORD("helo", helo),
    WORD("spf", spf),
    WORD("dkim", dkim),
    WORD("dmarc", dmarc),
    WORD("header-from", header_from),
    WORD("auth", user),
    WORD("reason", reason),
    WORD("new", new_to),
    WORD("copy", copy_to),
};
#undef WORD
enum { WORDS = sizeof(words) / sizeof(words[0]) };

/* The word that p begins with, its "=" too; WORDS: another. */
static size_t find_word(const char *p, const char *end, size_t from)
{
    for (size_t i = 0; i < WORDS; i++) {
        size_t at = from + i < WORDS ? from + i : from + i - WORDS;
        const struct word *w = &words[at];
        if (*p == *w->key && (size_t)(end - p) >= w->len &&
            log_bytes_equal(p, w->key, w->len))
            return at;
    }
    return WORDS;
}

void log_event_verdict(const struct log_line *line, struct log_event *out)
{
    const char *p = line->rest.text, *end = p + line->rest.len, *stop;
    if (line->rest.len < 8 || memcmp(p, "verdict=", 8) != 0)
        return;
    for (size_t next = 0; p < end; p = stop + (stop < end)) {
        size_t at = find_word(p, end, next);
        stop = memchr(p, ' ', (size_t)(end - p));
        stop = stop ? stop : end;
        if (at == WORDS)
            continue;
        struct log_slice value = bare(log_slice_of(p + words[at].len, stop));
        memcpy((char *)out + words[at].at, &value, sizeof(value));
        next = at + 1 < WORDS ? at + 1 : 0;
    }
    out->kind = LOG_EVENT_VERDICT;
}
