/*
 * What an IMAP server says, and the rows of sluice ping in Redis: every piece stays
 * within its buffer, and what is quoted or written down comes back as it was.
 *
 * Sources: cutover/imapline.c cutover/ping_letter.c lib/ping_row.c
 */
#include "../../cutover/imapline.h"
#include "../../cutover/ping.h"
#include "../../lib/ping_row.h"
#include "fuzz.h"

/* A folder's name, quoted for a command, is the same to a server's parser. */
static void check_folder(const char *line, const char *literal)
{
    char name[64], quoted[160], answer[200], again[64];

    if (!imapline_folder(line, literal, name, sizeof(name)))
        return;
    HOLDS(name[0] && strlen(name) < sizeof(name));
    if (!imapline_quote(name, quoted, sizeof(quoted)))
        return;
    snprintf(answer, sizeof(answer), " () \".\" %s", quoted);
    HOLDS(imapline_folder(answer, "", again, sizeof(again)));
    HOLDS(strcmp(name, again) == 0);
}

static void check_line(const char *line, const char *literal)
{
    static const char *const words[] = { "SEARCH", "FETCH", "EXISTS", "LIST", "OK" };
    uint64_t number;
    uint32_t uids[4];
    const char *text;
    enum imap_end end;

    if (imapline_end(line, "s1", &end, &text))
        HOLDS(text >= line && text <= line + strlen(line));
    if (imapline_literal(line, &number))
        HOLDS(line[strlen(line) - 1] == '}');
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        text = imapline_untagged(line, words[i], &number);
        if (!text)
            continue;
        HOLDS(text >= line && text <= line + strlen(line));
        size_t count = imapline_numbers(text, uids, 4);
        for (size_t k = 0; k < count && k < 4; k++)
            HOLDS(uids[k] > 0);
        uint32_t first = 0, last = 0;
        imapline_range(text, &first, &last);
        HOLDS(first <= last && (first > 0) == (count > 0));
        for (size_t k = 0; k < count && k < 4; k++)
            HOLDS(uids[k] >= first && uids[k] <= last);
        int64_t when = 0;
        if (imapline_time(text, "INTERNALDATE", &when)) /* 1900 to 9999, and a day */
            HOLDS(when > -2209075200 && when < 253402387200);
        (void)imapline_item(text, "UID", &number);
        check_folder(text, literal);
    }
}

static void check_header(const char *header)
{
    char value[40], id[PING_ID_LEN + 1];
    const char *path;
    int64_t sent;

    imapline_field(header, "X", value, sizeof(value));
    HOLDS(strlen(value) < sizeof(value) && !strpbrk(value, "\r\n"));
    if (ping_read_header(header, id, &sent, &path))
        HOLDS(sent > 0 && path[0] && strlen(id) == PING_ID_LEN);
    (void)ping_is_mark(header, strlen(header));
}

static void check_row(char *field, char *value)
{
    struct ping_row row, again;
    char written[PING_VALUE_MAX + 1], name[PING_FIELD_MAX + 1];

    if (!ping_row_decode(field, value, &row))
        return;
    ping_row_value(&row, written);
    if (!ping_row_field(&row, name))
        return;
    HOLDS(ping_row_decode(name, written, &again));
    HOLDS(strcmp(again.path, row.path) == 0 && again.when == row.when &&
          again.state == row.state && again.arrived_ms == row.arrived_ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    char line[2048], rest[2048];

    take_text(&input, line, sizeof(line));
    take_text(&input, rest, sizeof(rest));
    char *exact = exact_copy(line, strlen(line) + 1);
    check_line(exact, rest);
    check_header(exact);
    check_row(exact, rest);
    free(exact);
    return 0;
}
