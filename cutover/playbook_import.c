/*
 * playbook_import: sluice import as a step that can be undone.
 *
 * Before the first try the addresses (columns new_address and copy, as far as the file
 * has them) that its mailboxes have until then are kept in DIRECTORY/STEP.before.csv,
 * with the run that it is of; import-back, the undo, imports that file, and removes it.
 * A mailbox that the import has added stays, without those addresses: it follows its
 * domain as before.
 *
 * Limits: every row is of the run's domain; a repeated try keeps what the first one kept.
 * A file of another run is as good as none; of a damaged one nobody knows what it was of,
 * and neither way goes on with it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "addr.h"
#include "homes.h"
#include "names.h"
#include "output.h"
#include "playbook_claim.h"
#include "playbook_people.h"

#define RUN_LEN 32

struct before {
    const struct action_context *context;
    const struct conf_domain *domain;
    size_t address, new_address, copy; /* columns; SIZE_MAX: not in the file */
    struct names *names;               /* local parts */
    FILE *paper;
    char run[RUN_LEN];
};

/* A column by its name as sluice import takes it: without blanks around it. */
static size_t column(const struct people_row *row, const char *name)
{
    for (size_t i = 0; i < row->count; i++) {
        const char *text = row->columns[i] + strspn(row->columns[i], " \t");
        size_t len = strcspn(text, " \t");
        if (len == strlen(name) && strncasecmp(text, name, len) == 0)
            return i;
    }
    return SIZE_MAX;
}

static const char *take_row(void *context, const struct people_row *row)
{
    struct before *before = context;
    struct addr parsed;
    size_t index;
    if (row->line == 1) {
        before->address = column(row, "address");
        if (before->address == SIZE_MAX)
            before->address = column(row, "email");
        before->new_address = column(row, "new_address");
        before->copy = column(row, "copy");
        return before->address == SIZE_MAX ? "no column address or email" : NULL;
    }
    const char *text = row->cells[before->address];
    text += strspn(text, " \t");
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        len--;
    if (addr_parse(text, len, &parsed) != ADDR_OK)
        return "not an address";
    if (conf_managed(before->context->command->conf, parsed.domain) != before->domain)
        return "an address of another domain";
    return names_add(before->names, parsed.local, &index) == NAMES_FAILED
               ? "out of memory"
               : NULL;
}

/* The columns of one row, NULL cells where the file does not have them. */
static void put_row(const struct before *before, const char *address,
                    const char *new_address, const char *copy, const char *run)
{
    const char *cells[4];
    size_t n = 0;
    cells[n++] = address;
    if (before->new_address != SIZE_MAX)
        cells[n++] = new_address;
    if (before->copy != SIZE_MAX)
        cells[n++] = copy;
    cells[n++] = run;
    paper_row(before->paper, cells, n);
}

static bool put_home(void *context, size_t index, const struct home *home)
{
    const struct before *before = context;
    char address[ADDR_TEXT_MAX + 1];
    addr_format(names_list(before->names)[index], before->domain->name, address);
    put_row(before, address, home->listed ? home->new_address : "",
            home->listed ? home->copy : "", before->run);
    return true;
}

static const char *name_of(const struct action_context *context, char out[200])
{
    (void)snprintf(out, 200, "%.150s.before.csv", context->step);
    return out;
}

/* ---- whether it is there already ------------------------------------------- */

struct noted {
    char run[RUN_LEN], first[RUN_LEN];
    size_t column;
};

static const char *take_noted(void *context, const struct people_row *row)
{
    struct noted *noted = context;
    if (row->line == 1) {
        noted->column = column(row, "run");
        return noted->column == SIZE_MAX ? "no column run" : NULL;
    }
    const char *run = row->cells[noted->column];
    size_t len = strlen(run);
    if (len == 0 || len >= RUN_LEN || strspn(run, "0123456789") != len)
        return "its run is no number";
    if (!noted->first[0])
        memcpy(noted->first, run, len + 1);
    return strcmp(noted->first, run) == 0 ? NULL : "of another run than the row above";
}

/* Whether its last line ends: a file that was cut short does not. */
static bool is_whole(const char *path)
{
    FILE *file = fopen(path, "re");
    bool whole = file && fseek(file, -1, SEEK_END) == 0 && fgetc(file) == '\n';
    if (file)
        fclose(file);
    if (!whole)
        message("%s: its last line has no end", path);
    return whole;
}

/* *noted: kept by this run; what an earlier run has kept is as good as nothing. */
static int look_noted(const struct action_context *context, const char *path, bool *noted)
{
    struct noted it = { .column = SIZE_MAX };
    *noted = false;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return EXIT_DONE;
    (void)snprintf(it.run, sizeof(it.run), "%" PRId64, context->run);
    if (!is_whole(path) || rows_each(path, false, take_noted, &it) != EXIT_DONE) {
        message(
            "%s has the addresses from before the import, and is damaged: put it back "
            "from a backup, or import by hand what it was to bring back; then remove "
            "it and run this again",
            path);
        return EXIT_DATA;
    }
    *noted = strcmp(it.first, it.run) == 0;
    return EXIT_DONE;
}

/* ---- there and back ---------------------------------------------------------- */

static int write_before(struct before *before, const char *file)
{
    char name[200];
    const struct action_context *context = before->context;
    int code = rows_each(file, false, take_row, before);
    if (code != EXIT_DONE)
        return code;
    before->paper = paper_open(context, name_of(context, name));
    if (!before->paper)
        return EXIT_SERVICE;
    put_row(before, "address", "new_address", "copy", "run");
    bool good =
        homes_look_up(context->command, before->domain->name, names_list(before->names),
                      names_count(before->names), put_home, before);
    code = paper_close(context, before->paper, name, good);
    return good ? code : EXIT_SERVICE;
}

static int keep_before(struct action_context *context, const char *file, const char *path)
{
    struct before before = { .context = context,
                             .domain =
                                 conf_managed(context->command->conf, context->domain),
                             .names = names_new() };
    if (!before.names) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    (void)snprintf(before.run, sizeof(before.run), "%" PRId64, context->run);
    int code = claim_step(context, path);
    if (code == EXIT_DONE)
        code = write_before(&before, file);
    names_free(before.names);
    return code;
}

int action_import(struct action_context *context, int argc, char **argv)
{
    char path[PAPER_PATH_MAX], name[200];
    if (!paper_path(context, name_of(context, name), path))
        return EXIT_SERVICE;
    bool noted;
    int code = look_noted(context, path, &noted);
    if (code == EXIT_DONE && !noted)
        code = keep_before(context, argv[1], path);
    return code == EXIT_DONE ? command_import(context->command, argc, argv) : code;
}

int action_import_back(struct action_context *context, int argc, char **argv)
{
    char path[PAPER_PATH_MAX], name[200];
    char *words[] = { argv[0], path, NULL };
    (void)argc;
    if (!paper_path(context, name_of(context, name), path))
        return EXIT_SERVICE;
    bool noted;
    int code = look_noted(context, path, &noted);
    if (code != EXIT_DONE)
        return code;
    if (!noted) {
        code = claim_check(context, path);
        if (code == EXIT_DONE)
            print("%s: step %s has changed nothing", context->domain, context->step);
        return code;
    }
    code = command_import(context->command, 2, words);
    if (code == EXIT_DONE)
        (void)unlink(path);
    return code;
}
