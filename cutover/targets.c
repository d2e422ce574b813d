/*
 * targets: ADDRESS|DOMAIN|@FILE... -> mailboxes per domain (see targets.h).
 *
 * Addresses are kept in one hash set per domain, so that a file of a million
 * takes a moment and naming one twice costs nothing.
 */
#include "targets.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "names.h"
#include "output.h"

struct reader {
    const struct conf *conf;
    struct targets *out;
    const char *file; /* NULL: the command line */
    unsigned long line;
    size_t errors;
    int failed; /* exit code: out of memory, a file that cannot be read; or 0 */
};

__attribute__((format(printf, 2, 3))) static void complain(struct reader *reader,
                                                           const char *fmt, ...)
{
    char text[TARGETS_LINE_MAX + 512];
    va_list args;
    if (reader->errors++ >= TARGETS_ERRORS_MAX)
        return;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n < 0)
        return;
    if (reader->file)
        message("%s:%lu: %s", reader->file, reader->line, text);
    else
        message("%s", text);
}

/* The list for the domain, made at its first mention. NULL: out of memory. */
static struct target *target_for(struct targets *out, const struct conf_domain *domain)
{
    for (size_t i = 0; i < out->count; i++)
        if (out->items[i].domain == domain)
            return &out->items[i];
    struct target *items = reallocarray(out->items, out->count + 1, sizeof(*items));
    if (!items)
        return NULL;
    out->items = items;
    struct names *names = names_new();
    if (!names)
        return NULL;
    items[out->count] = (struct target){ .domain = domain, .names = names };
    return &items[out->count++];
}

/* local NULL: the whole domain. */
static void add(struct reader *reader, const struct conf_domain *domain,
                const char *local)
{
    size_t index;
    struct target *target = target_for(reader->out, domain);
    if (target && !local) {
        target->whole = true;
    } else if (!target || names_add(target->names, local, &index) == NAMES_FAILED) {
        message("out of memory");
        reader->failed = EXIT_SERVICE;
    }
}

static const struct conf_domain *managed(struct reader *reader, const char *name)
{
    const struct conf_domain *domain = conf_managed(reader->conf, name);
    if (!domain)
        complain(reader,
                 "%s is not a domain of %s: add  domain \"%s\" { old = \"[host]:25\" "
                 "new = \"[host]:25\" }  there and run: sluice init",
                 name, reader->conf->path, name);
    return domain;
}

/* One address or domain, without surrounding white space. */
static void take(struct reader *reader, const char *text, size_t len)
{
    struct addr addr;
    const struct conf_domain *domain;
    int shown = len > 200 ? 200 : (int)len;
    if (!memchr(text, '@', len)) {
        if (!addr_domain(text, len, addr.domain))
            complain(reader, "\"%.*s\" is neither an address nor a domain", shown, text);
        else if ((domain = managed(reader, addr.domain)))
            add(reader, domain, NULL);
        return;
    }
    switch (addr_parse(text, len, &addr)) {
    case ADDR_OK:
        if ((domain = managed(reader, addr.domain)))
            add(reader, domain, addr.local);
        return;
    case ADDR_OVERLONG:
        complain(reader,
                 "\"%.*s...\": the part before the @ is longer than %d characters", shown,
                 text, ADDR_LOCAL_MAX);
        return;
    case ADDR_NULL:
    case ADDR_NO_DOMAIN:
    case ADDR_BAD:
        break;
    }
    complain(reader, "\"%.*s\" is not an address", shown, text);
}

/* Cuts a line's comment and white space off; returns the length left. */
static size_t trim(const char **text, size_t len)
{
    const char *from = *text;
    for (size_t i = 0; i < len; i++) {
        if (from[i] == '#' && (i == 0 || from[i - 1] == ' ' || from[i - 1] == '\t')) {
            len = i;
            break;
        }
    }
    while (len > 0 && strchr(" \t\r\n", from[len - 1]) && from[len - 1] != '\0')
        len--;
    while (len > 0 && (*from == ' ' || *from == '\t')) {
        from++;
        len--;
    }
    *text = from;
    return len;
}

static void take_lines(struct reader *reader, FILE *file)
{
    char line[TARGETS_LINE_MAX + 2]; /* with LF and NUL */
    for (reader->line = 1; !reader->failed && fgets(line, sizeof(line), file);
         reader->line++) {
        const char *text = line;
        size_t len = strlen(line);
        if (len == sizeof(line) - 1 && line[len - 1] != '\n') {
            complain(reader, "the line is longer than %d characters", TARGETS_LINE_MAX);
            int c;
            while ((c = getc(file)) != EOF && c != '\n')
                ;
            continue;
        }
        if (reader->line == 1 && len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
            text += 3; /* a byte order mark */
            len -= 3;
        }
        len = trim(&text, len);
        if (len > 0)
            take(reader, text, len);
    }
}

static void take_file(struct reader *reader, const char *path)
{
    bool standard_input = strcmp(path, "-") == 0;
    FILE *file = standard_input ? stdin : fopen(path, "re");
    if (!file) {
        message("%s: %s", path, strerror(errno));
        reader->failed = EXIT_DATA;
        return;
    }
    reader->file = standard_input ? "standard input" : path;
    take_lines(reader, file);
    if (ferror(file)) {
        message("%s: %s", reader->file, strerror(errno));
        reader->failed = EXIT_DATA;
    }
    if (!standard_input)
        fclose(file);
    reader->file = NULL;
}

static void make_lists(struct targets *out)
{
    for (size_t i = 0; i < out->count; i++) {
        struct target *target = &out->items[i];
        if (target->whole)
            continue;
        target->locals = names_list(target->names);
        target->count = names_count(target->names);
        out->mailboxes += target->count;
    }
}

int targets_resolve(const struct conf *conf, int argc, char **argv, struct targets *out)
{
    struct reader reader = { .conf = conf, .out = out };
    int code = EXIT_DONE;
    *out = (struct targets){ 0 };
    if (argc < 1) {
        message("name an address, a domain or @FILE (--help tells more)");
        return EXIT_USE;
    }
    for (int i = 0; i < argc && !reader.failed; i++) {
        if (argv[i][0] == '@')
            take_file(&reader, argv[i] + 1);
        else
            take(&reader, argv[i], strlen(argv[i]));
    }
    if (reader.errors > TARGETS_ERRORS_MAX)
        message("and %zu more", reader.errors - TARGETS_ERRORS_MAX);
    if (reader.failed) {
        code = reader.failed;
    } else if (reader.errors > 0) {
        code = EXIT_DATA;
    } else if (out->count == 0) {
        message("no address in the file: nothing to do");
        code = EXIT_DATA;
    } else {
        make_lists(out);
    }
    if (code != EXIT_DONE)
        targets_free(out);
    return code;
}

void targets_free(struct targets *targets)
{
    for (size_t i = 0; i < targets->count; i++)
        names_free(targets->items[i].names);
    free(targets->items);
    *targets = (struct targets){ 0 };
}
