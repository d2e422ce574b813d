/*
 * sluice auth report DOMAIN: who sends mail as a domain, by the figures that
 * sluice-milter counts on every MTA host; sluice auth reset DOMAIN forgets them.
 *
 * One row for each sending host and envelope domain. Those whose SPF would fail
 * once the domain's record ends in -all come first, since these are what the admin
 * looks for: hosts that are missing in the record, or somebody's forgeries.
 *
 * HELO and envelope domain are what anybody said: the store has bounded them and
 * keeps printing characters alone, and the table shows no more than CELL_MAX.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "addr.h"
#include "authresult.h"
#include "command.h"
#include "options.h"
#include "output.h"

#define CELL_MAX     32
#define FIGURE_MAX   24
#define OTHERS       "*" /* the client of what found no room, see store.h */
#define RESULT_KINDS 3

struct report {
    const char *domain;
    struct auth_row *rows; /* texts are our copies */
    size_t count, room;
    bool failed;
    size_t hosts; /* different ones */
    uint64_t messages, would_fail;
};

static bool copy_texts(struct auth_row *row)
{
    row->client = strdup(row->client);
    row->envelope = strdup(row->envelope);
    row->helo = strdup(row->helo);
    return row->client && row->envelope && row->helo;
}

static bool collect(void *context, const struct auth_row *row)
{
    struct report *report = context;
    if (report->count == report->room) {
        size_t room = report->room ? report->room * 2 : 64;
        struct auth_row *rows = reallocarray(report->rows, room, sizeof(*rows));
        if (!rows) {
            report->failed = true;
            return false;
        }
        report->rows = rows;
        report->room = room;
    }
    report->rows[report->count] = *row;
    report->failed = !copy_texts(&report->rows[report->count++]);
    report->messages += row->messages;
    report->would_fail += row->would_fail;
    return !report->failed;
}

static void free_report(struct report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        free((void *)(uintptr_t)report->rows[i].client);
        free((void *)(uintptr_t)report->rows[i].envelope);
        free((void *)(uintptr_t)report->rows[i].helo);
    }
    free(report->rows);
}

static int by_client(const void *a, const void *b)
{
    const struct auth_row *one = a, *other = b;
    return strcmp(one->client, other->client);
}

/* The last one is what is no single host's. */
static int worst_first(const void *a, const void *b)
{
    const struct auth_row *one = a, *other = b;
    bool one_others = strcmp(one->client, OTHERS) == 0;
    bool other_others = strcmp(other->client, OTHERS) == 0;
    if (one_others != other_others)
        return one_others - other_others;
    if (one->would_fail != other->would_fail)
        return one->would_fail < other->would_fail ? 1 : -1;
    if (one->messages != other->messages)
        return one->messages < other->messages ? 1 : -1;
    int order = strcmp(one->client, other->client);
    return order ? order : strcmp(one->envelope, other->envelope);
}

static size_t count_hosts(struct report *report)
{
    size_t hosts = 0;
    if (report->count > 1)
        qsort(report->rows, report->count, sizeof(*report->rows), by_client);
    for (size_t i = 0; i < report->count; i++)
        hosts += strcmp(report->rows[i].client, OTHERS) != 0 &&
                 (i == 0 || by_client(&report->rows[i], &report->rows[i - 1]) != 0);
    return hosts;
}

static int collect_all(struct command_context *context, struct report *report)
{
    bool fine = store_each_auth(context->store, report->domain, collect, report);
    if (report->failed)
        message("out of memory");
    else if (!fine)
        message("%s", store_error(context->store));
    if (report->failed || !fine)
        return EXIT_SERVICE;
    report->hosts = count_hosts(report);
    if (report->count > 1)
        qsort(report->rows, report->count, sizeof(*report->rows), worst_first);
    return EXIT_DONE;
}

/* ---- the results, one kind after the other ------------------------------- */

/* What each verification can end in, the good one first. */
static const struct result_kind {
    const char *name, *title;
    enum auth_result results[AUTH_RESULTS];
    size_t count;
} kinds[RESULT_KINDS] = {
    { "spf",
      "SPF",
      { AUTH_PASS, AUTH_FAIL, AUTH_SOFTFAIL, AUTH_NEUTRAL, AUTH_NONE, AUTH_TEMPERROR,
        AUTH_PERMERROR },
      7 },
    { "dkim",
      "DKIM",
      { AUTH_PASS, AUTH_FAIL, AUTH_POLICY, AUTH_NEUTRAL, AUTH_NONE, AUTH_TEMPERROR,
        AUTH_PERMERROR },
      7 },
    { "dmarc",
      "DMARC",
      { AUTH_PASS, AUTH_FAIL, AUTH_NONE, AUTH_TEMPERROR, AUTH_PERMERROR },
      5 },
};

static const uint64_t *counts_of(const struct auth_row *row, size_t kind)
{
    const uint64_t *const counts[RESULT_KINDS] = { row->spf, row->dkim, row->dmarc };
    return counts[kind];
}

/* ---- the table ----------------------------------------------------------- */

#define RESULTS_TEXT_MAX 256

/* "pass 10, softfail 3" */
static void results_text(const struct auth_row *row, size_t kind,
                         char out[RESULTS_TEXT_MAX])
{
    const uint64_t *counts = counts_of(row, kind);
    size_t used = 0;
    memcpy(out, "-", 2);
    for (size_t i = 0; i < kinds[kind].count; i++) {
        enum auth_result result = kinds[kind].results[i];
        if (counts[result] == 0)
            continue;
        int n = snprintf(out + used, RESULTS_TEXT_MAX - used, "%s%s %" PRIu64,
                         used > 0 ? ", " : "", auth_result_name(result), counts[result]);
        used += n > 0 ? (size_t)n : 0; /* 7 words and figures fit */
    }
}

static const char *shorten(const char *text, char out[CELL_MAX + 1])
{
    size_t len = strlen(text);
    memcpy(out, text, len < CELL_MAX ? len + 1 : CELL_MAX);
    if (len > CELL_MAX - 1)
        memcpy(out + CELL_MAX - 3, "...", 4);
    return out;
}

static void print_row(struct sheet *sheet, const struct auth_row *row)
{
    char results[RESULT_KINDS][RESULTS_TEXT_MAX];
    char helo[CELL_MAX + 1], envelope[CELL_MAX + 1], messages[FIGURE_MAX],
        fails[FIGURE_MAX], first[TIME_TEXT_MAX], last[TIME_TEXT_MAX];
    bool others = strcmp(row->client, OTHERS) == 0;
    for (size_t i = 0; i < RESULT_KINDS; i++)
        results_text(row, i, results[i]);
    snprintf(messages, sizeof(messages), "%" PRIu64, row->messages);
    snprintf(fails, sizeof(fails), "%" PRIu64, row->would_fail);
    time_text(row->first, first);
    time_text(row->last, last);
    first[strcspn(first, " ")] = '\0'; /* the day is enough */
    if (strrchr(last, ':'))
        *strrchr(last, ':') = '\0'; /* and the minute */
    const char *cells[] = { row->would_fail > 0 ? "WOULD FAIL" : "",
                            row->would_fail > 0 ? fails : "",
                            others           ? "(all others)"
                            : row->client[0] ? row->client
                                             : "(not known)",
                            row->helo[0] ? shorten(row->helo, helo) : "-",
                            others             ? "-"
                            : row->envelope[0] ? shorten(row->envelope, envelope)
                                               : "<>",
                            messages,
                            results[0],
                            results[1],
                            results[2],
                            first,
                            last };
    sheet_row(sheet, cells);
}

static void print_table(const struct report *report)
{
    static const char *const headers[] = { "under -all", ">",        "sending host",
                                           "HELO",       "envelope", ">messages",
                                           "SPF",        "DKIM",     "DMARC",
                                           "first seen", "last seen" };
    struct sheet *sheet = sheet_new(headers, sizeof(headers) / sizeof(headers[0]));
    for (size_t i = 0; i < report->count; i++)
        print_row(sheet, &report->rows[i]);
    sheet_print(sheet);
}

static void print_summary(const struct command_context *context,
                          const struct report *report)
{
    const struct conf_auth *auth = &context->conf->auth;
    if (report->count == 0) {
        print("nothing is counted for %s yet", report->domain);
        if (!auth->spf && !auth->dkim && !auth->dmarc)
            print("sluice-milter verifies nothing on this host: %s has no auth section",
                  context->conf->path);
        return;
    }
    print("%s: %zu %s, %" PRIu64 " %s, %" PRIu64 " would fail under -all", report->domain,
          report->hosts, report->hosts == 1 ? "sending host" : "sending hosts",
          report->messages, report->messages == 1 ? "message" : "messages",
          report->would_fail);
    if (report->would_fail > 0)
        print("Before the SPF record of %s ends in -all, it must name those of these "
              "hosts that send rightfully (where DMARC passes by DKIM, they do).",
              report->domain);
}

/* ---- for programs -------------------------------------------------------- */

/* RFC 3339, UTC; "" for 0. */
static void utc_text(int64_t when, char out[TIME_TEXT_MAX])
{
    time_t seconds = (time_t)when;
    struct tm tm;
    if (when == 0 || !gmtime_r(&seconds, &tm) ||
        strftime(out, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        out[0] = '\0';
}

#define CSV_FIXED   5 /* before the results */
#define CSV_COLUMNS (CSV_FIXED + RESULT_KINDS * AUTH_RESULTS + 2)

static void print_csv_header(void)
{
    char names[CSV_COLUMNS][FIGURE_MAX] = { "client", "helo", "envelope", "messages",
                                            "would_fail" };
    const char *cells[CSV_COLUMNS];
    size_t n = CSV_FIXED;
    for (size_t kind = 0; kind < RESULT_KINDS; kind++)
        for (size_t i = 0; i < kinds[kind].count; i++)
            snprintf(names[n++], FIGURE_MAX, "%s_%s", kinds[kind].name,
                     auth_result_name(kinds[kind].results[i]));
    snprintf(names[n++], FIGURE_MAX, "first");
    snprintf(names[n++], FIGURE_MAX, "last");
    for (size_t i = 0; i < n; i++)
        cells[i] = names[i];
    print_csv(cells, n);
}

static void print_csv_row(const struct auth_row *row)
{
    char figures[CSV_COLUMNS][FIGURE_MAX], first[TIME_TEXT_MAX], last[TIME_TEXT_MAX];
    const char *cells[CSV_COLUMNS] = { row->client, row->helo, row->envelope };
    size_t n = CSV_FIXED;
    snprintf(figures[3], FIGURE_MAX, "%" PRIu64, row->messages);
    snprintf(figures[4], FIGURE_MAX, "%" PRIu64, row->would_fail);
    for (size_t kind = 0; kind < RESULT_KINDS; kind++)
        for (size_t i = 0; i < kinds[kind].count; i++)
            snprintf(figures[n++], FIGURE_MAX, "%" PRIu64,
                     counts_of(row, kind)[kinds[kind].results[i]]);
    for (size_t i = 3; i < n; i++)
        cells[i] = figures[i];
    utc_text(row->first, first);
    utc_text(row->last, last);
    cells[n++] = first;
    cells[n++] = last;
    print_csv(cells, n);
}

static void document_report(const struct report *report)
{
    doc *document = doc_object(), *senders = doc_array();
    doc_text(document, "command", "auth");
    doc_text(document, "domain", report->domain);
    doc_number(document, "hosts", (int64_t)report->hosts);
    doc_number(document, "messages", (int64_t)report->messages);
    doc_number(document, "would_fail", (int64_t)report->would_fail);
    for (size_t r = 0; r < report->count; r++) {
        const struct auth_row *row = &report->rows[r];
        doc *object = doc_add(senders, doc_object());
        doc_text(object, "client", row->client);
        doc_text(object, "helo", row->helo);
        doc_text(object, "envelope", row->envelope);
        doc_number(object, "messages", (int64_t)row->messages);
        doc_number(object, "would_fail", (int64_t)row->would_fail);
        for (size_t kind = 0; kind < RESULT_KINDS; kind++) {
            doc *results = doc_put(object, kinds[kind].name, doc_object());
            for (size_t i = 0; i < kinds[kind].count; i++) {
                enum auth_result result = kinds[kind].results[i];
                doc_number(results, auth_result_name(result),
                           (int64_t)counts_of(row, kind)[result]);
            }
        }
        doc_number(object, "first", row->first);
        doc_number(object, "last", row->last);
    }
    doc_put(document, "senders", senders);
    doc_print(document);
}

/* ---- the commands -------------------------------------------------------- */

static int show(struct command_context *context, struct report *report, bool csv)
{
    int code = collect_all(context, report);
    if (code != EXIT_DONE)
        return code;
    if (csv) {
        print_csv_header();
        for (size_t i = 0; i < report->count; i++)
            print_csv_row(&report->rows[i]);
        return EXIT_DONE;
    }
    if (report->count > 0)
        print_table(report);
    print_summary(context, report);
    document_report(report);
    return EXIT_DONE;
}

static int reset(struct command_context *context, struct report *report)
{
    int code = collect_all(context, report);
    if (code != EXIT_DONE)
        return code;
    if (!context->dry_run &&
        store_auth_drop(context->store, report->domain) != COMMIT_DONE) {
        message("outcome unknown (%s): run the same command again",
                store_error(context->store));
        return EXIT_AGAIN;
    }
    print("%s: the figures of %zu %s (%" PRIu64 " messages) %s", report->domain,
          report->hosts, report->hosts == 1 ? "sending host" : "sending hosts",
          report->messages, context->dry_run ? "would be forgotten" : "are forgotten");
    doc *document = doc_object();
    doc_text(document, "command", "auth");
    doc_flag(document, "dry_run", context->dry_run);
    doc_text(document, "domain", report->domain);
    doc_number(document, "hosts", (int64_t)report->hosts);
    doc_number(document, "messages", (int64_t)report->messages);
    doc_print(document);
    return EXIT_DONE;
}

/* The managed domain of that name; NULL after a message. */
static const char *managed_name(const struct command_context *context, const char *name)
{
    char canonical[ADDR_DOMAIN_MAX + 1];
    const struct conf_domain *domain = addr_domain(name, strlen(name), canonical)
                                           ? conf_managed(context->conf, canonical)
                                           : NULL;
    if (!domain)
        message("%s is not a domain of %s: only those are counted", name,
                context->conf->path);
    return domain ? domain->name : NULL;
}

int command_auth(struct command_context *context, int argc, char **argv)
{
    struct report report = { 0 };
    bool csv = false;
    const struct option_spec specs[] = { { "csv", OPTION_FLAG, &csv } };
    if (!options_parse(specs, sizeof(specs) / sizeof(specs[0]), &argc, argv))
        return EXIT_USE;
    bool resets = argc == 3 && strcmp(argv[1], "reset") == 0;
    if (argc != 3 || (!resets && strcmp(argv[1], "report") != 0)) {
        message("write: sluice auth report DOMAIN, or: sluice auth reset DOMAIN");
        return EXIT_USE;
    }
    if (csv && (resets || context->json)) {
        message(resets ? "--csv is for the report" : "--csv or --json, not both");
        return EXIT_USE;
    }
    report.domain = managed_name(context, argv[2]);
    if (!report.domain)
        return EXIT_DATA;
    int code = command_need_store(context);
    if (code == EXIT_DONE)
        code = resets ? reset(context, &report) : show(context, &report, csv);
    free_report(&report);
    return code;
}
