/* IP addresses and blocks: what is read, what is refused, what lies within. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/un.h>

#include "netaddr.h"
#include "unit.h"

static void test_parse(void)
{
    static const struct {
        const char *text, *formatted; /* NULL: refused */
    } cases[] = {
        { "192.0.2.1", "192.0.2.1" },
        { "0.0.0.0", "0.0.0.0" },
        { "255.255.255.255", "255.255.255.255" },
        { "2001:db8::1", "2001:db8::1" },
        { "2001:DB8:0:0:0:0:0:1", "2001:db8::1" },
        { "::", "::" },
        { "::1", "::1" },
        { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
        /* the longest text there is, and mapped: the IPv4 address */
        { "0000:0000:0000:0000:0000:ffff:192.168.100.200", "192.168.100.200" },
        { "::ffff:192.0.2.1", "192.0.2.1" },
        { "::FFFF:c000:0201", "192.0.2.1" },
        { "::ffff:0:192.0.2.1", "::ffff:0:c000:201" }, /* translated, not mapped */
        { "", NULL },
        { " 192.0.2.1", NULL },
        { "192.0.2.1 ", NULL },
        { "192.0.2", NULL },
        { "192.0.2.256", NULL },
        { "192.0.2.01", NULL },
        { "0x7f.0.0.1", NULL },
        { "127.1", NULL },
        { "1.2.3.4.5", NULL },
        { "[192.0.2.1]", NULL },
        { "192.0.2.1:53", NULL },
        { "192.0.2.1/32", NULL },
        { "IPv6:2001:db8::1", NULL },
        { "2001:db8::1%eth0", NULL },
        { "2001:db8:::1", NULL },
        { "2001:db8::1::2", NULL },
        { ":1", NULL },
        { "12345::", NULL },
        { "localhost", NULL },
        { "00000:0000:0000:0000:0000:ffff:192.168.100.200", NULL },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct netaddr addr;
        char text[NETADDR_TEXT_MAX + 1];
        size_t len = strlen(cases[i].text);
        char *exact = malloc(len ? len : 1); /* so that a read past the end is seen */
        memcpy(exact, cases[i].text, len);
        bool got = netaddr_parse(exact, len, &addr);
        free(exact);
        CHECK_INT(cases[i].text, got, cases[i].formatted != NULL);
        CHECK_STR(cases[i].text, netaddr_format(&addr, text),
                  cases[i].formatted ? cases[i].formatted : "");
    }

    struct netaddr addr;
    CHECK_INT("only so long", netaddr_parse("192.0.2.1:53", 9, &addr), true);
    CHECK_INT("NUL within", netaddr_parse("192.0.2.1\0\0", 11, &addr), false);
}

static void test_sockaddr(void)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = 25 };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = 25 };
    struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/x" };
    struct netaddr addr;
    char text[NETADDR_TEXT_MAX + 1];

    inet_pton(AF_INET, "192.0.2.9", &in.sin_addr);
    netaddr_from_sockaddr((const struct sockaddr *)&in, &addr);
    CHECK_STR("IPv4", netaddr_format(&addr, text), "192.0.2.9");
    inet_pton(AF_INET6, "2001:db8::9", &in6.sin6_addr);
    netaddr_from_sockaddr((const struct sockaddr *)&in6, &addr);
    CHECK_STR("IPv6", netaddr_format(&addr, text), "2001:db8::9");
    inet_pton(AF_INET6, "::ffff:192.0.2.9", &in6.sin6_addr);
    netaddr_from_sockaddr((const struct sockaddr *)&in6, &addr);
    CHECK_STR("mapped", netaddr_format(&addr, text), "192.0.2.9");
    CHECK_INT("mapped", addr.family, AF_INET);
    netaddr_from_sockaddr((const struct sockaddr *)&un, &addr);
    CHECK_INT("unix", addr.family, AF_UNSPEC);
    CHECK_STR("unix", netaddr_format(&addr, text), "");
    netaddr_from_sockaddr(NULL, &addr);
    CHECK_INT("NULL", addr.family, AF_UNSPEC);
}

static void test_compare(void)
{
    static const struct {
        const char *a, *b;
        bool equal, loopback; /* loopback: of a */
    } cases[] = {
        { "127.0.0.1", "::ffff:127.0.0.1", true, true },
        { "127.255.255.254", "127.0.0.1", false, true },
        { "::1", "0:0:0:0:0:0:0:1", true, true },
        { "::ffff:127.0.0.2", "127.0.0.2", true, true },
        { "128.0.0.1", "127.0.0.1", false, false },
        { "::2", "::1", false, false },
        { "::127.0.0.1", "127.0.0.1", false, false },
        { "0.0.0.0", "::", false, false },
        { "2001:db8::1", "2001:db8::2", false, false },
        { "", "", true, false },
        { "", "0.0.0.0", false, false },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct netaddr a, b;
        netaddr_parse(cases[i].a, strlen(cases[i].a), &a);
        netaddr_parse(cases[i].b, strlen(cases[i].b), &b);
        CHECK_INT(cases[i].a, netaddr_equal(&a, &b), cases[i].equal);
        CHECK_INT(cases[i].b, netaddr_equal(&b, &a), cases[i].equal);
        CHECK_INT(cases[i].a, netaddr_is_loopback(&a), cases[i].loopback);
    }
}

static void test_block(void)
{
    static const struct {
        const char *block;
        int bits;                     /* -1: refused */
        const char *within, *outside; /* NULL: none to try */
    } cases[] = {
        { "10.0.0.0/8", 8, "10.255.255.255", "11.0.0.0" },
        { "10.0.0.0/8", 8, "::ffff:10.1.2.3", "9.255.255.255" },
        { "192.0.2.0/25", 25, "192.0.2.127", "192.0.2.128" },
        { "192.0.2.128/25", 25, "192.0.2.128", "192.0.2.127" },
        { "192.0.2.4/31", 31, "192.0.2.5", "192.0.2.6" },
        { "192.0.2.4/32", 32, "192.0.2.4", "192.0.2.5" },
        { "192.0.2.4", 32, "192.0.2.4", "192.0.2.5" },
        { "0.0.0.0/0", 0, "255.1.2.3", "::1" },
        { "2001:db8::/32", 32, "2001:db8:ffff::", "2001:db9::" },
        { "2001:db8::/33", 33, "2001:db8:7fff::", "2001:db8:8000::" },
        { "2001:db8::8/125", 125, "2001:db8::f", "2001:db8::10" },
        { "::1", 128, "::1", "::2" },
        { "::/0", 0, "ffff::", "192.0.2.1" },
        { "::ffff:10.0.0.0/104", 8, "10.9.9.9", "11.0.0.0" },
        { "::ffff:0:0/96", 0, "10.9.9.9", "::1" },
        { "::ffff:192.0.2.1", 32, "192.0.2.1", "192.0.2.2" },
        { "127.0.0.0/8", 8, "127.0.0.1", "" },
        /* bits below the prefix: most likely not what was meant */
        { "10.0.0.1/8", -1, NULL, NULL },
        { "192.0.2.128/24", -1, NULL, NULL },
        { "192.0.2.1/0", -1, NULL, NULL },
        { "2001:db8::1/64", -1, NULL, NULL },
        { "::ffff:10.0.0.0/88", -1, NULL, NULL },
        { "10.0.0.0/33", -1, NULL, NULL },
        { "2001:db8::/129", -1, NULL, NULL },
        { "10.0.0.0/", -1, NULL, NULL },
        { "10.0.0.0/-1", -1, NULL, NULL },
        { "10.0.0.0/+8", -1, NULL, NULL },
        { "10.0.0.0/08", -1, NULL, NULL },
        { "10.0.0.0/8 ", -1, NULL, NULL },
        { "10.0.0.0/8/8", -1, NULL, NULL },
        { "10.0.0.0/255.0.0.0", -1, NULL, NULL },
        { "10.0.0.0/99999999999999", -1, NULL, NULL },
        { "10/8", -1, NULL, NULL },
        { "/8", -1, NULL, NULL },
        { "", -1, NULL, NULL },
        { "mx.example.com", -1, NULL, NULL },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct netblock block;
        struct netaddr addr;
        bool got = netblock_parse(cases[i].block, &block);
        CHECK_INT(cases[i].block, got, cases[i].bits >= 0);
        if (!got) {
            CHECK_INT(cases[i].block, block.base.family, AF_UNSPEC);
            CHECK_INT(cases[i].block, netblock_has(&block, &block.base), false);
            continue;
        }
        CHECK_INT(cases[i].block, block.bits, cases[i].bits);
        netaddr_parse(cases[i].within, strlen(cases[i].within), &addr);
        CHECK_INT(cases[i].within, netblock_has(&block, &addr), true);
        netaddr_parse(cases[i].outside, strlen(cases[i].outside), &addr);
        CHECK_INT(cases[i].outside, netblock_has(&block, &addr), false);
    }
}

UNIT_MAIN("netaddr", { "parse", test_parse }, { "sockaddr", test_sockaddr },
          { "compare", test_compare }, { "block", test_block })
