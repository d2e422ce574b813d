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
 * --lower-ttl waits for the step before: that no server gives an old record a longer
 * TTL than the plan, and then once the longest TTL that a snapshot noted; that moment
 * is kept in state-dir/dns/DOMAIN/lowered.
 *
 * --back waits the same way for the records of a snapshot, after apply --back.
 *
 * The countdown is measured on clocks that nobody can set. The kept moment is known
 * by the host's uptime too, so that a step of its clock neither shortens nor
 * lengthens a wait that was interrupted; only across a restart of the host the
 * clock is believed, and a moment in the future is taken as now.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "dns.h"

#define LOOK_MS  15000 /* between two looks while the countdown runs */
#define RETRY_MS 2000  /* and while the servers do not agree */
#define TICK_MS  500
#define STEP_S   60 /* a clock that is this far off was set */

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

static const char *moment_name(const struct dns_task *task)
{
    return task->options.lower_ttl ? DNS_NOTE_LOWERED : DNS_NOTE_AGREED;
}

/* What is waited for first. *behind: a server that is not so, SIZE_MAX: not known. */
static bool is_there(const struct dns_task *task, size_t *behind)
{
    *behind = SIZE_MAX;
    return task->options.lower_ttl ? dns_task_lowered(task)
                                   : dns_task_agreed(task, behind);
}

/* In words; of several servers, or of one that is not so. */
static const char *waited_for(const struct dns_task *task, bool reached)
{
    if (task->options.lower_ttl)
        return reached ? "have the short TTLs" : "still has the long TTLs";
    if (task->options.back)
        return reached ? "have the snapshot's records"
                       : "does not have the snapshot's records yet";
    return reached ? "agree" : "is not as planned yet";
}

static int64_t quiet_at(const struct dns_task *task, int64_t since, uint32_t *ttl)
{
    return task->options.lower_ttl ? dns_snap_lowered(task->snaps, task->snap_count,
                                                      &task->planned, since, ttl)
                                   : dns_snap_quiet(task->snaps, task->snap_count,
                                                    &task->planned, since, ttl);
}

/* Now by both clocks; boot names the run of the host that up belongs to. */
struct moment {
    int64_t wall, up;
    char boot[40];
};

static struct moment moment_now(void)
{
    struct moment now = { .wall = time(NULL) };
    struct timespec up = { 0 };
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file || fscanf(file, "%39s", now.boot) != 1)
        memcpy(now.boot, "-", 2);
    if (file)
        fclose(file);
    if (clock_gettime(CLOCK_BOOTTIME, &up) != 0)
        memcpy(now.boot, "-", 2);
    now.up = up.tv_sec;
    return now;
}

/* The kept moment as a time of the clock as it is now; false: there is none for this
 * plan, or the old records were seen after it. */
static bool kept_moment(const struct dns_task *task, const char *plan,
                        const struct moment *now, int64_t *since)
{
    struct moment was = { 0 };
    int head = 0;
    char *kept =
        dns_snap_noted(task->context->conf, task->domain->name, moment_name(task));
    bool same = kept &&
                sscanf(kept, "; agreed %" SCNd64 " %" SCNd64 " %39s\n%n", &was.wall,
                       &was.up, was.boot, &head) == 3 &&
                head > 0 && strcmp(kept + head, plan) == 0;
    free(kept);
    if (!same)
        return false;
    const struct dns_snap *old =
        task->options.lower_ttl
            ? NULL
            : dns_snap_last_old(task->snaps, task->snap_count, &task->planned);
    /* One of the future was taken when the clock was wrong: it says nothing. */
    if (old && old->taken > was.wall && old->taken <= now->wall)
        return false;
    *since = was.wall;
    if (strcmp(was.boot, now->boot) == 0 && was.boot[0] != '-' && was.up <= now->up) {
        int64_t step = (now->wall - was.wall) - (now->up - was.up);
        char by[DURATION_TEXT_MAX];
        if (step > STEP_S || step < -STEP_S)
            notice(
                "the clock of this host was set %s by %s meanwhile: the countdown goes "
                "by its uptime",
                step > 0 ? "forward" : "back", duration_text(llabs(step), by));
        *since = now->wall - (now->up - was.up);
    } else if (was.wall > now->wall) {
        notice("the clock of this host was set back: the countdown starts anew");
        return false;
    }
    return true;
}

/* When all servers were first seen with this plan: kept, or now. */
static int64_t agreed_since(const struct dns_task *task, const char *plan)
{
    struct moment now = moment_now();
    int64_t since;
    if (kept_moment(task, plan, &now, &since))
        return since;
    char path[4096], error[1024], *text = NULL;
    if (asprintf(&text, "; agreed %" PRId64 " %" PRId64 " %s\n%s", now.wall, now.up,
                 now.boot, plan) < 0)
        return now.wall;
    if (!dns_snap_note(task->context->conf, task->domain->name, moment_name(task), text,
                       path, sizeof(path), error, sizeof(error)))
        notice("%s (an interrupted wait would start anew)", error);
    free(text);
    return now.wall;
}

struct countdown {
    bool running;
    int64_t end;   /* clock_ms() */
    int64_t until; /* the same as a time, as the clock was at the beginning */
    uint32_t ttl;
};

static void begin_countdown(const struct dns_task *task, const char *plan,
                            struct countdown *countdown)
{
    int64_t now = time(NULL), agreed = agreed_since(task, plan);
    int64_t quiet = quiet_at(task, agreed, &countdown->ttl);
    int64_t left = quiet > now ? quiet - now : 0;
    countdown->running = true;
    countdown->until = now + left;
    countdown->end = clock_ms() + left * 1000;
}

/* Asks all servers; starts or stops the countdown. */
static int look(struct dns_task *task, const char *plan, struct countdown *countdown)
{
    char text[DNS_SERVER_TEXT];
    size_t behind = SIZE_MAX;
    int code = dns_look_ask(&task->look, false);
    if (code == EXIT_AGAIN)
        return code;
    if (code == EXIT_DONE && is_there(task, &behind)) {
        if (!countdown->running)
            begin_countdown(task, plan, countdown);
        return EXIT_DONE;
    }
    bool silent =
        code != EXIT_DONE || (behind != SIZE_MAX && task->look.servers[behind].silent);
    if (countdown->running && !silent) {
        notice("%s has the old %s again: the countdown stops",
               behind == SIZE_MAX ? task->look.zone
                                  : dns_server_text(&task->look.servers[behind], text),
               task->options.lower_ttl ? "TTLs" : "records");
        dns_snap_forget(task->context->conf, task->domain->name, moment_name(task));
        countdown->running = false;
    }
    if (!countdown->running && code != EXIT_DONE)
        progress_set(0, "%s", task->look.trouble);
    else if (!countdown->running)
        progress_set(0, "%s %s",
                     behind == SIZE_MAX
                         ? task->look.zone
                         : dns_server_text(&task->look.servers[behind], text),
                     silent ? "does not answer" : waited_for(task, false));
    return EXIT_CHECK; /* not at its end */
}

static int interrupted(void)
{
    message("interrupted: run the same command again, it goes on from here");
    return EXIT_AGAIN;
}

/* When --timeout is over. */
static int say_what_is_left(const struct dns_task *task,
                            const struct countdown *countdown)
{
    char left[DURATION_TEXT_MAX], text[DNS_SERVER_TEXT];
    size_t behind = SIZE_MAX;
    int64_t rest = countdown->end - clock_ms();
    if (countdown->running && rest > 0)
        message(
            "not done in the time given, %s left: run the same command again, it goes "
            "on from here",
            duration_text((rest + 999) / 1000, left));
    else if (task->look.trouble[0])
        message("not done in the time given: %s", task->look.trouble);
    else
        message("not done in the time given: %s %s; run the same command again",
                is_there(task, &behind) || behind == SIZE_MAX
                    ? task->look.zone
                    : dns_server_text(&task->look.servers[behind], text),
                waited_for(task, false));
    return EXIT_AGAIN;
}

/* Time alone: a bar with a rate would say nothing more. */
static void show_countdown(const struct dns_task *task, const struct countdown *countdown)
{
    char left[DURATION_TEXT_MAX], at[TIME_TEXT_MAX];
    int64_t rest = countdown->end - clock_ms();
    int64_t seconds = rest > 0 ? (rest + 999) / 1000 : 0;
    progress_set(0, "%s left, until %s: %s", duration_text(seconds, left),
                 time_text(countdown->until, at),
                 task->options.lower_ttl ? "old TTLs run out"
                 : task->options.back    ? "new records in caches"
                                         : "old records in caches");
}

static int count(struct dns_task *task, const char *plan, struct countdown *countdown)
{
    int64_t limit = task->options.timeout > 0
                        ? clock_ms() + (int64_t)task->options.timeout * 1000
                        : INT64_MAX;
    for (;;) {
        int code = look(task, plan, countdown);
        if (code == EXIT_AGAIN)
            return interrupted();
        /* The end counts only when all servers still agree at it. */
        if (code == EXIT_DONE && clock_ms() >= countdown->end)
            return EXIT_DONE;
        int64_t next = clock_ms() + (code == EXIT_DONE ? LOOK_MS : RETRY_MS);
        if (countdown->running && code == EXIT_DONE && next > countdown->end)
            next = countdown->end;
        do {
            if (countdown->running)
                show_countdown(task, countdown);
            if (clock_ms() >= limit)
                return say_what_is_left(task, countdown);
            int64_t pause = next - clock_ms();
            if (pause > 0 && !command_sleep(pause < TICK_MS ? (int)pause : TICK_MS))
                return interrupted();
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
    if (code != EXIT_DONE) {
        message("%s", task->look.trouble);
        return code;
    }
    bool agreed = is_there(task, &behind);
    (void)quiet_at(task, time(NULL), &ttl);
    if (agreed)
        print("%s: all authoritative servers agree; the noted TTL is %s, %s is waited",
              task->domain->name, duration_text(ttl, noted),
              task->options.lower_ttl ? "which" : "twice that");
    else
        print("%s: %s %s", task->domain->name,
              behind == SIZE_MAX ? task->look.zone
                                 : dns_server_text(&task->look.servers[behind], text),
              waited_for(task, false));
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
    print("%s: all authoritative servers (%zu) %s, and the %s (TTL %s) are out of every "
          "cache",
          task->domain->name, task->look.server_count, waited_for(task, true),
          task->options.lower_ttl ? "old TTLs"
          : task->options.back    ? "records before"
                                  : "old records",
          duration_text(countdown.ttl, waited));
    doc *document = dns_task_document(task);
    doc_number(document, "old_ttl", countdown.ttl);
    doc_number(document, "servers", (int64_t)task->look.server_count);
    doc_print(document);
    return EXIT_DONE;
}
