/*
 * status_run: the run of a playbook as the status shows it, from its records in the
 * store: "<epoch> TAB <letter> TAB <number> ...". The formats are those of the
 * command line (cutover/playbook_state.h), which policyd does not know; it reads by
 * position and takes more fields at the end for granted. The outline, which names
 * the phases, is "<title> TAB <phase>TAB<step>,<step> ...".
 *
 * Texts that are too long are cut; a record that is none is left out.
 */
#include "status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS_MAX 9

struct fields {
    const char *at[FIELDS_MAX];
    size_t len[FIELDS_MAX];
    size_t count;
};

/* The first is the epoch. The last one holds whatever is left. */
static void split(const char *text, struct fields *out)
{
    out->count = 0;
    while (text && out->count < FIELDS_MAX) {
        size_t len = strcspn(text, "\t");
        out->at[out->count] = text;
        out->len[out->count++] = len;
        text = text[len] ? text + len + 1 : NULL;
    }
}

static void copy(const char *text, size_t len, char *out, size_t size)
{
    if (len >= size) {
        len = size - 1;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
            len--; /* not in the middle of a UTF-8 character */
    }
    memcpy(out, text, len);
    out[len] = '\0';
}

static void text_of(const struct fields *fields, size_t i, char *out, size_t size)
{
    copy(fields->at[i], fields->len[i], out, size);
}

static int64_t number_of(const struct fields *fields, size_t i)
{
    return strtoll(fields->at[i], NULL, 10); /* ends at the TAB */
}

/* "mailroute" of "/etc/sluice/mailroute.conf" */
static void base_name(char *name)
{
    char *slash = strrchr(name, '/');
    if (slash && slash[1])
        memmove(name, slash + 1, strlen(slash));
    size_t len = strlen(name);
    if (len > 5 && strcmp(name + len - 5, ".conf") == 0)
        name[len - 5] = '\0';
}

/* How many steps "a,b,c" names. */
static unsigned count_ids(const char *ids, size_t len)
{
    unsigned n = len > 0;
    for (size_t i = 0; i < len; i++)
        n += ids[i] == ',';
    return n;
}

static void take_outline(struct status_run *run, const char *outline)
{
    size_t len = strcspn(outline, "\t");
    copy(outline, len, run->title, sizeof(run->title));
    const char *at = outline + len;
    while (*at == '\t' && run->phase_count < STATUS_PHASES_MAX) {
        struct status_phase *phase = &run->phases[run->phase_count++];
        len = strcspn(++at, "\t");
        copy(at, len, phase->title, sizeof(phase->title));
        at += len;
        if (*at != '\t')
            break;
        len = strcspn(++at, "\t");
        phase->total = count_ids(at, len);
        run->total += phase->total;
        at += len;
    }
}

/* The outline as the store has it: behind an epoch. NULL: there is none. */
static const char *outline_text(const char *stored)
{
    const char *tab = stored ? strchr(stored, '\t') : NULL;
    return tab ? tab + 1 : NULL;
}

struct status_run *status_run_new(const char *record, const char *outline)
{
    struct fields f;
    split(record, &f);
    if (f.count < 8 || f.len[1] != 1 || !strchr("gfb", f.at[1][0]))
        return NULL;
    struct status_run *run = calloc(1, sizeof(*run));
    if (!run)
        return NULL;
    run->state = f.at[1][0];
    run->started = number_of(&f, 2);
    run->opened = number_of(&f, 3);
    run->window_s = number_of(&f, 4);
    run->rehearsal = number_of(&f, 5) != 0;
    text_of(&f, 6, run->name, sizeof(run->name));
    base_name(run->name);
    text_of(&f, 7, run->by, sizeof(run->by));
    run->phase = -1;
    if (outline_text(outline))
        take_outline(run, outline_text(outline));
    return run;
}

/* In which phase a step is; NULL: not in the outline. */
static struct status_phase *phase_of(struct status_run *run, const char *outline,
                                     const char *name)
{
    const char *at = outline_text(outline);
    size_t name_len = strlen(name);
    at = at ? strchr(at, '\t') : NULL;
    for (size_t i = 0; at && i < run->phase_count; i++) {
        const char *ids = strchr(at + 1, '\t');
        if (!ids)
            return NULL;
        size_t len = strcspn(++ids, "\t");
        for (const char *id = ids; id < ids + len;) {
            size_t id_len = strcspn(id, ",\t");
            if (id_len == name_len && strncmp(id, name, name_len) == 0)
                return &run->phases[i];
            id += id_len + 1;
        }
        at = ids[len] ? ids + len : NULL;
    }
    return NULL;
}

void status_run_step(struct status_run *run, const char *outline, const char *name,
                     const char *value)
{
    struct fields f;
    if (!name[0] || strchr("=@", name[0]))
        return; /* the run itself, settings, what is no step */
    split(value, &f);
    if (f.count < 6 || f.len[1] != 1)
        return;
    char state = f.at[1][0];
    struct status_phase *phase = phase_of(run, outline, name);
    if (state == 'd') {
        run->done++;
        if (phase)
            phase->done++;
        return;
    }
    if (!strchr("rwtfb", state) || run->now_count == STATUS_NOW_MAX)
        return;
    struct status_step *step = &run->now[run->now_count++];
    step->state = state;
    copy(name, strlen(name), step->id, sizeof(step->id));
    step->began = number_of(&f, 2);
    step->due = number_of(&f, 4);
    text_of(&f, 5, step->by, sizeof(step->by));
    if (f.count > 6)
        text_of(&f, 6, step->note, sizeof(step->note));
}

void status_run_settle(struct status_run *run)
{
    run->phase = -1;
    for (size_t i = 0; i < run->phase_count && run->state == 'g'; i++) {
        if (run->phases[i].done < run->phases[i].total) {
            run->phase = (int)i;
            return;
        }
    }
}
