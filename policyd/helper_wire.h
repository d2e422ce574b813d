/*
 * helper_wire: what goes over the socketpair between policyd and its queue
 * helper (SOCK_SEQPACKET, so that packets keep their borders). Private to
 * helper.c and helper_child.c.
 *
 * Request: struct wire_request, then `count` items, each with its final NUL.
 * Answer: any number of WIRE_OUTPUT and WIRE_ERROR packets (one kind byte and
 * the bytes that the command wrote), then one WIRE_EXIT (kind byte, decimal
 * exit status) or WIRE_REFUSED (kind byte, one line of text).
 */
#ifndef SLUICE_POLICYD_HELPER_WIRE_H
#define SLUICE_POLICYD_HELPER_WIRE_H

#include <stdint.h>

#include "helper.h"

struct wire_request {
    uint32_t command;
    uint32_t number;
    uint32_t count;
};

enum wire_kind {
    WIRE_OUTPUT = 'o',
    WIRE_ERROR = 'e',
    WIRE_EXIT = 'x',
    WIRE_REFUSED = 'r',
};

/* Below the default socket buffer (net.core.wmem_default, 212992). */
#define WIRE_REQUEST_MAX 65536
#define WIRE_ANSWER_MAX  32768
#define WIRE_ERROR_MAX   2048 /* of standard error, kept in all */

/* Seconds that a command may take; the helper kills it then. */
int helper_command_seconds(enum helper_command command, size_t count);

/* The child's whole life; returns its exit code. */
int helper_child(int socket, const char *commands, const char *config);

#endif
