/*
 * log_flow: messages in flight as lines of a checkpoint (see log_flow.h).
 *
 *     message ID HOST FIRST LAST SIZE NRCPT STATE ORIGIN ENTRY MARK FLAGS TEXT...
 *     recipient TO ORIG_TO MAILBOX RELAY REMOTE_ID TEXT EXPANDED FIRST LAST ATTEMPTS
 *         STATUS FLAGS MARK
 *
 * a recipient of the message before it; the texts in the order of log_flow.h.
 */
#include "log_pool.h"
#include "log_words.h"

#define TEXT_FIRST LOG_FLOW_FROM /* id and host stand in front */

enum { FLAG_BEGUN = 1, FLAG_SENDMAIL = 2, FLAG_QUEUED = 4 };
enum { FLAG_FORWARD = 1, FLAG_DOUBTFUL = 2 };

static void save_recipient(const struct log_recipient *r, FILE *out)
{
    fputs("recipient", out);
    log_word_put(out, r->to);
    log_word_put(out, r->orig_to);
    log_word_put(out, r->mailbox);
    log_word_put(out, r->relay);
    log_word_put(out, r->remote_id);
    log_word_put(out, r->text);
    log_word_put(out, r->expanded);
    log_number_put(out, r->first);
    log_number_put(out, r->last);
    log_number_put(out, r->attempts);
    log_number_put(out, r->status);
    log_number_put(out,
                   (r->forward ? FLAG_FORWARD : 0) | (r->doubtful ? FLAG_DOUBTFUL : 0));
    log_number_put(out, r->mark);
    putc('\n', out);
}

void log_flow_save(struct log_flow *flow, FILE *out)
{
    for (size_t i = 0; i < flow->bucket_count; i++)
        for (struct log_message *m = flow->buckets[i]; m; m = m->next) {
            log_flow_settle(flow, m);
            fputs("message", out);
            log_word_put(out, log_flow_text(m, LOG_FLOW_ID));
            log_word_put(out, log_flow_text(m, LOG_FLOW_HOST));
            log_number_put(out, m->first);
            log_number_put(out, m->last);
            log_number_put(out, m->size);
            log_number_put(out, m->nrcpt);
            log_number_put(out, m->state);
            log_number_put(out, m->origin);
            log_number_put(out, m->entry);
            log_number_put(out, m->mark);
            log_number_put(out, (m->begun ? FLAG_BEGUN : 0) |
                                    (m->sendmail ? FLAG_SENDMAIL : 0) |
                                    (m->noted_queue ? FLAG_QUEUED : 0));
            for (enum log_flow_text t = TEXT_FIRST; t < LOG_FLOW_TEXTS; t++)
                log_word_put(out, log_flow_text(m, t));
            putc('\n', out);
            for (size_t n = 0; n < m->recipient_count; n++)
                save_recipient(&m->recipients[n], out);
        }
}

static struct log_slice slice_of(const char *text)
{
    return (struct log_slice){ text, strlen(text) };
}

struct numbers {
    int64_t first, last, size, nrcpt, state, origin, entry, mark, flags;
};

static bool get_numbers(const char **at, struct numbers *n)
{
    return log_number_get(at, INT64_MIN / 2, INT64_MAX / 2, &n->first) &&
           log_number_get(at, INT64_MIN / 2, INT64_MAX / 2, &n->last) &&
           log_number_get(at, -1, INT64_MAX, &n->size) &&
           log_number_get(at, 0, INT64_MAX, &n->nrcpt) &&
           log_number_get(at, 0, LOG_FLOW_HELD, &n->state) &&
           log_number_get(at, 0, LOG_FLOW_BY_FILTER, &n->origin) &&
           log_number_get(at, 0, LOG_FLOW_BY_FILTER, &n->entry) &&
           log_number_get(at, 0, UINT32_MAX, &n->mark) &&
           log_number_get(at, 0, 7, &n->flags);
}

static bool load_message(struct log_flow *flow, const char *at)
{
    char id[LOG_FLOW_TEXT_MAX + 1], host[LOG_FLOW_TEXT_MAX + 1],
        text[LOG_FLOW_TEXT_MAX + 1];
    struct numbers n;
    if (!log_word_get(&at, id, sizeof(id)) || !log_word_get(&at, host, sizeof(host)) ||
        !get_numbers(&at, &n) || !*id ||
        log_pool_find(flow, slice_of(host), slice_of(id), n.last))
        return false;
    struct log_message *m = log_pool_add(flow, slice_of(host), slice_of(id), n.last);
    if (!m)
        return false;
    m->first = n.first;
    m->size = n.size;
    m->nrcpt = n.nrcpt;
    m->state = (enum log_flow_state)n.state;
    m->origin = (enum log_flow_origin)n.origin;
    m->entry = (enum log_flow_origin)n.entry;
    m->mark = (uint32_t)n.mark;
    m->begun = (n.flags & FLAG_BEGUN) != 0;
    m->sendmail = (n.flags & FLAG_SENDMAIL) != 0;
    m->noted_queue = (n.flags & FLAG_QUEUED) != 0;
    flow->loading = m;
    for (enum log_flow_text t = TEXT_FIRST; t < LOG_FLOW_TEXTS; t++)
        if (!log_word_get(&at, text, sizeof(text)) || !log_flow_set(m, t, slice_of(text)))
            return false;
    return log_words_end(at);
}

static bool load_recipient(struct log_flow *flow, const char *at)
{
    char texts[7][LOG_FLOW_TEXT_MAX + 1];
    int64_t first, last, attempts, status, flags, mark;
    struct log_message *m = flow->loading;
    for (size_t i = 0; i < 7; i++)
        if (!log_word_get(&at, texts[i], sizeof(texts[i])))
            return false;
    if (!m || !log_number_get(&at, INT64_MIN / 2, INT64_MAX / 2, &first) ||
        !log_number_get(&at, INT64_MIN / 2, INT64_MAX / 2, &last) ||
        !log_number_get(&at, 0, UINT32_MAX, &attempts) ||
        !log_number_get(&at, 0, LOG_STATUS_DELIVERABLE, &status) ||
        !log_number_get(&at, 0, 3, &flags) || !log_number_get(&at, 0, UINT8_MAX, &mark) ||
        !log_words_end(at))
        return false;
    struct log_recipient *r =
        log_pool_recipient(flow, m, slice_of(texts[0]), slice_of(texts[1]));
    if (!r || !log_pool_text(m, &r->mailbox, slice_of(texts[2])) ||
        !log_pool_text(m, &r->relay, slice_of(texts[3])) ||
        !log_pool_text(m, &r->remote_id, slice_of(texts[4])) ||
        !log_pool_text(m, &r->text, slice_of(texts[5])) ||
        !log_pool_text(m, &r->expanded, slice_of(texts[6])))
        return false;
    m->finals -= log_status_is_final(r->status);
    r->first = first;
    r->last = last;
    m->tried += (attempts > 0) - (r->attempts > 0);
    r->attempts = (uint32_t)attempts;
    r->status = (enum log_status)status;
    m->finals += log_status_is_final(r->status);
    r->forward = (flags & FLAG_FORWARD) != 0;
    r->doubtful = (flags & FLAG_DOUBTFUL) != 0;
    r->mark = (uint8_t)mark;
    return true;
}

bool log_flow_load(struct log_flow *flow, const char *line)
{
    const char *at = line;
    if (log_word_is(&at, "message"))
        return load_message(flow, at);
    at = line;
    return log_word_is(&at, "recipient") && load_recipient(flow, at);
}
