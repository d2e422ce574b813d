/*
 * The mechanisms a, mx, ptr and exists (RFC 7208 section 5), by libspf2.
 *
 * libspf2 is given a record of one mechanism, written here from parts that were
 * checked: no text of a stranger reaches it but host names in PTR records, and of
 * these only letters, digits, hyphens, underscores and dots. Names that are to be
 * looked up are stand-ins ("t.invalid", "0.mx.invalid") which its DNS layer, the
 * function lookup() below, turns into the real ones: so a target-name may hold
 * whatever a macro left in it, and libspf2's macro code, its record parser and
 * its explanations (CVE-2021-20314, CVE-2021-33912, CVE-2021-33913,
 * CVE-2023-42118) never see input from outside. The sender is a constant too.
 *
 * What is mended in the DNS layer, libspf2 1.2.10 being wrong:
 *   - it refuses a prefix length of 0: every address of a name is answered as the
 *     client's own, so that it matches when there is one (5.3, 5.4);
 *   - more than ten exchanges are looked at before the record is in error: here
 *     at once (4.6.4);
 *   - more than ten PTR names are an error for it: the first ten are answered (5.5);
 *   - a DNS failure in ptr is an error for it: such a name is not there (5.5).
 *
 * SPF_request_query_*() passes any loopback client, so the record is compiled and
 * interpreted by the two functions behind them. A server object is not shared: its
 * DNS layer has to know whose question it answers. There is a list of idle ones,
 * as many as were ever busy at once.
 *
 * libspf2 does not take NULL for an answer: without memory it aborts.
 */
#include "spf_match.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* They need the above first, and say what they need of the C library. */
#include <arpa/nameser.h>
#include <spf2/spf.h>
#include <spf2/spf_dns.h>

#include "dnsdata.h"
#include "spf_answer.h"

#define TARGET   "t.invalid"
#define EXCHANGE "0.mx.invalid" /* the first; a digit is enough for ten */
#define SENDER   "postmaster@s.invalid"

/* One question under way: what lookup() answers from. */
struct run {
    const struct spf_mechanism_question *question;
    struct resolver *resolver;
    enum rr_type address_type;
    struct spf_names names; /* of an mx or ptr */
    struct query *asked[SPF_NAMES_MAX];
    struct spf_match_outcome *out;
};

struct engine {
    struct engine *next;
    SPF_server_t *server;
    SPF_request_t *request;
    SPF_dns_server_t dns; /* hook: struct run */
};

struct spf_engines {
    struct resolver *resolver;
    pthread_mutex_t lock;
    struct engine *idle;
};

/* ---- the DNS layer ------------------------------------------------------ */

/* The first error counts. */
static void fail(struct run *run, enum spf_match match, const char *why)
{
    if (run->out->match != SPF_NO_MATCH)
        return;
    run->out->match = match;
    run->out->why = why;
}

static SPF_dns_rr_t *respond(struct engine *engine, ns_type type, SPF_dns_stat_t status)
{
    return SPF_dns_rr_new_init(&engine->dns, NULL, type, 0, status);
}

/* The records that libspf2 is to see of an answer are added by the caller; this
 * one has its status, and notes what it means for the mechanism. */
static SPF_dns_rr_t *respond_to(struct engine *engine, ns_type type,
                                const struct answer *answer)
{
    struct run *run = engine->dns.hook;
    bool ptr = run->question->mechanism == SPF_PTR;

    switch (answer->kind) {
    case ANSWER_DATA:
        return respond(engine, type, NETDB_SUCCESS);
    case ANSWER_NODATA:
    case ANSWER_NXDOMAIN:
        /* The client's names are not the record's doing. */
        run->out->is_void = run->out->is_void || !ptr;
        return respond(engine, type,
                       answer->kind == ANSWER_NODATA ? NO_DATA : HOST_NOT_FOUND);
    default:
        if (ptr)
            return respond(engine, type, HOST_NOT_FOUND);
        fail(run, SPF_MATCH_TEMPERROR, answer->trouble);
        return respond(engine, type, TRY_AGAIN);
    }
}

/* Room for one more record of len bytes. NULL: no memory. */
static SPF_dns_rr_data_t *add(SPF_dns_rr_t *response, size_t len)
{
    if (SPF_dns_rr_buf_realloc(response, response->num_rr, len) != SPF_E_SUCCESS)
        return NULL;
    return response->rr[response->num_rr++];
}

static void add_address(SPF_dns_rr_t *response, const struct netaddr *address)
{
    SPF_dns_rr_data_t *data = add(response, sizeof(*data));

    if (data && address->family == AF_INET)
        memcpy(&data->a, address->bytes, sizeof(data->a));
    else if (data)
        memcpy(&data->aaaa, address->bytes, sizeof(data->aaaa));
}

static SPF_dns_rr_t *addresses(struct engine *engine, ns_type type, struct query *query)
{
    struct run *run = engine->dns.hook;
    const struct answer *answer = query_wait(query, run->question->deadline_ms);
    SPF_dns_rr_t *response = respond_to(engine, type, answer);
    int family = type == ns_t_a ? AF_INET : AF_INET6;
    struct netaddr address;

    if (!response || answer->kind != ANSWER_DATA)
        return response;
    if (run->question->bits == 0 && family == run->question->client.family) {
        add_address(response, &run->question->client);
        return response;
    }
    for (size_t i = 0; i < answer->count; i++) {
        /* In an AAAA record an IPv4-mapped address is none of IPv6. */
        if (dns_address(&answer->records[i], type == ns_t_a ? RR_A : RR_AAAA, &address) &&
            address.family == family)
            add_address(response, &address);
    }
    return response;
}

static SPF_dns_rr_t *target_addresses(struct engine *engine, ns_type type)
{
    struct run *run = engine->dns.hook;
    struct query *query =
        resolver_ask(run->resolver, run->question->name, type == ns_t_a ? RR_A : RR_AAAA);
    SPF_dns_rr_t *response = addresses(engine, type, query);

    query_drop(query);
    return response;
}

/* Begins the queries for the addresses of all names, so that they overlap. */
static void ask_names(struct run *run)
{
    for (size_t i = 0; i < run->names.count; i++)
        run->asked[i] =
            resolver_ask(run->resolver, run->names.name[i], run->address_type);
}

static SPF_dns_rr_t *exchanges(struct engine *engine)
{
    struct run *run = engine->dns.hook;
    struct query *query = resolver_ask(run->resolver, run->question->name, RR_MX);
    const struct answer *answer = query_wait(query, run->question->deadline_ms);
    SPF_dns_rr_t *response = respond_to(engine, ns_t_mx, answer);

    spf_exchanges(answer, &run->names);
    query_drop(query);
    if (run->names.more) {
        fail(run, SPF_MATCH_PERMERROR, "more than ten exchanges");
        run->names.count = 0;
    }
    ask_names(run);
    for (size_t i = 0; response && i < run->names.count; i++) {
        char *text = (char *)add(response, sizeof(EXCHANGE));
        if (!text)
            break;
        memcpy(text, EXCHANGE, sizeof(EXCHANGE));
        text[0] = (char)('0' + i);
    }
    return response;
}

static SPF_dns_rr_t *pointers(struct engine *engine)
{
    struct run *run = engine->dns.hook;
    char name[80];

    dns_reverse_name(&run->question->client, name);
    struct query *query = resolver_ask(run->resolver, name, RR_PTR);
    const struct answer *answer = query_wait(query, run->question->deadline_ms);
    SPF_dns_rr_t *response = respond_to(engine, ns_t_ptr, answer);
    spf_pointers(answer, &run->names);
    query_drop(query);
    ask_names(run);
    for (size_t i = 0; response && i < run->names.count; i++) {
        size_t size = strlen(run->names.name[i]) + 1;
        char *text = (char *)add(response, size);
        if (!text)
            break;
        memcpy(text, run->names.name[i], size);
    }
    return response;
}

/* Which of the names it is: a stand-in for an exchange, or a name of the client
 * itself. -1: none. */
static int name_index(const struct run *run, const char *domain)
{
    if (run->question->mechanism == SPF_MX) {
        size_t i = (size_t)(domain[0] - '0');
        return i < run->names.count && strcmp(domain + 1, &EXCHANGE[1]) == 0 ? (int)i
                                                                             : -1;
    }
    for (size_t i = 0; i < run->names.count; i++) {
        if (strcmp(domain, run->names.name[i]) == 0)
            return (int)i;
    }
    return -1;
}

static SPF_dns_rr_t *lookup(SPF_dns_server_t *dns, const char *domain, ns_type type,
                            int should_cache)
{
    struct engine *engine =
        (struct engine *)(void *)((char *)dns - offsetof(struct engine, dns));
    struct run *run = dns->hook;
    enum spf_mechanism mechanism = run->question->mechanism;
    int i;

    (void)should_cache;
    if (type == ns_t_mx && mechanism == SPF_MX)
        return exchanges(engine);
    if (type == ns_t_ptr && mechanism == SPF_PTR)
        return pointers(engine);
    if (type != ns_t_a && type != ns_t_aaaa)
        return respond(engine, type, HOST_NOT_FOUND);
    if (mechanism == SPF_A || mechanism == SPF_EXISTS)
        return target_addresses(engine, type);
    if ((i = name_index(run, domain)) < 0)
        return respond(engine, type, HOST_NOT_FOUND);
    return addresses(engine, type, run->asked[i]);
}

/* ---- engines ------------------------------------------------------------ */

static void engine_free(struct engine *engine)
{
    if (engine->request)
        SPF_request_free(engine->request);
    if (engine->server)
        SPF_server_free(engine->server);
    free(engine);
}

/* An explanation is made for every "no match": a short one, without macros. */
static bool set_constants(struct engine *engine)
{
    SPF_response_t *response = NULL;
    bool ok = SPF_server_set_rec_dom(engine->server, "r.invalid") == SPF_E_SUCCESS &&
              SPF_server_set_explanation(engine->server, "-", &response) == SPF_E_SUCCESS;

    if (response)
        SPF_response_free(response);
    engine->request = ok ? SPF_request_new(engine->server) : NULL;
    if (!engine->request || SPF_request_set_env_from(engine->request, SENDER) != 0)
        return false;
    engine->request->cur_dom = engine->request->env_from_dp;
    return true;
}

static struct engine *engine_new(void)
{
    struct engine *engine = calloc(1, sizeof(*engine));

    if (!engine)
        return NULL;
    engine->dns.lookup = lookup;
    engine->dns.name = "sluice";
    engine->server = SPF_server_new_dns(&engine->dns, 0);
    if (engine->server && set_constants(engine))
        return engine;
    engine_free(engine);
    return NULL;
}

static struct engine *engine_take(struct spf_engines *engines)
{
    pthread_mutex_lock(&engines->lock);
    struct engine *engine = engines->idle;
    if (engine)
        engines->idle = engine->next;
    pthread_mutex_unlock(&engines->lock);
    return engine ? engine : engine_new();
}

static void engine_give(struct spf_engines *engines, struct engine *engine)
{
    pthread_mutex_lock(&engines->lock);
    engine->next = engines->idle;
    engines->idle = engine;
    pthread_mutex_unlock(&engines->lock);
}

struct spf_engines *spf_engines_new(struct resolver *resolver)
{
    struct spf_engines *engines = calloc(1, sizeof(*engines));

    if (!engines)
        return NULL;
    engines->resolver = resolver;
    engines->idle = engine_new();
    if (!engines->idle || pthread_mutex_init(&engines->lock, NULL) != 0) {
        if (engines->idle)
            engine_free(engines->idle);
        free(engines);
        return NULL;
    }
    return engines;
}

void spf_engines_free(struct spf_engines *engines)
{
    while (engines->idle) {
        struct engine *engine = engines->idle;
        engines->idle = engine->next;
        engine_free(engine);
    }
    pthread_mutex_destroy(&engines->lock);
    free(engines);
}

/* ---- asking ------------------------------------------------------------- */

/* The record of this one mechanism. false: it cannot match. */
static bool write_record(const struct spf_mechanism_question *question, char *out,
                         size_t size)
{
    bool v4 = question->client.family == AF_INET;
    const char *name = question->mechanism == SPF_MX ? "mx" : "a";
    int n;

    switch (question->mechanism) {
    case SPF_EXISTS:
        n = snprintf(out, size, "v=spf1 exists:" TARGET);
        break;
    case SPF_PTR:
        if (!spf_is_host_name(question->name))
            return false;
        n = snprintf(out, size, "v=spf1 ptr:%s", question->name);
        break;
    default:
        if (question->bits == 0 || question->bits == (v4 ? 32 : 128))
            n = snprintf(out, size, "v=spf1 %s:" TARGET, name);
        else
            n = snprintf(out, size, "v=spf1 %s:" TARGET "%s%d", name, v4 ? "/" : "//",
                         question->bits);
        break;
    }
    return n > 0 && (size_t)n < size;
}

static SPF_result_t interpret(struct engine *engine, const char *text)
{
    SPF_response_t *response = SPF_response_new(engine->request);
    SPF_record_t *record = NULL;
    SPF_result_t result = SPF_RESULT_INVALID;

    if (!response)
        return result;
    if (SPF_record_compile(engine->server, response, &record, text) == SPF_E_SUCCESS) {
        response->spf_record_exp = record;
        (void)SPF_record_interpret(record, engine->request, response, 0);
        result = SPF_response_result(response);
    }
    if (record)
        SPF_record_free(record);
    SPF_response_free(response);
    return result;
}

static void set_client(SPF_request_t *request, const struct netaddr *client)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (client->family == AF_INET) {
        memcpy(&v4, client->bytes, sizeof(v4));
        SPF_request_set_ipv4(request, v4);
    } else {
        memcpy(&v6, client->bytes, sizeof(v6));
        SPF_request_set_ipv6(request, v6);
    }
}

static void ask(struct spf_engines *engines, struct engine *engine, const char *text,
                const struct spf_mechanism_question *question,
                struct spf_match_outcome *out)
{
    struct run run = { .question = question, .resolver = engines->resolver, .out = out };

    run.address_type = question->client.family == AF_INET ? RR_A : RR_AAAA;
    engine->dns.hook = &run;
    set_client(engine->request, &question->client);
    SPF_result_t result = interpret(engine, text);
    for (size_t i = 0; i < SPF_NAMES_MAX; i++)
        query_drop(run.asked[i]);
    engine->dns.hook = NULL;
    if (out->match != SPF_NO_MATCH) /* lookup() found an error */
        return;
    if (result == SPF_RESULT_PASS)
        out->match = SPF_MATCH;
    else if (result != SPF_RESULT_NEUTRAL)
        fail(&run, SPF_MATCH_TEMPERROR, "libspf2 failed");
}

void spf_match(struct spf_engines *engines, const struct spf_mechanism_question *question,
               struct spf_match_outcome *out)
{
    char text[sizeof("v=spf1 ptr:") + SPF_NAME_MAX];

    *out = (struct spf_match_outcome){ .match = SPF_NO_MATCH };
    if (!write_record(question, text, sizeof(text)))
        return;
    struct engine *engine = engine_take(engines);
    if (!engine) {
        out->match = SPF_MATCH_TEMPERROR;
        out->why = "no memory";
        return;
    }
    ask(engines, engine, text, question, out);
    engine_give(engines, engine);
}
