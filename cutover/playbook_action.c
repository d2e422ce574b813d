/*
 * playbook_action: the table of actions, and those that are commands of sluice.
 */
#include "playbook_action.h"

#include <stdio.h>
#include <string.h>

static int run_lock(struct action_context *context, int argc, char **argv)
{
    return command_lock(context->command, argc, argv);
}

static int run_flip(struct action_context *context, int argc, char **argv)
{
    return command_flip(context->command, argc, argv);
}

static int run_unlock(struct action_context *context, int argc, char **argv)
{
    return command_unlock(context->command, argc, argv);
}

static int run_rollback(struct action_context *context, int argc, char **argv)
{
    return command_rollback(context->command, argc, argv);
}

static int run_cutover(struct action_context *context, int argc, char **argv)
{
    return command_cutover(context->command, argc, argv);
}

/* Asks the new server for each recipient, and changes nothing. */
static int run_probe(struct action_context *context, int argc, char **argv)
{
    context->command->dry_run = true;
    return command_cutover(context->command, argc, argv);
}

static int run_doctor(struct action_context *context, int argc, char **argv)
{
    return command_doctor(context->command, argc, argv);
}

static int run_status(struct action_context *context, int argc, char **argv)
{
    return command_status(context->command, argc, argv);
}

static int run_import(struct action_context *context, int argc, char **argv)
{
    return command_import(context->command, argc, argv);
}

/* sluice dns VERB DOMAIN [options of the playbook] [ours] */
static int run_dns(struct action_context *context, const char *verb, const char *more,
                   int argc, char **argv)
{
    static char name[] = "dns", yes[] = "--yes";
    char verb_copy[16], more_copy[32];
    char *words[PLAYBOOK_ARGS_MAX + 8];
    int n = 0;
    (void)snprintf(verb_copy, sizeof(verb_copy), "%s", verb);
    (void)snprintf(more_copy, sizeof(more_copy), "%s", more ? more : "");
    words[n++] = name;
    words[n++] = verb_copy;
    for (int i = 1; i < argc; i++)
        words[n++] = argv[i];
    if (more)
        words[n++] = more_copy;
    if (strcmp(verb, "apply") == 0)
        words[n++] = yes;
    words[n] = NULL;
    return command_dns(context->command, n, words);
}

static int run_dns_snapshot(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "snapshot", NULL, argc, argv);
}

static int run_dns_diff(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "diff", NULL, argc, argv);
}

static int run_dns_check(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "check", NULL, argc, argv);
}

static int run_dns_apply(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "apply", NULL, argc, argv);
}

static int run_dns_lower(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "apply", "--lower-ttl", argc, argv);
}

static int run_dns_back(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "apply", "--back", argc, argv);
}

/* A look now and then, so that the run shows how long it still takes. */
static int run_dns_wait(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "wait", "--timeout=10s", argc, argv);
}

/* clang-format off */
static const struct action actions[] = {
    /* the engine's own */
    { { "acknowledge", ACTION_PERSON, 0, 0, "" }, "a person does it and says so", NULL },
    { { "timer", ACTION_TIME, 1, 2, "DURATION [STEP]" }, "waits, from now or from a step's end", NULL },
    { { "nothing", ACTION_CHECK, 0, 0, "" }, "an undo where there is nothing to undo", NULL },
    /* commands */
    { { "lock", ACTION_CHANGE, 1, 9, "WHO..." }, "sluice lock", run_lock },
    { { "flip", ACTION_CHANGE, 1, 9, "WHO..." }, "sluice flip", run_flip },
    { { "unlock", ACTION_CHANGE, 1, 9, "WHO..." }, "sluice unlock", run_unlock },
    { { "rollback", ACTION_CHANGE, 1, 9, "WHO..." }, "sluice rollback", run_rollback },
    { { "cutover", ACTION_CHANGE, 1, 9, "WHO..." }, "sluice cutover: lock, sync, flip, release", run_cutover },
    { { "import", ACTION_CHANGE, 1, 1, "FILE.csv" }, "sluice import", run_import },
    { { "probe", ACTION_CHECK, 1, 9, "WHO..." }, "the new server takes mail for each of them", run_probe },
    { { "doctor", ACTION_CHECK, 0, 0, "" }, "sluice doctor", run_doctor },
    { { "status", ACTION_WRITE, 0, 9, "[WHO...]" }, "sluice status, into the step's log", run_status },
    { { "command", ACTION_CHANGE, 1, 20, "PROGRAM [ARGUMENT...]" }, "a program of yours", action_command },
    { { "check-command", ACTION_CHECK, 1, 20, "PROGRAM [ARGUMENT...]" }, "a program of yours that looks", action_command },
    /* sluice dns */
    { { "dns-snapshot", ACTION_WRITE, 1, 3, "DOMAIN" }, "keeps the live records and their TTLs", run_dns_snapshot },
    { { "dns-diff", ACTION_WRITE, 1, 3, "DOMAIN" }, "what would change, into the step's log", run_dns_diff },
    { { "dns-check", ACTION_CHECK, 1, 5, "DOMAIN [--senders FILE]" }, "every server has the planned records, and the rules hold", run_dns_check },
    { { "dns-apply", ACTION_CHANGE, 1, 5, "DOMAIN" }, "sends the changes", run_dns_apply },
    { { "dns-lower", ACTION_CHANGE, 1, 5, "DOMAIN" }, "brings the TTLs down before the move", run_dns_lower },
    { { "dns-back", ACTION_CHANGE, 1, 5, "DOMAIN" }, "the records of the snapshot again", run_dns_back },
    { { "dns-wait", ACTION_TIME, 1, 3, "DOMAIN" }, "2 x the old TTL has passed everywhere", run_dns_wait },
    /* what sluice knows */
    { { "home", ACTION_CHECK, 2, 9, "old|locked|new WHO..." }, "every one of them has that home", action_home },
    { { "unheld", ACTION_CHECK, 0, 0, "" }, "nothing is on hold on any host", action_unheld },
    { { "quiet", ACTION_TIME, 1, 1, "DURATION" }, "nothing was forwarded for so long", action_quiet },
    { { "senders", ACTION_WRITE, 0, 0, "" }, "senders.csv: who sends as the domain", action_senders },
    { { "senders-pass", ACTION_CHECK, 0, 0, "" }, "no known sender would fail under -all", action_senders_pass },
    { { "inventory", ACTION_CHECK, 1, 1, "FILE.csv" }, "the file's addresses are those that are listed", action_inventory },
    { { "sync", ACTION_CHANGE, 1, 9, "WHO..." }, "the sync command for each mailbox, without a lock", action_sync },
    /* servers */
    { { "port", ACTION_CHECK, 2, 2, "HOST:PORT open|refused" }, "a port is open, or is not", action_port },
    { { "tls", ACTION_CHECK, 1, 2, "HOST:PORT [smtp|imap]" }, "TLS with a valid certificate", action_tls },
    { { "imap-login", ACTION_CHECK, 2, 3, "HOST:PORT FILE.csv [tls]" }, "every account of address,password can log in", action_imap_login },
    { { "imap-sizes", ACTION_WRITE, 2, 3, "HOST:PORT FILE.csv [tls]" }, "sizes.csv: folders, messages, bytes", action_imap_sizes },
    { { "catchall", ACTION_CHECK, 1, 1, "HOST:PORT" }, "a random address is refused", action_catchall },
    { { "flow", ACTION_CHECK, 3, 3, "SMTP-HOST:PORT IMAP-HOST:PORT FILE.csv" }, "a message arrives in the first mailbox of the file", action_flow },
    /* papers */
    { { "postconf", ACTION_WRITE, 0, 0, "" }, "postconf.txt: postconf -n", action_postconf },
    { { "csv", ACTION_CHECK, 1, 1, "FILE.csv" }, "email,password: UTF-8, valid addresses", action_csv },
    { { "class", ACTION_WRITE, 3, 3, "FILE.csv USERCLASS ADMINCLASS" }, "class.csv, by the column admin", action_class },
    { { "histogram", ACTION_WRITE, 1, 1, "MAILLOG" }, "histogram.csv: messages by hour", action_histogram },
    { { "contacts", ACTION_WRITE, 1, 1, "MAILLOG" }, "contacts.csv: the most frequent correspondents", action_contacts },
    { { "document", ACTION_WRITE, 1, 20, "LINE..." }, "<step>.txt, to hand over", action_document },
    { { "notice", ACTION_WRITE, 2, 20, "RECIPIENTS.csv SUBJECT [LINE...]" }, "<step>.mbox: the notice for each of them, not sent", action_notice },
    { { "notice-send", ACTION_CHANGE, 4, 22, "RECIPIENTS.csv SMTP-HOST:PORT FROM SUBJECT [LINE...]" }, "sends it", action_notice },
};
/* clang-format on */
#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

const struct action_info *action_find(const char *name)
{
    for (size_t i = 0; i < ACTIONS; i++)
        if (strcmp(actions[i].info.name, name) == 0)
            return &actions[i].info;
    return NULL;
}

const struct action *action_of(const struct action_info *info)
{
    for (size_t i = 0; i < ACTIONS; i++)
        if (&actions[i].info == info)
            return &actions[i];
    return NULL;
}

const struct action *action_at(size_t i)
{
    return i < ACTIONS ? &actions[i] : NULL;
}

const char *action_kind_name(enum action_kind kind)
{
    static const char *const names[] = { "check", "document", "change", "person",
                                         "time" };
    return (size_t)kind < 5 ? names[kind] : "unknown";
}
