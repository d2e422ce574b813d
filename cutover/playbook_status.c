/*
 * playbook_status: see playbook_status.h.
 *
 * A step is a line: mark, id, state, time it took or has left, owner, and its note,
 * or its title as long as it has none. Below stand the things that matter now: what
 * runs, what waits for whom (with the command to say that it is done), what failed
 * and why, what comes next, the budget of the change window, a forecast.
 */
#include "playbook_status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "playbook_guard.h"

#define WIDTH           110 /* when the terminal does not say, and for pipes */
#define WIDTH_MIN       60
#define STATUS_LINE_MAX 1200
#define BAR             40
#define TAIL_MAX        2048 /* of a step's log */
#define NEXT_MANY       3    /* steps to come that are shown in the shortest picture */
#define FIXED           17   /* lines above and below the steps, at most */

struct picture {
    const struct engine *engine;
    unsigned width;
    int id_width, owner_width;
    int level; /* 0 all; 1 phases that are over or not begun in a line; 2 only now */
};

/* ---- figures ----------------------------------------------------------------------- */

static size_t count_done(const struct engine *engine, size_t phase, size_t *total)
{
    size_t done = 0;
    *total = 0;
    for (size_t i = 0; i < engine->playbook->step_count; i++)
        if (phase == SIZE_MAX || engine->playbook->steps[i].phase == phase) {
            done += engine->records[i].state == STATE_DONE;
            (*total)++;
        }
    return done;
}

/* Whether nothing of it is under way: all done, or nothing begun. */
static bool is_quiet(const struct engine *engine, size_t phase)
{
    size_t total, done = count_done(engine, phase, &total);
    bool pending = true;
    for (size_t i = 0; i < engine->playbook->step_count; i++)
        if (engine->playbook->steps[i].phase == phase &&
            engine->records[i].state != STATE_PENDING)
            pending = false;
    return done == total || pending;
}

static const char *short_state(enum step_state state)
{
    static const char *const names[STATE_COUNT] = {
        [STATE_PENDING] = "-",         [STATE_RUNNING] = "> runs",
        [STATE_PERSON] = "? person",   [STATE_TIME] = "~ time",
        [STATE_DONE] = "done",         [STATE_FAILED] = "! FAILED",
        [STATE_UNDOING] = "< undoing", [STATE_UNDONE] = "undone",
    };
    return names[state];
}

static int64_t since(const struct engine *engine, const struct step_record *record)
{
    int64_t from = record->state == STATE_PERSON ? record->ended : record->began;
    return from > 0 && engine->now > from ? engine->now - from : 0;
}

static const char *taken(const struct engine *engine, const struct step_record *record,
                         char out[DURATION_TEXT_MAX])
{
    int64_t left = record->due > engine->now ? record->due - engine->now : 0;
    out[0] = '\0';
    switch (record->state) {
    case STATE_PENDING:
    case STATE_UNDONE:
        return out;
    case STATE_TIME:
        return duration_text(left, out);
    case STATE_DONE:
    case STATE_FAILED:
        return record->ended >= record->began
                   ? duration_text(record->ended - record->began, out)
                   : out;
    default:
        return duration_text(since(engine, record), out);
    }
}

/* ---- lines ---------------------------------------------------------------------------
 */

/* Prints a line cut to the width. */
static void put(const struct picture *picture, const char *line)
{
    char cut[STATUS_LINE_MAX];
    size_t size = picture->width + 1 < sizeof(cut) ? picture->width + 1 : sizeof(cut);
    state_text(line, cut, size);
    print("%s", cut);
}

static bool is_shown(const struct picture *picture, size_t step, size_t *pending)
{
    enum step_state state = picture->engine->records[step].state;
    if (picture->level < 2)
        return true;
    if (state == STATE_PENDING)
        return (*pending)++ < NEXT_MANY;
    return state != STATE_DONE && state != STATE_UNDONE;
}

static void put_step(const struct picture *picture, size_t i)
{
    const struct engine *engine = picture->engine;
    const struct playbook_step *step = &engine->playbook->steps[i];
    const struct step_record *record = &engine->records[i];
    char line[STATUS_LINE_MAX + ENGINE_TEXT_MAX], time[DURATION_TEXT_MAX],
        title[ENGINE_TEXT_MAX];
    char owner[17];
    state_text(step->owner, owner, sizeof(owner));
    bool has_note = record->note[0] && record->state != STATE_UNDONE;
    (void)snprintf(line, sizeof(line), "  %-*s  %-9s  %11s  %-*s  %.*s",
                   picture->id_width, step->id, short_state(record->state),
                   taken(engine, record, time), picture->owner_width, owner,
                   STATUS_LINE_MAX - 100,
                   has_note ? record->note : engine_text(engine, i, step->title, title));
    put(picture, line); /* cut to the terminal */
}

/* The steps by phase; only counted when count is not NULL. */
static void put_phases(const struct picture *picture, size_t *count)
{
    const struct engine *engine = picture->engine;
    size_t pending = 0, total;
    char line[STATUS_LINE_MAX];
    for (size_t phase = 0; phase < engine->playbook->phase_count; phase++) {
        size_t done = count_done(engine, phase, &total);
        if (total == 0)
            continue;
        (void)snprintf(line, sizeof(line), "%.600s: %zu of %zu done",
                       engine->playbook->phases[phase], done, total);
        if (count)
            ++*count;
        else
            put(picture, line);
        if (picture->level > 0 && is_quiet(engine, phase))
            continue;
        for (size_t i = 0; i < engine->playbook->step_count; i++) {
            if (engine->playbook->steps[i].phase != phase ||
                !is_shown(picture, i, &pending))
                continue;
            if (count)
                ++*count;
            else
                put_step(picture, i);
        }
    }
}

static void measure(struct picture *picture, unsigned lines)
{
    const struct engine *engine = picture->engine;
    struct winsize size;
    bool known = isatty(STDOUT_FILENO) == 1 &&
                 ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    picture->width = !known ? WIDTH : size.ws_col < WIDTH_MIN ? WIDTH_MIN : size.ws_col;
    for (size_t i = 0; i < engine->playbook->step_count; i++) {
        int id = (int)strlen(engine->playbook->steps[i].id);
        int owner = (int)strlen(engine->playbook->steps[i].owner);
        if (id > picture->id_width)
            picture->id_width = id;
        if (owner > picture->owner_width)
            picture->owner_width = owner < 16 ? owner : 16;
    }
    for (; lines > 0 && picture->level < 2; picture->level++) {
        size_t count = FIXED;
        put_phases(picture, &count);
        if (count <= lines)
            break;
    }
}

/* ---- what matters now
 * -------------------------------------------------------------------- */

static void put_head(const struct picture *picture)
{
    const struct engine *engine = picture->engine;
    const struct run_record *run = &engine->run;
    char line[STATUS_LINE_MAX], when[TIME_TEXT_MAX], bar[BAR + 1], title[201];
    size_t total, done = count_done(engine, SIZE_MAX, &total);
    size_t filled = total > 0 ? done * BAR / total : 0;
    state_text(engine->playbook->title, title, sizeof(title));
    (void)snprintf(line, sizeof(line), "%s: %s (playbook %.60s%s%.41s%s)",
                   engine->domain->name, title, engine->playbook->name,
                   engine->playbook->variant ? ", " : "",
                   engine->playbook->variant ? engine->playbook->variant : "",
                   run->rehearsal ? ", REHEARSAL" : "");
    put(picture, line);
    (void)snprintf(line, sizeof(line), "%s, started %s by %s", run_state_name(run->state),
                   time_text(run->started, when), run->by);
    put(picture, line);
    memset(bar, '.', BAR);
    memset(bar, '#', filled);
    bar[BAR] = '\0';
    print("[%s] %zu of %zu steps done", bar, done, total);
}

/* What the step said last, where its log is on this host: how far a sync is. */
static void put_last_words(const struct engine *engine, const struct playbook_step *step)
{
    char path[ENGINE_PATH_MAX + PLAYBOOK_ID_MAX + 8], text[TAIL_MAX + 1],
        words[GUARD_NOTE_MAX + 1] = "";
    (void)snprintf(path, sizeof(path), "%s/%s.log", engine->directory, step->id);
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    if (fseek(file, -TAIL_MAX, SEEK_END) != 0)
        rewind(file);
    size_t len = fread(text, 1, TAIL_MAX, file);
    fclose(file);
    text[len] = '\0';
    guard_last_words(text, len, 0, words);
    if (words[0] && strncmp(words, "---- ", 5) != 0)
        print("          it said last: %s", words);
}

/* What a person is asked to do, and what is looked at when he says that it is done. */
static void put_question(const struct engine *engine, size_t i)
{
    const struct playbook_step *step = &engine->playbook->steps[i];
    char text[ENGINE_TEXT_MAX];
    print("          %s", engine_text(engine, i, step->title, text));
    if (step->text[0])
        print("          %s", engine_text(engine, i, step->text, text));
    if (step->post.argv)
        print("          looked at then: %s", step->post.argv[0]);
}

static void put_waiting(const struct picture *picture, size_t i)
{
    const struct engine *engine = picture->engine;
    const struct playbook_step *step = &engine->playbook->steps[i];
    const struct step_record *record = &engine->records[i];
    char when[TIME_TEXT_MAX], time[DURATION_TEXT_MAX], usual[DURATION_TEXT_MAX];
    taken(engine, record, time);
    switch (record->state) {
    case STATE_RUNNING:
        print("runs      %s for %s, usually %s; its log: %s/%s.log", step->id, time,
              duration_text(step->usually_s, usual), engine->directory, step->id);
        put_last_words(engine, step);
        print("          (if it was killed: sluice playbook run %s does it again)",
              engine->domain->name);
        break;
    case STATE_PERSON:
        print(
            "waits     for %s since %s: sluice playbook ack %s %s --by NAME --note TEXT",
            step->owner, time, engine->domain->name, step->id);
        put_question(engine, i);
        break;
    case STATE_TIME:
        print("waits     %s until %s, %s left", step->id, time_text(record->due, when),
              time);
        break;
    case STATE_FAILED:
        print("FAILED    %s: %s", step->id, record->note);
        print("          its log: %s/%s.log", engine->directory, step->id);
        print("          mend it and go on: sluice playbook run %s; or go back: sluice "
              "playbook rollback %s",
              engine->domain->name, engine->domain->name);
        break;
    case STATE_UNDOING:
        print("undoing   %s: sluice playbook rollback %s goes on with it%s", step->id,
              engine->domain->name,
              step->undo.argv && action_find(step->undo.argv[0])->kind == ACTION_PERSON
                  ? ", after sluice playbook ack"
                  : "");
        break;
    default:
        break;
    }
}

static void put_next(const struct engine *engine)
{
    char title[ENGINE_TEXT_MAX];
    struct next next = state_next(engine->playbook, engine->records, engine->now);
    if (next.kind == NEXT_DONE) {
        print("next      nothing, every step is done");
    } else if (next.kind == NEXT_STEP &&
               (engine->records[next.step].state == STATE_PENDING ||
                engine->records[next.step].state == STATE_UNDONE)) {
        const struct playbook_step *step = &engine->playbook->steps[next.step];
        print("next      %s (%s), by %s: sluice playbook run %s", step->id,
              engine_text(engine, next.step, step->title, title), step->owner,
              engine->domain->name);
    }
}

static void put_forecast(const struct engine *engine)
{
    struct forecast forecast;
    char left[DURATION_TEXT_MAX], need[DURATION_TEXT_MAX], all[DURATION_TEXT_MAX],
        budget[DURATION_TEXT_MAX], when[TIME_TEXT_MAX];
    state_forecast(engine->playbook, &engine->run, engine->records, engine->now,
                   &forecast);
    duration_text(forecast.left_s < 0 ? -forecast.left_s : forecast.left_s, left);
    duration_text(forecast.need_s, need);
    duration_text(engine->run.window_s, budget);
    const char *fits = forecast.over ? "IT WILL NOT FIT" : "it fits";
    if (forecast.open && forecast.left_s < 0)
        print("window    OVER since %s; usually %s more are needed", left, need);
    else if (forecast.open)
        print("window    open until %s, %s left of %s; usually %s are needed: %s",
              time_text(forecast.ends, when), left, budget, need, fits);
    else if (engine->run.opened > 0)
        print("window    closed again, it had %s", budget);
    else if (forecast.need_s > 0)
        print("window    not open yet, it has %s; usually %s are needed: %s", budget,
              need, fits);
    if (forecast.all_s > 0)
        print(
            "forecast  everything done about %s, when nothing takes longer than usually "
            "(%s)",
            time_text(engine->now + forecast.all_s, when),
            duration_text(forecast.all_s, all));
}

/* ---- --json
 * --------------------------------------------------------------------------------- */

static void add_step(const struct engine *engine, size_t i, doc *steps)
{
    const struct playbook_step *step = &engine->playbook->steps[i];
    const struct step_record *record = &engine->records[i];
    char title[ENGINE_TEXT_MAX];
    doc *object = doc_add(steps, doc_object());
    doc_text(object, "id", step->id);
    doc_text(object, "title", engine_text(engine, i, step->title, title));
    doc_text(object, "phase", engine->playbook->phases[step->phase]);
    doc_text(object, "state", step_state_name(record->state));
    doc_text(object, "owner", step->owner);
    doc_number(object, "usually_seconds", step->usually_s);
    doc_number(object, "began", record->began);
    doc_number(object, "ended", record->ended);
    doc_number(object, "due", record->due);
    doc_text(object, "by", record->by[0] ? record->by : NULL);
    doc_text(object, "note", record->note);
}

static void add_forecast(const struct engine *engine, doc *document)
{
    static const char *const kinds[] = { "step", "person", "time", "done" };
    struct forecast forecast;
    struct next next = state_next(engine->playbook, engine->records, engine->now);
    doc *object = doc_put(document, "next", doc_object());
    doc_text(object, "kind", kinds[next.kind]);
    doc_text(object, "step",
             next.step == SIZE_MAX ? NULL : engine->playbook->steps[next.step].id);
    state_forecast(engine->playbook, &engine->run, engine->records, engine->now,
                   &forecast);
    object = doc_put(document, "window", doc_object());
    doc_flag(object, "open", forecast.open);
    doc_number(object, "ends", forecast.ends);
    doc_number(object, "left_seconds", forecast.left_s);
    doc_number(object, "needed_seconds", forecast.need_s);
    doc_flag(object, "over", forecast.over);
    doc_number(document, "needed_seconds", forecast.all_s);
}

static void add_document(const struct engine *engine, doc *document)
{
    size_t total, done = count_done(engine, SIZE_MAX, &total);
    doc_text(document, "domain", engine->domain->name);
    doc_text(document, "playbook", engine->playbook->name);
    doc_text(document, "variant", engine->playbook->variant);
    doc_text(document, "state", run_state_name(engine->run.state));
    doc_flag(document, "rehearsal", engine->run.rehearsal);
    doc_number(document, "started", engine->run.started);
    doc_text(document, "by", engine->run.by);
    doc_number(document, "steps_done", (int64_t)done);
    doc_number(document, "steps_total", (int64_t)total);
    add_forecast(engine, document);
}

/* ---- the whole
 * ------------------------------------------------------------------------------- */

void status_print(const struct engine *engine, unsigned lines)
{
    struct picture picture = { .engine = engine };
    doc *document = doc_object(), *steps = doc_array();
    doc_text(document, "command", "playbook");
    add_document(engine, document);
    for (size_t i = 0; i < engine->playbook->step_count; i++)
        add_step(engine, i, steps);
    doc_put(document, "steps", steps);
    measure(&picture, lines);
    put_head(&picture);
    print("%s", "");
    put_phases(&picture, NULL);
    print("%s", "");
    for (size_t i = 0; i < engine->playbook->step_count; i++)
        put_waiting(&picture, i);
    put_next(engine);
    put_forecast(engine);
    doc_print(document);
}

void status_row(const struct engine *engine, struct sheet *sheet, doc *list)
{
    char state[40], steps[48], what[120];
    size_t total, done = count_done(engine, SIZE_MAX, &total);
    struct next next = state_next(engine->playbook, engine->records, engine->now);
    const struct playbook_step *step =
        next.step == SIZE_MAX ? NULL : &engine->playbook->steps[next.step];
    (void)snprintf(state, sizeof(state), "%s%s", run_state_name(engine->run.state),
                   engine->run.rehearsal ? ", rehearsal" : "");
    (void)snprintf(steps, sizeof(steps), "%zu of %zu", done, total);
    (void)snprintf(what, sizeof(what), "%s%s%.40s", step ? step->id : "-",
                   next.kind == NEXT_PERSON ? ", waits for "
                   : next.kind == NEXT_TIME ? ", waits for time"
                   : step && engine->records[next.step].state == STATE_FAILED ? ", FAILED"
                                                                              : "",
                   next.kind == NEXT_PERSON ? step->owner : "");
    const char *cells[] = { engine->domain->name, engine->playbook->name, state, steps,
                            what };
    sheet_row(sheet, cells);
    add_document(engine, doc_add(list, doc_object()));
}
