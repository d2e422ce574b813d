/*
 * playbook_dns: the actions that are sluice dns.
 *
 * dns-apply and dns-lower keep the name of the snapshot that they take before their
 * first try in DIRECTORY/.STEP.snapshot, and dns-back, their undo, goes back to that
 * one: with several such steps in a playbook each undoes what it did itself, in
 * whatever state the zone is left by the others.
 *
 *     <start of the run, unix s> TAB <name of the snapshot>
 *
 * Snapshots are of one host: on another one the step is neither begun again (its
 * snapshot would be of a zone that is changed already) nor called undone
 * (playbook_claim.h).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dns_snap.h"
#include "output.h"
#include "playbook_claim.h"
#include "playbook_people.h"

#define WORDS_MAX (PLAYBOOK_ARGS_MAX + 8)
#define PATH_LEN  4400

/* sluice dns VERB [options of the playbook] [ours], NULL-terminated */
static int run_dns(struct action_context *context, const char *verb,
                   const char *const *ours, int argc, char **argv)
{
    char *words[WORDS_MAX + 1], *made[WORDS_MAX];
    int n = 0, own = 0;
    const char *const head[] = { "dns", verb, NULL };
    for (int i = 0; head[i]; i++)
        words[n++] = made[own++] = strdup(head[i]);
    for (int i = 1; i < argc; i++)
        words[n++] = argv[i];
    for (int i = 0; ours && ours[i] && n < WORDS_MAX; i++)
        words[n++] = made[own++] = strdup(ours[i]);
    words[n] = NULL;
    bool good = true;
    for (int i = 0; i < own; i++)
        good = good && made[i];
    int code = EXIT_SERVICE;
    if (good)
        code = command_dns(context->command, n, words);
    else
        message("out of memory");
    for (int i = 0; i < own; i++)
        free(made[i]);
    return code;
}

int action_dns_snapshot(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "snapshot", NULL, argc, argv);
}

/* Its output is a paper: STEP.txt. */
int action_dns_diff(struct action_context *context, int argc, char **argv)
{
    char name[PLAYBOOK_ID_MAX + 8];
    (void)snprintf(name, sizeof(name), "%.*s.txt", PLAYBOOK_ID_MAX, context->step);
    FILE *paper = paper_open(context, name);
    int code = EXIT_SERVICE, log = paper ? dup(STDOUT_FILENO) : -1;
    (void)fflush(stdout);
    if (log >= 0 && dup2(fileno(paper), STDOUT_FILENO) >= 0) {
        code = run_dns(context, "diff", NULL, argc, argv);
        if (fflush(stdout) != 0 || dup2(log, STDOUT_FILENO) < 0)
            code = EXIT_SERVICE;
    }
    if (log >= 0)
        close(log);
    int closed =
        paper ? paper_close(context, paper, name, code == EXIT_DONE) : EXIT_SERVICE;
    if (code == EXIT_DONE)
        code = closed;
    if (code == EXIT_DONE)
        print("%s: what is to be changed", name);
    return code;
}

int action_dns_check(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "check", NULL, argc, argv);
}

int action_dns_rules(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "check", (const char *const[]){ "--rules", NULL }, argc,
                   argv);
}

int action_dns_servers(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "check",
                   (const char *const[]){ "--rules", "--rule", "ns", NULL }, argc, argv);
}

int action_dns_access(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "apply", (const char *const[]){ "--try", NULL }, argc, argv);
}

/* Looks now and then, so that the run shows how long it still takes. */
int action_dns_wait(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "wait", (const char *const[]){ "--timeout=10s", NULL }, argc,
                   argv);
}

int action_dns_lowered(struct action_context *context, int argc, char **argv)
{
    return run_dns(context, "wait",
                   (const char *const[]){ "--lower-ttl", "--timeout=10s", NULL }, argc,
                   argv);
}

/* ---- the step's own snapshot ------------------------------------------------- */

static bool path_of(const struct action_context *context, char out[PATH_LEN])
{
    int n = snprintf(out, PATH_LEN, "%s/.%s.snapshot", context->directory, context->step);
    return n > 0 && n < PATH_LEN;
}

/* Of this step in this run; false: none is noted. */
static bool noted(const struct action_context *context, char name[64])
{
    char path[PATH_LEN];
    int64_t run = 0;
    FILE *file = path_of(context, path) ? fopen(path, "re") : NULL;
    bool found =
        file && fscanf(file, "%" SCNd64 "\t%63s", &run, name) == 2 && run == context->run;
    if (file)
        fclose(file);
    return found;
}

static int note(const struct action_context *context, const char *name)
{
    char path[PATH_LEN];
    FILE *file = path_of(context, path) ? fopen(path, "we") : NULL;
    bool good = file && fprintf(file, "%" PRId64 "\t%s\n", context->run, name) > 0 &&
                fflush(file) == 0 && fsync(fileno(file)) == 0;
    if (file && fclose(file) != 0)
        good = false;
    if (good)
        return EXIT_DONE;
    message("%s: %s", path, strerror(errno));
    return EXIT_SERVICE;
}

/* What has to be copied to another host. */
static const char *kept_here(const struct action_context *context,
                             char out[CLAIM_WHAT_MAX])
{
    (void)snprintf(out, CLAIM_WHAT_MAX, "%s/dns/%s and %s/.%s.snapshot",
                   context->command->conf->state_dir, context->domain, context->directory,
                   context->step);
    return out;
}

static int keep_snapshot(struct action_context *context, char *domain)
{
    char name[64], error[1024], *words[] = { NULL, domain, NULL };
    struct dns_snap *snaps;
    size_t count;
    if (noted(context, name))
        return EXIT_DONE; /* an interrupted try goes on */
    char what[CLAIM_WHAT_MAX];
    int code = claim_step(context, kept_here(context, what));
    if (code == EXIT_DONE)
        code = run_dns(context, "snapshot", NULL, 2, words);
    if (code != EXIT_DONE)
        return code;
    if (!dns_snap_read(context->command->conf, context->domain, &snaps, &count, error,
                       sizeof(error))) {
        message("%s", error);
        return EXIT_SERVICE;
    }
    code = count > 0 ? note(context, snaps[count - 1].name) : EXIT_SERVICE;
    dns_snap_free_all(snaps, count);
    return code;
}

int action_dns_apply(struct action_context *context, int argc, char **argv)
{
    int code = keep_snapshot(context, argv[1]);
    return code == EXIT_DONE ? run_dns(context, "apply",
                                       (const char *const[]){ "--yes", NULL }, argc, argv)
                             : code;
}

int action_dns_lower(struct action_context *context, int argc, char **argv)
{
    int code = keep_snapshot(context, argv[1]);
    return code == EXIT_DONE
               ? run_dns(context, "apply",
                         (const char *const[]){ "--lower-ttl", "--yes", NULL }, argc,
                         argv)
               : code;
}

int action_dns_back(struct action_context *context, int argc, char **argv)
{
    char name[64], path[PATH_LEN], what[CLAIM_WHAT_MAX];
    if (!noted(context, name)) {
        int code = claim_check(context, kept_here(context, what));
        if (code == EXIT_DONE)
            print("%s: step %s has changed nothing", context->domain, context->step);
        return code;
    }
    const char *const ours[] = { "--back", "--snapshot", name, "--yes", NULL };
    int code = run_dns(context, "apply", ours, argc, argv);
    if (code == EXIT_DONE && path_of(context, path))
        (void)unlink(path);
    return code;
}
