/*
 * RDATA: each reader takes exactly what is well-formed for its type, and what it
 * gives is text of its bounds. A reverse name leads back to its address.
 *
 * Sources: milter/dnsdata.c lib/netaddr.c
 */
#include <arpa/inet.h>

#include "../../milter/dnsdata.h"
#include "fuzz.h"

static void check_name(const char *name)
{
    HOLDS(memchr(name, '\0', DNS_NAME_MAX + 1));
    for (; *name; name++)
        HOLDS(*name > ' ' && *name < 0x7f);
}

static void check_texts(const struct answer_record *record)
{
    static char text[65536];
    size_t len = 0;

    if (dns_txt(record, text, sizeof(text), &len)) {
        HOLDS(dns_well_formed(record, RR_TXT));
        HOLDS(strlen(text) == len && len < record->len);
        char *tight = malloc(len + 1);
        HOLDS(tight && dns_txt(record, tight, len + 1, NULL));
        HOLDS(strcmp(tight, text) == 0);
        HOLDS(!dns_txt(record, tight, len, NULL));
        free(tight);
    }
}

static void check_address(const struct answer_record *record, enum rr_type type)
{
    struct netaddr address;
    char text[NETADDR_TEXT_MAX + 1], name[80];

    bool read = dns_address(record, type, &address);
    HOLDS(read == dns_well_formed(record, type));
    if (!read)
        return;
    struct netaddr again;
    netaddr_format(&address, text);
    HOLDS(netaddr_parse(text, strlen(text), &again));
    HOLDS(netaddr_equal(&address, &again));
    dns_reverse_name(&address, name);
    HOLDS(strstr(name, address.family == AF_INET ? ".in-addr.arpa" : ".ip6.arpa"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[DNS_NAME_MAX + 1], *bytes = exact_copy(data, size);
    struct answer_record record = { (const unsigned char *)bytes, size };
    uint16_t preference;

    bool read = dns_name(record.data, size, name);
    HOLDS(read == dns_well_formed(&record, RR_PTR));
    if (read)
        check_name(name);
    read = dns_mx(&record, &preference, name);
    HOLDS(read == dns_well_formed(&record, RR_MX));
    if (read)
        check_name(name);
    check_texts(&record);
    check_address(&record, RR_A);
    check_address(&record, RR_AAAA);
    free(bytes);
    return 0;
}
