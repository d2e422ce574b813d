/*
 * sluice import FILE.csv: mailboxes from a CSV file.
 *
 * Reading comes first, whole: the columns address (or email), new_address and
 * copy of the header row are taken, the others are never looked at.  Each bad
 * row has its line; with one of them nothing is imported (exit 65).  Then the
 * mailboxes go to the store in chunks of EVENT_ITEMS_MAX per domain. Killed
 * between two chunks, the same command goes on: what is there is unchanged.
 *
 * A column that is there but empty means "no such address" and removes an
 * earlier one; a missing column leaves it alone.  A new address that is the
 * mailbox's own counts as none.
 *
 * Limits: CSV_ROW_MAX bytes a row, IMPORT_ROWS_MAX rows, IMPORT_ERRORS_MAX
 * messages before "and N more".
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "csv.h"
#include "homes.h"
#include "names.h"
#include "options.h"
#include "output.h"

#define IMPORT_ROWS_MAX   10000000
#define IMPORT_ERRORS_MAX 20
#define NO_COLUMN         SIZE_MAX
/* While Redis works on one chunk, the next one is on its way. */
#define AHEAD (2 * EVENT_ITEMS_MAX)

/* The rows of one domain; index i of each array is name i of the set. */
struct bucket {
    const struct conf_domain *domain;
    struct names *names;
    struct change_item *items; /* local is set when all are read */
    uint32_t *lines;
    size_t room;
    uint64_t new, changed, unchanged;
};

struct import {
    struct command_context *context;
    const char *file;
    struct csv *csv;
    size_t address_column, new_column, copy_column;
    struct bucket *buckets;
    size_t bucket_count;
    uint64_t rows, done;
    size_t errors;
    bool failed;
};

/* ---- reading ----------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void complain(struct import *import,
                                                           const char *fmt, ...)
{
    char text[1024];
    va_list args;
    if (import->errors++ >= IMPORT_ERRORS_MAX)
        return;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n >= 0)
        message("%s:%lu: %s", import->file, csv_line(import->csv), text);
}

static void fail_memory(struct import *import)
{
    if (!import->failed)
        message("out of memory");
    import->failed = true;
}

static size_t find_column(const struct csv_field *fields, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        const char *text = fields[i].text;
        text += strspn(text, " \t");
        size_t len = strcspn(text, " \t");
        if (len == strlen(name) && strncasecmp(text, name, len) == 0)
            return i;
    }
    return NO_COLUMN;
}

static bool read_header(struct import *import)
{
    const struct csv_field *fields;
    size_t count;
    switch (csv_next(import->csv, &fields, &count)) {
    case CSV_ROW:
        break;
    case CSV_BAD:
        complain(import, "%s", csv_error(import->csv));
        return false;
    case CSV_END:
        message("%s: the file is empty", import->file);
        return false;
    case CSV_FAILED:
        message("%s: %s", import->file, strerror(errno));
        import->failed = true;
        return false;
    }
    import->address_column = find_column(fields, count, "address");
    if (import->address_column == NO_COLUMN)
        import->address_column = find_column(fields, count, "email");
    import->new_column = find_column(fields, count, "new_address");
    import->copy_column = find_column(fields, count, "copy");
    if (import->address_column != NO_COLUMN)
        return true;
    if (memchr(fields[0].text, '@', fields[0].len))
        complain(import, "this is a mailbox, not a header: the first row must name the "
                         "columns, among them \"address\"");
    else
        complain(import,
                 "no column \"address\" or \"email\" in the header row (columns are "
                 "separated by commas)");
    return false;
}

static struct bucket *bucket_for(struct import *import, const struct conf_domain *domain)
{
    for (size_t i = 0; i < import->bucket_count; i++)
        if (import->buckets[i].domain == domain)
            return &import->buckets[i];
    struct bucket *grown =
        reallocarray(import->buckets, import->bucket_count + 1, sizeof(*grown));
    if (!grown)
        return NULL;
    import->buckets = grown;
    struct bucket *bucket = &grown[import->bucket_count];
    *bucket = (struct bucket){ .domain = domain, .names = names_new() };
    if (!bucket->names)
        return NULL;
    import->bucket_count++;
    return bucket;
}

static bool make_room(struct bucket *bucket)
{
    if (names_count(bucket->names) < bucket->room)
        return true;
    size_t room = bucket->room ? bucket->room * 2 : EVENT_ITEMS_MAX;
    struct change_item *items = reallocarray(bucket->items, room, sizeof(*items));
    if (!items)
        return false;
    bucket->items = items;
    uint32_t *lines = reallocarray(bucket->lines, room, sizeof(*lines));
    if (!lines)
        return false;
    bucket->lines = lines;
    bucket->room = room;
    return true;
}

/* The cell without surrounding blanks. */
static const char *cell_text(const struct csv_field *field, size_t *len)
{
    const char *text = field->text;
    *len = field->len;
    while (*len > 0 && (text[*len - 1] == ' ' || text[*len - 1] == '\t'))
        --*len;
    while (*len > 0 && (*text == ' ' || *text == '\t')) {
        text++;
        --*len;
    }
    return text;
}

static bool allowed_target(const struct conf_domain *domain, const char *name)
{
    for (char **allowed = domain->redirect_domains; allowed && *allowed; allowed++)
        if (strcmp(*allowed, name) == 0)
            return true;
    return false;
}

/* A new or a copy address: canonical text kept in the bucket; "" for none;
 * NULL: there was a message. */
static const char *target_address(struct import *import, struct bucket *bucket,
                                  const struct addr *own, const char *column,
                                  const struct csv_field *field)
{
    struct addr addr;
    size_t len;
    char canonical[ADDR_TEXT_MAX + 1];
    const char *text = cell_text(field, &len);
    if (len == 0)
        return "";
    if (addr_parse(text, len, &addr) != ADDR_OK) {
        complain(import, "%s: \"%.200s\" is not an address", column, text);
        return NULL;
    }
    if (strcmp(addr.local, own->local) == 0 && strcmp(addr.domain, own->domain) == 0)
        return "";
    if (!allowed_target(bucket->domain, addr.domain)) {
        complain(
            import,
            "%s: %s is not in redirect-domains: add  redirect-domains = {\"%s\"}  to "
            "domain \"%s\" in %s",
            column, addr.domain, addr.domain, bucket->domain->name,
            import->context->conf->path);
        return NULL;
    }
    addr_format(addr.local, addr.domain, canonical);
    const char *kept = names_keep(bucket->names, canonical);
    if (!kept)
        fail_memory(import);
    return kept;
}

/* Adds a mailbox with its addresses; a known one is a duplicate. */
static void take_mailbox(struct import *import, struct bucket *bucket,
                         const struct addr *addr, const struct csv_field *fields)
{
    struct change_item item = { 0 };
    size_t index;
    if (import->new_column != NO_COLUMN) {
        item.new_address = target_address(import, bucket, addr, "new_address",
                                          &fields[import->new_column]);
        if (!item.new_address)
            return;
    }
    if (import->copy_column != NO_COLUMN) {
        item.copy =
            target_address(import, bucket, addr, "copy", &fields[import->copy_column]);
        if (!item.copy)
            return;
    }
    if (!make_room(bucket)) {
        fail_memory(import);
        return;
    }
    switch (names_add(bucket->names, addr->local, &index)) {
    case NAMES_NEW:
        bucket->items[index] = item;
        bucket->lines[index] = (uint32_t)csv_line(import->csv);
        import->rows++;
        break;
    case NAMES_KNOWN:
        complain(import, "%s@%s is in line %" PRIu32 " already", addr->local,
                 bucket->domain->name, bucket->lines[index]);
        break;
    case NAMES_FAILED:
        fail_memory(import);
        break;
    }
}

static void take_row(struct import *import, const struct csv_field *fields, size_t count)
{
    struct addr addr;
    size_t len;
    if (import->address_column >= count ||
        (import->new_column != NO_COLUMN && import->new_column >= count) ||
        (import->copy_column != NO_COLUMN && import->copy_column >= count)) {
        complain(import, "the row has only %zu field%s", count, count == 1 ? "" : "s");
        return;
    }
    const char *text = cell_text(&fields[import->address_column], &len);
    enum addr_kind kind = addr_parse(text, len, &addr);
    if (len == 0 || kind == ADDR_NULL) {
        complain(import, "the address is empty");
        return;
    }
    if (kind == ADDR_OVERLONG) {
        complain(import, "the part before the @ is longer than %d characters",
                 ADDR_LOCAL_MAX);
        return;
    }
    if (kind != ADDR_OK) {
        complain(import, "\"%.*s\" is not an address", len > 200 ? 200 : (int)len, text);
        return;
    }
    const struct conf_domain *domain = conf_managed(import->context->conf, addr.domain);
    if (!domain) {
        complain(import, "%s is not configured: add  domain \"%s\" { ... }  to %s",
                 addr.domain, addr.domain, import->context->conf->path);
        return;
    }
    struct bucket *bucket = bucket_for(import, domain);
    if (!bucket)
        fail_memory(import);
    else if (import->rows >= IMPORT_ROWS_MAX)
        complain(import, "more than %d rows: split the file", IMPORT_ROWS_MAX);
    else
        take_mailbox(import, bucket, &addr, fields);
}

static void read_rows(struct import *import)
{
    const struct csv_field *fields;
    size_t count;
    while (!import->failed && !command_stopped()) {
        switch (csv_next(import->csv, &fields, &count)) {
        case CSV_ROW:
            take_row(import, fields, count);
            break;
        case CSV_BAD:
            complain(import, "%s", csv_error(import->csv));
            break;
        case CSV_END:
            return;
        case CSV_FAILED:
            message("%s: %s", import->file, strerror(errno));
            import->failed = true;
            return;
        }
    }
}

static int read_file(struct import *import, const char *path)
{
    bool standard_input = strcmp(path, "-") == 0;
    FILE *file = standard_input ? stdin : fopen(path, "re");
    import->file = standard_input ? "standard input" : path;
    if (!file) {
        message("%s: %s", path, strerror(errno));
        return EXIT_DATA;
    }
    import->csv = csv_new(file);
    if (!import->csv)
        fail_memory(import);
    else if (read_header(import))
        read_rows(import);
    else if (import->errors == 0)
        import->errors = 1;
    csv_free(import->csv);
    import->csv = NULL;
    if (!standard_input)
        fclose(file);
    if (import->errors > IMPORT_ERRORS_MAX)
        message("and %zu more bad rows", import->errors - IMPORT_ERRORS_MAX);
    if (import->failed)
        return EXIT_SERVICE;
    if (import->errors > 0) {
        notice("nothing was imported");
        return EXIT_DATA;
    }
    for (size_t i = 0; i < import->bucket_count; i++) {
        struct bucket *bucket = &import->buckets[i];
        char **names = names_list(bucket->names);
        for (size_t n = 0; n < names_count(bucket->names); n++)
            bucket->items[n].local = names[n];
    }
    return EXIT_DONE;
}

/* ---- writing ----------------------------------------------------------- */

/* Every domain of the file must be registered before the first chunk is sent. */
static int check_registered(struct import *import)
{
    struct store_totals totals;
    for (size_t i = 0; i < import->bucket_count; i++) {
        const char *name = import->buckets[i].domain->name;
        switch (store_totals(import->context->store, name, &totals)) {
        case LOOKUP_FOUND:
            break;
        case LOOKUP_ABSENT:
            message("%s is not registered in Redis: run sluice init", name);
            return EXIT_SERVICE;
        case LOOKUP_FAILED:
            message("%s", store_error(import->context->store));
            return EXIT_SERVICE;
        }
    }
    return EXIT_DONE;
}

static void count_results(struct bucket *bucket, const struct change_result *result,
                          size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (result->status[i] != CHANGE_MADE)
            bucket->unchanged++;
        else if (result->before[i].listed)
            bucket->changed++;
        else
            bucket->new ++;
    }
}

static int report_interrupted(struct import *import)
{
    message("interrupted after %" PRIu64 " of %" PRIu64
            " mailboxes: run the same command "
            "again to go on",
            import->done, import->rows);
    return EXIT_AGAIN;
}

/* The chunk of the bucket that begins at from. */
static struct change chunk_at(const struct bucket *bucket, size_t from)
{
    size_t left = names_count(bucket->names) - from;
    return (struct change){
        .op = EVENT_IMPORT,
        .domain = bucket->domain->name,
        .items = bucket->items + from,
        .count = left < EVENT_ITEMS_MAX ? left : EVENT_ITEMS_MAX,
    };
}

/* Takes the outcome of the oldest chunk under way, of which there are up to
 * mailbox `sent`. */
static int finish_chunk(struct import *import, struct bucket *bucket, size_t from,
                        size_t sent, struct change_result *result)
{
    struct store *store = import->context->store;
    struct change change = chunk_at(bucket, from);
    switch (store_change_finish(store, &change, result)) {
    case COMMIT_DONE:
        count_results(bucket, result, change.count);
        import->done += change.count;
        return EXIT_DONE;
    case COMMIT_REFUSED:
        message("%s", store_error(store));
        return EXIT_SERVICE;
    case COMMIT_UNCERTAIN:
        break;
    }
    message("%s. Imported so far: %" PRIu64 " of %" PRIu64
            ", the outcome of the next %zu is unknown: run the same command again",
            store_error(store), import->done, import->rows, sent - from);
    return EXIT_AGAIN;
}

/* After a failure: every chunk that was begun has to be finished; what became
 * of it was said with the failure. */
static void finish_rest(struct import *import, struct bucket *bucket, size_t from,
                        size_t sent, struct change_result *result)
{
    while (from < sent) {
        struct change change = chunk_at(bucket, from);
        (void)store_change_finish(import->context->store, &change, result);
        from += change.count;
    }
}

/* --dry-run: what finish_chunk() would count. */
static bool compare_one(void *data, size_t index, const struct home *home)
{
    struct bucket *bucket = data;
    const struct change_item *item = &bucket->items[index];
    if (!home->listed)
        bucket->new ++;
    else if ((item->new_address && strcmp(item->new_address, home->new_address) != 0) ||
             (item->copy && strcmp(item->copy, home->copy) != 0))
        bucket->changed++;
    else
        bucket->unchanged++;
    return !command_stopped();
}

static int compare_bucket(struct import *import, struct bucket *bucket)
{
    return homes_look_up(import->context, bucket->domain->name, names_list(bucket->names),
                         names_count(bucket->names), compare_one, bucket)
               ? EXIT_DONE
               : EXIT_SERVICE;
}

static int write_bucket(struct import *import, struct bucket *bucket,
                        struct change_result *result)
{
    size_t count = names_count(bucket->names);
    if (import->context->dry_run)
        return compare_bucket(import, bucket);
    size_t from = 0, sent = 0;
    while (from < count) {
        while (sent < count && sent < from + AHEAD && !command_stopped()) {
            struct change change = chunk_at(bucket, sent);
            (void)store_change_begin(import->context->store,
                                     &change); /* finish() tells */
            sent += change.count;
        }
        if (sent == from)
            return report_interrupted(import);
        int code = finish_chunk(import, bucket, from, sent, result);
        from += chunk_at(bucket, from).count;
        if (code != EXIT_DONE) {
            finish_rest(import, bucket, from, sent, result);
            return code;
        }
        progress_set(import->done, "%s", bucket->domain->name);
    }
    return EXIT_DONE;
}

static int write_all(struct import *import)
{
    struct change_result *result = malloc(sizeof(*result)); /* over a megabyte */
    int code = EXIT_DONE;
    if (!result) {
        fail_memory(import);
        return EXIT_SERVICE;
    }
    progress_begin("import", import->rows);
    for (size_t i = 0; i < import->bucket_count && code == EXIT_DONE; i++)
        code = write_bucket(import, &import->buckets[i], result);
    progress_end();
    free(result);
    return code;
}

/* ---- the command ------------------------------------------------------- */

static void count_in(doc *object, const struct bucket *bucket)
{
    doc_number(object, "new", (int64_t)bucket->new);
    doc_number(object, "changed", (int64_t)bucket->changed);
    doc_number(object, "unchanged", (int64_t)bucket->unchanged);
}

static void report(struct import *import)
{
    struct bucket all = { 0 };
    const char *verb = import->context->dry_run ? "would import" : "imported";
    doc *document = doc_object(), *domains = doc_array();
    for (size_t i = 0; i < import->bucket_count; i++) {
        const struct bucket *bucket = &import->buckets[i];
        all.new += bucket->new;
        all.changed += bucket->changed;
        all.unchanged += bucket->unchanged;
        print("%s %s: %" PRIu64 " new, %" PRIu64 " with other addresses, %" PRIu64
              " unchanged",
              verb, bucket->domain->name, bucket->new, bucket->changed,
              bucket->unchanged);
        doc *object = doc_add(domains, doc_object());
        doc_text(object, "domain", bucket->domain->name);
        count_in(object, bucket);
    }
    if (import->bucket_count == 0)
        print("%s no mailbox: the file has only a header row", verb);
    doc_text(document, "command", "import");
    doc_flag(document, "dry_run", import->context->dry_run);
    doc_number(document, "rows", (int64_t)import->rows);
    count_in(document, &all);
    doc_put(document, "domains", domains);
    doc_print(document);
}

int command_import(struct command_context *context, int argc, char **argv)
{
    struct import import = { .context = context };
    if (!options_parse(NULL, 0, &argc, argv))
        return EXIT_USE;
    if (argc != 2) {
        message("name one CSV file (\"-\": standard input)");
        return EXIT_USE;
    }
    command_catch_signals();
    int code = read_file(&import, argv[1]);
    if (code == EXIT_DONE)
        code = command_need_store(context);
    if (code == EXIT_DONE)
        code = check_registered(&import);
    if (code == EXIT_DONE)
        code = write_all(&import);
    if (code == EXIT_DONE)
        report(&import);
    for (size_t i = 0; i < import.bucket_count; i++) {
        names_free(import.buckets[i].names);
        free(import.buckets[i].items);
        free(import.buckets[i].lines);
    }
    free(import.buckets);
    return code;
}
