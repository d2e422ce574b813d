/*
 * probe: an SMTP client that stops before DATA. See probe.h.
 *
 * Protocol: greeting, EHLO, then transactions "MAIL FROM:<>", up to 100 times
 * "RCPT TO:<...>" (the number every server must take, RFC 5321 4.5.3.1.8), RSET;
 * pipelined when the server offers it (RFC 2920), else one by one; QUIT after 10
 * transactions (Postfix counts RSETs as junk commands and slows a session down
 * after 100) and when nothing is left to ask. Null sender: the new server may
 * not refuse it (RFC 5321 4.5.5), and nobody gets a bounce.
 *
 * A recipient that gets 4xx is asked again after a pause, PROBE_TRIES times in
 * all; "452 too many recipients" after an accepted one only means another
 * transaction. A session that breaks is begun anew with the next address of the
 * host; after PROBE_SESSIONS in a row without an answer to any recipient the
 * server is down.
 *
 * Limits: replies as in smtp.h, PROBE_OUTSTANDING recipients at a time.
 */
#include "config.h"

#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "addr.h"

#define TRANSACTION_MAX  100 /* recipients */
#define TRANSACTIONS_MAX 10  /* of a session */
#define COMMANDS_MAX     (TRANSACTION_MAX + 2)
#define RETRY_MS         3000 /* before another try */

enum phase {
    PHASE_CLOSED,
    PHASE_CONNECT,
    PHASE_GREETING,
    PHASE_EHLO,
    PHASE_TALK,
    PHASE_QUIT
};

enum slot_state { SLOT_FREE, SLOT_WAITING, SLOT_ASKED, SLOT_DONE };

struct slot {
    enum slot_state state;
    enum probe_status status;
    size_t id;
    int tries;
    int64_t not_before;
    char address[ADDR_TEXT_MAX + 1];
    char text[SMTP_TEXT_MAX + 8];
};

enum command_kind { COMMAND_MAIL, COMMAND_RCPT, COMMAND_RSET };

struct outstanding {
    enum command_kind kind;
    size_t slot;
};

struct probe {
    char name[ADDR_DOMAIN_MAX + 16]; /* host:port, for messages */
    char helo[ADDR_DOMAIN_MAX + 1];
    struct addrinfo *addresses, *next_address;
    int fd;
    enum phase phase;
    enum probe_state state;
    int64_t deadline, not_before; /* of the phase; of the next session */
    int failures;                 /* sessions in a row */
    int transactions;             /* of this session */
    bool pipelining, smtputf8, greeted, refused_mail;
    bool any_accepted; /* in this transaction */
    struct outstanding commands[COMMANDS_MAX];
    size_t n_commands, n_sent, n_answered;
    char in[SMTP_REPLY_MAX];
    size_t in_len;
    char *out;
    size_t out_len, out_at, out_size;
    size_t used;
    size_t result_from; /* where the search for results goes on */
    char error[SMTP_TEXT_MAX + ADDR_DOMAIN_MAX + 100];
    struct slot slots[PROBE_OUTSTANDING];
};

/* ---- life ------------------------------------------------------------------ */

struct probe *probe_new(const char *host, uint16_t port, const char *helo, char *error,
                        size_t error_size)
{
    struct probe *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        snprintf(error, error_size, "no memory");
        return NULL;
    }
    p->fd = -1;
    char service[8];
    snprintf(service, sizeof(service), "%u", (unsigned)port);
    int n = snprintf(p->name, sizeof(p->name), "%s:%s", host, service);
    int h = snprintf(p->helo, sizeof(p->helo), "%s", helo);
    struct addrinfo hints = { .ai_family = AF_UNSPEC,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICSERV };
    int rc =
        n < 0 || (size_t)n >= sizeof(p->name) || h < 0 || (size_t)h >= sizeof(p->helo)
            ? EAI_NONAME
            : getaddrinfo(host, service, &hints, &p->addresses);
    if (rc != 0) {
        snprintf(error, error_size, "%s: %s", host, gai_strerror(rc));
        probe_free(p);
        return NULL;
    }
    p->next_address = p->addresses;
    return p;
}

void probe_free(struct probe *p)
{
    if (p == NULL)
        return;
    if (p->fd >= 0)
        close(p->fd);
    if (p->addresses)
        freeaddrinfo(p->addresses);
    free(p->out);
    free(p);
}

size_t probe_room(const struct probe *p)
{
    return PROBE_OUTSTANDING - p->used;
}

bool probe_add(struct probe *p, size_t id, const char *address)
{
    size_t len = strlen(address);
    if (p->used == PROBE_OUTSTANDING || len > ADDR_TEXT_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)address[i] < 32 || address[i] == 127)
            return false; /* would be another command */
    for (size_t i = 0; i < PROBE_OUTSTANDING; i++) {
        struct slot *slot = &p->slots[i];
        if (slot->state != SLOT_FREE)
            continue;
        *slot = (struct slot){ .state = SLOT_WAITING, .id = id };
        memcpy(slot->address, address, len + 1);
        p->used++;
        return true;
    }
    return false;
}

enum probe_state probe_state(const struct probe *p)
{
    return p->state;
}

const char *probe_error(const struct probe *p)
{
    return p->error;
}

bool probe_idle(const struct probe *p)
{
    for (size_t i = 0; i < PROBE_OUTSTANDING; i++)
        if (p->slots[i].state == SLOT_WAITING || p->slots[i].state == SLOT_ASKED)
            return false;
    return true;
}

/* ---- results ----------------------------------------------------------------- */

static void finish_slot(struct slot *slot, enum probe_status status, const char *text)
{
    slot->state = SLOT_DONE;
    slot->status = status;
    snprintf(slot->text, sizeof(slot->text), "%.*s", SMTP_TEXT_MAX, text);
}

bool probe_result(struct probe *p, size_t *id, enum probe_status *status,
                  char text[SMTP_TEXT_MAX + 8])
{
    for (size_t i = 0; i < PROBE_OUTSTANDING; i++) {
        struct slot *slot = &p->slots[(p->result_from + i) % PROBE_OUTSTANDING];
        if (slot->state != SLOT_DONE)
            continue;
        p->result_from = (size_t)(slot - p->slots);
        *id = slot->id;
        *status = slot->status;
        memcpy(text, slot->text, sizeof(slot->text));
        slot->state = SLOT_FREE;
        p->used--;
        return true;
    }
    return false;
}

/* ---- sessions ------------------------------------------------------------------ */

static void close_session(struct probe *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    p->phase = PHASE_CLOSED;
    p->in_len = p->out_len = p->out_at = 0;
    p->n_commands = p->n_sent = p->n_answered = 0;
    for (size_t i = 0; i < PROBE_OUTSTANDING; i++)
        if (p->slots[i].state == SLOT_ASKED)
            p->slots[i].state = SLOT_WAITING;
}

/* The session is of no use any more. what: for a person. */
static void fail_session(struct probe *p, int64_t now, const char *what)
{
    snprintf(p->error, sizeof(p->error), "%s: %s", p->name, what);
    bool more_addresses = p->phase == PHASE_CONNECT && p->next_address != NULL;
    close_session(p);
    if (more_addresses) {
        p->not_before = now;
        return;
    }
    p->next_address = p->addresses;
    /* The very first session is the check whether the server is there at all. */
    if (++p->failures < PROBE_SESSIONS && p->state == PROBE_UP) {
        /* It answered some: perhaps only its limit of errors in a session. */
        p->not_before = now + (p->failures == 1 ? RETRY_MS / 10 : RETRY_MS);
        return;
    }
    p->state = PROBE_DOWN;
    for (size_t i = 0; i < PROBE_OUTSTANDING; i++)
        if (p->slots[i].state == SLOT_WAITING)
            finish_slot(&p->slots[i], PROBE_UNREACHED, p->error);
}

static bool send_text(struct probe *p, const char *text, size_t len)
{
    if (p->out_len + len > p->out_size) {
        size_t size = (p->out_len + len) * 2;
        char *grown = realloc(p->out, size);
        if (grown == NULL)
            return false;
        p->out = grown;
        p->out_size = size;
    }
    memcpy(p->out + p->out_len, text, len);
    p->out_len += len;
    return true;
}

static void expect(struct probe *p, enum phase phase, int64_t now)
{
    p->phase = phase;
    p->deadline = now + (phase == PHASE_CONNECT ? PROBE_CONNECT_MS : PROBE_REPLY_MS);
}

/* One command: verb, argument, end. */
static void say(struct probe *p, int64_t now, enum phase phase, const char *verb,
                const char *argument, const char *end)
{
    char line[ADDR_TEXT_MAX + 64];
    int n = snprintf(line, sizeof(line), "%s%s%s\r\n", verb, argument, end);
    if (n < 0 || (size_t)n >= sizeof(line) || !send_text(p, line, (size_t)n))
        fail_session(p, now, "no memory for a command");
    else
        expect(p, phase, now);
}

static void open_session(struct probe *p, int64_t now)
{
    const struct addrinfo *to = p->next_address ? p->next_address : p->addresses;
    p->next_address = to->ai_next;
    p->transactions = 0;
    p->pipelining = p->smtputf8 = p->greeted = p->refused_mail = false;
    expect(p, PHASE_CONNECT, now);
    p->fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->fd < 0 ||
        (connect(p->fd, to->ai_addr, to->ai_addrlen) != 0 && errno != EINPROGRESS))
        fail_session(p, now, strerror(errno));
}

/* ---- transactions ---------------------------------------------------------------- */

static void fill_transaction(struct probe *p, int64_t now)
{
    size_t n = 0;
    p->commands[n++] = (struct outstanding){ .kind = COMMAND_MAIL };
    for (size_t i = 0; i < PROBE_OUTSTANDING && n <= TRANSACTION_MAX; i++) {
        struct slot *slot = &p->slots[i];
        if (slot->state != SLOT_WAITING || slot->not_before > now)
            continue;
        slot->state = SLOT_ASKED;
        p->commands[n++] = (struct outstanding){ .kind = COMMAND_RCPT, .slot = i };
    }
    p->n_sent = p->n_answered = 0;
    if (n == 1) {
        p->n_commands = 0;
        return;
    }
    p->commands[n++] = (struct outstanding){ .kind = COMMAND_RSET };
    p->n_commands = n;
    p->any_accepted = p->refused_mail = false;
    p->transactions++;
}

static void send_commands(struct probe *p, int64_t now)
{
    while (p->n_sent < p->n_commands && (p->pipelining || p->n_sent == p->n_answered)) {
        struct outstanding *command = &p->commands[p->n_sent++];
        if (command->kind == COMMAND_MAIL)
            say(p, now, PHASE_TALK, "MAIL FROM:<>", p->smtputf8 ? " SMTPUTF8" : "", "");
        else if (command->kind == COMMAND_RCPT)
            say(p, now, PHASE_TALK, "RCPT TO:<", p->slots[command->slot].address, ">");
        else
            say(p, now, PHASE_TALK, "RSET", "", "");
        if (p->phase == PHASE_CLOSED)
            return;
    }
}

static void next_transaction(struct probe *p, int64_t now)
{
    p->n_commands = 0;
    if (p->transactions < TRANSACTIONS_MAX)
        fill_transaction(p, now);
    if (p->n_commands == 0)
        say(p, now, PHASE_QUIT, "QUIT", "", "");
    else
        send_commands(p, now);
}

static void answer_rcpt(struct probe *p, int64_t now, struct slot *slot,
                        const struct smtp_reply *reply)
{
    char text[SMTP_TEXT_MAX + 8];
    snprintf(text, sizeof(text), "%d %s", reply->code, reply->text);
    if (reply->code / 100 == 2) {
        p->any_accepted = true;
        finish_slot(slot, PROBE_ACCEPTED, text);
    } else if (reply->code / 100 == 5) {
        finish_slot(slot, PROBE_REFUSED, text);
    } else if (reply->code == 452 && p->any_accepted) {
        slot->state = SLOT_WAITING; /* too many for one transaction */
    } else if (++slot->tries >= PROBE_TRIES) {
        finish_slot(slot, PROBE_UNDECIDED, text);
    } else {
        slot->state = SLOT_WAITING;
        slot->not_before = now + RETRY_MS;
    }
}

static void fail_reply(struct probe *p, int64_t now, const char *to,
                       const struct smtp_reply *reply)
{
    char text[SMTP_TEXT_MAX + 64];
    snprintf(text, sizeof(text), "answers %s with \"%d %s\"", to, reply->code,
             reply->text);
    fail_session(p, now, text);
}

static void take_answer(struct probe *p, int64_t now, const struct smtp_reply *reply)
{
    struct outstanding *command = &p->commands[p->n_answered++];
    p->deadline = now + PROBE_REPLY_MS;
    if (reply->code == 421) {
        fail_reply(p, now, "a probe", reply);
        return;
    }
    if (command->kind == COMMAND_MAIL && reply->code / 100 != 2) {
        fail_reply(p, now, "MAIL FROM:<>", reply);
        return;
    }
    if (command->kind == COMMAND_RCPT) {
        p->failures = 0;
        answer_rcpt(p, now, &p->slots[command->slot], reply);
    }
    if (p->n_answered == p->n_commands)
        next_transaction(p, now);
    else
        send_commands(p, now);
}

static void take_reply(struct probe *p, int64_t now, const struct smtp_reply *reply)
{
    switch (p->phase) {
    case PHASE_GREETING:
        if (reply->code != 220)
            fail_reply(p, now, "a connection", reply);
        else
            say(p, now, PHASE_EHLO, "EHLO ", p->helo, "");
        break;
    case PHASE_EHLO:
        if (reply->code != 250) {
            fail_reply(p, now, "EHLO", reply);
            break;
        }
        p->pipelining = reply->pipelining;
        p->smtputf8 = reply->smtputf8;
        p->state = PROBE_UP;
        p->next_address = p->addresses;
        next_transaction(p, now);
        break;
    case PHASE_TALK:
        if (p->n_answered == p->n_sent)
            fail_session(p, now, "sends a reply that nothing was asked for");
        else
            take_answer(p, now, reply);
        break;
    default: /* to QUIT, or to nothing */
        close_session(p);
        break;
    }
}

/* ---- input and output ----------------------------------------------------------------
 */

static void flush_out(struct probe *p, int64_t now)
{
    while (p->fd >= 0 && p->out_at < p->out_len) {
        ssize_t n = send(p->fd, p->out + p->out_at, p->out_len - p->out_at, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            fail_session(p, now, strerror(errno));
            return;
        }
        p->out_at += (size_t)n;
    }
    p->out_at = p->out_len = 0;
}

static void parse_in(struct probe *p, int64_t now)
{
    while (p->fd >= 0 && p->in_len > 0) {
        struct smtp_reply reply;
        size_t consumed;
        enum smtp_parse parsed = smtp_reply_parse(p->in, p->in_len, &reply, &consumed);
        if (parsed == SMTP_MORE && p->in_len < sizeof(p->in))
            return;
        if (parsed != SMTP_DONE) {
            fail_session(p, now, "does not speak SMTP (not a reply, or an endless one)");
            return;
        }
        memmove(p->in, p->in + consumed, p->in_len - consumed);
        p->in_len -= consumed;
        take_reply(p, now, &reply);
    }
}

static void read_in(struct probe *p, int64_t now)
{
    while (p->fd >= 0) {
        ssize_t n = recv(p->fd, p->in + p->in_len, sizeof(p->in) - p->in_len, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            if (p->phase == PHASE_QUIT)
                close_session(p);
            else
                fail_session(p, now, n == 0 ? "closes the connection" : strerror(errno));
            return;
        }
        p->in_len += (size_t)n;
        parse_in(p, now);
    }
}

static void connected(struct probe *p, int64_t now)
{
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error != 0)
        fail_session(p, now, strerror(error));
    else
        expect(p, PHASE_GREETING, now);
}

/* When the next waiting recipient may be asked; INT64_MAX: none waits. */
static int64_t next_wanted(const struct probe *p)
{
    int64_t at = INT64_MAX;
    for (size_t i = 0; i < PROBE_OUTSTANDING; i++)
        if (p->slots[i].state == SLOT_WAITING && p->slots[i].not_before < at)
            at = p->slots[i].not_before;
    if (p->state == PROBE_TRYING && at > p->not_before)
        at = p->not_before;
    return at != INT64_MAX && at < p->not_before ? p->not_before : at;
}

int probe_fd(const struct probe *p, short *events)
{
    *events = p->phase == PHASE_CONNECT ? POLLOUT : POLLIN;
    if (p->out_at < p->out_len)
        *events |= POLLOUT;
    return p->fd;
}

int64_t probe_due(const struct probe *p)
{
    return p->phase == PHASE_CLOSED ? next_wanted(p) : p->deadline;
}

void probe_run(struct probe *p, int64_t now, short revents)
{
    if (p->state == PROBE_DOWN) {
        for (size_t i = 0; i < PROBE_OUTSTANDING; i++)
            if (p->slots[i].state == SLOT_WAITING)
                finish_slot(&p->slots[i], PROBE_UNREACHED, p->error);
        return;
    }
    if (p->phase == PHASE_CLOSED && next_wanted(p) <= now)
        open_session(p, now);
    if (p->fd >= 0 && revents != 0) {
        if (p->phase == PHASE_CONNECT)
            connected(p, now);
        else
            read_in(p, now);
    }
    if (p->fd >= 0 && p->phase != PHASE_CONNECT)
        flush_out(p, now);
    if (p->fd >= 0 && now >= p->deadline) {
        if (p->phase == PHASE_QUIT)
            close_session(p);
        else
            fail_session(p, now,
                         p->phase == PHASE_CONNECT ? "no connection within 10 s"
                                                   : "no reply within 30 s");
    }
}
