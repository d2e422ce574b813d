/* RDATA: what is read, and that nothing malformed is. */
#include <arpa/inet.h>
#include <stdlib.h>

#include "../../milter/dnsdata.h"
#include "unit.h"

/* A copy of exactly this size, so that a read past the end is seen. */
static struct answer_record record_of(const char *data, size_t len)
{
    unsigned char *exact = malloc(len ? len : 1);

    memcpy(exact, data, len);
    return (struct answer_record){ .data = exact, .len = len };
}

static void release(struct answer_record *record)
{
    free((void *)(uintptr_t)record->data);
}

#define BYTES(text) (text), sizeof(text) - 1

static void test_txt(void)
{
    static const struct {
        const char *data;
        size_t len, size;
        const char *want; /* NULL: refused */
    } cases[] = {
        { BYTES("\x03"
                "abc"),
          64, "abc" },
        { BYTES("\x03"
                "abc"
                "\x02"
                "de"),
          64, "abcde" },
        { BYTES("\x07"
                "v=spf1 "
                "\x04"
                "-all"),
          64, "v=spf1 -all" },
        { BYTES("\x00"), 64, "" },
        { BYTES("\x00\x00\x01"
                "x"
                "\x00"),
          64, "x" },
        { BYTES("\x03"
                "\xff\x80\n"),
          64, "\xff\x80\n" },
        { BYTES(""), 64, NULL },
        { BYTES("\x04"
                "abc"),
          64, NULL },
        { BYTES("\x03"
                "abc"
                "\x01"),
          64, NULL },
        { BYTES("\xff"), 64, NULL },
        { BYTES("\x03"
                "a\0c"),
          64, NULL },
        { BYTES("\x01"
                "a"
                "\x01"
                "\0"),
          64, NULL },
        { BYTES("\x03"
                "abc"),
          4, "abc" },
        { BYTES("\x03"
                "abc"),
          3, NULL },
        { BYTES("\x00"), 1, "" },
        { BYTES("\x00"), 0, NULL },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answer_record record = record_of(cases[i].data, cases[i].len);
        char name[16], *out = malloc(cases[i].size ? cases[i].size : 1);
        size_t len = 999;
        snprintf(name, sizeof(name), "case %zu", i);
        bool ok = dns_txt(&record, out, cases[i].size, &len);
        CHECK_INT(name, ok, cases[i].want != NULL);
        if (ok && cases[i].want) {
            CHECK_STR(name, out, cases[i].want);
            CHECK_INT(name, len, strlen(cases[i].want));
        }
        bool whole = cases[i].len > 0 && i != 7 && i != 8 && i != 9;
        CHECK_INT(name, dns_well_formed(&record, RR_TXT), whole);
        free(out);
        release(&record);
    }
}

static void test_txt_long(void)
{
    static char data[256 * 256], out[65536];
    size_t len = 0;

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = i % 256 == 0 ? '\xff' : 'x';
    struct answer_record record = record_of(data, sizeof(data));
    CHECK_INT("256 strings of 255", dns_txt(&record, out, sizeof(out), &len), true);
    CHECK_INT("their bytes", len, 255 * 256);
    CHECK_INT("no room", dns_txt(&record, out, 255 * 256, &len), false);
    CHECK_STR("nothing in half", out, "");
    CHECK_INT("no length wanted", dns_txt(&record, out, sizeof(out), NULL), true);
    release(&record);
}

static void test_name(void)
{
    static const struct {
        const char *data;
        size_t len;
        const char *want;
    } cases[] = {
        { BYTES("\x07"
                "example"
                "\x03"
                "com"
                "\x00"),
          "example.com" },
        { BYTES("\x04"
                "MiXd"
                "\x00"),
          "MiXd" },
        { BYTES("\x00"), "." },
        { BYTES("\x06"
                "_dmarc"
                "\x03"
                "a-b"
                "\x00"),
          "_dmarc.a-b" },
        { BYTES("\x03"
                "a.b"
                "\x01"
                "c"
                "\x00"),
          "a\\046b.c" },
        { BYTES("\x04"
                "\0\xff \\"
                "\x00"),
          "\\000\\255\\032\\092" },
        { BYTES(""), NULL },
        { BYTES("\x03"
                "abc"),
          NULL }, /* no end */
        { BYTES("\x04"
                "abc"
                "\x00"),
          NULL }, /* the end within a label */
        { BYTES("\x05"
                "abc"
                "\x00"),
          NULL }, /* past the end */
        { BYTES("\x03"
                "abc"
                "\x00"
                "x"),
          NULL } /* more after it */,
        { BYTES("\xc0\x0c"), NULL }, /* pointers */
        { BYTES("\x01"
                "a"
                "\xc0\x0c"),
          NULL },
        { BYTES("\xc0\x00\x00"), NULL },
        { BYTES("\x40"
                "a"
                "\x00"),
          NULL }, /* the label types of RFC 2673 */
        { BYTES("\x80"
                "a"
                "\x00"),
          NULL },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answer_record record = record_of(cases[i].data, cases[i].len);
        char name[16], out[DNS_NAME_MAX + 1] = "untouched";
        snprintf(name, sizeof(name), "case %zu", i);
        CHECK_INT(name, dns_name(record.data, record.len, out), cases[i].want != NULL);
        CHECK_STR(name, out, cases[i].want ? cases[i].want : "");
        CHECK_INT(name, dns_well_formed(&record, RR_PTR), cases[i].want != NULL);
        release(&record);
    }
}

/* Labels of 63, 63, 63 and last bytes; every byte needs an escape. */
static size_t long_name(unsigned char out[300], size_t last)
{
    size_t at = 0;

    for (int i = 0; i < 3; i++) {
        out[at] = 63;
        memset(out + at + 1, 0xfe, 63);
        at += 64;
    }
    out[at] = (unsigned char)last;
    memset(out + at + 1, 0xfe, last);
    at += 1 + last;
    out[at] = 0;
    return at + 1;
}

static void test_name_limits(void)
{
    unsigned char wire[300];
    char out[DNS_NAME_MAX + 1];

    size_t len = long_name(wire, 61);
    CHECK_INT("255 bytes", len, 255);
    CHECK_INT("255 bytes", dns_name(wire, len, out), true);
    CHECK_INT("all escaped", strlen(out), 250 * 4 + 3);
    len = long_name(wire, 62);
    CHECK_INT("256 bytes", dns_name(wire, len, out), false);
    CHECK_STR("256 bytes", out, "");
}

static void test_mx(void)
{
    static const struct {
        const char *data;
        size_t len;
        int preference;
        const char *want;
    } cases[] = {
        { BYTES("\x00\x0a\x02"
                "mx"
                "\x00"),
          10, "mx" },
        { BYTES("\xff\xfe\x00"), 65534, "." }, /* RFC 7505 */
        { BYTES("\x00\x0a"), 0, NULL },
        { BYTES("\x00"), 0, NULL },
        { BYTES(""), 0, NULL },
        { BYTES("\x00\x0a\x03"
                "mx"
                "\x00"),
          0, NULL },
        { BYTES("\x00\x0a\xc0\x0c"), 0, NULL },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answer_record record = record_of(cases[i].data, cases[i].len);
        char name[16], out[DNS_NAME_MAX + 1];
        uint16_t preference = 0;
        snprintf(name, sizeof(name), "case %zu", i);
        bool ok = dns_mx(&record, &preference, out);
        CHECK_INT(name, ok, cases[i].want != NULL);
        CHECK_STR(name, out, cases[i].want ? cases[i].want : "");
        if (ok)
            CHECK_INT(name, preference, cases[i].preference);
        CHECK_INT(name, dns_well_formed(&record, RR_MX), cases[i].want != NULL);
        release(&record);
    }
}

static void test_address(void)
{
    static const struct {
        enum rr_type type;
        const char *data;
        size_t len;
        const char *want; /* NULL: refused */
    } cases[] = {
        { RR_A, BYTES("\xc0\x00\x02\x01"), "192.0.2.1" },
        { RR_A, BYTES("\xc0\x00\x02"), NULL },
        { RR_A, BYTES("\xc0\x00\x02\x01\x00"), NULL },
        { RR_A, BYTES(""), NULL },
        { RR_AAAA, BYTES("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"), "2001:db8::1" },
        { RR_AAAA, BYTES("\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01"), "192.0.2.1" },
        { RR_AAAA, BYTES("\xc0\x00\x02\x01"), NULL },
        { RR_A, BYTES("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"), NULL },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answer_record record = record_of(cases[i].data, cases[i].len);
        struct netaddr addr;
        char name[16], text[NETADDR_TEXT_MAX + 1];
        snprintf(name, sizeof(name), "case %zu", i);
        bool ok = dns_address(&record, cases[i].type, &addr);
        CHECK_INT(name, ok, cases[i].want != NULL);
        CHECK_STR(name, netaddr_format(&addr, text), cases[i].want ? cases[i].want : "");
        CHECK_INT(name, dns_well_formed(&record, cases[i].type), cases[i].want != NULL);
        release(&record);
    }
}

static void test_reverse_name(void)
{
    static const struct {
        const char *address, *want;
    } cases[] = {
        { "192.0.2.1", "1.2.0.192.in-addr.arpa" },
        { "255.255.255.255", "255.255.255.255.in-addr.arpa" },
        { "2001:db8::cafe:1", /* RFC 3596 2.5 */
          "1.0.0.0.e.f.a.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa" },
        { "", "" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct netaddr addr = { .family = AF_UNSPEC };
        char *out = malloc(80);
        if (cases[i].address[0])
            CU_ASSERT(netaddr_parse(cases[i].address, strlen(cases[i].address), &addr));
        dns_reverse_name(&addr, out);
        CHECK_STR(cases[i].address, out, cases[i].want);
        free(out);
    }
}

UNIT_MAIN("dnsdata", { "TXT", test_txt }, { "TXT, long", test_txt_long },
          { "names", test_name }, { "names, limits", test_name_limits },
          { "MX", test_mx }, { "addresses", test_address },
          { "reverse names", test_reverse_name })
