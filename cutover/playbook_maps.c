/*
 * playbook_maps: see playbook_maps.h. Tables by address_classes(5): virtual_mailbox_maps,
 * virtual_alias_maps (virtual(5)), relay_recipient_maps, local_recipient_maps and
 * alias_maps (aliases(5)). Bare names count when the domain is one of mydestination.
 *
 * Each program has PROGRAM_MS and writes into a file without a name, since a table may
 * be larger than a pipe's reader would want to keep.
 */
#include "playbook_maps.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "addr.h"
#include "clock.h"
#include "command.h"
#include "output.h"
#include "postconf.h"

#define PROGRAM_MS 60000
#define LOOK_MS    20
#define LINE_LEN   4096
#define VALUE_LEN  8192
#define TABLE_LEN  1024

/* ---- pure ---------------------------------------------------------------- */

bool maps_listable(const char *table, const char **out)
{
    static const char *const types[] = { "hash:", "btree:", "lmdb:",    "cdb:",
                                         "dbm:",  "sdbm:",  "texthash:" };
    while (strncmp(table, "proxy:", 6) == 0)
        table += 6;
    *out = table;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strncmp(table, types[i], strlen(types[i])) == 0)
            return true;
    return false;
}

static bool only_itself(const char *value, const struct addr *key)
{
    struct addr parsed;
    size_t len = strcspn(value, ", \t\r\n");
    const char *rest = value + len + strspn(value + len, ", \t\r\n");
    return *rest == '\0' && addr_parse(value, len, &parsed) == ADDR_OK &&
           strcmp(parsed.local, key->local) == 0 &&
           strcmp(parsed.domain, key->domain) == 0;
}

enum maps_key maps_judge(const struct conf *conf, const struct conf_domain *domain,
                         const char *line, bool aliases, bool bare, char *address)
{
    char name[ADDR_DOMAIN_MAX + 1];
    struct addr key;
    size_t len = strcspn(line, "\t");
    const char *value = line[len] ? line + len + 1 : "";
    if (line[0] == '@')
        return addr_domain(line + 1, len - 1, name) && conf_managed(conf, name) == domain
                   ? MAPS_CATCH_ALL
                   : MAPS_OTHER;
    enum addr_kind kind = addr_parse(line, len, &key);
    if (kind == ADDR_NO_DOMAIN
            ? !bare || key.local[0] == '\0'
            : kind != ADDR_OK || conf_managed(conf, key.domain) != domain)
        return MAPS_OTHER;
    addr_format(key.local, domain->name, address);
    return aliases && !only_itself(value, &key) ? MAPS_ALIAS : MAPS_MAILBOX;
}

/* ---- programs ------------------------------------------------------------ */

static int wait_for(pid_t pid)
{
    int64_t end = clock_ms() + PROGRAM_MS;
    int status = -1;
    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        if (got < 0 && errno != EINTR)
            return -1;
        if (clock_ms() > end || command_stopped()) {
            (void)kill(pid, SIGKILL);
            end = INT64_MAX;
        }
        (void)command_sleep(LOOK_MS);
    }
}

/* What the program prints, as a file to read; NULL: it failed. */
static FILE *output_of(const struct conf *conf, const char *program,
                       const char *const words[])
{
    char path[4400];
    char *argv[8] = { path };
    size_t n = 1;
    int made = snprintf(path, sizeof(path), "%s/%s", conf->postfix_commands, program);
    int fd = open(conf->state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (made < 0 || (size_t)made >= sizeof(path) || fd < 0) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    for (; words[n - 1] && n < 7; n++)
        argv[n] = strdup(words[n - 1]);
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0 ||
            dup2(null, STDERR_FILENO) < 0)
            _exit(127);
        execv(path, argv);
        _exit(127);
    }
    for (size_t i = 1; i < n; i++)
        free(argv[i]);
    FILE *file = pid > 0 && wait_for(pid) == 0 ? fdopen(fd, "r") : NULL;
    if (!file)
        close(fd);
    else
        rewind(file);
    return file;
}

/* A parameter, expanded. false: a message was printed. */
static bool parameter(const struct conf *conf, const char *name, char out[VALUE_LEN])
{
    const char *const words[] = { "-c", conf->postfix_config, "-xh", name, NULL };
    FILE *file = output_of(conf, "postconf", words);
    if (!file) {
        message("%s/postconf -c %s -xh %s fails: are postfix-config and "
                "postfix-commands right?",
                conf->postfix_commands, conf->postfix_config, name);
        return false;
    }
    size_t len = fread(out, 1, VALUE_LEN - 1, file);
    bool whole = len < VALUE_LEN - 1;
    fclose(file);
    out[len] = '\0';
    out[strcspn(out, "\n")] = '\0';
    if (!whole)
        message("%s is longer than %d bytes", name, VALUE_LEN - 1);
    return whole;
}

/* ---- tables -------------------------------------------------------------- */

static void skip_table(struct maps *maps, const char *table)
{
    size_t used = strlen(maps->skipped);
    maps->unlistable++;
    if (strstr(maps->skipped, table))
        return;
    int n = snprintf(maps->skipped + used, MAPS_SKIPPED_MAX - used, "%s%s",
                     used ? ", " : "", table);
    if (n < 0 || (size_t)n >= MAPS_SKIPPED_MAX - used)
        memcpy(maps->skipped + MAPS_SKIPPED_MAX - 4, "...", 4);
}

static bool read_lines(struct maps *maps, FILE *file, bool aliases, bool bare)
{
    char line[LINE_LEN], address[ADDR_TEXT_MAX + 1];
    bool whole = true, more = true;
    while (more && fgets(line, sizeof(line), file)) {
        bool begins = whole;
        whole = strchr(line, '\n') != NULL;
        line[strcspn(line, "\r\n")] = '\0';
        if (!begins) /* the value's rest */
            continue;
        enum maps_key key =
            maps_judge(maps->conf, maps->domain, line, aliases, bare, address);
        maps->catch_all = maps->catch_all || key == MAPS_CATCH_ALL;
        if (key == MAPS_MAILBOX || key == MAPS_ALIAS)
            more = maps->each(maps->context, address, key == MAPS_ALIAS);
    }
    return more;
}

static bool read_table(struct maps *maps, const char *table, bool aliases, bool bare)
{
    const char *listed;
    if (!maps_listable(table, &listed)) {
        skip_table(maps, table);
        return true;
    }
    const char *const words[] = { "-c", maps->conf->postfix_config, "-s", listed, NULL };
    FILE *file = output_of(maps->conf, "postmap", words);
    if (!file) {
        skip_table(maps, table);
        return true;
    }
    maps->tables++;
    bool good = read_lines(maps, file, aliases, bare);
    fclose(file);
    return good;
}

/* Whether the domain is in mydestination: names, no tables. */
static bool is_local(const struct maps *maps, const char *mydestination)
{
    char item[TABLE_LEN], name[ADDR_DOMAIN_MAX + 1];
    while (postconf_item(&mydestination, item, sizeof(item)))
        if (addr_domain(item, strlen(item), name) &&
            conf_managed(maps->conf, name) == maps->domain)
            return true;
    return false;
}

int maps_read(struct maps *maps)
{
    static const struct {
        const char *name;
        bool aliases, local;
    } parameters[] = {
        { "virtual_mailbox_maps", false, false },
        { "virtual_alias_maps", true, false },
        { "relay_recipient_maps", false, false },
        { "local_recipient_maps", false, true },
        { "alias_maps", true, true },
    };
    char value[VALUE_LEN], table[TABLE_LEN];
    if (!parameter(maps->conf, "mydestination", value))
        return EXIT_SERVICE;
    bool local = is_local(maps, value);
    for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++) {
        const char *cursor = value;
        if (parameters[i].local && !local)
            continue;
        if (!parameter(maps->conf, parameters[i].name, value))
            return EXIT_SERVICE;
        while (postconf_item(&cursor, table, sizeof(table)))
            if (!read_table(maps, table, parameters[i].aliases,
                            local || parameters[i].local))
                return EXIT_SERVICE;
    }
    return EXIT_DONE;
}
