/*
 * auth_row: the codec of the figures that "sluice auth report" shows. The letters
 * are stored in Redis: they stay, whatever happens to enum auth_result.
 */
#include "config.h"

#include "auth_row.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char letters[AUTH_RESULTS] = {
    [AUTH_NONE] = 'n',      [AUTH_PASS] = 'p',      [AUTH_FAIL] = 'f',
    [AUTH_SOFTFAIL] = 's',  [AUTH_NEUTRAL] = 'u',   [AUTH_POLICY] = 'o',
    [AUTH_TEMPERROR] = 't', [AUTH_PERMERROR] = 'e',
};

/* At most max characters of in, and a NUL. */
static size_t clean(const char *in, char *out, size_t max)
{
    size_t n = 0;
    for (; in[n] && n < max; n++)
        out[n] = in[n] > ' ' && in[n] < 0x7f ? in[n] : '?';
    if (in[n] && n >= 3)
        memcpy(out + n - 3, "...", 3);
    out[n] = '\0';
    return n;
}

void auth_row_helo(const char *helo, char out[AUTH_HELO_MAX + 1])
{
    (void)clean(helo, out, AUTH_HELO_MAX);
}

void auth_row_field(const struct auth_row *row, char out[AUTH_FIELD_MAX + 1])
{
    size_t n = clean(row->client, out, NETADDR_TEXT_MAX);
    out[n++] = ' ';
    (void)clean(row->envelope, out + n, ADDR_DOMAIN_MAX);
}

static size_t put_counts(char *out, size_t size, char kind,
                         const uint64_t counts[AUTH_RESULTS])
{
    size_t used = 0;
    for (size_t i = 0; i < AUTH_RESULTS; i++) {
        if (counts[i] == 0)
            continue;
        int n = snprintf(out + used, size - used, "%c%c%" PRIu64, kind, letters[i],
                         counts[i]);
        used += n > 0 ? (size_t)n : 0; /* AUTH_COUNTS_MAX has room for all */
    }
    return used;
}

void auth_row_counts(const struct auth_row *row, char out[AUTH_COUNTS_MAX + 1])
{
    const size_t size = AUTH_COUNTS_MAX + 1;
    size_t used = put_counts(out, size, 's', row->spf);
    used += put_counts(out + used, size - used, 'd', row->dkim);
    used += put_counts(out + used, size - used, 'm', row->dmarc);
    if (used == 0)
        memcpy(out, "-", 2);
}

void auth_row_value(const struct auth_row *row, char out[AUTH_VALUE_MAX + 1])
{
    char counts[AUTH_COUNTS_MAX + 1], helo[AUTH_HELO_MAX + 1];
    auth_row_counts(row, counts);
    auth_row_helo(row->helo, helo);
    int n = snprintf(out, AUTH_VALUE_MAX + 1,
                     "%" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %s %s",
                     row->messages, row->would_fail, row->first, row->last, counts, helo);
    if (n < 0 || n > AUTH_VALUE_MAX)
        out[0] = '\0'; /* cannot be: AUTH_VALUE_MAX has room for all */
}

static uint64_t *counts_of(struct auth_row *row, char kind)
{
    switch (kind) {
    case 's':
        return row->spf;
    case 'd':
        return row->dkim;
    case 'm':
        return row->dmarc;
    default:
        return NULL;
    }
}

static bool decode_counts(const char *text, struct auth_row *out)
{
    if (strcmp(text, "-") == 0)
        return true;
    while (*text) {
        if (!text[1] || text[2] < '0' || text[2] > '9')
            return false;
        uint64_t *counts = counts_of(out, text[0]);
        const char *letter = memchr(letters, text[1], sizeof(letters));
        char *end;
        uint64_t count = strtoull(text + 2, &end, 10);
        if (counts && letter)
            counts[letter - letters] += count;
        text = end;
    }
    return true;
}

bool auth_row_decode(char *field, char *value, struct auth_row *out)
{
    char *envelope = strchr(field, ' ');
    int counts = 0;
    *out = (struct auth_row){ .client = field };
    if (!envelope)
        return false;
    *envelope++ = '\0';
    out->envelope = envelope;
    if (sscanf(value, "%" SCNu64 " %" SCNu64 " %" SCNd64 " %" SCNd64 " %n",
               &out->messages, &out->would_fail, &out->first, &out->last, &counts) != 4)
        return false;
    char *helo = counts > 0 ? strchr(value + counts, ' ') : NULL;
    if (!helo)
        return false;
    *helo++ = '\0';
    out->helo = helo;
    return decode_counts(value + counts, out);
}

void auth_row_add(struct auth_row *to, const struct auth_row *from)
{
    if (to->messages == 0 || from->first < to->first)
        to->first = from->first;
    if (to->messages == 0 || from->last > to->last)
        to->last = from->last;
    to->messages += from->messages;
    to->would_fail += from->would_fail;
    for (size_t i = 0; i < AUTH_RESULTS; i++) {
        to->spf[i] += from->spf[i];
        to->dkim[i] += from->dkim[i];
        to->dmarc[i] += from->dmarc[i];
    }
}
