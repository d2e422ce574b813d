/*
 * home: the codec of home records and events.
 *
 * A record has one spelling: lower-case hexadecimal without leading zeros, the
 * addresses in the order n, c, none of them empty. So home_encode() of what
 * home_decode() read gives the same bytes, and whatever else is found in Redis
 * or in a journal (an older program's, a hand's, a half-written one) is refused
 * instead of guessed at. The Lua scripts write the same spelling ("%x").
 *
 * A line of an event's body that lacks its LF was cut: it is handed out with
 * an empty record, which event_apply() refuses.
 */
#include <stdio.h>
#include <string.h>

#include "home.h"

#define HEX_DIGITS_MAX 16

static const struct {
    char letter;
    enum home_state state;
    bool rollback;
} letters[] = {
    { 'o', HOME_OLD, false },
    { 'l', HOME_LOCKED, false },
    { 'r', HOME_LOCKED, true },
    { 'n', HOME_NEW, false },
};
#define LETTER_COUNT (sizeof(letters) / sizeof(letters[0]))

const char *home_state_name(enum home_state state)
{
    switch (state) {
    case HOME_OLD:
        return "old";
    case HOME_LOCKED:
        return "locked";
    case HOME_NEW:
        return "new";
    }
    return "unknown";
}

char home_letter(enum home_state state, bool rollback)
{
    for (size_t i = 0; i < LETTER_COUNT; i++)
        if (letters[i].state == state && letters[i].rollback == rollback)
            return letters[i].letter;
    return '\0';
}

bool home_from_letter(char letter, enum home_state *state, bool *rollback)
{
    for (size_t i = 0; i < LETTER_COUNT; i++)
        if (letters[i].letter == letter) {
            *state = letters[i].state;
            *rollback = letters[i].rollback;
            return true;
        }
    return false;
}

/* ---- decoding ---------------------------------------------------------- */

struct reader {
    const char *at, *end;
};

static bool take_char(struct reader *r, char c)
{
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static bool take_hex(struct reader *r, uint64_t *out)
{
    const char *start = r->at;

    *out = 0;
    for (; r->at < r->end; r->at++) {
        char c = *r->at;
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            break;
        if (r->at - start == HEX_DIGITS_MAX)
            return false;
        *out = *out << 4 | digit;
    }
    size_t digits = (size_t)(r->at - start);
    return digits > 0 && (digits == 1 || *start != '0');
}

/* <TAB><tag>=<address>, if it is next. false: it is, and is not valid. */
static bool take_address(struct reader *r, char tag, char out[ADDR_TEXT_MAX + 1])
{
    out[0] = '\0';
    if (r->end - r->at < 3 || r->at[0] != '\t' || r->at[1] != tag || r->at[2] != '=')
        return true;
    r->at += 3;
    size_t len = 0;
    bool at_sign = false;
    for (; r->at < r->end && *r->at != '\t'; r->at++) {
        unsigned char c = (unsigned char)*r->at;
        if (len == ADDR_TEXT_MAX || c < 0x20 || c == 0x7f)
            return false;
        if (c == '@' && len > 0)
            at_sign = true;
        out[len++] = (char)c;
    }
    out[len] = '\0';
    return at_sign && out[len - 1] != '@';
}

bool home_decode(const char *text, size_t len, struct home *out)
{
    struct reader r = { text, text + len };
    uint64_t since;

    if (len == 0 || !home_from_letter(*r.at++, &out->state, &out->rollback))
        return false;
    if (!take_hex(&r, &out->epoch) || !take_char(&r, '.') || !take_hex(&r, &since) ||
        since > INT64_MAX)
        return false;
    if (!take_address(&r, 'n', out->new_address) || !take_address(&r, 'c', out->copy))
        return false;
    out->since = (int64_t)since;
    out->listed = true;
    return r.at == r.end;
}

/* ---- encoding ---------------------------------------------------------- */

static size_t put_hex(char *out, uint64_t value)
{
    char digits[HEX_DIGITS_MAX];
    size_t n = 0;

    do {
        digits[n++] = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

static size_t put_address(char *out, char tag, const char *address)
{
    size_t len = strnlen(address, ADDR_TEXT_MAX);

    if (len == 0)
        return 0;
    out[0] = '\t';
    out[1] = tag;
    out[2] = '=';
    memcpy(out + 3, address, len);
    return 3 + len;
}

size_t home_encode(const struct home *home, char out[HOME_RECORD_MAX + 1])
{
    size_t used = 0;

    out[used++] = home_letter(home->state, home->rollback);
    used += put_hex(out + used, home->epoch);
    out[used++] = '.';
    used += put_hex(out + used, home->since > 0 ? (uint64_t)home->since : 0);
    used += put_address(out + used, 'n', home->new_address);
    used += put_address(out + used, 'c', home->copy);
    out[used] = '\0';
    return used;
}

/* ---- histories --------------------------------------------------------- */

enum history history_judge(const struct position *head, uint64_t last, uint64_t floor,
                           const char *id)
{
    if (head->epoch == 0)
        return HISTORY_HOLDS;
    if (last < head->epoch)
        return HISTORY_LOST;
    if (id && strcmp(id, head->id) == 0)
        return HISTORY_HOLDS;
    return head->epoch < floor ? HISTORY_BEHIND : HISTORY_DIVERGED;
}

/* ---- events ------------------------------------------------------------ */

static const char *const op_names[] = {
    [EVENT_INIT] = "init", [EVENT_IMPORT] = "import", [EVENT_LOCK] = "lock",
    [EVENT_FLIP] = "flip", [EVENT_UNLOCK] = "unlock", [EVENT_ROLLBACK] = "rollback",
    [EVENT_HOST] = "host", [EVENT_UNHOST] = "unhost", [EVENT_RECOVER] = "recover",
    [EVENT_PLAYBOOK] = "playbook", [EVENT_BASE] = "base",
};
#define OP_COUNT (sizeof(op_names) / sizeof(op_names[0]))

const char *event_op_name(enum event_op op)
{
    return (size_t)op < OP_COUNT ? op_names[op] : "unknown";
}

bool event_op_parse(const char *name, enum event_op *out)
{
    for (size_t i = 0; i < OP_COUNT; i++)
        if (strcmp(op_names[i], name) == 0) {
            *out = (enum event_op)i;
            return true;
        }
    return false;
}

bool event_next_item(const struct event *event, size_t *cursor, const char **local,
                     size_t *local_len, const char **record, size_t *record_len)
{
    if (*cursor >= event->body_len)
        return false;
    const char *line = event->body + *cursor;
    size_t left = event->body_len - *cursor;
    const char *lf = memchr(line, '\n', left);
    size_t len = lf ? (size_t)(lf - line) : left;
    const char *tab = memchr(line, '\t', len);

    *local = line;
    *local_len = tab ? (size_t)(tab - line) : len;
    *record = tab ? tab + 1 : NULL;
    *record_len = tab ? len - *local_len - 1 : 0;
    if (!lf) {
        *record = line + len;
        *record_len = 0;
    }
    *cursor += lf ? len + 1 : len;
    return true;
}

static bool has_mailboxes(enum event_op op)
{
    return op != EVENT_HOST && op != EVENT_UNHOST && op != EVENT_RECOVER &&
           op != EVENT_PLAYBOOK;
}

bool event_apply(const struct event *event, const char *record, size_t record_len,
                 struct home *home)
{
    enum home_state state;
    bool rollback;

    if (!has_mailboxes(event->op))
        return false;
    if (record)
        return home_decode(record, record_len, home);
    if (!home_from_letter(event->letter, &state, &rollback))
        return false;
    if (!home->listed)
        home->new_address[0] = home->copy[0] = '\0';
    home->state = state;
    home->rollback = rollback;
    home->epoch = event->at.epoch;
    home->since = event->time;
    home->listed = true;
    return true;
}
