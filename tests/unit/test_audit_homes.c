/*
 * test_audit_homes: whether a delivery came in time (cutover/audit_homes.h).
 */
#include <stdlib.h>
#include <unistd.h>

#include "audit_homes.h"
#include "unit.h"

#define T0 1795339626 /* the history below begins */

static const char configuration[] =
    "side = old\n"
    "hostname = \"old.example.com\"\n"
    "redis = \"unix:/run/redis.sock\"\n"
    "recipient-delimiter = \"+\"\n"
    "domain \"example.com\" { new = \"[mx.new.example]\" }\n";

static struct conf *load(void)
{
    char path[] = "/tmp/sluice-audit-XXXXXX", error[512];
    int fd = mkstemp(path);
    size_t len = strlen(configuration);
    CU_ASSERT_FATAL(fd >= 0 && write(fd, configuration, len) == (ssize_t)len);
    close(fd);
    struct conf *conf = conf_load(path, error, sizeof(error));
    unlink(path);
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    return conf;
}

/* Seconds after T0. */
static void happens(struct audit_homes *homes, uint64_t epoch, enum event_op op,
                    char letter, int at, const char *domain, const char *body)
{
    struct event event = { .at = { .epoch = epoch },
                           .op = op,
                           .letter = letter,
                           .time = T0 + at,
                           .body = body,
                           .body_len = strlen(body) };
    memcpy(event.domain, domain, strlen(domain) + 1);
    CU_ASSERT(audit_homes_event(homes, &event));
}

/* a: locked 100, confirmed on old 140, flipped 200, rolled back 300, unlocked 400.
 * b: locked 100, unlocked 110. c: there and back within seconds of 500. The rest of the domain: locked 250, flipped 290. */
static struct audit_homes *history(const struct conf *conf)
{
    struct audit_homes *homes = audit_homes_new(conf);
    CU_ASSERT_PTR_NOT_NULL_FATAL(homes);
    happens(homes, 1, EVENT_BASE, 'o', 0, "example.com", "\to1.6b02b56a\n");
    happens(homes, 1, EVENT_BASE, 'o', 0, "", "old.example.com\told\n");
    happens(homes, 2, EVENT_HOST, 'o', 1, "", "new.example.com\tnew\n");
    happens(homes, 3, EVENT_IMPORT, 'o', 2, "example.com",
            "a\to1.6b02b56a\nb\to1.6b02b56a\nc\to1.6b02b56a\n");
    happens(homes, 4, EVENT_LOCK, 'l', 100, "example.com", "a\nb\n");
    happens(homes, 5, EVENT_UNLOCK, 'o', 110, "example.com", "b\n");
    happens(homes, 6, EVENT_FLIP, 'n', 200, "example.com", "a\n");
    happens(homes, 7, EVENT_LOCK, 'l', 250, "example.com", "\n");
    happens(homes, 8, EVENT_FLIP, 'n', 290, "example.com", "\n");
    happens(homes, 9, EVENT_ROLLBACK, 'r', 300, "example.com", "a\n");
    happens(homes, 10, EVENT_UNLOCK, 'o', 400, "example.com", "a\n");
    happens(homes, 11, EVENT_LOCK, 'l', 500, "example.com", "c\n");
    happens(homes, 12, EVENT_FLIP, 'n', 501, "example.com", "c\n");
    happens(homes, 13, EVENT_ROLLBACK, 'r', 502, "example.com", "c\n");
    happens(homes, 14, EVENT_UNLOCK, 'o', 503, "example.com", "c\n");
    return homes;
}

static void fences(struct audit_homes *homes)
{
    audit_homes_fence(homes, (struct log_slice){ "old.example.com", 15 }, 4,
                      (T0 + 140) * LEDGER_SECOND);
    audit_homes_fence(homes, (struct log_slice){ "new.example.com", 15 }, 9,
                      (T0 + 333) * LEDGER_SECOND);
}

static const struct {
    const char *mailbox, *host;
    int at;
    enum ledger_judged with, without; /* policyd's lines */
} deliveries[] = {
    { "a@example.com", "old", -50, JUDGED_FINE, JUDGED_FINE }, /* before all */
    { "a@example.com", "old", 50, JUDGED_FINE, JUDGED_FINE },
    { "a@example.com", "old", 105, JUDGED_LOCKING, JUDGED_LOCKING },
    { "a@example.com", "old", 139, JUDGED_LOCKING, JUDGED_LOCKING },
    { "a@example.com", "old", 141, JUDGED_WRONG, JUDGED_LOCKING },
    { "a@example.com", "old", 199, JUDGED_WRONG, JUDGED_LOCKING },
    { "a@example.com", "old", 210, JUDGED_WRONG, JUDGED_WRONG },
    { "a@example.com", "old", 350, JUDGED_WRONG, JUDGED_WRONG },
    { "a@example.com", "old", 399, JUDGED_FINE, JUDGED_FINE }, /* clocks differ */
    { "a@example.com", "old", 450, JUDGED_FINE, JUDGED_FINE },
    { "a+x@example.com", "old", 141, JUDGED_WRONG, JUDGED_LOCKING },
    { "b@example.com", "old", 105, JUDGED_LOCKING, JUDGED_LOCKING },
    { "b@example.com", "old", 150, JUDGED_FINE, JUDGED_FINE },
    { "b@example.com", "new", 150, JUDGED_WRONG, JUDGED_WRONG },
    { "a@example.com", "new", 150, JUDGED_WRONG, JUDGED_WRONG }, /* before its flip */
    { "a@example.com", "new", 199, JUDGED_FINE, JUDGED_FINE },
    { "a@example.com", "new", 250, JUDGED_FINE, JUDGED_FINE },
    { "a@example.com", "new", 320, JUDGED_LOCKING, JUDGED_LOCKING },
    { "a@example.com", "new", 334, JUDGED_WRONG, JUDGED_LOCKING },
    { "a@example.com", "new", 450, JUDGED_WRONG, JUDGED_WRONG },
    { "c@example.com", "new", 501, JUDGED_FINE, JUDGED_FINE },
    { "c@example.com", "new", 510, JUDGED_WRONG, JUDGED_WRONG },
    { "stranger@example.com", "old", 200, JUDGED_FINE, JUDGED_FINE },
    { "stranger@example.com", "old", 300, JUDGED_WRONG, JUDGED_WRONG },
    { "a@other.test", "old", 300, JUDGED_FINE, JUDGED_FINE },
};

static void test_judge(void)
{
    struct conf *conf = load();
    for (int with = 0; with < 2; with++) {
        struct audit_homes *homes = history(conf);
        if (with)
            fences(homes);
        for (size_t i = 0; i < sizeof(deliveries) / sizeof(deliveries[0]); i++) {
            char what[200];
            int64_t us = (T0 + deliveries[i].at) * LEDGER_SECOND;
            enum ledger_side side = audit_homes_side(homes, deliveries[i].host);
            (void)snprintf(what, sizeof(what), "%s on %s at %d %s", deliveries[i].mailbox,
                           deliveries[i].host, deliveries[i].at,
                           with ? "with" : "without");
            CHECK_INT(what,
                      audit_homes_judge(homes, deliveries[i].mailbox, deliveries[i].host,
                                        side, us, us + LEDGER_SECOND - 1),
                      with ? deliveries[i].with : deliveries[i].without);
        }
        audit_homes_free(homes);
    }
    conf_unref(conf);
}

static void test_sides(void)
{
    static const struct {
        const char *name;
        enum ledger_side want;
    } names[] = {
        { "old.example.com", LEDGER_SIDE_OLD },
        { "old", LEDGER_SIDE_OLD },
        { "OLD", LEDGER_SIDE_OLD },
        { "new", LEDGER_SIDE_NEW },
        { "old.example.net", LEDGER_SIDE_UNKNOWN },
        { "mx3", LEDGER_SIDE_NEW },
        { "mx3.example.com", LEDGER_SIDE_NEW },
        { "mx4", LEDGER_SIDE_UNKNOWN },
        { "", LEDGER_SIDE_UNKNOWN },
    };
    struct conf *conf = load();
    struct audit_homes *homes = history(conf);
    CU_ASSERT(audit_homes_name(homes, "mx3", LEDGER_SIDE_NEW));
    happens(homes, 11, EVENT_HOST, 'o', 500, "", "mx4.example.com\told\n");
    happens(homes, 12, EVENT_HOST, 'o', 500, "", "mx4.example.net\tnew\n");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        CHECK_INT(names[i].name, audit_homes_side(homes, names[i].name), names[i].want);
    audit_homes_free(homes);
    conf_unref(conf);
}

UNIT_MAIN("audit_homes", { "judge", test_judge }, { "sides", test_sides })
