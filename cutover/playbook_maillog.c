/*
 * playbook_maillog: see playbook_maillog.h; and the actions histogram and contacts.
 *
 * Limits: those of the reader; NAMES_MAX different correspondents or submitters, which
 * a message names when there are more.
 */
#include "playbook_maillog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "log_event.h"
#include "log_flow.h"
#include "log_reader.h"
#include "output.h"
#include "playbook_people.h"
#include "playbook_traffic.h"

#define NAMES_MAX  500000
#define TOP        200
#define PROBED_MAX 400 /* of a text that is looked at */

/* ---- reading ------------------------------------------------------------- */

#define BIT(kind) (1u << (kind))

typedef bool record_fn(void *context, const struct log_record *record);

static int each_record(const char *path, unsigned wanted, int64_t since, record_fn *each,
                       void *context)
{
    char error[512] = "out of memory";
    struct log_reader *reader = log_reader_new(wanted);
    const struct log_record *record;
    enum log_read result = LOG_READ_FAILED;
    int code = EXIT_DATA;
    if (!reader || !log_reader_add(reader, path, error, sizeof(error))) {
        message("%s", error);
        log_reader_free(reader);
        return reader ? EXIT_DATA : EXIT_SERVICE;
    }
    if (since > 0)
        log_reader_since(reader, since);
    while ((result = log_reader_next(reader, &record)) == LOG_READ_EVENT)
        if (record->time.us / 1000000 >= since && !each(context, record))
            break;
    const struct log_counts *counts = log_reader_counts(reader);
    if (result == LOG_READ_FAILED)
        message("%s", log_reader_error(reader));
    else if (counts->lines > 0 && counts->foreign == counts->lines)
        message("%s: none of its %" PRIu64 " lines is of a mail log", path,
                counts->lines);
    else
        code = EXIT_DONE;
    log_reader_free(reader);
    return code;
}

/* In canonical form; false: not an address with a domain. */
static bool canonical(struct log_slice text, struct addr *parsed,
                      char out[ADDR_TEXT_MAX + 1])
{
    if (text.len > PROBED_MAX || addr_parse(text.text, text.len, parsed) != ADDR_OK)
        return false;
    addr_format(parsed->local, parsed->domain, out);
    return true;
}

/* ---- hours --------------------------------------------------------------- */

/* Messages that came in, each once: qmgr names one again at every attempt. */
static bool count_hour(void *context, const struct log_record *record)
{
    traffic_add(context, record->time.us / 1000000);
    return true;
}

static int write_histogram(struct action_context *context, const struct traffic *traffic)
{
    char texts[26][24];
    const char *cells[26];
    FILE *out = paper_open(context, "histogram.csv");
    if (!out)
        return EXIT_SERVICE;
    for (int day = -1; day < 7; day++) {
        uint64_t all = 0;
        cells[0] = day < 0 ? "day" : traffic_day(day);
        for (int hour = 0; hour < 24; hour++) {
            uint64_t n = day < 0 ? (uint64_t)hour : traffic->hours[day * 24 + hour];
            all += day < 0 ? 0 : n;
            (void)snprintf(texts[hour], sizeof(texts[0]),
                           day < 0 ? "%02" PRIu64 : "%" PRIu64, n);
            cells[hour + 1] = texts[hour];
        }
        (void)snprintf(texts[24], sizeof(texts[0]), "%" PRIu64, all);
        cells[25] = day < 0 ? "all" : texts[24];
        paper_row(out, cells, 26);
    }
    return paper_close(context, out, "histogram.csv", true);
}

int action_histogram(struct action_context *context, int argc, char **argv)
{
    struct traffic traffic = { 0 };
    char text[TRAFFIC_HOUR_TEXT];
    int hours = argc > 2 ? atoi(argv[2]) : 6;
    if (hours < 1 || hours > 24) {
        message("histogram: \"%s\" is not 1 to 24 hours", argv[2]);
        return EXIT_USE;
    }
    int code = each_record(argv[1], BIT(LOG_EVENT_CLIENT) | BIT(LOG_EVENT_PICKUP), 0,
                           count_hour, &traffic);
    if (code == EXIT_DONE && traffic.messages == 0) {
        message("%s: no message came in: is it the log of the mail server?", argv[1]);
        code = EXIT_DATA;
    }
    if (code == EXIT_DONE)
        code = write_histogram(context, &traffic);
    if (code != EXIT_DONE)
        return code;
    struct traffic_window window = traffic_quietest(&traffic, hours);
    int64_t days = (traffic.last - traffic.first) / 86400 + 1;
    if (window.begins < 0)
        print("%" PRIu64
              " messages, too short a log to name %d quiet hours: histogram.csv",
              traffic.messages, hours);
    else
        print("quietest %d hours: from %s (%" PRIu64 " of %" PRIu64
              " messages in %" PRId64 " days): histogram.csv",
              hours, traffic_hour_text(window.begins, text), window.messages,
              traffic.messages, days);
    return EXIT_DONE;
}

/* ---- correspondents ------------------------------------------------------ */

struct contacts {
    const char *domain;
    struct ranking *names; /* "in ADDRESS", "out ADDRESS" */
    bool no_memory;
};

static void count_contact(struct contacts *contacts, const char *way,
                          struct log_slice text)
{
    char address[ADDR_TEXT_MAX + 1], name[ADDR_TEXT_MAX + 8];
    struct addr parsed;
    if (!canonical(text, &parsed, address) ||
        strcmp(parsed.domain, contacts->domain) == 0)
        return;
    int n = snprintf(name, sizeof(name), "%s %s", way, address);
    contacts->no_memory =
        contacts->no_memory || !ranking_add(contacts->names, name, (size_t)n);
}

static bool take_contact(void *context, const struct log_record *record)
{
    struct contacts *contacts = context;
    const struct log_event *event = &record->event;
    struct log_slice to;
    if (event->kind == LOG_EVENT_QUEUED) {
        count_contact(contacts, "in", event->from);
    } else if (event->status == LOG_STATUS_SENT) {
        for (size_t at = 0; log_event_next_to(event, &at, &to);)
            count_contact(contacts, "out", to);
    }
    return !contacts->no_memory;
}

static int write_contacts(struct action_context *context, const struct ranking *names)
{
    static const char *const header[] = { "address", "direction", "messages" };
    char figure[24];
    struct ranked *list = ranking_list(names);
    FILE *out = list ? paper_open(context, "contacts.csv") : NULL;
    size_t n = ranking_count(names);
    if (!out) {
        free(list);
        return EXIT_SERVICE;
    }
    paper_row(out, header, 3);
    for (size_t i = 0; i < n && i < TOP; i++) {
        bool in = strncmp(list[i].name, "in ", 3) == 0;
        const char *cells[] = { list[i].name + (in ? 3 : 4),
                                in ? "writes" : "is written to", figure };
        (void)snprintf(figure, sizeof(figure), "%" PRIu64, list[i].count);
        paper_row(out, cells, 3);
    }
    if (n > 0) {
        const char *top = list[0].name + (strncmp(list[0].name, "in ", 3) == 0 ? 3 : 4);
        print("%zu correspondents, most often %s (%" PRIu64 " messages): contacts.csv", n,
              top, list[0].count);
    }
    free(list);
    return paper_close(context, out, "contacts.csv", true);
}

int action_contacts(struct action_context *context, int argc, char **argv)
{
    struct contacts contacts = { .domain = context->domain,
                                 .names = ranking_new(NAMES_MAX) };
    (void)argc;
    if (!contacts.names) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    int code = each_record(argv[1], BIT(LOG_EVENT_QUEUED) | BIT(LOG_EVENT_DELIVERY), 0,
                           take_contact, &contacts);
    if (code == EXIT_DONE && (contacts.no_memory || ranking_count(contacts.names) == 0)) {
        message(contacts.no_memory ? "out of memory"
                                   : "%s names nobody outside %s: is it the right log?",
                argv[1], context->domain);
        code = contacts.no_memory ? EXIT_SERVICE : EXIT_DATA;
    }
    if (ranking_missed(contacts.names) > 0)
        notice("more than %d correspondents: %" PRIu64 " messages are not counted",
               NAMES_MAX, ranking_missed(contacts.names));
    if (code == EXIT_DONE)
        code = write_contacts(context, contacts.names);
    ranking_free(contacts.names);
    return code;
}

/* ---- who sends through this server --------------------------------------- */

struct submitters {
    const char *domain;
    struct log_flow *flow;
    struct ranking *names; /* "client LF user LF sender" */
    bool no_memory;
};

static void count_submitter(struct submitters *it, struct log_message *said,
                            const struct log_event *event)
{
    char address[ADDR_TEXT_MAX + 1], name[ADDR_TEXT_MAX + 600];
    struct addr parsed;
    if (said->mark || !canonical(event->from, &parsed, address) ||
        strcmp(parsed.domain, it->domain) != 0)
        return;
    said->mark = 1;
    const char *client = log_flow_text(said, LOG_FLOW_CLIENT);
    int n = snprintf(name, sizeof(name), "%.60s\n%.200s\n%s",
                     client[0] ? client : "this host", log_flow_text(said, LOG_FLOW_USER),
                     address);
    it->no_memory = it->no_memory || !ranking_add(it->names, name, (size_t)n);
}

static bool take_submitter(void *context, const struct log_record *record)
{
    struct submitters *it = context;
    struct log_message *said =
        log_flow_take(it->flow, &record->line, &record->event, record->time.us, NULL);
    if (said && record->event.kind == LOG_EVENT_QUEUED)
        count_submitter(it, said, &record->event);
    if (said && record->event.kind == LOG_EVENT_REMOVED)
        log_flow_drop(it->flow, said);
    return !it->no_memory;
}

static int write_submitters(struct action_context *context, const struct ranking *names)
{
    static const char *const header[] = { "address", "user", "sender", "messages" };
    char figure[24], text[ADDR_TEXT_MAX + 600];
    struct ranked *list = ranking_list(names);
    FILE *out = list ? paper_open(context, "submitters.csv") : NULL;
    if (!out) {
        free(list);
        return EXIT_SERVICE;
    }
    paper_row(out, header, 4);
    for (size_t i = 0; i < ranking_count(names); i++) {
        (void)snprintf(text, sizeof(text), "%s", list[i].name);
        char *user = strchr(text, '\n');
        char *sender = user ? strchr(user + 1, '\n') : NULL;
        if (!sender)
            continue;
        *user = *sender = '\0';
        (void)snprintf(figure, sizeof(figure), "%" PRIu64, list[i].count);
        const char *cells[] = { text, user + 1, sender + 1, figure };
        paper_row(out, cells, 4);
    }
    free(list);
    return paper_close(context, out, "submitters.csv", true);
}

int maillog_submitters(struct action_context *context, const char *path, size_t *count)
{
    struct submitters it = { context->domain, log_flow_new(), ranking_new(NAMES_MAX),
                             false };
    int code = EXIT_SERVICE;
    if (!it.flow || !it.names)
        message("out of memory");
    else
        code = each_record(path,
                           BIT(LOG_EVENT_CLIENT) | BIT(LOG_EVENT_PICKUP) |
                               BIT(LOG_EVENT_QUEUED) | BIT(LOG_EVENT_REMOVED),
                           0, take_submitter, &it);
    if (code == EXIT_DONE)
        code = write_submitters(context, it.names);
    *count = it.names ? ranking_count(it.names) : 0;
    log_flow_free(it.flow);
    ranking_free(it.names);
    return code;
}

/* ---- judgments ----------------------------------------------------------- */

struct verdicts {
    maillog_verdict_fn *each;
    void *context;
    char id[80]; /* of the line before: a message has a line per recipient */
};

static bool take_verdict(void *context, const struct log_record *record)
{
    struct verdicts *it = context;
    const struct log_event *event = &record->event;
    char from[ADDR_TEXT_MAX + 1], client[64], id[80];
    struct addr parsed;
    (void)snprintf(id, sizeof(id), "%.*s", (int)record->line.id.len,
                   record->line.id.text);
    if (strcmp(id, it->id) == 0 || event->dmarc.len == 0 ||
        !canonical(event->from, &parsed, from))
        return true;
    memcpy(it->id, id, sizeof(id));
    (void)snprintf(client, sizeof(client), "%.*s", (int)event->client_address.len,
                   event->client_address.text);
    it->each(it->context, from, client, log_slice_is(event->dmarc, "pass"));
    return true;
}

int maillog_verdicts(const char *path, int64_t since, maillog_verdict_fn *each,
                     void *context)
{
    struct verdicts it = { .each = each, .context = context };
    return each_record(path, BIT(LOG_EVENT_VERDICT), since, take_verdict, &it);
}

/* ---- delivered to -------------------------------------------------------- */

struct delivered {
    maillog_address_fn *each;
    void *context;
};

static bool take_delivered(void *context, const struct log_record *record)
{
    struct delivered *it = context;
    char address[ADDR_TEXT_MAX + 1];
    struct addr parsed;
    struct log_slice to;
    if (record->event.status != LOG_STATUS_SENT)
        return true;
    for (size_t at = 0; log_event_next_to(&record->event, &at, &to);)
        if (canonical(to, &parsed, address) && !it->each(it->context, address))
            return false;
    return true;
}

int maillog_delivered(const char *path, maillog_address_fn *each, void *context)
{
    struct delivered it = { each, context };
    return each_record(path, BIT(LOG_EVENT_DELIVERY), 0, take_delivered, &it);
}
