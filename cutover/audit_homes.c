/*
 * audit_homes: the history of each mailbox, from the journal (see audit_homes.h).
 *
 * Changes of one mailbox are a list, the newest first, in one array for all: 24 bytes
 * for each change of each mailbox. A mailbox that is not listed follows its domain's
 * own record (local part ""), user+extension follows user.
 */
#include "audit_homes.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "journal.h"
#include "store.h"
#include "table.h"

#define FENCES_MAX 4096 /* confirmations kept of one host; older ones are forgotten */
#define NO_CHANGE  UINT32_MAX

struct past {
    int64_t time; /* unix seconds */
    uint64_t epoch;
    uint32_t before; /* the change before it of the same mailbox */
    char letter;
};

struct confirmation {
    uint64_t change;
    int64_t us;
};

struct known_host {
    char name[HOST_NAME_MAX_LEN + 1];
    enum ledger_side side;
    bool said; /* by the admin */
    struct confirmation *confirmed;
    size_t count;
};

struct audit_homes {
    const struct conf *conf;
    struct table *last; /* mailbox -> index of its newest change */
    struct past *changes;
    size_t count, size;
    struct known_host *hosts;
    size_t host_count;
};

static struct known_host *host_add(struct audit_homes *homes, const char *name)
{
    if (strlen(name) > HOST_NAME_MAX_LEN)
        return NULL;
    for (size_t i = 0; i < homes->host_count; i++)
        if (strcasecmp(homes->hosts[i].name, name) == 0)
            return &homes->hosts[i];
    struct known_host *grown =
        reallocarray(homes->hosts, homes->host_count + 1, sizeof(*grown));
    if (!grown)
        return NULL;
    homes->hosts = grown;
    struct known_host *host = &grown[homes->host_count++];
    *host = (struct known_host){ .side = LEDGER_SIDE_UNKNOWN };
    memcpy(host->name, name, strlen(name) + 1);
    return host;
}

static enum ledger_side ledger_side_of(enum side side)
{
    return side == SIDE_OLD ? LEDGER_SIDE_OLD : LEDGER_SIDE_NEW;
}

struct audit_homes *audit_homes_new(const struct conf *conf)
{
    struct audit_homes *homes = calloc(1, sizeof(*homes));
    if (!homes)
        return NULL;
    homes->conf = conf;
    homes->last = table_new();
    struct known_host *self = homes->last ? host_add(homes, conf->hostname) : NULL;
    if (!self) {
        audit_homes_free(homes);
        return NULL;
    }
    self->side = ledger_side_of(conf->side);
    return homes;
}

void audit_homes_free(struct audit_homes *homes)
{
    if (!homes)
        return;
    for (size_t i = 0; i < homes->host_count; i++)
        free(homes->hosts[i].confirmed);
    free(homes->hosts);
    free(homes->changes);
    table_free(homes->last);
    free(homes);
}

size_t audit_homes_changes(const struct audit_homes *homes)
{
    return homes->count;
}

/* ---- the journal -------------------------------------------------------- */

static uint32_t newest(const struct audit_homes *homes, const char *key, size_t len)
{
    uint32_t index;
    const char *value = table_get(homes->last, key, len, NULL);
    if (!value)
        return NO_CHANGE;
    memcpy(&index, value, sizeof(index));
    return index;
}

static bool add_change(struct audit_homes *homes, const char *key,
                       const struct home *home)
{
    char letter = home_letter(home->state, home->rollback);
    size_t len = strlen(key);
    uint32_t before = newest(homes, key, len), index = (uint32_t)homes->count;
    if (before != NO_CHANGE && homes->changes[before].letter == letter)
        return true; /* a base, an import: nothing new */
    if (homes->count >= NO_CHANGE)
        return false;
    if (homes->count == homes->size) {
        size_t size = homes->size ? homes->size * 2 : 1024;
        struct past *grown = reallocarray(homes->changes, size, sizeof(*grown));
        if (!grown)
            return false;
        homes->changes = grown;
        homes->size = size;
    }
    homes->changes[homes->count++] = (struct past){
        .time = home->since, .epoch = home->epoch, .before = before, .letter = letter
    };
    return table_put(homes->last, key, len, (const char *)&index, sizeof(index));
}

static bool take_host(struct audit_homes *homes, const char *name, size_t name_len,
                      const char *side, size_t side_len)
{
    char text[HOST_NAME_MAX_LEN + 1];
    if (name_len == 0 || name_len > HOST_NAME_MAX_LEN || side_len != 3)
        return true;
    memcpy(text, name, name_len);
    text[name_len] = '\0';
    struct known_host *host = host_add(homes, text);
    if (!host)
        return false;
    if (!host->said)
        host->side = memcmp(side, "old", 3) == 0 ? LEDGER_SIDE_OLD : LEDGER_SIDE_NEW;
    return true;
}

bool audit_homes_event(struct audit_homes *homes, const struct event *event)
{
    const char *local, *record;
    size_t cursor = 0, local_len, record_len;
    bool mailboxes = event->op == EVENT_INIT || event->op == EVENT_IMPORT ||
                     event->op == EVENT_LOCK || event->op == EVENT_FLIP ||
                     event->op == EVENT_UNLOCK || event->op == EVENT_ROLLBACK ||
                     (event->op == EVENT_BASE && event->domain[0]);
    bool hosts =
        event->op == EVENT_HOST || (event->op == EVENT_BASE && !event->domain[0]);
    if (!mailboxes && !hosts)
        return true;
    while (event_next_item(event, &cursor, &local, &local_len, &record, &record_len)) {
        char key[ADDR_LOCAL_MAX + 1 + ADDR_DOMAIN_MAX + 1];
        struct home home = { 0 };
        if (hosts) {
            if (record && !take_host(homes, local, local_len, record, record_len))
                return false;
            continue;
        }
        if (local_len > ADDR_LOCAL_MAX || !event_apply(event, record, record_len, &home))
            continue; /* journal_read() has checked it: not of this version */
        int n =
            snprintf(key, sizeof(key), "%.*s@%s", (int)local_len, local, event->domain);
        if (n > 0 && !add_change(homes, key, &home))
            return false;
    }
    return true;
}

static bool take_event(void *context, const struct event *event)
{
    return audit_homes_event(context, event);
}

bool audit_homes_load(struct audit_homes *homes, const char *path, char *error,
                      size_t error_size)
{
    struct position at;
    struct journal_reader *reader = journal_reader_new(path);
    enum lookup found = reader ? journal_head(reader, &at) : LOOKUP_FAILED;
    journal_reader_free(reader);
    if (found == LOOKUP_ABSENT)
        return true;
    error[0] = '\0';
    if (journal_read(path, take_event, homes, error, error_size))
        return true;
    if (!error[0])
        snprintf(error, error_size, "out of memory");
    return false;
}

/* ---- hosts -------------------------------------------------------------- */

static bool same_first_label(const char *a, const char *b)
{
    size_t len = strcspn(a, ".");
    return len == strcspn(b, ".") && strncasecmp(a, b, len) == 0;
}

/* hosts + count: none, or several of that first label. */
static size_t host_find(const struct audit_homes *homes, const char *name)
{
    size_t found = homes->host_count;
    for (size_t i = 0; i < homes->host_count; i++)
        if (strcasecmp(homes->hosts[i].name, name) == 0)
            return i;
    for (size_t i = 0; i < homes->host_count; i++) {
        if (!same_first_label(homes->hosts[i].name, name))
            continue;
        /* "mx1" and "mx1.example.com", but not "mx1.example.com" and "mx1.example.net" */
        if (strchr(homes->hosts[i].name, '.') && strchr(name, '.'))
            continue;
        if (found < homes->host_count)
            return homes->host_count;
        found = i;
    }
    return found;
}

enum ledger_side audit_homes_side(const struct audit_homes *homes, const char *name)
{
    size_t i = host_find(homes, name);
    return i < homes->host_count ? homes->hosts[i].side : LEDGER_SIDE_UNKNOWN;
}

bool audit_homes_name(struct audit_homes *homes, const char *name, enum ledger_side side)
{
    struct known_host *host = host_add(homes, name);
    if (!host)
        return false;
    host->side = side;
    host->said = true;
    return true;
}

void audit_homes_fence(struct audit_homes *homes, struct log_slice name, uint64_t change,
                       int64_t us)
{
    char text[HOST_NAME_MAX_LEN + 1];
    if (name.len == 0 || name.len > HOST_NAME_MAX_LEN ||
        memchr(name.text, '\0', name.len))
        return;
    memcpy(text, name.text, name.len);
    text[name.len] = '\0';
    size_t i = host_find(homes, text);
    if (i == homes->host_count)
        return;
    struct known_host *host = &homes->hosts[i];
    if (!host->confirmed)
        host->confirmed = calloc(FENCES_MAX, sizeof(*host->confirmed));
    if (!host->confirmed)
        return;
    if (host->count == FENCES_MAX) {
        memmove(host->confirmed, host->confirmed + FENCES_MAX / 2,
                FENCES_MAX / 2 * sizeof(*host->confirmed));
        host->count = FENCES_MAX / 2;
    }
    host->confirmed[host->count++] = (struct confirmation){ change, us };
}

static const struct known_host *host_of(const struct audit_homes *homes, const char *name)
{
    size_t i = host_find(homes, name);
    return i < homes->host_count ? &homes->hosts[i] : NULL;
}

bool audit_homes_has_fence(const struct audit_homes *homes, const char *name)
{
    const struct known_host *host = host_of(homes, name);
    return host && host->count > 0;
}

/* Whether the lock was complete there before from_us. */
static bool was_confirmed(const struct audit_homes *homes, const char *name,
                          uint64_t epoch, int64_t from_us)
{
    const struct known_host *host = host_of(homes, name);
    for (size_t i = 0; host && i < host->count; i++)
        if (host->confirmed[i].change >= epoch)
            return host->confirmed[i].us < from_us;
    return false;
}

/* ---- judging ------------------------------------------------------------ */

/* The newest change of the record that decides about a mailbox. */
static uint32_t history_of(const struct audit_homes *homes, const char *mailbox)
{
    char base[ADDR_LOCAL_MAX + 1], key[ADDR_TEXT_MAX + 1];
    struct addr addr;
    if (addr_parse(mailbox, strlen(mailbox), &addr) != ADDR_OK)
        return NO_CHANGE;
    int n = snprintf(key, sizeof(key), "%s@%s", addr.local, addr.domain);
    uint32_t found = n > 0 ? newest(homes, key, (size_t)n) : NO_CHANGE;
    if (found == NO_CHANGE &&
        addr_base(addr.local, homes->conf->recipient_delimiter, base)) {
        n = snprintf(key, sizeof(key), "%s@%s", base, addr.domain);
        found = n > 0 ? newest(homes, key, (size_t)n) : NO_CHANGE;
    }
    if (found == NO_CHANGE) {
        n = snprintf(key, sizeof(key), "@%s", addr.domain);
        found = n > 0 ? newest(homes, key, (size_t)n) : NO_CHANGE;
    }
    return found;
}

static const struct past *change_at(const struct audit_homes *homes, uint32_t from,
                                    int64_t time)
{
    while (from != NO_CHANGE && homes->changes[from].time > time)
        from = homes->changes[from].before;
    return from == NO_CHANGE ? NULL : &homes->changes[from];
}

static bool lives_here(const struct past *change, enum ledger_side side)
{
    return change->letter == (side == LEDGER_SIDE_OLD ? 'o' : 'n');
}

/* Whether it did at some moment after `then` and up to `now`, of one history. */
static bool lived_here(const struct audit_homes *homes, const struct past *then,
                       const struct past *now, enum ledger_side side)
{
    for (; now != then; now = &homes->changes[now->before])
        if (lives_here(now, side))
            return true;
    return false;
}

enum ledger_judged audit_homes_judge(const struct audit_homes *homes, const char *mailbox,
                                     const char *host, enum ledger_side side,
                                     int64_t from_us, int64_t to_us)
{
    uint32_t newest_change = history_of(homes, mailbox);
    const struct past *then =
        change_at(homes, newest_change, from_us / LEDGER_SECOND - AUDIT_CLOCKS_S);
    const struct past *now =
        change_at(homes, newest_change, to_us / LEDGER_SECOND + AUDIT_CLOCKS_S);
    char locked = side == LEDGER_SIDE_OLD ? 'l' : 'r';
    if (!then || side == LEDGER_SIDE_UNKNOWN)
        return JUDGED_FINE;
    if (then->letter == locked) {
        if (lived_here(homes, then, now, side))
            return JUDGED_FINE; /* unlocked just then */
        return was_confirmed(homes, host, then->epoch, from_us) ? JUDGED_WRONG
                                                                : JUDGED_LOCKING;
    }
    if (lives_here(then, side)) {
        /* Perhaps the lock had been written by then, and completed. */
        const struct past *at = change_at(homes, newest_change, from_us / LEDGER_SECOND);
        if (at->letter != locked)
            return JUDGED_FINE;
        return was_confirmed(homes, host, at->epoch, from_us) ? JUDGED_WRONG
                                                              : JUDGED_LOCKING;
    }
    return lived_here(homes, then, now, side) ? JUDGED_FINE : JUDGED_WRONG;
}
