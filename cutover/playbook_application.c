/*
 * playbook_application: have the connected applications sent since the flip, and do they
 * pass? By name, from a list of name,address.
 *
 * An IP address or a domain (of the envelope sender) is looked for in what sluice-milter
 * has counted; a whole envelope sender in its log, which alone knows it. Judged is what
 * came after the baseline (playbook_base.h). To pass is to pass DMARC.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "netaddr.h"
#include "output.h"
#include "playbook_base.h"
#include "playbook_maillog.h"
#include "playbook_people.h"

#define FIGURE_LEN 21

struct application {
    char *name, *address;
    struct sender seen;
};
#define APPLICATIONS_MAX 1000

struct applications {
    struct action_context *context;
    struct base base;
    struct application *items;
    size_t count, name, address; /* columns */
    bool by_log;                 /* one is a whole address */
};

static const char *take_application(void *context, const struct people_row *row)
{
    struct applications *it = context;
    struct netaddr client;
    struct addr parsed;
    char domain[ADDR_DOMAIN_MAX + 1];
    if (row->line == 1) {
        it->name = rows_column(row, "name");
        it->address = rows_column(row, "address");
        return it->name == SIZE_MAX || it->address == SIZE_MAX
                   ? "there is no column name, or no column address"
                   : NULL;
    }
    const char *address = row->cells[it->address];
    bool whole = addr_parse(address, strlen(address), &parsed) == ADDR_OK;
    if (!whole && !netaddr_parse(address, strlen(address), &client) &&
        !addr_domain(address, strlen(address), domain))
        return "address is neither an IP address nor an envelope sender or its domain";
    if (it->count == APPLICATIONS_MAX)
        return "too many applications";
    struct application *at = &it->items[it->count];
    at->name = strdup(row->cells[it->name]);
    at->address = strdup(address);
    if (!at->name || !at->address) {
        free(at->name);
        free(at->address);
        return "out of memory";
    }
    it->count++;
    it->by_log = it->by_log || whole;
    return NULL;
}

static bool match_row(void *context, const struct auth_row *row)
{
    struct applications *it = context;
    struct sender sender = base_since(&it->base, row);
    for (size_t i = 0; i < it->count; i++) {
        struct application *at = &it->items[i];
        if (strcmp(at->address, row->client) != 0 &&
            strcasecmp(at->address, row->envelope) != 0)
            continue;
        at->seen.messages += sender.messages;
        at->seen.dmarc_pass += sender.dmarc_pass;
    }
    return true;
}

static void match_verdict(void *context, const char *from, const char *client,
                          bool passed)
{
    struct applications *it = context;
    (void)client;
    for (size_t i = 0; i < it->count; i++)
        if (strchr(it->items[i].address, '@') &&
            strcasecmp(it->items[i].address, from) == 0) {
            it->items[i].seen.messages++;
            it->items[i].seen.dmarc_pass += passed;
        }
}

static bool judge_application(const struct application *at, const char *since)
{
    if (at->seen.messages == 0)
        message("%s (%s) has not sent %s: let it send a test message", at->name,
                at->address, since);
    else if (at->seen.dmarc_pass < at->seen.messages)
        message("%s (%s): %" PRIu64 " of %" PRIu64
                " messages %s do not pass DMARC: add it "
                "to the SPF record, or let it sign",
                at->name, at->address, at->seen.messages - at->seen.dmarc_pass,
                at->seen.messages, since);
    return at->seen.messages > 0 && at->seen.dmarc_pass == at->seen.messages;
}

static int judge_applications(struct applications *it)
{
    static const char *const header[] = { "name", "address", "messages", "passed" };
    char text[BASE_TEXT_MAX], figures[2][FIGURE_LEN];
    const char *since = base_text(&it->base, text);
    size_t bad = 0;
    FILE *out = paper_open(it->context, "applications.csv");
    if (!out)
        return EXIT_SERVICE;
    paper_row(out, header, 4);
    for (size_t i = 0; i < it->count; i++) {
        const struct application *at = &it->items[i];
        (void)snprintf(figures[0], FIGURE_LEN, "%" PRIu64, at->seen.messages);
        (void)snprintf(figures[1], FIGURE_LEN, "%" PRIu64, at->seen.dmarc_pass);
        const char *cells[] = { at->name, at->address, figures[0], figures[1] };
        paper_row(out, cells, 4);
        bad += !judge_application(at, since);
    }
    int code = paper_close(it->context, out, "applications.csv", true);
    if (code != EXIT_DONE)
        return code;
    if (bad > 1)
        message("%zu of %zu applications were not seen, or fail: applications.csv, and "
                "the step's log",
                bad, it->count);
    if (bad > 0)
        return EXIT_CHECK;
    print("all %zu applications were seen %s, and pass: applications.csv", it->count,
          since);
    return EXIT_DONE;
}

int action_applications(struct action_context *context, int argc, char **argv)
{
    struct applications it = { .context = context };
    struct store *store = context->command->store;
    const char *log = NULL;
    const struct word_spec words[] = { { "log=", &log } };
    if (!words_take(argc, argv, 2, words, 1))
        return EXIT_USE;
    it.items = calloc(APPLICATIONS_MAX, sizeof(*it.items));
    int code = it.items ? rows_each(argv[1], false, take_application, &it) : EXIT_SERVICE;
    if (code == EXIT_DONE && it.by_log && !log) {
        message("%s has whole sender addresses: log=FILE names the log of sluice-milter, "
                "which knows them",
                argv[1]);
        code = EXIT_USE;
    }
    if (code == EXIT_DONE)
        code = base_read(context, &it.base);
    if (code == EXIT_DONE && !store_each_auth(store, context->domain, match_row, &it)) {
        message("%s", store_error(store));
        code = EXIT_SERVICE;
    }
    if (code == EXIT_DONE && it.by_log)
        code = maillog_verdicts(log, it.base.at, match_verdict, &it);
    if (code == EXIT_DONE)
        code = judge_applications(&it);
    for (size_t i = 0; i < it.count; i++) {
        free(it.items[i].name);
        free(it.items[i].address);
    }
    free(it.items);
    base_free(&it.base);
    return code;
}
