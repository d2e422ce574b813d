/*
 * sluice dns diff, sluice dns apply: what to change, and changing it.
 *
 * apply keeps a snapshot first, writes the nsupdate batch beside it, asks, sends
 * the update (or runs the configured command with the batch's path as its last
 * argument), and looks until every authoritative server has it. The update does
 * nothing when the zone has changed since it was looked at, so that running
 * apply again is always safe: exit 75 then.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "capture.h"
#include "clock.h"
#include "dns.h"
#include "dns_key.h"

#define AGREE_S    60
#define POLL_MS    500
#define COMMAND_MS 300000
#define ASK_MS     600000 /* older than that the comparison is not to be acted on */
#define BATCH_NAME "last.nsupdate"

/* ---- what to change ------------------------------------------------------- */

int dns_task_changes(struct dns_task *task, const struct dns_sets *live,
                     struct dns_changes *changes, const struct dns_snap **from)
{
    bool ok;
    *changes = (struct dns_changes){ 0 };
    *from = NULL;
    if (task->options.back) {
        *from = task->back;
        ok =
            dns_plan_back(&(*from)->asked, &(*from)->sets, &task->planned, live, changes);
    } else {
        const struct dns_set *conflict = dns_plan_conflict(&task->planned, live);
        if (conflict && !task->options.lower_ttl) {
            message("%s has %s records, and its planned CNAME must stand alone: remove "
                    "them, or plan another name",
                    conflict->name, dns_type_name(conflict->type));
            return EXIT_CHECK;
        }
        ok = dns_plan_changes(&task->planned, live,
                              task->options.lower_ttl ? DNS_AIM_TTL : DNS_AIM_PLAN,
                              changes);
    }
    if (ok)
        return EXIT_DONE;
    message("out of memory");
    return EXIT_SERVICE;
}

/* ---- showing it ----------------------------------------------------------- */

static void change_rows(struct sheet *sheet, const struct dns_set *set,
                        const struct dns_set *other, const char *sign)
{
    char ttl[16];
    snprintf(ttl, sizeof(ttl), "%u", (unsigned)set->ttl);
    for (size_t i = 0; i < set->count; i++) {
        bool same = dns_set_has(other, set->values[i]);
        const char *cells[] = { same && set->ttl == other->ttl ? "" : sign, set->name,
                                dns_type_name(set->type), ttl, set->values[i] };
        if (!same || sign[0] == '+' || set->ttl != other->ttl)
            sheet_row(sheet, cells);
    }
}

void dns_task_print_changes(const struct dns_changes *changes)
{
    static const char *const headers[] = { "", "name", "type", ">TTL", "value" };
    struct sheet *sheet = sheet_new(headers, sizeof(headers) / sizeof(headers[0]));
    for (size_t i = 0; i < changes->count; i++) {
        const struct dns_change *change = &changes->items[i];
        change_rows(sheet, &change->before, &change->after, "-");
        change_rows(sheet, &change->after, &change->before, "+");
    }
    sheet_print(sheet);
}

static void document_set(doc *object, const char *key, const struct dns_set *set)
{
    doc *half = doc_put(object, key, doc_object());
    doc *values = doc_put(half, "values", doc_array());
    for (size_t i = 0; i < set->count; i++)
        doc_add_text(values, set->values[i]);
    if (set->count > 0)
        doc_number(half, "ttl", set->ttl);
}

void dns_task_document_changes(doc *document, const struct dns_changes *changes)
{
    doc *list = doc_put(document, "changes", doc_array());
    for (size_t i = 0; i < changes->count; i++) {
        const struct dns_change *change = &changes->items[i];
        doc *object = doc_add(list, doc_object());
        doc_text(object, "name", change->after.name);
        doc_text(object, "type", dns_type_name(change->after.type));
        document_set(object, "before", &change->before);
        document_set(object, "after", &change->after);
    }
}

/* Line by line: print() takes one, and values are long. */
static void print_lines(const char *text)
{
    if (!out_is_json())
        fputs(text, stdout);
}

static void print_all(const struct dns_task *task, const struct dns_changes *changes,
                      const char *zone, const char *batch)
{
    const char *format = task->options.format;
    if (!format && changes->count > 0)
        print("%s, %zu %s of records to change%s%s:", task->domain->name, changes->count,
              changes->count == 1 ? "set" : "sets",
              task->back ? ", the way back to snapshot " : "",
              task->back ? task->back->name : "");
    if (changes->count == 0 && !format)
        print("%s: nothing to change", task->domain->name);
    if (changes->count > 0 && (!format || strcmp(format, "table") == 0))
        dns_task_print_changes(changes);
    if (changes->count > 0 && !format) {
        print("%s", "");
        print("Zone-file lines:");
    }
    if (changes->count > 0 && (!format || strcmp(format, "zone") == 0))
        print_lines(zone);
    if (changes->count > 0 && !format) {
        print("%s", "");
        print("For nsupdate:");
    }
    if (changes->count > 0 && (!format || strcmp(format, "nsupdate") == 0))
        print_lines(batch);
}

int dns_diff(struct dns_task *task)
{
    struct dns_sets live = { 0 };
    struct dns_changes changes = { 0 };
    const struct dns_snap *from = NULL;
    int code = dns_task_look(task, false, &live);
    if (code == EXIT_DONE)
        code = dns_task_changes(task, &live, &changes, &from);
    if (code == EXIT_DONE) {
        char *zone = dns_plan_zone_lines(&changes);
        char *batch = dns_plan_nsupdate(&changes, task->look.zone, NULL, 0);
        doc *document = dns_task_document(task);
        if (zone && batch)
            print_all(task, &changes, zone, batch);
        doc_text(document, "snapshot", from ? from->name : NULL);
        dns_task_document_changes(document, &changes);
        doc_text(document, "zone_lines", zone);
        doc_text(document, "nsupdate", batch);
        doc_print(document);
        free(zone);
        free(batch);
    }
    dns_changes_free(&changes);
    dns_sets_free(&live);
    return code;
}

/* ---- changing it ---------------------------------------------------------- */

/* The zone's primary by its SOA, unless sluice.conf names a server. */
static bool find_primary(struct dns_task *task, const struct dns_sets *live,
                         struct dns_server *out)
{
    const struct conf_dns *dns = &task->context->conf->dns;
    *out = (struct dns_server){ .port = dns->port };
    if (dns->server.address.family != AF_UNSPEC) {
        out->address = dns->server.address;
        out->port = dns->server.port;
        return true;
    }
    const struct dns_set *soa = dns_sets_find(live, task->look.zone, DNS_SOA);
    char primary[DNSRECORD_NAME_MAX + 1] = "";
    if (soa && soa->count > 0)
        (void)dnsrecord_name(soa->values[0], strcspn(soa->values[0], " "), primary);
    for (size_t s = 0; s < task->look.server_count; s++)
        if (strcmp(task->look.servers[s].name, primary) == 0 &&
            task->look.servers[s].address.family != AF_UNSPEC) {
            *out = task->look.servers[s];
            return true;
        }
    struct dns_reply reply;
    dns_look_resolve(&task->look, primary, DNS_A, &reply);
    const struct dns_set *set = dns_sets_find(&reply.answer, primary, DNS_A);
    bool ok = set && set->count > 0 &&
              netaddr_parse(set->values[0], strlen(set->values[0]), &out->address);
    dns_reply_free(&reply);
    memcpy(out->name, primary, sizeof(primary));
    if (!ok)
        message("%s: the primary %s has no address: name the server that takes updates, "
                "dns { server = \"...\" } in %s",
                task->look.zone, primary, task->context->conf->path);
    return ok;
}

/* Of what a command printed, where the reason mostly is. Cuts text. */
static const char *last_line(char *text)
{
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        text[--len] = '\0';
    const char *line = strrchr(text, '\n');
    return len == 0 ? "it printed nothing" : line ? line + 1 : text;
}

static int run_command(struct dns_task *task, const char *batch)
{
    char path[4096], error[1024];
    const char *argv[128];
    size_t n = 0;
    char *const *words = task->context->conf->dns.command;
    if (!dns_snap_note(task->context->conf, task->domain->name, BATCH_NAME, batch, path,
                       sizeof(path), error, sizeof(error))) {
        message("%s", error);
        return EXIT_SERVICE;
    }
    while (words[n] && n < 126) {
        argv[n] = words[n];
        n++;
    }
    argv[n++] = path;
    argv[n] = NULL;
    struct capture capture;
    capture_run_all(argv, NULL, COMMAND_MS, &capture);
    if (capture.status < 0)
        message("%s: %s; what it did is not known: look with sluice dns check %s",
                argv[0], capture.error, task->domain->name);
    else if (capture.status > 0)
        message("%s ended with %d: %s; the changes are in %s", argv[0], capture.status,
                last_line(capture.out), path);
    free(capture.out);
    return capture.status == 0 ? EXIT_DONE : capture.status < 0 ? EXIT_AGAIN : EXIT_CHECK;
}

static int send_update(struct dns_task *task, const struct dns_changes *changes,
                       const struct dns_server *server)
{
    const struct conf_dns *dns = &task->context->conf->dns;
    char error[1024], why[DNS_ERROR_MAX] = "", text[DNS_SERVER_TEXT];
    struct dns_key key;
    if (dns->key_file && !dns_key_read(dns->key_file, &key, error, sizeof(error))) {
        message("%s", error);
        return EXIT_CONFIGURATION;
    }
    enum dns_update update =
        dns_ask_update(server, task->look.zone, changes, dns->key_file ? &key : NULL,
                       dns->timeout * 2, why);
    if (dns->key_file)
        dns_key_forget(&key);
    dns_server_text(server, text);
    switch (update) {
    case DNS_UPDATE_DONE:
        return EXIT_DONE;
    case DNS_UPDATE_UNSENT:
        message("%s cannot be reached: %s; nothing was changed", text, why);
        return EXIT_SERVICE;
    case DNS_UPDATE_REFUSED:
        message("%s refuses the update: %s; nothing was changed", text, why);
        return EXIT_CHECK;
    case DNS_UPDATE_CONFLICT:
        message("%s: %s; nothing was changed, run the same command again", text, why);
        return EXIT_AGAIN;
    case DNS_UPDATE_UNCERTAIN:
        break;
    }
    message("%s: outcome unknown (%s): run the same command again", text, why);
    return EXIT_AGAIN;
}

/* Whether every authoritative server has every set as it shall be. */
static bool has_all(const struct dns_task *task, const struct dns_changes *changes,
                    size_t *behind)
{
    const struct dns_look *look = &task->look;
    for (size_t s = 0; s < look->server_count; s++)
        for (size_t i = 0; i < changes->count; i++) {
            const struct dns_set *after = &changes->items[i].after;
            size_t question = dns_look_question(look, after->name, after->type);
            const struct dns_set none = { 0 };
            const struct dns_set *live =
                question == SIZE_MAX ? NULL : dns_look_set(look, question, s);
            bool ttl_alone = dns_set_same(&changes->items[i].before, after);
            *behind = s;
            if (question != SIZE_MAX &&
                (dns_look_reply(look, question, s)->outcome == DNS_FAILED ||
                 !dns_set_same(live ? live : &none, after) ||
                 (ttl_alone && live && live->ttl != after->ttl)))
                return false;
        }
    return true;
}

static int wait_for_servers(struct dns_task *task, const struct dns_changes *changes)
{
    char text[DNS_SERVER_TEXT];
    int seconds = task->options.timeout ? task->options.timeout : AGREE_S;
    int64_t end = clock_ms() + (int64_t)seconds * 1000;
    size_t behind = 0;
    progress_begin("dns", 0);
    for (;;) {
        int code = dns_look_ask(&task->look, false);
        if (code == EXIT_DONE && has_all(task, changes, &behind)) {
            progress_end();
            return EXIT_DONE;
        }
        if (code == EXIT_DONE)
            dns_server_text(&task->look.servers[behind], text);
        else
            snprintf(text, sizeof(text), "%.200s", task->look.zone);
        progress_set(0, "%s has not taken it over yet", text);
        if (clock_ms() >= end || !command_sleep(POLL_MS))
            break;
    }
    progress_end();
    if (command_stopped())
        message(
            "interrupted: the changes are sent; run the same command again, it goes on "
            "from here");
    else
        message(
            "sent, but %s has not taken it over yet: look with sluice dns check %s, or "
            "run the same command again",
            text, task->domain->name);
    return EXIT_AGAIN;
}

/* What was answered; '\0': nothing. A read that waited by itself could miss a Ctrl-C that
 * comes just before it. */
static char answer(void)
{
    char line[4096] = ""; /* a terminal's longest line: nothing is left to the shell */
    struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
    int64_t end = clock_ms() + ASK_MS, left = ASK_MS;
    int ready;
    while ((ready = command_poll(&in, 1, (int)left)) < 0 && errno == EINTR &&
           !command_stopped())
        left = clock_ms() < end ? end - clock_ms() : 0;
    if (ready > 0 && read(STDIN_FILENO, line, sizeof(line)) > 0)
        return line[0];
    fputc('\n', stderr); /* the question's line ends */
    return '\0';
}

/* EXIT_DONE: go on. */
static int ask_first(const struct dns_task *task, const char *to)
{
    if (task->options.yes)
        return EXIT_DONE;
    if (!isatty(STDIN_FILENO)) {
        message("nobody is there to ask, so nothing was changed: add --yes");
        return EXIT_USE;
    }
    fprintf(stderr, "Change these at %s? [y/N] ", to);
    fflush(stderr);
    char said = answer();
    if (said == 'y' || said == 'Y')
        return EXIT_DONE;
    message("%snothing was changed",
            said == '\0' && !command_stopped() ? "no answer, so " : "");
    return command_stopped() ? EXIT_AGAIN : EXIT_CHECK;
}

/* The time that old records and TTLs are cached is counted from the next snapshot: so
 * one is kept of what is live after a change, too. */
static int keep_after(struct dns_task *task)
{
    struct dns_sets live = { 0 };
    char name[64];
    int code = dns_look_live(&task->look, &live);
    if (code == EXIT_DONE)
        code = dns_task_snapshot(task, &live, name);
    dns_sets_free(&live);
    return code;
}

static int change(struct dns_task *task, const struct dns_sets *live,
                  const struct dns_changes *changes, char name[64])
{
    const struct conf_dns *dns = &task->context->conf->dns;
    struct dns_server server = { 0 };
    char text[DNS_SERVER_TEXT];
    bool by_command = dns->command != NULL;
    if (!by_command && !find_primary(task, live, &server))
        return EXIT_SERVICE;
    snprintf(text, sizeof(text), "%s", by_command ? dns->command[0] : "");
    if (!by_command)
        dns_server_text(&server, text);
    if (task->context->dry_run)
        return EXIT_DONE;
    int code = ask_first(task, text);
    if (code == EXIT_DONE)
        code = dns_task_snapshot(task, live, name);
    if (code != EXIT_DONE)
        return code;
    dns_snap_forget(task->context->conf, task->domain->name, DNS_NOTE_AGREED);
    dns_snap_forget(task->context->conf, task->domain->name, DNS_NOTE_LOWERED);
    if (by_command) {
        char *batch = dns_plan_nsupdate(changes, task->look.zone, NULL, 0);
        code = batch ? run_command(task, batch) : EXIT_SERVICE;
        free(batch);
    } else {
        code = send_update(task, changes, &server);
    }
    if (code == EXIT_DONE)
        code = wait_for_servers(task, changes);
    return code == EXIT_DONE ? keep_after(task) : code;
}

int dns_apply(struct dns_task *task)
{
    struct dns_sets live = { 0 };
    struct dns_changes changes = { 0 };
    const struct dns_snap *from = NULL;
    char name[64] = "";
    int code = dns_task_look(task, false, &live);
    if (code == EXIT_DONE)
        code = dns_task_changes(task, &live, &changes, &from);
    size_t count = changes.count;
    if (code == EXIT_DONE && count > 0) {
        dns_task_print_changes(&changes);
        fflush(stdout);
        code = change(task, &live, &changes, name);
    }
    if (code == EXIT_DONE) {
        if (count == 0)
            print("%s: nothing to change", task->domain->name);
        else
            print("%s: %zu %s of records %s%s%s", task->domain->name, count,
                  count == 1 ? "set" : "sets",
                  task->context->dry_run ? "would be changed"
                                         : "changed, every authoritative server has them",
                  name[0] ? "; as it was before: snapshot " : "", name);
        doc *document = dns_task_document(task);
        doc_flag(document, "dry_run", task->context->dry_run);
        doc_text(document, "snapshot", name[0] ? name : NULL);
        doc_text(document, "back_to", from ? from->name : NULL);
        dns_task_document_changes(document, &changes);
        doc_print(document);
    }
    dns_changes_free(&changes);
    dns_sets_free(&live);
    return code;
}
