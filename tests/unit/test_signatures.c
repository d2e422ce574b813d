/*
 * DKIM signatures: messages signed here by a straightforward signer of our own
 * (canonicalisation as RFC 6376 3.4 words it, whole message in memory), keys
 * made at run time and put into the resolver. Each is verified, changed, broken,
 * put beside others, and cut into chunks everywhere.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "clock.h"
#include "conf.h"

#include "../../milter/dkimkey.h"
#include "../../milter/resolver.h"
#include "../../milter/sigfield.h"
#include "../../milter/signatures.h"
#include "unit.h"

/* ---- text that grows ------------------------------------------------------- */

struct text {
    char *data;
    size_t len, size;
};

static void put(struct text *t, const char *data, size_t len)
{
    if (t->len + len + 1 > t->size) {
        t->size = 2 * (t->len + len + 1);
        t->data = realloc(t->data, t->size);
        if (!t->data)
            abort();
    }
    memcpy(t->data + t->len, data, len);
    t->len += len;
    t->data[t->len] = '\0';
}

static void put_text(struct text *t, const char *text)
{
    put(t, text, strlen(text));
}

static void put_base64(struct text *t, const unsigned char *data, size_t len)
{
    char *out = malloc(4 * (len / 3 + 2));
    int n = EVP_EncodeBlock((unsigned char *)out, data, (int)len);
    put(t, out, (size_t)n);
    free(out);
}

/* ---- messages ----------------------------------------------------------------- */

struct field {
    char *name, *value;
};

struct message {
    struct field *fields;
    size_t count;
    char *body;
    size_t body_len;
};

static void add_field(struct message *m, const char *name, const char *value, bool on_top)
{
    m->fields = realloc(m->fields, (m->count + 1) * sizeof(*m->fields));
    if (on_top)
        memmove(m->fields + 1, m->fields, m->count * sizeof(*m->fields));
    m->fields[on_top ? 0 : m->count] = (struct field){ strdup(name), strdup(value) };
    m->count++;
}

static void set_body(struct message *m, const char *body, size_t len)
{
    free(m->body);
    m->body = malloc(len + 1);
    memcpy(m->body, body, len);
    m->body[len] = '\0';
    m->body_len = len;
}

static struct message plain_message(void)
{
    struct message m = { 0 };
    add_field(&m, "Received", " from a.example by b.example;\n\tMon, 1 Jan 2024", false);
    add_field(&m, "From", " Joe <joe@example.org>", false);
    add_field(&m, "To", "  Suzie\n\t<suzie@example.net> ", false);
    add_field(&m, "SUBJect", " Is  dinner \t ready?", false);
    add_field(&m, "X-8bit", " gr\xc3\xbc\xc3\x9f \xff", false);
    add_field(&m, "X-Empty", "", false);
    static const char body[] = " Hi. \r\n\r\nWe lost  the\tgame. \r\n\r\n\r\n";
    set_body(&m, body, strlen(body));
    return m;
}

static void free_message(struct message *m)
{
    for (size_t i = 0; i < m->count; i++) {
        free(m->fields[i].name);
        free(m->fields[i].value);
    }
    free(m->fields);
    free(m->body);
}

/* ---- the signer ----------------------------------------------------------------- */

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void canon_field(struct text *out, const char *name, const char *value,
                        bool relaxed, bool last)
{
    size_t start = out->len;

    if (!relaxed) {
        put_text(out, name);
        put_text(out, ":");
        for (; *value; value++) {
            if (*value == '\n' && out->data[out->len - 1] != '\r')
                put_text(out, "\r");
            put(out, value, 1);
        }
    } else {
        for (; *name; name++) {
            char c = *name >= 'A' && *name <= 'Z' ? (char)(*name + 32) : *name;
            put(out, &c, 1);
        }
        put_text(out, ":");
        start = out->len;
        for (; *value; value++) {
            bool after = out->len == start || out->data[out->len - 1] == ' ';
            if (!blank(*value))
                put(out, value, 1);
            else if (!after)
                put_text(out, " ");
        }
        if (out->len > start && out->data[out->len - 1] == ' ')
            out->data[--out->len] = '\0';
    }
    if (!last)
        put_text(out, "\r\n");
}

static void canon_body(struct text *out, const char *body, size_t len, bool relaxed)
{
    bool space = false;

    put(out, "", 0);
    for (size_t i = 0; i < len; i++) {
        bool end = i + 1 < len && body[i] == '\r' && body[i + 1] == '\n';
        if (relaxed && (body[i] == ' ' || body[i] == '\t')) {
            space = true;
            continue;
        }
        if (relaxed && space && !end)
            put_text(out, " ");
        space = false;
        put(out, body + i, 1);
    }
    if (out->len > 0 &&
        (out->len < 2 || memcmp(out->data + out->len - 2, "\r\n", 2) != 0))
        put_text(out, "\r\n");
    while (out->len >= 4 && memcmp(out->data + out->len - 4, "\r\n\r\n", 4) == 0)
        out->len -= 2;
    if (relaxed && out->len == 2)
        out->len = 0;
    if (!relaxed && out->len == 0)
        put_text(out, "\r\n");
}

struct signer {
    EVP_PKEY *key;
    const char *algorithm, *canon, *domain, *selector, *names;
    const char *extra; /* more tags, each with its ';' */
    long length;       /* l=; -1: none */
};

static bool ed25519(const struct signer *s)
{
    return EVP_PKEY_id(s->key) == EVP_PKEY_ED25519;
}

static void hash_body(struct text *out, const struct message *m, const struct signer *s)
{
    struct text body = { 0 };
    unsigned char hash[32];
    char l[40];
    bool relaxed = strstr(s->canon, "/relaxed") != NULL;

    canon_body(&body, m->body, m->body_len, relaxed);
    size_t len =
        s->length >= 0 && (size_t)s->length < body.len ? (size_t)s->length : body.len;
    EVP_Digest(body.data, len, hash, NULL, EVP_sha256(), NULL);
    if (s->length >= 0) {
        snprintf(l, sizeof(l), " l=%ld;", s->length);
        put_text(out, l);
    }
    put_text(out, " bh=");
    put_base64(out, hash, sizeof(hash));
    put_text(out, "; b=");
    free(body.data);
}

/* The lowest of this name that is not used; own: never that one. */
static long pick(const struct message *m, const char *name, size_t len, bool *used)
{
    for (long i = (long)m->count - 1; i >= 0; i--)
        if (!used[i] && strlen(m->fields[i].name) == len &&
            strncasecmp(m->fields[i].name, name, len) == 0) {
            used[i] = true;
            return i;
        }
    return -1;
}

static void hash_header(unsigned char hash[32], const struct message *m,
                        const struct signer *s, const char *value)
{
    struct text header = { 0 };
    bool relaxed = strncmp(s->canon, "relaxed", 7) == 0;
    bool *used = calloc(m->count + 1, 1);

    for (const char *name = s->names; *name;) {
        size_t n = strcspn(name, ": \r\n\t");
        long i = n ? pick(m, name, n, used) : -1;
        if (i >= 0)
            canon_field(&header, m->fields[i].name, m->fields[i].value, relaxed, false);
        name += n;
        name += strspn(name, ": \r\n\t");
    }
    canon_field(&header, "DKIM-Signature", value, relaxed, true);
    EVP_Digest(header.data, header.len, hash, NULL, EVP_sha256(), NULL);
    free(header.data);
    free(used);
}

static void sign_hash(struct text *out, const struct signer *s, const unsigned char *hash)
{
    unsigned char b[1024];
    size_t len = sizeof(b);

    if (ed25519(s)) {
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        EVP_DigestSignInit(ctx, NULL, NULL, NULL, s->key);
        EVP_DigestSign(ctx, b, &len, hash, 32);
        EVP_MD_CTX_free(ctx);
    } else {
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(s->key, NULL);
        EVP_PKEY_sign_init(ctx);
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING);
        EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256());
        EVP_PKEY_sign(ctx, b, &len, hash, 32);
        EVP_PKEY_CTX_free(ctx);
    }
    put_base64(out, b, len);
}

/* The value of the field, in lines. To be freed. */
static char *sign(const struct message *m, const struct signer *s)
{
    struct text value = { 0 };
    unsigned char hash[32];

    put_text(&value, " v=1; a=");
    put_text(&value, s->algorithm ? s->algorithm
                                  : (ed25519(s) ? "ed25519-sha256" : "rsa-sha256"));
    if (s->canon[0]) {
        put_text(&value, "; c=");
        put_text(&value, s->canon);
    }
    put_text(&value, ";\n\td=");
    put_text(&value, s->domain);
    put_text(&value, "; s=");
    put_text(&value, s->selector);
    put_text(&value, "; h=");
    put_text(&value, s->names);
    put_text(&value, ";\n\t");
    put_text(&value, s->extra ? s->extra : "");
    hash_body(&value, m, s);
    hash_header(hash, m, s, value.data);
    sign_hash(&value, s, hash);
    return value.data;
}

static void add_signature(struct message *m, const struct signer *s)
{
    char *value = sign(m, s);
    add_field(m, "DKIM-Signature", value, true);
    free(value);
}

/* ---- keys and their records -------------------------------------------------------- */

static struct resolver *resolver;
static struct dkim_verifier *verifier;
static EVP_PKEY *rsa, *rsa_other, *ed, *rsa512, *rsa1024;

static void put_txt(const char *name, const char *const *texts, size_t count)
{
    unsigned char data[8][4096];
    struct answer_record records[8];

    for (size_t r = 0; r < count; r++) {
        const char *text = texts[r];
        size_t left = strlen(text), used = 0;
        do {
            size_t n = left > 255 ? 255 : left;
            data[r][used++] = (unsigned char)n;
            memcpy(data[r] + used, text, n);
            used += n;
            text += n;
            left -= n;
        } while (left > 0);
        records[r] = (struct answer_record){ data[r], used };
    }
    CU_ASSERT(resolver_put(resolver, name, RR_TXT, ANSWER_DATA, records, count));
}

/* The p= of a key: SubjectPublicKeyInfo, the raw bytes of Ed25519. */
static char *public_text(EVP_PKEY *key)
{
    struct text out = { 0 };
    unsigned char raw[32], *der = NULL;
    size_t raw_len = sizeof(raw);

    if (EVP_PKEY_id(key) == EVP_PKEY_ED25519) {
        EVP_PKEY_get_raw_public_key(key, raw, &raw_len);
        put_base64(&out, raw, raw_len);
    } else {
        int n = i2d_PUBKEY(key, &der);
        put_base64(&out, der, (size_t)n);
        OPENSSL_free(der);
    }
    return out.data;
}

/* Puts a record made of `tags` and the p= of the key. */
static void put_key(const char *selector, const char *tags, EVP_PKEY *key)
{
    char name[128], *p = public_text(key);
    struct text record = { 0 };

    snprintf(name, sizeof(name), "%s._domainkey.example.org", selector);
    put_text(&record, tags);
    put_text(&record, "p=");
    put_text(&record, p);
    const char *texts[] = { record.data };
    put_txt(name, texts, 1);
    free(record.data);
    free(p);
}

static void put_record(const char *selector, const char *record)
{
    char name[128];
    snprintf(name, sizeof(name), "%s._domainkey.example.org", selector);
    put_txt(name, &record, 1);
}

static void set_up(void)
{
    char error[256] = "";

    if (verifier)
        return;
    resolver = resolver_new(NULL, error, sizeof(error));
    CHECK_STR("resolver", error, "");
    verifier = dkim_verifier_new(resolver, SIGNATURES_LIMIT, error, sizeof(error));
    CHECK_STR("verifier", error, "");
    CU_ASSERT_FATAL(resolver && verifier);
    rsa = EVP_RSA_gen(2048);
    rsa_other = EVP_RSA_gen(2048);
    rsa1024 = EVP_RSA_gen(1024);
    rsa512 = EVP_RSA_gen(512);
    ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    put_key("rsa", "v=DKIM1; k=rsa; ", rsa);
    put_key("ed", "v=DKIM1; k=ed25519; ", ed);
}

static struct signer signer(void)
{
    return (struct signer){ .key = rsa,
                            .canon = "relaxed/relaxed",
                            .domain = "example.org",
                            .selector = "rsa",
                            .names = "from:to:subject:x-8bit:x-empty",
                            .length = -1 };
}

/* ---- verification ---------------------------------------------------------------------
 */

struct outcome {
    struct signature list[SIGNATURES_LIMIT];
    size_t count, beyond;
};

static void verify_in_chunks(const struct message *m, size_t chunk, struct outcome *out)
{
    struct signatures *s = signatures_new(verifier, "test");

    for (size_t i = 0; i < m->count; i++)
        signatures_header(s, m->fields[i].name, m->fields[i].value);
    signatures_end_of_headers(s);
    for (size_t at = 0; at < m->body_len; at += chunk) {
        size_t n = m->body_len - at < chunk ? m->body_len - at : chunk;
        unsigned char *exact = malloc(n);
        memcpy(exact, m->body + at, n);
        signatures_body(s, exact, n);
        free(exact);
    }
    const struct signature *list =
        signatures_finish(s, clock_ms() + 1000, &out->count, &out->beyond);
    memcpy(out->list, list, out->count * sizeof(*list));
    signatures_free(s);
}

static void verify(const struct message *m, struct outcome *out)
{
    verify_in_chunks(m, 65535, out);
}

/* want: "pass", "fail: body hash did not verify" */
static void check_one(const char *what, const struct signature *got, const char *want)
{
    char text[256];
    snprintf(text, sizeof(text), "%s%s%s", auth_result_name(got->result),
             got->reason[0] ? ": " : "", got->reason);
    CHECK_STR(what, text, want);
}

static void check_message(const char *what, const struct message *m, const char *want)
{
    struct outcome out;
    verify(m, &out);
    CHECK_INT(what, out.count, 1);
    if (out.count)
        check_one(what, &out.list[0], want);
}

/* ---- cases
 * -------------------------------------------------------------------------------- */

/* RFC 8463 Appendix A: both signatures of its message, its keys. */
static void test_rfc8463(void)
{
    static const char ed_value[] =
        " v=1; a=ed25519-sha256; c=relaxed/relaxed;\n"
        " d=football.example.com; i=@football.example.com;\n"
        " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\n"
        " subject : date : message-id : from : subject : date;\n"
        " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\n"
        " b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\n"
        " Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==";
    static const char rsa_value[] =
        " v=1; a=rsa-sha256; c=relaxed/relaxed;\n"
        " d=football.example.com; i=@football.example.com;\n"
        " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\n"
        " date : message-id : from : subject : date;\n"
        " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\n"
        " b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\n"
        " DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\n"
        " dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=";
    static const char *ed_key =
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    static const char *rsa_key =
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR"
        "iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC"
        "DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3"
        "Ip3G+2kryOTIKT+l/K4w3QIDAQAB";
    static const char body[] = "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\n"
                               "Joe.\r\n";
    struct message m = { 0 };
    struct outcome out;

    set_up();
    put_txt("brisbane._domainkey.football.example.com", &ed_key, 1);
    put_txt("test._domainkey.football.example.com", &rsa_key, 1);
    add_field(&m, "DKIM-Signature", ed_value, false);
    add_field(&m, "DKIM-Signature", rsa_value, false);
    add_field(&m, "From", " Joe SixPack <joe@football.example.com>", false);
    add_field(&m, "To", " Suzie Q <suzie@shopping.example.net>", false);
    add_field(&m, "Subject", " Is dinner ready?", false);
    add_field(&m, "Date", " Fri, 11 Jul 2003 21:00:37 -0700 (PDT)", false);
    add_field(&m, "Message-ID", " <20030712040037.46341.5F8J@football.example.com>",
              false);
    set_body(&m, body, strlen(body));
    verify(&m, &out);
    CHECK_INT("signatures", out.count, 2);
    check_one("ed25519", &out.list[0], "pass");
    check_one("rsa", &out.list[1], "pass");
    CHECK_STR("d=", out.list[0].domain, "football.example.com");
    CHECK_STR("s=", out.list[0].selector, "brisbane");
    CHECK_STR("i=", out.list[0].identity, "@football.example.com");
    CHECK_STR("a=", out.list[0].algorithm, "ed25519-sha256");
    CHECK_STR("b", out.list[0].b, "/gCrinpc");
    CHECK_INT("bits of ed25519", out.list[0].key_bits, 256);
    CHECK_INT("bits of rsa", out.list[1].key_bits, 1024);
    free_message(&m);
}

static const char *const canons[] = { "simple/simple",
                                      "simple/relaxed",
                                      "relaxed/simple",
                                      "relaxed/relaxed",
                                      "relaxed",
                                      "simple",
                                      "" };
#define CANONS (sizeof(canons) / sizeof(canons[0]))

static const char *const bodies[] = {
    "",
    "\r\n",
    "\r\n\r\n\r\n",
    " \r\n",
    " \t \r\n\r\n \r\n",
    "a",
    "a\r\n",
    "a \r\n",
    "a\r\n\r\n",
    "a\r\n \r\n",
    " a\tb  c\t\t\r\n\t\r\n\r\nd\r\n\r\n",
    "a\r\n\r\n\r\n\r\nb\r\n",
    "a \t",
    "a\r\n ",
    "\r\na",
    "gr\xc3\xbc\xc3\x9f\xff\x80\x01 .\r\n",
};

static void test_canonicalisation(void)
{
    set_up();
    for (size_t b = 0; b < sizeof(bodies) / sizeof(bodies[0]); b++)
        for (size_t c = 0; c < CANONS; c++) {
            struct message m = plain_message();
            struct signer s = signer();
            char what[128];
            snprintf(what, sizeof(what), "body %zu, c=%s", b, canons[c]);
            set_body(&m, bodies[b], strlen(bodies[b]));
            s.canon = canons[c];
            s.key = c % 2 ? ed : rsa;
            s.selector = c % 2 ? "ed" : "rsa";
            add_signature(&m, &s);
            check_message(what, &m, "pass");
            free_message(&m);
        }
}

/* Chunks of every size: borders between any two bytes. */
static void test_chunks(void)
{
    static const char body[] = " a \r\n\r\n\r\nb\t c \r\n \t\r\nd\r\n\r\n\r\n";

    set_up();
    for (size_t c = 0; c < CANONS; c++) {
        struct message m = plain_message();
        struct signer s = signer();
        set_body(&m, body, strlen(body));
        s.canon = canons[c];
        s.key = ed;
        s.selector = "ed";
        add_signature(&m, &s);
        for (size_t chunk = 1; chunk <= sizeof(body); chunk++) {
            struct outcome out;
            verify_in_chunks(&m, chunk, &out);
            check_one(canons[c], &out.list[0], "pass");
        }
        free_message(&m);
    }
}

/* A NUL is a byte like any other; the header cannot have one. */
static void test_nul(void)
{
    set_up();
    for (size_t c = 0; c < CANONS; c++) {
        struct message m = plain_message();
        struct signer s = signer();
        set_body(&m, "a\0b \0 \r\n\0\r\n\r\n", 13);
        s.canon = canons[c];
        add_signature(&m, &s);
        check_message(canons[c], &m, "pass");
        free_message(&m);
    }
}

/* What may change on the way, and what not. */
static void test_changes(void)
{
    static const struct {
        const char *what, *canon, *name, *value, *body, *want;
    } cases[] = {
        { "white space, relaxed", "relaxed/relaxed", "SUBJECT",
          "\n\tIs dinner\r\n ready?  ", NULL, "pass" },
        { "case of a name, simple", "simple/simple", "SUBJECT", " Is  dinner \t ready?",
          NULL, "fail: signature did not verify" },
        { "white space, simple", "simple/simple", "SUBJect", " Is dinner \t ready?", NULL,
          "fail: signature did not verify" },
        { "words", "relaxed/relaxed", "SUBJect", " Is supper ready?", NULL,
          "fail: signature did not verify" },
        { "body, relaxed white space", "relaxed/relaxed", NULL, NULL,
          " Hi.\r\n\r\nWe lost \t the game.\r\n", "pass" },
        { "body, relaxed words", "relaxed/relaxed", NULL, NULL,
          " Hi.\r\n\r\nWe won the game.\r\n", "fail: body hash did not verify" },
        { "body, simple white space", "simple/simple", NULL, NULL,
          " Hi.\r\n\r\nWe lost  the\tgame. \r\n", "fail: body hash did not verify" },
        { "body, simple blank lines", "simple/simple", NULL, NULL,
          " Hi. \r\n\r\nWe lost  the\tgame. \r\n\r\n\r\n\r\n\r\n", "pass" },
        { "bare CR", "relaxed/relaxed", NULL, NULL,
          " Hi. \r\n\r\nWe\r lost  the\tgame. \r\n",
          "permerror: the body has CR or LF that is not CR LF" },
        { "bare LF", "relaxed/relaxed", NULL, NULL,
          " Hi. \r\n\r\nWe\n lost  the\tgame. \r\n",
          "permerror: the body has CR or LF that is not CR LF" },
        { "CR CR LF", "simple/simple", NULL, NULL,
          " Hi. \r\r\n\r\nWe lost  the\tgame. \r\n",
          "permerror: the body has CR or LF that is not CR LF" },
        { "CR at the end", "simple/simple", NULL, NULL,
          " Hi. \r\n\r\nWe lost  the\tgame. \r",
          "permerror: the body has CR or LF that is not CR LF" },
        { "LF at the start", "simple/simple", NULL, NULL, "\n Hi. \r\n",
          "permerror: the body has CR or LF that is not CR LF" },
        { "CR in a field", "relaxed/relaxed", "SUBJect", " Is\r dinner ready?", NULL,
          "permerror: control characters in a signed header field" },
        { "VT in a field", "relaxed/relaxed", "SUBJect", " Is\vdinner ready?", NULL,
          "permerror: control characters in a signed header field" },
        { "a field in a field", "relaxed/relaxed", "SUBJect", " Is dinner ready?\nTo: x",
          NULL, "permerror: control characters in a signed header field" },
        { "CR in a field that is not signed", "relaxed/relaxed", "Received",
          " \r\n\v\r x", NULL, "pass" },
    };
    set_up();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message m = plain_message();
        struct signer s = signer();
        s.canon = cases[i].canon;
        add_signature(&m, &s);
        for (size_t f = 0; cases[i].name && f < m.count; f++)
            if (strcasecmp(m.fields[f].name, cases[i].name) == 0) {
                free(m.fields[f].name);
                free(m.fields[f].value);
                m.fields[f] =
                    (struct field){ strdup(cases[i].name), strdup(cases[i].value) };
            }
        if (cases[i].body)
            set_body(&m, cases[i].body, strlen(cases[i].body));
        check_message(cases[i].what, &m, cases[i].want);
        for (size_t chunk = 1; cases[i].body && chunk < 20; chunk++) {
            struct outcome out;
            verify_in_chunks(&m, chunk, &out);
            check_one(cases[i].what, &out.list[0], cases[i].want);
        }
        free_message(&m);
    }
}

/* Which of several fields h= means, and what may be added. */
static void test_selection(void)
{
    static const struct {
        const char *names, *add, *want;
        bool on_top;
    } cases[] = {
        { "from:subject", NULL, "pass", true },
        { "From : Subject\n\t: to", NULL, "pass", true },
        { "from", "Subject", "pass", true },
        { "from:from", NULL, "pass", true },
        { "from:from", "From", "fail: signature did not verify", true },
        { "from", "From", "pass", true },
        { "from", "From", "fail: signature did not verify", false },
        { "from:x-new", "X-New", "fail: signature did not verify", true },
        { "from:received", "Received", "pass", true },
        { "from:received:received", "Received", "fail: signature did not verify", true },
        { "from:x-nothing:x-nothing:x-nothing", NULL, "pass", true },
    };
    set_up();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message m = plain_message();
        struct signer s = signer();
        s.names = cases[i].names;
        s.canon = "relaxed/simple";
        add_signature(&m, &s);
        if (cases[i].add)
            add_field(&m, cases[i].add, " new", cases[i].on_top);
        check_message(cases[i].names, &m, cases[i].want);
        free_message(&m);
    }
}

/* All fields of the message named, DKIM-Signature too, and one more: here
 * libopendkim alone writes past its array. */
static void test_every_field_named(void)
{
    set_up();
    for (int extra = 0; extra < 6; extra++) {
        struct message m = { 0 };
        struct signer s = signer();
        char names[128] = "from:dkim-signature";
        add_field(&m, "From", " joe@example.org", false);
        for (int i = 0; i < extra; i++) {
            add_field(&m, "X", " x", false);
            strcat(names, ":x");
        }
        strcat(names, ":y:z:y:z:y:z");
        set_body(&m, "a\r\n", 3);
        s.names = names;
        s.canon = "simple/simple";
        add_signature(&m, &s);
        check_message(names, &m,
                      "permerror: h= names DKIM-Signature fields not verified here");
        free_message(&m);
    }
}

static void test_signed_signature(void)
{
    struct message m = plain_message();
    struct signer s = signer();
    struct outcome out;

    set_up();
    s.key = rsa;
    add_signature(&m, &s);
    s.names = "from:dkim-signature";
    add_signature(&m, &s);
    verify(&m, &out);
    check_one("the one above", &out.list[0], "pass");
    check_one("the one below", &out.list[1], "pass");
    /* Now one that is broken is the lowest. */
    add_field(&m, "DKIM-Signature", " v=1; h=from", false);
    verify(&m, &out);
    check_one("above a broken one", &out.list[0],
              "permerror: h= names DKIM-Signature fields not verified here");
    check_one("beside a broken one", &out.list[1], "pass");
    check_one("the broken one", &out.list[2], "permerror: a= is missing");
    free_message(&m);
}

static void replace(char **value, const char *old, const char *by)
{
    struct text out = { 0 };
    char *at = strstr(*value, old);

    if (!at) {
        printf("\n  no \"%s\" in \"%s\"\n", old, *value);
        CU_FAIL_FATAL("the case is wrong");
    }
    put(&out, *value, (size_t)(at - *value));
    put_text(&out, by);
    put_text(&out, at + strlen(old));
    free(*value);
    *value = out.data;
}

/* Each alone, above a good signature, and below one: the good one passes. */
static void check_mutation(const char *what, const char *value, const char *want)
{
    for (int place = 0; place < 3; place++) {
        struct message m = plain_message();
        struct signer s = signer();
        struct outcome out;
        s.names = "from:to";
        if (place > 0)
            add_signature(&m, &s);
        add_field(&m, "DKIM-Signature", value, place < 2);
        verify(&m, &out);
        CHECK_INT(what, out.count, place ? 2 : 1);
        check_one(what, &out.list[place == 2 ? 1 : 0], want);
        if (place)
            check_one(what, &out.list[place == 2 ? 0 : 1], "pass");
        free_message(&m);
    }
}

static void test_mutations(void)
{
    static const struct {
        const char *old, *by, *want;
    } cases[] = {
        { " v=1;", "", "permerror: v= is missing" },
        { "v=1;", "v=2;", "permerror: unknown version in v=" },
        { "v=1;", "v=;", "permerror: unknown version in v=" },
        { "v=1;", "v=1; v=1;", "permerror: malformed: a tag twice" },
        { "v=1;", "v=1;;", "permerror: malformed: no tag name where one should be" },
        { "v=1;", "v;", "permerror: malformed: a tag without \"=\"" },
        { "v=1;", "v=1; n=\xc3\xa4;", "permerror: malformed: a byte that is not ASCII" },
        { "v=1;", "v=1;\nx=1;", "permerror: malformed: no tag name where one should be" },
        { "v=1;", "v=1;\r x=1;",
          "permerror: malformed: no tag name where one should be" },
        { "a=rsa-sha256;", "", "permerror: a= is missing" },
        { "a=rsa-sha256;", "a=rsa-sha1;", "policy: rsa-sha1 is not accepted" },
        { "a=rsa-sha256;", "a=RSA-SHA1;", "policy: rsa-sha1 is not accepted" },
        { "a=rsa-sha256;", "a=rsa-sha512;", "permerror: unknown algorithm in a=" },
        { "a=rsa-sha256;", "a=;", "permerror: unknown algorithm in a=" },
        { "a=rsa-sha256;", "a=ed25519-sha256;",
          "permerror: b= is not an Ed25519 signature" },
        { "c=relaxed/relaxed;", "c=nowsp;", "permerror: unknown canonicalisation in c=" },
        { "c=relaxed/relaxed;", "c=relaxed/;",
          "permerror: unknown canonicalisation in c=" },
        { "c=relaxed/relaxed;", "c=/relaxed;",
          "permerror: unknown canonicalisation in c=" },
        { "c=relaxed/relaxed;", "c=;", "permerror: unknown canonicalisation in c=" },
        { "d=example.org;", "", "permerror: d= is missing" },
        { "d=example.org;", "d=;", "permerror: d= is not a domain name" },
        { "d=example.org;", "d=org;", "permerror: d= is not a domain name" },
        { "d=example.org;", "d=.example.org;", "permerror: d= is not a domain name" },
        { "d=example.org;", "d=example..org;", "permerror: d= is not a domain name" },
        { "d=example.org;", "d=example.org.;", "permerror: d= is not a domain name" },
        { "d=example.org;", "d=exa mple.org;", "permerror: d= is not a domain name" },
        { "d=example.org;", "d=[192.0.2.1];", "permerror: d= is not a domain name" },
        { "d=example.org;", "d=a%0a.org;", "permerror: d= is not a domain name" },
        { "d=example.org;", "d=example.com;", "permerror: no key" },
        { "s=rsa;", "", "permerror: s= is missing" },
        { "s=rsa;", "s=;", "permerror: s= is not a selector" },
        { "s=rsa;", "s=a..b;", "permerror: s= is not a selector" },
        { "s=rsa;", "s=/etc/passwd;", "permerror: s= is not a selector" },
        { "s=rsa;", "s=none;", "permerror: no key" },
        { "s=rsa;", "s=RSA;", "fail: signature did not verify" },
        { "h=from:to;", "", "permerror: h= is missing" },
        { "h=from:to;", "h=;", "permerror: h= is malformed" },
        { "h=from:to;", "h=from::to;", "permerror: h= is malformed" },
        { "h=from:to;", "h=from:;", "permerror: h= is malformed" },
        { "h=from:to;", "h=:from;", "permerror: h= is malformed" },
        { "h=from:to;", "h=fr om:from;", "permerror: h= is malformed" },
        { "h=from:to;", "h=to:subject;", "permerror: h= does not name From" },
        { "h=from:to;", "h=FROM:to;", "fail: signature did not verify" },
        { "h=from:to;", "h=from;", "fail: signature did not verify" },
        { "bh=", "hb=", "permerror: bh= is missing" },
        { "bh=", "bh=A", "permerror: bh= is not the base64 of a SHA-256 hash" },
        { "bh=", "bh=AAAA", "permerror: bh= is not the base64 of a SHA-256 hash" },
        { "bh=", "bh=!", "permerror: bh= is not the base64 of a SHA-256 hash" },
        { "bh=", "bh=;x=", "permerror: bh= is not the base64 of a SHA-256 hash" },
        { " b=", " y=", "permerror: b= is missing" },
        { " b=", " b=; y=", "permerror: b= is empty" },
        { " b=", " b==", "permerror: b= is not base64" },
        { " b=", " b=A", "permerror: b= is not base64" },
        { " b=", " b=*", "permerror: b= is not base64" },
        { " b=", " b=AAAA", "fail: signature did not verify" },
        { " b=", " b =", "permerror: white space between b and =" },
        { " b=", " ab=x; b=", "permerror: an unknown tag whose name ends in b" },
        { " b=", " B=x; b=", "permerror: tag names that differ in case alone" },
        { " b=", " i=joe; b=", "permerror: i= has no domain" },
        { " b=", " i=joe@example.com; b=",
          "permerror: the domain of i= is not that of d= or below it" },
        { " b=", " i=joe@notexample.org; b=",
          "permerror: the domain of i= is not that of d= or below it" },
        { " b=", " i=joe@.example.org; b=",
          "permerror: the domain of i= is not that of d= or below it" },
        { " b=", " i=@org; b=",
          "permerror: the domain of i= is not that of d= or below it" },
        { " b=", " i=a@b@example.org; b=", "permerror: i= is malformed" },
        { " b=", " i=@example.org; b=", "fail: signature did not verify" },
        { " b=", " l=; b=", "permerror: l= is no number" },
        { " b=", " l=-1; b=", "permerror: l= is no number" },
        { " b=", " l=1x; b=", "permerror: l= is no number" },
        { " b=", " l=99999999999999999999999999; b=",
          "permerror: l= is more than the body has" },
        { " b=", " l=18446744073709551615; b=",
          "permerror: l= is more than the body has" },
        { " b=", " q=dns/txt:x; b=", "fail: signature did not verify" },
        { " b=", " q=http; b=", "permerror: no known method in q=" },
        { " b=", " q=; b=", "permerror: no known method in q=" },
        { " b=", " t=x; b=", "permerror: t= is no time" },
        { " b=", " t=; b=", "permerror: t= is no time" },
        { " b=", " t=-1; b=", "permerror: t= is no time" },
        { " b=", " t=99999999999; b=", "policy: signed in the future" },
        { " b=", " x=; b=", "permerror: x= is no time" },
        { " b=", " x=1600000000; b=", "fail: signature expired" },
        { " b=", " t=1600000000; x=1600000000; b=", "permerror: x= is not after t=" },
        { " b=", " t=1600000000; x=99999999999; b=", "fail: signature did not verify" },
    };
    struct message m = plain_message();
    struct signer s = signer();

    set_up();
    s.names = "from:to";
    s.key = rsa;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char what[200], *value = sign(&m, &s);
        snprintf(what, sizeof(what), "\"%s\" for \"%s\"", cases[i].by, cases[i].old);
        replace(&value, cases[i].old, cases[i].by);
        check_mutation(what, value, cases[i].want);
        free(value);
    }
    check_mutation("nothing in it", "",
                   "permerror: malformed: no tag name where one should be");
    check_mutation("a word", " x", "permerror: malformed: a tag without \"=\"");
    free_message(&m);
}

/* Tags that a signature may have, signed. */
static void test_tags(void)
{
    char t_now[64], x_soon[64], x_drift[64];
    const struct {
        const char *extra, *want;
    } cases[] = {
        { t_now, "pass" },
        { x_soon, "pass" },
        { x_drift, "pass" },
        { " i=joe@example.org;", "pass" },
        { " i=@sub.EXAMPLE.org;", "pass" },
        { " q=dns/txt;", "pass" },
        { " q=x/y : dns/txt;", "pass" },
        { " z=From:joe@example.org|To:x;", "pass" },
        { " unknown=1; xb_=y;", "pass" },
        { " i=joe=20x@example.org;", "pass" },
    };
    set_up();
    snprintf(t_now, sizeof(t_now), " t=%lld;", (long long)time(NULL) + 200);
    snprintf(x_soon, sizeof(x_soon), " t=1600000000; x=%lld;", (long long)time(NULL) + 5);
    snprintf(x_drift, sizeof(x_drift), " x=%lld;", (long long)time(NULL) - 200);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message m = plain_message();
        struct signer s = signer();
        s.extra = cases[i].extra;
        add_signature(&m, &s);
        check_message(cases[i].extra, &m, cases[i].want);
        free_message(&m);
    }
}

static void test_length(void)
{
    /* canonical: " a b\r\n\r\nc\r\n" (11) relaxed, " a  b \r\n\r\nc\r\n" (13) simple */
    static const char body[] = " a  b \r\n\r\nc\r\n\r\n";
    static const struct {
        const char *canon;
        long length;
        const char *want;
    } cases[] = {
        { "relaxed/relaxed", 11, "pass: l= covers the whole body" },
        { "relaxed/relaxed", 10, "policy: l= leaves part of the body unsigned" },
        { "relaxed/relaxed", 0, "policy: l= leaves part of the body unsigned" },
        { "relaxed/relaxed", 12, "permerror: l= is more than the body has" },
        { "relaxed/simple", 13, "pass: l= covers the whole body" },
        { "relaxed/simple", 5, "policy: l= leaves part of the body unsigned" },
        { "relaxed/simple", 14, "permerror: l= is more than the body has" },
    };
    set_up();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char what[64];
        struct message m = plain_message();
        struct signer s = signer();
        set_body(&m, body, strlen(body));
        s.canon = cases[i].canon;
        s.length = cases[i].length;
        add_signature(&m, &s);
        snprintf(what, sizeof(what), "%s l=%ld", s.canon, s.length);
        check_message(what, &m, cases[i].want);
        /* what is added is not covered; the others do not suffer */
        s.length = -1;
        add_signature(&m, &s);
        struct outcome out;
        for (size_t chunk = 1; chunk < 8; chunk++) {
            verify_in_chunks(&m, chunk, &out);
            check_one(what, &out.list[0], "pass");
            check_one(what, &out.list[1], cases[i].want);
        }
        free_message(&m);
    }
}

static void test_length_empty(void)
{
    static const struct {
        const char *canon;
        long length;
        const char *want;
    } cases[] = {
        { "relaxed/relaxed", 0, "pass: l= covers the whole body" },
        { "relaxed/simple", 2, "pass: l= covers the whole body" },
        { "relaxed/simple", 0, "policy: l= leaves part of the body unsigned" },
    };
    set_up();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message m = plain_message();
        struct signer s = signer();
        set_body(&m, "", 0);
        s.canon = cases[i].canon;
        s.length = cases[i].length;
        add_signature(&m, &s);
        check_message(s.canon, &m, cases[i].want);
        free_message(&m);
    }
}

/* Key records: tags before p=, and what becomes of a good signature. */
static void test_key_tags(void)
{
    static const struct {
        const char *tags, *extra, *want;
        bool ed;
    } cases[] = {
        { "", "", "pass", false },
        { "v=DKIM1;", "", "pass", false },
        { "k=rsa;", "", "pass", false },
        { "v=DKIM1; k=rsa; s=email; h=sha256; t=s; n=note;", "", "pass", false },
        { "v=DKIM1; k=rsa; s=*; h=sha1:sha256;", "", "pass", false },
        { "v=DKIM1; h=sha1;", "", "permerror: the key does not allow sha256 (h=)",
          false },
        { "v=DKIM1; h=sha2569;", "", "permerror: the key does not allow sha256 (h=)",
          false },
        { "v=DKIM1; s=tlsrpt;", "", "permerror: the key is not for mail (s=)", false },
        { "v=DKIM1; s=tlsrpt:email;", "", "pass", false },
        { "v=DKIM2;", "", "permerror: key record: v= is not DKIM1, or not the first tag",
          false },
        { "v=dkim1;", "", "permerror: key record: v= is not DKIM1, or not the first tag",
          false },
        { "k=rsa; v=DKIM1;", "",
          "permerror: key record: v= is not DKIM1, or not the first tag", false },
        { "v=DKIM1; k=dsa;", "",
          "permerror: key record: unknown kind of key in k=", false },
        { "v=DKIM1; k=;", "", "permerror: key record: unknown kind of key in k=", false },
        { "v=DKIM1; k=ed25519;", "", "permerror: key record: p= is no Ed25519 key",
          false },
        { "v=DKIM1;;", "", "permerror: key record: no tag name where one should be",
          false },
        { "v=DKIM1; p=; ", "", "permerror: key record: a tag twice", false },
        { "v=DKIM1; t=y;", "", "pass: the key is in test mode", false },
        { "v=DKIM1; t=y:s;", "", "pass: the key is in test mode", false },
        { "v=DKIM1; t=s;", " i=joe@example.org;", "pass", false },
        { "v=DKIM1; t=s;", " i=joe@sub.example.org;",
          "permerror: the key is not for subdomains in i= (t=s)", false },
        { "v=DKIM1; t=x;", " i=joe@sub.example.org;", "pass", false },
        { "v=DKIM1; k=ed25519;", "", "pass", true },
        { "k=ed25519;", "", "pass", true },
        { "v=DKIM1;", "", "permerror: key record: p= is no RSA key", true },
        { "v=DKIM1; k=rsa;", "", "permerror: key record: p= is no RSA key", true },
    };
    set_up();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char selector[16];
        struct message m = plain_message();
        struct signer s = signer();
        snprintf(selector, sizeof(selector), "tags%zu", i);
        s.key = cases[i].ed ? ed : rsa;
        s.selector = selector;
        s.extra = cases[i].extra;
        put_key(selector, cases[i].tags, s.key);
        add_signature(&m, &s);
        check_message(cases[i].tags, &m, cases[i].want);
        free_message(&m);
    }
}

/* Whole records, for a good rsa signature. */
static void test_key_records(void)
{
    static const struct {
        const char *record, *want;
    } cases[] = {
        { "v=DKIM1; k=rsa; p=", "permerror: the key has been revoked" },
        { "v=DKIM1; p=;", "permerror: the key has been revoked" },
        { "v=DKIM1; k=rsa", "permerror: key record: p= is missing" },
        { "v=DKIM1; k=rsa; p=AAAA", "permerror: key record: p= is no RSA key" },
        { "v=DKIM1; k=rsa; p=AAA", "permerror: key record: p= is not base64" },
        { "v=DKIM1; k=rsa; p=%%%%", "permerror: key record: p= is not base64" },
        { "v=DKIM1; k=rsa; p", "permerror: key record: a tag without \"=\"" },
        { "", "permerror: key record: no tag name where one should be" },
        { "v=spf1 -all", "permerror: key record: v= is not DKIM1, or not the first tag" },
        { "\xff\xfe", "permerror: key record: no tag name where one should be" },
        { "v=DKIM1; p=\xff", "permerror: key record: a byte that is not ASCII" },
        { "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
          "permerror: the key is for ed25519, not for rsa" },
    };
    set_up();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char selector[16];
        struct message m = plain_message();
        struct signer s = signer();
        snprintf(selector, sizeof(selector), "rec%zu", i);
        s.selector = selector;
        put_record(selector, cases[i].record);
        add_signature(&m, &s);
        check_message(cases[i].record, &m, cases[i].want);
        free_message(&m);
    }
}

static void test_rsa_for_ed25519(void)
{
    struct message m = plain_message();
    struct signer s = signer();

    set_up();
    s.key = ed;
    add_signature(&m, &s);
    check_message("an rsa key", &m, "permerror: the key is for rsa, not for ed25519");
    free_message(&m);
}

static EVP_PKEY *rsa_with_exponent(const char *hex)
{
    BIGNUM *e = NULL;
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, NULL);

    BN_hex2bn(&e, hex);
    EVP_PKEY_keygen_init(ctx);
    EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, 1024);
    EVP_PKEY_CTX_set1_rsa_keygen_pubexp(ctx, e);
    EVP_PKEY_keygen(ctx, &key);
    EVP_PKEY_CTX_free(ctx);
    BN_free(e);
    return key;
}

static void check_key(const char *what, EVP_PKEY *key, const char *selector,
                      const char *want)
{
    struct message m = plain_message();
    struct signer s = signer();

    s.key = key;
    s.selector = selector;
    put_key(selector, "v=DKIM1; ", key);
    add_signature(&m, &s);
    check_message(what, &m, want);
    free_message(&m);
}

static void test_key_sizes(void)
{
    set_up();
    check_key("512", rsa512, "k512", "policy: an RSA key of 512 bits is too short");
    check_key("1024", rsa1024, "k1024", "pass");
    EVP_PKEY *big = EVP_RSA_gen(4096), *huge = EVP_RSA_gen(4104),
             *slow = rsa_with_exponent("10000000000000000F"),
             *edge = rsa_with_exponent("FFFFFFFFFFFFFFC5"),
             *three = rsa_with_exponent("3");
    check_key("4096", big, "k4096", "pass");
    check_key("4104", huge, "k4104", "policy: an RSA key of 4104 bits is too long");
    check_key("a slow exponent", slow, "kslow",
              "permerror: key record: the exponent of the RSA key is not accepted");
    check_key("a long exponent", edge, "kedge", "pass");
    check_key("exponent 3", three, "kthree", "pass");
    check_key("not its key", rsa_other, "kother", "pass");
    EVP_PKEY_free(big);
    EVP_PKEY_free(huge);
    EVP_PKEY_free(slow);
    EVP_PKEY_free(edge);
    EVP_PKEY_free(three);
}

/* RFC 6376 3.6.1 asks for an RSAPublicKey, its examples have the other form. */
static void test_bare_rsa_key(void)
{
    struct message m = plain_message();
    struct signer s = signer();
    struct text record = { 0 };
    unsigned char *der = NULL;

    set_up();
    s.key = rsa;
    int n = i2d_PublicKey(rsa, &der);
    put_text(&record, "p=");
    put_base64(&record, der, (size_t)n);
    put_record("bare", record.data);
    s.selector = "bare";
    add_signature(&m, &s);
    check_message("RSAPublicKey", &m, "pass");
    OPENSSL_free(der);
    free(record.data);
    free_message(&m);
}

static void test_several_records(void)
{
    struct message m = plain_message();
    struct signer s = signer();
    struct text record = { 0 };
    char *p;

    set_up();
    p = public_text(rsa);
    put_text(&record, "v=DKIM1; p=");
    put_text(&record, p);
    const char *beside[] = { "v=spf1 -all", record.data, "google-site-verification=1" };
    const char *twice[] = { record.data, "v=DKIM1; p=" };
    const char *none[] = { "v=spf1 -all", "x" };
    static const char name[] = "several._domainkey.example.org";
    s.key = rsa;
    s.selector = "several";
    add_signature(&m, &s);
    put_txt(name, beside, 3);
    check_message("other TXT records beside it", &m, "pass");
    put_txt(name, twice, 2);
    check_message("two key records", &m, "permerror: several key records");
    put_txt(name, none, 2);
    check_message("none of them", &m, "permerror: no key record among the TXT records");
    free(p);
    free(record.data);
    free_message(&m);
}

static void test_dns(void)
{
    static const struct {
        enum answer_kind kind;
        const char *want;
    } cases[] = {
        { ANSWER_NXDOMAIN, "permerror: no key" },
        { ANSWER_NODATA, "permerror: no key" },
        { ANSWER_FAILED, "temperror: no answer about the key: " },
    };
    static const unsigned char huge[3] = { 255, 'v', '=' };
    struct answer_record record = { huge, sizeof(huge) };
    struct message m = plain_message();
    struct signer s = signer();
    struct outcome out;

    set_up();
    s.key = rsa;
    s.selector = "dns";
    add_signature(&m, &s);
    for (size_t i = 0; i < 3; i++) {
        resolver_put(resolver, "dns._domainkey.example.org", RR_TXT, cases[i].kind, NULL,
                     0);
        verify(&m, &out);
        if (cases[i].kind != ANSWER_FAILED)
            check_one("dns", &out.list[0], cases[i].want);
        CHECK_INT("dns", out.list[0].result,
                  cases[i].kind == ANSWER_FAILED ? AUTH_TEMPERROR : AUTH_PERMERROR);
    }
    resolver_put(resolver, "dns._domainkey.example.org", RR_TXT, ANSWER_DATA, &record, 1);
    check_message("malformed RDATA", &m,
                  "permerror: the key record is malformed or too long");
    free_message(&m);
}

/* A server that never answers: the message's deadline ends the wait. */
static void test_deadline(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t len = sizeof(address);
    struct conf_server server = { .port = 0 };
    struct conf_auth auth = { .servers = &server,
                              .server_count = 1,
                              .query_timeout = 5000 };
    char error[256] = "";
    size_t count = 0, beyond = 0;
    struct message m = plain_message();
    struct signer sign_with = signer();

    set_up();
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CU_ASSERT_FATAL(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 &&
                    getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    server.port = ntohs(address.sin_port);
    CU_ASSERT(netaddr_parse("127.0.0.1", 9, &server.address));
    struct resolver *silent = resolver_new(&auth, error, sizeof(error));
    CHECK_STR("resolver", error, "");
    struct dkim_verifier *late = dkim_verifier_new(silent, 4, error, sizeof(error));
    struct signatures *s = signatures_new(late, "late");
    sign_with.key = rsa;
    add_signature(&m, &sign_with);
    add_signature(&m, &sign_with);
    for (size_t i = 0; i < m.count; i++)
        signatures_header(s, m.fields[i].name, m.fields[i].value);
    CHECK_INT("body wanted", signatures_end_of_headers(s), true);
    signatures_body(s, (const unsigned char *)m.body, m.body_len);
    int64_t began = clock_ms();
    const struct signature *list = signatures_finish(s, began + 150, &count, &beyond);
    int64_t took = clock_ms() - began;
    CHECK_INT("signatures", count, 2);
    for (size_t i = 0; i < count; i++)
        CHECK_INT(list[i].reason, list[i].result, AUTH_TEMPERROR);
    CU_ASSERT(took >= 100 && took < 2000);
    signatures_free(s);
    dkim_verifier_free(late);
    resolver_free(silent);
    close(fd);
    free_message(&m);
}

/* One verifier and its keys for all threads. */
static void *verify_often(void *argument)
{
    const struct message *m = argument;
    struct outcome out;
    long bad = 0;

    for (int i = 0; i < 200; i++) {
        verify(m, &out);
        bad += out.count != 2 || out.list[0].result != AUTH_PASS ||
               out.list[1].result != AUTH_PASS;
    }
    return (void *)(intptr_t)bad;
}

static void test_threads(void)
{
    struct message m = plain_message();
    struct signer s = signer();
    pthread_t threads[4];
    void *bad;

    set_up();
    s.key = rsa;
    add_signature(&m, &s);
    s.key = ed;
    s.selector = "ed";
    add_signature(&m, &s);
    for (int i = 0; i < 4; i++)
        CU_ASSERT_FATAL(pthread_create(&threads[i], NULL, verify_often, &m) == 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &bad);
        CHECK_INT("wrong results", (intptr_t)bad, 0);
    }
    free_message(&m);
}

/* More signatures than the limit; many broken ones; all in one message. */
static void test_many(void)
{
    struct message m = plain_message();
    struct signer s = signer();
    struct outcome out;
    char *good;

    set_up();
    s.key = ed;
    s.selector = "ed";
    good = sign(&m, &s);
    for (int i = 0; i < 499; i++)
        add_field(&m, "DKIM-Signature",
                  i % 3 == 0   ? " v=1"
                  : i % 3 == 1 ? " \xff"
                               : good,
                  true);
    verify(&m, &out);
    CHECK_INT("looked at", out.count, SIGNATURES_LIMIT);
    CHECK_INT("beyond", out.beyond, 499 - SIGNATURES_LIMIT);
    int passed = 0;
    for (size_t i = 0; i < out.count; i++)
        passed += out.list[i].result == AUTH_PASS;
    CHECK_INT("passed", passed, 11);
    free(good);
    free_message(&m);
}

/* 10,000 fields of one name and h= of the greatest size: linear, and right. */
static void test_many_fields(void)
{
    struct message m = { 0 };
    struct signer s = signer();
    struct text names = { 0 };
    struct outcome out;
    char value[80];

    set_up();
    add_field(&m, "From", " joe@example.org", false);
    for (int i = 0; i < 9000; i++) {
        snprintf(value, sizeof(value),
                 " %d and some more to come to a hundred bytes .....", i);
        add_field(&m, i % 2 ? "X-Same" : "X-Other", value, false);
    }
    set_body(&m, "a\r\n", 3);
    put_text(&names, "from");
    for (int i = 0; i < 200; i++)
        put_text(&names, ":x-same");
    s.key = ed;
    s.selector = "ed";
    s.names = names.data;
    for (int i = 0; i < 8; i++)
        add_signature(&m, &s);
    int64_t began = clock_ms();
    verify(&m, &out);
    int64_t took = clock_ms() - began;
    for (size_t i = 0; i < out.count; i++)
        check_one("many fields", &out.list[i],
                  i < 7 ? "pass"
                        : "permerror: the signatures name too many header fields");
    CU_ASSERT(took < 5000);
    free(names.data);
    free_message(&m);
}

static void test_limits(void)
{
    struct signer s = signer();
    struct text names = { 0 }, big = { 0 };

    set_up();
    s.key = rsa;
    put_text(&names, "from");
    for (int i = 1; i < SIGFIELD_NAMES_MAX; i++)
        put_text(&names, ":x");
    for (int over = 0; over < 2; over++) {
        struct message m = plain_message();
        s.names = names.data;
        add_signature(&m, &s);
        check_message("names", &m, over ? "permerror: h= names too many fields" : "pass");
        free_message(&m);
        put_text(&names, ":x");
    }
    for (size_t i = 0; i < ((size_t)1 << 20) / 64; i++)
        put_text(&big, "63 bytes and a blank: 1 MB of them in one field of the message ");
    struct message m = plain_message();
    add_field(&m, "X-Big", big.data, false);
    s.names = "from:x-big";
    add_signature(&m, &s);
    check_message("a field of 1 MB", &m, "pass");
    add_field(&m, "X-Big-Too", big.data, false);
    check_message("two of them", &m, "permerror: the header is too long");
    free_message(&m);
    m = plain_message();
    char *value = sign(&m, &s);
    struct text field = { 0 };
    put_text(&field, value);
    put_text(&field, "; z=");
    put(&field, big.data, SIGFIELD_MAX);
    add_field(&m, "DKIM-Signature", field.data, true);
    add_signature(&m, &s);
    struct outcome out;
    verify(&m, &out);
    check_one("beside a long field", &out.list[0], "pass");
    check_one("a long field", &out.list[1], "permerror: the field is too long");
    free(value);
    free(field.data);
    free(names.data);
    free(big.data);
    free_message(&m);
}

/* A line of the body that never ends. */
static void test_long_line(void)
{
    set_up();
    for (int over = 0; over < 2; over++) {
        struct message m = plain_message();
        struct signer s = signer();
        size_t len = ((size_t)1 << 20) - 1 + (size_t)over; /* CR counts */
        char *body = malloc(len);
        memset(body, 'a', len);
        set_body(&m, body, len);
        s.key = rsa;
        add_signature(&m, &s);
        check_message("long line", &m,
                      over ? "permerror: a line of the body is too long" : "pass");
        free(body);
        free_message(&m);
    }
}

/* From fields that no parser likes. */
static void test_from(void)
{
    static const char *const values[] = {
        "",
        " ",
        " joe",
        " <",
        " \"",
        " (",
        " a@b@c",
        " \xff\xfe",
        " <joe@example.org",
        " ,,,",
        " \"joe <joe@example.org>",
        " (((((joe@example.org>",
        " undisclosed:;",
        " @",
    };
    set_up();
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct message m = { 0 };
        struct signer s = signer();
        add_field(&m, "From", values[i], false);
        set_body(&m, "a\r\n", 3);
        s.key = rsa;
        add_signature(&m, &s);
        check_message(values[i], &m, "pass");
        free_message(&m);
    }
    struct message none = { 0 };
    struct signer s = signer();
    s.key = rsa;
    set_body(&none, "", 0);
    add_signature(&none, &s);
    check_message("no From at all", &none, "pass");
    free_message(&none);
}

/* A From of 1 MB that nests: time stays in bounds. */
static void test_from_big(void)
{
    static const char *const units[] = { "(", "\"", "<", "\\", "a@b,",
                                         "@", ".",  " ", "(a)" };

    set_up();
    for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++) {
        struct text value = { 0 };
        struct message m = { 0 };
        struct signer s = signer();
        while (value.len < 1000000)
            put_text(&value, units[u]);
        put_text(&value, "x");
        add_field(&m, "From", value.data, false);
        set_body(&m, "a\r\n", 3);
        s.key = rsa;
        add_signature(&m, &s);
        int64_t began = clock_ms();
        check_message(units[u], &m, "pass");
        int64_t took = clock_ms() - began;
        if (took > 5000)
            printf("\n  From of \"%s\": %lld ms\n", units[u], (long long)took);
        CU_ASSERT(took < 5000);
        free(value.data);
        free_message(&m);
    }
}

/* RFC 6008: as much of b= as tells them apart. */
static void test_header_b(void)
{
    static const struct {
        const char *b[3], *want[3];
    } cases[] = {
        { { "abcdefghijkl", "bbcdefghijkl", "cbcdefghijkl" },
          { "abcdefgh", "bbcdefgh", "cbcdefgh" } },
        { { "abcdefghijkl", "abcdefghiXkl", "cb/def+h" },
          { "abcdefghij", "abcdefghiX", "cb/def+h" } },
        { { "abcdefghijkl", "abcdefghijkl", "abcdefghX" },
          { "abcdefghijkl", "abcdefghijkl", "abcdefghX" } },
        { { "ab c\n\tdefgh ijkl", "abc", "" }, { "abcdefgh", "abc", "" } },
    };
    set_up();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message m = plain_message();
        struct outcome out;
        for (int j = 2; j >= 0; j--) {
            char value[64];
            snprintf(value, sizeof(value), " v=1; b=%s;", cases[i].b[j]);
            add_field(&m, "DKIM-Signature", value, true);
        }
        verify(&m, &out);
        for (int j = 0; j < 3; j++)
            CHECK_STR(cases[i].b[j], out.list[j].b, cases[i].want[j]);
        free_message(&m);
    }
}

static void test_forbid(void)
{
    static const struct {
        const char *names, *field;
        bool want;
    } cases[] = {
        { "from", "Authentication-Results", false },
        { "from:authentication-results", "Authentication-Results", true },
        { "from:subject", "Subject", false },
        { "from:subject:subject", "Subject", true },
        { "from:SUBJECT : Subject", "subject", true },
        { "from:received-spf:x", "Received-SPF", true },
        { "from:received-spf2:x", "Received-SPF", false },
    };
    set_up();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message m = plain_message();
        struct signer s = signer();
        s.key = rsa;
        s.names = cases[i].names;
        add_signature(&m, &s);
        struct signatures *got = signatures_new(verifier, "test");
        for (size_t f = 0; f < m.count; f++)
            signatures_header(got, m.fields[f].name, m.fields[f].value);
        CHECK_INT(cases[i].names, signatures_end_of_headers(got), true);
        CHECK_INT(cases[i].names, signatures_forbid(got, cases[i].field), cases[i].want);
        signatures_free(got);
        free_message(&m);
    }
}

static void test_nothing_to_do(void)
{
    struct message m = plain_message();
    struct outcome out;

    set_up();
    verify(&m, &out);
    CHECK_INT("no signature", out.count, 0);
    struct signatures *s = signatures_new(verifier, "test");
    signatures_header(s, "DKIM-Signature", " broken");
    CHECK_INT("needs the body", signatures_end_of_headers(s), false);
    signatures_free(s);
    s = signatures_new(verifier, "test"); /* given up at any moment */
    signatures_free(s);
    free_message(&m);
}

static void test_base64(void)
{
    static const struct {
        const char *text;
        long len;
    } cases[] = {
        { "", 0 },         { "AAAA", 3 },         { "AAA=", 2 },          { "AA==", 1 },
        { "A===", -1 },    { "====", -1 },        { "AAA", -1 },          { "AA=A", -1 },
        { "AAAA=", -1 },   { "A A\r\n\tA A", 3 }, { "AA= =", 1 },         { "AA-A", -1 },
        { "AAAAAAAA", 6 }, { "AAAAAAAAAAA=", 8 }, { "AAAAAAAAAAAA", -1 }, /* more than
                                                                             there is room
                                                                             for */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned char out[8];
        CHECK_INT(cases[i].text,
                  sigfield_base64(cases[i].text, strlen(cases[i].text), out, sizeof(out)),
                  cases[i].len);
    }
    unsigned char out[4];
    CHECK_INT("all digits", sigfield_base64("+/9z", 4, out, sizeof(out)), 3);
    CHECK_INT("their bytes", out[0] << 16 | out[1] << 8 | out[2], 0xfbff73);
}

/* More keys than are kept; those in use stay. */
static void test_kept_keys(void)
{
    struct dkimkeys *keys = dkimkeys_new();
    struct dkimkey *held;
    char record[64];

    CU_ASSERT_FATAL(keys != NULL);
    held = dkimkeys_get(keys, "v=DKIM1; p=", 11);
    for (int i = 0; i < 3 * DKIMKEY_KEPT; i++) {
        int n =
            snprintf(record, sizeof(record), "v=DKIM1; n=%d; p=", i % (2 * DKIMKEY_KEPT));
        struct dkimkey *key = dkimkeys_get(keys, record, (size_t)n);
        CU_ASSERT(key != NULL && dkimkey_facts(key)->result == AUTH_PERMERROR);
        dkimkey_drop(key);
    }
    CHECK_STR("still there", dkimkey_facts(held)->reason, "the key has been revoked");
    struct dkimkey *again = dkimkeys_get(keys, record, strlen(record));
    struct dkimkey *same = dkimkeys_get(keys, record, strlen(record));
    CU_ASSERT(again == same);
    dkimkey_drop(again);
    dkimkey_drop(same);
    dkimkeys_free(keys);
    dkimkey_drop(held);
}

static void test_is_record(void)
{
    static const struct {
        const char *text;
        bool want;
    } cases[] = {
        { "v=DKIM1; p=", true }, { "p=AAAA", true },
        { "k=rsa; p=", true },   { "v=spf1 -all", false },
        { "v=DKIM1; p", true },  { "x=y", false },
        { "", false },           { "v=DMARC1; p=none", false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT(cases[i].text, dkimkey_is_record(cases[i].text, strlen(cases[i].text)),
                  cases[i].want);
}

static void tear_down(void)
{
    dkim_verifier_free(verifier);
    resolver_free(resolver);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(rsa_other);
    EVP_PKEY_free(rsa512);
    EVP_PKEY_free(rsa1024);
    EVP_PKEY_free(ed);
    verifier = NULL;
    CU_PASS("done");
}

UNIT_MAIN("signatures", { "RFC 8463 example", test_rfc8463 },
          { "canonicalisation", test_canonicalisation }, { "chunks", test_chunks },
          { "NUL", test_nul }, { "changes", test_changes },
          { "selection", test_selection },
          { "every field named", test_every_field_named },
          { "signed signature", test_signed_signature }, { "mutations", test_mutations },
          { "tags", test_tags }, { "l=", test_length },
          { "l= of an empty body", test_length_empty }, { "key tags", test_key_tags },
          { "key records", test_key_records },
          { "rsa key for ed25519", test_rsa_for_ed25519 },
          { "key sizes", test_key_sizes }, { "RSAPublicKey", test_bare_rsa_key },
          { "several records", test_several_records }, { "dns", test_dns },
          { "deadline", test_deadline }, { "threads", test_threads },
          { "many signatures", test_many }, { "many fields", test_many_fields },
          { "limits", test_limits }, { "long line", test_long_line },
          { "From", test_from }, { "From of 1 MB", test_from_big },
          { "header.b", test_header_b }, { "forbid", test_forbid },
          { "nothing to do", test_nothing_to_do }, { "base64", test_base64 },
          { "kept keys", test_kept_keys }, { "key records told apart", test_is_record },
          { "end", tear_down })
