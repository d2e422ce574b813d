/*
 * authresult: the result words of SPF, DKIM and DMARC (RFC 8601 2.7, registry
 * "Email Authentication Result Names").
 */
#ifndef SLUICE_AUTHRESULT_H
#define SLUICE_AUTHRESULT_H

enum auth_result {
    AUTH_NONE,
    AUTH_PASS,
    AUTH_FAIL,
    AUTH_SOFTFAIL, /* SPF only */
    AUTH_NEUTRAL,
    AUTH_POLICY,   /* DKIM only: a signature that is not accepted here */
    AUTH_TEMPERROR,
    AUTH_PERMERROR,
    AUTH_RESULTS   /* how many there are */
};

/* "none", "pass", ... */
const char *auth_result_name(enum auth_result result);

#endif
