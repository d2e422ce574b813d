/*
 * playbook_report: see playbook_report.h. All of it goes to standard output by
 * print(), a line at a time.
 */
#include "playbook_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "output.h"

#define CELL 8192

/* ---- escaping ------------------------------------------------------------------ */

static const char *replacement(enum paper paper, char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return paper == PAPER_HTML ? "&quot;" : NULL;
    case '\'':
        return paper == PAPER_HTML ? "&#39;" : NULL;
    case '|':
        return paper == PAPER_MARKDOWN ? "\\|" : NULL;
    case '`':
        return paper == PAPER_MARKDOWN ? "\\`" : NULL;
    case '*':
        return paper == PAPER_MARKDOWN ? "\\*" : NULL;
    case '_':
        return paper == PAPER_MARKDOWN ? "\\_" : NULL;
    case '[':
        return paper == PAPER_MARKDOWN ? "\\[" : NULL;
    case '\\':
        return paper == PAPER_MARKDOWN ? "\\\\" : NULL;
    default:
        return NULL;
    }
}

void paper_escape(enum paper paper, const char *text, char *out, size_t size)
{
    size_t used = 0;
    for (; *text; text++) {
        const char *with = paper == PAPER_TEXT ? NULL : replacement(paper, *text);
        char plain[2] = { (unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text };
        size_t len = strlen(with ? with : plain);
        if (used + len >= size)
            break;
        memcpy(out + used, with ? with : plain, len);
        used += len;
    }
    out[used] = '\0';
}

static void line(enum paper paper, const char *tag, const char *markdown,
                 const char *text)
{
    char cell[CELL];
    paper_escape(paper, text, cell, sizeof(cell));
    if (paper == PAPER_HTML)
        print("<%s>%s</%s>", tag, cell, tag);
    else
        print("%s%s", markdown, cell);
    if (paper != PAPER_HTML)
        print("%s", "");
}

static void row(enum paper paper, bool head, const char *const *cells, size_t n)
{
    char text[CELL], whole[CELL * 2] = "";
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        paper_escape(paper, cells[i] ? cells[i] : "", text, sizeof(text));
        const char *tag = head ? "th" : "td";
        int len = paper == PAPER_HTML
                      ? snprintf(whole + used, sizeof(whole) - used, "<%s>%s</%s>", tag,
                                 text, tag)
                      : snprintf(whole + used, sizeof(whole) - used, "| %s ", text);
        if (len < 0 || (size_t)len >= sizeof(whole) - used)
            break;
        used += (size_t)len;
    }
    whole[used] = '\0';
    print(paper == PAPER_HTML ? "<tr>%s</tr>" : "%s|", whole);
    if (head && paper != PAPER_HTML) {
        used = 0;
        for (size_t i = 0; i < n && used + 6 < sizeof(whole); i++, used += 6)
            memcpy(whole + used, "| --- ", 7);
        print("%s|", whole);
    }
}

static void begin(enum paper paper, const char *title)
{
    char text[CELL];
    if (paper != PAPER_HTML)
        return;
    paper_escape(paper, title, text, sizeof(text));
    print("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<title>%s</title>\n<style>body{font:16px/1.5 sans-serif;max-width:70em;"
          "margin:2em auto;padding:0 1em}table{border-collapse:collapse;width:100%%}"
          "th,td{border:1px solid #bbb;padding:.3em .6em;text-align:left;"
          "vertical-align:top}th{background:#eee}</style></head><body>",
          text);
}

static void table(enum paper paper, bool open)
{
    if (paper == PAPER_HTML)
        print(open ? "<table>" : "</table>");
    else if (!open)
        print("%s", "");
}

static void end(enum paper paper)
{
    if (paper == PAPER_HTML)
        print("</body></html>");
}

/* ---- pieces ------------------------------------------------------------------------ */

static void join(char *const *words, const char *between, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; words && words[i]; i++) {
        int n = snprintf(out + used, size - used, "%s%s", i > 0 ? between : "", words[i]);
        if (n < 0 || (size_t)n >= size - used)
            return;
        used += (size_t)n;
    }
}

static const char *kind_of(const struct playbook_step *step)
{
    return action_kind_name(action_find(step->action.argv[0])->kind);
}

/* ---- the plan ------------------------------------------------------------------------
 */

static void plan_step(const struct playbook *playbook, size_t index, enum paper paper)
{
    const struct playbook_step *step = &playbook->steps[index];
    char action[CELL], rows[CELL], usual[DURATION_TEXT_MAX], back[CELL], number[24],
        what[CELL];
    join(step->action.argv, " ", action, sizeof(action));
    join(step->rows, ", ", rows, sizeof(rows));
    join(step->undo.argv, " ", back, sizeof(back));
    (void)snprintf(number, sizeof(number), "%zu", index + 1);
    (void)snprintf(what, sizeof(what), "%s%s%s", step->title, step->text[0] ? ": " : "",
                   step->text);
    const char *cells[] = { number,
                            what,
                            step->owner,
                            kind_of(step),
                            action,
                            duration_text(step->usually_s, usual),
                            step->no_return ? "POINT OF NO RETURN" : back,
                            rows };
    row(paper, false, cells, 8);
}

static void plan_settings(const struct playbook *playbook, enum paper paper)
{
    static const char *const heads[] = { "setting", "default", "what it is" };
    if (playbook->setting_count == 0)
        return;
    line(paper, "h2", "## ", "Settings");
    table(paper, true);
    row(paper, true, heads, 3);
    for (size_t i = 0; i < playbook->setting_count; i++) {
        const struct playbook_setting *it = &playbook->settings[i];
        const char *cells[] = { it->name, it->value ? it->value : "(to be given)",
                                it->about };
        row(paper, false, cells, 3);
    }
    table(paper, false);
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
        const char *cells[] = { number,        step->id,
                                step->title,   step->owner,
                                kind_of(step), duration_text(step->usually_s, usual) };
        sheet_row(sheet, cells);
    }
    print("%s: %s", playbook->name, playbook->title);
    sheet_print(sheet);
    for (size_t i = 0; i < playbook->setting_count; i++)
        print("  --set %s=%s: %s", playbook->settings[i].name,
              playbook->settings[i].value ? playbook->settings[i].value : "...",
              playbook->settings[i].about);
}

void paper_plan(const struct playbook *playbook, enum paper paper)
{
    static const char *const heads[] = { "#",      "step",    "owner",    "kind",
                                         "action", "usually", "way back", "rows" };
    size_t phase = SIZE_MAX;
    if (paper == PAPER_TEXT) {
        plan_text(playbook);
        return;
    }
    begin(paper, playbook->title);
    line(paper, "h1", "# ", playbook->title);
    line(paper, "p", "", playbook->about);
    plan_settings(playbook, paper);
    for (size_t i = 0; i < playbook->step_count; i++) {
        if (playbook->steps[i].phase != phase) {
            if (phase != SIZE_MAX)
                table(paper, false);
            phase = playbook->steps[i].phase;
            line(paper, "h2", "## ", playbook->phases[phase]);
            table(paper, true);
            row(paper, true, heads, 8);
        }
        plan_step(playbook, i, paper);
    }
    table(paper, false);
    end(paper);
}

void paper_document(const struct playbook *playbook)
{
    doc *document = doc_object(), *steps = doc_array();
    doc_text(document, "command", "playbook");
    doc_text(document, "name", playbook->name);
    doc_text(document, "title", playbook->title);
    for (size_t i = 0; i < playbook->step_count; i++) {
        const struct playbook_step *step = &playbook->steps[i];
        doc *object = doc_add(steps, doc_object());
        doc_text(object, "id", step->id);
        doc_text(object, "title", step->title);
        doc_text(object, "owner", step->owner);
        doc_text(object, "phase", playbook->phases[step->phase]);
        doc_text(object, "kind", kind_of(step));
        doc *rows = doc_put(object, "rows", doc_array());
        for (size_t r = 0; step->rows[r]; r++)
            doc_add_text(rows, step->rows[r]);
        doc_number(object, "usually_seconds", step->usually_s);
        doc_flag(object, "point_of_no_return", step->no_return);
    }
    doc_put(document, "steps", steps);
    doc_print(document);
}

/* ---- a run
 * ------------------------------------------------------------------------------- */

static void took_text(const struct engine *engine, const struct step_record *record,
                      char out[DURATION_TEXT_MAX])
{
    out[0] = '\0';
    if (record->began > 0)
        duration_text((record->ended > 0 ? record->ended : engine->now) - record->began,
                      out);
}

static void status_step(const struct engine *engine, size_t i, struct sheet *sheet,
                        doc *steps)
{
    const struct playbook_step *step = &engine->playbook->steps[i];
    const struct step_record *record = &engine->records[i];
    char took[DURATION_TEXT_MAX], left[DURATION_TEXT_MAX], state[120], note[61];
    took_text(engine, record, took);
    (void)snprintf(
        state, sizeof(state), "%s%s%s", step_state_name(record->state),
        record->state == STATE_TIME ? ", left " : "",
        record->state == STATE_TIME
            ? duration_text(record->due > engine->now ? record->due - engine->now : 0,
                            left)
            : "");
    state_text(record->note, note, sizeof(note));
    const char *cells[] = { step->id, state, step->owner, took, record->by, note };
    sheet_row(sheet, cells);
    doc *object = doc_add(steps, doc_object());
    doc_text(object, "id", step->id);
    doc_text(object, "title", step->title);
    doc_text(object, "state", step_state_name(record->state));
    doc_text(object, "owner", step->owner);
    doc_number(object, "began", record->began);
    doc_number(object, "ended", record->ended);
    doc_number(object, "due", record->due);
    doc_text(object, "by", record->by[0] ? record->by : NULL);
    doc_text(object, "note", record->note);
}

static void status_forecast(const struct engine *engine, doc *document)
{
    struct forecast forecast;
    char left[DURATION_TEXT_MAX], need[DURATION_TEXT_MAX], all[DURATION_TEXT_MAX];
    state_forecast(engine->playbook, &engine->run, engine->records, engine->now,
                   &forecast);
    duration_text(forecast.left_s < 0 ? -forecast.left_s : forecast.left_s, left);
    print("change window: %s %s, usually still needed: %s%s; for everything: %s",
          forecast.open ? (forecast.left_s < 0 ? "OVER since" : "open, left")
                        : "not open, it has",
          left, duration_text(forecast.need_s, need),
          forecast.over ? " (IT WILL NOT FIT)" : "", duration_text(forecast.all_s, all));
    doc *object = doc_put(document, "window", doc_object());
    doc_flag(object, "open", forecast.open);
    doc_number(object, "left_seconds", forecast.left_s);
    doc_number(object, "needed_seconds", forecast.need_s);
    doc_flag(object, "over", forecast.over);
}

static void status_next(const struct engine *engine, doc *document)
{
    char when[TIME_TEXT_MAX];
    struct next next = state_next(engine->playbook, engine->records, engine->now);
    static const char *const kinds[] = { "step", "person", "time", "done" };
    const struct playbook_step *step =
        next.step == SIZE_MAX ? NULL : &engine->playbook->steps[next.step];
    doc *object = doc_put(document, "next", doc_object());
    doc_text(object, "kind", kinds[next.kind]);
    doc_text(object, "step", step ? step->id : NULL);
    if (next.kind == NEXT_DONE)
        print("next: nothing, every step is done");
    else if (next.kind == NEXT_TIME)
        print("next: %s, not before %s", step->id,
              time_text(engine->records[next.step].due, when));
    else
        print("next: %s (%s), by %s", step->id, step->title, step->owner);
}

void paper_status(const struct engine *engine)
{
    static const char *const heads[] = {
        "step", "state", "owner", ">took", "by", "note"
    };
    char when[TIME_TEXT_MAX];
    doc *document = doc_object(), *steps = doc_array();
    struct sheet *sheet = sheet_new(heads, 6);
    doc_text(document, "command", "playbook");
    doc_text(document, "domain", engine->domain->name);
    doc_text(document, "playbook", engine->playbook->name);
    doc_text(document, "state", run_state_name(engine->run.state));
    doc_flag(document, "rehearsal", engine->run.rehearsal);
    doc_number(document, "started", engine->run.started);
    for (size_t i = 0; i < engine->playbook->step_count; i++)
        status_step(engine, i, sheet, steps);
    doc_put(document, "steps", steps);
    print("%s: playbook %s%s, %s, started %s by %s", engine->domain->name,
          engine->playbook->name, engine->run.rehearsal ? " (rehearsal)" : "",
          run_state_name(engine->run.state), time_text(engine->run.started, when),
          engine->run.by);
    sheet_print(sheet);
    status_next(engine, document);
    status_forecast(engine, document);
    doc_print(document);
}

void paper_report(const struct engine *engine, enum paper paper)
{
    static const char *const heads[] = { "step", "state", "began",         "ended",
                                         "took", "by",    "result or note" };
    char title[CELL], began[TIME_TEXT_MAX], ended[TIME_TEXT_MAX], took[DURATION_TEXT_MAX];
    if (paper == PAPER_TEXT) {
        paper_status(engine);
        return;
    }
    (void)snprintf(title, sizeof(title), "%s: %s%s", engine->domain->name,
                   engine->playbook->title, engine->run.rehearsal ? " (rehearsal)" : "");
    begin(paper, title);
    line(paper, "h1", "# ", title);
    (void)snprintf(title, sizeof(title), "Started %s by %s; %s.",
                   time_text(engine->run.started, began), engine->run.by,
                   run_state_name(engine->run.state));
    line(paper, "p", "", title);
    table(paper, true);
    row(paper, true, heads, 7);
    for (size_t i = 0; i < engine->playbook->step_count; i++) {
        const struct step_record *record = &engine->records[i];
        took_text(engine, record, took);
        const char *cells[] = { engine->playbook->steps[i].title,
                                step_state_name(record->state),
                                time_text(record->began, began),
                                time_text(record->ended, ended),
                                took,
                                record->by,
                                record->note };
        row(paper, false, cells, 7);
    }
    table(paper, false);
    end(paper);
}
