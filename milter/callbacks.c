/*
 * callbacks: libmilter's events, passed on to session, plan and MTA.
 *
 * Negotiation
 *   Asked for: adding headers, adding and removing recipients, quarantine. An
 *   MTA that lacks one of them cannot be served and is refused.
 *   Events that decide nothing are negotiated away (body, end of headers, DATA,
 *   unknown commands). On a unix socket all events before the end of message
 *   are without reply; on TCP they are answered, since without replies Nagle's
 *   algorithm and delayed acknowledgements stall Postfix 44 ms a message.
 *
 * Answers
 *   Nothing is ever refused before the end of message (Postfix takes that badly
 *   on non_smtpd_milters), and there only with 451.
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
#include "log.h"
#include "report.h"
#include "session.h"

#define IDLE_SECONDS 7200
/* Connections that wait to be accepted; the kernel cuts it to somaxconn. */
#define BACKLOG 1024

#define ACTIONS_NEEDED  (SMFIF_ADDHDRS | SMFIF_ADDRCPT | SMFIF_DELRCPT | SMFIF_QUARANTINE)
#define ACTIONS_WELCOME (ACTIONS_NEEDED | SMFIF_ADDRCPT_PAR)
#define EVENTS_UNWANTED (SMFIP_NOBODY | SMFIP_NOEOH | SMFIP_NODATA | SMFIP_NOUNKNOWN)
#define REPLIES_UNWANTED                                                                 \
    (SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_RCPT | SMFIP_NR_HDR)

/* One connection of the MTA. */
struct client {
    struct session *session;
    struct pool *pool;      /* of the present message, or NULL */
    unsigned long no_reply; /* SMFIP_NR_* as negotiated */
    bool with_notify;       /* SMFIF_ADDRCPT_PAR was granted */
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t idle;
    struct pool *pool;
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

static void end_message(struct client *client)
{
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
    *want_actions = actions & ACTIONS_WELCOME;
    *want_events = events & EVENTS_UNWANTED;
    if (shared.local)
        *want_events |= events & REPLIES_UNWANTED;
    *want2 = *want3 = 0;
    ask_macros(ctx);
    struct client *client = calloc(1, sizeof(*client));
    struct session *session = session_new();
    if (!client || !session) {
        free(client);
        session_free(session);
        return SMFIS_REJECT;
    }
    client->session = session;
    client->no_reply = *want_events & REPLIES_UNWANTED;
    client->with_notify = *want_actions & SMFIF_ADDRCPT_PAR;
    smfi_setpriv(ctx, client);
    return SMFIS_CONTINUE;
}

static sfsistat on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *address)
{
    struct client *client = smfi_getpriv(ctx);
    (void)name;
    if (client)
        session_connect(client->session, (const struct sockaddr *)address);
    return carry_on(client, SMFIP_NR_CONN);
}

static sfsistat on_helo(SMFICTX *ctx, char *name)
{
    struct client *client = smfi_getpriv(ctx);
    if (client)
        session_helo(client->session, name);
    return carry_on(client, SMFIP_NR_HELO);
}

static sfsistat on_mail(SMFICTX *ctx, char **words)
{
    struct client *client = smfi_getpriv(ctx);
    if (client) {
        end_message(client);
        client->pool = present_pool();
        if (client->pool)
            session_mail(client->session, pool_conf(client->pool), words[0],
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
    if (client)
        session_header(client->session, name, value);
    return carry_on(client, SMFIP_NR_HDR);
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
    session_free(client->session);
    free(client);
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

static bool mta_remove(void *context, const char *text)
{
    return smfi_delrcpt(context, unconst(text)) == MI_SUCCESS;
}

/* Above all others: trace fields stand on top (RFC 5322 3.6.7), and no
 * signature covers what is prepended. */
static bool mta_header(void *context, const char *name, const char *value)
{
    return smfi_insheader(context, 0, unconst(name), unconst(value)) == MI_SUCCESS;
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

static sfsistat decide_message(SMFICTX *ctx, struct client *client)
{
    struct session *session = client->session;
    const char *queue_id = smfi_getsymval(ctx, unconst("i"));
    const struct mta mta = { .context = ctx,
                             .quarantine = mta_quarantine,
                             .add = mta_add,
                             .remove = mta_remove,
                             .header = mta_header };
    int64_t now = time(NULL);
    struct plan plan;

    struct store *store = pool_take(client->pool);
    decide(session, store);
    unsigned char secret[STORE_SECRET_LEN];
    bool keyed =
        store && plan_wants_secret(session) && pool_secret(client->pool, store, secret);
    plan_make(session, keyed ? secret : NULL, &plan);
    plan_apply(&plan, session, &mta, store, queue_id, now);
    report_message(&plan, session, queue_id);
    plan_count(&plan, session, store, queue_id, now);
    if (store)
        pool_give(client->pool, store);
    sfsistat result = answer(ctx, &plan);
    plan_free(&plan);
    return result;
}

static sfsistat on_end_of_message(SMFICTX *ctx)
{
    struct client *client = smfi_getpriv(ctx);
    if (!client || !client->pool)
        return SMFIS_TEMPFAIL;
    sfsistat result = SMFIS_CONTINUE;
    if (session_managed(client->session) || client->session->incomplete) {
        count_deciding(1);
        result = decide_message(ctx, client);
        count_deciding(-1);
    }
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
        .xxfi_flags = ACTIONS_WELCOME,
        .xxfi_connect = on_connect,
        .xxfi_helo = on_helo,
        .xxfi_envfrom = on_mail,
        .xxfi_envrcpt = on_rcpt,
        .xxfi_header = on_header,
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
