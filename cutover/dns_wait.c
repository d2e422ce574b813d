/*
 * sluice dns wait: until the old records are out of every cache.
 *
 * Two things are waited for: that every authoritative server has the plan, and
 * then, from the moment when they first all had it, twice the TTL that the last
 * snapshot with the old records noted (and longer where an earlier snapshot's
 * longer TTL has not run out). That moment is kept in state-dir/dns/DOMAIN/agreed
 * with the plan it is about, so that an interrupted wait goes on where it was; a
 * server that goes back to the old records starts it anew.
 *
 * The countdown is measured on the clock that nobody can set; a kept moment in
 * the future (the host's clock was set back) is taken as now.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "dns.h"

#define AGREED   "agreed"
#define LOOK_MS  15000 /* between two looks while the countdown runs */
#define RETRY_MS 2000  /* and while the servers do not agree */
#define TICK_MS  500

/* The plan in one text; malloc'ed. */
static char *plan_text(const struct dns_task *task)
{
    struct dns_changes changes = { 0 };
    const struct dns_sets none = { 0 };
    char *text = dns_plan_changes(&task->planned, &none, DNS_AIM_PLAN, &changes)
                     ? dns_plan_zone_lines(&changes)
                     : NULL;
    dns_changes_free(&changes);
    return text;
}

/* When all servers were first seen with this plan: kept, or now. */
static int64_t agreed_since(const struct dns_task *task, const char *plan)
{
    int64_t now = time(NULL), since = 0;
    int head = 0;
    char *kept = dns_snap_noted(task->context->conf, task->domain->name, AGREED);
    bool same = kept && sscanf(kept, "; agreed %" SCNd64 "\n%n", &since, &head) == 1 &&
                head > 0 && strcmp(kept + head, plan) == 0;
    free(kept);
    if (same && since <= now)
        return since;
    char path[4096], error[1024], *text = NULL;
    if (same)
        notice("the clock of this host was set back: the countdown starts anew");
    if (asprintf(&text, "; agreed %" PRId64 "\n%s", now, plan) < 0)
        return now;
    if (!dns_snap_note(task->context->conf, task->domain->name, AGREED, text, path,
                       sizeof(path), error, sizeof(error)))
        notice("%s (an interrupted wait would start anew)", error);
    free(text);
    return now;
}

struct countdown {
    bool running;
    int64_t end, length; /* clock_ms(), ms */
    uint32_t ttl;
};

static void begin_countdown(const struct dns_task *task, const char *plan,
                            struct countdown *countdown)
{
    int64_t now = time(NULL), agreed = agreed_since(task, plan);
    int64_t quiet = dns_snap_quiet(task->snaps, task->snap_count, &task->planned, agreed,
                                   &countdown->ttl);
    int64_t left = quiet > now ? quiet - now : 0;
    countdown->running = true;
    countdown->length = (quiet > agreed ? quiet - agreed : 0) * 1000;
    countdown->end = clock_ms() + left * 1000;
    progress_total((uint64_t)(countdown->length / 1000));
}

/* Asks all servers; starts or stops the countdown. */
static int look(struct dns_task *task, const char *plan, struct countdown *countdown)
{
    char text[DNS_SERVER_TEXT];
    size_t behind = SIZE_MAX;
    int code = dns_look_ask(&task->look, false);
    if (code == EXIT_AGAIN)
        return code;
    if (code == EXIT_DONE && dns_task_agreed(task, &behind)) {
        if (!countdown->running)
            begin_countdown(task, plan, countdown);
        return EXIT_DONE;
    }
    bool silent =
        code != EXIT_DONE || (behind != SIZE_MAX && task->look.servers[behind].silent);
    if (countdown->running && !silent) {
        notice("%s has the old records again: the countdown stops",
               dns_server_text(&task->look.servers[behind], text));
        dns_snap_forget(task->context->conf, task->domain->name, AGREED);
        countdown->running = false;
        progress_total(0);
    }
    if (!countdown->running)
        progress_set(0, "%s %s",
                     behind == SIZE_MAX
                         ? task->look.zone
                         : dns_server_text(&task->look.servers[behind], text),
                     silent ? "does not answer" : "is not as planned yet");
    return EXIT_CHECK; /* not at its end */
}

static int count(struct dns_task *task, const char *plan, struct countdown *countdown)
{
    char left[DURATION_TEXT_MAX];
    int64_t limit = task->options.timeout > 0
                        ? clock_ms() + (int64_t)task->options.timeout * 1000
                        : INT64_MAX;
    for (;;) {
        int code = look(task, plan, countdown);
        if (code == EXIT_AGAIN)
            return code;
        /* The end counts only when all servers still agree at it. */
        if (code == EXIT_DONE && clock_ms() >= countdown->end)
            return EXIT_DONE;
        int64_t next = clock_ms() + (code == EXIT_DONE ? LOOK_MS : RETRY_MS);
        if (countdown->running && code == EXIT_DONE && next > countdown->end)
            next = countdown->end;
        do {
            int64_t rest = countdown->end - clock_ms();
            if (countdown->running)
                progress_set(
                    (uint64_t)((countdown->length - (rest > 0 ? rest : 0)) / 1000),
                    "%s until the old records are out of every cache",
                    duration_text(rest > 0 ? (rest + 999) / 1000 : 0, left));
            if (clock_ms() >= limit) {
                message("not done in the time given: run the same command again");
                return EXIT_AGAIN;
            }
            int64_t pause = next - clock_ms();
            if (pause > 0 && !command_sleep(pause < TICK_MS ? (int)pause : TICK_MS)) {
                message("interrupted: run the same command again, it goes on from here");
                return EXIT_AGAIN;
            }
        } while (clock_ms() < next);
    }
}

/* --dry-run: how it stands, without waiting. */
static int say_what_waits(struct dns_task *task)
{
    char text[DNS_SERVER_TEXT], noted[DURATION_TEXT_MAX];
    size_t behind;
    uint32_t ttl = 0;
    int code = dns_look_ask(&task->look, false);
    if (code != EXIT_DONE)
        return code;
    bool agreed = dns_task_agreed(task, &behind);
    (void)dns_snap_quiet(task->snaps, task->snap_count, &task->planned, time(NULL), &ttl);
    if (agreed)
        print("%s: all authoritative servers agree; the noted TTL is %s, twice that is "
              "waited",
              task->domain->name, duration_text(ttl, noted));
    else
        print("%s: %s is not as planned yet", task->domain->name,
              dns_server_text(&task->look.servers[behind], text));
    doc *document = dns_task_document(task);
    doc_flag(document, "dry_run", true);
    doc_flag(document, "agreed", agreed);
    doc_number(document, "old_ttl", ttl);
    doc_number(document, "servers", (int64_t)task->look.server_count);
    doc_print(document);
    return EXIT_DONE;
}

int dns_wait(struct dns_task *task)
{
    struct countdown countdown = { 0 };
    if (task->snap_count == 0) {
        message("%s has no snapshot, so the TTL before the change is not known: take one "
                "before the change with sluice dns snapshot",
                task->domain->name);
        return EXIT_DATA;
    }
    if (task->context->dry_run)
        return say_what_waits(task);
    char *plan = plan_text(task);
    if (!plan) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    progress_begin("dns wait", 0);
    int code = count(task, plan, &countdown);
    progress_end();
    free(plan);
    if (code != EXIT_DONE)
        return code;
    char waited[DURATION_TEXT_MAX];
    print("%s: all %zu authoritative servers agree, and the old records (TTL %s) are out "
          "of every cache",
          task->domain->name, task->look.server_count,
          duration_text(countdown.ttl, waited));
    doc *document = dns_task_document(task);
    doc_number(document, "old_ttl", countdown.ttl);
    doc_number(document, "servers", (int64_t)task->look.server_count);
    doc_print(document);
    return EXIT_DONE;
}
