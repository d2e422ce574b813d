/* Playbooks: the file's mistakes, the state machine, and the rows of the five. */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "playbook.h"
#include "playbook_action.h"
#include "playbook_report.h"
#include "playbook_state.h"
#include "unit.h"

/* ---- the file ------------------------------------------------------------------ */

static struct playbook *load_text(const char *text, char error[PLAYBOOK_ERROR_MAX])
{
    char path[] = "/tmp/sluice-playbook-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
    close(fd);
    error[0] = '\0';
    struct playbook *playbook =
        playbook_load(path, action_find, error, PLAYBOOK_ERROR_MAX);
    unlink(path);
    /* Without the path, which differs. */
    if (error[0])
        memmove(error, error + strlen(path), strlen(error) - strlen(path) + 1);
    return playbook;
}

#define STEP(id, rest) \
    "step \"" id "\" {\n title = \"T\" owner = \"o\"\n " rest "\n}\n"

static void mistakes(void)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        { "", ": has no step" },
        { "phase \"p\" {\n" STEP("a", "action = {\"conjure\"}") "}\n",
          ":4: action: there is no action \"conjure\" (sluice playbook actions lists "
          "them)" },
        { "phase \"p\" {\n" STEP("a", "action = {\"lock\", \"%{who}\"}") "}\n",
          ":4: step a changes something and has no undo: name one (undo = {\"nothing\"} "
          "when none is needed), or say point-of-no-return = true" },
        { "phase \"p\" {\n" STEP("a", "action = {\"acknowledge\"}")
              STEP("a", "action = {\"acknowledge\"}") "}\n",
          ":6: found duplicate title 'a'" },
        { "phase \"p\" {\n" STEP("a", "action = {\"acknowledge\"}") "}\nphase \"q\" {\n"
              STEP("a", "action = {\"acknowledge\"}") "}\n",
          ":9: there is another step \"a\" (line 3)" },
        { "phase \"p\" {\n" STEP("a", "action = {\"acknowledge\"} after = {\"b\"}")
              STEP("b", "action = {\"acknowledge\"} after = {\"a\"}") "}\n",
          ":3: step a comes after itself, in a circle" },
        { "phase \"p\" {\n" STEP("a", "action = {\"acknowledge\"} after = {\"c\"}") "}\n",
          ":3: step a comes after \"c\", which does not exist" },
        { "phase \"p\" {\n" STEP("a", "action = {\"acknowledge\"}")
              STEP("b", "action = {\"acknowledge\"} after = {\"c\"}")
              STEP("c", "action = {\"acknowledge\"} after = {\"a\"}") "}\n",
          ":7: step b comes after c, which stands below it: move it down" },
        { "phase \"p\" {\n" STEP("a", "") "}\n", ":3: step a has no action" },
        { "phase \"p\" {\n" STEP("a", "action = {\"timer\"}") "}\n",
          ":4: action: write it as timer DURATION [STEP]" },
        { "phase \"p\" {\n" STEP("a", "action = {\"home\", \"new\", \"%{pilot}\"}") "}\n",
          ":4: %{pilot} is not known: declare it with setting \"pilot\" { }" },
        { "phase \"p\" {\n" STEP("a", "action = {\"home\", \"new\", \"%{who\"}") "}\n",
          ":4: \"%{who\": %{ without a name and }" },
        { "phase \"p\" {\n" STEP("a", "action = {\"acknowledge\"}\n post = "
              "{\"lock\", \"x\"}") "}\n",
          ":5: step a: post is not a check" },
        { "phase \"p\" {\n" STEP("A b", "action = {\"acknowledge\"}") "}\n",
          ":3: step \"A b\": an id is 1 to 40 of a-z, 0-9 and -" },
        { "phase \"p\" {\n" STEP("a", "action = {\"acknowledge\"}\n usually = soon") "}\n",
          ":5: usually = \"soon\": not a duration: write it as 90s, 10m, 2h or 3d" },
        { "phase \"p\" {\n" STEP("a", "action = {\"acknowledge\"}\n colour = red") "}\n",
          ":5: no such option 'colour'" },
        { "phase \"p\" {\n" STEP("a", "action = {\"flip\", \"x\"}\n undo = "
              "{\"unlock\", \"x\"}\n point-of-no-return = true") "}\n",
          ":5: step a is a point of no return and has an undo: it cannot be both" },
    };
    char error[PLAYBOOK_ERROR_MAX];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct playbook *playbook = load_text(cases[i].text, error);
        CHECK_STR(cases[i].text, error, cases[i].error);
        CU_ASSERT(!playbook);
        playbook_free(playbook);
    }
}

static const char *value_of(void *context, const char *name)
{
    return strcmp(name, "who") == 0 ? context : "";
}

static void expansion(void)
{
    char who[] = "a@example.com", out[32];
    CU_ASSERT(playbook_expand("<%{who}>%{x}!", value_of, who, out, sizeof(out)));
    CHECK_STR("expanded", out, "<a@example.com>!");
    CU_ASSERT(!playbook_expand("%{who}%{who}%{who}", value_of, who, out, sizeof(out)));
}

/* ---- the state machine ------------------------------------------------------------ */

static struct playbook *three(void)
{
    char error[PLAYBOOK_ERROR_MAX];
    struct playbook *playbook = load_text(
        "phase \"p\" {\n"
        STEP("a", "action = {\"acknowledge\"} usually = 10m opens-window = true")
        STEP("b", "action = {\"timer\", \"1h\"} usually = 1h after = {\"a\"}")
        STEP("c", "action = {\"doctor\"} usually = 5m after = {\"a\"}")
        STEP("d", "action = {\"command\", \"/x\"} point-of-no-return = true usually = 20m"
                  " after = {\"b\", \"c\"} closes-window = true")
        "}\n", error);
    if (!playbook)
        printf("\n  %s\n", error);
    CU_ASSERT_FATAL(playbook != NULL);
    return playbook;
}

static void set_states(struct step_record records[4], const char *letters)
{
    static const char all[] = "prwtdfbu";
    memset(records, 0, 4 * sizeof(*records));
    for (size_t i = 0; i < 4; i++) {
        records[i].state = (enum step_state)(strchr(all, letters[i]) - all);
        records[i].due = 1000;
    }
}

static void what_comes_next(void)
{
    static const struct {
        const char *states;
        int64_t now;
        enum next_kind kind;
        size_t step;
    } cases[] = {
        { "pppp", 0, NEXT_STEP, 0 },    { "wppp", 0, NEXT_PERSON, 0 },
        { "rppp", 0, NEXT_STEP, 0 },    { "fppp", 0, NEXT_STEP, 0 },
        { "dppp", 0, NEXT_STEP, 1 },    { "dtpp", 0, NEXT_STEP, 2 },
        { "dtdp", 999, NEXT_TIME, 1 },  { "dtdp", 1000, NEXT_STEP, 1 },
        { "dtwp", 0, NEXT_PERSON, 2 },  { "dddp", 0, NEXT_STEP, 3 },
        { "dddd", 0, NEXT_DONE, SIZE_MAX }, { "dddu", 0, NEXT_STEP, 3 },
        { "dfdp", 0, NEXT_STEP, 1 },    { "dddb", 0, NEXT_PERSON, 3 },
    };
    struct playbook *playbook = three();
    struct step_record records[4];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        set_states(records, cases[i].states);
        struct next next = state_next(playbook, records, cases[i].now);
        CHECK_INT(cases[i].states, next.kind, cases[i].kind);
        CHECK_INT(cases[i].states, next.step, cases[i].step);
    }
    set_states(records, "ddup");
    CHECK_INT("back", state_next_back(playbook, records, 0), 1);
    CHECK_INT("back to 2", state_next_back(playbook, records, 2), SIZE_MAX);
    CHECK_INT("free to return", state_no_return(playbook, records, 0), SIZE_MAX);
    set_states(records, "dddd");
    CHECK_INT("no return", state_no_return(playbook, records, 0), 3);
    playbook_free(playbook);
}

static void ways(void)
{
    static const char *const allowed[STATE_COUNT] = {
        "r", "rwtdfb", "rwdfb", "rtdfb", "b", "rb", "buf", "r",
    };
    static const char letters[] = "prwtdfbu";
    for (int from = 0; from < STATE_COUNT; from++)
        for (int to = 0; to < STATE_COUNT; to++)
            CHECK_INT("way", step_state_way((enum step_state)from, (enum step_state)to),
                      strchr(allowed[from], letters[to]) != NULL);
}

static void window(void)
{
    struct playbook *playbook = three();
    struct step_record records[4];
    struct run_record run = { .window_s = 6 * 3600 };
    struct forecast forecast;
    set_states(records, "pppp");
    state_forecast(playbook, &run, records, 500, &forecast);
    CHECK_INT("needs", forecast.need_s, 600 + 3600 + 300 + 1200);
    CU_ASSERT(!forecast.open && !forecast.over);
    run.opened = 500;
    run.window_s = 3600;
    set_states(records, "dppp");
    state_forecast(playbook, &run, records, 1100, &forecast);
    CHECK_INT("left", forecast.left_s, 3000);
    CU_ASSERT(forecast.open && forecast.over);
    set_states(records, "dddd");
    state_forecast(playbook, &run, records, 9000, &forecast);
    CU_ASSERT(!forecast.open && !forecast.over);
    playbook_free(playbook);
}

static void records(void)
{
    struct step_record step = { .state = STATE_TIME, .began = 5, .ended = 6, .due = 7,
                                .by = "root@mx1", .note = "two\tlines\nof it" };
    struct step_record back;
    struct run_record run = { .state = RUN_GOING, .started = 5, .window_s = 60,
                              .rehearsal = true, .playbook = "mailroute",
                              .by = "x" }, run_back;
    char text[STATE_RECORD_MAX], stored[STATE_RECORD_MAX + 8];
    step_record_encode(&step, text);
    snprintf(stored, sizeof(stored), "12\t%s", text);
    CU_ASSERT(step_record_decode(stored, strlen(stored), &back));
    CHECK_INT("epoch", back.epoch, 12);
    CHECK_INT("due", back.due, 7);
    CHECK_STR("note", back.note, "two lines of it");
    run_record_encode(&run, text);
    snprintf(stored, sizeof(stored), "13\t%s", text);
    CU_ASSERT(run_record_decode(stored, strlen(stored), &run_back));
    CHECK_STR("playbook", run_back.playbook, "mailroute");
    CU_ASSERT(run_back.rehearsal);
    static const char *const bad[] = { "", "x", "12\t", "12\tq\t1\t2\t3\tb\tn",
                                       "12\td\t1\t2\tb\tn", "12\td\t-1\t2\t3\tb\tn" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CU_ASSERT(!step_record_decode(bad[i], strlen(bad[i]), &back));
}

static void escaping(void)
{
    char out[200];
    paper_escape(PAPER_HTML, "<b a=\"1\">&'|", out, sizeof(out));
    CHECK_STR("html", out, "&lt;b a=&quot;1&quot;&gt;&amp;&#39;|");
    paper_escape(PAPER_MARKDOWN, "a|b*c_[x](y)<i>", out, sizeof(out));
    CHECK_STR("markdown", out, "a\\|b\\*c\\_\\[x](y)&lt;i&gt;");
}

/* ---- every row of the source documents is a step --------------------------------------- */

/* Kinds of playbooks.md: A an action, C a check, G an artefact, M a person. What a
 * row wants is what one of its steps must be; a change or a wait is an A, and a
 * check does for an A that only looks. */
static const struct rows {
    const char *playbook;
    const char *kinds[47]; /* of row 1, 2, ... */
} documents[] = {
    { "skyconnect",
      { "C", "C", "M", "CM", "CM", "CM", "G", "G", "G", "G", "G", "G", "G", "C", "A",
        "G", "GAM", "GM", "GM", "GM", "GM", "GM", "GM", "GM", "M", "A", "C", "C", "C",
        "C", "C", "C", "C", "C", "C", "C", "A", "A", "A", "A", "AM", "A", "C", "M",
        "MC" } },
    { "clrstream",
      { "CM", "CM", "G", "G", "G", "G", "A", "GM", "GM", "AC", "C", "C", "C", "C", "C",
        "A", "A", "A", "A", "A", "C", "A" } },
    { "mailroute",
      { "M", "M", "C", "A", "M", "M", "C", "C", "C", "C", "C", "M", "A", "GM", "C", "A",
        "A", "A", "G", "A", "GM", "GM", "C", "A", "C", "A", "A", "A", "A", "A", "A", "C",
        "C", "C", "G", "G", "A", "C", "C", "A", "C", "C" } },
    { "smarsh",
      { "M", "M", "G", "CM", "CM", "M", "C", "A", "AM", "CM", "M", "C", "ACM", "A", "M",
        "CM", "M" } },
    { "bystar",
      { "A", "A", "A", "A", "M", "M", "M", "M", "M", "M", "C", "A", "M", "C", "C", "A",
        "CM", "M", "A", "A", "A", "AM", "C", "AC", "C", "C", "A", "A", "AC", "A", "A",
        "A", "A", "C", "C", "A", "A", "M", "A", "AM", "MC", "A", "MC", "G", "A", "A" } },
};

static bool is_kind(const struct playbook_call *call, char wanted)
{
    if (!call->argv)
        return false;
    switch (action_find(call->argv[0])->kind) {
    case ACTION_CHECK:
        return wanted == 'C' || wanted == 'A';
    case ACTION_WRITE:
        return wanted == 'G' || wanted == 'A' || wanted == 'C';
    case ACTION_PERSON:
        return wanted == 'M';
    case ACTION_CHANGE:
        return wanted == 'A' || wanted == 'G';
    case ACTION_TIME:
        return wanted == 'A' || wanted == 'C';
    }
    return false;
}

static bool row_has(const struct playbook *playbook, const char *row, char wanted)
{
    for (size_t i = 0; i < playbook->step_count; i++) {
        const struct playbook_step *step = &playbook->steps[i];
        for (size_t r = 0; step->rows[r]; r++)
            if (strcmp(step->rows[r], row) == 0 &&
                (is_kind(&step->action, wanted) || is_kind(&step->pre, wanted) ||
                 is_kind(&step->post, wanted)))
                return true;
    }
    return false;
}

static void check_rows(const struct rows *document)
{
    char path[1024], error[PLAYBOOK_ERROR_MAX] = "", row[16], what[64];
    snprintf(path, sizeof(path), SHIPPED_PLAYBOOKS "/%s.conf", document->playbook);
    struct playbook *playbook = playbook_load(path, action_find, error, sizeof(error));
    CHECK_STR(document->playbook, error, "");
    if (!playbook)
        return;
    size_t n = 0;
    for (; n < 47 && document->kinds[n]; n++)
        for (const char *kind = document->kinds[n]; *kind; kind++) {
            snprintf(row, sizeof(row), "%zu", n + 1);
            snprintf(what, sizeof(what), "%s row %s has a step of kind %c",
                     document->playbook, row, *kind);
            CHECK_INT(what, row_has(playbook, row, *kind), 1);
        }
    for (size_t i = 0; i < playbook->step_count; i++)
        for (size_t r = 0; playbook->steps[i].rows[r]; r++) {
            long number = strtol(playbook->steps[i].rows[r], NULL, 10);
            CU_ASSERT(number >= 1 && number <= (long)n);
        }
    playbook_free(playbook);
}

static void rows(void)
{
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++)
        check_rows(&documents[i]);
}

UNIT_MAIN("playbook", { "mistakes in the file", mistakes }, { "variables", expansion },
          { "what comes next", what_comes_next }, { "ways between states", ways },
          { "change window", window }, { "records", records }, { "escaping", escaping },
          { "every row of the documents has its step", rows })
