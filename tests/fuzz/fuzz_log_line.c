/*
 * A raw log line to its fields, its time and its event. Every slice lies in the line or
 * in the scratch space; a recipient list ends; what is wanted is what is given. What the
 * clock remembers of the lines before changes nothing.
 *
 * Sources: cutover/log_line.c cutover/log_journal.c cutover/log_time.c
 * Sources: cutover/log_event.c cutover/log_event_sendmail.c cutover/log_event_session.c
 * Sources: cutover/log_event_verdict.c cutover/log_field.c
 */
#include "../../cutover/log_event.h"
#include "fuzz.h"

static struct log_clock state;

static void check(struct log_slice slice, const char *text, size_t size)
{
    bool in_text = slice.text >= text && slice.text + slice.len <= text + size;
    bool in_scratch = slice.text >= state.scratch &&
                      slice.text + slice.len <= state.scratch + sizeof(state.scratch);
    HOLDS(slice.text);
    HOLDS(slice.len == 0 || in_text || in_scratch);
}

/* Each line of the input with the clock of the lines before it, and with a new one. */
static void check_memory(const char *text, size_t size)
{
    static struct log_clock before, fresh;
    log_clock_init(&before, 1795338872);
    for (const char *end = text + size, *p = text, *stop; p < end; p = stop + 1) {
        struct log_line a, b;
        stop = memchr(p, '\n', (size_t)(end - p));
        stop = stop ? stop : end;
        log_clock_init(&fresh, 1795338872);
        bool known = log_line_parse(&before, p, (size_t)(stop - p), &a);
        HOLDS(known == log_line_parse(&fresh, p, (size_t)(stop - p), &b));
        if (known)
            HOLDS(log_slice_equal(a.host, b.host) && log_slice_equal(a.id, b.id) &&
                  log_slice_equal(a.program, b.program) && a.pid == b.pid &&
                  log_slice_equal(a.service, b.service) && a.daemon == b.daemon &&
                  log_slice_equal(a.rest, b.rest) && log_slice_equal(a.stamp, b.stamp));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct log_line line;
    struct log_event event, again;
    struct log_time time;
    struct log_slice to;
    char *text = exact_copy(data, size);

    check_memory(text, size);
    log_clock_init(&state, 1795338872);
    if (log_line_parse(&state, text, size, &line)) {
        const struct log_slice fields[] = { line.host, line.program, line.service,
                                            line.id,   line.rest,    line.stamp };
        for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
            check(fields[i], text, size);
        if (log_line_time(&state, &line, &time))
            HOLDS(state.last == time.us);
        enum log_event_kind kind = log_event_parse(&line, LOG_EVENTS_ALL, &event);
        HOLDS(kind == event.kind && kind < LOG_EVENT_KINDS);
        HOLDS(kind == LOG_EVENT_NONE || log_event_possible(&line, 1u << kind));
        HOLDS(log_event_parse(&line, ~(1u << kind), &again) != kind ||
              kind == LOG_EVENT_NONE);
        if (kind != LOG_EVENT_NONE) {
            const struct log_slice found[] = {
                event.from,       event.to,    event.orig_to, event.text,
                event.relay_name, event.user,  event.helo,    event.message_id,
                event.remote_id,  event.dmarc, event.new_to,  event.other_id
            };
            for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); i++)
                check(found[i], text, size);
            size_t rounds = 0;
            for (size_t at = 0; log_event_next_to(&event, &at, &to); rounds++) {
                char plain[64];
                check(to, text, size);
                HOLDS(log_event_plain(to, plain, sizeof(plain)) <= sizeof(plain));
            }
            HOLDS(rounds <= size + 1);
        }
    }
    free(text);
    return 0;
}
