/*
 * tally: figures of the last seconds, waiting for the store.
 *
 * One row for each domain, sending host and envelope domain, in a hash table under
 * a mutex that is held for a few microseconds. A flush takes the whole table out
 * first and then talks to Redis without the mutex. Rows that the store did not take
 * are put back and wait RETRY_MS, so that a Redis that is down for long costs
 * nothing but what it missed.
 *
 * Limits: TALLY_ROWS_MAX rows, then each further message counts in the row "*" of
 * its domain (one for each managed domain at the most); texts as auth_row.h cuts
 * them. Without memory a message is not counted.
 */
#include "config.h"

#include "tally.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth_row.h"
#include "log.h"
#include "table.h"

#define RETRY_MS 10000
/* "<domain> <client> <envelope>" */
#define KEY_MAX (ADDR_DOMAIN_MAX + 1 + AUTH_FIELD_MAX)

struct tally {
    pthread_mutex_t mutex;
    struct table *rows; /* key -> struct entry */
    int64_t not_before; /* monotonic ms: when to flush again */
    bool failing;       /* the last flush did */
};

/* A value of the table. */
struct entry {
    struct auth_row row; /* its texts are not used */
    char helo[AUTH_HELO_MAX + 1];
};

struct tally *tally_new(void)
{
    struct tally *tally = calloc(1, sizeof(*tally));
    if (!tally)
        return NULL;
    tally->rows = table_new();
    if (tally->rows && pthread_mutex_init(&tally->mutex, NULL) == 0)
        return tally;
    table_free(tally->rows);
    free(tally);
    return NULL;
}

void tally_free(struct tally *tally)
{
    if (!tally)
        return;
    pthread_mutex_destroy(&tally->mutex);
    table_free(tally->rows);
    free(tally);
}

/* ---- counting ------------------------------------------------------------ */

/* The managed domain that name is, or is below; NULL: none. */
static const struct conf_domain *managed_above(const struct conf *conf, const char *name)
{
    const struct conf_domain *domain = NULL;
    while (name && name[0] && !domain) {
        domain = conf_managed(conf, name);
        name = strchr(name, '.');
        name = name ? name + 1 : NULL;
    }
    return domain;
}

/* domain and row's client and envelope are clean. The mutex is held. */
static void add_row(struct tally *tally, const char *domain, const struct auth_row *row)
{
    char key[KEY_MAX + 1], field[AUTH_FIELD_MAX + 1];
    auth_row_field(row, field);
    int len = snprintf(key, sizeof(key), "%s %s", domain, field);
    if (len < 0 || (size_t)len >= sizeof(key))
        return; /* not a domain that addr.h made */
    const char *known = table_get(tally->rows, key, (size_t)len, NULL);
    if (!known && table_count(tally->rows) >= TALLY_ROWS_MAX &&
        strcmp(row->client, "*") != 0) {
        struct auth_row rest = *row;
        rest.client = "*";
        rest.envelope = rest.helo = "";
        add_row(tally, domain, &rest);
        return;
    }
    struct entry entry;
    memset(&entry, 0, sizeof(entry));
    if (known)
        memcpy(&entry, known, sizeof(entry));
    if (row->helo[0] && row->last >= entry.row.last)
        auth_row_helo(row->helo, entry.helo);
    auth_row_add(&entry.row, row);
    char value[sizeof(entry)];
    memcpy(value, &entry, sizeof(entry));
    (void)table_put(tally->rows, key, (size_t)len, value, sizeof(value));
}

void tally_add(struct tally *tally, const struct conf *conf,
               const struct tally_entry *entry, int64_t now)
{
    const struct conf_domain *author = managed_above(conf, entry->from);
    const struct conf_domain *sender = managed_above(conf, entry->envelope);
    char client[NETADDR_TEXT_MAX + 1];
    if (!author && !sender)
        return;
    struct auth_row row = { .client = netaddr_format(entry->client, client),
                            .envelope = entry->envelope,
                            .helo = entry->helo,
                            .messages = 1,
                            .would_fail = entry->would_fail,
                            .first = now,
                            .last = now };
    row.spf[entry->spf] = row.dkim[entry->dkim] = row.dmarc[entry->dmarc] = 1;
    pthread_mutex_lock(&tally->mutex);
    if (sender)
        add_row(tally, sender->name, &row);
    row.would_fail = 0; /* not by this domain's SPF record */
    if (author && author != sender)
        add_row(tally, author->name, &row);
    pthread_mutex_unlock(&tally->mutex);
}

/* ---- flushing ------------------------------------------------------------ */

struct batch {
    struct line {
        char *key; /* cut into the domain, client and envelope */
        struct entry entry;
    } * lines;
    struct auth_row *rows; /* what lines hold, in the same order */
    size_t count;
};

bool tally_due(const struct tally *tally, int64_t now_ms)
{
    /* Only the lock's state changes. */
    pthread_mutex_t *mutex = (pthread_mutex_t *)(uintptr_t)&tally->mutex;
    pthread_mutex_lock(mutex);
    bool due = table_count(tally->rows) > 0 && now_ms >= tally->not_before;
    pthread_mutex_unlock(mutex);
    return due;
}

static int by_domain(const void *a, const void *b)
{
    const struct line *one = a, *other = b;
    return strcmp(one->key, other->key);
}

static void batch_free(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        free(batch->lines[i].key);
    free(batch->lines);
    free(batch->rows);
}

/* The rows of a table, sorted by domain. false: no memory. */
static bool batch_make(const struct table *from, struct batch *batch)
{
    size_t count = table_count(from), cursor = 0, key_len, value_len;
    const char *key, *value;
    *batch = (struct batch){ .lines = calloc(count, sizeof(*batch->lines)),
                             .rows = calloc(count, sizeof(*batch->rows)) };
    bool ok = batch->lines && batch->rows;
    while (ok && table_next(from, &cursor, &key, &key_len, &value, &value_len)) {
        struct line *line = &batch->lines[batch->count];
        memcpy(&line->entry, value, sizeof(line->entry));
        line->key = strdup(key);
        ok = line->key != NULL;
        batch->count += ok;
    }
    for (size_t i = 0; ok && i < batch->count; i++)
        *strchr(batch->lines[i].key, ' ') = '\0'; /* add_row() put it there */
    if (ok)
        qsort(batch->lines, batch->count, sizeof(*batch->lines), by_domain);
    for (size_t i = 0; ok && i < batch->count; i++) {
        struct line *line = &batch->lines[i];
        char *client = line->key + strlen(line->key) + 1;
        char *envelope = strchr(client, ' ');
        *envelope++ = '\0';
        batch->rows[i] = line->entry.row;
        batch->rows[i].client = client;
        batch->rows[i].envelope = envelope;
        batch->rows[i].helo = line->entry.helo;
    }
    if (!ok)
        batch_free(batch);
    return ok;
}

/* How many of the batch's rows the store has taken. */
static size_t store_batch(struct store *store, const struct batch *batch)
{
    size_t at = 0;
    while (at < batch->count) {
        const char *domain = batch->lines[at].key;
        size_t end = at + 1;
        while (end < batch->count && strcmp(batch->lines[end].key, domain) == 0)
            end++;
        if (!store_auth_add(store, domain, batch->rows + at, end - at))
            break;
        at = end;
    }
    return at;
}

/* Takes the rows out; NULL: there are none, or no memory (they stay). */
static struct table *take_rows(struct tally *tally)
{
    struct table *empty = table_new();
    pthread_mutex_lock(&tally->mutex);
    struct table *rows = NULL;
    if (empty && table_count(tally->rows) > 0) {
        rows = tally->rows;
        tally->rows = empty;
        empty = NULL;
    }
    pthread_mutex_unlock(&tally->mutex);
    table_free(empty);
    return rows;
}

void tally_flush(struct tally *tally, struct store *store, int64_t now_ms)
{
    struct table *rows = take_rows(tally);
    struct batch batch;
    if (!rows)
        return;
    bool made = batch_make(rows, &batch); /* without memory the figures are lost */
    table_free(rows);
    if (!made)
        return;
    size_t stored = store_batch(store, &batch);
    bool failed = stored < batch.count;
    pthread_mutex_lock(&tally->mutex);
    for (size_t i = stored; i < batch.count; i++)
        add_row(tally, batch.lines[i].key, &batch.rows[i]);
    tally->not_before = now_ms + (failed ? RETRY_MS : TALLY_HOLD_MS);
    bool first = failed && !tally->failing;
    tally->failing = failed;
    pthread_mutex_unlock(&tally->mutex);
    if (first)
        log_warnx("figures for \"sluice auth report\" wait: %s", store_error(store));
    batch_free(&batch);
}
