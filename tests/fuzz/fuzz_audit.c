/*
 * The ledger of sluice audit: lines of a log in any state give rows that are whole:
 * each with one fate, a host, a queue id, and a recipient or a number of them; the
 * rows of a message come one after the other.
 *
 * Sources: cutover/audit_delivery.c cutover/audit_fate.c cutover/audit_hop.c
 * Sources: cutover/audit_ledger.c cutover/audit_rcpt.c cutover/audit_sendmail.c
 * Sources: cutover/audit_tree.c
 * Sources: cutover/log_event.c cutover/log_event_sendmail.c cutover/log_event_session.c
 * Sources: cutover/log_event_verdict.c cutover/log_field.c cutover/log_journal.c
 * Sources: cutover/log_line.c cutover/log_time.c
 */
#include "../../cutover/audit_ledger.h"
#include "fuzz.h"

#define LATEST 1795392000

static uint64_t last_message;

static bool mailbox(void *context, struct log_slice text, char out[ADDR_TEXT_MAX + 1])
{
    (void)context;
    if (text.len == 0 || text.len > ADDR_TEXT_MAX || memchr(text.text, '\0', text.len) ||
        !memmem(text.text, text.len, "example", 7))
        return false;
    memcpy(out, text.text, text.len);
    out[text.len] = '\0';
    return true;
}

static bool redirects_to(void *context, struct log_slice text)
{
    (void)context;
    return text.len % 2 == 0;
}

static enum ledger_side side(void *context, const char *host)
{
    (void)context;
    return (enum ledger_side)(strlen(host) % 3);
}

static enum ledger_judged judge(void *context, const char *address, const char *host,
                                enum ledger_side where, int64_t from_us, int64_t to_us)
{
    (void)context, (void)host;
    HOLDS(where != LEDGER_SIDE_UNKNOWN && from_us <= to_us);
    return (enum ledger_judged)(strlen(address) % 3);
}

static void fence(void *context, struct log_slice host, uint64_t change, int64_t us)
{
    (void)context, (void)host, (void)change, (void)us;
}

static void take_row(void *context, const struct ledger_row *row)
{
    uint64_t *rows = context;
    HOLDS(row->fate < LEDGER_FATES && row->recipients > 0);
    HOLDS(row->message >= last_message && row->message > 0);
    HOLDS(row->id[0] && row->first_id[0]);
    HOLDS(strlen(row->host) + strlen(row->first_host) + strlen(row->from) +
              strlen(row->message_id) + strlen(row->where) + strlen(row->text) +
              strlen(row->to) + strlen(row->notice) <
          100000);
    HOLDS(row->mailbox[0] ? row->recipients == 1 : row->to[0] == '\0');
    HOLDS((row->fate == FATE_QUEUED) <= (row->where[0] != '\0'));
    last_message = row->message;
    ++*rows;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct log_clock clock;
    uint64_t rows = 0;
    struct ledger_ports ports = { .context = &rows,
                                  .mailbox = mailbox,
                                  .redirects_to = redirects_to,
                                  .side = side,
                                  .judge = judge,
                                  .fence = fence,
                                  .row = take_row,
                                  .full = size % 2 };
    struct ledger *ledger = ledger_new(&ports);
    HOLDS(ledger != NULL);
    last_message = 0;
    log_clock_init(&clock, LATEST);
    for (size_t at = 0; at < size;) {
        const char *text = (const char *)data + at;
        const char *end = memchr(text, '\n', size - at);
        size_t len = end ? (size_t)(end - text) : size - at;
        struct log_line line;
        struct log_event event;
        struct log_time time;
        at += len + 1;
        if (log_line_parse(&clock, text, len, &line) &&
            log_line_time(&clock, &line, &time) &&
            log_event_parse(&line, LOG_EVENTS_ALL, &event) != LOG_EVENT_NONE)
            HOLDS(ledger_take(ledger, &line, &event, time.us));
    }
    HOLDS(ledger_end(ledger));
    HOLDS(rows == 0 || ledger_counts(ledger)->messages == last_message);
    ledger_free(ledger);
    return 0;
}
