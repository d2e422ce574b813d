/*
 * audit_page: the audit as one HTML page that loads nothing (playbook_page.h writes
 * it and escapes all text).
 */
#include <stdio.h>
#include <stdlib.h>

#include "audit_report.h"
#include "output.h"
#include "playbook_page.h"

static void totals(struct page *page, const struct audit_report *report)
{
    static const char *const heads[] = { "fate", "recipients", "of earlier messages" };
    static const int widths[] = { 60, 20, 20 };
    char a[32], b[32];
    page_head(page, heads, widths, 3);
    for (size_t i = 0; i < LEDGER_FATES; i++) {
        bool bad = i == FATE_UNKNOWN || i == FATE_WRONG;
        uint64_t count = report->span.fates[i] + report->earlier.fates[i];
        const struct page_cell cells[] = {
            { .text = audit_fate_title((enum ledger_fate)i), .kind = "" },
            { .text = audit_number(report->span.fates[i], a),
              .kind = bad && count ? "failed" : "n" },
            { .text = audit_number(report->earlier.fates[i], b), .kind = "n" },
        };
        if (count > 0 || i == FATE_UNKNOWN)
            page_row(page, cells, 3);
    }
    const struct page_cell all[] = {
        { .text = "all", .kind = "" },
        { .text = audit_number(report->span.recipients, a), .kind = "n" },
        { .text = audit_number(report->earlier.recipients, b), .kind = "n" },
    };
    page_row(page, all, 3);
    page_foot(page);
}

static void rows(struct page *page, const struct audit_report *report)
{
    static const char *const heads[] = { "accepted", "recipient", "message", "fate" };
    static const int widths[] = { 14, 22, 26, 38 };
    page_head(page, heads, widths, 4);
    for (const struct audit_item *item = report->items; item; item = item->next) {
        const struct ledger_row *row = &item->row;
        char accepted[TIME_TEXT_MAX], text[3 * LEDGER_TEXT_MAX + 400],
            from[LEDGER_TEXT_MAX + 16];
        bool bad = row->fate == FATE_UNKNOWN || row->fate == FATE_WRONG;
        audit_item_text(item, text, sizeof(text));
        (void)snprintf(from, sizeof(from), "from <%s>", row->from);
        const struct page_cell cells[] = {
            { .text = time_text(row->accepted_us / LEDGER_SECOND, accepted),
              .kind = "time",
              .more = { item->earlier ? "earlier" : "" } },
            { .text = row->mailbox[0] ? row->mailbox : "not named",
              .kind = "",
              .more = { row->again ? "more than once" : "" } },
            { .text = row->message_id[0] ? row->message_id : row->first_id,
              .kind = "note",
              .more = { from } },
            { .text = audit_fate_title(row->fate),
              .kind = bad                            ? "failed"
                      : audit_fate_advice(row->fate) ? "waits"
                                                     : "done",
              .more = { text } },
        };
        page_row(page, cells, 4);
    }
    page_foot(page);
}

bool audit_page(const struct audit_report *report, const struct audit_host *hosts,
                size_t host_count)
{
    static const char *const heads[] = { "host", "side", "log from", "to" };
    static const int widths[] = { 40, 20, 20, 20 };
    struct page page;
    char verdict[400], number[32];
    audit_verdict(report, verdict, sizeof(verdict));
    if (!page_open(&page, PAPER_HTML, "sluice audit")) {
        message("out of memory");
        return false;
    }
    page_title(&page, 1, verdict);
    totals(&page, report);
    if (report->items) {
        page_title(&page, 2, report->all ? "Every message" : "What to look at");
        rows(&page, report);
    }
    for (size_t i = 0; !report->all && i <= LEDGER_FATES; i++)
        if (report->listed[i] > AUDIT_LISTED) {
            (void)snprintf(verdict, sizeof(verdict), "%s: %s more are not in this list",
                           i < LEDGER_FATES ? audit_fate_title((enum ledger_fate)i)
                                            : "delivered more than once",
                           audit_number(report->listed[i] - AUDIT_LISTED, number));
            page_paragraph(&page, verdict);
        }
    page_title(&page, 2, "The logs");
    page_head(&page, heads, widths, 4);
    for (size_t i = 0; i < host_count; i++) {
        char from[TIME_TEXT_MAX], to[TIME_TEXT_MAX];
        const struct page_cell cells[] = {
            { .text = hosts[i].name, .kind = "" },
            { .text = audit_side_name(hosts[i].side), .kind = "" },
            { .text = time_text(hosts[i].first_us / LEDGER_SECOND, from),
              .kind = "time" },
            { .text = time_text(hosts[i].last_us / LEDGER_SECOND, to), .kind = "time" },
        };
        page_row(&page, cells, 4);
    }
    page_foot(&page);
    for (size_t i = 0; i < report->note_count; i++)
        page_paragraph(&page, report->notes[i]);
    bool fine = page_close(&page);
    if (fine)
        (void)fputs(page.text, stdout);
    else
        message("out of memory");
    free(page.text);
    return fine;
}
