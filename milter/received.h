/*
 * received: who handed a message to a host, read from the Received field that
 * this host wrote (RFC 5321 4.4). Only lines of trusted hosts are read. Pure.
 */
#ifndef SLUICE_MILTER_RECEIVED_H
#define SLUICE_MILTER_RECEIVED_H

#include <stdbool.h>
#include <stddef.h>

#include "netaddr.h"

struct received {
    /* AF_UNSPEC: a process of that host (local submission). 127.0.0.1 where the
     * line says that the host handed the message on to itself by SMTP. */
    struct netaddr client;
    char helo[256];     /* what it said in HELO; "" when not known, or longer */
    bool authenticated; /* "with ESMTPA", "ESMTPSA", "LMTPA" ... (RFC 3848) */
};

#define RECEIVED_MAX 16384 /* a longer value cannot be read */

/* Reads Postfix's, Sendmail's, Exim's, Exchange's and qmail's forms, and their
 * likes. false: the line cannot be read, or in more than one way; then nothing
 * behind it is known. */
bool received_parse(const char *value, size_t len, struct received *out);

#endif
