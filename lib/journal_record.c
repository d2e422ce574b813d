/*
 * journal_record: the text of one record.
 *
 *     event <epoch> <id> <prev> <op> <letter> <time> <domain or -> <bytes>\n
 *     <body, bytes long>
 *     end <epoch, 16 hex digits> <id> <crc32, 8 hex digits>\n
 *
 * epoch, time and bytes are decimal, without leading zeros. The crc32 (that of
 * zlib) covers the header line and the body; epoch and id of the end line must
 * be those of the header. So every bit of a record is checked, and the last
 * line of a file names the position that the file has reached.
 *
 * A body is a sequence of bytes: it may hold what looks like a header or an end
 * line, and is told from them by the length in the header and the checksum.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "journal_record.h"

/* ---- crc32 (IEEE 802.3, as zlib's) ------------------------------------- */

static uint32_t crc_table[256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_fill(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
        crc_table[i] = crc;
    }
}

static uint32_t crc32_add(uint32_t crc, const char *data, size_t len)
{
    pthread_once(&crc_once, crc_fill);
    crc = ~crc;
    for (size_t i = 0; i < len; i++)
        crc = crc >> 8 ^ crc_table[(crc ^ (unsigned char)data[i]) & 255];
    return ~crc;
}

/* ---- reading ----------------------------------------------------------- */

static bool is_id(const char *text)
{
    return strlen(text) == EVENT_ID_LEN &&
           strspn(text, "0123456789abcdef") == EVENT_ID_LEN;
}

static bool is_prev(const char *text)
{
    return strcmp(text, "-") == 0 || is_id(text);
}

static bool is_printable(char c)
{
    return c > ' ' && c < 0x7f;
}

static bool parse_decimal(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    if (!*text || (text[0] == '0' && text[1]))
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        unsigned digit = (unsigned)(*text - '0');
        if (value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

static bool copy_field(char *out, size_t size, const char *text)
{
    size_t len = strlen(text);

    if (len >= size)
        return false;
    memcpy(out, text, len + 1);
    return true;
}

/* Cuts a line of len bytes into exactly n fields at single spaces, in place. */
static bool split_fields(char *line, char *fields[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        fields[i] = line;
        char *space = strchr(line, ' ');
        if ((space == NULL) != (i == n - 1) || *line == '\0' || space == line)
            return false;
        if (space) {
            *space = '\0';
            line = space + 1;
        }
    }
    return true;
}

/* Reads the header line (without LF) into event; body stays unset. */
static bool parse_header(const char *text, size_t len, struct event *event)
{
    char line[JOURNAL_HEADER_MAX];
    char *f[9];
    uint64_t time, bytes;

    if (len >= sizeof(line) || memchr(text, '\0', len))
        return false;
    memcpy(line, text, len);
    line[len] = '\0';
    if (!split_fields(line, f, 9) || strcmp(f[0], "event") != 0)
        return false;
    if (!parse_decimal(f[1], UINT64_MAX, &event->at.epoch) || event->at.epoch == 0 ||
        !is_id(f[2]) || !is_prev(f[3]) || !event_op_parse(f[4], &event->op) ||
        strlen(f[5]) != 1 || !is_printable(f[5][0]) ||
        !parse_decimal(f[6], INT64_MAX, &time) ||
        !parse_decimal(f[8], JOURNAL_BODY_MAX, &bytes))
        return false;
    event->letter = f[5][0];
    event->time = (int64_t)time;
    event->body = NULL;
    event->body_len = (size_t)bytes;
    return copy_field(event->at.id, sizeof(event->at.id), f[2]) &&
           copy_field(event->prev, sizeof(event->prev), f[3]) &&
           copy_field(event->domain, sizeof(event->domain),
                      strcmp(f[7], "-") == 0 ? "" : f[7]);
}

static int format_header(const struct event *event, char *out, size_t size)
{
    return snprintf(out, size, "event %" PRIu64 " %s %s %s %c %" PRId64 " %s %zu\n",
                    event->at.epoch, event->at.id, event->prev, event_op_name(event->op),
                    event->letter, event->time, event->domain[0] ? event->domain : "-",
                    event->body_len);
}

static int format_end(const struct position *at, uint32_t crc, char *out, size_t size)
{
    return snprintf(out, size, "end %016" PRIx64 " %s %08" PRIx32 "\n", at->epoch, at->id,
                    crc);
}

enum parsed journal_record_parse(const char *buf, size_t len, struct event *event,
                                 size_t *used)
{
    char end[JOURNAL_END_LEN + 1];
    const char *lf =
        memchr(buf, '\n', len < JOURNAL_HEADER_MAX ? len : JOURNAL_HEADER_MAX);

    if (!lf)
        return len < JOURNAL_HEADER_MAX ? PARSED_CUT : PARSED_BAD;
    if (!parse_header(buf, (size_t)(lf - buf), event))
        return PARSED_BAD;
    size_t covered = (size_t)(lf - buf) + 1 + event->body_len;
    if (len < covered + JOURNAL_END_LEN)
        return PARSED_CUT;
    int n = format_end(&event->at, crc32_add(0, buf, covered), end, sizeof(end));
    if (n != JOURNAL_END_LEN || memcmp(buf + covered, end, JOURNAL_END_LEN) != 0)
        return PARSED_BAD;
    event->body = lf + 1;
    *used = covered + JOURNAL_END_LEN;
    return PARSED_RECORD;
}

bool journal_record_follows(const struct event *event, const struct position *last)
{
    if (event->op == EVENT_BASE)
        return last->epoch == 0 ||
               (event->at.epoch == last->epoch && strcmp(event->at.id, last->id) == 0);
    return event->at.epoch == last->epoch + 1 &&
           strcmp(event->prev, last->epoch ? last->id : "-") == 0;
}

/* Whether a record ends exactly at buf + end. */
static bool record_ends_at(const char *buf, size_t end, struct position *out)
{
    struct event event;
    size_t used;

    if (end < JOURNAL_END_LEN || memcmp(buf + end - JOURNAL_END_LEN, "end ", 4) != 0)
        return false;
    for (size_t at = end - JOURNAL_END_LEN; at-- > 0;) {
        if (memcmp(buf + at, JOURNAL_START, (sizeof(JOURNAL_START) - 1)) != 0)
            continue;
        if (journal_record_parse(buf + at, end - at, &event, &used) == PARSED_RECORD &&
            used == end - at) {
            *out = event.at;
            return true;
        }
    }
    return false;
}

bool journal_record_last(const char *buf, size_t len, struct position *out, bool *clean)
{
    *clean = true;
    for (size_t end = len; end >= JOURNAL_END_LEN; end--) {
        if (buf[end - 1] == '\n' && record_ends_at(buf, end, out))
            return true;
        *clean = false;
    }
    return false;
}

/* ---- writing ----------------------------------------------------------- */

static bool is_writable(const struct event *event)
{
    if (event->at.epoch == 0 || !is_id(event->at.id) || !is_prev(event->prev) ||
        !is_printable(event->letter) || event->time < 0)
        return false;
    for (const char *c = event->domain; *c; c++)
        if (!is_printable(*c))
            return false;
    return strcmp(event->domain, "-") != 0;
}

bool journal_record_format(const struct event *event, char header[JOURNAL_HEADER_MAX],
                           size_t *header_len, char end[JOURNAL_END_LEN + 1])
{
    if (event->body_len > JOURNAL_BODY_MAX || !is_writable(event))
        return false;
    int len = format_header(event, header, JOURNAL_HEADER_MAX);
    if (len < 0 || len >= JOURNAL_HEADER_MAX)
        return false;
    *header_len = (size_t)len;
    uint32_t crc = crc32_add(0, header, *header_len);
    crc = crc32_add(crc, event->body, event->body_len);
    return format_end(&event->at, crc, end, JOURNAL_END_LEN + 1) == JOURNAL_END_LEN;
}
