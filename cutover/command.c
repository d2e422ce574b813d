/*
 * command: what every command begins with, and Ctrl-C and SIGTERM for those
 * that wait.
 *
 * The first signal sets a flag and wakes a sleep; the handler then gives the
 * signal its usual meaning back, so that a second one ends the program. Nothing
 * needs cleaning up: every command is safe to be killed and to be repeated.
 */
#include "command.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "output.h"

static volatile sig_atomic_t stopped;

static void note_signal(int number)
{
    (void)number;
    stopped = 1;
}

void command_catch_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = note_signal;
    action.sa_flags = SA_RESETHAND; /* and no SA_RESTART: waits end */
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

bool command_stopped(void)
{
    return stopped != 0;
}

bool command_sleep(int milliseconds)
{
    struct timespec left = {
        .tv_sec = milliseconds / 1000,
        .tv_nsec = (long)(milliseconds % 1000) * 1000000,
    };
    while (!command_stopped() && nanosleep(&left, &left) != 0)
        if (errno != EINTR)
            return true; /* no such clock: do not spin on it */
    return !command_stopped();
}

#define JOURNAL_TRIES 10
#define JOURNAL_MS    20

/* Readable, or not there. Tried again for a moment: policyd may be appending. */
static enum lookup read_journal(struct command_context *context, struct position *head)
{
    enum lookup found = LOOKUP_FAILED;
    for (int i = 0; i < JOURNAL_TRIES && found == LOOKUP_FAILED; i++) {
        if (i > 0 && !command_sleep(JOURNAL_MS))
            break;
        found = journal_head(context->head, head);
    }
    return found;
}

int command_need_store(struct command_context *context)
{
    struct position at, head;
    char path[4096];
    enum lookup journal = read_journal(context, &head);
    if (journal == LOOKUP_FAILED) {
        conf_journal_path(context->conf, path, sizeof(path));
        message(
            "this host's journal %s cannot be read: run this as root; if it is damaged, "
            "the log of sluice-policyd says more",
            path);
        return EXIT_SERVICE;
    }
    switch (store_position(context->store, &at)) {
    case LOOKUP_FOUND:
        return EXIT_DONE;
    case LOOKUP_FAILED:
        message("%s", store_error(context->store));
        return EXIT_SERVICE;
    case LOOKUP_ABSENT:
        break;
    }
    if (journal == LOOKUP_FOUND)
        message(
            "Redis (%s) holds none of sluice's data, but this host's journal does: it "
            "was emptied; rebuild it: sluice recover",
            context->conf->redis.text);
    else
        message("Redis (%s) holds none of sluice's data: run sluice init",
                context->conf->redis.text);
    return EXIT_SERVICE;
}
