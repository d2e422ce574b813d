/*
 * playbook_sender: actions on who sends as the domain, from what sluice-milter has
 * counted (sluice auth report) and, where a log is named, from the log.
 *
 * signed judges what came after the baseline (playbook_base.h), or everything when there
 * is none.
 *
 * A host whose mail passed DMARC sends rightfully. Of the others a machine cannot
 * tell whether they are a forgotten application or a forger: they are in
 * strangers.csv for a person, whose answer is a list (known=FILE, strangers=FILE).
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "playbook_base.h"
#include "playbook_maillog.h"
#include "playbook_people.h"

#define SHOWN_MAX 10
#define LIST_MAX  100000

struct senders {
    struct action_context *context;
    struct base base;
    struct table *known; /* addresses and names that a person has listed */
    struct table *strangers;
    FILE *out, *others, *list;
    int percent;
    size_t good, bad, stranger_rows;
    uint64_t messages, signed_messages, strange_messages;
};

/* ---- lists --------------------------------------------------------------- */

struct list {
    struct table *table;
    size_t column;
};

static const char *take_listed(void *context, const struct people_row *row)
{
    struct list *list = context;
    if (row->line == 1) {
        list->column = rows_column(row, "client");
        if (list->column == SIZE_MAX)
            list->column = rows_column(row, "address");
        return list->column == SIZE_MAX ? "there is no column client (or address)" : NULL;
    }
    const char *cell = row->cells[list->column];
    if (table_count(list->table) >= LIST_MAX)
        return "too many rows";
    return table_put(list->table, cell, strlen(cell), "", 0) ? NULL : "out of memory";
}

/* NULL path: an empty list. */
static int read_list(const char *path, struct table **out)
{
    struct list list = { table_new(), 0 };
    *out = list.table;
    if (!list.table) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    return path ? rows_each(path, false, take_listed, &list) : EXIT_DONE;
}

static bool in_list(const struct table *list, const char *name)
{
    return list && table_get(list, name, strlen(name), NULL);
}

static void free_all(struct senders *it)
{
    struct table *all[] = { it->known, it->strangers };
    base_free(&it->base);
    for (size_t i = 0; i < 2; i++)
        if (all[i])
            table_free(all[i]);
}

static bool each_row(struct senders *it, store_auth_fn *each)
{
    struct store *store = it->context->command->store;
    if (store_each_auth(store, it->context->domain, each, it))
        return true;
    message("%s", store_error(store));
    return false;
}

/* ---- senders ------------------------------------------------------------- */

static bool of_domain(const char *envelope, const char *domain)
{
    size_t len = strlen(envelope), own = strlen(domain);
    return len == 0 || (len >= own && strcmp(envelope + len - own, domain) == 0 &&
                        (len == own || envelope[len - own - 1] == '.'));
}

static bool take_sender(void *context, const struct auth_row *row)
{
    struct senders *it = context;
    bool rightful = row->dmarc[AUTH_PASS] > 0 || in_list(it->known, row->client);
    bool address = strcmp(row->client, "*") != 0 && row->client[0] != '\0';
    bool ours = rightful && address && !in_list(it->strangers, row->client);
    base_write(ours ? it->out : it->others, row, base_figures(row), NULL);
    /* SPF is about the envelope's domain: with another one it says nothing of ours. */
    if (ours && of_domain(row->envelope, it->context->domain))
        fprintf(it->list, "%s # %s\n", row->client, row->envelope);
    it->good += ours;
    it->messages += ours ? row->messages : 0;
    it->stranger_rows += !ours;
    it->strange_messages += ours ? 0 : row->messages;
    return true;
}

static int write_senders(struct senders *it)
{
    static const char *const names[] = { "senders.csv", "strangers.csv", "senders.txt" };
    FILE **papers[] = { &it->out, &it->others, &it->list };
    size_t open = 0;
    int code = EXIT_DONE;
    while (open < 3 && (*papers[open] = paper_open(it->context, names[open])))
        open++;
    bool good = open == 3;
    if (good) {
        base_write(it->out, NULL, (struct sender){ 0 }, NULL);
        base_write(it->others, NULL, (struct sender){ 0 }, NULL);
        fprintf(it->list, "# who sends as %s, for sluice dns check --senders\n",
                it->context->domain);
        good = each_row(it, take_sender);
    }
    for (size_t i = 0; i < open; i++)
        if (paper_close(it->context, *papers[i], names[i], good) != EXIT_DONE)
            code = EXIT_SERVICE;
    return good ? code : EXIT_SERVICE;
}

int action_senders(struct action_context *context, int argc, char **argv)
{
    struct senders it = { .context = context };
    const char *log = NULL, *known = NULL, *strangers = NULL;
    const struct word_spec words[] = { { "log=", &log },
                                       { "known=", &known },
                                       { "strangers=", &strangers } };
    size_t relayed = 0;
    if (!words_take(argc, argv, 1, words, 3))
        return EXIT_USE;
    int code = read_list(known, &it.known);
    if (code == EXIT_DONE)
        code = read_list(strangers, &it.strangers);
    if (code == EXIT_DONE)
        code = write_senders(&it);
    if (code == EXIT_DONE && log)
        code = maillog_submitters(context, log, &relayed);
    free_all(&it);
    if (code != EXIT_DONE)
        return code;
    print("senders.csv: %zu that pass, %" PRIu64 " messages; strangers.csv: %zu, %" PRIu64
          " messages: look through them%s",
          it.good, it.messages, it.stranger_rows, it.strange_messages,
          relayed > 0 ? "; submitters.csv: who sends through this server" : "");
    return EXIT_DONE;
}

/* ---- -all ---------------------------------------------------------------- */

static bool take_failing(void *context, const struct auth_row *row)
{
    struct senders *it = context;
    it->messages += row->messages;
    if (row->would_fail == 0) {
        it->good++;
    } else if (in_list(it->strangers, row->client)) {
        it->stranger_rows++;
        it->strange_messages += row->would_fail;
    } else if (it->bad++ < SHOWN_MAX) {
        message("%s (%s, HELO %s): %" PRIu64 " of %" PRIu64 " messages would fail under "
                "-all: add it to the SPF record, or to the list of strangers",
                row->client, row->envelope, row->helo, row->would_fail, row->messages);
    }
    return true;
}

int action_senders_pass(struct action_context *context, int argc, char **argv)
{
    struct senders it = { .context = context };
    const char *strangers = NULL;
    const struct word_spec words[] = { { "strangers=", &strangers } };
    if (!words_take(argc, argv, 1, words, 1))
        return EXIT_USE;
    int code = read_list(strangers, &it.strangers);
    if (code == EXIT_DONE && !each_row(&it, take_failing))
        code = EXIT_SERVICE;
    free_all(&it);
    if (code != EXIT_DONE)
        return code;
    if (it.bad > 1)
        message(
            "%zu senders would fail under -all: the step's log and sluice auth report "
            "%s name them; add them to the SPF record, or to the list of strangers",
            it.bad, context->domain);
    if (it.bad > 0)
        return EXIT_CHECK;
    print("%zu senders would pass under -all (%" PRIu64 " messages); %zu strangers would "
          "fail, as they should",
          it.good, it.messages, it.stranger_rows);
    return EXIT_DONE;
}

/* ---- signatures ---------------------------------------------------------- */

static bool take_signed(void *context, const struct auth_row *row)
{
    struct senders *it = context;
    struct sender sender = base_since(&it->base, row);
    uint64_t failed;
    if (sender.messages == 0)
        return true;
    bool stranger = in_list(it->strangers, row->client);
    enum sender_fault fault =
        sender_judge(sender, row->envelope[0] == '\0', it->percent, &failed);
    base_write(it->out, row, sender, stranger ? "a stranger" : sender_fault_text(fault));
    if (stranger) {
        it->stranger_rows++;
        return true;
    }
    it->messages += sender.messages;
    it->signed_messages += sender.dkim_pass;
    it->good += fault == SENDER_GOOD;
    if (fault != SENDER_GOOD && it->bad++ < SHOWN_MAX)
        message("%s (%s): %" PRIu64 " of %" PRIu64 " messages %s", row->client,
                row->envelope[0] ? row->envelope : "bounces", failed, sender.messages,
                sender_fault_text(fault));
    return true;
}

static int judge_signed(const struct senders *it, bool any)
{
    char text[BASE_TEXT_MAX];
    const char *since = base_text(&it->base, text);
    if (it->messages == 0) {
        message(
            "no mail of %s was seen %s: let each source send something (sluice-milter "
            "must verify: auth section)",
            it->context->domain, since);
        return EXIT_CHECK;
    }
    if (any && it->signed_messages == 0) {
        message("none of the %" PRIu64 " messages of %s %s has a good DKIM signature: "
                "compare the key in use with the DKIM record",
                it->messages, it->context->domain, since);
        return EXIT_CHECK;
    }
    if (!any && it->bad > 1)
        message("%zu of %zu sources do not pass %s: signed.csv has the table", it->bad,
                it->bad + it->good, since);
    if (!any && it->bad > 0)
        return EXIT_CHECK;
    print("%" PRIu64 " of %" PRIu64 " messages are signed and verified, %zu sources pass "
          "%s: signed.csv",
          it->signed_messages, it->messages, it->good, since);
    return EXIT_DONE;
}

int action_signed(struct action_context *context, int argc, char **argv)
{
    struct senders it = { .context = context, .percent = 100 };
    const char *any = NULL, *strangers = NULL, *percent = NULL;
    const struct word_spec words[] = { { "any", &any },
                                       { "strangers=", &strangers },
                                       { "percent=", &percent } };
    if (!words_take(argc, argv, 1, words, 3))
        return EXIT_USE;
    it.percent = percent ? atoi(percent) : 100;
    if (it.percent < 1 || it.percent > 100) {
        message("signed: percent=%s is not 1 to 100", percent);
        return EXIT_USE;
    }
    int code = read_list(strangers, &it.strangers);
    if (code == EXIT_DONE)
        code = base_read(context, &it.base);
    it.out = code == EXIT_DONE ? paper_open(context, "signed.csv") : NULL;
    if (it.out) {
        base_write(it.out, NULL, (struct sender){ 0 }, "verdict");
        bool good = each_row(&it, take_signed);
        code = paper_close(context, it.out, "signed.csv", good);
        if (!good)
            code = EXIT_SERVICE;
    } else if (code == EXIT_DONE) {
        code = EXIT_SERVICE;
    }
    free_all(&it);
    return code == EXIT_DONE ? judge_signed(&it, any != NULL) : code;
}
