/*
 * resolver_setup: see resolver_setup.h.
 *
 * What differs from libunbound's own settings, and why:
 *
 *   servers      every question goes to them; on loopback and at private
 *                addresses too. None: those of /etc/resolv.conf
 *   stub zones   asked of one server without recursion. DNSSEC is not expected
 *                of them, unless the trust anchor file speaks of them or of a
 *                zone above them other than the root
 *   local zones  libunbound answers reverse zones of private and documentation
 *                addresses, "test." and the like itself, with NXDOMAIN; here the
 *                servers are asked
 *   trust anchor a plain file (DS, DNSKEY) that is only read. Not RFC 5011: for
 *                that libunbound writes beside the file, and where it cannot
 *                write it ends the process
 *   retries      it sends again, and from then on hears no answer to the first,
 *                after 50 ms when answers came quickly so far; a resolver that
 *                must go and ask takes longer. It sends four times, and each time
 *                waits twice as long: from 300 ms on that is 4.5 s
 *   sockets      one for each question under way, as far as a quarter of the
 *                permitted open files goes. Its default of 16, and 512 too, is
 *                filled by names that nobody answers, each of which holds one for
 *                seconds, and then good questions wait (measured: with 512, 50 such
 *                names a second, 11 and more of 30 others failed; with 4096 none)
 *   down servers are asked again after 15 seconds at the most, not 15 minutes.
 *                The price: of two servers of which one is down, 22 of 400
 *                questions (5 a second) took over 250 ms, with the defaults 10. A
 *                much lower infra-cache-max-rtt would recover sooner, but then
 *                names that nobody answers, which anybody can put into mail, make
 *                a good server count as down (with 1000 ms: 29 of 30 questions
 *                about other names failed)
 *   caches       negative answers and failures are short, so that a DNS that has
 *                been put right is seen
 *
 * The context's thread is started here (by a question that it answers itself),
 * so that it takes no signal and a bad trust anchor is an error at once.
 */
#include "resolver_setup.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

#include <unbound.h>

#include "resolver.h"

#define ANCHOR_LINE_MAX 16384
#define SOCKETS_LEAST   16                         /* libunbound's own */
#define SERVER_TEXT_MAX (NETADDR_TEXT_MAX + 1 + 5) /* address@port */

static const struct {
    const char *name, *value;
} options[] = {
    { "do-not-query-localhost:", "no" },
    { "unblock-lan-zones:", "yes" },
    { "insecure-lan-zones:", "yes" },
    { "local-zone:", "test. transparent" }, /* "nodefault" does nothing in 1.17 */
    { "local-zone:", "invalid. transparent" },
    { "local-zone:", "home.arpa. transparent" },
    { "outgoing-num-tcp:", "32" },
    { "num-queries-per-thread:", "4096" },
    { "msg-cache-size:", "8m" },
    { "rrset-cache-size:", "16m" },
    { "infra-cache-min-rtt:", "300" },
    { "infra-host-ttl:", "15" },
    { "infra-cache-max-rtt:", "12000" },
    { "cache-max-ttl:", "86400" },
    { "cache-max-negative-ttl:", "300" },
    { "val-bogus-ttl:", "5" },
    { "qname-minimisation:", "no" }, /* costs a round trip for each label */
    { "rrset-roundrobin:", "no" },
};

static struct ub_ctx *failed(struct ub_ctx *ctx, const char *what, const char *why,
                             char *error, size_t error_size)
{
    snprintf(error, error_size, "%s: %s", what, why);
    ub_ctx_delete(ctx);
    return NULL;
}

static void server_text(const struct conf_server *server, char out[SERVER_TEXT_MAX + 1])
{
    char address[NETADDR_TEXT_MAX + 1];

    snprintf(out, SERVER_TEXT_MAX + 1, "%s@%u", netaddr_format(&server->address, address),
             (unsigned)server->port);
}

/* ---- trust anchor and stub zones ------------------------------------------ */

/* Whether zone is name or lies below it; neither has a final dot. */
static bool lies_in(const char *zone, const char *name)
{
    size_t zone_len = strlen(zone), len = strlen(name);

    return len > 0 && zone_len >= len && strcasecmp(zone + zone_len - len, name) == 0 &&
           (zone_len == len || zone[zone_len - len - 1] == '.');
}

/* The anchor file's lines begin with the owner's name. */
static bool anchored(const char *path, const char *zone)
{
    FILE *file = fopen(path, "re");
    char *line = malloc(ANCHOR_LINE_MAX);
    bool found = false;

    while (file && line && !found && fgets(line, ANCHOR_LINE_MAX, file)) {
        size_t len = strcspn(line, " \t\r\n;");
        line[len] = '\0';
        if (len > 0 && line[len - 1] == '.')
            line[len - 1] = '\0';
        found = lies_in(zone, line);
    }
    free(line);
    if (file)
        fclose(file);
    return found;
}

static int set_stub(struct ub_ctx *ctx, const struct conf_stub *stub,
                    const char *trust_anchor)
{
    char server[SERVER_TEXT_MAX + 1];

    server_text(&stub->server, server);
    int rc = ub_ctx_set_stub(ctx, stub->zone, server, 0);
    if (rc == 0 && trust_anchor && !anchored(trust_anchor, stub->zone))
        rc = ub_ctx_set_option(ctx, "domain-insecure:", stub->zone);
    return rc;
}

/* libunbound itself says of an unreadable file no more than "initialization
 * failure", and that at the first question. */
static bool readable(const char *path, char *error, size_t error_size)
{
    char byte[1];

    errno = 0;
    FILE *file = fopen(path, "re");
    bool ok = file && fread(byte, 1, sizeof(byte), file) == sizeof(byte);
    if (!ok)
        snprintf(error, error_size, "trust-anchor %s: %s", path,
                 errno ? strerror(errno) : "it is empty");
    if (file)
        fclose(file);
    return ok;
}

/* ---- the context ---------------------------------------------------------- */

static int set_sockets(struct ub_ctx *ctx)
{
    struct rlimit files;
    char text[32];
    rlim_t sockets = RESOLVER_PENDING_MAX;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur / 4 < sockets)
        sockets = files.rlim_cur / 4;
    if (sockets < SOCKETS_LEAST)
        sockets = SOCKETS_LEAST;
    snprintf(text, sizeof(text), "%ju", (uintmax_t)sockets);
    return ub_ctx_set_option(ctx, "outgoing-range:", text);
}

static struct ub_ctx *set_servers(struct ub_ctx *ctx, const struct conf_auth *auth,
                                  char *error, size_t error_size)
{
    char text[SERVER_TEXT_MAX + 1];

    for (size_t i = 0; i < auth->server_count; i++) {
        server_text(&auth->servers[i], text);
        int rc = ub_ctx_set_fwd(ctx, text);
        if (rc != 0)
            return failed(ctx, text, ub_strerror(rc), error, error_size);
    }
    int rc = auth->server_count > 0 ? 0 : ub_ctx_resolvconf(ctx, NULL);
    if (rc != 0)
        return failed(ctx, "/etc/resolv.conf",
                      rc == UB_READFILE ? strerror(errno) : ub_strerror(rc), error,
                      error_size);
    return ctx;
}

static struct ub_ctx *set_zones(struct ub_ctx *ctx, const struct conf_auth *auth,
                                char *error, size_t error_size)
{
    for (size_t i = 0; i < auth->stub_count; i++) {
        int rc = set_stub(ctx, &auth->stubs[i], auth->trust_anchor);
        if (rc != 0)
            return failed(ctx, auth->stubs[i].zone, ub_strerror(rc), error, error_size);
    }
    if (!auth->trust_anchor)
        return ctx;
    int rc = ub_ctx_add_ta_file(ctx, auth->trust_anchor);
    if (rc != 0)
        return failed(ctx, auth->trust_anchor, ub_strerror(rc), error, error_size);
    return ctx;
}

static void ignore(void *context, int err, struct ub_result *result)
{
    (void)context;
    (void)err;
    ub_resolve_free(result);
}

static struct ub_ctx *start(struct ub_ctx *ctx, const char *trust_anchor, char *error,
                            size_t error_size)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = ub_resolve_async(ctx, "localhost.", RR_A, 1, NULL, ignore, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == UB_INITFAIL && trust_anchor) {
        snprintf(error, error_size, "trust-anchor %s: not a file of DS or DNSKEY records",
                 trust_anchor);
        ub_ctx_delete(ctx);
        return NULL;
    }
    if (rc != 0)
        return failed(ctx, "libunbound", ub_strerror(rc), error, error_size);
    return ctx;
}

struct ub_ctx *resolver_setup(const struct conf_auth *auth, char *error,
                              size_t error_size)
{
    if (auth->trust_anchor && !readable(auth->trust_anchor, error, error_size))
        return NULL;
    struct ub_ctx *ctx = ub_ctx_create();
    if (!ctx)
        return failed(NULL, "libunbound", "no memory", error, error_size);
    (void)ub_ctx_debugout(ctx, NULL); /* errors are values here */
    int rc = ub_ctx_async(ctx, 1);
    if (rc == 0)
        rc = set_sockets(ctx);
    if (rc != 0)
        return failed(ctx, "libunbound", ub_strerror(rc), error, error_size);
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        rc = ub_ctx_set_option(ctx, options[i].name, options[i].value);
        if (rc != 0)
            return failed(ctx, options[i].name, ub_strerror(rc), error, error_size);
    }
    if (!set_servers(ctx, auth, error, error_size) ||
        !set_zones(ctx, auth, error, error_size))
        return NULL;
    return start(ctx, auth->trust_anchor, error, error_size);
}
