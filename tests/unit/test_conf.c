/* sluice.conf: what it means, and one good line for everything wrong in it. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf.h"
#include "unit.h"

static char dir[] = "/tmp/sluice-conf-XXXXXX";
static char path[64], password[64];
static char error[1024];

#define HEAD                                                                             \
    "side = old\n"                                                                       \
    "hostname = mx1.example.com\n"                                                       \
    "redis = \"unix:/run/redis.sock\"\n"

static void write_file(const char *where, const char *text, size_t len, mode_t mode)
{
    FILE *file = fopen(where, "w");

    CU_ASSERT_FATAL(file && fwrite(text, 1, len, file) == len && fclose(file) == 0);
    CU_ASSERT_FATAL(chmod(where, mode) == 0);
}

static struct conf *load(const char *text)
{
    write_file(path, text, strlen(text), 0644);
    return conf_load(path, error, sizeof(error));
}

static struct conf *load_ok(const char *text)
{
    struct conf *conf = load(text);

    if (!conf)
        printf("\n  %s\n", error);
    CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
    CHECK_STR("error", error, "");
    return conf;
}

/* want: what follows the path. */
static void check_error(const char *text, const char *want)
{
    struct conf *conf = load(text);
    size_t len = strlen(path);

    if (conf) {
        printf("\n  accepted, expected \"%s\" for:\n%s\n", want, text);
        CU_FAIL("accepted");
        conf_unref(conf);
        return;
    }
    CU_ASSERT_TRUE(strncmp(error, path, len) == 0);
    CHECK_STR("error", error + len, want);
}

static void check_list(const char *what, char *const *list, const char *want)
{
    char got[1024] = "";
    size_t used = 0;

    for (; list && *list; list++)
        used += (size_t)snprintf(got + used, sizeof(got) - used, "%s;", *list);
    CHECK_STR(what, got, want);
}

/* The auth section in one line. */
static const char *auth_text(const struct conf *conf)
{
    static const char *const enforce[] = { "none", "quarantine", "reject" };
    static char out[2048];
    const struct conf_auth *auth = &conf->auth;
    char addr[NETADDR_TEXT_MAX + 1];
    size_t used = 0;

#define ADD(...)                                                                         \
    do {                                                                                 \
        used += (size_t)snprintf(out + used, sizeof(out) - used, __VA_ARGS__);           \
        CU_ASSERT_FATAL(used < sizeof(out));                                             \
    } while (0)
    ADD("%s%s%s%s", auth->spf ? "spf " : "", auth->dkim ? "dkim " : "",
        auth->dmarc ? "dmarc " : "", auth->received_spf ? "received " : "");
    if (used == 0)
        ADD("off ");
    ADD("%s %s id=%s trusted=", auth->discovery == DISCOVERY_PSL ? "psl" : "treewalk",
        enforce[auth->enforce], auth->authserv_id);
    for (size_t i = 0; i < auth->trusted_count; i++)
        ADD("%s/%d,", netaddr_format(&auth->trusted[i].base, addr),
            auth->trusted[i].bits);
    ADD(" servers=");
    for (size_t i = 0; i < auth->server_count; i++)
        ADD("%s#%d,", netaddr_format(&auth->servers[i].address, addr),
            auth->servers[i].port);
    ADD(" stubs=");
    for (size_t i = 0; i < auth->stub_count; i++)
        ADD("%s@%s#%d,", auth->stubs[i].zone,
            netaddr_format(&auth->stubs[i].server.address, addr),
            auth->stubs[i].server.port);
    ADD(" anchor=%s %d %d %d", auth->trust_anchor ? auth->trust_anchor : "-",
        auth->query_timeout, auth->message_timeout, auth->signatures);
#undef ADD
    return out;
}

static void test_defaults(void)
{
    struct conf *conf = load_ok(HEAD);

    CHECK_STR("path", conf->path, path);
    CHECK_INT("side", conf->side, SIDE_OLD);
    CHECK_STR("hostname", conf->hostname, "mx1.example.com");
    CHECK_STR("redis", conf->redis.path, "/run/redis.sock");
    CU_ASSERT_PTR_NULL(conf->redis_user);
    CU_ASSERT_PTR_NULL(conf->redis_password_file);
    CU_ASSERT_PTR_NULL(conf->redis_password);
    CHECK_INT("redis-replicas", conf->redis_replicas, 0);
    CHECK_INT("redis-durable", conf->redis_durable, true);
    CHECK_INT("lookup-timeout", conf->lookup_timeout, 200);
    CHECK_INT("command-timeout", conf->command_timeout, 3000);
    CHECK_INT("mta", conf->mta, MTA_POSTFIX);
    CHECK_STR("postfix-config", conf->postfix_config, "/etc/postfix");
    CHECK_STR("postfix-commands", conf->postfix_commands, "/usr/sbin");
    CHECK_INT("fence", conf->fence, FENCE_WAIT);
    CHECK_INT("hold", conf->hold, HOLD_QUEUE);
    CHECK_STR("user", conf->user, "sluice");
    CHECK_STR("group", conf->group, "postfix");
    CHECK_STR("state-dir", conf->state_dir, "/var/lib/sluice");
    CHECK_INT("log", conf->log, LOG_TO_SYSLOG);
    CHECK_STR("recipient-delimiter", conf->recipient_delimiter, "+");
    CHECK_STR("milter", conf->milter_listen.path,
              "/var/spool/postfix/sluice/milter.sock");
    CHECK_STR("policy", conf->policy_listen.path,
              "/var/spool/postfix/sluice/policy.sock");
    CHECK_STR("map", conf->map_listen.path, "/var/spool/postfix/sluice/map.sock");
    CU_ASSERT_PTR_NULL(conf->sync.command);
    CU_ASSERT_PTR_NULL(conf->sync.reverse_command);
    CHECK_INT("jobs", conf->sync.jobs, 8);
    CHECK_INT("timeout", conf->sync.timeout, 3600);
    CHECK_INT("on-failure", conf->sync.on_failure, ON_FAILURE_UNLOCK);
    CU_ASSERT_PTR_NULL(conf->http.listen.text);
    CU_ASSERT_PTR_NULL(conf->http.password);
    check_list("http-hosts", conf->http.hosts, "");
    CU_ASSERT_PTR_NULL(conf->alarm_command);
    CHECK_INT("lock-deadline", conf->lock_deadline, 14400);
    CHECK_STR("no auth section", auth_text(conf),
              "off psl none "
              "id=mx1.example.com trusted=127.0.0.0/8,::1/128, servers= stubs= anchor=- "
              "5000 10000 8");
    CU_ASSERT_PTR_NULL(conf->srs.domain);
    CU_ASSERT_PTR_NULL(conf->srs.secret_file);
    CU_ASSERT_PTR_NULL(conf->srs.secrets);
    CHECK_INT("domains", conf->domain_count, 0);
    CU_ASSERT_PTR_NULL(conf_managed(conf, "example.com"));
    CU_ASSERT_PTR_NULL(conf_managed(conf, ""));
    CU_ASSERT_FALSE(conf_redirects_to(conf, "example.com"));
    char journal[100], small[10];
    conf_journal_path(conf, journal, sizeof(journal));
    CHECK_STR("journal", journal, "/var/lib/sluice/journal");
    conf_journal_path(conf, small, sizeof(small));
    CHECK_STR("journal that does not fit", small, "");
    conf_unref(conf);
    conf_unref(NULL);
}

static void test_everything(void)
{
    char text[4096];

    write_file(password, "s3cret word\n", 12, 0600);
    snprintf(text, sizeof(text),
             "\xef\xbb\xbf# a comment\r\n"
             "side = 'new'  // another\n"
             "hostname = \"MX2.Example.COM.\" /* one more,\n over two lines */\n"
             "redis = tcp:redis.example:6380\n"
             "redis-user = sluice\n"
             "redis-password-file = \"%s\"\n"
             "redis-replicas = 1\nredis-durable = no\n"
             "lookup-timeout = 100\ncommand-timeout = 5000\n"
             "mta = postfix\npostfix-config = /etc/postfix-out\n"
             "postfix-commands = \"/opt/postfix/sbin\"\n"
             "fence = reload\nhold = defer\nuser = mail\ngroup = mailsock\n"
             "state-dir = /srv/sluice\nlog = stderr\nrecipient-delimiter = \"+#\"\n"
             "milter { listen = \"tcp:[::1]:7357\" }\n"
             "policyd { policy = \"127.0.0.1:7358\"\n map = unix:/run/map.sock }\n"
             "sync {\n command = {\"/etc/sluice/sync\", \"--fast\", \"\"}\n"
             " reverse-command = \"/etc/sluice/sync-back\"\n"
             " jobs = 1000\n timeout = 90m\n on-failure = keep\n}\n"
             "domain \"B\xc3\xbc"
             "cher.Example\" {\n"
             "  same-as = {\"localhost\", \"MX2.example.com\", \"[192.0.2.7]\"}\n"
             "  old = \"[10.0.0.5]:2525\"\n  new = mx.new.example\n"
             "  new-address = \"x.%%l@Tenant.Example.NET\"\n"
             "  redirect-domains = {\"Copy.example\"}\n"
             "  copy-outbound = true\n}\n"
             "domain second.example { old = \"[ipv6:2001:db8::1]\" }\n",
             password);
    struct conf *conf = load_ok(text);

    CHECK_INT("side", conf->side, SIDE_NEW);
    CHECK_STR("hostname", conf->hostname, "mx2.example.com");
    CHECK_STR("redis", conf->redis.host, "redis.example");
    CHECK_INT("redis", conf->redis.port, 6380);
    CU_ASSERT_PTR_NULL(conf->redis.path);
    CHECK_STR("redis-user", conf->redis_user, "sluice");
    CHECK_STR("redis-password", conf->redis_password, "s3cret word");
    CHECK_INT("redis-replicas", conf->redis_replicas, 1);
    CHECK_INT("redis-durable", conf->redis_durable, false);
    CHECK_INT("lookup-timeout", conf->lookup_timeout, 100);
    CHECK_INT("command-timeout", conf->command_timeout, 5000);
    CHECK_INT("mta", conf->mta, MTA_POSTFIX);
    CHECK_STR("postfix-config", conf->postfix_config, "/etc/postfix-out");
    CHECK_STR("postfix-commands", conf->postfix_commands, "/opt/postfix/sbin");
    CHECK_INT("fence", conf->fence, FENCE_RELOAD);
    CHECK_INT("hold", conf->hold, HOLD_DEFER);
    CHECK_STR("user", conf->user, "mail");
    CHECK_STR("group", conf->group, "mailsock");
    CHECK_STR("state-dir", conf->state_dir, "/srv/sluice");
    CHECK_INT("log", conf->log, LOG_TO_STDERR);
    CHECK_STR("recipient-delimiter", conf->recipient_delimiter, "+#");
    CHECK_STR("milter", conf->milter_listen.text, "tcp:[::1]:7357");
    CHECK_STR("milter", conf->milter_listen.host, "::1");
    CHECK_INT("milter", conf->milter_listen.port, 7357);
    CHECK_STR("policy", conf->policy_listen.host, "127.0.0.1");
    CHECK_STR("map", conf->map_listen.path, "/run/map.sock");
    check_list("command", conf->sync.command, "/etc/sluice/sync;--fast;;");
    check_list("reverse", conf->sync.reverse_command, "/etc/sluice/sync-back;");
    CHECK_INT("jobs", conf->sync.jobs, 1000);
    CHECK_INT("timeout", conf->sync.timeout, 5400);
    CHECK_INT("on-failure", conf->sync.on_failure, ON_FAILURE_KEEP);

    CU_ASSERT_FATAL(conf->domain_count == 2);
    const struct conf_domain *domain = &conf->domains[0];
    CHECK_STR("name", domain->name, "xn--bcher-kva.example");
    check_list("same-as", domain->same_as, "localhost;mx2.example.com;[192.0.2.7];");
    CHECK_STR("old", domain->old.text, "[10.0.0.5]:2525");
    CHECK_STR("old", domain->old.host, "10.0.0.5");
    CHECK_INT("old", domain->old.port, 2525);
    CHECK_INT("old", domain->old.lookup_mx, false);
    CHECK_STR("new", domain->new.text, "mx.new.example");
    CHECK_INT("new", domain->new.port, 25);
    CHECK_INT("new", domain->new.lookup_mx, true);
    CHECK_STR("new-address", domain->new_address, "x.%l@tenant.example.net");
    check_list("redirect", domain->redirect_domains, "copy.example;tenant.example.net;");
    CHECK_INT("copy-outbound", domain->copy_outbound, true);
    CHECK_STR("ipv6", conf->domains[1].old.host, "2001:db8::1");
    CHECK_STR("ipv6", conf->domains[1].old.text, "[ipv6:2001:db8::1]");

    CU_ASSERT_PTR_EQUAL(conf_managed(conf, "xn--bcher-kva.example"), domain);
    CU_ASSERT_PTR_EQUAL(conf_managed(conf, "localhost"), domain);
    CU_ASSERT_PTR_EQUAL(conf_managed(conf, "[192.0.2.7]"), domain);
    CU_ASSERT_PTR_EQUAL(conf_managed(conf, "second.example"), &conf->domains[1]);
    CU_ASSERT_PTR_NULL(conf_managed(conf, "tenant.example.net"));
    CU_ASSERT_TRUE(conf_redirects_to(conf, "tenant.example.net"));
    CU_ASSERT_TRUE(conf_redirects_to(conf, "copy.example"));
    CU_ASSERT_FALSE(conf_redirects_to(conf, "localhost"));
    conf_unref(conf);
}

static void test_next_hops(void)
{
    static const struct {
        const char *hop;
        const char *want; /* host port mx, or what is wrong */
    } cases[] = {
        { "[10.0.0.5]:25", "10.0.0.5 25 0" },
        { "[10.0.0.5]", "10.0.0.5 25 0" },
        { "[MX.New.example]:2525", "mx.new.example 2525 0" },
        { "mx.new.example:2525", "mx.new.example 2525 1" },
        { "new.example", "new.example 25 1" },
        { "[::1]:25", "::1 25 0" },
        { "[IPv6:::1]:65535", "::1 65535 0" },
        { "[b\xc3\xbc"
          "cher.example]:26",
          "xn--bcher-kva.example 26 0" },
        { "", "!new: must not be empty" },
        { "[]:25", "!new = \"[]:25\": has no host" },
        { ":25", "!new = \":25\": has no host" },
        { "[10.0.0.5", "!new = \"[10.0.0.5\": lacks the closing \"]\"" },
        { "[10.0.0.5]25", "!new = \"[10.0.0.5]25\": has no valid port (1 to 65535)" },
        { "mx:0", "!new = \"mx:0\": has no valid port (1 to 65535)" },
        { "mx:65536", "!new = \"mx:65536\": has no valid port (1 to 65535)" },
        { "mx:smtp", "!new = \"mx:smtp\": has no valid port (1 to 65535)" },
        { "mx:", "!new = \"mx:\": has no valid port (1 to 65535)" },
        { "m x", "!new = \"m x\": has no valid host name" },
        { "::1", "!new = \"::1\": is an IPv6 address without brackets: write "
                 "[address]:port" },
        { "10.0.0.5:25", "!new = \"10.0.0.5:25\": is an address, which Postfix wants in "
                         "brackets: [address]:port" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[1024], got[512], want[512];
        snprintf(text, sizeof(text), HEAD "domain a.example { new = \"%s\" }\n",
                 cases[i].hop);
        if (cases[i].want[0] == '!') {
            snprintf(want, sizeof(want), ":4: %s", cases[i].want + 1);
            check_error(text, want);
            continue;
        }
        struct conf *conf = load_ok(text);
        const struct conf_hop *hop = &conf->domains[0].new;
        snprintf(got, sizeof(got), "%s %u %d", hop->host, (unsigned)hop->port,
                 hop->lookup_mx);
        CHECK_STR(cases[i].hop, got, cases[i].want);
        conf_unref(conf);
    }
    struct conf *conf = load_ok(HEAD "domain a.example { new = \"[b\xc3\xbc"
                                     "cher.example]\" }\n");
    CHECK_STR("Postfix gets the A-labels", conf->domains[0].new.text,
              "[xn--bcher-kva.example]:25");
    conf_unref(conf);
}

#define LONG50 "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee"

static void test_errors(void)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "", ": side is not set: side = old or side = new" },
        { "side = old\nredis = \"unix:/r\"\n",
          ": hostname is not set: this host's name, hostname = \"...\"" },
        { "side = old\nhostname = mx\n",
          ": redis is not set: redis = \"unix:/path\" or \"tcp:host:port\"" },
        { "side = middle\n", ":1: side = \"middle\": must be one of old|new" },
        { "side = \"\"\n", ":1: side = \"\": must be one of old|new" },
        { "side = \"old|new\"\n", ":1: side = \"old|new\": must be one of old|new" },
        { "mta = exim\n", ":1: mta = \"exim\": must be one of postfix" },
        { "fence = no\n", ":1: fence = \"no\": must be one of wait|reload" },
        { "hold = drop\n", ":1: hold = \"drop\": must be one of queue|defer" },
        { "log = file\n", ":1: log = \"file\": must be one of syslog|stderr" },
        { "# one\n\n/* two\n three */ // four\nsid = old\n", ":5: no such option 'sid'" },
        { "milter { listn = \"unix:/a\" }\n", ":1: no such option 'listn'" },
        { "auth { spff = true }\n", ":1: no such option 'spff'" },
        { "auth { spf = sure }\n", ":1: invalid boolean value for option 'spf'" },
        { "auth {\n spf = no\n}\nauth {\n spf = yes\n}\n", ":5: spf is given twice" },
        { "auth { enforce = drop }\n",
          ":1: enforce = \"drop\": must be one of none|quarantine|reject" },
        { HEAD "auth { enforce = reject dkim = no }\n",
          ":4: enforce = reject: needs spf, dkim and dmarc" },
        { "auth { dmarc-discovery = psd }\n",
          ":1: dmarc-discovery = \"psd\": must be one of psl|treewalk" },
        { "auth { authserv-id = \"\" }\n", ":1: authserv-id: must not be empty" },
        { "auth { authserv-id = \"a\\tb\" }\n",
          ":1: authserv-id: control characters are not allowed" },
        { "auth { authserv-id = \"" LONG50 LONG50 LONG50 LONG50 LONG50 "123456\" }\n",
          ":1: authserv-id: longer than 255 bytes" },
        { "auth { trusted = {\"127.0.0.1\",\n\"10.0.0.1/8\"} }\n",
          ":2: trusted: \"10.0.0.1/8\" is neither an address nor a block like "
          "192.0.2.0/24 (the bits after the prefix must be 0)" },
        { "auth { servers = {\"ns.example\"} }\n",
          ":1: servers: \"ns.example\" is not an IP address" },
        { "auth { servers = {\"192.0.2.1:0\"} }\n",
          ":1: servers: \"192.0.2.1:0\" has no valid port (1 to 65535)" },
        { "auth { servers = {\"192.0.2.1#53\"} }\n",
          ":1: servers: \"192.0.2.1#53\" has no valid host name" },
        { "auth { stub-zones = {\"example.test\"} }\n",
          ":1: stub-zones: \"example.test\" must be like "
          "\"example.test=127.0.0.1:5353\"" },
        { "auth { stub-zones = {\"a..b=127.0.0.1\"} }\n",
          ":1: stub-zones: \"a..b=127.0.0.1\" begins with no domain name" },
        { "auth { stub-zones = {\"a=b=127.0.0.1\"} }\n",
          ":1: stub-zones: \"a=b=127.0.0.1\" has no valid host name" },
        { "auth { trust-anchor = root.key }\n",
          ":1: trust-anchor = \"root.key\": must be an absolute path" },
        { HEAD "auth { trust-anchor = /nonexistent/root.key }\n",
          ": trust-anchor /nonexistent/root.key: No such file or directory" },
        { HEAD "auth { trust-anchor = /dev/null }\n",
          ": trust-anchor /dev/null is not a regular file" },
        { "auth { query-timeout = 99 }\n",
          ":1: query-timeout = 99: must be 100 to 60000" },
        { "auth { message-timeout = 60001 }\n",
          ":1: message-timeout = 60001: must be 100 to 60000" },
        { HEAD "auth { message-timeout = 4999 }\n",
          ":4: message-timeout = 4999: less than query-timeout = 5000" },
        { "auth { signatures = 0 }\n", ":1: signatures = 0: must be 1 to 32" },
        { "auth { signatures = 33 }\n", ":1: signatures = 33: must be 1 to 32" },
        { HEAD "srs { domain = a.example }\n",
          ":4: srs needs both domain and secret-file" },
        { HEAD "srs {\n secret-file = /etc/x }\n",
          ":5: srs needs both domain and secret-file" },
        { "srs { domain = \"a b\" }\n", ":1: domain: \"a b\" is not a domain name" },
        { "srs { domain = \"[192.0.2.1]\" }\n",
          ":1: domain: \"[192.0.2.1]\" is not a domain name" },
        { "srs { secret-file = key }\n",
          ":1: secret-file = \"key\": must be an absolute path" },
        { HEAD "srs { domain = a.example secret-file = /nonexistent/key }\n",
          ": secret-file /nonexistent/key: No such file or directory" },
        { "include(\"/etc/passwd\")\n", ":1: no such option 'include'" },
        { HEAD "side = new\n", ":4: side is given twice" },
        { "milter {\n listen = \"unix:/a\"\n listen = \"unix:/b\"\n}\n",
          ":3: listen is given twice" },
        { "hostname = \"a b\"\n", ":1: hostname = \"a b\": not a host name" },
        { "hostname = \"[192.0.2.1]\"\n",
          ":1: hostname = \"[192.0.2.1]\": not a host name" },
        { "redis = \"/run/redis.sock\"\n",
          ":1: redis = \"/run/redis.sock\": has no valid host name; write "
          "\"unix:/path\" or \"tcp:host:port\"" },
        { "redis = \"tcp:localhost\"\n",
          ":1: redis = \"tcp:localhost\": has no port; write \"unix:/path\" or "
          "\"tcp:host:port\"" },
        { "redis = \"unix:redis.sock\"\n",
          ":1: redis = \"unix:redis.sock\": the path must be absolute" },
        { "redis = \"unix:/" LONG50 "/" LONG50 "/abcdef\"\n",
          ":1: redis: the socket path has 109 bytes, a unix socket allows 107" },
        { "redis = \"\"\n", ":1: redis: must not be empty" },
        { "redis-replicas = -1\n", ":1: redis-replicas = -1: must be 0 to 100" },
        { "lookup-timeout = 0\n", ":1: lookup-timeout = 0: must be 10 to 10000" },
        { "lookup-timeout = 1s\n",
          ":1: invalid integer value for option 'lookup-timeout'" },
        { "command-timeout = 99999999999999999999\n",
          ":1: integer value for option 'command-timeout' is out of range" },
        { "redis-durable = perhaps\n",
          ":1: invalid boolean value for option 'redis-durable'" },
        { "postfix-config = \"etc\"\n",
          ":1: postfix-config = \"etc\": must be an absolute path" },
        { "state-dir = \"\"\n", ":1: state-dir: must not be empty" },
        { "user = \"a\\nb\"\n", ":1: user: control characters are not allowed" },
        { "recipient-delimiter = \"+@\"\n",
          ":1: recipient-delimiter = \"+@\": must not hold space, @, quote, \\, < or >" },
        { "sync { jobs = 0 }\n", ":1: jobs = 0: must be 1 to 1000" },
        { "sync { jobs = 1001 }\n", ":1: jobs = 1001: must be 1 to 1000" },
        { "sync { timeout = 0 }\n", ":1: timeout = \"0\": must be a number with s, m, h "
                                    "or d, up to 30 days" },
        { "sync { timeout = 31d }\n",
          ":1: timeout = \"31d\": must be a number with s, m, "
          "h or d, up to 30 days" },
        { "sync { timeout = 1w }\n",
          ":1: timeout = \"1w\": must be a number with s, m, h "
          "or d, up to 30 days" },
        { "sync { on-failure = panic }\n",
          ":1: on-failure = \"panic\": must be one of unlock|keep" },
        { HEAD "sync {\n command = {\"\"}\n}\n",
          ":6: command: the program's name is empty" },
        /* syntax */
        { "side old\n", ":1: missing equal sign after option 'side'" },
        { "}\n", ":1: unexpected closing brace" },
        { "side = \"old\nhostname = mx\n", ":1: the quote is not closed on its line" },
        { "side = 'old\n", ":1: the quote is not closed on its line" },
        { "side = \"old\\", ":1: the quote is not closed on its line" },
        { "side = old\n/* for\never\n",
          ":2: the comment that begins here is not closed" },
        { "user = ${USER}\n", ":1: ${...} is not supported" },
        { "user = \"x${USER}\"\n", ":1: ${...} is not supported" },
        { "user = \"a\\0b\"\n", ":1: numeric escapes are not supported" },
        { "user = \"a\\x00b\"\n", ":1: numeric escapes are not supported" },
        { "domain { new = a }\n", ":1: missing title for section 'domain'" },
        /* domains */
        { "domain \"a b\" {}\n", ":1: domain: \"a b\" is not a domain name" },
        { "domain \"[10.0.0.1]\" {}\n",
          ":1: domain: \"[10.0.0.1]\" is not a domain name" },
        { "domain \"\" {}\n", ":1: domain: \"\" is not a domain name" },
        { HEAD "domain a.example { old = b }\n",
          ":4: domain \"a.example\" has neither new nor new-address: side = old needs "
          "one" },
        { "side = new\nhostname = mx\nredis = \"unix:/r\"\ndomain a.example { new = b "
          "}\n",
          ":4: domain \"a.example\" has no old: side = new needs it" },
        { HEAD "domain a.example { new = b }\ndomain a.example { new = c }\n",
          ":5: found duplicate title 'a.example'" },
        { HEAD "domain a.example { new = b }\ndomain A.Example { new = c }\n",
          ":5: domains \"a.example\" and \"a.example\" both have the name "
          "\"a.example\"" },
        { HEAD "domain a.example { new = b same-as = {\"c.example\"} }\n"
               "domain b.example { new = b same-as = {\"C.example.\"} }\n",
          ":5: domains \"a.example\" and \"b.example\" both have the name "
          "\"c.example\"" },
        { HEAD "domain a.example { new = b same-as = {\"b.example\"} }\n"
               "domain b.example { new = b }\n",
          ":5: domains \"a.example\" and \"b.example\" both have the name "
          "\"b.example\"" },
        { HEAD "domain a.example { new = b same-as = {\"a.example\"} }\n",
          ":4: domain \"a.example\" has the name \"a.example\" twice" },
        { HEAD "domain a.example { new = b same-as = {\"l\", \"L\"} }\n",
          ":4: domain \"a.example\" has the name \"l\" twice" },
        { HEAD "domain a.example { same-as = {\"not a name\"} }\n",
          ":4: same-as: \"not a name\" is not a domain name" },
        { HEAD "domain a.example {\n new-address = \"u@b.example\"\n}\n",
          ":5: new-address = \"u@b.example\": must contain %l once and no other %" },
        { HEAD "domain a.example { new-address = \"%l%l@b.example\" }\n",
          ":4: new-address = \"%l%l@b.example\": must contain %l once and no other %" },
        { HEAD "domain a.example { new-address = \"%l@%d.example\" }\n",
          ":4: new-address = \"%l@%d.example\": must contain %l once and no other %" },
        { HEAD "domain a.example { new-address = \"u@%l.example\" }\n",
          ":4: new-address = \"u@%l.example\": must be like \"%l@tenant.example.net\"" },
        { HEAD "domain a.example { new-address = \"%l\" }\n",
          ":4: new-address = \"%l\": must be like \"%l@tenant.example.net\"" },
        { HEAD "domain a.example { new-address = \"%l@b..c\" }\n",
          ":4: new-address = \"%l@b..c\": \"b..c\" is not a domain name" },
        { HEAD "domain a.example { new-address = \"%l@A.example\" }\n",
          ":4: domain \"a.example\" would be redirected to itself (\"a.example\")" },
        { HEAD "domain a.example { new = b same-as = {\"s.example\"}\n"
               "redirect-domains = {\"s.example\"} }\n",
          ":5: domain \"a.example\" would be redirected to itself (\"s.example\")" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_error(cases[i].text, cases[i].want);
}

static void test_files(void)
{
    CU_ASSERT_PTR_NULL(conf_load("/nonexistent/sluice.conf", error, sizeof(error)));
    CHECK_STR("missing", error,
              "/nonexistent/sluice.conf: cannot open: No such file or directory");
    CU_ASSERT_PTR_NULL(conf_load(dir, error, sizeof(error)));
    CU_ASSERT_PTR_NOT_NULL(strstr(error, "is not a regular file"));
    CU_ASSERT_PTR_NULL(conf_load("/dev/zero", error, sizeof(error)));
    CHECK_STR("endless", error, "/dev/zero: is not a regular file");
    write_file(path, "side\0= old", 10, 0644);
    CU_ASSERT_PTR_NULL(conf_load(path, error, sizeof(error)));
    CU_ASSERT_PTR_NOT_NULL(strstr(error, "is not a text file"));
    CU_ASSERT_FATAL(truncate(path, 5 << 20) == 0);
    CU_ASSERT_PTR_NULL(conf_load(path, error, sizeof(error)));
    CU_ASSERT_PTR_NOT_NULL(strstr(error, "is larger than 4194304 bytes"));
    /* The room for the message may be small, or none. */
    char small[12];
    CU_ASSERT_PTR_NULL(conf_load(path, small, sizeof(small)));
    CHECK_INT("cut", strlen(small), sizeof(small) - 1);
    CU_ASSERT_PTR_NULL(conf_load(path, NULL, 0));
}

static void check_password(const char *text, size_t len, mode_t mode, const char *want)
{
    char conf_text[512];

    unlink(password);
    write_file(password, text, len, mode);
    snprintf(conf_text, sizeof(conf_text), HEAD "redis-password-file = \"%s\"\n",
             password);
    struct conf *conf = load(conf_text);
    if (conf)
        CHECK_STR("password", conf->redis_password, want);
    else
        CU_ASSERT_PTR_NOT_NULL(strstr(error, want));
    if (!conf && !strstr(error, want))
        printf("\n  expected \"%s\" in \"%s\"\n", want, error);
    conf_unref(conf);
}

static void test_password(void)
{
    char text[512], long_one[2000];

    check_password("word", 4, 0600, "word");
    check_password("word\r\n", 6, 0400, "word");
    check_password(" two words ", 11, 0600, " two words ");
    check_password("word\n", 5, 0640, "has mode 0640: chmod 0600 ");
    check_password("word\n", 5, 0604, "has mode 0604: chmod 0600 ");
    check_password("", 0, 0600, "must hold one line of 1 to 1024 bytes");
    check_password("\n", 1, 0600, "must hold one line");
    check_password("a\nb\n", 4, 0600, "must hold one line");
    check_password("a\0b\n", 4, 0600, "must hold one line");
    memset(long_one, 'x', sizeof(long_one));
    check_password(long_one, 1025, 0600, "must hold one line of 1 to 1024 bytes");
    unlink(password);
    snprintf(text, sizeof(text), HEAD "redis-password-file = \"%s\"\n", password);
    CU_ASSERT_PTR_NULL(load(text));
    CU_ASSERT_PTR_NOT_NULL(strstr(error, "No such file or directory"));
    snprintf(text, sizeof(text), HEAD "redis-password-file = \"%s\"\n", dir);
    CU_ASSERT_PTR_NULL(load(text));
    CU_ASSERT_PTR_NOT_NULL(strstr(error, "is not a regular file"));
    if (geteuid() == 0) {
        write_file(password, "word", 4, 0600);
        CU_ASSERT_FATAL(chown(password, 12345, 0) == 0);
        snprintf(text, sizeof(text), HEAD "redis-password-file = \"%s\"\n", password);
        CU_ASSERT_PTR_NULL(load(text));
        CU_ASSERT_PTR_NOT_NULL(strstr(error, "belongs to uid 12345: chown sluice "));
    }
}

static void test_auth(void)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "auth { }",
          "spf dkim dmarc psl none id=mx1.example.com "
          "trusted=127.0.0.0/8,::1/128, servers= stubs= anchor=- 5000 10000 8" },
        { "auth {\n}\nauth { dmarc = no }",
          "spf dkim psl none id=mx1.example.com trusted=127.0.0.0/8,::1/128, servers= "
          "stubs= anchor=- 5000 10000 8" },
        { "auth { spf = false dkim = no dmarc = off }",
          "off psl none id=mx1.example.com trusted=127.0.0.0/8,::1/128, servers= stubs= "
          "anchor=- 5000 10000 8" },
        { "auth { trusted = {} }", "spf dkim dmarc psl none id=mx1.example.com trusted= "
                                   "servers= stubs= anchor=- 5000 10000 8" },
        { "auth { trusted = 192.0.2.1 }",
          "spf dkim dmarc psl none id=mx1.example.com trusted=192.0.2.1/32, servers= "
          "stubs= anchor=- 5000 10000 8" },
        { "auth {\n received-spf = on\n enforce = reject\n dmarc-discovery = treewalk\n"
          " authserv-id = \"Mail \xc3\xbc\"\n"
          " trusted = {\"10.0.0.0/8\", \"::ffff:192.0.2.0/120\", \"2001:db8::/32\"}\n"
          " servers = {\"192.0.2.1\", \"192.0.2.2:5353\", \"[2001:db8::1]:54\", "
          "\"2001:db8::2\", \"[2001:db8::3]\"}\n"
          " stub-zones = {\"B\xc3\xbc"
          "cher.Test.=127.0.0.1:5300\", \"b.test=::1\"}\n"
          " query-timeout = 100\n message-timeout = 100\n signatures = 32\n}",
          "spf dkim dmarc received treewalk reject id=Mail \xc3\xbc "
          "trusted=10.0.0.0/8,192.0.2.0/24,2001:db8::/32, "
          "servers=192.0.2.1#53,192.0.2.2#5353,2001:db8::1#54,2001:db8::2#53,"
          "2001:db8::3#53, stubs=xn--bcher-kva.test@127.0.0.1#5300,b.test@::1#53, "
          "anchor=- 100 100 32" },
        { "auth { enforce = quarantine }",
          "spf dkim dmarc psl quarantine id=mx1.example.com "
          "trusted=127.0.0.0/8,::1/128, servers= stubs= anchor=- 5000 10000 8" },
    };
    char text[1024];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(text, sizeof(text), HEAD "%s\n", cases[i].text);
        struct conf *conf = load_ok(text);
        CHECK_STR(cases[i].text, auth_text(conf), cases[i].want);
        conf_unref(conf);
    }
    write_file(password, ". IN DS 1 8 2 00\n", 17, 0644);
    snprintf(text, sizeof(text), HEAD "auth { trust-anchor = \"%s\" }\n", password);
    struct conf *conf = load_ok(text);
    CHECK_STR("trust-anchor", conf->auth.trust_anchor, password);
    conf_unref(conf);
}

/* want: the secrets, each with ";", or a part of the message. */
static void check_secrets(const char *text, size_t len, mode_t mode, const char *want)
{
    char conf_text[512];

    unlink(password);
    write_file(password, text, len, mode);
    snprintf(conf_text, sizeof(conf_text),
             HEAD "srs { domain = \"SRS.Example.\" secret-file = \"%s\" }\n", password);
    struct conf *conf = load(conf_text);
    if (conf) {
        check_list("secrets", conf->srs.secrets, want);
        CHECK_STR("srs domain", conf->srs.domain, "srs.example");
    } else if (!strstr(error, want)) {
        printf("\n  expected \"%s\" in \"%s\"\n", want, error);
        CU_FAIL("secrets");
    }
    conf_unref(conf);
}

static void test_secrets(void)
{
    char many[17 * 10 + 1], longest[2000];

    check_secrets("a secret", 8, 0600, "a secret;");
    check_secrets("first one\nsecond one\n", 21, 0400, "first one;second one;");
    check_secrets("\r\nfirst one\r\n\nsecond one\r\n", 26, 0600, "first one;second one;");
    check_secrets("first one\n", 10, 0640, "has mode 0640: chmod 0600 ");
    check_secrets("", 0, 0600, "holds no secret");
    check_secrets("\n\n", 2, 0600, "holds no secret");
    check_secrets("first one\nseven77\n", 18, 0600,
                  ", line 2: a secret is 8 to 1024 bytes of text");
    check_secrets("first\0one\n", 10, 0600, ", line 1: a secret is ");
    check_secrets("first\tone\n", 10, 0600, ", line 1: a secret is ");
    memset(longest, 'x', sizeof(longest));
    check_secrets(longest, 1025, 0600, ", line 1: a secret is ");
    for (int i = 0; i < 17; i++)
        snprintf(many + 10 * i, 11, "secret%03d\n", i);
    check_secrets(many, sizeof(many) - 1, 0600, "has more than 16 secrets");
    char *huge = calloc(1, 100000);
    memset(huge, '\n', 100000);
    check_secrets(huge, 100000, 0600, "is larger than 16416 bytes");
    free(huge);
}

/* A bad file does not spoil the next load in the same process. */
static void test_reload(void)
{
    for (int round = 0; round < 3; round++) {
        CU_ASSERT_PTR_NULL(load("side = \"old\n"));
        CU_ASSERT_PTR_NULL(load("domain x {\n"));
        CU_ASSERT_PTR_NULL(load("side = {\n"));
        CU_ASSERT_PTR_NULL(load("/* x"));
        conf_unref(load_ok(HEAD "domain a.example { new = b }\n"));
    }
}

static void *take_and_drop(void *conf)
{
    for (int i = 0; i < 20000; i++)
        conf_unref(conf_ref(conf));
    return NULL;
}

static void *load_often(void *unused)
{
    char mine[1024];

    (void)unused;
    for (int i = 0; i < 50; i++) {
        struct conf *conf = conf_load(path, mine, sizeof(mine));
        if (!conf)
            return path;
        conf_unref(conf);
    }
    return NULL;
}

static void test_threads(void)
{
    struct conf *conf = load_ok(HEAD "domain a.example { new = b }\n");
    pthread_t threads[8];

    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, i < 4 ? take_and_drop : load_often, conf);
    for (int i = 0; i < 8; i++) {
        void *result;
        pthread_join(threads[i], &result);
        CU_ASSERT_PTR_NULL(result);
    }
    CHECK_INT("references", conf->refs, 1);
    CU_ASSERT_PTR_NOT_NULL(conf_managed(conf, "a.example"));
    conf_unref(conf);
}

/* Thousands of domains: each found, nothing else found. */
static void test_many(void)
{
    size_t size = 1 << 20, used = 0;
    char *text = malloc(size), name[64];

    used += (size_t)snprintf(text, size, HEAD);
    for (int i = 0; i < 5000; i++)
        used += (size_t)snprintf(text + used, size - used,
                                 "domain d%d.example { new = x same-as = {\"s%d\"} "
                                 "redirect-domains = {\"r%d.example\"} }\n",
                                 i, i, i);
    struct conf *conf = load_ok(text);
    CHECK_INT("domains", conf->domain_count, 5000);
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "d%d.example", i);
        CU_ASSERT_PTR_EQUAL(conf_managed(conf, name), &conf->domains[i]);
        CU_ASSERT_FALSE(conf_redirects_to(conf, name));
        snprintf(name, sizeof(name), "s%d", i);
        CU_ASSERT_PTR_EQUAL(conf_managed(conf, name), &conf->domains[i]);
        snprintf(name, sizeof(name), "r%d.example", i);
        CU_ASSERT_PTR_NULL(conf_managed(conf, name));
        CU_ASSERT_TRUE(conf_redirects_to(conf, name));
    }
    conf_unref(conf);
    free(text);
}

/* Any text is either a configuration or one line of explanation. */
static void test_garbage(void)
{
    static const char *const pieces[] = {
        "side",    "=",    "old",     "\n",  "{",      "}",         "\"",       "'",
        "#",       "/*",   "*/",      "//",  "domain", "a.example", "new",      "+=",
        ",",       "(",    ")",       "\\",  "redis",  "unix:/a",   "sync",     "command",
        "{\"a\"}", "1h",   "timeout", " ",   "\t",     "\xff",      "hostname", "jobs",
        "9",       "auth", "trusted", "::1", "srs",
    };
    unsigned seed = 3;

    for (int round = 0; round < 3000; round++) {
        char text[512];
        size_t used = 0;
        int n = rand_r(&seed) % 30;
        text[0] = '\0';
        for (int i = 0; i < n; i++)
            used += (size_t)snprintf(
                text + used, sizeof(text) - used, "%s ",
                pieces[(size_t)rand_r(&seed) % (sizeof(pieces) / sizeof(pieces[0]))]);
        struct conf *conf = load(text);
        if (!conf && (!error[0] || strchr(error, '\n'))) {
            printf("\n  error \"%s\" for:\n%s\n", error, text);
            CU_FAIL("one line");
            return;
        }
        conf_unref(conf);
    }
    conf_unref(load_ok(HEAD));
}

/* Puts name in the place of the one occurrence of old in text. */
static void put_name(char *text, const char *old, const char *name)
{
    char *at = strstr(text, old);

    if (!at)
        printf("\n  %s is not named\n", old);
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    memmove(at + strlen(name), at + strlen(old), strlen(at + strlen(old)) + 1);
    memcpy(at, name, strlen(name));
}

/* The file that an admin copies loads as it is, with the defaults; and so it
 * does with every setting in it taken out of its comment ("#key", not "# "). */
static void test_shipped(void)
{
    static char text[65536], all[65536];
    size_t used = 0;
    FILE *file = fopen(SHIPPED_CONF, "r");

    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    size_t len = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    for (size_t i = 0; i < len; i++)
        if (text[i] != '#' || text[i + 1] == ' ' || text[i + 1] == '\n')
            all[used++] = text[i];
    struct conf *conf = load_ok(text);
    CHECK_INT("domains", conf->domain_count, 0);
    CHECK_INT("nothing is verified", conf->auth.spf || conf->auth.dkim, 0);
    conf_unref(conf);

    unlink(password);
    write_file(password, "word for all", 12, 0600);
    put_name(all, "/etc/sluice/redis.password", password);
    put_name(all, "/etc/sluice/srs.secret", password);
    put_name(all, "/etc/sluice/http.password", password);
    put_name(all, "/usr/share/dns/root.key", password);
    conf = load_ok(all);
    CHECK_INT("domains", conf->domain_count, 1);
    CHECK_STR("the default", conf->state_dir, "/var/lib/sluice");
    CHECK_INT("the default", conf->auth.spf && conf->auth.dkim && conf->auth.dmarc, 1);
    CHECK_INT("the default", conf->auth.message_timeout, 10000);
    CHECK_STR("srs", conf->srs.domain, "srs.example.com");
    conf_unref(conf);
}

static void test_set_up(void)
{
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/sluice.conf", dir);
    snprintf(password, sizeof(password), "%s/password", dir);
}

static void test_clean_up(void)
{
    unlink(path);
    unlink(password);
    CHECK_INT("directory", rmdir(dir), 0);
}

#define MOVES "domain \"a.test\" {\n new = \"[192.0.2.9]\"\n"

static void test_records(void)
{
    static const struct {
        const char *text, *want;
    } bad[] = {
        { MOVES " record \"MX\" {\n name = \"@\"\n value = {\"mx.b.test.\"}\n } }\n",
          ":8: value = \"mx.b.test.\": must be a priority (0 to 65535) and a host: \"10 "
          "mx1.new.example.\"" },
        { MOVES " record \"PTR\" { name = \"@\" value = {\"x.\"} } }\n",
          ":6: record \"PTR\": must be one of MX|TXT|CNAME|A|AAAA|SRV" },
        { MOVES " record \"A\" { name = \"x\" } }\n", ":6: record \"A\" has no value" },
        { MOVES " record \"A\" { name = \"x.b.test.\" value = {\"192.0.2.1\"} } }\n",
          ":6: name = \"x.b.test.\" is not in the domain" },
        { MOVES " record \"CNAME\" { name = \"x\" value = {\"@\"} }\n"
                " record \"A\" { name = \"x\" value = {\"192.0.2.1\"} } }\n",
          ":7: x.a.test has a CNAME and another record: a CNAME is alone" },
        { MOVES " record \"A\" { name = \"x\" value = {\"192.0.2.1\"} ttl = -1 } }\n",
          ":6: ttl = -1: must be 0 to 604800" },
        { "dns { resolvers = {\"ns.test\"} }\n",
          ":4: resolvers: \"ns.test\" is not an IP address" },
    };
    char text[2048];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "%s%s", HEAD, bad[i].text);
        check_error(text, bad[i].want);
    }
    struct conf *conf = load_ok(
        HEAD "dns { parent = {\"127.0.0.1:5353\"} server = \"192.0.2.53\" }\n" MOVES
             " record \"MX\" { name = \"@\" value = {\"10 MX1.b.test.\"} ttl = 300 }\n"
             " record \"MX\" { name = \"@\" value = {\"20 mx2.b.test.\"} ttl = 300 }\n"
             " record \"MX\" { name = \"sub\" value = {\"10 mx\"} }\n"
             " record \"TXT\" { name = \"@\" value = {\"v=spf1 -all\"} } }\n");
    const struct conf_domain *domain = &conf->domains[0];
    CHECK_INT("sets", domain->record_count, 3);
    CHECK_STR("name", domain->records[0].name, "a.test");
    check_list("both sections", domain->records[0].values,
               "10 mx1.b.test.;20 mx2.b.test.;");
    CHECK_INT("ttl", domain->records[0].ttl, 300);
    check_list("below", domain->records[1].values, "10 mx.a.test.;");
    CHECK_INT("default", domain->records[1].ttl, 600);
    CHECK_INT("parent", conf->dns.parents[0].port, 5353);
    CHECK_INT("server", conf->dns.server.port, 53);
    conf_unref(conf);
}

#define LOGIN "user = \"u\" password-file = \"/nowhere/p\""
#define BOX   "mailbox \"box\" { imap = \"mail.b.test\" " LOGIN " }\n"
#define PIN   "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

/* Passwords are read by sluice ping: that none is there hinders no daemon. */
static void test_pings(void)
{
    static const struct {
        const char *text, *want;
    } bad[] = {
        { "mailbox \"b|x\" { }", ":4: mailbox \"b|x\": a name has 1 to 64 letters, "
                                 "digits, blanks or . _ + -" },
        { "mailbox \"b\" { " LOGIN " }",
          ":4: imap is not set in the section that ends here: imap = \"host:port\"" },
        { "mailbox \"b\" { imap = \"x:y\" }",
          ":4: imap = \"x:y\": has no valid port (1 to 65535); write \"host:port\"" },
        { "mailbox \"b\" { imap = \"x\" }",
          ":4: mailbox \"b\" has no user and password-file" },
        { "mailbox \"b\" { imap = \"x\" user = \"u\" }",
          ":4: user and password-file belong together" },
        { "mailbox \"b\" { imap = \"x\" tls = yes }",
          ":4: tls = \"yes\": must be one of tls|starttls|none" },
        { "mailbox \"b\" { imap = \"x\" " LOGIN " pin = \"sha256//AA==\" }",
          ":4: pin = \"sha256//AA==\": must be \"sha256//\" and the digest of the "
          "server's key in base64" },
        { "mailbox \"b\" { imap = \"x\" " LOGIN " pin = \"" PIN
          "\" ca-file = \"/ca\" }",
          ":4: pin stands instead of ca-file and tls-name, not with them" },
        { "mailbox \"b\" { imap = \"x\" " LOGIN " tls = none ca-file = \"/ca\" }",
          ":4: tls-name, ca-file or pin with tls = none" },
        { "mailbox \"b\" { imap = \"x\" " LOGIN " folders = {} }",
          ":4: folders: must be 1 to 8" },
        { BOX "ping \"p\" { smtp = \"x\" mailboxes = {\"box\"} }",
          ":5: ping \"p\": to is not set" },
        { BOX "ping \"p\" { smtp = \"x\" to = \"a\" }", ":5: to = \"a\": not an address" },
        { BOX "ping \"p\" { smtp = \"x\" to = \"<>\" }",
          ":5: to = \"<>\": not an address" },
        { BOX "ping \"p\" { smtp = \"x\" to = \"a@b.test\" }",
          ":5: ping \"p\": mailboxes must name 1 to 8 mailbox sections" },
        { BOX "ping \"p\" { smtp = \"x\" to = \"a@b.test\"\nmailboxes = {\"bx\"} }",
          ":6: ping \"p\": there is no mailbox \"bx\"" },
        { BOX "ping \"p\" { smtp = \"x\" to = \"a@b.test\" mailboxes = {\"box\", "
              "\"box\"} }",
          ":5: ping \"p\": mailbox \"box\" is named twice" },
        { BOX "ping \"p\" { smtp = \"x\" to = \"a@b.test\" mailboxes = {\"box\"} "
              "critical = 10s }",
          ":5: ping \"p\": warning = 30s, critical = 10s: the first must not be the "
          "longer one, and neither more than a day" },
        { BOX "ping \"p\" { smtp = \"x\" to = \"a@b.test\" mailboxes = {\"box\"} "
              "critical = 2d }",
          ":5: ping \"p\": warning = 30s, critical = 2d: the first must not be the "
          "longer one, and neither more than a day" },
    };
    char text[2048];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "%s%s", HEAD, bad[i].text);
        check_error(text, bad[i].want);
    }
    struct conf *conf = load_ok(
        HEAD BOX
        "mailbox \"two\" { imap = \"[2001:db8::1]:1143\" tls = starttls " LOGIN
        " folders = {\"INBOX\", \"Junk\"} tls-name = \"old.b.test\" }\n"
        "ping \"in\" { smtp = \"mx.b.test\" to = \"Probe@B.test\" mailboxes = "
        "{\"two\", \"box\"} }\n"
        "ping \"out\" { smtp = \"mx.b.test\" from = \"<>\" to = \"a@c.test\" mailboxes "
        "= {\"box\"} " LOGIN " pin = \"" PIN "\" warning = 1m critical = 1h }\n");
    const struct conf_mailbox *box = &conf->mailboxes[0], *two = &conf->mailboxes[1];
    const struct conf_ping *in = &conf->pings[0], *out = &conf->pings[1];
    CHECK_INT("mailboxes", conf->mailbox_count, 2);
    CHECK_INT("imaps", box->imap.port, 993);
    CHECK_INT("tls", box->imap.tls, CONF_TLS_ALWAYS);
    check_list("folders", box->folders, "INBOX;");
    CHECK_STR("host", two->imap.host, "2001:db8::1");
    CHECK_INT("port", two->imap.port, 1143);
    CHECK_INT("starttls", two->imap.tls, CONF_TLS_STARTTLS);
    CHECK_STR("name", two->imap.tls_name, "old.b.test");
    check_list("folders", two->folders, "INBOX;Junk;");
    CHECK_INT("pings", conf->ping_count, 2);
    CHECK_STR("to", in->to, "probe@b.test");
    CHECK_STR("from", in->from, "probe@b.test");
    CHECK_INT("no login: no TLS", in->smtp.tls, CONF_TLS_NONE);
    CHECK_INT("port", in->smtp.port, 25);
    CHECK_INT("warning", in->warning, 30);
    CHECK_INT("critical", in->critical, 120);
    CHECK_INT("where", in->mailbox_count, 2);
    CU_ASSERT(in->mailboxes[0] == two && in->mailboxes[1] == box);
    CHECK_STR("null sender", out->from, "");
    CHECK_INT("a login: TLS", out->smtp.tls, CONF_TLS_STARTTLS);
    CHECK_INT("submission", out->smtp.port, 587);
    CHECK_STR("pin", out->smtp.pin, PIN);
    CU_ASSERT_PTR_NULL(conf_password(conf, "/nowhere/p", error, sizeof(error)));
    CHECK_STR("error", error, "password-file /nowhere/p: No such file or directory");
    conf_unref(conf);
}

static void test_http(void)
{
    static const struct {
        const char *text, *want;
    } bad[] = {
        { "policyd { http = \"0.0.0.0:9125\" }",
          ":4: http = \"0.0.0.0:9125\": that is not a loopback address, so it needs an "
          "http-password-file" },
        { "policyd { http = \"[::]:9125\" }",
          ":4: http = \"[::]:9125\": that is not a loopback address, so it needs an "
          "http-password-file" },
        { "policyd { http = \"localhost.example:9125\" }",
          ":4: http = \"localhost.example:9125\": that is not a loopback address, so it "
          "needs an http-password-file" },
        { "policyd { http-hosts = {\"a b\"} }", ":4: http-hosts = \"a b\": not a host name" },
        { "lock-deadline = soon", ":4: lock-deadline = \"soon\": must be a number with s, "
                                  "m, h or d, up to 30 days" },
        { "domain \"a.test\" { new = \"x\"\nlock-deadline = 0 }",
          ":5: lock-deadline = \"0\": must be a number with s, m, h or d, up to 30 days" },
    };
    static const char *const local[] = { "127.0.0.1:9125", "127.8.9.1:1", "[::1]:9125",
                                         "localhost:9125", "unix:/run/sluice/http" };
    char text[2048];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "%s%s\n", HEAD, bad[i].text);
        check_error(text, bad[i].want);
    }
    for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
        snprintf(text, sizeof(text), "%spolicyd { http = \"%s\" }\n", HEAD, local[i]);
        struct conf *conf = load_ok(text);
        CHECK_STR("http", conf->http.listen.text, local[i]);
        conf_unref(conf);
    }
    unlink(password);
    write_file(password, "open\n", 5, 0600);
    snprintf(text, sizeof(text),
             "%slock-deadline = 90m\npolicyd { http = \"0.0.0.0:9125\"\n"
             "http-password-file = \"%s\"\nhttp-hosts = {\"S.example\", \"t\"}\n"
             "alarm-command = {\"/page\", \"me now\"} }\n"
             "domain \"a.test\" { new = \"x\" }\n"
             "domain \"b.test\" { new = \"x\" lock-deadline = none }\n"
             "domain \"c.test\" { new = \"x\" lock-deadline = 1d }\n",
             HEAD, password);
    struct conf *conf = load_ok(text);
    CHECK_STR("password", conf->http.password, "open");
    check_list("hosts", conf->http.hosts, "s.example;t;");
    check_list("alarm-command", conf->alarm_command, "/page;me now;");
    CHECK_INT("deadline", conf->lock_deadline, 5400);
    CHECK_INT("of most", conf->domains[0].lock_deadline, 5400);
    CHECK_INT("none", conf->domains[1].lock_deadline, 0);
    CHECK_INT("its own", conf->domains[2].lock_deadline, 86400);
    conf_unref(conf);
    chmod(password, 0644);
    CU_ASSERT_PTR_NULL(conf_load(path, error, sizeof(error)));
    CU_ASSERT(strstr(error, "0600") != NULL);
    unlink(password);
}

UNIT_MAIN("conf", { "set up", test_set_up }, { "defaults", test_defaults },
          { "everything", test_everything }, { "next hops", test_next_hops },
          { "errors", test_errors }, { "files", test_files },
          { "password", test_password }, { "auth", test_auth },
          { "secrets", test_secrets }, { "records", test_records },
          { "pings", test_pings }, { "http", test_http },
          { "reload", test_reload }, { "threads", test_threads }, { "many", test_many },
          { "garbage", test_garbage }, { "shipped", test_shipped },
          { "clean up", test_clean_up })
