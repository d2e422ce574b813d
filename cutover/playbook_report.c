/*
 * playbook_report: what a run did, as a document. See playbook_report.h; how it is
 * written down is in playbook_page.c. As text it is what status shows.
 */
#include "playbook_report.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "playbook_page.h"
#include "playbook_status.h"

#define PAPERS_MAX 200

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

/* The time from the start to the last thing that happened. */
static const char *whole_time(const struct engine *engine, char out[DURATION_TEXT_MAX])
{
    int64_t last = engine->run.started;
    for (size_t i = 0; i < engine->playbook->step_count; i++)
        if (engine->records[i].ended > last)
            last = engine->records[i].ended;
    return duration_text(last - engine->run.started, out);
}

static int is_paper(const struct dirent *entry)
{
    static const char *const ours[] = { ".log", ".log.1", ".lock", ".conf", ".new" };
    size_t len = strlen(entry->d_name);
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (len >= strlen(ours[i]) &&
            strcmp(entry->d_name + len - strlen(ours[i]), ours[i]) == 0)
            return 0;
    return entry->d_name[0] != '.';
}

/* What the steps have written, beside their logs. */
static void report_papers(struct page *page, const struct engine *engine)
{
    struct dirent **entries = NULL;
    int n = scandir(engine->directory, &entries, is_paper, alphasort);
    if (n <= 0) {
        free(entries);
        return;
    }
    page_title(page, 2, "Papers");
    for (int i = 0; i < n; i++) {
        if (i < PAPERS_MAX)
            page_item(page, entries[i]->d_name);
        free(entries[i]);
    }
    if (n > PAPERS_MAX)
        page_item(page, "and more");
    free(entries);
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
    page_fact(page, "Took so far", whole_time(engine, when));
    report_window(page, engine);
    page_fact(page, "This report", time_text(engine->now, when));
    if (engine->who)
        page_fact(page, "Pilot group", engine->who);
    page_fact(page, "Logs and papers",
              engine->kept_as ? engine->kept_as : engine->directory);
    if (!engine->kept_for)
        return;
    (void)snprintf(text, sizeof(text), "%.200s, begun by %s", engine->kept_for,
                   engine->by);
    page_fact(page, "In its place", text);
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
    report_papers(page, engine);
    report_settings(page, engine);
}

static bool make_report(const struct engine *engine, enum paper paper, struct page *page)
{
    char title[300];
    (void)snprintf(title, sizeof(title), "%s: %.40s", engine->domain->name,
                   engine->playbook->name);
    if (!page_open(page, paper, title))
        return false;
    report_page(page, engine);
    return true;
}

int paper_report(const struct engine *engine, enum paper paper)
{
    struct page page;
    if (paper == PAPER_TEXT) {
        status_print(engine, 0);
        return EXIT_DONE;
    }
    return make_report(engine, paper, &page) ? page_print(&page) : EXIT_SERVICE;
}

int paper_keep(const struct engine *engine)
{
    static const char *const names[] = {
        [PAPER_MARKDOWN] = "report.md", [PAPER_HTML] = "report.html"
    };
    char path[ENGINE_PATH_MAX];
    int code = EXIT_DONE;
    for (enum paper paper = PAPER_MARKDOWN; code == EXIT_DONE && paper <= PAPER_HTML;
         paper++) {
        struct page page;
        int n = snprintf(path, sizeof(path), "%s/%s", engine->directory, names[paper]);
        if (n < 0 || (size_t)n >= sizeof(path) || !make_report(engine, paper, &page))
            return EXIT_SERVICE;
        if (page_close(&page)) {
            code = engine_keep_text(path, page.text, page.len);
        } else {
            message("out of memory: no document");
            code = EXIT_SERVICE;
        }
        free(page.text);
    }
    return code;
}

/* ---- as actions ---------------------------------------------------------------------
 */

int paper_run(struct action_context *context, const char *file, struct engine *engine,
              char path[ENGINE_PATH_MAX])
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

int action_report(struct action_context *context, int argc, char **argv)
{
    struct engine engine;
    struct page page;
    char path[ENGINE_PATH_MAX];
    (void)argc;
    (void)argv;
    int code = paper_run(context, "report.html", &engine, path);
    if (code != EXIT_DONE)
        return code;
    code =
        make_report(&engine, PAPER_HTML, &page) ? page_save(&page, path) : EXIT_SERVICE;
    engine_close(&engine);
    return code;
}
