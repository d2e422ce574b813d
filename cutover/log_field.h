/*
 * log_field: taking fields from the text of a log line, for log_event*.c. A cursor
 * never passes the end; what does not match leaves it where it was.
 */
#ifndef SLUICE_LOG_FIELD_H
#define SLUICE_LOG_FIELD_H

#include "log_event.h"

struct log_cursor {
    const char *p, *end;
};

static inline struct log_cursor log_cursor_of(struct log_slice text)
{
    return (struct log_cursor){ text.text, text.text + text.len };
}

static inline struct log_slice log_slice_of(const char *begin, const char *end)
{
    return (struct log_slice){ begin, (size_t)(end - begin) };
}

static inline bool log_take(struct log_cursor *c, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(c->end - c->p) < len || memcmp(c->p, word, len) != 0)
        return false;
    c->p += len;
    return true;
}

/* Up to a stop character (not taken), or to the end. */
static inline struct log_slice log_take_until(struct log_cursor *c, char stop)
{
    const char *begin = c->p;
    const char *found = memchr(begin, stop, (size_t)(c->end - begin));
    c->p = found ? found : c->end;
    return log_slice_of(begin, c->p);
}

/* memcpy(3) for the busiest places: of a size that the compiler knows it makes a slow
 * "rep movs" there. */
void log_copy(void *to, const void *from, size_t len);

/* false: no digit here. Larger than 18 digits: 0. */
bool log_take_number(struct log_cursor *c, int64_t *out);
/* Behind '<': an address up to its '>' (taken), quoted as RFC 5321 has it. */
bool log_take_address(struct log_cursor *c, struct log_slice *out);
/* Postfix' "name[address]" or "name[address]:port"; both "" without brackets. */
void log_split_peer(struct log_slice peer, struct log_slice *name,
                    struct log_slice *address, uint16_t *port);
/* The id that the next server gave the message, from its reply; "": none. */
struct log_slice log_remote_id(struct log_slice reply);

/* log_event_sendmail.c, log_event_verdict.c, log_event_session.c */
void log_event_sendmail(const struct log_line *line, struct log_event *out);
void log_event_verdict(const struct log_line *line, struct log_event *out);
/* Whether log_event_session() can make something of it: for most it cannot. */
static inline bool log_event_is_session(struct log_slice rest)
{
    return rest.len > 7 &&
           (memcmp(rest.text, "disconn", 7) == 0 ||
            memcmp(rest.text, "fence: ", 7) == 0 || memcmp(rest.text, "AUTH=se", 7) == 0);
}
void log_event_session(const struct log_line *line, struct log_event *out);

#endif
