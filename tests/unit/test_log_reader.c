/*
 * log_reader: files that grow, are rotated, compressed, truncated, and read in several
 * runs. What is read is written as the queue ids of the removed messages, in order.
 */
#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "../../cutover/log_reader.h"

static char folder[] = "/tmp/sluice-log-XXXXXX";
static char path[128], mark_path[128];

static const char *name(const char *suffix)
{
    static char text[4][160];
    static int next;
    char *out = text[next++ & 3];
    snprintf(out, sizeof(text[0]), "%s%s", path, suffix);
    return out;
}

static void put(const char *suffix, const char *flags, const char *text)
{
    FILE *file = fopen(name(suffix), flags);
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs(text, file);
    fclose(file);
}

/* Lines of messages, each removed; "12 13" with the second of its time. */
static const char *lines(const char *ids)
{
    static char text[4][4096];
    static int next;
    char *out = text[next++ & 3];
    out[0] = '\0';
    for (const char *p = ids; *p; p += *p == ' ') {
        char id[16];
        size_t len = strcspn(p, " ");
        snprintf(id, sizeof(id), "%.*s", (int)len, p);
        snprintf(out + strlen(out), sizeof(text[0]) - strlen(out),
                 "Nov 22 09:%.2s:%.2s mx1 postfix/qmgr[1]: ABCD%s: removed\n", id, id,
                 id);
        p += len;
    }
    return out;
}

static void compress_file(const char *from, const char *to)
{
    char data[65536];
    FILE *file = fopen(name(from), "r");
    gzFile gzip = gzopen(name(to), "wb");
    size_t len = fread(data, 1, sizeof(data), file);
    CU_ASSERT(gzwrite(gzip, data, (unsigned)len) == (int)len);
    gzclose(gzip);
    fclose(file);
    unlink(name(from));
}

static bool load(void *arg, const char *line)
{
    return log_reader_load(arg, line);
}

static bool save(void *arg, FILE *out)
{
    log_reader_save(arg, out);
    return true;
}

static enum log_read drain(struct log_reader *reader, char *out, size_t size)
{
    const struct log_record *record;
    enum log_read result;
    while ((result = log_reader_next(reader, &record)) == LOG_READ_EVENT)
        snprintf(out + strlen(out), size - strlen(out), "%s%.*s", out[0] ? " " : "",
                 (int)record->line.id.len - 4, record->line.id.text + 4);
    if (result == LOG_READ_FAILED)
        snprintf(out, size, "failed: %s", log_reader_error(reader));
    return result;
}

/* One run: from the checkpoint on, to the end, and a new checkpoint. */
static void run(char *out, size_t size, struct log_counts *counts)
{
    char error[512] = "";
    struct log_reader *reader = log_reader_new(1u << LOG_EVENT_REMOVED);
    out[0] = '\0';
    CU_ASSERT(log_reader_add(reader, path, error, sizeof(error)));
    CU_ASSERT(log_checkpoint_read(mark_path, load, reader, error, sizeof(error)) !=
              LOG_CHECKPOINT_DAMAGED);
    if (drain(reader, out, size) == LOG_READ_END)
        CU_ASSERT(log_checkpoint_write(mark_path, save, reader, error, sizeof(error)));
    if (counts)
        *counts = *log_reader_counts(reader);
    log_reader_free(reader);
}

static void expect_run(const char *what, const char *want, uint64_t lost)
{
    char got[4096];
    struct log_counts counts;
    run(got, sizeof(got), &counts);
    CHECK_STR(what, got, want);
    CHECK_INT(what, counts.lost, lost);
}

static void begin(void)
{
    snprintf(path, sizeof(path), "%s/mail.log", folder);
    snprintf(mark_path, sizeof(mark_path), "%s/mark", folder);
    DIR *dir = opendir(folder);
    for (struct dirent *d; (d = readdir(dir));)
        if (d->d_name[0] != '.')
            unlinkat(dirfd(dir), d->d_name, 0);
    closedir(dir);
}

static void test_rotated(void)
{
    begin();
    put(".3", "w", lines("01 02"));
    compress_file(".3", ".3.gz");
    put(".2", "w", lines("03"));
    put(".10", "w", lines("00"));
    put("-20261101.gz.bak", "w", lines("99"));
    put(".1", "w", lines("04"));
    put(".1.gz", "w", "half of a gzip file that is being written");
    put("", "w", lines("05 06"));
    put("x", "w", lines("98"));
    expect_run("the oldest first", "00 01 02 03 04 05 06", 0);
    expect_run("nothing new", "", 0);
    put("", "a", lines("07"));
    expect_run("one more", "07", 0);
    begin();
    put("-20261115", "w", lines("02"));
    put("-20261101", "w", lines("01"));
    put(".20261120-091432", "w", lines("03"));
    put("", "w", lines("04"));
    expect_run("by date", "01 02 03 04", 0);
}

static void test_rotation_between_runs(void)
{
    begin();
    put("", "w", lines("01 02"));
    expect_run("first", "01 02", 0);
    put("", "a", lines("03"));
    rename(path, name(".1"));
    put("", "w", "");
    expect_run("renamed, and the new one is empty", "03", 0);
    put(".1", "a", lines("04"));
    expect_run("the daemon still writes to the old one", "04", 0);
    put("", "a", lines("05"));
    expect_run("the new one", "05", 0);
    put("", "a", lines("06"));
    rename(name(".1"), name(".2"));
    rename(path, name(".1"));
    put("", "w", lines("07"));
    rename(name(".2"), name(".3"));
    rename(name(".1"), name(".2"));
    rename(path, name(".1"));
    put("", "w", lines("08"));
    compress_file(".2", ".2.gz");
    expect_run("two rotations, and gzip", "06 07 08", 0);
}

static void test_truncation_between_runs(void)
{
    begin();
    put("", "w", lines("01 02"));
    expect_run("first", "01 02", 0);
    put("", "a", lines("03"));
    put(".1", "w", lines("01 02 03"));
    put("", "w", lines("04"));
    expect_run("copytruncate", "03 04", 0);
    put("", "w", lines("05 06 07 08"));
    expect_run("truncated, and grown past the mark", "05 06 07 08", 1);
    unlink(path);
    put("", "w", lines("09"));
    expect_run("replaced", "09", 1);
}

static void test_part_of_a_line(void)
{
    begin();
    char all[4096];
    snprintf(all, sizeof(all), "%s", lines("01 02"));
    all[strlen(all) - 5] = '\0';
    put("", "w", all);
    expect_run("the second has no end yet", "01", 0);
    put("", "a", "ved\n");
    expect_run("now it has", "", 0);
    begin();
    snprintf(all, sizeof(all), "%s", lines("01 02"));
    all[strlen(all) - 1] = '\0';
    put("", "w", all);
    expect_run("an end is missing", "01", 0);
    put("", "a", "\n");
    expect_run("now it is there", "02", 0);
    put("", "a", "Nov 22 09:03:03 mx1 postfix/qmgr[1]: ABCD03: removed");
    rename(path, name(".1"));
    put("", "w", lines("04"));
    expect_run("a rotated file's last line counts", "03 04", 0);
}

static void test_long_and_foreign(void)
{
    static char longest[200000];
    char got[256];
    struct log_counts counts;
    begin();
    put("", "w", lines("01"));
    memset(longest, 'x', sizeof(longest) - 2);
    longest[sizeof(longest) - 2] = '\n';
    put("", "a", longest);
    longest[20000] = '\n';
    longest[20001] = '\0';
    put("", "a", longest);
    put("", "a", "\nno line of a log\n");
    FILE *file = fopen(path, "a");
    fwrite("\0\0\0\0", 1, 4, file);
    fclose(file);
    put("", "a", lines("02"));
    run(got, sizeof(got), &counts);
    CHECK_STR("those that are lines", got, "01 02");
    CHECK_INT("cut", counts.cut, 2);
    CHECK_INT("foreign", counts.foreign, 4);
    CHECK_INT("lines", counts.lines, 6);
}

/* Any log, cut anywhere, read in two runs. */
static void test_cut_anywhere(void)
{
    const char *ids = "01 02 03 04 05 06";
    char all[4096], first[4096], second[4096], both[8300];
    snprintf(all, sizeof(all), "%s", lines(ids));
    size_t len = strlen(all);
    for (size_t cut = 0; cut <= len; cut++) {
        begin();
        char part[4096];
        memcpy(part, all, cut);
        part[cut] = '\0';
        put("", "w", part);
        run(first, sizeof(first), NULL);
        switch (cut % 3) { /* the rest: appended, in a new file, copied and truncated */
        case 0:
            put("", "a", all + cut);
            break;
        case 1:
            put("", "a", all + cut);
            rename(path, name(".1"));
            put("", "w", "");
            break;
        default:
            put(".1", "w", all);
            put("", "w", "");
        }
        run(second, sizeof(second), NULL);
        snprintf(both, sizeof(both), "%s%s%s", first, first[0] && second[0] ? " " : "",
                 second);
        CHECK_STR("two runs", both, ids);
    }
}

static void test_follow(void)
{
    char got[4096] = "", error[512];
    begin();
    struct log_reader *reader = log_reader_new(1u << LOG_EVENT_REMOVED);
    log_reader_follow(reader);
    CU_ASSERT(log_reader_add(reader, path, error, sizeof(error)));
    static const struct {
        const char *what, *want;
        uint64_t lost; /* times that something may be gone */
    } steps[] = {
        { "no file", "", 0 },
        { "made", "01", 0 },
        { "more", "02", 0 },
        { "part of a line", "", 0 },
        { "its end", "03", 0 },
        { "renamed, not yet used", "", 0 },
        { "the old one still", "04", 0 },
        { "the new one", "05", 0 },
        { "truncated", "06", 1 },
        { "truncated and longer", "07 08 09 10", 2 },
        { "copytruncate", "11 12", 2 },
        { "nothing", "", 2 },
    };
    for (int i = 0; i < (int)(sizeof(steps) / sizeof(steps[0])); i++) {
        switch (i) {
        case 1:
            put("", "w", lines("01"));
            break;
        case 2:
            put("", "a", lines("02"));
            break;
        case 3:
            put("", "a", "Nov 22 09:03:03 mx1 postfix/qmgr[1]: ABCD03: rem");
            break;
        case 4:
            put("", "a", "oved\n");
            break;
        case 5:
            rename(path, name(".1"));
            put("", "w", "");
            break;
        case 6:
            put(".1", "a", lines("04"));
            break;
        case 7:
            put("", "a", lines("05"));
            break;
        case 8:
            put("", "w", "");
            drain(reader, got, sizeof(got));
            put("", "a", lines("06"));
            break;
        case 9:
            put("", "w", lines("07 08 09 10"));
            break;
        case 10:
            put("", "a", lines("11"));
            rename(name(".1"), name(".2"));
            put(".1", "w", lines("07 08 09 10 11"));
            put("", "w", lines("12"));
            break;
        default:
            break;
        }
        got[0] = '\0';
        CHECK_INT(steps[i].what, drain(reader, got, sizeof(got)), LOG_READ_END);
        CHECK_STR(steps[i].what, got, steps[i].want);
        CHECK_INT(steps[i].what, log_reader_counts(reader)->lost, steps[i].lost);
    }
    log_reader_free(reader);
}

static void test_merge(void)
{
    char other[160], got[256] = "", error[256];
    begin();
    put("", "w", lines("01 03 05"));
    snprintf(other, sizeof(other), "%s/milter.log", folder);
    FILE *file = fopen(other, "w");
    fputs("2026-11-22T09:02:02.000001Z postfix/qmgr[1]: ABCD02: removed\n"
          "2026-11-22T09:03:03.900000Z postfix/qmgr[1]: ABCD33: removed\n"
          "2026-11-22T09:04:04.000001Z postfix/qmgr[1]: ABCD04: removed\n"
          "2026-11-22T09:01:01.000001Z postfix/qmgr[1]: ABCD44: removed\n"
          "2026-11-22T09:09:09.000001Z postfix/qmgr[1]: ABCD09: removed\n",
          file);
    fclose(file);
    struct log_reader *reader = log_reader_new(1u << LOG_EVENT_REMOVED);
    CU_ASSERT(log_reader_add(reader, path, error, sizeof(error)));
    CU_ASSERT(log_reader_add(reader, other, error, sizeof(error)));
    CU_ASSERT(!log_reader_add(reader, path, error, sizeof(error)));
    CU_ASSERT(!log_reader_add(reader, "/nonexistent", error, sizeof(error)));
    drain(reader, got, sizeof(got));
    CHECK_STR("by time, and the clock that is set back in its own order", got,
              "01 02 33 03 04 44 05 09");
    log_reader_free(reader);
}

static void test_damaged(void)
{
    char got[512], data[4096];
    begin();
    put(".1", "w", lines("01 02 03 04"));
    compress_file(".1", ".1.gz");
    FILE *file = fopen(name(".1.gz"), "r+");
    fseek(file, 15, SEEK_SET);
    fputs("????", file);
    fclose(file);
    put("", "w", lines("05"));
    run(got, sizeof(got), NULL);
    CU_ASSERT(strncmp(got, "failed: ", 8) == 0 && strstr(got, "damaged"));
    begin();
    put("", "w", lines("01"));
    expect_run("first", "01", 0);
    file = fopen(mark_path, "r+");
    size_t len = fread(data, 1, sizeof(data), file);
    fseek(file, (long)len / 2, SEEK_SET);
    fputc('~', file);
    fclose(file);
    char error[512];
    struct log_reader *reader = log_reader_new(LOG_EVENTS_ALL);
    CHECK_INT("a changed byte",
              log_checkpoint_read(mark_path, load, reader, error, sizeof(error)),
              LOG_CHECKPOINT_DAMAGED);
    CU_ASSERT_PTR_NOT_NULL(strstr(error, "remove it"));
    CU_ASSERT(truncate(mark_path, (off_t)len / 2) == 0);
    CHECK_INT("cut", log_checkpoint_read(mark_path, load, reader, error, sizeof(error)),
              LOG_CHECKPOINT_DAMAGED);
    unlink(mark_path);
    CHECK_INT("none", log_checkpoint_read(mark_path, load, reader, error, sizeof(error)),
              LOG_CHECKPOINT_NONE);
    log_reader_free(reader);
}

int main(void)
{
    static const struct unit_case cases[] = {
        { "rotated files", test_rotated },
        { "rotation between runs", test_rotation_between_runs },
        { "truncation between runs", test_truncation_between_runs },
        { "part of a line", test_part_of_a_line },
        { "long and foreign lines", test_long_and_foreign },
        { "cut anywhere", test_cut_anywhere },
        { "follow", test_follow },
        { "several logs", test_merge },
        { "damaged", test_damaged },
    };
    setenv("TZ", "UTC", 1);
    if (!mkdtemp(folder))
        return 2;
    int code = unit_run("log_reader", cases, sizeof(cases) / sizeof(cases[0]));
    begin();
    rmdir(folder);
    return code;
}
