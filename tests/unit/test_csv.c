/*
 * csv: each case is a file and what comes of it: the fields of a row in <>,
 * after its line; "!" and the line for a bad row.
 */
#include "unit.h"

#include <stdint.h>
#include <stdlib.h>

#include "../../cutover/csv.h"

static void append(char *out, size_t size, const char *text)
{
    size_t used = strlen(out);
    snprintf(out + used, size - used, "%s", text);
}

static void read_all(const char *input, size_t len, char *out, size_t size)
{
    char text[64];
    FILE *file = fmemopen((void *)(uintptr_t)input, len ? len : 1, "r");
    const struct csv_field *fields;
    size_t count;
    out[0] = '\0';
    if (len == 0)
        (void)fgetc(file); /* fmemopen() knows no empty file */
    struct csv *csv = csv_new(file);
    for (;;) {
        enum csv_result result = csv_next(csv, &fields, &count);
        if (result == CSV_END || result == CSV_FAILED) {
            append(out, size, result == CSV_FAILED ? "failed" : "");
            break;
        }
        snprintf(text, sizeof(text), "%s%lu", result == CSV_BAD ? "!" : "",
                 csv_line(csv));
        append(out, size, text);
        for (size_t i = 0; result == CSV_ROW && i < count; i++) {
            append(out, size, "<");
            append(out, size, fields[i].text);
            append(out, size, ">");
            CHECK_INT("length", fields[i].len, strlen(fields[i].text));
        }
        append(out, size, " ");
    }
    csv_free(csv);
    fclose(file);
}

static void test_rows(void)
{
    static const struct {
        const char *what, *input, *want;
    } cases[] = {
        { "empty file", "", "" },
        { "one row", "a,b\n", "1<a><b> " },
        { "no final line end", "a,b", "1<a><b> " },
        { "CRLF", "a\r\nb\r\n", "1<a> 2<b> " },
        { "CRLF at the very end", "a\r\n\r\n", "1<a> " },
        { "byte order mark",
          "\xef\xbb\xbf"
          "a\nb\n",
          "1<a> 2<b> " },
        { "only a byte order mark", "\xef\xbb\xbf", "" },
        { "empty lines", "a\n\n\r\nb\n\n", "1<a> 4<b> " },
        { "empty fields", ",a,\n,\n", "1<><a><> 2<><> " },
        { "quotes", "\"a,b\",\"c\"\"d\"\n", "1<a,b><c\"d> " },
        { "quoted line end", "\"a\nb\",c\nd\n", "1<a\nb><c> 3<d> " },
        { "quoted empty field", "\"\"\n", "1<> " },
        { "quoted empty field at the end", "a\n\"\"", "1<a> 2<> " },
        { "spaces stay", " a , b\n", "1< a >< b> " },
        { "quote in a field", "a\"b,c\nd\n", "!1 2<d> " },
        { "text after a quote", "\"a\"b,c\nd\n", "!1 2<d> " },
        { "bare CR", "a\rb\nc\n", "!1 2<c> " },
        { "quote never closed", "a\n\"b\nc\n", "1<a> !2 " },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char got[512];
        read_all(cases[i].input, strlen(cases[i].input), got, sizeof(got));
        CHECK_STR(cases[i].what, got, cases[i].want);
    }
}

static void test_nul_byte(void)
{
    char got[64];
    read_all("a\0b\nc\n", 6, got, sizeof(got));
    CHECK_STR("NUL", got, "!1 2<c> ");
}

/* A row of n bytes 'a' and a short one. */
static void read_long(size_t n, char *got, size_t size)
{
    char *input = malloc(n + 3);
    char *out = malloc(n + 64);
    memset(input, 'a', n);
    memcpy(input + n, "\nb\n", 3);
    read_all(input, n + 3, out, n + 64);
    snprintf(got, size, "%s", out + (strlen(out) > 20 ? strlen(out) - 20 : 0));
    free(input);
    free(out);
}

static void test_longest_row(void)
{
    char got[64];
    read_long(CSV_ROW_MAX - 1, got, sizeof(got));
    CHECK_STR("just fits", got, "aaaaaaaaaaaaa> 2<b> ");
    read_long(CSV_ROW_MAX, got, sizeof(got));
    CHECK_STR("too long", got, "!1 2<b> ");
}

static void test_most_fields(void)
{
    char input[CSV_FIELDS_MAX * 2 + 8], out[CSV_FIELDS_MAX * 4];
    memset(input, ',', sizeof(input));
    memcpy(input + CSV_FIELDS_MAX - 1, "\nb\n", 3);
    read_all(input, CSV_FIELDS_MAX + 2, out, sizeof(out));
    CHECK_INT("256 fields", strncmp(out, "1<><>", 5), 0);
    memset(input, ',', sizeof(input));
    memcpy(input + CSV_FIELDS_MAX, "\nb\n", 3);
    read_all(input, CSV_FIELDS_MAX + 3, out, sizeof(out));
    CHECK_STR("257 fields", out, "!1 2<b> ");
}

static void test_cell(void)
{
    static const struct {
        const char *text, *cell;
    } cases[] = {
        { "", "" },
        { "plain text", "plain text" },
        { "a,b", "\"a,b\"" },
        { "say \"hi\"", "\"say \"\"hi\"\"\"" },
        { "two\r\nlines", "\"two\r\nlines\"" },
        { "=1+1", "'=1+1" },
        { "+1", "'+1" },
        { "-1", "'-1" },
        { "@SUM(A1)", "'@SUM(A1)" },
        { "\t=1", "'\t=1" },
        { "\r=1", "\"'\r=1\"" },
        { "=HYPERLINK(\"x\",\"y\")", "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\"" },
        { "a=b", "a=b" },
        { "2001:db8::1", "2001:db8::1" },
    };
    char cell[64];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_INT(cases[i].text, csv_cell(cases[i].text, cell, sizeof(cell)), true);
        CHECK_STR(cases[i].text, cell, cases[i].cell);
    }
    for (size_t size = 0; size < 9; size++) {
        char *small = malloc(size + 1); /* so that a write past the end is seen */
        CHECK_INT("no room", csv_cell("-\"\"\"\"", small, size), false);
        free(small);
    }
}

UNIT_MAIN("csv", { "cell", test_cell }, { "rows", test_rows },
          { "NUL byte", test_nul_byte }, { "longest row", test_longest_row },
          { "most fields", test_most_fields })
