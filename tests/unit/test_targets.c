/*
 * targets, options, names, transition and the texts of output: what the command
 * line makes of its words.
 */
#include "unit.h"

#include <stdlib.h>
#include <unistd.h>

#include "../../cutover/command.h"
#include "../../cutover/names.h"
#include "../../cutover/options.h"
#include "../../cutover/output.h"
#include "../../cutover/targets.h"
#include "../../cutover/transition.h"

static char directory[] = "/tmp/sluice-test-targets.XXXXXX";

static const char *write_file(const char *name, const char *text)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    return path;
}

static struct conf *make_conf(void)
{
    char error[512] = "";
    const char *path = write_file(
        "sluice.conf",
        "side = old\nhostname = \"mx1.example.com\"\nredis = \"unix:/nowhere\"\n"
        "domain \"example.com\" { same-as = {\"mail.example.com\"} old = "
        "\"[127.0.0.1]:1\" "
        "new = \"[127.0.0.1]:2\" }\n"
        "domain \"example.org\" { old = \"[127.0.0.1]:1\" new = \"[127.0.0.1]:2\" }\n");
    struct conf *conf = conf_load(path, error, sizeof(error));
    CHECK_STR("configuration", error, "");
    return conf;
}

/* "domain:local,local;" or "domain*;" */
static void describe(const struct targets *targets, char *out, size_t size)
{
    out[0] = '\0';
    for (size_t i = 0; i < targets->count; i++) {
        const struct target *target = &targets->items[i];
        size_t used = strlen(out);
        snprintf(out + used, size - used, "%s%s", target->domain->name,
                 target->whole ? "*" : "");
        for (size_t n = 0; n < target->count; n++) {
            used = strlen(out);
            snprintf(out + used, size - used, "%c%s", n ? ',' : ':', target->locals[n]);
        }
        used = strlen(out);
        snprintf(out + used, size - used, ";");
    }
}

/* Runs targets_resolve() with the messages in out[]. */
static int resolve(const struct conf *conf, int argc, const char *const *words, char *got,
                   size_t size, char *messages, size_t messages_size)
{
    struct targets targets;
    char *argv[8];
    for (int i = 0; i < argc; i++)
        argv[i] = strdup(words[i]);
    fflush(stderr);
    FILE *file = tmpfile();
    int before = dup(2);
    dup2(fileno(file), 2);
    int code = targets_resolve(conf, argc, argv, &targets);
    fflush(stderr);
    dup2(before, 2);
    close(before);
    rewind(file);
    messages[fread(messages, 1, messages_size - 1, file)] = '\0';
    fclose(file);
    got[0] = '\0';
    if (code == EXIT_DONE) {
        describe(&targets, got, size);
        targets_free(&targets);
    }
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    return code;
}

static void test_arguments(void)
{
    static const struct {
        const char *words[4];
        int code;
        const char *want;    /* the targets */
        const char *message; /* a part of what is printed */
    } cases[] = {
        { { "a@example.com" }, EXIT_DONE, "example.com:a;", "" },
        { { "A@Example.COM", "a@mail.example.com" }, EXIT_DONE, "example.com:a;", "" },
        { { "example.com" }, EXIT_DONE, "example.com*;", "" },
        { { "a@example.com", "example.com" }, EXIT_DONE, "example.com*;", "" },
        { { "b@example.org", "a@example.com", "c@example.org" },
          EXIT_DONE,
          "example.org:b,c;example.com:a;",
          "" },
        { { "a+b@example.com" }, EXIT_DONE, "example.com:a+b;", "" },
        { { "\"a b\"@example.com" }, EXIT_DONE, "example.com:a b;", "" },
        { { "a@nowhere.net" }, EXIT_DATA, "", "domain \"nowhere.net\" {" },
        { { "nowhere.net" }, EXIT_DATA, "", "sluice init" },
        { { "@@" }, EXIT_DATA, "", "@: No such file" },
        { { "a b" }, EXIT_DATA, "", "neither an address nor a domain" },
        { { "a@" }, EXIT_DATA, "", "\"a@\" is not an address" },
        { { "" }, EXIT_DATA, "", "neither an address nor a domain" },
        { { "a\x1b[2J@example.com" },
          EXIT_DATA,
          "",
          "\"a?[2J@example.com\" is not an address" },
        { { NULL }, EXIT_USE, "", "name an address" },
    };
    struct conf *conf = make_conf();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char got[512], messages[2048];
        int argc = 0;
        while (argc < 4 && cases[i].words[argc])
            argc++;
        int code = resolve(conf, argc, cases[i].words, got, sizeof(got), messages,
                           sizeof(messages));
        const char *what = argc ? cases[i].words[0] : "nothing";
        CHECK_INT(what, code, cases[i].code);
        CHECK_STR(what, got, cases[i].want);
        CHECK_STR(what, strstr(messages, cases[i].message) ? cases[i].message : messages,
                  cases[i].message);
    }
    conf_unref(conf);
}

static void test_file(void)
{
    struct conf *conf = make_conf();
    char word[300], got[512], messages[4096];
    const char *words[] = { word };
    snprintf(word, sizeof(word), "@%s",
             write_file("list",
                        "\xef\xbb\xbf# all\r\n a@example.com \r\n\nb@example.com # x\n"
                        "a#b@example.com\na@EXAMPLE.com"));
    CHECK_INT("good file", resolve(conf, 1, words, got, sizeof(got), messages, 4096),
              EXIT_DONE);
    CHECK_STR("good file", got, "example.com:a,b,a#b;");
    snprintf(word, sizeof(word), "@%s",
             write_file("bad", "a@example.com\n\nx@y.net\nz@\n"));
    CHECK_INT("bad file", resolve(conf, 1, words, got, sizeof(got), messages, 4096),
              EXIT_DATA);
    CHECK_INT("line 3", strstr(messages, "/bad:3: y.net is not a domain") != NULL, 1);
    CHECK_INT("line 4", strstr(messages, "/bad:4: \"z@\" is not") != NULL, 1);
    snprintf(word, sizeof(word), "@%s", write_file("none", "# nothing\n"));
    CHECK_INT("empty file", resolve(conf, 1, words, got, sizeof(got), messages, 4096),
              EXIT_DATA);
    conf_unref(conf);
}

static void test_many_errors(void)
{
    struct conf *conf = make_conf();
    char text[4096] = "", word[300], got[64], messages[8192];
    const char *words[] = { word };
    for (int i = 0; i < 30; i++)
        strncat(text, "x@y.net\n", sizeof(text) - strlen(text) - 1);
    memset(text + strlen(text), 'a', TARGETS_LINE_MAX + 10); /* a line too long */
    snprintf(word, sizeof(word), "@%s", write_file("many", text));
    CHECK_INT("code", resolve(conf, 1, words, got, sizeof(got), messages, 8192),
              EXIT_DATA);
    CHECK_INT("the 20th", strstr(messages, ":20: ") != NULL, 1);
    CHECK_INT("the 21st", strstr(messages, ":21: ") == NULL, 1);
    CHECK_INT("count", strstr(messages, "and 11 more") != NULL, 1);
    conf_unref(conf);
}

static void test_options(void)
{
    bool flag = false;
    const char *text = NULL;
    int number = 0, seconds = 0;
    struct option_list list = { 0 };
    struct option_perhaps perhaps = { .number = 2 };
    const struct option_spec specs[] = {
        { "flag", OPTION_FLAG, &flag },       { "text", OPTION_TEXT, &text },
        { "number", OPTION_NUMBER, &number }, { "time", OPTION_DURATION, &seconds },
        { "list", OPTION_LIST, &list },       { "perhaps", OPTION_PERHAPS, &perhaps },
    };
    char words[][16] = { "cmd", "a",         "--flag", "--text=x", "--number",
                         "7",   "--list",    "p",      "--list=q", "--time",
                         "10m", "--perhaps", "-",      "--",       "--b" };
    char *argv[16];
    int argc = 15;
    for (int i = 0; i < argc; i++)
        argv[i] = words[i];
    CHECK_INT("parsed", options_parse(specs, 6, &argc, argv), true);
    CHECK_INT("flag", flag, true);
    CHECK_STR("text", text, "x");
    CHECK_INT("number", number, 7);
    CHECK_INT("seconds", seconds, 600);
    CHECK_INT("list", list.count, 2);
    CHECK_STR("list", list.items[1], "q");
    CHECK_INT("perhaps", perhaps.given, true);
    CHECK_INT("perhaps", perhaps.number, 2);
    CHECK_INT("arguments", argc, 4);
    CHECK_STR("first", argv[1], "a");
    CHECK_STR("standard input", argv[2], "-");
    CHECK_STR("after --", argv[3], "--b");
}

static void test_durations(void)
{
    static const struct {
        const char *text;
        int seconds; /* -1: refused */
        const char *shown;
    } cases[] = {
        { "0", 0, "0 s" },
        { "59s", 59, "59 s" },
        { "90", 90, "1 min 30 s" },
        { "61m", 3660, "1 h 01 min" },
        { "25h", 90000, "1 d 1 h" },
        { "3d", 259200, "3 d 0 h" },
        { "", -1, "" },
        { "x", -1, "" },
        { "5x", -1, "" },
        { "-1", -1, "" },
        { "10ms", -1, "" },
        { "99999999999999999999", -1, "" },
        { "400d", -1, "" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char shown[DURATION_TEXT_MAX];
        int seconds = -1;
        if (!duration_parse(cases[i].text, &seconds))
            seconds = -1;
        CHECK_INT(cases[i].text, seconds, cases[i].seconds);
        if (seconds >= 0)
            CHECK_STR(cases[i].text, duration_text(seconds, shown), cases[i].shown);
    }
}

static void test_names(void)
{
    enum { MANY = 200000 };
    struct names *names = names_new();
    char text[32];
    size_t index = 0;
    for (int i = 0; i < MANY; i++) {
        snprintf(text, sizeof(text), "name%d", i);
        if (names_add(names, text, &index) != NAMES_NEW || index != (size_t)i)
            CHECK_STR("new", text, "a new name");
    }
    CHECK_INT("known", names_add(names, "name77", &index), NAMES_KNOWN);
    CHECK_INT("its number", index, 77);
    CHECK_INT("count", names_count(names), MANY);
    CHECK_STR("order", names_list(names)[MANY - 1], "name199999");
    CHECK_INT("found", names_find(names, "name3"), 3);
    CHECK_INT("not found", names_find(names, "name-3") == SIZE_MAX, 1);
    names_free(names);
}

/* The table of doc/architecture.md: m moves, t there already, - refused. */
static void test_transitions(void)
{
    static const struct {
        enum event_op op;
        const char *name, *answers; /* for o l r n */
    } cases[] = {
        { EVENT_LOCK, "lock", "mt--" },
        { EVENT_FLIP, "flip", "-mmt" },
        { EVENT_UNLOCK, "unlock", "tmm-" },
        { EVENT_ROLLBACK, "rollback", "--tm" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char got[5] = "";
        for (size_t n = 0; n < 4; n++) {
            enum home_state state;
            bool rollback;
            home_from_letter("olrn"[n], &state, &rollback);
            enum transition answer = transition_judge(cases[i].op, state, rollback);
            got[n] = "mt-"[answer];
            const char *reason = transition_refusal(cases[i].op, state, rollback);
            if (answer == TRANSITION_REFUSED)
                CHECK_STR("names itself", strstr(reason, cases[i].name) ? "" : reason,
                          "");
        }
        CHECK_STR(cases[i].name, got, cases[i].answers);
    }
}

static int remove_files(void)
{
    static const char *const names[] = { "sluice.conf", "list", "bad", "none", "many" };
    char path[256];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        unlink(path);
    }
    return rmdir(directory);
}

int main(void)
{
    static const struct unit_case cases[] = {
        { "arguments", test_arguments },     { "file", test_file },
        { "many errors", test_many_errors }, { "options", test_options },
        { "durations", test_durations },     { "names", test_names },
        { "transitions", test_transitions },
    };
    if (!mkdtemp(directory))
        return 2;
    int failed = unit_run("targets", cases, sizeof(cases) / sizeof(cases[0]));
    return remove_files() == 0 ? failed : 2;
}
