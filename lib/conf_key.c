/*
 * conf_key: the table of keys. It is the truth about names, limits and allowed
 * words; conf/sluice.conf and sluice.conf(5) tell the admin the same. Defaults
 * stand in conf.c, in the form that libConfuse wants.
 *
 * A check looks at one value alone. What depends on two of them (a domain that
 * is redirected to itself, a next hop that this host's side needs) is checked
 * in conf.c, when all are known. Messages repeat the value where it is short,
 * and say what would be right.
 */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "addr.h"
#include "conf_key.h"
#include "conf_value.h"
#include "dnsrecord.h"

#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

__attribute__((format(printf, 3, 4))) static bool say(char *wrong, size_t size,
                                                      const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    if (vsnprintf(wrong, size, fmt, args) < 0 && size > 0)
        wrong[0] = '\0';
    va_end(args);
    return false;
}

static bool check_words(const struct conf_key *key, const char *value, char *wrong,
                        size_t size)
{
    size_t len = strlen(value);
    const char *word = key->words;

    while (*word) {
        size_t word_len = strcspn(word, "|");
        if (len > 0 && len == word_len && strncmp(word, value, len) == 0)
            return true;
        word += word_len + (word[word_len] == '|');
    }
    return say(wrong, size, "%s = \"%s\": must be one of %s", key->name, value,
               key->words);
}

static bool check_text(const struct conf_key *key, const char *value, char *wrong,
                       size_t size)
{
    size_t len = strlen(value);

    if (len < (size_t)key->min)
        return say(wrong, size, "%s: must not be empty", key->name);
    if (len > (size_t)key->max)
        return say(wrong, size, "%s: longer than %ld bytes", key->name, key->max);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
            return say(wrong, size, "%s: control characters are not allowed", key->name);
    return true;
}

static bool check_path(const struct conf_key *key, const char *value, char *wrong,
                       size_t size)
{
    if (!check_text(key, value, wrong, size))
        return false;
    if (value[0] != '/')
        return say(wrong, size, "%s = \"%s\": must be an absolute path", key->name,
                   value);
    return true;
}

static bool check_delimiter(const struct conf_key *key, const char *value, char *wrong,
                            size_t size)
{
    if (!check_text(key, value, wrong, size))
        return false;
    if (value[strcspn(value, " @\"\\<>")])
        return say(wrong, size, "%s = \"%s\": must not hold space, @, quote, \\, < or >",
                   key->name, value);
    return true;
}

static bool check_hostname(const struct conf_key *key, const char *value, char *wrong,
                           size_t size)
{
    char name[ADDR_DOMAIN_MAX + 1];

    if (!addr_domain(value, strlen(value), name) || name[0] == '[')
        return say(wrong, size, "%s = \"%s\": not a host name", key->name, value);
    return true;
}

static bool check_domain(const struct conf_key *key, const char *value, char *wrong,
                         size_t size)
{
    char name[ADDR_DOMAIN_MAX + 1];

    if (!addr_domain(value, strlen(value), name))
        return say(wrong, size, "%s: \"%s\" is not a domain name", key->name, value);
    return true;
}

/* Where an address literal can only be another name, or none. */
static bool check_title(const struct conf_key *key, const char *value, char *wrong,
                        size_t size)
{
    if (value[0] == '[')
        return say(wrong, size, "%s: \"%s\" is not a domain name", key->name, value);
    return check_domain(key, value, wrong, size);
}

static bool check_endpoint(const struct conf_key *key, const char *value, char *wrong,
                           size_t size)
{
    struct conf_host_port hp = { .port = 0 };

    if (!check_text(key, value, wrong, size))
        return false;
    if (strncmp(value, "unix:", 5) == 0) {
        size_t len = strlen(value + 5);
        if (value[5] != '/')
            return say(wrong, size, "%s = \"%s\": the path must be absolute", key->name,
                       value);
        if (len > SOCKET_PATH_MAX)
            return say(wrong, size,
                       "%s: the socket path has %zu bytes, a unix socket allows %zu",
                       key->name, len, SOCKET_PATH_MAX);
        return true;
    }
    const char *fault =
        conf_host_port(strncmp(value, "tcp:", 4) == 0 ? value + 4 : value, &hp);
    if (!fault && hp.port == 0)
        fault = "has no port";
    if (fault)
        return say(wrong, size,
                   "%s = \"%s\": %s; write \"unix:/path\" or \"tcp:host:port\"",
                   key->name, value, fault);
    return true;
}

static bool check_hop(const struct conf_key *key, const char *value, char *wrong,
                      size_t size)
{
    struct conf_host_port hp = { .port = 0 };

    if (!check_text(key, value, wrong, size))
        return false;
    const char *fault = conf_host_port(value, &hp);
    if (!fault && !hp.brackets && conf_is_address(hp.host))
        fault = "is an address, which Postfix wants in brackets: [address]:port";
    if (fault)
        return say(wrong, size, "%s = \"%s\": %s", key->name, value, fault);
    return true;
}

static bool check_new_address(const struct conf_key *key, const char *value, char *wrong,
                              size_t size)
{
    char name[ADDR_DOMAIN_MAX + 1];
    const char *at = strrchr(value, '@');
    const char *mark = strstr(value, "%l");

    if (!check_text(key, value, wrong, size))
        return false;
    if (!mark || strchr(value, '%') != mark || strchr(mark + 1, '%'))
        return say(wrong, size, "%s = \"%s\": must contain %%l once and no other %%",
                   key->name, value);
    if (!at || mark > at || value[strcspn(value, " \"\\<>")])
        return say(wrong, size, "%s = \"%s\": must be like \"%%l@tenant.example.net\"",
                   key->name, value);
    if (!addr_domain(at + 1, strlen(at + 1), name))
        return say(wrong, size, "%s = \"%s\": \"%s\" is not a domain name", key->name,
                   value, at + 1);
    return true;
}

static bool check_duration(const struct conf_key *key, const char *value, char *wrong,
                           size_t size)
{
    int seconds;

    if (!conf_duration(value, &seconds))
        return say(wrong, size,
                   "%s = \"%s\": must be a number with s, m, h or d, up to 30 days",
                   key->name, value);
    return true;
}

static bool check_deadline(const struct conf_key *key, const char *value, char *wrong,
                           size_t size)
{
    return strcmp(value, "none") == 0 || check_duration(key, value, wrong, size);
}

static bool check_block(const struct conf_key *key, const char *value, char *wrong,
                        size_t size)
{
    struct netblock block;

    if (!netblock_parse(value, &block))
        return say(wrong, size,
                   "%s: \"%s\" is neither an address nor a block like 192.0.2.0/24 (the "
                   "bits after the prefix must be 0)",
                   key->name, value);
    return true;
}

static bool check_server(const struct conf_key *key, const char *value, char *wrong,
                         size_t size)
{
    struct conf_server server;
    const char *fault = conf_server(value, &server);

    return !fault || say(wrong, size, "%s: \"%s\" %s", key->name, value, fault);
}

static bool check_stub(const struct conf_key *key, const char *value, char *wrong,
                       size_t size)
{
    char zone[ADDR_DOMAIN_MAX + 1];
    struct conf_server server;
    const char *fault = conf_stub(value, zone, &server);

    return !fault || say(wrong, size, "%s: \"%s\" %s", key->name, value, fault);
}

static bool check_record_name(const struct conf_key *key, const char *value, char *wrong,
                              size_t size)
{
    char name[DNSRECORD_NAME_MAX + 1];
    size_t len = strlen(value);
    bool full = len > 0 && value[len - 1] == '.';

    if (full ? dnsrecord_name(value, len, name) && name[0]
             : !dns_owner(value, "_.invalid", name))
        return true;
    return say(wrong, size,
               "%s = \"%s\": must be \"@\", a name below the domain, or a full name "
               "with its final dot",
               key->name, value);
}

/* Printed in performance data, stored in Redis, typed by hand. */
static bool check_name(const struct conf_key *key, const char *value, char *wrong,
                       size_t size)
{
    size_t len = strlen(value);

    if (len > 0 && len <= 64 && value[0] != ' ' && value[len - 1] != ' ' &&
        strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                      " ._+-") == len)
        return true;
    return say(wrong, size,
               "%s \"%.100s\": a name has 1 to 64 letters, digits, blanks or . _ + -",
               key->name, value);
}

static bool check_access(const struct conf_key *key, const char *value, char *wrong,
                         size_t size)
{
    struct conf_host_port hp = { .port = 0 };
    const char *fault = NULL;

    if (!check_text(key, value, wrong, size))
        return false;
    fault = conf_host_port(value, &hp);
    if (!fault && hp.host[0] == '[')
        fault = "is not a host";
    return !fault || say(wrong, size, "%s = \"%s\": %s; write \"host:port\"", key->name,
                         value, fault);
}

static bool check_address(const struct conf_key *key, const char *value, char *wrong,
                          size_t size)
{
    struct addr addr;
    enum addr_kind kind = addr_parse(value, strlen(value), &addr);

    if (kind == ADDR_OK || (kind == ADDR_NULL && key->min == 0))
        return true;
    return say(wrong, size, "%s = \"%.300s\": not an address", key->name, value);
}

/* A SHA-256 digest in base64: 43 characters and one "=". */
static bool check_pin(const struct conf_key *key, const char *value, char *wrong,
                      size_t size)
{
    static const char head[] = "sha256//";
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                 "0123456789+/";
    const char *digest = value + sizeof(head) - 1;

    if (strncmp(value, head, sizeof(head) - 1) == 0 && strspn(digest, base64) == 43 &&
        strcmp(digest + 43, "=") == 0)
        return true;
    return say(wrong, size,
               "%s = \"%.100s\": must be \"sha256//\" and the digest of the server's "
               "key in base64",
               key->name, value);
}

#define TEXT_MAX      1024
#define DIRECTORY_MAX 3000                  /* leaves room for a file's name */
#define HOP_MAX       (ADDR_DOMAIN_MAX + 8) /* brackets and ":65535" */
#define NO_LIMIT      0, 0

const struct conf_key conf_keys[] = {
    { NULL, "side", check_words, NO_LIMIT, "old|new" },
    { NULL, "hostname", check_hostname, NO_LIMIT, NULL },
    { NULL, "redis", check_endpoint, 1, TEXT_MAX, NULL },
    { NULL, "redis-user", check_text, 1, TEXT_MAX, NULL },
    { NULL, "redis-password-file", check_path, 1, PATH_MAX - 1, NULL },
    { NULL, "redis-replicas", NULL, 0, 100, NULL },
    { NULL, "redis-durable", NULL, NO_LIMIT, NULL },
    { NULL, "lookup-timeout", NULL, 10, 10000, NULL },
    { NULL, "command-timeout", NULL, 100, 60000, NULL },
    { NULL, "mta", check_words, NO_LIMIT, "postfix" },
    { NULL, "postfix-config", check_path, 1, DIRECTORY_MAX, NULL },
    { NULL, "postfix-commands", check_path, 1, DIRECTORY_MAX, NULL },
    { NULL, "fence", check_words, NO_LIMIT, "wait|reload" },
    { NULL, "hold", check_words, NO_LIMIT, "queue|defer" },
    { NULL, "user", check_text, 1, 255, NULL },
    { NULL, "group", check_text, 1, 255, NULL },
    { NULL, "state-dir", check_path, 1, DIRECTORY_MAX, NULL },
    { NULL, "lock-deadline", check_deadline, NO_LIMIT, NULL },
    { NULL, "playbooks", check_path, 1, DIRECTORY_MAX, NULL },
    { NULL, "log", check_words, NO_LIMIT, "syslog|stderr" },
    { NULL, "recipient-delimiter", check_delimiter, 0, 16, NULL },
    { "milter", "listen", check_endpoint, 1, TEXT_MAX, NULL },
    { "policyd", "policy", check_endpoint, 1, TEXT_MAX, NULL },
    { "policyd", "map", check_endpoint, 1, TEXT_MAX, NULL },
    { "policyd", "http", check_endpoint, 1, TEXT_MAX, NULL },
    { "policyd", "http-password-file", check_path, 1, PATH_MAX - 1, NULL },
    { "policyd", "http-hosts", check_hostname, NO_LIMIT, NULL },
    { "policyd", "alarm-command", check_text, 0, 4096, NULL },
    { "sync", "command", check_text, 0, 4096, NULL },
    { "sync", "reverse-command", check_text, 0, 4096, NULL },
    { "sync", "jobs", NULL, 1, 1000, NULL },
    { "sync", "timeout", check_duration, NO_LIMIT, NULL },
    { "sync", "on-failure", check_words, NO_LIMIT, "unlock|keep" },
    { "auth", "spf", NULL, NO_LIMIT, NULL },
    { "auth", "dkim", NULL, NO_LIMIT, NULL },
    { "auth", "dmarc", NULL, NO_LIMIT, NULL },
    { "auth", "received-spf", NULL, NO_LIMIT, NULL },
    { "auth", "enforce", check_words, NO_LIMIT, "none|quarantine|reject" },
    { "auth", "authserv-id", check_text, 1, 255, NULL },
    { "auth", "trusted", check_block, NO_LIMIT, NULL },
    { "auth", "servers", check_server, NO_LIMIT, NULL },
    { "auth", "stub-zones", check_stub, NO_LIMIT, NULL },
    { "auth", "trust-anchor", check_path, 1, PATH_MAX - 1, NULL },
    { "auth", "dmarc-discovery", check_words, NO_LIMIT, "psl|treewalk" },
    { "auth", "query-timeout", NULL, 100, 60000, NULL },
    { "auth", "message-timeout", NULL, 100, 60000, NULL },
    { "auth", "signatures", NULL, 1, 32, NULL },
    { "srs", "domain", check_title, NO_LIMIT, NULL },
    { "srs", "secret-file", check_path, 1, PATH_MAX - 1, NULL },
    { "dns", "resolvers", check_server, NO_LIMIT, NULL },
    { "dns", "parent", check_server, NO_LIMIT, NULL },
    { "dns", "server", check_server, NO_LIMIT, NULL },
    { "dns", "port", NULL, 1, 65535, NULL },
    { "dns", "key-file", check_path, 1, PATH_MAX - 1, NULL },
    { "dns", "command", check_text, 0, 4096, NULL },
    { "dns", "timeout", NULL, 100, 60000, NULL },
    { "mailbox", "imap", check_access, 1, HOP_MAX, NULL },
    { "mailbox", "tls", check_words, NO_LIMIT, "tls|starttls|none" },
    { "mailbox", "tls-name", check_hostname, NO_LIMIT, NULL },
    { "mailbox", "ca-file", check_path, 1, PATH_MAX - 1, NULL },
    { "mailbox", "pin", check_pin, NO_LIMIT, NULL },
    { "mailbox", "user", check_text, 1, 255, NULL },
    { "mailbox", "password-file", check_path, 1, PATH_MAX - 1, NULL },
    { "mailbox", "folders", check_text, 1, 255, NULL },
    { "ping", "smtp", check_access, 1, HOP_MAX, NULL },
    { "ping", "tls", check_words, NO_LIMIT, "tls|starttls|none" },
    { "ping", "tls-name", check_hostname, NO_LIMIT, NULL },
    { "ping", "ca-file", check_path, 1, PATH_MAX - 1, NULL },
    { "ping", "pin", check_pin, NO_LIMIT, NULL },
    { "ping", "user", check_text, 1, 255, NULL },
    { "ping", "password-file", check_path, 1, PATH_MAX - 1, NULL },
    { "ping", "from", check_address, 0, ADDR_TEXT_MAX, NULL },
    { "ping", "to", check_address, 1, ADDR_TEXT_MAX, NULL },
    { "ping", "mailboxes", check_name, NO_LIMIT, NULL },
    { "ping", "warning", check_duration, NO_LIMIT, NULL },
    { "ping", "critical", check_duration, NO_LIMIT, NULL },
    { "record", "name", check_record_name, NO_LIMIT, NULL },
    { "record", "ttl", NULL, 0, 604800, NULL },
    { "domain", "same-as", check_domain, NO_LIMIT, NULL },
    { "domain", "old", check_hop, 1, HOP_MAX, NULL },
    { "domain", "new", check_hop, 1, HOP_MAX, NULL },
    { "domain", "new-address", check_new_address, 1, ADDR_TEXT_MAX, NULL },
    { "domain", "redirect-domains", check_domain, NO_LIMIT, NULL },
    { "domain", "copy-outbound", NULL, NO_LIMIT, NULL },
    { "domain", "lock-deadline", check_deadline, NO_LIMIT, NULL },
};
const size_t conf_key_count = sizeof(conf_keys) / sizeof(conf_keys[0]);

const struct conf_key conf_key_domain = { NULL, "domain", check_title, NO_LIMIT, NULL };
const struct conf_key conf_key_mailbox = { NULL, "mailbox", check_name, NO_LIMIT, NULL };
const struct conf_key conf_key_ping = { NULL, "ping", check_name, NO_LIMIT, NULL };

const struct conf_key *conf_key_find(const char *section, const char *name)
{
    for (size_t i = 0; i < conf_key_count; i++) {
        const char *of = conf_keys[i].section;
        bool same = section && of ? strcmp(section, of) == 0 : section == of;
        if (same && strcmp(conf_keys[i].name, name) == 0)
            return &conf_keys[i];
    }
    return NULL;
}
