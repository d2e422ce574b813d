/*
 * ping_row: the codec of ping_row.h. Times are decimal numbers of milliseconds, "-"
 * where there is none.
 */
#include "ping_row.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATES 4 /* of Nagios: ok, warning, critical, unknown */

bool ping_row_field(const struct ping_row *row, char out[PING_FIELD_MAX + 1])
{
    int len = snprintf(out, PING_FIELD_MAX + 1, "%s %s", row->host, row->path);

    return row->host[0] && row->path[0] && !strchr(row->host, ' ') && len > 0 &&
           len <= PING_FIELD_MAX;
}

static void time_word(int64_t ms, char out[24])
{
    if (ms < 0 || snprintf(out, 24, "%" PRId64, ms) < 0)
        memcpy(out, "-", 2);
}

void ping_row_value(const struct ping_row *row, char out[PING_VALUE_MAX + 1])
{
    char connected[24], accepted[24], arrived[24];

    time_word(row->connected_ms, connected);
    time_word(row->accepted_ms, accepted);
    time_word(row->arrived_ms, arrived);
    if (snprintf(out, PING_VALUE_MAX + 1, "%" PRId64 " %d %s %s %s %.*s", row->when,
                 row->state, connected, accepted, arrived, PING_TEXT_MAX, row->text) < 0)
        out[0] = '\0';
    for (; *out; out++)
        if ((unsigned char)*out < 0x20 || (unsigned char)*out > 0x7e)
            *out = '?';
}

bool ping_row_forgotten(const struct ping_row *row, const struct conf *conf, int64_t now)
{
    if (now - row->when > PING_FORGET_S)
        return true;
    if (now - row->when <= PING_UNNAMED_S || strcmp(row->host, conf->hostname) != 0)
        return false;
    for (size_t i = 0; i < conf->ping_count; i++)
        if (strcmp(conf->pings[i].name, row->path) == 0)
            return false;
    return true;
}

/* The next word of *at as a number; "-" is -1. */
static bool take_time(char **at, int64_t *out)
{
    char *end;

    if ((*at)[0] == '-' && (*at)[1] == ' ') {
        *out = -1;
        *at += 2;
        return true;
    }
    if ((*at)[0] < '0' || (*at)[0] > '9')
        return false;
    errno = 0;
    long long number = strtoll(*at, &end, 10);
    if (errno || *end != ' ')
        return false;
    *out = number;
    *at = end + 1;
    return true;
}

bool ping_row_decode(char *field, char *value, struct ping_row *row)
{
    int64_t state;
    char *blank = strchr(field, ' ');

    if (!blank || blank == field || !blank[1])
        return false;
    *blank = '\0';
    row->host = field;
    row->path = blank + 1;
    if (!take_time(&value, &row->when) || row->when < 0 || !take_time(&value, &state) ||
        state < 0 || state >= STATES || !take_time(&value, &row->connected_ms) ||
        !take_time(&value, &row->accepted_ms) || !take_time(&value, &row->arrived_ms))
        return false;
    row->state = (int)state;
    row->text = value;
    return true;
}
