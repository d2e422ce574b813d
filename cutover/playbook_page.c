/*
 * playbook_page: see playbook_page.h. The HTML page has its style in itself, loads
 * nothing, and prints well; wide tables are cut in no cell.
 */
#include "playbook_page.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "output.h"

static const char style[] =
    "body{font:15px/1.45 system-ui,sans-serif;color:#1c2430;max-width:74em;"
    "margin:2em auto;padding:0 1.2em}h1{font-size:1.7em;margin:0 0 .3em}"
    "h2{font-size:1.2em;margin:1.8em 0 .5em;border-bottom:2px solid #d5dbe3;"
    "padding-bottom:.2em}p{max-width:56em;margin:.5em 0}"
    "dl{display:grid;grid-template-columns:12em auto;gap:1.2em;margin:.1em 0}"
    "dt{color:#5a6675}dd{margin:0;overflow-wrap:anywhere}"
    "table{border-collapse:collapse;width:100%;table-layout:fixed;font-size:.93em}"
    "th{text-align:left;color:#5a6675;font-weight:600;border-bottom:1px solid #aeb8c4}"
    "th,td{padding:.4em .6em;vertical-align:top}td{border-bottom:1px solid #e4e8ed}"
    "td{overflow-wrap:break-word}td.note{overflow-wrap:anywhere}"
    "td.n,td.time{white-space:nowrap}"
    "tr{break-inside:avoid}small{display:block;color:#5a6675;overflow-wrap:anywhere}"
    ".done{color:#17663a}.failed{color:#b3261e;font-weight:600}"
    ".waits{color:#8a5a00}.wall{color:#b3261e;font-weight:600}"
    "@media print{body{margin:0;max-width:none;font-size:11px}}";

/* ---- escaping ------------------------------------------------------------------ */

static const char *replacement(enum paper paper, char c)
{
    static const char *const marks[] = {
        ['|'] = "\\|", ['`'] = "\\`",   ['*'] = "\\*", ['_'] = "\\_",
        ['['] = "\\[", ['\\'] = "\\\\", ['#'] = "\\#", ['~'] = "\\~"
    };
    switch (paper == PAPER_TEXT ? '\0' : c) {
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
    case '\0':
        return NULL;
    default:
        return paper == PAPER_MARKDOWN &&
                       (unsigned char)c < sizeof(marks) / sizeof(*marks)
                   ? marks[(unsigned char)c]
                   : NULL;
    }
}

char *paper_escape(enum paper paper, const char *text)
{
    char *plain = strdup(text), *out = NULL;
    size_t len;
    FILE *stream = plain ? open_memstream(&out, &len) : NULL;
    if (!stream) {
        free(plain);
        return NULL;
    }
    for (char *c = plain; *c; c++)
        if (*c == '\n' || *c == '\t' || *c == '\r')
            *c = ' ';
    out_harmless(plain);
    for (const char *c = plain; *c; c++) {
        const char *with = replacement(paper, *c);
        if (with)
            (void)fputs(with, stream);
        else
            (void)fputc(*c, stream);
    }
    free(plain);
    if (fclose(stream) == 0)
        return out;
    free(out);
    return NULL;
}

static void put(struct page *page, const char *text)
{
    char *safe = paper_escape(page->paper, text);
    page->failed = page->failed || !safe;
    if (safe)
        (void)fputs(safe, page->out);
    free(safe);
}

/* Before and after are ours, text is escaped. */
static void wrap(struct page *page, const char *before, const char *text,
                 const char *after)
{
    (void)fputs(before, page->out);
    put(page, text);
    (void)fputs(after, page->out);
}

/* ---- the document ------------------------------------------------------------------ */

bool page_open(struct page *page, enum paper paper, const char *title)
{
    *page = (struct page){ .paper = paper };
    page->out = open_memstream(&page->text, &page->len);
    if (!page->out) {
        message("out of memory: no document");
        return false;
    }
    if (paper == PAPER_HTML) {
        wrap(page,
             "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
             "<meta name=\"viewport\" content=\"width=device-width\">\n<title>",
             title, "</title>\n<style>");
        (void)fputs(style, page->out);
        (void)fputs("</style></head><body>\n", page->out);
    }
    return true;
}

bool page_close(struct page *page)
{
    if (page->paper == PAPER_HTML)
        (void)fputs("</body></html>\n", page->out);
    return fclose(page->out) == 0 && !page->failed;
}

void page_title(struct page *page, int level, const char *text)
{
    if (page->paper == PAPER_HTML)
        wrap(page, level == 1 ? "<h1>" : "<h2>", text,
             level == 1 ? "</h1>\n" : "</h2>\n");
    else if (page->paper == PAPER_MARKDOWN)
        wrap(page, level == 1 ? "# " : "\n## ", text, "\n\n");
    else
        wrap(page, level == 1 ? "" : "\n", text, "\n");
}

void page_paragraph(struct page *page, const char *text)
{
    if (!text[0])
        return;
    if (page->paper == PAPER_HTML)
        wrap(page, "<p>", text, "</p>\n");
    else
        wrap(page, "", text, page->paper == PAPER_MARKDOWN ? "\n\n" : "\n");
}

void page_item(struct page *page, const char *text)
{
    if (page->paper == PAPER_HTML)
        wrap(page, "<li>", text, "</li>\n");
    else
        wrap(page, page->paper == PAPER_MARKDOWN ? "- " : "  ", text, "\n");
}

void page_fact(struct page *page, const char *name, const char *value)
{
    if (page->paper == PAPER_HTML) {
        wrap(page, "<dl><dt>", name, "</dt>");
        wrap(page, "<dd>", value, "</dd></dl>\n");
    } else {
        wrap(page, page->paper == PAPER_MARKDOWN ? "- " : "  ", name, ": ");
        wrap(page, "", value, "\n");
    }
}

/* ---- tables --------------------------------------------------------------------------
 */

void page_head(struct page *page, const char *const *heads, const int *widths, size_t n)
{
    if (page->paper == PAPER_HTML) {
        (void)fputs("<table><colgroup>", page->out);
        for (size_t i = 0; i < n; i++)
            (void)fprintf(page->out, "<col style=\"width:%d%%\">", widths[i]);
        (void)fputs("</colgroup><thead><tr>", page->out);
        for (size_t i = 0; i < n; i++)
            wrap(page, "<th>", heads[i], "</th>");
        (void)fputs("</tr></thead><tbody>\n", page->out);
        return;
    }
    if (page->paper == PAPER_TEXT)
        return;
    for (size_t i = 0; i < n; i++)
        wrap(page, "| ", heads[i], " ");
    (void)fputs("|\n", page->out);
    for (size_t i = 0; i < n; i++)
        (void)fputs("| --- ", page->out);
    (void)fputs("|\n", page->out);
}

static void put_cell(struct page *page, const struct page_cell *cell)
{
    bool html = page->paper == PAPER_HTML;
    if (html && cell->kind && cell->kind[0])
        wrap(page, "<td class=\"", cell->kind, "\">");
    else
        (void)fputs(html ? "<td>" : "| ", page->out);
    put(page, cell->text ? cell->text : "");
    for (size_t i = 0; i < 3; i++)
        if (cell->more[i] && cell->more[i][0])
            wrap(page, html ? "<small>" : " -- ", cell->more[i], html ? "</small>" : "");
    (void)fputs(html ? "</td>" : " ", page->out);
}

void page_row(struct page *page, const struct page_cell *cells, size_t n)
{
    if (page->paper == PAPER_HTML)
        (void)fputs("<tr>", page->out);
    for (size_t i = 0; i < n; i++)
        put_cell(page, &cells[i]);
    (void)fputs(page->paper == PAPER_HTML ? "</tr>\n" : "|\n", page->out);
}

void page_foot(struct page *page)
{
    (void)fputs(page->paper == PAPER_HTML ? "</tbody></table>\n" : "\n", page->out);
}

/* ---- out ------------------------------------------------------------------------------
 */

int page_print(struct page *page)
{
    bool good = page_close(page);
    if (!good)
        message("out of memory: no document");
    else if (!out_is_json())
        (void)fwrite(page->text, 1, page->len,
                     stdout); /* out_finish() looks for errors */
    free(page->text);
    return good ? EXIT_DONE : EXIT_SERVICE;
}

/* Writes it aside and renames it. */
static bool save(const struct page *page, const char *path)
{
    char aside[PATH_MAX];
    int n = snprintf(aside, sizeof(aside), "%s.new", path);
    if (n < 0 || n >= (int)sizeof(aside)) {
        errno = ENAMETOOLONG;
        return false;
    }
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!file) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool good = fwrite(page->text, 1, page->len, file) == page->len;
    return fclose(file) == 0 && good && rename(aside, path) == 0;
}

int page_save(struct page *page, const char *path)
{
    bool whole = page_close(page);
    bool good = whole && save(page, path);
    if (!whole)
        message("out of memory: no document");
    else if (!good)
        message("%s: %s", path, strerror(errno));
    else
        print("%s: %zu bytes", path, page->len);
    free(page->text);
    return good ? EXIT_DONE : EXIT_SERVICE;
}
