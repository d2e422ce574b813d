/*
 * authres: Authentication-Results and Received-SPF, written.
 *
 * The grammar is that of RFC 8601 2.2. A value stands as it is where that is
 * allowed (a token of RFC 2045 5.1, or local-part@domain of dots and atoms) and
 * as a quoted-string otherwise; header.b with a slash, local parts in quotes,
 * address literals are such. In a quoted-string '"' and '\' are escaped, UTF-8
 * stays (RFC 6532), and each control or byte that is no UTF-8 becomes '?'.
 * Domains are written as A-labels. Properties are those of the IANA registry
 * "Email Authentication Methods": for DMARC header.from and policy.dmarc (what
 * the domain asks for with this message, after pct and sp); the policy as
 * published is a comment, "(p=reject)".
 *
 * A null sender has no smtp.mailfrom (an empty pvalue is none): its identity is
 * postmaster at the HELO name (RFC 7208 2.4), so smtp.helo tells it.
 *
 * Bounds: an item (one name=value) is below ITEM_MAX bytes, so that a line that
 * cannot be folded stays below 998. A sender too long for that is told by its
 * domain alone. With many signatures of long names each is still told, but
 * without selector, identity and reason where these exceed its share of
 * SIGNATURES_TEXT.
 */
#include "authres.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"

#define LINE_COLUMNS    77
#define TAB_COLUMNS     8
#define ITEM_MAX        960
#define SIGNATURES_TEXT 12288

/* ---- the text that grows ------------------------------------------------- */

struct text {
    char *bytes;
    size_t len, size;
    size_t column;
    bool line_begins; /* nothing but its TAB so far */
    bool failed;      /* no memory */
};

static void put(struct text *text, const char *bytes, size_t len)
{
    if (text->failed)
        return;
    if (text->size - text->len <= len) {
        size_t size = (text->size + len) * 2 + 256;
        char *grown = realloc(text->bytes, size);
        if (!grown) {
            text->failed = true;
            return;
        }
        text->bytes = grown;
        text->size = size;
    }
    memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
    text->bytes[text->len] = '\0';
    text->column += len;
    text->line_begins = false;
}

static void new_line(struct text *text)
{
    put(text, "\n\t", 2);
    text->column = TAB_COLUMNS;
    text->line_begins = true;
}

static char *finish(struct text *text)
{
    if (!text->failed)
        return text->bytes;
    free(text->bytes);
    return NULL;
}

/* ---- one item: "name=value", or a comment -------------------------------- */

struct item {
    char bytes[ITEM_MAX];
    size_t len;
    bool full; /* something did not fit: the item is not to be written */
};

static void add(struct item *item, const char *bytes, size_t len)
{
    if (item->full || len >= sizeof(item->bytes) - item->len) {
        item->full = true;
        return;
    }
    memcpy(item->bytes + item->len, bytes, len);
    item->len += len;
}

static void begin(struct item *item, const char *name)
{
    item->len = 0;
    item->full = false;
    add(item, name, strlen(name));
    add(item, "=", 1);
}

/* The length of the UTF-8 character at text that may stand in a header, or 0: no
 * UTF-8 (RFC 3629), or a C1 control. */
static size_t utf8_length(const char *text)
{
    const unsigned char *b = (const unsigned char *)text;
    size_t len = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2;

    if (b[0] < 0xc2 || b[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    bool odd = (b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) ||
               (b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] > 0x8f) ||
               (b[0] == 0xc2 && b[1] < 0xa0);
    return odd ? 0 : len;
}

static void add_quoted(struct item *item, const char *value)
{
    add(item, "\"", 1);
    for (const char *p = value; *p; p++) {
        unsigned char c = (unsigned char)*p;
        size_t len = c > 0x7f ? utf8_length(p) : 1;
        if (c < 0x20 || c == 0x7f || len == 0) {
            add(item, "?", 1);
            continue;
        }
        if (c == '"' || c == '\\')
            add(item, "\\", 1);
        add(item, p, len);
        p += len - 1;
    }
    add(item, "\"", 1);
}

static bool is_ascii(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text > 0x7f)
            return false;
    return true;
}

/* RFC 2045 5.1. */
static bool is_token(const char *text)
{
    if (!*text)
        return false;
    for (; *text; text++)
        if (*text <= ' ' || *text >= 0x7f || strchr("()<>@,;:\\\"/[]?=", *text))
            return false;
    return true;
}

static void add_value(struct item *item, const char *value)
{
    if (is_token(value))
        add(item, value, strlen(value));
    else
        add_quoted(item, value);
}

/* domain-name of RFC 6376 3.5: two labels or more, letters, digits, '-'. */
static bool is_domain_name(const char *text)
{
    bool dot = false;
    char before = '.';

    for (; *text; before = *text++) {
        bool edge = before == '.' || text[1] == '.' || text[1] == '\0';
        bool alnum = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
                     (*text >= '0' && *text <= '9');
        if (!alnum && (*text != '-' || edge) && (*text != '.' || before == '.'))
            return false;
        dot = dot || *text == '.';
    }
    return dot && before != '.';
}

/* A domain, or what stands for one: A-labels where it is a name at all. */
static void add_domain(struct item *item, const char *value)
{
    char domain[ADDR_DOMAIN_MAX + 1];
    bool name = !is_ascii(value) && addr_domain(value, strlen(value), domain);
    add_value(item, name ? domain : value);
}

/* An address: as it is where RFC 8601 has it so, in quotes otherwise. */
static void add_address(struct item *item, const char *address)
{
    char domain[ADDR_DOMAIN_MAX + 1], local[ITEM_MAX];
    const char *at = strrchr(address, '@');
    size_t len = at ? (size_t)(at - address) : 0;

    if (!at) {
        add_domain(item, address);
        return;
    }
    if (len >= sizeof(local)) {
        item->full = true;
        return;
    }
    memcpy(local, address, len);
    local[len] = '\0';
    const char *name = at + 1;
    if (!is_ascii(name) && addr_domain(name, strlen(name), domain))
        name = domain;
    if ((len == 0 || (is_ascii(local) && addr_is_dot_string(local))) &&
        is_domain_name(name)) {
        add(item, address, len + 1);
        add(item, name, strlen(name));
        return;
    }
    char *whole = malloc(len + strlen(name) + 2);
    if (!whole) {
        item->full = true;
        return;
    }
    memcpy(whole, address, len + 1);
    memcpy(whole + len + 1, name, strlen(name) + 1);
    add_quoted(item, whole);
    free(whole);
}

/* ---- items into lines ---------------------------------------------------- */

/* A space in an item is inside of quotes or of a comment, where a line may be
 * folded before it; never so that a line of blanks comes to be. */
static void put_words(struct text *text, const char *bytes, size_t len)
{
    size_t start = 0;

    for (size_t i = 0; i <= len; i++) {
        if (i < len && bytes[i] != ' ')
            continue;
        if (start > 0) {
            bool fold = text->column + 1 + (i - start) > LINE_COLUMNS && i > start &&
                        bytes[start - 2] != ' ';
            if (fold) {
                put(text, "\n", 1);
                text->column = 0;
            }
            put(text, " ", 1);
        }
        put(text, bytes + start, i - start);
        start = i + 1;
    }
}

static void put_item(struct text *text, const struct item *item)
{
    if (item->full)
        return;
    if (text->column + 1 + item->len > LINE_COLUMNS && !text->line_begins)
        new_line(text);
    else if (!text->line_begins)
        put(text, " ", 1);
    put_words(text, item->bytes, item->len);
}

static void put_value(struct text *text, const char *name, const char *value)
{
    struct item item;

    if (!value[0])
        return;
    begin(&item, name);
    add_domain(&item, value);
    put_item(text, &item);
}

static void put_quoted(struct text *text, const char *name, const char *value)
{
    struct item item;

    if (!value[0])
        return;
    begin(&item, name);
    add_quoted(&item, value);
    put_item(text, &item);
}

__attribute__((format(printf, 2, 3))) static void put_comment(struct text *text,
                                                              const char *format, ...)
{
    struct item item = { .len = 0 };
    char words[128];
    va_list args;

    va_start(args, format);
    int len = vsnprintf(words, sizeof(words), format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(words))
        return;
    add(&item, "(", 1);
    add(&item, words, (size_t)len);
    add(&item, ")", 1);
    put_item(text, &item);
}

/* The address, or its domain alone where the whole is too long for a line. */
static void put_address(struct text *text, const char *name, const char *address)
{
    struct item item;

    if (!address[0])
        return;
    begin(&item, name);
    add_address(&item, address);
    const char *at = strrchr(address, '@');
    if (item.full && at) {
        begin(&item, name);
        add_domain(&item, at + 1);
    }
    put_item(text, &item);
}

/* ---- the results --------------------------------------------------------- */

static void put_result(struct text *text, const char *method, enum auth_result result)
{
    put(text, ";", 1);
    new_line(text);
    put(text, method, strlen(method));
    put(text, "=", 1);
    const char *name = auth_result_name(result);
    put(text, name, strlen(name));
}

static void put_spf(struct text *text, const struct authres_facts *facts)
{
    bool null_sender = facts->mail_from[0] == '\0';

    if (facts->spf) {
        put_result(text, "spf", facts->spf->result);
        put_quoted(text, "reason", facts->spf->reason);
        if (null_sender)
            put_value(text, "smtp.helo", facts->helo);
        else
            put_address(text, "smtp.mailfrom", facts->mail_from);
    }
    /* For a null sender both are the same identity. */
    if (facts->spf_helo && !(facts->spf && null_sender)) {
        put_result(text, "spf", facts->spf_helo->result);
        put_quoted(text, "reason", facts->spf_helo->reason);
        put_value(text, "smtp.helo", facts->helo);
    }
}

static bool identity_differs(const struct signature *signature)
{
    const char *identity = signature->identity;
    return identity[0] &&
           !(identity[0] == '@' && strcasecmp(identity + 1, signature->domain) == 0);
}

static void put_signature(struct text *text, const struct signature *signature,
                          size_t share)
{
    bool whole = strlen(signature->domain) + strlen(signature->selector) +
                     strlen(signature->identity) + strlen(signature->reason) <=
                 share;

    put_result(text, "dkim", signature->result);
    if (signature->key_bits > 0)
        put_comment(text, "%u-bit key%s", signature->key_bits,
                    signature->secure ? ", DNSSEC" : "");
    if (whole)
        put_quoted(text, "reason", signature->reason);
    put_value(text, "header.d", signature->domain);
    if (whole && identity_differs(signature))
        put_address(text, "header.i", signature->identity);
    if (whole)
        put_value(text, "header.s", signature->selector);
    put_value(text, "header.a", signature->algorithm);
    put_value(text, "header.b", signature->b);
}

static void put_dkim(struct text *text, const struct authres_facts *facts)
{
    if (facts->count == 0 && facts->beyond == 0)
        put_result(text, "dkim", AUTH_NONE);
    for (size_t i = 0; i < facts->count; i++)
        put_signature(text, &facts->signatures[i], SIGNATURES_TEXT / facts->count);
    if (facts->beyond > 0) {
        char reason[64];
        int len = snprintf(reason, sizeof(reason), "%zu more signature%s not looked at",
                           facts->beyond, facts->beyond == 1 ? "" : "s");
        put_result(text, "dkim", AUTH_POLICY);
        if (len > 0 && (size_t)len < sizeof(reason))
            put_quoted(text, "reason", reason);
    }
}

static void put_dmarc(struct text *text, const struct dmarc_outcome *dmarc)
{
    put_result(text, "dmarc", dmarc->result);
    if (dmarc->policy_tag && dmarc->policy_tag[0])
        put_comment(text, "%s=%s", dmarc->policy_tag, dmarc_policy_name(dmarc->policy));
    put_quoted(text, "reason", dmarc->reason);
    if (dmarc->result == AUTH_FAIL ||
        (dmarc->result == AUTH_PERMERROR && dmarc->disposition != DMARC_NONE))
        put_value(text, "policy.dmarc", dmarc_policy_name(dmarc->disposition));
    put_value(text, "header.from", dmarc->from);
}

static void put_authserv_id(struct text *text, const char *id)
{
    struct item item = { .len = 0 };

    add_value(&item, id);
    put_words(text, item.bytes, item.len);
}

char *authres_write(const struct authres_facts *facts)
{
    struct text text = { .column = sizeof(AUTHRES_HEADER ": ") - 1 };

    put_authserv_id(&text, facts->authserv_id);
    size_t id_len = text.len;
    put_spf(&text, facts);
    if (facts->dkim)
        put_dkim(&text, facts);
    if (facts->dmarc)
        put_dmarc(&text, facts->dmarc);
    if (text.len == id_len)
        put(&text, "; none", 6);
    return finish(&text);
}

/* ---- Received-SPF -------------------------------------------------------- */

/* key-value-pair of RFC 7208 9.1: a dot-atom or a quoted-string. */
static void put_pair(struct text *text, const char *key, const char *value)
{
    struct item item;

    if (!value || !value[0])
        return;
    begin(&item, key);
    if (is_ascii(value) && addr_is_dot_string(value))
        add(&item, value, strlen(value));
    else
        add_quoted(&item, value);
    add(&item, ";", 1);
    put_item(text, &item);
}

char *authres_received_spf(const struct authres_facts *facts, const char *client,
                           const char *receiver)
{
    struct text text = { .column = sizeof(RECEIVED_SPF_HEADER ": ") - 1 };
    bool of_sender = facts->spf && facts->mail_from[0];
    const struct spf_outcome *outcome = facts->spf ? facts->spf : facts->spf_helo;

    if (!outcome)
        return NULL;
    const char *result = auth_result_name(outcome->result);
    put(&text, result, strlen(result));
    put_pair(&text, "receiver", receiver);
    put_pair(&text, "client-ip", client);
    if (of_sender)
        put_pair(&text, "envelope-from", facts->mail_from);
    put_pair(&text, "helo", facts->helo);
    put_pair(&text, "identity", of_sender ? "mailfrom" : "helo");
    put_pair(&text, "mechanism", outcome->mechanism);
    if (outcome->result == AUTH_TEMPERROR || outcome->result == AUTH_PERMERROR)
        put_pair(&text, "problem", outcome->reason);
    return finish(&text);
}
