/*
 * The writer of Authentication-Results and Received-SPF. Whatever the facts are,
 * what is written parses (by a second reader), is bounded, has no control bytes
 * but those of folding, and is known as ours again.
 *
 * Sources: milter/authres.c milter/authres_claim.c milter/dmarc_record.c
 * Sources: lib/authresult.c lib/addr.c
 * Libraries: libidn2 -lopendmarc
 */
#include "../../milter/authres.h"
#include "../unit/authres_grammar.h"
#include "fuzz.h"

static struct signature signatures[SIGNATURES_LIMIT];

static void take_spf(struct input *input, struct spf_outcome *out)
{
    memset(out, 0, sizeof(*out));
    out->result = take_byte(input) % AUTH_RESULTS;
    take_text(input, out->mechanism, sizeof(out->mechanism));
    take_text(input, out->reason, sizeof(out->reason));
}

static void take_signature(struct input *input, struct signature *out)
{
    memset(out, 0, sizeof(*out));
    out->result = take_byte(input) % AUTH_RESULTS;
    out->key_bits = take_byte(input) * 32U;
    out->secure = take_byte(input) & 1;
    take_text(input, out->domain, sizeof(out->domain));
    take_text(input, out->selector, sizeof(out->selector));
    take_text(input, out->identity, sizeof(out->identity));
    take_text(input, out->algorithm, sizeof(out->algorithm));
    take_text(input, out->b, sizeof(out->b));
    take_text(input, out->reason, sizeof(out->reason));
}

static void take_dmarc(struct input *input, struct dmarc_outcome *out)
{
    static const char *const tags[] = { "", "p", "sp", "np" };

    memset(out, 0, sizeof(*out));
    out->result = take_byte(input) % AUTH_RESULTS;
    out->policy = take_byte(input) % 3;
    out->disposition = take_byte(input) % 3;
    out->policy_tag = tags[take_byte(input) % 4];
    take_text(input, out->from, sizeof(out->from));
    take_text(input, out->reason, sizeof(out->reason));
}

static void check_bytes(const char *text)
{
    for (; *text; text++)
        HOLDS(((unsigned char)*text >= ' ' && *text != 0x7f) || *text == '\t' ||
              (*text == '\n' && (text[1] == '\t' || text[1] == ' ')));
}

static void check(const struct authres_facts *facts, const char *client)
{
    char *results = authres_write(facts);
    char *received = authres_received_spf(facts, client, facts->authserv_id);

    HOLDS(results);
    HOLDS(strlen(results) <= AUTHRES_VALUE_MAX);
    check_bytes(results);
    HOLDS(grammar_authres(results));
    HOLDS(authres_is_ours(results, strlen(results), facts->authserv_id));
    HOLDS(!received == !(facts->spf || facts->spf_helo));
    if (received) {
        HOLDS(strlen(received) <= AUTHRES_VALUE_MAX);
        check_bytes(received);
        HOLDS(grammar_lines(received));
    }
    free(received);
    free(results);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    char sender[2048], helo[300], client[64], id[256];
    struct spf_outcome spf, spf_helo;
    struct dmarc_outcome dmarc;
    uint8_t parts = take_byte(&input);
    struct authres_facts facts = { .authserv_id = "mx.example.com",
                                   .count = take_byte(&input) % (SIGNATURES_LIMIT + 1),
                                   .beyond = take_byte(&input),
                                   .dkim = parts & 1,
                                   .spf = parts & 2 ? &spf : NULL,
                                   .spf_helo = parts & 4 ? &spf_helo : NULL,
                                   .dmarc = parts & 8 ? &dmarc : NULL,
                                   .mail_from = sender,
                                   .helo = helo,
                                   .signatures = signatures };

    take_text(&input, id, sizeof(id));
    take_text(&input, sender, sizeof(sender));
    take_text(&input, helo, sizeof(helo));
    take_text(&input, client, sizeof(client));
    take_spf(&input, &spf);
    take_spf(&input, &spf_helo);
    take_dmarc(&input, &dmarc);
    for (size_t i = 0; i < facts.count; i++)
        take_signature(&input, &signatures[i]);
    if (parts & 16)
        for (size_t i = 1; i < facts.count; i++)
            signatures[i] = signatures[0];
    /* An id of graphic ASCII is what a configuration has. */
    size_t graphic = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789.-_/ \"\\()@;");
    if (parts & 32 && graphic > 0 && !id[graphic] && strpbrk(id, "abcdefghijklmnopq"))
        facts.authserv_id = id;
    check(&facts, client);
    return 0;
}
