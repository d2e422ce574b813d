/*
 * sluice dns apply: changes the zone, or goes back to a snapshot.
 *
 * It asks, keeps a snapshot with what is then written, sends the update (or runs the
 * configured command with an nsupdate batch's path as its last argument), and looks
 * until every authoritative server has it. The update does nothing when the zone has
 * changed since it was looked at, so that running apply again is always safe: exit 75
 * then. What of the way back others have changed stays: exit 1, when the rest is done.
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
    static const enum dns_type types[] = { DNS_A, DNS_AAAA };
    bool ok = false;
    for (size_t t = 0; t < 2 && !ok; t++) {
        struct dns_reply reply;
        dns_look_resolve(&task->look, primary, types[t], &reply);
        const struct dns_set *set = dns_sets_find(&reply.answer, primary, types[t]);
        ok = set && set->count > 0 &&
             netaddr_parse(set->values[0], strlen(set->values[0]), &out->address);
        dns_reply_free(&reply);
    }
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

/* Servers may show the old records for a while, and a way back would find nothing to do.
 */
static void note_handed(const struct dns_task *task, const char *name)
{
    char path[4096], error[1024];
    if (!dns_snap_note(task->context->conf, task->domain->name, DNS_NOTE_HANDED, name,
                       path, sizeof(path), error, sizeof(error)))
        notice("%s: before the way back, see that the name servers have the change",
               error);
}

static bool replaces(const struct dns_changes *changes, const struct dns_set *after)
{
    for (size_t i = 0; i < changes->count; i++)
        if (changes->items[i].before.count > 0 &&
            strcmp(changes->items[i].before.name, after->name) == 0)
            return true;
    return false;
}

/* A server that signs the zone may pass over a CNAME in the place of a record that the
 * same update removes, since the signature is still there (Knot 3.2 does): then the name
 * is gone. So it is added once more, where there is nothing; else this does nothing. */
static void add_again(const struct dns_task *task, const struct dns_changes *changes,
                      const struct dns_server *server, const struct dns_key *key)
{
    char why[DNS_ERROR_MAX];
    for (size_t i = 0; i < changes->count; i++) {
        const struct dns_set *after = &changes->items[i].after;
        if (after->type != DNS_CNAME || after->count == 0 || !replaces(changes, after) ||
            dns_changes_keep(&changes->items[i]))
            continue;
        struct dns_change alone = { .before = { .name = after->name, .type = DNS_CNAME },
                                    .after = *after };
        const struct dns_changes one = { .items = &alone, .count = 1 };
        /* Whatever comes of it: the servers are asked next. */
        (void)dns_ask_update(server, task->look.zone, &one, key,
                             task->context->conf->dns.timeout * 2, why);
    }
}

static bool is_asked(const struct dns_look *look, const struct dns_server *server)
{
    for (size_t s = 0; s < look->server_count; s++)
        if (look->servers[s].port == server->port &&
            netaddr_equal(&look->servers[s].address, &server->address))
            return true;
    return false;
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
    const struct dns_key *with = dns->key_file ? &key : NULL;
    enum dns_update update =
        dns_ask_update(server, task->look.zone, changes, with, dns->timeout * 2, why);
    if (update == DNS_UPDATE_DONE)
        add_again(task, changes, server, with);
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
        message("%s: %s%s; nothing was changed, run the same command again", text, why,
                is_asked(&task->look, server) ? ""
                                              : " (or the name servers lag behind it)");
        return EXIT_AGAIN;
    case DNS_UPDATE_UNCERTAIN:
        break;
    }
    message("%s: outcome unknown (%s): run the same command again", text, why);
    return EXIT_AGAIN;
}

/* Nothing is to be changed, say servers that are not the one that takes updates (a hidden
 * primary): a change may be on its way to them. So that one is asked, by an update that
 * has prerequisites alone. */
static int ask_hidden(struct dns_task *task, const struct dns_sets *live,
                      const struct dns_changes *changes)
{
    const struct conf_dns *dns = &task->context->conf->dns;
    struct dns_server server;
    if (dns->command || (!dns->key_file && dns->server.address.family == AF_UNSPEC))
        return EXIT_DONE; /* updates are sent to none */
    if (!find_primary(task, live, &server))
        return EXIT_SERVICE;
    if (is_asked(&task->look, &server))
        return EXIT_DONE;
    struct dns_changes same = { .items = calloc(changes->after.count + 1,
                                                sizeof(*same.items)) };
    if (!same.items) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    for (size_t i = 0; i < changes->after.count; i++) {
        const struct dns_set *is = &changes->after.items[i];
        const struct dns_set none = { .name = is->name, .type = is->type };
        /* Its texts in the strings that are live. */
        const struct dns_set *set = dns_sets_find(live, is->name, is->type);
        set = set ? set : &none;
        same.items[same.count++] = (struct dns_change){ .before = *set, .after = *set };
    }
    int code = send_update(task, &same, &server);
    free(same.items);
    return code;
}

static const struct dns_change *change_of(const struct dns_changes *changes,
                                          const struct dns_set *after)
{
    for (size_t i = 0; i < changes->count; i++)
        if (changes->items[i].after.type == after->type &&
            strcmp(changes->items[i].after.name, after->name) == 0)
            return &changes->items[i];
    return NULL;
}

/* Whether a server has this set as it shall be. */
static bool has_set(const struct dns_task *task, const struct dns_changes *changes,
                    const struct dns_set *after, size_t server)
{
    static const struct dns_set none = { 0 };
    size_t question = dns_look_question(&task->look, after->name, after->type);
    if (question == SIZE_MAX)
        return true;
    const struct dns_change *change = change_of(changes, after);
    const struct dns_set *live = dns_look_set(&task->look, question, server);
    if (after->count == 0 && dns_look_wild(&task->look, question))
        live = NULL; /* a wildcard stands in */
    if (dns_look_reply(&task->look, question, server)->outcome == DNS_FAILED ||
        !dns_set_same(live ? live : &none, after))
        return false;
    /* Of what was sent by an earlier try nothing tells whether it was the TTL alone. */
    bool by_ttl = task->options.lower_ttl || task->options.back ||
                  (change && dns_set_same(&change->before, after));
    return !by_ttl || !live || live->ttl == after->ttl;
}

/* Whether every authoritative server has every set as it shall be. */
static bool has_all(const struct dns_task *task, const struct dns_changes *changes,
                    size_t *behind)
{
    for (size_t s = 0; s < task->look.server_count; s++)
        for (size_t i = 0; i < changes->after.count; i++)
            if (!has_set(task, changes, &changes->after.items[i], s)) {
                *behind = s;
                return false;
            }
    return true;
}

/* What a server that is behind has to say for itself; "": nothing. */
static const char *error_of(const struct dns_task *task, size_t server)
{
    for (size_t q = 0; q < task->look.questions.count; q++)
        if (dns_look_reply(&task->look, q, server)->outcome == DNS_FAILED)
            return dns_look_reply(&task->look, q, server)->error;
    return "";
}

static void say_behind(const struct dns_task *task, size_t behind,
                       const struct dns_server *updated, bool sent)
{
    const struct dns_look *look = &task->look;
    const char *head = sent ? "sent" : "nothing to change";
    char text[DNS_SERVER_TEXT];
    if (command_stopped()) {
        message("interrupted: %s; run the same command again, it goes on from here",
                sent ? "the changes are sent" : "nothing was changed");
        return;
    }
    if (behind >= look->server_count) {
        message("%s, but %s; run the same command again", head, look->trouble);
        return;
    }
    dns_server_text(&look->servers[behind], text);
    const char *error = error_of(task, behind);
    if (error[0])
        message("%s, but %s does not say whether it has it: %s; look with sluice dns "
                "check %s, or run the same command again",
                head, text, error, task->domain->name);
    else if (updated && updated->port == look->servers[behind].port &&
             netaddr_equal(&updated->address, &look->servers[behind].address))
        message(
            "sent, but %s has not taken it over yet: is something else at that name "
            "(nothing may stand beside a CNAME), or its zone frozen? Look at its log, "
            "and with sluice dns check %s, or run the same command again",
            text, task->domain->name);
    else
        message("%s, but %s has not taken it over yet: look with sluice dns check %s, or "
                "run the same command again",
                head, text, task->domain->name);
}

/* sent: else nothing was to be changed, by what was just asked. updated: the server that
 * took the update; NULL: none, or not known. */
static int wait_for_servers(struct dns_task *task, const struct dns_changes *changes,
                            const struct dns_server *updated, bool sent)
{
    char text[DNS_SERVER_TEXT];
    int seconds = task->options.timeout ? task->options.timeout : AGREE_S;
    int64_t end = clock_ms() + (int64_t)seconds * 1000;
    size_t behind = SIZE_MAX;
    int code = sent ? dns_look_ask(&task->look, false) : EXIT_DONE;
    if (code == EXIT_DONE && has_all(task, changes, &behind))
        return EXIT_DONE;
    progress_begin("dns", 0);
    for (;;) {
        if (code == EXIT_DONE)
            dns_server_text(&task->look.servers[behind], text);
        else
            snprintf(text, sizeof(text), "%.200s", task->look.zone);
        progress_set(0, "%s has not taken it over yet", text);
        if (clock_ms() >= end || !command_sleep(POLL_MS))
            break;
        behind = SIZE_MAX;
        code = dns_look_ask(&task->look, false);
        if (code == EXIT_DONE && has_all(task, changes, &behind)) {
            progress_end();
            return EXIT_DONE;
        }
    }
    progress_end();
    say_behind(task, behind, updated, sent);
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
    int code = dns_look_live(&task->look, true, &live);
    if (code == EXIT_DONE)
        code = dns_task_snapshot(task, &live, NULL, name);
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
        code = dns_task_snapshot(task, live, changes, name);
    if (code != EXIT_DONE)
        return code;
    dns_snap_forget(task->context->conf, task->domain->name, DNS_NOTE_AGREED);
    dns_snap_forget(task->context->conf, task->domain->name, DNS_NOTE_LOWERED);
    if (by_command) {
        char *batch = dns_plan_nsupdate(changes, task->look.zone, NULL, 0);
        note_handed(task, name);
        code = batch ? run_command(task, batch) : EXIT_SERVICE;
        free(batch);
        if (code != EXIT_DONE && code != EXIT_AGAIN) /* it says that it failed */
            dns_snap_forget(task->context->conf, task->domain->name, DNS_NOTE_HANDED);
    } else {
        code = send_update(task, changes, &server);
    }
    if (code == EXIT_DONE)
        code = wait_for_servers(task, changes, by_command ? NULL : &server, true);
    if (code == EXIT_DONE)
        dns_snap_forget(task->context->conf, task->domain->name, DNS_NOTE_HANDED);
    return code == EXIT_DONE ? keep_after(task) : code;
}

static void show_done(struct dns_task *task, const struct dns_back *back,
                      const char *name)
{
    size_t count = back->changes.count;
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
    doc_text(document, "back_to", task->back ? task->back->name : NULL);
    dns_task_document_changes(document, back);
    doc_print(document);
}

/* An update that has no change in it: the server looks at the key, and whether that may
 * change the zone, before it looks for a change (RFC 2136 3.3). What a command needs
 * cannot be tried. */
static int try_update(struct dns_task *task, const struct dns_sets *live)
{
    const struct conf_dns *dns = &task->context->conf->dns;
    const struct dns_changes none = { 0 };
    struct dns_server server;
    char text[DNS_SERVER_TEXT];
    if (dns->command) {
        print("%s: changes go through %s, which cannot be tried", task->domain->name,
              dns->command[0]);
        return EXIT_DONE;
    }
    if (!find_primary(task, live, &server))
        return EXIT_SERVICE;
    int code = send_update(task, &none, &server);
    if (code == EXIT_DONE)
        print("%s: %s takes updates%s; nothing was changed", task->domain->name,
              dns_server_text(&server, text),
              dns->key_file ? " with this key" : " without a key");
    return code;
}

int dns_apply(struct dns_task *task)
{
    struct dns_sets live = { 0 };
    struct dns_back back = { 0 };
    char name[64] = "";
    int code = dns_task_look(task, false, &live);
    if (code == EXIT_DONE && task->options.try_only) {
        code = try_update(task, &live);
        dns_sets_free(&live);
        return code;
    }
    if (code == EXIT_DONE)
        code = dns_task_changes(task, &back);
    if (code == EXIT_DONE) {
        dns_task_print_changes(&back);
        fflush(stdout);
        if (back.changes.count > 0) {
            code = change(task, &live, &back.changes, name);
        } else if (!task->context->dry_run) {
            code = dns_task_handed(task, &live);
            if (code == EXIT_DONE)
                code = ask_hidden(task, &live, &back.changes);
            if (code == EXIT_DONE)
                code = wait_for_servers(task, &back.changes, NULL, false);
        }
    }
    if (code == EXIT_DONE) {
        show_done(task, &back, name);
        code = dns_task_say_left(task, &back);
    }
    dns_back_free(&back);
    dns_sets_free(&live);
    return code;
}
