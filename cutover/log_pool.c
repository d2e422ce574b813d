/*
 * log_pool: log_flow's messages (see log_pool.h).
 *
 * A message that is done goes to a list and is used again, with its first chunk
 * of memory: at full speed nothing is allocated. Old messages are looked for when
 * there are twice as many as were left the last time, so that costs little; as a
 * message that is too old is never found either, it does not matter when.
 */
#include "log_pool.h"

#include <stdlib.h>

#include "addr.h"
#include "log_field.h"

#define CHUNK_SIZE  1000
#define SWEEP_FIRST 65536u
#define INDEX_FROM  16 /* recipients; fewer are looked through */
#define HOUR_US     (INT64_C(3600) * 1000000)
#define OPEN_US     (2 * HOUR_US)
#define QUEUED_US   (40 * 24 * HOUR_US)

struct log_chunk {
    struct log_chunk *next;
    size_t used, size;
    char data[];
};

/* ---- texts ----------------------------------------------------------------- */

void *log_pool_memory(struct log_message *message, size_t size)
{
    struct log_chunk *chunk = message->chunks;
    size = (size + 7) & ~(size_t)7; /* notes need that */
    if (!chunk || chunk->size - chunk->used < size) {
        size_t room = size > CHUNK_SIZE ? size : CHUNK_SIZE;
        chunk = malloc(sizeof(*chunk) + room);
        if (!chunk)
            return NULL;
        chunk->next = message->chunks;
        chunk->used = 0;
        chunk->size = room;
        message->chunks = chunk;
    }
    void *memory = chunk->data + chunk->used;
    chunk->used += size;
    return memory;
}

/* A place is as large as a power of two, so that a recipient that is tried a
 * thousand times, each time with another reply, does not grow by each. */
static size_t room_for(size_t len)
{
    return len < 16 ? 16 : (size_t)1 << (64 - __builtin_clzll(len));
}

bool log_pool_text(struct log_message *message, char **place, struct log_slice value)
{
    size_t len = value.len > LOG_FLOW_TEXT_MAX ? LOG_FLOW_TEXT_MAX : value.len;
    if (len == 0 && !*place)
        return true;
    if (!*place || room_for(strlen(*place)) < len + 1) {
        char *memory = log_pool_memory(message, room_for(len));
        if (!memory)
            return false;
        *place = memory;
    }
    log_copy(*place, value.text, len);
    (*place)[len] = '\0';
    for (char *nul = *place; (nul = memchr(nul, '\0', len - (size_t)(nul - *place)));)
        *nul = '?'; /* it is a text from here on */
    return true;
}

static void free_texts(struct log_message *message, bool keep_one)
{
    while (message->chunks && (!keep_one || message->chunks->next)) {
        struct log_chunk *next = message->chunks->next;
        free(message->chunks);
        message->chunks = next;
    }
    if (message->chunks)
        message->chunks->used = 0;
}

/* ---- recipients ------------------------------------------------------------ */

/* As addr.h has it; an address that is plainly that already is not parsed. */
static struct log_slice canonical(struct log_slice text, char out[ADDR_TEXT_MAX + 1])
{
    struct addr addr;
    bool at = false, plain = text.len > 0 && text.text[0] != '@';
    for (size_t i = 0; i < text.len && plain; i++) {
        unsigned char c = (unsigned char)text.text[i];
        if (c == '@' && !at && i + 1 < text.len)
            at = true;
        else
            plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                    c == '_' || c == '+' ||
                    (c == '.' && i + 1 < text.len && text.text[i + 1] != '.');
    }
    if ((plain && at) || text.len > ADDR_TEXT_MAX ||
        addr_parse(text.text, text.len, &addr) != ADDR_OK)
        return text;
    addr_format(addr.local, addr.domain, out);
    return (struct log_slice){ out, strlen(out) };
}

static uint64_t hash_bytes(uint64_t hash, struct log_slice text)
{
    const char *p = text.text;
    size_t left = text.len;
    while (left > 0) {
        uint64_t word = 0;
        size_t n = left < 8 ? left : 8;
        memcpy(&word, p, n);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
        p += n;
        left -= n;
    }
    return (hash ^ text.len) * UINT64_C(0xbf58476d1ce4e5b9);
}

static struct log_slice slice_of(const char *text)
{
    return (struct log_slice){ text ? text : "", text ? strlen(text) : 0 };
}

static size_t index_place(const struct log_message *m, struct log_slice to,
                          struct log_slice orig_to)
{
    uint64_t hash = hash_bytes(hash_bytes(1, to), orig_to);
    size_t at = (size_t)(hash >> 20) & (m->index_size - 1);
    while (m->index[at]) {
        const struct log_recipient *r = &m->recipients[m->index[at] - 1];
        if (log_slice_equal(slice_of(r->to), to) &&
            log_slice_equal(slice_of(r->orig_to), orig_to))
            break;
        at = (at + 1) & (m->index_size - 1);
    }
    return at;
}

/* For one more recipient than there is. */
static bool make_index(struct log_message *m)
{
    if (m->recipient_count < INDEX_FROM || (m->recipient_count + 1) * 2 <= m->index_size)
        return true;
    size_t size = m->index_size ? m->index_size * 2 : 64;
    uint32_t *index = calloc(size, sizeof(*index));
    if (!index)
        return false;
    free(m->index);
    m->index = index;
    m->index_size = size;
    for (size_t i = 0; i < m->recipient_count; i++) {
        const struct log_recipient *r = &m->recipients[i];
        index[index_place(m, slice_of(r->to), slice_of(r->orig_to))] = (uint32_t)i + 1;
    }
    return true;
}

static struct log_recipient *find_recipient(const struct log_message *m,
                                            struct log_slice to, struct log_slice orig_to)
{
    if (m->index) {
        uint32_t at = m->index[index_place(m, to, orig_to)];
        return at ? &m->recipients[at - 1] : NULL;
    }
    for (size_t i = 0; i < m->recipient_count; i++) {
        struct log_recipient *r = &m->recipients[i];
        if (log_slice_equal(slice_of(r->to), to) &&
            log_slice_equal(slice_of(r->orig_to), orig_to))
            return r;
    }
    return NULL;
}

static struct log_slice shortened(struct log_slice text)
{
    if (text.len > LOG_FLOW_TEXT_MAX)
        text.len = LOG_FLOW_TEXT_MAX;
    return text;
}

struct log_recipient *log_flow_recipient(struct log_message *message, struct log_slice to,
                                         struct log_slice orig_to)
{
    char first[ADDR_TEXT_MAX + 1], second[ADDR_TEXT_MAX + 1];
    return find_recipient(message, shortened(canonical(to, first)),
                          shortened(canonical(orig_to, second)));
}

static struct log_recipient *add_recipient(struct log_message *m, struct log_slice to,
                                           struct log_slice orig_to)
{
    if (m->recipient_count == m->recipient_size) {
        size_t size = m->recipient_size ? m->recipient_size * 2 : 2;
        struct log_recipient *grown = realloc(m->recipients, size * sizeof(*grown));
        if (!grown)
            return NULL;
        m->recipients = grown;
        m->recipient_size = size;
    }
    if (!make_index(m))
        return NULL;
    struct log_recipient *r = &m->recipients[m->recipient_count];
    *r = (struct log_recipient){ .status = LOG_STATUS_OTHER };
    if (!log_pool_text(m, &r->to, to) ||
        (orig_to.len && !log_pool_text(m, &r->orig_to, orig_to)))
        return NULL;
    if (m->index)
        m->index[index_place(m, to, orig_to)] = (uint32_t)m->recipient_count + 1;
    m->recipient_count++;
    return r;
}

struct log_recipient *log_pool_recipient(struct log_flow *flow,
                                         struct log_message *message, struct log_slice to,
                                         struct log_slice orig_to)
{
    char first[ADDR_TEXT_MAX + 1], second[ADDR_TEXT_MAX + 1];
    to = shortened(canonical(to, first));
    orig_to = shortened(canonical(orig_to, second));
    struct log_recipient *r = find_recipient(message, to, orig_to);
    if (r)
        return r;
    if (message->recipient_count >= LOG_FLOW_RECIPIENTS_MAX) {
        flow->counts.recipients++;
        return NULL;
    }
    r = add_recipient(message, to, orig_to);
    if (!r)
        flow->counts.no_memory++;
    return r;
}

/* ---- the table ------------------------------------------------------------- */

static bool is_short(struct log_slice id)
{
    for (size_t i = 0; i < id.len; i++)
        if (!((id.text[i] >= '0' && id.text[i] <= '9') ||
              (id.text[i] >= 'A' && id.text[i] <= 'F')))
            return false;
    return true;
}

/* Of a short id with its host: hosts use the same ones. */
static uint64_t hash_of(struct log_slice host, struct log_slice id)
{
    uint64_t hash = hash_bytes(7, id);
    return is_short(id) ? hash_bytes(hash, host) : hash;
}

static bool has_text(const char *text, struct log_slice slice)
{
    if (!text)
        return slice.len == 0;
    return strncmp(text, slice.text, slice.len) == 0 && !text[slice.len];
}

static bool is_same(const struct log_message *m, struct log_slice host,
                    struct log_slice id)
{
    return has_text(m->texts[LOG_FLOW_ID], id) &&
           (!is_short(id) || has_text(m->texts[LOG_FLOW_HOST], host));
}

static bool is_old(const struct log_message *m, int64_t us)
{
    bool over = m->state == LOG_FLOW_OPEN ||
                (m->sendmail && m->tried > 0 && m->finals == m->tried);
    return us - m->last > (over ? OPEN_US : QUEUED_US);
}

struct log_message *log_pool_find(struct log_flow *flow, struct log_slice host,
                                  struct log_slice id, int64_t us)
{
    uint64_t hash = hash_of(host, id);
    if (flow->bucket_count == 0)
        return NULL;
    struct log_message *m = flow->buckets[hash & (flow->bucket_count - 1)];
    while (m && (m->hash != hash || !is_same(m, host, id)))
        m = m->next;
    if (m && is_old(m, us)) {
        flow->counts.forgotten++;
        log_flow_drop(flow, m);
        return NULL;
    }
    return m;
}

static bool grow(struct log_flow *flow)
{
    size_t count = flow->bucket_count ? flow->bucket_count * 2 : 1024;
    struct log_message **buckets = calloc(count, sizeof(struct log_message *));
    if (!buckets)
        return false;
    for (size_t i = 0; i < flow->bucket_count; i++)
        for (struct log_message *m = flow->buckets[i], *next; m; m = next) {
            next = m->next;
            m->next = buckets[m->hash & (count - 1)];
            buckets[m->hash & (count - 1)] = m;
        }
    free(flow->buckets);
    flow->buckets = buckets;
    flow->bucket_count = count;
    return true;
}

static void destroy(struct log_message *m)
{
    free_texts(m, false);
    free(m->recipients);
    free(m->index);
    free(m);
}

static void sweep(struct log_flow *flow, int64_t us)
{
    for (size_t i = 0; i < flow->bucket_count; i++)
        for (struct log_message *m = flow->buckets[i], *next; m; m = next) {
            next = m->next;
            if (is_old(m, us)) {
                flow->counts.forgotten++;
                log_flow_drop(flow, m);
            }
        }
    while (flow->free_list) { /* a wave is over: give its memory back */
        struct log_message *next = flow->free_list->next;
        destroy(flow->free_list);
        flow->free_list = next;
    }
    flow->sweep_at = flow->counts.in_flight * 2 > SWEEP_FIRST
                         ? (size_t)flow->counts.in_flight * 2
                         : SWEEP_FIRST;
    if (flow->sweep_at > LOG_FLOW_MAX && flow->counts.in_flight < LOG_FLOW_MAX)
        flow->sweep_at = LOG_FLOW_MAX;
}

void log_pool_reset(struct log_message *m, int64_t us)
{
    struct log_message empty = {
        .first = us,
        .last = us,
        .size = -1,
        .next = m->next,
        .hash = m->hash,
        .chunks = m->chunks,
        .recipients = m->recipients,
        .recipient_size = m->recipient_size,
    };
    char id[64];
    char *host = m->texts[LOG_FLOW_HOST], host_text[256];
    struct log_slice name = slice_of(m->texts[LOG_FLOW_ID]);
    struct log_slice place = slice_of(host);
    if (name.len > sizeof(id))
        name.len = sizeof(id);
    if (place.len > sizeof(host_text))
        place.len = sizeof(host_text);
    memcpy(id, name.text, name.len);
    memcpy(host_text, place.text, place.len);
    free(m->index);
    *m = empty;
    free_texts(m, true);
    /* In the chunk that is kept: no allocation, so it cannot fail. */
    log_pool_text(m, &m->texts[LOG_FLOW_ID], (struct log_slice){ id, name.len });
    log_pool_text(m, &m->texts[LOG_FLOW_HOST],
                  (struct log_slice){ host_text, place.len });
}

static struct log_message *get_message(struct log_flow *flow)
{
    struct log_message *m = flow->free_list;
    if (m)
        flow->free_list = m->next;
    else
        m = calloc(1, sizeof(*m));
    return m;
}

static bool may_add(struct log_flow *flow, int64_t us)
{
    if (flow->counts.in_flight >= flow->sweep_at)
        sweep(flow, us);
    if (flow->counts.in_flight >= LOG_FLOW_MAX) {
        flow->counts.limit++;
        return false;
    }
    if (flow->counts.in_flight >= flow->bucket_count && !grow(flow) &&
        flow->bucket_count == 0) {
        flow->counts.no_memory++;
        return false;
    }
    return true;
}

struct log_message *log_pool_add(struct log_flow *flow, struct log_slice host,
                                 struct log_slice id, int64_t us)
{
    struct log_message *m = may_add(flow, us) ? get_message(flow) : NULL;
    if (!m)
        return NULL;
    m->hash = hash_of(host, id);
    m->size = -1;
    m->first = m->last = us;
    if (!log_pool_text(m, &m->texts[LOG_FLOW_ID], id) ||
        !log_pool_text(m, &m->texts[LOG_FLOW_HOST], host)) {
        flow->counts.no_memory++;
        destroy(m);
        return NULL;
    }
    size_t bucket = m->hash & (flow->bucket_count - 1);
    m->next = flow->buckets[bucket];
    flow->buckets[bucket] = m;
    flow->counts.in_flight++;
    return m;
}

void log_flow_drop(struct log_flow *flow, struct log_message *message)
{
    struct log_message **link = &flow->buckets[message->hash & (flow->bucket_count - 1)];
    while (*link && *link != message)
        link = &(*link)->next;
    if (!*link)
        return;
    *link = message->next;
    flow->counts.in_flight--;
    if (flow->loading == message)
        flow->loading = NULL;
    free_texts(message, true);
    free(message->index);
    *message = (struct log_message){ .chunks = message->chunks,
                                     .recipients = message->recipients,
                                     .recipient_size = message->recipient_size,
                                     .next = flow->free_list };
    flow->free_list = message;
}

/* ---- beginning and end ----------------------------------------------------- */

struct log_flow *log_flow_new(void)
{
    struct log_flow *flow = calloc(1, sizeof(*flow));
    if (flow)
        flow->sweep_at = SWEEP_FIRST;
    return flow;
}

static void free_list(struct log_message *m)
{
    while (m) {
        struct log_message *next = m->next;
        destroy(m);
        m = next;
    }
}

void log_flow_free(struct log_flow *flow)
{
    if (!flow)
        return;
    for (size_t i = 0; i < flow->bucket_count; i++)
        free_list(flow->buckets[i]);
    free_list(flow->free_list);
    free(flow->buckets);
    free(flow);
}

bool log_flow_each(struct log_flow *flow,
                   bool (*take)(void *arg, struct log_message *message), void *arg)
{
    for (size_t i = 0; i < flow->bucket_count; i++)
        for (struct log_message *m = flow->buckets[i]; m; m = m->next)
            if (!take(arg, m))
                return false;
    return true;
}
