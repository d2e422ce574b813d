/*
 * The identity of RFC 7208: MAIL FROM, or HELO where the sender is null (2.4);
 * "postmaster" where there is no local part (4.3); a domain that DNS can be asked
 * about, of at least two labels, as A-labels (4.3), which an address literal and a
 * bare address are not.
 */
#include "spf_identity.h"

#include <stdio.h>
#include <string.h>

#include "addr.h"

static bool copy(char *out, size_t size, const char *text, size_t len)
{
    if (len >= size)
        return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

static bool is_domain(const char *domain)
{
    const char *dot = strrchr(domain, '.');

    return dot && domain[0] != '[' && strspn(dot + 1, "0123456789") != strlen(dot + 1);
}

static bool set_domain(const char *text, struct spf_identity *out)
{
    _Static_assert(sizeof(out->domain) > ADDR_DOMAIN_MAX, "a domain fits");

    if (addr_domain(text, strlen(text), out->domain) && is_domain(out->domain))
        return true;
    out->domain[0] = '\0';
    return false;
}

bool spf_identity_of(const struct spf_question *question, struct spf_identity *out,
                     const char **why)
{
    const char *helo = question->helo ? question->helo : "";
    const char *receiver = question->receiver ? question->receiver : "unknown";
    bool is_helo = !question->sender || !question->sender[0];
    const char *sender = is_helo ? helo : question->sender;
    const char *at = is_helo ? NULL : strrchr(sender, '@');
    size_t local_len = at ? (size_t)(at - sender) : 0;

    out->domain[0] = '\0';
    *why = "the sender is too long";
    if (!copy(out->local, sizeof(out->local), local_len ? sender : "postmaster",
              local_len ? local_len : strlen("postmaster")))
        return false;
    *why = is_helo ? "the HELO name is not a domain name"
                   : "the sender's domain is not a domain name";
    if (!set_domain(at ? at + 1 : sender, out))
        return false;
    *why = "the sender is too long";
    int n = snprintf(out->sender, sizeof(out->sender), "%s@%s", out->local, out->domain);
    if (n < 0 || (size_t)n >= sizeof(out->sender))
        return false;
    out->values = (struct spf_macro_values){
        .sender = out->sender,
        .local = out->local,
        .sender_domain = out->domain,
        .domain = out->domain,
        .client = question->client,
        .now = time(NULL),
    };
    if (copy(out->helo, sizeof(out->helo), helo, strlen(helo)))
        out->values.helo = out->helo;
    if (copy(out->receiver, sizeof(out->receiver), receiver, strlen(receiver)))
        out->values.receiver = out->receiver;
    return true;
}
