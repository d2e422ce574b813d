/*
 * addr: mail addresses as sluice compares them.
 *
 * The text is read as Postfix reads it (src/global/tok822_parse.c): quotes may
 * stand anywhere in the local part, a backslash takes the next character as it
 * is, and the domain begins after the last '@' that is neither. So the form of
 * the SMTP command (quoted) and Postfix's internal form (not) come to the same
 * canonical address. Bytes above 127 are allowed in a local part (RFC 6531)
 * and stay as they are; spaces need quotes; control characters have no place
 * anywhere, so that an address is always one field of one line.
 *
 * An address whose local part is malformed or too long still tells its domain,
 * if that is one, and the beginning of its local part: "user+" and anything is
 * delivered into user's mailbox.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#include <idn2.h>

#include "addr.h"

#define LABEL_MAX 63
/* A U-label of 63 characters in UTF-8 has up to four times as many bytes. */
#define UTF8_DOMAIN_MAX (4 * ADDR_DOMAIN_MAX)

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool is_alnum(char c)
{
    c = lower(c);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* ---- domains ----------------------------------------------------------- */

/* An IPv6 address has many spellings; Postfix takes them all for its own. */
static void fold_literal(char *out)
{
    char text[ADDR_DOMAIN_MAX + 1], folded[INET6_ADDRSTRLEN];
    struct in6_addr address;
    const char *start = out + 1;

    if (strncmp(start, "ipv6:", 5) == 0)
        start += 5;
    size_t len = strlen(start) - 1; /* without the bracket */
    memcpy(text, start, len);
    text[len] = '\0';
    if (inet_pton(AF_INET6, text, &address) != 1 ||
        !inet_ntop(AF_INET6, &address, folded, sizeof(folded)))
        return;
    memcpy(out, "[ipv6:", 6);
    len = strlen(folded);
    memcpy(out + 6, folded, len);
    memcpy(out + 6 + len, "]", 2);
}

static bool domain_literal(const char *text, size_t len, char *out)
{
    if (len < 3 || len > ADDR_DOMAIN_MAX || text[len - 1] != ']')
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool bracket = c == '[' || c == ']';
        if (is_control(c) || c == ' ' || (unsigned char)c > 0x7f || c == '\\' ||
            (bracket && i != 0 && i != len - 1))
            return false;
        out[i] = lower(c);
    }
    out[len] = '\0';
    fold_literal(out);
    return true;
}

static bool domain_ascii(const char *text, size_t len, char *out)
{
    size_t label = 0;

    if (len > 0 && text[len - 1] == '.')
        len--;
    if (len == 0 || len > ADDR_DOMAIN_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '.') {
            if (label == 0)
                return false;
            label = 0;
        } else if ((is_alnum(c) || c == '-' || c == '_') && label < LABEL_MAX) {
            label++;
        } else {
            return false;
        }
        out[i] = lower(c);
    }
    out[len] = '\0';
    return label > 0;
}

static bool domain_idn(const char *text, size_t len, char *out)
{
    char utf8[UTF8_DOMAIN_MAX + 1];
    char *ascii = NULL;

    if (len > UTF8_DOMAIN_MAX || memchr(text, '\0', len))
        return false;
    memcpy(utf8, text, len);
    utf8[len] = '\0';
    if (idn2_to_ascii_8z(utf8, &ascii, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT) != IDN2_OK)
        return false;
    bool ok = domain_ascii(ascii, strlen(ascii), out);
    idn2_free(ascii);
    return ok;
}

bool addr_domain(const char *text, size_t len, char out[ADDR_DOMAIN_MAX + 1])
{
    bool ok = false;
    bool ascii = true;

    for (size_t i = 0; i < len && ascii; i++)
        ascii = (unsigned char)text[i] <= 0x7f;
    if (len > 0 && text[0] == '[')
        ok = domain_literal(text, len, out);
    else if (ascii)
        ok = domain_ascii(text, len, out);
    else
        ok = domain_idn(text, len, out);
    if (!ok)
        out[0] = '\0';
    return ok;
}

/* ---- whole addresses --------------------------------------------------- */

/* "@relay1,@relay2:user@domain" -> "user@domain". The colons of an address
 * literal do not end the route. */
static bool skip_source_route(const char **text, size_t *len)
{
    bool literal = false;

    if (*len == 0 || (*text)[0] != '@')
        return true;
    for (size_t i = 0; i < *len; i++) {
        char c = (*text)[i];
        if (c == '[')
            literal = true;
        else if (c == ']')
            literal = false;
        else if (c == ':' && !literal) {
            *text += i + 1;
            *len -= i + 1;
            return *len > 0 && (*text)[0] != '@';
        }
    }
    return false;
}

#define NO_AT SIZE_MAX

/* The position of the '@' before the domain, or NO_AT; false: a quote or a
 * backslash is not finished. */
static bool find_at(const char *text, size_t len, size_t *at)
{
    bool quoted = false;

    *at = NO_AT;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\\') {
            if (++i == len)
                return false;
        } else if (text[i] == '"') {
            quoted = !quoted;
        } else if (text[i] == '@' && !quoted) {
            *at = i;
        }
    }
    return !quoted;
}

/* Unquotes and folds a local part; out is what was read, cut at its size. */
static enum addr_kind read_local(const char *text, size_t len, char *out)
{
    bool quoted = false, bad = false;
    size_t used = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool escaped = c == '\\' && i + 1 < len;
        if (escaped)
            c = text[++i];
        bad =
            is_control(c) || (c == ' ' && !quoted && !escaped) || (c == '\\' && !escaped);
        if (bad)
            break;
        if (c == '"' && !escaped) {
            quoted = !quoted;
            continue;
        }
        if (used < ADDR_LOCAL_MAX)
            out[used] = lower(c);
        used++;
    }
    out[used < ADDR_LOCAL_MAX ? used : ADDR_LOCAL_MAX] = '\0';
    if (used == 0 || bad || quoted)
        return ADDR_BAD;
    return used > ADDR_LOCAL_MAX ? ADDR_OVERLONG : ADDR_OK;
}

/* Where the quotes do not come out even (Postfix's internal form of a local part
 * that has one), the domain still comes after the last '@' of all. */
static bool find_domain(const char *text, size_t len, size_t *at)
{
    char domain[ADDR_DOMAIN_MAX + 1];
    const char *last = memrchr(text, '@', len);

    if (!last || !addr_domain(last + 1, (size_t)(text + len - last - 1), domain))
        return false;
    *at = (size_t)(last - text);
    return true;
}

enum addr_kind addr_parse(const char *text, size_t len, struct addr *out)
{
    size_t at;

    out->local[0] = out->domain[0] = '\0';
    if (len >= 2 && text[0] == '<' && text[len - 1] == '>') {
        text++;
        len -= 2;
    }
    if (len == 0)
        return ADDR_NULL;
    if (!skip_source_route(&text, &len))
        return ADDR_BAD;
    bool sound = find_at(text, len, &at);
    if ((!sound || at == NO_AT) && !find_domain(text, len, &at) && !sound)
        return ADDR_BAD;
    size_t local_len = at == NO_AT ? len : at;
    if (at != NO_AT &&
        (local_len == 0 || !addr_domain(text + at + 1, len - at - 1, out->domain)))
        return ADDR_BAD;
    enum addr_kind kind = read_local(text, local_len, out->local);
    if (at != NO_AT || kind == ADDR_OK)
        return at == NO_AT ? ADDR_NO_DOMAIN : kind;
    out->local[0] = '\0';
    return ADDR_BAD;
}

bool addr_base(const char *local, const char *delimiters, char out[ADDR_LOCAL_MAX + 1])
{
    /* As Postfix (src/global/split_addr.c): at the first delimiter, not at all
     * when nothing would be left before it. */
    size_t len = strcspn(local, delimiters);

    out[0] = '\0';
    if (len == 0 || local[len] == '\0' || len > ADDR_LOCAL_MAX)
        return false;
    memcpy(out, local, len);
    out[len] = '\0';
    return true;
}

/* RFC 5321 4.1.2 Dot-string, and what RFC 6531 adds to it. */
bool addr_is_dot_string(const char *local)
{
    bool dot = true;

    for (; *local; local++) {
        char c = *local;
        if (c == '.') {
            if (dot)
                return false;
            dot = true;
        } else if (is_alnum(c) || (unsigned char)c > 0x7f ||
                   strchr("!#$%&'*+-/=?^_`{|}~", c)) {
            dot = false;
        } else {
            return false;
        }
    }
    return !dot;
}

void addr_format(const char *local, const char *domain, char out[ADDR_TEXT_MAX + 1])
{
    bool quote = !addr_is_dot_string(local);
    size_t used = 0;

    if (quote)
        out[used++] = '"';
    for (size_t i = 0; local[i] && i < ADDR_LOCAL_MAX; i++) {
        if (quote && (local[i] == '"' || local[i] == '\\'))
            out[used++] = '\\';
        out[used++] = local[i];
    }
    if (quote)
        out[used++] = '"';
    if (domain[0]) {
        size_t len = strnlen(domain, ADDR_DOMAIN_MAX);
        out[used++] = '@';
        memcpy(out + used, domain, len);
        used += len;
    }
    out[used] = '\0';
}
