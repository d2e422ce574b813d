/*
 * sluice dns check: every authoritative server and every resolver, side by side,
 * and the rules.
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
    char shown[64];
    struct dns_sets scope = { 0 };
    dns_server_text(resolver ? &look->resolvers[server - look->server_count]
                             : &look->servers[server],
                    text);
    if (live)
        duration_text(live->ttl, ttl);
    snprintf(shown, sizeof(shown), "%s%s%s", dns_state_name(state),
             state == DNS_NOT_YET && live ? ", TTL left " : "",
             state == DNS_NOT_YET && live ? ttl : "");
    (void)dns_plan_scope(planned, live, &scope);
    const struct dns_set *in = dns_sets_find(&scope, planned->name, planned->type);
    const char *cells[] = { planned->name,
                            dns_type_name(planned->type),
                            shown,
                            text,
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
    return broken;
}

int dns_check(struct dns_task *task)
{
    static const char *const headers[] = { "name",   "type", "state",
                                           "server", ">TTL", "values" };
    struct dns_sets live = { 0 };
    struct dns_findings findings = { 0 };
    int code = dns_task_look(task, true, &live);
    if (code == EXIT_DONE)
        code = dns_rules(task, &live, &findings);
    if (code != EXIT_DONE) {
        dns_sets_free(&live);
        dns_findings_free(&findings);
        return code;
    }
    struct sheet *sheet = sheet_new(headers, sizeof(headers) / sizeof(headers[0]));
    doc *document = dns_task_document(task);
    doc *records = doc_put(document, "records", doc_array());
    size_t off = 0;
    for (size_t i = 0; i < task->planned.count; i++)
        off += !show_set(task, &task->planned.items[i], sheet, records);
    sheet_print(sheet);
    print("%s", "");
    size_t broken = show_rules(&findings, document);
    print("%s: %zu of %zu records as planned everywhere, %zu %s broken or not known",
          task->domain->name, task->planned.count - off, task->planned.count, broken,
          broken == 1 ? "rule" : "rules");
    doc_flag(document, "as_planned", off == 0);
    doc_number(document, "broken_rules", (int64_t)broken);
    doc_print(document);
    dns_sets_free(&live);
    dns_findings_free(&findings);
    return off + broken > 0 ? EXIT_CHECK : EXIT_DONE;
}
