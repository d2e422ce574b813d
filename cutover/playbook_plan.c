/*
 * playbook_plan: a playbook as a document to hand round, and as --json. See
 * playbook_report.h.
 */
#include <stdio.h>
#include <string.h>

#include "output.h"
#include "playbook_page.h"
#include "playbook_report.h"

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
    static const char *const heads[] = { "no.",     "step",     "owner", "how",
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
    if (!page_open(&page, paper, playbook->title))
        return EXIT_SERVICE;
    plan_page(&page, playbook);
    return page_print(&page);
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
        doc_text(object, "action", step->action.argv[0]);
        doc_text(object, "undo", step->undo.argv ? step->undo.argv[0] : NULL);
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

/* ---- as an action ---------------------------------------------------------------- */

int action_plan(struct action_context *context, int argc, char **argv)
{
    struct engine engine;
    struct page page;
    char path[ENGINE_PATH_MAX];
    (void)argc;
    (void)argv;
    int code = paper_run(context, "plan.html", &engine, path);
    if (code != EXIT_DONE)
        return code;
    code = EXIT_SERVICE;
    if (page_open(&page, PAPER_HTML, engine.playbook->title)) {
        plan_page(&page, engine.playbook);
        code = page_save(&page, path);
    }
    engine_close(&engine);
    return code;
}
