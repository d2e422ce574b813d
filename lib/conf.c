/*
 * conf: reads sluice.conf with libConfuse, and checks it.
 *
 * The file is read whole (conf_file.c), parsed with a check on every value as it
 * is met, so that a message can name the line (conf_key.c), and then turned into
 * one immutable struct conf. What needs more than one value is checked then:
 * names that two domains claim, a domain that would be redirected to itself, a
 * domain without the next hop that this host's side needs.
 *
 * Diagnostics: the first mistake only, as "<path>:<line>: <what is wrong>", or
 * "<path>: ..." for what belongs to no line. A mistake in a whole section names
 * the section's last line.
 *
 * libConfuse's scanner keeps global state: loading is serialized by a mutex.
 * This is the only file that knows libConfuse.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <confuse.h>

#include "conf.h"
#include "conf_file.h"
#include "conf_host.h"
#include "conf_index.h"
#include "conf_key.h"
#include "conf_value.h"

#define DEFAULT_PORT    25
#define DEFAULT_SOCKETS "unix:/var/spool/postfix/sluice/"
#define OPTION_SEEN     (1 << 24) /* a flag of our own in cfg_opt_t.flags */
#define RECORDS_MAX     256       /* of one domain */
#define PING_LONGEST    86400     /* seconds that a probe may take */
#define RECORD_VALUES   64        /* of one name and type */

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

/* ---- the keys, for libConfuse ------------------------------------------- */

static cfg_opt_t milter_opts[] = {
    CFG_STR("listen", DEFAULT_SOCKETS "milter.sock", CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t policyd_opts[] = {
    CFG_STR("policy", DEFAULT_SOCKETS "policy.sock", CFGF_NONE),
    CFG_STR("map", DEFAULT_SOCKETS "map.sock", CFGF_NONE),
    CFG_STR("http", NULL, CFGF_NONE),
    CFG_STR("http-password-file", NULL, CFGF_NONE),
    CFG_STR_LIST("http-hosts", NULL, CFGF_NONE),
    CFG_STR_LIST("alarm-command", NULL, CFGF_NONE),
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
static char trusted_default[] = "{\"127.0.0.0/8\", \"::1\"}"; /* libConfuse: not const */
static cfg_opt_t auth_opts[] = {
    CFG_BOOL("spf", cfg_true, CFGF_NONE),
    CFG_BOOL("dkim", cfg_true, CFGF_NONE),
    CFG_BOOL("dmarc", cfg_true, CFGF_NONE),
    CFG_BOOL("received-spf", cfg_false, CFGF_NONE),
    CFG_STR("enforce", "none", CFGF_NONE),
    CFG_STR("authserv-id", NULL, CFGF_NONE),
    CFG_STR_LIST("trusted", trusted_default, CFGF_NONE),
    CFG_STR_LIST("servers", NULL, CFGF_NONE),
    CFG_STR_LIST("stub-zones", NULL, CFGF_NONE),
    CFG_STR("trust-anchor", NULL, CFGF_NONE),
    CFG_STR("dmarc-discovery", "psl", CFGF_NONE),
    CFG_INT("query-timeout", 5000, CFGF_NONE),
    CFG_INT("message-timeout", 10000, CFGF_NONE),
    CFG_INT("signatures", 8, CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t srs_opts[] = {
    CFG_STR("domain", NULL, CFGF_NONE),
    CFG_STR("secret-file", NULL, CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t dns_opts[] = {
    CFG_STR_LIST("resolvers", NULL, CFGF_NONE), CFG_STR_LIST("parent", NULL, CFGF_NONE),
    CFG_STR("server", NULL, CFGF_NONE),         CFG_INT("port", 53, CFGF_NONE),
    CFG_STR("key-file", NULL, CFGF_NONE),       CFG_STR_LIST("command", NULL, CFGF_NONE),
    CFG_INT("timeout", 3000, CFGF_NONE),        CFG_END(),
};
static char folders_default[] = "{\"INBOX\"}";
static cfg_opt_t mailbox_opts[] = {
    CFG_STR("imap", NULL, CFGF_NONE),
    CFG_STR("tls", "tls", CFGF_NONE),
    CFG_STR("tls-name", NULL, CFGF_NONE),
    CFG_STR("ca-file", NULL, CFGF_NONE),
    CFG_STR("pin", NULL, CFGF_NONE),
    CFG_STR("user", NULL, CFGF_NONE),
    CFG_STR("password-file", NULL, CFGF_NONE),
    CFG_STR_LIST("folders", folders_default, CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t ping_opts[] = {
    CFG_STR("smtp", NULL, CFGF_NONE),
    CFG_STR("tls", NULL, CFGF_NONE),
    CFG_STR("tls-name", NULL, CFGF_NONE),
    CFG_STR("ca-file", NULL, CFGF_NONE),
    CFG_STR("pin", NULL, CFGF_NONE),
    CFG_STR("user", NULL, CFGF_NONE),
    CFG_STR("password-file", NULL, CFGF_NONE),
    CFG_STR("from", NULL, CFGF_NONE),
    CFG_STR("to", NULL, CFGF_NONE),
    CFG_STR_LIST("mailboxes", NULL, CFGF_NONE),
    CFG_STR("warning", "30s", CFGF_NONE),
    CFG_STR("critical", "2m", CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t record_opts[] = {
    CFG_STR("name", NULL, CFGF_NONE),
    CFG_STR_LIST("value", NULL, CFGF_NONE),
    CFG_INT("ttl", 600, CFGF_NONE),
    CFG_END(),
};
static cfg_opt_t domain_opts[] = {
    CFG_STR_LIST("same-as", NULL, CFGF_NONE),
    CFG_STR("old", NULL, CFGF_NONE),
    CFG_STR("new", NULL, CFGF_NONE),
    CFG_STR("new-address", NULL, CFGF_NONE),
    CFG_STR_LIST("redirect-domains", NULL, CFGF_NONE),
    CFG_BOOL("copy-outbound", cfg_false, CFGF_NONE),
    CFG_STR("lock-deadline", NULL, CFGF_NONE),
    CFG_SEC("record", record_opts, CFGF_MULTI | CFGF_TITLE),
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
    CFG_STR("lock-deadline", "4h", CFGF_NONE),
    CFG_STR("playbooks", PLAYBOOKDIR, CFGF_NONE),
    CFG_STR("log", "syslog", CFGF_NONE),
    CFG_STR("recipient-delimiter", "+", CFGF_NONE),
    CFG_SEC("milter", milter_opts, CFGF_NONE),
    CFG_SEC("policyd", policyd_opts, CFGF_NONE),
    CFG_SEC("sync", sync_opts, CFGF_NONE),
    CFG_SEC("auth", auth_opts, CFGF_NONE),
    CFG_SEC("srs", srs_opts, CFGF_NONE),
    CFG_SEC("dns", dns_opts, CFGF_NONE),
    CFG_SEC("mailbox", mailbox_opts, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_SEC("ping", ping_opts, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_SEC("domain", domain_opts, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
    CFG_END(),
};

/* libConfuse calls this after each value, in a list after each element; 0 is
 * good. */
static int on_value(cfg_t *cfg, cfg_opt_t *opt)
{
    bool top = strcmp(cfg->name, "root") == 0;
    const struct conf_key *key = conf_key_find(top ? NULL : cfg->name, opt->name);
    char wrong[512];

    if (!key || opt->nvalues == 0)
        return 0;
    if (!(opt->flags & CFGF_LIST) && opt->flags & OPTION_SEEN)
        fail(cfg->line, "%s is given twice", opt->name);
    opt->flags |= OPTION_SEEN;
    if (opt->type == CFGT_INT) {
        long value = cfg_opt_getnint(opt, 0);
        if (value < key->min || value > key->max)
            fail(cfg->line, "%s = %ld: must be %ld to %ld", opt->name, value, key->min,
                 key->max);
    } else if (opt->type == CFGT_STR && key->check) {
        const char *value = cfg_opt_getnstr(opt, opt->nvalues - 1);
        if (!key->check(key, value ? value : "", wrong, sizeof(wrong)))
            fail(cfg->line, "%s", wrong);
    }
    return report.failed ? -1 : 0;
}

static int on_title(cfg_t *cfg, cfg_opt_t *opt, const struct conf_key *key)
{
    cfg_t *section = opt->nvalues > 0 ? cfg_opt_getnsec(opt, opt->nvalues - 1) : NULL;
    const char *name = section ? cfg_title(section) : NULL;
    char wrong[512];

    if (!key->check(key, name ? name : "", wrong, sizeof(wrong)))
        fail(cfg->line, "%s", wrong);
    return report.failed ? -1 : 0;
}

static int on_domain(cfg_t *cfg, cfg_opt_t *opt)
{
    return on_title(cfg, opt, &conf_key_domain);
}

static int on_mailbox(cfg_t *cfg, cfg_opt_t *opt)
{
    return on_title(cfg, opt, &conf_key_mailbox);
}

static int on_ping(cfg_t *cfg, cfg_opt_t *opt)
{
    if (opt->nvalues > CONF_PING_MAX)
        fail(cfg->line, "more than %d ping sections", CONF_PING_MAX);
    return on_title(cfg, opt, &conf_key_ping);
}

/* An auth section, even an empty one, is what turns verification on. */
static int on_auth(cfg_t *cfg, cfg_opt_t *opt)
{
    (void)cfg;
    opt->flags |= OPTION_SEEN;
    return report.failed ? -1 : 0;
}

static bool record_type(const char *word, enum dns_type *out)
{
    return word && dns_type_parse(word, out) && *out != DNS_NS && *out != DNS_SOA;
}

/* The last value of the list so far, by the type in the section's title. */
static int on_record_value(cfg_t *cfg, cfg_opt_t *opt)
{
    static char canonical[DNS_VALUE_MAX + 1]; /* under load_lock */
    const char *value = opt->nvalues > 0 ? cfg_opt_getnstr(opt, opt->nvalues - 1) : NULL;
    enum dns_type type;

    if (!record_type(cfg_title(cfg), &type))
        return 0; /* on_record() says so */
    const char *wrong =
        dns_value(type, value ? value : "", "_.invalid", canonical, sizeof(canonical));
    if (wrong)
        fail(cfg->line, "value = \"%.200s\": %s", value ? value : "", wrong);
    return report.failed ? -1 : 0;
}

/* Called when a record section has ended. libConfuse lets a section replace an
 * earlier one of the same title: so each gets a title that no other has, its number
 * behind a byte that no type can hold. */
static int on_record(cfg_t *cfg, cfg_opt_t *opt)
{
    cfg_t *section = opt->nvalues > 0 ? cfg_opt_getnsec(opt, opt->nvalues - 1) : NULL;
    enum dns_type type;
    char *title;

    if (!section || !record_type(cfg_title(section), &type)) {
        fail(cfg->line, "record \"%s\": must be one of MX|TXT|CNAME|A|AAAA|SRV",
             section && cfg_title(section) ? cfg_title(section) : "");
        return -1;
    }
    if (opt->nvalues > RECORDS_MAX)
        fail(cfg->line, "more than %d record sections in one domain", RECORDS_MAX);
    if (asprintf(&title, "%s\n%u", dns_type_name(type), opt->nvalues) < 0) {
        no_memory();
        return -1;
    }
    free(section->title);
    section->title = title;
    return report.failed ? -1 : 0;
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
    char text[ADDR_DOMAIN_MAX + 16];

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

/* The planned set of this name and type, made when it is new; NULL: no memory. */
static struct conf_record *record_of(struct conf_domain *domain, const char *name,
                                     enum dns_type type)
{
    for (size_t i = 0; i < domain->record_count; i++)
        if (domain->records[i].type == type && strcmp(domain->records[i].name, name) == 0)
            return &domain->records[i];
    struct conf_record *record = &domain->records[domain->record_count];
    record->type = type;
    record->values = calloc(RECORD_VALUES + 1, sizeof(*record->values));
    if (!record->values || !copy_string(&record->name, name)) {
        free(record->values);
        record->values = NULL;
        no_memory();
        return NULL;
    }
    domain->record_count++;
    return record;
}

static bool add_record_value(cfg_t *cfg, const struct conf_domain *domain,
                             struct conf_record *record, const char *value)
{
    static char canonical[DNS_VALUE_MAX + 1]; /* under load_lock */
    size_t count = list_length(record->values);
    const char *wrong =
        dns_value(record->type, value, domain->name, canonical, sizeof(canonical));

    if (wrong)
        return fail(cfg->line, "value = \"%.200s\": %s", value, wrong);
    if (list_has(record->values, canonical))
        return fail(cfg->line, "%s record %s has the value \"%.200s\" twice",
                    dns_type_name(record->type), record->name, value);
    if (count >= RECORD_VALUES || (record->type == DNS_CNAME && count > 0))
        return fail(cfg->line, "%s record %s has more than %d values",
                    dns_type_name(record->type), record->name,
                    record->type == DNS_CNAME ? 1 : RECORD_VALUES);
    return copy_string(&record->values[count], canonical);
}

/* RFC 1034 3.6.2: a CNAME stands alone. */
static bool check_alias(cfg_t *cfg, const struct conf_domain *domain,
                        const struct conf_record *record)
{
    if (record->type == DNS_CNAME && strcmp(record->name, domain->name) == 0)
        return fail(cfg->line, "record \"CNAME\": the domain itself cannot be one");
    for (size_t i = 0; i < domain->record_count; i++) {
        const struct conf_record *other = &domain->records[i];
        if (other != record && strcmp(other->name, record->name) == 0 &&
            (other->type == DNS_CNAME || record->type == DNS_CNAME))
            return fail(cfg->line, "%s has a CNAME and another record: a CNAME is alone",
                        record->name);
    }
    return true;
}

static bool build_record(cfg_t *cfg, struct conf_domain *domain)
{
    const char *owner = cfg_getstr(cfg, "name");
    char word[16], name[DNSRECORD_NAME_MAX + 1];
    enum dns_type type;

    snprintf(word, sizeof(word), "%.*s", (int)strcspn(cfg_title(cfg), "\n"),
             cfg_title(cfg));
    if (!record_type(word, &type))
        return fail(cfg->line, "record \"%s\": not a type", word);
    if (!owner || cfg_size(cfg, "value") == 0)
        return fail(cfg->line, "record \"%s\" has no %s", word, owner ? "value" : "name");
    const char *wrong = dns_owner(owner, domain->name, name);
    if (wrong)
        return fail(cfg->line, "name = \"%s\" %s", owner, wrong);
    struct conf_record *record = record_of(domain, name, type);
    if (!record)
        return false;
    uint32_t ttl = (uint32_t)cfg_getint(cfg, "ttl");
    if (record->values[0] && record->ttl != ttl)
        return fail(cfg->line, "%s record %s has two values of ttl", word, name);
    record->ttl = ttl;
    for (unsigned i = 0; i < cfg_size(cfg, "value"); i++)
        if (!add_record_value(cfg, domain, record, cfg_getnstr(cfg, "value", i)))
            return false;
    return check_alias(cfg, domain, record);
}

static bool build_records(cfg_t *cfg, struct conf_domain *domain)
{
    unsigned n = cfg_size(cfg, "record");

    domain->records = calloc((size_t)n + 1, sizeof(*domain->records));
    if (!domain->records)
        return no_memory();
    for (unsigned i = 0; i < n; i++)
        if (!build_record(cfg_getnsec(cfg, "record", i), domain))
            return false;
    return true;
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
           build_new_address(cfg, domain) && build_records(cfg, domain) &&
           check_domain(cfg, side, domain);
}

static bool index_name(cfg_t *cfg, struct conf_index *index,
                       const struct conf_domain *domain, const char *name)
{
    const struct conf_domain *other = conf_index_add(index, name, domain);

    if (other == domain)
        return fail(cfg->line, "domain \"%s\" has the name \"%s\" twice", domain->name,
                    name);
    if (other)
        return fail(cfg->line, "domains \"%s\" and \"%s\" both have the name \"%s\"",
                    other->name, domain->name, name);
    return true;
}

static bool index_domain(cfg_t *cfg, struct conf *conf, const struct conf_domain *domain)
{
    if (!index_name(cfg, conf->managed, domain, domain->name))
        return false;
    for (char **name = domain->same_as; *name; name++)
        if (!index_name(cfg, conf->managed, domain, *name))
            return false;
    for (char **name = domain->redirect_domains; *name; name++)
        conf_index_add(conf->redirects, *name, domain); /* may be shared */
    return true;
}

static bool build_indexes(cfg_t *cfg, struct conf *conf)
{
    unsigned n = cfg_size(cfg, "domain");
    size_t names = n, redirects = n; /* the name, and that of new-address */

    for (unsigned i = 0; i < n; i++) {
        names += cfg_size(cfg_getnsec(cfg, "domain", i), "same-as");
        redirects += cfg_size(cfg_getnsec(cfg, "domain", i), "redirect-domains");
    }
    conf->literals = conf_host_literals();
    if (!conf->literals)
        return no_memory();
    conf->managed = conf_index_new(names + list_length(conf->literals));
    conf->redirects = conf_index_new(redirects);
    return (conf->managed && conf->redirects) || no_memory();
}

/* user@[this host's address] is delivered where user@localhost is, and no list in
 * main.cf says so. */
static void index_literals(struct conf *conf)
{
    const struct conf_domain *local = conf_index_find(conf->managed, "localhost");

    if (!local)
        local = conf_index_find(conf->managed, conf->hostname);
    for (char **literal = conf->literals; local && *literal; literal++)
        conf_index_add(conf->managed, *literal, local); /* same-as comes first */
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
    conf->mta = MTA_POSTFIX;
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
           build_string(cfg, "playbooks", &conf->playbooks) &&
           build_string(cfg, "recipient-delimiter", &conf->recipient_delimiter);
}

/* "none": 0; not given: otherwise. */
static bool build_deadline(cfg_t *cfg, int otherwise, int *out)
{
    const char *value = cfg_getstr(cfg, "lock-deadline");

    *out = value ? 0 : otherwise;
    return !value || strcmp(value, "none") == 0 || conf_duration(value, out) ||
           fail(cfg->line, "lock-deadline is not valid");
}

/* What is reached from this host alone: a unix socket, or a loopback address. */
static bool is_local(const struct conf_endpoint *at)
{
    struct netaddr address;

    return at->path || strcmp(at->host, "localhost") == 0 ||
           (netaddr_parse(at->host, strlen(at->host), &address) &&
            netaddr_is_loopback(&address));
}

static bool build_http(cfg_t *cfg, struct conf *conf)
{
    struct conf_http *http = &conf->http;
    struct conf_mistake mistake;
    unsigned n = cfg_size(cfg, "http-hosts");
    char name[ADDR_DOMAIN_MAX + 1];

    http->hosts = calloc((size_t)n + 1, sizeof(*http->hosts));
    if (!http->hosts)
        return no_memory();
    for (unsigned i = 0; i < n; i++) {
        const char *host = cfg_getnstr(cfg, "http-hosts", i);
        if (!addr_domain(host, strlen(host), name))
            return fail(cfg->line, "http-hosts: \"%s\" is not a host name", host);
        if (!copy_string(&http->hosts[i], name))
            return false;
    }
    if (!build_endpoint(cfg, "http", &http->listen) ||
        !build_string(cfg, "http-password-file", &http->password_file))
        return false;
    if (http->listen.text && !is_local(&http->listen) && !http->password_file)
        return fail(cfg->line,
                    "http = \"%s\": that is not a loopback address, so it needs an "
                    "http-password-file",
                    http->listen.text);
    if (!http->password_file)
        return true;
    http->password = conf_read_password("http-password-file", http->password_file,
                                        conf->user, &mistake);
    return http->password || fail_mistake(&mistake);
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
           build_http(policyd, conf) &&
           build_argv(policyd, "alarm-command", &conf->alarm_command) &&
           build_deadline(cfg, 0, &conf->lock_deadline) &&
           build_argv(sync, "command", &conf->sync.command) &&
           build_argv(sync, "reverse-command", &conf->sync.reverse_command);
}

static bool build_trusted(cfg_t *cfg, struct conf_auth *auth)
{
    unsigned n = cfg_size(cfg, "trusted");

    auth->trusted = calloc((size_t)n + 1, sizeof(*auth->trusted));
    if (!auth->trusted)
        return no_memory();
    for (unsigned i = 0; i < n; i++)
        if (!netblock_parse(cfg_getnstr(cfg, "trusted", i),
                            &auth->trusted[auth->trusted_count++]))
            return fail(cfg->line, "trusted: not an address or block");
    return true;
}

static bool build_servers(cfg_t *cfg, const char *name, struct conf_server **out,
                          size_t *count)
{
    unsigned n = cfg_size(cfg, name);

    *out = calloc((size_t)n + 1, sizeof(**out));
    if (!*out)
        return no_memory();
    for (unsigned i = 0; i < n; i++)
        if (conf_server(cfg_getnstr(cfg, name, i), &(*out)[(*count)++]))
            return fail(cfg->line, "%s: not an address", name);
    return true;
}

static bool build_stubs(cfg_t *cfg, struct conf_auth *auth)
{
    unsigned n = cfg_size(cfg, "stub-zones");
    char zone[ADDR_DOMAIN_MAX + 1];

    auth->stubs = calloc((size_t)n + 1, sizeof(*auth->stubs));
    if (!auth->stubs)
        return no_memory();
    for (unsigned i = 0; i < n; i++) {
        struct conf_stub *stub = &auth->stubs[auth->stub_count++];
        if (conf_stub(cfg_getnstr(cfg, "stub-zones", i), zone, &stub->server))
            return fail(cfg->line, "stub-zones: not a zone and its server");
        if (!copy_string(&stub->zone, zone))
            return false;
    }
    return true;
}

/* What two keys of the section say together. */
static bool check_auth(cfg_t *cfg, const struct conf_auth *auth)
{
    if (auth->message_timeout < auth->query_timeout)
        return fail(cfg->line, "message-timeout = %d: less than query-timeout = %d",
                    auth->message_timeout, auth->query_timeout);
    /* A message passes DMARC by either of the two. */
    if (auth->enforce != ENFORCE_NONE && !(auth->spf && auth->dkim && auth->dmarc))
        return fail(cfg->line, "enforce = %s: needs spf, dkim and dmarc",
                    cfg_getstr(cfg, "enforce"));
    return true;
}

static bool build_auth(cfg_t *root, struct conf *conf)
{
    cfg_t *cfg = cfg_getsec(root, "auth");
    struct conf_auth *auth = &conf->auth;
    const char *id = cfg_getstr(cfg, "authserv-id");
    struct conf_mistake mistake;

    if (cfg_getopt(root, "auth")->flags & OPTION_SEEN) {
        auth->spf = cfg_getbool(cfg, "spf");
        auth->dkim = cfg_getbool(cfg, "dkim");
        auth->dmarc = cfg_getbool(cfg, "dmarc");
        auth->received_spf = cfg_getbool(cfg, "received-spf");
    }
    auth->enforce = is_word(cfg, "enforce", "none")         ? ENFORCE_NONE
                    : is_word(cfg, "enforce", "quarantine") ? ENFORCE_QUARANTINE
                                                            : ENFORCE_REJECT;
    auth->discovery =
        is_word(cfg, "dmarc-discovery", "psl") ? DISCOVERY_PSL : DISCOVERY_TREEWALK;
    auth->query_timeout = (int)cfg_getint(cfg, "query-timeout");
    auth->message_timeout = (int)cfg_getint(cfg, "message-timeout");
    auth->signatures = (int)cfg_getint(cfg, "signatures");
    if (!copy_string(&auth->authserv_id, id ? id : conf->hostname) ||
        !build_trusted(cfg, auth) ||
        !build_servers(cfg, "servers", &auth->servers, &auth->server_count) ||
        !build_stubs(cfg, auth) ||
        !build_string(cfg, "trust-anchor", &auth->trust_anchor) || !check_auth(cfg, auth))
        return false;
    return !auth->trust_anchor ||
           conf_check_file("trust-anchor", auth->trust_anchor, conf->user, &mistake) ||
           fail_mistake(&mistake);
}

static bool build_dns(cfg_t *root, struct conf *conf)
{
    cfg_t *cfg = cfg_getsec(root, "dns");
    struct conf_dns *dns = &conf->dns;
    const char *server = cfg_getstr(cfg, "server");

    dns->port = (uint16_t)cfg_getint(cfg, "port");
    dns->timeout = (int)cfg_getint(cfg, "timeout");
    dns->server.address.family = AF_UNSPEC;
    if (server && conf_server(server, &dns->server))
        return fail(cfg->line, "server: not an address");
    return build_servers(cfg, "resolvers", &dns->resolvers, &dns->resolver_count) &&
           build_servers(cfg, "parent", &dns->parents, &dns->parent_count) &&
           build_string(cfg, "key-file", &dns->key_file) &&
           build_argv(cfg, "command", &dns->command);
}

/* ---- mailboxes and paths of ping ----------------------------------------- */

/* place: the key with the server's name. Ports are those of RFC 8314 and 6409. */
static bool build_access(cfg_t *cfg, const char *place, const uint16_t ports[3],
                         struct conf_access *access)
{
    const char *value = cfg_getstr(cfg, place);
    struct conf_host_port hp = { .port = 0 };

    if (!value || conf_host_port(value, &hp))
        return fail(cfg->line,
                    "%s is not set in the section that ends here: %s = "
                    "\"host:port\"",
                    place, place);
    access->tls = is_word(cfg, "tls", "tls")        ? CONF_TLS_ALWAYS
                  : is_word(cfg, "tls", "starttls") ? CONF_TLS_STARTTLS
                                                    : CONF_TLS_NONE;
    access->port = hp.port ? hp.port : ports[access->tls];
    if (!copy_string(&access->host, hp.host) ||
        !build_string(cfg, "tls-name", &access->tls_name) ||
        !build_string(cfg, "ca-file", &access->ca_file) ||
        !build_string(cfg, "pin", &access->pin) ||
        !build_string(cfg, "user", &access->user) ||
        !build_string(cfg, "password-file", &access->password_file))
        return false;
    if (!access->user != !access->password_file)
        return fail(cfg->line, "user and password-file belong together");
    if (access->tls == CONF_TLS_NONE &&
        (access->tls_name || access->ca_file || access->pin))
        return fail(cfg->line, "tls-name, ca-file or pin with tls = none");
    if (access->pin && (access->ca_file || access->tls_name))
        return fail(cfg->line,
                    "pin stands instead of ca-file and tls-name, not with them");
    return true;
}

static bool build_mailbox(cfg_t *cfg, struct conf_mailbox *mailbox)
{
    static const uint16_t ports[] = { 143, 143, 993 };

    if (!copy_string(&mailbox->name, cfg_title(cfg)) ||
        !build_access(cfg, "imap", ports, &mailbox->imap))
        return false;
    if (!mailbox->imap.user)
        return fail(cfg->line, "mailbox \"%s\" has no user and password-file",
                    mailbox->name);
    if (cfg_size(cfg, "folders") == 0 || cfg_size(cfg, "folders") > 8)
        return fail(cfg->line, "folders: must be 1 to 8");
    return build_list(cfg, "folders", false, 0, &mailbox->folders);
}

static bool build_address(cfg_t *cfg, const char *name, char **out)
{
    const char *value = cfg_getstr(cfg, name);
    struct addr addr;
    char text[ADDR_TEXT_MAX + 1];

    enum addr_kind kind = addr_parse(value, strlen(value), &addr);
    if (kind == ADDR_NULL)
        return copy_string(out, "");
    if (kind != ADDR_OK)
        return fail(cfg->line, "%s = \"%s\": not an address", name, value);
    addr_format(addr.local, addr.domain, text);
    return copy_string(out, text);
}

static bool find_mailboxes(cfg_t *cfg, const struct conf *conf, struct conf_ping *ping)
{
    unsigned n = cfg_size(cfg, "mailboxes");

    if (n == 0 || n > CONF_PING_MAILBOXES_MAX)
        return fail(cfg->line,
                    "ping \"%s\": mailboxes must name 1 to %d mailbox sections",
                    ping->name, CONF_PING_MAILBOXES_MAX);
    for (unsigned i = 0; i < n; i++) {
        const char *name = cfg_getnstr(cfg, "mailboxes", i);
        const struct conf_mailbox *found = NULL;
        for (size_t k = 0; k < conf->mailbox_count; k++)
            if (strcmp(conf->mailboxes[k].name, name) == 0)
                found = &conf->mailboxes[k];
        if (!found)
            return fail(cfg->line, "ping \"%s\": there is no mailbox \"%s\"", ping->name,
                        name);
        for (size_t k = 0; k < ping->mailbox_count; k++)
            if (ping->mailboxes[k] == found)
                return fail(cfg->line, "ping \"%s\": mailbox \"%s\" is named twice",
                            ping->name, name);
        ping->mailboxes[ping->mailbox_count++] = found;
    }
    return true;
}

static bool build_ping(cfg_t *cfg, const struct conf *conf, struct conf_ping *ping)
{
    static const uint16_t relay[] = { 25, 25, 465 }, submission[] = { 25, 587, 465 };
    bool login = cfg_getstr(cfg, "user");

    if (!copy_string(&ping->name, cfg_title(cfg)))
        return false;
    if (!cfg_getstr(cfg, "to"))
        return fail(cfg->line, "ping \"%s\": to is not set", ping->name);
    /* Written or not, a password goes over TLS unless tls = none is said. */
    if (!cfg_getstr(cfg, "tls"))
        cfg_setstr(cfg, "tls", login ? "starttls" : "none");
    if (!build_access(cfg, "smtp", login ? submission : relay, &ping->smtp) ||
        !build_address(cfg, "to", &ping->to) ||
        !build_address(cfg, cfg_getstr(cfg, "from") ? "from" : "to", &ping->from) ||
        !find_mailboxes(cfg, conf, ping))
        return false;
    if (!conf_duration(cfg_getstr(cfg, "warning"), &ping->warning) ||
        !conf_duration(cfg_getstr(cfg, "critical"), &ping->critical) ||
        ping->critical > PING_LONGEST || ping->warning > ping->critical)
        return fail(cfg->line,
                    "ping \"%s\": warning = %s, critical = %s: the first must not be the "
                    "longer one, and neither more than a day",
                    ping->name, cfg_getstr(cfg, "warning"), cfg_getstr(cfg, "critical"));
    return true;
}

static bool build_pings(cfg_t *root, struct conf *conf)
{
    unsigned mailboxes = cfg_size(root, "mailbox"), pings = cfg_size(root, "ping");

    conf->mailboxes = calloc((size_t)mailboxes + 1, sizeof(*conf->mailboxes));
    conf->pings = calloc((size_t)pings + 1, sizeof(*conf->pings));
    if (!conf->mailboxes || !conf->pings)
        return no_memory();
    for (unsigned i = 0; i < mailboxes; i++)
        if (!build_mailbox(cfg_getnsec(root, "mailbox", i),
                           &conf->mailboxes[conf->mailbox_count++]))
            return false;
    for (unsigned i = 0; i < pings; i++)
        if (!build_ping(cfg_getnsec(root, "ping", i), conf,
                        &conf->pings[conf->ping_count++]))
            return false;
    return true;
}

static bool build_srs(cfg_t *root, struct conf *conf)
{
    cfg_t *cfg = cfg_getsec(root, "srs");
    const char *domain = cfg_getstr(cfg, "domain");
    char name[ADDR_DOMAIN_MAX + 1];
    struct conf_mistake mistake;

    if (!domain && !cfg_getstr(cfg, "secret-file"))
        return true;
    if (!domain || !cfg_getstr(cfg, "secret-file"))
        return fail(cfg->line, "srs needs both domain and secret-file");
    if (!addr_domain(domain, strlen(domain), name))
        return fail(cfg->line, "domain: \"%s\" is not a domain name", domain);
    if (!copy_string(&conf->srs.domain, name) ||
        !build_string(cfg, "secret-file", &conf->srs.secret_file))
        return false;
    conf->srs.secrets =
        conf_read_secrets("secret-file", conf->srs.secret_file, conf->user, &mistake);
    return conf->srs.secrets || fail_mistake(&mistake);
}

static bool build_domains(cfg_t *cfg, struct conf *conf)
{
    unsigned n = cfg_size(cfg, "domain");

    conf->domains = calloc((size_t)n + 1, sizeof(*conf->domains));
    if (!conf->domains)
        return no_memory();
    if (!build_indexes(cfg, conf))
        return false;
    for (unsigned i = 0; i < n; i++) {
        cfg_t *section = cfg_getnsec(cfg, "domain", i);
        struct conf_domain *domain = &conf->domains[conf->domain_count++];
        if (!build_domain(section, conf->side, domain) ||
            !build_deadline(section, conf->lock_deadline, &domain->lock_deadline) ||
            !index_domain(section, conf, domain))
            return false;
    }
    index_literals(conf);
    return true;
}

static bool build_password(struct conf *conf)
{
    struct conf_mistake mistake;

    if (!conf->redis_password_file)
        return true;
    conf->redis_password = conf_read_password(
        "redis-password-file", conf->redis_password_file, conf->user, &mistake);
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
        build_sections(cfg, conf) && build_auth(cfg, conf) && build_srs(cfg, conf) &&
        build_dns(cfg, conf) && build_pings(cfg, conf) && build_domains(cfg, conf) &&
        build_password(conf))
        return conf;
    conf_unref(conf);
    return NULL;
}

/* ---- loading ----------------------------------------------------------- */

static void watch_values(cfg_t *cfg)
{
    char name[128];

    for (size_t i = 0; i < conf_key_count; i++) {
        const struct conf_key *key = &conf_keys[i];
        const char *section = key->section ? key->section : "";
        bool inner = strcmp(section, "record") == 0;
        int len = snprintf(name, sizeof(name), "%s%s%s%s", inner ? "domain|" : "",
                           section, *section ? "|" : "", key->name);
        if (len > 0 && (size_t)len < sizeof(name))
            cfg_set_validate_func(cfg, name, on_value);
    }
    cfg_set_validate_func(cfg, "domain|record|value", on_record_value);
    cfg_set_validate_func(cfg, "domain|record", on_record);
    cfg_set_validate_func(cfg, "domain", on_domain);
    cfg_set_validate_func(cfg, "mailbox", on_mailbox);
    cfg_set_validate_func(cfg, "ping", on_ping);
    cfg_set_validate_func(cfg, "auth", on_auth);
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
    for (size_t i = 0; i < domain->record_count; i++) {
        free(domain->records[i].name);
        free_list(domain->records[i].values);
    }
    free(domain->records);
}

static void free_auth(struct conf_auth *auth)
{
    for (size_t i = 0; i < auth->stub_count; i++)
        free(auth->stubs[i].zone);
    free(auth->stubs);
    free(auth->servers);
    free(auth->trusted);
    free(auth->authserv_id);
    free(auth->trust_anchor);
}

static void free_access(struct conf_access *access)
{
    free(access->host);
    free(access->tls_name);
    free(access->ca_file);
    free(access->pin);
    free(access->user);
    free(access->password_file);
}

static void free_pings(struct conf *conf)
{
    for (size_t i = 0; i < conf->mailbox_count; i++) {
        free(conf->mailboxes[i].name);
        free_access(&conf->mailboxes[i].imap);
        free_list(conf->mailboxes[i].folders);
    }
    for (size_t i = 0; i < conf->ping_count; i++) {
        free(conf->pings[i].name);
        free_access(&conf->pings[i].smtp);
        free(conf->pings[i].from);
        free(conf->pings[i].to);
    }
    free(conf->mailboxes);
    free(conf->pings);
}

static void free_conf(struct conf *conf)
{
    for (size_t i = 0; i < conf->domain_count; i++)
        free_domain(&conf->domains[i]);
    free(conf->domains);
    conf_index_free(conf->managed);
    conf_index_free(conf->redirects);
    free_list(conf->literals);
    free_list(conf->sync.command);
    free_list(conf->sync.reverse_command);
    free_endpoint(&conf->redis);
    free_endpoint(&conf->milter_listen);
    free_endpoint(&conf->policy_listen);
    free_endpoint(&conf->map_listen);
    free_endpoint(&conf->http.listen);
    free(conf->http.password_file);
    conf_free_secret(conf->http.password);
    free_list(conf->http.hosts);
    free_list(conf->alarm_command);
    free(conf->path);
    free(conf->hostname);
    free(conf->redis_user);
    free(conf->redis_password_file);
    conf_free_secret(conf->redis_password);
    free_auth(&conf->auth);
    free(conf->dns.resolvers);
    free(conf->dns.parents);
    free(conf->dns.key_file);
    free_list(conf->dns.command);
    free_pings(conf);
    free(conf->srs.domain);
    free(conf->srs.secret_file);
    conf_free_secrets(conf->srs.secrets);
    free(conf->postfix_config);
    free(conf->postfix_commands);
    free(conf->user);
    free(conf->group);
    free(conf->state_dir);
    free(conf->playbooks);
    free(conf->recipient_delimiter);
    free(conf);
}

struct conf *conf_reload(const struct conf *present, char *error, size_t error_size)
{
    struct conf *conf = conf_load(present->path, error, error_size);
    const char *changed = NULL;
    if (!conf)
        return NULL;
    if (strcmp(conf->hostname, present->hostname) != 0)
        changed = "hostname";
    else if (conf->side != present->side)
        changed = "side";
    else if (strcmp(conf->state_dir, present->state_dir) != 0)
        changed = "state-dir";
    if (!changed)
        return conf;
    snprintf(error, error_size, "%s: %s has changed, which needs a restart", conf->path,
             changed);
    conf_unref(conf);
    return NULL;
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
    return conf_index_find(conf->managed, domain);
}

bool conf_redirects_to(const struct conf *conf, const char *domain)
{
    return conf_index_find(conf->redirects, domain) != NULL;
}

char *conf_password(const struct conf *conf, const char *path, char *error,
                    size_t error_size)
{
    struct conf_mistake mistake = { 0 };
    char *password = conf_read_password("password-file", path, conf->user, &mistake);

    if (!password)
        snprintf(error, error_size, "%s", mistake.text);
    return password;
}

void conf_password_free(char *password)
{
    conf_free_secret(password);
}

void conf_journal_path(const struct conf *conf, char *out, size_t size)
{
    int len = snprintf(out, size, "%s/journal", conf->state_dir);

    if ((len < 0 || (size_t)len >= size) && size > 0)
        out[0] = '\0';
}
