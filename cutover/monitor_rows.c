/*
 * monitor_rows: the rows that monitor_count fills: one for each mailbox, for each
 * sending host, for each hour.
 */
#include <stdlib.h>

#include "monitor_count.h"
#include "table.h"

#define KEY_MAX (3 * (LOG_FLOW_TEXT_MAX + 1))

static const struct monitor_tally no_tally = {
    { 0, 0 }, LOG_NO_TIME, LOG_NO_TIME, LOG_NO_TIME
};

bool monitor_put(struct monitor *monitor, char **place, const char *text)
{
    if (*place && strcmp(*place, text) == 0)
        return true;
    char *copy = strdup(text);
    if (!copy) {
        monitor->no_memory = true;
        return false;
    }
    free(*place);
    *place = copy;
    return true;
}

/* SIZE_MAX: none. */
static size_t find(const struct table *index, const char *key, size_t len)
{
    size_t at, value_len;
    const char *value = table_get(index, key, len, &value_len);
    if (!value || value_len != sizeof(at))
        return SIZE_MAX;
    memcpy(&at, value, sizeof(at));
    return at;
}

/* Room for one more row, which is at *rows[count], and its key. */
static bool make_room(struct monitor *monitor, void **rows, size_t *size, size_t count,
                      size_t row_size)
{
    if (count >= MONITOR_ROWS_MAX) {
        monitor->totals.rows_left++;
        return false;
    }
    if (count == *size) {
        size_t more = *size ? *size * 2 : 16;
        void *grown = realloc(*rows, more * row_size);
        if (!grown) {
            monitor->no_memory = true;
            return false;
        }
        *rows = grown;
        *size = more;
    }
    return true;
}

static bool put_index(struct monitor *monitor, struct table *index, const char *key,
                      size_t len, size_t at)
{
    char value[sizeof(at)];
    memcpy(value, &at, sizeof(at));
    if (table_put(index, key, len, value, sizeof(value)))
        return true;
    monitor->no_memory = true;
    return false;
}

struct monitor_mailbox *monitor_mailbox(struct monitor *monitor, const char *address)
{
    void *rows = monitor->mailboxes;
    size_t len = strlen(address), at = find(monitor->mailbox_index, address, len);
    if (at != SIZE_MAX)
        return &monitor->mailboxes[at];
    bool room = make_room(monitor, &rows, &monitor->mailbox_size, monitor->mailbox_count,
                          sizeof(monitor->mailboxes[0]));
    monitor->mailboxes = rows;
    if (!room)
        return NULL;
    struct monitor_mailbox *row = &monitor->mailboxes[monitor->mailbox_count];
    *row = (struct monitor_mailbox){ .tally = no_tally };
    if (!monitor_put(monitor, &row->address, address) ||
        !monitor_put(monitor, &row->from, "") ||
        !put_index(monitor, monitor->mailbox_index, address, len,
                   monitor->mailbox_count)) {
        free(row->address);
        free(row->from);
        return NULL;
    }
    monitor->mailbox_count++;
    return row;
}

static void free_sender(struct monitor_sender *row)
{
    char *texts[] = { row->client, row->user, row->origin, row->name,
                      row->helo,   row->from, row->mailbox };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        free(texts[i]);
}

struct monitor_sender *monitor_sender(struct monitor *monitor, const char *client,
                                      const char *user, const char *origin)
{
    char key[KEY_MAX];
    void *rows = monitor->senders;
    int len = snprintf(key, sizeof(key), "%s\n%s\n%s", client, user, origin);
    if (len < 0 || (size_t)len >= sizeof(key))
        return NULL; /* no text of log_flow's is that long */
    size_t at = find(monitor->sender_index, key, (size_t)len);
    if (at != SIZE_MAX)
        return &monitor->senders[at];
    bool room = make_room(monitor, &rows, &monitor->sender_size, monitor->sender_count,
                          sizeof(monitor->senders[0]));
    monitor->senders = rows;
    if (!room)
        return NULL;
    struct monitor_sender *row = &monitor->senders[monitor->sender_count];
    *row = (struct monitor_sender){ .tally = no_tally };
    if (!monitor_put(monitor, &row->client, client) ||
        !monitor_put(monitor, &row->user, user) ||
        !monitor_put(monitor, &row->origin, origin) ||
        !monitor_put(monitor, &row->name, "") || !monitor_put(monitor, &row->helo, "") ||
        !monitor_put(monitor, &row->from, "") ||
        !monitor_put(monitor, &row->mailbox, "") ||
        !put_index(monitor, monitor->sender_index, key, (size_t)len,
                   monitor->sender_count)) {
        free_sender(row);
        return NULL;
    }
    monitor->sender_count++;
    return row;
}

/* Hours come nearly in order; what is older than all that are kept is left out. */
void monitor_add_hour(struct monitor *monitor, int64_t hour, uint64_t all,
                      uint64_t failed)
{
    size_t at = monitor->hour_count;
    while (at > 0 && monitor->hours[at - 1].hour >= hour)
        at--;
    if (at < monitor->hour_count && monitor->hours[at].hour == hour) {
        monitor->hours[at].count[MONITOR_ALL] += all;
        monitor->hours[at].count[MONITOR_FAILED] += failed;
        return;
    }
    if (monitor->hour_count == MONITOR_HOURS) {
        if (at == 0)
            return;
        at--;
        monitor->hour_count--;
        memmove(monitor->hours, monitor->hours + 1,
                monitor->hour_count * sizeof(monitor->hours[0]));
    }
    memmove(monitor->hours + at + 1, monitor->hours + at,
            (monitor->hour_count - at) * sizeof(monitor->hours[0]));
    monitor->hours[at] = (struct monitor_hour){ hour, { all, failed } };
    monitor->hour_count++;
}

void monitor_rows_free(struct monitor *monitor)
{
    for (size_t i = 0; i < monitor->mailbox_count; i++) {
        free(monitor->mailboxes[i].address);
        free(monitor->mailboxes[i].from);
    }
    for (size_t i = 0; i < monitor->sender_count; i++)
        free_sender(&monitor->senders[i]);
    free(monitor->mailboxes);
    free(monitor->senders);
    if (monitor->mailbox_index)
        table_free(monitor->mailbox_index);
    if (monitor->sender_index)
        table_free(monitor->sender_index);
}
