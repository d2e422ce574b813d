/*
 * The lines of a checkpoint: what is taken comes out of log_flow_save() as lines that
 * are taken again; and a whole file, with and without its digest.
 *
 * Sources: cutover/log_line.c cutover/log_journal.c cutover/log_time.c
 * Sources: cutover/log_event.c cutover/log_event_sendmail.c cutover/log_event_session.c
 * Sources: cutover/log_event_verdict.c cutover/log_field.c cutover/log_flow.c
 * Sources: cutover/log_flow_notes.c cutover/log_flow_save.c cutover/log_pool.c
 * Sources: cutover/log_words.c cutover/log_checkpoint.c cutover/log_reader.c
 * Sources: cutover/log_source.c cutover/log_source_files.c cutover/log_ahead.c
 * Sources: cutover/log_file.c cutover/log_rotated.c cutover/log_year.c lib/addr.c
 * Sources: lib/write_all.c
 * Libraries: libidn2 zlib
 */
#include "../../cutover/log_flow.h"
#include "../../cutover/log_reader.h"
#include "fuzz.h"

static struct log_reader *reader;

static bool take(void *arg, const char *line)
{
    struct log_flow *flow = arg;
    HOLDS(!strchr(line, '\n'));
    if (!log_reader_load(reader, line))
        (void)log_flow_load(flow, line);
    return true;
}

static char *save(struct log_flow *flow)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    HOLDS(out);
    log_flow_save(flow, out);
    HOLDS(fclose(out) == 0);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct log_flow *flow = log_flow_new(), *second = log_flow_new();
    char *text = exact_copy(data, size), *whole = malloc(size + 1), *saved;

    reader = log_reader_new(LOG_EVENTS_ALL);
    HOLDS(flow && second && whole && reader);
    memcpy(whole, text, size);
    whole[size] = '\0';
    log_checkpoint_parse(whole, size, take, second);
    log_flow_free(second);

    memcpy(whole, text, size);
    for (char *rest = NULL, *line = strtok_r(whole, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest))
        take(flow, line);
    saved = save(flow);
    second = log_flow_new();
    HOLDS(second);
    for (char *rest = NULL, *line = strtok_r(saved, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest))
        HOLDS(log_flow_load(second, line));
    HOLDS(log_flow_counts(second)->in_flight == log_flow_counts(flow)->in_flight);
    free(saved);
    free(whole);
    free(text);
    log_reader_free(reader);
    log_flow_free(second);
    log_flow_free(flow);
    return 0;
}
