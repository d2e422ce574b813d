/*
 * log_line: one raw line of a mail log (see log_line.h).
 *
 * Formats: RFC 3164 4.1.2 as syslogd and postlogd(8) write it to files (Postfix
 * src/global/maillog_client.c, src/util/logwriter.c), RFC 3339 stamps. The journal's
 * lines are log_journal.c's. Queue ids: Postfix src/global/mail_queue.h (upper-case
 * hex digits; or base 52, which has no vowels, so that "warning" is none), Sendmail
 * 8.12 and later (14 or more letters and digits).
 */
#include "log_line.h"

#include "log_bytes.h"
#include "log_journal.h"

#define TRADITIONAL_LEN 15 /* "Nov 22 09:14:32" */
#define ISO_MIN         19
#define ISO_MAX         35
#define ID_MIN          5
#define ID_MAX          32
#define SENDMAIL_ID_MIN 12

enum {
    CHAR_HEX = 1,  /* 0-9 A-F */
    CHAR_LONG = 2, /* no vowels */
    CHAR_WORD = 4, /* letters and digits */
};

/* clang-format off */
static const unsigned char classes[256] = {
    ['0'] = 7, ['1'] = 7, ['2'] = 7, ['3'] = 7, ['4'] = 7,
    ['5'] = 7, ['6'] = 7, ['7'] = 7, ['8'] = 7, ['9'] = 7,
    ['A'] = 5, ['B'] = 7, ['C'] = 7, ['D'] = 7, ['E'] = 5, ['F'] = 7,
    ['G'] = 6, ['H'] = 6, ['I'] = 4, ['J'] = 6, ['K'] = 6, ['L'] = 6, ['M'] = 6,
    ['N'] = 6, ['O'] = 4, ['P'] = 6, ['Q'] = 6, ['R'] = 6, ['S'] = 6, ['T'] = 6,
    ['U'] = 4, ['V'] = 6, ['W'] = 6, ['X'] = 6, ['Y'] = 6, ['Z'] = 6,
    ['a'] = 4, ['b'] = 6, ['c'] = 6, ['d'] = 6, ['e'] = 4, ['f'] = 6, ['g'] = 6,
    ['h'] = 6, ['i'] = 4, ['j'] = 6, ['k'] = 6, ['l'] = 6, ['m'] = 6, ['n'] = 6,
    ['o'] = 4, ['p'] = 6, ['q'] = 6, ['r'] = 6, ['s'] = 6, ['t'] = 6, ['u'] = 4,
    ['v'] = 6, ['w'] = 6, ['x'] = 6, ['y'] = 6, ['z'] = 6,
};

/* clang-format on */

struct name {
    const char *name;
    enum log_daemon daemon;
};

/* By length, since each line is looked up. */
static const struct name names_4[] = { { "qmgr", LOG_DAEMON_QMGR },
                                       { "smtp", LOG_DAEMON_DELIVERY },
                                       { "lmtp", LOG_DAEMON_DELIVERY },
                                       { "pipe", LOG_DAEMON_DELIVERY } };
static const struct name names_5[] = {
    { "smtpd", LOG_DAEMON_SMTPD },    { "local", LOG_DAEMON_DELIVERY },
    { "error", LOG_DAEMON_DELIVERY }, { "retry", LOG_DAEMON_DELIVERY },
    { "nqmgr", LOG_DAEMON_QMGR },     { "oqmgr", LOG_DAEMON_QMGR }
};
static const struct name names_6[] = { { "bounce", LOG_DAEMON_BOUNCE },
                                       { "pickup", LOG_DAEMON_PICKUP },
                                       { "sm-mta", LOG_DAEMON_SENDMAIL },
                                       { "sm-que", LOG_DAEMON_SENDMAIL },
                                       { "sm-msp", LOG_DAEMON_SENDMAIL } };
static const struct name names_7[] = { { "cleanup", LOG_DAEMON_CLEANUP },
                                       { "virtual", LOG_DAEMON_DELIVERY },
                                       { "discard", LOG_DAEMON_DELIVERY } };
static const struct name names_more[] = { { "sendmail", LOG_DAEMON_SENDMAIL },
                                          { "postsuper", LOG_DAEMON_POSTSUPER },
                                          { "sm-msp-queue", LOG_DAEMON_SENDMAIL },
                                          { "sluice-milter", LOG_DAEMON_MILTER },
                                          { "sluice-policyd", LOG_DAEMON_POLICYD } };

#define NAMES(list) list, sizeof(list) / sizeof((list)[0])

static enum log_daemon among(struct log_slice name, const struct name *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i].name[0] == name.text[0] && log_slice_is(name, list[i].name))
            return list[i].daemon;
    return LOG_DAEMON_OTHER;
}

static enum log_daemon daemon_of(struct log_slice name)
{
    switch (name.len) {
    case 0:
        return LOG_DAEMON_OTHER;
    case 4:
        return among(name, NAMES(names_4));
    case 5:
        return among(name, NAMES(names_5));
    case 6:
        return among(name, NAMES(names_6));
    case 7:
        return among(name, NAMES(names_7));
    default:
        return among(name, NAMES(names_more));
    }
}

/* "postfix/sluice-forward/smtp": the daemon, and the service before it. */
void log_line_program(struct log_slice program, struct log_line *out)
{
    const char *end = program.text + program.len, *last = end, *before;
    struct log_slice daemon = program;
    out->program = program;
    while (last > program.text && last[-1] != '/')
        last--;
    if (last > program.text) {
        daemon = (struct log_slice){ last, (size_t)(end - last) };
        for (before = --last; before > program.text && before[-1] != '/';)
            before--;
        out->service = (struct log_slice){ before, (size_t)(last - before) };
    }
    out->daemon = daemon_of(daemon);
}

/* How many letters and digits the text begins with, and the classes that all of them
 * are in. It is tried first whether there are as many as in the line before. */
static size_t take_word(const char *text, const char *end, size_t guess, unsigned *all)
{
    const unsigned every = CHAR_HEX | CHAR_LONG | CHAR_WORD;
    const size_t most = end - text > ID_MAX ? ID_MAX + 1 : (size_t)(end - text);
    unsigned in = every;
    size_t len = 0;
    if (guess > 0 && guess < most && text[guess] == ':') {
        for (size_t i = 0; i + 1 < guess; i += 2) /* of an odd number the last is below */
            in &= classes[(unsigned char)text[i]] & classes[(unsigned char)text[i + 1]];
        *all = in & classes[(unsigned char)text[guess - 1]];
        if (*all)
            return guess;
        in = every;
    }
    for (; len < most && classes[(unsigned char)text[len]]; len++)
        in &= classes[(unsigned char)text[len]];
    *all = in;
    return len;
}

/* "ID: " at the beginning of the text; guess: how long the last one was. */
static void take_text(const char *text, const char *end, size_t guess,
                      struct log_line *out)
{
    unsigned all;
    out->rest = (struct log_slice){ text, (size_t)(end - text) };
    if (out->daemon == LOG_DAEMON_OTHER)
        return;
    size_t len = take_word(text, end, guess, &all);
    if ((size_t)(end - text) < len + 2 || text[len] != ':' || text[len + 1] != ' ' ||
        len < ID_MIN || len > ID_MAX)
        return;
    bool sendmail =
        out->daemon == LOG_DAEMON_SENDMAIL || out->daemon == LOG_DAEMON_MILTER;
    if (!(all & (CHAR_HEX | CHAR_LONG)) && (!sendmail || len < SENDMAIL_ID_MIN))
        return;
    out->id = (struct log_slice){ text, len };
    out->rest = (struct log_slice){ text + len + 2, (size_t)(end - text) - len - 2 };
}

void log_line_text(const char *text, const char *end, struct log_line *out)
{
    take_text(text, end, 0, out);
}

/* "prog[pid]:" from text to its end, which is a space. false: not that. */
static bool take_tag(const char *text, const char *end, struct log_line *out)
{
    uint32_t pid = 0;
    if (end - text < 2 || end[-1] != ':')
        return false;
    end--;
    if (end[-1] == ']') {
        const char *p = --end;
        for (uint32_t unit = 1; p > text && p[-1] >= '0' && p[-1] <= '9';
             p--, unit *= 10) {
            if (unit <= 1000000000)
                pid += unit * (uint32_t)(p[-1] - '0');
        }
        if (p - 1 <= text || p[-1] != '[')
            return false;
        end = p - 1;
    }
    out->pid = pid;
    log_line_program((struct log_slice){ text, (size_t)(end - text) }, out);
    return true;
}

/* ---- what the lines before had too ------------------------------------------ */

#define PROGRAM_MIN 8 /* shorter names are taken apart each time */

_Static_assert(LOG_PROGRAMS_KNOWN == 1 << 6, "place_of() takes six bits");

/* The place of a name of at least PROGRAM_MIN, and its first and last eight bytes. */
static struct log_known_program *place_of(struct log_clock *clock, struct log_slice name,
                                          uint64_t *first, uint64_t *last)
{
    memcpy(first, name.text, sizeof(*first));
    memcpy(last, name.text + name.len - sizeof(*last), sizeof(*last));
    uint64_t hash = (*first ^ *last << 1 ^ name.len) * UINT64_C(0x9e3779b97f4a7c15);
    return &clock->programs[hash >> 58];
}

static void remember(struct log_clock *clock, const struct log_line *line)
{
    struct log_slice name = line->program, service = line->service;
    if (line->host.len < sizeof(clock->host)) {
        memcpy(clock->host, line->host.text, line->host.len);
        clock->host[line->host.len] = ' ';
        clock->host_len = line->host.len ? line->host.len + 1 : 0;
    }
    if (name.len < PROGRAM_MIN || name.len > sizeof(clock->programs[0].text))
        return;
    uint64_t first, last;
    struct log_known_program *known = place_of(clock, name, &first, &last);
    known->first = first;
    known->last = last;
    memcpy(known->text, name.text, name.len);
    known->len = (uint8_t)name.len;
    known->service_at = service.len ? (uint8_t)(service.text - name.text) : 0;
    known->service_len = (uint8_t)service.len;
    known->daemon = (uint8_t)line->daemon;
}

/* "[123]: " of at most seven digits, as nearly every pid has. NULL: not that; else what
 * is behind it. */
static const char *take_pid(const char *p, const char *end, uint32_t *pid)
{
    uint32_t number;
    if (end - p < 1 + 8 + 2)
        return NULL;
    size_t digits = log_bytes_number(++p, &number);
    p += digits;
    if (digits == 0 || digits == 8 || p[0] != ']' || p[1] != ':' || p[2] != ' ')
        return NULL;
    *pid = number;
    return p + 3;
}

/* The program's name up to '['. A length of 0: none that is remembered. */
static struct log_slice take_name(const char *p, const char *end)
{
    const size_t most = sizeof(((struct log_known_program *)NULL)->text);
    size_t found = 0, at = 0;
    for (; at <= most && (size_t)(end - p) >= at + 8; at += 8)
        if ((found = log_bytes_find(p + at, '[')) < 8)
            break;
    size_t len = at + found;
    return (struct log_slice){ p,
                               found < 8 && len >= PROGRAM_MIN && len <= most ? len : 0 };
}

/* The short cut for what nearly all lines are: the host of the line before, a program
 * that is known, a pid. false: to be taken apart. */
static bool take_known(struct log_clock *clock, const char *p, const char *end,
                       struct log_line *out)
{
    const size_t host = clock->host_len; /* with its space */
    if ((size_t)(end - p) < host || !log_bytes_equal(p, clock->host, host))
        return false;
    struct log_slice name = take_name(p + host, end);
    if (name.len == 0)
        return false;
    uint64_t first, last;
    const struct log_known_program *known = place_of(clock, name, &first, &last);
    if (known->len != name.len || known->first != first || known->last != last ||
        (name.len > 2 * sizeof(first) &&
         !log_bytes_equal(known->text, name.text, name.len)))
        return false;
    const char *text = take_pid(name.text + name.len, end, &out->pid);
    if (!text)
        return false;
    if (host > 0)
        out->host = (struct log_slice){ p, host - 1 };
    out->program = name;
    if (known->service_len > 0)
        out->service =
            (struct log_slice){ name.text + known->service_at, known->service_len };
    out->daemon = (enum log_daemon)known->daemon;
    take_text(text, end, clock->id_len, out);
    if (out->id.len > 0)
        clock->id_len = out->id.len;
    return true;
}

/* "host prog[pid]: text", or without the host. */
static void take_rest(struct log_clock *clock, const char *p, const char *end,
                      struct log_line *out)
{
    if (take_known(clock, p, end, out))
        return;
    const char *space = memchr(p, ' ', (size_t)(end - p));
    if (space && !take_tag(p, space, out)) {
        out->host = (struct log_slice){ p, (size_t)(space - p) };
        p = space + 1;
        space = memchr(p, ' ', (size_t)(end - p));
        if (space && !take_tag(p, space, out))
            space = NULL;
    }
    if (space) {
        p = space + 1;
        remember(clock, out);
    }
    log_line_text(p, end, out);
}

static bool take_traditional(struct log_clock *clock, const char *text, const char *end,
                             struct log_line *out)
{
    if (end - text <= TRADITIONAL_LEN || text[3] != ' ' || text[6] != ' ' ||
        text[9] != ':' || text[12] != ':' || text[TRADITIONAL_LEN] != ' ')
        return false;
    out->stamp = (struct log_slice){ text, TRADITIONAL_LEN };
    out->stamp_kind = LOG_STAMP_TRADITIONAL;
    take_rest(clock, text + TRADITIONAL_LEN + 1, end, out);
    return true;
}

static bool take_iso(struct log_clock *clock, const char *text, const char *end,
                     struct log_line *out)
{
    size_t most = (size_t)(end - text) > ISO_MAX + 1 ? ISO_MAX + 1 : (size_t)(end - text);
    const char *space = memchr(text, ' ', most);
    if (!space || space - text < ISO_MIN || text[4] != '-' || text[7] != '-' ||
        text[10] != 'T' || text[13] != ':' || text[16] != ':')
        return false;
    out->stamp = (struct log_slice){ text, (size_t)(space - text) };
    out->stamp_kind = LOG_STAMP_ISO;
    take_rest(clock, space + 1, end, out);
    return true;
}

/* Behind "<22>", if that is there. */
static const char *skip_priority(const char *text, const char *end)
{
    const char *p = text + 1;
    if (text == end || *text != '<')
        return text;
    while (p < end && p - text <= 3 && *p >= '0' && *p <= '9')
        p++;
    return p < end && p > text + 1 && *p == '>' ? p + 1 : text;
}

bool log_line_parse(struct log_clock *clock, const char *text, size_t len,
                    struct log_line *out)
{
    const char *end = text + len;
    const struct log_slice none = { "", 0 };
    *out = (struct log_line){ none, none, none, LOG_DAEMON_OTHER,     0,
                              none, none, none, LOG_STAMP_TRADITIONAL };
    while (end > text && (end[-1] == '\r' || end[-1] == '\n'))
        end--;
    if (end == text)
        return false;
    if (*text == '{')
        return log_journal_parse(text, (size_t)(end - text), clock->scratch, out);
    text = skip_priority(text, end);
    if (text == end)
        return false;
    return *text >= '0' && *text <= '9' ? take_iso(clock, text, end, out)
                                        : take_traditional(clock, text, end, out);
}
