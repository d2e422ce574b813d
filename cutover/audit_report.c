/*
 * audit_report: sums and lists of the ledger's rows (see audit_report.h).
 */
#include "audit_report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csv.h"
#include "output.h"
#include "route.h"

/* ---- words -------------------------------------------------------------- */

static const struct {
    const char *title;
    const char *advice; /* NULL: it is as it should be, not listed */
} fates[LEDGER_FATES] = {
    [FATE_OLD] = { "delivered on the old side, before the lock", NULL },
    [FATE_LOCKING] = { "delivered while the lock was being completed", NULL },
    [FATE_NEW] = { "delivered on the new side", NULL },
    [FATE_SIDE] = { "delivered on a host whose side is not known", NULL },
    [FATE_ELSEWHERE] = { "accepted by a server whose log is not here", NULL },
    [FATE_REDIRECTED] = { "redirected to a new address", NULL },
    [FATE_SENT_ON] = { "sent on by an alias or .forward", NULL },
    [FATE_COPY] = { "copies sent", NULL },
    [FATE_QUEUED] = { "still queued", "nothing is lost: they wait" },
    [FATE_RETURNED] = { "returned",
                        "the sender was told where a notice is named, else nobody was" },
    [FATE_DISCARDED] = { "discarded by a rule",
                         "a filter or a table of the MTA did that" },
    [FATE_REMOVED] = { "removed by an admin", "postsuper -d: they are gone" },
    [FATE_WRONG] = { "delivered in the wrong place",
                     "the mailbox was locked, or lives on the other side: copy them "
                     "over" },
    [FATE_UNKNOWN] = { "without a known fate",
                       "give the logs of every host; what is listed then: look for it in "
                       "the mailbox and the queues" },
};

/* The worst first. */
static const enum ledger_fate order[] = { FATE_UNKNOWN,  FATE_WRONG,     FATE_REMOVED,
                                          FATE_RETURNED, FATE_DISCARDED, FATE_QUEUED };

const char *audit_fate_title(enum ledger_fate fate)
{
    return fates[fate].title;
}

const char *audit_fate_advice(enum ledger_fate fate)
{
    return fates[fate].advice;
}

const char *audit_side_name(enum ledger_side side)
{
    return side == LEDGER_SIDE_OLD   ? "old"
           : side == LEDGER_SIDE_NEW ? "new"
                                     : "not known";
}

char *audit_number(uint64_t number, char out[32])
{
    char digits[24];
    size_t at = 0;
    int n = snprintf(digits, sizeof(digits), "%" PRIu64, number);
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

/* ---- rows --------------------------------------------------------------- */

static bool in_target(const struct target *target, const struct route *route)
{
    if (target->domain != route->domain)
        return false;
    for (size_t i = 0; !target->whole && i < target->count; i++)
        if (strcmp(target->locals[i], route->addr.local) == 0 ||
            strcmp(target->locals[i], route->base) == 0)
            return true;
    return target->whole;
}

/* One whose recipient is not named may be anybody's. */
static bool is_wanted(const struct audit_report *report, const struct ledger_row *row)
{
    struct route route;
    if (!report->targets || !row->mailbox[0])
        return true;
    if (!route_prepare(report->conf, row->mailbox, strlen(row->mailbox), &route))
        return false;
    for (size_t i = 0; i < report->targets->count; i++)
        if (in_target(&report->targets->items[i], &route))
            return true;
    return false;
}

static char *keep(char **at, const char *text)
{
    char *begin = *at;
    size_t len = strlen(text) + 1;
    memcpy(begin, text, len);
    *at += len;
    return begin;
}

static void list_row(struct audit_report *report, const struct ledger_row *row,
                     bool earlier)
{
    const char *texts[] = { row->mailbox, row->to,         row->from,    row->message_id,
                            row->host,    row->id,         row->where,   row->text,
                            row->notice,  row->first_host, row->first_id };
    size_t size = 0;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        size += strlen(texts[i]) + 1;
    struct audit_item *item = malloc(sizeof(*item) + size);
    if (!item) {
        report->failed = true;
        return;
    }
    char *at = item->text;
    *item = (struct audit_item){ .row = *row, .earlier = earlier };
    item->row.mailbox = keep(&at, row->mailbox);
    item->row.to = keep(&at, row->to);
    item->row.from = keep(&at, row->from);
    item->row.message_id = keep(&at, row->message_id);
    item->row.host = keep(&at, row->host);
    item->row.id = keep(&at, row->id);
    item->row.where = keep(&at, row->where);
    item->row.text = keep(&at, row->text);
    item->row.notice = keep(&at, row->notice);
    item->row.first_host = keep(&at, row->first_host);
    item->row.first_id = keep(&at, row->first_id);
    if (report->last_item)
        report->last_item->next = item;
    else
        report->items = item;
    report->last_item = item;
}

static void csv_row(const struct ledger_row *row, bool earlier)
{
    char accepted[TIME_TEXT_MAX], when[TIME_TEXT_MAX], count[32], again[32];
    (void)snprintf(count, sizeof(count), "%u", row->recipients);
    (void)snprintf(again, sizeof(again), "%u", row->again);
    const char *cells[] = {
        time_text(row->accepted_us / LEDGER_SECOND, accepted),
        earlier ? "yes" : "no",
        row->first_host,
        row->first_id,
        row->message_id,
        row->from,
        row->mailbox,
        count,
        ledger_fate_name(row->fate),
        time_text(row->fate_us / LEDGER_SECOND, when),
        row->host,
        row->id,
        row->to,
        row->where,
        row->text,
        row->notice,
        again,
    };
    print_csv(cells, sizeof(cells) / sizeof(cells[0]));
}

void audit_report_begin(struct audit_report *report)
{
    static const char *const head[] = {
        "accepted",  "earlier",    "first_host", "first_id",  "message_id", "from",
        "recipient", "recipients", "fate",       "fate_time", "host",       "queue_id",
        "to",        "where",      "text",       "notice",    "again",
    };
    if (report->format == AUDIT_CSV)
        print_csv(head, sizeof(head) / sizeof(head[0]));
}

void audit_report_row(struct audit_report *report, const struct ledger_row *row)
{
    bool earlier = row->began_before || (report->since_us != AUDIT_NO_TIME &&
                                         row->accepted_us < report->since_us);
    struct audit_sum *sum = earlier ? &report->earlier : &report->span;
    if (!is_wanted(report, row) ||
        (report->until_us != AUDIT_NO_TIME && row->accepted_us >= report->until_us) ||
        (earlier && report->since_us != AUDIT_NO_TIME && row->fate != FATE_QUEUED &&
         row->fate_us < report->since_us))
        return;
    if (row->message != report->last_message)
        sum->messages++;
    report->last_message = row->message;
    sum->recipients += row->recipients;
    sum->fates[row->fate] += row->recipients;
    sum->again += row->again;
    if (report->format == AUDIT_CSV) {
        csv_row(row, earlier);
        return;
    }
    bool listed = false;
    if (fates[row->fate].advice)
        listed = report->listed[row->fate]++ < AUDIT_LISTED;
    else if (row->again > 0)
        listed = report->listed[LEDGER_FATES]++ < AUDIT_LISTED;
    if (listed || report->all)
        list_row(report, row, earlier);
}

void audit_note(struct audit_report *report, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    if (report->note_count == AUDIT_NOTES)
        return;
    va_start(args, fmt);
    if (vasprintf(&text, fmt, args) >= 0)
        report->notes[report->note_count++] = text;
    va_end(args);
}

void audit_each_queued(struct audit_report *report,
                       void (*each)(void *context, const char *host, const char *id,
                                    char *seen, size_t seen_size),
                       void *context)
{
    for (struct audit_item *item = report->items; item; item = item->next)
        if (item->row.fate == FATE_QUEUED)
            each(context, item->row.host, item->row.id, item->seen, sizeof(item->seen));
}

void audit_report_free(struct audit_report *report)
{
    while (report->items) {
        struct audit_item *next = report->items->next;
        free(report->items);
        report->items = next;
    }
    for (size_t i = 0; i < report->note_count; i++)
        free(report->notes[i]);
}

/* ---- the verdict -------------------------------------------------------- */

bool audit_is_clean(const struct audit_report *report)
{
    return report->span.fates[FATE_UNKNOWN] + report->earlier.fates[FATE_UNKNOWN] +
               report->span.fates[FATE_WRONG] + report->earlier.fates[FATE_WRONG] ==
           0;
}

static void judge_sum(const struct audit_sum *sum, char *out, size_t size)
{
    char a[32], b[32];
    uint64_t unknown = sum->fates[FATE_UNKNOWN], wrong = sum->fates[FATE_WRONG];
    if (unknown == 0 && wrong == 0)
        (void)snprintf(out, size, "all have one known fate");
    else if (wrong == 0)
        (void)snprintf(out, size, "%s WITHOUT A KNOWN FATE", audit_number(unknown, a));
    else if (unknown == 0)
        (void)snprintf(out, size, "%s IN THE WRONG PLACE", audit_number(wrong, a));
    else
        (void)snprintf(out, size, "%s WITHOUT A KNOWN FATE, %s IN THE WRONG PLACE",
                       audit_number(unknown, a), audit_number(wrong, b));
}

void audit_verdict(const struct audit_report *report, char *out, size_t size)
{
    char a[32], b[32], judged[120], before[200] = "";
    const struct audit_sum *span = &report->span, *earlier = &report->earlier;
    if (earlier->fates[FATE_UNKNOWN] + earlier->fates[FATE_WRONG] > 0) {
        judge_sum(earlier, judged, sizeof(judged));
        (void)snprintf(before, sizeof(before), "; of earlier messages %s", judged);
    }
    judge_sum(span, judged, sizeof(judged));
    (void)snprintf(out, size, "%s message%s accepted for %s recipient%s: %s%s",
                   audit_number(span->messages, a), span->messages == 1 ? "" : "s",
                   audit_number(span->recipients, b), span->recipients == 1 ? "" : "s",
                   judged, before);
}

/* ---- one listed row ----------------------------------------------------- */

void audit_item_text(const struct audit_item *item, char *out, size_t size)
{
    const struct ledger_row *row = &item->row;
    char when[TIME_TEXT_MAX], told[128] = "";
    const char *colon = row->text[0] ? ": " : "";
    time_text(row->fate_us / LEDGER_SECOND, when);
    switch (row->fate) {
    case FATE_QUEUED:
        (void)snprintf(out, size, "waits in %s on %s as %s, last line %s%s%s%s",
                       row->where, row->host, row->id, when, colon, row->text,
                       item->seen);
        break;
    case FATE_RETURNED:
        if (row->notice[0])
            (void)snprintf(told, sizeof(told), "; notice %.40s", row->notice);
        (void)snprintf(out, size, "%s by %s (%s, %s)%s%s%s", when, row->host,
                       row->where[0] ? row->where : "-", row->id, colon, row->text, told);
        break;
    case FATE_WRONG:
        (void)snprintf(out, size, "%s", row->text);
        break;
    case FATE_UNKNOWN:
    case FATE_REMOVED:
    case FATE_DISCARDED:
        (void)snprintf(out, size, "%s on %s as %s%s%s", when, row->host, row->id, colon,
                       row->text);
        break;
    default:
        (void)snprintf(out, size, "%s %s on %s as %s%s%s%s%s", when,
                       audit_fate_title(row->fate), row->host, row->id,
                       row->to[0] ? ", to " : "", row->to, colon, row->text);
        break;
    }
}

static void print_item(const struct audit_item *item)
{
    const struct ledger_row *row = &item->row;
    char text[3 * LEDGER_TEXT_MAX + 400], accepted[TIME_TEXT_MAX], many[48] = "";
    if (!row->mailbox[0])
        (void)snprintf(many, sizeof(many), "(%u recipient%s, not named)", row->recipients,
                       row->recipients == 1 ? "" : "s");
    print("  %s %s%s from <%s>, %s%s%s",
          time_text(row->accepted_us / LEDGER_SECOND, accepted), row->mailbox, many,
          row->from, row->message_id[0] ? row->message_id : row->first_id,
          row->again ? ", MORE THAN ONCE" : "", item->earlier ? " (earlier)" : "");
    audit_item_text(item, text, sizeof(text));
    print("    %s", text);
}

/* ---- text --------------------------------------------------------------- */

static void print_totals(const struct audit_report *report)
{
    static const char *const headers[] = { "fate", ">recipients",
                                           ">of earlier messages" };
    struct sheet *sheet = sheet_new(headers, report->earlier.recipients ? 3 : 2);
    char a[32], b[32];
    for (size_t i = 0; i < LEDGER_FATES; i++) {
        const char *cells[] = { fates[i].title, audit_number(report->span.fates[i], a),
                                audit_number(report->earlier.fates[i], b) };
        if (report->span.fates[i] + report->earlier.fates[i] > 0 || i == FATE_UNKNOWN)
            sheet_row(sheet, cells);
    }
    const char *total[] = { "all", audit_number(report->span.recipients, a),
                            audit_number(report->earlier.recipients, b) };
    sheet_row(sheet, total);
    sheet_print(sheet);
}

static void print_hosts(const struct audit_host *hosts, size_t count)
{
    static const char *const headers[] = { "host", "side", "log from", "to" };
    struct sheet *sheet = sheet_new(headers, 4);
    for (size_t i = 0; i < count; i++) {
        char from[TIME_TEXT_MAX], to[TIME_TEXT_MAX];
        const char *cells[] = { hosts[i].name, audit_side_name(hosts[i].side),
                                time_text(hosts[i].first_us / LEDGER_SECOND, from),
                                time_text(hosts[i].last_us / LEDGER_SECOND, to) };
        sheet_row(sheet, cells);
    }
    if (count > 0)
        sheet_print(sheet);
    else
        sheet_free(sheet);
}

static void print_fate(const struct audit_report *report, enum ledger_fate fate)
{
    char a[32], b[32];
    uint64_t count = report->span.fates[fate] + report->earlier.fates[fate];
    uint64_t rows = report->listed[fate];
    if (rows == 0)
        return;
    print("%s", "");
    print("%s: %s (%s)", fates[fate].title, audit_number(count, a), fates[fate].advice);
    for (const struct audit_item *item = report->items; item; item = item->next)
        if (item->row.fate == fate)
            print_item(item);
    if (!report->all && rows > AUDIT_LISTED)
        print("  and %s more: --format csv lists all",
              audit_number(rows - AUDIT_LISTED, b));
}

static void print_again(const struct audit_report *report)
{
    char a[32];
    uint64_t rows = report->listed[LEDGER_FATES];
    if (report->span.again + report->earlier.again == 0)
        return;
    print("%s", "");
    print("delivered more than once: %s (an alias beside the address does that, and a "
          "server "
          "that was ended between delivery and bookkeeping)",
          audit_number(report->span.again + report->earlier.again, a));
    for (const struct audit_item *item = report->items; item; item = item->next)
        if (item->row.again > 0 && !fates[item->row.fate].advice)
            print_item(item);
    if (!report->all && rows > AUDIT_LISTED)
        print("  and %s more: --format csv lists all",
              audit_number(rows - AUDIT_LISTED, a));
}

static void print_text(const struct audit_report *report, const struct audit_host *hosts,
                       size_t host_count)
{
    char verdict[400];
    audit_verdict(report, verdict, sizeof(verdict));
    print("%s", verdict);
    print("%s", "");
    print_totals(report);
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
        print_fate(report, order[i]);
    print_again(report);
    if (report->all) {
        print("%s", "");
        print("every message:");
        for (const struct audit_item *item = report->items; item; item = item->next)
            if (!fates[item->row.fate].advice)
                print_item(item);
    }
    print("%s", "");
    print_hosts(hosts, host_count);
    for (size_t i = 0; i < report->note_count; i++)
        print("note: %s", report->notes[i]);
}

/* ---- all ---------------------------------------------------------------- */

bool audit_report_show(struct audit_report *report, const struct audit_host *hosts,
                       size_t host_count)
{
    char verdict[400];
    switch (report->format) {
    case AUDIT_JSON:
        return audit_json(report, hosts, host_count);
    case AUDIT_HTML:
        return audit_page(report, hosts, host_count);
    case AUDIT_CSV: /* the rows are out; what is no row goes to standard error */
        audit_verdict(report, verdict, sizeof(verdict));
        notice("%s", verdict);
        for (size_t i = 0; i < report->note_count; i++)
            notice("%s", report->notes[i]);
        return true;
    case AUDIT_TEXT:
        break;
    }
    print_text(report, hosts, host_count);
    return true;
}
