/*
 * sigfield: the tags of a DKIM-Signature field, each by a function of its own
 * (the table "readers"), in the order of RFC 6376 3.5. The first that objects
 * decides, but the texts for the report are read from all of them.
 *
 * Results, where the RFCs leave a choice (RFC 6376 6.1.1, RFC 8601 2.7.1):
 *   permerror  what is malformed, missing, unknown or over a limit
 *   policy     rsa-sha1 (RFC 8301 3.1); t= further in the future than clocks
 *              may differ
 *   fail       x= is past ("signature expired")
 *
 * Permerror is also the answer to what libopendkim 2.11 would read in another
 * way than RFC 6376 has it, since a wrong result would be worse:
 *   - it takes the value of any tag whose name ends in "b" out of the signed
 *     text, and that of b= not when white space precedes its "="
 *   - to it, tag names that differ in case alone are one tag
 *   - it believes a time below its allowance for clocks to be in the future
 */
#include "sigfield.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "taglist.h"

#define NAME_MAX_LEN 253
#define LENGTH_MAX   ((int64_t)1 << 50) /* no body is as long */
/* <selector>._domainkey.<domain> */
#define KEY_NAME_MAX_LEN (NAME_MAX_LEN - (int)sizeof("._domainkey.") + 1)

static bool is_fws(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
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

/* ---- pieces -------------------------------------------------------------- */

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

long sigfield_base64(const char *text, size_t len, unsigned char *out, size_t size)
{
    uint32_t bits = 0;
    size_t digits = 0, padding = 0, used = 0;

    for (size_t i = 0; i < len; i++) {
        if (is_fws(text[i]))
            continue;
        if (text[i] == '=') {
            padding++;
            continue;
        }
        int digit = base64_digit(text[i]);
        if (digit < 0 || padding > 0)
            return -1;
        bits = bits << 6 | (uint32_t)digit;
        if (++digits % 4 == 1)
            continue;
        if (used == size)
            return -1;
        out[used++] = (unsigned char)(bits >> (6 - 2 * ((digits - 1) % 4)));
    }
    if ((digits + padding) % 4 != 0 || padding > 2)
        return -1;
    return (long)used;
}

/* At least two labels when it is a domain (RFC 5321 Domain), one is enough for a
 * selector. An underscore is not allowed there, but in use. */
static bool read_name(const struct tag *tag, size_t labels_min, char out[254])
{
    size_t label = 0, labels = 1;

    if (tag->value_len > NAME_MAX_LEN)
        return false;
    for (size_t i = 0; i < tag->value_len; i++) {
        char c = tag->value[i];
        if (c == '.' && label > 0) {
            label = 0;
            labels++;
        } else if ((is_alnum(c) || c == '_' || c == '-') && label < 63) {
            label++;
        } else {
            return false;
        }
        out[i] = lower(c);
    }
    out[tag->value_len] = '\0';
    return label > 0 && labels >= labels_min;
}

/* Copies without white space, no more than size - 1; false: there was more. */
static bool squeeze(const struct tag *tag, char *out, size_t size)
{
    size_t used = 0;

    for (size_t i = 0; i < tag->value_len; i++) {
        if (is_fws(tag->value[i]))
            continue;
        if (used == size - 1) {
            out[used] = '\0';
            return false;
        }
        out[used++] = tag->value[i];
    }
    out[used] = '\0';
    return true;
}

static bool tag_is(const struct tag *tag, const char *text)
{
    return tag->value_len == strlen(text) &&
           strncasecmp(tag->value, text, tag->value_len) == 0;
}

/* Digits alone; what would be over limit is limit. */
static bool read_number(const struct tag *tag, int64_t limit, int64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < tag->value_len; i++) {
        char c = tag->value[i];
        if (c < '0' || c > '9')
            return false;
        *out = *out > (limit - (c - '0')) / 10 ? limit : *out * 10 + (c - '0');
    }
    return tag->value_len > 0 && tag->value_len <= 76;
}

/* ---- the tags --------------------------------------------------------------- */

struct reading {
    struct sigfield *out;
    const struct taglist *list;
    const char *value;
    int64_t now;
};

static bool object(struct reading *r, enum auth_result result, const char *reason)
{
    if (r->out->result == AUTH_NONE) {
        r->out->result = result;
        snprintf(r->out->reason, sizeof(r->out->reason), "%s", reason);
    }
    return false;
}

static bool bad(struct reading *r, const char *reason)
{
    return object(r, AUTH_PERMERROR, reason);
}

static bool read_version(struct reading *r, const struct tag *tag)
{
    return tag_is(tag, "1") || bad(r, "unknown version in v=");
}

static bool read_algorithm(struct reading *r, const struct tag *tag)
{
    if (!squeeze(tag, r->out->algorithm, sizeof(r->out->algorithm)))
        r->out->algorithm[0] = '\0';
    r->out->ed25519 = tag_is(tag, "ed25519-sha256");
    if (tag_is(tag, "rsa-sha1"))
        return object(r, AUTH_POLICY, "rsa-sha1 is not accepted");
    return r->out->ed25519 || tag_is(tag, "rsa-sha256") ||
           bad(r, "unknown algorithm in a=");
}

static bool read_signature(struct reading *r, const struct tag *tag)
{
    squeeze(tag, r->out->b_text, sizeof(r->out->b_text));
    long n = sigfield_base64(tag->value, tag->value_len, r->out->b, SIGFIELD_B_MAX);
    if (n <= 0)
        return bad(r, tag->value_len ? "b= is not base64" : "b= is empty");
    r->out->b_len = (size_t)n;
    return true;
}

static bool read_body_hash(struct reading *r, const struct tag *tag)
{
    long n = sigfield_base64(tag->value, tag->value_len, r->out->bh, SIGFIELD_BH_LEN);
    return n == SIGFIELD_BH_LEN || bad(r, "bh= is not the base64 of a SHA-256 hash");
}

static bool read_canonicalisation(struct reading *r, const struct tag *tag)
{
    static const struct {
        const char *text;
        bool header, body;
    } forms[] = {
        { "simple", false, false },        { "relaxed", true, false },
        { "simple/simple", false, false }, { "simple/relaxed", false, true },
        { "relaxed/simple", true, false }, { "relaxed/relaxed", true, true },
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (tag_is(tag, forms[i].text)) {
            r->out->relaxed_header = forms[i].header;
            r->out->relaxed_body = forms[i].body;
            return true;
        }
    return bad(r, "unknown canonicalisation in c=");
}

static bool read_domain(struct reading *r, const struct tag *tag)
{
    if (read_name(tag, 2, r->out->domain))
        return true;
    r->out->domain[0] = '\0';
    return bad(r, "d= is not a domain name");
}

static bool read_selector(struct reading *r, const struct tag *tag)
{
    bool ok = read_name(tag, 1, r->out->selector);
    if (!ok)
        r->out->selector[0] = '\0';
    if (!ok || strlen(r->out->selector) + strlen(r->out->domain) > KEY_NAME_MAX_LEN)
        return bad(r, "s= is not a selector");
    return true;
}

static bool read_field_names(struct reading *r, const struct tag *tag)
{
    const char *text = tag->value, *end = text + tag->value_len;
    bool from = false;

    if (tag->value_len > SIGFIELD_H_MAX)
        return bad(r, "h= names too many fields");
    for (;; text++) { /* past the ':' */
        while (text < end && is_fws(*text))
            text++;
        const char *start = text;
        while (text < end && *text != ':' && !is_fws(*text))
            text++;
        size_t len = (size_t)(text - start);
        while (text < end && is_fws(*text))
            text++;
        if (len == 0 || (text < end && *text != ':'))
            return bad(r, "h= is malformed");
        if (r->out->name_count == SIGFIELD_NAMES_MAX)
            return bad(r, "h= names too many fields");
        r->out->names[r->out->name_count++] =
            (struct sigfield_name){ (size_t)(start - r->value), len };
        from = from || (len == 4 && strncasecmp(start, "from", 4) == 0);
        if (text == end)
            return from || bad(r, "h= does not name From");
    }
}

/* i= is quoted-printable; its domain is d= or below it (RFC 6376 3.5). */
static bool read_identity(struct reading *r, const struct tag *tag)
{
    struct sigfield *out = r->out;

    if (!squeeze(tag, out->identity, sizeof(out->identity)))
        return bad(r, "i= is too long");
    const char *at = strrchr(out->identity, '@');
    if (!at)
        return bad(r, "i= has no domain");
    size_t len = strlen(at + 1), domain_len = strlen(out->domain);
    out->subdomain = len != domain_len;
    if (len < domain_len || strcasecmp(at + 1 + (len - domain_len), out->domain) != 0 ||
        (out->subdomain && (at[len - domain_len] != '.' || at[1] == '.')))
        return bad(r, "the domain of i= is not that of d= or below it");
    /* libopendkim takes the first '@'. */
    return at == strchr(out->identity, '@') || bad(r, "i= is malformed");
}

static bool read_length(struct reading *r, const struct tag *tag)
{
    if (!read_number(tag, LENGTH_MAX, &r->out->length))
        return bad(r, "l= is no number");
    return r->out->length < LENGTH_MAX || bad(r, "l= is more than the body has");
}

/* A list of methods; others than dns/txt are passed over. */
static bool read_query(struct reading *r, const struct tag *tag)
{
    const char *text = tag->value, *end = text + tag->value_len;

    while (text < end) {
        while (text < end && (is_fws(*text) || *text == ':'))
            text++;
        const char *start = text;
        while (text < end && *text != ':' && !is_fws(*text))
            text++;
        if (text - start == 7 && strncasecmp(start, "dns/txt", 7) == 0)
            return true;
    }
    return bad(r, "no known method in q=");
}

static bool read_times(struct reading *r)
{
    const struct tag *t = taglist_find(r->list, "t"), *x = taglist_find(r->list, "x");
    int64_t made = 0, expires = 0;

    if (t && (!read_number(t, INT64_MAX / 4, &made) || made < SIGFIELD_DRIFT))
        return bad(r, "t= is no time");
    if (x && !read_number(x, INT64_MAX / 4, &expires))
        return bad(r, "x= is no time");
    if (t && x && expires <= made)
        return bad(r, "x= is not after t=");
    if (x && expires + SIGFIELD_DRIFT <= r->now)
        return object(r, AUTH_FAIL, "signature expired");
    if (t && made > r->now + SIGFIELD_DRIFT)
        return object(r, AUTH_POLICY, "signed in the future");
    return true;
}

/* ---- what libopendkim would misread ------------------------------------------ */

static bool same_but_case(const struct tag *a, const struct tag *b)
{
    return a->name_len == b->name_len && strncasecmp(a->name, b->name, a->name_len) == 0;
}

static bool check_reading(struct reading *r)
{
    const struct taglist *list = r->list;

    for (size_t i = 0; i < list->count; i++) {
        const struct tag *tag = &list->tags[i];
        char last = tag->name[tag->name_len - 1];
        for (size_t j = 0; j < i; j++)
            if (same_but_case(tag, &list->tags[j]))
                return bad(r, "tag names that differ in case alone");
        if (tag->name_len > 1 && last == 'b')
            return bad(r, "an unknown tag whose name ends in b");
        if (tag->name_len == 1 && last == 'b' && tag->name[1] != '=')
            return bad(r, "white space between b and =");
    }
    return true;
}

/* ---- the field --------------------------------------------------------------- */

static const struct {
    const char *name;
    bool required;
    bool (*read)(struct reading *r, const struct tag *tag);
} readers[] = {
    { "v", true, read_version },           { "a", true, read_algorithm },
    { "b", true, read_signature },         { "bh", true, read_body_hash },
    { "c", false, read_canonicalisation }, { "d", true, read_domain },
    { "h", true, read_field_names },       { "i", false, read_identity },
    { "l", false, read_length },           { "q", false, read_query },
    { "s", true, read_selector },
};

static void read_tags(struct reading *r)
{
    for (size_t i = 0; i < sizeof(readers) / sizeof(readers[0]); i++) {
        const struct tag *tag = taglist_find(r->list, readers[i].name);
        char reason[32];
        if (tag) {
            readers[i].read(r, tag);
        } else if (readers[i].required) {
            int n = snprintf(reason, sizeof(reason), "%s= is missing", readers[i].name);
            bad(r, n > 0 && (size_t)n < sizeof(reason) ? reason : "a tag is missing");
        }
    }
}

void sigfield_parse(const char *value, size_t len, int64_t now, struct sigfield *out)
{
    struct taglist list;
    struct reading r = { out, &list, value, now };
    const char *why = NULL;

    memset(out, 0, offsetof(struct sigfield, bh));
    out->b_len = out->name_count = 0;
    out->result = AUTH_NONE;
    out->length = -1;
    if (len > SIGFIELD_MAX) {
        bad(&r, "the field is too long");
        return;
    }
    if (!taglist_parse(value, len, &list, &why)) {
        out->result = AUTH_PERMERROR;
        snprintf(out->reason, sizeof(out->reason), "malformed: %s", why);
    }
    read_tags(&r); /* also for the texts of a malformed one */
    if (out->ed25519 && out->b_len > 0 && out->b_len != 64)
        bad(&r, "b= is not an Ed25519 signature");
    if (out->result == AUTH_NONE && check_reading(&r))
        read_times(&r);
}
