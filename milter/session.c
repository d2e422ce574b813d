/*
 * session: collects the envelope and the few headers that a decision needs.
 *
 * Recipients of managed domains are kept whole; of the others only the number,
 * except where a redirect or a copy might add the same address again. What
 * bounces to a rewritten sender (srs.h) is for that sender, not for a mailbox of
 * the srs domain, which may be managed: Postfix puts him in after this, and asks
 * the transport map about him. Nothing here refuses a message: what cannot be
 * kept (no memory, too many recipients) sets incomplete, and the plan answers
 * "try later".
 *
 * Limits are in session.h. Names that only serve log lines (HELO, login) are
 * cut with "..." at the end.
 */
#include "config.h"

#include "session.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "srs.h"
#include "trace.h"

struct session *session_new(void)
{
    struct session *session = calloc(1, sizeof(*session));
    if (session)
        session_connect(session, NULL);
    return session;
}

void session_free(struct session *session)
{
    if (!session)
        return;
    session_reset(session);
    free(session);
}

static void keep_word(char out[SESSION_WORD_MAX + 1], const char *text)
{
    size_t len = strlen(text);
    if (len > SESSION_WORD_MAX) {
        memcpy(out, text, SESSION_WORD_MAX - 3);
        memcpy(out + SESSION_WORD_MAX - 3, "...", 4);
    } else {
        memcpy(out, text, len + 1);
    }
}

void session_connect(struct session *session, const struct sockaddr *address)
{
    const void *binary = NULL;
    if (address && address->sa_family == AF_INET)
        binary = &((const struct sockaddr_in *)address)->sin_addr;
    else if (address && address->sa_family == AF_INET6)
        binary = &((const struct sockaddr_in6 *)address)->sin6_addr;
    if (!binary ||
        !inet_ntop(address->sa_family, binary, session->client, sizeof(session->client)))
        memcpy(session->client, "unknown", sizeof("unknown"));
}

void session_helo(struct session *session, const char *name)
{
    keep_word(session->helo, name ? name : "");
}

static void free_recipient(struct recipient *recipient)
{
    if (!recipient)
        return;
    free(recipient->notify);
    free(recipient);
}

void session_reset(struct session *session)
{
    for (size_t i = 0; i < session->count; i++)
        free_recipient(session->recipients[i]);
    for (size_t i = 0; i < session->present_count; i++)
        free(session->present[i]);
    free(session->recipients);
    free(session->present);
    free_recipient(session->from);
    free(session->sender);
    free(session->trace);
    free(session->message_id);
    session->conf = NULL;
    session->sender = NULL;
    session->auth[0] = '\0';
    session->from = NULL;
    session->recipients = NULL;
    session->count = session->room = 0;
    session->unmanaged = 0;
    session->present = NULL;
    session->present_count = 0;
    session->trace = NULL;
    session->trace_len = 0;
    session->message_id = NULL;
    session->incomplete = NULL;
}

bool session_managed(const struct session *session)
{
    return session->count > 0 || session->from;
}

static struct recipient *new_recipient(const struct route *route, const char *text,
                                       size_t len)
{
    struct recipient *recipient = calloc(1, sizeof(*recipient) + len + 1);
    if (!recipient)
        return NULL;
    recipient->route = *route;
    memcpy(recipient->text, text, len);
    return recipient;
}

/* The sender is looked up only when a copy of outgoing mail may be wanted. */
static void prepare_sender(struct session *session)
{
    struct route route;
    size_t len = strlen(session->sender);
    if (!route_prepare(session->conf, session->sender, len, &route) ||
        !route.domain->copy_outbound)
        return;
    session->from = new_recipient(&route, session->sender, len);
    if (!session->from)
        session->incomplete = "no-memory";
}

void session_mail(struct session *session, const struct conf *conf, const char *sender,
                  const char *auth)
{
    session_reset(session);
    session->conf = conf;
    size_t len = strlen(sender);
    if (len >= 2 && sender[0] == '<' && sender[len - 1] == '>') {
        sender++;
        len -= 2;
    }
    if (len > SESSION_SENDER_MAX)
        len = SESSION_SENDER_MAX;
    session->sender = strndup(sender, len);
    if (!session->sender) {
        session->incomplete = "no-memory";
        return;
    }
    if (auth)
        keep_word(session->auth, auth);
    prepare_sender(session);
}

/* Doubles the room of a list when it is full. */
static bool make_room(struct recipient ***list, size_t count, size_t *room)
{
    if (count < *room)
        return true;
    size_t wanted = *room ? *room * 2 : 4;
    struct recipient **grown = reallocarray(*list, wanted, sizeof(*grown));
    if (!grown)
        return false;
    *list = grown;
    *room = wanted;
    return true;
}

static const char *find_notify(char *const *parameters)
{
    for (; parameters && *parameters; parameters++)
        if (strncasecmp(*parameters, "NOTIFY=", 7) == 0)
            return *parameters;
    return NULL;
}

static const char *keep_recipient(struct session *session, const struct route *route,
                                  const char *text, char *const *parameters)
{
    if (session->count >= SESSION_RECIPIENTS_MAX)
        return "too-many-recipients";
    if (!make_room(&session->recipients, session->count, &session->room))
        return "no-memory";
    struct recipient *recipient = new_recipient(route, text, strlen(text));
    if (!recipient)
        return "no-memory";
    session->recipients[session->count++] = recipient;
    const char *notify = find_notify(parameters);
    if (notify) {
        recipient->notify = strdup(notify);
        if (!recipient->notify)
            return "no-memory";
    }
    return NULL;
}

/* An unmanaged recipient is remembered where we might add it ourselves. */
static const char *keep_present(struct session *session, const char *text)
{
    struct addr addr;
    if (addr_parse(text, strlen(text), &addr) != ADDR_OK ||
        !conf_redirects_to(session->conf, addr.domain))
        return NULL;
    char canonical[ADDR_TEXT_MAX + 1];
    addr_format(addr.local, addr.domain, canonical);
    if (session->present_count >= SESSION_RECIPIENTS_MAX)
        return "too-many-recipients";
    char **grown =
        reallocarray(session->present, session->present_count + 1, sizeof(*grown));
    if (!grown)
        return "no-memory";
    session->present = grown;
    grown[session->present_count] = strdup(canonical);
    if (!grown[session->present_count])
        return "no-memory";
    session->present_count++;
    return NULL;
}

void session_rcpt(struct session *session, const char *text, char *const *parameters)
{
    struct route route;
    const char *trouble;
    if (!session->conf)
        return;
    if (!srs_is_address(session->conf->srs.domain, text) &&
        route_prepare(session->conf, text, strlen(text), &route)) {
        trouble = keep_recipient(session, &route, text, parameters);
    } else {
        session->unmanaged++;
        trouble = keep_present(session, text);
    }
    if (trouble)
        session->incomplete = trouble;
}

static void keep_trace(struct session *session, const char *value)
{
    size_t len = strlen(value);
    if (len + 2 > SESSION_TRACE_MAX - session->trace_len)
        return;
    char *grown = realloc(session->trace, session->trace_len + len + 2);
    if (!grown) {
        session->incomplete = "no-memory";
        return;
    }
    session->trace = grown;
    memcpy(grown + session->trace_len, value, len);
    memcpy(grown + session->trace_len + len, "\n", 2);
    session->trace_len += len + 1;
}

/* value may have the blanks that stand behind the colon. */
static void keep_message_id(struct session *session, const char *value)
{
    value += strspn(value, " \t\r\n");
    if (strlen(value) > SESSION_MESSAGE_ID_MAX)
        return;
    session->message_id = strdup(value);
    if (!session->message_id)
        session->incomplete = "no-memory";
}

void session_header(struct session *session, const char *name, const char *value)
{
    if (!session_managed(session))
        return;
    if (strcasecmp(name, TRACE_HEADER) == 0) {
        keep_trace(session, value);
    } else if (session->conf->side == SIDE_NEW && !session->message_id &&
               strcasecmp(name, "Message-ID") == 0) {
        keep_message_id(session, value);
    }
}
