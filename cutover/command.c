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

#include "clock.h"
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

/* The signals are let in by ppoll(2) alone: between the look at the flag and the wait
 * one would be missed, and the wait be slept to its end. */
int command_poll(struct pollfd *fds, nfds_t count, int milliseconds)
{
    const struct timespec wait = {
        .tv_sec = milliseconds / 1000,
        .tv_nsec = (long)(milliseconds % 1000) * 1000000,
    };
    sigset_t ours, before;
    int ready = -1;
    sigemptyset(&ours);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &ours, &before) != 0)
        return -1;
    if (command_stopped())
        errno = EINTR;
    else
        ready = ppoll(fds, count, milliseconds < 0 ? NULL : &wait, &before);
    int error = errno;
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return ready;
}

bool command_sleep(int milliseconds)
{
    int64_t end = clock_ms() + milliseconds, left = milliseconds;
    while (left > 0 && command_poll(NULL, 0, (int)left) < 0 && errno == EINTR &&
           !command_stopped())
        left = end - clock_ms();
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
