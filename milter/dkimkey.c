/*
 * dkimkey: the record is read by the rules of RFC 6376 3.6.1 and turned into an
 * OpenSSL key once; both the key and what is wrong with it are kept, by the
 * record's text, in a hash table of DKIMKEY_KEPT entries whose least recently
 * used one makes room. (A record that changes in DNS is another text.) Lookups
 * hold a mutex for the time of a comparison, decoding does not.
 *
 * An RSA key is a SubjectPublicKeyInfo as in all examples of RFC 6376, or the
 * bare RSAPublicKey that its text asks for. A public exponent of more than 64
 * bits has no use but to make verification slow: permerror.
 */
#include "dkimkey.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "fnv.h"
#include "sigfield.h"
#include "taglist.h"

#define ED25519_LEN       32
#define EXPONENT_BITS_MAX 64
#define BUCKETS           2048 /* a power of two */

struct dkimkey {
    struct dkimkey_facts facts;
    char reason[64];
    EVP_PKEY *pkey;    /* NULL unless usable */
    EVP_PKEY_CTX *rsa; /* ready to verify, but for being shared: to be copied */
    atomic_uint references;
    /* of the table */
    struct dkimkey *next;            /* in its bucket */
    struct dkimkey *older, *younger; /* by use */
    uint64_t hash;
    size_t len;
    char record[];
};

/* ---- the record --------------------------------------------------------------- */

static bool value_is(const struct tag *tag, const char *text)
{
    return tag->value_len == strlen(text) &&
           strncasecmp(tag->value, text, tag->value_len) == 0;
}

/* Whether the colon-separated list has this word. */
static bool list_has(const struct tag *tag, const char *word)
{
    const char *text = tag->value, *end = text + tag->value_len;
    size_t len = strlen(word);

    while (text < end) {
        size_t n = 0;
        while (text < end && strchr(": \t\r\n", *text))
            text++;
        while (text + n < end && !strchr(": \t\r\n", text[n]))
            n++;
        if (n == len && strncasecmp(text, word, len) == 0)
            return true;
        text += n;
    }
    return false;
}

bool dkimkey_is_record(const char *text, size_t len)
{
    struct taglist list;
    const char *why;

    if (!taglist_parse(text, len, &list, &why))
        return len >= 6 && strncasecmp(text, "v=DKIM", 6) == 0;
    const struct tag *v = taglist_find(&list, "v");
    if (v)
        return value_is(v, "DKIM1");
    return taglist_find(&list, "p") != NULL;
}

static bool refuse(struct dkimkey *key, enum auth_result result, const char *reason)
{
    key->facts.result = result;
    snprintf(key->reason, sizeof(key->reason), "%s", reason);
    return false;
}

static bool bad(struct dkimkey *key, const char *reason)
{
    return refuse(key, AUTH_PERMERROR, reason);
}

/* All tags but p=. */
static bool read_tags(struct dkimkey *key, const struct taglist *list)
{
    const struct tag *v = taglist_find(list, "v"), *h = taglist_find(list, "h"),
                     *k = taglist_find(list, "k"), *s = taglist_find(list, "s"),
                     *t = taglist_find(list, "t");

    key->facts.testing = t && list_has(t, "y");
    key->facts.no_subdomain = t && list_has(t, "s");
    key->facts.ed25519 = k && value_is(k, "ed25519");
    if (v && (v != list->tags || v->value_len != 5 || memcmp(v->value, "DKIM1", 5) != 0))
        return bad(key, "key record: v= is not DKIM1, or not the first tag");
    if (k && !key->facts.ed25519 && !value_is(k, "rsa"))
        return bad(key, "key record: unknown kind of key in k=");
    if (h && !list_has(h, "sha256"))
        return bad(key, "the key does not allow sha256 (h=)");
    if (s && !list_has(s, "*") && !list_has(s, "email"))
        return bad(key, "the key is not for mail (s=)");
    return true;
}

static EVP_PKEY *decode_rsa(const unsigned char *data, long len)
{
    const unsigned char *at = data;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, len);

    if (!pkey) {
        at = data;
        pkey = d2i_PublicKey(EVP_PKEY_RSA, NULL, &at, len);
    }
    if (pkey && (at != data + len || !EVP_PKEY_is_a(pkey, "RSA"))) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    return pkey;
}

static bool prepare_rsa(struct dkimkey *key)
{
    key->rsa = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    return key->rsa && EVP_PKEY_verify_init(key->rsa) == 1 &&
           EVP_PKEY_CTX_set_rsa_padding(key->rsa, RSA_PKCS1_PADDING) == 1 &&
           EVP_PKEY_CTX_set_signature_md(key->rsa, EVP_sha256()) == 1;
}

static bool check_rsa(struct dkimkey *key)
{
    BIGNUM *e = NULL;
    int bits = EVP_PKEY_get_bits(key->pkey);

    key->facts.bits = bits > 0 ? (unsigned)bits : 0;
    if (bits < DKIMKEY_BITS_MIN || bits > DKIMKEY_BITS_MAX) {
        key->facts.result = AUTH_POLICY; /* RFC 8301 3.2 */
        snprintf(key->reason, sizeof(key->reason), "an RSA key of %d bits is too %s",
                 bits, bits < DKIMKEY_BITS_MIN ? "short" : "long");
        return false;
    }
    bool ok = EVP_PKEY_get_bn_param(key->pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1 &&
              BN_is_odd(e) && BN_num_bits(e) > 1 && BN_num_bits(e) <= EXPONENT_BITS_MAX;
    BN_free(e);
    if (!ok)
        return bad(key, "key record: the exponent of the RSA key is not accepted");
    return prepare_rsa(key) || bad(key, "key record: OpenSSL does not take the RSA key");
}

static bool decode(struct dkimkey *key, const struct tag *p)
{
    unsigned char data[DKIMKEY_RECORD_MAX];
    long len = sigfield_base64(p->value, p->value_len, data, sizeof(data));

    if (len < 0)
        return bad(key, "key record: p= is not base64");
    if (!key->facts.ed25519) {
        key->pkey = decode_rsa(data, len);
        return key->pkey ? check_rsa(key) : bad(key, "key record: p= is no RSA key");
    }
    if (len == ED25519_LEN)
        key->pkey =
            EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, data, (size_t)len);
    key->facts.bits = key->pkey ? 8 * ED25519_LEN : 0;
    return key->pkey || bad(key, "key record: p= is no Ed25519 key");
}

static void read_record(struct dkimkey *key)
{
    struct taglist list;
    const char *why = NULL;

    key->facts.reason = key->reason;
    if (!taglist_parse(key->record, key->len, &list, &why)) {
        key->facts.result = AUTH_PERMERROR;
        snprintf(key->reason, sizeof(key->reason), "key record: %s", why);
        return;
    }
    const struct tag *p = taglist_find(&list, "p");
    if (!read_tags(key, &list))
        return;
    if (!p)
        bad(key, "key record: p= is missing");
    else if (p->value_len == 0)
        bad(key, "the key has been revoked");
    else
        decode(key, p);
    ERR_clear_error(); /* the queue is the thread's, and would only grow */
}

static struct dkimkey *key_new(const char *record, size_t len, uint64_t hash)
{
    struct dkimkey *key = calloc(1, sizeof(*key) + len);

    if (!key)
        return NULL;
    atomic_init(&key->references, 1);
    key->hash = hash;
    key->len = len;
    memcpy(key->record, record, len);
    read_record(key);
    return key;
}

void dkimkey_drop(struct dkimkey *key)
{
    if (!key || atomic_fetch_sub(&key->references, 1) != 1)
        return;
    EVP_PKEY_CTX_free(key->rsa);
    EVP_PKEY_free(key->pkey);
    free(key);
}

const struct dkimkey_facts *dkimkey_facts(const struct dkimkey *key)
{
    return &key->facts;
}

/* ---- those that are kept --------------------------------------------------------- */

struct dkimkeys {
    pthread_mutex_t mutex;
    struct dkimkey *buckets[BUCKETS];
    struct dkimkey *oldest, *youngest;
    size_t count;
    uint64_t seed; /* so that nobody can choose records of one bucket */
};

struct dkimkeys *dkimkeys_new(void)
{
    struct dkimkeys *keys = calloc(1, sizeof(*keys));

    if (!keys)
        return NULL;
    if (getrandom(&keys->seed, sizeof(keys->seed), 0) != (ssize_t)sizeof(keys->seed) ||
        pthread_mutex_init(&keys->mutex, NULL) != 0) {
        free(keys);
        return NULL;
    }
    return keys;
}

void dkimkeys_free(struct dkimkeys *keys)
{
    if (!keys)
        return;
    while (keys->oldest) {
        struct dkimkey *key = keys->oldest;
        keys->oldest = key->younger;
        dkimkey_drop(key);
    }
    pthread_mutex_destroy(&keys->mutex);
    free(keys);
}

static uint64_t hash_of(const struct dkimkeys *keys, const char *record, size_t len)
{
    return fnv_fold(fnv_hash(keys->seed, record, len));
}

static void unlink_use(struct dkimkeys *keys, struct dkimkey *key)
{
    *(key->older ? &key->older->younger : &keys->oldest) = key->younger;
    *(key->younger ? &key->younger->older : &keys->youngest) = key->older;
}

static void link_youngest(struct dkimkeys *keys, struct dkimkey *key)
{
    key->older = keys->youngest;
    key->younger = NULL;
    *(keys->youngest ? &keys->youngest->younger : &keys->oldest) = key;
    keys->youngest = key;
}

static struct dkimkey *find(struct dkimkeys *keys, const char *record, size_t len,
                            uint64_t hash)
{
    struct dkimkey *key = keys->buckets[hash % BUCKETS];

    while (key && (key->hash != hash || key->len != len ||
                   memcmp(key->record, record, len) != 0))
        key = key->next;
    if (key) {
        unlink_use(keys, key);
        link_youngest(keys, key);
        atomic_fetch_add(&key->references, 1);
    }
    return key;
}

static void make_room(struct dkimkeys *keys)
{
    struct dkimkey *key = keys->oldest;
    struct dkimkey **link = &keys->buckets[key->hash % BUCKETS];

    while (*link != key)
        link = &(*link)->next;
    *link = key->next;
    unlink_use(keys, key);
    keys->count--;
    dkimkey_drop(key);
}

static void keep(struct dkimkeys *keys, struct dkimkey *key)
{
    if (keys->count == DKIMKEY_KEPT)
        make_room(keys);
    key->next = keys->buckets[key->hash % BUCKETS];
    keys->buckets[key->hash % BUCKETS] = key;
    link_youngest(keys, key);
    keys->count++;
    atomic_fetch_add(&key->references, 1);
}

struct dkimkey *dkimkeys_get(struct dkimkeys *keys, const char *record, size_t len)
{
    uint64_t hash = hash_of(keys, record, len);

    pthread_mutex_lock(&keys->mutex);
    struct dkimkey *key = find(keys, record, len, hash);
    pthread_mutex_unlock(&keys->mutex);
    if (key)
        return key;
    struct dkimkey *fresh = key_new(record, len, hash);
    if (!fresh)
        return NULL;
    pthread_mutex_lock(&keys->mutex);
    key = find(keys, record, len, hash); /* another thread may have been faster */
    if (!key)
        keep(keys, fresh);
    pthread_mutex_unlock(&keys->mutex);
    if (!key)
        return fresh;
    dkimkey_drop(fresh);
    return key;
}

/* ---- verification ------------------------------------------------------------------ */

static bool verify_rsa(const struct dkimkey *key, const unsigned char *b, size_t b_len,
                       const unsigned char *hash, size_t hash_len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_dup(key->rsa);
    bool ok = ctx && EVP_PKEY_verify(ctx, b, b_len, hash, hash_len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* RFC 8463 3: what is signed is the hash, by PureEdDSA. */
static bool verify_ed25519(const struct dkimkey *key, const unsigned char *b,
                           size_t b_len, const unsigned char *hash, size_t hash_len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key->pkey) == 1 &&
              EVP_DigestVerify(ctx, b, b_len, hash, hash_len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

bool dkimkey_verify(const struct dkimkey *key, const unsigned char *b, size_t b_len,
                    const unsigned char *hash, size_t hash_len)
{
    bool ok =
        key->facts.result == AUTH_NONE &&
        (key->facts.ed25519 ? verify_ed25519 : verify_rsa)(key, b, b_len, hash, hash_len);
    ERR_clear_error();
    return ok;
}
