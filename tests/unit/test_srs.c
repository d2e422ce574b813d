/* srs: addresses as PostSRSd 1.10 makes them, and what is refused. */
#include <stdlib.h>

#include "srs.h"
#include "unit.h"

/* The day of the addresses of PostSRSd 1.10 below ("JL"). */
#define NOW 1795328734
#define DAY 86400

static const char *const secrets[] = { "tops3cret", "older secret", NULL };
static const char *const rotated[] = { "new one", "tops3cret", NULL };
static const char *const strangers[] = { "another", NULL };
static const struct srs_keys keys = { "srs.example.net", secrets };

typedef enum srs_status way(const struct srs_keys *, const char *, int64_t,
                            char out[ADDR_TEXT_MAX + 1]);

static void check(const char *what, way *convert, const struct srs_keys *with,
                  const char *address, int64_t now, enum srs_status status,
                  const char *wanted)
{
    char out[ADDR_TEXT_MAX + 1] = "";
    char *exact = strdup(address); /* so that a read past the end is seen */
    enum srs_status got = convert(with, exact, now, out);
    CHECK_STR(what, srs_status_name(got), srs_status_name(status));
    CHECK_STR(what, out, wanted);
    free(exact);
}

/* As PostSRSd answered. */
static const struct {
    const char *sender, *rewritten;
} postsrsd[] = {
    { "user@example.com", "SRS0=9WUf=JL=example.com=user@srs.example.net" },
    { "User.Name@Example.COM", "SRS0=FlgX=JL=Example.COM=User.Name@srs.example.net" },
    { "user+ext@example.com", "SRS0=7dr2=JL=example.com=user+ext@srs.example.net" },
    { "a=b=c@example.com", "SRS0=w0al=JL=example.com=a=b=c@srs.example.net" },
    { "o'brien@example.com", "SRS0=DBNr=JL=example.com=o'brien@srs.example.net" },
    { "SRS0x@example.com", "SRS0=aUkP=JL=example.com=SRS0x@srs.example.net" },
    { "SRS0=ABCD=XY=orig.example=bob@first.example",
      "SRS1=m8Dh=first.example==ABCD=XY=orig.example=bob@srs.example.net" },
    { "SRS0+ABCD=XY=orig.example=bob@first.example",
      "SRS1=PN1B=first.example=+ABCD=XY=orig.example=bob@srs.example.net" },
};

static void test_as_postsrsd(void)
{
    const struct srs_keys after = { keys.domain, rotated };
    for (size_t i = 0; i < sizeof(postsrsd) / sizeof(postsrsd[0]); i++) {
        const char *sender = postsrsd[i].sender, *there = postsrsd[i].rewritten;
        check(sender, srs_forward, &keys, sender, NOW, SRS_DONE, there);
        check(there, srs_reverse, &keys, there, NOW, SRS_DONE, sender);
        check("after a rotation", srs_reverse, &after, there, NOW, SRS_DONE, sender);
    }
}

static void test_forward(void)
{
    static const struct {
        const char *sender;
        enum srs_status status;
        const char *rewritten;
    } cases[] = {
        { "", SRS_NOT_NEEDED, "" },
        { "root", SRS_NOT_NEEDED, "" },
        { "a@srs.example.net", SRS_NOT_NEEDED, "" },
        { "a@SRS.Example.Net", SRS_NOT_NEEDED, "" },
        { "SRS0=9WUf=JL=example.com=user@srs.example.net", SRS_NOT_NEEDED, "" },
        /* second and later forwarders: always one address of the same length */
        { "SRS1=QQQQ=first.example==ABCD=XY=orig.example=bob@second.example", SRS_DONE,
          "SRS1=m8Dh=first.example==ABCD=XY=orig.example=bob@srs.example.net" },
        { "srs1+QQQQ=first.example==ABCD=XY=orig.example=bob@second.example", SRS_DONE,
          "SRS1=m8Dh=first.example==ABCD=XY=orig.example=bob@srs.example.net" },
        { "srs0-x@first.example", SRS_DONE,
          "SRS1=aS7v=first.example=-x@srs.example.net" },
        { "SRS0=@f.example", SRS_DONE, "SRS1=JFKc=f.example==@srs.example.net" },
        { "SRS1=x@second.example", SRS_MALFORMED, "" },
        { "SRS1=@second.example", SRS_MALFORMED, "" },
        { "SRS1=QQQQ=first.example@second.example", SRS_MALFORMED, "" },
        { "SRS1=QQQQ=first.example=@second.example", SRS_MALFORMED, "" },
        { "SRS1=QQQQ=first.example=victim@second.example", SRS_MALFORMED, "" },
        { "SRS1=QQQQ=fi rst==x@second.example", SRS_MALFORMED, "" },
        { "SRS1=QQQQ===x@second.example", SRS_MALFORMED, "" },
        /* quotes: the same hash, and an address that MTAs take */
        { "a@[192.0.2.1]", SRS_DONE, "\"SRS0=CwVv=JL=[192.0.2.1]=a\"@srs.example.net" },
        { "\"us\\er\"@example.com", SRS_DONE,
          "SRS0=9WUf=JL=example.com=user@srs.example.net" },
        /* not addresses */
        { "u@[a=b]", SRS_MALFORMED, "" },
        { "us er@example.com", SRS_MALFORMED, "" },
        { "us\ner@example.com", SRS_MALFORMED, "" },
        { "\"user@example.com", SRS_MALFORMED, "" },
        { "user@exa mple.com", SRS_MALFORMED, "" },
        { "user@", SRS_MALFORMED, "" },
        { "@example.com", SRS_MALFORMED, "" },
        { "@relay.example:user@example.com", SRS_MALFORMED, "" },
        { "<user@example.com", SRS_MALFORMED, "" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check(cases[i].sender, srs_forward, &keys, cases[i].sender, NOW, cases[i].status,
              cases[i].rewritten);
}

static void test_reverse(void)
{
    static const struct {
        const char *address;
        enum srs_status status;
        const char *original;
    } cases[] = {
        { "user@srs.example.net", SRS_NOT_NEEDED, "" },
        { "SRS0@srs.example.net", SRS_NOT_NEEDED, "" },
        { "SRS0x=9WUf=JL=example.com=user@srs.example.net", SRS_NOT_NEEDED, "" },
        { "SRS2=9WUf=JL=example.com=user@srs.example.net", SRS_NOT_NEEDED, "" },
        { "SRS0=9WUf=JL=example.com=user@other.example", SRS_NOT_NEEDED, "" },
        { "SRS0=9WUf=JL=example.com=user", SRS_NOT_NEEDED, "" },
        { "SRS0=9WUf=JL=example.com=us er@srs.example.net", SRS_NOT_NEEDED, "" },
        { "", SRS_NOT_NEEDED, "" },
        /* the way back through hosts that change the case */
        { "srs0=9wuf=jl=example.com=user@srs.example.net", SRS_DONE, "user@example.com" },
        { "SRS0=9WUF=JL=EXAMPLE.COM=USER@SRS.EXAMPLE.NET", SRS_DONE, "USER@EXAMPLE.COM" },
        { "\"SRS0=9WUf=JL=example.com=user\"@srs.example.net", SRS_DONE,
          "user@example.com" },
        { "SRS0+9WUf=JL=example.com=user@srs.example.net", SRS_DONE, "user@example.com" },
        { "\"SRS0=CwVv=JL=[192.0.2.1]=a\"@srs.example.net", SRS_DONE, "a@[192.0.2.1]" },
        { "SRS1=JFKc=f.example==@srs.example.net", SRS_DONE, "SRS0=@f.example" },
        /* changed in any part */
        { "SRS0=9WUg=JL=example.com=user@srs.example.net", SRS_FORGED, "" },
        { "SRS0=9WUf=JM=example.com=user@srs.example.net", SRS_FORGED, "" },
        { "SRS0=9WUf=JL=example.org=user@srs.example.net", SRS_FORGED, "" },
        { "SRS0=9WUf=JL=example.com=uses@srs.example.net", SRS_FORGED, "" },
        { "SRS0=9WU=JL=example.com=user@srs.example.net", SRS_FORGED, "" },
        { "SRS0==JL=example.com=user@srs.example.net", SRS_FORGED, "" },
        { "SRS0=9WUfAAAA=JL=example.com=user@srs.example.net", SRS_FORGED, "" },
        { "SRS0=9WUfAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=JL=example.com=user@srs.example.net",
          SRS_FORGED, "" },
        { "SRS1=m8Dg=first.example==ABCD=XY=orig.example=bob@srs.example.net", SRS_FORGED,
          "" },
        { "SRS1=m8Dh=frist.example==ABCD=XY=orig.example=bob@srs.example.net", SRS_FORGED,
          "" },
        /* parts that are missing */
        { "SRS0=@srs.example.net", SRS_MALFORMED, "" },
        { "SRS0=9WUf@srs.example.net", SRS_MALFORMED, "" },
        { "SRS0=9WUf=JL@srs.example.net", SRS_MALFORMED, "" },
        { "SRS0=9WUf=JL=example.com@srs.example.net", SRS_MALFORMED, "" },
        { "SRS0=9WUf=JL=example.com=@srs.example.net", SRS_MALFORMED, "" },
        { "SRS0=9WUf=JL==user@srs.example.net", SRS_MALFORMED, "" },
        { "SRS1=@srs.example.net", SRS_MALFORMED, "" },
        { "SRS1=m8Dh=first.example@srs.example.net", SRS_MALFORMED, "" },
        { "SRS1=m8Dh=first.example=victim@srs.example.net", SRS_MALFORMED, "" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check(cases[i].address, srs_reverse, &keys, cases[i].address, NOW,
              cases[i].status, cases[i].original);
    const struct srs_keys stranger = { keys.domain, strangers };
    check("another secret", srs_reverse, &stranger, postsrsd[0].rewritten, NOW,
          SRS_FORGED, "");
}

static void test_age(void)
{
    static const struct {
        int days;
        enum srs_status status;
    } cases[] = {
        { 0, SRS_DONE },
        { 1, SRS_DONE },
        { SRS_DAYS_MAX, SRS_DONE },
        { SRS_DAYS_MAX + 1, SRS_EXPIRED },
        { 500, SRS_EXPIRED },
        { -1, SRS_DONE }, /* another host's clock at midnight */
        { -2, SRS_EXPIRED },
        { 1024 - 2, SRS_EXPIRED },
        { 1024, SRS_DONE }, /* days are counted modulo 1024 */
    };
    /* Also where the days begin anew. */
    static const int64_t starts[] = { NOW, (int64_t)1024 * 20 * DAY,
                                      (int64_t)(1024 * 20 - 1) * DAY,
                                      (int64_t)(1024 * 20 - 10) * DAY, 0x80000000 };
    for (size_t k = 0; k < sizeof(starts) / sizeof(starts[0]); k++) {
        char there[ADDR_TEXT_MAX + 1] = "";
        CHECK_INT("forward", srs_forward(&keys, "user@example.com", starts[k], there),
                  SRS_DONE);
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            char what[100];
            snprintf(what, sizeof(what), "%d days after %lld", cases[i].days,
                     (long long)starts[k]);
            check(what, srs_reverse, &keys, there,
                  starts[k] + (int64_t)cases[i].days * DAY, cases[i].status,
                  cases[i].status == SRS_DONE ? "user@example.com" : "");
        }
    }
    /* A time that is signed but none: of the secret's owner, or a guess. */
    check("one character of time", srs_reverse, &keys,
          "SRS0=9WUf=J=example.com=user@srs.example.net", NOW, SRS_FORGED, "");
}

/* Local parts that need quotes come back as they were. */
static void test_quoted(void)
{
    static const char *const senders[] = {
        "\"us er\"@example.com",     "\"a@b\"@example.com", "\"a\\\"b\\\\c\"@example.com",
        "\"a..b\"@example.com",      "\".a\"@example.com",  "\"SRS0= x\"@example.com",
        "j\xc3\xbcrgen@example.com", "\"<a>\"@example.com",
    };
    for (size_t i = 0; i < sizeof(senders) / sizeof(senders[0]); i++) {
        char there[ADDR_TEXT_MAX + 1] = "", back[ADDR_TEXT_MAX + 1] = "";
        struct addr addr;
        CHECK_INT(senders[i], srs_forward(&keys, senders[i], NOW, there), SRS_DONE);
        CHECK_INT(there, addr_parse(there, strlen(there), &addr), ADDR_OK);
        CHECK_STR(there, addr.domain, keys.domain);
        CHECK_INT(there, srs_reverse(&keys, there, NOW, back), SRS_DONE);
        if (strncmp(senders[i], "\"SRS0=", 6) == 0) /* its own forwarder's affair */
            CHECK_STR(there, back, "\"SRS0= x\"@example.com");
        else
            CHECK_STR(there, back, senders[i]);
    }
}

static void test_is_address(void)
{
    static const struct {
        const char *address;
        int yes;
    } cases[] = {
        { "SRS0=9WUf=JL=example.com=user@srs.example.net", 1 },
        { "<SRS0=9WUf=JL=example.com=user@srs.example.net>", 1 },
        { "<\"srs1+x y\"@SRS.example.net>", 1 },
        { "SRS0=x@srs.example.net", 1 },
        { "<SRS0=x@other.example>", 0 },
        { "<SRS0x@srs.example.net>", 0 },
        { "<user@srs.example.net>", 0 },
        { "<SRS0=x>", 0 },
        { "<>", 0 },
        { "", 0 },
        { "<", 0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_INT(cases[i].address, srs_is_address(keys.domain, cases[i].address),
                  cases[i].yes);
    CHECK_INT("no domain", srs_is_address(NULL, cases[0].address), 0);
}

/* The longest that fits, one byte more, and far too much. */
static void test_lengths(void)
{
    static const char before[] = "SRS0=HHHH=TT=example.com=";
    size_t room = ADDR_TEXT_MAX - strlen(before) - strlen("@srs.example.net");
    char sender[3000], out[ADDR_TEXT_MAX + 1], back[ADDR_TEXT_MAX + 1];
    for (size_t more = 0; more < 2; more++) {
        memset(sender, 'a', room + more);
        memcpy(sender + room + more, "@example.com", sizeof("@example.com"));
        enum srs_status status = srs_forward(&keys, sender, NOW, out);
        CHECK_INT("local part", status, more ? SRS_TOO_LONG : SRS_DONE);
        if (more)
            continue;
        CHECK_INT("length", strlen(out), ADDR_TEXT_MAX);
        CHECK_INT("back", srs_reverse(&keys, out, NOW, back), SRS_DONE);
        CHECK_STR("back", back, sender);
    }
    for (size_t n = 230; n <= 240; n += 10) { /* quotes that need a backslash */
        memset(sender, '\\', sizeof(sender));
        sender[0] = '"';
        memcpy(sender + 1 + 2 * n, "\"@example.com", sizeof("\"@example.com"));
        CHECK_INT("quoted", srs_forward(&keys, sender, NOW, out),
                  n == 230 ? SRS_DONE : SRS_TOO_LONG);
    }
    memset(sender, 'a', sizeof(sender) - 1);
    sender[sizeof(sender) - 1] = '\0';
    CHECK_INT("no end", srs_forward(&keys, sender, NOW, out), SRS_TOO_LONG);
    CHECK_INT("no end", srs_reverse(&keys, sender, NOW, out), SRS_TOO_LONG);
    /* A chain of forwarders does not grow. */
    const struct srs_keys other = { "other.example", strangers };
    char chain[ADDR_TEXT_MAX + 1] = "user@example.com", next[ADDR_TEXT_MAX + 1];
    size_t longest = 0;
    for (int i = 0; i < 50; i++) {
        CHECK_INT("chain", srs_forward(i % 2 ? &keys : &other, chain, NOW, next),
                  SRS_DONE);
        memcpy(chain, next, sizeof(chain));
        longest = strlen(chain) > longest ? strlen(chain) : longest;
    }
    CU_ASSERT(longest < 100);
}

/* Nothing that is not signed by us comes back, and nothing is read astray. */
static void test_garbage(void)
{
    static const char alphabet[] = "SRS01=-+==aB.@\"\\ \xc3";
    unsigned seed = 1;
    for (int round = 0; round < 200000; round++) {
        char text[80], out[ADDR_TEXT_MAX + 1], back[ADDR_TEXT_MAX + 1];
        size_t len = (size_t)(rand_r(&seed) % 40), start = 0;
        if (round % 2)
            start = (size_t)snprintf(text, sizeof(text), "SRS%d=", round / 2 % 2);
        for (size_t i = start; i < start + len; i++)
            text[i] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
        snprintf(text + start + len, sizeof(text) - start - len, "@%s",
                 round % 3 ? "example.com" : keys.domain);
        if (srs_reverse(&keys, text, NOW, out) == SRS_DONE) {
            printf("\n  \"%s\" became \"%s\"\n", text, out);
            CU_FAIL("accepted");
            return;
        }
        if (srs_forward(&keys, text, NOW, out) == SRS_DONE &&
            srs_reverse(&keys, out, NOW, back) != SRS_DONE) {
            printf("\n  \"%s\" became \"%s\", for good\n", text, out);
            CU_FAIL("no way back");
            return;
        }
    }
    CU_PASS("garbage");
}

UNIT_MAIN("srs", { "as PostSRSd", test_as_postsrsd }, { "forward", test_forward },
          { "reverse", test_reverse }, { "age", test_age }, { "quoted", test_quoted },
          { "is one", test_is_address }, { "lengths", test_lengths },
          { "garbage", test_garbage })
