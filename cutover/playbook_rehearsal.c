/*
 * playbook_rehearsal: that a playbook was rehearsed on this domain. The end of a
 * rehearsal is noted with the domain's run, in one change with that end, and every
 * start after it carries the note over; so the action can tell when it was, whose, and
 * on how many mailboxes. The last rehearsal alone is noted.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "output.h"
#include "playbook_engine.h"
#include "targets.h"

/* ---- its end --------------------------------------------------------------- */

static int count_pilots(const struct engine *engine, int64_t *mailboxes)
{
    struct targets targets;
    char *argv[] = { engine->who, NULL };
    *mailboxes = 0;
    int code = engine->who ? targets_resolve(engine->context->conf, 1, argv, &targets)
                           : EXIT_DATA;
    if (code != EXIT_DONE)
        return code;
    *mailboxes = (int64_t)targets.mailboxes;
    targets_free(&targets);
    return EXIT_DONE;
}

int engine_finish_rehearsal(struct engine *engine)
{
    struct run_record run = engine->run;
    struct rehearsal_record record = { .ended = engine->now,
                                       .digest = engine->playbook->digest };
    char text[STATE_RECORD_MAX], note[STATE_RECORD_MAX];
    const char *variant = engine->playbook->variant ? engine->playbook->variant : "";
    const struct playbook_field fields[] = { { "", text }, { "@rehearsed", note } };
    const struct playbook_put what = {
        .domain = engine->domain->name,
        .expect_epoch = engine->run.epoch,
        .fields = fields,
        .count = 2,
    };
    run.state = RUN_FINISHED;
    memcpy(record.by, engine->by, sizeof(record.by));
    (void)snprintf(record.variant, sizeof(record.variant), "%s", variant); /* fits */
    int n =
        snprintf(record.playbook, sizeof(record.playbook), "%s", engine->playbook->name);
    int code = count_pilots(engine, &record.mailboxes);
    if (code != EXIT_DONE)
        return code;
    if (n < 0 || (size_t)n >= sizeof(record.playbook) ||
        run_record_encode(&run, text) == 0 || rehearsal_encode(&record, note) == 0) {
        message("the playbook's name is too long");
        return EXIT_DATA;
    }
    code = engine_put_fields(engine, &what, &run.epoch);
    if (code == EXIT_DONE)
        engine->run = run;
    return code;
}

/* ---- the check --------------------------------------------------------------- */

/* What is wrong with it; NULL: nothing. */
static const char *fault(const struct action_context *context,
                         const struct rehearsal_record *record, int64_t age, int most,
                         char out[400])
{
    char text[DURATION_TEXT_MAX], limit[DURATION_TEXT_MAX];
    const struct playbook *playbook = context->playbook;
    const char *variant = playbook->variant ? playbook->variant : "";
    bool same = strcmp(record->playbook, playbook->name) == 0;
    if (!same || strcmp(record->variant, variant) != 0)
        (void)snprintf(out, 400, "the last rehearsal was of %.120s%s%s", record->playbook,
                       record->variant[0] ? ", variant " : "", record->variant);
    else if (most > 0 && age > most)
        (void)snprintf(out, 400, "the last rehearsal was %s ago, %s is the most",
                       duration_text(age, text), duration_text(most, limit));
    else
        return NULL;
    return out;
}

static int not_rehearsed(const struct action_context *context, const char *why)
{
    const struct playbook *playbook = context->playbook;
    message("%s: sluice playbook start %s %s --replace --rehearse ADDRESS|@FILE%s%s and "
            "the settings of this run, run that to its end, then start this one again",
            why, playbook->name, context->domain, playbook->variant ? " --variant " : "",
            playbook->variant ? playbook->variant : "");
    return EXIT_CHECK;
}

int action_rehearsed(struct action_context *context, int argc, char **argv)
{
    struct rehearsal_record record;
    char text[400], when[TIME_TEXT_MAX];
    int most = 0;
    if (argc > 1 && !duration_parse(argv[1], &most)) {
        message("rehearsed: \"%s\" is not a duration: write it as 60d", argv[1]);
        return EXIT_USE;
    }
    if (!context->rehearsed)
        return not_rehearsed(context, "not rehearsed on this domain so far");
    if (!rehearsal_decode(context->rehearsed, &record))
        return not_rehearsed(context, "the note of the last rehearsal is damaged");
    int64_t now = store_time_ms(context->command->store) / 1000;
    if (now <= 0) {
        message("%s", store_error(context->command->store));
        return EXIT_SERVICE;
    }
    const char *why = fault(context, &record, now - record.ended, most, text);
    if (why)
        return not_rehearsed(context, why);
    print("rehearsed on %" PRId64 " %s by %s, %s%s", record.mailboxes,
          record.mailboxes == 1 ? "mailbox" : "mailboxes", record.by,
          time_text(record.ended, when),
          record.digest == context->playbook->digest
              ? ""
              : "; the playbook's file was edited since");
    return EXIT_DONE;
}
