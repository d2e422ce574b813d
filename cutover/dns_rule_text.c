/*
 * dns_rule_text: DKIM keys (RFC 6376 3.6.1, RFC 8301, RFC 8463) and DMARC records
 * (RFC 7489, RFC 9989).
 */
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "dns_rule.h"
#include "taglist.h"

#define KEY_MAX 4096 /* bytes of a key in base64 */

/* What a tag says, any case. */
static bool tag_is(const struct tag *tag, const char *text)
{
    return tag && tag->value_len == strlen(text) &&
           strncasecmp(tag->value, text, tag->value_len) == 0;
}

/* ---- DKIM ----------------------------------------------------------------- */

/* The bits of a key in base64 (white space in it is fine); 0: it is none. */
static int key_bits(const char *value, size_t len, bool ed25519)
{
    unsigned char text[KEY_MAX], bytes[KEY_MAX];
    size_t used = 0;
    for (size_t i = 0; i < len; i++)
        if (!strchr(" \t\r\n", value[i])) {
            if (used == sizeof(text) - 1)
                return 0;
            text[used++] = (unsigned char)value[i];
        }
    int n = used > 0 && used % 4 == 0 ? EVP_DecodeBlock(bytes, text, (int)used) : -1;
    for (size_t i = used; n > 0 && i > 0 && text[i - 1] == '='; i--)
        n--;
    if (ed25519)
        return n == 32 ? 256 : 0; /* RFC 8463: the bare key */
    const unsigned char *p = bytes;
    EVP_PKEY *key = n > 0 ? d2i_PUBKEY(NULL, &p, n) : NULL;
    int bits = key && EVP_PKEY_base_id(key) == EVP_PKEY_RSA ? EVP_PKEY_bits(key) : 0;
    EVP_PKEY_free(key);
    return bits;
}

static void key_size(struct rules *rules, const char *name, int bits, bool ed25519)
{
    if (ed25519)
        dns_rule_find(rules, "dkim-valid", DNS_RULE_PASS, NULL, "%s: an Ed25519 key",
                      name);
    else if (bits < 1024)
        dns_rule_find(rules, "dkim-size", DNS_RULE_FAIL, "Make a key of 2048 bits.",
                      "%s: the DKIM key has %d bits; receivers ignore less than 1024 "
                      "(RFC 8301)",
                      name, bits);
    else if (bits < 2048)
        dns_rule_find(rules, "dkim-size", DNS_RULE_NOTE, "Make a key of 2048 bits.",
                      "%s: the DKIM key has %d bits; RFC 8301 wants 2048", name, bits);
    else
        dns_rule_find(rules, "dkim-valid", DNS_RULE_PASS, NULL, "%s: a key of %d bits",
                      name, bits);
}

/* Whether a list with colons has one of two words; NULL: it is not there, and so does. */
static bool allows(const struct tag *tag, const char *word, const char *other)
{
    const char *p = tag ? tag->value : NULL;
    const char *end = tag ? tag->value + tag->value_len : NULL;
    while (p && p <= end) {
        const char *colon = memchr(p, ':', (size_t)(end - p));
        const char *last = colon ? colon : end;
        for (; p < last && strchr(" \t\r\n", *p); p++)
            ;
        size_t len = (size_t)(last - p);
        while (len > 0 && strchr(" \t\r\n", p[len - 1]))
            len--;
        const struct tag is = { .value = p, .value_len = len };
        if (tag_is(&is, word) || tag_is(&is, other))
            return true;
        p = last + 1;
    }
    return !tag;
}

/* RFC 6376 3.6.1: h= and s= say what a key is not for. NULL: it is for mail. */
static const char *not_for_mail(const struct taglist *tags)
{
    if (!allows(taglist_find(tags, "h"), "sha256", "sha256"))
        return "h= allows no sha256, and receivers take nothing else (RFC 8301)";
    if (!allows(taglist_find(tags, "s"), "*", "email"))
        return "s= says that it is not for e-mail";
    return NULL;
}

static void dkim_key(struct rules *rules, const char *name, const char *record)
{
    struct taglist tags;
    const char *why = "it has no p= tag";
    if (!taglist_parse(record, strlen(record), &tags, &why) ||
        !taglist_find(&tags, "p")) {
        dns_rule_find(rules, "dkim-valid", DNS_RULE_FAIL,
                      "Copy the record anew from the provider.",
                      "%s: the DKIM record does not parse: %s", name, why);
        return;
    }
    const struct tag *p = taglist_find(&tags, "p"), *v = taglist_find(&tags, "v");
    const struct tag *k = taglist_find(&tags, "k"), *t = taglist_find(&tags, "t");
    bool ed25519 = tag_is(k, "ed25519");
    int bits = key_bits(p->value, p->value_len, ed25519);
    if (v && (!tag_is(v, "DKIM1") || v != tags.tags))
        dns_rule_find(rules, "dkim-valid", DNS_RULE_FAIL, "Begin it with v=DKIM1;",
                      "%s: v= is not DKIM1, or not the first tag (RFC 6376 3.6.1)", name);
    else if (k && !ed25519 && !tag_is(k, "rsa"))
        dns_rule_find(rules, "dkim-valid", DNS_RULE_FAIL, "Make a key of rsa or ed25519.",
                      "%s: k=%.*s is no kind of key that receivers know", name,
                      k->value_len < 40 ? (int)k->value_len : 40, k->value);
    else if (p->value_len == 0)
        dns_rule_find(rules, "dkim-valid", DNS_RULE_FAIL,
                      "Publish the key that signs now.",
                      "%s: the DKIM key is revoked (p= is empty)", name);
    else if (bits == 0)
        dns_rule_find(
            rules, "dkim-valid", DNS_RULE_FAIL, "Copy the record anew from the provider.",
            "%s: the DKIM key cannot be read: it was cut, or changed by hand", name);
    else if ((why = not_for_mail(&tags)) != NULL)
        dns_rule_find(rules, "dkim-valid", DNS_RULE_FAIL, "Take the tag out.",
                      "%s: of the key, %s", name, why);
    else
        key_size(rules, name, bits, ed25519);
    if (t && memchr(t->value, 'y', t->value_len))
        dns_rule_find(rules, "dkim-test", DNS_RULE_NOTE, "Take the t=y out.",
                      "%s: the key says t=y, testing: receivers treat what it signs as "
                      "unsigned",
                      name);
}

/* A planned TXT, or CNAME to the provider's. */
static void dkim_name(struct rules *rules, const struct dns_set *planned)
{
    struct dns_sets sets = { 0 };
    char target[DNSRECORD_NAME_MAX + 1];
    const char *at = planned->name;
    if (planned->type == DNS_CNAME && planned->count > 0 &&
        dns_target(DNS_CNAME, planned->values[0], target))
        at = target;
    enum dns_spf_lookup found = dns_rule_ask(rules, at, DNS_TXT, &sets);
    if (found == DNS_SPF_FOUND && sets.items[0].count == 1)
        dkim_key(rules, planned->name, sets.items[0].values[0]);
    else if (found == DNS_SPF_FAILED)
        dns_rule_find(rules, "dkim-valid", DNS_RULE_UNKNOWN,
                      "Look at the resolvers (dns { resolvers } of sluice.conf).",
                      "%s: the key at %s cannot be asked", planned->name, at);
    else
        dns_rule_find(rules, "dkim-valid", DNS_RULE_FAIL,
                      "Have one TXT record with the key there.", "%s: there %s at %s",
                      planned->name,
                      found == DNS_SPF_ABSENT ? "is no key"
                                              : "are several TXT records, not one key",
                      at);
    dns_sets_free(&sets);
}

void dns_rule_dkim(struct rules *rules)
{
    size_t keys = 0;
    for (size_t i = 0; i < rules->planned->count; i++) {
        const struct dns_set *planned = &rules->planned->items[i];
        if (strstr(planned->name, "._domainkey.") &&
            (planned->type == DNS_TXT || planned->type == DNS_CNAME)) {
            keys++;
            dkim_name(rules, planned);
        }
    }
    if (keys == 0)
        dns_rule_find(rules, "dkim-valid", DNS_RULE_NOTE,
                      "Plan the TXT or CNAME record of the new side's selector.",
                      "no DKIM key is planned: mail of the new side may go unsigned");
}

/* ---- DMARC ---------------------------------------------------------------- */

static const char *const policies[] = { "none", "quarantine",
                                        "reject" }; /* weakest first */

/* Its strength, 0 to 2; -1: it is none. */
static int strength(const struct tag *tag)
{
    for (int i = 0; i < 3; i++)
        if (tag_is(tag, policies[i]))
            return i;
    return -1;
}

struct dmarc {
    struct taglist tags;
    int p, sp; /* strengths; sp is p where it is not said */
};

/* What is wrong with it, or NULL. */
static const char *dmarc_parse(const char *record, struct dmarc *out)
{
    const char *why = NULL;
    if (!taglist_parse(record, strlen(record), &out->tags, &why))
        return why;
    const struct tag *first = out->tags.tags;
    if (out->tags.count == 0 || first->name_len != 1 || first->name[0] != 'v' ||
        first->value_len != 6 || memcmp(first->value, "DMARC1", 6) != 0)
        return "it does not begin with v=DMARC1;";
    const struct tag *sp = taglist_find(&out->tags, "sp");
    out->p = strength(taglist_find(&out->tags, "p"));
    out->sp = sp ? strength(sp) : out->p;
    if (out->p < 0)
        return "p= is missing, or not none, quarantine or reject";
    return out->sp < 0 ? "sp= is not none, quarantine or reject" : NULL;
}

/* The one DMARC record of a set; *count: how many there are. Others do not count where
 * there is one (RFC 7489 6.6.3). */
static const char *one_record(const struct dns_set *set, size_t *count)
{
    const char *record = set && set->count > 0 ? set->values[0] : NULL;
    *count = 0;
    for (size_t i = 0; set && i < set->count; i++)
        if (strncmp(set->values[i], "v=DMARC1", 8) == 0) {
            record = set->values[i];
            (*count)++;
        }
    if (*count == 0 && set)
        *count = set->count;
    return *count == 1 ? record : NULL;
}

/* Planned: what it means, and the tags that are gone (RFC 9989). */
static void dmarc_tags(struct rules *rules, const char *name, const struct dmarc *dmarc)
{
    const struct tag *pct = taglist_find(&dmarc->tags, "pct");
    if (pct)
        dns_rule_find(rules, "dmarc-pct", DNS_RULE_NOTE,
                      "Leave pct= out; t=y says that a policy is only tried.",
                      "%s: pct=%.*s is withdrawn by RFC 9989: newer receivers apply the "
                      "policy to all mail",
                      name, pct->value_len < 8 ? (int)pct->value_len : 8, pct->value);
    if (tag_is(taglist_find(&dmarc->tags, "t"), "y") && dmarc->p > 0)
        dns_rule_find(rules, "dmarc-test", DNS_RULE_NOTE,
                      "Take t=y out when the reports are clean.",
                      "%s: t=y: p=%s is only tried, it is not applied", name,
                      policies[dmarc->p]);
    if (dmarc->sp < dmarc->p)
        dns_rule_find(rules, "dmarc-sp", DNS_RULE_NOTE,
                      "Leave sp= out, or make it as p=.",
                      "%s: p=%s, but sp=%s: names below the domain may be forged", name,
                      policies[dmarc->p], policies[dmarc->sp]);
}

/* The policy that is live against the one that is planned. */
static void dmarc_policy(struct rules *rules, const char *name,
                         const struct dmarc *planned)
{
    struct dmarc live;
    size_t count;
    const char *record = one_record(dns_sets_find(rules->live, name, DNS_TXT), &count);
    if (!record || dmarc_parse(record, &live) != NULL)
        dns_rule_find(rules, "dmarc-policy", dns_rule_mended(rules),
                      count > 0 ? "Correct it: sluice dns apply does."
                                : "Publish it: sluice dns apply does.",
                      "%s: the plan is p=%s; live is %s: receivers apply nothing", name,
                      policies[planned->p], count > 0 ? "no valid record" : "no record");
    else if (live.p == planned->p && live.sp == planned->sp)
        dns_rule_find(rules, "dmarc-policy", DNS_RULE_PASS, NULL,
                      "%s: p=%s sp=%s, as planned", name, policies[live.p],
                      policies[live.sp]);
    else
        dns_rule_find(rules, "dmarc-policy", dns_rule_mended(rules),
                      "Change it: sluice dns apply does; or plan what is live.",
                      "%s: the plan is p=%s sp=%s, live is p=%s sp=%s: %s", name,
                      policies[planned->p], policies[planned->sp], policies[live.p],
                      policies[live.sp],
                      live.p < planned->p || live.sp < planned->sp
                          ? "forged mail still gets through"
                          : "mail that fails is treated more harshly than planned");
}

void dns_rule_dmarc(struct rules *rules)
{
    char name[DNSRECORD_NAME_MAX + 8];
    size_t count;
    struct dmarc dmarc;
    snprintf(name, sizeof(name), "_dmarc.%s", rules->domain->name);
    const char *record = one_record(dns_sets_find(&rules->future, name, DNS_TXT), &count);
    const char *why = record ? dmarc_parse(record, &dmarc) : NULL;
    bool planned = dns_sets_find(rules->planned, name, DNS_TXT) != NULL;
    if (count == 0) {
        dns_rule_find(rules, "dmarc-valid", DNS_RULE_NOTE,
                      "Plan a TXT record at _dmarc, \"v=DMARC1; p=none\" to begin with.",
                      "%s: there is no DMARC record", name);
        return;
    }
    if (!record || why) {
        if (record)
            dns_rule_find(rules, "dmarc-valid", DNS_RULE_FAIL,
                          "Write it as \"v=DMARC1; p=none\" (or quarantine, reject).",
                          "%s: receivers ignore the DMARC record: %s", name, why);
        else
            dns_rule_find(rules, "dmarc-valid", DNS_RULE_FAIL, "Leave one.",
                          "%s has %zu TXT records: receivers then apply no DMARC", name,
                          count);
        return;
    }
    dns_rule_find(rules, "dmarc-valid", DNS_RULE_PASS, NULL, "%s: one DMARC record, p=%s",
                  name, policies[dmarc.p]);
    dmarc_tags(rules, name, &dmarc);
    if (planned)
        dmarc_policy(rules, name, &dmarc);
    else
        dns_rule_find(rules, "dmarc-policy", DNS_RULE_NOTE,
                      "Plan it, so that check and apply keep it.",
                      "%s: p=%s is live, and no DMARC record is planned", name,
                      policies[dmarc.p]);
}
