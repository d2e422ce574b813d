/*
 * ping: `sluice ping [NAME...]`, the paths of the configuration, each in a thread.
 *
 * The threads talk to mail servers and to nobody else; the store, the terminal and
 * the configuration are the main thread's, before and after. All of them end by
 * themselves at the deadline or soon after Ctrl-C.
 *
 * Exit codes are those of a plugin (0, 1, 2, 3), also for a wrong name of a path; only
 * what main.c finds (usage, configuration) has its own, which the plugin makes a 3.
 */
#include "ping.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "command.h"
#include "options.h"
#include "output.h"
#include "ping_row.h"
#include "route.h"

#define FIGURES_MAX   2048 /* performance data of one path */
#define TIMEOUT_MIN_S 2    /* for one command of IMAP and its second look */

struct probe {
    struct ping_path path;
    struct ping_result result;
    int64_t until;
    pthread_t thread;
    bool started;
    enum ping_state state;
    char text[PING_TEXT];
    /* over all rounds */
    uint64_t sent, arrived, doubled;
    int64_t fastest_ms, slowest_ms, sum_ms;
};

struct pings {
    struct command_context *context;
    struct probe *probes;
    size_t count;
    int timeout;           /* seconds; 0: each path's own */
    enum ping_state worst; /* of all rounds */
    char store_error[PING_TEXT];
};

/* ---- one round ------------------------------------------------------------- */

static void *run_probe(void *context)
{
    struct probe *probe = context;

    ping_probe(&probe->path, probe->until, &probe->result);
    return NULL;
}

static void fail_probe(struct probe *probe, const char *text)
{
    memset(&probe->result, 0, sizeof(probe->result));
    probe->result.sent = MAIL_STOPPED;
    probe->result.connected_ms = probe->result.accepted_ms = -1;
    probe->result.when = (int64_t)time(NULL);
    for (size_t i = 0; i < CONF_PING_MAILBOXES_MAX; i++)
        probe->result.arrivals[i].ms = -1;
    snprintf(probe->result.error, sizeof(probe->result.error), "%s", text);
}

/* What the store says of a probe that was accepted and has not come. */
static void explain(struct pings *pings, const struct probe *probe, char out[PING_TEXT])
{
    struct route route, *routes[] = { &route };
    const char *to = probe->path.conf->to;
    char since[TIME_TEXT_MAX];

    out[0] = '\0';
    if (probe->result.sent != MAIL_DONE || probe->result.interrupted ||
        probe->result.returned[0] ||
        ping_arrived_ms(probe->path.conf, &probe->result) >= 0 ||
        !route_prepare(pings->context->conf, to, strlen(to), &route))
        return;
    store_lookup(pings->context->store, routes, 1);
    if (route.lookup != LOOKUP_FOUND) {
        snprintf(out, PING_TEXT, "mail for %s waits while Redis does not answer (%.200s)",
                 to, store_error(pings->context->store));
        return;
    }
    if (route.home.state != HOME_LOCKED)
        return;
    snprintf(out, PING_TEXT,
             "%s is locked since %s, so it is held and comes after sluice flip or "
             "sluice unlock",
             to, time_text(route.home.since, since));
}

static void run_round(struct pings *pings)
{
    int64_t now = clock_ms();

    for (size_t i = 0; i < pings->count; i++) {
        struct probe *probe = &pings->probes[i];
        /* Logins come before the time that is measured. */
        probe->until = pings->timeout
                           ? now + (int64_t)pings->timeout * 1000
                           : now + 30000 + (int64_t)probe->path.conf->critical * 1000;
        probe->started = pthread_create(&probe->thread, NULL, run_probe, probe) == 0;
        if (!probe->started)
            fail_probe(probe, "the system has no room for another thread");
    }
    for (size_t i = 0; i < pings->count; i++)
        if (pings->probes[i].started)
            (void)pthread_join(pings->probes[i].thread, NULL);
}

static void count(struct probe *probe)
{
    int64_t ms = ping_arrived_ms(probe->path.conf, &probe->result);

    probe->sent += probe->result.tried && !probe->result.interrupted;
    for (size_t i = 0; i < probe->path.conf->mailbox_count; i++)
        probe->doubled += probe->result.arrivals[i].copies > 1;
    if (ms < 0)
        return;
    probe->fastest_ms =
        probe->arrived == 0 || ms < probe->fastest_ms ? ms : probe->fastest_ms;
    probe->slowest_ms = ms > probe->slowest_ms ? ms : probe->slowest_ms;
    probe->sum_ms += ms;
    probe->arrived++;
}

static void judge(struct pings *pings)
{
    char why[PING_TEXT];

    for (size_t i = 0; i < pings->count; i++) {
        struct probe *probe = &pings->probes[i];
        explain(pings, probe, why);
        probe->state = ping_judge(probe->path.conf, &probe->result, why, probe->text);
        count(probe);
    }
}

#define FORGET_MAX 20 /* rows, after one round */

struct forgotten {
    const struct conf *conf;
    int64_t now;
    size_t count;
    struct {
        char host[256], path[80];
    } rows[FORGET_MAX];
};

static bool note_forgotten(void *context, const struct ping_row *row)
{
    struct forgotten *all = context;

    if (strlen(row->host) < sizeof(all->rows[0].host) &&
        strlen(row->path) < sizeof(all->rows[0].path) &&
        ping_row_forgotten(row, all->conf, all->now)) {
        memcpy(all->rows[all->count].host, row->host, strlen(row->host) + 1);
        memcpy(all->rows[all->count].path, row->path, strlen(row->path) + 1);
        all->count++;
    }
    return all->count < FORGET_MAX;
}

/* Takes rows of paths that nobody probes any more out of the status page. */
static void forget(const struct pings *pings)
{
    struct store *store = pings->context->store;
    struct forgotten all = { .conf = pings->context->conf, .now = (int64_t)time(NULL) };

    if (!store_each_ping(store, note_forgotten, &all))
        return;
    for (size_t i = 0; i < all.count; i++)
        (void)store_ping_drop(store, all.rows[i].host, all.rows[i].path);
}

/* For the status page. A probe that a person ended says nothing. */
static void keep(struct pings *pings)
{
    struct store *store = pings->context->store;

    pings->store_error[0] = '\0';
    for (size_t i = 0; i < pings->count && !pings->store_error[0]; i++) {
        const struct probe *probe = &pings->probes[i];
        const struct ping_row row = {
            .host = pings->context->conf->hostname,
            .path = probe->path.conf->name,
            .when = probe->result.when,
            .state = (int)probe->state,
            .connected_ms = probe->result.connected_ms,
            .accepted_ms = probe->result.accepted_ms,
            .arrived_ms = ping_arrived_ms(probe->path.conf, &probe->result),
            .text = probe->text,
        };
        if (probe->state == PING_UNKNOWN && probe->result.interrupted)
            continue;
        if (store_ping_put(store, &row) != COMMIT_DONE)
            snprintf(pings->store_error, sizeof(pings->store_error), "%s",
                     store_error(store));
    }
    if (pings->store_error[0])
        notice("the result is not on the status page: %s", pings->store_error);
    else
        forget(pings);
}

static enum ping_state worst_of(const struct pings *pings)
{
    enum ping_state worst = PING_OK;

    for (size_t i = 0; i < pings->count; i++)
        worst = ping_worse(worst, pings->probes[i].state);
    return worst;
}

/* ---- what is printed --------------------------------------------------------- */

/* The plugin's first line: the worst path by name, or the slowest. */
static void head_text(const struct pings *pings, enum ping_state worst, char *out,
                      size_t size)
{
    size_t good = 0, at = 0;
    int64_t most = -1;

    for (size_t i = 0; i < pings->count; i++) {
        const struct probe *probe = &pings->probes[i];
        int64_t ms = ping_arrived_ms(probe->path.conf, &probe->result);
        good += probe->state == PING_OK;
        if (worst == PING_OK && ms > most) {
            most = ms;
            at = i;
        }
    }
    if (worst == PING_OK) {
        snprintf(out, size, "%zu of %zu paths, the slowest %.3f s (%s)", good,
                 pings->count, (double)most / 1000, pings->probes[at].path.conf->name);
        return;
    }
    while (at + 1 < pings->count && pings->probes[at].state != worst)
        at++;
    snprintf(out, size, "%s: %s (%zu of %zu paths ok)", pings->probes[at].path.conf->name,
             pings->probes[at].text, good, pings->count);
}

static void path_figures(const struct probe *probe, char figures[FIGURES_MAX])
{
    figures[0] = '\0';
    if (!ping_perfdata(probe->path.conf, &probe->result, figures, FIGURES_MAX))
        snprintf(figures, FIGURES_MAX, " "); /* no half of one */
}

/* Performance data of the first path stands on the first line, of the others behind
 * the last one, each on its own (Nagios' plugin API, "long output"). */
static void print_plugin(const struct pings *pings, enum ping_state worst)
{
    char head[PING_TEXT + 200], figures[FIGURES_MAX];

    head_text(pings, worst, head, sizeof(head));
    path_figures(&pings->probes[0], figures);
    print("PING %s - %s |%s", ping_state_name(worst), head, figures);
    for (size_t i = 0; i < pings->count; i++) {
        const struct probe *probe = &pings->probes[i];
        bool last = i + 1 == pings->count && pings->count > 1;
        if (last)
            path_figures(&pings->probes[1], figures);
        print("%s: %s: %s%s%s", probe->path.conf->name, ping_state_name(probe->state),
              probe->text, last ? " |" : "", last ? figures : "");
    }
    for (size_t i = 2; i < pings->count; i++) {
        path_figures(&pings->probes[i], figures);
        print("%s", figures + 1); /* without its first blank */
    }
}

static void print_round(const struct pings *pings)
{
    char when[TIME_TEXT_MAX];

    for (size_t i = 0; i < pings->count; i++)
        print("%s %s: %s: %s", time_text(pings->probes[i].result.when, when),
              pings->probes[i].path.conf->name, ping_state_name(pings->probes[i].state),
              pings->probes[i].text);
    fflush(stdout);
}

static void print_summary(const struct pings *pings)
{
    for (size_t i = 0; i < pings->count; i++) {
        const struct probe *probe = &pings->probes[i];
        char doubled[48] = "";
        if (probe->doubled > 0)
            snprintf(doubled, sizeof(doubled), ", %" PRIu64 " came more than once",
                     probe->doubled);
        if (probe->arrived > 0)
            print("%s: %" PRIu64 " sent, %" PRIu64 " arrived, min/avg/max "
                  "%.3f/%.3f/%.3f s%s",
                  probe->path.conf->name, probe->sent, probe->arrived,
                  (double)probe->fastest_ms / 1000,
                  (double)probe->sum_ms / (double)probe->arrived / 1000,
                  (double)probe->slowest_ms / 1000, doubled);
        else
            print("%s: %" PRIu64 " sent, none arrived", probe->path.conf->name,
                  probe->sent);
    }
}

static void document_ms(doc *object, const char *key, int64_t ms)
{
    if (ms < 0)
        doc_text(object, key, NULL);
    else
        doc_number(object, key, ms);
}

static void document_mailbox(doc *list, const struct conf_mailbox *mailbox,
                             const struct ping_arrival *arrival)
{
    doc *object = doc_add(list, doc_object());

    doc_text(object, "name", mailbox->name);
    document_ms(object, "arrived_ms", arrival->ms);
    doc_text(object, "folder", arrival->ms < 0 ? NULL : arrival->folder);
    doc_number(object, "copies", arrival->copies);
    doc_number(object, "removed", arrival->removed);
    doc_number(object, "late", arrival->late);
    doc_text(object, "error", arrival->error[0] ? arrival->error : NULL);
}

static void document(const struct pings *pings, enum ping_state worst)
{
    doc *object = doc_object(), *paths = doc_array();

    doc_text(object, "command", "ping");
    doc_text(object, "state", ping_state_name(worst));
    for (size_t i = 0; i < pings->count; i++) {
        const struct probe *probe = &pings->probes[i];
        const struct conf_ping *conf = probe->path.conf;
        doc *path = doc_add(paths, doc_object()), *boxes = doc_array();
        doc_text(path, "name", conf->name);
        doc_text(path, "state", ping_state_name(probe->state));
        doc_text(path, "text", probe->text);
        doc_text(path, "returned",
                 probe->result.returned[0] ? probe->result.returned : NULL);
        doc_text(path, "id", probe->result.id[0] ? probe->result.id : NULL);
        doc_text(path, "from", conf->from);
        doc_text(path, "to", conf->to);
        doc_number(path, "when", probe->result.when);
        doc_number(path, "attempts", probe->result.attempts);
        document_ms(path, "connected_ms", probe->result.connected_ms);
        document_ms(path, "accepted_ms", probe->result.accepted_ms);
        document_ms(path, "arrived_ms", ping_arrived_ms(conf, &probe->result));
        for (size_t k = 0; k < conf->mailbox_count; k++)
            document_mailbox(boxes, conf->mailboxes[k], &probe->result.arrivals[k]);
        doc_put(path, "mailboxes", boxes);
    }
    doc_put(object, "paths", paths);
    doc_print(object);
}

/* ---- the command ---------------------------------------------------------- */

static void read_passwords(const struct conf *conf, struct ping_path *path)
{
    const struct conf_access *smtp = &path->conf->smtp;

    if (smtp->user)
        path->smtp_password =
            conf_password(conf, smtp->password_file, path->fault, sizeof(path->fault));
    for (size_t i = 0; i < path->conf->mailbox_count && !path->fault[0]; i++)
        path->imap_passwords[i] =
            conf_password(conf, path->conf->mailboxes[i]->imap.password_file, path->fault,
                          sizeof(path->fault));
}

static void add_path(struct pings *pings, const struct conf_ping *conf)
{
    struct ping_path *path = &pings->probes[pings->count++].path;

    path->conf = conf;
    path->hostname = pings->context->conf->hostname;
    read_passwords(pings->context->conf, path);
}

/* A plugin says why on standard output, too. */
__attribute__((format(printf, 1, 2))) static bool refuse(const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    if (vsnprintf(text, sizeof(text), fmt, args) < 0)
        text[0] = '\0';
    va_end(args);
    message("%s", text);
    print("PING UNKNOWN - %s", text);
    return false;
}

/* All of the configuration's, or the named ones. */
static bool choose(struct pings *pings, int argc, char **argv)
{
    const struct conf *conf = pings->context->conf;

    if (conf->ping_count == 0)
        return refuse("%s has no ping section: see sluice.conf(5)", conf->path);
    for (size_t i = 0; argc == 1 && i < conf->ping_count; i++)
        add_path(pings, &conf->pings[i]);
    for (int k = 1; k < argc; k++) {
        const struct conf_ping *found = NULL;
        for (size_t i = 0; i < conf->ping_count; i++)
            if (strcmp(conf->pings[i].name, argv[k]) == 0)
                found = &conf->pings[i];
        for (size_t i = 0; found && i < pings->count; i++)
            if (pings->probes[i].path.conf == found)
                return refuse("\"%s\" is named twice", argv[k]);
        if (!found)
            return refuse("%s has no ping section \"%s\"", conf->path, argv[k]);
        add_path(pings, found);
    }
    return true;
}

static int once(struct pings *pings)
{
    run_round(pings);
    judge(pings);
    keep(pings);
    enum ping_state worst = worst_of(pings);
    print_plugin(pings, worst);
    document(pings, worst);
    return (int)worst;
}

/* Rounds begin every so many seconds, but none before the last one has ended. */
static int for_ever(struct pings *pings, int seconds)
{
    while (!command_stopped()) {
        int64_t next = clock_ms() + (int64_t)seconds * 1000;
        run_round(pings);
        judge(pings);
        if (!command_stopped() || worst_of(pings) != PING_UNKNOWN) {
            keep(pings);
            print_round(pings);
            pings->worst = ping_worse(pings->worst, worst_of(pings));
        }
        for (int64_t now = clock_ms(); now < next && !command_stopped(); now = clock_ms())
            (void)command_sleep((int)(next - now < 1000 ? next - now : 1000));
    }
    print_summary(pings);
    return (int)pings->worst;
}

static void free_pings(struct pings *pings)
{
    for (size_t i = 0; pings->probes && i < pings->count; i++) {
        conf_password_free(pings->probes[i].path.smtp_password);
        for (size_t k = 0; k < CONF_PING_MAILBOXES_MAX; k++)
            conf_password_free(pings->probes[i].path.imap_passwords[k]);
    }
    free(pings->probes);
}

int command_ping(struct command_context *context, int argc, char **argv)
{
    struct pings pings = { .context = context };
    int every = 0, code = PING_UNKNOWN;
    const struct option_spec specs[] = { { "every", OPTION_DURATION, &every },
                                         { "timeout", OPTION_DURATION, &pings.timeout } };

    if (!options_parse(specs, sizeof(specs) / sizeof(specs[0]), &argc, argv))
        return EXIT_USE;
    if (every && context->json) {
        message("--every prints a line for each probe; --json is one document: not both");
        return EXIT_USE;
    }
    if (pings.timeout && pings.timeout < TIMEOUT_MIN_S) {
        message("--timeout must be at least %d seconds", TIMEOUT_MIN_S);
        return EXIT_USE;
    }
    pings.probes = calloc(CONF_PING_MAX, sizeof(*pings.probes));
    if (!pings.probes || !mail_begin()) {
        message("out of memory");
    } else {
        command_catch_signals();
        if (choose(&pings, argc, argv))
            code = every ? for_ever(&pings, every) : once(&pings);
        mail_end();
    }
    free_pings(&pings);
    return code;
}
