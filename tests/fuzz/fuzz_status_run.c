/*
 * The records of a playbook's run, from the store: any text is read without harm, and
 * what comes out keeps to its limits. The input is cut at its NULs: the run's record,
 * the outline, then name and value of a step, again and again.
 *
 * Sources: policyd/status_run.c
 */
#include "../../policyd/status.h"
#include "fuzz.h"

static const char *next(const char **at, const char *end)
{
    const char *text = *at;
    *at = text + strlen(text);
    *at += *at < end;
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    const char *at = text, *end = text + size;
    const char *record = next(&at, end);
    const char *outline = at < end ? next(&at, end) : NULL;
    struct status_run *run = status_run_new(record, outline);
    while (run && at < end) {
        const char *name = next(&at, end);
        status_run_step(run, outline, name, next(&at, end));
    }
    if (run) {
        status_run_settle(run);
        HOLDS(run->phase_count <= STATUS_PHASES_MAX && run->now_count <= STATUS_NOW_MAX);
        HOLDS(run->phase >= -1 && run->phase < (int)run->phase_count);
    }
    free(run);
    free(text);
    return 0;
}
