/*
 * from: reads a From field in one pass (RFC 5322 3.4 with the obsolete syntax of
 * 4.4, groups as RFC 6854 allows them, UTF-8 as RFC 6532 does).
 *
 * The domain is the only thing wanted, and a text that a mail program could
 * show as another address than the one read here must not get through. So
 * display names, comments and local parts are taken as loosely as they can be
 * without doubt about where the domain stands (dots where they should not be,
 * bytes that are no UTF-8), and the rest strictly: what stands before or after
 * an address and belongs to none is malformed, and one malformed address makes
 * the field malformed. Control characters have no place, not even in quotes and
 * comments, where RFC 5322 4.1 once let them be.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "from.h"

/* A U-label is longer in UTF-8 than its A-label; addr_domain() has the same limit. */
#define DOMAIN_TEXT_MAX (4 * ADDR_DOMAIN_MAX)

/* ---- tokens -------------------------------------------------------------- */

enum token { ATOM, QUOTED, LITERAL, SPECIAL, END, BAD };

struct reader {
    const char *at, *end;
    enum token token; /* the one being looked at */
    char special;     /* of SPECIAL: one of <>@,:;. else '\0' */
    const char *start;
    size_t len;                 /* of ATOM */
    struct from_author *author; /* whose domains are noted; or NULL */
};

static bool is_atext(char c)
{
    /* RFC 5322 3.2.3, RFC 6532 3.2 */
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (unsigned char)c > 0x7f || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

/* From the '(' to behind the ')' that belongs to it; false: there is none. */
static bool skip_comment(struct reader *reader)
{
    size_t depth = 0;

    for (; reader->at < reader->end; reader->at++) {
        char c = *reader->at;
        if (c == '\\' && ++reader->at == reader->end)
            return false;
        if (c == '(')
            depth++;
        if (c == ')' && --depth == 0) {
            reader->at++;
            return true;
        }
    }
    return false;
}

/* The same of quoted strings and address literals, which do not nest. */
static bool skip_enclosed(struct reader *reader, char close)
{
    for (reader->at++; reader->at < reader->end; reader->at++) {
        if (*reader->at == close) {
            reader->at++;
            return true;
        }
        if (*reader->at == '\\' && ++reader->at == reader->end)
            return false;
    }
    return false;
}

/* Blanks, folds and comments. */
static bool skip_cfws(struct reader *reader)
{
    while (reader->at < reader->end) {
        if (*reader->at == '(') {
            if (!skip_comment(reader))
                return false;
        } else if (strchr(" \t\r\n", *reader->at)) {
            reader->at++;
        } else {
            break;
        }
    }
    return true;
}

static enum token read_token(struct reader *reader)
{
    if (!skip_cfws(reader))
        return BAD;
    if (reader->at == reader->end)
        return END;
    char c = *reader->at;
    reader->start = reader->at;
    if (is_atext(c)) {
        while (reader->at < reader->end && is_atext(*reader->at))
            reader->at++;
        reader->len = (size_t)(reader->at - reader->start);
        return ATOM;
    }
    if (c == '"')
        return skip_enclosed(reader, '"') ? QUOTED : BAD;
    if (c == '[')
        return skip_enclosed(reader, ']') ? LITERAL : BAD;
    if (!strchr("<>@,:;.", c))
        return BAD;
    reader->special = c;
    reader->at++;
    return SPECIAL;
}

static void next(struct reader *reader)
{
    reader->special = '\0';
    reader->token = read_token(reader);
}

/* ---- addresses ----------------------------------------------------------- */

/* atom *("." atom) with a final dot or none, blanks and comments anywhere. What
 * the domain is not followed by, the caller sees. */
static bool read_domain(struct reader *reader, char out[ADDR_DOMAIN_MAX + 1])
{
    char text[DOMAIN_TEXT_MAX];
    size_t used = 0;

    while (reader->token == ATOM) {
        if (used + reader->len + 1 > sizeof(text))
            return false;
        memcpy(text + used, reader->start, reader->len);
        used += reader->len;
        next(reader);
        if (reader->special != '.')
            break;
        text[used++] = '.';
        next(reader);
    }
    return used > 0 && addr_domain(text, used, out);
}

/* The words and dots before '@', '<' or ':'. */
struct words {
    size_t count;
    bool apart; /* two of them without a dot between: no local part */
};

static void read_words(struct reader *reader, struct words *words)
{
    bool word = false;

    words->count = 0;
    words->apart = false;
    while (reader->token == ATOM || reader->token == QUOTED || reader->special == '.') {
        bool was = word;
        word = reader->special != '.';
        if (word)
            words->count++;
        if (was && word)
            words->apart = true;
        next(reader);
    }
}

static void note_domain(struct from_author *author, const char *domain)
{
    for (size_t i = 0; i < author->count; i++)
        if (strcmp(author->domains[i], domain) == 0)
            return;
    if (author->count < FROM_DOMAINS_MAX)
        memcpy(author->domains[author->count++], domain, strlen(domain) + 1);
}

/* The '@' is being looked at. */
static bool read_at_domain(struct reader *reader, const struct words *local,
                           char out[ADDR_DOMAIN_MAX + 1])
{
    if (reader->special != '@' || local->count == 0 || local->apart)
        return false;
    next(reader);
    if (!read_domain(reader, out))
        return false;
    if (reader->author)
        note_domain(reader->author, out);
    return true;
}

/* "@a,@b:" (RFC 5322 4.4, obs-route), which a mail program does not show. */
static bool skip_route(struct reader *reader)
{
    char domain[ADDR_DOMAIN_MAX + 1];
    bool any = false;

    if (reader->special != '@' && reader->special != ',')
        return true;
    while (reader->special != ':') {
        if (reader->special == '@') {
            next(reader);
            if (!read_domain(reader, domain))
                return false;
            any = true;
        } else if (reader->special == ',') {
            next(reader);
        } else {
            return false;
        }
    }
    next(reader);
    return any;
}

/* The '<' is being looked at. */
static bool read_angle(struct reader *reader, char out[ADDR_DOMAIN_MAX + 1])
{
    struct words local;

    next(reader);
    if (!skip_route(reader))
        return false;
    read_words(reader, &local);
    if (!read_at_domain(reader, &local, out) || reader->special != '>')
        return false;
    next(reader);
    return true;
}

struct list {
    size_t count;
    bool differ;
    char *domain; /* of the first */
};

static void list_add(struct list *list, const char *domain)
{
    if (list->count++ == 0)
        memcpy(list->domain, domain, strlen(domain) + 1);
    else if (strcmp(list->domain, domain) != 0)
        list->differ = true;
}

/* An address that may be the unquoted display name of another one, as many
 * programs write it: a@b.com <a@b.com>. Where the domains are not the same, two
 * readers may take it for two authors. */
static bool read_bare(struct reader *reader, const struct words *words, struct list *list,
                      char domain[ADDR_DOMAIN_MAX + 1])
{
    char shown[ADDR_DOMAIN_MAX + 1];

    if (!read_at_domain(reader, words, domain))
        return false;
    if (reader->special != '<')
        return true;
    memcpy(shown, domain, sizeof(shown));
    if (!read_angle(reader, domain))
        return false;
    if (strcmp(shown, domain) != 0)
        list->differ = true;
    return true;
}

/* One mailbox, or the beginning of a group. */
static bool read_address(struct reader *reader, struct list *list, bool *group)
{
    char domain[ADDR_DOMAIN_MAX + 1];
    struct words words;

    read_words(reader, &words);
    if (reader->special == ':') {
        if (*group || words.count == 0)
            return false;
        *group = true;
        next(reader);
        return true;
    }
    bool ok = reader->special == '<' ? read_angle(reader, domain)
                                     : read_bare(reader, &words, list, domain);
    if (ok)
        list_add(list, domain);
    return ok && (reader->special == ',' || (reader->special == ';' && *group) ||
                  reader->token == END);
}

/* address *("," address), also with nothing between the commas (obs-addr-list). */
static bool read_list(struct reader *reader, struct list *list)
{
    bool group = false;

    for (next(reader); reader->token != END;) {
        if (reader->special == ',') {
            next(reader);
        } else if (reader->special == ';' && group) {
            group = false;
            next(reader);
            if (reader->special != ',' && reader->token != END)
                return false;
        } else if (!read_address(reader, list, &group)) {
            return false;
        }
    }
    return !group;
}

/* No control characters; CR and LF only where a line is folded (RFC 5322 2.2.3). */
static bool is_field_text(const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];
        if (c == '\r' && i + 1 < len && value[i + 1] == '\n')
            continue;
        bool folded = c == '\n' && i + 1 < len && strchr(" \t", value[i + 1]) &&
                      value[i + 1] != '\0';
        if ((c < 0x20 && c != '\t' && !folded) || c == 0x7f)
            return false;
    }
    return true;
}

/* author: takes the domains, also those of a malformed field; or NULL. */
static enum from_status read_field(const char *value, size_t len,
                                   char out[ADDR_DOMAIN_MAX + 1],
                                   struct from_author *author)
{
    size_t used = len <= FROM_VALUE_MAX ? len : FROM_VALUE_MAX;
    struct reader reader = { .at = value, .end = value + used, .author = author };
    struct list list = { .domain = out };
    enum from_status status = FROM_MALFORMED;

    out[0] = '\0';
    if (read_list(&reader, &list) && used == len && is_field_text(value, len)) {
        if (list.count == 0)
            status = FROM_NONE;
        else if (list.differ)
            status = FROM_DIFFERENT;
        else
            status = list.count == 1 ? FROM_ONE : FROM_SEVERAL;
    }
    if (status != FROM_ONE && status != FROM_SEVERAL)
        out[0] = '\0';
    return status;
}

enum from_status from_domain(const char *value, size_t len, char out[ADDR_DOMAIN_MAX + 1])
{
    return read_field(value, len, out, NULL);
}

/* ---- a message ----------------------------------------------------------- */

void from_author_reset(struct from_author *author)
{
    author->status = FROM_NONE;
    author->fields = 0;
    author->count = 0;
    author->domain[0] = '\0';
}

/* What two fields are together. */
static enum from_status both(const struct from_author *author, enum from_status status,
                             const char *domain)
{
    if (author->status == FROM_MALFORMED || status == FROM_MALFORMED)
        return FROM_MALFORMED;
    if (author->status == FROM_DIFFERENT || status == FROM_DIFFERENT)
        return FROM_DIFFERENT;
    if (author->status == FROM_NONE && status == FROM_NONE)
        return FROM_NONE;
    if (author->status == FROM_NONE || status == FROM_NONE ||
        strcmp(author->domain, domain) == 0)
        return FROM_SEVERAL;
    return FROM_DIFFERENT;
}

void from_author_add(struct from_author *author, const char *value, size_t len)
{
    char domain[ADDR_DOMAIN_MAX + 1];
    enum from_status status = read_field(value, len, domain, author);

    if (author->fields++ > 0)
        status = both(author, status, domain);
    if (status != FROM_ONE && status != FROM_SEVERAL)
        author->domain[0] = '\0';
    else if (author->domain[0] == '\0')
        memcpy(author->domain, domain, sizeof(domain));
    author->status = status;
}
