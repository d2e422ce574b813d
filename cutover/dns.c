/*
 * sluice dns: the planned records of a domain against those that are live.
 *
 *     sluice dns snapshot|check|diff|apply|wait DOMAIN
 *
 * Here are the arguments, the snapshot, and what the other actions share:
 * dns_check.c, dns_diff.c, dns_apply.c and dns_wait.c. Nothing here needs Redis;
 * check asks it for known senders when it is there.
 *
 * Bugs: DNSSEC signatures are not verified; the servers of the zone are asked
 * themselves, and their resolvers' users see the same only when it is right.
 */
#include "dns.h"

#include <stdint.h>
#include <string.h>
#include <time.h>

#include "output.h"

int dns_task_look(struct dns_task *task, bool resolvers, struct dns_sets *live)
{
    int code = dns_look_ask(&task->look, resolvers);
    if (code == EXIT_DONE)
        return dns_look_live(&task->look, true, live);
    message("%s", task->look.trouble);
    return code;
}

/* What apply is about to write, into snap. false: no memory. */
static bool note_changes(const struct dns_changes *changes, struct dns_snap *snap)
{
    bool ok = true;
    for (size_t i = 0; changes && ok && i < changes->count; i++) {
        const struct dns_set *after = &changes->items[i].after;
        ok = dns_questions_add(&snap->writes, after->name, after->type) &&
             (after->count == 0 || dns_sets_add_set(&snap->written, after));
    }
    return ok;
}

int dns_task_snapshot(struct dns_task *task, const struct dns_sets *live,
                      const struct dns_changes *changes, char name[64])
{
    char error[1024];
    struct dns_snap snap = { .taken = time(NULL),
                             .negative_ttl = dns_look_negative(&task->look),
                             .asked = task->look.questions, /* lent, as the sets */
                             .sets = *live };
    memcpy(snap.zone, task->look.zone, sizeof(snap.zone));
    if (task->back)
        memcpy(snap.back_to, task->back->name, sizeof(snap.back_to));
    bool noted = note_changes(changes, &snap) &&
                 dns_look_made(&task->look, &snap.wild) == EXIT_DONE;
    bool good = noted && dns_snap_write(task->context->conf, task->domain->name, &snap,
                                        error, sizeof(error));
    dns_questions_free(&snap.writes);
    dns_sets_free(&snap.written);
    dns_sets_free(&snap.wild);
    if (good)
        memcpy(name, snap.name, sizeof(snap.name));
    else
        message("the snapshot cannot be kept: %s", noted ? error : "out of memory");
    return good ? EXIT_DONE : EXIT_SERVICE;
}

/* The snapshot that --back goes to; NULL: a message was printed. */
static const struct dns_snap *choose_back(const struct dns_task *task)
{
    const char *name = task->options.snapshot;
    const struct dns_snap *found =
        name ? NULL : dns_snap_last_old(task->snaps, task->snap_count, &task->planned);
    /* One of a way back that was not whole, perhaps: it is gone on with. */
    if (found && found->back_to[0])
        name = found->back_to;
    for (size_t i = 0; name && i < task->snap_count; i++)
        if (strcmp(task->snaps[i].name, name) == 0)
            found = &task->snaps[i];
    if (!found && name)
        message("%s has no snapshot %s: they are in %s/dns/%s, their names without .zone",
                task->domain->name, name, task->context->conf->state_dir,
                task->domain->name);
    else if (!found)
        message("%s has no snapshot with other records than the planned ones: there is "
                "nothing to go back to",
                task->domain->name);
    return found;
}

enum dns_state dns_task_state(const struct dns_task *task, const struct dns_set *planned,
                              size_t server, bool elsewhere)
{
    size_t question = dns_look_question(&task->look, planned->name, planned->type);
    const struct dns_reply *reply = dns_look_reply(&task->look, question, server);
    struct dns_sets scope = { 0 };
    if (reply->outcome == DNS_FAILED)
        return reply->error[0] ? DNS_UNKNOWN : DNS_UNASKED;
    enum dns_state state = DNS_UNKNOWN;
    const struct dns_set *live = dns_look_set(&task->look, question, server);
    if (planned->count == 0 && dns_look_wild(&task->look, question))
        live = NULL; /* of a wildcard: not in the zone */
    if (dns_plan_scope(planned, live, &scope))
        state = dns_plan_state(
            planned, dns_sets_find(&scope, planned->name, planned->type), elsewhere);
    dns_sets_free(&scope);
    return state;
}

bool dns_task_agreed(const struct dns_task *task, size_t *behind)
{
    *behind = SIZE_MAX;
    for (size_t s = 0; s < task->look.server_count; s++)
        for (size_t i = 0; i < task->planned.count; i++)
            if (dns_task_state(task, &task->planned.items[i], s, false) !=
                DNS_AS_PLANNED) {
                *behind = s;
                return false;
            }
    return true;
}

bool dns_task_lowered(const struct dns_task *task)
{
    struct dns_sets live = { 0 };
    struct dns_changes changes = { 0 };
    bool known = dns_look_live(&task->look, true, &live) == EXIT_DONE &&
                 dns_plan_changes(&task->planned, &live, DNS_AIM_TTL, &changes);
    size_t count = changes.count;
    dns_changes_free(&changes);
    dns_sets_free(&live);
    return known && count == 0;
}

doc *dns_task_document(const struct dns_task *task)
{
    doc *document = doc_object();
    doc_text(document, "command", "dns");
    doc_text(document, "action", task->action);
    doc_text(document, "domain", task->domain->name);
    doc_text(document, "zone", task->look.zone);
    return document;
}

static int snapshot(struct dns_task *task)
{
    struct dns_sets live = { 0 };
    char name[64] = "";
    size_t records = 0;
    int code = dns_task_look(task, false, &live);
    if (code == EXIT_DONE && !task->context->dry_run)
        code = dns_task_snapshot(task, &live, NULL, name);
    for (size_t i = 0; i < live.count; i++)
        records += live.items[i].count;
    if (code == EXIT_DONE) {
        const char *directory = task->context->conf->state_dir;
        print("%s: %zu records %s%s/dns/%s/%s%s", task->domain->name, records,
              name[0] ? "kept in " : "would be kept in ", directory, task->domain->name,
              name, name[0] ? ".zone" : "");
        doc *document = dns_task_document(task);
        doc_flag(document, "dry_run", task->context->dry_run);
        doc_text(document, "snapshot", name[0] ? name : NULL);
        doc_number(document, "records", (int64_t)records);
        doc_print(document);
    }
    dns_sets_free(&live);
    return code;
}

static const struct {
    const char *name;
    int (*run)(struct dns_task *task);
} actions[] = {
    { "snapshot", snapshot }, { "check", dns_check }, { "diff", dns_diff },
    { "apply", dns_apply },   { "wait", dns_wait },
};
#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

/* NAME or NAME/TYPE of --only and --except, as in sluice.conf. */
struct part {
    char name[DNSRECORD_NAME_MAX + 1];
    enum dns_type type; /* DNS_TYPES: any */
};

static int take_word(const struct dns_task *task, const char *option, const char *word,
                     struct part *out)
{
    char text[DNSRECORD_NAME_MAX + 2];
    const char *slash = strrchr(word, '/');
    size_t len = slash ? (size_t)(slash - word) : strlen(word);
    const char *wrong = len < sizeof(text) ? NULL : "too long a name";
    if (!wrong) {
        memcpy(text, word, len);
        text[len] = '\0';
        wrong = dns_owner(text, task->domain->name, out->name);
    }
    out->type = DNS_TYPES;
    if (!wrong && slash && !dns_type_parse(slash + 1, &out->type))
        wrong = "after the / there is no type of record";
    if (wrong) {
        message("--%s %s: %s", option, word, wrong);
        return EXIT_USE;
    }
    return EXIT_DONE;
}

static bool is_part(const struct part *part, const struct dns_set *set)
{
    return (part->type == DNS_TYPES || part->type == set->type) &&
           strcmp(part->name, set->name) == 0;
}

/* Which of sets --only or --except name. */
static int find_parts(const struct dns_task *task, const char *option,
                      const struct option_list *list, const struct dns_sets *sets,
                      bool named[DNS_SETS_MAX])
{
    struct part is;
    for (size_t i = 0; i < list->count; i++) {
        int code = take_word(task, option, list->items[i], &is);
        bool known = false;
        for (size_t s = 0; s < sets->count && code == EXIT_DONE; s++)
            if (is_part(&is, &sets->items[s]))
                named[s] = known = true;
        if (code == EXIT_DONE && !known) {
            message(task->back ? "--%s %s: the snapshot of %s knows nothing of it (%s)"
                               : "--%s %s: %s has no such record section in %s",
                    option, list->items[i], task->domain->name,
                    task->back ? task->back->name : task->context->conf->path);
            code = EXIT_DATA;
        }
        if (code != EXIT_DONE)
            return code;
    }
    return EXIT_DONE;
}

/* Leaves the named sets of the plan (only), or all others. */
static int narrow(struct dns_task *task, const bool named[DNS_SETS_MAX], bool only)
{
    struct dns_sets part = { 0 };
    bool good = true;
    for (size_t s = 0; s < task->planned.count && good; s++)
        if (named[s] == only) {
            good = dns_sets_add_set(&part, &task->planned.items[s]);
            if (good)
                part.items[part.count - 1].whole = task->planned.items[s].whole;
        }
    dns_sets_free(&task->planned);
    task->planned = part;
    if (good && part.count > 0)
        return EXIT_DONE;
    message("%s: %s", task->domain->name,
            good ? "nothing of the plan is left" : "out of memory");
    return good ? EXIT_DATA : EXIT_SERVICE;
}

/* diff and apply --back, whose plan stays whole: it tells what sluice wrote. */
static int narrow_back(struct dns_task *task, const struct dns_sets *sets,
                       const bool named[DNS_SETS_MAX], bool only)
{
    bool good = true;
    for (size_t s = 0; s < sets->count && good; s++)
        if (named[s] || only)
            good = dns_questions_add(named[s] && only ? &task->forced : &task->skipped,
                                     sets->items[s].name, sets->items[s].type);
    if (!good)
        message("out of memory");
    return good ? EXIT_DONE : EXIT_SERVICE;
}

/* --only, --except: a part of the plan, or of the snapshot. */
static int take_part(struct dns_task *task, bool waits)
{
    const struct option_list *only = &task->options.only, *except = &task->options.except;
    const struct option_list *list = only->count > 0 ? only : except;
    bool named[DNS_SETS_MAX] = { false };
    struct dns_sets sets = { 0 };
    int code = EXIT_SERVICE;
    if (list->count == 0)
        return EXIT_DONE;
    const char *option = list == only ? "only" : "except";
    if (!task->back || waits) {
        code = find_parts(task, option, list, &task->planned, named);
        return code == EXIT_DONE ? narrow(task, named, list == only) : code;
    }
    if (dns_plan_of_snapshot(&task->back->asked, &task->back->sets, &sets))
        code = find_parts(task, option, list, &sets, named);
    else
        message("out of memory");
    if (code == EXIT_DONE)
        code = narrow_back(task, &sets, named, list == only);
    dns_sets_free(&sets);
    return code;
}

/* --back: wait has the snapshot as its plan. */
static int take_back(struct dns_task *task, bool waits)
{
    if (!task->options.back)
        return EXIT_DONE;
    if (!(task->back = choose_back(task)))
        return EXIT_DATA;
    if (!waits)
        return EXIT_DONE;
    dns_sets_free(&task->planned);
    if (dns_plan_of_snapshot(&task->back->asked, &task->back->sets, &task->planned))
        return EXIT_DONE;
    message("out of memory");
    return EXIT_SERVICE;
}

/* --back: all that the snapshot knows of is asked, too. */
static int ask_for_back(struct dns_task *task)
{
    bool ok = true;
    const struct dns_questions *asked = &task->back->asked;
    for (size_t i = 0; ok && i < asked->count; i++)
        ok = dns_questions_add(&task->look.questions, asked->items[i].name,
                               asked->items[i].type);
    if (!ok)
        message("out of memory");
    return ok ? EXIT_DONE : EXIT_SERVICE;
}

static int run(struct dns_task *task, int (*action)(struct dns_task *))
{
    char error[1024];
    int code = EXIT_SERVICE;
    command_catch_signals();
    if (!dns_plan_sets(task->domain, &task->planned)) {
        message("out of memory");
    } else if (task->planned.count == 0 && action != snapshot) {
        message("%s has no record sections in %s: nothing is planned", task->domain->name,
                task->context->conf->path);
        code = EXIT_DATA;
    } else if (!dns_snap_read(task->context->conf, task->domain->name, &task->snaps,
                              &task->snap_count, error, sizeof(error))) {
        message("%s", error);
    } else {
        bool waits = action == dns_wait;
        code = take_back(task, waits);
        if (code == EXIT_DONE)
            code = take_part(task, waits);
        if (code == EXIT_DONE)
            code = dns_look_open(&task->look, task->context->conf, task->domain);
        if (code == EXIT_DONE && task->back)
            code = ask_for_back(task);
        if (code == EXIT_DONE)
            code = action(task);
        dns_look_close(&task->look);
    }
    dns_snap_free_all(task->snaps, task->snap_count);
    dns_sets_free(&task->planned);
    dns_questions_free(&task->forced);
    dns_questions_free(&task->skipped);
    return code;
}

static bool usable(const struct dns_options *options, const char *action)
{
    bool changes = strcmp(action, "diff") == 0 || strcmp(action, "apply") == 0;
    bool waits = strcmp(action, "wait") == 0;
    if ((options->back || options->snapshot) && !changes && !waits)
        message("--back and --snapshot are for diff, apply and wait");
    else if (options->yes && strcmp(action, "apply") != 0)
        message("--yes is for apply");
    else if (options->try_only &&
             (strcmp(action, "apply") != 0 || options->back || options->lower_ttl))
        message("--try is for apply, without --back and --lower-ttl");
    else if (options->format && strcmp(action, "diff") != 0)
        message("--format is for diff");
    else if (options->senders && strcmp(action, "check") != 0)
        message("--senders is for check");
    else if (options->timeout && strcmp(action, "apply") != 0 && !waits)
        message("--timeout is for apply and wait");
    else if (options->lower_ttl && !changes && !waits)
        message("--lower-ttl is for diff, apply and wait");
    else if ((options->rules || options->rule.count > 0) && strcmp(action, "check") != 0)
        message("--rules and --rule are for check");
    else if (options->only.count > 0 && options->except.count > 0)
        message("--only or --except, not both");
    else if (options->back && options->lower_ttl)
        message("--back or --lower-ttl, not both");
    else if (options->snapshot && !options->back)
        message("--snapshot goes with --back");
    else if (options->format && strcmp(options->format, "table") != 0 &&
             strcmp(options->format, "zone") != 0 &&
             strcmp(options->format, "nsupdate") != 0)
        message("--format %s: it is table, zone or nsupdate", options->format);
    else
        return true;
    return false;
}

int command_dns(struct command_context *context, int argc, char **argv)
{
    struct dns_task task = { .context = context };
    struct dns_options *options = &task.options;
    const struct option_spec specs[] = {
        { "back", OPTION_FLAG, &options->back },
        { "lower-ttl", OPTION_FLAG, &options->lower_ttl },
        { "yes", OPTION_FLAG, &options->yes },
        { "try", OPTION_FLAG, &options->try_only },
        { "snapshot", OPTION_TEXT, &options->snapshot },
        { "format", OPTION_TEXT, &options->format },
        { "senders", OPTION_TEXT, &options->senders },
        { "timeout", OPTION_DURATION, &options->timeout },
        { "rules", OPTION_FLAG, &options->rules },
        { "rule", OPTION_LIST, &options->rule },
        { "only", OPTION_LIST, &options->only },
        { "except", OPTION_LIST, &options->except },
    };
    if (!options_parse(specs, sizeof(specs) / sizeof(specs[0]), &argc, argv))
        return EXIT_USE;
    size_t action = 0;
    while (argc == 3 && action < ACTIONS && strcmp(actions[action].name, argv[1]) != 0)
        action++;
    if (argc != 3 || action == ACTIONS) {
        message("write: sluice dns snapshot|check|diff|apply|wait DOMAIN");
        return EXIT_USE;
    }
    task.action = actions[action].name;
    if (!usable(options, task.action))
        return EXIT_USE;
    char canonical[ADDR_DOMAIN_MAX + 1];
    task.domain = addr_domain(argv[2], strlen(argv[2]), canonical)
                      ? conf_managed(context->conf, canonical)
                      : NULL;
    if (!task.domain || strcmp(task.domain->name, canonical) != 0) {
        message("%s is not a domain of %s", argv[2], context->conf->path);
        return EXIT_DATA;
    }
    return run(&task, actions[action].run);
}
