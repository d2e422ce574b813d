/*
 * log_flow: lines that are kept unread with their message (log_flow_defer()), and read
 * when it turns out that they are needed. Those of a message without recipients of
 * interest never are.
 */
#include "log_flow.h"

#include "log_pool.h"

struct log_note {
    struct log_note *next;
    int64_t us;
    enum log_daemon daemon;
    uint32_t len;
    char rest[];
};

#define NOTES_MAX 8192 /* bytes; more are read at once */

static bool begins(struct log_slice text, const char *word)
{
    size_t len = strlen(word);
    return text.len >= len && memcmp(text.text, word, len) == 0;
}

/* Lines that concern no other message, and need no answer now. */
static bool may_wait(const struct log_line *line)
{
    switch (line->daemon) {
    case LOG_DAEMON_SMTPD:
        return begins(line->rest, "client=") &&
               (!memchr(line->rest.text, ',', line->rest.len) ||
                !memmem(line->rest.text, line->rest.len, "orig_queue_id=", 14));
    case LOG_DAEMON_CLEANUP:
        return begins(line->rest, "message-id=");
    case LOG_DAEMON_MILTER:
        return begins(line->rest, "verdict=");
    case LOG_DAEMON_QMGR: /* "... (queue active)" */
        return begins(line->rest, "from=<") && line->rest.text[line->rest.len - 1] == ')';
    default:
        return false;
    }
}

bool log_flow_defer(struct log_flow *flow, const struct log_line *line, int64_t us)
{
    if (!may_wait(line))
        return false;
    struct log_message *m = log_flow_get(flow, line, line->id, us);
    if (!m)
        return true; /* counted */
    if (line->daemon == LOG_DAEMON_SMTPD) {
        if (m->begun)
            log_pool_reset(m, us);
        m->begun = true;
    }
    m->last = us;
    if (line->daemon == LOG_DAEMON_QMGR) {
        m->state = LOG_FLOW_QUEUED;
        if (m->noted_queue)
            return true;
        m->noted_queue = true;
    }
    if (m->notes_size + line->rest.len > NOTES_MAX) {
        log_flow_settle(flow, m);
        return line->rest.len > NOTES_MAX ? false : log_flow_defer(flow, line, us);
    }
    struct log_note *note = log_pool_memory(m, sizeof(*note) + line->rest.len);
    if (!note) {
        flow->counts.no_memory++;
        return true;
    }
    *note = (struct log_note){ NULL, us, line->daemon, (uint32_t)line->rest.len };
    memcpy(note->rest, line->rest.text, line->rest.len);
    *(m->notes ? m->notes_end : &m->notes) = note;
    m->notes_end = &note->next;
    m->notes_size += (uint32_t)line->rest.len;
    return true;
}

static struct log_slice slice_of(const char *text)
{
    return (struct log_slice){ text, strlen(text) };
}

void log_flow_settle(struct log_flow *flow, struct log_message *message)
{
    const struct log_slice none = { "", 0 };
    enum log_flow_state state = message->state;
    int64_t last = message->last;
    struct log_note *notes = message->notes;
    if (!notes)
        return;
    message->notes = NULL;
    message->notes_size = 0;
    flow->settling = true;
    for (; notes; notes = notes->next) {
        struct log_event event;
        struct log_line line = {
            slice_of(log_flow_text(message, LOG_FLOW_HOST)),
            none,
            none,
            notes->daemon,
            0,
            slice_of(log_flow_text(message, LOG_FLOW_ID)),
            { notes->rest, notes->len },
            none,
            LOG_STAMP_JOURNAL,
        };
        message->last = notes->us;
        if (log_event_parse(&line, LOG_EVENTS_ALL, &event))
            log_flow_take(flow, &line, &event, notes->us, NULL);
    }
    flow->settling = false;
    message->state = state;
    message->last = last;
}
