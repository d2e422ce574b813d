/*
 * sluice dns check: every authoritative server and every resolver, side by side,
 * and the rules.
 *
 * --rules: the rules alone, on what the zone will be when the plan is in it, before
 * the change. What the change itself mends is a note then. --rule NAME:
 * of the rules only these.
 *
 * Exit: 0 all is as planned everywhere and no rule is broken; 1 otherwise; 69
 * when the zone cannot be looked at.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "dns.h"
#include "dns_rules.h"
#include "output.h"

#define CELL_MAX   60 /* characters of a value in the table */
#define VALUES_MAX 512

/* The values of a set in one cell. */
static const char *values_text(const struct dns_set *set, char out[VALUES_MAX])
{
    size_t used = 0;
    memcpy(out, "-", 2);
    for (size_t i = 0; set && i < set->count; i++) {
        const char *value = set->values[i];
        bool cut = strlen(value) > CELL_MAX;
        int n = snprintf(out + used, VALUES_MAX - used, "%s%.*s%s", used ? ", " : "",
                         cut ? CELL_MAX - 3 : CELL_MAX, value, cut ? "..." : "");
        if (n < 0 || (size_t)n >= VALUES_MAX - used) {
            memcpy(out + VALUES_MAX - 4, "...", 4);
            break;
        }
        used += (size_t)n;
    }
    return out;
}

static bool somewhere(const struct dns_task *task, const struct dns_set *planned)
{
    for (size_t s = 0; s < task->look.server_count; s++)
        if (dns_task_state(task, planned, s, false) == DNS_AS_PLANNED)
            return true;
    return false;
}

static void document_answer(doc *answers, const char *server, bool resolver,
                            enum dns_state state, const struct dns_set *live,
                            const struct dns_reply *reply)
{
    doc *object = doc_add(answers, doc_object());
    doc_text(object, "server", server);
    doc_text(object, "kind", resolver ? "resolver" : "authoritative");
    doc_text(object, "state", dns_state_name(state));
    doc *values = doc_put(object, "values", doc_array());
    for (size_t i = 0; live && i < live->count; i++)
        doc_add_text(values, live->values[i]);
    if (live)
        doc_number(object, "ttl", live->ttl);
    doc_text(object, "error", reply->error[0] ? reply->error : NULL);
}

/* One planned set on one server. */
static bool show_answer(const struct dns_task *task, const struct dns_set *planned,
                        size_t server, bool elsewhere, struct sheet *sheet, doc *answers)
{
    const struct dns_look *look = &task->look;
    size_t question = dns_look_question(look, planned->name, planned->type);
    const struct dns_reply *reply = dns_look_reply(look, question, server);
    const struct dns_set *live = dns_look_set(look, question, server);
    bool resolver = server >= look->server_count;
    enum dns_state state = dns_task_state(task, planned, server, elsewhere);
    char text[DNS_SERVER_TEXT], values[VALUES_MAX], ttl[DURATION_TEXT_MAX] = "-";
    char shown[64], where[DNS_SERVER_TEXT + 16];
    struct dns_sets scope = { 0 };
    dns_server_text(resolver ? &look->resolvers[server - look->server_count]
                             : &look->servers[server],
                    text);
    snprintf(where, sizeof(where), "%s%s", resolver ? "resolver " : "", text);
    if (live)
        duration_text(live->ttl, ttl);
    /* A resolver counts the TTL down; a server that lags has it whole. */
    bool counts = state == DNS_NOT_YET && live && resolver;
    snprintf(shown, sizeof(shown), "%s%s%s", dns_state_name(state),
             counts ? ", TTL left " : "", counts ? ttl : "");
    (void)dns_plan_scope(planned, live, &scope);
    const struct dns_set *in = dns_sets_find(&scope, planned->name, planned->type);
    const char *cells[] = { "", /* as in the row above */
                            "",
                            shown,
                            where,
                            ttl,
                            state == DNS_UNKNOWN   ? reply->error
                            : state == DNS_UNASKED ? "it has no authoritative answer yet"
                                                   : values_text(in, values) };
    sheet_row(sheet, cells);
    document_answer(answers, text, resolver, state, live, reply);
    dns_sets_free(&scope);
    return state == DNS_AS_PLANNED;
}

static bool show_set(const struct dns_task *task, const struct dns_set *planned,
                     struct sheet *sheet, doc *records)
{
    bool elsewhere = somewhere(task, planned), good = true;
    char values[VALUES_MAX], ttl[DURATION_TEXT_MAX];
    doc *object = doc_add(records, doc_object());
    doc_text(object, "name", planned->name);
    doc_text(object, "type", dns_type_name(planned->type));
    doc_number(object, "ttl", planned->ttl);
    doc *list = doc_put(object, "planned", doc_array());
    for (size_t i = 0; i < planned->count; i++)
        doc_add_text(list, planned->values[i]);
    const char *cells[] = {
        planned->name, dns_type_name(planned->type),     "planned",
        "sluice.conf", duration_text(planned->ttl, ttl), values_text(planned, values)
    };
    sheet_row(sheet, cells);
    doc *answers = doc_put(object, "answers", doc_array());
    for (size_t s = 0; s < task->look.server_count + task->look.resolver_count; s++)
        good &= show_answer(task, planned, s, elsewhere, sheet, answers);
    doc_flag(object, "as_planned", good);
    return good;
}

static size_t show_rules(const struct dns_findings *findings, doc *document)
{
    static const char *const marks[] = { "ok", "note", "FAIL", "unknown" };
    size_t broken = 0;
    doc *list = doc_put(document, "rules", doc_array());
    for (size_t i = 0; i < findings->count; i++) {
        const struct dns_finding *finding = &findings->items[i];
        doc *object = doc_add(list, doc_object());
        doc_text(object, "rule", finding->rule);
        doc_text(object, "result", dns_result_name(finding->result));
        doc_text(object, "text", finding->text);
        doc_text(object, "fix", finding->fix[0] ? finding->fix : NULL);
        if (finding->result == DNS_RULE_PASS) {
            print("  %-7s %s: %s", marks[finding->result], finding->rule, finding->text);
            continue;
        }
        print("  %-7s %s: %s", marks[finding->result], finding->rule, finding->text);
        if (finding->fix[0])
            print("          %s", finding->fix);
        broken += finding->result != DNS_RULE_NOTE;
    }
    if (findings->left_out > 0)
        print("  FAIL    %zu more faults, not shown", findings->left_out);
    return broken + findings->left_out;
}

/* --rule: "spf" is all rules "spf-...". */
static int keep_named(const struct dns_task *task, struct dns_findings *findings)
{
    const struct option_list *rules = &task->options.rule;
    size_t kept = 0;
    for (size_t i = 0; i < findings->count && rules->count > 0; i++)
        for (size_t r = 0; r < rules->count; r++) {
            size_t len = strlen(rules->items[r]);
            const char *rule = findings->items[i].rule;
            if (strncmp(rule, rules->items[r], len) != 0 ||
                (rule[len] && rule[len] != '-'))
                continue;
            findings->items[kept++] = findings->items[i];
            break;
        }
    if (rules->count == 0)
        return EXIT_DONE;
    findings->count = kept;
    if (kept > 0)
        return EXIT_DONE;
    message("--rule %s: no such rule has anything to say of %s", rules->items[0],
            task->domain->name);
    return EXIT_DATA;
}

/* Of a check that failed, one line for a person who does not see the table. */
static void say_first_fault(const struct dns_task *task, size_t off,
                            const struct dns_findings *findings, size_t broken)
{
    char text[DNS_SERVER_TEXT];
    const struct dns_finding *first = NULL;
    for (size_t i = 0; i < findings->count && !first; i++)
        if (findings->items[i].result == DNS_RULE_FAIL ||
            findings->items[i].result == DNS_RULE_UNKNOWN)
            first = &findings->items[i];
    const struct dns_look *look = &task->look;
    for (size_t i = 0; off > 0 && i < task->planned.count; i++)
        for (size_t s = 0; s < look->server_count + look->resolver_count; s++) {
            const struct dns_set *planned = &task->planned.items[i];
            enum dns_state state =
                dns_task_state(task, planned, s, somewhere(task, planned));
            if (state == DNS_AS_PLANNED)
                continue;
            message("%s %s is %s at %s%s%s; %zu of %zu records are not as planned "
                    "everywhere: sluice dns check %s",
                    planned->name, dns_type_name(planned->type), dns_state_name(state),
                    dns_server_text(s < look->server_count
                                        ? &look->servers[s]
                                        : &look->resolvers[s - look->server_count],
                                    text),
                    first ? ", and " : "", first ? first->text : "", off,
                    task->planned.count, task->domain->name);
            return;
        }
    if (first)
        message("%s: %s; %s%s", first->rule, first->text, first->fix,
                broken > 1 ? " More rules are broken: sluice dns check" : "");
}

int dns_check(struct dns_task *task)
{
    static const char *const headers[] = { "name",   "type", "state",
                                           "server", ">TTL", "values" };
    struct dns_sets live = { 0 };
    struct dns_findings findings = { 0 };
    int code = dns_task_look(task, !task->options.rules, &live);
    if (code == EXIT_DONE)
        code = dns_rules(task, &live, &findings);
    if (code == EXIT_DONE)
        code = keep_named(task, &findings);
    if (code != EXIT_DONE) {
        dns_sets_free(&live);
        dns_findings_free(&findings);
        return code;
    }
    struct sheet *sheet = sheet_new(headers, sizeof(headers) / sizeof(headers[0]));
    doc *document = dns_task_document(task);
    doc *records = doc_put(document, "records", doc_array());
    size_t off = 0;
    for (size_t i = 0; i < task->planned.count && !task->options.rules; i++)
        off += !show_set(task, &task->planned.items[i], sheet, records);
    sheet_print(sheet);
    if (!task->options.rules)
        print("%s", "");
    size_t broken = show_rules(&findings, document);
    if (task->options.rules && findings.count == 1)
        print("%s: %s", task->domain->name, findings.items[0].text);
    else if (task->options.rules)
        print("%s: %zu rules looked at, %zu broken or not known", task->domain->name,
              findings.count, broken);
    else
        print("%s: %zu of %zu records as planned everywhere, %zu %s broken or not known",
              task->domain->name, task->planned.count - off, task->planned.count, broken,
              broken == 1 ? "rule" : "rules");
    doc_flag(document, "as_planned", off == 0);
    doc_number(document, "broken_rules", (int64_t)broken);
    doc_print(document);
    say_first_fault(task, off, &findings, broken);
    dns_sets_free(&live);
    dns_findings_free(&findings);
    return off + broken > 0 ? EXIT_CHECK : EXIT_DONE;
}
