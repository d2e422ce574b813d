/*
 * conf: reads sluice.conf with libConfuse, and checks it.
 *
 * The file is read whole (at most FILE_MAX bytes), parsed with a check on every
 * value as it is met, so that a message can name the line, and then turned into
 * one immutable struct conf. The table options[] is the truth about keys: name,
 * kind, limits; libConfuse's own tables below it hold the defaults.
 *
 * Diagnostics: the first mistake only, as "<path>:<line>: <what is wrong>", or
 * "<path>: ..." for what belongs to no line. Besides syntax and unknown keys,
 * these are refused: a key given twice, a name claimed by two domains, a domain
 * that would be redirected to itself, a domain without the next hop that this
 * host's side needs, a password file that others can read.
 *
 * libConfuse's scanner keeps global state: loading is serialized by a mutex.
 * This is the only file that knows libConfuse.
 */
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include <confuse.h>

#include "conf.h"
#include "conf_file.h"
#include "conf_value.h"

#define STATE_DIR_MAX   3000
#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
#define HOP_TEXT_MAX    (ADDR_DOMAIN_MAX + 8) /* brackets, ":65535" */
#define DEFAULT_PORT    25
#define DEFAULT_SOCKETS "unix:/var/spool/postfix/sluice/"
#define OPTION_SEEN     (1 << 24) /* a flag of our own in cfg_opt_t.flags */

/* ---- reporting --------------------------------------------------------- */

/* Where the messages of the load that runs now go (under load_lock). */
static struct {
    const char *path;
    char *text;
    size_t size;
    bool failed;
} report;
static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;

/* line 0: not about one line. The first message stays. Returns false. */
__attribute__((format(printf, 2, 0))) static bool vfail(int line, const char *fmt,
                                                        va_list args)
{
    char text[1024];

    if (report.failed)
        return false;
    report.failed = true;
    if (vsnprintf(text, sizeof(text), fmt, args) < 0)
        text[0] = '\0';
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?'; /* a value may hold anything; a message is one line */
    if (line > 0)
        (void)snprintf(report.text, report.size, "%s:%d: %s", report.path, line, text);
    else
        (void)snprintf(report.text, report.size, "%s: %s", report.path, text);
    return false;
}

__attribute__((format(printf, 2, 3))) static bool fail(int line, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vfail(line, fmt, args);
    va_end(args);
    return false;
}

__attribute__((format(printf, 2, 0))) static void on_error(cfg_t *cfg, const char *fmt,
                                                           va_list args)
{
    vfail(cfg->line, fmt, args);
}

static bool fail_mistake(const struct conf_mistake *mistake)
{
    return fail(mistake->line, "%s", mistake->text);
}

static bool no_memory(void)
{
    return fail(0, "out of memory");
}

/* ---- pieces of values -------------------------------------------------- */

static bool copy_string(char **out, const char *text)
{
    *out = strdup(text);
    return *out || no_memory();
}

static void free_list(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

/* ---- checks of single values ------------------------------------------- */

struct option;
/* false: reported. out may be NULL. */
typedef bool check_fn(cfg_t *cfg, const struct option *option, const char *value);

struct option {
    const char *section; /* NULL: top level */
    const char *name;
    check_fn *check;
    long min, max;     /* of numbers, or of a string's length */
    const char *words; /* "a|b" */
};

static bool check_words(cfg_t *cfg, const struct option *option, const char *value)
{
    size_t len = strlen(value);

    for (const char *word = option->words; word; word = strchr(word, '|')) {
        if (*word == '|')
            word++;
        if (len > 0 && len == strcspn(word, "|") && strncmp(word, value, len) == 0)
            return true;
    }
    return fail(cfg->line, "%s = \"%s\": must be one of %s", option->name, value,
                option->words);
}

static bool check_text(cfg_t *cfg, const struct option *option, const char *value)
{
    size_t len = strlen(value);

    for (size_t i = 0; i < len; i++)
        if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
            return fail(cfg->line, "%s: control characters are not allowed",
                        option->name);
    if (len < (size_t)option->min)
        return fail(cfg->line, "%s: must not be empty", option->name);
    if (len > (size_t)option->max)
        return fail(cfg->line, "%s: longer than %ld bytes", option->name, option->max);
    return true;
}

static bool check_path(cfg_t *cfg, const struct option *option, const char *value)
{
    if (!check_text(cfg, option, value))
        return false;
    if (value[0] != '/')
        return fail(cfg->line, "%s = \"%s\": must be an absolute path", option->name,
                    value);
    return true;
}

static bool check_delimiter(cfg_t *cfg, const struct option *option, const char *value)
{
    if (!check_text(cfg, option, value))
        return false;
    if (value[strcspn(value, " @\"\\<>")])
        return fail(cfg->line, "%s = \"%s\": must not hold space, @, quote, \\, < or >",
                    option->name, value);
    return true;
}

static bool check_hostname(cfg_t *cfg, const struct option *option, const char *value)
{
    char name[ADDR_DOMAIN_MAX + 1];

    if (!addr_domain(value, strlen(value), name) || name[0] == '[')
        return fail(cfg->line, "%s = \"%s\": not a host name", option->name, value);
    return true;
}

static bool check_domain_name(cfg_t *cfg, const struct option *option, const char *value)
{
    char name[ADDR_DOMAIN_MAX + 1];

    if (!addr_domain(value, strlen(value), name))
        return fail(cfg->line, "%s: \"%s\" is not a domain name", option->name, value);
    return true;
}

static bool check_endpoint(cfg_t *cfg, const struct option *option, const char *value)
{
    struct conf_host_port hp = { .port = 0 };

    if (!check_text(cfg, option, value))
        return false;
    if (strncmp(value, "unix:", 5) == 0) {
        const char *path = value + 5;
        if (path[0] != '/')
            return fail(cfg->line, "%s = \"%s\": the path must be absolute", option->name,
                        value);
        if (strlen(path) > SOCKET_PATH_MAX)
            return fail(cfg->line,
                        "%s: the socket path has %zu bytes, a unix socket allows %zu",
                        option->name, strlen(path), SOCKET_PATH_MAX);
        return true;
    }
    const char *wrong =
        conf_host_port(strncmp(value, "tcp:", 4) == 0 ? value + 4 : value, &hp);
    if (!wrong && hp.port == 0)
        wrong = "has no port";
    if (wrong)
        return fail(cfg->line,
                    "%s = \"%s\": %s; write \"unix:/path\" or \"tcp:host:port\"",
                    option->name, value, wrong);
    return true;
}

static bool check_http(cfg_t *cfg, const struct option *option, const char *value)
{
    return value[0] == '\0' || check_endpoint(cfg, option, value);
}

static bool check_hop(cfg_t *cfg, const struct option *option, const char *value)
{
    struct conf_host_port hp = { .port = 0 };

    if (!check_text(cfg, option, value))
        return false;
    const char *wrong = conf_host_port(value, &hp);
    if (!wrong && !hp.brackets && conf_is_address(hp.host))
        wrong = "is an address, which Postfix wants in brackets: [address]:port";
    if (wrong)
        return fail(cfg->line, "%s = \"%s\": %s", option->name, value, wrong);
    return true;
}

static bool check_new_address(cfg_t *cfg, const struct option *option, const char *value)
{
    char name[ADDR_DOMAIN_MAX + 1];
    const char *at = strrchr(value, '@');
    const char *mark = strstr(value, "%l");

    if (!check_text(cfg, option, value))
        return false;
    if (!mark || strchr(mark + 1, '%') || strchr(value, '%') != mark)
        return fail(cfg->line, "%s = \"%s\": must contain %%l once and no other %%",
                    option->name, value);
    if (!at || mark > at || value[strcspn(value, " \"\\<>")])
        return fail(cfg->line, "%s = \"%s\": must be like \"%%l@tenant.example.net\"",
                    option->name, value);
    if (!addr_domain(at + 1, strlen(at + 1), name))
        return fail(cfg->line, "%s = \"%s\": \"%s\" is not a domain name", option->name,
                    value, at + 1);
    return true;
}

static bool check_duration(cfg_t *cfg, const struct option *option, const char *value)
{
    int seconds;

    if (!conf_duration(value, &seconds))
        return fail(cfg->line,
                    "%s = \"%s\": must be a number with s, m, h or d, up to 30 days",
                    option->name, value);
    return true;
}

/* ---- the table of keys ------------------------------------------------- */

#define TEXT_MAX 1024
static const struct option options[] = {
    { NULL, "side", check_words, 0, 0, "old|new" },
    { NULL, "hostname", check_hostname, 0, 0, NULL },
    { NULL, "redis", check_endpoint, 1, TEXT_MAX, NULL },
    { NULL, "redis-user", check_text, 1, TEXT_MAX, NULL },
    { NULL, "redis-password-file", check_path, 1, PATH_MAX - 1, NULL },
    { NULL, "redis-replicas", NULL, 0, 100, NULL },
    { NULL, "redis-durable", NULL, 0, 0, NULL },
    { NULL, "lookup-timeout", NULL, 10, 10000, NULL },
    { NULL, "command-timeout", NULL, 100, 60000, NULL },
    { NULL, "mta", check_words, 0, 0, "postfix|sendmail" },
    { NULL, "postfix-config", check_path, 1, STATE_DIR_MAX, NULL },
    { NULL, "postfix-commands", check_path, 1, STATE_DIR_MAX, NULL },
    { NULL, "fence", check_words, 0, 0, "wait|reload" },
    { NULL, "hold", check_words, 0, 0, "queue|defer" },
    { NULL, "user", check_text, 1, 255, NULL },
    { NULL, "group", check_text, 1, 255, NULL },
    { NULL, "state-dir", check_path, 1, STATE_DIR_MAX, NULL },
    { NULL, "log", check_words, 0, 0, "syslog|stderr" },
    { NULL, "recipient-delimiter", check_delimiter, 0, 16, NULL },
    { "milter", "listen", check_endpoint, 1, TEXT_MAX, NULL },
    { "policyd", "policy", check_endpoint, 1, TEXT_MAX, NULL },
    { "policyd", "map", check_endpoint, 1, TEXT_MAX, NULL },
    { "policyd", "http", check_http, 0, TEXT_MAX, NULL },
    { "sync", "command", check_text, 0, 4096, NULL },
    { "sync", "reverse-command", check_text, 0, 4096, NULL },
    { "sync", "jobs", NULL, 1, 1000, NULL },
    { "sync", "timeout", check_duration, 0, 0, NULL },
    { "sync", "on-failure", check_words, 0, 0, "unlock|keep" },
    { "domain", "same-as", check_domain_name, 0, 0, NULL },
    { "domain", "old", check_hop, 1, HOP_TEXT_MAX, NULL },
    { "domain", "new", check_hop, 1, HOP_TEXT_MAX, NULL },
    { "domain", "new-address", check_new_address, 1, ADDR_TEXT_MAX, NULL },
    { "domain", "redirect-domains", check_domain_name, 0, 0, NULL },
    { "domain", "copy-outbound", NULL, 0, 0, NULL },
};
#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

static cfg_opt_t milter_opts[] = {
    CFG_STR("listen", DEFAULT_SOCKETS "milter.sock", CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t policyd_opts[] = {
    CFG_STR("policy", DEFAULT_SOCKETS "policy.sock", CFGF_NONE),
    CFG_STR("map", DEFAULT_SOCKETS "map.sock", CFGF_NONE),
    CFG_STR("http", NULL, CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t sync_opts[] = {
    CFG_STR_LIST("command", NULL, CFGF_NONE),
    CFG_STR_LIST("reverse-command", NULL, CFGF_NONE),
    CFG_INT("jobs", 8, CFGF_NONE),
    CFG_STR("timeout", "1h", CFGF_NONE),
    CFG_STR("on-failure", "unlock", CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t domain_opts[] = {
    CFG_STR_LIST("same-as", NULL, CFGF_NONE),
    CFG_STR("old", NULL, CFGF_NONE),
    CFG_STR("new", NULL, CFGF_NONE),
    CFG_STR("new-address", NULL, CFGF_NONE),
    CFG_STR_LIST("redirect-domains", NULL, CFGF_NONE),
    CFG_BOOL("copy-outbound", cfg_false, CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t root_opts[] = {
    CFG_STR("side", NULL, CFGF_NONE),
    CFG_STR("hostname", NULL, CFGF_NONE),
    CFG_STR("redis", NULL, CFGF_NONE),
    CFG_STR("redis-user", NULL, CFGF_NONE),
    CFG_STR("redis-password-file", NULL, CFGF_NONE),
    CFG_INT("redis-replicas", 0, CFGF_NONE),
    CFG_BOOL("redis-durable", cfg_true, CFGF_NONE),
    CFG_INT("lookup-timeout", 200, CFGF_NONE),
    CFG_INT("command-timeout", 3000, CFGF_NONE),
    CFG_STR("mta", "postfix", CFGF_NONE),
    CFG_STR("postfix-config", "/etc/postfix", CFGF_NONE),
    CFG_STR("postfix-commands", "/usr/sbin", CFGF_NONE),
    CFG_STR("fence", "wait", CFGF_NONE),
    CFG_STR("hold", "queue", CFGF_NONE),
    CFG_STR("user", "sluice", CFGF_NONE),
    CFG_STR("group", "postfix", CFGF_NONE),
    CFG_STR("state-dir", "/var/lib/sluice", CFGF_NONE),
    CFG_STR("log", "syslog", CFGF_NONE),
    CFG_STR("recipient-delimiter", "+", CFGF_NONE),
    CFG_SEC("milter", milter_opts, CFGF_NONE),
    CFG_SEC("policyd", policyd_opts, CFGF_NONE),
    CFG_SEC("sync", sync_opts, CFGF_NONE),
    CFG_SEC("domain", domain_opts, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_END(),
};

static const struct option *find_option(const char *section, const char *name)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const char *of = options[i].section ? options[i].section : "root";
        if (strcmp(of, section) == 0 && strcmp(options[i].name, name) == 0)
            return &options[i];
    }
    return NULL;
}

/* libConfuse calls this after each value; 0 is good. */
static int on_value(cfg_t *cfg, cfg_opt_t *opt)
{
    const struct option *option = find_option(cfg->name, opt->name);

    if (!option || opt->nvalues == 0)
        return 0;
    bool list = opt->flags & CFGF_LIST;
    if (!list && opt->flags & OPTION_SEEN)
        return fail(cfg->line, "%s is given twice", opt->name) ? 0 : -1;
    opt->flags |= OPTION_SEEN;
    if (opt->type == CFGT_INT) {
        long value = cfg_opt_getnint(opt, 0);
        if (value < option->min || value > option->max)
            fail(cfg->line, "%s = %ld: must be %ld to %ld", opt->name, value, option->min,
                 option->max);
    } else if (opt->type == CFGT_STR && option->check) {
        const char *value = cfg_opt_getnstr(opt, opt->nvalues - 1);
        option->check(cfg, option, value ? value : "");
    }
    return report.failed ? -1 : 0;
}

static int on_domain(cfg_t *cfg, cfg_opt_t *opt)
{
    static const struct option title = { "domain", "domain", NULL, 0, 0, NULL };
    cfg_t *section = cfg_opt_getnsec(opt, opt->nvalues - 1);
    const char *name = section ? cfg_title(section) : NULL;

    if (!name || name[0] == '[')
        return fail(cfg->line, "domain \"%s\" is not a domain name", name ? name : "")
                   ? 0
                   : -1;
    return check_domain_name(cfg, &title, name) ? 0 : -1;
}

/* ---- building ---------------------------------------------------------- */

static bool build_string(cfg_t *cfg, const char *name, char **out)
{
    const char *value = cfg_getstr(cfg, name);

    *out = NULL;
    return !value || copy_string(out, value);
}

static bool build_endpoint(cfg_t *cfg, const char *name, struct conf_endpoint *out)
{
    const char *value = cfg_getstr(cfg, name);
    struct conf_host_port hp = { .port = 0 };

    if (!value || !value[0])
        return true;
    if (!copy_string(&out->text, value))
        return false;
    if (strncmp(value, "unix:", 5) == 0)
        return copy_string(&out->path, value + 5);
    if (conf_host_port(strncmp(value, "tcp:", 4) == 0 ? value + 4 : value, &hp))
        return fail(0, "%s = \"%s\": not an address", name, value);
    out->port = hp.port;
    return copy_string(&out->host, hp.host);
}

static bool is_ascii(const char *text)
{
    while (*text && (unsigned char)*text <= 0x7f)
        text++;
    return *text == '\0';
}

static bool build_hop(cfg_t *cfg, const char *name, struct conf_hop *out)
{
    const char *value = cfg_getstr(cfg, name);
    struct conf_host_port hp = { .port = 0 };
    char text[HOP_TEXT_MAX + 1];

    if (!value)
        return true;
    if (conf_host_port(value, &hp))
        return fail(0, "%s = \"%s\": not a next hop", name, value);
    out->port = hp.port ? hp.port : DEFAULT_PORT;
    out->lookup_mx = !hp.brackets;
    /* Postfix wants the A-labels of an international name. */
    int len = is_ascii(value)
                  ? snprintf(text, sizeof(text), "%s", value)
                  : snprintf(text, sizeof(text), hp.brackets ? "[%s]:%u" : "%s:%u",
                             hp.host, (unsigned)out->port);
    if (len < 0 || (size_t)len >= sizeof(text))
        return fail(cfg->line, "%s: the next hop is too long", name);
    return copy_string(&out->text, text) && copy_string(&out->host, hp.host);
}

/* room: NULL entries to leave at the end besides the last. */
static bool build_list(cfg_t *cfg, const char *name, bool domains, size_t room,
                       char ***out)
{
    unsigned n = cfg_size(cfg, name);
    char domain[ADDR_DOMAIN_MAX + 1];

    *out = calloc((size_t)n + room + 1, sizeof(**out));
    if (!*out)
        return no_memory();
    for (unsigned i = 0; i < n; i++) {
        const char *value = cfg_getnstr(cfg, name, i);
        if (domains) {
            if (!addr_domain(value, strlen(value), domain))
                return fail(cfg->line, "%s: \"%s\" is not a domain name", name, value);
            value = domain;
        }
        if (!copy_string(&(*out)[i], value))
            return false;
    }
    return true;
}

/* argv: NULL when the list is empty. */
static bool build_argv(cfg_t *cfg, const char *name, char ***out)
{
    if (cfg_size(cfg, name) == 0)
        return true;
    if (!build_list(cfg, name, false, 0, out))
        return false;
    if ((*out)[0][0] == '\0')
        return fail(cfg->line, "%s: the program's name is empty", name);
    return true;
}

static bool list_has(char *const *list, const char *text)
{
    for (; *list; list++)
        if (strcmp(*list, text) == 0)
            return true;
    return false;
}

static size_t list_length(char *const *list)
{
    size_t n = 0;

    while (list[n])
        n++;
    return n;
}

/* new-address with its domain in canonical form, which joins the redirect
 * domains (build_list() left room). */
static bool build_new_address(cfg_t *cfg, struct conf_domain *domain)
{
    const char *value = cfg_getstr(cfg, "new-address");
    char name[ADDR_DOMAIN_MAX + 1];
    char text[ADDR_TEXT_MAX + 1];

    if (!value)
        return true;
    const char *at = strrchr(value, '@');
    if (!at || !addr_domain(at + 1, strlen(at + 1), name))
        return fail(cfg->line, "new-address = \"%s\": not an address", value);
    int len = snprintf(text, sizeof(text), "%.*s@%s", (int)(at - value), value, name);
    if (len < 0 || (size_t)len >= sizeof(text))
        return fail(cfg->line, "new-address: longer than %d bytes", ADDR_TEXT_MAX);
    if (!copy_string(&domain->new_address, text))
        return false;
    if (list_has(domain->redirect_domains, name))
        return true;
    return copy_string(&domain->redirect_domains[list_length(domain->redirect_domains)],
                       name);
}

static bool check_domain(cfg_t *cfg, enum side side, const struct conf_domain *domain)
{
    for (char **name = domain->redirect_domains; *name; name++)
        if (strcmp(*name, domain->name) == 0 || list_has(domain->same_as, *name))
            return fail(cfg->line, "domain \"%s\" would be redirected to itself (\"%s\")",
                        domain->name, *name);
    if (side == SIDE_OLD && !domain->new.text && !domain->new_address)
        return fail(cfg->line,
                    "domain \"%s\" has neither new nor new-address: side = old needs one",
                    domain->name);
    if (side == SIDE_NEW && !domain->old.text)
        return fail(cfg->line, "domain \"%s\" has no old: side = new needs it",
                    domain->name);
    return true;
}

static bool build_domain(cfg_t *cfg, enum side side, struct conf_domain *domain)
{
    const char *title = cfg_title(cfg);
    char name[ADDR_DOMAIN_MAX + 1];

    if (!title || !addr_domain(title, strlen(title), name))
        return fail(cfg->line, "domain \"%s\" is not a domain name", title ? title : "");
    domain->copy_outbound = cfg_getbool(cfg, "copy-outbound");
    return copy_string(&domain->name, name) &&
           build_list(cfg, "same-as", true, 0, &domain->same_as) &&
           build_list(cfg, "redirect-domains", true, 1, &domain->redirect_domains) &&
           build_hop(cfg, "old", &domain->old) && build_hop(cfg, "new", &domain->new) &&
           build_new_address(cfg, domain) && check_domain(cfg, side, domain);
}

/* ---- the index of names ------------------------------------------------ */

struct entry {
    const char *name; /* NULL: free */
    const struct conf_domain *domain;
};
/* Open addressing, at most half full; the names are the admin's, so nobody
 * can crowd it. */
struct table {
    struct entry *entries;
    size_t mask;
};
struct conf_index {
    struct table managed;   /* names and same-as names */
    struct table redirects; /* redirect domains */
};

static size_t hash_name(const char *name)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */

    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 1099511628211u;
    return (size_t)(hash ^ hash >> 32);
}

static struct entry *table_slot(const struct table *table, const char *name)
{
    size_t i = hash_name(name) & table->mask;

    while (table->entries[i].name && strcmp(table->entries[i].name, name) != 0)
        i = (i + 1) & table->mask;
    return &table->entries[i];
}

static bool table_new(struct table *table, size_t names)
{
    size_t size = 8;

    while (size < names * 2)
        size *= 2;
    table->entries = calloc(size, sizeof(*table->entries));
    table->mask = size - 1;
    return table->entries || no_memory();
}

static bool add_managed(cfg_t *cfg, struct conf_index *index,
                        const struct conf_domain *domain, const char *name)
{
    struct entry *entry = table_slot(&index->managed, name);

    if (entry->name && entry->domain == domain)
        return fail(cfg->line, "domain \"%s\" has the name \"%s\" twice", domain->name,
                    name);
    if (entry->name)
        return fail(cfg->line, "domains \"%s\" and \"%s\" both have the name \"%s\"",
                    entry->domain->name, domain->name, name);
    *entry = (struct entry){ name, domain };
    return true;
}

static bool index_domain(cfg_t *cfg, struct conf_index *index,
                         const struct conf_domain *domain)
{
    if (!add_managed(cfg, index, domain, domain->name))
        return false;
    for (char **name = domain->same_as; *name; name++)
        if (!add_managed(cfg, index, domain, *name))
            return false;
    for (char **name = domain->redirect_domains; *name; name++)
        *table_slot(&index->redirects, *name) = (struct entry){ *name, domain };
    return true;
}

static bool build_index(cfg_t *cfg, struct conf_index **out)
{
    unsigned n = cfg_size(cfg, "domain");
    size_t names = n, redirects = n; /* one of new-address */

    for (unsigned i = 0; i < n; i++) {
        names += cfg_size(cfg_getnsec(cfg, "domain", i), "same-as");
        redirects += cfg_size(cfg_getnsec(cfg, "domain", i), "redirect-domains");
    }
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return no_memory();
    return table_new(&(*out)->managed, names) && table_new(&(*out)->redirects, redirects);
}

/* ---- the whole --------------------------------------------------------- */

static bool is_word(cfg_t *cfg, const char *name, const char *word)
{
    const char *value = cfg_getstr(cfg, name);

    return value && strcmp(value, word) == 0;
}

static bool build_hostname(cfg_t *cfg, struct conf *conf)
{
    const char *value = cfg_getstr(cfg, "hostname");
    char name[ADDR_DOMAIN_MAX + 1];

    if (!value)
        return fail(0, "hostname is not set: this host's name, hostname = \"...\"");
    if (!addr_domain(value, strlen(value), name))
        return fail(0, "hostname = \"%s\": not a host name", value);
    return copy_string(&conf->hostname, name);
}

static bool build_host(cfg_t *cfg, struct conf *conf)
{
    if (!cfg_getstr(cfg, "side"))
        return fail(0, "side is not set: side = old or side = new");
    if (!cfg_getstr(cfg, "redis"))
        return fail(0, "redis is not set: redis = \"unix:/path\" or \"tcp:host:port\"");
    conf->side = is_word(cfg, "side", "old") ? SIDE_OLD : SIDE_NEW;
    conf->redis_replicas = (int)cfg_getint(cfg, "redis-replicas");
    conf->redis_durable = cfg_getbool(cfg, "redis-durable");
    conf->lookup_timeout = (int)cfg_getint(cfg, "lookup-timeout");
    conf->command_timeout = (int)cfg_getint(cfg, "command-timeout");
    conf->mta = is_word(cfg, "mta", "postfix") ? MTA_POSTFIX : MTA_SENDMAIL;
    conf->fence = is_word(cfg, "fence", "wait") ? FENCE_WAIT : FENCE_RELOAD;
    conf->hold = is_word(cfg, "hold", "queue") ? HOLD_QUEUE : HOLD_DEFER;
    conf->log = is_word(cfg, "log", "syslog") ? LOG_TO_SYSLOG : LOG_TO_STDERR;
    return build_hostname(cfg, conf) && build_endpoint(cfg, "redis", &conf->redis) &&
           build_string(cfg, "redis-user", &conf->redis_user) &&
           build_string(cfg, "redis-password-file", &conf->redis_password_file) &&
           build_string(cfg, "postfix-config", &conf->postfix_config) &&
           build_string(cfg, "postfix-commands", &conf->postfix_commands) &&
           build_string(cfg, "user", &conf->user) &&
           build_string(cfg, "group", &conf->group) &&
           build_string(cfg, "state-dir", &conf->state_dir) &&
           build_string(cfg, "recipient-delimiter", &conf->recipient_delimiter);
}

static bool build_sections(cfg_t *cfg, struct conf *conf)
{
    cfg_t *policyd = cfg_getsec(cfg, "policyd");
    cfg_t *sync = cfg_getsec(cfg, "sync");

    conf->sync.jobs = (int)cfg_getint(sync, "jobs");
    conf->sync.on_failure =
        is_word(sync, "on-failure", "unlock") ? ON_FAILURE_UNLOCK : ON_FAILURE_KEEP;
    if (!conf_duration(cfg_getstr(sync, "timeout"), &conf->sync.timeout))
        return fail(0, "sync timeout is not valid");
    return build_endpoint(cfg_getsec(cfg, "milter"), "listen", &conf->milter_listen) &&
           build_endpoint(policyd, "policy", &conf->policy_listen) &&
           build_endpoint(policyd, "map", &conf->map_listen) &&
           build_endpoint(policyd, "http", &conf->http_listen) &&
           build_argv(sync, "command", &conf->sync.command) &&
           build_argv(sync, "reverse-command", &conf->sync.reverse_command);
}

static bool build_domains(cfg_t *cfg, struct conf *conf)
{
    unsigned n = cfg_size(cfg, "domain");

    conf->domains = calloc((size_t)n + 1, sizeof(*conf->domains));
    if (!conf->domains)
        return no_memory();
    if (!build_index(cfg, &conf->index))
        return false;
    for (unsigned i = 0; i < n; i++) {
        cfg_t *section = cfg_getnsec(cfg, "domain", i);
        struct conf_domain *domain = &conf->domains[conf->domain_count++];
        if (!build_domain(section, conf->side, domain) ||
            !index_domain(section, conf->index, domain))
            return false;
    }
    return true;
}

static bool build_password(struct conf *conf)
{
    struct conf_mistake mistake;

    if (!conf->redis_password_file)
        return true;
    conf->redis_password =
        conf_read_password(conf->redis_password_file, conf->user, &mistake);
    return conf->redis_password || fail_mistake(&mistake);
}

static struct conf *build(cfg_t *cfg)
{
    struct conf *conf = calloc(1, sizeof(*conf));

    if (!conf) {
        no_memory();
        return NULL;
    }
    conf->refs = 1;
    if (copy_string(&conf->path, report.path) && build_host(cfg, conf) &&
        build_sections(cfg, conf) && build_domains(cfg, conf) && build_password(conf))
        return conf;
    conf_unref(conf);
    return NULL;
}

/* ---- loading ----------------------------------------------------------- */

static void watch_values(cfg_t *cfg)
{
    char name[128];

    for (size_t i = 0; i < OPTION_COUNT; i++) {
        int len = snprintf(name, sizeof(name), "%s%s%s",
                           options[i].section ? options[i].section : "",
                           options[i].section ? "|" : "", options[i].name);
        if (len > 0 && (size_t)len < sizeof(name))
            cfg_set_validate_func(cfg, name, on_value);
    }
    cfg_set_validate_func(cfg, "domain", on_domain);
}

static struct conf *parse(const char *text, size_t len)
{
    static char nothing[] = "\n";
    struct conf *conf = NULL;
    cfg_t *cfg = cfg_init(root_opts, CFGF_NONE);
    /* An empty buffer is an error to fmemopen(); the file is not. */
    FILE *file =
        len > 0 ? fmemopen((void *)(uintptr_t)text, len, "r") : fmemopen(nothing, 1, "r");

    if (!cfg || !file) {
        no_memory();
    } else {
        cfg_set_error_function(cfg, on_error);
        watch_values(cfg);
        if (cfg_parse_fp(cfg, file) != CFG_SUCCESS || report.failed)
            fail(0, "cannot be parsed");
        else
            conf = build(cfg);
    }
    if (file)
        fclose(file);
    if (cfg)
        cfg_free(cfg);
    return conf;
}

struct conf *conf_load(const char *path, char *error, size_t error_size)
{
    struct conf *conf = NULL;
    struct conf_mistake mistake;
    size_t len = 0;

    if (error_size > 0)
        error[0] = '\0';
    pthread_mutex_lock(&load_lock);
    report.path = path;
    report.text = error;
    report.size = error_size;
    report.failed = false;
    char *text = conf_read_file(path, &len, &mistake);
    if (text)
        conf = parse(text, len);
    else
        fail_mistake(&mistake);
    free(text);
    report.text = NULL;
    report.size = 0;
    pthread_mutex_unlock(&load_lock);
    return conf;
}

/* ---- using it ---------------------------------------------------------- */

static void free_endpoint(struct conf_endpoint *endpoint)
{
    free(endpoint->text);
    free(endpoint->path);
    free(endpoint->host);
}

static void free_domain(struct conf_domain *domain)
{
    free(domain->name);
    free_list(domain->same_as);
    free(domain->old.text);
    free(domain->old.host);
    free(domain->new.text);
    free(domain->new.host);
    free(domain->new_address);
    free_list(domain->redirect_domains);
}

static void free_password(char *password)
{
    if (password)
        explicit_bzero(password, strlen(password));
    free(password);
}

static void free_conf(struct conf *conf)
{
    for (size_t i = 0; i < conf->domain_count; i++)
        free_domain(&conf->domains[i]);
    free(conf->domains);
    if (conf->index) {
        free(conf->index->managed.entries);
        free(conf->index->redirects.entries);
    }
    free(conf->index);
    free_list(conf->sync.command);
    free_list(conf->sync.reverse_command);
    free_endpoint(&conf->redis);
    free_endpoint(&conf->milter_listen);
    free_endpoint(&conf->policy_listen);
    free_endpoint(&conf->map_listen);
    free_endpoint(&conf->http_listen);
    free(conf->path);
    free(conf->hostname);
    free(conf->redis_user);
    free(conf->redis_password_file);
    free_password(conf->redis_password);
    free(conf->postfix_config);
    free(conf->postfix_commands);
    free(conf->user);
    free(conf->group);
    free(conf->state_dir);
    free(conf->recipient_delimiter);
    free(conf);
}

struct conf *conf_ref(struct conf *conf)
{
    __atomic_add_fetch(&conf->refs, 1, __ATOMIC_RELAXED);
    return conf;
}

void conf_unref(struct conf *conf)
{
    if (conf && __atomic_sub_fetch(&conf->refs, 1, __ATOMIC_ACQ_REL) == 0)
        free_conf(conf);
}

const struct conf_domain *conf_managed(const struct conf *conf, const char *domain)
{
    const struct entry *entry = table_slot(&conf->index->managed, domain);

    return entry->name ? entry->domain : NULL;
}

bool conf_redirects_to(const struct conf *conf, const char *domain)
{
    return table_slot(&conf->index->redirects, domain)->name != NULL;
}

void conf_journal_path(const struct conf *conf, char *out, size_t size)
{
    int len = snprintf(out, size, "%s/journal", conf->state_dir);

    if ((len < 0 || (size_t)len >= size) && size > 0)
        out[0] = '\0';
}
