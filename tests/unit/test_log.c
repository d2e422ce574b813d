/* Log lines on standard error: their form, their limits, their escapes. */
#include <errno.h>
#include <pthread.h>
#include <regex.h>
#include <stdlib.h>
#include <unistd.h>

#include "log.h"
#include "unit.h"

static int saved_stderr;
static int pipe_fds[2];

static void capture(void)
{
    fflush(stderr);
    saved_stderr = dup(STDERR_FILENO);
    if (pipe(pipe_fds) < 0 || dup2(pipe_fds[1], STDERR_FILENO) < 0)
        abort();
    close(pipe_fds[1]);
}

/* What was written since capture(). */
static const char *captured(void)
{
    static char text[65536];
    size_t used = 0;
    ssize_t n;

    dup2(saved_stderr, STDERR_FILENO); /* closes the last writing end */
    close(saved_stderr);
    while (used < sizeof(text) - 1 &&
           (n = read(pipe_fds[0], text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)n;
    text[used] = '\0';
    close(pipe_fds[0]);
    return text;
}

static const char *after_head(const char *line)
{
    const char *text = strstr(line, "]: ");
    return text ? text + 3 : "(no head)";
}

static void test_form(void)
{
    regex_t form;
    char pattern[200];

    snprintf(pattern, sizeof(pattern),
             "^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z "
             "sluice-test\\[%ld\\]: hello 5\n$",
             (long)getpid());
    CU_ASSERT_FATAL(regcomp(&form, pattern, REG_EXTENDED | REG_NOSUB) == 0);
    log_open("sluice-test", LOG_TO_STDERR);
    capture();
    log_info("hello %d", 5);
    const char *line = captured();
    if (regexec(&form, line, 0, NULL, 0) != 0) {
        printf("\n  got \"%s\"\n", line);
        CU_FAIL("form");
    }
    regfree(&form);
}

static void test_kinds(void)
{
    capture();
    errno = ENOENT;
    log_warn("cannot open %s", "x");
    CHECK_STR("log_warn", after_head(captured()),
              "cannot open x: No such file or directory\n");
    capture();
    errno = ENOENT;
    log_warnx("odd");
    CHECK_STR("log_warnx", after_head(captured()), "odd\n");
    CHECK_INT("errno", errno, ENOENT);
    capture();
    log_alarm("loop");
    CHECK_STR("log_alarm", after_head(captured()), "alarm: loop\n");
    capture();
    log_debug("quiet");
    log_verbose(true);
    log_debug("loud");
    log_verbose(false);
    log_debug("quiet");
    CHECK_STR("log_debug", after_head(captured()), "loud\n");
}

static void test_control_characters(void)
{
    capture();
    log_info("%s", "a\nb\rc\033[0m\177\tJ\xc3\xbcrgen");
    CHECK_STR("escaped", after_head(captured()),
              "a\\x0ab\\x0dc\\x1b[0m\\x7f\\x09J\xc3\xbcrgen\n");
}

static void test_long(void)
{
    char text[5000];

    memset(text, 'y', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    capture();
    log_info("%s", text);
    const char *line = captured();
    size_t len = strlen(line);
    CHECK_INT("length", len, 2048);
    CHECK_STR("end", line + len - 5, "y...\n");
    /* Escapes are not cut in the middle. */
    memset(text, '\n', sizeof(text) - 1);
    capture();
    log_info("%s", text);
    line = captured();
    len = strlen(line);
    CU_ASSERT_TRUE(len <= 2048 && len > 2040);
    CHECK_STR("end", line + len - 8, "\\x0a...\n");
}

static void test_value(void)
{
    static const struct {
        const char *value, *want;
    } cases[] = {
        { "a@example.com", "a@example.com" },
        { "", "" },
        { "a b", "a\\x20b" },
        { "a\r\nb", "a\\x0d\\x0ab" },
        { "\"<a>[b]\\", "\\x22\\x3ca\\x3e\\x5bb\\x5d\\x5c" },
        { "\xc3\xbc\x7f~", "\\xc3\\xbc\\x7f~" },
        { "x> verdict=deliver to=<y", "x\\x3e\\x20verdict=deliver\\x20to=\\x3cy" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[100];
        CHECK_STR(cases[i].value, log_value(cases[i].value, out, sizeof(out)),
                  cases[i].want);
    }
    char out[100];
    CHECK_STR("NULL", log_value(NULL, out, sizeof(out)), "");
}

static void test_value_cut(void)
{
    static const struct {
        const char *value;
        size_t size;
        const char *want;
    } cases[] = {
        { "abcdefgh", 9, "abcdefgh" },
        { "abcdefgh", 8, "abcd..." },
        { "abcdefgh", 4, "..." },
        { "abcdefgh", 3, ".." },
        { "abcdefgh", 1, "" },
        { "abc\ndef", 8, "abc..." },
        { "abc\nd", 9, "abc\\x0ad" },
        { "\n\n\n", 12, "\\x0a\\x0a..." },
        { "\n\n\n", 13, "\\x0a\\x0a\\x0a" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[32];
        memset(out, 'x', sizeof(out));
        log_value(cases[i].value, out, cases[i].size);
        CHECK_STR(cases[i].value, out, cases[i].want);
        CHECK_INT("no byte past the end", out[cases[i].size], 'x');
    }
}

static void *many_lines(void *text)
{
    for (int i = 0; i < 50; i++)
        log_info("%s", (const char *)text);
    return NULL;
}

/* Lines of several threads stay whole. */
static void test_threads(void)
{
    static char texts[4][101];
    pthread_t threads[4];
    int lines = 0;

    capture();
    for (int i = 0; i < 4; i++) {
        memset(texts[i], 'a' + i, 100);
        pthread_create(&threads[i], NULL, many_lines, texts[i]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (const char *line = captured(); *line; line = strchr(line, '\n') + 1) {
        const char *text = after_head(line);
        CU_ASSERT_FATAL(strspn(text, (char[]){ text[0], '\0' }) == 100);
        CU_ASSERT_FATAL(text[100] == '\n');
        lines++;
    }
    CHECK_INT("lines", lines, 200);
}

UNIT_MAIN("log", { "form", test_form }, { "kinds", test_kinds },
          { "control characters", test_control_characters }, { "long", test_long },
          { "value", test_value }, { "value cut", test_value_cut },
          { "threads", test_threads })
