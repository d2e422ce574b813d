/*
 * sluice init: registers the configured domains in Redis, home old, and
 * init --remove-host: forgets an MTA host that was taken out of service.
 *
 * Says at once when Redis would forget what it is told (Debian ships it with
 * appendonly no): a lock that is forgotten delivers mail into a mailbox that is
 * being copied. Refuses to begin a new history where this host's journal has an
 * old one: that is a Redis that was emptied, and a case for sluice recover.
 *
 * Idempotent: a registered domain keeps its home.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "options.h"
#include "output.h"

/* A new history only where there was none; *empty: there is none yet. */
static int check_history(struct command_context *context, bool *empty)
{
    struct position at, head;
    switch (store_position(context->store, &at)) {
    case LOOKUP_FOUND:
        return EXIT_DONE;
    case LOOKUP_FAILED:
        message("%s", store_error(context->store));
        return EXIT_SERVICE;
    case LOOKUP_ABSENT:
        break;
    }
    *empty = true;
    switch (journal_head(context->head, &head)) {
    case LOOKUP_ABSENT:
        return EXIT_DONE;
    case LOOKUP_FAILED:
        message("the journal in %s cannot be read, or is damaged: run this as root",
                context->conf->state_dir);
        return EXIT_SERVICE;
    case LOOKUP_FOUND:
        break;
    }
    message("Redis (%s) holds none of sluice's data, but this host's journal has %" PRIu64
            " changes: Redis was emptied. Rebuild it: sluice recover (to begin anew "
            "instead, move %s/journal away on every host)",
            context->conf->redis.text, head.epoch, context->conf->state_dir);
    return EXIT_SERVICE;
}

static int check_durable(struct command_context *context)
{
    switch (store_durable(context->store)) {
    case COMMIT_DONE:
        return EXIT_DONE;
    case COMMIT_UNCERTAIN:
        message("%s", store_error(context->store));
        return EXIT_SERVICE;
    case COMMIT_REFUSED:
        break;
    }
    if (!context->conf->redis_durable) {
        notice("%s (going on: redis-durable is off)", store_error(context->store));
        return EXIT_DONE;
    }
    message("this Redis would forget locks: %s", store_error(context->store));
    notice("now:          redis-cli config set appendonly yes");
    notice("              redis-cli config set maxmemory-policy noeviction");
    notice("for good, in redis.conf:  appendonly yes");
    notice("                          maxmemory-policy noeviction");
    return EXIT_SERVICE;
}

/* Registers one domain; *fresh: it was not there. */
static int register_domain(struct command_context *context, const char *name, bool empty,
                           bool *fresh)
{
    struct store_totals totals;
    struct store *store = context->store;
    enum lookup known = empty ? LOOKUP_ABSENT : store_totals(store, name, &totals);
    *fresh = known == LOOKUP_ABSENT;
    if (known == LOOKUP_FAILED) {
        message("%s", store_error(store));
        return EXIT_SERVICE;
    }
    if (context->dry_run)
        return EXIT_DONE;
    switch (store_init_domain(store, name)) {
    case COMMIT_DONE:
        return EXIT_DONE;
    case COMMIT_REFUSED:
        message("%s", store_error(store));
        return EXIT_SERVICE;
    case COMMIT_UNCERTAIN:
        break;
    }
    message("%s: outcome unknown (%s): run the same command again", name,
            store_error(store));
    return EXIT_AGAIN;
}

static int register_all(struct command_context *context, bool empty)
{
    doc *document = doc_object(), *domains = doc_array();
    int code = EXIT_DONE;
    for (size_t i = 0; i < context->conf->domain_count && code == EXIT_DONE; i++) {
        const char *name = context->conf->domains[i].name;
        bool fresh;
        code =
            register_domain(context, name, empty && (i == 0 || context->dry_run), &fresh);
        if (code != EXIT_DONE)
            break;
        print(!fresh             ? "%s: registered before, nothing changed"
              : context->dry_run ? "%s: would be registered, home old"
                                 : "%s: registered, home old",
              name);
        doc *object = doc_add(domains, doc_object());
        doc_text(object, "domain", name);
        doc_flag(object, "new", fresh);
    }
    doc_text(document, "command", "init");
    doc_flag(document, "dry_run", context->dry_run);
    doc_put(document, "domains", domains);
    if (code == EXIT_DONE)
        doc_print(document);
    return code;
}

/* What comes next, for somebody who does this for the first time. */
static void tell_next(struct command_context *context)
{
    struct host *hosts = NULL;
    size_t n = 0;
    if (context->dry_run || store_hosts(context->store, &hosts, &n) == LOOKUP_FAILED)
        return;
    if (n == 0)
        notice("no MTA host is registered yet: sluice-policyd must run on every one (it "
               "registers its host within seconds); then run sluice doctor");
    free(hosts);
}

/* ---- --remove-host ----------------------------------------------------- */

static const struct host *find_host(const struct host *hosts, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(hosts[i].name, name) == 0)
            return &hosts[i];
    return NULL;
}

static int check_removable(struct command_context *context, const struct host *host,
                           const char *name, bool force)
{
    int64_t now_ms = store_time_ms(context->store);
    if (!host) {
        message("no host %s is registered (sluice status lists them)", name);
        return EXIT_DATA;
    }
    if (now_ms == 0) {
        message("%s", store_error(context->store));
        return EXIT_SERVICE;
    }
    if (now_ms - host->seen_ms <= HOST_SILENT_MS) {
        message(
            "%s is alive: stop sluice-policyd there first, or it registers itself again",
            host->name);
        return EXIT_CHECK;
    }
    if (host->held > 0 && !force) {
        message("%s has %" PRIu64 " held messages that only its own sluice-policyd can "
                "release: they stay on hold there. --force removes it all the same",
                host->name, host->held);
        return EXIT_CHECK;
    }
    return EXIT_DONE;
}

static int remove_host(struct command_context *context, const char *name, bool force)
{
    struct host *hosts = NULL;
    size_t n = 0;
    if (store_hosts(context->store, &hosts, &n) == LOOKUP_FAILED) {
        message("%s", store_error(context->store));
        return EXIT_SERVICE;
    }
    const struct host *host = find_host(hosts, n, name);
    int code = check_removable(context, host, name, force);
    if (code == EXIT_DONE && !context->dry_run) {
        switch (store_host_remove(context->store, host->name)) {
        case COMMIT_DONE:
            break;
        case COMMIT_REFUSED:
            message("%s", store_error(context->store));
            code = EXIT_SERVICE;
            break;
        case COMMIT_UNCERTAIN:
            message("outcome unknown (%s): run the same command again",
                    store_error(context->store));
            code = EXIT_AGAIN;
            break;
        }
    }
    if (code == EXIT_DONE) {
        doc *document = doc_object();
        print(context->dry_run ? "%s: would be removed" : "%s: removed", host->name);
        doc_text(document, "command", "init");
        doc_flag(document, "dry_run", context->dry_run);
        doc_text(document, "removed", host->name);
        doc_print(document);
    }
    free(hosts);
    return code;
}

int command_init(struct command_context *context, int argc, char **argv)
{
    const char *host = NULL;
    bool force = false;
    const struct option_spec specs[] = {
        { "remove-host", OPTION_TEXT, &host },
        { "force", OPTION_FLAG, &force },
    };
    if (!options_parse(specs, sizeof(specs) / sizeof(specs[0]), &argc, argv))
        return EXIT_USE;
    if (argc > 1 || (force && !host)) {
        message(force ? "--force is for --remove-host"
                      : "no arguments are taken: the "
                        "domains are those of the configuration");
        return EXIT_USE;
    }
    if (host) {
        int code = command_need_store(context);
        return code == EXIT_DONE ? remove_host(context, host, force) : code;
    }
    if (context->conf->domain_count == 0) {
        message("%s has no domain to register: add  domain \"example.com\" { new = "
                "\"[host]:25\" }",
                context->conf->path);
        return EXIT_CONFIGURATION;
    }
    bool empty = false;
    int code = check_history(context, &empty);
    if (code == EXIT_DONE)
        code = check_durable(context);
    if (code == EXIT_DONE)
        code = register_all(context, empty);
    if (code == EXIT_DONE)
        tell_next(context);
    return code;
}
