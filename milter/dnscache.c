/*
 * dnscache: see dnscache.h.
 *
 * An answer is one block: count, head, records, their bytes. The table has a
 * fixed number of chains; names are chosen by whoever sends mail, so the hash is
 * keyed with random numbers. Expired entries are found when they are asked for,
 * or pushed out at the cold end like any other.
 */
#include "dnscache.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUCKETS 65536 /* a power of 2 */

/* ---- answers -------------------------------------------------------------- */

struct counted {
    atomic_uint refs; /* 0: a constant */
    size_t bytes;
    struct answer answer; /* its records, and their bytes, follow */
};

static struct counted *counted_of(const struct answer *answer)
{
    return (struct counted *)((uintptr_t)answer - offsetof(struct counted, answer));
}

const struct answer *answer_new(const struct answer *head,
                                const struct answer_record *records, size_t count)
{
    size_t size = sizeof(struct counted) + count * sizeof(*records);

    for (size_t i = 0; i < count; i++)
        size += records[i].len;
    struct counted *counted = malloc(size);
    if (!counted)
        return NULL;
    atomic_init(&counted->refs, 1);
    counted->bytes = size;
    counted->answer = *head;
    counted->answer.count = count;
    unsigned char *data = (unsigned char *)&counted->answer.records[count];
    for (size_t i = 0; i < count; i++) {
        if (records[i].len > 0)
            memcpy(data, records[i].data, records[i].len);
        counted->answer.records[i].data = data;
        counted->answer.records[i].len = records[i].len;
        data += records[i].len;
    }
    return &counted->answer;
}

const struct answer *answer_failed(enum answer_failure failure)
{
#define FAILED(text)                                                                     \
    {                                                                                    \
        .answer = {.kind = ANSWER_FAILED, .trouble = (text), .ttl = 1 }                  \
    }
    static struct counted failed[] = {
        [FAILURE_MEMORY] = FAILED("no memory"),
        [FAILURE_TIME_LIMIT] = FAILED("time limit"),
        [FAILURE_PENDING] = FAILED("too many queries under way"),
        [FAILURE_ENDED] = FAILED("the resolver ends"),
        [FAILURE_LIBRARY] = FAILED("the query could not be asked"),
        [FAILURE_SERVER] = FAILED("server failure"),
        [FAILURE_BOGUS] = FAILED("DNSSEC validation failed"),
        [FAILURE_MALFORMED] = FAILED("malformed answer"),
        [FAILURE_RECORDS] = FAILED("too many records"),
        [FAILURE_SIZE] = FAILED("answer too large"),
    };
#undef FAILED
    return &failed[failure].answer;
}

const struct answer *answer_nxdomain(void)
{
    static struct counted nxdomain = { .answer = { .kind = ANSWER_NXDOMAIN, .ttl = 1 } };

    return &nxdomain.answer;
}

const struct answer *answer_ref(const struct answer *answer)
{
    struct counted *counted = counted_of(answer);

    if (atomic_load_explicit(&counted->refs, memory_order_relaxed) > 0)
        atomic_fetch_add_explicit(&counted->refs, 1, memory_order_relaxed);
    return answer;
}

void answer_drop(const struct answer *answer)
{
    if (!answer)
        return;
    struct counted *counted = counted_of(answer);
    if (atomic_load_explicit(&counted->refs, memory_order_relaxed) == 0)
        return;
    if (atomic_fetch_sub_explicit(&counted->refs, 1, memory_order_acq_rel) == 1)
        free(counted);
}

/* ---- the table ------------------------------------------------------------ */

struct entry {
    struct entry *next; /* of the same chain */
    struct entry *warmer, *colder;
    const struct answer *answer;
    int64_t until_ms; /* INT64_MAX: not in the list of warmth */
    uint64_t hash;
    uint16_t type;
    uint8_t len;
    char name[];
};

struct dnscache {
    struct entry **buckets;
    struct entry *warmest, *coldest;
    size_t count, bytes, entries_max, bytes_max;
    uint64_t secret[2];
};

struct dnscache *dnscache_new(size_t entries_max, size_t bytes_max)
{
    struct dnscache *cache = calloc(1, sizeof(*cache));

    if (!cache)
        return NULL;
    cache->buckets = calloc(BUCKETS, sizeof(struct entry *));
    if (!cache->buckets) {
        free(cache);
        return NULL;
    }
    cache->entries_max = entries_max;
    cache->bytes_max = bytes_max;
    if (getrandom(cache->secret, sizeof(cache->secret), GRND_NONBLOCK) < 0)
        cache->secret[0] = (uint64_t)(uintptr_t)cache;
    cache->secret[1] |= 1;
    return cache;
}

static void entry_free(struct entry *entry)
{
    answer_drop(entry->answer);
    free(entry);
}

void dnscache_free(struct dnscache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct entry *entry = cache->buckets[i], *next; entry; entry = next) {
            next = entry->next;
            entry_free(entry);
        }
    }
    free(cache->buckets);
    free(cache);
}

/* Eight bytes at a time, each folded in by a multiplication to 128 bits. */
static uint64_t hash_of(const uint64_t secret[2], const char *name, size_t len,
                        enum rr_type type)
{
    uint64_t hash = secret[0] ^ (uint64_t)type << 16 ^ len;

    for (size_t at = 0; at < len; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        size_t n = len - at < sizeof(word) ? len - at : sizeof(word);
        memcpy(&word, name + at, n);
        unsigned __int128 product = (unsigned __int128)(hash ^ word) * secret[1];
        hash = (uint64_t)product ^ (uint64_t)(product >> 64) ^ secret[0];
    }
    return hash ^ hash >> 32;
}

bool dnscache_key(const struct dnscache *cache, const char *name, enum rr_type type,
                  struct dnskey *key)
{
    size_t len = 0, label = 0;

    for (; name[len] != '\0'; len++) {
        char c = name[len];
        if (c == '.') {
            if (label == 0)
                return false;
            if (name[len + 1] == '\0')
                break;
            label = 0;
        } else if (++label > 63) {
            return false;
        }
        if (len >= DNSKEY_NAME_MAX)
            return false;
        key->name[len] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    if (len == 0)
        return false;
    key->name[len] = '\0';
    key->len = (uint8_t)len;
    key->type = (uint16_t)type;
    key->hash = hash_of(cache->secret, key->name, len, type);
    return true;
}

static void unlink_warmth(struct dnscache *cache, struct entry *entry)
{
    if (entry->until_ms == INT64_MAX)
        return;
    *(entry->warmer ? &entry->warmer->colder : &cache->warmest) = entry->colder;
    *(entry->colder ? &entry->colder->warmer : &cache->coldest) = entry->warmer;
}

static void link_warmth(struct dnscache *cache, struct entry *entry)
{
    if (entry->until_ms == INT64_MAX)
        return;
    entry->warmer = NULL;
    entry->colder = cache->warmest;
    *(cache->warmest ? &cache->warmest->warmer : &cache->coldest) = entry;
    cache->warmest = entry;
}

static struct entry **slot_of(struct dnscache *cache, const struct dnskey *key)
{
    struct entry **slot = &cache->buckets[key->hash & (BUCKETS - 1)];

    while (*slot &&
           ((*slot)->hash != key->hash || (*slot)->type != key->type ||
            (*slot)->len != key->len || memcmp((*slot)->name, key->name, key->len) != 0))
        slot = &(*slot)->next;
    return slot;
}

static size_t bytes_of(size_t name_len, const struct answer *answer)
{
    return sizeof(struct entry) + name_len + counted_of(answer)->bytes;
}

static void take_out(struct dnscache *cache, struct entry **slot)
{
    struct entry *entry = *slot;

    *slot = entry->next;
    unlink_warmth(cache, entry);
    cache->count--;
    cache->bytes -= bytes_of(entry->len, entry->answer);
    entry_free(entry);
}

const struct answer *dnscache_get(struct dnscache *cache, const struct dnskey *key,
                                  int64_t now_ms)
{
    struct entry **slot = slot_of(cache, key);
    struct entry *entry = *slot;

    if (!entry)
        return NULL;
    if (now_ms >= entry->until_ms) {
        take_out(cache, slot);
        return NULL;
    }
    if (cache->warmest != entry) {
        unlink_warmth(cache, entry);
        link_warmth(cache, entry);
    }
    return answer_ref(entry->answer);
}

/* The entry that holds this very entry's place in its chain. */
static void push_out_coldest(struct dnscache *cache)
{
    struct entry **slot = &cache->buckets[cache->coldest->hash & (BUCKETS - 1)];

    while (*slot != cache->coldest)
        slot = &(*slot)->next;
    take_out(cache, slot);
}

bool dnscache_put(struct dnscache *cache, const struct dnskey *key,
                  const struct answer *answer, int64_t until_ms)
{
    size_t bytes = bytes_of(key->len, answer);
    struct entry **slot = slot_of(cache, key);

    if (*slot)
        take_out(cache, slot);
    struct entry *entry =
        bytes > cache->bytes_max ? NULL : malloc(sizeof(*entry) + key->len);
    if (!entry)
        return false;
    entry->answer = answer_ref(answer);
    entry->until_ms = until_ms;
    entry->hash = key->hash;
    entry->type = key->type;
    entry->len = key->len;
    memcpy(entry->name, key->name, key->len);
    while (cache->coldest && (cache->count >= cache->entries_max ||
                              cache->bytes + bytes > cache->bytes_max))
        push_out_coldest(cache);
    struct entry **bucket = &cache->buckets[key->hash & (BUCKETS - 1)];
    entry->next = *bucket;
    *bucket = entry;
    link_warmth(cache, entry);
    cache->count++;
    cache->bytes += bytes;
    return true;
}

size_t dnscache_count(const struct dnscache *cache)
{
    return cache->count;
}

size_t dnscache_bytes(const struct dnscache *cache)
{
    return cache->bytes;
}
