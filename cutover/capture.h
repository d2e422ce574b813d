/*
 * capture: runs a command and keeps what it prints.
 */
#ifndef SLUICE_CAPTURE_H
#define SLUICE_CAPTURE_H

#include <stddef.h>

#define CAPTURE_MAX (1024 * 1024) /* of standard output */

struct capture {
    int status; /* exit code; -1: see error */
    char *out;  /* standard output, ended by NUL; free() it; never NULL */
    size_t out_len;
    char error[256]; /* why it could not be run, or was ended */
};

/* argv[0] is a path; no shell; input NULL: /dev/null (else less than a pipe
 * takes at once, 4 kB). Standard error goes away. Ended by SIGKILL after
 * timeout_ms, or when it prints more than CAPTURE_MAX. */
void capture_run(const char *const argv[], const char *input, int timeout_ms,
                 struct capture *out);
/* The same; standard error is kept too, in out with the rest. */
void capture_run_all(const char *const argv[], const char *input, int timeout_ms,
                     struct capture *out);

#endif
