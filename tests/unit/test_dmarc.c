/*
 * DMARC: records, organisational domains, alignment, and whole messages over a
 * resolver of the test's own, which keeps what was asked of it and in which order.
 */
#include <stdlib.h>
#include <time.h>

#include "../../milter/dmarc.h"
#include "../../milter/dmarc_align.h"
#include "../../milter/dmarc_record.h"
#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- a resolver ---------------------------------------------------------- */

/* What is not in the zone is NXDOMAIN. */
struct zone_record {
    const char *name; /* as asked; NULL: the end */
    const char *text; /* of a TXT record; or one of the two below */
};
#define NODATA "(nodata)"
#define FAILS  "(fails)"

struct resolver {
    const struct zone_record *zone;
    char asked[2048]; /* names, '|' once it waits for the first of them */
    bool waited;
};

struct query {
    struct resolver *resolver;
    char name[300];
    enum rr_type type;
    struct answer *answer;
    unsigned char data[4][6000];
};

static unsigned queries_alive;

struct query *resolver_ask(struct resolver *resolver, const char *name, enum rr_type type)
{
    struct query *query = calloc(1, sizeof(*query));
    size_t used = strlen(resolver->asked);

    if (!query)
        abort();
    queries_alive++;
    query->resolver = resolver;
    query->type = type;
    snprintf(query->name, sizeof(query->name), "%s", name);
    snprintf(
        resolver->asked + used, sizeof(resolver->asked) - used, "%s%s%s", used ? " " : "",
        type == RR_TXT ? "" : "A:", strncmp(name, "_dmarc.", 7) == 0 ? name + 7 : name);
    return query;
}

static size_t txt_wire(const char *text, unsigned char *out)
{
    size_t used = 0, len = strlen(text);

    do {
        size_t part = len < 255 ? len : 255;
        out[used++] = (unsigned char)part;
        memcpy(out + used, text, part);
        used += part;
        text += part;
        len -= part;
    } while (len);
    return used;
}

const struct answer *query_wait(struct query *query, int64_t deadline_ms)
{
    struct answer *answer = calloc(1, sizeof(*answer) + 4 * sizeof(struct answer_record));
    size_t used = strlen(query->resolver->asked);

    (void)deadline_ms;
    if (!query->resolver->waited)
        snprintf(query->resolver->asked + used, sizeof(query->resolver->asked) - used,
                 " |");
    query->resolver->waited = true;
    if (!answer)
        abort();
    free(query->answer);
    query->answer = answer;
    answer->kind = ANSWER_NXDOMAIN;
    for (const struct zone_record *r = query->resolver->zone; r && r->name; r++) {
        if (strcmp(r->name, query->name) != 0)
            continue;
        answer->kind = strcmp(r->text, FAILS) == 0 ? ANSWER_FAILED
                       : strcmp(r->text, NODATA) == 0 || query->type != RR_TXT
                           ? ANSWER_NODATA
                           : ANSWER_DATA;
        answer->trouble = answer->kind == ANSWER_FAILED ? "SERVFAIL" : NULL;
        if (answer->kind != ANSWER_DATA)
            break;
        unsigned char *data = query->data[answer->count];
        answer->records[answer->count++] =
            (struct answer_record){ data, txt_wire(r->text, data) };
    }
    return answer;
}

void query_drop(struct query *query)
{
    if (!query)
        return;
    queries_alive--;
    free(query->answer);
    free(query);
}

/* ---- records ------------------------------------------------------------- */

static void describe(const struct dmarc_record *r, char *out, size_t size)
{
    static const char *const psd[] = { "u", "y", "n" };
    snprintf(out, size, "%s p=%s sp=%s%s np=%s%s adkim=%c aspf=%c pct=%d psd=%s t=%c",
             r->usable ? "ok" : "no", dmarc_policy_name(r->p), dmarc_policy_name(r->sp),
             r->has_sp ? "" : "*", dmarc_policy_name(r->np), r->has_np ? "" : "*",
             r->adkim_strict ? 's' : 'r', r->aspf_strict ? 's' : 'r', r->pct, psd[r->psd],
             r->testing ? 'y' : 'n');
}

static void test_claims(void)
{
    static const struct {
        const char *text;
        bool claims;
    } cases[] = {
        { "v=DMARC1", true },
        { "v=DMARC1;", true },
        { "v = DMARC1 ; p=none", true },
        { "V\t=\tDMARC1\t;p=none", true },
        { "v=DMARC1;p=none", true },
        { " v=DMARC1;p=none", false },
        { "v=dmarc1;p=none", false },
        { "v=DMARC10;p=none", false },
        { "v=DMARC1 p=none", false },
        { "v=DMARC", false },
        { "v=", false },
        { "v", false },
        { "", false },
        { ";v=DMARC1", false },
        { "p=none;v=DMARC1", false },
        { "x=1;v=DMARC1", false },
        { "v=spf1 -all", false },
        { "\"v=DMARC1;p=none\"", false },
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        CHECK_INT(cases[i].text,
                  dmarc_record_claims(cases[i].text, strlen(cases[i].text)),
                  cases[i].claims);
}

static void test_records(void)
{
    static const struct {
        const char *text, *list, *walk; /* after "v=DMARC1"; NULL: as before it */
    } cases[] = {
        { ";p=none", "ok p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n",
          NULL },
        { "; p = REJECT ; sp\t=\tQuarantine;adkim=S;aspf=s;pct=40",
          "ok p=reject sp=quarantine np=quarantine* adkim=s aspf=s pct=40 psd=u t=n",
          "ok p=reject sp=quarantine np=quarantine* adkim=s aspf=s pct=100 psd=u t=n" },
        { ";p=quarantine;np=reject;psd=y;t=y",
          "ok p=quarantine sp=quarantine* np=quarantine* adkim=r aspf=r pct=100 psd=u "
          "t=n",
          "ok p=quarantine sp=quarantine* np=reject adkim=r aspf=r pct=100 psd=y t=y" },
        { ";p=reject;psd=N;t=N;sp=none;np=quarantine",
          "ok p=reject sp=none np=none* adkim=r aspf=r pct=100 psd=u t=n",
          "ok p=reject sp=none np=quarantine adkim=r aspf=r pct=100 psd=n t=n" },
        /* any order, unknown tags, empty ones, what is no tag */
        { ";rua=mailto:a@b.example;x=1;;aspf=s; ;foo;=;=x;p=reject;",
          "ok p=reject sp=reject* np=reject* adkim=r aspf=s pct=100 psd=u t=n", NULL },
        /* other tags that are not valid: their defaults (libopendmarc refuses all) */
        { ";p=reject;adkim=x;aspf=strict;pct=5x;rf=mailto:a@b;fo=z;ri=abc;psd=x;t=x",
          "ok p=reject sp=reject* np=reject* adkim=r aspf=r pct=100 psd=u t=n", NULL },
        { ";p=reject;pct=0",
          "ok p=reject sp=reject* np=reject* adkim=r aspf=r pct=0 "
          "psd=u t=n",
          "ok p=reject sp=reject* np=reject* adkim=r aspf=r pct=100 psd=u t=n" },
        { ";p=none;pct=101",
          "ok p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u "
          "t=n",
          NULL },
        { ";p=none;pct=-1",
          "ok p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u "
          "t=n",
          NULL },
        { ";p=none;pct=", "ok p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n",
          NULL },
        { ";p=none;pct=4294967297",
          "ok p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n", NULL },
        /* given twice */
        { ";p=reject;adkim=s;adkim=s;pct=1;pct=1",
          "ok p=reject sp=reject* np=reject* adkim=r aspf=r pct=100 psd=u t=n", NULL },
        { ";p=none;p=reject",
          "no p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u "
          "t=n",
          NULL },
        /* policies that are not valid, with and without a place to report to */
        { ";p=r", "no p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n", NULL },
        { ";p=rej ect", "no p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n",
          NULL },
        { ";p=", "no p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n", NULL },
        { ";p=rejected;rua=mailto:a@b.example;adkim=s",
          "ok p=none sp=none* np=none* adkim=s aspf=r pct=100 psd=u t=n", NULL },
        { ";p=reject;sp=bob;rua=mailto:a@b.example",
          "ok p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n", NULL },
        { ";p=reject;np=bob",
          "ok p=reject sp=reject* np=reject* adkim=r aspf=r pct=100 psd=u t=n",
          "no p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n" },
        { ";p=reject;np=bob;psd=y;rua=https://b.example/dmarc",
          "ok p=reject sp=reject* np=reject* adkim=r aspf=r pct=100 psd=u t=n",
          "ok p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=y t=n" },
        { "", "no p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n",
          "ok p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n" },
        { ";sp=reject", "no p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n",
          "ok p=none sp=reject np=reject* adkim=r aspf=r pct=100 psd=u t=n" },
        { ";sp=reject;rua=mailto:a@b.example",
          "ok p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n",
          "ok p=none sp=reject np=reject* adkim=r aspf=r pct=100 psd=u t=n" },
        { ";p=x;rua=, ,x, mailto:a@b.example!10m,y",
          "ok p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n", NULL },
        { ";p=x;rua=mailto:;rua=a@b;rua=:x;rua=mailto:a;rua=mailto:@b;rua=1:x",
          "no p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n", NULL },
        { ";p=x;rua=mailto:a b@c.example;rua=mailto:a@;rua=ma/il:x;rua=mailto:a@b\x80",
          "no p=none sp=none* np=none* adkim=r aspf=r pct=100 psd=u t=n", NULL },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (int walk = 0; walk < 2; walk++) {
            char text[512], got[256];
            struct dmarc_record record;
            int len = snprintf(text, sizeof(text), "v=DMARC1%s", cases[i].text);
            char *exact = malloc((size_t)len);
            memcpy(exact, text, (size_t)len);
            dmarc_record_parse(exact, (size_t)len,
                               walk ? DISCOVERY_TREEWALK : DISCOVERY_PSL, &record);
            describe(&record, got, sizeof(got));
            CHECK_STR(text, got, walk && cases[i].walk ? cases[i].walk : cases[i].list);
            free(exact);
        }
    }
}

/* Records of random pieces, and long ones: nothing to expect but no harm. */
static void test_hostile_records(void)
{
    static const char *const pieces[] = {
        ";",     "=",          "p",        "p=",     "reject", " ",       "\t",    ",",
        "rua",   "mailto:a@b", "!",        "pct",    "999",    "sp=",     "\xff",  "%",
        "fo=1:", "rf=afrf",    "v=DMARC1", "adkim=", "s",      "np=none", "psd=y", ":"
    };
    static char text[DMARC_RECORD_MAX];
    unsigned seed = 7;

    for (int round = 0; round < 20000; round++) {
        size_t len = 8, wanted = round % 100 ? (size_t)(round % 90) : sizeof(text) - 16;
        memcpy(text, "v=DMARC1", 8);
        while (len < wanted) {
            seed = seed * 1103515245u + 12345u;
            const char *piece = pieces[(seed >> 16) % COUNT(pieces)];
            memcpy(text + len, piece, strlen(piece));
            len += strlen(piece);
        }
        struct dmarc_record record;
        char *exact = malloc(len);
        memcpy(exact, text, len);
        dmarc_record_parse(exact, len, round & 1 ? DISCOVERY_PSL : DISCOVERY_TREEWALK,
                           &record);
        free(exact);
        if (record.pct < 0 || record.pct > 100 || (!record.usable && !record.trouble))
            CU_FAIL("a record that is not sound");
    }
    CU_PASS("hostile records");
}

/* ---- organisational domains ---------------------------------------------- */

static void test_list(void)
{
    static const struct {
        const char *name, *organisation;
        bool is_public;
    } cases[] = {
        { "com", "com", true },
        { "example.com", "example.com", false },
        { "a.b.example.com", "example.com", false },
        { "co.uk", "co.uk", true },
        { "example.co.uk", "example.co.uk", false },
        { "mail.example.co.uk", "example.co.uk", false },
        /* wildcards and their exceptions */
        { "mm", "mm", true },
        { "com.mm", "com.mm", true },
        { "a.com.mm", "a.com.mm", false },
        { "x.a.com.mm", "a.com.mm", false },
        { "c.kobe.jp", "c.kobe.jp", true },
        { "b.c.kobe.jp", "b.c.kobe.jp", false },
        { "a.b.c.kobe.jp", "b.c.kobe.jp", false },
        { "city.kobe.jp", "city.kobe.jp", false },
        { "www.city.kobe.jp", "city.kobe.jp", false },
        { "ck", "ck", true },
        { "shop.ck", "shop.ck", true },
        { "www.ck", "www.ck", false },
        { "www.www.ck", "www.ck", false },
        { "mail.shop.ck", "mail.shop.ck", false },
        /* private suffixes */
        { "github.io", "github.io", true },
        { "alice.github.io", "alice.github.io", false },
        { "x.alice.github.io", "alice.github.io", false },
        { "blogspot.com", "blogspot.com", true },
        { "x.alice.blogspot.com", "alice.blogspot.com", false },
        /* A-labels: the suffixes of CN and RF, and U-labels below them */
        { "xn--55qx5d.cn", "xn--55qx5d.cn", true },
        { "xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn", false },
        { "www.xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn", false },
        { "xn--p1ai", "xn--p1ai", true },
        { "a.b.xn--p1ai", "b.xn--p1ai", false },
        /* not listed: the rule "*" */
        { "example", "example", true },
        { "local.example", "local.example", false },
        { "a.local.example", "local.example", false },
        { "localhost", "localhost", true },
        { "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.example.co.uk",
          "example.co.uk", false },
        { "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.b.c.kobe.jp",
          "b.c.kobe.jp", false },
    };
    struct suffixes *suffixes = suffixes_new();
    CU_ASSERT_PTR_NOT_NULL_FATAL(suffixes);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char out[ADDR_DOMAIN_MAX + 1];
        suffixes_organisation(suffixes, cases[i].name, out);
        CHECK_STR(cases[i].name, out, cases[i].organisation);
        CHECK_INT(cases[i].name, suffixes_is_public(suffixes, cases[i].name),
                  cases[i].is_public);
    }
    suffixes_free(suffixes);
    suffixes_free(NULL);
}

static void test_alignment(void)
{
    static const struct {
        const char *author, *identifier;
        bool strict, relaxed;
    } cases[] = {
        { "example.com", "example.com", true, true },
        { "mail.example.com", "example.com", false, true },
        { "example.com", "mail.example.com", false, true },
        { "news.example.com", "foo.example.com", false, true },
        { "news.example.com", "foo.example.net", false, false },
        { "example.com", "notexample.com", false, false },
        { "example.com", "example.com.evil.example", false, false },
        /* what libopendmarc 1.4.2 gets wrong: strict, and From at the top */
        { "example.com", "a.b.example.com", false, true },
        { "example.com", "com", false, false },
        { "a.example.com", "com", false, false },
        { "example.co.uk", "co.uk", false, false },
        { "example.co.uk", "other.co.uk", false, false },
        { "a.com.mm", "b.com.mm", false, false },
        { "a.com.mm", "com.mm", false, false },
        { "x.a.com.mm", "a.com.mm", false, true },
        { "a.c.kobe.jp", "b.c.kobe.jp", false, false },
        { "x.b.c.kobe.jp", "b.c.kobe.jp", false, true },
        { "x.city.kobe.jp", "city.kobe.jp", false, true },
        { "alice.github.io", "bob.github.io", false, false },
        { "alice.github.io", "github.io", false, false },
        { "github.io", "github.io", true, true },
        { "github.io", "alice.github.io", false, false },
        { "amazonaws.com", "x.s3.amazonaws.com", false, false },
        { "com", "example.com", false, false },
    };
    struct suffixes *suffixes = suffixes_new();
    CU_ASSERT_PTR_NOT_NULL_FATAL(suffixes);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char what[600];
        snprintf(what, sizeof(what), "%s by %s", cases[i].author, cases[i].identifier);
        char organisation[ADDR_DOMAIN_MAX + 1];
        suffixes_organisation(suffixes, cases[i].author, organisation);
        for (int strict = 0; strict < 2; strict++)
            CHECK_INT(what,
                      dmarc_aligned_by_list(suffixes, strict, cases[i].author,
                                            organisation, cases[i].identifier),
                      strict ? cases[i].strict : cases[i].relaxed);
    }
    suffixes_free(suffixes);
    CHECK_INT("within", dmarc_is_within("a.b.c", "b.c"), 1);
    CHECK_INT("within", dmarc_is_within("b.c", "b.c"), 1);
    CHECK_INT("within", dmarc_is_within("xb.c", "b.c"), 0);
    CHECK_INT("within", dmarc_is_within("c", "b.c"), 0);
}

static void test_tree_names(void)
{
    static const struct {
        const char *domain, *names;
    } cases[] = {
        { "com", "com" },
        { "a.mail.example.com", "a.mail.example.com mail.example.com example.com com" },
        { "a.b.c.d.e.f.com",
          "a.b.c.d.e.f.com b.c.d.e.f.com c.d.e.f.com d.e.f.com e.f.com f.com com" },
        { "a.b.c.d.e.f.g.com", "a.b.c.d.e.f.g.com b.c.d.e.f.g.com c.d.e.f.g.com "
                               "d.e.f.g.com e.f.g.com f.g.com g.com com" },
        { "a.b.c.d.e.f.g.h.com", "a.b.c.d.e.f.g.h.com c.d.e.f.g.h.com d.e.f.g.h.com "
                                 "e.f.g.h.com f.g.h.com g.h.com h.com com" },
        /* RFC 9989 4.10 */
        { "a.b.c.d.e.f.g.h.i.j.mail.example.com",
          "a.b.c.d.e.f.g.h.i.j.mail.example.com g.h.i.j.mail.example.com "
          "h.i.j.mail.example.com i.j.mail.example.com j.mail.example.com "
          "mail.example.com example.com com" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *names[DMARC_TREE_MAX];
        size_t count = dmarc_tree_names(cases[i].domain, names);
        char got[512] = "";
        for (size_t j = 0; j < count; j++) {
            strncat(got, j ? " " : "", sizeof(got) - strlen(got) - 1);
            strncat(got, names[j], sizeof(got) - strlen(got) - 1);
        }
        CHECK_STR(cases[i].domain, got, cases[i].names);
    }
}

/* steps: one letter for each name: '-' absent, 'u', 'y', 'n' a record with this
 * psd, '!' failed. */
static void test_tree(void)
{
    static const struct {
        const char *domain, *steps, *organisation;
    } cases[] = {
        { "example.com", "--", "example.com" },
        { "example.com", "u-", "example.com" },
        { "example.com", "uu", "com" },
        { "example.com", "-y", "example.com" },
        { "example.com", "uy", "example.com" },
        { "example.com", "y", "example.com" },
        { "com", "y", "com" },
        { "com", "u", "com" },
        { "a.mail.example.com", "-uu-", "example.com" },
        { "a.mail.example.com", "-n", "mail.example.com" },
        { "a.mail.example.com", "---y", "example.com" },
        { "a.mail.example.com", "u--y", "example.com" },
        { "a.mail.example.com", "n", "a.mail.example.com" },
        { "a.mail.example.com", "--y", "mail.example.com" },
        { "a.mail.example.com", "-y", "a.mail.example.com" },
        { "a.mail.example.com", "u---", "a.mail.example.com" },
        { "a.mail.example.com", "nuuu", "a.mail.example.com" },
        { "a.mail.example.com", "u!", NULL },
        { "a.mail.example.com", "!", NULL },
        /* one label below a psd that the walk jumped to */
        { "a.b.c.d.e.f.g.h.com", "-y", "b.c.d.e.f.g.h.com" },
        { "a.b.c.d.e.f.g.h.com", "uu------", "c.d.e.f.g.h.com" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *names[DMARC_TREE_MAX];
        struct dmarc_step steps[DMARC_TREE_MAX];
        size_t count = strlen(cases[i].steps);
        char what[64];
        dmarc_tree_names(cases[i].domain, names);
        for (size_t j = 0; j < count; j++) {
            char c = cases[i].steps[j];
            steps[j] = (struct dmarc_step){
                .name = names[j],
                .kind = c == '-'   ? DMARC_STEP_ABSENT
                        : c == '!' ? DMARC_STEP_FAILED
                                   : DMARC_STEP_RECORD,
                .psd = c == 'y'   ? DMARC_PSD_YES
                       : c == 'n' ? DMARC_PSD_NO
                                  : DMARC_PSD_UNSAID,
            };
            bool ends = c == 'y' || c == 'n' || c == '!';
            CHECK_INT("ends", dmarc_tree_ends(&steps[j]), ends);
        }
        const char *got = dmarc_tree_organisation(cases[i].domain, steps, count);
        snprintf(what, sizeof(what), "%s %s", cases[i].domain, cases[i].steps);
        CHECK_STR(what, got ? got : "(none)",
                  cases[i].organisation ? cases[i].organisation : "(none)");
    }
}

/* ---- messages ------------------------------------------------------------ */

struct message_case {
    const char *what;
    enum conf_discovery discovery;
    const char *from;
    struct zone_record zone[8];
    enum auth_result spf;
    const char *spf_domain;
    struct {
        enum auth_result result;
        const char *domain;
    } dkim[3];
    unsigned sample;
    enum from_status author;
    const char *also[3]; /* domains that From names besides */
    const char *outcome; /* result tag=policy(disposition) at, s and d: aligned */
    const char *reason;  /* a part of it; NULL: "" */
    const char *asked;   /* NULL: of no matter */
};

static void judge_case(const struct message_case *c, const struct suffixes *suffixes)
{
    struct resolver resolver = { .zone = c->zone };
    struct signature signatures[3] = { 0 };
    struct from_author author = { .status = c->author, .fields = 1 };
    struct dmarc_evidence evidence = {
        .spf = c->spf,
        .spf_domain = c->spf_domain,
        .signatures = signatures,
        .sample = c->sample,
        .author = &author,
    };
    struct dmarc_outcome out;
    char got[600];

    for (; evidence.count < 3 && c->dkim[evidence.count].domain; evidence.count++) {
        struct signature *signature = &signatures[evidence.count];
        signature->result = c->dkim[evidence.count].result;
        snprintf(signature->domain, sizeof(signature->domain), "%s",
                 c->dkim[evidence.count].domain);
    }
    struct dmarc *dmarc = dmarc_new(&resolver, suffixes, c->discovery, c->from);
    for (size_t i = 0; i < COUNT(c->also) && c->also[i]; i++)
        dmarc_add(dmarc, c->also[i]);
    memset(&out, 'x', sizeof(out));
    dmarc_finish(dmarc, &evidence, 0, &out);
    snprintf(got, sizeof(got), "%s %s=%s(%s) %s%s%s%s", auth_result_name(out.result),
             out.policy_tag, dmarc_policy_name(out.policy),
             dmarc_policy_name(out.disposition), out.record_at,
             out.spf_aligned || out.dkim_aligned ? " " : "", out.spf_aligned ? "s" : "",
             out.dkim_aligned ? "d" : "");
    CHECK_STR(c->what, got, c->outcome);
    if (!c->reason || !strstr(out.reason, c->reason))
        CHECK_STR(c->what, out.reason, c->reason ? c->reason : "");
    if (c->asked)
        CHECK_STR(c->what, resolver.asked, c->asked);
    dmarc_free(dmarc);
    CHECK_INT("queries alive", queries_alive, 0);
}

static void judge_cases(const struct message_case *cases, size_t count)
{
    struct suffixes *suffixes = suffixes_new();
    CU_ASSERT_PTR_NOT_NULL_FATAL(suffixes);
    for (size_t i = 0; i < count; i++)
        judge_case(&cases[i], suffixes);
    suffixes_free(suffixes);
}

#define AT(name) "_dmarc." name

static void test_psl(void)
{
    /* clang-format off */
    static const struct message_case cases[] = {
        { .what = "SPF passes and is aligned", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } }, .spf = AUTH_PASS,
          .spf_domain = "example.com", .outcome = "pass p=reject(none) example.com s",
          .asked = "example.com |" },
        { .what = "both, relaxed, the record at the organisational domain",
          .from = "a.mail.example.co.uk",
          .zone = { { AT("example.co.uk"), "v=DMARC1;p=reject;sp=quarantine" } },
          .spf = AUTH_PASS, .spf_domain = "BOUNCE.example.co.uk.",
          .dkim = { { AUTH_PASS, "example.co.uk" } },
          .outcome = "pass sp=quarantine(none) example.co.uk sd",
          .asked = "a.mail.example.co.uk example.co.uk |" },
        { .what = "no sp: p", .from = "mail.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } },
          .outcome = "fail p=reject(reject) example.com" },
        { .what = "the author's own record first", .from = "mail.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" },
                    { AT("mail.example.com"), "v=DMARC1;p=none;sp=reject" } },
          .outcome = "fail p=none(none) mail.example.com" },
        { .what = "one between does not count", .from = "a.b.example.com",
          .zone = { { AT("b.example.com"), "v=DMARC1;p=reject" } },
          .outcome = "none =none(none) ", .reason = "no DMARC record",
          .asked = "a.b.example.com example.com |" },
        { .what = "strict, From at the top", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject;adkim=s;aspf=s" } },
          .spf = AUTH_PASS, .spf_domain = "mail.example.com",
          .dkim = { { AUTH_PASS, "mail.example.com" } },
          .outcome = "fail p=reject(reject) example.com" },
        { .what = "strict for one", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject;adkim=s" } },
          .spf = AUTH_PASS, .spf_domain = "mail.example.com",
          .dkim = { { AUTH_PASS, "mail.example.com" } },
          .outcome = "pass p=reject(none) example.com s" },
        { .what = "d=com", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } },
          .dkim = { { AUTH_PASS, "com" } },
          .outcome = "fail p=reject(reject) example.com" },
        { .what = "one of three", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } },
          .dkim = { { AUTH_PASS, "other.example" },
                    { AUTH_FAIL, "example.com" },
                    { AUTH_PASS, "x.example.com" } },
          .outcome = "pass p=reject(none) example.com d" },
        { .what = "what did not pass", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=quarantine" } },
          .spf = AUTH_SOFTFAIL, .spf_domain = "example.com",
          .dkim = { { AUTH_POLICY, "example.com" }, { AUTH_PERMERROR, "example.com" } },
          .outcome = "fail p=quarantine(quarantine) example.com" },
        { .what = "identifiers that are no domains", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=none" } }, .spf = AUTH_PASS,
          .spf_domain = "[192.0.2.1]",
          .dkim = { { AUTH_PASS, "" }, { AUTH_PASS, "a..b" } },
          .outcome = "fail p=none(none) example.com" },
        { .what = "other TXT records", .from = "example.com",
          .zone = { { AT("example.com"), "v=spf1 -all" },
                    { AT("example.com"), "" },
                    { AT("example.com"), "v=DMARC1;p=reject" },
                    { AT("example.com"), "v=DMARC2;p=none" } },
          .outcome = "fail p=reject(reject) example.com" },
        { .what = "other TXT records alone", .from = "mail.example.com",
          .zone = { { AT("mail.example.com"), "v=spf1 -all" },
                    { AT("example.com"), "v=DMARC1;p=reject" } },
          .outcome = "fail p=reject(reject) example.com" },
        { .what = "several records", .from = "mail.example.com",
          .zone = { { AT("mail.example.com"), "v=DMARC1;p=reject" },
                    { AT("mail.example.com"), "v=DMARC1;p=reject" },
                    { AT("example.com"), "v=DMARC1;p=reject" } },
          .outcome = "none =none(none) ",
          .reason = "several DMARC records, so none: _dmarc.mail.example.com" },
        { .what = "no record", .from = "example.com", .spf = AUTH_PASS,
          .spf_domain = "example.com", .outcome = "none =none(none) ",
          .reason = "no DMARC record" },
        { .what = "invalid policy, rua", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=x;rua=mailto:a@example.com" } },
          .outcome = "fail p=none(none) example.com", .reason = "not valid: taken as" },
        { .what = "invalid policy, rua, passes", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=x;rua=mailto:a@example.com" } },
          .spf = AUTH_PASS, .spf_domain = "example.com",
          .outcome = "pass p=none(none) example.com s" },
        { .what = "invalid policy", .from = "mail.example.com",
          .zone = { { AT("mail.example.com"), "v=DMARC1;p=x" },
                    { AT("example.com"), "v=DMARC1;p=reject" } },
          .outcome = "permerror =none(none) mail.example.com", .reason = "not valid" },
        { .what = "the author's record fails", .from = "example.com",
          .zone = { { AT("example.com"), FAILS } }, .spf = AUTH_PASS,
          .spf_domain = "example.com", .outcome = "temperror =none(none) ",
          .reason = "SERVFAIL: _dmarc.example.com" },
        { .what = "the organisation's record fails", .from = "mail.example.com",
          .zone = { { AT("example.com"), FAILS } }, .outcome = "temperror =none(none) ",
          .reason = "SERVFAIL: _dmarc.example.com" },
        { .what = "a record that is not needed fails", .from = "mail.example.com",
          .zone = { { AT("mail.example.com"), "v=DMARC1;p=reject" },
                    { AT("example.com"), FAILS } },
          .outcome = "fail p=reject(reject) mail.example.com" },
        { .what = "SPF temperror, aligned", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } }, .spf = AUTH_TEMPERROR,
          .spf_domain = "a.example.com",
          .outcome = "temperror p=reject(none) example.com", .reason = "error of SPF" },
        { .what = "SPF temperror, not aligned", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } }, .spf = AUTH_TEMPERROR,
          .spf_domain = "other.example", .outcome = "fail p=reject(reject) example.com" },
        { .what = "DKIM temperror, SPF aligned", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } }, .spf = AUTH_PASS,
          .spf_domain = "example.com", .dkim = { { AUTH_TEMPERROR, "example.com" } },
          .outcome = "pass p=reject(none) example.com s" },
        { .what = "DKIM temperror", .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } }, .spf = AUTH_PASS,
          .spf_domain = "other.example", .dkim = { { AUTH_TEMPERROR, "example.com" } },
          .outcome = "temperror p=reject(none) example.com", .reason = "error of DKIM" },
        /* pct */
        { .what = "within pct", .from = "example.com", .sample = 29,
          .zone = { { AT("example.com"), "v=DMARC1;p=reject;pct=30" } },
          .outcome = "fail p=reject(reject) example.com" },
        { .what = "beyond pct, reject", .from = "example.com", .sample = 30,
          .zone = { { AT("example.com"), "v=DMARC1;p=reject;pct=30" } },
          .outcome = "fail p=reject(quarantine) example.com" },
        { .what = "beyond pct, quarantine", .from = "example.com", .sample = 99,
          .zone = { { AT("example.com"), "v=DMARC1;p=quarantine;pct=99" } },
          .outcome = "fail p=quarantine(none) example.com" },
        { .what = "pct=0", .from = "example.com", .sample = 0,
          .zone = { { AT("example.com"), "v=DMARC1;p=reject;pct=0" } },
          .outcome = "fail p=reject(quarantine) example.com" },
        { .what = "np, t and psd are not of RFC 7489", .from = "mail.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject;np=none;t=y;psd=y" } },
          .outcome = "fail p=reject(reject) example.com",
          .asked = "mail.example.com example.com |" },
        /* authors */
        { .what = "several authors", .from = "example.com", .author = FROM_SEVERAL,
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } }, .spf = AUTH_PASS,
          .spf_domain = "example.com", .outcome = "fail p=reject(reject) example.com s",
          .reason = "several authors" },
        { .what = "several authors, no record", .from = "example.com",
          .author = FROM_SEVERAL, .outcome = "none =none(none) ",
          .reason = "no DMARC record" },
        { .what = "different authors, of a domain that passes", .from = "example.com",
          .author = FROM_DIFFERENT, .also = { "example.net" },
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } }, .spf = AUTH_PASS,
          .spf_domain = "example.com", .outcome = "permerror =none(none) ",
          .reason = "different domains" },
        { .what = "different authors: the strictest policy of those that fail",
          .from = "example.net", .author = FROM_DIFFERENT,
          .also = { "example.com", "mail.example.org", "nothing.example" },
          .zone = { { AT("example.net"), "v=DMARC1;p=reject" },
                    { AT("example.com"), "v=DMARC1;p=quarantine" },
                    { AT("example.org"), "v=DMARC1;p=none;sp=reject" } },
          .spf = AUTH_PASS, .spf_domain = "example.net",
          .outcome = "permerror sp=reject(reject) example.org",
          .reason = "different domains" },
        { .what = "different authors, DNS down for one", .from = "down.example.com",
          .author = FROM_DIFFERENT, .also = { "example.com" },
          .zone = { { AT("down.example.com"), FAILS },
                    { AT("example.com"), "v=DMARC1;p=quarantine" } },
          .outcome = "permerror p=quarantine(quarantine) example.com",
          .reason = "different domains" },
        { .what = "malformed, with a domain", .from = "example.com",
          .author = FROM_MALFORMED,
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } },
          .outcome = "permerror p=reject(reject) example.com", .reason = "malformed" },
        { .what = "malformed", .from = "", .author = FROM_MALFORMED,
          .outcome = "permerror =none(none) ", .reason = "malformed", .asked = "" },
        { .what = "no author", .from = "", .author = FROM_NONE,
          .outcome = "none =none(none) ", .reason = "no author", .asked = "" },
        { .what = "no domain", .from = "", .outcome = "none =none(none) ",
          .reason = "no domain", .asked = "" },
        { .what = "NULL", .from = NULL, .outcome = "none =none(none) ",
          .reason = "no domain", .asked = "" },
        { .what = "a public suffix", .from = "co.uk",
          .zone = { { AT("co.uk"), "v=DMARC1;p=reject" } }, .spf = AUTH_PASS,
          .spf_domain = "example.co.uk", .outcome = "fail p=reject(reject) co.uk",
          .asked = "co.uk |" },
    };
    /* clang-format on */
    judge_cases(cases, COUNT(cases));
}

#define WALK .discovery = DISCOVERY_TREEWALK

static void test_treewalk(void)
{
    /* clang-format off */
    static const struct message_case cases[] = {
        { .what = "the author's own record, identical", WALK, .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" }, { AT("com"), FAILS } },
          .spf = AUTH_PASS, .spf_domain = "example.com",
          .outcome = "pass p=reject(none) example.com s", .asked = "example.com com |" },
        { .what = "the shortest name with a record", WALK, .from = "a.mail.example.com",
          .zone = { { AT("mail.example.com"), "v=DMARC1;p=none" },
                    { AT("example.com"), "v=DMARC1;p=reject;sp=quarantine" } },
          .dkim = { { AUTH_PASS, "example.com" } },
          .outcome = "pass sp=quarantine(none) example.com d",
          .asked = "a.mail.example.com mail.example.com example.com com |" },
        { .what = "psd=n", WALK, .from = "a.mail.example.com",
          .zone = { { AT("mail.example.com"), "v=DMARC1;p=reject;psd=n" },
                    { AT("example.com"), FAILS } },
          .dkim = { { AUTH_PASS, "example.com" } },
          .outcome = "fail p=reject(reject) mail.example.com" },
        { .what = "psd=y above the organisation, which has none", WALK,
          .from = "a.example.com", .zone = { { AT("com"), "v=DMARC1;p=reject;psd=y" } },
          .dkim = { { AUTH_PASS, "b.example.com" } },
          .outcome = "pass p=reject(none) com d",
          .asked = "a.example.com example.com com | b.example.com" },
        { .what = "psd=y: other organisations do not align", WALK,
          .from = "a.example.com", .zone = { { AT("com"), "v=DMARC1;p=reject;psd=y" } },
          .spf = AUTH_PASS, .spf_domain = "other.com", .dkim = { { AUTH_PASS, "com" } },
          .outcome = "fail p=reject(reject) com",
          .asked = "a.example.com example.com com |" },
        { .what = "the organisation's record before the psd's", WALK,
          .from = "a.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=quarantine" },
                    { AT("com"), "v=DMARC1;p=reject;psd=y" } },
          .outcome = "fail p=quarantine(quarantine) example.com" },
        { .what = "a record between is passed over for the psd's", WALK,
          .from = "a.b.example.com",
          .zone = { { AT("b.example.com"), "v=DMARC1;p=none" },
                    { AT("com"), "v=DMARC1;p=reject;psd=y" } },
          .outcome = "fail p=reject(reject) com" },
        { .what = "the author is a psd itself", WALK, .from = "gov.example",
          .zone = { { AT("gov.example"), "v=DMARC1;p=reject;psd=y" } }, .spf = AUTH_PASS,
          .spf_domain = "gov.example", .dkim = { { AUTH_PASS, "tax.gov.example" } },
          .outcome = "pass p=reject(none) gov.example s",
          .asked = "gov.example example |" },
        { .what = "several count as none", WALK, .from = "a.example.com",
          .zone = { { AT("a.example.com"), "v=DMARC1;p=none" },
                    { AT("a.example.com"), "v=DMARC1;p=none" },
                    { AT("example.com"), "v=DMARC1;p=reject" } },
          .outcome = "fail p=reject(reject) example.com" },
        { .what = "several and no other", WALK, .from = "a.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=none" },
                    { AT("example.com"), "v=DMARC1;p=none" } },
          .outcome = "none =none(none) ", .reason = "several DMARC records" },
        { .what = "a step that is needed fails", WALK, .from = "a.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" }, { AT("com"), FAILS } },
          .outcome = "temperror =none(none) ", .reason = "SERVFAIL: _dmarc.com" },
        { .what = "no step is needed for another TLD", WALK, .from = "a.example.com",
          .zone = { { AT("a.example.com"), "v=DMARC1;p=reject" },
                    { AT("example.com"), FAILS } }, .spf = AUTH_PASS,
          .spf_domain = "example.net", .outcome = "fail p=reject(reject) a.example.com" },
        { .what = "a failed step leaves alignment open", WALK, .from = "a.example.com",
          .zone = { { AT("a.example.com"), "v=DMARC1;p=reject" },
                    { AT("example.com"), FAILS } }, .spf = AUTH_PASS,
          .spf_domain = "example.com",
          .outcome = "temperror p=reject(none) a.example.com",
          .reason = "alignment of SPF" },
        { .what = "but another identifier passes", WALK, .from = "a.example.com",
          .zone = { { AT("a.example.com"), "v=DMARC1;p=reject" },
                    { AT("example.com"), FAILS } }, .spf = AUTH_PASS,
          .spf_domain = "example.com", .dkim = { { AUTH_PASS, "a.example.com" } },
          .outcome = "pass p=reject(none) a.example.com d" },
        { .what = "strict asks nothing more", WALK, .from = "a.example.com",
          .zone = { { AT("a.example.com"), "v=DMARC1;p=reject;adkim=s;aspf=s" },
                    { AT("example.com"), FAILS } }, .spf = AUTH_PASS,
          .spf_domain = "example.com", .outcome = "fail p=reject(reject) a.example.com" },
        /* identifiers below the organisational domain */
        { .what = "the identifier is it", WALK, .from = "a.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } }, .spf = AUTH_PASS,
          .spf_domain = "example.com",
          .dkim = { { AUTH_PASS, "b.example.com" }, { AUTH_PASS, "example.com" } },
          .outcome = "pass p=reject(none) example.com sd",
          .asked = "a.example.com example.com com |" },
        { .what = "below, an organisation of its own", WALK, .from = "a.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" },
                    { AT("b.example.com"), "v=DMARC1;p=none;psd=n" } },
          .dkim = { { AUTH_PASS, "x.b.example.com" } },
          .outcome = "fail p=reject(reject) example.com",
          .asked = "a.example.com example.com com | x.b.example.com b.example.com" },
        { .what = "below, with a record", WALK, .from = "a.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" },
                    { AT("b.example.com"), "v=DMARC1;p=none" } },
          .dkim = { { AUTH_PASS, "x.b.example.com" } },
          .outcome = "pass p=reject(none) example.com d" },
        { .what = "below, a psd", WALK, .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" },
                    { AT("b.example.com"), "v=DMARC1;p=none;psd=y" } },
          .dkim = { { AUTH_PASS, "x.b.example.com" } },
          .outcome = "fail p=reject(reject) example.com" },
        { .what = "below, DNS fails", WALK, .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" },
                    { AT("b.example.com"), FAILS } },
          .dkim = { { AUTH_PASS, "x.b.example.com" } },
          .outcome = "temperror p=reject(none) example.com",
          .reason = "alignment of DKIM" },
        { .what = "below, DNS fails where it does not matter", WALK,
          .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" },
                    { AT("b.example.com"), FAILS } },
          .dkim = { { AUTH_PASS, "x.b.example.com" }, { AUTH_PASS, "c.example.com" } },
          .outcome = "pass p=reject(none) example.com d",
          .asked = "example.com com | x.b.example.com b.example.com c.example.com" },
        { .what = "above the organisational domain", WALK, .from = "a.b.example.com",
          .zone = { { AT("b.example.com"), "v=DMARC1;p=reject;psd=n" } },
          .dkim = { { AUTH_PASS, "example.com" }, { AUTH_PASS, "c.example.com" } },
          .outcome = "fail p=reject(reject) b.example.com",
          .asked = "a.b.example.com b.example.com example.com com |" },
        { .what = "a temperror below is asked about too", WALK, .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" } },
          .dkim = { { AUTH_TEMPERROR, "x.example.com" } },
          .outcome = "temperror p=reject(none) example.com", .reason = "error of DKIM",
          .asked = "example.com com | x.example.com" },
        /* names of more than eight labels */
        { .what = "the jump", WALK, .from = "a.b.c.d.e.f.g.h.i.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject" },
                    { AT("b.c.d.e.f.g.h.i.example.com"), FAILS } },
          .dkim = { { AUTH_PASS, "z.b.c.d.e.f.g.h.i.example.com" } },
          .outcome = "pass p=reject(none) example.com d",
          .asked = "a.b.c.d.e.f.g.h.i.example.com e.f.g.h.i.example.com "
                   "f.g.h.i.example.com g.h.i.example.com h.i.example.com i.example.com "
                   "example.com com | z.b.c.d.e.f.g.h.i.example.com "
                   "e.f.g.h.i.example.com f.g.h.i.example.com g.h.i.example.com "
                   "h.i.example.com i.example.com" },
        { .what = "no walk from below comes by", WALK, .from = "b.c.d.e.f.g.h.i.j.com",
          .zone = { { AT("b.c.d.e.f.g.h.i.j.com"), "v=DMARC1;p=reject;psd=n" } },
          .dkim = { { AUTH_PASS, "a.b.c.d.e.f.g.h.i.j.com" } },
          .outcome = "fail p=reject(reject) b.c.d.e.f.g.h.i.j.com" },
        { .what = "nor by one of eight", WALK, .from = "d.e.f.g.h.i.j.com",
          .zone = { { AT("d.e.f.g.h.i.j.com"), "v=DMARC1;p=reject;psd=n" } },
          .dkim = { { AUTH_PASS, "z.d.e.f.g.h.i.j.com" } },
          .outcome = "fail p=reject(reject) d.e.f.g.h.i.j.com" },
        { .what = "one below a psd of seven labels", WALK, .from = "a.b.c.d.e.f.g.h.com",
          .zone = { { AT("c.d.e.f.g.h.com"), "v=DMARC1;p=reject;psd=y" } },
          .dkim = { { AUTH_PASS, "z.b.c.d.e.f.g.h.com" } },
          .outcome = "pass p=reject(none) c.d.e.f.g.h.com d" },
        /* np and t */
        { .what = "np, the name does not exist", WALK, .from = "x.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=none;sp=quarantine;np=reject" } },
          .outcome = "fail np=reject(reject) example.com",
          .asked = "x.example.com example.com com | A:x.example.com" },
        { .what = "np, the name exists", WALK, .from = "x.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=none;sp=quarantine;np=reject" },
                    { "x.example.com", NODATA } },
          .outcome = "fail sp=quarantine(quarantine) example.com" },
        { .what = "np, below the name there is something", WALK, .from = "x.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=none;np=reject" },
                    { AT("x.example.com"), NODATA } },
          .outcome = "fail p=none(none) example.com",
          .asked = "x.example.com example.com com |" },
        { .what = "np, not known: the milder", WALK, .from = "x.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=none;sp=quarantine;np=reject" },
                    { "x.example.com", FAILS } },
          .outcome = "fail sp=quarantine(quarantine) example.com" },
        { .what = "np, not known: the milder is np", WALK, .from = "x.example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=reject;np=none" },
                    { "x.example.com", FAILS } },
          .outcome = "fail np=none(none) example.com" },
        { .what = "np is not for the domain itself", WALK, .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=none;np=reject" } },
          .outcome = "fail p=none(none) example.com", .asked = "example.com com |" },
        { .what = "t=y, reject", WALK, .from = "example.com", .sample = 99,
          .zone = { { AT("example.com"), "v=DMARC1;p=reject;t=y;pct=0" } },
          .outcome = "fail p=reject(quarantine) example.com" },
        { .what = "t=y, quarantine", WALK, .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;p=quarantine;t=y" } },
          .outcome = "fail p=quarantine(none) example.com" },
        { .what = "pct is withdrawn", WALK, .from = "example.com", .sample = 99,
          .zone = { { AT("example.com"), "v=DMARC1;p=reject;pct=1" } },
          .outcome = "fail p=reject(reject) example.com" },
        { .what = "no p", WALK, .from = "example.com",
          .zone = { { AT("example.com"), "v=DMARC1;sp=reject" } },
          .outcome = "fail p=none(none) example.com" },
        { .what = "one label", WALK, .from = "localhost", .outcome = "none =none(none) ",
          .reason = "no DMARC record", .asked = "localhost |" },
    };
    /* clang-format on */
    judge_cases(cases, COUNT(cases));
}

/* ---- asking less --------------------------------------------------------- */

static unsigned random_below(unsigned n)
{
    static unsigned seed = 11;
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % n;
}

/* A name of one to ten labels, each a or b, often with one ending. */
static void random_name(char *out, size_t size)
{
    unsigned labels = 1 + random_below(10);

    out[0] = '\0';
    for (unsigned i = 0; i < labels; i++)
        strncat(out, random_below(4) ? "a." : "b.", size - strlen(out) - 1);
    out[strlen(out) - 1] = '\0';
}

/* By every step of the walk. */
static void organisation_of(const char *domain, const struct zone_record *zone, char *out,
                            size_t size)
{
    const char *names[DMARC_TREE_MAX];
    struct dmarc_step steps[DMARC_TREE_MAX];
    size_t count = dmarc_tree_names(domain, names), i;

    for (i = 0; i < count && (i == 0 || !dmarc_tree_ends(&steps[i - 1])); i++) {
        steps[i] = (struct dmarc_step){ .name = names[i], .kind = DMARC_STEP_ABSENT };
        for (const struct zone_record *r = zone; r->name; r++) {
            if (strcmp(r->name + 7, names[i]) != 0)
                continue;
            steps[i].kind = DMARC_STEP_RECORD;
            steps[i].psd = strstr(r->text, "psd=y")   ? DMARC_PSD_YES
                           : strstr(r->text, "psd=n") ? DMARC_PSD_NO
                                                      : DMARC_PSD_UNSAID;
        }
    }
    snprintf(out, size, "%s", dmarc_tree_organisation(domain, steps, i));
}

#define PREFIX "_dmarc."

/* The author's record and up to three more. */
struct random_zone {
    struct zone_record records[5];
    char names[4][sizeof(PREFIX) + 48];
    size_t count;
};

static void random_record(struct random_zone *zone, const char *domain)
{
    static const char *const texts[] = { "v=DMARC1;p=none", "v=DMARC1;p=none;psd=y",
                                         "v=DMARC1;p=none;psd=n" };
    char *name = zone->names[zone->count];

    for (size_t i = 0; i < zone->count; i++)
        if (strcmp(zone->names[i] + strlen(PREFIX), domain) == 0)
            return;
    memcpy(name, PREFIX, sizeof(PREFIX));
    strncat(name, domain, 47);
    zone->records[zone->count++] = (struct zone_record){ name, texts[random_below(3)] };
}

static bool asks_less(const char *author, const char *identifier,
                      const struct zone_record *zone, bool expected)
{
    struct resolver resolver = { .zone = zone };
    struct signature signature = { .result = AUTH_PASS };
    struct dmarc_evidence evidence = { .signatures = &signature, .count = 1 };
    struct dmarc_outcome out;

    memcpy(signature.domain, identifier, strlen(identifier) + 1);
    struct dmarc *dmarc = dmarc_new(&resolver, NULL, DISCOVERY_TREEWALK, author);
    dmarc_finish(dmarc, &evidence, 0, &out);
    dmarc_free(dmarc);
    if (out.dkim_aligned == expected)
        return true;
    printf("\n  %s by %s, asked %s\n", author, identifier, resolver.asked);
    for (const struct zone_record *r = zone; r->name; r++)
        printf("    %s %s\n", r->name, r->text);
    CHECK_INT("aligned", out.dkim_aligned, expected);
    return false;
}

/* What is not asked never changes whether an identifier is aligned. */
static void test_asking_less(void)
{
    unsigned aligned = 0;
    bool same = true;

    for (int round = 0; round < 20000 && same; round++) {
        char author[48], identifier[48], name[48], organisations[2][48];
        struct random_zone zone = { .count = 0 };

        random_name(author, sizeof(author));
        random_name(identifier, sizeof(identifier));
        random_record(&zone, author);
        for (int i = 0; i < 3; i++) {
            random_name(name, sizeof(name));
            random_record(&zone, name);
        }
        organisation_of(author, zone.records, organisations[0], sizeof(name));
        organisation_of(identifier, zone.records, organisations[1], sizeof(name));
        bool expected =
            dmarc_aligned(false, author, organisations[0], identifier, organisations[1]);
        same = asks_less(author, identifier, zone.records, expected);
        aligned += expected;
    }
    CU_ASSERT(aligned > 500);
}

static void test_long_record(void)
{
    static char fits[DMARC_RECORD_MAX + 1], longer[DMARC_RECORD_MAX + 2];
    struct message_case c = { .what = "a record of full length",
                              .from = "example.com",
                              .zone = { { AT("example.com"), fits } },
                              .outcome = "fail p=reject(reject) example.com" };
    struct suffixes *suffixes = suffixes_new();
    CU_ASSERT_PTR_NOT_NULL_FATAL(suffixes);
    memset(fits, ' ', sizeof(fits) - 1);
    memcpy(fits, "v=DMARC1;", 9);
    memcpy(fits + sizeof(fits) - 9, "p=reject", 8);
    judge_case(&c, suffixes);
    memset(longer, ' ', sizeof(longer) - 1);
    memcpy(longer, "v=DMARC1;p=reject", 17);
    c.what = "one byte more";
    c.zone[0].text = longer;
    c.outcome = "permerror =none(none) example.com";
    c.reason = "too long";
    judge_case(&c, suffixes);
    memcpy(longer, "v=DMARC2", 8);
    c.what = "too long, but of no matter";
    c.outcome = "none =none(none) ";
    c.reason = "no DMARC record";
    judge_case(&c, suffixes);
    suffixes_free(suffixes);
}

static void test_none_given(void)
{
    struct dmarc_evidence evidence = { .spf = AUTH_NONE };
    struct from_author author;
    struct dmarc_outcome out;

    dmarc_finish(NULL, &evidence, 0, &out);
    CHECK_STR("no memory", auth_result_name(out.result), "temperror");
    from_author_reset(&author);
    evidence.author = &author;
    dmarc_finish(NULL, &evidence, 0, &out);
    CHECK_STR("no From", auth_result_name(out.result), "none");
    CHECK_STR("no From", out.reason, "no From");
    from_author_add(&author, "a@b@c", 5);
    dmarc_finish(NULL, &evidence, 0, &out);
    CHECK_STR("malformed", auth_result_name(out.result), "permerror");
    CHECK_STR("malformed", out.policy_tag, "");
    dmarc_free(NULL);
}

UNIT_MAIN("dmarc", { "claims", test_claims }, { "records", test_records },
          { "hostile records", test_hostile_records }, { "list", test_list },
          { "alignment", test_alignment }, { "tree names", test_tree_names },
          { "tree", test_tree }, { "psl", test_psl }, { "treewalk", test_treewalk },
          { "asking less", test_asking_less }, { "long record", test_long_record },
          { "none given", test_none_given })
