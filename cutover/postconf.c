/*
 * postconf: reads the output of postconf(1). See postconf.h.
 *
 * Formats (postconf(1)): "name = value" for main.cf (-x: with $name expanded),
 * "service/type/field = value" (-F), "service/type/parameter = value" (-Px).
 * Lines of another form are skipped.
 *
 * Limits: 10 s for each run, CAPTURE_MAX of output.
 */
#include "config.h"

#include "postconf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "capture.h"

#define RUN_MS 10000

struct setting {
    const char *name, *value;
};

struct settings {
    struct setting *items;
    size_t n;
};

struct postconf {
    struct settings main_cf, options;
    struct postconf_service *services;
    size_t n_services;
    char *texts[3]; /* of postconf_load() */
};

/* Cuts the text into settings. */
static bool cut(char *text, struct settings *out)
{
    size_t lines = 1;
    for (const char *s = text; *s; s++)
        lines += *s == '\n';
    out->items = calloc(lines, sizeof(*out->items));
    if (out->items == NULL)
        return false;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        char *equals = strstr(line, " =");
        if (equals == NULL)
            continue;
        *equals = '\0';
        char *value = equals + 2;
        value += strspn(value, " ");
        out->items[out->n++] = (struct setting){ line, value };
    }
    return true;
}

static const char *lookup(const struct settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->n; i++)
        if (strcmp(settings->items[i].name, name) == 0)
            return settings->items[i].value;
    return NULL;
}

/* Whether "-" in the chroot column means yes (postconf(5) compatibility_level). */
static bool chroot_default(const struct postconf *postconf)
{
    return strtod(postconf_value(postconf, "compatibility_level"), NULL) < 1;
}

static char *first_word(char *command)
{
    /* A copy is not needed: the command itself is kept beside it. */
    size_t len = strcspn(command, " ");
    return strndup(command, len);
}

static bool add_services(struct postconf *postconf, struct settings *fields)
{
    postconf->services = calloc(fields->n + 1, sizeof(*postconf->services));
    if (postconf->services == NULL)
        return false;
    struct postconf_service *last = NULL;
    for (size_t i = 0; i < fields->n; i++) {
        char *name = strdup(fields->items[i].name);
        char *slash = name ? strrchr(name, '/') : NULL;
        if (slash == NULL) {
            free(name);
            continue;
        }
        *slash = '\0';
        const char *field = slash + 1, *value = fields->items[i].value;
        if (last == NULL || strcmp(last->name, name) != 0) {
            last = &postconf->services[postconf->n_services++];
            last->name = strdup(name);
        }
        if (strcmp(field, "chroot") == 0)
            last->chroot =
                value[0] == 'y' || (value[0] == '-' && chroot_default(postconf));
        if (strcmp(field, "command") == 0) {
            char *command = strdup(value);
            last->command = command;
            last->program = command ? first_word(command) : NULL;
        }
        free(name);
        if (last->name == NULL)
            return false;
    }
    for (size_t i = 0; i < postconf->n_services; i++)
        if (postconf->services[i].program == NULL)
            return false;
    return true;
}

struct postconf *postconf_parse(char *main_cf, char *fields, char *options)
{
    struct postconf *postconf = calloc(1, sizeof(*postconf));
    struct settings cut_fields = { 0 };
    if (postconf == NULL)
        return NULL;
    bool whole = cut(main_cf, &postconf->main_cf) && cut(options, &postconf->options) &&
                 cut(fields, &cut_fields) && add_services(postconf, &cut_fields);
    free(cut_fields.items);
    if (whole)
        return postconf;
    postconf_free(postconf);
    return NULL;
}

static char *run(const struct conf *conf, const char *option, char *error,
                 size_t error_size)
{
    char program[4096];
    struct capture got;
    int n = snprintf(program, sizeof(program), "%s/postconf", conf->postfix_commands);
    if (n < 0 || (size_t)n >= sizeof(program)) {
        snprintf(error, error_size, "postfix-commands: too long");
        return NULL;
    }
    const char *const argv[] = { program, "-c", conf->postfix_config, option, NULL };
    capture_run(argv, NULL, RUN_MS, &got);
    if (got.status == 0 && got.out)
        return got.out;
    if (got.error[0])
        snprintf(error, error_size, "%s -c %s: %s", program, conf->postfix_config,
                 got.error);
    else
        snprintf(error, error_size, "%s -c %s %s: exit code %d (run it to see why)",
                 program, conf->postfix_config, option, got.status);
    free(got.out);
    return NULL;
}

struct postconf *postconf_load(const struct conf *conf, char *error, size_t error_size)
{
    static const char *const options[3] = { "-x", "-F", "-Px" };
    char *texts[3] = { NULL };
    struct postconf *postconf = NULL;
    bool whole = true;
    for (int i = 0; i < 3 && whole; i++)
        whole = (texts[i] = run(conf, options[i], error, error_size)) != NULL;
    if (whole) {
        snprintf(error, error_size, "no memory");
        postconf = postconf_parse(texts[0], texts[1], texts[2]);
    }
    for (int i = 0; i < 3; i++) {
        if (postconf)
            postconf->texts[i] = texts[i];
        else
            free(texts[i]);
    }
    return postconf;
}

static void free_text(const char *text)
{
    char *own;
    memcpy(&own, &text, sizeof(own));
    free(own);
}

void postconf_free(struct postconf *postconf)
{
    if (postconf == NULL)
        return;
    for (size_t i = 0; i < postconf->n_services; i++) {
        free_text(postconf->services[i].name);
        free_text(postconf->services[i].command);
        free_text(postconf->services[i].program);
    }
    free(postconf->services);
    free(postconf->main_cf.items);
    free(postconf->options.items);
    for (int i = 0; i < 3; i++)
        free(postconf->texts[i]);
    free(postconf);
}

const char *postconf_value(const struct postconf *postconf, const char *name)
{
    const char *value = lookup(&postconf->main_cf, name);
    return value ? value : "";
}

const char *postconf_option(const struct postconf *postconf, const char *service,
                            const char *name)
{
    char key[512];
    int n = snprintf(key, sizeof(key), "%s/%s", service, name);
    return n > 0 && (size_t)n < sizeof(key) ? lookup(&postconf->options, key) : NULL;
}

const char *postconf_effective(const struct postconf *postconf, const char *service,
                               const char *name)
{
    const char *option = postconf_option(postconf, service, name);
    return option ? option : postconf_value(postconf, name);
}

const struct postconf_service *postconf_service(const struct postconf *postconf, size_t i)
{
    return i < postconf->n_services ? &postconf->services[i] : NULL;
}

const struct postconf_service *postconf_find(const struct postconf *postconf,
                                             const char *name)
{
    for (size_t i = 0; i < postconf->n_services; i++)
        if (strcmp(postconf->services[i].name, name) == 0)
            return &postconf->services[i];
    return NULL;
}

/* ---- lists and endpoints --------------------------------------------------------- */

#define SEPARATORS ", \t\r\n"

/* Length up to a separator outside of braces: "inline:{{a = b}}" is one word. */
static size_t word_length(const char *s)
{
    size_t len = 0;
    int depth = 0;
    for (; s[len]; len++) {
        if (depth == 0 && strchr(SEPARATORS, s[len]))
            break;
        depth += s[len] == '{';
        if (s[len] == '}' && depth > 0 && --depth == 0 && s[0] == '{')
            return len + 1;
    }
    return len;
}

bool postconf_item(const char **cursor, char *out, size_t size)
{
    const char *s = *cursor + strspn(*cursor, SEPARATORS);
    size_t len = word_length(s);
    if (*s == '\0')
        return false;
    *cursor = s + len;
    if (*s == '{') {
        size_t space = 1 + strspn(s + 1, SEPARATORS);
        len -= len > 1 && s[len - 1] == '}';
        space = space < len ? space : len;
        s += space;
        len -= space;
        while (len > 0 && strchr(SEPARATORS, s[len - 1]))
            len--;
    }
    snprintf(out, size, "%.*s", (int)len, s);
    return true;
}

/* a/b, a//b and a/./b are one path; links are followed when it exists. */
static bool same_path(const char *a, const char *b)
{
    char *x = realpath(a, NULL), *y = realpath(b, NULL);
    bool same = strcmp(x ? x : a, y ? y : b) == 0;
    free(x);
    free(y);
    return same;
}

bool postconf_same_endpoint(const char *text, const char *queue_directory, bool chroot,
                            const struct conf_endpoint *endpoint)
{
    char whole[4096], word[4096];
    const char *cursor = text;
    /* Parameters of a milter may follow: "unix:path, default_action=..." */
    if (!postconf_item(&cursor, word, sizeof(word)))
        return false;
    if (strncmp(word, "unix:", 5) == 0 && endpoint->path) {
        const char *path = word + 5;
        int n = path[0] == '/' && !chroot
                    ? snprintf(whole, sizeof(whole), "%s", path)
                    : snprintf(whole, sizeof(whole), "%s/%s", queue_directory,
                               path + strspn(path, "/"));
        return n > 0 && (size_t)n < sizeof(whole) && same_path(whole, endpoint->path);
    }
    if (endpoint->host == NULL)
        return false;
    const char *inet = strncmp(word, "inet:", 5) == 0 ? word + 5 : word;
    snprintf(whole, sizeof(whole), "%s:%u", endpoint->host, (unsigned)endpoint->port);
    return strcasecmp(inet, whole) == 0;
}

void postconf_endpoint_text(const struct conf_endpoint *endpoint,
                            const char *queue_directory, char *out, size_t size)
{
    size_t len = strlen(queue_directory);
    if (endpoint->host)
        snprintf(out, size, "inet:%s:%u", endpoint->host, (unsigned)endpoint->port);
    else if (endpoint->path && strncmp(endpoint->path, queue_directory, len) == 0 &&
             endpoint->path[len] == '/')
        snprintf(out, size, "unix:%s", endpoint->path + len + 1);
    else
        snprintf(out, size, "unix:%s", endpoint->path ? endpoint->path : "");
}
