/*
 * ping_letter: the probe's message (RFC 5322), and how it is known again.
 *
 * Auto-Submitted (RFC 3834) keeps vacation replies away, X-Auto-Response-Suppress
 * those of Exchange. The From header names the envelope's sender, so that DMARC is
 * judged by what SPF was asked about; a null sender has this host's postmaster there.
 */
#include "ping.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

bool ping_is_mark(const char *message_id, size_t len)
{
    static const char head[] = PING_ID_HEAD;
    size_t head_len = sizeof(head) - 1;

    if (len > 0 && message_id[0] == '<') {
        message_id++;
        len--;
    }
    if (len < head_len + PING_ID_LEN + 2 || memcmp(message_id, head, head_len) != 0)
        return false;
    for (size_t i = 0; i < PING_ID_LEN; i++)
        if (!message_id[head_len + i] || !strchr(alphabet, message_id[head_len + i]))
            return false;
    return message_id[head_len + PING_ID_LEN] == '@';
}

/* 5 bits a character; the last one has 3. */
bool ping_new_id(char out[PING_ID_LEN + 1])
{
    unsigned char random[PING_ID_LEN];

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return false;
    for (size_t i = 0; i < PING_ID_LEN; i++)
        out[i] = alphabet[random[i] & 31];
    out[PING_ID_LEN] = '\0';
    return true;
}

/* RFC 5322 3.3, in UTC, whatever the locale. */
static bool date_text(int64_t now, char *out, size_t size)
{
    static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    time_t when = (time_t)now;
    struct tm tm;

    if (!gmtime_r(&when, &tm))
        return false;
    int len = snprintf(out, size, "%s, %d %s %d %02d:%02d:%02d +0000", days[tm.tm_wday],
                       tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
                       tm.tm_min, tm.tm_sec);
    return len > 0 && (size_t)len < size;
}

char *ping_letter(const struct conf_ping *ping, const char *hostname, const char *id,
                  int64_t now)
{
    char date[64], *text = NULL;
    bool null = ping->from[0] == '\0';

    if (!date_text(now, date, sizeof(date)))
        return NULL;
    int len = asprintf(
        &text,
        "From: <%s%s>\r\nTo: <%s>\r\nSubject: sluice ping: %s\r\nDate: %s\r\n"
        "Message-ID: <" PING_ID_HEAD "%s@%s>\r\n" PING_HEADER ": %s %" PRId64 " %s\r\n"
        "Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
        "This is a probe of \"sluice ping\" on %s.\r\n"
        "It is removed when it has been found; one that is left may be deleted.\r\n",
        null ? "postmaster@" : ping->from, null ? hostname : "", ping->to, ping->name,
        date, id, hostname, id, now, ping->name, hostname);
    return len < 0 ? NULL : text;
}

bool ping_read_header(const char *value, char id[PING_ID_LEN + 1], int64_t *sent,
                      const char **path)
{
    char *end;

    if (strspn(value, alphabet) != PING_ID_LEN || value[PING_ID_LEN] != ' ' ||
        !isdigit((unsigned char)value[PING_ID_LEN + 1]))
        return false;
    memcpy(id, value, PING_ID_LEN);
    id[PING_ID_LEN] = '\0';
    long long seconds = strtoll(value + PING_ID_LEN + 1, &end, 10);
    if (*end != ' ' || !end[1] || seconds <= 0)
        return false;
    *sent = seconds;
    *path = end + 1;
    return true;
}
