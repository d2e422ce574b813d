/* Playbooks: the file's mistakes, the state machine, and the rows of the five. */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "playbook.h"
#include "playbook_action.h"
#include "playbook_guard.h"
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

#define STEP(id, rest) "step \"" id "\" {\n title = \"T\" owner = \"o\"\n " rest "\n}\n"

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
        { "phase \"p\" {\n" STEP(
              "a", "action = {\"acknowledge\"}") "}\nphase \"q\" {\n" STEP("a",
                                                                           "action = "
                                                                           "{\"acknowledg"
                                                                           "e\"}") "}\n",
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
        { "phase \"p\" {\n" STEP("a",
                                 "action = {\"acknowledge\"}\n usually = soon") "}\n",
          ":5: usually = \"soon\": not a duration: write it as 90s, 10m, 2h or 3d" },
        { "phase \"p\" {\n" STEP("a", "action = {\"acknowledge\"}\n colour = red") "}\n",
          ":5: no such option 'colour'" },
        { "phase \"p\" {\n" STEP("a",
                                 "action = {\"flip\", \"x\"}\n undo = "
                                 "{\"unlock\", \"x\"}\n point-of-no-return = true") "}\n",
          ":5: step a is a point of no return and has an undo: it cannot be both" },
        { "phase \"p\" {\n" STEP("a", "action = {\"timer\", \"soon\"}") "}\n",
          ":4: timer \"soon\": not a duration: write it as 10m, 2h or 3d" },
        { "phase \"p\" {\n" STEP("a", "action = {\"timer\", \"1h\", \"b\"}") "}\n",
          ":4: timer: there is no step \"b\"" },
        { "setting \"who\" {\n about = \"x\"\n}\nphase \"p\" {\n" STEP(
              "a", "action = {\"acknowledge\"}") "}\n",
          ":2: setting \"who\": that name has a meaning already" },
        { "setting \"a b\" {\n about = \"x\"\n}\nphase \"p\" {\n" STEP(
              "a", "action = {\"acknowledge\"}") "}\n",
          ":2: setting \"a b\": a name is 1 to 40 of a-z, 0-9 and -" },
        { "setting \"x\" {\n default = \"%{who}\"\n}\nphase \"p\" {\n" STEP(
              "a", "action = {\"acknowledge\"}") "}\n",
          ":2: setting x: a default is taken as it is, without %{...}" },
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
        "phase \"p\" {\n" STEP(
            "a", "action = {\"acknowledge\"} usually = 10m opens-window = true")
            STEP("b", "action = {\"timer\", \"1h\"} usually = 1h after = {\"a\"}")
                STEP("c", "action = {\"doctor\"} usually = 5m after = {\"a\"}")
                    STEP("d", "action = {\"command\", \"/x\"} point-of-no-return = true "
                              "usually = 20m"
                              " after = {\"b\", \"c\"} closes-window = true") "}\n",
        error);
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
        records[i].acted = true;
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
        { "pppp", 0, NEXT_STEP, 0 },        { "wppp", 0, NEXT_PERSON, 0 },
        { "rppp", 0, NEXT_STEP, 0 },        { "fppp", 0, NEXT_STEP, 0 },
        { "dppp", 0, NEXT_STEP, 1 },        { "dtpp", 0, NEXT_STEP, 2 },
        { "dtdp", 999, NEXT_TIME, 1 },      { "dtdp", 1000, NEXT_STEP, 1 },
        { "dtwp", 0, NEXT_PERSON, 2 },      { "dddp", 0, NEXT_STEP, 3 },
        { "dddd", 0, NEXT_DONE, SIZE_MAX }, { "dddu", 0, NEXT_STEP, 3 },
        { "dfdp", 0, NEXT_STEP, 1 },        { "dddb", 0, NEXT_PERSON, 3 },
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
    CHECK_INT("to after it", state_no_return(playbook, records, 4), SIZE_MAX);
    set_states(records, "dddf");
    CHECK_INT("perhaps done", state_no_return(playbook, records, 0), 3);
    records[3].acted = false;
    CHECK_INT("never begun", state_no_return(playbook, records, 0), SIZE_MAX);
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
    struct step_record step = { .state = STATE_TIME,
                                .began = 5,
                                .ended = 6,
                                .due = 7,
                                .acted = true,
                                .by = "root@mx1",
                                .note = "two\tlines\nof it" };
    struct step_record back;
    struct run_record run = { .state = RUN_GOING,
                              .started = 5,
                              .window_s = 60,
                              .rehearsal = true,
                              .playbook = "mailroute",
                              .by = "x" },
                      run_back;
    char text[STATE_RECORD_MAX], stored[STATE_RECORD_MAX + 8];
    step_record_encode(&step, text);
    snprintf(stored, sizeof(stored), "12\t%s", text);
    CU_ASSERT(step_record_decode(stored, strlen(stored), &back));
    CHECK_INT("epoch", back.epoch, 12);
    CHECK_INT("due", back.due, 7);
    CHECK_STR("note", back.note, "two lines of it");
    CU_ASSERT(back.acted);
    run_record_encode(&run, text);
    snprintf(stored, sizeof(stored), "13\t%s", text);
    CU_ASSERT(run_record_decode(stored, strlen(stored), &run_back));
    CHECK_STR("playbook", run_back.playbook, "mailroute");
    CU_ASSERT(run_back.rehearsal);
    CU_ASSERT(run_back.digest == run.digest);
    static const char *const bad[] = {
        "", "x", "12\t", "12\tq\t1\t2\t3\tb\tn\t0", "12\td\t1\t2\t3\tb\tn",
        "12\td\t-1\t2\t3\tb\tn\t0", "12\td\t1\t2\t3\tb\tn\t2",
        "12\td\t1\t2\t3\tb\tn\t0\tmore",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CU_ASSERT(!step_record_decode(bad[i], strlen(bad[i]), &back));
}

static void rehearsals(void)
{
    struct rehearsal_record record = { .ended = 1790000000,
                                       .mailboxes = 3,
                                       .digest = 0xfedcba9876543210,
                                       .playbook = "bystar",
                                       .variant = "own",
                                       .by = "ann\t@mx1" };
    struct rehearsal_record back;
    char text[STATE_RECORD_MAX], large[STATE_RECORD_MAX + 1];
    CU_ASSERT(rehearsal_encode(&record, text) > 0);
    CHECK_STR("text", text, "1790000000\t3\tfedcba9876543210\tbystar\town\tann @mx1");
    CU_ASSERT(rehearsal_decode(text, &back));
    CHECK_INT("ended", back.ended, 1790000000);
    CHECK_INT("mailboxes", back.mailboxes, 3);
    CU_ASSERT(back.digest == record.digest);
    CHECK_STR("playbook", back.playbook, "bystar");
    CHECK_STR("variant", back.variant, "own");
    CHECK_STR("by", back.by, "ann @mx1");
    static const char *const bad[] = {
        "",
        "x",
        "1\t2\tfedcba9876543210\tbystar\town",
        "1\t2\tfedcba9876543210\tbystar\town\tann\tmore",
        "-1\t2\tfedcba9876543210\tbystar\town\tann",
        "1\tx\tfedcba9876543210\tbystar\town\tann",
        "1\t2\tfedcba987654321\tbystar\town\tann",
        "1\t2\tfedcba9876543210\tbystar\tavariantthatislongerthananythatthereis1234\tann",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (rehearsal_decode(bad[i], &back))
            CHECK_STR("is not refused", bad[i], "");
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    CU_ASSERT(!rehearsal_decode(large, &back));
}

static void outline(void)
{
    static char text[STATE_OUTLINE_MAX];
    char error[PLAYBOOK_ERROR_MAX];
    struct playbook *playbook = load_text(
        "title = \"The\tmove\"\n"
        "phase \"p q\" {\n" STEP("a", "action = {\"acknowledge\"}")
        STEP("b", "action = {\"acknowledge\"}") "}\n"
        "phase \"r\" {\n" STEP("c", "action = {\"acknowledge\"}") "}\n", error);
    CHECK_INT("fits", state_outline(playbook, text) > 0, 1);
    CHECK_STR("outline", text, "The move\tp q\ta,b\tr\tc");
    playbook_free(playbook);
}

static void clocks(void)
{
    static const struct {
        const char *what;
        int64_t now, local;
        enum clock_state state;
    } cases[] = {
        { "good", 2000, 2000, CLOCK_GOOD },
        { "a little apart", 2000, 2120, CLOCK_GOOD },
        { "this host behind", 2000, 1879, CLOCK_APART },
        { "this host ahead", 2000, 2121, CLOCK_APART },
        { "a little back", 1900, 1900, CLOCK_GOOD },
        { "back", 1879, 1879, CLOCK_BACK },
        { "back, and the other right", 1000, 2000, CLOCK_BACK },
    };
    struct playbook *playbook = three();
    struct step_record records[4];
    struct run_record run = { .started = 1000 };
    set_states(records, "dwpp");
    records[0].ended = 2000;
    records[1].began = 1990;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t since;
        CHECK_INT(cases[i].what,
                  state_clock(playbook, &run, records, cases[i].now, cases[i].local, &since),
                  cases[i].state);
        CHECK_INT("since", since, 2000);
    }
    playbook_free(playbook);
}

static void escaping(void)
{
    static const struct {
        enum paper paper;
        const char *text, *want;
    } cases[] = {
        { PAPER_HTML, "<b a=\"1\">&'|", "&lt;b a=&quot;1&quot;&gt;&amp;&#39;|" },
        { PAPER_MARKDOWN, "a|b*c_[x](y)<i>", "a\\|b\\*c\\_\\[x](y)&lt;i&gt;" },
        { PAPER_MARKDOWN, "`\\#~", "\\`\\\\\\#\\~" },
        { PAPER_TEXT, "<a|b>", "<a|b>" },
        { PAPER_HTML, "a\tb\nc\rd", "a b c d" },
        { PAPER_HTML, "\033[31m \302\233 \377 \342\200\256", "?[31m ?? ? ???" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *out = paper_escape(cases[i].paper, cases[i].text);
        CHECK_STR(cases[i].text, out, cases[i].want);
        free(out);
    }
}

static void last_words(void)
{
    static const struct {
        const char *text;
        int failed;
        const char *note;
    } cases[] = {
        { "", 0, "" },
        { "one\ntwo\n", 0, "two" },
        { "one\n  two", 1, "two" },
        { "sluice: lock: no host\nmore\n", 1, "lock: no host" },
        { "sluice: lock: no host\nmore\n", 0, "more" },
        { "10 %\r50 %\r", 0, "50 %" },
        { "a\033[2Jb\tc\n\n", 0, "a [2Jb c" },
    };
    char text[100], note[GUARD_NOTE_MAX + 1], long_text[3001];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memcpy(text, cases[i].text, strlen(cases[i].text) + 1);
        guard_last_words(text, strlen(text), cases[i].failed, note);
        CHECK_STR(cases[i].text, note, cases[i].note);
    }
    memset(long_text, 'x', 3000);
    guard_last_words(long_text, 3000, 0, note);
    CHECK_INT("cut", strlen(note), GUARD_NOTE_MAX);
    CHECK_STR("and it shows", note + GUARD_NOTE_MAX - 3, "...");
}

/* ---- every row of the source documents is a step
 * --------------------------------------- */

/* What each row of playbooks.md wants, all of it: a word per step, KIND or
 * KIND:ACTION|ACTION when only those actions do it. Kinds:
 *   A  it is done: a change, or a document that a machine makes
 *   L  an A that is a look (a ping, a login, a query): a check
 *   T  an A that is a wait
 *   C  a check that stops the run
 *   G  a document for a person
 *   M  a person acknowledges
 *   W  the budget of the change window: a step that opens it
 * Nothing stands for another kind, and a step without effect counts for none. */
/* clang-format off */
static const struct rows {
    const char *playbook;
    const char *wants[48]; /* of row 1, 2, ... */
} documents[] = {
    { "skyconnect",
      { "C:probe", "C:inventory C:probe", "M", "C:synced M", "C:dns-servers C:dns-access M",
        "C:dns-servers C:dns-access M", "G:dns-diff", "G:senders", "G:senders", "G:dns-diff",
        "G:dns-diff", "G:dns-diff", "G:class", "C:class-check", "A:histogram",
        "G A:notice-send M", "G A:notice-send M", "G M", "G M", "G M", "G M", "G M",
        "G M", "G:contacts M", "M", "A:dns-apply C:dns-check", "C:dns-check",
        "C:dns-check", "C:dns-check C:senders-pass", "C:dns-check C:senders-pass",
        "C:dns-check C:senders-pass", "C:dns-check C:signed", "C:signed", "C:dns-check",
        "C:dns-check", "C:dns-check C:access", "L:dns-check", "L:dns-check",
        "L:dns-check", "L:dns-check", "L:imap-login C:web M", "L:flow", "C:applications", "M",
        "M C:catchall" } },
    { "clrstream",
      { "C:dns-servers C:dns-access M", "C:dns-servers C:dns-access M",
        "G:dns-diff C:dns-check",
        "G:senders C:senders-pass", "G:senders C:senders-pass", "G:dns-diff C:dns-check",
        "A:histogram", "G M", "G M", "A:dns-apply C:dns-check",
        "C:dns-check C:senders-pass", "C:dns-check C:senders-pass", "C:dns-check",
        "C:signed", "C:dns-check", "L:dns-check", "L:dns-check", "L:dns-check",
        "L:dns-check", "L:flow", "C:applications", "L:ping A:import" } },
    { "mailroute",
      { "M", "M", "G C:csv", "A:postconf", "M", "M", "C:flow", "C:csv", "M",
        "C:imap-login M", "C:imap-login M", "C:imap-login M", "A:imap-sizes", "G M",
        "C:imap-login", "A:sync", "L:synced", "L:synced", "G:dns-diff", "A:dns-snapshot",
        "G M", "G M", "C:imap-login", "A:dns-apply C:dns-check", "C:dns-check",
        "T:dns-wait", "A:cutover|lock", "A:cutover|sync", "A:cutover|flip",
        "A:cutover|flip", "L:flow", "C:unheld", "C:imap-login", "C:dns-check", "G", "G",
        "T:timer", "C:dns-check", "C:imap-login", "A:cutover|sync", "C:csv",
        "C:doctor|dns-check" } },
    { "smarsh",
      { "M", "M", "G", "C:imap-login M", "C:inventory M", "M", "C:home C:flow",
        "C:dns-check", "A:sync M", "C:counts M", "C:autodiscover M", "C:dns-check",
        "A:cutover|flip C:dns-check C:autodiscover M", "A:sync C:synced", "M", "C:counts M",
        "M G:report" } },
    { "bystar",
      { "L:audit", "L:audit", "L:audit", "L:audit", "G:plan M", "G:plan M", "G:plan M",
        "G:plan M", "G:plan M", "G:plan M", "C:inventory", "W", "C:dns-servers M",
        "C:imap-login C:dns-access M", "C:probe M", "L:doctor", "C:port C:tls M", "C:dns-servers",
        "C:dns-check T:dns-lowered", "A:each C:backup M", "A:each C:backup M", "G M",
        "L:imap-login L:probe L:rehearsed", "A:command C:port", "A:command C:port",
        "A:command C:port", "A:dns-apply C:dns-check", "A:dns-apply C:dns-check",
        "A:dns-apply C:dns-check", "A:cutover|lock", "A:cutover|sync", "A:cutover|flip",
        "A:cutover|flip", "A:dns-apply C:dns-check", "C:imap-login C:port", "L:flow",
        "L:flow", "M", "L:flow", "G M", "M C:port", "T:quiet", "C:unheld M", "G",
        "L:ping", "T:quiet" } },
};
/* clang-format on */

static bool kind_fits(enum action_kind kind, char wanted)
{
    switch (kind) {
    case ACTION_CHECK:
        return wanted == 'C' || wanted == 'L';
    case ACTION_WRITE:
        return wanted == 'G' || wanted == 'A';
    case ACTION_PERSON:
        return wanted == 'M';
    case ACTION_CHANGE:
        return wanted == 'A';
    case ACTION_TIME:
        return wanted == 'T';
    }
    return false;
}

/* Whether name is one of "a|b|c"; any name when there is no list. */
static bool name_fits(const char *name, const char *list)
{
    size_t len = strlen(name);
    for (const char *at = list; at && *at; at += strcspn(at, "|"), at += *at == '|')
        if (strcspn(at, "|") == len && strncmp(at, name, len) == 0)
            return true;
    return !list;
}

static bool call_fits(const struct playbook_call *call, char kind, const char *names)
{
    return call->argv && strcmp(call->argv[0], "nothing") != 0 &&
           kind_fits(action_find(call->argv[0])->kind, kind) &&
           name_fits(call->argv[0], names);
}

static bool row_has(const struct playbook *playbook, const char *row, const char *want)
{
    const char *names = want[1] == ':' ? want + 2 : NULL;
    for (size_t i = 0; i < playbook->step_count; i++) {
        const struct playbook_step *step = &playbook->steps[i];
        for (size_t r = 0; step->rows[r]; r++)
            if (strcmp(step->rows[r], row) == 0 &&
                ((*want == 'W' && step->opens) ||
                 call_fits(&step->action, *want, names) ||
                 call_fits(&step->pre, *want, names) ||
                 call_fits(&step->post, *want, names)))
                return true;
    }
    return false;
}

static void check_rows(const struct rows *document)
{
    char path[1024], error[PLAYBOOK_ERROR_MAX] = "", row[16], wants[128], what[192];
    snprintf(path, sizeof(path), SHIPPED_PLAYBOOKS "/%s.conf", document->playbook);
    struct playbook *playbook = playbook_load(path, action_find, error, sizeof(error));
    CHECK_STR(document->playbook, error, "");
    if (!playbook)
        return;
    size_t n = 0;
    for (; document->wants[n]; n++) {
        char *save = NULL;
        snprintf(row, sizeof(row), "%zu", n + 1);
        snprintf(wants, sizeof(wants), "%s", document->wants[n]);
        for (char *want = strtok_r(wants, " ", &save); want;
             want = strtok_r(NULL, " ", &save)) {
            snprintf(what, sizeof(what), "%s row %s has a step of kind %s",
                     document->playbook, row, want);
            CHECK_INT(what, row_has(playbook, row, want), 1);
        }
    }
    for (size_t i = 0; i < playbook->step_count; i++)
        for (size_t r = 0; playbook->steps[i].rows[r]; r++) {
            long number = strtol(playbook->steps[i].rows[r], NULL, 10);
            CU_ASSERT(number >= 1 && number <= (long)n);
        }
    playbook_free(playbook);
}

/* Each variant by itself is a playbook that can be run. */
static void check_variants(const char *name)
{
    char path[1024], error[PLAYBOOK_ERROR_MAX] = "";
    size_t count = 1;
    snprintf(path, sizeof(path), SHIPPED_PLAYBOOKS "/%s.conf", name);
    for (size_t i = 0; i < count; i++) {
        struct playbook *playbook =
            playbook_load(path, action_find, error, sizeof(error));
        if (!playbook)
            return; /* check_rows() has said it */
        count = playbook->variant_count;
        if (count > 0) {
            (void)playbook_select(playbook, playbook->variants[i].name, action_find,
                                  error, sizeof(error));
            CHECK_STR(name, error, "");
        }
        playbook_free(playbook);
    }
}

static void rows(void)
{
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++)
        check_variants(documents[i].playbook);
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++)
        check_rows(&documents[i]);
}

UNIT_MAIN("playbook", { "mistakes in the file", mistakes }, { "variables", expansion },
          { "what comes next", what_comes_next }, { "ways between states", ways },
          { "change window", window }, { "records", records },
          { "the note of a rehearsal", rehearsals },
          { "outline", outline }, { "clocks", clocks }, { "escaping", escaping }, { "last words", last_words },
          { "every row of the documents has its step", rows })
