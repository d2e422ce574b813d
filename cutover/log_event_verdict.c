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

/* The words in the order of the alphabet; others are not looked at. */
static void take_word(struct log_slice key, struct log_slice value, struct log_event *out)
{
#define WORD(word, field)                                                                \
    if (key.len == sizeof(word) - 1 && memcmp(key.text, word, sizeof(word) - 1) == 0) {  \
        out->field = bare(value);                                                        \
        return;                                                                          \
    }
    switch (key.text[0]) {
    case 'a':
        WORD("auth", user);
        break;
    case 'c':
        WORD("client", client_address);
        WORD("copy", copy_to);
        break;
    case 'd':
        WORD("dkim", dkim);
        WORD("dmarc", dmarc);
        break;
    case 'f':
        WORD("from", from);
        break;
    case 'h':
        WORD("header-from", header_from);
        WORD("helo", helo);
        WORD("home", home);
        break;
    case 'n':
        WORD("new", new_to);
        break;
    case 'o':
        WORD("outbound", from);
        break;
    case 'r':
        WORD("reason", reason);
        break;
    case 's':
        WORD("spf", spf);
        break;
    case 't':
        WORD("to", to);
        break;
    case 'v':
        WORD("verdict", verdict);
        break;
    default:
        break;
    }
#undef WORD
}

void log_event_verdict(const struct log_line *line, struct log_event *out)
{
    struct log_cursor c = log_cursor_of(line->rest);
    if (c.end - c.p < 8 || memcmp(c.p, "verdict=", 8) != 0)
        return;
    while (c.p < c.end) {
        const char *begin = c.p;
        while (c.p < c.end && *c.p != '=' && *c.p != ' ')
            c.p++;
        if (c.p < c.end && *c.p == '=' && c.p > begin) {
            struct log_slice key = log_slice_of(begin, c.p++);
            take_word(key, log_take_until(&c, ' '), out);
        } else {
            log_take_until(&c, ' ');
        }
        if (c.p < c.end)
            c.p++;
    }
    out->kind = LOG_EVENT_VERDICT;
}
