/* socketmap: the tables' replies, with and without a lookup. */
#include <stdlib.h>
#include <unistd.h>

#include "../../policyd/socketmap.h"
#include "unit.h"

/* The day of the addresses below ("JL"). */
#define NOW 1795328734

static const char conf_text[] = "side = %s\n"
                                "hostname = \"mx1.example.com\"\n"
                                "redis = \"unix:/nowhere/redis.sock\"\n"
                                "domain \"example.com\" {\n"
                                "  same-as = {\"localhost\"}\n"
                                "  old = \"[192.0.2.1]:25\"\n"
                                "  new = \"[192.0.2.2]:2525\"\n"
                                "  redirect-domains = {\"tenant.example.net\"}\n"
                                "}\n";

static struct conf *load(const char *side)
{
    char path[] = "/tmp/test_socketmap.XXXXXX", error[300];
    int fd = mkstemp(path);
    if (fd < 0 || dprintf(fd, conf_text, side) < 0)
        abort();
    close(fd);
    struct conf *conf = conf_load(path, error, sizeof(error));
    unlink(path);
    if (!conf)
        printf("\n  %s\n", error);
    return conf;
}

static void test_parse(void)
{
    static const struct {
        const char *payload;
        int good;
        const char *key;
    } cases[] = {
        { "transport a@b.example", 1, "a@b.example" },
        { "virtual a b@c.example", 1, "a b@c.example" },
        { "transport ", 1, "" },
        { "nosuchmap a@b.example", 1, "a@b.example" },
        { "transport", 0, "" },
        { " a@b.example", 0, "" },
        { "", 0, "" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct socketmap_request request;
        char key[64] = "";
        bool good = socketmap_parse(cases[i].payload, strlen(cases[i].payload), &request);
        CHECK_INT(cases[i].payload, good, cases[i].good);
        if (!good)
            continue;
        memcpy(key, request.key, request.key_len);
        CHECK_STR(cases[i].payload, key, cases[i].key);
    }
}

/* The reply to a payload; with a record (NULL: none), as Redis would give it
 * for the mailbox; "failed": the lookup failed. */
static void ask(const struct conf *conf, const char *payload, const char *record,
                char reply[SOCKETMAP_REPLY_MAX])
{
    struct socketmap_request request;
    struct route route;
    memcpy(reply, "(close)", sizeof("(close)"));
    if (!socketmap_parse(payload, strlen(payload), &request) ||
        !socketmap_wants_lookup(&request, conf, NOW, &route, reply))
        return;
    struct route_value own = { "o1.6740a1b2", 11 }, none = { NULL, 0 };
    struct route_value exact = { record, record ? strlen(record) : 0 };
    if (record && strcmp(record, "failed") == 0)
        route.lookup = LOOKUP_FAILED;
    else
        route_set_values(&route, &own, &exact, &none);
    route_finish(conf, &route);
    socketmap_answer(request.map, &route, reply);
}

static void test_replies(void)
{
    static const char later[] = "TEMP the mailbox's home is not known at present";
    static const struct {
        const char *side, *payload, *record, *reply;
    } cases[] = {
        /* the table of the design, old side */
        { "old", "transport a@example.com", "o1.1", "NOTFOUND " },
        { "old", "transport a@example.com", "l1.1", "OK sluice-hold:" },
        { "old", "transport a@example.com", "r1.1", "OK sluice-hold:" },
        { "old", "transport a@example.com", "n1.1",
          "OK sluice-forward:[192.0.2.2]:2525" },
        { "old", "transport a@example.com", "n1.1\tn=x@tenant.example.net",
          "OK sluice-hold:" },
        { "old", "transport a@example.com", "failed", later },
        { "old", "transport a@example.com", "garbage", later },
        { "old", "transport unlisted@example.com", NULL, "NOTFOUND " },
        { "old", "virtual a@example.com", "o1.1", "NOTFOUND " },
        { "old", "virtual a@example.com", "l1.1", "NOTFOUND " },
        { "old", "virtual a@example.com", "n1.1", "NOTFOUND " },
        { "old", "virtual a@example.com", "n1.1\tn=x@tenant.example.net",
          "OK x@tenant.example.net" },
        { "old", "virtual a@example.com", "l1.1\tn=x@tenant.example.net", "NOTFOUND " },
        { "old", "virtual a@example.com", "failed", "NOTFOUND " },
        /* new side */
        { "new", "transport a@example.com", "o1.1", "OK sluice-forward:[192.0.2.1]:25" },
        { "new", "transport a@example.com", "l1.1", "OK sluice-hold:" },
        { "new", "transport a@example.com", "n1.1", "NOTFOUND " },
        { "new", "transport a@example.com", "n1.1\tn=x@tenant.example.net", "NOTFOUND " },
        { "new", "virtual a@example.com", "n1.1\tn=x@tenant.example.net", "NOTFOUND " },
        /* other names of the same mailbox */
        { "old", "transport A@LocalHost", "l1.1", "OK sluice-hold:" },
        { "old", "virtual a@localhost", "n1.1", "OK a@example.com" },
        { "old", "virtual a@localhost", "o1.1", "NOTFOUND " },
        { "old", "virtual a+tag@localhost", "n1.1", "OK a+tag@example.com" },
        /* where redirected mail goes must not bounce */
        { "old", "transport x@tenant.example.net", NULL, "OK sluice-forward:" },
        { "old", "transport x@TENANT.example.net", NULL, "OK sluice-forward:" },
        { "old", "virtual x@tenant.example.net", NULL, "NOTFOUND " },
        /* nobody's business */
        { "old", "transport *", NULL, "NOTFOUND " },
        { "old", "transport example.com", NULL, "NOTFOUND " },
        { "old", "transport .example.com", NULL, "NOTFOUND " },
        { "old", "transport ", NULL, "NOTFOUND " },
        { "old", "transport a@other.example", NULL, "NOTFOUND " },
        { "old", "transport a@", NULL, "NOTFOUND " },
        { "old", "virtual @other.example", NULL, "NOTFOUND " },
        { "old", "aliases a@example.com", NULL,
          "PERM no such map: there are transport, virtual and srs" },
        { "old", "transport", NULL, "(close)" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char what[200], reply[SOCKETMAP_REPLY_MAX];
        struct conf *conf = load(cases[i].side);
        CU_ASSERT_FATAL(conf != NULL);
        snprintf(what, sizeof(what), "%s: %s (%s)", cases[i].side, cases[i].payload,
                 cases[i].record ? cases[i].record : "no record");
        ask(conf, cases[i].payload, cases[i].record, reply);
        CHECK_STR(what, reply, cases[i].reply);
        conf_unref(conf);
    }
}

/* A local part that no mailbox can have: the domain's own record decides, and
 * nothing can be mapped. */
static void test_overlong(void)
{
    char payload[400], reply[SOCKETMAP_REPLY_MAX];
    struct conf *conf = load("old");
    CU_ASSERT_FATAL(conf != NULL);
    snprintf(payload, sizeof(payload), "transport %0200d@example.com", 7);
    ask(conf, payload, NULL, reply);
    CHECK_STR("transport", reply, "NOTFOUND ");
    snprintf(payload, sizeof(payload), "virtual %0200d@localhost", 7);
    ask(conf, payload, NULL, reply);
    CHECK_STR("virtual", reply, "NOTFOUND ");
    conf_unref(conf);
}

/* Bounces to rewritten senders; the rest is in test_srs.c. */
static void test_srs(void)
{
    static const struct {
        const char *payload, *reply;
    } cases[] = {
        { "srs SRS0=9WUf=JL=example.com=user@srs.example.net", "OK user@example.com" },
        { "srs srs0=9wuf=jl=example.com=user@SRS.example.net", "OK user@example.com" },
        { "srs SRS1=m8Dh=first.example==ABCD=XY=orig.example=bob@srs.example.net",
          "OK SRS0=ABCD=XY=orig.example=bob@first.example" },
        { "srs SRS0=9WUg=JL=example.com=user@srs.example.net", "NOTFOUND " },
        { "srs SRS0=9WUf=JL=example.com=user@other.example", "NOTFOUND " },
        { "srs SRS0=9WUf=JL=example.com=user", "NOTFOUND " },
        { "srs user@srs.example.net", "NOTFOUND " },
        { "srs a@example.com", "NOTFOUND " },
        { "srs @srs.example.net", "NOTFOUND " },
        { "srs ", "NOTFOUND " },
        { "srs", "(close)" },
        { "srs *", "NOTFOUND " },
        { "transport SRS0=9WUf=JL=example.com=user@srs.example.net", "NOTFOUND " },
    };
    char payload[1200], reply[SOCKETMAP_REPLY_MAX];
    struct conf *conf = load("old");
    CU_ASSERT_FATAL(conf != NULL);
    ask(conf, cases[0].payload, NULL, reply);
    CHECK_STR("without a srs section", reply, "NOTFOUND ");
    conf->srs.domain = strdup("srs.example.net");
    conf->srs.secrets = calloc(2, sizeof(*conf->srs.secrets));
    CU_ASSERT_FATAL(conf->srs.domain && conf->srs.secrets);
    conf->srs.secrets[0] = strdup("tops3cret");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ask(conf, cases[i].payload, NULL, reply);
        CHECK_STR(cases[i].payload, reply, cases[i].reply);
    }
    snprintf(payload, sizeof(payload), "srs SRS0=%0900d@srs.example.net", 7);
    ask(conf, payload, NULL, reply);
    CHECK_STR("over-long", reply, "NOTFOUND ");
    struct socketmap_request request;
    struct route route;
    static const char nul[] = "srs SRS0=9WUf=JL=example.com=user@srs.example.net\0x";
    CU_ASSERT(socketmap_parse(nul, sizeof(nul) - 1, &request));
    CU_ASSERT(!socketmap_wants_lookup(&request, conf, NOW, &route, reply));
    CHECK_STR("a NUL in it", reply, "NOTFOUND ");
    conf_unref(conf);
}

UNIT_MAIN("socketmap", { "requests", test_parse }, { "replies", test_replies },
          { "an over-long local part", test_overlong }, { "srs", test_srs })
