/*
 * playbook_paper: actions that check and write files: the list of accounts, classes of
 * service, the Postfix configuration, documents; and programs of the admin.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "capture.h"
#include "output.h"
#include "playbook_judge.h"
#include "playbook_merge.h"
#include "playbook_people.h"
#include "run.h"
#include "table.h"

#define POSTCONF_MS 30000
#define SHOWN_MAX   10

/* ---- accounts ------------------------------------------------------------ */

struct checked {
    const char *path;
    const struct conf *conf;
    const struct conf_domain *domain;
    struct table *seen; /* address -> line */
    size_t rows, wrong, without;
};

static void complain(struct checked *it, unsigned long line, const char *what)
{
    if (it->wrong++ < SHOWN_MAX)
        message("%s:%lu: %s", it->path, line, what);
}

static bool check_person(void *context, const struct person *person)
{
    struct checked *it = context;
    char address[ADDR_TEXT_MAX + 1];
    struct addr parsed;
    it->rows++;
    (void)addr_parse(person->address, strlen(person->address), &parsed);
    people_canonical(person->address, address);
    if (!merge_is_utf8(person->address, strlen(person->address)))
        complain(it, person->line, "the address is not UTF-8: save the file as UTF-8");
    else if (conf_managed(it->conf, parsed.domain) != it->domain)
        complain(it, person->line, "an address of another domain");
    else if (table_get(it->seen, address, strlen(address), NULL))
        complain(it, person->line, "this address is in the file twice");
    else if (!table_put(it->seen, address, strlen(address), "", 0))
        return false;
    const char *wrong = password_judge(person->password);
    if (wrong) /* never the password itself */
        complain(it, person->line, wrong);
    return true;
}

int action_csv(struct action_context *context, int argc, char **argv)
{
    struct checked it = { .path = argv[1],
                          .conf = context->command->conf,
                          .domain = conf_managed(context->command->conf, context->domain),
                          .seen = table_new() };
    (void)argc;
    int code = it.seen ? people_each(argv[1], true, check_person, &it) : EXIT_SERVICE;
    if (it.seen)
        table_free(it.seen);
    if (code != EXIT_DONE)
        return code;
    if (it.wrong > 1)
        message("%s: %zu rows are wrong; the step's log has the first with their lines",
                argv[1], it.wrong);
    if (it.wrong > 0)
        return EXIT_CHECK;
    print("%s: %zu accounts, each with a password", argv[1], it.rows);
    return EXIT_DONE;
}

/* ---- classes of service -------------------------------------------------- */

struct class_writer {
    FILE *out;
    const char *user, *admin;
    size_t users, admins;
};

static bool class_one(void *context, const struct person *person)
{
    struct class_writer *writer = context;
    char address[ADDR_TEXT_MAX + 1];
    people_canonical(person->address, address);
    const char *cells[] = { address, person->admin ? writer->admin : writer->user };
    paper_row(writer->out, cells, 2);
    writer->users += !person->admin;
    writer->admins += person->admin;
    return true;
}

int action_class(struct action_context *context, int argc, char **argv)
{
    static const char *const header[] = { "userid", "cos" };
    struct class_writer writer = { paper_open(context, "class.csv"), argv[2], argv[3], 0,
                                   0 };
    (void)argc;
    if (!writer.out)
        return EXIT_SERVICE;
    paper_row(writer.out, header, 2);
    int code = people_each(argv[1], false, class_one, &writer);
    int closed = paper_close(context, writer.out, "class.csv", code == EXIT_DONE);
    if (code == EXIT_DONE && closed == EXIT_DONE)
        print("class.csv: %zu users get %s, %zu admins %s", writer.users, argv[2],
              writer.admins, argv[3]);
    return code == EXIT_DONE ? closed : code;
}

struct class_check {
    const char *path;
    char *const *classes; /* NULL-terminated */
    struct table *seen;   /* address -> "" */
    const struct conf_domain *domain;
    const struct conf *conf;
    size_t user, class; /* columns */
    size_t rows, without;
};

static const char *check_class(void *context, const struct people_row *row)
{
    struct class_check *it = context;
    char address[ADDR_TEXT_MAX + 1];
    struct addr parsed;
    if (row->line == 1) {
        it->user = rows_column(row, "userid");
        it->class = rows_column(row, "cos");
        return it->user == SIZE_MAX || it->class == SIZE_MAX
                   ? "there is no column userid, or no column cos"
                   : NULL;
    }
    const char *user = row->cells[it->user], *class = row->cells[it->class];
    bool known = false;
    for (char *const *at = it->classes; *at; at++)
        known = known || strcmp(*at, class) == 0;
    if (addr_parse(user, strlen(user), &parsed) != ADDR_OK ||
        conf_managed(it->conf, parsed.domain) != it->domain)
        return "userid is not an address of the domain";
    if (!known)
        return "cos is none of the live classes";
    addr_format(parsed.local, it->domain->name, address);
    if (table_get(it->seen, address, strlen(address), NULL))
        return "this userid is there twice";
    it->rows++;
    return table_put(it->seen, address, strlen(address), "", 0) ? NULL : "out of memory";
}

static bool has_class(void *context, const char *local, const struct home *home)
{
    struct class_check *it = context;
    char address[ADDR_TEXT_MAX + 1];
    (void)home;
    if (local[0] == '\0')
        return true;
    addr_format(local, it->domain->name, address);
    if (!table_get(it->seen, address, strlen(address), NULL) && it->without++ < SHOWN_MAX)
        message(
            "%s was added after %s was written: add it with a live class and upload it "
            "again",
            address, it->path);
    return true;
}

/* A file without '/' is one that an earlier step has written. */
static bool class_path(struct action_context *context, const char *name,
                       char out[PAPER_PATH_MAX])
{
    if (!strchr(name, '/'))
        return paper_path(context, name, out);
    int n = snprintf(out, PAPER_PATH_MAX, "%s", name);
    if (n >= 0 && n < PAPER_PATH_MAX)
        return true;
    message("%s: the path is too long", name);
    return false;
}

int action_class_check(struct action_context *context, int argc, char **argv)
{
    char path[PAPER_PATH_MAX];
    const struct conf *conf = context->command->conf;
    struct store *store = context->command->store;
    struct class_check it = { .path = path,
                              .classes = argv + 2,
                              .seen = table_new(),
                              .conf = conf,
                              .domain = conf_managed(conf, context->domain) };
    (void)argc;
    int code = it.seen && class_path(context, argv[1], path) ? EXIT_DONE : EXIT_SERVICE;
    if (code == EXIT_DONE)
        code = rows_each(path, false, check_class, &it);
    if (code == EXIT_DONE && !store_each_home(store, it.domain->name, has_class, &it)) {
        message("%s", store_error(store));
        code = EXIT_SERVICE;
    }
    if (it.seen)
        table_free(it.seen);
    if (code != EXIT_DONE)
        return code;
    if (it.without > 1)
        message(
            "%zu mailboxes were added after %s was written: add them with a live class "
            "and upload it again",
            it.without, path);
    if (it.without > 0)
        return EXIT_CHECK;
    print("%s: %zu users with a live class, nobody is left out", path, it.rows);
    return EXIT_DONE;
}

/* ---- the Postfix configuration ------------------------------------------- */

static bool write_postconf(const struct conf *conf, const char *option, FILE *out,
                           size_t *lines)
{
    char program[PAPER_PATH_MAX];
    struct capture got;
    int n = snprintf(program, sizeof(program), "%s/postconf", conf->postfix_commands);
    if (n < 0 || (size_t)n >= sizeof(program))
        return false;
    const char *const words[] = { program, "-c", conf->postfix_config, option, NULL };
    capture_run(words, NULL, POSTCONF_MS, &got);
    bool good = got.status == 0;
    if (good)
        fprintf(out, "# postconf %s\n%s\n", option, got.out);
    else
        message("%s %s: %s", program, option,
                got.error[0] ? got.error : "fails: is postfix-config right?");
    for (const char *c = got.out; good && *c; c++)
        *lines += *c == '\n';
    free(got.out);
    return good;
}

int action_postconf(struct action_context *context, int argc, char **argv)
{
    const struct conf *conf = context->command->conf;
    size_t main_cf = 0, master_cf = 0;
    FILE *out = paper_open(context, "postconf.txt");
    (void)argc;
    (void)argv;
    if (!out)
        return EXIT_SERVICE;
    bool good = write_postconf(conf, "-n", out, &main_cf) &&
                write_postconf(conf, "-M", out, &master_cf) &&
                write_postconf(conf, "-P", out, &master_cf);
    int code = paper_close(context, out, "postconf.txt", good);
    if (!good)
        return EXIT_SERVICE;
    if (code == EXIT_DONE)
        print("postconf.txt: %zu lines of main.cf, %zu of master.cf", main_cf, master_cf);
    return code;
}

/* ---- documents ----------------------------------------------------------- */

int action_document(struct action_context *context, int argc, char **argv)
{
    char name[200];
    (void)snprintf(name, sizeof(name), "%.150s.txt", context->step);
    FILE *out = paper_open(context, name);
    if (!out)
        return EXIT_SERVICE;
    for (int i = 1; i < argc; i++)
        fprintf(out, "%s\n", argv[i]);
    int code = paper_close(context, out, name, true);
    if (code == EXIT_DONE)
        print("written for you to hand over: %s/%s", context->directory, name);
    return code;
}

/* ---- programs of the admin ----------------------------------------------- */

int action_command(struct action_context *context, int argc, char **argv)
{
    (void)context;
    (void)argc;
    if (argv[1][0] != '/') {
        message("%s: \"%s\" is not an absolute path", argv[0], argv[1]);
        return EXIT_USE;
    }
    struct stat info;
    const char *mistrust = stat(argv[1], &info) == 0 ? run_mistrust(&info) : NULL;
    if (mistrust) {
        message("%s %s", argv[1], mistrust);
        return EXIT_CONFIGURATION;
    }
    (void)fflush(NULL);
    execv(argv[1], argv + 1); /* this process is the step's own */
    message("%s: %s: mend it, and run the step again", argv[1], strerror(errno));
    return EXIT_SERVICE;
}
