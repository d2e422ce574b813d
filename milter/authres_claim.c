/*
 * authres_claim: whether an Authentication-Results value claims to be ours.
 *
 * A forger needs no value that parses, only one that some reader takes for
 * ours. So it is not parsed and compared, but read as leniently as anybody
 * might: the beginning of the value without blanks, controls, quotes,
 * backslashes and comments is gathered up to the first byte that no host name
 * has, and compared with our id at each place where a reader may see its end.
 * What comes before (junk, a stray parenthesis) is skipped. So are ours:
 *
 *     mx.example.com; ...    "MX.Example.Com" 1; ...   (a(b)) mx.example.com
 *     mx.example.com         mx.example.com/x; ...     mx . example . com; ...
 *
 * and not mx.example.com.evil.test or xmx.example.com. Comments are read twice:
 * nested with quoted pairs (RFC 5322 3.2.2), and, for simpler readers, up to
 * their first ')'. One that does not end is none. An encoded word where the id
 * belongs is no id at all, but one to a reader that decodes it first: it counts
 * as ours. U-labels equal their A-labels (RFC 8616 6); the id of a reader
 * that takes no 8-bit bytes (RFC 2045 tokens) ends at one.
 *
 * Linear: each reading passes over the value once, what is gathered has a
 * bound, and libidn2 is asked at most twice.
 */
#include <string.h>

#include "addr.h"
#include "authres.h"

#define RUN_MAX 1024 /* longer than any U-label domain, or authserv-id */

struct own {
    char id[RUN_MAX + 1]; /* canonical, or without blanks, quotes, backslashes */
    size_t len;
    bool extra[256]; /* bytes in it besides those of host names */
};

struct reading {
    const struct own *own;
    const char *p, *end;
    bool nested;      /* how comments are read */
    bool no_comments; /* one did not end: '(' is junk from there on */
    bool quoted;
    bool eight_bit; /* the run holds a byte over 127 */
    bool fresh;     /* the run has grown since it was compared */
    bool idn_asked;
    char run[RUN_MAX + 1];
    size_t len;
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool is_blank(char c)
{
    return (unsigned char)c <= ' ' || c == 0x7f;
}

static bool is_host_byte(char c)
{
    c = lower(c);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || (unsigned char)c > 0x7f;
}

/* false: an id that cannot be in any header. */
static bool know_own(struct own *own, const char *id)
{
    size_t len = strlen(id);

    memset(own->extra, 0, sizeof(own->extra));
    own->len = 0;
    if (len <= RUN_MAX && addr_domain(id, len, own->id)) {
        own->len = strlen(own->id);
    } else {
        for (; *id; id++) {
            if (is_blank(*id) || *id == '"' || *id == '\\')
                continue;
            if (own->len == RUN_MAX)
                return false;
            own->id[own->len++] = lower(*id);
        }
        own->id[own->len] = '\0';
    }
    for (size_t i = 0; i < own->len; i++)
        own->extra[(unsigned char)own->id[i]] = !is_host_byte(own->id[i]);
    return own->len > 0;
}

static bool equals(const struct own *own, const char *text, size_t len)
{
    if (len == own->len + 1 && text[len - 1] == '.')
        len--;
    return len == own->len && memcmp(text, own->id, len) == 0;
}

/* Whether the run, if it ends here, is our id. */
static bool is_own(struct reading *r, bool last)
{
    char domain[ADDR_DOMAIN_MAX + 1];

    if (!r->fresh || (r->eight_bit && r->idn_asked && !last))
        return false;
    r->fresh = false;
    if (equals(r->own, r->run, r->len))
        return true;
    if (!r->eight_bit)
        return false;
    r->idn_asked = true;
    return addr_domain(r->run, r->len, domain) && equals(r->own, domain, strlen(domain));
}

/* p is behind a '('. Its end, or NULL: there is none. */
static const char *skip_comment(const char *p, const char *end, bool nested)
{
    size_t depth = 1;

    for (; p < end; p++) {
        if (*p == '\\' && nested)
            p++;
        else if (*p == '(' && nested)
            depth++;
        else if (*p == ')' && --depth == 0)
            return p + 1;
    }
    return NULL;
}

enum step { STEP_ON, STEP_OURS, STEP_NOT_OURS };

static enum step take(struct reading *r, char c)
{
    bool eight_bit = (unsigned char)c > 0x7f;

    if (r->len == RUN_MAX)
        return STEP_NOT_OURS;
    if (eight_bit && r->len == r->own->len && is_own(r, false))
        return STEP_OURS;
    r->run[r->len++] = lower(c);
    r->run[r->len] = '\0';
    r->eight_bit = r->eight_bit || eight_bit;
    r->fresh = true;
    return STEP_ON;
}

/* A byte that belongs to no id: junk before it, or its end. */
static enum step take_other(struct reading *r, char c)
{
    if (r->len > 0)
        return is_own(r, true) ? STEP_OURS : STEP_NOT_OURS;
    return c == '=' && r->p < r->end && *r->p == '?' ? STEP_OURS : STEP_ON;
}

static enum step step(struct reading *r)
{
    char c = *r->p++;
    bool pair = c == '\\' && r->p < r->end;

    if (c == '\\' && is_own(r, false))
        return STEP_OURS;
    if (pair)
        c = *r->p++;
    else if (c == '(' && !r->quoted && !r->no_comments) {
        const char *behind = skip_comment(r->p, r->end, r->nested);
        r->no_comments = !behind;
        if (behind) {
            r->p = behind;
            return is_own(r, false) ? STEP_OURS : STEP_ON;
        }
    }
    if (c == '"' && !pair)
        r->quoted = !r->quoted;
    if (is_blank(c) || c == '"' || c == '\\')
        return is_own(r, false) ? STEP_OURS : STEP_ON;
    if (is_host_byte(c) || r->own->extra[(unsigned char)lower(c)])
        return take(r, c);
    return take_other(r, c);
}

static bool read_as_ours(const struct own *own, const char *value, size_t len,
                         bool nested)
{
    struct reading r = { .own = own, .p = value, .end = value + len, .nested = nested };

    while (r.p < r.end) {
        enum step outcome = step(&r);
        if (outcome != STEP_ON)
            return outcome == STEP_OURS;
    }
    return is_own(&r, true);
}

bool authres_is_ours(const char *value, size_t len, const char *authserv_id)
{
    struct own own;

    if (!know_own(&own, authserv_id))
        return false;
    return read_as_ours(&own, value, len, true) ||
           (memchr(value, '(', len) && read_as_ours(&own, value, len, false));
}
