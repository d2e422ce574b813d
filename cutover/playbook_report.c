/*
 * playbook_report: the two documents. See playbook_report.h; how they are written
 * down is in playbook_page.c. As text, both are tables for the terminal.
 */
#include "playbook_report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "output.h"
#include "playbook_page.h"
#include "playbook_status.h"

#define LINE_BYTES 2600 /* of a cell */

/* ---- pieces ------------------------------------------------------------------- */

/* The words with something between; what does not fit ends with "...". */
static void join(char *const *words, const char *between, char out[LINE_BYTES])
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; words && words[i]; i++) {
        int n = snprintf(out + used, LINE_BYTES - used, "%s%s", i > 0 ? between : "",
                         words[i]);
        if (n < 0 || (size_t)n >= LINE_BYTES - used) {
            memcpy(out + LINE_BYTES - 4, "...", 4);
            return;
        }
        used += (size_t)n;
    }
}

static enum action_kind kind_of(const struct playbook_step *step)
{
    return action_find(step->action.argv[0])->kind;
}

/* Gives the page out, if it is whole. */
static int give(struct page *page,
                int (*out)(void *context, const char *text, size_t len), void *context)
{
    bool good = page_close(page);
    int code = good ? out(context, page->text, page->len) : EXIT_SERVICE;
    if (!good)
        message("out of memory: no document");
    free(page->text);
    return code;
}

static int to_stdout(void *context, const char *text, size_t len)
{
    (void)context;
    if (!out_is_json())
        (void)fwrite(text, 1, len, stdout); /* out_finish() looks for errors */
    return EXIT_DONE;
}

/* ---- the plan ------------------------------------------------------------------ */

static void plan_step(struct page *page, const struct playbook *playbook, size_t index)
{
    const struct playbook_step *step = &playbook->steps[index];
    char action[LINE_BYTES], before[LINE_BYTES + 16], after[LINE_BYTES + 16],
        rows[LINE_BYTES], back[LINE_BYTES], usual[DURATION_TEXT_MAX], number[24],
        check[LINE_BYTES];
    join(step->action.argv, " ", action);
    join(step->undo.argv, " ", back);
    join(step->rows, ", ", rows);
    join(step->pre.argv, " ", check);
    (void)snprintf(before, sizeof(before), "%s%s", check[0] ? "before: " : "", check);
    join(step->post.argv, " ", check);
    (void)snprintf(after, sizeof(after), "%s%s", check[0] ? "after: " : "", check);
    (void)snprintf(number, sizeof(number), "%zu", index + 1);
    const char *window = step->opens    ? "opens the change window"
                         : step->closes ? "closes the change window"
                                        : "";
    const struct page_cell cells[] = {
        { number, { NULL }, "n" },
        { step->title, { step->text, step->id, window }, "" },
        { step->owner, { NULL }, "" },
        { action_kind_name(kind_of(step)),
          { kind_of(step) == ACTION_PERSON ? "" : action, before, after },
          "" },
        { duration_text(step->usually_s, usual), { NULL }, "time" },
        { step->no_return ? "POINT OF NO RETURN" : back,
          { NULL },
          step->no_return ? "wall" : "note" },
        { rows, { NULL }, "" },
    };
    page_row(page, cells, sizeof(cells) / sizeof(cells[0]));
}

static void plan_variants(struct page *page, const struct playbook *playbook)
{
    char text[LINE_BYTES];
    for (size_t i = 0; i < playbook->variant_count; i++) {
        const struct playbook_variant *it = &playbook->variants[i];
        bool is_this = playbook->variant && strcmp(playbook->variant, it->name) == 0;
        (void)snprintf(text, sizeof(text), "%s %s",
                       is_this ? "This is variant" : "Another variant is", it->name);
        page_fact(page, text, it->about);
    }
}

static void plan_settings(struct page *page, const struct playbook *playbook)
{
    static const char *const heads[] = { "setting", "default", "what it is" };
    static const int widths[] = { 20, 25, 55 };
    if (playbook->setting_count == 0)
        return;
    page_title(page, 2, "Settings");
    page_head(page, heads, widths, 3);
    for (size_t i = 0; i < playbook->setting_count; i++) {
        const struct playbook_setting *it = &playbook->settings[i];
        const struct page_cell cells[] = {
            { it->name, { NULL }, "n" },
            { it->value ? it->value : "(to be given)", { NULL }, "" },
            { it->about, { NULL }, "" },
        };
        page_row(page, cells, 3);
    }
    page_foot(page);
}

static void plan_facts(struct page *page, const struct playbook *playbook)
{
    char window[DURATION_TEXT_MAX], all[DURATION_TEXT_MAX], steps[80];
    size_t persons = 0;
    int64_t total = 0;
    for (size_t i = 0; i < playbook->step_count; i++) {
        persons += kind_of(&playbook->steps[i]) == ACTION_PERSON;
        total += playbook->steps[i].usually_s;
    }
    (void)snprintf(steps, sizeof(steps), "%zu in %zu phases, %zu of them by a person",
                   playbook->step_count, playbook->phase_count, persons);
    page_fact(page, "Playbook", playbook->name);
    page_fact(page, "Steps", steps);
    page_fact(page, "Usually takes", duration_text(total, all));
    page_fact(page, "Change window", duration_text(playbook->window_s, window));
}

static void plan_page(struct page *page, const struct playbook *playbook)
{
    static const char *const heads[] = { "#",       "step",     "owner", "how",
                                         "usually", "way back", "source" };
    static const int widths[] = { 4, 29, 10, 31, 10, 10, 6 };
    page_title(page, 1, playbook->title);
    page_paragraph(page, playbook->about);
    plan_facts(page, playbook);
    plan_variants(page, playbook);
    size_t phase = SIZE_MAX;
    for (size_t i = 0; i < playbook->step_count; i++) {
        if (playbook->steps[i].phase != phase) {
            if (phase != SIZE_MAX)
                page_foot(page);
            phase = playbook->steps[i].phase;
            page_title(page, 2, playbook->phases[phase]);
            page_head(page, heads, widths, sizeof(heads) / sizeof(heads[0]));
        }
        plan_step(page, playbook, i);
    }
    page_foot(page);
    plan_settings(page, playbook);
}

static void plan_text(const struct playbook *playbook)
{
    static const char *const heads[] = {
        ">", "step", "title", "owner", "kind", ">usually"
    };
    char usual[DURATION_TEXT_MAX], number[24];
    struct sheet *sheet = sheet_new(heads, 6);
    for (size_t i = 0; i < playbook->step_count; i++) {
        const struct playbook_step *step = &playbook->steps[i];
        (void)snprintf(number, sizeof(number), "%zu", i + 1);
        const char *cells[] = { number,
                                step->id,
                                step->title,
                                step->owner,
                                action_kind_name(kind_of(step)),
                                duration_text(step->usually_s, usual) };
        sheet_row(sheet, cells);
    }
    print("%s: %s", playbook->name, playbook->title);
    for (size_t i = 0; i < playbook->variant_count; i++)
        print("  --variant %s%s: %s", playbook->variants[i].name,
              playbook->variant &&
                      strcmp(playbook->variant, playbook->variants[i].name) == 0
                  ? " (this one)"
                  : "",
              playbook->variants[i].about);
    sheet_print(sheet);
    for (size_t i = 0; i < playbook->setting_count; i++)
        print("  --set %s=%s: %s", playbook->settings[i].name,
              playbook->settings[i].value ? playbook->settings[i].value : "...",
              playbook->settings[i].about);
}

int paper_plan(const struct playbook *playbook, enum paper paper)
{
    struct page page;
    if (paper == PAPER_TEXT) {
        plan_text(playbook);
        return EXIT_DONE;
    }
    if (!page_open(&page, paper, playbook->title)) {
        message("out of memory: no document");
        return EXIT_SERVICE;
    }
    plan_page(&page, playbook);
    return give(&page, to_stdout, NULL);
}

void paper_document(const struct playbook *playbook)
{
    doc *document = doc_object(), *steps = doc_array(), *settings = doc_array();
    doc_text(document, "command", "playbook");
    doc_text(document, "name", playbook->name);
    doc_text(document, "title", playbook->title);
    doc_text(document, "variant", playbook->variant);
    for (size_t i = 0; i < playbook->step_count; i++) {
        const struct playbook_step *step = &playbook->steps[i];
        doc *object = doc_add(steps, doc_object());
        doc_text(object, "id", step->id);
        doc_text(object, "title", step->title);
        doc_text(object, "owner", step->owner);
        doc_text(object, "phase", playbook->phases[step->phase]);
        doc_text(object, "kind", action_kind_name(kind_of(step)));
        doc *rows = doc_put(object, "rows", doc_array());
        for (size_t r = 0; step->rows[r]; r++)
            doc_add_text(rows, step->rows[r]);
        doc_number(object, "usually_seconds", step->usually_s);
        doc_flag(object, "point_of_no_return", step->no_return);
    }
    for (size_t i = 0; i < playbook->setting_count; i++) {
        doc *object = doc_add(settings, doc_object());
        doc_text(object, "name", playbook->settings[i].name);
        doc_text(object, "default", playbook->settings[i].value);
        doc_text(object, "about", playbook->settings[i].about);
    }
    doc_put(document, "steps", steps);
    doc_put(document, "settings", settings);
    doc_print(document);
}

/* ---- the report of a run -------------------------------------------------------- */

static const char *paint_of(enum step_state state)
{
    return state == STATE_DONE                               ? "done"
           : state == STATE_FAILED                           ? "failed"
           : state == STATE_PENDING || state == STATE_UNDONE ? ""
                                                             : "waits";
}

static void report_step(struct page *page, const struct engine *engine, size_t i)
{
    const struct playbook_step *step = &engine->playbook->steps[i];
    const struct step_record *record = &engine->records[i];
    char began[TIME_TEXT_MAX], ended[TIME_TEXT_MAX], took[DURATION_TEXT_MAX] = "",
                                                     title[ENGINE_TEXT_MAX];
    int64_t until = record->ended > 0 ? record->ended : engine->now;
    if (record->began > 0 && until >= record->began)
        duration_text(until - record->began, took);
    const struct page_cell cells[] = {
        { engine_text(engine, i, step->title, title), { step->id }, "" },
        { step_state_name(record->state), { NULL }, paint_of(record->state) },
        { record->began > 0 ? time_text(record->began, began) : "", { NULL }, "time" },
        { record->ended > 0 ? time_text(record->ended, ended) : "", { NULL }, "time" },
        { took, { NULL }, "time" },
        { record->by, { NULL }, "" },
        { record->note, { NULL }, "note" },
    };
    page_row(page, cells, sizeof(cells) / sizeof(cells[0]));
}

static void report_window(struct page *page, const struct engine *engine)
{
    struct forecast forecast;
    char opened[TIME_TEXT_MAX], budget[DURATION_TEXT_MAX], used[DURATION_TEXT_MAX],
        text[200];
    int64_t closed = engine->now;
    for (size_t i = 0; i < engine->playbook->step_count; i++)
        if (engine->playbook->steps[i].closes && engine->records[i].state == STATE_DONE)
            closed = engine->records[i].ended;
    state_forecast(engine->playbook, &engine->run, engine->records, engine->now,
                   &forecast);
    duration_text(engine->run.window_s, budget);
    if (engine->run.opened == 0)
        (void)snprintf(text, sizeof(text), "not opened; it has %s", budget);
    else
        (void)snprintf(text, sizeof(text), "opened %s, %s of %s used%s",
                       time_text(engine->run.opened, opened),
                       duration_text(closed - engine->run.opened, used), budget,
                       forecast.open ? ", still open" : "");
    page_fact(page, "Change window", text);
}

static void report_facts(struct page *page, const struct engine *engine)
{
    char text[ENGINE_PATH_MAX + 200], when[TIME_TEXT_MAX];
    size_t done = 0;
    for (size_t i = 0; i < engine->playbook->step_count; i++)
        done += engine->records[i].state == STATE_DONE;
    page_fact(page, "Domain", engine->domain->name);
    (void)snprintf(text, sizeof(text), "%s%s%s%s", engine->playbook->name,
                   engine->playbook->variant ? ", variant " : "",
                   engine->playbook->variant ? engine->playbook->variant : "",
                   engine->run.rehearsal ? ", a rehearsal" : "");
    page_fact(page, "Playbook", text);
    (void)snprintf(text, sizeof(text), "%s, %zu of %zu steps done",
                   run_state_name(engine->run.state), done, engine->playbook->step_count);
    page_fact(page, "State", text);
    (void)snprintf(text, sizeof(text), "%s by %s", time_text(engine->run.started, when),
                   engine->run.by);
    page_fact(page, "Started", text);
    report_window(page, engine);
    page_fact(page, "This report", time_text(engine->now, when));
    if (engine->who)
        page_fact(page, "Pilot group", engine->who);
    (void)snprintf(text, sizeof(text), "%s", engine->directory);
    page_fact(page, "Logs and papers", text);
}

static void report_settings(struct page *page, const struct engine *engine)
{
    static const char *const heads[] = { "setting", "value" };
    static const int widths[] = { 50, 50 };
    if (engine->playbook->setting_count == 0)
        return;
    page_title(page, 2, "Settings");
    page_head(page, heads, widths, 2);
    for (size_t i = 0; i < engine->playbook->setting_count; i++) {
        const struct playbook_setting *it = &engine->playbook->settings[i];
        const char *value = engine->values[i] ? engine->values[i] : it->value;
        const struct page_cell cells[] = { { it->name, { it->about }, "" },
                                           { value ? value : "", { NULL }, "note" } };
        page_row(page, cells, 2);
    }
    page_foot(page);
}

static void report_page(struct page *page, const struct engine *engine)
{
    static const char *const heads[] = { "step", "state", "began",         "ended",
                                         "took", "by",    "result or note" };
    static const int widths[] = { 24, 8, 15, 15, 7, 10, 21 };
    char title[600];
    (void)snprintf(title, sizeof(title), "%.255s: %.300s", engine->domain->name,
                   engine->playbook->title);
    page_title(page, 1, title);
    report_facts(page, engine);
    size_t phase = SIZE_MAX;
    for (size_t i = 0; i < engine->playbook->step_count; i++) {
        if (engine->playbook->steps[i].phase != phase) {
            if (phase != SIZE_MAX)
                page_foot(page);
            phase = engine->playbook->steps[i].phase;
            page_title(page, 2, engine->playbook->phases[phase]);
            page_head(page, heads, widths, sizeof(heads) / sizeof(heads[0]));
        }
        report_step(page, engine, i);
    }
    page_foot(page);
    report_settings(page, engine);
}

static int make_report(const struct engine *engine, enum paper paper,
                       int (*out)(void *context, const char *text, size_t len),
                       void *context)
{
    struct page page;
    char title[300];
    (void)snprintf(title, sizeof(title), "%s: %.40s", engine->domain->name,
                   engine->playbook->name);
    if (!page_open(&page, paper, title)) {
        message("out of memory: no document");
        return EXIT_SERVICE;
    }
    report_page(&page, engine);
    return give(&page, out, context);
}

int paper_report(const struct engine *engine, enum paper paper)
{
    if (paper == PAPER_TEXT) {
        status_print(engine, 0);
        return EXIT_DONE;
    }
    return make_report(engine, paper, to_stdout, NULL);
}

/* ---- as actions ---------------------------------------------------------------------
 */

/* Writes it aside and renames it. context: the path. */
static int to_file(void *context, const char *text, size_t len)
{
    const char *path = context;
    char aside[ENGINE_PATH_MAX + 8];
    int n = snprintf(aside, sizeof(aside), "%s.new", path);
    int fd =
        n > 0 && n < (int)sizeof(aside)
            ? open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)
            : -1;
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool good = file && fwrite(text, 1, len, file) == len;
    if (file)
        good = fclose(file) == 0 && good;
    else if (fd >= 0)
        close(fd);
    if (good && rename(aside, path) == 0) {
        print("%s: %zu bytes", path, len);
        return EXIT_DONE;
    }
    message("%s: %s", path, strerror(errno));
    return EXIT_SERVICE;
}

static int open_engine(struct action_context *context, const char *file,
                       struct engine *engine, char path[ENGINE_PATH_MAX])
{
    int n = snprintf(path, ENGINE_PATH_MAX, "%s/%s", context->directory, file);
    int code = engine_begin(context->command, context->domain, engine);
    if (code == EXIT_DONE)
        code = engine_load(engine);
    if (code == EXIT_DONE && (n < 0 || n >= ENGINE_PATH_MAX)) {
        message("%s/%s: too long a name", context->directory, file);
        code = EXIT_DATA;
    }
    if (code != EXIT_DONE)
        engine_close(engine);
    return code;
}

int action_plan(struct action_context *context, int argc, char **argv)
{
    struct engine engine;
    struct page page;
    char path[ENGINE_PATH_MAX];
    (void)argc;
    (void)argv;
    int code = open_engine(context, "plan.html", &engine, path);
    if (code != EXIT_DONE)
        return code;
    if (page_open(&page, PAPER_HTML, engine.playbook->title)) {
        plan_page(&page, engine.playbook);
        code = give(&page, to_file, path);
    } else {
        message("out of memory: no document");
        code = EXIT_SERVICE;
    }
    engine_close(&engine);
    return code;
}

int action_report(struct action_context *context, int argc, char **argv)
{
    struct engine engine;
    char path[ENGINE_PATH_MAX];
    (void)argc;
    (void)argv;
    int code = open_engine(context, "report.html", &engine, path);
    if (code != EXIT_DONE)
        return code;
    code = make_report(&engine, PAPER_HTML, to_file, path);
    engine_close(&engine);
    return code;
}
