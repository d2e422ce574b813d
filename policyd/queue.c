/*
 * queue: what all queue back ends share, and the pure parts: Postfix lists,
 * times and queue ids.
 *
 * Nothing here runs a command or reads a file. Postfix' own rules are followed
 * where a value of main.cf is read: lists are separated by white space or
 * comma and { } keeps an entry whole (mystrtokq(3)), times carry a unit
 * (conv_time(3)), mydestination is a string list (match_list(3)): names, and
 * also /files, type:tables and !exclusions, whose content is not looked at.
 */
#include "queue.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *queue_name_text(enum queue_name name)
{
    static const char *const names[] = {
        [QUEUE_MAILDROP] = "maildrop", [QUEUE_INCOMING] = "incoming",
        [QUEUE_ACTIVE] = "active",     [QUEUE_DEFERRED] = "deferred",
        [QUEUE_HOLD] = "hold",         [QUEUE_OTHER] = "other",
    };
    return names[name];
}

bool queue_open(struct queue *queue, const struct conf *conf, struct helper *helper)
{
    memset(queue, 0, sizeof(*queue));
    queue->helper = helper;
    queue->config = conf->postfix_config;
    if (conf->mta == MTA_POSTFIX)
        queue->ops = &queue_postfix;
    return queue->ops ||
           queue_fail(queue, "sluice-policyd has no queue back end for this mta");
}

const char *queue_error(const struct queue *queue)
{
    return queue->error;
}

bool queue_fail(struct queue *queue, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(queue->error, sizeof(queue->error), fmt, args);
    va_end(args);
    if (len >= (int)sizeof(queue->error)) /* a message, but say that it was cut */
        memcpy(queue->error + sizeof(queue->error) - 4, "...", 4);
    return false;
}

void queue_settings_free(struct queue_settings *settings)
{
    queue_list_free(settings->local_domains);
    queue_list_free(settings->transport_maps);
    free(settings->origin);
    memset(settings, 0, sizeof(*settings));
}

/* ---- lists ------------------------------------------------------------- */

void queue_list_free(char **list)
{
    for (char **item = list; item && *item; item++)
        free(*item);
    free(list);
}

static bool is_separator(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',';
}

/* Length of the entry at text; separators inside braces belong to it. */
static size_t entry_length(const char *text)
{
    int depth = 0;
    size_t len = 0;
    for (; text[len] && (depth > 0 || !is_separator(text[len])); len++) {
        if (text[len] == '{')
            depth++;
        else if (text[len] == '}' && depth > 0)
            depth--;
    }
    return len;
}

char **queue_split(const char *text)
{
    size_t n = 0, size = 8;
    char **list = calloc(size, sizeof(*list));
    while (list) {
        while (is_separator(*text))
            text++;
        size_t len = entry_length(text);
        if (len == 0)
            break;
        if (n + 1 == size) {
            char **more = realloc(list, 2 * size * sizeof(*list));
            if (!more)
                break;
            list = more;
            size *= 2;
        }
        list[n] = strndup(text, len);
        if (!list[n])
            break;
        list[++n] = NULL;
        text += len;
    }
    return list;
}

bool queue_slow_maps(const char *maps)
{
    /* DATABASE_README: files, rules and text; and our own kind, which has time
     * limits. proxy:, mysql:, ldap:, tcp: and what comes after Postfix 3.7 may
     * wait. */
    static const char *const quick[] = {
        "hash",   "btree",   "cdb",      "dbm",       "lmdb",   "sdbm",     "texthash",
        "inline", "cidr",    "pcre",     "regexp",    "static", "fail",     "environ",
        "unix",   "randmap", "internal", "socketmap", "sqlite", "unionmap", "pipemap",
    };
    bool slow = false;
    char **list = queue_split(maps);
    for (char **item = list; item && *item && !slow; item++) {
        size_t len = strcspn(*item, ":");
        slow = true;
        for (size_t i = 0; i < sizeof(quick) / sizeof(quick[0]); i++)
            if (strlen(quick[i]) == len && !strncmp(*item, quick[i], len))
                slow = false;
        /* Tables inside tables. */
        if (!slow && (strstr(*item, "proxy:") || strstr(*item, "sql:") ||
                      strstr(*item, "ldap:") || strstr(*item, "tcp:")))
            slow = true;
    }
    queue_list_free(list);
    return slow;
}

int64_t queue_seconds(const char *text, char unit)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {
        { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 }
    };
    char *end;
    long long number = strtoll(text, &end, 10);
    if (end == text || number < 0 || number > INT32_MAX || (*end && end[1]))
        return -1;
    if (*end)
        unit = (char)tolower((unsigned char)*end);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (units[i].unit == unit)
            return number * units[i].seconds;
    return -1;
}

/* ---- queue ids ----------------------------------------------------------- */

int64_t queue_id_time(const char *id)
{
    static const char digits[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
    size_t len = strlen(id);
    int64_t seconds = 0;
    if (!helper_id_valid(id, len))
        return 0;
    /* Four digits of microseconds stand before the last "z". */
    size_t n = (size_t)(strrchr(id, 'z') - id) - 4;
    for (size_t i = 0; i < n; i++) {
        if (seconds > INT64_MAX / 100)
            return 0;
        seconds = seconds * 52 + (strchr(digits, id[i]) - digits);
    }
    return seconds;
}

/* ---- local names --------------------------------------------------------- */

bool queue_local_names(const char *mydestination, struct queue_settings *out)
{
    char name[ADDR_DOMAIN_MAX + 1];
    size_t n = 0;
    char **list = queue_split(mydestination);
    out->local_patterns = false;
    if (!list)
        return false;
    for (char **item = list; *item; item++) {
        if (strpbrk(*item, "/:!{}") || !addr_domain(*item, strlen(*item), name)) {
            out->local_patterns = true;
            free(*item);
            continue;
        }
        char *copy = strdup(name);
        if (copy) {
            free(*item);
            list[n++] = copy;
        } else {
            list[n++] = *item;
        }
    }
    list[n] = NULL;
    out->local_domains = list;
    return true;
}

static bool in_list(char *const *list, const char *name)
{
    for (; list && *list; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

bool queue_is_local(const struct queue_settings *settings, const char *address)
{
    struct addr addr;
    if (settings->local_patterns)
        return true;
    switch (addr_parse(address, strlen(address), &addr)) {
    case ADDR_OK:
    case ADDR_OVERLONG:
        return addr.domain[0] == '[' || in_list(settings->local_domains, addr.domain);
    default:
        return true;
    }
}

void queue_uncovered_name(const struct queue_settings *settings,
                          const struct conf_domain *domain, char *out, size_t size)
{
    const char *missing = NULL;
    out[0] = '\0';
    if (!in_list(settings->local_domains, domain->name))
        return;
    for (char *const *name = settings->local_domains; name && *name && !missing; name++)
        if (strcmp(*name, domain->name) != 0 && !in_list(domain->same_as, *name))
            missing = *name;
    if (!missing && settings->origin && settings->origin[0] &&
        strcmp(settings->origin, domain->name) != 0 &&
        !in_list(domain->same_as, settings->origin))
        missing = settings->origin;
    if (missing)
        snprintf(out, size,
                 "%s is in mydestination, so its mailboxes are also reached as @%s: add "
                 "\"%s\" to its same-as in sluice.conf",
                 domain->name, missing, missing);
}
