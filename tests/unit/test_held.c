/*
 * test_held: the record of a held message, and the host's own copy of it.
 */
#include "held.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "state_dir.h"
#include "unit.h"

static char seen[4096];

static bool note(void *context, const struct held *held)
{
    size_t used = strlen(seen);
    (void)context;
    snprintf(seen + used, sizeof(seen) - used, "%s%s %s %lld %lld <%s> %s", used ? "; " : "",
             held->queue_id, held->kind == HELD_LOOP    ? "loop"
                               : held->kind == HELD_DMARC ? "dmarc"
                                                          : "lock",
             (long long)held->since, (long long)held->gone_since, held->sender,
             held->recipients);
    return true;
}

static const char *all(const struct conf *conf)
{
    char error[200];
    seen[0] = '\0';
    if (!held_spool_each(conf, note, NULL, error, sizeof(error)))
        snprintf(seen, sizeof(seen), "error: %s", error);
    return seen;
}

static void test_codec(void)
{
    static const struct {
        struct held held;
        const char *text;
    } cases[] = {
        { { "4Fz", HELD_LOCK, 17, 0, "a@b", "c@d" }, "l 17 0\na@b\nc@d" },
        { { "4Fz", HELD_LOOP, 17, 99, "", "c@d\ne@f" }, "x 17 99\n\nc@d\ne@f" },
        { { "4Fz", HELD_LOCK, -1, 0, "a\nb\r", "c@d" }, "l -1 0\na?b?\nc@d" },
        { { "4Fz", HELD_DMARC, 17, 0, "a@b", "c@d" }, "d 17 0\na@b\nc@d" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct held back;
        size_t len;
        char *text = held_encode(&cases[i].held, &len);
        CHECK_STR("encoded", text, cases[i].text);
        CHECK_INT("length", len, strlen(cases[i].text));
        CHECK_INT("decodes", held_decode("4Fz", 3, text, &back), 1);
        CHECK_STR("recipients", back.recipients, cases[i].held.recipients);
        CHECK_INT("since", back.since, cases[i].held.since);
        CHECK_INT("gone since", back.gone_since, cases[i].held.gone_since);
        CHECK_INT("kind", back.kind, cases[i].held.kind);
        free(text);
    }
}

static void test_garbage(void)
{
    static const char *const bad[] = { "", "l 1 2", "l 1 2\nsender", "z 1 2\na\nb",
                                       "l one 2\na\nb", "\n\n", "l\na\nb" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct held out;
        char text[64];
        snprintf(text, sizeof(text), "%s", bad[i]);
        CHECK_INT(bad[i], held_decode("4Fz", 3, text, &out), 0);
    }
}

static void test_spool(void)
{
    struct conf conf = { 0 };
    char error[200], path[200];
    snprintf(path, sizeof(path), "%s", state_dir());
    conf.state_dir = path;
    CHECK_STR("no directory yet", all(&conf), "");
    struct held one = { "4FzAbc", HELD_LOCK, 17, 0, "", "c@d\ne@f" };
    CHECK_INT("put", held_spool_put(&conf, &one, error, sizeof(error)), 1);
    CHECK_STR("there", all(&conf), "4FzAbc lock 17 0 <> c@d\ne@f");
    one.recipients = "c@d";
    CHECK_INT("put again", held_spool_put(&conf, &one, error, sizeof(error)), 1);
    CHECK_STR("replaced", all(&conf), "4FzAbc lock 17 0 <> c@d");
    CHECK_INT("drop", held_spool_drop(&conf, "4FzAbc"), 1);
    CHECK_INT("drop what is gone", held_spool_drop(&conf, "4FzAbc"), 1);
    CHECK_STR("gone", all(&conf), "");
    state_dir_clear();
}

static void test_ids_name_files(void)
{
    static const char *const bad[] = { "", "..", "../x", ".x", "a/b", "a b", "a\nb" };
    struct conf conf = { 0 };
    char error[200], path[200];
    snprintf(path, sizeof(path), "%s", state_dir());
    conf.state_dir = path;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct held held = { .sender = "", .recipients = "c@d" };
        snprintf(held.queue_id, sizeof(held.queue_id), "%s", bad[i]);
        CHECK_INT(bad[i], held_spool_put(&conf, &held, error, sizeof(error)), 0);
    }
    CHECK_STR("nothing written", all(&conf), "");
    state_dir_clear();
}

static void write_text(const char *folder, const char *name, const char *text)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/held/%s", folder, name);
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs(text, file);
    fclose(file);
}

static void test_leftovers(void)
{
    struct conf conf = { 0 };
    char error[200], path[200];
    snprintf(path, sizeof(path), "%s", state_dir());
    conf.state_dir = path;
    struct held one = { "4Fz", HELD_LOOP, 17, 0, "a@b", "c@d" };
    CHECK_INT("put", held_spool_put(&conf, &one, error, sizeof(error)), 1);
    write_text(path, ".4Fy", "l 17 0\na@b"); /* killed while writing */
    write_text(path, "4Fx", "garbage");
    CHECK_STR("only what is whole", all(&conf), "4Fz loop 17 0 <a@b> c@d");
    state_dir_clear();
}

static void test_errors(void)
{
    struct conf conf = { 0 };
    struct held one = { "4Fz", HELD_LOCK, 17, 0, "a@b", "c@d" };
    char error[200], path[] = "/nonexistent/state";
    conf.state_dir = path;
    CHECK_INT("put", held_spool_put(&conf, &one, error, sizeof(error)), 0);
    CHECK_STR("error", error,
              "/nonexistent/state/held: cannot keep the record of 4Fz: "
              "No such file or directory");
}

UNIT_MAIN("held", { "codec", test_codec }, { "garbage", test_garbage },
          { "spool", test_spool }, { "ids name files", test_ids_name_files },
          { "leftovers", test_leftovers }, { "errors", test_errors })
