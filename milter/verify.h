/*
 * verify: SPF, DKIM and DMARC of one message, in the order of the SMTP
 * dialogue. Asks DNS as early as it can and waits for it in verify_finish()
 * alone. Knows nothing of libmilter and changes nothing: what comes out are
 * header values, words for the log and a figure. Whatever goes wrong in here,
 * the message goes on without its result.
 *
 * Not verified are messages of authenticated clients, and those that begin at a
 * trusted host (auth { trusted }): the client is trusted and no Received line
 * leads to a hop outside. Where one does, that hop is the client for SPF.
 */
#ifndef SLUICE_MILTER_VERIFY_H
#define SLUICE_MILTER_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "authresult.h"
#include "conf.h"
#include "dmarc.h"
#include "netaddr.h"
#include "resolver.h"

/* ---- one configuration -------------------------------------------------- */

struct verifier;

/* Whether the configuration asks for any of it. */
bool verifier_wanted(const struct conf *conf);
/* conf must outlive it. NULL: error is one line. */
struct verifier *verifier_new(const struct conf *conf, char *error, size_t error_size);
void verifier_free(struct verifier *verifier);
/* For tests, which put answers there. */
struct resolver *verifier_resolver(struct verifier *verifier);

/* ---- one connection, one message after the other ------------------------- */

struct verification;

struct verification *verification_new(void); /* NULL: no memory */
void verification_free(struct verification *verification);

/* The client of the connection; name and address as the MTA tells them. */
void verify_connect(struct verification *v, const struct sockaddr *address);
void verify_helo(struct verification *v, const char *name);

/* Begins a message; a former one is forgotten. verifier, sender (without
 * brackets) and id live until verify_reset(). auth: login name or "". */
void verify_mail(struct verification *v, struct verifier *verifier, const char *sender,
                 const char *auth);
/* value with its leading white space, as in the message. */
void verify_header(struct verification *v, const char *name, const char *value);
void verify_end_of_headers(struct verification *v);
void verify_body(struct verification *v, const unsigned char *data, size_t len);
void verify_reset(struct verification *v);

struct verified {
    bool done;      /* verified at all; else only forged is set */
    bool exempt;    /* its client is trusted, authenticated or local: enforce does
                       not apply */
    char *results;  /* Authentication-Results; NULL: none to be added */
    char *received_spf; /* or NULL */
    /* Which Authentication-Results fields claim to be ours: the n-th of all
     * fields of that name, from 1, rising. */
    const unsigned *forged;
    size_t forged_count;
    bool flooded; /* so many that Postfix would be busy for long with deleting
                     them: then none is told */
    /* What was not evaluated is AUTH_NONE. */
    enum auth_result spf, dkim, dmarc;
    bool would_fail; /* SPF: under "-all" it would fail */
    enum dmarc_policy disposition; /* what the author's domain asks for: of a
                                      message that fails, else DMARC_NONE */
    const char *from;   /* domain of From; of several the one with that
                           disposition; or "" */
    const char *record_at; /* domain of the DMARC record, or "" */
    struct netaddr client; /* whom SPF was asked about */
    const char *helo;
    /* " spf=pass dkim=pass dmarc=pass header-from=example.org", escaped */
    char words[512];
};

/* Waits for DNS, until auth { message-timeout } at the most. The pointers in out
 * live until verify_reset(). */
void verify_finish(struct verification *v, struct verified *out);

#endif
