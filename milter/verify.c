/*
 * verify: leads one message through the three verifications.
 *
 *   MAIL      SPF records of MAIL FROM and HELO are asked for
 *   header    Received: the hop before a trusted client; From: its DMARC record
 *             is asked for; DKIM-Signature: its key is; Authentication-Results:
 *             forged ones are noted
 *   body      streamed into the signatures' hashes
 *   finish    waits, judges, writes
 *
 * A message that needs no verification keeps nothing but the numbers of its
 * forged fields.
 */
#include "config.h"

#include "verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/rand.h>

#include "authres.h"
#include "clock.h"
#include "from.h"
#include "log.h"
#include "orgdomain.h"
#include "received.h"
#include "resolver.h"
#include "signatures.h"
#include "spf.h"

/* RFC 5321 4.5.3.1.2: a longer name is none. */
#define HELO_MAX 255
/* Received lines that are followed; real chains of filters have a handful. */
#define HOPS_MAX 20
/* Postfix looks for each field that is to go from the first line of the header on,
 * 0.3 us a line (measured): half a second, some 2000 fields in a row. */
#define FORGED_LINES_MAX 2000000

/* ---- one configuration -------------------------------------------------- */

struct verifier {
    const struct conf *conf;
    struct resolver *resolver;
    struct spf *spf;            /* or NULL: not wanted */
    struct dkim_verifier *dkim; /* or NULL */
    struct suffixes *suffixes;  /* or NULL */
};

bool verifier_wanted(const struct conf *conf)
{
    return conf->auth.spf || conf->auth.dkim || conf->auth.dmarc;
}

static bool open_parts(struct verifier *verifier, char *error, size_t error_size)
{
    const struct conf_auth *auth = &verifier->conf->auth;
    verifier->resolver = resolver_new(auth, error, error_size);
    if (!verifier->resolver)
        return false;
    if (auth->spf && !(verifier->spf = spf_new(verifier->resolver))) {
        snprintf(error, error_size, "libspf2 cannot be started");
        return false;
    }
    if (auth->dkim && !(verifier->dkim = dkim_verifier_new(
                            verifier->resolver, auth->signatures, error, error_size)))
        return false;
    if (auth->dmarc && !(verifier->suffixes = suffixes_new())) {
        snprintf(error, error_size,
                 "no public suffix list: apt-get install publicsuffix");
        return false;
    }
    return true;
}

struct verifier *verifier_new(const struct conf *conf, char *error, size_t error_size)
{
    struct verifier *verifier = calloc(1, sizeof(*verifier));
    if (!verifier) {
        snprintf(error, error_size, "out of memory");
        return NULL;
    }
    verifier->conf = conf;
    if (open_parts(verifier, error, error_size))
        return verifier;
    verifier_free(verifier);
    return NULL;
}

void verifier_free(struct verifier *verifier)
{
    if (!verifier)
        return;
    if (verifier->spf)
        spf_free(verifier->spf);
    if (verifier->dkim)
        dkim_verifier_free(verifier->dkim);
    if (verifier->suffixes)
        suffixes_free(verifier->suffixes);
    if (verifier->resolver)
        resolver_free(verifier->resolver);
    free(verifier);
}

struct resolver *verifier_resolver(struct verifier *verifier)
{
    return verifier->resolver;
}

/* ---- one message ---------------------------------------------------------- */

enum hop {
    HOP_KNOWN,  /* client is who sent the message to us, or to a trusted host */
    HOP_AHEAD,  /* client is trusted: the next Received line tells */
    HOP_OWN,    /* the message begins at a trusted host */
    HOP_HIDDEN, /* a trusted host's Received line cannot be read */
};

struct verification {
    struct netaddr peer;
    char peer_helo[HELO_MAX + 1];

    /* of the message; verifier is NULL between two */
    struct verifier *verifier;
    const char *sender;
    bool exempt;
    enum hop hop;
    bool resubmitted; /* by a process of a trusted host */
    unsigned hops;
    struct netaddr client;
    char helo[HELO_MAX + 1];
    struct signatures *signatures;
    bool wants_body;
    struct from_author author;
    struct dmarc *dmarc;
    unsigned results_seen; /* fields of that name */
    unsigned *forged;
    size_t forged_count, forged_room;
    size_t lines;        /* of the header so far */
    size_t forged_lines; /* sum of lines at each forged field */

    /* results that struct verified points to */
    struct spf_outcome spf, spf_helo;
    struct dmarc_outcome judged;
    char *results, *received_spf;
};

struct verification *verification_new(void)
{
    return calloc(1, sizeof(struct verification));
}

void verification_free(struct verification *v)
{
    if (!v)
        return;
    verify_reset(v);
    free(v);
}

static void keep_helo(char out[HELO_MAX + 1], const char *name)
{
    size_t len = name ? strlen(name) : 0;
    if (len > HELO_MAX)
        len = 0;
    if (len > 0)
        memcpy(out, name, len);
    out[len] = '\0';
}

void verify_connect(struct verification *v, const struct sockaddr *address)
{
    netaddr_from_sockaddr(address, &v->peer);
    v->peer_helo[0] = '\0';
}

void verify_helo(struct verification *v, const char *name)
{
    keep_helo(v->peer_helo, name);
}

void verify_reset(struct verification *v)
{
    struct netaddr peer = v->peer;
    char helo[HELO_MAX + 1];
    memcpy(helo, v->peer_helo, sizeof(helo));
    if (v->signatures)
        signatures_free(v->signatures);
    if (v->dmarc)
        dmarc_free(v->dmarc);
    free(v->forged);
    free(v->results);
    free(v->received_spf);
    memset(v, 0, sizeof(*v));
    from_author_reset(&v->author);
    v->peer = peer;
    memcpy(v->peer_helo, helo, sizeof(helo));
}

static bool trusted(const struct conf_auth *auth, const struct netaddr *client)
{
    for (size_t i = 0; i < auth->trusted_count; i++)
        if (netblock_has(&auth->trusted[i], client))
            return true;
    return false;
}

/* sender "": the HELO identity. */
static struct spf_question ask_spf(const struct verification *v, const char *sender,
                                   int64_t deadline)
{
    return (struct spf_question){ .client = v->client,
                                  .helo = v->helo,
                                  .sender = sender,
                                  .receiver = v->verifier->conf->hostname,
                                  .deadline_ms = deadline };
}

/* Who sent the message is known: SPF can begin. */
static void client_known(struct verification *v)
{
    struct spf *spf = v->verifier->spf;
    v->hop = HOP_KNOWN;
    if (!spf)
        return;
    struct spf_question question = ask_spf(v, v->sender, 0);
    spf_prefetch(spf, &question);
    if (v->sender[0] && v->helo[0]) {
        question.sender = "";
        spf_prefetch(spf, &question);
    }
}

void verify_mail(struct verification *v, struct verifier *verifier, const char *sender,
                 const char *auth)
{
    const struct conf_auth *settings = &verifier->conf->auth;
    verify_reset(v);
    v->verifier = verifier;
    v->sender = sender;
    v->client = v->peer;
    memcpy(v->helo, v->peer_helo, sizeof(v->helo));
    bool own = trusted(settings, &v->client);
    v->exempt = own || auth[0] || netaddr_is_loopback(&v->client) ||
                v->client.family == AF_UNSPEC;
    if (auth[0] || v->client.family == AF_UNSPEC)
        v->hop = HOP_OWN;
    else if (own)
        v->hop = HOP_AHEAD;
    else
        client_known(v);
    if (v->hop != HOP_OWN && verifier->dkim)
        v->signatures = signatures_new(verifier->dkim, "message");
}

/* ---- headers --------------------------------------------------------------- */

static void see_received(struct verification *v, const char *value)
{
    struct received received;
    if (!received_parse(value, strlen(value), &received) || ++v->hops > HOPS_MAX) {
        v->hop = HOP_HIDDEN;
    } else if (received.authenticated) {
        v->hop = HOP_OWN;
    } else if (received.client.family == AF_UNSPEC) {
        /* A process of that host began the message, or only put it back (Postfix'
         * "postsuper -r", by which held mail is released): the next line tells. */
        v->resubmitted = true;
    } else {
        v->client = received.client;
        keep_helo(v->helo, received.helo);
        /* A filter on that host hands mail back over loopback. */
        if (!netaddr_is_loopback(&v->client) &&
            !trusted(&v->verifier->conf->auth, &v->client)) {
            /* Resubmitted, the envelope may be another one by now. */
            if (v->resubmitted)
                v->hop = HOP_HIDDEN;
            else
                client_known(v);
        }
    }
}

static void see_from(struct verification *v, const char *value)
{
    const struct verifier *verifier = v->verifier;
    size_t known = v->author.count;
    from_author_add(&v->author, value, strlen(value));
    if (!verifier->suffixes || v->hop == HOP_OWN)
        return;
    for (size_t i = known; i < v->author.count; i++) {
        if (v->dmarc)
            dmarc_add(v->dmarc, v->author.domains[i]);
        else
            v->dmarc = dmarc_new(verifier->resolver, verifier->suffixes,
                                 verifier->conf->auth.discovery, v->author.domains[i]);
    }
}

static void note_forged(struct verification *v, unsigned number)
{
    v->forged_lines += v->lines;
    if (v->forged_lines > FORGED_LINES_MAX)
        return;
    if (v->forged_count == v->forged_room) {
        size_t room = v->forged_room ? v->forged_room * 2 : 8;
        unsigned *grown = reallocarray(v->forged, room, sizeof(*grown));
        if (!grown) {
            log_warnx("out of memory: a forged " AUTHRES_HEADER " field stays");
            return;
        }
        v->forged = grown;
        v->forged_room = room;
    }
    v->forged[v->forged_count++] = number;
}

static void see_results(struct verification *v, const char *value)
{
    v->results_seen++;
    if (authres_is_ours(value, strlen(value), v->verifier->conf->auth.authserv_id))
        note_forged(v, v->results_seen);
}

static size_t count_lines(const char *value)
{
    size_t lines = 1;
    for (const char *lf = strchr(value, '\n'); lf; lf = strchr(lf + 1, '\n'))
        lines++;
    return lines;
}

void verify_header(struct verification *v, const char *name, const char *value)
{
    if (!v->verifier)
        return;
    v->lines += count_lines(value);
    if (v->signatures)
        signatures_header(v->signatures, name, value);
    if (strcasecmp(name, AUTHRES_HEADER) == 0)
        see_results(v, value);
    else if (strcasecmp(name, "From") == 0)
        see_from(v, value);
    else if (v->hop == HOP_AHEAD && strcasecmp(name, "Received") == 0)
        see_received(v, value);
}

void verify_end_of_headers(struct verification *v)
{
    if (!v->verifier)
        return;
    if (v->hop == HOP_AHEAD)
        v->hop = HOP_OWN; /* no line led out */
    if (v->hop == HOP_OWN && v->signatures) {
        signatures_free(v->signatures);
        v->signatures = NULL;
    }
    v->wants_body = v->signatures && signatures_end_of_headers(v->signatures);
}

void verify_body(struct verification *v, const unsigned char *data, size_t len)
{
    if (v->verifier && v->wants_body)
        signatures_body(v->signatures, data, len);
}

/* ---- the end ---------------------------------------------------------------- */

static void check_spf(struct verification *v, const char *sender, int64_t deadline,
                      struct spf_outcome *out)
{
    struct spf_question question = ask_spf(v, sender, deadline);
    if (v->hop == HOP_KNOWN) {
        spf_check(v->verifier->spf, &question, out);
        return;
    }
    memset(out, 0, sizeof(*out));
    out->result = AUTH_NONE;
    snprintf(out->reason, sizeof(out->reason),
             "the client of a trusted host is not known");
}

/* One word for all signatures: the best there is. */
static enum auth_result sum_up(const struct signature *signatures, size_t count)
{
    static const enum auth_result order[] = { AUTH_PASS,   AUTH_TEMPERROR, AUTH_FAIL,
                                              AUTH_POLICY, AUTH_PERMERROR, AUTH_NEUTRAL };
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
        for (size_t j = 0; j < count; j++)
            if (signatures[j].result == order[i])
                return order[i];
    return AUTH_NONE;
}

static void judge_dmarc(struct verification *v, const struct authres_facts *facts,
                        int64_t deadline)
{
    unsigned char random = 0;
    const struct spf_outcome *spf = facts->spf;
    if (RAND_bytes(&random, 1) != 1)
        random = 0; /* within every sample */
    struct dmarc_evidence evidence = {
        .spf = spf ? spf->result : AUTH_NONE,
        .spf_domain = spf ? spf->domain : "",
        .signatures = facts->signatures,
        .count = facts->count,
        .sample = random * 100u / 256u,
        .author = &v->author,
    };
    dmarc_finish(v->dmarc, &evidence, deadline, &v->judged);
}

static void write_words(const struct verification *v, struct verified *out)
{
    const struct conf_auth *auth = &v->verifier->conf->auth;
    char from[256], client[NETADDR_TEXT_MAX + 1];
    FILE *words = fmemopen(out->words, sizeof(out->words), "w");
    if (!words)
        return;
    if (auth->spf)
        fprintf(words, " spf=%s", auth_result_name(out->spf));
    if (auth->dkim)
        fprintf(words, " dkim=%s", auth_result_name(out->dkim));
    if (auth->dmarc)
        fprintf(words, " dmarc=%s", auth_result_name(out->dmarc));
    if (v->author.domain[0])
        fprintf(words, " header-from=%s",
                log_value(v->author.domain, from, sizeof(from)));
    if (!netaddr_equal(&v->client, &v->peer))
        fprintf(words, " origin=[%s]", netaddr_format(&v->client, client));
    fclose(words);
}

static void write_headers(struct verification *v, const struct authres_facts *facts,
                          struct verified *out)
{
    char client[NETADDR_TEXT_MAX + 1];
    if (!v->signatures || !signatures_forbid(v->signatures, AUTHRES_HEADER))
        out->results = v->results = authres_write(facts);
    if (v->verifier->conf->auth.received_spf && facts->spf && v->hop == HOP_KNOWN &&
        (!v->signatures || !signatures_forbid(v->signatures, RECEIVED_SPF_HEADER)))
        out->received_spf = v->received_spf = authres_received_spf(
            facts, netaddr_format(&v->client, client), v->verifier->conf->hostname);
}

static void evaluate(struct verification *v, struct verified *out)
{
    const struct conf_auth *auth = &v->verifier->conf->auth;
    int64_t deadline = clock_ms() + auth->message_timeout;
    struct authres_facts facts = { .authserv_id = auth->authserv_id,
                                   .mail_from = v->sender,
                                   .helo = v->helo,
                                   .dkim = v->signatures };
    if (auth->spf) {
        check_spf(v, v->sender, deadline, &v->spf);
        facts.spf = &v->spf;
        if (v->sender[0] && v->helo[0]) {
            check_spf(v, "", deadline, &v->spf_helo);
            facts.spf_helo = &v->spf_helo;
        }
        out->spf = v->spf.result;
        out->would_fail = v->spf.result == AUTH_FAIL ||
                          (v->spf.by_all && (v->spf.result == AUTH_SOFTFAIL ||
                                             v->spf.result == AUTH_NEUTRAL));
    }
    if (v->signatures)
        facts.signatures =
            signatures_finish(v->signatures, deadline, &facts.count, &facts.beyond);
    out->dkim = sum_up(facts.signatures, facts.count);
    if (auth->dmarc) {
        judge_dmarc(v, &facts, deadline);
        facts.dmarc = &v->judged;
        out->dmarc = v->judged.result;
        out->record_at = v->judged.record_at;
        out->disposition = v->judged.disposition;
        if (v->judged.disposition != DMARC_NONE)
            out->from = v->judged.from;
    }
    write_headers(v, &facts, out);
    write_words(v, out);
    out->done = true;
}

void verify_finish(struct verification *v, struct verified *out)
{
    memset(out, 0, sizeof(*out));
    out->from = out->helo = out->record_at = "";
    if (!v->verifier)
        return;
    out->exempt = v->exempt;
    out->forged = v->forged;
    out->forged_count = v->forged_count;
    if (v->forged_lines > FORGED_LINES_MAX) {
        out->flooded = true;
        out->forged_count = 0;
    }
    out->client = v->client;
    out->helo = v->helo;
    out->from = v->author.domain;
    if (v->hop != HOP_OWN)
        evaluate(v, out);
}
