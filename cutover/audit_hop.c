/*
 * audit_hop: queue files as the log shows them, found by their queue id; their memory.
 *
 * A long id (Postfix enable_long_queue_ids) is unique by itself, a short one within its
 * host. Ids are used again: the newest is found. What becomes of them is audit_tree.c's.
 */
#include "audit_hop.h"

#include <stdlib.h>

#include "log_field.h"

#define LONG_ID                                                                          \
    12 /* src/global/mail_queue.h: hex ids have at most 5 + 8 digits,                    \
          but no 'z'; Sendmail's have 14 */

uint64_t ledger_hash(const char *text, size_t len)
{
    uint64_t hash = UINT64_C(0x9e3779b97f4a7c15) ^ len, word = 0;
    const char *end = text + len;
    for (; end - text > 8; text += 8) {
        memcpy(&word, text, 8);
        hash = (hash ^ word) * UINT64_C(0xff51afd7ed558ccd);
        hash ^= hash >> 32;
    }
    if (len >= 8) /* the last eight: some of them for the second time */
        memcpy(&word, end - 8, 8);
    else
        for (word = 0; text < end; text++)
            word = word << 8 | (unsigned char)*text;
    hash = (hash ^ word) * UINT64_C(0xff51afd7ed558ccd);
    return hash ^ (hash >> 32);
}

/* ---- memory ------------------------------------------------------------- */

#define SPARE_MAX 4096 /* blocks kept; a wave's memory is given back */

void *hop_memory(struct hop *hop, size_t size)
{
    size_t room = (size + 7) & ~(size_t)7;
    if (hop->size - hop->used < room)
        return malloc(size);
    char *memory = (char *)hop + hop->used;
    hop->used += (uint32_t)room;
    return memory;
}

/* What is in the block stays there until the hop goes. */
void hop_memory_free(struct hop *hop, void *memory)
{
    uintptr_t begin = (uintptr_t)hop, at = (uintptr_t)memory;
    if (at < begin || at >= begin + hop->size)
        free(memory);
}

static struct hop *block_new(struct ledger *ledger, size_t id_len)
{
    static const struct hop none;
    struct hop *hop = ledger->spare;
    size_t head = (sizeof(*hop) + id_len + 8) & ~(size_t)7;
    if (hop) {
        ledger->spare = hop->same_bucket;
        ledger->spare_count--;
    } else {
        hop = malloc(HOP_BLOCK);
    }
    if (!hop)
        return NULL;
    log_copy(hop, &none, sizeof(none));
    hop->id[id_len] = '\0';
    hop->used = (uint32_t)head;
    hop->size = HOP_BLOCK;
    return hop;
}

static void block_free(struct ledger *ledger, struct hop *hop)
{
    if (ledger->spare_count >= SPARE_MAX) {
        free(hop);
        return;
    }
    hop->same_bucket = ledger->spare;
    ledger->spare = hop;
    ledger->spare_count++;
}

char *text_cut(struct ledger *ledger, struct hop *hop, struct log_slice text)
{
    size_t len = text.len <= LEDGER_TEXT_MAX ? text.len : LEDGER_TEXT_MAX;
    char *copy = hop_memory(hop, len + 4);
    if (!copy) {
        ledger->failed = true;
        return NULL;
    }
    log_copy(copy, text.text, len);
    memcpy(copy + len, text.len > len ? "..." : "", text.len > len ? 4 : 1);
    return copy;
}

/* ---- by queue id -------------------------------------------------------- */

static bool id_is_long(struct log_slice id)
{
    return id.len >= LONG_ID && memchr(id.text, 'z', id.len) != NULL;
}

struct hop *hop_find(struct ledger *ledger, struct log_slice id, uint16_t host)
{
    uint64_t hash = ledger_hash(id.text, id.len);
    for (struct hop *hop = ledger->buckets[hash & (ledger->bucket_count - 1)]; hop;
         hop = hop->same_bucket) {
        if (hop->id_hash != hash || hop->id_len != id.len ||
            memcmp(hop->id, id.text, id.len) != 0)
            continue;
        if (hop->host == host || hop->host == 0 || host == 0 || id_is_long(id)) {
            if (hop->host == 0)
                hop->host = host;
            return hop;
        }
    }
    return NULL;
}

static void grow_buckets(struct ledger *ledger)
{
    size_t count = ledger->bucket_count * 2;
    struct hop **buckets = calloc(count, sizeof(struct hop *));
    if (!buckets)
        return; /* slower, not wrong */
    for (size_t i = 0; i < ledger->bucket_count; i++) {
        /* The order within a bucket says which one is newer. */
        struct hop *next, *reversed = NULL;
        for (struct hop *hop = ledger->buckets[i]; hop; hop = next) {
            next = hop->same_bucket;
            hop->same_bucket = reversed;
            reversed = hop;
        }
        for (struct hop *hop = reversed; hop; hop = next) {
            struct hop **bucket = &buckets[hop->id_hash & (count - 1)];
            next = hop->same_bucket;
            hop->same_bucket = *bucket;
            *bucket = hop;
        }
    }
    free(ledger->buckets);
    ledger->buckets = buckets;
    ledger->bucket_count = count;
}

struct hop *hop_new(struct ledger *ledger, struct log_slice id, uint16_t host)
{
    struct hop *hop;
    if (id.len > HOP_ID_MAX)
        return NULL; /* not a queue id of any MTA */
    if (ledger->hop_count >= ledger->bucket_count)
        grow_buckets(ledger);
    hop = block_new(ledger, id.len);
    if (!hop) {
        ledger->failed = true;
        return NULL;
    }
    memcpy(hop->id, id.text, id.len);
    hop->id_len = (uint8_t)id.len;
    hop->id_hash = ledger_hash(id.text, id.len);
    hop->host = host;
    hop->tree_last = hop;
    hop->rcpt_end = &hop->rcpts;
    hop->open = 1;
    hop->first_us = hop->last_us = ledger->line_us;
    struct hop **bucket = &ledger->buckets[hop->id_hash & (ledger->bucket_count - 1)];
    hop->same_bucket = *bucket;
    *bucket = hop;
    hop->serial = ledger->counts.hops++;
    if (++ledger->hop_count > ledger->counts.most_in_memory)
        ledger->counts.most_in_memory = ledger->hop_count;
    return hop;
}

static void rcpts_free(struct hop *hop)
{
    for (struct rcpt *r = hop->rcpts; r;) {
        struct rcpt *next = r->next;
        hop_memory_free(hop, r->detail);
        hop_memory_free(hop, r->mailbox);
        hop_memory_free(hop, r);
        r = next;
    }
    free(hop->index);
}

void hop_free(struct ledger *ledger, struct hop *hop)
{
    struct hop **at = &ledger->buckets[hop->id_hash & (ledger->bucket_count - 1)];
    while (*at && *at != hop)
        at = &(*at)->same_bucket;
    if (*at)
        *at = hop->same_bucket;
    hop_limbo_leave(ledger, hop);
    rcpts_free(hop);
    hop_memory_free(hop, hop->from);
    hop_memory_free(hop, hop->message_id);
    hop_memory_free(hop, hop->notice);
    block_free(ledger, hop);
    ledger->hop_count--;
}

void hops_free(struct ledger *ledger)
{
    for (size_t i = 0; i < ledger->bucket_count; i++)
        while (ledger->buckets[i])
            hop_free(ledger, ledger->buckets[i]);
    while (ledger->spare) {
        struct hop *next = ledger->spare->same_bucket;
        free(ledger->spare);
        ledger->spare = next;
    }
}
