/*
 * playbook_mail: actions that send a message and look what became of it: flow, signature,
 * and the bounce that catchall waits for. By mailclient.h.
 *
 * A message has MAIL_FLOW_S to arrive, unless within=DURATION says otherwise. It is
 * removed from the mailbox when it was found.
 */
#include "playbook_mail.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "output.h"

#define LOOK_MS   500
#define FOUND_MAX 8
#define FIELD_MAX 8192

/* ---- one message --------------------------------------------------------- */

struct sending {
    const char *endpoint; /* SMTP */
    const char *from, *to;
    char id[MAIL_RANDOM_LEN + 1];
    const char *helo;
};

static bool test_message(const struct sending *it, char *out, size_t size, size_t *len)
{
    char when[64];
    time_t now = time(NULL);
    struct tm tm;
    if (!gmtime_r(&now, &tm) ||
        strftime(when, sizeof(when), "%a, %d %b %Y %H:%M:%S +0000", &tm) == 0)
        return false;
    int n = snprintf(out, size,
                     "Message-ID: <%s@sluice.invalid>\r\n"
                     "From: <%s>\r\n"
                     "To: <%s>\r\n"
                     "Date: %s\r\n"
                     "Subject: sluice: test of the mail flow %s\r\n"
                     "Auto-Submitted: auto-generated\r\n"
                     "\r\n"
                     "A test of the mail flow during a migration. It may be deleted.\r\n",
                     it->id, it->from, it->to, when, it->id);
    *len = n > 0 ? (size_t)n : 0;
    return n > 0 && (size_t)n < size;
}

/* Without a word about TLS: STARTTLS where that works, as mail servers do among
 * themselves. */
static enum mail_result try_send(const struct mail_place *place, bool either,
                                 const struct mail_letter *letter, struct mail_call *call)
{
    struct mail_server server = place->server;
    struct mail_sent sent = { 0 };
    if (either && server.tls == MAIL_PLAIN && !mail_is_loopback(server.host)) {
        server.tls = MAIL_STARTTLS;
        enum mail_result result = mail_send(&server, letter, call, &sent);
        if (result != MAIL_UNTRUSTED)
            return result;
        notice("%s: sent without TLS", call->error);
        server.tls = MAIL_PLAIN;
    }
    return mail_send(&server, letter, call, &sent);
}

static bool send_test(struct sending *it)
{
    char text[2 * ADDR_TEXT_MAX + 1024];
    struct mail_place place;
    const struct mail_words none = { 0 };
    struct mail_call call = mail_call_for(MAIL_LOGIN_S);
    struct mail_letter letter = { it->helo, it->from, it->to, text, 0 };
    if (!mail_random(it->id) || !mail_place(it->endpoint, &none, false, &place))
        return false;
    if (!test_message(it, text, sizeof(text), &letter.len)) {
        message("%s: the address is too long for a test message", it->to);
        return false;
    }
    if (try_send(&place, true, &letter, &call) == MAIL_DONE)
        return true;
    message("a test message to %s is not accepted: %s", it->to, call.error);
    return false;
}

/* Whether a message is in INBOX that has the text in that field; its uid. */
static enum mail_result look(struct mail_imap *imap, struct mail_call *call,
                             const char *field, const char *text, uint32_t *uid)
{
    uint32_t uids[FOUND_MAX];
    size_t count = 0;
    const struct mail_search search = { .field = field, .text = text };
    enum mail_result result = mail_imap_select(imap, call, "INBOX", false, NULL);
    if (result == MAIL_DONE)
        result = mail_imap_search(imap, call, &search, uids, FOUND_MAX, &count);
    *uid = result == MAIL_DONE && count > 0 ? uids[0] : 0;
    return result;
}

/* Waits for it; 0: it does not come, or a message was printed (*failed). The
 * connection stays open for the caller. */
static uint32_t await(struct mail_imap *imap, const char *field, const char *text,
                      int seconds, bool *failed)
{
    struct mail_call call = mail_call_for(seconds);
    uint32_t uid = 0;
    while (uid == 0 && clock_ms() < call.until) {
        if (look(imap, &call, field, text, &uid) != MAIL_DONE) {
            message("%s", call.error);
            *failed = true;
            return 0;
        }
        if (uid == 0 && !command_sleep(LOOK_MS)) {
            message("stopped while waiting for the test message");
            *failed = true;
            return 0;
        }
    }
    return uid;
}

bool mail_within(const char *action, const char *text, int *seconds)
{
    *seconds = MAIL_FLOW_S;
    if (!text || (duration_parse(text, seconds) && *seconds > 0))
        return true;
    message("%s: within=%s is not a duration: write it as 90s", action, text);
    return false;
}

/* ---- flow ---------------------------------------------------------------- */

struct flow {
    struct action_context *context;
    char **argv;
    struct mail_words words;
    int within_s;
    const char *avoid;    /* not-through=; or NULL */
    const char *authserv; /* "signature": whose Authentication-Results count */
    int code;
};

static void clean_up(struct mail_imap *imap, uint32_t uid)
{
    struct mail_call call = mail_call_for(MAIL_LOGIN_S);
    if (mail_imap_delete(imap, &call, &uid, 1) != MAIL_DONE)
        notice("the test message stays in the mailbox: %s", call.error);
}

/* Sends to the account, through argv[1], and waits for it in its INBOX on argv[2];
 * what is done with it then is judge()'s. */
typedef int flow_judge(struct flow *flow, struct mail_imap *imap, uint32_t uid,
                       const struct person *person, int64_t took_ms);

static int through(struct flow *flow, const struct person *person, flow_judge *judge)
{
    char *const *argv = flow->argv;
    struct mail_place place;
    bool failed = false;
    struct sending it = { .endpoint = argv[1],
                          .from = person->address,
                          .to = person->address,
                          .helo = flow->context->command->conf->hostname };
    if (!mail_place(argv[2], &flow->words, true, &place))
        return EXIT_USE;
    struct mail_imap *imap = mail_log_in(&place, person);
    if (!imap)
        return EXIT_CHECK;
    int64_t began = clock_ms();
    int code = EXIT_CHECK;
    if (send_test(&it)) {
        uint32_t uid = await(imap, "Message-ID", it.id, flow->within_s, &failed);
        if (uid > 0)
            code = judge(flow, imap, uid, person, clock_ms() - began);
        else if (!failed)
            message(
                "%s accepted a message for %s, and it is not in its INBOX on %s after "
                "%d s: look for %s in the logs",
                argv[1], person->address, argv[2], flow->within_s, it.id);
        if (uid > 0)
            clean_up(imap, uid);
    }
    mail_imap_close(imap);
    return code;
}

/* Whether a Received field is by it; "from" would be this host's own greeting, too.
 * false: a message was printed. */
static bool went_through(struct mail_imap *imap, uint32_t uid, const char *name,
                         bool *through)
{
    uint32_t uids[FOUND_MAX];
    size_t count = 0;
    struct mail_call call = mail_call_for(MAIL_LOGIN_S);
    char by[FIELD_MAX];
    (void)snprintf(by, sizeof(by), "by %s", name);
    const struct mail_search search = { .field = "Received",
                                        .text = by,
                                        .from_uid = uid };
    if (mail_imap_search(imap, &call, &search, uids, FOUND_MAX, &count) != MAIL_DONE) {
        message("%s", call.error);
        return false;
    }
    for (size_t i = 0; i < count && i < FOUND_MAX; i++)
        *through = *through || uids[i] == uid;
    return true;
}

static int judge_flow(struct flow *flow, struct mail_imap *imap, uint32_t uid,
                      const struct person *person, int64_t took_ms)
{
    bool through = false;
    if (flow->avoid && !went_through(imap, uid, flow->avoid, &through))
        return EXIT_CHECK;
    if (through) {
        message("the message to %s went through %s: what still sends mail there is to be "
                "pointed to the new side",
                person->address, flow->avoid);
        return EXIT_CHECK;
    }
    print("%s to %s: arrived after %.1f s", flow->argv[1], person->address,
          (double)took_ms / 1000);
    return EXIT_DONE;
}

static bool flow_one(void *context, const struct person *person)
{
    struct flow *flow = context;
    flow->code = through(flow, person, judge_flow);
    return false; /* the first is enough */
}

/* Also for a signature. */
static int begin_flow(struct flow *flow, int argc, char **argv)
{
    const char *within = NULL;
    const struct word_spec words[] = {
        { "tls", &flow->words.tls },      { "starttls", &flow->words.starttls },
        { "plain", &flow->words.plain },  { "ca=", &flow->words.ca },
        { "not-through=", &flow->avoid }, { "authserv=", &flow->authserv },
        { "within=", &within },
    };
    const struct conf *conf = flow->context->command->conf;
    flow->authserv = conf->auth.authserv_id ? conf->auth.authserv_id : conf->hostname;
    if (!words_take(argc, argv, 4, words, 7))
        return EXIT_USE;
    if (!mail_within(argv[0], within, &flow->within_s))
        return EXIT_USE;
    if (!mail_ready())
        return EXIT_SERVICE;
    command_catch_signals();
    return EXIT_DONE;
}

int action_flow(struct action_context *context, int argc, char **argv)
{
    struct flow flow = { .context = context, .argv = argv, .code = EXIT_DATA };
    int code = begin_flow(&flow, argc, argv);
    if (code == EXIT_DONE)
        code = people_each(argv[3], true, flow_one, &flow);
    return code == EXIT_DONE ? flow.code : code;
}

/* ---- a live signature ---------------------------------------------------- */

/* What the receiving server says of it (RFC 8601). Its field stands on top; others with
 * that authserv-id below it may come from anybody, so the first alone counts. */
static int judge_signature(struct flow *flow, struct mail_imap *imap, uint32_t uid,
                           const struct person *person, int64_t took_ms)
{
    char field[FIELD_MAX];
    struct mail_call call = mail_call_for(MAIL_LOGIN_S);
    (void)took_ms;
    if (mail_imap_field(imap, &call, uid, "Authentication-Results", field,
                        sizeof(field)) != MAIL_DONE) {
        message("%s: %s", person->address, call.error);
        return EXIT_CHECK;
    }
    if (field[0] == '\0') {
        message(
            "the message through %s has no Authentication-Results field on %s: does that "
            "server verify? (sluice-milter does not where the sender is trusted)",
            flow->argv[1], flow->argv[2]);
        return EXIT_CHECK;
    }
    const char *at = field + strspn(field, " \t");
    size_t len = strlen(flow->authserv);
    if (strncasecmp(at, flow->authserv, len) != 0 || !strchr("; \t", at[len])) {
        message("%s: the first Authentication-Results field is not of %s but \"%.60s\": "
                "does that server verify? (authserv=ID)",
                flow->argv[2], flow->authserv, at);
        return EXIT_CHECK;
    }
    const char *dkim = strcasestr(at, "dkim=");
    char domain[ADDR_DOMAIN_MAX + 16];
    (void)snprintf(domain, sizeof(domain), "header.d=%s", flow->context->domain);
    if (dkim && strncasecmp(dkim, "dkim=pass", 9) == 0 && strcasestr(dkim, domain)) {
        print("a message through %s is signed as %s, and %s verifies it", flow->argv[1],
              flow->context->domain, flow->authserv);
        return EXIT_DONE;
    }
    message(
        "a message through %s has no good DKIM signature of %s (%.80s): switch signing "
        "on there, and compare its key with the DKIM record",
        flow->argv[1], flow->context->domain, dkim ? dkim : "dkim is not judged");
    return EXIT_CHECK;
}

static bool signature_one(void *context, const struct person *person)
{
    struct flow *flow = context;
    flow->code = through(flow, person, judge_signature);
    return false;
}

int action_signature(struct action_context *context, int argc, char **argv)
{
    struct flow flow = { .context = context, .argv = argv, .code = EXIT_DATA };
    int code = begin_flow(&flow, argc, argv);
    if (code == EXIT_DONE)
        code = people_each(argv[3], true, signature_one, &flow);
    return code == EXIT_DONE ? flow.code : code;
}

/* ---- a bounce ------------------------------------------------------------ */

struct bounce {
    struct flow flow;
    const char *address;
};

/* "a+sluice-<random>@example.com": a report of failure comes back to it, and nothing
 * else does. */
static bool tagged(const struct person *person, const char *delimiter,
                   char out[ADDR_TEXT_MAX + 64], char tag[MAIL_RANDOM_LEN + 8])
{
    char name[MAIL_RANDOM_LEN + 1];
    struct addr parsed;
    if (delimiter[0] == '\0') {
        message("a bounce is known by a tag in its address: set recipient-delimiter in "
                "sluice.conf, or look by hand");
        return false;
    }
    if (!mail_random(name) ||
        addr_parse(person->address, strlen(person->address), &parsed) != ADDR_OK)
        return false;
    (void)snprintf(tag, MAIL_RANDOM_LEN + 8, "sluice-%.16s", name);
    (void)snprintf(out, ADDR_TEXT_MAX + 64, "%s%c%s@%s", parsed.local, delimiter[0], tag,
                   parsed.domain);
    return true;
}

static bool bounce_one(void *context, const struct person *person)
{
    struct bounce *bounce = context;
    const struct conf *conf = bounce->flow.context->command->conf;
    char **argv = bounce->flow.argv, from[ADDR_TEXT_MAX + 64], tag[MAIL_RANDOM_LEN + 8];
    struct mail_place place;
    bool failed = false;
    struct sending it = { argv[1], from, bounce->address, "", conf->hostname };
    bounce->flow.code = EXIT_CHECK;
    if (!tagged(person, conf->recipient_delimiter, from, tag) ||
        !mail_place(argv[2], &bounce->flow.words, true, &place))
        return false;
    struct mail_imap *imap = mail_log_in(&place, person);
    uint32_t uid = imap && send_test(&it)
                       ? await(imap, "To", tag, bounce->flow.within_s, &failed)
                       : 0;
    if (uid > 0) {
        print("%s accepts at RCPT, and returns mail for an address that nobody has",
              argv[1]);
        bounce->flow.code = EXIT_DONE;
        clean_up(imap, uid);
    } else if (imap && it.id[0] && !failed) {
        message(
            "%s accepts mail for %s, which nobody has, and has not returned it within "
            "%d s: switch the catch-all off",
            argv[1], bounce->address, bounce->flow.within_s);
    }
    mail_imap_close(imap);
    return false;
}

int mail_bounces(struct action_context *context, char **argv, const char *address,
                 const struct mail_words *words, int within_s)
{
    struct bounce bounce = { { .context = context,
                               .argv = argv,
                               .words = *words,
                               .within_s = within_s,
                               .code = EXIT_DATA },
                             address };
    if (!mail_ready())
        return EXIT_SERVICE;
    command_catch_signals();
    int code = people_each(argv[3], true, bounce_one, &bounce);
    return code == EXIT_DONE ? bounce.flow.code : code;
}
