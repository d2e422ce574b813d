/*
 * page: see page.h. SHA-256 is libcrypto's (CSP level 3, 2.3.1: base64 of the hash of
 * the element's text).
 */
#include "config.h"

#include "page.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

const char page_text[] =
#include "policyd/page.html.h"
    ;
const size_t page_len = sizeof(page_text) - 1;

/* "sha256-..." of what stands between the tags; they must be there once. */
static bool hash_between(const char *page, const char *open, const char *close,
                         char out[80])
{
    unsigned char digest[EVP_MAX_MD_SIZE], text[64];
    unsigned int len = 0;
    const char *from = strstr(page, open);
    const char *to = from ? strstr(from, close) : NULL;
    if (!to || strstr(to, open))
        return false;
    from += strlen(open);
    if (EVP_Digest(from, (size_t)(to - from), digest, &len, EVP_sha256(), NULL) != 1)
        return false;
    EVP_EncodeBlock(text, digest, (int)len); /* 44 characters */
    int n = snprintf(out, 80, "'sha256-%s'", (const char *)text);
    return n > 0 && n < 80;
}

bool page_policy(const char *page, char out[PAGE_POLICY_MAX])
{
    char style[80], script[80];
    if (!hash_between(page, "<style>", "</style>", style) ||
        !hash_between(page, "<script>", "</script>", script))
        return false;
    int n = snprintf(
        out, PAGE_POLICY_MAX,
        "default-src 'none'; style-src %s; script-src %s; connect-src "
        "'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors "
        "'none'",
        style, script);
    return n > 0 && n < PAGE_POLICY_MAX;
}
