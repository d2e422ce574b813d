/*
 * fencewait: has every MTA host confirmed a lock? (see fencewait.h)
 *
 * The hosts write their records themselves every HOST_BEAT_MS; we look a few
 * times in a second. Silence is judged by the store's clock, which stamped the
 * heartbeats, so hosts and this machine may disagree about the time.
 *
 * A store that does not answer does not end the wait at once (Redis restarts,
 * Sentinel elects): the locks are in its append-only file and the hosts' journals.
 */
#include "fencewait.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "output.h"

#define LOOK_MS  250
#define STORE_MS 60000 /* patience with a store that does not answer */

static int by_name(const void *a, const void *b)
{
    const struct host *left = a, *right = b;
    return strcmp(left->name, right->name);
}

void fence_sort_hosts(struct host *hosts, size_t n)
{
    if (n > 1)
        qsort(hosts, n, sizeof(*hosts), by_name);
}

bool fence_excepted(const char *const *without, const char *name)
{
    for (; without && *without; without++)
        if (strcasecmp(*without, name) == 0)
            return true;
    return false;
}

/* Appends to a list in a buffer; what does not fit makes it end with "...". */
static void append(char *list, size_t size, const char *text)
{
    size_t used = strlen(list);
    int n = snprintf(list + used, size - used, "%s%s", used ? ", " : "", text);
    if (n < 0)
        list[used] = '\0';
    else if ((size_t)n >= size - used)
        memcpy(list + size - 4, "...", 4);
}

/* A host that has not confirmed. */
static void note_waiting(struct fence_view *view, const struct host *host, int64_t now_ms)
{
    char text[HOST_NAME_MAX_LEN + sizeof(host->state) + DURATION_TEXT_MAX + 64];
    char duration[DURATION_TEXT_MAX];
    int64_t age_ms = now_ms - host->seen_ms;
    int n;
    if (age_ms > HOST_SILENT_MS) {
        n = snprintf(text, sizeof(text), "%s (no sign of life for %s)", host->name,
                     duration_text(age_ms / 1000, duration));
        append(view->silent, sizeof(view->silent), host->name);
    } else {
        n = snprintf(text, sizeof(text), "%s (%s)", host->name,
                     host->state[0] ? host->state : "at work");
    }
    if (n > 0)
        append(view->waiting, sizeof(view->waiting), text);
}

void fence_look(struct store *store, uint64_t epoch, const char *const *without,
                struct fence_view *view)
{
    struct host *hosts = NULL;
    size_t n = 0;
    *view = (struct fence_view){ .answer = FENCE_UNKNOWN };
    enum lookup found = store_hosts(store, &hosts, &n);
    int64_t now_ms = found == LOOKUP_FOUND ? store_time_ms(store) : 0;
    if (found == LOOKUP_FAILED || (found == LOOKUP_FOUND && now_ms == 0)) {
        free(hosts);
        return;
    }
    fence_sort_hosts(hosts, n);
    for (size_t i = 0; i < n; i++) {
        if (fence_excepted(without, hosts[i].name))
            continue;
        view->hosts++;
        if (hosts[i].fenced >= epoch)
            view->confirmed++;
        else
            note_waiting(view, &hosts[i], now_ms);
    }
    free(hosts);
    if (n == 0)
        view->answer = FENCE_NOBODY;
    else if (view->confirmed == view->hosts)
        view->answer = FENCE_CONFIRMED;
    else
        view->answer = view->silent[0] ? FENCE_SILENT : FENCE_PENDING;
}

#define GOES_ON (-1)

struct wait {
    struct command_context *context;
    const char *what;
    uint64_t epoch;
    const char *const *without;
    int timeout_s;
    int64_t began, answered; /* clock_ms() */
};

/* Nothing to wait for: a silent host, or none. */
static int give_up(const struct wait *wait, const struct fence_view *view)
{
    if (view->answer == FENCE_SILENT)
        message(
            "no sign of life from %s: the %s is not complete there. The mailboxes stay "
            "locked. Start sluice-policyd there and run the same command again, or go "
            "on without a host: --without-host NAME",
            view->silent, wait->what);
    else
        message("no MTA host is registered that could confirm the %s: is sluice-policyd "
                "running? The mailboxes stay locked; run the same command again",
                wait->what);
    return EXIT_AGAIN;
}

/* The store did not answer this time. */
static int bear_with_store(const struct wait *wait)
{
    const char *error = store_error(wait->context->store);
    if (clock_ms() - wait->answered <= STORE_MS) {
        progress_set(0, "%s", error);
        return GOES_ON;
    }
    message("%s. The mailboxes stay locked; run the same command again", error);
    return EXIT_SERVICE;
}

static int look_once(struct wait *wait)
{
    struct fence_view view;
    char duration[DURATION_TEXT_MAX];
    int64_t now = clock_ms();
    fence_look(wait->context->store, wait->epoch, wait->without, &view);
    if (view.answer != FENCE_UNKNOWN)
        wait->answered = now;
    if (view.answer == FENCE_SILENT && now - wait->began < FENCE_PATIENCE_MS)
        view.answer = FENCE_PENDING;
    switch (view.answer) {
    case FENCE_CONFIRMED:
        return EXIT_DONE;
    case FENCE_SILENT:
    case FENCE_NOBODY:
        return give_up(wait, &view);
    case FENCE_UNKNOWN:
        return bear_with_store(wait);
    case FENCE_PENDING:
        break;
    }
    if (now - wait->began <= (int64_t)wait->timeout_s * 1000) {
        progress_set(view.confirmed, "%zu of %zu hosts confirmed, waiting for %s",
                     view.confirmed, view.hosts, view.waiting);
        return GOES_ON;
    }
    message("the %s is not complete after %s: waiting for %s. The mailboxes stay locked; "
            "run the same command again to go on waiting",
            wait->what, duration_text(wait->timeout_s, duration), view.waiting);
    return EXIT_AGAIN;
}

int fence_wait(struct command_context *context, const char *what, uint64_t epoch,
               const char *const *without, int timeout_s)
{
    int64_t now = clock_ms();
    struct wait wait = { .context = context,
                         .what = what,
                         .epoch = epoch,
                         .without = without,
                         .timeout_s = timeout_s,
                         .began = now,
                         .answered = now };
    int code;
    progress_begin("fence", 0);
    while ((code = look_once(&wait)) == GOES_ON) {
        if (!command_sleep(LOOK_MS)) {
            message("interrupted: the %s is not complete. The mailboxes stay locked; run "
                    "the same command again to go on",
                    what);
            code = EXIT_AGAIN;
            break;
        }
    }
    progress_end();
    return code;
}

int fence_check_without(struct store *store, const char *const *without)
{
    struct host *hosts = NULL;
    size_t n = 0;
    char names[FENCE_TEXT_MAX] = "";
    int code = EXIT_DONE;
    if (!without || !*without)
        return EXIT_DONE;
    if (store_hosts(store, &hosts, &n) == LOOKUP_FAILED) {
        message("%s", store_error(store));
        return EXIT_SERVICE;
    }
    fence_sort_hosts(hosts, n);
    for (size_t i = 0; i < n; i++)
        append(names, sizeof(names), hosts[i].name);
    for (; *without && code == EXIT_DONE; without++) {
        bool known = false;
        for (size_t i = 0; i < n; i++)
            known = known || strcasecmp(hosts[i].name, *without) == 0;
        if (!known) {
            message("--without-host %s: no such host is registered (there are: %s)",
                    *without, names[0] ? names : "none");
            code = EXIT_DATA;
        }
    }
    free(hosts);
    return code;
}

void fence_normalise_without(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *name = NULL;
        if (strncmp(argv[i], "--without-host=", 15) == 0)
            name = argv[i] + 15;
        else if (strcmp(argv[i], "--without-host") == 0 && i + 1 < argc)
            name = argv[i + 1];
        for (; name && *name; name++)
            *name = (char)tolower((unsigned char)*name);
    }
}
