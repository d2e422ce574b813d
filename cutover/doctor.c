/*
 * doctor: checks that what must be wired is wired, in the order in which to put
 * it right: Redis, this host, Postfix's main.cf and master.cf, sockets, next
 * hops.
 *
 *     ok redis: answers, epoch 12
 *     FAIL milter_default_action: is accept: mail would pass while ... is down
 *          main.cf: milter_default_action = tempfail
 *
 * --json: {"ok", "failures", "warnings", "checks": [{"name", "result", "found",
 * "fix": [{"where", "line"}]}]}. Nothing is changed.
 *
 * Exit: 0 all ok (warnings allowed), 1 something failed.
 */
#include "config.h"

#include "doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "options.h"
#include "run.h"

static const char *const words[] = { "ok", "warn", "FAIL" };
static const char *const results[] = { "ok", "warn", "fail" };

void doctor_say(struct doctor *doctor, enum finding finding, const char *name,
                const char *fmt, ...)
{
    char *found;
    va_list arguments;
    va_start(arguments, fmt);
    if (vasprintf(&found, fmt, arguments) < 0)
        found = NULL;
    va_end(arguments);
    const char *text = found ? found : "(no memory)";
    print("%s %s: %s", words[finding], name, text);
    doc *check = doc_add(doctor->checks, doc_object());
    doc_text(check, "name", name);
    doc_text(check, "result", results[finding]);
    doc_text(check, "found", text);
    doctor->fixes = doc_put(check, "fix", doc_array());
    doctor->ok += finding == FINDING_OK;
    doctor->warnings += finding == FINDING_WARN;
    doctor->failures += finding == FINDING_FAIL;
    free(found);
}

void doctor_fix(struct doctor *doctor, const char *where, const char *fmt, ...)
{
    char *line;
    va_list arguments;
    va_start(arguments, fmt);
    if (vasprintf(&line, fmt, arguments) < 0)
        line = NULL;
    va_end(arguments);
    const char *text = line ? line : "(no memory)";
    print("     %s: %s", where, text);
    doc *fix = doc_add(doctor->fixes, doc_object());
    doc_text(fix, "where", where);
    doc_text(fix, "line", text);
    free(line);
}

static void check_sync(struct doctor *doctor)
{
    const struct conf_sync *sync = &doctor->context->conf->sync;
    char why[256];
    if (sync->command == NULL || sync->command[0] == NULL) {
        doctor_say(doctor, FINDING_WARN, "sync", "no command: sluice cutover needs one");
        doctor_fix(doctor, "sluice.conf", "sync { command = {\"/etc/sluice/sync\"} }");
        return;
    }
    run_check_program(sync->command[0], why, sizeof(why));
    if (why[0] == '\0')
        doctor_say(doctor, FINDING_OK, "sync", "%s, %d at a time", sync->command[0],
                   sync->jobs);
    else
        doctor_say(doctor, FINDING_FAIL, "sync", "%s %s", sync->command[0], why);
}

int command_doctor(struct command_context *context, int argc, char **argv)
{
    if (!options_parse(NULL, 0, &argc, argv))
        return EXIT_USE;
    if (argc > 1) {
        message("takes no argument");
        return EXIT_USE;
    }
    struct doctor doctor = { .context = context };
    doc *document = doc_object();
    doctor.checks = doc_array();
    doctor_check_store(&doctor);
    doctor_check_postfix(&doctor);
    doctor_check_sockets(&doctor);
    doctor_check_hops(&doctor);
    doctor_check_auth(&doctor);
    if (context->conf->side == SIDE_OLD)
        check_sync(&doctor);
    doc_flag(document, "ok", doctor.failures == 0);
    doc_number(document, "failures", (int64_t)doctor.failures);
    doc_number(document, "warnings", (int64_t)doctor.warnings);
    doc_put(document, "checks", doctor.checks);
    doc_print(document);
    print("%zu ok, %zu %s, %zu failed", doctor.ok, doctor.warnings,
          doctor.warnings == 1 ? "warning" : "warnings", doctor.failures);
    return doctor.failures ? EXIT_CHECK : EXIT_DONE;
}
