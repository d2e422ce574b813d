/*
 * dns_rules: applies all rules (see dns_rules.h). Here is what they need from the
 * world: names, known senders, the name servers' answers. The rules themselves
 * are in dns_rule_*.c, by subject.
 *
 * Names in the zone are asked at its authoritative servers, so that no resolver
 * learns that a name is not there yet; all others at the resolvers.
 */
#include "dns_rules.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "auth_row.h"
#include "dns_rule.h"
#include "output.h"

#define SENDERS_MAX 10000
#define CNAMES_MAX  8 /* one after the other */

const char *dns_result_name(enum dns_rule_result result)
{
    static const char *const names[] = { "pass", "note", "fail", "unknown" };
    return names[result];
}

/* ---- findings ------------------------------------------------------------- */

void dns_rule_find(struct rules *rules, const char *rule, enum dns_rule_result result,
                   const char *fix, const char *fmt, ...)
{
    struct dns_findings *out = rules->out;
    va_list args;
    if (out->count >= DNS_FINDINGS_MAX) {
        out->left_out += result == DNS_RULE_FAIL || result == DNS_RULE_UNKNOWN;
        return;
    }
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

enum dns_rule_result dns_rule_mended(const struct rules *rules)
{
    return rules->before_change ? DNS_RULE_NOTE : DNS_RULE_FAIL;
}

/* ---- names ---------------------------------------------------------------- */

bool dns_rule_future(struct rules *rules)
{
    struct dns_changes changes = { 0 };
    bool ok = dns_plan_changes(rules->planned, rules->live, DNS_AIM_PLAN, &changes);
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

enum dns_spf_lookup dns_rule_ask(const struct rules *rules, const char *name,
                                 enum dns_type type, struct dns_sets *out)
{
    return rules->resolver.ask(rules->resolver.with, name, type, out);
}

struct world {
    struct rules *rules;
    struct dns_task *task;
};

/* At an authoritative server where the name is the zone's, and not delegated on. */
static void ask_world(struct dns_look *look, const char *name, enum dns_type type,
                      struct dns_reply *reply)
{
    if (dnsrecord_within(name, look->zone)) {
        dns_ask(&look->servers[look->best], name, type, look->conf->dns.timeout, reply);
        if (reply->outcome != DNS_FAILED && reply->authoritative)
            return;
        dns_reply_free(reply);
    }
    dns_look_resolve(look, name, type, reply);
}

/* Where the CNAMEs of an answer lead; name itself without any. */
static const char *end_of(const struct dns_sets *answer, const char *name,
                          char out[DNSRECORD_NAME_MAX + 1])
{
    snprintf(out, DNSRECORD_NAME_MAX + 1, "%s", name);
    for (size_t i = 0; i < answer->count; i++) {
        const struct dns_set *alias = dns_sets_find(answer, out, DNS_CNAME);
        if (!alias || alias->count == 0 || !dns_target(DNS_CNAME, alias->values[0], out))
            break;
    }
    return out;
}

/* What an answer has of a type: whatever CNAMEs lead to it, it counts as the name's. */
static enum dns_spf_lookup take_answer(const struct dns_sets *answer, const char *name,
                                       enum dns_type type, struct dns_sets *out)
{
    enum dns_spf_lookup found = DNS_SPF_ABSENT;
    for (size_t i = 0; i < answer->count; i++) {
        const struct dns_set *in = &answer->items[i];
        for (size_t v = 0; in->type == type && v < in->count; v++) {
            if (!dns_sets_add(out, name, type, in->ttl, in->values[v]))
                return DNS_SPF_FAILED;
            found = DNS_SPF_FOUND;
        }
    }
    return found;
}

/* What at has of a type, as name's. Servers of the zone follow no CNAME out of it. */
static enum dns_spf_lookup resolve_at(struct world *world, const char *name,
                                      const char *at, enum dns_type type, int depth,
                                      struct dns_sets *out)
{
    const struct dns_sets *future = &world->rules->future;
    const struct dns_set *set = dns_sets_find(future, at, type);
    char next[DNSRECORD_NAME_MAX + 1];
    enum dns_spf_lookup found = DNS_SPF_ABSENT;
    if (depth > CNAMES_MAX)
        return DNS_SPF_FAILED;
    for (size_t v = 0; set && v < set->count; v++) {
        if (!dns_sets_add(out, name, type, set->ttl, set->values[v]))
            return DNS_SPF_FAILED;
        found = DNS_SPF_FOUND;
    }
    if (found == DNS_SPF_FOUND || type == DNS_CNAME)
        next[0] = '\0';
    else if (strcmp(end_of(future, at, next), at) == 0)
        next[0] = '\0';
    if (next[0])
        return resolve_at(world, name, next, type, depth + 1, out);
    if (found == DNS_SPF_FOUND ||
        dns_questions_have(&world->task->look.questions, at, type))
        return found;
    struct dns_reply reply;
    ask_world(&world->task->look, at, type, &reply);
    found = reply.outcome == DNS_FAILED ? DNS_SPF_FAILED
                                        : take_answer(&reply.answer, name, type, out);
    bool leads_on = found == DNS_SPF_ABSENT && type != DNS_CNAME &&
                    strcmp(end_of(&reply.answer, at, next), at) != 0;
    dns_reply_free(&reply);
    return leads_on ? resolve_at(world, name, next, type, depth + 1, out) : found;
}

static enum dns_spf_lookup resolve(void *with, const char *name, enum dns_type type,
                                   struct dns_sets *out)
{
    return resolve_at(with, name, name, type, 0, out);
}

/* ---- who sends as the domain ---------------------------------------------- */

/* As dns_rule_spf.c reads it: by DKIM alone is marked. */
static bool add_sender(struct rules *rules, const char *address, const char *name,
                       bool by_dkim)
{
    char entry[NETADDR_TEXT_MAX + DNSRECORD_NAME_MAX + 8];
    size_t index;
    int n = snprintf(entry, sizeof(entry), "%s%s %s", by_dkim ? "~" : "", address, name);
    if (n < 0 || (size_t)n >= sizeof(entry) ||
        names_add(rules->senders, entry, &index) == NAMES_FAILED)
        rules->no_memory = true;
    return !rules->no_memory;
}

/* The file of --senders. */
static int read_senders(struct rules *rules, const char *path)
{
    char line[256], text[NETADDR_TEXT_MAX + 1];
    size_t number = 0;
    struct netaddr address;
    FILE *file = path ? fopen(path, "re") : NULL;
    if (path && !file) {
        message("%s: %s", path, strerror(errno));
        return EXIT_DATA;
    }
    while (file && fgets(line, sizeof(line), file)) {
        bool whole = strchr(line, '\n') != NULL || feof(file);
        line[strcspn(line, " \t\r\n#")] = '\0';
        number++;
        bool bad = !whole || (line[0] && !netaddr_parse(line, strlen(line), &address));
        if (bad || number > SENDERS_MAX) {
            message(
                bad ? "%s:%zu: not an IP address (one on each line, # begins a comment)"
                    : "%s:%zu: too many senders",
                path, number);
            fclose(file);
            return EXIT_DATA;
        }
        if (line[0])
            (void)add_sender(rules, netaddr_format(&address, text), rules->domain->name,
                             false);
    }
    bool failed = file && ferror(file);
    if (failed)
        message("%s: cannot be read", path);
    if (file)
        fclose(file);
    return failed ? EXIT_DATA : EXIT_DONE;
}

struct rows {
    struct rules *rules;
    size_t strangers; /* hosts whose mail passed nothing */
    uint64_t messages;
};

/* What sluice-milter counted. A host whose mail passed DMARC sends rightfully; who
 * only uses the domain's name does not pass it. SPF is about the envelope's domain:
 * mail with another one says nothing of this record. */
static bool take_row(void *context, const struct auth_row *row)
{
    struct rows *rows = context;
    struct rules *rules = rows->rules;
    struct netaddr address;
    char text[NETADDR_TEXT_MAX + 1];
    const char *name = row->envelope[0] ? row->envelope : rules->domain->name;
    if (!netaddr_parse(row->client, strlen(row->client), &address) ||
        !dnsrecord_within(name, rules->domain->name))
        return true;
    if (row->dmarc[AUTH_PASS] == 0) {
        rows->strangers++;
        rows->messages += row->messages;
        return true;
    }
    return names_count(rules->senders) < SENDERS_MAX &&
           add_sender(rules, netaddr_format(&address, text), name,
                      row->spf[AUTH_PASS] == 0);
}

static int find_senders(struct rules *rules, const struct dns_task *task)
{
    const struct command_context *context = task->context;
    struct rows rows = { .rules = rules };
    int code = read_senders(rules, task->options.senders);
    if (code != EXIT_DONE)
        return code;
    if (!store_each_auth(context->store, rules->domain->name, take_row, &rows) &&
        names_count(rules->senders) < SENDERS_MAX)
        dns_rule_find(rules, "spf-senders", DNS_RULE_NOTE,
                      "Bring Redis up, and check again.",
                      "who sends as %s is not known: sluice auth report cannot be read "
                      "(%s)",
                      rules->domain->name, store_error(context->store));
    if (names_count(rules->senders) >= SENDERS_MAX)
        dns_rule_find(rules, "spf-senders", DNS_RULE_NOTE,
                      "Look at sluice auth report yourself.",
                      "more than %d senders: the others are not looked at", SENDERS_MAX);
    if (rows.strangers > 0)
        dns_rule_find(
            rules, "spf-strangers", DNS_RULE_NOTE,
            "Look at sluice auth report before -all or a DMARC policy: forgers, "
            "or own servers that were forgotten?",
            "%zu %s sent as %s and passed neither SPF nor DKIM (%llu messages)",
            rows.strangers, rows.strangers == 1 ? "host" : "hosts", rules->domain->name,
            (unsigned long long)rows.messages);
    return EXIT_DONE;
}

/* ---- name servers --------------------------------------------------------- */

/* The serial: the third word of an SOA. */
static unsigned long serial_of(const struct dns_set *soa)
{
    unsigned long serial = 0;
    if (!soa || soa->count == 0 || sscanf(soa->values[0], "%*s %*s %lu", &serial) != 1)
        return 0;
    return serial;
}

static void rule_ns(struct rules *rules, const struct dns_look *look)
{
    struct dns_rule_server servers[DNS_SERVERS_MAX];
    char texts[DNS_SERVERS_MAX][DNS_SERVER_TEXT];
    size_t ns = dns_look_question(look, look->zone, DNS_NS);
    size_t soa = dns_look_question(look, look->zone, DNS_SOA);
    for (size_t s = 0; s < look->server_count; s++) {
        const struct dns_reply *reply = dns_look_reply(look, ns, s);
        servers[s] = (struct dns_rule_server){
            .text = dns_server_text(&look->servers[s], texts[s]),
            .error = reply->outcome == DNS_FAILED ? reply->error : NULL,
            .ns = dns_look_set(look, ns, s),
            .serial = serial_of(dns_look_set(look, soa, s)),
            .best = s == look->best,
        };
    }
    dns_rule_ns(rules, look->zone, dns_sets_find(&look->delegation, look->zone, DNS_NS),
                servers, look->server_count);
}

/* ---- all ------------------------------------------------------------------ */

int dns_rules(struct dns_task *task, const struct dns_sets *live,
              struct dns_findings *out)
{
    struct rules rules = { .domain = task->domain,
                           .planned = &task->planned,
                           .live = live,
                           .snaps = task->snaps,
                           .snap_count = task->snap_count,
                           .negative_ttl = dns_look_negative(&task->look),
                           .now = time(NULL),
                           .before_change = task->options.rules,
                           .out = out };
    struct world world = { &rules, task };
    int code = EXIT_DONE;
    rules.resolver = (struct dns_spf_resolver){ resolve, &world };
    rules.senders = names_new();
    rules.old = names_new();
    rules.no_memory = !rules.senders || !rules.old || !dns_rule_future(&rules) ||
                      dns_look_made(&task->look, &rules.wild) != EXIT_DONE;
    if (!rules.no_memory) {
        rule_ns(&rules, &task->look);
        dns_rule_ttl(&rules);
        dns_rule_alias(&rules);
        dns_rule_mx(&rules);
        code = find_senders(&rules, task);
        dns_rule_spf(&rules);
        dns_rule_dkim(&rules);
        dns_rule_dmarc(&rules);
    }
    dns_sets_free(&rules.future);
    dns_sets_free(&rules.wild);
    names_free(rules.senders);
    names_free(rules.old);
    if (rules.no_memory) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    return code;
}
