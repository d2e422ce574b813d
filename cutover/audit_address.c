/*
 * audit_address: which mailbox an address in a log stands for. The answers for the
 * domains, and for the last addresses, are remembered: a log names the same ones again
 * and again.
 */
#include "audit_address.h"

#include <stdio.h>
#include <stdlib.h>

#include "audit_ledger.h"
#include "route.h"
#include "table.h"

#define DOMAINS_KNOWN_MAX 65536 /* domains whose being managed or not is remembered */
#define ADDRESSES_KNOWN   4096  /* places for the last mailboxes, by hash */
#define ADDRESS_KNOWN_MAX 124   /* longer ones are not remembered */

/* Small, since it is the processor's cache that makes the difference. */
struct known_address {
    uint16_t hash;                /* upper bits of it */
    uint8_t len;                  /* of the address; 0: none */
    uint8_t mailbox;              /* where it begins in text: 0 where it is the address */
    char text[ADDRESS_KNOWN_MAX]; /* address NUL, or address NUL mailbox NUL */
};

struct audit_address {
    const struct conf *conf;
    struct table *domains; /* as logged -> a letter, see domain_kind() */
    struct known_address *addresses;
    char last[64]; /* the domain asked for last */
    size_t last_len;
    char last_kind;
};

struct audit_address *audit_address_new(const struct conf *conf)
{
    struct audit_address *address = calloc(1, sizeof(*address));
    if (!address)
        return NULL;
    address->conf = conf;
    address->domains = table_new();
    address->addresses = calloc(ADDRESSES_KNOWN, sizeof(struct known_address));
    if (!address->domains || !address->addresses) {
        audit_address_free(address);
        return NULL;
    }
    return address;
}

void audit_address_free(struct audit_address *address)
{
    if (!address)
        return;
    table_free(address->domains);
    free(address->addresses);
    free(address);
}

/* 'M': managed, and named as the configuration has it; 'm': managed; 'r': mailboxes
 * are redirected to it; '-': neither. */
static char domain_kind(struct audit_address *address, const char *text, size_t len)
{
    char name[ADDR_DOMAIN_MAX + 1], kind = '-';
    const char *known;
    if (len == address->last_len && memcmp(text, address->last, len) == 0)
        return address->last_kind;
    known = table_get(address->domains, text, len, NULL);
    if (known) {
        if (len <= sizeof(address->last)) {
            memcpy(address->last, text, len);
            address->last_len = len;
            address->last_kind = known[0];
        }
        return known[0];
    }
    if (addr_domain(text, len, name)) {
        const struct conf_domain *domain = conf_managed(address->conf, name);
        if (domain)
            kind = strlen(domain->name) == len && memcmp(domain->name, text, len) == 0
                       ? 'M'
                       : 'm';
        else if (conf_redirects_to(address->conf, name))
            kind = 'r';
    }
    if (table_count(address->domains) < DOMAINS_KNOWN_MAX)
        (void)table_put(address->domains, text, len, &kind, 1);
    return kind;
}

static char kind_of(struct audit_address *address, struct log_slice text)
{
    const char *at = memrchr(text.text, '@', text.len);
    if (!at || text.len > 4 * ADDR_TEXT_MAX)
        return '-';
    at++;
    return domain_kind(address, at, (size_t)(text.text + text.len - at));
}

/* sluice-milter writes what could forge a line as \xHH (lib/log.h). */
static size_t unescape(struct log_slice in, char *out, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < in.len && n < size; i++) {
        unsigned byte;
        char hex[3] = "";
        if (in.len - i >= 4 && in.text[i] == '\\' && in.text[i + 1] == 'x') {
            memcpy(hex, in.text + i + 2, 2);
            if (sscanf(hex, "%2x", &byte) == 1 &&
                strspn(hex, "0123456789abcdefABCDEF") == 2) {
                out[n++] = (char)byte;
                i += 3;
                continue;
            }
        }
        out[n++] = in.text[i];
    }
    return n;
}

static bool parse_mailbox(struct audit_address *address, struct log_slice text,
                          char out[ADDR_TEXT_MAX + 1])
{
    struct route route;
    char plain[4 * ADDR_TEXT_MAX];
    if (memchr(text.text, '(', text.len) || memmem(text.text, text.len, "\\\\", 2)) {
        size_t len = log_event_plain(text, plain, sizeof(plain));
        text = (struct log_slice){ plain, len };
    } else if (memchr(text.text, '\\', text.len)) {
        size_t len = unescape(text, plain, sizeof(plain));
        text = (struct log_slice){ plain, len };
    }
    if (!route_prepare(address->conf, text.text, text.len, &route))
        return false;
    route_address(&route, out);
    return true;
}

static void remember(struct known_address *known, uint64_t hash, struct log_slice text,
                     const char *mailbox)
{
    size_t len = strlen(mailbox);
    bool same = len == text.len && memcmp(mailbox, text.text, len) == 0;
    if (text.len + 1 + (same ? 0 : len + 1) > sizeof(known->text) ||
        memchr(text.text, '\0', text.len))
        return;
    known->hash = (uint16_t)(hash >> 48);
    known->len = (uint8_t)text.len;
    known->mailbox = same ? 0 : (uint8_t)(text.len + 1);
    memcpy(known->text, text.text, text.len);
    known->text[text.len] = '\0';
    if (!same)
        memcpy(known->text + known->mailbox, mailbox, len + 1);
}

/* Whether a local part is one that addr_parse() and addr_format() leave as it is. */
static bool is_plain(const char *p, size_t len)
{
    bool dot = true;
    if (len > ADDR_LOCAL_MAX)
        return false;
    for (const char *end = p + len; p < end; p++) {
        char c = *p;
        if (c == '.' && dot)
            return false;
        dot = c == '.';
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
              c == '+' || c == '.'))
            return false;
    }
    return !dot;
}

bool audit_address_mailbox(struct audit_address *address, struct log_slice text,
                           char out[ADDR_TEXT_MAX + 1])
{
    char local[ADDR_LOCAL_MAX + sizeof("@localhost")];
    if (is_plain(text.text, text.len)) { /* Sendmail's: log_event_next_to() */
        int n = snprintf(local, sizeof(local), "%.*s@localhost", (int)text.len, text.text);
        if (n < 0 || (size_t)n >= sizeof(local))
            return false;
        text = (struct log_slice){ local, (size_t)n };
    }
    char kind = kind_of(address, text);
    if (kind != 'M' && kind != 'm')
        return false;
    const char *at = memrchr(text.text, '@', text.len);
    if (kind == 'M' && is_plain(text.text, (size_t)(at - text.text))) {
        memcpy(out, text.text, text.len);
        out[text.len] = '\0';
        return true;
    }
    uint64_t hash = ledger_hash(text.text, text.len);
    struct known_address *known = &address->addresses[hash % ADDRESSES_KNOWN];
    if (known->len == text.len && text.len > 0 && known->hash == hash >> 48 &&
        memcmp(known->text, text.text, text.len) == 0) {
        const char *mailbox = known->text + known->mailbox;
        memcpy(out, mailbox, strlen(mailbox) + 1);
        return true;
    }
    if (!parse_mailbox(address, text, out))
        return false;
    remember(known, hash, text, out);
    return true;
}

bool audit_address_redirects_to(struct audit_address *address, struct log_slice text)
{
    return kind_of(address, text) == 'r';
}
