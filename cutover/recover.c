/*
 * sluice recover [--from FILE] [--force]: rebuilds Redis from a journal.
 *
 * Every host's journal has every change that its policyd saw; the one to take is
 * the newest. Which that is, this command cannot see from here: it names the
 * other registered hosts, and --dry-run shows on each how far its journal goes.
 *
 * Refused (exit 1) while Redis holds a history that the journal does not
 * contain: that would throw changes away. --force says so and does it.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "options.h"
#include "output.h"

#define PATH_TEXT_MAX 4096

/* The last change in the journal at path. */
static int read_head(const char *path, struct position *head)
{
    struct journal_reader *reader = journal_reader_new(path);
    enum lookup found = reader ? journal_head(reader, head) : LOOKUP_FAILED;
    journal_reader_free(reader);
    if (found == LOOKUP_FOUND)
        return EXIT_DONE;
    if (found == LOOKUP_ABSENT)
        message("%s: no journal, or an empty one: recover on another MTA host, or name "
                "its journal with --from",
                path);
    else
        message("%s cannot be read, or is damaged: run this as root", path);
    return EXIT_DATA;
}

static void name_other_hosts(struct command_context *context, uint64_t epoch)
{
    struct host *hosts = NULL;
    size_t n = 0;
    if (store_hosts(context->store, &hosts, &n) != LOOKUP_FOUND)
        return;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(hosts[i].name, context->conf->hostname) == 0)
            continue;
        notice(
            "%s has a journal of its own: if \"sluice recover --dry-run\" there shows a "
            "later change than %" PRIu64 ", run sluice recover --force there",
            hosts[i].name, epoch);
    }
    free(hosts);
}

static void report(struct command_context *context, const char *path,
                   const struct recover_result *result)
{
    doc *document = doc_object();
    if (context->dry_run)
        print("would rebuild Redis from %s, up to change %" PRIu64, path,
              result->at.epoch);
    else
        print("rebuilt from %s, up to change %" PRIu64 ": %" PRIu64 " domains, %" PRIu64
              " mailboxes, %" PRIu64 " hosts",
              path, result->at.epoch, result->domains, result->mailboxes, result->hosts);
    doc_text(document, "command", "recover");
    doc_flag(document, "dry_run", context->dry_run);
    doc_text(document, "journal", path);
    doc_number(document, "epoch", (int64_t)result->at.epoch);
    if (!context->dry_run) {
        doc_number(document, "domains", (int64_t)result->domains);
        doc_number(document, "mailboxes", (int64_t)result->mailboxes);
        doc_number(document, "hosts", (int64_t)result->hosts);
    }
    doc_print(document);
}

/* A refusal. Redis having gone on from this host's own journal is no fault: a
 * recover that was run before, or that nobody needs. */
static int report_refusal(struct command_context *context, bool own)
{
    struct position at;
    char *reason = strdup(store_error(context->store));
    bool fine = own && reason && store_position(context->store, &at) == LOOKUP_FOUND;
    if (fine) {
        doc *document = doc_object();
        print("nothing to do: %s", reason);
        doc_text(document, "command", "recover");
        doc_flag(document, "dry_run", false);
        doc_number(document, "epoch", (int64_t)at.epoch);
        doc_print(document);
    } else {
        message("%s", reason ? reason : "out of memory");
    }
    free(reason);
    return fine ? EXIT_DONE : EXIT_CHECK;
}

int command_recover(struct command_context *context, int argc, char **argv)
{
    char own[PATH_TEXT_MAX];
    const char *path = NULL;
    bool force = false;
    struct recover_result result = { 0 };
    const struct option_spec specs[] = {
        { "from", OPTION_TEXT, &path },
        { "force", OPTION_FLAG, &force },
    };
    if (!options_parse(specs, sizeof(specs) / sizeof(specs[0]), &argc, argv))
        return EXIT_USE;
    if (argc > 1) {
        message("no arguments are taken (a journal is named with --from)");
        return EXIT_USE;
    }
    if (!path) {
        conf_journal_path(context->conf, own, sizeof(own));
        path = own;
    }
    int code = read_head(path, &result.at);
    if (code != EXIT_DONE)
        return code;
    if (!context->dry_run) {
        switch (store_recover(context->store, path, force, &result)) {
        case COMMIT_DONE:
            break;
        case COMMIT_REFUSED:
            return report_refusal(context, path == own);
        case COMMIT_UNCERTAIN:
            message("%s. The outcome is unknown: run the same command again",
                    store_error(context->store));
            return EXIT_AGAIN;
        }
        name_other_hosts(context, result.at.epoch);
    }
    report(context, path, &result);
    return EXIT_DONE;
}
