/*
 * playbook_action: the table of actions, and those that are commands of sluice.
 */
#include "playbook_action.h"

#include <stdio.h>
#include <string.h>

#include "output.h"
#include "playbook_people.h"
#include "playbook_report.h"

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

static int run_ping(struct action_context *context, int argc, char **argv)
{
    int code = command_ping(context->command, argc, argv);
    return code == EXIT_DONE || code == EXIT_USE ? code : EXIT_CHECK;
}

/* Its state "still forwarding" (1) is what is waited for. It keeps a checkpoint of its
 * own, beside that of a monitoring system. */
static int run_monitor(struct action_context *context, int argc, char **argv)
{
    char checkpoint[PAPER_PATH_MAX + 16], name[200], path[PAPER_PATH_MAX];
    char *words[PLAYBOOK_ARGS_MAX + 2];
    int n = 0;
    (void)snprintf(name, sizeof(name), "%.150s.checkpoint", context->step);
    if (!paper_path(context, name, path))
        return EXIT_SERVICE;
    (void)snprintf(checkpoint, sizeof(checkpoint), "--checkpoint=%s", path);
    for (; n < argc && n < PLAYBOOK_ARGS_MAX; n++)
        words[n] = argv[n];
    words[n++] = checkpoint;
    words[n] = NULL;
    int code = command_monitor(context->command, n, words);
    if (code == EXIT_DONE)
        print("nothing was forwarded for so long: %s.log has who did before",
              context->step);
    return code == 1 ? EXIT_AGAIN : code == 2 || code == 3 ? EXIT_CHECK : code;
}

static int run_audit(struct action_context *context, int argc, char **argv)
{
    int code = command_audit(context->command, argc, argv);
    if (code == EXIT_DONE)
        print("every message has one known fate: %s.log in %s is the ledger",
              context->step, context->directory);
    return code;
}

static int run_status(struct action_context *context, int argc, char **argv)
{
    return command_status(context->command, argc, argv);
}

/* clang-format off */
static const struct action actions[] = {
    /* the engine's own */
    { { "acknowledge", ACTION_PERSON, 0, 0, "" }, "a person does it and says so: sluice playbook ack", NULL },
    { { "timer", ACTION_TIME, 1, 2, "DURATION [STEP]" }, "waits so long, from now or from that step's end", NULL },
    { { "nothing", ACTION_CHECK, 0, 0, "" }, "the undo of a step that leaves nothing behind", NULL },
    /* commands of sluice */
    { { "lock", ACTION_CHANGE, 1, 9, "WHO..." }, "sluice lock: delivery waits", run_lock },
    { { "flip", ACTION_CHANGE, 1, 9, "WHO..." }, "sluice flip: mail goes to the new side", run_flip },
    { { "unlock", ACTION_CHANGE, 1, 9, "WHO..." }, "sluice unlock", run_unlock },
    { { "rollback", ACTION_CHANGE, 1, 9, "WHO..." }, "sluice rollback: back to the old side", run_rollback },
    { { "back", ACTION_CHANGE, 1, 9, "WHO..." }, "to the old side: unlocks what is only locked, rolls back what is new", action_back },
    { { "relock", ACTION_CHANGE, 1, 9, "WHO..." }, "the undo of flip: locked again, until the undo of the step that locked", action_relock },
    { { "cutover", ACTION_CHANGE, 1, 9, "WHO..." }, "sluice cutover: lock, sync, flip, release", run_cutover },
    { { "import", ACTION_CHANGE, 1, 1, "FILE.csv" }, "sluice import: new and copy addresses; keeps what was there in <step>.before.csv", action_import },
    { { "import-back", ACTION_CHANGE, 0, 0, "" }, "undoes the import of its step", action_import_back },
    { { "probe", ACTION_CHECK, 1, 9, "WHO..." }, "the new server takes mail for each of them", run_probe },
    { { "doctor", ACTION_CHECK, 0, 0, "" }, "sluice doctor", run_doctor },
    { { "ping", ACTION_CHECK, 0, 9, "[NAME...]" }, "sluice ping: a message on each path (or those) arrives, and where it went", run_ping },
    { { "audit", ACTION_CHECK, 1, 9, "LOG... [--domain NAME] [--since T]" }, "sluice audit: every message has one known fate", run_audit },
    { { "monitor", ACTION_TIME, 1, 9, "LOG... [--quiet-for TIME]" }, "sluice monitor: by the log, the old server has forwarded nothing for 72h, or so long", run_monitor },
    { { "status", ACTION_WRITE, 0, 9, "[WHO...]" }, "sluice status, into the step's log", run_status },
    /* sluice dns */
    { { "dns-snapshot", ACTION_WRITE, 1, 3, "DOMAIN" }, "keeps the live records and their TTLs", action_dns_snapshot },
    { { "dns-diff", ACTION_WRITE, 1, 3, "DOMAIN" }, "what would change, into the step's log", action_dns_diff },
    { { "dns-check", ACTION_CHECK, 1, 9, "DOMAIN [--only NAME | --except NAME]" }, "every server has the planned records, and the rules hold", action_dns_check },
    { { "dns-rules", ACTION_CHECK, 1, 9, "DOMAIN [--only NAME | --except NAME]" }, "before the change: the rules hold for what is planned", action_dns_rules },
    { { "dns-servers", ACTION_CHECK, 1, 1, "DOMAIN" }, "name servers: parent and child agree, one serial, none has changed", action_dns_servers },
    { { "dns-access", ACTION_CHECK, 1, 1, "DOMAIN" }, "the server takes updates with this key: one that changes nothing", action_dns_access },
    { { "dns-apply", ACTION_CHANGE, 1, 9, "DOMAIN [--only NAME | --except NAME] [--timeout T]" }, "sends the changes, and waits up to T for every name server", action_dns_apply },
    { { "dns-lower", ACTION_CHANGE, 1, 9, "DOMAIN" }, "brings the TTLs down before the move", action_dns_lower },
    { { "dns-lowered", ACTION_TIME, 1, 9, "DOMAIN" }, "the old TTLs have run out", action_dns_lowered },
    { { "dns-back", ACTION_CHANGE, 1, 1, "DOMAIN" }, "undoes the dns-apply or dns-lower of its step", action_dns_back },
    { { "dns-wait", ACTION_TIME, 1, 9, "DOMAIN [--only NAME | --except NAME]" }, "2 x the old TTL has passed everywhere", action_dns_wait },
    /* programs of the admin */
    { { "command", ACTION_CHANGE, 1, 20, "PROGRAM [ARGUMENT...]" }, "a program of yours; its last line is the note", action_command },
    { { "check-command", ACTION_CHECK, 1, 20, "PROGRAM [ARGUMENT...]" }, "a program of yours that only looks", action_command },
    { { "each", ACTION_CHANGE, 2, 20, "WHO PROGRAM [ARGUMENT...]" }, "a program of yours for each mailbox, with a journal: goes on where it stopped", action_each },
    { { "sync", ACTION_CHANGE, 1, 9, "WHO..." }, "the sync command for each mailbox, without a lock, with a journal", action_sync },
    { { "synced", ACTION_CHECK, 2, 9, "STEP WHO..." }, "by the journal of that sync step: each mailbox's sync ended well", action_synced },
    /* people */
    { { "csv", ACTION_CHECK, 1, 1, "FILE.csv" }, "email,password: UTF-8, addresses of the domain once each, no special characters", action_csv },
    { { "inventory", ACTION_CHECK, 1, 5, "FILE.csv [maps] [log=FILE] [new[=HOST:PORT]]" }, "inventory.csv: file, sluice, Postfix's maps, log and new side know the same addresses", action_inventory },
    { { "class", ACTION_WRITE, 3, 3, "FILE.csv USERCLASS ADMINCLASS" }, "class.csv: userid,cos by the column admin", action_class },
    { { "class-check", ACTION_CHECK, 2, 12, "FILE.csv CLASS..." }, "everybody listed now has one of these classes in it", action_class_check },
    { { "notice", ACTION_WRITE, 2, 20, "FILE.csv TEMPLATE.txt | FILE.csv SUBJECT [LINE...]" }, "<step>.mbox: the notice for each of them, not sent", action_notice },
    { { "notice-send", ACTION_CHANGE, 4, 22, "FILE.csv SMTP-HOST:PORT FROM TEMPLATE.txt | ... SUBJECT [LINE...]" }, "sends it, to nobody twice", action_notice_send },
    /* who sends */
    { { "baseline", ACTION_WRITE, 0, 0, "" }, "auth-base.csv: signed and applications judge what comes after", action_baseline },
    { { "senders", ACTION_WRITE, 0, 3, "[log=FILE] [known=FILE] [strangers=FILE]" }, "senders.csv, senders.txt (for dns-check --senders), strangers.csv, submitters.csv", action_senders },
    { { "senders-pass", ACTION_CHECK, 0, 1, "[strangers=FILE]" }, "no sender but a stranger would fail under -all", action_senders_pass },
    { { "signed", ACTION_CHECK, 0, 3, "[any] [percent=N] [strangers=FILE]" }, "signed.csv: every source signs and passes SPF; any: one good signature was seen", action_signed },
    { { "signature", ACTION_CHECK, 3, 7, "SMTP-HOST:PORT IMAP-HOST:PORT FILE.csv [authserv=ID] [within=TIME] [TLS]" }, "a message sent through it is signed, and the receiver verifies that", action_signature },
    { { "applications", ACTION_CHECK, 1, 2, "FILE.csv [log=FILE]" }, "applications.csv: each of name,address has sent since the baseline, and passes", action_applications },
    /* servers */
    { { "port", ACTION_CHECK, 2, 2, "HOST:PORT open|refused|smtp|imap" }, "a port is open, is not, or greets", action_port },
    { { "tls", ACTION_CHECK, 1, 4, "HOST:PORT [smtp|imap] [ca=FILE] [at=ADDRESS]" }, "a certificate that is good for the name, 14 days more", action_tls },
    { { "access", ACTION_CHECK, 1, 20, "NAME:PORT... [ca=FILE]" }, "each name resolves, by CNAMEs too, and has a good certificate", action_access },
    { { "web", ACTION_CHECK, 1, 20, "https://NAME/... [says=TEXT] [ca=FILE]" }, "each page answers over HTTPS with a good certificate, and has TEXT in it", action_web },
    { { "autodiscover", ACTION_CHECK, 2, 6, "FILE.csv NEW-HOST:PORT [names=NAME,...] [not=OLD-HOST:PORT] [at=HOST:PORT] [ca=FILE]" }, "Autodiscover, autoconfig or SRV records name the new server, and none the old one", action_autodiscover },
    { { "imap-login", ACTION_CHECK, 2, 4, "HOST:PORT FILE.csv [TLS]" }, "every account of address,password logs in", action_imap_login },
    { { "imap-sizes", ACTION_WRITE, 2, 4, "HOST:PORT FILE.csv [TLS]" }, "<step>.csv: folders, messages, bytes of each", action_imap_sizes },
    { { "counts", ACTION_CHECK, 3, 6, "OLD-HOST:PORT NEW-HOST:PORT FILE.csv [copied=STEP] [TLS]" }, "<step>.csv: no mailbox has fewer messages on the new side, but what came since that step copied it", action_counts },
    { { "backup", ACTION_CHECK, 3, 7, "DIRECTORY HOST:PORT FILE.csv [newer=TIME] [TLS]" }, "<step>.csv: the backup of each mailbox has as many messages as the server, each can be read", action_backup },
    { { "flow", ACTION_CHECK, 3, 7, "SMTP-HOST:PORT IMAP-HOST:PORT FILE.csv [within=TIME] [not-through=NAME] [TLS]" }, "a message arrives in the first mailbox of the file", action_flow },
    { { "catchall", ACTION_CHECK, 1, 6, "HOST:PORT [IMAP-HOST:PORT FILE.csv [within=TIME] [TLS]]" }, "an address that nobody has is refused, or its mail returned to that mailbox", action_catchall },
    /* what sluice knows */
    { { "home", ACTION_CHECK, 2, 9, "old|locked|new WHO..." }, "every one of them has that home", action_home },
    { { "rehearsed", ACTION_CHECK, 0, 1, "[DURATION]" }, "this playbook was rehearsed on this domain, no longer ago than that", action_rehearsed },
    { { "unheld", ACTION_CHECK, 0, 1, "[DURATION]" }, "nothing is on hold on any host, within 1m or so long", action_unheld },
    { { "quiet", ACTION_TIME, 1, 1, "DURATION" }, "nothing was forwarded for so long", action_quiet },
    /* papers */
    { { "histogram", ACTION_WRITE, 1, 2, "MAILLOG [HOURS]" }, "histogram.csv: messages by hour and weekday, and the quietest HOURS (6)", action_histogram },
    { { "contacts", ACTION_WRITE, 1, 1, "MAILLOG" }, "contacts.csv: the most frequent correspondents", action_contacts },
    { { "postconf", ACTION_WRITE, 0, 0, "" }, "postconf.txt: postconf -n, -M and -P", action_postconf },
    { { "plan", ACTION_WRITE, 0, 0, "" }, "plan.html: this playbook as a document to hand round", action_plan },
    { { "report", ACTION_WRITE, 0, 0, "" }, "report.html: every step, time, person, figure so far", action_report },
    { { "document", ACTION_WRITE, 1, 20, "LINE..." }, "<step>.txt, to hand over", action_document },
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

bool action_sends(const struct action *action)
{
    return action->run == action_flow || action->run == action_signature ||
           action->run == action_catchall || action->run == run_ping;
}

const char *action_kind_name(enum action_kind kind)
{
    static const char *const names[] = { "check", "document", "change", "person",
                                         "time" };
    return (size_t)kind < 5 ? names[kind] : "unknown";
}
