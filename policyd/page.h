/*
 * page: the status page, policyd/page.html, compiled in, and the content security
 * policy that goes with it: nothing is loaded, and of styles and scripts only what is
 * in the page runs, named by its hash.
 *
 * page.html is one document without outside resources. Its styles stand between
 * "<style>" and "</style>", its script between "<script>" and "</script>", written so
 * (no attributes) and once each; no style= and no on...= attributes: the policy
 * refuses them. It asks for status.json (relative).
 */
#ifndef SLUICE_POLICYD_PAGE_H
#define SLUICE_POLICYD_PAGE_H

#include <stdbool.h>
#include <stddef.h>

extern const char page_text[];
extern const size_t page_len;

#define PAGE_POLICY_MAX 512
/* false: the page is not as said above. */
bool page_policy(const char *page, char out[PAGE_POLICY_MAX]);

#endif
