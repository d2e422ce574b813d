/*
 * monitor_save: the monitor's figures as lines of a checkpoint.
 *
 *     totals 1 ALL FAILED FIRST LAST LAST_CLEAN PROBES FALSE_PROBES COPIES DELIVERED
 *         LOST LAST_LOST ROWS_LEFT BEGINS ENDS
 *     mailbox ADDRESS FROM STATUS ALL FAILED FIRST LAST LAST_CLEAN
 *     sender CLIENT USER ORIGIN NAME HELO FROM MAILBOX ALL FAILED FIRST LAST LAST_CLEAN
 *     hour HOUR ALL FAILED
 *
 * and log_flow_save()'s. A row whose last floater is KEEP_US old is left out, so that
 * senders that come once do not add up for ever.
 */
#include "log_words.h"
#include "monitor_count.h"

#define KEEP_US  (INT64_C(45) * 86400 * 1000000)
#define TIME_MIN INT64_MIN
#define TIME_MAX (INT64_MAX / 2)

static void put_tally(FILE *out, const struct monitor_tally *tally)
{
    log_number_put(out, (int64_t)tally->count[MONITOR_ALL]);
    log_number_put(out, (int64_t)tally->count[MONITOR_FAILED]);
    log_number_put(out, tally->first);
    log_number_put(out, tally->last);
    log_number_put(out, tally->last_clean);
}

static bool get_count(const char **at, uint64_t *out)
{
    int64_t value;
    if (!log_number_get(at, 0, INT64_MAX, &value))
        return false;
    *out = (uint64_t)value;
    return true;
}

static bool get_time(const char **at, int64_t *out)
{
    return log_number_get(at, TIME_MIN, TIME_MAX, out);
}

static bool get_tally(const char **at, struct monitor_tally *tally)
{
    return get_count(at, &tally->count[MONITOR_ALL]) &&
           get_count(at, &tally->count[MONITOR_FAILED]) && get_time(at, &tally->first) &&
           get_time(at, &tally->last) && get_time(at, &tally->last_clean);
}

static void save_totals(const struct monitor_totals *totals, FILE *out)
{
    fputs("totals 1", out);
    put_tally(out, &totals->tally);
    log_number_put(out, (int64_t)totals->probes);
    log_number_put(out, (int64_t)totals->false_probes);
    log_number_put(out, (int64_t)totals->copies);
    log_number_put(out, (int64_t)totals->delivered);
    log_number_put(out, (int64_t)totals->lost);
    log_number_put(out, totals->last_lost);
    log_number_put(out, (int64_t)totals->rows_left);
    log_number_put(out, totals->begins);
    log_number_put(out, totals->ends);
    putc('\n', out);
}

static bool is_kept(const struct monitor *monitor, const struct monitor_tally *tally)
{
    return tally->last != LOG_NO_TIME && monitor->totals.ends - tally->last < KEEP_US;
}

void monitor_save(struct monitor *monitor, FILE *out)
{
    save_totals(&monitor->totals, out);
    for (size_t i = 0; i < monitor->mailbox_count; i++) {
        const struct monitor_mailbox *row = &monitor->mailboxes[i];
        if (!is_kept(monitor, &row->tally))
            continue;
        fputs("mailbox", out);
        log_word_put(out, row->address);
        log_word_put(out, row->from);
        log_number_put(out, row->status);
        put_tally(out, &row->tally);
        putc('\n', out);
    }
    for (size_t i = 0; i < monitor->sender_count; i++) {
        const struct monitor_sender *row = &monitor->senders[i];
        const char *texts[] = { row->client, row->user, row->origin, row->name,
                                row->helo,   row->from, row->mailbox };
        if (!is_kept(monitor, &row->tally))
            continue;
        fputs("sender", out);
        for (size_t n = 0; n < sizeof(texts) / sizeof(texts[0]); n++)
            log_word_put(out, texts[n]);
        put_tally(out, &row->tally);
        putc('\n', out);
    }
    for (size_t i = 0; i < monitor->hour_count; i++) {
        fputs("hour", out);
        log_number_put(out, monitor->hours[i].hour);
        log_number_put(out, (int64_t)monitor->hours[i].count[MONITOR_ALL]);
        log_number_put(out, (int64_t)monitor->hours[i].count[MONITOR_FAILED]);
        putc('\n', out);
    }
    log_flow_save(monitor->flow, out);
}

static bool load_totals(struct monitor *monitor, const char *at)
{
    struct monitor_totals *t = &monitor->totals;
    int64_t version;
    return log_number_get(&at, 1, 1, &version) && get_tally(&at, &t->tally) &&
           get_count(&at, &t->probes) && get_count(&at, &t->false_probes) &&
           get_count(&at, &t->copies) && get_count(&at, &t->delivered) &&
           get_count(&at, &t->lost) && get_time(&at, &t->last_lost) &&
           get_count(&at, &t->rows_left) && get_time(&at, &t->begins) &&
           get_time(&at, &t->ends) && log_words_end(at);
}

static bool load_mailbox(struct monitor *monitor, const char *at)
{
    char address[LOG_FLOW_TEXT_MAX + 1], from[LOG_FLOW_TEXT_MAX + 1];
    int64_t status;
    if (!log_word_get(&at, address, sizeof(address)) ||
        !log_word_get(&at, from, sizeof(from)) ||
        !log_number_get(&at, 0, LOG_STATUS_DELIVERABLE, &status))
        return false;
    struct monitor_mailbox *row = monitor_mailbox(monitor, address);
    if (!row || row->tally.count[MONITOR_ALL] > 0)
        return false;
    row->status = (enum log_status)status;
    return monitor_put(monitor, &row->from, from) && get_tally(&at, &row->tally) &&
           log_words_end(at);
}

static bool load_sender(struct monitor *monitor, const char *at)
{
    char texts[7][LOG_FLOW_TEXT_MAX + 1];
    for (size_t i = 0; i < 7; i++)
        if (!log_word_get(&at, texts[i], sizeof(texts[i])))
            return false;
    struct monitor_sender *row = monitor_sender(monitor, texts[0], texts[1], texts[2]);
    if (!row || row->tally.count[MONITOR_ALL] > 0)
        return false;
    return monitor_put(monitor, &row->name, texts[3]) &&
           monitor_put(monitor, &row->helo, texts[4]) &&
           monitor_put(monitor, &row->from, texts[5]) &&
           monitor_put(monitor, &row->mailbox, texts[6]) && get_tally(&at, &row->tally) &&
           log_words_end(at);
}

static bool load_hour(struct monitor *monitor, const char *at)
{
    int64_t hour;
    uint64_t all, failed;
    if (!log_number_get(&at, -1, INT32_MAX, &hour) || !get_count(&at, &all) ||
        !get_count(&at, &failed) || !log_words_end(at))
        return false;
    monitor_add_hour(monitor, hour, all, failed);
    return true;
}

bool monitor_load(struct monitor *monitor, const char *line)
{
    static const struct {
        const char *word;
        bool (*load)(struct monitor *monitor, const char *at);
    } kinds[] = { { "totals", load_totals },
                  { "mailbox", load_mailbox },
                  { "sender", load_sender },
                  { "hour", load_hour } };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const char *at = line;
        if (log_word_is(&at, kinds[i].word))
            return kinds[i].load(monitor, at);
    }
    return log_flow_load(monitor->flow, line);
}
