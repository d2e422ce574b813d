/*
 * ping_probe: one probe of one path, in a thread of its own.
 *
 *     log in to every mailbox      (so that no probe is sent that none can find)
 *     remove older probes          ours, by their mark; see below
 *     send                         again after a 4xx, until the deadline
 *     look, ever more seldom       NOOP and a search among what came since the login
 *     look once more               for a second copy
 *     delete
 *
 * Older probes are what a run left that was killed, or gave up too early. One is
 * removed when it is LEFT_S older than its path waits (another run may still want a
 * younger one), or when this program itself has given it up. Only messages with our
 * Message-ID and our header, of the last LEFT_DAYS: in a mailbox of a million messages a
 * search without a date would take minutes.
 *
 * A bounce that reports our id (RFC 3464) ends the waiting, and is removed.
 *
 * A connection that breaks is made anew until the deadline; an answer that is no IMAP
 * ends this mailbox's search.
 */
#include "ping.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "clock.h"
#include "command.h"
#include "imapline.h"

#define LEFT_S         900
#define FOREIGN_LEFT_S (2 * 86400) /* more than any path waits (sluice.conf) */
#define LEFT_DAYS      14
#define LEFT_MAX       50 /* removed in one run */
#define LOGIN_MS       30000
#define ANSWER_MS      20000 /* for one IMAP command */
#define FIRST_LOOK_MS  50
#define LOOK_MS        2000 /* the most between two looks */
#define AGAIN_MS       1000 /* for a second copy, after the first */
#define RETRY_MS       5000 /* after a 4xx; doubled each time, up to a minute */
#define RETRY_MOST_MS  60000
#define COPIES_MAX     64
#define HEADER_MAX     256
#define BODY_MAX       16384 /* of a bounce: its report stands before the message */

struct watch {
    const struct conf_mailbox *mailbox;
    struct mail_server server;
    struct mail_imap *imap;
    struct ping_arrival *arrival;
    uint32_t from_uid[8]; /* of each folder, when the probe was sent */
    bool missing[8];      /* no such folder yet: mail may make it */
    bool over;            /* broken beyond repair */
};

struct run {
    struct ping_path *path;
    struct ping_result *result;
    struct watch watches[CONF_PING_MAILBOXES_MAX];
    size_t count;
    int64_t began;
    int64_t until; /* of this leg */
    int64_t last;  /* of all of it */
};

static enum mail_tls tls_of(enum conf_tls tls)
{
    return tls == CONF_TLS_ALWAYS     ? MAIL_TLS
           : tls == CONF_TLS_STARTTLS ? MAIL_STARTTLS
                                      : MAIL_PLAIN;
}

static struct mail_server server_of(const struct conf_access *access,
                                    const char *password)
{
    return (struct mail_server){
        .host = access->host,
        .port = access->port,
        .tls = tls_of(access->tls),
        .tls_name = access->tls_name,
        .ca_file = access->ca_file,
        .pin = access->pin,
        .user = access->user,
        .password = password,
    };
}

__attribute__((format(printf, 2, 3))) static void note(char out[PING_TEXT],
                                                       const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    if (vsnprintf(out, PING_TEXT, fmt, args) < 0)
        out[0] = '\0';
    va_end(args);
}

static struct mail_call call_for(int64_t until, int most_ms)
{
    int64_t limit = clock_ms() + most_ms;

    return (struct mail_call){ .until = limit < until ? limit : until,
                               .stop = command_stopped };
}

/* false: the deadline, or Ctrl-C. */
static bool pause_ms(int64_t ms, int64_t until)
{
    int64_t end = clock_ms() + ms;

    if (end > until)
        end = until;
    for (int64_t now = clock_ms(); now < end && !command_stopped(); now = clock_ms()) {
        int64_t left = end - now < 100 ? end - now : 100;
        struct timespec slice = { .tv_nsec = (long)left * 1000000 };
        (void)nanosleep(&slice, NULL);
    }
    return clock_ms() < until && !command_stopped();
}

/* ---- the mailboxes ------------------------------------------------------- */

static void drop(struct watch *watch)
{
    mail_imap_close(watch->imap);
    watch->imap = NULL;
}

/* Opens folder number i. A folder besides the first may be missing. */
static enum mail_result open_folder(struct watch *watch, struct mail_call *call, size_t i,
                                    struct mail_folder *state)
{
    enum mail_result end =
        mail_imap_select(watch->imap, call, watch->mailbox->folders[i], false, state);

    watch->missing[i] = end == MAIL_REFUSED && i > 0;
    return watch->missing[i] ? MAIL_DONE : end;
}

/* Whether an older probe may go, and what is known of it. */
static bool is_left(struct run *run, struct watch *watch, size_t which, const char *id,
                    int64_t sent, const char *name)
{
    const struct ping_path *path = run->path;
    size_t n = path->past_count < PING_PAST_MAX ? path->past_count : PING_PAST_MAX;

    for (size_t i = 0; i < n; i++) {
        if (strcmp(path->past[i].id, id) != 0)
            continue;
        watch->arrival->late += !path->past[i].arrived[which];
        watch->arrival->late_copies += path->past[i].arrived[which];
        return true;
    }
    int64_t age = (int64_t)time(NULL) - sent;
    /* Of another path, this one does not know how long it waits. */
    return age > (strcmp(name, path->conf->name) == 0 ? LEFT_S + path->conf->critical
                                                      : FOREIGN_LEFT_S);
}

/* In the folder that is open. */
static enum mail_result remove_left(struct run *run, struct watch *watch, size_t which,
                                    struct mail_call *call)
{
    struct mail_search search = { .field = "Message-ID",
                                  .text = PING_ID_HEAD,
                                  .since = (int64_t)time(NULL) - LEFT_DAYS * 86400 };
    uint32_t found[LEFT_MAX], gone[LEFT_MAX];
    size_t count, left = 0;
    enum mail_result end =
        mail_imap_search(watch->imap, call, &search, found, LEFT_MAX, &count);

    if (count > LEFT_MAX)
        count = LEFT_MAX;
    for (size_t i = 0; i < count && end == MAIL_DONE; i++) {
        char value[HEADER_MAX], id[PING_ID_LEN + 1];
        const char *path;
        int64_t sent;
        end = mail_imap_field(watch->imap, call, found[i], PING_HEADER, value,
                              sizeof(value));
        if (end == MAIL_DONE && ping_read_header(value, id, &sent, &path) &&
            is_left(run, watch, which, id, sent, path))
            gone[left++] = found[i];
    }
    if (end == MAIL_DONE && left > 0)
        end = mail_imap_delete(watch->imap, call, gone, left);
    if (end == MAIL_DONE)
        watch->arrival->removed += (unsigned)left;
    return end;
}

/* Logs in and notes where new mail begins. */
static enum mail_result begin_watch(struct run *run, size_t which)
{
    struct watch *watch = &run->watches[which];
    struct mail_call call = call_for(run->until, LOGIN_MS);
    enum mail_result end = mail_imap_open(&watch->server, &call, &watch->imap);

    for (size_t i = 0; end == MAIL_DONE && watch->mailbox->folders[i]; i++) {
        struct mail_folder state;
        end = open_folder(watch, &call, i, &state);
        if (end != MAIL_DONE || watch->missing[i])
            continue;
        watch->from_uid[i] = state.next_uid;
        end = remove_left(run, watch, which, &call);
    }
    if (end == MAIL_DONE)
        return end;
    note(watch->arrival->error, "%s", call.error);
    drop(watch);
    return end;
}

/* Where the connection is gone: a new one. Later probes than ours may be in the way
 * of no search, so the first folder's next UID stays. */
static void renew(struct run *run, struct watch *watch)
{
    struct mail_call call = call_for(run->until, LOGIN_MS);
    enum mail_result end = mail_imap_open(&watch->server, &call, &watch->imap);

    if (end == MAIL_DONE)
        end = open_folder(watch, &call, 0, NULL);
    if (end != MAIL_DONE) {
        drop(watch);
        note(watch->arrival->error, "%s", call.error);
        /* A password does not become right by waiting. */
        watch->over = end == MAIL_PROTOCOL || end == MAIL_UNTRUSTED || end == MAIL_LOGIN;
    }
}

/* Why, out of a notice that it has failed (RFC 3464), or "". */
static void read_notice(const char *body, char out[PING_TEXT])
{
    char action[16];

    out[0] = '\0';
    imapline_field(body, "Action", action, sizeof(action));
    if (strcasecmp(action, "failed") != 0)
        return;
    imapline_field(body, "Diagnostic-Code", out, PING_TEXT / 2);
    if (!out[0])
        imapline_field(body, "Status", out, PING_TEXT / 2);
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
            *c = '?';
    if (!out[0])
        note(out, "the notice does not say why");
}

/* A bounce quotes the probe's id. So may other mail: that stays, and so does the
 * probe itself, which may have come this very moment. */
static enum mail_result take_bounce(struct run *run, struct watch *watch,
                                    struct mail_call *call, struct mail_search *search)
{
    char body[BODY_MAX], id[HEADER_MAX];
    uint32_t uid;
    size_t count;

    search->field = NULL;
    enum mail_result end = mail_imap_search(watch->imap, call, search, &uid, 1, &count);
    if (end != MAIL_DONE || count == 0)
        return end;
    end = mail_imap_field(watch->imap, call, uid, "Message-ID", id, sizeof(id));
    if (end != MAIL_DONE || ping_is_mark(id, strlen(id)))
        return end;
    end = mail_imap_body(watch->imap, call, uid, body, sizeof(body));
    if (end == MAIL_DONE)
        read_notice(body, run->result->returned);
    if (end == MAIL_DONE && run->result->returned[0])
        end = mail_imap_delete(watch->imap, call, &uid, 1);
    return end;
}

/* Deletes the copies in the folder that is open and counts them. */
static enum mail_result take_copies(struct run *run, struct watch *watch,
                                    struct mail_call *call, size_t folder)
{
    struct mail_search search = { .field = "Message-ID",
                                  .from_uid = watch->from_uid[folder] };
    char text[sizeof(PING_ID_HEAD) + PING_ID_LEN];
    uint32_t uids[COPIES_MAX];
    size_t count;

    if (snprintf(text, sizeof(text), PING_ID_HEAD "%s", run->result->id) < 0)
        return MAIL_DONE;
    search.text = text;
    enum mail_result end =
        mail_imap_search(watch->imap, call, &search, uids, COPIES_MAX, &count);
    if (end == MAIL_DONE && count == 0 && folder == 0 && watch->arrival->ms < 0)
        return take_bounce(run, watch, call, &search);
    if (end != MAIL_DONE || count == 0)
        return end;
    if (watch->arrival->ms < 0) {
        watch->arrival->ms = clock_ms() - run->began;
        watch->arrival->folder = watch->mailbox->folders[folder];
        watch->arrival->elsewhere = folder > 0;
    }
    watch->arrival->copies += (unsigned)count;
    return mail_imap_delete(watch->imap, call, uids,
                            count < COPIES_MAX ? count : COPIES_MAX);
}

/* One look into every folder. */
static void look(struct run *run, struct watch *watch)
{
    bool several = watch->mailbox->folders[1] != NULL;
    enum mail_result end = MAIL_DONE;

    if (!watch->imap) {
        renew(run, watch);
        if (!watch->imap)
            return;
    }
    struct mail_call call = call_for(run->until, ANSWER_MS);
    for (size_t i = 0; end == MAIL_DONE && watch->mailbox->folders[i]; i++) {
        end = several ? open_folder(watch, &call, i, NULL)
                      : mail_imap_noop(watch->imap, &call);
        if (end == MAIL_DONE && !watch->missing[i])
            end = take_copies(run, watch, &call, i);
    }
    if (end == MAIL_DONE || end == MAIL_STOPPED)
        return;
    drop(watch);
    if (end == MAIL_TIMEOUT && clock_ms() >= run->until)
        return;
    watch->over = end == MAIL_PROTOCOL || end == MAIL_REFUSED;
    watch->arrival->reconnects += !watch->over;
    note(watch->arrival->error, "%s", call.error);
}

/* Nothing more is to be waited for. */
static bool all_here(const struct run *run)
{
    if (run->result->returned[0])
        return true;
    for (size_t i = 0; i < run->count; i++)
        if (run->watches[i].arrival->ms < 0 && !run->watches[i].over)
            return false;
    return true;
}

static void look_everywhere(struct run *run, bool again)
{
    for (size_t i = 0; i < run->count; i++) {
        struct watch *watch = &run->watches[i];
        if (!watch->over && (again || watch->arrival->ms < 0))
            look(run, watch);
    }
}

static void wait_arrival(struct run *run)
{
    int64_t from = clock_ms(), rest = FIRST_LOOK_MS;
    bool going = true;

    while (going) {
        look_everywhere(run, false);
        if (all_here(run))
            break;
        going = pause_ms(rest, run->until);
        rest = rest * 3 / 2 < LOOK_MS ? rest * 3 / 2 : LOOK_MS;
    }
    run->result->waited_ms = clock_ms() - from;
    if (!all_here(run) || run->result->returned[0] || command_stopped())
        return;
    /* It is here, its own deadline was kept; the caller's stands. */
    run->until = clock_ms() + AGAIN_MS + ANSWER_MS;
    if (run->until > run->last)
        run->until = run->last;
    if (pause_ms(AGAIN_MS, run->until))
        look_everywhere(run, true);
}

/* ---- the message ---------------------------------------------------------- */

static void send_once(struct run *run, const struct mail_server *server,
                      const struct mail_letter *letter)
{
    struct ping_result *result = run->result;
    struct mail_call call = { .until = run->until, .stop = command_stopped };
    struct mail_sent sent;

    result->attempts++;
    result->sent = mail_send(server, letter, &call, &sent);
    note(result->error, "%s", call.error);
    if (result->connected_ms < 0 && sent.connected)
        result->connected_ms = sent.connected - run->began;
    result->accepted_ms = result->sent == MAIL_DONE ? sent.accepted - run->began : -1;
}

static void send_letter(struct run *run)
{
    struct ping_path *path = run->path;
    struct ping_result *result = run->result;
    struct mail_server server = server_of(&path->conf->smtp, path->smtp_password);
    char *text = ping_letter(path->conf, path->hostname, result->id, result->when);

    if (!text) {
        note(result->error, "out of memory");
        return;
    }
    const struct mail_letter letter = { .helo = path->hostname,
                                        .from = path->conf->from,
                                        .to = path->conf->to,
                                        .text = text,
                                        .len = strlen(text) };
    int64_t rest = RETRY_MS;
    result->tried = true;
    send_once(run, &server, &letter);
    while (result->sent == MAIL_LATER && clock_ms() + rest < run->until &&
           pause_ms(rest, run->until)) {
        send_once(run, &server, &letter);
        rest = rest * 2 < RETRY_MOST_MS ? rest * 2 : RETRY_MOST_MS;
    }
    free(text);
}

/* ---- all of it ------------------------------------------------------------- */

static bool begin_watches(struct run *run)
{
    bool good = true;

    for (size_t i = 0; i < run->count; i++)
        if (begin_watch(run, i) != MAIL_DONE) {
            run->watches[i].arrival->failed = true;
            good = false;
        }
    return good;
}

static void remember(struct ping_path *path, const struct ping_result *result)
{
    struct ping_past *past = &path->past[path->past_count++ % PING_PAST_MAX];

    memcpy(past->id, result->id, sizeof(past->id));
    for (size_t i = 0; i < CONF_PING_MAILBOXES_MAX; i++)
        past->arrived[i] = result->arrivals[i].ms >= 0;
}

static void prepare(struct run *run, struct ping_path *path, struct ping_result *result)
{
    const struct conf_ping *conf = path->conf;

    memset(result, 0, sizeof(*result));
    result->when = (int64_t)time(NULL);
    result->connected_ms = result->accepted_ms = -1;
    result->sent = MAIL_STOPPED;
    for (size_t i = 0; i < CONF_PING_MAILBOXES_MAX; i++)
        result->arrivals[i].ms = -1;
    for (size_t i = 0; i < conf->mailbox_count; i++) {
        struct watch *watch = &run->watches[run->count++];
        watch->mailbox = conf->mailboxes[i];
        watch->server = server_of(&watch->mailbox->imap, path->imap_passwords[i]);
        watch->arrival = &result->arrivals[i];
    }
}

void ping_probe(struct ping_path *path, int64_t until, struct ping_result *result)
{
    struct run run = { .path = path, .result = result, .until = until, .last = until };

    prepare(&run, path, result);
    if (path->fault[0]) {
        note(result->error, "%s", path->fault);
    } else if (!ping_new_id(result->id)) {
        note(result->error, "the kernel has no random numbers");
    } else if (begin_watches(&run)) {
        run.began = clock_ms();
        int64_t limit = run.began + (int64_t)path->conf->critical * 1000;
        run.until = limit < until ? limit : until;
        send_letter(&run);
        if (result->sent == MAIL_DONE)
            wait_arrival(&run);
        remember(path, result);
    }
    result->interrupted = command_stopped();
    for (size_t i = 0; i < run.count; i++)
        drop(&run.watches[i]);
}
