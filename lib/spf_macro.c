/*
 * Macros of SPF (RFC 7208 7.1 the grammar, 7.2 the letters, 7.3 the expansion).
 *
 *   macro-expand = ( "%{" letter *DIGIT ["r"] *delimiter "}" ) / "%%" / "%_" / "%-"
 *   delimiter    = "." / "-" / "+" / "," / "/" / "_" / "="
 *
 * An upper-case letter asks for URL escapes (RFC 3986 2.3). The nibbles of an
 * IPv6 address are upper case, as in the examples of the public test suite; it
 * makes no difference to DNS.
 *
 * Text and values are anybody's: each expansion is bounded by the value, the
 * whole by the room given.
 */
#include "spf_macro.h"

#include <stdio.h>
#include <string.h>

#define DIGITS_MAX 9999 /* more parts than any value has */
/* A name is cut from the left, so only its end has to be kept. */
#define NAME_ROOM (4 * SPF_MACRO_VALUE_MAX)

struct macro {
    char letter; /* lower case; '%', '_' and '-' stand for themselves */
    bool escape, reverse;
    unsigned digits; /* 0: not given */
    const char *delimiters;
    size_t delimiter_count; /* 0: "." */
};

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* ---- reading ------------------------------------------------------------ */

/* The transformers and delimiters, from p up to the '}'. */
static bool read_transformers(const char *p, const char *end, struct macro *out)
{
    bool digits = false;

    for (; p < end && is_digit(*p); p++) {
        digits = true;
        out->digits = out->digits * 10 + (unsigned)(*p - '0');
        if (out->digits > DIGITS_MAX)
            out->digits = DIGITS_MAX;
    }
    if (digits && out->digits == 0)
        return false;
    if (p < end && lower(*p) == 'r') {
        out->reverse = true;
        p++;
    }
    out->delimiters = p;
    out->delimiter_count = (size_t)(end - p);
    for (; p < end; p++) {
        if (*p == '\0' || !strchr(".-+,/_=", *p))
            return false;
    }
    return true;
}

/* text begins with '%'. How many bytes the macro-expand has; 0: it is none. */
static size_t read_macro(const char *text, size_t len, enum spf_macro_where where,
                         struct macro *out)
{
    memset(out, 0, sizeof(*out));
    if (len < 2)
        return 0;
    out->letter = text[1];
    if (text[1] == '%' || text[1] == '_' || text[1] == '-')
        return 2;
    if (text[1] != '{' || len < 4)
        return 0;
    const char *close = memchr(text, '}', len);
    out->letter = lower(text[2]);
    out->escape = out->letter != text[2];
    const char *letters = where == SPF_IN_EXPLANATION ? "slodiphvcrt" : "slodiphv";
    if (!close || !is_alpha(text[2]) || !strchr(letters, out->letter))
        return 0;
    if (!read_transformers(text + 3, close, out))
        return 0;
    return (size_t)(close - text) + 1;
}

bool spf_macros_are_sound(const char *text, size_t len, enum spf_macro_where where)
{
    struct macro macro;

    for (size_t i = 0; i < len;) {
        size_t step = 1;
        char c = text[i];
        if ((c < 0x21 || c > 0x7e) && !(c == ' ' && where == SPF_IN_EXPLANATION))
            return false;
        if (c == '%')
            step = read_macro(text + i, len - i, where, &macro);
        if (step == 0)
            return false;
        i += step;
    }
    return true;
}

bool spf_macro_used(const char *text, size_t len, char letter)
{
    struct macro macro;

    for (size_t i = 0; i < len;) {
        size_t step = 1;
        if (text[i] == '%') {
            step = read_macro(text + i, len - i, SPF_IN_EXPLANATION, &macro);
            if (step == 0)
                return false;
            if (letter ? macro.letter == letter : step > 2)
                return true;
        }
        i += step;
    }
    return false;
}

/* ---- values ------------------------------------------------------------- */

/* %{i}: the dotted quad; for IPv6 32 nibbles with dots between. */
static void dotted_address(const struct netaddr *client, char *out)
{
    static const char hex[] = "0123456789ABCDEF";

    if (client->family == AF_INET) {
        netaddr_format(client, out);
        return;
    }
    for (size_t i = 0; i < 16; i++) {
        *out++ = hex[client->bytes[i] >> 4];
        *out++ = '.';
        *out++ = hex[client->bytes[i] & 15];
        *out++ = '.';
    }
    out[-1] = '\0';
}

/* What a letter stands for; those of the client and of the time are written to
 * buffer. NULL: not known. */
static const char *value_of(char letter, const struct spf_macro_values *values,
                            char buffer[80])
{
    bool known = values->client.family != AF_UNSPEC;

    switch (letter) {
    case 's':
        return values->sender;
    case 'l':
        return values->local;
    case 'o':
        return values->sender_domain;
    case 'd':
        return values->domain;
    case 'h':
        return values->helo;
    case 'r':
        return values->receiver;
    case 'p':
        return values->validated;
    case 'v':
        return !known ? NULL : values->client.family == AF_INET ? "in-addr" : "ip6";
    case 'i':
        if (known)
            dotted_address(&values->client, buffer);
        return known ? buffer : NULL;
    case 'c':
        return known ? netaddr_format(&values->client, buffer) : NULL;
    default: /* 't' */
        snprintf(buffer, 80, "%lld", (long long)values->now);
        return buffer;
    }
}

/* ---- writing ------------------------------------------------------------ */

struct writer {
    char *out;
    size_t size, used; /* used < size: there is always room for the NUL */
    bool keep_end;     /* when it is full the front is dropped */
    bool full;
};

static void put_char(struct writer *w, char c)
{
    if (w->used + 1 >= w->size) {
        if (!w->keep_end) {
            w->full = true;
            return;
        }
        size_t half = w->used / 2;
        memmove(w->out, w->out + half, w->used - half);
        w->used -= half;
    }
    w->out[w->used++] = c;
}

static void put_escaped(struct writer *w, char c)
{
    static const char hex[] = "0123456789ABCDEF";
    unsigned char byte = (unsigned char)c;

    if (is_alpha(c) || is_digit(c) || (c != '\0' && strchr("-._~", c))) {
        put_char(w, c);
        return;
    }
    put_char(w, '%');
    put_char(w, hex[byte >> 4]);
    put_char(w, hex[byte & 15]);
}

struct part {
    unsigned short at, len;
};

static size_t split(const char *value, size_t len, const struct macro *macro,
                    struct part *parts)
{
    const char *delimiters = macro->delimiter_count ? macro->delimiters : ".";
    size_t delimiter_count = macro->delimiter_count ? macro->delimiter_count : 1;
    size_t count = 0, start = 0;
    bool is_delimiter[256] = { false };

    for (size_t i = 0; i < delimiter_count; i++)
        is_delimiter[(unsigned char)delimiters[i]] = true;
    for (size_t i = 0; i <= len; i++) {
        if (i < len && !is_delimiter[(unsigned char)value[i]])
            continue;
        parts[count].at = (unsigned short)start;
        parts[count++].len = (unsigned short)(i - start);
        start = i + 1;
    }
    return count;
}

static bool put_value(struct writer *w, const char *value, const struct macro *macro)
{
    struct part parts[SPF_MACRO_VALUE_MAX + 1];
    size_t len = strnlen(value, SPF_MACRO_VALUE_MAX + 1);

    if (len > SPF_MACRO_VALUE_MAX)
        return false;
    size_t count = split(value, len, macro, parts);
    size_t wanted = macro->digits && macro->digits < count ? macro->digits : count;
    /* The rightmost parts after the reversal: the first ones, backwards. */
    for (size_t n = 0; n < wanted; n++) {
        size_t which = macro->reverse ? wanted - 1 - n : count - wanted + n;
        if (n > 0)
            put_char(w, '.');
        for (size_t i = 0; i < parts[which].len; i++) {
            char c = value[parts[which].at + i];
            if (macro->escape)
                put_escaped(w, c);
            else
                put_char(w, c);
        }
    }
    return true;
}

static bool put_macro(struct writer *w, const struct macro *macro,
                      const struct spf_macro_values *values)
{
    char buffer[80];

    switch (macro->letter) {
    case '%':
        put_char(w, '%');
        return true;
    case '_':
        put_char(w, ' ');
        return true;
    case '-':
        put_char(w, '%');
        put_char(w, '2');
        put_char(w, '0');
        return true;
    default:
        break;
    }
    const char *value = value_of(macro->letter, values, buffer);
    return value && put_value(w, value, macro);
}

static bool expand(const char *text, size_t len, const struct spf_macro_values *values,
                   struct writer *w)
{
    struct macro macro;

    for (size_t i = 0; i < len;) {
        size_t step = 1;
        if (text[i] == '%') {
            step = read_macro(text + i, len - i, SPF_IN_EXPLANATION, &macro);
            if (step == 0 || !put_macro(w, &macro, values))
                return false;
        } else {
            put_char(w, text[i]);
        }
        if (w->full)
            return false;
        i += step;
    }
    w->out[w->used] = '\0';
    return true;
}

bool spf_macro_expand(const char *text, size_t len, const struct spf_macro_values *values,
                      char *out, size_t size)
{
    struct writer w = { .out = out, .size = size };

    return expand(text, len, values, &w);
}

bool spf_macro_domain(const char *spec, size_t len, const struct spf_macro_values *values,
                      char out[SPF_NAME_MAX + 1])
{
    char name[NAME_ROOM];
    struct writer w = { .out = name, .size = sizeof(name), .keep_end = true };

    if (!expand(spec, len, values, &w))
        return false;
    if (w.used > 0 && name[w.used - 1] == '.')
        name[--w.used] = '\0';
    const char *start = name;
    if (w.used > SPF_NAME_MAX) {
        /* The first label boundary from which it fits; a single label that
         * does not fit is no name, and stays one that is none. */
        start = strchr(name + w.used - SPF_NAME_MAX - 1, '.');
        start = start ? start + 1 : name + w.used - SPF_NAME_MAX;
    }
    memcpy(out, start, w.used - (size_t)(start - name) + 1);
    return true;
}
