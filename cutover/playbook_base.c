/*
 * playbook_base: see playbook_base.h. The baseline is auth-base.csv in the run's
 * directory; its time is the file's.
 */
#include "playbook_base.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "auth_row.h"
#include "playbook_people.h"

#define BASE       "auth-base.csv"
#define FIGURES    5
#define FIGURE_LEN 21
#define RUN_LEN    32
#define KEY_LEN    (AUTH_FIELD_MAX + 8)

static const char *const figure_names[FIGURES] = { "messages", "would_fail", "spf_pass",
                                                   "dkim_pass", "dmarc_pass" };

struct sender base_figures(const struct auth_row *row)
{
    return (struct sender){ row->messages, row->would_fail, row->spf[AUTH_PASS],
                            row->dkim[AUTH_PASS], row->dmarc[AUTH_PASS] };
}

/* ---- writing ------------------------------------------------------------- */

void base_write(FILE *out, const struct auth_row *row, struct sender sender,
                const char *verdict)
{
    const uint64_t figures[FIGURES] = { sender.messages, sender.would_fail,
                                        sender.spf_pass, sender.dkim_pass,
                                        sender.dmarc_pass };
    char texts[FIGURES][FIGURE_LEN];
    const char *cells[FIGURES + 4] = { row ? row->client : "client",
                                       row ? row->envelope : "envelope",
                                       row ? row->helo : "helo" };
    for (size_t i = 0; i < FIGURES; i++) {
        (void)snprintf(texts[i], FIGURE_LEN, "%" PRIu64, figures[i]);
        cells[i + 3] = row ? texts[i] : figure_names[i];
    }
    cells[FIGURES + 3] = verdict;
    paper_row(out, cells, FIGURES + 3 + (verdict != NULL));
}

struct writer {
    FILE *out;
    size_t rows;
    uint64_t messages;
};

static bool write_row(void *context, const struct auth_row *row)
{
    struct writer *writer = context;
    base_write(writer->out, row, base_figures(row), NULL);
    writer->rows++;
    writer->messages += row->messages;
    return true;
}

static void run_text(const struct action_context *context, char out[RUN_LEN])
{
    (void)snprintf(out, RUN_LEN, "run %" PRId64, context->run);
}

int action_baseline(struct action_context *context, int argc, char **argv)
{
    struct store *store = context->command->store;
    struct writer writer = { paper_open(context, BASE), 0, 0 };
    /* The first row is nobody's: it names the run, and there is always a row. */
    char run[RUN_LEN];
    run_text(context, run);
    const struct auth_row nobody = { .client = "-", .envelope = run, .helo = "" };
    (void)argc;
    (void)argv;
    if (!writer.out)
        return EXIT_SERVICE;
    base_write(writer.out, NULL, base_figures(&nobody), NULL);
    base_write(writer.out, &nobody, base_figures(&nobody), NULL);
    bool good = store_each_auth(store, context->domain, write_row, &writer);
    if (!good)
        message("%s", store_error(store));
    int code = paper_close(context, writer.out, BASE, good);
    if (!good || code != EXIT_DONE)
        return EXIT_SERVICE;
    print("%zu senders with %" PRIu64 " messages so far: " BASE, writer.rows,
          writer.messages);
    return EXIT_DONE;
}

/* ---- reading ------------------------------------------------------------- */

struct base_columns {
    struct table *table;
    size_t client, envelope, figures[FIGURES];
    const char *run;
    bool other; /* it is of another run */
};

static const char *take_base(void *context, const struct people_row *row)
{
    struct base_columns *base = context;
    uint64_t figures[FIGURES];
    char key[KEY_LEN];
    if (row->line == 1) {
        base->client = rows_column(row, "client");
        base->envelope = rows_column(row, "envelope");
        bool whole = base->client != SIZE_MAX && base->envelope != SIZE_MAX;
        for (size_t i = 0; i < FIGURES; i++) {
            base->figures[i] = rows_column(row, figure_names[i]);
            whole = whole && base->figures[i] != SIZE_MAX;
        }
        return whole ? NULL : "not a baseline: run its step again";
    }
    if (row->line == 2)
        base->other = strcmp(row->cells[base->envelope], base->run) != 0;
    for (size_t i = 0; i < FIGURES; i++)
        figures[i] = strtoull(row->cells[base->figures[i]], NULL, 10);
    struct sender sender = { figures[0], figures[1], figures[2], figures[3], figures[4] };
    char value[sizeof(sender)];
    memcpy(value, &sender, sizeof(sender));
    int n = snprintf(key, sizeof(key), "%s %s", row->cells[base->client],
                     row->cells[base->envelope]);
    return n > 0 && (size_t)n < sizeof(key) &&
                   table_put(base->table, key, (size_t)n, value, sizeof(value))
               ? NULL
               : "a row that is too long";
}

int base_read(const struct action_context *context, struct base *out)
{
    char path[PAPER_PATH_MAX];
    struct stat info;
    *out = (struct base){ .rows = table_new() };
    char run[RUN_LEN];
    struct base_columns base = { .table = out->rows, .run = run };
    run_text(context, run);
    if (!out->rows) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    if (!paper_path(context, BASE, path))
        return EXIT_SERVICE;
    if (stat(path, &info) != 0)
        return EXIT_DONE;
    out->at = info.st_mtime;
    int code = rows_each(path, false, take_base, &base);
    if (code != EXIT_DONE || !base.other)
        return code;
    notice("%s is of an earlier run: everything that was counted is judged", path);
    table_free(out->rows);
    *out = (struct base){ .rows = table_new() };
    return out->rows ? EXIT_DONE : EXIT_SERVICE;
}

void base_free(struct base *base)
{
    if (base->rows)
        table_free(base->rows);
    base->rows = NULL;
}

struct sender base_since(const struct base *base, const struct auth_row *row)
{
    char key[KEY_LEN];
    struct sender before = { 0 };
    int n = snprintf(key, sizeof(key), "%s %s", row->client, row->envelope);
    size_t len = 0;
    const char *value = n > 0 && (size_t)n < sizeof(key)
                            ? table_get(base->rows, key, (size_t)n, &len)
                            : NULL;
    if (value && len == sizeof(before))
        memcpy(&before, value, sizeof(before));
    return sender_since(base_figures(row), before);
}

const char *base_text(const struct base *base, char out[BASE_TEXT_MAX])
{
    char when[TIME_TEXT_MAX];
    if (base->at == 0)
        return "so far";
    (void)snprintf(out, BASE_TEXT_MAX, "since %s", time_text(base->at, when));
    return out;
}
