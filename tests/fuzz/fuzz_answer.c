/*
 * The resolver's answer handling: what libunbound hands over, with any flags,
 * counts, lengths and bytes, becomes an answer that keeps the promises of
 * resolver.h, goes through the cache unchanged, and is read by all that read
 * answers. Input: type, flags, TTL, then records, each behind two bytes of
 * length. The functions are static: the file itself is included.
 *
 * Sources: milter/resolver_setup.c milter/dnscache.c milter/dnsdata.c
 * Sources: milter/spf_answer.c lib/spf_record.c lib/spf_macro.c
 * Sources: lib/netaddr.c lib/clock.c lib/addr.c lib/log.c
 * Libraries: -lunbound libidn2
 */
#include "../../milter/resolver.c"

#include "../../milter/spf_answer.h"
#include "fuzz.h"

#define RECORDS (RESOLVER_RECORDS_MAX + 8)

static char *data[RECORDS + 1];
static int lengths[RECORDS + 1];

/* A length byte pair of 0xffff stands for the negative length that a library's
 * fault could give. */
static size_t take_records(struct input *input)
{
    size_t count = 0;

    while (input->size > 0 && count < RECORDS) {
        size_t len = (size_t)take_byte(input) << 8;
        len |= take_byte(input);
        if (len == 0xffff) {
            data[count] = exact_copy("", 0);
            lengths[count++] = -1;
            continue;
        }
        if (len > input->size)
            len = input->size;
        data[count] = exact_copy(input->data, len);
        lengths[count++] = (int)len;
        input->data += len;
        input->size -= len;
    }
    data[count] = NULL;
    return count;
}

static void read_record(const struct answer_record *record, enum rr_type type)
{
    static char text[RESOLVER_DATA_MAX + 1], name[DNS_NAME_MAX + 1];
    struct netaddr address;
    uint16_t preference;
    size_t len;

    HOLDS(dns_well_formed(record, type));
    if (type == RR_MX)
        HOLDS(dns_mx(record, &preference, name));
    else if (type == RR_PTR)
        HOLDS(dns_name(record->data, record->len, name));
    else if (type == RR_A || type == RR_AAAA)
        HOLDS(dns_address(record, type, &address));
    else if (dns_txt(record, text, sizeof(text), &len))
        HOLDS(strlen(text) == len);
}

static void check_answer(const struct answer *answer, enum rr_type type)
{
    static struct spf_loaded loaded;
    static struct spf_names names;
    char why[128] = "";

    HOLDS((answer->kind == ANSWER_FAILED) == (answer->trouble != NULL));
    HOLDS(answer->kind == ANSWER_DATA || answer->count == 0);
    HOLDS(answer->count <= RESOLVER_RECORDS_MAX);
    size_t bytes = 0;
    for (size_t i = 0; i < answer->count; i++) {
        bytes += answer->records[i].len;
        read_record(&answer->records[i], type);
    }
    HOLDS(bytes <= RESOLVER_DATA_MAX);
    if (type == RR_TXT) {
        enum spf_load load = spf_load(answer, &loaded, why, sizeof(why));
        HOLDS(memchr(why, '\0', sizeof(why)));
        HOLDS(load == SPF_LOADED || why[0]);
        return;
    }
    if (type == RR_MX)
        spf_exchanges(answer, &names);
    else if (type == RR_PTR)
        spf_pointers(answer, &names);
    else
        return;
    HOLDS(names.count <= SPF_NAMES_MAX);
    for (size_t i = 0; i < names.count; i++)
        HOLDS(memchr(names.name[i], '\0', sizeof(names.name[i])));
}

/* What is put into the cache is what comes out. */
static void check_cache(const struct answer *answer, enum rr_type type)
{
    static struct resolver *resolver;
    char error[128];

    if (!resolver)
        resolver = resolver_new(NULL, error, sizeof(error));
    HOLDS(resolver);
    HOLDS(resolver_put(resolver, "name.example", type, answer->kind, answer->records,
                       answer->count));
    struct query *query = resolver_ask(resolver, "NAME.example.", type);
    const struct answer *got = query_wait(query, clock_ms() + 1000);
    HOLDS(got->kind == answer->kind && got->count == answer->count);
    for (size_t i = 0; i < got->count; i++) {
        size_t len = answer->records[i].len;
        HOLDS(got->records[i].len == len);
        HOLDS(len == 0 ||
              memcmp(got->records[i].data, answer->records[i].data, len) == 0);
    }
    query_drop(query);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const enum rr_type types[] = { RR_A, RR_AAAA, RR_TXT, RR_MX, RR_PTR };
    struct input input = { bytes, size };
    enum rr_type type = types[take_byte(&input) % 5];
    uint8_t flags = take_byte(&input);
    struct ub_result result = { .bogus = flags & 1,
                                .secure = flags & 2,
                                .nxdomain = flags & 4,
                                .rcode = flags & 8 ? 2 : 0,
                                .ttl = (int8_t)take_byte(&input) * 4096,
                                .data = data,
                                .len = lengths };
    size_t count = take_records(&input);

    result.havedata = count > 0 && !(flags & 16);
    const struct answer *answer = answer_of(flags & 32 ? -1 : 0, &result, type);
    check_answer(answer, type);
    check_cache(answer, type);
    answer_drop(answer);
    for (size_t i = 0; i < count; i++)
        free(data[i]);
    return 0;
}
