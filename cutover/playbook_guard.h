/*
 * playbook_guard: the process between `sluice playbook run` and the work of a step.
 *
 * It holds the step's lock, keeps the log, watches the time limit, and ends all that
 * the work has started: when the work is over, when the limit is reached, when it is
 * told to (SIGTERM), and when the command that started it dies, even by SIGKILL. So
 * no step is at work twice on one host, and nothing of a step outlives it, but what
 * made itself a daemon (setsid(2)).
 *
 * Files, beside each other: <path>.log, <path>.log.1 (the log before, when it grew
 * past GUARD_LOG_MAX), <path>.lock.
 */
#ifndef SLUICE_PLAYBOOK_GUARD_H
#define SLUICE_PLAYBOOK_GUARD_H

#include <stddef.h>
#include <sys/types.h>

#define GUARD_KILL_MS  10000 /* from SIGTERM to SIGKILL */
#define GUARD_LOCK_MS  15000 /* an earlier work that is being ended has so long */
#define GUARD_LOG_MAX  (4 * 1024 * 1024)
#define GUARD_NOTE_MAX 1000
#define GUARD_PATH_MAX 4200

/* How it ended. Goes through a pipe, in one write. */
struct guard_end {
    int code;                      /* of a command (command.h) */
    char note[GUARD_NOTE_MAX + 1]; /* the last line, or why it failed */
};

struct guard_job {
    const char *path;    /* of log and lock, without the suffix */
    const char *heading; /* a line for the log */
    int limit_s;
    int (*work)(void *context); /* in a process of its own; returns an exit code */
    void *context;
};

/* Starts it; *report gets the pipe. -1: errno is set. */
pid_t guard_start(const struct guard_job *job, int *report);
/* When the process has ended: how. */
void guard_read(int report, int status, struct guard_end *out);

/* The line for a person in a log's text: of a failure the last message ("sluice:
 * ..."), else the last line. Changes text. Pure. */
void guard_last_words(char *text, size_t len, int failed, char note[GUARD_NOTE_MAX + 1]);

#endif
