/*
 * audit_address: which mailbox an address in a log stands for.
 */
#ifndef SLUICE_AUDIT_ADDRESS_H
#define SLUICE_AUDIT_ADDRESS_H

#include "conf.h"
#include "log_line.h"

struct audit_address;

struct audit_address *audit_address_new(const struct conf *conf); /* NULL: no memory */
void audit_address_free(struct audit_address *address);
/* The managed address, canonical. false: it is not managed. */
bool audit_address_mailbox(struct audit_address *address, struct log_slice text,
                           char out[ADDR_TEXT_MAX + 1]);
/* Whether it is in a domain that mailboxes are redirected to. */
bool audit_address_redirects_to(struct audit_address *address, struct log_slice text);

#endif
