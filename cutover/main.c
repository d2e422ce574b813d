/*
 * sluice: the command line.
 *
 *     sluice [-c FILE] [--json] COMMAND [OPTIONS] [ARGUMENTS]
 *
 * Here is the table of commands, the options that all of them take (before or
 * after the command's name), and --help, which prints what the table says. The
 * configuration is read and the store made (not connected) before a command
 * runs, unless its words need neither; what it returns is the exit code, see command.h.
 *
 * SIGPIPE is ignored: "sluice held | head" ends by the failed write, and a
 * connection that Redis closes is an error of that call and not our end.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "config.h"
#include "log.h"
#include "output.h"

/* clang-format off */
#define TARGETS_HELP                                                                       \
    "  ADDRESS   a mailbox\n"                                                              \
    "  DOMAIN    its listed mailboxes and the domain's own record\n"                       \
    "  @FILE     one address or domain per line (@-: standard input)\n"

#define TIMEOUT_HELP                                                                       \
    "  --timeout DURATION    stop waiting after so long (90s, 10m, 1h; default 10m)\n"
#define WITHOUT_HELP                                                                       \
    "  --without-host NAME   do without this MTA host's confirmation; may be repeated.\n"  \
    "                        Only for a host that delivers no more: what it delivers\n"    \
    "                        during the sync is lost to the new side\n"

static const struct command commands[] = {
    { "init", "[--remove-host NAME [--force]]",
      "register the configured domains in Redis, home old",
      "  --remove-host NAME    forget an MTA host that was taken out of service\n"
      "  --force               also one that still has held mail, which stays on hold there\n",
      true, command_init },
    { "import", "FILE.csv", "add mailboxes, or change their new and copy addresses",
      "FILE.csv (\"-\": standard input) has a header row with \"address\" or \"email\", and\n"
      "where wanted \"new_address\" and \"copy\". Other columns are not read. A new mailbox\n"
      "takes its domain's present home; importing again changes no home.\n"
      "With one bad row nothing is imported.\n",
      true, command_import },
    { "status", "[--watch [SECONDS]] [ADDRESS|DOMAIN...]",
      "homes, held mail, floaters, hosts, alarms",
      "  --watch [SECONDS]     show it again every 2 (or SECONDS) seconds, until Ctrl-C\n",
      false, command_status },
    { "lock", "ADDRESS|DOMAIN|@FILE...",
      "old -> locked: hold all mail, return when no MTA can deliver any more",
      TARGETS_HELP TIMEOUT_HELP WITHOUT_HELP
      "Exit 0: nothing is delivered into these mailboxes until flip or unlock.\n"
      "Interrupted or incomplete (exit 75): run the same command again.\n",
      true, command_lock },
    { "flip", "ADDRESS|DOMAIN|@FILE...",
      "locked -> new: the mailboxes live on the new side, held mail goes there",
      TARGETS_HELP WITHOUT_HELP
      "  --force               also where the lock is not complete on every host\n",
      true, command_flip },
    { "unlock", "ADDRESS|DOMAIN|@FILE...",
      "locked -> old: give the move up, held mail is delivered on the old side",
      TARGETS_HELP WITHOUT_HELP
      "  --force               also where a rollback's lock is not complete\n",
      true, command_unlock },
    { "rollback", "ADDRESS|DOMAIN|@FILE...",
      "new -> locked -> old: back to the old side, with what arrived meanwhile",
      TARGETS_HELP TIMEOUT_HELP WITHOUT_HELP
      "  --no-sync             do not run sync reverse-command, unlock at once\n"
      "  --keep-locked         end with the mailboxes locked; the same command without\n"
      "                        it goes on, flip gives the rollback up\n"
      "Lists the mail that arrived on the new side since the flip. With sync\n"
      "reverse-command (sluice.conf) each mailbox is copied back and unlocked; without\n"
      "it they stay locked until you have copied and run: sluice unlock\n",
      true, command_rollback },
    { "held", "[release ID...]", "what is held where, for whom, since when",
      "  release ID...         release these, which were held because of a loop or DMARC\n",
      true, command_held },
    { "cutover", "ADDRESS|DOMAIN|@FILE...",
      "move mailboxes of a domain: lock, sync, flip, release, verify",
      TARGETS_HELP
      "  --batch N             mailboxes locked at a time (default: as many as are synced\n"
      "                        while the MTA hosts confirm the next ones)\n"
      "  --jobs N              syncs at a time (default: sync jobs of sluice.conf)\n"
      "  --no-probe            do not ask the new server for each mailbox first\n"
      "  --give-up DURATION    how long to wait for Redis, for the MTA hosts to confirm\n"
      "                        a lock (the fence), for held mail to leave (10m)\n"
      WITHOUT_HELP
      "Interrupted, or killed: run the same command again.\n",
      true, command_cutover },
    { "audit", "[OPTIONS] LOG...",
      "the ledger: every message that was accepted, and its one fate",
      "  LOG                   mail logs of all MTA hosts, old and new, with their rotated\n"
      "                        and compressed ones; -: standard input\n"
      "  --since T, --until T  messages accepted then: 2026-11-22, \"2026-11-22 09:00\", or\n"
      "                        3d, so long ago\n"
      "  --mailbox ADDRESS     this one alone; may be repeated\n"
      "  --domain DOMAIN       this one alone\n"
      "  --format FORMAT       text, json, csv (every message) or html\n"
      "  --all                 every message in text, json and html too\n"
      "  --journal FILE        homes and lock times (default: this host's own)\n"
      "  --side HOST=old|new   of a host in the log that is not registered by its name\n"
      "Exit 0: all have one known fate. 1: the first line says what has none.\n",
      false, command_audit },
    { "auth", "report DOMAIN [--csv] | reset DOMAIN",
      "who sends as a domain, and would fail SPF under -all",
      "  report DOMAIN         each sending host: messages, SPF, DKIM, DMARC\n"
      "  --csv                 the report for a spreadsheet\n"
      "  reset DOMAIN          forget the figures, to look anew after a repair\n"
      "The figures come from sluice-milter, on hosts with an auth section.\n",
      true, command_auth },
    { "playbook", "list|show|start|run|ack|status|rollback|report|actions ...",
      "the whole migration, step by step",
      "  list                              the playbooks, and the runs\n"
      "  show NAME [--variant NAME] [--format markdown|html]\n"
      "                                    the plan, to hand round\n"
      "  start NAME DOMAIN [--variant NAME] [--set NAME=VALUE]... [--rehearse WHO]\n"
      "        [--replace]                 WHO: an address or @FILE, the pilot group\n"
      "  run DOMAIN [--to STEP] [--wait] [--window DURATION] [--new-file]\n"
      "                                    until it needs a person (or time), or as far\n"
      "                                    as to before STEP; --new-file: take the\n"
      "                                    playbook's file as it is now\n"
      "  ack DOMAIN STEP --by NAME [--note TEXT]  a person has done it\n"
      "  status DOMAIN [--watch [N]]       done, running, waiting; the change window\n"
      "  rollback DOMAIN [--to STEP]       undo, back to before that step\n"
      "  report DOMAIN [--format markdown|html]  every step, time, person\n"
      "  actions                           what a step can do\n"
      "Interrupted, or killed: run the same command again. --dry-run with run: every\n"
      "check, and no action.\n",
      true, command_playbook },
    { "dns", "snapshot|check|diff|apply|wait DOMAIN",
      "live DNS records against the planned ones, and the way there and back",
      "  snapshot DOMAIN       keep what is live, with its TTLs, before anything is touched\n"
      "  check DOMAIN          every authoritative server and resolver, and the rules\n"
      "  diff DOMAIN           what would change: table, zone-file lines, nsupdate batch\n"
      "  apply DOMAIN          snapshot, send the changes (RFC 2136), check them\n"
      "  wait DOMAIN           until the old records are out of every cache\n"
      "  --back                diff, apply, wait: the way back to a snapshot\n"
      "  --snapshot NAME       ... to this one (default: the last with the old records)\n"
      "  --lower-ttl           diff, apply, wait: only bring the old records' TTL down\n"
      "  --only, --except NAME this part of the plan, as \"@\" or \"@/MX\"; may be repeated\n"
      "  --format FORMAT       diff: table, zone or nsupdate alone\n"
      "  --rules               check: before the change, the rules alone\n"
      "  --rule NAME           check: of the rules this alone (\"spf\": all of SPF); may be repeated\n"
      "  --senders FILE        check: addresses that send as the domain, one on each line,\n"
      "                        besides those of sluice auth report\n"
      "  --yes                 apply: do not ask\n"
      "  --timeout DURATION    apply: for the servers to agree (1m); wait: in all\n"
      "The planned records are the record sections of sluice.conf. Interrupted, or exit\n"
      "75: run the same command again, it is safe.\n",
      true, command_dns },
    { "ping", "[NAME...]", "a probe through SMTP, found again over IMAP, timed",
      "  NAME                  a ping section of sluice.conf (default: all of them)\n"
      "  --every DURATION      go on, a line for each probe, until Ctrl-C\n"
      "  --timeout DURATION    end after so long, whatever the sections say\n"
      "Exit, as plugins do: 0 all arrived, 1 slow, twice or in another folder, 2 not\n"
      "arrived or a server refuses, 3 could not look.\n",
      false, command_ping },
    { "monitor", "[OPTIONS] [LOG...]",
      "who still sends to the old server, from the MTA's log; a Nagios plugin",
      "  LOG                   the MTA's log with its rotated and compressed files; several\n"
      "                        hosts' at once; -: standard input, also journalctl -o json\n"
      "                        (default: /var/log/mail.log or /var/log/maillog)\n"
      "  --quiet-for DURATION  so long nothing may have been forwarded (72h)\n"
      "  --failing-after DURATION  so long a forward may be put off (30m)\n"
      "  --without-dmarc-failures  do not count what DMARC fails (auth section)\n"
      "  --probe-to ADDRESS    a mailbox of probes, besides those of the ping sections;\n"
      "                        may be repeated\n"
      "  --follow              go on, and show each forward as it happens\n"
      "  --format FORMAT       text, json or html\n"
      "  --checkpoint FILE     where to go on the next time (default: in state-dir)\n"
      "  --no-checkpoint       read all of the log, keep nothing\n"
      "  --no-publish          do not tell the status page (with --no-checkpoint neither)\n"
      "  --without-rotated     these files alone, not mail.log.1 and older\n"
      "Exit 0: quiet long enough. 1: still forwarding. 2: forwards fail. 3: not known.\n",
      false, command_monitor },
    { "doctor", "", "check everything that must be wired", "", false, command_doctor },
    { "recover", "[--from FILE] [--force]", "rebuild Redis from this host's journal",
      "  --from FILE           another journal than this host's own\n"
      "  --force               also over a history that this journal does not contain\n",
      true, command_recover },
};
/* clang-format on */
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

struct shared {
    const char *conf_path;
    bool json, dry_run, help, version;
};

static void print_usage(FILE *to)
{
    fputs("usage: sluice [-c FILE] [--json] COMMAND [OPTIONS] [ARGUMENTS]\n\n", to);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs(
        "\nEverywhere:\n"
        "  -c FILE     configuration (default " CONF_DEFAULT_PATH ")\n"
        "  --json      one document on standard output\n"
        "  --dry-run   say what would change, change nothing\n"
        "  --help      with a command: its options\n"
        "  --version\n"
        "\nExit: 0 done, 1 a check failed or some were refused, 64 usage, 65 bad input,\n"
        "69 a service is missing, 75 not complete (safe to repeat), 78 configuration.\n",
        to);
}

static void print_help(const struct command *command)
{
    printf("usage: sluice %s%s%s\n\n%s.\n", command->name,
           command->arguments[0] ? " " : "", command->arguments, command->summary);
    if (command->help[0])
        printf("\n%s", command->help);
    printf("\n  -c FILE, --json%s: see sluice --help\n",
           command->changes ? ", --dry-run" : "");
}

/* Takes -c, --json, --dry-run, --help and --version out of argv, up to "--".
 * false: -c without a file. */
static bool take_shared(int *argc, char **argv, struct shared *shared)
{
    int kept = 1, i = 1;
    for (; i < *argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--json") == 0)
            shared->json = true;
        else if (strcmp(argv[i], "--dry-run") == 0)
            shared->dry_run = true;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            shared->help = true;
        else if (strcmp(argv[i], "--version") == 0)
            shared->version = true;
        else if (strcmp(argv[i], "-c") == 0) {
            if (i + 1 >= *argc)
                return false;
            shared->conf_path = argv[++i];
        } else
            argv[kept++] = argv[i];
    }
    while (i < *argc)
        argv[kept++] = argv[i++];
    *argc = kept;
    argv[kept] = NULL;
    return true;
}

/* Levenshtein distance, for names up to 31 characters. */
static size_t distance(const char *a, const char *b)
{
    size_t row[32], len = strlen(b);
    if (len > 31)
        return len;
    for (size_t j = 0; j <= len; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= len; j++) {
            size_t best = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[len];
}

static const struct command *find_command(const char *name)
{
    const struct command *nearest = NULL;
    size_t least = 3; /* further away than that is no mistyping */
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
        bool begun =
            strlen(name) > 1 && strncmp(commands[i].name, name, strlen(name)) == 0;
        size_t far = begun ? 0 : distance(name, commands[i].name);
        if (far < least && far < strlen(name)) {
            least = far;
            nearest = &commands[i];
        }
    }
    if (nearest)
        message("no command \"%s\"; did you mean \"%s\"? (sluice --help lists all)", name,
                nearest->name);
    else
        message("no command \"%s\" (sluice --help lists them)", name);
    return NULL;
}

/* Configuration, store, run. */
static int run_command(const struct command *command, const struct shared *shared,
                       int argc, char **argv)
{
    char error[1024], journal[4096];
    struct command_context context = {
        .command = command->name,
        .conf_path = shared->conf_path,
        .json = shared->json,
        .dry_run = shared->dry_run,
    };
    if (command->run == command_playbook && command_playbook_alone(argc, argv))
        return command->run(&context, argc, argv);
    context.conf = conf_load(shared->conf_path, error, sizeof(error));
    if (!context.conf) {
        message("%s", error);
        return EXIT_CONFIGURATION;
    }
    conf_journal_path(context.conf, journal, sizeof(journal));
    context.head = journal_reader_new(journal);
    if (!context.head) {
        message("out of memory");
        conf_unref(context.conf);
        return EXIT_SERVICE;
    }
    context.store = store_redis_new(context.conf, context.head);
    int code = command->run(&context, argc, argv);
    store_free(context.store);
    journal_reader_free(context.head);
    conf_unref(context.conf);
    return code;
}

static int dispatch(struct shared *shared, int argc, char **argv)
{
    if (shared->version) {
        puts("sluice " PACKAGE_VERSION);
        return EXIT_DONE;
    }
    if (argc > 1 && strcmp(argv[1], "help") == 0) {
        shared->help = true;
        argv++;
        argc--;
    }
    if (argc < 2) {
        if (shared->help) {
            print_usage(stdout);
            return EXIT_DONE;
        }
        print_usage(stderr);
        message("no command given");
        return EXIT_USE;
    }
    const struct command *command = find_command(argv[1]);
    if (!command)
        return EXIT_USE;
    if (shared->help) {
        print_help(command);
        return EXIT_DONE;
    }
    out_open(command->name, shared->json);
    if (shared->dry_run && !command->changes) {
        message("--dry-run: this command changes nothing anyway");
        return EXIT_USE;
    }
    return run_command(command, shared, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    struct shared shared = { .conf_path = CONF_DEFAULT_PATH };
    signal(SIGPIPE, SIG_IGN);
    log_open("sluice", LOG_TO_STDERR);
    if (!take_shared(&argc, argv, &shared)) {
        message("-c wants a file");
        return EXIT_USE;
    }
    out_open(NULL, shared.json);
    if (shared.version || shared.help)
        out_open(NULL, false);
    return out_finish(dispatch(&shared, argc, argv));
}
