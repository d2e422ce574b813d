/*
 * audit_report: adds the ledger's rows up and shows them: text, JSON, CSV, HTML.
 *
 * Counted are the rows of messages accepted in the span, and, apart from them, those
 * of messages accepted before it (or before the logs begin) whose fate is in it. In
 * both the fates add up to the recipients, by construction: each row is counted under
 * one fate. What somebody should look at is listed, up to AUDIT_LISTED of each kind
 * (CSV and --all: everything).
 */
#ifndef SLUICE_AUDIT_REPORT_H
#define SLUICE_AUDIT_REPORT_H

#include "audit_ledger.h"
#include "command.h"
#include "targets.h"

#define AUDIT_LISTED  200
#define AUDIT_NOTES   20
#define AUDIT_NO_TIME INT64_MIN

enum audit_format { AUDIT_TEXT, AUDIT_JSON, AUDIT_CSV, AUDIT_HTML };

struct audit_item; /* a listed row */

struct audit_sum {
    uint64_t messages, recipients, again;
    uint64_t fates[LEDGER_FATES];
};

struct audit_report {
    enum audit_format format;
    bool all;
    int64_t since_us, until_us; /* AUDIT_NO_TIME: open */
    const struct conf *conf;
    const struct targets *targets; /* NULL: every managed mailbox */
    struct audit_sum span, earlier;
    uint64_t last_message; /* of the row before */
    struct audit_item *items, *last_item;
    uint64_t listed[LEDGER_FATES + 1]; /* [LEDGER_FATES]: delivered again */
    bool failed;                       /* no memory */
    char *notes[AUDIT_NOTES];
    size_t note_count;
    uint64_t lines;
};

void audit_report_begin(struct audit_report *report); /* CSV: its header row */
void audit_report_row(struct audit_report *report, const struct ledger_row *row);
__attribute__((format(printf, 2, 3))) void audit_note(struct audit_report *report,
                                                      const char *fmt, ...);
/* Calls each() for every listed row that is in a queue. */
void audit_each_queued(struct audit_report *report,
                       void (*each)(void *context, const char *host, const char *id,
                                    char *seen, size_t seen_size),
                       void *context);
/* One known fate each, and none in a wrong place. */
bool audit_is_clean(const struct audit_report *report);

struct audit_host {
    const char *name;
    enum ledger_side side;
    int64_t first_us, last_us;
};
/* false: a message was printed. */
bool audit_report_show(struct audit_report *report, const struct audit_host *hosts,
                       size_t host_count);
void audit_report_free(struct audit_report *report);

/* For audit_json.c and audit_page.c. */
#define AUDIT_SEEN_MAX 80
struct audit_item {
    struct audit_item *next;
    struct ledger_row row; /* its texts are in text[] */
    bool earlier;
    char seen[AUDIT_SEEN_MAX]; /* what Redis knows of it */
    char text[];
};
const char *audit_fate_title(enum ledger_fate fate);
void audit_verdict(const struct audit_report *report, char *out, size_t size);
const char *audit_side_name(enum ledger_side side);
char *audit_number(uint64_t number, char out[32]); /* "1,059" */
/* Whether this fate's rows are listed, and what to say above them. */
const char *audit_fate_advice(enum ledger_fate fate);
/* "waits in deferred on mx1 as 4jX since ...: mailbox is being moved" */
void audit_item_text(const struct audit_item *item, char *out, size_t size);
bool audit_json(const struct audit_report *report, const struct audit_host *hosts,
                size_t host_count);
bool audit_page(const struct audit_report *report, const struct audit_host *hosts,
                size_t host_count);

#endif
