/*
 * callbacks: libmilter's events, passed on to session, plan and MTA.
 *
 * Negotiation
 *   Asked for: adding headers, adding and removing recipients, quarantine, and,
 *   where the configuration needs it, changing headers (auth) and the sender
 *   (srs). An MTA that lacks one of the first cannot be served and is refused.
 *   Events that decide nothing are negotiated away (DATA, unknown commands; end
 *   of headers and body unless mail is verified). On a unix socket all events before the
 * end of message are without reply; on TCP they are answered, since without replies
 * Nagle's algorithm and delayed acknowledgements stall Postfix 44 ms a message.
 *
 * Answers
 *   Nothing is ever refused before the end of message (Postfix takes that badly
 *   on non_smtpd_milters), and there only with 451; with 550 only where enforce
 *   = reject, or a message is full of forged results, and never to a client that is
 *   trusted, local or logged in.
 *
 * Time limits
 *   Postfix keeps a connection as long as its SMTP client keeps a session, and
 *   is silent while the client sends the body; smtpd_timeout (300 s) is per
 *   command or line. So idle connections are kept for two hours, as libmilter
 *   itself would; a closed one costs the client one 451.
 */
#include "callbacks.h"

#include <libmilter/mfapi.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "apply.h"
#include "authres.h"
#include "clock.h"
#include "counters.h"
#include "figures.h"
#include "log.h"
#include "report.h"
#include "session.h"
#include "tally.h"
#include "verify.h"

#define IDLE_SECONDS 7200
/* Connections that wait to be accepted; the kernel cuts it to somaxconn. */
#define BACKLOG 1024

#define ACTIONS_NEEDED  (SMFIF_ADDHDRS | SMFIF_ADDRCPT | SMFIF_DELRCPT | SMFIF_QUARANTINE)
#define ACTIONS_WELCOME (ACTIONS_NEEDED | SMFIF_ADDRCPT_PAR)
#define ACTIONS_ALL     (ACTIONS_WELCOME | SMFIF_CHGHDRS | SMFIF_CHGFROM)
#define EVENTS_UNWANTED (SMFIP_NODATA | SMFIP_NOUNKNOWN)
#define EVENTS_OF_AUTH  (SMFIP_NOBODY | SMFIP_NOEOH)
#define REPLIES_UNWANTED                                                                 \
    (SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_RCPT | SMFIP_NR_HDR |      \
     SMFIP_NR_EOH | SMFIP_NR_BODY)

/* How often figures are looked at; TALLY_HOLD_MS says when they go. */
#define TALLY_SECONDS 1

/* One connection of the MTA. */
struct client {
    struct session *session;
    struct verification *verification; /* NULL: not on this connection */
    struct pool *pool;                 /* of the present message, or NULL */
    unsigned long no_reply;            /* SMFIP_NR_* as negotiated */
    bool with_notify;                  /* SMFIF_ADDRCPT_PAR was granted */
    bool with_sender;                  /* SMFIF_CHGFROM was */
    bool with_space;                   /* SMFIP_HDR_LEADSPC: values as in the message */
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t idle;
    struct pool *pool;
    struct tally *tally;
    int deciding; /* messages at their end just now */
    bool local;   /* listening on a unix socket */
} shared = { .mutex = PTHREAD_MUTEX_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER };

void callbacks_use(struct pool *pool)
{
    pthread_mutex_lock(&shared.mutex);
    struct pool *old = shared.pool;
    shared.pool = pool;
    pthread_mutex_unlock(&shared.mutex);
    pool_unref(old);
}

static struct pool *present_pool(void)
{
    pthread_mutex_lock(&shared.mutex);
    struct pool *pool = shared.pool ? pool_ref(shared.pool) : NULL;
    pthread_mutex_unlock(&shared.mutex);
    return pool;
}

static void count_deciding(int by)
{
    pthread_mutex_lock(&shared.mutex);
    shared.deciding += by;
    if (shared.deciding == 0)
        pthread_cond_broadcast(&shared.idle);
    pthread_mutex_unlock(&shared.mutex);
}

void callbacks_drain(int seconds)
{
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += seconds;
    pthread_mutex_lock(&shared.mutex);
    while (shared.deciding > 0 &&
           pthread_cond_timedwait(&shared.idle, &shared.mutex, &deadline) == 0)
        ;
    pthread_mutex_unlock(&shared.mutex);
}

/* ---- figures ------------------------------------------------------------- */

static void flush_tally(bool now)
{
    struct pool *pool =
        now || tally_due(shared.tally, clock_ms()) ? present_pool() : NULL;
    if (!pool)
        return;
    struct store *store = pool_take(pool);
    if (store) {
        tally_flush(shared.tally, store, clock_ms());
        pool_give(pool, store);
    }
    pool_unref(pool);
}

static void *keep_flushing(void *unused)
{
    const struct timespec pause = { .tv_sec = TALLY_SECONDS };
    (void)unused;
    for (;;) {
        nanosleep(&pause, NULL);
        flush_tally(false);
    }
    return NULL;
}

bool callbacks_start_tally(void)
{
    pthread_t thread;
    if (shared.tally)
        return true;
    struct tally *tally = tally_new();
    if (!tally)
        return false;
    shared.tally = tally;
    if (pthread_create(&thread, NULL, keep_flushing, NULL) == 0) {
        pthread_detach(thread);
        return true;
    }
    shared.tally = NULL;
    tally_free(tally);
    return false;
}

void callbacks_end_tally(void)
{
    if (shared.tally)
        flush_tally(true);
}

static void end_message(struct client *client)
{
    if (client->verification)
        verify_reset(client->verification);
    session_reset(client->session);
    pool_unref(client->pool);
    client->pool = NULL;
}

/* libmilter's arguments are not const, but it does not write to them. */
static char *unconst(const char *text)
{
    union {
        const char *in;
        char *out;
    } pointer = { .in = text };
    return pointer.out;
}

/* ---- events ------------------------------------------------------------ */

/* What an event that needs no answer returns. client is NULL only when there
 * was no memory for it; the end of message then answers "try later". */
static sfsistat carry_on(const struct client *client, unsigned long no_reply)
{
    return client && client->no_reply & no_reply ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

/* The queue id is asked for at the end of message; Postfix would otherwise
 * resolve each recipient for macros that nobody reads. */
static void ask_macros(SMFICTX *ctx)
{
    static const struct {
        int where;
        const char *names;
    } wanted[] = {
        { SMFIM_CONNECT, "j" }, { SMFIM_HELO, "j" }, { SMFIM_ENVFROM, "{auth_authen}" },
        { SMFIM_ENVRCPT, "i" }, { SMFIM_EOM, "i" },
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (smfi_setsymlist(ctx, wanted[i].where, unconst(wanted[i].names)) != MI_SUCCESS)
            log_debug("the MTA takes no list of macros");
    }
}

static void free_client(struct client *client)
{
    session_free(client->session);
    verification_free(client->verification);
    free(client);
}

static struct client *new_client(bool verifying)
{
    struct client *client = calloc(1, sizeof(*client));
    if (!client)
        return NULL;
    client->session = session_new();
    if (verifying)
        client->verification = verification_new();
    if (client->session && (client->verification || !verifying))
        return client;
    free_client(client);
    return NULL;
}

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long events,
                             unsigned long unused2, unsigned long unused3,
                             unsigned long *want_actions, unsigned long *want_events,
                             unsigned long *want2, unsigned long *want3)
{
    (void)unused2;
    (void)unused3;
    if ((actions & ACTIONS_NEEDED) != ACTIONS_NEEDED) {
        log_warnx("the MTA refuses what is needed (actions %#lx of %#lx offered): "
                  "milter_protocol must be 6",
                  actions, (unsigned long)ACTIONS_NEEDED);
        return SMFIS_REJECT;
    }
    struct pool *pool = present_pool();
    bool verifying = pool && pool_verifier(pool);
    bool rewriting = pool && pool_conf(pool)->srs.domain;
    struct client *client = new_client(verifying);
    pool_unref(pool);
    if (!client)
        return SMFIS_REJECT;
    *want_actions = actions & (ACTIONS_WELCOME | (verifying ? SMFIF_CHGHDRS : 0) |
                               (rewriting ? SMFIF_CHGFROM : 0));
    *want_events = events & EVENTS_UNWANTED;
    *want_events |= events & (client->verification ? SMFIP_HDR_LEADSPC : EVENTS_OF_AUTH);
    if (shared.local)
        *want_events |= events & REPLIES_UNWANTED;
    *want2 = *want3 = 0;
    ask_macros(ctx);
    client->no_reply = *want_events & REPLIES_UNWANTED;
    client->with_notify = *want_actions & SMFIF_ADDRCPT_PAR;
    client->with_sender = *want_actions & SMFIF_CHGFROM;
    client->with_space = *want_events & SMFIP_HDR_LEADSPC;
    smfi_setpriv(ctx, client);
    return SMFIS_CONTINUE;
}

static sfsistat on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *address)
{
    struct client *client = smfi_getpriv(ctx);
    (void)name;
    if (client)
        session_connect(client->session, (const struct sockaddr *)address);
    if (client && client->verification)
        verify_connect(client->verification, (const struct sockaddr *)address);
    return carry_on(client, SMFIP_NR_CONN);
}

static sfsistat on_helo(SMFICTX *ctx, char *name)
{
    struct client *client = smfi_getpriv(ctx);
    if (client)
        session_helo(client->session, name);
    if (client && client->verification)
        verify_helo(client->verification, name);
    return carry_on(client, SMFIP_NR_HELO);
}

static void begin_message(struct client *client, const char *sender, const char *auth)
{
    struct session *session = client->session;
    struct verifier *verifier = pool_verifier(client->pool);
    session_mail(session, pool_conf(client->pool), sender, auth);
    if (client->verification && verifier && session->sender)
        verify_mail(client->verification, verifier, session->sender, session->auth);
}

static sfsistat on_mail(SMFICTX *ctx, char **words)
{
    struct client *client = smfi_getpriv(ctx);
    if (client) {
        end_message(client);
        client->pool = present_pool();
        if (client->pool)
            begin_message(client, words[0],
                          smfi_getsymval(ctx, unconst("{auth_authen}")));
    }
    return carry_on(client, SMFIP_NR_MAIL);
}

static sfsistat on_rcpt(SMFICTX *ctx, char **words)
{
    struct client *client = smfi_getpriv(ctx);
    if (client)
        session_rcpt(client->session, words[0], words + 1);
    return carry_on(client, SMFIP_NR_RCPT);
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *value)
{
    struct client *client = smfi_getpriv(ctx);
    if (client && client->verification)
        verify_header(client->verification, name, value);
    if (client)
        session_header(client->session, name, value);
    return carry_on(client, SMFIP_NR_HDR);
}

static sfsistat on_end_of_headers(SMFICTX *ctx)
{
    struct client *client = smfi_getpriv(ctx);
    if (client && client->verification)
        verify_end_of_headers(client->verification);
    return carry_on(client, SMFIP_NR_EOH);
}

static sfsistat on_body(SMFICTX *ctx, unsigned char *data, size_t len)
{
    struct client *client = smfi_getpriv(ctx);
    if (client && client->verification)
        verify_body(client->verification, data, len);
    return carry_on(client, SMFIP_NR_BODY);
}

static sfsistat on_abort(SMFICTX *ctx)
{
    struct client *client = smfi_getpriv(ctx);
    if (client)
        end_message(client);
    return SMFIS_CONTINUE;
}

static sfsistat on_close(SMFICTX *ctx)
{
    struct client *client = smfi_getpriv(ctx);
    if (!client)
        return SMFIS_CONTINUE;
    smfi_setpriv(ctx, NULL);
    end_message(client);
    free_client(client);
    return SMFIS_CONTINUE;
}

/* ---- the MTA's side of a plan -------------------------------------------- */

static bool mta_quarantine(void *context, const char *reason)
{
    return smfi_quarantine(context, unconst(reason)) == MI_SUCCESS;
}

static bool mta_add(void *context, const char *address, const char *notify)
{
    const struct client *client = smfi_getpriv(context);
    char bracketed[ADDR_TEXT_MAX + 3];
    int len = snprintf(bracketed, sizeof(bracketed), "<%s>", address);
    if (len < 0 || (size_t)len >= sizeof(bracketed))
        return false;
    if (notify && client->with_notify)
        return smfi_addrcpt_par(context, bracketed, unconst(notify)) == MI_SUCCESS;
    return smfi_addrcpt(context, bracketed) == MI_SUCCESS;
}

static bool mta_sender(void *context, const char *address)
{
    char bracketed[ADDR_TEXT_MAX + 3];
    int len = snprintf(bracketed, sizeof(bracketed), "<%s>", address);
    if (len < 0 || (size_t)len >= sizeof(bracketed))
        return false;
    return smfi_chgfrom(context, bracketed, NULL) == MI_SUCCESS;
}

static bool mta_remove(void *context, const char *text)
{
    return smfi_delrcpt(context, unconst(text)) == MI_SUCCESS;
}

/* Above all others: trace fields stand on top (RFC 5322 3.6.7), and no
 * signature covers what is prepended. */
static bool mta_header(void *context, const char *name, const char *value)
{
    const struct client *client = smfi_getpriv(context);
    if (!client->with_space)
        return smfi_insheader(context, 0, unconst(name), unconst(value)) == MI_SUCCESS;
    size_t len = strlen(value);
    char *spaced = malloc(len + 2);
    if (!spaced)
        return false;
    spaced[0] = ' ';
    memcpy(spaced + 1, value, len + 1);
    bool done = smfi_insheader(context, 0, unconst(name), spaced) == MI_SUCCESS;
    free(spaced);
    return done;
}

/* ---- the end of a message ------------------------------------------------ */

/* Looks all recipients up in one round trip, and says what happens to them. */
static void decide(struct session *session, struct store *store)
{
    size_t n = 0;
    struct route **routes = calloc(session->count + 1, sizeof(struct route *));
    if (!routes) {
        session->incomplete = "no-memory";
        return;
    }
    for (size_t i = 0; i < session->count; i++)
        routes[n++] = &session->recipients[i]->route;
    if (session->from)
        routes[n++] = &session->from->route;
    if (store)
        store_lookup(store, routes, n);
    bool failed = false;
    for (size_t i = 0; i < n; i++) {
        if (!store)
            routes[i]->lookup = LOOKUP_FAILED;
        failed |= routes[i]->lookup == LOOKUP_FAILED;
        route_finish(session->conf, routes[i]);
    }
    if (failed)
        counters_add(COUNTER_STORE_FAILURES);
    if (failed)
        report_store_trouble(store ? store_error(store)
                                   : "all connections to Redis are busy");
    free(routes);
}

static sfsistat answer(SMFICTX *ctx, const struct plan *plan)
{
    const char *text = "mailbox state unknown, try again later";
    const char *status = "4.3.0";
    if (plan->ending != ENDING_LATER)
        return SMFIS_CONTINUE;
    if (plan->locked) {
        status = "4.2.1";
        text = "mailbox is being moved";
    }
    smfi_setreply(ctx, unconst("451"), unconst(status), unconst(text));
    return SMFIS_TEMPFAIL;
}

/* What the author's domain asks for, as far as enforce goes. */
static enum dmarc_policy enforced(const struct conf *conf,
                                  const struct verified *verified)
{
    if (verified->exempt || conf->auth.enforce == ENFORCE_NONE)
        return DMARC_NONE;
    if (verified->disposition == DMARC_REJECT && conf->auth.enforce == ENFORCE_QUARANTINE)
        return DMARC_QUARANTINE;
    return verified->disposition;
}

/* Forged fields out, from the last up (Postfix renumbers what follows each one
 * that goes), and ours in. What cannot be done is said, and the mail goes on. */
static void write_results(SMFICTX *ctx, const struct verified *verified,
                          const char *queue_id)
{
    bool done = true;
    if (verified->flooded)
        log_warnx("%s: forged " AUTHRES_HEADER " fields stay, there are too many of them",
                  queue_id ? queue_id : "NOQUEUE");
    for (size_t i = verified->forged_count; i > 0; i--)
        done &= smfi_chgheader(ctx, unconst(AUTHRES_HEADER), (int)verified->forged[i - 1],
                               NULL) == MI_SUCCESS;
    if (verified->received_spf)
        done &= mta_header(ctx, RECEIVED_SPF_HEADER, verified->received_spf);
    if (verified->results)
        done &= mta_header(ctx, AUTHRES_HEADER, verified->results);
    if (!done)
        log_warnx("%s: the MTA refuses to change " AUTHRES_HEADER " fields",
                  queue_id ? queue_id : "NOQUEUE");
}

static void count_sender(const struct client *client, const struct verified *verified,
                         int64_t now)
{
    const char *sender = client->session->sender;
    const char *at = strrchr(sender, '@');
    char envelope[ADDR_DOMAIN_MAX + 1] = "";
    if (at && !addr_domain(at + 1, strlen(at + 1), envelope))
        envelope[0] = '\0';
    struct tally_entry entry = { .client = &verified->client,
                                 .helo = verified->helo,
                                 .envelope = envelope,
                                 .from = verified->from,
                                 .spf = verified->spf,
                                 .dkim = verified->dkim,
                                 .dmarc = verified->dmarc,
                                 .would_fail = verified->would_fail };
    tally_add(shared.tally, pool_conf(client->pool), &entry, now);
}

static sfsistat refuse(SMFICTX *ctx, const struct client *client,
                       const struct verified *verified)
{
    counters_add(COUNTER_REJECTED);
    char text[ADDR_DOMAIN_MAX + 64] = "too many forged " AUTHRES_HEADER " fields";
    if (!verified->flooded)
        snprintf(text, sizeof(text), "refused by the DMARC policy of %s", verified->from);
    report_verified(client->session, verified, "reject",
                    verified->flooded ? "forged-results" : NULL,
                    smfi_getsymval(ctx, unconst("i")));
    smfi_setreply(ctx, unconst("550"), unconst("5.7.1"), unconst(text));
    return SMFIS_REJECT;
}

static struct mta mta_of(SMFICTX *ctx, const struct client *client)
{
    return (struct mta){ .context = ctx,
                         .quarantine = mta_quarantine,
                         .add = mta_add,
                         .remove = mta_remove,
                         .sender = client->with_sender ? mta_sender : NULL,
                         .header = mta_header };
}

static bool put_on_hold(SMFICTX *ctx, const struct client *client, const char *queue_id)
{
    const struct mta mta = mta_of(ctx, client);
    struct store *store = pool_take(client->pool);
    bool held = apply_quarantine(client->session, &mta, store, queue_id, time(NULL));
    if (store)
        pool_give(client->pool, store);
    if (!held)
        log_warnx("the MTA refuses to quarantine");
    return held;
}

/* A message for no managed mailbox. */
static sfsistat pass_on(SMFICTX *ctx, const struct client *client,
                        const struct verified *verified)
{
    const char *queue_id = smfi_getsymval(ctx, unconst("i"));
    write_results(ctx, verified, queue_id);
    bool hold = enforced(pool_conf(client->pool), verified) == DMARC_QUARANTINE &&
                put_on_hold(ctx, client, queue_id);
    if (hold)
        counters_add(COUNTER_QUARANTINED);
    if (verified->done)
        report_verified(client->session, verified, hold ? "quarantine" : "none", NULL,
                        queue_id);
    return SMFIS_CONTINUE;
}

static sfsistat decide_message(SMFICTX *ctx, struct client *client,
                               const struct verified *verified)
{
    struct session *session = client->session;
    const char *queue_id = smfi_getsymval(ctx, unconst("i"));
    const struct mta mta = mta_of(ctx, client);
    int64_t now = time(NULL);
    struct plan plan;

    struct store *store = pool_take(client->pool);
    decide(session, store);
    unsigned char secret[STORE_SECRET_LEN];
    bool keyed =
        store && plan_wants_secret(session) && pool_secret(client->pool, store, secret);
    plan_make(session, keyed ? secret : NULL, &plan);
    if (enforced(session->conf, verified) == DMARC_QUARANTINE)
        plan_quarantine(&plan);
    if (plan.ending != ENDING_LATER)
        write_results(ctx, verified, queue_id);
    plan_apply(&plan, session, &mta, store, queue_id, now);
    report_message(&plan, session, verified->words, queue_id);
    figures_plan(&plan, session);
    plan_count(&plan, session, store, queue_id, now);
    if (store)
        pool_give(client->pool, store);
    sfsistat result = answer(ctx, &plan);
    plan_free(&plan);
    return result;
}

static sfsistat settle_message(SMFICTX *ctx, struct client *client,
                               const struct verified *verified)
{
    const struct session *session = client->session;
    bool flood = verified->flooded && !verified->exempt;
    if (flood || enforced(pool_conf(client->pool), verified) == DMARC_REJECT)
        return refuse(ctx, client, verified);
    if (!session_managed(session) && !session->incomplete)
        return pass_on(ctx, client, verified);
    count_deciding(1);
    sfsistat result = decide_message(ctx, client, verified);
    count_deciding(-1);
    return result;
}

static sfsistat end_of_message(SMFICTX *ctx, struct client *client)
{
    struct verified verified = { .from = "" };
    if (client->verification)
        verify_finish(client->verification, &verified);
    figures_message(&verified);
    sfsistat result = settle_message(ctx, client, &verified);
    /* What is tried later will be counted when it comes again. */
    if (verified.done && result != SMFIS_TEMPFAIL)
        count_sender(client, &verified, time(NULL));
    return result;
}

static sfsistat on_end_of_message(SMFICTX *ctx)
{
    struct client *client = smfi_getpriv(ctx);
    if (!client || !client->pool)
        return SMFIS_TEMPFAIL;
    sfsistat result = end_of_message(ctx, client);
    end_message(client);
    return result;
}

/* ---- registration -------------------------------------------------------- */

/* "local:/path" or "inet:port@host", as smfi_setconn(3) wants it. */
static bool format_connection(const struct conf_endpoint *listen, char *out, size_t size)
{
    int len;
    if (listen->path)
        len = snprintf(out, size, "local:%s", listen->path);
    else
        len =
            snprintf(out, size, "%s:%u@%s", strchr(listen->host, ':') ? "inet6" : "inet",
                     (unsigned)listen->port, listen->host);
    return len > 0 && (size_t)len < size;
}

bool callbacks_register(const struct conf_endpoint *listen, const char **error)
{
    static char name[] = "sluice-milter";
    char connection[512];
    struct smfiDesc filter = {
        .xxfi_name = name,
        .xxfi_version = SMFI_VERSION,
        .xxfi_flags = ACTIONS_ALL,
        .xxfi_connect = on_connect,
        .xxfi_helo = on_helo,
        .xxfi_envfrom = on_mail,
        .xxfi_envrcpt = on_rcpt,
        .xxfi_header = on_header,
        .xxfi_eoh = on_end_of_headers,
        .xxfi_body = on_body,
        .xxfi_eom = on_end_of_message,
        .xxfi_abort = on_abort,
        .xxfi_close = on_close,
        .xxfi_negotiate = on_negotiate,
    };
    *error = NULL;
    shared.local = listen->path;
    if (!format_connection(listen, connection, sizeof(connection)))
        *error = "too long for a socket";
    else if (smfi_register(filter) != MI_SUCCESS)
        *error = "libmilter refuses the filter (another version of libmilter?)";
    else if (smfi_setconn(connection) != MI_SUCCESS)
        *error = "not a socket that libmilter takes";
    else if (smfi_settimeout(IDLE_SECONDS) != MI_SUCCESS ||
             smfi_setbacklog(BACKLOG) != MI_SUCCESS)
        *error = "libmilter takes no time limit or backlog";
    return !*error;
}
