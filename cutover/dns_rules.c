/*
 * dns_rules: what must be right about a domain's mail records (see
 * dns_rules.h). One function per rule; each adds findings, and PASS when it
 * found nothing wrong. Names outside the zone are asked at the resolvers.
 */
#include "dns_rules.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "addr.h"
#include "auth_row.h"
#include "dns_spf.h"
#include "names.h"
#include "spf_record.h"
#include "taglist.h"

#define TTL_BEFORE_MOVE 600
#define SENDERS_MAX     10000
#define KEY_MAX         4096 /* bytes of a decoded DKIM key */

const char *dns_result_name(enum dns_rule_result result)
{
    static const char *const names[] = { "pass", "note", "fail", "unknown" };
    return names[result];
}

struct rules {
    struct dns_task *task;
    const struct dns_sets *live;
    struct dns_sets future; /* live, the planned records in their place */
    struct dns_findings *out;
    struct names *senders; /* addresses that send rightfully */
    struct names *old;     /* those of the old servers, which shall not any more */
    bool no_memory;
};

/* ---- findings ------------------------------------------------------------- */

__attribute__((format(printf, 5, 6))) static void
find(struct rules *rules, const char *rule, enum dns_rule_result result, const char *fix,
     const char *fmt, ...)
{
    struct dns_findings *out = rules->out;
    va_list args;
    if (out->count >= DNS_FINDINGS_MAX)
        return;
    struct dns_finding *grown = reallocarray(out->items, out->count + 1, sizeof(*grown));
    if (!grown) {
        rules->no_memory = true;
        return;
    }
    out->items = grown;
    struct dns_finding *finding = &grown[out->count++];
    finding->rule = rule;
    finding->result = result;
    snprintf(finding->fix, sizeof(finding->fix), "%s", fix ? fix : "");
    va_start(args, fmt);
    if (vsnprintf(finding->text, sizeof(finding->text), fmt, args) < 0)
        finding->text[0] = '\0';
    va_end(args);
}

void dns_findings_free(struct dns_findings *findings)
{
    free(findings->items);
    *findings = (struct dns_findings){ 0 };
}

static bool found_nothing(const struct rules *rules, size_t before)
{
    return rules->out->count == before;
}

/* ---- names ---------------------------------------------------------------- */

/* Future records first, then the resolvers. */
static enum dns_spf_lookup resolve(void *with, const char *name, enum dns_type type,
                                   struct dns_sets *out)
{
    struct rules *rules = with;
    const struct dns_set *set = dns_sets_find(&rules->future, name, type);
    if (set)
        return dns_sets_add_set(out, set) ? DNS_SPF_FOUND : DNS_SPF_FAILED;
    if (dns_questions_have(&rules->task->look.questions, name, type))
        return DNS_SPF_ABSENT;
    struct dns_reply reply;
    dns_look_resolve(&rules->task->look, name, type, &reply);
    enum dns_spf_lookup found = DNS_SPF_FAILED;
    if (reply.outcome != DNS_FAILED) {
        found = DNS_SPF_ABSENT;
        /* A resolver follows a CNAME: what it ends at counts as the name's. */
        for (size_t i = 0; i < reply.answer.count; i++) {
            const struct dns_set *in = &reply.answer.items[i];
            for (size_t v = 0; in->type == type && v < in->count; v++)
                if (dns_sets_add(out, name, type, in->ttl, in->values[v]))
                    found = DNS_SPF_FOUND;
        }
    }
    dns_reply_free(&reply);
    return found;
}

/* ---- MX ------------------------------------------------------------------- */

static void mx_left(struct rules *rules, const struct dns_set *planned)
{
    const struct dns_set *live = dns_sets_find(rules->live, planned->name, DNS_MX);
    size_t shared = 0;
    for (size_t i = 0; live && i < live->count; i++)
        shared += dns_set_has(planned, live->values[i]);
    for (size_t i = 0; live && shared > 0 && i < live->count; i++)
        if (!dns_set_has(planned, live->values[i]))
            find(
                rules, "mx-left", DNS_RULE_FAIL, "Remove it: sluice dns apply does.",
                "%s still has MX %s beside the planned ones: part of the mail goes there",
                planned->name, live->values[i]);
}

static void mx_host(struct rules *rules, const char *owner, const char *host)
{
    struct dns_sets alias = { 0 }, four = { 0 }, six = { 0 };
    enum dns_spf_lookup is_alias = resolve(rules, host, DNS_CNAME, &alias);
    enum dns_spf_lookup a = resolve(rules, host, DNS_A, &four);
    enum dns_spf_lookup aaaa = resolve(rules, host, DNS_AAAA, &six);
    if (is_alias == DNS_SPF_FOUND)
        find(rules, "mx-target", DNS_RULE_FAIL, "Name the host that the CNAME leads to.",
             "%s: MX %s is a CNAME, which RFC 5321 5.1 forbids: some senders will not "
             "deliver",
             owner, host);
    else if (a == DNS_SPF_FAILED || is_alias == DNS_SPF_FAILED)
        find(rules, "mx-target", DNS_RULE_UNKNOWN,
             "Look at the resolvers of sluice.conf.",
             "%s: the addresses of MX %s cannot be asked", owner, host);
    else if (a != DNS_SPF_FOUND && aaaa != DNS_SPF_FOUND)
        find(rules, "mx-target", DNS_RULE_FAIL,
             "Correct the name, or add its A record first.",
             "%s: MX %s has no address: mail for it would wait, then bounce", owner,
             host);
    dns_sets_free(&alias);
    dns_sets_free(&four);
    dns_sets_free(&six);
}

static void rule_mx(struct rules *rules)
{
    size_t before = rules->out->count;
    char host[DNSRECORD_NAME_MAX + 1], other[DNSRECORD_NAME_MAX + 1];
    for (size_t s = 0; s < rules->task->planned.count; s++) {
        const struct dns_set *planned = &rules->task->planned.items[s];
        if (planned->type != DNS_MX)
            continue;
        mx_left(rules, planned);
        for (size_t i = 0; i < planned->count; i++) {
            if (!dns_target(DNS_MX, planned->values[i], host) || !host[0])
                continue;
            mx_host(rules, planned->name, host);
            for (size_t j = 0; j < i; j++)
                if (dns_target(DNS_MX, planned->values[j], other) &&
                    strcmp(host, other) == 0)
                    find(rules, "mx-priority", DNS_RULE_FAIL,
                         "Plan each host with one priority.",
                         "%s: MX %s is planned with two priorities", planned->name, host);
        }
    }
    if (found_nothing(rules, before))
        find(rules, "mx", DNS_RULE_PASS, NULL,
             "no old MX beside new ones; every planned "
             "MX has an address");
}

/* ---- SPF ------------------------------------------------------------------ */

static void spf_sender(struct rules *rules, const char *record, const char *text,
                       bool rightful, size_t *passed)
{
    const struct dns_spf_resolver resolver = { resolve, rules };
    const char *domain = rules->task->domain->name;
    struct netaddr address;
    struct dns_spf spf;
    size_t index;
    if (!netaddr_parse(text, strlen(text), &address))
        return;
    if (!rightful && names_add(rules->old, text, &index) != NAMES_NEW)
        return;
    dns_spf_walk(record, domain, &address, &resolver, &spf);
    if (rightful && spf.result == DNS_SPF_PASS)
        ++*passed;
    else if (rightful)
        find(
            rules, "spf-senders",
            spf.result == DNS_SPF_UNKNOWN || spf.result == DNS_SPF_TEMPERROR
                ? DNS_RULE_UNKNOWN
                : DNS_RULE_FAIL,
            "Add it to the planned SPF record (ip4:ADDRESS, or its provider's include:), "
            "or find out why it sends as the domain.",
            "%s sends as %s, and SPF would be %s%s%s", text, domain,
            dns_spf_result_name(spf.result), spf.why[0] ? ": " : "", spf.why);
    else if (spf.result == DNS_SPF_PASS)
        find(rules, "spf-old", DNS_RULE_FAIL,
             "Take the old server out of the planned SPF record.",
             "%s, the old server, may still send as %s", text, domain);
}

/* The addresses of a host (or an address), each judged. */
static void spf_host(struct rules *rules, const char *record, const char *host)
{
    struct dns_sets sets = { 0 };
    struct netaddr address;
    size_t passed = 0;
    if (netaddr_parse(host, strlen(host), &address)) {
        spf_sender(rules, record, host, false, &passed);
        return;
    }
    if (resolve(rules, host, DNS_A, &sets) == DNS_SPF_FOUND)
        for (size_t i = 0; i < sets.items[0].count; i++)
            spf_sender(rules, record, sets.items[0].values[i], false, &passed);
    dns_sets_free(&sets);
}

/* The old servers: the next hop old of sluice.conf, and the MX hosts of the last
 * snapshot with the old records. */
static void spf_old(struct rules *rules, const char *record)
{
    const struct dns_task *task = rules->task;
    char host[DNSRECORD_NAME_MAX + 1], planned_host[DNSRECORD_NAME_MAX + 1];
    const struct dns_snap *snap =
        dns_snap_last_old(task->snaps, task->snap_count, &task->planned);
    const struct dns_set *old =
        snap ? dns_sets_find(&snap->sets, task->domain->name, DNS_MX) : NULL;
    const struct dns_set *planned =
        dns_sets_find(&task->planned, task->domain->name, DNS_MX);
    if (task->domain->old.host)
        spf_host(rules, record, task->domain->old.host);
    for (size_t i = 0; planned && old && i < old->count; i++) {
        bool stays = false;
        if (!dns_target(DNS_MX, old->values[i], host) || !host[0])
            continue;
        for (size_t j = 0; j < planned->count; j++)
            stays |= dns_target(DNS_MX, planned->values[j], planned_host) &&
                     strcmp(host, planned_host) == 0;
        if (!stays)
            spf_host(rules, record, host);
    }
}

/* The file of --senders. */
static int read_senders(struct rules *rules)
{
    const char *path = rules->task->options.senders;
    char line[256];
    size_t number = 0, index;
    struct netaddr address;
    FILE *file = path ? fopen(path, "re") : NULL;
    if (path && !file) {
        message("%s: %s", path, strerror(errno));
        return EXIT_DATA;
    }
    while (file && fgets(line, sizeof(line), file)) {
        line[strcspn(line, " \t\r\n#")] = '\0';
        number++;
        bool bad = line[0] && !netaddr_parse(line, strlen(line), &address);
        if (bad || number > SENDERS_MAX) {
            message(bad ? "%s:%zu: not an IP address" : "%s:%zu: too many senders", path,
                    number);
            fclose(file);
            return EXIT_DATA;
        }
        if (line[0] && names_add(rules->senders, line, &index) == NAMES_FAILED)
            rules->no_memory = true;
    }
    if (file)
        fclose(file);
    return EXIT_DONE;
}

/* What sluice-milter counted. A host whose mail passed DMARC sends rightfully; who
 * only uses the domain's name does not pass it. */
static bool take_sender(void *context, const struct auth_row *row)
{
    struct rules *rules = context;
    struct netaddr address;
    size_t index;
    if (row->dmarc[AUTH_PASS] == 0 ||
        !netaddr_parse(row->client, strlen(row->client), &address))
        return true;
    return names_count(rules->senders) < SENDERS_MAX &&
           names_add(rules->senders, row->client, &index) != NAMES_FAILED;
}

static int spf_senders(struct rules *rules, const char *record)
{
    size_t passed = 0;
    int code = read_senders(rules);
    if (code != EXIT_DONE)
        return code;
    const struct command_context *context = rules->task->context;
    if (!store_each_auth(context->store, rules->task->domain->name, take_sender, rules))
        find(rules, "spf-senders", DNS_RULE_NOTE, "Bring Redis up, and check again.",
             "who sends as %s is not known: sluice auth report cannot be read (%s)",
             rules->task->domain->name, store_error(context->store));
    char *const *list = names_list(rules->senders);
    for (size_t i = 0; i < names_count(rules->senders); i++)
        if (names_find(rules->old, list[i]) == SIZE_MAX)
            spf_sender(rules, record, list[i], true, &passed);
    if (passed > 0)
        find(rules, "spf-senders", DNS_RULE_PASS, NULL, "%zu known %s would pass", passed,
             passed == 1 ? "sender" : "senders");
    return EXIT_DONE;
}

static void spf_costs(struct rules *rules, const char *record)
{
    const struct dns_spf_resolver resolver = { resolve, rules };
    const char *domain = rules->task->domain->name;
    struct dns_spf spf;
    dns_spf_walk(record, domain, NULL, &resolver, &spf);
    if (spf.lookups > DNS_SPF_LOOKUPS_MAX)
        find(rules, "spf-lookups", DNS_RULE_FAIL,
             "Replace include: and a by ip4:, or drop providers that are not used.",
             "the SPF record needs %u DNS lookups, RFC 7208 allows %d: receivers take it "
             "as broken",
             spf.lookups, DNS_SPF_LOOKUPS_MAX);
    else if (spf.voids > DNS_SPF_VOID_MAX)
        find(rules, "spf-void", DNS_RULE_FAIL, "Take out the names that do not exist.",
             "%u lookups of the SPF record find nothing, RFC 7208 allows %d", spf.voids,
             DNS_SPF_VOID_MAX);
    else if (spf.result == DNS_SPF_PERMERROR || spf.result == DNS_SPF_TEMPERROR)
        find(rules, "spf-lookups",
             spf.result == DNS_SPF_PERMERROR ? DNS_RULE_FAIL : DNS_RULE_UNKNOWN,
             "Correct the record that is named.", "%s", spf.why);
    else
        find(rules, "spf-lookups", DNS_RULE_PASS, NULL,
             "%u of %d DNS lookups, %u of %d void", spf.lookups, DNS_SPF_LOOKUPS_MAX,
             spf.voids, DNS_SPF_VOID_MAX);
}

static bool spf_all(const char *record)
{
    size_t len = strlen(record);
    while (len > 0 && record[len - 1] == ' ')
        len--;
    return len >= 5 && strncasecmp(record + len - 5, " -all", 5) == 0;
}

static int rule_spf(struct rules *rules)
{
    const char *domain = rules->task->domain->name, *record = NULL;
    const struct dns_set *set = dns_sets_find(&rules->future, domain, DNS_TXT);
    struct spf_record *parsed = malloc(sizeof(*parsed));
    char why[200];
    size_t count = 0;
    int code = EXIT_DONE;
    for (size_t i = 0; set && i < set->count; i++)
        if (dns_txt_kind(domain, set->values[i]) == TXT_SPF) {
            record = set->values[i];
            count++;
        }
    if (!parsed) {
        rules->no_memory = true;
    } else if (count != 1) {
        find(rules, "spf-one", DNS_RULE_FAIL,
             "Have exactly one TXT record that begins with v=spf1.",
             "%s has %zu SPF records, receivers want exactly one (RFC 7208 4.5)", domain,
             count);
    } else if (!spf_record_is(record, strlen(record))) {
        find(
            rules, "spf-valid", DNS_RULE_FAIL,
            "Begin it with \"v=spf1 \", without blanks around the \"=\".",
            "\"%.80s\" is no SPF record: it must begin with exactly \"v=spf1\" (RFC 7208 "
            "4.5), so receivers find none",
            record);
    } else if (!spf_record_parse(record, strlen(record), parsed, why, sizeof(why))) {
        find(rules, "spf-valid", DNS_RULE_FAIL, "Correct the term that is named.",
             "the SPF record is not valid, receivers take it as broken: %s", why);
    } else {
        find(rules, "spf-valid", DNS_RULE_PASS, NULL, "one SPF record, valid");
        if (!spf_all(record) && !parsed->redirect)
            find(rules, "spf-all", DNS_RULE_FAIL,
                 "End it in -all, once sluice auth report shows no rightful sender that "
                 "would fail.",
                 "the SPF record does not end in -all: forged mail is not refused");
        spf_costs(rules, record);
        spf_old(rules, record);
        code = spf_senders(rules, record);
    }
    free(parsed);
    return code;
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

static bool tag_is(const struct tag *tag, const char *text)
{
    return tag && tag->value_len == strlen(text) &&
           strncasecmp(tag->value, text, tag->value_len) == 0;
}

static void dkim_key(struct rules *rules, const char *name, const char *record)
{
    struct taglist tags;
    const char *why = "it has no p= tag";
    if (!taglist_parse(record, strlen(record), &tags, &why) ||
        !taglist_find(&tags, "p")) {
        find(rules, "dkim-valid", DNS_RULE_FAIL,
             "Copy the record anew from the provider.",
             "%s: the DKIM record does not parse: %s", name, why);
        return;
    }
    const struct tag *p = taglist_find(&tags, "p"), *v = taglist_find(&tags, "v");
    bool ed25519 = tag_is(taglist_find(&tags, "k"), "ed25519");
    int bits = key_bits(p->value, p->value_len, ed25519);
    if (v && (!tag_is(v, "DKIM1") || v != tags.tags))
        find(rules, "dkim-valid", DNS_RULE_FAIL, "Begin it with v=DKIM1;",
             "%s: v= is not DKIM1, or not the first tag (RFC 6376 3.6.1)", name);
    else if (p->value_len == 0)
        find(rules, "dkim-valid", DNS_RULE_FAIL, "Publish the key that signs now.",
             "%s: the DKIM key is revoked (p= is empty)", name);
    else if (bits == 0)
        find(rules, "dkim-valid", DNS_RULE_FAIL,
             "Copy the record anew from the provider.",
             "%s: the DKIM key cannot be read: it was cut, or changed by hand", name);
    else if (!ed25519 && bits < 1024)
        find(rules, "dkim-size", DNS_RULE_FAIL, "Make a key of 2048 bits.",
             "%s: the DKIM key has %d bits; receivers ignore less than 1024 (RFC 8301)",
             name, bits);
    else if (!ed25519 && bits < 2048)
        find(rules, "dkim-size", DNS_RULE_NOTE, "Make a key of 2048 bits.",
             "%s: the DKIM key has %d bits; RFC 8301 wants 2048", name, bits);
    else
        find(rules, "dkim-valid", DNS_RULE_PASS, NULL, "%s: a key of %d bits", name,
             bits);
}

static void rule_dkim(struct rules *rules)
{
    size_t keys = 0;
    for (size_t i = 0; i < rules->task->planned.count; i++) {
        const struct dns_set *planned = &rules->task->planned.items[i];
        struct dns_sets sets = { 0 };
        if (!strstr(planned->name, "._domainkey.") ||
            (planned->type != DNS_TXT && planned->type != DNS_CNAME))
            continue;
        keys++;
        char target[DNSRECORD_NAME_MAX + 1];
        const char *at = planned->name;
        if (planned->type == DNS_CNAME &&
            dns_target(DNS_CNAME, planned->values[0], target))
            at = target;
        enum dns_spf_lookup found = resolve(rules, at, DNS_TXT, &sets);
        if (found == DNS_SPF_FOUND && sets.items[0].count == 1)
            dkim_key(rules, planned->name, sets.items[0].values[0]);
        else
            find(rules, "dkim-valid",
                 found == DNS_SPF_FAILED ? DNS_RULE_UNKNOWN : DNS_RULE_FAIL,
                 "Have one TXT record with the key there.", "%s: %s", planned->name,
                 found == DNS_SPF_FAILED   ? "the key cannot be asked"
                 : found == DNS_SPF_ABSENT ? "there is no key where it leads to"
                                           : "there are several TXT records");
        dns_sets_free(&sets);
    }
    if (keys == 0)
        find(rules, "dkim-valid", DNS_RULE_NOTE,
             "Plan the TXT or CNAME record of the new side's selector.",
             "no DKIM key is planned: mail of the new side may go unsigned");
}

/* ---- DMARC ---------------------------------------------------------------- */

static bool is_policy(const struct tag *tag)
{
    return tag_is(tag, "none") || tag_is(tag, "quarantine") || tag_is(tag, "reject");
}

static void rule_dmarc(struct rules *rules)
{
    char name[DNSRECORD_NAME_MAX + 1];
    const char *why = "", *record = NULL;
    struct taglist tags;
    size_t count = 0;
    snprintf(name, sizeof(name), "_dmarc.%.245s", rules->task->domain->name);
    const struct dns_set *set = dns_sets_find(&rules->future, name, DNS_TXT);
    for (size_t i = 0; set && i < set->count; i++, count++)
        record = set->values[i];
    if (count == 0) {
        find(rules, "dmarc-valid", DNS_RULE_NOTE,
             "Plan a TXT record at _dmarc, \"v=DMARC1; p=none\" to begin with.",
             "%s: there is no DMARC record", name);
    } else if (count > 1) {
        find(rules, "dmarc-valid", DNS_RULE_FAIL, "Leave one.",
             "%s has %zu TXT records: receivers then apply no DMARC", name, count);
    } else if (!taglist_parse(record, strlen(record), &tags, &why) || tags.count == 0 ||
               tags.tags[0].name_len != 1 || tags.tags[0].name[0] != 'v' ||
               tags.tags[0].value_len != 6 ||
               memcmp(tags.tags[0].value, "DMARC1", 6) != 0) {
        find(rules, "dmarc-valid", DNS_RULE_FAIL, "Begin it with \"v=DMARC1;\".",
             "%s: the DMARC record does not parse%s%s: receivers ignore it", name,
             why && why[0] ? ": " : "", why ? why : "");
    } else if (!is_policy(taglist_find(&tags, "p")) ||
               (taglist_find(&tags, "sp") && !is_policy(taglist_find(&tags, "sp")))) {
        find(rules, "dmarc-valid", DNS_RULE_FAIL, "Write none, quarantine or reject.",
             "%s: p= or sp= is not a policy", name);
    } else {
        find(rules, "dmarc-valid", DNS_RULE_PASS, NULL, "%s: p=%.*s", name,
             (int)taglist_find(&tags, "p")->value_len, taglist_find(&tags, "p")->value);
        if (taglist_find(&tags, "pct"))
            find(rules, "dmarc-pct", DNS_RULE_NOTE, "Leave pct= out.",
                 "%s: pct= is withdrawn by RFC 9989", name);
    }
}

/* ---- TTL, aliases, name servers -------------------------------------------- */

static void rule_ttl(struct rules *rules)
{
    size_t before = rules->out->count;
    struct dns_changes changes = { 0 };
    if (!dns_plan_changes(&rules->task->planned, rules->live, DNS_AIM_PLAN, &changes)) {
        rules->no_memory = true;
        return;
    }
    uint32_t negative = dns_look_negative(&rules->task->look);
    bool absent = false;
    for (size_t i = 0; i < changes.count; i++) {
        const struct dns_set *old = &changes.items[i].before;
        absent |= old->count == 0;
        if (old->count > 0 && old->ttl > TTL_BEFORE_MOVE &&
            !dns_set_same(old, &changes.items[i].after))
            find(rules, "ttl", DNS_RULE_FAIL,
                 "Run sluice dns apply --lower-ttl, and wait until the old TTL has run "
                 "out.",
                 "%s %s has TTL %u s: after the change it is remembered for so long; at "
                 "most %d s is wanted before the move",
                 old->name, dns_type_name(old->type), (unsigned)old->ttl,
                 TTL_BEFORE_MOVE);
    }
    if (absent && negative > TTL_BEFORE_MOVE)
        find(
            rules, "ttl-negative", DNS_RULE_NOTE,
            "Do not ask a resolver for them before they are there; lower the last number "
            "of the SOA record.",
            "that a planned name is not there yet is remembered for %u s (SOA minimum)",
            (unsigned)negative);
    dns_changes_free(&changes);
    if (found_nothing(rules, before))
        find(rules, "ttl", DNS_RULE_PASS, NULL,
             "what will change has a TTL of at most %d s", TTL_BEFORE_MOVE);
}

static void rule_alias(struct rules *rules)
{
    size_t before = rules->out->count;
    for (size_t i = 0; i < rules->task->planned.count; i++) {
        const struct dns_set *planned = &rules->task->planned.items[i];
        for (size_t j = 0; j < rules->live->count; j++) {
            const struct dns_set *live = &rules->live->items[j];
            if (strcmp(live->name, planned->name) == 0 && live->type != planned->type &&
                (live->type == DNS_CNAME || planned->type == DNS_CNAME))
                find(rules, "alias", DNS_RULE_FAIL,
                     live->type <= DNS_CNAME ? "Remove it: sluice dns apply does."
                                             : "Remove it, or plan another name.",
                     "%s has a %s record in the way of the planned %s: nothing may stand "
                     "beside a CNAME",
                     live->name, dns_type_name(live->type), dns_type_name(planned->type));
        }
    }
    if (found_nothing(rules, before))
        find(rules, "alias", DNS_RULE_PASS, NULL, "no CNAME stands beside other records");
}

/* The serial: the third word of an SOA. */
static unsigned long serial_of(const struct dns_set *soa)
{
    unsigned long serial = 0;
    if (!soa || soa->count == 0 || sscanf(soa->values[0], "%*s %*s %lu", &serial) != 1)
        return 0;
    return serial;
}

static void rule_ns(struct rules *rules)
{
    const struct dns_look *look = &rules->task->look;
    size_t before = rules->out->count;
    char text[DNS_SERVER_TEXT];
    size_t ns = dns_look_question(look, look->zone, DNS_NS);
    size_t soa = dns_look_question(look, look->zone, DNS_SOA);
    const struct dns_set *parent = dns_sets_find(&look->delegation, look->zone, DNS_NS);
    const struct dns_set *first =
        rules->task->snap_count > 0
            ? dns_sets_find(&rules->task->snaps[0].sets, look->zone, DNS_NS)
            : NULL;
    unsigned long best = serial_of(dns_look_set(look, soa, look->best));
    for (size_t s = 0; s < look->server_count; s++) {
        const struct dns_reply *reply = dns_look_reply(look, ns, s);
        const struct dns_set *own = dns_look_set(look, ns, s);
        dns_server_text(&look->servers[s], text);
        if (reply->outcome == DNS_FAILED)
            find(rules, "ns", DNS_RULE_FAIL,
                 "Mend the server, or take it out of the delegation.",
                 "name server %s: %s", text, reply->error);
        else if (!own || !parent || !dns_set_same(own, parent))
            find(
                rules, "ns", DNS_RULE_FAIL,
                "Make the NS records of the zone and those at the parent (registrar) the "
                "same.",
                "name server %s has other NS records for %s than the parent zone", text,
                look->zone);
        else if (serial_of(dns_look_set(look, soa, s)) != best)
            find(rules, "ns", DNS_RULE_FAIL,
                 "Wait for its zone transfer, or look why it does not come.",
                 "name server %s has serial %lu of %s, another one has %lu", text,
                 serial_of(dns_look_set(look, soa, s)), look->zone, best);
    }
    if (first && parent && !dns_set_same(first, parent))
        find(rules, "ns", DNS_RULE_FAIL,
             "Who changed them? Take a new snapshot when that was meant.",
             "the NS records of %s have changed since the first snapshot", look->zone);
    if (found_nothing(rules, before))
        find(rules, "ns", DNS_RULE_PASS, NULL,
             "%zu name servers, the same at the parent, with the same serial",
             look->server_count);
}

/* ---- all ------------------------------------------------------------------ */

static bool make_future(struct rules *rules)
{
    struct dns_changes changes = { 0 };
    bool ok =
        dns_plan_changes(&rules->task->planned, rules->live, DNS_AIM_PLAN, &changes);
    for (size_t i = 0; ok && i < changes.count; i++)
        if (changes.items[i].after.count > 0)
            ok = dns_sets_add_set(&rules->future, &changes.items[i].after);
    for (size_t i = 0; ok && i < rules->live->count; i++) {
        const struct dns_set *set = &rules->live->items[i];
        bool changed = false;
        for (size_t c = 0; c < changes.count; c++)
            changed |= changes.items[c].after.type == set->type &&
                       strcmp(changes.items[c].after.name, set->name) == 0;
        if (!changed)
            ok = dns_sets_add_set(&rules->future, set);
    }
    dns_changes_free(&changes);
    return ok;
}

int dns_rules(struct dns_task *task, const struct dns_sets *live,
              struct dns_findings *out)
{
    struct rules rules = { .task = task, .live = live, .out = out };
    int code = EXIT_DONE;
    rules.senders = names_new();
    rules.old = names_new();
    rules.no_memory = !rules.senders || !rules.old || !make_future(&rules);
    if (!rules.no_memory) {
        rule_ns(&rules);
        rule_ttl(&rules);
        rule_alias(&rules);
        rule_mx(&rules);
        code = rule_spf(&rules);
        rule_dkim(&rules);
        rule_dmarc(&rules);
    }
    dns_sets_free(&rules.future);
    names_free(rules.senders);
    names_free(rules.old);
    if (rules.no_memory) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    return code;
}
