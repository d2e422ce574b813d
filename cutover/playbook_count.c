/*
 * playbook_count: sizes and counts of mailboxes by IMAP: on one side for a document
 * (imap-sizes), on both to compare (counts).
 *
 * With copied=STEP what came to the old side since that step's copy of the mailbox began
 * (each_journal(); INTERNALDATE, by the server's clock, to the second) may be missing on
 * the new one: a busy domain is never still while it is counted. A mailbox that is not in
 * that journal has no such allowance.
 *
 * A mailbox has SIZE_S on each side. After BAD_MAX failures the server or the file is
 * at fault, and the rest is left.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "playbook_each.h"
#include "playbook_mail.h"

#define SIZE_S  300
#define BAD_MAX 20
#define FIGURE  24

struct counting {
    struct mail_place one, other; /* other: counts */
    struct table *began;          /* copied=: address -> unix s; NULL: no such word */
    FILE *out;
    size_t good, bad, fewer;
    size_t since; /* that have fewer by what came since their copy alone */
    struct mail_figures all;
    uint64_t missing;
    struct pace pace;
};

/* ---- one mailbox --------------------------------------------------------- */

struct folders {
    char **names;
    size_t count, room;
    bool no_memory;
};

static bool take_folder(void *context, const char *folder)
{
    struct folders *folders = context;
    if (folders->count == folders->room) {
        size_t room = folders->room ? folders->room * 2 : 64;
        char **names = reallocarray(folders->names, room, sizeof(*names));
        if (!names)
            return !(folders->no_memory = true);
        folders->names = names;
        folders->room = room;
    }
    folders->names[folders->count] = strdup(folder);
    folders->no_memory = !folders->names[folders->count];
    folders->count += !folders->no_memory;
    return !folders->no_memory;
}

/* What is wanted of each folder: added to what is in *out. */
typedef enum mail_result folder_fn(struct mail_imap *imap, struct mail_call *call,
                                   const char *folder, void *out);

static enum mail_result size_of_folder(struct mail_imap *imap, struct mail_call *call,
                                       const char *folder, void *out)
{
    struct mail_figures *figures = out;
    uint64_t messages = 0, bytes = 0;
    enum mail_result result = mail_imap_size(imap, call, folder, &messages, &bytes);
    figures->folders++;
    figures->messages += messages;
    figures->bytes += bytes;
    return result;
}

struct since {
    int64_t since;
    uint64_t count;
};

static enum mail_result late_in_folder(struct mail_imap *imap, struct mail_call *call,
                                       const char *folder, void *out)
{
    struct since *late = out;
    uint64_t count = 0;
    enum mail_result result = mail_imap_select(imap, call, folder, true, NULL);
    if (result == MAIL_DONE)
        result = mail_imap_came_since(imap, call, late->since, &count);
    late->count += count;
    return result;
}

/* Logs in and asks for each folder. false: a message was printed. */
static bool each_folder(const struct mail_place *place, const struct person *person,
                        folder_fn *each, void *out)
{
    struct folders folders = { 0 };
    struct mail_imap *imap = mail_log_in(place, person);
    struct mail_call call = mail_call_for(SIZE_S);
    enum mail_result result =
        imap ? mail_imap_folders(imap, &call, take_folder, &folders) : MAIL_LOGIN;
    for (size_t i = 0; i < folders.count && result == MAIL_DONE; i++)
        result = each(imap, &call, folders.names[i], out);
    if (folders.no_memory)
        (void)snprintf(call.error, sizeof(call.error), "out of memory");
    bool good = result == MAIL_DONE && !folders.no_memory;
    if (imap && !good)
        message("%s: %s", person->address, call.error);
    for (size_t i = 0; i < folders.count; i++)
        free(folders.names[i]);
    free(folders.names);
    mail_imap_close(imap);
    return good;
}

bool mail_count(const struct mail_place *place, const struct person *person,
                struct mail_figures *out)
{
    *out = (struct mail_figures){ 0 };
    return each_folder(place, person, size_of_folder, out);
}

bool mail_count_since(const struct mail_place *place, const struct person *person,
                      int64_t since, uint64_t *out)
{
    struct since late = { .since = since };
    bool good = each_folder(place, person, late_in_folder, &late);
    *out = late.count;
    return good;
}

static void add_cells(const struct mail_figures *figures, char texts[3][FIGURE],
                      const char *cells[3])
{
    const uint64_t all[] = { figures->folders, figures->messages, figures->bytes };
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(texts[i], FIGURE, "%" PRIu64, all[i]);
        cells[i] = texts[i];
    }
}

static bool goes_on(struct counting *it)
{
    if (pace_due(&it->pace))
        notice("%zu mailboxes counted, %" PRIu64 " MB so far", it->good,
               it->all.bytes / 1000000);
    return it->bad < BAD_MAX && !command_stopped();
}

static int judge(const struct counting *it, const char *endpoint)
{
    if (command_stopped()) {
        message("stopped after %zu mailboxes", it->good + it->bad);
        return EXIT_AGAIN;
    }
    if (it->bad <= 1) /* what is wrong with one was said already */
        return it->bad == 0 ? EXIT_DONE : EXIT_CHECK;
    message("%s: %zu mailboxes cannot be counted (the step's log names each)%s", endpoint,
            it->bad, it->bad == BAD_MAX ? "; the others were not tried" : "");
    return EXIT_CHECK;
}

/* ---- one side ------------------------------------------------------------ */

static bool size_one(void *context, const struct person *person)
{
    struct counting *it = context;
    struct mail_figures figures;
    char texts[3][FIGURE];
    const char *cells[4] = { person->address };
    bool good = mail_count(&it->one, person, &figures);
    it->good += good;
    it->bad += !good;
    if (good) {
        add_cells(&figures, texts, cells + 1);
        paper_row(it->out, cells, 4);
        it->all.messages += figures.messages;
        it->all.bytes += figures.bytes;
    }
    return goes_on(it);
}

/* Opens <step>.csv and walks the accounts. */
static int count_all(struct action_context *context, struct counting *it,
                     const char *accounts, people_fn *each, const char *const *header,
                     size_t columns, char name[200])
{
    (void)snprintf(name, 200, "%.150s.csv", context->step);
    it->out = mail_ready() ? paper_open(context, name) : NULL;
    if (!it->out)
        return EXIT_SERVICE;
    command_catch_signals();
    paper_row(it->out, header, columns);
    int code = people_each(accounts, true, each, it);
    int closed = paper_close(context, it->out, name, code == EXIT_DONE);
    return code != EXIT_DONE ? code : closed;
}

int action_imap_sizes(struct action_context *context, int argc, char **argv)
{
    static const char *const header[] = { "address", "folders", "messages", "bytes" };
    struct counting it = { 0 };
    struct mail_words words = { 0 };
    char name[200];
    if (!mail_words_take(argc, argv, 3, &words) ||
        !mail_place(argv[1], &words, true, &it.one))
        return EXIT_USE;
    int code = count_all(context, &it, argv[2], size_one, header, 4, name);
    if (code == EXIT_DONE)
        code = judge(&it, argv[1]);
    if (code == EXIT_DONE)
        print("%zu mailboxes, %" PRIu64 " messages, %" PRIu64 " MB: %s", it.good,
              it.all.messages, it.all.bytes / 1000000, name);
    return code;
}

/* ---- both sides ---------------------------------------------------------- */

/* What came to the old side since the mailbox was copied; *known: its copy is in the
 * journal. false: a message was printed. */
static bool count_late(const struct counting *it, const struct person *person,
                       bool *known, uint64_t *late)
{
    char address[ADDR_TEXT_MAX + 1];
    people_canonical(person->address, address);
    const char *began =
        it->began ? table_get(it->began, address, strlen(address), NULL) : NULL;
    *late = 0;
    *known = began != NULL;
    return !began || mail_count_since(&it->one, person, strtoll(began, NULL, 10), late);
}

/* One that has fewer on the new side. NULL: the servers cannot say. */
static const char *judge_fewer(struct counting *it, const struct person *person,
                               const struct mail_figures *old,
                               const struct mail_figures *new, char cell[FIGURE])
{
    uint64_t missing = old->messages - new->messages, late;
    char since[80] = "";
    bool known;
    if (!count_late(it, person, &known, &late))
        return NULL;
    if (known) {
        (void)snprintf(cell, FIGURE, "%" PRIu64, late);
        (void)snprintf(since, sizeof(since), ", of which %" PRIu64 " came since its copy",
                       late);
    } else if (it->began) {
        (void)snprintf(since, sizeof(since), "; no copy of it has ended well");
    }
    if (known && missing <= late) {
        it->since++;
        return "came since the copy";
    }
    it->fewer++;
    it->missing += missing;
    message("%s: %" PRIu64 " messages on the old side%s, %" PRIu64 " on the new",
            person->address, old->messages, since, new->messages);
    return "fewer on the new side";
}

static bool compare_one(void *context, const struct person *person)
{
    struct counting *it = context;
    struct mail_figures old, new;
    struct person there = *person;
    char texts[6][FIGURE], late[FIGURE] = "";
    const char *cells[9] = { person->address }, *password;
    password = people_cell(person, "new-password");
    if (password && password[0])
        there.password = password;
    bool good =
        mail_count(&it->one, person, &old) && mail_count(&it->other, &there, &new);
    cells[8] = good && old.messages > new.messages
                   ? judge_fewer(it, person, &old, &new, late)
                   : "";
    good = good && cells[8];
    it->good += good;
    it->bad += !good;
    if (good) {
        add_cells(&old, texts, cells + 1);
        add_cells(&new, texts + 3, cells + 4);
        cells[7] = late;
        paper_row(it->out, cells, 9);
        it->all.messages += old.messages;
        it->all.bytes += old.bytes;
    }
    return goes_on(it);
}

static int say_fewer(const struct action_context *context, const struct counting *it,
                     const char *copied, const char *name)
{
    message(
        "%zu of %zu mailboxes have fewer messages on the new side (%" PRIu64
        " in all), %s has each: copy them again: sluice playbook rollback %s --to %s, "
        "and then run%s",
        it->fewer, it->good, it->missing, name, context->domain, copied ? copied : "STEP",
        copied ? "" : " (STEP: the one that copies)");
    return EXIT_CHECK;
}

static void say_good(const struct counting *it, const char *copied, const char *name)
{
    if (it->since > 0)
        print(
            "%zu mailboxes with %" PRIu64
            " messages, none lacks one on the new side but what came since %s: %zu have "
            "such ones: %s",
            it->good, it->all.messages, copied, it->since, name);
    else
        print("%zu mailboxes with %" PRIu64
              " messages, none has fewer on the new side: %s",
              it->good, it->all.messages, name);
}

static int compare_all(struct action_context *context, struct counting *it, char **argv,
                       const char *copied)
{
    static const char *const header[] = { "address",   "old folders", "old messages",
                                          "old bytes", "new folders", "new messages",
                                          "new bytes", "came since",  "what" };
    char name[200];
    int code = copied ? each_journal(context, copied, it->began) : EXIT_DONE;
    if (code == EXIT_DONE)
        code = count_all(context, it, argv[3], compare_one, header, 9, name);
    if (code == EXIT_DONE)
        code = judge(it, argv[2]);
    if (code == EXIT_DONE && it->fewer > 0)
        code = say_fewer(context, it, copied, name);
    else if (code == EXIT_DONE)
        say_good(it, copied, name);
    return code;
}

int action_counts(struct action_context *context, int argc, char **argv)
{
    struct counting it = { 0 };
    struct mail_words mail = { 0 };
    const char *copied = NULL;
    const struct word_spec words[] = { { "tls", &mail.tls },
                                       { "starttls", &mail.starttls },
                                       { "plain", &mail.plain },
                                       { "ca=", &mail.ca },
                                       { "copied=", &copied } };
    if (!words_take(argc, argv, 4, words, 5) ||
        !mail_place(argv[1], &mail, true, &it.one) ||
        !mail_place(argv[2], &mail, true, &it.other))
        return EXIT_USE;
    it.began = copied ? table_new() : NULL;
    if (copied && !it.began) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    int code = compare_all(context, &it, argv, copied);
    if (it.began)
        table_free(it.began);
    return code;
}
