/*
 * audit_json: the audit as one document. Its keys are promises (doc/sluice.1).
 */
#include "audit_report.h"
#include "output.h"

static void put_time(doc *object, const char *key, int64_t us)
{
    doc_real(object, key, (double)us / (double)LEDGER_SECOND);
}

static void put_item(doc *array, const struct audit_item *item)
{
    const struct ledger_row *row = &item->row;
    doc *object = doc_add(array, doc_object());
    doc_text(object, "fate", ledger_fate_name(row->fate));
    doc_text(object, "recipient", row->mailbox[0] ? row->mailbox : NULL);
    doc_number(object, "recipients", row->recipients);
    doc_text(object, "to", row->to[0] ? row->to : NULL);
    doc_text(object, "from", row->from);
    doc_text(object, "message_id", row->message_id);
    put_time(object, "accepted", row->accepted_us);
    doc_flag(object, "earlier", item->earlier);
    doc_text(object, "first_host", row->first_host);
    doc_text(object, "first_id", row->first_id);
    put_time(object, "fate_time", row->fate_us);
    doc_text(object, "host", row->host);
    doc_text(object, "queue_id", row->id);
    doc_text(object, "where", row->where);
    doc_text(object, "text", row->text);
    doc_text(object, "notice", row->notice[0] ? row->notice : NULL);
    doc_number(object, "again", row->again);
    doc_flag(object, "held_by_sluice", item->seen[0] != '\0');
}

static void put_sum(doc *document, const char *key, const struct audit_sum *sum)
{
    doc *object = doc_put(document, key, doc_object());
    doc_number(object, "messages", (int64_t)sum->messages);
    doc_number(object, "recipients", (int64_t)sum->recipients);
    doc_number(object, "delivered_again", (int64_t)sum->again);
    doc *by_fate = doc_put(object, "fates", doc_object());
    for (size_t i = 0; i < LEDGER_FATES; i++)
        doc_number(by_fate, ledger_fate_name((enum ledger_fate)i),
                   (int64_t)sum->fates[i]);
}

bool audit_json(const struct audit_report *report, const struct audit_host *hosts,
                size_t host_count)
{
    char verdict[400];
    doc *document = doc_object();
    audit_verdict(report, verdict, sizeof(verdict));
    doc_text(document, "verdict", verdict);
    doc_flag(document, "clean", audit_is_clean(report));
    put_sum(document, "span", &report->span);
    put_sum(document, "earlier", &report->earlier);
    doc *rows = doc_put(document, "rows", doc_array());
    uint64_t left_out = 0;
    for (size_t i = 0; !report->all && i <= LEDGER_FATES; i++)
        left_out +=
            report->listed[i] > AUDIT_LISTED ? report->listed[i] - AUDIT_LISTED : 0;
    for (const struct audit_item *item = report->items; item; item = item->next)
        put_item(rows, item);
    doc_number(document, "rows_left_out", (int64_t)left_out);
    doc *list = doc_put(document, "hosts", doc_array());
    for (size_t i = 0; i < host_count; i++) {
        doc *object = doc_add(list, doc_object());
        doc_text(object, "host", hosts[i].name);
        doc_text(object, "side", audit_side_name(hosts[i].side));
        put_time(object, "first", hosts[i].first_us);
        put_time(object, "last", hosts[i].last_us);
    }
    doc_number(document, "lines", (int64_t)report->lines);
    doc *notes = doc_put(document, "notes", doc_array());
    for (size_t i = 0; i < report->note_count; i++)
        doc_add_text(notes, report->notes[i]);
    return doc_print(document);
}
