/*
 * verify: who is asked about, what is left alone, and what comes out. The parts
 * have tests of their own.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../milter/verify.h"
#include "state_dir.h"
#include "unit.h"

static const char conf_text[] =
    "side = old\nhostname = \"mx.lab.test\"\nstate-dir = \"%s\"\n"
    "redis = \"unix:/nonexistent/redis.sock\"\n"
    "milter { listen = \"unix:/nonexistent/m\" }\n"
    "policyd { policy = \"unix:/nonexistent/p\"  map = \"unix:/nonexistent/t\" }\n"
    "domain \"example.com\" { new = \"[127.0.0.1]:2\" }\n"
    "auth { servers = {\"127.0.0.1:9\"}  trusted = {\"127.0.0.1\", \"10.0.0.0/8\"}\n"
    "       message-timeout = 300  query-timeout = 300 %s }\n";

static struct {
    struct conf *conf;
    struct verifier *verifier;
    struct verification *v;
    struct verified out;
} scene;

static void put_txt(const char *name, const char *text)
{
    unsigned char data[256];
    size_t len = strlen(text);
    data[0] = (unsigned char)len;
    memcpy(data + 1, text, len);
    struct answer_record record = { data, len + 1 };
    CU_ASSERT(resolver_put(verifier_resolver(scene.verifier), name, RR_TXT, ANSWER_DATA,
                           &record, 1));
}

static void put_nothing(const char *name)
{
    CU_ASSERT(resolver_put(verifier_resolver(scene.verifier), name, RR_TXT,
                           ANSWER_NXDOMAIN, NULL, 0));
}

static void set_up(const char *more)
{
    char path[] = "/tmp/sluice-unit.XXXXXX", error[512] = "";
    int fd = mkstemp(path);
    CU_ASSERT_FATAL(fd >= 0 && dprintf(fd, conf_text, state_dir(), more) > 0);
    close(fd);
    scene.conf = conf_load(path, error, sizeof(error));
    unlink(path);
    if (!scene.conf)
        printf("\n  %s\n", error);
    CU_ASSERT_FATAL(scene.conf != NULL);
    scene.verifier = verifier_new(scene.conf, error, sizeof(error));
    if (!scene.verifier)
        printf("\n  %s\n", error);
    CU_ASSERT_FATAL(scene.verifier != NULL);
    scene.v = verification_new();
    put_txt("good.test", "v=spf1 ip4:192.0.2.1 -all");
    put_txt("soft.test", "v=spf1 ip4:192.0.2.1 ~all");
    put_nothing("mx.good.test");
    put_nothing("plain.test");
    put_txt("_dmarc.good.test", "v=DMARC1; p=reject");
    put_nothing("_dmarc.soft.test");
    put_nothing("_dmarc.plain.test");
}

static void tear_down(void)
{
    verification_free(scene.v);
    verifier_free(scene.verifier);
    conf_unref(scene.conf);
    state_dir_clear();
}

/* A message: fields are "Name: value" lines; a line that begins with a blank
 * goes on. */
static const struct verified *message(const char *client, const char *sender,
                                      const char *auth, const char *fields)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    char *copy = strdup(fields), *save = NULL;
    CU_ASSERT_FATAL(copy && inet_pton(AF_INET, client, &address.sin_addr) == 1);
    verify_connect(scene.v, (const struct sockaddr *)&address);
    verify_helo(scene.v, "mx.good.test");
    verify_mail(scene.v, scene.verifier, sender, auth);
    for (char *line = strtok_r(copy, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        char *value = strchr(line, ':');
        *value++ = '\0';
        verify_header(scene.v, line, value);
    }
    verify_end_of_headers(scene.v);
    verify_body(scene.v, (const unsigned char *)"text\r\n", 6);
    verify_finish(scene.v, &scene.out);
    free(copy);
    return &scene.out;
}

#define FROM_GOOD "From: <a@good.test>\n"

static void test_results(void)
{
    static const struct {
        const char *what, *client, *sender, *fields, *words;
        bool would_fail;
        enum dmarc_policy disposition;
    } rows[] = {
        { "pass", "192.0.2.1", "a@good.test", FROM_GOOD,
          " spf=pass dkim=none dmarc=pass header-from=good.test", false, DMARC_NONE },
        { "fail", "192.0.2.2", "a@good.test", FROM_GOOD,
          " spf=fail dkim=none dmarc=fail header-from=good.test", true, DMARC_REJECT },
        { "softfail", "192.0.2.2", "a@soft.test", "From: a@soft.test\n",
          " spf=softfail dkim=none dmarc=none header-from=soft.test", true, DMARC_NONE },
        { "no record", "192.0.2.2", "a@plain.test", "From: a@plain.test\n",
          " spf=none dkim=none dmarc=none header-from=plain.test", false, DMARC_NONE },
        { "null sender", "192.0.2.2", "", FROM_GOOD,
          " spf=none dkim=none dmarc=fail header-from=good.test", false, DMARC_REJECT },
        { "two From fields", "192.0.2.1", "a@good.test", FROM_GOOD FROM_GOOD,
          " spf=pass dkim=none dmarc=fail header-from=good.test", false, DMARC_REJECT },
        { "another author beside it", "192.0.2.2", "a@plain.test",
          "From: a@good.test, b@plain.test\n", " spf=none dkim=none dmarc=permerror",
          false, DMARC_REJECT },
        { "a malformed From beside it", "192.0.2.2", "a@plain.test",
          "From: @\n" FROM_GOOD, " spf=none dkim=none dmarc=permerror", false,
          DMARC_REJECT },
        { "no From", "192.0.2.1", "a@good.test", "To: x@y.test\n",
          " spf=pass dkim=none dmarc=none", false, DMARC_NONE },
        { "DNS is down", "192.0.2.1", "a@down.test", "From: a@down.test\n",
          " spf=temperror dkim=none dmarc=temperror header-from=down.test", false,
          DMARC_NONE },
        { "a forwarder's Received is not believed", "192.0.2.2", "a@good.test",
          "Received: from x (x [192.0.2.1]) by y; date\n" FROM_GOOD,
          " spf=fail dkim=none dmarc=fail header-from=good.test", true, DMARC_REJECT },
        { "that of a trusted host is", "10.0.0.1", "a@good.test",
          "Received: from mx.good.test (mx.good.test [192.0.2.1]) by filter.test "
          "(Postfix) with ESMTP id 1; Sun, 22 Nov 2026 00:00:00 +0000\n" FROM_GOOD,
          " spf=pass dkim=none dmarc=pass header-from=good.test origin=[192.0.2.1]",
          false, DMARC_NONE },
        { "two trusted hosts", "10.0.0.1", "a@good.test",
          "Received: from f1 (f1.test [10.0.0.2]) by f2.test (Postfix) with ESMTP id 1; "
          "Sun, 22 Nov 2026 00:00:00 +0000\n"
          "Received: from mx.good.test (mx.good.test [192.0.2.9]) by f1.test "
          "(Postfix) with ESMTP id 1; Sun, 22 Nov 2026 00:00:00 +0000\n"
          "Received: from inside (inside [192.0.2.1]) by mx.good.test\n" FROM_GOOD,
          " spf=fail dkim=none dmarc=fail header-from=good.test origin=[192.0.2.9]", true,
          DMARC_REJECT },
    };
    set_up("");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct verified *out =
            message(rows[i].client, rows[i].sender, "", rows[i].fields);
        CU_ASSERT(out->done);
        CHECK_STR(rows[i].what, out->words, rows[i].words);
        CHECK_INT(rows[i].what, out->would_fail, rows[i].would_fail);
        CHECK_INT(rows[i].what, out->disposition, rows[i].disposition);
        CU_ASSERT(out->results && strncmp(out->results, "mx.lab.test;", 12) == 0);
        CU_ASSERT(out->received_spf == NULL);
    }
    tear_down();
}

static void test_left_alone(void)
{
    static const struct {
        const char *what, *client, *auth, *fields;
    } rows[] = {
        { "logged in", "192.0.2.1", "joe", FROM_GOOD },
        { "local", "127.0.0.1", "", FROM_GOOD },
        { "begins at a trusted host", "10.1.2.3", "", FROM_GOOD },
        { "handed in on a trusted host", "10.1.2.3", "",
          "Received: by filter.test (Postfix, from userid 1000) id 1; Sun, 22 Nov 2026 "
          "00:00:00 +0000\n" FROM_GOOD },
        { "logged in on a trusted host", "10.1.2.3", "",
          "Received: from pc (pc.test [192.0.2.7]) by filter.test (Postfix) with ESMTPSA "
          "id 1; Sun, 22 Nov 2026 00:00:00 +0000\n" FROM_GOOD },
    };
    set_up("");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct verified *out =
            message(rows[i].client, "a@good.test", rows[i].auth, rows[i].fields);
        CHECK_INT(rows[i].what, out->done, false);
        CHECK_INT(rows[i].what, out->exempt, true);
        CU_ASSERT(out->results == NULL);
    }
    tear_down();
}

static void test_forged(void)
{
    static const char fields[] =
        "Authentication-Results: other.test; spf=pass\n"
        "Authentication-Results: mx.lab.test; spf=pass\n"
        "From: a@good.test\n"
        "authentication-RESULTS: MX.lab.test (x) 1; none\n"
        "Authentication-Results: mx.lab.test.evil.test; none\n"
        "Authentication-Results: mx.lab.test\n";
    static const char *const auth[] = { "", "joe" };
    set_up("");
    for (size_t i = 0; i < 2; i++) {
        const struct verified *out = message("192.0.2.1", "a@good.test", auth[i], fields);
        CHECK_INT("forged", out->forged_count, 3);
        if (out->forged_count == 3) {
            CHECK_INT("first", out->forged[0], 2);
            CHECK_INT("second", out->forged[1], 3);
            CHECK_INT("third", out->forged[2], 5);
        }
        CHECK_INT("verified", out->done, i == 0);
    }
    tear_down();
}

/* "Authentication-Results: <value>", n times, behind as many lines of another
 * field; then the end. */
static const struct verified *flood(const char *client, size_t lines, const char *value,
                                    size_t n)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    CU_ASSERT_FATAL(inet_pton(AF_INET, client, &address.sin_addr) == 1);
    verify_connect(scene.v, (const struct sockaddr *)&address);
    verify_mail(scene.v, scene.verifier, "a@good.test", "");
    verify_header(scene.v, "From", " a@good.test");
    for (size_t i = 0; i < lines / 10; i++)
        verify_header(scene.v, "X-Folded", "\n a\n a\n a\n a\n a\n a\n a\n a\n a");
    for (size_t i = 0; i < n; i++)
        verify_header(scene.v, "Authentication-Results", value);
    verify_end_of_headers(scene.v);
    verify_finish(scene.v, &scene.out);
    return &scene.out;
}

/* Postfix is slow at deleting many fields of a long header. */
static void test_flood(void)
{
    static const struct {
        const char *what, *client, *value;
        size_t lines, n, forged;
        bool flooded, exempt;
    } rows[] = {
        { "a thousand", "192.0.2.1", " mx.lab.test; none", 0, 1000, 1000, false, false },
        { "five thousand", "192.0.2.1", "mx.lab.test", 0, 5000, 0, true, false },
        { "of others", "192.0.2.1", " x.test; none", 0, 5000, 0, false, false },
        { "a few far down", "192.0.2.1", " mx.lab.test", 100000, 10, 10, false, false },
        { "more far down", "192.0.2.1", " mx.lab.test", 100000, 50, 0, true, false },
        { "of a trusted host", "10.0.0.1", " mx.lab.test", 0, 5000, 0, true, true },
    };
    set_up("");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct verified *out =
            flood(rows[i].client, rows[i].lines, rows[i].value, rows[i].n);
        CHECK_INT(rows[i].what, out->flooded, rows[i].flooded);
        CHECK_INT(rows[i].what, out->exempt, rows[i].exempt);
        CHECK_INT(rows[i].what, out->forged_count, rows[i].forged);
    }
    CHECK_INT("the next message", flood("192.0.2.1", 0, " mx.lab.test", 1)->forged_count,
              1);
    tear_down();
}

static void test_switches(void)
{
    set_up("dkim = false  dmarc = false  received-spf = true");
    const struct verified *out = message("192.0.2.1", "a@good.test", "", FROM_GOOD);
    CHECK_STR("words", out->words, " spf=pass header-from=good.test");
    CU_ASSERT(out->received_spf && strncmp(out->received_spf, "pass", 4) == 0);
    tear_down();
    set_up("spf = false");
    out = message("192.0.2.2", "a@good.test", "", FROM_GOOD);
    CHECK_STR("words", out->words, " dkim=none dmarc=fail header-from=good.test");
    CHECK_INT("not known", out->would_fail, false);
    tear_down();
}

static void test_next_message(void)
{
    set_up("");
    (void)message("192.0.2.1", "a@good.test", "", FROM_GOOD);
    verify_reset(scene.v);
    verify_header(scene.v, "From", " x@y.test"); /* between two messages */
    verify_finish(scene.v, &scene.out);
    CHECK_INT("nothing", scene.out.done, false);
    verify_mail(scene.v, scene.verifier, "a@soft.test", "");
    verify_header(scene.v, "From", " a@soft.test");
    verify_end_of_headers(scene.v);
    verify_finish(scene.v, &scene.out);
    CHECK_STR("the same client", scene.out.words,
              " spf=pass dkim=none dmarc=none header-from=soft.test");
    tear_down();
}

UNIT_MAIN("verify", { "results", test_results }, { "left alone", test_left_alone },
          { "forged", test_forged }, { "flood", test_flood }, { "switches", test_switches },
          { "next message", test_next_message })
