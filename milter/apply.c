/*
 * apply: the plan of a message and its execution.
 *
 * In this order, the first that fits:
 *   unknown   a recipient is to be tried later, or the message could not be
 *             kept whole                              -> ENDING_LATER
 *   loop      a recipient that would leave (forward, redirect) has its token
 *             in a trace header                       -> ENDING_LOOP
 *   hold      all recipients are locked, no copy to make -> ENDING_HOLD
 *   otherwise redirects, copies, trace header         -> ENDING_ACCEPT
 *
 * The trace header has a token (address, epoch) for each recipient that
 * leaves, and one ("copy " address, 0) for each copy that was made, by which
 * the other side knows that it need not make it again.
 *
 * A loop, like any hold that a milter asks for, holds the message for all its
 * recipients.  A held message is recorded before the hold is asked for; when
 * the record is not certain the message is tried later.
 *
 * Sender rewriting (srs in the configuration): a message of which something
 * leaves this host, now or after a lock, gets an envelope sender of the srs
 * domain. There is one for all recipients of a message, so those that stay see
 * it too. Redirects and forwards that Postfix makes later, from hold or deferred,
 * pass no milter: that is why a lock on the old side counts. What cannot be
 * rewritten (srs.h) goes out as it is: SPF at the next server is not worth a
 * message.
 *
 * "Later" is right for local submissions too: a temporary failure at end of
 * message leaves the message in Postfix's maildrop queue, and pickup(8) brings
 * it again every 60 s; nothing bounces, and no copy or trace is missed.
 */
#include "config.h"

#include "apply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "held.h"
#include "log.h"
#include "srs.h"
#include "trace.h"

/* A header stays well below Postfix' header_size_limit (102400) and libmilter's
 * packet size (65535). */
#define TOKENS_PER_HEADER 400
#define TOKENS_PER_LINE   2

#define HOLD_REASON "sluice: mailbox is being moved"
#define LOOP_REASON "sluice: mail loop"

/* ---- a set of addresses ------------------------------------------------ */

struct names {
    const char **slots;
    size_t mask;
};

/* Room for n names. */
static bool names_init(struct names *names, size_t n)
{
    size_t size = 16;
    while (size < n * 2)
        size *= 2;
    names->slots = calloc(size, sizeof(*names->slots));
    names->mask = size - 1;
    return names->slots;
}

/* false when it is there already. */
static bool names_add(struct names *names, const char *name)
{
    size_t hash = 2166136261u;
    for (const char *p = name; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    while (names->slots[hash & names->mask]) {
        if (strcmp(names->slots[hash & names->mask], name) == 0)
            return false;
        hash++;
    }
    names->slots[hash & names->mask] = name;
    return true;
}

/* ---- making the plan --------------------------------------------------- */

struct planner {
    struct session *session;
    const unsigned char *secret;
    struct plan *plan;
    struct names names;      /* who gets the message */
    char **canonical;        /* addresses of the recipients that stay */
    struct trace_set traced; /* what the message brought with it */
    char (*tokens)[TRACE_TOKEN_LEN + 1];
    size_t token_count;
};

static bool leaves(const struct recipient *recipient)
{
    return recipient->route.verdict == VERDICT_FORWARD ||
           recipient->route.verdict == VERDICT_REDIRECT;
}

static bool wants_copy(const struct recipient *recipient)
{
    return recipient->route.lookup == LOOKUP_FOUND && recipient->route.home.copy[0];
}

bool plan_wants_secret(const struct session *session)
{
    if (session->from && wants_copy(session->from))
        return true;
    for (size_t i = 0; i < session->count; i++)
        if (leaves(session->recipients[i]) || wants_copy(session->recipients[i]))
            return true;
    return false;
}

static void later(struct plan *plan, const char *reason)
{
    plan->ending = ENDING_LATER;
    plan->reason = reason;
}

static const char *unknown_reason(const struct route *route)
{
    switch (route->lookup) {
    case LOOKUP_FAILED:
        return "lookup-failed";
    case LOOKUP_ABSENT:
        return "domain-not-registered";
    case LOOKUP_FOUND:
        break;
    }
    return "no-next-hop";
}

/* Why the message must be tried later, or NULL. A copy of outgoing mail that
 * nobody can say is wanted or not is such a reason too. */
static const char *find_unknown(const struct session *session)
{
    if (session->incomplete)
        return session->incomplete;
    for (size_t i = 0; i < session->count; i++)
        if (session->recipients[i]->route.verdict == VERDICT_LATER)
            return unknown_reason(&session->recipients[i]->route);
    if (session->from && session->from->route.lookup != LOOKUP_FOUND)
        return unknown_reason(&session->from->route);
    return NULL;
}

static bool token_of(const struct planner *planner, const struct recipient *recipient,
                     char token[TRACE_TOKEN_LEN + 1])
{
    char address[ADDR_TEXT_MAX + 1];
    route_address(&recipient->route, address);
    return trace_token(planner->secret, STORE_SECRET_LEN, address,
                       recipient->route.home.epoch, token);
}

static void keep_token(struct planner *planner, const char *token)
{
    memcpy(planner->tokens[planner->token_count++], token, TRACE_TOKEN_LEN + 1);
}

/* Tokens of all that leave; finds the first that left before. */
static const char *plan_departures(struct planner *planner)
{
    struct session *session = planner->session;
    char token[TRACE_TOKEN_LEN + 1];
    for (size_t i = 0; i < session->count; i++) {
        struct recipient *recipient = session->recipients[i];
        if (!leaves(recipient))
            continue;
        if (!token_of(planner, recipient, token))
            return "no-token";
        if (trace_has(&planner->traced, token)) {
            planner->plan->looping = recipient;
            return NULL;
        }
        keep_token(planner, token);
    }
    return NULL;
}

/* Everybody who gets the message as it is, so that nobody is added twice. */
static const char *plan_present(struct planner *planner)
{
    struct session *session = planner->session;
    for (size_t i = 0; i < session->present_count; i++)
        names_add(&planner->names, session->present[i]);
    for (size_t i = 0; i < session->count; i++) {
        if (session->recipients[i]->route.verdict == VERDICT_REDIRECT)
            continue;
        char address[ADDR_TEXT_MAX + 1];
        route_address(&session->recipients[i]->route, address);
        planner->canonical[i] = strdup(address);
        if (!planner->canonical[i])
            return "no-memory";
        names_add(&planner->names, planner->canonical[i]);
    }
    return NULL;
}

static void add_step(struct planner *planner, const char *remove, const char *add,
                     const char *notify)
{
    struct plan_step *step = &planner->plan->steps[planner->plan->step_count++];
    step->remove = remove;
    step->add = add;
    step->notify = notify;
}

static void plan_redirects(struct planner *planner)
{
    struct session *session = planner->session;
    for (size_t i = 0; i < session->count; i++) {
        struct recipient *recipient = session->recipients[i];
        const char *new = recipient->route.home.new_address;
        if (recipient->route.verdict != VERDICT_REDIRECT)
            continue;
        if (names_add(&planner->names, new))
            add_step(planner, recipient->text, new, recipient->notify);
        else
            add_step(planner, recipient->text, NULL, NULL);
    }
}

/* A copy that is lost is nothing the sender should hear of: NOTIFY=NEVER. */
static const char *plan_copy(struct planner *planner, struct recipient *recipient)
{
    char name[sizeof("copy ") + ADDR_TEXT_MAX];
    char token[TRACE_TOKEN_LEN + 1];
    const char *copy = recipient->route.home.copy;
    if (!wants_copy(recipient))
        return NULL;
    memcpy(name, "copy ", 5);
    memcpy(name + 5, copy, strlen(copy) + 1);
    if (!trace_token(planner->secret, STORE_SECRET_LEN, name, 0, token))
        return "no-token";
    if (trace_has(&planner->traced, token) || !names_add(&planner->names, copy))
        return NULL;
    add_step(planner, NULL, copy, "NOTIFY=NEVER");
    keep_token(planner, token);
    recipient->copied = true;
    return NULL;
}

static const char *plan_copies(struct planner *planner)
{
    struct session *session = planner->session;
    const char *trouble = NULL;
    for (size_t i = 0; i < session->count && !trouble; i++)
        trouble = plan_copy(planner, session->recipients[i]);
    if (session->from && !trouble)
        trouble = plan_copy(planner, session->from);
    return trouble;
}

/* One header of up to TOKENS_PER_HEADER tokens, folded. */
static char *format_tokens(char (*tokens)[TRACE_TOKEN_LEN + 1], size_t n)
{
    char *value = malloc(n * (TRACE_TOKEN_LEN + 2) + 1);
    if (!value)
        return NULL;
    char *end = value;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && i % TOKENS_PER_LINE == 0)
            *end++ = '\n';
        if (i > 0)
            *end++ = i % TOKENS_PER_LINE == 0 ? '\t' : ' ';
        memcpy(end, tokens[i], TRACE_TOKEN_LEN);
        end += TRACE_TOKEN_LEN;
    }
    *end = '\0';
    return value;
}

static const char *plan_traces(struct planner *planner)
{
    struct plan *plan = planner->plan;
    size_t headers = (planner->token_count + TOKENS_PER_HEADER - 1) / TOKENS_PER_HEADER;
    if (headers == 0)
        return NULL;
    plan->traces = calloc(headers, sizeof(*plan->traces));
    if (!plan->traces)
        return "no-memory";
    for (size_t done = 0; done < planner->token_count; done += TOKENS_PER_HEADER) {
        size_t n = planner->token_count - done;
        if (n > TOKENS_PER_HEADER)
            n = TOKENS_PER_HEADER;
        char *value = format_tokens(planner->tokens + done, n);
        if (!value)
            return "no-memory";
        plan->traces[plan->trace_count++] = value;
    }
    return NULL;
}

/* What only messages need of which something leaves or is copied. */
static const char *plan_changes(struct planner *planner)
{
    size_t count = planner->session->count;
    if (!planner->secret)
        return "no-trace-key";
    planner->plan->steps = calloc(2 * count + 1, sizeof(*planner->plan->steps));
    planner->tokens = calloc(2 * count + 1, sizeof(*planner->tokens));
    planner->canonical = calloc(count + 1, sizeof(*planner->canonical));
    if (!planner->plan->steps || !planner->tokens || !planner->canonical ||
        !names_init(&planner->names, 3 * count + planner->session->present_count + 1) ||
        !trace_read(planner->session->trace, &planner->traced))
        return "no-memory";
    const char *trouble = plan_departures(planner);
    if (trouble || planner->plan->looping)
        return trouble;
    trouble = plan_present(planner);
    if (trouble)
        return trouble;
    plan_redirects(planner);
    trouble = plan_copies(planner);
    return trouble ? trouble : plan_traces(planner);
}

static bool all_locked(const struct session *session)
{
    if (session->unmanaged > 0 || session->count == 0)
        return false;
    for (size_t i = 0; i < session->count; i++)
        if (session->recipients[i]->route.verdict != VERDICT_HOLD)
            return false;
    return true;
}

static void forget_copies(struct session *session)
{
    for (size_t i = 0; i < session->count; i++)
        session->recipients[i]->copied = false;
    if (session->from)
        session->from->copied = false;
}

static void end_plan(struct planner *planner, const char *trouble)
{
    struct session *session = planner->session;
    struct plan *plan = planner->plan;
    if (trouble)
        later(plan, trouble);
    else if (plan->looping)
        plan->ending = ENDING_LOOP;
    else if (plan->step_count > 0 || !all_locked(session))
        plan->ending = ENDING_ACCEPT;
    else if (session->conf->hold == HOLD_QUEUE)
        plan->ending = ENDING_HOLD;
    else
        later(plan, "locked");
    plan->locked = !trouble && plan->ending == ENDING_LATER;
    if (plan->ending != ENDING_ACCEPT)
        forget_copies(session);
}

void plan_make(struct session *session, const unsigned char *secret, struct plan *plan)
{
    struct planner planner = { .session = session, .secret = secret, .plan = plan };
    memset(plan, 0, sizeof(*plan));
    const char *trouble = find_unknown(session);
    if (!trouble && plan_wants_secret(session))
        trouble = plan_changes(&planner);
    end_plan(&planner, trouble);
    for (size_t i = 0; planner.canonical && i < session->count; i++)
        free(planner.canonical[i]);
    free(planner.canonical);
    free(planner.tokens);
    free(planner.names.slots);
    trace_free(&planner.traced);
}

/* A redirect is not made now: the virtual alias map makes it when the message is
 * released. Copies are, and wait with it: no milter sees the message again. */
void plan_quarantine(struct plan *plan)
{
    size_t kept = 0;
    if (plan->ending != ENDING_ACCEPT && plan->ending != ENDING_HOLD)
        return;
    plan->ending = ENDING_DMARC;
    for (size_t i = 0; i < plan->step_count; i++)
        if (!plan->steps[i].remove)
            plan->steps[kept++] = plan->steps[i];
    plan->step_count = kept;
}

void plan_free(struct plan *plan)
{
    for (size_t i = 0; i < plan->trace_count; i++)
        free(plan->traces[i]);
    free(plan->traces);
    free(plan->steps);
    free(plan->sender);
    memset(plan, 0, sizeof(*plan));
}

/* ---- carrying it out --------------------------------------------------- */

/* The canonical addresses of all managed recipients, separated by LF. */
static char *join_recipients(const struct session *session)
{
    char *joined = NULL;
    size_t size;
    FILE *out = open_memstream(&joined, &size);
    if (!out)
        return NULL;
    for (size_t i = 0; i < session->count; i++) {
        char address[ADDR_TEXT_MAX + 1];
        route_address(&session->recipients[i]->route, address);
        fprintf(out, "%s%s", i > 0 ? "\n" : "", address);
    }
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(joined);
        return NULL;
    }
    return joined;
}

static const char *record(const struct session *session, enum held_kind kind,
                          struct store *store, const char *queue_id, int64_t now)
{
    struct held held = { .kind = kind, .since = now, .sender = session->sender };
    if (!queue_id)
        return "no-queue-id";
    int len = snprintf(held.queue_id, sizeof(held.queue_id), "%s", queue_id);
    if (len <= 0 || (size_t)len >= sizeof(held.queue_id))
        return "no-queue-id";
    char *recipients = join_recipients(session);
    if (!recipients)
        return "no-memory";
    held.recipients = recipients;
    char error[256];
    bool kept = held_spool_put(session->conf, &held, error, sizeof(error));
    if (!kept)
        log_warnx("%s", error);
    bool recorded = kept && store &&
                    store_held_put(store, session->conf->hostname, &held) == COMMIT_DONE;
    free(recipients);
    return recorded ? NULL : "not-recorded";
}

static const char *apply_hold(const struct session *session, enum held_kind kind,
                              const struct mta *mta, struct store *store,
                              const char *queue_id, int64_t now)
{
    const char *trouble = record(session, kind, store, queue_id, now);
    if (trouble)
        return trouble;
    static const char *const reasons[] = { [HELD_LOCK] = HOLD_REASON,
                                           [HELD_LOOP] = LOOP_REASON,
                                           [HELD_DMARC] = DMARC_HOLD_REASON };
    const char *reason = reasons[kind];
    return mta->quarantine(mta->context, reason) ? NULL : "mta-refused";
}

bool apply_quarantine(const struct session *session, const struct mta *mta,
                      struct store *store, const char *queue_id, int64_t now)
{
    (void)record(session, HELD_DMARC, store, queue_id, now);
    return mta->quarantine(mta->context, DMARC_HOLD_REASON);
}

static const char *apply_steps(const struct plan *plan, const struct mta *mta)
{
    for (size_t i = 0; i < plan->step_count; i++) {
        const struct plan_step *step = &plan->steps[i];
        if (step->add && !mta->add(mta->context, step->add, step->notify))
            return "mta-refused";
        if (step->remove && !mta->remove(mta->context, step->remove))
            return "mta-refused";
    }
    for (size_t i = 0; i < plan->trace_count; i++)
        if (!mta->header(mta->context, TRACE_HEADER, plan->traces[i]))
            return "mta-refused";
    return NULL;
}

/* Whether a copy of the recipient's mail goes to another host. */
static bool copy_leaves(const struct conf *conf, const struct recipient *recipient)
{
    struct addr addr;
    const char *copy = recipient->route.home.copy;
    return recipient->copied && addr_parse(copy, strlen(copy), &addr) == ADDR_OK &&
           !conf_managed(conf, addr.domain) && conf_redirects_to(conf, addr.domain);
}

/* A locked mailbox of the old side mostly comes to be one of the new side. */
static bool may_leave(const struct conf *conf, const struct recipient *recipient)
{
    return leaves(recipient) || copy_leaves(conf, recipient) ||
           (conf->side == SIDE_OLD && recipient->route.verdict == VERDICT_HOLD);
}

static bool anything_leaves(const struct session *session)
{
    for (size_t i = 0; i < session->count; i++)
        if (may_leave(session->conf, session->recipients[i]))
            return true;
    return session->from && copy_leaves(session->conf, session->from);
}

static void report_kept_sender(const char *sender, enum srs_status status,
                               const char *queue_id)
{
    char id[128], from[1024];
    log_info("%s: from=<%s> is not rewritten: %s",
             log_value(queue_id ? queue_id : "NOQUEUE", id, sizeof(id)),
             log_value(sender, from, sizeof(from)), srs_status_name(status));
}

static const char *apply_sender(struct plan *plan, const struct session *session,
                                const struct mta *mta, const char *queue_id, int64_t now)
{
    const struct conf_srs *srs = &session->conf->srs;
    char sender[ADDR_TEXT_MAX + 1];
    if (!srs->domain || !mta->sender || !session->sender || !anything_leaves(session))
        return NULL;
    const struct srs_keys keys = { srs->domain, (const char *const *)srs->secrets };
    enum srs_status status = srs_forward(&keys, session->sender, now, sender);
    if (status == SRS_NOT_NEEDED)
        return NULL;
    if (status == SRS_FAILED)
        return "no-memory";
    if (status != SRS_DONE) {
        report_kept_sender(session->sender, status, queue_id);
        return NULL;
    }
    plan->sender = strdup(sender);
    if (!plan->sender)
        return "no-memory";
    return mta->sender(mta->context, plan->sender) ? NULL : "mta-refused";
}

static const char *apply_ending(const struct plan *plan, const struct session *session,
                                const struct mta *mta, struct store *store,
                                const char *queue_id, int64_t now)
{
    const char *trouble;
    switch (plan->ending) {
    case ENDING_LATER:
        break;
    case ENDING_HOLD:
        return apply_hold(session, HELD_LOCK, mta, store, queue_id, now);
    case ENDING_LOOP:
        return apply_hold(session, HELD_LOOP, mta, store, queue_id, now);
    case ENDING_DMARC:
        trouble = apply_steps(plan, mta);
        return trouble ? trouble
                       : apply_hold(session, HELD_DMARC, mta, store, queue_id, now);
    case ENDING_ACCEPT:
        return apply_steps(plan, mta);
    }
    return NULL;
}

void plan_apply(struct plan *plan, const struct session *session, const struct mta *mta,
                struct store *store, const char *queue_id, int64_t now)
{
    if (plan->ending == ENDING_LATER)
        return;
    const char *trouble = apply_sender(plan, session, mta, queue_id, now);
    if (!trouble)
        trouble = apply_ending(plan, session, mta, store, queue_id, now);
    if (trouble)
        later(plan, trouble);
}

/* ---- figures ----------------------------------------------------------- */

static bool counts(const struct session *session, const struct recipient *recipient)
{
    if (session->conf->side == SIDE_OLD)
        return leaves(recipient);
    return recipient->route.verdict == VERDICT_DELIVER;
}

void plan_count(const struct plan *plan, const struct session *session,
                struct store *store, const char *queue_id, int64_t now)
{
    if (plan->ending != ENDING_ACCEPT || session->count == 0)
        return;
    struct route **routes = calloc(session->count, sizeof(struct route *));
    size_t n = 0;
    if (!routes)
        return;
    for (size_t i = 0; i < session->count; i++)
        if (counts(session, session->recipients[i]))
            routes[n++] = &session->recipients[i]->route;
    if (n > 0 && session->conf->side == SIDE_OLD)
        store_count_floaters(
            store, routes, n,
            &(struct floater_from){ .client = session->client, .name = session->helo },
            now);
    else if (n > 0)
        store_note_arrivals(store, routes, n, session->conf->hostname,
                            queue_id ? queue_id : "",
                            session->message_id ? session->message_id : "", now);
    free(routes);
}
