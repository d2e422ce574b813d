/*
 * playbook_inventory: is every address known everywhere it has to be? Compares a list
 * (CSV), the mailboxes that sluice has, the tables of this host's Postfix, the addresses
 * that a log shows deliveries to, and the new side's answer to RCPT.
 *
 * inventory.csv has every address, with what is wrong with it and how to mend it; the
 * check fails when there is one. A source that cannot be read whole (a table that
 * cannot be listed, a new side that takes anybody) is named in the result.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "conf_value.h"
#include "homes.h"
#include "output.h"
#include "playbook_judge.h"
#include "playbook_maillog.h"
#include "playbook_mail.h"
#include "playbook_maps.h"
#include "playbook_people.h"
#include "probe.h"
#include "table.h"

#define SHOWN_MAX     10
#define ADDRESSES_MAX 2000000
#define INVENTED      SIZE_MAX
#define LOOK_MS       500

struct address {
    const char *name; /* the table's */
    unsigned found;
};

struct inventory {
    struct action_context *context;
    const struct conf_domain *domain;
    struct table *all; /* address -> found */
    unsigned asked;
    struct address *list;
    size_t count;
    struct maps maps;
    bool takes_anyone;
    const char *failed; /* a phrase */
    size_t wrong, foreign;
};

/* ---- sources ------------------------------------------------------------- */

static bool add(struct inventory *it, const char *address, unsigned in)
{
    char value[sizeof(unsigned)];
    size_t len = strlen(address);
    const char *before = table_get(it->all, address, len, NULL);
    unsigned found = 0;
    if (before)
        memcpy(&found, before, sizeof(found));
    else if (table_count(it->all) >= ADDRESSES_MAX)
        return !(it->failed = "too many addresses");
    found |= in;
    memcpy(value, &found, sizeof(found));
    if (!table_put(it->all, address, len, value, sizeof(value)))
        it->failed = "out of memory";
    return !it->failed;
}

/* In the domain's own name; false: another domain. extension: "a+x" counts as a. */
static bool own_name(const struct inventory *it, const char *address, bool extension,
                     char out[ADDR_TEXT_MAX + 1])
{
    const struct conf *conf = it->context->command->conf;
    char base[ADDR_LOCAL_MAX + 1];
    struct addr parsed;
    if (addr_parse(address, strlen(address), &parsed) != ADDR_OK ||
        conf_managed(conf, parsed.domain) != it->domain)
        return false;
    bool cut = extension && addr_base(parsed.local, conf->recipient_delimiter, base);
    addr_format(cut ? base : parsed.local, it->domain->name, out);
    return true;
}

static bool from_file(void *context, const struct person *person)
{
    struct inventory *it = context;
    char address[ADDR_TEXT_MAX + 1];
    if (own_name(it, person->address, false, address))
        return add(it, address, IN_FILE);
    if (it->foreign++ < SHOWN_MAX)
        notice("%s is not an address of %s: left out", person->address, it->domain->name);
    return true;
}

static bool from_list(void *context, const char *local, const struct home *home)
{
    struct inventory *it = context;
    char address[ADDR_TEXT_MAX + 1];
    (void)home;
    if (local[0] == '\0')
        return true;
    addr_format(local, it->domain->name, address);
    return add(it, address, IN_LIST);
}

static bool from_maps(void *context, const char *address, bool alias)
{
    return add(context, address, alias ? IN_ALIAS : IN_MAPS);
}

static bool from_log(void *context, const char *address)
{
    struct inventory *it = context;
    char name[ADDR_TEXT_MAX + 1];
    return !own_name(it, address, true, name) || add(it, name, IN_LOG);
}

static int read_sources(struct inventory *it, const char *file, bool maps,
                        const char *log)
{
    struct store *store = it->context->command->store;
    int code = people_each(file, false, from_file, it);
    it->asked = IN_FILE | IN_LIST;
    if (code == EXIT_DONE && !store_each_home(store, it->domain->name, from_list, it)) {
        message("%s", store_error(store));
        return EXIT_SERVICE;
    }
    if (code == EXIT_DONE && maps) {
        it->maps = (struct maps){ .conf = it->context->command->conf,
                                  .domain = it->domain,
                                  .each = from_maps,
                                  .context = it };
        code = maps_read(&it->maps);
        /* What is not in the tables that were read may be in the others. */
        it->asked |= it->maps.unlistable == 0 && !it->maps.catch_all ? IN_MAPS : 0;
    }
    if (code == EXIT_DONE && log) {
        code = maillog_delivered(log, from_log, it);
        it->asked |= IN_LOG;
    }
    if (code == EXIT_DONE && it->failed) {
        message("%s: %s", file, it->failed);
        return EXIT_SERVICE;
    }
    return code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct address *)a)->name, ((const struct address *)b)->name);
}

static bool make_list(struct inventory *it)
{
    size_t cursor = 0, len, value_len;
    const char *name, *value;
    it->list = calloc(table_count(it->all) + 1, sizeof(*it->list));
    if (!it->list) {
        message("out of memory");
        return false;
    }
    while (table_next(it->all, &cursor, &name, &len, &value, &value_len)) {
        it->list[it->count].name = name;
        memcpy(&it->list[it->count++].found, value, sizeof(unsigned));
    }
    qsort(it->list, it->count, sizeof(*it->list), by_name);
    return true;
}

/* ---- the new side -------------------------------------------------------- */

static void take_answers(struct inventory *it, struct probe *probe, size_t *answers,
                         size_t *unreached)
{
    size_t id;
    enum probe_status status;
    char text[SMTP_TEXT_MAX + 8];
    while (probe_result(probe, &id, &status, text)) {
        (*answers)++;
        *unreached += status == PROBE_UNREACHED;
        if (id == INVENTED)
            it->takes_anyone = status == PROBE_ACCEPTED;
        else if (status == PROBE_ACCEPTED)
            it->list[id].found |= IN_NEW;
        else if (status == PROBE_UNDECIDED)
            it->list[id].found |= IN_NEW_LATER;
    }
}

static void look(struct probe *probe)
{
    struct pollfd poll_fd = { .events = 0 };
    poll_fd.fd = probe_fd(probe, &poll_fd.events);
    int64_t wait = probe_due(probe) - clock_ms();
    wait = wait < 0 ? 0 : wait > LOOK_MS ? LOOK_MS : wait;
    (void)poll(&poll_fd, poll_fd.fd >= 0, (int)wait);
    probe_run(probe, clock_ms(), poll_fd.fd >= 0 ? poll_fd.revents : 0);
}

static int ask_all(struct inventory *it, struct probe *probe)
{
    char invented[ADDR_TEXT_MAX + 64], name[MAIL_RANDOM_LEN + 1];
    size_t next = 0, added, answers = 0, unreached = 0;
    struct pace pace = { 0 };
    if (!mail_random(name))
        return EXIT_SERVICE;
    (void)snprintf(invented, sizeof(invented), "sluice-%s@%s", name, it->domain->name);
    added = probe_add(probe, INVENTED, invented);
    while (answers < added || next < it->count) {
        for (; next < it->count && probe_room(probe) > 0; next++)
            added += probe_add(probe, next, it->list[next].name);
        look(probe);
        take_answers(it, probe, &answers, &unreached);
        if (unreached > 0) {
            message("the new side cannot be asked: %s", probe_error(probe));
            return EXIT_CHECK;
        }
        if (command_stopped())
            return EXIT_AGAIN;
        if (pace_due(&pace))
            notice("%zu of %zu addresses asked", answers, it->count);
    }
    it->asked |= IN_NEW;
    return EXIT_DONE;
}

/* where "": as sluice.conf says. */
static int ask_new_side(struct inventory *it, const char *where)
{
    char error[512];
    struct conf_host_port at;
    const char *host = it->domain->new.host, *wrong = NULL;
    uint16_t port = it->domain->new.port;
    if (where[0]) {
        wrong = conf_host_port(where, &at);
        host = at.host;
        port = wrong || at.port == 0 ? 25 : at.port;
    }
    if (wrong || !host) {
        message(wrong ? "new=%s: %s" : "new: the domain has no new = \"[host]:port\"%s%s",
                where, wrong ? wrong : "");
        return EXIT_CONFIGURATION;
    }
    struct probe *probe =
        probe_new(host, port, it->context->command->conf->hostname, error, sizeof(error));
    if (!probe) {
        message("%s", error);
        return EXIT_CHECK;
    }
    int code = ask_all(it, probe);
    probe_free(probe);
    return code;
}

/* ---- the result ---------------------------------------------------------- */

static const char *cell_of(const struct inventory *it, const struct address *at,
                           unsigned in)
{
    if (in == IN_MAPS && at->found & IN_ALIAS)
        return "alias";
    if (at->found & in)
        return "yes";
    if (in == IN_NEW && at->found & IN_NEW_LATER)
        return "not decided";
    if (in == IN_MAPS && it->maps.tables == 0)
        return "-";
    return in == IN_MAPS || it->asked & in ? "no" : "-";
}

static int write_paper(struct inventory *it)
{
    static const char *const header[] = { "address", "file", "sluice", "maps",
                                          "log",     "new",  "what",   "way out" };
    static const unsigned sources[] = { IN_FILE, IN_LIST, IN_MAPS, IN_LOG, IN_NEW };
    FILE *out = paper_open(it->context, "inventory.csv");
    if (!out)
        return EXIT_SERVICE;
    paper_row(out, header, 8);
    for (size_t i = 0; i < it->count; i++) {
        const char *way, *cells[8] = { it->list[i].name };
        const char *what = inventory_judge(it->list[i].found, it->asked, &way);
        for (size_t s = 0; s < 5; s++)
            cells[s + 1] = cell_of(it, &it->list[i], sources[s]);
        cells[6] = what;
        cells[7] = what ? way : "";
        paper_row(out, cells, 8);
        if (what && it->wrong++ < SHOWN_MAX)
            message("%s: %s: %s (inventory.csv)", it->list[i].name, what, way);
    }
    return paper_close(it->context, out, "inventory.csv", true);
}

/* What was not looked at, for the last line. */
static void remarks(const struct inventory *it, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    if (it->takes_anyone)
        used = (size_t)snprintf(out, size,
                                "; the new side accepts any address, so its "
                                "answers prove nothing (catch-all)");
    if (it->maps.unlistable > 0 && used < size)
        used += (size_t)snprintf(out + used, size - used,
                                 "; not listed, look yourself: %s", it->maps.skipped);
    if (it->maps.catch_all && used < size)
        used += (size_t)snprintf(out + used, size - used,
                                 "; the old server's maps have a "
                                 "catch-all");
    if (it->foreign > 0 && used < size)
        (void)snprintf(out + used, size - used, "; %zu of other domains left out",
                       it->foreign);
}

static int finish(struct inventory *it)
{
    char rest[MAPS_SKIPPED_MAX + 400];
    int code = write_paper(it);
    remarks(it, rest, sizeof(rest));
    if (code != EXIT_DONE)
        return code;
    if (it->wrong > 0) {
        message("%zu of %zu addresses differ: inventory.csv has each, and the way out%s",
                it->wrong, it->count, rest);
        return EXIT_CHECK;
    }
    print("%zu addresses, none differs: inventory.csv%s", it->count, rest);
    return EXIT_DONE;
}

int action_inventory(struct action_context *context, int argc, char **argv)
{
    const char *maps = NULL, *log = NULL, *new = NULL;
    const struct word_spec words[] = {
        { "maps", &maps }, { "log=", &log }, { "new", &new }, { "new=", &new }
    };
    struct inventory it = { .context = context, .all = table_new() };
    it.domain = conf_managed(context->command->conf, context->domain);
    if (!words_take(argc, argv, 2, words, 4)) {
        if (it.all)
            table_free(it.all);
        return EXIT_USE;
    }
    command_catch_signals();
    int code = EXIT_SERVICE;
    if (!it.all || !it.domain)
        message("out of memory");
    else
        code = read_sources(&it, argv[1], maps != NULL, log);
    if (code == EXIT_DONE && !make_list(&it))
        code = EXIT_SERVICE;
    if (code == EXIT_DONE && new)
        code = ask_new_side(&it, new);
    if (code == EXIT_DONE)
        code = finish(&it);
    free(it.list);
    if (it.all)
        table_free(it.all);
    return code;
}
