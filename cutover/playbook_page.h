/*
 * playbook_page: writes a document as text, Markdown or HTML. Titles, paragraphs,
 * lists of facts, tables; all text is escaped here.
 */
#ifndef SLUICE_PLAYBOOK_PAGE_H
#define SLUICE_PLAYBOOK_PAGE_H

#include <stdbool.h>
#include <stdio.h>

#include "playbook_report.h"

struct page {
    enum paper paper;
    FILE *out; /* a stream in memory */
    char *text;
    size_t len;
    bool failed; /* no memory */
};

/* false: no memory, after a message. */
bool page_open(struct page *page, enum paper paper, const char *title);
/* Ends the document: its text is page->text then, to be freed. false: no memory. */
bool page_close(struct page *page);
/* The same, and out with it: on standard output, or in a file. EXIT_DONE, or a message
 * and its code. */
int page_print(struct page *page);
int page_save(struct page *page, const char *path);

void page_title(struct page *page, int level, const char *text); /* 1 or 2 */
void page_paragraph(struct page *page, const char *text);
void page_item(struct page *page, const char *text); /* of a list */
/* "name: value" */
void page_fact(struct page *page, const char *name, const char *value);

/* A table with so many columns. A cell is a main text with, perhaps, smaller lines
 * below; kind is a class that HTML paints ("done", "failed", "wall", ...) or "". */
struct page_cell {
    const char *text;
    const char *more[3]; /* "" and NULL: none */
    const char *kind;
};
/* widths: of the columns, in percent. */
void page_head(struct page *page, const char *const *heads, const int *widths, size_t n);
void page_row(struct page *page, const struct page_cell *cells, size_t n);
void page_foot(struct page *page); /* ends the table */

#endif
