/*
 * One SPF record, read strictly (RFC 7208 4.6.1 and section 12).
 *
 * The whole record is read before any of it is used, so that an error anywhere
 * is found (4.6). Past the letter of the grammar, as the public test suite has
 * it: "exp=" and "redirect=" with anything but a domain-spec behind them are
 * errors, not unknown modifiers; a prefix length has no leading zero.
 */
#include "spf_record.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "spf_macro.h"

#define TERM_SHOWN 64 /* bytes of a bad term that are shown */
/* Bytes of a domain-spec: a name has 253, a macro of 4 bytes may stand for less,
 * and what hundreds of macros would cost is spared. */
#define DOMAIN_SPEC_MAX 512

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_alpha(c) || is_digit(c);
}

static bool is_word(const char *text, size_t len, const char *word)
{
    return strlen(word) == len && strncasecmp(text, word, len) == 0;
}

bool spf_record_is(const char *text, size_t len)
{
    return len >= 6 && strncasecmp(text, "v=spf1", 6) == 0 &&
           (len == 6 || text[6] == ' ');
}

/* ---- domain-spec -------------------------------------------------------- */

/* toplabel: letters, digits and inner hyphens, not digits alone. */
static bool is_toplabel(const char *text, size_t len)
{
    bool digits_alone = true;

    if (len == 0 || !is_alnum(text[0]) || !is_alnum(text[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_alnum(text[i]) && text[i] != '-')
            return false;
        digits_alone = digits_alone && is_digit(text[i]);
    }
    return !digits_alone;
}

/* Where the literal text after the last macro-expand begins. text is sound. */
static size_t literal_tail(const char *text, size_t len)
{
    size_t tail = 0;

    for (size_t i = 0; i < len;) {
        if (text[i] != '%') {
            i++;
            continue;
        }
        const char *close = text[i + 1] == '{' ? memchr(text + i, '}', len - i) : NULL;
        i = tail = close ? (size_t)(close - text) + 1 : i + 2;
    }
    return tail;
}

/* domain-spec = macro-string ( "." toplabel [ "." ] / macro-expand ) */
static const char *domain_spec_trouble(const char *text, size_t len)
{
    if (len == 0)
        return "a domain is missing";
    if (len > DOMAIN_SPEC_MAX)
        return "a domain is too long";
    if (!spf_macros_are_sound(text, len, SPF_IN_DOMAIN))
        return "a macro is malformed";
    size_t tail = literal_tail(text, len);
    if (tail == len)
        return NULL;
    if (text[len - 1] == '.')
        len--;
    const char *dot = memrchr(text + tail, '.', len - tail);
    if (!dot || !is_toplabel(dot + 1, (size_t)(text + len - dot - 1)))
        return "not a domain name";
    return NULL;
}

/* ---- prefix lengths ----------------------------------------------------- */

/* 0: -1 for what is no length. */
static int read_bits(const char *text, size_t len, int max)
{
    int bits = 0;

    if (len == 0 || len > 3 || (text[0] == '0' && len > 1))
        return -1;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(text[i]))
            return -1;
        bits = bits * 10 + (text[i] - '0');
    }
    return bits <= max ? bits : -1;
}

/* Takes marker and digits ("/24", "//64") off the end of text, if they are
 * there. false: they are, and the length is not one. */
static bool take_bits(const char *text, size_t *len, const char *marker, int max,
                      int *bits)
{
    size_t at = *len, marker_len = strlen(marker);

    while (at > 0 && is_digit(text[at - 1]))
        at--;
    if (at == *len || at < marker_len ||
        memcmp(text + at - marker_len, marker, marker_len) != 0)
        return true;
    int found = read_bits(text + at, *len - at, max);
    if (found < 0)
        return false;
    *bits = found;
    *len = at - marker_len;
    return true;
}

/* ---- mechanisms --------------------------------------------------------- */

/* Each reads what follows the name. NULL, or what is wrong. */
typedef const char *read_fn(const char *rest, size_t len, struct spf_term *term);

static const char *read_nothing(const char *rest, size_t len, struct spf_term *term)
{
    (void)rest;
    (void)term;
    return len ? "\"all\" takes nothing" : NULL;
}

static const char *read_domain(const char *rest, size_t len, struct spf_term *term)
{
    if (len == 0 || rest[0] != ':')
        return "a domain is missing";
    term->domain = rest + 1;
    term->domain_len = len - 1;
    return domain_spec_trouble(term->domain, term->domain_len);
}

static const char *read_domain_or_nothing(const char *rest, size_t len,
                                          struct spf_term *term)
{
    return len == 0 ? NULL : read_domain(rest, len, term);
}

static const char *read_dual_cidr(const char *rest, size_t len, struct spf_term *term)
{
    if (!take_bits(rest, &len, "//", 128, &term->bits6) ||
        !take_bits(rest, &len, "/", 32, &term->bits4))
        return "a prefix length is malformed";
    return read_domain_or_nothing(rest, len, term);
}

static const char *read_block(const char *rest, size_t len, int family, int max,
                              struct spf_term *term)
{
    char address[INET6_ADDRSTRLEN];

    if (len < 2 || rest[0] != ':')
        return "an address is missing";
    rest++;
    len--;
    const char *slash = memchr(rest, '/', len);
    size_t address_len = slash ? (size_t)(slash - rest) : len;
    term->block.bits = max;
    if (slash)
        term->block.bits = read_bits(slash + 1, len - address_len - 1, max);
    if (term->block.bits < 0)
        return "a prefix length is malformed";
    if (address_len >= sizeof(address))
        return "not an address";
    memcpy(address, rest, address_len);
    address[address_len] = '\0';
    term->block.base.family = family;
    if (inet_pton(family, address, term->block.base.bytes) != 1)
        return "not an address";
    return NULL;
}

static const char *read_ip4(const char *rest, size_t len, struct spf_term *term)
{
    return read_block(rest, len, AF_INET, 32, term);
}

static const char *read_ip6(const char *rest, size_t len, struct spf_term *term)
{
    return read_block(rest, len, AF_INET6, 128, term);
}

static const struct {
    const char *name;
    enum spf_mechanism mechanism;
    read_fn *read;
} mechanisms[] = {
    { "ip4", SPF_IP4, read_ip4 },          { "include", SPF_INCLUDE, read_domain },
    { "a", SPF_A, read_dual_cidr },        { "mx", SPF_MX, read_dual_cidr },
    { "all", SPF_ALL, read_nothing },      { "ip6", SPF_IP6, read_ip6 },
    { "exists", SPF_EXISTS, read_domain }, { "ptr", SPF_PTR, read_domain_or_nothing },
};

static const char *read_mechanism(const char *text, size_t len, struct spf_term *term)
{
    size_t name_len = 0;

    memset(term, 0, sizeof(*term));
    term->text = text;
    term->len = len;
    term->qualifier = '+';
    term->bits4 = 32;
    term->bits6 = 128;
    if (strchr("+-~?", text[0])) {
        term->qualifier = text[0];
        text++;
        len--;
    }
    while (name_len < len && text[name_len] != ':' && text[name_len] != '/')
        name_len++;
    for (size_t i = 0; i < sizeof(mechanisms) / sizeof(mechanisms[0]); i++) {
        if (!is_word(text, name_len, mechanisms[i].name))
            continue;
        term->mechanism = mechanisms[i].mechanism;
        return mechanisms[i].read(text + name_len, len - name_len, term);
    }
    return "no such mechanism";
}

/* ---- modifiers ---------------------------------------------------------- */

/* name = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." ), and then '='. Length of the
 * name; 0: text is no modifier. */
static size_t modifier_name(const char *text, size_t len)
{
    size_t i = 0;

    if (!is_alpha(text[0]))
        return 0;
    while (i < len && (is_alnum(text[i]) || strchr("-_.", text[i])))
        i++;
    return i < len && text[i] == '=' ? i : 0;
}

static const char *set_once(const char **spec, size_t *spec_len, const char *value,
                            size_t len)
{
    if (*spec)
        return "a second one";
    *spec = value;
    *spec_len = len;
    return domain_spec_trouble(value, len);
}

static const char *read_modifier(const char *text, size_t name_len, size_t len,
                                 struct spf_record *out)
{
    const char *value = text + name_len + 1;
    size_t value_len = len - name_len - 1;

    if (is_word(text, name_len, "redirect"))
        return set_once(&out->redirect, &out->redirect_len, value, value_len);
    if (is_word(text, name_len, "exp"))
        return set_once(&out->exp, &out->exp_len, value, value_len);
    /* Others are ignored, but not what is malformed in them. */
    if (!spf_macros_are_sound(value, value_len, SPF_IN_EXPLANATION))
        return "a macro is malformed";
    return NULL;
}

/* ---- the record --------------------------------------------------------- */

static const char *read_term(const char *text, size_t len, struct spf_record *out)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] < 0x21 || text[i] > 0x7e)
            return "a byte that is not visible ASCII";
    }
    size_t name_len = modifier_name(text, len);
    if (name_len)
        return read_modifier(text, name_len, len, out);
    if (out->count == SPF_TERMS_MAX)
        return "too many terms";
    return read_mechanism(text, len, &out->terms[out->count++]);
}

static void explain(char *why, size_t size, size_t number, const char *text, size_t len,
                    const char *trouble)
{
    char shown[4 * TERM_SHOWN + 1];
    size_t used = 0;

    for (size_t i = 0; i < len && i < TERM_SHOWN; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = c >= 0x20 && c <= 0x7e && c != '"' && c != '\\';
        used += (size_t)snprintf(shown + used, sizeof(shown) - used,
                                 plain ? "%c" : "\\x%02x", c);
    }
    shown[used] = '\0';
    int n = snprintf(why, size, "term %zu (\"%s%s\"): %s", number, shown,
                     len > TERM_SHOWN ? "..." : "", trouble);
    if (n < 0 || (size_t)n >= size)
        snprintf(why, size, "term %zu: %s", number, trouble);
}

bool spf_record_parse(const char *text, size_t len, struct spf_record *out, char *why,
                      size_t why_size)
{
    size_t number = 0;

    out->count = 0;
    out->redirect = out->exp = NULL;
    out->redirect_len = out->exp_len = 0;
    if (!spf_record_is(text, len) || len > SPF_RECORD_MAX) {
        snprintf(why, why_size, "%s",
                 len > SPF_RECORD_MAX ? "the record is too long" : "not an SPF record");
        return false;
    }
    for (size_t i = 6; i < len;) {
        if (text[i] == ' ') {
            i++;
            continue;
        }
        const char *space = memchr(text + i, ' ', len - i);
        size_t term_len = space ? (size_t)(space - text) - i : len - i;
        const char *trouble = read_term(text + i, term_len, out);
        number++;
        if (trouble) {
            explain(why, why_size, number, text + i, term_len, trouble);
            return false;
        }
        i += term_len;
    }
    return true;
}
