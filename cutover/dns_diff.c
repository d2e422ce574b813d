/*
 * sluice dns diff: what to change, and what of the way back stays as others left it;
 * as tables, zone-file lines, and an nsupdate batch. What apply shares of it is here,
 * too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dns.h"

#define HANDED_S 3600 /* what has not come by then is not waited for */

/* ---- what to change ------------------------------------------------------- */

static int plan_changes(struct dns_task *task, const struct dns_sets *live,
                        struct dns_changes *out)
{
    const struct dns_set *conflict = dns_plan_conflict(&task->planned, live);
    if (conflict && !task->options.lower_ttl) {
        message("%s has %s records, and its planned CNAME must stand alone: remove "
                "them, or plan another name",
                conflict->name, dns_type_name(conflict->type));
        return EXIT_CHECK;
    }
    if (dns_plan_changes(&task->planned, live,
                         task->options.lower_ttl ? DNS_AIM_TTL : DNS_AIM_PLAN, out))
        return EXIT_DONE;
    message("out of memory");
    return EXIT_SERVICE;
}

int dns_task_changes(struct dns_task *task, struct dns_back *out)
{
    struct dns_sets live = { 0 };
    *out = (struct dns_back){ 0 };
    int code = dns_look_live(&task->look, false, &live);
    if (code == EXIT_DONE && !task->back) {
        code = plan_changes(task, &live, &out->changes);
    } else if (code == EXIT_DONE) {
        const struct dns_way way = { .to = task->back,
                                     .snaps = task->snaps,
                                     .snap_count = task->snap_count,
                                     .planned = &task->planned,
                                     .live = &live,
                                     .forced = task->forced,
                                     .skipped = task->skipped };
        if (!dns_back(&way, out)) {
            message("out of memory");
            code = EXIT_SERVICE;
        }
    }
    dns_sets_free(&live);
    return code;
}

/* Whether all is live that was written after this snapshot. */
static bool has_arrived(const struct dns_snap *snap, const struct dns_sets *live)
{
    const struct dns_set none = { 0 };
    for (size_t i = 0; i < snap->writes.count; i++) {
        const char *name = snap->writes.items[i].name;
        enum dns_type type = snap->writes.items[i].type;
        const struct dns_set *is = dns_sets_find(live, name, type);
        const struct dns_set *wrote = dns_sets_find(&snap->written, name, type);
        if (!dns_set_same(is ? is : &none, wrote ? wrote : &none))
            return false;
    }
    return true;
}

int dns_task_handed(const struct dns_task *task, const struct dns_sets *live)
{
    const struct conf *conf = task->context->conf;
    const char *domain = task->domain->name;
    char *name = dns_snap_noted(conf, domain, DNS_NOTE_HANDED);
    const struct dns_snap *snap = NULL;
    for (size_t i = 0; name && conf->dns.command && i < task->snap_count; i++)
        if (strcmp(task->snaps[i].name, name) == 0)
            snap = &task->snaps[i];
    free(name);
    if (!snap || snap->taken + HANDED_S < (int64_t)time(NULL) || has_arrived(snap, live))
        return EXIT_DONE;
    message("nothing was changed: %s has taken the change after snapshot %s, and the "
            "name servers do not have it yet: when sluice dns check %s shows it, or an "
            "hour after it, run the same command again",
            conf->dns.command[0], snap->name, domain);
    return EXIT_AGAIN;
}

/* ---- showing it ----------------------------------------------------------- */

static void change_rows(struct sheet *sheet, const struct dns_set *set,
                        const struct dns_set *other, const char *sign)
{
    char ttl[16];
    snprintf(ttl, sizeof(ttl), "%u", (unsigned)set->ttl);
    for (size_t i = 0; i < set->count; i++) {
        bool same = dns_set_has(other, set->values[i]);
        const char *cells[] = { same && set->ttl == other->ttl ? "" : sign, set->name,
                                dns_type_name(set->type), ttl, set->values[i] };
        if (!same || sign[0] == '+' || set->ttl != other->ttl)
            sheet_row(sheet, cells);
    }
}

static void left_rows(struct sheet *sheet, const struct dns_left *left, const char *who,
                      const struct dns_sets *sets)
{
    char ttl[16] = "-";
    const struct dns_set *set = sets->count > 0 ? &sets->items[0] : NULL;
    if (set)
        snprintf(ttl, sizeof(ttl), "%u", (unsigned)set->ttl);
    for (size_t i = 0; i < (set ? set->count : 1); i++) {
        const char *cells[] = { left->name, dns_type_name(left->type), who, ttl,
                                set ? set->values[i] : "no record" };
        sheet_row(sheet, cells);
    }
}

static void print_left(const struct dns_back *back, bool ours)
{
    static const char *const headers[] = { "name", "type", "by", ">TTL", "value" };
    size_t count = 0;
    struct sheet *sheet = sheet_new(headers, sizeof(headers) / sizeof(headers[0]));
    for (size_t i = 0; i < back->left_count; i++) {
        const struct dns_left *left = &back->left[i];
        if (left->ours != ours)
            continue;
        count++;
        left_rows(sheet, left, "snapshot", &left->was);
        if (ours)
            left_rows(sheet, left, "sluice", &left->wrote);
        left_rows(sheet, left, "live", &left->live);
    }
    if (count == 0) {
        sheet_free(sheet);
        return;
    }
    print("%s", ours ? "Stays, since others have changed what sluice wrote:"
                     : "Stays, since others have changed it, and sluice never did:");
    sheet_print(sheet);
}

void dns_task_print_changes(const struct dns_back *back)
{
    static const char *const headers[] = { "", "name", "type", ">TTL", "value" };
    struct sheet *sheet = sheet_new(headers, sizeof(headers) / sizeof(headers[0]));
    for (size_t i = 0; i < back->changes.count; i++) {
        const struct dns_change *change = &back->changes.items[i];
        change_rows(sheet, &change->before, &change->after, "-");
        change_rows(sheet, &change->after, &change->before, "+");
    }
    if (back->changes.count > 0)
        sheet_print(sheet);
    else
        sheet_free(sheet);
    print_left(back, true);
    print_left(back, false);
}

/* As --only takes it: "@", "imap", with its type. */
static void part_text(const struct dns_task *task, const struct dns_left *left,
                      char out[DNSRECORD_NAME_MAX + 16])
{
    size_t len = strlen(left->name), tail = strlen(task->domain->name);
    bool below = len > tail;
    snprintf(out, DNSRECORD_NAME_MAX + 16, "%.*s/%s", below ? (int)(len - tail - 1) : 1,
             below ? left->name : "@", dns_type_name(left->type));
}

int dns_task_say_left(const struct dns_task *task, const struct dns_back *back)
{
    const struct dns_left *first = NULL;
    char part[DNSRECORD_NAME_MAX + 16], more[48] = "";
    size_t count = 0;
    for (size_t i = 0; i < back->left_count; i++) {
        count += back->left[i].ours;
        first = !first && back->left[i].ours ? &back->left[i] : first;
    }
    if (!first)
        return EXIT_DONE;
    part_text(task, first, part);
    if (count > 1)
        snprintf(more, sizeof(more), " (and %zu more)", count - 1);
    message("%s %s%s stays: others have changed what sluice wrote there. Make it what "
            "sluice wrote or what the snapshot says, or put it back all the same: sluice "
            "dns apply %s --back --snapshot %s --only %s",
            first->name, dns_type_name(first->type), more, task->domain->name,
            task->back->name, part);
    return EXIT_CHECK;
}

static void document_set(doc *object, const char *key, const struct dns_set *set)
{
    doc *half = doc_put(object, key, doc_object());
    doc *values = doc_put(half, "values", doc_array());
    for (size_t i = 0; i < set->count; i++)
        doc_add_text(values, set->values[i]);
    if (set->count > 0)
        doc_number(half, "ttl", set->ttl);
}

static void document_sets(doc *object, const char *key, const struct dns_sets *sets)
{
    const struct dns_set none = { 0 };
    document_set(object, key, sets->count > 0 ? &sets->items[0] : &none);
}

void dns_task_document_changes(doc *document, const struct dns_back *back)
{
    doc *list = doc_put(document, "changes", doc_array());
    for (size_t i = 0; i < back->changes.count; i++) {
        const struct dns_change *change = &back->changes.items[i];
        doc *object = doc_add(list, doc_object());
        doc_text(object, "name", change->after.name);
        doc_text(object, "type", dns_type_name(change->after.type));
        document_set(object, "before", &change->before);
        document_set(object, "after", &change->after);
    }
    list = doc_put(document, "stays", doc_array());
    for (size_t i = 0; i < back->left_count; i++) {
        const struct dns_left *left = &back->left[i];
        doc *object = doc_add(list, doc_object());
        doc_text(object, "name", left->name);
        doc_text(object, "type", dns_type_name(left->type));
        doc_flag(object, "written_by_sluice", left->ours);
        document_sets(object, "snapshot", &left->was);
        document_sets(object, "written", &left->wrote);
        document_sets(object, "live", &left->live);
    }
}

/* Line by line: print() takes one, and values are long. */
static void print_lines(const char *text)
{
    if (!out_is_json())
        fputs(text, stdout);
}

static void print_all(const struct dns_task *task, const struct dns_back *back,
                      const char *zone, const char *batch)
{
    const struct dns_changes *changes = &back->changes;
    const char *format = task->options.format;
    if (!format && changes->count > 0)
        print("%s, %zu %s of records to change%s%s:", task->domain->name, changes->count,
              changes->count == 1 ? "set" : "sets",
              task->back ? ", the way back to snapshot " : "",
              task->back ? task->back->name : "");
    if (changes->count == 0 && !format)
        print("%s: nothing to change", task->domain->name);
    if (!format || strcmp(format, "table") == 0)
        dns_task_print_changes(back);
    if (changes->count > 0 && !format) {
        print("%s", "");
        print("Zone-file lines:");
    }
    if (changes->count > 0 && (!format || strcmp(format, "zone") == 0))
        print_lines(zone);
    if (changes->count > 0 && !format) {
        print("%s", "");
        print("For nsupdate:");
    }
    if (changes->count > 0 && (!format || strcmp(format, "nsupdate") == 0))
        print_lines(batch);
}

int dns_diff(struct dns_task *task)
{
    struct dns_back back = { 0 };
    int code = dns_look_ask(&task->look, false);
    if (code != EXIT_DONE)
        message("%s", task->look.trouble);
    if (code == EXIT_DONE)
        code = dns_task_changes(task, &back);
    if (code == EXIT_DONE) {
        char *zone = dns_plan_zone_lines(&back.changes);
        char *batch = dns_plan_nsupdate(&back.changes, task->look.zone, NULL, 0);
        doc *document = dns_task_document(task);
        if (zone && batch)
            print_all(task, &back, zone, batch);
        doc_text(document, "snapshot", task->back ? task->back->name : NULL);
        dns_task_document_changes(document, &back);
        doc_text(document, "zone_lines", zone);
        doc_text(document, "nsupdate", batch);
        doc_print(document);
        code = zone && batch ? dns_task_say_left(task, &back) : EXIT_SERVICE;
        if (!zone || !batch)
            message("out of memory");
        free(zone);
        free(batch);
    }
    dns_back_free(&back);
    return code;
}
