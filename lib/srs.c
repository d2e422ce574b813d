/*
 * srs: envelope senders of forwarded mail, and back again.
 *
 * The addresses are those of libsrs2 and PostSRSd, so that a host can change
 * from one to the other and share its secrets. What is signed, each part in
 * lower case, one directly after the other:
 *
 *     SRS0   TT, domain, local
 *     SRS1   first forwarder's domain, what follows "SRS0" in its address
 *
 * An address that was SRS0 of another forwarder becomes SRS1; one that was SRS1
 * keeps its first forwarder and gets a new hash, so that it never grows. The
 * bounce goes straight to the first forwarder, who knows the date.
 *
 * Hosts on the way may change the case of a local part, so hash and time are
 * compared without it. A hash may be longer than 4 characters (PostSRSd has an
 * option for it); all that are there must agree.
 *
 * Local parts are signed without their quotes, and the new address is quoted as
 * a whole where it must be. PostSRSd leaves such quotes inside, which nothing
 * survives; for all other addresses there is no difference.
 *
 * RFC 5321 4.5.3.1.1 allows local parts of 64 octets. SRS addresses are often
 * longer; a hash cannot be shortened, and MTAs take them (Postfix delivers
 * VERP and SRS addresses far beyond it). So the only limit is ADDR_TEXT_MAX.
 */
#include "srs.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#define HASH_LEN 4
/* 160 bits in base64, six for each character, without the last four bits. */
#define HASH_MAX    26
#define SHA1_LEN    20
#define DAY_SECONDS 86400
#define DAY_SLOTS   1024
/* Two hosts' clocks need not agree at midnight. */
#define DAYS_AHEAD 1

static const char separators[] = "=-+";
static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
static const char base64[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* An address in two parts: local without quotes, both in the case they came. */
struct parts {
    char local[ADDR_TEXT_MAX + 1];
    char domain[ADDR_TEXT_MAX + 1];
    bool ours; /* of the srs domain */
};

const char *srs_status_name(enum srs_status status)
{
    static const char *const names[] = {
        [SRS_DONE] = "done",           [SRS_NOT_NEEDED] = "not needed",
        [SRS_FORGED] = "forged",       [SRS_EXPIRED] = "expired",
        [SRS_MALFORMED] = "malformed", [SRS_TOO_LONG] = "too long",
        [SRS_FAILED] = "failed",
    };
    return names[status];
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* ---- addresses ----------------------------------------------------------- */

static void unquote(const char *text, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"')
            continue;
        if (text[i] == '\\' && i + 1 < len)
            i++;
        *out++ = text[i];
    }
    *out = '\0';
}

static enum srs_status read_parts(const char *srs_domain, const char *text,
                                  struct parts *out)
{
    struct addr addr;
    size_t len = strnlen(text, ADDR_TEXT_MAX + 1);
    if (len > ADDR_TEXT_MAX)
        return SRS_TOO_LONG;
    switch (addr_parse(text, len, &addr)) {
    case ADDR_NULL:
    case ADDR_NO_DOMAIN:
        return SRS_NOT_NEEDED;
    case ADDR_BAD:
        return SRS_MALFORMED;
    case ADDR_OK:
    case ADDR_OVERLONG:
        break;
    }
    /* A source route is nothing an MTA keeps in an envelope. */
    const char *at = strrchr(text, '@');
    if (!at || text[0] == '@' || text[0] == '<')
        return SRS_MALFORMED;
    unquote(text, (size_t)(at - text), out->local);
    memcpy(out->domain, at + 1, strlen(at));
    out->ours = strcmp(addr.domain, srs_domain) == 0;
    return SRS_DONE;
}

/* local@domain, quoted where it must be. */
static enum srs_status write_address(const char *local, const char *domain,
                                     char out[ADDR_TEXT_MAX + 1])
{
    char text[2 * ADDR_TEXT_MAX + 3];
    const char *quote = addr_is_dot_string(local) ? "" : "\"";
    size_t used = 0;

    for (const char *p = local; *p; p++) {
        if (used + 2 >= sizeof(text))
            return SRS_TOO_LONG;
        if (quote[0] && (*p == '"' || *p == '\\'))
            text[used++] = '\\';
        text[used++] = *p;
    }
    text[used] = '\0';
    char address[ADDR_TEXT_MAX + 1];
    int len = snprintf(address, sizeof(address), "%s%s%s@%s", quote, text, quote, domain);
    if (len < 0 || (size_t)len >= sizeof(address))
        return SRS_TOO_LONG;
    memcpy(out, address, (size_t)len + 1);
    return SRS_DONE;
}

/* "SRS0=", "srs1+": kind is the digit. */
static bool is_srs(const char *local, char kind)
{
    return strncasecmp(local, "SRS", 3) == 0 && local[3] == kind && local[4] &&
           strchr(separators, local[4]);
}

/* Cuts text at its first '='; the rest, or NULL. */
static char *cut(char *text)
{
    char *end = strchr(text, '=');
    if (!end)
        return NULL;
    *end = '\0';
    return end + 1;
}

/* ---- hash and time ------------------------------------------------------- */

/* Base64 of the HMAC of up to three parts, in lower case; c may be "". */
static bool make_hash(const char *secret, const char *a, const char *b, const char *c,
                      char out[HASH_MAX + 1])
{
    char text[3 * ADDR_TEXT_MAX + 1];
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned int mac_len = 0;
    size_t secret_len = strlen(secret);

    int len = snprintf(text, sizeof(text), "%s%s%s", a, b, c);
    if (len < 0 || (size_t)len >= sizeof(text) || secret_len > INT_MAX)
        return false;
    for (int i = 0; i < len; i++)
        text[i] = lower(text[i]);
    if (!HMAC(EVP_sha1(), secret, (int)secret_len, (const unsigned char *)text,
              (size_t)len, mac, &mac_len) ||
        mac_len != SHA1_LEN)
        return false;
    for (size_t i = 0; i < HASH_MAX; i++) {
        size_t bit = 6 * i;
        unsigned pair = (unsigned)mac[bit / 8] << 8 | mac[bit / 8 + 1];
        out[i] = base64[(pair >> (10 - bit % 8)) & 63];
    }
    out[HASH_MAX] = '\0';
    return true;
}

static bool same_hash(const char *got, const char *wanted, size_t len)
{
    char folded[2][HASH_MAX];
    for (size_t i = 0; i < len; i++) {
        folded[0][i] = lower(got[i]);
        folded[1][i] = lower(wanted[i]);
    }
    return CRYPTO_memcmp(folded[0], folded[1], len) == 0;
}

static enum srs_status check_hash(const struct srs_keys *keys, const char *hash,
                                  const char *a, const char *b, const char *c)
{
    char wanted[HASH_MAX + 1];
    size_t len = strlen(hash);
    if (len < HASH_LEN || len > HASH_MAX)
        return SRS_FORGED;
    for (size_t i = 0; keys->secrets[i]; i++) {
        if (!make_hash(keys->secrets[i], a, b, c, wanted))
            return SRS_FAILED;
        if (same_hash(hash, wanted, len))
            return SRS_DONE;
    }
    return SRS_FORGED;
}

static unsigned day_of(int64_t now)
{
    return (unsigned)((uint64_t)now / DAY_SECONDS % DAY_SLOTS);
}

static void make_stamp(int64_t now, char out[3])
{
    unsigned day = day_of(now);
    out[0] = base32[day / 32];
    out[1] = base32[day % 32];
    out[2] = '\0';
}

static enum srs_status check_stamp(const char *stamp, int64_t now)
{
    unsigned day = 0;
    if (strlen(stamp) != 2)
        return SRS_MALFORMED;
    for (size_t i = 0; i < 2; i++) {
        char c = stamp[i] >= 'a' && stamp[i] <= 'z' ? (char)(stamp[i] - ('a' - 'A'))
                                                    : stamp[i];
        const char *place = strchr(base32, c);
        if (!place)
            return SRS_MALFORMED;
        day = day * 32 + (unsigned)(place - base32);
    }
    unsigned age = (day_of(now) + DAYS_AHEAD + DAY_SLOTS - day) % DAY_SLOTS;
    return age <= SRS_DAYS_MAX + DAYS_AHEAD ? SRS_DONE : SRS_EXPIRED;
}

/* ---- forward --------------------------------------------------------------- */

static enum srs_status sign_first(const struct srs_keys *keys, const struct parts *from,
                                  int64_t now, char out[ADDR_TEXT_MAX + 1])
{
    char hash[HASH_MAX + 1], stamp[3], local[2 * ADDR_TEXT_MAX + 32];
    make_stamp(now, stamp);
    if (!make_hash(keys->secrets[0], stamp, from->domain, from->local, hash))
        return SRS_FAILED;
    int len = snprintf(local, sizeof(local), "SRS0=%.*s=%s=%s=%s", HASH_LEN, hash, stamp,
                       from->domain, from->local);
    if (len < 0 || (size_t)len >= sizeof(local))
        return SRS_TOO_LONG;
    return write_address(local, keys->domain, out);
}

/* first: the domain of the first forwarder; rest: what follows SRS0 there. */
static enum srs_status sign_guarded(const struct srs_keys *keys, const char *first,
                                    const char *rest, char out[ADDR_TEXT_MAX + 1])
{
    char hash[HASH_MAX + 1], local[2 * ADDR_TEXT_MAX + 32];
    if (!make_hash(keys->secrets[0], first, rest, "", hash))
        return SRS_FAILED;
    int len =
        snprintf(local, sizeof(local), "SRS1=%.*s=%s=%s", HASH_LEN, hash, first, rest);
    if (len < 0 || (size_t)len >= sizeof(local))
        return SRS_TOO_LONG;
    return write_address(local, keys->domain, out);
}

/* The parts of "SRS1=<hash>=<first><=><rest>"; false: not all there. rest
 * begins with the separator that the first forwarder has after "SRS0". */
static bool split_guarded(char *local, char **hash, char **first, char **rest)
{
    char domain[ADDR_DOMAIN_MAX + 1];
    *hash = local + 5;
    *first = cut(*hash);
    *rest = *first ? cut(*first) : NULL;
    return *rest && (*rest)[0] && strchr(separators, (*rest)[0]) &&
           addr_domain(*first, strlen(*first), domain);
}

enum srs_status srs_forward(const struct srs_keys *keys, const char *sender, int64_t now,
                            char out[ADDR_TEXT_MAX + 1])
{
    struct parts from;
    char *hash, *first, *rest;
    enum srs_status status = read_parts(keys->domain, sender, &from);
    if (status != SRS_DONE)
        return status;
    if (from.ours)
        return SRS_NOT_NEEDED;
    /* An address literal may hold the separator. */
    if (strchr(from.domain, '='))
        return SRS_MALFORMED;
    if (is_srs(from.local, '0'))
        return sign_guarded(keys, from.domain, from.local + 4, out);
    if (!is_srs(from.local, '1'))
        return sign_first(keys, &from, now, out);
    if (!split_guarded(from.local, &hash, &first, &rest))
        return SRS_MALFORMED;
    return sign_guarded(keys, first, rest, out);
}

/* ---- reverse --------------------------------------------------------------- */

static enum srs_status reverse_first(const struct srs_keys *keys, char *local,
                                     int64_t now, char out[ADDR_TEXT_MAX + 1])
{
    char *hash = local + 5;
    char *stamp = cut(hash);
    char *domain = stamp ? cut(stamp) : NULL;
    char *user = domain ? cut(domain) : NULL;
    if (!user || !user[0] || !domain[0])
        return SRS_MALFORMED;
    enum srs_status status = check_hash(keys, hash, stamp, domain, user);
    if (status == SRS_DONE)
        status = check_stamp(stamp, now);
    return status == SRS_DONE ? write_address(user, domain, out) : status;
}

static enum srs_status reverse_guarded(const struct srs_keys *keys, char *local,
                                       char out[ADDR_TEXT_MAX + 1])
{
    char *hash, *first, *rest;
    char user[ADDR_TEXT_MAX + 5];
    if (!split_guarded(local, &hash, &first, &rest))
        return SRS_MALFORMED;
    enum srs_status status = check_hash(keys, hash, first, rest, "");
    if (status != SRS_DONE)
        return status;
    int len = snprintf(user, sizeof(user), "SRS0%s", rest);
    if (len < 0 || (size_t)len >= sizeof(user))
        return SRS_TOO_LONG;
    return write_address(user, first, out);
}

enum srs_status srs_reverse(const struct srs_keys *keys, const char *address, int64_t now,
                            char out[ADDR_TEXT_MAX + 1])
{
    struct parts from;
    enum srs_status status = read_parts(keys->domain, address, &from);
    if (status == SRS_MALFORMED || (status == SRS_DONE && !from.ours))
        return SRS_NOT_NEEDED;
    if (status != SRS_DONE)
        return status;
    if (is_srs(from.local, '0'))
        return reverse_first(keys, from.local, now, out);
    if (is_srs(from.local, '1'))
        return reverse_guarded(keys, from.local, out);
    return SRS_NOT_NEEDED;
}

bool srs_is_address(const char *domain, const char *address)
{
    char text[ADDR_TEXT_MAX + 1];
    struct parts parts;
    size_t len = strnlen(address, ADDR_TEXT_MAX + 3);
    if (len >= 2 && address[0] == '<' && address[len - 1] == '>') {
        address++;
        len -= 2;
    }
    if (!domain || len > ADDR_TEXT_MAX)
        return false;
    memcpy(text, address, len);
    text[len] = '\0';
    return read_parts(domain, text, &parts) == SRS_DONE && parts.ours &&
           (is_srs(parts.local, '0') || is_srs(parts.local, '1'));
}
